"""Quizzes that explain every choice, the right one and the wrong ones."""

from dataclasses import dataclass
from zlib import crc32

import ipywidgets

from course_lib.teaching import report, widgets


@dataclass(frozen=True)
class Choice:
    """One answer to a question, and why it is right or wrong."""

    text: str
    reason: str
    correct: bool = False


@dataclass(frozen=True)
class Quiz:
    """A question with choices of which exactly one is right.

    They are shown in an order drawn from their words, so that the right one stands anywhere,
    and at the same place on every machine.

    Raises:
        ValueError: fewer than two choices, not exactly one right, or one without a reason.
    """

    question: str
    choices: tuple[Choice, ...]

    def __post_init__(self):
        right = sum(choice.correct for choice in self.choices)
        if len(self.choices) < 2 or right != 1:
            raise ValueError(
                f"quiz {self.question!r} has {len(self.choices)} choices, {right} of them right; "
                "allowed are two or more with one right"
            )
        if not all(choice.text and choice.reason for choice in self.choices):
            raise ValueError(f"quiz {self.question!r} has a choice without text or reason")

    @property
    def shown(self) -> list[Choice]:
        """The choices in the order in which a reader sees them."""
        return sorted(self.choices, key=lambda c: crc32(f"{self.question} {c.text}".encode()))

    def ask(self) -> None:
        """Show the question; a click on a choice answers with its reason.

        Where widgets cannot run, the choices unfold to their reasons instead.
        """
        feedback = ipywidgets.HTML()
        buttons = [self._button(choice, feedback) for choice in self.shown]
        question = f"{widgets.style()}<b>{report.to_html(self.question)}</b>"
        box = ipywidgets.VBox([ipywidgets.HTML(question), *buttons, feedback])
        widgets.show(box.add_class("course-quiz"), self.as_text(), html=self.as_html())

    def answer(self, choice: Choice) -> str:
        """What is said, as HTML, to somebody who picks `choice`."""
        color, said = ("#009e73", "Right") if choice.correct else ("#d55e00", "Not so")
        title = f"{said}: {report.to_html(choice.text)}"
        return report.card(color, title, f"<div>{report.to_html(choice.reason)}</div>")

    def as_text(self) -> str:
        """The question and its choices in plain text."""
        return "\n".join([self.question, *(f"  ( ) {choice.text}" for choice in self.shown)])

    def as_html(self) -> str:
        """The question with choices that unfold to their reasons, without a running kernel."""
        items = (
            f"<details><summary>{report.to_html(choice.text)}</summary>{self.answer(choice)}</details>"
            for choice in self.shown
        )
        return f"<div><b>{report.to_html(self.question)}</b>{''.join(items)}</div>"

    def _button(self, choice: Choice, feedback: ipywidgets.HTML) -> ipywidgets.Button:
        layout = ipywidgets.Layout(width="auto", max_width="52em")
        button = ipywidgets.Button(description=choice.text, layout=layout)

        def on_click(_: ipywidgets.Button) -> None:
            feedback.value = self.answer(choice)

        button.on_click(on_click)
        return button
