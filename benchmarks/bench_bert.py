"""Chapter 08's BERT beside that of transformers: same weights, same batch, same optimizer.

Steps of fine-tuning (a class for each text) and of pretraining (masked words and IsNext), and
passes without gradients. Losses are compared first, so that both do the same work. Transformers'
way of pretraining scores the whole vocabulary at each place, ours only where a word was masked.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
import transformers
from rows import CPU, PRECISIONS, Note, Plan, Record, Rival, Row, compare, run
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib import runtime
from course_lib.bert import Bert, BertClassifier, BertConfig, BertForPretraining, pretraining_loss
from course_lib.optimizers import make_optimizer

SIZES = {  # name -> layers, width, heads, tokens, batch
    "4 layers, 128 wide, 32 x 64 tokens": (4, 128, 4, 64, 32),
    "6 layers, 384 wide, 8 x 128 tokens": (6, 384, 6, 128, 8),
}
QUICK_SIZES = {"1 layer, 32 wide, 2 x 16 tokens": (1, 32, 2, 16, 2)}
VOCABULARY = 8000
# What both models leave to torch's library: matrix products, attention, the optimizer.
PRODUCTS = ("mm", "linear", "attention", "adamw", "gemm")

Loss = Callable[[], Tensor]


def models_and_losses(
    kind: str, size: tuple[int, ...]
) -> tuple[dict[str, nn.Module], dict[str, Loss]]:
    """Both models with the same weights and without dropout, and for each what a step lowers."""
    layers, width, heads, tokens, batch = size
    config = BertConfig(VOCABULARY, width, heads, layers, 4 * width, tokens, dropout=0.0)
    inputs = draw_texts(batch, tokens)
    if kind == "pretraining":
        ours = BertForPretraining(config)
        theirs = reload(ours, transformers.BertForPreTraining)
        return {"ours": ours, "theirs": theirs}, pretraining(ours, theirs, *inputs)
    ours = BertClassifier(Bert(config), classes=2)
    theirs = reload(ours.bert, transformers.BertForSequenceClassification)
    theirs.classifier.load_state_dict(ours.output.state_dict())
    labels = torch.arange(batch) % 2
    ids, segments, real = inputs
    losses = {
        "ours": lambda: F.cross_entropy(ours(*inputs), labels),
        "theirs": lambda: theirs(ids, real.long(), segments, labels=labels).loss,
    }
    return {"ours": ours, "theirs": theirs}, losses


def draw_texts(batch: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, segments and real (B, T): two texts in a row, of half of the places at least."""
    ids = torch.randint(1, VOCABULARY, (batch, tokens))
    lengths = torch.randint(tokens // 2, tokens + 1, (batch, 1))
    real = torch.arange(tokens) < lengths
    segments = (torch.arange(tokens) >= lengths // 2) & real
    return ids * real, segments.long(), real


def pretraining(ours: nn.Module, theirs: nn.Module, ids, segments, real) -> dict[str, Loss]:
    """The same masked words for both, about 15 % of the places; IsNext is true for every second."""
    batch, tokens = ids.shape
    positions = torch.stack([torch.randperm(tokens // 2)[: tokens // 7] for _ in range(batch)])
    words = torch.randint(1, VOCABULARY, positions.shape)
    follows = torch.arange(batch) % 2
    everywhere = torch.full_like(ids, -100).scatter(1, positions, words)  # (B, T)
    arguments = {"labels": everywhere, "next_sentence_label": 1 - follows}
    record = (ids, segments, real, positions, words, follows)
    return {
        "ours": lambda: pretraining_loss(ours, record),
        "theirs": lambda: theirs(ids, real.long(), segments, **arguments).loss,
    }


def reload(model: nn.Module, kind: type) -> nn.Module:
    """Our weights in their model, through a folder of their format; ready to be trained."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = kind.from_pretrained(folder)
    return theirs.train()


def step(model: nn.Module, loss: Loss, dtype: torch.dtype) -> Rival:
    """A whole training step: forward, backward, update."""
    optimizer = make_optimizer(model, "adamw", 1e-4, weight_decay=0.01)

    def take() -> None:
        with runtime.autocast(CPU, dtype):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return take


def look(loss: Loss, dtype: torch.dtype) -> Rival:
    """The same without gradients."""

    def take() -> None:
        with torch.inference_mode(), runtime.autocast(CPU, dtype):
            loss()

    return take


class Products(TorchDispatchMode):
    """Adds up the milliseconds of the operations in `PRODUCTS`, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.milliseconds = 0.0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        started = time.perf_counter()
        result = operation(*args, **(kwargs or {}))
        if any(part in operation.name() for part in PRODUCTS):
            self.milliseconds += 1000 * (time.perf_counter() - started)
        return result


def in_products(rival: Rival, times: int = 5) -> float:
    """Median milliseconds that a call spends in what both leave to torch's library."""
    taken = []
    for _ in range(times):
        with Products() as watch:
            rival()
        taken.append(watch.milliseconds)
    return statistics.median(taken)


def measure(plan: Plan) -> Iterator[Record]:
    for size, numbers in plan.pick(SIZES, QUICK_SIZES).items():
        for kind in ("fine-tuning", "pretraining"):
            for precision, dtype in PRECISIONS.items():
                runtime.seed_everything(0)
                models, losses = models_and_losses(kind, numbers)
                values = [loss() for loss in losses.values()]
                torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
                name = f"{kind}, training step, {precision}"
                row = Row("bert", name, size, "transformers", "ms", goal=0.9)
                steps = {who: step(models[who], losses[who], dtype) for who in models}
                row = compare(row, *steps.values(), plan.pick(9, 1), seconds=5)
                yield row
                if kind == "pretraining":
                    continue
                if dtype is torch.float32:
                    yield limit(row, *(in_products(steps[who]) for who in ("ours", "theirs")))
                name = f"inference, a class for each text, {precision}"
                row = Row("bert", name, size, "transformers", "ms", goal=0.9)
                looks = (look(loss, dtype) for loss in losses.values())
                yield compare(row, *looks, plan.pick(15, 1), seconds=4)


def limit(row: Row, ours: float, theirs: float) -> Note:
    """Why fine-tuning can hardly be shorter: what is left when the common part is taken off."""
    rest = 1 - theirs / row.theirs
    return Note(
        f"BERT's fine-tuning in float32 ({row.size}): matrix products, attention and AdamW, which "
        f"both leave to the same functions of torch, take {100 * ours / row.ours:.0f} % of our "
        f"step and {100 * theirs / row.theirs:.0f} % of transformers'. All else in their step, "
        f"{100 * rest:.0f} % of it, is what another program could save."
    )


if __name__ == "__main__":
    run(measure, __doc__)
