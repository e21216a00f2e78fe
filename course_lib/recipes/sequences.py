"""The training runs of chapters 06 and 07, on sequences of symbols and of words."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from course_lib import decoding, lexicon, runtime, token_files, translations
from course_lib.attention import TransformerConfig
from course_lib.bleu import bleu
from course_lib.recipes import answers
from course_lib.recipes.recipe import Recipe, one_cycle, shipped
from course_lib.seq2seq import GRUTranslator, TransformerTranslator, translation_loss
from course_lib.text import SPECIAL, SentenceBatches, Vocabulary

# Most words are matrices here, and Muon moves matrices better: chapter 07 tells how.
TRANSLATING = {"optimizer": "muon", "learning_rate": 0.01, "weight_decay": 0.1, "warmup": 0.1}
LONGEST = 24  # tokens of a translation; the longest in the data has 23, END included
OWN_LONGEST = 80  # of the user's own
COUNTED = 50_000  # of the user's own lines are enough for a dictionary


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

    return _on_sentences(task, task.train, model, config, batch_size, test, smoothing=0.0)


def dialogue(
    *,
    seed: int = 0,
    batch_size: int = 128,
    dropout: float = 0.1,
    source: str | Path | Sequence[str] | None = None,
    **changes,
) -> Recipe:
    """Chapter 07: a small Transformer, which starts from a dictionary found by counting, translates
    lines of dialogue; arguments as for `number_words`.

    Args:
        dropout: of the Transformer.
        source: a file of the user's own sentences, a line each, with a TAB and the translation; or
            only the words of both languages, to build the model.
    """
    if shipped(source, ("english_french",)):
        task, longest = translations.dialogue(), LONGEST
        learned = task.development
    else:
        task, longest = _own_task(source), OWN_LONGEST
        learned = task.train
    config = one_cycle(seed, changes, steps=600, **TRANSLATING)
    runtime.seed_everything(seed)
    sizes = TransformerConfig(width=128, heads=4, layers=2, hidden=256, dropout=dropout)
    model = TransformerTranslator(len(task.english), len(task.french), sizes, tie=True)
    if not isinstance(source, list | tuple):  # from words alone nothing can be counted
        pairs = learned.source[:COUNTED], learned.target[:COUNTED]
        words = len(task.english), len(task.french)
        model.start_from_dictionary(lexicon.translation_table(*pairs, words))

    def test(model: nn.Module) -> dict[str, float]:
        found = decoding.greedy(model, task.test.source, longest).ids
        return {"BLEU": bleu([task.text(ids) for ids in found], task.test.french)}

    recipe = _on_sentences(task, learned, model, config, batch_size, test, 0.1, longest)
    words = (*task.english.tokens, *task.french.tokens)
    return recipe if source is None else replace(recipe, names=words)


def dialogue_long(*, steps: int = 1500, dropout: float = 0.15, **options) -> Recipe:
    """Chapter 07: longer than `dialogue`, and with more dropout: each line is seen more often."""
    return dialogue(steps=steps, dropout=dropout, **options)


def _own_task(source: str | Path | Sequence[str]) -> translations.Translations:
    """Pairs of the user's own, or two sentences of the same words."""
    if isinstance(source, list | tuple):
        cut = source.index(SPECIAL[0], 1)  # each language's words begin with the special tokens
        words = [side[len(SPECIAL) :] for side in (source[:cut], source[cut:])]
        parts = dict.fromkeys(("train", "test"), [(" ".join(side),) for side in words])
        fields = translations.fields_of(parts)
        fields |= dict(zip(("english", "french"), map(Vocabulary, words), strict=True))
    else:
        train, test = (tuple(zip(*part, strict=True)) for part in token_files.open_pairs(source))
        fields = translations.fields_of({"train": train, "test": test}, min_count=2)
    return translations.Translations(**fields, validation=fields["test"])


def _on_sentences(
    task, learned, model, config, batch_size, test, smoothing, longest=LONGEST
) -> Recipe:
    batches = SentenceBatches(
        learned.source, learned.target, batch_size=batch_size, seed=config.seed
    )
    loss = partial(translation_loss, smoothing=smoothing)
    answer, inputs = answers.translate(task, longest), lambda batch: (batch[0], batch[1][:, :-1])
    return Recipe(model, batches, loss, config, test, predict=answer, inputs=inputs)
