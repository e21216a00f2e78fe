"""Recurrent networks by hand: gates, padding, refusals; parity/ holds torch's values."""

import pytest
import torch

from course_lib import rnn

KINDS = tuple(rnn.GATES)


def network(kind, **options):
    torch.manual_seed(0)
    return rnn.HandRNN(kind, 3, 4, batch_first=True, **options)


def last_of(kind, state):
    return state[0] if kind == "lstm" else state


def gate_weights(gates, open_gate=None, value=30.0):
    """Weights of 0 for one input and one unit, and a bias that holds one gate open or closed."""
    bias = torch.zeros(gates)
    if open_gate is not None:
        bias[open_gate] = value
    return torch.zeros(gates, 1), torch.zeros(gates, 1), bias, torch.zeros(gates)


def test_the_grus_second_gate_keeps_the_state():
    h, x = torch.tensor([[0.7]]), torch.tensor([[5.0]])
    torch.testing.assert_close(rnn.gru_cell(x, h, *gate_weights(3, 1)), h)
    torch.testing.assert_close(rnn.gru_cell(x, h, *gate_weights(3, 1, -30.0)), 0 * h)


def test_the_lstms_gates_write_forget_and_read_in_torchs_order():
    x, h, c = torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([[2.0]])
    kept = rnn.lstm_cell(x, (h, c), *gate_weights(4, 1))[1]
    torch.testing.assert_close(kept, c)  # the forget gate at 1 keeps all
    forgotten = rnn.lstm_cell(x, (h, c), *gate_weights(4, 1, -30.0))[1]
    torch.testing.assert_close(forgotten, 0 * c)
    shut = rnn.lstm_cell(x, (h, c), *gate_weights(4, 3, -30.0))[0]
    torch.testing.assert_close(shut, 0 * c)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(kind, bidirectional):
    both = network(kind, layers=2, bidirectional=bidirectional)
    x = torch.randn(1, 5, 3)
    short, state = both(x)
    longer = torch.cat((x, torch.full((1, 4, 3), 1e3)), dim=1)
    output, last = both(longer, real=torch.tensor([5]))
    torch.testing.assert_close(output[:, :5], short)
    assert output[:, 5:].eq(0).all()
    torch.testing.assert_close(last, state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_steps_keeps_its_state(kind):
    x = torch.randn(2, 3, 3)
    first = torch.randn(1, 2, 4)
    state = (first, first) if kind == "lstm" else first
    output, last = network(kind)(x, state, torch.tensor([0, 3]))
    assert output[0].eq(0).all() and last_of(kind, last)[:, 0].equal(first[:, 0])
    assert not last_of(kind, last)[:, 1].equal(first[:, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_reverse_direction_reads_from_the_end(kind):
    both = network(kind, bidirectional=True)
    x = torch.randn(1, 4, 3)
    changed = x.clone()
    changed[0, 0] += 1
    (a, _), (b, _) = both(x), both(changed)
    ahead, back = (a != b).any(0).split(4, dim=1)
    assert ahead.any(1).all()  # the first step is seen by all that follow
    assert back.any(1).tolist() == [True, False, False, False]


def test_it_can_run_on_meta_and_compiles_in_one_graph():
    for kind in KINDS:
        both = network(kind, bidirectional=True)
        x, real = torch.randn(2, 4, 3), torch.tensor([2, 4])
        compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, None, real), both(x, None, real))
        output, _ = both.to("meta")(x.to("meta"), None, real.to("meta"))
        assert output.shape == (2, 4, 8)


REFUSALS = {
    "kind is 'tanh'; allowed are rnn, lstm, gru": lambda: rnn.HandRNN("tanh", 3, 4),
    "hidden is 0; allowed": lambda: rnn.HandRNN("gru", 3, 0),
    "layers is 0; allowed": lambda: rnn.HandRNN("gru", 3, 4, layers=0),
    r"x has shape \(2, 0, 3\)": lambda: network("gru")(torch.zeros(2, 0, 3)),
    r"real is torch.bool of shape \(2, 5\)": lambda: network("gru")(
        torch.zeros(2, 4, 3), real=torch.ones(2, 5, dtype=torch.bool)
    ),
    r"real is torch.int64 of shape \(3,\)": lambda: network("gru")(
        torch.zeros(2, 4, 3), real=torch.ones(3, dtype=torch.int64)
    ),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_nonsense_is_refused(said):
    with pytest.raises(ValueError, match=said):
        REFUSALS[said]()
