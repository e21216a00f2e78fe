"""Chapter 09's GPT beside transformers' GPT-2: training steps and passes without gradients.

Both have the same weights; how the cost of a step grows with a model's width and depth is drawn as
curves. Then the usual recipe for a small character GPT on a CPU: a part of its steps is timed and
scaled, half of it before chapter 09's recipe and half after; the loss that ours has to reach is the
one stored below. With `--full` all its steps are taken, in one go, and its loss is measured.
"""

import math
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
import transformers
from bench_bert import Loss, look, reload, step
from rows import PRECISIONS, Curve, Plan, Record, Row, compare, grow, medians, number, once, run
from torch import Tensor, nn

from course_lib import data, recipes, runtime
from course_lib.characters import Dictionary, held_out_loss
from course_lib.gpt import GPT, IGNORED, GPTConfig, gpt_loss

SIZES = {  # name -> layers, width, heads, tokens, batch
    "4 layers, 128 wide, 32 x 64 tokens": (4, 128, 4, 64, 32),
    "6 layers, 384 wide, 8 x 128 tokens": (6, 384, 6, 128, 8),
}
QUICK_SIZES = {"1 layer, 32 wide, 2 x 16 tokens": (1, 32, 2, 16, 2)}
WIDTHS, DEPTHS = (64, 128, 256, 384, 512), (1, 2, 4, 8, 12)  # of the curves' models
SYMBOLS = 77
BATCH, CONTEXT, USUAL_STEPS, RATE = 12, 64, 2000, 1e-3  # of the usual recipe
USUAL_LOSS = 1.985  # at its end; --full measures it anew
TIMED = 60  # of its steps, without --full


def models(
    layers: int, width: int, heads: int, tokens: int
) -> tuple[GPT, transformers.GPT2LMHeadModel]:
    """Ours and theirs with the same weights, and without dropout."""
    ours = GPT(GPTConfig(SYMBOLS, tokens, width, heads, layers))
    return ours, reload(ours, transformers.GPT2LMHeadModel)


def losses(ours: GPT, theirs: nn.Module, tokens: int, batch: int) -> dict[str, Loss]:
    """What follows each id but the last is to be predicted; both give the same."""
    ids = torch.randint(SYMBOLS, (batch, tokens))
    labels = F.pad(ids[:, 1:], (0, 1), value=IGNORED)
    both = {
        "ours": lambda: gpt_loss(ours, (ids, labels)),
        "theirs": lambda: theirs(ids, labels=ids, use_cache=False).loss,
    }
    torch.testing.assert_close(*(loss() for loss in both.values()), rtol=1e-4, atol=1e-5)
    return both


def step_rows(plan: Plan) -> Iterator[Record]:
    for size, (layers, width, heads, tokens, batch) in plan.pick(SIZES, QUICK_SIZES).items():
        for precision, dtype in PRECISIONS.items():
            runtime.seed_everything(0)
            both = models(layers, width, heads, tokens)
            ours, theirs = losses(*both, tokens, batch).values()
            row = Row("gpt", f"training step, {precision}", size, "transformers", "ms", goal=0.9)
            steps = (step(m, loss, dtype) for m, loss in zip(both, (ours, theirs), strict=True))
            yield compare(row, *steps, plan.pick(9, 1), seconds=5)
            row = Row("gpt", f"inference, {precision}", size, "transformers", "ms", goal=0.9)
            yield compare(row, look(ours, dtype), look(theirs, dtype), plan.pick(15, 1), seconds=4)


def growth(plan: Plan) -> Iterator[Record]:
    def point(layers: int, width: int) -> dict[str, float]:
        runtime.seed_everything(0)
        both = models(layers, width, 4, tokens)
        pairs = zip(both, losses(*both, tokens, batch).items(), strict=True)
        steps = {name: step(model, loss, torch.float32) for model, (name, loss) in pairs}
        steps["transformers"] = steps.pop("theirs")
        return medians(steps, plan.pick(4, 1), 2)

    tokens, batch = plan.pick((64, 8), (8, 2))
    widths, depths = plan.pick((WIDTHS, DEPTHS), ((16, 32), (1, 2)))
    size = f"{batch} x {tokens} tokens, float32"
    lines = grow([point(4 if not plan.quick else 1, width) for width in widths])
    title = f"A training step of a GPT of four layers, {size}"
    yield Curve("gpt_width", title, "width", "milliseconds", [*widths], lines)
    lines = grow([point(depth, plan.pick(128, 16)) for depth in depths])
    title = f"A training step of a GPT 128 wide, {size}"
    yield Curve("gpt_layers", title, "layers", "milliseconds", [*depths], lines)


class UsualProgram:
    """The usual recipe: AdamW, 12 windows of 64 characters, 2,000 steps, float32.

    The rate rises for 100 steps and falls to a tenth along half a cosine wave; decay 0.1, gradients
    clipped at 1. The model is transformers' GPT-2: learned positions and GPT-2's first weights.
    """

    def __init__(self) -> None:
        text = data.load("shakespeare")
        dictionary = Dictionary.build(text.train, text.test)
        self.ids, self.held_out = dictionary.encode(text.train), dictionary.encode(text.test)
        sizes = {"n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": CONTEXT}
        no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        symbols = {"vocab_size": len(dictionary), "bos_token_id": None, "eos_token_id": None}
        config = transformers.GPT2Config(**symbols, **sizes, **no_dropout)
        runtime.seed_everything(0)
        self.model = transformers.GPT2LMHeadModel(config).train()
        weights = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim == 1]
        groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, RATE, betas=(0.9, 0.99), weight_decay=0.1)
        self.done = 0

    def train(self, steps: int) -> float:
        """Seconds that the next `steps` steps take."""
        started = time.perf_counter()
        for _ in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(self.done)
            starts = torch.randint(len(self.ids) - CONTEXT, (BATCH,))
            inputs = torch.stack([self.ids[i : i + CONTEXT] for i in starts])
            labels = torch.stack([self.ids[i + 1 : i + 1 + CONTEXT] for i in starts])
            logits = self.model(inputs, use_cache=False).logits
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.done += 1
        return time.perf_counter() - started

    @staticmethod
    def rate(step: int) -> float:
        if step < 100:
            return RATE * (step + 1) / 100
        share = (step - 100) / (USUAL_STEPS - 100)
        return RATE * (0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2)

    def test(self) -> float:
        return held_out_loss(Logits(self.model).eval(), self.held_out, CONTEXT)


class Logits(nn.Module):
    """Transformers' model as a plain one: ids (B, T) -> logits (B, T, vocabulary)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids, use_cache=False).logits


def recipe_row(plan: Plan) -> Row:
    usual, ours = UsualProgram(), recipes.shakespeare_short(**plan.pick({}, {"steps": 1}))
    timed = USUAL_STEPS if plan.full else plan.pick(TIMED, 2)
    seconds = usual.train(timed if plan.full else timed // 2)
    our_seconds = ours.fit().seconds
    how = "measured"
    if not plan.full:
        seconds = (seconds + usual.train(timed // 2)) * USUAL_STEPS / timed
        how = f"stored; its time is scaled from {timed} of its {USUAL_STEPS:,} steps"
    wanted = usual.test() if plan.full else USUAL_LOSS
    loss = math.inf if plan.quick else ours.test(ours.model)["held-out loss"]
    return once(
        Row(
            "others",
            "a small GPT on Shakespeare, to the loss the peer ends with",
            "4 layers, 128 wide",
            "the usual recipe, 2,000 steps",
            "s",
            our_seconds,
            seconds,
            goal=0.1,
            fulfilled=loss <= wanted,
            note=f"held-out loss {number(loss)}; the peer's {wanted:.3f} is {how}",
        )
    )


def measure(plan: Plan) -> Iterator[Record]:
    yield from step_rows(plan)
    yield from growth(plan)
    yield recipe_row(plan)


if __name__ == "__main__":
    run(measure, __doc__)
