"""Norms by hand against torch's: outputs, gradients and buffers, in training and evaluation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import batch_norm

KINDS = [
    ("BatchNorm1d", (8, 6)),
    ("BatchNorm1d", (4, 6, 5)),
    ("BatchNorm2d", (4, 6, 3, 2)),
    ("BatchNorm2d", (1, 6, 3, 2)),
    ("InstanceNorm2d", (4, 6, 3, 2)),
]
IDS = ["features", "sequences", "images", "one image", "instances"]
OPTIONS = [
    {},
    {"momentum": None},
    {"momentum": 0.0},
    {"momentum": 1.0},
    {"affine": False},
    {"track_running_stats": False},
    {"affine": True, "track_running_stats": True, "momentum": 0.3, "eps": 0.01},
]


def pair(kind, *arguments, **options):
    """Ours and torch's with the same random parameters, in float64."""
    torch.manual_seed(1)
    theirs = getattr(nn, kind)(*arguments, **options).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = getattr(batch_norm, kind)(*arguments, **options).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def pass_through(layer, x):
    """Outputs, gradients of the input and of the parameters, and then all that the layer holds."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    out = layer(x)
    out.sin().sum().backward()  # sin: so that the gradient differs from value to value
    gradients = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    return [out.detach(), *gradients, *layer.state_dict().values()]


def assert_same(ours, theirs, x):
    for mine, reference in zip(pass_through(ours, x), pass_through(theirs, x), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("kind", "shape"), KINDS, ids=IDS)
def test_batch_and_instance_norm(kind, shape, options):
    ours, theirs = pair(kind, 6, **options)
    for training in (True, True, False, True):
        assert_same(ours.train(training), theirs.train(training), 3 * torch.randn(shape).double())


@pytest.mark.parametrize(("kind", "shape"), KINDS, ids=IDS)
@pytest.mark.parametrize("options", [{}, {"track_running_stats": True, "affine": True}], ids=str)
def test_state_dicts_are_interchangeable(kind, shape, options):
    ours, theirs = pair(kind, 6, **options)
    theirs(torch.randn(shape).double())
    for source, target in ((theirs, ours), (ours, theirs)):
        target.load_state_dict(source.state_dict())
        assert list(target.state_dict()) == list(source.state_dict())
    assert_same(ours.eval(), theirs.eval(), torch.randn(shape).double())


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"elementwise_affine": False}], ids=str)
@pytest.mark.parametrize("shape", [3, (3,), (5, 3)])
def test_layer_norm(shape, options):
    for training in (True, False):
        ours, theirs = pair("LayerNorm", shape, **options)
        x = torch.randn(4, 5, 3).double() + 2
        assert_same(ours.train(training), theirs.train(training), x)
        assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (4, 6, 3, 2)], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm(groups, shape, affine):
    if groups == 6 and len(shape) == 2:
        return  # a single value in each group: torch refuses it
    for training in (True, False):
        ours, theirs = pair("GroupNorm", groups, 6, affine=affine)
        x = torch.randn(shape).double() + 2
        assert_same(ours.train(training), theirs.train(training), x)
        assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_the_function(training, given):
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    weights = [torch.randn(4, dtype=torch.float64) if given else None for _ in range(2)]
    results = []
    for function in (batch_norm.batch_norm, F.batch_norm):
        running = [torch.zeros(4).double(), torch.ones(4).double()]
        results.append([function(x, *running, *weights, training, 0.25, 0.1), *running])
    torch.testing.assert_close(*results)


def test_the_function_without_running_statistics():
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    mine, reference = (
        f(x, None, None, training=True) for f in (batch_norm.batch_norm, F.batch_norm)
    )
    torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision(training, dtype):
    layers = [kind(6).train(training) for kind in (batch_norm.BatchNorm2d, nn.BatchNorm2d)]
    x = (torch.randn(8, 6, 9, 9) + 3).to(dtype)
    mine, reference = (pass_through(layer, x) for layer in layers)
    for value, expected in zip(mine, reference, strict=True):
        assert value.dtype == expected.dtype
        torch.testing.assert_close(value.float(), expected.float(), rtol=0.03, atol=0.03)


def test_in_half_precision_a_large_count_of_values_is_not_lost():
    x = torch.full((64, 1, 32, 32), 0.1).to(torch.bfloat16)
    layer = batch_norm.BatchNorm2d(1, momentum=1.0)
    layer(x)
    torch.testing.assert_close(layer.running_mean, x.float().mean().view(1))


def test_torch_refuses_a_single_value_per_channel_too():
    for kind, x in (("BatchNorm1d", torch.ones(1, 3)), ("InstanceNorm2d", torch.ones(2, 3, 1, 1))):
        for layer in (getattr(batch_norm, kind)(3), getattr(nn, kind)(3)):
            with pytest.raises(ValueError):
                layer(x)
