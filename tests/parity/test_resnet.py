"""ResNets against torchvision's: names, logits, gradients and running statistics."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from course_lib import resnet
from course_lib.weights import load_weights

NAMES = ("resnet18", "resnet34", "resnet50")


def shake(network):
    """Give batch norms all that training would: no scale 1, no bias 0, other statistics."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.double()


def pair(name, classes=7):
    """Torchvision's network, shaken, and ours with its weights."""
    torch.manual_seed(0)
    theirs = shake(getattr(torchvision.models, name)(num_classes=classes))
    ours = getattr(resnet, name)(classes=classes).double()
    load_weights(ours, theirs.state_dict())
    return ours, theirs


def images(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gradients(network, x):
    """Logits, and the gradient of every parameter by name, and of the images."""
    x = x.clone().requires_grad_()
    logits = network(x)
    F.cross_entropy(logits, torch.arange(len(x))).backward()
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    return logits.detach(), {**found, "images": x.grad}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_logits_gradients_and_running_statistics(name, training):
    ours, theirs = (network.train(training) for network in pair(name))
    x = images(3, 3, 64, 64)
    logits, found = gradients(ours, x)
    expected, wanted = gradients(theirs, x)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    assert found.keys() == wanted.keys()
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(
        dict(ours.named_buffers()), dict(theirs.named_buffers()), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_of_the_same_name_and_shape_in_the_same_order(name):
    ours = getattr(resnet, name)().state_dict()
    theirs = getattr(torchvision.models, name)().state_dict()
    shapes = [
        [(key, tuple(tensor.shape)) for key, tensor in state.items()] for state in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("size", [(32, 32), (75, 50)])
def test_other_sizes(size):
    ours, theirs = (network.eval() for network in pair("resnet18"))
    x = images(2, 3, *size)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("zero_init", [False, True])
def test_first_weights_are_drawn_as_torchvisions(name, zero_init):
    torch.manual_seed(5)
    ours = getattr(resnet, name)(classes=3, zero_init=zero_init)
    torch.manual_seed(5)
    theirs = getattr(torchvision.models, name)(num_classes=3, zero_init_residual=zero_init)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["BasicBlock", "Bottleneck"])
def test_a_block_by_itself(name, stride):
    torch.manual_seed(0)
    kind = getattr(torchvision.models.resnet, name)
    inputs = 8 if stride == 2 else 8 * kind.expansion
    downsample = nn.Sequential(
        nn.Conv2d(inputs, 8 * kind.expansion, 1, stride, bias=False),
        nn.BatchNorm2d(8 * kind.expansion),
    )
    theirs = shake(kind(inputs, 8, stride, downsample if stride == 2 else None))
    ours = getattr(resnet, name)(inputs, 8, stride).double()
    load_weights(ours, theirs.state_dict())
    x = images(2, inputs, 9, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pre_activation_block_is_the_papers_formula(stride):
    torch.manual_seed(0)
    block = shake(resnet.PreActivationBlock(4, 4, stride, "padding"))
    x = images(3, 4, 6, 7)
    y = F.conv2d(F.relu(F.batch_norm(x, None, None, block.bn1.weight, block.bn1.bias, True)),
                 block.conv1.weight, stride=stride, padding=1)  # fmt: skip
    y = F.conv2d(F.relu(F.batch_norm(y, None, None, block.bn2.weight, block.bn2.bias, True)),
                 block.conv2.weight, padding=1)  # fmt: skip
    torch.testing.assert_close(block(x), x[:, :, ::stride, ::stride] + y)
