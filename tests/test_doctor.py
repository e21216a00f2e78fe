"""The doctor: each look can fail, a failing look is a line, and every line has its remedy."""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from course_lib import checksums, doctor, runtime


@pytest.fixture(scope="module")
def found() -> list[doctor.Check]:
    return doctor.checks()


def _check(name: str) -> doctor.Check:
    """Look at one thing only, so that a test does not pay for all of them."""
    return doctor._run(next(probe for probe in doctor._probes() if probe.name == name))


def test_everything_required_is_well_here(found):
    assert [check for check in found if check.required and not check.ok] == []


def test_every_check_has_a_name_of_its_own_and_one_sentence_as_remedy(found):
    assert len({check.name for check in found}) == len(found)
    for check in found:
        assert check.value and "\n" not in check.value
        assert check.remedy.endswith(".") and "\n" not in check.remedy


def test_the_packages_of_the_course_are_all_looked_at(found):
    assert set(doctor.PACKAGES) <= {check.name for check in found}
    for check in found:
        if check.name in doctor.PACKAGES:
            assert check.value == importlib.metadata.version(check.name)


def test_what_is_optional_never_fails_the_doctor(monkeypatch, capsys):
    lines = [
        doctor.Check("needed", "here", True, "Do this."),
        doctor.Check("nice", "missing", False, "Do that.", required=False),
    ]
    monkeypatch.setattr(doctor, "checks", lambda: lines)
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    assert "note  nice    missing" in printed and "-> Do that." in printed
    assert "Do this." not in printed


def test_what_is_required_fails_it_and_names_the_remedy(monkeypatch, capsys):
    lines = [doctor.Check("needed", "missing", False, "Do this.")]
    monkeypatch.setattr(doctor, "checks", lambda: lines)
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  needed  missing" in printed and "-> Do this." in printed
    assert "To mend: needed." in printed


def test_arguments_are_refused(capsys):
    assert doctor.main(["--all"]) == 2
    assert "takes no arguments" in capsys.readouterr().err


def test_a_look_that_raises_is_a_failing_line():
    def broken():
        raise OSError("no such thing\nand a long trace")

    check = doctor._run(doctor._Probe("broken", broken, "Mend it."))
    assert check == doctor.Check("broken", "OSError: no such thing", False, "Mend it.")


@pytest.mark.parametrize(
    ("version", "ok"),
    [("2.8.1", False), ("2.9.0", True), ("2.13.0+cpu", True), ("3.0.0", False)],
)
def test_a_version_is_held_against_the_range(monkeypatch, version, ok):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    check = _check("torch")
    assert check.ok is ok and check.value.startswith(version)
    assert ok or ">=2.9" in check.value
    assert "pip install --upgrade" in check.remedy and "torch" in check.remedy


def test_a_missing_package_is_said(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    check = _check("anywidget")
    assert (check.value, check.ok) == ("not installed", False)


def test_a_missing_list_of_requirements_is_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    check = _check("numpy")
    assert not check.ok and "requirements.txt" in check.value


def test_an_old_python_fails(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 1))
    assert not _check("Python").ok


def test_operators_of_another_torch_fail(monkeypatch):
    import torchvision

    def not_there(*arguments):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", not_there)
    check = _check("torchvision's operators")
    assert not check.ok and "nms does not exist" in check.value


def test_the_device_asked_for_is_named_or_refused(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert _check("device").value == "cpu (COURSE_DEVICE=cpu)"
    monkeypatch.setenv("COURSE_DEVICE", "gpu")
    check = _check("device")
    assert not check.ok and "gpu" in check.value


def test_more_threads_than_cores_are_noted(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(doctor, "_usable_cores", lambda: 2)
    check = _check("threads")
    assert (check.value, check.ok, check.required) == ("8 for 2 cores", False, False)


def test_bfloat16_follows_the_runtime(monkeypatch):
    for has in (True, False):
        monkeypatch.setattr(runtime, "has_bfloat16", lambda device, has=has: has)
        assert _check("bfloat16").ok is has


def test_little_memory_or_disk_is_noted(monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY_NEEDED", 10**18)
    monkeypatch.setattr(doctor, "DISK_NEEDED", 10**18)
    assert not _check("free memory").ok
    assert not _check("free disk").ok


def test_no_compiler_and_no_browser_are_noted(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    for name in ("C++ compiler", "browser"):
        check = _check(name)
        assert (check.value, check.ok, check.required) == ("none found", False, False)


def test_a_damaged_file_is_named(monkeypatch):
    outcome = {"mnist": None, "cats": "cats.npz differs from its checksum"}
    monkeypatch.setattr(checksums, "verify_all", lambda: outcome)
    check = _check("data")
    assert not check.ok and check.value == "cats: cats.npz differs from its checksum"
    monkeypatch.setattr(checksums, "verify_all", lambda: {})
    assert not _check("data").ok


def test_a_missing_front_end_is_named(monkeypatch, tmp_path):
    import jupyter_core.paths

    (tmp_path / "anywidget").mkdir()
    (tmp_path / "anywidget" / "package.json").write_text("{}")
    monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda *parts: [str(tmp_path)])
    check = _check("widgets")
    assert not check.ok
    assert check.value == "JupyterLab does not find @jupyter-widgets/jupyterlab-manager"


@pytest.mark.parametrize(
    ("command", "ok"),
    [
        ("python", True),
        (sys.executable, True),
        (str(Path(sys.executable).with_name("python3")), True),
        (os.path.abspath(os.path.join(os.sep, "other", "bin", "python")), False),
    ],
)
def test_a_kernel_of_another_python_is_named(monkeypatch, tmp_path, command, ok):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {"argv": [command, "-m", "ipykernel_launcher"], "display_name": "x", "language": "py"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    check = _check("kernel")
    assert check.ok is ok
    assert ok or command in check.value
