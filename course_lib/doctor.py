"""Is this machine ready for the course? `python -m course_lib doctor` says what to mend."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST_PYTHON = (3, 10)
GIGABYTE = 10**9
# What the hungriest notebook takes beside the browser, with a margin.
MEMORY_NEEDED = 2 * GIGABYTE
# Room for checkpoints and for the notebooks' outputs.
DISK_NEEDED = 1 * GIGABYTE

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "matplotlib",
    "jupyterlab",
    "ipywidgets",
    "anywidget",
)
WIDGET_FRONT_ENDS = ("@jupyter-widgets/jupyterlab-manager", "anywidget")
COMPILERS = ("c++", "g++", "clang++", "cl")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: what was looked at.
        value: what was found.
        ok: whether that will do.
        remedy: one sentence that says what to do where it will not.
        required: whether the course needs it; what is not required is only noted.
    """

    name: str
    value: str
    ok: bool
    remedy: str
    required: bool = True


@dataclass(frozen=True)
class _Probe:
    """A check still to be run: `look` returns what was found and whether it will do."""

    name: str
    look: Callable[[], tuple[str, bool]]
    remedy: str
    required: bool = True


def checks() -> list[Check]:
    """Look at everything; a look that fails is a line with `ok=False`, never an exception."""
    return [_run(probe) for probe in _probes()]


def main(argv: Sequence[str]) -> int:
    """Print the table and the remedies; returns 1 if something required is missing."""
    if argv:
        print(f"doctor takes no arguments, and got {' '.join(argv)!r}.", file=sys.stderr)
        return 2
    found = checks()
    print(table(found))
    failed = [check for check in found if check.required and not check.ok]
    if failed:
        print(f"\nTo mend: {', '.join(check.name for check in failed)}.")
        return 1
    print("\nThis machine is ready for the course.")
    return 0


def table(found: Sequence[Check]) -> str:
    """The checks as aligned lines, each that needs something followed by its remedy."""
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        lines.append(f"{_mark(check):4}  {check.name:{width}}  {check.value}")
        if not check.ok:
            lines.append(f"{'':4}  {'':{width}}  -> {check.remedy}")
    return "\n".join(lines)


def _mark(check: Check) -> str:
    if check.ok:
        return "ok"
    return "FAIL" if check.required else "note"


def _run(probe: _Probe) -> Check:
    try:
        value, ok = probe.look()
    except Exception as error:  # Whatever is broken, the other lines still help.
        value, ok = f"{type(error).__name__}: {_first_line(str(error))}", False
    return Check(probe.name, value, ok, probe.remedy, probe.required)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _probes() -> list[_Probe]:
    return [
        _Probe("Python", _python, "Install Python 3.10 or newer and run make lab again."),
        *(_Probe(name, partial(_package, name), _upgrade(name)) for name in PACKAGES),
        _Probe(
            "torchvision's operators",
            _operators,
            "Install torch and torchvision together, both as CPU builds or both as CUDA builds.",
        ),
        _Probe(
            "device",
            _device,
            "Unset COURSE_DEVICE, or set it to cpu, or to cuda or mps where the machine has it.",
        ),
        _Probe(
            "threads",
            _threads,
            "Set OMP_NUM_THREADS to the number of cores: more threads than cores are slower.",
            required=False,
        ),
        _Probe(
            "bfloat16",
            _bfloat16,
            "Nothing to do: without it in hardware, training computes in float32.",
            required=False,
        ),
        _Probe(
            "free memory",
            _memory,
            f"Close other programs or notebooks: a chapter takes up to {_size(MEMORY_NEEDED)}.",
            required=False,
        ),
        _Probe(
            "free disk",
            _disk,
            f"Make room: outputs and checkpoints take up to {_size(DISK_NEEDED)}.",
            required=False,
        ),
        _Probe(
            "C++ compiler",
            _compiler,
            "Only torch.compile needs one: install g++ (Linux), the Xcode command line tools "
            "(macOS) or the Visual Studio build tools (Windows).",
            required=False,
        ),
        _Probe("data", _data, "Restore the files, for example with git checkout -- data."),
        _Probe(
            "widgets",
            _widgets,
            f"Run {_python_command()} -m pip install --force-reinstall --no-deps "
            "jupyterlab-widgets anywidget, then reload JupyterLab.",
        ),
        _Probe(
            "kernel",
            _kernel,
            f"Run {_python_command()} -m ipykernel install --sys-prefix, which names this Python.",
        ),
        _Probe(
            "browser",
            _browser,
            "Only the browser tests need one: install Chromium or Google Chrome.",
            required=False,
        ),
    ]


def _python() -> tuple[str, bool]:
    return platform.python_version(), sys.version_info >= OLDEST_PYTHON


def _package(name: str) -> tuple[str, bool]:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed", False
    wanted = _requirement(name).specifier
    ok = wanted.contains(version, prereleases=True)
    return (version if ok else f"{version}, needed is {wanted}"), ok


def _upgrade(name: str) -> str:
    try:
        wanted = str(_requirement(name))
    except Exception:  # No requirements.txt here: the check itself will say so.
        wanted = name
    return f'Run {_python_command()} -m pip install --upgrade "{wanted}".'


def _requirement(name: str):
    """The line of requirements.txt for one package, parsed."""
    from packaging.requirements import Requirement

    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line[:1].isalpha()]
    return next(requirement for requirement in parsed if requirement.name == name)


def _python_command() -> str:
    path = sys.executable
    return f'"{path}"' if " " in path else path


def _operators() -> tuple[str, bool]:
    import torch
    import torchvision

    # With the wrong torch, the import works or not; calling an operator settles it.
    kept = torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
    return f"load with torch {torch.__version__}", kept.tolist() == [0]


def _device() -> tuple[str, bool]:
    import torch

    from course_lib import runtime

    device = runtime.default_device()
    wanted = os.environ.get("COURSE_DEVICE")
    if wanted:
        return f"{device} (COURSE_DEVICE={wanted})", True
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})", True
    return f"{device}" + (" (no GPU, and none is needed)" if device.type == "cpu" else ""), True


def _threads() -> tuple[str, bool]:
    import torch

    threads, cores = torch.get_num_threads(), _usable_cores()
    return f"{threads} for {cores} cores", threads <= cores


def _usable_cores() -> int:
    """Cores this process may use, which a container can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bfloat16() -> tuple[str, bool]:
    from course_lib import runtime

    has = runtime.has_bfloat16(runtime.default_device())
    return ("in hardware" if has else "not in hardware"), has


def _memory() -> tuple[str, bool]:
    import psutil

    free = psutil.virtual_memory().available
    return _size(free), free >= MEMORY_NEEDED


def _disk() -> tuple[str, bool]:
    free = shutil.disk_usage(ROOT).free
    return _size(free), free >= DISK_NEEDED


def _size(number_of_bytes: float) -> str:
    return f"{number_of_bytes / GIGABYTE:.0f} GB"


def _compiler() -> tuple[str, bool]:
    names = (os.environ.get("CXX", ""), *COMPILERS)
    return _first_on_path([name for name in names if name])


def _browser() -> tuple[str, bool]:
    return _first_on_path(BROWSERS)


def _first_on_path(names: Sequence[str]) -> tuple[str, bool]:
    found = [path for path in map(shutil.which, names) if path]
    return (found[0], True) if found else ("none found", False)


def _data() -> tuple[str, bool]:
    from course_lib import checksums

    outcome = checksums.verify_all()
    problems = [f"{name}: {problem}" for name, problem in outcome.items() if problem]
    if problems:
        return "; ".join(problems), False
    return f"{len(outcome)} data sets intact", len(outcome) > 0


def _widgets() -> tuple[str, bool]:
    from jupyter_core.paths import jupyter_path

    folders = [Path(folder) for folder in jupyter_path("labextensions")]
    missing = [
        name
        for name in WIDGET_FRONT_ENDS
        if not any((folder / name / "package.json").is_file() for folder in folders)
    ]
    if missing:
        return f"JupyterLab does not find {' and '.join(missing)}", False
    return "JupyterLab can show them", True


def _kernel() -> tuple[str, bool]:
    from jupyter_client.kernelspec import KernelSpecManager

    command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    if not os.path.isabs(command):  # Jupyter reads a bare "python" as its own interpreter.
        return "python3 is this Python", True
    # Not resolved: environments made from one Python all link to it.
    is_this = Path(command).parent == Path(sys.executable).parent
    return ("python3 is this Python" if is_this else f"python3 is {command}"), is_this
