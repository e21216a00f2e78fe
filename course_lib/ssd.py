"""SSD: a detector that looks for small objects on fine maps and for large ones on coarse maps.

An anchor is a box that a detector starts from: it stands at a fixed place in a fixed shape, and
the network only says what it shows and how to move it. Each level of the network has its own.
Boxes and anchors are xyxy in pixels. A label is a class number, or -1 for no object; among the
logits, 0 is the background and class c stands at c + 1. Bad arguments raise `ValueError`.

Source: Liu et al. 2016, "SSD: single shot multibox detector".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import boxes as box_ops
from course_lib.average_precision import Detections
from course_lib.yolo import Backbone

BOX_LOSSES = {"l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss, "squared": F.mse_loss}
WIDEST = math.log(1000 / 16)  # a box is decoded to at most so many times its anchor, so never inf
CANDIDATES = 200  # of an image, that suppression looks at
CHUNK = 128  # images that go through the network at a time


@dataclass(frozen=True)
class SSDConfig:
    """What a detector looks for, and how it learns. One tuple of sizes and ratios for each level.

    Args:
        classes: without the background.
        size: height and width of the images in pixels.
        strides: pixels from one place to the next on the backbone's maps, which have size / stride
            places on a side, rounded up. Two levels come after them: one with half as many places,
            and one with a single place.
        sizes: of a level's anchors, the root of their area in pixels.
        ratios: of their width to their height.
        variances: what offsets are divided by, of centres and of sizes.
        threshold: the least IoU at which an anchor learns to find an object.
        negatives: background anchors that learn, for each that finds an object; None for all.
        box_loss: "l1", "smooth_l1" or "squared".
    """

    classes: int = 6
    size: int = 96
    strides: tuple[int, ...] = (8, 16, 32)
    sizes: tuple[tuple[float, ...], ...] = ((14, 19), (26, 35), (46, 56), (68, 78), (88, 96))
    ratios: tuple[tuple[float, ...], ...] = ((1, 2, 0.5),) * 5
    variances: tuple[float, float] = (0.1, 0.2)
    threshold: float = 0.5
    negatives: int | None = 3
    box_loss: str = "smooth_l1"

    def __post_init__(self):
        levels = len(self.strides) + 2
        _require(self.classes >= 1, "classes", self.classes, "whole numbers from 1")
        _require(bool(self.strides), "strides", self.strides, "one stride or more")
        good = self.size >= max(self.strides) and self.size % 4 == 0
        _require(good, "size", self.size, f"multiples of 4 from {max(self.strides)} on")
        for name in ("sizes", "ratios"):
            value = getattr(self, name)
            good = len(value) == levels and all(v and min(v) > 0 for v in value)
            _require(good, name, value, f"{levels} tuples of positive numbers, one for each level")
        good = len(self.variances) == 2 and min(self.variances) > 0
        _require(good, "variances", self.variances, "two positive numbers")
        _require(0 < self.threshold <= 1, "threshold", self.threshold, "numbers in (0, 1]")
        good = self.negatives is None or self.negatives >= 1
        _require(good, "negatives", self.negatives, "None and whole numbers from 1")
        _require(self.box_loss in BOX_LOSSES, "box_loss", self.box_loss, ", ".join(BOX_LOSSES))

    @property
    def grids(self) -> tuple[int, ...]:
        """Places on a side of each level: 12, 6, 3, 2, 1 for 96 pixels."""
        grids = [-(-self.size // stride) for stride in self.strides]
        return (*grids, (grids[-1] + 1) // 2, 1)

    @property
    def per_place(self) -> tuple[int, ...]:
        """Anchors at each place of each level: n sizes and m ratios make n + m - 1."""
        return tuple(len(n) + len(m) - 1 for n, m in zip(self.sizes, self.ratios, strict=True))


class Predictions(NamedTuple):
    """What the network says about A anchors of N images.

    logits: (N, A, classes + 1), offsets: (N, A, 4) from anchors to boxes, anchors: (A, 4).
    """

    logits: Tensor
    offsets: Tensor
    anchors: Tensor


class SSD(nn.Module):
    """Images (N, 3, size, size), from 0 to 1 -> `Predictions`.

    Args:
        backbone: (N, 3, H, W) -> a map for each stride, with `channels` of them.
    """

    def __init__(self, config: SSDConfig | None = None, backbone: nn.Module | None = None):
        super().__init__()
        self.config = config = config or SSDConfig()
        self.backbone = Backbone() if backbone is None else backbone
        channels = list(self.backbone.channels)
        allowed = f"{len(config.strides)} maps, one for each stride"
        _require(len(channels) == len(config.strides), "backbone.channels", channels, allowed)
        last = channels[-1]
        self.shrink = nn.Sequential(
            nn.Conv2d(last, last, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(last),
            nn.ReLU(),
        )
        counts = list(zip([*channels, last, last], config.per_place, strict=True))
        self.class_heads = nn.ModuleList(
            nn.Conv2d(width, count * (config.classes + 1), kernel_size=3, padding=1)
            for width, count in counts
        )
        self.box_heads = nn.ModuleList(
            nn.Conv2d(width, count * 4, kernel_size=3, padding=1) for width, count in counts
        )
        self.register_buffer("anchors", anchors(config))

    def forward(self, images: Tensor) -> Predictions:
        size = self.config.size
        shape = tuple(images.shape)
        _require(shape[1:] == (3, size, size), "images' shape", shape, f"(N, 3, {size}, {size})")
        maps = list(self.backbone(images))  # (N, channels, size / stride, size / stride) each
        maps.append(self.shrink(maps[-1]))  # half as many places on a side, rounded up
        maps.append(maps[-1].amax((2, 3), keepdim=True))  # (N, channels, 1, 1)
        logits = [head(x) for head, x in zip(self.class_heads, maps, strict=True)]
        offsets = [head(x) for head, x in zip(self.box_heads, maps, strict=True)]
        logits = flatten_levels(logits, self.config.classes + 1)
        return Predictions(logits, flatten_levels(offsets, 4), self.anchors)


def flatten_levels(maps: Sequence[Tensor], numbers: int) -> Tensor:
    """One row for each anchor: maps (N, anchors * numbers, H, W) of all levels -> (N, A, numbers).

    Channels go last first, so that what belongs to an anchor stays together.
    """
    rows = [
        x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, numbers)  # -> (N, H W a, numbers)
        for x in maps
    ]
    return torch.cat(rows, dim=1)


def anchors_for(
    height: int, width: int, sizes: Sequence[float], ratios: Sequence[float], size: int
) -> Tensor:
    """The anchors of one level, place by place in reading order: (H W (n + m - 1), 4).

    Each place has the first size in all m ratios, then the other n - 1 sizes in the first ratio:
    all n m pairs would be many that differ little.

    Args:
        height, width: places of the level.
        sizes: n roots of an area, in pixels.
        ratios: m of width to height.
        size: the image's side in pixels.
    """
    _require(min(height, width) >= 1, "height, width", (height, width), "whole numbers from 1")
    pairs = [(sizes[0], ratio) for ratio in ratios] + [(side, ratios[0]) for side in sizes[1:]]
    shapes = [(s * math.sqrt(r), s / math.sqrt(r)) for s, r in pairs]
    reach = torch.tensor([(-w, -h, w, h) for w, h in shapes]) / 2  # (a, 4), from centre to edges
    y = (torch.arange(height) + 0.5) * (size / height)
    x = (torch.arange(width) + 0.5) * (size / width)
    centres = torch.empty(height, width, 1, 4)
    centres[..., 0::2] = x[:, None, None]
    centres[..., 1::2] = y[:, None, None, None]
    return (centres + reach).view(-1, 4)  # (H, W, 1, 4) + (a, 4) -> (H, W, a, 4) -> (H W a, 4)


def anchors(config: SSDConfig) -> Tensor:
    """The anchors of all levels, the finest first: (A, 4). They may reach beyond the image."""
    levels = zip(config.grids, config.sizes, config.ratios, strict=True)
    return torch.cat([anchors_for(n, n, sizes, ratios, config.size) for n, sizes, ratios in levels])


def anchor_levels(config: SSDConfig) -> Tensor:
    """The level that each anchor belongs to, from 0: int64 (A,)."""
    counts = [n * n * each for n, each in zip(config.grids, config.per_place, strict=True)]
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


@torch.no_grad()
def assign(anchors: Tensor, boxes: Tensor, labels: Tensor, threshold: float = 0.5) -> Tensor:
    """Which object each anchor learns to find.

    First each object gets an anchor of its own: of all pairs the one with the largest IoU, then
    the largest among the anchors and objects left, and so on. An anchor that is left takes the
    object it overlaps most, if the IoU is `threshold` or more. An object that overlaps no anchor,
    such as one without area, gets none.

    Args:
        anchors: (A, 4); boxes: (N, K, 4); labels: int64 (N, K).

    Returns:
        int64 (N, A), numbers from 0 to K - 1, -1 for background.
    """
    shape = tuple(labels.shape)
    good = labels.ndim == 2 and boxes.shape == (*shape, 4)
    _require(good, "boxes' shape", tuple(boxes.shape), f"{(*shape, 4)}, as labels is {shape}")
    _require(anchors.shape[1:] == (4,), "anchors' shape", tuple(anchors.shape), "(A, 4)")
    if not shape[1]:
        return labels.new_full((shape[0], len(anchors)), -1)
    overlap = box_ops.iou_matrix(boxes, anchors)  # (N, K, A)
    overlap = overlap.masked_fill((labels < 0).unsqueeze(2), -1)
    best, nearest = overlap.max(dim=1)  # (N, A) twice
    matched = torch.where(best >= threshold, nearest, -1)
    count = len(anchors)
    for _ in range(shape[1]):  # one object of each image at a time
        best, place = overlap.flatten(1).max(dim=1, keepdim=True)  # (N, 1) of (N, K A)
        which, anchor = place // count, place % count
        before = matched.gather(1, anchor)
        matched.scatter_(1, anchor, torch.where(best > 0, which, before))
        overlap.scatter_(2, anchor.unsqueeze(1).expand(-1, shape[1], -1), -1)  # is given away,
        overlap.scatter_(1, which.unsqueeze(2).expand(-1, -1, count), -1)  # and so is the object
    return matched


def encode(boxes: Tensor, anchors: Tensor, variances: tuple[float, float] = (0.1, 0.2)) -> Tensor:
    """Offsets from anchors to boxes: how far the centre is to move, how much the size to change.

    Movements are in parts of the anchor's size, changes are logarithms of factors. Divided by the
    variances they are about as large as what a fresh network puts out. (..., 4) each, broadcast.

    Source: Girshick et al. 2014, "Rich feature hierarchies", appendix C; Liu's code: variances.
    """
    boxes, anchors = box_ops.to_centres(boxes), box_ops.to_centres(anchors)
    move = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:]
    grow = (boxes[..., 2:] / anchors[..., 2:]).log()
    return torch.cat([move / variances[0], grow / variances[1]], dim=-1)


def decode(offsets: Tensor, anchors: Tensor, variances: tuple[float, float] = (0.1, 0.2)) -> Tensor:
    """The boxes that offsets lead to: the inverse of `encode`, up to 62.5 times an anchor's size.

    (..., 4) each, broadcast; xyxy, not cut at the image's border.
    """
    low, high = anchors[..., :2], anchors[..., 2:]
    sizes = high - low
    middle = (low + high) / 2 + offsets[..., :2] * (variances[0] * sizes)
    half = sizes / 2 * (offsets[..., 2:] * variances[1]).clamp(max=WIDEST).exp()
    return torch.cat([middle - half, middle + half], dim=-1)


@torch.no_grad()
def hard_negatives(losses: Tensor, positive: Tensor, ratio: int) -> Tensor:
    """The background anchors that the network is most wrong about: bool (N, A).

    Args:
        losses: (N, A), each anchor's; positive: bool (N, A), anchors with an object.
        ratio: negatives of an image for each of its positives; an image without any gets as
            many as for one.
    """
    wanted = ratio * positive.sum(1, keepdim=True).clamp(min=1)  # (N, 1)
    order = losses.masked_fill(positive, -math.inf).argsort(1, descending=True)
    first = torch.arange(losses.shape[1], device=losses.device) < wanted  # (N, A)
    return torch.zeros_like(positive).scatter(1, order, first) & ~positive


def ssd_parts(
    predicted: Predictions, boxes: Tensor, labels: Tensor, config: SSDConfig
) -> dict[str, Tensor]:
    """The two parts of the loss, sums over anchors divided by the number of positive ones.

    Args:
        boxes: (N, K, 4); labels: int64 (N, K).

    Returns:
        "class", the cross entropy of positives and chosen negatives, and "box"; scalars.
    """
    # bfloat16 is too coarse for logarithms of sizes and for sums over a thousand anchors.
    logits, offsets = predicted.logits.float(), predicted.offsets.float()
    places = predicted.anchors
    matched = assign(places, boxes, labels, config.threshold)  # (N, A)
    positive = matched >= 0
    # One more object, number K, stands for the background; -1 % (K + 1) is K.
    boxes, labels = F.pad(boxes.float(), (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
    which = matched % labels.shape[1]  # (N, A)
    targets = labels.gather(1, which) + 1  # (N, A), 0 for background
    # Softmax along the middle axis: along a short last one, a CPU takes ten times as long.
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (N, A)
    counted = torch.ones_like(positive)
    if config.negatives is not None:
        counted = positive | hard_negatives(losses, positive, config.negatives)
    # A background anchor stands for its own box, whose offsets are 0: never a logarithm of 0.
    wanted = boxes.gather(1, which.unsqueeze(2).expand(-1, -1, 4))  # (N, A, 4)
    wanted = torch.where(positive.unsqueeze(2), wanted, places)
    errors = BOX_LOSSES[config.box_loss](
        offsets, encode(wanted, places, config.variances), reduction="none"
    )
    total = positive.sum().clamp(min=1)
    return {
        "class": (losses * counted).sum() / total,
        "box": (errors.sum(2) * positive).sum() / total,
    }


def ssd_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The sum of `ssd_parts` for a batch of images (N, 3, S, S), boxes and labels; a scalar."""
    images, boxes, labels = batch
    return sum(ssd_parts(model(images), boxes, labels, model.config).values())


@torch.no_grad()
def detect(
    model: nn.Module,
    images: Tensor,
    confidence: float = 0.01,
    threshold: float = 0.45,
    most: int = 100,
) -> Detections:
    """What the model finds in images (N, 3, S, S), in evaluation mode; arguments as `read`."""
    _require(len(images) > 0, "images", "none", "one or more")
    was_training = model.training
    model.eval()
    found = []
    for start in range(0, len(images), CHUNK):
        predicted = model(images[start : start + CHUNK])
        part, _ = read(predicted, model.config, confidence, threshold, most)
        found.append(part._replace(images=part.images + start))
    model.train(was_training)
    return Detections(*map(torch.cat, zip(*found, strict=True)))


@torch.no_grad()
def read(
    predicted: Predictions,
    config: SSDConfig,
    confidence: float = 0.01,
    threshold: float = 0.45,
    most: int = 100,
) -> tuple[Detections, Tensor]:
    """Predictions as detections, image by image and the best first: (Detections, int64 (M,)).

    An anchor may show several classes; of those above `confidence`, an image's best 200 go into
    the suppression, class by class. Boxes end at the image's border.

    Args:
        confidence: the least probability of a class.
        threshold: the IoU from which on the weaker box of the same class is dropped.
        most: detections of an image.

    Returns:
        the detections, and the anchor that each comes from.
    """
    _require(0 <= confidence < 1, "confidence", confidence, "numbers from 0 to below 1")
    _require(most >= 1, "most", most, "whole numbers from 1")
    # Along the middle axis, as for the loss.
    scores = predicted.logits.float().transpose(1, 2).softmax(1)[:, 1:]  # (N, classes, A)
    bad = int(scores.isnan().any(1).sum())
    _require(not bad, "predicted.logits", f"NaN at {bad} anchors", "numbers")
    boxes = decode(predicted.offsets.float(), predicted.anchors, config.variances)
    boxes = box_ops.clip(boxes, config.size, config.size)  # (N, A, 4)
    limit = min(CANDIDATES, scores[0].numel())
    best, places = scores.flatten(1).topk(limit, dim=1)  # (N, 200), of classes x anchors
    found = []
    for image, count in enumerate((best > confidence).sum(1).tolist()):
        score, place = best[image, :count], places[image, :count]
        label, anchor = place // scores.shape[2], place % scores.shape[2]
        box = boxes[image, anchor]
        kept = box_ops.nms(box, score, threshold, label)[:most]
        number = torch.full_like(kept, image)
        found.append((number, box[kept], label[kept], score[kept], anchor[kept]))
    *parts, anchor = map(torch.cat, zip(*found, strict=True))
    return Detections(*parts), anchor


def _require(good: bool, name: str, value: object, allowed: str) -> None:
    if not good:
        raise ValueError(f"{name} is {value!r}; allowed are {allowed}")
