"""How a Transformer learns where a token stands: codes added to it, or queries and keys turned.

Bad arguments raise `ValueError`, with the argument, its value and what is allowed.
"""

import torch
from torch import Tensor, nn


def sinusoidal_positions(
    length: int,
    width: int,
    *,
    start: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Codes (length, width) of the positions from `start`: sin and cos of slower and slower angles.

    Column 2i holds sin(position / 10000^(2i / width)), column 2i + 1 the cosine of the same angle.

    Source: Vaswani et al. 2017, section 3.5.
    """
    check_even("width", width)
    positions = torch.arange(start, start + length, device=device)
    angles = _angles(positions, width, dtype)  # -> (length, width / 2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Turn the vectors x (..., T, d) by angles that grow with their `positions` (T,).

    Dimensions i and i + d/2 are a point of a plane, turned by position / 10000^(2i / d). The
    product of a rotated query and a rotated key depends on the distance of their positions only.

    Source: Su et al. 2021, "RoFormer", equation 34 (which pairs neighbouring dimensions).
    """
    check_even("the last axis of x", x.shape[-1])
    angles = _angles(positions, x.shape[-1], torch.promote_types(x.dtype, torch.float32))
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)  # (T, d/2)
    first, second = x.chunk(2, dim=-1)  # (..., T, d) -> twice (..., T, d/2)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class SinusoidalPositions(nn.Module):
    """Adds `sinusoidal_positions` to x (B, T, width), up to position `max_length`."""

    def __init__(self, max_length: int, width: int):
        super().__init__()
        check_even("width", width)
        self.max_length = check_whole("max_length", max_length)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """`offset`: the position of the first of x."""
        length, width = x.shape[-2:]
        _check_length(offset + length, self.max_length)
        codes = sinusoidal_positions(length, width, start=offset, device=x.device)  # (T, width)
        return x + codes.to(x.dtype)


class LearnedPositions(nn.Embedding):
    """Adds a learned vector for each position to x (B, T, width); there are `max_length` of them.

    Source: Gehring et al. 2017; so do BERT and GPT.
    """

    def __init__(self, max_length: int, width: int):
        super().__init__(check_whole("max_length", max_length), check_whole("width", width))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """`offset`: the position of the first of x."""
        end = offset + x.shape[-2]
        _check_length(end, len(self.weight))
        return x + self.weight[offset:end]  # (B, T, width) + (T, width)


def _angles(positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """position / 10000^(2i / width) for i = 0 .. width / 2 - 1: (T,) -> (T, width / 2)."""
    twice = torch.arange(0, width, 2, device=positions.device, dtype=dtype)
    return positions.to(dtype)[:, None] * 10000.0 ** (-twice / width)


def _check_length(length: int, most: int) -> None:
    if length > most:
        raise ValueError(f"length is {length}; allowed are up to {most} (max_length) positions")


def check_even(name: str, value: int) -> None:
    if value % 2 or value < 1:
        raise ValueError(f"{name} is {value!r}; allowed are even numbers from 2")


def check_whole(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; allowed are whole numbers from 1")
    return value
