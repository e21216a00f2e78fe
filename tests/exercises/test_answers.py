"""Every exercise accepts its solution and rejects plausible wrong answers with a fitting reason.

Each chapter's wrong answers stand in `wrong_chNN.py` beside this file: WRONG maps an exercise's
number to pairs of an answer and a part of the message it deserves.
"""

import importlib
import re
from functools import cache

import pytest

from course_lib.teaching.exercises import Rejected, by_chapter

EXERCISES = [exercise for chapter in by_chapter().values() for exercise in chapter]
NUMBERED = {exercise.number: exercise for exercise in EXERCISES}
WRONG = {
    number: answers
    for chapter in by_chapter()
    for number, answers in importlib.import_module(f"tests.exercises.wrong_ch{chapter:02d}")
    .WRONG.items()
}  # fmt: skip
CASES = [
    pytest.param(exercise.number, position, id=f"{exercise.number}-{position}")
    for exercise in EXERCISES
    for position in range(len(WRONG.get(exercise.number, [])))
]


@cache  # some exercises train a network, and two tests ask
def message(number, position):
    """What the exercise says to one of its wrong answers."""
    with pytest.raises(Rejected) as rejection:
        NUMBERED[number].verify(WRONG[number][position][0])
    return str(rejection.value)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.number)
def test_the_solution_passes(exercise):
    exercise.verify(exercise.solution)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.number)
def test_enough_is_known_about_it(exercise):
    assert len(WRONG.get(exercise.number, [])) >= 3
    assert len(exercise.hints) >= 2
    assert exercise.solution_text()


@pytest.mark.parametrize("number, position", CASES)
def test_a_wrong_answer_is_rejected_with_its_reason(number, position):
    said = WRONG[number][position][1]
    assert re.search(re.escape(said), message(number, position))


@pytest.mark.parametrize("number, position", CASES)
def test_reasons_differ_between_mistakes_and_do_not_give_the_solution_away(number, position):
    exercise = NUMBERED[number]
    if callable(exercise.solution):
        body = exercise.solution_text().splitlines()[-1].strip()
        assert body not in message(number, position)
