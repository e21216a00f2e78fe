"""Widgets of some chapters in detail, and what is left of widgets where they cannot run."""

import re
import shutil
from pathlib import Path

import nbconvert
import nbformat
import pytest
from playwright.sync_api import Error, Locator, Page, expect

from course_lib.teaching import course
from course_lib.teaching.exercises import ch00
from course_lib.teaching.figures.ch02 import PRESETS
from course_lib.teaching.widgets import WIDGET_VIEW

from .lab import WIDGETS_ARE_SHOWN, Lab, Notebook
from .test_notebooks import BROKEN, NAMES, _picture, _wait_for_picture

pytestmark = pytest.mark.browser
START = "00_start_here"
in_chapter_00 = pytest.mark.parametrize("ran", [START], indirect=True)
in_chapter_02 = pytest.mark.parametrize("ran", ["02_cnn"], indirect=True)

SEVEN = [(0.25, 0.25), (0.75, 0.25), (0.45, 0.8)]  # corners, as shares of the pad's side
MEAN_GREY = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((_, i) => i % 4 === 0).reduce((sum, grey) => sum + grey, 0)
        / (canvas.width * canvas.height);
}"""


@in_chapter_00
def test_a_digit_drawn_with_the_mouse_is_read_and_cleared(ran: Notebook):
    widget = _drawing_pad(ran)
    _draw(widget.locator(".pad"), SEVEN)
    expect(widget.locator(".answer")).to_have_text(_an_answer())
    assert 95 <= sum(_percents(widget)) <= 105  # ten numbers, each rounded
    assert widget.locator("canvas.seen").evaluate(MEAN_GREY) > 5
    ran.screenshot(widget, "draw-digit-mouse")

    widget.get_by_role("button", name="Clear").click()
    expect(widget.locator(".answer")).to_have_text("Draw a digit")
    assert _percents(widget) == []
    assert widget.locator("canvas.seen").evaluate(MEAN_GREY) == 0
    assert widget.locator(".pad").evaluate(MEAN_GREY) == 0


@in_chapter_00
def test_a_digit_drawn_with_keys_is_read_and_the_notebook_stays_as_it_is(ran: Notebook):
    widget = _drawing_pad(ran)
    pad = widget.locator(".pad")
    pad.focus()
    before = ran.active_cell(), _types_and_sources(ran)
    for key in ["ArrowUp"] * 8 + ["Space"] + ["ArrowDown"] * 16 + ["Space"]:
        pad.press(key)
    # Shortcuts of the notebook: insert, delete, cut a cell, make it a heading, edit it.
    for key in ["a", "b", "d", "d", "x", "1", "m", "j", "k", "Enter"]:
        pad.press(key)
    expect(widget.locator(".answer")).to_have_text(_an_answer())
    assert (ran.active_cell(), _types_and_sources(ran)) == before
    assert pad.evaluate("(pad) => pad === document.activeElement")
    ran.screenshot(widget, "draw-digit-keys")

    pad.press("Escape")
    expect(widget.locator(".answer")).to_have_text("Draw a digit")


@in_chapter_00
def test_tab_reaches_the_pad_and_leaves_it(ran: Notebook):
    pad = _drawing_pad(ran).locator(".pad")
    pad.focus()
    ran.page.keyboard.press("Tab")
    expect(ran.page.locator(":focus")).to_have_text("Clear")
    ran.page.keyboard.press("Shift+Tab")
    expect(pad).to_be_focused()


@in_chapter_00
def test_an_exercise_answered_rightly_is_solved_and_a_wrong_one_gets_a_reason(ran: Notebook):
    cell = ran.cell_with("ch00.shapes.check")
    output = cell.locator(".jp-Cell-outputArea")
    expect(output).to_contain_text("not attempted yet")
    ran.screenshot(output, "exercise-open")

    stub = next(c["source"] for c in ran.content()["cells"] if "ch00.shapes.check" in c["source"])
    _rewrite_and_run(ran, cell, _filled_in(stub, {**ch00.shapes.solution, "labels": (10,)}))
    expect(output).to_contain_text("not yet")
    expect(output).to_contain_text("'labels'")
    ran.screenshot(output, "exercise-wrong")

    _rewrite_and_run(ran, cell, _filled_in(stub, ch00.shapes.solution))
    expect(output).to_contain_text("solved")
    ran.screenshot(output, "exercise-solved")


@in_chapter_00
def test_hints_unfold_one_by_one(ran: Notebook):
    output = ran.cell_with("ch00.accuracy.check").locator(".jp-Cell-outputArea")
    for number, hint in enumerate(ch00.accuracy.hints):
        folded = output.locator("details").nth(number)
        height = folded.bounding_box()["height"]
        folded.get_by_text(f"Hint {number + 1}").click()
        expect(folded).to_contain_text(hint.replace("`", ""))  # shown as code
        assert folded.bounding_box()["height"] > height + 10
    ran.screenshot(output, "exercise-hints")


@in_chapter_00
def test_a_notebook_that_was_run_and_saved_shows_its_widgets_when_opened_again(
    ran: Notebook, lab: Lab, page: Page
):
    ran.save()
    shutil.copy(lab.path(START), lab.path("opened_again"))
    again = Notebook.open(lab, page, "opened_again")
    try:
        again.page.wait_for_function(WIDGETS_ARE_SHOWN)
        again.look_at_widgets("stored")
        shown = again.seen["stored"]
        assert len(shown) == len(ran.seen["ran"])
        assert [o for o in shown if any(words in o["text"] for words in BROKEN)] == []
        assert again.errors == []
        _assert_pad_says_that_nobody_answers(again)
    except (AssertionError, Error):
        again.keep_evidence("opened-again")
        raise
    again.close()


@in_chapter_02
def test_each_of_the_nine_numbers_of_a_kernel_changes_the_picture(ran: Notebook):
    explorer = _kernel_explorer(ran)
    fields, menu = explorer.locator("input[type=number]"), explorer.locator("select").first
    expect(fields).to_have_count(9)
    menu.select_option("nothing")
    expect(fields.nth(4)).to_have_value("1")
    for number, field in enumerate(fields.all()):
        before = _picture(explorer)
        field.fill(f"{number}.25")
        field.press("Tab")
        _wait_for_picture(explorer, before, changed=True)
    assert [field.input_value() for field in fields.all()] == [f"{n}.25" for n in range(9)]
    ran.screenshot(explorer, "kernel-typed")


@in_chapter_02
def test_a_kernel_chosen_by_name_fills_the_nine_numbers(ran: Notebook):
    explorer = _kernel_explorer(ran)
    fields, menu = explorer.locator("input[type=number]"), explorer.locator("select").first
    menu.select_option("nothing")
    fields.nth(0).fill("5")  # so that the first choice below changes something, whatever was there
    fields.nth(0).press("Tab")
    for name in ("blur", "sharpen"):
        before = _picture(explorer)
        menu.select_option(name)
        _wait_for_picture(explorer, before, changed=True)
        for field, value in zip(fields.all(), PRESETS[name], strict=True):
            expect(field).to_have_value(f"{value:.3g}")
    ran.screenshot(explorer, "kernel-chosen")


TYPED = {name: "the river" for name in ("06_attention", "07_seq2seq", "09_gpt")}
TYPED["08_bert"] = "the [MASK] river"


@pytest.mark.parametrize(("ran", "text"), TYPED.items(), indirect=["ran"])
def test_what_is_typed_into_an_explorer_is_drawn(ran: Notebook, text: str):
    has_field = ran.page.locator("input[type=text]")
    explorers = ran.page.locator(".course-explorer").filter(has=has_field).all()
    assert explorers
    for number, explorer in enumerate(explorers, start=1):
        before = _picture(explorer)
        field = explorer.locator("input[type=text]")
        field.fill(text)
        field.press("Enter")
        _wait_for_picture(explorer, before, changed=True)
        ran.screenshot(explorer, f"typed-{number}")


@pytest.mark.parametrize("name", NAMES)
def test_as_a_web_page_each_widget_is_a_picture_or_text_without_a_network(page: Page, name: str):
    path = course.NOTEBOOKS / f"{name}.ipynb"
    _show_as_web_page(page, path, template="lab")
    cells = nbformat.read(path, as_version=4).cells
    with_widget = [i for i, cell in enumerate(cells) if _shows_a_widget(cell)]
    outputs = [
        page.locator(".jp-Cell").nth(i).locator(".jp-OutputArea-output") for i in with_widget
    ]
    is_empty = [not (o.locator("img").count() or o.first.inner_text().strip()) for o in outputs]
    assert [i for i, empty in zip(with_widget, is_empty, strict=True) if empty] == []


@pytest.mark.parametrize("name", NAMES)
def test_as_a_web_page_each_figure_has_its_words_for_those_who_cannot_see_it(page: Page, name: str):
    # nbconvert's newer template knows no alternative texts.
    _show_as_web_page(page, course.NOTEBOOKS / f"{name}.ipynb", template="classic")
    pictures = page.locator(".output_png img").all()
    words = [picture.get_attribute("alt") for picture in pictures]
    assert [text for text in words if not text or text.startswith("No description")] == []


def _show_as_web_page(page: Page, notebook: Path, template: str) -> None:
    exporter = nbconvert.HTMLExporter(template_name=template)
    html, _ = exporter.from_filename(str(notebook))
    page.route("**/*", lambda route: route.abort())  # as on a machine without network
    page.set_content(html, wait_until="commit")
    expect(page.locator("body")).to_be_visible()


def _shows_a_widget(cell: nbformat.NotebookNode) -> bool:
    outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
    return any(WIDGET_VIEW in data for data in outputs)


def _drawing_pad(notebook: Notebook) -> Locator:
    widget = notebook.page.locator(".draw-digit")
    widget.scroll_into_view_if_needed()
    return widget


def _kernel_explorer(notebook: Notebook) -> Locator:
    has_numbers = notebook.page.locator("input[type=number]")
    explorer = notebook.page.locator(".course-explorer").filter(has=has_numbers)
    explorer.scroll_into_view_if_needed()
    return explorer


def _assert_pad_says_that_nobody_answers(notebook: Notebook) -> None:
    widget = notebook.page.locator(".draw-digit")
    widget.locator(".pad").focus()
    widget.locator(".pad").press("Space")
    expect(widget.locator(".answer")).to_contain_text("No answer yet")


def _draw(pad: Locator, corners: list[tuple[float, float]]) -> None:
    """Press the button at the first corner, move along the others, and let go."""
    box = pad.bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    mouse = pad.page.mouse
    mouse.move(*points[0])
    mouse.down()
    for point in points[1:]:
        mouse.move(*point, steps=20)
    mouse.up()


def _an_answer() -> re.Pattern:
    return re.compile(r"I read a \d")


def _percents(widget: Locator) -> list[int]:
    texts = widget.locator(".percent").all_inner_texts()
    return [int(text.removesuffix("%")) for text in texts if text]


def _types_and_sources(notebook: Notebook) -> list[tuple[str, str]]:
    return [(cell["cell_type"], cell["source"]) for cell in notebook.content()["cells"]]


def _filled_in(stub: str, answers: dict[str, tuple]) -> str:
    for answer in answers.values():
        stub = stub.replace("...", repr(answer), 1)
    return stub


def _rewrite_and_run(notebook: Notebook, cell: Locator, source: str) -> None:
    """Replace the text of a cell as a learner would, and run it with the keyboard."""
    cell.locator(".cm-content").click()
    notebook.page.keyboard.press("ControlOrMeta+a")
    notebook.page.keyboard.insert_text(source)
    notebook.page.keyboard.press("Control+Enter")
