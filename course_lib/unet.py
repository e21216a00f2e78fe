"""Which pixel belongs to what: transposed convolution, FCN and U-Net, their losses and scores.

Images are (N, C, H, W), logits (N, classes, H, W), masks of class numbers int64 (N, H, W), where
`IGNORED` marks pixels that neither losses nor scores count. Bad arguments raise `ValueError`, with
the argument, its value and what is allowed.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.batches import IGNORED
from course_lib.cnn import Pair, Size, conv_block


def conv_transpose2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """Stamp the kernel onto the result at every pixel, as strong as the pixel; stamps add up.

    What `F.conv_transpose2d` computes, in its slow and clear form: a loop over the kernel.

    Args:
        images: (N, C, H, W).
        weight: (C, O / groups, kH, kW).
        bias: (O,).
        stride: pixels between neighbouring stamps.
        padding: pixels that are cut off all around.
        output_padding: further rows and columns after the last ones, below stride or dilation.
        groups: cuts the C inputs and the O outputs into parts that do not see each other.
        dilation: pixels between the points of a stamp.

    Returns:
        (N, O, oH, oW), oH = (H - 1) stride - 2 padding + dilation (kH - 1) + output_padding + 1.

    Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", 4.
    """
    _check_transposed(images, weight, bias, groups)
    strides, dilations = _pair("stride", stride, 1), _pair("dilation", dilation, 1)
    paddings, extras = _pair("padding", padding, 0), _pair("output_padding", output_padding, 0)
    for extra, step, spread in zip(extras, strides, dilations, strict=True):
        if extra >= max(step, spread):
            allowed = f"below stride {step} or dilation {spread}"
            raise ValueError(f"output_padding is {extra}; allowed are numbers {allowed}")
    count, _, *size = images.shape
    grouped = images.unflatten(1, (groups, -1))  # (N, G, C/G, H, W)
    kernels = weight.unflatten(0, (groups, -1))  # (G, C/G, O/G, kH, kW)
    spans = [
        (n - 1) * step + spread * (k - 1) + 1 + extra
        for n, k, step, spread, extra in zip(
            size, weight.shape[2:], strides, dilations, extras, strict=True
        )
    ]
    if min(n - 2 * p for n, p in zip(spans, paddings, strict=True)) < 1:
        raise ValueError(
            f"padding is {padding!r}; allowed is less than half of the stamps' {spans}"
        )
    result = images.new_zeros(count, groups, weight.shape[1], *spans)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            stamps = torch.einsum("ngchw,gco->ngohw", grouped, kernels[..., row, column])
            places = [
                slice(place * spread, place * spread + (n - 1) * step + 1, step)
                for place, n, step, spread in zip(
                    (row, column), size, strides, dilations, strict=True
                )
            ]
            result[:, :, :, places[0], places[1]] += stamps
    rows, columns = (slice(p, n - p) for p, n in zip(paddings, spans, strict=True))
    result = result[:, :, :, rows, columns].flatten(1, 2)  # (N, O, oH, oW)
    return result if bias is None else result + bias.view(-1, 1, 1)


def bilinear_kernel(factor: int) -> Tensor:
    """The stamp that makes a transposed convolution of this stride interpolate, float32 (K, K).

    A tent: 1 in the middle, falling by 1 / factor a pixel. K is 2 factor, or one less if odd.
    """
    if factor < 1:
        raise ValueError(f"factor is {factor}; allowed are whole numbers from 1")
    size = 2 * factor - factor % 2
    tent = 1 - (torch.arange(size) - (size - 1) / 2).abs() / factor
    return tent[:, None] * tent


def upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that begins as bilinear interpolation, and may learn better.

    (N, channels, H, W) -> (N, channels, factor H, factor W), each channel on its own.
    """
    kernel = bilinear_kernel(factor)
    layer = nn.ConvTranspose2d(
        channels,
        channels,
        len(kernel),
        stride=factor,
        padding=factor // 2,
        groups=channels,
        bias=False,
    )
    with torch.no_grad():
        layer.weight.copy_(kernel.expand_as(layer.weight))
    return layer


class FCN(nn.Module):
    """A network for whole images made to label pixels: classes at each place, then enlarged.

    Args:
        body: (N, C, H, W) -> features (N, channels, H / factor, W / factor).
        channels: of the body's features.
        factor: by how much the body shrinks an image.

    Source: Long, Shelhamer and Darrell 2015, "Fully convolutional networks", FCN-32s.
    """

    def __init__(self, body: nn.Module, channels: int, classes: int, factor: int):
        super().__init__()
        self.body, self.factor = body, factor
        self.classify = nn.Conv2d(channels, classes, kernel_size=1)
        self.enlarge = upsampling(classes, factor)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(_fill_up(images, self.factor))  # (N, channels, H / f, W / f)
        logits = self.enlarge(self.classify(features))  # (N, classes, H, W), sides rounded up
        return logits[:, :, : images.shape[2], : images.shape[3]]


class UNet(nn.Module):
    """Encoders going down, decoders coming up, each joined with the encoder of its size.

    With four numbers of channels: encoders 1-3, the bottom of the U, decoders 4-6, where 4 joins
    with encoder 3, 5 with 2 and 6 with 1. (N, inputs, H, W) -> logits (N, classes, H, W), any size.

    Args:
        channels: of the encoders from the top, and of the bottom last; at least two numbers.
        skips: False leaves the joins out.
        stem: above 1, blocks of stem x stem pixels become channels first and are taken apart
            again at the end, so that the dear upper levels work on fewer places.

    Source: Ronneberger, Fischer and Brox 2015, "U-Net"; with batch norm and padded borders.
    """

    def __init__(
        self,
        inputs: int = 3,
        classes: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        skips: bool = True,
        stem: int = 1,
    ):
        super().__init__()
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(
                f"channels is {tuple(channels)}; allowed are two numbers from 1 or more"
            )
        if stem < 1:
            raise ValueError(f"stem is {stem}; allowed are whole numbers from 1")
        self.skips, self.stem = skips, stem
        self.multiple = stem * 2 ** (len(channels) - 1)  # sides are filled up to a multiple of it
        self.reach = 7 * self.multiple  # no pixel farther away than this changes a prediction
        above = [inputs * stem**2, *channels]
        self.encoders = nn.ModuleList(
            _two_convolutions(first, second)
            for first, second in zip(above[:-1], channels, strict=True)
        )
        pairs = list(
            zip(channels[:0:-1], channels[-2::-1], strict=True)
        )  # (below, here), bottom up
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(below, here, kernel_size=2, stride=2) for below, here in pairs
        )
        self.decoders = nn.ModuleList(
            _two_convolutions(2 * here if skips else here, here) for _, here in pairs
        )
        self.classify = nn.Conv2d(channels[0], classes * stem**2, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        x = _fill_up(images, self.multiple)
        x = F.pixel_unshuffle(x, self.stem) if self.stem > 1 else x  # -> (N, C s s, H / s, W / s)
        across = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(F.max_pool2d(x, 2) if level else x)  # -> (N, channels, H / 2^level, ...)
            across.append(x)
        across.pop()  # the bottom
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = up(x)  # (N, c, h, w) -> (N, c', 2h, 2w)
            x = decoder(torch.cat([across.pop(), x], dim=1) if self.skips else x)
        logits = self.classify(x)
        logits = F.pixel_shuffle(logits, self.stem) if self.stem > 1 else logits
        return logits[:, :, : images.shape[2], : images.shape[3]]


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross entropy over the pixels that are not `IGNORED`; 0 where all are."""
    total = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="sum")
    return total / (mask != IGNORED).sum().clamp(min=1)


def binary_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross entropy of yes and no: logits (N, 1, H, W), mask bool (N, 1, H, W)."""
    return F.binary_cross_entropy_with_logits(logits, mask.to(logits.dtype))


def dice_loss(probabilities: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """1 less the overlap of what is predicted with what is there, the mean over images and classes.

    2 |P and T| / (|P| + |T|) counts no background, so that small objects weigh as much as large.

    Args:
        probabilities: (N, C, H, W), from a sigmoid or softmax.
        targets: bool or float (N, C, H, W).
        smooth: added to both sides of the fraction, so that an empty mask is defined.

    Source: Milletari, Navab and Ahmadi 2016, "V-Net", section 3; there the sums are of squares.
    """
    if probabilities.shape != targets.shape:
        shapes = f"{tuple(targets.shape)}; allowed is {tuple(probabilities.shape)}"
        raise ValueError(f"targets has shape {shapes}, that of probabilities")
    probabilities, targets = probabilities.float(), targets.float()  # sums are long
    both = (probabilities * targets).sum((2, 3))  # (N, C)
    either = probabilities.sum((2, 3)) + targets.sum((2, 3))
    return (1 - (2 * both + smooth) / (either + smooth)).mean()


def confusion(predicted: Tensor, mask: Tensor, classes: int) -> Tensor:
    """How many pixels of class i (row) were taken for class j (column): int64 (classes, classes).

    Masks are integers (N, H, W); `IGNORED` ones are left out. Add those of several batches.
    """
    if predicted.shape != mask.shape:
        shapes = f"{tuple(predicted.shape)}; allowed is {tuple(mask.shape)}"
        raise ValueError(f"predicted has shape {shapes}, that of mask")
    real = mask != IGNORED
    pairs = mask[real].long(), predicted[real].long()
    for name, values in zip(("mask", "predicted"), pairs, strict=True):
        bad = values[(values < 0) | (values >= classes)]
        if len(bad):
            raise ValueError(f"{name} holds {bad[0].item()}; allowed are 0 .. {classes - 1}")
    places = pairs[0] * classes + pairs[1]
    return places.bincount(minlength=classes**2).view(classes, classes)


def iou(counts: Tensor) -> Tensor:
    """Intersection over union of each class, from `confusion`: float32 (classes,).

    NaN for a class that neither is there nor was predicted.
    """
    both = counts.diagonal()
    return both / (counts.sum(0) + counts.sum(1) - both)


def dice(counts: Tensor) -> Tensor:
    """Twice the intersection over the sum of both areas, as `iou`: float32 (classes,)."""
    return 2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))


def components(mask: Tensor, least_area: int = 1) -> Tensor:
    """Number the islands of True: bool (H, W) -> int64 (H, W), 0 elsewhere, then 1, 2, 3 ...

    Pixels belong together if they touch by a side; a touch by a corner does not count.

    Args:
        least_area: islands of fewer pixels get no number.
    """
    if mask.ndim != 2 or mask.dtype is not torch.bool:
        kind = f"{mask.dtype} {tuple(mask.shape)}"
        raise ValueError(f"mask is {kind}; allowed are two axes of torch.bool")
    if least_area < 1:
        raise ValueError(f"least_area is {least_area}; allowed are whole numbers from 1")
    from scipy import ndimage  # a slow import that nothing else here needs

    islands = torch.from_numpy(ndimage.label(mask.cpu().numpy())[0]).long().to(mask.device)
    kept = islands.flatten().bincount() >= least_area
    kept[0] = False  # the background
    return (kept.cumsum(0) * kept)[islands]  # old number -> new number


def count_components(mask: Tensor, least_area: int = 1) -> int:
    """How many islands of at least `least_area` pixels a mask has: see `components`."""
    return int(components(mask, least_area).max())


@torch.no_grad()
def predict_tiled(
    model: Callable[[Tensor], Tensor], images: Tensor, tile: int, reach: int, multiple: int
) -> Tensor:
    """Logits of large images, a tile at a time; as if the model had seen each image at once.

    A tile is predicted with what lies around it, cut where `multiple` allows and thrown away
    after: so every pixel has all that it depends on, wherever the tiles begin.

    Args:
        model: in evaluation mode; (N, C, h, w) -> (N, classes, h, w) for any h and w.
        tile: pixels of a tile's side; a multiple of `multiple`.
        reach: how far a prediction looks at most, e.g. `UNet.reach`.
        multiple: the stride of the model's coarsest level, e.g. `UNet.multiple`.

    Returns:
        (N, classes, H, W).

    Source: Ronneberger, Fischer and Brox 2015, figure 2.
    """
    if tile < multiple or tile % multiple:
        raise ValueError(f"tile is {tile}; allowed are multiples of {multiple}")
    if reach < 0:
        raise ValueError(f"reach is {reach}; allowed are whole numbers from 0")
    margin = -(-reach // multiple) * multiple  # rounded up
    rows = []
    for top in range(0, images.shape[2], tile):
        row = []
        for left in range(0, images.shape[3], tile):
            y, x = max(top - margin, 0), max(left - margin, 0)
            window = images[:, :, y : top + tile + margin, x : left + tile + margin]
            logits = model(window)
            row.append(logits[:, :, top - y : top - y + tile, left - x : left - x + tile])
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_block(inputs, outputs), conv_block(outputs, outputs))


def _fill_up(images: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until H and W are multiples of `multiple`."""
    missing = [-n % multiple for n in images.shape[:1:-1]]  # of W, then H
    return F.pad(images, (0, missing[0], 0, missing[1]), "replicate") if any(missing) else images


def _pair(name: str, value: Size, least: int) -> Pair:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(n, int) and n >= least for n in pair):
        allowed = f"allowed is a whole number from {least}, or a pair"
        raise ValueError(f"{name} is {value!r}; {allowed}")
    return pair


def _check_transposed(images: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    for name, tensor in (("images", images), ("weight", weight)):
        if tensor.ndim != 4 or not tensor.is_floating_point():
            kind = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"{name} is {kind}; allowed are four axes of floats")
    channels = images.shape[1]
    if len(weight) != channels:
        raise ValueError(f"weight has {len(weight)} input channels; allowed are {channels}")
    if groups < 1 or channels % groups:
        raise ValueError(f"groups is {groups}; allowed are divisors of {channels}, the channels")
    outputs = weight.shape[1] * groups
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; allowed is ({outputs},)")
