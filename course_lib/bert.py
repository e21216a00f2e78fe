"""BERT: an encoder of text that learns from text alone, its two heads, and a classifier on top.

Texts are ids (B, T) int64, with segments (B, T) int64, 0 for the first text and 1 for the second,
and real (B, T) bool, False at padding, which no token attends to. Without segments all is the first
text; without real, nothing is padding. Bad arguments raise `ValueError`, with the argument, its
value and what is allowed.

Source: Devlin et al. 2019, "BERT: pre-training of deep bidirectional transformers".
"""

import math
import os
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import bert_files, pretrained
from course_lib.attention import Encoder, TransformerConfig, padding_mask
from course_lib.batches import IGNORED
from course_lib.positions import check_whole
from course_lib.weights import load_weights

POOLS = ("cls", "mean")


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    vocabulary: int
    width: int
    heads: int
    layers: int
    hidden: int  # width inside the feed-forward nets
    max_length: int = 512
    segments: int = 2
    dropout: float = 0.1
    norm_eps: float = 1e-12
    rotary: bool = False  # turn queries and keys, too: a small BERT learns far sooner so
    initial_std: float = 0.02  # of the first weights; narrower ones want more, 1 / sqrt(width)

    def __post_init__(self):
        check_whole("vocabulary", self.vocabulary)
        check_whole("segments", self.segments)
        if not 0 < self.initial_std < math.inf:
            raise ValueError(f"initial_std is {self.initial_std!r}; allowed are numbers above 0")
        self.encoder()  # checks the others

    def encoder(self) -> TransformerConfig:
        """The encoder's part: BERT norms after each sum, and adds positions in its embeddings."""
        return TransformerConfig(
            self.width,
            self.heads,
            self.layers,
            self.hidden,
            self.dropout,
            pre_norm=False,
            activation="gelu",
            positions="rotary" if self.rotary else "none",
            max_length=self.max_length,
            norm_eps=self.norm_eps,
        )


class Bert(nn.Module):
    """Embeddings of words, positions and segments, an encoder, and a pooler for the first token.

    Args:
        pooler: whether there is one; files of some models have none.
    """

    def __init__(self, config: BertConfig, pooler: bool = True):
        super().__init__()
        self.config = config
        self.word_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.max_length, config.width)
        self.segment_embedding = nn.Embedding(config.segments, config.width)
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config.encoder())
        self.pooler = nn.Linear(config.width, config.width) if pooler else None
        initialise(self, config.initial_std)

    def forward(
        self, ids: Tensor, segments: Tensor | None = None, real: Tensor | None = None
    ) -> Tensor:
        """(B, T) each -> hidden states (B, T, width); those at padding mean nothing."""
        return self.encoder(self.embed(ids, segments), _mask(ids, real))

    def embed(self, ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """What enters the first layer: (B, T) -> (B, T, width)."""
        longest = self.config.max_length
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= longest:
            allowed = f"(B, length from 1 to {longest})"
            raise ValueError(f"ids has shape {tuple(ids.shape)}; allowed is {allowed}")
        if segments is None:
            segments = torch.zeros_like(ids)
        _check_shape("segments", segments, ids)
        positions = self.position_embedding.weight[: ids.shape[1]]  # (T, width)
        x = self.word_embedding(ids) + self.segment_embedding(segments) + positions
        return self.dropout(self.norm(x))

    def pool(self, hidden: Tensor) -> Tensor:
        """The first token's hidden state, [CLS], made ready for a head: -> (B, width)."""
        if self.pooler is None:
            raise ValueError("pooler is None; allowed is a model that has one")
        return self.pooler(hidden[:, 0]).tanh()

    def attention_maps(
        self, ids: Tensor, segments: Tensor | None = None, real: Tensor | None = None
    ) -> Tensor:
        """(B, layers, heads, T, T): how much each token takes from each; rows sum to 1."""
        x, mask, maps = self.embed(ids, segments), _mask(ids, real), []
        for layer in self.encoder.layers:
            maps.append(layer.self_attn.weights(x, mask=mask))  # (B, heads, T, T)
            x = layer(x, mask)
        return torch.stack(maps, dim=1)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, sha256: str | None = None, dropout: float | None = None
    ) -> "Bert":
        """A BERT of the Hugging Face format: with a pooler if the file has one, without its heads.

        It is in evaluation mode: without dropout.

        Args:
            name, sha256: as `pretrained.read_folder` takes them, which raises `DataError`.
            dropout: in place of the config's.

        Raises:
            ValueError: the config is not a BERT's; a tensor is missing, surplus or misshapen.
        """
        config, tensors = _read(name, sha256, dropout)
        model = cls(config, pooler="pooler.dense.weight" in tensors)
        load_weights(bert_files.UnderTheirNames(model), bert_files.without_heads(tensors))
        return model.eval()

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write a folder for `from_pretrained`, ours or transformers' `BertModel`'s."""
        config = bert_files.their_config(asdict(self.config), "BertModel")
        pretrained.write_folder(folder, config, bert_files.UnderTheirNames(self).state_dict())


class BertForPretraining(nn.Module):
    """A BERT that tells which words were masked, and whether the second text follows the first.

    The words' head ends in the word embeddings once more, as an output layer.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.bert = Bert(config)
        self.transform = nn.Linear(config.width, config.width)
        self.transform_norm = nn.LayerNorm(config.width, config.norm_eps)
        self.word_bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.next = nn.Linear(config.width, 2)  # IsNext comes first, as in BERT's own files
        for head in (self.transform, self.next):
            initialise(head, config.initial_std)

    def forward(
        self,
        ids: Tensor,
        segments: Tensor | None,
        real: Tensor | None,
        positions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the words at positions (B, M) int64, and of the second text's place.

        Returns:
            (B, M, vocabulary); (B, 2): class 0 is NotNext, class 1 is IsNext.
        """
        hidden = self.bert(ids, segments, real)  # -> (B, T, width)
        index = positions[:, :, None].expand(-1, -1, hidden.shape[2])  # (B, M) -> (B, M, width)
        return self.words(hidden.gather(1, index)), self.next(self.bert.pool(hidden)).flip(-1)

    def words(self, hidden: Tensor) -> Tensor:
        """Logits of words: (..., width) -> (..., vocabulary), for masked positions only: it is
        the dearest part of a small model."""
        x = self.transform_norm(F.gelu(self.transform(hidden)))
        return F.linear(x, self.bert.word_embedding.weight, self.word_bias)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, sha256: str | None = None, dropout: float | None = None
    ) -> "BertForPretraining":
        """`Bert.from_pretrained`, but the pooler and both heads must be there."""
        config, tensors = _read(name, sha256, dropout)
        model = cls(config)
        load_weights(bert_files.UnderTheirNames(model), bert_files.without_copies(tensors))
        return model.eval()

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write a folder for `from_pretrained`, ours or transformers' `BertForPreTraining`'s."""
        config = bert_files.their_config(asdict(self.bert.config), "BertForPreTraining")
        tensors = bert_files.UnderTheirNames(self).state_dict()
        names = {name: name if name.startswith("cls.") else f"bert.{name}" for name in tensors}
        pretrained.write_folder(folder, config, {names[name]: tensors[name] for name in tensors})


class BertClassifier(nn.Module):
    """A class for each text, or pair of texts.

    Args:
        bert: becomes a part of this model.
        pool: "cls": the first token, through the pooler, as in BERT; "mean": the mean of the real
            tokens' hidden states; then the pooler has no use, and is taken off `bert`.
        dropout: before the output layer; without, the config's.
    """

    def __init__(self, bert: Bert, classes: int, pool: str = "cls", dropout: float | None = None):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool is {pool!r}; allowed are {', '.join(POOLS)}")
        if pool == "cls" and bert.pooler is None:
            raise ValueError("pool is 'cls'; allowed is 'mean' for a BERT without a pooler")
        if pool == "mean":
            bert.pooler = None  # a weight without gradients would stop data-parallel training
        self.bert, self.pool = bert, pool
        self.dropout = nn.Dropout(bert.config.dropout if dropout is None else dropout)
        self.output = nn.Linear(bert.config.width, check_whole("classes", classes))
        initialise(self.output, bert.config.initial_std)

    def forward(
        self, ids: Tensor, segments: Tensor | None = None, real: Tensor | None = None
    ) -> Tensor:
        """(B, T) each -> logits (B, classes)."""
        hidden = self.bert(ids, segments, real)  # -> (B, T, width)
        pooled = mean_of_real(hidden, real) if self.pool == "mean" else self.bert.pool(hidden)
        return self.output(self.dropout(pooled))  # (B, width) -> (B, classes)


def mean_of_real(hidden: Tensor, real: Tensor | None = None) -> Tensor:
    """The mean over the real tokens: (B, T, width), (B, T) -> (B, width); 0 where none is real."""
    if real is None:
        return hidden.mean(1)
    share = real.to(hidden.dtype)
    share = share / share.sum(1, keepdim=True).clamp(min=1)  # (B, T), rows sum to 1
    return (share[:, None] @ hidden)[:, 0]  # (B, 1, T) @ (B, T, width)


def pretraining_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Mean cross entropy of the masked words, 0 if there are none, plus that of IsNext.

    Args:
        batch: ids, segments, real (B, T); positions (B, M) of masked words, and their ids as labels
            (B, M), or `IGNORED`; is_next (B,) bool or int64, 1 where the second text follows.

    Source: Devlin et al. 2019, section 3.1 and appendix A.2.
    """
    ids, segments, real, positions, labels, is_next = batch
    words, following = model(ids, segments, real, positions)
    total = F.cross_entropy(
        words.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    masked = total / (labels != IGNORED).sum().clamp(min=1)
    return masked + F.cross_entropy(following, is_next.long())


def freeze(bert: Bert, layers: int | None = None) -> None:
    """Train only what lies above the embeddings and the lowest `layers` layers; None: nothing.

    It may be called again: what an earlier call froze above that is trained again. Frozen parts
    cost no backward pass, but keep their dropout in training mode.
    """
    count = len(bert.encoder.layers)
    if layers is not None and not 0 <= layers <= count:
        raise ValueError(f"layers is {layers!r}; allowed are 0 to {count}, or None for all")
    bert.requires_grad_(False)
    if layers is not None:
        for part in (*bert.encoder.layers[layers:], bert.pooler):
            if part is not None:
                part.requires_grad_(True)


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Draw all matrices from a normal distribution, as BERT does; all biases are 0."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=std)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def _read(
    name: str | os.PathLike, sha256: str | None, dropout: float | None
) -> tuple[BertConfig, dict[str, Tensor]]:
    config, tensors = pretrained.read_folder(name, sha256=sha256)
    config = BertConfig(**bert_files.our_config(config))
    if dropout is not None:
        config = replace(config, dropout=dropout)
    return config, bert_files.plain_names(tensors)


def _mask(ids: Tensor, real: Tensor | None) -> Tensor | None:
    if real is None:
        return None
    _check_shape("real", real, ids)
    return padding_mask(real)  # (B, T) -> (B, 1, 1, T)


def _check_shape(name: str, given: Tensor, ids: Tensor) -> None:
    if given.shape != ids.shape:
        allowed = f"that of ids, {tuple(ids.shape)}"
        raise ValueError(f"{name} has shape {tuple(given.shape)}; allowed is {allowed}")
