"""The course on a real GPU, skipped where there is none: `python -m pytest -m gpu tests/gpu`."""

import pytest
import torch

from course_lib import recipes, runtime
from tests.gpu import checks

DEVICE = checks.device_here()
pytestmark = pytest.mark.gpu
if DEVICE is None:
    pytest.skip("this machine offers neither CUDA nor MPS", allow_module_level=True)

every_model = pytest.mark.parametrize("name", checks.ROWS)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_trains_and_is_tested(name):
    checks.check_recipe(name, DEVICE)


@every_model
def test_it_computes_what_the_cpu_does(name):
    checks.check_same_as_cpu(name, DEVICE)


@every_model
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_trains_in_half_precision(name, precision):
    if precision == "bfloat16" and not runtime.has_bfloat16(DEVICE):
        pytest.skip(f"{DEVICE.type} does not compute bfloat16 in hardware")
    checks.check_half(name, DEVICE, precision)


@every_model
def test_it_compiles(name):
    checks.check_compiled(name, DEVICE)


@pytest.mark.parametrize("name", ["small ResNet", "GPT"])
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_run_goes_on_without_the_gpu(name, precision, tmp_path):
    checks.check_resumes_elsewhere(DEVICE, checks.CPU, tmp_path / "run.pt", name, precision)


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_run_begun_on_the_cpu_goes_on_here(precision, tmp_path):
    checks.check_resumes_elsewhere(checks.CPU, DEVICE, tmp_path / "run.pt", precision=precision)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fused_attention_equals_that_by_hand(dtype):
    checks.check_attention(DEVICE, dtype)


def test_batches_are_cut_on_the_device():
    checks.check_data(DEVICE)


def test_two_processes_with_a_gpu_each_train_together(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip(f"nccl wants two GPUs; here are {torch.cuda.device_count()}")
    checks.check_processes(DEVICE, tmp_path / "weights.pt")
