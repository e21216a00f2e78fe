"""Dropout by hand against torch's: equal to the bit where both draw the same numbers."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import dropout, tensor_ops

PAIRS = [
    (dropout.dropout, F.dropout, (7, 5)),
    (dropout.dropout, F.dropout, (3, 4, 6, 2)),
    (dropout.dropout1d, F.dropout1d, (6, 5, 4)),
    (dropout.dropout2d, F.dropout2d, (6, 5, 4, 3)),
]
IDS = ["dropout", "dropout, 4 axes", "dropout1d", "dropout2d"]


def with_gradient(function, x, *arguments):
    x = x.clone().requires_grad_()
    torch.manual_seed(5)
    value = function(x, *arguments)
    (gradient,) = torch.autograd.grad(value.sin().sum(), x, allow_unused=False)
    return value.detach(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.93, 1.0])
@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=IDS)
def test_equal_seeds_give_equal_values_and_gradients(ours, theirs, shape, p, training, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    mine, reference = (with_gradient(f, x, p, training) for f in (ours, theirs))
    for actual, expected in zip(mine, reference, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=IDS)
def test_torchs_mask_read_from_its_output_gives_torchs_values(ours, theirs, shape):
    x = torch.rand(shape, dtype=torch.float64) + 1  # no zeros of its own
    reference = theirs(x, 0.4)
    torch.testing.assert_close(dropout.dropout(x, 0.4, kept=reference != 0), reference)


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d"])
def test_layers(name):
    x = torch.randn(4, 6, *[3] * {"Dropout": 0, "Dropout1d": 1, "Dropout2d": 2}[name])
    ours, theirs = getattr(dropout, name)(0.3), getattr(nn, name)(0.3)
    assert repr(ours) == repr(theirs).replace(", inplace=False", "")
    for mode in (True, False):
        mine, reference = (with_gradient(layer.train(mode), x) for layer in (ours, theirs))
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_the_same_p_is_refused(p):
    for kind in (dropout.Dropout, nn.Dropout):
        with pytest.raises(ValueError, match=str(p)):
            kind(p)


def test_what_we_refuse_torch_reads_as_sequences_and_warns_of():
    x = torch.ones(50, 40, 6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dropped = F.dropout2d(x, 0.5)
    assert "1D dropout" in str(caught[0].message)
    assert dropped.amax(2).equal(dropped.amin(2))
    with pytest.raises(ValueError, match="x has shape"):
        dropout.dropout2d(x)


def steps(make_optimizer, penalty=None, decay=None):
    """The weights after three steps on one small problem."""
    torch.manual_seed(0)
    x, weight = torch.randn(8, 3).double(), torch.randn(3, 2).double().requires_grad_()
    optimizer = make_optimizer([weight])
    for _ in range(3):
        optimizer.zero_grad()
        loss = (x @ weight).sin().square().mean()
        loss = loss if penalty is None else loss + penalty([weight])
        loss.backward()
        if decay is not None:
            decay([weight])
        optimizer.step()
    return weight.detach()


def l2(weights):
    return 0.3 * dropout.l2_penalty(weights)


def decay(weights):
    dropout.decay_(weights, 0.1, 0.3)


SGD, ADAM = tensor_ops.SGD, tensor_ops.Adam
CASES = {
    "sgd": (lambda w: SGD(w, 0.1), l2, None, torch.optim.SGD),
    "adam": (lambda w: ADAM(w, 0.1), l2, None, torch.optim.Adam),
    "adamw": (lambda w: ADAM(w, 0.1), None, decay, torch.optim.AdamW),
    "sgd, decoupled": (lambda w: SGD(w, 0.1), None, decay, torch.optim.SGD),
}


@pytest.mark.parametrize("case", CASES)
def test_penalty_and_decay_are_torchs_weight_decay(case):
    ours, penalty, shrink, theirs = CASES[case]
    mine = steps(ours, penalty, shrink)
    torch.testing.assert_close(mine, steps(lambda w: theirs(w, lr=0.1, weight_decay=0.3)))


def test_for_adam_the_two_differ():
    l2_adam, adamw = (steps(CASES[c][0], *CASES[c][1:3]) for c in ("adam", "adamw"))
    assert not torch.allclose(l2_adam, adamw, rtol=1e-3)
