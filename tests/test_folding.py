"""Folding: the same outputs in evaluation, and nothing folded that must not be."""

import copy

import pytest
import torch
from torch import nn

from course_lib import batch_norm, folding


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def used(norm, negative=False):
    """A norm as after training: every parameter and statistic its own, scales of both signs."""
    norm = norm.double().eval()
    if norm.weight is not None:
        nn.init.normal_(norm.weight) if negative else nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.1, 3)
    return norm


LAYERS = [
    (nn.Linear(5, 4), nn.BatchNorm1d(4), (6, 5)),
    (nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4, affine=False), (6, 5)),
    (nn.Conv1d(5, 4, 3, padding=1), nn.BatchNorm1d(4), (6, 5, 7)),
    (nn.Conv2d(6, 4, 3, 2, padding=1, groups=2, bias=False), nn.BatchNorm2d(4), (2, 6, 7, 7)),
    (nn.Conv2d(6, 4, 3, padding_mode="reflect", padding=1), nn.BatchNorm2d(4), (2, 6, 7, 7)),
    (nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4, eps=0.1), (2, 6, 7, 7)),
    (nn.Conv3d(3, 4, 2), nn.BatchNorm3d(4), (2, 3, 4, 4, 4)),
]


@pytest.mark.parametrize(("layer", "norm", "shape"), LAYERS, ids=lambda v: type(v).__name__)
def test_fold_gives_equal_outputs_and_leaves_the_layer_alone(layer, norm, shape):
    layer, norm, x = layer.double(), used(norm, negative=True), torch.randn(shape).double()
    before = copy.deepcopy(layer.state_dict())
    folded = folding.fold(layer, norm)
    torch.testing.assert_close(folded(x), norm(layer(x)))
    torch.testing.assert_close(dict(layer.state_dict()), dict(before))
    assert folded.bias is not None and folded.weight.requires_grad


@pytest.mark.parametrize(
    ("layer", "norm", "message"),
    [
        (nn.ReLU(), nn.BatchNorm1d(4), "layer is ReLU"),
        (nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm2d(4), "layer is ConvTranspose2d"),
        (nn.Linear(4, 4), nn.LayerNorm(4), "norm is LayerNorm"),
        (nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), "running statistics"),
        (nn.Linear(4, 4), nn.InstanceNorm2d(4, track_running_stats=True), "norm is"),
        (nn.Linear(4, 4), nn.BatchNorm1d(5), "norm has 5 channels; allowed are 4"),
    ],
)
def test_fold_refuses_what_it_cannot_do(layer, norm, message):
    with pytest.raises(ValueError, match=message):
        folding.fold(layer, norm)


def norms(network):
    return sum(isinstance(m, folding.BATCH_NORMS) for m in network.modules())


@pytest.mark.parametrize(("negative", "left"), [(False, 0), (True, 2)])
def test_a_network_with_pooling_between_is_folded_only_where_no_scale_is_negative(negative, left):
    network = batch_norm.NormCNN(widths=(4, 6, 8)).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            used(module, negative)
    network.train()
    folded = folding.fold_network(network)
    assert norms(folded) == left and norms(network) == 3
    assert not any(m.training for m in folded.modules()) and network.training
    x = torch.randn(3, 1, 28, 28).double()
    torch.testing.assert_close(folded(x), network.eval()(x))


def test_a_scale_of_exactly_zero_may_pass_a_pooling():
    block = nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), used(nn.BatchNorm2d(3))).double()
    block[2].weight.data[1] = 0.0
    x = torch.randn(2, 2, 6, 6).double()
    folded = folding.fold_network(block)
    assert norms(folded) == 0
    torch.testing.assert_close(folded(x), block.eval()(x))


class Backwards(nn.Sequential):
    """A Sequential in name only: what stands behind a layer does not follow it."""

    def forward(self, x):
        return self[0](self[1](x))


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.AvgPool2d(2), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)),
        Backwards(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)),
    ],
    ids=["ReLU between", "average between", "no statistics", "norm first", "own forward"],
)
def test_other_norms_stay(network):
    x = torch.randn(2, 3, 8, 8)
    folded = folding.fold_network(network)
    assert norms(folded) == 1
    torch.testing.assert_close(folded(x), network.eval()(x))


def test_a_layer_used_in_two_places_is_folded_in_one_of_them_only():
    shared = nn.Conv2d(3, 3, 1).double()
    network = nn.Sequential(
        nn.Sequential(shared, used(nn.BatchNorm2d(3))), nn.ReLU(), nn.Sequential(shared)
    )
    x = torch.randn(2, 3, 4, 4).double()
    folded = folding.fold_network(network)
    assert norms(folded) == 0
    torch.testing.assert_close(folded(x), network.eval()(x))


def test_behind_a_linear_layer_a_pooling_joins_features_and_the_norm_stays():
    network = nn.Sequential(nn.Linear(5, 4), nn.MaxPool1d(2), nn.BatchNorm1d(2))
    x = torch.randn(6, 5)
    folded = folding.fold_network(network)
    assert norms(folded) == 1
    torch.testing.assert_close(folded(x), network.eval()(x))


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 3, 5), (5,)], ids=str)
def test_a_folded_linear_layer_takes_rows_only(shape):
    """With (N, C, C) the norm would scale axis 1, the folded layer the last one."""
    network = nn.Sequential(nn.Linear(5, 4), used(nn.BatchNorm1d(4)).float())
    folded = folding.fold_network(network)
    with pytest.raises(ValueError, match=r"x has shape .*; allowed is \(N, 5\), as a batch norm"):
        folded(torch.randn(shape))
    rows = torch.randn(6, 5)
    torch.testing.assert_close(folded(rows), network.eval()(rows))
    copied = copy.deepcopy(folded)
    with pytest.raises(ValueError, match="x has shape"):
        copied(torch.randn(shape))
    compiled = torch.compile(folded, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(rows), folded(rows))
