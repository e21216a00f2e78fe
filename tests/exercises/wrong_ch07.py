"""Plausible wrong answers to the exercises of chapter 07."""

import torch


def pad(rows, value=0):
    longest = max(len(row) for row in rows)
    return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])


def batch(pairs):
    sources, targets = zip(*pairs, strict=True)
    return pad(sources), pad([[1, *row] for row in targets]), pad([[*row, 2] for row in targets])


def source_only(pairs):
    return batch(pairs)[0]


def padded_in_front(pairs):
    source, given, wanted = batch(pairs)
    return (
        torch.tensor([row[row == 0].tolist() + row[row != 0].tolist() for row in source]),
        given,
        wanted,
    )


def padded_with_end(pairs):
    _, given, wanted = batch(pairs)
    return pad([source for source, _ in pairs], 2), given, wanted


def floats(pairs):
    source, given, wanted = batch(pairs)
    return source.float(), given, wanted


def whole_rows(pairs):
    source, _, _ = batch(pairs)
    target = pad([[1, *row, 2] for _, row in pairs])
    return source, target, target


def bare_words(pairs):
    target = pad([row for _, row in pairs])
    return batch(pairs)[0], target, target


def exchanged(pairs):
    source, given, wanted = batch(pairs)
    return source, wanted, given


def not_shifted(pairs):
    source, given, _ = batch(pairs)
    return source, given, given


def late_end(pairs):
    source, given, wanted = batch(pairs)
    words = pad([row for _, row in pairs])
    return source, given, torch.cat([words, torch.full((2, 1), 2)], dim=1)


def start_is_end(pairs):
    source, given, wanted = batch(pairs)
    return source, torch.where(given == 1, 2, given), wanted


def no_end(pairs):
    source, given, wanted = batch(pairs)
    return source, given, torch.where(wanted == 2, 0, wanted)


def gate_and_new(word, state, W, U):
    g = torch.sigmoid(W[:4] @ word + U[:4] @ state)
    return g, torch.tanh(W[4:] @ word + U[4:] @ (g * state))


def mixed_wrongly(word, state, W, U):
    g, n = gate_and_new(word, state, W, U)
    return g * state + (1 - g) * n


def whole_state(word, state, W, U):
    g, _ = gate_and_new(word, state, W, U)
    return (1 - g) * state + g * torch.tanh(W[4:] @ word + U[4:] @ state)


def gate_behind(word, state, W, U):
    g, _ = gate_and_new(word, state, W, U)
    return (1 - g) * state + g * torch.tanh(W[4:] @ word + g * (U[4:] @ state))


def candidate_alone(word, state, W, U):
    return gate_and_new(word, state, W, U)[1]


def both_in_full(word, state, W, U):
    return state + gate_and_new(word, state, W, U)[1]


def halves_swapped(word, state, W, U):
    g, n = gate_and_new(word, state, W.roll(4, 0), U.roll(4, 0))
    return (1 - g) * state + g * n


def gate_by_tanh(word, state, W, U):
    g = torch.tanh(W[:4] @ word + U[:4] @ state)
    return (1 - g) * state + g * torch.tanh(W[4:] @ word + U[4:] @ (g * state))


def unchunked(word, state, W, U):
    return torch.tanh(W @ word + U @ state)


def decode(step, state, longest, *, first=1, keep=(), feed=True, hold=False, more=False):
    """Greedy decoding, with mistakes to choose from."""
    ids, token = [number for number in keep if number == 1], first
    ended = False
    for _ in range(longest):
        logits, new = step(state, token)
        state = state if hold else new
        word = int(logits.argmax())
        token = word if feed else token
        ended = ended or word == 2
        if ended and not more:
            break
        if not ended:
            ids.append(word)
    return ids + [number for number in keep if number == 2 and ended]


def keeps_end(step, state, longest):
    return decode(step, state, longest, keep=(2,))


def keeps_start(step, state, longest):
    return decode(step, state, longest, keep=(1,))


def starts_with_padding(step, state, longest):
    return decode(step, state, longest, first=0)


def feeds_the_start(step, state, longest):
    return decode(step, state, longest, feed=False)


def holds_the_state(step, state, longest):
    return decode(step, state, longest, hold=True)


def goes_on(step, state, longest):
    return decode(step, state, longest, more=True)


def too_long(step, state, longest):
    return decode(step, state, longest + 1)


def as_text(step, state, longest):
    return " ".join(map(str, decode(step, state, longest)))


def backwards(step, state, longest):
    return decode(step, state, longest)[::-1]


def from_total(total, size):
    best, index = total.flatten().topk(3)
    return best, index // size, index % size


def extended(scores, log_probabilities):
    return from_total(scores[:, None] + log_probabilities, log_probabilities.shape[1])


def one_for_each(scores, log_probabilities):
    best, words = (scores[:, None] + log_probabilities).max(1)
    order = best.argsort(descending=True)
    return best[order], order, words[order]


def last_word_only(scores, log_probabilities):
    return from_total(log_probabilities, 4)


def multiplied(scores, log_probabilities):
    return from_total(scores[:, None] * log_probabilities, 4)


def worst_first(scores, log_probabilities):
    return tuple(part.flip(0) for part in extended(scores, log_probabilities))


def rows_and_words_exchanged(scores, log_probabilities):
    best, rows, words = extended(scores, log_probabilities)
    return best, words, rows


def fractions(scores, log_probabilities):
    best, index = (scores[:, None] + log_probabilities).flatten().topk(3)
    return best, index / 4, index % 4


def places_only(scores, log_probabilities):
    best, index = (scores[:, None] + log_probabilities).flatten().topk(3)
    return best, index, index


def divided_by_beams(scores, log_probabilities):
    best, index = (scores[:, None] + log_probabilities).flatten().topk(3)
    return best, index // 3, index % 3


def scores_alone(scores, log_probabilities):
    return extended(scores, log_probabilities)[0]


def along_the_words(scores, log_probabilities):
    return from_total(torch.cat([scores, scores[:1]]) + log_probabilities, 4)


WRONG = {
    "7.1": [
        (source_only, "Three tensors"),
        (padded_in_front, "stands before the words"),
        (padded_with_end, "with zeros behind"),
        (floats, "Ids are int64"),
        (whole_rows, "a place too many"),
        (bare_words, "a place too few"),
        (exchanged, "are exchanged"),
        (not_shifted, "could copy its answer"),
        (late_end, "behind the padding"),
        (start_is_end, "Row 0 of what is given"),
        (no_end, "Row 0 of what is wanted"),
    ],
    "7.2": [
        (mixed_wrongly, "mixes the wrong way round"),
        (whole_state, "sees the whole state"),
        (gate_behind, "before U does"),
        (candidate_alone, "the candidate alone"),
        (both_in_full, "added in full"),
        (halves_swapped, "gate's rows come first"),
        (gate_by_tanh, "Sigmoid for the gate"),
        (unchunked, "should have shape (4,)"),
    ],
    "7.3": [
        (keeps_end, "belongs to no translation"),
        (keeps_start, "which was not written"),
        (starts_with_padding, "should be 1, the start"),
        (feeds_the_start, "again and again; give each"),
        (holds_the_state, "is the new state passed on"),
        (goes_on, "after the end was written"),
        (too_long, "never ends"),
        (as_text, "A list of ids"),
        (backwards, "should come; yours"),
    ],
    "7.4": [
        (one_for_each, "the best of each beginning"),
        (last_word_only, "Only the last word"),
        (multiplied, "are added, not multiplied"),
        (worst_first, "The best should come first"),
        (rows_and_words_exchanged, "are exchanged"),
        (fractions, "makes fractions"),
        (places_only, "row and column"),
        (divided_by_beams, "divide their places by V"),
        (scores_alone, "Three tensors"),
        (along_the_words, "The best score should be"),
    ],
}
