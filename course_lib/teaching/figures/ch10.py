"""Figures of chapter 10: stamps, the U and what it costs, masks over images, islands, thresholds.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from torch import Tensor, nn

from course_lib import unet
from course_lib.scenes import CLASSES
from course_lib.teaching import plot

# Of the background and of each class in the order of `scenes.CLASSES`.
CLASS_COLORS = ("#e4e4e0", plot.ORANGE, plot.PINK, plot.BLUE, plot.RED, plot.SKY, plot.YELLOW)
# Of pixels rightly left out, found, wrongly taken in, missed.
AGREEMENT = {"neither": "#e4e4e0", "found": plot.BLUE, "too much": plot.ORANGE, "missed": plot.PINK}


def segmentations(
    images: Tensor, masks: Mapping[str, Tensor], caption: str, alt: str
) -> dict[str, list[int]]:
    """Images (N, 3, H, W) in a row, below them rows of their masks (N, H, W) in the class colours.

    Returns:
        For each row how many pixels of each class it has.
    """
    rows = 1 + len(masks)
    fig, axes = plot.figure(1.75 * len(images), 1.8 * rows + 0.5, rows=rows, columns=len(images))
    for ax, image in zip(axes[0], images, strict=True):
        plot.draw_image(ax, image)
    for row, (name, mask) in zip(axes[1:], masks.items(), strict=True):
        for ax, one in zip(row, mask, strict=True):
            _draw_classes(ax, one)
        row[0].set_ylabel(name)
    labels = [Patch(color=c, label=n) for c, n in zip(CLASS_COLORS[1:], CLASSES, strict=True)]
    fig.legend(handles=labels, loc="outside lower center", ncols=6, fontsize=12)
    plot.show(fig, caption, alt)
    return {
        name: mask.flatten().long().bincount(minlength=len(CLASS_COLORS)).tolist()
        for name, mask in masks.items()
    }


def stamps(image: Tensor, kernel: Tensor, stride: int, caption: str, alt: str) -> list[list[float]]:
    """What each pixel of a small image (H, W) stamps with a kernel (kH, kW), and their sum.

    Returns:
        The sum.
    """
    singles = torch.eye(image.numel()).view(-1, 1, *image.shape) * image.flatten().view(-1, 1, 1, 1)
    stamped = nn.functional.conv_transpose2d(singles, kernel[None, None], stride=stride)[:, 0]
    fig, axes = plot.figure(2.5 * (len(stamped) + 1), 3.2, columns=len(stamped) + 1)
    total = stamped.sum(0)
    names = [f"pixel {value:g}" for value in image.flatten().tolist()]
    for ax, part, name in zip(axes[0], [*stamped, total], [*names, "sum"], strict=True):
        _draw_numbers(ax, part, total.max().item())
        ax.set_title(name)
    plot.show(fig, caption, alt)
    return total.tolist()


def maps(panels: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, float]:
    """Side by side: numbers (H, W) from 0 up on one common scale, or images (C, H, W).

    Returns:
        The largest value of each.
    """
    side = min(3.4, 13.5 / len(panels))
    fig, axes = plot.figure(side * len(panels), side + 0.3, columns=len(panels))
    top = max((p.max().item() for p in panels.values() if p.ndim == 2), default=0.0) or 1.0
    drawn = None
    for ax, (name, panel) in zip(axes[0], panels.items(), strict=True):
        if panel.ndim == 3:
            plot.draw_image(ax, panel, name)
            continue
        drawn = ax.imshow(panel.detach().numpy(), vmin=0, vmax=top, interpolation="nearest")
        ax.set_title(name, fontsize=12)
        plot.hide_axes(ax)
    if drawn is not None:
        fig.colorbar(drawn, ax=axes[0, -1], shrink=0.8)
    plot.show(fig, caption, alt)
    return {name: panel.max().item() for name, panel in panels.items()}


def u_shape(
    model: unet.UNet, image_shape: tuple[int, int, int], caption: str, alt: str
) -> dict[str, list[int]]:
    """The U of a network for one image (C, H, W), with the shape that each of its blocks gives.

    Returns:
        The shapes by block, from the image to the logits.
    """
    shapes = block_shapes(model, image_shape)
    depth = len(model.encoders) - 1
    places = {f"encoder {i + 1}": (i, -i) for i in range(depth)} | {"bottom": (depth, -depth)}
    places |= {f"decoder {depth + 1 + i}": (depth + 1 + i, i + 1 - depth) for i in range(depth)}
    places = {"image": (-1, 0)} | places | {"logits": (2 * depth + 1, 0)}
    fig, axes = plot.figure(13, 1.5 + 1.15 * (depth + 1))
    ax = axes[0, 0]
    ax.set(xlim=(-1.55, 2 * depth + 1.55), ylim=(-depth - 0.45, 0.6))
    plot.hide_axes(ax)
    ax.grid(False)
    names = list(places)
    for first, second in zip(names[:-1], names[1:], strict=True):
        _arrow(ax, *_between(places[first], places[second]), "#8a8a85")
    for i in range(depth if model.skips else 0):
        start, end = places[f"encoder {i + 1}"], places[f"decoder {2 * depth - i}"]
        _arrow(ax, (start[0] + 0.42, start[1] + 0.1), (end[0] - 0.42, end[1] + 0.1), plot.BLUE)
    for name, place in places.items():
        _box(ax, f"{name}\n{' × '.join(map(str, shapes[name]))}", place)
    plot.show(fig, caption, alt)
    return shapes


def block_shapes(model: unet.UNet, image_shape: tuple[int, int, int]) -> dict[str, list[int]]:
    """What each block gives for one image (C, H, W), without N, from the image to the logits."""
    depth, shapes = len(model.encoders) - 1, {"image": list(image_shape)}
    names = [f"encoder {i + 1}" for i in range(depth)] + ["bottom"]
    names += [f"decoder {depth + 1 + i}" for i in range(depth)]
    blocks = [*model.encoders, *model.decoders]

    def note(name: str, output: Tensor) -> None:
        shapes[name] = list(output.shape[1:])

    hooks = [
        block.register_forward_hook(lambda m, i, out, name=name: note(name, out))
        for name, block in zip(names, blocks, strict=True)
    ]
    with torch.no_grad():
        note("logits", model.eval()(torch.zeros(1, *image_shape)))
    for hook in hooks:
        hook.remove()
    return shapes


def work_by_level(model: unet.UNet, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-adds for one image (C, H, W) by level of the U, from the top; calls model.eval()."""
    depth = len(model.encoders) - 1
    levels = {f"encoders.{i}": i for i in range(depth + 1)}
    levels |= {f"{part}.{i}": depth - 1 - i for part in ("ups", "decoders") for i in range(depth)}
    counts = [0] * (depth + 1)

    def count(name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        level = levels.get(".".join(name.split(".")[:2]), 0)  # the last layer is at the top
        moved = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        counts[level] += moved.numel() * layer.weight[0].numel()

    layers = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    hooks = [
        layer.register_forward_hook(lambda m, i, o, name=name: count(name, m, i, o))
        for name, layer in layers
    ]
    with torch.no_grad():
        model.eval()(torch.zeros(1, *image_shape))
    for hook in hooks:
        hook.remove()
    return {f"level {i + 1}": number for i, number in enumerate(counts)}


def lines(
    curves: Mapping[str, Sequence[float]], x: Sequence[float], labels: tuple[str, str],
    caption: str, alt: str,
) -> dict[str, float]:  # fmt: skip
    """Curves over a common axis, with the labels of both axes.

    Returns:
        The last value of each.
    """
    fig, axes = plot.figure(8, 3.8)
    for name, values in curves.items():
        axes[0, 0].plot(x, values, label=name)
    axes[0, 0].set(xlabel=labels[0], ylabel=labels[1], ylim=(0, None))
    axes[0, 0].legend()
    plot.show(fig, caption, alt)
    return {name: values[-1] for name, values in curves.items()}


def outlined(
    panels: Mapping[str, tuple[Tensor, Tensor]], caption: str, alt: str
) -> dict[str, list[int]]:
    """Images (C, H, W) with the outline of their masks (H, W) upon them.

    Returns:
        The shape of each image.
    """
    fig, axes = plot.figure(2.6 * len(panels), 3.1, columns=len(panels))
    for ax, (name, (image, mask)) in zip(axes[0], panels.items(), strict=True):
        plot.draw_image(ax, image, name)
        if mask.any():
            # A white line under the coloured one shows on every ground.
            for color, width in (("white", 3.4), (plot.RED, 1.6)):
                ax.contour(mask.float().numpy(), [0.5], colors=color, linewidths=width)
    plot.show(fig, caption, alt)
    return {name: list(image.shape) for name, (image, _) in panels.items()}


def agreements(
    panels: Mapping[str, tuple[Tensor, Tensor]], caption: str, alt: str
) -> dict[str, float]:
    """Where a predicted mask and the true one (H, W), bool, agree and where not.

    Returns:
        The Dice score of each panel.
    """
    fig, axes = plot.figure(2.9 * len(panels), 3.7, columns=len(panels))
    found = {}
    for ax, (name, (predicted, truth)) in zip(axes[0], panels.items(), strict=True):
        _draw_agreement(ax, predicted, truth)
        found[name] = unet.dice(_yes_or_no(predicted, truth))[1].item()
        ax.set_title(f"{name}: Dice {found[name]:.3f}", fontsize=12)
    _agreement_legend(fig)
    plot.show(fig, caption, alt)
    return found


def islands(
    image: Tensor, numbered: Mapping[str, Tensor], caption: str, alt: str
) -> dict[str, int]:
    """An image (1, H, W) beside maps of numbered islands (H, W), each island in its own colour.

    Returns:
        How many there are in each map.
    """
    fig, axes = plot.figure(3.3 * (1 + len(numbered)), 7.0, columns=1 + len(numbered))
    plot.draw_image(axes[0, 0], image, "image")
    palette = np.array([to_rgb(c) for c in (plot.BLUE, plot.ORANGE, plot.GREEN, plot.PINK,
                                            plot.SKY, plot.RED, plot.YELLOW)])  # fmt: skip
    counts = {}
    for ax, (name, numbers) in zip(axes[0, 1:], numbered.items(), strict=True):
        known, places = numbers.unique(return_inverse=True)
        colors = palette[np.random.default_rng(0).integers(len(palette), size=len(known))]
        colors[known.numpy() == 0] = to_rgb(plot.BLACK)
        counts[name] = int((known > 0).sum())
        ax.imshow(colors[places.numpy()], interpolation="nearest")
        ax.set_title(f"{name}: {counts[name]}", fontsize=12)
        plot.hide_axes(ax)
    plot.show(fig, caption, alt)
    return counts


# --- for the widgets ---------------------------------------------------------------------------


def threshold_scores(chances: Tensor, truth: Tensor, threshold: float) -> dict[str, float]:
    """IoU, precision and recall of the pixels whose chance (H, W) is above `threshold`.

    NaN where there is nothing to divide by.
    """
    predicted = chances > threshold
    both = (predicted & truth).sum().item()
    taken, there = predicted.sum().item(), truth.sum().item()
    return {
        "IoU": _iou(predicted, truth),
        "precision": both / taken if taken else float("nan"),
        "recall": both / there if there else float("nan"),
    }


def threshold_figure(image: Tensor, chances: Tensor, truth: Tensor, threshold: float) -> Figure:
    """What a threshold makes of chances (H, W) for one image, and the scores of all thresholds."""
    fig, axes = plot.figure(12.5, 4.1, columns=3)
    plot.draw_image(axes[0, 0], image, "image")
    _draw_agreement(axes[0, 1], chances > threshold, truth)
    _agreement_legend(fig)
    here = threshold_scores(chances, truth, threshold)
    axes[0, 1].set_title(f"above {threshold:.2f}: IoU {here['IoU']:.2f}", fontsize=12)
    ax, steps = axes[0, 2], [number / 40 for number in range(41)]
    rows = [threshold_scores(chances, truth, step) for step in steps]
    for name, color in (("IoU", plot.BLACK), ("precision", plot.ORANGE), ("recall", plot.PINK)):
        ax.plot(steps, [row[name] for row in rows], color=color, label=f"{name} {here[name]:.2f}")
    ax.axvline(threshold, color="#8a8a85", linestyle=":")
    ax.set(xlim=(0, 1), ylim=(0, 1.05), xlabel="threshold")
    ax.legend(fontsize=11, loc="lower center")
    return fig


@torch.no_grad()
def arriving(model: unet.UNet, image: Tensor) -> dict[int, Tensor]:
    """What the decoders get for one image (3, H, W), by level, 1 being the uppermost: (2, h, w),
    the mean strength over the channels of what comes across, and of what comes from below."""
    found, levels = {}, range(len(model.decoders), 0, -1)

    def note(level: int, joined: Tensor) -> None:
        found[level] = joined[0].abs().unflatten(0, (2, -1)).mean(1)  # (2 c, h, w) -> (2, h, w)

    hooks = [
        decoder.register_forward_pre_hook(lambda _, inputs, level=level: note(level, inputs[0]))
        for level, decoder in zip(levels, model.decoders, strict=True)
    ]
    model(image[None])
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def logits_without(model: unet.UNet, images: Tensor, cut: Collection[int]) -> Tensor:
    """Logits of a trained U-Net some of whose joins carry zeros: 1 is the uppermost join."""
    hooks = [
        decoder.register_forward_pre_hook(_blank_what_comes_across)
        for number, decoder in zip(range(len(model.decoders), 0, -1), model.decoders, strict=True)
        if number in cut
    ]
    logits = model(images)
    for hook in hooks:
        hook.remove()
    return logits


def cut_figure(model: unet.UNet, image: Tensor, truth: Tensor, cut: Collection[int]) -> Figure:
    """What a U-Net sees in one image (3, H, W) with all joins, and when those of `cut` are cut."""
    whole, maimed = (logits_without(model, image[None], c).argmax(1)[0] for c in ((), cut))
    joins = f"join{'s' * (len(cut) > 1)} {', '.join(map(str, cut))}" if cut else "nothing"
    names = "truth", "all joins", f"{joins} cut"
    fig, axes = plot.figure(12.5, 4.1, columns=4)
    plot.draw_image(axes[0, 0], image, "image")
    for ax, mask, name in zip(axes[0, 1:], (truth, whole, maimed), names, strict=True):
        _draw_classes(ax, mask)
        score = "" if name == "truth" else f": object IoU {_iou(mask > 0, truth > 0):.2f}"
        ax.set_title(name + score, fontsize=12)
    labels = [Patch(color=c, label=n) for c, n in zip(CLASS_COLORS[1:], CLASSES, strict=True)]
    fig.legend(handles=labels, loc="outside lower center", ncols=6, fontsize=12)
    return fig


# --- parts -------------------------------------------------------------------------------------


def _blank_what_comes_across(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    across, from_below = inputs[0].chunk(2, dim=1)  # both have as many channels
    return (torch.cat([torch.zeros_like(across), from_below], dim=1),)


def _iou(predicted: Tensor, truth: Tensor) -> float:
    return unet.iou(_yes_or_no(predicted, truth))[1].item()


def _yes_or_no(predicted: Tensor, truth: Tensor) -> Tensor:
    return unet.confusion(predicted[None].long(), truth[None].long(), 2)


def _draw_classes(ax: Axes, mask: Tensor) -> None:
    colors = np.array([to_rgb(color) for color in CLASS_COLORS])
    ax.imshow(colors[mask.long().numpy()], interpolation="nearest")
    plot.hide_axes(ax)


def _draw_agreement(ax: Axes, predicted: Tensor, truth: Tensor) -> None:
    kinds = predicted & truth, predicted & ~truth, ~predicted & truth
    places = sum((number * kind.int() for number, kind in enumerate(kinds, 1)), truth.int() * 0)
    colors = np.array([to_rgb(color) for color in AGREEMENT.values()])
    ax.imshow(colors[places.numpy()], interpolation="nearest")
    plot.hide_axes(ax)


def _agreement_legend(fig: Figure) -> None:
    labels = [Patch(color=color, label=name) for name, color in list(AGREEMENT.items())[1:]]
    fig.legend(handles=labels, loc="outside lower center", ncols=3, fontsize=12)


def _draw_numbers(ax: Axes, values: Tensor, top: float) -> None:
    ax.imshow(values.numpy(), cmap="Blues", vmin=0, vmax=1.4 * top, interpolation="nearest")
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            if value:
                ax.text(column, row, f"{value:g}", ha="center", va="center", fontsize=13)
    plot.hide_axes(ax)
    ax.grid(False)


def _box(ax: Axes, text: str, place: tuple[float, float]) -> None:
    x, y = place
    ax.add_patch(FancyBboxPatch((x - 0.4, y - 0.24), 0.8, 0.48, "round,pad=0.02", color="#dcebf5"))
    ax.text(x, y, text, ha="center", va="center", fontsize=12.5)


def _between(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """From the rim of one box to that of the next, level or aslant."""
    (x1, y1), (x2, y2) = start, end
    if y1 == y2:
        return [(x1 + 0.42, y1), (x2 - 0.42, y2)]
    down = 1 if y2 < y1 else -1
    return [(x1 + 0.25, y1 - 0.27 * down), (x2 - 0.25, y2 + 0.27 * down)]


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    look = {"arrowstyle": "-|>", "color": color, "mutation_scale": 14, "linewidth": 1.8}
    ax.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, zorder=0, **look))
