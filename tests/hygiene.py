"""What every notebook of the course must be; each check returns what it finds wrong."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

from nbformat import NotebookNode

MAX_LINES = 25
MAX_CELLS = 75
MAX_BYTES = 2 * 1024 * 1024
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SKIPPING = re.compile(r"nbval|raises[-_]exception|pytest_validate", re.IGNORECASE)
MEASURED = re.compile(
    r"(?<![\w.])\d+(?:[.,]\d+)?\s?"
    r"(?:%|(?:percent|s|ms|seconds|minutes|x)\b|times (?:as|faster))"
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]*)\)")


def check_executed(notebook: NotebookNode) -> Iterator[str]:
    """Every code cell was run, in order."""
    counts = [cell.execution_count for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"code cells were run as {counts}, not once each from top to bottom"


def check_outputs(notebook: NotebookNode) -> Iterator[str]:
    """No error and nothing on stderr."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {number} ends in {output.ename}"
            if output.get("name") == "stderr":
                yield f"cell {number} writes to stderr: {output.text[:80]!r}"


def check_compared(notebook: NotebookNode) -> Iterator[str]:
    """No cell hides from nbval, by a tag or by a comment."""
    for number, cell in enumerate(notebook.cells):
        tags = " ".join(cell.metadata.get("tags", []))
        comments = [line for line in cell.source.splitlines() if line.lstrip().startswith("#")]
        if cell.cell_type == "code" and SKIPPING.search("\n".join([tags, *comments])):
            yield f"cell {number} has a mark that changes how it is tested"


def check_size(notebook: NotebookNode) -> Iterator[str]:
    """Short cells, not too many, and a file that can be sent around."""
    for number, cell in enumerate(notebook.cells):
        lines = len(cell.source.splitlines())
        if cell.cell_type == "code" and lines > MAX_LINES:
            yield f"cell {number} has {lines} lines, more than {MAX_LINES}"
    if len(notebook.cells) > MAX_CELLS:
        yield f"the notebook has {len(notebook.cells)} cells, more than {MAX_CELLS}"
    size = len(json.dumps(notebook))
    if size > MAX_BYTES:
        yield f"the notebook has {size} bytes, more than {MAX_BYTES}"


def check_figures(notebook: NotebookNode) -> Iterator[str]:
    """Every picture has alt text; a figure has a visible caption right below it."""
    for number, cell in enumerate(notebook.cells):
        outputs = cell.get("outputs", [])
        for position, output in enumerate(outputs):
            data = output.get("data", {})
            if "image/png" not in data:
                continue
            if not output.metadata.get("image/png", {}).get("alt", "").strip():
                yield f"cell {number} shows a picture without alt text"
            below = outputs[position + 1].get("data", {}) if position + 1 < len(outputs) else {}
            if WIDGET_VIEW not in data and not below.get("text/markdown", "").strip("* \n"):
                yield f"cell {number} shows a figure without a caption below it"


def check_widgets(notebook: NotebookNode) -> Iterator[str]:
    """Every widget has something that stands in where widgets cannot run."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if WIDGET_VIEW in data and not ({"image/png", "text/html"} & set(data)):
                yield f"cell {number} shows a widget without a picture or text in its place"


def check_prose_numbers(notebook: NotebookNode) -> Iterator[str]:
    """No measured number stands in the prose that no cell prints."""
    printed = "\n".join(_texts(notebook))
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "markdown":
            continue
        prose = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
        for match in MEASURED.finditer(prose):
            if match.group() not in printed:
                yield f"cell {number} says {match.group()!r}, which no cell prints"


def check_links(notebook: NotebookNode, folder: Path) -> Iterator[str]:
    """Links are well-formed; those within the project lead somewhere."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "markdown":
            continue
        for link in LINK.findall(cell.source):
            target = urlparse(link)
            if target.scheme in ("http", "https"):
                wrong = not target.netloc or "." not in target.netloc
            elif target.scheme or not link:
                wrong = True
            else:
                wrong = bool(target.path) and not (folder / unquote(target.path)).exists()
            if wrong:
                yield f"cell {number} has a link to {link!r}, which leads nowhere"


def check_kernel(notebook: NotebookNode) -> Iterator[str]:
    """Without a kernel's name JupyterLab opens a dialog that blocks all else."""
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the metadata names no python3 kernel"


def check_anatomy(notebook: NotebookNode) -> Iterator[str]:
    """A title that asks, and a clock that holds the notebook to its budget."""
    title = notebook.cells[0].source.splitlines()[0]
    if not re.fullmatch(r"# .+\?", title):
        yield f"the title is {title!r}; it should be a heading that asks a question"
    code = "\n".join(cell.source for cell in _code(notebook))
    if "report.Clock(budget=" not in code or "clock.stop()" not in code:
        yield "no report.Clock(budget=...) is started and stopped"


def problems(notebook: NotebookNode, folder: Path) -> list[str]:
    """Everything that is wrong with a notebook that lies in `folder`."""
    checks = (
        check_executed, check_outputs, check_compared, check_size, check_figures, check_widgets,
        check_prose_numbers, check_kernel, check_anatomy,
    )  # fmt: skip
    found = [problem for check in checks for problem in check(notebook)]
    return [*found, *check_links(notebook, folder)]


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _texts(notebook: NotebookNode) -> Iterator[str]:
    for cell in _code(notebook):
        for output in cell.outputs:
            yield output.get("text", "")
            yield output.get("data", {}).get("text/plain", "")
