"""Chapter 02's stored claims: activations, poolings and batch sizes, each over several seeds.

All train the network of the usual tutorial program, or a sister of it, on 20,000 digits, and are
scored on 10,000 other *training* digits: some compare learning rates, and test sets choose nothing.
"""

import contextlib
import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_lib import classics, data, recipes, runtime, train
from course_lib.teaching.experiments.experiment import Experiment

TRAINED_ON, HELD_OUT = slice(0, 20_000), slice(50_000, 60_000)  # of MNIST's training digits
PARTS = 10  # into which a run is cut to report its loss


class Scale(nn.Module):
    """Multiplies by a fixed number; any shape."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def scaled_network(
    activation: str, shrink: str, scales: Sequence[float] = (1.0, 1.0)
) -> classics.NotesCNN:
    """The tutorial network, the output of each of its two poolings multiplied by a number."""
    network = classics.NotesCNN(activation=activation, shrink=shrink)
    for place, scale in zip((2, 5), scales, strict=True):
        network.layers[place] = nn.Sequential(network.layers[place], Scale(scale))
    return network


def learn(
    seed: int,
    *,
    activation: str = "relu",
    shrink: str = "stride",
    scales: Sequence[float] = (1.0, 1.0),
    optimizer: str = "sgd",
    learning_rate: float,
    steps: int,
) -> dict[str, float | list[float]]:
    """Train for `steps` batches of 128 at a constant rate.

    Returns:
        "accuracy" in percent, and "loss": its mean in each tenth of the run. A run that diverges
        keeps the loss of guessing from there on.
    """
    runtime.seed_everything(seed)
    network = scaled_network(activation, shrink, scales)
    config = train.FitConfig(
        steps=steps, optimizer=optimizer, learning_rate=learning_rate, **_settings(seed)
    )
    loss: list[float] = []
    with contextlib.suppress(train.TrainingDiverged):
        loss = train.fit(network, _digits(128, seed), recipes.classification_loss, config).loss
    loss = loss + [math.log(10)] * (steps - len(loss))
    parts = torch.tensor(loss[:steps]).chunk(PARTS)
    return {"accuracy": _accuracy(network), "loss": [part.mean().item() for part in parts]}


def learn_in_batches(
    seed: int,
    *,
    batch_size: int,
    learning_rate: float,
    epochs: int | None = None,
    seconds: float | None = None,
    digits: Sequence[int] = range(10),
) -> dict[str, float]:
    """Train for so many `epochs`, or for as many steps as this machine takes in `seconds`.

    Args:
        digits: the classes that there are; all others are left out.

    Returns:
        "accuracy" in percent, "steps", and the speed in "images_per_second".
    """
    runtime.seed_everything(seed)
    batches = _digits(batch_size, seed, digits)
    steps = len(batches) * epochs if epochs else _steps_within(seconds, batches)
    network = classics.NotesCNN(shrink="stride")
    config = train.FitConfig(
        steps=steps,
        optimizer="adam",
        learning_rate=learning_rate,
        schedule="one_cycle",
        warmup=0.25,
        **_settings(seed),
    )
    history = train.fit(network, batches, recipes.classification_loss, config)
    return {
        "accuracy": _accuracy(network, digits),
        "steps": len(history.loss),
        "images_per_second": len(history.loss) * batch_size / history.seconds,
    }


def _steps_within(seconds: float, batches: train.Batches) -> int:
    """How many steps a fresh network takes in `seconds`, by a trial of a few."""
    network, spent, trial = classics.NotesCNN(shrink="stride"), 0.0, 5
    config = train.FitConfig(steps=trial, **_settings(0))
    for _ in range(2):  # the first trial also warms the machine up
        started = time.perf_counter()
        train.fit(network, batches, recipes.classification_loss, config)
        spent = time.perf_counter() - started
    return max(1, round(seconds / (spent / trial)))


def _settings(seed: int) -> dict[str, object]:
    """Float32, so that another machine comes close to the stored numbers."""
    return {"precision": "float32", "channels_last": True, "seed": seed}


def _digits(batch_size: int, seed: int, digits: Sequence[int] = range(10)) -> train.Batches:
    images, labels = _select(TRAINED_ON, digits)
    return train.Batches(images, labels, batch_size=batch_size, seed=seed)


def _accuracy(network: nn.Module, digits: Sequence[int] = range(10)) -> float:
    """Percent of the held-out digits."""
    images, labels = _select(HELD_OUT, digits)
    return 100 * train.accuracy(train.predict(network, images, precision="float32"), labels)


def _select(part: slice, digits: Sequence[int]) -> tuple[Tensor, Tensor]:
    mnist = data.load("mnist")
    images, labels = mnist.x_train[part], mnist.y_train[part]
    chosen = torch.isin(labels, torch.tensor(list(digits)))
    return recipes.scale_pixels(images[chosen]), labels[chosen]


RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
MAX_OVER_MEAN = (1.27, 1.7)  # max pooling's output against mean pooling's; the lab measures it
BATCH_SIZES = (10, 30, 100, 300, 1000, 2000)


def _rate(batch_size: int) -> float:
    """Four times the batch halves the gradient's noise, so it bears twice the step."""
    return round(0.002 * math.sqrt(batch_size / 100), 6)


def _activations() -> dict[str, dict]:
    settings = {}
    for activation in ("relu", "sigmoid"):
        shared = {"activation": activation, "steps": 200}
        for rate in RATES:
            settings[f"{activation}, SGD {rate:g}"] = {"learning_rate": rate, **shared}
        adam = {"optimizer": "adam", "learning_rate": 0.002}
        settings[f"{activation}, Adam"] = adam | shared
    return settings


def _poolings() -> dict[str, dict]:
    smaller, larger = [1 / ratio for ratio in MAX_OVER_MEAN], list(MAX_OVER_MEAN)
    ways = {
        "max": {"shrink": "max"},
        "mean": {"shrink": "average"},
        "max, made smaller": {"shrink": "max", "scales": smaller},
        "mean, made larger": {"shrink": "average", "scales": larger},
    }
    settings = {name: {"learning_rate": 0.03, "steps": 100, **way} for name, way in ways.items()}
    for name in ("max", "mean"):
        adam = {"optimizer": "adam", "learning_rate": 0.001}
        settings[f"{name}, Adam"] = settings[name] | adam
    return settings


def _batches(**options: object) -> dict[str, dict]:
    return {
        str(size): {"batch_size": size, "learning_rate": _rate(size), **options}
        for size in BATCH_SIZES
    }


EXPERIMENTS = (
    Experiment("2.14", "ReLU against sigmoid, by learning rate", learn, _activations()),
    Experiment("2.15", "max against mean pooling, and their sizes exchanged", learn, _poolings()),
    Experiment("2.18", "batch sizes, two epochs each", learn_in_batches, _batches(epochs=2)),
    Experiment(
        "2.18_seconds", "batch sizes, three seconds each", learn_in_batches, _batches(seconds=3.0)
    ),
    Experiment(
        "2.18_two_classes",
        "batch sizes, one second each, 3s and 8s only",
        learn_in_batches,
        _batches(seconds=1.0, digits=[3, 8]),
    ),
)
