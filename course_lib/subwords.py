"""Text as pieces of words: byte-pair encoding (BPE), WordPiece, and the bytes of GPT-2.

Written to be read; on the same text they give the library `tokenizers`' merges, pieces and ids.
Sources: Sennrich et al. 2016 (arXiv 1508.07909) for BPE; Schuster and Nakajima 2012 and Devlin et
al. 2019 (arXiv 1810.04805) for WordPiece; Radford et al. 2019 for BPE on bytes.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSIDE = "##"  # before a piece that does not begin a word
LONGEST_WORD = 100  # characters; BERT takes longer ones for noise, and so for unknown

_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")
_CJK = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F))
_CJK += ((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))


class _Spelling(dict):
    """For `str.translate`: what BERT makes of a character, found when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        if kind[0] == "Z" or character in "\t\n\r":
            self[code] = " "
        elif kind in ("Mn", "Cc", "Cf", "Co", "Cs") or code == 0xFFFD:
            self[code] = ""  # accents, once they stand alone, and what cannot be seen
        elif kind[0] == "P" or (kind[0] == "S" and code < 128) or _is_cjk(code):
            self[code] = f" {character} "
        else:
            self[code] = character
        return self[code]


_SPELLING = _Spelling()


def bert_words(text: str) -> list[str]:
    """Words as BERT (uncased) sees them: lower case, no accents, punctuation marks and Chinese
    characters one by one. "Déjà-vu!" -> "deja", "-", "vu", "!"."""
    if not text.isascii():
        text = unicodedata.normalize("NFD", text)  # é -> e and an accent
    return text.translate(_SPELLING).lower().split()


class WordPiece:
    """A vocabulary of pieces, and BERT's way of cutting words into them.

    Args:
        pieces: in the order of their ids. One that continues a word begins with "##".

    Raises:
        ValueError: a piece comes twice, or "[UNK]" is missing.
    """

    def __init__(self, pieces: Iterable[str]):
        self.pieces = tuple(pieces)
        self.ids = {piece: number for number, piece in enumerate(self.pieces)}
        if len(self.ids) < len(self.pieces):
            raise ValueError(f"pieces hold {len(self.pieces) - len(self.ids)} pieces twice")
        if "[UNK]" not in self.ids:
            raise ValueError("pieces hold no [UNK]; it stands for words that cannot be cut")
        self._known: dict[str, list[int]] = {}

    @classmethod
    def from_file(cls, path: str | Path) -> "WordPiece":
        """From BERT's `vocab.txt`: one piece a line."""
        return cls(Path(path).read_text(encoding="utf-8").splitlines())

    def __len__(self) -> int:
        return len(self.pieces)

    def split(self, word: str) -> list[str]:
        """The longest piece that the word begins with, then the longest that goes on, and so on.

        ["[UNK]"] where at some point no piece fits, or the word has more than 100 characters.
        """
        pieces: list[str] = []
        start = 0
        while start < len(word) <= LONGEST_WORD:
            mark = INSIDE if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self.ids), None)
            if end is None:
                return ["[UNK]"]
            pieces.append(mark + word[start:end])
            start = end
        return pieces or ["[UNK]"]

    def encode(self, text: str) -> list[int]:
        """Ids of a text's pieces; "[MASK]" and other special tokens may stand in the text."""
        ids: list[int] = []
        for part in _SPECIAL.split(text) if "[" in text else [text]:
            ids += [self.ids[part]] if part in SPECIAL else self.encode_words(bert_words(part))
        return ids

    def encode_words(self, words: Sequence[str]) -> list[int]:
        """Ids of the pieces of words; a word that was met before is not cut again."""
        for word in set(words).difference(self._known):
            self._known[word] = [self.ids[piece] for piece in self.split(word)]
        return [number for word in words for number in self._known[word]]

    def decode(self, ids: Iterable[int]) -> str:
        """Words with blanks between them; special tokens are kept, blanks around marks too."""
        return " ".join(self.pieces[int(number)] for number in ids).replace(" " + INSIDE, "")


def learn_pieces(words: Iterable[str], size: int) -> list[str]:
    """WordPiece by the library `tokenizers`: special tokens, characters, then longer pieces.

    The library numbers "##a", "##b" ... by chance and breaks ties by number; here they are
    numbered first, in order, so that the same words give the same pieces.

    Raises:
        ValueError: `size` leaves no room for the characters.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # needed here alone

    counts = Counter(words)
    letters = sorted(set().union(*counts))
    first = [*SPECIAL, *(INSIDE + letter for letter in letters)]
    if size < len(first) + len(letters):
        raise ValueError(
            f"size is {size}; allowed are numbers from {len(first) + len(letters)}, since special "
            "tokens and characters come first"
        )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=first, limit_alphabet=len(letters), show_progress=False
    )
    texts = (" ".join([word] * count) for word, count in counts.items())
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _is_cjk(code: int) -> bool:
    return any(first <= code <= last for first, last in _CJK)


Pair = tuple[str, str]
Word = tuple[str, ...]  # symbols: characters at first, longer pieces later


def count_pairs(words: Mapping[Word, int]) -> Counter[Pair]:
    """How often each two symbols stand side by side, in words that occur so often."""
    pairs: Counter[Pair] = Counter()
    for word, count in words.items():
        for pair in zip(word, word[1:], strict=False):
            pairs[pair] += count
    return pairs


def merge(word: Word, pair: Pair, joined: str) -> Word:
    """The word with `joined` in place of each `pair`, found from left to right."""
    symbols: list[str] = []
    place = 0
    while place < len(word):
        found = word[place : place + 2] == pair
        symbols.append(joined if found else word[place])
        place += 2 if found else 1
    return tuple(symbols)


def learn_merges(
    words: Mapping[Word, int], symbols: Iterable[str], size: int
) -> tuple[list[str], list[Pair]]:
    """Join the commonest pair of symbols, again and again: all symbols, and the pairs in order.

    Of equally common pairs the one of older symbols is taken: first by the left one, then by the
    right one. That is the library's rule, too.

    Args:
        words: how often each occurs.
        symbols: to begin with, in the order of their ids; each that occurs in `words`.
        size: symbols in the end; fewer where nothing is left to be joined.
    """
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    merges: list[Pair] = []
    while len(ids) < size and (pairs := count_pairs(words)):
        pair = min(pairs, key=lambda two: (-pairs[two], ids[two[0]], ids[two[1]]))
        joined = pair[0] + pair[1].removeprefix(INSIDE)
        words = {merge(word, pair, joined): count for word, count in words.items()}
        ids.setdefault(joined, len(ids))  # "a" + "bc" may give what "ab" + "c" gave before
        merges.append(pair)
    return list(ids), merges


def train_wordpiece(counts: Mapping[str, int], size: int) -> list[str]:
    """The pieces that `learn_pieces` finds, from words and how often each occurs; slow.

    Like the library it joins the commonest pair; Google's own, never published, is said to have
    joined the pair whose count is highest for how common its parts are.
    """
    letters = sorted(set().union(*counts))
    first = [*SPECIAL, *(INSIDE + letter for letter in letters), *letters]
    words = {(word[0], *(INSIDE + letter for letter in word[1:])): n for word, n in counts.items()}
    return learn_merges(words, first, size)[0]


def train_bpe(counts: Mapping[str, int], size: int) -> "BPE":
    """BPE from words and how often each occurs: first their characters by alphabet, then merges."""
    symbols, merges = learn_merges(
        {tuple(word): count for word, count in counts.items()}, sorted(set().union(*counts)), size
    )
    return BPE(symbols, merges)


class BPE:
    """Words cut by repeating merges in the order in which they were learned.

    Args:
        pieces: in the order of their ids. merges: pairs to be joined, the first learned first.

    Raises:
        ValueError: a merge makes a piece that is not among `pieces`.
    """

    def __init__(self, pieces: Iterable[str], merges: Iterable[Pair]):
        self.pieces = tuple(pieces)
        self.ids = {piece: number for number, piece in enumerate(self.pieces)}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        for pair in self.ranks:
            if "".join(pair) not in self.ids:
                raise ValueError(f"merges join {pair}, but pieces hold no {''.join(pair)!r}")
        self._known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.pieces)

    def split(self, word: str) -> list[str]:
        """The word's pieces: of all neighbours, those learned to be joined first are joined."""
        symbols = tuple(word)
        while len(symbols) > 1:
            pairs = zip(symbols, symbols[1:], strict=False)
            pair = min(pairs, key=lambda two: self.ranks.get(two, len(self.ranks)))
            if pair not in self.ranks:
                break
            symbols = merge(symbols, pair, "".join(pair))
        return list(symbols)

    def encode_words(self, words: Sequence[str]) -> list[int]:
        """Ids of the pieces of words; a word that was met before is not cut again.

        Raises:
            ValueError: a character that is not among the pieces.
        """
        for word in set(words).difference(self._known):
            for piece in (pieces := self.split(word)):
                if piece not in self.ids:
                    raise ValueError(f"words hold the character {piece!r}, which has no id")
            self._known[word] = [self.ids[piece] for piece in pieces]
        return [number for word in words for number in self._known[word]]


class ByteBPE(BPE):
    """GPT-2's: BPE on the bytes of a text, so that no character is unknown.

    Each byte is written as one visible character ("Ġ" for a blank), so that pieces are strings.
    """

    @classmethod
    def from_files(cls, vocabulary: str | Path, merges: str | Path) -> "ByteBPE":
        """From GPT-2's `vocab.json` and `merges.txt`."""
        ids = json.loads(Path(vocabulary).read_text(encoding="utf-8"))
        lines = Path(merges).read_text(encoding="utf-8").splitlines()
        pairs = (tuple(line.split(" ")) for line in lines if line and not line.startswith("#v"))
        return cls(sorted(ids, key=ids.__getitem__), pairs)

    def encode(self, text: str) -> list[int]:
        """Ids of any text; `decode` gives it back to the letter."""
        return self.encode_words([as_bytes(word) for word in gpt2_words(text)])

    def decode(self, ids: Iterable[int]) -> str:
        """The text; bytes that form no character become "\ufffd"."""
        letters = "".join(self.pieces[int(number)] for number in ids)
        return bytes(BYTES[letter] for letter in letters).decode(errors="replace")


def _byte_letters() -> list[str]:
    """A visible character for each byte: itself where it is one, else one from "Ā" on."""
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(0x100)]


BYTE_LETTERS = _byte_letters()
BYTES = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


def as_bytes(word: str) -> str:
    """The UTF-8 bytes of a word as visible characters: " é" -> "ĠÃ©"."""
    return "".join(BYTE_LETTERS[byte] for byte in word.encode())


class _Kinds(dict):
    """For `str.translate`: L for letters, N for numbers, blanks as they are, o for the others."""

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))[0]
        blank = kind == "Z" or chr(code) in "\t\n\v\f\r\x85"
        self[code] = kind if kind in "LN" else " " if code == 32 else "\n" if blank else "o"
        return self[code]


_KINDS = _Kinds()
_CONTRACTION = re.compile("'(?:s|t|re|ve|m|ll|d)")
_RUN = re.compile(r" ?L+| ?N+| ?o+|\s+(?!\S)|\s+")  # of characters of one kind


def gpt2_words(text: str) -> list[str]:
    """A text cut before BPE, as GPT-2 does it: a blank belongs to what follows it.

    "It's 3 o'clock." -> "It", "'s", " 3", " o", "'", "clock", "."
    """
    kinds = text.translate(_KINDS)
    words: list[str] = []
    place = 0
    while place < len(text):
        found = _CONTRACTION.match(text, place) or _RUN.match(kinds, place)
        words.append(text[place : found.end()])
        place = found.end()
    return words
