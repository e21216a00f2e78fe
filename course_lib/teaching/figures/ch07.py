"""Figures of chapter 07: who is a translation of whom, attention maps, Muon, beams and BLEU.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

import textwrap
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.teaching import plot

BOX = {"boxstyle": "round,pad=0.35", "facecolor": "#dcebf5", "edgecolor": plot.BLUE}
ARROW = {"arrowstyle": "-|>", "color": "#8a8a85", "linewidth": 1.6}
Branches = Mapping[tuple[str, ...], Mapping[str, float]]  # beginning -> next word -> probability


def links(
    above: Sequence[str],
    below: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    caption: str,
    alt: str,
) -> list[tuple[str, str]]:
    """Two rows of words with a line for each of `pairs` (place above, place below).

    Returns:
        The words at both ends of each line.
    """
    fig, axes = plot.figure(11, 3.2)
    ax = axes[0, 0]
    ax.set(xlim=(-0.05, 1.05), ylim=(-0.2, 1.2))
    ax.grid(False)
    plot.hide_axes(ax)
    places = [
        [(number + 0.5) / len(words) for number in range(len(words))] for words in (above, below)
    ]
    for top, bottom in pairs:
        color = (plot.BLUE, plot.RED, plot.GREEN, plot.ORANGE, plot.PINK, plot.SKY)[top % 6]
        ax.plot((places[0][top], places[1][bottom]), (0.86, 0.14), color=color, linewidth=2.5)
    for words, row, y in ((above, places[0], 1), (below, places[1], 0)):
        for word, x in zip(words, row, strict=True):
            ax.text(x, y, word, ha="center", va="center", fontsize=15)
    plot.show(fig, caption, alt)
    return [(above[top], below[bottom]) for top, bottom in pairs]


def encoder_decoder(
    source: Sequence[str], target: Sequence[str], caption: str, alt: str
) -> dict[str, list[str]]:
    """Boxes that read `source`, hand over one vector, and write `target` under teacher forcing.

    Returns:
        What the decoder is given and what it is to answer, place by place.
    """
    given, wanted = ["<start>", *target], [*target, "<end>"]
    fig, axes = plot.figure(12, 3.6)
    ax = axes[0, 0]
    count = len(source) + len(given)
    ax.set(xlim=(-0.6, count + 0.2), ylim=(-1.45, 1.45))
    ax.grid(False)
    plot.hide_axes(ax)
    for number in range(count):
        reads = number < len(source)
        x = number if reads else number + 0.6
        face = "#dcebf5" if reads else "#fbe9d5"
        edge = plot.BLUE if reads else plot.ORANGE
        box = {**BOX, "facecolor": face, "edgecolor": edge}
        ax.text(x, 0, "state", ha="center", va="center", fontsize=12, bbox=box)
        word = source[number] if reads else given[number - len(source)]
        ax.text(x, -1.25, word, ha="center", va="center", fontsize=12)
        ax.annotate("", (x, -0.3), (x, -1.05), arrowprops=ARROW)
        if not reads:
            ax.annotate("", (x, 1.0), (x, 0.3), arrowprops=ARROW)
            word = wanted[number - len(source)]
            ax.text(x, 1.2, word, ha="center", va="center", fontsize=12, color=plot.RED)
        if number == len(source):
            strong = {**ARROW, "color": plot.BLUE, "linewidth": 3.5}
            ax.annotate("", (x - 0.38, 0), (x - 1.22, 0), arrowprops=strong)
        elif number:
            ax.annotate("", (x - 0.36, 0), (x - 0.64, 0), arrowprops=ARROW)
    plot.show(fig, caption, alt)
    return {"given": given, "wanted": wanted}


def attention(
    weights: Tensor, source: Sequence[str], target: Sequence[str], caption: str, alt: str
) -> dict[str, list[str]]:
    """An attention map (T, S): a row for each written word, a column for each word read.

    Returns:
        The words written, and for each the word read that it looks at most.
    """
    plot.show(attention_figure(weights, source, target), caption, alt)
    most = weights.argmax(dim=1).tolist()
    return {"written": list(target), "seen": [source[place] for place in most]}


def attention_figure(
    weights: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    title: str = "",
    bars: Mapping[str, float] | None = None,
    label: str = "",
) -> Figure:
    """The attention map (T, S), and beside it `bars` for translations to choose from."""
    height = 1.9 + 0.42 * max(len(target), 4)
    width = max(7, 3.2 + 0.62 * len(source))
    fig, axes = plot.figure(width + (6.5 if bars else 0), height, columns=2 if bars else 1)
    _draw_map(axes[0, 0], weights, source, target)
    room = 9 * fig.get_figwidth()  # letters that fit
    fig.suptitle(textwrap.shorten(title, int(room), placeholder=" …"), fontsize=14)
    if bars:
        ax = axes[0, 1]
        names = [textwrap.shorten(name, 46, placeholder=" …") for name in bars]
        colors = [plot.BLUE, *["#b9c4cc"] * (len(bars) - 1)]
        ax.barh(range(len(bars)), list(bars.values()), 0.45, color=colors)
        for row, name in enumerate(names):
            ax.text(0, row - 0.25, name, ha="right", va="bottom", fontsize=11)
        ax.set(yticks=[], xlabel=label, ylim=(max(len(bars), 4) - 0.4, -0.9))
        ax.grid(False, axis="y")
    return fig


def singular_values(
    values: Mapping[str, Tensor], rounds: Tensor, caption: str, alt: str
) -> dict[str, list[float]]:
    """What orthogonalising does to one number, and to the singular values of a matrix.

    Args:
        values: name -> singular values in falling order (n,).
        rounds: (6, m): numbers from 0 to 1, then what each of five rounds has made of them.

    Returns:
        For each name its largest value, its middle one and its smallest.
    """
    fig, axes = plot.figure(11.5, 4, columns=2)
    left, right = axes[0]
    for number, color in ((1, "#b9c4cc"), (3, plot.ORANGE), (5, plot.BLUE)):
        row = rounds[number].tolist()
        left.plot(rounds[0].tolist(), row, color=color, label=f"after {number}")
    left.set(xscale="log", xlabel="singular value before", ylabel="after the rounds")
    left.legend(fontsize=11)
    for (name, row), color in zip(values.items(), (plot.RED, plot.BLUE), strict=False):
        right.plot(range(1, 1 + len(row)), row.tolist(), color=color, label=name)
    right.set(yscale="log", xlabel="number of the direction", ylabel="singular value")
    right.legend(fontsize=11)
    plot.show(fig, caption, alt)
    return {
        name: [row[0].item(), row[len(row) // 2].item(), row[-1].item()]
        for name, row in values.items()
    }


def tree(
    branches: Branches, paths: Mapping[str, Sequence[str]], caption: str, alt: str
) -> dict[str, float]:
    """A tree of words with their probabilities, from left to right, some of its paths marked.

    Args:
        paths: at most two: a name -> the words to the end, drawn in red and in blue.

    Returns:
        The probability of each path through the tree, by its words.
    """
    fig, axes = plot.figure(11, 4.4)
    ax = axes[0, 0]
    ax.grid(False)
    plot.hide_axes(ax)
    ends = dict(_walk(branches, ()))
    rows = {path: row for row, path in enumerate(ends)}
    depth = max(len(path) for path in ends)
    ax.set(xlim=(-0.35, depth + 1.25), ylim=(len(rows) - 0.3, -0.9))

    def place(begin: tuple[str, ...]) -> tuple[float, float]:
        under = [row for path, row in rows.items() if path[: len(begin)] == begin]
        return len(begin), sum(under) / len(under)

    marked = dict(zip(paths, (plot.RED, plot.BLUE), strict=False))
    for begin, words in branches.items():
        for word, probability in words.items():
            here, there = place(begin), place((*begin, word))
            shown = [n for n, p in paths.items() if tuple(p)[: len(begin) + 1] == (*begin, word)]
            color = marked[shown[-1]] if shown else "#b9c4cc"
            width = 4 if shown else 2
            ax.plot((here[0] + 0.2, there[0] - 0.2), (here[1], there[1]), color=color, lw=width)
            middle = (here[0] + there[0]) / 2, (here[1] + there[1]) / 2
            place_of = {"ha": "center", "va": "center", "fontsize": 12}
            ground = {"facecolor": plot.STYLE["axes.facecolor"], "edgecolor": "none", "pad": 1.5}
            ax.text(*middle, f"{probability:g}", bbox=ground, **place_of)
            ax.text(*there, word, ha="center", va="center", fontsize=14)
    ax.text(*place(()), "<start>", ha="center", va="center", fontsize=14)
    for path, row in rows.items():
        names = [name for name, words in paths.items() if tuple(words) == path]
        color = marked[names[0]] if names else plot.BLACK
        text = f"{ends[path]:.3f}" + (f"  {names[0]}" if names else "")
        ax.text(depth + 0.3, row, text, va="center", fontsize=13, color=color)
    plot.show(fig, caption, alt)
    return {" ".join(path): probability for path, probability in ends.items()}


def intervals(
    panels: Mapping[str, Mapping[str, tuple[float, float, float]]],
    label: str,
    caption: str,
    alt: str,
) -> dict[str, dict[str, float]]:
    """Scores with their intervals, as points on a line for each group, one panel a question.

    Args:
        panels: title -> name of a group -> score, its lower and its upper bound.

    Returns:
        The scores alone.
    """
    fig, axes = plot.figure(11.5, 3.8, columns=len(panels))
    top = max(high for groups in panels.values() for _, _, high in groups.values())
    for ax, (title, groups) in zip(axes[0], panels.items(), strict=True):
        for place, (score, low, high) in enumerate(groups.values()):
            ax.errorbar(
                place,
                score,
                [[score - low], [high - score]],
                fmt="o",
                markersize=9,
                capsize=6,
                color=plot.BLUE,
            )
        ax.set(xticks=range(len(groups)), xticklabels=list(groups), title=title)
        ax.set(xlim=(-0.5, len(groups) - 0.5), ylim=(0, 1.05 * top))
        ax.grid(False, axis="x")
    axes[0, 0].set_ylabel(label)
    plot.show(fig, caption, alt)
    return {
        title: {name: score for name, (score, _, _) in groups.items()}
        for title, groups in panels.items()
    }


def beam_widths(
    scores: Mapping[str, Tensor], lengths: Mapping[str, Tensor], widths: Sequence[int],
    caption: str, alt: str,
) -> dict[str, list[float]]:  # fmt: skip
    """BLEU and the length of the translations by beam width, a line for each length rule.

    Args:
        scores: rule -> (widths, draws): first the score, then those of resampled test sets.
        lengths: rule -> (widths,) of the translations, as a share of the references'.

    Returns:
        The scores by rule.
    """
    fig, axes = plot.figure(11.5, 4.2, columns=2)
    places = range(len(widths))
    colors = dict(zip(scores, (plot.RED, plot.BLUE, plot.GREEN), strict=False))
    for number, (rule, rows) in enumerate(scores.items()):
        low, high = rows[:, 1:].quantile(torch.tensor([0.025, 0.975], dtype=rows.dtype), dim=1)
        score = rows[:, 0]
        x = [place + 0.06 * number for place in places]
        error = torch.stack((score - low, high - score)).clamp(min=0).tolist()
        axes[0, 0].errorbar(x, score.tolist(), error, color=colors[rule], marker="o", capsize=4,
                            label=rule)  # fmt: skip
        axes[0, 1].plot(places, lengths[rule].tolist(), color=colors[rule], marker="o")
    axes[0, 0].set_ylabel("BLEU")
    axes[0, 1].axhline(1, color=plot.BLACK, linestyle=":", linewidth=1.5)
    axes[0, 1].set_ylabel("length / length of the reference")
    for ax in axes[0]:
        ax.set(xticks=places, xticklabels=widths, xlabel="beam width")
    axes[0, 0].legend(fontsize=11)
    plot.show(fig, caption, alt)
    return {rule: rows[:, 0].tolist() for rule, rows in scores.items()}


# --- parts -------------------------------------------------------------------------------------


def _draw_map(ax: Axes, weights: Tensor, source: Sequence[str], target: Sequence[str]) -> None:
    ax.imshow(weights.tolist(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set(xticks=range(len(source)), yticks=range(len(target)), yticklabels=target)
    ax.set_xticks(range(len(source)), source, rotation=40, ha="left", rotation_mode="anchor")
    ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    ax.grid(False)


def _walk(branches: Branches, begin: tuple[str, ...], probability: float = 1.0):
    """Every path from `begin` to an end of the tree, and its probability."""
    if begin not in branches:
        yield begin, probability
        return
    for word, share in branches[begin].items():
        yield from _walk(branches, (*begin, word), probability * share)
