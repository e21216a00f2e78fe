"""Which exercises a learner has solved, kept in one small file beside the notebooks."""

import json
import os
from pathlib import Path

from course_lib import runtime
from course_lib.teaching import course


def path() -> Path:
    """Where the progress is kept: `COURSE_PROGRESS`, or a file in the course's folder."""
    return Path(os.environ.get("COURSE_PROGRESS") or course.ROOT / ".course_progress.json")


def solved() -> set[str]:
    """Numbers of the exercises solved so far, e.g. {"0.1"}; nothing in test mode.

    A file that cannot be read counts as empty: progress is a comfort, never a reason to stop.
    """
    if runtime.is_test():
        return set()
    try:
        return set(json.loads(path().read_text(encoding="utf-8"))["solved"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def remember(number: str) -> None:
    """Note that exercise `number` is solved; a folder that cannot be written is left alone."""
    if runtime.is_test():
        return
    numbers = sorted(solved() | {number})
    unfinished = path().with_suffix(".unfinished")
    try:
        unfinished.write_text(json.dumps({"solved": numbers}, indent=1), encoding="utf-8")
        os.replace(unfinished, path())
    except OSError:
        pass
