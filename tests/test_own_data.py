"""Recipes on data of one's own: trained from the command line, saved, and asked."""

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import (
    characters,
    checkpoints,
    data,
    pretraining,
    recipes,
    subwords,
    token_files,
)
from course_lib.checksums import DataError
from course_lib.recipes import command, language, trained
from course_lib.resnet import ResNet


def run(*arguments):
    return recipes.main([str(argument) for argument in arguments])


@pytest.fixture
def pictures(tmp_path):
    """36 noisy pictures of three colours, in folders of their names."""
    noise = np.random.default_rng(0)
    root = tmp_path / "pictures"
    for number in range(36):
        kind = number % 3
        pixels = noise.integers(0, 60, (30, 40, 3), dtype=np.uint8)
        pixels[..., kind] += 150
        folder = root / ("red", "green", "blue")[kind]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return root


@pytest.mark.parametrize("name", ["cnn", "batch_norm", "resnet", "dropout", "mlp"])
def test_classifiers_learn_pictures_of_ones_own(pictures, tmp_path, capsys, name):
    file = tmp_path / "weights.pt"
    arguments = ["--data", pictures, "--epochs", 4, "--batch-size", 8, "--save", file]
    assert run(name, *arguments) == 0
    output = capsys.readouterr().out
    assert "20 steps in" in output and "test accuracy: " in output
    assert checkpoints.load(file)["names"] == ["blue", "green", "red"]


def test_colours_are_learned_by_a_resnet_of_the_paper(pictures):
    recipe = recipes.resnet(size="small", source=str(pictures), batch_size=6, steps=3)
    assert isinstance(recipe.model, ResNet) and recipe.model.fc.out_features == 3
    images, labels = next(iter(recipe.batches))
    assert images.shape == (6, 3, 128, 128) and labels.shape == (6,)
    assert images.mean((2, 3)).argmax(1).tolist() == [(2, 1, 0)[i] for i in labels.tolist()]
    assert recipe.config.optimizer == "sgd" and recipe.config.steps == 3


def test_clothes_are_enlarged_for_a_large_network():
    recipe = recipes.resnet(size="small", batch_size=2)
    images, _ = next(iter(recipe.batches))
    assert images.shape == (2, 3, 128, 128) and images.max() <= 1
    assert recipe.model.fc.out_features == 10


def test_sizes_are_the_papers():
    with torch.device("meta"):
        row = recipes.images.RESNETS["base"]
        assert sum(p.numel() for p in row.make().parameters()) == 25_557_032
    assert (row.batch_size, row.training["learning_rate"], row.data["side"]) == (256, 0.1, 224)
    with pytest.raises(ValueError, match="size is 'huge'; allowed are tiny, small, base"):
        recipes.resnet(size="huge")


def test_the_chapters_resnet_is_the_tiny_one():
    recipe = recipes.resnet()
    assert recipe.config == recipes.resnet(size="tiny").config and recipe.config.steps == 1200
    assert (recipe.batches.batch_size, recipe.config.optimizer) == (128, "muon")


def test_names_of_classes_are_enough_to_build_the_model(pictures):
    recipe = recipes.cnn(source=["blue", "green", "red"])
    assert recipe.model.classify.out_features == 3 and len(recipe.batches) == 1
    with torch.no_grad():
        recipe.model.classify.weight.zero_()
        recipe.model.classify.bias.copy_(torch.tensor([0.0, 5.0, 0.0]))
    answer = recipe.predict(recipe.model.eval(), str(pictures / "red" / "00.png"))
    assert answer.startswith("green 98.7 %, ")


def test_a_recipe_without_such_a_choice_says_which_have_it(capsys):
    assert run("number_words", "--data", "x") == 2
    error = capsys.readouterr().err
    assert error.startswith("number_words takes no --data; allowed is it for batch_norm, ")
    assert "cnn, " in error and "tutorial" not in error


def test_data_that_are_not_there_are_one_sentence(tmp_path, capsys):
    assert run("cnn", "--data", tmp_path / "none") == command.WRONG
    assert capsys.readouterr().err == (
        f"--data is {tmp_path / 'none'}, no path; allowed is a path of your own files, or the "
        "name of a set: mnist, fashion_mnist, cifar10\n"
    )
    (tmp_path / "file.txt").write_text("x")
    assert run("cnn", "--data", tmp_path / "file.txt") == command.WRONG
    assert "file.txt is no folder; --data names one" in capsys.readouterr().err


# --- sets of the course, by name ---------------------------------------------------------------


@pytest.fixture
def few_images(monkeypatch):
    """Sets of 60 + 30 random images, in colours if their side is 32."""

    def make(side):
        images = torch.randint(256, (90, 3 if side == 32 else 1, side, side), dtype=torch.uint8)
        labels = torch.arange(90) % 10
        names = tuple(f"kind {i} of {side}" for i in range(10))
        return data.Images(images[:60], labels[:60], images[60:], labels[60:], names)

    sets = {"mnist": make(28), "fashion_mnist": make(28), "cifar10": make(32)}
    monkeypatch.setattr(data, "load", sets.__getitem__)
    return sets


def test_a_classifier_learns_another_set_by_its_name(few_images, tmp_path, capsys):
    default = recipes.cnn().batches.tensors[0]
    assert default.equal(few_images["mnist"].x_train)
    recipe = recipes.cnn(source="fashion_mnist")
    assert recipe.batches.tensors[0].equal(few_images["fashion_mnist"].x_train)
    assert recipes.batch_norm(source="mnist").batches.tensors[0].equal(default)
    file = tmp_path / "w.pt"
    assert run("cnn", "--data", "fashion_mnist", "--steps", 2, "--save", file) == 0
    assert "test accuracy: " in capsys.readouterr().out
    # Without the names, its weights would be taken for those of digits.
    assert checkpoints.load(file)["names"] == list(few_images["fashion_mnist"].classes)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_small_colour_images_fit_every_network(few_images, size):
    recipe = recipes.resnet(size=size, source="cifar10", batch_size=4)
    images, _ = next(iter(recipe.batches))
    assert images.shape == ((4, 1, 28, 28) if size == "tiny" else (4, 3, 128, 128))
    if size == "tiny":
        assert 0 <= recipe.test(recipe.model)["accuracy"] <= 1


def test_a_name_that_is_a_set_and_a_folder_is_refused(pictures, monkeypatch, capsys):
    monkeypatch.chdir(pictures.parent)
    pictures.rename("mnist")
    assert run("cnn", "--data", "mnist") == 2
    assert capsys.readouterr().err == (
        "--data is mnist, a set of the course and also a path here; ./mnist means the path, and "
        "the set has its name to itself in another folder\n"
    )
    assert recipes.cnn(source="./mnist").names == ("blue", "green", "red")
    (pictures.parent / "mnist").rename("austen")  # no set for this recipe: only the path is meant
    assert recipes.cnn(source="austen").names == ("blue", "green", "red")


@pytest.mark.parametrize(
    ("recipe", "name", "sentence"),
    [
        ("cnn", "austen", "a set of the course for another recipe; .* mnist, fashion_mnist"),
        ("shakespeare", "mnist", "for another recipe; .* shakespeare, wikipedia, austen"),
        ("bert_pretraining", "wikipedias", "no path; .* set: wikipedia, austen"),
        ("review_tuning", "x", "no path; .* set: movie_reviews"),
        ("dialogue", "x", "no path; .* set: english_french"),
        ("yolo", "x", "no path; .* set: photo_scenes"),
        ("dropout", "cifar10", "for another recipe; .* set: fashion_mnist, mnist"),
    ],
)
def test_what_is_neither_a_set_nor_a_path_is_told_both(recipe, name, sentence):
    with pytest.raises(ValueError, match=f"--data is {name}, .*{sentence}"):
        recipes.RECIPES[recipe](source=name)


def test_gpt_reads_articles_and_chapters(monkeypatch):
    documents = [
        data.Document("a", ("One.", "Two."), False),
        data.Document("b", ("Three?",), True),
        data.Document("c", ("Four.",), False),
    ]
    monkeypatch.setattr(data, "load", {"austen": documents}.__getitem__)
    monkeypatch.setitem(language.GPTS["tiny"].data, "length", 4)
    recipe = recipes.shakespeare(source="austen", batch_size=2)
    dictionary = characters.Dictionary(recipe.names)
    assert dictionary.decode(recipe.batches.tensors[0]) == "One.\n\nTwo.\n\nFour."
    assert set("Three?") <= set(recipe.names) and recipe.test(recipe.model)["held-out loss"] > 0


def test_bert_reads_one_of_its_two_sets(monkeypatch):
    kinds = [[[[6, 7], [8], [9, 10]]] * 3, [[[21, 22], [23, 24], [25]]] * 2]
    both = pretraining.cut_passages(kinds, 3, 30)
    pieces = subwords.WordPiece(["[UNK]", *(f"piece{number}" for number in range(29))])
    texts = pretraining.PretrainingSet(pieces, both, both)
    monkeypatch.setattr(pretraining, "load", lambda **_: texts)
    for number, name in enumerate(("wikipedia", "austen")):
        alone = pretraining.cut_passages([kinds[number]], 3, 30)
        for chosen in (lambda t: t.train, lambda t: t.test):
            found = chosen(language._of_kind(texts, number))
            assert found.bounds.equal(alone.bounds) and found.sizes.equal(alone.sizes)
            assert found.ids[found.starts].equal(alone.ids[alone.starts])
        recipe = recipes.bert_pretraining(source=name, batch_size=2)
        assert len(recipe.batches.tensors[0]) == len(alone) and recipe.names == pieces.pieces


# --- tables ------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """60 sentences with one of three words that tell the class, which stands before them."""
    words = {"tea": "kettle", "sea": "harbour", "pay": "invoice"}
    rows = [
        f"{kind}\tthe {words[kind]} of {number} days"
        for number in range(20)
        for kind in ("tea", "sea", "pay")
    ]
    file = tmp_path / "texts.tsv"
    file.write_text("\n".join(rows) + "\n")
    return file


def test_minilm_learns_classes_of_ones_own(table, tmp_path, capsys):
    file = tmp_path / "w.pt"
    recipe = recipes.review_tuning(source=str(table), steps=12, layers=5, learning_rate=0.005)
    assert recipe.names == ("pay", "sea", "tea") and recipe.model.output.out_features == 3
    recipe.fit()
    assert recipe.test(recipe.model)["accuracy"] > 0.8
    trained.save(file, "review_tuning", None, recipe)
    assert recipes.predict(["review_tuning", "--weights", str(file), "my kettle is old"]) == 0
    answer = capsys.readouterr().out
    assert answer.startswith("tea ") and answer.count("%") == 3


def test_a_translator_learns_pairs_of_ones_own(tmp_path, capsys):
    nouns = [("cat", "Katze"), ("duck", "Ente"), ("cow", "Kuh"), ("goat", "Ziege")]
    lines = [
        f"the {a} sees the {b}\tdie {c} sieht die {d}\textra" for a, c in nouns for b, d in nouns
    ]
    file, weights = tmp_path / "pairs.tsv", tmp_path / "w.pt"
    file.write_text("\n".join(lines * 3) + "\n")
    recipe = recipes.dialogue(source=str(file), steps=60, batch_size=16)
    recipe.fit()
    assert recipe.test(recipe.model)["BLEU"] > 80
    trained.save(weights, "dialogue", None, recipe)
    arguments = ["dialogue", "--weights", str(weights), "The goat sees the duck"]
    assert recipes.predict(arguments) == 0
    assert capsys.readouterr().out == "die ziege sieht die ente\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a\tb\n" * 9, "holds 9 lines; needed are 10 or more"),
        ("a\tb\n" * 9 + "only\n", "line 10 is 'only'; allowed are two texts with a TAB between"),
        ("a\tb\n" * 12, "holds 1 classes in 11 lines; needed are two or more"),
        ("".join(f"text {i}\tgood\n" for i in range(20)), "holds 20 classes in 18 lines"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, text, sentence):
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(DataError, match=f"x.tsv.* {sentence}"):
        token_files.open_classes(tmp_path / "x.tsv")


def test_lines_without_text_do_not_count(tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\n\n" * 10)
    train, test = token_files.open_pairs(tmp_path / "x.tsv")
    assert (train, test) == ([("a", "b")] * 9, [("a", "b")])
