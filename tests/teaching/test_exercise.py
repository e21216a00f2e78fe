"""How exercises answer: to stubs, errors, wrong answers and right ones."""

import json

import pytest
import torch
import torch.nn.functional as F

from course_lib.teaching import exercises, progress
from course_lib.teaching.exercises import Exercise, Rejected
from course_lib.teaching.exercises.exercise import NotAttempted, expect_tensor, without


def examine(double):
    if double(3) != 6:
        raise Rejected(f"twice 3 is 6, not {double(3)}")


def solve_double(x):
    return 2 * x


@pytest.fixture
def exercise():
    return Exercise("9.1", "double it", examine, solve_double, ("Twice.", "Multiply by 2."))


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setenv("COURSE_TEST", "0")
    return tmp_path / "progress.json"


def stub(x):
    return ...


def unimplemented(x):
    raise NotImplementedError


@pytest.mark.parametrize("answer", [..., [..., ...], {"a": ..., "b": ...}, stub, unimplemented])
def test_stubs_are_not_attempted(exercise, displayed, answer):
    exercise.check(answer)
    assert "not attempted yet" in displayed[0][0]["text/plain"]


def test_a_stub_filled_in_by_half_is_attempted():
    with pytest.raises(Rejected):
        Exercise("9.2", "t", _reject, {}, ("a", "b")).verify({"a": 1, "b": ...})


def _reject(answer):
    raise Rejected("no")


def test_a_right_answer_is_solved_and_remembered(exercise, displayed, file):
    exercise.check(lambda x: x + x)
    assert "solved" in displayed[0][0]["text/plain"]
    assert json.loads(file.read_text())["solved"] == ["9.1"]


def test_a_wrong_answer_gets_its_reason_and_is_not_remembered(exercise, displayed, file):
    exercise.check(lambda x: x * x)
    assert "twice 3 is 6, not 9" in displayed[0][0]["text/plain"]
    assert not file.exists()


def test_an_error_is_told_with_its_line(exercise, displayed):
    def broken(x):
        y = x + 1
        return y[0]

    exercise.check(broken)
    said = displayed[0][0]["text/plain"]
    assert "line 3 of the function, `return y[0]`, with TypeError" in said


def test_an_error_within_a_library_names_the_learners_line(exercise, displayed):
    def broken(x):
        return torch.ones(2) @ torch.ones(3)

    exercise.check(broken)
    assert "`return torch.ones(2) @ torch.ones(3)`, with RuntimeError" in _text(displayed)


def test_wrong_arguments_are_told_without_a_line(exercise, displayed):
    exercise.check(lambda: 6)
    assert "Calling your function stopped with TypeError" in _text(displayed)


def test_returning_nothing_is_told(exercise, displayed):
    exercise.check(lambda x: None)
    assert "returns nothing" in _text(displayed)


def _text(displayed):
    return displayed[0][0]["text/plain"]


def test_hints_and_solution_are_folded_below_every_answer(exercise, displayed):
    exercise.check(stub)
    html = displayed[0][0]["text/html"]
    assert html.count("<details>") == 3
    assert html.index("Twice.") < html.index("Multiply by 2.") < html.index("return 2 * x")
    assert "def double(x):" in html and "solve_double" not in html


def test_messages_are_escaped(exercise, displayed):
    exercise.check(lambda x: "<b>")
    assert "&lt;b&gt;" in displayed[0][0]["text/html"]


def test_hints_by_number(exercise, capsys):
    exercise.hint()
    exercise.hint(2)
    assert capsys.readouterr().out == "Hint 1 of 2: Twice.\nHint 2 of 2: Multiply by 2.\n"
    with pytest.raises(ValueError, match="number is 3; allowed are 1 to 2"):
        exercise.hint(3)


def test_verify_raises_instead_of_showing(exercise):
    exercise.verify(solve_double)
    with pytest.raises(NotAttempted):
        exercise.verify(...)


def test_expect_tensor():
    expect_tensor(torch.zeros(2, 3), (2, 3), "the scores")
    with pytest.raises(Rejected, match=r"the scores should have shape \(2, 3\), not \(3,\)"):
        expect_tensor(torch.zeros(3), (2, 3), "the scores")
    with pytest.raises(Rejected, match="a list came back"):
        expect_tensor([1], (1,), "the scores")


def test_what_is_forbidden_is_rejected_and_works_again_afterwards():
    forbidden = without(lambda x: torch.nn.ReLU()(x), "by hand", (F, "relu"))
    with pytest.raises(Rejected, match="by hand"):
        forbidden(torch.ones(1))
    assert F.relu(torch.ones(1)) == 1
    assert without(lambda x: x + 1, "by hand", (F, "relu"))(1) == 2


def test_a_rejection_within_the_answer_is_told_as_it_is():
    def examine(answer):
        without(answer, "by hand", (F, "relu"))(torch.ones(1))

    with pytest.raises(Rejected, match="^by hand$"):
        Exercise("9.3", "t", examine, len, ("a", "b")).verify(lambda x: F.relu(x))


# --- progress ----------------------------------------------------------------------------------


def test_progress_grows(file):
    progress.remember("0.2")
    progress.remember("0.1")
    assert progress.solved() == {"0.1", "0.2"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"solved": 3}', "\x00"])
def test_a_damaged_file_counts_as_empty(file, content):
    file.write_text(content)
    assert progress.solved() == set()
    progress.remember("0.1")
    assert progress.solved() == {"0.1"}


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "missing" / "progress.json"))
    progress.remember("0.1")


def test_nothing_is_kept_in_test_mode(file, monkeypatch):
    progress.remember("0.1")
    monkeypatch.setenv("COURSE_TEST", "1")
    assert progress.solved() == set()
    progress.remember("0.2")
    assert json.loads(file.read_text())["solved"] == ["0.1"]


def test_progress_is_shown_by_chapter(file, displayed):
    progress.remember("0.1")
    exercises.show_progress()
    bundle = displayed[0][0]
    assert "00 Start here: 1 of 2 solved" in bundle["text/plain"]
    assert 'max="2" value="1"' in bundle["text/html"] and "✓ 0.1" in bundle["text/html"]
