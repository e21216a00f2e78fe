"""Exercises and quizzes of chapter 04."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.teaching.exercises.exercise import (
    Exercise,
    Rejected,
    expect_numbers,
    expect_tensor,
    without,
)
from course_lib.teaching.quiz import Choice, Quiz

RIGHT_COUNTS = {
    "parameters of BatchNorm2d(16)": 32,
    "numbers in its state dict that no gradient reaches": 33,
    "means it takes of the batch": 16,
    "values that go into one of them": 200,
    "means that LayerNorm((16, 5, 5)) takes of the batch": 8,
    "means that GroupNorm(4, 16) takes of the batch": 32,
}
WHY_NOT = {
    "parameters": "a weight and a bias for each channel, wherever a pixel lies.",
    "numbers": "a running mean and a running variance for each channel, and one count of batches.",
    "means it": "one mean for each channel.",
    "values": "a channel's mean runs over all images and all of their pixels.",
    "means that LayerNorm": "each image is normalised by itself, all channels together.",
    "means that GroupNorm": "each image has a mean for each of its four groups.",
}


def examine_counts(answer: dict[str, int]) -> None:
    expect_numbers(answer, RIGHT_COUNTS, _why_not)


def _why_not(name: str, _: float) -> str:
    return next(why for start, why in WHY_NOT.items() if name.startswith(start))


NO_TORCH = "Torch's own batch norm does it; here it is your turn."


def examine_batch_norm(batch_norm) -> None:
    batch_norm = without(batch_norm, NO_TORCH, (F, "batch_norm"), (torch, "batch_norm"))
    generator = torch.Generator().manual_seed(4)
    x = 3 * torch.randn(4, 3, 2, 5, generator=generator, dtype=torch.float64) + 2
    before = x.clone()
    value = batch_norm(x, 0.5)
    expect_tensor(value, (4, 3, 2, 5), "what comes out")
    if not x.equal(before):
        raise Rejected("The x that was passed in has changed; others may still need it.")
    right = solve_norm_images(x, 0.5)
    if torch.allclose(value, right):
        return
    raise Rejected(_wrong_norm(value, x))


def _wrong_norm(value: Tensor, x: Tensor) -> str:
    each = x - x.mean((0, 2, 3), keepdim=True)
    var = each.square().mean((0, 2, 3), keepdim=True)
    unbiased = x.var((0, 2, 3), keepdim=True)
    known = (
        (each, "The mean is gone; now divide."),
        (each / var.sqrt(), "Right but for eps: where is it?"),
        (each / (var.sqrt() + 0.5), "eps is added to the variance, before the root."),
        (each / (var + 0.5), "You divide by the variance. Its root has the unit of the values."),
        (each / (unbiased + 0.5).sqrt(), "Divide the sum of squares by the count, not one less."),
    )
    for wrong, reason in known:
        if torch.allclose(value, wrong):
            return reason
    for axes, what in (((2, 3), "each image by itself"), ((1, 2, 3), "each image by itself")):
        if value.mean(axes).abs().max() < 1e-9:
            return f"You normalise {what}. Which axes share a mean here?"
    if value.mean((0,)).abs().max() < 1e-9:
        return "Each pixel has a mean of its own. All pixels of a channel should share one."
    if value.mean((0, 2, 3)).abs().max() > 1e-9:
        return "The channels' means are not 0 afterwards. Over which axes do you take them?"
    return "The means are right, the spread is not. Look at the variance, channel by channel."


def solve_norm_images(x, eps):
    mean = x.mean(dim=(0, 2, 3), keepdim=True)  # (1, C, 1, 1)
    var = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(var + eps)


def examine_update(update) -> None:
    mean, var = torch.tensor([1.0, -2.0]), torch.tensor([4.0, 1.0])
    x = torch.tensor([[2.0, 0.0], [4.0, 1.0], [9.0, 5.0]])  # means 5, 2; sums of squares 26, 14
    kept = mean.clone(), var.clone(), x.clone()
    value = update(mean, var, x, 0.25)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Rejected("Return two tensors: the new running mean and the new running variance.")
    for part, what in zip(value, ("the running mean", "the running variance"), strict=True):
        expect_tensor(part, (2,), what)
    if not all(a.equal(b) for a, b in zip((mean, var, x), kept, strict=True)):
        raise Rejected("What was passed in has changed; return new tensors.")
    new_mean, new_var = value
    if torch.allclose(new_mean, 0.25 * mean + 0.75 * x.mean(0)):
        raise Rejected("Your momentum weighs the old mean. Torch's weighs the *new* one.")
    if torch.allclose(new_mean, x.mean(0)):
        raise Rejected("That is the mean of this batch alone; a running mean remembers.")
    if not torch.allclose(new_mean, 0.75 * mean + 0.25 * x.mean(0)):
        raise Rejected("The mean: a quarter of the new one and three quarters of the old.")
    if torch.allclose(new_var, 0.75 * var + 0.25 * x.var(0, correction=0)):
        raise Rejected(
            "The mean is right. For the running variance torch divides by the count less one."
        )
    if torch.allclose(new_var, 0.75 * var + 0.25 * x.std(0)):
        raise Rejected("The mean is right. The second one is a variance, not its root.")
    if torch.allclose(new_var, x.var(0)):
        raise Rejected("The mean is right. The variance runs, too: part of the old one stays.")
    if not torch.allclose(new_var, 0.75 * var + 0.25 * x.var(0)):
        raise Rejected("The mean is right, the variance is not: mix it as you mix the mean.")
    if not torch.allclose(update(mean, var, x, 1.0)[0], x.mean(0)):
        raise Rejected("Right with momentum 0.25; with 1 only the new batch should count.")


def solve_update(running_mean, running_var, x, momentum):
    mean, var = x.mean(dim=0), x.var(dim=0)  # x.var divides by the count less one
    return (
        (1 - momentum) * running_mean + momentum * mean,
        (1 - momentum) * running_var + momentum * var,
    )


def examine_fold(fold) -> None:
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weight, bias, gamma, beta, mean = draw(3, 3, 3, 3), draw(3), draw(3), draw(3), draw(3)
    var, x = draw(3).square() + 0.5, draw(2, 3, 5, 5)
    value = fold(weight, bias, gamma, beta, mean, var, 0.25)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Rejected("Return two tensors: the new weight and the new bias.")
    expect_tensor(value[0], (3, 3, 3, 3), "the new weight")
    expect_tensor(value[1], (3,), "the new bias")
    right = solve_fold(weight, bias, gamma, beta, mean, var, 0.25)
    scale = gamma / torch.sqrt(var + 0.25)
    if torch.allclose(value[0], weight * scale.view(1, 3, 1, 1)):
        raise Rejected("You scale by input channel. A norm behind the layer sees its outputs.")
    if torch.allclose(value[0], weight * scale):
        raise Rejected("The scale meets the last axis, the columns of the kernel.")
    if torch.allclose(value[0], weight * (gamma / var.sqrt()).view(3, 1, 1, 1)):
        raise Rejected("Nearly: eps belongs to the variance here, too.")
    if not torch.allclose(value[0], right[0]):
        raise Rejected("The weight: each kernel times gamma / sqrt(var + eps) of its own channel.")
    if torch.allclose(value[1], bias + beta - mean * scale):
        raise Rejected("The weight is right. The layer's own bias passes through the norm, too.")
    if torch.allclose(value[1], beta - mean * scale):
        raise Rejected("The weight is right. What became of the layer's own bias?")
    if torch.allclose(value[1], bias * scale + beta):
        raise Rejected("The weight is right. The norm also subtracts its running mean.")
    expected = F.conv2d(x, *right)
    if not torch.allclose(F.conv2d(x, *value), expected):
        raise Rejected("The weight is right, the bias is not: what becomes of an output of 0?")


def solve_fold(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / torch.sqrt(var + eps)  # (O,)
    return weight * scale.view(-1, 1, 1, 1), (bias - mean) * scale + beta


def examine_backward(backward) -> None:
    generator = torch.Generator().manual_seed(6)
    x = 2 * torch.randn(5, 4, generator=generator, dtype=torch.float64) + 1
    grad = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    var, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    inv_std = 1 / torch.sqrt(var + 0.3)  # (5, 1)
    x_hat = (x - mean) * inv_std
    value = backward(grad, x_hat, inv_std)
    expect_tensor(value, (5, 4), "the gradient of x")
    centred = grad - grad.mean(1, keepdim=True)
    known = (
        (grad, "That is the gradient of x_hat; go on through the norm."),
        (grad * inv_std, "You treat mean and deviation as constants. Both depend on x."),
        (centred * inv_std, "The mean is minded. The deviation depends on x, too."),
        (
            (grad - x_hat * (grad * x_hat).mean(1, keepdim=True)) * inv_std,
            "The deviation is minded. The mean depends on x, too.",
        ),
        (
            _through(grad, x_hat, inv_std, 0),
            "That is batch norm's: its means run down the columns. Layer norm's run along rows.",
        ),
        (
            _through(grad, x_hat, 1.0, 1),
            "Only a factor is missing: x_hat has been divided by the deviation.",
        ),
    )
    for wrong, reason in known:
        if torch.allclose(value, wrong):
            raise Rejected(reason)
    if value.sum(1).abs().max() > 1e-9:
        raise Rejected("A shift of a whole row changes nothing: each row must sum to 0.")
    if not torch.allclose(value, _through(grad, x_hat, inv_std, 1)):
        raise Rejected("The rows sum to 0, as they should, but the part along x_hat is not right.")


def _through(grad: Tensor, x_hat: Tensor, inv_std: Tensor | float, axis: int) -> Tensor:
    shift = grad.mean(axis, keepdim=True)
    return inv_std * (grad - shift - x_hat * (grad * x_hat).mean(axis, keepdim=True))


def solve_backward(grad, x_hat, inv_std):
    shift = grad.mean(dim=1, keepdim=True)  # (N, 1)
    stretch = (grad * x_hat).mean(dim=1, keepdim=True)  # (N, 1)
    return inv_std * (grad - shift - x_hat * stretch)


counts = Exercise(
    number="4.1",
    title="counting",
    examine=examine_counts,
    solution=RIGHT_COUNTS,
    hints=(
        "Batch norm has one mean for each channel, and each channel one weight, one bias, one "
        "running mean and one running variance. The state dict also counts batches.",
        "Layer norm has one mean for each of 8 images, group norm one for each image and group. A "
        "channel of the batch holds 8 x 5 x 5 values.",
    ),
)

batch_norm = Exercise(
    number="4.2",
    title="batch norm of images",
    examine=examine_batch_norm,
    solution=solve_norm_images,
    hints=(
        "Which axes does a channel's mean run over? Of (N, C, H, W), all but one. `keepdim=True` "
        "keeps the result ready for broadcasting.",
        "Subtract the mean; the mean of the squares of what is left is the variance; divide by "
        "the root of variance plus eps.",
    ),
)

update = Exercise(
    number="4.3",
    title="running statistics",
    examine=examine_update,
    solution=solve_update,
    hints=(
        "(1 - momentum) times the old plus momentum times the new: once for the mean, once for "
        "the variance.",
        "`x.var(dim=0)` divides by the count less one, and that is what torch keeps.",
    ),
)

fold = Exercise(
    number="4.4",
    title="folding",
    examine=examine_fold,
    solution=solve_fold,
    hints=(
        "In evaluation the norm computes scale * (y - mean) + beta, with scale = gamma / "
        "sqrt(var + eps). Put weight * x + bias in for y, and sort.",
        "The scale belongs to the kernels, axis 0 of the weight: `scale.view(-1, 1, 1, 1)`. The "
        "new bias is what comes out where weight * x is 0.",
    ),
)

backward = Exercise(
    number="4.5",
    title="the backward of layer norm",
    examine=examine_backward,
    solution=solve_backward,
    hints=(
        "It is batch norm's with rows in place of columns. Which two parts of the gradient does "
        "normalising take away?",
        "Subtract the row's mean of the gradient, and x_hat times the row's mean of gradient "
        "times x_hat; then multiply by `inv_std`.",
    ),
)

EXERCISES = (counts, batch_norm, update, fold, backward)

evaluation = Quiz(
    "A network with batch norm is right while it trains and wrong when asked about single images. "
    "What is the first thing to look at?",
    (
        Choice(
            "Whether it is in evaluation mode",
            "In training mode a single image is normalised by itself, and what makes it differ "
            "from others is gone. And the running statistics change with every question.",
            correct=True,
        ),
        Choice("Whether the learning rate is too high", "It learned well, so that is not it."),
        Choice(
            "Whether eps is large enough",
            "It keeps constant values finite, and hardly ever matters otherwise.",
        ),
    ),
)

momentum = Quiz(
    "`BatchNorm2d(64, momentum=0.01)` trains for a hundred steps. What are its running statistics?",
    (
        Choice(
            "Exact: a small momentum averages over many batches",
            "Over many, if there are many. After a hundred batches a third of what it holds is "
            "still the 0 and 1 that it began with.",
        ),
        Choice(
            "To a good part still what they began with",
            "0.99 to the power of 100 is more than a third.",
            correct=True,
        ),
        Choice("Those of the last batch", "That would be momentum 1: it weighs what is new."),
    ),
)

small_batches = Quiz(
    "You can only afford two images per batch. Which norm minds the least?",
    (
        Choice(
            "Batch norm: each channel still has all the pixels of two images",
            "They are of two images all the same; the statistics jump from batch to batch.",
        ),
        Choice(
            "Group norm: it never looks at other images",
            "What it computes for an image does not depend on the batch at all.",
            correct=True,
        ),
        Choice(
            "None: without a large batch nothing can be normalised",
            "Layer, group and instance norm take their means within one image.",
        ),
    ),
)

folding = Quiz(
    "When may a batch norm be folded into the convolution before it?",
    (
        Choice(
            "Always: both are linear",
            "In training the norm depends on the whole batch, and that is not linear in one image.",
        ),
        Choice(
            "In evaluation, if nothing but a convolution stands before it",
            "There it is a fixed scale and shift for each channel, which the weights can take in.",
            correct=True,
        ),
        Choice(
            "In evaluation, even with a ReLU in between",
            "A ReLU cuts at 0, and the shift would move what is cut.",
        ),
    ),
)

QUIZZES = (evaluation, momentum, small_batches, folding)
