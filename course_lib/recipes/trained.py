"""Models that `train --save` has kept: how they are stored, and made again without their data."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from course_lib import checkpoints, exporting, weights
from course_lib.recipes.recipe import Recipe

ENDINGS = (".onnx", ".safetensors")


def save(
    path: str | os.PathLike,
    name: str,
    size: str | None,
    recipe: Recipe,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """The model's weights, or `tensors` in their place, with all that `load` needs."""
    state = {"recipe": name, "size": size, "names": list(recipe.names)}
    checkpoints.save(path, state | {"weights": dict(tensors or recipe.model.state_dict())})


def load(
    path: str | os.PathLike, name: str, recipes: Mapping[str, Callable[..., Recipe]]
) -> Recipe:
    """The recipe with its trained model in evaluation mode.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"--weights is {path}, which is no file; allowed is what train --save wrote"
        )
    try:
        state = checkpoints.load(path)
    except Exception:  # torch has many, for a file of another kind
        state = {}
    if "weights" not in state:
        kind = "a checkpoint of a run" if "optimizer" in state else "no trained model"
        raise ValueError(f"--weights is {path}, {kind}; allowed is what train --save wrote")
    if state["recipe"] != name:
        raise ValueError(f"{path} holds weights of {state['recipe']}, not of {name}")
    options = {"size": state["size"]} if state["size"] else {}
    options |= {"source": state["names"]} if state["names"] else {}
    recipe = recipes[name](**options)
    weights.load_weights(recipe.model, state["weights"])
    recipe.model.eval()
    return recipe


def export(path: str | os.PathLike, name: str, recipe: Recipe) -> None:
    """Write the model as ONNX or safetensors, as the ending of `path` says.

    Raises:
        ValueError: another ending, or a file that exists.
    """
    ending = Path(path).suffix
    if ending not in ENDINGS:
        raise ValueError(f"--to is {path}; allowed are names that end in {' or '.join(ENDINGS)}")
    if Path(path).exists():
        raise ValueError(f"--to is {path}, which exists already; name another file")
    if ending == ".onnx":
        batch = next(iter(recipe.batches))
        exporting.to_onnx(path, recipe.model, recipe.inputs(batch))
    else:
        about = {"recipe": name, "names": json.dumps(list(recipe.names))}
        exporting.to_safetensors(path, recipe.model, about)
