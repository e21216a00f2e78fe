"""Chapters 11 and 12 beside torchvision's parts for SSD: anchors, targets, loss, decoding.

SSD's parts work on the same anchors, boxes and predictions as torchvision's, and are checked to
give the same where both define the same. YOLO has no anchors and no counterpart in torchvision: for
the same scenes its parts do on its grid what SSD's do on anchors. Each library decodes as its own
detector does, ours a whole batch at once, torchvision's image by image. Photo scenes have no peer:
they are counted by the second.
"""

import time
from collections.abc import Iterator
from statistics import median

import torch
import torchvision
from rows import Plan, Record, Rival, Row, compare, run
from torch import Tensor
from torchvision.models.detection import _utils as peers
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD as PeerSSD

from course_lib import grids, ssd, yolo
from course_lib.scenes import SceneMaker, Scenes

BATCH = 16
CONFIDENCE, THRESHOLD, MOST = 0.01, 0.45, 100  # from which on, and how much, both detect


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
        self.model.score_thresh, self.model.nms_thresh = CONFIDENCE, THRESHOLD
        self.model.topk_candidates, self.model.detections_per_img = ssd.CANDIDATES, MOST

    def make_anchors(self) -> Tensor:
        """As many at a place as ours; their shapes differ."""
        side, maps = self.config.size, [torch.zeros(1, 1, n, n) for n in self.config.grids]
        image = ImageList(torch.zeros(1, 3, side, side), [(side, side)])
        scales = [*(sizes[0] / side for sizes in self.config.sizes), 1.0]
        generator = DefaultBoxGenerator([[2]] * len(maps), scales=scales)
        return lambda: generator(image, maps)[0]

    def assign(self, boxes: list[Tensor]) -> list[Tensor]:
        return [self.matcher(torchvision.ops.box_iou(b, self.anchors)) for b in boxes]

    def loss(self, predicted: ssd.Predictions, targets: list[dict[str, Tensor]]) -> Tensor:
        heads = {"bbox_regression": predicted.offsets, "cls_logits": predicted.logits}
        anchors = [self.anchors] * len(targets)
        matched = self.assign([target["boxes"] for target in targets])
        return sum(self.model.compute_loss(targets, heads, anchors, matched).values())

    def decode(self, offsets: Tensor) -> list[Tensor]:
        return [self.coder.decode_single(each, self.anchors) for each in offsets]

    def read(self, predicted: ssd.Predictions) -> list[dict[str, Tensor]]:
        heads = {"bbox_regression": predicted.offsets, "cls_logits": predicted.logits}
        size = (self.config.size, self.config.size)
        count = len(predicted.logits)
        return self.model.postprocess_detections(heads, [self.anchors] * count, [size] * count)


class Work:
    """The same scenes for all, and random predictions about them."""

    def __init__(self, batch: int) -> None:
        self.config = ssd.SSDConfig()
        self.anchors = ssd.anchors(self.config)
        self.peer = Peer(self.config, self.anchors)
        scenes: Scenes = SceneMaker("train").draw(batch, seed=0)
        self.boxes, self.labels = scenes.boxes, scenes.labels
        real = self.labels >= 0
        self.lists = [b[r] for b, r in zip(self.boxes, real, strict=True)]
        self.targets = [
            {"boxes": b, "labels": label[r] + 1}
            for b, label, r in zip(self.lists, self.labels, real, strict=True)
        ]
        shape = (batch, len(self.anchors))
        logits = torch.randn(*shape, self.config.classes + 1, requires_grad=True)
        offsets = torch.randn(*shape, 4, requires_grad=True)
        self.predicted = ssd.Predictions(logits, offsets, self.anchors)
        self.grid_config = grids.YoloConfig(cells=3, loss="modern")
        cells = self.config.size // self.grid_config.stride
        numbers = 5 * self.grid_config.boxes + self.grid_config.classes
        self.raw = torch.randn(batch, cells, cells, numbers, requires_grad=True)

    def ssd_loss(self) -> Tensor:
        return sum(ssd.ssd_parts(self.predicted, self.boxes, self.labels, self.config).values())

    def yolo_targets(self) -> Tensor:
        size = (self.config.size, self.config.size)
        return grids.spread(self.boxes, self.labels, self.grid_config, *size)

    def yolo_loss(self) -> Tensor:
        return sum(yolo.parts(self.raw, self.boxes, self.labels, self.grid_config).values())

    @torch.no_grad()
    def read_grid(self):
        grid = grids.activate(self.raw, self.grid_config)
        return grids.detections(grid, self.grid_config, CONFIDENCE, THRESHOLD, MOST)


def check(work: Work) -> None:
    """What both define alike: the loss, and boxes from offsets."""
    theirs = work.peer.loss(work.predicted, work.targets)
    # Where an object's best anchor is also another's, assignments may differ.
    torch.testing.assert_close(work.ssd_loss(), theirs, rtol=0.05, atol=0)
    offsets = work.predicted.offsets.detach()
    ours = ssd.decode(offsets, work.anchors, work.config.variances)
    torch.testing.assert_close(ours, torch.stack(work.peer.decode(offsets)), rtol=1e-4, atol=1e-3)
    if work.peer.make_anchors()().shape != work.anchors.shape:
        raise AssertionError("ours and torchvision's anchors are not equally many")


def rivals(work: Work) -> dict[str, tuple[Rival, Rival]]:
    config, peer = work.config, work.peer
    offsets = work.predicted.offsets.detach()
    fixed = ssd.Predictions(*(t.detach() for t in work.predicted))
    their_loss = lambda: peer.loss(work.predicted, work.targets).backward()  # noqa: E731
    their_targets = lambda: peer.assign(work.lists)  # noqa: E731
    their_reading = lambda: peer.read(fixed)  # noqa: E731
    return {
        "SSD, anchors": (lambda: ssd.anchors(config), peer.make_anchors()),
        "SSD, targets": (
            lambda: ssd.assign(work.anchors, work.boxes, work.labels, config.threshold),
            their_targets,
        ),
        "SSD, targets and loss, there and back": (lambda: work.ssd_loss().backward(), their_loss),
        "SSD, boxes from offsets": (
            lambda: ssd.decode(offsets, work.anchors, config.variances),
            lambda: peer.decode(offsets),
        ),
        "SSD, decoding with suppression": (
            lambda: ssd.read(fixed, config, CONFIDENCE, THRESHOLD, MOST),
            their_reading,
        ),
        "YOLO, targets": (work.yolo_targets, their_targets),
        "YOLO, targets and loss, there and back": (
            lambda: work.yolo_loss().backward(),
            their_loss,
        ),
        "YOLO, decoding with suppression": (work.read_grid, their_reading),
    }


def scenes_per_second(plan: Plan) -> Row:
    maker, count, rates = SceneMaker("train"), plan.pick(500, 5), []
    maker.draw(1, seed=0)
    for turn in range(plan.pick(5, 1)):
        started = time.perf_counter()
        maker.draw(count, seed=turn)
        rates.append(count / (time.perf_counter() - started))
    row = {"size": "96 pixels", "peer": "", "unit": "scenes/s", "goal": 1000, "at_least": True}
    return Row("others", "photo scenes drawn", ours=median(rates), rounds=len(rates), **row)


def measure(plan: Plan) -> Iterator[Record]:
    work = Work(plan.pick(BATCH, 4))
    check(work)
    for what, pair in rivals(work).items():
        size = f"{len(work.lists)} images of 96 pixels"
        size = f"{len(work.anchors)} anchors" if what.endswith("anchors") else size
        peer = "torchvision's SSD"
        row = Row("detection", what, size, peer, "ms", goal=1.0)
        yield compare(row, *pair, plan.pick(25, 2), seconds=6)
    yield scenes_per_second(plan)


if __name__ == "__main__":
    run(measure, __doc__)
