"""Pieces of words, by examples that can be checked by hand."""

import pytest

from course_lib import subwords
from course_lib.subwords import BPE, SPECIAL, ByteBPE, WordPiece

COUNTS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}  # the example of Sennrich et al.


def test_pairs_are_counted_with_their_words_counts():
    pairs = subwords.count_pairs({("l", "o", "w"): 5, ("l", "o"): 2, ("x",): 9})
    assert pairs == {("l", "o"): 7, ("o", "w"): 5}


def test_pairs_are_merged_from_left_to_right():
    assert subwords.merge(tuple("aaab"), ("a", "a"), "aa") == ("aa", "a", "b")
    assert subwords.merge(tuple("aaaa"), ("a", "a"), "aa") == ("aa", "aa")
    assert subwords.merge(("b",), ("a", "a"), "aa") == ("b",)


def test_the_commonest_pairs_are_joined_first():
    bpe = subwords.train_bpe(COUNTS, 15)
    assert bpe.pieces[:10] == tuple("deilnorstw")
    # "es" and "st" occur nine times each: "e" is older than "s"; then "est" of "es" and "t".
    assert list(bpe.ranks)[:4] == [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")]
    assert bpe.split("lowest") == ["low", "est"]
    assert bpe.split("lonely") == ["lo", "n", "e", "l", "y"]


def test_training_ends_when_nothing_is_left_to_join():
    bpe = subwords.train_bpe({"ab": 1, "c": 4}, 100)
    assert bpe.pieces == ("a", "b", "c", "ab")


def test_merges_are_repeated_in_the_order_learned_and_not_by_length():
    bpe = BPE(["a", "b", "c", "bc", "ab"], [("b", "c"), ("a", "b")])
    assert bpe.split("abc") == ["a", "bc"]
    assert bpe.split("abab") == ["ab", "ab"]
    assert bpe.split("") == []


def test_wordpiece_marks_pieces_inside_words():
    pieces = subwords.train_wordpiece(COUNTS, 28)
    assert pieces[:5] == list(SPECIAL)
    assert pieces[5:15] == [f"##{letter}" for letter in "deilnorstw"]
    assert pieces[25:] == ["##es", "##est", "##ow"]


def test_words_are_cut_into_the_longest_pieces_from_the_left():
    pieces = WordPiece([*SPECIAL, "un", "una", "##able", "##ble", "##a", "##ffa"])
    assert pieces.split("unaffable") == ["una", "##ffa", "##ble"]
    assert pieces.split("unable") == ["una", "##ble"]
    assert pieces.split("able") == ["[UNK]"]  # "##able" begins no word
    assert pieces.split("una" + "b") == ["[UNK]"]  # nothing fits: the whole word is unknown
    assert pieces.split("") == ["[UNK]"]


def test_words_of_more_than_a_hundred_characters_are_unknown():
    pieces = WordPiece([*SPECIAL, "a", "##a"])
    assert pieces.split("a" * 100) == ["a", *["##a"] * 99]
    assert pieces.split("a" * 101) == ["[UNK]"]


def test_texts_become_ids_and_words_again():
    pieces = WordPiece([*SPECIAL, "good", "##ness", "!", "[", "mask", "]"])
    ids = pieces.encode("Goodness! [MASK] good[SEP] [mask]")
    assert ids == [5, 6, 7, 4, 5, 3, 8, 9, 10]
    assert pieces.decode(ids) == "goodness ! [MASK] good [SEP] [ mask ]"
    assert pieces.encode_words(["good", "bad", "good"]) == [5, 1, 5]
    assert len(pieces) == 11


def test_berts_words():
    assert subwords.bert_words("Déjà-vu, isn't\tIT?") == [
        *["deja", "-", "vu", ",", "isn", "'", "t", "it", "?"]
    ]
    assert subwords.bert_words("中文$x½") == ["中", "文", "$", "x½"]
    assert subwords.bert_words(" \n") == []


def test_gpt2_keeps_the_blank_before_a_word():
    words = [" 3", " o", "'", "clock", "."]
    assert subwords.gpt2_words("It's 3 o'clock.") == ["It", "'s", *words]
    assert subwords.gpt2_words("a   b\n\nc ") == ["a", "  ", " b", "\n", "\n", "c", " "]
    assert subwords.gpt2_words("x12!?y_") == ["x", "12", "!?", "y", "_"]


def test_any_text_survives_bytes():
    bytewise = ByteBPE(subwords.BYTE_LETTERS, [])
    text = "naïve 中文 \U0001f600\n\x00"
    ids = bytewise.encode(text)
    assert ids == list(text.encode()) and bytewise.decode(ids) == text
    assert bytewise.decode(ids[:3]) == "na\ufffd"
    assert subwords.as_bytes(" é") == "ĠÃ©"


def test_pieces_are_learned_alike_each_time():
    words = ["ab", "ba", "ab", "ba", "cd", "dc", "cd", "dc", "abcd", "dcba"]  # all are ties
    first = subwords.learn_pieces(words, 18)
    assert first == subwords.learn_pieces(reversed(words), 18)
    assert first[:5] == list(SPECIAL) and first[5] == "##a" and len(first) == 18


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: WordPiece(["[UNK]", "a", "a"]), "pieces"),
        (lambda: WordPiece(["a"]), "[UNK]"),
        (lambda: BPE(["a", "b"], [("a", "b")]), "ab"),
        (lambda: BPE(["a"], []).encode_words(["xa"]), "'x'"),
        (lambda: subwords.learn_pieces(["ab"], 8), "size is 8"),
    ],
)
def test_bad_arguments_are_named(wrong, words):
    with pytest.raises(ValueError) as error:
        wrong()
    assert words in str(error.value)
