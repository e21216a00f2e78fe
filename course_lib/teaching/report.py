"""Results in a form that a reader enjoys and a regression test can compare to the letter.

What depends on the machine stands in `[measured ...]`, and `tests/nbval_sanitize.cfg` takes it out
before outputs are compared. What must hold on every machine stands outside of it, and raises when
it does not hold.
"""

import html
import re
import time
from dataclasses import dataclass, field

import torch
from IPython.display import display
from torch import Tensor

from course_lib import runtime

SLACK = 1.5  # a notebook may take this times its budget before it turns red
OUTCOMES = ("true", "false", "depends")


class GateFailed(AssertionError):
    """A measured result does not hold what the course promises."""


def result(
    name: str,
    value: float,
    unit: str = "",
    *,
    target: float,
    gate: float,
    better: str = "higher",
    digits: int = 2,
) -> None:
    """Print a measured result beside its target (aimed at) and its gate (enforced).

    The gate follows from runs with several seeds, so it may lie on either side of the target.

    Args:
        value, target, gate: all in `unit`, e.g. percent.
        better: "higher" or "lower".

    Raises:
        GateFailed: the value misses the gate (not with COURSE_QUICK=1).
        ValueError: `better` is neither.
    """
    if better not in ("higher", "lower"):
        raise ValueError(f"better is {better!r}; allowed are higher, lower")
    sign, relation = (1, "≥") if better == "higher" else (-1, "≤")
    suffix = f" {unit}" if unit else ""
    reached = "target reached" if sign * value >= sign * target else "target missed"
    holds = sign * value >= sign * gate
    if not holds and not runtime.is_quick():
        raise GateFailed(f"{name} is {value:.{digits}f}{suffix}; it must be {relation} {gate:g}")
    print(
        f"{name}: [measured {value:.{digits}f}{suffix}, {reached}]  "
        f"target {relation} {target:g}{suffix} · gate {relation} {gate:g}{suffix}: holds"
        + quick_mark()
    )


def seconds(name: str, value: float, *, target: float) -> None:
    """Print how long something took beside its target, which no machine is held to."""
    reached = "target reached" if value <= target else "target missed"
    print(f"{name}: [measured {value:.1f} s, {reached}]  target ≤ {target:g} s on two CPU cores")


def value(name: str, *numbers: object, unit: str = "") -> None:
    """Print something measured that nothing depends on."""
    text = " ".join(str(number) for number in numbers)
    print(f"{name}: [measured {text}{' ' + unit if unit else ''}]")


def holds(statement: str, condition: bool, *, trained: bool = False) -> None:
    """Print a statement that is true on every machine.

    Args:
        trained: it speaks of a trained network, so COURSE_QUICK=1 does not enforce it.

    Raises:
        GateFailed: it is not true.
    """
    if not condition and not (trained and runtime.is_quick()):
        raise GateFailed(f"This does not hold: {statement}")
    print(f"✓ {statement}" + (quick_mark() if trained else ""))


def equal(name: str, ours: Tensor, theirs: Tensor, *, rtol: float = 1e-5, atol: float = 0) -> None:
    """Print that two tensors are equal to a tolerance, and their largest difference.

    Raises:
        GateFailed: shapes or values differ.
    """
    if ours.shape != theirs.shape:
        raise GateFailed(f"{name}: shapes {tuple(ours.shape)} and {tuple(theirs.shape)} differ")
    difference = (ours.double() - theirs.double()).abs().max().item()
    if not torch.allclose(ours.double(), theirs.double(), rtol=rtol, atol=atol):
        raise GateFailed(f"{name}: the largest difference is {difference:.3g}, beyond rtol {rtol}")
    print(f"✓ {name}: equal to rtol {rtol:g} [measured largest difference {difference:.2g}]")


def sample(*lines: object) -> None:
    """Print what may differ on every machine, e.g. generated text or the worst mistakes."""
    print("[sample]", *lines, "[end of sample]", sep="\n")


@dataclass
class Clock:
    """Times a notebook against its budget; make it in the first cell, `stop` it in the last."""

    budget: float  # seconds, on two CPU cores
    started: float = field(default_factory=time.perf_counter)
    busy: float = field(default_factory=time.process_time)  # seconds of CPU used before

    def __post_init__(self):
        runtime.keep_memory()  # for the cells that train without `fit`

    def stop(self) -> None:
        """Print the seconds since the clock was made; a reader's pauses are not held against it.

        Raises:
            GateFailed: under COURSE_TEST=1 with two threads or more, when both the clock on the
                wall and the CPU's own count exceed 1.5 x the budget: a machine that is busy with
                other things delays the first, and not the second.
        """
        seconds = time.perf_counter() - self.started
        spent = min(seconds, time.process_time() - self.busy)
        threads = torch.get_num_threads()
        enforced = runtime.is_test() and not runtime.is_quick() and threads >= 2
        if enforced and spent > SLACK * self.budget:
            raise GateFailed(
                f"The notebook took {spent:.0f} s; it must take at most {SLACK} x {self.budget} s"
            )
        pauses = "" if runtime.is_test() else ", your reading included"
        print(
            f"Since the first cell: [measured {seconds:.0f} s{pauses}, {threads} threads]. Run at "
            f"once, this notebook has a budget of {self.budget:g} s on two."
        )


def verdict(
    number: str,
    claim: str,
    outcome: str,
    evidence: str,
    *,
    effect: float | None = None,
    standard_error: float | None = None,
) -> None:
    """Show what a run says of a claim, as a card that `docs/claims.md` collects.

    Args:
        number: the claim's number, e.g. "2.6".
        outcome: "true", "false", or "depends: " and on what; computed by the run.
        evidence: the measured margin, in words with numbers.
        effect, standard_error: over seeds; an effect below two standard errors reads "no
            difference seen".

    Raises:
        ValueError: any other outcome.
    """
    if outcome.split(":")[0] not in OUTCOMES:
        raise ValueError(f"outcome is {outcome!r}; allowed are {', '.join(OUTCOMES)}")
    if effect is not None and standard_error is not None:
        evidence = f"{evidence} (effect {effect:+.3g} ± {standard_error:.2g})"
        if abs(effect) < 2 * standard_error:
            outcome = "no difference seen"
    shown = outcome + quick_mark()
    text = f"Claim {number}: {claim}\nVerdict: {shown}\n[measured {evidence}]"
    facts = {"number": number, "claim": claim, "verdict": outcome, "evidence": evidence}
    display(
        {"text/html": _verdict_card(number, claim, shown, evidence), "text/plain": text},
        raw=True,
        metadata={"course": {"verdict": facts}},
    )


def quick_mark() -> str:
    """A mark for results of a dry run with COURSE_QUICK=1, in which no gate is enforced."""
    return " [quick]" if runtime.is_quick() else ""


def to_html(text: str) -> str:
    """Plain text as HTML: special characters kept as they are, `backticks` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def card(color: str, title: str, body: str) -> str:
    """HTML of a box with a coloured edge that suits light and dark themes."""
    return (
        f'<div style="border-left:6px solid {color};background:rgba(127,127,127,.08);'
        f'padding:.6em 1em;margin:.4em 0;border-radius:4px;max-width:52em">'
        f"<div><b>{title}</b></div>{body}</div>"
    )


def _verdict_card(number: str, claim: str, shown: str, evidence: str) -> str:
    colors = {"true": "#009e73", "false": "#d55e00", "depends": "#e69f00"}
    color = colors.get(shown.split(":")[0].split(" ")[0], "#888888")
    body = (
        f'<div style="font-size:1.1em;margin:.2em 0">“{to_html(claim)}”</div>'
        f'<div>Verdict: <b style="color:{color}">{html.escape(shown)}</b></div>'
        f'<div style="opacity:.8">[measured {to_html(evidence)}]</div>'
    )
    return card(color, f"Claim {html.escape(number)}", body)
