# %% [markdown]
# # 12 lab · Where should a detector's boxes begin, and what did each detector before it save?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 12.2, 12.3 and 12.5 are settled in the
# [lesson](../12_ssd.ipynb). The second half tells the story of the detectors that look twice, from
# R-CNN to Mask R-CNN, and measures what each step saved.

# %%
import time

import torch
import torch.nn.functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align, roi_pool

from course_lib import boxes as box_ops
from course_lib import pretrained, rois, runtime, ssd
from course_lib.scenes import SceneMaker
from course_lib.teaching import experiments, plot, report
from course_lib.teaching.experiments import ch12 as stored
from course_lib.teaching.figures import ch12_lab as figures
from course_lib.teaching.figures.ch03 import standard_error
from course_lib.teaching.figures.ch07_lab import dots
from course_lib.teaching.figures.ch11 import Mark, Panel, pictures
from course_lib.teaching.figures.ch12 import COLORS
from course_lib.yolo import Backbone

clock = report.Clock(budget=60)


# %%
def shown(values):
    """Mean over seeds (seeds,) with its standard error."""
    return f"{values.mean():.1f} ± {standard_error(values):.1f}"


def clearly(values, least=0.0):
    """Whether the mean over seeds lies above `least`, and above two standard errors."""
    return bool(values.mean() > max(least, 2 * standard_error(values)))


# %% [markdown]
# ## 12.1 · “n sizes and m ratios give n · m boxes per pixel”
#
# Three sizes and three ratios: how many anchors stand at one place? Count them in three programs:
# this course's, the one of Faster R-CNN, and SSD300 as its authors built it.

# %%
SIZES, RATIOS = (32, 64, 128), (1, 2, 0.5)
ours = box_ops.to_centres(ssd.anchors_for(1, 1, SIZES, RATIOS, size=256))  # (5, 4)
faster = AnchorGenerator((SIZES,), (RATIOS,))
faster_boxes = box_ops.to_centres(faster.cell_anchors[0].float())  # (9, 4)
GRIDS = (38, 19, 10, 5, 3, 1)  # places on a side of SSD300's six levels
ssd300 = DefaultBoxGenerator([[2], [2, 3], [2, 3], [2, 3], [2], [2]])
maps = [torch.zeros(1, 1, n, n) for n in GRIDS]
everywhere = ssd300(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), maps)[0]  # (A, 4)
second = everywhere[38 * 38 * 4 :][:6]  # the first place of the second level
drawn = figures.one_place(
    {
        "this course": ours[:, 2:].unbind(1),
        "Faster R-CNN": faster_boxes[:, 2:].unbind(1),
        "SSD300, second level": box_ops.to_centres(second)[:, 2:].unbind(1),
    },
    caption="All anchors at one place, for three sizes and three ratios in the first two panels. "
    "SSD300's second level has one size in five ratios, and another one as a square.",
    alt="Three panels of rectangles around a point: five, nine and six of them.",
)
assert list(drawn.values()) == [5, 9, 6]

# %%
per_place = ssd300.num_anchors_per_location()
report.holds("n + m - 1 = 5 here", len(ours) == 5)
report.holds("n · m = 9 in Faster R-CNN", faster.num_anchors_per_location() == [9])
report.holds("4 or 6, by level, in SSD300", per_place == [4, 6, 6, 6, 4, 4])
report.holds("8,732 in all in SSD300", len(everywhere) == 8732)

# %% [markdown]
# A place more or less per pixel sounds harmless. How many anchors are there in a whole image, and
# how does that grow with the image?

# %%
sides = (96, 192, 384, 768)
configs = [ssd.SSDConfig(size=side) for side in sides]
sum_rule = [len(ssd.anchors(config)) for config in configs]
pairs = [
    sum(n * n * len(s) * len(r) for n, s, r in zip(c.grids, c.sizes, c.ratios, strict=True))
    for c in configs
]
drawn = figures.curves(
    sides,
    {"": {"n · m a place": pairs, "n + m - 1 a place": sum_rule}},
    ("side of the image, pixels", "anchors"),
    caption="Anchors in an image, for this chapter's five levels with two sizes and three ratios. "
    "Both axes are logarithmic: twice the side, four times the anchors.",
    alt="Two parallel rising lines of the number of anchors against the image's side.",
    log=True,
)[""]
assert drawn["n + m - 1 a place"][0] == 194 * 4 and drawn["n · m a place"][0] == 194 * 6
report.verdict(
    "12.1",
    "n sizes and m ratios give n * m boxes per pixel",
    outcome="depends: on the recipe",
    evidence=f"for three sizes and three ratios: {len(ours)} here, {len(faster_boxes)} in Faster "
    f"R-CNN; SSD300 has {per_place} by level; for 96 pixels {sum_rule[0]:,} anchors in place of "
    f"{pairs[0]:,}",
)

# %% [markdown]
# The number is a choice, not a law. Faster R-CNN takes all pairs, on one map or a few; SSD pairs
# the first size with all ratios and the first ratio with all sizes, since the network corrects the
# shape anyway. The resolution matters far more than the recipe: anchors grow with the *area* of the
# image, and nearly all of them are background.

# %% [markdown]
# ## 12.6 · “Anchor shapes should follow the data”
#
# The usual ratios are 1, 2 and a half. Here is a world that they do not fit: photo scenes pressed
# to a third of their height, three in one image, so that nearly all objects lie flat. Which ratios
# do its objects have, and how well does the best of all anchors fit each of them?

# %%
(images, boxes, labels), _ = stored.low_scenes()
drawn = pictures(
    [Panel(images[n], [Mark(box) for box in boxes[n][labels[n] >= 0]]) for n in range(4)],
    caption="Four images of three low scenes each: all is three times as wide for its height.",
    alt="Four images, each of three flat scenes one above the other, with boxes around objects.",
)
kinds = {"default": "default", "ratios": "measured ratios", "both": "ratios, smaller sizes"}
report.value("the default's ratios", *stored.shapes("default")["ratios"][0])
report.value("measured ratios", *(f"{r:.1f}" for r in stored.shapes("ratios")["ratios"][0]))

# %%
fits, finest = {}, {}
for kind, name in kinds.items():
    overlaps = stored.overlaps(kind)  # (objects, anchors)
    level = ssd.anchor_levels(ssd.SSDConfig(**stored.shapes(kind)))[overlaps.argmax(1)]
    fits[kind] = (overlaps >= 0.5).double().sum(1).mean()
    finest[kind] = 100 * (level == 0).double().mean()  # percent of the objects
    report.value(f"{name}: mean IoU of the best anchor", f"{overlaps.amax(1).mean():.2f}")
    report.value(f"{name}: anchors of IoU 0.5 or more, an object", f"{fits[kind]:.2f}")
    report.value(f"{name}: objects whose best one is on the finest map", f"{finest[kind]:.0f} %")
report.holds("with measured ratios more anchors fit", fits["ratios"] > 1.3 * fits["default"])
report.holds("with smaller sizes objects move to coarser maps", finest["both"] < finest["ratios"])

# %% [markdown]
# An object always gets one anchor, fitting or not, and the box head can change any shape. So will
# a detector with badly fitting anchors find less?

# %%
grid = experiments.stored("12.6")
ap = grid.values("AP@0.5")  # setting -> (seeds,)
drawn = dots(
    {"AP@0.5 (%)": {name: ap[kind] for kind, name in kinds.items()}},
    caption="Small detectors, trained for a short time to find the objects of low scenes, on "
    "held-out ones. A dot for each of three seeds, a line at their mean; equally many anchors.",
    alt="Three columns of dots: average precision with the default's anchors, with measured "
    "ratios, and with measured ratios and smaller sizes.",
    zero=True,
)
again = experiments.confirm("12.6", "ratios", **{"AP@0.5": 9.0})

# %%
gain = {kind: ap[kind] - ap["default"] for kind in ("ratios", "both")}
helps = [clearly(values) for values in gain.values()]
some = "depends: ratios yes, sizes as the maps allow" if helps[0] else "false"
report.verdict(
    "12.6",
    "Anchor shapes should follow the data",
    outcome="true" if all(helps) else some,
    evidence=f"AP@0.5 {shown(ap['default'])} % with the default's anchors; measured ratios "
    f"change it by {shown(gain['ratios'])}, ratios and sizes for a third of the area by "
    f"{shown(gain['both'])}",
)

# %% [markdown]
# Where anchors fit, more of them pass the threshold and learn from an object, and their offsets are
# small. Measuring takes one line, some quantiles of the ratios of the *training* boxes. But fitting
# is not all. With sizes for a third of the area the anchors fit about as well, and yet far less is
# found: more objects now belong to coarser maps, whose places stand too far apart for things so
# low. An anchor's size also decides which map has to find the object, and how many places it has.

# %% [markdown]
# ## 12.4 · “L1 is better than L2 for box offsets”
#
# > **outlier**: a value far away from the others, because it is rare or because it is wrong.
#
# The gradient of a squared error grows with the error; that of L1 is the same for all. So with
# squares a few large errors may rule the step. How much of the gradient comes from the largest
# tenth of the errors? And which loss gives the better detector, when all labels are right, and when
# a quarter of the boxes it learns from is moved and resized at random?

# %%
grid = experiments.stored("12.4")
worlds = list(stored.WRONG)
titles = {"largest": "share of the largest tenth (%)", "AP": "AP (%)"}
drawn = dots(
    {title: grid.values(key) for key, title in titles.items()},
    caption="Left, how much of the box loss's gradient the largest tenth of the errors has; right, "
    "the AP over ten thresholds, which asks for exact boxes, on held-out scenes with right ones. A "
    "dot for each of three seeds, a line at their mean.",
    alt="Two panels of dots for L1 and squared errors, learned from right boxes and from boxes "
    "of which a quarter is wrong: the largest tenth's share of the gradient, and the AP.",
    zero=True,
)
again = experiments.confirm("12.4", "L1, right boxes", AP=4.0)

# %%
ap, share = grid.values("AP"), grid.values("largest")
gains = {world: ap[f"L1, {world}"] - ap[f"squared, {world}"] for world in worlds}
all_gains = torch.cat(list(gains.values()))  # of every seed, with right boxes and with wrong ones
report.verdict(
    "12.4",
    "L1 is better than L2 for box offsets",
    outcome="true" if all_gains.mean() > 0 else "false",
    evidence="AP (%) more than with squares, "
    + ", ".join(f"{world}: {shown(values)}" for world, values in gains.items())
    + f"; wrong boxes cost L1 {shown(ap[f'L1, {worlds[0]}'] - ap[f'L1, {worlds[1]}'])}; with "
    f"squares the largest tenth of the errors has {shown(share[f'squared, {worlds[0]}'])} % of "
    "the gradient",
    effect=all_gains.mean().item(),
    standard_error=standard_error(all_gains).item(),
)

# %% [markdown]
# With squares, the boxes that are furthest off take more than their share of the gradient. Yet the
# detectors that come out differ little: where errors go to both sides alike, both losses agree on
# where a box should be. Wrong boxes cost far more than the choice of the loss gives back, so the
# labels deserve the first look. The scale of a loss matters, too: squares of large offsets weigh
# the boxes more against the classes.

# %% [markdown]
# ## 12.7 · “Without hard negative mining the background wins”
#
# Of hundreds of anchors in a scene a few hold an object. If all of them learn, *background* is the
# right answer nearly always. Detectors with three negatives for each positive anchor, and with all
# of them: which will find more? And which will be *sure* of what it finds?

# %%
grid = experiments.stored("12.7")
ratios = list(stored.NEGATIVES)
drawn = dots(
    {
        title: {name: grid.values(key)[name] for name in ratios}
        for key, title in (
            ("AP@0.5", "AP@0.5 (%)"),
            ("shown", "objects found, score 0.5 (%)"),
            ("background", "background at objects (%)"),
        )
    },
    caption="By negatives for each positive anchor. Left: AP, which only looks at the order of the "
    "scores. Middle: objects found by detections with a score of one half or more. Right: the mean "
    "probability that positive anchors give to there being nothing.",
    alt="Three panels of dots for three negatives for each positive, and for all negatives.",
    zero=True,
)

# %%
ap, sure, nothing = (grid.values(name) for name in ("AP@0.5", "shown", "background"))
lost_ap, lost_sure = ap["3 : 1"] - ap["all"], sure["3 : 1"] - sure["all"]
wins = [clearly(lost_ap), clearly(lost_sure), clearly(nothing["all"] - nothing["3 : 1"])]
some = "depends: on what one looks at" if any(wins) else "false"
outcome = "true" if all(wins) else some
report.verdict(
    "12.7",
    "Without hard negative mining the background wins",
    outcome=outcome,
    evidence="with 3 : 1 and with all negatives: "
    + ", ".join(
        f"{title} {shown(values['3 : 1'])} and {shown(values['all'])} %"
        for title, values in (
            ("AP@0.5", ap),
            ("objects found with a score of one half", sure),
            ("background at positive anchors", nothing),
        )
    ),
)

# %% [markdown]
# The background does gain: taken over all anchors that should find an object, its probability is
# higher when all negatives learn. But whether an object is found is up to its best anchor alone,
# not to their mean, and average precision only asks for the right order. Mining may even cost
# something: the hardest negatives stand right beside the objects, and a network that learns from
# little else may become careful just there. SSD300 has many more anchors than this small world,
# nearly all of them background. There the odds are worse, and one should measure again.

# %% [markdown]
# # The detectors that look twice
#
# SSD and YOLO look once. The family before them first asks *where could something be?*, and then
# *what is it?*, for each such place. Four papers in four years, and each took away what was slowest
# or coarsest in the one before.
#
# > **region proposal**: a box in which some object might be; a detector that looks twice makes
# > hundreds, and judges each.
#
# > **region of interest (RoI)**: a region proposal, as the part of an image or of a feature map
# > that is looked at.
#
# ## R-CNN (2014): a network for every proposal
#
# A program without any learning proposed two thousand boxes. Each was cut out, brought to one size
# and sent through a convolutional network. What does the network see?

# %%
scenes = SceneMaker("seen").draw(60, seed=0)
picture = scenes.images[7]
real = scenes.boxes[7][scenes.labels[7] >= 0]


def proposals(boxes, count, seed=0):
    """Boxes near the objects' (K, 4), as a program might propose them: (count, 4)."""
    generator = runtime.generator_for(seed)
    near = box_ops.to_centres(boxes[torch.arange(count) % len(boxes)])
    move, grow = torch.randn(2, count, 2, generator=generator) * 0.25
    moved = torch.cat([near[:, :2] + move * near[:, 2:], near[:, 2:] * grow.exp()], dim=1)
    return box_ops.clip(box_ops.to_corners(moved), 96, 96)


def cut_out(image, boxes, size=96):
    """Each box of an image (3, H, W) as an image of its own: (N, 3, size, size)."""
    corners = boxes.round().int().tolist()
    ends = [(x1, max(x2, x1 + 1), y1, max(y2, y1 + 1)) for x1, y1, x2, y2 in corners]
    parts = [image[None, :, top:bottom, left:right] for left, right, top, bottom in ends]
    return torch.cat([F.interpolate(part, (size, size), mode="bilinear") for part in parts])


# %%
proposed = proposals(real, 5)
boxed = [
    Mark(box, color, str(number))
    for number, (box, color) in enumerate(zip(proposed, COLORS, strict=True), start=1)
]
crops = cut_out(picture.float() / 255, proposed)
drawn = pictures(
    [
        Panel(picture, boxed, "proposals"),
        *(Panel(crop, title=f"proposal {number}") for number, crop in enumerate(crops, start=1)),
    ],
    caption="R-CNN: each proposal becomes an image of its own, stretched to a square, and the "
    "network looks at all of these. Where proposals overlap, it looks at the same pixels again.",
    alt="A photo scene with five boxes, and the five parts stretched to squares.",
    columns=6,
)
assert crops.shape == (5, 3, 96, 96)

# %% [markdown]
# ## Fast R-CNN (2015): one pass over the image
#
# Convolutions do not care where an object stands, so one pass over the whole image computes the
# features of all boxes at once. What was a cut-out of pixels becomes a cut-out of the feature map.
# But the head wants a fixed number of features, and boxes come in all sizes.
#
# > **RoI pooling**: a box on the feature map is rounded to whole pixels, cut into a fixed number of
# > bins, and each bin gives its largest value.
#
# By hand, for one box:


# %%
def pool_one(features, box, bins, stride):
    """Features (C, H, W) and a box (4,) in pixels of the image -> (C, bins, bins)."""
    x1, y1, x2, y2 = (box / stride).round().int().tolist()
    part = features[:, y1 : y2 + 1, x1 : x2 + 1]  # the last pixel belongs to the box
    result = features.new_zeros(len(features), bins, bins)
    for i in range(bins):
        for j in range(bins):
            top, bottom = i * part.shape[1] // bins, -(-(i + 1) * part.shape[1] // bins)
            left, right = j * part.shape[2] // bins, -(-(j + 1) * part.shape[2] // bins)
            result[:, i, j] = part[:, top:bottom, left:right].amax((1, 2))
    return result


runtime.seed_everything(0)
features = torch.randn(2, 4, 24, 24, dtype=torch.float64)
boxes = box_ops.clip(proposals(real, 40).double(), 92, 92)
numbers = torch.arange(40) % 2  # which image each box is of
pairs = zip(features[numbers], boxes, strict=True)
by_hand = torch.stack([pool_one(maps_of_one, box, 3, 4) for maps_of_one, box in pairs])
ours = rois.roi_pool(features, boxes, numbers, 3, spatial_scale=1 / 4)
with_numbers = torch.cat([numbers.unsqueeze(1).double(), boxes], dim=1)  # as torchvision wants them
report.equal("by hand and the module", by_hand, ours)
report.equal("the module and torchvision", ours, roi_pool(features, with_numbers, 3, 1 / 4))

# %% [markdown]
# To see with our own eyes what a head would be given, take the image itself at a quarter of its
# size as the feature map, its three colours as channels.

# %%
small = F.avg_pool2d(picture[None].float() / 255, 4)  # (1, 3, 24, 24)
first = torch.zeros(len(proposed), dtype=torch.int64)  # all boxes are of image 0
pooled = rois.roi_pool(small, proposed, first, 7, spatial_scale=1 / 4)  # (5, 3, 7, 7)
aligned = rois.roi_align(small, proposed, first, 7, spatial_scale=1 / 4)
marked = picture.float() / 255
drawn = figures.regions(
    marked,
    small[0],
    proposed,
    {"pooled": pooled, "aligned": aligned},
    caption="Fast R-CNN: one feature map for all boxes, and for each box 7 x 7 bins. Above, RoI "
    "pooling: the largest of each bin, which is the lightest here. Below, RoI align, to which we "
    "come at the end.",
    alt="The scene with boxes, its coarse version, and two rows of five coarse thumbnails.",
)
assert drawn == {"pooled": [5, 3, 7, 7], "aligned": [5, 3, 7, 7]}

# %% [markdown]
# What did that save? The lesson's backbone, one scene, up to a hundred proposals: once as R-CNN
# does it, once as Fast R-CNN does. How will the times grow with the number of proposals?

# %%
body = Backbone().eval()


@torch.no_grad()
def each_on_its_own(image, boxes):
    """R-CNN: a pass for each box. (N, C, 3, 3), the coarsest features of each."""
    return body(cut_out(image[0], boxes))[-1]


@torch.no_grad()
def all_at_once(image, boxes):
    """Fast R-CNN: a pass for the image, then bins of its finest features. (N, C, 3, 3)."""
    zeros = torch.zeros(len(boxes), dtype=torch.int64)
    return rois.roi_pool(body(image)[0], boxes, zeros, 3, spatial_scale=1 / 8)


def milliseconds(way, count, rounds=4):
    """The fewest of some rounds, after one to warm up."""
    image, boxes = picture[None].float() / 255, proposals(real, count)
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        assert way(image, boxes).shape[0] == count
        times.append(1000 * (time.perf_counter() - started))
    return min(times[1:])


# %%
COUNTS = (1, 10, 30, 100)
times = {
    "R-CNN": [milliseconds(each_on_its_own, count) for count in COUNTS],
    "Fast R-CNN": [milliseconds(all_at_once, count) for count in COUNTS],
}
drawn = figures.curves(
    COUNTS,
    {"": times},
    ("proposals", "milliseconds"),
    caption="Features of all proposals of one scene. Both axes are logarithmic.",
    alt="Two lines of time against the number of proposals; that of R-CNN rises in proportion, "
    "that of Fast R-CNN stays low.",
    log=True,
)[""]
for count, slow, fast in zip(COUNTS, *times.values(), strict=True):
    report.value(f"proposals: {count}; R-CNN takes so many times as long", f"{slow / fast:.1f}")
report.holds("for 100 proposals one pass is at least 3 times as fast", slow > 3 * fast)

# %% [markdown]
# R-CNN pays for every proposal; Fast R-CNN pays for every image, and next to nothing for a box. It
# is also trained as a whole, features, classes and boxes together, where R-CNN trained a network,
# then classifiers, then box regressors, each on its own.
#
# ## Faster R-CNN (2015): the network proposes
#
# What remained was the program that proposed: two seconds an image in the paper, ten times as long
# as all the rest. Faster R-CNN lets the features themselves say where something could be.
#
# > **region proposal network (RPN)**: a small head on the feature map that gives each anchor a
# > score, *object or not*, and offsets; the best boxes after suppression are the proposals.
#
# You know all its parts from the lesson: an RPN is an SSD with one class. torchvision's Faster
# R-CNN, here with random weights, shows what each stage costs.

# %%
runtime.seed_everything(0)
detector = pretrained.faster_rcnn()  # pretrained.faster_rcnn("coco", download=True) fetches weights
STAGES = ("backbone", "rpn", "roi_heads")
marks_of = {name: [] for name in STAGES}
proposed_by_itself = []


def watch(name):
    stage = getattr(detector, name)
    stage.register_forward_pre_hook(lambda *_: marks_of[name].append(time.perf_counter()))
    stage.register_forward_hook(lambda *_: marks_of[name].append(time.perf_counter()))


for name in STAGES:
    watch(name)
detector.rpn.register_forward_hook(lambda _, __, output: proposed_by_itself.append(output[0][0]))
with torch.no_grad():
    for _ in range(4):
        answer = detector([picture.float() / 255])[0]
spent = {
    name: 1000 * min(end - start for start, end in zip(t[2::2], t[3::2], strict=True))
    for name, t in marks_of.items()
}  # milliseconds; the first pass warms up

# %%
weights = {
    name: sum(p.numel() for p in getattr(detector, name).parameters()) / 1e6 for name in STAGES
}
labels = {"backbone": "backbone: features", "rpn": "RPN: proposals", "roi_heads": "RoI head"}
drawn = plot.bars(
    {labels[name]: weights[name] for name in STAGES},
    "million weights",
    caption="The three stages of torchvision's Faster R-CNN on a MobileNet. The RoI head is large "
    "because a linear layer reads all bins of all channels.",
    alt="Three bars: weights of the backbone, of the RPN and of the RoI head.",
)
for name in STAGES:
    report.value(f"{labels[name]}, one scene", f"{spent[name]:.0f}", unit="ms")
report.value("proposals", len(proposed_by_itself[-1]))
report.holds(
    "the RPN has less than a tenth of the weights", weights["rpn"] < 0.1 * sum(weights.values())
)
report.holds("boxes, labels and scores", set(answer) == {"boxes", "labels", "scores"})

# %% [markdown]
# On the scene, the RPN's first twenty proposals, and what the whole detector says. It has not
# learned anything, so what do you expect of its boxes? With trained weights they would sit around
# the fruit and the vehicles.

# %%
with torch.no_grad():
    scale = 96 / detector.transform([picture.float() / 255])[0].tensors.shape[-1]
first_proposals = proposed_by_itself[-1][:20] * scale
surest = answer["boxes"][:5]
drawn = pictures(
    [
        Panel(picture, [Mark(box, plot.SKY) for box in first_proposals], "proposals"),
        Panel(picture, [Mark(box) for box in surest], "detections"),
    ],
    caption="torchvision's Faster R-CNN before any training: proposals are anchors in places where "
    "random weights happen to be large, and of ninety classes none is likely enough to be shown.",
    alt="The scene twice, with twenty proposals and with the detections of an untrained network.",
    columns=2,
)
assert drawn[0] == 20

# %% [markdown]
# ## Mask R-CNN (2017): a mask for every object
#
# > **instance segmentation**: a mask for each object, so that two birds are told apart, where
# > semantic segmentation gives both the one class *bird*.
#
# One more head, a small fully convolutional network, draws a mask inside each proposal. And there
# something showed that no one had minded before. Pooling rounds a box to whole pixels of the
# feature map. With a stride of 16 that moves it by up to eight pixels of the image: a class does
# not care, a mask does.
#
# > **RoI align**: nothing is rounded. Some points in each bin are read between the pixels, by
# > bilinear interpolation, and averaged.
#
# ## 12.8 · “RoI pooling and RoI align differ only in rounding, so it hardly matters”
#
# Begin with features that only say *where* they are: every pixel of the map holds its own column.
# A box of 32 pixels slides to the right over them. How far does it seem to move?

# %%
STRIDE = 8
columns = (torch.arange(16.0) * STRIDE).expand(1, 1, 16, 16)  # in pixels of the image
moves = torch.arange(0, 24.25, 0.25)
sliding = torch.tensor([30.0, 40, 62, 72]) + moves.view(-1, 1) * torch.tensor([1.0, 0, 1, 0])
zeros = torch.zeros(len(moves), dtype=torch.int64)
seen = {
    "RoI pooling": rois.roi_pool(columns, sliding, zeros, 4, spatial_scale=1 / STRIDE),
    "RoI align": rois.roi_align(columns, sliding, zeros, 4, spatial_scale=1 / STRIDE),
}
seen = {name: (v - v[0]).mean((1, 2, 3)) for name, v in seen.items()}  # (moves,)
drawn = figures.curves(
    moves.tolist(),
    {"": {name: values.tolist() for name, values in seen.items()}},
    ("the box moves by, pixels", "and seems to move by, pixels"),
    caption="Align follows the box exactly. Pooling stands still, then jumps by a stride.",
    alt="A straight diagonal for RoI align, and a staircase around it for RoI pooling.",
)[""]
report.equal("RoI align follows the box", seen["RoI align"], moves, rtol=1e-4, atol=1e-3)
report.holds("RoI pooling knows four places", len(seen["RoI pooling"].round().unique()) == 4)

# %% [markdown]
# Now masks. The right mask of each object in sixty scenes, averaged over squares of four by four
# pixels, is the feature map: the best that a network of stride 4 could know. Each box is brought to
# 14 x 14 bins, and these are pasted back into the box and cut at one half. Three ways: pooling;
# aligning on a *rounded* box, which tells what rounding alone does; and aligning. A fourth one was
# in the first programs: align, but half a pixel of the features off.

# %%
scene, which = (scenes.labels >= 0).nonzero().unbind(1)
truth = scenes.instances[scene] == (which + 1).view(-1, 1, 1)  # (M, 96, 96)
boxes, own = scenes.boxes[scene, which], torch.arange(len(scene))
coarse = F.avg_pool2d(truth.float().unsqueeze(1), 4)  # (M, 1, 24, 24)
rounded = (boxes / 4).round() * 4


def pasted(parts):
    """What a mask head would give, (M, 1, 14, 14), as masks of the scene: bool (M, 96, 96)."""
    masks = torch.zeros_like(truth)
    for mask, part, box in zip(masks, parts, boxes.int().tolist(), strict=True):
        x1, y1, x2, y2 = box
        grown = F.interpolate(part[None], (y2 - y1, x2 - x1), mode="bilinear")[0, 0]
        mask[y1:y2, x1:x2] = grown > 0.5
    return masks


options = {"output_size": 14, "spatial_scale": 1 / 4}
masks = {
    "pooling": pasted(rois.roi_pool(coarse, boxes, own, **options)),
    "align, rounded": pasted(rois.roi_align(coarse, rounded, own, **options)),
    "align, half off": pasted(rois.roi_align(coarse, boxes, own, **options, aligned=False)),
    "align": pasted(rois.roi_align(coarse, boxes, own, **options)),
}

# %%
ious = {
    name: (m & truth).flatten(1).sum(1) / (m | truth).flatten(1).sum(1) for name, m in masks.items()
}  # (M,) each
area = truth.flatten(1).sum(1)
order = area.argsort()
third = len(order) // 3
groups = {"small": order[:third], "medium": order[third:-third], "large": order[-third:]}
means = {name: [v[group].mean().item() for group in groups.values()] for name, v in ious.items()}
picked = order[[third // 2, len(order) // 2, -third // 2, -2]]
drawn = figures.outlines(
    scenes.images[scene[picked]],
    truth[picked],
    {name: masks[name][picked] for name in ("pooling", "align")},
    caption="Blue is the right mask, red the outline that comes back from 14 x 14 bins, above it "
    "their IoU. Pooling's box is rounded, and a pixel of the features larger at its right and "
    "lower end, so that what comes back is pressed to the upper left.",
    alt="Four objects, each with the outlines of two masks; those of RoI align are close to the "
    "object, those of pooling are shifted.",
)

# %%
drawn = figures.curves(
    list(groups),
    {"": means},
    ("a third of the objects each, by area", "mean IoU with the right mask"),
    caption="The smaller the object, the more pixels of its own size a rounded box is off.",
    alt="Four rising lines of IoU over small, medium and large objects; align is highest.",
)[""]
lost = {name: (ious["align"] - values).mean().item() for name, values in ious.items()}
report.holds("rounding alone costs more than 0.05 of IoU", lost["align, rounded"] > 0.05)
report.holds("pooling costs more than rounding", lost["pooling"] > lost["align, rounded"])
exact = rois.roi_align(coarse, boxes, own, **options, sampling_ratio=2)
with_numbers = torch.cat([own.unsqueeze(1).float(), boxes], dim=1)
theirs = roi_align(coarse, with_numbers, 14, 1 / 4, sampling_ratio=2, aligned=True)
report.equal("RoI align is torchvision's", exact, theirs, atol=1e-6)
report.verdict(
    "12.8",
    "RoI pooling and RoI align differ only in rounding, so it hardly matters",
    outcome="false" if lost["pooling"] > 0.05 else "true",
    evidence=f"mean IoU of masks with align {ious['align'].mean():.2f}; rounding the box takes "
    f"{lost['align, rounded']:.2f} of it, pooling {lost['pooling']:.2f}, align half a pixel off "
    f"{lost['align, half off']:.2f}",
)

# %% [markdown]
# Rounding does matter, and it is not all: pooling counts the last pixel in, so that its box is a
# pixel of the features too large, and it takes the largest value where align takes a mean. Half a
# pixel of the features, which the first programs of RoI align overlooked, costs more than rounding.
# A learned head can undo what is the same for every box, such as half a pixel, but not the
# rounding, which differs from box to box and cannot be seen in the bins. For a class it may hardly
# matter; for a mask, and for exact boxes, it does.
#
# ## What each step saved
#
# | | proposals from | passes of the network | regions become equal by | new |
# |---|---|---|---|---|
# | R-CNN | an outside program | one for each proposal | stretching pixels | learned features |
# | Fast R-CNN | an outside program | one | RoI pooling | one pass, trained as a whole |
# | Faster R-CNN | the network's RPN | one | RoI pooling | proposals nearly for free |
# | Mask R-CNN | the network's RPN | one | RoI align | a mask for each object |
# | SSD, YOLO | – | one | not needed: anchors, cells | no second look |
#
# A second look costs time for each proposal and gives exactness: the head sees the features of the
# box itself, not of an anchor nearby. On a phone one look is the usual choice; where masks or small
# things count, two looks still are.

# %%
clock.stop()
