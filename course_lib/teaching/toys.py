"""Toy tasks on short sequences, for which one can say where attention must look.

`reverse` and `copy_first` work on digits, `sort` on different numbers. Each returns a `Recipe`: a
model, its training, and a test on sequences drawn apart from those that it is trained on.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import runtime, train
from course_lib.attention import Decoder, Encoder, TransformerConfig
from course_lib.recipes import Recipe

DIGITS, LENGTH = 10, 16  # 10^16 sequences: one that was trained on is not met again
NUMBERS, DRAWN = 20, 8  # `sort` gets 8 of the numbers 0 .. 19
TRAINING, HELD_OUT = 20_000, 2_000  # sequences


class Tagger(nn.Module):
    """An encoder of one layer and one head that names a digit for each place.

    Tokens (B, T) int64 -> logits (B, T, DIGITS).
    """

    def __init__(self, positions: str = "sinusoidal", width: int = 32):
        super().__init__()
        hidden = 2 * width
        self.embed = nn.Embedding(DIGITS, width)
        self.encoder = Encoder(TransformerConfig(width, 1, 1, hidden, positions=positions))
        self.answer = nn.Linear(width, DIGITS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder(self.embed(tokens))  # (B, T) -> (B, T, width)
        return self.answer(x)  # -> (B, T, DIGITS)


class Sorter(nn.Module):
    """A decoder of one layer and one head that names the next number, given those before it.

    Numbers in any order (B, T), and what was said before (B, T), both int64, -> logits
    (B, T, NUMBERS). It needs no positions: the last number said tells which one is next.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        hidden = 2 * width
        self.embed = nn.Embedding(NUMBERS + 1, width)  # the last one stands for the start
        self.decoder = Decoder(TransformerConfig(width, 1, 1, hidden, positions="none"))
        self.answer = nn.Linear(width, NUMBERS)

    def forward(self, numbers: Tensor, said: Tensor) -> Tensor:
        x = self.decoder(self.embed(said), self.embed(numbers))  # (B, T) -> (B, T, width)
        return self.answer(x)  # -> (B, T, NUMBERS)


def digits(count: int, *seed: int) -> Tensor:
    """Random digits (count, LENGTH) int64."""
    return torch.randint(DIGITS, (count, LENGTH), generator=runtime.generator_for(*seed))


def numbers_to_sort(count: int, *seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Different numbers, what is said before each answer, and the answers: (count, DRAWN) each."""
    drawn = torch.rand(count, NUMBERS, generator=runtime.generator_for(*seed)).argsort(dim=1)
    numbers = drawn[:, :DRAWN]
    answers = numbers.sort(dim=1).values
    said = answers.roll(1, dims=1)
    said[:, 0] = NUMBERS  # the start
    return numbers, said, answers


def backwards(tokens: Tensor) -> Tensor:
    """(B, T) -> (B, T), the last token first."""
    return tokens.flip(1)


def first(tokens: Tensor) -> Tensor:
    """(B, T) -> (B, T), the first token everywhere."""
    return tokens[:, :1].expand_as(tokens)


def reverse(seed: int = 0, positions: str = "sinusoidal", **changes) -> Recipe:
    """Digits backwards: place i must look at place T - 1 - i; `changes` are those of the config."""
    return _of_digits(backwards, seed, positions, {"steps": 300, **changes})


def copy_first(seed: int = 0, positions: str = "sinusoidal", **changes) -> Recipe:
    """The first digit at every place: each must look at place 0."""
    return _of_digits(first, seed, positions, {"steps": 150, **changes})


def sort(seed: int = 0, **changes) -> Recipe:
    """Numbers in ascending order: each answer must look at where that number stands."""
    runtime.seed_everything(seed)
    config = _config(seed, {"steps": 300, **changes})
    return _recipe(Sorter(), numbers_to_sort, config)


def token_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Mean cross entropy over all places: inputs (B, T) and, as the last, the answers (B, T)."""
    *inputs, answers = batch
    return F.cross_entropy(model(*inputs).flatten(0, 1), answers.flatten())


@torch.no_grad()
def token_accuracy(model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, float]:
    """The shares of places, and of whole sequences, that are right."""
    *inputs, answers = batch
    right = model.eval()(*inputs).argmax(dim=-1) == answers  # (B, T)
    return {
        "accuracy": right.double().mean().item(),
        "sequences": right.all(dim=1).double().mean().item(),
    }


def _of_digits(task: Callable, seed: int, positions: str, changes: dict) -> Recipe:
    def draw(count: int, *seeds: int) -> tuple[Tensor, Tensor]:
        tokens = digits(count, *seeds)
        return tokens, task(tokens)

    runtime.seed_everything(seed)
    return _recipe(Tagger(positions), draw, _config(seed, changes))


def _recipe(model: nn.Module, draw: Callable, config: train.FitConfig) -> Recipe:
    batches = train.Batches(*draw(TRAINING, config.seed, 0), batch_size=128, seed=config.seed)
    held_out = draw(HELD_OUT, config.seed, 1)
    return Recipe(model, batches, token_loss, config, partial(token_accuracy, batch=held_out))


def _config(seed: int, changes: dict) -> train.FitConfig:
    values = {"optimizer": "muon", "learning_rate": 0.02, "schedule": "one_cycle", "warmup": 0.2}
    return train.FitConfig(**{"seed": seed, **values, **changes})
