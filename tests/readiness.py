"""Checks that a model would run on a GPU, for machines without one; every chapter uses them.

Each takes a model, `loss(model, *tensors)`, and the tensors.
"""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def check_fake_cuda(model, loss, tensors):
    """Forward and loss under a pretended CUDA device: a tensor made on the CPU makes it fail."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [torch.empty_like(t, device="cuda") for t in map(mode.from_tensor, tensors)]
        state = {
            name: torch.empty_like(mode.from_tensor(value.detach()), device="cuda")
            for name, value in model.state_dict().items()
        }

        def call(*inputs):
            return torch.func.functional_call(model, state, inputs)

        assert loss(call, *fake).device.type == "cuda"


def check_meta(model, loss, tensors):
    """Forward, backward and a step without any data: shapes only."""
    model = model.to("meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss(model, *(tensor.to("meta") for tensor in tensors)).backward()
    optimizer.step()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


def check_autocast(model, loss, tensors):
    """Forward and backward in bfloat16 give finite gradients in float32."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss(model, *tensors).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype is torch.float32 and parameter.grad.isfinite().all(), name
    model.zero_grad()


def check_compiles(model, loss, tensors):
    """One graph forward and backward, no breaks, and the same loss.

    The last stage, which writes C++ or Triton, is left out: it takes half a minute.
    """
    torch._dynamo.reset()
    model.eval()
    expected = loss(model, *tensors)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(loss(compiled, *tensors), expected, rtol=1e-4, atol=1e-5)
