"""Two translators with one interface: an encoder-decoder of GRUs, and a Transformer.

Both take ids, source (B, S) and target (B, T), int64 with PAD = 0 behind the words, and find out
for themselves what is padding. `forward` trains: it is told the target so far (teacher forcing).
`start` and `step` translate: a state goes from step to step, the batch is the first axis of all its
tensors, and `select_rows` picks sentences out of it. Bad arguments raise `ValueError`, with the
argument, its value and what is allowed.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.attention import (
    Decoder,
    DecoderState,
    Encoder,
    TransformerConfig,
    attention_weights,
    padding_mask,
)
from course_lib.text import PAD

ATTENTIONS = ("dot", "additive", "none")


@dataclass(frozen=True)
class GRUState:
    """What a GRU decoder knows between steps.

    hidden (B, layers, width); memory (B, S, width) of the source, its `keys` (B, S, width) for the
    attention, and which of its words are real (B, S).
    """

    hidden: Tensor
    memory: Tensor
    keys: Tensor
    real: Tensor

    def rows(self, index: Tensor) -> "GRUState":
        return GRUState(*(getattr(self, field.name)[index] for field in fields(self)))


def select_rows(state: GRUState | DecoderState, rows: Tensor) -> GRUState | DecoderState:
    """The state of these sentences, rows (N,) int64 of the batch, which may repeat."""
    return state.rows(rows)


class GRUEncoder(nn.Module):
    """GRUs that read in both directions; each direction makes half of the width.

    Equal to torch's bidirectional GRU on packed sequences, without packing, which would ask a GPU
    for the lengths: the second direction reads each sentence turned round, its padding still last.
    """

    def __init__(self, width: int, layers: int = 1, dropout: float = 0.0):
        super().__init__()
        self.ahead, self.back = (
            nn.ModuleList(nn.GRU(width, width // 2, batch_first=True) for _ in range(layers))
            for _ in range(2)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, width), (B, S) -> the same, 0 at padding, and the last states (B, layers, width).

        A sentence without words has last states of 0.
        """
        lengths = real.sum(1, keepdim=True)  # (B, 1)
        positions = torch.arange(x.shape[1], device=x.device)
        mirror = torch.where(real, lengths - 1 - positions, positions)  # (B, S)
        last = (lengths - 1).clamp(min=0)
        finals = []
        for number, (ahead, back) in enumerate(zip(self.ahead, self.back, strict=True)):
            x = x if number == 0 else self.dropout(x)
            there, _ = ahead(x)  # (B, S, width) -> (B, S, width / 2)
            again, _ = back(_take(x, mirror))
            finals.append(torch.cat((_take(there, last), _take(again, last)), dim=2))
            x = torch.cat((there, _take(again, mirror)), dim=2) * real[:, :, None]
        return x, torch.cat(finals, dim=1) * (lengths > 0)[:, :, None]  # layers (B, 1, width)


class AdditiveScore(nn.Module):
    """How well a decoder state fits each source word: v . tanh(W query + key).

    Source: Bahdanau, Cho and Bengio 2015, appendix A.1.2.
    """

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.vector = nn.Linear(width, 1, bias=False)

    def forward(self, query: Tensor, keys: Tensor, real: Tensor) -> Tensor:
        """(B, 1, width), (B, S, width), (B, S) -> weights (B, 1, S), 0 where nothing is real."""
        scores = self.vector((self.query(query) + keys).tanh())[:, None, :, 0]  # -> (B, 1, S)
        padding = ~real[:, None]
        weights = scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(-1)
        return weights.masked_fill(padding, 0)


class GRUTranslator(nn.Module):
    """A bidirectional GRU reads the source, another one writes the target.

    Args:
        source_size, target_size: of the vocabularies.
        width: of embeddings and states, an even number.
        attention: "dot": after the recurrent pass, which therefore trains in one call; its scores
            are divided by sqrt(width). "additive": before each step, which gets what it saw, so
            that training is serial, too. "none": all the decoder gets is the encoder's last state.
        layers: of the encoder and of the decoder.
        dropout: on embeddings, between layers and before the output layer.

    Source: Luong, Pham and Manning 2015, section 3.1 (dot); Bahdanau, Cho and Bengio 2015
    (additive); Cho et al. 2014 (none).
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        width: int = 256,
        attention: str = "dot",
        layers: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"attention is {attention!r}; allowed are {', '.join(ATTENTIONS)}")
        if width < 2 or width % 2:
            raise ValueError(f"width is {width}; allowed are even numbers from 2")
        if layers < 1:
            raise ValueError(f"layers is {layers}; allowed are whole numbers from 1")
        self.attention = attention
        self.source_embedding = nn.Embedding(source_size, width, PAD)
        self.target_embedding = nn.Embedding(target_size, width, PAD)
        self.encoder = GRUEncoder(width, layers, dropout)
        self.bridge = nn.Linear(width, width)
        inputs = 2 * width if attention == "additive" else width
        between = dropout if layers > 1 else 0.0  # torch warns of dropout between no layers
        self.decoder = nn.GRU(inputs, width, layers, batch_first=True, dropout=between)
        if attention == "additive":
            self.key = nn.Linear(width, width, bias=False)
            self.score = AdditiveScore(width)
        self.combine = nn.Linear(width if attention == "none" else 2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, target_size)

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Logits (B, T, target_size) of the words that follow those of `target_in` (B, T)."""
        return self._decode(target_in, self.start(source))[0]

    def attention_weights(self, source: Tensor, target_in: Tensor) -> Tensor:
        """(B, T, S): where the decoder looks when it writes the word after each of `target_in`.

        Raises:
            ValueError: the model has no attention.
        """
        if self.attention == "none":
            raise ValueError("attention is 'none'; weights come with dot, additive only")
        return self._decode(target_in, self.start(source))[1]

    def start(self, source: Tensor) -> GRUState:
        """The state before the first word."""
        real = _check_ids("source", source) != PAD  # (B, S)
        memory, last = self.encoder(self.dropout(self.source_embedding(source)), real)
        keys = self.key(memory) if self.attention == "additive" else memory
        return GRUState(self.bridge(last).tanh(), memory, keys, real)

    def step(self, state: GRUState, tokens: Tensor) -> tuple[Tensor, GRUState]:
        """The last words (B,) -> logits of the next ones (B, target_size), and the new state."""
        logits, _, hidden = self._decode(tokens[:, None], state)
        return logits[:, 0], GRUState(hidden, state.memory, state.keys, state.real)

    def _decode(self, tokens: Tensor, state: GRUState) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T) -> logits, attention weights (B, T, S), the last states (B, layers, width)."""
        x = self.dropout(self.target_embedding(_check_ids("target_in", tokens)))  # (B, T, width)
        hidden = state.hidden.transpose(0, 1).contiguous()  # -> (layers, B, width), as GRUs want it
        if self.attention == "additive":
            outputs, weights, hidden = self._decode_serially(x, hidden, state)
        else:
            outputs, hidden = self.decoder(x, hidden)  # -> (B, T, width)
            weights = attention_weights(outputs, state.keys, state.real[:, None])  # -> (B, T, S)
        if self.attention != "none":
            outputs = torch.cat((outputs, weights @ state.memory), dim=2)  # -> (B, T, 2 width)
        logits = self.output(self.dropout(self.combine(outputs).tanh()))
        return logits, weights, hidden.transpose(0, 1)

    def _decode_serially(self, x: Tensor, hidden: Tensor, state: GRUState) -> tuple[Tensor, ...]:
        """Additive attention: each step needs the last one's state to know where to look."""
        outputs, weights = [], []
        for word in x.split(1, dim=1):  # each (B, 1, width)
            weights.append(self.score(hidden[-1][:, None], state.keys, state.real))
            context = weights[-1] @ state.memory  # (B, 1, S) @ (B, S, width)
            output, hidden = self.decoder(torch.cat((word, context), dim=2), hidden)
            outputs.append(output)
        return torch.cat(outputs, dim=1), torch.cat(weights, dim=1), hidden


class TransformerTranslator(nn.Module):
    """Chapter 06's encoder and decoder between embeddings and an output layer.

    Args:
        source_size, target_size: of the vocabularies.
        tie: the output layer shares its weights with the target embedding.

    Source: Vaswani et al. 2017.
    """

    def __init__(
        self, source_size: int, target_size: int, config: TransformerConfig, tie: bool = False
    ):
        super().__init__()
        self.scale = config.width**0.5
        self.source_embedding = _embedding(source_size, config.width)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.target_embedding = _embedding(target_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.width, target_size)
        if tie:
            self.output.weight = self.target_embedding.weight

    @torch.no_grad()
    def start_from_dictionary(self, table: Tensor) -> None:
        """Give each source word the vector of its translations, of the length that vectors have.

        Args:
            table: (source_size, target_size) weights, as of `lexicon.translation_table`; words
                whose rows are 0 keep their vectors.

        Raises:
            ValueError: a table of another size.
        """
        vectors = self.source_embedding.weight
        sizes = (len(vectors), len(self.target_embedding.weight))
        if tuple(table.shape) != sizes:
            raise ValueError(f"table has shape {tuple(table.shape)}; needed is {sizes}")
        mean = table.to(vectors.device) @ self.target_embedding.weight  # (source_size, width)
        length = mean.norm(dim=1, keepdim=True)
        usual = vectors.norm(dim=1).mean()
        vectors.copy_(torch.where(length > 0, mean * (usual / length.clamp(min=1e-6)), vectors))

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Logits (B, T, target_size) of the words that follow those of `target_in` (B, T)."""
        memory, mask = self._encode(source)
        # The target's padding needs no mask: it stands behind every word that counts.
        x = self._embed(self.target_embedding, _check_ids("target_in", target_in))
        return self.output(self.decoder(x, memory, memory_mask=mask))

    def attention_weights(self, source: Tensor, target_in: Tensor) -> Tensor:
        """(B, T, S): where the last layer looks, the mean of its heads."""
        return self.attention_by_head(source, target_in)[:, -1].mean(1)

    def attention_by_head(self, source: Tensor, target_in: Tensor) -> Tensor:
        """(B, layers, heads, T, S): where each head of each layer looks in the source."""
        weights = []
        hooks = [
            layer.multihead_attn.register_forward_hook(
                lambda attention, inputs, _: weights.append(attention.weights(*inputs))
            )
            for layer in self.decoder.layers
        ]
        try:
            self(source, target_in)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(weights, dim=1)

    def start(self, source: Tensor) -> DecoderState:
        """The state before the first word."""
        return self.decoder.start(*self._encode(source))

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState]:
        """The last words (B,) -> logits of the next ones (B, target_size), and the new state."""
        x = self._embed(self.target_embedding, tokens[:, None])  # -> (B, 1, width)
        x, state = self.decoder.step(x, state)
        return self.output(x)[:, 0], state

    def _encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        mask = padding_mask(_check_ids("source", source) != PAD)  # (B, 1, 1, S)
        return self.encoder(self._embed(self.source_embedding, source), mask), mask

    def _embed(self, embedding: nn.Embedding, ids: Tensor) -> Tensor:
        return embedding(ids) * self.scale  # (B, T) -> (B, T, width)


def translation_loss(
    model: nn.Module, batch: tuple[Tensor, Tensor], smoothing: float = 0.0
) -> Tensor:
    """Mean cross entropy of each target word given those before it; 0 if all is padding.

    Args:
        batch: source (B, S) and target (B, T): START, words, END, PAD.
        smoothing: share of the probability that is spread over all words.
    """
    source, target = batch
    logits = model(source, target[:, :-1])  # -> (B, T - 1, target_size)
    wanted = target[:, 1:]
    total = F.cross_entropy(
        logits.flatten(0, 1),
        wanted.flatten(),
        ignore_index=PAD,
        label_smoothing=smoothing,
        reduction="sum",
    )
    return total / (wanted != PAD).sum().clamp(min=1)


def count_targets(batch: tuple[Tensor, Tensor]) -> int:
    """How many words `translation_loss` is the mean over: `fit(..., weigh=count_targets)`."""
    return int((batch[1][:, 1:] != PAD).sum())


def _embedding(size: int, width: int) -> nn.Embedding:
    """Entries of variance 1 / width: as an output layer they give logits of variance 1."""
    embedding = nn.Embedding(size, width, PAD)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    with torch.no_grad():
        embedding.weight[PAD] = 0
    return embedding


def _take(x: Tensor, positions: Tensor) -> Tensor:
    """x (B, S, C) at positions (B, T) of its second axis -> (B, T, C)."""
    return x.gather(1, positions[:, :, None].expand(-1, -1, x.shape[2]))


def _check_ids(name: str, ids: Tensor) -> Tensor:
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(ids.shape)}; allowed is (B, length from 1)")
    return ids
