"""Chapter 06's stored grids: how heads are joined, and which norm a Transformer should have.

Both train on sequences of made-up symbols that are drawn from a seed, and are scored on others.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import attention, runtime, train
from course_lib.teaching.experiments.experiment import Experiment

TRAINED, TESTED = 20_000, 2_000  # sequences
# of 6.5
COLOURS, WANTED, DIGITS = 10, 7, 10  # each sequence shows every colour once, with some digit
WIDTH = 56  # of the vectors: a width of 8 for each of 7 heads
EVERY, STEPS = 50, 500
# of 6.7
SYMBOLS, PAD = 12, 0  # the symbols are 1 to 12
LENGTHS = range(2, 17)


class Reader(nn.Module):
    """One question looks at coloured digits: colours and digits (N, T) -> (N, outputs).

    Args:
        heads: each has a question of its own, learned, and keys of 8 numbers.
        width: of the values of each head.
        join: "concatenate" puts the heads' outputs side by side, "average" takes their mean.
    """

    def __init__(self, heads: int, width: int, join: str, outputs: int):
        super().__init__()
        self.heads, self.join = heads, join
        self.colour, self.digit = nn.Embedding(COLOURS, WIDTH), nn.Embedding(DIGITS, WIDTH)
        self.question = nn.Parameter(torch.randn(heads, 1, 8))
        self.key = nn.Linear(WIDTH, heads * 8)
        self.value = nn.Linear(WIDTH, heads * width)
        self.output = nn.Linear(heads * width if join == "concatenate" else width, WIDTH)
        self.answer = nn.Linear(WIDTH, outputs)

    def forward(self, colours: Tensor, digits: Tensor) -> Tensor:
        x = self.colour(colours) + self.digit(digits)  # (N, T, WIDTH)
        key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # -> (N, heads, T, d)
            for layer in (self.key, self.value)
        )
        question = self.question.expand(len(x), -1, -1, -1)  # (N, heads, 1, 8)
        found = attention.attention(question, key, value)[:, :, 0]  # (N, heads, width)
        found = found.flatten(1) if self.join == "concatenate" else found.mean(dim=1)
        return self.answer(self.output(found))

    @property
    def weights(self) -> int:
        """Parameters of the values and of what is made of the heads."""
        layers = (self.value, self.output)
        return sum(p.numel() for layer in layers for p in layer.parameters())


def heads(
    seed: int, *, task: str, heads: int, width: int, join: str
) -> dict[str, float | list[float]]:
    """Train a `Reader` to tell the digits of seven colours ("apart"), or their sum ("sum").

    Returns:
        "accuracy" (%) of the digits, or of the rounded sums; "curve", the same after every `EVERY`
        steps; and "weights", see `Reader.weights`.
    """
    generator = runtime.generator_for(seed)
    chosen, others = (_coloured_digits(n, generator) for n in (TRAINED, TESTED))
    runtime.seed_everything(seed)
    model = Reader(heads, width, join, WANTED * DIGITS if task == "apart" else 1)
    loss = _digits_loss if task == "apart" else _sum_loss
    curve: list[float] = []

    def look(model: nn.Module) -> dict[str, float]:
        curve.append(100 * _right(model(*others[:2]), others[2], task))
        return {"accuracy": curve[-1]}

    config = _config(seed, STEPS, schedule="cosine", validate_every=EVERY)
    batches = train.Batches(*chosen, batch_size=64, seed=seed)
    train.fit(model, batches, loss, config, validate=look)
    return {"accuracy": curve[-1], "curve": curve, "weights": model.weights}


def _coloured_digits(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Colours and digits (N, T), and the digits of the first seven colours (N, 7)."""
    colours = torch.rand(count, COLOURS, generator=generator).argsort(dim=1)  # in any order
    digits = torch.randint(DIGITS, (count, COLOURS), generator=generator)
    return colours, digits, digits.gather(1, colours.argsort(dim=1))[:, :WANTED]


def _digits_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    colours, digits, wanted = batch
    logits = model(colours, digits).unflatten(1, (WANTED, DIGITS))  # (N, 70) -> (N, 7, 10)
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten())


def _sum_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    colours, digits, wanted = batch
    return F.mse_loss(model(colours, digits)[:, 0], _centred(wanted))


def _centred(wanted: Tensor) -> Tensor:
    """Sums of digits (N, 7) -> (N,), less their mean, in tens."""
    return (wanted.sum(dim=1) - WANTED * (DIGITS - 1) / 2) / 10


def _right(answers: Tensor, wanted: Tensor, task: str) -> float:
    if task == "apart":
        answers = answers.unflatten(1, (WANTED, DIGITS)).argmax(dim=2)  # (N, 7)
        return (answers == wanted).float().mean().item()
    return ((answers[:, 0] - _centred(wanted)).abs() < 0.05).float().mean().item()


class TokenBatchNorm(nn.Module):
    """Batch norm of the vectors (N, T, width) of all tokens, or of the real ones alone.

    With `only_real`, `real` (N, T) must be set before every call, and padding becomes 0.
    """

    real: Tensor

    def __init__(self, width: int, only_real: bool):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.only_real = only_real

    def forward(self, x: Tensor) -> Tensor:
        if not self.only_real:
            return self.norm(x.flatten(0, 1)).view_as(x)  # (N, T, width) -> (N T, width) and back
        normed = torch.zeros_like(x)
        normed[self.real] = self.norm(x[self.real])  # (real tokens, width)
        return normed


class Sorter(nn.Module):
    """A pre-norm Transformer of two layers: symbols (N, T) -> logits (N, T, SYMBOLS).

    Args:
        norm: "layer"; or "batch", whose statistics are taken over all tokens, padding included;
            or "batch, real only".
    """

    def __init__(self, norm: str):
        super().__init__()
        config = attention.TransformerConfig(width=32, heads=4, layers=2, hidden=64)
        self.embedding = nn.Embedding(1 + SYMBOLS, config.width)
        self.encoder = attention.Encoder(config)
        self.output = nn.Linear(config.width, SYMBOLS)
        if norm != "layer":
            _exchange_norms(self, config.width, only_real=norm == "batch, real only")

    def forward(self, symbols: Tensor) -> Tensor:
        real = symbols != PAD
        for module in self.modules():
            if isinstance(module, TokenBatchNorm):
                module.real = real
        x = self.encoder(self.embedding(symbols), attention.padding_mask(real))
        return self.output(x)


def _exchange_norms(model: nn.Module, width: int, only_real: bool) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.LayerNorm):
                setattr(module, name, TokenBatchNorm(width, only_real))


class ByLength:
    """Batches of sequences of about one length, cut to the longest of them, in random order."""

    def __init__(self, symbols: Tensor, targets: Tensor, batch_size: int, seed: int):
        self.tensors, self.size = (symbols, targets), batch_size
        self.generator = runtime.generator_for(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        lengths = (self.tensors[0] != PAD).sum(dim=1)
        order = torch.randperm(len(lengths), generator=self.generator)
        batches = order[lengths[order].argsort(stable=True)].split(self.size)
        for number in torch.randperm(len(batches), generator=self.generator).tolist():
            rows = batches[number]
            yield tuple(tensor[rows, : lengths[rows].max()] for tensor in self.tensors)


def norms(
    seed: int, *, norm: str, batches: str, steps: int = 300
) -> dict[str, float | list[float]]:
    """Train a `Sorter` to sort sequences of 2 to 16 symbols, in batches of 64.

    Args:
        batches: "mixed", all padded to the longest, or "by length", with next to no padding.

    Returns:
        "loss", the mean of the last 20 steps; in percent of the symbols of new sequences
        "accuracy" in evaluation mode, "by_length" the same for each of `LENGTHS`, and
        "batch_statistics", the accuracy in training mode, in batches like those of the training.
    """
    generator = runtime.generator_for(seed)
    chosen, (symbols, targets) = (_to_sort(n, generator) for n in (TRAINED, TESTED))
    make = ByLength if batches == "by length" else train.Batches
    runtime.seed_everything(seed)
    model = Sorter(norm)
    config = _config(seed, steps, schedule="one_cycle", warmup=0.25, clip_norm=1.0)
    loss = train.fit(model, make(*chosen, batch_size=64, seed=seed), _sorting_loss, config).loss
    real = symbols != PAD
    with torch.no_grad():
        right = (model(symbols).argmax(dim=2) == targets) & real  # (N, T)
        model.train()
        tested = list(make(symbols, targets, batch_size=64, seed=seed))
        in_batches = sum(((model(x).argmax(dim=2) == y) & (x != PAD)).sum() for x, y in tested)
    of_length = [real.sum(dim=1) == length for length in LENGTHS]
    return {
        "loss": sum(loss[-20:]) / len(loss[-20:]),
        "accuracy": 100 * (right.sum() / real.sum()).item(),
        "by_length": [100 * (right[n].sum() / real[n].sum()).item() for n in of_length],
        "batch_statistics": 100 * (in_batches / real.sum()).item(),
    }


def _to_sort(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols (N, 16), padded, and classes 0 to 11 in order (N, 16), -1 where there is padding."""
    lengths = torch.randint(LENGTHS[0], LENGTHS[-1] + 1, (count, 1), generator=generator)
    symbols = torch.randint(1, 1 + SYMBOLS, (count, LENGTHS[-1]), generator=generator)
    real = torch.arange(LENGTHS[-1]) < lengths
    ordered = symbols.where(real, 1 + SYMBOLS).sort(dim=1).values  # padding goes to the end
    return symbols.where(real, PAD), (ordered - 1).where(real, -1)


def _sorting_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    symbols, targets = batch
    return F.cross_entropy(model(symbols).flatten(0, 1), targets.flatten(), ignore_index=-1)


def _config(seed: int, steps: int, **options: object) -> train.FitConfig:
    """In float32, so that another machine comes close to the stored numbers."""
    return train.FitConfig(steps, learning_rate=0.01, precision="float32", seed=seed, **options)


SHAPES = {
    "concatenated": {"heads": 7, "width": 8, "join": "concatenate"},
    "averaged, equal width": {"heads": 7, "width": 8, "join": "average"},
    # 2 * 56 * 56 = (7 + 1) * 56 * 14: as many weights as concatenated
    "averaged, equal weights": {"heads": 7, "width": 14, "join": "average"},
    "averaged, full width": {"heads": 7, "width": 56, "join": "average"},
    "one head": {"heads": 1, "width": 56, "join": "concatenate"},
}

SUMMED = ("concatenated", "averaged, equal width", "one head")
TASKS = {"apart": SHAPES, "sum": {name: SHAPES[name] for name in SUMMED}}
NORMS = ("layer", "batch", "batch, real only")
MIXES = ("mixed", "by length")

EXPERIMENTS = (
    Experiment(
        "6.5",
        "heads concatenated or averaged, digits kept apart or summed",
        heads,
        {
            f"{name}: {task}": {"task": task, **shape}
            for task, shapes in TASKS.items()
            for name, shape in shapes.items()
        },
    ),
    Experiment(
        "6.7",
        "layer norm and batch norm in a Transformer, sequences of mixed length",
        norms,
        {f"{norm}: {mix}": {"norm": norm, "batches": mix} for mix in MIXES for norm in NORMS},
    ),
)
