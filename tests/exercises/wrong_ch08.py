"""Plausible wrong answers to the exercises of chapter 08."""

import math

import torch
import torch.nn.functional as F

from course_lib.teaching.exercises.ch08 import (
    LEFT_OUT,
    MASKED,
    PADDING,
    RIGHT_COUNTS,
    SECOND,
    TOKENS,
)


def counts(name, number):
    return RIGHT_COUNTS | {name: number}


def fitted(a, b, length):
    a, b = list(a), list(b)
    while len(a) + len(b) > length - 3:
        (a if len(a) > len(b) else b).pop()
    return a, b


def filled(ids, segments, length):
    return (ids + [0] * length)[:length], (segments + [0] * length)[:length]


def pair(ids, segments):
    def answer(a, b, length):
        a, b = fitted(a, b, length)
        return filled(ids(a, b), segments(len(a), len(b)), length)

    return answer


def right_ids(a, b):
    return [2, *a, 3, *b, 3]


def right_segments(a, b):
    return [0] * (a + 2) + [1] * (b + 1)


no_first_sep = pair(lambda a, b: [2, *a, *b, 3], right_segments)
no_second_sep = pair(lambda a, b: [2, *a, 3, *b], right_segments)
no_cls = pair(lambda a, b: [*a, 3, *b, 3], right_segments)
b_without_sep = pair(right_ids, lambda a, b: [0] * (a + 2) + [1] * b)
sep_to_b = pair(right_ids, lambda a, b: [0] * (a + 1) + [1] * (b + 2))
padding_to_b = pair(right_ids, lambda a, b: [0] * (a + 2) + [1] * 60)
all_zero = pair(right_ids, lambda a, b: [0])


def ids_only(a, b, length):
    a, b = fitted(a, b, length)
    return filled(right_ids(a, b), right_segments(len(a), len(b)), length)[0]


def unpadded(a, b, length):
    a, b = fitted(a, b, length)
    return right_ids(a, b), right_segments(len(a), len(b))


def uncut(a, b, length):
    ids, segments = right_ids(a, b), right_segments(len(a), len(b))
    padding = [0] * (length - len(ids))
    return ids + padding, segments + padding


def cut_as_one(a, b, length):
    return filled(right_ids(a, b), right_segments(len(a), len(b)), length)


def b_pays(a, b, length):
    a = list(a)[: length - 3]
    b = list(b)[: length - 3 - len(a)]
    return filled(right_ids(a, b), right_segments(len(a), len(b)), length)


def in_place(a, b, length):
    while len(a) + len(b) > length - 3:
        (a if len(a) > len(b) else b).pop()
    return filled(right_ids(a, b), right_segments(len(a), len(b)), length)


def cut_in_front(a, b, length):
    a, b = list(a), list(b)
    while len(a) + len(b) > length - 3:
        (a if len(a) > len(b) else b).pop(0)
    return filled(right_ids(a, b), right_segments(len(a), len(b)), length)


def a_pays(a, b, length):
    b = list(b)[: length - 4]
    a = list(a)[: length - 3 - len(b)]
    return filled(right_ids(a, b), right_segments(len(a), len(b)), length)


def each(logits, tokens, **options):
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), **options)


def as_word_0(logits, tokens):
    return each(logits, tokens.clamp(min=0))


def as_last_word(logits, tokens):
    return each(logits, tokens % logits.shape[2])


def summed(logits, tokens):
    return each(logits, tokens, ignore_index=-1, reduction="sum")


def by_all_places(logits, tokens):
    return summed(logits, tokens) / tokens.numel()


def by_rows(logits, tokens):
    rows = [F.cross_entropy(x, y, ignore_index=-1) for x, y in zip(logits, tokens, strict=True)]
    return torch.stack(rows).mean()


def nan_of_nothing(logits, tokens):
    return each(logits, tokens, ignore_index=-1)


def one_of_nothing(logits, tokens):
    there = tokens >= 0
    return each(logits, tokens, ignore_index=-1) if there.any() else torch.tensor(1.0)


def not_reduced(logits, tokens):
    return each(logits, tokens, ignore_index=-1, reduction="none")


def negative(logits, tokens):
    return -each(logits, tokens, ignore_index=-1)


def means(hidden, real):
    keep = real[:, :, None].float()
    return (hidden * keep).sum(1) / keep.sum(1)


def tails(wins, losses):
    return sum(math.comb(wins + losses, k) for k in range(min(wins, losses) + 1))


WRONG = {
    "8.1": [
        (counts(TOKENS, 45), "take places, too"),
        (counts(TOKENS, 47), "three special tokens"),
        (counts(SECOND, 25), "behind B belongs to B"),
        (counts(SECOND, 27), "belongs to A"),
        (counts(SECOND, 48), "That is all of them"),
        (counts(PADDING, 19), "forgets the three"),
        (counts(MASKED, 15), "15 of 100 words are chosen"),
        (counts(MASKED, 100), "and some stay"),
        (counts(MASKED, 12), "share of all words"),
        (counts(LEFT_OUT, 10), "asked for like any other"),
        (counts(LEFT_OUT, 20), "Replaced and unchanged"),
        (counts(LEFT_OUT, 85), "were not chosen"),
        (counts(LEFT_OUT, 100), "nothing to learn"),
        (counts(LEFT_OUT, 15), "remembered as labels"),
        (counts(MASKED, 0.8), "not a share"),
        (counts(MASKED, 90), "how many in ten"),
        (counts(PADDING, 3), "token by token"),
    ],
    "8.2": [
        (ids_only, "Two lists should come back"),
        (unpadded, "should have 8 numbers"),
        (no_first_sep, "Nothing stands between"),
        (no_second_sep, "behind B, is missing"),
        (no_cls, "should come [2, 7"),
        (b_without_sep, "belongs to segment 1"),
        (sep_to_b, "belongs to segment 0"),
        (padding_to_b, "Padding has segment 0"),
        (all_zero, "alone; yours"),
        (in_place, "changes the lists"),
        (uncut, "do not fit into 12"),
        (cut_as_one, "The whole row was cut"),
        (b_pays, "the longer one pays"),
        (cut_in_front, "the ends are cut"),
        (a_pays, "loses much more"),
    ],
    "8.3": [
        (as_word_0, "taken for the word 0"),
        (as_last_word, "taken for the last word"),
        (summed, "This is the sum"),
        (by_all_places, "not by all places"),
        (by_rows, "Each row counts alike"),
        (nan_of_nothing, "the loss is NaN"),
        (one_of_nothing, "should be 0, not"),
        (not_reduced, "should have shape ()"),
        (negative, "It should be"),
    ],
    "8.4": [
        (lambda hidden, real: hidden.mean(1), "Padding is in the mean"),
        (lambda hidden, real: (hidden * real[:, :, None]).mean(1), "still counted"),
        (lambda hidden, real: (hidden * real[:, :, None]).sum(1), "of any length"),
        (lambda hidden, real: hidden[:, 0], "the first token alone"),
        (means, "another length than 1"),
        (lambda hidden, real: F.normalize(means(hidden, real), dim=0), "not over the texts"),
        (lambda hidden, real: F.normalize(hidden.mean(1), dim=1), "The lengths are 1, but"),
        (lambda hidden, real: means(hidden, real).softmax(1), "Row 0 should begin"),
        (lambda hidden, real: hidden, "should have shape (3, 4)"),
    ],
    "8.5": [
        (lambda wins, losses: tails(wins, losses) / 2 ** (wins + losses), "Half of it"),
        (lambda wins, losses: 2 * tails(wins, losses) / 2 ** (wins + losses), "above 1"),
        (
            lambda wins, losses: (
                2 * math.comb(wins + losses, min(wins, losses)) / 2 ** (wins + losses)
            ),
            "this very result alone",
        ),
        (lambda wins, losses: min(wins, losses) / (wins + losses), "a share of the tosses"),
        (lambda wins, losses: wins > losses, "A number is asked for"),
        (lambda wins, losses: 0.05, "at least as uneven"),
    ],
}
