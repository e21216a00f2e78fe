"""The command line `python -m course_lib claims`: compute the grids behind stored claims."""

import argparse
from pathlib import Path

from course_lib import checksums, runtime
from course_lib.teaching import experiments
from course_lib.teaching.experiments.experiment import SET, Experiment, compute, read_grid


def main(argv: list[str]) -> int:
    """Compute the grids behind stored claims; without a name, list them."""
    parser = argparse.ArgumentParser(prog="python -m course_lib claims", description=main.__doc__)
    parser.add_argument("claim", nargs="*", help="e.g. 2.15")
    parser.add_argument("--force", action="store_true", help="compute anew what is stored")
    arguments = parser.parse_args(argv)
    if runtime.is_quick():
        parser.error("COURSE_QUICK=1 caps training; what it measures is not worth storing")
    folder = checksums.data_root() / SET
    try:
        chosen = [experiments.find(claim) for claim in arguments.claim]
    except ValueError as error:
        parser.error(str(error))
    if not chosen:
        for experiment in experiments.all_experiments().values():
            print(f"{experiment.claim:<32}{_state(experiment, folder):<16}{experiment.title}")
    for experiment in chosen:
        _compute(experiment, folder, arguments.force)
    return 0


def _compute(experiment: Experiment, folder: Path, anew: bool) -> None:
    if anew:
        (folder / f"{experiment.claim}.json").unlink(missing_ok=True)
    try:
        for setting, seed, numbers in compute(experiment, folder):
            shown = {k: round(v, 4) for k, v in numbers.items() if not isinstance(v, list)}
            print(f"{experiment.claim} {setting}, seed {seed}: {shown}", flush=True)
    finally:  # what an interrupted run has saved is whole, and goes on from there
        checksums.write_sums(folder)


def _state(experiment: Experiment, folder: Path) -> str:
    grid = read_grid(experiment, folder / f"{experiment.claim}.json")
    if grid is None:
        return "not computed"
    return "stored" if grid.is_complete else f"{len(grid.runs)} of {len(experiment.points)} runs"
