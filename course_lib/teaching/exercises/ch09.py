"""Exercises and quizzes of chapter 09."""

from collections import Counter

import torch
from torch import Tensor

from course_lib.sampling import probabilities
from course_lib.teaching.exercises.exercise import Exercise, Rejected, expect_tensor
from course_lib.teaching.quiz import Choice, Quiz


def ids_of(value, what: str) -> list[int]:
    """The ids in a list or a tensor, or a rejection."""
    try:
        return [int(number) for number in value]
    except (TypeError, ValueError):
        raise Rejected(f"{what} should be a list of whole numbers; yours: {value!r}.") from None


def examine_windows(windows) -> None:
    ids = torch.tensor([4, 7, 1, 0, 9, 3, 5, 8])
    value = windows(ids.clone(), [0, 2, 4], 3)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Rejected("Two tensors should come back: inputs and labels.")
    inputs, labels = value
    expect_tensor(inputs, (3, 3), "the inputs")
    expect_tensor(labels, (3, 3), "the labels")
    right = torch.tensor([[4, 7, 1], [1, 0, 9], [9, 3, 5]])
    following = torch.tensor([[7, 1, 0], [0, 9, 3], [3, 5, 8]])
    if inputs.equal(following) and labels.equal(right):
        raise Rejected("Inputs and labels are exchanged: a label comes after its input.")
    if not inputs.equal(right):
        raise Rejected(f"The window from place 2 should be [1, 0, 9]; yours: {inputs[1].tolist()}.")
    if labels.equal(right):
        raise Rejected("The labels equal the inputs: there is nothing to predict, only to copy.")
    if not labels.equal(following):
        raise Rejected(
            f"The labels of [1, 0, 9] should be [0, 9, 3]; yours: {labels[1].tolist()}. Does the "
            "last one need an id from behind the window?"
        )


def solve_windows(ids, starts, length):
    inputs = [ids[start : start + length] for start in starts]
    labels = [ids[start + 1 : start + length + 1] for start in starts]
    return torch.stack(inputs), torch.stack(labels)


def examine_example(example) -> None:
    value = example([8, 3, 5], [6, 2])
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Rejected("Two lists should come back: the input and the labels.")
    given, labels = ids_of(value[0], "The input"), ids_of(value[1], "The labels")
    if len(given) != len(labels):
        raise Rejected(
            f"Input and labels must be of one length; yours have {len(given)} and {len(labels)}."
        )
    if given == [8, 3, 5, 6, 2]:
        raise Rejected("Nothing is to be predicted after the last symbol: leave it out.")
    if given != [8, 3, 5, 6]:
        raise Rejected(f"The input should be the prompt, then 6; yours: {given}.")
    if labels == [3, 5, 6, 2]:
        raise Rejected("Here the prompt itself is to be predicted, too; mark those places.")
    if labels == [-1, -1, -1, 6]:
        raise Rejected("A place too late: at the prompt's last symbol the answer must begin.")
    if -100 in labels:
        raise Rejected("PyTorch's own mark is -100; here it is -1.")
    if labels == [-1, -1, -1, 2]:
        raise Rejected("All places of the prompt are marked; but the last one has work to do.")
    if 0 in labels:
        raise Rejected("0 is an id like any other; what is left out is marked by -1.")
    if labels != [-1, -1, 6, 2]:
        raise Rejected(f"What should follow 8, what 3, what 5 and what 6? Yours: {labels}.")
    short = [ids_of(part, "Each part") for part in example([1], [4, 4, 0])]
    if short != [[1, 4, 4], [4, 4, 0]]:
        raise Rejected("A prompt of one symbol: no place is left out there.")


def solve_example(prompt, answer):
    return prompt + answer[:-1], [-1] * (len(prompt) - 1) + answer


def examine_write(write) -> None:
    seen = []

    def next_logits(ids):
        """Prefers the sum of the last two ids, modulo 10."""
        seen.append([int(number) for number in ids])
        return torch.nn.functional.one_hot(torch.tensor(sum(seen[-1][-2:]) % 10), 10).float()

    given = [1, 2]
    value = write(next_logits, given, 4, 5)
    if isinstance(value, Tensor):
        value = value.tolist()
    if not isinstance(value, list):
        raise Rejected(f"A list of ids is asked for, but a {type(value).__name__} came back.")
    value = ids_of(value, "The result")
    if given != [1, 2]:
        raise Rejected("The prompt that was handed in has changed: make a new list.")
    if value == [3, 5, 8, 3]:
        raise Rejected("The new ids are right; the prompt should stand before them.")
    if seen and all(len(ids) == 1 for ids in seen):
        raise Rejected("Only the last id is shown; the function needs the text so far.")
    if len(seen) > 1 and seen[0] == seen[1]:
        raise Rejected("It is shown the same ids again and again: append what was chosen.")
    if len(value) != 6:
        raise Rejected(f"With the prompt there should be 6 ids; yours are {len(value)}.")
    if value != [1, 2, 3, 5, 8, 3]:
        raise Rejected(f"Of this model [1, 2, 3, 5, 8, 3] should come; yours: {value}.")
    seen.clear()
    value = write(next_logits, [1, 2], 6, 3)
    if max(map(len, seen)) > 3:
        raise Rejected("With a context of 3 it was shown more than three ids at once.")
    if len(seen[-1]) < 3:
        raise Rejected("With a context of 3 it may see three ids; it was shown fewer in the end.")
    if seen[-1] == [1, 2, 3]:
        raise Rejected("When the context is full it is shown the oldest ids; show the newest.")
    if ids_of(value, "The result") != [1, 2, 3, 5, 8, 3, 1, 4]:
        raise Rejected("With a context of 3 ids are lost: cut what is shown, not what is kept.")


def solve_write(next_logits, prompt, count, context):
    ids = list(prompt)
    for _ in range(count):
        logits = next_logits(ids[-context:])
        ids.append(int(logits.argmax()))
    return ids


def examine_nucleus(nucleus) -> None:
    chances = torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2])
    value = nucleus(chances.clone(), 0.6)
    expect_tensor(value, (5,), "the probabilities")
    if not value.is_floating_point() or value.isnan().any() or value.sum() == 0:
        raise Rejected(f"These are no probabilities: {value.tolist()}.")
    if torch.allclose(value, chances):
        raise Rejected("Nothing was struck out.")
    if torch.allclose(value, torch.tensor([0.0, 0.4, 0.0, 0.25, 0.0])):
        raise Rejected("The right ones are left; now bring their sum back to 1.")
    if torch.allclose(value, torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])):
        raise Rejected("One is missing: what is left must make up 0.6 at least, and 0.4 does not.")
    if value[0] > value[1] and value.sort(descending=True).values.equal(value):
        raise Rejected("They come in sorted order; write each back to the place it came from.")
    if value[3] == 0:
        raise Rejected("The first in the list are kept; the likeliest should be.")
    if value.count_nonzero() == 3:
        raise Rejected("One too many: 0.4 and 0.25 make up 0.6 already.")
    if abs(value.sum().item() - 1) > 1e-4:
        raise Rejected(f"Probabilities sum to 1; yours sum to {value.sum().item():.3f}.")
    if not torch.allclose(value, torch.tensor([0, 0.4, 0, 0.25, 0]) / 0.65):
        raise Rejected(f"0.4 should become 0.4 / 0.65; your numbers: {value.tolist()}.")
    for seed in range(5):
        drawn = torch.randn(12, generator=torch.Generator().manual_seed(seed)).softmax(0)
        for top_p in (0.01, 0.35, 0.8, 1.0):
            right = probabilities(drawn.log(), top_p=top_p)
            if not torch.allclose(nucleus(drawn.clone(), top_p), right, atol=1e-5):
                raise Rejected(f"With top_p {top_p} and twelve symbols it goes wrong.")


def solve_nucleus(chances, top_p):
    ordered, places = chances.sort(descending=True)
    before = ordered.cumsum(0) - ordered  # what the likelier ones make up
    kept = torch.zeros_like(chances)
    kept[places] = ordered * (before < top_p)
    return kept / kept.sum()


TEXT = {"hug": 10, "pug": 5, "pun": 4, "bun": 3, "run": 2, "nun": 1, "hugs": 5}
TEXT = {tuple(word): count for word, count in TEXT.items()}
JOINED = {word: count for word, count in TEXT.items() if "n" in word}
JOINED |= {("h", "ug"): 10, ("p", "ug"): 5, ("h", "ug", "s"): 5}


def examine_join(join) -> None:
    words = dict(TEXT)
    value = join(words)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Rejected("Two things should come back: the pair, and the words with it joined.")
    pair, joined = value
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise Rejected(f"The pair is a tuple of two symbols; yours is {pair!r}.")
    if words != TEXT:
        raise Rejected("The words that were handed in have changed: make a new dict.")
    if pair == ("u", "n"):
        raise Rejected("A word counts as often as it occurs, not once.")
    if pair != ("u", "g"):
        raise Rejected(f"The commonest pair stands there 20 times; yours, {pair}, does not.")
    if not isinstance(joined, dict | Counter) or any(isinstance(word, str) for word in joined):
        raise Rejected("The words should be a dict as before: tuples of symbols with their counts.")
    if ("h", "ug") not in joined:
        raise Rejected("In the new words the two symbols should be one: ('h', 'ug').")
    if ("h", "ug", "s") not in joined or ("p", "u", "n") not in joined:
        raise Rejected("What stands beside the pair, and words without it, should stay.")
    if dict(joined) != JOINED:
        raise Rejected(f"The counts should stay as they were; yours: {dict(joined)}.")
    repeated = {("a", "b", "a", "b"): 3, ("a", "a", "b"): 1}
    _, joined = join(repeated)
    if dict(joined) != {("ab", "ab"): 3, ("a", "ab"): 1}:
        raise Rejected(f"A pair may come twice in a word. Of {repeated} comes {dict(joined)}.")


def solve_join(words):
    pairs = Counter()
    for word, count in words.items():
        for two in zip(word, word[1:], strict=False):
            pairs[two] += count
    pair = max(pairs, key=pairs.get)
    joined = {}
    for word, count in words.items():
        symbols = []
        for symbol in word:
            if symbols and (symbols[-1], symbol) == pair:
                symbols[-1] += symbol
            else:
                symbols.append(symbol)
        joined[tuple(symbols)] = count
    return pair, joined


windows = Exercise(
    number="9.1",
    title="windows to learn from",
    examine=examine_windows,
    solution=solve_windows,
    hints=(
        "A window of length 3 from place 2 holds the ids at places 2, 3, 4. What follows each of "
        "them stands at places 3, 4, 5.",
        "`ids[start + 1 : start + length + 1]` are the labels of one window; `torch.stack` makes "
        "one tensor of a list of them.",
    ),
)

example = Exercise(
    number="9.2",
    title="a prompt and its completion",
    examine=examine_example,
    solution=solve_example,
    hints=(
        "Write the whole text down, prompt and answer, and below each symbol the one that follows "
        "it. Which of these may count?",
        "The input lacks the last symbol of the answer. Of the prompt all places but the last are "
        "marked: there are `len(prompt) - 1` of them.",
    ),
)

write = Exercise(
    number="9.3",
    title="write, symbol by symbol",
    examine=examine_write,
    solution=solve_write,
    hints=(
        "A loop of `count` steps over a list that begins as a copy of the prompt.",
        "Show `ids[-context:]`, which is the whole list as long as it is short enough; append the "
        "place of the largest logit.",
    ),
)

nucleus = Exercise(
    number="9.4",
    title="top-p by hand",
    examine=examine_nucleus,
    solution=solve_nucleus,
    hints=(
        "Sort the probabilities, the largest first, and keep the places they came from. A symbol "
        "stays as long as those *before* it make up less than `top_p`.",
        "`ordered.cumsum(0) - ordered` is what stands before each. Write what stays back to its "
        "place, as in `kept[places] = ...`, and divide by the sum.",
    ),
)

join = Exercise(
    number="9.5",
    title="a step of byte-pair encoding",
    examine=examine_join,
    solution=solve_join,
    hints=(
        "First count: for each word, each two neighbours, as often as the word occurs. A `Counter` "
        "does the adding.",
        "Then walk through each word and build a new list: where its last symbol and the next one "
        "are the pair, glue the next one to it; else append it.",
    ),
)

EXERCISES = (windows, example, write, nucleus, join)

parallel = Quiz(
    "A GPT is trained on a window of 64 characters. How many predictions does one pass train?",
    (
        Choice(
            "One: that of the character behind the window",
            "Then 63 of 64 outputs would be thrown away. Each place says what comes next, and the "
            "causal mask keeps it from seeing the answer.",
        ),
        Choice(
            "64: one at each place",
            "Place 1 predicts from one character, place 64 from 64. All in the same pass.",
            correct=True,
        ),
        Choice(
            "64, but in 64 passes, each a character longer than the last",
            "That is how it writes. In training the text is known: no place has to wait.",
        ),
    ),
)

minus_one = Quiz(
    "The labels at the places of a prompt are -1. What do these places still do?",
    (
        Choice(
            "Nothing; they could be left out of the input",
            "Then the model would not know what to complete. The answer's places look at them.",
        ),
        Choice(
            "They are predicted, with a smaller weight",
            "Their weight in the loss is 0: the gradient of their logits is 0, too.",
        ),
        Choice(
            "They are read: the answer's places attend to them, and gradients reach them that way",
            "Only their own predictions do not count.",
            correct=True,
        ),
    ),
)

cold = Quiz(
    "A GPT writes a play, and you lower the temperature to almost 0. What will the text be like?",
    (
        Choice(
            "The same for every seed, and soon in circles",
            "Nothing is left to chance. A likely phrase leads to itself, and it goes round.",
            correct=True,
        ),
        Choice(
            "More varied, since the model is freer",
            "A high temperature makes it freer. A low one makes the likely likelier.",
        ),
        Choice(
            "Free of mistakes",
            "The likeliest next character is no promise of a good sentence.",
        ),
    ),
)

cache = Quiz(
    "Why may a GPT keep the keys and values of earlier places?",
    (
        Choice(
            "They change so little that nobody sees it",
            "They do not change at all; the logits are equal up to rounding.",
        ),
        Choice(
            "The weights do not change while it writes",
            "True, but not enough: in a network that looks ahead, new symbols would still change "
            "the old places.",
        ),
        Choice(
            "No earlier place sees a later one, so nothing that comes can change them",
            "That is what the causal mask gives. BERT, which looks in both directions, would have "
            "to compute all of them again.",
            correct=True,
        ),
    ),
)

bytes_quiz = Quiz(
    "Which text can GPT-2's byte-level pieces not express?",
    (
        Choice(
            "One with characters that were not in the training text",
            "Every character is a row of bytes, and each of the 256 bytes is a piece of its own.",
        ),
        Choice(
            "None: every text is bytes, and every byte is a piece",
            "A rare text only needs more pieces.",
            correct=True,
        ),
        Choice(
            "One whose words are longer than the longest piece",
            "Long words are cut into several pieces; that is what pieces are for.",
        ),
    ),
)

QUIZZES = (parallel, minus_one, cold, cache, bytes_quiz)
