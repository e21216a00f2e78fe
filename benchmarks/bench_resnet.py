"""Chapter 05's `resnet18` and `resnet50` beside torchvision's, with the same weights.

Images are in channels_last. A training step is forward, loss, backward and an update by SGD with
momentum; inference is in evaluation mode. How a step grows with the batch is drawn as a curve.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import torchvision
from rows import CPU, PRECISIONS, Curve, Plan, Record, Rival, Row, compare, grow, medians, run
from torch import Tensor, nn

from course_lib import resnet, runtime
from course_lib.weights import load_weights

CLASSES, SIDE = 1000, 64
BATCHES = {"resnet18": 32, "resnet50": 16}
CURVE = (2, 4, 8, 16, 32, 64)


def networks(name: str) -> dict[str, nn.Module]:
    """Ours and torchvision's, with torchvision's fresh weights; they give the same."""
    theirs, ours = getattr(torchvision.models, name)(), getattr(resnet, name)()
    load_weights(ours, theirs.state_dict())
    both = {"ours": ours, "torchvision": theirs}
    both = {who: net.to(memory_format=torch.channels_last) for who, net in both.items()}
    images = draw(2, SIDE)
    # With fresh norms, logits in evaluation mode grow to thousands.
    torch.testing.assert_close(*(net(images) for net in both.values()), rtol=1e-3, atol=1e-3)
    return both


def draw(batch: int, side: int) -> Tensor:
    return torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)


def step(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Rival:
    labels = torch.randint(CLASSES, images.shape[:1])
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)

    def take() -> None:
        network.train()
        with runtime.autocast(CPU, dtype):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return take


def look(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Rival:
    def take() -> None:
        network.eval()
        with torch.inference_mode(), runtime.autocast(CPU, dtype):
            network(images)

    return take


def measure(plan: Plan) -> Iterator[Record]:
    side = plan.pick(SIDE, 32)
    for name, batch in BATCHES.items():
        both = networks(name)
        images = draw(plan.pick(batch, 2), side)
        size = f"({len(images)}, 3, {side}, {side})"
        for precision, dtype in PRECISIONS.items():
            for kind, make in (("training step", step), ("inference", look)):
                what = f"{name}, {kind}, {precision}"
                row = Row("resnet", what, size, "torchvision", "ms", goal=1.05)
                rivals = (make(net, images, dtype) for net in both.values())
                yield compare(row, *rivals, plan.pick(15, 1), seconds=5)
    both, batches = networks("resnet18"), plan.pick(CURVE, (2, 3))
    points = []
    for batch in batches:
        images = draw(batch, side)
        steps = {who: step(net, images, torch.float32) for who, net in both.items()}
        points.append(medians(steps, plan.pick(4, 1), 3))
    title = f"A training step of ResNet-18, images of {side} pixels, float32"
    yield Curve(
        "resnet_batch", title, "images in the batch", "milliseconds", [*batches], grow(points)
    )


if __name__ == "__main__":
    run(measure, __doc__)
