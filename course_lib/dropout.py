"""Dropout, penalties, noisy labels, ensembles: ways to keep a network from memorising.

Dropout divides what it keeps by 1 - p while training ("inverted" dropout), so that nothing is left
to do in evaluation. The layers draw from torch's global random numbers as torch's own do: on the
CPU equal seeds give equal masks. Bad arguments raise `ValueError`, with the argument, its value and
what is allowed.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Generator, Tensor, nn

from course_lib import train

PIXEL_MEAN, PIXEL_STD = 0.286, 0.353  # of Fashion-MNIST's training images, 0 .. 1


def dropout(
    x: Tensor,
    p: float = 0.5,
    training: bool = True,
    *,
    kept: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Zero each value of x (any shape) with probability `p` and divide the others by 1 - p.

    So each value keeps its expectation. Outside of `training`, x comes back as it is.

    Args:
        kept: bool, broadcast to x: True stays. By default drawn, one for each value.
        generator: where the mask is drawn from; by default torch's global one.

    Source: Srivastava et al. 2014, section 10 for the division.
    """
    _check_probability("p", p)
    if not training or p == 0:
        return x
    if kept is None:
        kept = keep_mask(x.shape, p, generator, x.device)
    return x * (kept.to(x.dtype) / (1 - p if p < 1 else 1))  # 0 / 0 would be NaN


def dropout1d(
    x: Tensor, p: float = 0.5, training: bool = True, *, generator: Generator | None = None
) -> Tensor:
    """Drop whole channels of sequences (N, C, L). Torch's also takes one sequence (C, L)."""
    return _drop_channels(x, "(N, C, L)", p, training, generator)


def dropout2d(
    x: Tensor, p: float = 0.5, training: bool = True, *, generator: Generator | None = None
) -> Tensor:
    """Drop whole channels of images (N, C, H, W): the neighbours of a single dropped pixel would
    tell what it was. Three axes are refused; torch takes them for (N, C, L) and warns.

    Source: Tompson et al. 2015, section 3.2.
    """
    return _drop_channels(x, "(N, C, H, W)", p, training, generator)


def keep_mask(
    shape: Sequence[int],
    p: float,
    generator: Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """A bool mask of that shape on `device`: False, so dropped, with probability `p`.

    Args:
        generator: by default torch's global one of `device`.
    """
    _check_probability("p", p)
    drawn = torch.empty(tuple(shape), device=device if generator is None else generator.device)
    return drawn.bernoulli_(1 - p, generator=generator).bool().to(device or drawn.device)


class Dropout(nn.Module):
    """`dropout` as a layer: active in training mode, the identity in evaluation mode."""

    function = staticmethod(dropout)

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = _check_probability("p", p)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout1d(Dropout):
    """`dropout1d` as a layer."""

    function = staticmethod(dropout1d)


class Dropout2d(Dropout):
    """`dropout2d` as a layer."""

    function = staticmethod(dropout2d)


class ClothesNet(nn.Module):
    """Two convolutions and a hidden layer for Fashion-MNIST, with room for dropout.

    (N, 1, 28, 28) with pixels 0 .. 1 -> logits (N, 10).

    Args:
        p: of the dropout before the hidden layer, which has nearly all of the weights.
        p_maps: of the `Dropout2d` behind each convolution.
    """

    def __init__(self, p: float = 0.0, p_maps: float = 0.0):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),  # (N, 1, 28, 28) -> (N, 16, 28, 28)
            nn.MaxPool2d(2),  # -> (N, 16, 14, 14)
            nn.ReLU(),
            Dropout2d(p_maps),
            nn.Conv2d(16, 32, 3, padding=1),  # -> (N, 32, 14, 14)
            nn.MaxPool2d(2),  # -> (N, 32, 7, 7)
            nn.ReLU(),
            Dropout2d(p_maps),
        )
        self.hidden = nn.Sequential(Dropout(p), nn.Linear(32 * 7 * 7, 128), nn.ReLU())
        self.classify = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        images = (images - PIXEL_MEAN) / PIXEL_STD
        features = self.features(images).flatten(1)  # -> (N, 32, 7, 7) -> (N, 1568)
        return self.classify(self.hidden(features))  # -> (N, 128) -> (N, 10)


def l1_penalty(weights: Iterable[Tensor]) -> Tensor:
    """Sum of the absolute values: its gradient pulls each weight to 0 with the same force."""
    return torch.stack([weight.abs().sum() for weight in _filled(weights)]).sum()


def l2_penalty(weights: Iterable[Tensor]) -> Tensor:
    """Half the sum of the squares: its gradient is the weights themselves."""
    return torch.stack([weight.square().sum() for weight in _filled(weights)]).sum() / 2


@torch.no_grad()
def decay_(weights: Iterable[Tensor], learning_rate: float, weight_decay: float) -> None:
    """Decoupled weight decay: shrink the weights in place, past the optimizer and its moments.

    Before each step of Adam it makes AdamW of it. Source: Loshchilov and Hutter 2019.
    """
    for weight in _filled(weights):
        weight *= 1 - learning_rate * weight_decay


def corrupt_labels(labels: Tensor, share: float, classes: int, generator: Generator) -> Tensor:
    """Labels (N,) of which round(share * N) are replaced by classes drawn at random.

    A drawn class may happen to be the right one. With share 1 the labels say nothing of the items.
    Source: Zhang et al. 2017, "Understanding deep learning requires rethinking generalization".
    """
    _check_probability("share", share)
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    drawn = torch.randint(classes, (len(chosen),), generator=generator)
    noisy = labels.clone()
    noisy[chosen.to(labels.device)] = drawn.to(labels)
    return noisy


def smooth_labels(labels: Tensor, share: float, classes: int) -> Tensor:
    """Labels (N,) as probabilities (N, classes): what `corrupt_labels` gives on average.

    A share is dealt out among all classes, so that no answer has to be quite sure. Source: Szegedy
    et al. 2016, section 7.
    """
    _check_probability("share", share)
    return (1 - share) * nn.functional.one_hot(labels, classes) + share / classes


def ensemble(models: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """What each model answers in evaluation mode: probabilities (models, N, classes).

    Their mean over axis 0 is the ensemble's answer.
    """
    if not models:
        raise ValueError("models is empty; at least one is needed")
    return torch.stack([train.predict(model, inputs).softmax(dim=1) for model in models])


@torch.no_grad()
def monte_carlo(model: nn.Module, inputs: Tensor, samples: int) -> Tensor:
    """The answers of `samples` thinned networks: probabilities (samples, N, classes).

    Only dropout layers, ours or torch's, act as in training. Mean and spread over axis 0 are the
    prediction and its uncertainty. Source: Gal and Ghahramani 2016.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; allowed are whole numbers from 1")
    kinds = (Dropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
    layers = [layer for layer in model.modules() if isinstance(layer, kinds)]
    if not layers:
        raise ValueError("model has no dropout layers; at least one is needed")
    was_training = model.training
    model.eval()
    for layer in layers:
        layer.train()
    inputs = inputs.to(next(model.parameters()).device)
    answers = torch.stack([model(inputs).softmax(dim=1).cpu() for _ in range(samples)])
    model.train(was_training)
    return answers


def entropy(probabilities: Tensor) -> Tensor:
    """Uncertainty of (..., classes) in nats, (...): 0 when sure, log(classes) when clueless."""
    return torch.special.entr(probabilities).sum(dim=-1)


def disagreement(probabilities: Tensor) -> Tensor:
    """How much members (members, N, classes) contradict each other, in nats, (N,).

    The entropy of their mean less the mean of their entropies: 0 where all say the same, however
    unsure each of them is. Source: Houlsby et al. 2011.
    """
    return entropy(probabilities.mean(dim=0)) - entropy(probabilities).mean(dim=0)


def _drop_channels(x: Tensor, axes: str, p: float, training: bool, generator) -> Tensor:
    """Dropout with one decision for each item and channel of x (N, C, ...)."""
    if x.ndim != axes.count(",") + 1:
        raise ValueError(f"x has shape {tuple(x.shape)}; allowed are the axes {axes}")
    _check_probability("p", p)
    if not training:
        return x
    kept = keep_mask((*x.shape[:2], *[1] * (x.ndim - 2)), p, generator, x.device)  # (N, C, 1, ...)
    return dropout(x, p, kept=kept)


def _check_probability(name: str, value: float) -> float:
    if not 0 <= value <= 1:  # NaN, too
        raise ValueError(f"{name} is {value}; allowed are probabilities from 0 to 1")
    return value


def _filled(weights: Iterable[Tensor]) -> list[Tensor]:
    weights = list(weights)
    if not weights:
        raise ValueError("weights is empty; at least one tensor is needed")
    return weights
