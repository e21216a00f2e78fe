"""Figures of chapter 02: kernels at work, the sizes of networks, and what their channels look for.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

import textwrap
from collections.abc import Mapping, Sequence

import ipywidgets
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from course_lib import cnn
from course_lib.teaching import plot

GREY, PALE = "#8a8a85", "#eeeeea"
DIVERGING = "RdBu"  # red: negative, white: zero, blue: positive
PRESETS = {
    "vertical edges": (1, 0, -1, 2, 0, -2, 1, 0, -1),
    "horizontal edges": (1, 2, 1, 0, 0, 0, -1, -2, -1),
    "outline": (-1, -1, -1, -1, 8, -1, -1, -1, -1),
    "blur": (1 / 9,) * 9,
    "sharpen": (0, -1, 0, -1, 5, -1, 0, -1, 0),
    "one pixel to the right": (0, 0, 0, 1, 0, 0, 0, 0, 0),
    "nothing": (0, 0, 0, 0, 1, 0, 0, 0, 0),
}


class KernelEditor(ipywidgets.VBox):
    """A menu of kernels and the nine numbers of the chosen one, to be changed one by one.

    `value` holds the nine numbers, row by row.
    """

    value = traitlets.Tuple()

    def __init__(self, preset: str = "vertical edges"):
        self._menu = ipywidgets.Dropdown(options=list(PRESETS), value=preset, description="kernel")
        layout = ipywidgets.Layout(width="5.5em")
        self._fields = [
            ipywidgets.FloatText(value=round(number, 3), step=0.5, layout=layout)
            for number in PRESETS[preset]
        ]
        rows = [ipywidgets.HBox(self._fields[start : start + 3]) for start in (0, 3, 6)]
        super().__init__([self._menu, *rows], value=PRESETS[preset])
        self._menu.observe(self._take_preset, names="value")
        for field in self._fields:
            field.observe(self._take_fields, names="value")

    def _take_preset(self, _: object) -> None:
        numbers = PRESETS[self._menu.value]
        for field, number in zip(self._fields, numbers, strict=True):
            field.unobserve(self._take_fields, names="value")  # one change, not nine
            field.value = round(number, 3)
            field.observe(self._take_fields, names="value")
        self.value = numbers

    def _take_fields(self, _: object) -> None:
        self.value = tuple(field.value for field in self._fields)


def filter_image(image: Tensor, kernel: Sequence[float], **options) -> Tensor:
    """One image (1, H, W) under one 3x3 kernel of nine numbers: (oH, oW); options of `conv2d`."""
    weight = torch.tensor(kernel, dtype=torch.float32).view(1, 1, 3, 3)
    return cnn.conv2d(image[None], weight, **options)[0, 0]


def filter_figure(image: Tensor, kernel: Sequence[float], **options) -> Figure:
    """An image (1, H, W) with its frame of padding, a 3x3 kernel, and what comes out.

    `options` are those of `cnn.conv2d`. The first window and the pixel it gives are outlined.
    """
    mode, padding = options.get("padding_mode", "zeros"), options.get("padding", 0)
    stride, dilation = options.get("stride", 1), options.get("dilation", 1)
    padded = cnn.pad2d(image[None], padding, mode)[0, 0]
    result = filter_image(image, kernel, **options)
    fig, axes = plot.figure(11.5, 4.3, columns=3)
    before, middle, after = axes[0]
    before.imshow(padded.numpy(), cmap="gray", vmin=0, vmax=1)
    side = padded.shape[0] - 2 * padding
    _outline(before, padding, padding, side, side, plot.ORANGE)
    for row in range(3):
        for column in range(3):
            _outline(before, row * dilation, column * dilation, 1, 1, plot.SKY)
    before.set_title(f"in: {_size(image[0])}, padding {padding} ({mode})")
    numbers = torch.tensor(kernel).view(3, 3)
    _draw_table(middle, numbers, "", signed=True)
    middle.set_title(f"stride {stride}, dilation {dilation}")
    limit = max(result.abs().max().item(), 1e-6)
    after.imshow(result.numpy(), cmap=DIVERGING, vmin=-limit, vmax=limit)
    _outline(after, 0, 0, 1, 1, plot.SKY)
    after.set_title(f"out: {_size(result)}, red below 0")
    for ax in axes.flat:
        _bare(ax)
    return fig


def dense(matrix: Tensor, caption: str, alt: str) -> dict[str, int]:
    """The matrix of a convolution: zeros pale, each number of the kernel in its own colour."""
    fig, axes = plot.figure(11, 5.2)
    ax = axes[0, 0]
    limit = matrix.abs().max().item()
    ax.imshow(matrix.numpy(), cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(xlabel=f"{matrix.shape[1]} pixels in", ylabel=f"{matrix.shape[0]} pixels out")
    ax.set_xticks(torch.arange(-0.5, matrix.shape[1]).tolist(), labels=[])
    ax.set_yticks(torch.arange(-0.5, matrix.shape[0]).tolist(), labels=[])
    ax.tick_params(length=0)
    plot.show(fig, caption, alt)
    return {
        "rows": matrix.shape[0],
        "columns": matrix.shape[1],
        "nonzero": int((matrix != 0).sum()),
        "distinct": len(matrix[matrix != 0].unique()),
    }


def tables(named: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, list]:
    """Small matrices side by side, their numbers written into the cells; red is below 0."""
    side = min(3.0, 12 / len(named))
    height = max(side * len(matrix) / matrix.shape[1] for matrix in named.values())
    fig, axes = plot.figure(side * len(named), height + 0.5, columns=len(named))
    signed = any(bool((matrix < 0).any()) for matrix in named.values())
    for ax, (name, matrix) in zip(axes[0], named.items(), strict=True):
        _draw_table(ax, matrix, name, signed=signed)
    plot.show(fig, caption, alt)
    return {name: matrix.tolist() for name, matrix in named.items()}


def paddings(image: Tensor, padding: int, caption: str, alt: str) -> dict[str, list]:
    """A table from 1 to 25 and one image (1, H, W), each in its four kinds of frame.

    In the tables the upper left corner and the pixel that it repeats are marked.

    Returns:
        For each kind the number in that corner, and the image's top row: "numbers" and "rows".
    """
    fig, axes = plot.figure(11.5, 6.4, rows=2, columns=len(cnn.PADDING_MODES))
    table, numbers, rows = torch.arange(1.0, 26).view(1, 1, 5, 5), {}, {}
    for (above, below), mode in zip(axes.T, cnn.PADDING_MODES, strict=True):
        counted = cnn.pad2d(table, 2, mode)[0, 0]
        _draw_table(above, counted, mode, size=10)
        numbers[mode] = int(counted[0, 0])
        places = (table[0, 0] == counted[0, 0]).nonzero() + 2  # none for a frame of zeros
        for row, column in [[0, 0], *places.tolist()]:
            _outline(above, row, column, 1, 1, plot.RED)
        _outline(above, 2, 2, 5, 5, plot.ORANGE)
        padded = cnn.pad2d(image[None], padding, mode)[0, 0]
        below.imshow(padded.numpy(), cmap="gray", vmin=0, vmax=1)
        _outline(below, padding, padding, *image.shape[1:], plot.ORANGE)
        _bare(below)
        rows[mode] = padded[0].tolist()
    plot.show(fig, caption, alt)
    return {"numbers": numbers, "rows": rows}


def windows(options: Mapping[str, Mapping[str, int]], size: int, caption: str, alt: str) -> dict:
    """Which pixels of a `size` x `size` image the first two 3x3 windows of a row touch.

    Args:
        options: for each panel, by its title, `stride`, `padding` and `dilation`.

    Returns:
        For each panel, how many windows fit side by side.
    """
    fig, axes = plot.figure(11.5, 3.6, columns=len(options))
    fits = {}
    for ax, (name, given) in zip(axes[0], options.items(), strict=True):
        stride, padding, dilation = (
            given.get(key, default)
            for key, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        fits[name] = cnn.output_size(size, 3, stride, padding, dilation)
        for row in range(-padding, size + padding):
            for column in range(-padding, size + padding):
                inside = 0 <= row < size and 0 <= column < size
                look = {"facecolor": PALE} if inside else {"facecolor": "white", "linestyle": ":"}
                ax.add_patch(Rectangle((column, row), 1, 1, edgecolor=GREY, **look))
        for start, color, inset in ((0, plot.BLUE, 0.12), (stride, plot.ORANGE, 0.3)):
            for i in range(9):
                row, column = i // 3 * dilation - padding, i % 3 * dilation - padding + start
                corner, side = (column + inset, row + inset), 1 - 2 * inset
                ax.add_patch(Rectangle(corner, side, side, color=color))
        ax.set(xlim=(-1.2, size + 1.2), ylim=(size + 1.2, -1.2), aspect="equal")
        ax.set_title(f"{name}: {size} → {fits[name]}")
        _bare(ax)
    plot.show(fig, caption, alt)
    return fits


def skyline(networks: Mapping[str, nn.Sequential], caption: str, alt: str) -> dict[str, list]:
    """Each network as its row of blocks: as tall as its maps, as wide as its channels are many.

    Returns:
        For each network the shapes after its layers with weights, pooling and blocks.
    """
    fig, axes = plot.figure(11.5, 1.15 * len(networks) + 0.3, rows=len(networks))
    shapes = {name: _stages(network) for name, network in networks.items()}
    widest = max(sum(map(_width, stages)) + 4 * len(stages) for stages in shapes.values())
    for ax, (name, stages) in zip(axes[:, 0], shapes.items(), strict=True):
        left = 0.0
        for shape in stages:
            height = shape[1] if len(shape) == 3 else 1.5
            color = plot.SKY if len(shape) == 3 else plot.ORANGE
            ax.add_patch(Rectangle((left, -height / 2), _width(shape), height, color=color))
            ax.text(
                left + _width(shape) / 2, -15.5, str(shape[0]), ha="center", va="top", fontsize=12
            )
            left += _width(shape) + 4
        ax.text(-6, 0, textwrap.fill(name, 12), ha="right", va="center", fontsize=14)
        ax.set(xlim=(-26, widest), ylim=(-27, 15))
        _bare(ax)
    plot.show(fig, caption, alt)
    return shapes


def grid(
    rows: Mapping[str, Tensor], caption: str, alt: str, *, signed: bool = False
) -> dict[str, list]:
    """A row of small images (N, 1, H, W) for each name; `signed`: white is 0, red below it.

    Without a sign each image goes from black, its least value, to white, its largest one.
    """
    columns = max(len(images) for images in rows.values())
    fig, axes = plot.figure(1.2 * columns + 1.4, 1.3 * len(rows), rows=len(rows), columns=columns)
    for ax in axes.flat:
        _bare(ax)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=13)
        for ax, image in zip(line, images[:, 0].detach().float().cpu(), strict=False):
            limit = image.abs().max().item()
            scale = Normalize(-limit, limit) if signed else None
            ax.imshow(image.numpy(), cmap=DIVERGING if signed else "gray", norm=scale)
    plot.show(fig, caption, alt)
    return {name: list(images.shape) for name, images in rows.items()}


def occlusion(images: Tensor, margins: Tensor, caption: str, alt: str) -> dict[str, list]:
    """Digits (N, 1, H, W), and below each the margin (H, W) left when a place is covered."""
    fig, axes = plot.figure(11.5, 5.6, rows=2, columns=len(images))
    limit = margins.abs().max().item()
    for (above, below), image, margin in zip(axes.T, images, margins, strict=True):
        plot.draw_image(above, image)
        drawn = below.imshow(margin.numpy(), cmap=DIVERGING, vmin=-limit, vmax=limit)
        below.contour(image[0].numpy(), [0.5], colors="black", linewidths=1)
        _bare(below)
    fig.colorbar(drawn, ax=axes[1], label="margin of the right digit")
    plot.show(fig, caption, alt)
    return {"shape": list(margins.shape)}


def answers_figure(image: Tensor, probabilities: Mapping[str, Tensor]) -> Figure:
    """A digit (1, H, W), and beside it what each network makes of it (10,)."""
    fig, axes = plot.figure(11, 3.4, columns=1 + len(probabilities))
    plot.draw_image(axes[0, 0], image)
    for ax, (name, values) in zip(axes[0, 1:], probabilities.items(), strict=True):
        plot.probability_bars(ax, values, [str(digit) for digit in range(10)])
        ax.set_title(f"{name}: {values.argmax().item()}")
    return fig


# --- parts -------------------------------------------------------------------------------------


def _bare(ax: Axes) -> None:
    plot.hide_axes(ax)
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#c4c4c0", linewidth=0.8)  # what is white has an edge too


def _size(matrix: Tensor) -> str:
    return f"{matrix.shape[0]}×{matrix.shape[1]}"


def _outline(ax: Axes, row: float, column: float, height: float, width: float, color: str) -> None:
    corner = (column - 0.5, row - 0.5)
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=2))


def _draw_table(
    ax: Axes, matrix: Tensor, title: str, *, signed: bool = False, size: int = 13
) -> None:
    """A matrix as coloured cells with their numbers; each colour map leaves the text legible."""
    values = matrix.double()
    finite = values[values.isfinite()].abs()
    limit = max(finite.max().item() if len(finite) else 1.0, 1e-6)
    color, low = (DIVERGING, -1.6 * limit) if signed else ("Blues", 0.0)
    ax.imshow(values.numpy(), cmap=color, vmin=low, vmax=1.6 * limit)
    for row, line in enumerate(values.tolist()):
        for column, number in enumerate(line):
            ax.text(column, row, f"{number:.3g}", ha="center", va="center", fontsize=size)
    ax.set_title(title)
    _bare(ax)


def _width(shape: Sequence[int]) -> float:
    return shape[0] / 8 if len(shape) == 3 else 2.5


def _stages(network: nn.Sequential) -> list[tuple[int, ...]]:
    """The shapes of a 28x28 image behind the children that do more than bend, drop or flatten."""
    quiet = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Dropout, nn.Flatten, nn.Identity)
    x, shapes, was_training = torch.zeros(1, 1, 28, 28), [(1, 28, 28)], network.training
    with torch.no_grad():
        for child in network.eval():
            x = child(x)
            if not isinstance(child, quiet):
                shapes.append(tuple(x.shape[1:]))
    network.train(was_training)
    return shapes
