# %% [markdown]
# # 11 · How do you find every object in one look?
#
# A classifier says *what* a picture shows. A detector must say what, where and how many, and
# nobody tells it how many there are. One way: cut windows out of the picture, of every size and at
# every place, and ask a classifier about each. How many windows would that be for one picture of
# 96x96 pixels: hundreds, thousands, tens of thousands?

# %%
import torch

from course_lib import average_precision, boxes, recipes, runtime, train, yolo
from course_lib.average_precision import objects_of
from course_lib.recipes.scenes import test_scenes
from course_lib.scenes import CLASSES, SIDES, SceneConfig, SceneMaker
from course_lib.teaching import plot, report, widgets
from course_lib.teaching.figures import ch11 as figures

clock = report.Clock(budget=115)
maker = SceneMaker("train")
scenes = maker.draw(200, seed=1)
shown = figures.pictures(
    [figures.scene_panel(scenes, number) for number in (0, 3, 9, 10)],
    caption="Four scenes with what is in them: a box around what can be seen, and a class.",
    alt="Four photos with small objects pasted into them, each with a coloured frame and a name.",
)
windows = sum((96 - side + 1) ** 2 for side in SIDES)
print(f"square windows of {len(SIDES)} sizes: {windows:,}; cells of the grid below: {12 * 12}")

# %% [markdown]
# Tens of thousands, and they would all be square. YOLO (*you only look once*) passes the whole
# picture through one network, once. The network lays a grid over it, and **each cell answers for
# the object whose centre lies in it**: is there one, where exactly, how large, of which class.
#
# **When you are through you can** convert and compare boxes, spread a label list over a grid, write
# down the loss in its parts, turn a grid of numbers into a list of objects, remove duplicates by
# hand, compute average precision, and say what a detector is bad at. It takes about three hours to
# read and try; the code runs within two minutes. You need chapters 02, 04 and 05, and from chapter
# 10 the IoU and the *scenes*: cut-outs of six classes, pasted into photos.
#
# ## Build it: boxes
#
# > **bounding box**: the smallest upright rectangle around an object.
#
# A box is four numbers, and there are two usual choices of them: two *corners* x1, y1, x2, y2, or
# the *centre* and the size x, y, w, h. Corners are handy for comparing boxes, centres for learning
# them. By hand, there and back. What do you expect of w for x1 = 30 and x2 = 70?

# %%
corners = torch.tensor([[30.0, 30, 70, 60], [50, 20, 80, 50]])  # (2, 4): x1, y1, x2, y2
low, high = corners[:, :2], corners[:, 2:]  # (2, 2) each
centres = torch.cat([(low + high) / 2, high - low], dim=1)  # (2, 4): x, y, w, h
print(centres.tolist())
middle, size = centres[:, :2], centres[:, 2:]
back = torch.cat([middle - size / 2, middle + size / 2], dim=1)
report.equal("centres as the library's", centres, boxes.to_centres(corners))
report.equal("and back", back, corners)

# %% [markdown]
# How well does one box fit another? As in chapter 10: what they share, over what they cover
# together. With boxes this needs no counting of pixels. The shared part begins where the later of
# two left edges lies, and ends at the earlier of two right edges.

# %%
from torchvision import ops


def iou(a, b):
    """Two boxes (4,) -> one number."""
    width = min(a[2], b[2]) - max(a[0], b[0])  # below 0 where they do not meet
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


first, second = corners.tolist()
print(f"IoU {iou(first, second):.3f}")
others = maker.draw(50, seed=2)
many, others = (each.boxes[each.labels >= 0] for each in (scenes, others))
table = torch.tensor([[iou(a, b) for b in others.tolist()] for a in many[:40].tolist()])
report.equal("as the library's", table, boxes.iou_matrix(many[:40], others), atol=1e-6)
report.equal("as torchvision's", boxes.iou_matrix(many, others), ops.box_iou(many, others))

# %% [markdown]
# IoU has two relatives, GIoU and CIoU. What they are for you can find out before you read how they
# are made. Move the yellow box:
#
# - Push it away from the blue one until they no longer touch, and farther. Which bars still move?
# - Make both equal (x 30, y 30, width 40, height 30). What do the three say?
# - Put it, small, into the middle of the blue box, then into a corner. Which score sees a
#   difference?

# %%
overlap_explorer = widgets.explore(
    figures.overlaps_figure,
    alt="A fixed blue and a movable yellow box, their shared part in green, their common hull "
    "dotted. Beside them bars of IoU, GIoU and CIoU.",
    caption="Blue stays. Move yellow and read the three scores.",
    x=widgets.slider("left edge", 0, 80, 50, 1),
    y=widgets.slider("upper edge", 0, 80, 20, 1),
    width=widgets.slider("width", 2, 60, 30, 1),
    height=widgets.slider("height", 2, 60, 30, 1),
)
for name, place in {"near": (75, 30), "far": (79, 30), "equal": (30, 30)}.items():
    scores = figures.overlaps(*place, *((40, 30) if name == "equal" else (20, 20)))
    print(f"{name:<6}", "  ".join(f"{kind} {value:5.2f}" for kind, value in scores.items()))

# %% [markdown]
# Boxes that do not touch all have IoU 0, near or far: as a loss it could not say where to go.
# **Generalised IoU** (GIoU) is the IoU less the share of the hull, the dotted frame, that neither
# box covers. **Complete IoU** (CIoU) is the IoU less a term for the distance of the centres and one
# for the difference in shape. Both go on falling when the boxes part. Inside the blue box the hull
# is the blue box itself and GIoU is the IoU, wherever yellow lies; only CIoU tells the middle from
# the corner.

# %%
curves = figures.overlap_curves(
    caption="Two equal boxes, one moves to the right. At the dotted line they part. Which curve "
    "would you roll down from the right?",
    alt="Three curves fall from 1. IoU reaches 0 at 40 pixels and stays there; GIoU and CIoU go on "
    "falling below 0.",
)
apart = 20 + 1  # the first place beyond the dotted line
report.holds("beyond it IoU has no slope", len(set(curves["IoU"][apart:])) == 1)
for name in ("GIoU", "CIoU"):
    falls = all(a > b for a, b in zip(curves[name], curves[name][1:], strict=False))
    report.holds(f"{name} falls all the way", falls)
giou, theirs = boxes.giou_matrix(many, others), ops.generalized_box_iou(many, others)
report.equal("GIoU as torchvision's", giou, theirs, rtol=1e-4, atol=1e-6)

# %% [markdown]
# ## Build it: what each cell should say
#
# A picture of 96x96 pixels in cells of 8x8 gives a grid of 12 by 12. For each cell the network
# gives x, y, w, h, a confidence, and a score for each of 6 classes. What is the shape of the answer
# for one picture?
#
# > **confidence (of a cell)**: how sure the network is that the centre of an object lies in it.
#
# In the label list an object is [class, x, y, w, h]. To train, the list is *spread over the grid*:
# the cell with the centre gets the object, all others zeros. x and y count from the cell's own
# corner, in cells; w and h are shares of the picture. So all four lie between 0 and 1. By hand for
# one scene:

# %%
stride, size = 8, 96  # pixels
number = 10
there = scenes.labels[number] >= 0
grid = torch.zeros(size // stride, size // stride, 5 + len(CLASSES))  # (12, 12, 11)
for box, label in zip(scenes.boxes[number][there], scenes.labels[number][there], strict=True):
    x, y, w, h = boxes.to_centres(box).tolist()
    column, row = int(x // stride), int(y // stride)
    one_hot = [float(label == c) for c in range(len(CLASSES))]
    place = [x / stride - column, y / stride - row, w / size, h / size]
    grid[row, column] = torch.tensor([*place, 1.0, *one_hot])
    numbers = " ".join(f"{value:.2f}" for value in place)
    print(f"{CLASSES[label]:<9} row {row:>2} column {column:>2}:  {numbers}")

paper = yolo.YoloConfig(classes=6, stride=8)  # one cell an object, as in the paper
target = yolo.encode(scenes.boxes, scenes.labels, paper, size, size)  # (200, 12, 12, 11)
report.equal("the grid as the library's", grid, target[number], atol=1e-6)
print("shape of one grid:", tuple(grid.shape))

# %% [markdown]
# One cell in 144 for an object: most of the grid learns only to keep silent. Later versions of YOLO
# let the nearest neighbours left or right, and above or below, answer for the object as well. Their
# x and y may then lie up to half a cell outside. Three times as many cells learn what an object is.

# %%
near = yolo.YoloConfig(classes=6, stride=8, cells=3)
wide = yolo.encode(scenes.boxes, scenes.labels, near, size, size)  # (200, 12, 12, 11)
counts = figures.answering(
    figures.scene_panel(scenes, number),
    {"one cell": target[number], "three cells": wide[number]},
    caption="White points are centres. A framed cell answers for the object of its colour.",
    alt="The same scene twice under a grid of 12 by 12. Left, one framed cell for each object; "
    "right, three, the two others beside and above or below it.",
)
print(counts)
report.holds("three times as many cells, here", counts["three cells"] == 3 * counts["one cell"])

# %% [markdown]
# Two centres in one cell are a problem, for a cell has room for one object only: the later one
# takes it, the other is lost. Guess: of 1,000 objects, how many are lost with 12, 6 and 3 cells to
# a side? What is not lost can be read back exactly, and that is worth a test, in the cell after:
# spread, read, compare.

# %%
for stride in (8, 16, 32):
    coarse = yolo.YoloConfig(stride=stride)
    missing = yolo.lost(scenes.boxes, scenes.labels, coarse, size, size).sum()
    share = 1000 * missing / (scenes.labels >= 0).sum()
    report.value(f"{size // stride:>2} x {size // stride:<2} cells: lost of 1,000", f"{share:.0f}")

# %%
read = yolo.detections(target, paper, confidence=0.5, threshold=1.0)
real = objects_of(scenes.boxes, scenes.labels)  # all objects of all scenes, as one list
missing = int(yolo.lost(scenes.boxes, scenes.labels, paper, size, size).sum())
report.holds("all the others come back", len(read.boxes) == len(real.boxes) - missing)
best = boxes.iou_matrix(read.boxes, real.boxes)
best = best.masked_fill(read.images[:, None] != real.images, 0).max(1).values
report.holds("each in its place", bool((best > 0.9999).all()))

# %% [markdown]
# ## Build it: the network
#
# A stack of convolutions makes the picture smaller, as in chapter 02, until one place of the map is
# one cell. Deeper levels are coarser and see more of the picture, so they are enlarged and added
# back: a cell of 8 pixels can only tell a bus from a bird when it knows what lies around it. The
# paper's B is the number of boxes a cell may give. With B = 2 and 6 classes: how many numbers?

# %%
runtime.seed_everything(0)
for count in (1, 2):
    model = yolo.YOLO(yolo.YoloConfig(boxes=count))
    raw = model(torch.rand(2, 3, 96, 96))  # (2, 12, 12, B * 5 + 6)
    print(f"B = {count}:", tuple(raw.shape))
levels = model.backbone(torch.rand(2, 3, 96, 96))
print("levels:", [tuple(level.shape) for level in levels])

# %% [markdown]
# These raw numbers can be anything. A sigmoid brings x, y, w, h and the confidence between 0 and 1,
# a softmax makes the class scores sum to 1 (`yolo.activate`).
#
# ## Build it: a loss of three parts
#
# 1. **Box**: x, y and w, h of the cells *with* an object. In the others they mean nothing.
# 2. **Confidence**: 1 where an object is, 0 where none is. The empty ones are many, and weigh half.
# 3. **Class**: again only where an object is.
#
# The paper squares all errors, and takes roots of w and h first, so that an error of two pixels
# counts more in a small box. The box counts five times, for otherwise the many confidences would
# drown it. (Where we ask for a confidence of 1, the paper asks for the IoU of the predicted box.)
# By hand for our scene and an untrained network:

# %%
runtime.seed_everything(0)
model = yolo.YOLO(paper)
with torch.no_grad():
    raw = model(scenes.images[number : number + 1].float() / 255)  # (1, 12, 12, 11)
said = yolo.activate(raw, paper)[0]  # (12, 12, 11)
object_there = grid[..., 4] > 0.5  # (12, 12)
cells = int(object_there.sum())

mine, truth = said[object_there], grid[object_there]  # (objects, 11) each
place = ((mine[:, :2] - truth[:, :2]) ** 2).sum()
shape = ((mine[:, 2:4].sqrt() - truth[:, 2:4].sqrt()) ** 2).sum()
by_hand = {
    "box": 5 * (place + shape) / cells,
    "object": ((mine[:, 4] - 1) ** 2).sum() / cells,
    "no object": 0.5 * (said[~object_there][:, 4] ** 2).sum() / cells,
    "class": ((mine[:, 5:] - truth[:, 5:]) ** 2).sum() / cells,
}
library = yolo.parts(raw, scenes.boxes[number][None], scenes.labels[number][None], paper)
for part, value in by_hand.items():
    report.equal(part, value, library[part], rtol=1e-4)

# %% [markdown]
# With B > 1 only one of a cell's boxes learns the object: the one that already fits it best, by
# IoU. It is called *responsible*; the others are told that they have none.
#
# For training below we take what later versions do: complete IoU for the box, since boxes are
# judged by their overlap, and cross entropies for confidence and class. (The lab compares the two,
# and tries the roots and the half.)
#
# ## Build it: from a grid to a list
#
# The network gives a grid; its users want a list of objects. Four steps lead from one to the other.
# We have no trained network yet, so we take a *pretended* one: the truth, shaken, with some wrong
# names and some *ghosts*, boxes where nothing is. First step: **cells below a confidence are
# zeroed**.

# %%
pretended = figures.pretend(scenes, near, seed=0)  # (200, 12, 12, 11)
sure = yolo.drop_unsure(pretended, near, confidence=0.5)  # the same shape
one, kept = pretended[number], sure[number]  # (12, 12, 11)
print("cells that say anything:", int((one[..., 4] > 0).sum()), "->", int((kept[..., 4] > 0).sum()))
report.equal("by hand", one * (one[..., 4:5] >= 0.5), kept)

# %% [markdown]
# Second, **centre and size become corners**, in pixels, and the grid becomes rows, one to a box
# (with B > 1, B rows to a cell). Third, **each row gets its best class**: x1, y1, x2, y2, class,
# class score. The score is the confidence times the probability of the class. What shapes?

# %%
rows = yolo.box_rows(sure, near)  # (200, 12, 12, 11) -> (200, 144, 11)
named = yolo.class_rows(rows)  # -> (200, 144, 6)
print(tuple(sure.shape), "->", tuple(rows.shape), "->", tuple(named.shape))

row, column = (kept[..., 4] > 0).nonzero()[0].tolist()  # by hand, for one cell
x, y, w, h, confidence, *probabilities = kept[row, column].tolist()
x, y, w, h = (column + x) * 8, (row + y) * 8, w * 96, h * 96
corner = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2]).clamp(0, 96)
score = confidence * max(probabilities)
mine = torch.cat([corner, torch.tensor([probabilities.index(max(probabilities)), score])])
report.equal("one row by hand", mine, named[number, row * 12 + column], rtol=1e-4, atol=1e-4)

# %% [markdown]
# Fourth: three cells answer for an object, so most objects are found several times.
#
# > **non-maximum suppression (NMS)**: of boxes that overlap by more than a threshold, only the one
# > with the highest score is kept.
#
# Sort by score. Take the best, drop all that overlap it too much, go on with what is left. And do
# so **for each class by itself**.


# %%
def suppress(candidates, scores, threshold):
    """Which of some boxes (n, 4) are kept, best first."""
    waiting = scores.argsort(descending=True).tolist()
    kept = []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        fit = {i: iou(candidates[best].tolist(), candidates[i].tolist()) for i in waiting}
        waiting = [i for i in waiting if fit[i] <= threshold]
    return torch.tensor(kept)


image = named[number][named[number][:, 5] > 0]  # (n, 6)
found = []
for label in image[:, 4].unique():
    same = image[image[:, 4] == label]
    found.append(same[suppress(same[:, :4], same[:, 5], threshold=0.5)])
found = torch.cat(found)
found = found[found[:, 5].argsort(descending=True)]
report.equal("as the library's", found, yolo.suppress(named, threshold=0.5)[number])

# %% [markdown]
# Here is what each step leaves. How many boxes will there be after the last one?

# %%
before = named[number][named[number][:, 5] > 0]
rough = yolo.class_rows(yolo.box_rows(pretended, near))[number]
stages = {"all cells above 0.1": rough[rough[:, 5] > 0.1], "sure ones": before, "suppressed": found}
panels = [figures.scene_panel(scenes, number, "the truth")]
for title, stage in stages.items():
    marks = figures.named_marks(stage[:, :4], stage[:, 4].long(), stage[:, 5])
    panels.append(figures.Panel(scenes.images[number], marks, title))
left = figures.pictures(
    panels,
    caption="From the truth to a pretended prediction of it, step by step.",
    alt="The same scene four times: with its true boxes, with many predicted ones, with those that "
    "are sure, and with one for nearly each object.",
)
print(dict(zip(["truth", *stages], left, strict=True)))

# %% [markdown]
# One box more than there are objects: two boxes of the vehicle overlap by less than the threshold,
# so both stay. Suppression compares boxes with boxes; of objects it knows nothing.
#
# The library does all four steps for all images at once (`yolo.detections`), with each class of
# each image as a group of its own. On a hard set, in time and result: ours against torchvision's,
# which is written in C++.

# %%
import time

every = yolo.detections(pretended, near, confidence=0.5, threshold=0.5)
steps = yolo.suppress(named, threshold=0.5)  # a list, one (n, 6) for each image
joined = torch.cat(steps)[:, :4]
report.equal("all at once as in steps", every.boxes, joined, atol=1e-4)

generator = torch.Generator().manual_seed(0)
low = torch.rand(5000, 2, generator=generator) * 400
crowd = torch.cat([low, low + 10 + 40 * torch.rand(5000, 2, generator=generator)], dim=1)
scores, groups = torch.rand(5000, generator=generator), torch.arange(5000) % 6
report.holds("NMS of 5,000", ops.nms(crowd, scores, 0.5).equal(boxes.nms(crowd, scores, 0.5)))
theirs = ops.batched_nms(crowd, scores, groups, 0.5)
report.holds("by class", theirs.equal(boxes.nms(crowd, scores, 0.5, groups)))
for name, function in {"ours": boxes.nms, "torchvision's": ops.nms}.items():
    started = time.perf_counter()
    function(crowd, scores, 0.5)
    report.value(name, f"{1000 * (time.perf_counter() - started):.1f}", unit="ms")

# %% [markdown]
# ## Build it: one number for how good a detector is
#
# A detector gives boxes with scores. How good are they? A box is *right* when it has the class of
# an object and overlaps it by at least one half, and no better box has found that object before.
#
# > **precision**: of the boxes that were given, the share that is right.
#
# > **recall**: of the objects that are there, the share that was found.
#
# Show only what is very sure, and precision is high and recall low; show everything, and it is the
# other way round. So go down the list, best score first, and note both after every box. Here for
# the birds of the pretended network. We keep boxes down to a confidence of 0.01, so the list is
# long and its end holds little but ghosts.

# %%
guesses = yolo.detections(pretended, near, confidence=0.01, threshold=0.5)
bird = CLASSES.index("bird")
order = [n for n in guesses.scores.argsort(descending=True).tolist() if guesses.labels[n] == bird]
birds = {}  # image -> boxes of the birds in it
for number in (real.labels == bird).nonzero().flatten().tolist():
    birds.setdefault(int(real.images[number]), []).append(real.boxes[number].tolist())
total = sum(len(group) for group in birds.values())

right = []
for guess in order:
    group = birds.get(int(guesses.images[guess]), [])  # those that nobody has found yet
    fits = [iou(guesses.boxes[guess].tolist(), box) for box in group]
    best = max(fits, default=0)
    right.append(best >= 0.5)
    if best >= 0.5:
        group.pop(fits.index(best))
hits = torch.tensor(right).double().cumsum(0)
recall, precision = hits / total, hits / torch.arange(1, len(hits) + 1)
print(f"{total} birds, {len(order)} boxes, {int(hits[-1])} of them right")

# %% [markdown]
# > **average precision (AP)**: the mean of the precision over all recalls from 0 to 1; of several
# > boxes with at least that recall, the best precision counts. 0 where a recall is never reached.
#
# > **mAP@0.5**: the mean of the AP over all classes, with boxes right from an IoU of 0.5 on. COCO's
# > mAP is also the mean over ten such thresholds, 0.5 to 0.95.
#
# COCO reads the curve at 101 recalls. What would the AP be of a detector that finds half of all
# birds and is never wrong? Then come all classes, thresholds and images, against torchmetrics with
# COCO's own evaluation program.

# %%
ap = 0.0
for wanted in range(101):
    reached = precision[recall >= wanted / 100]
    ap += (reached.max().item() if len(reached) else 0.0) / 101
by_class = average_precision.average_precision(guesses, real, len(CLASSES))  # (1, 10, 6)
report.equal("AP of birds", torch.tensor(ap).double(), by_class[0, 0, bird], rtol=1e-6)
drawn = figures.precision_recall(
    {"bird": (recall, precision)},
    caption="From left to right down the list. Each wrong box is a step down; the long fall at the "
    "right end are the ghosts, which find nothing more.",
    alt="A curve of precision over recall: it starts at 1, stays high, and falls towards the end.",
)
print(f"AP of birds {ap:.3f}; a detector that finds half and never errs: {51 / 101:.3f}")

# %%
from torchmetrics.detection import MeanAveragePrecision

thresholds = list(average_precision.COCO_THRESHOLDS)  # 0.5, 0.55, ..., 0.95
recalls = [level / 100 for level in range(101)]  # both as exact as ours: theirs are float32
metric = MeanAveragePrecision(iou_thresholds=thresholds, rec_thresholds=recalls)
for image in range(len(scenes.images)):
    mine, its = guesses.images == image, real.images == image
    says = {"boxes": guesses.boxes[mine], "labels": guesses.labels[mine]}
    says["scores"] = guesses.scores[mine]
    metric.update([says], [{"boxes": real.boxes[its], "labels": real.labels[its]}])
theirs = metric.compute()
ours = average_precision.coco_map(guesses, real, len(CLASSES))
for name in ("map", "map_50", "map_75"):
    report.equal(name, torch.tensor(ours[name]), theirs[name], rtol=1e-4)
print(f"mAP@0.5 of the pretended network: {ours['map_50']:.3f}")

# %% [markdown]
# ## Train it
#
# 8,000 scenes of training cut-outs, each in light, size and angle of its own, on training photos
# that are turned and coloured anew, so that a few stand for many. Two tests, each of 500 scenes on
# photos never seen: **new scenes of seen cut-outs**, and **scenes of unseen cut-outs**, birds and
# vehicles that were never trained on. Where will the two differ more: in *finding* objects, or in
# *naming* them?

# %%
recipe = recipes.yolo()
model = recipe.model
images, truth_boxes, truth_labels = next(iter(recipe.batches))
with torch.no_grad():
    outputs = model.eval()(images)
for name, tensor in {"images": images, "boxes": truth_boxes, "grid": outputs}.items():
    print(f"{name:<7}", tuple(tensor.shape))
print(f"parameters: {sum(p.numel() for p in model.parameters()):,}")
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} scenes")
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="The loss by step (dotted: all scenes seen once).",
    alt="The loss falls steeply at first, then more slowly until the end.",
    epoch=len(recipe.batches),
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
report.seconds("Training", history.seconds, target=60)

# %% [markdown]
# *Object AP* counts a box as right when it is in the right place, whatever it is called. The
# targets come from a trial on easier scenes: without the nearly hidden objects that are in ours,
# and on photos more like those of the training.

# %%
scores = recipe.test(model)
results = {
    "seen mAP@0.5": ("mAP@0.5, seen cut-outs", 93, 59.5),
    "unseen mAP@0.5": ("mAP@0.5, unseen cut-outs", 58, 26.5),
    "seen object AP": ("object AP, seen cut-outs", 96.5, 66.5),
    "unseen object AP": ("object AP, unseen cut-outs", 91, 46),
}
for key, (name, aim, gate) in results.items():
    report.result(name, 100 * scores[key], "%", target=aim, gate=gate)
named = scores["unseen mAP@0.5"] / max(scores["seen mAP@0.5"], 1e-9)
placed = scores["unseen object AP"] / max(scores["seen object AP"], 1e-9)
report.value("left with unseen cut-outs, of mAP and of object AP", f"{named:.2f}, {placed:.2f}")
report.holds("naming suffers more than finding", named < placed, trained=True)

# %% [markdown]
# With unseen cut-outs both fall, and the names fall more. The network has learned a good deal about
# what an *object* looks like: something with an outline that does not belong to the photo. But of
# each class it saw a few dozen cut-outs, and has learned those rather than the class: a bird of
# another shape may be found, and called something else. A single number over both tests would have
# hidden this.
#
# ## Look inside
#
# Which cells fire? Each scene above its map of confidence. How many cells do you expect to be
# bright for an object?

# %%
tests, grids = test_scenes(), {}
for kind, each in tests.items():
    outputs = train.predict(model, recipes.scale_pixels(each.images))  # (500, 12, 12, 11)
    grids[kind] = yolo.activate(outputs, model.config)
some = slice(0, 5)
bright = figures.firing(
    tests["unseen"].images[some],
    grids["unseen"][some, ..., 4],
    caption="Above scenes of unseen cut-outs, below each the confidence of its 144 cells: blue is "
    "0, yellow is 1.",
    alt="Five scenes, and below each a map of 12 by 12 squares with bright groups, most of them "
    "where the objects are.",
)
report.value("cells above one half", *bright)

# %% [markdown]
# Three cells an object were taught to fire. So short a training leaves soft edges: around an object
# more cells are half sure, a small object may stay dark, and some cells fire at planks or leaves.
# What is found, in both kinds of scenes? The number at a box is its *score*, confidence times class
# probability.

# %%
found = {}
for kind, grid in grids.items():
    every = yolo.detections(grid, model.config, confidence=0.3, threshold=0.5)
    found[kind] = average_precision.Detections(*(column[every.scores >= 0.3] for column in every))
panels = [
    figures.found_panel(tests[kind], number, found[kind], f"{kind} cut-outs")
    for kind in ("seen", "unseen")
    for number in (0, 1, 2, 3)
]
counts = figures.pictures(
    panels,
    caption="Found with a score of at least 0.3. Above cut-outs it knows, below cut-outs it has "
    "never seen, on the same photos.",
    alt="Eight scenes with predicted boxes, names and scores; below, more of the names are wrong.",
)
report.value("boxes", *counts)

# %% [markdown]
# And counted, over all 500 scenes of each kind: what became of the objects?

# %%
truths = {kind: objects_of(each.boxes, each.labels) for kind, each in tests.items()}
shares = figures.outcomes(
    {f"{kind} cut-outs": figures.what_became(found[kind], truths[kind]) for kind in truths},
    caption="What became of the objects: found and rightly named, found under another name, or not "
    "found.",
    alt="Two bars in three parts each. The part found under another name is larger for unseen "
    "cut-outs.",
)
misnamed = {kind: values[1] for kind, values in shares.items()}
more = misnamed["unseen cut-outs"] > misnamed["seen cut-outs"]
report.holds("unseen cut-outs are misnamed more often", more, trained=True)

# %% [markdown]
# There is one more way to fail, of which no object tells: a *false alarm*, a box where nothing is.
# What would the mAP be if somebody took all boxes away that hardly touch an object? And what if all
# names were right (the object AP)? Which costs more, do you think, wrong names or false alarms?

# %%
costs = {}
for kind, grid in grids.items():
    every = yolo.detections(grid, model.config, confidence=0.01, threshold=0.5)
    touching = figures.touches(every, tests[kind])
    clean = average_precision.Detections(*(tensor[touching] for tensor in every))
    without = average_precision.coco_map(clean, truths[kind], 6)["map_50"]
    before, right = scores[f"{kind} mAP@0.5"], scores[f"{kind} object AP"]
    report.value(f"{kind} cut-outs, mAP@0.5", f"{before:.3f}")
    report.value("  without false alarms, with right names", f"{without:.3f}, {right:.3f}")
    costs[kind] = {"alarms": without - before, "names": right - before}
dearer = costs["unseen"]["names"] > costs["unseen"]["alarms"]
report.holds("unseen cut-outs: wrong names cost more", dearer, trained=True)

# %% [markdown]
# A false alarm costs little as long as it is less sure than the true boxes: precision is noted from
# the surest box down. A wrong name costs twice, a wrong box in one class and a missed object in the
# other. Which classes are taken for which? And what are the surest mistakes?

# %%
table = figures.confused(
    found["unseen"],
    truths["unseen"],
    caption="Unseen cut-outs: what the objects of each class were called, of those found.",
    alt="A table of six by six shares, rows for what an object is, columns for what it was called.",
)
surest = figures.worst(
    tests["unseen"],
    found["unseen"],
    truths["unseen"],
    most=8,
    caption="The surest mistakes: dashed what was said, white what is there.",
    alt="Eight scenes, each with a dashed box that has the wrong name, place or size.",
)
report.sample(*surest)

# %% [markdown]
# Read the table row by row: where the diagonal is pale, the network knows its training cut-outs of
# the class, and not the class. The surest mistakes are of three kinds. Some boxes sit well on an
# object and carry the wrong name. Some take a part for the whole, or two objects for one. And some
# see an object where the photo has planks, leaves or blades of grass, with edges as sharp as those
# of a cut-out. More photos would mend the last kind, more cut-outs the first.
#
# ## Play
#
# Every number below is read from the trained grid. First the two knobs that whoever uses a detector
# has to set:
#
# - Lower the confidence until ghosts appear. Are the ghosts found once, or several times?
# - Set the overlap to 1. Why are there about three boxes for each object? Then to 0: which scene
#   loses a true object by it?

# %%
played = tests["seen"]


def show_found(number, confidence, threshold):
    """The boxes of one test scene, before and after suppression."""
    grid = grids["seen"][number]
    return figures.found_figure(played.images[number], grid, model.config, confidence, threshold)


found_explorer = widgets.explore(
    show_found,
    alt="A scene twice, with all boxes above the confidence, and with those left by suppression.",
    caption="Left all boxes above the confidence, right those that suppression leaves.",
    number=widgets.slider("scene", 0, 99, 1, 1),
    confidence=widgets.slider("confidence", 0.02, 0.9, 0.3, 0.02),
    threshold=widgets.slider("overlap allowed", 0, 1, 0.5, 0.05),
)

# %%
counts = {}
for confidence in (0.02, 0.3, 0.9):
    many = yolo.detections(grids["seen"], model.config, confidence, threshold=1.0)
    left = yolo.detections(grids["seen"], model.config, confidence, threshold=0.5)
    counts[confidence] = len(left.boxes)
    report.value(f"confidence {confidence}", len(many.boxes), "boxes, then", len(left.boxes))
print("objects that are there:", len(truths["seen"].boxes))
report.holds("the stricter, the fewer", counts[0.02] >= counts[0.3] >= counts[0.9])

# %% [markdown]
# Ghosts, too, are often found by several cells, and suppression takes their copies away, but not
# the ghosts. With an overlap of 1 nothing is suppressed, and each object keeps the boxes of its
# three cells. With 0, of two birds whose boxes touch the less sure one is lost.
#
# Now choose a cell, and see what it says by itself. Walk from outside into an object: at which cell
# does the confidence rise? What do silent cells say about size and class, and why does it not
# matter?


# %%
def show_cell(number, row, column):
    """What one cell of one test scene says."""
    grid = grids["seen"][number]
    return figures.cell_figure(played.images[number], grid, model.config, row, column)


sure_row, sure_column = divmod(int(grids["seen"][1, ..., 4].argmax()), 12)
cell_explorer = widgets.explore(
    show_cell,
    alt="A scene under a grid, one cell framed, with the box it predicts; bars of its confidence "
    "and class scores.",
    caption="The framed cell's box, and its numbers.",
    number=widgets.slider("scene", 0, 99, 1, 1),
    row=widgets.slider("row", 0, 11, sure_row, 1),
    column=widgets.slider("column", 0, 11, sure_column, 1),
)
corner = yolo.cell_boxes(grids["seen"], model.config)[..., 0, :]  # (500, 12, 12, 4)
centre = boxes.to_centres(corner)[..., :2]  # in pixels
middle = 8 * torch.stack(torch.meshgrid(*[torch.arange(12) + 0.5] * 2, indexing="xy"), dim=-1)
reach = (centre - middle).abs().max().item()
report.value("farthest centre from its cell's middle", f"{reach:.1f}", unit="pixels")
report.holds("no cell can speak of what is more than a cell away", reach <= 8)

# %% [markdown]
# The confidence rises near the middle of an object, not at its edge. Silent cells name a size and a
# class, too: nobody has taught them any, and since step one zeroes them, nobody reads them.
#
# ## Claims
#
# “**Suppression should run per class.**” Take the perfect detector: it gives each true box once,
# with a random score. Everything that suppression takes from it is a loss. We let it look at
# crowded scenes, once with all classes together and once class by class. Then the trained detector,
# which finds some objects under two names: which way will its mAP move when all classes go
# together?

# %%
crowded = SceneMaker("train", SceneConfig(least=6, most=10)).draw(400, seed=3)
perfect = objects_of(crowded.boxes, crowded.labels)
draws = torch.rand(len(perfect.boxes), generator=torch.Generator().manual_seed(0))
groups = {"all together": perfect.images, "class by class": perfect.images * 6 + perfect.labels}
taken = {
    name: len(perfect.boxes) - len(boxes.nms(perfect.boxes, draws, 0.5, group))
    for name, group in groups.items()
}
drawn = plot.bars(
    {name: 100 * count / len(perfect.boxes) for name, count in taken.items()},
    "percent of true boxes lost",
    caption="What suppression at an overlap of 0.5 takes from a perfect detector.",
    alt="Two bars: all together loses several times as many as class by class.",
)

# %%
together = yolo.detections(grids["seen"], model.config, 0.01, 1.0)
kept = boxes.nms(together.boxes, together.scores, 0.5, together.images)
one_pass = average_precision.Detections(*(tensor[kept] for tensor in together))
one_pass = average_precision.coco_map(one_pass, truths["seen"], 6)["map_50"]
report.verdict(
    "11.5",
    "Suppression should run per class",
    outcome="true" if taken["class by class"] < taken["all together"] else "false",
    evidence=f"of {len(perfect.boxes)} true boxes in crowded scenes, {taken['all together']} are "
    f"lost when all classes go together, {taken['class by class']} class by class; mAP@0.5 of the "
    f"trained detector {one_pass:.3f} and {scores['seen mAP@0.5']:.3f}",
)

# %% [markdown]
# Two objects of *unlike* classes that overlap by more than half are two objects. Two boxes of *one*
# class that do so are more often one object found twice; even so the perfect detector loses some.
# The trained detector pays both ways: all together, an object may be dropped for its neighbour of
# another class; class by class, an object found under two names stays twice. Its mAP moves little.
#
# “**The accuracy of the class head tells how good a detector is.**” We take the trained network,
# and leave its class scores exactly as they are: in the cells that hold an object, the share of
# right names is the same to the last digit. What we spoil is the rest: boxes are shaken, or
# confidences are swapped between cells. What becomes of the mAP?

# %%
few = [tensor[:200] for tensor in (grids["seen"], played.boxes, played.labels)]
class_target = yolo.encode(few[1], few[2], paper, 96, 96)
holds_object = class_target[..., 4] > 0.5  # (200, 12, 12)


def measure(grid):
    """Accuracy of the names in cells with an object, and mAP@0.5."""
    same = grid[..., 5:].argmax(-1) == class_target[..., 5:].argmax(-1)  # (200, 12, 12)
    what = yolo.detections(grid, model.config, confidence=0.02, threshold=0.5)
    value = average_precision.coco_map(what, objects_of(*few[1:]), 6)["map_50"]
    return same[holds_object].double().mean().item(), value


def spoil(grid, what, seed):
    """The same class scores, with other boxes or confidences."""
    grid, generator = grid.clone(), torch.Generator().manual_seed(seed)
    if what == "boxes shaken":
        grid[..., 2:4] *= (0.5 * torch.randn(grid[..., 2:4].shape, generator=generator)).exp()
    if what == "confidences swapped":
        mixed = torch.randperm(144, generator=generator)
        grid[..., 4] = grid[..., 4].flatten(1)[:, mixed].view(grid.shape[:3])
    return grid


# %%
plain = measure(few[0])
kinds = ("boxes shaken", "confidences swapped")
spoiled = {kind: [measure(spoil(few[0], kind, seed)) for seed in range(5)] for kind in kinds}
accuracies = {plain[0], *(accuracy for runs in spoiled.values() for accuracy, _ in runs)}
values = {kind: torch.tensor([value for _, value in runs]) for kind, runs in spoiled.items()}
errors = {"as trained": 0.0} | {kind: v.std().item() / 5**0.5 for kind, v in values.items()}
means = {"as trained": plain[1]} | {kind: v.mean().item() for kind, v in values.items()}
plot.bars(
    means, "mAP@0.5", errors=errors,
    caption="One class head, three detectors: mean and standard error of five draws.",
    alt="Three bars of mAP: the longest as trained, much shorter ones with shaken boxes and with "
    "swapped confidences.",
)  # fmt: skip
drop = plain[1] - means["boxes shaken"]
report.verdict(
    "11.6",
    "The accuracy of the class head tells how good a detector is",
    outcome="false" if len(accuracies) == 1 and drop > 0.1 else "true",
    evidence=f"at one accuracy of {100 * plain[0]:.1f} % mAP@0.5 is {plain[1]:.3f} as trained, "
    f"{means['boxes shaken']:.3f} with shaken boxes, {means['confidences swapped']:.3f} with "
    "swapped confidences",
    effect=drop,
    standard_error=errors["boxes shaken"],
)

# %% [markdown]
# The class head is asked only where an object is known to be. Whether the detector finds it, how
# well the box sits, and how many ghosts it adds: of all that its accuracy knows nothing. Watch mAP
# instead. The [lab](labs/11_yolo.ipynb) puts the other claims to the test: are 7x7 cells enough, do
# the roots matter, and the weight of empty cells, does suppression remove only duplicates? All
# verdicts of the course are collected in [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 11.1.** Sizes: five numbers.

# %%
from course_lib.teaching.exercises import ch11

my_sizes = {
    "cells in the grid of a picture of 96 x 160 pixels at stride 16": ...,
    "numbers a cell gives with B = 2 and 20 classes": ...,
    "row of the cell (from 0, stride 8) for a centre at x = 20, y = 50": ...,
    "IoU of (0, 0, 4, 4) and (2, 2, 6, 6), as a fraction 1 / ?": ...,
    "AP (101 recalls) of a detector whose every box is wrong": ...,
}
ch11.sizes.check(my_sizes)

# %% [markdown]
# **Exercise 11.2.** The IoU of each box with each: `a` (N, 4) and `b` (M, 4), corners, give
# (N, M). No loop, and no ready-made function. Every box has an area.


# %%
def overlaps(a, b):
    return ...  # your code here


ch11.overlaps.check(overlaps)

# %% [markdown]
# **Exercise 11.3.** Spread one scene over a grid. `objects` is the label list, float (M, 5): class,
# x, y, w, h, all four as shares of the picture. Return (K, K, 5 + C) for `cells` K and `classes` C:
# x and y in cells from the cell's corner, w and h as they are, confidence 1, one-hot. Of two
# objects in one cell the later one stays. (No centre lies exactly on the right or lower border.)


# %%
def spread(objects, cells, classes):
    return ...  # your code here


ch11.spread.check(spread)

# %% [markdown]
# **Exercise 11.4.** Suppression, class by class. `candidates` (n, 4), `ratings` (n,), `names` (n,)
# int64. Return a list of the numbers of the boxes that are kept, by falling rating. A box goes when
# its IoU with a kept one of its class *exceeds* `threshold`. You may use `boxes.iou`.


# %%
def suppress_by_class(candidates, ratings, names, threshold):
    return ...  # your code here


ch11.suppress_by_class.check(suppress_by_class)

# %% [markdown]
# **Exercise 11.5.** Average precision from a list: `right` is a list of bools, best score first,
# and `objects` says how many there are to find. Return COCO's AP at 101 recalls, a number.


# %%
def area_under(right, objects):
    return ...  # your code here


ch11.area_under.check(area_under)

# %% [markdown]
# ### Quiz

# %%
for question in ch11.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - One pass: **each cell of a grid answers for the object whose centre it holds**.
# - The loss has three parts; box and class count **only where an object is**.
# - Duplicates are removed by **suppression, class by class**, after the network.
# - **Average precision** judges finding, placing, naming and ranking at once; test with objects
#   never seen, too, and say which test a number comes from.
# - *Where something is* carries over to objects never seen better than *what it is*.
#
# **Papers.** J. Redmon and others: *You only look once: unified, real-time object detection*, 2016.
# J. Redmon, A. Farhadi: *YOLO9000*, 2017. H. Rezatofighi and others: *Generalized intersection over
# union*, 2019. Z. Zheng and others: *Distance-IoU loss*, 2020. T.-Y. Lin and others: *Microsoft
# COCO*, 2014 (average precision).
#
# **Longer, larger, elsewhere.** At the size of the paper, 448 pixels and two boxes a cell, on
# pictures of your own or on VOC or COCO as you unpack them, on one GPU or on four;
# [Beyond the notebook](../docs/beyond_the_notebook.md) lists the options.
#
# ```
# python -m course_lib train yolo --size base --data FOLDER --checkpoint run.pt --resume
# torchrun --nproc-per-node 4 -m course_lib train yolo --size base --data FOLDER --save yolo.pt
# ```

# %%
clock.stop()
