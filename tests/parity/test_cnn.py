"""Convolution and pooling by hand against torch's: values, gradients, indices and refusals."""

import random
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import cnn

SIZES = ((7, 7), (6, 8), (5, 9))
REFUSED = "refused"


def pixels(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def tied(*shape):
    """Few different values, so that most windows hold their largest more than once."""
    return torch.randint(-2, 3, shape).double().requires_grad_()


def outcome(function, *arguments, **options):
    """What a function returns, or that it refuses its arguments."""
    try:
        return function(*arguments, **options)
    except (ValueError, RuntimeError):
        return REFUSED


def assert_equal_with_gradients(ours, reference, leaves, case):
    """Equal values and equal gradients for every leaf, or refused by both."""
    if isinstance(reference, str) or isinstance(ours, str):
        assert ours is reference, case
        return False
    assert ours.shape == reference.shape, case
    torch.testing.assert_close(ours, reference, msg=lambda text: f"{case}: {text}")
    direction = torch.randn_like(reference)
    actual = torch.autograd.grad(ours, leaves, direction)
    expected = torch.autograd.grad(reference, leaves, direction)
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, msg=lambda text: f"gradient, {case}: {text}")
    return True


def options(**choices):
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


@pytest.mark.parametrize("padding_mode", cnn.PADDING_MODES)
@pytest.mark.parametrize("kernel_size", [3, (1, 4), (2, 3)], ids=str)
def test_convolution(kernel_size, padding_mode):
    torch.manual_seed(0)
    settings = options(
        stride=[1, (2, 1), 3],
        padding=[0, (1, 0), (2, 3)],
        dilation=[1, (2, 1)],
        groups=[1, 2],
    )
    compared = 0
    for number, setting in enumerate(settings):
        bias = number % 2 == 0
        layer = nn.Conv2d(4, 6, kernel_size, bias=bias, padding_mode=padding_mode, **setting)
        layer = layer.double()
        images = pixels(1, 4, *SIZES[number % len(SIZES)])
        arguments = (images, layer.weight, layer.bias)
        ours = outcome(cnn.conv2d, *arguments, padding_mode=padding_mode, **setting)
        leaves = [leaf for leaf in arguments if leaf is not None]
        compared += assert_equal_with_gradients(ours, outcome(layer, images), leaves, setting)
    assert compared > len(settings) // 2


def test_a_kernel_for_each_channel():
    images, weight = pixels(2, 4, 5, 5), pixels(8, 1, 3, 3)
    ours, reference = (f(images, weight, groups=4) for f in (cnn.conv2d, F.conv2d))
    assert assert_equal_with_gradients(ours, reference, [images, weight], "depthwise")


def test_no_images_give_no_images():
    images, weight = torch.zeros(0, 2, 5, 5), torch.zeros(3, 2, 3, 3)
    assert cnn.conv2d(images, weight).shape == (0, 3, 3, 3)
    assert cnn.max_pool2d(images, 2).shape == (0, 2, 2, 2)


@pytest.mark.parametrize("mode", cnn.PADDING_MODES)
@pytest.mark.parametrize("padding", [1, 2, 3, 4, 5, (0, 3), (4, 1)], ids=str)
def test_padding(mode, padding):
    images = pixels(2, 3, 4, 5)
    down, across = (padding, padding) if isinstance(padding, int) else padding
    name = {"zeros": "constant"}.get(mode, mode)
    reference = outcome(F.pad, images, (across, across, down, down), mode=name)
    assert_equal_with_gradients(outcome(cnn.pad2d, images, padding, mode), reference, [images], "")


@pytest.mark.parametrize("make_images", [pixels, tied])
def test_max_pooling_and_its_indices(make_images):
    torch.manual_seed(0)
    settings = options(
        kernel_size=[2, 3, (1, 4)],
        stride=[None, 1, (3, 2)],
        padding=[0, 1, (0, 2)],
        dilation=[1, (1, 2)],
        ceil_mode=[False, True],
    )
    compared = 0
    for number, setting in enumerate(settings):
        images = make_images(1, 2, *SIZES[number % len(SIZES)])
        ours = outcome(cnn.max_pool2d_with_indices, images, **setting)
        reference = outcome(F.max_pool2d, images, return_indices=True, **setting)
        assert (ours is REFUSED) == (reference is REFUSED), setting
        if reference is not REFUSED:
            assert ours[1].equal(reference[1]), setting
            assert cnn.max_pool2d(images, **setting).equal(reference[0]), setting
            compared += assert_equal_with_gradients(ours[0], reference[0], [images], setting)
    assert compared > len(settings) // 2


def test_padding_never_wins_even_against_minus_infinity():
    images = torch.full((1, 1, 4, 4), -torch.inf)
    values, indices = cnn.max_pool2d_with_indices(images, 3, 2, 1)
    assert values.equal(torch.full((1, 1, 2, 2), -torch.inf))
    assert ((indices >= 0) & (indices < 16)).all()


def test_average_pooling():
    torch.manual_seed(0)
    settings = options(
        kernel_size=[2, 3, (1, 4)],
        stride=[None, 2, (3, 2)],
        padding=[0, 1, (0, 2)],
        ceil_mode=[False, True],
        count_include_pad=[False, True],
    )
    compared = 0
    for number, setting in enumerate(settings):
        images = pixels(1, 2, *SIZES[number % len(SIZES)])
        ours = outcome(cnn.avg_pool2d, images, **setting)
        reference = outcome(F.avg_pool2d, images, **setting)
        compared += assert_equal_with_gradients(ours, reference, [images], setting)
    assert compared > len(settings) // 2


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("make_images", [pixels, tied])
def test_adaptive_pooling(kind, make_images):
    torch.manual_seed(0)
    ours = getattr(cnn, f"adaptive_{kind}_pool2d")
    reference = getattr(F, f"adaptive_{kind}_pool2d")
    for size, wanted in product(SIZES, [1, 3, (7, 4), (11, 2)]):
        images = make_images(2, 3, *size)
        case = f"{size} -> {wanted}"
        results = ours(images, wanted), reference(images, wanted)
        assert assert_equal_with_gradients(*results, [images], case)


@pytest.mark.parametrize("padding", [0, 1])
def test_unpooling(padding):
    torch.manual_seed(0)
    for size, kernel, stride in product(SIZES, [2, 3, (3, 2)], [2, (2, 3), 1]):
        options = {"kernel_size": kernel, "stride": stride, "padding": padding}
        values, indices = F.max_pool2d(pixels(2, 3, *size), return_indices=True, **options)
        values = values.detach().requires_grad_()
        reference = F.max_unpool2d(values, indices, output_size=size, **options)
        ours = cnn.max_unpool2d(values, indices, size)
        assert assert_equal_with_gradients(ours, reference, [values], (size, options))


def random_windows(count=800):
    numbers = random.Random(0)
    for _ in range(count):
        size, kernel, stride = (numbers.randint(1, most) for most in (20, 6, 6))
        yield size, kernel, stride, numbers.randint(0, 4), numbers.randint(1, 4)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_output_size_of_pooling(ceil_mode):
    for size, kernel, stride, padding, dilation in random_windows():
        if padding > kernel // 2:
            continue  # pooling refuses it, the formula does not
        case = (size, kernel, stride, padding, dilation, ceil_mode)
        column = torch.zeros(1, 1, size, 1)
        pairs = [(kernel, 1), (stride, 1), (padding, 0), (dilation, 1)]
        reference = outcome(F.max_pool2d, column, *pairs, ceil_mode=ceil_mode)
        wanted = reference if reference is REFUSED else reference.shape[2]
        assert outcome(cnn.output_size, *case) == wanted, case


def test_output_size_of_convolution():
    for case in random_windows():
        size, kernel, stride, padding, dilation = case
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        line, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
        reference = outcome(F.conv1d, line, weight, **options)
        wanted = reference if reference is REFUSED else reference.shape[2]
        assert outcome(cnn.output_size, *case) == wanted, case


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_starts_as_torchs_and_takes_its_weights(bias):
    options = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "bias": bias}
    options["padding_mode"] = "reflect"
    torch.manual_seed(3)
    ours = cnn.Conv2d(4, 6, (3, 2), **options)
    torch.manual_seed(3)
    reference = nn.Conv2d(4, 6, (3, 2), **options)
    torch.testing.assert_close(ours.state_dict(), reference.state_dict())
    nn.init.normal_(reference.weight)
    ours.load_state_dict(reference.state_dict())
    images = torch.randn(2, 4, 9, 8)
    torch.testing.assert_close(ours(images), reference(images))


@pytest.mark.parametrize("padding_mode", cnn.PADDING_MODES)
@pytest.mark.parametrize("setting", [{}, {"stride": 2, "dilation": 2}, {"groups": 2}], ids=str)
def test_the_dense_matrix_is_the_convolution(setting, padding_mode):
    torch.manual_seed(0)
    setting = {**setting, "padding": (2, 1), "padding_mode": padding_mode}
    images, weight = pixels(3, 4, 5, 6), pixels(6, 4 // setting.get("groups", 1), 3, 2)
    matrix = cnn.dense_matrix(weight, (5, 6), **setting)
    dense = images.flatten(1) @ matrix.T
    convolved = cnn.conv2d(images, weight, **setting).flatten(1)
    assert matrix.shape == (convolved.shape[1], 4 * 5 * 6)
    assert assert_equal_with_gradients(dense, convolved, [images, weight], setting)
