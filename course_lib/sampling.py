"""From logits to the next symbol: temperature, top-k, top-p, and one draw.

Logits are (..., V), of any number of rows. Bad arguments raise `ValueError`, with the argument, its
value and what is allowed.
"""

import math

import torch
from torch import Tensor


def greedy(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The likeliest symbol of each row: (..., V) -> (...). The generator is not asked."""
    return logits.argmax(-1)


def sample(
    logits: Tensor,
    generator: torch.Generator | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Tensor:
    """Draw a symbol for each row from `probabilities`: (..., V) -> (...).

    Args:
        generator: on the device of the logits; by default torch's own.
    """
    chances = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    rows = chances.reshape(-1, chances.shape[-1])  # (..., V) -> (rows, V)
    drawn = torch.multinomial(rows, 1, generator=generator)  # -> (rows, 1)
    return drawn.view(logits.shape[:-1])


def probabilities(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0
) -> Tensor:
    """The distribution that `sample` draws from: (..., V) -> (..., V) float32 or wider.

    The logits are divided by the temperature, all but the `top_k` highest are struck out, and of
    what is left all but the likeliest that make up `top_p`, in this order.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = scale_by_temperature(logits, temperature)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p != 1:
        logits = keep_top_p(logits, top_p)
    return logits.softmax(-1)


def scale_by_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Logits / temperature: below 1 the likely get likelier, above 1 all come closer.

    A temperature of 0 is defined by its limit: only the likeliest symbol is left, as in `greedy`.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature!r}; allowed are finite numbers from 0")
    if temperature == 0:
        return keep_top_k(logits, 1)
    # The highest is set to 0 first: divided by a tiny temperature it would overflow.
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """-inf for all but the `top_k` highest of each row; all stay where a row has fewer.

    Source: Fan, Lewis and Dauphin 2018, "Hierarchical neural story generation", section 5.4.
    """
    if not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k is {top_k!r}; allowed are whole numbers from 1")
    if top_k == 1:  # as `greedy` decides between equal ones
        index = logits.argmax(-1, keepdim=True)
    else:
        index = logits.topk(min(top_k, logits.shape[-1])).indices  # -> (..., k)
    return _keep(logits, index, True)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """-inf for all but the fewest symbols whose probabilities add up to `top_p` at least.

    The likeliest symbol always stays. Also called nucleus sampling.

    Source: Holtzman et al. 2020, "The curious case of neural text degeneration", section 3.1.
    """
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p!r}; allowed are shares 0 < top_p <= 1")
    ordered, index = logits.sort(dim=-1, descending=True, stable=True)
    chances = ordered.softmax(-1)
    before = chances.cumsum(-1) - chances  # what the likelier ones make up
    enough = before >= top_p
    return _keep(logits, index, ~enough)


def _keep(logits: Tensor, index: Tensor, kept: Tensor | bool) -> Tensor:
    """-inf for all but those at `index` (..., K) for which `kept` (..., K) is True."""
    mask = torch.zeros_like(logits, dtype=torch.bool)
    mask.scatter_(-1, index, kept)
    return logits.masked_fill(~mask, -torch.inf)
