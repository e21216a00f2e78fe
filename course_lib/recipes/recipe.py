"""What a recipe is, and what the recipes share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import data, train
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


def pick(sizes: dict[str, Size], size: str, batch_size: int | None) -> Size:
    """The row called `size`, with another `batch_size` if there is one."""
    if size not in sizes:
        raise ValueError(f"size is {size!r}; allowed are {', '.join(sizes)}")
    row = sizes[size]
    return row if batch_size is None else replace(row, batch_size=batch_size)


def shipped(source: object, sets: Sequence[str]) -> str | None:
    """Which of `sets`, data of the course that a recipe can learn, `source` means: the first one
    for None, the one of that name for its name, and None for names of classes and for paths.

    Raises:
        ValueError: a name that is no set here and no path, or that is both.
    """
    if source is None:
        return sets[0]
    if not isinstance(source, str):
        return None
    there = Path(source).exists()
    if source in sets:
        if there:
            raise ValueError(
                f"--data is {source}, a set of the course and also a path here; ./{source} means "
                "the path, and the set has its name to itself in another folder"
            )
        return source
    if there:
        return None
    kind = "a set of the course for another recipe" if source in data.LOADERS else "no path"
    allowed = f"a path of your own files, or the name of a set: {', '.join(sets)}"
    raise ValueError(f"--data is {source}, {kind}; allowed is {allowed}")


def one_cycle(seed: int, changes: dict[str, object], **values: object) -> train.FitConfig:
    """A config with the schedule that the recipes share; `changes` win over `values`."""
    shared = {"schedule": "one_cycle", "warmup": 0.25, "seed": seed}
    return train.FitConfig(**shared | values | changes)


def scale_pixels(images: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float32 0 .. 1, same shape."""
    return images.float() / 255


def scale_images(batch: tuple[Tensor, ...], _: object = None) -> tuple[Tensor, ...]:
    """A batch whose first part is images, as `Batches`' transform."""
    return scale_pixels(batch[0]), *batch[1:]


def classification_loss(
    model: nn.Module, batch: tuple[Tensor, Tensor], smoothing: float = 0.0
) -> Tensor:
    """Mean cross entropy of `model(inputs)` (N, classes) against labels (N,).

    Args:
        smoothing: share of each label that is spread over all classes, see chapter 03.
    """
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, label_smoothing=smoothing)
