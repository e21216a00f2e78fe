"""The data sets that ship with the course: where they lie, and whether they are whole.

Each folder `data/<set>` holds a `SHA256SUMS` in the format of coreutils, so that
`sha256sum -c SHA256SUMS` works there, too. A comment line above each entry gives the file's size,
which lets a file that was cut short be told from one that was changed. Only the standard library
is used: checking must not wait for torch to be imported.
"""

import argparse
import functools
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

NAMES = (
    "austen",
    "backgrounds",
    "brain_mri",
    "claims",
    "cutouts",
    "english_french",
    "fashion_mnist",
    "mnist",
    "movie_reviews",
    "nuclei",
    "shakespeare",
    "style",
    "tree_crowns",
    "wikipedia",
)

NOT_SUMMED = {"README.md", "LICENSE", "SHA256SUMS"}


class DataError(RuntimeError):
    """A data file is missing, damaged or cannot be fetched; the message names file and remedy."""


class Sum(NamedTuple):
    """What a file must be: its sha256 in hexadecimal and, where the list says so, its bytes."""

    sha256: str
    size: int | None


@dataclass(frozen=True)
class Facts:
    """One line of `python -m course_lib data list`; `size` is in bytes."""

    name: str
    title: str
    size: int
    licence: str


def data_root() -> Path:
    """The folder of all sets: `COURSE_DATA` if set, else `data/` beside this package."""
    override = os.environ.get("COURSE_DATA")
    return Path(override) if override else Path(__file__).resolve().parent.parent / "data"


def sets() -> tuple[str, ...]:
    """The names of the sets that ship with the course, in alphabetical order."""
    return NAMES


def read_sums(folder: Path) -> dict[str, Sum]:
    """Read `folder/SHA256SUMS`: relative path (with forward slashes) -> `Sum`.

    Raises DataError if the list is missing, unreadable as a list, or empty.
    """
    folder = Path(folder)
    path = folder / "SHA256SUMS"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(_sentences(path, "is missing", folder.name)) from None
    except UnicodeDecodeError:
        raise DataError(_sentences(path, "is not a list of checksums", folder.name)) from None
    sums: dict[str, Sum] = {}
    size = None
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):  # "# 123 bytes", which sha256sum -c skips
            word = line[1:].split()[:1]
            size = int(word[0]) if word and word[0].isdigit() else None
            continue
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise DataError(_sentences(path, f"is damaged at line {number}", folder.name))
        sums[name] = Sum(digest, size)
        size = None
    if not sums:
        raise DataError(_sentences(path, "is empty", folder.name))
    return sums


def verify(name: str, root: Path | None = None, files: tuple[str, ...] = ()) -> Path:
    """Check every listed file of the set `name`, and that each of `files` is listed at all.

    Returns the set's folder. A file is hashed once per process, as long as its size and time of
    change stay the same. Raises ValueError for an unknown name and DataError for the first file
    that is missing, cut short, altered or not listed.
    """
    if name not in NAMES:
        raise ValueError(f"name = {name!r} is not a data set; allowed: {', '.join(NAMES)}")
    folder = Path(root or data_root()) / name
    sums = read_sums(folder)
    for file in files:
        if file not in sums:
            raise DataError(_sentences(folder / file, "is not listed in SHA256SUMS", name))
    for file, expected in sums.items():
        problem = _problem(folder / file, expected)
        if problem:
            raise DataError(_sentences(folder / file, problem, name))
    return folder


def verify_all(root: Path | None = None) -> dict[str, str | None]:
    """Check all sets: name -> None if it is whole, else the sentences of its DataError."""
    results: dict[str, str | None] = {}
    for name in sets():
        try:
            verify(name, root)
            results[name] = None
        except DataError as error:
            results[name] = str(error)
    return results


def write_sums(folder: Path) -> None:
    """(Re)write `folder/SHA256SUMS`: all files but the datasheet and the licence."""
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name in NOT_SUMMED:
            continue
        content = path.read_bytes()
        lines.append(f"# {len(content)} bytes\n")
        digest = hashlib.sha256(content).hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    text = "".join(lines)
    (folder / "SHA256SUMS").write_text(text, encoding="utf-8", newline="\n")


def facts(name: str, root: Path | None = None) -> Facts:
    """The datasheet in one line: its title, the sizes in SHA256SUMS, and its `Licence:` line."""
    folder = Path(root or data_root()) / name
    sheet = folder / "README.md"
    try:
        lines = sheet.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(_sentences(sheet, "is missing", name)) from None
    title = next((line[2:] for line in lines if line.startswith("# ")), None)
    licence = next((line[9:] for line in lines if line.startswith("Licence: ")), None)
    if title is None or licence is None:
        raise DataError(_sentences(sheet, "has no title or no `Licence:` line", name))
    size = sum(entry.size or 0 for entry in read_sums(folder).values())
    return Facts(name, title, size, licence)


def main(argv: list[str] | None = None) -> int:
    """The command line `data verify [set ...]` and `data list`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m course_lib data")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="check every data file against its sha256")
    check.add_argument("sets", nargs="*", metavar="set", help="a set's name; all if none is given")
    commands.add_parser("list", help="name, contents, size and licence of every set")
    arguments = parser.parse_args(argv)
    if arguments.command == "list":
        return _print_list()
    unknown = [name for name in arguments.sets if name not in NAMES]
    if unknown:
        parser.error(f"unknown set {unknown[0]!r}; allowed: {', '.join(NAMES)}")
    return _print_verify(tuple(arguments.sets) or sets())


def _print_list() -> int:
    status = 0
    for name in sets():
        try:
            fact = facts(name)
        except DataError as error:
            print(f"{name:<15}{error}")
            status = 1
            continue
        print(f"{name:<15}{fact.title} | {fact.size / 1e6:.1f} MB | {fact.licence}")
    return status


def _print_verify(names: tuple[str, ...]) -> int:
    status = 0
    for name in names:
        try:
            count = len(read_sums(verify(name)))
        except DataError as error:
            print(f"{name:<15}{error}")
            status = 1
            continue
        print(f"{name:<15}ok ({count} {'file' if count == 1 else 'files'})")
    return status


def _problem(path: Path, expected: Sum) -> str | None:
    if not path.is_file():
        return "is missing"
    state = path.stat()
    if expected.size is not None and state.st_size != expected.size:
        how = "was cut short" if state.st_size < expected.size else "was altered"
        return f"{how}: it has {state.st_size:,} bytes instead of {expected.size:,}"
    try:
        digest = _sha256(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if digest != expected.sha256:
        return f"was altered: its sha256 begins {digest[:12]} instead of {expected.sha256[:12]}"
    return None


@functools.cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    # size and mtime_ns are there for the cache: a file that changes is hashed again
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sentences(path: Path, problem: str, name: str) -> str:
    return (
        f"{path} {problem}. Restore it with `git checkout -- data/{name}`"
        f" or, without git, copy data/{name} anew from the project's release."
    )


if __name__ == "__main__":
    sys.exit(main())
