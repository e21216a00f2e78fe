"""Regions of interest on maps that can be checked by eye, and what is refused."""

import pytest
import torch
from torch import nn

from course_lib import rois
from tests import readiness

RAMP = torch.arange(6.0).expand(1, 1, 4, 6)  # each pixel holds its column, its centre at + 0.5
FIRST = torch.tensor([0])


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_pooling_takes_the_largest_of_each_bin():
    maps = torch.arange(24.0).view(1, 1, 4, 6)
    found = rois.roi_pool(maps, boxes([0, 0, 3, 3]), FIRST, 2)  # pixels 0 .. 3, the last included
    assert found.tolist() == [[[[7, 9], [19, 21]]]]
    found = rois.roi_pool(maps, boxes([0, 0, 2, 3]), FIRST, (1, 2))  # 3 columns: 1 is in both bins
    assert found.tolist() == [[[[19, 20]]]]


def test_pooling_rounds_and_aligning_does_not():
    shifts = [0.0, 0.2, 0.4]
    shifted = boxes(*([1 + s, 1, 3 + s, 3] for s in shifts))
    images = torch.zeros(3, dtype=torch.int64)
    pooled = rois.roi_pool(RAMP, shifted, images, 1).flatten()
    assert pooled.tolist() == [3, 3, 3]
    aligned = rois.roi_align(RAMP, shifted, images, 1).flatten()
    torch.testing.assert_close(aligned, torch.tensor([1.5, 1.7, 1.9]))  # the middle 2 + s, less 0.5


def test_aligning_reads_the_middle_of_the_box():
    middle = rois.roi_align(RAMP, boxes([2, 1, 4, 3]), FIRST, 1)
    assert middle.item() == 2.5  # columns 2 and 3
    late = rois.roi_align(RAMP, boxes([2, 1, 4, 3]), FIRST, 1, aligned=False)
    assert late.item() == 3.0  # half a pixel too far


def test_aligning_follows_a_plane_exactly():
    rows, columns = torch.arange(8.0).view(8, 1), torch.arange(8.0)
    plane = (2 * rows - 3 * columns + 1).view(1, 1, 8, 8)
    found = rois.roi_align(plane, boxes([2, 1, 6, 7]), FIRST, (3, 4), sampling_ratio=3)
    y = torch.tensor([1.5, 3.5, 5.5]).view(3, 1)  # middles of bins of 2 rows, less a half
    x = torch.tensor([2.0, 3, 4, 5])
    torch.testing.assert_close(found[0, 0], 2 * y - 3 * x + 1)


def test_each_box_sees_its_own_image():
    maps = torch.tensor([1.0, 2, 3]).view(3, 1, 1, 1).expand(3, 2, 5, 5)
    images = torch.tensor([2, 0, 1, 2] * 20)  # more than one block
    whole = boxes([0, 0, 4, 4]).expand(80, 4)
    for function in (rois.roi_pool, rois.roi_align):
        found = function(maps, whole, images, 2)
        assert found.shape == (80, 2, 2, 2)
        assert torch.equal(found[:, 1, 1, 1], images + 1.0)


def test_the_scale_takes_boxes_to_the_features():
    maps = torch.rand(1, 3, 6, 6)
    small, large = boxes([1, 2, 4, 5]), boxes([16, 32, 64, 80])
    for function in (rois.roi_pool, rois.roi_align):
        expected = function(maps, small, FIRST, 3)
        assert torch.equal(function(maps, large, FIRST, 3, spatial_scale=1 / 16), expected)


def test_outside_is_zero_and_none_gives_none():
    maps = torch.ones(1, 2, 4, 4)
    for function in (rois.roi_pool, rois.roi_align):
        outside = function(maps, boxes([40, 0, 44, 4]), FIRST, 2)
        assert outside.shape == (1, 2, 2, 2) and not outside.any()
        assert function(maps, boxes([0, 0, 1, 1])[:0], FIRST[:0], 2).shape == (0, 2, 2, 2)
        unknown = function(maps, boxes([torch.nan] * 4), FIRST, 2)
        assert unknown.isfinite().all()


def test_a_map_of_one_pixel():
    maps = torch.full((1, 1, 1, 1), 7.0)
    two = boxes([0, 0, 0, 0], [5, 5, 6, 6])  # the second is outside
    for function in (rois.roi_pool, rois.roi_align):
        found = function(maps, two, torch.zeros(2, dtype=torch.int64), 2, spatial_scale=1.0)
        assert found[0].eq(7).all() and not found[1].any()


def test_a_box_without_area():
    maps = torch.ones(1, 1, 4, 4)
    point = boxes([2, 2, 2, 2])
    assert rois.roi_pool(maps, point, FIRST, 2).sum() == 4  # counts as a pixel
    assert rois.roi_align(maps, point, FIRST, 2, sampling_ratio=0).sum() == 0  # spans none
    assert rois.roi_align(maps, point, FIRST, 2, sampling_ratio=2).sum() == 4


def test_the_gradient_of_equal_values_goes_to_the_first():
    maps = torch.zeros(1, 1, 4, 4, requires_grad=True)
    rois.roi_pool(maps, boxes([0, 1, 3, 3]), FIRST, 1).sum().backward()
    assert maps.grad.nonzero().tolist() == [[0, 0, 1, 0]] and maps.grad.sum() == 1


def test_the_gradient_of_aligning_is_spread_evenly():
    maps = torch.zeros(1, 1, 4, 4, requires_grad=True)
    rois.roi_align(maps, boxes([0, 0, 4, 4]), FIRST, 4, sampling_ratio=1).sum().backward()
    assert torch.equal(maps.grad, torch.ones(1, 1, 4, 4))


def test_half_precision_keeps_its_dtype():
    maps = torch.rand(1, 2, 4, 4).bfloat16()
    for function in (rois.roi_pool, rois.roi_align):
        assert function(maps, boxes([0, 0, 3, 3]), FIRST, 2).dtype is torch.bfloat16


# --- what is refused ---------------------------------------------------------------------------


GOOD = {
    "features": torch.ones(2, 3, 4, 4),
    "boxes": boxes([0, 0, 1, 1], [1, 1, 2, 2]),
    "images": torch.tensor([0, 1]),
    "output_size": 2,
}
BAD = {
    "features": (torch.ones(3, 4, 4), torch.ones(2, 3, 4, 4, dtype=torch.uint8)),
    "boxes": (torch.ones(4), torch.ones(2, 5), torch.ones(2, 4, dtype=torch.int64)),
    "images": (torch.tensor([0]), torch.tensor([0.0, 1]), torch.tensor([0, 2]), -torch.ones(2)),
    "output_size": (0, (2, 0), (1, 2, 3)),
    "spatial_scale": (0.0, -1.0, float("nan"), float("inf")),
}


@pytest.mark.parametrize("function", [rois.roi_pool, rois.roi_align])
@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(function, name):
    for value in BAD[name]:
        with pytest.raises(ValueError, match=rf"{name} (is|holds) .*allowed"):
            function(**GOOD | {name: value})


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="images holds -1; allowed are 0 .. 1"):
        rois.roi_align(**GOOD | {"images": torch.tensor([0, -1])})
    with pytest.raises(ValueError, match="sampling_ratio is -1; allowed"):
        rois.roi_align(**GOOD, sampling_ratio=-1)


# --- ready for a GPU ---------------------------------------------------------------------------


class Head(nn.Module):
    """Features of whole images, then a layer over both kinds of regions."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(2 * 4 * 9, 1)

    def forward(self, images, regions, numbers):
        features = self.body(images)
        parts = [
            function(features, regions, numbers, 3, spatial_scale=0.5).flatten(1)
            for function in (rois.roi_pool, rois.roi_align)
        ]
        return self.head(torch.cat(parts, dim=1))


def loss(model, images, regions, numbers):
    return model(images, regions, numbers).square().mean()


@pytest.mark.parametrize("check", ["fake_cuda", "meta", "autocast", "compiles"])
def test_readiness(check):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 12, 12, generator=generator)
    regions = torch.tensor([[0.0, 0, 6, 7], [2, 3, 11, 9], [-3, 4, 20, 8]])
    getattr(readiness, f"check_{check}")(Head(), loss, [images, regions, torch.tensor([0, 1, 1])])
