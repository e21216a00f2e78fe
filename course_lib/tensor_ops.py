"""Tensors and training by hand: memory, losses, optimizers, initial weights, two first networks.

Everything here exists in torch, faster. It is written out so that it can be read, and tests prove
that its values and gradients equal torch's.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

REDUCTIONS = ("mean", "sum", "none")
Shape = tuple[int, ...]


def memory_of(tensor: Tensor) -> Tensor:
    """The place in its storage that each element of `tensor` is read from.

    Element (i, j, ...) lies at offset + i * stride[0] + j * stride[1] + ...

    Args:
        tensor: any shape; only its shape, stride and offset matter, not its values.

    Returns:
        int64, same shape, on the CPU: places from the storage's beginning, counted in elements.
    """
    places = torch.full(tensor.shape, tensor.storage_offset(), dtype=torch.int64)
    for axis, (length, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        after = [1] * (tensor.ndim - axis - 1)
        places = places + (torch.arange(length) * stride).view(length, *after)
    return places


def can_view(shape: Sequence[int], stride: Sequence[int], new_shape: Sequence[int]) -> bool:
    """Whether `.view(new_shape)` works on a tensor of `shape` and `stride`, without a copy.

    Neighbouring axes form a run where one step along the outer axis equals a whole walk along the
    inner one. A view may cut runs into pieces, but none of its axes may reach across the border
    between two runs. `new_shape` has no -1.
    """
    if math.prod(shape) != math.prod(new_shape):
        return False
    if math.prod(shape) == 0:
        return True  # no element, nothing to walk over
    runs: list[list[int]] = []  # [length, stride of its innermost axis]
    outer_stride = None
    for length, step in zip(shape, stride, strict=True):
        if length == 1:
            continue  # nobody ever takes a step along it
        if runs and outer_stride == length * step:
            runs[-1] = [runs[-1][0] * length, step]
        else:
            runs.append([length, step])
        outer_stride = step
    borders = _running_products([length for length, _ in runs])
    return borders <= _running_products(new_shape)


def _running_products(lengths: Sequence[int]) -> set[int]:
    return {math.prod(lengths[: count + 1]) for count in range(len(lengths))}


def broadcast_shape(a: Sequence[int], b: Sequence[int]) -> Shape:
    """The shape of `x + y` for tensors of shapes `a` and `b`.

    Aligned on the right, a missing axis counts as 1, and a 1 is stretched to the other's length.

    Raises:
        ValueError: two lengths differ and neither is 1; it names the axis, counted from the right.
    """
    axes = max(len(a), len(b))
    padded_a = (1,) * (axes - len(a)) + tuple(a)
    padded_b = (1,) * (axes - len(b)) + tuple(b)
    result = []
    for axis, (length_a, length_b) in enumerate(zip(padded_a, padded_b, strict=True)):
        if length_a != length_b and 1 not in (length_a, length_b):
            raise ValueError(
                f"shapes {tuple(a)} and {tuple(b)} do not fit on axis {axis - axes}: {length_a} "
                f"against {length_b}; allowed are equal lengths, or a 1"
            )
        result.append(length_b if length_a == 1 else length_a)
    return tuple(result)


def pad_sequences(sequences: Sequence[Tensor], value: float = 0) -> tuple[Tensor, Tensor]:
    """Put N sequences (T_n, ...) into one block (N, T, ...), T the longest, filled up by `value`.

    Returns:
        The block, and a mask (N, T): True = is real.

    Raises:
        ValueError: no sequences.
    """
    if not sequences:
        raise ValueError("sequences is empty; at least one is needed")
    first, longest = sequences[0], max(len(sequence) for sequence in sequences)
    block = first.new_full((len(sequences), longest, *first.shape[1:]), value)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool, device=first.device)
    for row, sequence in enumerate(sequences):
        block[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = True
    return block, mask


def l1_loss(predictions: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Absolute difference |prediction - target|, in the unit of the targets.

    Args:
        predictions, targets: of one shape. (torch broadcasts other shapes with no more than a
            warning, and (N, 1) against (N,) becomes N x N differences.)
        reduction: "mean" and "sum" give a scalar, "none" the shape of the predictions.

    Raises:
        ValueError: shapes differ, or an unknown reduction.
    """
    _check_shapes(predictions, targets)
    return _reduce((predictions - targets).abs(), reduction)


def mse_loss(predictions: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Squared difference (prediction - target)^2, in the square of the targets' unit.

    Arguments, shapes and errors are those of `l1_loss`.
    """
    _check_shapes(predictions, targets)
    return _reduce((predictions - targets) ** 2, reduction)


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """-log of the probability that softmax gives to the label, in nats.

    Args:
        logits: (N, classes) or (N, classes, ...).
        labels: int64 (N, ...), each 0 .. classes - 1 or `ignore_index`. Others stop where they
            index, as in torch (asking first would make a GPU wait at every step).
        ignore_index: items with this label cost nothing and have no gradient. "mean" divides by
            the number of the others, so it is NaN where there are none, as torch's is.
        label_smoothing: in 0 .. 1, the share of the target that all classes get alike. Source:
            Szegedy et al. 2016, section 7.
        reduction: "mean" and "sum" give a scalar, "none" the shape of the labels.

    Raises:
        ValueError: shapes do not belong together, or an argument is not allowed.
    """
    if logits.ndim < 2 or labels.shape != logits.shape[:1] + logits.shape[2:]:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; allowed "
            "are (N, classes, ...) and (N, ...)"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; allowed is 0 .. 1")
    # Without its maximum no row overflows: the largest power is e^0. It is a constant for the
    # gradient, because it cancels out.
    shifted = logits - logits.amax(dim=1, keepdim=True).detach()
    log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()
    counts = labels != ignore_index
    picked = log_p.gather(1, labels.where(counts, 0).unsqueeze(1)).squeeze(1)  # -> (N, ...)
    losses = -picked
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * log_p.mean(dim=1)
    losses = losses.where(counts, 0)
    if reduction == "mean":
        return losses.sum() / counts.sum()
    return _reduce(losses, reduction)


def binary_cross_entropy_with_logits(
    logits: Tensor, targets: Tensor, reduction: str = "mean"
) -> Tensor:
    """-log of the probability that the sigmoid gives to the target, in nats.

    It is the cross entropy over the two logits (0, x), log(e^0 + e^x) - target * x, for logits and
    targets (0 .. 1) of one shape. Shapes, reductions and errors are those of `l1_loss`.
    """
    _check_shapes(logits, targets)
    # The usual max(x, 0) + log(1 + e^-|x|) has these values, too, but two kinks at 0 that cancel
    # each other; automatic differentiation does not see that, and its gradient is wrong there.
    largest = logits.clamp(min=0).detach()
    log_sum = largest + ((-largest).exp() + (logits - largest).exp()).log()
    return _reduce(log_sum - targets * logits, reduction)


def _check_shapes(predictions: Tensor, targets: Tensor) -> None:
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions have shape {tuple(predictions.shape)} and targets "
            f"{tuple(targets.shape)}; allowed are equal shapes"
        )


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; allowed are {', '.join(REDUCTIONS)}")
    return losses if reduction == "none" else getattr(losses, reduction)()


class _Optimizer:
    """What all optimizers share: the tensors they move, and forgetting gradients."""

    def __init__(self, parameters: Iterable[Tensor], **numbers: float):
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError("parameters is empty; at least one tensor is needed")
        for name, number in numbers.items():
            if not 0 <= number < math.inf:
                raise ValueError(f"{name} is {number}; allowed are finite numbers from 0")

    def zero_grad(self) -> None:
        """Forget the gradients: `backward` adds to what it finds."""
        for weight in self.parameters:
            weight.grad = None

    @torch.no_grad()  # a step is no part of the function that is differentiated
    def step(self) -> None:
        """Move every parameter that has a gradient, in place."""
        for number, weight in enumerate(self.parameters):
            if weight.grad is not None:
                self._move(number, weight, weight.grad)

    def _move(self, number: int, weight: Tensor, gradient: Tensor) -> None:
        raise NotImplementedError


class SGD(_Optimizer):
    """Stochastic gradient descent: against the gradient, with momentum if wanted.

    velocity = momentum * velocity + gradient;  weight -= learning_rate * velocity

    Args:
        momentum: share of the velocity that is kept. Source: Polyak 1964.
        nesterov: look one step of velocity ahead. Source: Sutskever et al. 2013.
        weight_decay: L2: this share of the weight is added to its gradient.

    Raises:
        ValueError: a number is negative or not finite, or nesterov without momentum.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            parameters, learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay
        )
        if nesterov and momentum == 0:
            raise ValueError(f"nesterov is {nesterov} and momentum 0; it needs a momentum above 0")
        self.learning_rate = learning_rate
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.velocity: dict[int, Tensor] = {}

    def _move(self, number: int, weight: Tensor, gradient: Tensor) -> None:
        gradient = gradient + self.weight_decay * weight
        velocity = self.momentum * self.velocity.get(number, 0.0) + gradient
        self.velocity[number] = velocity
        direction = gradient + self.momentum * velocity if self.nesterov else velocity
        weight -= self.learning_rate * direction


class Adam(_Optimizer):
    """Adam: momentum, divided by the gradient's recent size for each weight on its own.

    Source: Kingma and Ba 2015, algorithm 1.

    Args:
        betas: shares of the mean gradient and of the mean squared gradient that are kept.
        eps: keeps the division finite.
        weight_decay: L2: this share of the weight is added to its gradient.

    Raises:
        ValueError: a number is negative or not finite, or a beta is not below 1.
    """

    decoupled = False  # whether weight decay bypasses the division

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            parameters, learning_rate=learning_rate, eps=eps, weight_decay=weight_decay
        )
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}; allowed are numbers 0 <= beta < 1")
        self.learning_rate, self.betas, self.eps = learning_rate, betas, eps
        self.weight_decay = weight_decay
        self.moments: dict[int, tuple[int, Tensor, Tensor]] = {}  # steps, mean, mean square

    def _move(self, number: int, weight: Tensor, gradient: Tensor) -> None:
        if self.decoupled:
            weight *= 1 - self.learning_rate * self.weight_decay
        else:
            gradient = gradient + self.weight_decay * weight
        steps, mean, square = self.moments.get(number, (0, 0.0, 0.0))
        beta1, beta2 = self.betas
        steps += 1
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        self.moments[number] = steps, mean, square
        # Both began at 0 and are still too small by a known factor.
        unbiased_mean = mean / (1 - beta1**steps)
        unbiased_square = square / (1 - beta2**steps)
        weight -= self.learning_rate * unbiased_mean / (unbiased_square.sqrt() + self.eps)


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights directly, whatever the gradient's size.

    Arguments and errors are those of `Adam`. Source: Loshchilov and Hutter 2019, algorithm 2, with
    the decay multiplied by the learning rate, as in torch.
    """

    decoupled = True


def kaiming_uniform_(
    weight: Tensor, gain: float = math.sqrt(2), generator: torch.Generator | None = None
) -> Tensor:
    """Fill `weight` (outputs, inputs, ...) so that values keep their size from layer to layer.

    Uniform in -b .. b, b = gain * sqrt(3 / fan_in), a standard deviation of gain / sqrt(fan_in);
    the gain of sqrt(2) makes up for the half that a ReLU takes away. Returns `weight` itself.
    Source: He et al. 2015, equation 10.
    """
    bound = gain * math.sqrt(3 / _fans(weight)[0])
    with torch.no_grad():
        return weight.uniform_(-bound, bound, generator=generator)


def xavier_uniform_(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill `weight` (outputs, inputs, ...) as a compromise between values and gradients.

    Uniform in -b .. b with b = sqrt(6 / (fan_in + fan_out)), for layers without a ReLU. Returns
    `weight` itself. Source: Glorot and Bengio 2010, equation 16.
    """
    bound = math.sqrt(6 / sum(_fans(weight)))
    with torch.no_grad():
        return weight.uniform_(-bound, bound, generator=generator)


def _fans(weight: Tensor) -> tuple[int, int]:
    """How many inputs each output sees, and how many outputs each input reaches."""
    if weight.ndim < 2:
        raise ValueError(f"weight has shape {tuple(weight.shape)}; two axes or more are needed")
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


class SoftmaxRegression(nn.Module):
    """One linear layer: a weight for each pixel and class, and nothing in between.

    Shapes:
        (N, ...) with `inputs` numbers an item -> logits (N, classes)
    """

    def __init__(self, inputs: int = 784, classes: int = 10):
        super().__init__()
        self.linear = nn.Linear(inputs, classes)
        nn.init.zeros_(self.linear.weight)  # no symmetry to break: each class has its own gradient
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1))


class MLP(nn.Module):
    """A hidden layer with ReLU between the pixels and the classes.

    Shapes:
        (N, ...) with `inputs` numbers an item -> logits (N, classes)
    """

    def __init__(self, inputs: int = 784, hidden: int = 256, classes: int = 10):
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.classify = nn.Linear(hidden, classes)
        for layer, gain in ((self.hidden, math.sqrt(2)), (self.classify, 1.0)):
            kaiming_uniform_(layer.weight, gain)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.hidden(images.flatten(1)).relu()  # (N, inputs) -> (N, hidden)
        return self.classify(hidden)  # -> (N, classes)
