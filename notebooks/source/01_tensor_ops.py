# %% [markdown]
# # 01 · What is a tensor, really?
#
# In a moment every training digit will be turned: rows become columns, in 60,000 images at once.
# That is 47 million numbers. How long should it take to put them all in another order?

# %%
import time

import torch

from course_lib import data
from course_lib.teaching import plot, report, widgets
from course_lib.teaching.figures import ch01 as figures

clock = report.Clock(budget=40)
mnist = data.load("mnist")
start = time.perf_counter()
turned = mnist.x_train.mT  # (N, C, H, W) -> (N, C, W, H)
after_turning = time.perf_counter()
copied = turned.contiguous()
after_copying = time.perf_counter()
turning, copying = after_turning - start, after_copying - after_turning
report.value("Turning them took", f"{1e6 * turning:,.0f}", unit="microseconds")
report.value("Copying them in the new order", f"{1e6 * copying:,.0f}", unit="microseconds")
shown = plot.images(
    turned[:8],
    titles=[str(label) for label in mnist.y_train[:8].tolist()],
    caption="All turned, rows for columns. The turning took next to no time. Why?",
    alt="Eight handwritten digits, mirrored along their diagonal, each with its label.",
)
assert shown["shape"] == [8, 1, 28, 28] and turned.equal(copied)

# %% [markdown]
# Nothing was moved. A tensor is *one row of numbers and a way to walk over it*; turning the images
# changed the walk. Whoever knows that knows why some operations are free and others are not, why
# a change here shows up there, and what half of torch's error messages mean.
#
# **When you are through you can** tell from a shape and a stride what lies where, let broadcasting
# do your loops, follow a gradient through its graph, write losses and optimizers that equal
# torch's to the last digits, and train a network with a loop of your own. It takes about two hours
# to read and try; the code runs within a minute. You need chapter 00, and a little of matrices.
#
# ## Build it: one row of numbers
#
# Memory has no rows and columns. It has places, numbered from 0.
#
# > **storage**: the row of numbers in memory that a tensor reads from.
#
# > **stride**: for each axis, how many places in the storage one step along it takes.

# %%
t = torch.arange(12).view(3, 4)  # twelve numbers in a row, read as a table
print(t)
print("shape", tuple(t.shape), " stride", t.stride())

# %% [markdown]
# One step to the right is one place, one step down is four. So element (i, j) lies at place
# 4 i + 1 j. In general: *offset plus index times stride*, summed over the axes. The offset is where
# the walk begins.
#
# `t.mT` is the table in which rows have become columns (m is for matrix: the last two axes swap).
# Guess before you run: which stride does it have?

# %%
row = torch.arange(12)
walk = t.mT
down, right = walk.stride()
by_hand = [[row[i * down + j * right].item() for j in range(3)] for i in range(4)]
print("shape", tuple(walk.shape), " stride", walk.stride())
report.holds("walking by hand gives the turned table", by_hand == walk.tolist())

# %% [markdown]
# The strides have swapped, and that was all the work. Here are five walks over the same twelve
# places. The last one has a stride of 0: it takes a step down and stays where it is.

# %%
walks = {
    "t": t,
    "t.mT": t.mT,
    "t[:, ::2]": t[:, ::2],
    "t[1:, 1:3]": t[1:, 1:3],
    "t[1].expand(3, 4)": t[1].expand(3, 4),
}
places = figures.memory(
    walks,
    caption="One colour is one place in memory. Follow the colours: which tensor walks along the "
    "row, which across it, which jumps, which begins late, and which stands still?",
    alt="Five small tables with their shapes and strides, above the row of twelve numbers that "
    "all of them are read from; cells with the same number have the same colour.",
)
assert places["t[1:, 1:3]"] == [[5, 6], [9, 10]] and places["t.mT"] == by_hand

# %% [markdown]
# > **view**: a tensor that reads another one's storage. Making it costs nothing; what is written
# > into one shows in the other.
#
# > **contiguous**: the walk goes through the storage place after place, without jumps.
#
# First we write into a view: guess what `table` looks like afterwards.
#
# Then we ask for other shapes: `t.view(shape)` is a view of t with that shape, and an error where
# no stride can describe the walk. Reading `t.mT` line by line goes 0, 4, 8, 1, 5: steps of 4, and
# then a jump back by 7. The rule: two neighbouring axes can become one only if
# *outer stride = inner stride × inner length*. For `t`: 4 = 1 × 4, yes. For `t.mT`: 1 is not 4 × 3,
# so no. For `t[:, ::2]`, with two columns in steps of 2: 4 = 2 × 2, yes.

# %%
table = torch.arange(12).view(3, 4)
column = table[:, 1]  # a view
column.fill_(-1)
print(table)
report.holds("the view reads the storage of the table", figures.share_memory(table, column))

# %%
from course_lib import tensor_ops

agreed = True
for name, tensor in walks.items():
    for shape in [(tensor.numel(),), (tensor.shape[0], 1, tensor.shape[1])]:
        by_rule = tensor_ops.can_view(tensor.shape, tensor.stride(), shape)
        try:
            tensor.view(shape)
            by_torch = True
        except RuntimeError:
            by_torch = False
        agreed &= by_rule == by_torch
        print(f"{name:<20}.view{str(shape):<12}{'works' if by_torch else 'raises'}")
report.holds("torch raises exactly where the rule says so", agreed)

# %% [markdown]
# Most shape operations are a new walk. Some have to copy the numbers.
#
# | operation | what it does to the axes |
# |---|---|
# | `reshape`, `flatten` | the numbers in the same order in another shape, or in one row |
# | `T`, `permute` | the axes in another order |
# | `unsqueeze`, `squeeze` | an axis of length 1 put in, or taken out |
# | `b[None]` | the same: None in an index puts in an axis of length 1, at its place |
# | `expand`, `repeat` | an axis of length 1 read again and again; the whole tensor several times |
# | `cat`, `stack` | several tensors, joined along an axis that is there, or along a new one |
# | `b[:1]`, `b[[0, 1]]` | rows, chosen by a slice, or by a list of their numbers |
#
# Cover the last column of the output and guess it, line by line: view or copy?

# %%
b = torch.arange(6).view(2, 3)
operations = {
    "b.reshape(3, 2)": b.reshape(3, 2),
    "b.T": b.T,
    "b.T.reshape(6)": b.T.reshape(6),
    "b[None].permute(1, 2, 0)": b[None].permute(1, 2, 0),
    "b.unsqueeze(1)": b.unsqueeze(1),
    "b.unsqueeze(1).squeeze(1)": b.unsqueeze(1).squeeze(1),
    "b.flatten()": b.flatten(),
    "b[:1].expand(4, 3)": b[:1].expand(4, 3),
    "b[:1].repeat(4, 1)": b[:1].repeat(4, 1),
    "torch.cat([b, b])": torch.cat([b, b]),
    "torch.stack([b, b])": torch.stack([b, b]),
    "b[[0, 1]]": b[[0, 1]],
}
for name, made in operations.items():
    kind = "view" if figures.share_memory(b, made) else "copy"
    print(f"{name:<28}{str(tuple(made.shape)):<12}{str(made.stride()):<12}{kind}")

# %% [markdown]
# A slice is a regular walk, so it is a view. A list of rows could be in any order, so it is a copy.
# What puts numbers side by side that were not (`repeat`, `cat`, `stack`) copies them, too;
# `reshape` and `flatten` do so only when they must.
#
# Three more operations look things up, and losses and predictions are made of them: `argmax` says
# *where* the largest is, `topk` gives the k largest with their places, `gather` takes from each row
# the entry you name.

# %%
scores = torch.tensor([[1.0, 5.0, 3.0], [9.0, 2.0, 4.0]])  # two items, three classes
labels = torch.tensor([2, 0])
index = labels[:, None]  # (2,) -> (2, 1): one entry from each row
picked = scores.gather(dim=1, index=index)  # (2, 3) and (2, 1) -> (2, 1)
print("argmax:", scores.argmax(dim=1).tolist())
print("two largest:", scores.topk(2, dim=1).values.tolist())
print("at the labels:", picked.squeeze(1).tolist())
report.holds(
    "gather does what a loop would",
    picked.squeeze(1).tolist() == [scores[n, label].item() for n, label in enumerate(labels)],
)

# %% [markdown]
# ## Build it: loops that nobody writes
#
# A column of three numbers plus a row of four: what shape comes out? Loops would pair each with
# each. Torch does that without a loop and without copying, because a stride of 0 reads the same
# number again and again.
#
# > **broadcasting**: shapes are aligned on the right; a missing axis counts as 1; an axis of
# > length 1 is stretched to the other's length. Two other lengths that differ are an error.

# %%
column = torch.tensor([[0], [10], [20]])  # (3, 1)
line = torch.tensor([0, 1, 2, 3])  # (4,)
loops = [[(column[i, 0] + line[j]).item() for j in range(4)] for i in range(3)]
report.holds("broadcasting gives what two loops give", (column + line).tolist() == loops)

stretched = column.expand(3, 4)  # what torch does with it, silently
print("stride of the column before", column.stride(), "and after", stretched.stride())

# %% [markdown]
# A matrix product: entry (i, k) is row i times column k, number by number, and summed over j, the
# axis that both share. With broadcasting it is one line: put the axes where they meet, multiply,
# and sum over j. It is slow, for it writes all products down; `@` does not. `einsum` names the axes
# by letters: those missing after the arrow are summed over. Work out one of the four numbers by
# hand.
#
# > **batched matrix product**: `@` on tensors with more axes: the last two are the matrices, those
# > before them are broadcast.
#
# > **seed**: the number from which random numbers are made. The same seed gives the same ones
# > again.

# %%
from course_lib import runtime

p, q = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5, 6], [7, 8]])
products = p[:, :, None] * q[None, :, :]  # (i, j, 1) and (1, j, k) -> (i, j, k)
print("summed over j:", products.sum(dim=1).tolist())
print("p @ q:        ", (p @ q).tolist())
print("einsum:       ", torch.einsum("ij,jk->ik", p, q).tolist())

generator = runtime.seed_everything(0)
a = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)  # five matrices, 3 x 4
c = torch.randn(5, 4, 2, generator=generator, dtype=torch.float64)  # five matrices, 4 x 2
by_hand = (a[:, :, :, None] * c[:, None, :, :]).sum(dim=2)  # (5, 3, 4, 2) -> (5, 3, 2)
report.equal("broadcast, multiply, sum: the batched product", by_hand, a @ c)
report.equal("and einsum's", torch.einsum("bij,bjk->bik", a, c), a @ c)
print("one matrix for all five:", tuple((a @ c[0]).shape))

# %% [markdown]
# (`float64` keeps about 16 digits of a number, torch's usual `float32` about 7. *rtol* is the
# tolerance: the share of its size by which a number may be off.)
#
# ## Play
#
# **Walk through memory.** Choose a shape and an operation. Before you look: is the result a view, a
# copy or an error, and what are its strides?

# %%
import ipywidgets

walker = widgets.explore(
    lambda shape, operation: figures.strides_figure(figures.SHAPES[shape], operation),
    alt="A tensor, what an operation makes of it, and the row of memory below them.",
    caption="Try .view and .reshape after .mT. Which operation looks like a view and is none?",
    shape=ipywidgets.Dropdown(options=list(figures.SHAPES), description="shape"),
    operation=ipywidgets.Dropdown(
        options=list(figures.OPERATIONS), description="operation", index=1
    ),
)

# %% [markdown]
# **Stretch shapes.** Two shapes, and what their sum is made of: full colours are numbers that
# exist, pale cells are read again by a stride of 0. Find two shapes of which *both* are stretched.

# %%
stretcher = widgets.explore(
    lambda a, b: figures.broadcasting_figure(
        figures.BROADCAST_SHAPES[a], figures.BROADCAST_SHAPES[b]
    ),
    alt="Two shapes aligned on the right, and the tensors a, b and a + b, stretched cells pale.",
    caption="Which shapes go with (2, 1, 4)? Then try (4, 3) with (4,), and make them fit.",
    a=ipywidgets.Dropdown(
        options=list(figures.BROADCAST_SHAPES), description="shape of a", index=6
    ),
    b=ipywidgets.Dropdown(
        options=list(figures.BROADCAST_SHAPES), description="shape of b", index=3
    ),
)

# %%
start, flipped = figures.apply((3, 4), "t.flip(-1)")
print("the first row, flipped:", flipped[0].tolist(), "with stride", flipped.stride())
# Walking backwards would need a stride of -1, and torch has none.
report.holds("flip has to copy", not figures.share_memory(start, flipped))

print("(3, 1) with (4,) gives", tensor_ops.broadcast_shape((3, 1), (4,)))
try:
    tensor_ops.broadcast_shape((4, 3), (4,))
except ValueError as error:
    print(error)
print("(4, 3) with (4, 1) gives", tensor_ops.broadcast_shape((4, 3), (4, 1)))

# %% [markdown]
# ## Build it: which way is down?
#
# To make a loss smaller, we must know what each number in the network does to it.
#
# > **gradient**: for each number that a result depends on, how much the result grows per unit
# > that this number grows. Go against the gradient: that is the way down.
#
# > **leaf**: a tensor that was not computed from others, such as a weight. `backward` leaves
# > gradients in the leaves that ask for them with `requires_grad`.
#
# > **computation graph**: the operations that led to a result. Torch notes them while it computes;
# > `backward` walks through them from the end, and multiplies by the slope of each.
#
# A line w x + b gives 2 w + b at x = 2, and should give 4 there. The loss is e², with the error
# e = 2 w + b - 4. By hand, with the chain rule: the slope of e² is 2 e. When b grows by 1, so does
# e; when w grows by 1, e grows by 2. So the gradient is 2 e for b, and 2 × 2 e = 4 e for w.

# %%
w = torch.tensor(3.0, requires_grad=True)
b = torch.tensor(1.0, requires_grad=True)
e = 2 * w + b - 4
loss = e**2
loss.backward(retain_graph=True)  # keep the graph: we want to draw it
print("by hand:", 4 * e.item(), "and", 2 * e.item())
print("autograd:", w.grad.item(), "and", b.grad.item())
assert (w.grad.item(), b.grad.item()) == (4 * e.item(), 2 * e.item())

drawn = figures.graph(
    loss,
    {"w": w, "b": b, "e": e},
    caption="Computing goes from left to right; gradients come back from right to left, multiplied "
    "by the slopes on their way. Which four make 12? (The numbers 2 and 4 are not in the graph: "
    "nobody asked for their gradient.)",
    alt="A graph: w goes into a multiplication, its result and b into an addition, that into a "
    "subtraction, whose result is e, and that into a power, which is the loss. Each arrow bears a "
    "slope; w and b show value and gradient.",
)
assert drawn["operations"] == ["pow", "sub", "add", "mul"] and drawn["slopes"] == [6, 1, 1, 1, 2]

# %% [markdown]
# Two habits of autograd surprise everybody once. Gradients **add up**, so that a weight that is
# used twice gets both parts; hence `zero_grad` before each step. And what the graph needs for its
# way back must not be overwritten. Guess both outputs.
#
# > **in-place operation**: one that writes into the storage of its argument, such as `x += 1` or
# > `x.relu_()`, rather than making a new tensor.
#
# Two ways lead out of the graph. `w.detach()` gives the same numbers, cut off from it. Inside of
# `with torch.no_grad():` nothing is noted at all.

# %%
loss.backward()  # a second time
print("gradient of w after two backwards:", w.grad.item())

for change in ["y + 1", "y.add_(1)"]:
    y = w.detach().requires_grad_().exp()  # the slope of exp is exp, so the graph keeps y
    z = y + 1 if change == "y + 1" else y.add_(1)
    try:
        z.backward()
        print(f"{change}: the gradient arrives")
    except RuntimeError:
        print(f"{change}: error, a tensor needed for the gradient was changed in place")

# %% [markdown]
# ## Build it: how wrong is wrong?
#
# For numbers: the difference, absolute (**L1**) or squared (**MSE**). The square hardly minds small
# errors and cannot forget large ones. Guess which loss is moved more by the last prediction.

# %%
predictions = torch.tensor([2.0, 3.5, 5.0, 17.0], dtype=torch.float64)
targets = torch.tensor([2.0, 3.0, 6.0, 7.0], dtype=torch.float64)
errors = predictions - targets
for name, losses in {"L1": errors.abs(), "MSE": errors**2}.items():
    share = losses[-1] / losses.sum()
    print(
        f"{name:<4} each {losses.tolist()}  mean {losses.mean():.3f}  last one: {share:.2f} of it"
    )

# %% [markdown]
# For classes: how little probability did the right answer get?
#
# > **cross entropy**: minus the logarithm of the probability given to the label. A sure and right
# > answer costs almost nothing, a sure and wrong one a lot.
#
# Written down as it stands, it fails on large logits: e¹⁰⁰⁰ is too large for a number. But softmax
# does not change when all logits of a row are shifted; so shift the largest one to 0, and nothing
# can overflow. The last line leaves an item out: its label -1 says that it must not count
# (`ignore_index`). Guess what the mean divides by.

# %%
logits = torch.tensor([[1000.0, 999.0, 0.0]])
naive = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
print("as it stands:", naive[0].tolist())

shifted = logits - logits.max(dim=1, keepdim=True).values
log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()  # log of a sum of exponentials
print("shifted first:", [f"{p:.3f}" for p in log_p[0].exp().tolist()])
print(f"cross entropy if the label is 1: {-log_p[0, 1]:.3f}")

three, labels = logits.expand(3, 3), torch.tensor([1, -1, 0])
mean = tensor_ops.cross_entropy(three, labels, ignore_index=-1)
report.equal("the mean over the two that count", mean, -(log_p[0, 1] + log_p[0, 0]) / 2)

# %% [markdown]
# ## Build it: ways down a valley
#
# Following the gradient downhill sounds easy. In a valley that is long and narrow it is not: the
# steepest way leads from side to side.
#
# > **SGD**: stochastic gradient descent: steps against the gradient of one batch, a sample of the
# > data, instead of all of it.
#
# > **momentum**: the share of the last step that is added to the next one.
#
# With momentum, steps to and fro cancel, and steps along the valley add up. **Adam** keeps running
# means of each weight's slope and of its square, and divides the first by the root of the second,
# so that every weight moves by steps of about one size, however large its slope. Both means begin
# at 0, so they are too small by a known factor, and are divided by that (*bias correction*).


# %%
def height(x, y):
    return (x**2 + 40 * y**2) / 2


def walk_down(rule, steps=30):
    place, memory, path = torch.tensor([-2.0, 0.8]), {}, []
    for step in range(1, steps + 1):
        path.append(place)
        slope = torch.stack([place[0], 40 * place[1]])  # the gradient of height, by hand
        place = place - rule(slope, memory, step)
    return torch.stack([*path, place])


def momentum(slope, memory, step):
    memory["velocity"] = 0.8 * memory.get("velocity", 0) + slope  # keep 0.8 of the last one
    return 0.02 * memory["velocity"]


def adam(slope, memory, step):  # keep 0.9 of the old mean, add 0.1 of the new slope
    memory["mean"] = 0.9 * memory.get("mean", 0) + 0.1 * slope
    memory["square"] = 0.99 * memory.get("square", 0) + 0.01 * slope**2  # the same, more slowly
    mean, square = memory["mean"] / (1 - 0.9**step), memory["square"] / (1 - 0.99**step)
    return 0.12 * mean / (square.sqrt() + 1e-8)  # 1e-8: never divide by 0


# %%
paths = {
    "plain": walk_down(lambda slope, memory, step: 0.045 * slope),
    "momentum": walk_down(momentum),
    "Adam": walk_down(adam),
}
ends = figures.valley(
    height,
    paths,
    caption="Thirty steps each. Plain gradient descent swings from side to side, then creeps along "
    "the floor. Who gets closest to the star?",
    alt="Contours of a long, narrow valley with three paths from the left: the plain one zigzags, "
    "then creeps and stops early, momentum swings and arrives, Adam goes along a curve and "
    "overshoots.",
)
report.holds("momentum ends lowest", ends["momentum"] == min(ends.values()))

# %% [markdown]
# With a larger step the zigzag of *plain* would grow; with a safe one it creeps. Adam overshoots
# here. Its strength is networks in which the slopes of some weights are many times those of others.
#
# ## Check it
#
# `course_lib/tensor_ops.py` holds the general forms: losses for any number of classes and axes,
# with one more for yes-or-no questions (**binary cross entropy** of a single logit), and optimizers
# for any list of parameters. Losses must equal torch's in value and gradient, whether `reduction`
# takes their mean, their sum or leaves them as they are. (-100 is the label that torch ignores
# unless told otherwise.) Ten steps of an optimizer must end where torch's end. Two of them also let
# every weight decay, that is, pull it a little towards 0 at each step: SGD adds that pull to the
# gradient, AdamW applies it to the weight itself.

# %%
import torch.nn.functional as F

x = torch.randn(8, 5, generator=generator, dtype=torch.float64)
numbers, classes = torch.rand_like(x), torch.tensor([0, 1, 2, 3, 4, -100, 1, -100])
for name, target in {
    "l1_loss": numbers,
    "mse_loss": numbers,
    "binary_cross_entropy_with_logits": numbers,
    "cross_entropy": classes,
}.items():
    found = {}
    for library in (tensor_ops, F):
        leaf, values = x.clone().requires_grad_(), []
        for reduction in ("mean", "sum", "none"):
            value = getattr(library, name)(leaf, target, reduction=reduction)
            value.sum().backward()
            values.append(value.detach().flatten())
        found[library] = torch.cat([*values, leaf.grad.flatten()])
    report.equal(name, found[tensor_ops], found[F], atol=1e-12)

# %%
start = torch.randn(6, 5, generator=generator, dtype=torch.float64)


def ten_steps(optimizer_class, options):
    weight = start.clone().requires_grad_()
    optimizer = optimizer_class([weight], 0.1, **options)
    for _ in range(10):
        optimizer.zero_grad()
        (weight.sin() * weight**2).sum().backward()
        optimizer.step()
    return weight.detach()


for name, options in [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("Adam", {}),
    ("AdamW", {"weight_decay": 0.1}),
]:
    ours = ten_steps(getattr(tensor_ops, name), options)
    theirs = ten_steps(getattr(torch.optim, name), options)
    report.equal(" ".join(["ten steps of", name, *options]), ours, theirs)

# %% [markdown]
# ## Build it: modules and batches
#
# > **linear layer**: each output is a weighted sum of all inputs, plus a number of its own, the
# > *bias*: x @ W.T + b. W has one row for each output.
#
# Two linear layers in a row are no more than one: (x A) B is x (A B). Something between them must
# bend.
#
# > **ReLU**: keeps what is positive and turns the rest to 0.
#
# > **MLP**: multi-layer perceptron: linear layers with a bend such as ReLU between them. What
# > leaves a layer that is not the last is called *hidden*.

# %%
from torch import nn

layer = nn.Linear(3, 2)  # from three inputs to two outputs
x = torch.tensor([[1.0, 2.0, 3.0]])
print("shapes of W and b:", tuple(layer.weight.shape), tuple(layer.bias.shape))
report.equal("x @ W.T + b", layer(x), x @ layer.weight.T + layer.bias, atol=1e-6)
print("ReLU:", torch.tensor([-2.0, -0.5, 0.0, 3.0]).relu().tolist())

# %% [markdown]
# A network is tensors to be learned, and a function that uses them. `nn.Module` keeps both together
# and knows, by their attributes, which tensors an optimizer must move. A `ModuleList` holds layers
# that you call yourself; a `Sequential` calls them one after the other.
#
# > **module**: an object that holds parameters, or other modules, and computes with them.
#
# Guess the shapes of the four parameters. And how many has a network that uses one layer twice?


# %%
class SmallMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(784, 32), nn.Linear(32, 10)])

    def forward(self, x):
        x = self.layers[0](x).relu()  # (N, 784) -> (N, 32)
        return self.layers[1](x)  # -> (N, 10)


network = SmallMLP()
for name, parameter in network.named_parameters():
    print(f"{name:<18}{tuple(parameter.shape)}")
same = nn.Sequential(network.layers[0], nn.ReLU(), network.layers[1])
x = torch.randn(5, 784, generator=generator)
report.equal("the same layers in a Sequential", network(x), same(x))
shared = nn.Linear(32, 32)
tied = nn.Sequential(shared, nn.ReLU(), shared)
print("tensors to learn in the tied network:", len(list(tied.parameters())))

# %% [markdown]
# Which numbers should a network begin with? Each layer multiplies, and the factors pile up. With
# weights too large the numbers explode, with weights too small they die out.
#
# > **fan-in**: how many inputs each output of a layer sees. The sum of that many random products
# > grows with its square root, so weights are divided by the square root of the fan-in.
#
# ReLU then turns half of the numbers to 0, so the weights are made √2 larger. This start is called
# *Kaiming*, after Kaiming He. Guess: does it matter in twelve layers whether one forgets the √2?


# %%
def sizes_behind(fill, layers=12, width=256):
    x = torch.randn(128, width, generator=generator)
    sizes = [x.square().mean().sqrt().item()]
    for _ in range(layers):
        x = (x @ fill(torch.empty(width, width)).T).relu()
        sizes.append(x.square().mean().sqrt().item())
    return sizes


begun = figures.layer_sizes(
    {
        "normal, spread 1": sizes_behind(lambda w: w.normal_(0, 1, generator=generator)),
        "1 / √(fan-in)": sizes_behind(lambda w: w.normal_(0, 256**-0.5, generator=generator)),
        "normal, spread 0.01": sizes_behind(lambda w: w.normal_(0, 0.01, generator=generator)),
        "Kaiming": sizes_behind(lambda w: tensor_ops.kaiming_uniform_(w, generator=generator)),
    },
    caption="Random numbers on their way through twelve layers with ReLU. Which line neither rises "
    "nor falls?",
    alt="Size of the values by layer on a log scale: one line rises by many powers of ten, one "
    "falls as far, one falls slowly, and the one of the Kaiming start stays near 1.",
)
report.holds("Kaiming keeps the size", 0.3 < begun["Kaiming"][-1] / begun["Kaiming"][0] < 3)
report.holds("without the √2 it shrinks", begun["1 / √(fan-in)"][-1] < 0.1)

# %% [markdown]
# Data come as a `Dataset`, which has a length and gives item number n, and a `DataLoader`, which
# shuffles and puts items together. Items of different lengths need a `collate_fn` of your own.
#
# > **epoch**: one walk over all the training data.
#
# > **padding**: filling short sequences up to the length of the longest, so that they fit into one
# > tensor. A mask remembers what is real.

# %%
from torch.utils.data import DataLoader, Dataset


class Words(Dataset):
    def __init__(self, words):
        self.words = words

    def __len__(self):
        return len(self.words)

    def __getitem__(self, number):
        return torch.tensor([ord(letter) - ord("a") + 1 for letter in self.words[number]])


def collate(items):
    return tensor_ops.pad_sequences(items)  # N of (T_n,) -> block and mask, both (N, T)


words = Words(["a", "row", "of", "numbers"])
for block, mask in DataLoader(words, batch_size=2, collate_fn=collate):
    print(block.tolist(), " real:", mask.sum(dim=1).tolist())
assert mask.tolist() == [[True] * 2 + [False] * 5, [True] * 7]

# %% [markdown]
# ## Train it
#
# Now everything is there: tensors, a loss, gradients, an optimizer. The smallest network that can
# read digits is one linear layer, with a weight for each of the 784 pixels and ten digits. It is
# called softmax regression. Here is its training in slow motion, with our own loss and optimizer.

# %%
from course_lib import recipes, train

images = recipes.scale_pixels(mnist.x_train).flatten(1)  # (60000, 1, 28, 28) -> (60000, 784)
weights = torch.zeros(784, 10, requires_grad=True)
biases = torch.zeros(10, requires_grad=True)
optimizer = tensor_ops.Adam([weights, biases], learning_rate=0.01)
order = torch.randperm(len(images), generator=generator)  # one epoch in random order
for rows in order.split(256):
    logits = images[rows] @ weights + biases  # predict: (256, 784) -> (256, 10)
    loss = tensor_ops.cross_entropy(logits, mnist.y_train[rows])  # compare
    optimizer.zero_grad()  # forget the last batch
    loss.backward()  # follow the gradient back
    optimizer.step()  # move the weights

test_images = recipes.scale_pixels(mnist.x_test).flatten(1)
with torch.no_grad():
    by_hand = train.accuracy(test_images @ weights + biases, mnist.y_test)
print(f"shape of the parameters: {tuple(weights.shape)}, {tuple(biases.shape)}")
report.value("Accuracy after one epoch", f"{100 * by_hand:.1f}", unit="%")
report.holds("it has learned to read", by_hand > 0.88)

# %% [markdown]
# Those five lines are the heart of every training run in this course. `train.fit` runs the same
# five, and adds what a longer run wants: a learning rate that rises and falls, the fastest device
# there is, files from which an interrupted run goes on (*checkpoints*), and an error when the loss
# explodes. What it needs, the chapter's *recipe* holds: a model, batches, a loss, and a config with
# the numbers.

# %%
recipe = recipes.softmax_regression()
print("steps:", recipe.config.steps, " optimizer:", recipe.config.optimizer)
print("learning rate at its peak:", recipe.config.learning_rate)
regression = recipe.model
linear_run = train.fit(
    regression, recipe.batches, recipe.loss, recipe.config, callbacks=[plot.LiveCurve()]
)
linear_logits = train.predict(regression, test_images)
linear_accuracy = train.accuracy(linear_logits, mnist.y_test)
report.result("Softmax regression", 100 * linear_accuracy, "%", target=92.0, gate=92.0)
report.seconds("Training", linear_run.seconds, target=2)

# %% [markdown]
# One linear layer cannot do much better, however long it trains. An MLP has two, with a ReLU
# between them. How much better will it read?

# %%
recipe = recipes.mlp()
mlp = recipe.model
print("parameters:", f"{sum(parameter.numel() for parameter in mlp.parameters()):,}")
history = recipe.fit(callbacks=[plot.LiveCurve()])  # the same call, in short
epoch = len(recipe.batches)
curve = plot.training_curve(
    history,
    epoch=epoch,
    caption=f"One epoch is {epoch} steps. At each dotted line a new one begins, and the network "
    "meets digits that it has seen before. At which of them does the loss drop in a stair?",
    alt="The loss over the steps falls fast, then more slowly, and drops in a stair where the "
    "third and the fourth epoch begin; the learning rate below it rises and then falls to zero.",
)
mlp_logits = train.predict(mlp, test_images)
mlp_accuracy = train.accuracy(mlp_logits, mnist.y_test)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
report.result("MLP", 100 * mlp_accuracy, "%", target=98.0, gate=97.8)
report.seconds("Training", history.seconds, target=5)

# %% [markdown]
# The stairs are memory: digits that come by again have left something in the weights. New digits
# have not, which is why only the test set tells how well a network reads. (The dark line is a mean
# of the last 20 steps, so it lags.)
#
# ## Look inside
#
# The weights of the softmax regression are ten images: one per digit, to be laid over a drawing and
# summed up. What is the ring in the 0 doing? And why can such a stencil not see a digit that is
# shifted by a few pixels? Below them are digits that the stencils misread and the MLP reads
# rightly.

# %%
stencils = figures.class_weights(
    regression.linear,
    caption="Blue pixels speak for the digit, red ones against it. The red centre of the 0 says: "
    "whoever has ink here is no 0.",
    alt="Ten images of weights in blue and red; the 0 is a blue ring with a red centre, the 1 a "
    "blue stroke between red ones.",
)
assert stencils["shape"] == [10, 28, 28]
centre = regression.linear.weight.detach().view(10, 28, 28)[0, 12:16, 12:16].mean().item()
report.holds("ink in the centre speaks against a 0", centre < 0, trained=True)

# %%
linear_answers, mlp_answers = linear_logits.argmax(dim=1), mlp_logits.argmax(dim=1)
linear_right, mlp_right = linear_answers == mnist.y_test, mlp_answers == mnist.y_test
corrected = (~linear_right & mlp_right).nonzero().squeeze(1)
worse = (linear_right & ~mlp_right).nonzero().squeeze(1)
shown = plot.images(
    mnist.x_test[corrected[:8]],
    titles=[f"{linear_answers[i]} → {mlp_answers[i]}" for i in corrected[:8]],
    caption="What one linear layer took them for, and what the MLP reads.",
    alt="Eight test digits, each with the wrong answer of the softmax regression and the right "
    "one of the MLP.",
)
report.value("Corrected by the MLP", len(corrected))
report.value("Misread by the MLP alone", len(worse))
report.holds("it corrects more than it makes worse", len(corrected) > len(worse), trained=True)

# %% [markdown]
# ## Claims
#
# Two sentences that this chapter cannot leave standing; the others are put to the test in its
# [lab](labs/01_tensor_ops.ipynb). First: *`view` and `reshape` do the same.* Here are tensors with
# all kinds of strides, and what both make of them.

# %%
refused, copied = [], []
tested = walks | {"t[:1]": t[:1], "t[None]": t[None], "t[1:]": t[1:]}
for name, tensor in tested.items():
    try:
        tensor.view(-1)
    except RuntimeError:
        refused.append(name)
    if not figures.share_memory(tensor, tensor.reshape(-1)):
        copied.append(name)
print("view refuses:   ", ", ".join(refused))
print("reshape copies: ", ", ".join(copied))
report.verdict(
    "1.1",
    "`view` and `reshape` do the same",
    outcome="false" if refused else "true",
    evidence=f"`view` refused {len(refused)} of {len(tested)} tensors; `reshape` copied "
    f"{'exactly those' if refused == copied else len(copied)}",
)
assert refused == copied

# %% [markdown]
# Both agree wherever a view is possible. Where it is not, `view` says so, and `reshape` hands you a
# copy: what you write into it no longer reaches the original. Use `view` when you rely on that.
#
# Second: *`w -= lr * g` and `w = w - lr * g` are the same update.* The numbers are. Is the tensor?

# %%
questions = ["is it the same tensor?", "does it want a gradient?", "did the model's move?"]
answers = {}
for rule in ("w -= lr * g", "w = w - lr * g"):
    original = w = torch.ones(3, requires_grad=True)  # two names for one tensor: the model's and w
    (w**2).sum().backward()
    lr, g = 0.1, w.grad
    with torch.no_grad():
        if rule == "w -= lr * g":
            w -= lr * g
        else:
            w = w - lr * g
    answers[rule] = [w is original, w.requires_grad, original[0].item() < 1]
    for question, answer in zip(questions, answers[rule], strict=True):
        print(f"{rule:<16}{question:<26}{'yes' if answer else 'no'}")
first, second = answers.values()
report.verdict(
    "1.4",
    "`w -= lr * g` and `w = w - lr * g` are the same update",
    outcome="true" if first == second else "false",
    evidence=f"{sum(a != b for a, b in zip(first, second, strict=True))} of {len(first)} answers "
    "differ between the two",
)

# %% [markdown]
# The first writes into the tensor that the model holds. The second makes a new one and gives it the
# name `w`; the model still holds the old one, and trains no further. (Outside of `no_grad`, the
# first raises an error, and the second grows a graph that gets longer with each step.)
#
# ## Your turn
#
# **Exercise 1.1.** Strides in your head. With `t = torch.arange(24).view(2, 3, 4)`, which stride
# has each of these? Replace each `...` by a tuple.

# %%
from course_lib.teaching.exercises import ch01

my_strides = {
    "t": ...,
    "t.permute(2, 0, 1)": ...,
    "t[:, ::2]": ...,
    "t[0].expand(5, 3, 4)": ...,
    "t.permute(2, 0, 1).contiguous()": ...,
}
ch01.strides.check(my_strides)

# %% [markdown]
# **Exercise 1.2.** How far is each point of `a` (N, D) from each point of `b` (M, D)? Return the
# *squared* distances (N, M). A loop would pass the check; can you do without?


# %%
def squared_distances(a, b):
    return ...  # your code here


ch01.distances.check(squared_distances)

# %% [markdown]
# **Exercise 1.3.** A loss that can ignore: the mean cross entropy of `logits` (N, classes) over
# the items whose label is not -1. Without a ready-made `cross_entropy`; and logits may be huge.


# %%
def masked_cross_entropy(logits, labels):
    return ...  # your code here


ch01.masked_loss.check(masked_cross_entropy)

# %% [markdown]
# **Exercise 1.4.** Windows without a copy. From a signal (T,) make all its windows of `size`
# numbers, (T - size + 1, size), as a *view*. `tensor.as_strided(shape, stride)` makes any walk that
# begins where the tensor begins.


# %%
def windows(signal, size):
    return ...  # your code here


ch01.windows.check(windows)

# %% [markdown]
# ### Quiz

# %%
for question in ch01.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - A tensor is a row of numbers and a walk over it: **storage, shape, stride**. Views are free and
#   share; copies cost and do not.
# - **Broadcasting** is a stride of 0: it saves loops, and it hides mistakes of shape.
# - Autograd writes down a **graph** and walks it backwards; gradients add up until you forget them.
# - Five lines train anything: **predict, compare, zero, backward, step**.
# - A bend between two layers is what one linear layer lacks.
#
# **Papers.** D. Kingma, J. Ba: *Adam: a method for stochastic optimization*, 2015. K. He, X. Zhang,
# S. Ren, J. Sun: *Delving deep into rectifiers*, 2015 (how to begin). A. Paszke and others:
# *PyTorch: an imperative style, high-performance deep learning library*, 2019.
#
# **Longer, larger, elsewhere.** The same two networks from the command line:
#
# ```
# python -m course_lib train softmax_regression
# python -m course_lib train mlp --steps 3000
# torchrun --nproc-per-node 2 -m course_lib train mlp --steps 3000
# ```

# %%
clock.stop()
