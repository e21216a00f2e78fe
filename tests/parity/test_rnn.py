"""Recurrent networks by hand against torch's: values and gradients, padded and packed."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from course_lib import rnn
from course_lib.seq2seq import GRUEncoder

KINDS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
LENGTHS = torch.tensor([3, 7, 1, 5])  # not sorted


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def numbers(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pair(kind, layers=1, bidirectional=False, batch_first=True):
    torch.manual_seed(1)
    theirs = KINDS[kind](3, 4, layers, batch_first=batch_first, bidirectional=bidirectional)
    ours = rnn.HandRNN(kind, 3, 4, layers, bidirectional, batch_first)
    ours.load_state_dict(theirs.state_dict())
    return ours.double(), theirs.double()


def states(kind, rows, size=4):
    first = numbers(rows, size, 4)
    return (first, numbers(rows + 1, size, 4)[1:]) if kind == "lstm" else first


def parts(result):
    """Outputs and states of either network as a flat tuple."""
    output, state = result
    return (output, *state) if isinstance(state, tuple) else (output, state)


def gradients(network, x, result):
    """Of the weights and of x, of a sum in which no value weighs as much as another."""
    total = sum((value * numbers(*value.shape)).sum() for value in parts(result))
    return torch.autograd.grad(total, [x, *network.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell(kind):
    torch.manual_seed(0)
    theirs = CELLS[kind](3, 4).double()
    state = states(kind, 1)
    state = (state[0][0], state[1][0]) if kind == "lstm" else state[0]
    x = numbers(4, 3)
    ours = getattr(rnn, f"{kind}_cell")(x, state, *theirs.parameters())
    close(ours, theirs(x, state))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_network_of_layers_and_directions(kind, layers, bidirectional, batch_first):
    ours, theirs = pair(kind, layers, bidirectional, batch_first)
    x = numbers(4, 6, 3) if batch_first else numbers(6, 4, 3)
    x.requires_grad_()
    for state in (None, states(kind, layers * (1 + bidirectional))):
        results = ours(x, state), theirs(x, state)
        close(*map(parts, results))
        close(gradients(ours, x, results[0]), gradients(theirs, x, results[1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences(kind, layers, bidirectional):
    ours, theirs = pair(kind, layers, bidirectional)
    x = numbers(4, 7, 3).requires_grad_()
    state = states(kind, layers * (1 + bidirectional))
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    output, last = theirs(packed, state)
    expected = (pad_packed_sequence(output, batch_first=True)[0], last)
    wanted = gradients(theirs, x, expected)
    mask = torch.arange(7) < LENGTHS[:, None]
    for real in (LENGTHS, mask):
        result = ours(x, state, real)
        close(parts(result), parts(expected))
        close(gradients(ours, x, result), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_names_order_and_first_weights(kind):
    torch.manual_seed(3)
    ours = rnn.HandRNN(kind, 3, 4, 2, bidirectional=True)
    torch.manual_seed(3)
    theirs = KINDS[kind](3, 4, 2, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_translators_encoder_is_a_bidirectional_gru_on_packed_sequences(layers):
    torch.manual_seed(0)
    ours = GRUEncoder(6, layers).double()
    theirs = nn.GRU(6, 3, layers, batch_first=True, bidirectional=True).double()
    weights = {}
    for layer in range(layers):
        for gru, way in ((ours.ahead[layer], ""), (ours.back[layer], "_reverse")):
            for name, value in gru.state_dict().items():
                weights[name.replace("_l0", f"_l{layer}{way}")] = value
    theirs.load_state_dict(weights)
    x = numbers(4, 7, 6).requires_grad_()
    real = torch.arange(7) < LENGTHS[:, None]
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    output, last = theirs(packed)
    last = last.view(layers, 2, 4, 3).permute(2, 0, 1, 3).flatten(2)  # -> (B, layers, 2 * 3)
    expected = pad_packed_sequence(output, batch_first=True)[0], last
    result = ours(x, real)
    close(result, expected)
    grads = [
        torch.autograd.grad(sum((v * numbers(*v.shape)).sum() for v in values), x)
        for values in (result, expected)
    ]
    close(*grads)
