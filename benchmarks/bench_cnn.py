"""Chapter 02 beside its peers: convolution by unfolding, and the usual tutorial program.

The second part trains a part of the tutorial program's first epoch, half of it before ours and half
after, so that a machine that slows down slows both; its time for five epochs is then scaled up, and
the accuracy that ours has to reach is the one stored below. With `--full` all five epochs are
trained, first and in one go, and tested.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from rows import Plan, Record, Rival, Row, compare, once, run
from torch import Tensor

from course_lib import cnn, recipes

EPOCHS = 5  # of the tutorial program
TUTORIAL_ACCURACY = 0.989  # after them, in early trials 98.8-98.9 %; --full measures it anew
STEPS = 240  # in which our recipe gets there, with its schedule cut to this length


def there_and_back(convolve: Callable[..., Tensor], images: Tensor, weight: Tensor) -> Rival:
    """A 3x3 convolution with padding 1."""
    images, weight = (t.clone().requires_grad_() for t in (images, weight))

    def take() -> Tensor:
        images.grad = weight.grad = None
        convolve(images, weight, padding=1).sum().backward()
        return weight.grad

    return take


def convolution(plan: Plan) -> Row:
    batch = plan.pick(64, 2)
    images, weight = torch.randn(batch, 32, 28, 28), torch.randn(64, 32, 3, 3)
    ours, theirs = (there_and_back(f, images, weight) for f in (cnn.conv2d, F.conv2d))
    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=0.05)  # sums of 50,000 products
    size = f"({batch}, 32, 28, 28), 64 kernels of 3 x 3"
    row = Row("others", "convolution by unfolding, there and back", size, "F.conv2d", "ms", goal=4)
    return compare(row, ours, theirs, plan.pick(9, 1))


def digits(plan: Plan) -> Row:
    tutorial, ours = recipes.tutorial(), recipes.cnn(steps=plan.pick(STEPS, 2))
    share = 1.0
    if not plan.full:
        part = round(tutorial.config.steps / EPOCHS / 2)  # half of an epoch
        part = plan.pick(part, 2)
        share = 2 * part / tutorial.config.steps
        tutorial = recipes.tutorial(steps=part)
    seconds = tutorial.fit().seconds
    our_seconds = ours.fit().seconds
    wanted, how = TUTORIAL_ACCURACY, "stored; its time is scaled from one epoch"
    if plan.full:
        wanted, how = tutorial.test(tutorial.model)["accuracy"], "measured"
    else:
        seconds = (seconds + tutorial.fit().seconds) / share
    reached = ours.test(ours.model)["accuracy"]
    return once(
        Row(
            "mnist",
            "training",
            f"{ours.config.steps} steps beside {EPOCHS} epochs",
            "the usual tutorial program",
            "s",
            our_seconds,
            seconds,
            goal=0.1,
            fulfilled=reached >= wanted,
            note=f"{100 * reached:.2f} % reached; the peer's {100 * wanted:.1f} % is {how}",
        )
    )


def measure(plan: Plan) -> Iterator[Record]:
    yield digits(plan)
    yield convolution(plan)


if __name__ == "__main__":
    run(measure, __doc__)
