"""Recurrent networks by hand: plain RNN, LSTM and GRU, one step at a time.

Equal to torch's `nn.RNN`, `nn.LSTM` and `nn.GRU`, whose weights `HandRNN` loads; those are faster
and do the work in the chapters' models. A cell takes x (B, inputs), a state (B, hidden) and the
weights in torch's layout: weight_ih (gates * hidden, inputs), weight_hh (gates * hidden, hidden)
and two biases (gates * hidden,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GATES = {"rnn": 1, "lstm": 4, "gru": 3}  # blocks of rows in each weight


def rnn_cell(
    x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> Tensor:
    """The next state (B, hidden) of a plain RNN. Source: Elman 1990."""
    return (F.linear(x, weight_ih, bias_ih) + F.linear(h, weight_hh, bias_hh)).tanh()


def lstm_cell(
    x: Tensor,
    state: tuple[Tensor, Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
) -> tuple[Tensor, Tensor]:
    """The next output h and memory c, each (B, hidden), of an LSTM.

    Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000 for the forget gate.
    """
    h, c = state
    gates = F.linear(x, weight_ih, bias_ih) + F.linear(h, weight_hh, bias_hh)  # (B, 4 hidden)
    write, forget, candidate, read = gates.chunk(4, dim=1)
    c = forget.sigmoid() * c + write.sigmoid() * candidate.tanh()
    return read.sigmoid() * c.tanh(), c


def gru_cell(
    x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> Tensor:
    """The next state (B, hidden) of a GRU.

    As in torch, the reset gate acts on W h + b, in the paper on h alone.

    Source: Cho et al. 2014.
    """
    from_x = F.linear(x, weight_ih, bias_ih).chunk(3, dim=1)
    from_h = F.linear(h, weight_hh, bias_hh).chunk(3, dim=1)
    reset = (from_x[0] + from_h[0]).sigmoid()
    keep = (from_x[1] + from_h[1]).sigmoid()  # "update gate" elsewhere, though 1 keeps all
    candidate = (from_x[2] + reset * from_h[2]).tanh()
    return keep * h + (1 - keep) * candidate


class HandRNN(nn.Module):
    """Layers of cells over whole sequences; parameters have torch's names, shapes and first values.

    Args:
        kind: "rnn", "lstm" or "gru".
        inputs: numbers a step.
        hidden: of the state.
        layers: each further one reads the outputs of the one below.
        bidirectional: a second cell in every layer reads from the end; outputs are side by side.
        batch_first: whether sequences are (B, T, ...) or, as torch prefers, (T, B, ...).

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    def __init__(
        self,
        kind: str,
        inputs: int,
        hidden: int,
        layers: int = 1,
        bidirectional: bool = False,
        batch_first: bool = False,
    ):
        super().__init__()
        if kind not in GATES:
            raise ValueError(f"kind is {kind!r}; allowed are {', '.join(GATES)}")
        for name, value in (("inputs", inputs), ("hidden", hidden), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{name} is {value}; allowed are whole numbers from 1")
        self.kind, self.hidden, self.batch_first = kind, hidden, batch_first
        directions = ("", "_reverse") if bidirectional else ("",)
        # One suffix of parameter names for each cell, layer by layer.
        self.suffixes = [[f"_l{layer}{way}" for way in directions] for layer in range(layers)]
        rows = GATES[kind] * hidden
        for layer, suffixes in enumerate(self.suffixes):
            size = inputs if layer == 0 else hidden * len(directions)
            for suffix in suffixes:
                for name, shape in (
                    ("weight_ih", (rows, size)),
                    ("weight_hh", (rows, hidden)),
                    ("bias_ih", (rows,)),
                    ("bias_hh", (rows,)),
                ):
                    weight = torch.empty(shape).uniform_(-(hidden**-0.5), hidden**-0.5)
                    self.register_parameter(name + suffix, nn.Parameter(weight))

    def forward(
        self,
        x: Tensor,
        state: Tensor | tuple[Tensor, Tensor] | None = None,
        real: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """(B, T, inputs) -> outputs of the last layer (B, T, directions * hidden), last states.

        T and B change places without `batch_first`, except in `real`.

        Args:
            state: (layers * directions, B, hidden), for an LSTM a pair of them; by default 0.
            real: lengths (B,) or a mask bool (B, T). Other steps give 0 and leave the state as it
                is: what torch does with packed sequences.
        """
        x = x if self.batch_first else x.transpose(0, 1)  # -> (B, T, inputs)
        if x.ndim != 3 or x.shape[1] == 0:
            raise ValueError(f"x has shape {tuple(x.shape)} batch first; allowed is (B, T, inputs)")
        real = self._mask(x, real)
        cells = sum(map(len, self.suffixes))
        if state is None:
            state = x.new_zeros(cells, len(x), self.hidden)
            state = (state, state) if self.kind == "lstm" else state
        firsts = list(zip(*state, strict=True)) if self.kind == "lstm" else list(state)
        lasts = []
        for suffixes in self.suffixes:
            outputs = []
            for suffix in suffixes:
                output, last = self._walk(x, firsts[len(lasts)], real, suffix)
                outputs.append(output)
                lasts.append(last)
            x = torch.cat(outputs, dim=2)  # -> (B, T, directions * hidden)
        x = x if self.batch_first else x.transpose(0, 1)
        if self.kind == "lstm":
            return x, tuple(torch.stack(part) for part in zip(*lasts, strict=True))
        return x, torch.stack(lasts)

    def _walk(self, x: Tensor, state, real: Tensor, suffix: str) -> tuple[Tensor, object]:
        """One cell over (B, T, size), from the end for a reverse one -> (B, T, hidden), state."""
        cell = {"rnn": rnn_cell, "lstm": lstm_cell, "gru": gru_cell}[self.kind]
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self, name + suffix) for name in names]
        steps = range(x.shape[1])
        outputs = {}
        for t in reversed(steps) if suffix.endswith("_reverse") else steps:
            new, now = cell(x[:, t], state, *weights), real[:, t, None]  # (B, hidden), (B, 1)
            if self.kind == "lstm":
                state = tuple(a.where(now, b) for a, b in zip(new, state, strict=True))
                outputs[t] = new[0].where(now, 0)
            else:
                state = new.where(now, state)
                outputs[t] = new.where(now, 0)
        return torch.stack([outputs[t] for t in steps], dim=1), state

    @staticmethod
    def _mask(x: Tensor, real: Tensor | None) -> Tensor:
        """`real` as a mask (B, T) for x (B, T, inputs)."""
        if real is None:
            return x.new_ones(x.shape[:2], dtype=torch.bool)
        if real.dtype is not torch.bool and real.shape == x.shape[:1]:
            return torch.arange(x.shape[1], device=x.device) < real[:, None]
        if real.dtype is not torch.bool or real.shape != x.shape[:2]:
            raise ValueError(
                f"real is {real.dtype} of shape {tuple(real.shape)}; allowed are whole numbers of "
                f"shape {tuple(x.shape[:1])} and torch.bool of shape {tuple(x.shape[:2])}"
            )
        return real
