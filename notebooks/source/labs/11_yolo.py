# %% [markdown]
# # 11 lab · What does a grid lose, and what do its details gain?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 11.5 and 11.6 are settled in the
# [lesson](../11_yolo.ipynb).

# %%
import torch

from course_lib import boxes as box_ops
from course_lib import runtime
from course_lib.average_precision import Detections, match, objects_of
from course_lib.scenes import CLASSES, SceneConfig, SceneMaker
from course_lib.teaching import experiments, report
from course_lib.teaching.experiments import ch11 as stored
from course_lib.teaching.figures import ch11_lab as figures
from course_lib.teaching.figures.ch02_lab import lines
from course_lib.teaching.figures.ch03 import standard_error
from course_lib.teaching.figures.ch07_lab import dots
from course_lib.yolo import YoloConfig, lost

clock = report.Clock(budget=50)
SEEDS = 3


def shown(values, digits=2):
    return f"{values.mean():.{digits}f} ± {standard_error(values):.{digits}f}"


def clearly(values, least=0.0):
    """Whether the mean over seeds lies above `least`, and above two standard errors."""
    return bool(values.mean() > max(least, 2 * standard_error(values)))


# %% [markdown]
# ## 11.1 · “7 x 7 cells are always enough”
#
# A cell answers for one object: of two whose centres lie in it, one is lost before any training
# begins. Scenes of 112 pixels with 3, 10 or 25 objects put into each (those that others hide are
# taken out again), and grids from 4 by 4 to 28 by 28 cells. If every cell were equally likely for a
# centre, chance would tell. Guess for that case: of 10 objects in 49 cells, how many are lost?

# %%
SIZE, STRIDES, COUNTS = 112, (28, 16, 8, 4), (3, 10, 25)
makers = {
    count: SceneMaker("seen", SceneConfig(size=SIZE, least=count, most=count)) for count in COUNTS
}
crowds = {
    count: [maker.draw(70, seed=20 + seed) for seed in range(SEEDS)]
    for count, maker in makers.items()
}


def lost_share(scenes, stride):
    """Percent of the objects that no cell answers for."""
    config = YoloConfig(stride=stride)
    gone = lost(scenes.boxes, scenes.labels, config, SIZE, SIZE).sum()
    return 100 * gone / (scenes.labels >= 0).sum()


losses = {
    count: torch.tensor([[lost_share(s, stride) for stride in STRIDES] for s in scenes])
    for count, scenes in crowds.items()
}  # (seeds, grids)


# %%
def taken(boxes, stride):
    """Which objects (M,) lose their cell to a later one."""
    columns, rows = (box_ops.to_centres(boxes)[:, :2] // stride).T  # (M,) each
    cell = rows * (SIZE // stride) + columns
    return (cell[:, None] == cell).triu(1).any(1)


examples, counted = {}, []
for count, (draw, *_) in crowds.items():
    gone = lost(draw.boxes, draw.labels, YoloConfig(stride=16), SIZE, SIZE)  # (N,)
    worst = int(gone.argmax())
    boxes = draw.boxes[worst][draw.labels[worst] >= 0]  # (M, 4)
    examples[f"{count} objects"] = (draw.images[worst], boxes, taken(boxes, 16))
    counted.append(int(gone[worst]))
drawn = figures.crowds(
    examples,
    caption="Of each kind the scene that loses most with 7 x 7 cells. Dots are centres; dashed red "
    "objects are lost, since a later object has its centre in the same cell.",
    alt="Three scenes with few, more and many objects, a grid over each, boxes and their centres; "
    "in the crowded scene some boxes are dashed.",
    cells=7,
)
report.holds("`lost` counts the same", [n["lost"] for n in drawn.values()] == counted)

# %%
left = {
    count: torch.cat([(d.labels >= 0).sum(1) for d in draws]).float().mean().item()
    for count, draws in crowds.items()
}  # objects of a scene that remain


def by_chance(objects, cells):
    """Percent of objects lost when every cell is equally likely for each."""
    taken = cells * (1 - (1 - 1 / cells) ** objects)  # expected cells with an object
    return 100 * (1 - taken / objects)


chance = [by_chance(left[25], (SIZE // stride) ** 2) for stride in STRIDES]
series = {f"{count} objects": values for count, values in losses.items()}
series["25, by chance"] = torch.tensor([chance] * 2)
drawn = lines(
    [f"{SIZE // stride} x {SIZE // stride}" for stride in STRIDES],
    {"": series},
    ("cells", "lost objects (%)"),
    caption="Means over three draws of 70 scenes with standard errors. The last line is what "
    "chance would give for as many objects as remain visible of 25.",
    alt="Share of lost objects against the number of cells: it falls with finer grids and is "
    "higher, the more objects a scene has.",
)[""]
print(f"10 objects in 49 cells, by chance: {by_chance(10, 49) / 10:.1f} of them are lost")

# %%
seven = STRIDES.index(16)
at_seven = {count: values[:, seven] for count, values in losses.items()}
few, many = (at_seven[count] for count in (COUNTS[0], COUNTS[-1]))
# Where more than three of a hundred are lost, we do not call it enough.
if clearly(many, least=3.0):
    outcome = "false" if clearly(few, least=3.0) else "depends: on how crowded the scenes are"
else:
    outcome = "true"
report.verdict(
    "11.1",
    "7 x 7 cells are always enough",
    outcome=outcome,
    evidence="objects lost with 7 x 7 cells: "
    + ", ".join(
        f"{shown(values, 1)} % (about {left[count]:.0f} visible)"
        for count, values in at_seven.items()
    ),
)

# %% [markdown]
# Pairs of objects grow with the square of their number, so what a few objects hardly feel meets a
# crowd. It is a little better than chance, since of two centres in one place the object in front
# often hides the other. More boxes for each cell do not help here: a cell of the paper's learns one
# object, and its boxes compete for it. Finer grids do, and so does what chapter 12 brings: boxes of
# several sizes for each place, each with classes of its own.

# %% [markdown]
# ## 11.2 · “The square root of width and height matters”
#
# Two pixels too wide: for a bus that is nothing, for a bird it is a lot. A squared error of the
# sides does not know the difference. The paper lets the network predict roots, since the root of a
# large number changes little. Stored runs of small detectors with the paper's settings, three
# seeds: squared errors of the roots, and of the sides themselves. Small objects cover less than
# a square of 24 pixels, large ones more than one of 40. Which of the two losses gives the better
# sizes for small objects, and what does that cost the large ones?

# %%
grid = experiments.stored("11.2")
measured = {band: grid.values(f"side_{band}") for band in stored.BANDS}
overlap = {band: grid.values(f"iou_{band}") for band in stored.BANDS}
panels = {
    f"{band} objects: error (%)": {name: 100 * v for name, v in measured[band].items()}
    for band in stored.BANDS
}
drawn = dots(
    panels,
    caption="Error of width and height in percent of the true one, at the cells that hold an "
    "object. A dot for each of three seeds, lines at the means; the three axes differ.",
    alt="Three panels, for small, medium and large objects, each with roots and with sides: the "
    "error of width and height.",
)
again = experiments.confirm("11.2", "roots", iou_small=0.08, iou_large=0.1)

# %%
gains = {band: 100 * (values["sides"] - values["roots"]) for band, values in measured.items()}
closer = {band: values["roots"] - values["sides"] for band, values in overlap.items()}
if clearly(gains["small"]):
    worse = clearly(-gains["large"])
    outcome = "depends: it helps small objects at the expense of large ones" if worse else "true"
else:
    outcome = "false"
report.verdict(
    "11.2",
    "The square root of width and height matters",
    outcome=outcome,
    evidence="roots lower the error of the sides, in points of a hundred, by: "
    + ", ".join(f"{shown(values, 1)} ({band})" for band, values in gains.items())
    + "; they raise the IoU by: "
    + ", ".join(f"{shown(values)} ({band})" for band, values in closer.items()),
    effect=gains["small"].mean().item(),
    standard_error=standard_error(gains["small"]).item(),
)

# %% [markdown]
# The slope of the root is steep near zero, so the same two pixels weigh more in a small box. It is
# a mild cure all the same: when width and height are a fifth too long, a large box still costs more
# than a small one. Later detectors predict logarithms, to which a fifth is a fifth at any size, as
# chapter 12 does; or they make the overlap itself the loss, which does not depend on the size.

# %% [markdown]
# ## 11.3 · “Confidence of empty cells may be weighted like that of full ones”
#
# A scene has 36 cells of 16 pixels, and two or three of them hold an object. All others push
# towards *nothing here*. The paper halves their weight, so that they do not drown the few. Stored
# runs with weights from 0.02 to 5: what will happen to the confidence of full and of empty cells,
# and what to the mean average precision, which looks at the order of the boxes alone?

# %%
grid = experiments.stored("11.3")
precision, full, empty, sure = (grid.values(n) for n in ("map_50", "full", "empty", "sure"))


def along(values):
    """(seeds, weights), the weights in their order."""
    return torch.stack([values[f"{weight:g}"] for weight in stored.WEIGHTS], dim=1)


# %%
drawn = lines(
    stored.WEIGHTS,
    {
        "mAP@0.5": {"mAP": along(precision)},
        "confidence": {
            "mean of full cells": along(full),
            "mean of empty cells": along(empty),
            "full cells above one half": along(sure),
        },
    },
    ("weight of empty cells", ""),
    caption="Means of three seeds with standard errors. Where cells are weighted alike, the weight "
    "is 1; in the paper it is 0.5.",
    alt="Two panels against the weight of empty cells: mean average precision, and the mean "
    "confidences of full and empty cells with the share of full cells above one half.",
    log="x",
)

# %%
again = experiments.confirm("11.3", "0.5", full=0.15, empty=0.1)  # trained for 11.2 already

# %%
paper, alike = precision["0.5"], precision["1"]
harm, shy = paper - alike, sure["0.5"] - sure["1"]
if clearly(harm, least=0.02):
    outcome = "false"
else:
    bolder = "depends: their confidence sinks, the order of the boxes shows no clear harm"
    outcome = bolder if clearly(shy, least=0.02) else "true"
report.verdict(
    "11.3",
    "Confidence of empty cells may be weighted like full ones",
    outcome=outcome,
    evidence=f"weight 0.5 against 1: mAP {shown(harm)} higher; "
    f"full cells above one half: {100 * sure['0.5'].mean():.0f} % against "
    f"{100 * sure['1'].mean():.0f} %, with weight 5 {100 * sure['5'].mean():.0f} %",
)

# %% [markdown]
# Confidence learns to be a probability, and weights bend it: count the empty cells more, and it
# sinks in full and empty cells alike. Their *order* suffers less, and mean average precision looks
# at nothing else. What moves is the confidence from which a box should be shown: whoever goes on
# cutting at one half loses many objects that the network has found. At the ends of the scale the
# order suffers, too: false alarms are not pushed down any more, or the few full cells are drowned.

# %% [markdown]
# ## 11.4 · “Non-maximum suppression only removes duplicates”
#
# Suppression knows nothing of objects. It sees two boxes of one class with much overlap and keeps
# the surer one, whether they show one bird twice or two birds side by side. To see that alone, the
# detections here are *simulated from the truth*: four for each object, each somewhat off and with a
# score of its own, so that before suppression nearly everything is found. The scenes with 3 and
# with 25 objects; and those with 25 once more, all called one class, as in a flock. Which share of
# the objects will still be found, and which share of the boxes will be right, at each threshold?


# %%
def simulated(objects, generator, copies=4, noise=0.1):
    """Detections around the true boxes, moved by some percent of their sides."""
    centred = box_ops.to_centres(objects.boxes).repeat(copies, 1)  # (M * copies, 4)
    moves = noise * torch.randn(centred.shape, generator=generator)
    middles = centred[:, :2] + moves[:, :2] * centred[:, 2:]
    found = torch.cat([middles, centred[:, 2:] * moves[:, 2:].exp()], dim=1)
    images, labels = (tensor.repeat(copies) for tensor in (objects.images, objects.labels))
    scores = torch.rand(len(found), generator=generator)
    return Detections(images, box_ops.to_corners(found), labels, scores)


def after_nms(found, threshold):
    groups = found.images * len(CLASSES) + found.labels
    kept = box_ops.nms(found.boxes, found.scores, threshold, groups)
    return Detections(*(tensor[kept] for tensor in found))


def recall_and_precision(found, objects):
    """In percent, at an IoU of one half."""
    right = match(found, objects, len(CLASSES), thresholds=(0.5,)).right.sum()
    return 100 * right / len(objects.boxes), 100 * right / len(found.boxes)


# %%
def true_objects(kind, seed):
    count, one_class = kind
    scenes = crowds[count][seed]
    objects = objects_of(scenes.boxes, scenes.labels)
    return objects._replace(labels=0 * objects.labels) if one_class else objects


def sweep(kind, seed):
    """Recall and precision without suppression, then at each threshold: (1 + thresholds, 2)."""
    objects = true_objects(kind, seed)
    found = simulated(objects, runtime.generator_for(11, seed))
    kept = [found, *(after_nms(found, threshold) for threshold in THRESHOLDS)]
    return torch.tensor([recall_and_precision(k, objects) for k in kept])


THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
SORTS = {"3 objects": (3, False), "25 objects": (25, False), "25 of one class": (25, True)}
swept = {
    name: torch.stack([sweep(kind, seed) for seed in range(SEEDS)]) for name, kind in SORTS.items()
}  # (seeds, 1 + thresholds, 2)

# %%
drawn = lines(
    THRESHOLDS,
    {
        title: {name: values[:, 1:, which] for name, values in swept.items()}
        for which, title in enumerate(("found objects (%)", "right boxes (%)"))
    },
    ("threshold of suppression", ""),
    caption="Simulated detections after suppression within each class. Left, recall; right, "
    "precision. Means over three draws of scenes with standard errors. Some objects are lost even "
    "where they stand alone: the surest of their boxes fits badly.",
    alt="Two panels against the threshold. Recall rises towards 100 percent, latest in the crowds "
    "of one class; precision is high at low thresholds and falls at high ones.",
)
missed = {name: values[:, :1, 0] - values[:, 1:, 0] for name, values in swept.items()}
means = {name: values[:, 1:].mean(0) for name, values in swept.items()}  # (thresholds, 2)
# F1, the balance of the two: their harmonic mean, high only where both are.
f1 = {name: 2 * m.prod(1) / m.sum(1) for name, m in means.items()}
best = {name: int(values.argmax()) for name, values in f1.items()}

# %% [markdown]
# And which are they that get lost? Three crowds of one class, at the threshold that is best for
# scenes with few objects.

# %%
scenes, objects = crowds[25][0], true_objects((25, True), 0)
alone_best = THRESHOLDS[best["3 objects"]]
kept = after_nms(simulated(objects, runtime.generator_for(11, 0)), alone_best)
fits = box_ops.iou_matrix(objects.boxes, kept.boxes) >= 0.5  # (M, n)
fits &= objects.images[:, None] == kept.images
gone = ~fits.any(1)  # (M,): no box that fits is left
worst = objects.images[gone].bincount(minlength=len(scenes.images)).topk(3).indices
views = {}
for number in worst.tolist():
    here = objects.images == number
    views[f"scene {number}"] = (scenes.images[number], objects.boxes[here], gone[here])
drawn = figures.crowds(
    views,
    caption="Dashed: objects for which no box is left that fits. A neighbour's box was surer.",
    alt="Three crowded scenes with boxes around their objects; the dashed ones overlap others.",
)

# %%
at_best = {name: values[:, best["3 objects"]] for name, values in missed.items()}
report.verdict(
    "11.4",
    "Non-maximum suppression only removes duplicates",
    outcome="false" if clearly(at_best["25 of one class"], least=1.0) else "true",
    evidence=f"objects lost to it at the threshold {alone_best}: "
    + ", ".join(f"{shown(values, 1)} % ({name})" for name, values in at_best.items())
    + "; best balance of found and right at "
    + ", ".join(f"{THRESHOLDS[place]} ({name})" for name, place in best.items()),
)

# %% [markdown]
# Where objects stand alone, any threshold between the overlap of a box with its copies and that of
# two neighbours serves. In a crowd of one kind these two ranges meet: a low threshold takes
# neighbours, a high one leaves copies, and no number in between does neither. So the threshold
# belongs to the data, and what suppression removes no later step can bring back.

# %% [markdown]
# ## 11.7 · “The grid is the idea, the rest are details”
#
# From the paper's settings to those of the lesson in three steps: cells of 8 pixels instead of 16;
# complete IoU and cross entropy instead of squared errors; three cells that answer for an object
# instead of one. Stored runs of a small detector, three seeds, equally many steps each. Which step
# will gain most, and will one of them gain nothing?

# %%
grid = experiments.stored("11.7")
named, placed = grid.values("map_50"), grid.values("object")
drawn = dots(
    {"mAP@0.5": named, "AP of places alone": placed},
    caption="A dot for each of three seeds, lines at the means. From left to right, each setting "
    "keeps what the one before it changed.",
    alt="Two panels with four settings each, from the paper's to the lesson's: mean average "
    "precision, and the average precision of places whatever their class.",
    zero=True,
)
again = experiments.confirm("11.7", "three cells, too", map_50=0.1)

# %%
rungs = list(stored.LADDER)
steps = {
    after: named[after] - named[before] for before, after in zip(rungs, rungs[1:], strict=False)
}
total = named[rungs[-1]] - named[rungs[0]]
for name, values in steps.items():
    report.value(f"{name}: mAP gained", shown(values))
report.verdict(
    "11.7",
    "The grid is the idea, the rest are details",
    outcome="false" if clearly(total, least=0.05) else "true",
    evidence=f"mAP {shown(named[rungs[0]])} with the paper's settings, "
    f"{shown(named[rungs[-1]])} with today's",
    effect=total.mean().item(),
    standard_error=standard_error(total).item(),
)

# %% [markdown]
# The grid is the idea, and it works with either set of details. But a detector is judged by where
# its boxes lie and how it ranks them. Finer cells lose fewer objects; losses that ask for overlap
# and for right names, rather than for equal numbers, spend the steps on what is scored; and
# three cells to an object give the few full cells more to say. Most papers of the ten years since
# are such details.

# %%
clock.stop()
