"""Where the training loop's batches come from, and how a batch is moved, cut and counted.

A batch is a tensor, or a tuple, list or dict of tensors with the same first axis.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from course_lib import distributed, runtime

Batch = Any
IGNORED = -1  # a label that is left out of a loss


class Batches:
    """Batches cut from tensors that lie in memory: no worker processes, no Python per item.

    Args:
        tensors: with the same first axis, N items.
        batch_size: items a batch; the last batch of an epoch holds the rest.
        seed: with the epoch, it decides the order of the items.
        shuffle: False keeps the order as it is.
        transform: `transform(batch, generator) -> batch`, e.g. an augmentation; the generator's
            numbers follow from (seed, epoch, batch), so that a resumed run draws the same ones.

    Raises:
        ValueError: no tensors, unequal lengths, no items, or a batch size below 1.
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        transform: Callable[[tuple[Tensor, ...], torch.Generator], Batch] | None = None,
    ):
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) != 1 or lengths[0] == 0:
            raise ValueError(f"tensors have lengths {lengths}; allowed is one common length from 1")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; allowed are whole numbers from 1")
        self.tensors = tensors
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.transform = transform

    def __len__(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.tensors[0]) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number `start` on: this process's part of each."""
        count = len(self.tensors[0])
        order = torch.arange(count)
        if self.shuffle:
            order = torch.randperm(count, generator=runtime.generator_for(self.seed, epoch))
        order = order.to(self.tensors[0].device)
        rank, processes = distributed.rank(), distributed.world_size()
        for number in range(start, len(self)):
            items = order[number * self.batch_size :][: self.batch_size][rank::processes]
            batch = tuple(tensor[items] for tensor in self.tensors)
            if self.transform is not None and len(items):
                batch = self.transform(batch, runtime.generator_for(self.seed, epoch, number, rank))
            yield batch

    def to(self, device: torch.device) -> "Batches":
        """The same batches, cut on `device`."""
        return Batches(
            *(tensor.to(device) for tensor in self.tensors),
            batch_size=self.batch_size,
            seed=self.seed,
            shuffle=self.shuffle,
            transform=self.transform,
        )


def walk_epoch(batches: Iterable[Batch], epoch: int, start: int = 0) -> Iterator[Batch]:
    """The batches of one epoch from number `start` on, whatever kind of iterable they come from.

    Raises:
        ValueError: several processes share a DataLoader that would give each of them every item.
    """
    if isinstance(batches, Batches):
        return batches.epoch(epoch, start)
    if isinstance(batches, DataLoader):
        if isinstance(batches.sampler, DistributedSampler):
            batches.sampler.set_epoch(epoch)
        elif distributed.world_size() > 1:
            raise ValueError(
                f"batches is a DataLoader with a {type(batches.sampler).__name__}; with several "
                "processes it needs a DistributedSampler, which gives each its own items"
            )
    return islice(iter(batches), start, None)


def batches_per_epoch(batches: Iterable[Batch]) -> int | None:
    """How many batches an epoch has; None where the iterable does not say."""
    try:
        return len(batches)
    except TypeError:
        return None


def map_tensors(function: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    """`batch` with `function` applied to each of its tensors; anything else stays as it is."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {name: map_tensors(function, value) for name, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):  # a named tuple
        return type(batch)(*(map_tensors(function, value) for value in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(map_tensors(function, value) for value in batch)
    return batch


def count_items(batch: Batch) -> int:
    """Length of the first axis of the batch's first tensor.

    Raises:
        ValueError: the batch holds no tensor.
    """
    lengths: list[int] = []
    map_tensors(lambda tensor: lengths.append(len(tensor)) or tensor, batch)
    if not lengths:
        raise ValueError(f"batch is a {type(batch).__name__} that holds no tensor")
    return lengths[0]


def split_batch(batch: Batch, parts: int) -> Iterator[Batch]:
    """Cut `batch` along its first axis into at most `parts` parts; empty ones are left out."""
    size = math.ceil(count_items(batch) / parts)
    for number in range(parts):
        part = map_tensors(lambda tensor, first=number * size: tensor[first : first + size], batch)
        if count_items(part):
            yield part
