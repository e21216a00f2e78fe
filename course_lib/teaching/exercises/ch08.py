"""Exercises and quizzes of chapter 08."""

import math

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
    "tokens of [CLS] A [SEP] B [SEP], if A has 20 and B has 25": 48,
    "of these, tokens with segment 1": 26,
    "[PAD] behind them, for a length of 64": 16,
    "of 100 chosen words, shown as [MASK] on average": 80,
    "of 100 chosen words, those the loss leaves out": 0,
}
TOKENS, SECOND, PADDING, MASKED, LEFT_OUT = RIGHT_COUNTS


def examine_counts(answer: dict[str, int]) -> None:
    expect_numbers(answer, RIGHT_COUNTS, _wrong_count)


def _wrong_count(name: str, given: float) -> str:
    return {
        (TOKENS, 45): "Special tokens take places, too.",
        (TOKENS, 47): "There are three special tokens: one in front, one behind each text.",
        (SECOND, 25): "The [SEP] behind B belongs to B.",
        (SECOND, 27): "The [SEP] between the two belongs to A.",
        (SECOND, 48): "That is all of them. Which belong to B?",
        (PADDING, 19): "That forgets the three special tokens.",
        (MASKED, 15): "15 of 100 words are chosen. But here all 100 are chosen ones.",
        (MASKED, 100): "Some chosen words are replaced by another word, and some stay.",
        (MASKED, 12): "That is the share of all words; here all 100 are chosen ones.",
        (LEFT_OUT, 10): "An unchanged word is asked for like any other chosen one.",
        (LEFT_OUT, 20): "Replaced and unchanged words are asked for, too.",
        (LEFT_OUT, 85): "Those are words that were not chosen; here all are chosen ones.",
        (MASKED, 0.8): "Of 100 words: a number of words is asked for, not a share.",
        (LEFT_OUT, 100): "Then there would be nothing to learn. Which words have a label?",
    }.get((name, given), _look_again(name))


def _look_again(name: str) -> str:
    if name == MASKED:
        return "In the lesson, how many in ten of the chosen words are replaced by [MASK]?"
    if name == LEFT_OUT:
        return "The loss compares labels. Which of the chosen words were remembered as labels?"
    return "Write the record down, token by token."


LONG_A, LONG_B = list(range(10, 19)), list(range(30, 34))


def examine_make_pair(make_pair) -> None:
    ids, segments = _two_lists(make_pair([7, 8], [9], 8))
    if len(ids) != 8 or len(segments) != 8:
        raise Rejected(f"Both lists should have 8 numbers, not {len(ids)} and {len(segments)}.")
    if ids[:6] == [2, 7, 8, 9, 3, 0]:
        raise Rejected("Nothing stands between A and B: how would one know where B begins?")
    if ids[:6] == [2, 7, 8, 3, 9, 0]:
        raise Rejected("The second [SEP], behind B, is missing.")
    if ids != [2, 7, 8, 3, 9, 3, 0, 0]:
        raise Rejected(
            f"Of A = [7, 8] and B = [9] should come [2, 7, 8, 3, 9, 3, 0, 0], not {ids}."
        )
    if segments == [0, 0, 0, 0, 1, 0, 0, 0]:
        raise Rejected("The [SEP] behind B belongs to segment 1.")
    if segments == [0, 0, 0, 1, 1, 1, 0, 0]:
        raise Rejected("The [SEP] behind A belongs to segment 0.")
    if segments == [0, 0, 0, 0, 1, 1, 1, 1]:
        raise Rejected("Padding has segment 0, as it has id 0.")
    if segments != [0, 0, 0, 0, 1, 1, 0, 0]:
        raise Rejected(f"The segments should be 1 at B and its [SEP] alone; yours: {segments}.")
    a, b = LONG_A.copy(), LONG_B.copy()
    ids, _ = _two_lists(make_pair(a, b, 12))
    if (a, b) != (LONG_A, LONG_B):
        raise Rejected("Your function changes the lists it is given; work on copies.")
    if len(ids) != 12:
        raise Rejected(f"9 and 4 tokens do not fit into 12: yours has {len(ids)}.")
    if ids[-1] != 3 or ids.count(3) != 2:
        raise Rejected("The whole row was cut. Cut A and B before they are joined.")
    between = ids.index(3)
    kept = between - 1, 12 - between - 2
    if kept == (9, 0) or kept[1] < 4:
        raise Rejected(f"{kept[0]} tokens of A and {kept[1]} of B are left: the longer one pays.")
    if ids[1] != 10 or ids[between + 1] != 30:
        raise Rejected("The beginnings should stay; the ends are cut.")
    ids, _ = _two_lists(make_pair(LONG_A.copy(), LONG_A.copy(), 12))
    if abs(2 * ids.index(3) - 11) > 1:
        raise Rejected("Two texts of 9 tokens in 12 places: one loses much more than the other.")


def _two_lists(value) -> tuple[list[int], list[int]]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Rejected("Two lists should come back: ids and segments.")
    lists = [part.tolist() if isinstance(part, Tensor) else list(part) for part in value]
    return lists[0], lists[1]


def solve_make_pair(a, b, length):
    a, b = list(a), list(b)
    while len(a) + len(b) > length - 3:
        longer = a if len(a) > len(b) else b
        longer.pop()
    ids = [2, *a, 3, *b, 3]
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    padding = [0] * (length - len(ids))
    return ids + padding, segments + padding


def examine_word_loss(word_loss) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 6, generator=generator)
    tokens = torch.tensor([[1, 5, -1, -1], [0, -1, -1, -1], [2, 3, 4, -1]])
    value = word_loss(logits.clone(), tokens.clone())
    expect_tensor(value, (), "the loss")
    there = tokens >= 0
    each = F.cross_entropy(logits[there], tokens[there], reduction="none")
    log_p = logits.log_softmax(2)
    every = -log_p.gather(2, tokens.clamp(min=0)[:, :, None])[:, :, 0]
    last = -log_p.gather(2, (tokens % 6)[:, :, None])[:, :, 0]
    rows = torch.stack([row[keep].mean() for row, keep in zip(every, there, strict=True)])
    mistakes = {
        "A label of -1 was taken for the word 0.": every.mean(),
        "A label of -1 was taken for the last word: that is how Python counts.": last.mean(),
        "This is the sum; the mean over the words that are asked for is wanted.": each.sum(),
        "Divide by the number of words that are asked for, not by all places.": each.sum() / 12,
        "Each row counts alike here; each word should.": rows.mean(),
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value, wrong, atol=1e-5):
            raise Rejected(reason)
    if not torch.allclose(value, each.mean(), atol=1e-5):
        raise Rejected(f"It should be {each.mean().item():.4f}; yours is {value.item():.4f}.")
    empty = word_loss(logits.clone(), torch.full((3, 4), -1))
    if not isinstance(empty, Tensor):
        empty = torch.tensor(float(empty))
    if empty.isnan():
        raise Rejected("No word is asked for, and the loss is NaN: 0 divided by 0.")
    if empty != 0:
        raise Rejected(f"No word is asked for: the loss should be 0, not {empty.item():.4f}.")


def solve_word_loss(logits, tokens):
    total = F.cross_entropy(
        logits.flatten(0, 1), tokens.flatten(), ignore_index=-1, reduction="sum"
    )
    return total / (tokens >= 0).sum().clamp(min=1)


def examine_sentence_vector(sentence_vector) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 4, generator=generator)
    real = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]).bool()
    value = sentence_vector(hidden.clone(), real.clone())
    expect_tensor(value, (3, 4), "the vectors")
    sums = (hidden * real[:, :, None]).sum(1)
    means = sums / real.sum(1, keepdim=True)
    mistakes = {
        "Padding is in the mean, too.": hidden.mean(1),
        "Padding is set to 0, but still counted: divide by the real tokens alone.": sums / 5,
        "This is the sum of the real tokens, of any length: take their mean.": sums,
        "This is the first token alone.": hidden[:, 0],
        "These are means, but of another length than 1: divide by the norm.": means,
        "Each vector has its own length: the norm is over its columns, not over the texts.": (
            F.normalize(means, dim=0)
        ),
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value, wrong, atol=1e-5):
            raise Rejected(reason)
    if torch.allclose(value, F.normalize(hidden.mean(1), dim=1), atol=1e-5):
        raise Rejected("The lengths are 1, but padding is in the mean, too.")
    if not torch.allclose(value, F.normalize(means, dim=1), atol=1e-5):
        raise Rejected(f"Row 0 should begin with {F.normalize(means, dim=1)[0, 0].item():.4f}.")


def solve_sentence_vector(hidden, real):
    keep = real[:, :, None].float()  # (B, T, 1)
    means = (hidden * keep).sum(1) / keep.sum(1)  # (B, width)
    return means / means.norm(dim=1, keepdim=True)


def examine_by_chance(by_chance) -> None:
    cases = {(8, 2): 112 / 1024, (3, 3): 1.0, (0, 5): 2 / 32, (2, 8): 112 / 1024, (1, 0): 1.0}
    for (wins, losses), right in cases.items():
        value = by_chance(wins, losses)
        value = value.item() if isinstance(value, Tensor) and value.ndim == 0 else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Rejected(f"A number is asked for, not a {type(value).__name__}.")
        said = f"For {wins} wins and {losses} losses it should be {right:.5g}; yours: {value:.5g}. "
        fewest, tosses = min(wins, losses), wins + losses
        if value > 1 + 1e-9:
            raise Rejected(said + "A probability above 1: the middle is counted from both sides.")
        if abs(value - right) < 1e-9:
            continue
        if abs(2 * value - right) < 1e-9:
            raise Rejected(said + "Half of it: either of the two could have been the luckier one.")
        if abs(value - 2 * math.comb(tosses, fewest) / 2**tosses) < 1e-9:
            raise Rejected(said + "That is this very result alone; add those that are more uneven.")
        if abs(value - fewest / tosses) < 1e-9 or abs(value - wins / tosses) < 1e-9:
            raise Rejected(said + "That is a share of the tosses, not how likely it is by chance.")
        raise Rejected(said + "Count, of all 2 to the n rows of tosses, those at least as uneven.")


def solve_by_chance(wins, losses):
    tosses = wins + losses
    tail = sum(math.comb(tosses, heads) for heads in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**tosses)


counts = Exercise(
    number="8.1",
    title="five numbers of a record",
    examine=examine_counts,
    solution=RIGHT_COUNTS,
    hints=(
        "Draw it: a box for every token, and below it a 0 or a 1.",
        "80, 10 and 10 of 100 chosen words are masked, replaced and left. Which of them are "
        "labels? Look again at where the words of the record were remembered.",
    ),
)

make_pair = Exercise(
    number="8.2",
    title="a pair of any length",
    examine=examine_make_pair,
    solution=solve_make_pair,
    hints=(
        "First cut: while A and B together are longer than `length - 3`, take the last token off "
        "the longer one. Work on copies: `a = list(a)`.",
        "Segments: one 0 for [CLS], for each token of A and for its [SEP]; one 1 for each token of "
        "B and for its [SEP]; zeros for the padding.",
    ),
)

word_loss = Exercise(
    number="8.3",
    title="the loss of the hidden words",
    examine=examine_word_loss,
    solution=solve_word_loss,
    hints=(
        "`F.cross_entropy` wants (N, V) and (N,): flatten the first two axes. Its `ignore_index` "
        "leaves labels out.",
        "Its mean of nothing is NaN. Take `reduction='sum'` and divide by the number of labels "
        "yourself, by at least 1.",
    ),
)

sentence_vector = Exercise(
    number="8.4",
    title="a vector for a sentence",
    examine=examine_sentence_vector,
    solution=solve_sentence_vector,
    hints=(
        "Multiply by `real` as numbers, with a third axis: (B, T, 1). Then padding adds nothing to "
        "the sum over axis 1.",
        "Divide by the number of real tokens of each row, then by the norm of each row: "
        "`norm(dim=1, keepdim=True)`.",
    ),
)

by_chance = Exercise(
    number="8.5",
    title="better, or luckier?",
    examine=examine_by_chance,
    solution=solve_by_chance,
    hints=(
        "There are 2 to the n rows of n tosses, all equally likely; `math.comb(n, k)` of them have "
        "exactly k heads.",
        "Add the rows with at most `min(wins, losses)` heads, double the sum for the other side, "
        "divide by 2 to the n, and never give more than 1.",
    ),
)

EXERCISES = (counts, make_pair, word_loss, sentence_vector, by_chance)

why_mask = Quiz(
    "BERT reads in both directions. Why must it hide words in order to learn, where chapter 07's "
    "decoder needed none hidden?",
    (
        Choice(
            "Because hidden words make the text shorter, and training faster",
            "The text keeps its length: a hidden word still takes a place.",
        ),
        Choice(
            "Because each place sees every word: asked for a word that stands there, it would copy",
            "A causal mask hides the future from the decoder. BERT sees all, so the answer itself "
            "has to be taken away.",
            correct=True,
        ),
        Choice(
            "Because the head for neighbours needs them",
            "That head reads [CLS], and needs no hidden words: it is asked which passages follow "
            "each other.",
        ),
    ),
)

why_unchanged = Quiz(
    "Some chosen words are left as they are, and the network must still say them. What for?",
    (
        Choice(
            "So that it never can be sure that the word it sees is the right one",
            "Then it must work out each place from the others, also where a word is visible; and "
            "after pretraining it meets texts without any [MASK].",
            correct=True,
        ),
        Choice(
            "They are not asked for: their label is -1",
            "All chosen words have a label. Look at the record: the unchanged ones are framed, "
            "too.",
        ),
        Choice(
            "To make the task easier",
            "It gives some points away, but that is not why: replaced words take points, and have "
            "to be noticed first.",
        ),
    ),
)

pieces_quiz = Quiz(
    "A piece vocabulary of 8,000 meets a word that was never seen in training. What happens?",
    (
        Choice(
            "It becomes [UNK]",
            "Only if it holds a character that was never seen. Else there is always a way to cut "
            "it: down to single letters, if need be.",
        ),
        Choice(
            "It is cut into known pieces, and the network reads several tokens",
            "The rarer the word, the more pieces. What they mean together, the encoder must find "
            "out.",
            correct=True,
        ),
        Choice(
            "A new piece is added, with a random vector",
            "The vocabulary is fixed before pretraining: each id is a row in a matrix.",
        ),
    ),
)

copy_quiz = Quiz(
    "A report says: “of the chosen words, 80 % masked, 10 % replaced, 10 % unchanged, our model "
    "finds a third.” Which simple rival must it beat?",
    (
        Choice(
            "One that guesses any word with equal probability",
            "That is a rival nobody loses against.",
        ),
        Choice(
            "One that says the most frequent word everywhere",
            "Better. But there is a rival that gets points here without knowing anything of words.",
        ),
        Choice(
            "One that copies the word it sees, and counts neighbours where it sees [MASK]",
            "A copy is right for every unchanged word: a tenth of the points, for nothing. A fair "
            "test masks all chosen words.",
            correct=True,
        ),
    ),
)

paired_quiz = Quiz(
    "Two classifiers are tested on the same sentences, and their 95 % intervals overlap. May one "
    "conclude that neither is better?",
    (
        Choice(
            "Yes: where intervals overlap, there is no difference",
            "They would be too strict a rule even for two different tests; and here the sentences "
            "are the same, which a paired test can use.",
        ),
        Choice(
            "No: count the sentences that only one of them gets right",
            "Those that both get right, or both wrong, say nothing. If of the rest far more than "
            "half go to one side, it is no luck.",
            correct=True,
        ),
        Choice(
            "No: the one with the higher accuracy is better",
            "On these sentences, yes. On others it might be the other way round.",
        ),
    ),
)

QUIZZES = (why_mask, why_unchanged, pieces_quiz, copy_quiz, paired_quiz)
