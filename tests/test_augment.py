"""Affine transforms equal torchvision's and move pixels where they say."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from course_lib import augment


@pytest.fixture
def images():
    return torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def test_no_change_by_default(images):
    assert torch.allclose(augment.affine(images), images, atol=1e-5)


def test_a_quarter_turn_is_counter_clockwise(images):
    assert torch.allclose(augment.affine(images, degrees=90.0), images.rot90(1, (2, 3)), atol=1e-4)


def test_a_shift_goes_right_and_down(images):
    moved = augment.affine(images, shift=(3.0, 2.0))
    assert torch.allclose(moved[:, :, 2:, 3:], images[:, :, :-2, :-3], atol=1e-5)
    assert moved[:, :, :2].abs().max() < 1e-5 and moved[:, :, :, :3].abs().max() < 1e-5


def test_shear_leans_the_top_to_the_right():
    image = torch.zeros(1, 1, 21, 21)
    image[..., 10] = 1.0
    leaning = augment.affine(image, shear=30.0)[0, 0]
    assert leaning[2].argmax() > 10 > leaning[18].argmax()


@pytest.mark.parametrize(
    "degrees, shift, scale", [(25.0, (0, 0), 1.0), (0.0, (2, -3), 1.0), (0.0, (0, 0), 1.4),
                              (-40.0, (3, 1), 0.8)],
)  # fmt: skip
@pytest.mark.parametrize("size", [(20, 20), (16, 30)])
def test_equals_torchvision(degrees, shift, scale, size):
    images = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1))
    ours = augment.affine(images, degrees=degrees, shift=shift, scale=scale)
    theirs = tv.affine(
        images,
        angle=-degrees,  # torchvision turns clockwise
        translate=list(shift),
        scale=scale,
        shear=[0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_random_values_stay_in_range_differ_by_image_and_repeat(monkeypatch):
    seen = {}
    monkeypatch.setattr(augment, "affine", lambda images, **values: seen.update(values) or images)
    images = torch.zeros(500, 1, 4, 4)
    settings = {"degrees": 10.0, "shift": 2.0, "scale": 0.1, "shear": 5.0}
    augment.random_affine(images, torch.Generator().manual_seed(0), **settings)
    first = dict(seen)
    for name, low, high in [("degrees", -10, 10), ("shift", -2, 2), ("scale", 0.9, 1.1),
                            ("shear", -5, 5)]:  # fmt: skip
        assert low <= seen[name].min() < low + 0.1 * (high - low)
        assert high >= seen[name].max() > high - 0.1 * (high - low)
    augment.random_affine(images, torch.Generator().manual_seed(0), **settings)
    assert all(torch.equal(first[name], seen[name]) for name in first)
    assert first["shift"].shape == (500, 2)


# --- flips, crops, squares, blends: each against a slow form, image by image -------------------


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch():
    return torch.rand(60, 3, 6, 9, generator=numbers(3)) + 0.5  # no pixel is 0


def test_a_flip_mirrors_the_chosen_images_and_no_others(batch):
    chosen = torch.rand(60, generator=numbers()) < 0.3
    flipped = augment.random_flip(batch, numbers(), p=0.3)
    for image, before, mirrored in zip(flipped, batch, chosen, strict=True):
        assert image.equal(tv.hflip(before) if mirrored else before)
    assert 5 < chosen.sum() < 30
    assert augment.random_flip(batch, numbers(), p=0.0).equal(batch)
    assert augment.random_flip(batch, numbers(), p=1.0).equal(batch.flip(3))


def test_a_crop_is_a_window_of_the_framed_image(batch):
    tops, lefts = torch.randint(5, (2, 60), generator=numbers())
    cropped = augment.random_crop(batch, numbers(), padding=2)
    for image, before, top, left in zip(cropped, batch, tops, lefts, strict=True):
        framed = torch.zeros(3, 10, 13)
        framed[:, 2:-2, 2:-2] = before
        assert image.equal(framed[:, top : top + 6, left : left + 9])
    assert tops.unique().tolist() == lefts.unique().tolist() == [0, 1, 2, 3, 4]
    assert augment.random_crop(batch, numbers(), padding=0).equal(batch)


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_cut_out_blackens_a_square_and_keeps_the_rest(batch, size):
    draw = numbers()
    rows, columns = (torch.randint(n, (60, 1), generator=draw).flatten() for n in (6, 9))
    cut = augment.cut_out(batch, numbers(), size)
    for image, before, row, column in zip(cut, batch.clone(), rows, columns, strict=True):
        top, left = row - size // 2, column - size // 2
        before[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert image.equal(before)
    assert rows.unique().tolist() == list(range(6)) and columns.unique().tolist() == list(range(9))


def test_nothing_is_cut_out_by_a_square_without_pixels(batch):
    assert augment.cut_out(batch, numbers(), 0).equal(batch)


def test_mix_up_blends_images_and_labels_by_the_same_share(batch):
    labels = torch.randint(4, (60,), generator=numbers(1))
    # Images that are one number everywhere: what is mixed can be read from the result.
    flat = torch.arange(60.0).view(60, 1, 1, 1).expand(60, 3, 6, 9) ** 2
    images, targets = augment.mix_up(flat, labels, numbers(), classes=4, alpha=1.0)
    draw = numbers()
    torch.randint(2**62, (), generator=draw)
    other = torch.randperm(60, generator=draw)
    for i, j in enumerate(other.tolist()):
        share = targets[i, labels[i]].item()
        if labels[i] == labels[j]:
            assert share == pytest.approx(1.0)
            continue
        expected = share * flat[i] + (1 - share) * flat[j]
        torch.testing.assert_close(images[i], expected, rtol=1e-4, atol=1e-3)
        assert targets[i, labels[j]].item() == pytest.approx(1 - share, abs=1e-6)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(60))
    assert targets.shape == (60, 4)


def test_the_shares_of_mix_up_follow_their_distribution():
    images, labels = torch.zeros(4000, 1, 1, 1), torch.arange(4000)
    for alpha in (0.2, 1.0, 5.0):
        _, targets = augment.mix_up(images, labels, numbers(), classes=4000, alpha=alpha)
        share = targets.diagonal()
        assert share.mean().item() == pytest.approx(0.5, abs=0.03)
        variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha)
        assert share.var().item() == pytest.approx(variance, rel=0.1), alpha


def test_a_network_can_be_trained_on_blended_labels():
    logits = torch.randn(5, 4, generator=numbers())
    labels = torch.tensor([0, 1, 2, 3, 0])
    _, targets = augment.mix_up(torch.zeros(5, 1, 2, 2), labels, numbers(1), classes=4, alpha=1.0)
    by_hand = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(torch.nn.functional.cross_entropy(logits, targets), by_hand)


CHANGES = {
    "flip": lambda images, draw: augment.random_flip(images, draw),
    "crop": lambda images, draw: augment.random_crop(images, draw, padding=2),
    "cut out": lambda images, draw: augment.cut_out(images, draw, size=3),
    "mix": lambda images, draw: augment.mix_up(
        images, torch.zeros(len(images), dtype=torch.long, device=images.device), draw,
        classes=2, alpha=0.4,
    )[0],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_repeat_with_the_seed_and_leave_what_came_as_it_was(change, batch):
    before = batch.clone()
    first, again, other = (change(batch, numbers(seed)) for seed in (4, 4, 5))
    assert first.equal(again) and not first.equal(other)
    assert batch.equal(before) and first.shape == batch.shape and first.dtype == batch.dtype


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_happen_where_the_images_are(change):
    changed = change(torch.empty(8, 3, 6, 9, device="meta"), numbers())
    assert changed.device.type == "meta" and changed.shape == (8, 3, 6, 9)


@pytest.mark.parametrize("name", ["flip", "crop", "cut out"])
def test_bytes_stay_bytes(name):
    images = torch.randint(256, (8, 1, 6, 9), dtype=torch.uint8)
    assert CHANGES[name](images, numbers()).dtype is torch.uint8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: augment.random_flip(x, numbers(), p=1.2), "p is 1.2; allowed are shares"),
        (lambda x: augment.random_crop(x, numbers(), -1), "padding is -1; allowed are whole"),
        (lambda x: augment.random_crop(x, numbers(), 1.5), "padding is 1.5; allowed are whole"),
        (lambda x: augment.cut_out(x, numbers(), -2), "size is -2; allowed are whole numbers"),
        (
            lambda x: augment.mix_up(x, torch.zeros(2).long(), numbers(), classes=2, alpha=0.0),
            "alpha is 0.0; allowed are finite numbers above 0",
        ),
        (
            lambda x: augment.mix_up(
                x.byte(), torch.zeros(2).long(), numbers(), classes=2, alpha=1
            ),
            "images is torch.uint8; allowed are floats",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 1, 4, 4))
