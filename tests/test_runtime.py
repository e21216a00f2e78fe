"""Device, precision and seeds."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from course_lib import runtime

CPU = torch.device("cpu")


def test_course_device_overrides(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert runtime.default_device() == CPU


def test_unknown_device_names_the_allowed_ones(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "tpu")
    with pytest.raises(ValueError, match="COURSE_DEVICE is 'tpu'; allowed are cuda, mps, cpu"):
        runtime.default_device()


def test_absent_device_is_said_to_be_absent(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="offers no cuda device"):
        runtime.default_device()


@pytest.mark.parametrize("hardware, expected", [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_follows_the_hardware(monkeypatch, hardware, expected):
    monkeypatch.setattr(runtime, "_cpu_capabilities", lambda: {"avx512_bf16": hardware})
    assert runtime.resolve_precision("auto", CPU) is expected


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision is 'bf16'"):
        runtime.resolve_precision("bf16", CPU)


def test_autocast_computes_in_its_dtype_and_float32_changes_nothing():
    x = torch.randn(4, 4)
    with runtime.autocast(CPU, torch.bfloat16):
        assert (x @ x).dtype is torch.bfloat16
    with runtime.autocast(CPU, torch.float32):
        assert (x @ x).dtype is torch.float32


def test_seed_everything_repeats_every_generator():
    def draw():
        generator = runtime.seed_everything(7)
        drawn = torch.rand(1, generator=generator).item()
        return random.random(), np.random.rand(), torch.rand(1).item(), drawn

    assert draw() == draw()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=f"seed is {seed}"):
        runtime.seed_everything(seed)


def test_generators_for_different_numbers_differ_and_for_equal_ones_agree():
    draws = {
        numbers: torch.rand(1, generator=runtime.generator_for(*numbers)).item()
        for numbers in [(0, 1), (1, 0), (0, 0), (1,), (0, 1, 0)]
    }
    assert len(set(draws.values())) == len(draws)
    assert torch.rand(1, generator=runtime.generator_for(0, 1)).item() == draws[0, 1]


FAULTS = """
import resource
import torch
from course_lib import runtime
kept = {call}
counts = []
for _ in range(25):  # the first ones until a place of that size is free
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24).sum()
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, sorted(counts)[12])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limits")
def test_kept_memory_is_not_cleared_for_each_tensor():
    def faults(call):
        command = [sys.executable, "-c", FAULTS.format(call=call)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return printed[0], int(printed[1])

    kept, few = faults("runtime.keep_memory()")
    _, many = faults("False")
    assert kept == "True" and few < 100 < many


def test_memory_is_kept_by_glibc_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert runtime.keep_memory.__wrapped__() is False
    monkeypatch.undo()
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: object())  # another C library
    assert runtime.keep_memory.__wrapped__() is False
