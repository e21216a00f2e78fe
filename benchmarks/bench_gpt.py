"""Chapter 09's GPT beside its peers: transformers' GPT-2, a loop without a cache, a usual recipe.

First, training steps and passes without gradients, as in `bench_bert`. Then 1,024 characters are
written by both models, and by reading the whole text again for each character. Last, the usual
recipe for a small character GPT on a CPU: a part of its steps is timed and scaled, half of it
before chapter 09's recipe and half after; the loss that ours has to reach is the one stored below.
With `--full` all its steps are taken, first and in one go, and its loss is measured.
"""

import argparse
import math
import statistics
import time

import torch
import torch.nn.functional as F
import transformers
from bench_attention import take_turns
from bench_bert import PRECISIONS, Loss, compare, look, reload, step
from torch import Tensor, nn

from course_lib import data, recipes, runtime
from course_lib.characters import Dictionary, held_out_loss
from course_lib.gpt import GPT, IGNORED, GPTConfig, generate, gpt_loss

THREADS = 2
SIZES = {  # name -> layers, width, heads, tokens, batch
    "4 layers, 128 wide, 64 tokens": (4, 128, 4, 64, 32),
    "6 layers, 384 wide, 128 tokens": (6, 384, 6, 128, 8),
}
SYMBOLS = 77
WRITTEN = 1024  # characters
BATCH, CONTEXT, USUAL_STEPS, RATE = 12, 64, 2000, 1e-3  # of the usual recipe
USUAL_LOSS = 1.985  # at its end; --full measures it anew
TIMED = 100  # of its steps, without --full


def rivals(
    layers: int, width: int, heads: int, tokens: int
) -> tuple[GPT, transformers.GPT2LMHeadModel]:
    """Both models with the same weights, and without dropout."""
    ours = GPT(GPTConfig(SYMBOLS, tokens, width, heads, layers))
    return ours, reload(ours, transformers.GPT2LMHeadModel)


def losses(ours: GPT, theirs: nn.Module, tokens: int, batch: int) -> dict[str, Loss]:
    """What follows each id but the last is to be predicted."""
    ids = torch.randint(SYMBOLS, (batch, tokens))
    labels = F.pad(ids[:, 1:], (0, 1), value=IGNORED)
    return {
        "ours": lambda: gpt_loss(ours, (ids, labels)),
        "theirs": lambda: theirs(ids, labels=ids, use_cache=False).loss,
    }


def compare_steps() -> None:
    for size, (layers, width, heads, tokens, batch) in SIZES.items():
        for precision, dtype in PRECISIONS.items():
            runtime.seed_everything(0)
            ours, theirs = rivals(layers, width, heads, tokens)
            both = losses(ours, theirs, tokens, batch)
            torch.testing.assert_close(*(loss() for loss in both.values()), rtol=1e-4, atol=1e-5)
            name = f"in {precision}, {size}"
            compare(f"no gradients {name}", {rival: look(both[rival], dtype) for rival in both})
            models = {"ours": ours, "theirs": theirs}
            compare(f"a step {name}", {r: step(models[r], both[r], dtype) for r in both})


@torch.inference_mode()
def write_without_cache(model: GPT, ids: Tensor, count: int) -> Tensor:
    """Greedy, the whole text read again for each symbol: (1, T) -> (1, T + count)."""
    for _ in range(count):
        ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), dim=1)
    return ids


def compare_writing() -> None:
    """All three write the same text."""
    runtime.seed_everything(0)
    layers, width, heads, *_ = SIZES["4 layers, 128 wide, 64 tokens"]
    ours, theirs = (model.eval() for model in rivals(layers, width, heads, WRITTEN + 1))
    theirs.generation_config.pad_token_id = 0
    theirs.generation_config.eos_token_id = None  # no symbol ends the text
    prompt = torch.randint(SYMBOLS, (1, 1))
    texts = {}

    def with_cache() -> None:
        texts["ours"] = generate(ours, prompt, WRITTEN)

    def with_transformers() -> None:
        seen = torch.ones_like(prompt)
        options = {"max_new_tokens": WRITTEN, "do_sample": False, "attention_mask": seen}
        texts["theirs"] = theirs.generate(prompt, **options)

    times = take_turns({"ours": with_cache, "theirs": with_transformers}, rounds=3)
    started = time.perf_counter()
    texts["no cache"] = write_without_cache(ours, prompt, WRITTEN)
    cacheless = 1000 * (time.perf_counter() - started)
    same = texts["ours"].equal(texts["theirs"]) and texts["ours"].equal(texts["no cache"])
    mean, theirs_mean = (statistics.median(times[rival]) for rival in ("ours", "theirs"))
    speeds = {"ours": mean, "transformers": theirs_mean, "without a cache": cacheless}
    shown = ", ".join(f"{name} {1000 * WRITTEN / t:.0f}" for name, t in speeds.items())
    print(f"{WRITTEN} characters, the same in all: {same}; a second: {shown}")
    print(f"ratio to a loop without a cache {cacheless / mean:.1f} (target: at least 25)")
    print(f"ratio to transformers {theirs_mean / mean:.1f} (target: at least 3)")


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


def compare_recipes(full: bool) -> None:
    usual, ours = UsualProgram(), recipes.shakespeare_short()
    timed = USUAL_STEPS if full else TIMED
    seconds = usual.train(timed if full else timed // 2)
    our_seconds = ours.fit().seconds
    if not full:
        seconds += usual.train(timed // 2)
    seconds *= USUAL_STEPS / timed
    wanted = usual.test() if full else USUAL_LOSS
    how = "" if full else f" ({timed} steps timed and scaled; the loss is stored)"
    print(f"the usual recipe: {seconds:.0f} s to a held-out loss of {wanted:.3f}{how}")
    loss = ours.test(ours.model)["held-out loss"]
    reached = "reached" if loss <= wanted else "NOT reached"
    share = f"1/{seconds / our_seconds:.1f} of the time (target: at most 1/10)"
    print(f"ours: {our_seconds:.1f} s to {loss:.3f}: {reached} in {share}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="take all steps of the usual recipe")
    full = parser.parse_args().full
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print("ratios of times; target: at most 0.90 for training steps")
    compare_steps()
    compare_writing()
    compare_recipes(full)


if __name__ == "__main__":
    main()
