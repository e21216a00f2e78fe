"""Exercises and quizzes of chapter 07."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.teaching.exercises.exercise import Exercise, Rejected, expect_tensor
from course_lib.teaching.quiz import Choice, Quiz

PAIRS = [([7, 8, 9], [5, 6]), ([4], [9, 9, 8, 7])]


def examine_make_batch(make_batch) -> None:
    value = make_batch([(list(source), list(target)) for source, target in PAIRS])
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise Rejected("Three tensors should come back: source, given, wanted.")
    source, given, wanted = value
    expect_tensor(source, (2, 3), "the source")
    if source.dtype != torch.int64:
        raise Rejected(f"Ids are int64; your source is {source.dtype}.")
    if source.tolist() == [[7, 8, 9], [0, 0, 4]]:
        raise Rejected("The padding stands before the words; it belongs behind them.")
    if source.tolist() != [[7, 8, 9], [4, 0, 0]]:
        raise Rejected(f"The source should hold the ids with zeros behind; yours: {source}.")
    for name, tensor in (("what is given", given), ("what is wanted", wanted)):
        if isinstance(tensor, Tensor) and tensor.shape == (2, 6):
            raise Rejected(
                f"{name} has a place too many: it holds start or end, and not both of them."
            )
        if isinstance(tensor, Tensor) and tensor.shape == (2, 4):
            raise Rejected(f"{name} has a place too few: it needs one special token beside words.")
        expect_tensor(tensor, (2, 5), name)
    right_given, right_wanted = (
        [[1, 5, 6, 0, 0], [1, 9, 9, 8, 7]],
        [[5, 6, 2, 0, 0], [9, 9, 8, 7, 2]],
    )
    if given.tolist() == right_wanted and wanted.tolist() == right_given:
        raise Rejected("What is given and what is wanted are exchanged.")
    if given.tolist() == wanted.tolist():
        raise Rejected("Given and wanted are equal: the decoder could copy its answer.")
    if wanted.tolist() == [[5, 6, 0, 0, 2], [9, 9, 8, 7, 2]]:
        raise Rejected("The end stands behind the padding; it belongs behind the last word.")
    # Cut from whole rows, a shorter one still holds its end: nothing is asked at that place.
    if given.tolist() not in (right_given, [[1, 5, 6, 2, 0], [1, 9, 9, 8, 7]]):
        raise Rejected(f"Row 0 of what is given should be [1, 5, 6, 0, 0]; yours: {given[0]}.")
    if wanted.tolist() != right_wanted:
        raise Rejected(f"Row 0 of what is wanted should be [5, 6, 2, 0, 0]; yours: {wanted[0]}.")


def solve_make_batch(pairs):
    def pad(rows):
        longest = max(len(row) for row in rows)
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    sources, targets = zip(*pairs, strict=True)
    return pad(sources), pad([[1, *row] for row in targets]), pad([[*row, 2] for row in targets])


def examine_minimal_cell(minimal_cell) -> None:
    generator = torch.Generator().manual_seed(0)
    word, state = (torch.randn(size, generator=generator) for size in (3, 4))
    W, U = (torch.randn(8, size, generator=generator) for size in (3, 4))
    value = minimal_cell(word, state.clone(), W, U)
    expect_tensor(value, (4,), "the new state")
    g = torch.sigmoid(W[:4] @ word + U[:4] @ state)
    n = torch.tanh(W[4:] @ word + U[4:] @ (g * state))
    swapped_g = torch.sigmoid(W[4:] @ word + U[4:] @ state)
    swapped_n = torch.tanh(W[:4] @ word + U[:4] @ (swapped_g * state))
    ungated = torch.tanh(W[4:] @ word + U[4:] @ state)
    late = torch.tanh(W[4:] @ word + g * (U[4:] @ state))
    mistakes = {
        "The gate mixes the wrong way round: open, it should let the new in.": g * state
        + (1 - g) * n,
        "The candidate sees the whole state; the gate belongs before it.": (1 - g) * state
        + g * ungated,
        "The gate multiplies U h; here it multiplies h, before U does.": (1 - g) * state + g * late,
        "This is the candidate alone: nothing of the old state is passed on.": n,
        "Old and new are both added in full.": state + n,
        "W and U are read the wrong way round: the gate's rows come first.": (
            (1 - swapped_g) * state + swapped_g * swapped_n
        ),
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value, wrong, atol=1e-5):
            raise Rejected(reason)
    right = (1 - g) * state + g * n
    if not torch.allclose(value, right, atol=1e-5):
        raise Rejected(
            f"The first number should be {right[0].item():.4f}; yours is {value[0].item():.4f}. "
            "Sigmoid for the gate, tanh for the candidate?"
        )


def solve_minimal_cell(word, state, W, U):
    W_g, W_n = W.chunk(2)
    U_g, U_n = U.chunk(2)
    g = torch.sigmoid(W_g @ word + U_g @ state)
    n = torch.tanh(W_n @ word + U_n @ (g * state))
    return (1 - g) * state + g * n


def _counting_step(state, token):
    """Logits that prefer state + 3, if the last word is the right one, and from state 3 on END."""
    logits = torch.zeros(10)
    is_right = state == 0 or token == state + 2
    logits[2 if state >= 3 else state + 3 if is_right else 9] = 1.0
    return logits, state + 1


def _endless_step(state, token):
    return F.one_hot(torch.tensor(4), 10).float(), state + 1


def examine_greedy_ids(greedy_ids) -> None:
    tokens = []

    def step(state, token):
        tokens.append(int(token))
        return _counting_step(state, token)

    value = greedy_ids(step, 0, 10)
    if isinstance(value, Tensor):
        value = value.tolist()
    if not isinstance(value, list):
        raise Rejected(f"A list of ids is asked for, but a {type(value).__name__} came back.")
    value = [int(number) for number in value]
    if tokens[:1] != [1]:
        raise Rejected(
            f"The first id that goes into `step` should be 1, the start, not {tokens[0]}."
        )
    if 2 in value:
        raise Rejected("The end, id 2, belongs to no translation: stop before you keep it.")
    if value[:1] == [1]:
        raise Rejected("The list begins with the start, id 1, which was not written.")
    if len(tokens) > 1 and tokens[1] == 1:
        raise Rejected("The start goes in again and again; give each word that was written.")
    if len(set(value)) == 1 and len(value) > 1:
        raise Rejected("The same word again and again: is the new state passed on?")
    if value != [3, 4, 5]:
        raise Rejected(f"Of this model [3, 4, 5] should come; yours: {value}.")
    if len(tokens) > 4:
        raise Rejected("The words are right, but `step` is called after the end was written.")
    short = [int(number) for number in greedy_ids(_endless_step, 0, 3)]
    if len(short) != 3:
        raise Rejected(f"A model that never ends, and longest 3: {len(short)} words, not 3.")


def solve_greedy_ids(step, state, longest):
    ids, token = [], 1
    for _ in range(longest):
        logits, state = step(state, token)
        token = int(logits.argmax())
        if token == 2:
            break
        ids.append(token)
    return ids


def examine_extend_beams(extend_beams) -> None:
    scores = torch.tensor([-1.0, -1.5, -4.0])
    shares = torch.tensor([[0.5, 0.2, 0.1, 0.2], [0.04, 0.03, 0.9, 0.03], [0.25, 0.3, 0.25, 0.2]])
    value = extend_beams(scores.clone(), shares.log())
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise Rejected("Three tensors should come back: scores, beginnings, words.")
    best, rows, words = value
    total = scores[:, None] + shares.log()
    for name, tensor in (("the scores", best), ("the beginnings", rows), ("the words", words)):
        expect_tensor(tensor, (3,), name)
    if rows.is_floating_point():
        raise Rejected("Which beginning is a whole number; `/` makes fractions, `//` does not.")
    if torch.allclose(best, total.max(dim=1).values.sort(descending=True).values):
        raise Rejected(
            "You keep the best of each beginning. A bad beginning should lose its place."
        )
    right, index = total.flatten().topk(3)
    if torch.allclose(best, shares.log().flatten().topk(3).values):
        raise Rejected("Only the last word counts here: add the scores of the beginnings.")
    if torch.allclose(best, (scores[:, None] * shares.log()).flatten().topk(3).values):
        raise Rejected("Logarithms of probabilities are added, not multiplied.")
    if torch.allclose(best.flip(0), right):
        raise Rejected("The best should come first.")
    if not torch.allclose(best, right):
        raise Rejected(f"The best score should be {right[0].item():.4f}; yours: {best}.")
    if rows.tolist() == words.tolist() or rows.tolist() == index.tolist():
        raise Rejected("From a place in the flattened scores both can be told: row and column.")
    if rows.tolist() == (index % 4).tolist():
        raise Rejected("Beginnings and words are exchanged.")
    if rows.tolist() != (index // 4).tolist() or words.tolist() != (index % 4).tolist():
        raise Rejected("The scores are right; divide their places by V, the number of words.")


def solve_extend_beams(scores, log_probabilities):
    total = scores[:, None] + log_probabilities  # (K, 1) + (K, V)
    best, index = total.flatten().topk(len(scores))
    size = log_probabilities.shape[1]
    return best, index // size, index % size


make_batch = Exercise(
    number="7.1",
    title="a batch by hand",
    examine=examine_make_batch,
    solution=solve_make_batch,
    hints=(
        "For the target [5, 6] the decoder is given [1, 5, 6] and should answer [5, 6, 2]. Then "
        "all rows are filled up with 0.",
        "Write a small function that pads a list of lists, and call it three times: for the "
        "sources, for `[1, *target]` and for `[*target, 2]`.",
    ),
)

minimal_cell = Exercise(
    number="7.2",
    title="a cell with one gate",
    examine=examine_minimal_cell,
    solution=solve_minimal_cell,
    hints=(
        "Cut W and U into halves with `chunk(2)`; then follow the three formulas from left to "
        "right.",
        "The gate is `torch.sigmoid(W_g @ word + U_g @ state)`. It serves twice: on the state "
        "before `U_n` sees it, and to mix old and new.",
    ),
)

greedy_ids = Exercise(
    number="7.3",
    title="greedy decoding",
    examine=examine_greedy_ids,
    solution=solve_greedy_ids,
    hints=(
        "A loop of at most `longest` steps. Two things go from step to step: the state, and the "
        "last word.",
        "`logits.argmax()` is the next word. If it is 2, leave the loop before you append it.",
    ),
)

extend_beams = Exercise(
    number="7.4",
    title="a step of beam search",
    examine=examine_extend_beams,
    solution=solve_extend_beams,
    hints=(
        "Add to each row of `log_probabilities` the score of its beginning: give `scores` a "
        "second axis.",
        "`flatten().topk(K)` gives the best and their places. A place p in a flattened (K, V) "
        "table lies in row `p // V`, column `p % V`.",
    ),
)

EXERCISES = (make_batch, minimal_cell, greedy_ids, extend_beams)

teacher = Quiz(
    "Under teacher forcing the decoder writes a wrong third word. What is its fourth input?",
    (
        Choice(
            "The wrong third word",
            "That is so when it translates. In training the inputs are known beforehand: the words "
            "of the reference, whatever was written.",
        ),
        Choice(
            "The right third word",
            "That is why all steps can be computed at once, and why training is steady. The price: "
            "it never sees its own mistakes, and has to live with them later.",
            correct=True,
        ),
        Choice(
            "Padding, since the sentence is spoiled",
            "Nothing is spoiled: the third place adds its loss, the fourth begins from the right "
            "word.",
        ),
    ),
)

why_attention = Quiz(
    "What does attention between two sentences save the encoder from?",
    (
        Choice(
            "Reading the sentence word by word",
            "A recurrent encoder still reads so. Attention changes what the decoder gets.",
        ),
        Choice(
            "Packing the whole sentence into one vector of fixed size",
            "The decoder can look up the state behind any word, at every step of its own.",
            correct=True,
        ),
        Choice(
            "Learning where each word is translated to",
            "That is learned, by the very same loss; nobody gives the alignment.",
        ),
    ),
)

beam_quiz = Quiz(
    "With a wider beam the log-probabilities of the translations rise, and BLEU falls. How can "
    "that be?",
    (
        Choice(
            "The search has a bug: a likelier sentence is a better one",
            "Likelier for the network, which is no perfect judge. Without a length rule it favours "
            "sentences that are too short.",
        ),
        Choice(
            "The network's likeliest sentences are not its best ones; often they are too short",
            "Every word costs probability, so short sentences win. A length rule corrects for "
            "that, as far as length is the cause.",
            correct=True,
        ),
        Choice(
            "Wider beams round more",
            "The sums are the same float32 numbers for every width.",
        ),
    ),
)

bleu_quiz = Quiz(
    "A perfect translation in other words than the reference's gets a BLEU near 0. What follows?",
    (
        Choice(
            "BLEU is useless",
            "Over a thousand lines all systems meet such cases alike, so it can still tell in most "
            "cases which of two systems is better.",
        ),
        Choice(
            "BLEU of one sentence says little; over many, on the same test, it compares systems",
            "So give the test set and an interval, and read some lines yourself.",
            correct=True,
        ),
        Choice(
            "The translation was not perfect, after all",
            "There are many right translations of a sentence, and the reference is one of them.",
        ),
    ),
)

muon_quiz = Quiz(
    "What does Muon change in the gradient of a weight matrix?",
    (
        Choice(
            "Its length: every step is equally long",
            "That alone would leave the few large directions in charge, as before.",
        ),
        Choice(
            "Its singular values: they become nearly equal, its directions stay",
            "So directions in which the gradient is small are learned as fast as the others.",
            correct=True,
        ),
        Choice(
            "Each number by itself: small ones become larger",
            "That is what Adam does, number by number. Muon takes the matrix as a whole.",
        ),
    ),
)

QUIZZES = (teacher, why_attention, beam_quiz, bleu_quiz, muon_quiz)
