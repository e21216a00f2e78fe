"""Two translation tasks as tensors: number words, which can be checked exactly, and dialogue.

Both go from English to French. Vocabularies are built on the training part alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from course_lib import data, runtime
from course_lib.text import (
    END,
    START,
    Vocabulary,
    join_rows,
    join_words,
    normalise,
    pad,
    split_words,
)

LARGEST = 999_999  # the largest of `NumberWords`' numbers


@dataclass(frozen=True, eq=False)
class Part:
    """Sentence pairs, as text and as numbers.

    english, french: normalised text in lower case; the French is the reference for BLEU.
    source: int64 (N, S), PAD behind. target: int64 (N, T), START ... END, PAD behind.
    """

    english: tuple[str, ...]
    french: tuple[str, ...]
    source: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.english)


@dataclass(frozen=True, eq=False)
class Translations:
    """A translation task. `validation` serves to choose by, `test` only to report.

    `development` is both that is not test, for a last training run when nothing is chosen any more.
    """

    english: Vocabulary
    french: Vocabulary
    train: Part
    validation: Part
    test: Part

    @property
    def development(self) -> Part:
        first, second = self.train, self.validation
        sides = (getattr(first, name) + getattr(second, name) for name in ("english", "french"))
        ids = (
            join_rows(getattr(first, name), getattr(second, name)) for name in ("source", "target")
        )
        return Part(*sides, *ids)

    def source(self, sentences: Sequence[str]) -> Tensor:
        """English sentences as a reader types them -> int64 (B, S), PAD behind."""
        return pad([self.english.encode(split_words(normalise(text))) for text in sentences])

    def text(self, ids: Iterable[int]) -> str:
        """The French text of `ids`, a list or a row of a target, as it is compared by BLEU."""
        return join_words(self.french.decode(ids), "french")


@dataclass(frozen=True, eq=False)
class NumberWords(Translations):
    """English number words -> French ones; `numbers` holds the number of each pair, by part."""

    numbers: dict[str, Tensor]


@cache
def number_words(
    train: int = 40_000, validation: int = 2_000, test: int = 2_000, seed: int = 0
) -> NumberWords:
    """Different numbers from 0 to 999,999 drawn for each part; 0 to 99 are all in training.

    Drawn evenly, nine in ten have six digits. Kept in memory: asking again costs nothing.

    Raises:
        ValueError: a part without numbers, or `train` below 100.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        least = 100 if name == "train" else 1
        if not least <= size <= LARGEST // 3:
            raise ValueError(f"{name} is {size}; allowed are {least} to {LARGEST // 3}")
    drawn = 100 + torch.randperm(LARGEST - 99, generator=runtime.generator_for(seed))
    parts = torch.cat([torch.arange(100), drawn])[: sum(sizes.values())].split(list(sizes.values()))
    numbers = dict(zip(sizes, parts, strict=True))
    spell = _spellers()
    pairs = {
        name: tuple(zip(*([say(n) for say in spell] for n in part.tolist()), strict=True))
        for name, part in numbers.items()
    }
    return NumberWords(**fields_of(pairs), numbers=numbers)


@cache
def dialogue(validation: int = 1_000, min_count: int = 2, seed: int = 0) -> Translations:
    """The lines of `data.load("english_french")` with their test lines; kept in memory.

    Args:
        validation: pairs taken out of training, about; sentences that are equal in English but
            for case, blanks and punctuation stay on one side, as they do for the test lines.
        min_count: rarer words are UNKNOWN, so that a model meets that token in training.
        seed: of the choice of validation pairs.

    Raises:
        ValueError: validation below 1 or above 10,000.
    """
    if not 1 <= validation <= 10_000:
        raise ValueError(f"validation is {validation}; allowed are 1 to 10000")
    pairs = data.load("english_french")
    lines = list(zip(pairs.english, pairs.french, strict=True))
    training = (~pairs.test).nonzero()[:, 0].tolist()
    groups: dict[str, list[int]] = {}
    for line in training:
        groups.setdefault(_letters(pairs.english[line]), []).append(line)
    held_out: set[int] = set()
    names = list(groups)
    for group in torch.randperm(len(names), generator=runtime.generator_for(seed)).tolist():
        if len(held_out) >= validation:
            break
        held_out.update(groups[names[group]])
    chosen = {
        "train": [line for line in training if line not in held_out],
        "validation": sorted(held_out),
        "test": pairs.test.nonzero()[:, 0].tolist(),
    }
    parts = {
        part: tuple(zip(*(lines[i] for i in rows), strict=True)) for part, rows in chosen.items()
    }
    return Translations(**fields_of(parts, min_count))


def _letters(sentence: str) -> str:
    """Letters and digits in lower case: what the datasheet compares sentences by."""
    return re.sub(r"[\W_]+", "", sentence.lower())


def fields_of(
    parts: dict[str, tuple[Sequence[str], Sequence[str]]], min_count: int = 1
) -> dict[str, Vocabulary | Part]:
    """The fields of `Translations` from (English, French) sentences by part."""
    texts = {
        name: tuple(tuple(normalise(text) for text in side) for side in sides)
        for name, sides in parts.items()
    }
    tokens = {
        name: [[split_words(text) for text in side] for side in sides]
        for name, sides in texts.items()
    }
    english, french = (Vocabulary.build(side, min_count) for side in tokens["train"])
    fields: dict[str, Vocabulary | Part] = {"english": english, "french": french}
    for name, (sources, targets) in tokens.items():
        source = pad([english.encode(words) for words in sources])  # (N, S)
        target = pad([[START, *french.encode(words), END] for words in targets])  # (N, T)
        fields[name] = Part(*texts[name], source, target)
    return fields


def _spellers():
    """A function for each language from a number up to `LARGEST` to its words.

    num2words spells those below a thousand, which is slow; the others are put together from them.
    """
    from num2words import num2words  # needed by this task alone

    english = [num2words(number) for number in range(1000)]
    french = [num2words(number, lang="fr") for number in range(1000)]

    def say_english(number: int) -> str:
        thousands, rest = divmod(number, 1000)
        if thousands == 0:
            return english[rest]
        link = ", " if rest >= 100 else " and "
        return f"{english[thousands]} thousand" + (link + english[rest] if rest else "")

    def say_french(number: int) -> str:
        thousands, rest = divmod(number, 1000)
        if thousands == 0:
            return french[rest]
        # "cents" and "quatre-vingts" lose their s before "mille", and one thousand is "mille".
        count = re.sub(r"(cent|vingt)s$", r"\1", french[thousands]) + " "
        return ("" if thousands == 1 else count) + "mille" + (" " + french[rest] if rest else "")

    return say_english, say_french
