"""The batched trainer of chapter 07 beside the usual tutorial program, at equal size.

Both train the tutorial's translator, two LSTMs of 256 units, on number words: one pair at a time
and token by token with SGD; or `train.fit` on batches of sentences of like length, padding left out
of the loss, with Adam. They take turns, so that a machine that slows down slows both.
"""

import statistics
import time

import torch

from course_lib import runtime, train, translations
from course_lib.optimizers import make_optimizer
from course_lib.seq2seq import translation_loss
from course_lib.teaching import tutorials
from course_lib.text import SentenceBatches

ROUNDS, THREADS = 5, 2
PAIRS, STEPS, BATCH = 40, 16, 128  # of each round: pairs of the usual program, steps of the other


def usual_pairs_per_second(task: translations.Translations) -> float:
    """Of the usual program."""
    model = tutorials.TutorialTranslator(len(task.english), len(task.french))
    optimizer = make_optimizer(model, "sgd", 0.01, momentum=0.0)
    started = time.perf_counter()
    for source, target in zip(task.train.source[:PAIRS], task.train.target[:PAIRS], strict=True):
        tutorials.loss_by_token(model, source, target).backward()
        optimizer.step()
        optimizer.zero_grad()
    return PAIRS / (time.perf_counter() - started)


def our_pairs_per_second(task: translations.Translations) -> float:
    """Of the batched trainer, float32."""
    model = tutorials.TutorialTranslator(len(task.english), len(task.french))
    batches = SentenceBatches(task.train.source, task.train.target, batch_size=BATCH)
    config = train.FitConfig(STEPS, "adam", 0.003, precision="float32")
    history = train.fit(model, batches, translation_loss, config)
    return len(history.loss) * BATCH / history.seconds


def main() -> None:
    torch.set_num_threads(THREADS)
    runtime.seed_everything(0)
    task = translations.number_words(train=4000, validation=100, test=100)
    rounds = [(usual_pairs_per_second(task), our_pairs_per_second(task)) for _ in range(ROUNDS + 1)]
    usual, ours = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    ratio = statistics.median(our / their for their, our in rounds[1:])
    print(f"pairs a second: the usual program {usual:.0f}, the batched trainer {ours:.0f}")
    print(f"ratio {ratio:.0f} (target: at least 50, gate 25)")


if __name__ == "__main__":
    main()
