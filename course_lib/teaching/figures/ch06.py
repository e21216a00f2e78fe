"""Figures of chapter 06: attention maps, soft lookups, masks, positions.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from course_lib import attention
from course_lib.teaching import plot, words

HEADS = ("the same meaning", "the word before", "the first word")
MASKS = ("none", "causal", "without small words")
EXPLORED = 12  # words at most


# --- weights -----------------------------------------------------------------------------------


def maps(
    panels: Mapping[str, tuple[Tensor, Sequence[str], Sequence[str]]],
    caption: str,
    alt: str,
    *,
    label: str = "weight",
    numbers: bool = False,
) -> dict[str, list[list[float]]]:
    """Attention maps side by side: a row for each query, a column for each key.

    Args:
        panels: title -> weights (T, S), names of the queries, names of the keys.
        numbers: write each weight into its square.

    Returns:
        The weights by title.
    """
    fig, axes = plot.figure(0.6 + 4.6 * len(panels), 4.6, columns=len(panels))
    for ax, (title, (weights, rows, columns)) in zip(axes[0], panels.items(), strict=True):
        image = _draw_map(ax, weights, rows, columns, numbers)
        ax.set_title(title)
    fig.colorbar(image, ax=list(axes[0]), shrink=0.8, label=label)
    plot.show(fig, caption, alt)
    return {title: panel[0].tolist() for title, panel in panels.items()}


@torch.no_grad()
def weights_of(model: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """The weights (B, heads, T, S) of every `MultiHeadAttention` in `model`, as it runs them.

    The list is in the order in which they are called.
    """
    found = []

    def note(heads: attention.MultiHeadAttention, arguments: tuple, named: dict) -> None:
        found.append(heads.weights(*arguments, **named))

    hooks = [
        module.register_forward_pre_hook(note, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, attention.MultiHeadAttention)
    ]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def lookup(temperatures: Sequence[float], caption: str, alt: str) -> dict[float, list[float]]:
    """What a soft dictionary of four entries gives for queries between its keys.

    Returns:
        For each temperature the answers at the keys themselves.
    """
    keys, values = torch.tensor([1.0, 2, 3, 4]), torch.tensor([10.0, 30, 20, 40])
    fig, axes = plot.figure(8, 4)
    ax = axes[0, 0]
    queries = torch.linspace(0.5, 4.5, 201)
    answers = {}
    for temperature, color in zip(temperatures, (plot.BLUE, plot.ORANGE, plot.RED), strict=False):
        found = soft_lookup(queries, keys, values, temperature)
        ax.plot(queries, found, color=color, label=f"temperature {temperature:g}")
        answers[temperature] = soft_lookup(keys, keys, values, temperature).tolist()
    ax.plot(keys, values, "o", color=plot.BLACK, markersize=9, label="entries")
    ax.set(xlabel="query", ylabel="answer", ylim=(5, 45))
    ax.legend(fontsize=11, loc="upper left")
    plot.show(fig, caption, alt)
    return answers


def soft_lookup(query: Tensor, keys: Tensor, values: Tensor, temperature: float) -> Tensor:
    """The values (S,) weighted by how near their keys (S,) are to each query (T,): (T,)."""
    scores = -((query[:, None] - keys).square()) / temperature  # (T, S)
    return scores.softmax(dim=1) @ values


# --- the explorer ------------------------------------------------------------------------------


def explored_weights(
    sentence: str, head: str, temperature: float, mask: str
) -> tuple[list[str], Tensor]:
    """The words of a sentence, and how one of three heads made by hand looks from each to each.

    Args:
        head: one of `HEADS`. The first compares the vectors of `words`, the others positions.
        temperature: what the scores are divided by.
        mask: one of `MASKS`.

    Returns:
        The words and the weights (T, T).
    """
    names, traits = words.vectors(sentence)
    names, traits = names[:EXPLORED], traits[:EXPLORED]
    length = len(names)
    codes = attention.sinusoidal_positions(length + 1, 16, start=-1)  # of places -1 .. T - 1
    small = traits[:, words.TRAITS.index("small word")] > 0
    query, key = {
        "the same meaning": (traits, traits),
        "the word before": (codes[:-1], codes[1:]),  # asks for the code of the place before
        "the first word": (codes[1:2].expand(length, -1), codes[1:]),
    }[head]
    seen = {
        "none": torch.ones(length, length, dtype=torch.bool),
        "causal": attention.causal_mask(length),
        "without small words": ~small.expand(length, -1),
    }[mask]
    sharper = 1.0 if head == "the same meaning" else 16.0  # neighbouring codes are much alike
    weights = attention.attention_weights(query * sharper / temperature, key, seen)
    return names, weights


def explorer_figure(sentence: str, head: str, temperature: float, mask: str) -> Figure:
    """The map of `explored_weights`; a hint where there is nothing to draw."""
    fig, axes = plot.figure(7.2, 6)
    ax = axes[0, 0]
    if not sentence.split():
        ax.text(0.5, 0.5, "Type some words.", ha="center", transform=ax.transAxes)
        plot.hide_axes(ax)
        return fig
    names, weights = explored_weights(sentence, head, temperature, mask)
    image = _draw_map(ax, weights, names, names, numbers=len(names) <= 9)
    unknown = [name for name in names if not words.vector(name).any()]
    note = f"not in the table, so like nothing: {', '.join(unknown)}" if unknown else ""
    ax.set_title(f"{head}\n{note}".strip(), fontsize=12)
    fig.colorbar(image, ax=ax, shrink=0.8, label="weight")
    return fig


# --- positions ---------------------------------------------------------------------------------


def position_scores(kind: str, length: int, width: int) -> Tensor:
    """How alike the codes of two positions are: (length, length), 1 for a position with itself.

    Args:
        kind: "sinusoidal": the cosine between two codes; "rotary": that between a vector of ones
            turned to one position and to the other.
    """
    if kind == "sinusoidal":
        codes = attention.sinusoidal_positions(length, width)
    else:
        codes = attention.rotate(torch.ones(length, width), torch.arange(length))
    codes = codes / codes.norm(dim=1, keepdim=True)
    return codes @ codes.T


def positions_figure(width: int, position: int, length: int = 64) -> Figure:
    """The codes of all positions, and how like one of them the others are."""
    fig, axes = plot.figure(11.5, 4.6, columns=2)
    left, right = axes[0]
    codes = attention.sinusoidal_positions(length, width)
    look = {"cmap": "RdBu", "vmin": -1, "vmax": 1, "aspect": "auto", "interpolation": "nearest"}
    image = left.imshow(codes.numpy(), **look)
    left.axhline(position, color=plot.BLACK, linewidth=2)
    left.set(xlabel="column", ylabel="position", title=f"codes of width {width}")
    left.grid(False)
    fig.colorbar(image, ax=left, label="value")
    for kind, color in (("sinusoidal", plot.BLUE), ("rotary", plot.ORANGE)):
        alike = position_scores(kind, length, width)[position]
        right.plot(alike, color=color, label=kind, linestyle="-" if color == plot.BLUE else "--")
    right.axvline(position, color=plot.BLACK, linewidth=1, linestyle=":")
    right.set(xlabel="other position", ylabel="how alike", ylim=(-1.05, 1.1))
    right.set_title(f"seen from position {position}")
    right.legend(loc="lower right")
    return fig


# --- plans and parts ---------------------------------------------------------------------------

LAYERS = {
    "post-norm": ("attention", "+", "norm", "feed-forward", "+", "norm"),
    "pre-norm": ("norm", "attention", "+", "norm", "feed-forward", "+"),
}


def layer_plans(caption: str, alt: str) -> dict[str, list[str]]:
    """An encoder layer both ways, from left to right, the shortcuts above in blue.

    Returns:
        For each kind its parts in order.
    """
    fig, axes = plot.figure(11, 3.6, rows=2)
    for ax, (name, parts) in zip(axes[:, 0], LAYERS.items(), strict=True):
        ax.set(xlim=(-1, 14), ylim=(-0.9, 1.5))
        plot.hide_axes(ax)
        ax.grid(False)
        ax.text(-0.9, 1.25, name, fontsize=13, fontweight="bold")
        places = [2.2 * (number + 1) - 0.6 for number in range(len(parts))]
        ax.plot([0, 13.6], [0, 0], color="#8a8a85", linewidth=1.8, zorder=1)
        for part, x in zip(parts, places, strict=True):
            _draw_part(ax, part, x)
        # A shortcut begins where the layer does, or behind what follows the first sum.
        sums = [x for part, x in zip(parts, places, strict=True) if part == "+"]
        begins = [0.2, places[2] + (0.85 if name == "post-norm" else 0.55)]
        for begin, end in zip(begins, sums, strict=True):
            ax.plot([begin, begin, end, end], [0, 0.85, 0.85, 0.3], color=plot.BLUE)
    plot.show(fig, caption, alt)
    return {name: list(parts) for name, parts in LAYERS.items()}


def _draw_part(ax: Axes, part: str, x: float) -> None:
    if part == "+":
        ax.plot(x, 0, "o", markersize=20, color="#fdfdfb", markeredgecolor=plot.BLUE, zorder=2)
        ax.text(x, -0.02, "+", ha="center", va="center", fontsize=16, color=plot.BLUE, zorder=3)
        return
    color = {"attention": plot.SKY, "norm": plot.ORANGE}.get(part, "#dcdcd6")
    box = {"boxstyle": "round,pad=0.35", "facecolor": color, "edgecolor": "none"}
    ax.text(x, 0, part, ha="center", va="center", fontsize=12, bbox=box, zorder=2)


def _draw_map(
    ax: Axes, weights: Tensor, rows: Sequence[str], columns: Sequence[str], numbers: bool
):
    image = ax.imshow(
        weights.detach().numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest"
    )
    ax.set(xticks=range(len(columns)), yticks=range(len(rows)), xticklabels=columns)
    ax.set_yticklabels(rows)
    turned = max(map(len, columns)) > 2
    ax.tick_params(axis="x", rotation=60 if turned else 0)
    for label in ax.get_xticklabels() if turned else ():
        label.set(ha="right", rotation_mode="anchor")  # else long ones run into each other
    ax.set(xlabel="looks at (keys)", ylabel="queries")
    ax.grid(False)
    for axis, names in ((ax.xaxis, columns), (ax.yaxis, rows)):  # white lines between the squares
        axis.set_ticks([number + 0.5 for number in range(len(names) - 1)], minor=True)
    ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="minor", length=0)
    if len(columns) > 12:
        ax.tick_params(labelsize=9)
    for row, line in enumerate(weights.tolist() if numbers else ()):
        for column, weight in enumerate(line):
            ink = "white" if weight > 0.55 else plot.BLACK
            place = {"ha": "center", "va": "center", "fontsize": 10, "color": ink}
            ax.text(column, row, f"{weight:.2f}".removeprefix("0"), **place)
    return image
