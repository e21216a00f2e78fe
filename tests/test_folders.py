"""Pictures of one's own: class folders, masks, boxes in three formats, and reading them lazily."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import folders
from course_lib.checksums import DataError


def save(path, colour, size=(20, 10)):
    """One colour, or an array; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(colour, np.ndarray):
        Image.fromarray(colour).save(path)
    else:
        Image.new("RGB" if isinstance(colour, tuple) else "L", size, colour).save(path)
    return path


@pytest.fixture
def pets(tmp_path):
    """12 cats, each brighter than the one before, and 9 dogs, one of them in a deeper folder."""
    for number in range(12):
        save(tmp_path / "cat" / f"{number:02}.png", (number, 100, 200))
    for number in range(8):
        save(tmp_path / "dog" / f"{number:02}.jpg", (255, number, 0))
    save(tmp_path / "dog" / "more" / "99.png", 77)
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    return tmp_path


def test_class_folders_hold_out_every_tenth(pets):
    found = folders.images(pets, 8)
    assert found.classes == ("cat", "dog")
    assert (found.train.count, found.test.count) == (19, 2)
    image, label = found.test.read(0)
    assert image.shape == (3, 8, 8) and image.dtype == torch.uint8 and label.dtype == torch.int64
    assert image[:, 0, 0].tolist() == [9, 100, 200] and label == 0
    assert found.test.read(1)[1] == 1
    labels = [int(found.train.read(i)[1]) for i in range(19)]
    assert labels == [0] * 11 + [1] * 8
    assert found.train.read(18)[0].unique().tolist() == [77]


def test_grey_pictures_have_one_channel(pets):
    assert folders.images(pets, 6, grey=True).train.read(0)[0].shape == (1, 6, 6)


@pytest.mark.parametrize("test_folder", ["test", "val", "valid"])
def test_train_and_test_folders_decide(pets, tmp_path_factory, test_folder):
    root = tmp_path_factory.mktemp("split")
    (root / "train").symlink_to(pets)
    save(root / test_folder / "dog" / "x.png", (1, 2, 3))
    found = folders.images(root, 8)
    assert (found.train.count, found.test.count) == (21, 1)
    assert found.test.read(0)[1] == 1


def test_what_is_wrong_with_class_folders_is_named(pets, tmp_path_factory):
    broken = pets / "cat" / "00.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match="cat/00.png cannot be read as a picture"):
        folders.images(pets, 8).train.read(0)
    root = tmp_path_factory.mktemp("wrong")
    with pytest.raises(DataError, match="nothing is no folder; --data names one"):
        folders.images(root / "nothing", 8)
    with pytest.raises(DataError, match="holds pictures of 0 classes"):
        folders.images(root, 8)
    save(root / "a" / "1.png", 1)
    save(root / "b" / "1.png", 1)
    with pytest.raises(
        DataError, match="2 pictures to train on and 0 to test on; .* or 10 without"
    ):
        folders.images(root, 8)
    (root / "train").mkdir()
    (root / "a").rename(root / "train" / "a")
    (root / "b").rename(root / "train" / "b")
    save(root / "test" / "c" / "1.png", 1)
    with pytest.raises(DataError, match="c/1.png is a test picture of 'c', a class without"):
        folders.images(root, 8)


def test_batches_are_those_of_tensors_in_memory(pets):
    items = folders.images(pets, 4).train
    x, y = (torch.stack(column) for column in zip(*map(items.read, range(19)), strict=True))

    def noisy(batch, generator):
        return batch[0] + torch.rand(batch[0].shape, generator=generator), batch[1]

    lazy = items.batches(4, seed=3, transform=noisy)
    memory = folders.Batches(x, y, batch_size=4, seed=3, transform=noisy)
    assert len(lazy) == len(memory) == 5
    for epoch, start in ((0, 0), (1, 0), (1, 3)):
        pairs = zip(lazy.epoch(epoch, start), memory.epoch(epoch, start), strict=True)
        for (images, labels), (their_images, their_labels) in pairs:
            assert images.equal(their_images) and labels.equal(their_labels)


def test_processes_share_the_files_and_read_no_others(pets, monkeypatch):
    items = folders.images(pets, 4).train
    read = []
    counted = folders.Items(items.count, lambda i: read.append(i) or items.read(i))
    monkeypatch.setattr(folders.Batches.epoch.__globals__["distributed"], "world_size", lambda: 4)
    seen = []
    for rank in range(4):
        rank_of = folders.Batches.epoch.__globals__["distributed"]
        monkeypatch.setattr(rank_of, "rank", lambda rank=rank: rank)
        sizes = [len(images) for images, _ in counted.batches(6).epoch(0)]
        seen.append(sizes)
    assert seen == [[2, 2, 2, 1], [2, 2, 2, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    # The empty parts look at file 0 for the shape alone.
    assert sorted(set(read)) == list(range(19)) and len(read) == 19 + 3


def test_files_are_read_when_needed_and_not_before(pets):
    items = folders.images(pets, 4).train
    read = []
    counted = folders.Items(items.count, lambda i: read.append(i) or items.read(i))
    epoch = counted.batches(2).epoch(0)
    assert read == []
    next(epoch)
    assert len(read) <= 2 * (1 + folders.AHEAD)
    epoch.close()


def grid(*rows):
    return np.array(rows, dtype=np.uint8)


@pytest.fixture
def cells(tmp_path):
    """12 pictures of 4 x 2 pixels with masks of classes 0, 1, 2 and some pixels to ignore."""
    for number in range(12):
        save(tmp_path / "images" / f"{number:02}.jpg", (number, 0, 0), (4, 2))
        save(tmp_path / "masks" / f"{number:02}.png", grid([0, 0, 1, 1], [2, 2, 255, 255]))
    return tmp_path


def test_masks_are_class_numbers_and_255_is_ignored(cells):
    found = folders.masks(cells, 4)
    assert found.classes == ("0", "1", "2") and (found.train.count, found.test.count) == (11, 1)
    image, mask = found.train.read(3)
    assert image.shape == (3, 4, 4) and mask.dtype == torch.int64
    assert mask.tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, -1, -1]] * 2


def test_masks_of_black_and_white_are_of_two_classes(cells):
    for path in (cells / "masks").iterdir():
        save(path, grid([0, 0, 255, 255], [0, 0, 0, 0]))
    found = folders.masks(cells, 4)
    assert found.classes == ("0", "1")
    assert found.train.read(0)[1].tolist() == [[0, 0, 1, 1]] * 2 + [[0] * 4] * 2


def test_named_classes_spare_the_look_at_all_masks(cells):
    (cells / "classes.txt").write_text("nothing\ncell\n")
    found = folders.masks(cells, 4)
    assert found.classes == ("nothing", "cell")
    with pytest.raises(DataError, match=r"00.png holds 2; allowed are class numbers below 2"):
        found.train.read(0)


def test_what_is_wrong_with_masks_is_named(cells):
    save(cells / "masks" / "00.png", grid([0, 0, 1], [2, 2, 0]))
    with pytest.raises(DataError, match=r"00.jpg has \(4, 2\) pixels, but its mask \(3, 2\)"):
        folders.masks(cells, 4).train.read(0)
    save(cells / "masks" / "00.png", (1, 2, 3), (4, 2))
    with pytest.raises(DataError, match="00.png has 3 channels; allowed is one, of class numbers"):
        folders.masks(cells, 4)
    (cells / "masks" / "00.png").unlink()
    with pytest.raises(DataError, match=r"images/00.jpg has no mask; .*masks/00.png is missing"):
        folders.masks(cells, 4)


BOXES = {0: [(0, 2, 0, 10, 5)], 1: [], 2: [(1, 0, 0, 20, 10), (0, 10, 5, 20, 10)]}  # label, xyxy


def as_yolo(root, boxes, images):
    (root / "labels").mkdir()
    (root / "classes.txt").write_text("car\nboat\n")
    for number, rows in boxes.items():
        lines = [
            f"{c} {(a + x) / 40} {(b + y) / 20} {(x - a) / 20} {(y - b) / 10}"
            for c, a, b, x, y in rows
        ]
        if rows:
            (root / "labels" / f"{images[number].stem}.txt").write_text("\n".join(lines) + "\n")


def as_voc(root, boxes, images):
    (root / "Annotations").mkdir()
    for number, rows in boxes.items():
        objects = "".join(
            f"<object><name>{'car' if c == 0 else 'boat'}</name><bndbox><xmin>{a + 1}</xmin>"
            f"<ymin>{b + 1}</ymin><xmax>{x}</xmax><ymax>{y}</ymax></bndbox></object>"
            for c, a, b, x, y in rows
        )
        file = root / "Annotations" / f"{images[number].stem}.xml"
        name = f"<filename>{images[number].name}</filename>"
        file.write_text(f"<annotation>{name}{objects}</annotation>")


def as_coco(root, boxes, images):
    content = {
        "categories": [{"id": 7, "name": "boat"}, {"id": 3, "name": "car"}],
        "images": [{"id": 100 + n, "file_name": images[n].name} for n in boxes],
        "annotations": [
            {"image_id": 100 + n, "category_id": [3, 7][c], "bbox": [a, b, x - a, y - b]}
            for n, rows in boxes.items()
            for c, a, b, x, y in rows
        ],
    }
    content["annotations"].append(
        {"image_id": 100, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    )
    (root / "boxes.json").write_text(json.dumps(content))


@pytest.fixture
def street(tmp_path):
    """12 pictures of 20 x 10 pixels; the first three as in BOXES, the others have no box."""
    images = [save(tmp_path / "images" / f"{n:02}.png", (n, 0, 0)) for n in range(12)]
    return tmp_path, {**{n: [] for n in range(12)}, **BOXES}, images


@pytest.mark.parametrize("write", [as_yolo, as_voc, as_coco])
def test_boxes_are_the_same_in_all_formats(street, write):
    write(*street)
    found = folders.boxes(street[0], 40)
    order = {name: number for number, name in enumerate(found.classes)}
    car, boat = order["car"], order["boat"]
    assert sorted(order) == ["boat", "car"] and (found.train.count, found.test.count) == (11, 1)
    image, boxes, labels = found.train.read(0)
    assert image.shape == (3, 40, 40) and image[0, 0, 0] == 0
    # 20 x 10 pixels become 40 x 40: x doubles, y grows to the fourfold.
    torch.testing.assert_close(boxes, torch.tensor([[4.0, 0, 20, 20], [0, 0, 0, 0]]))
    assert labels.tolist() == [car, -1]
    assert found.train.read(1)[2].tolist() == [-1, -1]
    _, boxes, labels = found.train.read(2)
    torch.testing.assert_close(boxes, torch.tensor([[0.0, 0, 40, 40], [20, 20, 40, 40]]))
    assert labels.tolist() == [boat, car] and boxes.dtype == torch.float32


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("0 0.5 0.5 0.5", "line 2 is '0 0.5 0.5 0.5'; allowed is: class x y width height"),
        ("car 0.5 0.5 0.5 0.5", "line 2 is 'car"),
        ("0 nan 0.5 0.5 0.5", "line 2 is '0 nan"),
        ("-1 0.5 0.5 0.5 0.5", "line 2 is '-1"),
        ("2 0.5 0.5 0.5 0.5", "holds class 2 at most; there are 2 names"),
        ("0 0.9 0.5 0.5 0.5", r"object 2 of 00.png has the box \(0.65, 0.25, 1.15, 0.75\)"),
        ("0 0.5 0.5 0 0.5", "object 2 of 00.png has the box"),
    ],
)
def test_wrong_yolo_lines_are_named(street, line, text):
    as_yolo(*street)
    path = street[0] / "labels" / "00.txt"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=text):
        folders.boxes(street[0], 40).train.read(0)


def test_wrong_xml_and_json_are_named(street):
    root = street[0]
    with pytest.raises(DataError, match="holds no boxes; needed are labels"):
        folders.boxes(root, 40)
    as_coco(*street)
    file = root / "boxes.json"
    text = file.read_text()
    file.write_text(text.replace('"category_id": 7', '"category_id": 8'))
    with pytest.raises(DataError, match="boxes.json is no COCO annotation .KeyError: 8"):
        folders.boxes(root, 40)
    file.write_text(text.replace("00.png", "77.png"))
    with pytest.raises(DataError, match="boxes.json is about 77.png, missing in"):
        folders.boxes(root, 40)
    as_voc(*street)
    xml = root / "Annotations" / "02.xml"
    xml.write_text(xml.read_text().replace("<xmax>20</xmax>", "<xmax></xmax>"))
    with pytest.raises(DataError, match="02.xml is no VOC annotation"):
        folders.boxes(root, 40)
    xml.write_text("<annotation><filename>no.png</filename></annotation>")
    with pytest.raises(DataError, match="02.xml is about no.png, missing in .*images"):
        folders.boxes(root, 40)


def test_voc_is_read_as_it_is_unpacked(street):
    """Its lists decide, which leave pictures out; the masks have a list of their own."""
    root, _, images = street
    as_voc(*street)
    (root / "images").rename(root / "JPEGImages")
    lists = {"Main": {"train": "02\n00\n", "val": "05\n"}}
    lists |= {"Segmentation": {"train": "01\n", "val": "03\n04\n"}}
    for kind, parts in lists.items():
        for part, text in parts.items():
            file = root / "ImageSets" / kind / f"{part}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    found = folders.boxes(root, 40)
    assert (found.train.count, found.test.count) == (2, 1)
    assert [int(found.train.read(i)[0][0, 0, 0]) for i in range(2)] == [0, 2]
    assert found.test.read(0)[0][0, 0, 0] == 5 and found.classes == ("boat", "car")

    for number in (1, 3, 4):
        mask = Image.new("P", (20, 10), number)  # a palette's colours stand for class numbers
        mask.putpalette([5, 6, 7] * 256)
        mask.putpixel((0, 0), 255)
        (root / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(root / "SegmentationClass" / f"{number:02}.png")
    found = folders.masks(root, 20)
    assert (found.train.count, found.test.count) == (1, 2) and len(found.classes) == 5
    image, mask = found.train.read(0)
    assert image[0, 0, 0] == 1 and mask.unique().tolist() == [-1, 1]


def test_without_both_lists_every_tenth_of_voc_is_held_out(street):
    as_voc(*street)
    (street[0] / "ImageSets" / "Main").mkdir(parents=True)
    (street[0] / "ImageSets" / "Main" / "train.txt").write_text("00\n")
    found = folders.boxes(street[0], 40)
    assert (found.train.count, found.test.count) == (11, 1)


@pytest.fixture
def coco(street):
    """The street as COCO is unpacked, two pictures to test on, beside other annotations."""
    root, boxes, images = street
    for part, numbers in (("train", range(10)), ("val", (10, 11))):
        (root / f"{part}2017").mkdir()
        as_coco(root, {n: boxes[n] for n in numbers}, images)
        for number in numbers:
            images[number].rename(root / f"{part}2017" / images[number].name)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "boxes.json").rename(root / "annotations" / f"instances_{part}2017.json")
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    return root


def test_coco_is_read_as_it_is_unpacked(coco):
    found = folders.boxes(coco, 40)
    assert (found.train.count, found.test.count) == (10, 2) and found.classes == ("car", "boat")
    image, boxes, labels = found.train.read(2)
    assert image[0, 0, 0] == 2 and labels.tolist() == [1, 0]
    torch.testing.assert_close(boxes, torch.tensor([[0.0, 0, 40, 40], [20, 20, 40, 40]]))
    assert found.test.read(1)[0][0, 0, 0] == 11


def test_a_part_of_coco_without_images_is_left_out(coco):
    (coco / "val2017").rename(coco / "elsewhere")
    found = folders.boxes(coco, 40)
    assert (found.train.count, found.test.count) == (9, 1)


def test_boxes_of_coco_without_area_are_left_out(coco):
    file = coco / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"] += [
        {"image_id": 101, "category_id": 3, "bbox": [4, 4, *sides]} for sides in ((1.03, 0), (0, 2))
    ]
    file.write_text(json.dumps(content))
    assert folders.boxes(coco, 40).train.read(1)[2].tolist() == [-1, -1]
    content["annotations"][-1]["bbox"] = [4, 4, -1, 2]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="instances_train2017.json: object 1 of 01.png has the box"):
        folders.boxes(coco, 40).train.read(1)


def test_two_years_of_coco_are_one_too_many(coco):
    (coco / "train2014").mkdir()
    (coco / "annotations" / "instances_train2014.json").write_text("{}")
    with pytest.raises(DataError, match="holds train2014, train2017, val2017; allowed is one to"):
        folders.boxes(coco, 40)


def test_a_class_of_test_pictures_alone_is_named(coco):
    file = coco / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    content["categories"][0]["name"] = "ship"
    content["annotations"] = [{"image_id": 110, "category_id": 7, "bbox": [0, 0, 9, 9]}]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="val2017.json: 'ship' is a class of no training picture"):
        folders.boxes(coco, 40)


def test_labels_of_yolo_may_lie_in_folders_like_those_of_the_images(street):
    as_yolo(*street)
    for kind, ending in (("images", "png"), ("labels", "txt")):
        (street[0] / kind / "deep").mkdir()
        for name in ("00", "02"):
            (street[0] / kind / f"{name}.{ending}").rename(
                street[0] / kind / "deep" / f"{name}.{ending}"
            )
    found = folders.boxes(street[0], 40)
    labels = [found.train.read(i)[2].tolist() for i in range(found.train.count)]
    assert sorted(labels)[-2:] == [[0, -1], [1, 0]]


def test_items_in_order_are_whole_on_each_process(pets, monkeypatch):
    items = folders.images(pets, 4).train
    distributed = folders.Batches.epoch.__globals__["distributed"]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    batches = list(items.in_order(8))
    assert [len(images) for images, _ in batches] == [8, 8, 3]
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    assert all(images[i].equal(items.read(i)[0]) for i in range(19))
    assert labels.tolist() == [0] * 11 + [1] * 8
