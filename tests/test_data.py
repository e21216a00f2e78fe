"""Every loader gives what its docstring and its datasheet say, and no test item is trained on."""

import hashlib
import http.server
import pickle
import re
import shutil
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from course_lib import checksums, data
from course_lib.checksums import DataError
from course_lib.scenes import SceneMaker

DATA = Path(__file__).resolve().parent.parent / "data"


@pytest.fixture(autouse=True)
def shipped_data(monkeypatch):
    monkeypatch.delenv("COURSE_DATA", raising=False)


@pytest.fixture(scope="module")
def cutouts():
    return data.load("cutouts")


@pytest.fixture(scope="module")
def crowns():
    return data.load("tree_crowns")


@pytest.fixture(scope="module")
def brain():
    return data.load("brain_mri")


def only_letters(text):
    """Stricter than any spelling variant: case, blanks and punctuation do not count."""
    return "".join(re.findall(r"[^\W_]", text.lower()))


def dice(a, b):
    return (2 * (a & b).sum() / (a.sum() + b.sum())).item()


# Names and files


def test_loaders_are_the_shipped_sets_and_cifar10_and_what_is_made_of_them():
    # `claims` are results, which `teaching.experiments` reads.
    assert {*data.LOADERS, "claims"} == {*checksums.sets(), "cifar10", "photo_scenes"}


def test_photo_scenes_are_those_of_their_maker():
    ours, theirs = data.photo_scenes("unseen", 3, seed=7), SceneMaker("unseen").draw(3, seed=7)
    assert all(a.equal(b) for a, b in zip(ours, theirs, strict=True))
    assert data.LOADERS["photo_scenes"] is data.photo_scenes


@pytest.mark.parametrize("name", ["mnits", "", "MNIST", "load", None])
def test_an_unknown_name(name):
    with pytest.raises(ValueError, match=f"name = {name!r} is not a data set; allowed: mnist, "):
        data.load(name)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cutouts", "fish/shrimp.png"),
        ("backgrounds", "Dune.jpg"),
        ("movie_reviews", "test.txt"),
        ("english_french", "english_french.tsv"),
        ("nuclei", "nuclei.npz"),
        ("austen", "emma.txt"),
        ("shakespeare", "shakespeare.txt"),
        ("wikipedia", "wikipedia.txt"),
        ("brain_mri", "brain_mri.npz"),
        ("style", "vgg16_conv.npz"),
        ("tree_crowns", "boxes.csv"),
    ],
)
def test_a_damaged_file_is_not_loaded(name, file, tmp_path, monkeypatch):
    shutil.copytree(DATA / name, tmp_path / name)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    path = tmp_path / name / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"(?s){path.name} was cut short.*git checkout.*{name}"):
        data.load(name)
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name} is missing"):
        data.load(name)


def test_a_stray_file_is_not_loaded(tmp_path, monkeypatch):
    shutil.copytree(DATA / "backgrounds", tmp_path / "backgrounds")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / "backgrounds" / "holiday.jpg").write_bytes(b"not even a photo")
    assert len(data.load("backgrounds")) == 20


def test_loading_prints_nothing(capfd):
    data.load("nuclei")
    data.load("shakespeare")
    assert capfd.readouterr() == ("", "")


def test_records_are_frozen():
    with pytest.raises(AttributeError):
        data.load("shakespeare").train = ""


# Images


@pytest.mark.parametrize(
    ("name", "mean", "std", "first"),
    [
        ("mnist", 0.1307, 0.3081, [5, 0, 4, 1, 9]),
        ("fashion_mnist", 0.2860, 0.3530, [9, 0, 0, 3, 0]),
    ],
)
def test_mnist_and_fashion_mnist(name, mean, std, first):
    checksums.verify(name)
    start = time.process_time()  # not the clock: other processes may be at work
    images = data.load(name)
    assert time.process_time() - start < 1.5
    assert images.x_train.shape == (60000, 1, 28, 28)
    assert images.x_test.shape == (10000, 1, 28, 28)
    assert images.x_train.dtype == images.x_test.dtype == torch.uint8
    assert images.y_train.shape == (60000,)
    assert images.y_test.shape == (10000,)
    assert images.y_train.dtype == images.y_test.dtype == torch.int64
    assert images.y_train[:5].tolist() == first
    assert images.y_test.unique().tolist() == list(range(10)) == images.y_train.unique().tolist()
    assert (images.x_train.min(), images.x_train.max()) == (0, 255)
    pixels = images.x_train.float() / 255
    assert pixels.mean().item() == pytest.approx(mean, abs=1e-4)
    assert pixels.std().item() == pytest.approx(std, abs=1e-4)
    assert len(images.classes) == 10


def test_no_test_image_occurs_in_training():
    for name in ("mnist", "fashion_mnist"):
        images = data.load(name)
        train = {row.tobytes() for row in images.x_train.numpy()}
        assert not any(row.tobytes() in train for row in images.x_test.numpy())


def test_fashion_class_names_are_in_the_official_order():
    classes = data.load("fashion_mnist").classes
    assert classes[0] == "T-shirt/top"
    assert classes[5] == "Sandal"
    assert classes[9] == "Ankle boot"


def test_cutouts(cutouts):
    assert len(cutouts) == 246
    counts = {name: sum(c.class_name == name for c in cutouts) for name in CUTOUT_COUNTS}
    assert counts == CUTOUT_COUNTS
    for cutout in cutouts:
        channels, height, width = cutout.rgba.shape
        assert channels == 4
        assert 42 <= max(height, width) <= 128
        assert cutout.rgba.dtype == torch.uint8
        assert cutout.rgba[3].max() >= 253
        assert sorted(CUTOUT_COUNTS)[cutout.label] == cutout.class_name


CUTOUT_COUNTS = {
    "mammal": 64,
    "bird": 31,
    "flower": 24,
    "fruit": 23,
    "vegetable": 18,
    "vehicle": 14,
    "roadsign": 13,
    "tool": 12,
    "fish": 11,
    "music": 11,
    "ball": 8,
    "insect": 7,
    "tree": 7,
    "mushroom": 3,
}


def test_cutouts_have_the_colours_of_the_files(cutouts):
    tomato = next(c for c in cutouts if c.name == "tomato")
    solid = tomato.rgba[:3, tomato.rgba[3] == 255].float().mean(dim=1)
    assert solid[0] > 2 * solid[2]  # red, not blue


def test_a_quarter_of_each_class_of_cutouts_is_test(cutouts):
    for name, count in CUTOUT_COUNTS.items():
        test = sum(c.test for c in cutouts if c.class_name == name)
        assert test == max(1, round(count / 4)), name


def test_look_alike_cutouts_are_on_the_same_side(cutouts):
    side = {c.name: c.test for c in cutouts}
    assert len(side) == len(cutouts)
    alike = ["gnu-baby gnu-stand gnu-sitting", "lion lion-2", "rabbit rabbit-2 rabbit_little"]
    alike += ["tiger tiger_sumatran", "mandarine orange", "apple_red apple_fuji", "sheep ram"]
    alike += ["sedan sedan_police", "chemparathi flower10", "pig_golden pig_golden2"]
    for names in alike:
        assert len({side[name] for name in names.split()}) == 1, names


def test_no_cutout_is_a_copy_of_another(cutouts):
    assert len({c.rgba.numpy().tobytes() for c in cutouts}) == 246


def test_backgrounds():
    photos = data.load("backgrounds")
    assert len(photos) == 20
    assert sum(photo.test for photo in photos) == 5
    for photo in photos:
        assert photo.image.dtype == torch.uint8
        assert photo.image.shape[0] == 3
        assert photo.image.shape[2] == 512
        assert 288 <= photo.image.shape[1] <= 410
    side = {photo.name: photo.test for photo in photos}
    assert not side["EveningGlow"]  # the boats, which the datasheet promises to keep in training
    assert not side["Garden"]


def test_tree_crowns(crowns):
    assert len(crowns) == 78
    tiles = {split: sum(t.split == split for t in crowns) for split in ("train", "test", "far")}
    boxes = {s: sum(len(t.boxes) for t in crowns if t.split == s) for s in tiles}
    assert tiles == {"train": 60, "test": 16, "far": 2}
    assert boxes == {"train": 454, "test": 231, "far": 36}
    for tile in crowns:
        assert tile.image.shape == (3, 256, 256)
        assert tile.image.dtype == torch.uint8
        assert tile.boxes.dtype == torch.float32
        assert tile.boxes.ndim == 2
        assert 1 <= len(tile.boxes) <= 28


def test_tree_boxes_are_xyxy_inside_the_tile(crowns):
    boxes = torch.cat([tile.boxes for tile in crowns])
    assert boxes.shape == (721, 4)
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 8
    assert boxes.min() == 0
    assert boxes.max() == 256


def test_tree_crown_splits_share_no_photo(crowns):
    photo = {tile.name.rsplit("_", 2)[0]: set() for tile in crowns}
    for tile in crowns:
        photo[tile.name.rsplit("_", 2)[0]].add(tile.split)
    assert len(photo) == 4
    assert all(len(splits) == 1 for splits in photo.values())


def test_brain_mri(brain):
    shape = (140, 1, 217, 181)
    assert brain.x.shape == brain.brain.shape == brain.region.shape == shape
    assert (brain.x.dtype, brain.brain.dtype) == (torch.uint8, torch.bool)
    assert brain.region.dtype == torch.uint8
    assert (brain.x.min(), brain.x.max(), brain.region.max()) == (0, 237, 116)
    assert brain.z.tolist() == list(range(12, 152))
    assert brain.brain.float().mean().item() == pytest.approx(0.3155, abs=1e-3)


def test_brain_test_slices_are_one_block_through_the_ventricles(brain):
    z = brain.z[brain.test]
    assert z.tolist() == list(range(76, 100))
    # the lateral ventricles are dark holes within the brain: at z = 90 they are at their largest
    ventricles = (brain.x < 45) & brain.brain
    assert ventricles[brain.z == 90, 0, 80:130, 70:110].sum() > 300


def test_what_copying_scores_on_the_brain(brain):
    """The numbers that the datasheet gives as the mark to beat."""
    masks, index = brain.brain[:, 0], brain.test.nonzero().flatten().tolist()
    first, last = masks[index[0] - 1], masks[index[-1] + 1]
    nearest = [dice(masks[i], first if i < index[12] else last) for i in index]
    neighbour = [dice(masks[i], masks[i - 1]) for i in index]
    assert sum(nearest) / 24 == pytest.approx(0.97, abs=0.005)
    assert sum(neighbour) / 24 == pytest.approx(0.99, abs=0.005)


def test_brain_regions_left_is_left(brain):
    column = torch.arange(181.0)
    left = (brain.region % 2 == 1) & (brain.region <= 108)
    right = (brain.region % 2 == 0) & (brain.region > 0) & (brain.region <= 108)
    assert (left * column).sum() / left.sum() < 75
    assert (right * column).sum() / right.sum() > 105


def test_nuclei():
    nuclei = data.load("nuclei")
    assert nuclei.image.shape == (1, 512, 512)
    assert nuclei.image.dtype == torch.uint8
    assert nuclei.label.shape == (512, 512)
    assert nuclei.label.dtype == torch.int64
    numbers, sizes = nuclei.label.unique(return_counts=True)
    assert (len(numbers) - 1, numbers[0], numbers[-1]) == (125, 0, 183)
    assert (sizes[1:].min(), sizes[1:].max()) == (25, 751)
    inside = nuclei.label > 0
    assert nuclei.image[0][inside].float().mean() > 2 * nuclei.image[0][~inside].float().mean()


def test_style():
    style = data.load("style")
    assert style.painting.shape == (3, 479, 608)
    assert style.painting.dtype == torch.uint8
    border = torch.cat([style.painting[:, :2].flatten(), style.painting[:, -2:].flatten()])
    assert border.float().mean() > 40  # the black frame is gone
    assert sorted(style.photos) == PHOTOS
    assert all(p.shape[0] == 3 and p.dtype == torch.uint8 for p in style.photos.values())
    assert len(style.vgg) == 16
    assert style.vgg["conv1_1.weight"].shape == (64, 3, 3, 3)
    assert style.vgg["conv4_1.bias"].shape == (512,)
    assert all(weight.dtype == torch.float32 for weight in style.vgg.values())


PHOTOS = ["astronaut", "chelsea", "china", "coffee", "flower", "motorcycle_left", "rocket"]


# Texts


def test_movie_reviews():
    reviews = data.load("movie_reviews")
    assert len(reviews.texts) == 10605
    assert reviews.ratings.shape == reviews.positive.shape == reviews.test.shape == (10605,)
    assert reviews.ratings.dtype == torch.float32
    assert reviews.positive.dtype == reviews.test.dtype == torch.bool
    assert reviews.ratings.min().item() == pytest.approx(-3.875)
    assert reviews.ratings.max().item() == pytest.approx(3.941)
    assert torch.equal(reviews.positive, reviews.ratings > 0)
    assert reviews.positive.sum() == 5242
    assert (reviews.ratings == 0).sum() == 37
    assert reviews.texts[2] == "Effective but too tepid biopic"
    assert reviews.ratings[2].item() == pytest.approx(-0.6)


def test_movie_review_split_is_balanced_and_disjoint():
    reviews = data.load("movie_reviews")
    assert reviews.test.sum() == 2000
    assert (reviews.ratings[reviews.test] > 0).sum() == 1000
    assert (reviews.ratings[reviews.test] < 0).sum() == 1000
    sides = zip(reviews.texts, reviews.test.tolist(), strict=True)
    test = {only_letters(text) for text, is_test in sides if is_test}
    train = {
        only_letters(text)
        for text, is_test in zip(reviews.texts, reviews.test.tolist(), strict=True)
        if not is_test
    }
    assert len(test) == 2000
    assert not test & train


def test_english_french():
    pairs = data.load("english_french")
    assert len(pairs.english) == len(pairs.french) == len(pairs.test) == 14509
    assert (pairs.english[0], pairs.french[0]) == ("Go To", "Aller à")
    assert {len(text.split()) for text in pairs.english} == set(range(2, 11))
    assert max(len(text.split()) for text in pairs.french) == 14
    assert pairs.test.sum() == 1000
    lengths = [len(pairs.english[i].split()) for i in pairs.test.nonzero().flatten().tolist()]
    assert 4.5 < sum(lengths) / 1000 < 6.5  # drawn from all lengths of the sorted file


def test_no_english_test_sentence_is_in_training():
    pairs = data.load("english_french")
    sides = list(zip(pairs.english, pairs.test.tolist(), strict=True))
    test = {only_letters(text) for text, is_test in sides if is_test}
    train = {only_letters(text) for text, is_test in sides if not is_test}
    assert len(test) > 950
    assert "" not in test | train
    assert not test & train


def test_shakespeare():
    text = data.load("shakespeare")
    whole = text.train + text.test
    assert len(whole) == 1_073_105
    assert len(set(whole)) == 77
    assert whole.encode() == (DATA / "shakespeare" / "shakespeare.txt").read_bytes()
    assert len(text.test) / len(whole) == pytest.approx(0.1, abs=0.001)
    assert text.train.endswith("\n\n")
    assert set(text.test) - set(text.train) == {"8"}  # as the datasheet warns


def test_austen():
    chapters = data.load("austen")
    counts = {}
    for chapter in chapters:
        novel, number = chapter.title.split("/")
        counts[novel] = counts.get(novel, 0) + 1
        assert int(number) == counts[novel]
    assert counts == NOVELS
    assert all(len(chapter.paragraphs) >= 4 for chapter in chapters)
    first = next(c for c in chapters if c.title == "pride_and_prejudice/1")
    assert first.paragraphs[0].startswith("It is a truth universally acknowledged, that a single")
    assert first.paragraphs[0].endswith("must be in want of a wife.")


NOVELS = {
    "emma": 55,
    "mansfield_park": 48,
    "northanger_abbey": 31,
    "persuasion": 24,
    "pride_and_prejudice": 61,
    "sense_and_sensibility": 50,
}


def test_austen_holds_nothing_but_paragraphs():
    for chapter in data.load("austen"):
        for paragraph in chapter.paragraphs:
            assert paragraph == " ".join(paragraph.split()) != ""
            headings = r"(chapter|volume) [ivxl\d]+|finis|the end|\*+|.*signet classic.*"
            assert not re.fullmatch(headings, paragraph.lower()), (chapter.title, paragraph)


def test_austen_test_chapters_are_spread_over_the_novels():
    chapters = data.load("austen")
    for novel, count in NOVELS.items():
        test = sum(c.test for c in chapters if c.title.startswith(novel))
        assert test == round(0.08 * count), novel


def test_wikipedia():
    articles = data.load("wikipedia")
    assert len(articles) == len({article.title for article in articles}) == 95
    assert sum(article.test for article in articles) == 8
    paragraphs = [p for article in articles for p in article.paragraphs]
    assert len(paragraphs) == 4965
    assert sum(len(p.split()) for p in paragraphs) == 396_098
    assert all("\n" not in p and len(p.split()) >= 8 for p in paragraphs)
    assert articles[0].title == "Anarchism"
    assert articles[0].paragraphs[0].startswith("Anarchism is a political philosophy")
    train = {p for article in articles if not article.test for p in article.paragraphs}
    assert not any(p in train for a in articles if a.test for p in a.paragraphs)


@pytest.mark.parametrize("name", ["austen", "backgrounds", "cutouts", "wikipedia"])
def test_every_key_of_a_split_is_an_item(name):
    keys = (DATA / name / "test.txt").read_text(encoding="utf-8").splitlines()
    assert len(keys) == len(set(keys)) == sum(item.test for item in data.load(name))


# CIFAR-10, from an archive of the same format made here


CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def address(tmp_path):
    """A web server on this machine for tmp_path/made, which breaks off if "half" is asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = tmp_path / "made" / Path(self.path).name
            if not path.exists():
                return self.send_error(404)
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if "half" in self.path else content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def archive(tmp_path, monkeypatch, address):
    """A tiny CIFAR-10 on a local web server, 4 images in each batch; COURSE_DATA is empty."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "made" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    sums = {}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        pixels = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
        content = pickle.dumps({"data": pixels, "labels": [0, 3, 9, 3]})
        (folder / name).write_bytes(content)
        sums[name] = md5(content)
    meta = pickle.dumps({"label_names": CLASSES})
    (folder / "batches.meta").write_bytes(meta)
    path = tmp_path / "made" / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    batches = [[name, digest] for name, digest in sums.items()]
    monkeypatch.setattr(CIFAR10, "url", f"{address}/{path.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(path.read_bytes()))
    monkeypatch.setattr(CIFAR10, "train_list", batches[:5])
    monkeypatch.setattr(CIFAR10, "test_list", batches[5:])
    monkeypatch.setattr(
        CIFAR10,
        "meta",
        {"filename": "batches.meta", "key": "label_names", "md5": md5(meta)},
    )
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "root"))
    return path


def downloads(archive):
    folder = archive.parent.parent / "root" / "downloads"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def expect_one_problem(problem):
    with pytest.raises(DataError, match=problem) as caught:
        data.load("cifar10", download=True)
    assert "\n" not in str(caught.value)
    assert 'load("cifar10", download=True)' in str(caught.value)


def test_cifar10_is_not_downloaded_unasked(archive, monkeypatch):
    monkeypatch.setattr(CIFAR10, "download", None)  # any attempt would fail differently
    with pytest.raises(DataError, match=r"does not ship.*download=True\), the only call"):
        data.load("cifar10")
    assert downloads(archive) == []


def test_cifar10_download(archive, capsys):
    images = data.load("cifar10", download=True)
    assert capsys.readouterr().out == ""
    assert images.x_train.shape == (20, 3, 32, 32)
    assert images.x_test.shape == (4, 3, 32, 32)
    assert images.x_train.dtype == torch.uint8
    assert images.x_train.is_contiguous()
    assert images.y_train.dtype == torch.int64
    assert images.y_test.tolist() == [0, 3, 9, 3]
    assert images.classes == tuple(CLASSES)
    batch = archive.parent / "cifar-10-batches-py" / "data_batch_2"
    pixels = pickle.loads(batch.read_bytes())["data"]  # red plane, green, blue, each row by row
    assert np.array_equal(images.x_train[4:8].numpy().reshape(4, 3072), pixels)
    assert downloads(archive) == ["cifar10"]
    assert not list((archive.parent.parent / "root").rglob("*.tar.gz"))


def test_cifar10_second_load_needs_no_network(archive):
    first = data.load("cifar10", download=True)
    archive.unlink()
    for download in (False, True):
        again = data.load("cifar10", download=download)
        assert torch.equal(again.x_train, first.x_train)
        assert torch.equal(again.y_test, first.y_test)


def test_cifar10_corrupted_archive(archive):
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    expect_one_problem("could not be downloaded: File not found or corrupted")
    assert downloads(archive) == []


def test_cifar10_altered_batch_in_a_valid_archive(archive, monkeypatch):
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", "0" * 32]])
    expect_one_problem("could not be downloaded: Dataset not found or corrupted")
    assert downloads(archive) == []


def test_cifar10_altered_meta_in_a_valid_archive(archive, monkeypatch):
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": "0" * 32})
    expect_one_problem("could not be downloaded")
    assert downloads(archive) == []


def test_cifar10_no_archive_there(archive):
    archive.unlink()
    expect_one_problem("could not be downloaded")
    assert downloads(archive) == []


def test_cifar10_connection_breaks_off(archive, address, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", f"{address}/half/{archive.name}")
    expect_one_problem("could not be downloaded")
    assert downloads(archive) == []


def test_cifar10_interrupted_by_the_reader(archive, monkeypatch):
    def interrupted(self):
        (Path(self.root) / "cifar-10-python.tar.gz").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(CIFAR10, "download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load("cifar10", download=True)
    assert downloads(archive) == []


def test_cifar10_damaged_copy_is_named_and_can_be_replaced(archive):
    first = data.load("cifar10", download=True)
    home = archive.parent.parent / "root" / "downloads" / "cifar10"
    batch = home / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is damaged \(Dataset not found.*Fetch it anew with load"):
        data.load("cifar10")
    assert torch.equal(data.load("cifar10", download=True).x_train, first.x_train)
    assert torch.equal(data.load("cifar10").x_train, first.x_train)
    assert downloads(archive) == ["cifar10"]


def test_cifar10_failed_replacement_keeps_what_was_there(archive):
    data.load("cifar10", download=True)
    home = archive.parent.parent / "root" / "downloads" / "cifar10"
    (home / "cifar-10-batches-py" / "data_batch_3").unlink()
    archive.unlink()
    expect_one_problem("could not be downloaded")
    assert (home / "cifar-10-batches-py" / "data_batch_2").exists()
