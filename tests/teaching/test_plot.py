"""Figures carry caption and alt text, are the same every time, and return what they draw."""

import base64

import pytest
import torch

from course_lib.teaching import course, plot
from course_lib.train import History


def history(steps=100):
    return History(
        steps=steps,
        loss=[1 / (step + 1) for step in range(steps)],
        learning_rate=[0.1] * steps,
        seconds=3.0,
    )


def test_a_figure_is_shown_with_alt_text_and_followed_by_its_caption(displayed):
    fig, _ = plot.figure()
    plot.show(fig, "Look at the end.", "A rising line.")
    (picture, metadata), (caption, _) = displayed
    assert metadata == {"image/png": {"alt": "A rising line."}}
    assert caption["text/markdown"] == "*Look at the end.*"
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("caption, alt", [("", "a"), ("c", " ")])
def test_a_figure_without_words_is_refused(caption, alt):
    with pytest.raises(ValueError, match="both must say something"):
        plot.show(plot.figure()[0], caption, alt)


def test_pictures_hold_no_date():
    def draw():
        fig, axes = plot.figure()
        axes[0, 0].plot([1, 2, 3])
        return plot.to_png(fig)

    assert draw() == draw()


def test_images_returns_what_it_drew(displayed):
    drawn = plot.images(torch.zeros(5, 3, 8, 8), list("abcde"), "c", "a", columns=3)
    assert drawn == {"titles": list("abcde"), "shape": [5, 3, 8, 8]}


def test_training_curve_returns_the_losses_and_their_moving_mean(displayed):
    data = plot.training_curve(history(), "c", "a")
    assert len(data["loss"]) == len(data["smooth"]) == 100
    assert data["smooth"][0] == 1.0
    assert data["smooth"][-1] == pytest.approx(sum(data["loss"][-20:]) / 20)


@pytest.mark.parametrize("low, span", [(8.2, 1.2), (0.28, 1.6), (0.013, 5.0), (0.95, 50), (1, 1e5)])
def test_the_labels_of_a_loss_axis_are_few_and_apart(displayed, monkeypatch, low, span):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, caption, alt: shown.append(fig))
    losses = [low, low * span]
    plot.training_curve(History(2, losses, [0.1, 0.1], 1.0), "c", "a")
    plot.to_png(shown[0])  # draws, and so lays out
    ax = shown[0].axes[0]
    bottom, top = ax.get_ylim()
    ticks = [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
    labels = [t.label1 for t in ticks if t.label1.get_text() and bottom <= t.get_loc() <= top]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert 2 <= len(boxes) <= 6
    assert all(below.y1 + 8 < above.y0 for below, above in zip(boxes, boxes[1:], strict=False))


def test_every_new_epoch_gets_a_line(displayed):
    for epoch in (None, 100, 30, 50):  # of 100 steps: no line for the first two
        plot.training_curve(history(), "c", "a", epoch=epoch)
    none, past, three, one = (bundle["image/png"] for bundle, _ in displayed[::2])
    assert none == past and len({none, three, one}) == 3


def test_bars_return_their_values(displayed):
    assert plot.bars({"a": 1.0, "b": 2.0}, "%", "c", "a", errors={"a": 0.1, "b": 0.1}) == {
        "a": 1.0,
        "b": 2.0,
    }


def test_the_map_shows_every_chapter_and_which_are_written(displayed):
    chapters = plot.course_map("c", "a")
    assert list(chapters) == [chapter.name for chapter in course.CHAPTERS]
    assert chapters["start_here"] is True


def test_the_live_curve_is_silent_in_test_mode(displayed, monkeypatch):
    monkeypatch.setenv("COURSE_TEST", "1")
    plot.LiveCurve()(history())
    assert displayed == []


def test_the_live_curve_updates_one_picture_and_makes_room_at_the_end(displayed, monkeypatch):
    monkeypatch.setenv("COURSE_TEST", "0")
    live, running = plot.LiveCurve(seconds=1.0), history(50)
    for seconds in (0.5, 1.1, 1.5, 2.3):
        running.seconds = seconds
        running.steps = 100
        live(running)
    running.steps = 50
    live(running)
    kinds = ["image/png" in bundle for bundle, _ in displayed]
    assert kinds == [True, True, False]
    assert [metadata.get("updated", False) for _, metadata in displayed] == [False, True, True]
