"""Boxes around objects as other programs write them: YOLO's text, VOC's XML, COCO's JSON.

What is wrong in a file raises `DataError`, which names the file and the line or object.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from torch import Tensor

from course_lib.checksums import DataError

CLASS_FILES = ("classes.txt", "obj.names")
OUTSIDE = 0.02  # share of the side by which a box may pass the image's border: it is cut off


@dataclass(frozen=True)
class Annotation:
    """One image's boxes xyxy, in pixels or, `relative`, as shares of its sides, and class numbers.

    `file` is where they stand; there, classes may still have names.
    """

    image: Path
    file: Path
    boxes: tuple[tuple[float, ...], ...]
    labels: tuple[int | str, ...]
    relative: bool = False


def read_all(
    parts: Sequence[Path], pictures: Callable[[Path], list[Path]]
) -> tuple[list[list[Annotation]], tuple[str, ...]]:
    """What the folders hold, in whichever of the three formats, and the names of the classes."""
    first = parts[0]
    if (first / "labels").is_dir():
        return _read_yolo(parts, pictures)
    # Asked before VOC: to some systems "Annotations" is the same folder as "annotations".
    if _unpacked(first):
        return _read_coco(parts)
    if (first / "Annotations").is_dir():
        return _read_voc(parts)
    if any(first.glob("*.json")):
        return _read_coco(parts)
    raise DataError(
        f"{first} holds no boxes; needed are labels/*.txt (YOLO), Annotations/*.xml (VOC), one "
        "*.json or annotations/instances_*.json with a folder of images of that name (COCO)"
    )


def image_folder(part: Path) -> Path:
    """Where the pictures lie: in images, or in JPEGImages as VOC has it."""
    named = part / "JPEGImages"
    return named if named.is_dir() else part / "images"


def split_as_voc(files: list[list[Path]], folder: Path, kind: str) -> list[list[Path]]:
    """One list as two, those to train on and those to test on, where VOC's `ImageSets` say so."""
    lists = [folder / "ImageSets" / kind / f"{part}.txt" for part in ("train", "val")]
    if len(files) > 1 or not all(path.is_file() for path in lists):
        return files
    names = [set(path.read_text(encoding="utf-8").split()) for path in lists]
    return [[path for path in files[0] if path.stem in part] for part in names]


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
        folder = image_folder(part)
        for image in pictures(folder):
            path = part / "labels" / image.relative_to(folder).with_suffix(".txt")
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
    files = [sorted((part / "Annotations").glob("*.xml")) for part in parts]
    files = split_as_voc(files, parts[0], "Main")
    found = [[_voc_annotation(path) for path in part] for part in files]
    classes = sorted({name for part in found for item in part for name in item.labels})
    return _numbered(found, classes, parts[0])


def _voc_annotation(path: Path) -> Annotation:
    try:
        root = ElementTree.parse(path).getroot()
        names = tuple(node.findtext("name").strip() for node in root.iter("object"))
        boxes = tuple(_voc_box(node.find("bndbox")) for node in root.iter("object"))
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no VOC annotation ({error}). Mend or move it.") from None
    home = path.parents[1]
    image = _find(root.findtext("filename", ""), (image_folder(home), home), path)
    return Annotation(image, path, boxes, names)


def _voc_box(node: ElementTree.Element) -> tuple[float, ...]:
    """VOC counts pixels from 1, and the last one belongs to the box."""
    x1, y1, x2, y2 = (float(node.findtext(n)) for n in ("xmin", "ymin", "xmax", "ymax"))
    return x1 - 1, y1 - 1, x2, y2


def _read_coco(parts: Sequence[Path]):
    found, classes = [], []
    sources = [(path, (folder,)) for path, folder in _unpacked(parts[0])]
    for part in () if sources else parts:
        files = sorted(part.glob("*.json"))
        if len(files) != 1:
            raise DataError(f"{part} holds {len(files)} JSON files; allowed is one")
        sources.append((files[0], (image_folder(part), part)))
    for file, folders in sources:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            categories = {c["id"]: c["name"] for c in content["categories"]}
            images = {i["id"]: i["file_name"] for i in content["images"]}
            objects: dict[object, list] = {number: [] for number in images}
            for row in content["annotations"]:
                x, y, width, height = map(float, row["bbox"])
                box = (x, y, x + width, y + height)
                # A crowd is one box around many; and a few boxes of COCO itself have no area.
                if not row.get("iscrowd") and width and height:
                    objects[row["image_id"]].append((box, categories[row["category_id"]]))
        except (KeyError, TypeError, ValueError) as error:
            kind = f"{type(error).__name__}: {error}"
            raise DataError(f"{file} is no COCO annotation ({kind}). Mend it.") from None
        classes = classes or [categories[number] for number in sorted(categories)]
        found.append([])
        for number, name in images.items():
            boxes, names = zip(*objects[number], strict=True) if objects[number] else ((), ())
            found[-1].append(Annotation(_find(name, folders, file), file, boxes, names))
    return _numbered(found, classes, parts[0])


def _unpacked(folder: Path) -> list[tuple[Path, Path]]:
    """COCO as it is unpacked: annotations/instances_train2017.json and train2017, the same of val;
    where one of the two has no images, the other alone."""
    pairs = [
        (path, folder / path.stem.removeprefix("instances_"))
        for kind in ("train", "val")
        for path in sorted(folder.glob(f"annotations/instances_{kind}*.json"))
    ]
    pairs = [(path, images) for path, images in pairs if images.is_dir()]
    if len(pairs) > 2:
        names = ", ".join(images.name for _, images in pairs)
        raise DataError(f"{folder} holds {names}; allowed is one to train on and one to test on")
    return pairs


def _find(name: str, folders: Sequence[Path], file: Path) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{file} is about {name or 'no file'}, missing in {folders[0]}")


def _numbered(found: list[list[Annotation]], classes: Sequence[str], folder: Path):
    """What `read_all` returns, from annotations whose labels are names."""
    if not classes:
        raise DataError(f"{folder} holds no objects; at least one is needed")
    numbers = {name: number for number, name in enumerate(classes)}
    for item in found[-1]:
        if wrong := set(item.labels) - set(numbers):
            raise DataError(f"{item.file}: {min(wrong)!r} is a class of no training picture")
    numbered = [
        [replace(item, labels=tuple(numbers[name] for name in item.labels)) for item in part]
        for part in found
    ]
    return numbered, tuple(classes)
