"""Results: stable where they must be, raising where they must."""

import re
from pathlib import Path

import pytest
import torch

from course_lib.teaching import report

CONFIG = Path(__file__).parents[1] / "nbval_sanitize.cfg"
PATTERNS = re.findall(r"^regex: (.*)\nreplace: ?(.*)$", CONFIG.read_text(), re.MULTILINE)


def sanitized(text):
    for pattern, replacement in PATTERNS:
        text = re.sub(pattern, replacement, text)
    return text


def printed(capsys, *lines):
    for line in lines:
        line()
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def in_full(monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "0")


def accuracy(value, **changes):
    settings = {"target": 98.5, "gate": 98.0} | changes
    return lambda: report.result("Accuracy", value, "%", **settings)


def test_values_differ_but_sanitized_outputs_agree(capsys):
    reached = printed(capsys, accuracy(99.12))
    missed = printed(capsys, accuracy(98.21))
    assert "99.12 %, target reached" in reached and "98.21 %, target missed" in missed
    assert sanitized(reached) == sanitized(missed) != reached


def test_another_threshold_is_another_output(capsys):
    first = printed(capsys, accuracy(99.0))
    second = printed(capsys, accuracy(99.0, gate=97.0))
    assert sanitized(first) != sanitized(second)


def test_a_missed_gate_raises():
    with pytest.raises(report.GateFailed, match=r"Accuracy is 97\.90 %; it must be ≥ 98"):
        accuracy(97.9)()
    with pytest.raises(report.GateFailed, match="must be ≤ 2"):
        report.result("Loss", 2.1, target=1.5, gate=2.0, better="lower")
    report.result("Loss", 1.9, target=1.5, gate=2.0, better="lower")


def test_nan_fails_every_gate():
    with pytest.raises(report.GateFailed):
        accuracy(float("nan"))()


def test_a_dry_run_enforces_nothing_and_says_so(capsys, monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "1")
    quick = printed(capsys, accuracy(10.0))
    assert "[quick]" in quick
    monkeypatch.setenv("COURSE_QUICK", "0")
    assert sanitized(quick) == sanitized(printed(capsys, accuracy(99.0)))


def test_better_is_higher_or_lower():
    with pytest.raises(ValueError, match="better is 'more'"):
        accuracy(99.5, better="more")()


def test_statements_must_hold(capsys):
    assert printed(capsys, lambda: report.holds("one is one", True)) == "✓ one is one\n"
    with pytest.raises(report.GateFailed, match="one is two"):
        report.holds("one is two", False)


def test_statements_about_training_are_not_enforced_in_a_dry_run(capsys, monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "1")
    text = printed(capsys, lambda: report.holds("it learned", False, trained=True))
    assert text == "✓ it learned [quick]\n"
    with pytest.raises(report.GateFailed):
        report.holds("an identity", False)


def test_equal_compares_values_and_shapes(capsys):
    ones = torch.ones(3)
    text = printed(capsys, lambda: report.equal("sum", ones, ones + 1e-7))
    assert sanitized(text) == "✓ sum: equal to rtol 1e-05 [measured]\n"
    with pytest.raises(report.GateFailed, match="largest difference is 0.001"):
        report.equal("sum", ones, ones + 1e-3)
    with pytest.raises(report.GateFailed, match="shapes"):
        report.equal("sum", ones, torch.ones(3, 1))


def test_samples_are_taken_out_whole(capsys):
    text = printed(capsys, lambda: report.sample("one", "two\n[measured 3]"), lambda: print("kept"))
    assert "two" in text and sanitized(text) == "[sample]\nkept\n"


def test_times_are_enforced_in_tests_with_two_threads_only(capsys, monkeypatch):
    monkeypatch.setenv("COURSE_TEST", "1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    clock = report.Clock(budget=10)
    clock.started, clock.busy = clock.started - 14, clock.busy - 14
    fine = printed(capsys, clock.stop)
    clock.started -= 2
    assert sanitized(printed(capsys, clock.stop)) == sanitized(fine)  # the machine was busy
    clock.busy -= 2
    with pytest.raises(report.GateFailed, match=r"must take at most 1\.5 x 10 s"):
        clock.stop()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert sanitized(printed(capsys, clock.stop)) == sanitized(fine)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setenv("COURSE_TEST", "0")
    clock.stop()


@pytest.mark.parametrize(
    "effect, error, expected",
    [(1.0, 0.2, "true"), (0.39, 0.2, "no difference seen"), (-0.39, 0.2, "no difference seen"),
     (-0.5, 0.2, "true"), (None, None, "true")],
)  # fmt: skip
def test_an_effect_below_two_standard_errors_is_none(displayed, effect, error, expected):
    report.verdict("1.1", "It is so", "true", "5 s", effect=effect, standard_error=error)
    bundle, metadata = displayed[0]
    assert f"Verdict: {expected}" in bundle["text/plain"] and expected in bundle["text/html"]
    facts = metadata["course"]["verdict"]
    assert facts["verdict"] == expected and facts["number"] == "1.1"


def test_verdict_outputs_are_stable_but_for_the_evidence(displayed):
    report.verdict("1.1", "It is <so>", "depends: on the day", "5 s")
    report.verdict("1.1", "It is <so>", "depends: on the day", "6 s")
    report.verdict("1.1", "It is <so>", "false", "6 s")
    first, second, third = (bundle for bundle, _ in displayed)
    for kind in ("text/plain", "text/html"):
        assert sanitized(first[kind]) == sanitized(second[kind]) != sanitized(third[kind])
    assert "&lt;so&gt;" in first["text/html"]


def test_backticks_of_a_verdict_are_set_as_code(displayed):
    report.verdict("1.1", "`view` is <so>", "false", "`view` refused")
    assert "“<code>view</code> is &lt;so&gt;”" in displayed[0][0]["text/html"]
    assert "<code>view</code> refused]" in displayed[0][0]["text/html"]
    assert "`view` refused" in displayed[0][0]["text/plain"]


def test_unknown_outcome():
    with pytest.raises(ValueError, match="outcome is 'maybe'"):
        report.verdict("1.1", "It is so", "maybe", "5 s")
