"""Suppression, IoU and average precision beside torchvision's and torchmetrics'.

Each pair is checked to give the same before it is timed; torchmetrics has pycocotools behind it.
How the cost of suppression and IoU grows with the number of boxes is drawn as curves.
"""

import warnings
from collections.abc import Iterator

import torch
import torchvision
from rows import Curve, Plan, Record, Rival, Row, compare, grow, medians, run
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from course_lib import boxes as box_ops
from course_lib.average_precision import Detections, coco_map, objects_of
from course_lib.scenes import CLASSES, SceneMaker

BOXES = 5_000
SPREADS = {"few overlap": 1000, "many overlap": 200}  # pixels that the boxes are spread over
COUNTS = (100, 300, 1000, 3000, 10_000)
PAIRS = ((1000, 1000), (5, 8732), (4000, 300))
SIDES = (100, 200, 400, 800, 1600)  # boxes on each side of the matrix
IMAGES, COPIES = 500, 8  # scenes that are scored, and detections for each of their objects
PEER = "torchvision.ops"


def random_boxes(count: int, size: int) -> Tensor:
    """(count, 4), 10 to 60 pixels wide and high, anywhere on size x size pixels."""
    low = torch.rand(count, 2) * size
    return torch.cat([low, low + 10 + torch.rand(count, 2) * 50], dim=1)


def suppression(count: int, size: int) -> dict[str, Rival]:
    boxes, scores = random_boxes(count, size), torch.rand(count)
    rivals = {
        "ours": lambda: box_ops.nms(boxes, scores, 0.5),
        "torchvision": lambda: torchvision.ops.nms(boxes, scores, 0.5),
    }
    if not rivals["ours"]().equal(rivals["torchvision"]()):
        raise AssertionError("ours and torchvision keep different boxes")
    return rivals


def overlaps(count: int, others: int) -> dict[str, Rival]:
    a, b = (random_boxes(n, 300) for n in (count, others))
    rivals = {
        "ours": lambda: box_ops.iou_matrix(a, b),
        "torchvision": lambda: torchvision.ops.box_iou(a, b),
    }
    torch.testing.assert_close(rivals["ours"](), rivals["torchvision"]())
    return rivals


def precision(plan: Plan) -> Row:
    """All of COCO's numbers for detections that are the true boxes, moved."""
    count = plan.pick(IMAGES, 8)
    scenes = SceneMaker("train").draw(count, seed=0)
    objects = objects_of(scenes.boxes, scenes.labels)
    boxes = objects.boxes.repeat(COPIES, 1)  # (M * COPIES, 4)
    boxes = boxes + 3 * torch.randn(len(boxes), 2).repeat(1, 2)
    images, labels = objects.images.repeat(COPIES), objects.labels.repeat(COPIES)
    found = Detections(images, boxes, labels, torch.rand(len(boxes)))

    def by_image(parts: Detections, names: tuple[str, ...]) -> list[dict[str, Tensor]]:
        return [{n: getattr(parts, n)[parts.images == i] for n in names} for i in range(count)]

    said = by_image(found, ("boxes", "labels", "scores"))
    truth = by_image(objects, ("boxes", "labels"))

    def theirs() -> dict[str, Tensor]:
        metric = MeanAveragePrecision(backend="pycocotools")
        metric.update(said, truth)
        return metric.compute()

    def ours() -> dict[str, float]:
        return coco_map(found, objects, len(CLASSES))

    if abs(ours()["map"] - theirs()["map"].item()) > 1e-3:
        raise AssertionError("ours and torchmetrics' average precision differ")
    size = f"{count} images, {len(boxes):,} detections"
    row = Row("scores", "COCO's average precision", size, "torchmetrics", "ms", goal=1.0)
    return compare(row, ours, theirs, plan.pick(4, 1), seconds=20)


def growth(plan: Plan) -> Iterator[Record]:
    rounds = plan.pick(5, 1)
    for make, values, name, title, label in (
        (
            lambda n: suppression(n, 1000),
            plan.pick(COUNTS, (10, 30)),
            "nms",
            "Suppression of boxes on 1,000 x 1,000 pixels",
            "boxes",
        ),
        (
            lambda n: overlaps(n, n),
            plan.pick(SIDES, (10, 30)),
            "iou",
            "IoU of each box with each of as many others",
            "boxes on each side",
        ),
    ):
        lines = grow([medians(make(value), rounds, 3) for value in values])
        yield Curve(name, title, label, "milliseconds", [*values], lines)


def measure(plan: Plan) -> Iterator[Record]:
    warnings.filterwarnings("ignore", category=UserWarning)  # torchmetrics warns of 100 detections
    count, rounds = plan.pick(BOXES, 200), plan.pick(9, 1)
    for spread, pixels in SPREADS.items():
        row = Row("scores", f"suppression, {spread}", f"{count:,} boxes", PEER, "ms", goal=3.0)
        yield compare(row, *suppression(count, pixels).values(), rounds)
    for pair in plan.pick(PAIRS, ((10, 20),)):
        row = Row("scores", "IoU", "{:,} x {:,} boxes".format(*pair), PEER, "ms", goal=1.2)
        yield compare(row, *overlaps(*pair).values(), plan.pick(25, 1))
    yield precision(plan)
    yield from growth(plan)


if __name__ == "__main__":
    run(measure, __doc__)
