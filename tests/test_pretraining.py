"""The pretraining set: pairs, segments, hidden words, what is held out, and resuming."""

import math

import pytest
import torch

from course_lib import data, distributed, pretraining
from course_lib.batches import walk_epoch
from course_lib.pretraining import CLS, IGNORED, MASK, PAD, SEP, SHARES, PairBatches
from course_lib.subwords import bert_words


@pytest.fixture(scope="module")
def texts():
    return pretraining.load()


@pytest.fixture(scope="module")
def records(texts):
    """Twelve batches as one record."""
    batches = PairBatches(texts.train, batch_size=128, seed=3).epoch(0)
    return pretraining.Record(
        *map(torch.cat, zip(*[next(batches) for _ in range(12)], strict=True))
    )


def toy(kinds=2, documents=3, lines=6, length=4):
    """Passages of which each id tells where it stands: 5, 6, 7 ... through all documents."""
    number = iter(range(5, 10_000))
    nested = [
        [[[next(number) for _ in range(length)] for _ in range(lines)] for _ in range(documents)]
        for _ in range(kinds)
    ]
    return pretraining.cut_passages(nested, 2 * length, vocabulary=10_000)


def parts(record, row):
    """A and B of one row, with its hidden words put back."""
    hidden = record.tokens[row] != IGNORED
    ids = record.ids[row].scatter(0, record.positions[row][hidden], record.tokens[row][hidden])
    ends = (ids == SEP).nonzero()[:, 0].tolist()
    assert ids[0] == CLS and len(ends) == 2
    return ids[1 : ends[0]], ids[ends[0] + 1 : ends[1]]


def test_rows_are_cls_a_sep_b_sep_pad():
    ids = torch.arange(10, 40)
    row, segments, real = pretraining.join_pairs(
        ids, torch.tensor([[0, 3], [20, 9]]), torch.tensor([[3, 2], [1, 1]]), 10
    )
    assert row.tolist() == [
        [CLS, 10, 11, 12, SEP, 13, 14, SEP, PAD, PAD],
        [CLS, 30, SEP, 19, SEP, PAD, PAD, PAD, PAD, PAD],
    ]
    assert segments.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]]
    assert torch.equal(real, row != PAD)


@pytest.mark.parametrize(
    ("sizes", "fitted"),
    [((9, 9), (4, 3)), ((9, 2), (5, 2)), ((2, 9), (2, 5)), ((4, 3), (4, 3)), ((1, 1), (1, 1))],
)
def test_pairs_that_are_too_long_lose_the_longer_ones_end(sizes, fitted):
    row, _, _ = pretraining.join_pairs(
        torch.arange(10, 40), torch.tensor([[0, 15]]), torch.tensor([sizes]), 10
    )
    a, b = fitted
    filled = [CLS, *range(10, 10 + a), SEP, *range(25, 25 + b), SEP]
    assert row.tolist() == [filled + [PAD] * (10 - len(filled))]


def test_exactly_half_of_every_batch_are_true_neighbours(texts):
    for record in list(PairBatches(texts.train, batch_size=64).epoch(0))[:40]:
        assert record.is_next.sum() == 32
    for share, count in ((0.0, 0), (1.0, 64), (0.25, 16)):
        record = next(PairBatches(texts.train, batch_size=64, neighbours=share).epoch(0))
        assert record.is_next.sum() == count


def test_true_neighbours_follow_and_others_come_from_another_document_of_the_kind():
    passages = toy()
    found = set()
    for epoch in range(12):
        for record in PairBatches(passages, batch_size=5, length=64).epoch(epoch):
            for row in range(5):
                a, b = parts(record, row)
                places = [(int(x) - 5) // 24 for x in (a[0], b[0])]  # 24 ids a document
                assert (record.is_next[row] == 1) == (b[0] == a[-1] + 1)
                assert (record.is_next[row] == 1) == (places[0] == places[1])
                assert places[0] // 3 == places[1] // 3  # the kind
                found.add((places[0], places[1], bool(record.is_next[row])))
    assert len(found) == 6 + 12  # each document with itself and with both others of its kind


def test_passages_are_whole_sentences_and_every_sentence_begins_one():
    passages = toy(kinds=1, documents=2, lines=5)
    assert passages.starts.tolist()[:3] == [[0, 8], [4, 12], [8, 16]]
    assert passages.sizes.tolist()[:3] == [[8, 8], [8, 8], [8, 4]]
    # The fourth and the fifth sentence fill a passage, and no other one follows.
    assert passages.bounds.tolist() == [[0, 3, 0, 6]] * 3 + [[3, 6, 0, 6]] * 3
    long = [[[7] * 30, [8] * 3, [9] * 6]] * 2
    assert pretraining.cut_passages([long], 8, 10).sizes.tolist()[:2] == [[30, 3], [3, 6]]


def test_how_b_begins_does_not_tell(texts):
    """All B, true or not, are drawn from the same places: what follows some passage."""
    places = set(texts.train.starts[:, 1].tolist())
    items = torch.arange(4000) * 11
    for is_next in (True, False):
        starts, sizes = pretraining.pair_up(
            texts.train, items, torch.full((4000,), is_next), torch.Generator().manual_seed(0)
        )
        assert set(starts[:, 1].tolist()) <= places
        mean = texts.train.sizes[:, 1].float().mean()
        assert abs(sizes[:, 1].float().mean() - mean) < 0.5


def test_special_tokens_are_never_chosen(records, texts):
    chosen = records.tokens != IGNORED
    assert (records.tokens[chosen] > MASK).all()
    assert (records.tokens < len(texts.pieces)).all()
    assert records.real.gather(1, records.positions).all()
    for row in range(100):
        positions = records.positions[row][chosen[row]]
        assert (positions.diff() > 0).all() and positions.min() > 0
        a, b = parts(records, row)
        assert (a > MASK).all() and (b > MASK).all()
        assert len(a) + len(b) + 3 == records.real[row].sum()
        assert records.segments[row].sum() == len(b) + 1


def test_one_word_in_seven_is_chosen(records):
    chosen = records.tokens != IGNORED
    words = records.real.sum(1) - 3
    assert ((chosen.sum(1) - 0.15 * words).abs() <= 0.5).all()
    assert records.positions.shape[1] == 9 and records.ids.shape[1] == 64
    assert (records.positions[~chosen] == 0).all() and (~chosen).any()


@pytest.mark.parametrize("shares", [SHARES, (1.0, 0.0, 0.0), (0.2, 0.5, 0.3), (0.0, 0.0, 1.0)])
def test_the_shares_of_masked_replaced_and_kept_words(texts, shares):
    batches = PairBatches(texts.train, batch_size=1000, shares=shares).epoch(0)
    record = next(batches)
    chosen = record.tokens != IGNORED
    now, before = record.ids.gather(1, record.positions)[chosen], record.tokens[chosen]
    found = ((now == MASK), (now != MASK) & (now != before), now == before)
    for share, hits in zip(shares, found, strict=True):
        # A replacement is by chance the word itself once in 8,000 times.
        bound = 4 * math.sqrt(share * (1 - share) / len(now)) + 1e-3 * (shares[1] > 0)
        assert abs(hits.float().mean() - share) <= bound
    assert (now >= MASK).all()
    others = torch.ones_like(record.ids, dtype=torch.bool).scatter(1, record.positions, False)
    assert (record.ids[others] != MASK).all()


def test_rows_without_words_choose_none():
    ids = torch.tensor([[CLS, SEP, SEP] + [PAD] * 20, [CLS, 9, SEP, 8, SEP] + [PAD] * 18])
    hidden, positions, tokens = pretraining.hide_words(
        ids, 10, torch.Generator().manual_seed(0), shares=(1.0, 0.0, 0.0)
    )
    assert torch.equal(hidden[0], ids[0]) and (tokens[0] == IGNORED).all()
    assert (tokens[1] != IGNORED).sum() == 1 and (positions[0] == 0).all()


def test_test_documents_are_never_in_training(texts):
    train_words, test_words = (set(), set())
    for kind in ("wikipedia", "austen"):
        for document in data.load(kind):
            lines = {tuple(bert_words(line)) for line in pretraining.sentences(document)}
            (test_words if document.test else train_words).update(lines)
    only_test = [line for line in test_words - train_words if len(line) > 12][:200]
    row = "," + ",".join(map(str, texts.train.ids.tolist())) + ","
    rest = "," + ",".join(map(str, texts.test.ids.tolist())) + ","
    for line in only_test:
        ids = "," + ",".join(map(str, texts.pieces.encode_words(line))) + ","
        assert ids not in row and ids in rest
    assert len(only_test) == 200


def test_few_words_are_unknown_and_the_vocabulary_is_full(texts):
    assert len(texts.pieces) == texts.train.vocabulary == 8_000
    assert (texts.train.ids == 1).sum() == 0
    assert (texts.test.ids == 1).float().mean() < 1e-3
    assert texts.train.ids.max() < 8_000


def test_titles_and_initials_do_not_end_a_sentence():
    text = 'Mr. Darcy met J. S. Mill. "Why?" She left! (He did not.) Dr. Who, e.g. a man'
    document = data.Document("x", (text, "Next."), False)
    assert pretraining.sentences(document) == [
        "Mr. Darcy met J. S. Mill.",
        '"Why?"',
        "She left!",
        "(He did not.)",
        "Dr. Who, e.g. a man",
        "Next.",
    ]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_run_can_be_resumed_to_the_bit(texts):
    whole = list(PairBatches(texts.test, batch_size=256, seed=5).epoch(2))
    rest = list(PairBatches(texts.test, batch_size=256, seed=5).epoch(2, start=9))
    assert len(whole) == len(PairBatches(texts.test, batch_size=256)) == len(texts.test) // 256
    assert all(same(a, b) for a, b in zip(whole[9:], rest, strict=True))
    walked = list(walk_epoch(PairBatches(texts.test, batch_size=256, seed=5), 2, 14))
    assert same(walked[0], whole[14])


def test_each_epoch_and_seed_draws_its_own(texts):
    def first(seed, epoch):
        return next(PairBatches(texts.test, batch_size=64, seed=seed).epoch(epoch))

    assert not same(first(0, 0), first(0, 1))
    assert not same(first(0, 0), first(1, 0))
    items, is_next = torch.arange(64), torch.ones(64, dtype=torch.bool)
    draws = [
        pretraining.draw(texts.test, items, is_next, torch.Generator().manual_seed(seed))
        for seed in range(2)
    ]
    assert not torch.equal(draws[0].positions, draws[1].positions)


def test_processes_share_a_batch_and_hide_words_of_their_own(texts, monkeypatch):
    whole = next(PairBatches(texts.test, batch_size=32).epoch(0))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    halves = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        halves.append(next(PairBatches(texts.test, batch_size=32).epoch(0)))
    assert sum(int(half.is_next.sum()) for half in halves) == 16
    for rank, half in enumerate(halves):
        assert torch.equal(half.is_next, whole.is_next[rank::2]) and len(half.ids) == 16
        for row in half.is_next.nonzero()[:, 0].tolist():
            ours, theirs = parts(half, row), parts(whole, 2 * row + rank)
            assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def test_held_out_pairs_stay_and_mask_every_chosen_word(texts):
    record = pretraining.held_out(texts.test, 500)
    assert same(record, pretraining.held_out(texts.test, 500))
    assert record.is_next.sum() == 250 and record.ids.shape == (500, 64)
    chosen = record.tokens != IGNORED
    assert (record.ids.gather(1, record.positions)[chosen] == MASK).all()
    kept = pretraining.held_out(texts.test, 500, shares=SHARES)
    assert (kept.ids.gather(1, kept.positions)[chosen] != MASK).any()


def test_counting_neighbours():
    ids = torch.tensor([5, 6, 7, 5, 6, 8, 9, 6, 8, 5, 6, 7, 9, 9, 9, 9, 9])
    passages = pretraining.Passages(10, ids, *[torch.zeros(0, 2)] * 2, torch.zeros(0, 4))
    rows = torch.tensor([[CLS, 5, MASK, 7, SEP], [CLS, 8, 7, MASK, SEP], [CLS, MASK, SEP, 6, SEP]])
    positions = torch.tensor([[2, 0], [3, 0], [1, 0]])
    tokens = torch.tensor([[6, -1], [9, -1], [8, -1]])
    record = pretraining.Record(rows, rows, rows > 0, positions, tokens, tokens[:, 0])
    guesses = pretraining.guess_by_neighbours(passages, record)
    assert [g[:, 0].tolist() for g in guesses.values()] == [[9, 9, 9], [6, 5, 9], [6, 5, 9]]
    assert pretraining.share_right(guesses["left neighbour"], tokens) == pytest.approx(1 / 3)
    between = torch.tensor([[CLS, 6, MASK, 9, SEP]])
    record = record._replace(ids=between, positions=positions[:1])
    guesses = pretraining.guess_by_neighbours(passages, record)
    assert guesses["left neighbour"][0, 0] == 7 and guesses["both neighbours"][0, 0] in (7, 8)


def test_better_guesses_know_more_neighbours(texts):
    record = pretraining.held_out(texts.test)
    guesses = pretraining.guess_by_neighbours(texts.train, record)
    right = [pretraining.share_right(guess, record.tokens) for guess in guesses.values()]
    assert 0.03 < right[0] < 0.1 < right[1] < 0.18 < right[2] < 0.3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: PairBatches(toy(), batch_size=10_000), "batch_size is 10000"),
        (lambda: PairBatches(toy(), batch_size=0), "batch_size is 0"),
        (lambda: PairBatches(toy(), batch_size=4, neighbours=1.5), "neighbours is 1.5"),
        (lambda: PairBatches(toy(), batch_size=4, shares=(0.9, 0.2, 0.1)), "shares"),
        (lambda: pretraining.held_out(toy(), 10_000), "pairs is 10000"),
        (lambda: pretraining.cut_passages([[[[5], [6], [7]]]], 1, 9), "1 usable"),
        (lambda: pretraining.load(length=4), "length is 4"),
        (lambda: pretraining.load(vocabulary=50), "size is 50"),
    ],
)
def test_bad_arguments_are_named(wrong, words):
    with pytest.raises(ValueError) as error:
        wrong()
    assert words in str(error.value)
