"""A text as a row of characters: the dictionary, random windows to train on, held-out loss.

Ids are int64. Bad arguments raise `ValueError`, with the argument, its value and what is allowed.
"""

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import distributed, runtime
from course_lib.batches import Batches


class Dictionary:
    """A number for each symbol (a character): its place among `symbols`.

    Raises:
        ValueError: no symbols, or one of them twice.
    """

    def __init__(self, symbols: Iterable[str]):
        self.symbols = tuple(symbols)
        self.ids = {symbol: number for number, symbol in enumerate(self.symbols)}
        if not self.symbols:
            raise ValueError("symbols is empty; at least one is needed")
        if len(self.ids) < len(self.symbols):
            twice = next(s for i, s in enumerate(self.symbols) if self.ids[s] != i)
            raise ValueError(f"symbols hold {twice!r} twice; each may occur once")

    @classmethod
    def build(cls, *texts: str) -> "Dictionary":
        """The characters of the first text in alphabetical order, then what else each next has.

        A test text may so be added behind the training text: what only it holds gets a number,
        too, and is a symbol that the model never saw.
        """
        symbols: dict[str, None] = {}
        for text in texts:
            symbols.update(dict.fromkeys(sorted(set(text))))
        return cls(symbols)

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> Tensor:
        """The ids of a text of T characters, (T,).

        Raises:
            ValueError: the text holds a character without a number. It names the first one.
        """
        try:
            return torch.tensor([self.ids[symbol] for symbol in text], dtype=torch.int64)
        except KeyError as missing:
            symbol = missing.args[0]
            raise ValueError(
                f"text holds {symbol!r} at place {text.index(symbol)}; allowed are the "
                f"{len(self)} symbols {''.join(self.symbols)!r}"
            ) from None

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text of ids, a list or a tensor (T,)."""
        numbers = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        wrong = [number for number in numbers if not 0 <= number < len(self)]
        if wrong:
            raise ValueError(f"ids hold {wrong[0]}; allowed are 0 to {len(self) - 1}")
        return "".join(self.symbols[number] for number in numbers)


class WindowBatches(Batches):
    """Batches of windows cut at random places out of one long text, each with its next symbols.

    A batch is inputs (B, length) and labels (B, length), which are the inputs moved on by one. An
    epoch has as many windows as fit side by side into the text; places are drawn with replacement.

    Args:
        ids: of any integer type, (N,); a memory-mapped file does, too.
        length: of the windows, their last label not counted.
    """

    def __init__(self, ids: Tensor, *, length: int, batch_size: int, seed: int = 0):
        super().__init__(ids, batch_size=batch_size, seed=seed)
        if ids.ndim != 1:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; allowed is (N,)")
        if not 1 <= length < len(ids):
            raise ValueError(f"length is {length}; allowed are 1 to {len(ids) - 1}")
        self.length = length

    def __len__(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.tensors[0]) / (self.length * self.batch_size))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch from number `start` on: this process's part of each."""
        (ids,) = self.tensors
        places = torch.arange(self.length + 1, device=ids.device)
        rank, processes = distributed.rank(), distributed.world_size()
        for number in range(start, len(self)):
            generator = runtime.generator_for(self.seed, epoch, number)
            first = torch.randint(len(ids) - self.length, (self.batch_size,), generator=generator)
            first = first[rank::processes].to(ids.device)
            windows = ids[first[:, None] + places].long()  # (B,) -> (B, length + 1)
            yield windows[:, :-1], windows[:, 1:]

    def to(self, device: torch.device) -> "WindowBatches":
        """The same batches, cut on `device`."""
        ids = self.tensors[0].to(device)
        return WindowBatches(ids, length=self.length, batch_size=self.batch_size, seed=self.seed)


@torch.no_grad()
def losses_by_symbol(model: nn.Module, ids: Tensor, length: int, batch_size: int = 256) -> Tensor:
    """How much each symbol but the first surprises the model: -log of its probability, in nats.

    The text is cut into windows of `length` side by side: a symbol's place in its window decides
    how much of the past the model sees.

    Args:
        model: `model(inputs)` maps (B, T) to logits (B, T, vocabulary); in evaluation mode.
        ids: (N,).

    Returns:
        (N - 1,) float32 on the CPU.
    """
    device = next(model.parameters()).device
    count = len(ids) - 1
    if count < 1 or length < 1:
        raise ValueError(f"ids are {len(ids)}, length is {length}; allowed are from 2, from 1")
    padded = F.pad(ids.long(), (0, -count % length))  # to whole windows
    inputs, labels = padded[:-1].view(-1, length), padded[1:].view(-1, length)
    losses = []
    for part, wanted in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
        logits = model(part.to(device)).float()  # -> (B, length, vocabulary)
        wanted = wanted.to(device)
        losses.append(F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none").cpu())
    return torch.cat(losses).flatten()[:count]


def held_out_loss(model: nn.Module, ids: Tensor, length: int) -> float:
    """Mean of `losses_by_symbol`: every symbol of the text but the first counts once."""
    return losses_by_symbol(model, ids, length).mean().item()
