"""Text as numbers and back: normalise, split into words, number them, pad, batch by length.

Ids are int64; four special tokens come first in every vocabulary: padding 0, start 1, end 2 and
unknown 3. Bad arguments raise `ValueError`, with the argument, its value and what is allowed.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib import distributed, runtime
from course_lib.batches import Batches

PAD, START, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
LANGUAGES = ("english", "french")

_PLAIN = str.maketrans(
    "‘’‛ʼ“”„‟\u00a0\u202f\u2009", "''''\"\"\"\"   "
)  # French no-break spaces, too
_SUFFIX = r"'(?:s|m|d|re|ve|ll)\b"  # English
_WORD = rf"\w+(?:(?!{_SUFFIX})'\w+)*"
_TOKEN = re.compile(
    rf"""
    (?:(?<!\w)|(?<=\w)-)(?:jusqu|lorsqu|puisqu|quoiqu|qu|[cdjlmnst])'(?=\w)  # j' of j'ai
    | (?<=\w)(?:{_SUFFIX}|n't\b)              # 's of it's, n't of don't
    | \d+(?:[.,]\d+)+                        # 1.16
    | (?<=\w)-{_WORD}                        # -sept of dix-sept
    | \w+?(?=n't\b) | {_WORD}                # do of don't; aujourd'hui
    | (?P<mark>[^\w\s])(?P=mark)*            # one punctuation mark, or several of a kind
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ELIDED = re.compile(r"-?\w+'")  # joins what follows it
_ENDING = re.compile(rf"-\w.*|{_SUFFIX}|n't", re.IGNORECASE)  # joins what stands before it


def normalise(text: str, lower: bool = True) -> str:
    """One spelling for what looks the same: NFC, straight quotes, "…" for three dots, single
    plain blanks (also for no-break ones, as before the French "?"); lower case unless told."""
    text = unicodedata.normalize("NFC", text).translate(_PLAIN).replace("...", "…")
    return " ".join((text.lower() if lower else text).split())


def split_words(text: str) -> list[str]:
    """Words, numbers and punctuation marks of normalised text, one token each.

    What is glued to a neighbour shows it by its mark: French elisions keep their apostrophe
    ("j'ai" -> "j'" "ai"), English contractions too ("don't" -> "do" "n't"), and what follows a
    hyphen inside a word keeps the hyphen ("dix-sept" -> "dix" "-sept"). `join_words` undoes it.
    """
    return [match.group() for match in _TOKEN.finditer(text)]


def join_words(tokens: Iterable[str], language: str = "english") -> str:
    """The text that `split_words` gave `tokens` for.

    Exact for number words. For other text, blanks are put as the language's typography asks for
    (in French before "?", "!", ":", ";" and inside « »), whether or not the writer had done so.

    Raises:
        ValueError: the language is neither "english" nor "french".
    """
    if language not in LANGUAGES:
        raise ValueError(f"language is {language!r}; allowed are {', '.join(LANGUAGES)}")
    closing = ".,…)]}%" + ("" if language == "french" else "!?:;»")
    opening = "([{" + ("" if language == "french" else "«")
    text, glue, quoted = "", True, False
    for token in tokens:
        closes = token[0] in closing or (token == '"' and quoted) or _ENDING.fullmatch(token)
        closes = closes or (token[0] in "!?" and text[-1:] in ("!", "?"))
        text += token if glue or closes else " " + token
        quoted ^= token == '"'
        glue = token in opening or (token == '"' and quoted) or _ELIDED.fullmatch(token)
    return text


class Vocabulary:
    """The tokens a model knows, numbered; the special ones come first.

    Args:
        tokens: the others, in the order of their ids; see `build` for the usual one.

    Raises:
        ValueError: no tokens, or one of them twice.
    """

    def __init__(self, tokens: Iterable[str]):
        self.tokens = (*SPECIAL, *tokens)
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self.tokens) == len(SPECIAL):
            raise ValueError("tokens is empty; at least one is needed")
        if len(self.ids) < len(self.tokens):
            twice = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise ValueError(f"tokens hold {twice[0]!r} twice; each may occur once")

    @classmethod
    def build(
        cls, sentences: Iterable[Sequence[str]], min_count: int = 1, max_size: int | None = None
    ) -> "Vocabulary":
        """The tokens of `sentences`, frequent ones first, equally frequent ones by alphabet.

        Args:
            min_count: tokens that occur less often are left out.
            max_size: of the vocabulary with its special tokens.
        """
        counts = Counter(token for sentence in sentences for token in sentence)
        kept = sorted((t for t, n in counts.items() if n >= min_count and t not in SPECIAL))
        kept.sort(key=counts.__getitem__, reverse=True)
        if max_size is not None and max_size <= len(SPECIAL):
            raise ValueError(f"max_size is {max_size}; allowed are numbers above {len(SPECIAL)}")
        return cls(kept if max_size is None else kept[: max_size - len(SPECIAL)])

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Their ids; UNKNOWN for what is not in the vocabulary."""
        return [self.ids.get(token, UNKNOWN) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of a list or tensor of ids, up to the first END, without START and PAD."""
        tokens = []
        for number in map(int, ids):
            if number == END:
                break
            if number not in (PAD, START):
                tokens.append(self.tokens[number])
        return tokens


def pad(id_lists: Sequence[Sequence[int]], length: int | None = None) -> Tensor:
    """Lists of ids as one tensor (B, T), PAD behind the shorter ones.

    Args:
        length: T; by default that of the longest list, and at least 1.

    Raises:
        ValueError: no lists, or one that is longer than `length`.
    """
    if not len(id_lists):
        raise ValueError("id_lists is empty; at least one list is needed")
    longest = max(map(len, id_lists))
    length = max(longest, 1) if length is None else length
    if longest > length:
        raise ValueError(f"length is {length}; the longest of id_lists has {longest} ids")
    return torch.tensor([[*ids, *[PAD] * (length - len(ids))] for ids in id_lists])


def join_rows(*tensors: Tensor) -> Tensor:
    """Ids (N, T) one below the other, PAD behind those of fewer columns."""
    width = max(ids.shape[1] for ids in tensors)
    return torch.cat([F.pad(ids, (0, width - ids.shape[1]), value=PAD) for ids in tensors])


def length_buckets(
    lengths: Tensor, batch_size: int, generator: torch.Generator | None = None
) -> list[Tensor]:
    """Indices of items of like length, batch by batch; each item once.

    Items of equal length and the batches themselves come in random order.

    Args:
        lengths: (N,) of any numbers.
    """
    if not len(lengths):
        raise ValueError("lengths is empty; at least one is needed")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; allowed are whole numbers from 1")
    order = torch.randperm(len(lengths), generator=generator)
    order = order[lengths[order].argsort(stable=True)]
    batches = order.split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


class SentenceBatches(Batches):
    """`Batches` of sentences of like length, cut to the longest of each batch: little padding.

    Args:
        tensors: ids (N, T), PAD behind; T may differ between them. Sorted by their summed length.
    """

    def __init__(self, *tensors: Tensor, batch_size: int, seed: int = 0):
        super().__init__(*tensors, batch_size=batch_size, seed=seed)
        # On the CPU, so that no step has to wait for a GPU to say how wide its batch is.
        self.lengths = torch.stack([(t != PAD).sum(1).cpu() for t in tensors])  # (tensors, N)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """The batches of one epoch from number `start` on: this process's part of each."""
        generator = runtime.generator_for(self.seed, epoch)
        buckets = length_buckets(self.lengths.sum(0), self.batch_size, generator)
        rank, processes = distributed.rank(), distributed.world_size()
        for items in buckets[start:]:
            widths = self.lengths[:, items].amax(1).clamp(min=1).tolist()
            mine = items[rank::processes].to(self.tensors[0].device)
            yield tuple(t[mine, :width] for t, width in zip(self.tensors, widths, strict=True))

    def to(self, device: torch.device) -> "SentenceBatches":
        """The same batches, cut on `device`."""
        tensors = (tensor.to(device) for tensor in self.tensors)
        return SentenceBatches(*tensors, batch_size=self.batch_size, seed=self.seed)
