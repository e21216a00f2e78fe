"""Every object in one look: a network that fills a grid, and the loss that trains it.

Images are float (N, 3, H, W) from 0 to 1, boxes (N, M, 4) xyxy in pixels, labels int64 (N, M) with
-1 where there is no object; `grids` tells what a grid is. Bad arguments raise `ValueError`, with
the argument, its value and what is allowed.

Source: Redmon et al. 2016, "You only look once: unified, real-time object detection".
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import boxes as box_ops
from course_lib.average_precision import Detections
from course_lib.cnn import conv_block
from course_lib.grids import (
    YoloConfig,
    activate,
    box_rows,
    cell_boxes,
    class_rows,
    detections,
    drop_unsure,
    encode,
    lost,
    split,
    spread,
    suppress,
)

__all__ = [
    "YOLO",
    "Backbone",
    "YoloConfig",
    "activate",
    "box_rows",
    "cell_boxes",
    "class_rows",
    "detect",
    "detections",
    "drop_unsure",
    "encode",
    "lost",
    "parts",
    "suppress",
    "yolo_loss",
    "yolo_parts",
]

FINEST = 4  # pixels between neighbouring places before the backbone's first level
PRIOR = 0.05  # confidence before training: most cells are empty, and a long way down is lost time
TINY = 1e-6  # the square root's slope is infinite at 0


class Backbone(nn.Module):
    """Features at several levels: (N, 3, H, W) -> [(N, C_i, H / s, W / s) for s in `strides`].

    H / s and W / s are rounded up.

    Args:
        channels: at strides 4, 8, 16 and so on; the features have all but the first.
        stem: 1, 2 or 4: blocks of stem x stem pixels become channels first, so that no dear
            convolution looks at every pixel.

    Raises:
        ValueError: H or W is no multiple of 4.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 128, 192), stem: int = 2):
        super().__init__()
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(f"channels is {tuple(channels)}; allowed are two or more, from 1")
        if stem not in (1, 2, 4):
            raise ValueError(f"stem is {stem!r}; allowed are 1, 2 and 4")
        first, *below = channels
        self.channels, self.stem = tuple(below), stem
        self.strides = tuple(FINEST * 2**level for level in range(1, len(channels)))
        self.start = nn.Sequential(
            conv_block(3 * stem**2, first, pool=stem == 1),
            conv_block(first, first, pool=stem <= 2),
        )
        pairs = zip(channels[:-1], below, strict=True)
        self.levels = nn.ModuleList(
            nn.Sequential(conv_block(before, here, pool=True), conv_block(here, here))
            for before, here in pairs
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        _check_sides(images, FINEST)
        x = F.pixel_unshuffle(images, self.stem)  # -> (N, 3 s s, H / s, W / s)
        x = self.start(x)  # -> (N, C, H / 4, W / 4)
        features = []
        for level in self.levels:
            height, width = x.shape[2:]
            if height % 2 or width % 2:
                x = F.pad(x, (0, width % 2, 0, height % 2))  # the last places keep theirs below
            x = level(x)  # (N, C_i, H / s, W / s) -> (N, C_i+1, H / 2s, W / 2s)
            features.append(x)
        return features


class YOLO(nn.Module):
    """(N, 3, H, W) -> raw numbers (N, H / stride, W / stride, B * 5 + C); `activate` makes a grid.

    The backbone's coarser levels see more of the image: what they know is handed down, level by
    level, to the one that the cells stand on.

    Args:
        channels, stem: of the `Backbone`.
    """

    def __init__(
        self,
        config: YoloConfig | None = None,
        channels: Sequence[int] = (32, 64, 128, 192),
        stem: int = 2,
    ):
        super().__init__()
        self.config = config = config or YoloConfig()
        self.backbone = Backbone(channels, stem)
        strides = self.backbone.strides
        if config.stride not in strides:
            raise ValueError(f"config.stride is {config.stride}; allowed are {strides}")
        self.first = strides.index(config.stride)
        widths = self.backbone.channels[self.first :]
        self.joins = nn.ModuleList(
            nn.Conv2d(below, here, kernel_size=1)
            for here, below in zip(widths[:-1], widths[1:], strict=True)
        )
        outputs = config.boxes * 5 + config.classes
        self.head = nn.Sequential(
            conv_block(widths[0], widths[0]),
            conv_block(widths[0], widths[0]),
            nn.Conv2d(widths[0], outputs, kernel_size=1),
        )
        with torch.no_grad():
            self.head[-1].bias[4 : config.boxes * 5 : 5] = math.log(PRIOR / (1 - PRIOR))

    def forward(self, images: Tensor) -> Tensor:
        _check_sides(images, self.backbone.strides[-1])
        *finer, x = self.backbone(images)[self.first :]
        for here, join in zip(reversed(finer), reversed(self.joins), strict=True):
            x = here + F.interpolate(join(x), scale_factor=2.0)  # -> (N, C, 2h, 2w)
        return self.head(x).permute(0, 2, 3, 1)  # (N, B * 5 + C, K, K) -> (N, K, K, B * 5 + C)


def _check_sides(images: Tensor, multiple: int) -> None:
    height, width = images.shape[2:]
    if height % multiple or width % multiple:
        allowed = f"allowed are multiples of {multiple}"
        raise ValueError(f"images are {height} x {width} pixels; {allowed}")


# --- the loss ----------------------------------------------------------------------------------


def yolo_loss(model: YOLO, batch: Sequence[Tensor]) -> Tensor:
    """The sum of `yolo_parts`, a scalar; batch is images, boxes, labels."""
    return sum(yolo_parts(model, batch).values())


def yolo_parts(model: YOLO, batch: Sequence[Tensor]) -> dict[str, Tensor]:
    """The parts of a model's loss on a batch, see `parts`."""
    images, boxes, labels = batch
    return parts(model(images), boxes, labels, model.config)


def parts(raw: Tensor, boxes: Tensor, labels: Tensor, config: YoloConfig) -> dict[str, Tensor]:
    """The loss's weighted parts, sums over all cells by the number of cells with an object.

    Args:
        raw: (N, K, K, B * 5 + C), what a model gives.

    Returns:
        Scalars: "box"; "object", confidence where an object is; "no object", confidence where
        none is; "class". All but "no object" are 0 for a batch without objects.

    Source: Redmon et al. 2016, equation 3.
    """
    height, width = (length * config.stride for length in raw.shape[1:3])
    target = spread(boxes, labels, config, height, width)  # (N, K, K, 5 + C)
    grid = activate(raw, config)
    (said, scores), (wanted, truth) = split(grid, config), split(target, config)
    real = target[..., 4:5] > 0.5  # (N, K, K, 1)
    count = real.sum().clamp(min=1)

    boxes_said, boxes_wanted = cell_boxes(grid, config), cell_boxes(target, config)
    overlap = box_ops.iou(boxes_said.detach(), boxes_wanted)  # (N, K, K, B)
    best = F.one_hot(overlap.argmax(-1), config.boxes) > 0
    responsible = best & real  # of the B boxes, one learns the object
    if config.loss == "modern":
        logits, class_logits = split(raw.float(), config)
        box = 1 - box_ops.ciou(boxes_said, boxes_wanted)  # (N, K, K, B)
        confidence = F.binary_cross_entropy_with_logits(
            logits[..., 4], responsible.float(), reduction="none"
        )
        named = -(truth * class_logits.log_softmax(-1)).sum(-1, keepdim=True)  # (N, K, K, 1)
    else:
        box = (said[..., :2] - wanted[..., :2]).square().sum(-1)
        box = box + (_size(said, config) - _size(wanted, config)).square().sum(-1)
        confidence = (said[..., 4] - responsible.float()).square()
        named = (scores - truth).square().sum(-1, keepdim=True)
    return {
        "box": config.box * torch.where(responsible, box, 0.0).sum() / count,
        "object": torch.where(responsible, confidence, 0.0).sum() / count,
        "no object": config.no_object * torch.where(responsible, 0.0, confidence).sum() / count,
        "class": torch.where(real, named, 0.0).sum() / count,
    }


def _size(numbers: Tensor, config: YoloConfig) -> Tensor:
    """Width and height (..., 2), or their roots: there an error counts more in a small box."""
    size = numbers[..., 2:4]
    return size.clamp(min=TINY).sqrt() if config.roots else size


@torch.no_grad()
def detect(
    model: YOLO,
    images: Tensor,
    confidence: float = 0.01,
    threshold: float = 0.5,
    most: int = 100,
) -> Detections:
    """What a model finds in images (N, 3, H, W); it is put into evaluation mode for it.

    Args:
        confidence: boxes below it are left out. Low for average precision, which looks at
            everything in order; about 0.3 to show.
        threshold: IoU from which on of two boxes of a class the less sure one goes.
        most: detections of an image.

    Returns:
        By image, then by falling score; scores are confidence times class score.
    """
    training = model.training
    model.eval()
    grid = activate(model(images), model.config)
    model.train(training)
    return detections(grid, model.config, confidence, threshold, most)
