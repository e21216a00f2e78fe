"""A training run to be killed: usage killed_run.py CHECKPOINT WEIGHTS.

It trains a net with dropout and batch norm on noisy batches, saving every third step, and writes
the final weights.
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn

from course_lib import checkpoints
from course_lib.train import Batches, FitConfig, accuracy, fit


def noisy(batch, generator):
    images, labels = batch
    return images + 0.1 * torch.randn(images.shape, generator=generator), labels


def main(checkpoint, result):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = torch.randn(300, 1, 12, 12), torch.randint(0, 5, (300,))
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(800, 5),
    )  # fmt: skip
    config = FitConfig(
        steps=400,
        optimizer="adamw",
        weight_decay=0.1,
        schedule="one_cycle",
        warmup=0.2,
        checkpoint_every=3,
        validate_every=20,
    )
    history = fit(
        model,
        Batches(images, labels, batch_size=32, transform=noisy),
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        config,
        validate=lambda model: {"accuracy": accuracy(model(images), labels)},
        checkpoint=checkpoint,
    )
    state = {"weights": model.state_dict(), "loss": history.loss, "validation": history.validation}
    checkpoints.save(result, state)


if __name__ == "__main__":
    main(*sys.argv[1:])
