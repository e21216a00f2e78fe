"""Transposed convolution, interpolation, losses and scores against torch's and torchmetrics'."""

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional import classification, segmentation

from course_lib import unet

OPTIONS = {
    "plain": {},
    "stride": {"stride": 2},
    "uneven": {"stride": (2, 3), "padding": (1, 0)},
    "padding": {"padding": 1},
    "more": {"stride": 2, "padding": 1, "output_padding": 1},
    "uneven more": {"stride": (3, 2), "output_padding": (2, 1)},
    "dilation": {"dilation": 2, "padding": 2},
    "dilated more": {"dilation": (1, 3), "output_padding": (0, 2)},
    "groups": {"groups": 2, "stride": 2},
    "one by one": {"groups": 4, "stride": 2, "padding": 1},
    "all": {"stride": (2, 1), "padding": 1, "output_padding": (1, 0), "groups": 2, "dilation": 2},
}


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolution_forward_and_backward(name, kernel, bias):
    options = OPTIONS[name]
    groups = options.get("groups", 1)
    shapes = [(2, 4, 5, 6), (4, 6 // groups if groups < 4 else 2, *kernel)]
    shapes += [(shapes[1][1] * groups,)] if bias else []
    found = []
    for function in (unet.conv_transpose2d, F.conv_transpose2d):
        inputs = [random(*s, seed=i).requires_grad_() for i, s in enumerate(shapes)]
        output = function(*inputs, **options)
        (output * random(*output.shape, seed=9)).sum().backward()
        found.append((output.detach(), [x.grad for x in inputs]))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("factor", range(1, 9))
def test_upsampling_begins_as_bilinear_interpolation_but_for_the_border(factor):
    images = random(2, 3, 6, 5).float()
    ours = unet.upsampling(3, factor)(images).detach()
    theirs = F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
    assert ours.shape == theirs.shape
    inner = slice(factor // 2, -(factor // 2) or None)
    torch.testing.assert_close(ours[:, :, inner, inner], theirs[:, :, inner, inner])
    assert factor == 1 or (ours - theirs)[:, :, 0].abs().max() > 0.1


def test_losses():
    logits, mask = random(2, 5, 4, 3), torch.randint(5, (2, 4, 3))
    mask[0, 1] = unet.IGNORED
    expected = F.cross_entropy(logits, mask, ignore_index=-1)
    torch.testing.assert_close(unet.cross_entropy(logits, mask), expected)
    expected = F.binary_cross_entropy(logits.sigmoid(), (logits < 0).double())
    torch.testing.assert_close(unet.binary_cross_entropy(logits, logits < 0), expected)


def masks(classes, present=None):
    generator = torch.Generator().manual_seed(classes)
    wanted = torch.randint(present or classes, (3, 9, 7), generator=generator)
    other = torch.randint(present or classes, (3, 9, 7), generator=generator)
    return torch.where(torch.rand(3, 9, 7, generator=generator) < 0.7, wanted, other), wanted


@pytest.mark.parametrize("classes", [2, 4, 7])
@pytest.mark.parametrize("ignored", [False, True])
def test_scores(classes, ignored):
    predicted, mask = masks(classes)
    if ignored:
        mask[1] = unet.IGNORED
    counts = unet.confusion(predicted, mask, classes)
    options = {"num_classes": classes, "average": None, "ignore_index": -1}
    theirs = classification.multiclass_jaccard_index(predicted, mask, **options)
    torch.testing.assert_close(unet.iou(counts), theirs)
    options |= {"multidim_average": "global"}
    torch.testing.assert_close(
        unet.dice(counts), classification.multiclass_f1_score(predicted, mask, **options)
    )
    matrix = classification.multiclass_confusion_matrix(predicted, mask, classes, ignore_index=-1)
    assert torch.equal(counts, matrix)


def test_scores_of_one_image_as_torchmetrics_names_them():
    predicted, mask = masks(4)
    counts = unet.confusion(predicted[:1], mask[:1], 4)
    options = {"num_classes": 4, "input_format": "index"}
    theirs = segmentation.dice_score(predicted[:1], mask[:1], average=None, **options)
    torch.testing.assert_close(unet.dice(counts), theirs[0])
    theirs = segmentation.mean_iou(predicted[:1], mask[:1], per_class=True, **options)
    torch.testing.assert_close(unet.iou(counts), theirs[0])
