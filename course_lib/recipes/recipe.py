"""What a recipe is, and what the recipes share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import train
from course_lib.batches import Batch


@dataclass(frozen=True)
class Recipe:
    """A model with all that its training needs; `test` measures it on official test data."""

    model: nn.Module
    batches: train.Batches | Iterable[Batch]
    loss: train.Loss
    config: train.FitConfig
    test: Callable[[nn.Module], dict[str, float]]

    def fit(self, **options) -> train.History:
        """Train the model; `options` are those of `train.fit`."""
        return train.fit(self.model, self.batches, self.loss, self.config, **options)


def one_cycle(seed: int, changes: dict[str, object], **values: object) -> train.FitConfig:
    """A config with the schedule that the recipes share; `changes` win over `values`."""
    shared = {"schedule": "one_cycle", "warmup": 0.25, "seed": seed}
    return train.FitConfig(**shared | values | changes)


def scale_pixels(images: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float32 0 .. 1, same shape."""
    return images.float() / 255


def classification_loss(
    model: nn.Module, batch: tuple[Tensor, Tensor], smoothing: float = 0.0
) -> Tensor:
    """Mean cross entropy of `model(inputs)` (N, classes) against labels (N,).

    Args:
        smoothing: share of each label that is spread over all classes, see chapter 03.
    """
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, label_smoothing=smoothing)
