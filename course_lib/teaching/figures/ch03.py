"""Figures of chapter 03: curves that part, weights under two pulls, thinned networks, doubt.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib import dropout
from course_lib.teaching import plot

GREY = "#8a8a85"
COLORS = (plot.BLUE, plot.RED, plot.GREEN, plot.ORANGE, plot.PINK, plot.SKY, plot.BLACK)
LAYERS = (6, 10, 10, 4)  # units of the small network that the widget thins


def lines(
    x: Sequence[float] | Sequence[str],
    named: Mapping[str, Tensor],
    labels: tuple[str, str],
    caption: str,
    alt: str,
) -> dict[str, list[float]]:
    """One line for each name: the mean over seeds (seeds, len(x)), with bars of two standard
    errors where there are several; `labels` are those of the x and the y axis."""
    fig, axes = plot.figure(8.5, 4.2)
    for color, (name, values) in zip(COLORS, named.items(), strict=False):
        spread = 2 * standard_error(values)
        axes[0, 0].errorbar(
            x, values.mean(0), yerr=spread, label=name, color=color, marker="o", capsize=4
        )
    axes[0, 0].set(xlabel=labels[0], ylabel=labels[1])
    axes[0, 0].legend()
    plot.show(fig, caption, alt)
    return {name: values.mean(dim=0).tolist() for name, values in named.items()}


def standard_error(values: Tensor) -> Tensor:
    """Of the mean over seeds, axis 0; 0 for a single seed."""
    count = len(values)
    return values.std(dim=0) / count**0.5 if count > 1 else torch.zeros_like(values[0])


def learning(
    steps: Sequence[int],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    caption,
    alt,
) -> dict[str, list[float]]:
    """Accuracy (%) by step on the images trained on (dashed) and on held-out ones, by name."""
    fig, axes = plot.figure(9, 4.2)
    for color, (name, pair) in zip(COLORS, curves.items(), strict=False):
        _draw_pair(axes[0, 0], steps, *pair, color, name)
    axes[0, 0].set(xlabel="step", ylabel="accuracy (%)")
    axes[0, 0].legend(loc="lower right", fontsize=11)
    plot.show(fig, caption, alt)
    return {name: list(held_out) for name, (_, held_out) in curves.items()}


def study(
    columns: Mapping[str, Mapping[str, Tensor]], caption: str, alt: str
) -> dict[str, dict[str, float]]:
    """A panel for each column; in it a dot for each setting: the mean over seeds, with a bar of
    two standard errors to each side. The dashed line is the first setting's mean.

    Args:
        columns: panel title -> setting -> values (seeds,).
    """
    settings = list(next(iter(columns.values())))
    fig, axes = plot.figure(12, 1.3 + 0.38 * len(settings), columns=len(columns))
    for ax, (title, values) in zip(axes[0], columns.items(), strict=True):
        for row, name in enumerate(settings):
            spread = 2 * standard_error(values[name])
            color = GREY if row == 0 else plot.BLUE
            ax.errorbar(values[name].mean(), row, xerr=spread, fmt="o", color=color, capsize=4)
        ax.axvline(values[settings[0]].mean(), color=GREY, linestyle="--", linewidth=1.2)
        first = ax is axes[0, 0]
        ax.set(yticks=range(len(settings)), yticklabels=settings if first else [], title=title)
        ax.invert_yaxis()
    plot.show(fig, caption, alt)
    return {
        title: {name: value.mean().item() for name, value in values.items()}
        for title, values in columns.items()
    }


def pulls(ways: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, list[float]]:
    """What becomes of weights (steps, weights) when nothing but a penalty acts, a panel a way."""
    fig, axes = plot.figure(11, 3.8, columns=len(ways))
    for ax, (name, paths) in zip(axes[0], ways.items(), strict=True):
        ax.plot(paths.numpy())  # a line for each column
        ax.set(title=name, xlabel="step", ylim=(-1.1, 1.1))
    axes[0, 0].set_ylabel("weight")
    plot.show(fig, caption, alt)
    return {name: paths[-1].tolist() for name, paths in ways.items()}


def histograms(
    named: Mapping[str, Tensor], limit: float, caption: str, alt: str
) -> dict[str, float]:
    """Counts (bins,) of values from -limit to limit, a panel for each name, on a log scale.

    Returns:
        The share of the middle bin.
    """
    fig, axes = plot.figure(12, 3.4, columns=len(named))
    top = max(counts.max().item() for counts in named.values())
    for color, ax, (name, counts) in zip(COLORS, axes[0], named.items(), strict=False):
        edges = torch.linspace(-limit, limit, len(counts) + 1)
        ax.stairs(counts.numpy(), edges.numpy(), fill=True, color=color)
        ax.set(title=name, xlabel="weight", yscale="log", ylim=(0.7, 2 * top))
    axes[0, 0].set_ylabel("how many (log scale)")
    plot.show(fig, caption, alt)
    return {name: (c[len(c) // 2] / c.sum()).item() for name, c in named.items()}


def thinned_figure(
    p: float, draw: int, steps: Sequence[int], training: Sequence[float], held_out: Sequence[float]
) -> Figure:
    """A small network thinned with probability `p`, beside the curves of a run with that p.

    Args:
        draw: the number of the drawing; another one drops other units.
        training, held_out: accuracy (%) after `steps`.
    """
    fig, axes = plot.figure(12, 4.2, columns=2)
    kept = thin(p, draw)
    _draw_network(axes[0, 0], kept)
    hidden = sum(int(layer.sum()) for layer in kept[1:-1])
    axes[0, 0].set_title(f"p = {p:g}: {hidden} of {sum(LAYERS[1:-1])} hidden units left")
    _draw_pair(axes[0, 1], steps, training, held_out, plot.BLUE, f"p = {p:g}")
    axes[0, 1].set(xlabel="step", ylabel="accuracy (%)", ylim=(40, 101))
    axes[0, 1].set_title(f"at the end: {training[-1]:.1f} and {held_out[-1]:.1f} %")
    axes[0, 1].legend(loc="lower right")
    return fig


def thin(p: float, draw: int) -> list[Tensor]:
    """Which units of `LAYERS` stay in drawing number `draw`: inputs and outputs always do.

    All p share a drawing's random numbers, so that a larger p drops more of the same units.
    """
    generator = torch.Generator().manual_seed(draw)
    numbers = [torch.rand(width, generator=generator) for width in LAYERS]
    last = len(LAYERS) - 1
    return [(u >= p) | (k in (0, last)) for k, u in enumerate(numbers)]


def doubt_figure(image: Tensor, answers: Tensor, names: Sequence[str], title: str = "") -> Figure:
    """An image (1, H, W), and what thinned networks (samples, classes) say: a dot for each, a bar
    for their mean."""
    fig, axes = plot.figure(11, 4.2, columns=2)
    left, right = axes[0]
    plot.draw_image(left, image, title)
    plot.probability_bars(right, answers.mean(dim=0), names)
    for row, column in enumerate(answers.T):
        right.plot(column, [row] * len(column), ".", color=plot.RED, alpha=0.35)
    total = dropout.entropy(answers.mean(dim=0)).item()
    right.set_title(f"doubt {total:.2f} nats, of it {_between(answers):.2f} by disagreement")
    return fig


def doubts(
    panels: Mapping[str, Mapping[str, Tensor]], caption: str, alt: str
) -> dict[str, dict[str, float]]:
    """How often each doubt (N,) occurs: a panel for each network, in it a line for each set of
    pictures; returns the medians."""
    fig, axes = plot.figure(12, 4, columns=len(panels))
    edges = torch.linspace(0, 2.4, 25)
    for ax, (title, sets) in zip(axes[0], panels.items(), strict=True):
        for color, (name, values) in zip(COLORS, sets.items(), strict=False):
            heights = torch.histc(values, len(edges) - 1, 0.0, 2.4) / len(values)
            ax.stairs(heights.numpy(), edges.numpy(), label=name, color=color, linewidth=2.2)
        ax.set(xlabel="doubt (nats)", title=title, ylim=(0, 1))
    axes[0, 0].set_ylabel("share of the pictures")
    axes[0, -1].legend()
    plot.show(fig, caption, alt)
    return {
        title: {name: values.median().item() for name, values in sets.items()}
        for title, sets in panels.items()
    }


# --- parts -------------------------------------------------------------------------------------


def _between(answers: Tensor) -> float:
    return dropout.disagreement(answers[:, None]).item()


def _draw_pair(ax: Axes, steps, training, held_out, color: str, name: str) -> None:
    ax.plot(steps, training, "--", color=color, alpha=0.7, label=f"{name}, training images")
    ax.plot(steps, held_out, color=color, label=f"{name}, held-out images")


def _draw_network(ax: Axes, kept: Sequence[Tensor]) -> None:
    """Units as circles, layer by layer from the left; what is dropped is pale, without lines."""
    places = [
        [(column, row - (len(layer) - 1) / 2) for row in range(len(layer))]
        for column, layer in enumerate(kept)
    ]
    for column in range(len(kept) - 1):
        for start, stays in zip(places[column], kept[column], strict=True):
            for end, lives in zip(places[column + 1], kept[column + 1], strict=True):
                if stays and lives:
                    ax.plot(*zip(start, end, strict=True), color=plot.BLUE, alpha=0.3, linewidth=1)
    for layer, row in zip(kept, places, strict=True):
        for place, stays in zip(row, layer, strict=True):
            face, edge = (plot.BLUE, plot.BLUE) if stays else ("#fdfdfb", "#c4c4c0")
            ax.plot(*place, "o", markersize=13, color=face, markeredgecolor=edge, zorder=3)
    plot.hide_axes(ax)
    ax.grid(False)
    ax.margins(0.08)
