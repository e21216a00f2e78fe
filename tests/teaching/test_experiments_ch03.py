"""Chapter 03's experiments train what their settings say, on images that their seed draws."""

import pytest
import torch

from course_lib import recipes, train
from course_lib.teaching.experiments import ch03

JITTER = ch03.MORE_DATA


@pytest.fixture
def trained(monkeypatch):
    """All recipes that are trained, each for no more than two steps, and nothing is scored."""
    monkeypatch.setenv("COURSE_TEST", "1")
    made, dropout, fit = [], recipes.dropout, train.fit

    def keep(**options):
        made.append((dropout(**options), options))
        return made[-1][0]

    def few_steps(model, batches, loss, config, **others):
        config = train.FitConfig(steps=2, seed=config.seed)
        return fit(model, batches, loss, config)

    monkeypatch.setattr(recipes, "dropout", keep)
    monkeypatch.setattr(train, "fit", few_steps)
    monkeypatch.setattr(ch03, "_accuracies", lambda name, models, *_: {name: float(len(models))})
    return made


@pytest.mark.parametrize("name", ["L1", "dropout2d", "3 networks, each with all three", JITTER])
def test_a_setting_of_the_study_reaches_its_training(trained, name):
    study = next(e for e in ch03.EXPERIMENTS if e.claim == "3.7")
    setting = study.settings[name]
    measured = study.run(name, seed=1)
    wanted = {key: value for key, value in setting.items() if key not in ("members", "jitter")}
    assert len(trained) == setting.get("members", 1) == measured["test"]
    for recipe, options in trained:
        assert wanted.items() <= options.items() and options["draw"] == 1
        assert (recipe.batches.transform is ch03._jitter) == (name == JITTER)


def test_members_share_their_images_and_nothing_else(trained):
    ch03.regularise(2, members=3, p=0.0)
    (first, second, third), seeds = zip(*[(r, o["seed"]) for r, o in trained], strict=True)
    assert len(set(seeds)) == 3
    assert first.batches.tensors[0].equal(third.batches.tensors[0])
    weights = [recipe.model.classify.weight for recipe in (first, second, third)]
    assert not weights[0].equal(weights[1]) and not weights[1].equal(weights[2])


def test_patience_stops_on_the_held_out_images(trained, monkeypatch):
    calls = []

    def fit(model, batches, loss, config, validate=None, **_):
        calls.append((config, validate))
        return train.History(config.steps, loss=[0.0] * 7)

    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(train, "predict", lambda model, images: images.flatten(1)[:, :10])
    assert ch03.regularise(0, p=0.0, patience=4)["steps"] == 7
    config, validate = calls[0]
    _, (images, labels) = recipes.few_clothes(0, 1500)
    expected = train.accuracy(images.flatten(1)[:, :10], labels)
    assert config.patience == 4 and config.validate_every == ch03.LOOK_EVERY // 2
    assert validate(None) == {"accuracy": expected}


def test_jitter_shifts_and_mirrors_and_keeps_the_labels():
    images, labels = torch.zeros(200, 1, 28, 28), torch.arange(200)
    images[:, :, 14, 6] = 1.0  # one pixel, left of the middle
    moved, same = ch03._jitter((images, labels), torch.Generator().manual_seed(0))
    assert same.equal(labels) and not moved.equal(images)
    columns = moved.amax(dim=2)[:, 0].argmax(dim=1)  # (200,)
    left, right = columns < 14, columns >= 14
    assert 60 < right.sum() < 140  # about half are mirrored
    assert columns[left].min() >= 4 and columns[left].max() <= 8
    assert columns[right].min() >= 19 and columns[right].max() <= 23
