"""The figures of chapter 08's lesson draw what they say."""

import pytest
import torch

from course_lib.pretraining import Record
from course_lib.subwords import SPECIAL, WordPiece
from course_lib.teaching import plot
from course_lib.teaching.figures import ch08 as figures

PIECES = [*SPECIAL, "house", "##s", "the"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were shown."""
    found = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: found.append(fig))
    return found


def test_a_record_shows_what_is_seen_and_what_was_there(drawn):
    ids, segments = torch.tensor([2, 7, 4, 3, 5, 3, 0]), torch.tensor([0, 0, 0, 0, 1, 1, 0])
    fields = (torch.tensor([2, 4, 0]), torch.tensor([5, 5, -1]), torch.tensor(1))
    row = Record(ids, segments, ids > 0, *fields)
    found = figures.record(row, PIECES, "c", "a", columns=4)
    assert found["seen"] == ["[CLS]", "the", "[MASK]", "[SEP]", "house", "[SEP]", "[PAD]"]
    assert found["before"] == ["house", "house"]
    boxes = drawn[0].axes[0].patches
    assert [box.get_linewidth() for box in boxes] == [1, 1, 2, 1, 2, 1, 1]
    colors = [box.get_facecolor() for box in boxes]
    assert colors[0] == colors[3] and colors[4] == colors[5] and len(set(colors)) == 3


def test_segments_stand_below_their_tokens():
    ids, segments = torch.tensor([2, 7, 3, 5, 3]), torch.tensor([0, 0, 0, 1, 1])
    tokens, marks = figures.record_lines(ids, segments, PIECES)
    assert tokens == "[CLS] the [SEP] house [SEP]"
    assert [marks[tokens.index(word)] for word in ("[CLS]", "the", "house")] == ["0", "0", "1"]


def test_guesses_are_the_likeliest_words_at_each_mask():
    logits = torch.zeros(1, 2, len(PIECES))
    logits[0, 0, 5], logits[0, 1, 7] = 3.0, 2.0
    asked = []

    def model(ids, segments, real, positions):
        asked.append((ids.tolist(), positions.tolist()))
        return logits, None

    names, bars = figures.guess(model, WordPiece(PIECES), "the [MASK] houses [MASK]", count=2)
    assert names == ["the", "[MASK]", "house", "##s", "[MASK]"]
    assert asked == [([[2, 7, 4, 5, 6, 4, 3]], [[2, 5]])]
    assert [next(iter(words)) for words in bars] == ["house", "the"]
    assert bars[0]["house"] == pytest.approx(logits[0, 0].softmax(0)[5].item())
    assert figures.guess(model, WordPiece(PIECES), "the house")[1] == []
    assert len(figures.guesses_figure(names, bars).axes) == 2


def test_the_strongest_head_of_each_habit_is_found():
    maps = torch.full((2, 3, 5, 5), 0.2)
    maps[1, 2] = torch.eye(5).roll(-1, 1)  # row i looks at i - 1
    maps[0, 1] = torch.eye(5).roll(1, 1)
    maps[1, 0] = torch.eye(5)[:1].expand(5, 5)
    assert figures.strongest(maps) == {
        "the token before": (1, 2, 1.0),
        "the token after": (0, 1, 1.0),
        "[CLS]": (1, 0, 1.0),
    }


def test_clouds_tell_how_far_apart_two_kinds_are(drawn):
    labels = torch.arange(200) % 2
    noise = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    panels = {"mixed": noise, "apart": noise + 20 * labels[:, None]}
    found = figures.clouds(panels, labels, ("no", "yes"), "c", "a")
    assert found["mixed"] < 0.7 and 1.9 < found["apart"] < 2.8


def test_the_nearest_sentence_is_on_top():
    ax = figures.nearest_figure("x", ["far", "near", "opposite"], [0.2, 0.9, -0.1]).axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["near", "far", "opposite"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1] and ax.get_xlim()[0] < 0


def test_scores_and_probes_give_back_what_they_draw(drawn):
    rows = {"svm": figures.Score(79, 77, 81, 3, 0), "net": figures.Score(86, 84, 88, 60, 5_324_162)}
    assert figures.scores(rows, "l", "c", "a") == {"svm": 79, "net": 86}
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert "weights" not in texts[0] and "5.32 M weights" in texts[1]
    values = {"[CLS]": torch.tensor([70.0, 80.0]), "mean": torch.tensor([80.0, 82.0])}
    assert figures.probes({"before": values}, "c", "a") == {"before": {"[CLS]": 75, "mean": 81}}
    assert [figures.short(n) for n in (385, 1_234, 5_324_162)] == ["385", "1.23 k", "5.32 M"]
