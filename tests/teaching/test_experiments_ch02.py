"""Chapter 02's experiments measure what their settings say, on digits kept for that."""

import math

import pytest
import torch

from course_lib import data, train
from course_lib.teaching import experiments
from course_lib.teaching.experiments import ch02


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setenv("COURSE_TEST", "1")


def test_scales_multiply_behind_each_pooling():
    torch.manual_seed(0)
    plain = ch02.scaled_network("relu", "max")
    scaled = ch02.scaled_network("relu", "max", (2.0, 3.0))
    for ours, theirs in zip(scaled.parameters(), plain.parameters(), strict=True):
        ours.data.copy_(theirs)
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(scaled.layers[:3](x), 2 * plain.layers[:3](x))
    behind = plain.layers[3:6](2 * plain.layers[:3](x))
    torch.testing.assert_close(scaled.layers[:6](x), 3 * behind)


def test_scores_come_from_digits_that_nothing_is_trained_on(monkeypatch):
    assert ch02.TRAINED_ON.stop <= ch02.HELD_OUT.start
    images, labels = ch02._select(ch02.HELD_OUT, [3, 8])
    mnist = data.load("mnist")
    assert set(labels.tolist()) == {3, 8} and len(labels) < 2500
    first = (mnist.y_train[50_000:] == labels[0]).nonzero()[0].item() + 50_000
    torch.testing.assert_close(images[0], mnist.x_train[first].float() / 255)
    trained = ch02._digits(128, 0, [3, 8]).tensors
    assert set(trained[1].tolist()) == {3, 8} and trained[0].max() <= 1


def test_a_run_is_the_same_for_the_same_seed():
    setting = {"activation": "relu", "learning_rate": 0.1, "steps": 20}
    first, again, other = (ch02.learn(seed, **setting) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first["loss"]) == ch02.PARTS and 0 <= first["accuracy"] <= 100


def test_a_run_that_diverges_keeps_the_loss_of_guessing(monkeypatch):
    def diverge(*_):
        raise train.TrainingDiverged

    monkeypatch.setattr(train, "fit", diverge)
    assert ch02.learn(0, learning_rate=1.0, steps=20)["loss"] == pytest.approx([math.log(10)] * 10)


def test_steps_follow_from_epochs_or_from_seconds(monkeypatch):
    config = []
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda m, b, lo, c: config.append(c) or fit(m, b, lo, c))
    measured = ch02.learn_in_batches(0, batch_size=1000, learning_rate=0.001, epochs=2)
    assert config[-1].steps == 40 and measured["images_per_second"] > 0
    ch02.learn_in_batches(0, batch_size=100, learning_rate=0.001, seconds=0.5)
    short = config[-1].steps
    ch02.learn_in_batches(0, batch_size=100, learning_rate=0.001, seconds=50)
    assert config[-1].steps > 5 * short >= 5


def test_a_larger_batch_takes_larger_steps_and_sigmoid_gets_the_rates_of_relu():
    rates = [s["learning_rate"] for s in experiments.find("2.18").settings.values()]
    assert rates == sorted(rates) and rates[4] == pytest.approx(rates[0] * 10, rel=1e-3)
    settings = experiments.find("2.14").settings
    of_kind = [
        [{**s, "activation": ""} for s in settings.values() if s["activation"] == kind]
        for kind in ("relu", "sigmoid")
    ]
    assert of_kind[0] == of_kind[1]
