"""`train` on the command line: its options, what it keeps, and how it ends when things go wrong."""

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from course_lib import checkpoints, train
from course_lib.recipes import command, logs
from course_lib.recipes.recipe import Recipe
from tests import processes


def line(*, seed=0, batch_size=8, size="tiny", **changes):
    """A straight line through 20 points, three batches an epoch."""
    torch.manual_seed(seed)
    x = torch.linspace(-1, 1, 20)[:, None]
    config = train.FitConfig(**{"steps": 25, "learning_rate": 0.1, "seed": seed} | changes)
    batches = train.Batches(x, 2 * x, batch_size=batch_size, seed=seed)
    model = nn.Sequential(nn.Linear(1, {"tiny": 1, "base": 3}[size]), nn.LazyLinear(1))
    model(x)

    def error(model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    return Recipe(model, batches, error, config, lambda model: {"accuracy": 0.5, "loss": 0.125})


def plain(*, seed=0, batch_size=8, **changes):
    return line(seed=seed, batch_size=batch_size, **changes)


RECIPES = {"line": line, "plain": plain}


def run(*arguments):
    return command.main([str(argument) for argument in arguments], RECIPES)


def read(path):
    return [json.loads(row) for row in path.read_text().splitlines()]


@pytest.fixture
def made(monkeypatch):
    """The recipes that the command made, with what it passed to `fit`."""
    seen = []

    def fit(recipe, **options):
        seen.append(SimpleNamespace(recipe=recipe, config=recipe.config, **options))
        return train.History(steps=1, loss=[0.0])

    monkeypatch.setattr(Recipe, "fit", fit)
    return seen


def test_it_prints_shares_in_percent_and_the_rest_as_it_is(capsys):
    assert run("line") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "test accuracy: 50.00 %",
        "test loss: 0.125",
    ]


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--lr", "0.5"], "learning_rate", 0.5),
        (["--learning-rate", "0.5"], "learning_rate", 0.5),
        (["--accumulate", "2"], "accumulate", 2),
        (["--steps", "7"], "steps", 7),
        (["--epochs", "4"], "steps", 12),
        (["--epochs", "0.5"], "steps", 2),
        (["--epochs", "2", "--batch-size", "5"], "steps", 8),
        (["--checkpoint-every", "9"], "checkpoint_every", 9),
        (["--test-every", "5"], "validate_every", 5),
        (["--precision", "float16"], "precision", "float16"),
        (["--seed", "3"], "seed", 3),
    ],
)
def test_options_reach_the_config(made, arguments, name, value):
    assert run("line", *arguments) == 0
    assert getattr(made[0].config, name) == value


def test_the_device_and_the_size_reach_the_training(made):
    assert run("line", "--device", "cpu", "--size", "base") == 0
    assert made[0].device == torch.device("cpu")
    assert made[0].recipe.model[0].out_features == 3
    assert run("line") == 0 and made[1].device == torch.device("cpu")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--steps", "0"], "steps is 0; allowed are whole numbers from 1"),
        (["--epochs", "0"], "--epochs is 0; allowed are numbers above 0"),
        (["--device", "tpu"], "--device is 'tpu'; allowed are cuda, mps, cpu"),
        (["--device", "cuda:x"], "--device is 'cuda:x'; allowed are cuda, mps, cpu"),
        (["--resume"], "--resume needs --checkpoint FILE, which says where to go on from"),
        (["--shard"], "shard is True; allowed is that with two or more processes of torchrun"),
        (["--size", "base"], "plain takes no --size; allowed is it for line"),
        (["--batch-size", "0"], "batch_size is 0; allowed are whole numbers from 1"),
    ],
)
def test_a_wrong_argument_is_one_sentence(capsys, arguments, sentence):
    assert run("plain", *arguments) == 2
    assert capsys.readouterr().err == sentence + "\n"


@pytest.mark.parametrize("name", ["checkpoint", "save", "log"])
def test_what_exists_is_never_overwritten(tmp_path, capsys, name):
    file = tmp_path / "mine"
    file.write_text("dear")
    assert run("line", f"--{name}", file) == 2
    error = capsys.readouterr().err
    assert f"--{name} is {file}, which exists already" in error and file.read_text() == "dear"
    assert ("--resume" in error) == (name != "save")
    assert run("line", f"--{name}", tmp_path) == 2
    assert "a folder; allowed is the name of a file" in capsys.readouterr().err


def test_resume_goes_on_from_the_checkpoint_of_the_same_run_only(tmp_path, capsys):
    file = tmp_path / "run.pt"
    assert run("line", "--checkpoint", file, "--resume") == 0  # nothing there yet: from the start
    first = checkpoints.load(file)
    assert run("line", "--checkpoint", file, "--resume") == 0  # nothing to do
    assert checkpoints.load(file)["history"] == first["history"]
    capsys.readouterr()
    assert run("line", "--checkpoint", file, "--resume", "--seed", 1) == 1
    assert "belongs to another run: there seed is 0, here 1" in capsys.readouterr().err


def interrupt_at(step, monkeypatch):
    """Press Ctrl-C while the loss of this step, counted from 1, is computed."""
    count = 0
    backward = train._Run.backward

    def press(run, batch):
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGINT)
        backward(run, batch)

    monkeypatch.setattr(train._Run, "backward", press)


def test_ctrl_c_ends_the_step_and_keeps_it(tmp_path, capsys, monkeypatch):
    whole, cut = tmp_path / "whole.pt", tmp_path / "cut.pt"
    assert run("line", "--checkpoint", whole) == 0
    capsys.readouterr()
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_at(7, patch)
        assert run("line", "--checkpoint", cut, "--log", tmp_path / "log") == 130
    assert signal.getsignal(signal.SIGINT) is before
    error = capsys.readouterr().err
    assert error == f"Stopped after step 7 of 25. {cut} holds it: --resume goes on from there.\n"
    assert len(checkpoints.load(cut)["history"]["loss"]) == 7
    assert run("line", "--checkpoint", cut, "--log", tmp_path / "log", "--resume") == 0
    expected, resumed = checkpoints.load(whole), checkpoints.load(cut)
    assert resumed["history"]["loss"] == expected["history"]["loss"]
    for name, value in expected["model"].items():
        assert torch.equal(resumed["model"][name], value)
    assert [row["step"] for row in read(tmp_path / "log")[:-1]] == list(range(1, 26))


def test_ctrl_c_without_a_checkpoint_says_that_nothing_is_kept(capsys, monkeypatch):
    interrupt_at(3, monkeypatch)
    assert run("line") == 130
    assert "step 3 of 25. Nothing is kept, since no --checkpoint" in capsys.readouterr().err


def test_ctrl_c_in_the_last_step_is_too_late(capsys, monkeypatch):
    interrupt_at(25, monkeypatch)
    assert run("line") == 0
    assert "test accuracy" in capsys.readouterr().out


def test_ctrl_c_pressed_twice_stops_at_once(capsys, monkeypatch):
    interrupt = command._Interrupt()
    with interrupt, pytest.raises(KeyboardInterrupt):
        interrupt._ask()
        interrupt._ask()
    assert command.explain(lambda: (_ for _ in ()).throw(KeyboardInterrupt)) == 130


def test_a_diverging_run_is_one_sentence_and_keeps_its_checkpoint(tmp_path, capsys):
    file = tmp_path / "run.pt"
    arguments = ["--lr", "1e12", "--checkpoint", file, "--checkpoint-every", 1]
    assert run("line", *arguments) == 1
    assert "Traceback" not in (error := capsys.readouterr().err)
    assert error.startswith("The loss is") and len(error.splitlines()) == 1
    assert checkpoints.load(file)["history"]["loss"]


def test_the_log_has_a_line_for_each_step(tmp_path):
    assert run("line", "--log", tmp_path / "a" / "log", "--test-every", 5) == 0
    *rows, last = read(tmp_path / "a" / "log")
    assert [row["step"] for row in rows] == list(range(1, 26))
    assert all(row["loss"] > 0 and row["learning_rate"] == 0.1 for row in rows)
    measured = [row["step"] for row in rows if "validation" in row]
    assert measured == [5, 10, 15, 20, 25]
    assert rows[4]["validation"] == {"accuracy": 0.5, "loss": 0.125} and rows[9]["seconds"] > 0
    assert last == {"test": {"accuracy": 0.5, "loss": 0.125}}


def test_a_resumed_log_keeps_whole_lines_and_repeats_none(tmp_path):
    file = tmp_path / "log"
    history = train.History(steps=9, loss=[3.0, 2.0, 1.0], learning_rate=[0.1] * 3)
    logs.JsonLog(file)(history)
    with file.open("a") as text:
        text.write('{"step": 4, "lo')  # killed
    log = logs.JsonLog(file, resume=True)
    log(train.History(steps=9, loss=[3.0, 2.0], learning_rate=[0.1] * 2))  # an older checkpoint
    log(train.History(steps=9, loss=[3.0, 2.0, 1.0, 0.5], learning_rate=[0.1] * 4))
    assert [(row["step"], row["loss"]) for row in read(file)] == [(1, 3), (2, 2), (3, 1), (4, 0.5)]


def test_tensorboard_gets_losses_rates_and_measures(tmp_path, monkeypatch):
    written = []
    writer = SimpleNamespace(
        add_scalar=lambda *row: written.append(row), flush=lambda: None, close=lambda: None
    )
    fake = SimpleNamespace(SummaryWriter=lambda folder: written.append(folder) or writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    assert run("line", "--steps", 11, "--test-every", 11, "--tensorboard", tmp_path) == 0
    assert written[0] == str(tmp_path)
    assert [row[2] for row in written if row[0] == "loss"] == list(range(1, 12))
    assert ("learning rate", 0.1, 11) in written and ("validation/accuracy", 0.5, 11) in written
    assert ("test/loss", 0.125, 11) in written


def test_without_tensorboard_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run("line", "--tensorboard", tmp_path) == 2
    assert "TensorBoard is not installed: pip install tensorboard" in capsys.readouterr().err


def test_the_weights_are_saved_with_what_made_them(tmp_path):
    assert run("line", "--steps", 1, "--save", tmp_path / "w.pt", "--size", "base") == 0
    saved = checkpoints.load(tmp_path / "w.pt")
    assert (saved["recipe"], saved["size"], saved["names"]) == ("line", "base", [])
    assert saved["weights"]["0.weight"].shape == (3, 1)


def fill_the_disk(folder):
    """A checkpoint that is saved whole, then one that is too large; the exit code."""
    import resource  # not everywhere

    path = Path(folder) / "run.pt"
    checkpoints.save(path, {"x": torch.zeros(10)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    def fill():
        checkpoints.save(path, {"x": torch.zeros(100_000)})
        return 0

    return command.explain(fill)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="files cannot be limited here")
def test_without_space_it_says_so_and_keeps_the_old_checkpoint(tmp_path):
    errors = tmp_path / "errors"
    assert processes.run(fill_the_disk, tmp_path, errors=errors) == 1
    error = errors.read_text()
    assert "cannot be written" in error and "What it held before is kept." in error
    assert len(error.splitlines()) == 1
    assert len(checkpoints.load(tmp_path / "run.pt")["x"]) == 10
    assert {path.name for path in tmp_path.iterdir()} == {"run.pt", "errors"}
