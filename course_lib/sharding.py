"""Models that are too large for one device: each process keeps a part of every weight (FSDP2).

Weights are gathered for the layer that needs them, and its gradient is shared out again at once; so
each process keeps its part of the weights, of their gradients and of the optimizer's moments.

Source: Zhao et al. 2023, "PyTorch FSDP"; Rajbhandari et al. 2020, "ZeRO", stage 3.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from course_lib import distributed, runtime, train
from course_lib.batches import Batch, split_batch

WHOLE = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
OPTIMIZERS = ("sgd", "adam", "adamw")  # they treat each number by itself, so that a part is enough


class ShardedRun(train._Run):
    """The state of `train.fit(..., shard=True)`: what is done otherwise with parts of weights.

    Raises:
        ValueError: one process, an optimizer that needs whole matrices, or float16.
    """

    spare = None  # a part of an earlier batch

    def __init__(self, *arguments):
        super().__init__(*arguments)
        for group in self.optimizer.param_groups if self.config.optimizer == "sgd" else ():
            group["fused"] = False  # torch's fused SGD knows no parts of weights

    def place(self, model: nn.Module) -> nn.Module:
        """The model with this process's part of process 0's weights."""
        if distributed.world_size() < 2:
            raise ValueError(
                "shard is True; allowed is that with two or more processes of torchrun"
            )
        if self.config.optimizer not in OPTIMIZERS:
            allowed = f"allowed with shard are {', '.join(OPTIMIZERS)}"
            raise ValueError(f"optimizer is {self.config.optimizer!r}; {allowed}")
        if self.dtype is torch.float16:
            raise ValueError("precision is float16; allowed with shard are bfloat16 and float32")
        shard(model, self.device)
        return model

    def backward(self, batch: Batch) -> None:
        """Leave this process's part of the gradient of the joint batch's mean loss.

        FSDP takes the mean of the processes' gradients, which is that of the joint batch where
        each loss is multiplied by this process's share of the items times the processes. All of
        them gather the weights together: one with fewer parts than another goes on with a part of
        an earlier batch, which counts for nothing.
        """
        parts = list(split_batch(batch, self.config.accumulate))
        counts = [self.weigh(part) for part in parts]
        joint, most = _joint([sum(counts), len(parts)], self.device)
        self.spare = parts[-1] if parts else self.spare
        if self.spare is None:
            raise ValueError("the first batch has no items for a process; allowed is one for each")
        missing = most - len(parts)
        value = torch.zeros((), device=self.device)
        padded = zip(parts + [self.spare] * missing, counts + [0] * missing, strict=True)
        for part, count in padded:
            share = count / joint if joint else 0.0
            with runtime.autocast(self.device, self.dtype):
                part_loss = self.loss(self.forward, part)
            (part_loss * (share * distributed.world_size())).backward()
            value = value + part_loss.detach() * share
        dist.all_reduce(value)
        self.unread.append(value)

    def states(self) -> tuple[dict, dict]:
        """What the model and the optimizer hold, whole, on the CPU of process 0."""
        return states.get_state_dict(self.model, self.optimizer, options=WHOLE)

    def take_states(self, weights: dict, moments: dict) -> None:
        """Keep this process's parts of what `states` gave."""
        parts = {"model_state_dict": weights, "optim_state_dict": moments}
        options = states.StateDictOptions(full_state_dict=True)
        states.set_state_dict(self.model, self.optimizer, **parts, options=options)

    def measure(self) -> dict[str, float]:
        """What `validate` gives; all processes compute it, since each has a part of the weights."""
        return self.validate(self.model)


@torch.no_grad()
def shard(model: nn.Module, device: torch.device) -> None:
    """Leave on each process its part of process 0's weights, on `device`.

    The layers of a stack are gathered one at a time, everything else at once.
    """
    for tensor in [*model.parameters(), *model.buffers()]:
        value = tensor.to(device)
        dist.broadcast(value, src=0)
        tensor.copy_(value)
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
    for layer in (layer for stack in stacks for layer in stack):
        if any(layer.children()) and any(p.requires_grad for p in layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for buffer in model.buffers():
        buffer.data = buffer.to(device)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a shared model with whole tensors, on the CPU of process 0 and empty on the
    others; all of them must ask."""
    return states.get_model_state_dict(model, options=WHOLE)


def _joint(numbers: list[float], device: torch.device) -> tuple[float, int]:
    """The sum of the processes' first numbers, and the largest of their second ones."""
    own = torch.tensor(numbers, dtype=torch.float64, device=device)
    every = [torch.empty_like(own) for _ in range(distributed.world_size())]
    dist.all_gather(every, own)
    both = torch.stack(every)  # (processes, 2)
    return both[:, 0].sum().item(), int(both[:, 1].max())
