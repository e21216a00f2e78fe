"""The figures of chapter 12 show what they say they show."""

import pytest
import torch

from course_lib import boxes as box_ops
from course_lib import ssd
from course_lib.average_precision import Detections
from course_lib.teaching import plot
from course_lib.teaching.figures import ch12 as figures

BOXES = torch.tensor([[8.0, 8, 28, 28], [50, 50, 90, 80]])
LABELS = torch.tensor([1, 0])
NAMES = ("cat", "dog")


def image():
    return (torch.arange(3 * 96 * 96).view(3, 96, 96) % 251).byte()


def detections(*rows):
    """(box, label, score) of each."""
    found, labels, scores = zip(*rows, strict=True)
    images = torch.zeros(len(rows)).long()
    return Detections(images, torch.stack(found), torch.tensor(labels), torch.tensor(scores))


def nothing():
    return Detections(*(torch.zeros(0, *shape) for shape in ((), (4,), (), ())))


# --- judging -----------------------------------------------------------------------------------


def test_each_detection_is_judged():
    found = detections(
        (BOXES[0], 1, 0.9),  # right
        (BOXES[0] + 1, 1, 0.8),  # the same again
        (BOXES[1], 1, 0.7),  # misnamed
        (torch.tensor([0.0, 60, 10, 70]), 0, 0.6),  # nothing there
    )
    assert figures.judge(found, BOXES, LABELS) == ["right", "again", "misnamed", "wrong"]


def test_the_surest_detection_gets_the_object():
    found = detections((BOXES[0] + 1, 1, 0.2), (BOXES[0] + 2, 1, 0.8))
    assert figures.judge(found, BOXES, LABELS) == ["again", "right"]


def test_the_least_overlap_decides():
    found = detections((BOXES[0] + torch.tensor([0.0, 0, 0, -11]), 1, 0.9))  # IoU 9 / 20
    assert figures.judge(found, BOXES, LABELS) == ["wrong"]
    assert figures.judge(found, BOXES, LABELS, least=0.4) == ["right"]


def test_marks_tell_right_from_wrong_and_show_what_is_missed():
    marks = figures.verdict_marks(detections((BOXES[0], 1, 0.9)), BOXES, LABELS, NAMES)
    assert [mark.line for mark in marks] == [":", "-"]
    assert torch.equal(marks[0].box, BOXES[1]) and marks[1].text == "dog 0.90"
    assert marks[1].color == plot.GREEN
    marks = figures.verdict_marks(detections((BOXES[0], 0, 0.9)), BOXES, LABELS, NAMES)
    assert marks[1].color == plot.SKY and len(marks) == 2


def test_nothing_found_and_nothing_there():
    assert figures.judge(nothing(), BOXES, LABELS) == []
    assert len(figures.verdict_marks(nothing(), BOXES, LABELS, NAMES)) == 2
    assert figures.verdict_marks(nothing(), BOXES[:0], LABELS[:0], NAMES) == []
    found = detections((BOXES[0], 1, 0.9))
    assert figures.judge(found, BOXES[:0], LABELS[:0]) == ["wrong"]


# --- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_the_anchor_explorer_counts_what_fits(threshold):
    fig = figures.anchor_figure(image(), BOXES, 12, 20, 1.0, threshold)
    anchors = ssd.anchors_for(12, 12, (20,), (1.0,), 96)
    fits = (box_ops.iou_matrix(BOXES, anchors) >= threshold).any(0).sum()
    assert fig.axes[0].get_title() == f"12 x 12 places, size 20, width / height 1: {fits} fit"
    texts = [text.get_text() for text in fig.axes[1].texts]
    best = box_ops.iou_matrix(BOXES, anchors).amax(1)
    assert texts == [f"{value:.2f}" for value in best]


@pytest.mark.parametrize("grid", [1, 2, 3, 12])
@pytest.mark.parametrize("ratio", [0.25, 4.0])
def test_the_anchor_explorer_bears_all_levels_and_shapes(grid, ratio):
    drawn = [
        plot.to_png(figures.anchor_figure(image(), objects, grid, 96, ratio, 0.5))
        for objects in (BOXES, BOXES[:0])
    ]
    assert drawn[0] != drawn[1]


def test_judged_figure_says_what_it_shows():
    found = detections((BOXES[0], 1, 0.9), (BOXES[1], 1, 0.7))
    fig = figures.judged_figure(image(), found, BOXES, LABELS, NAMES)
    assert fig.axes[0].get_title() == "2 objects; 1 right, 1 misnamed, 0 again, 0 wrong"
    assert plot.to_png(fig) != plot.to_png(
        figures.judged_figure(image(), nothing(), BOXES, LABELS, NAMES)
    )


# --- data --------------------------------------------------------------------------------------


def test_levels_by_size_gives_the_counts(displayed):
    counts = torch.tensor([[3.0, 0], [1, 0]])
    assert figures.levels_by_size(counts, ["small", "large"], "c", "a") == [[3, 0], [1, 0]]


def test_owners_counts_clean_rows(displayed):
    clean = torch.arange(4).view(4, 1).expand(4, 3)
    mixed = torch.tensor([[0, 1, 2], [3, 3, 3]])
    assert figures.owners({"a": clean, "b": mixed}, "c", "a") == {"a": 4, "b": 1}


def test_hard_losses_shares_add_up(displayed):
    losses = torch.tensor([4.0, 3.0, 2.0, 1.0])
    positive = torch.tensor([True, False, False, False])
    chosen = torch.tensor([False, True, False, False])
    kinds = figures.hard_losses(losses, positive, chosen, "c", "a")
    assert kinds["objects"] == (1, pytest.approx(0.4))
    assert kinds["background that counts"] == (1, pytest.approx(0.3))
    assert kinds["background left out"] == (2, pytest.approx(0.3))


def test_by_size_gives_the_scores(displayed):
    scores = {"SSD": {"small": 0.4, "large": 0.8}, "YOLO": {"small": 0.5, "large": 0.7}}
    assert figures.by_size(scores, "AP", "c", "a", errors={"SSD": scores["SSD"]}) == scores
