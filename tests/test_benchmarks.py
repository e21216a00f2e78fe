"""Every benchmark runs in quick form and gives rows; the table misses none of them."""

import importlib
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("bench_*.py"))
# What the table promises to hold: works and their peers.
PROMISED = {
    ("mnist", "the usual tutorial program"),
    ("resnet", "torchvision"),
    ("bert", "transformers"),
    ("gpt", "transformers"),
    ("generate", "a loop without a cache"),
    ("generate", "transformers' generate"),
    ("attention", "nn.MultiheadAttention"),
    ("seq2seq", "the tutorial's loop, token by token"),
    ("unet", "MONAI's BasicUNet"),
    ("detection", "torchvision's SSD"),
    ("scores", "torchvision.ops"),
    ("scores", "torchmetrics"),
    ("scores", "sacrebleu"),
    ("data", "torchvision's MNIST and a DataLoader"),
}
CURVES = {"attention_time", "attention_memory", "nms", "iou", "unet_size", "resnet_batch"}
CURVES |= {"gpt_width", "gpt_layers"}


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    """The programs import one another as scripts of one folder do."""
    threads = torch.get_num_threads()
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows():
    return importlib.import_module("rows")


@pytest.fixture(scope="module")
def table():
    return importlib.import_module("table")


@pytest.fixture(scope="module")
def measured(rows):
    """Each program's records of a quick run, measured when first asked for."""
    known = {}

    def measure(name):
        if name not in known:
            torch.manual_seed(0)
            program = importlib.import_module(name)
            known[name] = list(program.measure(rows.Plan(quick=True)))
        return known[name]

    return measure


def only(records, kind):
    return [record for record in records if type(record).__name__ == kind]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_rows_with_positive_ratios(name, measured, rows):
    found = only(measured(name), "Row")
    assert found
    for row in found:
        assert row.work in rows.WORKS and row.what and row.size and row.goal is not None
        if row.ours is None:
            assert row.note.startswith("not measured: pip install ")
            continue
        assert row.ours > 0 and row.rounds >= 1
        if row.peer:
            assert row.theirs > 0 and 0 < row.least <= row.ratio <= row.most < math.inf


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_programs_records_survive_their_file(name, measured, rows):
    import json
    from dataclasses import asdict

    for record in measured(name):
        line = json.dumps([type(record).__name__, asdict(record)])
        assert rows.read(line) == record and str(record)


@pytest.mark.parametrize("name", PROGRAMS)
def test_curves_have_a_value_at_each_place(name, measured):
    for curve in only(measured(name), "Curve"):
        assert len(curve.x) >= 2 and curve.x == sorted(curve.x) and len(curve.lines) >= 2
        for values in curve.lines.values():
            assert len(values) == len(curve.x) and min(values) > 0


def test_all_promised_works_and_curves_are_measured(measured):
    records = [record for name in PROGRAMS for record in measured(name)]
    assert {(row.work, row.peer) for row in only(records, "Row")} >= PROMISED
    names = [curve.name for curve in only(records, "Curve")]
    assert set(names) >= CURVES and len(names) == len(set(names))


def test_the_page_holds_every_row_curve_and_program(measured, table, tmp_path):
    outcomes = [table.Outcome(name, 0, 2.0, measured(name)) for name in PROGRAMS]
    table.write(outcomes, tmp_path, quick=True)
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    lines = page.splitlines()
    for name in PROGRAMS:
        assert f"{name.removeprefix('bench_')} 2" in lines[-1]
        for row in only(measured(name), "Row"):
            assert f"| {' | '.join(table.cells(row))} |" in lines
        for curve in only(measured(name), "Curve"):
            assert f"![{curve.title}. " in page and f"](curves/{curve.name}.png)" in page
            png = (tmp_path / "curves" / f"{curve.name}.png").read_bytes()
            assert png.startswith(b"\x89PNG") and len(png) < 60_000
    assert "mean nothing" in page
    assert f"torch {torch.__version__.partition('+')[0]}" in page and " thread" in page


def test_the_stored_page_is_whole():
    """What `make bench` wrote last: every promised work, and a file for each picture."""
    page = (FOLDER / "results.md").read_text(encoding="utf-8")
    rows = importlib.import_module("rows")
    for work, peer in PROMISED:
        assert f"**{rows.WORKS[work]}**" in page and f"| {peer} |" in page
    assert "mean nothing" not in page and "failed with exit code" not in page
    pictures = set(re.findall(r"\]\(curves/(\w+)\.png\)", page))
    assert pictures == {path.stem for path in (FOLDER / "curves").glob("*.png")} >= CURVES
    for name in PROGRAMS:
        assert re.search(rf"[ ,:]{name.removeprefix('bench_')} \d+[,;]", page)


def test_the_readme_names_every_program_and_retypes_no_result():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in PROGRAMS:
        assert f"[{name}]({name}.py)" in text
    assert not re.search(r"\d\.\d+x|\d ms\b", text)


# --- rows, turns, the table ---------------------------------------------------------------------


def row_of(rows, **values):
    return rows.Row(**{"work": "gpt", "what": "a", "size": "b", "peer": "c", "unit": "ms"} | values)


def test_rivals_take_turns_and_the_first_round_is_left_out(rows):
    calls = []
    rivals = {"ours": lambda: calls.append("o"), "theirs": lambda: calls.append("t")}
    times = rows.take_turns(rivals, 2)
    assert "".join(calls) == "to" + "ot" + "to"
    assert [len(taken) for taken in times.values()] == [2, 2]


def test_no_round_begins_after_the_time_but_three_are_taken(rows, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(rows.time, "perf_counter", lambda: next(clock))
    times = rows.take_turns({"ours": lambda: None}, 50, seconds=1)
    assert len(times["ours"]) == 3


def test_the_ratio_is_the_median_of_the_rounds_ratios(rows):
    row = rows.with_rounds(row_of(rows, goal=1.0), [1.0, 8.0, 3.0], [2.0, 2.0, 4.0])
    assert (row.ratio, row.least, row.most) == (0.75, 0.5, 4.0)
    assert (row.ours, row.theirs, row.rounds) == (3.0, 2.0, 3)


def test_items_a_second_count_what_each_call_did(rows, monkeypatch):
    taken = {"ours": [500.0], "theirs": [2000.0]}
    monkeypatch.setattr(rows, "take_turns", lambda *_: taken)
    row = row_of(rows, unit="pairs/s", goal=10, at_least=True)
    row = rows.compare(row, None, None, 1, items=(100, 20))
    assert (row.ours, row.theirs, row.ratio, row.met) == (200.0, 10.0, 20.0, True)


@pytest.mark.parametrize(
    ("ratio", "goal", "at_least", "fulfilled", "met"),
    [
        (1.05, 1.05, False, True, True),
        (1.06, 1.05, False, True, False),
        (25.0, 25, True, True, True),
        (24.9, 25, True, True, False),
        (0.05, 0.1, False, False, False),
        (None, 1.0, False, True, None),
    ],
)
def test_a_goal_is_met_on_its_own_side_only(rows, ratio, goal, at_least, fulfilled, met):
    row = row_of(rows, ratio=ratio, goal=goal, at_least=at_least, fulfilled=fulfilled)
    assert row.met is met


def test_without_a_peer_the_goal_is_for_the_value(rows):
    row = row_of(rows, peer="", unit="s", ours=0.2, goal=0.3)
    assert row.met and row.shown_goal() == "at most 0.3 s"
    assert not replace(row, ours=0.4).met


def test_what_is_not_measured_is_told_and_fails_nothing(rows, table):
    row = row_of(rows, work="unet", peer="p", goal=1.05, note="not measured: pip install p")
    assert "| a | b | p |  |  | not measured: pip install p | at most 1.05x |  |" in table.table(
        [row]
    )
    assert "not measured: pip install p" in table.summary([row])


def test_the_summary_names_works_that_nobody_measured(rows, table):
    text = table.summary([])
    assert text.count("not measured") == len(rows.WORKS) - 1


def program(folder, name, body):
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r})\nimport rows\n{body}\n"
    (folder / f"bench_{name}.py").write_text(code, encoding="utf-8")


WORKING = """
def measure(plan):
    yield rows.Row("gpt", "step", "small", "peer", "ms", 1.0, 2.0, 0.5, 0.5, 0.5, 1, 0.9)
    {then}
rows.run(measure, "")
"""


def test_a_program_that_fails_stops_no_other_and_keeps_its_rows(table, tmp_path, capfd):
    program(tmp_path, "a", WORKING.format(then="raise SystemExit(3)"))
    program(tmp_path, "b", WORKING.format(then=""))
    (tmp_path / "bench_c.py").write_text("", encoding="utf-8")
    assert table.main(["--quick", "--to", str(tmp_path)], programs=tmp_path) == 1
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert page.count("| step | small | peer | 1 ms | 2 ms | 0.5x | at most 0.9x | yes |") == 2
    assert "`bench_a` failed with exit code 3" in page
    assert "`bench_c` failed with exit code 1" in page  # it measured nothing
    assert "bench_b" not in page
    assert "failed: bench_a, bench_c" in capfd.readouterr().err


def test_a_quick_run_does_not_replace_the_stored_page(table, tmp_path, monkeypatch):
    (tmp_path / "bench_a.py").write_text("", encoding="utf-8")
    outcome = table.Outcome("bench_a", 0, 1.0)
    monkeypatch.setattr(table, "run_program", lambda *_: outcome)
    monkeypatch.setattr(table, "write", lambda *_: pytest.fail("it wrote"))
    assert table.main(["--quick"], programs=tmp_path) == 0
