"""Exercises and quizzes of chapter 00."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.teaching.exercises.exercise import Exercise, Rejected
from course_lib.teaching.quiz import Choice, Quiz


def examine_shapes(answer: dict[str, tuple[int, ...]]) -> None:
    right = RIGHT_SHAPES
    if not isinstance(answer, dict) or set(answer) != set(right):
        raise Rejected(f"Keep the dictionary with its four names: {', '.join(right)}.")
    for name, shape in right.items():
        given = answer[name]
        if given is ... or given is None:
            raise Rejected(f"The shape of `{name}` is still open.")
        if isinstance(given, Tensor):
            raise Rejected(f"`{name}` is a tensor; its shape is asked for: `tuple(x.shape)`.")
        if isinstance(given, int):
            raise Rejected(
                f"The shape of `{name}` is a number; a shape is a tuple, and one with a single "
                "axis needs a comma: (3,)."
            )
        if not isinstance(given, tuple):
            raise Rejected(f"Write the shape of `{name}` in round brackets, such as (3, 5).")
        if given != shape:
            raise Rejected(_what_is_wrong(name, given, shape))


def _what_is_wrong(name: str, given: tuple, right: tuple[int, ...]) -> str:
    if name == "one digit" and len(given) == 4:
        return "`one digit` alone: an index has picked it from the batch. Which axis is gone?"
    if sorted(given, key=str) == sorted(right, key=str):
        return f"`{name}`: the right numbers in another order. It is number, channel, row, column."
    if len(given) != len(right):
        axes = "1 axis" if len(right) == 1 else f"{len(right)} axes"
        return f"`{name}` has {axes}, your answer has {len(given)}."
    return f"`{name}`: the number of axes is right, but not every size. What does each one count?"


def examine_accuracy_of(accuracy_of: Callable) -> None:
    if not callable(accuracy_of):
        raise Rejected("Hand over the function itself, without brackets: `check(accuracy_of)`.")
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 5.0], [9.0, 1.0, 2.0]])
    labels = torch.tensor([0, 1, 1, 0])  # three of four are right
    value = _one_number(accuracy_of(logits, labels))
    if abs(value - 0.75) > 1e-6:
        raise Rejected(ACCURACY_MISTAKES.get(value) or f"0.75 is expected here, not {value:g}.")
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(1000, 7, generator=generator) - 5, torch.arange(1000) % 7
    expected = solve_accuracy_of(logits, labels)
    if abs(_one_number(accuracy_of(logits, labels)) - expected) > 1e-6:
        raise Rejected(
            "Right for four images of three classes, but not for 1,000 images of seven classes, "
            "all of whose logits are negative."
        )


ACCURACY_MISTAKES = {
    3.0: "You count the right answers; the accuracy is their share.",
    75.0: "That is the share in percent; give it as a number between 0 and 1.",
    0.25: "You measure the share of the wrong answers.",
    0.0: "Three of these four answers are right, but you find none. Compare the label with the "
    "position of the largest logit in each row: not with the logit, nor with one position of all.",
}


def _one_number(value: object) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise Rejected(
            f"One number is asked for, but a tensor of shape {tuple(value.shape)} came back. "
            "Is something still to be averaged?"
        )
    if not isinstance(value, Tensor | int | float):
        raise Rejected(f"One number is asked for, but a {type(value).__name__} came back.")
    return float(value)


def solve_accuracy_of(logits, labels):
    guesses = logits.argmax(dim=1)  # (N, classes) -> (N,)
    return (guesses == labels).float().mean().item()


RIGHT_SHAPES = {
    "one digit": (1, 28, 28),
    "a batch": (64, 1, 28, 28),
    "logits": (64, 10),
    "labels": (64,),
}

shapes = Exercise(
    number="0.1",
    title="read the shapes",
    examine=examine_shapes,
    solution=RIGHT_SHAPES,
    hints=(
        "The order is always: which image, which channel, which row, which column. A grey image "
        "still has a channel axis; how many channels does it have?",
        "A batch puts one more axis in front. Logits have one number for each image and each of "
        "the ten digits; labels have one whole number for each image.",
    ),
)

accuracy = Exercise(
    number="0.2",
    title="measure the accuracy",
    examine=examine_accuracy_of,
    solution=solve_accuracy_of,
    hints=(
        "The network's answer for an image is the class with the largest logit. Which method of a "
        "tensor tells where the largest value is, and along which axis must it look?",
        "`logits.argmax(dim=1)` has shape (N,), as `labels` has. Comparing the two with `==` gives "
        "N truth values; as floats they are ones and zeros, and their mean is the share.",
    ),
)

EXERCISES = (shapes, accuracy)

why_test_set = Quiz(
    "Why is the accuracy measured on 10,000 digits that the network has never trained on?",
    (
        Choice(
            "Because the network should read new digits, not remember old ones",
            "What counts is how it does on digits it has never met. A network that trains for "
            "long enough can remember its training digits one by one.",
            correct=True,
        ),
        Choice(
            "Because measuring on all 60,000 would take too long",
            "Measuring is quick, since nothing is learned. Even if it took no time at all, the "
            "figure would tell how well the network remembers, which is another question.",
        ),
        Choice(
            "Because the test digits are harder",
            "They were collected like the others, from other people. Whether they are harder is a "
            "question to measure, not the reason to keep them apart.",
        ),
    ),
)

what_is_a_logit = Quiz(
    "The network gives the digit 7 a logit of 4 and the digit 1 a logit of 2. What follows?",
    (
        Choice(
            "It considers a 7 twice as likely as a 1",
            "Logits are compared by difference, not by ratio: softmax turns a difference of 2 into "
            "a factor of e² between the probabilities, about 7.4.",
        ),
        Choice(
            "It considers a 7 more likely than a 1",
            "The larger logit has the larger probability. How likely each is, softmax tells after "
            "it has seen all ten logits.",
            correct=True,
        ),
        Choice(
            "The probability of a 7 is 4 %",
            "A logit may be any number, also -3 or 100. Only softmax turns the ten of them into "
            "probabilities that add up to one.",
        ),
    ),
)

sure_means_right = Quiz(
    "The network says it is 99 % sure about a drawing. What do you know?",
    (
        Choice(
            "That it is wrong once in a hundred times, whatever you show it",
            "That would hold, at best, for images like those it trained on. You have just seen it "
            "name clothes with great confidence, and no garment is a digit.",
        ),
        Choice(
            "That the network ranks this digit far above the other nine",
            "That is a statement about the network, not about the drawing: you have seen it sure "
            "and wrong. The ten probabilities add up to one whatever the picture is; there is no "
            "answer for “none of these”.",
            correct=True,
        ),
        Choice(
            "That the drawing looks like one of the training images",
            "It may look like none of them. Patterns that tell a 2 from the other nine digits can "
            "also be found in a shoe.",
        ),
    ),
)
