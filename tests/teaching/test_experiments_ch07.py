"""Chapter 07's experiments measure what their settings say, on sentences kept for that."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from course_lib import train, translations
from course_lib.teaching.experiments import ch07


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setenv("COURSE_TEST", "1")


@pytest.fixture
def calls(monkeypatch):
    """All calls of `train.fit`: (model, batches, loss, config)."""
    found, fit = [], train.fit

    def keep(*arguments, **options):
        found.append(arguments)
        return fit(*arguments, **options)

    monkeypatch.setattr(train, "fit", keep)
    return found


@pytest.fixture
def dialogue(monkeypatch):
    """A small task in the place of the whole one: numbers, which are quick to make."""
    task = translations.number_words(train=400, validation=30, test=5)
    monkeypatch.setattr(translations, "dialogue", lambda: task)
    return task


RECALL = {"kind": "GRU", "start": "usual", "length": 6, "steps": 12, "learning_rate": 0.01}


def test_a_sequence_is_a_symbol_then_noise_then_the_question(calls):
    ch07.recall(0, **RECALL)
    _, batches, _, config = calls[0]
    ids, symbols = batches[0]
    assert ids.shape == (32, 8) and ids[:, 0].equal(symbols)
    assert symbols.max() < ch07.SYMBOLS <= ids[:, 1:-1].min() and (ids[:, -1] == ch07.QUERY).all()
    assert not ids.equal(batches[1][0]) and len(batches) == config.steps == 12


def test_a_run_is_the_same_for_the_same_seed():
    first, again, other = (ch07.recall(seed, **RECALL) for seed in (0, 0, 1))
    assert first == again != other


def test_the_steps_are_those_until_the_loss_is_halved(monkeypatch):
    def learn_at(step):
        loss = [1.4] * step + [0.0] * (60 - step)
        monkeypatch.setattr(train, "fit", lambda *_: train.History(60, loss=loss))
        return ch07.recall(0, **RECALL | {"steps": 60})["steps"]

    assert learn_at(20) == 26  # the first ten whose mean is below half of ln 4 end there
    assert learn_at(60) == 60  # never


def test_the_starts_prepare_the_gates_and_the_matrix():
    orthogonal = ch07.Recaller("RNN", "orthogonal").cell.weight_hh_l0
    assert torch.allclose(orthogonal @ orthogonal.T, torch.eye(32), atol=1e-5)
    lstm = ch07.Recaller("LSTM", "keeping").cell.bias_hh_l0.view(4, 32)  # write, forget, ...
    assert lstm[0].max() < -4 and lstm[1].min() > 4 and lstm[2:].abs().max() < 1
    gru = ch07.Recaller("GRU", "keeping").cell
    state = torch.randn(1, 5, 32)
    assert torch.allclose(gru(torch.randn(5, 1, 32), state)[1], state, atol=0.15)
    assert not torch.allclose(nn.GRU(32, 32)(torch.randn(1, 5, 32), state)[1], state, atol=0.15)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "attention"])
def test_every_kind_sees_the_first_symbol(kind):
    model = ch07.Recaller(kind, "keeping" if kind in ("LSTM", "GRU") else "usual")
    ids = torch.full((2, 4), ch07.QUERY)
    ids[:, 0] = torch.tensor([0, 1])
    logits = model(ids)
    assert logits.shape == (2, ch07.SYMBOLS) and not torch.allclose(logits[0], logits[1])


def test_orders_number_the_same_words_anew():
    tokens = ("<pad>", "<start>", "<end>", "<unknown>", "the", "zoo", "ant")
    assert ch07.new_places(tokens, "frequency").tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert ch07.new_places(tokens, "alphabet").tolist() == [0, 1, 2, 3, 5, 6, 4]
    random = ch07.new_places(tokens, "random", 1)
    assert random[:4].tolist() == [0, 1, 2, 3] and sorted(random.tolist()) == list(range(7))


@pytest.mark.parametrize("order", ["alphabet", "random"])
def test_another_order_changes_ids_and_nothing_else(calls, dialogue, order):
    numbers = ch07.vocabulary_order(0, order=order, steps=3, width=8)
    assert set(numbers) == {"loss", "BLEU"}
    source = ch07.new_places(dialogue.english.tokens, order, 0)[dialogue.train.source]
    assert calls[0][1].tensors[0].equal(source) and not source.equal(dialogue.train.source)


def test_a_score_is_the_same_in_any_order(dialogue):
    class Echo(nn.Module):
        """Writes the validation targets of the task, whatever it is asked."""

        def __init__(self, places):
            super().__init__()
            self.place = nn.Parameter(torch.zeros(1))
            target = places[dialogue.validation.target]
            self.logits = 20 * nn.functional.one_hot(target, len(places)).float()

        def forward(self, source, target_in):
            return self.logits[:, 1:] + self.place

        def start(self, source):
            return State(torch.arange(len(source)), torch.ones(len(source), dtype=torch.int64))

        def step(self, state, tokens):
            return self.logits[state.row, state.at], State(state.row, state.at + 1)

    class State:
        def __init__(self, row, at):
            self.row, self.at = row, at

        def rows(self, index):
            return State(self.row[index], self.at[index])

    english, french = dialogue.english.tokens, dialogue.french.tokens
    plain = ch07.score(Echo(torch.arange(len(french))), dialogue, 30)
    places = [ch07.new_places(tokens, "random", 3) for tokens in (english, french)]
    moved = ch07.score(Echo(places[1]), dialogue, 30, *places)
    assert plain["BLEU"] == moved["BLEU"] == pytest.approx(100)
    assert plain["loss"] == pytest.approx(moved["loss"]) and plain["loss"] < 0.01


def test_dialogue_is_scored_at_every_point_with_part_of_the_lines(monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "0")
    task = translations.number_words(train=400, validation=30, test=5)
    monkeypatch.setattr(translations, "number_words", lambda: task)
    seen = []
    monkeypatch.setattr(
        ch07, "replace", lambda recipe, **new: seen.append(new) or replace(recipe, **new)
    )
    numbers = ch07.loss_and_bleu(0, task="number_words", steps=8, share=0.25)
    assert len(numbers["loss"]) == len(numbers["BLEU"]) == ch07.POINTS
    assert numbers["loss_end"] == numbers["loss"][-1] and numbers["BLEU_end"] == numbers["BLEU"][-1]
    rows = seen[0]["batches"].tensors[0]
    assert len(rows) == 100
    known = {tuple(row) for row in task.train.source.tolist()}
    assert all(tuple(row) in known for row in rows.tolist())


@pytest.mark.parametrize(
    ("counted", "loss"), [(True, "loss_with_padding"), (False, "translation_loss")]
)
def test_padding_is_in_the_loss_or_not(calls, monkeypatch, counted, loss):
    task = translations.number_words(train=400, validation=30, test=5)
    monkeypatch.setattr(ch07, "numbers", lambda: task)
    assert ch07.padding(0, counted=counted, steps=50)["exact"] < 50  # three steps of training
    _, batches, used, config = calls[0]
    assert used.__name__ == loss and config.steps == 50
    assert type(batches) is train.Batches  # no buckets, which would leave little padding


def test_exactly_right_counts_whole_numbers(monkeypatch):
    task = translations.number_words(train=400, validation=30, test=5)
    monkeypatch.setattr(ch07, "numbers", lambda: task)
    wanted = [task.french.encode(translations.split_words(text)) for text in task.validation.french]
    wanted[0] = wanted[0][:-1]
    monkeypatch.setattr(
        ch07.decoding, "greedy", lambda *_: ch07.decoding.Hypotheses(wanted, torch.zeros(30))
    )
    assert ch07.exactly_right(nn.Identity()) == pytest.approx(100 * 29 / 30)
