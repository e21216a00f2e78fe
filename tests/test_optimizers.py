"""Schedules equal torch's own; optimizers are built as asked for."""

import pytest
import torch
from torch import nn

from course_lib import optimizers


def torch_rates(make_scheduler, steps):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("steps, warmup", [(100, 0.3), (40, 0.25), (7, 0.5)])
def test_one_cycle_equals_torch(steps, warmup):
    theirs = torch_rates(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=steps, pct_start=warmup, cycle_momentum=False
        ),
        steps - 1,
    )
    ours = [optimizers.one_cycle(step, steps, warmup) for step in range(steps - 1)]
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_cosine_without_warmup_equals_torch():
    theirs = torch_rates(
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50), 50
    )
    assert [optimizers.cosine(s, 50, 0.0) for s in range(50)] == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("schedule", optimizers.SCHEDULES.values())
def test_warmup_rises_and_no_factor_exceeds_one(schedule):
    factors = [schedule(step, 40, 0.25) for step in range(40)]
    assert factors[0] < factors[4] < factors[9] <= 1
    assert max(factors) <= 1 and min(factors) >= 0


def test_a_single_step_is_allowed():
    for schedule in optimizers.SCHEDULES.values():
        assert 0 < schedule(0, 1, 0.0) <= 1


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_decay_acts_on_matrices_only(name):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = optimizers.make_optimizer(model, name, 0.1, weight_decay=0.5)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert [decay[id(p)] for p in model.parameters()] == [0.5, 0, 0, 0]


def test_sgd_takes_its_momentum():
    optimizer = optimizers.make_optimizer(nn.Linear(2, 1), "sgd", 0.1, momentum=0.7)
    assert optimizer.param_groups[0]["momentum"] == 0.7


def test_nothing_to_train_is_an_error():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameters that require a gradient"):
        optimizers.make_optimizer(model, "sgd", 0.1)
