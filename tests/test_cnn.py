"""Chapter 02's layers and networks: shapes, refusals, readiness; parity/test_cnn.py has values."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import cnn, data, recipes
from tests import readiness


@pytest.fixture
def network():
    return cnn.DigitNet(width=4)


def batch(count=4):
    return torch.randn(count, 1, 28, 28), torch.arange(count)


def loss(model, images, labels):
    return F.cross_entropy(model(images), labels)


def test_shapes(network):
    assert network(batch(3)[0]).shape == (3, 10)
    assert cnn.DigitNet(classes=4)(batch(3)[0]).shape == (3, 4)


def test_it_can_memorise_a_batch(network):
    torch.manual_seed(0)
    images, labels = batch(8)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss(network, images, labels).backward()
        optimizer.step()
    assert network(images).argmax(1).equal(labels)


class ByHand(nn.Module):
    """Every function of the module in one small network."""

    def __init__(self):
        super().__init__()
        self.first = cnn.Conv2d(1, 4, 3, stride=2, padding=1, padding_mode="reflect")
        self.second = cnn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.classify = nn.Linear(2 * 4 * 9, 10)

    def forward(self, images):
        images = torch.relu(self.first(images))
        values, indices = cnn.max_pool2d_with_indices(images, 3, 2, 1, ceil_mode=True)
        images = cnn.max_unpool2d(values, indices, images.shape[2:])
        images = cnn.avg_pool2d(self.second(images), 2, padding=1, count_include_pad=False)
        pooled = cnn.adaptive_avg_pool2d(images, 3), cnn.adaptive_max_pool2d(images, 3)
        return self.classify(torch.cat(pooled, dim=1).flatten(1))


def test_layers_by_hand_are_ready_for_any_device():
    readiness.check_fake_cuda(ByHand(), loss, batch())
    readiness.check_meta(ByHand(), loss, batch())
    readiness.check_autocast(ByHand(), loss, batch())


def test_layers_by_hand_compile_without_graph_breaks():
    readiness.check_compiles(ByHand(), loss, batch())


@pytest.mark.parametrize("layer", [cnn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3)], ids=["ours", "torch"])
def test_autocast_gives_the_same_dtype_as_torch(layer):
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.zeros(1, 2, 5, 5)).dtype is torch.bfloat16


def test_minus_infinity_pads_an_all_negative_image():
    images = torch.full((1, 1, 3, 3), -1.0)
    assert cnn.max_pool2d(images, 3, 2, 1, ceil_mode=True).equal(-torch.ones(1, 1, 2, 2))


def zeros(*shape):
    return torch.zeros(shape)


IMAGES, WEIGHT = zeros(2, 4, 6, 5), zeros(6, 4, 3, 3)
CONV, MAX, AVG = cnn.conv2d, cnn.max_pool2d, cnn.avg_pool2d
REFUSALS = [
    (CONV, (zeros(4, 6, 5), WEIGHT), {}, r"images is .*\(4, 6, 5\); allowed are four axes"),
    (CONV, (IMAGES.byte(), WEIGHT), {}, "images is torch.uint8 .* of floats"),
    (CONV, (IMAGES, zeros(6, 4, 3)), {}, r"weight is .*\(6, 4, 3\); allowed are four axes"),
    (CONV, (IMAGES, zeros(6, 3, 3, 3)), {}, "weight has 3 input channels; allowed are 4"),
    (CONV, (IMAGES, WEIGHT), {"groups": 2}, "weight has 4 input channels; allowed are 2"),
    (CONV, (IMAGES, WEIGHT), {"groups": 3}, "groups is 3; allowed are divisors of 4, the input"),
    (CONV, (IMAGES, WEIGHT), {"groups": 4}, "groups is 4; allowed are divisors of 6, the output"),
    (CONV, (IMAGES, WEIGHT), {"groups": 0}, "groups is 0; allowed are whole numbers from 1"),
    (CONV, (IMAGES, WEIGHT, zeros(4)), {}, r"bias has shape \(4,\); allowed is \(6,\)"),
    (CONV, (IMAGES, WEIGHT), {"stride": 0}, "stride is 0; allowed are whole numbers from 1"),
    (CONV, (IMAGES, WEIGHT), {"stride": (1, 2, 1)}, r"stride is \(1, 2, 1\); allowed .* or a pair"),
    (CONV, (IMAGES, WEIGHT), {"dilation": (1, 0)}, "dilation is 0; allowed"),
    (CONV, (IMAGES, WEIGHT), {"padding": -1}, "padding is -1; allowed are whole numbers from 0"),
    (CONV, (IMAGES, WEIGHT), {"padding": 1.0}, "padding is 1.0; allowed are whole numbers"),
    (CONV, (IMAGES, WEIGHT), {"padding_mode": "same"}, "'same'; allowed are zeros, reflect"),
    (CONV, (IMAGES, WEIGHT), {"dilation": 3}, "kernel_size is 3, which spans 7 pixels .* most 6"),
    (cnn.pad2d, (IMAGES, 5, "reflect"), {}, "padding is 5; allowed with 'reflect' is at most 4"),
    (cnn.pad2d, (IMAGES, 6, "circular"), {}, "padding is 6; allowed with 'circular' is at most 5"),
    (MAX, (IMAGES, 3, 1, 2), {}, "padding is 2; allowed is at most 1, half of kernel_size 3"),
    (MAX, (IMAGES, 0), {}, "kernel_size is 0; allowed are whole numbers from 1"),
    (MAX, (IMAGES, 7), {}, "kernel_size is 7, .* at most 6"),
    (MAX, (IMAGES.long(), 2), {}, "images is torch.int64"),
    (AVG, (IMAGES, (2, 3), 1, (1, 2)), {}, "padding is 2; allowed is at most 1"),
    (AVG, (IMAGES[0], 2), {}, "four axes"),
    (cnn.adaptive_avg_pool2d, (IMAGES, (2, 0)), {}, "output_size is 0; allowed"),
    (cnn.adaptive_max_pool2d, (IMAGES[0], 2), {}, "four axes"),
    (cnn.max_unpool2d, (IMAGES, zeros(2, 4, 6, 4).long(), 9), {}, "indices has shape .* allowed"),
    (cnn.output_size, (5, 6), {}, "kernel_size is 6, .* at most 5, the size with its padding"),
    (cnn.output_size, (0, 1), {}, "size is 0; allowed are whole numbers from 1"),
    (cnn.Conv2d, (4, 6, 3), {"groups": 4}, "groups is 4; allowed are divisors of 6"),
    (cnn.Conv2d, (0, 6, 3), {}, "number of input channels is 0; allowed"),
    (cnn.Conv2d, (4, 6, 3), {"padding_mode": "mirror"}, "'mirror'; allowed are zeros, reflect"),
]


@pytest.mark.parametrize(("function", "arguments", "options", "message"), REFUSALS)
def test_refusals_name_the_argument_its_value_and_what_is_allowed(
    function, arguments, options, message
):
    with pytest.raises(ValueError, match=message):
        function(*arguments, **options)


def test_pooling_before_norm_and_relu_shrinks_early():
    network = cnn.SmallCNN(classes=4, widths=(3, 5, 6))
    shapes = []
    for layer in network.features:
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    assert network(batch(3)[0]).shape == (3, 4)
    assert shapes == [(3, 14, 14), (5, 7, 7), (6, 7, 7)]
    assert [type(layer) for layer in network.features[0]][1:] == [
        nn.MaxPool2d,
        nn.BatchNorm2d,
        nn.ReLU,
    ]


def test_recipe_learns_the_training_digits_only():
    recipe = recipes.cnn(steps=25)
    assert len(recipe.batches.tensors[0]) == 60_000
    recipe.fit()
    assert recipe.test(recipe.model)["accuracy"] > 0.85


def test_the_long_recipe_differs_in_its_steps_only():
    short, long = recipes.cnn(seed=3), recipes.cnn_long(seed=3)
    assert replace(long.config, steps=short.config.steps) == short.config
    assert long.config.steps >= 3 * short.config.steps
    assert type(long.model) is type(short.model)


def test_the_tutorial_sees_each_digit_as_torchvision_would_and_tests_them_so():
    recipe = recipes.tutorial()
    assert (recipe.config.steps, recipe.config.optimizer) == (5 * 938, "adam")
    mnist = data.load("mnist")
    pictures = recipe.batches.dataset
    image, label = pictures[7]
    expected = (mnist.x_train[7].double() / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(image.double(), expected, rtol=1e-5, atol=1e-5)
    assert (len(pictures), label) == (60_000, mnist.y_train[7].item())

    seen = []
    recipe.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    recipe.test(recipe.model)
    expected = (mnist.x_test[0].double() / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(seen[0].double(), expected, rtol=1e-5, atol=1e-5)
    images, labels = next(iter(recipe.batches))
    assert images.shape == (64, 1, 28, 28) and labels.dtype is torch.int64
