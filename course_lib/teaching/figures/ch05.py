"""Figures of chapter 05: depth and what it costs, blocks, gradients by layer, blocks left out.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from course_lib import resnet
from course_lib.teaching import plot

KINDS = ("plain", "residual")
COLORS = {"plain": plot.RED, "residual": plot.BLUE}
SHADES = (plot.SKY, plot.ORANGE, plot.PINK, plot.GREEN, plot.BLACK)  # by depth
# Each block's layers from its input to the sum, and what comes after the sum.
BLOCKS = {
    "basic": (("3×3 conv", "norm", "ReLU", "3×3 conv", "norm"), ("ReLU",)),
    "bottleneck": (
        ("1×1 conv", "norm", "ReLU", "3×3 conv", "norm", "ReLU", "1×1 conv", "norm"),
        ("ReLU",),
    ),
    "pre-activation": (("norm", "ReLU", "3×3 conv", "norm", "ReLU", "3×3 conv"), ()),
}

Depths = Mapping[str, Tensor]  # "20 plain" -> numbers of each seed (seeds,) or (seeds, n)


def depths_of(grid: Depths) -> list[int]:
    """The numbers of layers that a grid with settings such as "20 plain" holds, ascending."""
    return sorted({int(setting.split()[0]) for setting in grid})


def depth_curves(losses: Depths, caption: str, alt: str) -> dict[str, list[float]]:
    """The training loss over the run, by depth: plain networks beside residual ones.

    Args:
        losses: setting -> (seeds, n), the mean loss in each n-th of the run.

    Returns:
        For each kind its loss at the end by depth, the mean of the seeds.
    """
    fig, axes = plot.figure(11, 4.2, columns=2)
    top = max(loss.mean(dim=0).max().item() for loss in losses.values())
    ends = {}
    for ax, kind in zip(axes[0], KINDS, strict=True):
        ends[kind] = []
        for layers, color in zip(depths_of(losses), SHADES, strict=False):
            loss = losses[f"{layers} {kind}"]
            _draw_band(ax, loss, color, f"{layers} layers")
            ends[kind].append(loss[:, -1].mean().item())
        ax.set(ylim=(0, 1.05 * top), xlabel="share of the training, in percent", title=kind)
        ax.legend()
    axes[0, 0].set_ylabel("loss on the training images")
    plot.show(fig, caption, alt)
    return ends


def runs(losses: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, float]:
    """The training loss (seeds, n) of several runs, each over the percents of its own length.

    Returns:
        For each run its loss at the end, the mean of the seeds.
    """
    fig, axes = plot.figure(8, 3.8)
    for (name, loss), color in zip(losses.items(), SHADES, strict=False):
        _draw_band(axes[0, 0], loss, color, name)
    axes[0, 0].set(ylim=(0, None), xlabel="percent of the training", ylabel="training loss")
    axes[0, 0].legend()
    plot.show(fig, caption, alt)
    return {name: loss[:, -1].mean().item() for name, loss in losses.items()}


def depth_figure(losses: Depths, scores: Mapping[str, Depths], layers: int) -> Figure:
    """Both kinds at one depth: the loss over the run, and what they know at its end, by depth.

    Args:
        scores: a title for each, e.g. "training images" -> setting -> percent right (seeds,).
    """
    fig, axes = plot.figure(11.5, 4.2, columns=1 + len(scores))
    for kind in KINDS:
        _draw_band(axes[0, 0], losses[f"{layers} {kind}"], COLORS[kind], kind)
    top = max(loss.mean(dim=0).max().item() for loss in losses.values())
    axes[0, 0].set(ylim=(0, 1.05 * top), xlabel="percent of the training", ylabel="training loss")
    axes[0, 0].set_title(f"{layers} layers")
    axes[0, 0].legend()
    every = torch.cat([values for grid in scores.values() for values in grid.values()])
    for ax, (title, grid) in zip(axes[0, 1:], scores.items(), strict=True):
        depths = depths_of(grid)
        for kind in KINDS:
            values = torch.stack([grid[f"{depth} {kind}"] for depth in depths])  # (depths, seeds)
            mean, error = _mean_and_error(values.T)
            ax.errorbar(depths, mean, error, color=COLORS[kind], marker="o", capsize=4)
        ax.axvline(layers, color=plot.BLACK, linestyle=":", linewidth=1.5)
        ax.set(ylim=(every.min().item() - 3, every.max().item() + 3), xticks=depths)
        ax.set(xlabel="layers", ylabel="percent right", title=title)
    return fig


def blocks(caption: str, alt: str) -> dict[str, list[str]]:
    """The kinds of block as plans, read from top to bottom, the shortcut on the right.

    Returns:
        For each kind the layers between its input and the sum.
    """
    fig, axes = plot.figure(11, 6.6, columns=len(BLOCKS))
    for ax, (name, (inside, behind)) in zip(axes[0], BLOCKS.items(), strict=True):
        ax.set(xlim=(-1.3, 2.3), ylim=(-12.6, 0.6), title=name)
        plot.hide_axes(ax)
        ax.grid(False)
        places = [-1.15 * (number + 1) for number in range(len(inside))]
        total = places[-1] - 1.2
        for layer, y in zip(inside, places, strict=True):
            _draw_layer(ax, layer, y)
        for layer, y in zip(behind, (total - 1.2,), strict=False):
            _draw_layer(ax, layer, y)
        _draw_arrow(ax, (0, 0.4), (0, places[0] + 0.45))
        _draw_arrow(ax, (0, places[-1] - 0.45), (0, total + 0.35))
        for _ in behind:
            _draw_arrow(ax, (0, total - 0.35), (0, total - 0.8))
        end = total - 1.2 * len(behind)
        _draw_arrow(ax, (0, end - 0.4), (0, end - 1))
        ax.text(0, total, "+", ha="center", va="center", fontsize=20, color=plot.BLUE)
        curve = {"connectionstyle": "angle,angleA=0,angleB=90,rad=8", "color": plot.BLUE}
        _draw_arrow(ax, (0, 0.1), (1.6, total / 2), arrowstyle="-", **curve)
        curve["connectionstyle"] = "angle,angleA=90,angleB=0,rad=8"
        _draw_arrow(ax, (1.6, total / 2), (0.25, total), **curve)
        ax.text(1.72, total / 2, "shortcut", rotation=90, va="center", color=plot.BLUE)
    plot.show(fig, caption, alt)
    return {name: list(inside) for name, (inside, _) in BLOCKS.items()}


def work(network: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-adds for one image (C, H, W) by kind of layer, and the additions of the shortcuts.

    The network stays in evaluation mode.
    """
    counts = dict.fromkeys(("3×3", "1×1", "first and last layer", "projections", "sums"), 0)

    def count(name: str, layer: nn.Module, output: Tensor) -> None:
        if isinstance(layer, resnet.Block):
            counts["sums"] += output.numel() if layer.downsample is not None else 0
            return
        size = getattr(layer, "kernel_size", None)
        kind = {(3, 3): "3×3", (1, 1): "1×1"}.get(size, "first and last layer")
        kind = "projections" if "downsample" in name else kind
        counts[kind] += output.numel() * layer.weight[0].numel()  # a kernel or row for each value

    hooks = [
        layer.register_forward_hook(lambda layer, _, out, name=name: count(name, layer, out))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear | resnet.Block)
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *image_shape))
    for hook in hooks:
        hook.remove()
    return counts


def stacked(
    parts: Mapping[str, Mapping[str, float]], label: str, caption: str, alt: str
) -> dict[str, dict[str, float]]:
    """One bar for each name, put together from its parts, as percent of their sum.

    Returns:
        For each name its parts in percent.
    """
    fig, axes = plot.figure(10.5, 1.5 + 0.55 * len(parts))
    ax = axes[0, 0]
    shares = {
        name: {part: 100 * value / sum(values.values()) for part, value in values.items()}
        for name, values in parts.items()
    }
    colors = (plot.BLUE, plot.SKY, "#b9c4cc", plot.ORANGE, plot.RED)
    left = [0.0] * len(shares)
    for part, color in zip(next(iter(shares.values())), colors, strict=False):
        widths = [values[part] for values in shares.values()]
        ax.barh(range(len(shares)), widths, left=left, color=color, label=part)
        for row, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width > 4:
                ink = "white" if color in (plot.BLUE, plot.RED) else plot.BLACK
                place = {"ha": "center", "va": "center", "color": ink, "fontsize": 12}
                ax.text(start + width / 2, row, f"{width:.0f}", **place)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    ax.set(yticks=range(len(shares)), yticklabels=list(shares), xlabel=label, xlim=(0, 100))
    ax.invert_yaxis()
    ax.grid(False)
    fig.legend(loc="outside upper center", ncols=5, fontsize=12)
    plot.show(fig, caption, alt)
    return shares


def gradients(
    panels: Mapping[str, Mapping[str, Tensor]], caption: str, alt: str
) -> dict[str, dict[str, float]]:
    """The size of each layer's gradient, from the first layer to the last, on a log scale.

    Args:
        panels: title -> "plain" and "residual" -> (seeds, layers).

    Returns:
        For each panel and kind the first layer's gradient over the last's, a geometric mean.
    """
    fig, axes = plot.figure(11.5, 4.3, columns=len(panels))
    ratios = {}
    for ax, (title, kinds) in zip(axes[0], panels.items(), strict=True):
        ratios[title] = {}
        for kind, sizes in kinds.items():
            for line in sizes.tolist():
                ax.plot(range(1, len(line) + 1), line, color=COLORS[kind], linewidth=1, alpha=0.4)
            mean = sizes.log().mean(dim=0).exp()
            ax.plot(range(1, len(mean) + 1), mean.tolist(), color=COLORS[kind], label=kind)
            ratios[title][kind] = (mean[0] / mean[-1]).item()
        ax.set(yscale="log", xlabel="layer, from the image on", title=title)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("gradient / weight (norms)")
    axes[0, 0].legend()
    plot.show(fig, caption, alt)
    return ratios


def lesion_figure(
    scores: Mapping[str, Sequence[float]],
    block: int,
    by_class: tuple[Sequence[float], Sequence[float]],
    classes: Sequence[str],
) -> Figure:
    """How much is still right when one block is left out, and for block number `block` by class.

    Args:
        scores: of each network percent right: whole, then without block 1, 2, ...
        by_class: percent right of each class, whole and without the block.
    """
    fig, axes = plot.figure(11.5, 4.6, columns=2)
    left, right = axes[0]
    for kind, values in scores.items():
        numbers = range(1, len(values))
        left.axhline(values[0], color=COLORS[kind], linestyle=":", linewidth=1.5)
        left.plot(numbers, values[1:], color=COLORS[kind], marker="o", label=kind)
    left.axvspan(block - 0.3, block + 0.3, color="#e4e4e0")
    left.set(ylim=(0, 100), xlabel="block left out", ylabel="percent of test images right")
    left.set(xticks=list(numbers), title="dotted: nothing left out")
    left.legend()
    places = range(len(classes))
    for offset, values, color, name in (
        (-0.2, by_class[0], "#b9c4cc", "whole"),
        (0.2, by_class[1], plot.BLUE, f"without block {block}"),
    ):
        right.barh([place + offset for place in places], values, 0.4, color=color, label=name)
    right.set(yticks=list(places), yticklabels=classes, xlim=(0, 100), xlabel="percent right")
    right.set_title("residual, by class")
    right.invert_yaxis()
    right.grid(False, axis="y")
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return fig


# --- parts -------------------------------------------------------------------------------------


def _mean_and_error(values: Tensor) -> tuple[list[float], list[float]]:
    """Mean over the seeds and its standard error: (seeds, n) -> n numbers each."""
    error = values.std(dim=0, correction=min(1, len(values) - 1)) / len(values) ** 0.5
    return values.mean(dim=0).tolist(), error.tolist()


def _draw_band(ax: Axes, values: Tensor, color: str, label: str) -> None:
    """Lines (seeds, n) over the percents of a run: pale each, strong their mean."""
    x = [100 * (number + 0.5) / values.shape[1] for number in range(values.shape[1])]
    for line in values.tolist():
        ax.plot(x, line, color=color, linewidth=1, alpha=0.35)
    ax.plot(x, values.mean(dim=0).tolist(), color=color, label=label)


def _draw_layer(ax: Axes, name: str, y: float) -> None:
    color = plot.SKY if "conv" in name else plot.ORANGE if name == "norm" else "#dcdcd6"
    shape = FancyBboxPatch((-0.9, y - 0.36), 1.8, 0.72, "round,pad=0.02", color=color)
    ax.add_patch(shape)
    ax.text(0, y, name, ha="center", va="center", fontsize=12)


def _draw_arrow(ax: Axes, start: tuple, end: tuple, **look: str) -> None:
    look = {"arrowstyle": "-|>", "color": "#8a8a85", "mutation_scale": 14, "linewidth": 1.8} | look
    ax.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **look))
