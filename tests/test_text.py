"""Text to ids and back: splitting, joining, vocabularies, padding, batches of like length."""

import pytest
import torch

from course_lib import data, text
from course_lib.text import END, PAD, START, UNKNOWN

SPLITS = {
    "quatre-vingt-dix-sept": ["quatre", "-vingt", "-dix", "-sept"],
    "vingt et un": ["vingt", "et", "un"],
    "j'ai vu l'eau.": ["j'", "ai", "vu", "l'", "eau", "."],
    "qu'est-ce que c'est ?": ["qu'", "est", "-ce", "que", "c'", "est", "?"],
    "va-t'en, y a-t-il": ["va", "-t'", "en", ",", "y", "a", "-t", "-il"],
    "aujourd'hui quelqu'un": ["aujourd'hui", "quelqu'un"],
    "I'm sure they don't.": ["I", "'m", "sure", "they", "do", "n't", "."],
    "can't we? it's li'sar's": ["ca", "n't", "we", "?", "it", "'s", "li'sar", "'s"],
    "QU'IL DON'T": ["QU'", "IL", "DO", "N'T"],
    "1.16, 1,000 (gold)!!": ["1.16", ",", "1,000", "(", "gold", ")", "!!"],
    "— oui -- non": ["—", "oui", "--", "non"],
    "": [],
}


@pytest.mark.parametrize("sentence", SPLITS)
def test_words_punctuation_and_what_is_glued(sentence):
    assert text.split_words(sentence) == SPLITS[sentence]


def test_the_same_word_has_one_spelling():
    assert text.normalise("L\u2019E\u0301te\u0301\u00a0!") == "l'été !"
    assert text.normalise(" \u201cA\u201d\u202f\tb\n", lower=False) == '"A" b'
    assert text.normalise("Wait...") == "wait…"


JOINED = {
    "english": [
        "it's (not) so: don't, \"really\" don't!",
        "one hundred and twenty-one?",
        "wow… ok",
    ],
    "french": [
        "qu'est-ce que « l'eau » ? non !",
        'a-t-il "dit" : aujourd\'hui ?!',
        "quatre-vingts",
    ],
}


@pytest.mark.parametrize("language", JOINED)
def test_joining_undoes_splitting(language):
    for sentence in JOINED[language]:
        assert text.join_words(text.split_words(sentence), language) == sentence


def test_french_puts_blanks_where_english_has_none():
    tokens = text.split_words("oui! « a »")
    assert text.join_words(tokens, "french") == "oui ! « a »"
    assert text.join_words(tokens) == "oui! «a»"


@pytest.mark.parametrize("language", text.LANGUAGES)
def test_real_lines_lose_no_letter_and_most_come_back_as_they_were(language):
    lines = [text.normalise(line) for line in getattr(data.load("english_french"), language)]
    same = 0
    for line in lines:
        tokens = text.split_words(line)
        assert "".join(tokens) == line.replace(" ", "")
        same += text.join_words(tokens, language) == line
    assert same / len(lines) > 0.97


# --- vocabulary --------------------------------------------------------------------------------

SENTENCES = [["b", "a", "b"], ["c", "a"], ["b", "d"]]


def test_special_tokens_come_first_then_frequency_then_alphabet():
    words = text.Vocabulary.build(SENTENCES)
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    assert words.tokens == ("<pad>", "<start>", "<end>", "<unknown>", "b", "a", "c", "d")
    assert len(words) == 8


def test_rare_tokens_can_be_left_out():
    assert text.Vocabulary.build(SENTENCES, min_count=2).tokens[4:] == ("b", "a")
    assert text.Vocabulary.build(SENTENCES, max_size=7).tokens[4:] == ("b", "a", "c")


def test_a_special_token_in_the_text_is_not_entered_twice():
    assert text.Vocabulary.build([["<end>", "a"]]).tokens[4:] == ("a",)


def test_ids_and_back():
    words = text.Vocabulary(["z", "y"])
    assert words.encode(["y", "q", "z"]) == [5, UNKNOWN, 4]
    assert words.decode([START, 5, UNKNOWN, PAD, END, 4]) == ["y", "<unknown>"]
    assert words.decode(torch.tensor([4, 5, PAD])) == ["z", "y"]


# --- padding and batches -----------------------------------------------------------------------


def test_padding_stands_behind():
    padded = text.pad([[4, 5], [], [6]])
    assert padded.dtype is torch.int64
    assert padded.tolist() == [[4, 5], [PAD, PAD], [6, PAD]]
    assert text.pad([[4]], length=3).tolist() == [[4, PAD, PAD]]
    assert text.pad([[]]).tolist() == [[PAD]]


def test_buckets_hold_every_item_once_and_like_lengths():
    lengths = torch.randint(1, 30, (205,), generator=torch.Generator().manual_seed(0))
    buckets = text.length_buckets(lengths, 20, torch.Generator().manual_seed(1))
    assert sorted(torch.cat(buckets).tolist()) == list(range(205))
    assert sorted(map(len, buckets)) == [5] + 10 * [20]
    ranges = sorted((lengths[b].min().item(), lengths[b].max().item()) for b in buckets)
    assert all(high <= low for (_, high), (low, _) in zip(ranges, ranges[1:], strict=False))
    firsts = [lengths[b].min().item() for b in buckets]
    assert firsts != sorted(firsts)  # batches in random order
    again = text.length_buckets(lengths, 20, torch.Generator().manual_seed(2))
    assert {tuple(sorted(b.tolist())) for b in buckets} != {
        tuple(sorted(b.tolist())) for b in again
    }


def sentences(count=50):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (count, 2), generator=generator).tolist()
    source = text.pad([[4 + i] * n for i, (n, _) in enumerate(lengths)])
    target = text.pad([[4 + i] * n for i, (_, n) in enumerate(lengths)], length=12)
    return source, target


def test_batches_are_cut_to_their_longest_sentence_and_lose_no_word():
    source, target = sentences()
    batches = text.SentenceBatches(source, target, batch_size=8)
    assert len(list(batches)) == len(batches) == 7
    seen = []
    for x, y in batches:
        assert (x != PAD).any(0).all() and (y != PAD).any(0).all()  # no column of padding alone
        assert x[:, 0].equal(y[:, 0])  # pairs stay together
        seen += [tuple(row[row != PAD].tolist()) for row in y]
    assert sorted(seen) == sorted(tuple(row[row != PAD].tolist()) for row in target)


def test_batches_follow_from_seed_and_epoch_and_can_start_in_the_middle():
    batches = text.SentenceBatches(*sentences(), batch_size=8, seed=3)
    first, again = list(batches.epoch(2)), list(batches.to(torch.device("cpu")).epoch(2, 4))
    assert len(again) == 3
    assert all(a.equal(b) for one, two in zip(first[4:], again, strict=True)
               for a, b in zip(one, two, strict=True))  # fmt: skip
    other = list(batches.epoch(3))
    assert any(a[0].shape != b[0].shape or not a[0].equal(b[0])
               for a, b in zip(first, other, strict=True))  # fmt: skip


def test_little_padding_is_left():
    source, _ = sentences(400)
    padding = sum((x == PAD).sum().item() for (x,) in text.SentenceBatches(source, batch_size=10))
    assert padding < 0.1 * (source == PAD).sum().item()


REFUSALS = {
    "language is 'german'; allowed are english, french": lambda: text.join_words(["a"], "german"),
    "tokens is empty": lambda: text.Vocabulary([]),
    "tokens hold 'a' twice": lambda: text.Vocabulary(["a", "b", "a"]),
    "max_size is 4; allowed are numbers above 4": lambda: text.Vocabulary.build([["a"]], 1, 4),
    "id_lists is empty": lambda: text.pad([]),
    "length is 1; the longest of id_lists has 2 ids": lambda: text.pad([[4], [4, 5]], 1),
    "lengths is empty": lambda: text.length_buckets(torch.tensor([]), 3),
    "batch_size is 0": lambda: text.length_buckets(torch.tensor([1]), 0),
    r"tensors have lengths \[2, 1\]": lambda: text.SentenceBatches(
        text.pad([[4], [5]]), text.pad([[4]]), batch_size=1
    ),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_nonsense_is_refused(said):
    with pytest.raises(ValueError, match=said):
        REFUSALS[said]()
