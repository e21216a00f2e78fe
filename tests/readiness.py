"""Checks that a model would run on a GPU, for machines without one; `test_models_readiness.py`
runs them on every model of the course, and tests of single layers and functions use them too.

Each takes a model, `loss(model, *tensors)`, and the tensors; the model is left as it was.
"""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from course_lib.optimizers import make_optimizer

HALVES = (torch.bfloat16, torch.float16)


class _StaysThere(TorchDispatchMode):
    """Refuses to copy from the device to the CPU: a GPU would have to be waited for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if "cuda" in _devices((args, kwargs)) and "cpu" in _devices(result):
            raise AssertionError(f"{function} brings a tensor from its device to the CPU")
        return result


def check_fake_cuda(model, loss, tensors):
    """Forward and loss under a pretended CUDA device.

    What fails: a tensor made on the CPU or copied to it, a value that is asked for (`.item()`,
    `if`), a shape that depends on values (a boolean mask as index, `nonzero`). Backward is beyond
    torch's fake device, since autograd asks for a driver; `check_meta` has it.
    """
    model = copy.deepcopy(model)
    _teach_gru_cells()
    # Without cuDNN, whose recurrent nets want real memory.
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.backends.cudnn.flags(False):

        def place(tensor):
            return torch.empty_like(mode.from_tensor(tensor.detach()), device="cuda")

        _move(model, place)
        tensors = [place(tensor) for tensor in tensors]
        with _StaysThere():
            value = loss(model, *tensors)
        assert value.device.type == "cuda", f"the loss is on device {value.device}"
        assert value.ndim == 0, f"the loss has shape {tuple(value.shape)}, and is not one number"


def check_meta(model, loss, tensors, optimizer="sgd"):
    """Forward, backward and a step of `optimizer` without any data: shapes only."""
    model = copy.deepcopy(model)
    _move(model, lambda tensor: torch.empty_like(tensor, device="meta"))
    shapes = [parameter.shape for parameter in model.parameters()]
    steps = make_optimizer(model, optimizer, 0.1, weight_decay=0.1)
    loss(model, *(tensor.to("meta") for tensor in tensors)).backward()
    for name, parameter in model.named_parameters():
        learnt = parameter.grad is not None and parameter.grad.shape == parameter.shape
        assert learnt or not parameter.requires_grad, f"{name} has no gradient"
    steps.step()
    assert [parameter.shape for parameter in model.parameters()] == shapes


def check_autocast(model, loss, tensors):
    """Under autocast to either half, a finite loss, and finite gradients in float32."""
    for dtype in HALVES:
        copied = copy.deepcopy(model)
        with torch.autocast("cpu", dtype):
            value = loss(copied, *tensors)
        assert value.isfinite(), f"the loss is {value} in {dtype}"
        value.backward()
        for name, gradient in _gradients(copied).items():
            assert gradient.dtype is torch.float32 and gradient.isfinite().all(), (name, dtype)


def check_compiles(model, loss, tensors):
    """Training's loss is one graph forward and one backward, with the same values as without.

    The last stage, which writes C++ or Triton, is left out: it takes half a minute. Recurrent
    layers are taken in, which torch does when asked to only.
    """
    torch._dynamo.reset()
    results = []
    with torch._dynamo.config.patch(allow_rnn=True):
        for compiling in (False, True):
            copied = copy.deepcopy(model)
            call = loss
            if compiling:
                call = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=False)
            torch.manual_seed(0)  # of dropout
            value = call(copied, *tensors)
            value.backward()
            results.append({"loss": value.detach(), **_gradients(copied)})
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def check_exports(model, inputs, others):
    """`torch.export` of the model in evaluation mode for `inputs`: equal for `others`, too.

    Args:
        inputs, others: what `forward` takes, with different numbers of items.
    """
    model = copy.deepcopy(model).eval()
    items = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*_flat_weights")  # nn.GRU holds a list of its own
        exported = torch.export.export(model, tuple(inputs), dynamic_shapes=items).module()
    with torch.no_grad():
        for tensors in (inputs, others):
            torch.testing.assert_close(exported(*tensors), model(*tensors), rtol=1e-4, atol=1e-5)


def _move(model: nn.Module, move) -> None:
    """Replace each parameter and buffer by `move(tensor)`; one used twice is still one."""
    moved = {}
    for module in model.modules():
        own = {**module._parameters, **module._buffers}
        for name, tensor in own.items():
            if tensor is None:
                continue
            if id(tensor) not in moved:
                there = move(tensor)
                if isinstance(tensor, nn.Parameter):
                    there = nn.Parameter(there, tensor.requires_grad)
                moved[id(tensor)] = there, tensor  # kept, lest its id be given anew
            setattr(module, name, moved[id(tensor)][0])


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def _devices(tree) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}


def _teach_gru_cells(name: str = "aten::_thnn_fused_gru_cell") -> None:
    """Tell torch which shapes a step of `nn.GRU` gives on CUDA, where it does not know."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key(name, "Meta"):
        _LIBRARY.impl(
            name,
            lambda inputs, hidden, last, *_: (
                torch.empty_like(last),
                last.new_empty(len(last), 5 * last.shape[1]),
            ),
        )


_LIBRARY = torch.library.Library("aten", "IMPL", "Meta")
