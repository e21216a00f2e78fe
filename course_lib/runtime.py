"""Where and how a run computes: device, precision, seed, and the course's test switches."""

import ctypes
import os
import random
import sys
from functools import cache

import numpy as np
import torch

PRECISIONS = ("float32", "bfloat16", "float16")
DEVICE_TYPES = ("cuda", "mps", "cpu")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the numbers that mallopt(3) gives to its limits


def default_device() -> torch.device:
    """The device to train on: `COURSE_DEVICE` if set, else cuda, else mps, else cpu.

    Raises:
        ValueError: `COURSE_DEVICE` names no device, or one that this machine does not have.
    """
    wanted = os.environ.get("COURSE_DEVICE", "")
    if not wanted:
        return torch.device(next(kind for kind in DEVICE_TYPES if _is_available(kind)))
    return device_called(wanted, "COURSE_DEVICE")


def device_called(wanted: str, name: str = "device") -> torch.device:
    """The device that `wanted` names, e.g. "cuda:1"; `name` is for the errors.

    Raises:
        ValueError: `wanted` names no device, or one that this machine does not have.
    """
    kind, _, number = wanted.partition(":")
    if kind not in DEVICE_TYPES or not (number.isdecimal() or wanted == kind):
        raise ValueError(f"{name} is {wanted!r}; allowed are {', '.join(DEVICE_TYPES)}")
    if not _is_available(kind):
        raise ValueError(f"{name} is {wanted!r}, but this machine offers no {kind} device")
    return torch.device(wanted)


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` computes bfloat16 in hardware (emulated bfloat16 is slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any("bf16" in name and value for name, value in _cpu_capabilities().items())
    return False


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype that autocast computes in on `device`.

    Args:
        precision: "auto" (bfloat16 where the hardware has it, else float16 on CUDA, else
            float32) or one of "float32", "bfloat16", "float16".

    Raises:
        ValueError: `precision` is none of these.
    """
    if precision == "auto":
        if has_bfloat16(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; allowed are auto, {', '.join(PRECISIONS)}")
    return getattr(torch, precision)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context in which matrix products on `device` run in `dtype`; float32 changes nothing."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch (every device); returns a CPU generator with the same seed.

    Raises:
        ValueError: `seed` is not in 0 .. 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; allowed is 0 .. 2**32 - 1")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def generator_for(*numbers: int) -> torch.Generator:
    """A CPU generator for one purpose, e.g. `generator_for(seed, epoch)`.

    Different tuples of non-negative integers give unrelated streams, which `seed + epoch` would
    not: seed 0 in epoch 1 and seed 1 in epoch 0 would draw the same numbers.
    """
    # SeedSequence pads with zeros: without the length, (1,) and (1, 0) would be the same.
    state = np.random.SeedSequence((len(numbers), *numbers)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


@cache
def keep_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones; whether it does.

    Linux takes large blocks back as soon as they are free, and clears them page by page when they
    are asked for again: a training step on a CPU pays for that with a tenth of its time or more.
    The most that a process holds at once stays the same, but it is given back at its end only.
    Systems without glibc have no such limits to move, and nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # Releases of glibc before 2.35 refuse a limit of more than half of a heap.
    moved = any(mallopt(MMAP_THRESHOLD, size) for size in (2**30, 2**25))
    return bool(moved and mallopt(TRIM_THRESHOLD, 2**30))


def is_test() -> bool:
    """Whether `COURSE_TEST=1`: no bars, no stored progress, time gates enforced."""
    return os.environ.get("COURSE_TEST") == "1"


def is_quick() -> bool:
    """Whether `COURSE_QUICK=1`: training is capped at a few steps, and no gate is enforced."""
    return os.environ.get("COURSE_QUICK") == "1"


def _is_available(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    if kind == "mps":
        return torch.backends.mps.is_available()
    return True


def _cpu_capabilities() -> dict[str, object]:
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    # Releases before get_capabilities know only this question.
    return {"avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
