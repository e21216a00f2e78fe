"""Stored grids: whole, of the settings that the code describes, and resumed where they stopped."""

import json

import pytest
import torch

from course_lib import checksums
from course_lib.teaching import experiments, report
from course_lib.teaching.experiments import command
from course_lib.teaching.experiments.experiment import Experiment, compute, stored_grid

calls = []


def measure(seed, slope):
    calls.append((slope, seed))
    return {"height": slope * 10 + seed, "curve": [slope, slope + 1 / 3]}


def experiment(**changes):
    values = {
        "claim": "9.99",
        "title": "slopes",
        "measure": measure,
        "settings": {"flat": {"slope": 0.0}, "steep": {"slope": 2.0}},
        "seeds": 2,
    }
    return Experiment(**{**values, **changes})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty set of claims; `experiment()` is the only experiment that is known."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.delenv("COURSE_QUICK", raising=False)
    monkeypatch.setattr(experiments, "all_experiments", lambda: {"9.99": experiment()})
    calls.clear()
    (tmp_path / "claims").mkdir()
    return tmp_path / "claims"


def store(folder):
    assert command.main(["9.99"]) == 0
    return folder / "9.99.json"


@pytest.mark.parametrize("claim", experiments.all_experiments())
def test_every_grid_is_stored_whole_with_seeds_enough(claim):
    stored = experiments.find(claim)
    assert experiments.stored(claim).is_complete
    assert stored.claim == claim and stored.title and stored.seeds >= 1


def test_nothing_is_stored_that_no_experiment_describes():
    listed = checksums.read_sums(checksums.data_root() / "claims")
    assert set(listed) == {f"{claim}.json" for claim in experiments.all_experiments()}


def test_a_computed_grid_gives_its_numbers_back(folder):
    store(folder)
    grid = experiments.stored("9.99")
    heights = grid.values("height")
    assert list(heights) == ["flat", "steep"]
    assert torch.equal(heights["steep"], torch.tensor([20.0, 21.0], dtype=torch.float64))
    assert grid.values("curve")["flat"].shape == (2, 2)
    assert grid.run("steep", 1)["height"] == 21
    assert grid.run("flat", 0)["curve"][1] == pytest.approx(1 / 3, rel=1e-4)


def test_a_run_that_was_stopped_goes_on_where_it_was(folder):
    steps = compute(experiment(), folder)
    next(steps), next(steps)
    steps.close()
    assert len(json.loads((folder / "9.99.json").read_text())["runs"]) == 2
    store(folder)
    assert calls == [(0.0, 0), (2.0, 0), (0.0, 1), (2.0, 1)]


def test_what_is_whole_is_not_computed_again_unless_forced(folder):
    store(folder)
    calls.clear()
    store(folder)
    assert calls == []
    command.main(["9.99", "--force"])
    assert len(calls) == 4


def test_more_seeds_keep_what_there_is(folder):
    store(folder)
    calls.clear()
    assert len(list(compute(experiment(seeds=3), folder))) == 2
    assert calls == [(0.0, 2), (2.0, 2)]


def test_other_settings_are_refused_and_computed_anew(folder):
    store(folder)
    other = experiment(settings={"flat": {"slope": 0.5}})
    with pytest.raises(ValueError, match=r"course_lib claims 9\.99"):
        stored_grid(other)
    assert len(list(compute(other, folder))) == 2


def test_an_altered_file_is_refused(folder):
    path = store(folder)
    path.write_text(path.read_text().replace("21", "99"))
    with pytest.raises(checksums.DataError, match="was altered"):
        experiments.stored("9.99")


def test_half_a_grid_is_refused(folder):
    steps = compute(experiment(), folder)
    next(steps)
    checksums.write_sums(folder)
    with pytest.raises(ValueError, match="not the whole grid"):
        experiments.stored("9.99")


def test_confirm_runs_seed_0_again_and_compares(folder, capsys):
    store(folder)
    calls.clear()
    assert experiments.confirm("9.99", "steep", height=0.1)["height"] == 20
    assert calls == [(2.0, 0)]
    assert "✓ they differ by at most 0.1" in capsys.readouterr().out


def test_confirm_fails_when_the_number_has_moved(folder, monkeypatch):
    store(folder)
    moved = experiment(measure=lambda seed, slope: {"height": slope * 10 + seed + 1})
    monkeypatch.setattr(experiments, "all_experiments", lambda: {"9.99": moved})
    experiments.confirm("9.99", "steep", height=1.5)
    with pytest.raises(report.GateFailed):
        experiments.confirm("9.99", "steep", height=0.5)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: experiments.find("1.99"), "claim is '1.99'; allowed are 9.99"),
        (lambda: experiments.confirm("9.99", "steeper"), "allowed are flat, steep"),
        (lambda: experiments.stored("9.99").run("steeper", 0), "allowed are flat, steep"),
        (lambda: experiments.stored("9.99").values("width"), "allowed are height, curve"),
        (lambda: experiment(seeds=0), "seeds is 0"),
        (lambda: experiment(settings={}), "settings is empty"),
    ],
)
def test_bad_names_and_numbers_are_refused(folder, call, said):
    store(folder)
    with pytest.raises(ValueError, match=said):
        call()


def test_a_number_that_is_not_finite_is_never_stored(folder):
    broken = experiment(measure=lambda seed, slope: {"loss": float("nan")})
    with pytest.raises(ValueError, match="loss is nan"):
        list(compute(broken, folder))
    assert not (folder / "9.99.json").exists()


def test_the_command_lists_computes_and_refuses(folder, capsys, monkeypatch):
    assert command.main([]) == 0
    assert "not computed" in capsys.readouterr().out
    next(compute(experiment(), folder))
    command.main([])
    assert "1 of 4 runs" in capsys.readouterr().out
    store(folder)
    command.main([])
    assert "stored" in capsys.readouterr().out
    for arguments in (["1.99"], ["--faster"]):
        with pytest.raises(SystemExit):
            command.main(arguments)
    assert "allowed are 9.99" in capsys.readouterr().err
    monkeypatch.setenv("COURSE_QUICK", "1")
    with pytest.raises(SystemExit):
        command.main(["9.99"])


def test_an_interrupted_command_leaves_a_verified_folder(folder, monkeypatch):
    def stop(seed, slope):
        if slope:
            raise KeyboardInterrupt
        return {"height": 1.0}

    monkeypatch.setattr(experiments, "all_experiments", lambda: {"9.99": experiment(measure=stop)})
    with pytest.raises(KeyboardInterrupt):
        command.main(["9.99"])
    assert checksums.verify("claims", files=("9.99.json",)) == folder
