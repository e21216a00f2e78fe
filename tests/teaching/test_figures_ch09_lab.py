"""The figure of chapter 09's lab draws what it says."""

import torch

from course_lib.teaching import plot
from course_lib.teaching.figures import ch09_lab as figures


def test_budgets_rings_the_lowest_mean_of_each_line(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    losses = {
        "small": torch.tensor([[2.0, 3, 4], [2.0, 1, 4]]),  # means 2, 2, 4: the first of equals
        "large": torch.tensor([[3.0, 2.5, 1], [3.0, 2.5, 2]]),
    }
    assert figures.budgets([1000, 10_000, 100_000], losses, "c", "a") == {"small": 0, "large": 2}
    ax = shown[0].axes[0]
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1k", "10k", "100k"]
    means = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert means["small"] == [2, 2, 4] and means["large"] == [3, 2.5, 1.5]
    rings = [line.get_xydata().tolist() for line in ax.lines if line.get_markersize() == 17]
    assert rings == [[[1000, 2]], [[100_000, 1.5]]]
    dots = [line.get_ydata().tolist() for line in ax.lines if line.get_markersize() == 4]
    assert [2, 1, 4] in dots and [3, 2.5, 1] in dots
