# %% [markdown]
# # 05 lab · What do residual blocks do, and what does their depth cost?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 5.3 and 5.8 are settled in the
# [lesson](../05_resnet.ipynb).

# %%
import copy

import torch
from torch import nn

from course_lib import recipes, resnet, runtime, train
from course_lib.teaching import experiments, plot, report
from course_lib.teaching.experiments import ch05 as stored
from course_lib.teaching.figures import ch05_lab as figures
from course_lib.teaching.figures.ch02_lab import lines
from course_lib.teaching.figures.ch03 import standard_error

clock = report.Clock(budget=70)
SEEDS = 3
drawn = [recipes.few_clothes(seed, 10_000) for seed in range(SEEDS)]  # (chosen, held out) each

# %% [markdown]
# ## 5.2 · “A plain network gets worse when it is deeper, on the training set”
#
# A deeper network could copy a shallower one and let its other layers do nothing, so on the images
# it learns from it should never be worse. Stored runs of 8, 20 and 44 layers, all with batch norm,
# plain and with shortcuts, trained equally long: from which depth will the plain one fall behind?

# %%
grid = experiments.stored("5.2")
loss, known, new = (grid.values(name) for name in ("loss", "train_accuracy", "test_accuracy"))
steps = next(iter(grid.experiment.settings.values()))["steps"]
shown = figures.curves(
    range(steps // stored.PARTS, steps + 1, steps // stored.PARTS),
    {
        f"{layers} layers": {kind: loss[f"{layers} {kind}"] for kind in ("residual", "plain")}
        for layers in stored.DEPTHS
    },
    ("step", "training loss"),
    caption="Strong: means; pale: each of three seeds. The deeper, the wider the gap.",
    alt="Three panels of training loss over the steps, for 8, 20 and 44 layers: plain and residual "
    "networks together in the first, apart in the second, far apart in the last.",
)
for name in known:
    layers_of, kind = name.split()
    report.value(
        f"{layers_of} layers, {kind}, right on training and on held-out images",
        f"{known[name].mean():.1f} and {new[name].mean():.1f}",
        unit="%",
    )

# %%
again = experiments.confirm("5.2", "8 residual", train_accuracy=2.0)


# %%
def change(kind, shallow, deep):
    """What more depth gains, in points of training accuracy, (seeds,)."""
    return known[f"{deep} {kind}"] - known[f"{shallow} {kind}"]


def falls(differences):
    """Whether the mean lies below zero by two standard errors, and by one point."""
    return differences.mean() < min(-2 * standard_error(differences), torch.tensor(-1.0))


steps_down = {"plain": [], "residual": []}
for kind, found in steps_down.items():
    for shallow, deep in zip(stored.DEPTHS, stored.DEPTHS[1:], strict=False):
        difference = change(kind, shallow, deep)
        found.append(bool(falls(difference)))
        report.value(
            f"{kind}, from {shallow} to {deep} layers",
            f"{difference.mean():+.1f} ± {standard_error(difference):.1f} points",
        )

# %% [markdown]
# Is it the depth alone, or also that there are few steps? The plain networks of 8 and 20 layers
# once more, stored as well, with three times as many.

# %%
longer = experiments.stored("5.2_longer").values("train_accuracy")
later = longer["20 plain"] - longer["8 plain"]
report.value(
    "plain, from 8 to 20 layers, three times as long",
    f"{later.mean():+.1f} ± {standard_error(later):.1f} points",
)

# %%
worse = steps_down["plain"]
if all(worse):
    outcome = "true" if falls(later) else "depends: at 20 layers in few steps only, at 44 clearly"
else:
    outcome = "depends: with batch norm only the deepest" if worse[-1] else "false"
report.verdict(
    "5.2",
    "A plain net gets worse when deeper, on the training set",
    outcome=outcome,
    evidence=f"plain, 8, 20 and 44 layers: {known['8 plain'].mean():.1f}, "
    f"{known['20 plain'].mean():.1f}, {known['44 plain'].mean():.1f} % of the training images; "
    f"residual: {known['8 residual'].mean():.1f}, {known['20 residual'].mean():.1f}, "
    f"{known['44 residual'].mean():.1f} %; with three times the steps 20 plain layers are "
    f"{later.mean():+.1f} points from 8",
    effect=-change("plain", 20, 44).mean().item(),
    standard_error=standard_error(change("plain", 20, 44)).item(),
)

# %% [markdown]
# This is no overfitting: the images that suffer are those it learned from. Nor is it a lack of
# power, for the same layers with shortcuts can do the task. It is the search that fails within
# these steps. Batch norm only puts it off, by keeping signals and gradients at a useful size; and
# more steps narrow the gap.

# %% [markdown]
# ## 5.1 · “Adding a residual block can never hurt”
#
# A block whose branch gives 0 passes on what comes in. Put such blocks into a network, one behind
# each of its own: what will its logits be, in evaluation and in training?


# %%
def with_closed_blocks(network):
    """A copy with a closed block behind each of its own."""
    deeper = copy.deepcopy(network)
    for number, stage in enumerate(deeper.stages):
        channels = stage[-1].bn2.num_features
        added = [type(block)(channels, channels) for block in stage]
        for block in added:
            block.close_branch()
        pairs = zip(stage, added, strict=True)
        deeper.stages[number] = nn.Sequential(*(block for pair in pairs for block in pair))
    return deeper


# %%
def layers(network):
    """How many layers have weights, batch norms left out."""
    return sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())


runtime.seed_everything(0)
images = drawn[0][1][0][:200]
same = []
for block in (resnet.BasicBlock, resnet.PreActivationBlock):
    network = resnet.deep_resnet(20, (8, 16, 32), pool=True, block=block)
    deeper = with_closed_blocks(network)
    for training in (False, True):
        logits, logits_of_deeper = (n.train(training)(images) for n in (network, deeper))
        same.append(logits.equal(logits_of_deeper))
    print(f"{block.__name__}: {layers(network)} layers and {layers(deeper)}, equal: {same[-2:]}")

# %% [markdown]
# So as a function nothing is lost, to the last bit. And after training, from an ordinary start? The
# stored runs of 5.2 know: what did more residual blocks gain on the training images, and on others?

# %%
gains = {
    f"{shallow} to {deep} layers": torch.stack(
        [scores[f"{deep} residual"] - scores[f"{shallow} residual"] for scores in (known, new)]
    )
    for shallow, deep in zip(stored.DEPTHS, stored.DEPTHS[1:], strict=False)
}
bars = {
    f"{name}, {which}": values[row]
    for name, values in gains.items()
    for row, which in enumerate(("training images", "held-out images"))
}
shown = plot.bars(
    {name: values.mean().item() for name, values in bars.items()},
    "what more residual blocks gain (points)",
    errors={name: standard_error(values).item() for name, values in bars.items()},
    caption="Means of three seeds with standard errors. Bars to the left: the deeper one is worse.",
    alt="Four bars: the gain from 8 to 20 and from 20 to 44 residual layers, on training images "
    "and on held-out ones.",
)

# %%
hurt = [bool(falls(values[0])) for values in gains.values()]
report.holds("closed blocks change no logit, in evaluation or in training", all(same))
report.verdict(
    "5.1",
    "Adding a residual block can never hurt",
    outcome="depends: what it can compute is kept, how far it learns in given steps is not"
    if all(same) and any(hurt)
    else "true",
    evidence="closed blocks leave every logit as it is; trained, on training images: "
    + ", ".join(
        f"{name} {values[0].mean():+.1f} ± {standard_error(values[0]):.1f} points"
        for name, values in gains.items()
    ),
)

# %% [markdown]
# That a deeper network *can* be as good says nothing of the one that training finds. (What the
# deepest lose is little, and with three seeds not far above its error: “can hurt” rests on that.)
# In few steps the many blocks have more to sort out, each adding noise to the sum at first; and
# every step takes longer. `zero_init=True` begins with all branches closed, which is this claim
# made a starting point.

# %% [markdown]
# ## 5.4 · “Early blocks fit first and later ones the rest, like a series”
#
# If a residual network is a sum, one can leave out one of its terms, or let two change places, and
# cut the sum off early for a coarse answer. Networks of 20 layers, nine blocks in three stages,
# residual and plain, three of each.


# %%
def learn(seed, shortcut="padding", classes=range(10), steps=90, **options):
    """A network of 20 layers that has learned to tell the given classes of clothes apart."""
    (images, labels), _ = drawn[seed]
    chosen = torch.isin(labels, torch.tensor(list(classes)))
    batches = train.Batches(images[chosen], labels[chosen], batch_size=64, seed=seed)
    runtime.seed_everything(seed)
    network = resnet.deep_resnet(20, (8, 16, 32), shortcut, pool=True, **options)
    train.fit(network, batches, recipes.classification_loss, stored.fit_config(seed, steps))
    return network


# %%
def right(network, seed):
    """Percent of five hundred held-out images."""
    images, labels = (tensor[:500] for tensor in drawn[seed][1])
    return 100 * train.accuracy(train.predict(network, images, precision="float32"), labels)


kinds = {"residual": "padding", "plain": "none"}
networks = {kind: [learn(s, shortcut) for s in range(SEEDS)] for kind, shortcut in kinds.items()}
whole = {}
for kind, trained in networks.items():
    whole[kind] = torch.tensor([right(network, s) for s, network in enumerate(trained)])
    report.value(f"{kind}, right on held-out images", f"{whole[kind].mean():.1f}", unit="%")

# %% [markdown]
# A block that keeps its input's shape is taken out by putting an identity in its place; the first
# of stages 2 and 3 must stay, as it changes the shape. Before you look: what is left of each
# network when one block of its nine is gone?

# %%
NAMES = [f"{stage}.{number}" for stage in (1, 2, 3) for number in (1, 2, 3)]
REMOVABLE = [name for name in NAMES if name not in ("2.1", "3.1")]


def rebuild(network, places):
    """A copy whose blocks stand at other places: `places` says for each which one comes there, or
    None for an identity."""
    blocks = dict(zip(NAMES, (block for stage in network.stages for block in stage), strict=True))
    chain = [places.get(name, name) for name in NAMES]
    changed = copy.copy(network)
    changed._modules = {**network._modules}  # the stages are replaced, all else is shared
    changed.stages = nn.Sequential(*(nn.Identity() if n is None else blocks[n] for n in chain))
    return changed


def after(kind, places):
    """What is right after the change, of each seed's network: (seeds,)."""
    changed = [rebuild(network, places) for network in networks[kind]]
    return torch.tensor([right(network, seed) for seed, network in enumerate(changed)])


dropped = {kind: {name: after(kind, {name: None}) for name in REMOVABLE} for kind in networks}
PAIRS = [("1.1", "1.2"), ("1.2", "1.3"), ("2.2", "2.3"), ("3.2", "3.3")]
swapped = {kind: {f"{a}, {b}": after(kind, {a: b, b: a}) for a, b in PAIRS} for kind in networks}

# %%
shown = figures.by_block(
    {"one block taken out": dropped, "two blocks change places": swapped},
    "right on held-out images (%)",
    caption="Means of three networks with standard errors. 2.3 is the third block of stage 2; "
    "dotted lines part the stages. Which network bears it?",
    alt="Two panels of accuracy by block, residual above plain: the residual networks keep most of "
    "it when a block is taken out or two change places, the plain ones lose most.",
)


def mean_loss(kind, damaged):
    """Points lost, the mean of all damages, (seeds,)."""
    return whole[kind] - torch.stack(list(damaged[kind].values())).mean(dim=0)


lost = {kind: (mean_loss(kind, dropped), mean_loss(kind, swapped)) for kind in networks}
for kind, (by_dropping, by_swapping) in lost.items():
    report.value(
        f"{kind}, lost by taking one out and by changing places",
        f"{by_dropping.mean():.1f} and {by_swapping.mean():.1f}",
        unit="points",
    )

# %% [markdown]
# Now the series is cut off: all branches behind a block are closed. If early terms fit first and
# later ones the rest, how should this curve rise?


# %%
def cut_off(network, kept):
    """A copy in which only the branches of the first `kept` blocks are open."""
    changed = copy.deepcopy(network)
    blocks = [block for stage in changed.stages for block in stage]
    for block in blocks[kept:]:
        block.close_branch()
    return changed


cuts = {}
for kept, name in enumerate(NAMES, start=1):
    scores = [right(cut_off(n, kept), seed) for seed, n in enumerate(networks["residual"])]
    cuts[name] = torch.tensor(scores)
shown = figures.by_block(
    {"all branches behind this block closed": {"residual": cuts}},
    "right on held-out images (%)",
    caption="Guessing is right in one of ten. A series would be nearly right early on.",
    alt="Accuracy of the residual networks by the last open block: near guessing for most of them, "
    "and rising steeply in the last stage.",
)
half_way = cuts["2.2"]  # five of nine blocks

# %%
gain = lost["plain"][0] - lost["residual"][0]
loose = [lost["residual"][i].mean() < lost["plain"][i].mean() / 2 for i in (0, 1)]
coarse = half_way.mean() > whole["residual"].mean() / 2
if all(loose) and coarse:
    outcome = "true"
elif any(loose):
    outcome = "depends: like a sum whose terms can be missed, not like a series to be cut off"
else:
    outcome = "false"
report.verdict(
    "5.4",
    "Early blocks fit first and later ones the rest, like a series",
    outcome=outcome,
    evidence=f"a missing block costs {lost['residual'][0].mean():.1f} points, and "
    f"{lost['plain'][0].mean():.1f} in a plain network; two that change places cost "
    f"{lost['residual'][1].mean():.1f} and {lost['plain'][1].mean():.1f}; the first five blocks "
    f"alone are right on {half_way.mean():.0f} %, all nine on {whole['residual'].mean():.0f} %",
    effect=gain.mean().item(),
    standard_error=standard_error(gain).item(),
)

# %% [markdown]
# In a plain network each block speaks only to the next, and a missing one leaves it with inputs it
# never saw. With shortcuts a missing block takes one term out of a sum, and most sums bear that,
# the first block's least. But the terms were learned together: nothing asked the early ones to be
# an answer on their own.

# %% [markdown]
# ## 5.5 · “The gradient pushes useless blocks to zero”
#
# How large is what a branch adds, beside what comes in? Two classes that are easily told apart,
# trousers and bags, should need few blocks of the nine. If the claim holds, most branches must fade
# when these are learned. A second start, with all branches closed, shows what the gradient opens.


# %%
@torch.no_grad()
def shares(network, images):
    """Size of each block's branch relative to what its shortcut brings: (blocks,)."""
    network = copy.deepcopy(network).train()  # a fresh one has no other statistics yet
    x, found = network.stem(images), []
    for stage in network.stages:
        for block in stage:
            found.append((block.branch(x).norm() / block.downsample(x).norm()).item())
            x = block(x)
    return torch.tensor(found)


# %%
EASY = (1, 8)  # trousers and bags
fresh = []
for seed in range(SEEDS):
    runtime.seed_everything(seed)
    fresh.append(resnet.deep_resnet(20, (8, 16, 32), pool=True))
cases = {
    "at the start": fresh,
    "ten classes": networks["residual"],
    "two classes": [learn(seed, classes=EASY, steps=40) for seed in range(SEEDS)],
    "two classes, closed at first": [
        learn(seed, classes=EASY, steps=40, zero_init=True) for seed in range(SEEDS)
    ],
}
sizes = {}
for name, trained in cases.items():
    values = torch.stack([shares(n, drawn[s][1][0][:500]) for s, n in enumerate(trained)])
    sizes[name] = dict(zip(NAMES, values.T, strict=True))

# %%
shown = figures.by_block(
    {"": sizes},
    "branch / shortcut (norms)",
    caption="Means of three networks with standard errors. A block that fades would fall to 0.",
    alt="Four lines over nine blocks: at the start, after ten classes and after two, the branches "
    "are of similar size; where they began closed and two classes were learned they stay small.",
)

# %% [markdown]
# Which blocks are useless? Those whose branch can be closed and no answer changes for the worse, or
# hardly one in a hundred. Have they faded?


# %%
def harm(network, seed):
    """Points lost on trousers and bags by closing the branch of each block, (blocks,)."""
    images, labels = drawn[seed][1]
    kept = torch.isin(labels, torch.tensor(EASY))
    scores = []
    for place in range(-1, len(NAMES)):
        changed = copy.deepcopy(network)
        if place >= 0:
            [block for stage in changed.stages for block in stage][place].close_branch()
        logits = train.predict(changed, images[kept], precision="float32")
        scores.append(100 * train.accuracy(logits, labels[kept]))
    return torch.tensor(scores[:1]) - torch.tensor(scores[1:])


useless = torch.stack([harm(n, s) for s, n in enumerate(cases["two classes"])]) < 1
table = {name: torch.stack(list(blocks.values()), dim=1) for name, blocks in sizes.items()}
start, end, opened = (
    torch.stack([row[mask].mean() for row, mask in zip(table[name], useless, strict=True)])
    for name in ("at the start", "two classes", "two classes, closed at first")
)  # (SEEDS,) each: means over the useless blocks
report.value("Useless blocks, of nine", f"{useless.sum(dim=1).float().mean():.1f}")

# %%
change_of_size = end / start - 1
if end.mean() < start.mean() / 4:
    outcome = "true"
elif opened.mean() < end.mean() / 2:
    outcome = "depends: on where they began; it leaves them about as they were"
else:
    outcome = "false"
report.verdict(
    "5.5",
    "The gradient pushes useless blocks to zero",
    outcome=outcome,
    evidence=f"branches of blocks that are of no use: {start.mean():.2f} of the shortcut's size at "
    f"the start, {end.mean():.2f} after training; {opened.mean():.2f} if closed at first",
    effect=change_of_size.mean().item(),
    standard_error=standard_error(change_of_size).item(),
)

# %% [markdown]
# Of no use is not the same as harmful: where a branch makes no answer worse, the loss has no reason
# to shrink it, and its gradient is next to nothing. What *would* push it to zero is weight decay on
# the scale of its last batch norm. Starting closed has the same result the other way about: only
# what is of use gets opened.

# %% [markdown]
# ## 5.6 · “The learning rate scales as 0.1 x batch / 256”
#
# Twice the batch, twice the rate, with 0.1 for batches of 256. Stored runs of a small network with
# SGD and momentum, two epochs for each of three batch sizes and five rates. Where will the best
# rates lie, and will they grow in step with the batch?

# %%
held_out = experiments.stored("5.6").values("loss")
losses = {
    size: torch.stack([held_out[f"{size}, {rate:g}"] for rate in stored.RATES], dim=1)
    for size in stored.BATCH_SIZES
}  # (seeds, rates) each
rule = {size: 0.1 * size / 256 for size in stored.BATCH_SIZES}
shown = figures.rates(
    stored.RATES,
    losses,
    rule,
    "loss on held-out images",
    caption="Means of three seeds with standard errors. Dashed, in the same colours: the rule.",
    alt="Held-out loss by learning rate for batches of 16, 64 and 256, each a valley, the further "
    "right the larger the batch; the rule's dashed lines lie far to the left of their floors.",
)
again = experiments.confirm("5.6", "64, 0.1", accuracy=3.0)

# %%
best = torch.stack([stored.best_rate(stored.RATES, row) for row in losses.values()], dim=1)
for size, found in zip(stored.BATCH_SIZES, best.T, strict=True):
    report.value(
        f"batches of {size}: best rate, and by the rule", f"{found.mean():.3f}, {rule[size]:.3f}"
    )
doublings = torch.tensor(stored.BATCH_SIZES[-1] / stored.BATCH_SIZES[0]).log2()
exponent = (best[:, -1] / best[:, 0]).log2() / doublings  # (seeds,): 1 by the rule
error = standard_error(exponent)
grows = (exponent.mean() - 1).abs() < max(2 * error, torch.tensor(0.15))
fits = 0.5 < best[:, -1].mean() / rule[256] < 2
outcome = "true" if grows and fits else "depends: on the network and the number of steps"
report.verdict(
    "5.6",
    "The learning rate scales as 0.1 x batch / 256",
    outcome=outcome,
    evidence=f"the best rate grows with the batch to the power {exponent.mean():.2f} ± {error:.2f} "
    f"(1 by the rule, 0.5 by the root of the batch); at 256 it is {best[:, -1].mean():.2f}",
)

# %% [markdown]
# The rule was found with a large network that is trained for many epochs. In a short run the
# weights have far to go in few steps, so high rates pay, and most of all for small batches, to
# which the rule gives least. Take it as a first guess, and try the rates about it.

# %% [markdown]
# ## 5.7 · “Bigger batches are faster per sample but need more epochs”
#
# Stored runs of the same network on 5,000 images: four batch sizes for one, two and four epochs, on
# one core. From which size on is there nothing more to gain in speed, and what does it cost?

# %%
grid = experiments.stored("5.7")
right_by, speeds = grid.values("accuracy"), grid.values("images_per_second")
accuracy = {
    f"{epochs} epochs" if epochs > 1 else "1 epoch": torch.stack(
        [right_by[f"{size}, {epochs}"] for size in stored.SIZES], dim=1
    )
    for epochs in stored.EPOCHS
}  # (seeds, sizes) each
runs = [[speeds[f"{size}, {epochs}"] for size in stored.SIZES] for epochs in stored.EPOCHS]
# The fastest of each seed's runs: what else the machine does can only make one slower.
speed = torch.stack([torch.stack(row, dim=1) for row in runs]).amax(dim=0)  # (seeds, sizes)

# %%
shown = lines(
    [str(size) for size in stored.SIZES],
    {"images a second": {"": speed}, "right on held-out images (%)": accuracy},
    ("batch size", ""),
    caption="Means of three seeds with standard errors. Speed is bought with accuracy per epoch. "
    "Where an epoch has few steps, the seeds differ much: look at the bars.",
    alt="Two panels by batch size: images a second, rising steeply at first and then level; "
    "accuracy after one, two and four epochs, falling with the size.",
)
again = experiments.confirm("5.7", "64, 2", accuracy=3.0)

# %%
mean_speed = speed.mean(dim=0)
knee = next(
    size
    for size, value in zip(stored.SIZES, mean_speed, strict=True)
    if value > 0.8 * mean_speed.max()
)
goal = accuracy["1 epoch"][:, 0].mean()  # of the smallest batches, after one epoch
needed = {}
for place, size in enumerate(stored.SIZES):
    reached = [
        e
        for e, v in zip(stored.EPOCHS, accuracy.values(), strict=True)
        if v[:, place].mean() >= goal
    ]
    needed[size] = reached[0] if reached else f"more than {stored.EPOCHS[-1]}"
    report.value(f"batches of {size}", f"{mean_speed[place]:,.0f} images/s, epochs: {needed[size]}")

# %%
behind = accuracy["1 epoch"][:, 0] - accuracy["1 epoch"][:, -1]
faster = mean_speed[-1] > 1.1 * mean_speed[0]
slower = behind.mean() > 2 * standard_error(behind)
outcome = "true" if faster and slower else "depends: on the size" if faster or slower else "false"
report.verdict(
    "5.7",
    "Bigger batches are faster per sample but need more epochs",
    outcome=outcome,
    evidence=f"from {stored.SIZES[0]} to {stored.SIZES[-1]} the speed grows "
    f"{mean_speed[-1] / mean_speed[0]:.1f} times, most of it up to {knee}, the knee; what batches "
    f"of {stored.SIZES[0]} learn in 1 epoch takes {needed[knee]} epochs at {knee}, and "
    f"{needed[stored.SIZES[-1]]} at {stored.SIZES[-1]}",
    effect=behind.mean().item(),
    standard_error=standard_error(behind).item(),
)

# %% [markdown]
# A large batch spends less on each image until the machine is busy all the time; behind that knee
# it only takes fewer steps, and a few dozen steps do not go far, even at a higher rate. With fewer
# still, not even batch norm's running averages arrive, and evaluation suffers beyond the loss. The
# best size stands near the knee, which on a GPU lies much further to the right.

# %%
clock.stop()
