"""Exercises and quizzes of chapter 02."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib import cnn
from course_lib.teaching.exercises.exercise import Exercise, Rejected, expect_tensor, without
from course_lib.teaching.quiz import Choice, Quiz

RIGHT_SHAPES = {
    "Conv2d(3, 8, 5)": (8, 28, 28),
    "Conv2d(3, 8, 5, padding=2)": (8, 32, 32),
    "Conv2d(3, 8, 3, stride=2, padding=1)": (8, 16, 16),
    "Conv2d(3, 8, 3, dilation=4)": (8, 24, 24),
    "MaxPool2d(2)": (3, 16, 16),
    "the weight of Conv2d(6, 8, 3, groups=2)": (8, 3, 3, 3),
}


def examine_shapes(answer: dict[str, tuple[int, ...]]) -> None:
    if not isinstance(answer, dict) or set(answer) != set(RIGHT_SHAPES):
        raise Rejected(f"Keep the dictionary with its six names: {'; '.join(RIGHT_SHAPES)}.")
    for name, right in RIGHT_SHAPES.items():
        given = answer[name]
        if given is ...:
            raise Rejected(f"The shape for {name} is still open.")
        if isinstance(given, list):
            raise Rejected(f"{name}: use round brackets, for a shape is a tuple, not a list.")
        if not isinstance(given, tuple) or len(given) != len(right):
            raise Rejected(f"{name}: a tuple of {len(right)} numbers is asked for.")
        if given != right:
            raise Rejected(_wrong_shape(name, given, right))


def _wrong_shape(name: str, given: tuple[int, ...], right: tuple[int, ...]) -> str:
    if name.startswith("the weight"):
        if given[1] == 6:
            return f"{name}: with two groups, how many of the six channels does a kernel see?"
        return f"{name}: first the kernels, then the channels each of them sees, then its size."
    if given[0] != right[0] and name.startswith("MaxPool"):
        return f"{name}: pooling works on each channel alone. How many come out?"
    if given[0] != right[0]:
        return f"{name}: each kernel gives one channel. How many kernels are there?"
    if given == (right[0], 30, 30) and "dilation" in name:
        return f"{name}: the kernel's nine weights lie apart. How many pixels does it span?"
    if abs(given[1] - right[1]) == 1 and given[1] == given[2]:
        if "stride" in name or name.startswith("MaxPool"):
            return f"{name}: one off. Divide first, round down, and add 1 last."
        return f"{name}: one off. A kernel that spans k of n pixels fits at n - k + 1 places."
    return f"{name}: the channels are right, the height or width is not. Put the numbers in."


def examine_kernel(answer) -> None:
    try:
        kernel = torch.as_tensor(answer, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise Rejected("Three rows of three numbers are asked for, all filled in.") from None
    if kernel.shape != (3, 3):
        raise Rejected(f"The kernel should have shape (3, 3), not {tuple(kernel.shape)}.")

    def response(image: Tensor) -> Tensor:
        return F.conv2d(image[None, None], kernel[None, None])[0, 0]

    flat, horizontal = torch.ones(5, 5), torch.zeros(6, 6)
    horizontal[:3] = 1.0  # bright above, dark below
    if response(flat).abs().max() > 1e-4:
        raise Rejected(
            "It answers where nothing changes at all. What must the nine weights sum to?"
        )
    if response(horizontal.T).abs().max() > 1e-4:
        raise Rejected(
            "It answers to a vertical edge, too: bright on the left, dark on the right. Let the "
            "weights of each row be alike."
        )
    found = response(horizontal)
    if found.abs().max() < 1e-4:
        raise Rejected(
            "It is silent on horizontal edges, too. Compare what is above with what is below."
        )
    if found.max() < -found.min():
        raise Rejected(
            "It finds horizontal edges, but with the sign reversed: bright above is positive."
        )
    if found.min() < -1e-4:
        raise Rejected("Beside the edge it answers with the opposite sign: a line detector.")


RIGHT_KERNEL = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]


def examine_max_pool(max_pool) -> None:
    images = torch.arange(32.0).view(1, 2, 4, 4).sin()
    value = max_pool(images, 2)
    if isinstance(value, Tensor) and value.shape == (1, 1, 2, 2):
        raise Rejected("The channels melted into one; each channel is pooled by itself.")
    expect_tensor(value, (1, 2, 2, 2), "the pooled images")
    if torch.allclose(value, F.avg_pool2d(images, 2)):
        raise Rejected("These are the means; the largest value of each window is asked for.")
    if not torch.allclose(value, F.max_pool2d(images, 2)):
        raise Rejected(
            "The shape is right, but the values are not: does each window hold neighbours, "
            "2 rows by 2 columns? Look at `view` in chapter 01."
        )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 2, 7, 11, generator=generator)
    for size in (2, 3):
        shape = (3, 2, 7 // size, 11 // size)
        expect_tensor(max_pool(images, size), shape, f"7 x 11 pixels pooled by {size}")
        if not torch.allclose(max_pool(images, size), F.max_pool2d(images, size)):
            raise Rejected(f"Right for 4 x 4 pixels, but not for 7 x 11 with windows of {size}.")
    if not torch.allclose(max_pool(images - 9, 2), F.max_pool2d(images - 9, 2)):
        raise Rejected("Right for images with positive values, but not where all are negative.")
    torchs = "Right, but `max_pool2d` did the work, and this exercise is about doing it yourself."
    forbidden = [(module, "max_pool2d") for module in (F, torch, cnn)]
    without(max_pool, torchs, *forbidden)(images, 2)


def solve_max_pool(images, size):
    count, channels, height, width = images.shape
    rows, columns = height // size, width // size  # whole windows only
    kept = images[:, :, : rows * size, : columns * size]
    windows = kept.reshape(count, channels, rows, size, columns, size)
    return windows.amax(dim=(3, 5))  # -> (N, C, rows, columns)


def examine_correlate(correlate) -> None:
    image = torch.arange(30.0).view(5, 6).cos()
    kernel = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    right = _correlate(image, kernel, 1)
    value = correlate(image, kernel, 1)
    if isinstance(value, Tensor) and value.shape == (4, 4):
        raise Rejected("The kernel has 3 rows and 2 columns, and you treat it as 2 rows and 3.")
    expect_tensor(value, tuple(right.shape), "the result for 5 x 6 pixels under a 3 x 2 kernel")
    if torch.allclose(value, _correlate(image, kernel.flip(0, 1), 1), atol=1e-4):
        raise Rejected(
            "The kernel is turned round. Its first weight meets the window's first pixel."
        )
    if torch.allclose(value, right / kernel.numel(), atol=1e-4):
        raise Rejected("You take the mean of the products; a convolution sums them.")
    if not torch.allclose(value, right, atol=1e-4):
        raise Rejected(
            f"The first value should be {right[0, 0].item():.4f}, the sum of six products, and the "
            f"next {right[0, 1].item():.4f}; yours are {value[0, 0].item():.4f} and "
            f"{value[0, 1].item():.4f}."
        )
    for stride in (2, 3):
        right = _correlate(image, kernel, stride)
        expect_tensor(
            correlate(image, kernel, stride), tuple(right.shape), f"the result with stride {stride}"
        )
        if not torch.allclose(correlate(image, kernel, stride), right, atol=1e-4):
            raise Rejected(
                f"Right with stride 1, but not with stride {stride}. Where do windows start?"
            )
    torchs = "Right, but `conv2d` did the work, and this exercise is about doing it yourself."
    forbidden = [(module, "conv2d") for module in (F, torch, cnn)]
    without(correlate, torchs, *forbidden)(image, kernel, 1)


def _correlate(image: Tensor, kernel: Tensor, stride: int) -> Tensor:
    return F.conv2d(image[None, None], kernel[None, None], stride=stride)[0, 0]


def solve_correlate(image, kernel, stride):
    rows, columns = kernel.shape
    windows = image.unfold(0, rows, stride).unfold(1, columns, stride)  # (oH, oW, rows, columns)
    return (windows * kernel).sum(dim=(2, 3))


shapes = Exercise(
    number="2.1",
    title="shapes in your head",
    examine=examine_shapes,
    solution=RIGHT_SHAPES,
    hints=(
        "One formula serves all: (n + 2p - d(k - 1) - 1) / s, rounded down, plus 1. Pooling with "
        "windows of 2 has a stride of 2.",
        "A 3x3 kernel with dilation 4 spans 4 * 2 + 1 = 9 pixels. A weight has four axes: kernels, "
        "channels that each kernel sees, rows, columns.",
    ),
)

kernel = Exercise(
    number="2.2",
    title="a kernel for horizontal edges",
    examine=examine_kernel,
    solution=RIGHT_KERNEL,
    hints=(
        "Above the edge the pixels are 1, below it 0. Which rows of the kernel should count for, "
        "and which against? On an image that is 1 everywhere the two must cancel.",
        "Look at the kernel for vertical edges in the explorer. What it does from left to right, "
        "yours should do from top to bottom.",
    ),
)

max_pool = Exercise(
    number="2.3",
    title="max pooling by hand",
    examine=examine_max_pool,
    solution=solve_max_pool,
    hints=(
        "Rows that are `size` to a window can be two axes instead of one: which window, and which "
        "row in it. The same for columns. Incomplete windows at the end are left out first.",
        "Cut to whole windows, reshape to (N, C, rows, size, columns, size), and take the largest "
        "over both axes of length `size`: `amax` takes several axes.",
    ),
)

correlate = Exercise(
    number="2.4",
    title="a convolution with a stride",
    examine=examine_correlate,
    solution=solve_correlate,
    hints=(
        "Two ways lead there. Either add up shifted images, one for each weight of the kernel, "
        "taking every `stride`-th pixel; or make all windows and multiply them by the kernel.",
        "`image.unfold(0, size, step)` adds an axis at the end with the windows along axis 0. Do "
        "it for both axes, then multiply and sum. With shifts, mind where the last window ends.",
    ),
)

EXERCISES = (shapes, kernel, max_pool, correlate)

weights_and_size = Quiz(
    "A layer `Conv2d(16, 32, 3)` gets images twice as high and twice as wide. What happens?",
    (
        Choice(
            "It needs four times as many weights",
            "A fully connected layer would need far more. Here the same 32 x 16 x 3 x 3 weights "
            "are laid over more places; only the number of multiplications grows.",
        ),
        Choice(
            "It works as before, with the same weights on more places",
            "The kernel does not know how large the image is. The computation grows about "
            "fourfold, the number of weights not at all.",
            correct=True,
        ),
        Choice(
            "It raises an error, since it was made for another size",
            "Nothing in the layer says a size. The linear layer at a network's end is what "
            "complains, unless an average over all places comes before it.",
        ),
    ),
)

two_small_kernels = Quiz(
    "Why two 3x3 convolutions with a ReLU between them rather than one 5x5?",
    (
        Choice(
            "They see a larger part of the image",
            "They see the same 5 x 5 pixels: each further 3x3 adds one pixel on every side.",
        ),
        Choice(
            "They see as much with fewer weights, and there is a bend between them",
            "18 weights instead of 25 for each pair of channels. Without the ReLU between them, "
            "the two would be a 5x5 convolution of a restricted kind.",
            correct=True,
        ),
        Choice(
            "They halve the image on the way",
            "A stride or a pooling does that. With padding 1 a 3x3 convolution keeps the size.",
        ),
    ),
)

after_shuffling = Quiz(
    "All pixels are shuffled in one fixed order, and the CNN gets worse. What was lost?",
    (
        Choice(
            "Information: the shuffled images say less than the plain ones",
            "The order can be undone without a trace, so nothing is missing. The MLP, which reads "
            "all pixels at once, shows it.",
        ),
        Choice(
            "That pixels side by side belong together, on which its kernels rely",
            "A kernel looks at neighbours and uses the same weights everywhere. Among shuffled "
            "pixels neither helps: neighbours are strangers, and each place has a meaning of its "
            "own.",
            correct=True,
        ),
        Choice(
            "Nothing: with more steps it would be as good as on plain digits",
            "More steps help it a little. But what it saves by sharing weights it saves in the "
            "wrong place; the fully connected layer at its end must do the work.",
        ),
    ),
)

pooled_position = Quiz(
    "A network has three max poolings of 2x2. What does it still know of where a stroke was?",
    (
        Choice(
            "Nothing: pooling throws the position away",
            "Only within the window. Which of the windows it was remains, as the place of the "
            "value in the map that comes out.",
        ),
        Choice(
            "Its place to within about 8 pixels, and what the channels say of it",
            "Each pooling halves the map, so a value stands for 8 x 8 pixels. Finer differences "
            "survive only if an earlier layer has put them into different channels.",
            correct=True,
        ),
        Choice(
            "The exact pixel: max pooling keeps the index of the largest value",
            "The index can be asked for, and unpooling uses it. The value that goes on to the next "
            "layer does not carry it.",
        ),
    ),
)

QUIZZES = (weights_and_size, two_small_kernels, after_shuffling, pooled_position)
