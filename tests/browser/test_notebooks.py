"""What holds for every notebook of the course, those still to be written included."""

import pytest

from course_lib.teaching import course

from .lab import Notebook

NAMES = [
    path.relative_to(course.NOTEBOOKS).with_suffix("").as_posix() for path in course.notebooks()
]
pytestmark = [pytest.mark.browser, pytest.mark.parametrize("ran", NAMES, indirect=True)]

BROKEN = ("Error displaying widget", "Loading widget", "model not found", "Traceback")
# Pictures of which no text with words follows in the same cell; widgets have captions of their own.
PICTURES_WITHOUT_CAPTION = """() => {
    const { widgets } = jupyterapp.shell.currentWidget.content;
    const pictures = [...document.querySelectorAll(".jp-OutputArea-child .jp-RenderedImage")];
    const bare = pictures.filter((picture) => {
        const next = picture.closest(".jp-OutputArea-child").nextElementSibling;
        const caption = next?.querySelector(".jp-RenderedMarkdown");
        return !caption?.checkVisibility() || !caption.innerText.trim();
    });
    return bare.map((picture) => widgets.findIndex((cell) => cell.node.contains(picture)));
}"""


def test_runs_without_an_error(ran: Notebook):
    outputs = ran.outputs()
    failed = [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]
    assert failed == []
    assert [o["text"] for o in outputs if o.get("name") == "stderr"] == []
    counts = [c["execution_count"] for c in ran.content()["cells"] if c["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_stored_widgets_show_something_before_anything_is_run(ran: Notebook):
    _assert_widgets_show_something(ran.seen["stored"])


def test_widgets_show_something_after_a_run(ran: Notebook):
    _assert_widgets_show_something(ran.seen["ran"])
    assert len(ran.seen["ran"]) == len(ran.seen["stored"])


def test_every_picture_has_a_caption_below_it(ran: Notebook):
    assert ran.page.evaluate(PICTURES_WITHOUT_CAPTION) == [], "cells with a bare picture"


def test_every_control_of_an_explorer_redraws_its_picture(ran: Notebook):
    for number, explorer in enumerate(ran.page.locator(".course-explorer").all(), start=1):
        sliders = explorer.locator(".noUi-handle").all()
        menus = explorer.locator("select").all()
        assert sliders or menus or explorer.locator("input[type=text]").all()  # typed in elsewhere
        for slider in sliders:
            _move_and_back(explorer, slider)
        for menu in menus:
            _choose_another(explorer, menu)
        ran.screenshot(explorer, f"explorer-{number}-moved")


def test_every_choice_of_a_quiz_is_answered_with_its_reason(ran: Notebook):
    for number, quiz in enumerate(ran.page.locator(".course-quiz").all(), start=1):
        reasons = [_click(quiz, choice) for choice in quiz.get_by_role("button").all()]
        assert sum(is_right for is_right, _ in reasons) == 1
        assert len({reason for _, reason in reasons}) == len(reasons)
        ran.screenshot(quiz, f"quiz-{number}-answered")


def test_the_browser_logged_no_error_and_asked_no_other_machine(ran: Notebook):
    assert ran.errors == []
    assert ran.strangers == []


def _assert_widgets_show_something(outputs):
    for output in outputs:
        assert output["text"] or output["pictures"], f"cell {output['cell']} shows nothing"
        assert not any(words in output["text"] for words in BROKEN), output


def _move_and_back(explorer, slider):
    """A step away changes the picture; a step back restores it, for it is a pure function."""
    before = _picture(explorer)
    is_last = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
    away, back = ("ArrowLeft", "ArrowRight") if is_last else ("ArrowRight", "ArrowLeft")
    slider.focus()
    slider.press(away)
    _wait_for_picture(explorer, before, changed=True)
    slider.press(back)
    _wait_for_picture(explorer, before, changed=False)


def _choose_another(explorer, menu):
    before = _picture(explorer)
    chosen = menu.evaluate("(menu) => menu.selectedIndex")
    menu.select_option(index=0 if chosen else 1)
    _wait_for_picture(explorer, before, changed=True)


def _picture(explorer):
    return explorer.locator("img").get_attribute("src")


def _wait_for_picture(explorer, before, *, changed):
    # Each change brings a new <img>, so it must be looked up anew.
    explorer.page.wait_for_function(
        "([box, before, changed]) => (box.querySelector('img').src !== before) === changed",
        arg=[explorer.element_handle(), before, changed],
    )


def _click(quiz, choice):
    """Whether the choice is called right, and the reason that is given."""
    text = choice.inner_text().strip()
    feedback = quiz.locator(".widget-html-content").last
    choice.click()
    feedback.get_by_text(text).wait_for()
    title, reason = feedback.inner_text().strip().split("\n", maxsplit=1)
    assert title in (f"Right: {text}", f"Not so: {text}")
    assert reason.strip()
    return title.startswith("Right"), reason.strip()
