"""Average precision: cases that can be computed by hand."""

import pytest
import torch

from course_lib import average_precision as ap

A, B, FAR = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [60.0, 60, 70, 70]
HALF = [0.0, 0, 10, 5]  # IoU 1/2 with A
LARGE = [100.0, 100, 200, 200]


def objects(*rows):
    """Rows of image, box, label."""
    images, boxes, labels = zip(*rows, strict=True) if rows else ((), (), ())
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    return ap.Objects(torch.tensor(images).long(), boxes, torch.tensor(labels).long())


def found(*rows):
    """Rows of image, box, label, score."""
    return ap.Detections(
        *objects(*(row[:3] for row in rows)), torch.tensor([row[3] for row in rows])
    )


def precision(detections, truth, classes=1, **options):
    options = {"thresholds": (0.5,)} | options
    return ap.average_precision(detections, truth, classes, **options)[0, 0].tolist()


def test_everything_found_is_one_nothing_found_is_zero_nothing_there_is_nan():
    truth = objects((0, A, 0), (1, B, 1))
    values = precision(found((0, A, 0, 0.9), (1, FAR, 1, 0.9)), truth, classes=3)
    assert values[:2] == [pytest.approx(1), 0] and values[2] != values[2]
    assert precision(found(), truth, classes=2) == [0, 0]
    nothing = ap.coco_map(found((0, A, 0, 0.9)), objects(), 2)
    assert all(value != value for value in nothing.values())


def test_one_false_alarm_before_the_second_hit():
    truth = objects((0, A, 0), (0, B, 0))
    detections = found((0, A, 0, 0.9), (0, FAR, 0, 0.8), (0, B, 0, 0.7))
    # Recalls 0 .. 0.5 are reached at precision 1, the other fifty at 2/3.
    assert precision(detections, truth) == [pytest.approx((51 + 50 * 2 / 3) / 101)]
    matches = ap.match(detections, truth, 1, thresholds=(0.5,))
    assert matches.order.tolist() == [0, 1, 2]
    assert matches.right[0, 0].tolist() == [True, False, True]
    recall, at = ap.precision_recall(matches.right, matches.counted, matches.objects)
    torch.testing.assert_close(recall[0, 0], torch.tensor([0.5, 0.5, 1]).double())
    torch.testing.assert_close(at[0, 0], torch.tensor([1, 1 / 2, 2 / 3]).double())


def test_a_second_detection_of_an_object_is_wrong():
    truth = objects((0, A, 0), (0, B, 0))
    detections = found((0, A, 0, 0.9), (0, A, 0, 0.8))
    assert precision(detections, truth) == [pytest.approx(51 / 101)]
    assert ap.match(detections, truth, 1).right[0, 0].tolist() == [True, False]


def test_the_score_decides_who_comes_first_and_not_the_overlap():
    matches = ap.match(found((0, A, 0, 0.1), (0, HALF, 0, 0.8)), objects((0, A, 0)), 1)
    assert matches.order.tolist() == [1, 0]
    assert matches.right[0, :2].tolist() == [[True, False], [False, True]]  # at 0.5, at 0.55


def test_a_detection_takes_the_object_it_overlaps_most():
    near = [0.0, 0, 10, 8]
    truth = objects((0, A, 0), (0, near, 0))
    detections = found((0, near, 0, 0.9), (0, HALF, 0, 0.8))
    assert precision(detections, truth) == [pytest.approx(1)]  # A is left for HALF


def test_of_equal_overlaps_the_last_object_is_taken_as_by_coco():
    left, right, middle = [0.0, 0, 10, 10], [4.0, 0, 14, 10], [2.0, 0, 12, 10]
    truth = objects((0, left, 0), (0, right, 0))
    for second, rights in ((left, [True, True]), (right, [True, False])):
        detections = found((0, middle, 0, 0.9), (0, second, 0, 0.8))
        assert ap.match(detections, truth, 1).right[0, 0].tolist() == rights


def test_the_wrong_image_and_the_wrong_class_do_not_count():
    truth = objects((0, A, 0), (1, A, 1))
    detections = found((1, A, 0, 0.9), (0, A, 1, 0.9))
    assert precision(detections, truth, classes=2) == [0, 0]
    assert ap.coco_map(detections, truth, 2)["map"] == 0
    assert ap.coco_map(detections, truth, 2, class_agnostic=True)["map"] == pytest.approx(1)


def test_thresholds():
    values = ap.average_precision(found((0, HALF, 0, 1.0)), objects((0, A, 0)), 1)
    assert values.shape == (1, 10, 1)
    assert values[0, :, 0].tolist() == [pytest.approx(1)] + [0] * 9  # 1/2 is enough for 0.5


def test_areas():
    truth = objects((0, A, 0), (0, LARGE, 0))
    detections = found((0, FAR, 0, 0.9), (0, LARGE, 0, 0.8), (0, [0.0, 90, 90, 190], 0, 0.7))
    means = ap.coco_map(detections, truth, 1, small=200, large=9500)
    assert means["map_small"] == 0  # A is not found
    assert means["map_large"] == pytest.approx(1)  # FAR is small, and false among the small only
    assert means["map_medium"] != means["map_medium"]
    assert means["map"] == pytest.approx(51 / 101 * 1 / 2)  # FAR came before
    assert means["map_50"] == means["map_75"] == means["map"]


def test_the_most_detections_of_an_image_and_class():
    truth = objects((0, A, 0), (0, B, 1), (1, A, 0))
    rows = [(0, FAR, 0, 0.9), (0, A, 0, 0.8), (0, B, 1, 0.7), (1, A, 0, 0.6)]
    assert precision(found(*rows), truth, 2, max_detections=1) == [
        pytest.approx(51 / 101 / 2),
        pytest.approx(1),
    ]
    assert ap.match(found(*rows), truth, 2, max_detections=1).order.tolist() == [0, 2, 3]


def test_the_order_of_images_and_of_what_is_in_them_does_not_matter():
    truth = objects((0, A, 0), (0, B, 1), (1, A, 0), (2, LARGE, 1))
    detections = found(
        (0, A, 0, 0.9), (0, HALF, 1, 0.8), (1, FAR, 0, 0.7), (1, A, 0, 0.65), (2, LARGE, 1, 0.6)
    )
    expected = ap.average_precision(detections, truth, 2)
    shuffle = torch.tensor([3, 0, 4, 2, 1])
    detections = ap.Detections(*(tensor[shuffle] for tensor in detections))
    truth = ap.Objects(*(tensor.flip(0) for tensor in truth))
    torch.testing.assert_close(ap.average_precision(detections, truth, 2), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([2])}, "labels holds 2; allowed are 0 .. 1"),
        ({"labels": torch.tensor([-1])}, "labels holds -1; allowed are 0 .. 1"),
        (
            {"boxes": torch.tensor([[5.0, 0, 1, 1]])},
            r"boxes has 1 bad ones.*\[5.0, 0.0, 1.0, 1.0\]",
        ),
        ({"images": torch.tensor([-1])}, "images holds -1; allowed is from 0"),
        ({"images": torch.tensor([1, 1])}, r"images has shape \(2,\); allowed is \(1,\)"),
        ({"boxes": torch.zeros(1, 5)}, r"boxes has shape \(1, 5\); allowed is \(1, 4\)"),
    ],
)
def test_bad_input_is_refused(change, message):
    detections, truth = found((0, A, 0, 0.5)), objects((0, A, 0))
    with pytest.raises(ValueError, match="found." + message):
        ap.coco_map(detections._replace(**change), truth, 2)
    with pytest.raises(ValueError, match="objects." + message):
        ap.coco_map(detections, truth._replace(**change), 2)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="found.scores holds NaN"):
        ap.coco_map(found((0, A, 0, float("nan"))), objects((0, A, 0)), 1)


def test_objects_of_scenes_leaves_the_empty_places_out():
    boxes = torch.tensor([[A, B], [FAR, A]])
    truth = ap.objects_of(boxes, torch.tensor([[1, -1], [0, 2]]))
    assert truth.images.tolist() == [0, 1, 1] and truth.labels.tolist() == [1, 0, 2]
    assert truth.boxes.tolist() == [A, FAR, A]
