"""Chapter 04's grid of learning rates: what a run gives, and what one gives that diverges."""

import pytest
import torch
from torch import nn

from course_lib.teaching.experiments import ch04 as grids


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setenv("COURSE_TEST", "1")
    monkeypatch.setattr(grids, "STEPS", 20)
    monkeypatch.setattr(grids, "LOOK_EVERY", 10)
    monkeypatch.setattr(grids, "HELD_OUT", 100)


def test_a_run_gives_an_entry_for_each_look():
    numbers = grids.learning_rate(0, norm=True, rate=0.2)
    assert len(numbers["loss"]) == len(numbers["held_out"]) == 2
    assert numbers["trained"] == numbers["held_out"][-1]
    assert 0 < numbers["loss"][1] < numbers["loss"][0] < grids.LOSS_LIMIT


def test_a_run_that_diverges_keeps_the_limit_and_guesses():
    numbers = grids.learning_rate(0, norm=False, rate=1e20)
    assert numbers["loss"][-1] == grids.LOSS_LIMIT
    assert numbers["held_out"] == pytest.approx([10.0, 10.0], abs=0.01)


def test_both_networks_begin_with_the_same_weights():
    weights = []
    for norm in (nn.BatchNorm2d, None):
        torch.manual_seed(0)
        network = grids.DeepCNN(norm)
        weights.append([m.weight for m in network.modules() if isinstance(m, nn.Conv2d)])
        assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == (4 if norm else 0)
    assert all(a.equal(b) for a, b in zip(*weights, strict=True))


def test_the_settings_are_named_by_what_they_are():
    for name, setting in grids.EXPERIMENTS[0].settings.items():
        assert name == grids.setting(**setting)
    assert grids.HIGH in grids.RATES and list(grids.LOOKS)[-1] == 300
