"""Chapter 08's experiments measure what their settings say, on texts kept for that."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import bert, pretraining, reviews, train
from course_lib.teaching.experiments import ch08


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setenv("COURSE_TEST", "1")


@pytest.fixture
def calls(monkeypatch):
    """All calls of `train.fit`: (model, batches, loss, config)."""
    found, fit = [], train.fit

    def keep(*arguments, **options):
        found.append(arguments)
        return fit(*arguments, **options)

    monkeypatch.setattr(train, "fit", keep)
    return found


@pytest.fixture
def tiny(monkeypatch):
    """MiniLM's vocabulary under six narrow layers."""
    config = bert.BertConfig(30522, 8, 2, 6, 8, dropout=0.1)

    def load(folder, dropout):
        return bert.Bert(replace(config, dropout=dropout)).eval()

    monkeypatch.setattr(bert.Bert, "from_pretrained", load)


def test_pretraining_hides_what_the_setting_says(calls, monkeypatch):
    monkeypatch.setattr(ch08, "HELD_OUT", 40)
    usual = ch08.pretrain(0, steps=2)
    masked = ch08.pretrain(0, steps=2, shares=[1.0, 0.0, 0.0])
    assert set(usual) == set(masked) == {"masked", "replaced", "unchanged"}
    records = [next(iter(batches)) for _, batches, _, _ in calls]
    hidden = [r.ids.gather(1, r.positions)[r.tokens >= 0] for r in records]
    assert (hidden[1] == pretraining.MASK).all() and not (hidden[0] == pretraining.MASK).all()
    assert all(model.bert.config.rotary for model, *_ in calls)
    ch08.pretrain(0, steps=2, rotary=False)
    assert not calls[2][0].bert.config.rotary


def test_words_right_counts_what_was_asked_for(monkeypatch):
    monkeypatch.setattr(ch08, "HELD_OUT", 40)
    task = ch08.small_set()
    record = pretraining.held_out(task.test, 40, shares=ch08.ALL_REPLACED)

    def knowing(ids, segments, real, positions):
        assert ids.equal(record.ids)
        return F.one_hot(record.tokens.clamp(min=0), len(task.pieces)).float(), None

    def copying(ids, segments, real, positions):
        return F.one_hot(ids.gather(1, positions), len(task.pieces)).float(), None

    assert ch08.words_right(knowing, task, ch08.ALL_REPLACED) == 1
    assert ch08.words_right(copying, task, ch08.ALL_REPLACED) < 0.05
    record = pretraining.held_out(task.test, 40, shares=ch08.ALL_UNCHANGED)
    assert ch08.words_right(copying, task, ch08.ALL_UNCHANGED) == 1


@pytest.mark.parametrize("neighbours, count", [(0.25, 8), (0.75, 24)])
def test_neighbours_are_as_many_as_the_setting_says(tiny, calls, neighbours, count):
    found = ch08.tell_neighbours(0, steps=1, neighbours=neighbours, scored=20)
    _, batches, _, _ = calls[0]
    assert next(iter(batches)).is_next.sum() == count
    assert set(found) == {"pairs", "rank", "called next"}


def test_pairs_are_in_minilms_numbers(monkeypatch):
    passages, held_out = ch08.encyclopedia()
    record = pretraining.held_out(held_out, 2, shares=ch08.ALL_UNCHANGED)
    seen = []
    ch08.pair_logits(lambda ids, *_: seen.append(ids), record)
    texts = [reviews.wordpiece().decode(row.tolist(), False) for row in seen[0]]
    assert all(text.startswith("[CLS]") and text.count("[SEP]") == 2 for text in texts)
    assert texts[0].count(" ") > 20 and "[unused" not in texts[0]


def test_scores_of_pairs():
    record = pretraining.Record(*[torch.zeros(4, 3).long()] * 5, torch.tensor([1, 0, 1, 0]))
    margins = torch.tensor([2.0, 1.0, 3.0, -1.0])  # the second is wrongly called next
    logits = torch.stack([torch.zeros(4), margins], dim=1)
    found = ch08.scores_of_pairs(lambda *_: logits, record)
    assert found == {"pairs": 75.0, "rank": 100.0, "called next": 75.0}


@pytest.mark.parametrize("frozen, moved", [(-1, 6), (3, 3), (5, 1), (6, 0)])
def test_what_is_frozen_does_not_move(tiny, calls, monkeypatch, frozen, moved):
    def fit(model, batches, loss, config):
        calls.append((model, config))
        return train.History(1, seconds=2.0)

    monkeypatch.setattr(train, "fit", fit)
    found = ch08.finetune(0, steps=5, frozen=frozen, learning_rate=0.5, optimizer="sgd")
    assert set(found) == {"accuracy", "seconds"} and found["seconds"] == 2
    model, config = calls[0]
    free = [all(p.requires_grad for p in layer.parameters()) for layer in model.bert.encoder.layers]
    assert sum(free) == moved and model.output.weight.requires_grad
    assert model.bert.word_embedding.weight.requires_grad == (frozen == -1)
    assert (config.steps, config.optimizer, config.learning_rate) == (5, "sgd", 0.5)


def test_accuracy_is_of_validation_sentences(tiny):
    part = reviews.sentiment().validation

    class Knows(nn.Module):
        """Finds the sentence and gives its label."""

        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, ids, segments, real):
            padded = F.pad(ids, (0, part.ids.shape[1] - ids.shape[1]))
            rows = (padded[:, None] == part.ids).all(-1).int().argmax(1)
            return F.one_hot(part.labels[rows], 2).float()

    assert ch08.accuracy(Knows()) == 100


def test_a_student_has_two_layers_and_its_teachers_answers(tiny, calls):
    found = ch08.distil(0, teacher_steps=1, steps=1, scored=20)
    assert set(found) == {"teacher", "labels", "answers", "from scratch"}
    sizes = [len(model.bert.encoder.layers) for model, *_ in calls]
    assert sizes == [6, 2, 2, 2]
    losses = [loss for _, _, loss, _ in calls]
    assert losses[0] is losses[1] is reviews.review_loss and losses[2] is not reviews.review_loss


def test_the_distilling_loss_is_least_for_the_teachers_own_answers():
    wanted = torch.tensor([[2.0, -1.0], [0.0, 0.5]])
    loss = ch08.learn_from(lambda ids: wanted)
    batch = (torch.zeros(2, 3), torch.tensor([0, 1]))
    student = wanted.clone().requires_grad_()
    least = loss(lambda ids: student, batch)
    (gradient,) = torch.autograd.grad(least, student)
    assert gradient.abs().max() < 1e-6
    assert loss(lambda ids: -wanted, batch) > least


def test_onnx_gives_the_same_for_other_sizes(tiny):
    model = ch08.classifier(0).eval()
    session = ch08.to_onnx(model, reviews.split_tokens(reviews.encode(["a film", "of two parts"])))
    for texts in (["one"], ["one more, which is longer", "two", "three"]):
        tokens = reviews.split_tokens(reviews.encode(texts))
        torch.testing.assert_close(
            ch08.run_onnx(session, tokens), model(*tokens).detach(), rtol=0, atol=1e-5
        )
