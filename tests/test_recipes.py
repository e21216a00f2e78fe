"""Recipes, as the notebooks and the command line use them."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from course_lib import checkpoints, data, decoding, dropout, recipes, translations
from course_lib.recipes import images as images_recipes


def test_digits_learns_what_it_is_shown(monkeypatch):
    monkeypatch.setenv("COURSE_TEST", "1")
    recipe = recipes.digits(steps=30)
    before = recipe.test(recipe.model)["accuracy"]
    recipe.fit()
    assert before < 0.3 and recipe.test(recipe.model)["accuracy"] > 0.85


def test_test_digits_are_never_trained_on():
    recipe = recipes.digits()
    images = recipe.batches.tensors[0]
    assert len(images) == 60_000


def test_the_seed_decides_the_weights():
    first, second, third = (recipes.digits(seed=seed).model.state_dict() for seed in (1, 1, 2))
    name = "classify.weight"
    assert torch.equal(first[name], second[name]) and not torch.equal(first[name], third[name])


def test_changes_reach_the_config():
    config = recipes.digits(steps=7, learning_rate=0.5).config
    assert (config.steps, config.learning_rate) == (7, 0.5)


def command(*arguments, launcher=()):
    return subprocess.run(
        [sys.executable, *launcher, "-m", "course_lib", "train", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COURSE_TEST": "1", "COURSE_QUICK": "0"},
    )


@pytest.mark.slow
def test_command_line_trains_saves_and_says_the_result(tmp_path):
    done = command("digits", "--steps", "2", "--save", str(tmp_path / "weights.pt"))
    assert done.returncode == 0, done.stderr
    assert "2 steps in" in done.stdout and "test accuracy:" in done.stdout
    saved = checkpoints.load(tmp_path / "weights.pt")
    assert saved["weights"].keys() == recipes.digits().model.state_dict().keys()


@pytest.mark.slow
def test_bad_arguments_end_in_one_sentence():
    done = command("digits", "--steps", "0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("steps is 0; allowed are whole numbers from 1")


@pytest.mark.slow
def test_several_processes_share_a_recipe_and_one_of_them_speaks():
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = command("digits", "--steps", "2", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy:") == 1


@pytest.mark.slow
def test_several_processes_share_a_recipe_and_its_weights(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (tmp_path / "text.txt").write_text("to be or not to be\n" * 300)
    options = ["--data", str(tmp_path / "text.txt"), "--size", "small", "--batch-size", "2"]
    options += ["--steps", "2", "--save", str(tmp_path / "w.pt"), "--shard"]
    done = command("shakespeare", *options, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test held-out loss:") == 1
    saved = checkpoints.load(tmp_path / "w.pt")
    model = recipes.shakespeare(size="small", source=saved["names"]).model
    model.load_state_dict(saved["weights"])


def test_few_clothes_are_drawn_from_the_training_images_and_none_is_held_out_too():
    (images, labels), (held_images, held_labels) = recipes.few_clothes(draw=2, count=300)
    assert images.shape == (300, 1, 28, 28) and images.min() >= 0 and images.max() == 1
    assert (len(labels), len(held_images), len(held_labels)) == (300, 2000, 2000)
    clothes = data.load("fashion_mnist")
    known = {image.numpy().tobytes() for image in recipes.scale_pixels(clothes.x_train)}
    assert all(image.numpy().tobytes() in known for image in images)
    held = {image.numpy().tobytes() for image in held_images}
    shared = sum(image.numpy().tobytes() in held for image in images)
    assert shared <= 1  # the set itself holds a few pictures twice
    again, other = (recipes.few_clothes(draw, 300)[0][0] for draw in (2, 3))
    assert again.equal(images) and not other.equal(images)
    with pytest.raises(ValueError, match="images is 58001; allowed are 1 to 58000"):
        recipes.few_clothes(0, 58_001)


def test_the_dropout_recipe_passes_on_what_it_is_given():
    recipe = recipes.dropout(seed=1, draw=2, p=0.3, p_maps=0.1, weight_decay=0.7, steps=5)
    assert [m.p for m in recipe.model.modules() if hasattr(m, "p")] == [0.1, 0.1, 0.3]
    assert (recipe.config.weight_decay, recipe.config.steps, recipe.config.seed) == (0.7, 5, 1)
    assert recipe.batches.tensors[0].equal(recipes.few_clothes(2, 1500)[0][0])
    assert recipes.dropout(seed=1).batches.tensors[0].equal(recipes.few_clothes(1, 1500)[0][0])


def test_the_dropout_recipe_smooths_its_labels():
    recipe = recipes.dropout(p=0.0, smoothing=0.2)
    images, labels = next(iter(recipe.batches))
    expected = F.cross_entropy(recipe.model(images), labels, label_smoothing=0.2)
    torch.testing.assert_close(recipe.loss(recipe.model, (images, labels)), expected)


def test_the_dropout_recipe_adds_its_l1_penalty_to_the_loss():
    plain, penalised = (recipes.dropout(p=0.0, l1=l1) for l1 in (0.0, 0.01))
    batch = next(iter(plain.batches))
    size = sum(w.abs().sum() for w in plain.model.parameters() if w.ndim >= 2)
    first, second = (recipe.loss(plain.model, batch) for recipe in (plain, penalised))
    torch.testing.assert_close(second - first, 0.01 * size)


def test_the_batch_norm_recipe_mirrors_in_training_only(monkeypatch):
    monkeypatch.setenv("COURSE_TEST", "1")
    recipe = recipes.batch_norm(steps=60, batch_size=128)
    clothes = data.load("fashion_mnist")
    assert recipe.batches.tensors[0].equal(clothes.x_train)
    images, _ = recipe.batches.transform((clothes.x_train[:64], None), torch.Generator())
    plain = recipes.scale_pixels(clothes.x_train[:64])
    mirrored = (images == plain.flip(3)).all(dim=(1, 2, 3))
    assert ((images == plain).all(dim=(1, 2, 3)) | mirrored).all() and 16 < mirrored.sum() < 48
    assert recipe.test(recipe.model)["accuracy"] < 0.3
    recipe.fit()
    assert recipe.test(recipe.model)["accuracy"] > 0.75


def test_both_sides_of_a_picture_are_looked_at_when_testing():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3)).double()
    images = torch.randn(5, 1, 2, 3, dtype=torch.float64)
    both = images_recipes.predict_both_sides(model, images)
    assert torch.allclose(both, images_recipes.predict_both_sides(model, images.flip(3)))
    wanted = model(images) + model(images.flip(3))
    torch.testing.assert_close(both, wanted.float())


def test_smoothed_labels_are_those_of_chapter_03():
    model = torch.nn.Linear(4, 3)
    inputs, labels = torch.randn(6, 4), torch.randint(3, (6,))
    wanted = F.cross_entropy(model(inputs), dropout.smooth_labels(labels, 0.1, 3))
    torch.testing.assert_close(recipes.classification_loss(model, (inputs, labels), 0.1), wanted)


def perfect_translator(task, spoil=0):
    """Stands in for `decoding.greedy`: the references' ids, the first `spoil` said twice."""

    def greedy(model, source, max_length):
        assert source.equal(task.test.source)
        ids = [task.french.encode(task.french.decode(row)) for row in task.test.target]
        return SimpleNamespace(ids=[row * 2 if i < spoil else row for i, row in enumerate(ids)])

    return greedy


def test_number_words_count_when_wholly_right(monkeypatch):
    task = translations.number_words()
    recipe = recipes.number_words(steps=1)
    for spoil, exact in ((0, 1.0), (500, 0.75)):
        monkeypatch.setattr(decoding, "greedy", perfect_translator(task, spoil))
        assert recipe.test(recipe.model) == {"exact": exact}


def test_dialogue_is_measured_by_bleu_on_the_test_lines(monkeypatch):
    task = translations.dialogue()
    recipe = recipes.dialogue(steps=1)
    assert recipe.batches.tensors[0].equal(task.development.source)
    monkeypatch.setattr(decoding, "greedy", perfect_translator(task))
    best = recipe.test(recipe.model)["BLEU"]
    monkeypatch.setattr(decoding, "greedy", perfect_translator(task, spoil=500))
    assert recipe.test(recipe.model)["BLEU"] < 0.8 * best and 60 < best < 100  # some are unknown


def test_own_pairs_are_tested_on_lines_that_were_not_learned_from(tmp_path):
    lines = [f"dog {number} runs\tle chien {number} court" for number in range(40)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    recipe = recipes.dialogue(steps=1, source=tmp_path / "pairs.txt")
    assert 0 < len(recipe.batches.tensors[0]) < 40


def test_dialogue_starts_from_the_dictionary_of_its_lines():
    task, model = translations.dialogue(), recipes.dialogue(steps=1).model
    french = model.target_embedding.weight
    for word, other in (("water", "eau"), ("sister", "sœur"), ("seven", "sept")):
        vector = model.source_embedding.weight[task.english.ids[word]]
        likeness = torch.cosine_similarity(vector[None], french)
        assert likeness.argmax().item() == task.french.ids[other]


def test_a_short_run_learns_numbers(monkeypatch):
    monkeypatch.setenv("COURSE_TEST", "1")
    recipe = recipes.number_words(steps=12, warmup=0.0)
    loss = recipe.fit().loss
    assert loss[-1] < 0.8 * loss[0]
