"""Hygiene of the notebooks, and proof that each of its checks can fail."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.teaching import course, exercises, glossary
from tests import hygiene

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("notebooks_tool", ROOT / "tools" / "notebooks.py")
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)

NOTEBOOKS = course.notebooks()


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_hygiene(path):
    found = hygiene.problems(nbformat.read(path, as_version=4), path.parent)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_format(path):
    nbformat.validate(nbformat.read(path, as_version=4))


def test_every_source_has_its_notebook_and_every_notebook_its_source():
    assert sorted(map(tool.notebook_path, tool.sources())) == sorted(NOTEBOOKS)


@pytest.mark.parametrize("source", tool.sources(), ids=name_of)
def test_source_and_notebook_are_equal(source):
    assert tool.is_current(source), f"run: make notebooks ONLY={source.stem}"


def test_the_index_of_claims_is_current():
    assert tool.CLAIMS.read_text(encoding="utf-8") == tool.claims_page(), "run: make claims"


def test_no_claim_is_settled_twice():
    numbers = [fact["number"] for fact in tool.verdicts()]
    assert len(numbers) == len(set(numbers)) and numbers


def test_the_stored_glossary_is_current():
    start = nbformat.read(course.NOTEBOOKS / "00_start_here.ipynb", as_version=4)
    html = start.cells[-1].outputs[0]["data"]["text/html"]
    stored = re.findall(r'<a href="([^"]+)">', html)
    expected = [
        f"{term.notebook}.ipynb#{term.heading.replace(' ', '-')}" for term in glossary.terms()
    ]
    assert stored == expected, "run: python tools/notebooks.py 00 --force"


def test_the_readme_lists_the_chapters_that_exist():
    rows = re.findall(r"^\| \[(\d\d)\]\(notebooks/(\S+)\.ipynb\)", _readme(), re.MULTILINE)
    written = [chapter for chapter in course.CHAPTERS if chapter.is_written]
    assert rows == [(f"{chapter.number:02d}", chapter.stem) for chapter in written]
    for chapter in written:
        assert f"| {chapter.question} |" in _readme()


def test_every_written_chapter_has_exercises():
    written = {chapter.number for chapter in course.CHAPTERS if chapter.is_written}
    assert set(exercises.by_chapter()) == written


def _readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


# --- the checks can fail -----------------------------------------------------------------------


def picture(alt="A line."):
    return new_output("display_data", data={"image/png": "aaaa", "text/plain": "[figure]"},
                      metadata={"image/png": {"alt": alt}})  # fmt: skip


def caption(text="*See.*"):
    return new_output("display_data", data={"text/markdown": text, "text/plain": text})


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def code(source, outputs=(), count=None):
    return new_code_cell(source, outputs=list(outputs), execution_count=count)


@pytest.fixture
def good():
    """A small notebook in which nothing is wrong."""
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# 01 · Why?\n\nIt takes 3 s. See [data](data.txt)."),
            code("clock = report.Clock(budget=1)", count=1),
            code("print(1)", [stream("it took 3 s"), picture(), caption()], 2),
            code("clock.stop()", count=3),
        ]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return notebook


def found(notebook, tmp_path):
    (tmp_path / "data.txt").touch()
    return "\n".join(hygiene.problems(notebook, tmp_path))


def test_a_good_notebook_has_no_problems(good, tmp_path):
    assert found(good, tmp_path) == ""


WIDGET = {hygiene.WIDGET_VIEW: {"model_id": "1"}, "text/plain": "[widget]"}
BREAKS = {
    "code cells were run as": lambda nb: nb.cells[2].update(execution_count=None),
    "not once each": lambda nb: nb.cells[3].update(execution_count=2),
    "ends in ValueError": lambda nb: nb.cells[2].outputs.append(
        new_output("error", ename="ValueError", evalue="", traceback=[])
    ),
    "writes to stderr": lambda nb: nb.cells[2].outputs.append(stream("warning", "stderr")),
    "a mark that changes": lambda nb: nb.cells[2].metadata.update(tags=["nbval-ignore-output"]),
    "a mark that changes how": lambda nb: nb.cells[2].update(source="# NBVAL_SKIP\n1"),
    "cell 2 has 26 lines": lambda nb: nb.cells[2].update(source="\n".join(["1"] * 26)),
    "cells, more than": lambda nb: nb.cells.extend([new_markdown_cell("a")] * hygiene.MAX_CELLS),
    "bytes, more than": lambda nb: nb.cells[2].outputs.append(stream("a" * hygiene.MAX_BYTES)),
    "without alt text": lambda nb: nb.cells[2].outputs.insert(0, picture(" ")),
    "without a caption": lambda nb: nb.cells[2].outputs.append(picture()),
    "without a picture or text": lambda nb: nb.cells[2].outputs.append(
        new_output("display_data", data=WIDGET)
    ),
    "says '99.1 %'": lambda nb: nb.cells.append(new_markdown_cell("We reach 99.1 %.")),
    "says '5 times faster'": lambda nb: nb.cells.append(new_markdown_cell("5 times faster")),
    "link to 'gone.txt'": lambda nb: nb.cells.append(new_markdown_cell("[a](gone.txt)")),
    "link to 'htp://a.b'": lambda nb: nb.cells.append(new_markdown_cell("[a](htp://a.b)")),
    "link to ''": lambda nb: nb.cells.append(new_markdown_cell("[a]()")),
    "names no python3 kernel": lambda nb: nb.metadata.pop("kernelspec"),
    "should be a heading that asks": lambda nb: nb.cells[0].update(source="# 01 · So."),
    "no report.Clock": lambda nb: nb.cells[3].update(source="1"),
}


@pytest.mark.parametrize("said", BREAKS)
def test_each_check_can_fail(good, tmp_path, said):
    BREAKS[said](good)
    assert said in found(good, tmp_path)


# --- building ----------------------------------------------------------------------------------


SOURCE = """# %% [markdown]
# # 01 · Why?

# %%
import sys
print("one")
print("two", flush=True)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    notebooks = tmp_path / "notebooks"
    (notebooks / "source" / "labs").mkdir(parents=True)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(tool, "SOURCES", notebooks / "source")
    monkeypatch.setattr(tool, "CLAIMS", tmp_path / "docs" / "claims.md")
    (notebooks / "source" / "labs" / "01_a.py").write_text(SOURCE)
    return notebooks


def test_building_runs_stores_and_then_has_nothing_to_do(project, capsys):
    source = project / "source" / "labs" / "01_a.py"
    assert not tool.is_current(source)
    assert tool.main([]) == 0
    built = project / "labs" / "01_a.ipynb"
    cell = nbformat.read(built, as_version=4).cells[1]
    assert [output.text for output in cell.outputs] == ["one\ntwo\n"]
    before = built.read_bytes()
    assert tool.main([]) == 0 and built.read_bytes() == before
    assert "01_a.ipynb is current" in capsys.readouterr().out
    assert tool.main(["--force"]) == 0 and built.read_bytes() == before, "a rebuild changed it"

    source.write_text(SOURCE + "1 / 0\n")
    assert not tool.is_current(source)
    assert tool.main(["01"]) == 1
    assert built.read_bytes() == before, "a failing cell must leave the old notebook"
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_name_that_matches_nothing_is_an_error(project, capsys):
    assert tool.main(["99"]) == 1
    assert "matches 99" in capsys.readouterr().err


def test_widgets_are_numbered_and_their_state_is_left_out():
    views = [{"model_id": "f" * 32}, {"model_id": "a" * 32}]
    outputs = [new_output("display_data", data={hygiene.WIDGET_VIEW: view}) for view in views]
    notebook = new_notebook(cells=[code("1", outputs, 1)], metadata={"widgets": {"state": {}}})
    tool.number_widgets(notebook)
    data = [output["data"] for output in notebook.cells[0].outputs]
    assert [bundle[hygiene.WIDGET_VIEW]["model_id"] for bundle in data] == ["0" * 32, f"{1:032x}"]
    assert "widgets" not in notebook.metadata
