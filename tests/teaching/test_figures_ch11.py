"""The figures of chapter 11 draw what they say and count what they draw."""

import pytest
import torch

from course_lib import yolo
from course_lib.average_precision import Detections, Objects, objects_of
from course_lib.scenes import CLASSES, Scenes
from course_lib.teaching import plot
from course_lib.teaching.figures import ch11 as figures

CONFIG = yolo.YoloConfig(cells=3)
BOXES = torch.tensor([[[10.0, 20, 40, 60], [50, 50, 90, 80]], [[5, 5, 30, 30], [0, 0, 0, 0]]])
LABELS = torch.tensor([[0, 4], [2, -1]])


@pytest.fixture
def shown(monkeypatch):
    """The figures that are displayed."""
    drawn = []
    monkeypatch.setattr(plot, "show", lambda fig, caption, alt: drawn.append(fig))
    return drawn


def scenes():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, 3, 96, 96), generator=generator, dtype=torch.uint8)
    empty = torch.zeros(2, 96, 96, dtype=torch.uint8)
    return Scenes(images, empty, empty, BOXES, LABELS)


def detections(*rows):
    """Rows of image, box, label, score."""
    images, boxes, labels, scores = zip(*rows, strict=True)
    return Detections(
        torch.tensor(images),
        torch.tensor(boxes).float(),
        torch.tensor(labels),
        torch.tensor(scores),
    )


def frames(ax):
    return [p.get_bbox().extents.tolist() for p in ax.patches if not p.get_fill()]


# --- boxes -------------------------------------------------------------------------------------


def test_pictures_draw_every_box_where_it_is(shown):
    panels = [figures.scene_panel(scenes(), number, "t") for number in (0, 1)]
    panels.append(figures.Panel(scenes().images[0]))
    assert figures.pictures(panels, "c", "a", columns=2) == [2, 1, 0]
    first, second, bare, empty = shown[0].axes
    assert frames(first)[::2] == [[9.5, 19.5, 39.5, 59.5], [49.5, 49.5, 89.5, 79.5]]
    assert [text.get_text() for text in first.texts] == ["fruit", "bird"]
    assert first.get_title() == "t" and [t.get_ha() for t in first.texts] == ["left", "left"]
    assert len(frames(second)) == 2 and not frames(bare) and not empty.images


def test_a_panel_has_its_grid_and_no_text_beyond_its_edges():
    corner = figures.Mark(torch.tensor([70.0, 0, 96, 9]), text="vehicle 0.95")
    fig, axes = plot.figure(3, 3.35)
    figures.draw_panel(axes[0, 0], figures.Panel(scenes().images[0], [corner], "t", 32))
    lines = [line.get_xdata()[0] for line in axes[0, 0].lines]
    assert lines[1::2] == [31.5, 63.5] and len(lines) == 4
    plot.to_png(fig)
    inside, text = axes[0, 0].get_window_extent(), axes[0, 0].texts[0].get_window_extent()
    assert inside.x0 <= text.x0 and text.x1 <= inside.x1 + 1 and text.y1 <= inside.y1 + 1


def test_found_panels_hold_the_boxes_of_their_image():
    found = detections((0, [1, 2, 3, 4], 1, 0.5), (1, [5, 6, 7, 8], 3, 0.25))
    (mark,) = figures.found_panel(scenes(), 1, found).marks
    assert mark.box.tolist() == [5, 6, 7, 8] and mark.text == "mammal 0.25"
    assert mark.color == figures.COLOURS[3]
    assert len(COLOURS := set(figures.COLOURS)) == len(CLASSES), COLOURS


def test_overlaps_of_the_two_boxes_to_play_with():
    assert figures.overlaps(30, 30, 40, 30) == pytest.approx({"IoU": 1, "GIoU": 1, "CIoU": 1})
    apart = figures.overlaps(80, 30, 10, 30)  # hull 60 wide, 10 of it bare
    assert apart["IoU"] == 0 and apart["GIoU"] == pytest.approx(-1 / 6)
    inside = figures.overlaps(40, 40, 10, 10)
    assert inside["IoU"] == pytest.approx(inside["GIoU"])
    for place in ((30, 30, 40, 30), (0, 0, 2, 2)):
        fig = figures.overlaps_figure(*place)
        assert plot.to_png(fig)
        greens = [
            p for p in fig.axes[0].patches if p.get_edgecolor() == (0, 158 / 255, 115 / 255, 0.8)
        ]
        assert len(greens) == (place[2] == 40)


def test_overlap_curves_begin_at_one_and_only_iou_stays_at_zero(shown):
    values = figures.overlap_curves("c", "a")
    assert [curve[0] for curve in values.values()] == pytest.approx([1, 1, 1])
    assert values["IoU"][10] == pytest.approx(1 / 3) and values["IoU"][20:] == [0] * 31
    assert values["GIoU"][-1] < values["GIoU"][20] and len(shown[0].axes[0].lines) == 4


# --- cells -------------------------------------------------------------------------------------


def test_answering_colours_the_cells_that_answer(shown):
    target = yolo.encode(BOXES, LABELS, CONFIG, 96, 96)[0]
    panel = figures.scene_panel(scenes(), 0)
    assert figures.answering(panel, {"three": target}, "c", "a") == {"three": 6}
    filled = [p for p in shown[0].axes[0].patches if p.get_fill()]
    corners = sorted(p.get_xy() for p in filled)
    wanted = (target[..., 4] > 0).nonzero() * 8 - 0.5
    assert corners == sorted((x, y) for y, x in wanted.tolist())
    points = [line.get_data() for line in shown[0].axes[0].lines if line.get_marker() == "o"]
    assert [(float(x[0]), float(y[0])) for x, y in points] == [(24.5, 39.5), (69.5, 64.5)]


def test_a_pretended_network_is_the_truth_when_calm_and_errs_when_not():
    calm = figures.pretend(scenes(), CONFIG, seed=0, noise=1e-6)
    found = yolo.detections(calm, CONFIG, 0.5, 0.5)
    torch.testing.assert_close(found.boxes, BOXES[LABELS >= 0][[0, 1, 2]], atol=0.01, rtol=0)
    assert found.labels.tolist() == [0, 4, 2]
    wild = figures.pretend(scenes(), CONFIG, seed=0)
    assert wild.shape == calm.shape and not torch.allclose(wild, calm, atol=0.1)
    assert torch.equal(wild, figures.pretend(scenes(), CONFIG, seed=0))
    assert wild[..., 2:4].min() >= 0 and 0 <= wild[..., 4].min() <= wild[..., 4].max() <= 1


def test_explored_figures_count_before_and_after():
    grid = figures.pretend(scenes(), CONFIG, seed=0, noise=0.1)[0]
    fig = figures.found_figure(scenes().images[0], grid, CONFIG, 0.5, 0.5)
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == ["confidence from 0.50: 6 boxes", "overlap up to 0.50: 2 boxes"]
    nothing = figures.found_figure(scenes().images[0], grid, CONFIG, 1.0, 0.5)
    assert nothing.axes[0].get_title().endswith(": 0 boxes") and plot.to_png(nothing)


def test_a_cell_shows_its_box_and_numbers():
    grid = yolo.encode(BOXES, LABELS, CONFIG, 96, 96)[0]
    row, column = 5, 3  # of the centre 25, 40
    fig = figures.cell_figure(scenes().images[0], grid, CONFIG, row, column)
    assert fig.axes[0].get_title().startswith("row 5, column 3")
    assert frames(fig.axes[0])[0] == pytest.approx([9.5, 19.5, 39.5, 59.5], abs=1e-3)
    assert [bar.get_width() for bar in fig.axes[1].patches] == [1, 1, 0, 0, 0, 0, 0]
    assert [p.get_xy() for p in fig.axes[0].patches if p.get_fill()] == [(23.5, 39.5)]


def test_firing_counts_bright_cells(shown):
    confidence = torch.zeros(2, 12, 12)
    confidence[0, :2, 3] = 0.9
    assert figures.firing(scenes().images, confidence, "c", "a") == [2, 0]
    assert len(shown[0].axes) == 4


# --- how good it is ----------------------------------------------------------------------------


def found_and_there():
    there = objects_of(BOXES, LABELS)
    found = detections(
        (0, [10, 20, 40, 58], 0, 0.9),  # right
        (0, [50, 50, 90, 79], 1, 0.8),  # a bird called a flower
        (1, [60, 60, 90, 90], 2, 0.95),  # nothing there
        (0, [5, 5, 30, 30], 2, 0.7),  # the vehicle's place, in the other image
    )
    return found, there


def test_what_became_of_each_object(shown):
    found, there = found_and_there()
    met = figures.what_became(found, there)
    assert met.tolist() == [0, 1, 2]
    assert figures.outcomes({"a": met}, "c", "a")["a"] == pytest.approx([1 / 3] * 3)
    assert [t.get_text() for t in shown[0].axes[0].texts] == ["33%"] * 3
    assert figures.touches(found, scenes()).tolist() == [True, True, False, True]
    none = Detections(*(tensor[:0] for tensor in found))
    assert figures.what_became(none, there).tolist() == [2, 2, 2]


def test_worst_takes_the_surest_wrong_box_of_each_scene(shown):
    found, there = found_and_there()
    assert figures.worst(scenes(), found, there, 4, "c", "a") == ["vehicle 0.95", "flower 0.80"]
    assert len(frames(shown[0].axes[0])) == 4  # the object and the box, each on a dark frame


def test_confused_shares_of_each_class(shown):
    found, there = found_and_there()
    shares = figures.confused(found, there, "c", "a")
    assert shares[0] == [1, 0, 0, 0, 0, 0] and shares[4] == [0, 1, 0, 0, 0, 0]
    assert shares[2] == [0] * 6
    empty = Detections(*(tensor[:0] for tensor in found))
    assert sum(map(sum, figures.confused(empty, there, "c", "a"))) == 0


def test_curves_return_the_last_recall(shown):
    curve = torch.tensor([0.2, 0.4]), torch.tensor([1.0, 0.5])
    assert figures.precision_recall({"bird": curve}, "c", "a") == {"bird": pytest.approx(0.4)}
    assert isinstance(objects_of(BOXES, LABELS), Objects)
