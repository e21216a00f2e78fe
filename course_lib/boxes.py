"""Boxes: conversions, overlap, and the suppression of duplicates.

A box is (x1, y1, x2, y2) in pixels, x to the right and y down: the left, upper, right and lower
edge. Boxes are float tensors (..., 4). Bad arguments raise `ValueError`, with the argument, its
value and what is allowed. What may run inside a training step never looks at values, since a GPU
would have to wait: there a box with x2 < x1 is empty, with an area of 0. `check_boxes` looks.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 64  # boxes that `nms` decides on at a time: a block against all others fits into the cache
TINY = 1e-7  # keeps divisions by a height or a difference of zero finite


def to_centres(boxes: Tensor) -> Tensor:
    """Corners (..., 4) -> centres and sizes (..., 4): x, y, width, height."""
    low, high = _pairs(boxes)
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def to_corners(boxes: Tensor) -> Tensor:
    """Centres and sizes (..., 4) -> corners (..., 4): the inverse of `to_centres`."""
    centre, size = _pairs(boxes)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Cut off what lies outside of an image; a box wholly outside loses its area. (..., 4)."""
    low, high = _pairs(boxes)
    limit = boxes.new_tensor([width, height])
    corners = (torch.minimum(edge.clamp(min=0), limit) for edge in (low, high))
    return torch.cat(list(corners), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> square pixels (...)."""
    return _area(_edges("boxes", boxes))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes that belong together: (..., 4) and (..., 4) -> (...).

    From 0 (apart) to 1 (equal); 0 where neither has an area. Leading axes are broadcast.

    Source: Jaccard 1912.
    """
    intersection, union = _overlap(_edges("a", a), _edges("b", b))
    return _ratio(intersection, union)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU: `iou` less the share of their common hull that neither covers.

    Falls to -1 as the boxes move apart, so that its gradient says where to. Shapes as `iou`.

    Source: Rezatofighi et al. 2019, "Generalized intersection over union", algorithm 1.
    """
    a, b = _edges("a", a), _edges("b", b)
    intersection, union = _overlap(a, b)
    hull = _area(_hull(a, b))
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU: `iou` less the centres' distance and the difference in shape.

    The distance is squared and in parts of the hull's diagonal. Shapes as `iou`.

    Source: Zheng et al. 2020, "Distance-IoU loss", equations 9 to 11.
    """
    a, b = _edges("a", a), _edges("b", b)
    overlap = _ratio(*_overlap(a, b))
    x1, y1, x2, y2 = _hull(a, b)
    apart = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]  # the centres, in x and y
    diagonal = (x2 - x1).square() + (y2 - y1).square()
    distance = _ratio(apart[0].square() + apart[1].square(), diagonal)
    shape = (_slant(a) - _slant(b)).square() * (4 / math.pi**2)
    with torch.no_grad():  # to the gradient, the weight of the shape is a constant
        weight = shape / (1 - overlap + shape + TINY)
    return overlap - distance - weight * shape


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """`iou` of each with each: (N, 4) and (M, 4) -> (N, M)."""
    return iou(a.unsqueeze(-2), b)  # (N, 1, 4) and (M, 4) -> (N, M)


def giou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """`giou` of each with each: (N, 4) and (M, 4) -> (N, M)."""
    return giou(a.unsqueeze(-2), b)


def nms_by_hand(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression, box by box: slow and clear. As `nms`, without `groups`."""
    check_boxes(boxes)
    limit = _check_suppression(boxes, scores, threshold, None)
    waiting = scores.argsort(descending=True, stable=True)  # the best first, of equal ones too
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        waiting = waiting[iou(boxes[best], boxes[waiting]) <= limit]
    return torch.stack(kept) if kept else waiting


@torch.no_grad()
def nms(boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None = None) -> Tensor:
    """Non-maximum suppression: of boxes that overlap, keep the one with the highest score.

    From the best box down, each drops those after it whose IoU with it exceeds `threshold`.

    Args:
        boxes: (N, 4); scores: (N,).
        threshold: from 0 to 1.
        groups: int64 (N,), e.g. class numbers: boxes of different groups never suppress one
            another. For several images at once: image number x classes + class number.

    Returns:
        int64 (K,), which boxes are kept, by falling score; of equal scores the first comes first.
    """
    check_boxes(boxes)
    limit = _check_suppression(boxes, scores, threshold, groups)
    if groups is not None and len(boxes) > 4 * BLOCK * len(names := groups.unique()):
        # Large groups are less work one by one; many small ones are, all together.
        parts = [(groups == name).nonzero().flatten() for name in names]
        parts = [part[nms(boxes[part], scores[part], threshold)] for part in parts]
        found = torch.cat(parts).sort().values
        return found[scores[found].argsort(descending=True, stable=True)]
    order = scores.argsort(descending=True, stable=True)
    edges = _edges("boxes", boxes)[:, order]  # (4, N)
    groups = None if groups is None else groups[order]
    kept = []
    while len(order):
        hit = _hits(edges, edges[:, :BLOCK], groups, limit)  # (BLOCK, N): row suppresses column
        keep = _survivors(hit[:, :BLOCK])
        kept.append(order[:BLOCK][keep])
        left = (~hit[keep, BLOCK:].any(0)).nonzero().flatten() + BLOCK
        edges, order = edges[:, left], order[left]
        groups = None if groups is None else groups[left]
    return torch.cat(kept) if kept else order


def check_boxes(boxes: Tensor, name: str = "boxes") -> None:
    """Raise `ValueError` unless these are finite boxes (..., 4) with x1 <= x2 and y1 <= y2."""
    low, high = _pairs(boxes, name)
    bad = ~(boxes.isfinite().all(-1) & (low <= high).all(-1))  # (...)
    if bad.any():
        first = boxes[bad][0].tolist()
        raise ValueError(
            f"{name} has {int(bad.sum())} bad ones, the first is {first}; "
            "allowed are finite numbers with x1 <= x2 and y1 <= y2"
        )


def _hits(edges: Tensor, block: Tensor, groups: Tensor | None, limit: float) -> Tensor:
    """Which of the block's boxes (4, K) would suppress which box (4, N), bool (K, N)."""
    intersection, union = _overlap(block.unsqueeze(2), edges.unsqueeze(1))
    hit = intersection.div_(union) > limit  # 0 / 0 is NaN, which exceeds nothing
    if groups is not None:
        hit &= groups[: block.shape[1], None] == groups
    return hit


def _survivors(hit: Tensor) -> Tensor:
    """Which boxes of a block remain, bool (K,): those that no earlier remaining one suppresses.

    Once the first k are decided, so is number k + 1; mostly all are after a few rounds.
    """
    hit = hit.triu(1)  # only earlier ones, that is better ones, suppress
    keep = torch.ones_like(hit[0])
    while True:
        before, keep = keep, ~hit[keep].any(0)
        if torch.equal(before, keep):
            return keep


def _edges(name: str, boxes: Tensor) -> Tensor:
    """(..., 4) -> (4, ...), each edge in one piece of memory, in float32 at least."""
    _check_shape(name, boxes)
    edges = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    return edges.movedim(-1, 0).contiguous()


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of intersection and union: (4, ...) and (4, ...) -> (...) and (...)."""
    width = torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])
    height = torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])
    intersection = width.clamp(min=0) * height.clamp(min=0)
    return intersection, _area(a) + _area(b) - intersection


def _hull(a: Tensor, b: Tensor) -> list[Tensor]:
    """The four edges of the smallest box around both, (...) each."""
    low = [torch.minimum(a[i], b[i]) for i in (0, 1)]
    return low + [torch.maximum(a[i], b[i]) for i in (2, 3)]


def _area(edges: Sequence[Tensor]) -> Tensor:
    x1, y1, x2, y2 = edges  # (...) each
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def _slant(edges: Sequence[Tensor]) -> Tensor:
    """The angle between a box's diagonal and the upright."""
    x1, y1, x2, y2 = edges
    return torch.atan((x2 - x1) / (y2 - y1).clamp(min=TINY))


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 / 0 = 0, without NaN in the gradient."""
    return part / whole.masked_fill(whole == 0, 1)


def _pairs(boxes: Tensor, name: str = "boxes") -> tuple[Tensor, Tensor]:
    """(..., 4) -> its first and last two numbers, (..., 2) each."""
    _check_shape(name, boxes)
    return boxes[..., :2], boxes[..., 2:]


def _check_suppression(
    boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None
) -> float:
    """The threshold, rounded down to what the boxes' dtype can express."""
    count = len(boxes)
    if boxes.ndim != 2:
        raise ValueError(f"boxes has shape {tuple(boxes.shape)}; allowed is (N, 4)")
    for name, tensor in (("scores", scores), ("groups", groups)):
        if tensor is not None and tensor.shape != (count,):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed is ({count},)")
    if scores.isnan().any():
        raise ValueError(f"scores has {int(scores.isnan().sum())} NaN; allowed are numbers")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold!r}; allowed are numbers from 0 to 1")
    # A comparison would round it to the nearest, and up: an IoU of 0.3 would not exceed 0.3.
    limit = torch.tensor(threshold, dtype=torch.promote_types(boxes.dtype, torch.float32))
    above = limit.item() > threshold
    return (limit.nextafter(-torch.ones_like(limit)) if above else limit).item()


def _check_shape(name: str, boxes: Tensor) -> None:
    if not boxes.is_floating_point() or boxes.ndim < 1 or boxes.shape[-1] != 4:
        kind = f"{boxes.dtype} {tuple(boxes.shape)}"
        raise ValueError(f"{name} is {kind}; allowed are floats (..., 4)")
