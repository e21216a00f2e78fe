"""Chapter 06's `MultiHeadAttention` beside torch's, and attention by hand beside the fused form.

Training steps (forward, loss, backward) of both modules with the same weights and a causal mask;
torch's is called the way it is fastest, without returning weights. Memory is what a pass without
a mask, there and back, adds to the peak of a process of its own: a mask alone has length x length
entries.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rows import CPU, PRECISIONS, Curve, Plan, Record, Row, compare, grow, medians, once, run
from torch import Tensor, nn

from course_lib import attention, runtime

WIDTH, HEADS = 128, 4
TOKENS = 4096  # of a batch, whatever the length
LENGTHS, QUICK_LENGTHS = (128, 256, 512, 1024, 2048, 4096), (16, 32)
FORM_LENGTHS = (32, 64, 128, 256, 512, 1024)  # where one form overtakes the other
ROWS = (128, 512, 2048, 4096)  # lengths that get rows of their own
FORMS = {
    "by hand": lambda q, k, v, mask: attention.attention_by_hand(q, k, v, mask)[0],
    "fused": attention.attention_fused,
}
PEER = "nn.MultiheadAttention"
STATUS = Path("/proc/self/status")


def layers() -> tuple[attention.MultiHeadAttention, nn.MultiheadAttention]:
    """Ours and torch's, with the same weights."""
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    ours = attention.MultiHeadAttention(WIDTH, HEADS)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def steps(length: int, dtype: torch.dtype, tokens: int) -> dict[str, Callable[[], None]]:
    """A training step of both, equal in what they put out."""
    ours, theirs = layers()
    x = torch.randn(tokens // length, length, WIDTH)
    causal = attention.causal_mask(length)
    calls = {
        "ours": lambda: ours(x, mask=causal),
        PEER: lambda: theirs(x, x, x, attn_mask=~causal, is_causal=False, need_weights=False)[0],
    }
    torch.testing.assert_close(*(call() for call in calls.values()), rtol=1e-4, atol=1e-5)

    def step(call: Callable[[], Tensor]) -> None:
        with runtime.autocast(CPU, dtype):
            loss = call().square().mean()
        loss.backward()

    return {name: lambda call=call: step(call) for name, call in calls.items()}


def time_rows(plan: Plan) -> Iterator[Record]:
    lengths, tokens = plan.pick(LENGTHS, QUICK_LENGTHS), plan.pick(TOKENS, 64)
    for precision, dtype in PRECISIONS.items():
        for length in plan.pick(ROWS, QUICK_LENGTHS):
            ours, theirs = steps(length, dtype, tokens).values()
            size = f"length {length:,}, {tokens // length} texts"
            row = Row(
                "attention", f"layer, training step, {precision}", size, PEER, "ms", goal=1.05
            )
            yield compare(row, ours, theirs, plan.pick(9, 1), seconds=5)
    points = [medians(steps(n, torch.float32, tokens), plan.pick(5, 1), 3) for n in lengths]
    title = f"A training step of an attention layer, {tokens:,} tokens in all"
    yield Curve(
        "attention_time", title, "length of a text", "milliseconds", [*lengths], grow(points)
    )


def one_pass(form: str, length: int, dtype: torch.dtype) -> Callable[[], None]:
    """Attention of one sequence and four heads, there and back, with a causal mask."""
    shape = (1, HEADS, length, WIDTH // HEADS)
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    causal = attention.causal_mask(length)
    return lambda: FORMS[form](q, k, v, causal).sum().backward()


def form_curve(plan: Plan) -> Iterator[Record]:
    """From which length on the fused form is the faster one, in each precision."""
    lengths, points = plan.pick(FORM_LENGTHS, QUICK_LENGTHS), []
    for length in lengths:
        passes = {
            f"{form}, {precision}": one_pass(form, length, dtype)
            for precision, dtype in PRECISIONS.items()
            for form in FORMS
        }
        points.append(medians(passes, plan.pick(7, 1), 2))
    title = "Attention of one text, four heads, there and back"
    yield Curve(
        "attention_forms", title, "length of the text", "milliseconds", [*lengths], grow(points)
    )


# --- memory, in processes of its own ------------------------------------------------------------


def memory_rows(plan: Plan) -> Iterator[Record]:
    lengths = plan.pick(LENGTHS, (256, 512))
    names = ("ours", PEER, "by hand")
    lines = {name: peaks_in_process(name, lengths) for name in names}
    row = Row(
        "attention",
        "layer, peak memory of a pass",
        f"length {lengths[-1]:,}, one text, no mask",
        PEER,
        "MB",
        *(lines[name][-1] for name in names[:2]),
        goal=1.05,
    )
    yield once(row)
    growth = {name: lines[name][-1] / max(lines[name][-2], 0.1) for name in ("ours", "by hand")}
    yield once(
        Row(
            "attention",
            "layer, growth of its peak memory when the length doubles",
            f"length {lengths[-2]:,} to {lengths[-1]:,}",
            "linear growth",
            "times",
            growth["ours"],
            2.0,
            goal=1.1,
            note=f"with all weights stored, by hand, it grows {growth['by hand']:.1f} times",
        )
    )
    title = "Peak memory of an attention layer, there and back, one text without a mask"
    yield Curve("attention_memory", title, "length of the text", "megabytes", [*lengths], lines)


def peaks_in_process(name: str, lengths: tuple[int, ...]) -> list[float]:
    command = [sys.executable, __file__, "peaks", name, *map(str, lengths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def peak_megabytes(name: str, lengths: list[int]) -> list[float]:
    """What a pass of each length, the shorter first, adds to this process's peak of memory."""
    ours, theirs = layers()
    calls = {
        "ours": ours,
        PEER: lambda x: theirs(x, x, x, need_weights=False)[0],
        "by hand": lambda x: by_hand(ours, x),
    }

    def there_and_back(length: int) -> None:
        calls[name](torch.randn(1, length, WIDTH)).square().mean().backward()

    there_and_back(16)  # what torch itself needs
    forget_peak()
    before, peaks = peak_memory(), []
    for length in lengths:
        there_and_back(length)
        peaks.append(max(peak_memory() - before, 0.1))
    return peaks


def by_hand(layer: attention.MultiHeadAttention, x: Tensor) -> Tensor:
    """The layer with all its weights (1, heads, T, T) in memory."""
    queries, keys, values = layer._project("query", x, 0, 3)
    heads, _ = attention.attention_by_hand(queries, keys, values)
    return layer.out_proj(heads.transpose(1, 2).flatten(2))


def forget_peak() -> None:
    """Make the peak what is used now: importing torch takes much and gives it back. Linux only."""
    if STATUS.exists():
        STATUS.with_name("clear_refs").write_text("5")


def peak_memory() -> float:
    """Megabytes of this process."""
    if STATUS.exists():
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(plan: Plan) -> Iterator[Record]:
    yield from time_rows(plan)
    yield from memory_rows(plan)
    yield from form_curve(plan)


if __name__ == "__main__":
    if sys.argv[1:2] == ["peaks"]:
        torch.set_num_threads(1)
        print(json.dumps(peak_megabytes(sys.argv[2], [*map(int, sys.argv[3:])])))
    else:
        run(measure, __doc__)
