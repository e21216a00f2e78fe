"""Data parallel training: several processes, each with a part of every batch, act as one.

Start a script with `torchrun --nproc-per-node 2 script.py`; started plainly, there is one process
and every function here does nothing. Source: Li et al. 2020, "PyTorch Distributed".
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank() -> int:
    """This process's number, 0 .. `world_size()` - 1."""
    return dist.get_rank() if _is_joined() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _is_joined() else 1


def is_first_process() -> bool:
    """Whether this is process 0 of those torchrun started, also after they have parted."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and leave at the end; nccl on CUDA, else gloo.

    Yields the device of this process: with CUDA, the one that torchrun assigned to it.
    """
    if "WORLD_SIZE" not in os.environ or _is_joined():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


@torch.no_grad()
def broadcast_model(model: nn.Module) -> None:
    """Give every process the parameters and buffers of process 0."""
    if world_size() > 1:
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor, src=0)


@torch.no_grad()
def broadcast_buffers(model: nn.Module) -> None:
    """Give every process the buffers (e.g. running statistics) of process 0."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def broadcast_object(value: object) -> object:
    """What process 0 holds as `value`, on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def require_same(value: object, message: str) -> None:
    """Raise `ValueError` with the message on each process whose value is not that of process 0."""
    if broadcast_object(value) != value:
        raise ValueError(message)


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is True on at least one process; all must ask at the same time."""
    if world_size() == 1:
        return flag
    answer = torch.tensor(int(flag), device=device)
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)


@torch.no_grad()
def average_gradients(model: nn.Module, loss: Tensor, weight: float) -> Tensor:
    """Turn each process's gradient of its own mean loss into that of the joint batch's mean loss.

    A process with more items counts for more: gradient = sum_i weight_i * gradient_i / sum_i
    weight_i. Everything travels in one flat message, since many small ones cost more than one.

    Args:
        loss: this process's mean loss, a scalar.
        weight: what that mean was taken over, e.g. the number of items; 0 for an empty part.

    Returns:
        The joint batch's mean loss, a scalar.
    """
    if world_size() == 1:
        return loss
    parameters = [p for p in model.parameters() if p.requires_grad]
    # A process without items has no gradients, yet must send a message of the same length.
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=loss.device)
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
    gradient = torch.cat(flat)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32)) * weight
    tail = torch.stack([loss.to(gradient.dtype) * weight, gradient.new_tensor(weight)])
    message = torch.cat([gradient, tail, used.to(gradient.dtype)])
    dist.all_reduce(message)
    sizes = [p.numel() for p in parameters]
    *gradients, loss_sum, total, used = message.split([*sizes, 1, 1, len(parameters)])
    for parameter, gradient, count in zip(parameters, gradients, used, strict=True):
        if count > 0:
            parameter.grad = (gradient / total).view_as(parameter).to(parameter.dtype)
    return (loss_sum / total).squeeze()


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()
