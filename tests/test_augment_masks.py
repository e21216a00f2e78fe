"""Images and masks are changed alike: whatever is done, each pixel keeps its label."""

import pytest
import torch

from course_lib import augment_masks
from course_lib.batches import IGNORED

CHANGES = {
    "flip": lambda images, masks, draws: augment_masks.random_flip(images, masks, draws),
    "crop": lambda images, masks, draws: augment_masks.random_crop(images, masks, draws, 7),
    "elastic": lambda images, masks, draws: augment_masks.random_elastic(images, masks, draws, 2.0),
}
changes = pytest.mark.parametrize("name", CHANGES)


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def places(count=40, height=12, width=17):
    """Images whose two channels are row and column, and masks that number the pixels."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    images = torch.stack([rows, columns]).float().expand(count, -1, -1, -1)
    return images, (rows * width + columns).expand(count, -1, -1)


@changes
def test_every_pixel_keeps_its_label(name):
    images, masks = places()
    changed, labels = CHANGES[name](images, masks, numbers())
    assert labels.dtype is torch.int64
    named = torch.stack([labels // 17, labels % 17], dim=1)  # row and column of each label
    # Bilinear and nearest sampling differ by at most half a pixel, along each axis.
    assert (changed - named).abs().max() <= (0.5 + 1e-4 if name == "elastic" else 0)
    assert not labels[0].equal(masks[0, : labels.shape[1], : labels.shape[2]])


@changes
def test_draws_differ_by_image_and_follow_the_seed(name):
    images, masks = places()
    first, again, other = (CHANGES[name](images, masks, numbers(s)) for s in (0, 0, 1))
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not first[1].equal(other[1])
    assert len(first[1].flatten(1).unique(dim=0)) > 1


@changes
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_masks_keep_their_dtype_and_invent_no_class(name, dtype):
    images, _ = places()
    masks = torch.randint(2, (40, 12, 17), generator=numbers(5)).to(dtype)
    masks = masks * 5 if dtype is torch.uint8 else masks
    masks = torch.where(masks > 0, 7, IGNORED) if dtype is torch.int64 else masks
    _, labels = CHANGES[name](images, masks, numbers())
    assert labels.dtype is dtype and labels.unique().equal(masks.unique())


def test_a_share_is_flipped():
    images, masks = places(400)
    for p, low, high in ((0.0, 0, 0), (0.3, 80, 160), (1.0, 400, 400)):
        _, labels = augment_masks.random_flip(images, masks, numbers(), p)
        flipped = labels.eq(masks.flip(2)).flatten(1).all(1)
        assert (flipped | labels.eq(masks).flatten(1).all(1)).all()
        assert low <= flipped.sum() <= high


def test_windows_reach_every_border():
    images, masks = places(400)
    _, labels = augment_masks.random_crop(images, masks, numbers(), 7)
    corners = labels[:, 0, 0]
    assert (corners // 17).unique().tolist() == list(range(6))
    assert (corners % 17).unique().tolist() == list(range(11))
    whole, _ = augment_masks.random_crop(images[..., :12], masks[..., :12], numbers(), 12)
    assert whole.equal(images[..., :12])


def test_no_strength_changes_nothing():
    images, masks = places()
    bent, labels = augment_masks.random_elastic(images, masks, numbers(), 0.0)
    torch.testing.assert_close(bent, images, atol=1e-4, rtol=0)
    assert labels.equal(masks)


@pytest.mark.parametrize("cells", [1, 3, 6])
def test_strength_is_the_spread_of_the_shifts_in_pixels(cells):
    images, masks = places(300, 31, 31)
    bent, _ = augment_masks.random_elastic(images, masks, numbers(), 1.5, cells)
    spreads = (bent - images)[:, :, 15, 15].std(0)  # of rows and of columns, at the middle
    # At a corner of the grid the shift is drawn as it is; between four, it is their mean or so.
    assert (0.5 if cells % 2 else 1.3) < spreads.min() and spreads.max() < 1.8
    if cells > 1:  # neighbours move together, far places apart
        moves = (bent - images)[:, 1]
        near = (moves[:, 15, 15] - moves[:, 15, 16]).std()
        far = (moves[:, 15, 8] - moves[:, 15, 22]).std()
        assert near < 0.35 * far


def test_what_comes_from_outside_is_mirrored():
    images, masks = places(1, 8, 8)
    images, masks = images + 1, masks + 1  # so that a fill of 0 would show
    bent, labels = augment_masks.random_elastic(images, masks, numbers(3), 6.0)
    assert bent.min() >= 1 - 1e-4 and labels.min() >= 1
    assert bent.max() <= 8 + 1e-4


def test_double_precision_and_gradients():
    images, masks = places(2)
    images = images.double().requires_grad_()
    bent, _ = augment_masks.random_elastic(images, masks, numbers(), 1.0)
    bent.sum().backward()
    assert bent.dtype is torch.float64 and images.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, m, g: augment_masks.random_flip(i, m[1:], g), r"masks has shape \(39, 12, 17\)"),
        (lambda i, m, g: augment_masks.random_crop(i, m[:, 1:], g, 4), r"allowed is \(40, 12, 17"),
        (lambda i, m, g: augment_masks.random_elastic(i, m[:, None], g, 1.0), "masks has shape"),
        (lambda i, m, g: augment_masks.random_flip(i, m, g, 1.5), "p is 1.5; allowed are shares"),
        (lambda i, m, g: augment_masks.random_crop(i, m, g, 13), "size is 13; allowed are 1 .. 12"),
        (lambda i, m, g: augment_masks.random_crop(i, m, g, 0), "size is 0; allowed are 1 .. 12"),
        (lambda i, m, g: augment_masks.random_elastic(i.byte(), m, g, 1.0), "images is torch.uint"),
        (lambda i, m, g: augment_masks.random_elastic(i, m, g, -1.0), "strength is -1.0; allowed"),
        (lambda i, m, g: augment_masks.random_elastic(i, m, g, 1.0, 0), "cells is 0; allowed are"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    images, masks = places()
    with pytest.raises(ValueError, match=message):
        call(images, masks, numbers())
