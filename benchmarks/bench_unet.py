"""Chapter 10's U-Net beside MONAI's `BasicUNet`: training steps of equal channels and depth.

Both take photo scenes of 96 pixels to 7 classes, in channels_last, with batch norm and ReLU.
MONAI's last decoder has a few more channels, as its class offers no other way; the two networks'
weights cannot be exchanged, so their shapes are compared. The chapter itself takes pixels apart
first (`stem=2`), which is timed as well. MONAI is no requirement of the course: `pip install monai`
gets it for this one program. How a step grows with the image is drawn as a curve.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from rows import CPU, PRECISIONS, Curve, Plan, Record, Rival, Row, compare, grow, medians, run
from torch import nn

from course_lib import runtime
from course_lib.scenes import CLASSES, SceneMaker
from course_lib.unet import UNet, cross_entropy

BATCH = 16
CHANNELS = (16, 32, 64, 128, 256)  # MONAI's class knows four steps down and no other number
NAME = "MONAI's BasicUNet"
SIDES = (32, 64, 96, 128, 192, 256)


def make_theirs() -> nn.Module:
    from monai.networks.nets import BasicUNet

    features = (*CHANNELS, CHANNELS[0])
    kind = {"norm": "batch", "act": "relu", "bias": False}
    return BasicUNet(2, 3, len(CLASSES) + 1, features=features, **kind)


def models() -> dict[str, nn.Module]:
    """Ours, ours with a stem, and MONAI's if it is installed."""
    classes = len(CLASSES) + 1
    found = {"ours": UNet(3, classes, CHANNELS), "ours, stem 2": UNet(3, classes, CHANNELS, stem=2)}
    if importlib.util.find_spec("monai") is not None:
        found[NAME] = make_theirs()
    images = torch.rand(2, 3, 32, 32)
    for name, model in found.items():
        if model(images).shape != (2, classes, 32, 32):
            raise AssertionError(f"{name} gives another shape")
    return {name: m.to(memory_format=torch.channels_last).train() for name, m in found.items()}


def step(model: nn.Module, batch: int, side: int, dtype: torch.dtype) -> Rival:
    """Forward, loss, backward and an update, on one batch of scenes."""
    scenes = SceneMaker("train").draw(batch, seed=0)
    images = F.interpolate(scenes.images.float() / 255, (side, side), mode="bilinear")
    images = images.contiguous(memory_format=torch.channels_last)  # (B, 3, side, side)
    mask = F.interpolate(scenes.mask[:, None].float(), (side, side))[:, 0].long()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def take() -> None:
        with runtime.autocast(CPU, dtype):
            loss = cross_entropy(model(images), mask)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return take


def measure(plan: Plan) -> Iterator[Record]:
    found = models()
    batch, side = plan.pick((BATCH, 96), (2, 32))
    size = f"({batch}, 3, {side}, {side})"
    for precision, dtype in PRECISIONS.items():
        for own in ("ours", "ours, stem 2"):
            what = f"training step, {precision}{', stem 2' if 'stem' in own else ''}"
            row = Row("unet", what, size, NAME, "ms", goal=1.05)
            if NAME not in found:
                yield replace(row, note="not measured: pip install monai")
                continue
            rivals = (step(found[who], batch, side, dtype) for who in (own, NAME))
            yield compare(row, *rivals, plan.pick(15, 1), seconds=5)
    sides, batch = plan.pick(SIDES, (32, 64)), plan.pick(4, 2)
    points = []
    for side in sides:
        steps = {who: step(model, batch, side, torch.float32) for who, model in found.items()}
        points.append(medians(steps, plan.pick(4, 1), 3))
    title = f"A training step of a U-Net, {batch} images, float32"
    yield Curve("unet_size", title, "pixels on a side", "milliseconds", [*sides], grow(points))


if __name__ == "__main__":
    run(measure, __doc__)
