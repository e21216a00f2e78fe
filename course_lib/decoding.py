"""From a translator to a translation: greedy and beam search, many sentences at once.

Both work on any model with `start(source) -> state` and `step(state, tokens) -> (logits, state)`,
where `state.rows(index)` picks sentences: see `course_lib.seq2seq`. They switch it to evaluation
mode while they run, and drop sentences that are finished. PAD, START and UNKNOWN are never
chosen: the next best word is a better guess than none.

The score of a translation is the logarithm of its probability, END included, divided by a length
rule: without one every further word lowers the score, so that short translations win.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_lib.text import END, PAD, START, UNKNOWN

AVERAGE = "average"


class Hypotheses(NamedTuple):
    """One translation for each sentence: ids without START and END, and their scores (B,)."""

    ids: list[list[int]]
    scores: Tensor


def length_divisor(length: int, length_penalty: float | str) -> float:
    """What the log-probability of `length` tokens, END included, is divided by.

    Args:
        length_penalty: 0 for no rule, alpha for ((5 + length) / 6) ** alpha, or "average" for the
            length itself.

    Source: Wu et al. 2016, "Google's neural machine translation system", equation 14.
    """
    if length_penalty == AVERAGE:
        return float(length)
    if isinstance(length_penalty, str) or not length_penalty >= 0:
        raise ValueError(
            f"length_penalty is {length_penalty!r}; allowed are numbers from 0 and {AVERAGE!r}"
        )
    return ((5 + length) / 6) ** length_penalty


@torch.no_grad()
def greedy(
    model: nn.Module, source: Tensor, max_length: int, *, length_penalty: float | str = 0.0
) -> Hypotheses:
    """The likeliest word, again and again, until it is END.

    Args:
        source: ids (B, S); a row of padding is a sentence without words, and is translated, too.
        max_length: tokens at most, END included; longer translations are cut off.
        length_penalty: of the scores, see `length_divisor`; the words do not depend on it.
    """
    with _decoding(model, source, max_length, length_penalty) as source:
        ids = torch.full((len(source), max_length), PAD)  # (B, max_length)
        log_probabilities = torch.zeros(len(source))
        state = model.start(source)
        tokens = source.new_full((len(source),), START)
        alive = torch.arange(len(source))  # the rows of `state` and `tokens`
        for position in range(max_length):
            scores, state = _next_scores(model, state, tokens)  # (alive, V)
            best, tokens = scores.max(1)
            ids[alive, position] = tokens.cpu()
            log_probabilities[alive] += best.cpu()
            going = (tokens != END).nonzero()[:, 0]
            if len(going) < len(alive):
                if not len(going):
                    break
                alive, tokens, state = alive[going.cpu()], tokens[going], state.rows(going)
    lengths = (ids != PAD).sum(1).tolist()
    divisors = torch.tensor([length_divisor(length, length_penalty) for length in lengths])
    return Hypotheses([_words(row) for row in ids.tolist()], log_probabilities / divisors)


@torch.no_grad()
def beam_search(
    model: nn.Module,
    source: Tensor,
    width: int,
    max_length: int,
    *,
    length_penalty: float | str = 0.0,
) -> Hypotheses:
    """The best-scored translation that is found by keeping the `width` likeliest beginnings.

    A sentence is finished when `width` of its translations are, or when no beginning can lead to a
    better one. The greedy translation takes part at the end: no result scores below it.

    Args:
        source, max_length: as for `greedy`, which a width of 1 equals.
        length_penalty: what finished translations are compared by, see `length_divisor`.
    """
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"width is {width!r}; allowed are whole numbers from 1")
    first = greedy(model, source, max_length, length_penalty=length_penalty)
    if width == 1:
        return first
    found, scores = list(first.ids), first.scores.tolist()
    with _decoding(model, source, max_length, length_penalty) as source:
        beams = _Beams(model, source, width)
        for length in range(1, max_length + 1):
            if not beams.sentences:
                break
            divisor = length_divisor(length, length_penalty)
            cut_off = length == max_length
            for sentence, ids, log_probability in beams.extend(cut_off):
                if log_probability / divisor > scores[sentence]:
                    found[sentence], scores[sentence] = ids, log_probability / divisor
            # A log-probability only falls; divided by the largest divisor it is the best hope.
            beams.drop(scores, length_divisor(max_length, length_penalty))
    return Hypotheses(found, torch.tensor(scores))


class _Beams:
    """The beginnings of translations: row i * width + k is number k of the i-th sentence left."""

    def __init__(self, model: nn.Module, source: Tensor, width: int):
        self.model, self.width = model, width
        self.sentences = list(range(len(source)))  # not finished yet
        self.finished = [0] * len(source)  # translations of each sentence
        rows = torch.arange(len(source), device=source.device).repeat_interleave(width)
        self.state = model.start(source).rows(rows)
        self.tokens = source.new_full((len(rows),), START)
        self.ids = source.new_zeros((len(rows), 0))  # (rows, length so far)
        # At first all beginnings of a sentence are equal: only one of them may be continued.
        self.scores = torch.full((len(source), width), -torch.inf, device=source.device)
        self.scores[:, 0] = 0

    def extend(self, cut_off: bool) -> Iterator[tuple[int, list[int], float]]:
        """Add a token; gives translations that are now finished: sentence, ids, log-probability.

        Args:
            cut_off: all are finished then, END or not.
        """
        width = self.width
        scores, self.state = _next_scores(self.model, self.state, self.tokens)  # (rows, V)
        total = self.scores[:, :, None] + scores.view(len(self.sentences), width, -1)
        # Each beginning can end in one way only: twice the width leaves `width` that go on.
        best, index = total.flatten(1).topk(2 * width)  # (sentences, 2K)
        token = index % total.shape[2]
        row = index // total.shape[2] + width * torch.arange(len(best), device=best.device)[:, None]
        ended = (token == END) | cut_off
        # To end, a beginning must be among the `width` best.
        ending = ended[:, :width] & best[:, :width].isfinite()
        i, k = ending.nonzero(as_tuple=True)
        ids = torch.cat((self.ids[row[i, k]], token[i, k, None]), dim=1).tolist()
        for place, words, score in zip(i.tolist(), ids, best[i, k].tolist(), strict=True):
            self.finished[self.sentences[place]] += 1
            yield self.sentences[place], _words(words), score
        going = best.masked_fill(ended, -torch.inf)
        self.scores, kept = going.topk(width)  # (sentences, K)
        row, self.tokens = row.gather(1, kept).flatten(), token.gather(1, kept).flatten()
        self.ids = torch.cat((self.ids[row], self.tokens[:, None]), dim=1)
        self.state = self.state.rows(row)

    def drop(self, scores: list[float], divisor: float) -> None:
        """Forget sentences that have `width` translations or cannot beat their `scores`."""
        hopes = (self.scores[:, 0] / divisor).tolist()
        left = [
            i
            for i, sentence in enumerate(self.sentences)
            if self.finished[sentence] < self.width and hopes[i] > scores[sentence]
        ]
        if len(left) == len(self.sentences):
            return
        self.sentences = [self.sentences[i] for i in left]
        keep = torch.tensor(left, dtype=torch.int64, device=self.scores.device)
        self.scores = self.scores[keep]
        rows = (keep[:, None] * self.width + torch.arange(self.width, device=keep.device)).flatten()
        self.ids, self.tokens = self.ids[rows], self.tokens[rows]
        self.state = self.state.rows(rows)


def _next_scores(model: nn.Module, state, tokens: Tensor) -> tuple[Tensor, object]:
    """Log-probabilities (rows, V) in float32 of the next token, and the new state."""
    logits, state = model.step(state, tokens)
    scores = logits.float().log_softmax(1)
    scores[:, [PAD, START, UNKNOWN]] = -torch.inf
    return scores, state


def _words(ids: list[int]) -> list[int]:
    """Without END and what follows it."""
    return [number for number in ids if number not in (END, PAD)]


@contextmanager
def _decoding(model: nn.Module, source: Tensor, max_length: int, length_penalty: float | str):
    """Checks, evaluation mode while inside, and the source on the model's device."""
    if source.ndim != 2 or 0 in source.shape:
        raise ValueError(f"source has shape {tuple(source.shape)}; allowed is (B, S), both from 1")
    if not isinstance(max_length, int) or max_length < 1:
        raise ValueError(f"max_length is {max_length!r}; allowed are whole numbers from 1")
    length_divisor(1, length_penalty)  # raises if it cannot be used
    training = model.training
    model.eval()
    try:
        yield source.to(next(model.parameters()).device)
    finally:
        model.train(training)
