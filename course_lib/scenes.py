"""Photo scenes: cut-out objects on photos, with the masks and boxes of what can be seen of them.

    maker = SceneMaker("train")
    scenes = maker.draw(1000, seed=0)

Sprites (each cut-out at several sides and angles) are made once, by the first maker; a scene is
then a few copies. "train" shows seen cut-outs on training photos, "seen" the same cut-outs on test
photos, "unseen" the test cut-outs on test photos. There are few training photos: only "train" turns
them by quarters and exchanges their colours, so that what is learned does not depend on them. Bad
arguments raise `ValueError`.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course_lib import data, runtime
from course_lib.data import Cutout

CLASSES = ("fruit", "flower", "vehicle", "mammal", "bird", "roadsign")
SPLITS = ("train", "seen", "unseen")
NEVER_FLIPPED = ("roadsign",)  # their writing would be mirrored
# Photos that hold boats, a marigold and dandelions: objects that no mask or box would show.
LEFT_OUT_PHOTOS = ("EveningGlow", "Garden", "seeding_by_Clements_Engelhardt")
LEFT_OUT_CUTOUTS = ("sedan_police",)  # all of it is transparent but its stickers
SIDES = (18, 22, 27, 33, 40, 49, 60)  # pixels of a sprite's longer side, in even ratios
ANGLES = (-14, -7, 0, 7, 14)  # degrees
PHOTO_SCALES = (1.0, 0.7, 0.5)  # a window of one size shows more of a smaller photo
SOLID = 128  # alpha from which on a pixel belongs to the object
LIGHT = 0.25  # brightness changes by up to this share, each colour by a third of it
NUMBERS = 11  # random ones that the background takes, and each object: seven choices, four of light
COLOUR_ORDERS = tuple(permutations(range(3)))


class Scenes(NamedTuple):
    """N scenes of S x S pixels with up to K objects each; tensors that `batches.Batches` takes.

    images: uint8 (N, 3, S, S).
    mask: uint8 (N, S, S), 0 for background, class number + 1 for an object.
    instances: uint8 (N, S, S), 0 for background, k + 1 for the scene's object k.
    boxes: float32 (N, K, 4), xyxy in pixels, tight around what is visible; zeros beyond the last.
    labels: int64 (N, K), class numbers, -1 beyond the last: `labels >= 0` tells which are real.
    """

    images: Tensor
    mask: Tensor
    instances: Tensor
    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class SceneConfig:
    """What scenes look like.

    Args:
        size: height and width in pixels, from 60 (the largest sprite) to 144 (the smallest photo).
        least, most: objects in a scene, most at 255; hidden ones are taken out afterwards.
        hidden: an object of which a larger share is covered by others is taken out.
    """

    size: int = 96
    least: int = 1
    most: int = 5
    hidden: float = 0.6

    def __post_init__(self):
        if not max(SIDES) <= self.size <= 144:
            raise ValueError(f"size is {self.size}; allowed are {max(SIDES)} .. 144 pixels")
        if not 1 <= self.least <= self.most <= 255:
            counts = f"least is {self.least} and most {self.most}"
            raise ValueError(f"{counts}; allowed is 1 <= least <= most <= 255")
        if not 0 <= self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden}; allowed are shares from 0 to below 1")


class Sprite(NamedTuple):
    """One cut-out at one side and angle: rgba uint8 (4, h, w), solid bool (h, w), their number."""

    rgba: Tensor
    solid: Tensor
    pixels: int


class Placed(NamedTuple):
    """A sprite in a scene: the rows and columns it covers, its class, its light (3, 1, 1)."""

    sprite: Sprite
    rows: slice
    columns: slice
    label: int
    light: Tensor


class SceneMaker:
    """Makes scenes of one split.

    Args:
        split: "train", "seen" or "unseen".
    """

    def __init__(self, split: str, config: SceneConfig | None = None):
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; allowed are {', '.join(SPLITS)}")
        self.split, self.config = split, config or SceneConfig()
        self._sprites = _sprites(split == "unseen")
        photos = [_picture(photo.image) for photo in choose_photos(split)]
        self._grounds = [_pixels(_resized(p, scale)) for p in photos for scale in PHOTO_SCALES]

    def draw(self, count: int, seed: int) -> Scenes:
        """`count` scenes; those of a smaller count with the same seed are its first ones.

        With one seed, "seen" and "unseen" differ in the cut-outs alone.
        """
        if count < 1:
            raise ValueError(f"count is {count}; allowed are whole numbers from 1")
        config = self.config
        generator = runtime.generator_for(seed, self.split == "train")
        numbers = torch.rand(count, 1 + config.most, NUMBERS, generator=generator)
        lights = _lights(numbers[..., -4:])  # (N, 1 + K, 3, 1, 1)
        images = torch.empty(count, 3, config.size, config.size, dtype=torch.uint8)
        instances = torch.zeros(count, config.size, config.size, dtype=torch.uint8)
        labels = torch.full((count, config.most), -1)
        for scene, rows in enumerate(numbers.tolist()):
            placed = self._place_all(rows, lights[scene])
            placed = _paint(instances[scene], placed, config.hidden)
            ground = self._ground(rows[0]) * lights[scene, 0]  # (3, S, S)
            images[scene] = _blend(ground.clamp_(max=255), placed)
            labels[scene, : len(placed)] = torch.tensor([p.label for p in placed])
        parts = list(zip(instances.split(64), labels.split(64), strict=True))  # fit into the cache
        boxes = torch.cat([tight_boxes(part, config.most) for part, _ in parts])
        mask = torch.cat([class_masks(*part) for part in parts])
        return Scenes(images, mask, instances, boxes, labels)

    def _ground(self, row: list[float]) -> Tensor:
        """A window of a photo, uint8 (3, S, S)."""
        size = self.config.size
        _, which, y, x, flip, turn, colours, *_ = row
        photo = self._grounds[int(which * len(self._grounds))]
        top, left = (int(u * (n - size + 1)) for u, n in zip((y, x), photo.shape[1:], strict=True))
        window = photo[:, top : top + size, left : left + size]
        window = window.flip(2) if flip < 0.5 else window
        if self.split != "train":
            return window
        return window.rot90(int(4 * turn), (1, 2))[list(COLOUR_ORDERS[int(6 * colours)])]

    def _place_all(self, rows: list[list[float]], lights: Tensor) -> list[Placed]:
        """The objects of a scene, those in front last."""
        config = self.config
        count = config.least + int(rows[0][0] * (config.most - config.least + 1))
        return [self._place(rows[k], lights[k]) for k in range(1, count + 1)]

    def _place(self, row: list[float], light: Tensor) -> Placed:
        kind, cutout, side, angle, y, x, flip, *_ = row
        label = int(kind * len(CLASSES))
        sprites = self._sprites[label][int(cutout * len(self._sprites[label]))]
        sprite = sprites[int(side * len(SIDES))][int(angle * len(ANGLES))]
        if flip < 0.5 and CLASSES[label] not in NEVER_FLIPPED:
            sprite = Sprite(sprite.rgba.flip(2), sprite.solid.flip(1), sprite.pixels)
        height, width = sprite.solid.shape
        top, left = (
            int(y * (self.config.size - height + 1)),
            int(x * (self.config.size - width + 1)),
        )
        return Placed(sprite, slice(top, top + height), slice(left, left + width), label, light)


def choose_cutouts(split: str) -> tuple[tuple[Cutout, ...], ...]:
    """The cut-outs that scenes of a split may show, by class in the order of `CLASSES`."""
    chosen = [
        cutout
        for cutout in data.load("cutouts")
        if cutout.test == (split == "unseen") and cutout.name not in LEFT_OUT_CUTOUTS
    ]
    return tuple(tuple(c for c in chosen if c.class_name == name) for name in CLASSES)


def choose_photos(split: str) -> tuple[data.Photo, ...]:
    """The photos that scenes of a split may stand on."""
    return tuple(
        photo
        for photo in data.load("backgrounds")
        if photo.test == (split != "train") and photo.name not in LEFT_OUT_PHOTOS
    )


def tight_boxes(instances: Tensor, most: int) -> Tensor:
    """The smallest boxes around the pixels of objects 1 .. most: (N, H, W) -> float32 (N, most, 4).

    xyxy, so that x2 is one more than the last column; zeros for an object without pixels.
    """
    numbers = torch.arange(1, most + 1, device=instances.device).to(instances.dtype)
    there = instances.unsqueeze(1) == numbers.view(-1, 1, 1)  # (N, K, H, W)
    there = there.view(torch.uint8)  # whose largest value is found faster than a bool's `any`
    (x1, x2), (y1, y2) = (_extent(there.amax(axis)) for axis in (2, 3))  # (N, K) each
    return torch.stack([x1, y1, x2, y2], dim=-1).float()


def class_masks(instances: Tensor, labels: Tensor) -> Tensor:
    """Each pixel's class number + 1, or 0 for background.

    instances uint8 (N, H, W), labels int64 (N, K) -> uint8 (N, H, W).
    """
    numbers = torch.cat([torch.zeros_like(labels[:, :1]), labels + 1], dim=1).byte()  # (N, 1 + K)
    return numbers.gather(1, instances.flatten(1).long()).view_as(instances)


def _extent(there: Tensor) -> tuple[Tensor, Tensor]:
    """The first place that is 1 and the one after the last: uint8 (N, K, L) -> (N, K) twice."""
    length, some = there.shape[-1], there.amax(-1)
    return there.argmax(-1) * some, (length - there.flip(-1).argmax(-1)) * some


def _paint(instance: Tensor, placed: list[Placed], hidden: float) -> list[Placed]:
    """Write the objects' numbers into `instance` (S, S); returns those that are not hidden."""
    for number, (sprite, rows, columns, *_) in enumerate(placed, 1):
        instance[rows, columns].masked_fill_(sprite.solid, number)
    visible = instance.flatten().bincount(minlength=len(placed) + 1).tolist()
    kept = [
        p for p, n in zip(placed, visible[1:], strict=True) if n >= (1 - hidden) * p.sprite.pixels
    ]
    if len(kept) < len(placed):  # without the hidden ones, the others only show more
        instance.zero_()
        _paint(instance, kept, hidden)
    return kept


def _blend(canvas: Tensor, placed: list[Placed]) -> Tensor:
    """Put the objects onto a float canvas (3, S, S), with soft edges; what comes is rounded."""
    for sprite, rows, columns, _, light in placed:
        rgba = sprite.rgba.float()
        canvas[:, rows, columns].lerp_((rgba[:3] * light).clamp_(max=255), rgba[3:] / 255)
    return canvas.round_()


def _lights(numbers: Tensor) -> Tensor:
    """Numbers from 0 to 1 (..., 4) -> factors of red, green and blue (..., 3, 1, 1)."""
    change = LIGHT * (2 * numbers - 1)
    light = (1 + change[..., :1]) * (1 + change[..., 1:] / 3)  # brightness x colour
    return light[..., None, None]


@cache
def _sprites(unseen: bool) -> list[list[list[list[Sprite]]]]:
    """By class, cut-out, side and angle; made once."""
    groups = choose_cutouts("unseen" if unseen else "train")
    return [[_sprites_of(cutout) for cutout in group] for group in groups]


def _sprites_of(cutout: Cutout) -> list[list[Sprite]]:
    # "RGBa" is colour weighed by alpha: what lies outside does not bleed into the edges.
    image = _picture(cutout.rgba).convert("RGBa")
    turned = []
    for angle in ANGLES:
        whole = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        left, top, right, bottom = whole.getchannel("a").point(_is_solid).getbbox()
        turned.append(whole.crop((left - 2, top - 2, right + 2, bottom + 2)))  # with its soft edge
    return [[_sprite(image, side) for image in turned] for side in SIDES]


def _sprite(image: Image.Image, side: int) -> Sprite:
    rgba = _pixels(_resized(image, side / max(image.size)).convert("RGBA"))
    solid = rgba[3] >= SOLID
    return Sprite(rgba, solid, int(solid.sum()))


def _resized(image: Image.Image, scale: float) -> Image.Image:
    size = [max(1, round(length * scale)) for length in image.size]
    return image.resize(size, Image.Resampling.BICUBIC)


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())  # (C, H, W) -> (H, W, C)


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # to (C, H, W)


def _is_solid(alpha: int) -> int:
    return 255 * (alpha >= SOLID)
