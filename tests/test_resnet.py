"""Chapter 05's networks: shapes, shortcuts, refusals; parity/ has values."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import classics, resnet

BLOCKS = (resnet.BasicBlock, resnet.Bottleneck, resnet.PreActivationBlock)


def batch(count=4, channels=1, side=28):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, side, side, generator=generator), torch.arange(count)


def loss(model, images, labels):
    return F.cross_entropy(model(images), labels)


def small(**options):
    torch.manual_seed(0)
    return resnet.SmallResNet((4, 8, 8), (2, 1, 1), **options)


# --- shapes and counts -------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", resnet.SHORTCUTS)
@pytest.mark.parametrize("pool", [True, False])
def test_the_small_network_takes_any_block_shortcut_and_image(block, shortcut, pool):
    network = small(block=block, shortcut=shortcut, pool=pool, in_channels=3, classes=5)
    for side in (28, 32):
        assert network(batch(3, 3, side)[0]).shape == (3, 5)


def test_each_stage_but_the_first_halves_the_maps_and_pooling_the_stem_does_too():
    sides = {True: [14, 7, 4], False: [28, 14, 7]}
    for pool, wanted in sides.items():
        network, found = small(pool=pool), []
        x = network.stem(batch()[0])
        for stage in network.stages:
            x = stage(x)
            found.append(x.shape[2])
        assert found == wanted


@pytest.mark.parametrize("layers", [8, 20, 44, 56])
def test_a_deep_network_has_as_many_layers_with_weights_as_it_says(layers):
    for shortcut in ("padding", "none"):
        network = resnet.deep_resnet(layers, (2, 4, 8), shortcut)
        counted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(counted) == layers


def test_the_papers_network_of_20_layers_has_the_papers_number_of_parameters():
    network = resnet.deep_resnet(20, in_channels=3)
    assert round(classics.parameters(network) / 1e6, 2) == 0.27  # its table 6


def test_a_deep_networks_stem_halves_the_image_only_if_told_to():
    for options, side in (({}, 28), ({"pool": True}, 14), ({"pool": False}, 28)):
        stem = resnet.deep_resnet(8, (4, 4, 4), **options).stem
        assert stem(batch()[0]).shape == (4, 4, side, side)


def test_a_deep_network_pads_its_shortcuts_unless_told_otherwise():
    for options, kind in (({}, resnet.PadChannels), ({"shortcut": "projection"}, nn.Sequential)):
        network = resnet.deep_resnet(8, **options)
        changing = [stage[0].downsample for stage in list(network.stages)[1:]]
        assert all(isinstance(shortcut, kind) for shortcut in changing)


def test_a_shortcut_without_weights_costs_no_parameters():
    plain, padded, projected = (
        classics.parameters(resnet.deep_resnet(8, (4, 8, 8), kind))
        for kind in ("none", "padding", "projection")
    )
    assert plain == padded < projected


@pytest.mark.parametrize("name, million", [("18", 11.69), ("34", 21.80), ("50", 25.56)])
def test_parameters_of_the_large_networks(name, million):
    network = getattr(resnet, f"resnet{name}")()
    assert round(classics.parameters(network) / 1e6, 2) == million


def test_the_bottlenecks_stride_is_that_of_its_3x3_convolution():
    block = resnet.Bottleneck(8, 4, stride=2)
    assert [c.stride for c in (block.conv1, block.conv2, block.conv3)] == [(1, 1), (2, 2), (1, 1)]


def test_the_shapes_of_the_papers_table_1():
    for make, wide in ((resnet.resnet18, 1), (resnet.resnet50, 4)):
        network, shapes = make(classes=10).to("meta"), {}
        for name, child in network.named_children():
            child.register_forward_hook(
                lambda _, __, out, name=name, shapes=shapes: shapes.update({name: out.shape[1:]})
            )
        network(torch.zeros(1, 3, 224, 224, device="meta"))
        sides = {"conv1": 112, "maxpool": 56, "layer1": 56, "layer2": 28, "layer3": 14, "layer4": 7}
        assert {name: shapes[name][1] for name in sides} == sides
        channels = [shapes[f"layer{number}"][0] for number in (1, 2, 3, 4)]
        assert channels == [wide * width for width in (64, 128, 256, 512)]


def test_each_stage_gets_its_own_number_of_blocks():
    network = resnet.ResNet(resnet.BasicBlock, (1, 2, 3, 4), classes=2)
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    assert [len(stage) for stage in stages] == [1, 2, 3, 4]
    assert [len(stage) for stage in small().stages] == [2, 1, 1]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_small_network_classifies_the_mean_of_each_map(block):
    network, images = small(block=block).eval(), batch()[0]
    maps = network.stages(network.stem(images))  # -> (4, C, 4, 4)
    if block is resnet.PreActivationBlock:
        nn.init.normal_(network.norm[0].bias)
        maps = network.norm[0](maps).relu()
    means = maps.flatten(2).sum(dim=2) / maps[0, 0].numel()
    torch.testing.assert_close(network(images), network.classify(means), rtol=1e-4, atol=1e-5)


def test_only_pre_activation_has_a_norm_behind_its_last_block():
    assert len(small().norm) == 0
    norm, relu = small(block=resnet.PreActivationBlock).norm
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(relu, nn.ReLU)


# --- shortcuts ---------------------------------------------------------------------------------


def test_a_shortcut_is_the_identity_where_the_shape_stays():
    for kind in ("projection", "padding"):
        assert isinstance(resnet.make_shortcut(kind, 4, 4, 1), nn.Identity)
    assert resnet.make_shortcut("none", 4, 4, 1) is None


def test_padding_takes_every_second_pixel_and_adds_channels_of_zeros_behind():
    x = torch.arange(1.0, 1 + 2 * 2 * 5 * 6).view(2, 2, 5, 6)
    out = resnet.make_shortcut("padding", 2, 3, 2)(x)
    assert out.shape == (2, 3, 3, 3)
    assert out[:, :2].equal(x[:, :, ::2, ::2]) and out[:, 2].eq(0).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_closed_block_is_the_identity_and_a_plain_one_gives_nothing(block):
    x = batch(3, 4 * block.expansion, 6)[0].relu()  # what a block gets has passed a ReLU
    for training in (True, False):
        residual = block(x.shape[1], 4, 1).train(training)
        assert not residual(x).equal(x)
        residual.close_branch()
        assert residual(x).equal(x)
        plain = block(x.shape[1], 4, 1, "none").train(training)
        plain.close_branch()
        assert plain(x).eq(0).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_that_has_been_trained_can_be_closed_too(block):
    torch.manual_seed(0)
    channels = 4 * block.expansion
    residual = block(channels, 4)
    optimizer = torch.optim.SGD(residual.parameters(), lr=0.1)
    for _ in range(3):  # until every bias, the last norm's too, has moved
        optimizer.zero_grad()
        residual(torch.randn(8, channels, 5, 5)).square().mean().backward()
        optimizer.step()
    residual.close_branch()
    x = torch.rand(2, channels, 5, 5)
    assert residual(x).equal(x) and residual.eval()(x).equal(x)


def test_a_projection_weighs_every_second_pixel_and_normalises():
    torch.manual_seed(0)
    shortcut = resnet.make_shortcut("projection", 3, 5, 2).eval()
    x = torch.randn(2, 3, 7, 8)
    weight = shortcut[0].weight[:, :, 0, 0]
    wanted = torch.einsum("nihw,oi->nohw", x[:, :, ::2, ::2], weight) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(shortcut(x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_branch_is_what_the_block_adds(block):
    x = batch(3, 4 * block.expansion, 6)[0]
    residual = block(x.shape[1], 4, 1)
    total = residual.branch(x) + x
    wanted = total if block is resnet.PreActivationBlock else total.relu()
    torch.testing.assert_close(residual(x), wanted)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_leaves_its_input_as_it_was(block):
    x = batch(3, 4 * block.expansion, 6)[0]
    before = x.clone()
    block(x.shape[1], 4, 1)(x)
    assert x.equal(before)


def test_zero_init_closes_every_branch_and_it_still_learns():
    for block in BLOCKS:
        network = small(block=block, zero_init=True)
        blocks = [b for stage in network.stages for b in stage]
        x = network.stem(batch()[0])
        for each in blocks:
            assert each.branch(x).eq(0).all()
            x = each(x)
        loss(network, *batch()).backward()
        last = {"BasicBlock": "bn2", "Bottleneck": "bn3", "PreActivationBlock": "conv2"}
        gate = getattr(blocks[0], last[block.__name__]).weight
        assert gate.grad.abs().max() > 0


def test_a_deep_closed_network_computes_what_its_stem_says():
    torch.manual_seed(0)
    shallow, deep = (
        resnet.deep_resnet(layers, (4, 4, 4), zero_init=True).eval() for layers in (8, 56)
    )
    for name in ("stem", "classify"):
        getattr(deep, name).load_state_dict(getattr(shallow, name).state_dict())
    images = batch()[0]
    torch.testing.assert_close(shallow(images), deep(images))


def test_without_a_shortcut_gradients_reach_the_stem_through_the_branches_only():
    """Closing one branch cuts a plain network, not a residual one."""
    for shortcut, reaches in (("none", False), ("padding", True)):
        network = small(shortcut=shortcut)
        network.stages[0][1].close_branch()
        loss(network, *batch()).backward()
        gradient = network.stem[0].weight.grad
        assert (gradient is not None and gradient.abs().max().item() > 0) == reaches


# --- first weights -----------------------------------------------------------------------------


def test_convolutions_start_with_the_variance_that_keeps_the_gradients_size():
    torch.manual_seed(0)
    block = resnet.SmallResNet((64,), (1,)).stages[0][0]
    variance = block.conv1.weight.var().item()
    assert variance == pytest.approx(2 / (64 * 9), rel=0.05)  # fan_out: 64 kernels of nine


# --- refusals ----------------------------------------------------------------------------------

REFUSALS = {
    "shortcut is 'identity'; allowed are projection, padding, none": lambda: small(
        shortcut="identity"
    ),
    "padding allows 8": lambda: resnet.SmallResNet((8, 4), (1, 1), shortcut="padding"),
    "classes is 0; allowed are whole numbers from 1": lambda: small(classes=0),
    "in_channels is 1.5; allowed": lambda: small(in_channels=1.5),
    r"blocks is \(1, 1\); allowed is one number for each": lambda: resnet.SmallResNet(
        (4, 4, 4), (1, 1)
    ),
    "blocks is .*; allowed": lambda: resnet.SmallResNet((), ()),
    "blocks of a stage is 0; allowed": lambda: resnet.SmallResNet((4,), (0,)),
    "channels is -4; allowed": lambda: resnet.SmallResNet((4, -4), (1, 1)),
    r"blocks is \(2, 2\); allowed are four": lambda: resnet.ResNet(resnet.BasicBlock, (2, 2)),
    "layers is 21, .*; allowed are 6n": lambda: resnet.deep_resnet(21),
    "layers is 2, .*; allowed are 6n": lambda: resnet.deep_resnet(2),
    r"channels \(4, 8\); allowed": lambda: resnet.deep_resnet(8, (4, 8)),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_nonsense_is_refused(said):
    with pytest.raises(ValueError, match=said):
        REFUSALS[said]()


def test_it_can_memorise_a_batch_in_channels_last():
    network = small().to(memory_format=torch.channels_last)
    images, labels = batch(8)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss(network, images, labels).backward()
        optimizer.step()
    assert network(images).argmax(1).equal(labels)
