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
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = optimizers.make_optimizer(model, name, 0.1, weight_decay=0.5)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    expected = [0.5 if p.ndim >= 2 else 0 for p in model.parameters()]
    assert [decay[id(p)] for p in model.parameters()] == expected


def test_muon_equals_torch_on_matrices():
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((5, 9), (9, 5), (4, 4))]
    ours, theirs = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    pair = (
        optimizers.Muon(ours, 0.02, weight_decay=0.3, momentum=0.9),
        torch.optim.Muon(
            theirs, 0.02, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw"
        ),
    )
    for _ in range(10):
        gradients = [torch.randn(value.shape, generator=generator) for value in start]
        for optimizer, parameters in zip(pair, (ours, theirs), strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
    for own, their, value in zip(ours, theirs, start, strict=True):
        assert (own - value).abs().mean() > 0.01
        torch.testing.assert_close(own, their, rtol=0, atol=2e-3)  # bfloat16 in another order


def test_muon_takes_kernels_as_a_matrix_whatever_their_memory():
    generator = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(2, 6, 3, 2, 2, generator=generator).unbind()
    layouts = {
        "matrix": lambda t: t.flatten(1),
        "kernels": lambda t: t,
        "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    }
    after = {}
    for name, change in layouts.items():
        parameter = nn.Parameter(change(start.clone()))
        parameter.grad = change(gradient.clone())
        optimizers.Muon([parameter], 0.1).step()
        after[name] = parameter.detach().flatten(1)
    assert torch.equal(after["matrix"], after["kernels"])
    assert torch.equal(after["matrix"], after["channels last"])


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonalise_evens_the_singular_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(optimizers.orthogonalise(matrix).float())
    assert values.min() > 0.5 and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    cosine = torch.cosine_similarity(
        optimizers.orthogonalise(matrix).float().flatten(), (u @ v).flatten(), dim=0
    )
    assert cosine > 0.95
    assert optimizers.orthogonalise(torch.zeros(shape)).count_nonzero() == 0


@pytest.mark.parametrize("shape", [(384, 128), (128, 384), (64, 576), (1, 300), (200, 200)])
def test_a_matrix_in_a_stack_gets_what_it_would_get_alone(shape):
    generator = torch.Generator().manual_seed(0)
    stack = torch.randn((4, *shape), generator=generator) * torch.arange(4).view(4, 1, 1)
    together = optimizers.orthogonalise(stack)
    for one, found in zip(stack, together, strict=True):
        torch.testing.assert_close(found, optimizers.orthogonalise(one), rtol=0, atol=2e-2)


def test_muon_moves_weights_without_a_gradient_nowhere():
    still, moved = (nn.Parameter(torch.ones(2, 3)) for _ in range(2))
    moved.grad = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    optimizers.Muon([still, moved], 0.1).step()
    assert torch.equal(still, torch.ones(2, 3)) and not torch.equal(moved, still)


def test_muon_moves_hidden_weights_and_adamw_the_rest():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Embedding(5, 4),
        nn.Linear(4, 4), nn.Linear(4, 2),
    )  # fmt: skip
    hidden = optimizers.hidden_weights(model)
    assert [id(p) for p in hidden] == [id(model[2].weight), id(model[4].weight)]
    optimizer = optimizers.make_optimizer(model, "muon", 0.1)
    kinds = [type(o) for o in optimizer.optimizers]
    assert kinds == [optimizers.Muon, torch.optim.AdamW]
    moved = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(moved) == sorted(id(p) for p in model.parameters())


def test_without_hidden_weights_muon_is_adamw():
    optimizer = optimizers.make_optimizer(nn.Linear(2, 2), "muon", 0.1)
    assert isinstance(optimizer, torch.optim.AdamW)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        optimizers.Muon([nn.Parameter(torch.zeros(3))], 0.1)


def test_sgd_takes_its_momentum():
    optimizer = optimizers.make_optimizer(nn.Linear(2, 1), "sgd", 0.1, momentum=0.7)
    assert optimizer.param_groups[0]["momentum"] == 0.7


def test_nothing_to_train_is_an_error():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameters that require a gradient"):
        optimizers.make_optimizer(model, "sgd", 0.1)
