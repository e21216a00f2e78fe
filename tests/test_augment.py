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
