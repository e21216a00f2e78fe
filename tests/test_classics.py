"""The classic networks: shapes, counts, refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib import classics

NETWORKS = {
    "LeNet": classics.LeNet,
    "LeNet-relu-max": lambda **options: classics.LeNet(activation="relu", pooling="max", **options),
    "NotesCNN": classics.NotesCNN,
    "NotesCNN-stride-global": lambda **options: classics.NotesCNN(
        shrink="stride", head="global", **options
    ),
    "AlexNet28": classics.AlexNet28,
    "VGG28": classics.VGG28,
    "NiN28": classics.NiN28,
    "GoogLeNet28": classics.GoogLeNet28,
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]


def batch():
    return torch.randn(4, 1, 28, 28), torch.arange(4)


def loss(model, images, labels):
    return F.cross_entropy(model(images), labels)


def test_images_become_logits_of_either_sign(network):
    model = network(classes=5).eval()
    assert model(batch()[0]).shape == (4, 5)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)][-1]
    nn.init.constant_(last.bias, -100.0)
    assert (model(batch()[0]) < 0).all()


def test_a_slice_of_the_layers_shows_what_is_inside(network):
    model, images = network().eval(), batch()[0]
    half = len(model.layers) // 2
    torch.testing.assert_close(model.layers[half:](model.layers[:half](images)), model(images))


def test_every_weight_learns(network):
    model = network()
    loss(model, *batch()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_multiply_adds_are_half_of_torchs_count_of_operations(network):
    model = network()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 1, 28, 28))
    assert classics.multiply_adds(model, (1, 28, 28)) == counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("model", "count"),
    [(classics.LeNet(), 61_706), (classics.NotesCNN(), 160 + 4_640 + 1_568 * 128 + 128 + 1_290)],
)
def test_parameters_are_those_known(model, count):
    assert classics.parameters(model) == count


def test_options_change_what_they_say():
    kinds = [type(layer) for layer in classics.LeNet(activation="tanh", pooling="max").layers]
    assert kinds.count(nn.Tanh) == 4 and kinds.count(nn.MaxPool2d) == 2
    assert nn.Sigmoid not in kinds and nn.AvgPool2d not in kinds
    strided = classics.NotesCNN(shrink="stride")
    assert [layer.stride for layer in strided.layers if isinstance(layer, nn.Conv2d)] == [
        (2, 2)
    ] * 2
    rates = [layer.p for layer in classics.AlexNet28(dropout=0.25).layers if hasattr(layer, "p")]
    assert rates == [0.25, 0.25]
    assert classics.parameters(classics.NotesCNN(head="global")) == 160 + 4_640 + 33 * 128 + 1_290


def test_dropout_acts_in_training_only():
    for kind in (classics.AlexNet28, classics.VGG28, classics.NiN28, classics.GoogLeNet28):
        model, images = kind(), batch()[0]
        assert not model(images).equal(model(images)), kind
        model.eval()
        assert model(images).equal(model(images)), kind


@pytest.mark.parametrize("blocks", [[(1, 4)], [(2, 4), (1, 6)], [(1, 4)] * 4])
def test_vgg_takes_any_blocks_that_fit(blocks):
    model = classics.VGG28(blocks=blocks)
    assert model(batch()[0]).shape == (4, 10)
    convolutions = [layer for layer in model.layers if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == sum(count for count, _ in blocks)


def test_inception_is_four_branches_side_by_side():
    torch.manual_seed(0)
    block = classics.Inception(5, classics.InceptionConfig(2, 3, 4, 2, 3, 6)).double()
    images = torch.randn(2, 5, 7, 6, dtype=torch.float64)

    def convolve(inputs, branch, number, padding=0):
        layer = getattr(block, branch)[number]
        return F.conv2d(inputs, layer.weight, layer.bias, padding=padding).relu()

    expected = [
        convolve(images, "one", 0),
        convolve(convolve(images, "three", 0), "three", 2, padding=1),
        convolve(convolve(images, "five", 0), "five", 2, padding=2),
        convolve(F.max_pool2d(images, 3, 1, 1), "pool", 1),
    ]
    torch.testing.assert_close(block(images), torch.cat(expected, dim=1))


def test_bottlenecks_make_inception_cheaper_than_one_large_kernel():
    block = classics.Inception(192, classics.InceptionConfig())
    assert classics.InceptionConfig().outputs == block(torch.zeros(1, 192, 2, 2)).shape[1] == 256
    biases = 256 + 96 + 16
    weights = 192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32
    assert classics.parameters(block) == weights + biases
    assert classics.multiply_adds(block, (192, 28, 28)) == weights * 28 * 28
    plain = nn.Conv2d(192, 256, 3, padding=1)
    assert classics.multiply_adds(plain, (192, 28, 28)) > 2.5 * weights * 28 * 28


def test_counting_leaves_the_module_as_it_was():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3, groups=1))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert classics.multiply_adds(model, (1, 4, 4)) == 9 * 2 * 4
    assert model.training and not model[1]._forward_hooks
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())


def test_shared_layers_are_one_set_of_weights_and_two_costs():
    layer = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(nn.Flatten(), layer, layer)
    assert classics.parameters(model) == 9
    assert classics.multiply_adds(model, (1, 1, 3)) == 18


def test_groups_make_a_convolution_cheaper():
    assert classics.multiply_adds(nn.Conv2d(4, 4, 3, groups=2), (4, 3, 3)) == 4 * 2 * 9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classics.LeNet(classes=0), "classes is 0; allowed are whole numbers from 1"),
        (lambda: classics.LeNet(activation="gelu"), "activation is 'gelu'; allowed are relu, sig"),
        (lambda: classics.LeNet(pooling="min"), "pooling is 'min'; allowed are average, max"),
        (lambda: classics.NotesCNN(classes=1.5), "classes is 1.5"),
        (lambda: classics.NotesCNN(shrink="no"), "shrink is 'no'; allowed are average, max, str"),
        (lambda: classics.NotesCNN(head="mean"), "head is 'mean'; allowed are flatten, global"),
        (lambda: classics.AlexNet28(dropout=1), "dropout is 1; allowed are shares 0 <= dropout"),
        (lambda: classics.VGG28(blocks=[]), "blocks has 0 entries; allowed are 1 to 4"),
        (lambda: classics.VGG28(blocks=[(1, 2)] * 5), "blocks has 5 entries; allowed are 1 to 4"),
        (lambda: classics.VGG28(blocks=[(0, 8)]), "convolutions is 0; allowed"),
        (lambda: classics.VGG28(blocks=[(1, -8)]), "channels is -8; allowed"),
        (lambda: classics.NiN28(dropout=-0.1), "dropout is -0.1"),
        (lambda: classics.GoogLeNet28(classes=-1), "classes is -1"),
        (lambda: classics.InceptionConfig(five=0), "five is 0; allowed are whole numbers from 1"),
        (lambda: classics.Inception(0, classics.InceptionConfig()), "inputs is 0"),
        (
            lambda: classics.multiply_adds(nn.Sequential(nn.Embedding(2, 2)), (1, 2, 2)),
            "module has Embedding '0'; allowed with weights are Conv2d and Linear",
        ),
    ],
)
def test_refusals_name_the_argument_its_value_and_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
