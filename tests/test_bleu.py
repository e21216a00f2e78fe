"""BLEU by its definition; parity/ holds sacrebleu's numbers."""

import math

import pytest

from course_lib import bleu


def test_only_ascii_punctuation_is_taken_off_and_numbers_stay_whole():
    assert bleu.tokenise_13a("l'eau, 1,000.5 (ok)!") == [
        "l'eau",
        ",",
        "1,000.5",
        "(",
        "ok",
        ")",
        "!",
    ]
    assert bleu.tokenise_13a("«oui…» 9-5 a-b") == ["«oui…»", "9", "-", "5", "a-b"]


def test_a_repeated_word_counts_as_often_as_in_the_reference():
    statistics = bleu.sentence_statistics("the the the the", "the cat the dog")
    assert statistics == [4, 4, 2, 0, 0, 0, 4, 3, 2, 1]


def test_a_perfect_translation_scores_100_and_one_without_a_common_word_0():
    text = ["a b c d e", "f g h i"]
    assert bleu.bleu(text, text) == pytest.approx(100)
    assert bleu.bleu(["x y z w v", ""], text) == 0
    assert bleu.bleu(["", ""], text) == 0


def test_what_is_too_short_is_punished_and_what_is_too_long_by_its_precision_alone():
    assert bleu.bleu(["a b c d"], ["a b c d e f g h"]) == pytest.approx(100 * math.exp(-1))
    precisions = [6 / 8, 5 / 7, 4 / 6, 3 / 5]
    expected = 100 * math.exp(sum(map(math.log, precisions)) / 4)
    assert bleu.bleu(["a b c d e f x y"], ["a b c d e f"]) == pytest.approx(expected)


def test_orders_without_a_match_count_a_half_then_a_quarter():
    precisions = [3 / 4, 1 / 3, (1 / 2) / 2, (1 / 4) / 1]
    expected = 100 * math.exp(sum(map(math.log, precisions)) / 4)
    assert bleu.bleu(["a b x c"], ["a b c y"]) == pytest.approx(expected)


def test_a_corpus_is_not_the_mean_of_its_sentences():
    hypotheses, references = ["a b c d", "x b c d e"], ["a b c d", "a b c d e"]
    single = [bleu.bleu([h], [r]) for h, r in zip(hypotheses, references, strict=True)]
    sums = [8 / 9, 6 / 7, 4 / 5, 2 / 3]
    corpus = 100 * math.exp(sum(map(math.log, sums)) / 4)
    assert bleu.bleu(hypotheses, references) == pytest.approx(corpus)
    assert abs(corpus - sum(single) / 2) > 1


HYPOTHESES = ["a b c d", "x b c d e", "a b d d e f", "q", ""] * 20
REFERENCES = ["a b c d", "a b c d e", "a b c d e f", "a b", "c"] * 20


def test_the_interval_holds_the_score_and_follows_from_the_seed():
    first = bleu.bleu_interval(HYPOTHESES, REFERENCES, draws=300)
    assert first.low < first.score < first.high
    assert first.score == pytest.approx(bleu.bleu(HYPOTHESES, REFERENCES))
    assert first == bleu.bleu_interval(HYPOTHESES, REFERENCES, draws=300)
    assert first != bleu.bleu_interval(HYPOTHESES, REFERENCES, draws=300, seed=1)


def test_more_sentences_and_lower_levels_narrow_it():
    def width(copies, **options):
        interval = bleu.bleu_interval(HYPOTHESES * copies, REFERENCES * copies, **options)
        return interval.high - interval.low

    assert width(4) == pytest.approx(width(1) / 2, rel=0.15)
    assert width(1, level=0.5) < 0.5 * width(1)


def test_without_variation_there_is_none():
    interval = bleu.bleu_interval(["a b c d x"] * 7, ["a b c d e"] * 7)
    assert interval.low == pytest.approx(interval.high)


REFUSALS = {
    "hypotheses is empty": lambda: bleu.bleu([], []),
    "references are 2; allowed is one for each of the 1": lambda: bleu.bleu(["a"], ["a", "b"]),
    "draws is 0": lambda: bleu.bleu_interval(["a"], ["a"], draws=0),
    "level is 95": lambda: bleu.bleu_interval(["a"], ["a"], level=95),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_nonsense_is_refused(said):
    with pytest.raises(ValueError, match=said):
        REFUSALS[said]()
