"""Geometric transforms of whole batches of images, as tensor operations on any device."""

import math

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
