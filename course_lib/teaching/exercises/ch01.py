"""Exercises and quizzes of chapter 01."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib import tensor_ops
from course_lib.teaching.exercises.exercise import Exercise, Rejected, expect_tensor, without
from course_lib.teaching.quiz import Choice, Quiz

RIGHT_STRIDES = {
    "t": (12, 4, 1),
    "t.permute(2, 0, 1)": (1, 12, 4),
    "t[:, ::2]": (12, 8, 1),
    "t[0].expand(5, 3, 4)": (0, 4, 1),
    "t.permute(2, 0, 1).contiguous()": (6, 3, 1),
}
RIGHT_SHAPES = {
    "t": (2, 3, 4),
    "t.permute(2, 0, 1)": (4, 2, 3),
    "t[:, ::2]": (2, 2, 4),
    "t[0].expand(5, 3, 4)": (5, 3, 4),
    "t.permute(2, 0, 1).contiguous()": (4, 2, 3),
}


def examine_strides(answer: dict[str, tuple[int, ...]]) -> None:
    if not isinstance(answer, dict) or set(answer) != set(RIGHT_STRIDES):
        raise Rejected(f"Keep the dictionary with its five names: {'; '.join(RIGHT_STRIDES)}.")
    for name, right in RIGHT_STRIDES.items():
        given = answer[name]
        if given is ...:
            raise Rejected(f"The stride of {name} is still open.")
        if isinstance(given, list):
            raise Rejected(f"{name}: use round brackets, for a stride is a tuple, not a list.")
        if not isinstance(given, tuple) or len(given) != 3:
            raise Rejected(f"{name} has three axes, so its stride is a tuple of three numbers.")
        if given != right:
            raise Rejected(_wrong_stride(name, given))


def _wrong_stride(name: str, given: tuple[int, ...]) -> str:
    if given == RIGHT_SHAPES[name]:
        return f"That is the shape of {name}. A stride says how many places one step takes."
    if name != "t" and given == RIGHT_STRIDES["t"]:
        return f"That is the stride of t itself; {name} walks another way."
    if name == "t.permute(2, 0, 1)" and sorted(given) == [1, 4, 12]:
        return f"{name}: the right numbers in another order. Which axis of t comes first now?"
    if name.endswith("contiguous()") and given == RIGHT_STRIDES["t.permute(2, 0, 1)"]:
        return f"{name} is a copy: its numbers lie in new memory, in the order of the new shape."
    if "expand" in name and given[1:] == (4, 1):
        return f"{name}: how far is it from one copy to the next, if none is ever made?"
    return (
        f"{name}: not every number is right. Count the places that one step along each axis takes."
    )


def examine_distances(distances) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    b = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    value = distances(a, b)
    expected = solve_squared_distances(a, b)
    if isinstance(value, Tensor) and value.shape == (2, 3):
        raise Rejected("The points of a belong to the rows and those of b to the columns.")
    if isinstance(value, Tensor) and value.ndim == 3:
        raise Rejected(
            f"A tensor of shape {tuple(value.shape)} came back: the differences of each pair. "
            "What is still to be done with the last axis?"
        )
    expect_tensor(value, (3, 2), "the distances")
    if torch.allclose(value, expected.sqrt()):
        raise Rejected("These are the distances; their squares are asked for.")
    if not torch.allclose(value, expected):
        raise Rejected(
            f"The squared distance of (3, 4) and (0, 0) is 25, not {value[1, 0].item():g}."
        )
    a, b = (torch.randn(n, 5, generator=generator) for n in (4, 4))
    if not torch.allclose(distances(a, b), solve_squared_distances(a, b), atol=1e-5):
        raise Rejected("Right for points with two coordinates, but not for those with five.")


def solve_squared_distances(a, b):
    differences = a[:, None, :] - b[None, :, :]  # (N, 1, D) and (1, M, D) -> (N, M, D)
    return (differences**2).sum(dim=2)  # -> (N, M)


def examine_masked_loss(loss) -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.0, 5.0, 1.0]])
    labels = torch.tensor([0, -1, 1, -1])
    value = loss(logits, labels)
    expected = solve_masked_cross_entropy(logits, labels)
    expect_tensor(value, (), "the loss")
    as_last_class = solve_masked_cross_entropy(logits, labels % 3)
    if torch.allclose(value, as_last_class):
        raise Rejected("Items with the label -1 count. As an index, -1 means the last class.")
    if torch.allclose(value, -expected):
        raise Rejected(
            "The sign is wrong: a logarithm of a probability is negative, a loss is not."
        )
    if torch.allclose(value, expected / 2):
        raise Rejected(
            "The sum is right, but the mean goes over the two items that count, not four."
        )
    if torch.allclose(value, expected * 2):
        raise Rejected("That is the sum over the items that count; their mean is asked for.")
    if not torch.allclose(value, expected):
        raise Rejected(
            f"For the logits {logits.tolist()} and the labels {labels.tolist()} the loss should be "
            f"{expected.item():.4f}, not {value.item():.4f}."
        )
    if not torch.allclose(loss(1000 * logits, labels), torch.tensor(0.0), atol=1e-4):
        raise Rejected(
            "Right for small logits. For logits of some thousands the loss should be 0 here, but "
            f"{loss(1000 * logits, labels).item()} came back. Which number overflows?"
        )
    torchs = (
        "Right, but `cross_entropy` did the work, and this exercise is about doing it yourself."
    )
    without(loss, torchs, (F, "cross_entropy"), (tensor_ops, "cross_entropy"))(logits, labels)


def solve_masked_cross_entropy(logits, labels):
    counts = labels != -1
    logits, labels = logits[counts], labels[counts]  # only what counts
    shifted = logits - logits.amax(dim=1, keepdim=True)  # the largest is 0: nothing overflows
    log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()
    return -log_p.gather(1, labels[:, None]).mean()


def examine_windows(windows) -> None:
    signal = torch.arange(6.0)
    value = windows(signal, 4)
    if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == 4 != 3 == len(value) + 1:
        raise Rejected("The last window is missing: six numbers have three windows of four.")
    expect_tensor(value, (3, 4), "the windows")
    if not value.equal(signal.unfold(0, 4, 1)):
        raise Rejected(f"The second window should be [1, 2, 3, 4], not {value[1].tolist()}.")
    storage = signal.untyped_storage().data_ptr()
    if value.untyped_storage().data_ptr() != storage:
        raise Rejected(
            "The numbers are right, but they are a copy; a view reads signal's own memory."
        )
    for part, name in ((signal[::2], "signal[::2]"), (signal[1:], "signal[1:]")):
        if not windows(part, 2).equal(part.unfold(0, 2, 1)):
            raise Rejected(
                f"Right for a signal that lies place after place from the beginning, but not for "
                f"{name}. Which stride and offset does the signal itself have?"
            )


def solve_windows(signal, size):
    step = signal.stride(0)  # to the next number, and to the next window
    return signal.as_strided((len(signal) - size + 1, size), (step, step))


strides = Exercise(
    number="1.1",
    title="strides in your head",
    examine=examine_strides,
    solution=RIGHT_STRIDES,
    hints=(
        "The last axis of t takes one place a step. One step along the middle axis passes a whole "
        "row; one along the first axis passes a whole table of 3 x 4 numbers.",
        "permute puts the strides in another order, a step of 2 doubles one, expand adds a 0. Only "
        "contiguous makes a new row of numbers: work out its strides from its shape.",
    ),
)

distances = Exercise(
    number="1.2",
    title="all distances",
    examine=examine_distances,
    solution=solve_squared_distances,
    hints=(
        "You want all pairs, so a and b need an axis each of their own. Which shapes, aligned on "
        "the right, are stretched to (N, M, D)?",
        "`a[:, None, :]` has shape (N, 1, D), and `b[None, :, :]` has (1, M, D). Subtract, square, "
        "and sum over the axis of the coordinates.",
    ),
)

masked_loss = Exercise(
    number="1.3",
    title="a loss that can ignore",
    examine=examine_masked_loss,
    solution=solve_masked_cross_entropy,
    hints=(
        "A tensor of truth values as an index picks rows: `logits[labels != -1]`. What is left is "
        "the loss without anything to ignore.",
        "Subtract the largest logit of each row first. Then the logarithm of the probability is "
        "the shifted logit minus the logarithm of the sum of all exponentials.",
        "`log_p.gather(1, labels[:, None])` takes from each row the entry at its label.",
    ),
)

windows = Exercise(
    number="1.4",
    title="windows without a copy",
    examine=examine_windows,
    solution=solve_windows,
    hints=(
        "Write down, for a signal 0, 1, 2, 3 and windows of 2, the table that should come out. How "
        "many places is one step to the right, and how many is one step down?",
        "Both strides are the same. Do not write 1: ask the signal for its own stride, because it "
        "may be a view itself.",
    ),
)

EXERCISES = (strides, distances, masked_loss, windows)

one_against_none = Quiz(
    "Predictions have shape (64, 1), targets (64,). What shape does their difference have?",
    (
        Choice(
            "(64, 1)",
            "Aligned on the right, the 1 meets the 64 and is stretched; the 64 on the left meets a "
            "missing axis, which is stretched, too.",
        ),
        Choice(
            "(64, 64)",
            "Each prediction minus each target. Its mean looks like a loss and teaches the "
            "network nothing but the targets' mean. Squeeze one, or unsqueeze the other.",
            correct=True,
        ),
        Choice(
            "There is none: it is an error",
            "It would be better if it were. But every axis either fits or has length 1, so "
            "broadcasting goes ahead without a word.",
        ),
    ),
)

without_zero_grad = Quiz(
    "A training loop never calls zero_grad. What does each step follow?",
    (
        Choice(
            "The gradient of its own batch, as it should",
            "That would need somebody to remove the last gradient. Backward does not; it adds.",
        ),
        Choice(
            "The sum of the gradients of all batches so far",
            "Backward adds to what it finds. That is useful for weights that are used twice, and "
            "for batches that are too large for the memory; between steps it is a mistake.",
            correct=True,
        ),
        Choice(
            "Nothing: the second backward raises an error",
            "An error comes when the same graph is walked twice. Each batch makes a new graph, so "
            "nothing stops you.",
        ),
    ),
)

all_zeros = Quiz(
    "Softmax regression may begin with all weights at zero. What if an MLP does?",
    (
        Choice(
            "It learns as well: the gradients will tell the weights apart",
            "Each class has a gradient of its own, which is why one layer may start there. But "
            "a hidden unit's gradient passes through weights that are zero.",
        ),
        Choice(
            "It hardly learns: no hidden unit gets a gradient, and none differs from another",
            "The values of the hidden layer are zero, and so are the weights behind it. Only the "
            "last layer's biases move. Random weights break the tie.",
            correct=True,
        ),
        Choice(
            "It diverges, because something is divided by zero",
            "Nothing is divided here. Multiplying by zero is harmless, and that is the problem: "
            "nothing comes through.",
        ),
    ),
)

mean_over_what = Quiz(
    "Of 100 labels 90 are to be ignored. What does the mean of the cross entropy divide by?",
    (
        Choice(
            "100, as the batch has 100 items",
            "Then a batch with more padding would have a smaller loss and smaller gradients, "
            "although its answers are no better.",
        ),
        Choice(
            "10, as only those count",
            "It is the mean over what counts. If nothing counts, it divides by zero, and the loss "
            "is NaN.",
            correct=True,
        ),
        Choice(
            "90, as those were found",
            "Those are left out: they add nothing to the sum, and nothing to the count.",
        ),
    ),
)

QUIZZES = (one_against_none, without_zero_grad, all_zeros, mean_over_what)
