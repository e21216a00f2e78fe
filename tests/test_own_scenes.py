"""U-Net and the detectors on pictures of one's own: masks and boxes of coloured squares."""

from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from course_lib import exporting, recipes, ssd, train, unet, yolo
from course_lib.recipes import command, own

COLOURS = ((0, 250, 0), (250, 0, 0))
CONFIG = {"optimizer": "muon", "learning_rate": 0.02, "schedule": "one_cycle", "warmup": 0.2}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """40 grey pictures of 96 x 48 pixels with a green or a red square, its mask and its box."""
    root = tmp_path_factory.mktemp("squares")
    noise = np.random.default_rng(0)
    for part in ("images", "masks", "labels"):
        (root / part).mkdir()
    (root / "classes.txt").write_text("nothing\ngreen\nred\n")
    for number in range(40):
        kind, x, y = number // 2 % 2, int(noise.integers(0, 64)), int(noise.integers(0, 24))
        pixels = noise.integers(80, 150, (48, 96, 3), dtype=np.uint8)
        pixels[y : y + 24, x : x + 32] = COLOURS[kind]
        mask = np.zeros((48, 96), dtype=np.uint8)
        mask[y : y + 24, x : x + 32] = kind + 1
        Image.fromarray(pixels).save(root / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
        row = f"{kind + 1} {(x + 16) / 96} {(y + 12) / 48} {32 / 96} {24 / 48}\n"
        (root / "labels" / f"{number:02}.txt").write_text(row)
    return root


def segmentation_loss(model, batch):
    return unet.cross_entropy(model(batch[0]), batch[1])


def recipe_of_masks(source, steps=80):
    config = train.FitConfig(steps, **CONFIG)
    make = partial(unet.UNet, 3, channels=(8, 16))
    return own.segmentation(make, segmentation_loss, config, 8, source, 64)


def test_a_unet_learns_masks_of_ones_own(squares, tmp_path):
    recipe = recipe_of_masks(squares)
    recipe.fit()
    assert recipe.test(recipe.model)["mean IoU"] > 0.8
    assert recipe.names == ("nothing", "green", "red")

    picture = tmp_path / "x.png"
    picture.write_bytes((squares / "images" / "39.png").read_bytes())
    answer = recipe.predict(recipe.model, str(picture))
    assert answer.startswith(f"{tmp_path / 'x.mask.png'}: nothing 8") and "red 1" in answer
    mask, wanted = (
        np.array(Image.open(path)) for path in (tmp_path / "x.mask.png", squares / "masks/39.png")
    )
    assert mask.shape == (48, 96) and (mask == wanted).mean() > 0.97
    with pytest.raises(ValueError, match="x.mask.png exists already"):
        recipe.predict(recipe.model, str(picture))

    again = recipe_of_masks(list(recipe.names))
    again.model.load_state_dict(recipe.model.state_dict())
    images, masks = next(iter(again.batches))
    assert again.model(images).shape == (2, 3, 64, 64) and masks.shape == (2, 64, 64)


DETECTORS = {
    "yolo": lambda classes: yolo.YOLO(
        yolo.YoloConfig(cells=3, classes=classes, loss="modern"), (16, 16, 32, 32)
    ),
    "ssd": lambda classes: ssd.SSD(
        ssd.SSDConfig(
            classes,
            64,
            sizes=((10, 13), (18, 24), (28, 32), (40, 48), (56, 64)),
        ),
        yolo.Backbone((16, 16, 32, 32)),
    ),
}
PARTS = {"yolo": (yolo.yolo_loss, yolo.detect), "ssd": (ssd.ssd_loss, ssd.detect)}


@pytest.mark.parametrize("name", ["yolo", "ssd"])
def test_detectors_learn_boxes_of_ones_own(squares, name):
    config = train.FitConfig(60, **CONFIG)
    recipe = own.detection(DETECTORS[name], *PARTS[name], config, 8, squares, 64)
    before = recipe.test(recipe.model)["mAP@0.5"]
    recipe.fit()
    scores = recipe.test(recipe.model)
    assert scores["mAP@0.5"] > max(0.5, before) and scores["mAP"] <= scores["mAP@0.5"]
    assert recipe.names == ("nothing", "green", "red")
    answer = recipe.predict(recipe.model, str(squares / "images" / "39.png"))
    best = max(answer.split("; "), key=lambda row: int(row.split()[1]))
    assert best.startswith("red ")
    found = torch.tensor([float(v) for v in best.split(" at ")[1].split(", ")])
    _, x, y, width, height = map(float, (squares / "labels" / "39.txt").read_text().split())
    wanted = torch.tensor([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    wanted = wanted * torch.tensor([96, 48, 96, 48])
    assert (found - wanted).abs().max() < 12
    names = own.detection(DETECTORS[name], *PARTS[name], config, 8, list(recipe.names), 64)
    assert torch.isfinite(recipe.loss(names.model, next(iter(names.batches))))


@pytest.mark.parametrize("name", ["yolo", "ssd", "unet"])
def test_they_come_out_of_onnx_the_same(tmp_path, name):
    if name == "unet":
        recipe = recipe_of_masks(["a", "b", "c"])
    else:
        config = train.FitConfig(1, **CONFIG)
        recipe = own.detection(DETECTORS[name], *PARTS[name], config, 8, ["a", "b", "c"], 64)
    inputs = recipe.inputs(next(iter(recipe.batches)))
    exporting.to_onnx(tmp_path / "m.onnx", recipe.model, inputs)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    # `ssd.flatten_levels` asks for `len(x)`, which a trace takes for fixed.
    images = torch.rand(5, 3, 64, 64)
    with torch.no_grad():
        wanted = recipe.model(images)
    wanted = [wanted] if torch.is_tensor(wanted) else wanted
    found = session.run(None, {"images": images.numpy()})
    for ours, theirs in zip(wanted, found, strict=True):
        torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=1e-4, atol=1e-4)


def test_shares_of_every_kind_are_told_in_percent():
    for name in ("seen mean IoU", "Dice", "unseen mAP@0.5", "far small AP", "AP@0.4", "accuracy"):
        assert command.is_share(name), name
    for name in ("BLEU", "held-out loss"):
        assert not command.is_share(name), name
    assert recipes.RECIPES
