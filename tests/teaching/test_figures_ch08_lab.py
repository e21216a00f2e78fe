"""The figures of chapter 08's lab draw what they say."""

import pytest
import torch

from course_lib.teaching import plot
from course_lib.teaching.figures import ch08_lab as figures


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were shown."""
    found = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: found.append(fig))
    return found


def test_hidden_words_stand_above_what_is_asked_for(drawn):
    row = [("the", "", ""), ("[MASK]", "masked", "cat"), ("sat", "unchanged", "sat")]
    kinds = figures.hidden_words([row, [("on", "replaced", "by")]], "c", "a")
    assert kinds == {"": 1, "masked": 1, "replaced": 1, "unchanged": 1}
    texts = drawn[0].axes[0].texts
    assert [text.get_text() for text in texts] == [
        *("the", "", "[MASK]", "cat", "sat", "sat"),
        *("on", "by"),
    ]
    shown, wanted = texts[2], texts[3]
    assert shown.get_position()[0] == wanted.get_position()[0]
    assert shown.get_position()[1] > wanted.get_position()[1]
    assert texts[0].get_position()[0] < texts[2].get_position()[0] < texts[4].get_position()[0]
    assert texts[6].get_position()[1] < texts[3].get_position()[1]  # the next row is below
    colors = [texts[place].get_bbox_patch().get_facecolor() for place in (0, 2, 4, 6)]
    assert len(set(colors)) == 4


def test_padding_is_the_share_that_is_not_real(drawn):
    real = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    shares = figures.padding({"one": [real], "two": [real[:1], real[1:, :1]]}, "c", "a")
    assert shares == {"one": 0.375, "two": 0.0}
    one, two = drawn[0].axes
    assert [bar.get_width() for bar in one.patches] == [4, 0, 1, 3]
    assert [bar.get_width() for bar in two.patches] == [4, 0, 1, 0]
    assert one.patches[3].get_x() == 1  # padding begins where the text ends
    assert one.get_xlim() == two.get_xlim() == (0, 4)


def test_trade_shows_seeds_and_means(drawn):
    points = {"all": (torch.tensor([2.0, 4]), torch.tensor([80.0, 90]))}
    assert figures.trade(points, ("seconds", "accuracy"), "c", "a") == {"all": (3.0, 85.0)}
    ax = drawn[0].axes[0]
    assert ax.lines[0].get_xydata().tolist() == [[3, 85]]
    assert ax.lines[1].get_xydata().tolist() == [[2, 80], [4, 90]]
    assert ax.texts[0].get_text() == "all" and ax.get_xlim()[0] == 0
