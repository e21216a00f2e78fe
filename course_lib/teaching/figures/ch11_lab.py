"""The figure of chapter 11's lab. It is displayed, and returns what it drew."""

from collections.abc import Mapping

from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib.teaching import plot


def crowds(
    scenes: Mapping[str, tuple[Tensor, Tensor, Tensor]],
    caption: str,
    alt: str,
    *,
    cells: int | None = None,
) -> dict[str, dict[str, int]]:
    """Scenes with the boxes of their objects: kept ones in blue, lost ones dashed in red.

    Args:
        scenes: by title, an image (3, H, W), boxes (M, 4), and which are lost, bool (M,).
        cells: draws a grid of cells x cells, and the boxes' centres.

    Returns:
        For each scene how many are "kept" and "lost".
    """
    fig, axes = plot.figure(3.6 * len(scenes), 3.9, columns=len(scenes))
    for ax, (title, (image, boxes, gone)) in zip(axes[0], scenes.items(), strict=True):
        plot.draw_image(ax, image, title)
        for line in range(1, cells or 1):
            for draw in (ax.axvline, ax.axhline):
                draw(line * image.shape[-1] / cells - 0.5, color="white", linewidth=1, alpha=0.8)
        for (x1, y1, x2, y2), is_gone in zip(boxes.tolist(), gone.tolist(), strict=True):
            color, style = (plot.RED, "--") if is_gone else (plot.BLUE, "-")
            look = {"edgecolor": color, "linestyle": style, "linewidth": 2.2, "fill": False}
            ax.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, **look))
            if cells:
                ax.plot((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2, "o", color=color, markersize=7)
    plot.show(fig, caption, alt)
    return {
        title: {"kept": int((~gone).sum()), "lost": int(gone.sum())}
        for title, (_, _, gone) in scenes.items()
    }
