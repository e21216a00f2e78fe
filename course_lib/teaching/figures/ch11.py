"""Figures of chapter 11: boxes on scenes, cells that answer, curves of precision, mistakes.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew. Boxes are (n, 4) xyxy in pixels, images uint8 or float (3, H, W).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib import boxes as box_ops
from course_lib import yolo
from course_lib.average_precision import Detections, Objects
from course_lib.scenes import CLASSES, Scenes
from course_lib.teaching import plot

COLOURS = (plot.RED, plot.PINK, plot.SKY, plot.ORANGE, plot.YELLOW, plot.GREEN)  # one a class
FIXED = torch.tensor([30.0, 30, 70, 60])  # of the two boxes with which a reader plays
OUTCOMES = ("found and named", "found, misnamed", "not found")


class Mark(NamedTuple):
    """A box to draw: corners in pixels, and how."""

    box: Tensor
    color: str = plot.ORANGE
    text: str = ""
    line: str = "-"


class Panel(NamedTuple):
    """An image (3, H, W) with boxes; `step` are the pixels between grid lines, 0 for none."""

    image: Tensor
    marks: Sequence[Mark] = ()
    title: str = ""
    step: int = 0


# --- boxes -------------------------------------------------------------------------------------


def pictures(panels: Sequence[Panel], caption: str, alt: str, *, columns: int = 4) -> list[int]:
    """Images with their boxes; returns how many boxes each has."""
    rows, columns = -(-len(panels) // columns), min(columns, len(panels))
    side = 12 / max(columns, 3)
    fig, axes = plot.figure(side * columns, (side + 0.35) * rows, rows=rows, columns=columns)
    for ax in axes.flat:
        plot.hide_axes(ax)
    for ax, panel in zip(axes.flat, panels, strict=False):
        draw_panel(ax, panel)
    plot.show(fig, caption, alt)
    return [len(panel.marks) for panel in panels]


def draw_panel(ax: Axes, panel: Panel) -> None:
    """One image with its grid and its boxes, dark below each line: it shows on any ground."""
    plot.draw_image(ax, panel.image, panel.title)
    height, width = panel.image.shape[-2:]
    if panel.step:
        draw_grid(ax, width, panel.step)
    for box, color, _, line in panel.marks:
        x1, y1, x2, y2 = _edges(box)
        shape = {"xy": (x1, y1), "width": x2 - x1, "height": y2 - y1, "fill": False}
        ax.add_patch(Rectangle(**shape, edgecolor=plot.BLACK, linewidth=3.2, alpha=0.55))
        ax.add_patch(Rectangle(**shape, edgecolor=color, linewidth=1.8, linestyle=line))
    for box, color, text, _ in panel.marks:  # above all the lines
        if text:
            x1, y1, x2, _ = _edges(box)
            right = x1 > 0.6 * width  # there, a text that begins at the left edge would be cut off
            x, y = min(x2, width) if right else max(x1, 0), min(max(y1, 0.07 * height), height)
            ground = {"facecolor": color, "alpha": 0.85, "pad": 1, "edgecolor": "none"}
            style = {"ha": "right" if right else "left", "va": "bottom", "fontsize": 9}
            ax.text(x, y, text, color=plot.BLACK, bbox=ground, clip_on=True, **style)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _edges(box: Tensor) -> list[float]:
    return [edge - 0.5 for edge in box.tolist()]  # a pixel's middle is a whole number


def draw_grid(ax: Axes, size: float, step: float) -> None:
    """Thin lines every `step` pixels of an image of `size` pixels a side."""
    for number in range(1, -int(-size // step)):
        ax.axhline(number * step - 0.5, color="white", linewidth=0.8, alpha=0.8)
        ax.axvline(number * step - 0.5, color="white", linewidth=0.8, alpha=0.8)


def named_marks(boxes: Tensor, labels: Tensor, scores: Tensor | None = None) -> list[Mark]:
    """Boxes (n, 4) in the colours of their classes, with names and perhaps scores."""
    texts = [CLASSES[label] for label in labels.tolist()]
    if scores is not None:
        texts = [f"{name} {score:.2f}" for name, score in zip(texts, scores.tolist(), strict=True)]
    colors = [COLOURS[label] for label in labels.tolist()]
    return [Mark(*mark) for mark in zip(boxes, colors, texts, strict=True)]


def scene_panel(scenes: Scenes, number: int, title: str = "") -> Panel:
    """A scene with its true boxes."""
    real = scenes.labels[number] >= 0
    marks = named_marks(scenes.boxes[number][real], scenes.labels[number][real])
    return Panel(scenes.images[number], marks, title)


def found_panel(scenes: Scenes, number: int, found: Detections, title: str = "") -> Panel:
    """A scene with what was found in it."""
    mine = found.images == number
    return Panel(scenes.images[number], named_marks(*(t[mine] for t in found[1:])), title)


# --- overlaps ----------------------------------------------------------------------------------


def overlaps(x: float, y: float, width: float, height: float) -> dict[str, float]:
    """IoU, GIoU and CIoU of the fixed box with one whose upper left corner is (x, y)."""
    mine = torch.tensor([x, y, x + width, y + height]).float()
    names = {"IoU": box_ops.iou, "GIoU": box_ops.giou, "CIoU": box_ops.ciou}
    return {name: function(FIXED, mine).item() for name, function in names.items()}


def overlaps_figure(x: float, y: float, width: float, height: float) -> Figure:
    """The two boxes, what they share, their hull, and the three numbers."""
    mine = torch.tensor([x, y, x + width, y + height]).float()
    fig, axes = plot.figure(8.4, 4.2, columns=2)
    ax, bars = axes[0]
    shared = torch.cat([torch.maximum(FIXED[:2], mine[:2]), torch.minimum(FIXED[2:], mine[2:])])
    hull = torch.cat([torch.minimum(FIXED[:2], mine[:2]), torch.maximum(FIXED[2:], mine[2:])])
    _fill(ax, hull, "none", plot.BLACK, linestyle=":")
    _fill(ax, FIXED, plot.SKY, plot.BLUE, alpha=0.6)
    _fill(ax, mine, plot.YELLOW, plot.ORANGE, alpha=0.6)
    if (shared[2:] > shared[:2]).all():
        _fill(ax, shared, plot.GREEN, plot.GREEN, alpha=0.8)
    ax.set(xlim=(0, 100), ylim=(100, 0), aspect="equal", title="dotted: the hull")
    values = overlaps(x, y, width, height)
    drawn = bars.barh(list(values), list(values.values()), color=[plot.GREEN, plot.BLUE, plot.RED])
    bars.bar_label(drawn, fmt="%.2f", padding=4)
    bars.set(xlim=(-1.25, 1.25))
    bars.axvline(0, color=plot.BLACK, linewidth=1)
    bars.invert_yaxis()
    return fig


def overlap_curves(caption: str, alt: str) -> dict[str, list[float]]:
    """IoU, GIoU and CIoU of two equal boxes while one moves to the right, and their values."""
    shifts = torch.arange(0, 101, 2).float()
    start = torch.tensor([0.0, 0, 40, 30])
    moved = start + shifts.unsqueeze(1) * torch.tensor([1.0, 0, 1, 0])  # (51, 4)
    fig, axes = plot.figure(8, 3.6)
    ax, values = axes[0, 0], {}
    for name, function in (("IoU", box_ops.iou), ("GIoU", box_ops.giou), ("CIoU", box_ops.ciou)):
        values[name] = function(start, moved).tolist()
        ax.plot(shifts.tolist(), values[name], label=name)
    ax.axvline(40, color=plot.BLACK, linewidth=1, linestyle=":")
    ax.set(xlabel="pixels that a box of 40 x 30 has moved", ylabel="score")
    ax.legend()
    plot.show(fig, caption, alt)
    return values


def _fill(ax: Axes, box: Tensor, face: str, edge: str, **options) -> None:
    x1, y1, x2, y2 = box.tolist()
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=face, edgecolor=edge, **options))


# --- cells -------------------------------------------------------------------------------------


def answering(
    panel: Panel, targets: Mapping[str, Tensor], caption: str, alt: str
) -> dict[str, int]:
    """The grid over a scene, the cells that answer for an object in its class's colour.

    Args:
        targets: title -> what the cells should say, (K, K, 5 + C).

    Returns:
        How many cells answer, by title.
    """
    fig, axes = plot.figure(4.4 * len(targets), 4.6, columns=len(targets))
    counts = {}
    for ax, (title, target) in zip(axes[0], targets.items(), strict=True):
        stride = panel.image.shape[1] // len(target)
        draw_panel(ax, panel._replace(title=title, step=stride))
        for row, column in (target[..., 4] > 0.5).nonzero().tolist():
            label = int(target[row, column, 5:].argmax())
            _draw_cell(ax, row, column, stride, COLOURS[label])
        corners = torch.stack([mark.box for mark in panel.marks])
        for x, y in box_ops.to_centres(corners)[:, :2].tolist():
            ax.plot(x - 0.5, y - 0.5, "o", color="white", markeredgecolor=plot.BLACK, markersize=6)
        counts[title] = int((target[..., 4] > 0.5).sum())
    plot.show(fig, caption, alt)
    return counts


def _draw_cell(ax: Axes, row: int, column: int, stride: int, color: str) -> None:
    """One cell of the grid, framed so that it shows on a ground of its own colour."""
    place = (column * stride - 0.5, row * stride - 0.5), stride, stride
    ax.add_patch(Rectangle(*place, color=color, alpha=0.6))
    for width, edge in ((4.0, plot.BLACK), (1.6, "white")):
        ax.add_patch(Rectangle(*place, fill=False, edgecolor=edge, linewidth=width))


def pretend(scenes: Scenes, config: yolo.YoloConfig, seed: int, noise: float = 1.0) -> Tensor:
    """The grid that a middling detector might give for scenes: the truth, blurred.

    Boxes are shaken, confidences spread, some objects named wrong, and some cells see a ghost.

    Returns:
        (N, K, K, 5 + C).
    """
    size = scenes.images.shape[-1]
    target = yolo.encode(scenes.boxes, scenes.labels, config, size, size)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return noise * torch.randn(*target.shape[:3], *shape, generator=generator)

    real = target[..., 4:5] > 0.5
    ghosts = (draw(1) > 2.6 * noise) & ~real  # about one cell in two hundred
    shaken = target[..., :4] + torch.cat([0.25 * draw(2), 0.04 * draw(2)], -1)
    ghost = torch.cat([torch.full_like(shaken[..., :2], 0.5), 0.3 + 0.05 * draw(2)], -1)
    place = torch.where(real, shaken, torch.where(ghosts, ghost, 0.0))
    level = torch.where(real, 1.5, torch.where(ghosts, -0.5, -5.0))
    confidence = (level + 0.9 * draw(1)).sigmoid()
    scores = (2.5 * target[..., 5:] + draw(config.classes)).softmax(-1)
    sizes = place[..., 2:].clamp(min=0.0)
    return torch.cat([place[..., :2], sizes, confidence, scores], dim=-1)


def found_figure(
    image: Tensor, grid: Tensor, config: yolo.YoloConfig, confidence: float, threshold: float
) -> Figure:
    """What a grid (K, K, B * 5 + C) says of an image: before and after suppression."""
    kept = yolo.detections(grid[None], config, confidence, threshold)
    every = yolo.detections(grid[None], config, confidence, 1.0)
    fig, axes = plot.figure(8.4, 4.4, columns=2)
    settings = f"confidence from {confidence:.2f}", f"overlap up to {threshold:.2f}"
    for ax, found, setting in zip(axes[0], (every, kept), settings, strict=True):
        title = f"{setting}: {len(found.boxes)} boxes"
        draw_panel(ax, Panel(image, named_marks(*found[1:]), title))
    return fig


def cell_figure(
    image: Tensor, grid: Tensor, config: yolo.YoloConfig, row: int, column: int
) -> Figure:
    """The cell in row and column of a grid (K, K, 5 + C): its box, and its numbers as bars."""
    fig, axes = plot.figure(8.8, 4.4, columns=2)
    ax, bars = axes[0]
    box = yolo.cell_boxes(grid[None], config)[0, row, column, 0]
    mark = Mark(box, COLOURS[int(grid[row, column, 5:].argmax())])
    title = f"row {row}, column {column}: the cell and its box"
    draw_panel(ax, Panel(image, [mark], title, config.stride))
    _draw_cell(ax, row, column, config.stride, "white")
    x, y, width, height, confidence, *_ = grid[row, column].tolist()
    plot.probability_bars(bars, grid[row, column, 4:], ("confidence", *CLASSES))
    bars.set_title(f"x {x:.2f}  y {y:.2f}  w {width:.2f}  h {height:.2f}", fontsize=12)
    return fig


def firing(images: Tensor, confidence: Tensor, caption: str, alt: str) -> list[int]:
    """Images (N, 3, H, W) above their maps of confidence (N, K, K); returns cells above 0.5."""
    fig, axes = plot.figure(2.4 * len(images), 5.0, rows=2, columns=len(images))
    for column, (image, cells) in enumerate(zip(images, confidence, strict=True)):
        plot.draw_image(axes[0, column], image)
        plot.hide_axes(axes[1, column])
        axes[1, column].imshow(
            cells.numpy(), cmap="cividis", vmin=0, vmax=1, interpolation="nearest"
        )
    plot.show(fig, caption, alt)
    return (confidence > 0.5).sum((1, 2)).tolist()


# --- how good it is ----------------------------------------------------------------------------


def precision_recall(
    curves: Mapping[str, tuple[Tensor, Tensor]], caption: str, alt: str
) -> dict[str, float]:
    """Curves of precision over recall, (n,) each by name; returns the last recall of each."""
    fig, axes = plot.figure(7, 4)
    ax = axes[0, 0]
    for name, (recall, precision) in curves.items():
        ax.plot(recall.tolist(), precision.tolist(), label=name)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="recall", ylabel="precision")
    ax.legend(loc="lower left")
    plot.show(fig, caption, alt)
    return {name: recall[-1].item() for name, (recall, _) in curves.items()}


def what_became(found: Detections, objects: Objects, threshold: float = 0.5) -> Tensor:
    """For each object, which of `OUTCOMES` it met: int64 (M,).

    Named: a box of its class overlaps it at least so much; misnamed: only one of another class.
    """
    overlap = box_ops.iou_matrix(objects.boxes, found.boxes)  # (M, n)
    here = (objects.images.unsqueeze(1) == found.images) & (overlap >= threshold)
    named = (here & (objects.labels.unsqueeze(1) == found.labels)).any(1)
    return torch.where(named, 0, torch.where(here.any(1), 1, 2))


def touches(found: Detections, scenes: Scenes, threshold: float = 0.1) -> Tensor:
    """Which boxes overlap any object at all, by at least so much: bool (n,)."""
    there = scenes.boxes[found.images]  # (n, K, 4), of no area beyond the last object
    return box_ops.iou(found.boxes.unsqueeze(1), there).amax(1) >= threshold


def outcomes(shares: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, list[float]]:
    """One bar for each kind of scene, cut by what became of its objects, see `what_became`."""
    fig, axes = plot.figure(8.4, 1.2 + 0.8 * len(shares))
    ax, drawn = axes[0, 0], {}
    for name, met in shares.items():
        drawn[name] = (met.bincount(minlength=3) / len(met)).tolist()
    left = [0.0] * len(drawn)
    for number, color in enumerate((plot.GREEN, plot.ORANGE, "#b9c4cc")):
        lengths = [values[number] for values in drawn.values()]
        bar = ax.barh(list(drawn), lengths, left=left, color=color, label=OUTCOMES[number])
        ax.bar_label(bar, [f"{n:.0%}" if n > 0.04 else "" for n in lengths], label_type="center")
        left = [a + b for a, b in zip(left, lengths, strict=True)]
    ax.set(xlim=(0, 1), xlabel="share of objects")
    ax.invert_yaxis()
    ax.grid(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.35), ncols=3)
    plot.show(fig, caption, alt)
    return drawn


def worst(
    scenes: Scenes, found: Detections, objects: Objects, most: int, caption: str, alt: str
) -> list[str]:
    """The surest boxes that are wrong, one to a scene, dashed beside what is there in white.

    Returns:
        For each, what it was taken for.
    """
    overlap = box_ops.iou_matrix(found.boxes, objects.boxes)
    same = (found.images.unsqueeze(1) == objects.images) & (
        found.labels.unsqueeze(1) == objects.labels
    )
    wrong = (~(same & (overlap >= 0.5)).any(1)).nonzero().flatten()
    wrong = wrong[found.scores[wrong].argsort(descending=True)].tolist()
    chosen: dict[int, int] = {}  # scene -> its surest wrong box
    for number in wrong:
        chosen.setdefault(int(found.images[number]), number)
    chosen = dict(list(chosen.items())[:most])
    fig, axes = plot.figure(11.6, 3.1 * -(-most // 4), rows=-(-most // 4), columns=4)
    for ax in axes.flat:
        plot.hide_axes(ax)
    names = []
    for ax, (scene, number) in zip(axes.flat, chosen.items(), strict=False):
        label, score = int(found.labels[number]), found.scores[number].item()
        names.append(f"{CLASSES[label]} {score:.2f}")
        marks = [Mark(box, "white") for box in objects.boxes[objects.images == scene]]
        marks.append(Mark(found.boxes[number], COLOURS[label], line="--"))
        draw_panel(ax, Panel(scenes.images[scene], marks, f"“{names[-1]}”"))
    plot.show(fig, caption, alt)
    return names


def confused(found: Detections, objects: Objects, caption: str, alt: str) -> list[list[float]]:
    """What the objects of each class (rows) were called, as shares of those that were found."""
    overlap = box_ops.iou_matrix(objects.boxes, found.boxes)  # (M, n)
    here = (objects.images.unsqueeze(1) == found.images) & (overlap >= 0.5)
    score = torch.where(here, found.scores, -1.0)  # of several boxes, the surest counts
    best, which = score.max(1) if found.scores.numel() else (score.new_full((len(score),), -1), 0)
    counts = torch.zeros(len(CLASSES), len(CLASSES))
    if found.scores.numel():
        hit = best >= 0
        pairs = objects.labels[hit] * len(CLASSES) + found.labels[which[hit]]
        counts = pairs.bincount(minlength=len(CLASSES) ** 2).view(len(CLASSES), -1).float()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    fig, axes = plot.figure(6.4, 5.4)
    ax = axes[0, 0]
    ax.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(CLASSES))
    ax.set(xticks=ticks, xticklabels=CLASSES, yticks=ticks, yticklabels=CLASSES)
    ax.set(xlabel="was called", ylabel="is a")
    ax.tick_params(axis="x", rotation=30)
    ax.grid(False)
    for row in ticks:
        for column in ticks:
            share = shares[row, column].item()
            color = "white" if share > 0.5 else plot.BLACK
            ax.text(column, row, f"{share:.2f}", ha="center", va="center", color=color)
    plot.show(fig, caption, alt)
    return shares.tolist()
