"""Figures of chapter 02's lab. Each is displayed, and returns what it drew."""

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib.teaching import plot

MARKERS = "os^Dvx"  # so that lines can be told apart without their colours


def first_weights(weights: Tensor, bound: float, caption: str, alt: str) -> dict[str, list]:
    """A histogram of weights, under it what uniform and normal numbers of that spread would give.

    Args:
        bound: of the uniform numbers, which lie in +- `bound`.

    Returns:
        "shares": of the weights in each of 36 bars from -1.5 to 1.5 times `bound`.
    """
    values = weights.detach().flatten()
    edges = torch.linspace(-1.5 * bound, 1.5 * bound, 37)  # `bound` itself is one of them
    shares = torch.histogram(values, edges).hist / len(values)
    width = (edges[1] - edges[0]).item()
    middles = (edges[:-1] + edges[1:]) / 2
    spread = bound / math.sqrt(3)  # the standard deviation of uniform numbers in +- bound
    bell = (-((middles / spread) ** 2) / 2).exp() * width / (spread * math.sqrt(2 * math.pi))
    box = (middles.abs() < bound) * width / (2 * bound)
    fig, axes = plot.figure(9, 3.8)
    ax = axes[0, 0]
    middles = middles.tolist()
    ax.bar(middles, shares.tolist(), 0.9 * width, color=plot.SKY, label="the weights")
    ax.step(middles, box.tolist(), where="mid", color=plot.BLACK, label="uniform")
    ax.plot(middles, bell.tolist(), color=plot.RED, linestyle="--", label="normal")
    ax.set_xticks([-bound, 0, bound], labels=["-1/√fan-in", "0", "1/√fan-in"])
    ax.set(xlabel="weight", ylabel="share of the weights")
    ax.legend(frameon=False)
    plot.show(fig, caption, alt)
    return {"shares": shares.tolist()}


def tiles(image: Tensor, padding: int, caption: str, alt: str) -> Tensor:
    """Nine copies of an image (1, H, W) side by side, and the part that circular padding shows.

    Returns:
        That part, (1, H + 2 padding, W + 2 padding).
    """
    height, width = image.shape[1:]
    floor = image.repeat(1, 3, 3)  # (1, 3 H, 3 W)
    rows = slice(height - padding, 2 * height + padding)
    columns = slice(width - padding, 2 * width + padding)
    part = floor[:, rows, columns]
    fig, axes = plot.figure(8.5, 4.2, columns=2)
    plot.draw_image(axes[0, 0], floor, "nine copies")
    plot.draw_image(axes[0, 1], part, "cut out")
    _outline(axes[0, 0], rows.start, columns.start, *part.shape[1:], plot.ORANGE)
    for ax, row, column in ((axes[0, 0], height, width), (axes[0, 1], padding, padding)):
        _outline(ax, row, column, height, width, plot.SKY)
    plot.show(fig, caption, alt)
    return part


def columns(
    panels: Mapping[str, Mapping[str, float]], caption: str, alt: str
) -> dict[str, dict[str, float]]:
    """Bars side by side, one panel for each quantity, with their numbers above them."""
    fig, axes = plot.figure(11.5, 3.8, columns=len(panels))
    for ax, (title, values) in zip(axes[0], panels.items(), strict=True):
        drawn = ax.bar(range(len(values)), list(values.values()), color=plot.BLUE)
        ax.bar_label(drawn, labels=[_short(value) for value in values.values()], padding=3)
        ax.set_xticks(range(len(values)), labels=list(values))
        ax.set_title(title)
        ax.set_yticks([])
        ax.margins(y=0.15)
        ax.grid(False)
    plot.show(fig, caption, alt)
    return {title: dict(values) for title, values in panels.items()}


def lines(
    x: Sequence[object],
    panels: Mapping[str, Mapping[str, Tensor]],
    labels: tuple[str, str],
    caption: str,
    alt: str,
    *,
    log: str = "",
) -> dict[str, dict[str, list[float]]]:
    """What several seeds measured along `x`: their means, with standard errors as bars.

    Args:
        x: numbers, or names of places at equal distances.
        panels: for each panel, by its title, lines by name, each (seeds, len(x)).
        labels: of the x axis and of the y axis.
        log: the axes to be logarithmic, "", "x", "y" or "xy".

    Returns:
        The means, as `panels` are.
    """
    named = any(len(series) > 1 for series in panels.values())
    width = min(6.2 * len(panels), 10.5) + (2.4 if named else 0)
    fig, axes = plot.figure(width, 4.0, columns=len(panels))
    means = {}
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        means[title] = _draw_lines(ax, x, series, log)
        ax.set(xlabel=labels[0], title=title)
    axes[0, 0].set_ylabel(labels[1])
    if named:
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    plot.show(fig, caption, alt)
    return means


def _draw_lines(
    ax: Axes, x: Sequence[object], series: Mapping[str, Tensor], log: str
) -> dict[str, list[float]]:
    names = [_short_name(value) for value in x]
    places = list(x) if "x" in log else range(len(x))
    for marker, (name, values) in zip(MARKERS, series.items(), strict=False):
        mean, error = values.mean(dim=0), values.std(dim=0) / len(values) ** 0.5  # (n,) both
        look = {"marker": marker, "markersize": 7, "capsize": 4, "label": name}
        ax.errorbar(places, mean.tolist(), error.tolist(), **look)
    if "x" in log:
        ax.set_xscale("log")
        ax.minorticks_off()
    if "y" in log:
        ax.set_yscale("log")
    ax.set_xticks(places, labels=names)
    return {name: values.mean(dim=0).tolist() for name, values in series.items()}


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _short_name(value: object) -> str:
    """1000 as 1k: on a logarithmic axis there is little room."""
    is_large = isinstance(value, int | float) and value >= 1000
    return f"{value / 1000:g}k" if is_large else str(value)


def _outline(ax: Axes, row: float, column: float, height: float, width: float, color: str) -> None:
    corner = (column - 0.5, row - 0.5)
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=2.5))
