"""Figures of chapter 08's lab. Each is displayed, and returns what it drew."""

from collections.abc import Mapping, Sequence

from matplotlib.patches import Patch
from torch import Tensor

from course_lib.teaching import plot

COLORS = {"": "#dfe3e6", "masked": plot.ORANGE, "replaced": plot.RED, "unchanged": plot.SKY}


def hidden_words(
    rows: Sequence[Sequence[tuple[str, str, str]]], caption: str, alt: str
) -> dict[str, int]:
    """What a model reads, and below it the word that it is asked for, where it is asked.

    Args:
        rows: of tokens; each is its text, its kind ("masked", "replaced", "unchanged" or "") and
            the word that is asked for, "" where none is.

    Returns:
        How many tokens there are of each kind.
    """
    fig, axes = plot.figure(11.5, 0.3 + 0.95 * len(rows))
    ax = axes[0, 0]
    widest = 0.0
    for number, row in enumerate(rows):
        place = 0.0
        for text, kind, wanted in row:
            width = 0.9 + max(len(text), len(wanted))  # in letters of a fixed width
            box = {"boxstyle": "round,pad=0.2", "facecolor": COLORS[kind], "edgecolor": "none"}
            look = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 11}
            ax.text(place + width / 2, -number, text, bbox=box, **look)
            ax.text(place + width / 2, -number - 0.4, wanted, weight="bold", **look)
            place += width
        widest = max(widest, place)
    ax.set(xlim=(0, max(widest, 100)), ylim=(0.5 - len(rows), 0.5))
    named = {kind: color for kind, color in COLORS.items() if kind}
    handles = [Patch(color=color, label=kind) for kind, color in named.items()]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)
    plot.hide_axes(ax)
    plot.show(fig, caption, alt)
    kinds = [kind for row in rows for _, kind, _ in row]
    return {kind: kinds.count(kind) for kind in COLORS}


def padding(ways: Mapping[str, Sequence[Tensor]], caption: str, alt: str) -> dict[str, float]:
    """Batches below each other: real tokens dark, padding pale, one panel for each way.

    Args:
        ways: name -> batches of real (B, T) bool.

    Returns:
        The share of padding, by name.
    """
    fig, axes = plot.figure(3.7 * len(ways), 3.8, columns=len(ways))
    widest = max(real.shape[1] for batches in ways.values() for real in batches)
    shares = {}
    for ax, (name, batches) in zip(axes[0], ways.items(), strict=True):
        top = 0
        for real in batches:
            shown = plot.BLUE, "#c9d3da"  # real, padding
            for row, count in enumerate(real.sum(1).tolist()):
                ax.barh(top + row, count, 1.0, color=shown[0])
                ax.barh(top + row, real.shape[1] - count, 1.0, left=count, color=shown[1])
            top += len(real)
            ax.axhline(top - 0.5, color="white", linewidth=1.5)
        tokens = sum(real.numel() for real in batches)
        shares[name] = 1 - sum(int(real.sum()) for real in batches) / tokens
        ax.set(title=name, xlabel="tokens", xlim=(0, widest), ylim=(top - 0.5, -0.5), yticks=[])
        ax.grid(False)
    axes[0, 0].set_ylabel("texts")
    plot.show(fig, caption, alt)
    return shares


def trade(
    points: Mapping[str, tuple[Tensor, Tensor]], labels: tuple[str, str], caption: str, alt: str
) -> dict[str, tuple[float, float]]:
    """What is gained for what it costs: a pale dot for each seed, a strong one with a name.

    Args:
        points: name -> cost and gain, each (seeds,).
        labels: of the x axis and of the y axis.

    Returns:
        The means of both, by name.
    """
    fig, axes = plot.figure(8.5, 4.4)
    ax, means = axes[0, 0], {}
    for name, (cost, gain) in points.items():
        means[name] = (cost.mean().item(), gain.mean().item())
        (strong,) = ax.plot(*means[name], "o", markersize=11)
        color = strong.get_color()
        ax.plot(cost.tolist(), gain.tolist(), "o", color=color, alpha=0.35, markersize=6)
        ax.annotate(name, means[name], xytext=(11, 0), textcoords="offset points", va="center")
    ax.margins(x=0.15, y=0.2)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.set_xlim(0, None)
    plot.show(fig, caption, alt)
    return means
