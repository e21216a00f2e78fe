"""Temperature, top-k and top-p against their definitions, and the draws against the chances."""

import math

import pytest
import torch

from course_lib.sampling import greedy, keep_top_k, keep_top_p, probabilities, sample

CHANCES = torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2])
LOGITS = CHANCES.log() + 3


def random(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_without_rules_the_chances_are_the_softmax():
    torch.testing.assert_close(probabilities(LOGITS), CHANCES)


def test_temperature_is_a_power_of_the_chances():
    for temperature in (0.3, 0.7, 2.0):
        power = CHANCES ** (1 / temperature)
        torch.testing.assert_close(
            probabilities(LOGITS, temperature=temperature), power / power.sum()
        )


@pytest.mark.parametrize("temperature", [0, 1e-4, 1e-30])
def test_temperature_to_0_is_greedy_and_finite(temperature):
    logits = random(20, 7)
    chances = probabilities(logits, temperature=temperature)
    wanted = torch.nn.functional.one_hot(greedy(logits), 7).float()
    torch.testing.assert_close(chances, wanted)
    assert torch.equal(sample(logits, temperature=temperature), greedy(logits))


def test_top_1_is_greedy_also_between_equal_ones():
    logits = torch.cat((random(20, 7), torch.zeros(1, 7)))
    assert torch.equal(sample(logits, top_k=1), greedy(logits))
    assert torch.equal(sample(logits, temperature=0), greedy(logits))


def test_top_k_keeps_the_highest_in_their_proportions():
    chances = probabilities(LOGITS, top_k=3)
    torch.testing.assert_close(chances, torch.tensor([0, 0.4, 0, 0.25, 0.2]) / 0.85)
    torch.testing.assert_close(probabilities(LOGITS, top_k=99), CHANCES)
    assert (keep_top_k(torch.zeros(2, 6), 2).isfinite().sum(1) == 2).all()  # equal ones, too


@pytest.mark.parametrize(
    "top_p, kept", [(0.01, [1]), (0.399, [1]), (0.41, [1, 3]), (0.64, [1, 3]), (0.66, [1, 3, 4])]
)
def test_top_p_keeps_the_fewest_that_make_it_up(top_p, kept):
    finite = keep_top_p(LOGITS, top_p).isfinite().nonzero()[:, 0].tolist()
    assert sorted(finite) == sorted(kept)


def test_top_p_against_its_definition_on_random_rows():
    logits = random(50, 12, seed=1)
    chances = logits.softmax(-1)
    for top_p in (0.2, 0.5, 0.9, 0.999):
        kept = keep_top_p(logits, top_p).isfinite()
        for row, chance in zip(kept, chances, strict=True):
            enough = chance[row].sum()
            assert enough >= top_p - 1e-6  # they make it up,
            assert enough - chance[row].min() < top_p + 1e-6  # none could be spared,
            assert (
                row.all() or chance[row].min() >= chance[~row].max()
            )  # and they are the likeliest


def test_the_rules_act_in_order():
    # Top-p sees what temperature and top-k have left: 0.4, 0.25 of 0.65.
    chances = probabilities(LOGITS, top_k=2, top_p=0.61)
    assert chances.tolist() == [0, 1, 0, 0, 0]
    sharper = CHANCES**2 / (CHANCES**2).sum()  # 0.4 has grown to 0.59
    assert sharper[1] > 0.55
    assert probabilities(LOGITS, temperature=0.5, top_p=0.55).count_nonzero() == 1
    assert probabilities(LOGITS, top_p=0.55).count_nonzero() == 2


def chi_square(counts, expected):
    """Pearson's statistic, and the value that it exceeds by chance once in 10,000 times."""
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    freedom = len(counts) - 1
    # Wilson and Hilferty's approximation of the chi-square quantile; 3.72 is the normal one.
    limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic, limit


RULES = [{}, {"temperature": 0.6}, {"temperature": 1.7}, {"top_k": 3}, {"top_p": 0.8}]
RULES += [{"temperature": 1.4, "top_k": 4, "top_p": 0.9}]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_draws_have_the_frequencies_of_the_definition(rules):
    count = 40_000
    chances = definition(CHANCES.tolist(), **rules)
    drawn = sample(LOGITS.expand(count, -1), torch.Generator().manual_seed(1), **rules)
    counts = torch.bincount(drawn, minlength=5).double()
    possible = torch.tensor(chances) > 0
    assert counts[~possible].sum() == 0
    statistic, limit = chi_square(counts[possible], count * torch.tensor(chances)[possible])
    assert statistic < limit
    # The test can tell: of another temperature, the same draws are out of the question.
    other = definition(CHANCES.tolist(), **rules | {"temperature": 1.1})
    if rules.get("temperature") is None:
        statistic, limit = chi_square(counts[possible], count * torch.tensor(other)[possible])
        assert statistic > limit


def definition(chances, temperature=1.0, top_k=None, top_p=1.0):
    """The three rules in plain Python."""
    power = {i: chance ** (1 / temperature) for i, chance in enumerate(chances)}
    ranked = sorted(power, key=power.get, reverse=True)[:top_k]
    total, kept, made_up = sum(power[i] for i in ranked), [], 0.0
    for i in ranked:
        if made_up >= top_p:
            break
        kept.append(i)
        made_up += power[i] / total
    total = sum(power[i] for i in kept)
    return [power[i] / total if i in kept else 0.0 for i in range(len(chances))]


def test_rows_are_drawn_apart_and_follow_the_generator():
    logits = torch.zeros(3, 200, 5)
    first = sample(logits, torch.Generator().manual_seed(0))
    assert first.shape == (3, 200) and len(first.flatten().unique()) == 5
    assert torch.equal(first, sample(logits, torch.Generator().manual_seed(0)))
    assert not torch.equal(first, sample(logits, torch.Generator().manual_seed(1)))
    assert sample(torch.zeros(5)).shape == ()


def test_half_precision_is_widened_before_it_is_summed():
    logits = random(2, 50).bfloat16()
    chances = probabilities(logits, top_p=0.9)
    assert chances.dtype is torch.float32
    torch.testing.assert_close(chances.sum(-1), torch.ones(2))


@pytest.mark.parametrize(
    "rules, message",
    [
        ({"temperature": -0.1}, "temperature is -0.1; allowed are finite numbers from 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0; allowed are whole numbers from 1"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"top_p": 0.0}, "top_p is 0.0; allowed are shares 0 < top_p <= 1"),
        ({"top_p": 1.2}, "top_p is 1.2"),
    ],
)
def test_what_cannot_be_used_is_named(rules, message):
    with pytest.raises(ValueError, match=message):
        sample(LOGITS, **rules)
