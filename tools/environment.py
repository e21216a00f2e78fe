"""Make the course's Python environment: `python tools/environment.py [--print-python]`.

It makes `.venv` in the project (the variable VENV names another folder) and installs
requirements.txt there. A second run finds a stamp and does nothing; a run after an interrupted
one goes on. What goes wrong ends in one sentence.

This file runs before anything is installed, so it uses the standard library alone, and it keeps
to syntax that Python 2.7 can read: an old Python then says what it lacks.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST_PYTHON = (3, 10)
INPUTS = ("requirements.txt", "constraints.txt", "pyproject.toml")
STAMP = "course-stamp.txt"
LOG = "install.log"
UNFINISHED = "unfinished"
GIGABYTE = 10**9

# What pip's log says, and what a reader can make of it. The first that fits is told.
CAUSES = (
    (r"No space left on device|not enough space", "the disk is full"),
    (r"Permission denied|Access is denied", "a folder there may not be written"),
    (r"ResolutionImpossible|conflicting dependencies", "a package already there does not fit"),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeout|[Rr]ead timed out|ProxyError"
        r"|SSLError|ConnectionResetError|Network is unreachable|No route to host",
        "there is no network, or a proxy that pip does not know",
    ),
    (r"No matching distribution", "no build for this Python and machine, or no network"),
)


class Problem(Exception):
    """What went wrong, in one sentence that names the remedy."""


def main(arguments):
    """Make the environment if it is not ready; returns the exit code."""
    folder = environment_folder()
    try:
        check_python(
            sys.version_info,
            "this Python",
            "install a newer one and name it, for example make lab PYTHON=python3.12",
        )
        if not is_ready(folder):
            prepare(folder)
    except Problem as problem:
        return fail(str(problem))
    except OSError as error:
        return fail(
            "{} cannot be written ({}): move the course to a folder of your own, "
            "or name another one with VENV.".format(folder, error.strerror)
        )
    except KeyboardInterrupt:
        return fail("Stopped; the same command goes on from here.")
    if "--print-python" in arguments:
        print(python_in(folder))
    return 0


def environment_folder():
    """The environment's folder: VENV (relative to the project) or .venv."""
    name = os.environ.get("VENV") or ".venv"
    return os.path.normpath(os.path.join(ROOT, os.path.expanduser(name)))


def python_in(folder):
    """The path of the environment's Python."""
    if os.name == "nt":
        return os.path.join(folder, "Scripts", "python.exe")
    return os.path.join(folder, "bin", "python")


def check_python(version, what, remedy):
    """Refuse a Python that is too old."""
    if tuple(version[:2]) < OLDEST_PYTHON:
        raise Problem(
            "The course needs Python 3.10 or newer, and {} is {}.{}: {}.".format(
                what, version[0], version[1], remedy
            )
        )


def is_ready(folder):
    """Whether a finished install of the same requirements for the same Python is there."""
    stamp = read_stamp(folder)
    if stamp in (None, UNFINISHED):
        return False
    return stamp == fingerprint(python_version(folder))


def prepare(folder):
    """Make the environment, or bring it up to date, and stamp it when all is done."""
    started = time.time()
    check_is_ours(folder)
    torch = package_version(folder, "torch")
    check_torch(folder, torch)
    was_interrupted = read_stamp(folder) == UNFINISHED
    say(
        "Installing the course's packages into {}: the first time takes some minutes "
        "(details: {}).".format(short(folder), short(os.path.join(folder, LOG)))
    )
    if not os.path.isdir(folder):
        os.makedirs(folder)
    check_space(folder, torch)
    write_stamp(folder, UNFINISHED)
    write(os.path.join(folder, LOG), "")
    if python_version(folder) is None:
        create(folder)
    version = python_version(folder)
    if version is None:
        raise Problem(pip_failure(folder, "The environment could not be made"))
    check_python(version, "the one in " + short(folder), "delete that folder and try again")
    if was_interrupted:
        remove_half_installed(folder)
    if package_version(folder, "pip") is None:
        run(folder, [python_in(folder), "-m", "ensurepip"])
    install(folder)
    if torch is not None:
        check_torchvision(folder, torch)
    write_stamp(folder, fingerprint(version))
    say("Ready after {:.0f} s.".format(time.time() - started))


def check_is_ours(folder):
    """Refuse a folder that holds something other than an environment."""
    if not os.path.isdir(folder) or not os.listdir(folder):
        return
    is_environment = os.path.exists(os.path.join(folder, "pyvenv.cfg"))
    if is_environment or read_stamp(folder) or python_version(folder):
        return
    raise Problem(
        "The folder {} holds other files: name a new folder with VENV, or none.".format(folder)
    )


def check_torch(folder, torch):
    """Refuse a torch outside the range in requirements.txt: it may be there for a reason."""
    wanted = torch_range()
    if torch is not None and not fits(torch, wanted):
        raise Problem(
            "The environment {folder} holds torch {torch}, and the course needs torch{wanted}: "
            'run {python} -m pip install --upgrade "torch{wanted}" torchvision, or delete that '
            "folder, then try again.".format(
                folder=short(folder), torch=torch, wanted=wanted, python=short(python_in(folder))
            )
        )


def check_torchvision(folder, torch):
    """Refuse a pair that does not load: pip cannot tell a CPU build from a CUDA build."""
    if ask(folder, "import torchvision; print(torchvision.__version__)") is None:
        raise Problem(
            "The torchvision {} in {} does not load with torch {}, most likely because one is a "
            "CPU build and the other is not: install torchvision from where that torch came "
            "from, then try again.".format(
                package_version(folder, "torchvision"), short(folder), torch
            )
        )


def check_space(folder, torch):
    """Refuse to begin what the disk cannot hold; torch, by far the largest, may be there."""
    needed = space_needed()
    free = free_bytes(folder)
    if torch is None and free < needed:
        raise Problem(
            "The packages need {:.0f} GB while they are installed, and {} has {:.1f} GB free: "
            "make room, name a folder on another disk with VENV, or put a CPU build of torch "
            "there first.".format(needed / float(GIGABYTE), folder, free / float(GIGABYTE))
        )


def space_needed():
    """Bytes for the packages and their downloads; on Linux x86_64 torch brings CUDA along."""
    with_cuda = sys.platform.startswith("linux") and platform.machine() in ("x86_64", "AMD64")
    # Of the 9 GB, 6 stay: the rest is what pip keeps while it works.
    return (9 if with_cuda else 2) * GIGABYTE


def free_bytes(folder):
    """Bytes free on the disk that holds `folder`."""
    return shutil.disk_usage(folder).free


def create(folder):
    """Make a fresh environment in `folder`; a broken one is removed first."""
    if not has_module("venv") or not has_module("ensurepip"):
        raise Problem(
            "This Python cannot make environments, because its venv or ensurepip module is "
            "missing: on Debian or Ubuntu run sudo apt install python{}.{}-venv.".format(
                *sys.version_info[:2]
            )
        )
    for name in os.listdir(folder):
        if name != STAMP:
            remove(os.path.join(folder, name))
    if run(folder, [sys.executable, "-m", "venv", folder]) != 0:
        raise Problem(pip_failure(folder, "The environment could not be made"))


def install(folder):
    """Let pip install the requirements; what it says goes to the log."""
    constraints = constraints_for(folder, package_version(folder, "torch"))
    command = [python_in(folder), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--no-input", "--progress-bar", "off"]
    command += ["-r", os.path.join(ROOT, "requirements.txt"), "-c", constraints]
    if run(folder, command) != 0:
        raise Problem(pip_failure(folder, "The packages could not be installed"))


def constraints_for(folder, torch):
    """The constraints file for pip: one that keeps a torch which is there and will do."""
    path = os.path.join(ROOT, "constraints.txt")
    lines = read(path).splitlines()
    if torch is None or "torch==" + torch in lines:
        return path
    say("Keeping torch {}, which is already there.".format(torch))
    kept = [line for line in lines if not re.match(r"torch(vision)?\s*==", line)]
    filtered = os.path.join(folder, "constraints.txt")
    write(filtered, "\n".join(kept + ["torch==" + torch]) + "\n")
    return filtered


def torch_range():
    """The range of torch in requirements.txt, for example ">=2.9,<3"."""
    lines = read(os.path.join(ROOT, "requirements.txt")).splitlines()
    return [line[len("torch") :].strip() for line in lines if re.match(r"torch\s*[<>]", line)][0]


def fits(version, specifiers):
    """Whether `version` lies in a range made of >= and <, which is all that torch's line uses."""
    for clause in specifiers.split(","):
        if clause.startswith(">=") and numbers(version) < numbers(clause):
            return False
        if clause.startswith("<") and numbers(version) >= numbers(clause):
            return False
    return True


def numbers(text):
    """The first dotted number: "2.13.0+cpu" gives (2, 13, 0)."""
    return tuple(int(part) for part in re.search(r"\d+(\.\d+)*", text).group().split("."))


def remove_half_installed(folder):
    """Forget packages whose install was cut off: pip writes RECORD last, yet would trust them."""
    packages = ask(folder, "import sysconfig; print(sysconfig.get_path('purelib'))")
    for name in os.listdir(packages) if packages and os.path.isdir(packages) else []:
        path = os.path.join(packages, name)
        if name.endswith(".dist-info") and not os.path.exists(os.path.join(path, "RECORD")):
            remove(path)


def pip_failure(folder, what):
    """One sentence from the log: what failed, the usual cause, pip's own words."""
    log = os.path.join(folder, LOG)
    text = read(log) if os.path.exists(log) else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line[len("ERROR:") :].strip() for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["nothing"])[-1].rstrip(".")
    causes = [cause for pattern, cause in CAUSES if re.search(pattern, text)]
    cause = " (usual cause: {})".format(causes[0]) if causes else ""
    return "{}{}: pip said {!r}, and the rest is in {}.".format(what, cause, last, short(log))


def python_version(folder):
    """(major, minor) of the environment's Python, or None if it does not run."""
    answer = ask(folder, "import sys; print('%d.%d' % sys.version_info[:2])")
    return numbers(answer) if answer else None


def package_version(folder, name):
    """The installed version of a package, or None; read without importing the package."""
    return ask(folder, "import importlib.metadata as m; print(m.version({!r}))".format(name))


def ask(folder, code):
    """What the environment's Python prints for `code`, or None if that fails."""
    if not os.path.exists(python_in(folder)):
        return None
    try:
        output = subprocess.check_output(
            [python_in(folder), "-I", "-c", code], stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.decode().strip() or None


def run(folder, command):
    """Run a command in the project with its output in the log; returns the exit code."""
    # A pip told elsewhere to install for the user would refuse to work in an environment.
    variables = dict(os.environ, PIP_USER="0")
    with open(os.path.join(folder, LOG), "ab") as log:
        return subprocess.call(
            command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT
        )


def fingerprint(version):
    """What the stamp holds: it changes with the requirements, the Python, or the place."""
    digest = hashlib.sha256(repr((version, ROOT)).encode())
    for path in [os.path.join(ROOT, name) for name in INPUTS]:
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def read_stamp(folder):
    """The stamp's text, or None."""
    path = os.path.join(folder, STAMP)
    return read(path).strip() if os.path.isfile(path) else None


def write_stamp(folder, text):
    """Write the stamp."""
    write(os.path.join(folder, STAMP), text + "\n")


def has_module(name):
    """Whether this Python has the module `name`."""
    import importlib.util  # Python 2.7 has no such module, and never comes here.

    return importlib.util.find_spec(name) is not None


def read(path):
    """The text of a file, whatever odd bytes it holds."""
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def write(path, text):
    """Write a text file."""
    with open(path, "wb") as file:
        file.write(text.encode("utf-8"))


def remove(path):
    """Delete a file, a link or a folder."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def short(path):
    """The path as seen from the project, where that is shorter to read."""
    inside = path.startswith(ROOT + os.sep)
    return path[len(ROOT) + 1 :] if inside else path


def say(text):
    """Tell the reader, on stderr: stdout is for --print-python."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fail(text):
    """Tell the reader what went wrong; returns the exit code."""
    say(text)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
