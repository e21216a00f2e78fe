"""The figures of chapter 07's lab draw what they say."""

import pytest
import torch

from course_lib.teaching import plot
from course_lib.teaching.figures import ch07_lab as figures


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were shown."""
    found = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: found.append(fig))
    return found


def test_dots_show_every_seed_and_give_the_means(drawn):
    panels = {"loss": {"a": torch.tensor([1.0, 3]), "b": torch.tensor([5.0, 6])}}
    assert figures.dots(panels, "c", "a", zero=True) == {"loss": {"a": 2.0, "b": 5.5}}
    ax = drawn[0].axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 3], [5, 6]]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b"]
    assert ax.get_ylim()[0] == 0 and ax.get_title() == "loss"


def test_paths_are_means_with_a_ring_at_the_end(drawn):
    x, y = torch.tensor([[5.0, 4, 3], [7.0, 6, 5]]), torch.tensor([[0.0, 1, 2], [2.0, 3, 4]])
    shown = figures.paths({"n": (x, y)}, ("x", "y"), "c", "a")
    assert shown == {"n": {"x": [6.0, 5.0, 4.0], "y": [1.0, 2.0, 3.0]}}
    strong, first, second, ring = drawn[0].axes[0].lines
    assert list(strong.get_xdata()) == [6, 5, 4] and list(strong.get_ydata()) == [1, 2, 3]
    assert list(first.get_ydata()) == [0, 1, 2] and list(second.get_xdata()) == [7, 6, 5]
    assert ring.get_xydata().tolist() == [[4.0, 3.0]]


def test_growth_has_one_scale_in_all_panels(drawn):
    panels = {"p": {"few": torch.tensor([1.0, 3])}, "q": {"s": torch.tensor([9.0, 9])}}
    assert figures.growth(panels, "y", "c", "a") == {"p": {"few": 2.0}, "q": {"s": 9.0}}
    first, second = drawn[0].axes
    assert first.get_ylim() == second.get_ylim() and first.get_ylim()[1] >= 9
    assert (first.get_xlabel(), second.get_xlabel()) == ("p", "q")


def test_ladder_has_a_row_for_each_step_and_room_for_its_numbers(drawn):
    panels = {"speed": [10.0, 1000.0], "loss": [3.0, 1.0]}
    shown = figures.ladder(["a", "b"], panels, "c", "a")
    assert shown == {"speed": {"a": 10.0, "b": 1000.0}, "loss": {"a": 3.0, "b": 1.0}}
    speed, loss = drawn[0].axes
    assert speed.get_xscale() == "log" and loss.get_xscale() == "linear"
    assert speed.get_xlim()[0] < 10 and speed.get_xlim()[1] > 1000 and loss.get_xlim()[1] > 3
    assert [bar.get_width() for bar in loss.patches] == [3.0, 1.0]
    assert [text.get_text() for text in speed.texts] == ["10", "1,000"]
    assert loss.yaxis.get_inverted()
