"""Plausible wrong answers to the exercises of chapter 05."""

import torch
import torch.nn.functional as F

from course_lib.teaching.exercises.ch05 import (
    BRANCH,
    IDENTITY,
    LAYERS,
    RIGHT_COUNTS,
    ROWS,
    SHORTCUT,
)


def counts(name, number):
    return RIGHT_COUNTS | {name: number}


def conv(x, weight):
    return F.conv2d(x, weight, padding=1)


def branch(x, first, second):
    return conv(conv(x, first).relu(), second)


def plain(x, first, second):
    return branch(x, first, second).relu()


def early_relu(x, first, second):
    return branch(x, first, second).relu() + x


def no_last_relu(x, first, second):
    return branch(x, first, second) + x


def no_inner_relu(x, first, second):
    return (conv(conv(x, first), second) + x).relu()


def no_relu_at_all(x, first, second):
    return conv(conv(x, first), second) + x


def short_shortcut(x, first, second):
    inner = conv(x, first).relu()
    return (conv(inner, second) + inner).relu()


def multiplied(x, first, second):
    return (branch(x, first, second) * x).relu()


def weights_swapped(x, first, second):
    return (branch(x, second, first) + x).relu()


def in_place(x, first, second):
    x += branch(x, first, second)
    return x.relu()


def unpadded(x, first, second):
    return F.conv2d(F.conv2d(x, first).relu(), second).relu()


def added_twice(x, first, second):
    return (branch(x, first, second) + 2 * x).relu()


def odd_pixels(x, channels, stride):
    kept = x[:, :, stride - 1 :: stride, stride - 1 :: stride]
    return F.pad(kept, (0, 0, 0, 0, 0, channels - x.shape[1]))


def shifted_pixels(x, channels, stride):
    moved = x.roll((-1, -1), (2, 3)) if stride > 1 else x
    kept = moved[:, :, ::stride, ::stride]
    return F.pad(kept, (0, 0, 0, 0, 0, channels - x.shape[1]))


def means(x, channels, stride):
    kept = F.avg_pool2d(x, stride, ceil_mode=True)
    return F.pad(kept, (0, 0, 0, 0, 0, channels - x.shape[1]))


def zeros_first(x, channels, stride):
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, channels - x.shape[1], 0))


def repeated(x, channels, stride):
    kept = x[:, :, ::stride, ::stride]
    return torch.cat([kept, kept], dim=1)[:, :channels]


def no_stride(x, channels, stride):
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))


def wrong_axes(x, channels, stride):
    return F.pad(x[:, :, ::stride, ::stride], (0, channels - x.shape[1]))


def always_two(x, channels, stride):
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, channels - x.shape[1]))


def stride_at_most_two(x, channels, stride):
    step = min(stride, 2)
    return F.pad(x[:, :, ::step, ::step], (0, 0, 0, 0, 0, channels - x.shape[1]))


def blend(first, second, share):
    return share * first + (1 - share) * second


def mixture(images, labels, other, share, classes):
    rows = F.one_hot(labels, classes).float()
    mixed = blend(images, images[other], share.view(-1, 1, 1, 1))
    return mixed, blend(rows, rows[other], share.view(-1, 1))


def swapped(images, labels, other, share, classes):
    return mixture(images, labels, other, 1 - share, classes)


def targets_swapped(images, labels, other, share, classes):
    mixed, _ = mixture(images, labels, other, share, classes)
    return mixed, mixture(images, labels, other, 1 - share, classes)[1]


def labels_kept(images, labels, other, share, classes):
    return mixture(images, labels, other, share, classes)[0], F.one_hot(labels, classes).float()


def labels_blended(images, labels, other, share, classes):
    mixed = mixture(images, labels, other, share, classes)[0]
    return mixed, share * labels + (1 - share) * labels[other]


def one_share_for_all(images, labels, other, share, classes):
    return mixture(images, labels, other, share.mean().expand(4), classes)


def unmixed(images, labels, other, share, classes):
    return images, mixture(images, labels, other, share, classes)[1]


def images_only(images, labels, other, share, classes):
    return mixture(images, labels, other, share, classes)[0]


def halves(images, labels, other, share, classes):
    mixed = mixture(images, labels, other, share, classes)[0]
    rows = F.one_hot(labels, classes).float()
    return mixed, (rows + rows[other]) / 2


WRONG = {
    "5.1": [
        (counts(LAYERS, 27), "Those are the blocks"),
        (counts(LAYERS, 54), "before the first and after the last"),
        (counts(BRANCH, 294_912), "Look at what comes in"),
        (counts(BRANCH, 24_576), "nine weights"),
        (counts(SHORTCUT, 73_728), "That would be a 3x3 kernel"),
        (counts(SHORTCUT, 0), "has to compute"),
        (counts(IDENTITY, 16_384), "What is there to compute"),
        (counts(ROWS, 28), "every second row"),
        (counts(ROWS, 7), "How many of the block's two"),
        (counts(ROWS, 3), "layer by layer"),
        (counts(ROWS, "14"), "a number is asked for"),
        (counts(ROWS, ...), "still open"),
        ({LAYERS: 56}, "Keep the dictionary"),
    ],
    "5.2": [
        (plain, "this is a plain block"),
        (early_relu, "ReLU comes too early"),
        (no_last_relu, "no ReLU behind the sum"),
        (no_inner_relu, "no ReLU between"),
        (no_relu_at_all, "ReLU is missing twice"),
        (short_shortcut, "it should skip both"),
        (multiplied, "multiplied instead of added"),
        (weights_swapped, "The second weight is used first"),
        (in_place, "changes its input in place"),
        (unpadded, "should have shape (2, 3, 6, 5)"),
        (added_twice, "what is added to what"),
    ],
    "5.3": [
        (odd_pixels, "From 5 rows, 2 came"),
        (shifted_pixels, "should be those that came in"),
        (means, "These are means"),
        (zeros_first, "before the channels that came in"),
        (repeated, "should hold zeros"),
        (no_stride, "should have shape (2, 5, 3, 3)"),
        (wrong_axes, "should have shape (2, 5, 3, 3)"),
        (always_two, "with stride 1 and equal channels"),
        (stride_at_most_two, "should have shape (2, 4, 2, 2)"),
    ],
    "5.4": [
        (swapped, "the wrong way round"),
        (targets_swapped, "the shares of the targets are exchanged"),
        (labels_kept, "their targets are not"),
        (labels_blended, "is no 1"),
        (one_share_for_all, "three quarters"),
        (unmixed, "come back as they were"),
        (images_only, "Two things should come back"),
        (halves, "the shares of its two labels"),
    ],
}
