"""Plausible wrong answers to the exercises of chapter 10."""

import torch
import torch.nn.functional as F

from course_lib.teaching.exercises.ch10 import (
    DICE,
    JOINED,
    MULTIPLE,
    RIGHT_NUMBERS,
    ROWS,
    UNSHUFFLED,
    solve_u_forward,
)


def numbers(name, number):
    return RIGHT_NUMBERS | {name: number}


def replaced(signal, kernel, stride):
    result = torch.zeros((len(signal) - 1) * stride + len(kernel))
    for place, value in enumerate(signal):
        result[place * stride : place * stride + len(kernel)] = value * kernel
    return result


def too_short(signal, kernel, stride):
    result = torch.zeros(len(signal) * stride)
    for place, value in enumerate(signal):
        end = min(place * stride + len(kernel), len(result))
        result[place * stride : end] += value * kernel[: end - place * stride]
    return result


def turned(signal, kernel, stride):
    result = torch.zeros((len(signal) - 1) * stride + len(kernel))
    for place, value in enumerate(signal):
        result[place * stride : place * stride + len(kernel)] += value * kernel.flip(0)
    return result


def ready_made(signal, kernel, stride):
    return F.conv_transpose1d(signal[None, None], kernel[None, None], stride=stride)[0, 0]


def always_two(signal, kernel, stride):
    result = torch.zeros((len(signal) - 1) * stride + len(kernel))
    for place, value in enumerate(signal):
        result[place * 2 : place * 2 + len(kernel)] += (value * kernel)[: len(result) - place * 2]
    return result


def scores(predicted, mask, classes, fraction, keep=True):
    if keep:
        predicted, mask = predicted[mask >= 0], mask[mask >= 0]
    return torch.stack([fraction(predicted == c, mask == c) for c in range(classes)])


def with_ignored(predicted, mask, classes):
    parts = scores(predicted, mask, classes, lambda a, b: (a & b).sum() / (a | b).sum(), False)
    return torch.where(parts == 0, torch.nan, parts)


def zero_for_absent(predicted, mask, classes):
    return scores(predicted, mask, classes, lambda a, b: (a & b).sum() / (a | b).sum().clamp(min=1))


def dice(predicted, mask, classes):
    return scores(predicted, mask, classes, lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()))


def recall(predicted, mask, classes):
    return scores(predicted, mask, classes, lambda a, b: (a & b).sum() / b.sum())


def precision(predicted, mask, classes):
    return scores(predicted, mask, classes, lambda a, b: (a & b).sum() / a.sum())


def counted_twice(predicted, mask, classes):
    return scores(predicted, mask, classes, lambda a, b: (a & b).sum() / (a.sum() + b.sum()))


def no_logits(image, encoders, ups, decoders, classify):
    return solve_u_forward(image, encoders, ups, decoders, lambda x: x)


def swapped(image, encoders, ups, decoders, classify):
    kept, x = [], encoders[0](image)
    for encoder in encoders[1:]:
        kept.append(x)
        x = encoder(F.max_pool2d(x, 2))
    for up, decoder in zip(ups, decoders, strict=True):
        x = decoder(torch.cat([up(x), kept.pop()], dim=1))
    return classify(x)


def no_skips(image, encoders, ups, decoders, classify):
    x = encoders[0](image)
    for encoder in encoders[1:]:
        x = encoder(F.max_pool2d(x, 2))
    for up, decoder in zip(ups, decoders, strict=True):
        x = up(x)
        x = decoder(torch.cat([x, x], dim=1))
    return classify(x)


def zeros_across(image, encoders, ups, decoders, classify):
    x = encoders[0](image)
    for encoder in encoders[1:]:
        x = encoder(F.max_pool2d(x, 2))
    for up, decoder in zip(ups, decoders, strict=True):
        x = up(x)
        x = decoder(torch.cat([torch.zeros_like(x), x], dim=1))
    return classify(x)


def mean_pooled(image, encoders, ups, decoders, classify):
    kept, x = [], encoders[0](image)
    for encoder in encoders[1:]:
        kept.append(x)
        x = encoder(F.avg_pool2d(x, 2))
    for up, decoder in zip(ups, decoders, strict=True):
        x = decoder(torch.cat([kept.pop(), up(x)], dim=1))
    return classify(x)


def wrong_order(image, encoders, ups, decoders, classify):
    kept, x = [], encoders[0](image)
    for encoder in encoders[1:]:
        kept.append(x)
        x = encoder(F.max_pool2d(x, 2))
    for up, decoder in zip(ups, decoders, strict=True):
        x = decoder(torch.cat([kept.pop(0), up(x)], dim=1))  # sizes do not fit
    return classify(x)


def pooled_across(image, encoders, ups, decoders, classify):
    kept, x = [], encoders[0](image)
    for encoder in encoders[1:]:
        x = F.max_pool2d(x, 2)
        kept.append(x)  # too small by half
        x = encoder(x)
    for up, decoder in zip(ups, decoders, strict=True):
        x = decoder(torch.cat([kept.pop(), up(x)], dim=1))
    return classify(x)


def pooled_first(image, encoders, ups, decoders, classify):
    return solve_u_forward(F.max_pool2d(image, 2), encoders, ups, decoders, classify)


def at_once(model, image, tile, margin):
    return model(image)


def bare_tiles(model, image, tile, margin):
    return cut(model, image, tile, 0, lambda top, y: top - y)


def wrong_at_the_border(model, image, tile, margin):
    return cut(model, F.pad(image, (0, 9, 0, 9)), tile, margin, lambda top, y: margin, 9)


def padded(model, image, tile, margin):
    frame = F.pad(image, (margin,) * 4)
    rows = []
    for top in range(0, image.shape[2], tile):
        row = []
        for left in range(0, image.shape[3], tile):
            logits = model(frame[:, :, top : top + tile + 2 * margin, left : left + tile + 4])
            row.append(logits[:, :, margin : margin + tile, margin : margin + tile])
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


def small_margin(model, image, tile, margin):
    return cut(model, image, tile, margin - 1, lambda top, y: top - y)


def cut(model, image, tile, margin, offset, extra=0):
    rows = []
    for top in range(0, image.shape[2] - extra, tile):
        row = []
        for left in range(0, image.shape[3] - extra, tile):
            y, x = max(top - margin, 0), max(left - margin, 0)
            logits = model(image[:, :, y : top + tile + margin, x : left + tile + margin])
            a, b = offset(top, y), offset(left, x)
            row.append(logits[:, :, a : a + tile, b : b + tile])
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


WRONG = {
    "10.1": [
        (numbers(ROWS, 26), "Which of them does the padding cut off?"),
        (numbers(ROWS, 6), "what a convolution would make"),
        (numbers(JOINED, 64), "What arrives from the other?"),
        (numbers(UNSHUFFLED, 12), "has more than four"),
        (numbers(MULTIPLE, 16), "What has the stem done"),
        (numbers(DICE, 0.6), "differ unless"),
        (numbers(DICE, 0.5), "Say 6 pixels are common"),
        (numbers(ROWS, 25), "see where the last one ends"),
        (numbers(JOINED, 96), "one from across, one from below"),
        (numbers(UNSHUFFLED, 4), "a block of 4 x 4"),
        (numbers(MULTIPLE, 8), "a factor of 2"),
    ],
    "10.2": [
        (replaced, "they should add up"),
        (too_short, "8 numbers came"),
        (turned, "the wrong way round"),
        (ready_made, "without a ready-made"),
        (always_two, "Right for a stride of 2, wrong for 1"),
        (lambda signal, kernel, _: always_two(signal, kernel, 2), "with a stride of 1"),
    ],
    "10.3": [
        (with_ignored, "should not count"),
        (zero_for_absent, "is not there: NaN"),
        (dice, "the common area counts twice"),
        (recall, "That is the recall"),
        (precision, "That is the precision"),
        (counted_twice, "counted twice below the line"),
    ],
    "10.4": [
        (no_logits, "not yet logits"),
        (swapped, "the wrong way round"),
        (no_skips, "laid beside itself"),
        (zeros_across, "Zeros seem to come across"),
        (mean_pooled, "Averages are pooled"),
        (wrong_order, "Your code stopped"),
        (pooled_first, "no pooling stands before encoder 1"),
        (pooled_across, "Your code stopped"),
    ],
    "10.5": [
        (at_once, "saw 16 pixels at once"),
        (bare_tiles, "without its surroundings"),
        (wrong_at_the_border, "Only the tiles at the border"),
        (padded, "Only the tiles at the border"),
        (small_margin, "differ from the whole image's"),
    ],
}
