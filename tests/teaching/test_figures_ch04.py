"""The figures of chapter 04 draw what they say."""

import pytest
import torch

from course_lib.teaching import plot
from course_lib.teaching.figures import ch04 as figures

TEXT = {"caption": "what to see", "alt": "what is drawn"}


def captions(displayed):
    return [bundle["text/plain"] for bundle, _ in displayed if "text/markdown" in bundle]


def test_shared_means_counts_them_and_colours_neighbours_apart(displayed):
    batch = torch.arange(4).expand(3, 4)
    layer = torch.arange(3)[:, None].expand(3, 4)
    each = torch.arange(12).view(3, 4)
    counts = figures.shared_means({"batch": batch, "layer": layer, "each": each}, **TEXT)
    assert counts == {"batch": 4, "layer": 3, "each": 12}
    assert len(set(figures.COLORS)) == len(figures.COLORS) >= 12
    assert captions(displayed) == ["what to see"]


def test_the_matrix_frames_what_has_changed():
    usual = torch.zeros(3, 2)
    after = usual.clone()
    after[:, 1] = 0.5
    assert figures.touched(after, usual).tolist() == [[False, True]] * 3
    frames = [
        len(figures.matrix_figure(usual, values, usual, "t").axes[1].patches)
        for values in (usual, after, usual + 1e-6)
    ]
    assert frames == [0, 3, 0]


def test_every_control_changes_the_matrix():
    def draw(before=0.0, after=0.0, title="t"):
        matrices = torch.full((3, 2), before), torch.full((3, 2), after), torch.zeros(3, 2)
        return plot.to_png(figures.matrix_figure(*matrices, title))

    assert draw() == draw()
    assert len({draw(), draw(before=1.0), draw(after=1.0), draw(title="u")}) == 4


CURVES = {
    True: {0.1: [50.0, 80.0], 1.0: [60.0, 85.0]},
    False: {0.1: [40.0, 70.0], 1.0: [10.0, 10.0]},
}


def test_the_rates_figure_shows_the_rate_that_is_asked_for():
    fig = figures.rates_figure(1.0, [0.1, 1.0], [10, 20], CURVES)
    left, right = fig.axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[60.0, 85.0], [10.0, 10.0]]
    assert left.get_title() == "learning rate 1" and right.get_title() == "after 20 steps"
    assert [line.get_ydata().tolist() for line in right.lines[::2]] == [[80.0, 85.0], [70.0, 10.0]]
    other = figures.rates_figure(0.1, [0.1, 1.0], [10, 20], CURVES)
    assert plot.to_png(fig) != plot.to_png(other)


def test_curves_and_distributions_return_what_they_draw(displayed):
    seeds = {True: torch.tensor([[1.0, 2.0], [3.0, 4.0]]), False: torch.zeros(2, 2)}
    drawn = figures.two_curves([10, 20], seeds, "loss", **TEXT)
    assert drawn == {True: [2.0, 3.0], False: [0.0, 0.0]}
    values = {True: torch.tensor([-1.0, 1.0]), False: torch.tensor([0.0, 0.0])}
    drawn = figures.distributions({"layer 1": values, "layer 2": values}, 3.0, **TEXT)
    assert drawn["layer 2"] == {True: pytest.approx(2**0.5), False: 0.0}
    assert captions(displayed) == ["what to see"] * 2


def test_scales_and_running_means_return_what_they_draw(displayed):
    weight, bias = torch.tensor([0.5, -1.0, 2.0]), torch.zeros(3)
    drawn = figures.scales({"a": (weight, bias), "b": (weight + 1, bias)}, **TEXT)
    assert drawn == {"a": [-1.0, 2.0], "b": [0.0, 3.0]}
    assert figures.followed(1.0, {"0.1": [0.1, 0.2], "1": [1.1, 0.9]}, **TEXT) == {
        "0.1": 0.2,
        "1": 0.9,
    }
    assert captions(displayed) == ["what to see"] * 2
