"""Random changes to whole batches of images, as tensor operations on any device.

Images are (N, C, H, W). Each image gets its own draw from a generator on the CPU, so that equal
seeds change a batch alike on every device. Bad arguments raise `ValueError`, with the argument, its
value and what is allowed.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def affine(
    images: Tensor,
    *,
    degrees: Tensor | float = 0.0,
    shift: Tensor | tuple[float, float] = (0.0, 0.0),
    scale: Tensor | float = 1.0,
    shear: Tensor | float = 0.0,
) -> Tensor:
    """Turn, shear, enlarge and shift images about their centres; what enters is 0 (black).

    Args:
        images: float (N, C, H, W).
        degrees: counter-clockwise turn, one number or (N,).
        shift: to the right and down in pixels, a pair or (N, 2).
        scale: above 1 enlarges, one number or (N,).
        shear: degrees by which upright lines lean to the right, one number or (N,).

    Returns:
        (N, C, H, W), bilinearly interpolated.
    """
    count, _, height, width = images.shape
    degrees, scale, shear = (
        torch.as_tensor(value, dtype=images.dtype, device=images.device).expand(count)
        for value in (degrees, scale, shear)
    )
    shift = torch.as_tensor(shift, dtype=images.dtype, device=images.device).expand(count, 2)
    turn, lean = degrees * (math.pi / 180), shear * (math.pi / 180)
    cos, sin, tan = turn.cos(), turn.sin(), lean.tan()

    # grid_sample asks where each output pixel comes from: the inverse of what is done to the image.
    inverse = torch.stack([cos, -sin, sin, cos], dim=1).view(count, 2, 2)  # y points down
    upright = torch.eye(2, dtype=images.dtype, device=images.device).repeat(count, 1, 1)
    upright[:, 0, 1] = tan
    linear = upright @ inverse / scale.view(count, 1, 1)  # (N, 2, 2)
    half = images.new_tensor([width / 2, height / 2])
    linear = linear * half.view(1, 1, 2) / half.view(1, 2, 1)  # pixels -> -1 .. 1
    offset = -(linear @ (shift / half).unsqueeze(2))  # (N, 2, 1)
    theta = torch.cat([linear, offset], dim=2)  # (N, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (N, H, W, 2)
    return F.grid_sample(images, grid, align_corners=False)


def random_affine(
    images: Tensor,
    generator: torch.Generator,
    *,
    degrees: float = 0.0,
    shift: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
) -> Tensor:
    """`affine` with values drawn for each image: uniform in +- `degrees`, `shift` pixels, `shear`
    degrees, and in 1 +- `scale`.

    Args:
        images: float (N, C, H, W).
        generator: on the CPU.
    """
    numbers = 2 * torch.rand(5, len(images), generator=generator).to(images.device) - 1  # (5, N)
    return affine(
        images,
        degrees=numbers[0] * degrees,
        shift=numbers[1:3].T * shift,
        scale=1 + numbers[3] * scale,
        shear=numbers[4] * shear,
    )


def random_flip(images: Tensor, generator: torch.Generator, p: float = 0.5) -> Tensor:
    """Swap left and right in a share `p` of the images (N, C, H, W), of any dtype."""
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p!r}; allowed are shares from 0 to 1")
    chosen = torch.rand(len(images), generator=generator) < p  # (N,)
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


def random_crop(images: Tensor, generator: torch.Generator, padding: int) -> Tensor:
    """Frame the images by `padding` zeros, and cut a window of their own size out of each.

    (N, C, H, W) -> (N, C, H, W), of any dtype: a shift by up to `padding` pixels each way.

    Source: He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", 4.2.
    """
    _check_whole("padding", padding)
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)  # (N, C, H + 2p, W + 2p)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, C, 2p+1, 2p+1, H, W)
    places = torch.randint(2 * padding + 1, (2, count), generator=generator).to(images.device)
    return windows[torch.arange(count, device=images.device), :, places[0], places[1]]


def cut_out(images: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Blacken a square of `size` pixels a side, its middle anywhere in the image.

    (N, C, H, W) -> (N, C, H, W), of any dtype. At the border a part of the square falls outside.

    Source: DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with
    cutout".
    """
    _check_whole("size", size)
    covered = [
        _near(torch.randint(length, (len(images), 1), generator=generator), length, size)
        for length in images.shape[2:]
    ]  # which rows (N, H), which columns (N, W)
    rows, columns = (part.to(images.device) for part in covered)
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def mix_up(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, classes: int, alpha: float
) -> tuple[Tensor, Tensor]:
    """Blend each image, and its label alike, with another one of the batch.

    Args:
        images: float (N, C, H, W).
        labels: int64 (N,), below `classes`.
        alpha: an image's share is drawn from Beta(alpha, alpha): uniform at 1, and the smaller
            alpha, the nearer to 0 or 1.

    Returns:
        Images like those that came, and float labels (N, classes): how much of each class is in
        the image, which `F.cross_entropy` takes as targets.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz 2018, "mixup: beyond empirical risk minimization".
    """
    if not images.is_floating_point():
        raise ValueError(f"images is {images.dtype}; allowed are floats, which can be blended")
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha is {alpha!r}; allowed are finite numbers above 0")
    # torch's own Beta takes no generator; numpy's draws from a seed that ours has drawn.
    seed = torch.randint(2**62, (), generator=generator).item()
    shares = np.random.default_rng(seed).beta(alpha, alpha, size=len(images))
    share = torch.as_tensor(shares, dtype=images.dtype).to(images.device)  # (N,)
    other = torch.randperm(len(images), generator=generator).to(images.device)
    targets = F.one_hot(labels, classes).to(images.dtype)  # (N,) -> (N, classes)
    targets = torch.lerp(targets[other], targets, share.view(-1, 1))
    return torch.lerp(images[other], images, share.view(-1, 1, 1, 1)), targets


def _near(middle: Tensor, length: int, size: int) -> Tensor:
    """Of 0 .. length - 1, the `size` places about each middle (N, 1): bool (N, length)."""
    place = torch.arange(length) - middle + size // 2  # 0 where the square begins
    return (place >= 0) & (place < size)


def _check_whole(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {value!r}; allowed are whole numbers from 0")
