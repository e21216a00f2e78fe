"""The training runs of chapters 08 and 09, on text: BERT, its fine-tuning, and GPT."""

import torch
from torch import nn

from course_lib import characters, data, pretrained, pretraining, reviews, runtime, train
from course_lib.addition import DICTIONARY, Addition
from course_lib.bert import (
    Bert,
    BertClassifier,
    BertConfig,
    BertForPretraining,
    freeze,
    pretraining_loss,
)
from course_lib.gpt import GPT, GPTConfig, gpt_loss
from course_lib.recipes.recipe import Recipe, one_cycle

# Chapter 07 tells how Muon moves matrices.
MUON = {"optimizer": "muon", "warmup": 0.1, "weight_decay": 0.1}
CONTEXT = 64  # characters that the small GPT sees at once


def bert_pretraining(*, seed: int = 0, batch_size: int = 64, **changes) -> Recipe:
    """Chapter 08: a small BERT learns from encyclopedia articles and novels.

    Args:
        seed: of the weights, the pairs and the hidden words.
        changes: other values for the `FitConfig`, e.g. `steps=2000`.
    """
    texts = pretraining.load()
    config = one_cycle(seed, changes, steps=280, **MUON, learning_rate=0.01)
    runtime.seed_everything(seed)
    sizes = BertConfig(
        len(texts.pieces),
        width=128,
        heads=4,
        layers=3,
        hidden=512,
        max_length=pretraining.LENGTH,
        dropout=0.0,
        rotary=True,
        initial_std=128**-0.5,  # with BERT's 0.02 it learns about neighbours far later
    )
    batches = pretraining.PairBatches(texts.train, batch_size=batch_size, seed=seed)

    def test(model: nn.Module) -> dict[str, float]:
        return pretraining_scores(model, pretraining.held_out(texts.test))

    return Recipe(BertForPretraining(sizes), batches, pretraining_loss, config, test)


def bert_pretraining_long(*, steps: int = 900, **options) -> Recipe:
    """Chapter 08: longer than `bert_pretraining`, and otherwise the same."""
    return bert_pretraining(steps=steps, **options)


@torch.no_grad()
def pretraining_scores(
    model: nn.Module, record: pretraining.Record, batch_size: int = 250
) -> dict[str, float]:
    """Shares of the hidden words, and of the pairs' neighbourhoods, that the model tells rightly.

    Args:
        record: of any number of pairs, such as `pretraining.held_out` gives.
    """
    device = next(model.parameters()).device
    words, following = [], []
    with runtime.autocast(device, runtime.resolve_precision("auto", device)):
        for part in zip(*(tensor.split(batch_size) for tensor in record[:4]), strict=True):
            word_logits, next_logits = model(*(tensor.to(device) for tensor in part))
            words.append(word_logits.argmax(-1).cpu())  # (B, M, vocabulary) -> (B, M)
            following.append(next_logits.argmax(-1).cpu())  # (B, 2) -> (B,)
    right = torch.cat(following) == record.is_next
    return {
        "masked words": pretraining.share_right(torch.cat(words), record.tokens),
        "neighbours": right.float().mean().item(),
    }


def review_tuning(*, seed: int = 0, batch_size: int = 32, layers: int = 3, **changes) -> Recipe:
    """Chapter 08: MiniLM, pretrained elsewhere, learns to tell kind reviews from unkind ones.

    Args:
        seed: of the head's weights, the order of the reviews and the dropout masks.
        layers: how many of the lowest stay as they are, with the embeddings; all of the six: only
            the head learns.
        changes: other values for the `FitConfig`.
    """
    return _on_reviews(reviews.sentiment(), seed, batch_size, layers, changes)


def kinder_review(*, seed: int = 0, batch_size: int = 32, layers: int = 3, **changes) -> Recipe:
    """Chapter 08: MiniLM learns which of two reviews is the kinder; as `review_tuning`."""
    return _on_reviews(reviews.kinder(), seed, batch_size, layers, changes)


def _on_reviews(task: reviews.Task, seed: int, batch_size: int, layers: int, changes) -> Recipe:
    config = one_cycle(seed, changes, steps=160, **MUON, learning_rate=0.001)
    runtime.seed_everything(seed)
    bert = Bert.from_pretrained(pretrained.minilm(), dropout=0.0)
    freeze(bert, layers)
    model = BertClassifier(bert, classes=2, pool="mean", dropout=0.1)
    batches = task.development.batches(batch_size, seed, soft=True)

    def test(model: nn.Module) -> dict[str, float]:
        logits = reviews.predict(model, task.test.ids)
        return {"accuracy": train.accuracy(logits, task.test.labels)}

    return Recipe(model, batches, reviews.soft_review_loss, config, test)


def addition(*, seed: int = 0, batch_size: int = 256, **changes) -> Recipe:
    """Chapter 09: a small GPT completes sums of two numbers of three digits.

    Args:
        seed: of the weights and the order of the sums.
        changes: other values for the `FitConfig`.
    """
    task = Addition(reverse=False)
    pairs, held_out = task.split()
    config = one_cycle(seed, changes, steps=230, **MUON, learning_rate=0.01)
    runtime.seed_everything(seed)
    sizes = GPTConfig(len(DICTIONARY), task.prompt_length + task.answer_length, layers=2)

    def test(model: nn.Module) -> dict[str, float]:
        return {"exact": task.exactness(model, held_out)}

    return Recipe(GPT(sizes), task.batches(pairs, batch_size, seed), gpt_loss, config, test)


def shakespeare(*, seed: int = 0, batch_size: int = 32, **changes) -> Recipe:
    """Chapter 09: a GPT of 0.8 million weights learns to write plays, character by character.

    Args:
        seed: of the weights and the places that windows are cut from.
        changes: other values for the `FitConfig`.
    """
    text = data.load("shakespeare")
    dictionary = characters.Dictionary.build(text.train, text.test)
    ids, held_out = dictionary.encode(text.train), dictionary.encode(text.test)
    config = one_cycle(seed, changes, steps=500, **MUON, learning_rate=0.02)
    runtime.seed_everything(seed)
    model = GPT(GPTConfig(len(dictionary), CONTEXT, positions="rotary"))
    batches = characters.WindowBatches(ids, length=CONTEXT, batch_size=batch_size, seed=seed)

    def test(model: nn.Module) -> dict[str, float]:
        return {"held-out loss": characters.held_out_loss(model, held_out, CONTEXT)}

    return Recipe(model, batches, gpt_loss, config, test)


def shakespeare_short(*, steps: int = 110, **options) -> Recipe:
    """Chapter 09: `shakespeare` within seconds, for a comparison with the usual recipe."""
    return shakespeare(steps=steps, **options)


def shakespeare_long(*, steps: int = 1800, batch_size: int = 16, **options) -> Recipe:
    """Chapter 09: longer than `shakespeare`, and in smaller steps."""
    return shakespeare(steps=steps, batch_size=batch_size, **options)
