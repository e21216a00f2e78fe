"""Figures of chapter 09's lab. Each is displayed, and returns what it drew."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from course_lib.teaching import plot
from course_lib.teaching.figures.ch07_lab import MARKERS


def budgets(
    weights: Sequence[float], losses: Mapping[str, Tensor], caption: str, alt: str
) -> dict[str, int]:
    """Loss against size, a line for each budget; a ring marks the best size of each.

    Args:
        weights: of the sizes, a number each.
        losses: for each budget, by its name, (seeds, sizes).

    Returns:
        The index of the best size of each budget.
    """
    fig, axes = plot.figure(9.4, 4.4)
    ax, best = axes[0, 0], {}
    for marker, (name, values) in zip(MARKERS, losses.items(), strict=False):
        means = values.mean(dim=0)  # (seeds, sizes) -> (sizes,)
        (line,) = ax.plot(weights, means.tolist(), marker=marker, markersize=7, label=name)
        color = line.get_color()
        ax.plot(weights, values.T.tolist(), marker, color=color, alpha=0.35, markersize=4)
        best[name] = int(means.argmin())
        lowest = (weights[best[name]], means[best[name]].item())
        ax.plot(*lowest, "o", markersize=17, fillstyle="none", color=color)
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(weights, labels=[f"{count / 1000:.0f}k" for count in weights])
    ax.set(xlabel="weights in the layers", ylabel="held-out loss")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    plot.show(fig, caption, alt)
    return best
