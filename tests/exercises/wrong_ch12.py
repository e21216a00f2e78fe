"""Plausible wrong answers to the exercises of chapter 12."""

import torch

from course_lib.teaching.exercises.ch12 import solve_encode_box


def count(grids, sizes, ratios, each):
    return sum(g * g * each(len(n), len(m)) for g, n, m in zip(grids, sizes, ratios, strict=True))


def all_pairs_counted(grids, sizes, ratios):
    return count(grids, sizes, ratios, lambda n, m: n * m)


def first_twice(grids, sizes, ratios):
    return count(grids, sizes, ratios, lambda n, m: n + m)


def places_only(grids, sizes, ratios):
    return count(grids, sizes, ratios, lambda n, m: 1)


def one_row(grids, sizes, ratios):
    pairs = zip(grids, sizes, ratios, strict=True)
    return sum(g * (len(n) + len(m) - 1) for g, n, m in pairs)


def of_one_place(grids, sizes, ratios):
    return sum(len(n) + len(m) - 1 for n, m in zip(sizes, ratios, strict=True))


def by_level(grids, sizes, ratios):
    return [g * g for g in grids]


def finest_only(grids, sizes, ratios):
    return count(grids[:1], sizes[:1], ratios[:1], lambda n, m: n + m - 1)


def shapes(sizes, ratios, width, height):
    pairs = [(sizes[0], r) for r in ratios] + [(s, ratios[0]) for s in sizes[1:]]
    return torch.tensor([(width(s, r), height(s, r)) for s, r in pairs])


def right_shapes(sizes, ratios):
    return shapes(sizes, ratios, lambda s, r: s * r**0.5, lambda s, r: s / r**0.5)


def all_pairs(sizes, ratios):
    return torch.tensor([(s * r**0.5, s / r**0.5) for s in sizes for r in ratios])


def exchanged(sizes, ratios):
    return right_shapes(sizes, ratios).flip(1)


def without_root(sizes, ratios):
    return shapes(sizes, ratios, lambda s, r: s * r, lambda s, r: s / r)


def width_only(sizes, ratios):
    return shapes(sizes, ratios, lambda s, r: s * r, lambda s, r: s)


def sizes_first(sizes, ratios):
    return right_shapes(sizes, ratios)[[0, 3, 1, 2]]


def first_missing(sizes, ratios):
    return right_shapes(sizes, ratios)[1:]


def squares(sizes, ratios):
    return shapes(sizes, ratios, lambda s, r: s, lambda s, r: s)


def centre_and_size(box):
    return (box[:2] + box[2:]) / 2, box[2:] - box[:2]


def parts(box, anchor):
    (centre, size), (start, side) = centre_and_size(box), centre_and_size(anchor)
    return (centre - start) / side, (size / side).log()


def corners(box, anchor):
    return box - anchor


def no_variances(box, anchor):
    return torch.cat(parts(box, anchor))


def multiplied(box, anchor):
    move, grow = parts(box, anchor)
    return torch.cat([move * 0.1, grow * 0.2])


def pixels(box, anchor):
    (centre, _), (start, _) = centre_and_size(box), centre_and_size(anchor)
    return torch.cat([(centre - start) / 0.1, parts(box, anchor)[1] / 0.2])


def of_the_box(box, anchor):
    (centre, size), (start, _) = centre_and_size(box), centre_and_size(anchor)
    return torch.cat([(centre - start) / size / 0.1, parts(box, anchor)[1] / 0.2])


def no_logarithm(box, anchor):
    move, grow = parts(box, anchor)
    return torch.cat([move / 0.1, grow.exp() / 0.2])


def backwards(box, anchor):
    move, grow = parts(anchor, box)
    return torch.cat([move / 0.1, grow / 0.2])


def variances_exchanged(box, anchor):
    move, grow = parts(box, anchor)
    return torch.cat([move / 0.2, grow / 0.1])


def by_corner(box, anchor):
    (_, size), (_, side) = centre_and_size(box), centre_and_size(anchor)
    return torch.cat([(box[:2] - anchor[:2]) / side / 0.1, (size / side).log() / 0.2])


def twice_as_high(box, anchor):
    return solve_encode_box(box, anchor) * torch.tensor([1.0, 1, 1, 2])


def not_moved(maps, numbers):
    return torch.cat([x.reshape(len(x), -1, numbers) for x in maps], 1)


def columns_first(maps, numbers):
    return torch.cat([x.permute(0, 3, 2, 1).reshape(len(x), -1, numbers) for x in maps], 1)


def coarse_first(maps, numbers):
    return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, numbers) for x in maps[::-1]], 1)


def anchors_first(maps, numbers):
    rows = [x.unflatten(1, (-1, numbers)).permute(0, 1, 3, 4, 2) for x in maps]
    return torch.cat([row.flatten(1, 3) for row in rows], 1)


def half_moved(maps, numbers):
    return torch.cat([x.permute(0, 2, 1, 3).reshape(len(x), -1, numbers) for x in maps], 1)


def a_list(maps, numbers):
    return [x.permute(0, 2, 3, 1).reshape(len(x), -1, numbers) for x in maps]


def flat(maps, numbers):
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in maps], 1)


def images_mixed(maps, numbers):
    return torch.cat([x.permute(0, 2, 3, 1).reshape(-1, numbers) for x in maps])


def last_numbers_first(maps, numbers):
    return torch.cat(a_list(maps, numbers), 1).flip(2)


def choose(losses, count):
    mask = torch.zeros(len(losses), dtype=torch.bool)
    mask[losses.argsort(descending=True)[:count]] = True
    return mask


def objects_too(losses, positive, ratio):
    return choose(losses, ratio * int(positive.sum()))


def easiest(losses, positive, ratio):
    return choose((-losses).masked_fill(positive, -99), ratio * int(positive.sum()))


def for_the_image(losses, positive, ratio):
    return choose(losses.masked_fill(positive, -1), ratio)


def all_background(losses, positive, ratio):
    return ~positive


def places(losses, positive, ratio):
    order = losses.masked_fill(positive, -1).argsort(descending=True)
    return order[: ratio * int(positive.sum())]


def too_many(losses, positive, ratio):
    return choose(losses.masked_fill(positive, -1), ratio * int(positive.sum()))


def one_short(losses, positive, ratio):
    return choose(losses.masked_fill(positive, -1), ratio * int(positive.sum()) - 1) & ~positive


def numbers(losses, positive, ratio):
    return too_many(losses, positive, ratio).float()


WRONG = {
    "12.1": [
        (all_pairs_counted, "only the first size has all ratios"),
        (first_twice, "is counted twice"),
        (places_only, "each has several anchors"),
        (one_row, "square its side"),
        (of_one_place, "of one place of each level"),
        (by_level, "One number is asked for"),
        (finest_only, "it is 81, not 64"),
    ],
    "12.2": [
        (all_pairs, "Six shapes are all pairs"),
        (exchanged, "are exchanged"),
        (without_root, "take its root"),
        (width_only, "both sides change"),
        (sizes_first, "their order is not"),
        (first_missing, "should have shape (4, 2)"),
        (squares, "the shapes are [[10.0, 10.0], [20.0, 5.0]"),
    ],
    "12.3": [
        (corners, "differences of corners"),
        (no_variances, "variances are missing"),
        (multiplied, "they should divide"),
        (pixels, "not in pixels"),
        (of_the_box, "the network knows only the anchor's"),
        (no_logarithm, "lacks its logarithm"),
        (backwards, "from the box to the anchor"),
        (variances_exchanged, "two variances are exchanged"),
        (by_corner, "offset 0 should be"),
        (twice_as_high, "offset 3 should be"),
    ],
    "12.4": [
        (not_moved, "Without moving the channels last"),
        (columns_first, "x should move first"),
        (coarse_first, "the first map comes first"),
        (anchors_first, "anchors of a place belong together"),
        (half_moved, "in the wrong order"),
        (a_list, "One tensor"),
        (flat, "an axis of their own"),
        (images_mixed, "should stay apart"),
        (last_numbers_first, "Row 0 of image 0 should be"),
    ],
    "12.5": [
        (objects_too, "is no background"),
        (easiest, "the easiest ones"),
        (for_the_image, "there are two"),
        (all_background, "only the worst should be"),
        (places, "not their places"),
        (too_many, "only that one is left"),
        (one_short, "ratio 2 chooses 2, 3, 6 and 7"),
        (numbers, "should be bool"),
    ],
}
