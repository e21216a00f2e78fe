"""The checks of this folder run on a CPU, too, and can fail: so they do not rot without a GPU."""

import pytest
import torch

from course_lib import checkpoints, dot_product, runtime
from tests.gpu import checks
from tests.gpu.checks import CPU

SOME = ["small ResNet", "ResNet, bottleneck", "GRU, dot attention", "GPT", "SSD"]
some = pytest.mark.parametrize("name", SOME)


def test_a_recipe():
    checks.check_recipe("softmax_regression", CPU)


@some
def test_the_same_values(name):
    checks.check_same_as_cpu(name, CPU)


@some
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(name, precision):
    checks.check_half(name, CPU, precision)


def test_compiled():
    checks.check_compiled("MLP", CPU, backend="aot_eager")


def test_a_run_that_goes_on_elsewhere(tmp_path):
    for name in ("small ResNet", "GPT"):
        checks.check_resumes_elsewhere(CPU, CPU, tmp_path / f"{name}.pt", name)


def test_a_run_that_goes_on_in_float16(tmp_path, monkeypatch):
    """As on a GPU without bfloat16, from the checkpoint of a CPU: no scaler was there before."""
    dtypes = iter([torch.float32, torch.float16, torch.float16])
    monkeypatch.setattr(runtime, "resolve_precision", lambda *_: next(dtypes))
    checks.check_resumes_elsewhere(CPU, CPU, tmp_path / "run.pt", precision="auto")


def test_random_states_of_more_gpus_than_there_are(monkeypatch):
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ["first", "second"])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    checkpoints.restore_random_state(checkpoints.random_state())
    assert restored == ["first"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention(dtype):
    checks.check_attention(CPU, dtype)


def test_attention_that_forgets_its_mask_is_found(monkeypatch):
    def forgets(query, key, value, mask):
        return dot_product.attention_by_hand(query, key, value)[0]

    monkeypatch.setattr(dot_product, "attention_fused", forgets)
    with pytest.raises(AssertionError):
        checks.check_attention(CPU)


def test_data():
    checks.check_data(CPU)


def test_weights_elsewhere_or_of_the_start_are_found():
    model, history = checks.fit("MLP", CPU, steps=1)
    start = checks.parts("MLP")[1].state_dict()
    checks.assert_trained(model, start, history, CPU)
    with pytest.raises(AssertionError):
        checks.assert_trained(model, start, history, torch.device("cuda"))
    with pytest.raises(AssertionError):
        checks.assert_trained(model, model.state_dict(), history, CPU)


def test_the_cpu_is_no_gpu(monkeypatch):
    for cuda, mps, found in ((False, False, None), (False, True, "mps"), (True, False, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=cuda: answer)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda answer=mps: answer)
        assert checks.device_here() == (found and torch.device(found))
