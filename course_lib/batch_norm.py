"""Batch norm by hand, and its sisters: layer, group and instance norm.

All of them subtract a mean and divide by a standard deviation; they differ in the axes over which
these are taken. A function or layer computes what the one of the same name in torch does; where
that one takes other arguments, it says so. Statistics of half-precision input are taken in float32.
Bad arguments raise `ValueError`, with the argument, its value and what is allowed.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class NormCNN(nn.Module):
    """Three 3x3 convolutions for 28x28 grey images, with a norm behind each, or without.

    (N, 1, 28, 28) -> logits (N, 10). The pooling stands before the norm, which then has a quarter
    to do.

    Args:
        widths: channels of the convolutions.
        norm: makes the norm of so many channels; None leaves it out, and the convolutions then
            have a bias.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (16, 32, 64),
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    ):
        super().__init__()

        def block(inputs: int, outputs: int, pool: bool) -> nn.Sequential:
            layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm is None)]
            layers += [nn.MaxPool2d(2)] if pool else []
            layers += [norm(outputs)] if norm else []
            return nn.Sequential(*layers, nn.ReLU())

        first, second, third = widths
        self.features = nn.Sequential(
            block(1, first, pool=True),  # (N, 1, 28, 28) -> (N, first, 14, 14)
            block(first, second, pool=True),  # -> (N, second, 7, 7)
            block(second, third, pool=False),  # -> (N, third, 7, 7)
        )
        self.classify = nn.Linear(third * 7 * 7, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images).flatten(1))


def normalise(x: Tensor, axes: Sequence[int], eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """Bring x to mean 0 and variance 1 along `axes`.

    Args:
        x: floats, any shape.
        axes: over which the mean and the variance are taken, at least one.
        eps: added to the variance, so that constant values give 0 and not NaN.

    Returns:
        x_hat, shaped like x; the mean and the variance (divided by the count, not by one less),
        with length 1 on `axes`.
    """
    _check_eps(eps)
    known = range(-x.ndim, x.ndim)
    right = len(axes) > 0 and all(axis in known for axis in axes)
    _require(right, f"axes is {tuple(axes)}; allowed are axes from {-x.ndim} to {x.ndim - 1}")
    mean = x.mean(dim=tuple(axes), keepdim=True)
    centred = x - mean
    var = centred.square().mean(dim=tuple(axes), keepdim=True)
    return centred * torch.rsqrt(var + eps), mean, var


class BatchNormFunction(torch.autograd.Function):
    """`normalise` over all axes but 1, times weight plus bias, with a backward derived by hand.

    `apply(x, weight, bias, eps)` takes x (N, C, ...), weight and bias (C,) and gives the outputs
    like x, and, without gradients: x_hat like x, the mean (C,) and the variance (C,).

    Source: Ioffe and Szegedy 2015, algorithm 1 and the gradients of section 3.
    """

    generate_vmap_rule = True  # the seeds of an experiment can train side by side

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float):
        x_hat, mean, var = normalise(_widen(x), _all_but_channels(x), eps)
        out = x_hat * _per_channel(weight, x) + _per_channel(bias, x)
        return out.to(x.dtype), x_hat, mean.flatten(), var.flatten()

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        x, weight, bias, ctx.eps = inputs
        _, x_hat, mean, var = output
        ctx.mark_non_differentiable(x_hat, mean, var)
        ctx.save_for_backward(x_hat, var, weight)
        ctx.dtypes = x.dtype, weight.dtype, bias.dtype

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, *_: Tensor):
        x_hat, var, weight = ctx.saved_tensors
        inv_std = torch.rsqrt(var + ctx.eps)
        grads = batch_norm_backward(grad.to(x_hat.dtype), x_hat, inv_std, weight)
        return *(g.to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True)), None


def batch_norm_backward(
    grad: Tensor, x_hat: Tensor, inv_std: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, weight and bias, given the gradient of the outputs.

    A value moves the mean and the variance of its channel, and through them every other value of
    it. So the gradient of x_hat loses its own mean and its share along x_hat: a batch that is
    shifted or stretched as a whole gives the same outputs.

    Args:
        grad: of the outputs, (N, C, ...).
        x_hat: the normalised values, (N, C, ...).
        inv_std: 1 / sqrt(variance + eps), (C,).
        weight: (C,).

    Returns:
        Gradients (N, C, ...), (C,) and (C,).
    """
    axes = _all_but_channels(x_hat)
    grad_bias = grad.sum(dim=axes)  # (C,)
    grad_weight = (grad * x_hat).sum(dim=axes)  # (C,)
    grad_hat = grad * _per_channel(weight, x_hat)  # (N, C, ...)
    shift = grad_hat.mean(dim=axes, keepdim=True)  # (1, C, ...)
    stretch = (grad_hat * x_hat).mean(dim=axes, keepdim=True)  # (1, C, ...)
    grad_x = _per_channel(inv_std, x_hat) * (grad_hat - shift - x_hat * stretch)
    return grad_x, grad_weight, grad_bias


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel over the batch, or by the running statistics.

    In training the batch's own mean and variance are used, and the running ones are updated in
    place: (1 - momentum) * old + momentum * new, with the variance divided by the count less one.

    Args:
        x: (N, C) or (N, C, ...), floats.
        running_mean: (C,); may be None in training, and so may `running_var`.
        weight: (C,), by default ones; `bias` likewise, by default zeros.
        momentum: 0 to 1, how much the *new* statistics weigh.

    Returns:
        Like x.

    Raises:
        ValueError: also where each channel has a single value in training: it would become 0.
    """
    _check_eps(eps)
    _check_input(x, running_mean, running_var, weight, bias)
    known = running_mean is not None and running_var is not None
    channels = torch.ones(x.shape[1], dtype=_widen(x).dtype, device=x.device)
    weight = channels if weight is None else weight
    bias = torch.zeros_like(channels) if bias is None else bias
    if not training:
        _require(known, "running_mean or running_var is None; allowed only in training")
        scale = weight * torch.rsqrt(running_var + eps)  # (C,)
        shift = bias - running_mean * scale  # (C,)
        return (_widen(x) * _per_channel(scale, x) + _per_channel(shift, x)).to(x.dtype)
    count = x.numel() // x.shape[1]  # values of a channel
    _check_values(x, count, "allowed in training are at least two values in each channel")
    out, _, mean, var = BatchNormFunction.apply(x, weight, bias, eps)
    if known:
        with torch.no_grad():
            running_mean += momentum * (mean - running_mean)
            running_var += momentum * (var * count / (count - 1) - running_var)
    return out


class BatchNorm1d(nn.Module):
    """`batch_norm` of features (N, C) or sequences (N, C, L), with torch's arguments and names.

    Args:
        momentum: None takes the mean over all batches so far.
        affine: with a learned weight and bias for each channel.
        track_running_stats: without, a batch is normalised by itself in evaluation, too.
    """

    axes: tuple[int, ...] = (2, 3)  # how many axes the input may have

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        super().__init__()
        self.num_features, self.eps = _check_count("num_features", num_features), _check_eps(eps)
        right = momentum is None or 0 <= momentum <= 1
        _require(right, f"momentum is {momentum}; allowed are 0 to 1, or None for the mean of all")
        self.momentum, self.track_running_stats = momentum, track_running_stats
        _add_parameters(self, num_features, affine, affine)
        tracked = track_running_stats
        self.register_buffer("running_mean", torch.zeros(num_features) if tracked else None)
        self.register_buffer("running_var", torch.ones(num_features) if tracked else None)
        self.register_buffer("num_batches_tracked", torch.tensor(0) if tracked else None)

    def forward(self, x: Tensor) -> Tensor:
        _check_channels(x, self.axes, self.num_features)
        momentum = self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked += 1
            if momentum is None:  # every batch so far weighs the same
                momentum = 1 / self.num_batches_tracked.to(self.running_mean.dtype)
        training = self.training or not self.track_running_stats
        statistics = (self.running_mean, self.running_var)
        return batch_norm(x, *statistics, self.weight, self.bias, training, momentum, self.eps)


class BatchNorm2d(BatchNorm1d):
    """`batch_norm` of images (N, C, H, W); arguments as for `BatchNorm1d`."""

    axes = (4,)


class LayerNorm(nn.Module):
    """Normalise each example by itself over its last axes, which have `normalized_shape`.

    Every value has its own weight and bias. Training and evaluation do the same.

    Source: Ba, Kiros and Hinton 2016.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape, self.eps = tuple(shape), _check_eps(eps)
        right = len(shape) > 0 and all(isinstance(size, int) and size >= 1 for size in shape)
        _require(right, f"normalized_shape is {normalized_shape}; allowed are whole numbers from 1")
        _add_parameters(self, shape, elementwise_affine, elementwise_affine and bias)

    def forward(self, x: Tensor) -> Tensor:
        count = len(self.normalized_shape)
        allowed = f"allowed are last axes {self.normalized_shape}"
        right = tuple(x.shape[-count:]) == self.normalized_shape
        _require(right, f"x has shape {tuple(x.shape)}; {allowed}")
        x_hat, _, _ = normalise(_widen(x), range(-count, 0), self.eps)
        return _scale(x_hat, self.weight, self.bias).to(x.dtype)


class GroupNorm(nn.Module):
    """Normalise each example (N, C, ...) by itself, in `num_groups` groups of channels.

    One group is layer norm over (C, ...) with a weight for each channel; a group for each channel
    is instance norm. A single value in a group is refused, as it would become 0; torch refuses it
    in a batch of one only. Source: Wu and He 2018.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        self.num_groups = _check_count("num_groups", num_groups)
        self.num_channels = _check_count("num_channels", num_channels)
        divides = num_channels % num_groups == 0
        allowed = f"allowed are divisors of num_channels {num_channels}"
        _require(divides, f"num_groups is {num_groups}; {allowed}")
        self.eps = _check_eps(eps)
        _add_parameters(self, num_channels, affine, affine)

    def forward(self, x: Tensor) -> Tensor:
        _check_channels(x, range(2, 6), self.num_channels)
        grouped = _widen(x).unflatten(1, (self.num_groups, -1))  # (N, groups, C / groups, ...)
        _check_values(x, grouped[0, 0].numel(), "allowed are at least two values in each group")
        x_hat, _, _ = normalise(grouped, range(2, grouped.ndim), self.eps)
        weights = (_per_channel(p, x) if p is not None else None for p in (self.weight, self.bias))
        return _scale(x_hat.view(x.shape), *weights).to(x.dtype)  # (N, C, ...)


class InstanceNorm2d(BatchNorm2d):
    """Normalise each channel of each image (N, C, H, W) by itself; arguments as torch's.

    With `track_running_stats`, evaluation uses the running mean of the images' statistics.
    Source: Ulyanov, Vedaldi and Lempitsky 2016.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, x: Tensor) -> Tensor:
        _check_channels(x, (4,), self.num_features)
        if self.track_running_stats and not self.training:
            statistics = (self.running_mean, self.running_var)
            return batch_norm(x, *statistics, self.weight, self.bias, eps=self.eps)
        _check_values(x, x.shape[2:].numel(), "allowed are at least two pixels in each channel")
        apart = x.flatten(0, 1).unsqueeze(0)  # (1, N C, H, W): a batch of one image
        names = ("running_mean", "running_var", "weight", "bias")
        tensors = [getattr(self, name) for name in names]
        repeated = [None if tensor is None else tensor.repeat(len(x)) for tensor in tensors]
        out = batch_norm(
            apart, *repeated, training=True, momentum=self.momentum or 0.0, eps=self.eps
        )
        if self.track_running_stats:
            for running, each in zip(tensors[:2], repeated[:2], strict=True):
                running.copy_(each.view(len(x), -1).mean(dim=0))  # (N C,) -> (C,)
        return out.view(x.shape)


def _all_but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (C, 1, ...), which broadcasts against x (N, C, ...)."""
    return values.view(-1, *(1 for _ in x.shape[2:]))


def _add_parameters(layer: nn.Module, shape, weight: bool, bias: bool) -> None:
    layer.weight = nn.Parameter(torch.ones(shape)) if weight else None
    layer.bias = nn.Parameter(torch.zeros(shape)) if bias else None


def _scale(x_hat: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x_hat = x_hat if weight is None else x_hat * weight
    return x_hat if bias is None else x_hat + bias


def _widen(x: Tensor) -> Tensor:
    """Half precision -> float32: a sum of many values would lose the small ones."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_input(x: Tensor, *tensors: Tensor | None) -> None:
    right = x.ndim >= 2 and x.is_floating_point()
    _require(right, f"x is {x.dtype} {tuple(x.shape)}; allowed are floats (N, C) or (N, C, ...)")
    names = ("running_mean", "running_var", "weight", "bias")
    for name, tensor in zip(names, tensors, strict=True):
        right = tensor is None or tensor.shape == x.shape[1:2]
        if not right:
            allowed = f"allowed is ({x.shape[1]},), the channels of x"
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; {allowed}")


def _check_channels(x: Tensor, axes: Sequence[int], channels: int) -> None:
    allowed = f"allowed are {' or '.join(map(str, axes))} axes with {channels} channels on axis 1"
    right = x.ndim in axes and x.shape[1] == channels
    _require(right, f"x has shape {tuple(x.shape)}; {allowed}")


def _check_values(x: Tensor, count: int, allowed: str) -> None:
    _require(count > 1, f"x has shape {tuple(x.shape)}; {allowed}")


def _check_count(name: str, count: int) -> int:
    right = isinstance(count, int) and count >= 1
    _require(right, f"{name} is {count!r}; allowed are whole numbers from 1")
    return count


def _check_eps(eps: float) -> float:
    _require(eps >= 0, f"eps is {eps}; allowed are numbers from 0")
    return eps


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
