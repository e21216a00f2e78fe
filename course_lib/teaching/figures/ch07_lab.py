"""Figures of chapter 07's lab. Each is displayed, and returns what it drew."""

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from torch import Tensor

from course_lib.teaching import plot

MARKERS = "os^Dvx"  # so that lines can be told apart without their colours


def dots(
    panels: Mapping[str, Mapping[str, Tensor]], caption: str, alt: str, *, zero: bool = False
) -> dict[str, dict[str, float]]:
    """Several quantities by case: a dot for each seed, and a line at their mean.

    Args:
        panels: for each panel, by the quantity it shows, cases by name, each (seeds,).
        zero: the axes begin at 0.

    Returns:
        The means, as `panels` are.
    """
    most = max(map(len, panels.values()))
    fig, axes = plot.figure(max(3.9, 1.6 * most) * len(panels) + 0.4, 4.0, columns=len(panels))
    for ax, (title, cases) in zip(axes[0], panels.items(), strict=True):
        for place, values in enumerate(cases.values()):
            spread = [place + 0.12 * (i % 3 - 1) for i in range(len(values))]
            ax.plot(spread, values.tolist(), "o", color=plot.SKY, markersize=7)
            mean = values.mean().item()
            ax.hlines(mean, place - 0.3, place + 0.3, color=plot.BLACK, linewidth=2.4)
            ax.annotate(f"{mean:.3g}", (place + 0.32, mean), va="center", fontsize=11)
        labels = [textwrap.fill(name, 15) for name in cases]
        ax.set_xticks(range(len(cases)), labels=labels)
        ax.set(title=title, xlim=(-0.6, len(cases) - 0.2))
        if zero:
            most_seen = max(values.max().item() for values in cases.values())
            ax.set_ylim(0, 1.08 * most_seen or None)  # all 0 in a shortened run
        ax.grid(False, axis="x")
    plot.show(fig, caption, alt)
    return {
        title: {name: values.mean().item() for name, values in cases.items()}
        for title, cases in panels.items()
    }


def paths(
    series: Mapping[str, tuple[Tensor, Tensor]], labels: tuple[str, str], caption: str, alt: str
) -> dict[str, dict[str, list[float]]]:
    """Where runs go in a plane: a strong line of means, a pale one for each seed.

    Args:
        series: name -> x and y, each (seeds, points); a ring marks the last point.

    Returns:
        The means of "x" and "y", by name.
    """
    fig, axes = plot.figure(9.2, 4.6)
    ax, means = axes[0, 0], {}
    for marker, (name, (x, y)) in zip(MARKERS, series.items(), strict=False):
        means[name] = {"x": x.mean(dim=0).tolist(), "y": y.mean(dim=0).tolist()}
        (line,) = ax.plot(*means[name].values(), marker=marker, markersize=6, label=name)
        color = line.get_color()
        ax.plot(x.T.tolist(), y.T.tolist(), color=color, alpha=0.3, linewidth=1)
        last = (means[name]["x"][-1], means[name]["y"][-1])
        ax.plot(*last, "o", markersize=15, fillstyle="none", color=color)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    plot.show(fig, caption, alt)
    return means


def growth(
    panels: Mapping[str, Mapping[str, Tensor]], label: str, caption: str, alt: str
) -> dict[str, dict[str, float]]:
    """How a score grows along several ways, on one scale: means with standard errors.

    Args:
        panels: for each panel, by the name of its x axis, places by name, each (seeds,).
        label: of the y axis.

    Returns:
        The means, as `panels` are.
    """
    fig, axes = plot.figure(4.6 * len(panels) + 0.6, 4.0, columns=len(panels))
    for ax in axes[0, 1:]:
        ax.sharey(axes[0, 0])  # before anything is drawn, so that all of it counts
    for ax, (title, places) in zip(axes[0], panels.items(), strict=True):
        means = [values.mean().item() for values in places.values()]
        errors = [(values.std() / len(values) ** 0.5).item() for values in places.values()]
        ax.errorbar(range(len(means)), means, errors, marker="o", capsize=4)
        for place, values in enumerate(places.values()):
            ax.plot([place] * len(values), values.tolist(), "o", color=plot.SKY, alpha=0.6)
        ax.set_xticks(range(len(places)), labels=list(places))
        ax.set(xlabel=title, xlim=(-0.4, len(places) - 0.6))
    axes[0, 0].set_ylabel(label)
    plot.show(fig, caption, alt)
    return {
        title: {name: values.mean().item() for name, values in places.items()}
        for title, places in panels.items()
    }


def ladder(
    rows: Sequence[str], panels: Mapping[str, Sequence[float]], caption: str, alt: str
) -> dict[str, dict[str, float]]:
    """Steps from top to bottom, with a bar in each panel; the first panel is logarithmic.

    Args:
        panels: for each quantity, by its name, a number for each row.
    """
    fig, axes = plot.figure(5.6 * len(panels), 0.55 * len(rows) + 1.2, columns=len(panels))
    for column, (ax, (title, values)) in enumerate(zip(axes[0], panels.items(), strict=True)):
        colors = (plot.BLUE, plot.ORANGE)
        drawn = ax.barh(range(len(rows)), list(values), color=colors[column % 2])
        ax.bar_label(drawn, labels=[_short(value) for value in values], padding=4)
        ax.set_yticks(range(len(rows)), labels=rows if column == 0 else [])
        ax.set_title(title)
        _begin(ax, values, log=column == 0)
        ax.invert_yaxis()
        ax.grid(False, axis="y")
    plot.show(fig, caption, alt)
    return {title: dict(zip(rows, values, strict=True)) for title, values in panels.items()}


def _begin(ax: Axes, values: Sequence[float], log: bool) -> None:
    """Room for the numbers; a logarithmic axis begins a little below its smallest bar."""
    if log:
        ax.set_xscale("log")
        ax.set_xlim(min(values) / 2, 4 * max(values))
        ax.minorticks_off()
    else:
        ax.set_xlim(0, 1.2 * max(values))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
