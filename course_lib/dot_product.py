"""Scaled dot-product attention, by hand and fused, and its masks.

Masks are bool, True = may attend, and broadcast to the weights' shape (..., T, S): T queries look
at S keys. A query that may attend to nothing gets zeros, and gives zero gradients. Another dtype or
shape raises `ValueError`, with what was given and what is allowed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Up to these lengths, matmul and softmax are the faster form on a CPU, there and back together
# (benchmarks/bench_attention.py): in bfloat16 the backward pass of torch's fused kernel takes
# several times as long. On a GPU the fused form always wins: it never stores the scores.
MATMUL_UP_TO = {torch.bfloat16: 256}
MATMUL_UP_TO_ELSE = 64  # in other dtypes


def attention_by_hand(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention: softmax(query key^T / sqrt(d)) value.

    (..., T, d), (..., S, d), (..., S, e) -> output (..., T, e), weights (..., T, S). Each row of
    weights sums to 1, or is 0 where `mask` leaves nothing to attend to.

    Source: Vaswani et al. 2017, "Attention is all you need", equation 1.
    """
    weights = attention_weights(query, key, mask)
    return weights @ value, weights


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """The weights of `attention_by_hand`: (..., T, d), (..., S, d) -> (..., T, S)."""
    weights = _softmax_of_scores(query, key, mask)
    return weights if mask is None else weights.masked_fill(_rows_with_nothing(mask), 0.0)


def attention_fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """The output of `attention_by_hand` in one call, which on GPUs never holds all the weights."""
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    check_mask(mask, (*query.shape[:-1], key.shape[-2]))
    # What a kernel makes of a row with nothing to attend to differs from device to device: such
    # rows may look everywhere, and what they saw is dropped.
    nothing = _rows_with_nothing(mask)
    seen = torch.atleast_2d(mask | nothing)  # not expanded: torch makes numbers of each entry
    output = F.scaled_dot_product_attention(query, key, value, seen, dropout)
    return output.masked_fill(nothing, 0.0)  # (..., T, e), (..., T, 1) -> (..., T, e)


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """The output of `attention_by_hand`, by whichever form is faster where the tensors are.

    Args:
        dropout: share of the weights that are dropped.
    """
    longest = MATMUL_UP_TO.get(query.dtype, MATMUL_UP_TO_ELSE)
    if query.device.type != "cpu" or key.shape[-2] > longest:
        return attention_fused(query, key, value, mask, dropout)
    weights = _softmax_of_scores(query, key, mask)
    if dropout:
        weights = F.dropout(weights, dropout)
    output = weights @ value  # (..., T, S) @ (..., S, e) -> (..., T, e)
    return output if mask is None else output.masked_fill(_rows_with_nothing(mask), 0.0)


def causal_mask(length: int, device: torch.device | str | None = None) -> Tensor:
    """A (T, T) mask with which each position sees itself and what came before: lower triangle."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def padding_mask(real: Tensor) -> Tensor:
    """Which tokens are real, (B, S) bool, as a mask for all heads and queries: (B, 1, 1, S)."""
    if real.dtype is not torch.bool or real.ndim != 2:
        given = f"{real.dtype} of shape {tuple(real.shape)}"
        raise ValueError(f"real is {given}; allowed is torch.bool of shape (B, S)")
    return real[:, None, None, :]


def _softmax_of_scores(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """The weights (..., T, S), but uniform in rows with nothing to attend to."""
    # Scaled before the product, whose sums could otherwise overflow in float16.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # -> (..., T, S)
    if mask is None:
        return scores.softmax(-1)
    check_mask(mask, scores.shape)
    # Adding costs no work backward, as filling would. -inf would make NaN of a row of nothing
    # else; of half the least number enough is left to add a score in float16.
    least = torch.finfo(scores.dtype).min / 2
    hidden = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, least)
    return (scores + hidden).softmax(-1)


def _rows_with_nothing(mask: Tensor) -> Tensor:
    """Which queries may attend to nothing: (..., T, S) -> (..., T, 1)."""
    return ~mask.any(-1, keepdim=True)


def check_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless `mask` is bool and broadcasts to the weights' `shape`."""
    fits = mask.ndim <= len(shape) and all(
        own in (1, wanted) for own, wanted in zip(mask.shape[::-1], shape[::-1], strict=False)
    )
    if mask.dtype is not torch.bool or not fits:
        given = f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise ValueError(f"mask is {given}; allowed is torch.bool, broadcast to {tuple(shape)}")
