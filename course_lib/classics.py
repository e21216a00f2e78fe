"""The classic convolutional networks, shrunk to grey images of 28x28 pixels, each with its point.

All take (N, 1, 28, 28) and give logits (N, classes). Shapes stand beside the layers without N;
`parameters` and `multiply_adds` count what a network costs. Bad arguments raise `ValueError`.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
POOLINGS = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


class Chain(nn.Module):
    """`layers`, one after the other; a slice of them is a network that stops half way."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class LeNet(Chain):
    """Convolution and pooling in turns, then fully connected layers: the pattern of all others.

    Args:
        activation: "sigmoid" as in textbooks, "tanh" near the paper's, or "relu".
        pooling: "average" as in the paper, or "max".

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.B (LeNet-5).
    """

    def __init__(
        self, classes: int = 10, activation: str = "sigmoid", pooling: str = "average"
    ) -> None:
        _check_whole(classes=classes)
        activate = _choose("activation", activation, ACTIVATIONS)
        pool = _choose("pooling", pooling, POOLINGS)
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2),  # (1, 28, 28) -> (6, 28, 28): the paper's input is 32x32
            activate(),
            pool(2),  # -> (6, 14, 14)
            nn.Conv2d(6, 16, 5),  # -> (16, 10, 10)
            activate(),
            pool(2),  # -> (16, 5, 5)
            nn.Flatten(),  # -> (400,)
            nn.Linear(16 * 5 * 5, 120),
            activate(),
            nn.Linear(120, 84),
            activate(),
            nn.Linear(84, classes),
        )


class NotesCNN(Chain):
    """The usual tutorial program's network: two 3x3 convolutions, 128 hidden units.

    Args:
        activation: "relu", "sigmoid" or "tanh".
        shrink: what halves the image: "max" or "average" pooling, or "stride", a convolution that
            takes every second place only.
        head: what meets the hidden units: "flatten", every value at its place, or "global", the
            mean of each channel wherever it was active.
    """

    def __init__(
        self,
        classes: int = 10,
        activation: str = "relu",
        shrink: str = "max",
        head: str = "flatten",
    ) -> None:
        _check_whole(classes=classes)
        activate = _choose("activation", activation, ACTIVATIONS)
        pool = _choose("shrink", shrink, {**POOLINGS, "stride": nn.Identity})
        stride = 2 if shrink == "stride" else 1
        summarise = {"flatten": nn.Identity(), "global": nn.AdaptiveAvgPool2d(1)}
        super().__init__(
            nn.Conv2d(1, 16, 3, stride, padding=1),  # (1, 28, 28) -> (16, 28, 28)
            activate(),
            pool(2),  # -> (16, 14, 14)
            nn.Conv2d(16, 32, 3, stride, padding=1),  # -> (32, 14, 14)
            activate(),
            pool(2),  # -> (32, 7, 7)
            _choose("head", head, summarise),  # -> (32, 7, 7) or (32, 1, 1)
            nn.Flatten(),  # -> (1568,) or (32,)
            nn.Linear(32 if head == "global" else 32 * 7 * 7, 128),
            activate(),
            nn.Linear(128, classes),
        )


class AlexNet28(Chain):
    """A large first kernel that already shrinks the image, ReLU, and dropout before wide layers.

    The paper's 11x11 kernel with stride 4 on 224 pixels is 7x7 with stride 2 here; its third
    pooling is left out, for only 3x3 pixels remain.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.5.
    """

    def __init__(self, classes: int = 10, dropout: float = 0.5) -> None:
        _check_whole(classes=classes)
        _check_share(dropout=dropout)
        super().__init__(
            *_conv(1, 32, 7, stride=2, padding=3),  # (1, 28, 28) -> (32, 14, 14)
            nn.MaxPool2d(3, stride=2, padding=1),  # -> (32, 7, 7): neighbouring windows overlap
            *_conv(32, 64, 5, padding=2),  # -> (64, 7, 7)
            nn.MaxPool2d(3, stride=2),  # -> (64, 3, 3)
            *_conv(64, 96, 3, padding=1),  # -> (96, 3, 3)
            *_conv(96, 96, 3, padding=1),  # -> (96, 3, 3)
            *_conv(96, 64, 3, padding=1),  # -> (64, 3, 3)
            nn.Flatten(),  # -> (576,)
            *(nn.Dropout(dropout), nn.Linear(64 * 3 * 3, 256), nn.ReLU()),
            *(nn.Dropout(dropout), nn.Linear(256, 256), nn.ReLU()),
            nn.Linear(256, classes),
        )


class VGG28(Chain):
    """Small kernels only: two 3x3 see as far as one 5x5, for 18 weights instead of 25.

    Args:
        blocks: (convolutions, channels) of each block; every block halves the image.

    Source: Simonyan and Zisserman 2015, section 2.
    """

    def __init__(
        self,
        classes: int = 10,
        blocks: Sequence[tuple[int, int]] = ((1, 16), (1, 32), (2, 64)),
        dropout: float = 0.5,
    ) -> None:
        _check_whole(classes=classes)
        _check_share(dropout=dropout)
        if not 1 <= len(blocks) <= 4:
            raise ValueError(f"blocks has {len(blocks)} entries; allowed are 1 to 4 on 28 pixels")
        layers, inputs = [], 1
        for convolutions, channels in blocks:
            _check_whole(convolutions=convolutions, channels=channels)
            for _ in range(convolutions):
                layers += _conv(inputs, channels, 3, padding=1)  # (C, H, W) -> (channels, H, W)
                inputs = channels
            layers.append(nn.MaxPool2d(2))  # -> (channels, H / 2, W / 2): 28, 14, 7, 3, 1
        side = 28 // 2 ** len(blocks)
        super().__init__(
            *layers,
            nn.Flatten(),  # (channels, side, side) -> (channels side side,)
            *(nn.Linear(inputs * side * side, 128), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(128, classes),
        )


class NiN28(Chain):
    """A small network at every pixel (1x1 convolutions), and no fully connected layer at the end:
    the mean of a class's map is its logit.

    Source: Lin, Chen and Yan 2014, sections 3.1 and 3.2.
    """

    def __init__(self, classes: int = 10, dropout: float = 0.5) -> None:
        _check_whole(classes=classes)
        _check_share(dropout=dropout)
        super().__init__(
            *_nin_block(1, 32, 5, padding=2),  # (1, 28, 28) -> (32, 28, 28)
            nn.MaxPool2d(3, stride=2, padding=1),  # -> (32, 14, 14)
            *_nin_block(32, 64, 3, padding=1),  # -> (64, 14, 14)
            nn.MaxPool2d(3, stride=2, padding=1),  # -> (64, 7, 7)
            nn.Dropout(dropout),
            *_nin_block(64, classes, 3, padding=1)[:-1],  # -> (classes, 7, 7); logits have any sign
            nn.AdaptiveAvgPool2d(1),  # -> (classes, 1, 1)
            nn.Flatten(),  # -> (classes,)
        )


@dataclass(frozen=True)
class InceptionConfig:
    """Channels of an Inception block's branches; by default those of the paper's block 3a, which
    makes 256 channels of 192 (table 1)."""

    one: int = 64  # of the 1x1 branch
    reduce_three: int = 96  # of the 1x1 bottleneck before the 3x3
    three: int = 128
    reduce_five: int = 16
    five: int = 32
    pool: int = 32  # of the 1x1 after the pooling

    def __post_init__(self) -> None:
        _check_whole(**self.__dict__)

    @property
    def outputs(self) -> int:
        return self.one + self.three + self.five + self.pool


class Inception(nn.Module):
    """Kernels of several sizes side by side, made cheap by 1x1 convolutions before the large ones.

    (N, inputs, H, W) -> (N, config.outputs, H, W)

    Source: Szegedy et al. 2015, "Going deeper with convolutions", figure 2(b).
    """

    def __init__(self, inputs: int, config: InceptionConfig) -> None:
        super().__init__()
        _check_whole(inputs=inputs)
        one, reduce_three, three, reduce_five, five, pool = astuple(config)
        before_three, before_five = _conv(inputs, reduce_three, 1), _conv(inputs, reduce_five, 1)
        self.one = nn.Sequential(*_conv(inputs, one, 1))
        self.three = nn.Sequential(*before_three, *_conv(reduce_three, three, 3, padding=1))
        self.five = nn.Sequential(*before_five, *_conv(reduce_five, five, 5, padding=2))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *_conv(inputs, pool, 1))

    def forward(self, images: Tensor) -> Tensor:
        branches = (self.one, self.three, self.five, self.pool)  # each (N, its channels, H, W)
        return torch.cat([branch(images) for branch in branches], dim=1)


class GoogLeNet28(Chain):
    """Inception blocks, then the mean of each channel and one linear layer.

    Left out beside the paper: its auxiliary classifiers and local response normalisation.

    Source: Szegedy et al. 2015, table 1.
    """

    def __init__(self, classes: int = 10, dropout: float = 0.4) -> None:
        _check_whole(classes=classes)
        _check_share(dropout=dropout)
        blocks = [
            InceptionConfig(16, 24, 32, 4, 8, 8),  # -> 64 channels
            InceptionConfig(24, 32, 48, 8, 12, 12),  # -> 96
            InceptionConfig(32, 48, 64, 8, 16, 16),  # -> 128
        ]
        super().__init__(
            *_conv(1, 32, 5, stride=2, padding=2),  # (1, 28, 28) -> (32, 14, 14)
            Inception(32, blocks[0]),  # -> (64, 14, 14)
            Inception(64, blocks[1]),  # -> (96, 14, 14)
            nn.MaxPool2d(3, stride=2, padding=1),  # -> (96, 7, 7)
            Inception(96, blocks[2]),  # -> (128, 7, 7)
            nn.AdaptiveAvgPool2d(1),  # -> (128, 1, 1)
            nn.Flatten(),  # -> (128,)
            nn.Dropout(dropout),
            nn.Linear(128, classes),
        )


def parameters(module: nn.Module) -> int:
    """How many numbers the module learns; those that two layers share count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(module: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """What one image costs: multiplications, each with an addition, in convolutions and linear
    layers. Biases, normalisation, activations and pooling cost little beside them and do not count.

    Args:
        image_shape: (C, H, W).

    Raises:
        ValueError: a module has weights of its own but is neither `nn.Conv2d` nor `nn.Linear`.
    """
    total = 0

    def count(layer: nn.Module, _, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * math.prod(layer.weight.shape[1:])  # per value: one kernel or row

    hooks = [layer.register_forward_hook(count) for layer in _layers_to_count(module)]
    was_training = module.training
    example = next(module.parameters(), torch.empty(0))  # has the module's device and dtype
    try:
        with torch.no_grad():
            module.eval()(example.new_zeros(1, *image_shape))
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return total


def _layers_to_count(module: nn.Module) -> list[nn.Module]:
    layers = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layers.append(layer)
        elif any(parameter.ndim > 1 for parameter in layer.parameters(recurse=False)):
            raise ValueError(
                f"module has {type(layer).__name__} {name!r}; allowed with weights are Conv2d and "
                "Linear of torch.nn"
            )
    return layers


def _conv(inputs: int, outputs: int, kernel_size: int, **options: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel_size, **options), nn.ReLU()]


def _nin_block(inputs: int, outputs: int, kernel_size: int, padding: int) -> list[nn.Module]:
    """A convolution, then two linear layers at every pixel: (C, H, W) -> (outputs, H, W)."""
    first = _conv(inputs, outputs, kernel_size, padding=padding)
    return [*first, *_conv(outputs, outputs, 1), *_conv(outputs, outputs, 1)]


def _choose(name: str, value: str, choices: dict[str, object]) -> object:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; allowed are {', '.join(choices)}")
    return choices[value]


def _check_whole(**arguments: int) -> None:
    for name, value in arguments.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; allowed are whole numbers from 1")


def _check_share(**arguments: float) -> None:
    for name, value in arguments.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value!r}; allowed are shares 0 <= {name} < 1")
