"""Chapter 06's grids: the data are what they say, and each setting trains what its name says."""

import pytest
import torch
from torch import nn

from course_lib import runtime
from course_lib.teaching.experiments import ch06


def test_wanted_digits_are_those_of_the_first_seven_colours():
    colours, digits, wanted = ch06._coloured_digits(40, runtime.generator_for(0))
    for row in range(40):
        for colour in range(7):
            assert wanted[row, colour] == digits[row][colours[row] == colour].item()
    assert (colours[0] != colours[1]).any()


def test_targets_are_the_symbols_in_order_and_padding_has_none():
    symbols, targets = ch06._to_sort(300, runtime.generator_for(0))
    lengths = (symbols != ch06.PAD).sum(dim=1)
    assert {*lengths.tolist()} == {*ch06.LENGTHS}
    for row, target, length in zip(symbols, targets, lengths, strict=True):
        assert (target[:length] + 1).tolist() == row[:length].sort().values.tolist()
        assert (row[length:] == ch06.PAD).all() and (target[length:] == -1).all()


def test_as_many_weights_concatenated_as_averaged():
    weights = {name: ch06.Reader(outputs=1, **shape).weights for name, shape in ch06.SHAPES.items()}
    assert weights["averaged, equal weights"] == pytest.approx(weights["concatenated"], rel=0.01)
    assert weights["one head"] == weights["concatenated"]
    assert weights["averaged, equal width"] < weights["concatenated"]


@pytest.mark.parametrize("join", ["concatenate", "average"])
def test_only_averaged_heads_may_change_places(join):
    runtime.seed_everything(0)
    reader = ch06.Reader(heads=7, width=8, join=join, outputs=5)
    colours, digits, _ = ch06._coloured_digits(4, runtime.generator_for(0))
    before = reader(colours, digits)
    with torch.no_grad():
        for tensor in (reader.key.weight, reader.key.bias, reader.value.weight, reader.value.bias):
            tensor.copy_(tensor.unflatten(0, (7, 8)).flip(0).flatten(0, 1))
        reader.question.copy_(reader.question.flip(0))
    assert torch.allclose(reader(colours, digits), before, atol=1e-5) == (join == "average")


def test_sums_count_as_right_within_a_half():
    wanted = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [9] * 7])
    exact = ch06._centred(wanted)[:, None]
    assert ch06._right(exact, wanted, "sum") == 1
    assert ch06._right(exact + torch.tensor([[0.04], [0.06]]), wanted, "sum") == 0.5


def test_batches_by_length_hold_every_sequence_once_and_hardly_any_padding():
    symbols, targets = ch06._to_sort(200, runtime.generator_for(0))
    batches = list(ch06.ByLength(symbols, targets, batch_size=20, seed=0))
    assert sum(len(x) for x, _ in batches) == 200
    assert all(x.shape == y.shape and (x[:, :-3] != ch06.PAD).all() for x, y in batches)
    widths = [x.shape[1] for x, _ in batches]
    assert widths != sorted(widths)


@pytest.mark.parametrize("norm", ch06.NORMS)
def test_more_padding_matters_only_where_it_is_counted(norm):
    runtime.seed_everything(0)
    sorter = ch06.Sorter(norm).train()
    symbols, _ = ch06._to_sort(8, runtime.generator_for(0))
    real = symbols != ch06.PAD
    padded = nn.functional.pad(symbols, (0, 5), value=ch06.PAD)
    same = torch.allclose(sorter(padded)[:, :16][real], sorter(symbols)[real], atol=1e-4)
    assert same == (norm != "batch")


@pytest.mark.parametrize("norm", ch06.NORMS)
def test_every_norm_is_exchanged(norm):
    kinds = [type(module) for module in ch06.Sorter(norm).modules()]
    wanted, other = (nn.LayerNorm, ch06.TokenBatchNorm)[:: 1 if norm == "layer" else -1]
    assert kinds.count(wanted) == 5 and kinds.count(other) == 0


@pytest.mark.parametrize("experiment", ch06.EXPERIMENTS, ids=lambda e: e.claim)
def test_a_run_is_the_same_for_the_same_seed(experiment, monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setattr(ch06, "TRAINED", 200)
    monkeypatch.setattr(ch06, "TESTED", 300)
    setting = next(iter(experiment.settings))
    first, again, other = (experiment.run(setting, seed) for seed in (0, 0, 1))
    assert first == again != other
