"""Chapter 10's U-Net beside MONAI's `BasicUNet`: training steps of equal channels and depth.

Both take batches of 16 photo scenes of 96 pixels to 7 classes, in channels_last, with batch norm
and ReLU. MONAI's last decoder has a few more channels, as its class offers no other way. The
chapter itself takes pixels apart first (`stem=2`), which is timed as well. Rivals take turns. MONAI
is no requirement of the course: `pip install monai` gets it for this one program.
"""

import argparse
import importlib.util
import statistics
from collections.abc import Callable

import torch
from bench_attention import CPU, PRECISIONS, take_turns
from torch import nn

from course_lib import runtime
from course_lib.scenes import CLASSES, SceneMaker
from course_lib.unet import UNet, cross_entropy

THREADS, BATCH = 2, 16
CHANNELS = (16, 32, 64, 128, 256)  # MONAI's class knows four steps down and no other number


def theirs() -> nn.Module:
    from monai.networks.nets import BasicUNet

    features = (*CHANNELS, CHANNELS[0])
    kind = {"norm": "batch", "act": "relu", "bias": False}
    return BasicUNet(2, 3, len(CLASSES) + 1, features=features, **kind)


def models() -> dict[str, nn.Module]:
    classes = len(CLASSES) + 1
    found = {"ours": UNet(3, classes, CHANNELS), "ours, stem 2": UNet(3, classes, CHANNELS, stem=2)}
    if importlib.util.find_spec("monai") is None:
        print("MONAI is not installed, so there is nothing to compare with: pip install monai")
        return found
    return {**found, "MONAI": theirs()}


def step(model: nn.Module, dtype: torch.dtype) -> Callable[[], None]:
    """Forward, loss, backward and an update, on one batch of scenes."""
    scenes = SceneMaker("train").draw(BATCH, seed=0)
    images = (scenes.images.float() / 255).contiguous(memory_format=torch.channels_last)
    mask = scenes.mask.long()
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def take() -> None:
        with runtime.autocast(CPU, dtype):
            loss = cross_entropy(model(images), mask)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(THREADS)
    runtime.seed_everything(0)
    rivals = models()
    for name, model in rivals.items():
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} weights")
    for precision, dtype in PRECISIONS.items():
        steps = {name: step(model, dtype) for name, model in rivals.items()}
        times = take_turns(steps, rounds)
        shown = ", ".join(f"{n} {statistics.median(taken):.0f} ms" for n, taken in times.items())
        print(f"a training step in {precision}: {shown}")
        if "MONAI" in times:
            pairs = zip(times["ours"], times["MONAI"], strict=True)
            ratio = statistics.median(o / t for o, t in pairs)
            print(f"ratio {ratio:.2f} (target: at most 1.05)")


if __name__ == "__main__":
    main()
