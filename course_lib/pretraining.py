"""BERT's pretraining set: pairs of passages, half of them true neighbours, with words hidden.

`load()` reads encyclopedia articles and novels, learns pieces of words from the training documents
and cuts every document into passages. `PairBatches` draws the records that a BERT learns from.

A passage is as many whole sentences as fit into half the length, at least one. Source: Devlin et
al. 2019 (arXiv 1810.04805), section 3.1 and appendix A.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib import data, distributed, runtime
from course_lib.batches import IGNORED, Batches
from course_lib.subwords import SPECIAL, WordPiece, bert_words, learn_pieces

PAD, UNKNOWN, CLS, SEP, MASK = range(len(SPECIAL))
LENGTH = 64  # positions of a record
SHARES = (0.8, 0.1, 0.1)  # of the chosen words: hidden by [MASK], replaced by any word, left
ALL_MASKED = (1.0, 0.0, 0.0)
CHOSEN = 0.15  # of the words

_END = re.compile(  # of a sentence; not after a title or an initial
    r"([.!?](?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\b[A-Z]\.)[\"')\]]*)\s+"
    r"(?=[\"'(\[_]*[A-Z])"
)


class Record(NamedTuple):
    """A batch of pairs; T is the length, M the most words that may be hidden.

    ids, segments int64 (B, T) and real bool (B, T): [CLS] A [SEP] B [SEP] [PAD] ..., segment 1 for
    B and the [SEP] behind it, else 0; real is False at [PAD]. positions, tokens int64 (B, M): where
    words were chosen, ascending, and which they were; 0 and -1 behind the last. is_next int64 (B,):
    1 where B follows A in the text.
    """

    ids: Tensor
    segments: Tensor
    real: Tensor
    positions: Tensor
    tokens: Tensor
    is_next: Tensor


@dataclass(frozen=True, eq=False)
class Passages:
    """Documents as one row of ids, and P places where a passage A is followed by a passage B.

    ids int64 (N,), below `vocabulary`. starts, sizes int64 (P, 2): where A and B begin in `ids`,
    and their lengths. bounds int64 (P, 4): the first place of A's document and the one behind its
    last, then the same for all documents of its kind.
    """

    vocabulary: int
    ids: Tensor
    starts: Tensor
    sizes: Tensor
    bounds: Tensor

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, eq=False)
class PretrainingSet:
    """The pieces of words, and the passages of training and of test documents."""

    pieces: WordPiece
    train: Passages
    test: Passages


@cache
def load(vocabulary: int = 8_000, length: int = LENGTH) -> PretrainingSet:
    """Wikipedia articles and Austen's chapters; kept in memory: asking again costs nothing.

    Args:
        vocabulary: pieces, special tokens included.
        length: of the records that will be drawn; a passage fills half of what [CLS] and two
            [SEP] leave of it.

    Raises:
        ValueError: a vocabulary too small for the letters, or a length below 5.
    """
    if length < 5:
        raise ValueError(f"length is {length}; allowed are whole numbers from 5")
    kinds = {
        (kind, test): [
            [bert_words(sentence) for sentence in sentences(document)]
            for document in data.load(kind)
            if document.test == test
        ]
        for kind in ("wikipedia", "austen")
        for test in (False, True)
    }  # (kind, test) -> documents of sentences of words
    training = (kinds["wikipedia", False], kinds["austen", False])
    words = (word for kind in training for document in kind for line in document for word in line)
    pieces = WordPiece(learn_pieces(words, vocabulary))
    train, test = (
        cut_passages(
            [
                [[pieces.encode_words(line) for line in lines] for lines in kinds[kind, part]]
                for kind in ("wikipedia", "austen")
            ],
            (length - 3) // 2,
            len(pieces),
        )
        for part in (False, True)
    )
    return PretrainingSet(pieces, train, test)


def sentences(document: data.Document) -> list[str]:
    """The document's sentences, paragraph after paragraph; "Mr. Darcy" is not cut."""
    return [
        line for text in document.paragraphs for line in _END.sub(r"\1\n", text).split("\n") if line
    ]


def cut_passages(
    kinds: Sequence[Sequence[Sequence[Sequence[int]]]], room: int, vocabulary: int
) -> Passages:
    """Every passage of `room` ids at most (or of one longer sentence) and the one behind it.

    Args:
        kinds: of documents; a document is a list of sentences, a sentence a list of ids.

    Raises:
        ValueError: a kind has fewer than two documents with two passages, so that no passage of
            another document can be drawn.
    """
    ids: list[int] = []
    starts: list[tuple[int, int]] = []
    sizes: list[tuple[int, int]] = []
    bounds: list[Tensor] = []
    for documents in kinds:
        first_of_kind, edges = len(starts), [len(starts)]
        for lines in documents:
            offset = len(ids)
            ids += [number for line in lines for number in line]
            pairs = neighbours([len(line) for line in lines if line], room)
            starts += [(offset + a, offset + b) for a, _, b, _ in pairs]
            sizes += [(size_a, size_b) for _, size_a, _, size_b in pairs]
            edges += [len(starts)] * bool(pairs)
        if len(edges) < 3:
            raise ValueError(f"kinds hold one with {len(edges) - 1} usable documents; 2 are needed")
        kind = (first_of_kind, len(starts))
        for first, last in zip(edges, edges[1:], strict=False):
            bounds.append(torch.tensor([[first, last, *kind]]).expand(last - first, 4))
    return Passages(vocabulary, *map(torch.tensor, (ids, starts, sizes)), torch.cat(bounds))


def neighbours(lengths: list[int], room: int) -> list[tuple[int, int, int, int]]:
    """(start, size, start, size) of each sentence's passage and of the passage behind it."""
    edges = [0]
    for length in lengths:
        edges.append(edges[-1] + length)
    last = 0
    ends = []  # of the passage that begins with each sentence, counted in sentences
    for first in range(len(lengths)):
        last = max(last, first + 1)
        while last < len(lengths) and edges[last + 1] - edges[first] <= room:
            last += 1
        ends.append(last)
    return [
        (edges[a], edges[b] - edges[a], edges[b], edges[ends[b]] - edges[b])
        for a, b in enumerate(ends)
        if b < len(lengths)
    ]


def pair_up(passages: Passages, items: Tensor, is_next: Tensor, generator: torch.Generator):
    """Where A and B begin and how long they are: starts and sizes, int64 (B, 2) each.

    B follows A where `is_next`. Elsewhere it follows some passage of another document of the same
    kind: taking any passage would tell the two apart by how a passage begins.

    Args:
        items: (B,) which of the P places. is_next: (B,) bool.
        generator: on the CPU.
    """
    first, last, kind_first, kind_last = passages.bounds[items].unbind(1)  # (B,) each
    others = kind_last - kind_first - (last - first)  # places in other documents
    luck = torch.rand(len(items), generator=generator, dtype=torch.float64)
    other = kind_first + (luck * others).long()
    other = other + (other >= first) * (last - first)  # over the document of A
    second = torch.where(is_next, items, other)
    starts = torch.stack([passages.starts[items, 0], passages.starts[second, 1]], 1)  # (B, 2)
    sizes = torch.stack([passages.sizes[items, 0], passages.sizes[second, 1]], 1)
    return starts, sizes


def join_pairs(ids: Tensor, starts: Tensor, sizes: Tensor, length: int = LENGTH):
    """[CLS] A [SEP] B [SEP] [PAD] ...: ids, segments int64 and real bool, each (B, length).

    Where A and B are too long together, the longer one loses its end until they fit.

    Args:
        ids: (N,) of which A and B are pieces. starts, sizes: (B, 2).
    """
    room = length - 3
    a = sizes[:, :1].minimum((room - sizes[:, 1:]).clamp(min=(room + 1) // 2))  # (B, 1)
    b = sizes[:, 1:].minimum(room - a)
    place = torch.arange(length)  # (T,)
    source = torch.where(place <= a, starts[:, :1] + place - 1, starts[:, 1:] + place - a - 2)
    row = ids[source.clamp(0, len(ids) - 1)]  # (B, T), right wherever a word stands
    row = row.where(place < a + b + 2, PAD)
    row = row.masked_fill((place == a + 1) | (place == a + b + 2), SEP)
    row[:, 0] = CLS
    real = place < a + b + 3
    segments = ((place > a + 1) & real).long()
    return row, segments, real


def hide_words(
    ids: Tensor,
    vocabulary: int,
    generator: torch.Generator,
    chosen: float = CHOSEN,
    shares: tuple[float, float, float] = SHARES,
):
    """Choose words to be predicted, and disturb them: ids (B, T), positions and tokens (B, M).

    Args:
        ids: int64 (B, T); special tokens are never chosen.
        vocabulary: number of pieces that a replacement is drawn from, special ones left out.
        generator: on the CPU.
        chosen: share of each row's words.
        shares: of the chosen ones: masked, replaced by any word, left as they are.
    """
    batch, length = ids.shape
    most = max(1, round(chosen * (length - 3)))  # M, the same for every batch
    words = ids > MASK
    there = words.sum(1, keepdim=True)  # (B, 1)
    count = (chosen * there).round().clamp(1, most).minimum(there)
    luck = torch.rand(batch, length, generator=generator).masked_fill(~words, -1)
    places = luck.topk(most, 1).indices.where(torch.arange(most) < count, length)
    places = places.sort(1).values
    taken = places < length  # (B, M)
    positions = places.where(taken, 0)
    before = ids.gather(1, positions)
    luck = torch.rand(batch, most, generator=generator)
    anything = torch.randint(MASK + 1, vocabulary, (batch, most), generator=generator)
    after = before.where(luck >= shares[0] + shares[1], anything).where(luck >= shares[0], MASK)
    ids = ids.scatter(1, positions, after.where(taken, CLS))  # [CLS] is at position 0 already
    return ids, positions, before.where(taken, IGNORED)


def draw(
    passages: Passages,
    items: Tensor,
    is_next: Tensor,
    generator: torch.Generator,
    *,
    length: int = LENGTH,
    chosen: float = CHOSEN,
    shares: tuple[float, float, float] = SHARES,
) -> Record:
    """One batch of records; arguments as for `pair_up`, `join_pairs` and `hide_words`."""
    starts, sizes = pair_up(passages, items, is_next, generator)
    ids, segments, real = join_pairs(passages.ids, starts, sizes, length)
    hidden, positions, tokens = hide_words(ids, passages.vocabulary, generator, chosen, shares)
    return Record(hidden, segments, real, positions, tokens, is_next.long())


class PairBatches(Batches):
    """`Batches` of records; pairs and hidden words are drawn anew in every epoch.

    Args:
        passages: an epoch takes each of its places as A once, and leaves out a last short batch.
        batch_size: with `neighbours` = 0.5, exactly half of an even batch are true neighbours.
        length, chosen, shares: as for `draw`.

    Raises:
        ValueError: fewer places than `batch_size`, or a share outside of 0 to 1.
    """

    def __init__(
        self,
        passages: Passages,
        *,
        batch_size: int,
        seed: int = 0,
        length: int = LENGTH,
        neighbours: float = 0.5,
        chosen: float = CHOSEN,
        shares: tuple[float, float, float] = SHARES,
    ):
        super().__init__(passages.starts, batch_size=batch_size, seed=seed)
        if batch_size > len(passages):
            raise ValueError(f"batch_size is {batch_size}; there are {len(passages)} passages")
        for name, value in (
            ("neighbours", neighbours),
            ("chosen", chosen),
            ("shares", sum(shares)),
        ):
            if not 0 <= value <= 1 + 1e-9:
                raise ValueError(f"{name} is {value}; allowed are 0 to 1")
        self.passages = passages
        self.neighbours = neighbours
        self.drawing = {"length": length, "chosen": chosen, "shares": shares}

    def __len__(self) -> int:
        return len(self.passages) // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Record]:
        """The batches of one epoch from number `start` on: this process's part of each."""
        order = torch.randperm(
            len(self.passages), generator=runtime.generator_for(self.seed, epoch)
        )
        rank, processes = distributed.rank(), distributed.world_size()
        count = round(self.neighbours * self.batch_size)
        for number in range(start, len(self)):
            whole = runtime.generator_for(self.seed, epoch, number)  # the same in each process
            is_next = torch.randperm(self.batch_size, generator=whole) < count
            items = order[number * self.batch_size :][: self.batch_size]
            yield draw(
                self.passages,
                items[rank::processes],
                is_next[rank::processes],
                runtime.generator_for(self.seed, epoch, number, rank),
                **self.drawing,
            )

    def to(self, device: torch.device) -> "PairBatches":
        """Itself: batches are put together on the CPU, and `train.fit` moves each of them."""
        return self


def held_out(passages: Passages, pairs: int = 2_000, *, seed: int = 0, **drawing) -> Record:
    """Records to test on, always the same ones; half of the pairs are true neighbours.

    All chosen words are masked unless `shares` says otherwise: a word that is left as it is could
    be copied, which needs no understanding.

    Raises:
        ValueError: more pairs than passages.
    """
    if not 1 <= pairs <= len(passages):
        raise ValueError(f"pairs is {pairs}; allowed are 1 to {len(passages)}")
    generator = runtime.generator_for(seed)
    items = torch.randperm(len(passages), generator=generator)[:pairs]
    is_next = torch.arange(pairs) % 2 == 0
    return draw(passages, items, is_next, generator, **{"shares": ALL_MASKED} | drawing)


def guess_by_neighbours(passages: Passages, record: Record) -> dict[str, Tensor]:
    """What counting alone would guess for the hidden words: int64 (B, M) for each way.

    "most frequent" takes the commonest word of `passages`; "left neighbour" the commonest one
    behind the word that stands to the left; "both neighbours" the commonest one between the two.
    Where such a neighbour was not met, the simpler guess takes its place.
    """
    ids, size = passages.ids, passages.vocabulary
    places = record.positions.clamp(min=1)  # (B, M); 0 stands for no hidden word
    left, right = record.ids.gather(1, places - 1), record.ids.gather(1, places + 1)
    commonest = torch.full_like(places, int(ids.bincount().argmax()))
    by_left = _commonest(ids[:-1], ids[1:], size, left, commonest)
    around = ids[:-2] * size + ids[2:]
    by_both = _commonest(around, ids[1:-1], size, left * size + right, by_left)
    return {"most frequent": commonest, "left neighbour": by_left, "both neighbours": by_both}


def _commonest(contexts: Tensor, words: Tensor, size: int, asked: Tensor, otherwise: Tensor):
    """The word that was most often met in the context asked for, else `otherwise`."""
    pairs, counts = (contexts * size + words).unique(return_counts=True)
    pairs = pairs[counts.argsort(descending=True, stable=True)]
    pairs = pairs[(pairs // size).argsort(stable=True)]  # by context, frequent ones first
    known = pairs // size
    place = torch.searchsorted(known, asked).clamp(max=len(known) - 1)
    return torch.where(known[place] == asked, pairs[place] % size, otherwise)


def share_right(guesses: Tensor, tokens: Tensor) -> float:
    """Share of the hidden words that were guessed; guesses and tokens (B, M)."""
    there = tokens != IGNORED
    return float((guesses == tokens)[there].float().mean())
