"""Figures of chapter 09: next symbols, prompts with labels, losses, surprise, speed.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib import sampling
from course_lib.batches import IGNORED
from course_lib.characters import Dictionary
from course_lib.gpt import GPT, generate
from course_lib.teaching import plot

VISIBLE = str.maketrans({" ": "␣", "\n": "↵"})
GREY = "#b9c4cc"
BARS = 12  # symbols at most in the explorer
WRITTEN = 160  # symbols that the explorer writes
MOST_NATS = 6.5  # of surprise: the darkest red


def visible(symbols: str) -> str:
    """A text with its blanks and line ends made visible."""
    return symbols.translate(VISIBLE)


# --- next symbols ------------------------------------------------------------------------------


def next_symbols(
    panels: Mapping[str, Mapping[str, float]], caption: str, alt: str, *, shown: int = 8
) -> dict[str, dict[str, float]]:
    """Bars of the probabilities of the next symbol, one panel for each distribution.

    The title of a panel says, too, how many symbols may follow at all.

    Args:
        panels: title -> symbol -> probability; only the `shown` highest of each are drawn.

    Returns:
        What is drawn, the likeliest first.
    """
    fig, axes = plot.figure(0.6 + 2.9 * len(panels), 3.9, columns=len(panels))
    drawn = {}
    for ax, (title, chances) in zip(axes[0], panels.items(), strict=True):
        drawn[title] = _draw_bars(ax, chances, shown)
        possible = sum(chance > 0 for chance in chances.values())
        ax.set_title(f"{title}\n{possible} may follow", fontsize=13)
    if max(max(chances.values()) for chances in drawn.values()) < 0.5:
        for ax in axes[0]:
            ax.set_xlim(0, 0.5)
            ax.set_xticks((0, 0.25, 0.5), ("0", "0.25", "0.5"))
    plot.show(fig, caption, alt)
    return drawn


def _draw_bars(ax: Axes, chances: Mapping[str, float], shown: int) -> dict[str, float]:
    ranked = sorted(chances, key=chances.get, reverse=True)
    best = {symbol: chances[symbol] for symbol in ranked[:shown] if chances[symbol] > 0}
    colors = [plot.BLUE, *[GREY] * (len(best) - 1)]
    ax.barh(range(len(best)), list(best.values()), 0.7, color=colors)
    ax.set(xlim=(0, 1), xticks=(0, 0.5, 1), xlabel="probability")
    ax.set(yticks=range(len(best)), ylim=(shown - 0.4, -0.6))
    ax.set_yticklabels([visible(symbol) for symbol in best], family="monospace")
    ax.grid(False, axis="y")
    return best


def explorer_figure(
    model: GPT,
    dictionary: Dictionary,
    prompt: str,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
) -> Figure:
    """What may follow a prompt under the rules, and what is written with them; for sliders."""
    fig, axes = plot.figure(11.5, 4.2, columns=2)
    left, right = axes[0]
    right.set(xlim=(0, 1), ylim=(0, 1))
    right.grid(False)
    plot.hide_axes(right)
    unknown = [symbol for symbol in prompt if symbol not in dictionary.ids]
    if unknown or not prompt:
        why = f"{unknown[0]!r} is not in the dictionary." if unknown else "Type a prompt."
        right.text(0, 0.95, why, va="top", color=plot.RED)
        plot.hide_axes(left)
        return fig
    rules = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    chances = next_chances(model, dictionary, prompt, **rules)
    _draw_bars(left, chances, BARS)
    left.set_title(f"after “{visible(prompt[-16:])}”: {len(chances)} may follow")
    text = continuation(model, dictionary, prompt, WRITTEN, seed, **rules)
    wrapped = "\n".join(
        part for line in text.splitlines() for part in textwrap.wrap(line, 58) or [""]
    )
    right.text(0, 0.98, "\n".join(wrapped.splitlines()[:14]), va="top", fontsize=11)
    return fig


@torch.no_grad()
def next_chances(
    model: GPT, dictionary: Dictionary, prompt: str, **rules: float
) -> dict[str, float]:
    """The symbols that may follow a prompt, and their probabilities, by `sampling`'s rules."""
    ids = dictionary.encode(prompt)[None, -model.config.length :]  # (1, T)
    chances = sampling.probabilities(model(ids)[0, -1], **rules)
    pairs = zip(dictionary.symbols, chances.tolist(), strict=True)
    return {symbol: chance for symbol, chance in pairs if chance > 0}


def continuation(
    model: GPT, dictionary: Dictionary, prompt: str, count: int, seed: int, **rules: float
) -> str:
    """A prompt and `count` symbols that the model writes behind it."""
    ids = generate(
        model,
        dictionary.encode(prompt)[None],
        count,
        choose=partial(sampling.sample, **rules),
        generator=torch.Generator().manual_seed(seed),
        slide=True,
    )
    return dictionary.decode(ids[0])


# --- prompts and labels ------------------------------------------------------------------------


def completion(
    inputs: Sequence[str], labels: Sequence[str | int], caption: str, alt: str
) -> list[tuple[str, str]]:
    """Two rows of boxes: what goes in, and what should come out at each place.

    Args:
        labels: symbols, or `IGNORED` where nothing is asked.

    Returns:
        The pairs that count in the loss.
    """
    fig, axes = plot.figure(0.9 * len(inputs) + 1.6, 3.0)
    ax = axes[0, 0]
    ax.set(xlim=(-1.7, len(inputs) - 0.4), ylim=(-0.7, 1.7))
    ax.grid(False)
    plot.hide_axes(ax)
    for y, name in ((0, "input"), (1, "label")):
        ax.text(-0.8, y, name, ha="right", va="center")
    counted = []
    for x, (symbol, label) in enumerate(zip(inputs, labels, strict=True)):
        left_out = label == IGNORED
        color = GREY if left_out else plot.ORANGE
        _draw_box(ax, x, 0, symbol, plot.BLUE, "#dcebf5")
        _draw_box(ax, x, 1, str(label), color, "#f2f2ef" if left_out else "#fbe9d5")
        arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 1.6}
        ax.annotate("", (x, 0.68), (x, 0.32), arrowprops=arrow)
        if not left_out:
            counted.append((symbol, str(label)))
    plot.show(fig, caption, alt)
    return counted


def _draw_box(ax: Axes, x: float, y: float, text: str, edge: str, face: str) -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": face, "edgecolor": edge}
    ax.text(x, y, visible(text), ha="center", va="center", fontsize=15, bbox=box)


# --- losses ------------------------------------------------------------------------------------


def losses(
    counted: Mapping[str, Mapping[int, float]], model: Mapping[str, float], caption: str, alt: str
) -> dict[str, float]:
    """The loss of ways of counting by length of the context, and models' as lines across.

    Args:
        counted: name -> symbols of context -> loss in nats for each symbol.
        model: name -> loss.

    Returns:
        The least loss of each way of counting, and the models' losses.
    """
    fig, axes = plot.figure(8, 4)
    ax = axes[0, 0]
    for (name, values), look in zip(counted.items(), ("o-", "s-", "^-"), strict=False):
        ax.plot(list(values), list(values.values()), look, label=name)
    for (name, value), color in zip(model.items(), (plot.BLACK, plot.GREEN), strict=False):
        ax.axhline(value, color=color, linestyle="--", label=name)
    ax.set(xlabel="characters that are looked at", ylabel="loss per character (nats)")
    ax.set(xticks=list(next(iter(counted.values()))), ylim=(0, None))
    ax.legend(fontsize=11, loc="lower left")
    plot.show(fig, caption, alt)
    return {name: min(values.values()) for name, values in counted.items()} | dict(model)


def curves(
    lines: Mapping[str, Sequence[float]],
    label: str,
    caption: str,
    alt: str,
    *,
    levels: Mapping[str, float] | None = None,
    first: int = 0,
    unit: str = "step",
) -> dict[str, float]:
    """Lines with a point at each of `first`, `first` + 1 ..., and `levels` as dotted lines across.

    Returns:
        The last point of each line.
    """
    fig, axes = plot.figure(8, 3.8)
    ax = axes[0, 0]
    for name, values in lines.items():
        ax.plot(range(first, first + len(values)), list(values), label=name)
    for name, value in (levels or {}).items():
        ax.axhline(value, color=plot.BLACK, linestyle=":", linewidth=1.5)
        ax.annotate(name, (1, value), (-4, 4), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", fontsize=11)  # fmt: skip
    ax.set(xlabel=unit, ylabel=label)
    ax.legend(fontsize=11)
    plot.show(fig, caption, alt)
    return {name: list(values)[-1] for name, values in lines.items()}


# --- surprise ----------------------------------------------------------------------------------


def surprise(
    text: str, values: Sequence[float], caption: str, alt: str, *, columns: int = 62
) -> list[tuple[str, float]]:
    """A text with each character on a ground that is the redder, the more it surprised.

    Args:
        values: one for each character, in nats.

    Returns:
        The five most surprising characters, with what stands before them.
    """
    rows, place = [], 0
    for line in text.split("\n"):
        cells = list(zip(line + "↵", values[place : place + len(line) + 1], strict=False))
        rows += [cells[first : first + columns] for first in range(0, max(len(cells), 1), columns)]
        place += len(line) + 1
    fig, axes = plot.figure(0.165 * columns + 1.2, 0.36 * len(rows) + 0.4)
    ax = axes[0, 0]
    ax.set(xlim=(-0.6, columns - 0.4), ylim=(len(rows) - 0.4, -0.6))
    ax.grid(False)
    plot.hide_axes(ax)
    grid = torch.full((len(rows), columns), float("nan"))
    for y, cells in enumerate(rows):
        for x, (symbol, value) in enumerate(cells):
            grid[y, x] = value
            color = "white" if value > 0.6 * MOST_NATS else plot.BLACK
            place_of = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 13}
            ax.text(x, y, symbol, color=color, **place_of)
    colors = colormaps["Reds"].with_extremes(bad=plot.STYLE["axes.facecolor"])
    image = ax.imshow(grid.tolist(), cmap=colors, vmin=0, vmax=MOST_NATS, aspect="auto")
    fig.colorbar(image, ax=ax, label="nats", shrink=0.9)
    plot.show(fig, caption, alt)
    order = sorted(range(len(values)), key=lambda i: -values[i])[:5]
    return [(visible(text[max(i - 10, 0) : i + 1]), values[i]) for i in order]


# --- places of a text --------------------------------------------------------------------------


def text_maps(
    panels: Mapping[str, Tensor],
    text: str,
    caption: str,
    alt: str,
    *,
    labels: tuple[str, str] = ("looks at", "place"),
    framed: Mapping[str, int] | None = None,
) -> dict[str, list[list[float]]]:
    """Maps of a row and a column for each place of a text, such as of where heads look.

    Args:
        panels: title -> values from 0 to 1, (T, T).
        labels: of the columns and of the rows.
        framed: title -> the row that matters there.
    """
    names = list(visible(text))
    side = max(4.6, 0.17 * len(names))  # inches; at less the names of the rows would touch
    fig, axes = plot.figure(side * len(panels), side + 0.5, columns=len(panels))
    for ax, (title, values) in zip(axes[0], panels.items(), strict=True):
        if framed:
            box = Rectangle((-0.5, framed[title] - 0.5), len(names), 1, fill=False)
            box.set(edgecolor=plot.RED, linewidth=2.5, clip_on=False)
            ax.add_patch(box)
        ax.set_xlabel(labels[0])
        ax.imshow(values.tolist(), cmap="Blues", vmin=0, vmax=1)
        ax.set_xticks(range(len(names)), names, family="monospace", fontsize=10)
        ax.set_yticks(range(len(names)), names, family="monospace", fontsize=10)
        ax.tick_params(length=0, pad=1)
        ax.grid(False)
        ax.set_title(title)
    axes[0, 0].set_ylabel(labels[1])
    plot.show(fig, caption, alt)
    return {title: values.tolist() for title, values in panels.items()}


# --- speed -------------------------------------------------------------------------------------


def speed(
    seconds: Mapping[str, Sequence[float]], lengths: Sequence[int], caption: str, alt: str
) -> list[float]:
    """Seconds by the length written, a line for each way, and how many times as long one takes.

    Args:
        seconds: exactly two ways, the slow one first.

    Returns:
        The slow one's seconds over the fast one's, by length.
    """
    fig, axes = plot.figure(10.5, 3.8, columns=2)
    left, right = axes[0]
    slow, fast = seconds.values()
    for (name, values), color in zip(seconds.items(), (plot.RED, plot.BLUE), strict=True):
        left.plot(lengths, values, "o-", color=color, label=name)
    left.set(xlabel="symbols written", ylabel="seconds", ylim=(0, None))
    left.legend(fontsize=11)
    times = [one / other for one, other in zip(slow, fast, strict=True)]
    right.plot(lengths, times, "o-", color=plot.GREEN)
    right.set(xlabel="symbols written", ylabel="times as fast with a cache", ylim=(0, None))
    plot.show(fig, caption, alt)
    return times
