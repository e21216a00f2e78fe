"""The figures of chapter 04's lab draw what they say."""

import pytest
import torch

from course_lib.teaching import plot
from course_lib.teaching.figures import ch04_lab as figures


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were shown."""
    found = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: found.append(fig))
    return found


def test_curves_are_means_over_seeds_of_means_over_the_last_steps(displayed):
    values = torch.tensor([[1.0, 2, 3, 4], [3.0, 4, 5, 12]])
    shown = figures.curves({"n": values}, ("x", "y"), "c", "a", window=2)
    assert shown == {"n": [2.0, 2.5, 3.5, 6.0]}
    assert figures.curves({"n": values}, ("x", "y"), "c", "a", window=1)["n"] == [2, 3, 4, 8]


def test_a_window_may_be_longer_than_the_run(displayed):
    values = torch.tensor([[4.0, 2, 0.6]])
    shown = figures.curves({"n": values}, ("x", "y"), "c", "a", window=9)
    assert shown["n"] == pytest.approx([4.0, 3.0, 2.2])


def test_every_seed_has_a_thin_line_of_its_kinds_colour(drawn):
    series = {"a": torch.rand(3, 10) + 0.5, "b": torch.rand(3, 10) + 1}
    figures.curves(series, ("x", "y"), "c", "a")
    (fig,) = drawn
    ax = fig.axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    colors = [line.get_color() for line in ax.lines]
    assert len(colors) == 8 and len(set(colors[:4])) == len(set(colors[4:])) == 1
    assert colors[0] != colors[4] and ax.lines[0].get_xdata()[0] == 1
    low, high = ax.get_ylim()
    assert all(low <= tick <= high for tick in ax.get_yticks())


def test_company_names_the_likeliest_class_in_each(displayed):
    probabilities = {"p": torch.tensor([0.2, 0.8]), "q": torch.tensor([0.6, 0.4])}
    shown = figures.company(torch.rand(1, 6, 6), probabilities, ("x", "y"), "c", "a")
    assert shown == {"p": "y", "q": "x"}


def test_company_draws_the_probabilities_in_their_order(drawn):
    probabilities = {"p": torch.tensor([0.2, 0.8]), "q": torch.tensor([0.6, 0.4])}
    figures.company(torch.rand(1, 6, 6), probabilities, ("x", "y"), "c", "a")
    _, first, second = drawn[0].axes
    assert [ax.get_title() for ax in (first, second)] == ["p", "q"]
    assert [bar.get_width() for bar in second.patches] == pytest.approx([0.6, 0.4])
    assert [label.get_text() for label in first.get_yticklabels()] == ["x", "y"]
    assert not any(label.get_text() for label in second.get_yticklabels())
