"""Optimizers by name, and learning-rate schedules as plain functions of the step.

A schedule is `factor(step, steps, warmup)`: what the learning rate is multiplied by at `step` of
`steps`, where `warmup` is the share of the steps during which it rises. As a function of the step
alone it needs no state in a checkpoint.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

OPTIMIZERS = ("sgd", "adam", "adamw", "muon")


def make_optimizer(
    model: nn.Module,
    name: str,
    learning_rate: float,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
) -> "torch.optim.Optimizer | Together":
    """The optimizer called `name`, one of `OPTIMIZERS`; fused (one kernel for all weights).

    "muon" is `Muon` for `hidden_weights` and AdamW for the rest, with one learning rate for both.

    Weight decay acts on tensors with two or more axes: pulling a bias or a norm's scale towards
    zero costs accuracy and prevents no overfitting.

    Raises:
        ValueError: the model has nothing to train.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model has no parameters that require a gradient; at least one is needed")
    hidden = hidden_weights(model) if name == "muon" else []
    apart = {id(p) for p in hidden}
    parameters = [p for p in parameters if id(p) not in apart]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = parameters[0].device.type in ("cpu", "cuda", "mps")
    if name == "sgd":
        optimizer = torch.optim.SGD(groups, learning_rate, momentum, fused=fused)
        # Torch would leave the fused ones' memory as found where float16 skips the first step.
        for parameter in parameters if momentum else []:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    optimizer = kind(groups, learning_rate, fused=fused)
    if not hidden:
        return optimizer
    return Together(Muon(hidden, learning_rate, weight_decay, momentum), optimizer)


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights between a model's first and its last: all with two or more axes but embeddings.

    First and last come in the order in which the model has registered them.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    weights = [p for p in model.parameters() if p.ndim >= 2]
    return [p for p in weights[1:-1] if p.requires_grad and id(p) not in tables]


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, so that no direction of a matrix is neglected.

    Equal to `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")` on matrices; a convolution's kernels
    (O, C, kH, kW) are taken as a matrix (O, C kH kW), which torch's refuses. Steps are as large as
    AdamW's usually are, so that its learning rates fit.

    Source: Jordan and others 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu
    and others 2025, "Muon is scalable for LLM training" (the size of the steps).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ):
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.ndim < 2:
                shape = tuple(parameter.shape)
                raise ValueError(
                    f"parameters hold one of shape {shape}; allowed are 2 axes or more"
                )
        defaults = {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            alike: dict[object, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:  # few kernels of a network are of one shape
                    key = parameter.shape if parameter.ndim == 2 else id(parameter)
                    alike.setdefault(key, []).append(parameter)
            for parameters in alike.values():
                self._move(parameters, group)

    def _move(self, parameters: list[nn.Parameter], group: dict) -> None:
        """Move matrices of one shape together: one product of many small ones is faster."""
        ahead = [self._ahead(parameter, group).flatten(1) for parameter in parameters]
        many = len(ahead) > 1
        steps = orthogonalise(torch.stack(ahead)) if many else [orthogonalise(ahead[0])]
        size = 0.2 * math.sqrt(max(ahead[0].shape))  # of a usual step of AdamW
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(step.view(parameter.shape), alpha=-group["lr"] * size)

    def _ahead(self, parameter: nn.Parameter, group: dict) -> Tensor:
        """The mean of the gradients, a step ahead of its time, as Nesterov has it."""
        gradient = parameter.grad
        mean = self.state[parameter].setdefault("mean", torch.zeros_like(gradient))
        mean.lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(mean, group["momentum"])


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """About U V^T where `matrix` (M, N) is U S V^T: all its singular values near 1; bfloat16.

    Newton-Schulz iteration: matrix products only. Its coefficients push small values up fast, and
    leave all of them between about 0.7 and 1.2. A stack (K, M, N) gives each matrix what it would
    get alone, but for rounding.
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.bfloat16()
    x = x.mT if tall else x  # the products below are of the shorter side
    x = x / _length(x).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT  # (..., short, short)
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.mT if tall else x


def _length(x: Tensor) -> Tensor:
    """The norm of a matrix, or of each of a stack (K, M, N) as (K, 1, 1)."""
    if x.ndim == 2:
        return x.norm()
    # One by one: together they would be summed in another order.
    return torch.stack([one.norm() for one in x])[:, None, None]


class Together:
    """Several optimizers, of different parameters, as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> list[dict]:
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict]) -> None:
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def constant(step: int, steps: int, warmup: float) -> float:
    """Factor 1 after a linear rise over the first `warmup * steps` steps."""
    rise = round(warmup * steps)
    return (step + 1) / rise if step < rise else 1.0


def cosine(step: int, steps: int, warmup: float) -> float:
    """A linear rise, then half a cosine wave down to 0. Source: Loshchilov and Hutter 2017."""
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return _cosine_blend(1.0, 0.0, (step - rise) / (steps - rise))


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """From 1/25 up to 1 and down to almost 0, both as half cosine waves. Source: Smith 2018."""
    start, end = 1 / 25, 1 / 250_000
    peak = warmup * steps - 1
    if step < peak:
        return _cosine_blend(start, 1.0, step / peak)
    peak = max(peak, 0)
    return _cosine_blend(1.0, end, (step - peak) / max(steps - 1 - peak, 1))


SCHEDULES = {"constant": constant, "cosine": cosine, "one_cycle": one_cycle}


def _cosine_blend(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
