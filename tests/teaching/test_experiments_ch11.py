"""Chapter 11's experiments measure what their settings say, on scenes kept for that."""

import pytest
import torch

from course_lib import train
from course_lib.scenes import Scenes
from course_lib.teaching.experiments import ch11
from course_lib.yolo import YOLO, YoloConfig, encode


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Three steps, on few scenes."""
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setenv("COURSE_TEST", "1")
    monkeypatch.setattr(ch11, "KNOWN", 48)
    monkeypatch.setattr(ch11, "FRESH", 24)
    cached = (ch11.fresh, ch11._trained)  # a test may put another function in their place
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """All calls of `train.fit`: (model, batches, loss, config)."""
    found, fit = [], train.fit

    def keep(*arguments, **options):
        found.append(arguments)
        return fit(*arguments, **options)

    monkeypatch.setattr(train, "fit", keep)
    return found


class Oracle(YOLO):
    """Says what is there: raw numbers whose sigmoids are the targets, sides `factor` times."""

    def __init__(self, config, factor=1.0, least=0.0):
        super().__init__(config)
        self.factor, self.least = factor, least

    def forward(self, images):
        scenes, size = ch11.fresh(), images.shape[-1]
        target = encode(scenes.boxes, scenes.labels, self.config, size, size)
        target[..., 2:4] *= self.factor
        target[..., 4].clamp_(min=self.least)
        return torch.cat([target[..., :5].logit(1e-6), 20 * target[..., 5:]], dim=-1)


def oracle(monkeypatch, **options):
    config = YoloConfig(**ch11.PAPER)
    monkeypatch.setattr(ch11, "train_yolo", lambda *_, **__: Oracle(config, **options))


def test_a_run_has_the_settings_that_were_asked_for(calls):
    ch11.score(3, steps=7, stride=8, loss="modern", cells=3, no_object=2.0)
    model, batches, _, config = calls[0]
    settings = YoloConfig(stride=8, loss="modern", cells=3, no_object=2.0)
    assert model.config == settings
    assert (config.steps, config.seed, config.precision) == (7, 3, "float32")
    images, boxes, labels = next(iter(batches))
    assert images.shape == (16, 3, 96, 96) and images.max() <= 1
    assert boxes.shape == (16, 5, 4) and labels.shape == (16, 5)


def test_what_is_scored_is_not_what_was_learned(calls):
    ch11.train_yolo(0, steps=1)
    known = calls[0][1].tensors[0]
    fresh = ch11.fresh().images
    assert len(known) == 48 and len(fresh) == 24
    assert not (known[:, None] == fresh).flatten(2).all(2).any()


def test_a_run_is_the_same_for_the_same_seed():
    found = []
    for seed in (0, 0, 1):
        ch11._trained.cache_clear()
        found.append(ch11.confidences(seed, steps=2, **ch11.PAPER))
    first, again, other = found
    assert first == again != other


def test_a_network_of_two_grids_is_trained_once(calls):
    grids = {e.claim: e for e in ch11.EXPERIMENTS}
    for claim, setting in (("11.2", "roots"), ("11.3", "0.5"), ("11.3", "1")):
        grids[claim].run(setting, seed=0)
    assert [model.config.no_object for model, *_ in calls] == [0.5, 1.0]


def test_true_boxes_have_no_error(monkeypatch):
    oracle(monkeypatch)
    found = ch11.sizes(0, steps=1)
    assert set(found) == {f"{kind}_{band}" for kind in ("iou", "side") for band in ch11.BANDS}
    for band in ch11.BANDS:
        assert found[f"iou_{band}"] == pytest.approx(1, abs=1e-3)
        assert found[f"side_{band}"] == pytest.approx(0, abs=1e-3)


def test_sides_that_are_too_short_are_measured(monkeypatch):
    oracle(monkeypatch, factor=0.8)
    found = ch11.sizes(0, steps=1)
    for band in ch11.BANDS:
        assert found[f"side_{band}"] == pytest.approx(0.2, abs=1e-3)
        assert found[f"iou_{band}"] == pytest.approx(0.64, abs=1e-3)


def test_confidences_are_those_of_the_two_kinds_of_cells(monkeypatch):
    oracle(monkeypatch, least=0.25)
    found = ch11.confidences(0, steps=1)
    assert found["full"] == pytest.approx(1, abs=1e-4) and found["sure"] == 1
    assert found["empty"] == pytest.approx(0.25, abs=1e-4)


def test_true_boxes_score_what_the_cells_can_hold(monkeypatch):
    oracle(monkeypatch)
    found = ch11.score(0, steps=1)
    assert found["object"] > 0.85 and found["map_50"] > 0.85  # less: two centres in a cell


def test_nothing_found_is_no_nan(monkeypatch):
    monkeypatch.setattr(ch11, "train_yolo", lambda *_, **__: YOLO(YoloConfig(), ch11.CHANNELS))
    scenes = ch11.fresh()
    nothing = Scenes(
        *scenes[:3], torch.zeros_like(scenes.boxes), torch.full_like(scenes.labels, -1)
    )
    monkeypatch.setattr(ch11, "fresh", lambda: nothing)
    assert ch11.score(0, steps=1) == {"map_50": 0, "map": 0, "object": 0}


def test_the_ladder_ends_at_todays_settings():
    ladder = {e.claim: e for e in ch11.EXPERIMENTS}["11.7"].settings
    first, *_, last = ladder.values()
    assert {k: first[k] for k in ch11.PAPER} == ch11.PAPER
    assert {k: last[k] for k in ch11.PAPER} == {"stride": 8, "cells": 3, "loss": "modern"}
    assert len({setting["steps"] for setting in ladder.values()}) == 1
