"""Exercises and quizzes of chapter 05."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.teaching.exercises.exercise import (
    Exercise,
    Rejected,
    expect_numbers,
    expect_tensor,
)
from course_lib.teaching.quiz import Choice, Quiz

RIGHT_COUNTS = {
    "layers with weights in a stem, 3 stages of 9 basic blocks, and a linear layer": 56,
    "weights in the two 3x3 convolutions of BasicBlock(64, 128, stride=2)": 221_184,
    "weights in its 1x1 convolution, the shortcut": 8_192,
    "weights in the shortcut of BasicBlock(128, 128)": 0,
    "rows of what BasicBlock(64, 128, stride=2) makes of 28 rows": 14,
}
LAYERS, BRANCH, SHORTCUT, IDENTITY, ROWS = RIGHT_COUNTS


def examine_counts(answer: dict[str, int]) -> None:
    expect_numbers(answer, RIGHT_COUNTS, _wrong_count)


def _wrong_count(name: str, given: float) -> str:
    said = {
        (LAYERS, 27): "Those are the blocks. How many layers with weights has each?",
        (LAYERS, 29): "Those are the blocks, the stem and the end. A block is more than one layer.",
        (LAYERS, 54): "The blocks are right. What stands before the first and after the last?",
        (BRANCH, 147_456): "Do both convolutions see 128 channels? Look at what comes in.",
        (BRANCH, 294_912): "Do both convolutions see 128 channels? Look at what comes in.",
        (BRANCH, 24_576): "A 3x3 kernel has nine weights for each channel that it sees.",
        (SHORTCUT, 73_728): "That would be a 3x3 kernel; a 1x1 kernel has one weight a channel.",
        (SHORTCUT, 0): "The channels change from 64 to 128, so this shortcut has to compute.",
        (IDENTITY, 16_384): "Shape in and shape out are equal here. What is there to compute?",
        (ROWS, 28): "A stride of 2 leaves out every second row.",
        (ROWS, 7): "How many of the block's two convolutions have the stride?",
    }
    hint = "Go through the block layer by layer: what comes in, what comes out."
    return f"{name}: {said.get((name, given), hint)}"


def examine_residual_block(residual_block) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 5, generator=generator)
    first, second = (torch.randn(3, 3, 3, 3, generator=generator) * 0.3 for _ in range(2))
    before = x.clone()
    value = residual_block(x, first, second)
    expect_tensor(value, tuple(x.shape), "the block's output")
    if not x.equal(before):
        raise Rejected("The block changes its input in place, but the shortcut needs it as it was.")
    inner, bare = _conv(F.relu(_conv(x, first)), second), _conv(_conv(x, first), second)
    mistakes = {
        "The input never reaches the sum: this is a plain block.": F.relu(inner),
        "ReLU comes too early: the sum of branch and input has passed none.": F.relu(inner) + x,
        "There is no ReLU behind the sum.": inner + x,
        "There is no ReLU between the two convolutions.": F.relu(bare + x),
        "ReLU is missing twice: between the convolutions, and behind the sum.": bare + x,
        "The shortcut starts behind the first convolution; it should skip both.": F.relu(
            inner + F.relu(_conv(x, first))
        ),
        "The input is multiplied instead of added: where it is 0, nothing gets through.": F.relu(
            inner * x
        ),
        "The second weight is used first.": F.relu(_conv(F.relu(_conv(x, second)), first) + x),
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value, wrong, atol=1e-5):
            raise Rejected(reason)
    if not torch.allclose(value, F.relu(inner + x), atol=1e-5):
        raise Rejected(
            f"The first value should be {F.relu(inner + x)[0, 0, 0, 0].item():.4f}; yours is "
            f"{value[0, 0, 0, 0].item():.4f}. Is the padding 1, and what is added to what?"
        )
    zeros = torch.zeros_like(first)
    if not torch.allclose(residual_block(x.relu(), zeros, zeros), x.relu()):
        raise Rejected("With weights of 0 the block should pass on an input that is not negative.")


def _conv(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def solve_residual_block(x, first, second):
    branch = F.conv2d(F.relu(F.conv2d(x, first, padding=1)), second, padding=1)
    return F.relu(branch + x)


def examine_pad_shortcut(pad_shortcut) -> None:
    x = torch.arange(1.0, 1 + 2 * 3 * 5 * 6).view(2, 3, 5, 6)
    value = pad_shortcut(x, 5, 2)
    if isinstance(value, Tensor) and value.shape == (2, 5, 2, 3):
        raise Rejected(
            "From 5 rows, 2 came. A convolution with stride 2 and padding 1 makes 3: rows 0, 2, 4."
        )
    expect_tensor(value, (2, 5, 3, 3), "3 channels of 5 x 6 made 5 channels with stride 2")
    if torch.allclose(value[:, :3], F.avg_pool2d(x, 2, ceil_mode=True)):
        raise Rejected("These are means of windows. Take every second pixel as it is.")
    if not value[:, :3].equal(x[:, :, ::2, ::2]):
        if value[:, 2:].equal(x[:, :, ::2, ::2]):
            raise Rejected("The zeros stand before the channels that came in, not behind them.")
        raise Rejected(
            "The first channels should be those that came in, rows and columns 0, 2, 4 and so on."
        )
    if not value[:, 3:].eq(0).all():
        raise Rejected("The further channels should hold zeros; yours repeat something.")
    if not pad_shortcut(x, 3, 1).equal(x):
        raise Rejected("Right for stride 2, but with stride 1 and equal channels nothing changes.")
    expect_tensor(pad_shortcut(x, 4, 3), (2, 4, 2, 2), "3 channels made 4 channels with stride 3")


def solve_pad_shortcut(x, channels, stride):
    kept = x[:, :, ::stride, ::stride]
    extra = channels - x.shape[1]
    return F.pad(kept, (0, 0, 0, 0, 0, extra))  # the last axis first: columns, rows, channels


def examine_mix(mix) -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 2, 2).clone()
    labels, other = torch.tensor([0, 1, 2, 1]), torch.tensor([1, 2, 3, 0])
    share = torch.tensor([1.0, 0.75, 0.5, 0.25])
    value = mix(images, labels, other, share, 3)
    if not isinstance(value, tuple) or len(value) != 2:
        raise Rejected("Two things should come back: the mixed images and their targets.")
    mixed, targets = value
    expect_tensor(mixed, (4, 1, 2, 2), "the mixed images")
    right = _blend(images, images[other], share.view(4, 1, 1, 1))
    if torch.allclose(mixed, _blend(images[other], images, share.view(4, 1, 1, 1))):
        raise Rejected("The shares are the wrong way round: `share` belongs to the image itself.")
    if torch.allclose(mixed, images):
        raise Rejected("The images come back as they were.")
    if not torch.allclose(mixed, right):
        raise Rejected(
            f"The second image should be {right[1, 0, 0, 0].item():.2f} everywhere: three quarters "
            f"of image 1 and one of image 2. Yours begins with {mixed[1, 0, 0, 0].item():.2f}."
        )
    if isinstance(targets, Tensor) and targets.shape == (4,):
        raise Rejected(
            "The targets have one number for each image. A mixture of a 0 and a 2 is no 1: give "
            "each class its share."
        )
    expect_tensor(targets, (4, 3), "the targets")
    rows = F.one_hot(labels, 3).float()
    if torch.allclose(targets.float(), rows):
        raise Rejected("The images are mixed and their targets are not. What is in the picture?")
    if torch.allclose(targets, _blend(rows[other], rows, share.view(4, 1))):
        raise Rejected("The images are right, but the shares of the targets are exchanged.")
    if not torch.allclose(targets, _blend(rows, rows[other], share.view(4, 1))):
        raise Rejected("Each row of the targets should hold the shares of its two labels.")


def _blend(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    return share * first + (1 - share) * second


def solve_mix(images, labels, other, share, classes):
    part = share.view(-1, 1, 1, 1)
    mixed = part * images + (1 - part) * images[other]
    rows = F.one_hot(labels, classes).float()  # (N, classes)
    targets = share.view(-1, 1) * rows + (1 - share.view(-1, 1)) * rows[other]
    return mixed, targets


counts = Exercise(
    number="5.1",
    title="what a block costs",
    examine=examine_counts,
    solution=RIGHT_COUNTS,
    hints=(
        "A basic block has two convolutions. Layers with weights are convolutions and linear "
        "layers; those of shortcuts and the batch norms are by custom not counted.",
        "A convolution has outputs x inputs x kernel height x kernel width weights. In "
        "BasicBlock(64, 128, stride=2) the first goes from 64 to 128 channels and has the stride, "
        "the second goes from 128 to 128.",
    ),
)

residual_block = Exercise(
    number="5.2",
    title="a residual block by hand",
    examine=examine_residual_block,
    solution=solve_residual_block,
    hints=(
        "Two convolutions with a ReLU between them; then the input is added, and one more ReLU "
        "follows the sum.",
        "`F.conv2d(x, weight, padding=1)` keeps the size. Do not write `x += ...`: it changes the "
        "caller's tensor.",
    ),
)

pad_shortcut = Exercise(
    number="5.3",
    title="a shortcut without weights",
    examine=examine_pad_shortcut,
    solution=solve_pad_shortcut,
    hints=(
        "Slices with a step leave pixels out: `x[:, :, ::2, ::2]`. Then the channels that are "
        "missing are added, full of zeros.",
        "`F.pad` takes pairs of numbers from the last axis on: columns, rows, channels. Or make "
        "zeros with `x.new_zeros(...)` and put both together with `torch.cat(..., dim=1)`.",
    ),
)

mix = Exercise(
    number="5.4",
    title="mix-up by hand",
    examine=examine_mix,
    solution=solve_mix,
    hints=(
        "`images[other]` is the batch of partners. `share` has one number for each image, and "
        "needs three more axes to be multiplied with it.",
        "`F.one_hot(labels, classes).float()` gives each label a row with a single 1. Mix these "
        "rows as you mix the images, with the same shares.",
    ),
)

EXERCISES = (counts, residual_block, pad_shortcut, mix)

zero_blocks = Quiz(
    "A residual block's last batch norm starts with scale 0. What does the block do at first?",
    (
        Choice(
            "Its output is 0, so nothing behind it can learn",
            "That would be a plain block. Here the shortcut adds the input to that 0.",
        ),
        Choice(
            "It passes its input on; the scale itself gets a gradient and opens the branch",
            "The branch gives 0, the sum is the input. The scale's gradient does not contain the "
            "scale, so the first step moves it away from 0, and then the weights before it learn.",
            correct=True,
        ),
        Choice(
            "It can never leave that state, since all gradients in the branch are 0",
            "Those of the convolutions are 0 in the first step only. That of the scale is not.",
        ),
    ),
)

deeper_is_worse = Quiz(
    "A plain net of many layers is worse than a short one on the images it was trained on. Why is "
    "that not overfitting?",
    (
        Choice(
            "Because it has too few parameters to overfit",
            "It has more of them than the short net. Their number is not what shows here.",
        ),
        Choice(
            "Because overfitting means to do well on these very images and badly on others",
            "Who cannot even fit the training images has a problem with optimisation: the better "
            "weights exist, and training does not find them.",
            correct=True,
        ),
        Choice(
            "Because batch norm was left out",
            "With batch norm it happens, too, only at a greater depth.",
        ),
    ),
)

where_to_project = Quiz(
    "Why does not every block have a 1x1 convolution in its shortcut?",
    (
        Choice(
            "It would have to be learned, and what is to be passed on is not to be changed",
            "The free path is the point: through an identity, forward and backward, everything "
            "passes unchanged. A projection stands only where the shape has to change.",
            correct=True,
        ),
        Choice(
            "Because 1x1 convolutions cannot learn the identity",
            "They can: with the unit matrix as weights. They neither start as one nor stay one.",
        ),
        Choice(
            "Because a sum needs different shapes on both sides",
            "It needs equal ones; the projection is what makes them equal.",
        ),
    ),
)

channels_last_quiz = Quiz(
    "What do channels last and bfloat16 change in what a network computes?",
    (
        Choice(
            "Both change only its speed",
            "Channels last is an order in memory, with equal results up to rounding. bfloat16 "
            "rounds every product's inputs to three digits or less.",
        ),
        Choice(
            "Channels last changes the order in memory, bfloat16 also the rounding",
            "Neither changes shapes or weights. Training tolerates the rounding since sums and "
            "weights stay in float32.",
            correct=True,
        ),
        Choice(
            "Channels last turns the shape (N, C, H, W) into (N, H, W, C)",
            "The shape stays; the strides change. `x.shape` says the same before and after.",
        ),
    ),
)

QUIZZES = (zero_blocks, deeper_is_worse, where_to_project, channels_last_quiz)
