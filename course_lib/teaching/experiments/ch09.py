"""Chapter 09's stored grids: sizes at equal compute, optimizers, positions, contexts, copying.

All train small GPTs on the first nine tenths of Shakespeare's *training* text, and are scored on
its last tenth: the test text chooses nothing and settles nothing.
"""

from functools import cache

import torch
from torch import Tensor

from course_lib import data, runtime, train
from course_lib.characters import Dictionary, WindowBatches, losses_by_symbol
from course_lib.gpt import GPT, POSITIONS, GPTConfig, generate, gpt_loss
from course_lib.sampling import sample
from course_lib.teaching.experiments.experiment import Experiment

CHARACTERS = 1024  # of a batch, whatever the context
HELD_OUT = 90_000  # characters that a run is scored on
SCORED = 20_000  # of them, where many models are scored
POINTS = 10  # into which a run is cut to report its loss
COPY_LENGTHS = (5, 10, 15, 20, 30, 40, 60)
WRITTEN = (16, 400)  # texts, and characters of each, that are looked at for copies


@cache
def text() -> tuple[Dictionary, Tensor, Tensor]:
    """The dictionary, and the ids to train on and to be scored on: int64 (N,) each."""
    play = data.load("shakespeare")
    dictionary = Dictionary.build(play.train, play.test)
    ids = dictionary.encode(play.train)
    known, fresh = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
    return dictionary, known, fresh[:HELD_OUT]


def train_gpt(
    seed: int,
    *,
    steps: int,
    layers: int = 2,
    width: int = 64,
    context: int = 64,
    positions: str = "rotary",
    optimizer: str = "muon",
    learning_rate: float = 0.02,
    characters: int | None = None,
) -> tuple[GPT, list[float]]:
    """A small GPT, and its losses by step; its heads are 16 wide.

    Args:
        characters: of the training text that it gets to see; None: all.
    """
    dictionary, known, _ = text()
    runtime.seed_everything(seed)
    sizes = {"width": width, "heads": width // 16, "layers": layers, "positions": positions}
    model = GPT(GPTConfig(len(dictionary), context, **sizes))
    rows = CHARACTERS // context
    batches = WindowBatches(known[:characters], length=context, batch_size=rows, seed=seed)
    shared = {"schedule": "one_cycle", "warmup": 0.1, "weight_decay": 0.1, "seed": seed}
    config = train.FitConfig(steps, optimizer, learning_rate, precision="float32", **shared)
    return model, train.fit(model, batches, gpt_loss, config).loss


def learn(seed: int, **options: object) -> dict[str, float | list[float]]:
    """Train a small GPT; `options` are those of `train_gpt`.

    Returns:
        "loss" on held-out text, "curve": the training loss, its mean in each tenth of the run, and
        "by_place": the held-out loss at the places 1, 2, 4 ... of the window.
    """
    model, losses = train_gpt(seed, **options)
    _, _, fresh = text()
    context = model.config.length
    by_symbol = losses_by_symbol(model, fresh, context)
    whole = by_symbol[: len(by_symbol) // context * context].view(-1, context)  # (windows, T)
    parts = torch.tensor(losses).tensor_split(min(POINTS, len(losses)))
    return {
        "loss": by_symbol.mean().item(),
        "curve": [part.mean().item() for part in parts],
        "by_place": [whole[:, first:last].mean().item() for first, last in spans(context)],
    }


def spans(context: int) -> list[tuple[int, int]]:
    """Places of a window in groups that double: 1, 2, 3-4, 5-8, ... as (first, end)."""
    ends = [0, 1]
    while ends[-1] < context:
        ends.append(min(2 * ends[-1], context))
    return list(zip(ends[:-1], ends[1:], strict=True))


def scale(
    seed: int, *, layers: int, width: int, budget: float, learning_rate: float
) -> dict[str, float]:
    """Train a GPT of that size for as many steps as `budget`, in FLOPs, allows.

    The settings' rates fall with the width, as those did that served the widths 32 and 128 best.

    Returns:
        "loss" on held-out text, "weights" without embedding and head, and the "steps".
    """
    config = GPTConfig(len(text()[0]), 64, width, width // 16, layers)
    steps = max(1, round(budget / (CHARACTERS * training_flops(config))))
    sizes = {"layers": layers, "width": width, "learning_rate": learning_rate}
    model, _ = train_gpt(seed, steps=steps, **sizes)
    loss = losses_by_symbol(model, text()[2][:SCORED], 64).mean().item()
    return {"loss": loss, "weights": 12.0 * layers * width**2, "steps": float(steps)}


def training_flops(config: GPTConfig) -> int:
    """Multiplications and additions that a symbol costs in a training step, of matrices alone.

    Each weight of a layer is used in one of each, and so is each vector that attention compares
    or mixes; the way back costs twice the way there.

    Source: Kaplan and others 2020, "Scaling laws for neural language models", section 2.1.
    """
    width, layers = config.width, config.layers
    weights = 12 * layers * width**2 + config.vocabulary * width
    attention = 2 * layers * config.length * width
    return 3 * 2 * (weights + attention)


def copy(seed: int, *, characters: int, steps: int) -> dict[str, float | list[float]]:
    """Train on the first `characters` only, write texts, and look for what was copied.

    Returns:
        In percent, by the lengths in `COPY_LENGTHS`: "written", the runs of the written texts that
        stand in the training text to the letter; "fresh", the same of held-out Shakespeare. And the
        "loss" on held-out text and on the training text, "loss_known".
    """
    model, _ = train_gpt(seed, steps=steps, characters=characters)
    _, known, fresh = text()
    known = known[:characters]
    generator = runtime.generator_for(seed, 1)
    rows, count = WRITTEN
    starts = torch.randint(len(fresh) - 1, (rows, 1), generator=generator)
    written = generate(model, fresh[starts], count, choose=sample, generator=generator, slide=True)
    held_out = fresh[: rows * count].view(rows, count)
    losses = {"loss": fresh[:SCORED], "loss_known": known[:SCORED]}
    return {
        "written": [100 * copied(written[:, 1:], known, length) for length in COPY_LENGTHS],
        "fresh": [100 * copied(held_out, known, length) for length in COPY_LENGTHS],
        **{name: losses_by_symbol(model, ids, 64).mean().item() for name, ids in losses.items()},
    }


def copied(texts: Tensor, source: Tensor, length: int) -> float:
    """Share of the runs of `length` symbols in texts (B, T) that stand somewhere in source (N,)."""
    # A run's fingerprint: its symbols times odd numbers, summed up modulo 2^64. Two different runs
    # have the same one about once in 10^19 times.
    generator = runtime.generator_for(length)
    factors = torch.randint(2**62, (length,), generator=generator) * 2 + 1
    runs = (texts.unfold(1, length, 1) * factors).sum(-1)  # (B, T - length + 1)
    found = torch.isin(runs, (source.unfold(0, length, 1) * factors).sum(-1))
    return found.float().mean().item()


SIZES = ((1, 16), (1, 32), (2, 48), (3, 64), (4, 96))  # layers, width
BUDGETS = (2e10, 6e10, 2e11)  # FLOPs of a run
RATES = {"adamw": (0.002, 0.006, 0.02), "muon": (0.005, 0.015, 0.045)}
POSITION_RATES = (0.007, 0.02, 0.045)
CONTEXTS = (4, 16, 64, 256)
SHARES = (5_000, 50_000, 500_000)  # characters of training text
STEPS = 300


def _scaling() -> dict[str, dict]:
    return {
        size_name(layers, width, budget): {
            "layers": layers,
            "width": width,
            "budget": budget,
            "learning_rate": min(0.04, round(1.28 / width, 4)),
        }
        for budget in BUDGETS
        for layers, width in SIZES
    }


def size_name(layers: int, width: int, budget: float) -> str:
    """The name of a setting of 9.6, such as "2 x 48, 1e+11 FLOPs"."""
    return f"{layers} x {width}, {budget:.0e} FLOPs"


EXPERIMENTS = (
    Experiment("9.6", "sizes at equal compute", scale, _scaling(), seeds=2),
    Experiment(
        "9.7",
        "AdamW and Muon, by learning rate",
        learn,
        {
            f"{name}, {rate:g}": {"optimizer": name, "learning_rate": rate, "steps": STEPS}
            for name, rates in RATES.items()
            for rate in rates
        },
        seeds=3,
    ),
    Experiment(
        "9.8",
        "learned and rotary positions, by learning rate",
        learn,
        {
            f"{name}, {rate:g}": {"positions": name, "learning_rate": rate, "steps": STEPS}
            for name in POSITIONS
            for rate in POSITION_RATES
        },
        seeds=3,
    ),
    Experiment(
        "9.9",
        "contexts, with as many characters a step",
        learn,
        {str(context): {"context": context, "steps": STEPS} for context in CONTEXTS},
        seeds=3,
    ),
    Experiment(
        "9.11",
        "what is copied, by how much there is to learn from",
        copy,
        {f"{size} characters": {"characters": size, "steps": STEPS} for size in SHARES},
        seeds=3,
    ),
)
