# %% [markdown]
# # 06 lab · What in attention is a detail, and what is not?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 6.3 and 6.6 are settled in the
# [lesson](../06_attention.ipynb). Bars in the figures are standard errors over the seeds.

# %%
import math
import os
import time

import torch

from course_lib import attention, dropout, runtime
from course_lib.teaching import experiments, report
from course_lib.teaching.experiments import ch06 as stored
from course_lib.teaching.figures import ch06_lab as figures
from course_lib.teaching.figures.ch02_lab import lines
from course_lib.teaching.figures.ch03 import standard_error

clock = report.Clock(budget=35)
SEEDS = 5


def clearly(values):
    """-1, 0 or 1: below, about or above zero, by two standard errors; values (seeds,)."""
    error = standard_error(values)
    return int(values.mean() > 2 * error) - int(values.mean() < -2 * error)


def shown(values, digits=1):
    return f"{values.mean():.{digits}f} ± {standard_error(values):.{digits}f}"


# %% [markdown]
# ## 6.1 · “Dividing by the root of d is a detail”
#
# The product of a query and a key with d numbers each, all of variance 1, has variance d: the wider
# the vectors, the larger the scores, and the harder softmax decides. Two things can be measured
# without any training. How undecided are the weights: what is their entropy (chapter 03)? And how
# much of a gradient passes back through softmax, for a typical query (the median)? At d = 1024,
# guess both: with the division, and without.

# %%
WIDTHS = (4, 16, 64, 256, 1024)


def look(d, divided):
    """Entropy, and the share of a random gradient that passes; means and medians (SEEDS,)."""
    generator = runtime.generator_for(d)
    query, key = torch.randn(2, SEEDS, 64, d, generator=generator)  # (SEEDS, T, d) each
    scores = query @ key.mT / (d**0.5 if divided else 1)  # (SEEDS, T, S)
    weights = scores.requires_grad_().softmax(dim=-1)
    arriving = torch.randn(weights.shape, generator=generator)
    (passed,) = torch.autograd.grad((weights * arriving).sum(), scores)
    entropy = dropout.entropy(weights.detach())  # (SEEDS, T)
    share = passed.norm(dim=-1) / arriving.norm(dim=-1)  # (SEEDS, T)
    return entropy.mean(dim=1), share.median(dim=1).values


KINDS = {"divided": True, "not divided": False}
found = {name: [look(d, yes) for d in WIDTHS] for name, yes in KINDS.items()}
entropies, shares = (
    {name: torch.stack([pair[k] for pair in pairs], dim=1) for name, pairs in found.items()}
    for k in (0, 1)
)  # name -> (SEEDS, widths)

# %%
drawn = lines(
    list(map(str, WIDTHS)),
    {
        "entropy (nats)": entropies,
        "gradient that passes (median)": shares,
    },
    ("numbers in a query, d", ""),
    caption="64 keys, random queries. Divided, hardly anything depends on d. Not divided, at large "
    "d a typical query looks at one key only, and next to no gradient tells it to look elsewhere.",
    alt="Two panels over d from 4 to 1024, logarithmic upwards: entropy and passing gradient are "
    "level where the scores are divided; where they are not, they fall steeply at large d.",
    log="y",
)
entropy, share = (panel["not divided"] for panel in drawn.values())
report.holds("not divided, entropy falls with every d", entropy == sorted(entropy, reverse=True))
report.holds("at d = 1024 a hundredth of the gradient is left, or less", share[4] < share[0] / 100)
report.value("all keys alike would have an entropy of", f"{math.log(64):.2f}", unit="nats")

# %% [markdown]
# But training could adapt: smaller weights would make up for the missing division. A task for one
# head: 16 items with random descriptions; a question is one item's description, turned by a fixed
# rotation, and the answer is that item's content. Five heads of each kind learn their queries' and
# keys' weights with Adam, at three learning rates. Will those that do not divide do as well?

# %%
ITEMS, NUMBERS, BATCH = 16, 16, 32
STEPS = 3 if runtime.is_quick() else 120


def lookups(generator, rotation):
    """Questions (SEEDS, N, 1, 16), descriptions (SEEDS, N, 16, 16), contents (…, 4), answers."""
    items = torch.randn(SEEDS, BATCH, ITEMS, NUMBERS, generator=generator)
    contents = torch.randn(SEEDS, BATCH, ITEMS, 4, generator=generator)
    asked = torch.randint(ITEMS, (SEEDS, BATCH, 1, 1), generator=generator)
    question = items.take_along_dim(asked, dim=2) @ rotation[:, None]
    return question, items, contents, contents.take_along_dim(asked, dim=2)


# %%
def learn(d, divided, rate):
    """The mean loss of the last 20 steps, (SEEDS,)."""
    generator = runtime.generator_for(0)
    rotation = torch.linalg.qr(torch.randn(SEEDS, NUMBERS, NUMBERS, generator=generator)).Q
    start = torch.randn(2, SEEDS, 1, NUMBERS, d, generator=generator) / NUMBERS**0.5
    weights, losses = start.requires_grad_(), []
    optimizer = torch.optim.Adam([weights], rate)
    for _ in range(STEPS):
        question, items, contents, answer = lookups(generator, rotation)
        query, key = question @ weights[0], items @ weights[1]  # (SEEDS, N, 1 or 16, d)
        query = query if divided else query * d**0.5  # undoes the division
        output, _ = attention.attention_by_hand(query, key, contents)
        loss = (output - answer).square().mean(dim=(1, 2, 3))  # (SEEDS,)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses[-20:]).mean(dim=0)


# %%
RATES = (0.003, 0.01, 0.03)
final = {
    f"d = {d}": {
        name: torch.stack([learn(d, yes, rate) for rate in RATES], dim=1)
        for name, yes in KINDS.items()
    }
    for d in (16, 256)
}  # (SEEDS, rates)
drawn = lines(
    RATES,
    final,
    ("learning rate", "squared error at the end"),
    caption=f"After {STEPS} steps; who always answers 0 has an error of 1. Compare the lowest "
    "point of each curve.",
    alt="Error over the learning rate in two panels. At d = 16 both kinds reach about the same; at "
    "d = 256 the heads that divide are several times lower.",
    log="xy",
)


# %%
def best(values):
    """Each seed's error at the rate that is best on average: (SEEDS, rates) -> (SEEDS,)."""
    return values[:, values.mean(dim=0).argmin()]


factors = {
    width: (best(kinds["not divided"]) / best(kinds["divided"])).log()
    for width, kinds in final.items()
}  # logarithms, (SEEDS,)
times = {width: logs.mean().exp().item() for width, logs in factors.items()}
narrow, wide = factors.values()
report.verdict(
    "6.1",
    "Dividing by sqrt(d) is a detail",
    outcome="false" if clearly(wide) > 0 and entropy[4] < entropy[0] / 4 else "true",
    evidence=f"without it, entropy falls from {entropy[0]:.2f} nats at d = 4 to {entropy[4]:.2f} "
    f"at d = 1024; after training at each one's best rate the error is {times['d = 16']:.1f} times "
    f"as large at d = 16 and {times['d = 256']:.1f} times at d = 256; "
    "the effect is the logarithm of the latter",
    effect=wide.mean().item(),
    standard_error=standard_error(wide).item(),
)

# %% [markdown]
# With few numbers in a head it hardly matters, and training makes up for it. With many, softmax
# begins as a switch that points at a random key and passes next to no gradient, so a typical query
# cannot learn that it looks at the wrong place. The few that are undecided between two keys still
# learn: that is why it does not fail altogether. What the division gives is a good start; smaller
# weights to begin with should do much the same.

# %% [markdown]
# ## 6.2 · “Filling masked scores with −1e9 (or −9e15) is the same as −inf”
#
# After softmax all three give 0, so what could differ? Two things to try: other number formats
# (float16 ends near 65,000; bfloat16 reaches far, with few digits), and a query that may look at
# nothing at all, such as one in a row of padding. What will be the output of that query, and what
# the gradient of the values that it must not see? Some programs *add* a large negative number to
# the scores instead of filling it in, so the table has that, too.

# %%
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MASK = torch.tensor([[True, True, False, False], [False] * 4])  # the second query sees nothing


def fill(value):
    return lambda scores: scores.masked_fill(~MASK, value)


def add(value):
    return lambda scores: scores + torch.where(MASK, 0.0, value).to(scores.dtype)


def through(change):
    """Attention whose scores are changed by `change`."""
    return lambda q, k, v: change(q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


ways = {f"fill with {name}": through(fill(float(name))) for name in ("-inf", "-1e9", "-9e15")}
ways |= {f"add {name}": through(add(float(name))) for name in ("-1e9", "-1e4")}
ways["ours, by hand"] = lambda q, k, v: attention.attention_by_hand(q, k, v, MASK)[0]
ways["ours, fused"] = lambda q, k, v: attention.attention_fused(q, k, v, MASK)


# %%
def attend(way, dtype):
    """Outputs of two queries (2, 3), gradients of the second's, and the inputs; or None."""
    generator = runtime.generator_for(1)
    shapes = ((1, 1, 2, 8), (1, 1, 4, 8), (1, 1, 4, 3))
    inputs = [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]
    try:
        output = ways[way](*inputs)[0, 0]
    except RuntimeError:
        return None
    gradients = torch.autograd.grad(output[1].sum(), inputs)
    return output.detach(), gradients, [x.detach().float() for x in inputs]


# %%
def describe(way, dtype):
    """What the query gets that may see nothing, and what it sends back."""
    found = attend(way, dtype)
    if found is None:
        return "raises an error"
    output, gradients, (query, key, value) = found[0][1].float(), *found[1:]
    if any(gradient.isnan().any() for gradient in gradients):
        return "NaN, gradients too" if output.isnan().any() else "NaN in gradients"
    if all((gradient == 0).all() for gradient in gradients) and (output == 0).all():
        return "zeros, no gradient"
    if torch.allclose(output, value.mean(dim=2), atol=0.02):
        return "mean of all values"
    unmasked, _ = attention.attention_by_hand(query, key, value)
    same = torch.allclose(output, unmasked[0, 0, 1], atol=0.02)
    return "unmasked attention" if same else "something else"


# %%
table = {way: [describe(way, dtype) for dtype in FORMATS.values()] for way in ways}
drawn = figures.outcomes(
    table,
    list(FORMATS),
    {"zeros,": figures.GOOD, "mean": figures.SO_SO, "NaN,": figures.BAD}
    | dict.fromkeys(("raises", "unmasked", "NaN"), figures.BAD),
    caption="A query that may look at nothing: what it is given, and what goes back from it. “Mean "
    "of all values”: what it must not see, in equal shares.",
    alt="A table: seven ways to mask, three formats. -inf gives NaN; large negative ones a mean, "
    "in float16 an error or NaN; adding -1e4 in float32 unmasked attention; ours zeros.",
)
first = torch.stack([attend(way, torch.float32)[0][0] for way in ways])  # the other query
report.equal("float32, a query with two keys to see: all agree", first, first[:1].expand(7, 3))
for name in ("by hand", "fused"):
    seen = set(drawn[f"ours, {name}"])
    report.holds(f"ours, {name}: zeros and no gradient, in all", seen == {"zeros, no gradient"})
same = all(drawn["fill with -inf"] == drawn[f"fill with {name}"] for name in ("-1e9", "-9e15"))
report.verdict(
    "6.2",
    "Filling masked scores with -1e9 (or -9e15) is the same as -inf",
    outcome="true" if same else "false",
    evidence=f"a query with something to see gets the same; one with nothing gets, with -inf, "
    f"{table['fill with -inf'][0]}, with -1e9 in float32 {table['fill with -1e9'][0]}, and in "
    f"float16 -1e9 {table['fill with -1e9'][2]}",
)

# %% [markdown]
# Where the format holds the number and a query has something to see, they agree. A query with
# nothing to see is the trouble: softmax takes the largest score off all scores, −inf less −inf is
# NaN, and a NaN in the gradient spreads to every weight. A finite number makes all scores of the
# query equal, so it gets the values that it must not see, and sends them a gradient, without a word
# of warning; and −1e4, added in float32, leaves the scores' differences as if nothing were masked.
# So use what the format can hold, and set the rows that see nothing to zero afterwards, as ours
# does.

# %% [markdown]
# ## 6.4 · “Sine codes work like binary counters”
#
# In a binary counter the last digit changes at every step, the one before it at every second, the
# next at every fourth. The sines of a position code are slower from column to column, too: with 26
# numbers, each takes about twice as long as the one before. Look for what is alike, and for what
# is not: what happens from position 31 to 32?

# %%
POSITIONS, DIGITS = 64, 6
positions = torch.arange(POSITIONS)
bits = (positions[:, None] >> torch.arange(DIGITS)) & 1  # the fastest digit first
counter = 1.0 - 2.0 * bits  # 1 and -1, (64, 6)
rounded = torch.sin(math.pi * (positions[:, None] + 0.5) / 2.0 ** torch.arange(DIGITS))
codes = attention.sinusoidal_positions(POSITIONS, 26)  # (64, 26)
drawn = figures.counters(
    {
        "binary counter": counter,
        "sines, each half as fast": rounded,
        "sine columns of a code": codes[:, : 2 * DIGITS : 2],
    },
    caption="Left and middle have the same signs everywhere. Right: the code's sines are slower "
    "from the first column on, and slow down by nearly the same factor.",
    alt="Three heat maps of 64 positions by 6 columns: stripes of red and blue that double in "
    "length from column to column, sharp on the left, smooth in the middle and on the right.",
)
report.holds("the sines' signs are the counter's digits", rounded.sign().equal(counter))


# %%
def periods(columns):
    """Steps from one rise through zero to the next, on average: (positions, n) -> n numbers."""
    rises = (columns[:-1] < 0) & (columns[1:] >= 0)
    places = [column.nonzero().flatten() for column in rises.T]
    return [(p[-1] - p[0]).item() / (len(p) - 1) for p in places]


long = attention.sinusoidal_positions(2**12, 26)[:, : 2 * DIGITS : 2]
digits = (torch.arange(2**12)[:, None] >> torch.arange(DIGITS)) & 1
period = {"binary counter": periods(0.5 - digits), "sine code": periods(long)}
ratios = {
    name: torch.tensor([b / a for a, b in zip(found, found[1:], strict=False)])
    for name, found in period.items()
}
for name, ratio in ratios.items():
    report.value(f"{name}, each column slower by", f"{ratio.min():.3f} to {ratio.max():.3f}")
alike = all((ratio - ratio.mean()).abs().max() < 0.05 for ratio in ratios.values())
steps = {
    name: code.diff(dim=0).square().sum(dim=1) for name, code in (("c", counter), ("s", codes))
}
flips = steps["c"] / 4  # a digit that changes goes from 1 to -1 or back
report.value("a step changes, of the counter's digits", f"{flips.min():.0f} to {flips.max():.0f}")
spread = (steps["s"].max() / steps["s"].min()).item()
report.holds("a step moves the sine code equally far everywhere", spread < 1.001)

# %% [markdown]
# The counter changes one digit at some steps and all six at others, and one digit alone may be
# worth 32 places. So blur both codes by noise of the same size, relative to the code's length, and
# take the nearest code for the position. How often is that wrong, and by how many places?

# %%
NOISES = (0.4, 0.6, 0.8)


def misread(code, noise):
    """Share read wrong in percent, and places off where wrong; (SEEDS,) each."""
    code = code / code.norm(dim=1, keepdim=True)
    generator = runtime.generator_for(2)
    shape = (SEEDS * 50, *code.shape)
    blur = torch.randn(shape, generator=generator) * noise / code.shape[1] ** 0.5
    read = torch.cdist(code + blur, code.expand(shape)).argmin(dim=2)  # (SEEDS * 50, 64)
    off = (read - positions).abs().view(SEEDS, -1).float()
    return 100 * (off > 0).float().mean(dim=1), off.sum(dim=1) / (off > 0).sum(dim=1)


# %%
errors = {
    name: [torch.stack(v, dim=1) for v in zip(*(misread(code, n) for n in NOISES), strict=True)]
    for name, code in {"binary counter": counter, "sine code": codes}.items()
}
drawn = lines(
    NOISES,
    {
        "read wrong (%)": {name: pair[0] for name, pair in errors.items()},
        "places off, where wrong": {name: pair[1] for name, pair in errors.items()},
    },
    ("noise / length of the code", ""),
    caption="The more noise, the more often both are misread. But a sine code is taken for a near "
    "one, and a counter's number for any other that shares most digits, near or far.",
    alt="Two panels over the noise: the shares read wrong rise for both; where wrong, the "
    "counter is some ten places off and the sine code few.",
)

# %%
far = errors["binary counter"][1][:, 1] - errors["sine code"][1][:, 1]  # (SEEDS,)
near = clearly(far) > 0 and spread < 1.001
if alike:
    outcome = "depends: the columns' periods yes, the distance of positions no" if near else "true"
else:
    outcome = "false"
report.verdict(
    "6.4",
    "Sine codes work like binary counters",
    outcome=outcome,
    evidence=f"each column is slower by {ratios['binary counter'].mean():.2f} in the counter and "
    f"{ratios['sine code'].mean():.2f} in the code; misread, at noise {NOISES[1]}, the counter is "
    f"{shown(errors['binary counter'][1][:, 1])} places off, the code "
    f"{shown(errors['sine code'][1][:, 1])}",
    effect=far.mean().item(),
    standard_error=standard_error(far).item(),
)

# %% [markdown]
# The picture is right about the columns: fast ones tell neighbours apart, slow ones tell far places
# apart, and each is slower by one factor. It is wrong about distance: in a counter neighbours can
# differ in all digits, as 31 and 32 do, while sine codes of neighbours are always neighbours,
# equally far wherever they stand. That, and not the counting, is what a smooth function such as
# attention can use.

# %% [markdown]
# ## 6.5 · “Concatenating heads beats averaging them”
#
# Seven heads may look at seven places. Their findings can be put side by side or averaged; the
# average is shorter, and mixes what each one found. The task, stored runs of five seeds: ten
# coloured digits in any order, and one question: which digits have the first seven colours? The
# answer needs all seven, kept apart. Averaged heads get 8 numbers each, as the concatenated ones
# have (equal width); or so many that both kinds have about as many weights (equal weights); or the
# full 56. Beside them stands one head alone, with all 56. In the last panel only the *sum* of the
# seven digits is asked. Where do you expect averaging to lose?

# %%
grid = experiments.stored("6.5")
curves, accuracy, weights = (grid.values(name) for name in ("curve", "accuracy", "weights"))
kinds = {
    task: {name: accuracy[f"{name}: {task}"] for name in shapes}
    for task, shapes in stored.TASKS.items()
}
titles = {"apart": "seven digits, at the end", "sum": "only their sum"}
drawn = figures.curves_and_points(
    range(stored.EVERY, stored.STEPS + 1, stored.EVERY),
    {name: curves[f"{name}: apart"] for name in stored.SHAPES},
    {titles[task]: values for task, values in kinds.items()},
    "right (%)",
    caption="Left: seven digits, over the steps; the learning rate falls to 0. A dot for each "
    "seed, on digits that were not trained on.",
    alt="Curves of accuracy: concatenated heads rise at once to the top, averaged heads of full "
    "width follow; one head and averaged heads of equal weights end somewhat below, those of "
    "equal width far below; for the sum all dots are at the top.",
)
for name in stored.SHAPES:
    print(f"{name:<26}{weights[f'{name}: apart'][0]:>8,.0f} weights for values and output")
again = experiments.confirm("6.5", "averaged, equal width: apart", accuracy=12.0)

# %%
apart = kinds["apart"]
behind = {name: apart["concatenated"] - values for name, values in apart.items()}  # points
for name in list(behind)[1:]:
    report.value(f"{name}, behind", shown(behind[name]), unit="points")
of_sums = kinds["sum"]["concatenated"] - kinds["sum"]["averaged, equal width"]
report.value("averaged, equal width, asked for sums, behind", shown(of_sums), unit="points")


# %%
loses = all(clearly(behind[f"averaged, equal {what}"]) > 0 for what in ("width", "weights"))
catches_up = behind["averaged, full width"].mean() < 1 and of_sums.mean() < 1  # points
if loses and catches_up:
    outcome = "depends: on whether findings must be kept apart, and on the room they have"
else:
    outcome = "true" if loses else "false"
gap = behind["averaged, equal weights"]
report.verdict(
    "6.5",
    "Concatenating heads beats averaging them",
    outcome=outcome,
    evidence="seven digits: "
    + ", ".join(f"{name} {shown(v)} %" for name, v in apart.items())
    + "; their sum: "
    + ", ".join(f"{name} {shown(v)} %" for name, v in kinds["sum"].items())
    + "; concatenated less averaged at equal weights",
    effect=gap.mean().item(),
    standard_error=standard_error(gap).item(),
)

# %% [markdown]
# An average of seven vectors of 8 numbers has room for 8 numbers, however good the heads are; side
# by side there are 56. Given the room, each head can learn to write into a part of its own, so the
# full width makes up for it, at four times the weights. Where only the sum is asked, averaging is
# just what is wanted. And one wide head comes nearer than one might think: it beats seven that are
# squeezed into 8 numbers. (It can look at all seven places at once, if each value writes into
# numbers that belong to its colour.) With averaged heads of equal weights the seeds lie far apart:
# the room is there, but hard to find in so few steps.

# %% [markdown]
# ## 6.7 · “Batch norm would do as well as layer norm in a Transformer”
#
# Chapter 04 ended with norms that compute the same, over different axes. Here are sequences of 2 to
# 16 symbols; a Transformer of two layers is to sort them, and padding fills the short ones. Batch
# norm takes its means over all tokens of a batch, padding included, or over the real ones alone.
# And the batches: either *mixed*, all lengths together; or *by length*, which saves most of the
# padding and is common practice (chapter 07). Stored runs of five seeds: which of the six will
# fail, and will it show in training?

# %%
grid = experiments.stored("6.7")
loss, accuracy, by_length, in_batches = (
    grid.values(name) for name in ("loss", "accuracy", "by_length", "batch_statistics")
)
drawn = lines(
    stored.LENGTHS,
    {
        f"batches: {mix}": {norm: by_length[f"{norm}: {mix}"] for norm in stored.NORMS}
        for mix in stored.MIXES
    },
    ("length of the sequence", "right symbols (%), evaluation mode"),
    caption="New sequences, after training in mixed batches (left) and in batches by length "
    "(right). Mind the scales. Which lengths does an average over all lengths suit?",
    alt="Accuracy over the length in two panels. Mixed: all three norms above nine tenths. By "
    "length: layer norm falls slowly; both batch norms come near it at middle lengths only.",
)
for name in loss:
    report.value(
        f"{name:<26} training loss; right in training mode, in evaluation mode",
        f"{loss[name].mean():.2f}, {in_batches[name].mean():.1f} and {accuracy[name].mean():.1f} %",
    )
again = experiments.confirm("6.7", "batch: by length", accuracy=20.0)

# %%
gaps = {
    mix: accuracy[f"layer: {mix}"] - accuracy[f"batch: {mix}"] for mix in stored.MIXES
}  # points, (seeds,)
real_only = accuracy["layer: mixed"] - accuracy["batch, real only: mixed"]
fails = {mix: gap.mean() > 10 and clearly(gap) > 0 for mix, gap in gaps.items()}
if fails["by length"] and not fails["mixed"]:
    outcome = "depends: in mixed batches nearly, in batches by length not at all"
else:
    outcome = "false" if any(fails.values()) else "true"
sorted_loss = loss["batch: by length"].mean()
report.verdict(
    "6.7",
    "Batch norm would do as well as layer norm in a Transformer",
    outcome=outcome,
    evidence=f"points behind layer norm in evaluation: {shown(gaps['mixed'])} in mixed batches, "
    f"{shown(real_only)} there with real tokens alone, {shown(gaps['by length'])} in batches by "
    f"length, though its training loss there is {sorted_loss:.2f}, and layer norm's "
    f"{loss['layer: by length'].mean():.2f}",
    effect=gaps["by length"].mean().item(),
    standard_error=standard_error(gaps["by length"]).item(),
)

# %% [markdown]
# Mixed batches are like one another, so the running statistics fit them all. Padding is nearly half
# of such a batch, and makes its means less useful; over real tokens alone, batch norm does as well
# here as layer norm. In batches by length each length has statistics of its own: training uses
# those, evaluation an average that fits those in the middle at best. The training loss looks fine,
# and the answers are wrong. Layer norm asks no other token (such batches cost it something, too:
# each step then teaches one length alone). This is a small Transformer on a toy task, but the cause
# does not go away with size.

# %% [markdown]
# ## 6.8 · “Attention costs grow with the square of the length”
#
# T queries meet T keys: T² scores to compute. Must all be kept? By hand, they all lie in memory,
# and stay there for the gradient. The fused call computes them piece by piece, throws them away,
# and computes them again on the way back. For sequences of 128 to 2,048: the seconds for forward
# and backward, and the largest memory in use at any moment beyond the inputs. On logarithmic axes,
# what slope says “square”?

# %%
LENGTHS = (128, 256, 512, 1024, 2048)
os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler is to write nothing here
forms = {
    "by hand": lambda *inputs: attention.attention_by_hand(*inputs)[0],
    "fused": attention.attention_fused,
}


def forward_backward(form, length, heads=2, d=32):
    """A function that runs attention over random inputs (1, heads, length, d), and back."""
    generator = runtime.generator_for(0)
    inputs = [
        torch.randn(1, heads, length, d, generator=generator).requires_grad_() for _ in range(3)
    ]

    def run():
        torch.autograd.grad(form(*inputs).sum(), inputs)

    return run


# %%
def seconds(run):
    """How long the three fastest of six calls take: (3,). The others had to wait for something."""
    taken = []
    for _ in range(6):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return torch.tensor(taken).sort().values[:3]


def peak_memory(run):
    """Bytes in use at most, counted from what torch takes and gives back while it runs."""
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    moves = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    moves.sort(key=lambda event: event.start_ns())
    return torch.tensor([event.nbytes() for event in moves]).cumsum(dim=0).max().item()


runs = {name: [forward_backward(form, n) for n in LENGTHS] for name, form in forms.items()}
taken = {name: torch.stack([seconds(run) for run in row], dim=1) for name, row in runs.items()}
peaks = {
    name: torch.tensor([[peak_memory(run) / 2**20 for run in row]]).expand(2, -1)
    for name, row in runs.items()
}  # (2, lengths): it is the same at every run

# %%
drawn = lines(
    [f"{length:,}" for length in LENGTHS],
    {"seconds": taken, "peak memory (MiB)": peaks},
    ("length", ""),
    caption="Forward and backward, two heads of 32 numbers. Four times as much for twice the "
    "length (a slope of 2) is the square; twice as much (a slope of 1) is a straight proportion.",
    alt="Two panels over the length, all axes logarithmic. Seconds rise steeply for both forms; "
    "memory rises steeply by hand, and half as steeply when fused.",
    log="y",
)


def slope(values):
    """Of a line through the points of 256 and more, on logarithmic axes."""
    x, y = torch.tensor(LENGTHS[1:]).double().log(), torch.tensor(values[1:]).double().log()
    return (((x - x.mean()) * y).sum() / (x - x.mean()).square().sum()).item()


best_times = {name: values.min(dim=0).values.tolist() for name, values in taken.items()}
time_slopes = {name: slope(values) for name, values in best_times.items()}
memory_slopes = {name: slope(values) for name, values in drawn["peak memory (MiB)"].items()}

# %%
square = {
    "time": min(time_slopes.values()) > 1.5,
    "memory by hand": memory_slopes["by hand"] > 1.7,
    "memory, fused": memory_slopes["fused"] > 1.5,
}
for what, is_square in square.items():
    print(f"{what:<16}grows with the square: {is_square}")
saved = peaks["by hand"][0, -1] / peaks["fused"][0, -1]
if all(square.values()):
    outcome = "true"
else:
    outcome = "depends: time yes, memory not when fused" if square["time"] else "false"
report.verdict(
    "6.8",
    "Attention costs grow with the square of the length",
    outcome=outcome,
    evidence="slopes on logarithmic axes: seconds "
    + ", ".join(f"{value:.2f} ({name})" for name, value in time_slopes.items())
    + "; memory "
    + ", ".join(f"{value:.2f} ({name})" for name, value in memory_slopes.items())
    + f"; at {LENGTHS[-1]} the fused form needs {saved:.0f} times less memory",
)

# %% [markdown]
# The work grows with the square of the length however it is arranged; where the scores no longer
# fit into the processor's caches, the seconds may grow even faster. Memory is another matter:
# scores that are never kept need no room, and what is left grows as the inputs do. That is why
# models with long contexts use fused kernels; but it does not make a long context cheap.

# %%
clock.stop()
