"""Convolutional networks for small images."""

from torch import Tensor, nn


class DigitNet(nn.Module):
    """Three convolutions, two of them followed by pooling, for 28x28 grey images.

    Small enough to learn the digits within seconds on a laptop, wide enough to read handwriting
    that it has never seen.

    Args:
        classes: how many answers there are.
        width: channels of the first convolution; the others have twice as many.

    Shapes:
        (N, 1, 28, 28) -> logits (N, classes)
    """

    def __init__(self, classes: int = 10, width: int = 16):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, width),  # (N, 1, 28, 28) -> (N, width, 28, 28)
            nn.MaxPool2d(2),  # -> (N, width, 14, 14)
            conv_block(width, 2 * width),  # -> (N, 2 width, 14, 14)
            nn.MaxPool2d(2),  # -> (N, 2 width, 7, 7)
            conv_block(2 * width, 2 * width),  # -> (N, 2 width, 7, 7)
        )
        self.classify = nn.Linear(2 * width * 7 * 7, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images).flatten(1))


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU: (N, inputs, H, W) -> (N, outputs, H, W)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
