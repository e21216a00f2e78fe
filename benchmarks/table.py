"""All benchmarks, each in a process of its own, and the page that tells what they found.

Writes `results.md` and `curves/*.png` beside this file; with `--quick` only where `--to` says,
since a quick run's numbers mean nothing. A program that fails does not stop the others: the page
names it, and the exit code is 1.
"""

import argparse
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from matplotlib.ticker import LogFormatter
from PIL import Image
from rows import THREADS, WORKS, Curve, Note, Record, Row, cores, number, read, threads

FOLDER = Path(__file__).parent
PACKAGES = ("torch", "torchvision", "transformers", "torchmetrics", "monai", "sacrebleu", "numpy")
HEAD = ("work", "size", "peer", "ours", "theirs", "ours / theirs", "goal", "met")
QUICK = "**A quick run, which only shows that every program runs: its numbers mean nothing.**\n\n"


@dataclass
class Outcome:
    """What a program gave, and how it ended."""

    name: str
    code: int
    seconds: float
    records: list[Record] = field(default_factory=list)

    def of(self, kind: type) -> list:
        return [record for record in self.records if isinstance(record, kind)]


def run_program(path: Path, arguments: Sequence[str]) -> Outcome:
    """Run one, showing what it prints; what it measured before it failed is kept."""
    print(f"== {path.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records"
        command = [sys.executable, str(path), *arguments, "--records", str(records)]
        begun = time.perf_counter()
        code = subprocess.call(command)
        seconds = time.perf_counter() - begun
        lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
    if code == 0 and not lines:
        code = 1  # a benchmark that measures nothing has failed
    return Outcome(path.stem, code, seconds, [read(line) for line in lines])


def page(outcomes: Sequence[Outcome], quick: bool = False) -> str:
    """The whole of results.md."""
    rows = [row for outcome in outcomes for row in outcome.of(Row)]
    curves = [curve for outcome in outcomes for curve in outcome.of(Curve)]
    parts = ["# Results of the benchmarks\n\n" + (QUICK if quick else "") + introduction()]
    parts.append("## At a glance\n\n" + summary(rows))
    parts.append("## All comparisons\n\n" + table(rows))
    notes = [note.text for outcome in outcomes for note in outcome.of(Note)]
    notes += [f"{name(row)}: {row.note}." for row in rows if row.note and row.ours is not None]
    notes += [f"`{o.name}` failed with exit code {o.code}." for o in outcomes if o.code]
    parts.append("## Notes\n\n" + "\n".join(f"- {text}" for text in notes))
    parts.append("## How the cost grows\n\n" + "\n\n".join(map(picture, curves)))
    taken = ", ".join(f"{o.name.removeprefix('bench_')} {o.seconds:.0f}" for o in outcomes)
    total = sum(o.seconds for o in outcomes)
    parts.append(f"Seconds that each program took: {taken}; {total:.0f} in all.")
    return "\n\n".join(parts) + "\n"


def introduction() -> str:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return (
        "Written by `make bench`; [README.md](README.md) says what is compared and how.\n\n"
        f"{now} · {machine()}\n\n{versions()}\n\n"
        "Values are medians over rounds in which both took turns; the ratio is the median of the "
        "rounds' ratios, with the least and the largest in brackets. Of milliseconds and megabytes "
        "less is better, of anything a second more."
    )


def machine() -> str:
    """Processor, cores, threads, memory, system."""
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3
        memory = f", {size:.0f} GB of memory"
    used = min(THREADS, threads())
    return (
        f"{processor()}, {cores()} cores, {used} thread{'s' * (used > 1)}{memory}, "
        f"{platform.system()} {platform.machine()}"
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def versions() -> str:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return ", ".join(f"{package} {version}" for package, version in found.items())


def summary(rows: Sequence[Row]) -> str:
    """A line for each kind of work and goal: from the best to the worst of its ratios."""
    lines = ["| work | peers | goal | measured | met |", "|---|---|---|---|---|"]
    for work, title in WORKS.items():
        own = [row for row in rows if row.work == work and work != "others"]
        for goal in dict.fromkeys(row.shown_goal() for row in own if row.ours is not None):
            same = [row for row in own if row.shown_goal() == goal and row.ratio is not None]
            peers = ", ".join(dict.fromkeys(row.peer for row in same))
            met = sum(bool(row.met) for row in same)
            ratios = sorted(row.ratio for row in same)
            ends = [number(ratio) for ratio in dict.fromkeys((ratios[0], ratios[-1]))]
            shown = " to ".join(ends)
            lines.append(f"| {title} | {peers} | {goal} | {shown}x | {met} of {len(same)} |")
        if own and all(row.ours is None for row in own):
            lines.append(f"| {title} | {own[0].peer} | | {own[0].note} | |")
        if not own and work != "others":
            lines.append(f"| {title} | | | not measured | |")
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """Every row, in the order of `WORKS`."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for work, title in WORKS.items():
        own = [row for row in rows if row.work == work]
        if own:
            lines.append(f"| **{title}** |" + " |" * (len(HEAD) - 1))
        lines += [f"| {' | '.join(cells(row))} |" for row in own]
    return "\n".join(lines)


def cells(row: Row) -> tuple[str, ...]:
    if row.ours is None:
        return (row.what, row.size, row.peer, "", "", row.note, row.shown_goal(), "")
    ours = f"{number(row.ours)} {row.unit}"
    theirs = f"{number(row.theirs)} {row.unit}" if row.peer else ""
    ends = (row.shown_ratio(), row.shown_goal(), row.shown_met())
    return (row.what, row.size, row.peer, ours, theirs, *ends)


def name(row: Row) -> str:
    kind = WORKS[row.work].partition(":")[0]
    what = row.what if row.work == "others" else f"{kind}, {row.what}"
    return f"{what} beside {row.peer}" if row.peer else what


def picture(curve: Curve) -> str:
    """A curve's picture with its text for those who cannot see it, and what to see in it."""
    return f"![{alt(curve)}](curves/{curve.name}.png)\n\n*{caption(curve)}*"


def alt(curve: Curve) -> str:
    first, last = number(curve.x[0]), number(curve.x[-1])
    ends = (f"{n} from {number(y[0])} to {number(y[-1])}" for n, y in curve.lines.items())
    ends = "; ".join(ends)
    label = f"{curve.y_label.capitalize()} by {curve.x_label}"
    return f"{curve.title}. {label}, {first} to {last}: {ends}."


def caption(curve: Curve) -> str:
    a, b = curve.x[-2:]
    factors = (f"{n} {y[-1] / y[-2]:.1f}" for n, y in curve.lines.items())
    step = f"From {number(a)} to {number(b)}, which is {b / a:.1f} times as much"
    return f"{curve.title}. {step}, the cost grows by factors: {', '.join(factors)}."


def draw(curve: Curve, path: Path) -> None:
    """Both axes logarithmic: a straight line is a power, whose exponent is the slope."""
    from course_lib.teaching import plot

    figure, axes = plot.figure(7.5, 4.2)
    ax = axes[0, 0]
    for (line, values), mark in zip(curve.lines.items(), "osD^v", strict=False):
        ax.plot(curve.x, values, marker=mark, label=line)
    ax.set(xscale="log", yscale="log", xlabel=curve.x_label, ylabel=curve.y_label)
    ax.set_xticks(curve.x, [f"{x:,g}" for x in curve.x], minor=False)
    ax.set_xticks([], minor=True)
    for level in ("major", "minor"):
        getattr(ax.yaxis, f"set_{level}_formatter")(LogFormatter(minor_thresholds=(1.5, 0.6)))
    ax.set_title(curve.title)
    ax.legend()
    picture = Image.open(io.BytesIO(plot.to_png(figure))).convert("RGB")
    picture.quantize(64).save(path, optimize=True)  # a third of the size, to the eye the same


def write(outcomes: Sequence[Outcome], folder: Path, quick: bool = False) -> None:
    pictures = folder / "curves"
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    for outcome in outcomes:
        for curve in outcome.of(Curve):
            draw(curve, pictures / f"{curve.name}.png")
    (folder / "results.md").write_text(page(outcomes, quick), encoding="utf-8")


def main(argv: Sequence[str], programs: Path = FOLDER) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--full", action="store_true", help="train peers to their end (an hour)")
    parser.add_argument("--to", type=Path, help="folder for the page, by default benchmarks")
    options = parser.parse_args(argv)
    passed = [f"--{flag}" for flag in ("quick", "full") if getattr(options, flag)]
    outcomes = [run_program(path, passed) for path in sorted(programs.glob("bench_*.py"))]
    folder = options.to or (None if options.quick else FOLDER)
    if folder is not None:
        write(outcomes, folder, options.quick)
        print(f"written: {folder / 'results.md'}")
    failed = [outcome.name for outcome in outcomes if outcome.code]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
