"""Chapters 11 and 12 beside their peers: suppression, IoU, average precision, SSD's parts, scenes.

Suppression and IoU run beside `torchvision.ops`, average precision beside torchmetrics (with
pycocotools behind it), SSD's anchors, assignment, offsets and suppression beside torchvision's
parts for SSD. Each pair is checked to give the same before it is timed, where both define the
same; rivals take turns. Photo scenes have no peer: they are counted by the second.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torchvision
from bench_attention import take_turns
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection import _utils as peers
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD as PeerSSD

from course_lib import boxes as box_ops
from course_lib import runtime, ssd
from course_lib.average_precision import Detections, coco_map, objects_of
from course_lib.scenes import CLASSES, SceneMaker

THREADS = 2
BOXES = 5_000
IMAGES, COPIES = 500, 8  # scenes that are scored, and detections for each of their objects
BATCH = 16


def compare(title: str, rivals: dict[str, Callable], rounds: int, target: float) -> None:
    """Print medians of "ours" and "theirs", and the median of their ratios."""
    times = take_turns(rivals, rounds)
    shown = ", ".join(f"{name} {statistics.median(taken):.2f} ms" for name, taken in times.items())
    ratio = statistics.median(o / t for o, t in zip(times["ours"], times["theirs"], strict=True))
    print(f"{title}: {shown}; ratio {ratio:.2f} (target: at most {target:g})", flush=True)


def random_boxes(count: int, size: int, sides: tuple[float, float]) -> Tensor:
    """(count, 4), anywhere on size x size pixels."""
    low = torch.rand(count, 2) * size
    least, most = sides
    return torch.cat([low, low + least + torch.rand(count, 2) * (most - least)], dim=1)


def suppression(rounds: int) -> None:
    for name, size in (("few overlap", 1000), ("many overlap", 200)):
        boxes, scores = random_boxes(BOXES, size, (10, 60)), torch.rand(BOXES)
        rivals = {
            "ours": lambda b=boxes, s=scores: box_ops.nms(b, s, 0.5),
            "theirs": lambda b=boxes, s=scores: torchvision.ops.nms(b, s, 0.5),
        }
        assert rivals["ours"]().equal(rivals["theirs"]())
        compare(f"suppression, {BOXES} boxes, {name}", rivals, rounds, 3)


def overlaps(rounds: int) -> None:
    for count, others in ((1000, 1000), (5, 8732), (4000, 300)):
        a, b = (random_boxes(n, 300, (10, 60)) for n in (count, others))
        rivals = {
            "ours": lambda a=a, b=b: box_ops.iou_matrix(a, b),
            "theirs": lambda a=a, b=b: torchvision.ops.box_iou(a, b),
        }
        torch.testing.assert_close(rivals["ours"](), rivals["theirs"]())
        compare(f"IoU, {count} x {others}", rivals, rounds, 1.2)


def precision(rounds: int) -> None:
    """All of COCO's numbers for detections that are the true boxes, moved."""
    scenes = SceneMaker("train").draw(IMAGES, seed=0)
    objects = objects_of(scenes.boxes, scenes.labels)
    boxes = objects.boxes.repeat(COPIES, 1)  # (M * COPIES, 4)
    boxes = boxes + 3 * torch.randn(len(boxes), 2).repeat(1, 2)
    images, labels = objects.images.repeat(COPIES), objects.labels.repeat(COPIES)
    found = Detections(images, boxes, labels, torch.rand(len(boxes)))

    def by_image(parts: Detections, names: tuple[str, ...]) -> list[dict[str, Tensor]]:
        return [{n: getattr(parts, n)[parts.images == i] for n in names} for i in range(IMAGES)]

    said = by_image(found, ("boxes", "labels", "scores"))
    truth = by_image(objects, ("boxes", "labels"))

    def theirs() -> dict[str, Tensor]:
        metric = MeanAveragePrecision(backend="pycocotools")
        metric.update(said, truth)
        return metric.compute()

    rivals = {"ours": lambda: coco_map(found, objects, len(CLASSES)), "theirs": theirs}
    ours, other = (rival() for rival in rivals.values())
    assert abs(ours["map"] - other["map"].item()) < 1e-3
    title = f"average precision, {IMAGES} images, {len(boxes)} detections"
    compare(title, rivals, max(1, rounds // 3), 1)


class Peer:
    """Torchvision's parts for SSD, on the same anchors as `ours`, pixels and classes."""

    def __init__(self, config: ssd.SSDConfig, anchors: Tensor) -> None:
        self.config, self.anchors = config, anchors
        self.matcher = peers.SSDMatcher(config.threshold)
        self.coder = peers.BoxCoder(weights=[1 / v for v in config.variances for _ in range(2)])
        # Everything but the networks: `compute_loss` and `postprocess_detections` ask for no more.
        self.model = PeerSSD.__new__(PeerSSD)
        torch.nn.Module.__init__(self.model)
        self.model.box_coder, self.model.neg_to_pos_ratio = self.coder, config.negatives
        self.model.score_thresh, self.model.nms_thresh = 0.01, 0.45
        self.model.topk_candidates, self.model.detections_per_img = ssd.CANDIDATES, 100

    def assign(self, boxes: list[Tensor]) -> list[Tensor]:
        return [self.matcher(torchvision.ops.box_iou(b, self.anchors)) for b in boxes]

    def loss(self, predicted: ssd.Predictions, targets: list[dict[str, Tensor]]) -> Tensor:
        heads = {"bbox_regression": predicted.offsets, "cls_logits": predicted.logits}
        anchors = [self.anchors] * len(targets)
        matched = self.assign([target["boxes"] for target in targets])
        return sum(self.model.compute_loss(targets, heads, anchors, matched).values())

    def read(self, predicted: ssd.Predictions) -> list[dict[str, Tensor]]:
        heads = {"bbox_regression": predicted.offsets, "cls_logits": predicted.logits}
        size = (self.config.size, self.config.size)
        count = len(predicted.logits)
        return self.model.postprocess_detections(heads, [self.anchors] * count, [size] * count)


def ssd_parts(rounds: int) -> None:
    config = ssd.SSDConfig()
    anchors = ssd.anchors(config)
    peer = Peer(config, anchors)
    scenes = SceneMaker("train").draw(BATCH, seed=0)
    boxes, labels = scenes.boxes, scenes.labels
    real = labels >= 0
    lists = [b[r] for b, r in zip(boxes, real, strict=True)]
    targets = [
        {"boxes": b, "labels": label[r] + 1}
        for b, label, r in zip(lists, labels, real, strict=True)
    ]
    shape = (BATCH, len(anchors))
    logits = torch.randn(*shape, config.classes + 1, requires_grad=True)
    offsets = torch.randn(*shape, 4, requires_grad=True)
    predicted = ssd.Predictions(logits, offsets, anchors)

    side = config.size
    maps = [torch.zeros(1, 1, n, n) for n in config.grids]
    image = ImageList(torch.zeros(1, 3, side, side), [(side, side)])
    scales = [s[0] / side for s in config.sizes]
    generator = DefaultBoxGenerator([[2]] * len(maps), scales=[*scales, 1.0])
    compare(
        f"SSD's anchors (theirs has 4 at each place), {len(anchors)} of ours",
        {"ours": lambda: ssd.anchors(config), "theirs": lambda: generator(image, maps)},
        rounds,
        1,
    )
    compare(
        f"SSD's assignment, {BATCH} images",
        {
            "ours": lambda: ssd.assign(anchors, boxes, labels, config.threshold),
            "theirs": lambda: peer.assign(lists),
        },
        rounds,
        1,
    )

    def loss_of_ours() -> None:
        sum(ssd.ssd_parts(predicted, boxes, labels, config).values()).backward()

    rivals = {"ours": loss_of_ours, "theirs": lambda: peer.loss(predicted, targets).backward()}
    compare("SSD's assignment and loss, there and back", rivals, rounds, 1)

    flat, many = offsets.detach().flatten(0, 1), anchors.repeat(BATCH, 1)  # (N A, 4)
    rivals = {
        "ours": lambda: ssd.decode(flat, many, config.variances),
        "theirs": lambda: peer.coder.decode_single(flat, many),
    }
    torch.testing.assert_close(rivals["ours"](), rivals["theirs"](), rtol=1e-4, atol=1e-3)
    compare(f"SSD's decoding, {len(flat)} boxes", rivals, rounds, 1)
    with torch.no_grad():
        rivals = {
            "ours": lambda: ssd.read(predicted, config),
            "theirs": lambda: peer.read(predicted),
        }
        compare(f"SSD's decoding and suppression, {BATCH} images", rivals, rounds, 1)


def scenes_per_second(rounds: int) -> None:
    maker = SceneMaker("train")
    maker.draw(1, seed=0)
    rates = []
    for number in range(rounds):
        started = time.perf_counter()
        maker.draw(500, seed=number)
        rates.append(500 / (time.perf_counter() - started))
    print(f"scenes of 96 pixels a second: {statistics.median(rates):.0f} (target: at least 1000)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(THREADS)
    warnings.filterwarnings("ignore", category=UserWarning)  # torchmetrics warns of 100 detections
    for part in (suppression, overlaps, precision, ssd_parts, scenes_per_second):
        runtime.seed_everything(0)
        part(rounds)


if __name__ == "__main__":
    main()
