"""Recipes on data of one's own: trained from the command line, saved, and asked."""

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import checkpoints, recipes
from course_lib.recipes import command
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


@pytest.mark.parametrize("name", ["cnn", "batch_norm", "resnet"])
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
    assert recipe.config == recipes.resnet(size="tiny").config and recipe.config.steps == 1000
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
    assert run("digits", "--data", "x") == 2
    error = capsys.readouterr().err
    assert error.startswith("digits takes no --data; allowed is it for batch_norm, ")
    assert "cnn, resnet" in error.replace("bert_pretraining, ", "")


def test_data_that_are_not_there_are_one_sentence(tmp_path, capsys):
    assert run("cnn", "--data", tmp_path / "none") == command.WRONG
    assert capsys.readouterr().err.endswith(
        "none is no folder; --data names one that holds your files\n"
    )
