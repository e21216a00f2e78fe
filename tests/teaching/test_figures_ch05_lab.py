"""The figures of chapter 05's lab draw what they say."""

import pytest
import torch

from course_lib.teaching import plot
from course_lib.teaching.figures import ch05_lab as figures

VALUES = torch.tensor([1.0, 3.0, 5.0, 7.0])


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are shown."""
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    return shown


def test_curves_return_means_and_share_one_scale(drawn):
    values = torch.tensor([[1.0, 2, 3], [3, 4, 8]])
    panels = {"a": {"n": values, "m": values + 1}, "b": {"n": 10 * values}}
    means = figures.curves((5, 10, 15), panels, ("x", "y"), "c", "a")
    assert means == {
        "a": {"n": [2.0, 3.0, 5.5], "m": [3.0, 4.0, 6.5]},
        "b": {"n": [20.0, 30.0, 55.0]},
    }
    first, second = drawn[0].axes
    assert first.get_ylim() == second.get_ylim()
    lines = {line.get_label(): line.get_ydata().tolist() for line in first.lines}
    assert lines["n"] == [2.0, 3.0, 5.5] and lines["m"] == [3.0, 4.0, 6.5]
    pale = [line.get_ydata().tolist() for line in first.lines if line.get_alpha()]
    assert pale[:2] == values.tolist()
    assert all(line.get_xdata().tolist() == [5, 10, 15] for line in first.lines)


def test_blocks_return_their_means_and_may_differ_between_series(displayed):
    series = {"a": {"1.1": VALUES, "2.1": 2 * VALUES}, "b": {"2.1": VALUES}}
    means = figures.by_block({"one": series, "two": {"c": {"1.1": VALUES}}}, "y", "c", "a")
    assert means == {
        "one": {"a": {"1.1": 4.0, "2.1": 8.0}, "b": {"2.1": 4.0}},
        "two": {"c": {"1.1": 4.0}},
    }


def test_a_block_stands_at_its_own_place_and_a_line_where_a_stage_begins(drawn):
    blocks = {name: VALUES for name in ("1.1", "1.2", "2.1", "2.2", "3.1")}
    figures.by_block({"": {"all": blocks, "one": {"2.2": 2 * VALUES}}}, "y", "c", "a")
    ax = drawn[0].axes[0]
    whole, single = (container.lines[0] for container in ax.containers)
    assert whole.get_xdata().tolist() == [0, 1, 2, 3, 4]
    assert single.get_xdata().tolist() == [3] and single.get_ydata().tolist() == [8.0]
    borders = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert borders == [1.5, 3.5]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(blocks)
    assert ax.get_ylabel() == "y" and ax.get_ylim()[0] == 0 and ax.get_legend() is not None


def test_bars_are_one_standard_error(drawn):
    figures.by_block({"": {"a": {"1.1": VALUES}}}, "y", "c", "a")
    (bar,) = drawn[0].axes[0].containers[0].lines[2][0].get_segments()
    error = VALUES.std().item() / 2
    assert bar[:, 1] == pytest.approx([4 - error, 4 + error])


def test_rates_return_means_and_mark_what_the_rule_says(drawn):
    losses = {16: torch.stack([VALUES, VALUES + 2]), 64: torch.ones(2, 4)}
    means = figures.rates((0.1, 0.2, 0.4, 0.8), losses, {16: 0.15, 64: 0.6}, "loss", "c", "a")
    assert means == {16: [2.0, 4.0, 6.0, 8.0], 64: [1.0] * 4}
    ax = drawn[0].axes[0]
    marked = {
        line.get_color(): line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"
    }
    colors = [container.lines[0].get_color() for container in ax.containers]
    assert [marked[color] for color in colors] == [0.15, 0.6]
    assert ax.get_xscale() == "log"
