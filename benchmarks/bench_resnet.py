"""Chapter 05's `resnet18` beside torchvision's: one training step on images (32, 3, 64, 64).

Both have the same weights, images in channels_last, and SGD with momentum; a step is forward, loss,
backward and update. They take turns, the one that begins changing every round, so that a machine
that slows down slows both.
"""

import statistics
import time

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from course_lib import resnet, runtime
from course_lib.weights import load_weights

ROUNDS, THREADS = 15, 2
SHAPE, CLASSES = (32, 3, 64, 64), 1000
PRECISIONS = {"float32": torch.float32, "bfloat16 autocast": torch.bfloat16}
CPU = torch.device("cpu")


def make_networks() -> dict[str, nn.Module]:
    """Torchvision's network and ours, with torchvision's fresh weights."""
    theirs, ours = torchvision.models.resnet18(), resnet.resnet18()
    load_weights(ours, theirs.state_dict())
    networks = {"torchvision": theirs, "ours": ours}
    return {name: n.to(memory_format=torch.channels_last) for name, n in networks.items()}


def milliseconds(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    dtype: torch.dtype,
) -> float:
    """Of one training step."""
    started = time.perf_counter()
    with runtime.autocast(CPU, dtype):
        loss = F.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return 1000 * (time.perf_counter() - started)


def measure(dtype: torch.dtype) -> tuple[float, float, float]:
    """Median milliseconds of torchvision's step and of ours, and the median of their ratios."""
    networks = make_networks()
    optimizers = {
        name: torch.optim.SGD(n.parameters(), 0.01, momentum=0.9) for name, n in networks.items()
    }
    images = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, SHAPE[:1])
    times: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(ROUNDS + 2):
        for name in sorted(networks, reverse=number % 2 == 0):
            step = milliseconds(networks[name], optimizers[name], images, labels, dtype)
            times[name].append(step)
    theirs, ours = times["torchvision"][2:], times["ours"][2:]  # the first two warm up
    ratio = statistics.median(o / t for o, t in zip(ours, theirs, strict=True))
    return statistics.median(theirs), statistics.median(ours), ratio


def main() -> None:
    torch.set_num_threads(THREADS)
    runtime.seed_everything(0)
    for name, dtype in PRECISIONS.items():
        theirs, ours, ratio = measure(dtype)
        print(f"a step in {name}: torchvision {theirs:.0f} ms, ours {ours:.0f} ms")
        print(f"ratio {ratio:.3f} (target: at most 1.05)")


if __name__ == "__main__":
    main()
