"""Chapter 08's review tasks: who may see what, how they are batched, rivals and comparisons."""

import subprocess
import sys
from collections import Counter
from math import comb

import pytest
import torch
from torch import nn

from course_lib import data, reviews, runtime, train
from course_lib.text import PAD

PARTS = ("train", "validation", "test")
SIZES = {"train": 7568, "validation": 1000, "test": 2000}


@pytest.fixture(scope="module")
def sentiment():
    return reviews.sentiment()


@pytest.fixture(scope="module")
def kinder():
    return reviews.kinder()


@pytest.fixture(scope="module")
def ratings():
    found = data.load("movie_reviews")
    return dict(zip(found.texts, found.ratings.tolist(), strict=True))


# --- the tasks -----------------------------------------------------------------------------------


def test_each_part_has_its_size_and_both_classes(sentiment, kinder):
    assert {name: len(getattr(sentiment, name)) for name in PARTS} == SIZES
    assert {name: len(getattr(kinder, name)) for name in PARTS} == SIZES
    for task in (sentiment, kinder):
        for name in PARTS:
            part = getattr(task, name)
            assert len(part.texts) == len(part.ids) == len(part.labels)
            assert part.labels.dtype == part.ids.dtype == torch.int64
            assert set(part.labels.tolist()) == {0, 1}
    assert sentiment.test.labels.sum() == 1000
    assert sentiment.validation.labels.sum() == 500
    assert all(2 * getattr(kinder, name).labels.sum() == SIZES[name] for name in PARTS)


def test_labels_are_those_of_the_ratings(sentiment, kinder, ratings):
    for name in PARTS:
        for text, label in zip(*_texts_and_labels(sentiment, name), strict=True):
            assert label == (ratings[text] > 0) and ratings[text] != 0
        for (first, second), label in zip(*_texts_and_labels(kinder, name), strict=True):
            assert label == (ratings[second] > ratings[first])
            assert abs(ratings[second] - ratings[first]) >= 1


def _texts_and_labels(task, name):
    part = getattr(task, name)
    return part.texts, part.labels.tolist()


def test_no_sentence_is_in_two_parts_and_test_is_the_data_s(sentiment, kinder):
    found = data.load("movie_reviews")
    test = {text for text, held in zip(found.texts, found.test.tolist(), strict=True) if held}
    single = {name: set(getattr(sentiment, name).texts) for name in PARTS}
    paired = {name: {t for pair in getattr(kinder, name).texts for t in pair} for name in PARTS}
    for parts in (single, paired):
        assert parts["test"] <= test
        assert not parts["train"] & test and not parts["validation"] & test
        assert not parts["train"] & parts["validation"]
    assert single["test"] == test
    assert not paired["train"] & single["validation"]


def test_a_text_that_occurs_twice_stays_on_one_side():
    for seed in range(3):
        task = reviews.sentiment(4_000, seed)
        assert not set(task.train.texts) & set(task.validation.texts)


def test_no_pair_comes_twice_and_no_sentence_much_more_often(kinder):
    for name in PARTS:
        pairs = [frozenset(pair) for pair in getattr(kinder, name).texts]
        assert len(set(pairs)) == len(pairs) and all(len(pair) == 2 for pair in pairs)
        counts = Counter(text for pair in pairs for text in pair)
        assert max(counts.values()) <= 12 and len(counts) > 0.9 * SIZES[name]


def test_where_a_pair_stands_does_not_tell_its_label(kinder, ratings):
    """A sentence's own rating helps; that the first or second of them is longer must not."""
    longer = torch.tensor([len(a) > len(b) for a, b in kinder.train.texts])
    assert abs((longer == kinder.train.labels).float().mean().item() - 0.5) < 0.02
    halves = kinder.train.labels.chunk(2)
    assert all(abs(half.float().mean().item() - 0.5) < 0.02 for half in halves)


def test_the_seed_alone_decides():
    first, again, other = (reviews.kinder(100, seed) for seed in (1, 1, 2))
    fresh = reviews.kinder.__wrapped__(100, 1)
    assert first is again and first.train.texts == fresh.train.texts
    assert torch.equal(first.train.labels, fresh.train.labels)
    assert first.test.texts != other.test.texts
    assert set(reviews.sentiment(100, 1).validation.texts) != set(
        reviews.sentiment(100, 2).validation.texts
    )


@pytest.mark.parametrize("validation", [-2, 0, 3, 4_002])
def test_a_bad_validation_size_is_named(validation):
    with pytest.raises(ValueError, match=f"validation is {validation}; allowed"):
        reviews.sentiment(validation)


def test_development_is_train_and_validation(sentiment, kinder):
    for task in (sentiment, kinder):
        whole = task.development
        assert whole.texts == task.train.texts + task.validation.texts
        for row in (0, 7567, 7568, 8567):
            part, index = (task.train, row) if row < 7568 else (task.validation, row - 7568)
            assert torch.equal(_real(whole.ids[row]), _real(part.ids[index]))
            assert whole.labels[row] == part.labels[index]


def _real(ids):
    return ids[ids != PAD]


# --- tokens and batches --------------------------------------------------------------------------


def test_long_texts_are_neither_cut_nor_padded_to_a_fixed_length():
    ids = reviews.encode(["a word " * 200, "dull"])
    assert ids.shape == (2, 402)
    assert ids[1].tolist() == [reviews.CLS, 10634, reviews.SEP] + [PAD] * 399


def test_segments_and_real_are_those_of_the_tokenizer(kinder):
    texts = [*kinder.test.texts[:50], "one alone", ("", "empty before it")]
    found = reviews.split_tokens(reviews.encode(texts))
    tokenizer = reviews.wordpiece()
    for row, encoding in enumerate(tokenizer.encode_batch(texts)):
        count = len(encoding.ids)
        ids, segments, real = (tensor[row] for tensor in found)
        assert ids[:count].tolist() == encoding.ids
        assert segments[:count].tolist() == encoding.type_ids
        assert not segments[count:].any()
        assert real[:count].all() and not real[count:].any()
    assert found[1].dtype == torch.int64 and found[2].dtype == torch.bool


def test_every_review_comes_once_an_epoch_with_its_label(kinder):
    part = kinder.validation
    expected = {
        tuple(_real(ids).tolist()): label for ids, label in zip(part.ids, part.labels, strict=True)
    }
    batches = part.batches(64, seed=3)
    for epoch in (0, 1):
        seen, padding, places = {}, 0, 0
        for ids, segments, real, labels in batches.epoch(epoch):
            assert ids.shape == segments.shape == real.shape and labels.shape == (len(ids),)
            assert real.any(0).all(), "a column of padding alone"
            assert torch.equal(real, ids != PAD) and segments.max() == 1
            padding, places = padding + (~real).sum().item(), places + real.numel()
            seen.update({tuple(_real(i).tolist()): y for i, y in zip(ids, labels, strict=True)})
        assert seen == expected
        assert padding < 0.05 * places  # at random it would be about half
    assert len(batches) == 16


def test_batches_moved_to_a_device_stay_the_same(sentiment):
    batches = sentiment.test.batches(100, seed=1)
    moved = batches.to(torch.device("cpu"))
    assert type(moved) is reviews.ReviewBatches
    for one, other in zip(batches, moved, strict=True):
        assert all(map(torch.equal, one, other)) and len(one) == 4


# --- rivals --------------------------------------------------------------------------------------


def bag(width=8):
    runtime.seed_everything(0)
    return reviews.BagOfEmbeddings(30522, width)


def test_a_bag_is_the_mean_by_hand():
    model = bag()
    tokens = reviews.split_tokens(torch.tensor([[101, 7, 8, 102, 9, 102, 0, 0]]))
    table = model.embedding.weight

    def hashed(a, b):
        return table[30522 + (a * 7919 + b) % reviews.BUCKETS]

    first = [*table[[101, 7, 8, 102]], hashed(101, 7), hashed(7, 8), hashed(8, 102)]
    second = [*table[[9, 102]], hashed(102, 9), hashed(9, 102)]
    means = torch.cat([torch.stack(part).mean(0) for part in (first, second)])
    torch.testing.assert_close(model(*tokens)[0], model.classifier(means))


def test_a_bag_ignores_padding_and_sees_order():
    model = bag()
    ids = torch.tensor([[101, 7, 8, 9, 102]])
    padded = nn.functional.pad(ids, (0, 6))
    logits = model(*reviews.split_tokens(ids))
    torch.testing.assert_close(model(*reviews.split_tokens(padded)), logits)
    swapped = torch.tensor([[101, 8, 7, 9, 102]])
    assert not torch.allclose(model(*reviews.split_tokens(swapped)), logits)
    assert model(*reviews.split_tokens(torch.zeros_like(ids))).isfinite().all()


def test_a_bag_learns_and_predictions_are_in_order(sentiment):
    part, model = sentiment.validation, bag(16)
    config = train.FitConfig(40, "adam", 0.01, precision="float32")
    train.fit(model, part.batches(100), reviews.review_loss, config)
    logits = reviews.predict(model, part.ids, batch_size=64, precision="float32")
    assert train.accuracy(logits, part.labels) > 0.9  # of what it has seen
    with torch.no_grad():
        torch.testing.assert_close(logits, model(*reviews.split_tokens(part.ids)))
    assert train.accuracy(reviews.predict(model, sentiment.test.ids), sentiment.test.labels) > 0.55


def test_tfidf_svm_knows_the_direction(sentiment):
    some, other = slice(None, None, 4), sentiment.validation
    texts, labels = sentiment.train.texts[some], sentiment.train.labels[some]
    guesses = reviews.tfidf_svm(texts, labels, other.texts)
    assert guesses.dtype == torch.int64 and guesses.shape == other.labels.shape
    assert 0.68 < (guesses == other.labels).float().mean().item() < 0.85


def test_the_library_does_not_import_scikit_learn():
    code = "import sys, course_lib.reviews; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- comparisons ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (5, 10, 0.2366, 0.7634),
        (0, 20, 0.0, 0.1611),
        (20, 20, 0.8389, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_gives_the_published_intervals(right, count, low, high):
    assert reviews.wilson_interval(right, count) == pytest.approx((low, high), abs=6e-5)


def test_wilson_holds_what_it_promises():
    """Over all outcomes of 50 tosses, the interval holds the true share in about 95 % of them."""
    for share in (0.1, 0.5, 0.86):
        covered = sum(
            comb(50, right) * share**right * (1 - share) ** (50 - right)
            for right in range(51)
            if reviews.wilson_interval(right, 50)[0]
            <= share
            <= reviews.wilson_interval(right, 50)[1]
        )
        assert 0.92 < covered < 0.98


@pytest.mark.parametrize(("right", "count"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_cannot_be(right, count):
    with pytest.raises(ValueError, match="allowed"):
        reviews.wilson_interval(right, count)


@pytest.mark.parametrize(
    ("first_alone", "second_alone"), [(0, 0), (1, 0), (10, 2), (2, 10), (59, 33), (400, 350)]
)
def test_mcnemar_equals_the_binomial_test(first_alone, second_alone):
    scipy_stats = pytest.importorskip("scipy.stats")
    both = [(True, True)] * 30 + [(False, False)] * 11
    pairs = both + [(True, False)] * first_alone + [(False, True)] * second_alone
    first, second = torch.tensor(pairs).T
    tosses = first_alone + second_alone
    expected = scipy_stats.binomtest(first_alone, tosses).pvalue if tosses else 1.0
    assert reviews.mcnemar(first, second) == pytest.approx(expected)


def test_mcnemar_refuses_other_tensors():
    right = torch.tensor([True, False])
    with pytest.raises(ValueError, match="first and second are"):
        reviews.mcnemar(right, right[:1])
    with pytest.raises(ValueError, match="int64"):
        reviews.mcnemar(right, right.long())


def test_soft_labels_are_shares_that_agree_with_the_labels():
    for task in (reviews.sentiment(), reviews.kinder()):
        part = task.validation
        assert torch.equal(part.shares > 0.5, part.labels == 1)
        hard = next(iter(part.batches(8, seed=3)))
        soft = next(iter(part.batches(8, seed=3, soft=True)))
        assert torch.equal(hard[0], soft[0]) and torch.equal(hard[3] == 1, soft[3] > 0.5)
        assert ((soft[3] > 0) & (soft[3] < 1)).all()


def test_soft_review_loss_is_least_at_the_share():
    batch = (torch.zeros(1, 1), None, None, torch.tensor([0.7]))

    def loss(share):
        logits = torch.tensor([[1 - share, share]]).log()
        return reviews.soft_review_loss(lambda *tokens: logits, batch)

    assert loss(0.7) < loss(0.6) and loss(0.7) < loss(0.8)
