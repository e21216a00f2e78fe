"""BLEU by hand against sacrebleu."""

import random

import pytest
import sacrebleu
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from course_lib import bleu, data

CHARACTERS = "abcABC019 .,-'!?&;\"<>/()[]{}~^_`#%*+=|\\@$:«»…é\n\t  "
PIECES = ("&quot;", "&amp;lt;", "<skipped>", "-\n", "1,000.5", "9-5", "-3", "...", "a.b", "é.")


def test_tokens_of_random_texts():
    draw, theirs = random.Random(0), Tokenizer13a()
    for _ in range(10_000):
        pieces = [draw.choice(CHARACTERS) for _ in range(draw.randint(0, 12))]
        pieces.insert(draw.randint(0, len(pieces)), draw.choice(PIECES))
        text = "".join(pieces)
        # Their metric cuts blanks off the end before it tokenises.
        assert bleu.tokenise_13a(text) == theirs(text.rstrip()).split(), repr(text)


def corpus(draw):
    """Few words and short sentences, some of them empty: orders without matches or n-grams."""
    words = "abcdef.,1"[: draw.randint(2, 9)]
    size = draw.randint(1, 6)

    def sentence():
        return " ".join(draw.choice(words) for _ in range(draw.choice([0, 1, 2, 5, 9])))

    return [sentence() for _ in range(size)], [sentence() for _ in range(size)]


def test_scores_of_random_corpora():
    draw, seen = random.Random(1), set()
    for _ in range(1000):
        hypotheses, references = corpus(draw)
        theirs = sacrebleu.corpus_bleu(hypotheses, [references])
        assert bleu.bleu(hypotheses, references) == pytest.approx(theirs.score, abs=1e-9)
        smoothed = theirs.score > 0 and 0 in theirs.counts
        seen.add((theirs.score > 0, smoothed, theirs.sys_len < theirs.ref_len, 0 in theirs.totals))
    # Smoothed or not, too short or not, with and without a score, with orders that do not occur.
    assert len(seen) >= 7


def test_scores_of_real_lines():
    pairs = data.load("english_french")
    for hypotheses in (pairs.english, pairs.french[1:] + pairs.french[:1], pairs.french):
        theirs = sacrebleu.corpus_bleu(hypotheses, [pairs.french]).score
        assert bleu.bleu(hypotheses, pairs.french) == pytest.approx(theirs, abs=1e-9)
    # A translation that is right but for its last word.
    cut = [" ".join(line.split()[:-1]) for line in pairs.french]
    theirs = sacrebleu.corpus_bleu(cut, [pairs.french]).score
    assert bleu.bleu(cut, pairs.french) == pytest.approx(theirs, abs=1e-9)
    assert 50 < theirs < 90


def test_the_interval_is_that_of_their_bootstrap():
    pairs = data.load("english_french")
    draw = random.Random(2)
    references = list(pairs.french[-500:])
    hypotheses = [" ".join(w for w in line.split() if draw.random() > 0.2) for line in references]
    ours = bleu.bleu_interval(hypotheses, references, draws=2000)
    theirs = sacrebleu.BLEU().corpus_score(hypotheses, [references], n_bootstrap=1000)
    assert ours.score == pytest.approx(theirs.score, abs=1e-9)
    half = (ours.high - ours.low) / 2
    assert half == pytest.approx(theirs._ci, rel=0.12)
