"""An experiment over a grid of settings and seeds, and its results as a small file."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from course_lib import checksums

SET = "claims"  # the grids are a data set of their own

Numbers = dict[str, float | list[float]]


@dataclass(frozen=True)
class Experiment:
    """What is measured for a claim: `measure(seed=..., **setting)` for each setting and seed."""

    claim: str  # its number, e.g. "2.15", or a short name for a grid that a widget browses
    title: str
    measure: Callable[..., Numbers]
    settings: Mapping[str, Mapping[str, object]]  # name -> arguments of `measure`, JSON values
    seeds: int = 5

    def __post_init__(self) -> None:
        if not self.settings:
            raise ValueError("settings is empty; at least one is needed")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; allowed are whole numbers from 1")

    @property
    def points(self) -> list[tuple[str, int]]:
        """Every setting with every seed; seed by seed, so that half a grid is a fair one."""
        return [(setting, seed) for seed in range(self.seeds) for setting in self.settings]

    def run(self, setting: str, seed: int) -> Numbers:
        """Measure one point.

        Raises:
            ValueError: a number that is not finite, which JSON could not hold.
        """
        numbers = self.measure(seed=seed, **self.settings[setting])
        for name, value in numbers.items():
            if not all(math.isfinite(number) for number in _as_list(value)):
                raise ValueError(f"{self.claim}, {setting}, seed {seed}: {name} is {value!r}")
        return numbers


class Grid:
    """The stored results of an experiment."""

    def __init__(self, experiment: Experiment, runs: list[dict]) -> None:
        self.experiment = experiment
        self.runs = {(run["setting"], run["seed"]): run["numbers"] for run in runs}

    @property
    def is_complete(self) -> bool:
        return set(self.runs) == set(self.experiment.points)

    def run(self, setting: str, seed: int) -> Numbers:
        """What one point measured."""
        self.check_setting(setting)
        return self.runs[setting, seed]

    def values(self, name: str) -> dict[str, Tensor]:
        """One number of all runs: setting -> float64 (seeds,), or (seeds, n) where it is a list."""
        experiment = self.experiment
        known = next(iter(self.runs.values()))
        if name not in known:
            raise ValueError(f"name is {name!r}; allowed are {', '.join(known)}")
        return {
            setting: torch.tensor(
                [self.runs[setting, seed][name] for seed in range(experiment.seeds)],
                dtype=torch.float64,
            )
            for setting in experiment.settings
        }

    def check_setting(self, setting: str) -> None:
        """Raise ValueError if the grid has no setting of that name."""
        allowed = self.experiment.settings
        if setting not in allowed:
            raise ValueError(f"setting is {setting!r}; allowed are {', '.join(allowed)}")


def stored_grid(experiment: Experiment) -> Grid:
    """Read `data/claims/<claim>.json`.

    Raises:
        checksums.DataError: the file is missing or damaged.
        ValueError: it belongs to other settings than the experiment has now, or is incomplete.
    """
    name = f"{experiment.claim}.json"
    folder = checksums.verify(SET, files=(name,))
    grid = read_grid(experiment, folder / name)
    if grid is None or not grid.is_complete:
        raise ValueError(
            f"{folder / name} is not the whole grid that the code describes; "
            f"`python -m course_lib claims {experiment.claim}` computes what is missing"
        )
    return grid


def compute(experiment: Experiment, folder: Path) -> Iterator[tuple[str, int, Numbers]]:
    """Run the points that `folder` does not hold yet, saving after each; yields them."""
    path = folder / f"{experiment.claim}.json"
    grid = read_grid(experiment, path) or Grid(experiment, [])
    for setting, seed in experiment.points:
        if (setting, seed) in grid.runs:
            continue
        numbers = experiment.run(setting, seed)
        grid.runs[setting, seed] = numbers
        _write(grid, path)
        yield setting, seed, numbers


def read_grid(experiment: Experiment, path: Path) -> Grid | None:
    """The grid in a file, complete or not; None where it is missing or of other settings."""
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["settings"] != _as_json(experiment.settings):
        return None
    return Grid(experiment, [r for r in content["runs"] if r["seed"] < experiment.seeds])


def _write(grid: Grid, path: Path) -> None:
    """Replace the file at once, so that a run that is stopped leaves a whole one."""
    experiment = grid.experiment
    head = {"title": experiment.title, "torch": torch.__version__.split("+")[0]}
    lines = [f'"settings": {json.dumps(_as_json(experiment.settings))}']
    lines += [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    runs = [
        json.dumps({"setting": setting, "seed": seed, "numbers": _round(numbers)})
        for (setting, seed), numbers in grid.runs.items()
    ]
    # One line a run: a difference between two versions can be read.
    lines.append('"runs": [\n' + ",\n".join(runs) + "\n]")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8", newline="\n")
    os.replace(part, path)


def _round(numbers: Numbers) -> Numbers:
    """Five digits: more would say nothing, and fill the repository."""
    return {
        name: [float(f"{v:.5g}") for v in value]
        if isinstance(value, list)
        else float(f"{value:.5g}")
        for name, value in numbers.items()
    }


def _as_json(settings: Mapping[str, Mapping[str, object]]) -> dict:
    return json.loads(json.dumps({name: dict(setting) for name, setting in settings.items()}))


def _as_list(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]
