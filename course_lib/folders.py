"""The user's own pictures: in a folder for each class, with masks, or with boxes around objects.

    images(folder, side)   FOLDER/dog/1.jpg ...
    masks(folder, side)    FOLDER/images/1.jpg ... and FOLDER/masks/1.png ...
    boxes(folder, side)    FOLDER/images/1.jpg ... with FOLDER/labels/1.txt (YOLO),
                           FOLDER/Annotations/1.xml (VOC) or one FOLDER/*.json (COCO)

VOC (JPEGImages, SegmentationClass, ImageSets) and COCO (train2017, val2017, annotations) are also
read as they are unpacked, with their own parts to train and to test on. Any other FOLDER may hold
`train` and `test` (or `val`, `valid`), each built so; else every tenth picture by name is held out.
Files are read when their batch is made. Each is resized to side x side pixels. What cannot be read
raises `DataError`, which names the file.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from course_lib import annotations
from course_lib.annotations import Annotation
from course_lib.batches import IGNORED, Batch, Batches
from course_lib.checksums import DataError

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
TEST_FOLDERS = ("test", "val", "valid")
HELD_OUT = 10  # every tenth, where the folders do not say
THREADS = 4  # decoding a picture leaves Python's lock to the others
AHEAD = 2  # batches that are read while the model works

Item = tuple[Tensor, ...]
Read = Callable[[int], Item]


@dataclass(frozen=True, eq=False)
class Items:
    """`count` items; `read(number)` gives one as tensors, of the same shapes for each."""

    count: int
    read: Read

    def batches(self, batch_size: int, seed: int = 0, **options) -> "FileBatches":
        return FileBatches(self, batch_size=batch_size, seed=seed, **options)

    def in_order(self, batch_size: int) -> Iterator[Item]:
        """All items once, as batches: whole on each of several processes, as tests want them."""
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, self.count, batch_size):
                rows = pool.map(self.read, range(self.count)[start : start + batch_size])
                yield tuple(torch.stack(column) for column in zip(*rows, strict=True))


@dataclass(frozen=True, eq=False)
class Pictures:
    """`classes` names the numbers in labels and masks."""

    train: Items
    test: Items
    classes: tuple[str, ...]


class FileBatches(Batches):
    """`Batches` whose items are read from files by threads, some batches ahead.

    Order, `transform` and several processes' parts are those of `Batches`: a run can be resumed to
    the bit, and each process reads only the files of its part.
    """

    def __init__(self, items: Items, *, batch_size: int, **options):
        super().__init__(torch.arange(items.count), batch_size=batch_size, **options)
        self.items, self.device = items, torch.device("cpu")

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number `start` on: this process's part of each."""
        numbers = Batches(
            *self.tensors,
            batch_size=self.batch_size,
            seed=self.seed,
            shuffle=self.shuffle,
            transform=lambda batch, generator: (batch[0], generator),
        )
        waiting: deque = deque()
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                for part in numbers.epoch(epoch, start):
                    chosen, generator = part if len(part) == 2 else (part[0], None)
                    reads = [pool.submit(self.items.read, i) for i in chosen.tolist()]
                    waiting.append((reads, generator))
                    if len(waiting) > AHEAD:
                        yield self._collect(*waiting.popleft())
                while waiting:
                    yield self._collect(*waiting.popleft())
            finally:  # a run that ends within an epoch waits for no file
                pool.shutdown(wait=False, cancel_futures=True)

    def to(self, device: torch.device) -> "FileBatches":
        """The same batches, whose transform works on `device`."""
        moved = copy(self)
        moved.device = device
        return moved

    def _collect(self, reads: list, generator: torch.Generator | None) -> Batch:
        if not reads:  # fewer items than processes: this one's part is empty
            return tuple(tensor[None][:0].to(self.device) for tensor in self.items.read(0))
        columns = zip(*(read.result() for read in reads), strict=True)
        batch = tuple(torch.stack(column).to(self.device) for column in columns)
        return batch if self.transform is None else self.transform(batch, generator)


def images(folder: str | Path, side: int, grey: bool = False) -> Pictures:
    """Pictures in a folder for each class: image uint8 (3 or 1, side, side), label int64 ().

    Raises:
        DataError: there are no pictures, or fewer than two classes; a test folder has another one.
    """
    parts = [
        [(path, sub.name) for sub in _folders(part) for path in _pictures(sub)]
        for part in _parts(Path(folder))
    ]
    classes = tuple(sorted({name for _, name in parts[0]}))
    if len(classes) < 2:
        raise DataError(
            f"{folder} holds pictures of {len(classes)} classes; needed are two or more folders, "
            "one for each class, with pictures in them"
        )
    for path, name in parts[-1]:
        if name not in classes:
            raise DataError(f"{path} is a test picture of {name!r}, a class without training ones")

    def items(files: list[tuple[Path, str]]) -> Items:
        def read(number: int) -> Item:
            path, name = files[number]
            label = torch.tensor(classes.index(name))
            return read_image(path, side, grey), label

        return Items(len(files), read)

    return Pictures(*map(items, _held_out(parts, folder)), classes)


def masks(folder: str | Path, side: int) -> Pictures:
    """Pictures and their masks: image uint8 (3, side, side), mask int64 (side, side).

    A mask is a picture of one channel with class numbers, 255 for `IGNORED` pixels; where all
    masks hold 0 and 255 alone, 255 is class 1. Names of classes stand in FOLDER/classes.txt, one a
    line; without it the masks are all looked at once, and numbers serve as names.
    """
    homes = _parts(Path(folder))
    files = [_pictures(annotations.image_folder(home)) for home in homes]
    files = annotations.split_as_voc(files, homes[0], "Segmentation")
    parts = [
        [(path, _partner(path, homes[min(number, len(homes) - 1)])) for path in part]
        for number, part in enumerate(files)
    ]
    names = annotations.read_classes(Path(folder))
    found = range(len(names)) if names else _values([mask for part in parts for _, mask in part])
    binary = set(found) <= {0, 255}
    count = 2 if binary and not names else len(names) or 1 + max(v for v in found if v < 255)

    def items(files: list[tuple[Path, Path]]) -> Items:
        def read(number: int) -> Item:
            path, mask_path = files[number]
            mask, size = _read_mask(mask_path, side)
            image = read_image(path, side, size=size)
            if binary and not names:
                return image, (mask > 0).long()
            mask = mask.where(mask < 255, IGNORED)
            if mask.max() >= count:
                top = f"{mask.max()}; allowed are class numbers below {count}, and 255"
                raise DataError(f"{mask_path} holds {top}")
            return image, mask

        return Items(len(files), read)

    classes = names or tuple(str(number) for number in range(count))
    return Pictures(*map(items, _held_out(parts, folder)), classes)


def boxes(folder: str | Path, side: int) -> Pictures:
    """Pictures and boxes: image uint8 (3, side, side), boxes float32 (K, 4) xyxy in pixels of the
    resized image, labels int64 (K,), -1 beyond the last; K is the most that a picture has."""
    parts, classes = annotations.read_all(_parts(Path(folder)), _pictures)
    most = max(len(item.labels) for part in parts for item in part)

    def items(files: list[Annotation]) -> Items:
        def read(number: int) -> Item:
            item = files[number]
            image, (width, height) = open_picture(item.image, side)
            shares = torch.tensor(item.boxes).view(-1, 4)
            if not item.relative:
                shares = shares / torch.tensor([width, height, width, height])
            annotations.check_shares(item, shares)
            room = (0, 0, 0, most - len(shares))
            placed = torch.nn.functional.pad(shares.clamp(0, 1) * side, room)
            labels = torch.tensor([*item.labels, *[IGNORED] * room[3]], dtype=torch.int64)
            return image, placed, labels

        return Items(len(files), read)

    return Pictures(*map(items, _held_out(parts, folder)), classes)


def read_image(
    path: str | Path, side: int, grey: bool = False, size: tuple[int, int] | None = None
) -> Tensor:
    """A picture as uint8 (3 or 1, side, side); `size` is what (width, height) it must have."""
    image, found = open_picture(Path(path), side, grey)
    if size is not None and size != found:
        raise DataError(f"{path} has {found} pixels, but its mask {size}; allowed are equal sizes")
    return image


def open_picture(path: Path, side: int, grey: bool = False) -> tuple[Tensor, tuple[int, int]]:
    """The resized picture, and the (width, height) it had."""
    mode = "L" if grey else "RGB"
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            size = upright.size
            pixels = np.array(upright.convert(mode).resize((side, side), Image.Resampling.BOX))
    except (OSError, ValueError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read as a picture ({reason}).") from None
    return torch.from_numpy(pixels).view(side, side, -1).permute(2, 0, 1).contiguous(), size


def _read_mask(path: Path, side: int | None = None) -> tuple[Tensor, tuple[int, int]]:
    """Class numbers int64 (side, side), or (H, W) as they are, and the (width, height) they had."""
    try:
        with Image.open(path) as file:
            size, bands = file.size, len(file.getbands())
            small = file if side is None else file.resize((side, side), Image.Resampling.NEAREST)
            values = torch.from_numpy(np.array(small).astype(np.int64))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read as a mask ({error}). Mend or move it.") from None
    if bands != 1:
        raise DataError(f"{path} has {bands} channels; allowed is one, of class numbers")
    return values, size


def _values(paths: list[Path]) -> set[int]:
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda path: set(_read_mask(path)[0].unique().tolist()), paths)
        return set().union(*found)


def _parts(folder: Path) -> list[Path]:
    """The folders of training and of test pictures, or the one that holds both."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --data names one that holds your files")
    if not (folder / "train").is_dir():
        return [folder]
    for name in TEST_FOLDERS:
        if (folder / name).is_dir():
            return [folder / "train", folder / name]
    return [folder / "train"]


def _held_out(parts: list[list], folder: str | Path) -> tuple[list, list]:
    """What to train on and what to test on, none of them empty."""
    train, test = parts if len(parts) == 2 else ([], [])
    for number, item in enumerate(parts[0] if len(parts) == 1 else ()):
        (test if number % HELD_OUT == HELD_OUT - 1 else train).append(item)
    if not train or not test:
        raise DataError(
            f"{folder} holds {len(train)} pictures to train on and {len(test)} to test on; needed "
            f"are some of both, or {HELD_OUT} without a test folder"
        )
    return train, test


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _pictures(folder: Path) -> list[Path]:
    """All pictures in a folder and the folders in it, by name."""
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; pictures are looked for there")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _partner(path: Path, home: Path) -> Path:
    """The mask of a picture: of the same name, whatever its ending."""
    named = home / "SegmentationClass"  # of VOC
    folder = named if named.is_dir() else home / "masks"
    for ending in (".png", path.suffix, ".tif", ".gif", ".bmp"):
        mask = folder / f"{path.stem}{ending}"
        if mask.is_file():
            return mask
    raise DataError(f"{path} has no mask; {folder / path.stem}.png is missing")
