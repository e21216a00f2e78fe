"""Figures of chapter 04's lab. Each is displayed, and returns what it drew."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from course_lib.teaching import plot


def curves(
    series: Mapping[str, Tensor],
    labels: tuple[str, str],
    caption: str,
    alt: str,
    *,
    window: int = 5,
) -> dict[str, list[float]]:
    """What several seeds measured at each step: the mean, and a thin line for each of them.

    Args:
        series: name -> (seeds, steps), positive.
        labels: of the x axis and of the y axis, which is logarithmic.
        window: each point is the mean of so many steps, fewer at the start.

    Returns:
        The means over the seeds, smoothed alike.
    """
    fig, axes = plot.figure(8.5, 4.4)
    ax, means = axes[0, 0], {}
    for name, values in series.items():
        smooth = _smooth(values, window)
        steps = range(1, smooth.shape[1] + 1)
        means[name] = smooth.mean(dim=0).tolist()
        (line,) = ax.plot(steps, means[name], label=name)
        ax.plot(steps, smooth.T.tolist(), color=line.get_color(), alpha=0.35, linewidth=1)
    ax.set(xlabel=labels[0], ylabel=labels[1], yscale="log")
    ticks = [tick for tick in (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if _within(tick, ax.get_ylim())]
    ax.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend()
    plot.show(fig, caption, alt)
    return means


def company(
    image: Tensor,
    probabilities: Mapping[str, Tensor],
    names: Sequence[str],
    caption: str,
    alt: str,
) -> dict[str, str]:
    """One image (1, H, W), and what a network takes it for in different company.

    Args:
        probabilities: company -> (classes,).
        names: of the classes.

    Returns:
        The likeliest class in each company.
    """
    fig, axes = plot.figure(12.5, 4.2, columns=1 + len(probabilities))
    plot.draw_image(axes[0, 0], image)
    for ax, (title, values) in zip(axes[0, 1:], probabilities.items(), strict=True):
        plot.probability_bars(ax, values, names)
        ax.set(title=title, xticks=[0, 0.5, 1])
    for ax in axes[0, 2:]:
        ax.set_yticklabels([])
    plot.show(fig, caption, alt)
    return {title: names[values.argmax()] for title, values in probabilities.items()}


def _smooth(values: Tensor, window: int) -> Tensor:
    """The mean of the last `window` values up to each one: (seeds, steps), same shape."""
    sums = values.double().cumsum(dim=1)
    before = torch.nn.functional.pad(sums, (window, 0))[:, : values.shape[1]]
    counts = torch.arange(1, values.shape[1] + 1).clamp(max=window)
    return (sums - before) / counts


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
