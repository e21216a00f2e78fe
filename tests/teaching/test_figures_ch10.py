"""The figures of chapter 10 count, colour and cut what they say."""

import pytest
import torch

from course_lib import unet
from course_lib.teaching import plot
from course_lib.teaching.figures import ch10 as figures


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = unet.UNet(3, 7, channels=(4, 6, 8), stem=2).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 16, 16, generator=generator), torch.randint(7, (16, 16))


def test_masks_are_counted_by_class(displayed):
    masks = torch.tensor([[[0, 1], [6, 6]]])
    drawn = figures.segmentations(torch.zeros(1, 3, 2, 2), {"truth": masks}, "c", "a")
    assert drawn == {"truth": [1, 1, 0, 0, 0, 0, 2]}
    assert len(set(figures.CLASS_COLORS)) == 7


def test_stamps_add_up(displayed):
    total = figures.stamps(torch.eye(2), torch.ones(3, 3), 2, "c", "a")
    assert total == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 2, 1, 1], [0, 0, 1, 1, 1],
                     [0, 0, 1, 1, 1]]  # fmt: skip


def test_maps_and_lines_give_what_they_draw(displayed):
    panels = {"a": torch.tensor([[0.0, 3]]), "b": torch.zeros(2, 2)}
    assert figures.maps(panels, "c", "a") == {"a": 3, "b": 0}
    assert figures.maps({"b": panels["b"]}, "c", "a") == {"b": 0}
    assert figures.lines({"a": [2.0, 1.0]}, [0, 1], ("x", "y"), "c", "a") == {"a": 1.0}


def test_images_among_the_maps_keep_their_own_scale(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    panels = {"photo": torch.ones(3, 2, 2), "numbers": torch.full((2, 2), 0.5)}
    assert figures.maps(panels, "c", "a") == {"photo": 1, "numbers": 0.5}
    photo, numbers, scale = shown[0].axes
    assert photo.images[0].get_array().shape == (2, 2, 3)
    assert numbers.images[0].get_clim() == (0, 0.5) and scale.get_ylim() == (0, 0.5)
    figures.maps({"photo": panels["photo"]}, "c", "a")
    assert len(shown[1].axes) == 1  # nothing to give a scale for


@pytest.mark.parametrize("skips", [True, False])
def test_the_shapes_of_the_u(displayed, skips):
    model = unet.UNet(3, 7, channels=(4, 6, 8, 10), skips=skips)
    shapes = figures.u_shape(model, (3, 32, 24), "c", "a")
    assert list(shapes) == ["image", "encoder 1", "encoder 2", "encoder 3", "bottom", "decoder 4",
                            "decoder 5", "decoder 6", "logits"]  # fmt: skip
    assert shapes["encoder 2"] == shapes["decoder 5"] == [6, 16, 12]
    assert shapes["bottom"] == [10, 4, 3] and shapes["logits"] == [7, 32, 24]
    assert not any(block._forward_hooks for block in model.modules())


def test_the_work_of_a_small_u_counted_by_hand():
    model = unet.UNet(1, 2, channels=(3, 5))
    work = figures.work_by_level(model, (1, 8, 8))
    top = 64 * (9 * (1 * 3 + 3 * 3) + 9 * (6 * 3 + 3 * 3) + 3 * 2)  # encoder, decoder, classify
    up = 16 * 5 * 3 * 4  # each of 16 places stamps 5 channels as 3 of 2 x 2
    bottom = 16 * 9 * (3 * 5 + 5 * 5)
    assert work == {"level 1": top + up, "level 2": bottom}


def test_outlines_bear_empty_masks(displayed):
    panels = {"none": (torch.zeros(3, 8, 8), torch.zeros(8, 8).bool()),
              "grey": (torch.zeros(1, 8, 8, dtype=torch.uint8), torch.eye(8).bool())}  # fmt: skip
    assert figures.outlined(panels, "c", "a") == {"none": [3, 8, 8], "grey": [1, 8, 8]}


def test_agreement(displayed):
    truth = torch.tensor([[True, True], [False, False]])
    guess = torch.tensor([[True, False], [True, False]])
    assert figures.agreements({"a": (guess, truth)}, "c", "a") == {"a": pytest.approx(1 / 2)}
    scores = figures.threshold_scores(torch.tensor([[0.9, 0.2], [0.6, 0.1]]), truth, 0.5)
    assert scores == {"IoU": pytest.approx(1 / 3), "precision": 0.5, "recall": 0.5}
    nothing = figures.threshold_scores(torch.zeros(2, 2), truth & False, 0.5)
    assert all(value != value for value in nothing.values())


def test_islands_are_counted(displayed):
    numbers = torch.tensor([[0, 7, 7], [0, 0, 183]])
    image = torch.zeros(1, 2, 3)
    counted = figures.islands(image, {"a": numbers, "b": numbers * 0}, "c", "a")
    assert counted == {"a": 2, "b": 0}


def test_the_threshold_picture_follows_its_slider(scene):
    image, mask = scene
    chances = image[0]
    pictures = [
        plot.to_png(figures.threshold_figure(image, chances, mask > 3, t)) for t in (0.2, 0.2, 0.8)
    ]
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_cut_join_carries_zeros(model, scene):
    images = scene[0][None]
    whole = figures.logits_without(model, images, ())
    assert whole.equal(model(images).detach())
    for cut, level in ((1, -1), (2, -2)):
        maimed = unet.UNet(3, 7, channels=(4, 6, 8), stem=2).eval()
        maimed.load_state_dict(model.state_dict())
        first = maimed.decoders[level][0][0].weight
        first.data[:, : first.shape[1] // 2] = 0  # deaf to what comes across
        found = figures.logits_without(model, images, (cut,))
        torch.testing.assert_close(found, maimed(images).detach())
        assert not found.allclose(whole)
    assert not any(block._forward_pre_hooks for block in model.modules())


def test_what_arrives_at_a_decoder_is_what_it_was_given(model, scene):
    given = {}
    for level, up in ((2, 0), (1, 1)):
        model.ups[up].register_forward_hook(
            lambda _, i, out, level=level: given.update({level: out})
        )
    found = figures.arriving(model, scene[0])
    for up in model.ups:
        up._forward_hooks.clear()
    assert found[1].shape == (2, 8, 8) and found[2].shape == (2, 4, 4)
    for level, from_below in given.items():
        torch.testing.assert_close(found[level][1], from_below[0].detach().abs().mean(0))
        assert not found[level][0].allclose(found[level][1])
    assert not any(block._forward_pre_hooks for block in model.modules())


def test_the_cut_picture_says_what_is_cut(model, scene):
    titles = {
        cut: figures.cut_figure(model, *scene, cut).axes[3].get_title()
        for cut in ((), (1,), (1, 2))
    }
    assert [title.split(":")[0] for title in titles.values()] == [
        "nothing cut", "join 1 cut", "joins 1, 2 cut"
    ]  # fmt: skip


def test_the_cut_picture_follows_its_menu(model, scene):
    pictures = [plot.to_png(figures.cut_figure(model, *scene, cut)) for cut in ((), (1,), (1, 2))]
    assert len(set(pictures)) == 3
