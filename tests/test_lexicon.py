"""The dictionary found by counting: equal to nltk's, and its place in the translator."""

import pytest
import torch
from nltk.translate import AlignedSent, IBMModel1

from course_lib.attention import TransformerConfig
from course_lib.lexicon import translation_table
from course_lib.seq2seq import TransformerTranslator
from course_lib.text import END, SPECIAL, START, pad

FIRST = len(SPECIAL)
SIZES = (13, 11)


def sentences(count=40):
    """Random source and target ids; only source words come twice in a sentence.

    (Where a target word does, nltk halves what either of them counts for.)
    """
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 7, (2, count), generator=generator).tolist()
    words = torch.arange(FIRST, SIZES[1])
    sources = [torch.randint(FIRST, SIZES[0], (n,), generator=generator) for n in lengths[0]]
    targets = [words[torch.randperm(len(words), generator=generator)[:n]] for n in lengths[1]]
    return [words.tolist() for words in sources], [words.tolist() for words in targets]


def table_of(sources, targets, rounds=5):
    target = pad([[START, *words, END] for words in targets])
    return translation_table(pad(sources), target, SIZES, rounds).to_dense()


@pytest.mark.parametrize("rounds", [1, 5])
def test_equals_nltk(rounds):
    sources, targets = sentences()
    text = [
        AlignedSent(list(map(str, target)), list(map(str, source)))
        for source, target in zip(sources, targets, strict=True)
    ]
    theirs = IBMModel1(text, rounds).translation_table
    ours = table_of(sources, targets, rounds)
    for source in (START, *range(FIRST, SIZES[0])):
        name = None if source == START else str(source)
        for target in range(FIRST, SIZES[1]):
            # nltk has a floor of 1e-12 for pairs that never meet.
            assert ours[source, target].item() == pytest.approx(theirs[str(target)][name], abs=1e-5)


def test_rows_are_probabilities_of_words_that_occur():
    sources, targets = sentences()
    sums = table_of(sources, targets).sum(1)
    assert sums[[START, *{word for words in sources for word in words}]] == pytest.approx(1)
    assert sums[0] == 0 and sums[END] == 0


def test_finds_the_words_behind_mixed_up_sentences():
    generator = torch.Generator().manual_seed(1)
    words = torch.arange(FIRST, 11)
    sources = [words[torch.randperm(7, generator=generator)[:3]].tolist() for _ in range(60)]
    targets = [[14 - word for word in source][::-1] for source in sources]
    table = table_of(sources, targets, rounds=20)
    assert [table[word].argmax().item() for word in words] == [14 - word for word in words.tolist()]
    assert table[FIRST:11].max(1).values.min() > 0.9
    assert table_of(sources, targets, rounds=1)[FIRST:11].max() < 0.7


def test_a_target_word_counts_as_often_as_it_stands_there():
    table = table_of([[5], [5]], [[6, 6, 7], [7]], rounds=1)
    assert table[5, 6].item() == pytest.approx(0.5) and table[5, 7].item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    "rows, rounds, message", [(39, 5, "39 sentences"), (40, 0, "rounds is 0; allowed")]
)
def test_bad_arguments(rows, rounds, message):
    source = torch.ones(40, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        translation_table(source[:rows], source, SIZES, rounds)


def translator():
    torch.manual_seed(0)
    return TransformerTranslator(*SIZES, TransformerConfig(width=8, heads=2, layers=1, hidden=8))


def test_source_words_start_as_their_translations():
    model, table = translator(), torch.zeros(SIZES)
    table[5, 7], table[6, 7], table[6, 8] = 1, 0.5, 0.5
    before = model.source_embedding.weight.detach().clone()
    model.start_from_dictionary(table.to_sparse())
    after, target = model.source_embedding.weight, model.target_embedding.weight
    for word, mean in ((5, target[7]), (6, target[7] + target[8])):
        assert torch.cosine_similarity(after[word], mean, dim=0).item() == pytest.approx(1)
        assert after[word].norm().item() == pytest.approx(before.norm(dim=1).mean().item())
    others = [row for row in range(SIZES[0]) if row not in (5, 6)]
    assert torch.equal(after[others], before[others])


def test_a_table_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"table has shape \(2, 3\); needed is \(13, 11\)"):
        translator().start_from_dictionary(torch.ones(2, 3))
