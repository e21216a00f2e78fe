"""Folders of pretrained weights: what is read, what is refused, and in which words."""

import hashlib
import json
import os

import pytest
import torch

from course_lib import pretrained
from course_lib.checksums import DataError

CONFIG = {"model_type": "bert", "hidden_size": 4}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    tensors = {"a": base[:3], "b": base[3:].T, "c": torch.arange(3), "d": base.half()}
    pretrained.write_folder(tmp_path / "model", CONFIG, tensors)
    return tmp_path / "model"


def test_round_trip(folder):
    config, tensors = pretrained.read_folder(folder)
    assert config == CONFIG
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    assert torch.equal(tensors["a"], base[:3]) and torch.equal(tensors["b"], base[3:].T)
    assert tensors["c"].dtype is torch.int64 and tensors["d"].dtype is torch.float16
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_name_is_a_folder_first(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert pretrained.read_folder("model")[0] == CONFIG


def test_shared_memory_is_stored_twice(tmp_path):
    weight = torch.ones(2, 2)
    pretrained.write_folder(tmp_path, {}, {"one": weight, "two": weight})
    assert set(pretrained.read_folder(tmp_path)[1]) == {"one", "two"}


def test_a_failed_write_leaves_the_old(folder, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            pretrained.write_folder(folder, {"new": 1}, {"a": torch.zeros(1)})
    config, tensors = pretrained.read_folder(folder)
    assert config == CONFIG and tensors["a"].shape == (3, 4)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_named(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"model\.safetensors is damaged or cut short"):
        pretrained.read_folder(folder)


def test_sha256(folder):
    path = folder / "model.safetensors"
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert pretrained.read_folder(folder, sha256=right.upper())[0] == CONFIG
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # one bit of one number, which no format could notice
    path.write_bytes(content)
    pretrained.read_folder(folder)
    with pytest.raises(DataError, match=f"was altered: its sha256 is .* instead of {right}"):
        pretrained.read_folder(folder, sha256=right)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(tmp_path, bad):
    tensors = {"good": torch.zeros(2), "bad": torch.tensor([0.0, bad])}
    pretrained.write_folder(tmp_path, {}, tensors)
    with pytest.raises(DataError, match="bad holds numbers that are not finite"):
        pretrained.read_folder(tmp_path)


def test_pickles_are_refused(folder):
    os.rename(folder / "model.safetensors", folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin is a pickle, which may run code"):
        pretrained.read_folder(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(DataError, match=f"{file} is missing"):
        pretrained.read_folder(folder)


@pytest.mark.parametrize("text, what", [("{", "is no JSON"), ("[]", "holds a list")])
def test_a_bad_config_is_named(folder, text, what):
    (folder / "config.json").write_text(text)
    with pytest.raises(DataError, match=rf"config\.json {what}"):
        pretrained.read_folder(folder)


def test_other_names_go_to_the_hub(folder, monkeypatch):
    import huggingface_hub

    asked = []

    def download(name, file):
        asked.append((name, file))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert pretrained.read_folder("owner/model-x_1.0")[0] == CONFIG
    assert asked == [
        ("owner/model-x_1.0", "config.json"),
        ("owner/model-x_1.0", "model.safetensors"),
    ]


def test_without_a_network_the_remedy_is_named(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(name, file):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match="Without one, put its config.json and model.safetensors"):
        pretrained.read_folder("bert-base-uncased")


@pytest.mark.parametrize("name", ["/no/such/folder", "./model", "a/b/c", "../up", ""])
def test_paths_never_go_to_the_hub(name, monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)  # a call is a TypeError
    with pytest.raises(DataError):
        pretrained.read_folder(name)


def test_minilm():
    config, tensors = pretrained.read_folder(pretrained.minilm())
    assert config["num_hidden_layers"] == 6
    assert tensors["embeddings.word_embeddings.weight"].shape == (30522, 384)
    assert (pretrained.minilm() / "vocab.txt").is_file()


def test_minilm_altered_or_missing(monkeypatch):
    monkeypatch.setattr(pretrained, "MINILM_SHA256", "0" * 64)
    with pytest.raises(DataError, match="was altered"):
        pretrained.minilm()
    monkeypatch.setattr(pretrained, "MINILM", "no_such_package")
    with pytest.raises(DataError, match="pip install no-such-package"):
        pretrained.minilm()


def test_the_config_is_plain_json(folder):
    assert json.loads((folder / "config.json").read_text()) == CONFIG


# --- torchvision's Faster R-CNN ----------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's cache, empty, and a network that is down."""

    def download(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return tmp_path / "checkpoints"


def test_faster_rcnn_on_random_weights(hub):
    torch.manual_seed(0)
    model = pretrained.faster_rcnn()
    assert not model.training
    with torch.no_grad():
        found = model([torch.rand(3, 96, 128), torch.rand(3, 64, 64)])
    assert len(found) == 2 and all({"boxes", "labels", "scores"} == set(f) for f in found)
    assert all(f["boxes"].shape == (len(f["labels"]), 4) for f in found)


def test_faster_rcnn_downloads_only_when_told(hub, monkeypatch):
    with pytest.raises(ValueError, match="weights is 'voc'; allowed are None and 'coco'"):
        pretrained.faster_rcnn("voc")
    with pytest.raises(DataError, match=r"fasterrcnn_.*\.pth is missing. Fetch it with download=T"):
        pretrained.faster_rcnn("coco")
    with pytest.raises(DataError, match="OSError: is there a network"):
        pretrained.faster_rcnn("coco", download=True)


def test_faster_rcnn_reads_weights_that_are_there(hub):
    torch.manual_seed(1)
    there = pretrained.faster_rcnn()
    hub.mkdir()
    path = hub / "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth"
    torch.save(there.state_dict(), path)
    found = pretrained.faster_rcnn("coco").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in there.state_dict().items())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="is damaged"):
        pretrained.faster_rcnn("coco")
