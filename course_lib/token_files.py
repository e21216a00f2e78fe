"""The user's own texts as files of ids, made once and then mapped into memory: never loaded whole.

`open_tokens` gives one long row of ids for GPT; `open_passages` pairs of passages for BERT;
`open_pairs` and `open_classes` the lines of a table, which makes no files. A path
is a text file or a folder of *.txt files in UTF-8. The ids of PATH lie beside it, in PATH.tokens,
under a name that follows from the texts' names, sizes and times of change: changed texts are read
anew, and old files there may be deleted. What cannot be read or written raises `DataError`.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course_lib import pretraining
from course_lib.characters import Dictionary, WindowBatches
from course_lib.checksums import DataError
from course_lib.data import Document
from course_lib.pretraining import Passages, PretrainingSet
from course_lib.subwords import WordPiece, bert_words, learn_pieces

BLOCK = 2**20  # characters that are read at once
SAMPLE = 10**8  # words that BERT's pieces are learned from
HELD_OUT = 10  # the last tenth of the tokens, or every tenth document


class Pieces:
    """Byte-pair encoding on bytes, learned by the library `tokenizers`: any text has ids.

    Args:
        text: of the library's JSON; `str(pieces)` gives it back.
    """

    def __init__(self, text: str):
        from tokenizers import Tokenizer  # needed for large models alone

        self.tokenizer = Tokenizer.from_str(text)

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "Pieces":
        """`size` pieces, or as many as the texts give, the 256 bytes included."""
        from tokenizers import ByteLevelBPETokenizer

        tokenizer = ByteLevelBPETokenizer()
        tokenizer.train_from_iterator(texts, vocab_size=size, show_progress=False)
        return cls(tokenizer.to_str())

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def __str__(self) -> str:
        return self.tokenizer.to_str()

    def encode(self, text: str) -> Tensor:
        """The ids of a text, (T,) int64."""
        return torch.tensor(self.tokenizer.encode(text).ids, dtype=torch.int64)

    def decode(self, ids: Tensor) -> str:
        return self.tokenizer.decode(ids.tolist())


@dataclass(frozen=True, eq=False)
class Tokens:
    """Rows of ids (N,), and what they stand for."""

    dictionary: Dictionary | Pieces
    train: Tensor
    test: Tensor


def names_of(dictionary: Dictionary | Pieces) -> tuple[str, ...]:
    """A dictionary as strings, from which `dictionary_of` makes it again."""
    return dictionary.symbols if isinstance(dictionary, Dictionary) else (str(dictionary),)


def dictionary_of(names: Sequence[str], pieces: int | None) -> Dictionary | Pieces:
    """The dictionary of characters or, with a number of `pieces`, of byte pairs."""
    return Dictionary(names) if pieces is None else Pieces(names[0])


class MappedWindows(WindowBatches):
    """`WindowBatches` that leave the ids where they are, and move the windows alone."""

    def to(self, device: torch.device) -> "MappedWindows":
        """Itself: `train.fit` moves each batch."""
        return self


def open_tokens(path: str | Path, pieces: int | None = None) -> Tokens:
    """Texts as characters, or as so many byte pairs; the last tenth of the ids is for testing."""
    files = text_files(path)
    home, key = _home(path, files, f"tokens {pieces}")
    names_file, ids_file = home / f"{key}.json", home / f"{key}.ids"
    if not names_file.is_file():
        if pieces is None:
            symbols = set().union(*map(set, _blocks(files)))
            dictionary = Dictionary(sorted(symbols))
            encode = _character_encoder(dictionary)
        else:
            dictionary = Pieces.learn(_blocks(files), pieces)
            encode = dictionary.encode
        _write(ids_file, (encode(block) for block in _blocks(files)), len(dictionary))
        _finish(names_file, json.dumps(names_of(dictionary)))
    dictionary = dictionary_of(json.loads(names_file.read_text(encoding="utf-8")), pieces)
    ids = _map(ids_file, _dtype(len(dictionary)))
    cut = len(ids) - len(ids) // HELD_OUT
    return Tokens(dictionary, ids[:cut], ids[cut:])


def open_passages(
    path: str | Path, vocabulary: int = 8_000, length: int = pretraining.LENGTH
) -> PretrainingSet:
    """A folder of documents, a file each, for `pretraining.PairBatches`; every tenth is for
    testing. Arguments as for `pretraining.load`."""
    files = text_files(path)
    home, key = _home(path, files, f"passages {vocabulary} {length}")
    names_file = home / f"{key}.json"
    parts = {
        "train": [file for i, file in enumerate(files) if i % HELD_OUT != 1],
        "test": files[1::HELD_OUT],
    }
    if not names_file.is_file():
        counts: Counter[str] = Counter()
        for file in parts["train"]:
            counts.update(word for line in _sentences(file) for word in bert_words(line))
        # What is learned depends on which words are how common, so that a sample is enough.
        scale = 1 + counts.total() // SAMPLE
        words = Counter({word: -(-count // scale) for word, count in counts.items()})
        pieces = WordPiece(learn_pieces(words.elements(), vocabulary))
        for part, documents in parts.items():
            _write_passages(home / f"{key}.{part}", documents, pieces, (length - 3) // 2)
        _finish(names_file, json.dumps(pieces.pieces))
    pieces = WordPiece(json.loads(names_file.read_text(encoding="utf-8")))
    train, test = (_map_passages(home / f"{key}.{part}", len(pieces)) for part in parts)
    return PretrainingSet(pieces, train, test)


def open_pairs(path: str | Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The lines "first TAB second" of a text: those to train on and every tenth, to test on.

    What stands behind another TAB is left out.
    """
    rows = []
    for number, line in enumerate("".join(_blocks(text_files(path))).splitlines(), 1):
        first, second, *_ = (part.strip() for part in f"{line}\t".split("\t"))
        if first and second:
            rows.append((first, second))
        elif line.strip():
            allowed = "allowed are two texts with a TAB between them"
            raise DataError(f"{path}, line {number} is {line[:40]!r}; {allowed}")
    if len(rows) < HELD_OUT:
        raise DataError(f"{path} holds {len(rows)} lines; needed are {HELD_OUT} or more")
    return [row for i, row in enumerate(rows, 1) if i % HELD_OUT], rows[HELD_OUT - 1 :: HELD_OUT]


def open_classes(path: str | Path) -> tuple[list[tuple[tuple[str, ...], Tensor]], tuple[str, ...]]:
    """The lines "class TAB text": texts and labels int64 (N,) to train on and to test on, and the
    names of the classes."""
    parts = open_pairs(path)
    classes = tuple(sorted({name for part in parts for name, _ in part}))
    if not 2 <= len(classes) <= len(parts[0]) // 2:
        allowed = "needed are two or more, each with several texts: class TAB text"
        raise DataError(f"{path} holds {len(classes)} classes in {len(parts[0])} lines; {allowed}")
    found = []
    for part in parts:
        names, texts = zip(*part, strict=True)
        found.append((texts, torch.tensor([classes.index(name) for name in names])))
    return found, classes


def text_files(path: str | Path) -> list[Path]:
    """The text file, or all *.txt files in the folder and the folders in it, by name."""
    path = Path(path)
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path] * path.is_file()
    if not any(file.stat().st_size for file in files):
        raise DataError(f"{path} is no text file, and no folder with *.txt files, or holds no text")
    return files


def _home(path: str | Path, files: Sequence[Path], purpose: str) -> tuple[Path, str]:
    """Where the ids of these files lie, and under which name."""
    facts = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(json.dumps([purpose, facts]).encode()).hexdigest()[:16]
    path = Path(path).resolve()
    return path.with_name(f"{path.name}.tokens"), key


def _blocks(files: Sequence[Path]) -> Iterator[str]:
    """The texts, whole lines at a time; an empty line stands between two files."""
    for number, path in enumerate(files):
        if number:
            yield "\n"
        try:
            with path.open(encoding="utf-8") as file:
                while lines := file.readlines(BLOCK):
                    yield "".join(lines)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no text in UTF-8 ({error})") from None


def _character_encoder(dictionary: Dictionary) -> Callable[[str], Tensor]:
    """`dictionary.encode` of symbols in alphabetical order, without a step for each letter."""
    codes = np.array([ord(symbol) for symbol in dictionary.symbols], dtype=np.uint32)

    def encode(text: str) -> Tensor:
        letters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        return torch.from_numpy(np.searchsorted(codes, letters))

    return encode


def _dtype(vocabulary: int) -> type:
    return np.uint16 if vocabulary <= 2**16 else np.int32


def _write(path: Path, rows: Iterable[Tensor], vocabulary: int) -> None:
    kind = _dtype(vocabulary)
    with _Unfinished(path) as file:
        for row in rows:
            row.numpy().astype(kind).tofile(file)


def _finish(path: Path, text: str) -> None:
    """Write the file that says that those beside it are whole."""
    with _Unfinished(path) as file:
        file.write(text.encode())


class _Unfinished:
    """A file under another name, which takes its own when all is written. Several processes may
    write the same one at once."""

    def __init__(self, path: Path):
        self.path = path
        self.unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")

    def __enter__(self):
        try:
            self.path.parent.mkdir(exist_ok=True)
            self.file = self.unfinished.open("wb")
        except OSError as error:
            raise DataError(f"{self.path.parent} cannot be written ({error})") from error
        return self.file

    def __exit__(self, kind, error, _) -> None:
        try:
            self.file.close()
            if kind is None:
                os.replace(self.unfinished, self.path)
                return
        except OSError as late:
            error = late
        self.unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DataError(f"{self.path} cannot be written ({error})") from error


def _map(path: Path, kind: type, width: int = 1) -> Tensor:
    """The numbers of a file, read when they are used; (N,), or (N, width)."""
    # Copy on write: torch warns of memory that cannot be written.
    numbers = torch.from_numpy(np.memmap(path, dtype=kind, mode="c"))
    return numbers if width == 1 else numbers.view(-1, width)


def _sentences(path: Path) -> list[str]:
    text = "".join(_blocks([path]))
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return pretraining.sentences(Document(path.stem, tuple(filter(None, paragraphs)), False))


def _write_passages(stem: Path, files: Sequence[Path], pieces: WordPiece, room: int) -> None:
    """As `pretraining.cut_passages` for one kind of documents, one of them in memory at a time."""
    edges, offset = [0], 0
    with (
        _Unfinished(stem.with_name(f"{stem.name}.ids")) as ids_file,
        _Unfinished(stem.with_name(f"{stem.name}.pairs")) as pairs_file,
        _Unfinished(stem.with_name(f"{stem.name}.bounds")) as bounds_file,
    ):
        for path in files:
            lines = [pieces.encode_words(bert_words(line)) for line in _sentences(path)]
            ids = np.array([number for line in lines for number in line], dtype=np.int64)
            found = pretraining.neighbours([len(line) for line in lines if line], room)
            pairs = np.array(found, dtype=np.int64).reshape(-1, 4)
            pairs[:, ::2] += offset
            ids.tofile(ids_file)
            pairs[:, [0, 2, 1, 3]].tofile(pairs_file)  # two starts, two sizes
            offset += len(ids)
            edges += [edges[-1] + len(pairs)] * bool(len(pairs))
        if len(edges) < 3:
            raise DataError(
                f"{files[0].parent if files else stem} has {len(edges) - 1} documents of several "
                "sentences to train on, or to test on; 2 of each are needed, 12 files in all"
            )
        for first, last in zip(edges, edges[1:], strict=False):
            np.tile([first, last, 0, edges[-1]], (last - first, 1)).tofile(bounds_file)


def _map_passages(stem: Path, vocabulary: int) -> Passages:
    ids, pairs, bounds = (
        _map(stem.with_name(f"{stem.name}.{name}"), np.int64, width)
        for name, width in (("ids", 1), ("pairs", 4), ("bounds", 4))
    )
    return Passages(vocabulary, ids, pairs[:, :2], pairs[:, 2:], bounds)
