"""The training runs of chapters 10 to 12: on photo scenes, on slices of a head, on tree crowns."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from course_lib import augment_masks, average_precision, data, runtime, train
from course_lib.recipes import own
from course_lib.recipes.recipe import (
    Recipe,
    Size,
    one_cycle,
    pick,
    scale_images,
    scale_pixels,
    shipped,
)
from course_lib.scenes import CLASSES, SceneConfig, SceneMaker, Scenes
from course_lib.ssd import SSD, SSDConfig, ssd_loss  # `ssd` is a recipe here
from course_lib.ssd import detect as ssd_detect
from course_lib.unet import (  # and so is `unet`
    UNet,
    binary_cross_entropy,
    confusion,
    cross_entropy,
    dice,
    iou,
)
from course_lib.yolo import YOLO, Backbone, YoloConfig, yolo_loss  # and so is `yolo`
from course_lib.yolo import detect as yolo_detect

# Chapter 07 tells how Muon moves matrices, and kernels are matrices to it.
ON_SCENES = {"optimizer": "muon", "learning_rate": 0.02, "weight_decay": 0.1, "warmup": 0.1}
ON_SCENES |= {"channels_last": True}
SETS = ("photo_scenes",)
TRAINING_SCENES = 8_000
TEST_SCENES = 500  # of each kind
CHANNELS = (32, 96, 128, 128)  # of a detector's backbone
# Measured on the training scenes, nine of ten objects overlap one of these by half or more. Most
# of them overlap few so far, so that an IoU of 0.5 would leave little to learn from.
ANCHORS = SSDConfig(
    sizes=((13, 18, 24), (30, 40), (50, 60), (70,), (90,)),
    ratios=((1, 1.6, 0.6, 2.4),) * 3 + ((1,),) * 2,
    threshold=0.4,
)
CROWNS = SSDConfig(
    classes=1,
    size=256,
    sizes=((16, 22), (30, 38), (48, 60), (80, 100), (180, 220)),
    ratios=((1, 1.5, 0.67),) * 5,
)
SMALL, LARGE = 24**2, 40**2  # square pixels: about a third of the objects each


def _make_yolo(classes: int, channels: tuple[int, ...] = CHANNELS, **config) -> YOLO:
    return YOLO(YoloConfig(classes, cells=3, loss="modern", **config), channels)


def _make_ssd(
    classes: int, side: int, channels: tuple[int, ...] = CHANNELS, config: SSDConfig = ANCHORS
) -> SSD:
    sizes = tuple(tuple(s * side / config.size for s in level) for level in config.sizes)
    return SSD(replace(config, classes=classes, size=side, sizes=sizes), Backbone(channels))


# SSD300: 8,732 anchors on maps of 38, 19, 10, 5, 3 and 1 places. Scales as in torchvision.
SCALES = (21, 45, 99, 153, 207, 261, 315)
FEW, MORE = (1, 2, 1 / 2), (1, 2, 1 / 2, 3, 1 / 3)
ANCHORS_300 = SSDConfig(
    size=300,
    strides=(8, 16, 32, 64),
    sizes=tuple((s, (s * above) ** 0.5) for s, above in pairwise(SCALES)),
    ratios=(FEW, MORE, MORE, MORE, FEW, FEW),
)
WIDE = (64, 128, 192, 256)
LONG = {"steps": 20_000, **ON_SCENES, "learning_rate": 0.005}
UNETS = {
    "tiny": Size(
        partial(UNet, 3, channels=(16, 32, 64, 128), stem=2),
        16,
        {"steps": 760} | ON_SCENES,
        {"side": 96},
    ),
    "small": Size(partial(UNet, 3, channels=(32, 64, 128, 256)), 8, LONG, {"side": 256}),
    "base": Size(partial(UNet, 3, channels=(64, 128, 256, 512, 1024)), 4, LONG, {"side": 512}),
}
YOLOS = {
    "tiny": Size(
        _make_yolo, 32, {"steps": 550} | ON_SCENES | {"learning_rate": 0.03}, {"side": 96}
    ),
    "small": Size(partial(_make_yolo, channels=WIDE, stride=16), 16, LONG, {"side": 256}),
    "base": Size(  # 7 x 7 cells
        partial(_make_yolo, channels=(192, 512, 1024, 1024, 1024), stride=64, boxes=2),
        64,
        LONG,
        {"side": 448},
    ),
}
SSDS = {
    "tiny": Size(
        partial(_make_ssd, side=96),
        32,
        {"steps": 480} | ON_SCENES | {"learning_rate": 0.03},
        {"side": 96},
    ),
    "small": Size(partial(_make_ssd, side=256, channels=WIDE), 16, LONG, {"side": 256}),
    "base": Size(
        partial(_make_ssd, side=300, channels=(128, 256, 512, 1024, 512), config=ANCHORS_300),
        32,
        LONG,
        {"side": 300},
    ),
}


@cache
def training_scenes(count: int = TRAINING_SCENES) -> Scenes:
    """Scenes of the training cut-outs on training photos, made once."""
    return SceneMaker("train").draw(count, seed=0)


@cache
def test_scenes() -> dict[str, Scenes]:
    """New scenes of seen cut-outs, and scenes of unseen ones, both on unseen photos."""
    return {split: SceneMaker(split).draw(TEST_SCENES, seed=0) for split in ("seen", "unseen")}


def unet(
    *,
    seed: int = 0,
    batch_size: int | None = None,
    size: str = "tiny",
    source: own.Source | None = None,
    **changes,
) -> Recipe:
    """Chapter 10: a U-Net says of each pixel of a photo scene what it shows.

    Args:
        seed: of the weights and the order of the scenes.
        size: "tiny", the chapter's; "base", the paper's 64 channels, without its narrow borders.
        source: the user's own pictures and masks, for `folders.masks`.
        changes: other values for the `FitConfig`, e.g. `steps=2000`.
    """
    row = pick(UNETS, size, batch_size)
    config = one_cycle(seed, changes, **row.training)
    batch_size, side = row.batch_size, row.data["side"]
    if not shipped(source, SETS):
        return own.segmentation(row.make, _segmentation_loss, config, batch_size, source, side)
    scenes = training_scenes()
    runtime.seed_everything(seed)
    model = row.make(classes=len(CLASSES) + 1)

    def transform(batch: tuple[Tensor, Tensor], _: torch.Generator) -> tuple[Tensor, Tensor]:
        images, mask = batch
        return scale_pixels(images), mask.long()

    def test(model: nn.Module) -> dict[str, float]:
        return _by_kind(partial(segmentation_scores, model))

    batches = train.Batches(
        scenes.images, scenes.mask, batch_size=batch_size, seed=seed, transform=transform
    )
    answer = own.paint(("nothing", *CLASSES), SceneConfig.size)
    return Recipe(model, batches, _segmentation_loss, config, test, predict=answer)


def _by_kind(measure: Callable[[Scenes], dict[str, float]]) -> dict[str, float]:
    return {
        f"{kind} {name}": value
        for kind, scenes in test_scenes().items()
        for name, value in measure(scenes).items()
    }


def segmentation_scores(model: nn.Module, scenes: Scenes) -> dict[str, float]:
    """Shares from 0 to 1: "object IoU", of objects of any class against the background, and
    "mean IoU", the mean over the classes."""
    logits = train.predict(model, scale_pixels(scenes.images))  # (N, 7, S, S)
    predicted, mask = logits.argmax(1), scenes.mask.long()
    by_class = iou(confusion(predicted, mask, len(CLASSES) + 1))[1:]
    objects = iou(confusion((predicted > 0).long(), (mask > 0).long(), 2))[1]
    return {"object IoU": objects.item(), "mean IoU": by_class.mean().item()}


def brain(*, seed: int = 0, batch_size: int = 4, **changes) -> Recipe:
    """Chapter 10: a U-Net finds the brain in slices of a head; arguments as for `unet`."""
    slices = data.load("brain_mri")
    config = one_cycle(seed, changes, steps=250, **ON_SCENES)
    runtime.seed_everything(seed)

    def transform(
        batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        images, masks = augment_masks.random_flip(batch[0], batch[1][:, 0], generator)
        return scale_pixels(images), masks.unsqueeze(1)

    def test(model: nn.Module) -> dict[str, float]:
        predicted = train.predict(model, scale_pixels(slices.x[slices.test])) > 0
        counts = confusion(predicted.long(), slices.brain[slices.test].long(), 2)
        return {"Dice": dice(counts)[1].item()}

    learned = ~slices.test
    batches = train.Batches(
        slices.x[learned],
        slices.brain[learned],
        batch_size=batch_size,
        seed=seed,
        transform=transform,
    )
    answer = own.paint(("other", "brain"), 256, grey=True)
    return Recipe(UNet(1, 1, stem=2), batches, _yes_or_no_loss, config, test, predict=answer)


def yolo(
    *,
    seed: int = 0,
    batch_size: int | None = None,
    size: str = "tiny",
    source: own.Source | None = None,
    **changes,
) -> Recipe:
    """Chapter 11: one look finds the objects of a photo scene; arguments as for `unet`.

    Args:
        size, source: as for `unet`; the pictures with boxes, for `folders.boxes`.
    """
    row = pick(YOLOS, size, batch_size)
    config = one_cycle(seed, changes, **row.training)
    return _on_scenes(row, yolo_loss, yolo_detect, config, source)


def ssd(
    *,
    seed: int = 0,
    batch_size: int | None = None,
    size: str = "tiny",
    source: own.Source | None = None,
    **changes,
) -> Recipe:
    """Chapter 12: anchors on five levels find them; arguments as for `unet`.

    Args:
        size, source: as for `unet`; the pictures with boxes, for `folders.boxes`.
    """
    row = pick(SSDS, size, batch_size)
    config = one_cycle(seed, changes, **row.training)
    return _on_scenes(row, ssd_loss, ssd_detect, config, source)


def crowns(*, seed: int = 0, batch_size: int = 4, **changes) -> Recipe:
    """Chapter 12: the same detector finds trees from the air; arguments as for `unet`.

    Tiles of one photo are learned from, and those of another one tested on.
    """
    config = one_cycle(seed, changes, steps=300, **ON_SCENES)
    runtime.seed_everything(seed)
    model = SSD(CROWNS, Backbone(CHANNELS))

    def test(model: nn.Module) -> dict[str, float]:
        images, boxes, labels = crown_tiles("test")
        device = next(model.parameters()).device
        found = ssd_detect(model, scale_pixels(images.to(device)))
        objects = average_precision.objects_of(boxes, labels)
        value = average_precision.average_precision(found, objects, 1, thresholds=(0.4,))
        return {"AP@0.4": value.item()}

    batches = train.Batches(
        *crown_tiles("train"), batch_size=batch_size, seed=seed, transform=_turn_tiles
    )
    answer = own.point_out(ssd_detect, ("tree",), CROWNS.size)
    return Recipe(model, batches, ssd_loss, config, test, predict=answer)


def crown_tiles(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """A split's aerial tiles: uint8 (N, 3, 256, 256), boxes (N, K, 4), labels (N, K), -1 or 0."""
    tiles = [tile for tile in data.load("tree_crowns") if tile.split == split]
    boxes = nn.utils.rnn.pad_sequence([tile.boxes for tile in tiles], batch_first=True)
    counts = torch.tensor([len(tile.boxes) for tile in tiles])
    labels = (torch.arange(boxes.shape[1]) < counts.unsqueeze(1)).long() - 1  # (N, K)
    return torch.stack([tile.image for tile in tiles]), boxes, labels


def _on_scenes(
    row: Size,
    loss: train.Loss,
    detect: Callable,
    config: train.FitConfig,
    source: own.Source | None,
) -> Recipe:
    """A detector's recipe on photo scenes; its batches are images, boxes and labels."""
    batch_size, side = row.batch_size, row.data["side"]
    if not shipped(source, SETS):
        return own.detection(row.make, loss, detect, config, batch_size, source, side)
    if side != SceneConfig.size:
        raise ValueError(f"the scenes have {SceneConfig.size} pixels a side; {side} need --data")
    scenes = training_scenes()
    runtime.seed_everything(config.seed)
    model = row.make(classes=len(CLASSES))

    def test(model: nn.Module) -> dict[str, float]:
        return _by_kind(partial(detection_scores, model, detect))

    batches = train.Batches(
        scenes.images,
        scenes.boxes,
        scenes.labels,
        batch_size=batch_size,
        seed=config.seed,
        transform=scale_images,
    )
    answer = own.point_out(detect, CLASSES, side)
    return Recipe(model, batches, loss, config, test, predict=answer)


def detection_scores(model: nn.Module, detect: Callable, scenes: Scenes) -> dict[str, float]:
    """Average precisions from 0 to 1: "mAP@0.5" and "mAP" over COCO's ten thresholds, "object AP",
    which looks at the places alone, and "small", "medium" and "large AP" by the objects' areas."""
    device = next(model.parameters()).device
    found = detect(model, scale_pixels(scenes.images.to(device)))
    objects = average_precision.objects_of(scenes.boxes, scenes.labels)
    classes = len(CLASSES)
    named = average_precision.coco_map(found, objects, classes, small=SMALL, large=LARGE)
    placed = average_precision.coco_map(found, objects, classes, class_agnostic=True)
    sizes = {f"{size} AP": named[f"map_{size}"] for size in ("small", "medium", "large")}
    scores = {"mAP@0.5": named["map_50"], "mAP": named["map"], "object AP": placed["map_50"]}
    return scores | sizes


def _segmentation_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, mask = batch
    return cross_entropy(model(images), mask)


def _yes_or_no_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, mask = batch
    return binary_cross_entropy(model(images), mask)


def _turn_tiles(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """From the air, up and right are as good as left and down: any of the eight ways to lie."""
    images, boxes, labels = batch
    mirror, flip, transpose = (torch.rand(3, generator=generator) < 0.5).tolist()
    size = images.shape[3]
    if mirror:
        images, boxes = images.flip(3), _reflect(boxes, size, 0)
    if flip:
        images, boxes = images.flip(2), _reflect(boxes, size, 1)
    if transpose:
        images, boxes = images.transpose(2, 3), boxes[..., [1, 0, 3, 2]]
    return scale_pixels(images), boxes, labels


def _reflect(boxes: Tensor, size: int, axis: int) -> Tensor:
    """Boxes (..., 4) in a mirror: axis 0 swaps left and right, 1 top and bottom."""
    low, high = boxes[..., axis], boxes[..., axis + 2]
    reflected = boxes.clone()
    reflected[..., axis], reflected[..., axis + 2] = size - high, size - low
    return reflected
