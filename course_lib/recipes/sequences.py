"""The training runs of chapters 06 and 07, on sequences of symbols and of words."""

from functools import partial

from torch import nn

from course_lib import decoding, runtime, translations
from course_lib.attention import TransformerConfig
from course_lib.bleu import bleu
from course_lib.recipes import answers
from course_lib.recipes.recipe import Recipe, one_cycle
from course_lib.seq2seq import GRUTranslator, TransformerTranslator, translation_loss
from course_lib.text import SentenceBatches

# Most words are matrices here, and Muon moves matrices better: chapter 07 tells how.
TRANSLATING = {"optimizer": "muon", "learning_rate": 0.01, "weight_decay": 0.1, "warmup": 0.1}
LONGEST = 24  # tokens of a translation; the longest in the data has 23, END included


def number_words(*, seed: int = 0, batch_size: int = 128, **changes) -> Recipe:
    """Chapter 07: a GRU with dot attention turns English number words into French ones.

    Args:
        seed: of the weights, the order of the sentences and the dropout masks.
        changes: other values for the `FitConfig`, e.g. `steps=2000`.
    """
    task = translations.number_words()
    config = one_cycle(seed, changes, steps=520, **TRANSLATING)
    runtime.seed_everything(seed)
    model = GRUTranslator(len(task.english), len(task.french), width=192)

    def test(model: nn.Module) -> dict[str, float]:
        found = decoding.greedy(model, task.test.source, LONGEST).ids
        right = [
            task.text(ids) == french for ids, french in zip(found, task.test.french, strict=True)
        ]
        return {"exact": sum(right) / len(right)}

    return _on_sentences(task, model, config, batch_size, test, smoothing=0.0)


def dialogue(*, seed: int = 0, batch_size: int = 128, dropout: float = 0.0, **changes) -> Recipe:
    """Chapter 07: a small Transformer translates lines of dialogue; arguments as for
    `number_words`, and the dropout of the Transformer."""
    task = translations.dialogue()
    config = one_cycle(seed, changes, steps=450, **TRANSLATING | {"learning_rate": 0.007})
    runtime.seed_everything(seed)
    sizes = TransformerConfig(width=128, heads=4, layers=2, hidden=256, dropout=dropout)
    model = TransformerTranslator(len(task.english), len(task.french), sizes, tie=True)

    def test(model: nn.Module) -> dict[str, float]:
        return {"BLEU": bleu(_translate(task, model), task.test.french)}

    return _on_sentences(task, model, config, batch_size, test, smoothing=0.1)


def dialogue_long(*, steps: int = 1150, dropout: float = 0.1, **options) -> Recipe:
    """Chapter 07: longer than `dialogue`, and with dropout, since each line is seen more often."""
    return dialogue(steps=steps, dropout=dropout, **options)


def _translate(task: translations.Translations, model: nn.Module) -> list[str]:
    found = decoding.greedy(model, task.test.source, LONGEST)
    return [task.text(ids) for ids in found.ids]


def _on_sentences(task, model, config, batch_size, test, smoothing) -> Recipe:
    batches = SentenceBatches(
        task.train.source, task.train.target, batch_size=batch_size, seed=config.seed
    )
    loss = partial(translation_loss, smoothing=smoothing)
    return Recipe(
        model,
        batches,
        loss,
        config,
        test,
        predict=answers.translate(task, LONGEST),
        inputs=lambda batch: (batch[0], batch[1][:, :-1]),
    )
