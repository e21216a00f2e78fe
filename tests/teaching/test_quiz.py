"""Quizzes answer every choice with its reason."""

from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from course_lib.teaching import exercises
from course_lib.teaching.quiz import Choice, Quiz


@pytest.fixture
def quiz():
    return Quiz(
        "What is 2 & 2?",
        (Choice("2", "Both have this bit.", correct=True), Choice("4 > 2", "That is their sum.")),
    )


def click(quiz, text):
    """Show the quiz, click the button that says `text`, and return what is said."""
    import ipywidgets

    boxes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("course_lib.teaching.widgets.show", lambda box, *_, **__: boxes.append(box))
        quiz.ask()
    buttons = [child for child in boxes[0].children if isinstance(child, ipywidgets.Button)]
    next(button for button in buttons if button.description == text).click()
    return boxes[0].children[-1].value


def test_each_choice_gets_its_own_reason(quiz):
    assert "Right: 2" in click(quiz, "2") and "Both have this bit." in click(quiz, "2")
    said = click(quiz, "4 > 2")
    assert "Not so: 4 &gt; 2" in said and "That is their sum." in said


def test_without_widgets_the_reasons_unfold(quiz, displayed):
    quiz.ask()
    html = displayed[0][0]["text/html"]
    assert html.count("<details>") == 2 and "That is their sum." in html
    text = displayed[0][0]["text/plain"]
    assert "( ) 4 > 2" in text and "sum" not in text


@pytest.mark.parametrize(
    "choices",
    [
        (Choice("a", "r", correct=True),),
        (Choice("a", "r"), Choice("b", "r")),
        (Choice("a", "r", correct=True), Choice("b", "r", correct=True)),
        (Choice("a", "r", correct=True), Choice("b", "")),
    ],
)
def test_malformed_quizzes(choices):
    with pytest.raises(ValueError, match="quiz 'Q'"):
        Quiz("Q", choices)


def test_the_right_choice_stands_at_every_place():
    places = Counter()
    for chapter in sorted(Path(exercises.__file__).parent.glob("ch*.py")):
        module = import_module(f"{exercises.__name__}.{chapter.stem}")
        for quiz in filter(lambda value: isinstance(value, Quiz), vars(module).values()):
            assert sorted(map(str, quiz.shown)) == sorted(map(str, quiz.choices))
            places[[choice.correct for choice in quiz.shown].index(True)] += 1
    assert all(places[place] > 0.2 * places.total() for place in range(3)), places
