"""Regions of interest: what a feature map holds inside a box, brought to one size.

    features = body(image)                                          # (B, C, H, W), stride 16
    parts = roi_align(features, boxes, images, 7, spatial_scale=1 / 16)   # (N, C, 7, 7)

Any box, large or small, becomes a grid of as many bins, so that one head can look at all of them.
Boxes are (N, 4), xyxy in pixels of the image; `images` (N,) says which image each is of. Gradients
go to the features; the boxes get none. Bad arguments raise `ValueError`, with the argument, its
value and what is allowed.

A bin is a stretch of rows times a stretch of columns, so both ways find out about rows and columns
apart, and then join them: bilinear interpolation is linear along y, then along x.
"""

import torch
from torch import Tensor

BLOCK = 64  # boxes at a time: each gets a copy of its image's features


def roi_pool(
    features: Tensor,
    boxes: Tensor,
    images: Tensor,
    output_size: int | tuple[int, int],
    *,
    spatial_scale: float = 1.0,
) -> Tensor:
    """The largest value in each bin of each box, in whole pixels of the features.

    The box is rounded to pixels, and each of its bins outwards, so that neighbouring bins may share
    a row or a column. A bin outside of the features gives 0.

    Args:
        features: (B, C, H, W).
        boxes: (N, 4); one without an area counts as one pixel of the features.
        images: int64 (N,), 0 .. B - 1.
        output_size: bins along y and x, (oH, oW) or one number for both.
        spatial_scale: pixels of the features per pixel of the image, 1 / stride.

    Returns:
        (N, C, oH, oW), what `torchvision.ops.roi_pool` gives.

    Source: Girshick 2015, "Fast R-CNN", section 2.1.
    """
    bins = _check(features, boxes, images, output_size, spatial_scale)
    edges = _round(_scaled(boxes, spatial_scale))  # (N, 4)
    top, bottom = _stretches(edges[:, 1::2], bins[0], features.shape[2])  # (N, oH) each
    left, right = _stretches(edges[:, 0::2], bins[1], features.shape[3])  # (N, oW) each
    # The largest value has the smallest rank. Of equal ones the first pixel gets the gradient.
    values, order = features.flatten(2).sort(dim=2, descending=True, stable=True)  # (B, C, H W)
    ranks = order.argsort(dim=2).view_as(features)
    smallest = _smallest(ranks, images, (top, bottom), (left, right))  # (N, oH, oW, C)
    rows = (images.view(-1, 1, 1, 1) * values.shape[2] + smallest).flatten(0, 2)  # (N oH oW, C)
    largest = values.movedim(1, 2).flatten(0, 1).gather(0, rows).view_as(smallest)
    empty = (top >= bottom).unsqueeze(2) | (left >= right).unsqueeze(1)  # (N, oH, oW)
    return largest.masked_fill(empty.unsqueeze(3), 0).movedim(3, 1)  # to (N, C, oH, oW)


def roi_align(
    features: Tensor,
    boxes: Tensor,
    images: Tensor,
    output_size: int | tuple[int, int],
    *,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Tensor:
    """The mean of some points in each bin of each box, read between the pixels; nothing is rounded.

    Args:
        features, boxes, images, output_size, spatial_scale: as in `roi_pool`.
        sampling_ratio: points a bin along each axis; 0 takes one for each pixel that it spans, so
            that a GPU has to wait for the largest box.
        aligned: pixel i covers i .. i + 1, with its centre at i + 0.5. Without it, as in the first
            programs, all is read half a pixel too far, and a box is at least one pixel large.

    Returns:
        (N, C, oH, oW), what `torchvision.ops.roi_align` gives (its `aligned` is False by default).
        Points up to a pixel outside read the border, those further out 0.

    Source: He et al. 2017, "Mask R-CNN", section 3.
    """
    bins = _check(features, boxes, images, output_size, spatial_scale)
    if sampling_ratio < 0:
        raise ValueError(f"sampling_ratio is {sampling_ratio}; allowed are whole numbers from 0")
    edges = _scaled(boxes, spatial_scale) - (0.5 if aligned else 0)
    sides = [edges[:, 1::2], edges[:, 0::2]]  # low and high along y, then along x: (N, 2) each
    least = -torch.inf if aligned else 1.0
    rows, columns = (
        _weights(side, count, length, sampling_ratio, least).to(features.dtype)
        for side, count, length in zip(sides, bins, features.shape[2:], strict=True)
    )  # (N, oH, H), (N, oW, W)
    # In channels-last order both steps are matrix products as they stand.
    flat = features.movedim(1, 3).flatten(2)  # (B, H, W C)
    parts = [
        _between(flat.index_select(0, which), below, beside)
        for which, below, beside in zip(
            *(t.split(BLOCK) for t in (images, rows, columns)), strict=True
        )
    ]
    return torch.cat(parts).movedim(3, 1)  # to (N, C, oH, oW)


def _between(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Weighted sums: (N, H, W C) and rows (N, oH, H), columns (N, oW, W) -> (N, oH, oW, C)."""
    lines = (rows @ maps).unflatten(2, (columns.shape[2], -1))  # (N, oH, W, C)
    return columns.unsqueeze(1) @ lines


def _stretches(side: Tensor, bins: int, length: int) -> tuple[Tensor, Tensor]:
    """The first pixel of each bin of a side (N, 2), and the one after its last: (N, bins) each.

    Both are between 0 and `length`. The side's second end itself belongs to the box.
    """
    low, high = side.unsqueeze(2).unbind(1)  # (N, 1) each
    size = (high - low + 1).clamp(min=1) / bins
    place = torch.arange(bins, device=side.device)
    ends = (place * size).floor() + low, ((place + 1) * size).ceil() + low
    first, beyond = (end.nan_to_num(0).clamp(0, length).long() for end in ends)
    return first, beyond


def _smallest(
    maps: Tensor, images: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
) -> Tensor:
    """The smallest number in each bin of each box: (B, C, H, W) -> (N, oH, oW, C).

    A stretch of 5 is two of 4 that overlap. So the smallest of all stretches of 1, 2, 4, ... pixels
    along each axis are found first, and four of these rectangles cover any bin.
    """
    count, channels, height, width = maps.shape
    tables = _doubled(_doubled(maps.movedim(1, 3), -3), -2)  # (levels, levels, B, H, W, C)
    levels, flat = tables.shape[1], tables.flatten(0, 4)
    (tall, *tops), (wide, *lefts) = (_two_stretches(*side) for side in (rows, columns))
    level = wide.unsqueeze(1) * levels + tall.unsqueeze(2)  # (N, oH, oW)
    start = (level * count + images.view(-1, 1, 1)) * height * width
    found = [
        flat.index_select(0, (start + top.unsqueeze(2) * width + left.unsqueeze(1)).flatten())
        for top in tops
        for left in lefts
    ]  # (N oH oW, C) each
    both = torch.minimum(found[0], found[1]), torch.minimum(found[2], found[3])
    return torch.minimum(*both).view(*level.shape, channels)


def _doubled(maps: Tensor, dim: int) -> Tensor:
    """Level k holds the smallest of each 2**k neighbours along `dim`: (...) -> (levels, ...).

    What begins too late for that many is wrong there, and never read.
    """
    found = [maps]
    for level in range(maps.shape[dim].bit_length() - 1):
        found.append(torch.minimum(found[-1], found[-1].roll(-(2**level), dim)))
    return torch.stack(found)


def _two_stretches(first: Tensor, beyond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The level and both starts of two stretches that cover first .. beyond - 1, if any."""
    first = torch.where(first < beyond, first, 0)
    length = (beyond - first).clamp(min=1)
    level = torch.frexp(length.float()).exponent.long() - 1
    return level, first, (beyond - (1 << level)).clamp(min=0)


def _weights(side: Tensor, bins: int, length: int, samples: int, least: float) -> Tensor:
    """How much each of `length` pixels counts in each bin of a side (N, 2): (N, bins, length).

    Args:
        samples: points a bin, or 0 for one a pixel.
        least: a shorter side is made so long.
    """
    low, high = side.unsqueeze(-1).unbind(1)  # (N, 1) each
    size = (high - low).clamp(min=least) / bins
    counts = torch.full_like(size, samples) if samples else size.ceil().clamp(min=0)
    most = samples or int(counts.max() if len(counts) else 0)
    bin_, point = (torch.arange(n, device=side.device) for n in (bins, most))
    start = (low + bin_ * size).unsqueeze(2)  # (N, bins, 1)
    size, counts = size.unsqueeze(2), counts.unsqueeze(2)
    at = start + (point + 0.5) * size / counts.clamp(min=1)  # (N, bins, points)
    read = (at >= -1) & (at <= length) & (point < counts)
    pixel = torch.arange(length, device=side.device)
    near = 1 - (at.clamp(0, length - 1).unsqueeze(3) - pixel).abs()  # 1 on a pixel, 0 on the next
    near = near.clamp(min=0).masked_fill(~read.unsqueeze(3), 0)
    return near.sum(2) / counts.clamp(min=1)  # over the points


def _scaled(boxes: Tensor, scale: float) -> Tensor:
    return boxes.detach().to(torch.promote_types(boxes.dtype, torch.float32)) * scale


def _round(numbers: Tensor) -> Tensor:
    """To the nearest, and a half away from 0, as C does; `torch.round` takes the even one."""
    whole = numbers.trunc()
    return whole + numbers.sign() * ((numbers - whole).abs() >= 0.5)


def _check(
    features: Tensor,
    boxes: Tensor,
    images: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
) -> tuple[int, int]:
    """The bins along y and x."""
    if not features.is_floating_point() or features.ndim != 4 or 0 in features.shape[2:]:
        kind = f"{features.dtype} {tuple(features.shape)}"
        raise ValueError(f"features is {kind}; allowed are floats (B, C, H, W)")
    if not boxes.is_floating_point() or boxes.ndim != 2 or boxes.shape[1] != 4:
        kind = f"{boxes.dtype} {tuple(boxes.shape)}"
        raise ValueError(f"boxes is {kind}; allowed are floats (N, 4)")
    if images.dtype != torch.int64 or images.shape != boxes.shape[:1]:
        kind = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"images is {kind}; allowed is int64 ({len(boxes)},)")
    # A GPU would have to wait for this look at values; it has an assertion of its own instead.
    if images.device.type == "cpu" and not torch.compiler.is_compiling():
        bad = images[(images < 0) | (images >= len(features))]
        if len(bad):
            raise ValueError(f"images holds {bad[0]}; allowed are 0 .. {len(features) - 1}")
    bins = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(bins) != 2 or min(bins) < 1:
        raise ValueError(f"output_size is {output_size!r}; allowed are one or two numbers from 1")
    if not 0 < spatial_scale < float("inf"):
        raise ValueError(f"spatial_scale is {spatial_scale!r}; allowed are numbers above 0")
    return bins
