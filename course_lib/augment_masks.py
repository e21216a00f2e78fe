"""Random changes to images together with their masks, so that each pixel keeps its label.

Images are (N, C, H, W); masks (N, H, W) hold class numbers, instance numbers or bools. As in
`augment`, each image gets its own draw from a generator on the CPU, so that equal seeds change a
batch alike on every device. Bad arguments raise `ValueError`, with the argument, its value and
what is allowed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_flip(
    images: Tensor, masks: Tensor, generator: torch.Generator, p: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Swap left and right in a share `p` of the images, of any dtype, and in their masks."""
    _check_masks(images, masks)
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p!r}; allowed are shares from 0 to 1")
    chosen = (torch.rand(len(images), generator=generator) < p).to(images.device)  # (N,)
    flipped = torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)
    return flipped, torch.where(chosen.view(-1, 1, 1), masks.flip(2), masks)


def random_crop(
    images: Tensor, masks: Tensor, generator: torch.Generator, size: int
) -> tuple[Tensor, Tensor]:
    """Cut a square window of `size` pixels out of each image, and the same one out of its mask.

    (N, C, H, W) and (N, H, W) -> (N, C, size, size) and (N, size, size), of any dtype.
    """
    _check_masks(images, masks)
    height, width = images.shape[2:]
    if not 1 <= size <= min(height, width):
        raise ValueError(f"size is {size}; allowed are 1 .. {min(height, width)} pixels")
    tops, lefts = (
        torch.randint(length - size + 1, (len(images),), generator=generator).to(images.device)
        for length in (height, width)
    )
    items = torch.arange(len(images), device=images.device)
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # a view: (N, C, .., .., size, size)
    labels = masks.unfold(1, size, 1).unfold(2, size, 1)  # a view: (N, .., .., size, size)
    return windows[items, :, tops, lefts], labels[items, tops, lefts]


def random_elastic(
    images: Tensor, masks: Tensor, generator: torch.Generator, strength: float, cells: int = 3
) -> tuple[Tensor, Tensor]:
    """Bend images and masks as if they were printed on rubber.

    The corners of a coarse grid are drawn about at random, and the pixels between follow smoothly
    (bicubic interpolation). Images are sampled bilinearly; masks take the nearest pixel, since
    there is no class between two classes. What comes from outside is mirrored, in both alike.

    Args:
        images: float (N, C, H, W).
        strength: standard deviation of the shifts at the grid's corners, in pixels.
        cells: of the grid, along each side.

    Source: Simard, Steinkraus and Platt 2003; the coarse grid is that of Ronneberger, Fischer and
    Brox 2015, "U-Net", section 3.1.
    """
    _check_masks(images, masks)
    if not images.is_floating_point():
        raise ValueError(f"images is {images.dtype}; allowed are floats, which can be blended")
    if not strength >= 0:
        raise ValueError(f"strength is {strength!r}; allowed are pixels from 0")
    if cells < 1:
        raise ValueError(f"cells is {cells}; allowed are whole numbers from 1")
    count, _, height, width = images.shape
    corners = torch.randn(count, 2, cells + 1, cells + 1, generator=generator).to(images.device)
    shifts = F.interpolate(strength * corners, (height, width), mode="bicubic", align_corners=True)
    y, x = (  # where each pixel comes from, in pixels
        torch.arange(length, device=images.device, dtype=shifts.dtype) for length in (height, width)
    )
    rows, columns = y.view(-1, 1) + shifts[:, 0], x + shifts[:, 1]  # (N, H, W)
    # grid_sample counts from -1 at the left edge of the first pixel to 1 at the right of the last.
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=3)
    options = {"padding_mode": "reflection", "align_corners": False}
    bent = F.grid_sample(images, grid.to(images.dtype), **options)
    # float32 holds whole numbers up to 2^24 exactly, and grid_sample takes floats only
    labels = F.grid_sample(masks.unsqueeze(1).float(), grid, mode="nearest", **options)
    return bent, labels.squeeze(1).to(masks.dtype)


def _check_masks(images: Tensor, masks: Tensor) -> None:
    wanted = (len(images), *images.shape[2:])
    if images.ndim != 4 or masks.shape != wanted:
        shapes = f"{tuple(masks.shape)}; allowed is {wanted}"
        raise ValueError(f"masks has shape {shapes}, that of images without channels")
