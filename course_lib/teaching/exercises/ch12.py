"""Exercises and quizzes of chapter 12."""

import torch
from torch import Tensor

from course_lib.teaching.exercises.exercise import Exercise, Rejected, expect_tensor
from course_lib.teaching.quiz import Choice, Quiz

GRIDS, SIZES, RATIOS = (4, 2, 1), ((8, 12), (20, 28, 33), (50,)), ((1, 2, 0.5), (1, 2), (1,))


def examine_count_anchors(count_anchors) -> None:
    value = count_anchors(GRIDS, SIZES, RATIOS)
    if isinstance(value, Tensor):
        value = value.item()
    if not isinstance(value, int | float):
        raise Rejected(f"One number is asked for, but a {type(value).__name__} came back.")
    pairs = [(len(n), len(m)) for n, m in zip(SIZES, RATIOS, strict=True)]
    places = [grid**2 for grid in GRIDS]
    mistakes = {
        "This pairs every size with every ratio; only the first size has all ratios.": sum(
            p * n * m for p, (n, m) in zip(places, pairs, strict=True)
        ),
        "The pair of first size and first ratio is counted twice.": sum(
            p * (n + m) for p, (n, m) in zip(places, pairs, strict=True)
        ),
        "A level has as many rows as columns of places: square its side.": sum(
            g * (n + m - 1) for g, (n, m) in zip(GRIDS, pairs, strict=True)
        ),
        "These are the anchors of one place of each level.": sum(n + m - 1 for n, m in pairs),
        "These are the places; each has several anchors.": sum(places),
    }
    for reason, wrong in mistakes.items():
        if value == wrong:
            raise Rejected(reason)
    right = sum(p * (n + m - 1) for p, (n, m) in zip(places, pairs, strict=True))
    if value != right:
        raise Rejected(
            f"For grids {GRIDS}, sizes {SIZES} and ratios {RATIOS} it is {right}, not {value}."
        )


def solve_count_anchors(grids, sizes, ratios):
    total = 0
    for side, n, m in zip(grids, sizes, ratios, strict=True):
        total += side * side * (len(n) + len(m) - 1)
    return total


def examine_anchor_shapes(anchor_shapes) -> None:
    value = anchor_shapes((10.0, 16.0), (1.0, 4.0, 0.25))
    if isinstance(value, Tensor) and value.shape == (6, 2):
        raise Rejected("Six shapes are all pairs; the other sizes take the first ratio only.")
    expect_tensor(value, (4, 2), "the shapes")
    value = value.float()  # whole numbers are as good
    right = torch.tensor([[10.0, 10], [20, 5], [5, 20], [16, 16]])
    if torch.allclose(value, right.flip(1), atol=1e-4):
        raise Rejected("Width and height are exchanged: the ratio is width to height.")
    if torch.allclose(value, torch.tensor([[10.0, 10], [40, 2.5], [2.5, 40], [16, 16]]), atol=1e-4):
        raise Rejected("The ratio of these is the square of the one wanted: take its root.")
    if torch.allclose(value, torch.tensor([[10.0, 10], [40, 10], [2.5, 10], [16, 16]]), atol=1e-4):
        raise Rejected("The area should stay that of the square: both sides change.")
    right_set, own_set = (sorted(map(tuple, x.round(decimals=2).tolist())) for x in (right, value))
    in_order = torch.allclose(value, right, atol=1e-4)
    if right_set == own_set and not in_order:
        raise Rejected("The shapes are right, their order is not: first size first, all ratios.")
    if not in_order:
        raise Rejected(
            "For sizes 10 and 16 and ratios 1, 4 and 0.25 the shapes are "
            f"{right.tolist()}; yours are {value.double().round(decimals=2).tolist()}."
        )


def solve_anchor_shapes(sizes, ratios):
    pairs = [(sizes[0], ratio) for ratio in ratios] + [(size, ratios[0]) for size in sizes[1:]]
    return torch.tensor([(size * ratio**0.5, size / ratio**0.5) for size, ratio in pairs])


def examine_encode_box(encode_box) -> None:
    box, anchor = torch.tensor([14.0, 20, 34, 60]), torch.tensor([10.0, 10, 50, 30])
    value = encode_box(box.clone(), anchor.clone())
    expect_tensor(value, (4,), "the offsets")
    value = value.float()
    move, grow = torch.tensor([-6 / 40, 20 / 20]), torch.tensor([0.5, 2.0])
    right = torch.cat([move / 0.1, grow.log() / 0.2])
    mistakes = {
        "These are differences of corners; take the centre and the size.": (box - anchor),
        "The variances are missing: divide by 0.1 and by 0.2.": torch.cat([move, grow.log()]),
        "The variances multiply here; they should divide.": torch.cat(
            [move * 0.1, grow.log() * 0.2]
        ),
        "The movement should be in parts of the anchor's size, not in pixels.": torch.cat(
            [torch.tensor([-6.0, 20]) / 0.1, grow.log() / 0.2]
        ),
        "The movement is in parts of the box's size; the network knows only the anchor's.": (
            torch.cat([torch.tensor([-6 / 20, 20 / 40]) / 0.1, grow.log() / 0.2])
        ),
        "The factor of the size lacks its logarithm.": torch.cat([move / 0.1, grow / 0.2]),
        "Box and anchor are exchanged: this leads from the box to the anchor.": torch.cat(
            [torch.tensor([6 / 20, -20 / 40]) / 0.1, -grow.log() / 0.2]
        ),
        "The two variances are exchanged.": torch.cat([move / 0.2, grow.log() / 0.1]),
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value, wrong, atol=1e-4):
            raise Rejected(reason)
    if not torch.allclose(value, right, atol=1e-4):
        place = int((~torch.isclose(value, right, atol=1e-4)).nonzero()[0])
        raise Rejected(
            f"For the box {box.tolist()} and the anchor {anchor.tolist()} offset {place} should be "
            f"{right[place]:.3f}; yours is {value[place]:.3f}."
        )


def solve_encode_box(box, anchor):
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    start, side = (anchor[:2] + anchor[2:]) / 2, anchor[2:] - anchor[:2]
    return torch.cat([(centre - start) / side / 0.1, (size / side).log() / 0.2])


def examine_flatten_maps(flatten_maps) -> None:
    maps = [
        torch.arange(24.0).view(1, 6, 2, 2).repeat(2, 1, 1, 1),
        torch.arange(100.0, 103).view(1, 3, 1, 1).repeat(2, 1, 1, 1),
    ]
    maps = [x + torch.arange(2).view(2, 1, 1, 1) * 1000 for x in maps]
    value = flatten_maps([x.clone() for x in maps], 3)
    if not isinstance(value, Tensor):
        raise Rejected("One tensor with the rows of all levels is asked for.")
    if value.shape in ((2, 27), (2, 8), (2, 24)):
        raise Rejected("Give the three numbers of an anchor an axis of their own, the last one.")
    if value.shape == (18, 3):
        raise Rejected("The images should stay apart, along the first axis.")
    expect_tensor(value, (2, 9, 3), "the rows")
    right = torch.cat([x.permute(0, 2, 3, 1).reshape(2, -1, 3) for x in maps], 1)
    mistakes = {
        "Without moving the channels last, a row holds one channel of three places.": torch.cat(
            [x.reshape(2, -1, 3) for x in maps], 1
        ),
        "Places stand column by column here; x should move first.": torch.cat(
            [x.permute(0, 3, 2, 1).reshape(2, -1, 3) for x in maps], 1
        ),
        "The levels are in the wrong order: the first map comes first.": torch.cat(
            [x.permute(0, 2, 3, 1).reshape(2, -1, 3) for x in maps[::-1]], 1
        ),
        "All places of the first anchor come first; the anchors of a place belong together.": (
            torch.cat(
                [x.unflatten(1, (-1, 3)).permute(0, 1, 3, 4, 2).flatten(1, 3) for x in maps], 1
            )
        ),
        "The axes after the images are read in the wrong order.": torch.cat(
            [x.permute(0, 2, 1, 3).reshape(2, -1, 3) for x in maps], 1
        ),
    }
    for reason, wrong in mistakes.items():
        if torch.equal(value, wrong):
            raise Rejected(reason)
    if not torch.equal(value, right):
        image, row = (value != right).any(2).nonzero()[0].tolist()
        raise Rejected(
            f"Row {row} of image {image} should be {right[image, row].tolist()}; yours is "
            f"{value[image, row].tolist()}."
        )


def solve_flatten_maps(maps, numbers):
    rows = [x.permute(0, 2, 3, 1).reshape(len(x), -1, numbers) for x in maps]
    return torch.cat(rows, dim=1)


def examine_hardest(hardest) -> None:
    losses = torch.tensor([3.0, 0.5, 4.0, 2.0, 0.1, 5.0, 1.0, 0.7])
    positive = torch.tensor([True, False, False, False, False, True, False, False])
    value = hardest(losses.clone(), positive.clone(), 2)
    if isinstance(value, Tensor) and not value.is_floating_point() and value.dtype != torch.bool:
        raise Rejected("A mask is asked for, bool and one for each anchor, not their places.")
    expect_tensor(value, (8,), "the mask")
    if value.dtype != torch.bool:
        raise Rejected(f"The mask should be bool; yours is {value.dtype}.")
    chosen = value.nonzero().flatten().tolist()
    mistakes = {
        "An anchor with an object is no background; it is chosen here.": any(
            place in chosen for place in (0, 5)
        ),
        "These are the easiest ones: the network is right about them.": chosen == [1, 4, 6, 7],
        "The ratio counts for each positive anchor, and there are two.": chosen == [2, 3],
        "All of the background is chosen; only the worst should be.": chosen == [1, 2, 3, 4, 6, 7],
    }
    for reason, wrong in mistakes.items():
        if wrong:
            raise Rejected(reason)
    if chosen != [2, 3, 6, 7]:
        raise Rejected(
            f"Of the losses {[round(loss, 1) for loss in losses.tolist()]}, 0 and 5 those of "
            f"objects, ratio 2 chooses 2, 3, 6 and 7; yours chooses {chosen}."
        )
    few = hardest(torch.ones(3), torch.tensor([True, True, False]), 3).tolist()
    if few != [False, False, True]:
        raise Rejected(
            "With two positives, ratio 3 and a single background anchor, only that one is left "
            f"to choose; yours: {few}."
        )


def solve_hardest(losses, positive, ratio):
    count = ratio * int(positive.sum())
    order = losses.masked_fill(positive, -1).argsort(descending=True)
    chosen = torch.zeros_like(positive)
    chosen[order[:count]] = True
    return chosen & ~positive


count_anchors = Exercise(
    number="12.1",
    title="how many anchors",
    examine=examine_count_anchors,
    solution=solve_count_anchors,
    hints=(
        "A level with side g has g times g places, and each of them has n + m - 1 anchors.",
        "Walk through the three tuples together with `zip`, and add up.",
    ),
)

anchor_shapes = Exercise(
    number="12.2",
    title="the shapes of a place",
    examine=examine_anchor_shapes,
    solution=solve_anchor_shapes,
    hints=(
        "Width w and height h with w / h = r and w h = s s: which powers of r do they take?",
        "Width s times the root of r, height s divided by it. Write the list of pairs first: the "
        "first size with each ratio, then each other size with the first ratio.",
    ),
)

encode_box = Exercise(
    number="12.3",
    title="offsets of a box",
    examine=examine_encode_box,
    solution=solve_encode_box,
    hints=(
        "Turn both into a centre (x, y) and a size (width, height) first.",
        "Two numbers say how far the centre moves, in parts of the anchor's size, over 0.1; two "
        "say the logarithm of the factor by which the size grows, over 0.2.",
    ),
)

flatten_maps = Exercise(
    number="12.4",
    title="one row for each anchor",
    examine=examine_flatten_maps,
    solution=solve_flatten_maps,
    hints=(
        "For a single map: `permute` so that the channels are the last axis, then `reshape`.",
        "After the permutation the shape is (N, H, W, anchors · numbers); reshape it to "
        "(N, -1, numbers), and join the levels along the axis of anchors.",
    ),
)

hardest = Exercise(
    number="12.5",
    title="the hardest background",
    examine=examine_hardest,
    solution=solve_hardest,
    hints=(
        "Sort the anchors by their loss with `argsort(descending=True)`; those with an object "
        "should come last, so give them a loss below all others first.",
        "The first `ratio * positive.sum()` of that order are chosen. At the end take out what is "
        "positive: there may be too little background.",
    ),
)

EXERCISES = (count_anchors, anchor_shapes, encode_box, flatten_maps, hardest)

why_levels = Quiz(
    "Why do small objects get their anchors on the finest map?",
    (
        Choice(
            "Its places stand close together, so that one of its anchors fits even a small box",
            "An anchor that is off by half its own side overlaps too little. Small boxes need "
            "places a few pixels apart; large ones would only get many near-copies there.",
            correct=True,
        ),
        Choice(
            "Its features have seen the most layers",
            "The other way round: it comes first in the network, so it has seen the fewest. That "
            "is the price of its fine grid.",
        ),
        Choice(
            "Coarse maps have no room for the channels",
            "They usually have more channels; what they lack is places.",
        ),
    ),
)

own_anchor = Quiz(
    "An object overlaps no anchor by half or more. What does it teach the network?",
    (
        Choice(
            "Nothing, it is left out",
            "That would be so with the threshold alone. The first rule gives every object its "
            "best anchor, however poor.",
        ),
        Choice(
            "Its best anchor learns it",
            "Unless a better-fitting object has taken that one; then it is the next best.",
            correct=True,
        ),
        Choice(
            "All anchors that touch it learn it",
            "Anchors beyond its own need an IoU of the threshold.",
        ),
    ),
)

why_log = Quiz(
    "Why does the box head predict the logarithm of the size's factor, not a number of pixels?",
    (
        Choice(
            "Half as wide and twice as wide are then equally far, at any size, and no box turns "
            "inside out",
            "The exponential is positive whatever the network says, and the same error weighs "
            "alike for small and large boxes.",
            correct=True,
        ),
        Choice(
            "Logarithms are faster to compute",
            "They cost a little more. What they buy is the scale.",
        ),
        Choice(
            "It keeps the box within the image",
            "Nothing in the offsets does: boxes are cut at the border afterwards.",
        ),
    ),
)

why_mining = Quiz(
    "Three background anchors learn for each positive one. Which three?",
    (
        Choice(
            "Three drawn by lot",
            "Most background is easy: such a draw would teach almost nothing.",
        ),
        Choice(
            "Those that the network takes for an object with the most confidence",
            "They have the largest loss, and they are the false alarms of tomorrow.",
            correct=True,
        ),
        Choice(
            "Those that overlap the object most",
            "Nobody looks at the overlap here: the loss decides. (Such anchors are often among the "
            "hardest, since half of an object looks like an object.)",
        ),
    ),
)

unseen_quiz = Quiz(
    "On unseen cut-outs the mAP falls more than the object AP. What did the network learn?",
    (
        Choice(
            "To find objects in general better than to name them",
            "What stands out from a photo looks alike for all. A name needs examples of its kind, "
            "and there are few of each class.",
            correct=True,
        ),
        Choice(
            "Nothing but the training cut-outs by heart",
            "Then it would not find the unseen ones either.",
        ),
        Choice(
            "The backgrounds of the test",
            "The test photos are not in the training set, for seen and unseen cut-outs alike.",
        ),
    ),
)

QUIZZES = (why_levels, own_anchor, why_log, why_mining, unseen_quiz)
