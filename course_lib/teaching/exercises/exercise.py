"""One exercise: what is asked, how an answer is examined, and the help that comes with it."""

import html
import inspect
import linecache
import textwrap
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from IPython.display import display

from course_lib.teaching import progress, report

GREEN, RED, GREY = "#009e73", "#d55e00", "#888888"
NOTHING_FILLED_IN = "Nothing is filled in yet, or the function still returns `...`."


class Rejected(Exception):
    """An answer is wrong; the message says in what, and never gives the solution away."""


class NotAttempted(Exception):
    """The stub is still as it was."""


@dataclass(frozen=True)
class Exercise:
    """An exercise with its check, hints from gentle to plain, and solution.

    Args:
        number: e.g. "0.1": the chapter and the exercise.
        title: what is asked, in a few words.
        examine: called with the answer; raises `Rejected` for a wrong one. When the answer is a
            function, `examine` gets one that turns the learner's errors into friendly messages.
        solution: a right answer; of a function, the source is shown.
        hints: at least two.
    """

    number: str
    title: str
    examine: Callable[[Any], None]
    solution: Any
    hints: tuple[str, ...]

    def check(self, answer: Any) -> None:
        """Examine `answer`, say what was found, and fold hints and solution below it."""
        try:
            self.verify(answer)
        except NotAttempted:
            self._say(GREY, "not attempted yet", NOTHING_FILLED_IN)
        except Rejected as rejection:
            self._say(RED, "not yet", str(rejection))
        else:
            progress.remember(self.number)
            self._say(GREEN, "solved", "Well done. Compare your answer with the solution below.")

    def verify(self, answer: Any) -> None:
        """Examine `answer` without showing anything.

        Raises:
            NotAttempted: it is a stub, or a function that returns one.
            Rejected: it is wrong.
        """
        if is_stub(answer):
            raise NotAttempted
        self.examine(_guard(answer) if callable(answer) else answer)

    def hint(self, number: int = 1) -> None:
        """Print hint `number`, counted from 1.

        Raises:
            ValueError: there is no such hint.
        """
        if not 1 <= number <= len(self.hints):
            raise ValueError(f"number is {number}; allowed are 1 to {len(self.hints)}")
        print(f"Hint {number} of {len(self.hints)}: {self.hints[number - 1]}")

    def solution_text(self) -> str:
        """The solution as source code."""
        if callable(self.solution):
            source = textwrap.dedent(inspect.getsource(self.solution))
            return source.replace(f"def {self.solution.__name__}", f"def {self.function_name}", 1)
        return repr(self.solution)

    @property
    def function_name(self) -> str:
        """The name a learner's function has: that of the solution without `solve_`."""
        return self.solution.__name__.removeprefix("solve_")

    def _say(self, color: str, outcome: str, message: str) -> None:
        title = f"Exercise {self.number}, {self.title}: {outcome}"
        folded = [
            f"<details><summary>Hint {i}</summary>{report.to_html(hint)}</details>"
            for i, hint in enumerate(self.hints, start=1)
        ]
        code = f"<pre>{html.escape(self.solution_text())}</pre>"
        folded.append(f"<details><summary>Solution</summary>{code}</details>")
        body = f"<div>{report.to_html(message)}</div>{''.join(folded)}"
        bundle = {
            "text/html": report.card(color, html.escape(title), body),
            "text/plain": f"{title}. {message}",
        }
        display(bundle, raw=True)


def is_stub(answer: Any) -> bool:
    """Whether nothing was filled in: `...`, or a collection of nothing but `...`."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list | tuple) and answer:
        return all(is_stub(part) for part in answer)
    return answer is ...


def expect_tensor(value: Any, shape: tuple[int, ...], what: str) -> None:
    """Reject what is no tensor, or one of another shape.

    Args:
        what: how to call it in the message, e.g. "the probabilities".
    """
    if not isinstance(value, torch.Tensor):
        raise Rejected(f"{what} should be a tensor, but a {type(value).__name__} came back")
    if tuple(value.shape) != shape:
        raise Rejected(f"{what} should have shape {shape}, not {tuple(value.shape)}")


def expect_numbers(
    answer: Any, right: Mapping[str, float], why_not: Callable[[str, float], str]
) -> None:
    """Reject what is not the dictionary `right`: with other names, open, wrong, or no numbers.

    Args:
        why_not: what to say of a wrong number: `why_not(name, given)`.
    """
    if not isinstance(answer, dict) or set(answer) != set(right):
        raise Rejected(f"Keep the dictionary with its names: {'; '.join(right)}.")
    for name, number in right.items():
        given = answer[name]
        if given is ...:
            raise Rejected(f"The number for “{name}” is still open.")
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise Rejected(f"“{name}”: a number is asked for, not a {type(given).__name__}.")
        if abs(given - number) > 1e-9:
            raise Rejected(f"“{name}”: {why_not(name, given)}")


def without(
    function: Callable, reason: str, *forbidden: tuple[ModuleType, str]
) -> Callable[..., Any]:
    """`function`, but it is rejected for `reason` when it calls a function that is forbidden.

    Args:
        forbidden: modules and names in them, e.g. (F, "conv2d"); layers that call it count, too.
    """

    def refuse(*_: Any, **__: Any) -> None:
        raise Rejected(reason)

    def called(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for module, name in forbidden:
                stack.enter_context(patch.object(module, name, refuse))
            return function(*args, **kwargs)

    return called


def _guard(function: Callable) -> Callable:
    """`function`, with its errors told in the learner's terms."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            value = function(*args, **kwargs)
        except NotImplementedError:
            raise NotAttempted from None
        except Rejected:
            raise
        except Exception as error:
            raise Rejected(_explain(error, function)) from error
        if is_stub(value):
            raise NotAttempted
        if value is None:
            raise Rejected("Your function returns nothing. Does its last line say `return`?")
        return value

    return guarded


def _explain(error: Exception, function: Callable) -> str:
    """What went wrong and in which line of the learner's own code."""
    said = f"{type(error).__name__}: {error}"
    code = getattr(function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    if not own:
        return f"Calling your function stopped with {said}"
    number = own[-1].lineno
    line = linecache.getline(own[-1].filename, number).strip()
    within = number - code.co_firstlineno + 1
    return f"Your code stopped in line {within} of the function, `{line}`, with {said}"
