"""GPT: a Transformer that reads ids and says, at every place, what comes next.

`GPT.forward` reads all places at once (training); `generate` writes one symbol after another, and
keeps what it has computed in a `Cache`. Checkpoints of GPT-2 in Hugging Face's layout can be read
and written. Bad arguments raise `ValueError`, with the argument, its value and what is allowed.
"""

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import gpt2, pretrained, sampling
from course_lib.attention import Encoder, EncoderLayer, TransformerConfig, causal_mask
from course_lib.batches import IGNORED
from course_lib.positions import check_whole, rotate
from course_lib.weights import load_weights

POSITIONS = ("learned", "rotary")


@dataclass(frozen=True)
class GPTConfig:
    """The sizes and kinds of a GPT.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    vocabulary: int  # symbols
    length: int  # of the context: how many symbols the model can see at once
    width: int = 128
    heads: int = 4
    layers: int = 4
    hidden: int | None = None  # width inside the feed-forward nets; None: 4 * width
    dropout: float = 0.0
    positions: str = "learned"
    tied: bool = True  # the head's weights are those of the embedding
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-5
    bias: bool = True

    def __post_init__(self):
        for name in ("vocabulary", "length"):
            check_whole(name, getattr(self, name))
        if self.positions not in POSITIONS:
            raise ValueError(f"positions is {self.positions!r}; allowed are {', '.join(POSITIONS)}")
        self.stack()  # checks the rest

    def stack(self) -> TransformerConfig:
        """The config of the layers, of pre-norm kind."""
        return TransformerConfig(
            width=self.width,
            heads=self.heads,
            layers=self.layers,
            hidden=4 * self.width if self.hidden is None else self.hidden,
            dropout=self.dropout,
            activation=self.activation,
            positions=self.positions,
            max_length=self.length,
            norm_eps=self.norm_eps,
            bias=self.bias,
        )


class GPT(nn.Module):
    """Embedding, causal Transformer layers, and a head that scores each symbol as the next one.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners" (GPT-2).
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.stack = Encoder(config.stack())
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        self._initialise()

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> logits (B, T, vocabulary) of what follows each of them."""
        length = _check_ids("ids", ids).shape[1]
        _check_length(length, self.config.length)
        mask = causal_mask(length, ids.device)  # (T, T)
        return self.head(self.stack(self.embedding(ids), mask))

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, *, sha256: str | None = None) -> "GPT":
        """GPT-2 from a folder, or from the hub by its name, in evaluation mode.

        Args:
            sha256: what the file of the weights must have.

        Raises:
            DataError: a file is missing or damaged.
            ValueError: a tensor is missing, surplus or misshapen (it names the first), or the
                config asks for what this model cannot do.
        """
        config, tensors = pretrained.read_folder(name, sha256=sha256)
        model = cls(GPTConfig(**gpt2.our_config(config)))
        load_weights(model, gpt2.our_weights(tensors, model.state_dict(), model.config.tied))
        return model.eval()

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write a folder that `from_pretrained` and transformers' `GPT2LMHeadModel` read."""
        config = asdict(self.config)
        tensors = gpt2.their_weights(self.state_dict(), self.config.tied)
        pretrained.write_folder(folder, gpt2.their_config(config), tensors)

    def _initialise(self) -> None:
        """Weights as GPT-2 draws them: the more layers add to the sum, the less each at first."""
        std = 0.02
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue  # biases are 0 and norms 1 already
            adds = name.endswith(("out_proj.weight", "linear2.weight"))
            nn.init.normal_(parameter, std=std / math.sqrt(2 * self.config.layers) if adds else std)
        for layer in self.stack.layers:
            for linear in (layer.linear1, layer.linear2):
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)


def gpt_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross entropy of the labels given what stands before them; 0 if none counts.

    Args:
        batch: ids (B, T) and labels (B, T): what follows each id, or IGNORED.
    """
    ids, labels = batch
    logits = model(ids)  # -> (B, T, vocabulary)
    total = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels != IGNORED).sum().clamp(min=1)


class Cache:
    """Keys and values of all that was read so far, so that the next symbol costs one place only.

    Args:
        batch: rows that are read side by side.
    """

    def __init__(self, model: GPT, batch: int):
        config = model.config
        self.length, self.filled = config.length, 0
        self.embedding, self.head = model.embedding.weight.detach(), model.head.weight.detach()
        positions, self.rotation = model.stack.positions, None
        self.positions = None if positions is None else positions.weight.detach()
        if config.positions == "rotary":
            size = config.width // config.heads
            self.rotation = _rotation(config.length, size, self.embedding)
        self.layers = [CachedLayer(layer, batch, config.length) for layer in model.stack.layers]
        self.norm = _norm(model.stack.norm)

    def read(self, ids: Tensor) -> Tensor:
        """The next ids (B, T) -> logits (B, vocabulary) of what follows the last of them.

        Raises:
            ValueError: together with what was read before they are longer than the context.
        """
        begin, count = self.filled, ids.shape[1]
        end = begin + count
        _check_length(end, self.length)
        x = F.embedding(ids, self.embedding)  # (B, T) -> (B, T, width)
        mask = rotation = None
        if self.positions is not None:
            x = x + self.positions[begin:end]
        if self.rotation is not None:
            rotation = [table[begin:end] for table in self.rotation]
        if count > 1:  # one place alone may look at all there is
            mask = causal_mask(end, ids.device)[begin:]  # (T, end)
        for layer in self.layers:
            x = layer.read(x, begin, mask, rotation)
        self.filled = end
        return F.linear(torch.layer_norm(x[:, -1], *self.norm), self.head)


class CachedLayer:
    """A layer's weights, looked up once, and room for the keys and values of a whole context.

    The work at one place is small: most of the time would go into looking things up, copying and
    starting operations. So there are few of each; nothing that was kept is ever moved.
    """

    def __init__(self, layer: EncoderLayer, batch: int, length: int):
        part = layer.self_attn
        size = len(part.out_proj.weight) // part.heads
        self.heads, self.activation = part.heads, layer.activation
        self.norm1, self.norm2 = _norm(layer.norm1), _norm(layer.norm2)
        self.project = _detach(part.in_proj_weight, part.in_proj_bias)
        self.out, self.linear1, self.linear2 = (
            _detach(linear.weight, linear.bias)
            for linear in (part.out_proj, layer.linear1, layer.linear2)
        )
        # Keys and values in one tensor, so that one call writes both.
        self.memory = self.project[0].new_zeros(2, batch, part.heads, length, size)

    def read(self, x: Tensor, begin: int, mask: Tensor | None, rotation) -> Tensor:
        """`layer` for the places from `begin` on, x (B, T, width) -> (B, T, width)."""
        batch, count, width = x.shape
        projected = F.linear(torch.layer_norm(x, *self.norm1), *self.project)
        split = projected.view(batch, count, 3, self.heads, -1)
        split = split.permute(2, 0, 3, 1, 4)  # (B, T, 3, heads, d) -> (3, B, heads, T, d)
        queries, new = split[0], split[1:]
        place = self.memory.narrow(3, begin, count)  # (2, B, heads, T, d)
        if rotation is None:
            place.copy_(new)
        else:
            cos, sin = rotation  # each (T, d)
            pair = split[:2]  # queries and keys
            exchanged = pair.roll(pair.shape[-1] // 2, -1)
            queries, keys = torch.addcmul(pair * cos, exchanged, sin).unbind()
            place[0].copy_(keys)
            place[1].copy_(split[2])
        keys, values = self.memory.narrow(3, 0, begin + count).unbind()  # each (B, heads, end, d)
        seen = F.scaled_dot_product_attention(queries, keys, values, mask)
        x = x + F.linear(seen.transpose(1, 2).reshape(batch, count, width), *self.out)
        inner = self.activation(F.linear(torch.layer_norm(x, *self.norm2), *self.linear1))
        return x + F.linear(inner, *self.linear2)


def _norm(norm: nn.LayerNorm) -> tuple:
    """The arguments of `torch.layer_norm` behind the first."""
    return (norm.normalized_shape, *_detach(norm.weight, norm.bias), norm.eps)


def _detach(*weights: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(None if weight is None else weight.detach() for weight in weights)


def _rotation(length: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Tables (length, d): `rotate(x)` is x * the first + x, its halves exchanged, * the second."""
    half = size // 2
    units = like.new_ones(length, size)
    units[:, half:] = 0  # rotate((1, 0)) = (cos, sin)
    cos, sin = rotate(units, torch.arange(length, device=like.device)).chunk(2, -1)
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


Choose = Callable[[Tensor, torch.Generator | None], Tensor]


def generate(
    model: GPT,
    prompt: Tensor,
    count: int,
    *,
    choose: Choose = sampling.greedy,
    generator: torch.Generator | None = None,
    slide: bool = False,
) -> Tensor:
    """Write `count` symbols behind each prompt: ids (B, T) -> (B, T + count), without dropout.

    Args:
        choose: `choose(logits (B, vocabulary), generator) -> ids (B,)`, such as
            `functools.partial(sampling.sample, temperature=0.8)`.
        slide: what happens when the context is full. False: it is an error. True: the older half
            is forgotten and the newer half read again, so that a symbol is chosen from between
            half and all of the context.

    Raises:
        ValueError: the last symbol would be chosen from more than the context, without `slide`.
    """
    _check_ids("prompt", prompt)
    check_whole("count", count)
    context, given = model.config.length, prompt.shape[1]
    if not slide:
        _check_length(given + count - 1, context)
    device = model.embedding.weight.device
    # Made outside of inference mode, so that the result may be used for training, too.
    ids = torch.empty(len(prompt), given + count, dtype=torch.int64, device=device)
    ids[:, :given] = prompt
    with torch.inference_mode():
        cache, begin = Cache(model, len(ids)), max(given - context, 0)
        for place in range(given, given + count):
            if cache.filled == context:
                cache.filled, begin = 0, place - max(context // 2, 1)
            logits = cache.read(ids[:, begin:place])  # -> (B, vocabulary)
            ids[:, place] = choose(logits, generator)
            begin = place
    return ids


def _check_ids(name: str, ids: Tensor) -> Tensor:
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(ids.shape)}; allowed is (B, length from 1)")
    return ids


def _check_length(length: int, most: int) -> None:
    if length > most:
        raise ValueError(
            f"length is {length}; allowed are up to {most}, the context. `generate` can go on "
            "beyond it with slide=True."
        )
