"""The figures of chapter 10's lab draw what they say."""

import torch

from course_lib.teaching import plot
from course_lib.teaching.figures import ch10_lab as figures

NAMES = ("ground", "fruit", "flower", "vehicle", "mammal", "bird", "sign")


def test_label_maps_tell_which_classes_they_show(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    maps = {"whole": torch.tensor([[0, 1], [5, 5]]), "part": torch.tensor([[6]])}
    drawn = figures.label_maps(maps, NAMES, "c", "a")
    assert drawn == {"whole": ["ground", "fruit", "bird"], "part": ["sign"]}
    axes = shown[0].axes
    assert [ax.get_title() for ax in axes] == ["whole", "part"]
    legend = [text.get_text() for text in axes[-1].get_legend().get_texts()]
    assert legend == ["ground", "fruit", "bird", "sign"]
    colors = [ax.images[0].to_rgba(ax.images[0].get_array())[0, 0].tolist() for ax in axes]
    expected = [figures.ListedColormap(figures.COLORS).colors[i] for i in (0, 6)]
    for color, name in zip(colors, expected, strict=True):
        assert figures.Patch(color=name).get_facecolor() == tuple(color)


def test_pictures_are_drawn_under_their_titles(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    images = {"black": torch.zeros(3, 2, 4), "white": torch.ones(3, 2, 4)}
    assert figures.pictures(images, "c", "a") == {"black": [3, 2, 4], "white": [3, 2, 4]}
    means = {ax.get_title(): ax.images[0].get_array().mean() for ax in shown[0].axes}
    assert means == {"black": 0, "white": 1}


def test_an_outline_is_the_masks_own_edge():
    image = torch.arange(49.0).view(1, 1, 7, 7)
    mask = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
    mask[..., 1:6, 1:6] = True
    drawn = figures.outlined(image, mask)
    assert drawn.shape == (1, 3, 7, 7)
    grey = (drawn[:, :1] == drawn).all(1)[0]
    edge = mask[0, 0].clone()
    edge[2:5, 2:5] = False
    assert torch.equal(~grey, edge)
    assert drawn[0, :, 0, 0].tolist() == [0, 0, 0] and drawn[0, :, 6, 6].tolist() == [1, 1, 1]
    assert torch.equal(figures.outlined(image, ~mask & mask)[:, 0], image[:, 0] / 48)
