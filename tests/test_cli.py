"""The command line: what each command starts, what it does not import, and what it refuses."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from course_lib import __main__ as cli


@pytest.fixture
def started(monkeypatch):
    """What would have been imported and run: a list of (module, arguments)."""
    calls = []

    def fake_import(module):
        def main(argv):
            calls.append((module, list(argv)))
            return 7

        def predict(argv):
            return main(["predict", *argv])

        return SimpleNamespace(main=main, predict=predict, export=lambda argv: main(["to", *argv]))

    monkeypatch.setattr(cli, "import_module", fake_import)
    return calls


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["doctor"], ("course_lib.doctor", [])),
        (["data", "verify"], ("course_lib.checksums", ["verify"])),
        (["train", "cnn", "--epochs", "3"], ("course_lib.recipes", ["cnn", "--epochs", "3"])),
        (["predict", "cnn", "x.png"], ("course_lib.recipes", ["predict", "cnn", "x.png"])),
        (["export", "cnn"], ("course_lib.recipes", ["to", "cnn"])),
    ],
)
def test_a_command_passes_its_arguments_and_its_code(started, arguments, call):
    assert cli.main(arguments) == 7
    assert started == [call]


def test_an_unknown_command_is_one_sentence(started, capsys):
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err == (
        "There is no command 'trian'; allowed are lab, doctor, data, train, predict, export, "
        "claims, bench.\n"
    )
    assert started == []


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_usage_names_every_command(capsys, arguments, code):
    assert cli.main(arguments) == code
    usage = capsys.readouterr().out
    for command in cli._commands():
        assert f"\n  {command} " in usage


def test_bench_runs_the_script_named_or_the_one_that_runs_all(tmp_path, capfd):
    for name in ("bench_one", "bench_two", "table"):
        code = f"import sys\nprint('{name}', sys.argv[1:])\n"
        (tmp_path / f"{name}.py").write_text(code)
    assert cli.bench([], tmp_path) == 0
    assert cli.bench(["--quick", "--to", "there"], tmp_path) == 0
    assert cli.bench(["two", "--quick"], tmp_path) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines == ["table []", "table ['--quick', '--to', 'there']", "bench_two ['--quick']"]


def test_bench_reports_that_a_script_failed_or_was_killed(tmp_path):
    (tmp_path / "bench_a.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "bench_b.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    assert cli.bench(["a"], tmp_path) == 3
    assert cli.bench(["b"], tmp_path) == 9


@pytest.mark.parametrize(("present", "allowed"), [(["b", "a"], "a, b"), ([], "none")])
def test_bench_refuses_an_unknown_name(tmp_path, capsys, present, allowed):
    for name in present:
        (tmp_path / f"bench_{name}.py").write_text("")
    assert cli.bench(["x"], tmp_path) == 2
    assert f"There is no benchmark 'x'; allowed are {allowed}" in capsys.readouterr().err


def test_checking_the_data_does_not_wait_for_torch():
    code = (
        "import sys; from course_lib import __main__ as cli; cli.main(['data', 'list']); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout


def test_lab_checks_the_data_and_starts_with_the_courses_settings(started, monkeypatch):
    calls = []
    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(main=lambda argv: 0))
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(cli.subprocess, "call", lambda command, env: calls.append((command, env)))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "mine")
    cli.main(["lab", "--no-browser"])
    command, environment = calls[0]
    assert command[1:3] == ["-m", "jupyterlab"] and command[-1] == "--no-browser"
    assert any(argument.endswith("/notebooks/00_start_here.ipynb") for argument in command)
    first, second = environment["JUPYTER_CONFIG_PATH"].split(cli.os.pathsep)
    assert first == str(cli.LAB_SETTINGS) and cli.LAB_SETTINGS.is_dir() and second == "mine"


def test_lab_stops_where_the_data_are_damaged(started, monkeypatch):
    monkeypatch.setattr(cli.subprocess, "call", lambda *_, **__: pytest.fail("it started"))
    assert cli.main(["lab"]) == 7
    assert started == [("course_lib.checksums", ["verify"])]
