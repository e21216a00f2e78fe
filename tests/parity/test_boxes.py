"""Boxes against torchvision.ops: overlaps with their gradients, and the same boxes kept."""

import pytest
import torch
from torchvision import ops

from course_lib import boxes


def drawn(count, size=60, spread=96, seed=0, dtype=torch.float32):
    """Boxes of up to `size` pixels and scores; the larger `spread`, the fewer overlap."""
    generator = torch.Generator().manual_seed(seed)
    centre, extent = torch.rand(2, count, 2, generator=generator, dtype=dtype)
    centre, half = centre * spread, extent * size / 2 + 1
    return torch.cat([centre - half, centre + half], 1), torch.rand(count, generator=generator)


def adversarial():
    """name -> (boxes, scores, thresholds)."""
    usual, scores = drawn(150)
    thresholds = (0.0, 0.3, 0.5, 0.7, 1.0)
    grid = usual.div(8).round() * 8  # few places: many equal boxes, zero areas and equal IoUs
    tenths = torch.tensor([[0.0, 0, 10, 1]]) * torch.arange(1, 11).view(10, 1) / 10
    steps = torch.arange(150).view(150, 1) * torch.tensor([3.0, 0, 3, 0])
    return {
        "usual": (usual, scores, thresholds),
        "tied scores": (usual, scores.mul(5).round(), thresholds),
        "equal scores": (usual, torch.ones(150), thresholds),
        "infinite scores": (usual, torch.where(scores > 0.9, torch.inf, scores), thresholds),
        "empty": (usual[:0], scores[:0], thresholds),
        "one": (usual[:1], scores[:1], thresholds),
        "on a grid": (grid, scores.mul(9).round(), thresholds),
        "points": (usual[:, :2].repeat(1, 2), scores, thresholds),
        "lines": (torch.cat([usual[:, :3], usual[:, 1:2]], 1), scores, thresholds),
        "identical": (usual[:1].repeat(150, 1), scores, thresholds),
        "chain": (torch.tensor([0.0, 0, 10, 10]) + steps, scores, thresholds),
        "falling chain": (torch.tensor([0.0, 0, 10, 10]) + steps, -steps[:, 0], thresholds),
        "at the threshold": (tenths, tenths[:, 2], tuple(i / 10 for i in range(11))),
        "far away": (usual - 1e6, scores, thresholds),
        "float64": (usual.double(), scores.double(), thresholds),
    }


CASES = adversarial()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("nms", [boxes.nms, boxes.nms_by_hand])
def test_the_same_boxes_in_the_same_order(name, nms):
    case, scores, thresholds = CASES[name]
    for threshold in thresholds:
        expected = ops.nms(case, scores, threshold)
        assert torch.equal(nms(case, scores, threshold), expected), threshold


def sorted_kept(kept, scores):
    """By falling score as ours; torchvision leaves the order of equal scores open here."""
    kept = kept.sort().values
    return kept[scores[kept].argsort(descending=True, stable=True)]


@pytest.mark.parametrize("name", CASES)
def test_the_same_boxes_class_by_class(name):
    case, scores, thresholds = CASES[name]
    classes = torch.arange(len(case)) * 7 % 5
    for threshold in thresholds:
        expected = sorted_kept(
            ops.boxes._batched_nms_vanilla(case, scores, classes, threshold), scores
        )
        assert torch.equal(boxes.nms(case, scores, threshold, classes), expected), threshold


@pytest.mark.parametrize("spread", [96, 640])
def test_five_thousand_boxes(spread):
    many, scores = drawn(5000, spread=spread)
    classes = torch.arange(5000) % 6
    assert torch.equal(boxes.nms(many, scores, 0.5), ops.nms(many, scores, 0.5))
    expected = sorted_kept(ops.batched_nms(many, scores, classes, 0.5), scores)
    assert torch.equal(boxes.nms(many, scores, 0.5, classes), expected)


def test_five_thousand_boxes_with_ties():
    many, scores = drawn(5000)
    scores = scores.mul(10).round()
    assert torch.equal(boxes.nms(many, scores, 0.5), ops.nms(many, scores, 0.5))


MATRICES = {"iou": ops.box_iou, "giou": ops.generalized_box_iou}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("case", CASES)
def test_matrices_to_the_bit(name, case):
    a, b = CASES[case][0], CASES["usual"][0].to(CASES[case][0])
    for second in (a, b):
        found = getattr(boxes, f"{name}_matrix")(a, second)
        expected = MATRICES[name](a, second)
        with_area = expected.isfinite()  # theirs is NaN where neither box has an area
        assert torch.equal(found[with_area], expected[with_area]) and found.isfinite().all()


def compare_gradients(ours, theirs, shape_a, shape_b):
    found = []
    for function in (ours, theirs):
        leaves = [
            x.clone().requires_grad_()
            for x in (
                drawn(shape_a, dtype=torch.float64)[0],
                drawn(shape_b, seed=1, dtype=torch.float64)[0],
            )
        ]
        value = function(*leaves)
        weight = torch.linspace(-1, 2, value.numel(), dtype=torch.float64).view_as(value)
        (value * weight).sum().backward()
        found.append((value.detach(), [x.grad for x in leaves]))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", MATRICES)
def test_gradients_of_matrices(name):
    compare_gradients(getattr(boxes, f"{name}_matrix"), MATRICES[name], 9, 13)


def test_paired_overlaps_and_their_gradients():
    theirs = (ops.generalized_box_iou_loss, ops.complete_box_iou_loss)
    for ours, loss in zip((boxes.giou, boxes.ciou), theirs, strict=True):
        compare_gradients(ours, lambda a, b, loss=loss: 1 - loss(a, b), 40, 40)


def test_conversions_areas_and_clipping():
    usual = drawn(50)[0]
    assert torch.equal(boxes.to_centres(usual), ops.box_convert(usual, "xyxy", "cxcywh"))
    centres = boxes.to_centres(usual)
    assert torch.equal(boxes.to_corners(centres), ops.box_convert(centres, "cxcywh", "xyxy"))
    assert torch.equal(boxes.area(usual), ops.box_area(usual))
    clipped = ops.clip_boxes_to_image(usual, (50, 70))
    assert torch.equal(boxes.clip(usual, height=50, width=70), clipped)
