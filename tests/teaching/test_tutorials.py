"""The usual program of chapter 07's lab does what it says, and equals its mended form."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.seq2seq import translation_loss
from course_lib.teaching import tutorials
from course_lib.text import PAD, START

SOURCE = torch.tensor([[5, 6, 7, PAD, PAD]])
TARGET = torch.tensor([[START, 4, 6, 2, PAD, PAD]])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tutorials.TutorialTranslator(9, 8, hidden=6).double()


def test_token_by_token_equals_one_call_with_padding_and_start_twice(model):
    losses = [
        tutorials.loss_by_token(model, SOURCE[0], TARGET[0]),
        tutorials.loss_with_padding(model, (SOURCE, tutorials.start_twice(TARGET))),
    ]
    assert torch.allclose(*losses)
    gradients = [torch.autograd.grad(loss, [*model.parameters()]) for loss in losses]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_logits_depend_on_the_source_and_on_earlier_words_only(model):
    logits = model(SOURCE, TARGET)
    changed = TARGET.clone()
    changed[0, 3] = 7
    assert logits.shape == (1, 6, 8)
    assert model(SOURCE, changed)[:, :3].equal(logits[:, :3])
    assert not torch.allclose(model(SOURCE, changed)[:, 3:], logits[:, 3:])
    assert not torch.allclose(model(SOURCE.flip(1), TARGET), logits)


def test_start_twice_puts_one_more_in_front():
    assert tutorials.start_twice(TARGET).tolist() == [[START, START, 4, 6, 2, PAD, PAD]]


def test_padding_counts_in_one_loss_and_not_in_the_other(model):
    logits = model(SOURCE, TARGET[:, :-1])[0]
    each = F.cross_entropy(logits, TARGET[0, 1:], reduction="none")  # (5,), two are padding
    assert torch.allclose(tutorials.loss_with_padding(model, (SOURCE, TARGET)), each.mean())
    assert torch.allclose(translation_loss(model, (SOURCE, TARGET)), each[:3].mean())
