"""The figures of chapter 12's lab draw what they say."""

import pytest
import torch

from course_lib.teaching import plot
from course_lib.teaching.figures import ch12_lab as figures


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were shown."""
    found = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: found.append(fig))
    return found


def test_one_place_draws_each_anchor_around_its_place_and_counts_shapes(drawn):
    wide, high = torch.tensor([4.0, 2, 4]), torch.tensor([2.0, 8, 2])
    assert figures.one_place({"r": (wide, high)}, "c", "a") == {"r": 2}  # two are the same
    ax = drawn[0].axes[0]
    shapes = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in ax.patches]
    assert shapes[0] == (-2, -1, 4, 2) and shapes[1] == (-1, -4, 2, 8)
    assert ax.get_title() == "r: 3" and ax.get_xlim()[1] > 4


def test_curves_are_the_numbers_given(drawn):
    panels = {"p": {"n": [1.0, 10.0], "m": [2.0, 20.0]}}
    assert figures.curves([1, 10], panels, ("x", "y"), "c", "a", log=True) == panels
    ax = drawn[0].axes[0]
    assert [list(line.get_ydata()) for line in ax.lines] == [[1, 10], [2, 20]]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "10"]
    assert figures.curves([1, 10], panels, ("x", "y"), "c", "a") == panels
    assert drawn[1].axes[0].get_xscale() == "linear"


def test_regions_show_a_row_for_each_way(drawn):
    image, features = torch.rand(3, 32, 32), torch.rand(3, 8, 8)
    parts = {"a": torch.rand(2, 3, 4, 4), "b": torch.rand(2, 3, 5, 5)}
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 5, 20, 30]])
    shapes = figures.regions(image, features, boxes, parts, "c", "a")
    assert shapes == {"a": [2, 3, 4, 4], "b": [2, 3, 5, 5]}
    titles = [ax.get_title() for ax in drawn[0].axes]
    assert titles == ["the image", "its features, 8 x 8", "a 1", "a 2", "b 1", "b 2"]
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["1", "2"]


def test_outlines_give_the_iou_and_show_all_of_both_masks(drawn):
    truth = torch.zeros(1, 20, 20, dtype=torch.bool)
    truth[0, 4:8, 4:8] = True
    moved = truth.roll(2, dims=2)
    images = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    values = figures.outlines(images, truth, {"same": truth, "moved": moved}, "c", "a", margin=1)
    assert values["same"] == [1] and values["moved"] == [pytest.approx(8 / 24)]
    same, other = drawn[0].axes
    assert other.get_title() == "moved: 0.33"
    assert other.get_xlim() == (3, 10) and same.get_xlim() == (3, 8)
    pixels = other.images[0].get_array()
    assert pixels[5, 5, 2] > 0.3 and pixels[0, 0].sum() == 0  # the right mask is blue
