"""The figures of chapter 06 draw what they say, its word vectors and its toy tasks are right."""

import pytest
import torch

from course_lib import attention
from course_lib.teaching import plot, toys, words
from course_lib.teaching.figures import ch06 as figures


def captions(displayed):
    return [bundle["text/plain"] for bundle, _ in displayed if "text/markdown" in bundle]


# --- words -------------------------------------------------------------------------------------


def test_a_word_has_its_traits_whatever_its_case_and_punctuation():
    river = dict(zip(words.TRAITS, words.vector("River,").tolist(), strict=True))
    assert [trait for trait, value in river.items() if value] == ["water", "place"]
    assert set(words.vector("bank").tolist()) == {0.0, 2.0}
    assert words.vector("zebra").eq(0).all()


def test_a_sentence_becomes_words_and_vectors():
    names, x = words.vectors("the cat  eats zebra")
    assert names == ["the", "cat", "eats", "zebra"] and x.shape == (4, len(words.TRAITS))
    assert all(words.vector(word).any() for word in words.known()) and "bank" in words.known()
    with pytest.raises(ValueError, match="sentence is '  '; allowed is text"):
        words.vectors("  ")


# --- maps --------------------------------------------------------------------------------------


def test_maps_return_the_weights_and_draw_one_square_each(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "show", lambda fig, *_: shown.append(fig))
    panels = {"a": (torch.eye(3), "xyz", "xyz"), "b": (torch.ones(2, 4) / 4, "pq", "rstu")}
    found = figures.maps(panels, "c", "a", numbers=True)
    assert found["a"] == torch.eye(3).tolist() and len(found["b"][0]) == 4
    axes = shown[0].axes[:2]
    assert [len(ax.texts) for ax in axes] == [9, 8]
    assert [label.get_text() for label in axes[1].get_xticklabels()] == list("rstu")
    assert [label.get_text() for label in axes[1].get_yticklabels()] == list("pq")


def test_weights_of_finds_every_attention_with_its_mask():
    torch.manual_seed(0)
    config = attention.TransformerConfig(8, 2, 2, 16)
    decoder, x, memory = (
        attention.Decoder(config).eval(),
        torch.randn(3, 4, 8),
        torch.randn(3, 5, 8),
    )
    found = figures.weights_of(decoder, x, memory)
    assert [tuple(weights.shape[2:]) for weights in found] == [(4, 4), (4, 5)] * 2
    assert found[0][..., ~attention.causal_mask(4)].eq(0).all()
    layer, placed = decoder.layers[0], decoder.place(x)
    wanted = layer.self_attn.weights(layer.norm1(placed), mask=attention.causal_mask(4))
    torch.testing.assert_close(found[0], wanted)
    assert not any(module._forward_pre_hooks for module in decoder.modules())


def test_a_soft_lookup_is_a_table_when_cold_and_a_mean_when_hot(displayed):
    answers = figures.lookup((0.01, 1e6), "c", "a")
    assert answers[0.01] == pytest.approx([10, 30, 20, 40])
    assert answers[1e6] == pytest.approx([25] * 4, abs=0.01)
    assert captions(displayed) == ["c"]


# --- the explorer ------------------------------------------------------------------------------

SENTENCE = "the cat sees a mouse"


@pytest.mark.parametrize("head", figures.HEADS)
@pytest.mark.parametrize("mask", figures.MASKS)
def test_explored_weights_sum_to_one_and_keep_to_the_mask(head, mask):
    names, weights = figures.explored_weights(SENTENCE, head, 1.0, mask)
    assert names == SENTENCE.split()
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    if mask == "causal":
        assert weights.triu(1).eq(0).all()
    if mask == "without small words":
        assert weights[:, [0, 3]].eq(0).all() and weights[:, 1].gt(0).all()


def test_what_each_head_looks_at():
    def strongest(head):
        return figures.explored_weights(SENTENCE, head, 0.3, "none")[1].argmax(1).tolist()

    same = figures.explored_weights(SENTENCE, "the same meaning", 1.0, "none")[1]
    assert same[1, 4] > same[1, 2] and same[0, 3] > same[0, 1]
    assert strongest("the word before")[1:] == [0, 1, 2, 3]
    assert strongest("the first word") == [0] * 5


def test_temperature_sharpens_and_flattens():
    weights = [
        figures.explored_weights(SENTENCE, "the same meaning", t, "none")[1].max(1).values.mean()
        for t in (0.2, 1.0, 4.0)
    ]
    assert weights[0] > weights[1] > weights[2]


def test_only_small_words_leave_nothing_to_look_at():
    _, weights = figures.explored_weights("the of a", "the same meaning", 1, "without small words")
    assert weights.eq(0).all()


@pytest.mark.parametrize("sentence", ["", "zebra", SENTENCE, "word " * 40])
def test_the_explorer_draws_whatever_is_typed(sentence):
    fig = figures.explorer_figure(sentence, "the same meaning", 1.0, "none")
    assert plot.to_png(fig)
    said = fig.axes[0].get_title() + "".join(t.get_text() for t in fig.axes[0].texts)
    assert ("Type some words" in said) == (not sentence)
    assert ("not in the table" in said) == ("zebra" in sentence or "word" in sentence)


# --- positions and layers ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sinusoidal", "rotary"])
def test_positions_are_alike_by_their_distance(kind):
    alike = figures.position_scores(kind, 20, 8)
    torch.testing.assert_close(alike.diagonal(), torch.ones(20))
    torch.testing.assert_close(alike[:-3, 3:].diagonal(), alike[2, 5].expand(17))


def test_the_positions_figure_marks_the_chosen_one():
    left, right = figures.positions_figure(16, 7).axes[:2]
    assert left.images[0].get_array().shape == (64, 16)
    curve = right.lines[0].get_ydata()
    assert curve.argmax() == 7 and max(curve) == pytest.approx(1)


def test_plans_have_norms_where_they_belong(displayed):
    plans = figures.layer_plans("c", "a")
    assert plans["pre-norm"].index("norm") == 0 and plans["post-norm"].index("norm") == 2
    assert captions(displayed) == ["c"]


# --- toys --------------------------------------------------------------------------------------


def test_the_tasks_are_what_they_are_called():
    tokens = toys.digits(3, 1)
    assert tokens.shape == (3, toys.LENGTH) and tokens.max() < toys.DIGITS
    assert toys.backwards(tokens)[0].tolist() == tokens[0].tolist()[::-1]
    assert toys.first(tokens).eq(tokens[:, :1]).all()
    numbers, said, answers = toys.numbers_to_sort(50, 1)
    assert all(row.tolist() == sorted(set(row.tolist())) for row in answers)
    assert numbers.sort(1).values.equal(answers)
    assert said[:, 0].eq(toys.NUMBERS).all() and said[:, 1:].equal(answers[:, :-1])


@pytest.mark.parametrize("name", ["reverse", "copy_first", "sort"])
def test_training_and_test_are_drawn_apart_and_runs_repeat(name):
    recipe, again, other = (getattr(toys, name)(seed=seed, steps=2) for seed in (3, 3, 4))
    trained_on = {tuple(row) for row in recipe.batches.tensors[0].tolist()}
    held_out = recipe.test.keywords["batch"][0].tolist()
    assert not trained_on & {tuple(row) for row in held_out}
    losses = [each.fit().loss for each in (recipe, again, other)]
    assert losses[0] == losses[1] != losses[2]
    assert set(recipe.test(recipe.model)) == {"accuracy", "sequences"}


def test_reverse_is_learned_soon_by_looking_backwards():
    recipe = toys.reverse(steps=200)
    recipe.fit()
    assert recipe.test(recipe.model)["accuracy"] > 0.99
    (weights,) = figures.weights_of(recipe.model, toys.digits(20, 5))
    assert weights.argmax(-1).eq(torch.arange(toys.LENGTH).flip(0)).double().mean() > 0.98


def test_accuracy_counts_places_and_whole_sequences():
    class Echo(torch.nn.Module):
        def forward(self, tokens):
            return torch.nn.functional.one_hot(tokens, toys.DIGITS).float()

    tokens = toys.digits(4, 1)
    answers = tokens.clone()
    answers[0, 0] = (answers[0, 0] + 1) % toys.DIGITS
    found = toys.token_accuracy(Echo(), (tokens, answers))
    assert found == {"accuracy": 1 - 1 / tokens.numel(), "sequences": 0.75}
