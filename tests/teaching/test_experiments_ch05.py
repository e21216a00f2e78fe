"""Chapter 05's experiments measure what their settings say, on images kept for that."""

import math

import pytest
import torch

from course_lib import recipes, resnet, train
from course_lib.teaching import experiments
from course_lib.teaching.experiments import ch05


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setenv("COURSE_TEST", "1")


@pytest.fixture
def few(monkeypatch):
    """Few images, and all calls of `train.fit` kept: (network, batches, config)."""
    monkeypatch.setattr(ch05, "IMAGES", 300)
    monkeypatch.setattr(ch05, "FEW", 300)
    whole, calls, fit = recipes.few_clothes, [], train.fit

    def few_clothes(draw, count):
        chosen, held_out = whole(draw, count)
        return chosen, tuple(tensor[:100] for tensor in held_out)

    def keep(network, batches, loss, config):
        calls.append((network, batches, config))
        return fit(network, batches, loss, config)

    monkeypatch.setattr(recipes, "few_clothes", few_clothes)
    monkeypatch.setattr(train, "fit", keep)
    return calls


@pytest.mark.parametrize(("shortcut", "kinds"), [("none", set()), ("padding", {"PadChannels"})])
def test_depth_trains_the_network_of_its_setting(few, shortcut, kinds):
    ch05.depth(0, layers=14, shortcut=shortcut, steps=60, channels=4)
    network, batches, config = few[0]
    blocks = [module for module in network.modules() if isinstance(module, resnet.Block)]
    assert len(blocks) == 6 and network.classify.in_features == 16
    found = {type(block.downsample).__name__ for block in blocks}
    assert found - {"Identity", "NoneType"} == kinds
    assert ("Identity" in found) == (shortcut == "padding")
    assert (config.steps, config.learning_rate, batches.batch_size) == (60, 0.1, 64)


def test_a_run_is_the_same_for_the_same_seed(few):
    setting = {"layers": 8, "shortcut": "padding", "steps": 3, "channels": 4}
    first, again, other = (ch05.depth(seed, **setting) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first["loss"]) == 3


def test_the_loss_comes_in_twenty_parts_of_the_run(few, monkeypatch):
    loss = [float(step // 5) for step in range(100)]
    monkeypatch.setattr(train, "fit", lambda *_: train.History(100, loss=loss))
    found = ch05.depth(0, layers=8, shortcut="none", steps=100, channels=4)["loss"]
    assert found == pytest.approx(range(20))


def test_training_and_test_accuracy_are_of_the_right_images(few, monkeypatch):
    monkeypatch.setattr(ch05, "_score", lambda _, images, labels: {"accuracy": images})
    measured = ch05.depth(0, layers=8, shortcut="none", steps=3, channels=4)
    chosen, held_out = recipes.few_clothes(0, 300)
    assert measured["train_accuracy"].equal(chosen[0])
    assert measured["test_accuracy"].equal(held_out[0])


def test_a_rate_and_a_size_are_used_for_whole_epochs(few):
    measured = ch05.rate_and_size(1, batch_size=64, learning_rate=0.3, epochs=2)
    _, batches, config = few[0]
    assert (config.steps, config.learning_rate, batches.batch_size) == (10, 0.3, 64)
    assert config.optimizer == "sgd" and batches.seed == config.seed == 1
    assert 0 <= measured["accuracy"] <= 100 and measured["loss"] > 0


def test_a_run_that_diverges_gets_what_guessing_would(few, monkeypatch):
    def diverge(*_):
        raise train.TrainingDiverged

    monkeypatch.setattr(train, "fit", diverge)
    measured = ch05.rate_and_size(0, batch_size=64, learning_rate=1.0)
    assert measured == {"accuracy": 10.0, "loss": pytest.approx(math.log(10))}


def test_epochs_and_speed_count_all_images(few, monkeypatch):
    history = train.History(20, loss=[1.0] * 20, seconds=4.0)
    configs = []
    monkeypatch.setattr(train, "fit", lambda *call: configs.append(call[3]) or history)
    measured = ch05.size_and_epochs(0, batch_size=64, epochs=4)
    assert configs[0].steps == 20
    assert measured["images_per_second"] == 20 * 64 / 4
    ch05.size_and_epochs(0, batch_size=256, epochs=4)
    assert configs[1].learning_rate == pytest.approx(2 * configs[0].learning_rate)


def test_the_best_rate_is_where_a_parabola_is_lowest():
    rates = (0.01, 0.02, 0.05, 0.1, 0.3)
    logs = torch.tensor(rates, dtype=torch.float64).log()
    valleys = torch.stack([(logs - math.log(best)) ** 2 + 3 for best in (0.03, 0.06, 0.1)])
    torch.testing.assert_close(
        ch05.best_rate(rates, valleys), torch.tensor([0.03, 0.06, 0.1], dtype=torch.float64)
    )


def test_a_best_rate_at_the_end_is_taken_as_it_is():
    slopes = torch.tensor([[1.0, 2, 3], [3, 2, 1], [2, 2, 2]])
    assert ch05.best_rate((0.1, 0.2, 0.4), slopes).tolist() == pytest.approx([0.1, 0.4, 0.1])


def test_grids_cross_what_they_compare():
    depths = experiments.find("5.2").settings
    assert len(depths) == 6
    for layers in ch05.DEPTHS:
        plain, residual = (dict(depths[f"{layers} {kind}"]) for kind in ("plain", "residual"))
        assert plain.pop("shortcut") == "none" and residual.pop("shortcut") == "padding"
        assert plain == residual and plain["layers"] == layers
    longer = experiments.find("5.2_longer").settings
    for name, setting in longer.items():
        assert setting == {**depths[name], "steps": 3 * depths[name]["steps"]}
    assert len(experiments.find("5.6").settings) == len(ch05.BATCH_SIZES) * len(ch05.RATES)
    assert len(experiments.find("5.7").settings) == len(ch05.SIZES) * len(ch05.EPOCHS)
