"""BLEU: how much of a translation's words, pairs, triples and fours the reference has, too.

Equal to sacrebleu's `corpus_bleu` with its defaults: one reference a sentence, "13a" tokens,
exponential smoothing. Texts are detokenised, as a reader would write them; scores are 0 to 100.

Source: Papineni et al. 2002; Post 2018, "A call for clarity in reporting BLEU scores".
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ORDER = 4  # the longest n-grams that are counted
_MARKS = re.escape("".join(set(string.punctuation) - set("',-.")))
# What each pattern finds is set apart by blanks, one pattern after the other.
_APART = (
    (re.compile(f"([{_MARKS}])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # dots and commas stay inside numbers only
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


class Interval(NamedTuple):
    """A score with the bounds between which most resampled scores lie."""

    score: float
    low: float
    high: float


def tokenise_13a(text: str) -> list[str]:
    """The tokens of WMT's script mteval-v13a: only ASCII punctuation is taken off the words."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, mark in _ENTITIES:
        text = text.replace(entity, mark)
    text = f" {text} "
    for pattern, apart in _APART:
        text = pattern.sub(apart, text)
    return text.split()


def sentence_statistics(hypothesis: str, reference: str) -> list[int]:
    """What BLEU needs of one pair: two lengths, then for n = 1 to 4 how many n-grams the reference
    has, too (each counted at most as often as there), then how many there are."""
    ours, theirs = tokenise_13a(hypothesis), tokenise_13a(reference)
    matches, totals = [], []
    for n in range(1, ORDER + 1):
        found = _ngrams(ours, n)
        matches.append((found & _ngrams(theirs, n)).total())  # & takes the smaller count: clipping
        totals.append(found.total())
    return [len(ours), len(theirs), *matches, *totals]


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of a corpus, 0 to 100: n-gram counts are summed before they are divided.

    Raises:
        ValueError: no sentences, or not as many references as hypotheses.
    """
    return _scores(_statistics(hypotheses, references).sum(0, keepdim=True)).item()


def bleu_interval(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """BLEU, and bounds from scoring `draws` corpora of sentences drawn with replacement.

    Says how far another test set of the same kind could give another score; it says nothing of
    another training run.

    Source: Koehn 2004, "Statistical significance tests for machine translation evaluation".
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; allowed are whole numbers from 1")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; allowed are shares 0 < level < 1")
    statistics = _statistics(hypotheses, references)  # (N, 10)
    count = len(statistics)
    generator = torch.Generator().manual_seed(seed)
    sums = []
    for _ in range(draws):
        drawn = torch.randint(count, (count,), generator=generator)
        sums.append(drawn.bincount(minlength=count).to(statistics.dtype) @ statistics)
    scores = _scores(torch.stack(sums))  # (draws, 10) -> (draws,)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=scores.dtype)
    low, high = scores.quantile(tails).tolist()
    return Interval(_scores(statistics.sum(0, keepdim=True)).item(), low, high)


def _scores(sums: Tensor) -> Tensor:
    """Summed statistics (corpora, 10) -> BLEU (corpora,)."""
    ours, theirs = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + ORDER], sums[:, 2 + ORDER :]
    # The first order without a match counts as half an n-gram, the next as a quarter, and so on.
    missing = (matches == 0) & (totals > 0)
    smoothed = torch.where(missing, 0.5 ** missing.cumsum(1), matches)  # (corpora, 4)
    log_precisions = (smoothed / totals.clamp(min=1)).log()
    brevity = (1 - theirs / ours.clamp(min=1)).clamp(max=0)  # its log; 0 if long enough
    scores = 100 * (brevity + log_precisions.mean(1)).exp()
    return scores.where((matches > 0).any(1), 0.0)


def _statistics(hypotheses: Sequence[str], references: Sequence[str]) -> Tensor:
    """(N, 10) float64: `sentence_statistics` of each pair."""
    if len(hypotheses) != len(references):
        raise ValueError(
            f"references are {len(references)}; allowed is one for each of the "
            f"{len(hypotheses)} hypotheses"
        )
    if not len(hypotheses):
        raise ValueError("hypotheses is empty; at least one is needed")
    pairs = zip(hypotheses, references, strict=True)
    return torch.tensor([sentence_statistics(*pair) for pair in pairs], dtype=torch.float64)


def _ngrams(tokens: list[str], n: int) -> Counter:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))
