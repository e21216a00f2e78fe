"""What `train.fit` itself costs a step, beside what a step of chapter 02's network takes.

Its own cost is measured by training a model that computes next to nothing on the same batches of
256 images: what remains is cutting the batch, the schedule, the optimizer's call and the books.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from rows import CPU, Plan, Record, Row, run, take_turns, with_rounds
from torch import Tensor, nn

from course_lib import train
from course_lib.classics import NotesCNN

STEPS, BATCH_SIZE = 30, 256


def written_out(images: Tensor, labels: Tensor) -> None:
    """Chapter 02's network in the barest loop there is."""
    model = NotesCNN()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    for items in torch.randperm(len(images)).split(BATCH_SIZE):
        F.cross_entropy(model(images[items]), labels[items]).backward()
        optimizer.step()
        optimizer.zero_grad()


def fit_almost_nothing(images: Tensor, labels: Tensor) -> None:
    """`fit` with a model of ten numbers that never looks at its batch."""
    model = nn.Linear(1, 10, bias=False)
    batches = train.Batches(images, labels, batch_size=BATCH_SIZE)
    steps = len(images) // BATCH_SIZE
    config = train.FitConfig(steps=steps, schedule="one_cycle", precision="float32")
    train.fit(model, batches, lambda model, _: model.weight.sum(), config, device=CPU)


def measure(plan: Plan) -> Iterator[Record]:
    steps = plan.pick(STEPS, 3)
    images = torch.rand(steps * BATCH_SIZE, 1, 28, 28)
    labels = torch.randint(10, (len(images),))
    rivals = {
        "ours": lambda: fit_almost_nothing(images, labels),
        "theirs": lambda: written_out(images, labels),
    }
    times = take_turns(rivals, plan.pick(9, 1))
    peer = "the step itself, written out"
    size = f"batches of {BATCH_SIZE}"
    row = Row("others", "train.fit's own cost of a step", size, peer, "ms", goal=0.03)
    yield with_rounds(row, *([t / steps for t in times[who]] for who in rivals))


if __name__ == "__main__":
    run(measure, __doc__)
