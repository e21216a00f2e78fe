# %% [markdown]
# # 04 · Why does normalising make training fast?
#
# Two networks with the same four convolutions and the same first weights learn to tell clothes
# apart. Both take large steps. They differ in one thing: behind each convolution the one brings its
# numbers to mean 0 and variance 1. What will that be worth?

# %%
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import batch_norm, data, folding, recipes, runtime, train
from course_lib.teaching import experiments, plot, report, widgets
from course_lib.teaching.experiments import ch04 as grids
from course_lib.teaching.figures import ch04 as figures

clock = report.Clock(budget=50)
generator = runtime.seed_everything(0)
runs = {norm: grids.learning_rate(seed=0, norm=norm, rate=grids.HIGH) for norm in (True, False)}
drawn = figures.two_curves(
    grids.LOOKS,
    {norm: torch.tensor([run["held_out"]]) for norm, run in runs.items()},
    "accuracy (%)",
    caption="The same layers, the same pictures, the same large steps.",
    alt="Two curves: with batch norm the accuracy soon climbs and stays high; without it the "
    "accuracy stays near that of guessing.",
)
report.holds("with batch norm it learns", drawn[True][-1] > 70, trained=True)
report.holds("without it does not", drawn[False][-1] < 30, trained=True)

# %% [markdown]
# The networks of chapters 00 and 02 had such a thing behind each convolution, and we promised to
# open it. Here it is: what it computes, why a gradient has to pass through it, what it remembers
# for the day when there is no batch, and how to make it vanish when training is over.
#
# **When you are through you can** write batch norm and its backward by hand, say what training and
# evaluation mode do with it, choose between batch, layer, group and instance norm, measure what it
# is worth, and fold it into the layer before it. It takes about two hours to read and try; the code
# runs within about a minute. You need chapter 02.

# %% [markdown]
# ## Build it: a common scale
#
# What goes wrong without norms? Take the network that we train further down, with three
# convolutions, and look at the numbers that come out of them before anything is learned: the same
# 500 pictures, once with norms and once without. Each convolution makes sums of what it is given.
# What happens to a number that is multiplied by something small three times over?


# %%
def values_behind(network, images, wanted=nn.ReLU):
    """What enters the layers of a kind, by the number of the block."""
    seen = {}
    for number, block in enumerate(network.features, start=1):
        for layer in block:
            if isinstance(layer, wanted):
                seen[f"block {number}"] = images.detach().flatten()
            images = layer(images)
    return seen


# %%
clothes = data.load("fashion_mnist")
pictures = recipes.scale_pixels(clothes.x_train[:500])
fresh = {}
for norm in (True, False):
    runtime.seed_everything(0)
    fresh[norm] = batch_norm.NormCNN(norm=nn.BatchNorm2d if norm else None)
behind = {norm: values_behind(network, pictures) for norm, network in fresh.items()}
spread = figures.distributions(
    {block: {norm: behind[norm][block] for norm in fresh} for block in behind[True]},
    limit=3.0,
    caption="What goes into the ReLU of each block, before any training. Without norms it narrows "
    "from block to block.",
    alt="Three panels with two histograms each: with batch norm the values keep a width of about "
    "one in every block; without it they are a narrow peak that gets narrower.",
)
report.holds("without norms the third block's values are small", spread["block 3"][False] < 0.2)
report.holds("with norms all have a spread near 1", 0.8 < spread["block 3"][True] < 1.2)

# %% [markdown]
# Nobody chose these scales. They came out of the weights, and with every step they change. If a
# step is right for one layer, it is too large for one whose inputs have grown, and lost on one
# whose inputs have shrunk.
#
# So take the scale away. Six examples with four features each, every feature on a scale of its own:
# which numbers do you have to subtract from each column, and by which to divide, for all four to
# look alike? (The root of the variance is called the standard deviation, here for short deviation.)

# %%
scale, offset = torch.tensor([0.1, 1.0, 4.0, 1.0]), torch.tensor([0.0, 3.0, -2.0, 0.5])
x = torch.randn(6, 4, generator=generator, dtype=torch.float64) * scale + offset  # (N, C)
mean = x.mean(dim=0)  # (N, C) -> (C,)
var = (x - mean).square().mean(dim=0)  # (C,)
x_hat = (x - mean) / torch.sqrt(var + 1e-5)  # (N, C)
plot.show(
    figures.matrix_figure(x, x_hat, x_hat, "each column minus its mean, over its deviation"),
    caption="Each feature now has mean 0 and variance 1 over the six examples.",
    alt="A table of numbers whose columns have very different sizes, and the same table with all "
    "columns between about -2 and 2.",
)
report.equal("means", x_hat.mean(dim=0), torch.zeros(4), atol=1e-12)
report.equal("variances", x_hat.square().mean(dim=0), torch.ones(4), rtol=2e-3)

# %% [markdown]
# > **batch norm**: bring each channel to mean 0 and variance 1 over the batch, then multiply it by
# > a learned weight (gamma) and add a learned bias (beta).
#
# The small number under the root, called eps, keeps a feature that is the same in all examples from
# being divided by 0. In which column above would it be noticed first?
#
# Why the weight and the bias? A ReLU behind the norm would cut every channel exactly at its mean.
# That may not be best, and so the layer may choose: with gamma and beta it can even undo the
# normalising. But now the scale of a channel is *one number that is learned*, and not the
# by-product of all the weights before it.
#
# **In images** a channel is one map of each image, and its pixels are all the same kind of thing.
# So they share a mean. Over which axes of (N, C, H, W) does it run, and how many gammas are there
# for 16 channels and images of 7x7 pixels?

# %%
maps = torch.randn(8, 16, 7, 7, generator=generator, dtype=torch.float64) * 3 + 1
by_hand = maps - maps.mean(dim=(0, 2, 3), keepdim=True)  # (1, C, 1, 1) broadcasts
by_hand = by_hand / torch.sqrt(by_hand.square().mean(dim=(0, 2, 3), keepdim=True) + 1e-5)
theirs = nn.BatchNorm2d(16).double()
report.equal("by hand and torch's", by_hand, theirs(maps))
print("gamma", tuple(theirs.weight.shape), "beta", tuple(theirs.bias.shape))

# %% [markdown]
# Now look at the layer before: it adds a bias to each channel, and the norm subtracts the channel's
# mean. What is left of the bias? And what will its gradient be? Write both down, then run.

# %%
weight = torch.randn(5, 16, 3, 3, generator=generator, dtype=torch.float64)
bias = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
outs = [
    batch_norm.batch_norm(F.conv2d(maps, weight, b), None, None, training=True)
    for b in (None, bias, bias + 100)
]
outs[1].sin().sum().backward()  # sin: so that not everything cancels by itself
for out, name in zip(outs[1:], ("a bias", "a bias that is larger by 100"), strict=True):
    report.equal(f"without and with {name}", outs[0], out.detach(), atol=1e-9)
largest = bias.grad.abs().max().item()
apart = (outs[0] - outs[2]).abs().max().item()
report.verdict(
    "4.4",
    "The layer before a batch norm needs no bias",
    outcome="true" if apart < 1e-9 and largest < 1e-9 else "false",
    evidence=f"outputs with no bias and with one of about 100 differ by at most {apart:.1e}; the "
    f"largest gradient of the bias is {largest:.1e}",
)

# %% [markdown]
# The mean takes the bias with it. That is why the convolutions of chapter 02 said `bias=False`:
# beta does the bias's work behind the norm. It is not an error to keep it; it costs a few numbers
# and learns nothing. In evaluation it would hurt as little, since the running mean, to which we
# come, has it in it.

# %% [markdown]
# ## Build it: the way back
#
# Forward it was four lines. Backward it is the first layer of this course in which every example
# depends on every other: move one value, and the mean moves, and with it all values of the column.
# The chain rule takes it one step at a time. Write the forward pass as steps that each do one
# thing:
#
# $$\mu = \tfrac1N\sum x \qquad c = x - \mu \qquad v = \tfrac1N\sum c^2$$
#
# $$s = (v + \epsilon)^{-1/2} \qquad \hat x = c\,s \qquad y = \gamma\,\hat x + \beta$$
#
# Let autograd keep the gradient of each of them; then derive the same by hand, from the last to the
# first.

# %%
eps, N = 1e-5, len(x)
x = x.requires_grad_()
gamma = torch.tensor([1.0, 0.5, 2.0, -1.0], dtype=torch.float64, requires_grad=True)
beta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
mu = x.mean(dim=0)  # (C,)
c = x - mu  # (N, C)
v = c.square().mean(dim=0)  # (C,)
s = (v + eps) ** -0.5  # (C,)
x_hat = c * s  # (N, C)
y = gamma * x_hat + beta  # (N, C)
for step in (mu, c, v, s, x_hat, y):
    step.retain_grad()
y.sin().sum().backward()  # any loss will do
dy = y.grad  # what arrives from behind, (N, C)

# %% [markdown]
# A sum hands its gradient on unchanged; a factor hands it on times the other factor; what is used
# for all rows collects from all rows. Cover the right-hand sides below, and write each of them
# yourself. The one for `dc` has two parts: c is used in x_hat, and in v.

# %%
with torch.no_grad():
    dbeta = dy.sum(dim=0)  # used in every row: (N, C) -> (C,)
    dgamma = (dy * x_hat).sum(dim=0)  # (C,)
    dx_hat = dy * gamma  # (N, C)
    ds = (dx_hat * c).sum(dim=0)  # (C,)
    dv = ds * -0.5 * s**3  # the slope of (v + eps) ** -0.5
    dc = dx_hat * s + dv * 2 * c / N  # its use in x_hat, and that in v
    dmu = -dc.sum(dim=0)  # subtracted in every row: (C,)
    dx = dc + dmu / N  # its use in c, and its share in the mean
terms = {"beta": (dbeta, beta), "gamma": (dgamma, gamma), "x_hat": (dx_hat, x_hat), "s": (ds, s)}
terms |= {"v": (dv, v), "c": (dc, c), "mu": (dmu, mu), "x": (dx, x)}
for name, (by_hand, node) in terms.items():
    report.equal(f"gradient of {name:<5}", by_hand, node.grad, rtol=1e-8, atol=1e-10)

# %% [markdown]
# Put the lines into one another and nearly everything cancels. With a bar for the mean over a
# column:
#
# $$\mathrm{d}x = s\,\bigl(g - \overline{g} - \hat x\;\overline{g\,\hat x}\bigr), \qquad g =
# \gamma\,\mathrm{d}y$$
#
# Read it: from the gradient, its mean is taken away, and its part along x_hat. A step along the
# first would shift the whole column, a step along the second would stretch it, and the norm undoes
# both. So what comes out has nothing of either: guess the sum of each column of `dx`, and that of
# `dx * x_hat`, before you run.

# %%
compact = batch_norm.batch_norm_backward(dy, x_hat.detach(), s.detach(), gamma.detach())
for name, ours, node in zip(("x", "gamma", "beta"), compact, (x, gamma, beta), strict=True):
    report.equal(f"the module's gradient of {name:<5}", ours, node.grad, rtol=1e-8, atol=1e-10)
report.equal("sum of dx, by column", dx.sum(dim=0), torch.zeros(4), atol=1e-9)
along = (dx * x_hat.detach()).sum(dim=0)
print("dx along x_hat is nearly 0, and exactly so without eps:")
report.holds("it is below a thousandth of the gradient", along.abs().max() < 1e-3 * dx.norm())

# %% [markdown]
# One more thing is in the formula: the factor s, one over the deviation. Make all the weights of
# the layer before ten times as large: the output stays, s is a tenth, and the gradient is a tenth.
# A layer whose weights grow takes smaller steps by itself. That is one reason why a learning rate
# that is too high does not tear the network apart. Check it.

# %%
gradients = []
for factor in (1.0, 10.0):
    w = (factor * torch.ones(4, 4, dtype=torch.float64).tril()).requires_grad_()
    out = batch_norm.batch_norm(x.detach() @ w, None, None, training=True, eps=0.0)
    out.sin().sum().backward()
    gradients.append((out.detach(), w.grad))
report.equal("outputs with weights ten times as large", gradients[0][0], gradients[1][0])
report.equal("their gradient, times ten", gradients[0][1], 10 * gradients[1][1], atol=1e-9)

# %% [markdown]
# ## Build it: when there is no batch
#
# Somebody sends a single picture. It has no batch, and what it is taken for must not depend on who
# else is asking. So while it trains, the layer remembers what its batches were like.
#
# > **running statistics**: a mean and a variance for each channel that follow those of the batches
# > during training; in evaluation they take the place of the batch's own.
#
# After each batch the old running mean keeps a share of itself, and the new mean is given the rest.
# Torch calls one of the two shares `momentum`. Which one, and what does it update? Below, one pass
# forward through `BatchNorm1d(3, momentum=0.1)` in training mode, without a gradient and without a
# step. The means of the batch are 10, the running mean begins at 0. Which of the five tensors
# change, and to what?

# %%
layer = nn.BatchNorm1d(3, momentum=0.1).double()
before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
with torch.no_grad():
    layer(torch.tensor([[9.0, 9.0, 9.0], [11.0, 11.0, 11.0]], dtype=torch.float64))
changed = {}
for name, tensor in layer.state_dict().items():
    changed[name] = not tensor.equal(before[name])
    print(f"{name:<20}{before[name].tolist()!s:<18} -> {tensor.tolist()}")
new_share = layer.running_mean[0].item() / 10
learned = changed["weight"] or changed["bias"]
report.verdict(
    "4.2",
    "`momentum` updates gamma and beta",
    outcome="true" if learned else "false",
    evidence=f"a pass forward changes {', '.join(n for n, c in changed.items() if c)}; of a new "
    f"mean, momentum 0.1 takes {new_share:.1g} and leaves {1 - new_share:.1g} to the old one",
)

# %% [markdown]
# Gamma and beta are parameters, and only an optimizer moves them. `momentum` belongs to the running
# statistics, and weighs what is *new*: the opposite of an optimizer's momentum, which weighs what
# is old. The running variance moved to 0.9 + 0.1 · 2: torch divides it by the count less
# one, as one does who wants to know the variance of all pictures from that of a few.
#
# How should momentum be chosen? One pixel's mean, followed over a hundred batches of 32 pictures.
# Which line will be too slow, and which too restless? With `momentum=None` the layer takes the mean
# of all batches so far.

# %%
middle = recipes.scale_pixels(clothes.x_train[:3200, 0, 14:15, 14])  # one pixel, (3200, 1)
paths = {}
for momentum in (0.01, 0.1, 0.5, None):
    layer, path = batch_norm.BatchNorm1d(1, momentum=momentum), []
    for part in middle.split(32):
        layer(part)
        path.append(layer.running_mean.item())
    paths[f"momentum {momentum}"] = path
ends = figures.followed(
    middle.mean().item(),
    paths,
    caption="A small momentum remembers for long: also the 0 that it began with.",
    alt="Four lines: momentum 0.01 creeps up and is still below the dashed line after a hundred "
    "batches, 0.1 arrives and stays near, 0.5 jumps about it, the mean of all runs smoothly.",
)
truth = middle.mean().item()
report.holds("0.01 has not arrived", ends["momentum 0.01"] < 0.8 * truth)
report.equal("None is exact", torch.tensor(ends["momentum None"]), middle.mean(), rtol=1e-4)

# %% [markdown]
# Now it is clear why chapter 02 wrote `.eval()` before it only *looked* at its network: in training
# mode, looking would have moved the running statistics.
#
# ## Check it
#
# The whole network twice: once with torch's layers, once with the module's, with the same weights.
# Logits, gradients and all that is remembered should be equal, in training and in evaluation.

# %%
networks = {}
for name, norm in {"torch": nn.BatchNorm2d, "ours": batch_norm.BatchNorm2d}.items():
    runtime.seed_everything(1)
    networks[name] = batch_norm.NormCNN(norm=norm).double()
networks["ours"].load_state_dict(networks["torch"].state_dict())  # the same names and shapes
for training in (True, False):
    results = {}
    for name, network in networks.items():
        network.train(training).zero_grad()
        logits = network(pictures[:32].double())
        F.cross_entropy(logits, clothes.y_train[:32]).backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
        kept = torch.cat([buffer.flatten().double() for buffer in network.buffers()])
        results[name] = logits.detach(), gradient, kept
    print("in training" if training else "in evaluation")
    for k, what in enumerate(("logits", "gradients", "running statistics")):
        report.equal(what, results["ours"][k], results["torch"][k], rtol=1e-7, atol=1e-12)

# %% [markdown]
# What does it do with a batch of a single example that has no pixels either? Each value would be
# its own mean, and become 0 whatever it was. Guess what happens, then run.

# %%
try:
    batch_norm.BatchNorm1d(4)(torch.ones(1, 4))
except ValueError as error:
    print(error)

# %% [markdown]
# ## Build it: the sisters
#
# A mean over the batch has its price: it needs a batch, and a batch in training is not what one has
# in evaluation. There are other groups of numbers that can share a mean. Below, three images as
# rows and their four channels as columns; the small squares are pixels. Equal colours share a mean.
# Say for each of the four over which axes of (N, C, H, W) it runs. Which of them treat an image as
# if no other existed?

# %%
N, C = 3, 4
image, channel = torch.arange(N)[:, None].expand(N, C), torch.arange(C).expand(N, C)
counts = figures.shared_means(
    {
        "batch norm": channel,
        "layer norm": image,
        "instance norm": image * C + channel,
        "group norm (2)": image * 2 + channel // 2,
    },
    caption="Batch norm goes down a column. The others stay within a row.",
    alt="Four tables of three images by four channels: batch norm colours whole columns, layer "
    "norm whole rows, instance norm every cell by itself, group norm half rows.",
)
assert counts == {"batch norm": 4, "layer norm": 3, "instance norm": 12, "group norm (2)": 6}

# %% [markdown]
# > **layer norm**: one mean for each example, over all that it has.
#
# > **instance norm**: one mean for each channel of each image.
#
# > **group norm**: one mean for each group of channels of each image.
#
# All of them are the same function over other axes, and so it stands in the module once.

# %%
maps = torch.randn(N, C, 5, 5, generator=generator, dtype=torch.float64) * 2 + 1
by_axes = {
    "batch norm": ((0, 2, 3), nn.BatchNorm2d(C)),
    "layer norm": ((1, 2, 3), nn.LayerNorm((C, 5, 5))),
    "instance norm": ((2, 3), nn.InstanceNorm2d(C)),
}
for name, (axes, layer) in by_axes.items():
    x_hat, means, _ = batch_norm.normalise(maps, axes)
    assert means.numel() == counts[name]
    report.equal(f"{name}, axes {axes}", x_hat, layer.double()(maps))
grouped = maps.unflatten(1, (2, C // 2))  # (N, groups, C / groups, H, W)
x_hat, means, _ = batch_norm.normalise(grouped, (2, 3, 4))
assert means.numel() == counts["group norm (2)"]
report.equal("group norm, axes (2, 3, 4)", x_hat.flatten(1, 2), nn.GroupNorm(2, C).double()(maps))

# %% [markdown]
# ## Play: who feels it?
#
# Six examples, four features. The slider pulls on one single number. Framed on the right: every
# number that comes out different because of it. For each choice, guess the frames first. And what
# will evaluation mode change?

# %%
import copy

import ipywidgets

examples = torch.randn(6, 4, generator=generator) * scale + offset
norms = {
    "down a column: batch norm": batch_norm.BatchNorm1d(4, momentum=None),
    "along a row: layer norm": batch_norm.LayerNorm(4),
    "pairs in a row: group norm": batch_norm.GroupNorm(2, 4),
}
for norm in norms.values():  # for the running statistics
    norm(torch.randn(600, 4, generator=generator) * scale + offset)


def normed(axis, mode, pull):
    """The table with one number pulled, and what a norm makes of it."""
    layer = copy.deepcopy(norms[axis]).train(mode == "training")  # a copy: it would remember
    table = examples.clone()
    table[1, 2] += pull
    return table, layer(table).detach()


# %%
player = widgets.explore(
    lambda axis, mode, pull: figures.matrix_figure(
        *normed(axis, mode, pull), normed(axis, mode, 0)[1], mode
    ),
    alt="A table of numbers and what the chosen norm makes of it; framed is what has changed.",
    caption="Pull, then change the axis and the mode. When does only one number feel it?",
    axis=ipywidgets.Dropdown(options=list(norms), description="axis"),
    mode=ipywidgets.Dropdown(options=["training", "evaluation"], description="mode"),
    pull=widgets.slider("pull on one number", -10, 10, 6, 1),
)

# %%
for axis in norms:
    felt = [
        figures.touched(normed(axis, mode, 6)[1], normed(axis, mode, 0)[1]).sum().item()
        for mode in ("training", "evaluation")
    ]
    print(f"{axis:<28}{felt[0]} numbers in training, {felt[1]} in evaluation")

# %% [markdown]
# ## Play: how large may a step be?
#
# The picture at the beginning showed one learning rate. Here are eight of them, from timid to
# reckless: runs of 300 steps with plain SGD, stored with the course, three times each. The learning
# rate rises to the one shown and falls to 0 again, as in chapter 02. Move the slider from
# left to right. At which rate does each of the two learn best, and at which does it no
# longer learn?

# %%
grid = experiments.stored("learning_rate")
held_out = {name: values.mean(dim=0).tolist() for name, values in grid.values("held_out").items()}
curves = {
    norm: {rate: held_out[grids.setting(norm, rate)] for rate in grids.RATES}
    for norm in (True, False)
}
rates = widgets.explore(
    lambda rate: figures.rates_figure(rate, grids.RATES, grids.LOOKS, curves),
    alt="Left: accuracy by step with and without batch norm at one learning rate. Right: accuracy "
    "at the end over all learning rates.",
    caption="The large dots are the rate you have chosen.",
    rate=ipywidgets.SelectionSlider(
        options=[(f"{rate:g}", rate) for rate in grids.RATES],
        value=grids.HIGH,
        description="learning rate",
        style={"description_width": "9em"},
        layout=ipywidgets.Layout(width="32em", max_width="100%"),
    ),
)

# %%
names = {True: "with batch norm", False: "without"}
for norm, run in runs.items():  # those of the first picture
    stored = grid.run(grids.setting(norm, grids.HIGH), seed=0)["trained"]
    report.value(f"{names[norm]}, stored and above", f"{stored:.1f} {run['trained']:.1f}", "%")
    close = abs(stored - run["trained"]) < 5
    report.holds("the stored run and the one above agree to 5 points", close, trained=True)
ends = grid.values("trained")
highest = {}
for norm in (True, False):
    for what, reduce in (("every", torch.min), ("any", torch.max)):  # of the three runs
        able = [r for r in grids.RATES if reduce(ends[grids.setting(norm, r)]) > 40]
        highest[norm, what] = max(able)
    report.value(
        f"{names[norm]}: highest rate above 40 %, every run and any run",
        *[f"{highest[norm, what]:g}" for what in ("every", "any")],
    )
for what in ("every", "any"):
    factor = highest[True, what] / highest[False, what]
    name = f"Highest rate for {what} run, with against without"
    report.result(name, factor, "to 1", target=10, gate=10, digits=0)

# %% [markdown]
# In between it is a matter of luck: one run learns, the next does not. So both are counted.
#
# A network without norms does not get far with small steps, and cannot take large ones. Give each
# of the two the rate that suits it best. How many steps does it take the one with batch norm to be
# as good as the other one is at its end? (Its own learning rate is still high at that moment, which
# costs it some points: the comparison is against it.)

# %%
best = {norm: max(grids.RATES, key=lambda r: curves[norm][r][-1]) for norm in curves}
drawn = figures.two_curves(
    grids.LOOKS,
    {norm: grid.values("held_out")[grids.setting(norm, rate)] for norm, rate in best.items()},
    "accuracy on held-out pictures (%)",
    caption="Each at its best rate. Draw a level line from the end of the lower curve: where does "
    "it meet the other one?",
    alt="Two rising curves; the one with batch norm is above the other one from the first steps on "
    "and reaches the other's last value early.",
)
goal = drawn[False][-1]
needed = {
    norm: next(step for step, value in zip(grids.LOOKS, drawn[norm], strict=True) if value >= goal)
    for norm in (True, False)
}
report.value("Best rates with and without", f"{best[True]:g} {best[False]:g}")
report.value("Steps with and without", needed[True], needed[False])
share = needed[True] / needed[False]
report.result("Share of the steps", share, target=0.5, gate=0.5, better="lower")

# %% [markdown]
# Part of this can be had without norms. First weights of the right size help (the networks above
# have them), and so does Adam, which gives every weight steps of its own. What exactly it is that
# batch norm does, and whether the story that is mostly told about it is true, is the subject of the
# [lab](labs/04_batch_norm.ipynb).
#
# ## Train it
#
# Now for the best that a plain network of three convolutions can do with Fashion-MNIST in a quarter
# of a minute. Half of the pictures are mirrored, the labels smoothed as in chapter 03, and the
# weights moved by Muon, an optimizer that chapter 07 takes apart. When testing, the network sees
# each picture and its mirror image, and the logits are added. Shapes and parameters first. What
# share of the parameters belongs to the norms?

# %%
recipe = recipes.batch_norm()
network, x = recipe.model, pictures[:2]
for block in network.features:
    x = block.eval()(x)
    counts = {type(m).__name__: sum(p.numel() for p in m.parameters()) for m in block}
    print(tuple(x.shape), {name: count for name, count in counts.items() if count})
print("Linear", sum(p.numel() for p in network.classify.parameters()))
total = sum(p.numel() for p in network.parameters())
norms_own = sum(p.numel() for n, p in network.named_parameters() if p.ndim == 1 and "features" in n)
print(f"{total:,} parameters, {norms_own} of them gammas and betas")

# %%
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} pictures")
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="The loss by step, and below it the learning rate.",
    alt="The loss falls steeply and then slowly; the learning rate rises to a peak and falls to 0.",
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
accuracy = recipe.test(network)["accuracy"]
report.result("Accuracy on 10,000 new pictures", 100 * accuracy, "%", target=91.5, gate=90.7)
report.seconds("Training", history.seconds, target=15)

# %% [markdown]
# ## Fold it away
#
# In evaluation, mean and deviation are fixed numbers. Then the norm is nothing but a factor and a
# summand for each channel, and the layer before it is one, too: sums times weights. Two such things
# in a row are one. Scale each kernel by gamma over its deviation, and put the rest into the bias.
#
# > **folding**: putting a batch norm, once training is over, into the weights and the bias of the
# > layer before it.
#
# In this network a pooling stands between the two. Does it matter in which order one scales and
# takes the largest? When does it?

# %%
values = torch.tensor([1.0, 5.0, -2.0, 3.0])
for factor in (2.0, -2.0):
    after, before = factor * values.max().item(), (factor * values).max().item()
    print(f"factor {factor:+g}: largest, then scaled {after:+g}; scaled, then largest {before:+g}")

# %% [markdown]
# So a norm passes a max pooling only if none of its scales is negative; the module looks, and else
# leaves it where it is. Are the logits the same without the norms?

# %%
network = network.cpu().eval()
folded = folding.fold_network(network)
test_images, test_labels = recipes.scale_pixels(clothes.x_test), clothes.y_test
with torch.no_grad():
    whole, short = network(test_images[:1000]), folded(test_images[:1000])
report.equal("logits", short, whole, rtol=1e-3, atol=1e-3)
left = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
report.value("Batch norms before and after", 3, left)

# %% [markdown]
# And how much faster is it: a little, or twice? In this network the norms stand behind a pooling,
# and have little to do. The first block of chapter 00's network had its norm right behind the
# convolution, on maps four times as large. Where will folding pay?

# %%
import time

from course_lib import cnn


def best_seconds(*networks, repeats=100):
    """The shortest time of each for 64 pictures; taken in turns: what disturbs, disturbs all."""
    seconds = [[] for _ in networks]
    with torch.no_grad():
        for _ in range(repeats):
            for times, each in zip(seconds, networks, strict=True):
                start = time.perf_counter()
                each(test_images[:64])
                times.append(time.perf_counter() - start)
    return [min(times) for times in seconds]


# %%
large = cnn.conv_block(1, 16).eval()  # convolution, norm, ReLU; (N, 1, 28, 28) -> (N, 16, 28, 28)
for name, pair in {
    "this chapter's network": (network, folded),
    "chapter 00's first block": (large, folding.fold_network(large)),
}.items():
    slow, fast = best_seconds(*pair)
    report.value(name, f"{64 / slow:,.0f}, folded {64 / fast:,.0f}", unit="images/s")
    report.value("folded against unfolded", f"{slow / fast:.2f}", unit="to 1")
report.holds("where the norms had much to do, folded is faster", slow > fast)

# %% [markdown]
# ## Look inside
#
# **What gamma and beta have become.** They began at 1 and 0. A ReLU follows, and keeps what is
# above 0: what does a beta below 0 do to a channel? And what would a channel be worth whose gamma
# is 0?

# %%
layers = {
    f"block {number}": (layer.weight.detach(), layer.bias.detach())
    for number, block in enumerate(network.features, start=1)
    for layer in block
    if isinstance(layer, nn.BatchNorm2d)
}
extent = figures.scales(
    layers,
    caption="A dot for each channel; the dashed lines cross where they all began. Below the level "
    "line, a channel is heard only where it rises some way above its own mean.",
    alt="Three panels of dots beside dashed lines that cross at (1, 0), where all began.",
)
report.holds(
    "gammas have moved apart", all(high - low > 0.05 for low, high in extent.values()), trained=True
)

# %% [markdown]
# **Where it fails.** The surest of its wrong answers. Which classes does it take for each other,
# and would you have known?

# %%
probabilities = train.predict(network, test_images).softmax(dim=1)
sure, answer = probabilities.max(dim=1)
mistakes = (answer != test_labels).nonzero().squeeze(1)
worst = mistakes[sure[mistakes].argsort(descending=True)][:8]
shown = plot.images(
    clothes.x_test[worst],
    titles=[f"{clothes.classes[answer[i]]}\nis {clothes.classes[test_labels[i]]}" for i in worst],
    caption="Above each picture what the network says, and below that what the label says.",
    alt="Eight grey pictures of clothes with a wrong answer and a label above each.",
)
shirts = (test_labels[mistakes] == clothes.classes.index("Shirt")).float().mean().item()
report.value("Of its mistakes, those with shirts", f"{100 * shirts:.0f}", unit="%")

# %% [markdown]
# ## Claims
#
# Two are settled above, where they belong: 4.4 and 4.2. One more is quickly done. Gamma and beta
# are what batch norm learns: does their number depend on how large the batch is, or the image?

# %%
sizes = {}
for batch, side in ((2, 4), (64, 4), (2, 32)):
    layer = nn.LazyBatchNorm2d()  # asks its first batch how many channels there are
    layer(torch.randn(batch, 5, side, side))
    sizes[batch, side] = [tuple(layer.weight.shape), tuple(layer.bias.shape)]
    print(f"(N, C, H, W) = ({batch}, 5, {side}, {side}): gamma and beta {sizes[batch, side]}")
same = all(size == [(5,), (5,)] for size in sizes.values())
report.verdict(
    "4.1",
    "Gamma and beta are per channel, whatever the batch size",
    outcome="true" if same else "false",
    evidence="five channels give five of each with batches of 2 and of 64 and with images of 4 and "
    "of 32 pixels",
)

# %% [markdown]
# The others are put to the test in the [lab](labs/04_batch_norm.ipynb): before or after the
# activation, is it really covariate shift, what happens when the batch is sorted? All verdicts of
# the course are collected in [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 4.1.** Counting. `BatchNorm2d(16)` gets a batch of shape (8, 16, 5, 5).

# %%
from course_lib.teaching.exercises import ch04

my_counts = {
    "parameters of BatchNorm2d(16)": ...,
    "numbers in its state dict that no gradient reaches": ...,
    "means it takes of the batch": ...,
    "values that go into one of them": ...,
    "means that LayerNorm((16, 5, 5)) takes of the batch": ...,
    "means that GroupNorm(4, 16) takes of the batch": ...,
}
ch04.counts.check(my_counts)

# %% [markdown]
# **Exercise 4.2.** Batch norm of images `x` (N, C, H, W) in training, without gamma and beta and
# without torch's own.


# %%
def norm_images(x, eps):
    return ...  # your code here


ch04.batch_norm.check(norm_images)

# %% [markdown]
# **Exercise 4.3.** Running statistics: given the old ones (C,), a batch `x` (N, C) and the
# momentum, return the new mean and the new variance, as torch keeps them.


# %%
def update(running_mean, running_var, x, momentum):
    return ...  # your code here


ch04.update.check(update)

# %% [markdown]
# **Exercise 4.4.** Fold a norm into the convolution before it: `weight` (O, C, kH, kW); all others
# (O,), except for the number `eps`. Return the new weight and the new bias.


# %%
def fold(weight, bias, gamma, beta, mean, var, eps):
    return ...  # your code here


ch04.fold.check(fold)

# %% [markdown]
# **Exercise 4.5.** The backward of *layer* norm, without gamma and beta: from `grad` (N, C), the
# gradient of x_hat, and from `x_hat` (N, C) and `inv_std` (N, 1) return the gradient of x.


# %%
def backward(grad, x_hat, inv_std):
    return ...  # your code here


ch04.backward.check(backward)

# %% [markdown]
# ### Quiz

# %%
for question in ch04.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - Batch norm gives every channel **mean 0 and variance 1 over the batch**, and then a scale and an
#   offset of its own that are learned.
# - Its backward takes away from a gradient **what would only shift or stretch** the channel.
# - In evaluation it uses **running statistics**. They are not parameters; `momentum` says how much
#   a *new* batch weighs. Forgetting `eval()` is the commonest mistake of all.
# - With it a network learns at learning rates that are far too high without it, and in fewer steps.
# - **Layer, instance and group norm** are the same over other axes. They need no batch.
# - After training it can be **folded** into the layer before it.
#
# **Papers.** S. Ioffe, C. Szegedy: *Batch normalization: accelerating deep network training by
# reducing internal covariate shift*, 2015. J. Ba, J. Kiros, G. Hinton: *Layer normalization*, 2016.
# D. Ulyanov, A. Vedaldi, V. Lempitsky: *Instance normalization: the missing ingredient for fast
# stylization*, 2016. Y. Wu, K. He: *Group normalization*, 2018. S. Santurkar, D. Tsipras, A. Ilyas,
# A. Madry: *How does batch normalization help optimization?*, 2018.
#
# **Longer, larger, elsewhere.** The same training from the command line, ten times as long on a
# GPU, and shared by two processes (each then normalises its own part of the batch):
#
# ```
# python -m course_lib train batch_norm
# python -m course_lib train batch_norm --steps 3500 --batch-size 512
# torchrun --nproc-per-node 2 -m course_lib train batch_norm
# ```

# %%
clock.stop()
