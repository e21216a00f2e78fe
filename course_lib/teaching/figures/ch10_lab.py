"""Figures of chapter 10's lab. Each is displayed, and returns what it drew."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from torch import Tensor

from course_lib.teaching import plot
from course_lib.teaching.figures.ch10 import CLASS_COLORS as COLORS  # the lesson's


def label_maps(
    maps: Mapping[str, Tensor], names: Sequence[str], caption: str, alt: str
) -> dict[str, list[str]]:
    """Maps of class numbers side by side, each class in its colour, with a legend.

    Args:
        maps: by title, integers (H, W), each of its own size.
        names: of the classes from 0 on, at most seven.

    Returns:
        For each map the names of the classes in it.
    """
    fig, axes = plot.figure(3.0 * len(maps) + 1.6, 3.3, columns=len(maps))
    look = {"cmap": ListedColormap(COLORS), "vmin": 0, "vmax": len(COLORS) - 1}
    there = {title: labels.unique().tolist() for title, labels in maps.items()}
    for ax, (title, labels) in zip(axes[0], maps.items(), strict=True):
        ax.imshow(labels.numpy(), interpolation="nearest", **look)
        ax.set_title(title)
        plot.hide_axes(ax)
    found = sorted(set().union(*there.values()))
    keys = [Patch(color=COLORS[number], label=names[number]) for number in found]
    axes[0, -1].legend(handles=keys, loc="center left", bbox_to_anchor=(1.0, 0.5))
    plot.show(fig, caption, alt)
    return {title: [names[number] for number in numbers] for title, numbers in there.items()}


def pictures(images: Mapping[str, Tensor], caption: str, alt: str) -> dict[str, list[int]]:
    """Some images (3, H, W) side by side, large, with their titles; returns their shapes."""
    fig, axes = plot.figure(3.3 * len(images), 3.6, columns=len(images))
    for ax, (title, image) in zip(axes[0], images.items(), strict=True):
        plot.draw_image(ax, image, title)
    plot.show(fig, caption, alt)
    return {title: list(image.shape) for title, image in images.items()}


def outlined(images: Tensor, masks: Tensor) -> Tensor:
    """Grey images with the edge of a mask drawn on them: (N, 1, H, W) -> float (N, 3, H, W).

    Args:
        images: of any range; each is stretched to 0 .. 1.
        masks: bool (N, 1, H, W); its pixels beside others are painted orange.
    """
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    grey = ((images - low) / (high - low).clamp(min=1e-6)).expand(-1, 3, -1, -1)
    inside = -F.max_pool2d(-masks.float(), 3, stride=1, padding=1) > 0  # all neighbours, too
    orange = torch.tensor([0.90, 0.62, 0.0]).view(3, 1, 1)
    return torch.where(masks & ~inside, orange, grey)
