"""Chapter 08's fine-tuning tasks on film reviews, simple rivals of BERT, and fair comparisons.

Two tasks: is a sentence kind or unkind, [CLS] A [SEP]; and which of two sentences is the kinder
one, [CLS] A [SEP] B [SEP]. Both are tokenised by MiniLM's WordPiece; [PAD] is 0, as in `text`.
Batches are (ids (B, T) int64, segments (B, T) int64, real (B, T) bool, labels (B,) int64).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import data, pretrained, runtime
from course_lib.text import PAD, SentenceBatches, join_rows, pad

if TYPE_CHECKING:
    import tokenizers

CLS, SEP = 101, 102  # in MiniLM's vocabulary, which is that of BERT in lower case
APART = 1.0  # by how much the ratings of two compared sentences differ at least
SHARPNESS = 0.5  # of the step from ratings to shares: a rating of 2 is a share of 0.73
BUCKETS = 2**15  # rows for pairs of tokens, which share them by chance

Review = str | tuple[str, str]  # one sentence, or two to be compared
Tokens = tuple[Tensor, Tensor, Tensor]  # ids, segments, real


@dataclass(frozen=True, eq=False)
class Part:
    """Reviews as text and as numbers.

    ids: int64 (N, T) with [CLS] and [SEP], padding behind.
    labels: int64 (N,), 0 or 1: of one sentence, whether it is kind; of two, which is the kinder.
    shares: float32 (N,), between 0 and 1: how much the readers' ratings speak for label 1.
    """

    texts: tuple[Review, ...]
    ids: Tensor
    labels: Tensor
    shares: Tensor

    def __len__(self) -> int:
        return len(self.texts)

    def batches(self, batch_size: int, seed: int = 0, *, soft: bool = False) -> "ReviewBatches":
        """Batches of reviews of like length for `train.fit`, with labels or, `soft`, shares."""
        # One more than the label, since a 0 would be taken for padding.
        marks = (self.shares if soft else self.labels).unsqueeze(1) + 1  # (N,) -> (N, 1)
        return ReviewBatches(self.ids, marks, batch_size=batch_size, seed=seed)


@dataclass(frozen=True, eq=False)
class Task:
    """`validation` serves to choose by, `test` only to report.

    `development` is both that is not test, for a last training run when nothing is chosen any more.
    """

    train: Part
    validation: Part
    test: Part

    @property
    def development(self) -> Part:
        parts = self.train, self.validation
        ids = join_rows(*(part.ids for part in parts))
        labels = torch.cat([part.labels for part in parts])
        shares = torch.cat([part.shares for part in parts])
        return Part(self.train.texts + self.validation.texts, ids, labels, shares)


class ReviewBatches(SentenceBatches):
    """Batches (ids, segments, real, labels or shares), cut to the longest review of each."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """The batches of one epoch from number `start` on: this process's part of each."""
        for ids, marks in super().epoch(epoch, start):
            yield *split_tokens(ids), marks.squeeze(1) - 1  # (B, 1) -> (B,)

    def to(self, device: torch.device) -> "ReviewBatches":
        """The same batches, cut on `device`."""
        tensors = (tensor.to(device) for tensor in self.tensors)
        return ReviewBatches(*tensors, batch_size=self.batch_size, seed=self.seed)


@cache
def wordpiece() -> "tokenizers.Tokenizer":
    """MiniLM's tokenizer as published, but for cutting and padding, which it would do to 128."""
    from tokenizers import Tokenizer  # needed by these tasks alone

    tokenizer = Tokenizer.from_file(str(pretrained.minilm() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(texts: Sequence[Review]) -> Tensor:
    """Sentences, or pairs of them, as a reader types them -> int64 (B, T), padding behind."""
    return pad([encoding.ids for encoding in wordpiece().encode_batch(list(texts))])


def split_tokens(ids: Tensor) -> Tokens:
    """What BERT reads beside the ids (B, T): segments (B, T) int64 and real (B, T) bool.

    Segment 0 is [CLS] A [SEP] and the padding, segment 1 is B [SEP].
    """
    real = ids != PAD
    ends = ids == SEP
    before = ends.cumsum(1) - ends.long()  # how many [SEP] stand before each token
    return ids, before.clamp(max=1) * real, real


@cache
def sentiment(validation: int = 1_000, seed: int = 0) -> Task:
    """Kind (1) or unkind (0): each sentence with a rating other than 0, alone.

    The test part is `data.load("movie_reviews")`'s 2,000. Kept in memory.

    Args:
        validation: sentences taken out of training, half of them kind; an even number.

    Raises:
        ValueError: `validation` is odd, below 2 or above 4,000.
    """
    reviews = data.load("movie_reviews")
    parts = {}
    for name, rows in _rows(reviews, validation, seed).items():
        texts = tuple(reviews.texts[row] for row in rows.tolist())
        shares = (SHARPNESS * reviews.ratings[rows]).sigmoid()
        parts[name] = Part(texts, encode(texts), reviews.positive[rows].long(), shares)
    return Task(**parts)


@cache
def kinder(validation: int = 1_000, seed: int = 0) -> Task:
    """Which of two sentences is the kinder one, 0 the first or 1 the second, half of either.

    Their ratings differ by at least `APART`. No sentence is in two parts, no pair comes twice;
    each part has about as many pairs as `sentiment` has sentences. Kept in memory.

    Raises:
        ValueError: as for `sentiment`.
    """
    reviews = data.load("movie_reviews")
    parts = {}
    for number, (name, rows) in enumerate(_rows(reviews, validation, seed).items()):
        generator = runtime.generator_for(seed, number)
        pairs, labels = _compare(reviews.ratings[rows], generator)
        texts = tuple((reviews.texts[a], reviews.texts[b]) for a, b in rows[pairs].tolist())
        first, second = reviews.ratings[rows[pairs]].unbind(1)  # (M, 2) -> (M,) each
        shares = (SHARPNESS * (second - first)).sigmoid()
        parts[name] = Part(texts, encode(texts), labels, shares)
    return Task(**parts)


def _rows(reviews: data.Reviews, validation: int, seed: int) -> dict[str, Tensor]:
    """The line numbers of each part, in the order of the data."""
    if validation % 2 or not 2 <= validation <= 4_000:
        raise ValueError(f"validation is {validation}; allowed are even numbers from 2 to 4000")
    free = ~reviews.test & (reviews.ratings != 0)
    order = torch.randperm(len(free), generator=runtime.generator_for(seed))
    kinds = (reviews.positive, ~reviews.positive)
    chosen = torch.cat([order[(free & kind)[order]][: validation // 2] for kind in kinds])
    # The two sentences that occur twice must not be on both sides.
    held_out = {reviews.texts[row] for row in chosen.tolist()}
    is_held_out = torch.tensor([text in held_out for text in reviews.texts]) & free
    parts = {"train": free & ~is_held_out, "validation": is_held_out, "test": reviews.test}
    return {name: rows.nonzero()[:, 0] for name, rows in parts.items()}


def _compare(ratings: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs (M, 2) of indices of `ratings` (N,), and labels (M,); M is N or one less."""
    count = len(ratings) // 2 * 2
    order = torch.randperm(len(ratings), generator=generator)
    # Each with the next one, then each with the next but one: no pair twice.
    pairs = torch.cat([torch.stack([order, order.roll(-shift)], 1) for shift in (1, 2, 3)])
    differences = ratings[pairs[:, 1]] - ratings[pairs[:, 0]]
    pairs = pairs[differences.abs() >= APART][:count]  # (M, 2)
    labels = torch.randperm(len(pairs), generator=generator) % 2
    wrong = (ratings[pairs[:, 1]] > ratings[pairs[:, 0]]).long() != labels
    return torch.where(wrong.unsqueeze(1), pairs.flip(1), pairs), labels


class BagOfEmbeddings(nn.Module):
    """A linear classifier of the mean vector of each segment's tokens and pairs of neighbours.

    Word order counts for neighbours alone, so it is as fast as it is simple.

    Source: Joulin et al. 2017, Bag of Tricks for Efficient Text Classification (FastText).
    """

    def __init__(self, vocabulary_size: int, width: int = 64, classes: int = 2):
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size + BUCKETS, width)
        self.classifier = nn.Linear(2 * width, classes)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, ids: Tensor, segments: Tensor, real: Tensor) -> Tensor:
        """ids, segments, real (B, T) -> logits (B, classes)."""
        bigrams = self.vocabulary_size + (ids[:, :-1] * 7919 + ids[:, 1:]) % BUCKETS  # (B, T - 1)
        vectors = self.embedding(torch.cat([ids, bigrams], dim=1))  # (B, 2T - 1, width)
        both = torch.cat([segments, segments[:, 1:]], dim=1)  # a pair belongs to its second token
        counts = torch.cat([real, real[:, 1:]], dim=1)
        member = F.one_hot(both, 2) * counts.unsqueeze(2)  # (B, 2T - 1, 2)
        share = member / member.sum(1, keepdim=True).clamp(min=1)  # an empty segment gives zeros
        means = share.to(vectors.dtype).mT @ vectors  # (B, 2, width)
        return self.classifier(means.flatten(1))  # (B, 2 * width) -> (B, classes)


def review_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Mean cross entropy of `model(ids, segments, real)` (B, classes) against the labels."""
    *tokens, labels = batch
    return F.cross_entropy(model(*tokens), labels)


def soft_review_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """`review_loss` with shares (B,) in place of labels: a lukewarm review counts as lukewarm."""
    *tokens, shares = batch
    return F.cross_entropy(model(*tokens), torch.stack((1 - shares, shares), dim=1))


@torch.no_grad()
def predict(
    model: nn.Module, ids: Tensor, *, batch_size: int = 100, precision: str = "auto"
) -> Tensor:
    """The logits of `model(ids, segments, real)` in evaluation mode, batches of like length.

    Args:
        ids: int64 (N, T).

    Returns:
        float32 (N, classes) on the CPU, in the order of `ids`.
    """
    device = next(model.parameters()).device
    dtype = runtime.resolve_precision(precision, device)
    was_training = model.training
    model.eval()
    lengths = (ids != PAD).sum(1)
    order = lengths.argsort()
    outputs = []
    with runtime.autocast(device, dtype):
        for rows in order.split(batch_size):
            tokens = split_tokens(ids[rows, : lengths[rows].max()].to(device))
            outputs.append(model(*tokens).float().cpu())
    model.train(was_training)
    return torch.cat(outputs)[order.argsort()]


def tfidf_svm(train_texts: Sequence[str], labels: Tensor, test_texts: Sequence[str]) -> Tensor:
    """The usual bar: TF-IDF of words and pairs of words, and a linear SVM, by scikit-learn.

    Args:
        labels: int64 (N,) of `train_texts`.

    Returns:
        The classes of `test_texts`, int64 (M,).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # needed by this rival alone
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    rival = make_pipeline(words, LinearSVC(random_state=0))
    rival.fit(list(train_texts), labels.numpy())
    return torch.from_numpy(rival.predict(list(test_texts)))


def wilson_interval(right: int, count: int, deviations: float = 1.96) -> tuple[float, float]:
    """Where the true share lies if `right` of `count` were seen; 1.96 deviations mean 95 %.

    Unlike the usual +- it stays between 0 and 1 and has a width at 0 and at `count`.

    Raises:
        ValueError: `count` below 1, or `right` not in 0 .. `count`.

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if count < 1:
        raise ValueError(f"count is {count}; allowed are whole numbers from 1")
    if not 0 <= right <= count:
        raise ValueError(f"right is {right}; allowed are 0 to count, {count}")
    share, square = right / count, deviations**2 / count
    centre = (share + square / 2) / (1 + square)
    spread = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def mcnemar(first: Tensor, second: Tensor) -> float:
    """How likely two equally good classifiers would differ as much as these, or more: p.

    Only items count that one of them has right and the other wrong; of equally good ones, each
    would win such an item like a coin. Two-sided and exact.

    Args:
        first, second: bool (N,), whether each has the item right.

    Raises:
        ValueError: other shapes or dtypes.

    Source: McNemar 1947, Note on the sampling error of the difference between correlated
    proportions; the exact form is the binomial test.
    """
    if first.dtype != torch.bool or second.dtype != torch.bool or first.shape != second.shape:
        found = [f"{t.dtype} {tuple(t.shape)}" for t in (first, second)]
        raise ValueError(f"first and second are {' and '.join(found)}; allowed is bool (N,) twice")
    wins = int((first & ~second).sum()), int((second & ~first).sum())
    tosses = sum(wins)
    tail = sum(math.comb(tosses, heads) for heads in range(min(wins) + 1))
    return min(1.0, 2 * tail / 2**tosses)
