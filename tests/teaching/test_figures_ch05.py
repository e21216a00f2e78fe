"""The figures of chapter 05 draw what they say, and return it."""

import pytest
import torch

from course_lib import classics, resnet
from course_lib.teaching import plot
from course_lib.teaching.figures import ch05 as figures

DEPTHS = (8, 20, 44)


def grid(*shape):
    """Numbers of three seeds for each setting, all different."""
    draw = torch.Generator().manual_seed(0)
    settings = [f"{layers} {kind}" for layers in reversed(DEPTHS) for kind in figures.KINDS]
    return {setting: torch.rand(3, *shape, generator=draw) for setting in settings}


def captions(displayed):
    return [bundle["text/plain"] for bundle, _ in displayed if "text/markdown" in bundle]


def drawn_figure(monkeypatch, draw, *arguments):
    """The figure that a function would display, and what it returns."""
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    value = draw(*arguments, "c", "a")
    return shown[0], value


def test_depths_are_read_from_the_settings_and_sorted():
    assert figures.depths_of(grid()) == [8, 20, 44]


def test_depth_curves_return_the_mean_loss_at_the_end(displayed):
    losses = grid(20)
    ends = figures.depth_curves(losses, "c", "a")
    for kind in figures.KINDS:
        means = [losses[f"{layers} {kind}"][:, -1].mean().item() for layers in DEPTHS]
        assert ends[kind] == pytest.approx(means)
    assert captions(displayed) == ["c"]


def test_both_panels_of_depth_curves_have_the_same_scale(monkeypatch):
    losses = grid(20)
    losses["44 plain"] = losses["44 plain"] + 3
    fig, _ = drawn_figure(monkeypatch, figures.depth_curves, losses)
    assert len({ax.get_ylim() for ax in fig.axes}) == 1
    assert [ax.get_title() for ax in fig.axes] == list(figures.KINDS)
    assert [len(ax.get_legend().get_texts()) for ax in fig.axes] == [3, 3]


def test_runs_return_the_mean_loss_at_the_end(monkeypatch):
    losses = {"short": torch.tensor([[3.0, 1.0], [3.0, 2.0]]), "long": torch.ones(1, 5)}
    fig, ends = drawn_figure(monkeypatch, figures.runs, losses)
    assert ends == {"short": 1.5, "long": 1.0}
    drawn = {line.get_label(): line.get_xdata() for line in fig.axes[0].lines}
    assert list(drawn["short"]) == pytest.approx([25.0, 75.0])
    assert list(drawn["long"]) == pytest.approx([10.0, 30.0, 50.0, 70.0, 90.0])


def test_the_depth_figure_follows_its_slider_and_shows_every_score():
    losses, scores = grid(20), {"training": grid(), "others": grid()}
    pictures = {plot.to_png(figures.depth_figure(losses, scores, layers)) for layers in DEPTHS}
    assert len(pictures) == 3
    fig = figures.depth_figure(losses, scores, 20)
    curve = losses["20 plain"].mean(dim=0).tolist()
    assert any(line.get_ydata() == pytest.approx(curve) for line in fig.axes[0].lines)
    (plain, residual) = fig.axes[1].containers
    for container, kind in ((plain, "plain"), (residual, "residual")):
        line, _, (bars,) = container
        values = [scores["training"][f"{layers} {kind}"] for layers in DEPTHS]
        assert line.get_xdata().tolist() == list(DEPTHS)
        assert line.get_ydata() == pytest.approx([value.mean().item() for value in values])
        low, high = bars.get_segments()[0][:, 1]
        assert high - low == pytest.approx(2 * values[0].std().item() / 3**0.5, rel=1e-4)


def test_one_seed_has_no_error():
    mean, error = figures._mean_and_error(torch.tensor([[1.0, 2.0]]))
    assert (mean, error) == ([1.0, 2.0], [0.0, 0.0])


def test_the_plans_name_the_layers_that_the_blocks_have(displayed):
    kinds = {"Conv2d": "conv", "BatchNorm2d": "norm"}
    plans = figures.blocks("c", "a")
    for name, make in {
        "basic": resnet.BasicBlock,
        "bottleneck": resnet.Bottleneck,
        "pre-activation": resnet.PreActivationBlock,
    }.items():
        seen = []
        block = make(4 * make.expansion, 4)
        for layer in (*block.children(),):
            kind = type(layer).__name__
            look = {"Conv2d": getattr(layer, "kernel_size", ())}.get(kind)
            label = f"{look[0]}×{look[1]} conv" if look else kinds.get(kind, kind)
            layer.register_forward_hook(lambda *_, seen=seen, label=label: seen.append(label))
        block(torch.randn(2, 4 * make.expansion, 5, 5))
        behind = list(figures.BLOCKS[name][1])
        assert [label for label in seen if label != "Identity"] == plans[name] + behind


def test_work_is_all_that_is_counted_elsewhere_and_the_sums_of_the_blocks():
    network = resnet.ResNet(resnet.Bottleneck, (2, 1, 1, 1), classes=5)
    counts = figures.work(network, (3, 64, 64))
    sums = counts.pop("sums")
    assert sum(counts.values()) == classics.multiply_adds(network, (3, 64, 64))
    assert sums == 2 * 256 * 16**2 + 512 * 8**2 + 1024 * 4**2 + 2048 * 2**2
    projected = 64 * 256 * 16**2 + 256 * 512 * 8**2 + 512 * 1024 * 4**2 + 1024 * 2048 * 2**2
    assert counts["projections"] == projected
    assert counts["first and last layer"] == 3 * 49 * 64 * 32**2 + 2048 * 5
    inner = 2 * 64**2 * 16**2 + 128**2 * 8**2 + 256**2 * 4**2 + 512**2 * 2**2
    assert counts["3×3"] == 9 * inner
    plain = figures.work(resnet.deep_resnet(8, (2, 2, 2), "none"), (1, 28, 28))
    assert plain["sums"] == plain["projections"] == 0


def test_shares_are_percent_of_each_bar(displayed):
    parts = {"A": {"x": 1, "y": 3}, "B": {"x": 10, "y": 0}}
    assert figures.stacked(parts, "percent", "c", "a") == {
        "A": {"x": 25.0, "y": 75.0},
        "B": {"x": 100.0, "y": 0.0},
    }


def test_stacked_parts_begin_where_the_ones_before_end(monkeypatch):
    parts = {"A": {"x": 1, "y": 3}, "B": {"x": 10, "y": 10}}
    fig, _ = drawn_figure(monkeypatch, figures.stacked, parts, "percent")
    first, second = fig.axes[0].containers
    ends = [bar.get_x() + bar.get_width() for bar in first]
    assert [bar.get_x() for bar in second] == ends == [25.0, 50.0]


def test_gradients_return_first_over_last_as_a_geometric_mean(displayed):
    sizes = torch.tensor([[100.0, 10, 1], [1.0, 10, 1]])
    drawn = figures.gradients({"p": {"plain": sizes, "residual": 2 * sizes.flip(1)}}, "c", "a")
    assert drawn["p"]["plain"] == pytest.approx(10.0)
    assert drawn["p"]["residual"] == pytest.approx(0.1)


def test_the_lesion_figure_follows_its_slider():
    scores = {"plain": [90, 20, 30], "residual": [91, 80, 85]}
    classes = ["a", "b"]

    def picture(block, without):
        return plot.to_png(figures.lesion_figure(scores, block, ([90, 92], without), classes))

    assert len({picture(1, [80, 80]), picture(2, [80, 80]), picture(2, [70, 80])}) == 3
    left, right = figures.lesion_figure(scores, 2, ([90, 92], [70, 80]), classes).axes
    assert [line.get_ydata()[0] for line in left.lines if line.get_linestyle() == ":"] == [90, 91]
    assert [line.get_label() for line in left.lines if line.get_marker() == "o"] == list(scores)
    assert [bar.get_width() for bar in right.containers[1]] == [70, 80]
