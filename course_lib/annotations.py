"""Boxes around objects as other programs write them: YOLO's text, VOC's XML, COCO's JSON.

What is wrong in a file raises `DataError`, which names the file and the line or object.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from torch import Tensor

from course_lib.checksums import DataError

CLASS_FILES = ("classes.txt", "obj.names")
OUTSIDE = 0.02  # share of the side by which a box may pass the image's border: it is cut off


@dataclass(frozen=True)
class Annotation:
    """One image's boxes xyxy, in pixels or, `relative`, as shares of its sides, and class numbers.

    `file` is where they stand.
    """

    image: Path
    file: Path
    boxes: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]
    relative: bool = False


def read_all(
    parts: Sequence[Path], pictures: Callable[[Path], list[Path]]
) -> tuple[list[list[Annotation]], tuple[str, ...]]:
    """What the folders hold, in whichever of the three formats, and the names of the classes."""
    first = parts[0]
    if (first / "labels").is_dir():
        return _read_yolo(parts, pictures)
    if (first / "Annotations").is_dir():
        return _read_voc(parts)
    if any(first.glob("*.json")):
        return _read_coco(parts)
    raise DataError(
        f"{first} holds no boxes; needed are labels/*.txt (YOLO), Annotations/*.xml (VOC) or one "
        "*.json (COCO)"
    )


def read_classes(folder: Path) -> tuple[str, ...]:
    """The names in FOLDER/classes.txt, one a line; none where there is no such file."""
    for name in CLASS_FILES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    return ()


def check_shares(item: Annotation, shares: Tensor) -> None:
    """Refuse boxes, as shares of the sides (K, 4), that lie outside or have no width or height."""
    if not len(shares):
        return
    inside = (shares >= -OUTSIDE).all(1) & (shares <= 1 + OUTSIDE).all(1)
    right = inside & (shares[:, :2] < shares[:, 2:]).all(1)
    for number in (~right).nonzero().flatten().tolist()[:1]:
        box = ", ".join(f"{value:g}" for value in item.boxes[number])
        raise DataError(
            f"{item.file}: object {number + 1} of {item.image.name} has the box ({box}), x1, y1, "
            "x2, y2; allowed are x1 < x2, y1 < y2, inside of the image"
        )


def _read_yolo(parts: Sequence[Path], pictures: Callable[[Path], list[Path]]):
    names = read_classes(parts[0]) or read_classes(parts[0].parent)
    found = []
    for part in parts:
        found.append([])
        for image in pictures(part / "images"):
            path = part / "labels" / f"{image.stem}.txt"
            # An image without objects may have an empty file or none.
            lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            rows = [_yolo_row(path, i, line) for i, line in enumerate(lines, 1) if line.strip()]
            boxes, labels = tuple(row[0] for row in rows), tuple(row[1] for row in rows)
            found[-1].append(Annotation(image, path, boxes, labels, relative=True))
    top = max((label for part in found for item in part for label in item.labels), default=-1)
    names = names or tuple(str(number) for number in range(top + 1))
    if not 0 <= top < len(names):
        raise DataError(
            f"{parts[0] / 'labels'} holds class {top} at most; there are {len(names)} names"
        )
    return found, names


def _yolo_row(path: Path, number: int, line: str) -> tuple[tuple[float, ...], int]:
    """ "class x y width height", the middle and the size as shares of the image's sides."""
    try:
        label, x, y, width, height = line.split()
        values = [float(value) for value in (x, y, width, height)]
        if int(label) < 0 or not all(map(math.isfinite, values)):
            raise ValueError
    except ValueError:
        raise DataError(
            f"{path}, line {number} is {line!r}; allowed is: class x y width height, the class a "
            "whole number from 0, the others shares of the image's sides"
        ) from None
    x, y, width, height = values
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2), int(label)


def _read_voc(parts: Sequence[Path]):
    raw = []
    for part in parts:
        folder = next((part / n for n in ("JPEGImages", "images") if (part / n).is_dir()), part)
        files = sorted((part / "Annotations").glob("*.xml"))
        raw.append([(path, *_voc_objects(path, folder)) for path in files])
    classes = sorted({name for part in raw for *_, objects in part for name, _ in objects})
    found = [
        [
            Annotation(
                image,
                path,
                tuple(box for _, box in objects),
                tuple(classes.index(name) for name, _ in objects),
            )
            for path, image, objects in part
        ]
        for part in raw
    ]
    return found, _some(classes, parts[0])


def _voc_objects(path: Path, folder: Path):
    try:
        root = ElementTree.parse(path).getroot()
        image = folder / root.findtext("filename", "")
        objects = [
            (node.findtext("name").strip(), _voc_box(node.find("bndbox")))
            for node in root.iter("object")
        ]
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no VOC annotation ({error}). Mend or move it.") from None
    if not image.is_file():
        raise DataError(f"{path} is about {image}, which is missing")
    return image, objects


def _voc_box(node: ElementTree.Element) -> tuple[float, ...]:
    """VOC counts pixels from 1, and the last one belongs to the box."""
    x1, y1, x2, y2 = (float(node.findtext(n)) for n in ("xmin", "ymin", "xmax", "ymax"))
    return x1 - 1, y1 - 1, x2, y2


def _read_coco(parts: Sequence[Path]):
    found, classes = [], []
    for part in parts:
        files = sorted(part.glob("*.json"))
        if len(files) != 1:
            raise DataError(f"{part} holds {len(files)} JSON files; allowed is one")
        try:
            content = json.loads(files[0].read_text(encoding="utf-8"))
            categories = {c["id"]: c["name"] for c in content["categories"]}
            images = {i["id"]: i["file_name"] for i in content["images"]}
            objects: dict[object, list] = {number: [] for number in images}
            for row in content["annotations"]:
                x, y, width, height = map(float, row["bbox"])
                box = (x, y, x + width, y + height)
                if not row.get("iscrowd"):  # a crowd is one box around many
                    objects[row["image_id"]].append((box, categories[row["category_id"]]))
        except (KeyError, TypeError, ValueError) as error:
            kind = f"{type(error).__name__}: {error}"
            raise DataError(f"{files[0]} is no COCO annotation ({kind}). Mend it.") from None
        classes = classes or [categories[number] for number in sorted(categories)]
        found.append([])
        for number, name in images.items():
            image = next((p for p in (part / "images" / name, part / name) if p.is_file()), None)
            if image is None:
                raise DataError(f"{files[0]} is about {name}, missing in {part / 'images'}")
            boxes = tuple(box for box, _ in objects[number])
            try:
                labels = tuple(classes.index(label) for _, label in objects[number])
            except ValueError as error:
                raise DataError(f"{files[0]}: {error}: a class of no training picture") from None
            found[-1].append(Annotation(image, files[0], boxes, labels))
    return found, _some(classes, parts[0])


def _some(classes: Sequence[str], folder: Path) -> tuple[str, ...]:
    if not classes:
        raise DataError(f"{folder} holds no objects; at least one is needed")
    return tuple(classes)
