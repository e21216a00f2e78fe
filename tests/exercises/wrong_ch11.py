"""Plausible wrong answers to the exercises of chapter 11."""

import torch
from torchvision import ops

from course_lib import average_precision, boxes
from course_lib.teaching.exercises.ch11 import (
    CELLS,
    FRACTION,
    NUMBERS,
    RIGHT_SIZES,
    ROW,
    WRONG_AP,
    solve_area_under,
    solve_overlaps,
    solve_spread,
    solve_suppress_by_class,
)


def sizes(name, number):
    return RIGHT_SIZES | {name: number}


def sides(a, b):
    low = torch.maximum(a[:, None, :2], b[:, :2])
    return torch.minimum(a[:, None, 2:], b[:, 2:]) - low


def areas(a, b):
    return (a[:, 2:] - a[:, :2]).prod(1)[:, None], (b[:, 2:] - b[:, :2]).prod(1)


def negative_sides(a, b):
    shared = sides(a, b).prod(2)
    return shared / (sum(areas(a, b)) - shared)


def counted_twice(a, b):
    return sides(a, b).clamp(min=0).prod(2) / sum(areas(a, b))


def over_a(a, b):
    return sides(a, b).clamp(min=0).prod(2) / areas(a, b)[0]


def over_smaller(a, b):
    return sides(a, b).clamp(min=0).prod(2) / torch.minimum(*areas(a, b))


def one_more_pixel(a, b):
    wider = torch.tensor([0, 0, 1, 1])
    return solve_overlaps(a + wider, b + wider)


def ready_iou(a, b):
    return boxes.iou_matrix(a, b)


def theirs(a, b):
    return ops.box_iou(a, b)


def turned(a, b):
    return solve_overlaps(b, a)


def swapped(objects, cells, classes):
    return solve_spread(objects, cells, classes).transpose(0, 1)


def shares(objects, cells, classes):
    grid = solve_spread(objects, cells, classes)
    for _, x, y, *_ in objects.tolist():
        grid[int(y * cells), int(x * cells), :2] = torch.tensor([x, y])
    return grid


def in_cells(objects, cells, classes):
    grid = solve_spread(objects, cells, classes)
    grid[..., 2:4] *= cells
    return grid


def from_middle(objects, cells, classes):
    grid = solve_spread(objects, cells, classes)
    grid[..., :2] -= 0.5 * grid[..., 4:5]
    return grid


def first_stays(objects, cells, classes):
    return solve_spread(objects.flip(0), cells, classes)


def no_confidence(objects, cells, classes):
    grid = solve_spread(objects, cells, classes)
    grid[..., 4] = 0
    return grid


def two_classes(objects, cells, classes):
    grid = torch.zeros(cells, cells, 5 + classes)
    for number in range(len(objects)):
        one = solve_spread(objects[number : number + 1], cells, classes)
        there = one[..., 4] > 0
        grid[there] = torch.cat([one[there][:, :5], (one + grid)[there][:, 5:]], 1)
    return grid


def always_four(objects, cells, classes):
    grid = torch.zeros(cells, cells, 5 + classes)
    small = solve_spread(objects, 4, classes)
    side = min(cells, 4)
    grid[:side, :side] = small[:side, :side]
    return grid


def classes_first(objects, cells, classes):
    return solve_spread(objects, cells, classes).roll(classes, -1)


def no_axis(objects, cells, classes):
    return solve_spread(objects, cells, classes).flatten(0, 1)


def walk(candidates, ratings, names, threshold, strict=True, by_class=True, chained=False):
    kept, seen = [], []
    for box in ratings.argsort(descending=True).tolist():
        rivals = [o for o in (seen if chained else kept) if not by_class or names[o] == names[box]]
        fits = [boxes.iou(candidates[o], candidates[box]).item() for o in rivals]
        seen.append(box)
        if all(fit <= threshold if strict else fit < threshold for fit in fits):
            kept.append(box)
    return kept


def without_classes(candidates, ratings, names, threshold):
    return walk(candidates, ratings, names, threshold, by_class=False)


def by_dropped_ones(candidates, ratings, names, threshold):
    return walk(candidates, ratings, names, threshold, chained=True)


def drops_equal(candidates, ratings, names, threshold):
    return walk(candidates, ratings, names, threshold, strict=False)


def keeps_all(candidates, ratings, names, threshold):
    return ratings.argsort(descending=True).tolist()


def by_number(candidates, ratings, names, threshold):
    return sorted(solve_suppress_by_class(candidates, ratings, names, threshold))


def fixed_half(candidates, ratings, names, threshold):
    return solve_suppress_by_class(candidates, ratings, names, 0.5)


def worst_first(candidates, ratings, names, threshold):
    return solve_suppress_by_class(candidates, -ratings, names, threshold)


def ready_nms(candidates, ratings, names, threshold):
    return boxes.nms(candidates, ratings, threshold, names).tolist()


def flag_list(candidates, ratings, names, threshold):
    return [True] * len(candidates)


def the_boxes(candidates, ratings, names, threshold):
    return candidates


def flags(candidates, ratings, names, threshold):
    return "0, 3, 2"


def points(right, objects):
    hits = torch.tensor(right).double().cumsum(0)
    return hits / torch.arange(1, len(right) + 1), hits / objects


def mean_precision(right, objects):
    return points(right, objects)[0].mean().item()


def last_precision(right, objects):
    return points(right, objects)[0][-1].item()


def last_recall(right, objects):
    return points(right, objects)[1][-1].item()


def first_precision(right, objects):
    precision, recall = points(right, objects)
    reached = [precision[recall >= w / 100] for w in range(101)]
    return sum(r[0].item() if len(r) else 0.0 for r in reached) / 101


def reached_only(right, objects):
    precision, recall = points(right, objects)
    reached = [precision[recall >= w / 100] for w in range(101)]
    return sum(r.max().item() for r in reached if len(r)) / sum(len(r) > 0 for r in reached)


def hundred(right, objects):
    return solve_area_under(right, objects) * 101 / 100


def found_as_total(right, objects):
    return solve_area_under(right, sum(right))


def eleven(right, objects):
    precision, recall = points(right, objects)
    reached = [precision[recall >= w / 10] for w in range(11)]
    return sum(r.max().item() if len(r) else 0.0 for r in reached) / 11


def nothing_is_perfect(right, objects):
    return solve_area_under(right, objects) if right else 1.0


def ready_ap(right, objects):
    return average_precision.average_precision(right, objects, 1)


def a_list(right, objects):
    return [solve_area_under(right, objects)]


WRONG = {
    "11.1": [
        (sizes(CELLS, 16), "Divide both sides"),
        (sizes(CELLS, 960), "not the area once"),
        (sizes(NUMBERS, 50), "belong to the cell"),
        (sizes(NUMBERS, 28), "a confidence beside"),
        (sizes(ROW, 2), "That is the column"),
        (sizes(ROW, 7), "Count from 0"),
        (sizes(FRACTION, 8), "counted once"),
        (sizes(FRACTION, 9), "over their hull"),
        (sizes(FRACTION, 4), "of one box"),
        (sizes(FRACTION, 5), "squared paper"),
        (sizes(FRACTION, 1 / 7), "below the line"),
        (sizes(WRONG_AP, 1), "Precision is 0"),
        (sizes(WRONG_AP, ...), "still open"),
    ],
    "11.2": [
        (negative_sides, "not cut off at 0"),
        (counted_twice, "counted twice"),
        (over_a, "area of a alone"),
        (over_smaller, "smaller of both areas"),
        (one_more_pixel, "should give"),
        (ready_iou, "ready-made one"),
        (theirs, "ready-made one"),
        (turned, "should have shape (3, 4)"),
    ],
    "11.3": [
        (swapped, "Rows and columns are swapped"),
        (shares, "from the corner of the cell, in cells"),
        (in_cells, "w and h are shares"),
        (from_middle, "from the cell's middle"),
        (first_stays, "the later one should stay"),
        (no_confidence, "is missing"),
        (two_classes, "it should be"),
        (always_four, "not for 5 x 5"),
        (classes_first, "it should be"),
        (no_axis, "should have shape (4, 4, 8)"),
    ],
    "11.4": [
        (without_classes, "of another class was dropped"),
        (by_dropped_ones, "itself dropped"),
        (drops_equal, "does not exceed it"),
        (keeps_all, "Nothing was dropped"),
        (by_number, "not by falling rating"),
        (fixed_half, "Do you use it"),
        (worst_first, "lowest rating first"),
        (ready_nms, "no ready-made suppression"),
        (flags, "A list of numbers"),
        (flag_list, "A list of numbers"),
        (the_boxes, "A list of numbers"),
    ],
    "11.5": [
        (mean_precision, "not over recalls"),
        (last_precision, "the share of boxes that is right"),
        (last_recall, "the recall at the end"),
        (first_precision, "not the first"),
        (reached_only, "never reached count, too"),
        (hundred, "There are 101 recalls"),
        (found_as_total, "not over those found"),
        (eleven, "yours is"),
        (nothing_is_perfect, "the AP is 0.0"),
        (ready_ap, "instead of calling the library"),
        (a_list, "One number"),
    ],
}
