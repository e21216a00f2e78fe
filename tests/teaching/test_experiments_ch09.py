"""Chapter 09's experiments measure what their settings say, on text kept for that."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from course_lib import data, train
from course_lib.gpt import GPT, GPTConfig
from course_lib.teaching.experiments import ch09


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


def test_what_is_scored_is_training_text_that_no_model_sees():
    dictionary, known, fresh = ch09.text()
    play = data.load("shakespeare")
    assert (
        dictionary.decode(known) + dictionary.decode(fresh)
        == play.train[: len(known)] + (play.train[len(known) :][: len(fresh)])
    )
    assert len(fresh) == ch09.HELD_OUT and len(known) == len(play.train) * 9 // 10


def test_a_run_has_the_sizes_and_the_config_that_were_asked_for(calls):
    options = {"layers": 1, "width": 32, "context": 16, "positions": "learned", "steps": 7}
    numbers = ch09.learn(3, optimizer="adamw", learning_rate=0.004, **options)
    model, batches, _, config = calls[0]
    sizes = model.config
    assert (sizes.layers, sizes.width, sizes.heads, sizes.length) == (1, 32, 2, 16)
    assert sizes.positions == "learned" and len(model.stack.layers) == 1
    assert (config.steps, config.optimizer, config.learning_rate) == (7, "adamw", 0.004)
    assert (config.seed, config.precision) == (3, "float32")
    inputs, labels = next(iter(batches))
    assert inputs.shape == labels.shape == (64, 16)
    assert len(numbers["by_place"]) == 5 and len(numbers["curve"]) == 3  # capped at 3 steps


def test_the_places_are_those_of_the_window():
    assert ch09.spans(16) == [(0, 1), (1, 2), (2, 4), (4, 8), (8, 16)]
    assert ch09.spans(4) == [(0, 1), (1, 2), (2, 4)]


def test_the_loss_is_the_mean_over_the_places(monkeypatch):
    """A text of three windows and a bit, whose loss is its place in the window."""
    places = (torch.arange(3 * 16 + 5) % 16).float()
    monkeypatch.setattr(ch09, "losses_by_symbol", lambda *_: places)
    numbers = ch09.learn(0, layers=1, width=16, context=16, steps=1)
    assert numbers["by_place"] == [0, 1, 2.5, 5.5, 11.5]
    assert numbers["loss"] == pytest.approx(places.mean().item())


def test_a_run_is_the_same_for_the_same_seed():
    first, again, other = (ch09.learn(s, layers=1, width=16, steps=2) for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("size", [(1, 32), (3, 64)])
def test_flops_are_those_of_the_matrix_products(size):
    layers, width = size
    config = GPTConfig(77, 64, width, width // 16, layers)
    model = GPT(config)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 64, dtype=torch.int64)).sum().backward()
    counted = counter.get_total_flops() / (2 * 64)
    assert ch09.training_flops(config) == pytest.approx(counted, rel=0.01)


def test_a_budget_buys_steps_by_the_size_of_the_model(calls):
    budget = 2.0e9
    for layers, width in ((1, 16), (1, 32), (2, 48)):
        numbers = ch09.scale(0, layers=layers, width=width, budget=budget, learning_rate=0.01)
        config = GPTConfig(len(ch09.text()[0]), 64, width, width // 16, layers)
        spent = numbers["steps"] * ch09.CHARACTERS * ch09.training_flops(config)
        assert spent == pytest.approx(budget, rel=0.1)
        in_layers = sum(p.numel() for p in calls[-1][0].stack.layers.parameters() if p.ndim > 1)
        assert numbers["weights"] == in_layers == 12 * layers * width**2


def test_every_budget_has_every_size():
    settings = ch09._scaling()
    assert len(settings) == len(ch09.SIZES) * len(ch09.BUDGETS)
    rates = [
        settings[ch09.size_name(*size, ch09.BUDGETS[0])]["learning_rate"] for size in ch09.SIZES
    ]
    assert rates == sorted(rates, reverse=True) and rates[-1] < rates[0] == 0.04


def test_copies_are_found_to_the_letter():
    source = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8])
    texts = torch.tensor([[3, 4, 5, 9, 1, 2], [9, 8, 7, 6, 5, 4]])
    assert ch09.copied(texts, source, 2) == pytest.approx(3 / 10)  # 34, 45, 12
    assert ch09.copied(texts, source, 3) == pytest.approx(1 / 8)  # 345
    assert ch09.copied(texts, source, 4) == 0
    assert ch09.copied(source[None], source, 8) == 1


def test_copies_equal_a_search_in_the_text():
    dictionary, known, fresh = ch09.text()
    source, texts = known[:20_000], fresh[:400].view(2, 200)
    letters = dictionary.decode(source)
    for length in (3, 7):
        runs = [
            dictionary.decode(row[i : i + length]) for row in texts for i in range(201 - length)
        ]
        expected = sum(run in letters for run in runs) / len(runs)
        assert ch09.copied(texts, source, length) == pytest.approx(expected)


def test_a_copier_is_told_from_fresh_text(monkeypatch, calls):
    """A model that repeats the training text is found out."""
    _, known, _ = ch09.text()

    def repeat(model, prompt, count, **_):
        return torch.stack([known[i : i + count + 1] for i in range(len(prompt))])

    monkeypatch.setattr(ch09, "generate", repeat)
    numbers = ch09.copy(0, characters=3000, steps=2)
    assert numbers["written"] == [100.0] * len(ch09.COPY_LENGTHS)
    assert numbers["fresh"][-1] == 0 and 0 < numbers["fresh"][0] < 50
    assert len(calls[0][1].tensors[0]) == 3000
