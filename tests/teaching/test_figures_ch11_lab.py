"""The figure of chapter 11's lab draws what it says."""

import torch
from matplotlib.colors import to_hex

from course_lib.teaching import plot
from course_lib.teaching.figures import ch11_lab as figures


def test_crowds_tells_lost_objects_from_kept_ones(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    boxes = torch.tensor([[0.0, 0, 4, 2], [3, 3, 8, 7], [1, 1, 3, 3]])
    gone = torch.tensor([False, True, False])
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    scenes = {"first": (image, boxes, gone), "empty": (image, boxes[:0], gone[:0])}
    drawn = figures.crowds(scenes, "c", "a", cells=4)
    assert drawn == {"first": {"kept": 2, "lost": 1}, "empty": {"kept": 0, "lost": 0}}
    first, empty = shown[0].axes
    assert len(empty.patches) == 0 and len(empty.lines) == 6  # the grid alone
    patches = first.patches
    assert [to_hex(p.get_edgecolor()) for p in patches] == [plot.BLUE, plot.RED, plot.BLUE]
    # The first pixel's middle is at 0, so its left edge is at -0.5.
    assert patches[0].get_bbox().extents.tolist() == [-0.5, -0.5, 3.5, 1.5]
    dots = [line.get_xydata().tolist() for line in first.lines if line.get_marker() == "o"]
    assert dots == [[[1.5, 0.5]], [[5, 4.5]], [[1.5, 1.5]]]
    edges = {line.get_xdata()[0] for line in empty.lines[::2]}
    assert edges == {1.5, 3.5, 5.5}


def test_without_cells_there_are_boxes_alone(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    image, boxes = torch.zeros(3, 8, 8), torch.tensor([[0.0, 0, 4, 2]])
    figures.crowds({"": (image, boxes, torch.tensor([True]))}, "c", "a")
    assert not shown[0].axes[0].lines and len(shown[0].axes[0].patches) == 1
