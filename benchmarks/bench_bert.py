"""Chapter 08's BERT beside that of transformers: same weights, same batch, same optimizer.

Times a step of fine-tuning (a class for each text), a step of pretraining (masked words and IsNext)
and a pass without gradients. Losses and logits are compared first, so that both do the same work.
Transformers' way of pretraining scores the whole vocabulary at each place, ours only where a word
was masked. The rivals take turns, so that a machine that slows down slows both.
"""

import statistics
import tempfile
from collections.abc import Callable

import torch
import torch.nn.functional as F
import transformers
from bench_attention import take_turns
from torch import Tensor, nn

from course_lib import runtime
from course_lib.bert import Bert, BertClassifier, BertConfig, BertForPretraining, pretraining_loss
from course_lib.optimizers import make_optimizer

ROUNDS, THREADS = 9, 2
SIZES = {  # name -> layers, width, heads, tokens, batch
    "4 layers, 128 wide, 64 tokens": (4, 128, 4, 64, 32),
    "6 layers, 384 wide, 128 tokens": (6, 384, 6, 128, 8),
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
VOCABULARY = 8000
CPU = torch.device("cpu")

Loss = Callable[[], Tensor]


def rivals(kind: str, size: tuple[int, ...]) -> tuple[dict[str, nn.Module], dict[str, Loss]]:
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
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = kind.from_pretrained(folder)
    return theirs.train()


def step(model: nn.Module, loss: Loss, dtype: torch.dtype) -> Callable[[], None]:
    """A whole training step: forward, backward, update."""
    optimizer = make_optimizer(model, "adamw", 1e-4, weight_decay=0.01)

    def run() -> None:
        with runtime.autocast(CPU, dtype):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def look(loss: Loss, dtype: torch.dtype) -> Callable[[], None]:
    """The same without gradients."""

    def run() -> None:
        with torch.inference_mode(), runtime.autocast(CPU, dtype):
            loss()

    return run


def compare(name: str, runs: dict[str, Callable[[], None]]) -> None:
    times = take_turns(runs, ROUNDS)
    theirs, ours = (statistics.median(times[rival]) for rival in ("theirs", "ours"))
    ratio = statistics.median(o / t for o, t in zip(times["ours"], times["theirs"], strict=True))
    print(
        f"{name}: transformers {theirs:.1f} ms, ours {ours:.1f} ms, ratio {ratio:.2f}", flush=True
    )


def main() -> None:
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print("ratios of times; target: at most 0.90 for training steps")
    for size, numbers in SIZES.items():
        for kind in ("fine-tuning", "pretraining"):
            for precision, dtype in PRECISIONS.items():
                runtime.seed_everything(0)
                models, losses = rivals(kind, numbers)
                values = [loss() for loss in losses.values()]
                torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
                name = f"{kind} in {precision}, {size}"
                if kind == "fine-tuning":
                    compare(f"no gradients, {name}", {r: look(losses[r], dtype) for r in losses})
                compare(name, {r: step(models[r], losses[r], dtype) for r in models})


if __name__ == "__main__":
    main()
