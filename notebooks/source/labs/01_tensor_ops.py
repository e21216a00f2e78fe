# %% [markdown]
# # 01 lab · Which habits with tensors and losses hold?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? The first two, 1.1 and 1.4, are settled in the
# [lesson](../01_tensor_ops.ipynb).

# %%
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import data, recipes, runtime, tensor_ops
from course_lib.teaching import plot, report
from course_lib.teaching.figures import ch01 as figures

clock = report.Clock(budget=20)
mnist = data.load("mnist")
images = recipes.scale_pixels(mnist.x_train).flatten(1)  # (60000, 784)
labels = mnist.y_train
test_images = recipes.scale_pixels(mnist.x_test).flatten(1)

# %% [markdown]
# ## 1.2 · “`expand` and `repeat` are interchangeable”
#
# Both make a thousand rows of one. They look the same; do they lie in memory the same way, and what
# happens to the others when one row is written to?

# %%
found = {}
for name in ("expand", "repeat"):
    row = torch.zeros(1, 4)
    rows = row.expand(1000, 4) if name == "expand" else row.repeat(1000, 1)
    held = rows.untyped_storage().nbytes() // rows.element_size()
    rows[0, 0] = 1.0  # write into one row
    found[name] = (held, int(rows[:, 0].sum()))
    print(f"{name}: stride {rows.stride()}, {held} numbers held, {found[name][1]} rows changed")
report.verdict(
    "1.2",
    "`expand` and `repeat` are interchangeable",
    outcome="true" if found["expand"] == found["repeat"] else "false",
    evidence=f"for 1,000 rows expand holds {found['expand'][0]} numbers and repeat "
    f"{found['repeat'][0]}; writing into one row changed {found['expand'][1]} and "
    f"{found['repeat'][1]}",
)

# %% [markdown]
# For reading they are, and `expand` is free. For writing they are not: the rows of an expanded
# tensor are one row, seen a thousand times. (`rows += 1` would stop with an error; writing by
# index, as here, goes through.)

# %% [markdown]
# ## 1.3 · “`a + b` needs equal shapes or a scalar”
#
# Seven pairs of shapes. Which can be added, and what comes out?

# %%
import ast

texts = "(3,4)+(3,4) (3,4)+() (3,4)+(4,) (3,1)+(4,) (2,1,4)+(3,1) (3,4)+(3,) (2,3)+(3,2)"
pairs = [tuple(map(ast.literal_eval, text.split("+"))) for text in texts.split()]
unequal, grown = [], []
for a, b in pairs:
    try:
        result = tuple((torch.zeros(a) + torch.zeros(b)).shape)
        assert result == tensor_ops.broadcast_shape(a, b)
    except RuntimeError:
        result = None
    if result is not None and a != b and () not in (a, b):
        unequal.append(result)
        grown += [result] if result not in (a, b) else []
    print(f"{a!s:<10} + {b!s:<8} {'error' if result is None else result}")
report.verdict(
    "1.3",
    "`a + b` needs equal shapes or a scalar",
    outcome="false" if unequal else "true",
    evidence=f"{len(unequal)} pairs of unequal shapes, none of them a scalar, could be added; in "
    f"{len(grown)} of them the result has a shape that neither had",
)

# %% [markdown]
# Axes are compared from the right, and a 1 fits anything. That is a gift when you mean it, and a
# trap when you do not: see claim 1.10.

# %% [markdown]
# ## 1.5 · “A function whose name ends in `_` returns nothing”
#
# The underscore says that the argument is changed in place. Python's own `list.sort()` returns
# `None` for that reason. What do torch's functions return?


# %%
def fresh():
    weight = torch.ones(2, 2, requires_grad=True)
    weight.grad = torch.full((2, 2), 3.0)
    return weight


methods = ["abs_", "neg_", "exp_", "relu_", "zero_", "t_", "sigmoid_", "requires_grad_"]
fills = ["zeros_", "ones_", "normal_", "kaiming_uniform_", "xavier_uniform_"]
calls = {f"tensor.{name}": getattr(torch.Tensor, name) for name in methods}
calls |= {f"nn.init.{name}": getattr(nn.init, name) for name in fills}
calls["clip_grad_value_"] = lambda weight: nn.utils.clip_grad_value_([weight], 1.0)
calls["clip_grad_norm_"] = lambda weight: nn.utils.clip_grad_norm_([weight], 1.0)
answers = {}
for name, call in calls.items():
    weight = fresh()
    with torch.no_grad():
        returned = call(weight)
    answers[name] = "its argument" if returned is weight else "something else"
    answers[name] = "nothing" if returned is None else answers[name]
    print(f"{name:<26}returns {answers[name]}")

# %%
counts = {answer: list(answers.values()).count(answer) for answer in sorted(set(answers.values()))}
total = nn.utils.clip_grad_norm_([fresh()], 1.0).item()
report.holds("clip_grad_norm_ returns the norm before clipping", abs(total - 6.0) < 1e-5)
report.verdict(
    "1.5",
    "A function whose name ends in `_` returns nothing",
    outcome="true" if counts.get("nothing") == len(answers) else "false",
    evidence=f"of {len(answers)} functions, this many return: "
    + ", ".join(f"{answer} {count}" for answer, count in counts.items()),
)

# %% [markdown]
# Nearly all of them return the tensor they have changed, so that calls can be chained, as in
# `x.add_(1).relu_()`. The two that clip gradients, that is shorten them, follow no rule: one
# returns the norm it measured, which is worth logging, the other returns nothing.

# %% [markdown]
# ## 1.6 · “Summing losses and dividing the learning rate by the batch size is taking their mean”
#
# The gradient of a sum of N losses is N times that of their mean. Dividing the learning rate by N
# should make up for it. Does it, for every optimizer? Two additions are on trial as well. *Weight
# decay* pulls every weight a little towards 0 at each step. *Clipping* shortens a gradient that is
# longer than a given length to that length. Five steps each, with torch's optimizers and with ours.

# %%
generator = runtime.seed_everything(0)
x = torch.randn(32, 5, generator=generator, dtype=torch.float64)
y = torch.randn(32, 2, generator=generator, dtype=torch.float64)


def five_steps(library, name, reduction, learning_rate, clip=None, **options):
    weight = torch.ones(5, 2, dtype=torch.float64, requires_grad=True)
    optimizer = getattr(library, name)([weight], learning_rate, **options)
    for _ in range(5):
        optimizer.zero_grad()
        losses = F.mse_loss(x @ weight, y, reduction="none").sum(dim=1)  # one of each item
        (losses.mean() if reduction == "mean" else losses.sum()).backward()
        if clip:
            nn.utils.clip_grad_norm_([weight], clip)
        optimizer.step()
    return weight.detach()


# %%
rules = {
    "plain SGD": ("SGD", {}),
    "SGD with momentum": ("SGD", {"momentum": 0.9}),
    "SGD with weight decay": ("SGD", {"weight_decay": 0.1}),
    "SGD, gradients clipped": ("SGD", {"clip": 1.0}),
    "Adam": ("Adam", {}),
}
gaps = {}
for rule, (name, options) in rules.items():
    both = []
    for library in (torch.optim, tensor_ops):
        mean = five_steps(library, name, "mean", 0.05, **options)
        summed = five_steps(library, name, "sum", 0.05 / len(x), **options)
        both.append((mean - summed).norm().item() / mean.norm().item())
    assert abs(both[0] - both[1]) < 1e-9, "torch's and ours must agree"
    gaps[rule] = both[0]
    print(f"{rule:<24}{'same weights' if gaps[rule] < 1e-9 else 'other weights'}")
same = [rule for rule, gap in gaps.items() if gap < 1e-9]

# %%
drawn = plot.bars(
    {rule: 100 * gap for rule, gap in gaps.items()},
    label="difference of the weights after five steps (%)",
    caption="Where the step is not proportional to the gradient, the two ways part.",
    alt="Bars: zero for plain SGD and SGD with momentum, above zero for weight decay, clipping "
    "and Adam.",
)
assert drawn.keys() == gaps.keys()
linear = {"plain SGD", "SGD with momentum"}
if set(same) == set(gaps):
    outcome = "true"
else:
    outcome = "depends: it is where the step is linear in the gradient" if same else "false"
report.verdict(
    "1.6",
    "Summing losses and dividing the learning rate by the batch size is taking their mean",
    outcome=outcome,
    evidence=f"equal after five steps: {', '.join(same)}; the largest difference among the others "
    f"is {100 * max(gaps.values()):.0f} %",
)
assert set(same) == linear

# %% [markdown]
# Plain SGD and momentum add gradients up, so a factor passes through. Weight decay adds a second
# force that the factor does not touch; clipping cuts at a fixed length; and Adam divides the
# gradient by its own size, so that only the smaller learning rate is left.

# %% [markdown]
# ## 1.7 · “A layer that is put twice into a model is two layers”
#
# One layer used twice, against two layers with equal weights. How many parameters, and which
# gradient?

# %%
generator = runtime.seed_everything(0)
shared, first, second = (nn.Linear(6, 6).double() for _ in range(3))
for layer in (first, second):
    layer.load_state_dict(shared.state_dict())
tied = nn.Sequential(shared, nn.Tanh(), shared)
untied = nn.Sequential(first, nn.Tanh(), second)
x = torch.randn(10, 6, generator=generator, dtype=torch.float64)
counts = {}
for name, model in {"tied": tied, "untied": untied}.items():
    model(x).square().mean().backward()
    counts[name] = sum(parameter.numel() for parameter in model.parameters())
print("parameters:", counts)
report.equal("the outputs", tied(x), untied(x))
report.equal(
    "the tied gradient is a sum", shared.weight.grad, first.weight.grad + second.weight.grad
)
torch.optim.SGD(tied.parameters(), 0.1).step()
report.holds("after a step both places still hold one layer", tied[0] is tied[2])
report.verdict(
    "1.7",
    "A layer that is put twice into a model is two layers",
    outcome="false" if counts["tied"] * 2 == counts["untied"] else "true",
    evidence=f"{counts['tied']} parameters instead of {counts['untied']}; its gradient is the sum "
    "of those that two separate layers get",
)

# %% [markdown]
# The model holds one object under two names, and autograd adds up what comes back from both places.
# This is called *parameter tying*, and language models use it on purpose: the table that turns
# words into vectors also turns vectors into words.

# %% [markdown]
# ## 1.8 · “Cross entropy wants a softmax layer before it”
#
# Torch's cross entropy takes logits and applies softmax itself. What if the network has applied it
# already? Six networks with one hidden layer are trained each way, from the same weights, on the
# same batches. (All six at once: their weights are stacked, and `@` does the rest.)

# %%
SEEDS, STEPS = 6, 3 if runtime.is_quick() else 150


def train_six(softmax_first):
    generator = torch.Generator().manual_seed(0)
    w1 = torch.randn(SEEDS, 784, 64, generator=generator) * (2 / 784) ** 0.5
    w2 = torch.randn(SEEDS, 64, 10, generator=generator) * (1 / 64) ** 0.5
    weights = [w.requires_grad_() for w in (w1, w2)]
    optimizer = torch.optim.SGD(weights, 0.1, momentum=0.9)
    norms = []
    for _ in range(STEPS):
        rows = torch.randint(len(images), (SEEDS, 128), generator=generator)
        logits = (images[rows] @ w1).relu() @ w2  # (SEEDS, 128, 784) -> (SEEDS, 128, 10)
        outputs = logits.softmax(dim=2) if softmax_first else logits
        loss = F.cross_entropy(outputs.flatten(0, 1), labels[rows].flatten()) * SEEDS
        optimizer.zero_grad()
        loss.backward()
        norms.append(w1.grad.norm().item())
        optimizer.step()
    with torch.no_grad():
        answers = ((test_images @ w1).relu() @ w2).argmax(dim=2)  # -> (SEEDS, 10000)
    return answers, norms[0]


# %%
answers, norms = zip(train_six(softmax_first=False), train_six(softmax_first=True), strict=True)
right = [100 * (answer == mnist.y_test).float().mean(dim=1) for answer in answers]
with_logits, with_softmax = right
gain = with_logits - with_softmax  # of each seed
ways = {"logits": with_logits, "softmax, then cross entropy": with_softmax}
drawn = plot.bars(
    {name: values.mean().item() for name, values in ways.items()},
    label=f"test accuracy after {STEPS} steps (%)",
    errors={name: values.std().item() / SEEDS**0.5 for name, values in ways.items()},
    caption="Softmax twice: the network still learns, but behind a brake. The mean of six seeds.",
    alt="Two bars of test accuracy; the one for logits is longer.",
)
report.value("Gradient at the start, softmax against logits", f"{norms[1] / norms[0]:.2f}")
silent = sum(len(answer.unique()) < 10 for answer in answers[1])
report.value("Networks behind a softmax that never name one of the digits", silent, f"of {SEEDS}")
perfect = F.cross_entropy(F.one_hot(torch.arange(10)).double(), torch.arange(10))
print(f"the loss of a sure and right answer after a second softmax: {perfect:.2f}, not 0")
report.verdict(
    "1.8",
    "Cross entropy wants a softmax layer before it",
    outcome="false" if gain.mean() > 0 else "true",
    evidence=f"{with_logits.mean():.1f} % on logits, {with_softmax.mean():.1f} % behind a softmax",
    effect=gain.mean().item(),
    standard_error=gain.std().item() / SEEDS**0.5,
)

# %% [markdown]
# It learns all the same, which is why the mistake survives in so many programs. But outputs between
# 0 and 1 can never be far apart, so that even the best answer keeps a loss; and the gradient has to
# pass through two softmaxes. Where the first one is sure, and be it wrong, hardly any gradient
# comes through: so a network may give up a digit altogether.

# %% [markdown]
# ## 1.9 · “A yes-or-no question can be trained as one with two classes”
#
# One logit with binary cross entropy, or two with cross entropy? Only the difference of two logits
# counts. The two move in opposite directions, so their difference moves twice as fast: the
# two-class model gets half the learning rate. Is a 3 an 8? Ten steps each.

# %%
chosen = ((labels == 3) | (labels == 8)).nonzero().squeeze(1)[:256]
x, is_eight = images[chosen].double(), (labels[chosen] == 8)
one = torch.zeros(784, 1, dtype=torch.float64, requires_grad=True)
two = torch.zeros(784, 2, dtype=torch.float64, requires_grad=True)
binary, multi = tensor_ops.SGD([one], 0.1), tensor_ops.SGD([two], 0.05)
for _ in range(10):
    binary.zero_grad()
    multi.zero_grad()
    yes = F.binary_cross_entropy_with_logits((x @ one).squeeze(1), is_eight.double())
    both = F.cross_entropy(x @ two, is_eight.long())
    yes.backward()
    both.backward()
    binary.step()
    multi.step()
difference = (two[:, 1] - two[:, 0]).detach()
report.equal("the losses", yes.detach(), both.detach())
report.equal("the gradients", one.grad[:, 0], two.grad[:, 1], atol=1e-12)
gap = (difference - one[:, 0].detach()).abs().max().item()
report.verdict(
    "1.9",
    "A yes-or-no question can be trained as one with two classes",
    outcome="true" if gap < 1e-10 else "false",
    evidence=f"after ten steps the weights differ by {gap:.0e} at most",
)

# %% [markdown]
# They are one model in two notations: sigmoid(x) is the softmax of (0, x). Two logits cost twice
# the weights of the last layer and buy nothing, except that the same code serves any number of
# classes.

# %% [markdown]
# ## 1.10 · “A loss checks that its two tensors match”
#
# Predictions (4, 1) against targets (4,), the most common slip of all. Which losses raise, which
# warn, which say nothing?

# %%
import warnings

losses = {
    "l1_loss": F.l1_loss,
    "mse_loss": F.mse_loss,
    "huber_loss": F.huber_loss,
    "smooth_l1_loss": F.smooth_l1_loss,
    "kl_div": F.kl_div,
    "binary_cross_entropy": F.binary_cross_entropy,
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
    "ours: mse_loss": tensor_ops.mse_loss,
}
predictions, targets = torch.tensor([[0.1], [0.2], [0.3], [0.4]]), torch.full((4,), 0.5)
reactions = {}
for name, loss in losses.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            shape = tuple(loss(predictions, targets, reduction="none").shape)
            reactions[name] = f"{'warns' if caught else 'says nothing'} and compares {shape}"
        except (ValueError, RuntimeError):
            reactions[name] = "raises"
    print(f"{name:<34}{reactions[name]}")

# %%
inputs = torch.linspace(-1, 1, 20)[:, None]  # (20, 1)
wanted = 3 * inputs.squeeze(1)  # (20,), a line with slope 3
slopes = {}
for name, target in {"(20, 1) against (20,)": wanted, "equal shapes": wanted[:, None]}.items():
    slope = torch.zeros(1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([slope], 0.5)
    for _ in range(100):
        optimizer.zero_grad()
        ((inputs @ slope - target) ** 2).mean().backward()
        optimizer.step()
    slopes[name] = slope.item()
    print(f"{name}: the slope it finds is {abs(slopes[name]):.2f}")
kinds = {}
for name, reaction in reactions.items():
    kinds.setdefault(reaction.split(" and ")[0], []).append(name)
checked = "true" if list(kinds) == ["raises"] else "false"
report.verdict(
    "1.10",
    "A loss checks that its two tensors match",
    outcome="depends: on the loss" if len(kinds) > 1 else checked,
    evidence="; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items()),
)
assert reactions["ours: mse_loss"] == "raises"

# %% [markdown]
# Where nothing raises, every prediction is compared with every target. The loss falls, and the best
# the model can do is to predict the targets' mean: the slope it finds is 0. The losses of this
# course raise; with torch's, compare the shapes yourself.

# %% [markdown]
# ## 1.11 · “The values of different losses can be compared”
#
# Three forecasters, one of whom errs a little every time, one seldom but wildly, one in between.
# Ask three losses who is best.

# %%
truth = torch.zeros(8)
forecasts = {
    "always a little off": torch.full((8,), 1.5),
    "once far off": torch.tensor([8.0, 0, 0, 0, 0, 0, 0, 0]),
    "in between": torch.tensor([2.5, 2.5, 2.5, 2.5, 0, 0, 0, 0]),
}
measures = {"L1": F.l1_loss, "MSE": F.mse_loss, "Huber": F.huber_loss}
best, costs = {}, {}
print(f"{'':<22}" + "".join(f"{name:>8}" for name in measures))
for name, forecast in forecasts.items():
    costs[name] = {measure: loss(forecast, truth).item() for measure, loss in measures.items()}
    print(f"{name:<22}" + "".join(f"{value:>8.2f}" for value in costs[name].values()))
for measure in measures:
    best[measure] = min(costs, key=lambda name: costs[name][measure])
    print(f"best by {measure}: {best[measure]}")
winners, once = set(best.values()), costs["once far off"].values()
report.verdict(
    "1.11",
    "The values of different losses can be compared",
    outcome="false" if len(winners) > 1 else "true",
    evidence=f"of three forecasters, {len(winners)} are called the best by one loss or another; "
    f"one and the same forecast costs from {min(once):.2f} to {max(once):.2f}",
)

# %% [markdown]
# A loss is a unit and an opinion. L1 counts metres, MSE square metres, cross entropy nats; and each
# has its own idea of what is worse, many small errors or a large one. Compare models by one loss,
# better still by what you want in the end.

# %% [markdown]
# ## 1.12 · “A larger batch always tells more”
#
# The gradient of a batch is an estimate of the gradient of all the data. How far off is it? We take
# batches of growing size from real digits, and for comparison batches of copies of one digit.

# %%
network = torch.zeros(784, 10, requires_grad=True)  # softmax regression


def gradient(rows):
    loss = F.cross_entropy(images[rows] @ network, labels[rows])
    return torch.autograd.grad(loss, network)[0]


def noise_of(size, generator, copies=False, draws=8):
    """How far batches of `size` are from the full gradient, relative to its length."""
    squares = []
    for _ in range(draws):
        rows = torch.randint(len(images), (1 if copies else size,), generator=generator)
        squares.append((gradient(rows.expand(size)) - full).square().sum())
    return (torch.stack(squares).mean().sqrt() / full.norm()).item()


# %%
def noises(copies):
    """One row for each of six seeds, one column for each batch size."""
    return torch.tensor(
        [
            [noise_of(size, runtime.generator_for(seed, size), copies) for size in sizes]
            for seed in range(6)
        ]
    )


full = gradient(torch.arange(len(images)))
sizes = (1, 4, 16, 64, 256, 1024)
real, same = noises(copies=False), noises(copies=True)

# %%
drawn = figures.noise(
    sizes,
    {"different digits": real.mean(dim=0).tolist(), "copies of one": same.mean(dim=0).tolist()},
    caption="Four times as many digits halve the noise. Copies tell nothing new, however many.",
    alt="Noise against batch size, both axes logarithmic: different digits fall along a straight "
    "line of slope minus one half, copies do not fall.",
)
x = torch.tensor(sizes).log()
slopes = ((x - x.mean()) * real.log()).sum(dim=1) / (x - x.mean()).square().sum()  # of each seed
one, many = gradient(torch.tensor([7])), gradient(torch.full((256,), 7))
report.equal("the gradient of 256 copies and that of one", many, one, atol=1e-5)
flat = (same[:, -1] / same[:, 0]).mean().item()
report.verdict(
    "1.12",
    "A larger batch always tells more",
    outcome="false" if flat > 0.5 else "true",
    evidence=f"1,024 copies are {flat:.2f} times as noisy as one; noise of different digits goes "
    f"with the batch size to the power {slopes.mean():.2f}",
    effect=slopes.mean().item(),
    standard_error=slopes.std().item() / len(slopes) ** 0.5,
)
report.holds("the power is about minus one half", -0.6 < slopes.mean().item() < -0.4)

# %% [markdown]
# It is not the size that tells, it is what is different in it. And even then each halving of the
# noise costs four times the work: beyond some size, more steps are the better buy.

# %% [markdown]
# ## 1.13 · “A module finds the layers in any of its attributes”
#
# `self.layer = nn.Linear(...)` looks like plain Python. How does the optimizer find the layer, and
# what if it stands in a list?


# %%
class Model(nn.Module):
    def __init__(self, hold):
        super().__init__()
        self.layers = hold([nn.Linear(4, 4), nn.Linear(4, 1)])

    def forward(self, x):
        return self.layers[1](self.layers[0](x).tanh())


facts = {}
for hold in (list, nn.ModuleList):
    runtime.seed_everything(0)
    model = Model(hold)
    before = [layer.weight.detach().clone() for layer in model.layers]
    one_more = torch.zeros(1, requires_grad=True)  # without any tensor an optimizer raises an error
    optimizer = torch.optim.SGD([*model.parameters(), one_more], 0.1)
    model(torch.ones(8, 4)).square().mean().backward()
    optimizer.step()
    pairs = zip(model.layers, before, strict=True)
    moved = sum(not layer.weight.equal(old) for layer, old in pairs)
    found, saved = len(list(model.parameters())), len(model.state_dict())
    facts[hold.__name__] = (found, moved, saved)
    print(f"{hold.__name__:<11}{found} tensors found, {moved} layers moved, {saved} saved")

# %%
single = nn.Module()
single.layer = nn.Linear(2, 2)
print("is the layer where Python puts attributes?", "layer" in vars(single))
print("is it in _modules?", "layer" in single._modules)
report.verdict(
    "1.13",
    "A module finds the layers in any of its attributes",
    outcome="true" if facts["list"] == facts["ModuleList"] else "false",
    evidence=f"in a list {facts['list'][0]} parameters are found and {facts['list'][1]} layers "
    f"trained, in a ModuleList {facts['ModuleList'][0]} and {facts['ModuleList'][1]}",
)

# %% [markdown]
# `nn.Module` intercepts every assignment and files modules under `_modules` and parameters under
# `_parameters`. A list is neither: its layers compute, and are never trained, moved to a device or
# saved. No error says so; hence `ModuleList`, and a look at `len(list(model.parameters()))`.

# %%
clock.stop()
