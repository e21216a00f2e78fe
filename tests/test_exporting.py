"""Trained models asked and written for other programs: `predict`, `export`, ONNX, safetensors."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from course_lib import exporting, gpt, recipes
from course_lib.addition import Addition
from course_lib.bert import BertConfig, BertForPretraining
from course_lib.recipes import answers, command, trained
from course_lib.resnet import SmallResNet
from course_lib.subwords import SPECIAL, WordPiece


def onnx_outputs(path, *inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, (part.numpy() for part in inputs), strict=True)))


def assert_same(path, model, *inputs):
    with torch.no_grad():
        expected = model(*inputs)
    expected = [expected] if isinstance(expected, torch.Tensor) else expected
    found = onnx_outputs(path, *inputs)
    assert len(found) == len(expected)
    for ours, theirs in zip(expected, found, strict=True):
        torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=1e-4, atol=1e-5)


def test_images_come_out_the_same_in_any_number(tmp_path):
    model = SmallResNet((4, 8), (1, 1)).train()
    images = torch.randn(2, 1, 28, 28)
    model(images)  # running statistics that are not those of the start
    exporting.to_onnx(tmp_path / "m.onnx", model, (images,))
    assert not model.training
    assert_same(tmp_path / "m.onnx", model, torch.randn(5, 1, 28, 28))


def test_a_gpt_comes_out_the_same_for_any_length(tmp_path):
    for positions in ("rotary", "learned"):
        torch.manual_seed(0)
        model = gpt.GPT(gpt.GPTConfig(11, 12, 8, 2, 2, positions=positions)).eval()
        path = tmp_path / f"{positions}.onnx"
        exporting.to_onnx(path, model, (torch.randint(11, (2, 12)),))
        assert_same(path, model, torch.randint(11, (3, 7)))


def test_a_bert_comes_out_the_same_for_any_length_and_padding(tmp_path):
    torch.manual_seed(0)
    for rotary in (True, False):
        model = BertForPretraining(BertConfig(30, 16, 2, 2, 16, max_length=20, rotary=rotary))
        model.eval()

        def inputs(count, length, places, vocabulary=30):
            ids = torch.randint(vocabulary, (count, length))
            real = torch.arange(length) < torch.arange(length, length - count, -1)[:, None]
            return ids, (ids > 9).long(), real, torch.randint(length // 2, (count, places))

        path = tmp_path / f"{rotary}.onnx"
        exporting.to_onnx(path, model, inputs(2, 12, 3))
        assert_same(path, model, *inputs(4, 17, 5))


def test_what_fails_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        exporting._replace(tmp_path / "x.onnx", lambda file: file.write_text("half") and 1 / 0)
    assert list(tmp_path.iterdir()) == []


def run(name, *arguments):
    return getattr(recipes, name)([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Pictures in two classes, a classifier of them, and its weights."""
    root = tmp_path_factory.mktemp("colours")
    for number in range(20):
        folder = root / "pictures" / ("dark", "light")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 10 + 200 * (number % 2) + number).save(folder / f"{number}.png")
    (root / "pictures" / "note.txt").write_text("dear")
    arguments = ["--data", root / "pictures", "--epochs", 8, "--batch-size", 6]
    assert run("main", "resnet", *arguments, "--save", root / "w.pt") == 0
    return root


def test_a_trained_classifier_names_pictures_without_its_data(colours, capsys):
    moved = (colours / "pictures").rename(colours / "elsewhere")
    pictures = [moved / "dark" / "0.png", moved / "light" / "1.png"]
    assert run("predict", "resnet", "--weights", colours / "w.pt", *pictures) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{pictures[0]}: dark ") and "light" in first
    assert second.startswith(f"{pictures[1]}: light ")
    assert run("predict", "resnet", "--weights", colours / "w.pt", pictures[0]) == 0
    assert capsys.readouterr().out.startswith("dark ")
    moved.rename(colours / "pictures")


def test_it_can_be_written_for_other_programs(colours, tmp_path, capsys):
    onnx, tensors = tmp_path / "m.onnx", tmp_path / "m.safetensors"
    for path in (onnx, tensors):
        assert run("export", "resnet", "--weights", colours / "w.pt", "--to", path) == 0
        assert capsys.readouterr().out == f"{path} is written\n"
    model = trained.load(colours / "w.pt", "resnet", recipes.RECIPES).model
    assert_same(onnx, model, torch.rand(3, 1, 28, 28))
    with safe_open(tensors, "pt") as file:
        assert json.loads(file.metadata()["names"]) == ["dark", "light"]
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert weights.keys() == model.state_dict().keys()
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())
    assert run("export", "resnet", "--weights", colours / "w.pt", "--to", onnx) == command.WRONG
    assert "which exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "weights", "to", "sentence"),
    [
        ("resnet", "none.pt", "m.onnx", "which is no file; allowed is what train --save wrote"),
        ("cnn", "w.pt", "m.onnx", "holds weights of resnet, not of cnn"),
        ("resnet", "w.pt", "m.pt", "allowed are names that end in .onnx or .safetensors"),
        ("resnet", "pictures/dark/0.png", "m.onnx", "no trained model; allowed is what"),
        ("resnet", "pictures/note.txt", "m.onnx", "no trained model; allowed is what"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(colours, capsys, name, weights, to, sentence):
    code = run("export", name, "--weights", colours / weights, "--to", colours / to)
    error = capsys.readouterr().err
    assert code in (command.WRONG, command.FAILED) and sentence in error
    assert len(error.splitlines()) == 1 and not (colours / to).exists()


def test_texts_of_ones_own_are_continued_without_them(tmp_path, capsys, monkeypatch):
    small = partial(gpt.GPTConfig, width=8, heads=2, layers=1)
    row = recipes.language.Size(small, 4, {"steps": 2}, {"length": 16})
    monkeypatch.setitem(recipes.language.GPTS, "tiny", row)
    (tmp_path / "t.txt").write_text("abcdefgh " * 100)
    weights = tmp_path / "w.pt"
    assert run("main", "shakespeare", "--data", tmp_path / "t.txt", "--save", weights) == 0
    (tmp_path / "t.txt").unlink()
    capsys.readouterr()
    assert run("predict", "shakespeare", "--weights", weights, "bad") == 0
    text = capsys.readouterr().out.rstrip("\n")
    assert text.startswith("bad") and len(text) >= 290 and set(text) <= set("abcdefgh ")
    assert run("predict", "shakespeare", "--weights", weights, "xyz") == command.WRONG
    assert "text holds 'x' at place 0" in capsys.readouterr().err
    assert run("export", "shakespeare", "--weights", weights, "--to", tmp_path / "m.onnx") == 0
    model = trained.load(weights, "shakespeare", recipes.RECIPES).model
    assert_same(tmp_path / "m.onnx", model, torch.randint(9, (1, 5)))


def test_masked_words_are_filled_in():
    pieces = WordPiece([*SPECIAL, "the", "cat", "dog", "##s"])
    model = BertForPretraining(BertConfig(len(pieces), 8, 2, 1, 8, max_length=16)).eval()
    with torch.no_grad():
        model.word_bias[pieces.ids["dog"]] = 50
    assert answers.fill_in(pieces)(model, "the [MASK] the") == "the dog the"
    with pytest.raises(ValueError, match=r"INPUT is 'the cat'; needed is a text with \[MASK\]"):
        answers.fill_in(pieces)(model, "the cat")


def test_sums_are_read_as_typed():
    task = Addition(reverse=False)

    class Right(torch.nn.Module):
        """Knows the sum of 12 and 345."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, ids):
            digit = [0, 3, 5, 7][ids.shape[1] - task.prompt_length]
            assert ids[0, :7].tolist() == task.prompts(torch.tensor([[12, 345]]))[0, :7].tolist()
            return torch.eye(12)[torch.full(ids.shape, digit)]

    assert answers.add(task)(Right(), "12 + 345=") == "357"
    for wrong in ("12", "1+2+3", "1+a", "1234+1", "-1+3"):
        with pytest.raises(ValueError, match="two numbers of at most 3 digits"):
            answers.add(task)(Right(), wrong)


def test_a_recipe_without_an_answer_says_so(tmp_path, capsys):
    def mute(**options):
        recipe = recipes.cnn(**options)
        return replace(recipe, predict=None)

    recipe = recipes.cnn(source=["a", "b"])
    trained.save(tmp_path / "w.pt", "mute", None, recipe)
    arguments = ["mute", "--weights", str(tmp_path / "w.pt"), "x"]
    assert command.predict(arguments, {"mute": mute}) == command.WRONG
    assert "mute has no way to answer" in capsys.readouterr().err


def test_probabilities_are_those_of_the_picture(colours):
    recipe = trained.load(colours / "w.pt", "resnet", recipes.RECIPES)
    path = colours / "pictures" / "light" / "1.png"
    pixels = torch.from_numpy(np.array(Image.open(path)))[None, None].float() / 255
    with torch.no_grad():
        logits = recipe.model(pixels) + recipe.model(pixels.flip(3))
    share = 100 * logits.softmax(1)[0, 1].item()
    name, said, *_ = recipe.predict(recipe.model, str(path)).split()
    assert name == "light" and float(said) == pytest.approx(share, abs=2)  # it may use bfloat16
