"""Figures in one style, each with a visible caption and a text for those who cannot see it.

Every function here draws, displays, and returns the data it drew, so that a notebook can assert on
it: a picture is never compared, its data is.
"""

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image
from torch import Tensor

from course_lib import runtime
from course_lib.teaching import course
from course_lib.train import History

# Okabe and Ito's colours: told apart by every kind of colour vision.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PINK, YELLOW, BLACK = "#56b4e9", "#cc79a7", "#f0e442", "#1a1a1a"
# Large type for the projector; an opaque ground, so that dark mode cannot swallow the labels.
STYLE = {
    "figure.facecolor": "#fdfdfb",
    "axes.facecolor": "#fdfdfb",
    "savefig.facecolor": "#fdfdfb",
    "figure.dpi": 100,
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "axes.prop_cycle": matplotlib.cycler(color=[BLUE, RED, GREEN, ORANGE, PINK, SKY, BLACK]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e0",
    "lines.linewidth": 2.2,
    "legend.frameon": False,
}


def figure(
    width: float = 8.0, height: float = 4.0, *, rows: int = 1, columns: int = 1
) -> tuple[Figure, np.ndarray]:
    """A figure in the course's style, and its axes as an array (rows, columns); sizes in inches."""
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        axes = fig.subplots(rows, columns, squeeze=False)
    return fig, axes


def to_png(fig: Figure) -> bytes:
    """The figure as PNG, without a date or version in it."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        fig.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _with_palette(png: bytes) -> bytes:
    """The picture in 256 colours of its own choice: a third of the size, to the eye the same."""
    picture, out = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    options = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
    picture.quantize(256, kmeans=1, **options).save(out, "PNG", optimize=True)
    return out.getvalue()


def show(fig: Figure, caption: str, alt: str) -> None:
    """Display `fig` with a caption that says what to see, and `alt` for screen readers.

    Raises:
        ValueError: `caption` or `alt` is empty.
    """
    if not caption.strip() or not alt.strip():
        raise ValueError(f"caption is {caption!r} and alt is {alt!r}; both must say something")
    bundle = {
        "image/png": base64.b64encode(_with_palette(to_png(fig))).decode(),
        "text/plain": f"[figure] {alt}",
    }
    display(bundle, raw=True, metadata={"image/png": {"alt": alt}})
    display({"text/markdown": f"*{caption}*", "text/plain": caption}, raw=True)


def hide_axes(axes: Axes) -> None:
    """Leave only what is drawn inside."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_image(axes: Axes, image: Tensor, title: str = "", *, color: str = BLACK) -> None:
    """Draw one image (C, H, W), C = 1 or 3, uint8 or float 0 .. 1, with square pixels."""
    pixels = image.detach().cpu().permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
    top = 255 if pixels.dtype == np.uint8 else 1.0
    if pixels.shape[2] == 1:
        axes.imshow(pixels[:, :, 0], cmap="gray", vmin=0, vmax=top, interpolation="nearest")
    else:
        axes.imshow(pixels.clip(0, top), interpolation="nearest")
    axes.set_title(title, color=color, fontsize=12)
    hide_axes(axes)


def images(
    batch: Tensor, titles: Sequence[str], caption: str, alt: str, *, columns: int = 8
) -> dict[str, list]:
    """A grid of images (N, C, H, W), each with its title."""
    rows = -(-len(batch) // columns)
    fig, axes = figure(1.25 * columns, 1.55 * rows, rows=rows, columns=columns)
    for ax in axes.flat:
        hide_axes(ax)
    for ax, image, title in zip(axes.flat, batch, titles, strict=False):
        draw_image(ax, image, title)
    show(fig, caption, alt)
    return {"titles": list(titles), "shape": list(batch.shape)}


def training_curve(
    history: History, caption: str, alt: str, *, epoch: int | None = None
) -> dict[str, list[float]]:
    """Loss by step, pale as it is and strong as a moving mean, with the learning rate below it.

    Args:
        epoch: its length in steps, for a thin line wherever a new one begins.
    """
    fig, axes = figure(8, 4.6, rows=2)
    data = _draw_history(axes[:, 0], history)
    for step in range(epoch, len(history.loss), epoch) if epoch else ():
        axes[0, 0].axvline(step, color=BLACK, linewidth=1, linestyle=":")
    show(fig, caption, alt)
    return data


def probability_bars(axes: Axes, probabilities: Tensor, names: Sequence[str]) -> None:
    """One horizontal bar per class; the longest stands out."""
    values = probabilities.tolist()
    best = max(range(len(values)), key=values.__getitem__)
    colors = [BLUE if i == best else "#b9c4cc" for i in range(len(values))]
    axes.barh(range(len(values)), values, color=colors)
    axes.set(xlim=(0, 1), xlabel="probability", yticks=range(len(values)), yticklabels=names)
    axes.invert_yaxis()
    axes.grid(False, axis="y")


def bars(
    values: Mapping[str, float],
    label: str,
    caption: str,
    alt: str,
    *,
    errors: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Horizontal bars with their values written at the end; `errors` are standard errors."""
    fig, axes = figure(8, 0.9 + 0.5 * len(values))
    ax = axes[0, 0]
    spread = [errors[name] for name in values] if errors else None
    drawn = ax.barh(range(len(values)), list(values.values()), xerr=spread, color=BLUE)
    ax.bar_label(drawn, fmt="%.3g", padding=4)
    ax.set(yticks=range(len(values)), yticklabels=list(values), xlabel=label)
    ax.margins(x=0.12)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    show(fig, caption, alt)
    return dict(values)


# Where each chapter stands on the map: column and row.
MAP = {0: (1.5, 0), 1: (1.5, 1), 2: (0.5, 2), 3: (0, 3), 4: (1, 3), 5: (1, 4), 10: (0.5, 5)}
MAP |= {11: (1.5, 5), 12: (1.5, 6), 6: (2.5, 2), 7: (2.5, 3), 8: (2, 4), 9: (3, 4)}


def course_map(caption: str, alt: str) -> dict[str, bool]:
    """The chapters with their questions, an arrow from each to those that build on it.

    Returns:
        Whether each chapter, by name, is written.
    """
    fig, axes = figure(10.5, 8.2)
    ax = axes[0, 0]
    ax.set(xlim=(-0.5, 3.5), ylim=(6.4, -0.4))
    ax.grid(False)
    hide_axes(ax)
    boxes = {chapter.number: _draw_chapter(ax, chapter) for chapter in course.CHAPTERS}
    for chapter in course.CHAPTERS:
        for need in chapter.needs:
            arrow = {
                "arrowstyle": "-|>",
                "color": "#8a8a85",
                "linewidth": 1.6,
                "patchA": boxes[need].get_bbox_patch(),
                "patchB": boxes[chapter.number].get_bbox_patch(),
            }
            ax.annotate("", MAP[chapter.number], MAP[need], arrowprops=arrow)
    show(fig, caption, alt)
    return {chapter.name: chapter.is_written for chapter in course.CHAPTERS}


def _draw_chapter(ax: Axes, chapter: course.Chapter) -> Text:
    question = textwrap.fill(chapter.question, 25)
    return ax.text(
        *MAP[chapter.number],
        f"{chapter.number:02d} · {chapter.title}\n{question}",
        ha="center",
        va="center",
        fontsize=10.5,
        linespacing=1.35,
        bbox={
            "boxstyle": "round,pad=0.5",
            "facecolor": "#dcebf5" if chapter.is_written else "#fdfdfb",
            "edgecolor": BLUE if chapter.is_written else "#9a9a95",
            "linestyle": "solid" if chapter.is_written else "dashed",
        },
    )


class LiveCurve:
    """A callback for `train.fit` that redraws the training curve while the network learns.

    Silent under COURSE_TEST, where nobody watches and every output is compared.
    """

    def __init__(self, seconds: float = 1.0):
        self.seconds = seconds  # of training between two drawings
        self._drawn_at = 0.0
        self._handle = None

    def __call__(self, history: History) -> None:
        finished = len(history.loss) == history.steps or history.stopped_early
        due = history.seconds - self._drawn_at >= self.seconds
        if runtime.is_test() or not (due or finished):
            return
        self._drawn_at = history.seconds
        fig, axes = figure(8, 4.6, rows=2)
        _draw_history(axes[:, 0], history)
        bundle = {"image/png": base64.b64encode(to_png(fig)).decode(), "text/plain": "[live curve]"}
        if finished and self._handle is not None:
            # The notebook draws the final curve with its caption; the live one makes room.
            bundle = {"text/plain": f"{len(history.loss)} steps done."}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _draw_history(axes: Sequence[Axes], history: History) -> dict[str, list[float]]:
    smooth = _moving_mean(history.loss, 20)
    top, bottom = axes
    top.plot(history.loss, color=SKY, alpha=0.5, linewidth=1, label="each step")
    top.plot(smooth, color=BLUE, label="mean of 20 steps")
    top.set(xlim=(0, history.steps), ylabel="loss (log scale)", yscale="log")
    _label_log_axis(top)
    top.legend()
    bottom.plot(history.learning_rate, color=ORANGE)
    bottom.set(xlim=(0, history.steps), ylim=(0, None), ylabel="learning rate", xlabel="step")
    return {"loss": list(history.loss), "smooth": smooth}


def _label_log_axis(ax: Axes) -> None:
    """A few plain numbers on a y axis that spans little, where matplotlib labels one on another."""
    low, high = ax.get_ylim()
    if high > 100 * low:
        return  # powers of ten, as usual
    locator = MaxNLocator(4, steps=[1, 2, 5, 10]) if high < 6 * low else LogLocator(subs=(1, 2, 5))
    ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
    ax.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.yaxis.set_minor_formatter(NullFormatter())


def _moving_mean(values: Sequence[float], window: int) -> list[float]:
    sums = np.cumsum([0.0, *values])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return ((sums[ends] - sums[starts]) / (ends - starts)).tolist()
