"""Exercises and quizzes of chapter 11."""

import torch
from torch import Tensor
from torchvision import ops

from course_lib import average_precision, boxes, yolo
from course_lib.teaching.exercises.exercise import (
    Exercise,
    Rejected,
    expect_numbers,
    expect_tensor,
    without,
)
from course_lib.teaching.quiz import Choice, Quiz

RIGHT_SIZES = {
    "cells in the grid of a picture of 96 x 160 pixels at stride 16": 60,
    "numbers a cell gives with B = 2 and 20 classes": 30,
    "row of the cell (from 0, stride 8) for a centre at x = 20, y = 50": 6,
    "IoU of (0, 0, 4, 4) and (2, 2, 6, 6), as a fraction 1 / ?": 7,
    "AP (101 recalls) of a detector whose every box is wrong": 0,
}
CELLS, NUMBERS, ROW, FRACTION, WRONG_AP = RIGHT_SIZES


def examine_sizes(answer: dict[str, int]) -> None:
    expect_numbers(answer, RIGHT_SIZES, _wrong_size)


def _wrong_size(name: str, given: float) -> str:
    said = {
        (CELLS, 16): "Divide both sides by the stride, then multiply.",
        (CELLS, 960): "Both sides are divided by the stride, not the area once.",
        (NUMBERS, 50): "The class scores belong to the cell, not to each box.",
        (NUMBERS, 28): "A box has a confidence beside its four numbers.",
        (ROW, 2): "That is the column: rows go with y.",
        (ROW, 7): "Count from 0.",
        (FRACTION, 8): "What both share is counted once in what they cover together.",
        (FRACTION, 9): "That is over their hull, not over what they cover.",
        (FRACTION, 1 / 7): "Only the number below the line is asked for.",
        (FRACTION, 4): "That is the share of one box, not of both together.",
        (WRONG_AP, 1): "Precision is 0 after every one of its boxes.",
    }
    return said.get((name, given), "Draw it on squared paper, and count.")


def examine_overlaps(overlaps) -> None:
    a = torch.tensor([[0.0, 0, 4, 2], [2, 1, 6, 3], [10, 8, 12, 14]])
    b = torch.tensor([[0.0, 0, 4, 2], [3, 0, 5, 9], [20, 20, 21, 22], [10, 10, 11, 12]])
    names = ("iou", "iou_matrix", "giou", "giou_matrix", "ciou")
    ready = [(boxes, name) for name in names] + [(ops, "box_iou"), (ops, "generalized_box_iou")]
    by_hand = without(overlaps, "Write it out instead of calling a ready-made one.", *ready)
    value = by_hand(a, b)
    expect_tensor(value, (3, 4), "the IoU of 3 boxes with 4")
    value = value.float()
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    sides = high - low
    areas = [(t[:, 2] - t[:, 0]) * (t[:, 3] - t[:, 1]) for t in (a, b)]
    both = areas[0][:, None] + areas[1]
    shared = sides.clamp(min=0).prod(-1)
    mistakes = {
        "Sides below 0 are not cut off at 0: boxes that are apart in both directions seem to share "
        "something.": sides.prod(-1) / (both - sides.prod(-1)),
        "What both share is counted twice below the line.": shared / both,
        "You divide by the area of a alone.": shared / areas[0][:, None],
        "You divide by the smaller of both areas.": (
            shared / torch.minimum(areas[0][:, None], areas[1])
        ),
    }
    right = shared / (both - shared)
    for reason, wrong in mistakes.items():
        if torch.allclose(value, wrong, atol=1e-5) and not torch.allclose(wrong, right):
            raise Rejected(reason)
    if not torch.allclose(value, right, atol=1e-5):
        row, column = (~torch.isclose(value, right, atol=1e-5)).nonzero()[0].tolist()
        pair = f"{a[row].tolist()} and {b[column].tolist()}"
        raise Rejected(
            f"{pair} should give {right[row, column].item():.4f}; yours gives "
            f"{value[row, column].item():.4f}."
        )
    expect_tensor(by_hand(a[:0], b), (0, 4), "the IoU of no boxes with 4")


def solve_overlaps(a, b):
    low = torch.maximum(a[:, None, :2], b[:, :2])  # (N, 1, 2) and (M, 2) -> (N, M, 2)
    high = torch.minimum(a[:, None, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)  # (N, M)
    area_a = (a[:, 2:] - a[:, :2]).prod(dim=1)  # (N,)
    area_b = (b[:, 2:] - b[:, :2]).prod(dim=1)  # (M,)
    return shared / (area_a[:, None] + area_b - shared)


def examine_spread(spread) -> None:
    objects = torch.tensor(
        [
            [2, 0.30, 0.80, 0.20, 0.10],  # 1.2 columns, 3.2 rows of 4
            [0, 0.60, 0.10, 0.50, 0.20],  # 2.4, 0.4
            [1, 0.70, 0.20, 0.30, 0.40],  # 2.8, 0.8: the same cell, later
        ]
    )
    ready = without(
        spread, "Write it out instead of calling the library.", (yolo, "encode"), (yolo, "spread")
    )
    value = ready(objects, 4, 3)
    expect_tensor(value, (4, 4, 8), "the grid of 4 x 4 cells and 3 classes")
    right = solve_spread(objects, 4, 3)
    shares, early = right.clone(), solve_spread(objects.flip(0), 4, 3)
    for _, x, y, *_ in objects.tolist():
        shares[int(4 * y), int(4 * x), :2] = torch.tensor([x, y])
    pixels, shifted = right.clone(), right.clone()
    pixels[..., 2:4] *= 4
    shifted[..., :2] -= 0.5 * shifted[..., 4:5]
    unsure = right.clone()
    unsure[..., 4] = 0
    mistakes = {
        "Rows and columns are swapped: rows go with y.": right.transpose(0, 1),
        "x and y should count from the corner of the cell, in cells.": shares,
        "w and h are shares of the picture, as they come in.": pixels,
        "x and y count from the cell's middle; they should from its corner.": shifted,
        "Of two objects in one cell the later one should stay.": early,
        "The confidence, number 4 of the cell, is missing.": unsure,
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value.float(), wrong, atol=1e-5):
            raise Rejected(reason)
    if not torch.allclose(value.float(), right, atol=1e-5):
        cells = (value - right).abs().amax(-1).gt(1e-5).nonzero()
        row, column = cells[0].tolist()
        raise Rejected(
            f"The cell in row {row}, column {column} is {_short(value[row, column])}; it should "
            f"be {_short(right[row, column])}."
        )
    if ready(torch.zeros(0, 5), 2, 3).any():
        raise Rejected("Without objects, the grid should hold nothing but zeros.")
    five = ready(objects, 5, 4)
    expect_tensor(five, (5, 5, 9), "the grid of 5 x 5 cells and 4 classes")
    if not torch.allclose(five.float(), solve_spread(objects, 5, 4), atol=1e-5):
        raise Rejected("Right for 4 x 4 cells, but not for 5 x 5.")


def _short(cell: Tensor) -> str:
    return "[" + ", ".join(f"{number:.2f}" for number in cell.tolist()) + "]"


def solve_spread(objects, cells, classes):
    grid = torch.zeros(cells, cells, 5 + classes)
    for label, x, y, w, h in objects.tolist():
        row, column = int(y * cells), int(x * cells)
        grid[row, column] = 0  # an earlier object goes, its class too
        place = [x * cells - column, y * cells - row, w, h, 1.0]
        grid[row, column, :5] = torch.tensor(place)
        grid[row, column, 5 + int(label)] = 1
    return grid


def examine_suppress_by_class(suppress_by_class) -> None:
    ready = [(boxes, "nms"), (boxes, "nms_by_hand"), (ops, "nms"), (ops, "batched_nms")]
    by_hand = without(suppress_by_class, "Write it out: no ready-made suppression.", *ready)
    # A chain: 0 drops 1; 1 would drop 2, but is gone. 3 lies on 0 and is of another class.
    chain = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10], [0, 0, 10, 10]])
    ratings = torch.tensor([0.9, 0.8, 0.7, 0.85])
    names = torch.tensor([0, 0, 0, 1])
    said = _numbers(by_hand(chain, ratings, names, 0.5))
    reasons = {
        (0, 2): "A box of another class was dropped. Suppression goes class by class.",
        (0, 3): "Box 2 overlaps only box 1, which is itself dropped: it should stay.",
        (0, 3, 1, 2): "Nothing was dropped.",
        (0, 2, 3): "The right boxes, but not by falling rating: sort them at the end.",
        (2, 3, 0): "The boxes come with the lowest rating first.",
    }
    if said != [0, 3, 2]:
        fallback = f"Of four boxes 0, 3 and 2 should be kept; yours keeps {said}."
        raise Rejected(reasons.get(tuple(said), fallback))
    touching = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # IoU is exactly one half
    pair = torch.tensor([0.5, 0.6]), torch.tensor([3, 3])
    if len(_numbers(by_hand(touching, *pair, 0.5))) == 1:
        raise Rejected("An IoU equal to the threshold does not exceed it: that box stays.")
    if len(_numbers(by_hand(touching, *pair, 0.4))) == 2:
        raise Rejected("Another threshold changes nothing. Do you use it?")
    if _numbers(by_hand(chain[:0], ratings[:0], names[:0], 0.5)):
        raise Rejected("Without boxes the list should be empty.")
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(60, 2, generator=generator) * 20
    many = torch.cat([low, low + 8], dim=1)
    ratings, names = torch.rand(60, generator=generator), torch.arange(60) % 3
    wanted = boxes.nms(many, ratings, 0.3, names).tolist()
    said = _numbers(by_hand(many, ratings, names, 0.3))
    if said != wanted:
        raise Rejected(
            f"Right for a few boxes. Of 60 in three classes {len(wanted)} should stay; of yours "
            f"{len(said)} do, or their order differs."
        )


def _numbers(value) -> list[int]:
    if isinstance(value, Tensor):
        value = value.tolist()
    flat = isinstance(value, list) and not any(isinstance(item, bool | list) for item in value)
    if not flat or not all(float(item).is_integer() for item in value):
        raise Rejected("A list of numbers of boxes is asked for, such as [0, 2].")
    return [int(item) for item in value]


def solve_suppress_by_class(candidates, ratings, names, threshold):
    kept = []
    for box in ratings.argsort(descending=True).tolist():
        rivals = [other for other in kept if names[other] == names[box]]
        fits = [boxes.iou(candidates[other], candidates[box]) for other in rivals]
        if all(fit <= threshold for fit in fits):
            kept.append(box)
    return kept


def examine_area_under(area_under) -> None:
    ready = [(average_precision, "average_precision"), (average_precision, "coco_map")]
    by_hand = without(area_under, "Write it out instead of calling the library.", *ready)
    right, objects = [True, False, True, True, False, True, False], 5
    value = _number(by_hand(right, objects))
    hits = torch.tensor(right).double().cumsum(0)
    precision, recall = hits / torch.arange(1, len(right) + 1), hits / objects
    wanted, levels = _area(right, objects), [level / 100 for level in range(101)]
    reached = [level for level in levels if recall[-1] >= level]
    first = sum(precision[recall >= level][0].item() for level in reached)
    mistakes = {
        "That is the mean precision over the boxes, not over recalls.": precision.mean().item(),
        "That is the last precision: the share of boxes that is right.": precision[-1].item(),
        "That is the recall at the end of the list.": recall[-1].item(),
        "Of the boxes that reach a recall, the best precision counts, not the first.": (
            first / 101
        ),
        "Recalls that are never reached count, too, with 0.": wanted * 101 / len(reached),
        "There are 101 recalls, from 0 to 1, both included.": wanted * 101 / 100,
        "Recall is over all objects that are there, not over those found.": _area(right, 4),
    }
    if abs(value - wanted) > 1e-6:
        for reason, wrong in mistakes.items():
            if abs(value - wrong) < 1e-6:
                raise Rejected(reason)
        raise Rejected(f"Of {right} and 5 objects the AP is {wanted:.4f}; yours is {value:.4f}.")
    for flags, count, perfect in (([], 3, 0.0), ([False, False], 2, 0.0), ([True, True], 2, 1.0)):
        value = _number(by_hand(flags, count))
        if not abs(value - perfect) < 1e-6:
            raise Rejected(f"Of {flags} and {count} objects the AP is {perfect}; yours is {value}.")


def _best(precision: Tensor, recall: Tensor, wanted: float) -> float:
    reached = precision[recall >= wanted]
    return reached.max().item() if len(reached) else 0.0


def _area(right: list[bool], objects: int) -> float:
    hits = torch.tensor(right).double().cumsum(0)
    precision, recall = hits / torch.arange(1, len(right) + 1), hits / objects
    return sum(_best(precision, recall, wanted / 100) for wanted in range(101)) / 101


def _number(value) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected(f"One number is asked for, not a {type(value).__name__}.")
    return float(value)


def solve_area_under(right, objects):
    points, hits = [], 0
    for tried, hit in enumerate(right, start=1):
        hits += hit
        points.append((hits / objects, hits / tried))  # recall, precision
    total = 0.0
    for wanted in range(101):
        total += max((p for r, p in points if r >= wanted / 100), default=0.0)
    return total / 101


sizes = Exercise(
    number="11.1",
    title="sizes and scores",
    examine=examine_sizes,
    solution=RIGHT_SIZES,
    hints=(
        "The grid has H / stride rows and W / stride columns; a cell gives B x 5 + C numbers.",
        "The two boxes share 2 x 2 pixels. Below the line stands 16 + 16 less what is shared.",
    ),
)

overlaps = Exercise(
    number="11.2",
    title="IoU of each with each",
    examine=examine_overlaps,
    solution=solve_overlaps,
    hints=(
        "`a[:, None]` is (N, 1, 4): with b (M, 4) it broadcasts to (N, M, ...).",
        "The larger of the low corners, the smaller of the high ones, their difference cut off at "
        "0 with `clamp(min=0)`, then `prod` over the last axis.",
    ),
)

spread = Exercise(
    number="11.3",
    title="a label list on a grid",
    examine=examine_spread,
    solution=solve_spread,
    hints=(
        "A loop over the objects will do. `int(y * cells)` is the row of a centre.",
        "x counts in cells from the corner: `x * cells - column`. Clear the cell before you write "
        "into it, or the earlier object's class stays.",
    ),
)

suppress_by_class = Exercise(
    number="11.4",
    title="suppression by class",
    examine=examine_suppress_by_class,
    solution=solve_suppress_by_class,
    hints=(
        "Go through the boxes by falling rating, and keep a list of those that stay.",
        "A box stays unless its IoU with one kept of the same class is above the threshold.",
    ),
)

area_under = Exercise(
    number="11.5",
    title="average precision",
    examine=examine_area_under,
    solution=solve_area_under,
    hints=(
        "After each box note the recall, hits / objects, and the precision, hits / boxes so far.",
        "For each recall 0, 0.01, ..., 1 take the largest precision among the points with at least "
        "that recall, 0 if there is none; then the mean of the 101.",
    ),
)

EXERCISES = (sizes, overlaps, spread, suppress_by_class, area_under)

silent_cells = Quiz(
    "A cell holds no object. What do its x, y, w and h learn?",
    (
        Choice("To be 0", "Only the confidence learns 0 there. No object, no true box."),
        Choice("Nothing", "The box's part of the loss leaves such cells out.", correct=True),
        Choice(
            "The nearest object's box", "Only a cell that answers for an object learns its box."
        ),
    ),
)

zero_overlap = Quiz(
    "Why is 1 - IoU alone a poor loss for boxes?",
    (
        Choice("It is slow", "It takes a few operations for a box."),
        Choice(
            "Its slope is 0 where boxes do not touch",
            "Near or far, IoU is 0: nothing says where to go. GIoU and CIoU mend that.",
            correct=True,
        ),
        Choice("It favours large boxes", "IoU is a ratio: enlarge both boxes, and it stays."),
    ),
)

lower_threshold = Quiz(
    "The threshold of suppression is lowered from 0.5 to 0.1. What happens?",
    (
        Choice(
            "Fewer duplicates, and neighbours of one class vanish",
            "Boxes that overlap a little now count as the same object.",
            correct=True,
        ),
        Choice("More boxes are kept", "The other way round: less overlap is enough to be dropped."),
        Choice("Boxes that score below 0.1 go", "That is the other knob, the confidence."),
    ),
)

ghosts = Quiz(
    "A detector adds a thousand wrong boxes, all less sure than any of its right ones. Its AP?",
    (
        Choice("It falls to nearly 0", "Precision falls, but only behind the last right box."),
        Choice(
            "It stays as it was",
            "Of all boxes with at least some recall, the best precision counts; the tail is lower.",
            correct=True,
        ),
        Choice("It rises, for recall does", "Wrong boxes find nothing: recall stays."),
    ),
)

two_tests = Quiz(
    "Suppose only mAP falls with unseen cut-outs, and object AP does not. What is missing?",
    (
        Choice("Finer cells", "The boxes are in place: it finds objects it has never seen."),
        Choice("More steps", "They teach the same few cut-outs better still."),
        Choice(
            "More different examples of each class",
            "It knows what an object is, but of each class only those that it saw.",
            correct=True,
        ),
    ),
)

QUIZZES = (silent_cells, zero_overlap, lower_threshold, ghosts, two_tests)
