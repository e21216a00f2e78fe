"""Training in processes of its own: killed and resumed, and shared by several."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from course_lib import checkpoints
from tests import processes
from tests.programs import killed_run, shared_resume, shared_run

pytestmark = pytest.mark.slow


def kill_in_the_middle(program, checkpoint, result, delay):
    """Start the run, kill it `delay` seconds after a checkpoint has changed; False if it ended."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
    process = processes.start(program, checkpoint, result)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.exitcode is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            time.sleep(delay)
            break
        time.sleep(0.002)
    process.kill()
    return processes.wait(process) == -signal.SIGKILL


def test_killed_at_random_moments_and_resumed_it_ends_with_the_same_weights(tmp_path):
    program = killed_run.main
    assert processes.run(program, tmp_path / "whole.pt", tmp_path / "expected.pt") == 0

    checkpoint, result = tmp_path / "killed.pt", tmp_path / "result.pt"
    moments = random.Random(0)
    kills = sum(
        kill_in_the_middle(program, checkpoint, result, moments.uniform(0, 0.2)) for _ in range(4)
    )
    assert kills >= 2, "the run ended too soon to be killed; make it longer"
    assert not result.exists()
    assert processes.run(program, checkpoint, result) == 0

    expected, resumed = checkpoints.load(tmp_path / "expected.pt"), checkpoints.load(result)
    assert resumed["loss"] == expected["loss"]
    assert resumed["validation"] == expected["validation"]
    for name, value in expected["weights"].items():
        assert torch.equal(resumed["weights"][name], value), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The results of the shared runs by one process and by two."""
    folders = {count: tmp_path_factory.mktemp(f"by{count}") for count in (1, 2)}
    assert processes.run(shared_run.main, folders[1]) == 0
    both = processes.share(shared_run.main, folders[2])
    assert [processes.wait(process) for process in both] == [0, 0]
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


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of `shared_resume` by one process."""
    folder = tmp_path_factory.mktemp("alone")
    program = shared_resume.main
    assert processes.run(program, folder / "run.pt", folder / "result.pt", folder) == 0
    return checkpoints.load(folder / "result.pt")


def wait_for(file):
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def kill_one_of_torchruns(arguments, checkpoint, pids):
    """torchrun itself ends the other one, and says that it has failed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", shared_resume.__file__, *map(str, arguments)]
    started = subprocess.Popen(command, env={**os.environ, "COURSE_TEST": "1", "COURSE_QUICK": "0"})
    wait_for(checkpoint)
    os.kill(int((pids / "1.pid").read_text()), signal.SIGKILL)
    assert started.wait(timeout=60) != 0


def kill_one_of_two(arguments, checkpoint, _):
    """The other one misses it, and ends by itself."""
    first, second = processes.share(shared_resume.main, *arguments)
    wait_for(checkpoint)
    second.kill()
    assert processes.wait(second) == -signal.SIGKILL and processes.wait(first) > 0


@pytest.mark.parametrize(
    ("shard", "kill"), [("", kill_one_of_torchruns), ("shard", kill_one_of_two)]
)
def test_killed_in_one_process_two_resume_to_what_one_gives(tmp_path, alone, shard, kill):
    checkpoint, result = tmp_path / "run.pt", tmp_path / "result.pt"
    arguments = [checkpoint, result, tmp_path, *filter(None, [shard])]
    kill(arguments, checkpoint, tmp_path)
    done = len(checkpoints.load(checkpoint)["history"]["loss"])
    assert 3 <= done < 40 and not result.exists()

    both = processes.share(shared_resume.main, *arguments)
    assert [processes.wait(process) for process in both] == [0, 0]
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
