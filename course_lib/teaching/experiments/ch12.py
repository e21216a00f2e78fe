"""Chapter 12's stored grids: box losses, shapes of anchors, hard negative mining.

All train a small SSD for a short time on scenes of the *training* cut-outs and photos, and are
scored on more of these: the test scenes choose nothing and settle nothing. It finds objects
without naming them, which is learned much sooner, and is all that these claims are about.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib import boxes as box_ops
from course_lib import runtime, train
from course_lib.average_precision import Detections, Objects, coco_map, objects_of
from course_lib.recipes.recipe import scale_pixels
from course_lib.scenes import SceneMaker
from course_lib.ssd import SSD, SSDConfig, anchors, assign, detect, encode, ssd_loss
from course_lib.teaching.experiments.experiment import Experiment
from course_lib.yolo import Backbone

LEARNED, HELD_OUT = 1500, 300  # scenes; both can be stacked by threes
SQUEEZE = 3  # by how much elongated scenes are lower than they were
CHANNELS = (16, 32, 64, 96)
SURE = 0.5  # a probability at which a detection would be shown
PARTS = 10  # of the errors: the largest tenth's share of the gradient is reported
Scored = tuple[Tensor, Tensor, Tensor]  # images uint8 (N, 3, S, S), boxes (N, K, 4), labels (N, K)


@cache
def usual_scenes() -> tuple[Scored, Scored]:
    """Scenes to learn from, and held-out ones of the same cut-outs and photos."""
    maker = SceneMaker("train")
    drawn = (maker.draw(count, seed) for count, seed in ((LEARNED, 1), (HELD_OUT, 2)))
    return tuple((scenes.images, scenes.boxes, scenes.labels.clamp(max=0)) for scenes in drawn)


@cache
def low_scenes() -> tuple[Scored, Scored]:
    """The same scenes made a third as high, three of them on top of each other in an image."""
    return tuple(stack(squeeze(scenes)) for scenes in usual_scenes())


def squeeze(scenes: Scored) -> Scored:
    """Images of a third of the height, in which all is three times as wide for its height."""
    images, boxes, labels = scenes
    lower = F.avg_pool2d(images.float(), (SQUEEZE, 1)).round().byte()  # (N, 3, S / 3, S)
    return lower, boxes / boxes.new_tensor([1, SQUEEZE, 1, SQUEEZE]), labels


def stack(scenes: Scored) -> Scored:
    """Three low images on top of each other: (3 N, 3, S / 3, S) -> (N, 3, S, S)."""
    images, boxes, labels = scenes
    height = images.shape[2]
    images = images.unflatten(0, (-1, SQUEEZE)).transpose(1, 2).flatten(2, 3)
    down = torch.arange(SQUEEZE).view(1, -1, 1) * height  # (1, 3, 1)
    boxes = boxes.unflatten(0, (-1, SQUEEZE))  # (N, 3, K, 4)
    shift = torch.stack([torch.zeros_like(down), down] * 2, dim=-1)  # (1, 3, 1, 4)
    boxes = torch.where(labels.unflatten(0, (-1, SQUEEZE)).unsqueeze(3) >= 0, boxes + shift, 0.0)
    return images, boxes.flatten(1, 2), labels.view(-1, SQUEEZE * labels.shape[1])


def spoil(boxes: Tensor, share: float, seed: int) -> Tensor:
    """A share of the boxes moved by up to half their size and made up to twice larger or smaller.

    As careless labels are. Boxes (N, K, 4), the same shape comes back.
    """
    generator = runtime.generator_for(seed, 12)
    chosen = torch.rand(boxes.shape[:2], generator=generator) < share
    move, grow = 2 * torch.rand(2, *boxes.shape[:2], 2, generator=generator) - 1  # -1 .. 1
    centre, size = box_ops.to_centres(boxes).split(2, dim=2)
    wrong = torch.cat([centre + move * size / 2, size * 2**grow], dim=2)
    return torch.where(chosen.unsqueeze(2), box_ops.to_corners(wrong), boxes)


def shapes(kind: str) -> dict[str, tuple]:
    """Sizes and ratios of the anchors for low scenes, as arguments of `SSDConfig`.

    "default" takes those for usual scenes. "ratios" has ratios as the objects have, at a sixth, a
    half and five sixths of them by order. "both" has also sizes for a third of the area.
    """
    usual = SSDConfig()
    sizes, ratios = usual.sizes, usual.ratios
    if kind != "default":
        _, boxes, labels = low_scenes()[0]
        width, height = box_ops.to_centres(boxes[labels >= 0])[:, 2:].unbind(1)
        places = torch.tensor([3.0, 1.0, 5.0]) / 6  # the middle one first: all sizes come in it
        ratios = (tuple((width / height).quantile(places).tolist()),) * len(sizes)
    if kind == "both":
        sizes = tuple(tuple(side / SQUEEZE**0.5 for side in level) for level in sizes)
    return {"sizes": sizes, "ratios": ratios}


def learn(
    seed: int,
    *,
    steps: int,
    low: bool = False,
    anchor_shapes: str = "default",
    wrong: float = 0.0,
    box_loss: str = "smooth_l1",
    negatives: int | None = 3,
) -> dict[str, float]:
    """Train a small SSD, and score it on held-out scenes.

    Args:
        low: scenes of elongated objects, see `low_scenes`.
        anchor_shapes: see `shapes`.
        wrong: the share of the boxes that are learned wrongly, see `spoil`.
        box_loss, negatives: see `SSDConfig`.

    Returns:
        What `scores` and `habits` measure, both of the held-out scenes.
    """
    (images, boxes, labels), held_out = low_scenes() if low else usual_scenes()
    options = shapes(anchor_shapes) | {"classes": 1, "box_loss": box_loss, "negatives": negatives}
    runtime.seed_everything(seed)
    model = SSD(SSDConfig(**options), Backbone(CHANNELS))
    batches = train.Batches(
        images, spoil(boxes, wrong, seed), labels, batch_size=16, seed=seed, transform=_to_floats
    )
    shared = {"schedule": "one_cycle", "warmup": 0.1, "weight_decay": 0.1, "seed": seed}
    config = train.FitConfig(steps, "muon", 0.02, channels_last=True, **shared)
    train.fit(model, batches, ssd_loss, config)
    return scores(model, held_out) | habits(model, held_out)


def scores(model: SSD, scenes: Scored) -> dict[str, float]:
    """In percent: "AP@0.5", "AP" over ten thresholds, and "shown", the share of the objects that a
    detection of at least `SURE` has found."""
    images, boxes, labels = scenes
    found = detect(model, scale_pixels(images), confidence=0.01)
    objects = objects_of(boxes, labels)
    means = coco_map(found, objects, classes=1)
    values = {"AP@0.5": means["map_50"], "AP": means["map"], "shown": shown(found, objects)}
    return {name: 100 * value for name, value in values.items()}


def shown(found: Detections, objects: Objects) -> float:
    """The share of the objects that a detection with a score of at least `SURE` overlaps."""
    sure = Detections(*(part[found.scores >= SURE] for part in found))
    same = objects.images.unsqueeze(1) == sure.images  # (M, N)
    hit = same & (box_ops.iou_matrix(objects.boxes, sure.boxes) >= 0.5)
    return hit.any(1).float().mean().item()


@torch.no_grad()
def habits(model: SSD, scenes: Scored) -> dict[str, float]:
    """What a model says where objects are, in percent.

    Returns:
        "background": the probability that positive anchors give to there being nothing;
        "largest": the share of the box loss's gradient that the largest tenth of the errors have.
    """
    images, boxes, labels = scenes
    config = model.config
    predicted = model.eval()(scale_pixels(images))
    matched = assign(predicted.anchors, boxes, labels, config.threshold)  # (N, A)
    positive = matched >= 0
    nothing = predicted.logits.softmax(2)[..., 0][positive]  # (P,)
    wanted = boxes.gather(1, matched.clamp(min=0).unsqueeze(2).expand(-1, -1, 4))[positive]
    places = predicted.anchors.expand_as(predicted.offsets)[positive]  # (P, 4)
    errors = (predicted.offsets[positive] - encode(wanted, places, config.variances)).abs()
    return {
        "background": 100 * nothing.mean().item(),
        "largest": 100 * largest_share(errors, config.box_loss),
    }


def slopes(errors: Tensor, box_loss: str) -> Tensor:
    """How strongly a box loss pulls at errors from 0 on; same shape."""
    if box_loss == "l1":
        return torch.ones_like(errors)
    return 2 * errors if box_loss == "squared" else errors.clamp(max=1)


def largest_share(errors: Tensor, box_loss: str) -> float:
    """The share of the gradient that comes from the largest tenth of the errors."""
    pull = slopes(errors.flatten().sort(descending=True).values, box_loss)
    return (pull[: len(pull) // PARTS].sum() / pull.sum()).item()


def overlaps(kind: str) -> Tensor:
    """The IoU of each object of the held-out low scenes with each anchor: (M, A)."""
    _, boxes, labels = low_scenes()[1]
    return box_ops.iou_matrix(boxes[labels >= 0], anchors(SSDConfig(**shapes(kind))))


def _to_floats(batch: tuple[Tensor, ...], _: torch.Generator) -> tuple[Tensor, ...]:
    images, *rest = batch
    return scale_pixels(images), *rest


STEPS = 150
BOX_LOSSES = {"L1": "l1", "squared": "squared"}
WRONG = {"right boxes": 0.0, "a quarter wrong": 0.25}
SHAPES = ("default", "ratios", "both")
NEGATIVES = {"3 : 1": 3, "all": None}

EXPERIMENTS = (
    Experiment(
        "12.4",
        "losses of the boxes, learned from right labels and from careless ones",
        learn,
        {
            f"{name}, {kind}": {"steps": STEPS, "box_loss": loss, "wrong": share}
            for kind, share in WRONG.items()
            for name, loss in BOX_LOSSES.items()
        },
        seeds=3,
    ),
    Experiment(
        "12.6",
        "shapes of anchors for elongated objects",
        learn,
        {kind: {"steps": STEPS, "low": True, "anchor_shapes": kind} for kind in SHAPES},
        seeds=3,
    ),
    Experiment(
        "12.7",
        "background anchors that learn, for each one with an object",
        learn,
        {name: {"steps": STEPS, "negatives": count} for name, count in NEGATIVES.items()},
        seeds=3,
    ),
)
