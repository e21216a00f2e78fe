# %% [markdown]
# # 03 lab · What does dropout do to a network, and where?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Three more, 3.1, 3.7 and 3.8, are settled in the
# [lesson](../03_dropout.ipynb).

# %%
import warnings

import torch
import torch.nn.functional as F

from course_lib import data, dropout, recipes, runtime
from course_lib.teaching import experiments, plot, report
from course_lib.teaching.figures import ch03 as figures

clock = report.Clock(budget=50)
clothes = data.load("fashion_mnist")


def shrink(images):
    """Means of 2x2 pixels, as rows: (N, 1, 28, 28) -> (N, 196)."""
    return F.avg_pool2d(images, 2).flatten(1)


SEEDS, IMAGES = 6, 1000
STEPS = 3 if runtime.is_quick() else 600
drawn = [recipes.few_clothes(seed, IMAGES)[0] for seed in range(SEEDS)]
images = torch.stack([shrink(x) for x, _ in drawn])  # (SEEDS, 1000, 196)
labels = torch.stack([y for _, y in drawn])  # (SEEDS, 1000)
test_images = shrink(recipes.scale_pixels(clothes.x_test))  # (10000, 196)

# %% [markdown]
# Some claims need many small networks. Six of them, with one hidden layer each and a thousand
# images of their own, are trained at once: their weights are stacked, and `@` does the rest.


# %%
def run(x, weights, p=(0, 0, 0), generator=None):
    """Logits, with dropout of p on the inputs, on the hidden values, and on the logits."""
    w1, b1, w2, b2 = weights
    hidden = (dropout.dropout(x, p[0], generator=generator) @ w1 + b1).relu()
    logits = dropout.dropout(hidden, p[1], generator=generator) @ w2 + b2
    return dropout.dropout(logits, p[2], generator=generator)


# %%
def train_six(labels, p=(0, 0, 0), decay=0.0):
    """The trained weights of six networks: (SEEDS, 196, 128), ... (SEEDS, 1, 10)."""
    generator = runtime.generator_for(0)
    shapes = (196, 128), (1, 128), (128, 10), (1, 10)
    scales = (2 / 196) ** 0.5, 0, (1 / 128) ** 0.5, 0
    weights = [
        (scale * torch.randn(SEEDS, *shape, generator=generator)).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    optimizer = torch.optim.AdamW(weights, 3e-3, weight_decay=decay)
    for _ in range(STEPS):
        rows = torch.randint(IMAGES, (SEEDS, 100), generator=generator)
        batch = images.gather(1, rows[:, :, None].expand(-1, -1, 196))  # (SEEDS, 100, 196)
        logits = run(batch, weights, p, generator)  # -> (SEEDS, 100, 10)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.gather(1, rows).flatten()) * SEEDS
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [weight.detach() for weight in weights]


# %%
def right(weights, x, labels):
    """Percent right of each of the six, (SEEDS,)."""
    return 100 * (run(x, weights).argmax(dim=2) == labels).float().mean(dim=1)


plain = train_six(labels)
scores = right(plain, test_images, clothes.y_test)
report.value("Six networks, right on the test images", f"{scores.mean():.1f}", unit="%")
report.value("and on their own", f"{right(plain, images, labels).mean():.1f}", unit="%")

# %% [markdown]
# ## 3.2 · “Multiplying by a mask is faster than writing zeros by index”
#
# Both give the same values and the same gradient. Which is faster: to multiply everything, or to
# touch only what has to go?

# %%
import time

x = torch.rand(256, 1568, generator=runtime.generator_for(0)).requires_grad_()
kept = dropout.keep_mask(x.shape, 0.5, runtime.generator_for(1))


def by_product(x):
    return x * (kept.to(x.dtype) * 2)


def by_index(x):
    thinned = x * 2
    thinned[~kept] = 0
    return thinned


def by_choice(x):
    return torch.where(kept, x * 2, 0.0)


# %%
ways = {"multiply by a mask": by_product, "write zeros by index": by_index, "where": by_choice}
seconds, gradients = {name: [] for name in ways}, {}
for _ in range(30):  # in turns, so that a busy moment hits all of them
    for name, way in ways.items():
        started = time.perf_counter()
        (gradients[name],) = torch.autograd.grad(way(x).sum(), x)
        seconds[name].append(time.perf_counter() - started)

# %%
for name in ("write zeros by index", "where"):
    report.equal(f"gradient, {name}", gradients[name], gradients["multiply by a mask"])
milliseconds = {
    name: 1000 * torch.tensor(values).median().item() for name, values in seconds.items()
}
plot.bars(
    milliseconds,
    "milliseconds, forward and backward",
    caption="The median of thirty turns over 256 x 1,568 values, half of them dropped.",
    alt="Three bars of milliseconds; writing by index takes longer than multiplying.",
)
factor = milliseconds["write zeros by index"] / milliseconds["multiply by a mask"]
report.verdict(
    "3.2",
    "Multiplying by a mask is faster than writing zeros by index",
    outcome="true" if factor > 1 else "false",
    evidence=f"forward and backward, writing by index takes {factor:.1f} times as long",
)

# %% [markdown]
# An index must first be made into a list of places, and single places are written one by one, there
# and back. A product runs through memory in one go, and does not mind that half of its work is for
# nothing. So the library multiplies, as torch does.

# %% [markdown]
# ## 3.3 · “Twice the units with p = 0.5 are like the smaller network, and often better”
#
# On average as many units are at work. Networks with one hidden layer of 32, 128 and 512 units, and
# their doubles with dropout, each five times, on 1,500 images. (Computed before, and stored:
# `python -m course_lib claims 3.3`.)

# %%
grid = experiments.stored("3.3")
test = grid.values("test")
small = {"32": "64", "128": "256", "512": "1024"}
pairs = {n: (test[f"{n}, p = 0"], test[f"{twice}, p = 0.5"]) for n, twice in small.items()}
gains = {n: double - single for n, (single, double) in pairs.items()}
error = {n: figures.standard_error(gain).item() for n, gain in gains.items()}
for n, (single, double) in pairs.items():
    both = f"{single.mean():.1f}, {double.mean():.1f}"
    report.value(f"{n} units, and {small[n]} with dropout", both, unit="%")
shown = plot.bars(
    {f"{n} to {small[n]}, p = 0.5": gain.mean().item() for n, gain in gains.items()},
    "points of test accuracy gained",
    errors={f"{n} to {small[n]}, p = 0.5": error[n] for n in gains},
    caption="The mean of five seeds, with standard errors. A seed draws the images, too, so each "
    "pair of networks is compared on the same ones.",
    alt="Three bars: what doubling 32, 128 and 512 units with dropout gains.",
)

# %%
better = [n for n, gain in gains.items() if gain.mean() > 2 * error[n]]
worse = [n for n, gain in gains.items() if gain.mean() < -2 * error[n]]
refuted = "depends: on the width" if better else "false"
report.verdict(
    "3.3",
    "Twice the hidden units with p = 0.5 equal the smaller net, and are often better",
    outcome=refuted if worse else "true",
    evidence="; ".join(
        f"{n} units: {gain.mean():+.2f} ± {error[n]:.2f} points" for n, gain in gains.items()
    ),
)

# %%
again = experiments.confirm("3.3", "256, p = 0.5", test=1.5)

# %% [markdown]
# Dropout needs room: the double holds as many units at any one time, and a different half each
# time. In the end all of them answer together, which is why it is more than the smaller network.

# %% [markdown]
# ## 3.4 · “The noisier the labels, the larger the weights”
#
# A share of the labels is drawn by lot. To tell apart what looks alike, weights must grow. By how
# much, and does weight decay keep them down? We measure the length of all weights: the root of the
# sum of their squares.

# %%
shares = (0.0, 0.25, 0.5, 1.0)
sizes, noisy_right = {"without weight decay": [], "with weight decay": []}, {}
for name, decay in zip(sizes, (0.0, 0.3), strict=True):
    for share in shares:
        noisy = torch.stack(
            [dropout.corrupt_labels(y, share, 10, runtime.generator_for(9)) for y in labels]
        )
        weights = train_six(noisy, decay=decay)
        sizes[name].append(torch.stack([w.square().sum((1, 2)) for w in weights]).sum(0).sqrt())
        noisy_right[name, share] = right(weights, test_images, clothes.y_test)
sizes = {name: torch.stack(values, dim=1) for name, values in sizes.items()}  # (SEEDS, shares)

# %%
shown = figures.lines(
    shares,
    sizes,
    labels=("share of labels by lot", "length of all weights"),
    caption="The more there is to be learned by heart, the larger the weights.",
    alt="Two rising lines of weight length over the share of noisy labels; the one with weight "
    "decay lies lower.",
)
growth = {name: values[:, -1] / values[:, 0] for name, values in sizes.items()}
half = [noisy_right[name, 0.5] for name in sizes]
for name, values in zip(sizes, half, strict=True):
    report.value(
        f"{name}, half of the labels by lot, test images right", f"{values.mean():.1f}", "%"
    )
effect = growth["without weight decay"] - 1
rising = all((sizes[name].diff(dim=1).mean(dim=0) > 0).all() for name in sizes)
report.verdict(
    "3.4",
    "The noisier the labels, the larger the learned weights",
    outcome="true" if rising else "depends: on the share of noise and on decay",
    evidence="from right labels to labels by lot they grow by a factor of "
    + " and ".join(f"{value.mean():.2f} {name}" for name, value in growth.items()),
    effect=effect.mean().item(),
    standard_error=figures.standard_error(effect).item(),
)

# %% [markdown]
# Noise has to be learned item by item, and that takes large weights. So a penalty on weights makes
# learning by heart dearer than learning the rule; how dear it should be is what the validation set
# tells.

# %% [markdown]
# ## 3.5 · “Dropout makes features co-adapt less”
#
# Units *co-adapt* when each is of use only together with certain others. Two measures. How alike
# are the answers of two hidden units to the test images (the mean size of their correlation)? And
# what is left when units are taken away, at random, without training again?

# %%
thinned = train_six(labels, p=(0, 0.5, 0))


def correlation(weights):
    """The mean absolute correlation of pairs of hidden units over test images, (SEEDS,)."""
    hidden = (test_images[:2000] @ weights[0] + weights[1]).relu()  # (SEEDS, 2000, 128)
    hidden = hidden - hidden.mean(dim=1, keepdim=True)
    hidden = hidden / hidden.norm(dim=1, keepdim=True).clamp(min=1e-9)
    pairs = (hidden.mT @ hidden).abs()  # (SEEDS, 128, 128), ones on the diagonal
    return (pairs.sum(dim=(1, 2)) - 128) / (128 * 127)


def pruned(weights, share):
    """Percent right when each hidden unit is gone with that probability, the rest made up for."""
    w1, b1, w2, b2 = weights
    kept = dropout.keep_mask((SEEDS, 128, 1), share, runtime.generator_for(4))
    return right([w1, b1, w2 * kept / (1 - share), b2], test_images, clothes.y_test)


# %%
shares = (0.0, 0.2, 0.4, 0.6, 0.8)
curves = {
    name: torch.stack([pruned(weights, share) for share in shares], dim=1)
    for name, weights in {"trained plainly": plain, "trained with dropout": thinned}.items()
}
shown = figures.lines(
    shares,
    curves,
    labels=("share of hidden units taken away", "test accuracy (%)"),
    caption="Whoever was trained with gaps does better with gaps.",
    alt="Two falling lines; the one of networks trained with dropout stays high for longer.",
)

# %%
alike = {name: correlation(w) for name, w in {"plainly": plain, "dropout": thinned}.items()}
lost = {name: curve[:, 0] - curve[:, 3] for name, curve in curves.items()}
less_lost = lost["trained plainly"] - lost["trained with dropout"]
less_alike = alike["plainly"] - alike["dropout"]
both = less_alike.mean() > 2 * figures.standard_error(less_alike)
report.verdict(
    "3.5",
    "Dropout forces neurons to work with random others, so features co-adapt less",
    outcome="true" if both and less_lost.mean() > 0 else "depends: on the measure",
    evidence=f"with 60 % of the units gone, {lost['trained plainly'].mean():.1f} points are lost "
    f"without and {lost['trained with dropout'].mean():.1f} with dropout; mean correlation of two "
    f"units {alike['plainly'].mean():.3f} and {alike['dropout'].mean():.3f}",
    effect=less_lost.mean().item(),
    standard_error=figures.standard_error(less_lost).item(),
)

# %% [markdown]
# They rely less on each other: take some away, and the others still answer. That alone would be a
# weak proof, for gaps are what they were trained with. The correlation is measured with all units
# at work, so it says more: how far two units answer to the same pictures.

# %% [markdown]
# ## 3.6 · “`Dropout2d` on a tensor with three axes works like the one for sequences”
#
# Is (50, 40, 6) a batch of fifty sequences with forty channels, or one image with fifty channels of
# 40 x 6 pixels? Torch has to guess.

# %%
ambiguous = torch.ones(50, 40, 6)
results = {}
for name in ("dropout1d", "dropout2d"):
    runtime.seed_everything(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results[name] = getattr(F, name)(ambiguous, 0.5)
rows = results["dropout2d"].amax(2).equal(results["dropout2d"].amin(2))
blocks = results["dropout2d"].flatten(1)
whole = blocks.amax(1).equal(blocks.amin(1))
same = results["dropout1d"].equal(results["dropout2d"])
print("dropout2d drops whole rows of 6:", rows, " whole blocks of 40 x 6:", whole)
print("equal to dropout1d:", same, " with a warning:", bool(caught))
try:
    dropout.dropout2d(ambiguous)
except ValueError as error:
    print("ours refuses:", error)

# %%
if caught and "will change" in str(caught[0].message):
    outcome = "depends: on torch's version; this one does so, and warns that it will change"
else:
    outcome = "true" if same else "false"
report.verdict(
    "3.6",
    "Dropout2d on a 3-D tensor works like the 1-D one",
    outcome=outcome,
    evidence=f"torch {torch.__version__.split('+')[0]} drops whole "
    f"{'blocks' if whole else 'rows'} and gives {len(caught)} warning",
)

# %% [markdown]
# A guess that depends on the version is a bug in waiting. Give `Dropout2d` four axes, and
# `Dropout1d` three; this course's functions accept nothing else.

# %% [markdown]
# ## 3.9 · “Dropout belongs before the linear layer, not after it”
#
# Between two linear layers with a ReLU, “after the first”, “after the ReLU” and “before the second”
# are three places. Does it matter which one?

# %%
generator = runtime.generator_for(0)
x = torch.randn(64, 30, generator=generator, dtype=torch.float64)
kept = dropout.keep_mask(x.shape, 0.5, generator)
after_linear = dropout.dropout(x, kept=kept).relu()
after_relu = dropout.dropout(x.relu(), kept=kept)
report.equal("before and after the ReLU, with one mask", after_linear, after_relu)

positions = {
    "nowhere": (0, 0, 0),
    "before the first layer": (0.5, 0, 0),
    "before the second": (0, 0.5, 0),
    "before both": (0.5, 0.5, 0),
    "after the second": (0, 0, 0.5),
}
known = {(0, 0, 0): plain, (0, 0.5, 0): thinned}  # trained above
scores = {
    name: right(known.get(p) or train_six(labels, p=p), test_images, clothes.y_test)
    for name, p in positions.items()
}

# %%
gains = {name: scores[name] - scores["nowhere"] for name in list(scores)[1:]}
error = {name: figures.standard_error(gain).item() for name, gain in gains.items()}
report.value("nowhere, right on the test images", f"{scores['nowhere'].mean():.1f}", unit="%")
shown = plot.bars(
    {name: gain.mean().item() for name, gain in gains.items()},
    "points of test accuracy, against nowhere",
    errors=error,
    caption="p = 0.5 at each place. Means of six networks, with standard errors.",
    alt="Four bars: what dropout gains or costs before the first layer, before the second, before "
    "both and after the second.",
)
helps = {name: gain.mean().item() > 2 * error[name] for name, gain in gains.items()}
harms = {name: gain.mean().item() < -2 * error[name] for name, gain in gains.items()}
before = [name for name in gains if name.startswith("before")]
if any(harms[name] for name in before) and not all(harms[name] for name in before):
    outcome = "depends: on the layer that it stands before"
else:
    outcome = "true" if all(helps[name] for name in before) else "false"
report.verdict(
    "3.9",
    "Dropout belongs before the linear layer, not after",
    outcome=outcome,
    evidence="points against nowhere: "
    + "; ".join(f"{name} {g.mean():+.2f} ± {error[name]:.2f}" for name, g in gains.items()),
)

# %% [markdown]
# After one inner layer is before the next: with the same mask, the order of dropout and ReLU makes
# no difference at all. What matters is *which* values are dropped. Here the inputs are few, and
# half of them are too many to lose. Logits are what the loss reads: a logit of 0 is an answer, not
# a gap.

# %%
clock.stop()
