"""Weights from elsewhere: all fit, or nothing is loaded and the error names what does not."""

import pytest
import torch
from torch import nn

from course_lib.weights import load_weights


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 3))


def test_weights_load_by_name_and_are_copies():
    first, second = network(), network()
    nn.init.normal_(first[2].weight)
    load_weights(second, first.state_dict())
    assert all(v.equal(second.state_dict()[k]) for k, v in first.state_dict().items())
    nn.init.zeros_(first[2].weight)
    assert second[2].weight.abs().max() > 0


def test_the_order_of_the_tensors_does_not_matter():
    first, second = network(), network()
    nn.init.normal_(first[0].weight)
    load_weights(second, dict(reversed(first.state_dict().items())))
    assert second[0].weight.equal(first[0].weight)


def test_counters_of_batches_may_be_missing():
    net = network()
    old = {k: v + 1 for k, v in net.state_dict().items() if "num_batches" not in k}
    load_weights(net, old)
    assert net[2].bias.equal(old["2.bias"])


def zeros(*shape):
    return torch.zeros(shape)


DAMAGE = {
    "network; missing: 2.bias$": lambda state: state.pop("2.bias"),
    "network; missing: 1.running_var$": lambda state: state.pop("1.running_var"),
    "network; missing: 0.weight and 6 more; surplus: net.0.weight and 7 more$": lambda state: [
        state.update({f"net.{name}": state.pop(name)}) for name in list(state)
    ],
    "network; surplus: fc.weight$": lambda state: state.update({"fc.weight": zeros(3)}),
    r"network; of another shape: 2.weight \(9, 4\), allowed is \(3, 4\)$": lambda state: (
        state.update({"2.weight": zeros(9, 4)})
    ),
    r"of another shape: 0.weight \(4, 1, 9\), allowed is \(4, 1, 3, 3\) and 1 more$": (
        lambda state: state.update({"2.bias": zeros(), "0.weight": zeros(4, 1, 9)})
    ),
    r"network; missing: 2.bias; surplus: bias; of another shape: 2.weight": lambda state: (
        state.update({"bias": state.pop("2.bias"), "2.weight": zeros(4, 3)})
    ),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_a_wrong_tensor_is_named_and_nothing_is_loaded(said):
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    DAMAGE[said](state)
    with pytest.raises(ValueError, match=said):
        load_weights(net, state)
    assert all(tensor.equal(before[name]) for name, tensor in net.state_dict().items())
