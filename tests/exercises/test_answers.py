"""Every exercise accepts its solution and rejects plausible wrong answers with a fitting reason.

Each chapter's wrong answers stand in `wrong_chNN.py` beside this file: WRONG maps an exercise's
number to pairs of an answer and a part of the message it deserves.
"""

import importlib
import re

import pytest

from course_lib.teaching.exercises import Rejected, by_chapter

EXERCISES = [exercise for chapter in by_chapter().values() for exercise in chapter]
WRONG = {
    number: answers
    for chapter in by_chapter()
    for number, answers in importlib.import_module(f"tests.exercises.wrong_ch{chapter:02d}")
    .WRONG.items()
}  # fmt: skip
CASES = [
    pytest.param(exercise, answer, said, id=f"{exercise.number}-{position}")
    for exercise in EXERCISES
    for position, (answer, said) in enumerate(WRONG.get(exercise.number, []))
]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.number)
def test_the_solution_passes(exercise):
    exercise.verify(exercise.solution)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.number)
def test_enough_is_known_about_it(exercise):
    assert len(WRONG.get(exercise.number, [])) >= 3
    assert len(exercise.hints) >= 2
    assert exercise.solution_text()


@pytest.mark.parametrize("exercise, answer, said", CASES)
def test_a_wrong_answer_is_rejected_with_its_reason(exercise, answer, said):
    with pytest.raises(Rejected) as rejection:
        exercise.verify(answer)
    assert re.search(re.escape(said), str(rejection.value)), rejection.value


@pytest.mark.parametrize("exercise, answer, said", CASES)
def test_reasons_differ_between_mistakes_and_do_not_give_the_solution_away(exercise, answer, said):
    if callable(exercise.solution):
        body = exercise.solution_text().splitlines()[-1].strip()
        with pytest.raises(Rejected) as rejection:
            exercise.verify(answer)
        assert body not in str(rejection.value)
