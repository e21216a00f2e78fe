"""Each chapter's training run, once: its notebook and the command line use the same.

`python -m course_lib train digits` runs one; under `torchrun -m course_lib train digits` several
processes share it.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import augment, checkpoints, cnn, data, distributed, runtime, train


@dataclass(frozen=True)
class Recipe:
    """A model with all that its training needs; `test` measures it on official test data."""

    model: nn.Module
    batches: train.Batches
    loss: train.Loss
    config: train.FitConfig
    test: Callable[[nn.Module], dict[str, float]]

    def fit(self, **options) -> train.History:
        """Train the model; `options` are those of `train.fit`."""
        return train.fit(self.model, self.batches, self.loss, self.config, **options)


def digits(*, seed: int = 0, batch_size: int = 256, **changes) -> Recipe:
    """Chapter 00: a small convolutional network reads MNIST digits that are turned and shifted.

    Args:
        seed: of the weights, the order of the images and their augmentation.
        changes: other values for the `FitConfig`, e.g. `steps=2000`.
    """
    runtime.seed_everything(seed)
    mnist = data.load("mnist")
    config = train.FitConfig(
        steps=240,
        learning_rate=0.015,
        weight_decay=0.01,
        schedule="one_cycle",
        warmup=0.25,
        channels_last=True,
        seed=seed,
    )
    return Recipe(
        model=cnn.DigitNet(),
        batches=train.Batches(
            mnist.x_train,
            mnist.y_train,
            batch_size=batch_size,
            seed=seed,
            transform=_jitter_digits,
        ),
        loss=classification_loss,
        config=replace(config, **changes),
        test=lambda model: _test_accuracy(model, mnist),
    )


RECIPES = {"digits": digits}


def scale_pixels(images: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float32 0 .. 1, same shape."""
    return images.float() / 255


def classification_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross entropy of `model(inputs)` (N, classes) against labels (N,)."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels)


def main(argv: list[str]) -> int:
    """Train by name from the command line, print the test result, save the weights if asked."""
    parser = argparse.ArgumentParser(prog="python -m course_lib train", description=main.__doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--steps", type=int, help="instead of the recipe's own number")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--precision", choices=["auto", *runtime.PRECISIONS])
    parser.add_argument("--compile", action="store_true", default=None)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--checkpoint", help="file to save to, and to go on from if it exists")
    parser.add_argument("--save", help="file for the trained weights")
    options = {name: v for name, v in vars(parser.parse_args(argv)).items() if v is not None}
    name, checkpoint, save = (options.pop(key, None) for key in ("recipe", "checkpoint", "save"))
    try:
        recipe = RECIPES[name](**options)
        history = recipe.fit(checkpoint=checkpoint)
    except (ValueError, data.DataError, checkpoints.CheckpointError) as error:
        parser.error(str(error))
    if distributed.is_first_process():
        _print_results(recipe, history)
        if save:
            checkpoints.save(Path(save), recipe.model.state_dict())
    return 0


def _print_results(recipe: Recipe, history: train.History) -> None:
    print(f"{len(history.loss)} steps in {history.seconds:.1f} s of training")
    for name, value in recipe.test(recipe.model).items():
        print(f"test {name}: {100 * value:.2f} %")


def _jitter_digits(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Handwriting leans, drifts and varies in size, and so should the training digits."""
    images, labels = batch
    images = augment.random_affine(
        scale_pixels(images), generator, degrees=12, shift=1.5, scale=0.12, shear=8
    )
    return images, labels


def _test_accuracy(model: nn.Module, images: data.Images) -> dict[str, float]:
    logits = train.predict(model, scale_pixels(images.x_test))
    return {"accuracy": train.accuracy(logits, images.y_test)}
