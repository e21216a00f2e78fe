"""Batches of a set that ships with the course, beside torchvision's data set and a DataLoader.

Both read the same digits, in the same normalisation; torchvision's from files of MNIST's own
format, written to a temporary folder from the set that ships. It transforms image by image, as its
documentation shows; ours cuts a batch out of one tensor and normalises it at once.
"""

import struct
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from rows import Plan, Record, Row, compare, run
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from course_lib import data
from course_lib.batches import Batches
from course_lib.recipes.images import MNIST_MEAN, MNIST_STD

SIZES = (64, 256)


def write_idx(path: Path, values: Tensor) -> None:
    """uint8 numbers in MNIST's format: what they are, their shape, and then they themselves."""
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(
        bytes((0, 0, 8, values.ndim)) + shape + values.to(torch.uint8).numpy().tobytes()
    )


def their_set(mnist: data.Images, folder: Path) -> datasets.MNIST:
    """The training digits as torchvision reads them."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, x, y in (
        ("train", mnist.x_train, mnist.y_train),
        ("t10k", mnist.x_test, mnist.y_test),
    ):
        write_idx(raw / f"{part}-images-idx3-ubyte", x[:, 0])
        write_idx(raw / f"{part}-labels-idx1-ubyte", y)
    steps = [transforms.ToTensor(), transforms.Normalize((MNIST_MEAN,), (MNIST_STD,))]
    return datasets.MNIST(str(folder), train=True, transform=transforms.Compose(steps))


def normalise(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    images, labels = batch
    return (images.float() / 255 - MNIST_MEAN) / MNIST_STD, labels


def measure(plan: Plan) -> Iterator[Record]:
    mnist = data.load("mnist")
    with tempfile.TemporaryDirectory() as folder:
        theirs = their_set(mnist, Path(folder))
    for size in SIZES:
        ours = Batches(mnist.x_train, mnist.y_train, batch_size=size, transform=normalise)
        check_equal(mnist, theirs, size)
        loader = DataLoader(theirs, size, shuffle=True)
        count, their_count = plan.pick((len(ours), 6400 // size), (4, 1))
        row = Row(
            "data",
            "digits, shuffled and normalised",
            f"batches of {size}",
            "torchvision's MNIST and a DataLoader",
            "batches/s",
            goal=5,
            at_least=True,
        )
        yield compare(
            row,
            lambda ours=ours, n=count: walk(ours, n),
            lambda loader=loader, n=their_count: walk(loader, n),
            plan.pick(9, 1),
            items=(count, their_count),
        )


def walk(batches, count: int) -> None:
    for _ in islice(iter(batches), count):
        pass


def check_equal(mnist: data.Images, theirs: datasets.MNIST, size: int) -> None:
    """The first batch in the files' order."""
    options = {"batch_size": size, "shuffle": False, "transform": normalise}
    ours = next(iter(Batches(mnist.x_train, mnist.y_train, **options)))
    torch.testing.assert_close(list(ours), list(next(iter(DataLoader(theirs, size)))))


if __name__ == "__main__":
    run(measure, __doc__)
