"""A damaged data set is noticed, named and explained; a whole one costs milliseconds."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import checksums
from course_lib.checksums import DataError

DATA = Path(__file__).resolve().parent.parent / "data"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A copy of two small sets, which COURSE_DATA points to."""
    for name in ("nuclei", "backgrounds"):
        shutil.copytree(DATA / name, tmp_path / name)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return tmp_path


def test_every_shipped_set_is_whole():
    assert checksums.verify_all(DATA) == dict.fromkeys(checksums.sets())


def test_every_folder_with_data_is_a_known_set():
    assert sorted(path.parent.name for path in DATA.glob("*/SHA256SUMS")) == list(checksums.sets())


def test_every_data_file_is_listed_with_its_size():
    for name in checksums.sets():
        folder = DATA / name
        files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        sums = checksums.read_sums(folder)
        assert files - {"README.md", "LICENSE", "SHA256SUMS"} == set(sums)
        assert {file: (folder / file).stat().st_size for file in sums} == {
            file: entry.size for file, entry in sums.items()
        }


def test_every_set_has_a_datasheet_and_a_licence():
    parts = ["What it is", "Files and arrays", "How it was made", "Split", "Known flaws"]
    for name in checksums.sets():
        sheet = (DATA / name / "README.md").read_text(encoding="utf-8")
        headings = [line[3:] for line in sheet.splitlines() if line.startswith("## ")]
        assert [part for part in parts if part not in headings] == [], name
        assert any(heading.startswith("Origin") for heading in headings), name
        assert "How to cite" in headings, name
        assert len((DATA / name / "LICENSE").read_text(encoding="utf-8")) > 200, name


def test_sums_are_in_the_format_of_coreutils():
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("sha256sum is not installed")
    command = [tool, "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=DATA / "cutouts").returncode == 0


def test_data_root_is_beside_the_package_unless_COURSE_DATA_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    assert checksums.data_root() == DATA
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert checksums.data_root() == tmp_path


def test_verify_returns_the_folder(root):
    assert checksums.verify("nuclei") == root / "nuclei"


def expect_problem(path, problem, name="nuclei"):
    """verify() fails with two sentences: the file and what is wrong, and the remedy."""
    with pytest.raises(DataError) as caught:
        checksums.verify(name)
    first, _, second = str(caught.value).partition(". ")
    assert str(path) in first
    assert problem in first
    assert f"`git checkout -- data/{name}`" in second
    assert "release" in second


def test_a_missing_file(root):
    (root / "nuclei" / "nuclei.npz").unlink()
    expect_problem(root / "nuclei" / "nuclei.npz", "is missing")


def test_a_missing_folder(root):
    shutil.rmtree(root / "nuclei")
    expect_problem(root / "nuclei" / "SHA256SUMS", "is missing")


def test_a_truncated_file(root):
    path = root / "nuclei" / "nuclei.npz"
    path.write_bytes(path.read_bytes()[:1000])
    expect_problem(path, "was cut short: it has 1,000 bytes instead of 206,595")


def test_a_file_that_grew(root):
    path = root / "nuclei" / "nuclei.npz"
    path.write_bytes(path.read_bytes() + b"\n")
    expect_problem(path, "was altered: it has 206,596 bytes")


def test_a_file_altered_in_one_bit(root):
    checksums.verify("nuclei")  # so that the answer of a whole file is in the cache
    path = root / "nuclei" / "nuclei.npz"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    expect_problem(path, "was altered: its sha256 begins")


def test_line_ends_changed_by_a_tool(root):
    path = root / "backgrounds" / "test.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    expect_problem(path, "was altered", "backgrounds")


def test_an_expected_file_that_is_not_listed(root):
    with pytest.raises(DataError, match=r"extra\.npz is not listed in SHA256SUMS\. Restore"):
        checksums.verify("nuclei", files=("extra.npz",))


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "is empty"), ("no checksum\n", "is damaged at line 1"), ("# 1 bytes\nab  x\n", "line 2")],
)
def test_a_damaged_list(root, content, problem):
    (root / "nuclei" / "SHA256SUMS").write_text(content)
    expect_problem(root / "nuclei" / "SHA256SUMS", problem)


def test_a_list_without_sizes_is_checked_by_sha256_alone(root):
    folder = root / "nuclei"
    digest = hashlib.sha256((folder / "nuclei.npz").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  nuclei.npz\n")
    checksums.verify("nuclei")
    (folder / "nuclei.npz").write_bytes(b"short")
    expect_problem(folder / "nuclei.npz", "was altered: its sha256")


def test_an_unknown_name():
    with pytest.raises(ValueError, match="name = 'mnits' is not a data set; allowed: .*mnist"):
        checksums.verify("mnits")


def test_a_file_is_hashed_once_per_process(root, monkeypatch):
    checksums.verify("nuclei")
    monkeypatch.setattr(checksums.hashlib, "sha256", None)  # a second hash would fail
    checksums.verify("nuclei")


def test_verify_all_reports_each_set(root):
    results = checksums.verify_all()
    assert results["nuclei"] is None
    assert "SHA256SUMS is missing" in results["mnist"]


def test_facts_come_from_the_datasheet():
    fact = checksums.facts("fashion_mnist", DATA)
    assert fact.title == "Fashion-MNIST: clothes, 70,000 images of 28 x 28"
    assert fact.licence == "MIT"
    assert fact.size == (DATA / "fashion_mnist" / "fashion_mnist.npz").stat().st_size


def test_the_table_of_all_sets_gives_their_sizes():
    table = (DATA / "README.md").read_text(encoding="utf-8").splitlines()
    sizes = {
        row.split("]")[0].removeprefix("| ["): row.split("|")[3].strip()
        for row in table
        if row.startswith("| [")
    }
    expected = {name: f"{checksums.facts(name, DATA).size / 1e6:.1f}" for name in checksums.sets()}
    assert sizes == expected


def test_main_verify(root, capsys):
    assert checksums.main(["verify", "nuclei", "backgrounds"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nuclei         ok (1 file)",
        "backgrounds    ok (21 files)",
    ]
    (root / "backgrounds" / "Dune.jpg").unlink()
    assert checksums.main(["verify", "nuclei", "backgrounds"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "nuclei         ok (1 file)"
    assert "Dune.jpg is missing. Restore it with `git checkout -- data/backgrounds`" in lines[1]


def test_main_verify_checks_all_sets_by_default(root, capsys):
    assert checksums.main(["verify"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == len(checksums.sets())


def test_main_list(monkeypatch, capsys):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    assert checksums.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(checksums.sets())
    line = lines[checksums.sets().index("nuclei")]
    assert line.startswith("nuclei         Nuclei: one fluorescence image")
    assert "| 0.2 MB | BSD-3-Clause" in line


def test_main_rejects_an_unknown_set(capsys):
    with pytest.raises(SystemExit) as caught:
        checksums.main(["verify", "mnits"])
    assert caught.value.code == 2
    assert "unknown set 'mnits'" in capsys.readouterr().err


def test_no_heavy_import():
    code = (
        "import sys, course_lib.checksums; print({'torch', 'numpy', 'PIL'} & set(sys.modules) or 0)"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=DATA.parent, check=True)
    assert run.stdout.strip() == "0"


def test_splits_and_sums_are_reproducible(tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(DATA, copy, ignore=shutil.ignore_patterns("downloads", "__pycache__"))
    written = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for path in [*copy.glob("*/test.txt"), *copy.glob("*/SHA256SUMS")]:
        path.unlink()
    subprocess.run([sys.executable, str(copy / "make_splits.py")], check=True)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == written


def test_sums_alone_leave_the_splits(tmp_path):
    shutil.copytree(DATA / "backgrounds", tmp_path / "backgrounds")
    split = tmp_path / "backgrounds" / "test.txt"
    split.write_text("Dune\n", newline="\n")
    script = [sys.executable, str(DATA / "make_splits.py"), "--sums", "--root", str(tmp_path)]
    subprocess.run(script, check=True)
    assert split.read_text() == "Dune\n"
    checksums.verify("backgrounds", tmp_path)
