"""Photo scenes: what is visible, what is labelled, and which cut-outs and photos meet."""

import time

import pytest
import torch

from course_lib import data, scenes
from course_lib.data import Cutout


@pytest.fixture(scope="module")
def makers():
    return {split: scenes.SceneMaker(split) for split in scenes.SPLITS}


@pytest.fixture(scope="module")
def drawn(makers):
    return makers["train"].draw(300, seed=0)


def sprite(height, width, value=200):
    """A solid grey rectangle."""
    rgba = torch.full((4, height, width), value, dtype=torch.uint8)
    rgba[3] = 255
    return scenes.Sprite(rgba, torch.ones(height, width).bool(), height * width)


def placed(item, top, left, label=0, light=1.0):
    height, width = item.solid.shape
    rows, columns = slice(top, top + height), slice(left, left + width)
    return scenes.Placed(item, rows, columns, label, torch.full((3, 1, 1), light))


# --- what a scene holds ------------------------------------------------------------------------


def test_shapes_and_types(drawn):
    expected = {
        "images": (torch.uint8, (300, 3, 96, 96)),
        "mask": (torch.uint8, (300, 96, 96)),
        "instances": (torch.uint8, (300, 96, 96)),
        "boxes": (torch.float32, (300, 5, 4)),
        "labels": (torch.int64, (300, 5)),
    }
    assert {n: (t.dtype, tuple(t.shape)) for n, t in drawn._asdict().items()} == expected


def test_boxes_are_the_extent_of_what_is_visible(drawn):
    for scene in range(60):
        for k in range(5):
            rows, columns = (drawn.instances[scene] == k + 1).nonzero(as_tuple=True)
            box = drawn.boxes[scene, k].tolist()
            if drawn.labels[scene, k] < 0:
                assert not len(rows) and box == [0, 0, 0, 0]
            else:
                low, high = [columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]
                assert box == [value.item() for value in low + high]


def test_the_mask_tells_each_objects_class(drawn):
    for scene in range(60):
        classes = {0: 0} | {
            k + 1: label + 1 for k, label in enumerate(drawn.labels[scene].tolist())
        }
        expected = drawn.instances[scene].clone().apply_(lambda k, c=classes: c[k])
        assert torch.equal(drawn.mask[scene], expected)


def test_counts_and_classes_are_even(drawn):
    real = drawn.labels >= 0
    assert torch.equal(real, real.cummin(1).values)  # no gaps
    counts = real.sum(1).bincount(minlength=6)
    assert counts[0] == 0 and counts[1:].gt(15).all()
    shares = drawn.labels[real].bincount() / real.sum()
    assert len(shares) == 6 and shares.gt(0.1).all()


def test_the_number_of_objects_is_that_of_the_config():
    config = scenes.SceneConfig(size=128, least=8, most=8, hidden=0.0)
    crowd = scenes.SceneMaker("train", config).draw(6, seed=0)
    assert crowd.images.shape == (6, 3, 128, 128) and crowd.boxes.shape == (6, 8, 4)
    assert crowd.labels[:, 0].ge(0).all()
    config = scenes.SceneConfig(size=128, least=8, most=8, hidden=0.99)
    assert (scenes.SceneMaker("train", config).draw(6, seed=0).labels >= 0).sum() > 40


# --- painting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("covered", "stays"), [(5, True), (6, True), (7, False), (10, False)])
def test_an_object_hidden_by_more_than_the_share_is_taken_out(covered, stays):
    instance = torch.zeros(20, 20, dtype=torch.uint8)
    behind, front = placed(sprite(10, 10), 0, 0, 3), placed(sprite(10, covered), 0, 0, 4)
    kept = scenes._paint(instance, [behind, front], hidden=0.6)
    assert [p.label for p in kept] == ([3, 4] if stays else [4])
    assert instance.unique().tolist() == ([0, 1, 2] if stays else [0, 1])
    assert instance[:10, :covered].eq(len(kept)).all()
    assert instance[:10, covered:10].eq(1 if stays else 0).all()


def test_soft_edges_and_light():
    item = sprite(1, 3, value=100)
    item.rgba[3] = torch.tensor([[0, 51, 255]])  # alpha 0, 1/5, 1
    canvas = scenes._blend(torch.full((3, 1, 4), 50.0), [placed(item, 0, 1, light=1.5)])
    assert canvas[0, 0].tolist() == [50, 50, 70, 150]
    bright = scenes._blend(torch.zeros(3, 1, 3), [placed(item, 0, 0, light=9.0)])
    assert bright[0, 0].tolist() == [0, 51, 255]


def test_sprites_have_no_halo():
    rgba = torch.zeros(4, 100, 100, dtype=torch.uint8)
    rgba[1] = 255  # green where nothing is to be seen
    y, x = torch.meshgrid(torch.arange(100) - 50, torch.arange(100) - 50, indexing="ij")
    disc = x.square() + y.square() < 40**2
    rgba[:, disc] = torch.tensor([[255], [0], [0], [255]], dtype=torch.uint8)  # a red disc
    for by_angle in scenes._sprites_of(Cutout("disc", 0, "fruit", rgba, False)):
        for item in by_angle:
            soft = (item.rgba[3] > 8) & (item.rgba[3] < 247)
            assert soft.sum() > 8
            assert item.rgba[0][soft].min() > 215 and item.rgba[1][soft].max() < 40


def test_sprites_have_their_sides():
    cutout = next(c for c in data.load("cutouts") if c.name == "stop")
    for side, by_angle in zip(scenes.SIDES, scenes._sprites_of(cutout), strict=True):
        for item in by_angle:
            assert max(item.rgba.shape[1:]) == side and item.rgba.dtype is torch.uint8
            rows, columns = item.solid.any(1).sum(), item.solid.any(0).sum()
            assert 0.85 * side <= max(rows, columns) <= side
            assert item.pixels == item.solid.sum()


def test_signs_are_never_flipped_and_others_are(makers):
    sign = scenes.CLASSES.index("roadsign")
    for label in range(len(scenes.CLASSES)):
        row = [(label + 0.5) / len(scenes.CLASSES), 0.45, 0.99, 0.5, 0.5, 0.5]
        straight, flipped = (
            makers["train"]._place([*row, flip, 0, 0, 0, 0], torch.ones(3, 1, 1))
            for flip in (0.9, 0.1)
        )
        assert straight.label == label
        mirrored = torch.equal(flipped.sprite.rgba, straight.sprite.rgba.flip(2))
        same = torch.equal(flipped.sprite.rgba, straight.sprite.rgba)
        assert (same and not mirrored) if label == sign else (mirrored and not same)
        assert torch.equal(flipped.sprite.solid, flipped.sprite.rgba[3] >= scenes.SOLID)


# --- splits ------------------------------------------------------------------------------------


def names(groups):
    return {cutout.name for group in groups for cutout in group}


def pictures(maker):
    """The largest upright sprite of each cut-out, and the grounds."""
    sprites = [cutout[-1][2].rgba for group in maker._sprites for cutout in group]
    return {t.numpy().tobytes() for t in sprites}, {t.numpy().tobytes() for t in maker._grounds}


def test_no_unseen_cutout_and_no_test_photo_is_in_training(makers):
    seen, unseen = names(scenes.choose_cutouts("train")), names(scenes.choose_cutouts("unseen"))
    test = {c.name for c in data.load("cutouts") if c.test and c.class_name in scenes.CLASSES}
    assert unseen == test and not seen & test and len(seen) == 125
    assert names(scenes.choose_cutouts("seen")) == seen
    photos = {split: {p.name for p in scenes.choose_photos(split)} for split in scenes.SPLITS}
    assert (
        photos["seen"] == photos["unseen"] == {p.name for p in data.load("backgrounds") if p.test}
    )
    assert not photos["train"] & photos["seen"] and len(photos["train"]) == 12
    assert not photos["train"] & set(scenes.LEFT_OUT_PHOTOS)

    sprites, grounds = zip(*(pictures(makers[split]) for split in scenes.SPLITS), strict=True)
    assert sprites[0] == sprites[1] and not sprites[0] & sprites[2]
    assert grounds[1] == grounds[2] and not grounds[0] & grounds[1]
    assert [len(group) for group in sprites] == [len(seen), len(seen), len(unseen)]


def test_every_class_has_seen_and_unseen_cutouts_of_its_own():
    for split in scenes.SPLITS:
        for name, group in zip(scenes.CLASSES, scenes.choose_cutouts(split), strict=True):
            assert len(group) >= 3 and {cutout.class_name for cutout in group} == {name}


# --- randomness --------------------------------------------------------------------------------


def test_equal_seeds_draw_equal_scenes_and_a_smaller_count_the_first_of_them(makers, drawn):
    again = scenes.SceneMaker("train").draw(40, seed=0)
    for first, second in zip(drawn, again, strict=True):
        assert torch.equal(first[:40], second)
    assert not torch.equal(makers["train"].draw(40, seed=1).images, again.images)
    assert not torch.equal(again.images[0], again.images[1])


def test_seen_and_unseen_scenes_of_one_seed_share_their_backgrounds(makers):
    seen, unseen, train = (makers[s].draw(20, seed=2) for s in ("seen", "unseen", "train"))
    free = ((seen.instances == 0) & (unseen.instances == 0)).unsqueeze(1).expand(-1, 3, -1, -1)
    equal = seen.images[free] == unseen.images[free]
    assert equal.float().mean() > 0.95  # but for soft edges
    assert (train.images == seen.images).float().mean() < 0.1


def test_light_changes_within_its_bounds():
    lights = scenes._lights(torch.rand(1000, 4, generator=torch.Generator().manual_seed(0)))
    assert lights.shape == (1000, 3, 1, 1)
    share = scenes.LIGHT
    assert lights.min() >= (1 - share) * (1 - share / 3)
    assert lights.max() <= (1 + share) * (1 + share / 3)
    assert abs(lights.mean() - 1) < 0.02


def test_masks_and_boxes_work_on_any_device(drawn):
    boxes = scenes.tight_boxes(drawn.instances.to("meta"), 5)
    mask = scenes.class_masks(drawn.instances.to("meta"), drawn.labels.to("meta"))
    assert boxes.shape == (300, 5, 4) and mask.shape == (300, 96, 96)


def test_scenes_come_fast(makers):
    started = time.process_time()
    makers["train"].draw(200, seed=3)
    assert time.process_time() - started < 1  # aimed at: 0.2 s on two cores


# --- bad input ---------------------------------------------------------------------------------


def test_bad_input_is_refused(makers):
    with pytest.raises(ValueError, match="split is 'test'; allowed are train, seen, unseen"):
        scenes.SceneMaker("test")
    with pytest.raises(ValueError, match="count is 0; allowed are whole numbers from 1"):
        makers["train"].draw(0, seed=0)
    for size in (59, 145):
        with pytest.raises(ValueError, match=f"size is {size}; allowed are 60 .. 144 pixels"):
            scenes.SceneConfig(size=size)
    for least, most in ((0, 5), (3, 2), (1, 256)):
        with pytest.raises(ValueError, match=f"least is {least} and most {most}; allowed"):
            scenes.SceneConfig(least=least, most=most)
    for hidden in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"hidden is {hidden}; allowed are shares"):
            scenes.SceneConfig(hidden=hidden)
