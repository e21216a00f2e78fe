"""The terms that the notebooks define, each with a link to the place.

A notebook defines a term in a quoted line of its own, `> **logit**: one raw score for each class.`
The glossary is read from those lines, so it grows with the chapters and repeats nothing.
"""

import html
import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from IPython.display import display

from course_lib.teaching import course, report

DEFINITION = re.compile(r"^> \*\*(?P<term>[^*]+)\*\*: (?P<meaning>.+)$")


@dataclass(frozen=True)
class Term:
    """One term, what it means, and the notebook and section that define it."""

    name: str
    meaning: str
    notebook: str  # path below notebooks/, without ending, e.g. "00_start_here"
    heading: str


def terms(sources: Path = course.SOURCES) -> list[Term]:
    """Every term defined in the notebooks' sources, in alphabetical order.

    Raises:
        ValueError: two places define the same term.
    """
    found: dict[str, Term] = {}
    for path in sorted(sources.rglob("*.py")):
        name = path.relative_to(sources).with_suffix("").as_posix()
        for term in _terms_of(path.read_text(encoding="utf-8"), name):
            if term.name in found:
                other = found[term.name]
                raise ValueError(
                    f"{term.name!r} is defined in {other.notebook} ({other.heading}) and again in "
                    f"{term.notebook} ({term.heading}); one place is enough"
                )
            found[term.name] = term
    return sorted(found.values(), key=lambda term: term.name.lower())


def show() -> None:
    """Display every term with its meaning and a link to where it is defined."""
    rows = "".join(_row(term) for term in terms())
    # Its length follows the chapters, not this notebook: its text is checked elsewhere.
    table = f"<!--[sample]--><table>{rows}</table><!--[end of sample]-->"
    display({"text/html": table, "text/plain": "[glossary]"}, raw=True)


def _row(term: Term) -> str:
    link = f"{term.notebook}.ipynb#{term.heading.replace(' ', '-')}"
    cells = (
        f'<a href="{html.escape(link, quote=True)}">{html.escape(term.name)}</a>',
        report.to_html(term.meaning),
    )
    style = "text-align:left;white-space:normal"
    return "<tr>" + "".join(f'<td style="{style}">{cell}</td>' for cell in cells) + "</tr>"


def _terms_of(source: str, notebook: str) -> list[Term]:
    found, heading = [], ""
    lines = _markdown_lines(source)
    for number, line in enumerate(lines):
        if re.match(r"#{1,4} \S", line):
            heading = line.lstrip("#").strip()
        match = DEFINITION.match(line)
        if match:
            more = takewhile(lambda line: line.startswith("> "), lines[number + 1 :])
            meaning = [match["meaning"], *(line.removeprefix("> ") for line in more)]
            found.append(Term(match["term"], " ".join(meaning), notebook, heading))
    return found


def _markdown_lines(source: str) -> list[str]:
    """The text of the markdown cells of a py:percent file, without its comment signs."""
    lines, inside = [], False
    for line in source.splitlines():
        if line.startswith("# %%"):
            inside = "[markdown]" in line
        elif inside:
            lines.append(line.removeprefix("#").strip())
    return lines
