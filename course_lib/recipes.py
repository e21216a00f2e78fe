"""Each chapter's training run, once: its notebook and the command line use the same.

`python -m course_lib train digits` runs one; under `torchrun -m course_lib train digits` several
processes share it.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import (
    augment,
    checkpoints,
    cnn,
    data,
    distributed,
    runtime,
    tensor_ops,
    train,
)


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
    config = train.FitConfig(
        steps=200,
        learning_rate=0.015,
        weight_decay=0.01,
        schedule="one_cycle",
        warmup=0.25,
        channels_last=True,
        seed=seed,
    )
    return _on_mnist(cnn.DigitNet, _jitter_digits, replace(config, **changes), batch_size)


def softmax_regression(*, seed: int = 0, batch_size: int = 256, **changes) -> Recipe:
    """Chapter 01: one linear layer on MNIST's pixels; arguments as for `digits`."""
    config = train.FitConfig(
        steps=700,
        optimizer="sgd",  # Adam is as good, but blows up the weights of pixels that rarely see ink
        learning_rate=0.5,
        schedule="one_cycle",
        warmup=0.25,
        seed=seed,
    )
    model = tensor_ops.SoftmaxRegression
    return _on_mnist(model, _plain_digits, replace(config, **changes), batch_size)


def mlp(*, seed: int = 0, batch_size: int = 256, **changes) -> Recipe:
    """Chapter 01: a hidden layer of 256 on MNIST's pixels; arguments as for `digits`."""
    config = train.FitConfig(
        steps=800,
        learning_rate=0.01,
        weight_decay=0.05,
        schedule="one_cycle",
        warmup=0.25,
        seed=seed,
    )
    model = partial(tensor_ops.MLP, hidden=256)
    return _on_mnist(model, _plain_digits, replace(config, **changes), batch_size)


RECIPES = {"digits": digits, "mlp": mlp, "softmax_regression": softmax_regression}


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


def _on_mnist(
    make_model: Callable[[], nn.Module],
    prepare: Callable[[Tensor, torch.Generator | None], Tensor],
    config: train.FitConfig,
    batch_size: int,
) -> Recipe:
    """A recipe on the official digits.

    Args:
        prepare: uint8 images and a generator -> what the model takes; without a generator, as for
            testing, nothing is drawn at random.
    """
    runtime.seed_everything(config.seed)
    mnist = data.load("mnist")

    def transform(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple:
        images, labels = batch
        return prepare(images, generator), labels

    def test(model: nn.Module) -> dict[str, float]:
        logits = train.predict(model, prepare(mnist.x_test, None))
        return {"accuracy": train.accuracy(logits, mnist.y_test)}

    batches = train.Batches(
        mnist.x_train, mnist.y_train, batch_size=batch_size, seed=config.seed, transform=transform
    )
    return Recipe(make_model(), batches, classification_loss, config, test)


def _jitter_digits(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Handwriting leans, drifts and varies in size, and so should the training digits."""
    images = scale_pixels(images)
    if generator is None:
        return images
    return augment.random_affine(images, generator, degrees=12, shift=1.5, scale=0.12, shear=8)


def _plain_digits(images: Tensor, _: torch.Generator | None) -> Tensor:
    return scale_pixels(images)
