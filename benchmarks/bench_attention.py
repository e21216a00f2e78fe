"""Chapter 06's `MultiHeadAttention` beside torch's, and attention by hand beside the fused form.

The first part times a training step (forward, loss, backward) of both modules with the same weights
and a causal mask. Torch's is called the way it is fastest, without returning weights. The second
gives time and peak memory of one head's attention, forward and backward, by length. Rivals take
turns, the one that begins changing every round, so that a machine that slows down slows both.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib import attention, runtime

ROUNDS, THREADS = 9, 2
WIDTH, HEADS = 128, 4
TOKENS = 4096  # of a batch, whatever the length
STEP_LENGTHS, LENGTHS = (32, 128, 512), (64, 128, 256, 512, 1024, 2048, 4096)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")
FORMS = {
    "by hand": lambda q, k, v, mask: attention.attention_by_hand(q, k, v, mask)[0],
    "fused": attention.attention_fused,
}


def take_turns(rivals: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each rival in each round; a first round, which warms up, is left out."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 1):
        for name in sorted(rivals, reverse=number % 2 == 0):
            started = time.perf_counter()
            rivals[name]()
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: taken[1:] for name, taken in times.items()}


def training_steps(length: int, dtype: torch.dtype) -> tuple[float, float, float]:
    """Median milliseconds of torch's step and of ours, and the median of their ratios."""
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    ours = attention.MultiHeadAttention(WIDTH, HEADS)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(TOKENS // length, length, WIDTH)
    causal = attention.causal_mask(length)

    def step(call: Callable[[], Tensor]) -> None:
        with runtime.autocast(CPU, dtype):
            loss = call().square().mean()
        loss.backward()

    rivals = {
        "torch": lambda: step(
            lambda: theirs(x, x, x, attn_mask=~causal, is_causal=False, need_weights=False)[0]
        ),
        "ours": lambda: step(lambda: ours(x, mask=causal)),
    }
    times = take_turns(rivals, ROUNDS)
    ratios = [o / t for o, t in zip(times["ours"], times["torch"], strict=True)]
    return *(statistics.median(times[name]) for name in rivals), statistics.median(ratios)


def one_pass(form: str, length: int, dtype: torch.dtype) -> Callable[[], None]:
    """Attention of one sequence and four heads, there and back."""
    shape = (1, HEADS, length, WIDTH // HEADS)
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    causal = attention.causal_mask(length)
    return lambda: FORMS[form](q, k, v, causal).sum().backward()


def peak_megabytes(form: str, length: int) -> float:
    """What one pass adds to the memory of a process of its own."""
    one_pass(form, 16, torch.float32)()  # what torch itself needs
    before = _most_memory()
    one_pass(form, length, torch.float32)()
    return _most_memory() - before


def _most_memory() -> float:
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    torch.set_num_threads(THREADS)
    if len(sys.argv) == 3:  # in a process of its own, for its peak of memory
        print(peak_megabytes(sys.argv[1], int(sys.argv[2])))
        return
    runtime.seed_everything(0)
    for name, dtype in PRECISIONS.items():
        for length in STEP_LENGTHS:
            theirs, ours, ratio = training_steps(length, dtype)
            print(f"a step in {name}, length {length}: torch {theirs:.1f} ms, ours {ours:.1f} ms")
            print(f"ratio {ratio:.2f} (target: at most 1.05)")
    for length in LENGTHS:
        parts = []
        for name, dtype in PRECISIONS.items():
            rivals = {form: one_pass(form, length, dtype) for form in FORMS}
            times = take_turns(rivals, 3 if length > 1024 else ROUNDS)
            medians = [f"{form} {statistics.median(times[form]):.1f}" for form in FORMS]
            parts.append(f"{name} {', '.join(medians)} ms")
        for form in FORMS:
            command = [sys.executable, __file__, form, str(length)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            parts.append(f"{form} {float(done.stdout):.0f} MB")
        print(f"length {length}: {'; '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
