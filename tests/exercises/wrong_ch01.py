"""Plausible wrong answers to the exercises of chapter 01."""

import torch
import torch.nn.functional as F
from torch import nn

from course_lib import tensor_ops

RIGHT = {
    "t": (12, 4, 1),
    "t.permute(2, 0, 1)": (1, 12, 4),
    "t[:, ::2]": (12, 8, 1),
    "t[0].expand(5, 3, 4)": (0, 4, 1),
    "t.permute(2, 0, 1).contiguous()": (6, 3, 1),
}


def strides(name, stride):
    return RIGHT | {name: stride}


def transposed(a, b):
    return ((b[:, None] - a[None]) ** 2).sum(dim=2)


def not_summed(a, b):
    return (a[:, None] - b[None]) ** 2


def rooted(a, b):
    return torch.cdist(a, b)


def pairs_only(a, b):
    return ((a - b) ** 2).sum(dim=1)


def absolute(a, b):
    return (a[:, None] - b[None]).abs().sum(dim=2)


def two_coordinates(a, b):
    return (a[:, None, 0] - b[None, :, 0]) ** 2 + (a[:, None, 1] - b[None, :, 1]) ** 2


def log_p(logits):
    return logits - logits.logsumexp(dim=1, keepdim=True)


def last_class(logits, labels):
    return -log_p(logits).gather(1, labels[:, None] % 3).mean()


def wrong_sign(logits, labels):
    return -F.cross_entropy(logits, labels, ignore_index=-1)


def over_all(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / len(labels)


def summed(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")


def each(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")


def overflows(logits, labels):
    counts = labels != -1
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    return -p[counts].gather(1, labels[counts][:, None]).log().mean()


def without_the_log(logits, labels):
    counts = labels != -1
    return 1 - logits.softmax(dim=1)[counts].gather(1, labels[counts][:, None]).mean()


def torchs(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=-1)


def torchs_layer(logits, labels):
    return nn.CrossEntropyLoss(ignore_index=-1)(logits, labels)


def ours(logits, labels):
    return tensor_ops.cross_entropy(logits, labels, ignore_index=-1)


def minus_one_as_an_index(logits, labels):
    return -log_p(logits).gather(1, labels[:, None]).mean()


def copies(signal, size):
    return torch.stack([signal[i : i + size] for i in range(len(signal) - size + 1)])


def last_one_missing(signal, size):
    return signal.as_strided((len(signal) - size, size), (1, 1))


def no_overlap(signal, size):
    return signal.as_strided((len(signal) - size + 1, size), (0, 1))


def assumes_stride_one(signal, size):
    return signal.as_strided((len(signal) - size + 1, size), (1, 1))


def assumes_no_offset(signal, size):
    step = signal.stride(0)
    return torch.as_strided(signal, (len(signal) - size + 1, size), (step, step), 0)


def swapped(signal, size):
    return signal.as_strided((size, len(signal) - size + 1), (1, 1))


WRONG = {
    "1.1": [
        (strides("t", (2, 3, 4)), "That is the shape of t."),
        (strides("t", (1, 4, 12)), "t: not every number is right"),
        (strides("t.permute(2, 0, 1)", (12, 4, 1)), "That is the stride of t itself"),
        (strides("t.permute(2, 0, 1)", (4, 1, 12)), "the right numbers in another order"),
        (strides("t[:, ::2]", (12, 4, 2)), "t[:, ::2]: not every number is right"),
        (strides("t[0].expand(5, 3, 4)", (12, 4, 1)), "That is the stride of t itself"),
        (strides("t[0].expand(5, 3, 4)", (1, 4, 1)), "how far is it from one copy to the next"),
        (strides("t.permute(2, 0, 1).contiguous()", (1, 12, 4)), "is a copy: its numbers lie"),
        (strides("t", (4, 1)), "t has three axes"),
        (strides("t", [12, 4, 1]), "t: use round brackets"),
        (strides("t", ...), "The stride of t is still open"),
        ({"t": (12, 4, 1)}, "its five names"),
    ],
    "1.2": [
        (transposed, "The points of a belong to the rows"),
        (not_summed, "What is still to be done with the last axis?"),
        (rooted, "These are the distances; their squares"),
        (pairs_only, "with RuntimeError"),
        (absolute, "is 25, not 7"),
        (two_coordinates, "not for those with five"),
    ],
    "1.3": [
        (last_class, "-1 means the last class"),
        (wrong_sign, "The sign is wrong"),
        (over_all, "not four"),
        (summed, "their mean is asked for"),
        (each, "the loss should have shape ()"),
        (overflows, "Which number overflows?"),
        (without_the_log, "the labels [0, -1, 1, -1] the loss should be"),
        (torchs, "`cross_entropy` did the work"),
        (torchs_layer, "`cross_entropy` did the work"),
        (ours, "`cross_entropy` did the work"),
        (minus_one_as_an_index, "with RuntimeError"),
    ],
    "1.4": [
        (copies, "they are a copy"),
        (last_one_missing, "The last window is missing"),
        (no_overlap, "The second window should be [1, 2, 3, 4], not [0.0"),
        (assumes_stride_one, "not for signal[::2]"),
        (assumes_no_offset, "not for signal[1:]"),
        (swapped, "the windows should have shape (3, 4)"),
    ],
}
