"""Figures of chapter 08: pieces, a record, guesses for hidden words, sentences, heads, scores.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from course_lib import bert, data, reviews, subwords
from course_lib.pretraining import CLS, IGNORED, LENGTH, MASK, SEP, Record
from course_lib.teaching import plot
from course_lib.teaching.figures import ch06

PALE = {"A": "#dcebf5", "B": "#fbe9d5", "": "#eeeeea"}  # the two texts, and padding
GREY = "#b9c4cc"


class Score(NamedTuple):
    """Accuracy and its interval in percent, seconds of training, weights that were trained."""

    accuracy: float
    low: float
    high: float
    seconds: float
    trained: int


def likeness(sentences: Sequence[str], matrix: Tensor, caption: str, alt: str) -> list[list[float]]:
    """How alike sentences are (N, N), as coloured squares with their numbers."""
    names = [f"{textwrap.shorten(text, 42)}  {row}" for row, text in enumerate(sentences, start=1)]
    fig, axes = plot.figure(10, 0.8 + 0.6 * len(names))
    ax = axes[0, 0]
    ax.imshow(matrix.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, values in enumerate(matrix.tolist()):
        for column, value in enumerate(values):
            shade = "white" if value > 0.55 else plot.BLACK
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=11)
    places = range(len(names))
    ax.set(yticks=places, yticklabels=names, xticks=places, xticklabels=[p + 1 for p in places])
    ax.tick_params(length=0)
    ax.grid(False)
    plot.show(fig, caption, alt)
    return matrix.tolist()


def unknown(shares: Mapping[str, Mapping[int, float]], caption: str, alt: str) -> dict[str, float]:
    """Percent of a text that is unknown by the size of the vocabulary, a line for each kind.

    Returns:
        For each kind its largest share.
    """
    fig, axes = plot.figure(8, 3.8)
    ax = axes[0, 0]
    for (name, by_size), color in zip(shares.items(), (plot.RED, plot.BLUE), strict=False):
        ax.plot(list(by_size), list(by_size.values()), "o-", color=color, label=name)
    sizes = sorted({size for by_size in shares.values() for size in by_size})
    ax.set(xscale="log", xticks=sizes, xlabel="size of the vocabulary", ylabel="unknown (%)")
    ax.set_xticklabels([f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.legend()
    plot.show(fig, caption, alt)
    return {name: max(by_size.values()) for name, by_size in shares.items()}


def record(
    row: Record, pieces: Sequence[str], caption: str, alt: str, *, columns: int = 13
) -> dict[str, list[str]]:
    """One record (every field of `row` without its first axis), token by token.

    Returns:
        The tokens as the network sees them, and the words that were there before.
    """
    seen = [pieces[number] for number in row.ids.tolist()]
    before = {
        place: pieces[number]
        for place, number in zip(row.positions.tolist(), row.tokens.tolist(), strict=True)
        if number != IGNORED
    }
    lines = -(-len(seen) // columns)
    fig, axes = plot.figure(13, 0.95 * lines + 0.4)
    ax = axes[0, 0]
    ax.set(xlim=(-0.02, columns), ylim=(lines, -0.05))
    ax.grid(False)
    plot.hide_axes(ax)
    parts = zip(seen, row.segments.tolist(), row.real.tolist(), strict=True)
    for place, (token, segment, is_real) in enumerate(parts):
        line, column = divmod(place, columns)
        color = PALE["AB"[segment] if is_real else ""]
        edge = plot.RED if place in before else "#c8c8c2"
        box = {"facecolor": color, "edgecolor": edge, "linewidth": 2 if place in before else 1}
        ax.add_patch(Rectangle((column + 0.03, line + 0.06), 0.94, 0.84, **box))
        faint = "#9a9a95" if not is_real else plot.BLACK
        for text, height, shade in ((token, 0.34, faint), (before.get(place, ""), 0.7, plot.RED)):
            size = min(10.5, 112 / max(len(text), 1))  # long words would leave their box
            centre = {"ha": "center", "va": "center", "color": shade, "fontsize": size}
            ax.text(column + 0.5, line + height, text, **centre)
    plot.show(fig, caption, alt)
    return {"seen": seen, "before": list(before.values())}


def guesses_figure(words: Sequence[str], bars: Sequence[Mapping[str, float]]) -> Figure:
    """The likeliest words for each [MASK] of a text, with their probabilities.

    Args:
        words: the text's tokens; bars: for each [MASK], word -> probability.
    """
    fig, axes = plot.figure(4.6 * max(len(bars), 1) + 0.6, 4.2, columns=max(len(bars), 1))
    fig.suptitle("\n".join(textwrap.wrap(" ".join(words).replace(" ##", ""), 80)), fontsize=13)
    if not bars:
        plot.hide_axes(axes[0, 0])
        axes[0, 0].text(0.5, 0.5, "Write [MASK] somewhere.", ha="center", va="center", fontsize=15)
    for ax, values in zip(axes[0], bars, strict=False):
        ax.barh(range(len(values)), list(values.values()), color=[plot.BLUE, *[GREY] * 20])
        ax.set(yticks=range(len(values)), yticklabels=list(values), xlabel="probability")
        ax.set_xlim(0, max(0.3, 1.05 * max(values.values())))
        ax.invert_yaxis()
        ax.grid(False, axis="y")
    return fig


def nearest_figure(text: str, others: Sequence[str], alike: Sequence[float]) -> Figure:
    """Bars of how alike each of some sentences is to one that was typed, the nearest on top."""
    ranked = sorted(zip(alike, others, strict=True), reverse=True)
    fig, axes = plot.figure(10.5, 1.1 + 0.42 * len(ranked))
    ax = axes[0, 0]
    ax.barh(range(len(ranked)), [value for value, _ in ranked], color=[plot.BLUE, *[GREY] * 40])
    ax.set(yticks=range(len(ranked)), xlim=(min(0, ranked[-1][0]) - 0.02, 1), xlabel="cosine")
    ax.set_yticklabels([textwrap.shorten(name, 46, placeholder=" …") for _, name in ranked])
    ax.set_title(textwrap.shorten(text, 70, placeholder=" …"), fontsize=13)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    return fig


def heads(
    maps: Tensor,
    tokens: Sequence[str],
    chosen: Mapping[str, tuple[int, int, float]],
    caption: str,
    alt: str,
) -> dict[str, list[str]]:
    """Attention maps (layers, heads, T, T) of the `chosen` (layer, head, ...), each with its title.

    Returns:
        For each, the token that every token looks at most.
    """
    panels = {
        f"{title}: layer {layer + 1}, head {head + 1}": (maps[layer, head], tokens, tokens)
        for title, (layer, head, _) in chosen.items()
    }
    ch06.maps(panels, caption, alt)
    return {
        title: [tokens[place] for place in maps[layer, head].argmax(-1).tolist()]
        for title, (layer, head, _) in chosen.items()
    }


def all_heads(maps: Tensor, caption: str, alt: str) -> list[list[float]]:
    """Every attention map (layers, heads, T, T), small: a row for each layer.

    Returns:
        What is drawn: the maps side by side, NaN between them.
    """
    layers, heads, places, _ = maps.shape
    framed = F.pad(maps, (0, 1, 0, 1), value=float("nan"))  # (layers, heads, T + 1, T + 1)
    whole = framed.transpose(1, 2).flatten(0, 1).flatten(1)  # -> (layers (T + 1), heads (T + 1))
    whole = whole[:-1, :-1]  # nothing is between the last ones and the edge
    fig, axes = plot.figure(12, 0.5 + 11.2 * layers / heads)
    ax = axes[0, 0]
    ax.set_facecolor("#c3c9ce")  # between the maps
    ax.imshow(whole.numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    middles = [[(n + 0.5) * (places + 1) - 1 for n in range(count)] for count in (layers, heads)]
    ax.set_yticks(middles[0], [f"layer {number}" for number in range(1, layers + 1)])
    ax.set_xticks(middles[1], [f"head {number}" for number in range(1, heads + 1)])
    ax.tick_params(length=0, labelsize=11, labeltop=True, labelbottom=False)
    ax.grid(False)
    plot.show(fig, caption, alt)
    return whole.tolist()


def longer(
    runs: Mapping[str, tuple[int, Tensor]], caption: str, alt: str
) -> dict[str, tuple[int, float]]:
    """The loss of runs of different lengths over their steps, a line for each seed.

    Args:
        runs: name -> how many steps it had, and the mean loss of each of n equal parts (seeds, n).

    Returns:
        For each its number of steps and the loss at its end, the mean of the seeds.
    """
    fig, axes = plot.figure(8, 3.8)
    for (name, (steps, loss)), color in zip(runs.items(), (plot.SKY, plot.ORANGE), strict=False):
        width = steps / loss.shape[1]
        places = [width * (part + 0.5) for part in range(loss.shape[1])]
        for number, line in enumerate(loss.tolist()):
            axes[0, 0].plot(places, line, color=color, label=None if number else name)
    axes[0, 0].set(xlim=(0, None), ylim=(0, None), xlabel="step", ylabel="training loss")
    axes[0, 0].legend()
    plot.show(fig, caption, alt)
    return {name: (steps, loss[:, -1].mean().item()) for name, (steps, loss) in runs.items()}


def score(accuracy: float, count: int, seconds: float, trained: int) -> Score:
    """A row for `scores`: `accuracy` in percent of `count` items."""
    low, high = reviews.wilson_interval(round(accuracy * count / 100), count)
    return Score(accuracy, 100 * low, 100 * high, seconds, trained)


def scores(rows: Mapping[str, Score], label: str, caption: str, alt: str) -> dict[str, float]:
    """Accuracies with their intervals; at the side, what each cost."""
    fig, axes = plot.figure(11, 1.1 + 0.55 * len(rows))
    ax = axes[0, 0]
    for place, score in enumerate(rows.values()):
        error = [[score.accuracy - score.low], [score.high - score.accuracy]]
        ax.errorbar(score.accuracy, place, xerr=error, fmt="o", capsize=6, color=plot.BLUE)
        digits = 0 if score.seconds >= 10 else 1
        cost = f"{score.accuracy:.1f} %   {score.seconds:.{digits}f} s"
        cost += f"   {short(score.trained)} weights" if score.trained else ""
        ax.text(1.02, place, cost, va="center", fontsize=12, transform=ax.get_yaxis_transform())
    ax.set(yticks=range(len(rows)), yticklabels=list(rows), xlabel=label)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(False, axis="y")
    plot.show(fig, caption, alt)
    return {name: score.accuracy for name, score in rows.items()}


def short(count: int) -> str:
    """12,345,678 -> "12 M", 385 -> "385"."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def probes(
    found: Mapping[str, Mapping[str, Tensor]], caption: str, alt: str
) -> dict[str, dict[str, float]]:
    """Accuracy of linear probes: for each time, bars for what they read; whiskers: their spread.

    Args:
        found: e.g. "before" -> "[CLS]" -> accuracies (seeds,) in percent.
    """
    fig, axes = plot.figure(7.5, 3.8)
    ax = axes[0, 0]
    kinds = list(next(iter(found.values())))
    for number, (kind, color) in enumerate(zip(kinds, (plot.ORANGE, plot.BLUE), strict=False)):
        places = [group + 0.36 * number for group in range(len(found))]
        values = torch.stack([by_kind[kind] for by_kind in found.values()])  # (times, seeds)
        bars = ax.bar(places, values.mean(1), 0.34, yerr=values.std(1), color=color, label=kind)
        ax.bar_label(bars, fmt="%.1f", padding=6, fontsize=11)
    ax.set(xticks=[group + 0.18 for group in range(len(found))], xticklabels=list(found))
    ax.set(ylabel="right (%)", ylim=(50, 100))
    ax.grid(False, axis="x")
    ax.legend(loc="upper left", ncols=2)
    plot.show(fig, caption, alt)
    return {
        time: {kind: values.mean().item() for kind, values in by_kind.items()}
        for time, by_kind in found.items()
    }


def clouds(
    panels: Mapping[str, Tensor], labels: Tensor, names: Sequence[str], caption: str, alt: str
) -> dict[str, float]:
    """Vectors (N, width) as points: their two main directions, coloured by label.

    Returns:
        For each panel how far apart the two classes' means are, in standard deviations.
    """
    fig, axes = plot.figure(11, 4.4, columns=len(panels))
    apart = {}
    for ax, (title, vectors) in zip(axes[0], panels.items(), strict=True):
        points = main_directions(vectors)  # (N, 2)
        _scatter(ax, points, labels, names)
        ax.set(title=title, xlabel="first main direction")
        means = torch.stack([points[labels == label].mean(0) for label in (0, 1)])
        apart[title] = (means.diff(dim=0) / points.std(0)).norm().item()
    axes[0, 0].set_ylabel("second main direction")
    axes[0, 0].legend(loc="upper left", fontsize=12, markerscale=2.5)
    plot.show(fig, caption, alt)
    return apart


def main_directions(vectors: Tensor) -> Tensor:
    """(N, width) -> (N, 2): principal components, with a sign that does not depend on chance."""
    centred = vectors.double() - vectors.double().mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    largest = directions[:2].abs().argmax(1, keepdim=True)
    directions = directions[:2] * directions[:2].gather(1, largest).sign()
    return centred @ directions.T


def _scatter(ax: Axes, points: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    for label, color in ((0, plot.RED), (1, plot.BLUE)):
        x, y = points[labels == label].T.tolist()
        ax.scatter(x, y, s=8, alpha=0.55, color=color, label=names[label], linewidths=0)
    ax.set(xticks=[], yticks=[])


def record_lines(ids: Tensor, segments: Tensor, pieces: Sequence[str]) -> list[str]:
    """The tokens of one row (T,) as text, and below each its segment; both cut into lines."""
    lines, marks = [""], [""]
    for number, segment in zip(ids.tolist(), segments.tolist(), strict=True):
        if len(lines[-1]) > 80:
            lines.append("")
            marks.append("")
        lines[-1] += pieces[number] + " "
        marks[-1] += f"{segment:<{len(pieces[number])}} "
    both = zip(lines, marks, strict=True)
    return [text.rstrip() for pair in both for text in pair]


def take(part: reviews.Part, rows: Tensor) -> reviews.Part:
    """Some reviews of a part, by their numbers (n,)."""
    texts = tuple(part.texts[row] for row in rows.tolist())
    return reviews.Part(texts, part.ids[rows], part.labels[rows], part.shares[rows])


def count_learning(model: bert.BertClassifier, lowest: int) -> int:
    """Weights that learn once the `lowest` layers are frozen, with the embeddings; -1: all."""
    if lowest >= 0:
        bert.freeze(model.bert, lowest)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def words_and_pairs(texts: Sequence[str]) -> int:
    """How many words and pairs of neighbours there are: a weight each of `reviews.tfidf_svm`."""
    from sklearn.feature_extraction.text import CountVectorizer

    return len(CountVectorizer(ngram_range=(1, 2)).fit(texts).vocabulary_)


def count_words(test: bool) -> Counter[str]:
    """How often each word stands in the test documents, or in those for training."""
    documents = (d for kind in ("wikipedia", "austen") for d in data.load(kind) if d.test == test)
    return Counter(
        word for d in documents for text in d.paragraphs for word in subwords.bert_words(text)
    )


@torch.no_grad()
def guess(
    model: nn.Module, pieces: subwords.WordPiece, sentence: str, count: int = 8
) -> tuple[list[str], list[dict[str, float]]]:
    """The tokens of a sentence, and for its first three [MASK] the likeliest words.

    Args:
        model: gives logits of words (B, M, vocabulary) first, as `BertForPretraining` does.
    """
    ids = [CLS, *pieces.encode(sentence)[: LENGTH - 2], SEP]
    names = [pieces.pieces[number] for number in ids[1:-1]]
    spots = [place for place, number in enumerate(ids) if number == MASK][:3]
    if not spots:
        return names, []
    logits, _ = model(torch.tensor([ids]), None, None, torch.tensor([spots]))
    rows = zip(*(part.tolist() for part in logits[0].softmax(-1).topk(count)), strict=True)
    return names, [
        {pieces.pieces[number]: share for share, number in zip(*row, strict=True)} for row in rows
    ]


def strongest(maps: Tensor) -> dict[str, tuple[int, int, float]]:
    """For each of three habits the head that has it most: layer, head and mean weight.

    Args:
        maps: (layers, heads, T, T) of one text without padding.
    """
    inner = torch.arange(1, maps.shape[-1] - 1)  # all but [CLS] and [SEP]
    shares = {
        "the token before": maps[:, :, inner, inner - 1].mean(-1),  # (layers, heads)
        "the token after": maps[:, :, inner, inner + 1].mean(-1),
        "[CLS]": maps[:, :, inner, 0].mean(-1),
    }
    return {
        name: (*divmod(share.argmax().item(), maps.shape[1]), share.max().item())
        for name, share in shares.items()
    }
