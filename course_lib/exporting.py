"""Trained models as files for other programs: ONNX and safetensors. Each is written whole or not.

Source: https://onnx.ai, https://huggingface.co/docs/safetensors
"""

import inspect
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

OPSET = 18


def to_safetensors(path: str | os.PathLike, model: nn.Module, about: Mapping[str, str]) -> None:
    """The weights by name, shared ones twice; `about` becomes the file's metadata."""
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    _replace(path, lambda file: save_file(tensors, file, {**about, "format": "pt"}))


def to_onnx(path: str | os.PathLike, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """The model in evaluation mode, for any number of items and, of texts, for any length.

    Args:
        inputs: an example of what the model takes. The file's inputs are called like the arguments
            of `forward`, its outputs "output", or "output_0" and so on.
    """
    names = list(inspect.signature(model.forward).parameters)[: len(inputs)]
    with torch.no_grad():
        found = model.eval()(*inputs)
    count = 1 if isinstance(found, Tensor) else len(found)
    outputs = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    # Texts are whole numbers or, where they mark what is real, yes and no.
    axes = {
        name: {0: "items"} | ({} if tensor.is_floating_point() else {1: f"{name}_length"})
        for name, tensor in zip(names, inputs, strict=True)
    } | {name: {0: "items"} for name in outputs}
    options = {"input_names": names, "output_names": outputs, "dynamic_axes": axes}

    def write(file: Path) -> None:
        with warnings.catch_warnings():
            # The newer exporter needs a package that the course has no other use for.
            warnings.simplefilter("ignore")
            # Traced first: of a plain module the exporter takes the lengths inside for fixed.
            traced = torch.jit.trace(model, inputs, check_trace=False)
            torch.onnx.export(
                traced, inputs, str(file), dynamo=False, opset_version=OPSET, **options
            )

    _replace(path, write)


def _replace(path: str | os.PathLike, write: Callable[[Path], object]) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
