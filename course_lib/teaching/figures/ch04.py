"""Figures of chapter 04: who shares a mean, a matrix before and after, curves by learning rate.

Functions that end in `_figure` are pure and return a figure, for menus and sliders; the others
display one, and return what they drew.
"""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib.teaching import plot

GREY = "#8a8a85"
COLORS = (plot.BLUE, plot.RED, plot.GREEN, plot.ORANGE, plot.PINK, plot.SKY, plot.YELLOW)
COLORS += (plot.BLACK, GREY, "#7f3c8d", "#b8e0d2", "#a5673f")
PAIR = {True: ("with batch norm", plot.BLUE), False: ("without", plot.RED)}


def shared_means(
    kinds: Mapping[str, Tensor], caption: str, alt: str, pixels: int = 3
) -> dict[str, int]:
    """Images as rows, their channels as columns, pixels inside: equal colours share a mean.

    Args:
        kinds: name of a norm -> for each image and channel the number of its mean, (N, C).

    Returns:
        How many means each norm takes.
    """
    fig, axes = plot.figure(12, 3.3, columns=len(kinds))
    counts = {}
    for ax, (name, groups) in zip(axes[0], kinds.items(), strict=True):
        counts[name] = len(groups.unique())
        _draw_groups(ax, groups, pixels)
        ax.set_title(f"{name}: {counts[name]} means", fontsize=13)
        ax.set_xlabel("channel")
    axes[0, 0].set_ylabel("image")
    plot.show(fig, caption, alt)
    return counts


def matrix_figure(before: Tensor, after: Tensor, usual: Tensor, title: str) -> Figure:
    """A matrix (N, C) and what a norm makes of it; framed is what differs from `usual` (N, C)."""
    fig, axes = plot.figure(12, 4.2, columns=2)
    _draw_matrix(axes[0, 0], before, "as it comes in", limit=6.0)
    _draw_matrix(axes[0, 1], after, title, limit=2.0)
    for row, column in touched(after, usual).nonzero().tolist():
        frame = Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False)
        frame.set(edgecolor=plot.ORANGE, linewidth=3)
        axes[0, 1].add_patch(frame)
    return fig


def touched(after: Tensor, usual: Tensor) -> Tensor:
    """Where two results differ by more than rounding: bool, same shape."""
    return (after - usual).abs() > 1e-4


def rates_figure(
    rate: float,
    rates: Sequence[float],
    steps: Sequence[int],
    curves: Mapping[bool, Mapping[float, Sequence[float]]],
) -> Figure:
    """Accuracy by step at one learning rate, and at the end of training over all of them.

    Args:
        curves: with batch norm or without -> learning rate -> accuracy (%) after each of `steps`.
    """
    fig, axes = plot.figure(12, 4.2, columns=2)
    left, right = axes[0]
    for norm, (name, color) in PAIR.items():
        left.plot(steps, curves[norm][rate], color=color, label=name)
        ends = [curves[norm][each][-1] for each in rates]
        right.semilogx(rates, ends, color=color, marker="o", alpha=0.6)
        right.plot(rate, curves[norm][rate][-1], "o", color=color, markersize=13)
    left.set(xlabel="step", ylabel="accuracy (%)", ylim=(0, 100), title=f"learning rate {rate:g}")
    right.set(xlabel="learning rate", ylim=(0, 100), title=f"after {steps[-1]} steps")
    left.legend(loc="lower right")
    return fig


def two_curves(
    steps: Sequence[int], curves: Mapping[bool, Tensor], label: str, caption: str, alt: str
) -> dict[bool, list[float]]:
    """With batch norm and without: the mean over seeds (seeds, len(steps)), thin lines for each."""
    fig, axes = plot.figure(8.5, 4.2)
    for norm, (name, color) in PAIR.items():
        axes[0, 0].plot(steps, curves[norm].mean(dim=0), color=color, label=name)
        axes[0, 0].plot(steps, curves[norm].T, color=color, alpha=0.3, linewidth=1)
    axes[0, 0].set(xlabel="step", ylabel=label)
    axes[0, 0].legend()
    plot.show(fig, caption, alt)
    return {norm: curves[norm].mean(dim=0).tolist() for norm in PAIR}


def distributions(
    panels: Mapping[str, Mapping[bool, Tensor]], limit: float, caption: str, alt: str
) -> dict[str, dict[bool, float]]:
    """How often each value occurs, a panel for each layer; returns the standard deviations."""
    fig, axes = plot.figure(12, 3.4, columns=len(panels))
    edges = torch.linspace(-limit, limit, 61)
    for ax, (title, named) in zip(axes[0], panels.items(), strict=True):
        for norm, (name, color) in PAIR.items():
            heights = torch.histc(named[norm].float(), 60, -limit, limit) / named[norm].numel()
            ax.stairs(heights.numpy(), edges.numpy(), color=color, label=name, linewidth=2)
        ax.set(title=title, xlabel="value")
    axes[0, 0].set_ylabel("share of the values")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    plot.show(fig, caption, alt)
    return {
        title: {norm: values.std().item() for norm, values in named.items()}
        for title, named in panels.items()
    }


def scales(
    layers: Mapping[str, tuple[Tensor, Tensor]], caption: str, alt: str
) -> dict[str, list[float]]:
    """A dot for each channel: its weight and its bias, (C,) each; returns the smallest and the
    largest weight."""
    fig, axes = plot.figure(12, 3.8, columns=len(layers))
    for ax, (name, (weight, bias)) in zip(axes[0], layers.items(), strict=True):
        ax.axvline(1, color=GREY, linestyle="--", linewidth=1.2)
        ax.axhline(0, color=GREY, linestyle="--", linewidth=1.2)
        ax.plot(weight, bias, "o", color=plot.BLUE, alpha=0.7)
        ax.set(title=name, xlabel="weight (gamma)")
    axes[0, 0].set_ylabel("bias (beta)")
    plot.show(fig, caption, alt)
    return {name: [w.min().item(), w.max().item()] for name, (w, _) in layers.items()}


def followed(
    truth: float, paths: Mapping[str, Sequence[float]], caption: str, alt: str
) -> dict[str, float]:
    """A running mean by batch, for each momentum, beside what it looks for."""
    fig, axes = plot.figure(8.5, 3.8)
    for color, (name, values) in zip(COLORS, paths.items(), strict=False):
        axes[0, 0].plot(range(1, len(values) + 1), values, color=color, label=name)
    axes[0, 0].axhline(truth, color=plot.BLACK, linestyle="--", linewidth=1.4, label="all images")
    axes[0, 0].set(xlabel="batches seen", ylabel="running mean")
    axes[0, 0].legend()
    plot.show(fig, caption, alt)
    return {name: values[-1] for name, values in paths.items()}


# --- parts -------------------------------------------------------------------------------------


def _draw_groups(ax: Axes, groups: Tensor, pixels: int) -> None:
    images, channels = groups.shape
    for n in range(images):
        for c in range(channels):
            color = COLORS[groups[n, c] % len(COLORS)]
            for k in range(pixels * pixels):
                x, y = c + 0.08 + 0.28 * (k % pixels), n + 0.08 + 0.28 * (k // pixels)
                ax.add_patch(Rectangle((x, y), 0.24, 0.24, color=color))
    ax.set(xlim=(0, channels), ylim=(images, 0), aspect="equal")
    plot.hide_axes(ax)
    ax.grid(False)


def _draw_matrix(ax: Axes, matrix: Tensor, title: str, limit: float) -> None:
    ax.imshow(matrix.numpy(), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", alpha=0.75)
    for row, values in enumerate(matrix.tolist()):
        for column, value in enumerate(values):
            ink = "white" if abs(value) > 0.8 * limit else plot.BLACK  # on the darkest cells
            shown = f"{round(value, 1) + 0.0:.1f}"  # never -0.0
            ax.text(column, row, shown, ha="center", va="center", color=ink)
    ax.set(title=title, xlabel="feature", ylabel="example")
    ax.set(xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]))
    ax.grid(False)
