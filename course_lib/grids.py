"""The grid of a one-look detector: what its cells should say, and the boxes that they do say.

Boxes are (N, M, 4) xyxy in pixels, labels int64 (N, M) with -1 where there is no object. A grid is
(N, K, K, B * 5 + C): for each cell x, y, w, h, confidence of B boxes, then C class scores. x and y
count in cells from the cell's upper left corner, w and h are shares of the image. Bad arguments
raise `ValueError`, with the argument, its value and what is allowed.

Source: Redmon et al. 2016, "You only look once: unified, real-time object detection".
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib import boxes as box_ops
from course_lib.average_precision import Detections

LOSSES = ("squared", "modern")


@dataclass(frozen=True)
class YoloConfig:
    """What the grid looks like, and how it is trained.

    Args:
        classes: C.
        boxes: B, that a cell predicts; of these the one that overlaps the object most learns it.
        stride: pixels of a cell's side.
        cells: that answer for an object: 1, the one with its centre, as in the paper; 3, the
            nearest of the neighbours left and right and above and below, too.
        loss: "squared", the paper's squared errors, or "modern": complete IoU for boxes, binary
            cross entropy for confidence, cross entropy for classes.
        roots: squared errors of the roots of width and height, as in the paper; False: of
            themselves.
        box, no_object: weights of the loss's parts, as in the paper.
    """

    classes: int = 6
    boxes: int = 1
    stride: int = 8
    cells: int = 1
    loss: str = "squared"
    roots: bool = True
    box: float = 5.0
    no_object: float = 0.5

    def __post_init__(self):
        for name in ("classes", "boxes", "stride"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; allowed are whole numbers from 1")
        if self.cells not in (1, 3):
            raise ValueError(f"cells is {self.cells!r}; allowed are 1 and 3")
        if self.loss not in LOSSES:
            raise ValueError(f"loss is {self.loss!r}; allowed are {', '.join(LOSSES)}")
        for name in ("box", "no_object"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value!r}; allowed are finite numbers from 0")


def activate(raw: Tensor, config: YoloConfig) -> Tensor:
    """A model's raw numbers as a grid: the same shape, in float32.

    Sigmoids for boxes and confidences, a softmax for the classes. A centre may lie anywhere in its
    cell, or with three cells to an object up to half a cell outside.
    """
    numbers, scores = split(raw.float(), config)  # (N, K, K, B, 5), (N, K, K, C)
    numbers = numbers.sigmoid()
    reach = 0.5 if config.cells == 3 else 0.0
    centres = numbers[..., :2] * (1 + 2 * reach) - reach
    numbers = torch.cat([centres, numbers[..., 2:]], dim=-1)
    return torch.cat([numbers.flatten(-2), scores.softmax(-1)], dim=-1)


# --- what the cells should say -----------------------------------------------------------------


def encode(boxes: Tensor, labels: Tensor, config: YoloConfig, height: int, width: int) -> Tensor:
    """Spread a label list over the grid: what each cell should say.

    The cell with an object's centre answers for it. Of two centres in one cell the later object
    stays, the earlier is lost; a centre goes before a neighbour's claim.

    Args:
        height, width: of the images, multiples of the stride.

    Returns:
        (N, K, K, 5 + C): x, y, w, h, confidence 1, the class one-hot; zeros in empty cells.

    Raises:
        ValueError: also for labels that are no class, and for boxes with x2 < x1 or NaN.
    """
    boxes, labels = _check_scenes(boxes, labels, config, height, width)
    if labels.is_floating_point() or not ((labels >= -1) & (labels < config.classes)).all():
        span = f"{labels.min():g} .. {labels.max():g} in {labels.dtype}"
        raise ValueError(
            f"labels holds {span}; allowed are whole numbers -1 .. {config.classes - 1}"
        )
    box_ops.check_boxes(boxes[labels >= 0])
    return spread(boxes, labels, config, height, width)


def lost(boxes: Tensor, labels: Tensor, config: YoloConfig, height: int, width: int) -> Tensor:
    """How many objects no cell answers for, since a later one has taken theirs: int64 (N,)."""
    boxes, labels = _check_scenes(boxes, labels, config, height, width)
    owners = _owners(boxes, labels, config, height, width)[0]  # (N, K, K)
    numbers = torch.arange(boxes.shape[1], device=boxes.device)
    kept = (owners.flatten(1).unsqueeze(-1) == numbers).any(1)  # (N, K K, M) -> (N, M)
    return ((labels >= 0) & ~kept).sum(1)


def _owners(
    boxes: Tensor, labels: Tensor, config: YoloConfig, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Which object each cell answers for, int64 (N, K, K) with -1 for none; centres (N, M, 4).

    Centres are in cells, sizes in shares of the image.
    """
    stride = config.stride
    units = boxes.new_tensor([stride, stride, width, height])
    centred = box_ops.to_centres(boxes.float()) / units  # (N, M, 4)
    offsets = []  # from each cell (row or column) to the one with the centre
    for axis, length in enumerate((width // stride, height // stride)):
        place = centred[..., axis, None]  # (N, M, 1)
        own = place.floor().clamp(0, length - 1)
        step = torch.arange(length, device=boxes.device) - own  # (N, M, K)
        side = torch.where(place - own < 0.5, -1, 1)
        offsets.append((step == 0, step == side))
    (column, beside), (row, above) = offsets
    own = row.unsqueeze(-1) & column.unsqueeze(-2)  # (N, M, K, 1) & (N, M, 1, K) -> (N, M, K, K)
    claim = own.long()
    if config.cells == 3:
        near = row.unsqueeze(-1) & beside.unsqueeze(-2) | above.unsqueeze(-1) & column.unsqueeze(-2)
        claim = 2 * claim + near.long()
    order = torch.arange(1, boxes.shape[1] + 1, device=boxes.device).view(-1, 1, 1)
    real = (labels >= 0).view(*labels.shape, 1, 1)
    claim = torch.where((claim > 0) & real, claim * boxes.shape[1] + order, 0)
    strongest, owner = claim.max(1)  # (N, K, K)
    return torch.where(strongest > 0, owner, -1), centred


def spread(boxes: Tensor, labels: Tensor, config: YoloConfig, height: int, width: int) -> Tensor:
    """`encode` that never looks at values: a label that is no class has an empty one-hot row."""
    boxes, labels = _check_scenes(boxes, labels, config, height, width)
    owner, centred = _owners(boxes, labels, config, height, width)
    index = owner.flatten(1).clamp(min=0)  # (N, K K)
    found = centred.gather(1, index.unsqueeze(-1).expand(-1, -1, 4)).view(*owner.shape, 4)
    label = labels.gather(1, index).view(owner.shape)
    one_hot = label.unsqueeze(-1) == torch.arange(config.classes, device=labels.device)
    centres = found[..., :2] - _places(owner)
    confidence = torch.ones_like(centres[..., :1])
    cells = torch.cat([centres, found[..., 2:], confidence, one_hot.float()], dim=-1)
    return torch.where((owner >= 0).unsqueeze(-1), cells, 0.0)  # (N, K, K, 5 + C)


def cell_boxes(grid: Tensor, config: YoloConfig) -> Tensor:
    """The boxes of a grid in pixels: (N, K, K, B * 5 + C) -> xyxy (N, K, K, B, 4)."""
    numbers, _ = split(grid, config)  # (N, K, K, B, 5)
    stride, (rows, columns) = config.stride, grid.shape[1:3]
    centres = (numbers[..., :2] + _places(grid).unsqueeze(-2)) * stride
    sizes = numbers[..., 2:4] * grid.new_tensor([columns * stride, rows * stride])
    return box_ops.to_corners(torch.cat([centres, sizes], dim=-1))


# --- from a grid to boxes, step by step --------------------------------------------------------


def drop_unsure(grid: Tensor, config: YoloConfig, confidence: float) -> Tensor:
    """Step 1: zero what is below the confidence; same shape. With B > 1, each box by itself."""
    _check_grid(grid, config, confidence)
    numbers, scores = split(grid, config)
    sure = numbers[..., 4:5] >= confidence  # (N, K, K, B, 1)
    numbers, scores = numbers * sure, scores * sure.any(-2)
    return torch.cat([numbers.flatten(-2), scores], dim=-1)


def box_rows(grid: Tensor, config: YoloConfig) -> Tensor:
    """Step 2: centres and sizes become corners in the image, one row to a box.

    (N, K, K, B * 5 + C) -> (N, K * K * B, 5 + C): x1, y1, x2, y2, confidence, class scores.
    """
    numbers, scores = split(grid, config)
    height, width = (length * config.stride for length in grid.shape[1:3])
    corners = box_ops.clip(cell_boxes(grid, config), height, width)  # (N, K, K, B, 4)
    scores = scores.unsqueeze(-2).expand(*numbers.shape[:-1], -1)  # (N, K, K, B, C)
    return torch.cat([corners, numbers[..., 4:], scores], dim=-1).flatten(1, 3)


def class_rows(rows: Tensor) -> Tensor:
    """Step 3: x1, y1, x2, y2, class, class score: (N, R, 5 + C) -> (N, R, 6).

    The class score is the confidence times the highest score of a class.
    """
    score, label = rows[..., 5:].max(-1, keepdim=True)  # (N, R, 1)
    return torch.cat([rows[..., :4], label.to(rows.dtype), rows[..., 4:5] * score], dim=-1)


def suppress(rows: Tensor, threshold: float) -> list[Tensor]:
    """Step 4: for each image and class, drop what overlaps a box with a higher score.

    (N, R, 6) -> N tensors (n, 6), by falling score; rows with a score of 0 are left out.
    """
    images = []
    for image in rows:
        image = image[image[:, 5] > 0]
        kept = [image[:0]]
        for label in image[:, 4].unique():
            same = image[image[:, 4] == label]
            kept.append(same[box_ops.nms_by_hand(same[:, :4], same[:, 5], threshold)])
        found = torch.cat(kept)
        images.append(found[found[:, 5].argsort(descending=True, stable=True)])
    return images


# --- the same at once --------------------------------------------------------------------------


@torch.no_grad()
def detections(
    grid: Tensor, config: YoloConfig, confidence: float, threshold: float, most: int = 100
) -> Detections:
    """All four steps at once, for all images and classes; arguments and result as `detect`."""
    _check_grid(grid, config, confidence)
    numbers, scores = split(grid, config)
    height, width = (length * config.stride for length in grid.shape[1:3])
    score, label = scores.max(-1, keepdim=True)  # (N, K, K, 1)
    score = numbers[..., 4] * score  # (N, K, K, B)
    chosen = (numbers[..., 4] >= confidence) & (score > 0)
    boxes = box_ops.clip(cell_boxes(grid, config)[chosen], height, width)  # (n, 4)
    image, score, label = chosen.nonzero()[:, 0], score[chosen], label.expand_as(chosen)[chosen]
    kept = box_ops.nms(boxes, score, threshold, image * config.classes + label)

    kept = kept[image[kept].argsort(stable=True)]  # by image, each by falling score
    counts = image[kept].bincount(minlength=len(grid))
    rank = torch.arange(len(kept), device=grid.device) - (counts.cumsum(0) - counts)[image[kept]]
    kept = kept[rank < most]
    return Detections(image[kept], boxes[kept], label[kept], score[kept])


def split(grid: Tensor, config: YoloConfig) -> tuple[Tensor, Tensor]:
    """(..., B * 5 + C) -> the boxes' numbers (..., B, 5), the class scores (..., C)."""
    count = grid.shape[-1] - config.classes
    if count < 5 or count % 5:
        allowed = f"allowed are B * 5 + {config.classes}"
        raise ValueError(f"grid has {grid.shape[-1]} numbers a cell; {allowed}")
    numbers, scores = grid.split([count, config.classes], dim=-1)
    return numbers.unflatten(-1, (-1, 5)), scores


def _places(grid: Tensor) -> Tensor:
    """Column and row of each cell of (N, rows, columns, ...): float32 (rows, columns, 2)."""
    rows, columns = (torch.arange(n, device=grid.device).float() for n in grid.shape[1:3])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


def _check_scenes(
    boxes: Tensor, labels: Tensor, config: YoloConfig, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """The same, with room for an object at least. A training step must not look at values."""
    if boxes.ndim != 3 or boxes.shape[-1] != 4:
        raise ValueError(f"boxes has shape {tuple(boxes.shape)}; allowed is (N, M, 4)")
    if labels.shape != boxes.shape[:2]:
        shapes = f"{tuple(labels.shape)}; allowed is {tuple(boxes.shape[:2])}"
        raise ValueError(f"labels has shape {shapes}")
    for name, length in (("height", height), ("width", width)):
        if length < 1 or length % config.stride:
            raise ValueError(f"{name} is {length}; allowed are multiples of {config.stride}")
    missing = int(boxes.shape[1] == 0)
    return F.pad(boxes, (0, 0, 0, missing)), F.pad(labels, (0, missing), value=-1)


def _check_grid(grid: Tensor, config: YoloConfig, confidence: float) -> None:
    if grid.ndim != 4 or not grid.is_floating_point():
        kind = f"{grid.dtype} {tuple(grid.shape)}"
        raise ValueError(f"grid is {kind}; allowed are floats (N, K, K, B * 5 + {config.classes})")
    if grid.isnan().any():
        raise ValueError(f"grid holds {int(grid.isnan().sum())} NaN; allowed are numbers")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence is {confidence!r}; allowed are numbers from 0 to 1")
