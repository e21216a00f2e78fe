"""Exercises and quizzes of chapter 00."""

import torch
from torch import Tensor

from course_lib.teaching.exercises.exercise import Exercise, Rejected
from course_lib.teaching.quiz import Choice, Quiz


def examine_shapes(answer: dict[str, tuple[int, ...]]) -> None:
    right = {
        "one digit": (1, 28, 28),
        "a batch": (64, 1, 28, 28),
        "logits": (64, 10),
        "labels": (64,),
    }
    if not isinstance(answer, dict) or set(answer) != set(right):
        raise Rejected(f"Keep the dictionary with its four names: {', '.join(right)}.")
    for name, shape in right.items():
        given = answer[name]
        if given is ...:
            raise Rejected(f"The shape of {name!r} is still open.")
        if not isinstance(given, tuple):
            raise Rejected(
                f"The shape of {name!r} is a {type(given).__name__}; a shape is a tuple such as "
                "(3, 5), and one with a single axis needs a comma: (3,)."
            )
        if given != shape:
            raise Rejected(_what_is_wrong(name, given, shape))


def _what_is_wrong(name: str, given: tuple, right: tuple[int, ...]) -> str:
    if sorted(given, key=str) == sorted(right, key=str):
        return f"{name!r}: the right numbers in another order. Items come first, then channels."
    if len(given) != len(right):
        return f"{name!r} has {len(right)} axes, your answer has {len(given)}."
    return f"{name!r}: the number of axes is right, but not every size. What does each one count?"


def examine_accuracy(accuracy) -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 5.0], [9.0, 1.0, 2.0]])
    labels = torch.tensor([0, 1, 1, 2])  # two of four are right
    value = accuracy(logits, labels)
    if isinstance(value, Tensor) and value.numel() > 1:
        raise Rejected(
            f"One number is asked for, but a tensor of shape {tuple(value.shape)} came back. "
            "Is something still to be averaged?"
        )
    value = float(value)
    if value == 2:
        raise Rejected("You count the right answers; the accuracy is their share.")
    if value == 50:
        raise Rejected("That is the share in percent; give it as a number between 0 and 1.")
    if not 0 <= value <= 1:
        raise Rejected(f"A share lies between 0 and 1, but {value:g} came back.")
    if abs(value - 0.5) > 1e-6:
        raise Rejected(f"Two of these four answers are right, so 0.5 is expected, not {value:g}.")
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(1000, 7, generator=generator) - 5, torch.arange(1000) % 7
    expected = solve_accuracy_of(logits, labels)
    if abs(float(accuracy(logits, labels)) - expected) > 1e-6:
        raise Rejected(
            "Right for four images of three classes, but not for 1,000 images of seven classes, "
            "all of whose logits are negative."
        )


def solve_accuracy_of(logits, labels):
    guesses = logits.argmax(dim=1)  # (N, classes) -> (N,)
    return (guesses == labels).float().mean().item()


shapes = Exercise(
    number="0.1",
    title="read the shapes",
    examine=examine_shapes,
    solution={
        "one digit": (1, 28, 28),
        "a batch": (64, 1, 28, 28),
        "logits": (64, 10),
        "labels": (64,),
    },
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
    examine=examine_accuracy,
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
            "What counts is how it does on digits it has never met. On those it trained on, it "
            "could do well by remembering them one by one.",
            correct=True,
        ),
        Choice(
            "Because measuring on all 60,000 would take too long",
            "Measuring is quick: no gradients are needed. Even if it took no time at all, the "
            "figure would tell how well the network remembers, which is another question.",
        ),
        Choice(
            "Because the test digits are harder",
            "They are drawn like the others, by other people. They are no harder; they are new.",
        ),
    ),
)

what_is_a_logit = Quiz(
    "The network gives the digit 7 a logit of 4 and the digit 1 a logit of 2. What follows?",
    (
        Choice(
            "It holds a 7 for twice as likely as a 1",
            "Logits are compared by difference, not by ratio: softmax turns a difference of 2 into "
            "a factor of e² among the probabilities, which is more than 7.",
        ),
        Choice(
            "It holds a 7 for more likely than a 1",
            "The larger logit has the larger probability. How likely each is, softmax tells after "
            "it has seen all ten logits.",
            correct=True,
        ),
        Choice(
            "The probability of a 7 is 4 %",
            "A logit can be any number, also a negative one or one of a hundred. Only softmax "
            "turns the ten of them into probabilities that add up to one.",
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
            "That of the ten digits, this one fits by far the best",
            "The ten probabilities must add up to one, whatever the picture is. There is no answer "
            "for “none of these”.",
            correct=True,
        ),
        Choice(
            "That the drawing looks like one of the training images",
            "It may look like nothing at all. The network compares features, and a shoe can have "
            "the strokes of a 2.",
        ),
    ),
)
