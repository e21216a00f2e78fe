"""What the benchmarks share: rivals that take turns, rows of the table, curves, and how to report.

A program's `measure(plan)` yields rows, curves and notes; `run` prints them as they come and, for
`table.py`, writes them to a file, a line of JSON each.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from course_lib import runtime

THREADS = 2
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")
# The table's kinds of work, in its order: short name -> what it says there.
WORKS = {
    "mnist": "MNIST, to the accuracy the peer ends with",
    "resnet": "ResNet-18 and ResNet-50: training step, inference",
    "bert": "BERT: training step, inference",
    "gpt": "GPT-2: training step, inference",
    "generate": "GPT: writing 1,024 symbols",
    "attention": "attention layer: time, peak memory",
    "seq2seq": "seq2seq: training",
    "unet": "U-Net: training step",
    "detection": "SSD, YOLO: anchors, targets, loss, decoding",
    "scores": "suppression, IoU, mAP, BLEU",
    "data": "batches from the sets that ship with the course",
    "others": "what else is measured",
}

Rival = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """How thoroughly to measure: `quick` only shows that everything runs; `full` trains peers to
    their end, where otherwise a part is timed and scaled."""

    quick: bool = False
    full: bool = False

    def pick(self, usual, quick):
        """`usual`, or what stands in for it in a quick run."""
        return quick if self.quick else usual


@dataclass(frozen=True)
class Row:
    """One comparison. With a peer the goal is for the ratio, without for `ours` itself.

    Args:
        work: a key of `WORKS`.
        what, size: what is done, and how large it is.
        ours, theirs: medians over the rounds, in `unit`; None where nothing was measured.
        ratio: median over the rounds of ours / theirs; least, most: of all rounds.
        goal: of the ratio, at most, or with `at_least` at least.
        fulfilled: what else has to hold, e.g. an accuracy that is reached.
    """

    work: str
    what: str
    size: str
    peer: str
    unit: str
    ours: float | None = None
    theirs: float | None = None
    ratio: float | None = None
    least: float | None = None
    most: float | None = None
    rounds: int = 0
    goal: float | None = None
    at_least: bool = False
    fulfilled: bool = True
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal or a measurement."""
        value = self.ours if self.ratio is None else self.ratio
        if value is None or self.goal is None:
            return None
        return self.fulfilled and (value >= self.goal if self.at_least else value <= self.goal)

    def shown_goal(self) -> str:
        if self.goal is None:
            return ""
        unit = f" {self.unit}" if self.peer == "" else "x"
        return f"{'at least' if self.at_least else 'at most'} {self.goal:,g}{unit}"

    def shown_ratio(self) -> str:
        if self.ratio is None:
            return ""
        if self.rounds < 2:
            return f"{number(self.ratio)}x"
        return f"{number(self.ratio)}x ({number(self.least)} to {number(self.most)})"

    def shown_met(self) -> str:
        return {True: "yes", False: "**no**", None: ""}[self.met]

    def __str__(self) -> str:
        name = ", ".join(filter(None, (self.what, self.size)))
        if self.ours is None:
            return f"{name}: {self.note}"
        beside = f", {self.peer} {number(self.theirs)} {self.unit}" if self.peer else ""
        text = f"{name}: ours {number(self.ours)} {self.unit}{beside}"
        if self.ratio is not None:
            text += f"; ratio {self.shown_ratio()}"
        if self.goal is not None:
            text += f"; goal {self.shown_goal()}: {'met' if self.met else 'NOT met'}"
        return text + (f" [{self.note}]" if self.note else "")


@dataclass(frozen=True)
class Curve:
    """How the cost of something grows: values over x for each of its lines."""

    name: str  # of its file
    title: str
    x_label: str
    y_label: str
    x: list[float]
    lines: dict[str, list[float]]

    def __str__(self) -> str:
        lines = (f"{name} {', '.join(map(number, y))}" for name, y in self.lines.items())
        return f"{self.title}, {self.x_label} {', '.join(map(number, self.x))}: {'; '.join(lines)}"


@dataclass(frozen=True)
class Note:
    """A sentence below the table, e.g. why a goal is out of reach."""

    text: str

    def __str__(self) -> str:
        return self.text


Record = Row | Curve | Note


def number(value: float) -> str:
    """With three digits that count, or all digits of large whole numbers: 0.0312, 1.03, 4,096."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def take_turns(
    rivals: dict[str, Rival], rounds: int, seconds: float = 10.0
) -> dict[str, list[float]]:
    """Milliseconds of each rival in each round; a first round, which warms up, is left out.

    The one that begins changes every round, so that a machine that slows down slows all. No new
    round begins after `seconds`, if there were three.
    """
    times: dict[str, list[float]] = {name: [] for name in rivals}
    begun = time.perf_counter()
    for turn in range(rounds + 1):
        if turn > 3 and time.perf_counter() - begun > seconds:
            break
        for name in sorted(rivals, reverse=turn % 2 == 0):
            started = time.perf_counter()
            rivals[name]()
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: taken[1:] for name, taken in times.items()}


def compare(
    row: Row,
    ours: Rival,
    theirs: Rival,
    rounds: int,
    *,
    items: tuple[float, float] | None = None,
    seconds: float = 10.0,
) -> Row:
    """`row` with the medians of both, and of their ratios.

    Args:
        items: how many a call of ours and of theirs deals with: the values are then items a
            second in place of milliseconds, and more is better.
        seconds: see `take_turns`.
    """
    times = take_turns({"ours": ours, "theirs": theirs}, rounds, seconds)
    if items is not None:
        mine, other = ([1000 * n / t for t in times[r]] for n, r in zip(items, times, strict=True))
    else:
        mine, other = times["ours"], times["theirs"]
    return with_rounds(row, mine, other)


def with_rounds(row: Row, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    """`row` with what was measured in its rounds."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return replace(
        row,
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
        ratio=statistics.median(ratios),
        least=min(ratios),
        most=max(ratios),
        rounds=len(ratios),
    )


def once(row: Row) -> Row:
    """`row` with the ratio of its values, which were measured once."""
    return with_rounds(row, [row.ours], [row.theirs])


def medians(rivals: dict[str, Rival], rounds: int, seconds: float = 10.0) -> dict[str, float]:
    """Median milliseconds of each rival: a point of a curve."""
    times = take_turns(rivals, rounds, seconds)
    return {name: statistics.median(taken) for name, taken in times.items()}


def grow(points: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """The lines of a curve, from the values at each of its points."""
    return {name: [point[name] for point in points] for name in points[0]}


def read(line: str) -> Record:
    """A line that `run` wrote."""
    kind, values = json.loads(line)
    return {kind.__name__: kind for kind in (Row, Curve, Note)}[kind](**values)


def run(measure: Callable[[Plan], Iterable[Record]], description: str) -> None:
    """A program: its options, and its records on the screen and in a file."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--full", action="store_true", help="train peers to their end")
    parser.add_argument("--records", type=Path, help="also write them to this file")
    options = parser.parse_args()
    os.environ |= {"COURSE_TEST": "1", "COURSE_DEVICE": "cpu"}  # no progress bars
    os.environ.pop("COURSE_QUICK", None)  # which would cap each training at a few steps
    torch.set_num_threads(threads())
    runtime.seed_everything(0)
    runtime.keep_memory()  # for the peers, too
    lines = []
    for record in measure(Plan(options.quick, options.full)):
        print(record, flush=True)
        lines.append(json.dumps([type(record).__name__, asdict(record)]))
        if options.records:  # as they come: what a program measured before it fails is kept
            options.records.write_text("\n".join(lines), encoding="utf-8")


def threads() -> int:
    """That a program computes with: two, unless the machine or OMP_NUM_THREADS says less."""
    return min(THREADS, cores(), int(os.environ.get("OMP_NUM_THREADS", THREADS)))


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
