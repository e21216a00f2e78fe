"""Our rules against transformers' logits warpers: the same chances, exactly the same symbols."""

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from course_lib.sampling import keep_top_k, keep_top_p, probabilities, scale_by_temperature

LOGITS = 3 * torch.randn(200, 60, generator=torch.Generator().manual_seed(0))


def theirs(*warpers):
    logits = LOGITS
    for warper in warpers:
        logits = warper(None, logits)
    return logits


@pytest.mark.parametrize("temperature", [0.25, 0.8, 1.0, 2.0])
def test_temperature(temperature):
    ours = scale_by_temperature(LOGITS, temperature)
    difference = theirs(TemperatureLogitsWarper(temperature)) - ours
    # Ours are moved so that the highest is 0, which changes no probability.
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))


@pytest.mark.parametrize("top_k", [1, 2, 10, 60, 100])
def test_top_k(top_k):
    assert torch.equal(keep_top_k(LOGITS, top_k), theirs(TopKLogitsWarper(top_k)))


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.9, 0.99])
def test_top_p(top_p):
    assert torch.equal(keep_top_p(LOGITS, top_p), theirs(TopPLogitsWarper(top_p)))


def test_all_together():
    warpers = TemperatureLogitsWarper(0.7), TopKLogitsWarper(20), TopPLogitsWarper(0.9)
    ours = probabilities(LOGITS, temperature=0.7, top_k=20, top_p=0.9)
    torch.testing.assert_close(ours, theirs(*warpers).softmax(-1))
