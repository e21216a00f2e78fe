"""Figures of chapter 05's lab. Each is displayed, and returns what it drew."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from torch import Tensor

from course_lib.teaching import plot
from course_lib.teaching.figures.ch03 import standard_error

MARKERS = "os^Dvx"  # so that lines can be told apart without their colours


def curves(
    steps: Sequence[int],
    panels: Mapping[str, Mapping[str, Tensor]],
    labels: tuple[str, str],
    caption: str,
    alt: str,
) -> dict[str, dict[str, list[float]]]:
    """How something went over the steps, on one scale in all panels, each seed a pale line.

    Args:
        panels: for each panel, by its title, curves by name, each (seeds, len(steps)).
        labels: of the x axis and of the y axis.

    Returns:
        The means over the seeds, as `panels` are.
    """
    fig, axes = plot.figure(4.0 * len(panels) + 0.6, 4.2, columns=len(panels))
    colors, dashes = (plot.BLUE, plot.RED, plot.GREEN), ("-", "--", ":")
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        for color, dash, (name, values) in zip(colors, dashes, series.items(), strict=False):
            ax.plot(steps, values.T, color=color, alpha=0.3, linewidth=1)
            ax.plot(steps, values.mean(dim=0), color=color, linestyle=dash, label=name)
        ax.sharey(axes[0, 0])
        ax.set(title=title, xlabel=labels[0])
        ax.legend()
    axes[0, 0].set_ylabel(labels[1])
    plot.show(fig, caption, alt)
    return {
        title: {name: values.mean(dim=0).tolist() for name, values in series.items()}
        for title, series in panels.items()
    }


def by_block(
    panels: Mapping[str, Mapping[str, Mapping[str, Tensor]]],
    label: str,
    caption: str,
    alt: str,
) -> dict[str, dict[str, dict[str, float]]]:
    """A quantity for each block of a network, with bars of one standard error over the seeds.

    Args:
        panels: for each panel, by its title, series by name, each of them (seeds,) by block. A
            block is called "stage.number"; a thin line is drawn wherever a new stage begins.
        label: of the y axis, which begins at 0.

    Returns:
        The means, as `panels` are.
    """
    fig, axes = plot.figure(5.2 * len(panels) + 1.6, 4.2, columns=len(panels))
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        _draw_blocks(ax, series)
        ax.set(title=title, xlabel="block", ylim=(0, None))
        if len(series) > 1:
            ax.legend(fontsize=11)
    axes[0, 0].set_ylabel(label)
    plot.show(fig, caption, alt)
    return {
        title: {
            name: {block: values.mean().item() for block, values in blocks.items()}
            for name, blocks in series.items()
        }
        for title, series in panels.items()
    }


def rates(
    learning_rates: Sequence[float],
    losses: Mapping[int, Tensor],
    rule: Mapping[int, float],
    label: str,
    caption: str,
    alt: str,
) -> dict[int, list[float]]:
    """A loss by learning rate, one line for each batch size, dashed where a rule puts its minimum.

    Args:
        losses: by batch size, (seeds, rates).
        rule: by batch size, the rate that the rule gives.

    Returns:
        The means over the seeds, as `losses` are.
    """
    fig, axes = plot.figure(8.5, 4.4)
    ax = axes[0, 0]
    colors = (plot.BLUE, plot.RED, plot.GREEN, plot.ORANGE)
    for color, marker, (size, values) in zip(colors, MARKERS, losses.items(), strict=False):
        look = {"color": color, "marker": marker, "capsize": 4, "label": f"batches of {size}"}
        ax.errorbar(learning_rates, values.mean(dim=0), standard_error(values), **look)
        ax.axvline(rule[size], color=color, linestyle="--", linewidth=1.4)
    ax.set(xscale="log", xlabel="learning rate", ylabel=label)
    ax.set_xticks(learning_rates, labels=[f"{rate:g}" for rate in learning_rates])
    ax.minorticks_off()
    ax.legend()
    plot.show(fig, caption, alt)
    return {size: values.mean(dim=0).tolist() for size, values in losses.items()}


def _draw_blocks(ax: Axes, series: Mapping[str, Mapping[str, Tensor]]) -> None:
    names = sorted({block for blocks in series.values() for block in blocks})
    for marker, (name, blocks) in zip(MARKERS, series.items(), strict=False):
        means = [values.mean().item() for values in blocks.values()]
        errors = [standard_error(values).item() for values in blocks.values()]
        places = [names.index(block) for block in blocks]
        look = {"marker": marker, "markersize": 7, "capsize": 4, "label": name}
        ax.errorbar(places, means, errors, **look)
    for place in range(1, len(names)):
        if names[place].split(".")[0] != names[place - 1].split(".")[0]:
            ax.axvline(place - 0.5, color=plot.BLACK, linewidth=1, linestyle=":")
    ax.set_xticks(range(len(names)), labels=names)
