"""What `train.fit` itself costs a step, beside what a step of chapter 02's network takes.

Its own cost is measured by training a model that computes next to nothing on the same batches of
256 images: what remains is cutting the batch, the schedule, the optimizer's call and the books. The
two take turns, so that a machine that slows down slows both.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import runtime, train

STEPS, ROUNDS, BATCH_SIZE = 30, 9, 256
CPU = torch.device("cpu")


def notes_cnn() -> nn.Module:
    """Chapter 02's network: two 3x3 convolutions with pooling, 128 hidden units."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def written_out(images: Tensor, labels: Tensor) -> None:
    """Chapter 02's network in the barest loop there is."""
    model = notes_cnn()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    for items in torch.randperm(len(images)).split(BATCH_SIZE):
        F.cross_entropy(model(images[items]), labels[items]).backward()
        optimizer.step()
        optimizer.zero_grad()


def fit_almost_nothing(images: Tensor, labels: Tensor) -> None:
    """`fit` with a model of ten numbers that never looks at its batch."""
    model = nn.Linear(1, 10, bias=False)
    batches = train.Batches(images, labels, batch_size=BATCH_SIZE)
    config = train.FitConfig(steps=STEPS, schedule="one_cycle", precision="float32")
    train.fit(model, batches, lambda model, _: model.weight.sum(), config, device=CPU)


def milliseconds_a_step(function: Callable[[Tensor, Tensor], None], *tensors: Tensor) -> float:
    started = time.perf_counter()
    function(*tensors)
    return 1000 * (time.perf_counter() - started) / STEPS


def measure() -> tuple[float, float]:
    """Median milliseconds a step of the network written out, and of `fit` with almost nothing."""
    runtime.seed_everything(0)
    images = torch.rand(STEPS * BATCH_SIZE, 1, 28, 28)
    labels = torch.randint(10, (len(images),))
    network, own = [], []
    for _ in range(ROUNDS):
        network.append(milliseconds_a_step(written_out, images, labels))
        own.append(milliseconds_a_step(fit_almost_nothing, images, labels))
    return statistics.median(network), statistics.median(own)


def main() -> None:
    network, own = measure()
    print(f"a step of the network {network:.2f} ms; of fit alone {own:.2f} ms (medians)")
    print(f"fit's own cost: {100 * own / network:.1f} % of a step (target: at most 3 %)")


if __name__ == "__main__":
    main()
