"""The figures of chapter 06's lab return what they draw."""

import torch

from course_lib.teaching.figures import ch06_lab as figures

WORDS = {"caption": "what to see", "alt": "what is there"}


def test_outcomes_gives_its_table_back():
    table = {"way": ["zeros, fine", "NaN"], "other": ["mean", "raises"]}
    drawn = figures.outcomes(table, ["a", "b"], {"zeros,": figures.GOOD}, **WORDS)
    assert drawn == table


def test_counters_gives_shapes():
    codes = {"one": torch.ones(8, 3), "two": torch.zeros(8, 4)}
    assert figures.counters(codes, **WORDS) == {"one": [8, 3], "two": [8, 4]}


def test_curves_and_points_gives_means():
    curves = {"a": torch.rand(5, 3), "b": torch.rand(5, 3)}
    points = {"end": {"a": torch.arange(5.0), "b": torch.ones(5)}, "sum": {"b": torch.zeros(5)}}
    drawn = figures.curves_and_points([1, 2, 3], curves, points, "right (%)", **WORDS)
    assert drawn == {"end": {"a": 2.0, "b": 1.0}, "sum": {"b": 0.0}}
