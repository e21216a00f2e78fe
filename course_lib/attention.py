"""Attention with several heads, and the encoder and decoder layers of a Transformer.

One head's attention and the masks come from `dot_product`, positions from `positions`. Masks are
bool, True = may attend, and broadcast to (B, heads, T, S): T queries look at S keys. Parameters
have the names and shapes of torch's `nn.MultiheadAttention`, `nn.TransformerEncoderLayer` and so
on, so that state dicts load into either. Bad arguments raise `ValueError`, with the argument, its
value and what is allowed.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.dot_product import attention, attention_weights, causal_mask, check_mask
from course_lib.dot_product import attention_by_hand as attention_by_hand  # as given to readers
from course_lib.dot_product import attention_fused as attention_fused
from course_lib.dot_product import padding_mask as padding_mask
from course_lib.positions import (
    LearnedPositions,
    SinusoidalPositions,
    check_even,
    check_whole,
    rotate,
)
from course_lib.positions import sinusoidal_positions as sinusoidal_positions

ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's approximation
}
POSITIONS = ("sinusoidal", "learned", "rotary", "none")


class MultiHeadAttention(nn.Module):
    """`heads` attentions side by side, each on its own part of the projections' `width`.

    Args:
        dropout: share of the attention weights that are dropped in training.
        rotary: turn queries and keys by their positions, see `rotate`.

    Source: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        rotary: bool = False,
    ):
        super().__init__()
        _check_heads(width, heads, rotary)
        self.heads, self.dropout, self.rotary = heads, _check_share(dropout), rotary
        # The projections of queries, keys and values lie one below the other, as in torch.
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width)) if bias else None
        self.out_proj = nn.Linear(width, width, bias)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, source: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """(B, T, width), attending to `source` (B, S, width) or to itself -> (B, T, width).

        Args:
            mask: bool, broadcast to (B, heads, T, S).
        """
        if source is not None:
            return self.attend(query, *self.keys_values(source), mask)
        queries, keys, values = self._project("query", query, 0, 3)  # in one product
        return self._mix(self._turn(queries, 0), self._turn(keys, 0), values, mask)

    def weights(
        self, query: Tensor, source: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The attention weights (B, heads, T, S) of `forward`, without dropout."""
        keys, _ = self.keys_values(query if source is None else source)
        return attention_weights(self._queries(query, 0), keys, mask)

    def keys_values(self, source: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """(B, S, width) -> keys and values, each (B, heads, S, d): worth keeping in a cache.

        Args:
            offset: the position of the first of `source`.
        """
        keys, values = self._project("source", source, 1, 3)
        return self._turn(keys, offset), values

    def attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        offset: int = 0,
    ) -> Tensor:
        """`forward` with keys and values (B, heads, S, d) that `keys_values` made earlier.

        Args:
            offset: the position of the first of `query`.
        """
        return self._mix(self._queries(query, offset), keys, values, mask)

    def _mix(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        heads = attention(queries, keys, values, mask, dropout)
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, heads, T, d) -> (B, T, width)

    def _queries(self, query: Tensor, offset: int) -> Tensor:
        (queries,) = self._project("query", query, 0, 1)
        return self._turn(queries, offset)

    def _turn(self, x: Tensor, offset: int) -> Tensor:
        if not self.rotary:
            return x
        return rotate(x, torch.arange(offset, offset + x.shape[-2], device=x.device))

    def _project(self, name: str, x: Tensor, begin: int, end: int) -> tuple[Tensor, ...]:
        """Of queries 0, keys 1, values 2 those from `begin` to `end`, each (B, heads, T, d)."""
        width = self.out_proj.in_features
        if x.ndim != 3 or x.shape[-1] != width:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; allowed is (B, length, {width})")
        rows = slice(begin * width, end * width)
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        projected = F.linear(x, self.in_proj_weight[rows], bias)  # (B, T, width) -> (B, T, n width)
        split = projected.unflatten(-1, (end - begin, self.heads, -1))
        return split.permute(2, 0, 3, 1, 4).unbind(0)  # (B, T, n, heads, d) -> n (B, heads, T, d)


@dataclass(frozen=True)
class TransformerConfig:
    """The sizes and kinds that a stack of encoder or decoder layers is built from.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    width: int  # of the vectors that go from layer to layer
    heads: int
    layers: int
    hidden: int  # width inside the feed-forward nets, often 4 * width
    dropout: float = 0.0
    pre_norm: bool = True  # norms before attention and feed-forward; False: after the sum
    activation: str = "relu"
    positions: str = "sinusoidal"
    max_length: int = 512  # of sinusoidal and learned positions; the others know no end
    norm_eps: float = 1e-5
    bias: bool = True

    def __post_init__(self):
        for name in ("width", "heads", "layers", "hidden", "max_length"):
            check_whole(name, getattr(self, name))
        _check_heads(self.width, self.heads, self.positions == "rotary")
        _check_share(self.dropout)
        for name, allowed in (("activation", tuple(ACTIVATIONS)), ("positions", POSITIONS)):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
        if self.positions == "sinusoidal":
            check_even("width", self.width)
        if not 0 < self.norm_eps < math.inf:
            raise ValueError(f"norm_eps is {self.norm_eps!r}; allowed are finite numbers > 0")


class _Layer(nn.Module):
    """What encoder and decoder layers share: the way into and out of a part, and the last part."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.pre_norm = config.pre_norm
        self.activation = ACTIVATIONS[config.activation]
        self.self_attn = make_attention(config)
        self.linear1 = nn.Linear(config.width, config.hidden, config.bias)
        self.linear2 = nn.Linear(config.hidden, config.width, config.bias)
        self.norm1 = make_norm(config)
        self.norm2 = make_norm(config)
        self.dropout = nn.Dropout(config.dropout)

    def enter(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """What a part gets to see of x (B, T, width)."""
        return norm(x) if self.pre_norm else x

    def leave(self, x: Tensor, change: Tensor, norm: nn.LayerNorm) -> Tensor:
        """x with what a part makes of it, its `change`, both (B, T, width)."""
        x = x + self.dropout(change)
        return x if self.pre_norm else norm(x)

    def feed_forward(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """The last part, for each position by itself: (B, T, width) -> (B, T, width).

        Dropout is on its outcome only (Vaswani et al., section 5.4); torch's is on `inner`, too."""
        inner = self.activation(self.linear1(self.enter(x, norm)))  # -> (B, T, hidden)
        return self.leave(x, self.linear2(inner), norm)  # -> (B, T, width)


class EncoderLayer(_Layer):
    """Self-attention, then a feed-forward net, each added to what it gets: (B, T, width) alike.

    Source: Vaswani et al. 2017, section 3.1 (post-norm); Xiong et al. 2020 (pre-norm).
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask`: bool, broadcast to (B, heads, T, T)."""
        x = self.leave(x, self.self_attn(self.enter(x, self.norm1), mask=mask), self.norm1)
        return self.feed_forward(x, self.norm2)


class DecoderLayer(_Layer):
    """Self-attention, attention to an encoder's output (`memory`), then a feed-forward net."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        # Distances between the positions of two sequences mean little: no rotation here.
        self.multihead_attn = make_attention(replace(config, positions="none"))
        self.norm3 = make_norm(config)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, width), memory (B, S, width) -> (B, T, width).

        Args:
            mask, memory_mask: bool, broadcast to (B, heads, T, T) and (B, heads, T, S). Nothing is
                hidden without: for a decoder, `mask` is a `causal_mask` at least.
        """
        x = self.leave(x, self.self_attn(self.enter(x, self.norm1), mask=mask), self.norm1)
        seen = self.multihead_attn(self.enter(x, self.norm2), memory, memory_mask)
        return self.feed_forward(self.leave(x, seen, self.norm2), self.norm3)

    def step(
        self, x: Tensor, cache: tuple[Tensor, ...], memory_mask: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`forward` for the next position alone: x (B, 1, width) -> the same, and the new cache.

        Args:
            cache: keys and values of x's past, then of the memory, each (B, heads, length, d).
        """
        past_keys, past_values, *of_memory = cache
        offset = past_keys.shape[2]
        query = self.enter(x, self.norm1)
        keys, values = self.self_attn.keys_values(query, offset)
        keys = torch.cat((past_keys, keys), dim=2)  # -> (B, heads, offset + 1, d)
        values = torch.cat((past_values, values), dim=2)
        x = self.leave(x, self.self_attn.attend(query, keys, values, offset=offset), self.norm1)
        query = self.enter(x, self.norm2)
        x = self.leave(x, self.multihead_attn.attend(query, *of_memory, memory_mask), self.norm2)
        return self.feed_forward(x, self.norm3), (keys, values, *of_memory)


class _Stack(nn.Module):
    """Positions, `layers` layers and, where these are pre-norm, a last norm."""

    layer: type[_Layer]

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.positions = make_positions(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(self.layer(config) for _ in range(config.layers))
        self.norm = make_norm(config) if config.pre_norm else nn.Identity()
        for weight in self.layers.parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)  # as `nn.Transformer` does

    def place(self, x: Tensor, offset: int = 0) -> Tensor:
        """Add the positions' codes, if there are any, to x (B, T, width), then drop out."""
        return x if self.positions is None else self.dropout(self.positions(x, offset))


class Encoder(_Stack):
    """A stack of `EncoderLayer`: embeddings (B, T, width) -> (B, T, width).

    It adds the positions itself where they are sinusoidal or learned. With a `causal_mask` it is
    the stack of a GPT.
    """

    layer = EncoderLayer

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask`: bool, broadcast to (B, heads, T, T), such as a `padding_mask`."""
        x = self.place(x)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


@dataclass(frozen=True)
class DecoderState:
    """What a decoder remembers between steps; the first axis of every tensor is the batch.

    Args:
        caches: for each layer the keys and values of the past, then of the memory, each
            (B, heads, length, d).
        memory_mask: (B, 1 or heads, 1, S) or None.
    """

    caches: tuple[tuple[Tensor, ...], ...]
    memory_mask: Tensor | None

    def rows(self, index: Tensor) -> "DecoderState":
        """The state of these rows (N,) int64 of the batch, which may repeat: for beam search."""
        caches = tuple(tuple(tensor[index] for tensor in cache) for cache in self.caches)
        mask = self.memory_mask
        return DecoderState(caches, None if mask is None else mask[index])


class Decoder(_Stack):
    """A stack of `DecoderLayer`, always causal: no position sees a later one.

    It adds the positions itself where they are sinusoidal or learned.
    """

    layer = DecoderLayer

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Embeddings x (B, T, width) and memory (B, S, width) -> (B, T, width).

        Args:
            mask: bool, broadcast to (B, heads, T, T); what it hides, the causal mask hides more of.
            memory_mask: bool, broadcast to (B, heads, T, S), such as the source's `padding_mask`.
        """
        batch, length, _ = x.shape
        causal = causal_mask(length, x.device)  # (T, T)
        if mask is not None:
            check_mask(mask, (batch, self.config.heads, length, length))
            causal = mask & causal
        x = self.place(x)
        for layer in self.layers:
            x = layer(x, memory, causal, memory_mask)
        return self.norm(x)

    def start(self, memory: Tensor, memory_mask: Tensor | None = None) -> DecoderState:
        """The state before the first `step`: memory (B, S, width), its `padding_mask` or None."""
        caches = []
        for layer in self.layers:
            keys, values = layer.multihead_attn.keys_values(memory)  # each (B, heads, S, d)
            caches.append((keys[:, :, :0], values[:, :, :0], keys, values))
        if memory_mask is not None:
            memory_mask = memory_mask.expand(len(memory), -1, -1, -1)  # -> (B, 1, 1, S)
        return DecoderState(tuple(caches), memory_mask)

    def step(self, x: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The next row of `forward`: the next embedding x (B, 1, width) -> (B, 1, width), state."""
        x = self.place(x, offset=state.caches[0][0].shape[2])
        caches = []
        for layer, cache in zip(self.layers, state.caches, strict=True):
            x, cache = layer.step(x, cache, state.memory_mask)
            caches.append(cache)
        return self.norm(x), DecoderState(tuple(caches), state.memory_mask)


def make_attention(config: TransformerConfig) -> MultiHeadAttention:
    rotary = config.positions == "rotary"
    return MultiHeadAttention(config.width, config.heads, config.dropout, config.bias, rotary)


def make_norm(config: TransformerConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, config.norm_eps, bias=config.bias)


def make_positions(config: TransformerConfig) -> nn.Module | None:
    """The module that adds positions to embeddings, or None where there is nothing to add."""
    kinds = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions}
    kind = kinds.get(config.positions)
    return None if kind is None else kind(config.max_length, config.width)


def _check_heads(width: int, heads: int, rotary: bool) -> None:
    check_whole("width", width)
    check_whole("heads", heads)
    if width % heads:
        raise ValueError(f"heads is {heads}; allowed are divisors of the width {width}")
    if rotary:
        check_even("width / heads, with rotary positions,", width // heads)


def _check_share(dropout: float) -> float:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}; allowed are shares 0 <= dropout < 1")
    return dropout
