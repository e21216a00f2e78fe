"""Checkpoints that survive a kill at any moment, and the random state a bit-exact resume needs."""

import os
import pickle
import random
from pathlib import Path

import numpy as np
import torch


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or that belongs to another run."""


def save(path: str | os.PathLike, state: dict) -> None:
    """Write `state` to `path` so that `path` holds, at every moment, the old or the new whole.

    Args:
        state: tensors, numbers, strings, and dicts, lists and tuples of them.

    Raises:
        CheckpointError: it cannot be written, e.g. for lack of space.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
        # On a full disk torch complains of a wrong position; the cause stands behind that.
        reason = error if isinstance(error, OSError) else error.__context__ or error
        kept = " What it held before is kept." if path.exists() else ""
        raise CheckpointError(f"{path} cannot be written ({reason}).{kept}") from error


def load(path: str | os.PathLike) -> dict:
    """Read what `save` wrote, onto the CPU, without running code that the file may hold.

    Raises:
        CheckpointError: the file is damaged or is no checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, LookupError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}). "
            "Delete it to train from the start."
        ) from error


def random_state() -> dict:
    """The state of every generator that training may draw from: Python, NumPy, torch, CUDA."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict) -> None:
    """Put back what `random_state` returned."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def check_identity(path: str | os.PathLike, theirs: dict, ours: dict) -> None:
    """Make sure that a checkpoint belongs to this run, before anything of it is used.

    Raises:
        CheckpointError: naming the first entry that differs, and both values.
    """
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise CheckpointError(
                f"{path} belongs to another run: there {name} is {theirs.get(name)}, here "
                f"{ours.get(name)}. Name another file, or delete this one to train from the start."
            )
