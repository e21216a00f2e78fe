"""The command line: `python -m course_lib lab | doctor | data | train | ...`.

Each command imports what it needs only when it runs, so that checking the data does not wait
for torch.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
LAB_SETTINGS = ROOT / "tools" / "lab_settings"
# A notebook as argument would make its folder the root, and links to data/ would lead nowhere.
LAB_START = [f"--ServerApp.root_dir={ROOT}"]
LAB_START += ["--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]

USAGE = """usage: python -m course_lib COMMAND

  lab                 check the data and open the course in JupyterLab
  doctor              check this machine and say what to mend
  data list           the data sets that ship with the course
  data verify         compare every data file with its checksum
  train NAME          a chapter's training run; train --help lists names and options
  predict NAME        asks a trained model: --weights FILE INPUT
  export NAME         writes one for other programs: --weights FILE --to model.onnx
  claims [ID]         computes the training runs behind a stored claim; alone, lists them
  bench [NAME]        the course's code measured beside its peers; alone, writes the table"""


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code (2 for a command that does not exist)."""
    commands = _commands()
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if argv else 2
    name, *arguments = argv
    if name not in commands:
        return _refuse(f"There is no command {name!r}; allowed are {', '.join(commands)}.")
    return commands[name](arguments)


def lab(argv: Sequence[str]) -> int:
    """Check the data, then open JupyterLab with the course's settings; `argv` goes to it."""
    code = import_module("course_lib.checksums").main(["verify"])
    if code:
        return code
    paths = [str(LAB_SETTINGS), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    settings = {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths))}
    # Ctrl + C is JupyterLab's, which asks before it stops; this process waits for its answer.
    signal.signal(signal.SIGINT, lambda *_: None)
    command = [sys.executable, "-m", "jupyterlab", *LAB_START, *argv]
    return subprocess.call(command, env={**_environment(), **settings})


def bench(argv: Sequence[str], folder: Path = BENCHMARKS) -> int:
    """Run the benchmark named, or all, which writes their table; the rest goes to the script."""
    scripts = {path.stem.removeprefix("bench_"): path for path in folder.glob("bench_*.py")}
    name, arguments = "", argv
    if argv and not argv[0].startswith("-"):
        name, *arguments = argv
    script = scripts.get(name) if name else folder / "table.py"
    if not scripts or script is None:
        allowed = ", ".join(sorted(scripts)) or "none: the checkout has no benchmarks"
        return _refuse(f"There is no benchmark {name!r}; allowed are {allowed}.")
    # A script killed by a signal has a negative code.
    return abs(subprocess.call([sys.executable, str(script), *arguments], env=_environment()))


def _commands() -> dict[str, Callable[[Sequence[str]], int]]:
    return {
        "lab": lab,
        "doctor": _later("course_lib.doctor"),
        "data": _later("course_lib.checksums"),
        "train": _later("course_lib.recipes"),
        "predict": _later("course_lib.recipes", "predict"),
        "export": _later("course_lib.recipes", "export"),
        "claims": _later("course_lib.teaching.experiments.command"),
        "bench": bench,
    }


def _later(module: str, function: str = "main") -> Callable[[Sequence[str]], int]:
    def run(argv: Sequence[str]) -> int:
        return getattr(import_module(module), function)(argv)

    return run


def _environment() -> dict[str, str]:
    # Threads that wait by spinning would fight with others for the same few cores.
    return {"GOMP_SPINCOUNT": "10000", **os.environ}


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
