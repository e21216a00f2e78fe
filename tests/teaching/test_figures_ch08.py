"""The figures of chapter 08's lesson draw what they say."""

import pytest
import torch

from course_lib import bert, reviews
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


def test_long_words_stay_in_their_box(drawn):
    long = "incomprehensible"
    fields = (torch.tensor([2, 5]), torch.zeros(2).long(), torch.ones(2).bool())
    row = Record(*fields, torch.tensor([0]), torch.tensor([-1]), torch.tensor(1))
    figures.record(row, [*SPECIAL, long], "c", "a")
    sizes = {text.get_text(): text.get_fontsize() for text in drawn[0].axes[0].texts}
    assert sizes[long] == 112 / len(long) and sizes["[CLS]"] == 10.5


def test_runs_of_different_lengths_are_drawn_over_their_steps(drawn):
    runs = {"one": (10, torch.tensor([[3.0, 2]])), "two": (40, torch.tensor([[3.0, 1], [3, 2]]))}
    assert figures.longer(runs, "c", "a") == {"one": (10, 2.0), "two": (40, 1.5)}
    first, second, third = (line.get_xydata().tolist() for line in drawn[0].axes[0].lines)
    assert first == [[2.5, 3], [7.5, 2]]
    assert second == [[10, 3], [30, 1]] and third == [[10, 3], [30, 2]]
    legend = drawn[0].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]


def test_all_heads_are_side_by_side(drawn):
    maps = torch.rand(2, 3, 4, 4)
    whole = torch.tensor(figures.all_heads(maps, "c", "a"))
    assert whole.shape == (9, 14)
    assert torch.equal(whole[5:9, 10:14], maps[1, 2]) and torch.equal(whole[:4, 5:9], maps[0, 1])
    assert whole[4].isnan().all() and whole[:, 9].isnan().all()
    ax = drawn[0].axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["layer 1", "layer 2"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["head 1", "head 2", "head 3"]
    assert ax.get_yticks().tolist() == [1.5, 6.5]


def test_some_reviews_of_a_part_keep_their_labels():
    ids, labels = torch.arange(6).view(3, 2), torch.tensor([0, 1, 1])
    part = reviews.Part(("a", "b", "c"), ids, labels, torch.tensor([0.1, 0.8, 0.6]))
    some = figures.take(part, torch.tensor([2, 0]))
    assert some.texts == ("c", "a") and some.ids.tolist() == [[4, 5], [0, 1]]
    assert some.labels.tolist() == [1, 0] and some.shares.tolist() == pytest.approx([0.6, 0.1])


def test_weights_of_the_rivals_are_counted():
    # the, film, bored; the film, film bored
    assert figures.words_and_pairs(["The film bored.", "the film"]) == 5
    config = bert.BertConfig(10, width=4, heads=2, layers=2, hidden=8, max_length=6)
    counts = []
    for lowest in (-1, 0, 1, 2):
        model = bert.BertClassifier(bert.Bert(config), 2, pool="mean")
        counts.append(figures.count_learning(model, lowest))
    layer = sum(weight.numel() for weight in model.bert.encoder.layers[0].parameters())
    head = 4 * 2 + 2
    whole = sum(weight.numel() for weight in model.parameters())
    assert counts == [whole, head + 2 * layer, head + layer, head]


def test_the_nearest_sentence_is_on_top():
    ax = figures.nearest_figure("x", ["far", "near", "opposite"], [0.2, 0.9, -0.1]).axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["near", "far", "opposite"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1] and ax.get_xlim()[0] < 0


def test_scores_and_probes_give_back_what_they_draw(drawn):
    row = figures.score(80, 500, 3, 12)
    assert (row.accuracy, row.seconds, row.trained) == (80, 3, 12)
    assert (row.low, row.high) == pytest.approx(
        [100 * edge for edge in reviews.wilson_interval(400, 500)]
    )
    rows = {"svm": figures.Score(79, 77, 81, 3, 0), "net": figures.Score(86, 84, 88, 60, 5_324_162)}
    assert figures.scores(rows, "l", "c", "a") == {"svm": 79, "net": 86}
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert "weights" not in texts[0] and "5.32 M weights" in texts[1]
    assert "3.0 s" in texts[0] and "60 s" in texts[1]
    values = {"[CLS]": torch.tensor([70.0, 80.0]), "mean": torch.tensor([80.0, 82.0])}
    assert figures.probes({"before": values}, "c", "a") == {"before": {"[CLS]": 75, "mean": 81}}
    assert [figures.short(n) for n in (385, 1_234, 5_324_162)] == ["385", "1.23 k", "5.32 M"]
