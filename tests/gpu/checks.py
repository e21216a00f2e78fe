"""What must hold on a GPU; each check takes the device, so that a CPU can run it, too."""

import copy
import math
import subprocess
import sys

import torch

from course_lib import batches, dot_product, recipes, train
from tests.test_models_readiness import ROWS

CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-3, "atol": 1e-4}  # float32 summed in another order


def exact_products():
    """Float32 in full: convolutions on newer GPUs would round their inputs to ten bits."""
    return torch.backends.cudnn.flags(True, allow_tf32=False)


def parts(name):
    """The row of the table called `name`, a fresh model and a batch of four items."""
    torch.manual_seed(0)
    row = ROWS[name]
    return row, row.make(), row.batch(4)


def to(device, values):
    return batches.map_tensors(lambda tensor: tensor.to(device), values)


def fit(name, device, steps=10, **options):
    """Train the row's model on one batch, again and again."""
    row, model, batch = parts(name)
    config = train.FitConfig(steps, row.optimizer, 1e-3, **options)
    return model, train.fit(model, [batch], row.loss, config, device=device)


def assert_trained(model, before, history, device):
    """Finite losses, finite weights on the device in float32, and not those of the start."""
    assert all(map(math.isfinite, history.loss))
    for name, value in model.state_dict().items():
        assert value.device.type == device.type, name
        assert value.dtype is before[name].dtype, name
    learnt = [name for name, p in model.named_parameters() if p.requires_grad]
    weights = model.state_dict()
    assert all(weights[name].isfinite().all() for name in learnt)
    assert any(not weights[name].cpu().equal(before[name].cpu()) for name in learnt)


def check_recipe(name, device):
    """Some steps of a recipe, its data on the device, and its test there."""
    recipe = recipes.RECIPES[name](batch_size=8, steps=4)
    before = copy.deepcopy(recipe.model.state_dict())
    history = recipe.fit(device=device)
    assert len(history.loss) == 4
    assert_trained(recipe.model, before, history, device)
    scores = recipe.test(recipe.model)
    assert scores and all(math.isfinite(value) for value in scores.values())


def check_same_as_cpu(name, device):
    """Outputs, loss and gradients are those of the CPU, in float32 and evaluation mode."""
    row, model, batch = parts(name)
    found = []
    for place in (CPU, device):
        here, there = copy.deepcopy(model).to(place).eval(), to(place, batch)
        for part in here.modules():
            if isinstance(part, torch.nn.RNNBase):
                part.train().dropout = 0.0  # cuDNN differentiates them in training mode only
        with exact_products():
            outputs, value = here(*row.inputs(there)), row.loss(here, there)
        value.backward()
        gradients = {n: p.grad for n, p in here.named_parameters() if p.grad is not None}
        found.append(to(CPU, {"outputs": outputs, "loss": value.detach(), **gradients}))
    torch.testing.assert_close(found[1], found[0], **CLOSE)


def check_half(name, device, precision):
    """`train.fit` under autocast, in float16 with a scaler, keeps weights in float32."""
    _, before, _ = parts(name)
    model, history = fit(name, device, precision=precision)
    assert_trained(model, before.state_dict(), history, device)


def check_compiled(name, device, backend="inductor"):
    """The compiled model gives the same loss, and gradients that are finite."""
    torch._dynamo.reset()
    row, model, batch = parts(name)
    model, batch = model.to(device).eval(), to(device, batch)
    compiled = torch.compile(model, backend=backend)
    with exact_products():
        torch.testing.assert_close(row.loss(compiled, batch), row.loss(model, batch), **CLOSE)
    model.train()
    row.loss(compiled, batch).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def check_resumes_elsewhere(first, second, path, name="small ResNet", precision="float32"):
    """A run stopped on one device goes on from its checkpoint on another, as it would have."""
    row, _, batch = parts(name)
    config = train.FitConfig(6, row.optimizer, 1e-3, precision=precision, schedule="cosine", seed=1)

    def run(device, checkpoint=None, stop_after=None):
        model, asked = parts(name)[1], []
        items = train.Batches(*batch, batch_size=2, seed=1)
        stop = lambda: asked.append(1) or len(asked) == stop_after  # noqa: E731
        options = {"checkpoint": checkpoint, "stop": stop, "device": device}
        with exact_products():
            return model, train.fit(model, items, row.loss, config, **options)

    _, begun = run(first, path, stop_after=3)
    assert len(begun.loss) == 3
    model, resumed = run(second, path)
    whole, expected = run(second)
    assert resumed.loss[:3] == begun.loss and len(resumed.loss) == 6
    torch.testing.assert_close(resumed.loss, expected.loss, rtol=0.02, atol=1e-3)
    for name, value in model.state_dict().items():
        assert value.device.type == second.type
        torch.testing.assert_close(value, whole.state_dict()[name], rtol=0.05, atol=0.02)


def check_attention(device, dtype=torch.float32):
    """Fused attention is that by hand, forward and backward; rows without a key give zeros."""
    torch.manual_seed(0)
    mask = torch.rand(2, 1, 7, 9) < 0.6
    mask[0, 0, 2] = False
    found = []

    def by_hand(*tensors):
        return dot_product.attention_by_hand(*tensors)[0]

    for function in (by_hand, dot_product.attention_fused):
        torch.manual_seed(1)
        shapes = (2, 4, 7, 16), (2, 4, 9, 16), (2, 4, 9, 16)
        inputs = [torch.randn(shape).to(device, dtype).requires_grad_() for shape in shapes]
        output = function(*inputs, mask.to(device))
        output.square().sum().backward()
        assert not output[0, :, 2].any()
        found.append([output.detach(), *(tensor.grad for tensor in inputs)])
    close = CLOSE if dtype is torch.float32 else {"rtol": 0.03, "atol": 0.03}
    torch.testing.assert_close(found[1], found[0], **close)


def check_data(device):
    """Batches cut on the device are those cut on the CPU."""
    numbers, labels = torch.arange(46.0).view(23, 2), torch.arange(23)
    here = train.Batches(numbers, labels, batch_size=5, seed=3)
    there = here.to(device)
    assert {tensor.device.type for tensor in there.tensors} == {device.type}
    for ours, theirs in zip(here.epoch(2), there.epoch(2), strict=True):
        assert {tensor.device.type for tensor in theirs} == {device.type}
        torch.testing.assert_close(to(CPU, theirs), ours)


def check_processes(device, path, steps=3):
    """Two processes share a recipe, and leave finite weights."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["digits", "--steps", str(steps), "--device", device.type, "--save", str(path)]
    command = [sys.executable, "-m", *launcher, "-m", "course_lib", "train", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy:") == 1
    weights = torch.load(path, weights_only=True, map_location="cpu")["weights"]
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


def device_here():
    """The GPU of this machine, or None; whatever `COURSE_DEVICE` says."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else None
