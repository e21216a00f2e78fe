"""Training in processes of its own: killed and resumed, and shared by several."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from course_lib import checkpoints

PROGRAMS = Path(__file__).parent / "programs"
pytestmark = pytest.mark.slow


def start(*command):
    environment = {**os.environ, "COURSE_TEST": "1", "COURSE_QUICK": "0"}
    return subprocess.Popen([sys.executable, *map(str, command)], env=environment)


def kill_in_the_middle(command, checkpoint, delay):
    """Start the run, kill it `delay` seconds after a checkpoint has changed; False if it ended."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
    process = start(*command)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            time.sleep(delay)
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_killed_at_random_moments_and_resumed_it_ends_with_the_same_weights(tmp_path):
    program = PROGRAMS / "killed_run.py"
    assert start(program, tmp_path / "whole.pt", tmp_path / "expected.pt").wait() == 0

    checkpoint, result = tmp_path / "killed.pt", tmp_path / "result.pt"
    moments = random.Random(0)
    kills = sum(
        kill_in_the_middle([program, checkpoint, result], checkpoint, moments.uniform(0, 0.2))
        for _ in range(4)
    )
    assert kills >= 2, "the run ended too soon to be killed; make it longer"
    assert not result.exists()
    assert start(program, checkpoint, result).wait() == 0

    expected, resumed = checkpoints.load(tmp_path / "expected.pt"), checkpoints.load(result)
    assert resumed["loss"] == expected["loss"]
    assert resumed["validation"] == expected["validation"]
    for name, value in expected["weights"].items():
        assert torch.equal(resumed["weights"][name], value), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The results of the shared runs by one process and by two."""
    folders = {count: tmp_path_factory.mktemp(f"by{count}") for count in (1, 2)}
    program = PROGRAMS / "shared_run.py"
    assert start(program, folders[1]).wait() == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert start(*torchrun, program, folders[2]).wait() == 0
    return {
        count: {path.stem: checkpoints.load(path) for path in folder.glob("*.pt")}
        for count, folder in folders.items()
    }


CASES = [
    "unequal",
    "clipped",
    "empty part",
    "early stop",
    "sharded",
    "sharded, clipped, empty part",
]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_the_joint_batch(runs, case):
    one, two = runs[1][case], runs[2][case]
    assert two["agree"], "the processes ended with different weights"
    assert two["steps"] == one["steps"]
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-6)
    assert (two["weights"] - one["weights"]).abs().max() < 1e-6


def test_a_sharded_process_keeps_half_of_the_rows(runs):
    sharded, plain = runs[2]["sharded"], runs[2]["unequal"]
    assert plain["parts"] == plain["whole"] == 129
    # The matrices are (16, 6) and (1, 16); the second has one row, which is not cut.
    assert (sharded["parts"], sharded["whole"]) == (8 * 6 + 8 + 16 + 1, 129)


def test_early_stopping_stops_all_processes(runs):
    assert runs[2]["early stop"]["steps"] == 16


def test_what_must_be_the_same_is_compared_with_process_0(runs):
    assert runs[2]["refusal"]["differs"] == ["", "another"]


def test_a_loader_without_its_own_share_is_refused(runs):
    assert "DistributedSampler" in runs[2]["refusal"]["text"]


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RESUMED = PROGRAMS / "shared_resume.py"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of `shared_resume.py` by one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert start(RESUMED, folder / "run.pt", folder / "result.pt", folder).wait() == 0
    return checkpoints.load(folder / "result.pt")


@pytest.mark.parametrize("shard", ["", "shard"])
def test_killed_in_one_process_two_resume_to_what_one_gives(tmp_path, alone, shard):
    checkpoint, result = tmp_path / "run.pt", tmp_path / "result.pt"
    command = [*TORCHRUN, RESUMED, checkpoint, result, tmp_path, *filter(None, [shard])]
    processes = start(*command)
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(int((tmp_path / "1.pid").read_text()), signal.SIGKILL)
    assert processes.wait(timeout=60) != 0
    done = len(checkpoints.load(checkpoint)["history"]["loss"])
    assert 3 <= done < 40 and not result.exists()

    assert start(*command).wait(timeout=60) == 0
    resumed = checkpoints.load(result)
    assert resumed["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    for name, value in alone["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], value, atol=1e-5, rtol=0)

    # From the first whole epoch after the resume on: each item once, by one of the processes.
    assert [len(part) for part in resumed["seen"]] == [40 - done] * 2
    first = -done % 5
    for epoch in range(first, 40 - done, 5):
        items = [i for part in resumed["seen"] for step in part[epoch : epoch + 5] for i in step]
        assert sorted(items) == list(range(23))
