"""Sums to be completed: "123+456=" is the prompt, "0579" the completion, which can be checked.

Numbers have a fixed width, so that every prompt and every completion is as long as any other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib import runtime
from course_lib.batches import IGNORED, Batches
from course_lib.characters import Dictionary

DICTIONARY = Dictionary("0123456789+=")  # a digit is its own id
PLUS, EQUALS = 10, 11


@dataclass(frozen=True)
class Addition:
    """The sums of two numbers of `digits` digits, zeros in front where they are shorter.

    Args:
        reverse: write the sum with its last digit first: then each digit depends on what is
            already written, as it does when one adds by hand.

    Raises:
        ValueError: digits outside 1 to 3.
    """

    digits: int = 3
    reverse: bool = True

    def __post_init__(self):
        if not 1 <= self.digits <= 3:
            raise ValueError(f"digits is {self.digits!r}; allowed are 1 to 3")

    @property
    def prompt_length(self) -> int:
        return 2 * self.digits + 2

    @property
    def answer_length(self) -> int:
        return self.digits + 1

    def split(self, held_out: int = 2000, seed: int = 0) -> tuple[Tensor, Tensor]:
        """All pairs of numbers as training pairs (N, 2) and `held_out` test pairs (held_out, 2).

        b + a is never a training pair where a + b is a test pair.
        """
        numbers = 10**self.digits
        if not 1 <= held_out <= numbers**2 // 4:
            raise ValueError(f"held_out is {held_out}; allowed are 1 to {numbers**2 // 4}")
        order = torch.randperm(numbers**2, generator=runtime.generator_for(seed))
        pairs = torch.stack((order // numbers, order % numbers), dim=1)  # (numbers^2, 2)
        sorted_pair = pairs.amin(1) * numbers + pairs.amax(1)  # one name for both orders
        test = torch.zeros(numbers**2, dtype=torch.bool)
        test[sorted_pair[:held_out]] = True
        return pairs[~test[sorted_pair]], pairs[:held_out]

    def prompts(self, pairs: Tensor) -> Tensor:
        """(N, 2) -> ids of "a+b=", (N, prompt_length)."""
        a, b = (_digits(number, self.digits) for number in pairs.unbind(1))  # each (N, digits)
        sign = a.new_full((len(a), 1), PLUS)
        return torch.cat((a, sign, b, torch.full_like(sign, EQUALS)), dim=1)

    def answers(self, pairs: Tensor) -> Tensor:
        """(N, 2) -> ids of the sum's digits, (N, answer_length)."""
        answers = _digits(pairs.sum(1), self.answer_length)
        return answers.flip(1) if self.reverse else answers

    def examples(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 2) -> inputs [X Y1 .. Yk-1] and labels [-1 .. -1 Y1 .. Yk], each (N, T).

        A label is what should follow at its place: the prompt's last symbol is followed by Y1.
        """
        prompts, answers = self.prompts(pairs), self.answers(pairs)
        inputs = torch.cat((prompts, answers[:, :-1]), dim=1)
        ignored = torch.full_like(prompts[:, 1:], IGNORED)
        return inputs, torch.cat((ignored, answers), dim=1)

    def batches(self, pairs: Tensor, batch_size: int, seed: int = 0) -> Batches:
        """Batches of `examples`, made from the pairs when they are needed."""
        return Batches(pairs, batch_size=batch_size, seed=seed, transform=self._transform)

    def _transform(self, batch: tuple[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.examples(*batch)

    @torch.no_grad()
    def complete(self, model: nn.Module, pairs: Tensor) -> Tensor:
        """What the model writes behind the prompts, one symbol after another: (N, 2) -> (N, k).

        Always the likeliest symbol, and without a cache: so few of them need none.

        Args:
            model: `model(ids)` maps (N, T) to logits (N, T, vocabulary); in evaluation mode.
        """
        ids = self.prompts(pairs).to(next(model.parameters()).device)
        for _ in range(self.answer_length):
            ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), dim=1)  # -> (N, T + 1)
        return ids[:, self.prompt_length :]

    def exactness(self, model: nn.Module, pairs: Tensor) -> float:
        """Share of the pairs (N, 2) for which the model writes every digit of the sum rightly."""
        right = self.complete(model, pairs).cpu() == self.answers(pairs).cpu()
        return right.all(1).float().mean().item()


def _digits(numbers: Tensor, count: int) -> Tensor:
    """(N,) -> their last `count` decimal digits, (N, count), the highest first."""
    powers = 10 ** torch.arange(count - 1, -1, -1, device=numbers.device)
    return numbers[:, None] // powers % 10
