"""The figures of chapter 09 show what the model says, and bear whatever a reader types."""

import pytest
import torch

from course_lib.batches import IGNORED
from course_lib.characters import Dictionary
from course_lib.gpt import GPT, GPTConfig
from course_lib.teaching import plot
from course_lib.teaching.figures import ch09 as figures

WORDS = Dictionary("abcdef \n")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = GPT(GPTConfig(len(WORDS), 8, width=8, heads=2, layers=1)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


RULES = {"temperature": 0.8, "top_k": 8, "top_p": 1.0}


def test_the_chances_are_those_after_the_end_of_the_prompt(model):
    prompt = "abc def abc"  # longer than the context
    chances = figures.next_chances(model, WORDS, prompt)
    with torch.no_grad():
        wanted = model(WORDS.encode(prompt[-8:])[None])[0, -1].softmax(-1)
    torch.testing.assert_close(torch.tensor(list(chances.values())), wanted)
    assert list(chances) == list(WORDS.symbols)
    assert len(figures.next_chances(model, WORDS, prompt, top_k=3)) == 3
    assert len(figures.next_chances(model, WORDS, prompt, temperature=0)) == 1


def test_a_continuation_goes_on_beyond_the_context_and_follows_the_seed(model):
    texts = [figures.continuation(model, WORDS, "ab", 30, seed, **RULES) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert all(len(text) == 32 and text.startswith("ab") for text in texts)


@pytest.mark.parametrize("prompt", ["abc", "", "x$y$", "a" * 50, "a\n\n b", " "])
def test_the_explorer_bears_any_prompt(model, prompt):
    fig = figures.explorer_figure(model, WORDS, prompt, **RULES, seed=0)
    assert plot.to_png(fig) == plot.to_png(
        figures.explorer_figure(model, WORDS, prompt, **RULES, seed=0)
    )


def test_an_unknown_symbol_is_named_and_nothing_is_drawn(model):
    fig = figures.explorer_figure(model, WORDS, "abx", **RULES, seed=0)
    texts = [text.get_text() for ax in fig.axes for text in ax.texts]
    assert texts == ["'x' is not in the dictionary."]


def test_a_change_of_the_rules_changes_the_picture(model):
    plain = plot.to_png(figures.explorer_figure(model, WORDS, "abc", **RULES, seed=0))
    for change in ({"temperature": 0.1}, {"top_k": 2}, {"top_p": 0.3}, {"seed": 3}):
        rules = {**RULES, "seed": 0} | change
        assert plot.to_png(figures.explorer_figure(model, WORDS, "abc", **rules)) != plain


def test_next_symbols_gives_the_likeliest_first(displayed):
    drawn = figures.next_symbols({"one": {"a": 0.2, "b": 0.5, " ": 0.3}}, "c", "a", shown=2)
    assert list(drawn["one"].items()) == [("b", 0.5), (" ", 0.3)]


def test_next_symbols_says_how_many_may_follow_and_fits_the_range(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    low, high = {"a": 0.4, "b": 0.3, "c": 0.3, "d": 0.0}, {"a": 0.9, "b": 0.1}
    figures.next_symbols({"low": low}, "c", "a", shown=2)
    figures.next_symbols({"low": low, "high": high}, "c", "a", shown=2)
    axes = [ax for fig in shown for ax in fig.axes]
    titles = [ax.get_title() for ax in axes]
    assert titles == ["low\n3 may follow", "low\n3 may follow", "high\n2 may follow"]
    assert [ax.get_xlim()[1] for ax in axes] == [0.5, 1, 1]


def test_completion_gives_the_pairs_that_count(displayed):
    counted = figures.completion("12=", [IGNORED, IGNORED, "3"], "c", "a")
    assert counted == [("=", "3")]


def test_surprise_finds_the_most_surprising_characters_across_lines(displayed):
    text = "abc def\n" * 30
    values = [0.1] * len(text)
    values[100], values[7] = 5.0, 4.0
    worst = figures.surprise(text, values, "c", "a", columns=5)
    assert worst[0] == (figures.visible(text[90:101]), 5.0) and worst[1][0].endswith("↵")


def test_losses_and_speed_give_what_they_compare(displayed):
    counted = {"plain": {0: 3.0, 1: 2.0, 2: 2.5}, "mixed": {0: 3.0, 1: 2.0, 2: 1.8}}
    lines = figures.losses(counted, {"GPT": 1.5}, "c", "a")
    assert lines == {"plain": 2.0, "mixed": 1.8, "GPT": 1.5}
    assert figures.speed({"slow": [1.0, 4.0], "fast": [0.5, 1.0]}, [1, 2], "c", "a") == [2.0, 4.0]
    ends = figures.curves({"a": [3, 2], "b": [1]}, "y", "c", "a", levels={"l": 1.0}, first=1)
    assert ends == {"a": 2, "b": 1}


def test_maps_of_a_text(displayed):
    drawn = figures.text_maps({"head": torch.eye(3)}, "a\nb", "c", "a")
    assert drawn == {"head": torch.eye(3).tolist()}


def test_maps_of_a_text_frame_the_row_that_matters(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    maps = {"one": torch.eye(40), "two": torch.eye(40)}
    figures.text_maps(maps, "a" * 40, "c", "a", framed={"one": 2, "two": 7})
    frames = [ax.patches[0].get_bbox().bounds for ax in shown[0].axes]
    assert frames == [(-0.5, 1.5, 40, 1), (-0.5, 6.5, 40, 1)]
    label = shown[0].axes[0].get_yticklabels()[0].get_fontsize()
    assert shown[0].get_figheight() * 72 / 40 > label  # the names of the rows do not touch
