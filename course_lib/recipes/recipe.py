"""What a recipe is, and what the recipes share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import train
from course_lib.batches import Batch


@dataclass(frozen=True)
class Recipe:
    """A model with all that its training needs, and what the command line does with it.

    Args:
        test: measures the model on official test data, or on what was held out of the user's own.
        names: what the numbers that the model gives stand for, kept beside its weights where they
            come from the user's own data: classes, or symbols.
        predict: a trained model and one input of the command line -> an answer to print.
        inputs: a batch -> what the model's `forward` takes.
    """

    model: nn.Module
    batches: train.Batches | Iterable[Batch]
    loss: train.Loss
    config: train.FitConfig
    test: Callable[[nn.Module], dict[str, float]]
    names: Sequence[str] = ()
    predict: Callable[[nn.Module, str], str] | None = None
    inputs: Callable[[Batch], tuple[Tensor, ...]] = lambda batch: (batch[0],)

    def fit(self, **options) -> train.History:
        """Train the model; `options` are those of `train.fit`."""
        return train.fit(self.model, self.batches, self.loss, self.config, **options)


@dataclass(frozen=True)
class Size:
    """A row of a recipe's table of sizes: all that differs from one to the other.

    Args:
        make: the model, from what only the data tell.
        training: values of the `FitConfig`.
        data: what the data are brought to, e.g. `side`, pixels of an image.
    """

    make: Callable[..., nn.Module]
    batch_size: int
    training: dict[str, object]
    data: dict[str, object] = field(default_factory=dict)


def pick(sizes: dict[str, Size], size: str) -> Size:
    """The row called `size`."""
    if size not in sizes:
        raise ValueError(f"size is {size!r}; allowed are {', '.join(sizes)}")
    return sizes[size]


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
