"""A dictionary found by counting: which words stand in translations of which others."""

import torch
from torch import Tensor

from course_lib.text import END, PAD, START


def translation_table(
    source: Tensor, target: Tensor, sizes: tuple[int, int], rounds: int = 5
) -> Tensor:
    """How likely each target word is as the translation of each source word: sparse, of `sizes`.

    Each target word is taken to translate one word of the source sentence, or none of them: START,
    put before each sentence, stands for none. Which one is not known. So its count is shared among
    them as the table has it so far, and the counts make the next table; in the first round they all
    get the same. Words that go together in many sentences win more with each round (expectation
    maximisation). Order plays no part.

    Args:
        source: ids (N, S), PAD behind. target: ids (N, T): START, words, END, PAD behind.
        sizes: of the two vocabularies.
        rounds: of sharing and counting, from 1.

    Returns:
        Rows of probabilities; those of source words that never occur are 0.

    Source: Brown et al. 1993, "The mathematics of statistical machine translation", model 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; allowed are whole numbers from 1")
    if len(source) != len(target):
        raise ValueError(f"source has {len(source)} sentences, target {len(target)}; needed: alike")
    source = torch.cat((torch.full_like(source[:, :1], START), source), dim=1)
    words = target[:, 1:]
    real = (source != PAD)[:, :, None] & ((words != PAD) & (words != END))[:, None]  # (N, S+1, T-1)
    sentence, place, position = real.nonzero(as_tuple=True)  # one entry for each possible link
    links = source[sentence, place] * sizes[1] + words[sentence, position]
    pairs, pair = links.unique(return_inverse=True)  # each pair of words once, by its number
    word = sentence * words.shape[1] + position  # which of all target words a link explains
    row, column = pairs // sizes[1], pairs % sizes[1]
    table = torch.ones(len(pairs))
    for _ in range(rounds):
        share = table[pair]
        share = share / _sums(share, word, words.numel())[word]
        count = _sums(share, pair, len(pairs))
        table = count / _sums(count, row, sizes[0])[row]
    places = torch.stack((row, column))  # sorted, since `unique` sorts
    return torch.sparse_coo_tensor(places, table, sizes, is_coalesced=True, check_invariants=False)


def _sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """(N,) values and the numbers of their groups -> (groups,)."""
    return torch.zeros(groups).index_add(0, group, values)
