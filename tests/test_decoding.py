"""Greedy and beam search on models whose probabilities are known, and on translators."""

from itertools import product

import pytest
import torch
from torch import nn

from course_lib import decoding, seq2seq
from course_lib.attention import TransformerConfig
from course_lib.text import END, PAD, START, UNKNOWN

A, B, C = 4, 5, 6
RULES = (0.0, 0.6, 1.0, "average")


class Table(nn.Module):
    """The next word depends on the words so far, as a table says; the state is those words."""

    def __init__(self, table, size=7):
        super().__init__()
        self.table, self.size = table, size
        self.place = nn.Parameter(torch.zeros(1))  # tells the device
        self.steps = []

    def start(self, source):
        return Prefixes(source[:, :0])

    def step(self, state, tokens):
        assert not self.training
        self.steps.append(len(tokens))
        prefixes = torch.cat((state.words, tokens[:, None]), dim=1)
        logits = torch.full((len(tokens), self.size), -torch.inf)
        for row, prefix in enumerate(prefixes.tolist()):
            for token, probability in self.table.get(tuple(prefix[1:]), {END: 1.0}).items():
                logits[row, token] = torch.tensor(probability).log()
        return logits, Prefixes(prefixes)


class Prefixes:
    def __init__(self, words):
        self.words = words

    def rows(self, index):
        return Prefixes(self.words[index])


ONE = torch.tensor([[4]])
# Greedy takes A and then finds nothing good; B C is likelier as a whole.
GARDEN = {
    (): {A: 0.6, B: 0.4},
    (A,): {A: 0.35, B: 0.35, C: 0.3},
    (B,): {C: 0.9, A: 0.1},
    (A, A): {END: 1.0},
    (B, C): {END: 1.0},
}
# To stop at once is likelier than each longer sentence, but not word for word.
SHORT = {(): {END: 0.4, A: 0.6}, (A,): {A: 0.6, B: 0.4}, (A, A): {A: 0.9, END: 0.1}}


def log(*probabilities):
    return torch.tensor(probabilities).log().sum()


def both(table, width, max_length, **options):
    """What greedy and beam search find."""
    return (
        decoding.greedy(Table(table), ONE, max_length, **options),
        decoding.beam_search(Table(table), ONE, width, max_length, **options),
    )


def test_greedy_takes_the_likeliest_word_each_time():
    found = decoding.greedy(Table(GARDEN), ONE, 9)
    assert found.ids == [[A, A]]
    torch.testing.assert_close(found.scores, log(0.6, 0.35)[None])


def test_a_beam_finds_what_greedy_misses():
    found = decoding.beam_search(Table(GARDEN), ONE, 2, 9)
    assert found.ids == [[B, C]]
    torch.testing.assert_close(found.scores, log(0.4, 0.9)[None])


def test_without_a_length_rule_short_translations_win():
    table = {**SHORT, (A, A, A): {END: 1.0}}
    assert decoding.greedy(Table(table), ONE, 9).ids == [[A, A, A]]
    assert decoding.beam_search(Table(table), ONE, 3, 9).ids == [[]]
    found = decoding.beam_search(Table(table), ONE, 3, 9, length_penalty="average")
    assert found.ids == [[A, A, A]]
    torch.testing.assert_close(found.scores, log(0.6, 0.6, 0.9)[None] / 4)
    wu = decoding.beam_search(Table(table), ONE, 3, 9, length_penalty=1.0)
    torch.testing.assert_close(wu.scores, log(0.6, 0.6, 0.9)[None] / (9 / 6))


def test_each_beginning_goes_on_with_its_own_word_when_another_has_ended():
    table = {(): {A: 0.5, B: 0.4, C: 0.1}, (A,): {END: 0.9, C: 0.1}, (B,): {C: 0.9, END: 0.1}}
    found = decoding.beam_search(Table(table), ONE, 2, 9, length_penalty="average")
    assert found.ids == [[B, C]]
    torch.testing.assert_close(found.scores, log(0.4, 0.9)[None] / 3)


def test_an_end_outside_of_the_beam_does_not_count():
    table = {(): {A: 0.5, B: 0.3, END: 0.2}, (A,): {A: 0.34, B: 0.33, END: 0.33}}
    table[B,] = {A: 0.5, C: 0.5}
    assert decoding.beam_search(Table(table), ONE, 2, 9).ids == [[A, A]]
    assert decoding.beam_search(Table(table), ONE, 3, 9).ids == [[]]


def test_a_sentence_is_finished_when_as_many_translations_as_beams_are():
    model = Table({(A,) * n: {END: 0.55, A: 0.45} for n in range(60)})
    decoding.beam_search(model, ONE, 2, 50, length_penalty="average")
    assert model.steps == [1, 2, 2]  # one step of greedy search, two of two beams


def test_wus_rule():
    assert decoding.length_divisor(7, 0.0) == 1
    assert decoding.length_divisor(1, 0.6) == 1
    assert decoding.length_divisor(13, 1.0) == 3
    assert decoding.length_divisor(13, 0.5) == pytest.approx(3**0.5)
    assert decoding.length_divisor(13, "average") == 13


def test_padding_start_and_unknown_are_never_chosen():
    table = {(): {PAD: 0.5, START: 0.3, A: 0.2}, (A,): {UNKNOWN: 0.6, END: 0.4}}
    for found in both(table, 3, 9):
        assert found.ids == [[A]]
        torch.testing.assert_close(found.scores, log(0.2, 0.4)[None])


def test_what_does_not_end_is_cut_off():
    endless = {(A,) * n: {A: 0.9, B: 0.1} for n in range(9)}
    for rule in RULES:
        divisor = decoding.length_divisor(3, rule)
        for found in both(endless, 2, 3, length_penalty=rule):
            assert found.ids == [[A, A, A]]
            torch.testing.assert_close(found.scores, log(0.9, 0.9, 0.9)[None] / divisor)


def test_an_end_at_the_last_step_is_counted_and_not_returned():
    table = {(): {A: 1.0}, (A,): {END: 0.5, B: 0.3, C: 0.2}}
    for found in both(table, 2, 2):
        assert found.ids == [[A]]
        torch.testing.assert_close(found.scores, log(0.5)[None])


def test_it_stops_when_all_have_ended_and_drops_those_that_have():
    class ByFirst(Table):
        """Sentence n ends after n words."""

        def start(self, source):
            return Prefixes(source)

        def step(self, state, tokens):
            assert not self.training
            self.steps.append(len(tokens))
            left = state.words[:, 0]
            logits = torch.zeros(len(tokens), self.size)
            logits[torch.arange(len(tokens)), torch.where(left > 0, A, END)] = 50.0
            return logits, Prefixes(state.words - 1)

    model = ByFirst({})
    found = decoding.greedy(model, torch.tensor([[3], [1], [0]]), 100)
    assert found.ids == [[A, A, A], [A], []]
    assert model.steps == [3, 2, 1, 1]
    model.steps.clear()
    assert decoding.beam_search(model, torch.tensor([[3], [1], [0]]), 2, 100).ids == found.ids
    assert len(model.steps) <= 4 + 4 and max(model.steps) == 6


def test_the_mode_of_the_model_is_kept():
    for training in (True, False):
        model = Table(GARDEN).train(training)
        decoding.beam_search(model, ONE, 2, 9)
        assert model.training == training


# --- on translators ----------------------------------------------------------------------------


def random_model(kind, sharp=3.0, seed=0):
    torch.manual_seed(seed)
    if kind == "transformer":
        model = seq2seq.TransformerTranslator(9, 7, TransformerConfig(8, 2, 1, 16, max_length=9))
    else:
        model = seq2seq.GRUTranslator(9, 7, 8, kind)
    with torch.no_grad():  # a model that has not learned anything finds all words equally likely
        model.output.weight.mul_(sharp * 4)
    return model


KINDS = ("dot", "additive", "none", "transformer")
SOURCE = torch.tensor([[4, 5, 6, 7], [8, 4, 0, 0], [5, 0, 0, 0], [0, 0, 0, 0], [7, 7, 8, 4]])


def score_of(model, source, ids, rule, max_length):
    """What the model gives `ids` when it is told them (teacher forcing)."""
    words = [*ids, END] if len(ids) < max_length else ids
    inputs = torch.tensor([[START, *words[:-1]]])
    scores = model(source[None], inputs)[0].log_softmax(1)
    total = scores[torch.arange(len(words)), words].sum()
    return (total / decoding.length_divisor(len(words), rule)).item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_scores_are_those_of_the_words_and_a_beam_is_never_worse(kind, rule):
    for seed in range(3):
        model = random_model(kind, seed=seed).eval()
        greedy = decoding.greedy(model, SOURCE, 6, length_penalty=rule)
        for width in (1, 2, 5):
            found = decoding.beam_search(model, SOURCE, width, 6, length_penalty=rule)
            for row, ids in enumerate(found.ids):
                expected = score_of(model, SOURCE[row], ids, rule, 6)
                assert found.scores[row].item() == pytest.approx(expected, abs=1e-4)
            assert (found.scores >= greedy.scores - 1e-6).all()
            if width == 1:
                assert found.ids == greedy.ids and found.scores.equal(greedy.scores)


@pytest.mark.parametrize("rule", RULES)
def test_a_beam_as_wide_as_all_sentences_finds_the_best_of_them(rule):
    """Three words and END, at most three tokens: all 40 translations can be scored one by one."""
    for seed in range(2):
        model = random_model("dot", sharp=1.0, seed=seed).eval()
        words = [ids for n in range(4) for ids in product((A, B, C), repeat=n)]
        found = decoding.beam_search(model, SOURCE, 40, 3, length_penalty=rule)
        for row, ids in enumerate(found.ids):
            scores = {ids: score_of(model, SOURCE[row], list(ids), rule, 3) for ids in words}
            assert found.scores[row].item() == pytest.approx(max(scores.values()), abs=1e-5)
            assert scores[tuple(ids)] == pytest.approx(max(scores.values()), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_is_translated_alike_alone_and_among_others(kind):
    model = random_model(kind)
    for search in (
        lambda x: decoding.greedy(model, x, 6),
        lambda x: decoding.beam_search(model, x, 3, 6, length_penalty=0.6),
    ):
        together = search(SOURCE)
        for row, words in enumerate((4, 2, 1, 1, 4)):
            alone = search(SOURCE[row : row + 1, :words])
            assert alone.ids[0] == together.ids[row]
            torch.testing.assert_close(alone.scores[0], together.scores[row])


def test_results_are_plain_and_need_no_gradient():
    found = decoding.beam_search(random_model("dot"), SOURCE, 2, 6)
    assert isinstance(found, decoding.Hypotheses) and found.scores.dtype is torch.float32
    assert all(type(number) is int for ids in found.ids for number in ids)
    assert not found.scores.requires_grad
    assert not {PAD, START, END, UNKNOWN} & {number for ids in found.ids for number in ids}


def test_sentences_beyond_what_a_transformer_has_positions_for_are_refused():
    model = random_model("transformer")
    with pytest.raises(ValueError, match="length is 10; allowed are up to 9"):
        decoding.greedy(model, torch.full((1, 10), 4), 5)
    with torch.no_grad():
        model.output.bias[END] = -1e9
    with pytest.raises(ValueError, match="length is 10; allowed are up to 9"):
        decoding.greedy(model, SOURCE, 20)
    assert len(decoding.greedy(model, SOURCE, 9).ids[0]) == 9


def test_a_gru_translates_sentences_of_any_length():
    long = torch.full((1, 300), 4)
    assert decoding.greedy(random_model("dot"), long, 5).scores.isfinite().all()


REFUSALS = {
    "width is 0; allowed": lambda: decoding.beam_search(Table(GARDEN), ONE, 0, 9),
    "max_length is 0; allowed": lambda: decoding.greedy(Table(GARDEN), ONE, 0),
    r"source has shape \(0, 4\)": lambda: decoding.greedy(Table(GARDEN), SOURCE[:0], 9),
    r"source has shape \(5, 0\)": lambda: decoding.greedy(Table(GARDEN), SOURCE[:, :0], 9),
    r"source has shape \(4,\)": lambda: decoding.greedy(Table(GARDEN), SOURCE[0], 9),
    "length_penalty is 'mean'; allowed": lambda: decoding.beam_search(
        Table(GARDEN), ONE, 2, 9, length_penalty="mean"
    ),
    "length_penalty is -1; allowed": lambda: decoding.greedy(
        Table(GARDEN), ONE, 9, length_penalty=-1
    ),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_nonsense_is_refused(said):
    with pytest.raises(ValueError, match=said):
        REFUSALS[said]()
