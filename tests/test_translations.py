"""Chapter 07's two tasks: what is in them, who may see what, and the way back to text."""

import random

import pytest
import torch
from num2words import num2words

from course_lib import data, translations
from course_lib.text import END, PAD, START, UNKNOWN, normalise

SMALL = {"train": 500, "validation": 50, "test": 60}
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def numbers():
    return translations.number_words(**SMALL)


@pytest.fixture(scope="module")
def dialogue():
    return translations.dialogue()


def pairs(part):
    return list(zip(part.english, part.french, strict=True))


def test_development_is_training_and_validation(dialogue):
    joint = dialogue.development
    assert pairs(joint) == pairs(dialogue.train) + pairs(dialogue.validation)
    for name in ("source", "target"):
        ids, parts = getattr(joint, name), (dialogue.train, dialogue.validation)
        words = [row[row != PAD].tolist() for part in parts for row in getattr(part, name)]
        assert [row[row != PAD].tolist() for row in ids] == words
    assert not set(joint.english) & set(dialogue.test.english)


# --- numbers -----------------------------------------------------------------------------------


def test_words_put_together_are_those_of_num2words():
    english, french = translations._spellers()
    draw = random.Random(0)
    special = [1000 * a + b for a in (1, 2, 21, 71, 80, 81, 100, 180, 200, 280, 300, 999)
               for b in (0, 1, 80, 99, 100, 101, 180, 200, 999)]  # fmt: skip
    for number in [*range(120), *special, *draw.sample(range(1_000_000), 500)]:
        assert english(number) == num2words(number)
        assert french(number) == num2words(number, lang="fr")


def test_each_part_has_its_own_numbers_and_the_small_ones_are_in_training(numbers):
    found = {name: set(numbers.numbers[name].tolist()) for name in PARTS}
    assert {name: len(values) for name, values in found.items()} == SMALL
    assert len(set.union(*found.values())) == sum(SMALL.values())
    assert set(range(100)) <= found["train"]
    assert max(map(max, found.values())) <= 999_999
    high = sum(number >= 100_000 for number in found["test"])
    assert high >= 0.75 * SMALL["test"]


def test_no_number_comes_twice_in_the_set_that_the_chapter_trains_on():
    numbers = torch.cat(list(translations.number_words().numbers.values()))
    assert len(numbers) == len(numbers.unique()) == 44_000


@pytest.mark.parametrize("name", PARTS)
def test_a_pair_is_its_number_in_both_languages(numbers, name):
    part = getattr(numbers, name)
    for number, pair in zip(numbers.numbers[name].tolist(), pairs(part), strict=True):
        assert pair == (num2words(number), num2words(number, lang="fr"))


def test_number_words_come_back_exactly(numbers):
    for part in (numbers.train, numbers.test):
        assert [numbers.text(row) for row in part.target] == list(part.french)
        assert not (part.source == UNKNOWN).any() and not (part.target == UNKNOWN).any()


def test_the_draw_follows_from_the_seed_and_is_kept(numbers):
    assert translations.number_words(**SMALL) is numbers
    other = translations.number_words(**SMALL, seed=1)
    assert not other.numbers["test"].equal(numbers.numbers["test"])


# --- dialogue ----------------------------------------------------------------------------------


def test_the_test_lines_are_those_of_the_data(dialogue):
    lines = data.load("english_french")
    chosen = lines.test.nonzero()[:, 0].tolist()
    expected = [(normalise(lines.english[i]), normalise(lines.french[i])) for i in chosen]
    assert pairs(dialogue.test) == expected
    rest = len(lines.english) - len(expected)
    assert len(dialogue.train) + len(dialogue.validation) == rest
    assert 1000 <= len(dialogue.validation) < 1050


def test_every_pair_is_in_one_part(dialogue):
    lines = data.load("english_french")
    expected = sorted(map(tuple, zip(map(normalise, lines.english), map(normalise, lines.french),
                                     strict=True)))  # fmt: skip
    assert sorted(sum((pairs(getattr(dialogue, name)) for name in PARTS), [])) == expected


def test_no_english_sentence_is_in_two_parts_not_even_with_other_punctuation(dialogue):
    letters = [
        {"".join(filter(str.isalnum, text)) for text in getattr(dialogue, name).english}
        for name in PARTS
    ]
    assert not letters[0] & letters[1] and not letters[0] & letters[2]
    assert not letters[1] & letters[2]


def test_vocabularies_know_the_training_part_alone(dialogue):
    def words(part, side):
        return {word for text in getattr(part, side) for word in translations.split_words(text)}

    for side, vocabulary in (("english", dialogue.english), ("french", dialogue.french)):
        assert set(vocabulary.tokens[4:]) <= words(dialogue.train, side)
    unknown = [(p.source == UNKNOWN).sum() / (p.source != PAD).sum()
               for p in (dialogue.train, dialogue.test)]  # fmt: skip
    assert 0 < unknown[0] < unknown[1] < 0.1
    assert translations.dialogue(validation=5, min_count=1).train.source.ne(UNKNOWN).all()


def test_validation_follows_from_the_seed(dialogue):
    assert translations.dialogue(seed=1).validation.english != dialogue.validation.english
    assert translations.dialogue(seed=1).test.english == dialogue.test.english


# --- both --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["numbers", "dialogue"])
@pytest.mark.parametrize("name", PARTS)
def test_ids_have_start_end_and_padding_where_they_belong(task, name, request):
    part = getattr(request.getfixturevalue(task), name)
    assert len(part) == len(part.source) == len(part.target) == len(part.french)
    assert part.source.dtype is part.target.dtype is torch.int64
    assert not ((part.source == START) | (part.source == END)).any()
    assert (part.source[:, 0] > END).all() and (part.target[:, 0] == START).all()
    assert (part.target == END).sum(1).eq(1).all()
    for ids in (part.source, part.target):
        real = ids != PAD
        assert (real[:, 1:] <= real[:, :-1]).all()  # no word behind padding
        assert real[:, -1].any()  # no wider than needed
    last = (part.target != PAD).sum(1, keepdim=True) - 1
    assert (part.target.gather(1, last) == END).all()


def test_sentences_as_a_reader_types_them(numbers, dialogue):
    typed = ["  Ninety\u2011nine ".replace("\u2011", "-"), "Seven", ""]
    assert numbers.english.decode(numbers.source(typed)[0]) == ["ninety", "-nine"]
    assert numbers.source(typed)[2].eq(PAD).all()
    assert dialogue.source(dialogue.test.english).equal(dialogue.test.source)


def test_references_are_text_that_the_model_could_write(dialogue):
    known = ~(dialogue.test.target == UNKNOWN).any(1)
    rows = known.nonzero()[:, 0].tolist()
    same = sum(dialogue.text(dialogue.test.target[i]) == dialogue.test.french[i] for i in rows)
    assert same / len(rows) > 0.95


REFUSALS = {
    "train is 99; allowed are 100 to": lambda: translations.number_words(train=99),
    "test is 0; allowed are 1 to": lambda: translations.number_words(test=0),
    "train is 1000000; allowed": lambda: translations.number_words(train=1_000_000),
    "validation is 0; allowed": lambda: translations.dialogue(validation=0),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_nonsense_is_refused(said):
    with pytest.raises(ValueError, match=said):
        REFUSALS[said]()
