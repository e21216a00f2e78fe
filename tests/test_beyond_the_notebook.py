"""The page docs/beyond_the_notebook.md: each of its commands is run, with tiny nets, for a step."""

import inspect
import json
import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import __main__ as cli
from course_lib import data, recipes
from course_lib.bert import BertConfig
from course_lib.gpt import GPTConfig
from course_lib.recipes import images, language, scenes
from course_lib.resnet import SmallResNet
from course_lib.unet import UNet

PAGE = (Path(__file__).parents[1] / "docs" / "beyond_the_notebook.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    " ".join(line.split("#")[0].split())
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
]
NARROW = (4, 4, 4, 4, 4)


def shrink(monkeypatch, table, make, batch_size=2, **values):
    """Every size of the table is this one, and trains as its own."""
    for size, row in table.items():
        training = row.training | {"accumulate": 1}
        if size != "tiny":
            monkeypatch.setitem(table, size, replace(row, make=make, training=training))
            monkeypatch.setitem(table, size, replace(table[size], batch_size=batch_size))
            monkeypatch.setitem(table, size, replace(table[size], data=row.data | values))


@pytest.fixture
def tiny(monkeypatch):
    shrink(monkeypatch, images.RESNETS, partial(SmallResNet, in_channels=3), side=32)
    bert = partial(BertConfig, width=16, heads=2, layers=1, hidden=32)
    shrink(monkeypatch, language.BERTS, bert, vocabulary=120, length=32)
    gpt = partial(GPTConfig, width=16, heads=2, layers=1)
    shrink(monkeypatch, language.GPTS, gpt, length=16, pieces=300)
    shrink(monkeypatch, scenes.UNETS, partial(UNet, 3, channels=(4, 8)), side=32)
    yolo = partial(scenes._make_yolo, channels=NARROW, stride=64, boxes=2)
    shrink(monkeypatch, scenes.YOLOS, yolo, side=128)
    ssd = partial(scenes._make_ssd, side=300, channels=NARROW, config=scenes.ANCHORS_300)
    shrink(monkeypatch, scenes.SSDS, ssd)


def picture(path, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "P":
        image = Image.new("P", (64, 48), 0)
        image.paste(1, (5, 5, 40, 30))
    image.save(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with everything that the page's commands name."""
    monkeypatch.chdir(tmp_path)
    for root in (Path("pets"), Path("imagenet"), Path("shared/imagenet")):
        for number in range(12):
            picture(root / ("cat", "dog")[number % 2] / f"{number}.jpg")
    for name in ("new.jpg", "other.jpg"):
        picture(Path(name))
    Path("texts").mkdir()
    for number in range(24):
        lines = [f"Line {i} of text {number} is {'very ' * (i % 3)}short." for i in range(9)]
        Path(f"texts/{number:02}.txt").write_text("\n\n".join(lines))
    voc = Path("VOCdevkit/VOC2012")
    (voc / "Annotations").mkdir(parents=True)
    for number in range(6):
        picture(voc / "JPEGImages" / f"{number}.jpg")
        picture(voc / "SegmentationClass" / f"{number}.png", "P")
        box = "<xmin>6</xmin><ymin>6</ymin><xmax>40</xmax><ymax>30</ymax>"
        thing = f"<object><name>cat</name><bndbox>{box}</bndbox></object>"
        text = f"<annotation><filename>{number}.jpg</filename>{thing}</annotation>"
        (voc / "Annotations" / f"{number}.xml").write_text(text)
    for kind in ("Main", "Segmentation"):
        (voc / "ImageSets" / kind).mkdir(parents=True)
        (voc / "ImageSets" / kind / "train.txt").write_text("0\n1\n2\n3\n")
        (voc / "ImageSets" / kind / "val.txt").write_text("4\n5\n")
    Path("coco/annotations").mkdir(parents=True)
    for part, count in (("train", 4), ("val", 2)):
        names = [f"{number:012}.jpg" for number in range(count)]
        for name in names:
            picture(Path(f"coco/{part}2017") / name)
        content = {
            "categories": [{"id": 17, "name": "cat"}],
            "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [
                {"image_id": i, "category_id": 17, "bbox": [5, 5, 30, 20]} for i in range(count)
            ],
        }
        Path(f"coco/annotations/instances_{part}2017.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def few(monkeypatch):
    """The sets that the page names, with few items."""
    pixels, labels = torch.randint(256, (60, 1, 28, 28), dtype=torch.uint8), torch.arange(60) % 10
    clothes = data.Images(pixels[:40], labels[:40], pixels[40:], labels[40:], data.CLOTHES)
    chapters = [data.Document(str(i), (f"Chapter {i}. " * 20,), i > 2) for i in range(4)]
    monkeypatch.setattr(data, "load", {"fashion_mnist": clothes, "austen": chapters}.__getitem__)


def shorten(command):
    """The words behind `course_lib` of a command that takes one step and stays in its folder."""
    words = shlex.split(command.replace("/shared/", "shared/"))
    words = words[words.index("course_lib") + 1 :]
    for option in ("--steps", "--epochs"):
        if option in words:
            del words[words.index(option) : words.index(option) + 2]
    short = ["--steps", "1", "--batch-size", "2", "--device", "cpu"]
    return words + (short if words[0] == "train" and "--help" not in words else [])


def test_every_command_of_the_page_runs(tiny, place, few, capsys):
    assert len(COMMANDS) > 15 and all("course_lib" in command for command in COMMANDS)
    results = {"train": "\ntest ", "predict": "cat ", "export": "pets.onnx is written"}
    for command in COMMANDS:
        words = shorten(command)
        try:
            code = cli.main(words)
        except SystemExit as end:  # of --help
            code = end.code
        output, error = capsys.readouterr()
        assert code == 0, (command, error)
        assert "--help" in words or results[words[0]] in output, command
    assert Path("pets.onnx").stat().st_size > 1000 and Path("run.jsonl").read_text()


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_the_page_tells_the_data_of_each_recipe(name):
    rows = [row for row in PAGE.splitlines() if row.startswith("|")]
    row = next((row for row in rows if f"`{name}`" in row.split("|")[1]), "")
    recipe = recipes.RECIPES[name]
    if "source" not in inspect.signature(recipe).parameters:
        assert not row
        return
    with pytest.raises(ValueError, match="or the name of a set: ") as caught:
        recipe(source="no such thing")
    for chosen in str(caught.value).partition("of a set: ")[2].split(", "):
        assert f"`{chosen}`" in row.split("|")[2]
