"""Writing with chapter 09's GPT beside transformers' `generate`, and beside a loop without a cache.

All three write the same symbols. The loop without a cache reads the whole text again for each
symbol: it is timed at every sixteenth of them, spread evenly over the text's length.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from bench_bert import reload
from rows import Plan, Record, Row, compare, run

from course_lib.gpt import GPT, GPTConfig, generate

LAYERS, WIDTH, HEADS, SYMBOLS = 4, 128, 4, 77
WRITTEN, EACH = 1024, 16


@torch.inference_mode()
def measure(plan: Plan) -> Iterator[Record]:
    import transformers

    written = plan.pick(WRITTEN, 48)
    ours = GPT(GPTConfig(SYMBOLS, written + 1, WIDTH, HEADS, LAYERS)).eval()
    theirs = reload(ours, transformers.GPT2LMHeadModel).eval()
    theirs.generation_config.pad_token_id = 0
    theirs.generation_config.eos_token_id = None  # no symbol ends the text
    prompt = torch.randint(SYMBOLS, (1, 1))
    text = generate(ours, prompt, written)
    options = {"max_new_tokens": written, "do_sample": False}
    options["attention_mask"] = torch.ones_like(prompt)
    if not text.equal(theirs.generate(prompt, **options)):
        raise AssertionError("ours and transformers' write different texts")

    def without_cache() -> None:
        for length in range(EACH // 2, written, EACH):
            if ours(text[:, :length])[0, -1].argmax() != text[0, length]:
                raise AssertionError(f"with and without a cache, symbol {length} differs")

    size = f"{written:,} symbols, 4 layers, 128 wide, one text"
    row = Row("generate", "greedy, float32", size, "", "symbols/s", at_least=True)
    slow = replace(row, peer="a loop without a cache", goal=25)
    slow = replace(slow, note="the loop is timed at every sixteenth symbol")
    again = (written, written / EACH)
    rounds = plan.pick(5, 1)
    write = lambda: generate(ours, prompt, written)  # noqa: E731
    yield compare(slow, write, without_cache, rounds, items=again, seconds=20)
    fast = replace(row, peer="transformers' generate", goal=3)
    reading = lambda: theirs.generate(prompt, **options)  # noqa: E731
    yield compare(fast, write, reading, rounds, items=(written, written), seconds=25)


if __name__ == "__main__":
    run(measure, __doc__)
