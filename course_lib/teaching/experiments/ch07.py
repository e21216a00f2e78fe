"""Chapter 07's stored grids: how far recurrent nets remember, vocabularies, and loss against BLEU.

Translations are scored on *validation* sentences: test sentences choose nothing and settle nothing.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import decoding, lexicon, recipes, runtime, train, translations
from course_lib.attention import TransformerConfig
from course_lib.bleu import bleu
from course_lib.seq2seq import GRUTranslator, TransformerTranslator, translation_loss
from course_lib.teaching import tutorials
from course_lib.teaching.experiments.experiment import Experiment
from course_lib.text import SPECIAL, SentenceBatches

LONGEST = 24  # tokens of a translation
SYMBOLS, NOISE, QUERY = 4, 4, 8  # to remember; others that pass by; and the id of the question
POINTS = 8  # at which a run on dialogue is scored


class Recaller(nn.Module):
    """Reads ids (B, T) one after the other, and says at the end which symbol came first.

    Args:
        kind: "RNN", "LSTM", "GRU", or "attention", whose last word looks at all others.
        start: "usual"; "orthogonal", for the plain RNN; or "keeping", where the gates of an LSTM
            or GRU begin nearly shut for what is new, and nearly open for what is there.

    Source: Le and others 2015 and Arjovsky and others 2016 (orthogonal); Tallec and Ollivier 2018
    (keeping).
    """

    def __init__(self, kind: str, start: str = "usual", width: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS + NOISE + 1, width)
        if kind == "attention":
            self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
            self.cell = None
        else:
            self.cell = getattr(nn, kind)(width, width, batch_first=True)
            with torch.no_grad():
                self._start_as(kind, start, width)
        self.output = nn.Linear(width, SYMBOLS)

    def _start_as(self, kind: str, start: str, width: int) -> None:
        bias = self.cell.bias_hh_l0  # blocks of an LSTM: write, forget, ...; of a GRU: reset, keep
        if start == "orthogonal":
            nn.init.orthogonal_(self.cell.weight_hh_l0)
        elif start == "keeping":
            bias[width : 2 * width] += 5
            if kind == "LSTM":
                bias[:width] -= 5

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> logits (B, SYMBOLS)."""
        x = self.embedding(ids)  # (B, T, width)
        if self.cell is not None:
            return self.output(self.cell(x)[0][:, -1])
        weights = (self.query(x[:, -1:]) @ x.mT / x.shape[2] ** 0.5).softmax(-1)  # (B, 1, T)
        return self.output((weights @ self.value(x))[:, 0])


def recall(
    seed: int, *, kind: str, start: str, length: int, steps: int, learning_rate: float
) -> dict[str, float]:
    """Train a `Recaller` on a symbol, `length` words of noise and a question.

    Returns:
        In percent "accuracy" on fresh sequences, and "steps": how many it took until the mean loss
        of ten steps fell below half of what guessing costs; all of them if it never did.
    """
    runtime.seed_everything(seed)
    model = Recaller(kind, start)

    def draw(count: int, *numbers: int) -> tuple[Tensor, Tensor]:
        generator = runtime.generator_for(seed, *numbers)
        symbols = torch.randint(SYMBOLS, (count, 1), generator=generator)
        noise = SYMBOLS + torch.randint(NOISE, (count, length), generator=generator)
        question = torch.full((count, 1), QUERY)
        return torch.cat((symbols, noise, question), dim=1), symbols[:, 0]

    batches = [draw(32, 1, step) for step in range(steps)]
    config = train.FitConfig(
        steps, "adam", learning_rate, clip_norm=1.0, precision="float32", seed=seed
    )
    history = train.fit(model, batches, recipes.classification_loss, config)
    ids, symbols = draw(400, 2)
    logits = train.predict(model, ids, precision="float32")
    means = torch.tensor(history.loss).unfold(0, min(10, len(history.loss)), 1).mean(dim=1)
    learned = (means < F.cross_entropy(torch.zeros(1, SYMBOLS), torch.tensor([0])) / 2).nonzero()
    return {
        "accuracy": 100 * train.accuracy(logits, symbols),
        "steps": float(learned[0]) + 10 if len(learned) else float(steps),
    }


def small_translator(seed: int, loss: train.Loss, steps: int) -> tuple[GRUTranslator, list[float]]:
    """A translator of number words, trained on batches in random order, and its losses by step."""
    task = numbers()
    runtime.seed_everything(seed)
    model = GRUTranslator(len(task.english), len(task.french), width=64)
    batches = train.Batches(task.train.source, task.train.target, batch_size=32, seed=seed)
    shared = {"schedule": "one_cycle", "warmup": 0.25, "precision": "float32", "seed": seed}
    history = train.fit(model, batches, loss, train.FitConfig(steps, "adam", 0.01, **shared))
    return model, history.loss


def exactly_right(model: nn.Module) -> float:
    """Percent of validation numbers; PAD and START are never written."""
    part = numbers().validation
    found = decoding.greedy(model, part.source, LONGEST).ids
    pairs = zip(found, part.french, strict=True)
    return 100 * sum(numbers().text(ids) == french for ids, french in pairs) / len(found)


def padding(seed: int, *, counted: bool, steps: int) -> dict[str, float]:
    """Train a small translator with padding in the loss or not; "exact" is in percent."""
    loss = tutorials.loss_with_padding if counted else translation_loss
    return {"exact": exactly_right(small_translator(seed, loss, steps)[0])}


def numbers() -> translations.NumberWords:
    """The small set of number words that the lab trains on; kept in memory."""
    return translations.number_words(train=8000, validation=500, test=500)


def vocabulary_order(seed: int, *, order: str, steps: int, width: int) -> dict[str, float]:
    """Train a small GRU translator on dialogue whose words are numbered in another order.

    Args:
        order: "frequency", as `Vocabulary.build` has it; "alphabet"; or "random".

    Returns:
        "loss" and "BLEU" on validation lines.
    """
    task = translations.dialogue()
    places = [new_places(v.tokens, order, seed) for v in (task.english, task.french)]
    runtime.seed_everything(seed)
    model = GRUTranslator(len(task.english), len(task.french), width)
    batches = SentenceBatches(
        places[0][task.train.source], places[1][task.train.target], batch_size=64, seed=seed
    )
    shared = {"schedule": "one_cycle", "warmup": 0.1, "precision": "float32", "seed": seed}
    config = train.FitConfig(steps, "muon", 0.015, **shared)
    train.fit(model, batches, translation_loss, config)
    return score(model, task, 300, *places)


def new_places(tokens: tuple[str, ...], order: str, seed: int = 0) -> Tensor:
    """The new id of each old one (V,); special tokens keep theirs."""
    words = torch.arange(len(SPECIAL), len(tokens))
    if order == "alphabet":
        words = torch.tensor(sorted(words.tolist(), key=tokens.__getitem__))
    elif order == "random":
        words = words[torch.randperm(len(words), generator=runtime.generator_for(seed, 7))]
    return torch.cat((torch.arange(len(SPECIAL)), words)).argsort()  # old by new -> new by old


def loss_and_bleu(
    seed: int,
    *,
    task: str,
    steps: int,
    share: float = 1.0,
    width: int | None = None,
    dictionary: bool = True,
) -> dict[str, float | list[float]]:
    """Train a recipe and score it on the way, at `POINTS` points.

    Args:
        task: the recipe, "dialogue" or "number_words".
        steps: of the run; the learning rate's schedule spans them.
        share: of the training sentences, drawn by `seed`; fewer are seen more often.
        width: of another Transformer; its layers' hidden width follows.
        dictionary: whether the Transformer starts from one.

    Returns:
        "loss" and "BLEU" on validation sentences at each point, "loss_end" and "BLEU_end" at the
        last one, and the model's number of "weights".
    """
    recipe = getattr(recipes, task)(seed=seed, steps=steps, validate_every=steps // POINTS)
    data = getattr(translations, task)()
    sides = data.train.source, data.train.target
    if share < 1:
        count = len(data.train)
        chosen = torch.randperm(count, generator=runtime.generator_for(seed, 8))
        chosen = chosen[: round(share * count)]
        sides = tuple(side[chosen] for side in sides)
    size = recipe.batches.batch_size
    recipe = replace(recipe, batches=SentenceBatches(*sides, batch_size=size, seed=seed))
    if task == "dialogue":
        recipe = replace(recipe, model=_transformer(recipe.model, data, width, seed))
        if dictionary:  # of these sentences alone
            sizes = len(data.english), len(data.french)
            recipe.model.start_from_dictionary(lexicon.translation_table(*sides, sizes))
    history = recipe.fit(validate=lambda model: score(model, data, 500))
    scores = {name: [entry[name] for entry in history.validation] for name in ("loss", "BLEU")}
    ends = {f"{name}_end": values[-1] for name, values in scores.items()}
    return {**scores, **ends, "weights": sum(p.numel() for p in recipe.model.parameters())}


def _transformer(
    model: nn.Module, data: translations.Translations, width: int | None, seed: int
) -> TransformerTranslator:
    """The same translator anew, with another width if one is given."""
    config: TransformerConfig = model.encoder.config
    if width is not None:
        config = replace(config, width=width, hidden=2 * width)
    runtime.seed_everything(seed)
    return TransformerTranslator(len(data.english), len(data.french), config, tie=True)


@torch.no_grad()
def score(
    model: nn.Module,
    task: translations.Translations,
    lines: int,
    source_places: Tensor | None = None,
    target_places: Tensor | None = None,
) -> dict[str, float]:
    """Mean "loss" a word and greedy "BLEU" on the first validation sentences.

    Args:
        source_places, target_places: the model's id of each of the task's, where they differ.
    """
    source, target = task.validation.source[:lines], task.validation.target[:lines]
    back: Callable[[list[int]], list[int]] = list
    if target_places is not None:
        source, target = source_places[source], target_places[target]
        old = target_places.argsort().tolist()
        back = lambda ids: [old[number] for number in ids]  # noqa: E731
    loss = translation_loss(model, (source, target)).item()
    found = decoding.greedy(model, source, LONGEST).ids
    texts = [task.text(back(ids)) for ids in found]
    return {"loss": loss, "BLEU": bleu(texts, task.validation.french[:lines])}


LENGTHS = (10, 30, 100, 200)
KINDS = {
    "RNN": ("RNN", "usual"),
    "RNN, orthogonal start": ("RNN", "orthogonal"),
    "LSTM": ("LSTM", "usual"),
    "LSTM, keeping start": ("LSTM", "keeping"),
    "GRU": ("GRU", "usual"),
    "GRU, keeping start": ("GRU", "keeping"),
    "attention": ("attention", "usual"),
}
ORDERS = ("frequency", "alphabet", "random")
SHARES = {"an eighth": 0.125, "a quarter": 0.25, "half": 0.5, "all": 1.0}
WIDTHS = (64, 192)  # beside the recipe's


def _recalls() -> dict[str, dict]:
    return {
        f"{name}, {length}": {
            "kind": kind,
            "start": start,
            "length": length,
            "steps": 250,
            "learning_rate": 0.003 if kind == "RNN" else 0.01,  # the plain one bears no more
        }
        for name, (kind, start) in KINDS.items()
        for length in LENGTHS
    }


EXPERIMENTS = (
    Experiment("7.4", "recall after noise, by kind of net and length", recall, _recalls(), seeds=3),
    Experiment(
        "7.6",
        "padding in the loss, three times as long as in the lab",
        padding,
        {name: {"counted": name == "counted", "steps": 360} for name in ("ignored", "counted")},
        seeds=3,
    ),
    Experiment(
        "7.8",
        "the vocabulary in three orders",
        vocabulary_order,
        {order: {"order": order, "steps": 150, "width": 96} for order in ORDERS},
    ),
    Experiment(
        "7.9",
        "dialogue: loss and BLEU on the way, by share of the training lines",
        loss_and_bleu,
        {
            name: {"task": "dialogue", "steps": 320, "share": share}
            for name, share in SHARES.items()
        },
        seeds=2,
    ),
    Experiment(
        "7.9_numbers",
        "number words: loss and BLEU on the way",
        loss_and_bleu,
        {"number words": {"task": "number_words", "steps": 80}},
        seeds=3,
    ),
    Experiment(
        "7.9_widths",
        "dialogue: loss and BLEU on the way, narrower and wider",
        loss_and_bleu,
        {str(width): {"task": "dialogue", "steps": 320, "width": width} for width in WIDTHS},
        seeds=2,
    ),
    Experiment(
        "7.11",
        "dialogue: loss and BLEU on the way, from a dictionary and without one",
        loss_and_bleu,
        {
            name: {"task": "dialogue", "steps": 320, "dictionary": start}
            for name, start in (("dictionary", True), ("chance", False))
        },
        seeds=3,
    ),
)
