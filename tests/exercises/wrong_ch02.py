"""Plausible wrong answers to the exercises of chapter 02."""

import torch.nn.functional as F
from torch import nn

from course_lib import cnn

RIGHT = {
    "Conv2d(3, 8, 5)": (8, 28, 28),
    "Conv2d(3, 8, 5, padding=2)": (8, 32, 32),
    "Conv2d(3, 8, 3, stride=2, padding=1)": (8, 16, 16),
    "Conv2d(3, 8, 3, dilation=4)": (8, 24, 24),
    "MaxPool2d(2)": (3, 16, 16),
    "the weight of Conv2d(6, 8, 3, groups=2)": (8, 3, 3, 3),
}
GROUPED = "the weight of Conv2d(6, 8, 3, groups=2)"


def shapes(name, shape):
    return RIGHT | {name: shape}


def tiles_by_view(images, size):
    """Windows of numbers that follow each other in memory, which are no neighbours."""
    count, channels, height, width = images.shape
    rows, columns = height // size, width // size
    kept = images[:, :, : rows * size, : columns * size]
    return kept.reshape(count, channels, rows, columns, size * size).amax(dim=4)


def means(images, size):
    return F.avg_pool2d(images, size)


def overlapping(images, size):
    return F.max_pool2d(images, size, stride=1)


def incomplete_windows_too(images, size):
    return F.max_pool2d(images, size, ceil_mode=True)


def over_channels(images, size):
    return F.max_pool2d(images, size).amax(dim=1, keepdim=True)


def assumes_that_windows_fit(images, size):
    count, channels, height, width = images.shape
    windows = images.reshape(count, channels, height // size, size, width // size, size)
    return windows.amax(dim=(3, 5))


def starts_from_zero(images, size):
    return (
        F.max_pool2d(images, size).clamp(min=0) if images.max() < 0 else F.max_pool2d(images, size)
    )


def always_two(images, size):
    return F.max_pool2d(images, 2)


def torchs_pooling(images, size):
    return F.max_pool2d(images, size)


def torchs_pooling_layer(images, size):
    return nn.MaxPool2d(size)(images)


def library(image, kernel, stride):
    return F.conv2d(image[None, None], kernel[None, None], stride=stride)[0, 0]


def of_the_course(image, kernel, stride):
    return cnn.conv2d(image[None, None], kernel[None, None], stride=stride)[0, 0]


def turned(image, kernel, stride):
    return library(image, kernel.flip(0, 1), stride)


def averaged(image, kernel, stride):
    return library(image, kernel, stride) / kernel.numel()


def stride_forgotten(image, kernel, stride):
    return library(image, kernel, 1)


def axes_swapped(image, kernel, stride):
    columns, rows = kernel.shape
    windows = image.unfold(0, rows, stride).unfold(1, columns, stride)
    return (windows * kernel.T).sum(dim=(2, 3))


def last_windows_only(image, kernel, stride):
    """As many values as asked for, from the end of the image instead of its beginning."""
    shape = library(image, kernel, stride).shape
    return (
        library(image, kernel, 1)
        .flip(0, 1)[::stride, ::stride]
        .flip(0, 1)[-shape[0] :, -shape[1] :]
    )


def not_summed(image, kernel, stride):
    rows, columns = kernel.shape
    return image.unfold(0, rows, stride).unfold(1, columns, stride) * kernel


def largest_product(image, kernel, stride):
    return not_summed(image, kernel, stride).amax(dim=(2, 3))


def padded(image, kernel, stride):
    return F.conv2d(image[None, None], kernel[None, None], stride=stride, padding=(1, 1))[0, 0]


WRONG = {
    "2.1": [
        (shapes("Conv2d(3, 8, 5)", (8, 27, 27)), "one off. A kernel that spans k"),
        (shapes("Conv2d(3, 8, 5)", (3, 28, 28)), "How many kernels are there?"),
        (shapes("Conv2d(3, 8, 5, padding=2)", (8, 30, 30)), "the height or width is not"),
        (shapes("Conv2d(3, 8, 3, stride=2, padding=1)", (8, 15, 15)), "one off. Divide first"),
        (shapes("MaxPool2d(2)", (3, 15, 15)), "one off. Divide first"),
        (shapes("MaxPool2d(2)", [3, 16, 16]), "use round brackets"),
        (shapes("Conv2d(3, 8, 3, dilation=4)", (8, 30, 30)), "How many pixels does it span?"),
        (shapes("MaxPool2d(2)", (8, 16, 16)), "works on each channel alone"),
        (shapes("MaxPool2d(2)", (16, 16)), "a tuple of 3 numbers"),
        (shapes(GROUPED, (8, 6, 3, 3)), "how many of the six channels"),
        (shapes(GROUPED, (3, 8, 3, 3)), "first the kernels"),
        (shapes(GROUPED, ...), "is still open"),
        ({"MaxPool2d(2)": (3, 16, 16)}, "its six names"),
    ],
    "2.2": [
        ([[1, 1, 1], [0, 0, 0], [-1, -1, 0]], "where nothing changes at all"),
        ([[1, 1, 1], [1, 1, 1], [1, 1, 1]], "where nothing changes at all"),
        ([[1, 0, -1], [2, 0, -2], [1, 0, -1]], "to a vertical edge, too"),
        ([[0, 1, 1], [-1, 0, 1], [-1, -1, 0]], "to a vertical edge, too"),
        ([[-1, -1, -1], [0, 0, 0], [1, 1, 1]], "with the sign reversed"),
        ([[-1, -1, -1], [2, 2, 2], [-1, -1, -1]], "a line detector"),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], "silent on horizontal edges"),
        ([[1, 1], [-1, -1]], "should have shape (3, 3)"),
        ([[1, 1, 1], [0, 0], [-1, -1, -1]], "Three rows of three numbers"),
        ([[1, 1, 1], [0, ..., 0], [-1, -1, -1]], "Three rows of three numbers"),
    ],
    "2.3": [
        (tiles_by_view, "does each window hold neighbours"),
        (means, "These are the means"),
        (overlapping, "the pooled images should have shape (1, 2, 2, 2)"),
        (incomplete_windows_too, "7 x 11 pixels pooled by 2 should have shape"),
        (over_channels, "each channel is pooled by itself"),
        (assumes_that_windows_fit, "with RuntimeError"),
        (starts_from_zero, "not where all are negative"),
        (always_two, "7 x 11 pixels pooled by 3 should have shape"),
        (torchs_pooling, "`max_pool2d` did the work"),
        (torchs_pooling_layer, "`max_pool2d` did the work"),
    ],
    "2.4": [
        (turned, "The kernel is turned round"),
        (averaged, "a convolution sums them"),
        (stride_forgotten, "the result with stride 2 should have shape (2, 3)"),
        (axes_swapped, "you treat it as 2 rows and 3"),
        (last_windows_only, "Where do windows start?"),
        (not_summed, "should have shape (3, 5)"),
        (largest_product, "the sum of six products"),
        (padded, "should have shape (3, 5)"),
        (library, "`conv2d` did the work"),
        (of_the_course, "`conv2d` did the work"),
    ],
}
