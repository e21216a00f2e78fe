"""Exercises and quizzes of chapter 06."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib import attention
from course_lib.teaching.exercises.exercise import (
    Exercise,
    Rejected,
    expect_numbers,
    expect_tensor,
    without,
)
from course_lib.teaching.quiz import Choice, Quiz

RIGHT_SIZES = {
    "columns that each head of MultiHeadAttention(width=64, heads=8) works with": 8,
    "weights in its in_proj_weight": 12_288,
    "attention weights it computes for 2 sentences of 10 words": 1_600,
    "True entries in causal_mask(5)": 15,
    "times as many attention weights for a sentence that is 3 times as long": 9,
}
COLUMNS, PROJECTION, WEIGHTS, CAUSAL, LONGER = RIGHT_SIZES


def examine_sizes(answer: dict[str, int]) -> None:
    expect_numbers(answer, RIGHT_SIZES, _wrong_size)


def _wrong_size(name: str, given: float) -> str:
    said = {
        (COLUMNS, 64): "The heads do not see the whole width: they share it.",
        (COLUMNS, 512): "The heads do not multiply the width: they share it.",
        (PROJECTION, 4_096): "That makes the queries alone. What else is projected?",
        (PROJECTION, 1_536): "Heads together make queries of the whole width, not of one head's.",
        (PROJECTION, 16_384): "The fourth matrix, out_proj, is a module of its own.",
        (WEIGHTS, 200): "That would be one head's.",
        (WEIGHTS, 800): "That is one sentence's. There are two, which do not see each other.",
        (WEIGHTS, 3_200): "The sentences do not see each other: 10 x 10 in each, not 20 x 20.",
        (WEIGHTS, 160): "Each word has a weight for every word of its sentence, not just one.",
        (CAUSAL, 10): "Each place sees itself, too.",
        (CAUSAL, 25): "That is without a mask.",
        (LONGER, 3): "There are three times as many queries. And how many keys has each?",
        (LONGER, 27): "Queries and keys grow, and nothing else does.",
    }
    return f"{name}: {said.get((name, given), 'Write the shapes down, axis by axis.')}"


def examine_decoder_mask(decoder_mask) -> None:
    lengths, size = torch.tensor([4, 2, 0]), 4
    value = decoder_mask(lengths, size)
    if isinstance(value, Tensor) and value.shape == (3, size, size):
        raise Rejected("There is no axis for the heads: (B, 1, size, size), with a 1 to broadcast.")
    expect_tensor(value, (3, 1, size, size), "the mask")
    if value.dtype is not torch.bool:
        raise Rejected(f"The mask should hold bools, not {value.dtype}.")
    real = torch.arange(size) < lengths[:, None]  # (3, 4)
    causal = torch.ones(size, size).tril().bool()
    keys, rows = real[:, None, None, :], real[:, None, :, None]
    mistakes = {
        "True should mean: may be seen. Yours is the other way round.": ~(causal & keys),
        "Padding is hidden, but the places still see later ones.": keys.expand(3, 1, size, size),
        "Later places are hidden, but padding is not.": causal.expand(3, 1, size, size),
        "The triangle is the wrong one: places see what comes after them.": causal.T & keys,
        "A place should also see itself.": causal.tril(-1) & keys,
        "Padding is hidden where it asks, not where it is looked at: mind the axis.": causal & rows,
        "Of the two conditions both must hold, not just one.": causal | keys,
    }
    for reason, wrong in mistakes.items():
        if value.equal(wrong):
            raise Rejected(reason)
    right = causal & keys
    if not value.equal(right):
        wrong = (value != right)[1, 0].nonzero().tolist()  # in the sentence of two words
        row, column = wrong[0] if wrong else (0, 0)
        raise Rejected(
            f"Of 4 places 2 are real. May place {row} see place {column}? Yours says "
            f"{value[1, 0, row, column].item()}. Look also at sentences that are full or empty."
        )
    expect_tensor(decoder_mask(torch.tensor([1]), 3), (1, 1, 3, 3), "the mask of one sentence")


def solve_decoder_mask(lengths, size):
    causal = torch.ones(size, size, dtype=torch.bool).tril()  # (size, size)
    real = torch.arange(size) < lengths[:, None]  # (size,) < (B, 1) -> (B, size)
    return causal & real[:, None, None, :]  # -> (B, 1, size, size)


def examine_attend(attend) -> None:
    generator = torch.Generator().manual_seed(0)
    query = 2 * torch.randn(4, 9, generator=generator)
    key, value = (torch.randn(5, n, generator=generator) for n in (9, 3))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1]]).bool()
    ban = (F, "scaled_dot_product_attention"), (attention, "attention_by_hand")
    by_hand = without(attend, "Write the formula out instead of calling it.", *ban)
    output = by_hand(query, key, value, mask)
    if isinstance(output, tuple):
        raise Rejected("Only the output is asked for, not the weights.")
    expect_tensor(output, (4, 3), "the output")
    right = attention.attention_weights(query, key, mask) @ value
    scores = query @ key.T
    hidden = scores.masked_fill(~mask, -torch.inf)
    mistakes = {
        "The scores are not divided by the root of d.": _soft(hidden, mask) @ value,
        "The scores are divided by d, not by its root.": _soft(hidden / 9, mask) @ value,
        "The mask is not used.": (scores / 3).softmax(dim=1) @ value,
        "The mask is the wrong way round: True means may attend.": attention.attention_weights(
            query, key, ~mask
        )
        @ value,
        "The weights are zeroed after the softmax, so a row no longer sums to 1. Hide the scores "
        "before it.": ((scores / 3).softmax(dim=1) * mask) @ value,
        "A hidden score of 0 is not hidden: a softmax makes a weight of it.": (
            (scores / 3 * mask).softmax(dim=1) @ value
        ),
        "The softmax runs over the queries; each query's weights should sum to 1.": (
            (hidden / 3).softmax(dim=0).nan_to_num() @ value
        ),
    }
    seen = [0, 1, 3]  # rows with something to attend to
    for reason, wrong in mistakes.items():
        if torch.allclose(output[seen], wrong[seen], atol=1e-5):
            raise Rejected(reason)
    if not torch.allclose(output[seen], right[seen], atol=1e-5):
        raise Rejected(
            f"The first row should begin with {right[0, 0].item():.4f}; yours begins with "
            f"{output[0, 0].item():.4f}."
        )
    if output[2].isnan().any():
        raise Rejected("Where nothing may be seen, NaN comes out: a softmax of minus infinities.")
    if output[2].ne(0).any():
        raise Rejected("Where nothing may be seen, something comes out. It should be zeros.")
    everything = torch.ones(2, 2, dtype=torch.bool)
    small = query[:2, :4], key[:2, :4], value[:2]
    wanted, _ = attention.attention_by_hand(*small)
    if not torch.allclose(by_hand(*small, everything), wanted):
        raise Rejected("Right for d = 9, but not for another d: where do you take it from?")


def _soft(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.softmax(dim=1).masked_fill(~mask, 0.0)


def solve_attend(query, key, value, mask):
    scores = query @ key.T / query.shape[1] ** 0.5  # (T, d) @ (d, S) -> (T, S)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=1).masked_fill(~mask, 0.0)  # a row with nothing: all 0
    return weights @ value  # (T, S) @ (S, e) -> (T, e)


def examine_many_heads(many_heads) -> None:
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    value = many_heads(x, 3)
    if isinstance(value, Tensor) and value.shape == (2, 3, 5, 2):
        raise Rejected("The heads' outputs still lie apart, (B, heads, T, d). Join them again.")
    expect_tensor(value, (2, 5, 6), "the output")
    if not x.equal(before):
        raise Rejected("x was changed in place.")
    parts = x.unflatten(2, (3, 2)).transpose(1, 2)  # (2, 3, 5, 2)
    outputs = attention.attention_by_hand(parts, parts, parts)[0]
    odd = x.reshape(2, 3, 5, 2)
    interleaved = x.unflatten(2, (2, 3)).permute(0, 3, 1, 2)
    woven = attention.attention_by_hand(interleaved, interleaved, interleaved)[0]
    joined = woven.permute(0, 2, 3, 1).flatten(2)  # places are right, columns by threes
    mistakes = {
        "That is one head that sees the whole width.": attention.attention_by_hand(x, x, x)[0],
        "`view` or `reshape` to (B, heads, T, d) mixes places: first cut the last axis, then swap "
        "two axes.": attention.attention_by_hand(odd, odd, odd)[0].reshape(2, 5, 6),
        "Cut well, but joined without swapping the axes back first.": outputs.reshape(2, 5, 6),
        "Head 0 should get the first columns, head 1 the next; yours takes every third.": joined,
        "Head by head is right, but their columns are woven when they are joined.": (
            outputs.permute(0, 2, 3, 1).flatten(2)
        ),
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value, wrong, atol=1e-5):
            raise Rejected(reason)
    right = outputs.transpose(1, 2).flatten(2)
    if not torch.allclose(value, right, atol=1e-5):
        raise Rejected(
            f"The first value should be {right[0, 0, 0].item():.4f}; yours is "
            f"{value[0, 0, 0].item():.4f}. What is divided by which root in a part?"
        )
    if not torch.allclose(many_heads(x, 1), attention.attention_by_hand(x, x, x)[0], atol=1e-5):
        raise Rejected("Right for three heads, but with one head it should be plain attention.")


def solve_many_heads(x, heads):
    parts = x.unflatten(2, (heads, -1)).transpose(1, 2)  # (B, T, width) -> (B, heads, T, d)
    output, _ = attention.attention_by_hand(parts, parts, parts)
    return output.transpose(1, 2).flatten(2)  # (B, heads, T, d) -> (B, T, width)


sizes = Exercise(
    number="6.1",
    title="what attention costs",
    examine=examine_sizes,
    solution=RIGHT_SIZES,
    hints=(
        "The width is shared among the heads. `in_proj_weight` makes queries, keys and values, "
        "each of the whole width.",
        "Attention weights have the shape (B, heads, T, S): multiply its four numbers. In a "
        "causal mask, place 0 sees one place, place 1 sees two, and so on.",
    ),
)

decoder_mask = Exercise(
    number="6.2",
    title="causal, and without padding",
    examine=examine_decoder_mask,
    solution=solve_decoder_mask,
    hints=(
        "Two masks joined with `&`: a lower triangle (size, size), and which keys are real, "
        "(B, 1, 1, size).",
        "`torch.arange(size) < lengths[:, None]` says for each sentence which places are real. "
        "Index it with `[:, None, None, :]`: the last axis holds the keys.",
    ),
)

attend = Exercise(
    number="6.3",
    title="attention by hand",
    examine=examine_attend,
    solution=solve_attend,
    hints=(
        "Scores, divided by the root of d; hide some of them; softmax over the keys; weighted sum "
        "of the values.",
        "`masked_fill(~mask, number)` hides. With minus infinity a row with nothing becomes NaN; "
        "with the least number of the dtype it becomes uniform, and one more `masked_fill` after "
        "the softmax makes it 0.",
    ),
)

many_heads = Exercise(
    number="6.4",
    title="several heads",
    examine=examine_many_heads,
    solution=solve_many_heads,
    hints=(
        "A loop over slices of the last axis will do, joined with `torch.cat(..., dim=2)`.",
        "Or without a loop: `unflatten` the last axis into (heads, d), swap axes 1 and 2, attend, "
        "swap them back, and `flatten` the last two.",
    ),
)

EXERCISES = (sizes, decoder_mask, attend, many_heads)

hot_softmax = Quiz(
    "All scores of a query are multiplied by 100. What happens to its answer?",
    (
        Choice(
            "It grows a hundredfold",
            "The weights sum to 1 whatever the scores are: the answer stays a mean of the values.",
        ),
        Choice(
            "It comes near the value of the key with the highest score",
            "That is a temperature of 1/100: the softmax becomes a hard choice, and nearly no "
            "gradient gets through it.",
            correct=True,
        ),
        Choice(
            "Nothing: a softmax does not see a common factor",
            "It does not see a number added to all scores. A factor changes all differences.",
        ),
    ),
)

hidden_late = Quiz(
    "Why is a mask applied to the scores, and not to the weights after the softmax?",
    (
        Choice(
            "It saves time",
            "Both cost one pass over the map. The result differs.",
        ),
        Choice(
            "Else the hidden places would still take their share of the sum of 1",
            "What is left would sum to less than 1, and how much less depends on what was hidden: "
            "the padding would be felt.",
            correct=True,
        ),
        Choice(
            "Weights cannot be changed after a softmax",
            "They can: it is an ordinary tensor. Our library even does so, for rows with nothing.",
        ),
    ),
)

order_quiz = Quiz(
    "Self-attention without positions reads a sentence in another order. What comes out?",
    (
        Choice(
            "The same vectors, in the new order",
            "Every word sees the same set of words as before. Only positions tell orders apart.",
            correct=True,
        ),
        Choice(
            "The same vectors, in the old order",
            "Each output belongs to its query, and the queries were moved.",
        ),
        Choice(
            "Other vectors: the weights depend on the distance",
            "They depend on queries and keys alone, unless these were turned by their places.",
        ),
    ),
)

several_heads = Quiz(
    "A module of width 64 gets 8 heads instead of 1. What changes?",
    (
        Choice(
            "It has eight times as many parameters",
            "The four matrices stay 64 x 64: the heads share their columns.",
        ),
        Choice(
            "It can make eight choices at once, each by comparing 8 columns only",
            "Parameters stay the same. There are eight maps, and each is made from less.",
            correct=True,
        ),
        Choice(
            "It sees eight times as far",
            "One head already sees all places.",
        ),
    ),
)

cache_quiz = Quiz(
    "Why may keys and values of earlier words be kept while a decoder writes?",
    (
        Choice(
            "Because they hardly change",
            "They do not change at all, or the result would be another one.",
        ),
        Choice(
            "Because of the causal mask: an earlier word never sees what comes later",
            "So all that was computed for it stays right, in every layer. An encoder, where all "
            "see all, could not do this.",
            correct=True,
        ),
        Choice(
            "Because the weights of the network do not change while it writes",
            "True, and not enough: in an encoder they do not change, either.",
        ),
    ),
)

QUIZZES = (hot_softmax, hidden_late, order_quiz, several_heads, cache_quiz)
