"""Average precision: how well a detector finds, places and names objects, as COCO counts it.

The detections and objects of all images lie in flat tensors, with the number of the image that
each belongs to. Sums are in float64 on the CPU. Bad arguments raise `ValueError`.

Source: Lin et al. 2014, "Microsoft COCO", and its evaluation code, whose numbers these equal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib import boxes as box_ops

COCO_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
ALL_AREAS = (0.0, float("inf"))


class Detections(NamedTuple):
    """What a detector says: images int64 (N,), boxes (N, 4), labels int64 (N,), scores (N,)."""

    images: Tensor
    boxes: Tensor
    labels: Tensor
    scores: Tensor


class Objects(NamedTuple):
    """What is there: images int64 (M,), boxes (M, 4), labels int64 (M,)."""

    images: Tensor
    boxes: Tensor
    labels: Tensor


def objects_of(boxes: Tensor, labels: Tensor) -> Objects:
    """The objects of N images, boxes (N, K, 4) and labels (N, K), without those of label -1."""
    real = labels >= 0  # (N, K)
    images = torch.arange(len(real), device=real.device).unsqueeze(1).expand_as(real)
    return Objects(images[real], boxes[real], labels[real])


class Matches(NamedTuple):
    """Which detections are right, for R ranges of areas and T thresholds, best score first.

    order int64 (N,): the detections' places in the tensors that were given; those beyond the most
    allowed are missing. right and counted bool (R, T, N): one that found an object outside of the
    range, or none and is itself outside, does not count. objects int64 (R, classes): how many
    there are to find.
    """

    order: Tensor
    right: Tensor
    counted: Tensor
    objects: Tensor


def coco_map(
    found: Detections,
    objects: Objects,
    classes: int,
    *,
    small: float = 32**2,
    large: float = 96**2,
    class_agnostic: bool = False,
) -> dict[str, float]:
    """Mean average precision over classes that occur, and COCO's ten thresholds.

    Args:
        small: area in square pixels up to which a box is small; from `large` on it is large.
        class_agnostic: count a box in the right place as found, whatever its label.

    Returns:
        "map", at single thresholds "map_50" and "map_75", and by the objects' areas "map_small",
        "map_medium", "map_large"; NaN where there is nothing to find.
    """
    if class_agnostic:
        found, objects = (p._replace(labels=torch.zeros_like(p.labels)) for p in (found, objects))
    areas = (ALL_AREAS, (0, small), (small, large), (large, float("inf")))
    values = average_precision(found, objects, classes, areas=areas)  # (4, 10, classes)
    means = dict(zip(("map", "map_small", "map_medium", "map_large"), values, strict=True))
    means |= {"map_50": values[0, 0], "map_75": values[0, 5]}
    return {name: value.nanmean().item() for name, value in means.items()}


def average_precision(
    found: Detections,
    objects: Objects,
    classes: int,
    *,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
    areas: Sequence[tuple[float, float]] = (ALL_AREAS,),
    max_detections: int = 100,
) -> Tensor:
    """The area under each class's curve of precision over recall, read at 101 recalls.

    Args:
        classes: labels are 0 .. classes - 1.
        thresholds: T least IoUs at which a detection has found an object.
        areas: R ranges in square pixels, both ends included; objects outside are not looked for.
        max_detections: of an image and a class, those with the highest scores.

    Returns:
        float64 (R, T, classes), NaN for a class without objects.
    """
    matches = match(
        found, objects, classes, thresholds=thresholds, areas=areas, max_detections=max_detections
    )
    labels = found.labels.cpu()[matches.order]
    values = torch.full((len(areas), len(thresholds), classes), torch.nan, dtype=torch.float64)
    for label in range(classes):
        total, chosen = matches.objects[:, label], labels == label
        right, counted = matches.right[..., chosen], matches.counted[..., chosen]
        recall, precision = precision_recall(right, counted, total.view(-1, 1, 1))
        values[..., label] = _interpolate(recall, precision).mean(-1)
        values[total == 0, :, label] = torch.nan
    return values


def precision_recall(right: Tensor, counted: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Recall and precision after each of n detections, best first: float64 (..., n) each.

    Args:
        right, counted: bool (..., n), see `Matches`.
        objects: how many there are to find, broadcast to (..., n).
    """
    hits = (right & counted).double().cumsum(-1)
    tried = counted.double().cumsum(-1)
    return hits / objects.clamp(min=1), hits / tried.clamp(min=1)


def _interpolate(recall: Tensor, precision: Tensor) -> Tensor:
    """The best precision at each of the 101 recalls or beyond: (..., n) -> (..., 101)."""
    best = precision.flip(-1).cummax(-1).values.flip(-1) if precision.shape[-1] else precision
    padded = torch.cat([best, best.new_zeros(*best.shape[:-1], 1)], dim=-1)  # never reached: 0
    wanted = torch.arange(101, dtype=torch.float64) / 100
    wanted = wanted.expand(*recall.shape[:-1], -1).contiguous()
    return padded.gather(-1, torch.searchsorted(recall.contiguous(), wanted))


@torch.no_grad()
def match(
    found: Detections,
    objects: Objects,
    classes: int,
    *,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
    areas: Sequence[tuple[float, float]] = (ALL_AREAS,),
    max_detections: int = 100,
) -> Matches:
    """Give each detection, best first, the object of its class that it overlaps most.

    An object is found once: what finds it again is wrong. Arguments as `average_precision`.
    """
    found, objects = _check(found, classes, "found"), _check(objects, classes, "objects")
    order = found.images.argsort(stable=True)  # of equal scores, the first image comes first
    order = order[found.scores[order].argsort(descending=True, stable=True)]
    keys = found.images * classes + found.labels  # one number for an image and a class
    order = order[_ranks(keys[order]) < max_detections]
    found, keys = Detections(*(tensor[order] for tensor in found)), keys[order]

    ranges = torch.tensor(areas, dtype=torch.float64).view(-1, 2, 1)
    wanted = _within(objects.boxes, ranges)  # (R, M)
    matched, on_wanted = _pair_off(found, keys, objects, classes, wanted, thresholds)
    counted = torch.where(matched, on_wanted, _within(found.boxes, ranges).unsqueeze(1))
    totals = torch.stack([objects.labels[row].bincount(minlength=classes) for row in wanted])
    return Matches(order, matched & counted, counted, totals)


def _pair_off(
    found: Detections,
    keys: Tensor,
    objects: Objects,
    classes: int,
    wanted: Tensor,
    thresholds: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Whether each detection got an object, and whether that one is wanted: bool (R, T, N) twice.

    All images and classes go in step: first the best detection of each, then the second best.
    """
    limits = torch.tensor(thresholds, dtype=torch.float64).clamp(max=1 - 1e-10).view(-1, 1, 1)
    shape = (len(wanted), len(limits), len(keys))
    matched, on_wanted = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    groups, group = (objects.images * classes + objects.labels).unique(return_inverse=True)
    if not len(groups) or not len(keys):
        return matched, on_wanted
    # The objects of a group in one row, the last one first: it wins among equal overlaps.
    place = _ranks(group.flip(0)).flip(0)  # (M,)
    table = objects.boxes.new_zeros(len(groups), int(place.max()) + 1, 4)  # (P, G, 4)
    table[group, place] = objects.boxes
    bonus = torch.full((len(wanted), *table.shape[:2]), -torch.inf, dtype=torch.float64)
    bonus[:, group, place] = 2 * wanted.double()  # (R, P, G): wanted ones before all others
    free = torch.ones(*shape[:2], *table.shape[:2], dtype=torch.bool)  # (R, T, P, G)

    row = torch.searchsorted(groups, keys).clamp(max=len(groups) - 1)  # (N,)
    with_objects = (groups[row] == keys).nonzero().flatten()
    ranks = _ranks(keys[with_objects])
    for now in with_objects[ranks.argsort(stable=True)].split(ranks.bincount().tolist()):
        rows = row[now]  # (A,), each group once
        overlap = box_ops.iou(found.boxes[now].unsqueeze(1), table[rows])  # (A, G)
        allowed = free[:, :, rows] & (overlap >= limits)  # (R, T, A, G)
        value = (overlap + bonus[:, rows]).unsqueeze(1).expand_as(allowed)
        best, which = value.masked_fill(~allowed, -torch.inf).max(-1)  # (R, T, A)
        matched[:, :, now], on_wanted[:, :, now] = best >= 0, best >= 2
        taken = (best >= 0).unsqueeze(-1) & torch.zeros_like(allowed).scatter(
            -1, which.unsqueeze(-1), True
        )
        free[:, :, rows] &= ~taken
    return matched, on_wanted


def _ranks(keys: Tensor) -> Tensor:
    """The place of each item among those with the same key, from 0, in the order given: (N,)."""
    order = keys.argsort(stable=True)
    ordered = keys[order]
    ranks = torch.empty_like(keys)
    ranks[order] = torch.arange(len(keys)) - torch.searchsorted(ordered, ordered)
    return ranks


def _within(boxes: Tensor, ranges: Tensor) -> Tensor:
    """Which of N boxes have an area in each of R ranges (R, 2, 1): bool (R, N)."""
    areas = box_ops.area(boxes)
    return (areas >= ranges[:, 0]) & (areas <= ranges[:, 1])


def _check(items: Detections | Objects, classes: int, name: str) -> Detections | Objects:
    """The same on the CPU, in float64."""
    count = len(items.boxes)
    for field, tensor in items._asdict().items():
        shape = (count, 4) if field == "boxes" else (count,)
        if tensor.shape != shape:
            raise ValueError(f"{name}.{field} has shape {tuple(tensor.shape)}; allowed is {shape}")
    bad = (items.labels < 0) | (items.labels >= classes)
    if bad.any():
        allowed = f"allowed are 0 .. {classes - 1}"
        raise ValueError(f"{name}.labels holds {items.labels[bad][0].item()}; {allowed}")
    if (items.images < 0).any():
        raise ValueError(f"{name}.images holds {items.images.min().item()}; allowed is from 0")
    items = items._replace(**{n: t.cpu() for n, t in items._asdict().items()})
    if isinstance(items, Detections) and items.scores.isnan().any():
        raise ValueError(f"{name}.scores holds NaN; allowed are numbers")
    box_ops.check_boxes(items.boxes, f"{name}.boxes")
    return items._replace(boxes=items.boxes.double())
