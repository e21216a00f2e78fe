"""Figures of chapter 06's lab. Each is displayed, and returns what it drew."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from course_lib.teaching import plot

GOOD, BAD, SO_SO = "#cfe8dd", "#f6d3c2", "#fbeec4"  # pale, so that black type stays readable


def outcomes(
    table: Mapping[str, Sequence[str]],
    columns: Sequence[str],
    colors: Mapping[str, str],
    caption: str,
    alt: str,
) -> dict[str, list[str]]:
    """A table of words, each cell in the colour of its first word.

    Args:
        table: row -> one text for each of `columns`.
        colors: first word of a text -> colour; white where it is missing.
    """
    fig, axes = plot.figure(11.5, 0.9 + 0.55 * len(table))
    texts = [list(row) for row in table.values()]
    faces = [[colors.get(text.split(" ")[0], "#ffffff") for text in row] for row in texts]
    drawn = axes[0, 0].table(
        texts,
        cellColours=faces,
        rowLabels=list(table),
        colLabels=list(columns),
        cellLoc="center",
        bbox=(0, 0, 1, 1),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(12)
    for cell in drawn.get_celld().values():
        cell.set_edgecolor("#c4c4c0")
    plot.hide_axes(axes[0, 0])
    plot.show(fig, caption, alt)
    return {name: list(row) for name, row in table.items()}


def counters(codes: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, list[int]]:
    """Codes (positions, columns) side by side as heat maps, -1 blue and 1 red, position downwards.

    Returns:
        The shape of each.
    """
    fig, axes = plot.figure(12, 5.2, columns=len(codes))
    for ax, (name, code) in zip(axes[0], codes.items(), strict=True):
        image = ax.imshow(
            code.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest"
        )
        ax.set(title=name, xlabel="column", xticks=range(code.shape[1]))
        ax.set_xticklabels(range(1, code.shape[1] + 1), fontsize=11)
        ax.grid(False)
    axes[0, 0].set_ylabel("position")
    fig.colorbar(image, ax=list(axes[0]), shrink=0.7, ticks=[-1, 0, 1])
    plot.show(fig, caption, alt)
    return {name: list(code.shape) for name, code in codes.items()}


def curves_and_points(
    steps: Sequence[int],
    curves: Mapping[str, Tensor],
    points: Mapping[str, Mapping[str, Tensor]],
    label: str,
    caption: str,
    alt: str,
) -> dict[str, dict[str, float]]:
    """Left: mean curves over `steps`, each seed a pale line; further right: a dot for each seed.

    Args:
        curves: name -> (seeds, len(steps)).
        points: panel title -> name -> (seeds,); names in the colours of `curves`.
        label: of all y axes.

    Returns:
        The means of `points`.
    """
    fig, (axes,) = plot.figure(13, 4.8, columns=1 + len(points))
    palette = (plot.BLUE, plot.RED, plot.ORANGE, plot.GREEN, plot.PINK)
    colors = dict(zip(curves, palette, strict=False))
    for (name, values), dash in zip(curves.items(), ("-", "--", "-.", ":", "-"), strict=False):
        look = {"color": colors[name], "linestyle": dash}
        axes[0].plot(steps, values.T, alpha=0.25, linewidth=1, **look)
        axes[0].plot(steps, values.mean(dim=0), label=name, **look)
    axes[0].set(xlabel="step", ylabel=label)
    for ax, (title, named) in zip(axes[1:], points.items(), strict=True):
        for place, (name, values) in enumerate(named.items()):
            spread = torch.linspace(-0.15, 0.15, len(values))
            ax.plot(place + spread, values, "o", color=colors[name], alpha=0.7)
            ax.hlines(values.mean(), place - 0.3, place + 0.3, color=colors[name], linewidth=2)
        ax.set(title=title, xlim=(-0.6, len(named) - 0.4))
        ax.sharey(axes[0])
        names = [name.replace(", ", ",\n") for name in named]
        ax.set_xticks(range(len(named)), labels=names, rotation=60, ha="right", fontsize=11)
    axes[-1].legend(handles=axes[0].get_legend_handles_labels()[0], fontsize=11, loc="lower right")
    plot.show(fig, caption, alt)
    return {
        title: {name: values.mean().item() for name, values in named.items()}
        for title, named in points.items()
    }
