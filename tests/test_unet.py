"""Chapter 10: shapes, sizes, what the losses and scores mean, tiles that leave no seam."""

import pytest
import torch
from torch import nn

from course_lib import unet
from course_lib.cnn import conv_block


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def body():
    return nn.Sequential(conv_block(3, 4, pool=True), conv_block(4, 8, pool=True))


NETWORKS = {
    "U-Net": lambda: unet.UNet(3, 4, channels=(4, 6, 8)),
    "without skips": lambda: unet.UNet(3, 4, channels=(4, 6, 8), skips=False),
    "with a stem": lambda: unet.UNet(3, 4, channels=(4, 6), stem=2),
    "FCN": lambda: unet.FCN(body(), 8, 4, factor=4),
}
networks = pytest.mark.parametrize("name", NETWORKS)


# --- transposed convolution --------------------------------------------------------------------


def test_a_pixel_stamps_the_kernel():
    kernel = torch.arange(1.0, 5).view(1, 1, 2, 2)
    images = torch.tensor([[1.0, 0], [0, 2]]).view(1, 1, 2, 2)
    stamped = unet.conv_transpose2d(images, kernel, stride=2)[0, 0]
    assert stamped.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 2, 4], [0, 0, 6, 8]]
    added = unet.conv_transpose2d(images, kernel)[0, 0]
    assert added.tolist() == [[1, 2, 0], [3, 6, 4], [0, 6, 8]]


def test_bilinear_kernels():
    assert unet.bilinear_kernel(1).tolist() == [[1]]
    assert unet.bilinear_kernel(2)[1].tolist() == [0.1875, 0.5625, 0.5625, 0.1875]
    for factor in range(1, 7):
        kernel = unet.bilinear_kernel(factor)
        torch.testing.assert_close(kernel.sum(), torch.tensor(float(factor**2)))
    with pytest.raises(ValueError, match="factor is 0"):
        unet.bilinear_kernel(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": torch.zeros(3, 4, 4)},
            r"images is torch.float32 \(3, 4, 4\); allowed are four",
        ),
        ({"weight": torch.zeros(2, 2, 3, 3)}, "weight has 2 input channels; allowed are 4"),
        ({"bias": torch.zeros(3)}, r"bias has shape \(3,\); allowed is \(2,\)"),
        ({"groups": 3}, "groups is 3; allowed are divisors of 4"),
        ({"stride": 0}, "stride is 0; allowed is a whole number from 1, or a pair"),
        ({"padding": (1, 2, 3)}, r"padding is \(1, 2, 3\); allowed is a whole number from 0"),
        ({"output_padding": 1}, "output_padding is 1; allowed are numbers below stride 1"),
        ({"padding": 4}, "padding is 4; allowed is less than half"),
    ],
)
def test_bad_arguments_of_a_transposed_convolution(change, message):
    arguments = {"images": torch.zeros(1, 4, 4, 4), "weight": torch.zeros(4, 2, 3, 3)}
    with pytest.raises(ValueError, match=message):
        unet.conv_transpose2d(**(arguments | change))


# --- networks ----------------------------------------------------------------------------------


@networks
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (1, 5), (31, 8)])
def test_any_size_goes_in_and_comes_out(name, size):
    assert NETWORKS[name]().eval()(random(2, 3, *size)).shape == (2, 4, *size)


@pytest.mark.parametrize("channels", [(4, 8), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("stem", [1, 3])
def test_any_depth_and_channels(channels, stem):
    model = unet.UNet(1, 2, channels, stem=stem).eval()
    assert model(random(1, 1, 13, 9)).shape == (1, 2, 13, 9)
    assert len(model.decoders) == len(channels) - 1 == len(model.encoders) - 1


def test_filling_up_repeats_the_border():
    model = unet.UNet(1, 1, (2, 3, 4)).eval()
    images = random(1, 1, 6, 8)
    filled = torch.cat([images, images[:, :, -1:], images[:, :, -1:]], dim=2)
    torch.testing.assert_close(model(images), model(filled)[:, :, :6])


def test_detail_crosses_the_u_only_with_skips():
    images = random(1, 3, 16, 16)
    for skips in (True, False):
        torch.manual_seed(0)
        model = unet.UNet(3, 1, (4, 6, 8), skips).eval()
        for up in model.ups:
            nn.init.zeros_(up.weight)  # nothing comes up from below
        detail = model(images).detach()[0, 0, 4:12, 4:12].std()
        assert (detail > 1e-4) == skips


@pytest.mark.parametrize("stem", [1, 2])
def test_nothing_beyond_the_reach_changes_a_prediction(stem):
    torch.manual_seed(0)
    model = unet.UNet(1, 1, (8, 8), stem=stem).eval()
    images = random(1, 1, 64, 64).requires_grad_()
    model(images)[0, 0, 32, 32].backward()
    rows = images.grad[0, 0].abs().sum(1).nonzero().flatten() - 32
    assert 0 < rows.abs().max() <= model.reach == 14 * stem


def test_bad_networks_are_refused():
    with pytest.raises(ValueError, match=r"channels is \(4,\); allowed are two numbers"):
        unet.UNet(channels=(4,))
    with pytest.raises(ValueError, match="stem is 0; allowed are whole numbers from 1"):
        unet.UNet(stem=0)


# --- losses and scores -------------------------------------------------------------------------


def test_ignored_pixels_have_no_loss_and_no_gradient():
    logits, mask = random(1, 3, 4, 4).requires_grad_(), torch.ones(1, 4, 4).long()
    mask[0, 0] = unet.IGNORED
    unet.cross_entropy(logits, mask).backward()
    assert logits.grad[:, :, 0].eq(0).all() and logits.grad[:, :, 1:].ne(0).all()
    nothing = unet.cross_entropy(logits, torch.full_like(mask, unet.IGNORED))
    nothing.backward()
    assert nothing == 0 and logits.grad.isfinite().all()


def test_dice_loss():
    truth = torch.zeros(1, 1, 10, 10)
    truth[..., :2, :] = 1
    assert unet.dice_loss(truth, truth) == 0
    half = truth.clone()
    half[..., :1, :] = 0  # 10 of 20 pixels: 2 x 10 / 30
    assert unet.dice_loss(half, truth, smooth=0.0).item() == pytest.approx(1 / 3)
    assert unet.dice_loss(half.bfloat16(), truth.bool()).dtype is torch.float32
    empty = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = unet.dice_loss(empty, torch.zeros(2, 3, 4, 4))
    loss.backward()
    assert loss == 0 and empty.grad.isfinite().all()
    with pytest.raises(ValueError, match=r"targets has shape \(1, 10, 10\); allowed is"):
        unet.dice_loss(truth, truth[0])


def test_scores_of_a_small_example():
    mask = torch.tensor([[[0, 0, 1], [1, 1, -1]]])
    predicted = torch.tensor([[[0, 1, 1], [1, 0, 2]]])
    counts = unet.confusion(predicted, mask, 3)
    assert counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    iou, dice = unet.iou(counts), unet.dice(counts)
    torch.testing.assert_close(iou[:2], torch.tensor([1 / 3, 2 / 4]))
    torch.testing.assert_close(dice[:2], torch.tensor([2 / 4, 4 / 6]))
    assert iou[2].isnan() and dice[2].isnan()
    torch.testing.assert_close(unet.iou(counts + counts), iou, equal_nan=True)


def test_bad_masks_are_refused():
    mask = torch.zeros(1, 2, 2).long()
    with pytest.raises(ValueError, match="mask holds 3; allowed are 0 .. 2"):
        unet.confusion(mask, mask + 3, 3)
    with pytest.raises(ValueError, match="predicted holds -1; allowed are 0 .. 2"):
        unet.confusion(mask - 1, mask, 3)
    with pytest.raises(ValueError, match=r"predicted has shape \(2, 2\); allowed is \(1, 2, 2\)"):
        unet.confusion(mask[0], mask, 3)


# --- islands -----------------------------------------------------------------------------------


def drawn(*rows):
    return torch.tensor([[symbol == "#" for symbol in row] for row in rows])


def test_islands_are_numbered_and_small_ones_left_out():
    mask = drawn("##...#", ".#...#", "..#...", "....##", "#..###")  # a touch by a corner parts
    assert unet.count_components(mask) == 5
    numbered = unet.components(mask, least_area=3)
    assert numbered.dtype is torch.int64 and numbered.max() == 2
    assert numbered.eq(1).equal(drawn("##....", ".#....", "......", "......", "......"))
    assert numbered.eq(2).equal(drawn("......", "......", "......", "....##", "...###"))
    counts = [unet.count_components(mask, area) for area in range(1, 7)]
    assert counts == [5, 3, 2, 1, 1, 0]  # of 1, 1, 2, 3 and 5 pixels


def test_islands_of_nothing_and_of_everything():
    assert unet.count_components(torch.zeros(3, 4).bool()) == 0
    assert unet.components(torch.ones(3, 4).bool()).eq(1).all()


def test_islands_equal_a_flood():
    mask = random(30, 40) > 0.3
    numbered, seen = unet.components(mask), set()
    for start in mask.nonzero().tolist():
        flood, open_places = set(), [tuple(start)]
        while open_places:
            y, x = open_places.pop()
            if 0 <= y < 30 and 0 <= x < 40 and mask[y, x] and (y, x) not in flood:
                flood.add((y, x))
                open_places += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        assert {numbered[place].item() for place in flood} == {numbered[tuple(start)].item()}
        seen.add(frozenset(flood))
    assert len(seen) == unet.count_components(mask) == numbered.max()


def test_bad_islands_are_refused():
    with pytest.raises(ValueError, match=r"mask is torch.bool \(1, 2, 2\); allowed are two axes"):
        unet.components(torch.zeros(1, 2, 2).bool())
    with pytest.raises(ValueError, match="mask is torch.float32"):
        unet.count_components(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="least_area is 0; allowed are whole numbers from 1"):
        unet.count_components(torch.zeros(2, 2).bool(), 0)


# --- tiles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("size", [(64, 48), (51, 67)])
def test_tiles_leave_no_seam_wherever_they_begin(stem, size):
    torch.manual_seed(0)
    model = unet.UNet(1, 2, (3, 4), stem=stem).eval()
    images = random(1, 1, *size)
    with torch.no_grad():
        whole = model(images)
    for tile in (12, 16, 40, 128):
        # One more than the reach: what is cut must still begin at a multiple.
        tiled = unet.predict_tiled(model, images, tile, model.reach + 1, model.multiple)
        torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-5)
    seams = unet.predict_tiled(model, images, 16, 0, model.multiple)
    assert (seams - whole).abs().max() > 1e-3


@pytest.mark.parametrize("tile", [4, 10])
def test_tiles_see_as_far_as_the_reach_and_no_farther(tile):
    model = nn.Conv2d(1, 1, kernel_size=7, padding=3)  # it looks three pixels far
    images = random(1, 1, 21, 18)
    whole, errors = model(images), []
    for reach in (2, 3, 4):
        tiled = unet.predict_tiled(model, images, tile, reach, multiple=1)
        errors.append((tiled - whole).abs().max().item())
    assert errors[0] > 1e-3 and max(errors[1:]) < 1e-5
    coarse = unet.predict_tiled(model, images, 4, reach=3, multiple=4)  # cut at 4, not at 3
    torch.testing.assert_close(coarse, whole)


def test_bad_tiles_are_refused():
    for tile in (0, 6):
        with pytest.raises(ValueError, match=f"tile is {tile}; allowed are multiples of 4"):
            unet.predict_tiled(nn.Identity(), random(1, 1, 8, 8), tile, 4, 4)
    with pytest.raises(ValueError, match="reach is -1"):
        unet.predict_tiled(nn.Identity(), random(1, 1, 8, 8), 4, -1, 4)
