"""What trained language models say to one line of the user's: `Recipe.predict` of their recipes.

Each function here makes such a `predict(model, text) -> answer`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from course_lib import addition, decoding, gpt, pretraining, reviews, runtime, sampling
from course_lib.characters import Dictionary
from course_lib.subwords import WordPiece
from course_lib.token_files import Pieces
from course_lib.translations import Translations

Answer = Callable[[nn.Module, str], str]


def write_on(dictionary: Dictionary | Pieces, count: int = 300) -> Answer:
    """A beginning -> the beginning and `count` symbols that may follow, always the same ones."""

    def answer(model: nn.Module, text: str) -> str:
        prompt = dictionary.encode(text or "\n")[None]  # (1, T)
        choose = partial(sampling.sample, temperature=0.8)
        options = {"choose": choose, "generator": runtime.generator_for(0), "slide": True}
        return dictionary.decode(gpt.generate(model, prompt, count, **options)[0])

    return answer


def translate(task: Translations, longest: int) -> Answer:
    """An English sentence -> a French one."""

    def answer(model: nn.Module, text: str) -> str:
        return task.text(decoding.greedy(model, task.source([text]), longest).ids[0])

    return answer


def add(task: addition.Addition) -> Answer:
    """ "12+345" -> the sum, as the model writes it."""

    def answer(model: nn.Module, text: str) -> str:
        numbers = text.replace(" ", "").rstrip("=").split("+")
        if len(numbers) != 2 or not all(n.isdecimal() and len(n) <= task.digits for n in numbers):
            allowed = f"two numbers of at most {task.digits} digits, such as 12+345"
            raise ValueError(f"INPUT is {text!r}; allowed are {allowed}")
        digits = task.complete(model, torch.tensor([[int(n) for n in numbers]]))[0]
        return "".join(map(str, digits.tolist())).lstrip("0") or "0"

    return answer


def fill_in(pieces: WordPiece) -> Answer:
    """A text with [MASK] in it -> the text with the likeliest words in their places."""

    def answer(model: nn.Module, text: str) -> str:
        ids = torch.tensor([[pretraining.CLS, *pieces.encode(text), pretraining.SEP]])  # (1, T)
        places = (ids[0] == pretraining.MASK).nonzero().T  # (1, M)
        if not places.numel():
            raise ValueError(f"INPUT is {text!r}; needed is a text with [MASK] in it")
        with torch.no_grad():
            words, _ = model(ids, torch.zeros_like(ids), torch.ones_like(ids).bool(), places)
        ids[0, places[0]] = words[0].argmax(-1)  # (M, vocabulary) -> (M,)
        return pieces.decode(ids[0, 1:-1].tolist())

    return answer


def judge(classes: Sequence[str], longest: int) -> Answer:
    """A text -> its likeliest classes, by its first `longest` tokens."""

    def answer(model: nn.Module, text: str) -> str:
        return likeliest(reviews.predict(model, reviews.encode([text])[:, :longest]), classes)

    return answer


def likeliest(logits: Tensor, classes: Sequence[str]) -> str:
    """The three best classes, or all, by logits (1, classes)."""
    best = logits.softmax(1)[0].topk(min(3, len(classes)))
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return ", ".join(f"{classes[number]} {100 * share:.1f} %" for share, number in pairs)


def compare(model: nn.Module, text: str) -> str:
    """Two reviews with " | " between them -> which is the kinder."""
    first, bar, second = text.partition("|")
    if not bar:
        raise ValueError(f"INPUT is {text!r}; allowed are two reviews with a | between them")
    logits = reviews.predict(model, reviews.encode([(first.strip(), second.strip())]))
    return ("the first", "the second")[int(logits[0].argmax())] + " is the kinder"
