"""The batched trainer of chapter 07 beside the usual tutorial program, at equal size.

Both train the tutorial's translator, two LSTMs of 256 units, on number words: one pair at a time
and token by token with SGD; or `train.fit` on batches of sentences of like length, padding left out
of the loss, with Adam.
"""

from collections.abc import Iterator

import torch
from rows import Plan, Record, Row, compare, run
from torch import Tensor

from course_lib import train, translations
from course_lib.optimizers import make_optimizer
from course_lib.seq2seq import translation_loss
from course_lib.teaching import tutorials
from course_lib.text import SentenceBatches

PAIRS, STEPS, BATCH = 40, 16, 128  # of each round: pairs of the usual program, steps of the other


def new_model(task: translations.Translations) -> tutorials.TutorialTranslator:
    return tutorials.TutorialTranslator(len(task.english), len(task.french))


def train_as_usual(task: translations.Translations, pairs: int) -> None:
    """Pair by pair, token by token."""
    model = new_model(task)
    optimizer = make_optimizer(model, "sgd", 0.01, momentum=0.0)
    for source, target in zip(task.train.source[:pairs], task.train.target[:pairs], strict=True):
        tutorials.loss_by_token(model, source, target).backward()
        optimizer.step()
        optimizer.zero_grad()


def train_in_batches(task: translations.Translations, steps: int) -> None:
    """By chapter 07's trainer, float32."""
    batches = SentenceBatches(task.train.source, task.train.target, batch_size=BATCH)
    config = train.FitConfig(steps, "adam", 0.003, precision="float32")
    train.fit(new_model(task), batches, translation_loss, config)


def check_losses(task: translations.Translations) -> None:
    """Of one pair without padding, both forms give the same loss."""
    model = new_model(task)
    source, target = (side[0][side[0] != 0] for side in (task.train.source, task.train.target))
    logits = model(source[None], torch.cat([start(), target[:-1]])[None])  # (1, T, words)
    at_once = torch.nn.functional.cross_entropy(logits[0], target)
    torch.testing.assert_close(at_once, tutorials.loss_by_token(model, source, target))


def start() -> Tensor:
    return torch.tensor([tutorials.START])


def measure(plan: Plan) -> Iterator[Record]:
    task = translations.number_words(train=plan.pick(4000, 300), validation=20, test=20)
    check_losses(task)
    pairs, steps = plan.pick((PAIRS, STEPS), (2, 2))
    row = Row(
        "seq2seq",
        "training the tutorial's translator, two LSTMs",
        f"256 units, batches of {BATCH}",
        "the tutorial's loop, token by token",
        "pairs/s",
        goal=50,
        at_least=True,
    )
    ours, theirs = (lambda: train_in_batches(task, steps)), (lambda: train_as_usual(task, pairs))
    yield compare(row, ours, theirs, plan.pick(5, 1), items=(steps * BATCH, pairs), seconds=30)


if __name__ == "__main__":
    run(measure, __doc__)
