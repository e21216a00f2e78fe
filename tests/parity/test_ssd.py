"""SSD's parts against torchvision's: default boxes, offsets, matches, and the loss.

Where the rules differ: torchvision's default boxes come with each ratio's inverse and with a
second size that follows from the next level's; of two objects with the same best anchor the last
one gets it there and the other may get none; an image without objects has no negatives there.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection import _utils
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead

from course_lib import boxes as box_ops
from course_lib import ssd
from course_lib.recipes import scenes as recipes

GRIDS = (12, 6, 3, 2, 1)
SCALES = (0.15, 0.3, 0.5, 0.7, 0.85, 1.0)  # of 96 pixels; the last only gives a second size
BOTH_RATIOS = (1, 2, 0.5)


def config(**changes):
    sizes = [(96 * a, 96 * math.sqrt(a * b)) for a, b in zip(SCALES[:-1], SCALES[1:], strict=True)]
    return ssd.SSDConfig(sizes=tuple(sizes), ratios=(BOTH_RATIOS,) * 5, **changes)


def their_anchors():
    generator = DefaultBoxGenerator([[2]] * 5, scales=list(SCALES), clip=False)
    images = ImageList(torch.zeros(1, 3, 96, 96), [(96, 96)])
    return generator(images, [torch.zeros(1, 1, n, n) for n in GRIDS])[0]


def scenes(images, objects, seed=0, dtype=torch.float32):
    """Boxes of 8 to 60 pixels (images, objects, 4) and labels (images, objects)."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(images, objects, 4, generator=generator, dtype=dtype)
    sides = 8 + 52 * numbers[..., 2:]
    low = numbers[..., :2] * (96 - sides)
    labels = torch.randint(6, (images, objects), generator=generator)
    return torch.cat([low, low + sides], dim=-1), labels


def test_default_boxes():
    """Within a place theirs stand in another order: size, second size, then ratio and inverse."""
    ours, theirs = ssd.anchors(config()), their_anchors()
    order = torch.tensor([0, 3, 1, 2])
    torch.testing.assert_close(ours.view(-1, 4, 4)[:, order].flatten(0, 1), theirs)


def test_default_boxes_of_ssd300():
    """Theirs: size, second size, then each ratio and its inverse; ours: the second size last."""
    grids, counts = (38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4)
    ratios = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    scales = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]  # of `torchvision.models.detection.ssd`
    generator = DefaultBoxGenerator(ratios, scales=scales, clip=False)
    images = ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)])
    theirs = generator(images, [torch.zeros(1, 1, n, n) for n in grids])[0]
    ours = ssd.anchors(recipes.ANCHORS_300)
    assert len(ours) == len(theirs) == 8732
    sizes = [n * n * count for n, count in zip(grids, counts, strict=True)]
    for a, b, count in zip(ours.split(sizes), theirs.split(sizes), counts, strict=True):
        order = torch.tensor([0, count - 1, *range(1, count - 1)])
        torch.testing.assert_close(a.view(-1, count, 4)[:, order].flatten(0, 1), b)


def test_ssd300_has_a_place_for_each_anchor():
    with torch.device("meta"):
        model = recipes.SSDS["base"].make(classes=20)
        found = model(torch.zeros(2, 3, 300, 300))
    assert found.logits.shape == (2, 8732, 21) and found.offsets.shape == (2, 8732, 4)


@pytest.mark.parametrize("variances", [(0.1, 0.2), (1.0, 1.0), (0.25, 0.5)])
def test_offsets_forward_and_back(variances):
    move, grow = (1 / v for v in variances)
    coder = _utils.BoxCoder((move, move, grow, grow))
    boxes, places = (scenes(1, 300, seed, torch.float64)[0][0] for seed in (1, 2))
    boxes.requires_grad_()
    ours, theirs = ssd.encode(boxes, places, variances), coder.encode_single(boxes, places)
    torch.testing.assert_close(ours, theirs)
    weights = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    gradients = [torch.autograd.grad((x * weights).sum(), boxes)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    offsets = torch.cat([ours.detach(), 40 * ours.detach()]).requires_grad_()  # huge ones as well
    twice = torch.cat([places, places])
    ours, theirs = ssd.decode(offsets, twice, variances), coder.decode_single(offsets, twice)
    torch.testing.assert_close(ours, theirs)
    weights = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    gradients = [torch.autograd.grad((x * weights).sum(), offsets)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_matches_where_the_best_anchors_differ(threshold):
    places = ssd.anchors(config())
    boxes, labels = scenes(60, 4, seed=3)
    overlap = box_ops.iou_matrix(boxes, places)  # (N, K, A)
    best = overlap.argmax(2)
    clear = torch.tensor([len(row.unique()) == 4 for row in best])
    assert 30 < clear.sum() < 60  # both cases occur
    ours = ssd.assign(places, boxes, labels, threshold)
    matcher = _utils.SSDMatcher(threshold)
    same = torch.tensor([torch.equal(matcher(o), m) for o, m in zip(overlap, ours, strict=True)])
    assert same[clear].all() and not same.all()
    found = torch.stack([(ours == k).any(1) for k in range(4)], dim=1)
    assert found.all()  # there, an object may go without


def test_the_loss_with_its_gradients_and_mining():
    settings = config(box_loss="smooth_l1")
    places = ssd.anchors(settings)
    boxes, labels = scenes(8, 4, seed=5)
    labels[:4, 2:] = -1  # fewer objects in some
    generator = torch.Generator().manual_seed(6)
    inputs = [torch.randn(8, len(places), n, generator=generator).requires_grad_() for n in (7, 4)]
    parts = ssd.ssd_parts(ssd.Predictions(*inputs, places), boxes, labels, settings)
    matched = ssd.assign(places, boxes, labels, settings.threshold)
    targets = [{"boxes": b, "labels": n + 1} for b, n in zip(boxes, labels, strict=True)]
    head = {"cls_logits": inputs[0], "bbox_regression": inputs[1]}
    rules = SimpleNamespace(box_coder=_utils.BoxCoder((10, 10, 5, 5)), neg_to_pos_ratio=3)
    theirs = SSD.compute_loss(rules, targets, head, [places] * 8, list(matched))
    torch.testing.assert_close(parts["class"], theirs["classification"])
    torch.testing.assert_close(parts["box"], theirs["bbox_regression"])
    ours = torch.autograd.grad(sum(parts.values()), inputs)
    for mine, other in zip(ours, torch.autograd.grad(sum(theirs.values()), inputs), strict=True):
        torch.testing.assert_close(mine, other)


def test_the_heads_and_their_flattening():
    torch.manual_seed(0)
    channels, counts = [4, 6], [3, 2]
    theirs = SSDHead(channels, counts, 5)
    maps = [torch.randn(2, c, n, n) for c, n in zip(channels, (4, 2), strict=True)]
    expected = theirs(maps)
    for part, name, numbers in (
        (theirs.classification_head, "cls_logits", 5),
        (theirs.regression_head, "bbox_regression", 4),
    ):
        rows = [head(x) for head, x in zip(part.module_list, maps, strict=True)]
        torch.testing.assert_close(ssd.flatten_levels(rows, numbers), expected[name])
