"""Regions of interest against torchvision.ops, forward and backward in float64."""

import pytest
import torch
from torchvision import ops

from course_lib import rois

HEIGHT, WIDTH, IMAGES = 9, 13, 3  # of the features; images are eight times as large
SCALE = 1 / 8
SIZES = (1, 3, (2, 5), 7)


def drawn(count, low, high, seed=0):
    """Boxes with corners anywhere between `low` and `high` of the image's size."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator, dtype=torch.float64)
    corners = (low + (high - low) * corners).sort(dim=1).values
    return (corners * torch.tensor([WIDTH, HEIGHT]) / SCALE).flatten(1)


def cases():
    """name -> boxes (N, 4)."""
    usual = drawn(40, 0, 1)
    whole = torch.tensor([[0.0, 0, WIDTH / SCALE, HEIGHT / SCALE]], dtype=torch.float64)
    return {
        "usual": usual,
        "many": drawn(150, 0, 1, seed=1),  # more than one block
        "beyond the border": drawn(40, -0.5, 1.5),
        "far outside": usual + 2000,
        "far outside, above": usual - 2000,
        "at the border": torch.cat([whole, whole - 8, whole + 8, whole * 2 - whole.max()]),
        "smaller than a bin": torch.cat([usual[:, :2], usual[:, :2] + 0.3], dim=1),
        "points": usual[:, :2].repeat(1, 2),
        "lines": torch.cat([usual[:, :3], usual[:, 1:2]], dim=1),
        "on pixels": (usual / 8).round() * 8,
        "on halves of pixels": (usual / 8).round() * 8 + 4,
        "on negative halves": (usual / 8).round() * 8 - 44,
        "corners swapped": usual[:, [2, 3, 0, 1]],
        "none": usual[:0],
    }


CASES = cases()


def feature_maps(kind):
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(IMAGES, 4, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    return {"usual": maps, "ties": maps.relu().round()}[kind]


def check(ours, theirs, boxes, kind="usual"):
    """Equal values, and equal gradients of the features."""
    images = torch.arange(len(boxes)) * 7 % IMAGES
    values, gradients = [], []
    for function, arguments in (
        (ours, (boxes, images)),
        (theirs, (torch.cat([images.unsqueeze(1).double(), boxes], dim=1),)),
    ):
        features = feature_maps(kind).requires_grad_()
        value = function(features, *arguments)
        weight = torch.linspace(-1, 2, value.numel(), dtype=torch.float64).view_as(value)
        (value * weight).sum().backward()
        values.append(value.detach())
        gradients.append(features.grad)
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["usual", "ties"])
def test_roi_pool(name, kind):
    for size in SIZES:
        check(
            lambda *a, size=size: rois.roi_pool(*a, size, spatial_scale=SCALE),
            lambda *a, size=size: ops.roi_pool(*a, size, SCALE),
            CASES[name],
            kind,
        )


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_roi_align(name, ratio, aligned):
    options = {"spatial_scale": SCALE, "sampling_ratio": ratio, "aligned": aligned}
    for size in SIZES:
        check(
            lambda *a, size=size: rois.roi_align(*a, size, **options),
            lambda *a, size=size: ops.roi_align(*a, size, **options),
            CASES[name],
        )


def test_other_scales_and_float32():
    boxes = drawn(60, -0.2, 1.2).float() * SCALE
    images = torch.arange(60) % IMAGES
    features = feature_maps("usual").float()
    theirs = torch.cat([images.unsqueeze(1).float(), boxes], dim=1)
    assert torch.equal(rois.roi_pool(features, boxes, images, 4), ops.roi_pool(features, theirs, 4))
    torch.testing.assert_close(
        rois.roi_align(features, boxes, images, 4),
        ops.roi_align(features, theirs, 4, sampling_ratio=2, aligned=True),
    )
