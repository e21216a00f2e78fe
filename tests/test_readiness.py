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


class AsksForAValue(nn.Linear):
    """Leaves the graph, and waits for the device."""

    def forward(self, x):
        return super().forward(x * 2 if x.sum().item() > 0 else x)


def loss(model, x):
    return model(x).square().mean()


def loss_that_asks(model, x):
    value = loss(model, x)
    return value / max(value.item(), 1.0)


def loss_of_some(model, x):
    found = model(x)
    return found[x[:, :1] > 0].sum()  # of a shape that the values decide


def loss_by_way_of_the_cpu(model, x):
    return loss(model, x) * x.cpu().abs().max().to(x.device)


def loss_with_a_table(model, x):
    return (model(x) * torch.arange(1.0, 3.0).unsqueeze(1)).sum()


INPUTS = [torch.ones(2, 3)]
WAITS = "(?i)data.?dependent|dynamic|local_scalar|nonzero"


@pytest.mark.parametrize(
    "model, loss, message",
    [
        (WrongDevice(), loss, "device"),
        (AsksForAValue(3, 1), loss, WAITS),
        (nn.Linear(3, 1), loss_that_asks, WAITS),
        (nn.Linear(3, 1), loss_of_some, WAITS),
        (nn.Linear(3, 1), loss_by_way_of_the_cpu, "from its device to the CPU"),
        (nn.Linear(3, 1), loss_with_a_table, "device"),
        (nn.Linear(3, 1), lambda model, x: model(x).square(), "one number"),
    ],
)
def test_a_fake_gpu_finds_what_would_fail_or_wait(model, loss, message):
    with pytest.raises(Exception, match=message):
        readiness.check_fake_cuda(model, loss, INPUTS)


def test_a_fake_gpu_follows_a_gru_and_finds_a_state_made_elsewhere():
    class Reader(nn.GRU):
        def forward(self, x):
            return super().forward(x, torch.zeros(1, len(x), 4, device=place or x.device))[0]

    inputs = [torch.ones(2, 5, 3)]
    place = None
    readiness.check_fake_cuda(Reader(3, 4, batch_first=True), loss, inputs)
    place = "cpu"
    with pytest.raises(Exception, match="device"):
        readiness.check_fake_cuda(Reader(3, 4, batch_first=True), loss, inputs)


def test_a_fake_gpu_keeps_tied_weights_one_and_leaves_the_model_alone():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, x):
            assert self.second.weight is self.first.weight
            return self.second(self.first(x))

    model = Tied()
    before = model.first.weight
    readiness.check_fake_cuda(model, loss, INPUTS)
    readiness.check_meta(model, loss, INPUTS, "muon")
    assert model.first.weight is before and before.device.type == "cpu"


def test_a_parameter_without_gradient_is_found_unless_it_is_frozen():
    model = nn.Linear(3, 1)
    model.unused = nn.Parameter(torch.zeros(1))
    with pytest.raises(AssertionError, match="unused has no gradient"):
        readiness.check_meta(model, loss, INPUTS)
    model.unused.requires_grad_(False)
    readiness.check_meta(model, loss, INPUTS)


def test_an_overflow_in_half_precision_is_found():
    def large(model, x):
        return (model(x) * 1e8).half().float().mean()

    with pytest.raises(AssertionError, match="the loss is -?(inf|nan)"):
        readiness.check_autocast(nn.Linear(3, 1), large, INPUTS)


def test_a_graph_break_is_found():
    with pytest.raises(Exception, match="(?i)graph|unsupported|data-dependent"):
        readiness.check_compiles(AsksForAValue(3, 1), loss, INPUTS)


def test_a_graph_that_computes_something_else_is_found():
    def honest(model, x):
        return loss(model, x) * (2 if torch.compiler.is_compiling() else 1)

    with pytest.raises(AssertionError, match="not close"):
        readiness.check_compiles(nn.Linear(3, 1), honest, INPUTS)


def test_an_export_for_one_number_of_items_only_is_found():
    class Counts(nn.Linear):
        def forward(self, x):
            return super().forward(x) * x.shape[0]

    class Fixed(nn.Linear):
        def forward(self, x):
            return super().forward(x.view(2, 3))

    readiness.check_exports(Counts(3, 1), INPUTS, [torch.ones(4, 3)])
    with pytest.raises(Exception, match="(?i)specializ|constant|shape"):
        readiness.check_exports(Fixed(3, 1), INPUTS, [torch.ones(4, 3)])
