"""Fold batch norms into the layers before them: the same outputs in evaluation, with less to do.

Both are torch's layers. Bad arguments raise `ValueError`.
"""

import copy

import torch
from torch import Tensor, nn

FOLDABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """One layer that does what `layer` and then batch norm in evaluation mode do.

    In evaluation, batch norm is a scale and a shift for each channel: they go into the weights.

    Args:
        layer: a convolution, or a linear layer with outputs (N, C).
        norm: a batch norm of as many channels, with running statistics.

    Returns:
        A copy of `layer` with a bias. A linear one refuses inputs of more than two axes: their
        features come last, where batch norm would have looked for channels on axis 1.
    """
    if not isinstance(layer, FOLDABLE):
        raise ValueError(f"layer is {layer}; allowed are convolutions and linear layers")
    if not _is_fixed(norm):
        raise ValueError(f"norm is {norm}; allowed is a batch norm with running statistics")
    channels = len(layer.weight)
    if norm.num_features != channels:
        allowed = f"allowed are {channels}, those of layer"
        raise ValueError(f"norm has {norm.num_features} channels; {allowed}")
    folded = copy.deepcopy(layer)
    with torch.no_grad():
        scale = _folded_scale(norm)  # (C,)
        shift = 0 if norm.bias is None else norm.bias
        before = 0 if layer.bias is None else layer.bias
        weight = layer.weight * scale.view(-1, *(1 for _ in layer.weight.shape[1:]))
        folded.weight = nn.Parameter(weight)
        folded.bias = nn.Parameter((before - norm.running_mean) * scale + shift)
    if isinstance(layer, nn.Linear):
        folded.register_forward_pre_hook(_check_rows)
    return folded


def fold_network(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode without the batch norms that `fold` can take away.

    These stand in an `nn.Sequential` behind a convolution or a linear layer. A max pooling may
    stand between, unless a scale is negative: the largest value would then become the smallest.
    Behind a linear layer the norm is taken for one of rows (N, C); see `fold`.
    """
    network = copy.deepcopy(network)
    for block in list(network.modules()):
        if type(block).forward is nn.Sequential.forward:
            _fold_block(block)
    return network.eval()


def _fold_block(block: nn.Sequential) -> None:
    for place, layer in enumerate(block):
        after = place + 1
        while after < len(block) and isinstance(block[after], nn.MaxPool1d | nn.MaxPool2d):
            after += 1
        norm = block[after] if after < len(block) else None
        if not (isinstance(layer, FOLDABLE) and _is_fixed(norm)):
            continue
        pools = after > place + 1
        if not pools or (not isinstance(layer, nn.Linear) and (_folded_scale(norm) >= 0).all()):
            block[place], block[after] = fold(layer, norm), nn.Identity()


def _check_rows(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
    if inputs[0].ndim != 2:
        allowed = f"allowed is (N, {layer.in_features}), as a batch norm is folded into the layer"
        raise ValueError(f"x has shape {tuple(inputs[0].shape)}; {allowed}")


def _is_fixed(norm: nn.Module | None) -> bool:
    """Whether this is a batch norm that in evaluation is the same for every batch."""
    return isinstance(norm, BATCH_NORMS) and norm.running_mean is not None


def _folded_scale(norm: nn.Module) -> Tensor:
    scale = torch.rsqrt(norm.running_var + norm.eps)  # (C,)
    return scale if norm.weight is None else scale * norm.weight.detach()
