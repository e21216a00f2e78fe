# %% [markdown]
# # 04 lab · Why does batch norm help, and when does it hurt?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Three more, 4.1, 4.2 and 4.4, are settled in the
# [lesson](../04_batch_norm.ipynb).

# %%
import copy

import torch
import torch.nn.functional as F
from torch import nn

from course_lib import batch_norm, data, recipes, runtime, train
from course_lib.teaching import experiments, report
from course_lib.teaching.experiments import ch04 as stored
from course_lib.teaching.figures import ch02 as tables
from course_lib.teaching.figures import ch04_lab as figures
from course_lib.teaching.figures.ch02_lab import lines

clock = report.Clock(budget=50)
clothes = data.load("fashion_mnist")
images = F.avg_pool2d(recipes.scale_pixels(clothes.x_train[:20_000]), 2).flatten(1)  # (20000, 196)
labels = clothes.y_train[:20_000]
SEEDS, DEPTH, WIDTH = 5, 6, 64
STEPS = 3 if runtime.is_quick() else 100

# %% [markdown]
# The first claims need many deep networks. Five of them, six hidden layers each, are trained at
# once: their weights are stacked, and `@` does the rest. Batch norm is then `normalise` along the
# examples of each network. It stands before the bend, after it, or nowhere.


# %%
def fresh(gain):
    """Of each layer the weights (SEEDS, in, out), then gammas and betas (SEEDS, 1, out)."""
    generator = runtime.generator_for(0)
    sizes = [196, *[WIDTH] * DEPTH, 10]
    parameters = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        weight = torch.randn(SEEDS, inputs, outputs, generator=generator) * (gain / inputs) ** 0.5
        parameters += [weight, torch.ones(SEEDS, 1, outputs), torch.zeros(SEEDS, 1, outputs)]
    return [parameter.requires_grad_() for parameter in parameters]


def run(x, parameters, place, bend=torch.relu, disturb=None):
    """(SEEDS, N, 196) -> logits (SEEDS, N, 10), and each hidden layer's (SEEDS, N, WIDTH)."""
    bent = []
    for k in range(0, 3 * DEPTH, 3):
        weight, gamma, beta = parameters[k : k + 3]
        x = bend(x @ weight) if place == "after" else x @ weight
        x = beta + (x if place == "nowhere" else gamma * batch_norm.normalise(x, (1,))[0])
        x = disturb(x) if disturb else x
        bent.append(x)
        x = x if place == "after" else bend(x)
    return x @ parameters[-3] + parameters[-1], bent


# %%
def losses_of(logits, labels):
    """The mean loss of each network: (SEEDS, N, 10), (SEEDS, N) -> (SEEDS,)."""
    return F.cross_entropy(logits.mT, labels, reduction="none").mean(dim=1)


def learn(place, rate, bend=torch.relu, disturb=None, steps=STEPS, watch=None):
    """Plain SGD; gives the parameters, and the losses (SEEDS, steps)."""
    parameters = fresh(2.0 if bend is torch.relu else 1.0)
    generator, losses = runtime.generator_for(1), []
    for _ in range(steps):
        rows = torch.randint(len(images), (SEEDS, 128), generator=generator)
        logits, bent = run(images[rows], parameters, place, bend, disturb)
        loss = losses_of(logits, labels[rows])
        gradients = torch.autograd.grad(loss.sum(), parameters, materialize_grads=True)
        if watch:
            watch(parameters, gradients, bent)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate * gradient
        losses.append(loss.detach())
    return parameters, torch.stack(losses, dim=1).nan_to_num(10.0).clamp(max=10.0)


# %% [markdown]
# Each comparison is made for each of the five networks, and counts if it is larger than two of its
# standard errors.


# %%
def error(values):
    """The standard error of a mean over seeds: (seeds, ...) -> (...)."""
    return values.std(dim=0) / len(values) ** 0.5


def sign(values):
    """-1, 0 or 1: below, about or above zero, by two standard errors; values (seeds,)."""
    return int(values.mean() > 2 * error(values)) - int(values.mean() < -2 * error(values))


def shown(values):
    return f"{values.mean():.2f} ± {error(values):.2f}"


# %% [markdown]
# ## 4.3 · “Batch norm belongs after the layer and before the activation”
#
# So the first paper has it. Behind the activation, the next layer would be given what is truly
# centred; before it, half of the values are on either side of the bend. Which order learns faster?
# Is the answer the same for ReLU and for sigmoid?

# %%
RATES = (0.1, 0.3, 1.0)
bends = {"ReLU": torch.relu, "sigmoid": torch.sigmoid}
final = {
    name: {
        f"norm {place}": torch.stack(
            [learn(place, rate, bend)[1][:, -20:].mean(dim=1) for rate in RATES], dim=1
        )  # (SEEDS, rates)
        for place in ("before", "after")
    }
    for name, bend in bends.items()
}

# %%
drawn = lines(
    RATES,
    final,
    ("learning rate", "loss (mean of the last 20 steps)"),
    caption=f"After {STEPS} steps of SGD; lower is better. Compare the lowest points, and "
    "mind that the panels have different scales.",
    alt="Loss against the learning rate, two panels. With ReLU the two orders lie close; with "
    "sigmoid norm after the activation is far lower at the smallest rate.",
    log="x",
)
report.holds(
    "with sigmoid and the smallest rate, the norm is better after",
    drawn["sigmoid"]["norm after"][0] < drawn["sigmoid"]["norm before"][0],
    trained=True,
)


def at_best(values):
    """Each seed's value at the rate that is best on average: (seeds, rates) -> (seeds,)."""
    return values[:, values.mean(dim=0).argmin()]


# %%
gains = {
    name: at_best(orders["norm after"]) - at_best(orders["norm before"])
    for name, orders in final.items()
}  # above zero: the norm is better before the activation
signs = {name: sign(gain) for name, gain in gains.items()}
same = len(set(signs.values())) == 1
outcome = ("true" if 1 in signs.values() else "false") if same else "depends: on the activation"
report.verdict(
    "4.3",
    "Put it after the layer and before the activation",
    outcome=outcome,
    evidence="each order at its best rate, loss with the norm after less loss with it before: "
    + "; ".join(f"{name} {shown(gain)}" for name, gain in gains.items()),
)

# %% [markdown]
# Behind a sigmoid every value is positive and most lie close together; centred and stretched again,
# they serve the next layer far better. A ReLU treats its inputs more kindly, and there the order
# hardly counts. The learning rate matters, too: look at the left and right ends of the lines before
# you believe a comparison made at one rate.

# %% [markdown]
# ## 4.5 · “It works because it removes internal covariate shift”
#
# > **internal covariate shift**: that what a layer is given changes its distribution while the
# > layers below it learn.
#
# If that is the reason, bringing the shift back must spoil it. Behind every batch norm we stretch
# each unit by a random factor and shift it by a random amount, drawn anew at every step (after
# Santurkar et al. 2018). Now the layers above stand on ground that moves. Will it learn like the
# network without batch norm, or like the one with it?

# %%
random = runtime.generator_for(7)


def disturb(x):
    """Stretch each unit by up to a quarter and shift it by up to 3/4; x (SEEDS, N, WIDTH)."""
    stretch, shift = (2 * torch.rand(2, SEEDS, 1, WIDTH, generator=random) - 1).unbind()
    return x * (1 + 0.25 * stretch) + 0.75 * shift


def moves(options, rate):
    """Losses, and how far a unit's mean moves in a step, in standard deviations (SEEDS,)."""
    means, spreads = [], []

    def watch(_, __, bent):
        x = torch.stack(bent).detach()  # (DEPTH, SEEDS, N, WIDTH)
        means.append(x.mean(dim=2))
        spreads.append(x.std(dim=2))

    losses = learn(rate=rate, watch=watch, **options)[1]
    step = torch.stack(means).diff(dim=0).abs() / torch.stack(spreads)[1:]
    return losses, step.mean(dim=(0, 1, 3))


# %%
kinds = {
    "without": {"place": "nowhere"},
    "batch norm": {"place": "before"},
    "batch norm, disturbed": {"place": "before", "disturb": disturb},
}
curves, moved = {}, {}
for kind, options in kinds.items():
    tried = [moves(options, rate) for rate in (0.03, 0.1, 0.3)]
    curves[kind], moved[kind] = min(tried, key=lambda pair: pair[0][:, -50:].mean())
    report.value(f"{kind}: a unit moves at each step by", f"{moved[kind].mean():.2f}", "of its std")
drawn = figures.curves(
    curves,
    ("step", "loss"),
    caption="Each kind at the best of three learning rates; thin lines are the five networks. "
    "Batch norm on moving ground is slower than on firm ground, and faster than none.",
    alt="Three falling curves of the loss: without batch norm highest and most scattered, batch "
    "norm disturbed lower, batch norm lowest.",
)
ends = [drawn[kind][-1] for kind in ("batch norm", "batch norm, disturbed", "without")]
report.holds("on firm ground batch norm ends lowest", ends[0] == min(ends), trained=True)

# %% [markdown]
# (With batch norm alone the mean of a unit is its beta, and moves only as that does.) So to be rid
# of the shift cannot be the reason, or not the only one. What else? Think of the loss as the height
# of a landscape over all weights. A gradient promises: go a step this way, and the loss falls by so
# much. It speaks for the spot where it was taken, and a rough landscape breaks the promise soon. We
# stop two kinds of networks on their way, after 30 steps at the same rate, and take steps of some
# sizes along the gradient of a thousand images. How much of the promise is kept, and how different
# is the gradient at the end of the step?


# %%
def look_down(parameters, place):
    """The losses (SEEDS,) on the first thousand images, and the gradients."""
    logits, _ = run(images[:1000].expand(SEEDS, -1, -1), parameters, place)
    loss = losses_of(logits, labels[:1000].expand(SEEDS, -1))
    return loss.detach(), torch.autograd.grad(loss.sum(), parameters, materialize_grads=True)


def length(tensors):
    return sum(tensor.square().sum(dim=(1, 2)) for tensor in tensors).sqrt()  # (SEEDS,)


def walk(place, distances, steps=30):
    """Shares of the promise kept, and relative changes of the gradient, each (SEEDS, distances)."""
    parameters, _ = learn(place, 0.1, steps=min(STEPS, steps))
    loss, gradients = look_down(parameters, place)
    kept, changed = [], []
    for distance in distances:
        there = [p - distance * g for p, g in zip(parameters, gradients, strict=True)]
        loss_there, gradients_there = look_down(there, place)
        kept.append((loss - loss_there) / (distance * length(gradients) ** 2))
        change = [new - old for new, old in zip(gradients_there, gradients, strict=True)]
        changed.append(length(change) / length(gradients))
    return torch.stack(kept, dim=1), torch.stack(changed, dim=1)


# %%
distances = (0.01, 0.03, 0.1, 0.3)
walks = {kind: walk(kinds[kind]["place"], distances) for kind in ("without", "batch norm")}
drawn = lines(
    distances,
    {
        "share of the promise kept": {kind: pair[0] for kind, pair in walks.items()},
        "change of the gradient": {kind: pair[1] for kind, pair in walks.items()},
    },
    ("length of the step (learning rate)", ""),
    caption="With batch norm the loss does what the gradient says for far longer steps. At 1 on "
    "the right, the gradient has changed by as much as there was of it.",
    alt="Two panels over the step size. The share kept falls from near one to below zero without "
    "batch norm, and stays high with it; the gradient changes several times as much without.",
    log="x",
)
assert drawn["change of the gradient"]["without"] == walks["without"][1].mean(dim=0).tolist()
kept, changed = ({kind: pair[k][:, 2] for kind, pair in walks.items()} for k in (0, 1))
rough = changed["without"] / changed["batch norm"]  # (SEEDS,)

# %%
last = {kind: losses[:, -50:].mean(dim=1) for kind, losses in curves.items()}
gain = last["without"] - last["batch norm, disturbed"]
farther = moved["batch norm, disturbed"] / moved["without"]
shifted_more = sign(moved["batch norm, disturbed"] - moved["without"]) > 0
smoother = sign(changed["without"] - changed["batch norm"]) > 0
report.value("At a step of 0.1 the promise is kept, without", f"{kept['without'].mean():.2f}")
report.value("and with batch norm", f"{kept['batch norm'].mean():.2f}")
early = [walk(kinds[kind]["place"], (0.1,), steps=1)[1].mean() for kind in walks]
report.value("After one step of training the gradient changes, without", f"{early[0]:.2f}")
report.value("and with batch norm", f"{early[1]:.2f}", "of its length")
report.verdict(
    "4.5",
    "It works because it removes internal covariate shift",
    outcome="false" if sign(gain) > 0 and shifted_more and smoother else "depends: on the shift",
    evidence=f"loss without {last['without'].mean():.2f}, with batch norm "
    f"{last['batch norm'].mean():.2f}, disturbed {last['batch norm, disturbed'].mean():.2f}, "
    f"though its units move {farther.mean():.1f} times as far; "
    f"after a step of 0.1 the gradient has changed {rough.mean():.1f} times as much without",
    effect=gain.mean().item(),
    standard_error=error(gain).item(),
)

# %% [markdown]
# With more shift than the plain network has, batch norm still wins. It makes the landscape
# smoother: the gradient can be trusted further, so the steps can be longer. The shift we added does
# cost something; it is noise, after all. And after one step of training the two kinds hardly differ
# in smoothness: that opens up on the way.

# %% [markdown]
# ## 4.6 · “Without it the upper layers converge first, and must learn again”
#
# The gradient comes from above, so the upper layers are said to settle early, and to start over
# when the lower ones have caught up. Three things can be measured for each layer: how large its
# steps are beside its weights; when it has gone half of the way to where it ends; and how much
# longer its path is than the way straight there. What should the claim make of each?


# %%
def norm(matrices):
    return matrices.flatten(-2).norm(dim=-1)  # (..., in, out) -> (...)


def follow(place):
    """Steps beside weights, step at half of the way, path by distance; (SEEDS, layers) each."""
    ratios, weights, halves, detours = [], [], [], []

    def watch(parameters, gradients, _):
        now = [weight.detach().clone() for weight in parameters[::3]]
        pairs = zip(now, gradients[::3], strict=True)
        ratios.append(torch.stack([0.1 * norm(g) / norm(w) for w, g in pairs], dim=1))
        weights.append(now)

    learn(place, 0.1, watch=watch)
    for path in zip(*weights, strict=True):  # of one layer
        path = torch.stack(path)  # (steps, SEEDS, in, out)
        left = norm(path - path[-1])  # (steps, SEEDS)
        halves.append((left > left[0] / 2).sum(dim=0).float())
        detours.append(norm(path.diff(dim=0)).sum(dim=0) / left[0])
    return torch.stack(ratios).mean(dim=0), torch.stack(halves, dim=1), torch.stack(detours, dim=1)


# %%
ways = {"without": follow("nowhere"), "batch norm": follow("before")}
measures = ("step / weights", "step at half of the way", "path / distance")
drawn = lines(
    [*range(1, DEPTH + 2)],
    {measure: {kind: way[k] for kind, way in ways.items()} for k, measure in enumerate(measures)},
    ("layer, from below", ""),
    caption="Layer 1 reads the image, layer 7 gives the logits. Where upper layers settle first, "
    "the middle line falls; where they turn back often, the right one stays high.",
    alt="Three panels over seven layers, with and without batch norm. Both middle lines fall; on "
    "the right the line without stays level and the one with batch norm falls steeply.",
)
straight = drawn["path / distance"]["batch norm"]
report.holds("with batch norm layer 6 walks straighter", straight[5] < straight[0], trained=True)


def upper_less_lower(values):
    """The last three hidden layers less the first three: (SEEDS, layers) -> (SEEDS,)."""
    return values[:, DEPTH - 3 : DEPTH].mean(dim=1) - values[:, :3].mean(dim=1)


# %%
earlier = {kind: -upper_less_lower(way[1]) for kind, way in ways.items()}
longer = {kind: upper_less_lower(way[2]) for kind, way in ways.items()}
ahead = earlier["without"] - earlier["batch norm"]
wander = longer["without"] - longer["batch norm"]
if sign(wander) > 0 and sign(ahead) <= 0:
    outcome = "depends: they wander more without it, but settle no earlier than with it"
else:
    outcome = "true" if sign(wander) > 0 else "false"
report.verdict(
    "4.6",
    "Without it the upper layers converge first, and must learn again",
    outcome=outcome,
    evidence="the upper three hidden layers are half-way earlier than the lower three by "
    + " and ".join(f"{shown(values)} steps ({kind})" for kind, values in earlier.items())
    + "; their path is longer than that of the lower three by "
    + " and ".join(f"{shown(values)} distances ({kind})" for kind, values in longer.items()),
    effect=wander.mean().item(),
    standard_error=error(wander).item(),
)

# %% [markdown]
# The upper layers are half-way sooner, but with batch norm as well: that is no fault it mends. What
# differs is the way. Without it the upper layers go back and forth as much as the lower ones; with
# it they walk much straighter, the higher the more so. The old story, that the lower layers hardly
# move, is told of networks whose gradients vanish: here, without batch norm, the hidden layers
# above the first take steps of nearly equal size beside their weights, because these were scaled
# for it (He's start).

# %% [markdown]
# ## 4.7 · “It allows a much higher learning rate”
#
# How much higher? The lesson's stored runs: the same network, with and without batch norm, over a
# range of learning rates, scored on training images that were held out. Each run is SGD without
# momentum with a one-cycle schedule: the rate climbs to the number on the axis within the first
# quarter of the steps, and falls to nearly 0 after it. What is the highest such peak with which
# every seed comes within five points of the best result of its kind?

# %%
grid = experiments.stored("learning_rate")
trained = grid.values("trained")  # name -> (seeds,)
by_rate = {
    "without" if not norm else "batch norm": torch.stack(
        [trained[stored.setting(norm, rate)] for rate in stored.RATES], dim=1
    )
    for norm in (False, True)
}  # (seeds, rates)
drawn = lines(
    stored.RATES,
    {"": by_rate},
    ("highest learning rate of the cycle", "right answers (%)"),
    caption=f"After {stored.STEPS} steps. On the left there was too little time; on the right "
    "training breaks down.",
    alt="Accuracy against the learning rate: without batch norm a low hill that falls to guessing "
    "early, with batch norm a higher one that falls only at the largest rate.",
    log="x",
)
at_high = {kind: means[stored.RATES.index(stored.HIGH)] for kind, means in drawn[""].items()}
report.holds(
    f"at {stored.HIGH:g} batch norm is more than 15 points ahead",
    at_high["batch norm"] > at_high["without"] + 15,
)
again = experiments.confirm("learning_rate", stored.setting(True, stored.HIGH), trained=5.0)

# %%
highest = {
    kind: max(
        rate
        for rate, scores in zip(stored.RATES, values.unbind(dim=1), strict=True)
        if scores.min() > values.mean(dim=0).max() - 5
    )
    for kind, values in by_rate.items()
}
factor = highest["batch norm"] / highest["without"]
best = {kind: values[:, values.mean(dim=0).argmax()] for kind, values in by_rate.items()}
report.verdict(
    "4.7",
    "It allows a much higher learning rate",
    outcome="true" if factor >= 3 else "false",
    evidence=f"the highest rate at which all seeds train is {highest['without']:g} without and "
    f"{highest['batch norm']:g} with batch norm, {factor:.0f} times as high; at its best rate each "
    f"gets {shown(best['without'])} and {shown(best['batch norm'])} %",
)

# %% [markdown]
# Why? Double the weights in front of a norm: what becomes of the loss, and of their gradient?

# %%
parameters = fresh(2.0)
doubled = [*parameters]
doubled[3] = (2 * parameters[3]).detach().requires_grad_()  # the weights of the second layer
loss, gradients = look_down(parameters, "before")
loss_doubled, gradients_doubled = look_down(doubled, "before")
shrunk = norm(gradients_doubled[3]) / norm(gradients[3])
report.equal("the loss with doubled weights", loss_doubled, loss, rtol=1e-3)
report.equal("their gradient has half the length", shrunk, torch.full((SEEDS,), 0.5), rtol=0.02)

# %% [markdown]
# Weights in front of a norm may grow as they like: doubled, they give the same output, and their
# gradient is halved. So a step that was too long makes the next ones shorter, where without the
# norm it would make them longer. And a rate that may be high need not be chosen carefully, which is
# worth as much as the speed.

# %% [markdown]
# ## 4.8 · “Batch statistics in evaluation do no harm”
#
# If they served in training, why not later? Five convolutional networks and five plain ones, of
# linear layers only, all with batch norm, answer a thousand test images: with the running
# statistics, or left in training mode, each batch by its own. Does it matter how large the batches
# are, and who is in them?


# %%
def plain_network():
    layers = [nn.Flatten()]
    for inputs, outputs in ((784, 64), (64, 64)):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def train_one(make, seed):
    runtime.seed_everything(seed)
    batches = train.Batches(
        recipes.scale_pixels(clothes.x_train[:20_000]), labels, batch_size=128, seed=seed
    )
    schedule = {"schedule": "one_cycle", "warmup": 0.25, "learning_rate": 0.01}
    config = train.FitConfig(60, channels_last=True, seed=seed, **schedule)
    network = make()
    train.fit(network, batches, recipes.classification_loss, config)
    return network.cpu()


makers = {"convolutional": lambda: batch_norm.NormCNN((8, 16, 32)), "plain": plain_network}
networks = {kind: [train_one(make, seed) for seed in range(SEEDS)] for kind, make in makers.items()}

# %%
x, y = recipes.scale_pixels(clothes.x_test[:1000]), clothes.y_test[:1000]
by_class = y.argsort(stable=True)


@torch.no_grad()
def right(network, order, size=None):
    """Percent right by the statistics of batches of that size, or by the running ones."""
    network = copy.deepcopy(network).train(size is not None)
    logits = torch.cat([network(x[rows]) for rows in order.split(size or 1000)])
    return 100 * train.accuracy(logits, y[order])


mixed = torch.arange(1000)
cases = {
    "running": (mixed, None),
    "100\nmixed": (mixed, 100),
    "10\nmixed": (mixed, 10),
    "2\nmixed": (mixed, 2),
    "100\nsorted": (by_class, 100),
}
scores = {
    kind: torch.tensor([[right(network, *case) for case in cases.values()] for network in five])
    for kind, five in networks.items()
}  # (seeds, cases)

# %%
drawn = lines(
    list(cases),
    {"": scores},
    ("statistics of ...", "right answers (%)"),
    caption="The same networks and images. Sorted: nearly all images of a batch show one kind of "
    "garment.",
    alt="Right answers in five cases: high with running statistics and mixed batches of 100, lower "
    "with small batches and by far lowest when sorted; the plain networks lose most.",
)
plain = drawn[""]["plain"]
report.holds("plain, sorted: less than half is right", plain[4] < 50, trained=True)
report.holds("plain, mixed hundreds: hardly a difference", plain[0] - plain[1] < 4, trained=True)
alone = torch.tensor([right(network, mixed, 1) for network in networks["convolutional"]])
report.value("Convolutional, each image alone", f"{alone.mean():.1f}", unit="% right")
try:
    right(networks["plain"][0], mixed, 1)
except ValueError as refusal:
    print("Plain, each image alone:", type(refusal).__name__)
lost = {kind: values[:, :1] - values for kind, values in scores.items()}  # against running ones
harm = torch.stack([values[:, 4] for values in lost.values()]).mean(dim=0)  # sorted, (seeds,)

# %%
report.verdict(
    "4.8",
    "Batch statistics in evaluation do no harm",
    outcome="false" if sign(harm) > 0 else "true",
    evidence="points lost against the running statistics: "
    + "; ".join(
        f"{kind}, sorted {shown(values[:, 4])}, two at a time {shown(values[:, 3])}, mixed "
        f"hundreds {shown(values[:, 1])}"
        for kind, values in lost.items()
    ),
    effect=harm.mean().item(),
    standard_error=error(harm).item(),
)

# %% [markdown]
# A large mixed batch is like those of training, and does no harm. A batch of coats is not: what all
# of them share is taken for the mean and subtracted, and it was what made them coats. Convolutional
# networks suffer less, because each mean is also taken over the pixels of a map; a plain network
# that is shown one image alone has nothing to take a mean over. So call `model.eval()`.

# %% [markdown]
# ## 4.9 · “`track_running_stats=False` can be ignored”
#
# The layer then keeps no running statistics. What can it do in evaluation? Give it one image in
# different company.

# %%
generator = runtime.generator_for(0)
one, some, others = (torch.randn(n, 3, 5, 5, generator=generator) for n in (1, 7, 7))
depends = {}
for library in (nn, batch_norm):
    for tracks in (True, False):
        layer = library.BatchNorm2d(3, track_running_stats=tracks)
        layer(others)  # a batch in training
        layer.eval()
        with_some, with_others = (layer(torch.cat([one, company])) for company in (some, others))
        depends[library.__name__, tracks] = not torch.allclose(with_some[0], with_others[0])
        name = f"{library.__name__.split('.')[-1]}, track_running_stats={tracks}"
        print(f"{name:<40} saves {list(layer.state_dict())[2:]}")
        print(f"{'':<40} depends on the company: {depends[library.__name__, tracks]}")

# %% [markdown]
# And what does it mean for an answer? The first convolutional network, without its running
# statistics and in evaluation mode: each test image among a hundred mixed ones, and among a hundred
# sorted ones. How many are called something else? Below, the one whose answer changes most.

# %%
untracked = copy.deepcopy(networks["convolutional"][0]).eval()
for layer in untracked.modules():
    if isinstance(layer, nn.BatchNorm2d):
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
with torch.no_grad():
    answers = {
        name: torch.cat([untracked(x[rows]) for rows in order.split(100)])[order.argsort()]
        for name, order in {"in mixed company": mixed, "among its like": by_class}.items()
    }
    tracked = networks["convolutional"][0](x)
answers = {"running statistics": tracked, **answers}
answers = {name: logits.softmax(dim=1) for name, logits in answers.items()}  # (1000, 10) each
_, in_mixed, in_sorted = answers.values()
changed = in_mixed.argmax(dim=1) != in_sorted.argmax(dim=1)
most = (in_mixed - in_sorted).abs().sum(dim=1).argmax()

# %%
drawn = figures.company(
    x[most],
    {name: probabilities[most] for name, probabilities in answers.items()},
    clothes.classes,
    caption="One image, one network in evaluation mode. Without running statistics the answer "
    "depends on what else is in the batch.",
    alt="A garment, and three bar charts of class probabilities: the last, among its like, names "
    "another class than the one in mixed company.",
)
assert set(drawn.values()) <= set(clothes.classes)
with_tracking, without = (
    [depends[library, tracks] for library in ("torch.nn", "course_lib.batch_norm")]
    for tracks in (True, False)
)
report.verdict(
    "4.9",
    "`track_running_stats=False` can be ignored",
    outcome="false" if all(without) and not any(with_tracking) else "true",
    evidence=f"in evaluation the same image gets other values in other company; of a thousand test "
    f"images {changed.sum()} are called something else among their like",
)

# %% [markdown]
# Without running statistics there is only the batch, in evaluation as in training. Then an answer
# changes with its neighbours, and cannot be repeated for one image alone. It has its uses, where
# each batch comes from a world of its own, but it is a choice and no detail.

# %% [markdown]
# ## 4.10 · “Layer norm is batch norm on another axis”
#
# Four examples of five features. Turn the table on its side, let batch norm take features for
# examples, and turn it back. Is that layer norm in training? In evaluation? And whose are the
# gammas?

# %%
table = torch.randn(4, 5, generator=runtime.generator_for(3), dtype=torch.float64)
later = table + 2  # the next batch
by_layer = batch_norm.LayerNorm(5).double()
turned = batch_norm.BatchNorm1d(4).double()  # its channels are the examples
in_training = turned(table.T).T
report.equal("in training", in_training, by_layer(table), atol=1e-12)
maps = torch.randn(4, 3, 6, 6, generator=runtime.generator_for(4), dtype=torch.float64)
maps_turned = batch_norm.BatchNorm2d(4).double()(maps.transpose(0, 1)).transpose(0, 1)
by_image = batch_norm.LayerNorm((3, 6, 6)).double()
report.equal("in training, images", maps_turned, by_image(maps), atol=1e-12)
by_layer.eval(), turned.eval()
pairs = {"layer norm": by_layer(later), "batch norm, turned": turned(later.T).T}
drawn = tables.tables(
    {"the next batch": later.round(decimals=1)}
    | {name: values.detach().round(decimals=1) for name, values in pairs.items()},
    caption="In evaluation. A row is an example: only layer norm brings each to mean 0.",
    alt="Three tables of four rows and five columns: a batch with a mean near two, the same with "
    "rows of mean zero by layer norm, and by the turned batch norm rows that keep a large mean.",
)

# %%
means = {name: torch.tensor(drawn[name]).mean(dim=1).abs().max() for name in pairs}
assert means["layer norm"] < 0.06 and means["batch norm, turned"] > 1  # one digit is shown
gap = (pairs["layer norm"] - pairs["batch norm, turned"]).abs().max().item()
print("gammas of layer norm:", tuple(by_layer.weight.shape), "one for each feature")
print("gammas of the turned batch norm:", tuple(turned.weight.shape), "one for each example")
try:
    turned(later[:3].T)
except ValueError as refusal:
    print("three examples instead of four:", refusal)
report.equal("layer norm, three of them", by_layer(later[:3]), by_layer(later)[:3], atol=1e-12)
equal_in_training = torch.allclose(in_training, by_layer(table))
report.verdict(
    "4.10",
    "Layer norm is batch norm on another axis",
    outcome="depends: in training yes, in evaluation no" if gap > 0.1 else "true",
    evidence=f"turned on its side, batch norm equals layer norm in training: {equal_in_training}; "
    f"in evaluation they differ by up to {gap:.1f}",
)

# %% [markdown]
# The arithmetic is one: subtract a mean, divide by a standard deviation. But layer norm needs
# nobody else, so it has nothing to remember, does the same in training and evaluation, and takes
# any number of examples; that is why the sequences of chapter 06 use it. And its gammas belong to
# features, where those of the turned batch norm would belong to the first, the second, the third
# example.

# %%
clock.stop()
