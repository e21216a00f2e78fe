"""Vectors for some words, made by hand, so that one can see what attention does with meaning.

Each column is a trait, named in `TRAITS`; a word has 2 where it has the trait, so that the scores
of like and unlike words differ clearly, and 0 elsewhere. Nothing here was learned: it is the
smallest thing that behaves like embeddings, whose columns nobody can name.
"""

import torch
from torch import Tensor

TRAITS = ("water", "money", "animal", "person", "food", "place", "action", "small word")
_WORDS = {
    "water": "river lake sea boat wet swims flows green",
    "money": "money coin rich pays lends cash shop loan",
    "animal": "cat dog fish mouse horse it bird",
    "person": "man woman child she he they banker teacher",
    "food": "bread cheese fish apple eats cooks kitchen",
    "place": "river lake sea bank shop kitchen street house",
    "action": "swims flows pays lends eats cooks sits sees runs has is was crosses chases",
    "small word": "the a of in at to by and it she he they is was has",
}
_TWO_MEANINGS = {"bank": ("water", "money")}  # that of a river, and that with counters


def vector(word: str) -> Tensor:
    """The word's traits (8,), 2 or 0; all 0 for a word that the table does not hold."""
    word = word.lower().strip(".,;:!?\"'")
    traits = [word in words.split() for words in _WORDS.values()]
    for trait in _TWO_MEANINGS.get(word, ()):
        traits[TRAITS.index(trait)] = True
    return 2 * torch.tensor(traits).float()


def vectors(sentence: str) -> tuple[list[str], Tensor]:
    """The words of a sentence, and their vectors (T, 8).

    Raises:
        ValueError: there is no word in it.
    """
    words = sentence.split()
    if not words:
        raise ValueError(f"sentence is {sentence!r}; allowed is text with at least one word")
    return words, torch.stack([vector(word) for word in words])


def known() -> list[str]:
    """Every word of the table, in alphabetical order."""
    found = {word for words in _WORDS.values() for word in words.split()}
    return sorted(found | set(_TWO_MEANINGS))
