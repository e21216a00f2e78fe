"""Exercises that answer back: a check with a reason, graded hints, and a solution.

Each chapter's exercises and quizzes stand in one module, `ch00`, `ch01`, ...
"""

import importlib
import pkgutil

from IPython.display import display

from course_lib.teaching import course, progress
from course_lib.teaching.exercises.exercise import Exercise, Rejected

__all__ = ["Exercise", "Rejected", "by_chapter", "show_progress"]


def by_chapter() -> dict[int, tuple[Exercise, ...]]:
    """The exercises of every chapter that has a module here, by the chapter's number."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name.startswith("ch"))
    modules = {int(name[2:]): importlib.import_module(f"{__name__}.{name}") for name in names}
    return {number: module.EXERCISES for number, module in modules.items()}


def show_progress() -> None:
    """Display, for each chapter with exercises, how many are solved and which are open."""
    done = progress.solved()
    rows, lines = [], []
    for number, items in by_chapter().items():
        title = course.CHAPTERS[number].title
        count = sum(exercise.number in done for exercise in items)
        bar = f'<progress max="{len(items)}" value="{count}"></progress>'
        names = " ".join(_mark(exercise, exercise.number in done) for exercise in items)
        rows.append(f"<tr><td>{number:02d} {title}</td><td>{bar}</td><td>{names}</td></tr>")
        lines.append(f"{number:02d} {title}: {count} of {len(items)} solved")
    # The table follows the learner and the chapters; it is no result of this notebook.
    table = f"<!--[sample]--><table>{''.join(rows)}</table><!--[end of sample]-->"
    text = "\n".join(["[sample]", *lines, "[end of sample]"])
    display({"text/html": table, "text/plain": text}, raw=True)


def _mark(exercise: Exercise, is_solved: bool) -> str:
    return f'<span title="{exercise.title}">{"✓" if is_solved else "○"} {exercise.number}</span>'
