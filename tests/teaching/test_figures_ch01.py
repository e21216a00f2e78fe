"""The figures of chapter 01: pure, drawn for every choice a widget offers, true to their data."""

import itertools

import pytest
import torch
from torch import nn

from course_lib.teaching import plot
from course_lib.teaching.figures import ch01


@pytest.mark.parametrize("operation", ch01.OPERATIONS)
def test_every_choice_of_the_strides_widget_is_drawn_the_same_each_time(operation):
    for shape in ch01.SHAPES.values():
        start, result = ch01.apply(shape, operation)
        assert tuple(start.shape) == shape and (result is None or result.numel() > 0)
        first, second = (plot.to_png(ch01.strides_figure(shape, operation)) for _ in range(2))
        assert first == second


def test_the_widget_offers_views_copies_and_an_error():
    start, turned = ch01.apply((3, 4), "t.mT (rows become columns)")
    assert ch01.share_memory(start, turned)
    start, copied = ch01.apply((3, 4), "t.mT.reshape(-1)")
    assert not ch01.share_memory(start, copied)
    assert ch01.apply((3, 4), "t.mT.view(-1)")[1] is None


def texts(fig):
    return [text.get_text() for axes in fig.axes for text in axes.texts]


def test_a_copy_is_drawn_with_its_own_memory_and_an_error_with_its_reason():
    said = "new memory of the result: a copy"
    assert said in texts(ch01.strides_figure((3, 4), "t.flip(-1)"))
    assert said not in texts(ch01.strides_figure((3, 4), "t[1:]"))
    assert any("raises an error" in t for t in texts(ch01.strides_figure((3, 4), "t.mT.view(-1)")))


def test_every_pair_of_shapes_of_the_broadcasting_widget_is_drawn():
    for a, b in itertools.combinations_with_replacement(ch01.BROADCAST_SHAPES.values(), 2):
        found = texts(ch01.broadcasting_figure(a, b))
        try:
            torch.broadcast_shapes(a, b)
            assert "a + b" in found
        except RuntimeError:
            assert any("do not fit on axis" in text for text in found), (a, b)


def test_stretched_cells_stand_back():
    assert ch01._is_first(torch.zeros(3, 1), (3, 2)) == [True, False] * 3
    assert ch01._is_first(torch.zeros(2), (2, 2)) == [True, True, False, False]
    assert ch01._is_first(torch.zeros(()), (2,)) == [True, False]


def test_memory_returns_the_places(displayed):
    t = torch.arange(6).view(2, 3)
    drawn = ch01.memory({"t": t, "t.T": t.T, "t[:, 1]": t[:, 1]}, "c", "a")
    assert drawn == {"t": t.tolist(), "t.T": t.T.tolist(), "t[:, 1]": [1, 4]}
    assert len(displayed) == 2


def test_the_graph_is_the_one_autograd_recorded(displayed):
    w, b = (torch.tensor(value, requires_grad=True) for value in (3.0, 1.0))
    line = w * 2 + b
    loss = line * w  # w is used twice
    loss.backward(retain_graph=True)
    drawn = ch01.graph(loss, {"w": w, "b": b, "line": line}, "c", "a")
    assert drawn["operations"] == ["mul", "add", "mul"]
    assert sorted(drawn["leaves"]) == ["b = 1", "w = 3"]
    assert sorted(drawn["edges"]) == sorted(
        [("add", "mul"), ("w = 3", "mul"), ("mul", "add"), ("b = 1", "add"), ("w = 3", "mul")]
    )
    slopes = sorted(zip(drawn["edges"], drawn["slopes"], strict=True))
    assert [slope for _, slope in slopes] == [3.0, 1.0, 1.0, 2.0, 7.0]  # the line is 7 and w is 3
    assert w.grad == 13  # drawing leaves it as it was


def test_slopes_of_a_value_used_twice_add_up():
    w = torch.tensor(3.0, requires_grad=True)
    loss = w * w
    nodes, ((node, source),) = ch01._walk_back(loss.grad_fn)
    assert ch01._slopes(loss, nodes) == {(node, source): 6.0}


def test_a_leaf_without_a_gradient_and_a_large_one_are_named():
    loss = torch.ones(2, 3, requires_grad=True).sum() * torch.tensor(2.0, requires_grad=True)
    nodes, _ = ch01._walk_back(loss.grad_fn)
    labels = {ch01._label(node, {}) for node in nodes}
    assert labels == {"mul", "sum", "leaf\nshape (2, 3)", "leaf = 2\ngradient none"}


def test_curves_return_what_they_drew(displayed):
    def height(x, y):
        return x**2 + y**2

    path = torch.tensor([[-2.0, 0.5], [-1.0, 0.0]])
    assert ch01.valley(height, {"SGD": path}, "c", "a") == {"SGD": 1.0}
    assert ch01.layer_sizes({"a": [1.0, 2.0]}, "c", "a") == {"a": [1.0, 2.0]}
    assert ch01.noise([1, 4], {"a": [1.0, 0.5]}, "c", "a") == {"a": [1.0, 0.5]}
    assert ch01.class_weights(nn.Linear(784, 10), "c", "a") == {"shape": [10, 28, 28]}
    assert len(displayed) == 8
