"""Optimizers by name, and learning-rate schedules as plain functions of the step.

A schedule is `factor(step, steps, warmup)`: what the learning rate is multiplied by at `step` of
`steps`, where `warmup` is the share of the steps during which it rises. As a function of the step
alone it needs no state in a checkpoint.
"""

import math

import torch
from torch import nn

OPTIMIZERS = ("sgd", "adam", "adamw")


def make_optimizer(
    model: nn.Module,
    name: str,
    learning_rate: float,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
) -> torch.optim.Optimizer:
    """The optimizer called `name`, one of `OPTIMIZERS`; fused (one kernel for all weights).

    Weight decay acts on tensors with two or more axes: pulling a bias or a norm's scale towards
    zero costs accuracy and prevents no overfitting.

    Raises:
        ValueError: the model has nothing to train.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model has no parameters that require a gradient; at least one is needed")
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = parameters[0].device.type in ("cpu", "cuda", "mps")
    if name == "sgd":
        return torch.optim.SGD(groups, learning_rate, momentum, fused=fused)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(groups, learning_rate, fused=fused)


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
