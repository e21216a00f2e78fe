"""Plausible wrong answers to the exercises of chapter 06."""

import torch
import torch.nn.functional as F

from course_lib import attention
from course_lib.teaching.exercises.ch06 import (
    CAUSAL,
    COLUMNS,
    LONGER,
    PROJECTION,
    RIGHT_SIZES,
    WEIGHTS,
)


def sizes(name, number):
    return RIGHT_SIZES | {name: number}


def real(lengths, size):
    return torch.arange(size) < lengths[:, None]


def triangle(size):
    return torch.ones(size, size, dtype=torch.bool).tril()


def right_mask(lengths, size):
    return triangle(size) & real(lengths, size)[:, None, None, :]


def inverted(lengths, size):
    return ~right_mask(lengths, size)


def padding_only(lengths, size):
    return real(lengths, size)[:, None, None, :].expand(len(lengths), 1, size, size)


def causal_only(lengths, size):
    return triangle(size).expand(len(lengths), 1, size, size)


def upper(lengths, size):
    return triangle(size).T & real(lengths, size)[:, None, None, :]


def not_itself(lengths, size):
    return triangle(size).tril(-1) & real(lengths, size)[:, None, None, :]


def rows_hidden(lengths, size):
    return triangle(size) & real(lengths, size)[:, None, :, None]


def either(lengths, size):
    return triangle(size) | real(lengths, size)[:, None, None, :]


def one_too_many(lengths, size):
    return triangle(size) & real(lengths + 1, size)[:, None, None, :]


def empty_sees_all(lengths, size):
    return right_mask(torch.where(lengths > 0, lengths, size), size)


def no_heads(lengths, size):
    return right_mask(lengths, size)[:, 0]


def floats(lengths, size):
    return right_mask(lengths, size).float()


def attend(query, key, value, mask, scale=None, fill=-1e30):
    scores = query @ key.T / (scale or query.shape[1] ** 0.5)
    weights = scores.masked_fill(~mask, fill).softmax(dim=1).masked_fill(~mask, 0.0)
    return weights @ value


def unscaled(query, key, value, mask):
    return attend(query, key, value, mask, scale=1)


def by_width(query, key, value, mask):
    return attend(query, key, value, mask, scale=query.shape[1])


def always_three(query, key, value, mask):
    return attend(query, key, value, mask, scale=3)


def by_values_width(query, key, value, mask):
    return attend(query, key, value, mask, scale=value.shape[1] ** 0.5)


def maskless(query, key, value, mask):
    return attend(query, key, value, torch.ones_like(mask))


def turned_round(query, key, value, mask):
    return attend(query, key, value, ~mask)


def late_mask(query, key, value, mask):
    return ((query @ key.T / query.shape[1] ** 0.5).softmax(dim=1) * mask) @ value


def zero_scores(query, key, value, mask):
    return ((query @ key.T / query.shape[1] ** 0.5) * mask).softmax(dim=1) @ value


def over_queries(query, key, value, mask):
    scores = (query @ key.T / query.shape[1] ** 0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=0).nan_to_num() @ value


def infinite(query, key, value, mask):
    scores = (query @ key.T / query.shape[1] ** 0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=1) @ value


def uniform(query, key, value, mask):
    scores = (query @ key.T / query.shape[1] ** 0.5).masked_fill(~mask, -1e9)
    return scores.softmax(dim=1) @ value


def with_weights(query, key, value, mask):
    return attend(query, key, value, mask), mask


def ready_made(query, key, value, mask):
    return F.scaled_dot_product_attention(query, key, value, mask)


def parts_of(x, heads):
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def self_attention(x):
    return attention.attention_by_hand(x, x, x)[0]


def one_head(x, heads):
    return self_attention(x)


def mixed_places(x, heads):
    batch, length, width = x.shape
    return self_attention(x.reshape(batch, heads, length, width // heads)).reshape(x.shape)


def not_swapped_back(x, heads):
    return self_attention(parts_of(x, heads)).reshape(x.shape)


def every_third(x, heads):
    parts = x.unflatten(2, (-1, heads)).permute(0, 3, 1, 2)
    return self_attention(parts).permute(0, 2, 3, 1).flatten(2)


def woven(x, heads):
    return self_attention(parts_of(x, heads)).permute(0, 2, 3, 1).flatten(2)


def apart(x, heads):
    return self_attention(parts_of(x, heads))


def root_of_width(x, heads):
    parts = parts_of(x, heads)
    scores = parts @ parts.transpose(2, 3) / x.shape[2] ** 0.5
    return (scores.softmax(dim=3) @ parts).transpose(1, 2).flatten(2)


def always_three_heads(x, heads):
    return self_attention(parts_of(x, 3)).transpose(1, 2).flatten(2)


WRONG = {
    "6.1": [
        (sizes(COLUMNS, 64), "they share it"),
        (sizes(PROJECTION, 4_096), "What else is projected"),
        (sizes(PROJECTION, 16_384), "a module of its own"),
        (sizes(WEIGHTS, 200), "one head's"),
        (sizes(WEIGHTS, 800), "That is one sentence's"),
        (sizes(WEIGHTS, 3_200), "not 20 x 20"),
        (sizes(CAUSAL, 10), "sees itself, too"),
        (sizes(CAUSAL, 25), "without a mask"),
        (sizes(LONGER, 3), "how many keys has each"),
        (sizes(LONGER, 6), "axis by axis"),
        (sizes(LONGER, "9"), "a number is asked for"),
        (sizes(LONGER, ...), "still open"),
        ({COLUMNS: 8}, "Keep the dictionary"),
    ],
    "6.2": [
        (inverted, "Yours is the other way round"),
        (padding_only, "still see later ones"),
        (causal_only, "but padding is not"),
        (upper, "The triangle is the wrong one"),
        (not_itself, "also see itself"),
        (rows_hidden, "mind the axis"),
        (either, "both must hold"),
        (one_too_many, "May place 2 see place 2"),
        (empty_sees_all, "full or empty"),
        (no_heads, "no axis for the heads"),
        (floats, "should hold bools"),
    ],
    "6.3": [
        (unscaled, "not divided by the root"),
        (by_width, "divided by d, not by its root"),
        (always_three, "not for another d"),
        (by_values_width, "should begin with"),
        (maskless, "The mask is not used"),
        (turned_round, "wrong way round"),
        (late_mask, "no longer sums to 1"),
        (zero_scores, "a softmax makes a weight of it"),
        (over_queries, "runs over the queries"),
        (infinite, "NaN comes out"),
        (uniform, "something comes out"),
        (with_weights, "Only the output"),
        (ready_made, "Write the formula out"),
    ],
    "6.4": [
        (one_head, "one head that sees the whole width"),
        (mixed_places, "mixes places"),
        (not_swapped_back, "without swapping the axes back"),
        (every_third, "yours takes every third"),
        (woven, "are woven when they are joined"),
        (apart, "still lie apart"),
        (root_of_width, "divided by which root"),
        (always_three_heads, "with one head"),
    ],
}
