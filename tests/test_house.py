"""The layout that the course's design asks for: small files, imports that run one way."""

import ast
import io
import os
import subprocess
import sys
import tokenize
from pathlib import Path
from statistics import median

import pytest

from course_lib.teaching import course

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "course_lib"
LIBRARY = (*PACKAGE.glob("*.py"), *(PACKAGE / "recipes").glob("*.py"))
MODULES = sorted(LIBRARY)
CHAPTERS = [chapter.name for chapter in course.CHAPTERS[1:]]
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
NO_CODE |= {tokenize.ENDMARKER}
# What the command line starts may print, and recipes are made of every chapter.
COMMANDS = {"__main__", "command", "doctor", "checksums"}
RECIPES = {path.stem for path in (PACKAGE / "recipes").glob("*.py")}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_library_never_imports_teaching(path):
    assert not [name for name in imports(path) if name.startswith("course_lib.teaching")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_chapters_import_earlier_chapters_only_and_shared_modules_none(path):
    own = CHAPTERS.index(path.stem) if path.stem in CHAPTERS else 0
    allowed = CHAPTERS if path.stem in RECIPES else CHAPTERS[:own]
    used = {name.split(".")[1] for name in imports(path) if name.startswith("course_lib.")}
    assert used & set(CHAPTERS) <= set(allowed)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_commands_print(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    prints = [call for call in calls if getattr(call.func, "id", "") == "print"]
    assert not prints or path.stem in COMMANDS


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_files_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def code_lines(path):
    """How many lines hold code: neither blank, nor comment, nor docstring."""
    text = path.read_text(encoding="utf-8")
    lines = {
        number
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NO_CODE
        for number in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_code_lines_are_counted_without_blanks_comments_and_docstrings(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""A\ndocstring."""\n\n# a comment\nx = [  # an opened one\n    1,\n]\n')
    assert code_lines(path) == 3


def test_the_library_stays_small():
    # Twelve chapters of about 450 lines each, their recipes, and what they share.
    assert sum(map(code_lines, MODULES)) <= 9000


def seconds(statement):
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)


@pytest.mark.slow
def test_importing_the_library_costs_little_above_torch():
    everything = "from course_lib import batches, cnn, data, recipes, runtime, train"
    extra = [seconds(f"import torch; t = time.perf_counter(); {everything}") for _ in range(3)]
    assert median(extra) <= 0.3


def test_importing_the_package_imports_no_torch():
    code = "import sys, course_lib, course_lib.checksums; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
