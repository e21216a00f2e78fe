"""The figures of chapter 03 draw what they say."""

import pytest
import torch

from course_lib.teaching import plot
from course_lib.teaching.experiments import ch03 as grids
from course_lib.teaching.figures import ch03 as figures

TEXT = {"caption": "what to see", "alt": "what is drawn"}
SEEDS = torch.tensor([[80.0, 81.0, 85.0], [82.0, 83.0, 81.0]])  # (seeds, settings)


def captions(displayed):
    return [bundle["text/plain"] for bundle, _ in displayed if "text/markdown" in bundle]


def test_standard_error_is_that_of_the_mean():
    assert figures.standard_error(SEEDS).tolist() == pytest.approx([1.0, 1.0, 2.0])
    assert figures.standard_error(SEEDS[:1]).tolist() == [0.0, 0.0, 0.0]


def test_lines_and_study_return_the_means_of_the_seeds(displayed):
    drawn = figures.lines([1, 2, 3], {"a": SEEDS, "b": SEEDS + 1}, ("x", "y"), **TEXT)
    assert drawn["a"] == [81.0, 82.0, 83.0] and drawn["b"] == [82.0, 83.0, 84.0]
    column = {"nothing": SEEDS[:, 0], "dropout": SEEDS[:, 2]}
    drawn = figures.study({"test": column, "gap": column}, **TEXT)
    assert drawn["test"] == drawn["gap"] == {"nothing": 81.0, "dropout": 83.0}
    assert captions(displayed) == ["what to see"] * 2


def test_learning_and_pulls_return_what_they_draw(displayed):
    drawn = figures.learning([1, 2], {"a": ([90.0, 99.0], [80.0, 81.0])}, **TEXT)
    assert drawn == {"a": [80.0, 81.0]}
    path = torch.tensor([[1.0, -1.0], [0.5, 0.0]])
    assert figures.pulls({"L2": path, "L1": path}, **TEXT) == {"L2": [0.5, 0.0], "L1": [0.5, 0.0]}
    assert len(captions(displayed)) == 2


def test_histograms_give_the_share_in_the_middle(displayed):
    counts = {"even": torch.ones(5), "peaked": torch.tensor([0.0, 1, 8, 1, 0])}
    drawn = figures.histograms(counts, 0.2, **TEXT)
    assert drawn == pytest.approx({"even": 0.2, "peaked": 0.8})
    assert captions(displayed) == ["what to see"]


def test_doubts_give_the_medians(displayed):
    sets = {"clothes": torch.tensor([0.0, 0.1, 2.0]), "digits": torch.tensor([1.0, 1.5, 2.0])}
    drawn = figures.doubts({"plain": sets, "thinned": sets}, **TEXT)
    assert drawn["plain"] == drawn["thinned"] == pytest.approx({"clothes": 0.1, "digits": 1.5})


def test_a_larger_p_drops_more_of_the_same_units():
    before = figures.thin(0.0, 3)
    assert all(layer.all() for layer in before)
    assert [len(layer) for layer in before] == list(figures.LAYERS)
    for p in (0.2, 0.5, 0.9):
        now = figures.thin(p, 3)
        assert now[0].all() and now[-1].all()  # inputs and outputs stay
        assert all((a & ~b).sum() == 0 for a, b in zip(now, before, strict=True))
        before = now
    drawings = [torch.cat(figures.thin(0.5, k)).tolist() for k in range(4)]
    assert len({tuple(drawing) for drawing in drawings}) == 4
    many = torch.cat([torch.cat(figures.thin(0.3, k)[1:-1]) for k in range(200)]).float()
    assert many.mean().item() == pytest.approx(0.7, abs=0.03)


def test_every_control_changes_the_thinned_network():
    def draw(p=0.5, drawing=0, end=90.0):
        fig = figures.thinned_figure(p, drawing, [1, 2], [80.0, 99.0], [70.0, end])
        return plot.to_png(fig)

    assert draw() == draw()
    assert len({draw(), draw(p=0.6), draw(drawing=1), draw(end=80.0)}) == 4


def test_the_doubt_figure_shows_every_answer():
    image, names = torch.rand(1, 8, 8), ["a", "b", "c"]
    agreed = torch.tensor([[0.6, 0.3, 0.1]] * 4)
    split = agreed.clone()
    split[:2], split[2:] = torch.tensor([0.9, 0.0, 0.1]), torch.tensor([0.3, 0.6, 0.1])
    first, second = (figures.doubt_figure(image, answers, names) for answers in (agreed, split))
    titles = [fig.axes[1].get_title() for fig in (first, second)]
    assert "of it 0.00 by" in titles[0] and "of it 0.00 by" not in titles[1]
    assert len(first.axes[1].lines) == 3  # one row of dots for each class
    assert plot.to_png(first) != plot.to_png(second)


class Stored:
    """A grid in which each number tells what it is."""

    def values(self, name):
        each = 0.5 if name.endswith("_each") else 0.0
        return {s: torch.tensor([k + each]) for k, s in enumerate(grids.REGULARISERS)}


def test_the_study_shows_the_members_of_an_ensemble_by_themselves_too():
    columns = grids.compared(Stored())
    settings = list(grids.REGULARISERS)
    many, best = settings.index("3 networks"), settings.index("3 networks, each with all three")
    assert list(columns) == ["test", "train", "steps"]
    for name in ("test", "train"):
        assert list(columns[name]) == grids.ROWS
        assert columns[name]["nothing"].item() == many + 0.5
        assert columns[name]["dropout, decay, smoothing"].item() == best + 0.5
        assert columns[name]["3 networks"].item() == many
    assert columns["steps"]["nothing"].item() == pytest.approx(many / grids.MEMBERS)


def test_augmented_images_are_shifted_or_mirrored_copies():
    image = torch.zeros(64, 1, 9, 9)
    image[:, :, 4, 3] = 1.0
    moved, labels = grids._jitter((image, torch.arange(64)), torch.Generator().manual_seed(0))
    assert labels.equal(torch.arange(64)) and moved.shape == image.shape
    rows, columns = moved.sum(dim=(1, 3)).argmax(1), moved.sum(dim=(1, 2)).argmax(1)
    assert rows.min() >= 2 and rows.max() <= 6
    assert columns.min() <= 2 and columns.max() >= 6  # mirrored ones start from column 5
