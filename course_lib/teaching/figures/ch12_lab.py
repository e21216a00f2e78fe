"""Figures of chapter 12's lab. Each is displayed, and returns what it drew."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib.teaching import plot
from course_lib.teaching.figures.ch11 import Mark, Panel, draw_panel

MARKERS = "os^Dvx"  # so that lines can be told apart without their colours


def one_place(
    recipes: Mapping[str, tuple[Tensor, Tensor]], caption: str, alt: str
) -> dict[str, int]:
    """The anchors that stand at one place, a panel for each recipe.

    Args:
        recipes: name -> widths and heights (A,) each, in any unit.

    Returns:
        How many different shapes each has.
    """
    fig, axes = plot.figure(3.6 * len(recipes), 3.9, columns=len(recipes))
    for ax, (name, (widths, heights)) in zip(axes[0], recipes.items(), strict=True):
        colors = (plot.BLUE, plot.RED, plot.GREEN, plot.ORANGE, plot.PINK, plot.SKY)
        for number, (w, h) in enumerate(zip(widths.tolist(), heights.tolist(), strict=True)):
            color = colors[number % len(colors)]
            ax.add_patch(Rectangle((-w / 2, -h / 2), w, h, fill=False, ec=color, lw=2))
        limit = 0.55 * max(widths.max().item(), heights.max().item())
        ax.plot(0, 0, "o", color=plot.BLACK, markersize=5)
        ax.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal")
        ax.set_title(f"{name}: {len(widths)}")
        plot.hide_axes(ax)
        ax.grid(False)
    plot.show(fig, caption, alt)
    return {
        name: len(torch.stack([w, h]).mul(100).round().unique(dim=1).T)
        for name, (w, h) in recipes.items()
    }


def curves(
    x: Sequence[float] | Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    labels: tuple[str, str],
    caption: str,
    alt: str,
    *,
    log: bool = False,
) -> dict[str, dict[str, list[float]]]:
    """Lines that are exact: no seeds, no bars. Returns what `panels` hold.

    Args:
        panels: for each panel, by its title, lines by name, with a number for each of `x`.
        log: both axes are logarithmic.
    """
    fig, axes = plot.figure(min(5.6 * len(panels), 10) + 2.2, 4.0, columns=len(panels))
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        for marker, (name, y) in zip(MARKERS, series.items(), strict=False):
            style = {"marker": marker, "markersize": 6} if len(x) < 20 else {}
            ax.plot(list(x), list(y), label=name, **style)
        if log:
            ax.set(xscale="log", yscale="log")
            ax.set_xticks(list(x), labels=[f"{value:g}" for value in x])
            ax.minorticks_off()
        ax.set(xlabel=labels[0], title=title)
    axes[0, 0].set_ylabel(labels[1])
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    plot.show(fig, caption, alt)
    return {title: {n: list(y) for n, y in series.items()} for title, series in panels.items()}


def regions(
    image: Tensor,
    features: Tensor,
    boxes: Tensor,
    parts: Mapping[str, Tensor],
    caption: str,
    alt: str,
) -> dict[str, list[int]]:
    """An image with boxes, what the network keeps of it, and each box's part in rows below.

    Args:
        image: (3, H, W); features: (3, h, w), shown as colours.
        boxes: (N, 4) in the image's pixels.
        parts: for each way, by name, (N, 3, oH, oW).

    Returns:
        The shape of each way's parts.
    """
    count = len(boxes)
    fig, _ = plot.figure(1.75 * (count + 2), 2.0 * len(parts) + 0.4)
    fig.clear()  # the panels differ in size
    grid = fig.add_gridspec(len(parts), count + 4)
    colors = (plot.ORANGE, plot.SKY, plot.PINK, plot.YELLOW, plot.GREEN, "white")
    marks = [Mark(box, colors[i % len(colors)], str(i + 1)) for i, box in enumerate(boxes)]
    draw_panel(fig.add_subplot(grid[:, :2]), Panel(image, marks, "the image"))
    title = f"its features, {features.shape[1]} x {features.shape[2]}"
    plot.draw_image(fig.add_subplot(grid[:, 2:4]), features, title)
    for row, (name, values) in enumerate(parts.items()):
        for column, part in enumerate(values):
            ax = fig.add_subplot(grid[row, column + 4])
            plot.draw_image(ax, part, f"{name} {column + 1}")
    plot.show(fig, caption, alt)
    return {name: list(values.shape) for name, values in parts.items()}


def outlines(
    images: Tensor,
    truth: Tensor,
    found: Mapping[str, Tensor],
    caption: str,
    alt: str,
    *,
    margin: int = 4,
) -> dict[str, list[float]]:
    """Masks over images, close up: the right pixels are pale, what was found is outlined.

    Args:
        images: uint8 (N, 3, S, S); truth: bool (N, S, S); found: name -> bool (N, S, S).
        margin: pixels around the object that are shown.

    Returns:
        For each way the IoU of each mask with the right one.
    """
    fig, axes = plot.figure(
        2.2 * len(images), 2.4 * len(found), rows=len(found), columns=len(images)
    )
    values: dict[str, list[float]] = {}
    for row, (name, masks) in enumerate(found.items()):
        both, either = (masks & truth).flatten(1).sum(1), (masks | truth).flatten(1).sum(1)
        values[name] = (both / either).tolist()
        for column, ax in enumerate(axes[row]):
            title = f"{name}: {values[name][column]:.2f}"
            plot.draw_image(ax, _washed(images[column], truth[column]), title)
            ax.contour(masks[column].float().tolist(), [0.5], colors=[plot.RED], linewidths=2)
            rows, columns = (truth[column] | masks[column]).nonzero().unbind(1)
            ax.set_xlim(columns.min().item() - margin, columns.max().item() + margin)
            ax.set_ylim(rows.max().item() + margin, rows.min().item() - margin)
    plot.show(fig, caption, alt)
    return values


def _washed(image: Tensor, mask: Tensor) -> Tensor:
    """uint8 (3, S, S) as floats, its masked pixels mixed with blue."""
    blue = torch.tensor([0.0, 0.45, 0.7]).view(3, 1, 1)
    pixels = image.float() / 255
    return torch.where(mask, 0.45 * pixels + 0.55 * blue, pixels)
