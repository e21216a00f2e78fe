"""Average precision against torchmetrics with pycocotools: every mean, and each class."""

import time
from collections import Counter

import pytest
import torch
from torchmetrics.detection import mean_ap

from course_lib import average_precision as ap

CLASSES = 4
MEANS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")


def scenes(count=30, most=8, seed=0, size=250.0, places=300.0, noise=6.0, decimals=None):
    """Detections and objects of `count` images: found with errors, missed, doubled, invented."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    found, objects = [], []
    for image in range(count):
        n = int(draw(()) * (most + 1))
        low = draw(n, 2) * places
        truth = torch.cat([low, low + 4 + draw(n, 2).square() * size], dim=1)
        labels = (draw(n) * CLASSES).long()
        again = torch.cat([torch.arange(n)[draw(n) < 0.8], torch.arange(n)[draw(n) < 0.4]])
        guess = truth[again] + (draw(len(again), 4) - 0.5) * noise
        guess[:, 2:] = torch.maximum(guess[:, 2:], guess[:, :2])
        named = torch.where(draw(len(again)) < 0.8, labels[again], 0)
        extra = int(draw(()) * 4)
        low = draw(extra, 2) * places
        guess = torch.cat([guess, torch.cat([low, low + draw(extra, 2) * size], dim=1)])
        named = torch.cat([named, (draw(extra) * CLASSES).long()])
        scores = draw(len(guess))
        scores = scores if decimals is None else scores.round(decimals=decimals)
        found.append((torch.full((len(guess),), image), guess, named, scores))
        objects.append((torch.full((n,), image), truth, labels))
    flat = [[torch.cat(parts) for parts in zip(*rows, strict=True)] for rows in (found, objects)]
    return ap.Detections(*flat[0]), ap.Objects(*flat[1]), count


def torchmetrics_says(found, objects, count, exact=True, average="macro"):
    """Their result; `exact`: thresholds and recalls as short decimals, not rounded to float32."""
    options = {}
    if exact:
        options["iou_thresholds"] = list(ap.COCO_THRESHOLDS)
        options["rec_thresholds"] = [i / 100 for i in range(101)]
    metric = mean_ap.MeanAveragePrecision(class_metrics=True, average=average, **options)
    metric.warn_on_many_detections = False
    predictions, targets = [], []
    for image in range(count):
        mine = found.images == image
        predictions.append({n: getattr(found, n)[mine] for n in ("boxes", "labels", "scores")})
        mine = objects.images == image
        targets.append({n: getattr(objects, n)[mine] for n in ("boxes", "labels")})
    metric.update(predictions, targets)
    return metric.compute()


def drop(items, chosen):
    return type(items)(*(tensor[chosen] for tensor in items))


def crowded():
    """More than 100 detections of one class in an image, on objects that overlap."""
    found, objects, count = scenes(count=3, most=300, size=60.0, seed=3)
    return found._replace(labels=found.labels // 3), objects, count


def ties():
    """Equal scores, equal boxes, IoUs at the thresholds, recalls of tenths."""
    found, objects, count = scenes(count=20, seed=5, decimals=1, noise=0.0)
    grid = [i._replace(boxes=(i.boxes / 16).round() * 16) for i in (found, objects)]
    return *grid, count


def no_areas():
    """A third of the boxes are points."""
    found, objects, count = scenes(seed=9)
    for items in (found, objects):
        items.boxes[::3, 2:] = items.boxes[::3, :2]
    return found, objects, count


def equal_overlaps():
    """A detection halfway between two objects, and a worse one on one of them."""
    left, right, middle = [0.0, 0, 10, 10], [4.0, 0, 14, 10], [2.0, 0, 12, 10]
    images, labels = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.int64)
    found = ap.Detections(
        images,
        torch.tensor([middle, left, middle, right]),
        labels,
        torch.tensor([0.9, 0.5, 0.8, 0.4]),
    )
    return found, ap.Objects(images, torch.tensor([left, right] * 2), labels), 2


def without(what):
    found, objects, count = scenes(seed=7)
    if what == "objects":
        return found, drop(objects, objects.images < 0), count
    if what == "detections":
        return drop(found, found.images < 0), objects, count
    if what == "a class of objects":
        return found, drop(objects, objects.labels != 2), count
    if what == "a class of detections":
        return drop(found, found.labels != 1), objects, count
    return drop(found, found.images % 3 > 0), drop(objects, objects.images % 2 > 0), count


MISSING = ["objects", "detections", "a class of objects", "a class of detections", "some images"]
CASES = {f"seed {seed}": (lambda s=seed: scenes(seed=s)) for seed in range(3)}
CASES |= {"crowded": crowded, "ties": ties, "tied scores": lambda: scenes(seed=4, decimals=1)}
CASES |= {"small ones": lambda: scenes(seed=6, size=30.0), "no areas": no_areas}
CASES["equal overlaps"] = equal_overlaps
CASES |= {f"without {what}": (lambda w=what: without(w)) for what in MISSING}


def compare(ours, theirs, tolerance):
    theirs = torch.nan if theirs == -1 else theirs.item()  # nothing to find
    assert ours == pytest.approx(theirs, abs=tolerance, nan_ok=True)


@pytest.mark.parametrize("name", CASES)
def test_every_mean_and_every_class(name):
    found, objects, count = CASES[name]()
    theirs = torchmetrics_says(found, objects, count)
    ours = ap.coco_map(found, objects, CLASSES)
    for mean in MEANS:
        compare(ours[mean], theirs[mean], 1e-6)
    by_class = ap.average_precision(found, objects, CLASSES)[0].mean(0)
    for label, value in zip(
        theirs["classes"].view(-1), theirs["map_per_class"].view(-1), strict=True
    ):
        compare(by_class[label].item(), value, 1e-6)


@pytest.mark.parametrize("name", ["seed 0", "crowded", "small ones"])
def test_means_without_classes(name):
    found, objects, count = CASES[name]()
    theirs = torchmetrics_says(found, objects, count, average="micro")
    ours = ap.coco_map(found, objects, CLASSES, class_agnostic=True)
    for mean in MEANS:
        compare(ours[mean], theirs[mean], 1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_as_torchmetrics_is_usually_called(seed):
    # By default they round recalls such as 0.3 to float32, which moves a step of the curve where a
    # class has e.g. 20 objects; with some hundred objects a class it does not matter.
    found, objects, count = scenes(count=120, most=20, seed=seed)
    theirs = torchmetrics_says(found, objects, count, exact=False)
    for mean, value in ap.coco_map(found, objects, CLASSES).items():
        compare(value, theirs[mean], 1e-3)


def test_other_areas():
    found, objects, count = scenes(seed=8)
    theirs = torchmetrics_says(found, objects, count)
    half = [items._replace(boxes=items.boxes / 2) for items in (found, objects)]
    ours = ap.coco_map(*half, CLASSES, small=16**2, large=48**2)
    for mean in MEANS:
        compare(ours[mean], theirs[mean], 1e-6)


def test_the_cases_hold_what_they_are_meant_to():
    found, objects, _ = crowded()
    pairs = Counter(zip(found.images.tolist(), found.labels.tolist(), strict=True))
    assert max(pairs.values()) > 100
    assert len(ties()[0].scores.unique()) <= 11
    assert ap.match(found, objects, CLASSES).order.numel() < len(found.labels)


def test_at_least_as_fast():
    found, objects, count = scenes(count=100)
    seconds = []
    for compute in (
        lambda: ap.coco_map(found, objects, CLASSES),
        lambda: torchmetrics_says(found, objects, count),
    ):
        started = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - started)
    assert seconds[0] < seconds[1]  # by a factor of ten or so
