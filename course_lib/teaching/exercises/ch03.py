"""Exercises and quizzes of chapter 03."""

import torch
from torch import Tensor

from course_lib.teaching.exercises.exercise import (
    Exercise,
    Rejected,
    expect_numbers,
    expect_tensor,
)
from course_lib.teaching.quiz import Choice, Quiz

RIGHT_NUMBERS = {
    "a value of 4 that Dropout(0.2) keeps, while training": 5,
    "the same value in evaluation": 4,
    "random decisions of Dropout(0.5) on (8, 16, 7, 7)": 6272,
    "random decisions of Dropout2d(0.5) on (8, 16, 7, 7)": 128,
    "weights of Linear(100, 10) that Dropout(0.5) before it removes for good": 0,
}


def examine_numbers(answer: dict[str, float]) -> None:
    expect_numbers(answer, RIGHT_NUMBERS, _why_not)


def _why_not(name: str, given: float) -> str:
    if name.startswith("a value"):
        if given == 4:
            return "the others are gone, and the expectation would sink. What makes up for it?"
        if abs(given - 3.2) < 1e-9:
            return "that is 4 times the share that stays. The expectation would sink twice."
        return "divide by the share of the values that stays."
    if name.startswith("the same"):
        return "in evaluation nothing is dropped. Is there then anything to make up for?"
    if "Dropout2d" in name:
        if given == 16:
            return "each image of the batch has decisions of its own."
        return "one decision for each channel of each image."
    if name.startswith("random"):
        return "one decision for each value. How many values are there?"
    return "look at what is set to zero: a value on its way, or a weight that is stored?"


def examine_drop(drop) -> None:
    x = torch.tensor([[1.0, -2.0, 3.0, 4.0], [5.0, 6.0, -7.0, 8.0]])
    kept = torch.tensor([[True, True, False, True], [False, True, True, True]])
    before = x.clone()
    value = drop(x, kept, 0.2)
    expect_tensor(value, (2, 4), "what is left of 2 x 4 values")
    if not x.equal(before):
        raise Rejected("The x that was passed in has changed; others may still need it.")
    if torch.allclose(value, x * kept):
        raise Rejected("The right values are zero, but the sum is now too small on average.")
    if torch.allclose(value, x * kept * 0.8):
        raise Rejected("Kept values should grow, and yours shrink.")
    if torch.allclose(value, x * kept / 0.2):
        raise Rejected("You divide by the share that is dropped.")
    if (value[~kept] != 0).any():
        raise Rejected("Where `kept` is False, 0 is expected. True means that a value stays.")
    if not torch.allclose(value, x * kept / 0.8):
        raise Rejected(
            f"1.0 is kept and should become 1.25 with p = 0.2; yours is {value[0, 0]:g}."
        )
    if not torch.allclose(drop(x, kept, 0.5), x * kept * 2):
        raise Rejected("Right with p = 0.2, but not with p = 0.5.")
    nothing = drop(x, torch.zeros_like(kept), 1.0)
    if not (isinstance(nothing, Tensor) and nothing.equal(torch.zeros_like(x))):
        raise Rejected("With p = 1 everything is dropped: zeros are expected. What is 0 / 0?")


def solve_drop(x, kept, p):
    scale = 1 / (1 - p) if p < 1 else 0.0
    return torch.where(kept, x * scale, 0.0)


def examine_step(step) -> None:
    weight, gradient = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.3, 0.1, -0.2])
    before = weight.clone()

    def taken(**pulls: float) -> Tensor:
        value = step(weight, gradient, 0.1, **{"l1": 0.0, "l2": 0.0, **pulls})
        expect_tensor(value, (3,), "the weights after a step")
        if not weight.equal(before):
            raise Rejected("The old weights have changed; return new ones.")
        return value

    if not torch.allclose(taken(), weight - 0.1 * gradient):
        raise Rejected("Without penalties it should be plain SGD: against the gradient.")
    moved = (taken(l2=0.5) - taken()) / 0.1  # what the penalty adds
    if torch.allclose(moved, 0.5 * weight):
        raise Rejected("With L2 the weights grow: the penalty should pull them to 0.")
    if torch.allclose(moved, -weight):
        raise Rejected("The L2 penalty is *half* the sum of squares: what is its derivative?")
    if torch.allclose(moved, -5 * weight, atol=1e-4):
        raise Rejected("The penalty's part of the step also goes with the learning rate.")
    if not torch.allclose(moved, -0.5 * weight, atol=1e-5):
        raise Rejected("Without L1 it is right, with L2 not: which pull has half the square?")
    moved = (taken(l1=0.5) - taken()) / 0.1
    if torch.allclose(moved, -0.5 * weight.abs(), atol=1e-5):
        raise Rejected("With L1 a negative weight runs away from 0.")
    if torch.allclose(moved, -0.5 * weight, atol=1e-5):
        raise Rejected(
            "Your L1 pulls large weights harder. The slope of |w| is the same everywhere."
        )
    if not torch.allclose(moved, -0.5 * weight.sign(), atol=1e-5):
        raise Rejected("L2 is right, L1 is not: which way, and how hard, does |w| pull?")
    if not torch.allclose(taken(l1=0.2, l2=0.3), weight - 0.1 * _pull(weight, gradient, 0.2, 0.3)):
        raise Rejected("Each penalty is right by itself, but not both together.")


def _pull(weight: Tensor, gradient: Tensor, l1: float, l2: float) -> Tensor:
    return gradient + l1 * weight.sign() + l2 * weight


def solve_step(weight, gradient, learning_rate, l1, l2):
    penalties = l1 * weight.sign() + l2 * weight  # the slopes of l1 |w| and l2 w² / 2
    return weight - learning_rate * (gradient + penalties)


STORIES = (  # losses, patience, (best, last), what is special about it
    ([3.0, 2.0, 1.5, 1.6, 1.7, 1.8, 1.9], 2, (2, 4), "a loss that falls and rises"),
    ([3.0, 2.0, 2.1, 1.4, 1.5, 1.6, 1.0], 2, (3, 5), "a dip that comes after the patience is over"),
    (
        [3.0, 2.0, 2.5, 2.4, 2.3, 2.2, 1.0],
        3,
        (1, 4),
        "a loss that falls again, yet not to its best",
    ),
    ([3.0, 2.0, 1.0], 2, (2, 2), "a loss that falls to the end"),
    ([2.0, 2.0, 2.0, 2.0], 2, (0, 2), "a loss that stays the same"),
)


def examine_stop(stop_early) -> None:
    for losses, patience, right, story in STORIES:
        value = stop_early(list(losses), patience)
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise Rejected(
                "Return two numbers: the epoch of the best loss, and the last epoch run."
            )
        given = tuple(value)
        if given == right:
            continue
        case = f"Losses {losses}, patience {patience} ({story})"
        if given[0] != right[0] and given[1] == right[1]:
            raise Rejected(
                f"{case}: it stops where it should; which epoch had the least loss so far?"
            )
        if given == (right[0] + 1, right[1] + 1):
            raise Rejected(f"{case}: epochs are counted from 0.")
        if given[0] == right[0] and abs(given[1] - right[1]) == 1:
            raise Rejected(
                f"{case}: the end is one off. {patience} epochs without a new best end it."
            )
        if given[1] > right[1]:
            raise Rejected(f"{case}: it goes on for too long. Since when is there no new best?")
        raise Rejected(f"{case}: it stops too soon. Compare with the best loss, not with the last.")


def solve_stop_early(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return best, epoch


numbers = Exercise(
    number="3.1",
    title="dropout in your head",
    examine=examine_numbers,
    solution=RIGHT_NUMBERS,
    hints=(
        "What is kept is divided by 1 - p, so that the sum stays the same on average. In "
        "evaluation nothing is dropped.",
        "`Dropout` draws once for each of 8 x 16 x 7 x 7 values, `Dropout2d` once for each map of "
        "7 x 7. Both act on values that flow through, never on parameters.",
    ),
)

drop = Exercise(
    number="3.2",
    title="dropout with a given mask",
    examine=examine_drop,
    solution=solve_drop,
    hints=(
        "Multiply by the mask (True counts as 1), then make up for what is missing: on average a "
        "share of 1 - p stays.",
        "1 - p is 0 when p is 1. Take care of that case before you divide. `torch.where(kept, a, "
        "0.0)` picks a where `kept` is True.",
    ),
)

step = Exercise(
    number="3.3",
    title="a step with both penalties",
    examine=examine_step,
    solution=solve_step,
    hints=(
        "A penalty is part of the loss, so its slope adds to the gradient. What is the slope of "
        "w² / 2, and what is that of |w| left and right of 0?",
        "The slope of w² / 2 is w; that of |w| is `weight.sign()`. Add both, each times its "
        "strength, to the gradient, and step against the sum.",
    ),
)

stop_early = Exercise(
    number="3.4",
    title="early stopping",
    examine=examine_stop,
    solution=solve_stop_early,
    hints=(
        "Remember the epoch of the least loss so far. A new best is one that is *less*; an equal "
        "one does not count.",
        "After each epoch: is it a new best? If not, how many epochs have gone by since the best? "
        "As many as the patience: stop here.",
    ),
)

EXERCISES = (numbers, drop, step, stop_early)

lower_validation_loss = Quiz(
    "With dropout, the loss on held-out images may be lower than the training loss. Why?",
    (
        Choice(
            "There is a bug: a network always knows its training images better",
            "It does. But the training loss is measured while half of the network is missing; ask "
            "the whole network about the training images, and it is lower again.",
        ),
        Choice(
            "The training loss is measured with dropout on, the other one with all units",
            "The two are not comparable. `train.accuracy` after `eval()` on both sets is.",
            correct=True,
        ),
        Choice(
            "Dropout makes the held-out images easier",
            "It is off when they are looked at; nothing about them changes.",
        ),
    ),
)

random_labels = Quiz(
    "A network learned 1,500 random labels by heart. What does that say?",
    (
        Choice(
            "That it learns nothing but tables, with right labels too",
            "With right labels the same network reads most new images. The same weights can hold "
            "a table or a rule; the data decide which is nearer.",
        ),
        Choice(
            "That a perfect score on the training images proves nothing about new ones",
            "The network is large enough for any answers. Only images that it has not seen tell "
            "whether it found a rule.",
            correct=True,
        ),
        Choice(
            "That it is too small: a larger one would have refused",
            "A larger one learns a table even faster.",
        ),
    ),
)

adam_and_l2 = Quiz(
    "Why is L2 in the loss not the same as weight decay when Adam takes the steps?",
    (
        Choice(
            "Adam divides each step by the gradient's size, the penalty's part included",
            "So weights with large gradients are hardly pulled at all. AdamW shrinks them past the "
            "division.",
            correct=True,
        ),
        Choice(
            "Adam ignores penalties",
            "It cannot tell where a gradient comes from. The penalty is in there, and is divided "
            "like the rest.",
        ),
        Choice(
            "It is the same; the two names are a matter of taste",
            "For plain SGD it is. The check in this chapter shows that for Adam it is not.",
        ),
    ),
)

where_dropout2d = Quiz(
    "Why drop whole maps behind a convolution, rather than single values?",
    (
        Choice(
            "It is faster, since fewer random numbers are drawn",
            "It is a little, but that is not why.",
        ),
        Choice(
            "Neighbours in a map say nearly the same, so a single gap hides nothing",
            "The next layer reads the missing value off its neighbours. A whole map cannot be "
            "guessed that easily.",
            correct=True,
        ),
        Choice(
            "A convolution cannot work with zeros among its inputs",
            "Black pixels are zeros, too, and behind a ReLU most values are.",
        ),
    ),
)

QUIZZES = (lower_validation_loss, random_labels, adam_and_l2, where_dropout2d)
