"""Residual networks: blocks with a shortcut, ResNet-18, 34 and 50, and small ones for 28-32 pixels.

Images are (N, C, H, W). `ResNet` has torchvision's names and shapes, so that it takes its weights:
see `course_lib.weights`. `SmallResNet` is for small images, `deep_resnet` for studies of depth. Bad
arguments raise `ValueError`, with the argument, its value and what is allowed.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.cnn import conv_block

# How the input of a block gets past it. Where the shape stays, the first two add it as it is.
SHORTCUTS = ("projection", "padding", "none")


class Block(nn.Module):
    """ReLU of the sum of what a shortcut and a `branch` of layers make of the same input.

    (N, inputs, H, W) -> (N, channels * expansion, H / stride, W / stride), rounded up.

    Args:
        channels: of the branch's 3x3 convolutions.
        shortcut: "projection" (1x1 convolution and batch norm where the shape changes), "padding"
            (every `stride`-th pixel, and zeros as further channels), "none" (a plain block).

    Source: He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition".
    """

    expansion = 1
    downsample: nn.Module | None

    def branch(self, x: Tensor) -> Tensor:
        """What its layers make of x, each kind of block in its own way."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu(out)

    def close_branch(self) -> None:
        """Make the branch give 0: the block then passes on what its shortcut brings."""
        raise NotImplementedError


class BasicBlock(Block):
    """Two 3x3 convolutions, each with batch norm: figure 5 (left) of the paper."""

    def __init__(self, inputs: int, channels: int, stride: int = 1, shortcut: str = "projection"):
        super().__init__()
        self.conv1 = _conv3x3(inputs, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = make_shortcut(shortcut, inputs, channels, stride)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # (N, inputs, H, W) -> (N, channels, H/s, W/s)
        return self.bn2(self.conv2(x))

    def close_branch(self) -> None:
        _give_zero(self.bn2)


class Bottleneck(Block):
    """1x1, 3x3, 1x1 convolution: the dear one works on a quarter of the channels. Figure 5 (right).

    The stride is that of the 3x3 convolution, as in torchvision; in the paper it is the first's.
    """

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int = 1, shortcut: str = "projection"):
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = _conv1x1(inputs, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv1x1(channels, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, inputs, outputs, stride)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # (N, inputs, H, W) -> (N, channels, H, W)
        x = self.relu(self.bn2(self.conv2(x)))  # -> (N, channels, H/s, W/s)
        return self.bn3(self.conv3(x))  # -> (N, 4 channels, H/s, W/s)

    def close_branch(self) -> None:
        _give_zero(self.bn3)


class PreActivationBlock(Block):
    """Norm and ReLU come before each convolution, and nothing after the sum: a clear path.

    Source: He, Zhang, Ren and Sun 2016, "Identity mappings in deep residual networks", figure 1(b).
    """

    def __init__(self, inputs: int, channels: int, stride: int = 1, shortcut: str = "projection"):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)  # on what the norm has made, so x stays as it is
        self.conv1 = _conv3x3(inputs, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels)
        self.downsample = make_shortcut(shortcut, inputs, channels, stride)

    def branch(self, x: Tensor) -> Tensor:
        x = self.conv1(self.relu(self.bn1(x)))  # (N, inputs, H, W) -> (N, channels, H/s, W/s)
        return self.conv2(self.relu(self.bn2(x)))

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        return out if self.downsample is None else out + self.downsample(x)

    def close_branch(self) -> None:
        nn.init.zeros_(self.conv2.weight)


class PadChannels(nn.Module):
    """(N, C, H, W) -> (N, C + extra, H / stride, W / stride): pixels left out, zeros added."""

    def __init__(self, extra: int, stride: int):
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def make_shortcut(kind: str, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """A shortcut from (N, inputs, H, W) to (N, outputs, H / stride, W / stride); see `Block`."""
    if kind not in SHORTCUTS:
        raise ValueError(f"shortcut is {kind!r}; allowed are {', '.join(SHORTCUTS)}")
    if kind == "none":
        return None
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "projection":
        return nn.Sequential(_conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    if outputs < inputs:
        raise ValueError(
            f"channels out are {outputs}; padding allows {inputs}, as come in, or more"
        )
    return PadChannels(outputs - inputs, stride)


class ResNet(nn.Module):
    """The network of the paper's table 1, for images of 224 pixels or so.

    (N, 3, H, W) -> logits (N, classes)

    Args:
        blocks: how many in each of the four stages, of 64, 128, 256 and 512 channels.
        zero_init: begin with every block's branch closed (Goyal and others 2017, section 5.1).
    """

    def __init__(
        self,
        block: type[Block],
        blocks: Sequence[int],
        classes: int = 1000,
        zero_init: bool = False,
    ):
        super().__init__()
        _check_whole("classes", classes)
        if len(blocks) != 4:
            raise ValueError(f"blocks is {tuple(blocks)}; allowed are four whole numbers from 1")
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        wide = block.expansion
        self.layer1 = make_stage(block, 64, 64, blocks[0], stride=1)
        self.layer2 = make_stage(block, 64 * wide, 128, blocks[1], stride=2)
        self.layer3 = make_stage(block, 128 * wide, 256, blocks[2], stride=2)
        self.layer4 = make_stage(block, 256 * wide, 512, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * wide, classes)
        initialise(self, zero_init)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))  # (N, 3, H, W) -> (N, 64, H/2, W/2)
        x = self.maxpool(x)  # -> (N, 64, H/4, W/4)
        x = self.layer2(self.layer1(x))  # -> (N, 128 * expansion, H/8, W/8)
        x = self.layer4(self.layer3(x))  # -> (N, 512 * expansion, H/32, W/32)
        return self.fc(self.avgpool(x).flatten(1))  # -> (N, classes)


def resnet18(classes: int = 1000, zero_init: bool = False) -> ResNet:
    """18 layers with weights, 11.7 million parameters: arguments as for `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes, zero_init)


def resnet34(classes: int = 1000, zero_init: bool = False) -> ResNet:
    """34 layers with weights, 21.8 million parameters: arguments as for `ResNet`."""
    return ResNet(BasicBlock, (3, 4, 6, 3), classes, zero_init)


def resnet50(classes: int = 1000, zero_init: bool = False) -> ResNet:
    """50 layers with weights, 25.6 million parameters: arguments as for `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes, zero_init)


class SmallResNet(nn.Module):
    """A residual network for images of 28 to 32 pixels: a stem, stages of blocks, a mean, logits.

    (N, in_channels, H, W) -> logits (N, classes). Each stage but the first halves the image.

    Args:
        channels: of each stage; the stem has those of the first.
        blocks: how many each stage has.
        block, shortcut: see `Block` and its kinds.
        pool: whether the stem halves the image, so that all blocks have a quarter of the work.
        zero_init: begin with every block's branch closed.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (1, 1, 1),
        in_channels: int = 1,
        classes: int = 10,
        *,
        block: type[Block] = BasicBlock,
        shortcut: str = "projection",
        pool: bool = True,
        zero_init: bool = False,
    ):
        super().__init__()
        _check_whole("in_channels", in_channels)
        _check_whole("classes", classes)
        if not channels or len(blocks) != len(channels):
            message = f"blocks is {tuple(blocks)}; allowed is one number for each of the channels"
            raise ValueError(f"{message} {tuple(channels)}")
        self.stem = conv_block(in_channels, channels[0], pool)  # -> (N, channels[0], H/2, W/2)
        stages, inputs = [], channels[0]
        for number, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            stride = 1 if number == 0 else 2
            stages.append(make_stage(block, inputs, width, count, stride, shortcut))
            inputs = width * block.expansion
        self.stages = nn.Sequential(*stages)
        bend = (nn.BatchNorm2d(inputs), nn.ReLU()) if block is PreActivationBlock else ()
        self.norm = nn.Sequential(*bend)  # the sums of pre-activation blocks have had none yet
        self.classify = nn.Linear(inputs, classes)
        initialise(self, zero_init)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.stages(self.stem(images)))  # -> (N, C, h, w)
        return self.classify(maps.mean(dim=(2, 3)))  # -> (N, C) -> (N, classes)


def deep_resnet(
    layers: int, channels: Sequence[int] = (16, 32, 64), shortcut: str = "padding", **options
) -> SmallResNet:
    """The paper's network for small images (section 4.2), of any depth; "none" makes it plain.

    Args:
        layers: 6n + 2, for n blocks in each of three stages: 8, 14, 20 and so on.
        options: those of `SmallResNet`; as in the paper, the stem does not pool unless told to.
    """
    count, rest = divmod(layers - 2, 6)
    if rest or count < 1 or len(channels) != 3:
        allowed = "6n + 2 layers from 8, and three numbers of channels"
        raise ValueError(f"layers is {layers}, channels {tuple(channels)}; allowed are {allowed}")
    options = {"pool": False, **options}
    return SmallResNet(channels, (count,) * 3, shortcut=shortcut, **options)


def make_stage(
    block: type[Block],
    inputs: int,
    channels: int,
    count: int,
    stride: int,
    shortcut: str = "projection",
) -> nn.Sequential:
    """`count` blocks of equal `channels`, of which the first may change the image's size."""
    _check_whole("channels", channels)
    _check_whole("blocks of a stage", count)
    first = block(inputs, channels, stride, shortcut)
    outputs = channels * block.expansion
    rest = [block(outputs, channels, 1, shortcut) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)


def initialise(network: nn.Module, zero_init: bool = False) -> None:
    """Draw convolutions' weights from N(0, 2 / fan_out), which keeps the gradient's size.

    Source: He, Zhang, Ren and Sun 2015, "Delving deep into rectifiers".
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for module in network.modules() if zero_init else ():
        if isinstance(module, Block):
            module.close_branch()


def _give_zero(norm: nn.BatchNorm2d) -> None:
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)  # 0 at first, but not after training


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)  # batch norm has a bias


def _conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def _check_whole(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; allowed are whole numbers from 1")
