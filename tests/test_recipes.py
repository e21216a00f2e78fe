"""Recipes, as the notebooks and the command line use them."""

import os
import subprocess
import sys

import pytest
import torch

from course_lib import checkpoints, recipes


def test_digits_learns_what_it_is_shown(monkeypatch):
    monkeypatch.setenv("COURSE_TEST", "1")
    recipe = recipes.digits(steps=30)
    before = recipe.test(recipe.model)["accuracy"]
    recipe.fit()
    assert before < 0.3 and recipe.test(recipe.model)["accuracy"] > 0.85


def test_test_digits_are_never_trained_on():
    recipe = recipes.digits()
    images = recipe.batches.tensors[0]
    assert len(images) == 60_000


def test_the_seed_decides_the_weights():
    first, second, third = (recipes.digits(seed=seed).model.state_dict() for seed in (1, 1, 2))
    name = "classify.weight"
    assert torch.equal(first[name], second[name]) and not torch.equal(first[name], third[name])


def test_changes_reach_the_config():
    config = recipes.digits(steps=7, learning_rate=0.5).config
    assert (config.steps, config.learning_rate) == (7, 0.5)


def command(*arguments, launcher=()):
    return subprocess.run(
        [sys.executable, *launcher, "-m", "course_lib", "train", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COURSE_TEST": "1", "COURSE_QUICK": "0"},
    )


@pytest.mark.slow
def test_command_line_trains_saves_and_says_the_result(tmp_path):
    done = command("digits", "--steps", "2", "--save", str(tmp_path / "weights.pt"))
    assert done.returncode == 0, done.stderr
    assert "2 steps in" in done.stdout and "test accuracy:" in done.stdout
    saved = checkpoints.load(tmp_path / "weights.pt")
    assert saved.keys() == recipes.digits().model.state_dict().keys()


@pytest.mark.slow
def test_bad_arguments_end_in_one_sentence():
    done = command("digits", "--steps", "0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("steps is 0; allowed are whole numbers from 1")


@pytest.mark.slow
def test_several_processes_share_a_recipe_and_one_of_them_speaks():
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = command("digits", "--steps", "2", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy:") == 1
