"""Weights from elsewhere, loaded by name and shape."""

from collections.abc import Mapping

from torch import Tensor, nn


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights`, e.g. a reference library's state dict, by name and shape, or change nothing.

    Counters of batches, which old files lack and which no output depends on, may be missing.

    Raises:
        ValueError: tensors are missing, surplus or of another shape. It names the first of each
            kind, in the network's order, and says how many more there are.
    """
    own = network.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    wrong = {
        "missing": [n for n in own if n not in weights and n not in counters],
        "surplus": [n for n in weights if n not in own],
        "of another shape": [n for n in own if n in weights and own[n].shape != weights[n].shape],
    }
    found = []
    for what, names in wrong.items():
        if names:
            first, more = names[0], f" and {len(names) - 1} more" if len(names) > 1 else ""
            found.append(f"{what}: {first}{_shapes(first, own, weights)}{more}")
    if found:
        raise ValueError(f"weights do not fit the network; {'; '.join(found)}")
    network.load_state_dict({**own, **weights})


def _shapes(name: str, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    if name not in own or name not in weights:
        return ""
    return f" {tuple(weights[name].shape)}, allowed is {tuple(own[name].shape)}"
