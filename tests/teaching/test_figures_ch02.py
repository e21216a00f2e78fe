"""The figures of chapter 02 draw what they say, and their controls pass on what is set."""

import pytest
import torch
from torch import nn

from course_lib import classics, cnn
from course_lib.teaching import plot, widgets
from course_lib.teaching.figures import ch02 as figures
from course_lib.teaching.figures import ch02_lab as lab_figures

IMAGE = torch.arange(64.0).view(1, 8, 8) / 64


def png(fig):
    return plot.to_png(fig)


def labels(displayed):
    """The caption of each displayed figure."""
    return [bundle["text/plain"] for bundle, _ in displayed if "text/markdown" in bundle]


def test_a_preset_is_applied_as_named():
    moved = figures.filter_image(IMAGE, figures.PRESETS["one pixel to the right"], padding=1)
    assert moved[:, 1:].equal(IMAGE[0, :, :-1])
    assert figures.filter_image(IMAGE, figures.PRESETS["nothing"], padding=1).equal(IMAGE[0])
    blurred = figures.filter_image(IMAGE, figures.PRESETS["blur"])
    assert torch.allclose(blurred, IMAGE[0, 1:-1, 1:-1])  # a plane is its own mean
    for name in ("vertical edges", "horizontal edges", "outline"):
        flat = figures.filter_image(torch.ones(1, 8, 8), figures.PRESETS[name])
        assert flat.abs().max() == 0, name


def test_vertical_and_horizontal_edges_are_each_others_transpose():
    vertical = torch.tensor(figures.PRESETS["vertical edges"]).view(3, 3)
    assert torch.tensor(figures.PRESETS["horizontal edges"]).view(3, 3).equal(vertical.T)


def test_choosing_a_preset_sets_the_nine_fields_and_changes_the_value_once():
    editor, values = figures.KernelEditor(), []
    editor.observe(lambda change: values.append(change["new"]), names="value")
    assert editor.value == figures.PRESETS["vertical edges"]
    editor.children[0].value = "sharpen"
    assert values == [figures.PRESETS["sharpen"]]
    fields = [field.value for row in editor.children[1:] for field in row.children]
    assert fields == list(figures.PRESETS["sharpen"])


def test_a_field_changes_its_own_number():
    editor = figures.KernelEditor("nothing")
    editor.children[2].children[0].value = 7.5  # second row, first column
    assert editor.value == (0, 0, 0, 7.5, 1, 0, 0, 0, 0)


def test_every_control_of_the_kernel_explorer_redraws(displayed):
    def draw(kernel, padding):
        return figures.filter_figure(IMAGE, kernel, padding=padding)

    editor = figures.KernelEditor()
    slider = widgets.slider("padding", 0, 3, 0, 1)
    box = widgets.explore(draw, "alt", "caption", kernel=editor, padding=slider)
    pictures = [box.children[2].value]
    editor.children[0].value = "blur"
    pictures.append(box.children[2].value)
    slider.value = 2
    pictures.append(box.children[2].value)
    assert len(set(pictures)) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"padding_mode": "reflect"},
        {"stride": 2},
        {"padding": 1},
        {"dilation": 2},
        {"padding": 2, "padding_mode": "circular"},
    ],
)
def test_every_option_shows_in_the_filter_figure(options):
    kernel = figures.PRESETS["outline"]
    plain, changed = (figures.filter_figure(IMAGE, kernel, **o) for o in ({}, options))
    assert png(plain) == png(figures.filter_figure(IMAGE, kernel))
    assert png(plain) != png(changed)


def test_a_kernel_of_zeros_can_be_drawn():
    assert png(figures.filter_figure(IMAGE, (0,) * 9))


def test_dense_counts_what_the_matrix_holds(displayed):
    kernel = torch.arange(1.0, 10).view(1, 1, 3, 3)
    drawn = figures.dense(cnn.dense_matrix(kernel, 5), "c", "a")
    assert drawn == {"rows": 9, "columns": 25, "nonzero": 81, "distinct": 9}
    assert labels(displayed) == ["c"]


def test_tables_return_their_numbers_and_bear_infinity(displayed):
    table = torch.tensor([[1.0, -torch.inf]])
    assert figures.tables({"t": table, "u": -table}, "c", "a")["t"] == [[1.0, -torch.inf]]


def test_paddings_return_the_top_rows(displayed):
    drawn = figures.paddings(IMAGE, 2, "c", "a")
    assert drawn["numbers"] == {"zeros": 0, "reflect": 13, "replicate": 1, "circular": 19}
    rows = drawn["rows"]
    assert rows["zeros"] == [0.0] * 12
    assert rows["reflect"][2:-2] == IMAGE[0, 2].tolist()
    assert rows["replicate"][2:-2] == IMAGE[0, 0].tolist()
    assert rows["circular"][2:-2] == IMAGE[0, -2].tolist()


def test_windows_count_the_places(displayed):
    options = {"a": {}, "b": {"stride": 2}, "c": {"padding": 1}, "d": {"dilation": 3}}
    assert figures.windows(options, 7, "c", "a") == {"a": 5, "b": 3, "c": 7, "d": 1}


def test_the_skyline_returns_the_shapes_behind_each_stage(displayed):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2704, 10))
    drawn = figures.skyline({"small": network, "LeNet": classics.LeNet().layers}, "c", "a")
    assert drawn["small"] == [(1, 28, 28), (4, 26, 26), (10,)]
    assert drawn["LeNet"][-3:] == [(120,), (84,), (10,)]
    assert network.training


@pytest.mark.parametrize("signed", [True, False])
def test_a_grid_takes_rows_of_several_lengths(displayed, signed):
    rows = {"a": torch.randn(3, 1, 4, 4), "b": torch.zeros(2, 1, 5, 5)}
    drawn = figures.grid(rows, "c", "a", signed=signed)
    assert drawn == {"a": [3, 1, 4, 4], "b": [2, 1, 5, 5]}


def test_occlusion_and_answers_can_be_drawn(displayed):
    drawn = figures.occlusion(IMAGE.expand(2, 1, 8, 8), torch.randn(2, 8, 8), "c", "a")
    assert drawn == {"shape": [2, 8, 8]}
    some, others = torch.full((10,), 0.1), torch.eye(10)[3]
    pictures = [png(figures.answers_figure(IMAGE, {"A": p, "B": others})) for p in (some, others)]
    assert pictures[0] != pictures[1]


# --- the lab -----------------------------------------------------------------------------------


def test_the_bars_of_uniform_weights_are_level_within_their_bounds(displayed):
    weights = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shares = torch.tensor(lab_figures.first_weights(weights / 3, 1 / 3, "c", "a")["shares"])
    assert shares.shape == (36,) and abs(shares.sum() - 1) < 1e-5
    assert shares[:6].sum() == shares[-6:].sum() == 0  # beyond the bounds
    assert (shares[6:-6] - 1 / 24).abs().max() < 0.004
    narrow = torch.tensor(lab_figures.first_weights(weights / 6, 1 / 3, "c", "a")["shares"])
    assert narrow[:12].sum() == 0 and narrow[12:-12].min() > 0


def test_the_part_cut_out_of_nine_tiles_continues_on_the_other_side(displayed):
    image = torch.arange(20.0).view(1, 4, 5)
    part = lab_figures.tiles(image, 2, "c", "a")
    assert part.shape == (1, 8, 9)
    assert part[0, 2:-2, 2:-2].equal(image[0])
    assert part[0, 0, 2:-2].equal(image[0, -2]) and part[0, 2:-2, -1].equal(image[0, :, 1])


def test_columns_return_what_they_draw(displayed):
    panels = {"a": {"x": 1, "y": 12345.6}, "b": {"x": 0.5, "y": 0}}
    assert lab_figures.columns(panels, "c", "a") == panels
    assert labels(displayed) == ["c"]


@pytest.mark.parametrize(
    ("x", "log"), [((1, 10, 100), "xy"), (("p", "q", "r"), "y"), (range(3), "")]
)
def test_lines_are_the_means_of_the_seeds(displayed, x, log):
    values = torch.tensor([[1.0, 2, 3], [3, 4, 8]])
    drawn = lab_figures.lines(x, {"": {"n": values}}, ("x", "y"), "c", "a", log=log)
    assert drawn == {"": {"n": [2.0, 3.0, 5.5]}}


def test_error_bars_are_standard_errors_and_places_follow_the_scale(displayed, monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: drawn.append(fig))
    values = torch.tensor([[1.0, 1.0], [3.0, 1.0], [5.0, 1.0], [7.0, 1.0]])
    for log in ("", "x"):
        lab_figures.lines((1, 2000), {"": {"n": values}}, ("x", "y"), "c", "a", log=log)
    for fig, places in zip(drawn, ([0, 1], [1, 2000]), strict=True):
        ax = fig.axes[0]
        (_, _, (bars,)) = ax.containers[0]
        low, high = bars.get_segments()[0][:, 1]
        assert high - low == pytest.approx(2 * values[:, 0].std().item() / 4**0.5)
        assert ax.lines[0].get_xdata().tolist() == places
        assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2k"]
