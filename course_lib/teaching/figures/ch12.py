"""Figures of chapter 12: anchors over scenes, who learns what, what is found and by which level.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from course_lib import boxes as box_ops
from course_lib import ssd
from course_lib.average_precision import Detections
from course_lib.teaching import plot
from course_lib.teaching.figures.ch11 import Mark, Panel, draw_panel

COLORS = (plot.ORANGE, plot.SKY, plot.PINK, plot.YELLOW, plot.GREEN)
PALE = "#b9c4cc"


def anchor_figure(
    image: Tensor, objects: Tensor, grid: int, side: float, ratio: float, threshold: float
) -> Figure:
    """The places of a level, the anchor at each, and the objects that one of them fits."""
    size = image.shape[-1]
    anchors = ssd.anchors_for(grid, grid, (side,), (ratio,), size)  # (grid grid, 4)
    overlap = box_ops.iou_matrix(objects, anchors)  # (objects, anchors)
    best, which = overlap.max(1)
    fits = (overlap >= threshold).any(0)
    fig, axes = plot.figure(11.5, 5.4, columns=2)
    left, right = axes[0]
    example = anchors[(grid // 2) * grid + grid // 2]
    marks = [Mark(anchors[place], plot.SKY) for place in fits.nonzero().flatten()]
    marks += [Mark(example, "white", line=":")] if not fits.any() else []
    shape = f"size {side:g}, width / height {ratio:g}"
    title = f"{grid} x {grid} places, {shape}: {int(fits.sum())} fit"
    draw_panel(left, Panel(image, marks, title))
    x, y, *_ = box_ops.to_centres(anchors).T.tolist()
    left.plot([v - 0.5 for v in x], [v - 0.5 for v in y], "o", color="white", ms=3, mec=plot.BLACK)
    marks = []
    for box, value, place in zip(objects, best.tolist(), which, strict=True):
        color = plot.GREEN if value >= threshold else plot.ORANGE
        marks += [Mark(box, "white", line=":"), Mark(anchors[place], color, f"{value:.2f}")]
    title = f"the best anchor of each; green: IoU of {threshold:.2f} or more"
    draw_panel(right, Panel(image, marks, title))
    return fig


def levels_by_size(counts: Tensor, sizes: Sequence[str], caption: str, alt: str) -> list[list[int]]:
    """How many objects of each size (column) fall to each level (row): counts (levels, sizes).

    Returns:
        The counts.
    """
    fig, axes = plot.figure(2.6 + 1.5 * len(sizes), 0.9 + 0.62 * len(counts))
    ax = axes[0, 0]
    shares = counts / counts.sum(0, keepdim=True).clamp(min=1)
    ax.imshow(shares.tolist(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in torch.cartesian_prod(*map(torch.arange, counts.shape)).tolist():
        color = "white" if shares[row, column] > 0.55 else plot.BLACK
        ax.text(column, row, int(counts[row, column]), ha="center", va="center", color=color)
    ax.set(xticks=range(len(sizes)), xticklabels=sizes, yticks=range(len(counts)))
    ax.set(yticklabels=[f"level {row + 1}" for row in range(len(counts))])
    ax.set_xlabel("side of the object, pixels")
    ax.grid(False)
    plot.show(fig, caption, alt)
    return counts.int().tolist()


def owners(maps: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, int]:
    """To which anchor each number of each row belongs: name -> (rows, numbers), colour by anchor.

    Returns:
        How many rows hold the numbers of a single anchor.
    """
    fig, axes = plot.figure(11.5, 3.6, columns=len(maps))
    for ax, (name, owner) in zip(axes[0], maps.items(), strict=True):
        ax.imshow(owner.T.tolist(), cmap="tab20", aspect="auto", interpolation="nearest")
        ax.set(title=name, xlabel="row", ylabel="number in the row", yticks=range(owner.shape[1]))
        ax.grid(False)
    plot.show(fig, caption, alt)
    return {name: int((owner == owner[:, :1]).all(1).sum()) for name, owner in maps.items()}


def hard_losses(losses: Tensor, positive: Tensor, chosen: Tensor, caption: str, alt: str) -> dict:
    """The losses of one image's anchors (A,), the largest first, in the three kinds there are.

    Returns:
        For each kind how many anchors it has, and its part of the sum of all losses.
    """
    fig, axes = plot.figure(9.5, 3.8)
    ax = axes[0, 0]
    order = losses.argsort(descending=True)
    kinds = {
        "objects": (positive, plot.RED),
        "background that counts": (chosen, plot.BLUE),
        "background left out": (~(positive | chosen), PALE),
    }
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    for name, (which, color) in kinds.items():
        ax.plot((1 + rank[which]).tolist(), losses[which].tolist(), "o", color=color, label=name)
    ax.set(xscale="log", xlabel="anchors, the largest loss first", ylabel="cross entropy")
    ax.legend(fontsize=11)
    plot.show(fig, caption, alt)
    total = losses.sum()
    return {
        name: (int(which.sum()), (losses[which].sum() / total).item())
        for name, (which, _) in kinds.items()
    }


def by_size(
    scores: Mapping[str, Mapping[str, float]], label: str, caption: str, alt: str,
    *, errors: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Groups of bars: detector -> size of the objects -> score; `errors` are standard errors."""
    fig, axes = plot.figure(9, 3.9)
    ax = axes[0, 0]
    groups = list(next(iter(scores.values())))
    width = 0.8 / len(scores)
    colors = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.PINK)
    for number, (name, values) in enumerate(scores.items()):
        x = [place + (number - (len(scores) - 1) / 2) * width for place in range(len(groups))]
        spread = [errors[name][group] for group in groups] if errors and name in errors else None
        heights = [values[group] for group in groups]
        drawn = ax.bar(x, heights, width, yerr=spread, color=colors[number], label=name, capsize=4)
        ax.bar_label(drawn, fmt="%.2f", padding=2, fontsize=10)
    ax.set(xticks=range(len(groups)), xticklabels=groups, ylabel=label, ylim=(0, 1.12))
    ax.grid(False, axis="x")
    ax.legend(fontsize=11, ncols=2, loc="upper left")
    plot.show(fig, caption, alt)
    return {name: dict(values) for name, values in scores.items()}


def judge(found: Detections, boxes: Tensor, labels: Tensor, least: float = 0.5) -> list[str]:
    """What each detection of one image is, the best first: "right", "misnamed", "again", "wrong".

    Each object is found once, by the best detection of its class that overlaps it `least` or more.
    """
    free = set(range(len(boxes)))
    said = [""] * len(found.scores)
    overlap = box_ops.iou_matrix(found.boxes, boxes)  # (detections, objects)
    for row in found.scores.argsort(descending=True).tolist():
        near = [k for k in range(len(boxes)) if overlap[row, k] >= least]
        same = [k for k in near if labels[k] == found.labels[row]]
        fresh = [k for k in same if k in free]
        if fresh:
            free.remove(max(fresh, key=lambda k: overlap[row, k].item()))
        said[row] = "right" if fresh else "again" if same else "misnamed" if near else "wrong"
    return said


def verdict_marks(
    found: Detections,
    boxes: Tensor,
    labels: Tensor,
    names: Sequence[str],
    least: float = 0.5,
) -> list[Mark]:
    """The detections of an image with names, coloured by what they are, and the objects missed."""
    colors = {"right": plot.GREEN, "misnamed": plot.SKY, "again": plot.PINK, "wrong": plot.RED}
    overlap = box_ops.iou_matrix(boxes, found.boxes)  # (objects, detections)
    missed = (overlap < least).all(1)
    marks = [Mark(box, "white", "", ":") for box in boxes[missed]]
    said = judge(found, boxes, labels, least)
    for what, box, label, score in zip(said, *found[1:], strict=True):
        marks.append(Mark(box, colors[what], f"{names[label]} {score:.2f}"))
    return marks


def judged_figure(
    image: Tensor,
    found: Detections,
    boxes: Tensor,
    labels: Tensor,
    names: Sequence[str],
    settings: str = "",
) -> Figure:
    """An image with what was found, by which settings, and how many detections are right."""
    said = judge(found, boxes, labels)
    counts = {name: said.count(name) for name in ("right", "misnamed", "again", "wrong")}
    title = f"{len(boxes)} objects; " + ", ".join(f"{n} {name}" for name, n in counts.items())
    fig, axes = plot.figure(6.4, 6.4)
    marks = verdict_marks(found, boxes, labels, names)
    draw_panel(axes[0, 0], Panel(image, marks, f"{settings}\n{title}".strip()))
    return fig
