"""Chapter 05's stored grids: depth with and without shortcuts, and learning rates by batch size.

All train narrow residual networks on Fashion-MNIST's *training* images, and are scored on others
of them that were held out: some choose a learning rate, and test sets choose nothing.
"""

import contextlib
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import recipes, resnet, runtime, train
from course_lib.teaching.experiments.experiment import Experiment

IMAGES, FEW = 20_000, 5_000  # to train on: for the study of depth, and for the others
PARTS = 20  # into which a run is cut to report its loss
SHOWN = 4_000  # training images that a network is scored on


def depth(
    seed: int, *, layers: int, shortcut: str, steps: int, channels: int, **changes
) -> dict[str, float | list[float]]:
    """Train `resnet.deep_resnet`, whose stem halves the image, with SGD in batches of 64.

    Args:
        channels: of the first stage; the two others have twice and four times as many.
        changes: other values for the `FitConfig`.

    Returns:
        In percent "train_accuracy" and "test_accuracy", the second on held-out images; and "loss",
        its mean in each twentieth of the run.
    """
    widths = (channels, 2 * channels, 4 * channels)
    runtime.seed_everything(seed)
    network = resnet.deep_resnet(layers, widths, shortcut, pool=True)
    chosen, held_out = recipes.few_clothes(seed, IMAGES)
    batches = train.Batches(*chosen, batch_size=64, seed=seed)
    config = fit_config(seed, steps, **changes)
    loss = train.fit(network, batches, recipes.classification_loss, config).loss
    return {
        "train_accuracy": _score(network, *(tensor[:SHOWN] for tensor in chosen))["accuracy"],
        "test_accuracy": _score(network, *held_out)["accuracy"],
        "loss": [part.mean().item() for part in torch.tensor(loss).chunk(PARTS)],
    }


def rate_and_size(
    seed: int, *, batch_size: int, learning_rate: float, epochs: int = 2
) -> dict[str, float]:
    """Train the network of 8 layers with SGD; "accuracy" (%) and "loss" on held-out images.

    A run that diverges gets what guessing would.
    """
    batches, held_out = _few(seed, batch_size)
    config = fit_config(seed, epochs * len(batches), learning_rate=learning_rate)
    network = small_network(seed)
    with contextlib.suppress(train.TrainingDiverged):
        train.fit(network, batches, recipes.classification_loss, config)
        return _score(network, *held_out)
    return {"accuracy": 10.0, "loss": math.log(10)}


def size_and_epochs(seed: int, *, batch_size: int, epochs: int) -> dict[str, float]:
    """Train the network of 8 layers with AdamW for some epochs of 5,000 images.

    Returns:
        "accuracy" (%) and "loss" on held-out images, and the speed in "images_per_second".
    """
    batches, held_out = _few(seed, batch_size)
    config = fit_config(
        seed,
        epochs * len(batches),
        optimizer="adamw",
        # Four times the batch halves the gradient's noise, so it bears twice the step.
        learning_rate=round(0.004 * math.sqrt(batch_size / 64), 6),
        schedule="one_cycle",
        warmup=0.25,
    )
    network = small_network(seed)
    history = train.fit(network, batches, recipes.classification_loss, config)
    speed = len(history.loss) * batch_size / history.seconds
    return {**_score(network, *held_out), "images_per_second": speed}


def fit_config(seed: int, steps: int, **changes) -> train.FitConfig:
    """SGD with momentum, if nothing else is said, its rate warmed up and let down by a cosine; in
    float32, so that another machine comes close to the stored numbers."""
    shared = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "warmup": 0.1}
    kept = {"precision": "float32", "channels_last": True, "seed": seed, "steps": steps}
    return train.FitConfig(**shared | kept | changes)


def best_rate(rates: Sequence[float], losses: Tensor) -> Tensor:
    """Where each row of losses, (seeds, rates), is lowest: (seeds,).

    Between the rates, by a parabola over their logarithms through the lowest loss and its two
    neighbours; a minimum at the end of the row is taken as it is.
    """
    places = torch.tensor(rates, dtype=torch.float64).log()
    found = []
    for row in losses.double():
        low = int(row.argmin())
        if 0 < low < len(rates) - 1:
            (x0, x1, x2), (y0, y1, y2) = places[low - 1 : low + 2], row[low - 1 : low + 2]
            left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)  # slopes, <= 0 and >= 0
            curve = (right - left) / (x2 - x0)
            found.append((x0 + x1) / 2 - left / (2 * curve) if curve > 0 else x1)
        else:
            found.append(places[low])
    return torch.stack(found).exp()


def small_network(seed: int) -> resnet.SmallResNet:
    """Eight layers, of 8, 16 and 32 channels: (N, 1, 28, 28) -> logits (N, 10)."""
    runtime.seed_everything(seed)
    return resnet.deep_resnet(8, (8, 16, 32), pool=True)


def _few(seed: int, batch_size: int) -> tuple[train.Batches, tuple[Tensor, Tensor]]:
    chosen, held_out = recipes.few_clothes(seed, FEW)
    return train.Batches(*chosen, batch_size=batch_size, seed=seed), held_out


def _score(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    logits = train.predict(network, images, precision="float32")
    loss = F.cross_entropy(logits, labels).item()
    return {"accuracy": 100 * train.accuracy(logits, labels), "loss": loss}


DEPTHS = (8, 20, 44)
KINDS = {"plain": "none", "residual": "padding"}
BATCH_SIZES, RATES = (16, 64, 256), (0.01, 0.03, 0.1, 0.3, 1.0)  # of 5.6
SIZES, EPOCHS = (16, 64, 256, 1024), (1, 2, 4)  # of 5.7


def _depths(layers: Sequence[int], kinds: Sequence[str], steps: int) -> dict[str, dict]:
    shared = {"steps": steps, "channels": 8}
    return {
        f"{count} {kind}": {"layers": count, "shortcut": KINDS[kind], **shared}
        for count in layers
        for kind in kinds
    }


def _by_size(sizes: Sequence[int], name: str, values: Sequence[float]) -> dict[str, dict]:
    return {
        f"{size}, {value:g}": {"batch_size": size, name: value}
        for size in sizes
        for value in values
    }


EXPERIMENTS = (
    Experiment(
        "5.2",
        "plain and residual networks of 8, 20 and 44 layers",
        depth,
        _depths(DEPTHS, tuple(KINDS), steps=400),
        seeds=3,
    ),
    Experiment(
        "5.2_longer",
        "plain networks of 8 and 20 layers, three times as long",
        depth,
        _depths(DEPTHS[:2], ("plain",), steps=1200),
        seeds=3,
    ),
    Experiment(
        "5.6",
        "learning rates by batch size, two epochs each",
        rate_and_size,
        _by_size(BATCH_SIZES, "learning_rate", RATES),
        seeds=3,
    ),
    Experiment(
        "5.7",
        "batch sizes, by the number of epochs",
        size_and_epochs,
        _by_size(SIZES, "epochs", EPOCHS),
        seeds=3,
    ),
)
