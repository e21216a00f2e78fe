"""Chapter 04's stored grids: what batch norm makes possible, and what it is not.

All networks train on the first 55,000 training images of Fashion-MNIST and are looked at on the
last 1,000 of them; the test images take no part.
"""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib import data, recipes, runtime, train
from course_lib.teaching.experiments.experiment import Experiment

LOOK_EVERY, STEPS = 20, 300
LOOKS = range(LOOK_EVERY, STEPS + 1, LOOK_EVERY)
HELD_OUT = 1000  # images, the last of the training images
LOSS_LIMIT = 10.0  # a larger loss, or none at all, counts as so much
RATES = (0.01, 0.03, 0.1, 0.2, 0.5, 1.0, 3.0, 10.0)
HIGH = 3.0  # a rate at which only one of the two learns


class DeepCNN(nn.Module):
    """Four 3x3 convolutions, each with or without a norm: (N, 1, 28, 28) -> logits (N, 10).

    Their weights begin as He et al. (2015) advise for ReLU, the best that is known without norms.
    """

    def __init__(self, norm: Callable[[int], nn.Module] | None, widths=(8, 16, 16, 16)):
        super().__init__()
        layers, inputs = [], 1
        for place, outputs in enumerate(widths):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, *([nn.MaxPool2d(2)] if place < 2 else [])]
            layers += [norm(outputs)] if norm else []
            layers, inputs = [*layers, nn.ReLU()], outputs
        self.features = nn.Sequential(*layers)  # -> (N, C, 7, 7)
        self.classify = nn.Linear(inputs, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images).mean(dim=(2, 3)))  # (N, C) -> (N, 10)


def learning_rate(seed: int, *, norm: bool, rate: float) -> dict[str, float | list[float]]:
    """Plain SGD without momentum, one cycle up to `rate`, with and without batch norm.

    Returns:
        Lists with an entry for every `LOOK_EVERY` steps: "loss", the mean training loss over them,
        and "held_out", the accuracy (%) after them; and "trained", that after the last. A run that
        diverges has the loss `LOSS_LIMIT` and 10 % right from there on.
    """
    runtime.seed_everything(seed)
    model = DeepCNN(nn.BatchNorm2d if norm else None)
    config = train.FitConfig(
        steps=STEPS,
        optimizer="sgd",
        momentum=0.0,
        learning_rate=rate,
        schedule="one_cycle",
        warmup=0.25,
        validate_every=LOOK_EVERY,
        precision="float32",
        channels_last=True,
        seed=seed,
    )
    losses, looks = fit_and_look(model, config)
    return {"loss": losses, "held_out": looks, "trained": looks[-1]}


def setting(norm: bool, rate: float) -> str:
    """The name of a setting of the grid `learning_rate`."""
    return f"{'with' if norm else 'without'}, {rate:g}"


def fit_and_look(model: nn.Module, config: train.FitConfig) -> tuple[list[float], list[float]]:
    """Train on the first 55,000 images; losses and accuracies (%) as in `learning_rate`."""
    clothes = data.load("fashion_mnist")
    images, labels = recipes.scale_pixels(clothes.x_train), clothes.y_train
    batches = train.Batches(images[:55_000], labels[:55_000], batch_size=64, seed=config.seed)
    losses: list[float] = []
    looks: list[float] = []

    def look(model: nn.Module) -> dict[str, float]:
        logits = train.predict(model, images[-HELD_OUT:], precision="float32")
        # Where the logits are NaN, every class is as likely as any other.
        right = train.accuracy(logits, labels[-HELD_OUT:]) if logits.isfinite().all() else 0.1
        looks.append(100 * right)
        return {"accuracy": right}

    def keep(history: train.History) -> None:
        losses[:] = history.loss

    loss = recipes.classification_loss
    with contextlib.suppress(train.TrainingDiverged):
        train.fit(model, batches, loss, config, validate=look, callbacks=[keep])
    count = config.steps // LOOK_EVERY
    losses += [LOSS_LIMIT] * (config.steps - len(losses))
    looks += [10.0] * (count - len(looks))
    capped = torch.tensor(losses).clamp(max=LOSS_LIMIT).view(count, LOOK_EVERY)
    return capped.mean(dim=1).tolist(), looks[:count]


EXPERIMENTS = (
    Experiment(
        claim="learning_rate",
        title="learning rates with and without batch norm",
        measure=learning_rate,
        settings={
            setting(norm, rate): {"norm": norm, "rate": rate}
            for rate in RATES
            for norm in (True, False)
        },
        seeds=3,
    ),
)
