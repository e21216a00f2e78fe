"""What U-Net and the detectors do with the user's own pictures: training, testing, answering."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from course_lib import average_precision, folders, runtime, train, unet
from course_lib.average_precision import Detections, Objects
from course_lib.recipes.recipe import Recipe, scale_images, scale_pixels

TOGETHER = 16  # test pictures
SURE = 0.3  # scores below it are not worth telling

# A folder of the user's own pictures; or only the names of their classes, to build the model.
Source = str | Path | Sequence[str]


def segmentation(
    make: Callable[..., nn.Module],
    loss: train.Loss,
    config: train.FitConfig,
    batch_size: int,
    source: Source,
    side: int,
) -> Recipe:
    """`make(classes=n)` gives logits (N, n, H, W); data as `folders.masks` reads them."""
    own, classes = _open(folders.masks, source, side)

    def test(model: nn.Module) -> dict[str, float]:
        counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        for images, masks in own.test.in_order(TOGETHER):
            logits = train.predict(model, scale_pixels(images))  # -> (N, classes, side, side)
            counts += unet.confusion(logits.argmax(1), masks, len(classes))
        return {"mean IoU": unet.iou(counts).nanmean().item()}

    runtime.seed_everything(config.seed)
    batches = _batches(own, batch_size, config.seed, side, torch.zeros(2, side, side).long())
    answers = {"names": classes, "predict": paint(classes, side)}
    return Recipe(make(classes=len(classes)), batches, loss, config, test, **answers)


def detection(
    make: Callable[..., nn.Module],
    loss: train.Loss,
    detect: Callable[..., Detections],
    config: train.FitConfig,
    batch_size: int,
    source: Source,
    side: int,
) -> Recipe:
    """`make(classes=n)` is a detector of n classes; data as `folders.boxes` reads them."""
    own, classes = _open(folders.boxes, source, side)

    def test(model: nn.Module) -> dict[str, float]:
        device, found, there = next(model.parameters()).device, [], []
        for start, batch in enumerate(own.test.in_order(TOGETHER)):
            images, boxes, labels = batch
            parts = Detections(*(p.cpu() for p in detect(model, scale_pixels(images.to(device)))))
            objects = average_precision.objects_of(boxes, labels)
            for rows, part in ((found, parts), (there, objects)):
                rows.append(part._replace(images=part.images + start * TOGETHER))
        columns = [map(torch.cat, zip(*rows, strict=True)) for rows in (found, there)]
        found, there = Detections(*columns[0]), Objects(*columns[1])
        scores = average_precision.coco_map(found, there, len(classes))
        return {"mAP@0.5": scores["map_50"], "mAP": scores["map"]}

    runtime.seed_everything(config.seed)
    nothing = torch.zeros(2, 1, 4), torch.full((2, 1), -1)
    batches = _batches(own, batch_size, config.seed, side, *nothing)
    answers = {"names": classes, "predict": point_out(detect, classes, side)}
    return Recipe(make(classes=len(classes)), batches, loss, config, test, **answers)


def paint(classes: Sequence[str], side: int, grey: bool = False) -> Callable[[nn.Module, str], str]:
    """`Recipe.predict` of a U-Net: a picture's file -> which class has which share of it."""

    def answer(model: nn.Module, path: str) -> str:
        """Write the mask beside the picture."""
        image, (width, height) = folders.open_picture(Path(path), side, grey)
        logits = train.predict(model, scale_pixels(image[None]))
        if logits.shape[1] == 1:  # yes or no
            logits = torch.cat([-logits, logits], dim=1)  # -> (1, 2, side, side)
        mask = F.interpolate(logits, size=(height, width), mode="bilinear")[0].argmax(0)  # (H, W)
        target = Path(path).with_suffix(".mask.png")
        if target.exists():
            raise ValueError(f"{target} exists already; move it or delete it")
        Image.fromarray(mask.byte().numpy()).save(target)
        shares = mask.flatten().bincount(minlength=len(classes)) / mask.numel()
        named = zip(classes, shares.tolist(), strict=True)
        return f"{target}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in named)

    return answer


def point_out(
    detect: Callable[..., Detections], classes: Sequence[str], side: int
) -> Callable[[nn.Module, str], str]:
    """`Recipe.predict` of a detector: a picture's file -> what is where, in its own pixels."""

    def answer(model: nn.Module, path: str) -> str:
        image, (width, height) = folders.open_picture(Path(path), side)
        found = detect(model, scale_pixels(image[None]), confidence=SURE)
        back = torch.tensor([width, height, width, height]) / side
        rows = zip((found.boxes * back).tolist(), found.labels, found.scores, strict=True)
        told = [
            f"{classes[label]} {100 * score:.0f} % at {', '.join(f'{v:.0f}' for v in box)}"
            for box, label, score in rows
        ]
        return "; ".join(told) or "nothing"

    return answer


def _open(
    read: Callable[..., folders.Pictures], source: Source, side: int
) -> tuple[folders.Pictures | None, tuple[str, ...]]:
    """The pictures, if there are any, and the names of the classes."""
    if isinstance(source, list | tuple):
        return None, tuple(source)
    own = read(source, side)
    return own, own.classes


def _batches(own: folders.Pictures | None, batch_size: int, seed: int, side: int, *rest: Tensor):
    """Those to train on; without data, one batch to see the shapes by."""
    if own is None:
        return [(torch.zeros(2, 3, side, side), *rest)]
    return own.train.batches(batch_size, seed, transform=scale_images)
