"""The readiness checks themselves can fail."""

import pytest
import torch
from torch import nn

from tests import readiness


class WrongDevice(nn.Module):
    """Makes a tensor without saying where."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(x) + torch.ones(1)


class Breaks(nn.Linear):
    """Leaves the graph to ask for a value."""

    def forward(self, x):
        return super().forward(x * 2 if x.sum().item() > 0 else x)


def loss(model, x):
    return model(x).square().mean()


def test_a_tensor_on_the_wrong_device_is_found():
    with pytest.raises(Exception, match="device"):
        readiness.check_fake_cuda(WrongDevice(), loss, [torch.ones(2, 3)])


def test_a_parameter_without_gradient_is_found():
    model = nn.Linear(3, 1)
    model.unused = nn.Parameter(torch.zeros(1))
    with pytest.raises(AssertionError):
        readiness.check_meta(model, loss, [torch.ones(2, 3)])


def test_a_graph_break_is_found():
    with pytest.raises(Exception, match="(?i)graph|unsupported|data-dependent"):
        readiness.check_compiles(Breaks(3, 1), loss, [torch.ones(2, 3)])
