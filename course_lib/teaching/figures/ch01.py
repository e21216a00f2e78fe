"""Figures of chapter 01: memory, broadcasting, the graph behind a gradient, ways down a valley.

Functions that end in `_figure` are pure and return a figure, for sliders; the others display one,
and return what they drew.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from course_lib import tensor_ops
from course_lib.teaching import plot

PALE, GREY = "#eeeeea", "#8a8a85"
FILLS = (plot.SKY, "#f3c766", "#8fd3bd")  # of a, of b, and of what comes of them
SHAPES = {str(shape): shape for shape in [(3, 4), (4, 3), (2, 6), (2, 3, 2)]}
OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "t": lambda t: t,
    "t.mT (rows become columns)": lambda t: t.mT,
    "t[..., ::2]": lambda t: t[..., ::2],
    "t[1:]": lambda t: t[1:],
    "t[..., :1].expand(t.shape)": lambda t: t[..., :1].expand(t.shape),
    "t.reshape(-1)": lambda t: t.reshape(-1),
    "t.mT.view(-1)": lambda t: t.mT.view(-1),
    "t.mT.reshape(-1)": lambda t: t.mT.reshape(-1),
    "t.mT.contiguous()": lambda t: t.mT.contiguous(),
    "t.flip(-1)": lambda t: t.flip(-1),
}
BROADCAST_SHAPES = {
    str(s): s for s in [(), (1,), (3,), (4,), (3, 1), (1, 4), (3, 4), (4, 3), (2, 1, 4), (2, 3, 1)]
}
PATHS = (plot.BLUE, plot.ORANGE, plot.GREEN)


def apply(shape: Sequence[int], operation: str) -> tuple[Tensor, Tensor | None]:
    """Count up in a tensor of `shape`, then apply one of `OPERATIONS`; None where it raises."""
    start = torch.arange(math.prod(shape)).view(*shape)
    try:
        return start, OPERATIONS[operation](start)
    except RuntimeError:
        return start, None


def share_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors read the same storage."""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def strides_figure(shape: Sequence[int], operation: str) -> Figure:
    """What `operation` makes of a tensor of `shape`, above the memory that both are read from."""
    start, result = apply(shape, operation)
    after = (3, 5) if result is None else result.shape
    fig, (top, bottom) = _panels(10.5, 4.8, (2.3, 1), _widths(start.shape, after), [1])
    colors = _colors(start.numel())
    _draw_walk(top[0], "t", start, colors)
    rows = {"memory of t": start.flatten()}
    if result is None:
        _write(top[1], f"{operation}\nraises an error:\nno stride walks this way")
    else:
        _draw_walk(top[1], operation.split(" (")[0], result, colors)
        if share_memory(start, result):
            rows = {"memory of t and of the result": start.flatten()}
        else:
            rows["new memory of the result: a copy"] = result.as_strided((result.numel(),), (1,))
    _draw_rows(bottom[0], rows, colors)
    return fig


def memory(tensors: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, list]:
    """Tensors that read one storage: cells of one colour are one place in memory.

    Args:
        tensors: by how they were made; the first one counts up through the whole storage, so that
            every number says its place.

    Returns:
        The places that each tensor reads, as nested lists.
    """
    first = next(iter(tensors.values()))
    colors = _colors(first.numel())
    widths = _widths(*(tensor.shape for tensor in tensors.values()))
    fig, (top, bottom) = _panels(11, 4.4, (2.3, 1), widths, [1])
    for ax, (name, tensor) in zip(top, tensors.items(), strict=True):
        _draw_walk(ax, name, tensor, colors)
    _draw_rows(bottom[0], {"memory, shared by all of them": first.flatten()}, colors)
    plot.show(fig, caption, alt)
    return {name: tensor_ops.memory_of(tensor).tolist() for name, tensor in tensors.items()}


def broadcasting_figure(a: Sequence[int], b: Sequence[int]) -> Figure:
    """Two shapes aligned on the right, and the sum of two such tensors, stretched cells pale."""
    try:
        result = tensor_ops.broadcast_shape(a, b)
    except ValueError as error:
        fig, (top, bottom) = _panels(11, 3.6, (1.6, 1), [1], [1])
        _draw_alignment(top[0], tuple(a), tuple(b), None)
        _write(bottom[0], str(error).replace("; ", ";\n"), plot.RED)
        return fig
    fig, (top, bottom) = _panels(11, 4.8, (1.1, 1.5), [1], _widths(result, result, result))
    _draw_alignment(top[0], tuple(a), tuple(b), result)
    tens = 10 * torch.arange(math.prod(a)).view(tuple(a))
    ones = torch.arange(math.prod(b)).view(tuple(b))
    blocks = {f"a {tuple(a)}": tens, f"b {tuple(b)}": ones, f"a + b {tuple(result)}": tens + ones}
    for ax, (name, tensor), fill in zip(bottom, blocks.items(), FILLS, strict=True):
        real = _is_first(tensor, result)
        fills = [fill if own else PALE for own in real]
        _draw_cells(ax, tensor.expand(result), fills, real)
        ax.set_title(name, fontsize=13)
    return fig


def graph(loss: Tensor, names: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, list]:
    """The graph that autograd recorded on the way to `loss`: leaves with value and gradient,
    arrows with the slope of the operation that they lead to.

    Args:
        loss: a scalar made of scalars, after `backward(retain_graph=True)`.
        names: of the leaves, e.g. {"w": w}, and of what between is to show its value.

    Returns:
        "operations" and "leaves" from the loss backwards, "edges" as pairs of labels, "slopes".
    """
    depth, edges = _walk_back(loss.grad_fn)
    slopes = _slopes(loss, depth)
    leaves = {id(tensor): name for name, tensor in names.items()}
    label = {node: _label(node, leaves) for node in depth}
    for name, tensor in [*names.items(), ("loss", loss)]:
        if tensor.grad_fn is not None:
            label[tensor.grad_fn] += f"\n{name} = {tensor.item():g}"
    deepest = max(depth.values())
    layers = {n: [node for node in depth if depth[node] == n] for n in range(deepest + 1)}
    place = {
        node: (deepest - level, (len(nodes) - 1) / 2 - row)
        for level, nodes in layers.items()
        for row, node in enumerate(nodes)
    }
    fig, axes = plot.figure(11, 3.2)
    ax = axes[0, 0]
    plot.hide_axes(ax)
    ax.grid(False)
    top = max(y for _, y in place.values()) + 0.6
    ax.set(xlim=(-0.6, deepest + 0.6), ylim=(-top, top))
    for node, (x, y) in place.items():
        is_leaf = hasattr(node, "variable")
        edge, face = (plot.BLUE, "#dcebf5") if is_leaf else (plot.ORANGE, "#fdf3dd")
        box = {"boxstyle": "round,pad=0.5", "edgecolor": edge, "facecolor": face}
        ax.text(x, y, label[node], ha="center", va="center", fontsize=13, bbox=box)
    for node, source in edges:
        arrow = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.6}
        arrow |= {"shrinkA": _reach(label[source]), "shrinkB": _reach(label[node])}
        ax.annotate("", place[node], place[source], arrowprops=arrow)
        middle = [sum(ends) / 2 for ends in zip(place[node], place[source], strict=True)]
        look = {"ha": "center", "va": "bottom", "fontsize": 12, "color": plot.RED}
        text = f"slope {slopes[node, source]:g}"
        ax.annotate(text, middle, (0, 7), textcoords="offset points", **look)
    plot.show(fig, caption, alt)
    words = {node: text.split("\n")[0] for node, text in label.items()}
    return {
        "operations": [words[node] for node in depth if not hasattr(node, "variable")],
        "leaves": [words[node] for node in depth if hasattr(node, "variable")],
        "edges": [(words[source], words[node]) for node, source in edges],
        "slopes": [slopes[edge] for edge in edges],
    }


def valley(
    height: Callable[[Tensor, Tensor], Tensor],
    paths: Mapping[str, Tensor],
    caption: str,
    alt: str,
) -> dict[str, float]:
    """Ways down a surface: contours of `height(x, y)`, and paths (steps, 2) over them.

    Returns:
        The height at each path's end.
    """
    fig, axes = plot.figure(10, 4.2)
    ax = axes[0, 0]
    x, y = torch.meshgrid(torch.linspace(-2.2, 0.7, 200), torch.linspace(-1, 1, 200), indexing="xy")
    levels = torch.logspace(-2.5, 1.2, 13).tolist()
    ax.contour(x.numpy(), y.numpy(), height(x, y).numpy(), levels, colors="#c9c9c3", linewidths=1)
    for (name, path), color, mark in zip(paths.items(), PATHS, "o^s", strict=False):
        ax.plot(*path.T.numpy(), color=color, marker=mark, markersize=5, label=name, alpha=0.9)
    ax.plot(0, 0, marker="*", color=plot.RED, markersize=18, linestyle="none", label="the bottom")
    ax.set(xlabel="weight 1", ylabel="weight 2", xlim=(-2.2, 0.7), ylim=(-1, 1))
    ax.grid(False)
    ax.legend(loc="upper right", fontsize=12)
    plot.show(fig, caption, alt)
    return {name: height(*path[-1]).item() for name, path in paths.items()}


def layer_sizes(sizes: Mapping[str, Sequence[float]], caption: str, alt: str) -> dict[str, list]:
    """How large the values are after each layer, one line per way to begin."""
    fig, axes = plot.figure(8.5, 4.0)
    ax = axes[0, 0]
    for (name, values), mark in zip(sizes.items(), "o^sD", strict=False):
        ax.plot(range(len(values)), values, marker=mark, markersize=5, label=name)
    ax.set(yscale="log", xlabel="layers passed", ylabel="size of the values (log scale)")
    ax.legend(fontsize=12)
    plot.show(fig, caption, alt)
    return {name: list(values) for name, values in sizes.items()}


def class_weights(layer: nn.Linear, caption: str, alt: str) -> dict[str, list]:
    """The weights of a linear layer from 784 pixels as ten images: blue speaks for, red against."""
    images = layer.weight.detach().float().cpu().view(-1, 28, 28)  # (10, 784) -> (10, 28, 28)
    fig, axes = plot.figure(10, 4.4, rows=2, columns=5)
    limit = images.abs().quantile(0.995).item()
    for digit, (ax, image) in enumerate(zip(axes.flat, images, strict=True)):
        ax.imshow(image.numpy(), cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set_title(str(digit), fontsize=14)
        plot.hide_axes(ax)
        ax.grid(False)
    plot.show(fig, caption, alt)
    return {"shape": list(images.shape)}


def noise(
    sizes: Sequence[int], measured: Mapping[str, Sequence[float]], caption: str, alt: str
) -> dict[str, list]:
    """Noise of the gradient against the batch size, beside the line 1 / sqrt(size)."""
    fig, axes = plot.figure(8.5, 4.2)
    ax = axes[0, 0]
    for (name, values), mark in zip(measured.items(), "o^s", strict=False):
        ax.plot(sizes, values, marker=mark, markersize=7, label=name)
    start = next(iter(measured.values()))[0]
    line = [start * math.sqrt(sizes[0] / size) for size in sizes]
    ax.plot(sizes, line, color=GREY, linestyle="--", label="1 / √(batch size)")
    ax.set(xscale="log", yscale="log", xlabel="batch size", ylabel="noise of the gradient")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.legend(fontsize=12)
    plot.show(fig, caption, alt)
    return {name: list(values) for name, values in measured.items()}


# --- parts -------------------------------------------------------------------------------------


def _panels(
    width: float, height: float, heights: Sequence[float], *widths: Sequence[float]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with one row of empty panels for each of `widths`, the panels' relative widths."""
    with matplotlib.rc_context(plot.STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        outer = fig.add_gridspec(len(widths), 1, height_ratios=heights)
        rows = []
        for number, ratios in enumerate(widths):
            inner = outer[number].subgridspec(1, len(ratios), width_ratios=ratios)
            rows.append([fig.add_subplot(inner[0, column]) for column in range(len(ratios))])
    for ax in (ax for row in rows for ax in row):
        plot.hide_axes(ax)
        ax.grid(False)
    return fig, rows


def _widths(*shapes: Sequence[int]) -> list[float]:
    return [max(_extent(shape)[0], 2.2) + 1 for shape in shapes]


def _extent(shape: Sequence[int]) -> tuple[float, float]:
    """Width and height of a block of cells: slabs side by side, rows, columns."""
    slabs, rows, columns = ([1, 1, 1] + list(shape))[-3:]
    return slabs * columns + 0.6 * (slabs - 1), rows


def _colors(count: int) -> list[tuple[float, ...]]:
    """One colour for each place in memory, from dark to light."""
    shades = matplotlib.colormaps["viridis"]
    return [shades(0.1 + 0.9 * place / max(count - 1, 1)) for place in range(count)]


def _draw_walk(ax: Axes, name: str, tensor: Tensor, colors: Sequence) -> None:
    """A tensor of counting numbers, each cell in the colour of its number."""
    _draw_cells(ax, tensor, [colors[value] for value in tensor.flatten().tolist()])
    ax.set_anchor("N")
    ax.set_title(f"{name}\nshape {tuple(tensor.shape)}\nstride {tensor.stride()}", fontsize=11.5)


def _draw_cells(
    ax: Axes, tensor: Tensor, fills: Sequence, real: Sequence[bool] | None = None
) -> None:
    """The numbers of a tensor with up to three axes; cells that are not `real` stand back."""
    width, height = _extent(tensor.shape)
    slabs, rows, columns = ([1, 1, 1] + list(tensor.shape))[-3:]
    ax.set(xlim=(-0.1, max(width, 2.2) + 0.1), ylim=(max(height, 2) + 0.1, -0.1), aspect="equal")
    for number, value in enumerate(tensor.flatten().tolist()):
        slab, row, column = (number // (rows * columns), number // columns % rows, number % columns)
        corner = (slab * (columns + 0.6) + column, row)
        _draw_cell(ax, corner, value, fills[number], real is None or real[number])


def _draw_cell(ax: Axes, corner: tuple[float, float], text: object, fill, real: bool = True):
    look = {"edgecolor": "white", "linewidth": 2} if real else {"edgecolor": GREY, "linestyle": ":"}
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=fill, **look))
    red, green, blue, _ = matplotlib.colors.to_rgba(fill)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    color = GREY if not real else "white" if dark else plot.BLACK
    ax.text(
        corner[0] + 0.5, corner[1] + 0.5, text, ha="center", va="center", fontsize=11, color=color
    )


def _draw_rows(ax: Axes, rows: Mapping[str, Tensor], colors: Sequence) -> None:
    """Rows of memory cells below each other, each with its name above."""
    ax.set(xlim=(-0.1, max(map(len, rows.values())) + 0.1), aspect="equal")
    ax.set_ylim(2 * len(rows) + 0.1, 0)
    for number, (name, values) in enumerate(rows.items()):
        ax.text(0, 2 * number + 0.8, name, fontsize=11.5, va="bottom")
        for place, value in enumerate(values.tolist()):
            _draw_cell(ax, (place, 2 * number + 1), value, colors[value])


def _draw_alignment(ax: Axes, a: tuple, b: tuple, result: tuple | None) -> None:
    """The lengths of both shapes, aligned on the right; what is stretched, and what cannot be."""
    axes = max(len(a), len(b), 1)
    rows = {"a": a, "b": b} | ({"a + b": result} if result is not None else {})
    ax.set(xlim=(-4, axes + 4), ylim=(len(rows) + 0.1, -0.1), aspect="equal")
    for row, (name, shape) in enumerate(rows.items()):
        ax.text(-0.4, row + 0.5, name, ha="right", va="center", fontsize=12)
        for axis in range(-axes, 0):
            lengths = {s[axis] for s in (a, b) if len(s) >= -axis}
            own = shape[axis] if len(shape) >= -axis else None
            stretched = row < 2 and (own is None or own == 1) and bool(lengths - {1})
            fill = PALE if stretched else FILLS[row]
            if len(lengths - {1}) > 1:
                fill = "#f0b8a0"
            _draw_cell(ax, (axes + axis, row), "" if own is None else own, fill, not stretched)


def _write(ax: Axes, text: str, color: str = plot.BLACK) -> None:
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=13, color=color, linespacing=1.5)


def _is_first(tensor: Tensor, shape: Sequence[int]) -> list[bool]:
    """For each cell of `tensor` stretched to `shape`: whether it is no repetition."""
    real = torch.zeros(shape, dtype=torch.bool)
    lengths = [1] * (len(shape) - tensor.ndim) + list(tensor.shape)
    real[tuple(slice(length) for length in lengths)] = True
    return real.flatten().tolist()


def _walk_back(start) -> tuple[dict, list[tuple]]:
    """Every node behind `start` with its greatest distance from it, and the edges."""
    depth, edges, waiting = {start: 0}, [], [start]
    while waiting:
        node = waiting.pop(0)
        for source, _ in node.next_functions:
            if source is None:  # a constant: nothing asks for its gradient
                continue
            if (node, source) not in edges:
                edges.append((node, source))
            if depth.get(source, -1) < depth[node] + 1:
                depth[source] = depth[node] + 1
                waiting.append(source)
    return depth, edges


def _slopes(loss: Tensor, nodes: Iterable) -> dict[tuple, float]:
    """For each pair of a node and its source: how much the one grows per unit of the other."""
    slopes: dict[tuple, float] = {}

    def watch(node):
        def note(towards: Sequence[Tensor | None], arrived: Sequence[Tensor]) -> None:
            for (source, _), gradient in zip(node.next_functions, towards, strict=True):
                if source is not None:
                    slope = (gradient / arrived[0]).item()
                    slopes[node, source] = slopes.get((node, source), 0.0) + slope

        return node.register_hook(note)

    hooks = [watch(node) for node in nodes if not hasattr(node, "variable")]
    leaves = [node.variable for node in nodes if hasattr(node, "variable")]
    torch.autograd.grad(loss, leaves, retain_graph=True)  # unlike backward, it changes no leaf
    for hook in hooks:
        hook.remove()
    return slopes


def _label(node, leaves: Mapping[int, str]) -> str:
    if not hasattr(node, "variable"):
        return node.name().removesuffix("0").removesuffix("Backward").lower()
    leaf = node.variable
    name = leaves.get(id(leaf), "leaf")
    if leaf.numel() > 1:
        return f"{name}\nshape {tuple(leaf.shape)}"
    gradient = "none" if leaf.grad is None else f"{leaf.grad.item():g}"
    return f"{name} = {leaf.item():g}\ngradient {gradient}"


def _reach(label: str) -> float:
    """From the middle of a box with `label` to beyond its side, in points."""
    return 12 + 4 * max(map(len, label.split("\n")))
