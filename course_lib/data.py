"""The data sets of the course as plain tensors, strings and records.

`load("mnist")` and friends read the files in `data/<set>`, after checking them against their
sha256; `data/<set>/README.md` says where each comes from, under which licence, how it was split
and what is wrong with it. Images are uint8 from 0 to 255, (C, H, W) or (N, C, H, W); `test` is
True for the items that are never trained or selected on. Nothing is downloaded, except CIFAR-10,
and that only by `load("cifar10", download=True)`.
"""

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course_lib import checksums
from course_lib.checksums import DataError

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
CLOTHES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CROWN_SPLITS = {  # by the photo that a tile was cut from, so that no photo is on both sides
    "2019_YELL_2_528000_49780": "train",
    "2019_YELL_2_541000_49770": "test",
    "OSBS_029": "far",
    "SOAP_061": "far",
}
PAINTING_BORDER = 16  # pixels of black and grey edge around the scan of the painting


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of one size: x uint8 (N, C, H, W), y int64 (N,) indexes `classes`."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Cutout:
    """One object without its background: rgba uint8 (4, H, W), alpha 255 where it is solid."""

    name: str
    label: int
    class_name: str
    rgba: Tensor
    test: bool


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo: image uint8 (3, H, W)."""

    name: str
    image: Tensor
    test: bool


@dataclass(frozen=True, eq=False)
class CrownTile:
    """One aerial tile: image uint8 (3, 256, 256), boxes float32 (N, 4) xyxy in pixels, N >= 1.

    `split` is "train", "test" (another photo of the same site) or "far" (other sites).
    """

    name: str
    image: Tensor
    boxes: Tensor
    split: Literal["train", "test", "far"]


@dataclass(frozen=True, eq=False)
class Slices:
    """Axial slices of one head, front up, 1 mm a pixel: x uint8 and brain bool (140, 1, 217, 181).

    region uint8 (140, 1, 217, 181): an AAL region from 1 to 116, or 0. z int64 (140,): height in
    mm from the bottom of the volume. test bool (140,): one block of neighbouring slices.
    """

    x: Tensor
    brain: Tensor
    region: Tensor
    z: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class Nuclei:
    """image uint8 (1, 512, 512); label int64 (512, 512), 0 or a nucleus' number, gaps up to 183."""

    image: Tensor
    label: Tensor


@dataclass(frozen=True, eq=False)
class Reviews:
    """Sentences, their mean ratings float32 (N,) from -4 to 4, rating > 0 bool (N,), test (N,)."""

    texts: tuple[str, ...]
    ratings: Tensor
    positive: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sentences and their translations: french[i] renders english[i]; test bool (N,)."""

    english: tuple[str, ...]
    french: tuple[str, ...]
    test: Tensor


@dataclass(frozen=True)
class Text:
    """One long text in two pieces: `test` follows where `train` ends."""

    train: str
    test: str


@dataclass(frozen=True)
class Document:
    """An article or a chapter; its paragraphs follow one another as in the original."""

    title: str
    paragraphs: tuple[str, ...]
    test: bool


@dataclass(frozen=True, eq=False)
class Style:
    """painting uint8 (3, H, W); photos name -> uint8 (3, H, W); vgg name -> float32 tensor.

    vgg holds e.g. "conv1_1.weight" (64, 3, 3, 3) and "conv1_1.bias" (64,). The weights take pixels
    as blue, green, red, from 0 to 255, less (104.007, 116.669, 122.679).
    """

    painting: Tensor
    photos: dict[str, Tensor]
    vgg: dict[str, Tensor]


def load(name: str, *, download: bool = False):
    """Load a data set by name; LOADERS lists them, and the loader's docstring says what comes.

    `download` matters to "cifar10" only; all other sets are part of the course. Raises
    ValueError for an unknown name, and DataError if a file is missing or damaged.
    """
    if name not in LOADERS:
        raise ValueError(f"name = {name!r} is not a data set; allowed: {', '.join(LOADERS)}")
    return cifar10(download=download) if name == "cifar10" else LOADERS[name]()


def mnist() -> Images:
    """Handwritten digits: 60,000 + 10,000 images (1, 28, 28), white on black. LeCun et al. 1998."""
    return _digits_or_clothes("mnist", DIGITS)


def fashion_mnist() -> Images:
    """Clothes: 60,000 + 10,000 images (1, 28, 28), bright on black. Xiao, Rasul, Vollgraf 2017."""
    return _digits_or_clothes("fashion_mnist", CLOTHES)


def cutouts() -> tuple[Cutout, ...]:
    """246 objects of 14 classes without background, longest side at most 128. Tux Paint stamps."""
    folder = checksums.verify("cutouts", files=("index.tsv", "test.txt"))
    rows = [line.split("\t")[:2] for line in _lines(folder / "index.tsv")]
    classes = sorted({class_name for class_name, _ in rows})
    test = set(_lines(folder / "test.txt"))
    records = []
    for class_name, name in rows:
        rgba = _image(folder / class_name / f"{name}.png", "RGBA")
        is_test = f"{class_name}/{name}" in test
        records.append(Cutout(name, classes.index(class_name), class_name, rgba, is_test))
    return tuple(records)


def backgrounds() -> tuple[Photo, ...]:
    """20 photos without a main object, longest side 512; 5 are test photos. Desktop wallpapers."""
    folder = checksums.verify("backgrounds", files=("test.txt",))
    test = set(_lines(folder / "test.txt"))
    return tuple(Photo(p.stem, _image(p), p.stem in test) for p in _listed(folder, ".jpg"))


def photo_scenes(split: str = "train", count: int = 1_000, seed: int = 0):
    """The cut-outs on the backgrounds as `scenes.Scenes`: `SceneMaker(split).draw(count, seed)`."""
    from course_lib.scenes import SceneMaker  # which is made of this module's sets

    return SceneMaker(split).draw(count, seed)


def tree_crowns() -> tuple[CrownTile, ...]:
    """78 aerial tiles (60 train, 16 test, 2 far) with 721 boxes around trees. DeepForest, NEON."""
    folder = checksums.verify("tree_crowns", files=("boxes.csv",))
    boxes: dict[str, list[list[float]]] = {}
    for line in _lines(folder / "boxes.csv")[1:]:
        image, *corners = line.split(",")
        boxes.setdefault(image.removesuffix(".jpg"), []).append([float(c) for c in corners])
    tiles = []
    for name, corners in sorted(boxes.items()):
        split = CROWN_SPLITS[name.rsplit("_", 2)[0]]  # the name is photo_row_column
        tiles.append(CrownTile(name, _image(folder / f"{name}.jpg"), torch.tensor(corners), split))
    return tuple(tiles)


def brain_mri() -> Slices:
    """140 MRI slices of one head, its brain and regions; 24 are test. Holmes et al. 1998."""
    folder = checksums.verify("brain_mri", files=("brain_mri.npz", "test.txt"))
    test = set(_lines(folder / "test.txt"))
    arrays = _arrays(folder / "brain_mri.npz")
    x, brain, region = (arrays[key].unsqueeze(1) for key in ("x", "brain", "aal"))  # add C = 1
    is_test = torch.tensor([str(z) in test for z in arrays["z"].tolist()])
    return Slices(x, brain.bool(), region, arrays["z"], is_test)


def nuclei() -> Nuclei:
    """One fluorescence image with 125 labelled nuclei. Caicedo et al. 2019, StarDist's sample."""
    arrays = _arrays(checksums.verify("nuclei", files=("nuclei.npz",)) / "nuclei.npz")
    return Nuclei(arrays["x"].unsqueeze(0), arrays["label"].long())  # x: (H, W) -> (1, H, W)


def movie_reviews() -> Reviews:
    """10,605 sentences of film reviews; 1,000 + 1,000 are test. Hutto and Gilbert 2014."""
    folder = checksums.verify("movie_reviews", files=("movie_reviews.tsv", "test.txt"))
    rows = [line.split("\t") for line in _lines(folder / "movie_reviews.tsv")]
    ratings = torch.tensor([float(rating) for rating, _ in rows])
    texts = tuple(text for _, text in rows)
    return Reviews(texts, ratings, ratings > 0, _test_lines(folder, len(rows)))


def english_french() -> Pairs:
    """14,509 lines of dialogue in two languages; 1,000 are test. FreedroidRPG, Wesnoth."""
    folder = checksums.verify("english_french", files=("english_french.tsv", "test.txt"))
    rows = [line.split("\t") for line in _lines(folder / "english_french.tsv")]
    return Pairs(*zip(*rows, strict=True), _test_lines(folder, len(rows)))


def shakespeare() -> Text:
    """Eight plays, 1.07 million characters, 77 different ones; the last tenth is the test part."""
    folder = checksums.verify("shakespeare", files=("shakespeare.txt",))
    text = (folder / "shakespeare.txt").read_text(encoding="utf-8")
    cut = text.rindex("\n\n", 0, len(text) * 9 // 10) + 2  # between two speeches
    return Text(text[:cut], text[cut:])


def austen() -> tuple[Document, ...]:
    """269 chapters of six novels, titled "emma/1" and so on; 21 are test chapters."""
    folder = checksums.verify("austen", files=("test.txt",))
    test = set(_lines(folder / "test.txt"))
    documents = []
    for path in _listed(folder, ".txt"):
        for number, chapter in enumerate(_chapters(path.read_text(encoding="utf-8")), 1):
            title = f"{path.stem}/{number}"
            documents.append(Document(title, chapter, title in test))
    return tuple(documents)


def wikipedia() -> tuple[Document, ...]:
    """95 encyclopedia articles of 4,965 paragraphs; 8 are test articles. English Wikipedia."""
    folder = checksums.verify("wikipedia", files=("wikipedia.txt", "test.txt"))
    test = set(_lines(folder / "test.txt"))
    text = (folder / "wikipedia.txt").read_text(encoding="utf-8").removeprefix("= ")
    documents = []
    for article in text.split("\n= "):
        title, _, body = article.partition("\n")
        documents.append(Document(title, tuple(body.strip().split("\n\n")), title in test))
    return tuple(documents)


def style() -> Style:
    """The Starry Night without its frame, seven photos, and VGG-16's layers conv1_1 to conv4_1."""
    folder = checksums.verify("style", files=("vgg16_conv.npz", "starry_night.jpg"))
    photos = {path.stem: _image(path) for path in _listed(folder, ".jpg")}
    painting = photos.pop("starry_night")
    edge = slice(PAINTING_BORDER, -PAINTING_BORDER)
    vgg = {name: array.float() for name, array in _arrays(folder / "vgg16_conv.npz").items()}
    return Style(painting[:, edge, edge].contiguous(), photos, vgg)


def cifar10(*, download: bool = False) -> Images:
    """CIFAR-10: 50,000 + 10,000 images (3, 32, 32). Krizhevsky 2009; not part of the course's data.

    Read from `data/downloads/cifar10`. If it is missing or damaged, download=True has torchvision
    fetch it (with its progress bar on stderr) into a folder beside it, which takes its place only
    when every file has passed its md5. Raises DataError if it cannot be read or fetched.
    """
    home = checksums.data_root() / "downloads" / "cifar10"
    if not home.is_dir() and not download:
        raise DataError(
            f"CIFAR-10 is not in {home}, since it does not ship with the course. Fetch it with "
            'data.load("cifar10", download=True), the only call that touches the network.'
        )
    try:
        return _read_cifar10(home)
    except DataError:
        if not download:
            raise
    return _fetch_cifar10(home)


_ALL = (mnist, fashion_mnist, cifar10, cutouts, backgrounds, tree_crowns, brain_mri, nuclei)
_ALL += (movie_reviews, english_french, shakespeare, austen, wikipedia, style, photo_scenes)
LOADERS = {loader.__name__: loader for loader in _ALL}


def _digits_or_clothes(name: str, classes: tuple[str, ...]) -> Images:
    arrays = _arrays(checksums.verify(name, files=(f"{name}.npz",)) / f"{name}.npz")
    x_train, x_test = arrays["x_train"].unsqueeze(1), arrays["x_test"].unsqueeze(1)  # add C = 1
    return Images(x_train, arrays["y_train"].long(), x_test, arrays["y_test"].long(), classes)


def _chapters(novel: str) -> list[tuple[str, ...]]:
    """The paragraphs of each chapter, one line each; title pages, volumes and notes left out."""
    novel = novel.partition("\nA NOTE ON THE TEXT\n")[0]  # of a later editor
    not_prose = re.compile(r"(volume [ivx]+|finis|the end|[* ]*)", re.IGNORECASE)
    chapters = []
    for chapter in re.split(r"^chapter\b.*$", novel, flags=re.MULTILINE | re.IGNORECASE)[1:]:
        paragraphs = [" ".join(block.split()) for block in re.split(r"\n\s*\n", chapter)]
        chapters.append(tuple(p for p in paragraphs if not not_prose.fullmatch(p)))
    return chapters


def _listed(folder: Path, suffix: str) -> list[Path]:
    # not a glob: a stray file in the folder would be read unchecked
    names = sorted(checksums.read_sums(folder))
    return [folder / name for name in names if name.endswith(suffix) and name != "test.txt"]


def _arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _image(path: Path, mode: str = "RGB") -> Tensor:
    with Image.open(path) as image:
        pixels = np.array(image.convert(mode))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # (H, W, C) -> (C, H, W)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _test_lines(folder: Path, count: int) -> Tensor:
    test = torch.zeros(count, dtype=torch.bool)
    test[[int(key) for key in _lines(folder / "test.txt")]] = True
    return test


def _read_cifar10(folder: Path) -> Images:
    from torchvision.datasets import CIFAR10  # a slow import that no other set needs

    try:  # torchvision compares each file's md5 before it reads it
        train, test = CIFAR10(folder, train=True), CIFAR10(folder, train=False)
    except Exception as error:
        raise DataError(
            f"the CIFAR-10 in {folder} is damaged ({_reason(error)}). "
            'Fetch it anew with load("cifar10", download=True).'
        ) from error
    pixels = (torch.from_numpy(part.data) for part in (train, test))  # (N, H, W, C) each
    x_train, x_test = (x.permute(0, 3, 1, 2).contiguous() for x in pixels)
    y_train, y_test = torch.tensor(train.targets), torch.tensor(test.targets)
    return Images(x_train, y_train, x_test, y_test, tuple(train.classes))


def _fetch_cifar10(home: Path) -> Images:
    from torchvision.datasets import CIFAR10

    home.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="cifar10-partial-", dir=home.parent))
    try:
        CIFAR10(partial, download=True)
        images = _read_cifar10(partial)
        (partial / CIFAR10.filename).unlink()
        partial.chmod(0o755)  # mkdtemp lets nobody else in
        shutil.rmtree(home, ignore_errors=True)  # a damaged copy
        os.replace(partial, home)
    except Exception as error:
        raise DataError(
            f"CIFAR-10 could not be downloaded: {_reason(error)}. "
            'Nothing was kept; try load("cifar10", download=True) again.'
        ) from error
    finally:  # also when the reader interrupts the download
        shutil.rmtree(partial, ignore_errors=True)
    return images


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
