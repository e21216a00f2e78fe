"""Boxes: conversions, overlaps and suppression on cases that can be checked by eye."""

import pytest
import torch
from torch import nn

from course_lib import boxes
from tests import readiness

WHOLE = torch.tensor([[0.0, 0, 4, 2], [2, 1, 6, 3], [10, 10, 12, 14], [5, 5, 5, 9]])
OVERLAPS = {name: getattr(boxes, name) for name in ("iou", "giou", "ciou")}
SUPPRESSIONS = {"by hand": boxes.nms_by_hand, "blocks": boxes.nms}
suppressions = pytest.mark.parametrize("nms", SUPPRESSIONS.values(), ids=SUPPRESSIONS)


def random_boxes(count, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    low, size = torch.rand(2, count, 2, generator=generator, dtype=dtype) * 60
    return torch.cat([low, low + size], dim=1), torch.rand(count, generator=generator)


# --- conversions -------------------------------------------------------------------------------


def test_centres_and_sizes():
    centres = boxes.to_centres(WHOLE)
    assert centres.tolist() == [[2, 1, 4, 2], [4, 2, 4, 2], [11, 12, 2, 4], [5, 7, 0, 4]]
    assert torch.equal(boxes.to_corners(centres), WHOLE)


def test_conversions_are_inverse_for_any_leading_axes():
    drawn, _ = random_boxes(60, dtype=torch.float64)
    drawn = drawn.view(3, 20, 4)
    back = boxes.to_corners(boxes.to_centres(drawn))
    torch.testing.assert_close(back, drawn, rtol=0, atol=1e-12)
    quarters = (drawn * 4).round() / 4  # no rounding at all where numbers are short
    assert torch.equal(boxes.to_corners(boxes.to_centres(quarters)), quarters)


def test_area_and_clip():
    assert boxes.area(WHOLE).tolist() == [8, 8, 8, 0]
    assert boxes.area(torch.tensor([[4.0, 4, 1, 1], [0, 3, 5, 1]])).tolist() == [0, 0]
    outside = torch.tensor([[-3.0, -2, 99, 99], [20, 1, 30, 2], [1, 2, 3, 4]])
    expected = [[0, 0, 8, 6], [8, 1, 8, 2], [1, 2, 3, 4]]
    assert boxes.clip(outside, height=6, width=8).tolist() == expected


# --- overlaps ----------------------------------------------------------------------------------


def test_overlaps_of_two_boxes():
    a, b = WHOLE[:2]  # they share 2 x 1 of 8 + 8 - 2; their hull is 6 x 3
    assert boxes.iou(a, b).item() == pytest.approx(2 / 14)
    assert boxes.giou(a, b).item() == pytest.approx(2 / 14 - (18 - 14) / 18)
    # Centres (2, 1) and (4, 2), the hull's diagonal from (0, 0) to (6, 3), one shape.
    assert boxes.ciou(a, b).item() == pytest.approx(2 / 14 - 5 / 45)


@pytest.mark.parametrize("name", OVERLAPS)
def test_equal_boxes_score_one_in_any_order_of_arguments(name):
    a, b = random_boxes(30)[0], random_boxes(30, seed=1)[0]
    torch.testing.assert_close(OVERLAPS[name](a, a), torch.ones(30))
    torch.testing.assert_close(OVERLAPS[name](a, b), OVERLAPS[name](b, a))


def test_each_with_each_is_a_matrix_of_pairs():
    a, b = random_boxes(5)[0], random_boxes(7, seed=1)[0]
    for matrix, pair in ((boxes.iou_matrix, boxes.iou), (boxes.giou_matrix, boxes.giou)):
        found = matrix(a, b)
        assert found.shape == (5, 7)
        torch.testing.assert_close(found[3, 2], pair(a[3], b[2]))
        assert matrix(a, b[:0]).shape == (5, 0) and matrix(a[:0], b).shape == (0, 7)


@pytest.mark.parametrize("name", OVERLAPS)
def test_leading_axes_are_broadcast(name):
    a, b = random_boxes(5)[0], random_boxes(7, seed=1)[0]
    found = OVERLAPS[name](a[:, None], b)
    assert found.shape == (5, 7)
    torch.testing.assert_close(found[4], OVERLAPS[name](a[4], b))


@pytest.mark.parametrize("name", OVERLAPS)
def test_boxes_without_area_have_finite_values_and_gradients(name):
    a = torch.tensor([[5.0, 5, 5, 5], [1, 1, 4, 1], [6, 6, 2, 2], [0, 0, 3, 3]], requires_grad=True)
    b = torch.tensor([[5.0, 5, 5, 5], [1, 1, 4, 1], [2, 2, 6, 6], [1, 1, 1, 1]])
    value = OVERLAPS[name](a, b)
    value.sum().backward()
    assert value.isfinite().all() and a.grad.isfinite().all()
    if name == "iou":
        assert value.eq(0).all()


def test_only_giou_and_ciou_say_where_to_go_when_apart():
    target = torch.tensor([20.0, 0, 24, 4])
    slopes = {}
    for name, overlap in OVERLAPS.items():
        box = torch.tensor([0.0, 0, 4, 4], requires_grad=True)
        overlap(box, target).backward()
        slopes[name] = (box.grad[0] + box.grad[2]).item()  # of a shift to the right
    assert slopes["iou"] == 0 and slopes["giou"] > 0 and slopes["ciou"] > 0


def test_halves_are_computed_in_float32():
    box = torch.tensor([[0.0, 0, 400, 400]])
    for dtype in (torch.float16, torch.bfloat16):
        assert boxes.area(box.to(dtype)).item() == pytest.approx(160_000, rel=0.01)
        assert boxes.iou(box.to(dtype), box.to(dtype)).dtype is torch.float32


class Learned(nn.Module):
    """Boxes as parameters: what a detector's loss does with them."""

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(boxes.to_centres(random_boxes(6)[0]))

    def forward(self, target):
        found = boxes.clip(boxes.to_corners(self.centres), 64, 64)
        pairs = boxes.giou(found, target) + boxes.ciou(found, target)
        return pairs.mean() + boxes.iou_matrix(found, target).max(dim=1).values.mean()


def loss(model, target):
    return 1 - model(target)


@pytest.mark.parametrize("check", ["fake_cuda", "meta", "autocast", "compiles"])
def test_ready_for_a_gpu(check):
    getattr(readiness, f"check_{check}")(Learned(), loss, [random_boxes(6, seed=1)[0]])


# --- suppression -------------------------------------------------------------------------------


@suppressions
def test_duplicates_go_and_neighbours_stay(nms):
    a = torch.tensor([0.0, 0, 10, 10])
    drawn = torch.stack([a + 30, a + 1, a, a + torch.tensor([8.0, 0, 8, 0])])
    assert nms(drawn, torch.tensor([0.3, 0.8, 0.9, 0.7]), 0.5).tolist() == [2, 3, 0]


@suppressions
def test_the_suppressed_do_not_suppress(nms):
    steps = torch.arange(5).view(5, 1) * torch.tensor([4.0, 0, 4, 0])  # each overlaps its neighbour
    chain = torch.tensor([0.0, 0, 10, 10]) + steps
    assert nms(chain, torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), 0.4).tolist() == [0, 2, 4]


@suppressions
def test_of_equal_scores_the_first_comes_first(nms):
    drawn = WHOLE[:3].repeat(2, 1)
    assert nms(drawn, torch.ones(6), 0.5).tolist() == [0, 1, 2]


@suppressions
def test_an_overlap_that_equals_the_threshold_stays(nms):
    pair = torch.tensor([[0.0, 0, 4, 1], [0, 0, 2, 1]])  # IoU 1/2
    assert nms(pair, torch.tensor([0.5, 0.4]), 0.5).tolist() == [0, 1]
    assert nms(pair, torch.tensor([0.5, 0.4]), 0.49).tolist() == [0]


@suppressions
def test_no_boxes_and_boxes_without_area(nms):
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).dtype is torch.int64
    points = torch.tensor([[5.0, 5, 5, 5]]).repeat(3, 1)
    assert nms(points, torch.tensor([0.1, 0.3, 0.2]), 0.0).tolist() == [1, 2, 0]


@pytest.mark.parametrize("count", [63, 64, 65, 200])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.0])
def test_blocks_keep_what_the_loop_keeps(count, threshold):
    drawn, scores = random_boxes(count, seed=count)
    scores = (scores * 20).round()  # with ties
    expected = boxes.nms_by_hand(drawn, scores, threshold)
    assert torch.equal(boxes.nms(drawn, scores, threshold), expected)


def test_groups_are_suppressed_on_their_own():
    drawn, scores = random_boxes(150)
    groups = torch.arange(150) % 4
    parts = [(groups == g).nonzero().flatten() for g in range(4)]
    parts = [part[boxes.nms_by_hand(drawn[part], scores[part], 0.3)] for part in parts]
    expected = torch.cat(parts)
    expected = expected[scores[expected].argsort(descending=True)]
    assert torch.equal(boxes.nms(drawn, scores, 0.3, groups), expected)
    assert torch.equal(boxes.nms(drawn, scores, 0.3, groups * 0), boxes.nms(drawn, scores, 0.3))


@suppressions
def test_suppression_takes_what_a_network_gives(nms):
    drawn, scores = random_boxes(20)
    kept = nms(drawn.requires_grad_(), scores.requires_grad_(), 0.5)
    assert not kept.requires_grad and drawn.grad is None


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([[0.0, 0, 4, 2], [6, 1, 2, 3]], r"1 bad ones, the first is \[6.0, 1.0, 2.0, 3.0\]"),
        ([[0.0, 5, 4, 2]], "y1 <= y2"),
        ([[0.0, 0, float("nan"), 2]], "allowed are finite"),
        ([[0.0, 0, float("inf"), 2]], "allowed are finite"),
    ],
)
@suppressions
def test_boxes_that_are_none_are_refused(nms, bad, message):
    bad = torch.tensor(bad)
    with pytest.raises(ValueError, match=message):
        nms(bad, torch.ones(len(bad)), 0.5)
    with pytest.raises(ValueError, match=f"labels has.*{message}"):
        boxes.check_boxes(bad, "labels")


@suppressions
def test_bad_scores_and_thresholds_are_refused(nms):
    with pytest.raises(ValueError, match="scores has 1 NaN"):
        nms(WHOLE, torch.tensor([1, float("nan"), 0, 0]), 0.5)
    with pytest.raises(ValueError, match=r"scores has shape \(3,\); allowed is \(4,\)"):
        nms(WHOLE, torch.ones(3), 0.5)
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="threshold is .*; allowed are numbers from 0 to 1"):
            nms(WHOLE, torch.ones(4), threshold)
    with pytest.raises(ValueError, match=r"boxes has shape \(1, 4, 4\)"):
        nms(WHOLE[None], torch.ones(1), 0.5)


def test_bad_shapes_and_dtypes_are_refused():
    with pytest.raises(ValueError, match=r"groups has shape \(1,\); allowed is \(4,\)"):
        boxes.nms(WHOLE, torch.ones(4), 0.5, torch.zeros(1).long())
    for function in (boxes.to_centres, boxes.to_corners, boxes.area, boxes.check_boxes):
        with pytest.raises(
            ValueError, match=r"boxes is torch.float32 \(2, 5\); allowed are floats"
        ):
            function(torch.zeros(2, 5))
        with pytest.raises(ValueError, match=r"boxes is torch.int64 \(2, 4\)"):
            function(torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="b is torch.int64"):
        boxes.iou_matrix(WHOLE, WHOLE.long())
