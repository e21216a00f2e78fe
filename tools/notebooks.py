"""Build the notebooks from their sources: pair them, run them, store their outputs.

usage: python tools/notebooks.py [NAME ...] [--force] [--index]

A notebook is built when its cells differ from its source, or when it was never run to the end.
NAME, a part of a path such as `00` or `labs/02`, limits the work to what it matches; `--force`
builds even what is current; `--index` only rewrites docs/claims.md from the stored verdicts.
"""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"
CLAIMS = ROOT / "docs" / "claims.md"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def sources() -> list[Path]:
    """Every notebook's source, in the order of the course."""
    return sorted(SOURCES.rglob("*.py"), key=lambda path: (len(path.parts), path))


def notebook_path(source: Path) -> Path:
    """Where the notebook of a source lies."""
    return NOTEBOOKS / source.relative_to(SOURCES).with_suffix(".ipynb")


def read_source(source: Path) -> NotebookNode:
    """The source as a notebook without outputs, with ids that follow from the cells' text."""
    notebook = jupytext.read(source, fmt="py:percent")
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        key = hashlib.sha256(f"{cell.cell_type} {cell.source}".encode()).hexdigest()[:12]
        seen[key] = seen.get(key, 0) + 1
        cell.id = f"{key}-{seen[key]}"
        cell.metadata = NotebookNode()
    notebook.metadata = nbformat.from_dict(
        {
            # As JupyterLab writes it: with anything else, a notebook counts as changed once opened.
            "kernelspec": {
                "name": "python3",
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
            },
        }
    )
    return notebook


def cells_of(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Type and text of each cell: what a source and its notebook have in common."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def is_current(source: Path) -> bool:
    """Whether the notebook has its source's cells and was run to its end."""
    path = notebook_path(source)
    if not path.exists():
        return False
    notebook = nbformat.read(path, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    return cells_of(notebook) == cells_of(read_source(source)) and all(counts)


def build(source: Path) -> float:
    """Run a source and store it as a notebook; nothing is stored when a cell fails.

    Returns:
        Seconds it took.
    """
    started = time.perf_counter()
    notebook = read_source(source)
    path = notebook_path(source)
    client = NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Threads that wait by spinning take the CPU from whatever else the machine is doing.
    client.execute(env={**os.environ, "COURSE_TEST": "1", "GOMP_SPINCOUNT": "10000"})
    for cell in notebook.cells:
        merge_streams(cell)
    number_widgets(notebook)
    text = nbformat.writes(notebook)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return time.perf_counter() - started


def merge_streams(cell: NotebookNode) -> None:
    """Join printed outputs that follow each other: how they were cut depends on the moment."""
    merged: list[NotebookNode] = []
    for output in cell.get("outputs", []):
        before = merged[-1] if merged else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            before["text"] += output.text
        else:
            merged.append(output)
    if cell.cell_type == "code":
        cell.outputs = merged


def number_widgets(notebook: NotebookNode) -> None:
    """Number the widgets in the outputs, so that a rebuild changes no random names.

    Their state is not kept: without it, a page made from the notebook shows the picture or text
    that stands in for each widget, instead of asking a server for a widget library.
    """
    notebook.metadata.pop("widgets", None)
    bundles = [
        output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    views = [bundle[WIDGET_VIEW] for bundle in bundles if WIDGET_VIEW in bundle]
    for number, view in enumerate(views):
        view["model_id"] = f"{number:032x}"


def verdicts() -> list[dict[str, str]]:
    """Every verdict stored in a notebook's outputs, with its notebook, by the claim's number."""
    found = []
    for source in sources():
        path = notebook_path(source)
        if path.exists():
            notebook = nbformat.read(path, as_version=4)
            outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
            facts = [o.get("metadata", {}).get("course", {}).get("verdict") for o in outputs]
            name = path.relative_to(ROOT).as_posix()
            found += [{**fact, "notebook": name} for fact in facts if fact]
    return sorted(found, key=lambda fact: [_natural(p) for p in fact["number"].split(".")])


def claims_page() -> str:
    """docs/claims.md: what the notebooks found."""
    rows = [
        f"| {fact['number']} | {fact['claim']} | **{fact['verdict']}** | {fact['evidence']} "
        f"| [{Path(fact['notebook']).stem}](../{fact['notebook']}) |"
        for fact in verdicts()
    ]
    return "\n".join(
        [
            "# Claims put to the test",
            "",
            "What people say about deep learning, and what the notebooks measured. This page is "
            "made from their stored outputs by `make claims`.",
            "",
            "| claim | it says | verdict | measured | where |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _natural(part: str) -> tuple[bool, int, str]:
    return (not part.isdigit(), int(part) if part.isdigit() else 0, part)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of the paths to build, e.g. 00")
    parser.add_argument("--force", action="store_true", help="build what is current, too")
    parser.add_argument("--index", action="store_true", help="only rewrite docs/claims.md")
    options = parser.parse_args(argv)
    wanted = [
        source
        for source in sources()
        if not options.names
        or any(name in source.relative_to(SOURCES).as_posix() for name in options.names)
    ]
    if not wanted:
        print(f"No source in notebooks/source matches {' '.join(options.names)}.", file=sys.stderr)
        return 1
    for source in [] if options.index else wanted:
        name = notebook_path(source).relative_to(ROOT)
        if is_current(source) and not options.force:
            print(f"{name} is current")
            continue
        print(f"{name} ...", flush=True)
        try:
            print(f"{name} built in {build(source):.0f} s")
        except CellExecutionError as error:
            print(f"{name} was not stored: a cell failed.\n{error}", file=sys.stderr)
            return 1
    CLAIMS.parent.mkdir(exist_ok=True)
    CLAIMS.write_text(claims_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
