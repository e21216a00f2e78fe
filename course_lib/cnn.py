"""Convolution and pooling by hand, and convolutional networks for small images.

Images are (N, C, H, W). Kernel sizes, strides, paddings and dilations are one whole number for both
axes or a pair (vertical, horizontal). A function computes what the one of the same name in
`torch.nn.functional` does; where that one or torch's layer takes other arguments, it says so.
Bad arguments raise `ValueError`, with the argument, its value and what is allowed.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

Pair = tuple[int, int]
Size = int | Pair


class DigitNet(nn.Module):
    """Three convolutions, two of them followed by pooling, for 28x28 grey images.

    Small enough to learn the digits within seconds on a laptop, wide enough to read handwriting
    that it has never seen. (N, 1, 28, 28) -> logits (N, classes).

    Args:
        width: channels of the first convolution; the others have twice as many.
    """

    def __init__(self, classes: int = 10, width: int = 16):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, width),  # (N, 1, 28, 28) -> (N, width, 28, 28)
            nn.MaxPool2d(2),  # -> (N, width, 14, 14)
            conv_block(width, 2 * width),  # -> (N, 2 width, 14, 14)
            nn.MaxPool2d(2),  # -> (N, 2 width, 7, 7)
            conv_block(2 * width, 2 * width),  # -> (N, 2 width, 7, 7)
        )
        self.classify = nn.Linear(2 * width * 7 * 7, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images).flatten(1))


class SmallCNN(nn.Module):
    """`DigitNet`'s faster sister: it pools before norm and ReLU, which then have a quarter to do.

    (N, 1, 28, 28) -> logits (N, classes); `widths` are the channels of the three convolutions.
    """

    def __init__(self, classes: int = 10, widths: tuple[int, int, int] = (16, 32, 64)):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, widths[0], pool=True),  # (N, 1, 28, 28) -> (N, widths[0], 14, 14)
            conv_block(widths[0], widths[1], pool=True),  # -> (N, widths[1], 7, 7)
            conv_block(widths[1], widths[2]),  # -> (N, widths[2], 7, 7)
        )
        self.classify = nn.Linear(widths[2] * 7 * 7, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images).flatten(1))


def conv_block(inputs: int, outputs: int, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU: (N, inputs, H, W) -> (N, outputs, H, W), or half H and W
    with `pool`, a max pooling right after the convolution."""
    layers = [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)]
    layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU())


def conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """Slide each kernel over the images; a value is the sum of kernel times the pixels under it.

    All windows become the columns of a matrix, so that one matrix product does the work.
    `padding_mode` belongs to torch's layer only: before `F.conv2d` one pads oneself. Torch also
    takes padding "same" and "valid", and images without the first axis.

    Args:
        images: (N, C, H, W).
        weight: (O, C / groups, kH, kW), O kernels.
        bias: (O,), added to every value of a channel.
        groups: cuts the C inputs and the O outputs into parts that do not see each other.

    Returns:
        (N, O, oH, oW), with oH and oW from `output_size`.

    Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning".
    """
    _check_convolution(images, weight, bias, groups)
    padded = pad2d(images, padding, padding_mode)  # (N, C, H + 2 pH, W + 2 pW)
    windows = _windows(padded, weight.shape[2:], stride, 0, dilation)  # (N, C, oH, oW, kH, kW)
    windows = windows.permute(0, 1, 4, 5, 2, 3)  # (N, C, kH, kW, oH, oW), still a view
    count, kernels, height, width = len(images), len(weight), *windows.shape[4:]
    depth = weight.shape[1:].numel()  # numbers in one kernel
    # Here each pixel is copied into every window that it is part of.
    columns = windows.reshape(count, groups, depth, height * width)
    rows = weight.reshape(groups, kernels // groups, depth)
    values = (rows @ columns).view(count, kernels, height, width)  # (N, O, oH, oW)
    # Autocast makes `values` bfloat16 and leaves the bias as it is.
    return values if bias is None else values + bias.to(values.dtype).view(-1, 1, 1)


class Conv2d(nn.Module):
    """`conv2d` as a layer, with the arguments, names and first values that torch's has: weights
    and biases uniform in +- 1 / sqrt(fan_in), fan_in = C / groups * kH * kW."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ):
        super().__init__()
        _check_groups(groups, in_channels, out_channels)
        shape = (out_channels, in_channels // groups, *_pair("kernel_size", kernel_size, 1))
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(shape[0]).uniform_(-bound, bound)) if bias else None
        self.stride, self.dilation = _pair("stride", stride, 1), _pair("dilation", dilation, 1)
        self.padding, self.padding_mode = _pair("padding", padding, 0), _check_mode(padding_mode)
        self.groups = groups

    def forward(self, images: Tensor) -> Tensor:
        options = (self.stride, self.padding, self.dilation, self.groups, self.padding_mode)
        return conv2d(images, self.weight, self.bias, *options)


def dense_matrix(weight: Tensor, image_size: Size, **options) -> Tensor:
    """The matrix of the fully connected layer that computes the same as a convolution.

    Column j is what the convolution makes of the image whose only lit pixel is pixel j. `options`
    are those of `conv2d`: stride, padding, dilation, groups, padding_mode.

    Returns:
        (O * oH * oW, C * H * W); times an image as a column (C * H * W,) it gives (O * oH * oW,).
    """
    height, width = _pair("image_size", image_size, 1)
    channels = weight.shape[1] * options.get("groups", 1)
    lit = torch.eye(channels * height * width, dtype=weight.dtype, device=weight.device)
    images = lit.view(-1, channels, height, width)  # (C H W, C, H, W), one image for each pixel
    return conv2d(images, weight, **options).flatten(1).T


def output_size(size, kernel_size, stride=1, padding=0, dilation=1, ceil_mode=False) -> int:
    """How many windows fit along one axis of `size` pixels; all but `ceil_mode` whole numbers.

    With `ceil_mode` one more window may hang over the end, if it starts before the padding there.
    """
    names = ("size", "kernel_size", "stride", "dilation")
    for name, value in zip(names, (size, kernel_size, stride, dilation), strict=True):
        _check_whole(name, value, 1)
    _check_whole("padding", padding, 0)
    span = dilation * (kernel_size - 1) + 1  # pixels from the first to the last under the kernel
    room = size + 2 * padding - span  # by so many pixels the window can move
    windows = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (windows - 1) * stride >= size + padding:
        windows -= 1
    spans = f"kernel_size is {kernel_size}, which spans {span} pixels with dilation {dilation}"
    allowed = f"at most {size + 2 * padding}, the size with its padding"
    _require(windows > 0, f"{spans}; allowed are {allowed}")
    return windows


def pad2d(images: Tensor, padding: Size, mode: str = "zeros") -> Tensor:
    """Put a frame around the images: (N, C, H, W) -> (N, C, H + 2 pH, W + 2 pW).

    The frame shows "zeros"; "reflect": the image mirrored at its border pixels, at most all but
    one of them; "replicate": the border pixels; "circular": the image again, as on a tiled floor.
    """
    _check_images("images", images)
    _check_mode(mode)
    for axis, extra in enumerate(_pair("padding", padding, 0), start=2):
        if mode == "zeros":
            images = _extend(images, axis, extra, extra, 0)
        else:
            source = _source_pixels(images.shape[axis], extra, mode)  # (size + 2 padding,)
            images = images.index_select(axis, source.to(images.device))
    return images  # (N, C, H + 2 pH, W + 2 pW)


def max_pool2d(
    images: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest value of each window; arguments and shapes as `max_pool2d_with_indices`."""
    return max_pool2d_with_indices(images, kernel_size, stride, padding, dilation, ceil_mode)[0]


def max_pool2d_with_indices(
    images: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """The largest value of each window and where it stood; of equal ones the first.

    Padding, and what a window holds beyond it with `ceil_mode`, is minus infinity: it never wins.
    Torch's function has a last argument `return_indices` instead; its layer takes that one
    *before* `ceil_mode`, so pass both by name.

    Args:
        images: (N, C, H, W).
        stride: by default `kernel_size`.
        padding: at most half of `kernel_size`.

    Returns:
        values (N, C, oH, oW), and int64 indices (N, C, oH, oW) into each channel's H * W pixels.
    """
    _check_images("images", images)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    windows = _windows(images, *options, -math.inf, -math.inf)  # (N, C, oH, oW, kH, kW)
    values, which = windows.flatten(4).max(dim=4)  # (N, C, oH, oW) twice
    places = torch.arange(images.shape[2:].numel(), device=images.device)
    places = places.view(1, 1, *images.shape[2:])  # (1, 1, H, W)
    # Only a window of nothing but minus infinity finds its padding, which stands for place 0.
    places = _windows(places, *options).flatten(4)  # (1, 1, oH, oW, kH kW)
    places = places.expand(*which.shape, -1)  # (N, C, oH, oW, kH kW)
    return values, places.gather(4, which.unsqueeze(4)).squeeze(4)


def avg_pool2d(
    images: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, oH, oW).

    `count_include_pad` says whether the mean is over the zeros of the padding, too; what a window
    holds beyond the padding with `ceil_mode` never counts. All other arguments are those of
    `max_pool2d_with_indices`. Torch can also divide by a number of one's own, `divisor_override`.
    """
    _check_images("images", images)
    options = (kernel_size, stride, padding, 1, ceil_mode)
    totals = _windows(images, *options).sum(dim=(4, 5))  # (N, C, oH, oW)
    ones = torch.ones_like(images[:1, :1])  # (1, 1, H, W)
    counts = _windows(ones, *options, inside=int(count_include_pad)).sum(dim=(4, 5))
    return totals / counts  # (N, C, oH, oW) / (1, 1, oH, oW)


def adaptive_avg_pool2d(images: Tensor, output_size: Size) -> Tensor:
    """Means over `output_size` windows that together cover the image, however large it is.

    Window i of n begins at pixel floor(i H / n) and ends before ceil((i + 1) H / n): where n does
    not divide H, neighbours overlap. Torch also takes None for "as many as there are pixels".
    (N, C, H, W) -> (N, C, *output_size).
    """
    return _adaptive_pool(images, output_size, lambda window: window.mean(dim=2))


def adaptive_max_pool2d(images: Tensor, output_size: Size) -> Tensor:
    """As `adaptive_avg_pool2d`, with the largest value; torch can `return_indices`, too."""
    return _adaptive_pool(images, output_size, lambda window: window.max(dim=2).values)


def max_unpool2d(values: Tensor, indices: Tensor, output_size: Size) -> Tensor:
    """Put pooled values back where they stood; all other pixels are 0, for they are lost.

    Torch works the size out from `kernel_size`, `stride` and `padding` where only one is possible.

    Args:
        values: (N, C, oH, oW); indices, too: see `max_pool2d_with_indices`.
        output_size: H and W of the images that were pooled, and of the result (N, C, H, W).
    """
    _check_images("values", values)
    shape, allowed = tuple(indices.shape), tuple(values.shape)
    _require(shape == allowed, f"indices has shape {shape}; allowed is values' shape {allowed}")
    height, width = _pair("output_size", output_size, 1)
    empty = values.new_zeros(*values.shape[:2], height * width)  # (N, C, H W)
    return empty.scatter(2, indices.flatten(2), values.flatten(2)).unflatten(2, (height, width))


def _windows(
    images, kernel_size, stride, padding, dilation, ceil_mode=False, inside=0, beyond=0
) -> Tensor:
    """Every window, as a view of the padded images: (N, C, H, W) -> (N, C, oH, oW, kH, kW).

    The padding holds `inside`; what hangs over it with `ceil_mode` holds `beyond`.
    """
    kernels, paddings = _pair("kernel_size", kernel_size, 1), _pair("padding", padding, 0)
    strides = kernels if stride is None else _pair("stride", stride, 1)
    dilations = _pair("dilation", dilation, 1)
    for axis, kernel, extra in zip((2, 3), kernels, paddings, strict=True):
        allowed = f"at most {kernel // 2}, half of kernel_size {kernel}"
        _require(extra <= kernel // 2, f"padding is {extra}; allowed is {allowed}")
        images = _extend(images, axis, extra, extra, inside)  # both axes before anything `beyond`
    options = zip((2, 3), kernels, strides, paddings, dilations, strict=True)
    for axis, kernel, step, extra, spread in options:
        padded, span = images.shape[axis], spread * (kernel - 1) + 1
        count = output_size(padded - 2 * extra, kernel, step, extra, spread, ceil_mode)
        missing = (count - 1) * step + span - padded  # pixels, of the last window
        images = _extend(images, axis, 0, max(missing, 0), beyond)
        images = images.unfold(axis, span, step)[..., ::spread]  # one more axis, of `kernel`
    return images


def _extend(images: Tensor, axis: int, before: int, after: int, value: float) -> Tensor:
    if before == after == 0:
        return images
    head, tail = images.shape[:axis], images.shape[axis + 1 :]
    strips = [images.new_full((*head, count, *tail), value) for count in (before, after)]
    return torch.cat([strips[0], images, strips[1]], dim=axis)


def _source_pixels(size: int, padding: int, mode: str) -> Tensor:
    """Which pixel of an axis each pixel of the padded axis shows, (size + 2 padding,)."""
    most = {"reflect": size - 1, "circular": size, "replicate": padding}[mode]
    allowed = f"allowed with {mode!r} is at most {most} on {size} pixels"
    _require(padding <= most, f"padding is {padding}; {allowed}")
    wanted = torch.arange(-padding, size + padding)
    if mode == "reflect":
        return size - 1 - (size - 1 - wanted.abs()).abs()  # mirrored at 0, then at size - 1
    return wanted % size if mode == "circular" else wanted.clamp(0, size - 1)


def _adaptive_pool(images: Tensor, output_size: Size, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    _check_images("images", images)
    rows, columns = (
        [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(images.shape[2:], _pair("output_size", output_size, 1), strict=True)
    )
    values = [reduce(images[:, :, r, c].flatten(2)) for r in rows for c in columns]  # each (N, C)
    return torch.stack(values, dim=2).unflatten(2, (len(rows), len(columns)))  # (N, C, oH, oW)


def _check_convolution(images: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    _check_images("images", images)
    _check_images("weight", weight)
    _check_groups(groups, images.shape[1], len(weight))
    depth = images.shape[1] // groups
    message = f"weight has {weight.shape[1]} input channels; allowed are {depth}: images / groups"
    _require(weight.shape[1] == depth, message)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}; allowed is ({len(weight)},)")


def _check_groups(groups: int, inputs: int, outputs: int) -> None:
    _check_whole("groups", groups, 1)
    for name, channels in (("input", inputs), ("output", outputs)):
        _check_whole(f"the number of {name} channels", channels, 1)
        _require(
            channels % groups == 0,
            f"groups is {groups}; allowed are divisors of {channels}, the {name} channels",
        )


def _check_images(name: str, images: Tensor) -> None:
    _require(
        images.ndim == 4 and images.is_floating_point(),
        f"{name} is {images.dtype} {tuple(images.shape)}; allowed are four axes of floats",
    )


def _check_mode(mode: str) -> str:
    allowed = ", ".join(PADDING_MODES)
    _require(mode in PADDING_MODES, f"padding mode is {mode!r}; allowed are {allowed}")
    return mode


def _pair(name: str, value: Size, least: int) -> Pair:
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    _require(len(values) == 2, f"{name} is {value!r}; allowed are a whole number or a pair")
    for number in values:
        _check_whole(name, number, least)
    return values


def _check_whole(name: str, value: int, least: int) -> None:
    whole = isinstance(value, int) and value >= least
    _require(whole, f"{name} is {value!r}; allowed are whole numbers from {least}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
