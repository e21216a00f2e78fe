"""Plausible wrong answers to the exercises of chapter 09."""

from collections import Counter

import torch


def pieces(ids, starts, length):
    return torch.stack([ids[start : start + length] for start in starts])


def exchanged(ids, starts, length):
    return pieces(ids, [start + 1 for start in starts], length), pieces(ids, starts, length)


def copied(ids, starts, length):
    return pieces(ids, starts, length), pieces(ids, starts, length)


def inputs_only(ids, starts, length):
    return pieces(ids, starts, length)


def too_long(ids, starts, length):
    return pieces(ids, starts, length + 1), pieces(ids, starts, length + 1)


def cut_short(ids, starts, length):
    windows = pieces(ids, starts, length)
    return windows[:, :-1], windows[:, 1:]


def rolled(ids, starts, length):
    windows = pieces(ids, starts, length)
    return windows, windows.roll(-1, 1)


def side_by_side(ids, starts, length):
    starts = [length * number for number in range(len(starts))]
    return pieces(ids.repeat(2), starts, length), pieces(ids.repeat(2), starts, length)


def whole(prompt, answer):
    labels = [-1] * (len(prompt) - 1) + answer
    return prompt + answer, [*labels, -1]


def prompt_too(prompt, answer):
    text = prompt + answer
    return text[:-1], text[1:]


def late(prompt, answer):
    return prompt + answer[:-1], [-1] * len(prompt) + answer[:-1]


def all_marked(prompt, answer):
    return prompt + answer[:-1], [-1] * len(prompt) + answer[1:]


def zeros(prompt, answer):
    return prompt + answer[:-1], [0] * (len(prompt) - 1) + answer


def unequal(prompt, answer):
    return prompt + answer[:-1], [-1] * len(prompt) + answer


def no_answer(prompt, answer):
    return prompt + [-1] * (len(answer) - 1), [-1] * (len(prompt) - 1) + answer


def at_least_one(prompt, answer):
    marked = max(len(prompt) - 1, 1)
    return prompt + answer[:-1], ([-1] * marked + answer)[: len(prompt) + len(answer) - 1]


def minus_hundred(prompt, answer):
    return prompt + answer[:-1], [-100] * (len(prompt) - 1) + answer


def no_numbers(prompt, answer):
    return prompt + answer[:-1], [None] * (len(prompt) - 1) + answer


def chosen(next_logits, ids):
    return int(next_logits(ids).argmax())


def new_only(next_logits, prompt, count, context):
    ids = list(prompt)
    for _ in range(count):
        ids.append(chosen(next_logits, ids[-context:]))
    return ids[len(prompt) :]


def changes_prompt(next_logits, prompt, count, context):
    for _ in range(count):
        prompt.append(chosen(next_logits, prompt[-context:]))
    return prompt


def last_only(next_logits, prompt, count, context):
    ids = list(prompt)
    for _ in range(count):
        ids.append(chosen(next_logits, ids[-1:]))
    return ids


def never_appends(next_logits, prompt, count, context):
    return list(prompt) + [chosen(next_logits, prompt) for _ in range(count)]


def one_short(next_logits, prompt, count, context):
    ids = list(prompt)
    while len(ids) < count + 1:
        ids.append(chosen(next_logits, ids[-context:]))
    return ids


def without_context(next_logits, prompt, count, context):
    ids = list(prompt)
    for _ in range(count):
        ids.append(chosen(next_logits, ids))
    return ids


def oldest(next_logits, prompt, count, context):
    ids = list(prompt)
    for _ in range(count):
        ids.append(chosen(next_logits, ids[:context]))
    return ids


def forgets(next_logits, prompt, count, context):
    ids = list(prompt)
    for _ in range(count):
        ids = [*ids[-context:], chosen(next_logits, ids[-context:])]
    return ids


def too_little(next_logits, prompt, count, context):
    return without_context(lambda ids: next_logits(ids[1 - context :]), prompt, count, context)


def unlikeliest(next_logits, prompt, count, context):
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(next_logits(ids[-context:]).argmin()))
    return ids


def as_text(next_logits, prompt, count, context):
    return "".join(map(str, without_context(next_logits, prompt, count, context)))


def struck(chances, keep):
    kept = chances * keep
    return kept / kept.sum()


def before(chances):
    ordered, places = chances.sort(descending=True)
    return (ordered.cumsum(0) - ordered)[places.argsort()]


def untouched(chances, top_p):
    return chances


def not_scaled(chances, top_p):
    return chances * (before(chances) < top_p)


def too_few(chances, top_p):
    return struck(chances, before(chances) + chances <= top_p)


def too_many(chances, top_p):
    return struck(chances, before(chances) < top_p + 0.2)


def first_ones(chances, top_p):
    return struck(chances, chances.cumsum(0) < top_p)


def threshold(chances, top_p):
    return chances.clamp(min=top_p)


def by_softmax(chances, top_p):
    return chances.masked_fill(before(chances) >= top_p, -torch.inf).softmax(0)


def two_likeliest(chances, top_p):
    return struck(chances, chances >= chances.topk(2).values[-1])


def in_order(chances, top_p):
    ordered = chances.sort(descending=True).values
    return struck(ordered, ordered.cumsum(0) - ordered < top_p)


def cut_off(chances, top_p):
    return in_order(chances, top_p)[:3]


def places_only(chances, top_p):
    return chances.sort(descending=True).indices


def all_struck(chances, top_p):
    return struck(chances, chances > 1)


def counted(words):
    pairs = Counter()
    for word, count in words.items():
        for two in zip(word, word[1:], strict=False):
            pairs[two] += count
    return pairs


def merged(words, pair, once=False):
    found = {}
    for word, count in words.items():
        symbols, place, done = [], 0, False
        while place < len(word):
            joins = word[place : place + 2] == pair and not done
            symbols.append("".join(pair) if joins else word[place])
            place += 2 if joins else 1
            done = done or (joins and once)
        found[tuple(symbols)] = count
    return found


def pair_only(words):
    return counted(words).most_common(1)[0][0]


def glued(words):
    pair = counted(words).most_common(1)[0][0]
    return "".join(pair), merged(words, pair)


def unweighted(words):
    pair = counted({word: 1 for word in words}).most_common(1)[0][0]
    return pair, merged(words, pair)


def rarest(words):
    pair = counted(words).most_common()[-1][0]
    return pair, merged(words, pair)


def not_joined(words):
    return counted(words).most_common(1)[0][0], dict(words)


def strings(words):
    pair = counted(words).most_common(1)[0][0]
    return pair, {" ".join(word): count for word, count in merged(words, pair).items()}


def in_place(words):
    pair = counted(words).most_common(1)[0][0]
    new = merged(words, pair)
    words.clear()
    words.update(new)
    return pair, words


def only_changed(words):
    pair = counted(words).most_common(1)[0][0]
    return pair, {w: n for w, n in merged(words, pair).items() if "".join(pair) in w}


def counts_lost(words):
    pair = counted(words).most_common(1)[0][0]
    return pair, dict.fromkeys(merged(words, pair), 1)


def once_a_word(words):
    pair = counted(words).most_common(1)[0][0]
    return pair, merged(words, pair, once=True)


WRONG = {
    "9.1": [
        (exchanged, "are exchanged"),
        (copied, "only to copy"),
        (inputs_only, "Two tensors"),
        (too_long, "should have shape"),
        (cut_short, "should have shape"),
        (rolled, "from behind the window"),
        (side_by_side, "The window from place 2"),
    ],
    "9.2": [
        (whole, "leave it out"),
        (prompt_too, "mark those places"),
        (late, "A place too late"),
        (all_marked, "has work to do"),
        (zeros, "0 is an id like any other"),
        (minus_hundred, "here it is -1"),
        (no_numbers, "a list of whole numbers"),
        (unequal, "must be of one length"),
        (no_answer, "The input should be the prompt"),
        (at_least_one, "A prompt of one symbol"),
    ],
    "9.3": [
        (new_only, "should stand before them"),
        (changes_prompt, "has changed"),
        (last_only, "Only the last id"),
        (never_appends, "append what was chosen"),
        (one_short, "there should be 6 ids"),
        (without_context, "more than three ids at once"),
        (oldest, "show the newest"),
        (forgets, "not what is kept"),
        (too_little, "shown fewer"),
        (unlikeliest, "should come; yours"),
        (as_text, "A list of ids"),
    ],
    "9.4": [
        (untouched, "Nothing was struck out"),
        (not_scaled, "bring their sum back"),
        (too_few, "One is missing"),
        (too_many, "One too many"),
        (first_ones, "The first in the list"),
        (threshold, "Probabilities sum to 1"),
        (by_softmax, "0.4 should become"),
        (two_likeliest, "twelve symbols"),
        (in_order, "in sorted order"),
        (cut_off, "should have shape"),
        (places_only, "no probabilities"),
        (all_struck, "no probabilities"),
    ],
    "9.5": [
        (pair_only, "a tuple of two symbols"),
        (glued, "a tuple of two symbols"),
        (unweighted, "as often as it occurs"),
        (rarest, "does not"),
        (not_joined, "should be one"),
        (strings, "tuples of symbols"),
        (in_place, "make a new dict"),
        (only_changed, "should stay"),
        (counts_lost, "counts should stay"),
        (once_a_word, "twice in a word"),
    ],
}
