"""Widgets: the functions behind them, and what they show where they cannot run."""

import asyncio
import base64

import pytest
import torch

from course_lib.teaching import plot, widgets


def text_figure(**values):
    text_figure.calls.append(values)
    fig, axes = plot.figure(2, 1)
    axes[0, 0].set_title(str(values))
    return fig


@pytest.fixture
def calls():
    text_figure.calls = []
    return text_figure.calls


def explore():
    return widgets.explore(
        text_figure, "A <title>", "Move it.", a=widgets.slider("a", 0, 10, 3, 1),
        b=widgets.slider("b", 0, 1, 0.5, 0.1),
    )  # fmt: skip


def test_moving_a_slider_redraws_with_its_value(calls, displayed):
    box = explore()
    picture = box.children[2]
    before = picture.value
    box.children[0].value = 4
    assert calls == [{"a": 3, "b": 0.5}, {"a": 4, "b": 0.5}]
    assert picture.value != before and 'alt="A &lt;title&gt;"' in picture.value


def test_a_dragged_slider_redraws_once(calls, displayed):
    async def drag():
        box = explore()
        for value in range(4, 10):
            box.children[0].value = value
        await asyncio.sleep(4 * widgets.REDRAW_AFTER)

    asyncio.run(drag())
    assert [call["a"] for call in calls] == [3, 9]


def test_a_picture_stands_in_where_widgets_cannot_run(calls, displayed):
    explore()
    bundle, metadata = displayed[0]
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == "A <title> Move it."
    assert widgets.WIDGET_VIEW in bundle and bundle["text/plain"].startswith("[widget] A <title>")


def test_sliders_take_whole_numbers_where_all_are_whole():
    assert isinstance(widgets.slider("n", 0, 5, 1, 1).value, int)
    assert isinstance(widgets.slider("n", 0, 5, 1, 0.5).value, float)


# --- drawing digits ----------------------------------------------------------------------------


def pad_with_stroke(top, left, height, width, side=84):
    pad = torch.zeros(side, side)
    pad[top : top + height, left : left + width] = 1.0
    return pad


@pytest.mark.parametrize("top, left", [(2, 2), (2, 70), (30, 40), (40, 5)])
def test_a_digit_is_the_same_wherever_it_is_drawn(top, left):
    expected = widgets.centre_digit(pad_with_stroke(20, 30, 40, 8))
    assert torch.equal(widgets.centre_digit(pad_with_stroke(top, left, 40, 8)), expected)


@pytest.mark.parametrize("side", [84, 200, 30])
def test_strokes_fill_a_box_of_20_and_are_centred_by_weight(side):
    digit = widgets.centre_digit(pad_with_stroke(side // 4, 3, side // 2, side // 8, side))
    rows, columns = torch.nonzero(digit > 0.1, as_tuple=True)
    assert rows.max() - rows.min() + 1 == 20
    weight = digit / digit.sum()
    centre = [(weight.sum(dim=1 - axis) * torch.arange(28)).sum().item() for axis in (0, 1)]
    assert centre == pytest.approx([13.5, 13.5], abs=0.51)
    assert (
        digit.shape == (28, 28) and digit.min() >= 0 and digit.max() == pytest.approx(1, abs=0.01)
    )


def test_an_uneven_shape_is_placed_by_weight_not_by_its_box():
    pad = pad_with_stroke(10, 10, 60, 12)
    pad[62:70, 10:60] = 1.0  # an L: its weight lies low and left in its box
    digit = widgets.centre_digit(pad)
    rows = torch.nonzero(digit > 0.1)[:, 0]
    assert (rows.min() + rows.max()) / 2 < 13.5


@pytest.mark.parametrize("pad", [torch.zeros(84, 84), torch.ones(84, 84)])
def test_empty_and_full_drawings(pad):
    digit = widgets.centre_digit(pad)
    assert digit.isfinite().all() and (digit.sum() > 0) == (pad.sum() > 0)


def test_a_wide_mark_keeps_its_proportions():
    digit = widgets.centre_digit(pad_with_stroke(40, 2, 6, 80))
    rows, columns = torch.nonzero(digit > 0.1, as_tuple=True)
    assert columns.max() - columns.min() + 1 == 20 and rows.max() - rows.min() <= 2


def test_drawing_asks_the_network_and_clearing_does_not():
    asked = []

    def predict(image):
        asked.append(image)
        return torch.full((10,), 0.1)

    widget = widgets.DrawDigit(predict)
    widget.drawing = (pad_with_stroke(20, 30, 40, 8) * 255).byte().numpy().tobytes()
    assert asked[0].shape == (1, 1, 28, 28)
    assert widget.probabilities == pytest.approx([0.1] * 10)
    assert max(widget.seen) == 255 and len(widget.seen) == 28 * 28
    widget.set_state({"drawing": memoryview(bytes(84 * 84))})  # as it comes from the browser
    assert len(asked) == 1 and widget.probabilities == [] and max(widget.seen) == 0
