"""Chapter 11's stored grids: roots of sizes, the weight of empty cells, paper against today.

All train small grid detectors on photo scenes of the *training* cut-outs and photos, and are scored
on other scenes of the same: the test scenes choose nothing and settle nothing.
"""

from functools import cache

import torch
from torch import Tensor

from course_lib import boxes as box_ops
from course_lib import recipes, runtime, train
from course_lib.recipes.scenes import LARGE, SMALL, training_scenes
from course_lib.scenes import SceneMaker, Scenes
from course_lib.teaching.experiments.experiment import Experiment
from course_lib.yolo import (
    YOLO,
    YoloConfig,
    activate,
    cell_boxes,
    detect,
    encode,
    yolo_loss,
)

KNOWN, FRESH = 3_000, 300  # scenes to train on, and to be scored on
CHANNELS = (16, 24, 32, 48)
BANDS = {"small": (0, SMALL), "medium": (SMALL, LARGE), "large": (LARGE, float("inf"))}


@cache
def fresh() -> Scenes:
    """Scenes that no network learns from, of the same cut-outs and photos."""
    return SceneMaker("train").draw(FRESH, seed=1)


def train_yolo(seed: int, *, steps: int, **settings: object) -> YOLO:
    """A small detector of the `YoloConfig` that `settings` describe."""
    return _trained(seed, steps, YoloConfig(**settings))


@cache
def _trained(seed: int, steps: int, config: YoloConfig) -> YOLO:
    """Kept, since one network stands in two grids: the lab trains it once for both."""
    scenes = training_scenes(KNOWN)
    runtime.seed_everything(seed)
    model = YOLO(config, CHANNELS)
    batches = train.Batches(
        *(scenes.images, scenes.boxes, scenes.labels),
        batch_size=16,
        seed=seed,
        transform=lambda batch, _: (recipes.scale_pixels(batch[0]), *batch[1:]),
    )
    shared = {"schedule": "one_cycle", "warmup": 0.1, "weight_decay": 0.1, "channels_last": True}
    # In float32, so that another machine comes close to the stored numbers.
    fit = train.FitConfig(steps, "muon", 0.02, precision="float32", seed=seed, **shared)
    train.fit(model, batches, yolo_loss, fit)
    return model


@torch.no_grad()
def said_and_wanted(model: YOLO) -> tuple[Tensor, Tensor]:
    """What the cells say of the fresh scenes, and what they should say, as `grids.encode`."""
    scenes, config = fresh(), model.config
    size = scenes.images.shape[-1]
    said = activate(model(recipes.scale_pixels(scenes.images)), config)
    return said, encode(scenes.boxes, scenes.labels, config, size, size)


def sizes(seed: int, *, steps: int, **settings: object) -> dict[str, float]:
    """Train, and look at the boxes of the cells that hold an object.

    Returns:
        By the objects' areas, e.g. for small ones: "iou_small", and "side_small", the error of
        width and height as a share of the true one, the mean of both.
    """
    model = train_yolo(seed, steps=steps, **settings)
    said, wanted = said_and_wanted(model)
    real = wanted[..., 4] > 0.5  # (N, K, K)
    boxes, truth = (cell_boxes(grid, model.config)[real][:, 0] for grid in (said, wanted))
    overlap, area = box_ops.iou(boxes, truth), box_ops.area(truth)  # (n,)
    said_sides, sides = (box_ops.to_centres(b)[:, 2:] for b in (boxes, truth))
    error = ((said_sides - sides).abs() / sides).mean(1)  # (n,)
    found = {}
    for name, (low, high) in BANDS.items():
        chosen = (area >= low) & (area < high)
        found[f"iou_{name}"] = overlap[chosen].mean().item()
        found[f"side_{name}"] = error[chosen].mean().item()
    return found


def confidences(seed: int, *, steps: int, **settings: object) -> dict[str, float]:
    """Train, and look at the confidence of cells with an object and without.

    Returns:
        "map_50" of what is found; "full" and "empty", the mean confidence of such cells; and
        "sure", the share of the full cells that are above 0.5.
    """
    model = train_yolo(seed, steps=steps, **settings)
    said, wanted = said_and_wanted(model)
    real, confidence = wanted[..., 4] > 0.5, said[..., 4]  # (N, K, K)
    return {
        "map_50": _scores(model)["mAP@0.5"],
        "full": confidence[real].mean().item(),
        "empty": confidence[~real].mean().item(),
        "sure": (confidence[real] > 0.5).float().mean().item(),
    }


def score(seed: int, *, steps: int, **settings: object) -> dict[str, float]:
    """Train; "map_50", "map" over COCO's thresholds and "object", places alone, from 0 to 1."""
    scores = _scores(train_yolo(seed, steps=steps, **settings))
    return {"map_50": scores["mAP@0.5"], "map": scores["mAP"], "object": scores["object AP"]}


def _scores(model: YOLO) -> dict[str, float]:
    scores = recipes.detection_scores(model, detect, fresh())
    return {name: 0.0 if value != value else value for name, value in scores.items()}  # no NaN


STEPS = 250
WEIGHTS = (0.02, 0.5, 1.0, 5.0)  # of empty cells
PAPER = {"stride": 16, "cells": 1, "loss": "squared"}
LADDER = {
    "as in the paper": {},
    "smaller cells": {"stride": 8},
    "other losses, too": {"stride": 8, "loss": "modern"},
    "three cells, too": {"stride": 8, "loss": "modern", "cells": 3},
}

EXPERIMENTS = (
    Experiment(
        "11.2",
        "boxes learned by the roots of their sides, or by the sides",
        sizes,
        {
            name: {**PAPER, "roots": roots, "steps": STEPS}
            for name, roots in (("roots", True), ("sides", False))
        },
        seeds=3,
    ),
    Experiment(
        "11.3",
        "weights of the confidence of empty cells",
        confidences,
        {f"{weight:g}": {**PAPER, "no_object": weight, "steps": STEPS} for weight in WEIGHTS},
        seeds=3,
    ),
    Experiment(
        "11.7",
        "from the paper's settings to today's",
        score,
        {name: {**PAPER, **changes, "steps": STEPS} for name, changes in LADDER.items()},
        seeds=3,
    ),
)
