"""Grids of training runs that are too dear for a notebook, computed once and stored.

Each chapter's grids stand in one module, `ch02`, `ch03`, ...; whole runs that are longer than a
notebook should be stand in `long_runs`. `python -m course_lib claims` computes them, and a notebook
draws what is stored and runs one point of a grid again.
"""

import importlib
import pkgutil
import time

from course_lib.teaching import report
from course_lib.teaching.experiments.experiment import Experiment, Grid, stored_grid

__all__ = ["Experiment", "Grid", "all_experiments", "confirm", "stored"]


def all_experiments() -> dict[str, Experiment]:
    """Every chapter's experiments by the name of their claim, in the chapters' order."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    names = [name for name in found if name.startswith("ch") or name == "long_runs"]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {e.claim: e for module in modules for e in module.EXPERIMENTS}


def find(claim: str) -> Experiment:
    """The experiment of that name; ValueError lists what there is."""
    known = all_experiments()
    if claim not in known:
        allowed = ", ".join(known) or "none so far"
        raise ValueError(f"claim is {claim!r}; allowed are {allowed}")
    return known[claim]


def stored(claim: str) -> Grid:
    """What was computed and stored for a claim, checked against its sha256 and its settings.

    Raises:
        ValueError: no such experiment, or the stored grid is not the one that the code describes.
        checksums.DataError: the file is missing or damaged.
    """
    return stored_grid(find(claim))


def confirm(claim: str, setting: str, **tolerances: float) -> dict[str, object]:
    """Run one point of a stored grid again, seed 0, and print how close it comes.

    Args:
        setting: its name in the grid.
        tolerances: for each number to compare, how far it may be from the stored one.

    Returns:
        What the new run measured.

    Raises:
        report.GateFailed: a number is further away (not with COURSE_QUICK=1).
    """
    grid = stored(claim)
    grid.check_setting(setting)
    started = time.perf_counter()
    again = find(claim).run(setting, seed=0)
    seconds = time.perf_counter() - started
    print(f"{claim}, {setting}, once more: [measured {seconds:.1f} s]")
    for name, tolerance in tolerances.items():
        before = grid.run(setting, seed=0)[name]
        report.value(f"{name}, stored and now", f"{before:.4g}", f"{again[name]:.4g}")
        close = abs(again[name] - before) <= tolerance
        report.holds(f"they differ by at most {tolerance:g}", close, trained=True)
    return again
