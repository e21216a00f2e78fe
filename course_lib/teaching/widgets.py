"""Things to play with: sliders over pure functions, and a canvas to draw digits on.

Each widget is shown together with a picture or text that stands in for it wherever widgets cannot
run, e.g. in a notebook read on a web page.
"""

import asyncio
import base64
import html as html_escape
from collections.abc import Callable
from pathlib import Path

import anywidget
import ipywidgets
import torch
import torch.nn.functional as F
import traitlets
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.teaching import plot

REDRAW_AFTER = 0.03  # seconds without a new value: a dragged slider redraws once, not per pixel
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CANVAS_SIDE = 84  # pixels that the canvas sends: three to each one that the network sees


def show(
    widget: ipywidgets.DOMWidget,
    text: str,
    *,
    html: str | None = None,
    png: bytes | None = None,
) -> None:
    """Display `widget`, with `html` or `png` where widgets cannot run, and `text` elsewhere."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    bundle = {WIDGET_VIEW: view, "text/plain": f"[widget] {text}"}
    metadata = {}
    if html is not None:
        bundle["text/html"] = html
    if png is not None:
        bundle["image/png"] = base64.b64encode(png).decode()
        metadata["image/png"] = {"alt": text}
    display(bundle, raw=True, metadata=metadata)


def explore(
    draw: Callable[..., Figure], alt: str, caption: str, **controls: ipywidgets.Widget
) -> ipywidgets.VBox:
    """Sliders and menus over `draw`, a pure function that returns a figure.

    Args:
        draw: called with the value of each control, by the control's name.
        alt: what the picture shows, for screen readers.
        caption: what to try, shown below.
        controls: ipywidgets such as `IntSlider`.

    Returns:
        The widget, already shown.
    """
    picture = ipywidgets.HTML()

    def redraw() -> bytes:
        fig = draw(**{name: control.value for name, control in controls.items()})
        png = plot.to_png(fig)
        picture.value = _img(png, alt)
        return png

    redraw_soon = _coalesce(redraw)
    for control in controls.values():
        control.observe(lambda _: redraw_soon(), names="value")
    first = redraw()
    note = ipywidgets.HTML(f"{style()}<i>{html_escape.escape(caption)}</i>")
    box = ipywidgets.VBox([*controls.values(), picture, note])
    box.add_class("course-explorer")
    show(box, f"{alt} {caption}", png=first)
    return box


def style() -> str:
    """The course's style sheet for widgets, to be put into an HTML widget of each box."""
    sheet = (Path(__file__).parent / "widgets.css").read_text(encoding="utf-8")
    return f"<style>{sheet}</style>"


def slider(
    label: str, low: float, high: float, value: float, step: float
) -> ipywidgets.FloatSlider | ipywidgets.IntSlider:
    """A slider wide enough for its label; whole numbers where all the values are whole."""
    whole = all(float(number).is_integer() for number in (low, high, value, step))
    kind, cast = (ipywidgets.IntSlider, int) if whole else (ipywidgets.FloatSlider, float)
    return kind(
        value=cast(value),
        min=cast(low),
        max=cast(high),
        step=cast(step),
        description=label,
        style={"description_width": "9em"},
        layout=ipywidgets.Layout(width="32em", max_width="100%"),
    )


class DrawDigit(anywidget.AnyWidget):
    """A canvas for mouse, finger or arrow keys, with the prediction beside it.

    The front end sends what is drawn; `predict` answers with ten probabilities.

    Args:
        predict: float (1, 1, 28, 28) in 0 .. 1 -> probabilities (10,).
    """

    _esm = Path(__file__).parent / "draw_digit.js"
    _css = Path(__file__).parent / "draw_digit.css"

    # CANVAS_SIDE x CANVAS_SIDE grey values, row by row; they arrive as a memoryview.
    drawing = traitlets.CBytes().tag(sync=True)
    side = traitlets.Int(CANVAS_SIDE).tag(sync=True)
    probabilities = traitlets.List(trait=traitlets.Float()).tag(sync=True)
    seen = traitlets.Bytes().tag(sync=True)  # the 28 x 28 grey values that the network got

    def __init__(self, predict: Callable[[Tensor], Tensor]):
        super().__init__()
        self._predict = predict
        self.observe(self._answer, names="drawing")

    def _answer(self, _: object) -> None:
        pixels = torch.frombuffer(bytearray(self.drawing), dtype=torch.uint8)
        image = centre_digit(pixels.view(self.side, self.side).float() / 255)
        blank = image.max() == 0
        self.seen = (image * 255).byte().numpy().tobytes()
        self.probabilities = [] if blank else self._predict(image[None, None]).tolist()


def draw_digit(predict: Callable[[Tensor], Tensor], example: Tensor) -> DrawDigit:
    """Show a `DrawDigit`; `example` (1, 28, 28) stands in where widgets cannot run."""
    widget = DrawDigit(predict)
    fig = prediction_figure(example, predict(example[None]), "an example")
    show(widget, "A canvas: draw a digit and see what it is taken for.", png=plot.to_png(fig))
    return widget


def prediction_figure(image: Tensor, probabilities: Tensor, title: str = "") -> Figure:
    """A digit (1, H, W) and the bars of its ten probabilities (10,), side by side."""
    fig, axes = plot.figure(7.5, 3.2, columns=2)
    plot.draw_image(axes[0, 0], image, title)
    plot.probability_bars(axes[0, 1], probabilities, [str(digit) for digit in range(10)])
    return fig


def centre_digit(drawing: Tensor) -> Tensor:
    """Bring a drawing into the form of an MNIST digit.

    As LeCun et al. (1998) prepared theirs: the strokes, cropped and scaled to fit a box of 20 x 20
    pixels, are placed so that their centre of mass is the centre of a 28 x 28 image.

    Args:
        drawing: float (H, W) in 0 .. 1, bright on dark, of any size.

    Returns:
        Float (28, 28) in 0 .. 1; all zero for an empty drawing.
    """
    rows, columns = torch.nonzero(drawing > 0.1, as_tuple=True)
    image = torch.zeros(28, 28)
    if len(rows) == 0:
        return image
    top, left = rows.min().item(), columns.min().item()
    strokes = drawing[top : rows.max() + 1, left : columns.max() + 1]
    scale = 20 / max(strokes.shape)
    size = [max(1, round(side * scale)) for side in strokes.shape]
    strokes = F.interpolate(strokes[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    strokes = strokes / strokes.max()  # shrinking dims thin strokes

    mass = strokes.sum()
    centre = [
        (strokes.sum(dim=1 - axis) * torch.arange(strokes.shape[axis])).sum() / mass
        for axis in (0, 1)
    ]
    y, x = (
        min(max(round(13.5 - middle.item()), 0), 28 - length)
        for middle, length in zip(centre, strokes.shape, strict=True)
    )
    image[y : y + strokes.shape[0], x : x + strokes.shape[1]] = strokes.clamp(0, 1)
    return image


def _img(png: bytes, alt: str) -> str:
    source = base64.b64encode(png).decode()
    alt = html_escape.escape(alt, quote=True)
    return f'<img src="data:image/png;base64,{source}" alt="{alt}" style="max-width:100%">'


def _coalesce(function: Callable[[], object]) -> Callable[[], None]:
    """A function that calls `function` once after a burst of calls; at once without a loop."""
    waiting: list[asyncio.TimerHandle] = []

    def call_soon() -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            function()
            return
        if waiting:
            waiting.pop().cancel()
        waiting.append(loop.call_later(REDRAW_AFTER, function))

    return call_soon
