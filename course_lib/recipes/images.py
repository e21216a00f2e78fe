"""The training runs of chapters 00 to 05, on digits and on clothes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from course_lib import augment, classics, data, folders, runtime, tensor_ops, train
from course_lib.batch_norm import NormCNN  # `batch_norm` is a recipe here
from course_lib.cnn import DigitNet, SmallCNN  # and so is `cnn`
from course_lib.dropout import ClothesNet, l1_penalty, smooth_labels  # and so is `dropout`
from course_lib.recipes.recipe import (
    Recipe,
    Size,
    classification_loss,
    one_cycle,
    pick,
    scale_pixels,
)
from course_lib.resnet import SmallResNet, resnet18, resnet50

# A folder of the user's own pictures; or only the names of its classes, to build the model.
Source = str | Path | Sequence[str] | None
CONVOLUTIONAL = {"learning_rate": 0.015, "weight_decay": 0.01, "channels_last": True}
# Muon's steps suit a training of a minute: chapter 07 tells how they are made.
ON_CLOTHES = {"optimizer": "muon", "learning_rate": 0.005, "weight_decay": 0.1}
ON_CLOTHES |= {"channels_last": True}
# The paper's training, section 3.4; there the rate falls in steps.
AS_IN_THE_PAPER = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4}
AS_IN_THE_PAPER |= {"schedule": "cosine", "warmup": 0.01, "channels_last": True}
RESNETS = {
    "tiny": Size(
        partial(SmallResNet, zero_init=True), 128, {"steps": 1000, **ON_CLOTHES}, {"side": 28}
    ),
    "small": Size(
        partial(resnet18, zero_init=True),
        128,
        {"steps": 20_000, **AS_IN_THE_PAPER, "learning_rate": 0.05},
        {"side": 128, "grey": False},
    ),
    "base": Size(
        partial(resnet50, zero_init=True),
        256,
        {"steps": 600_000, **AS_IN_THE_PAPER},
        {"side": 224, "grey": False},
    ),
}
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # of the training digits' pixels, 0 .. 1


def digits(*, seed: int = 0, batch_size: int = 256, **changes) -> Recipe:
    """Chapter 00: a small convolutional network reads MNIST digits that are turned and shifted.

    Args:
        seed: of the weights, the order of the images and their augmentation.
        changes: other values for the `FitConfig`, e.g. `steps=2000`.
    """
    config = one_cycle(seed, changes, steps=200, **CONVOLUTIONAL)
    return _on_images(DigitNet, _jitter_digits, config, batch_size)


def softmax_regression(*, seed: int = 0, batch_size: int = 256, **changes) -> Recipe:
    """Chapter 01: one linear layer on MNIST's pixels; arguments as for `digits`."""
    # Adam is as good, but blows up the weights of pixels that rarely see ink.
    config = one_cycle(seed, changes, steps=700, optimizer="sgd", learning_rate=0.5)
    return _on_images(tensor_ops.SoftmaxRegression, _plain_digits, config, batch_size)


def mlp(*, seed: int = 0, batch_size: int = 256, **changes) -> Recipe:
    """Chapter 01: a hidden layer of 256 on MNIST's pixels; arguments as for `digits`."""
    config = one_cycle(seed, changes, steps=800, learning_rate=0.01, weight_decay=0.05)
    model = partial(tensor_ops.MLP, hidden=256)
    return _on_images(model, _plain_digits, config, batch_size)


def cnn(*, seed: int = 0, batch_size: int = 256, source: Source = None, **changes) -> Recipe:
    """Chapter 02: `SmallCNN` on digits that are turned and shifted; arguments as for `digits`.

    Args:
        source: a folder of the user's own pictures for `folders.images`; they become 28x28, grey.
    """
    config = one_cycle(seed, changes, steps=400, **CONVOLUTIONAL)
    if source is not None:
        return _on_own(SmallCNN, _jitter_digits, config, batch_size, source)
    return _on_images(SmallCNN, _jitter_digits, config, batch_size)


def cnn_long(*, steps: int = 1300, **options) -> Recipe:
    """Chapter 02: longer than `cnn`, and otherwise the same."""
    return cnn(steps=steps, **options)


def resnet(
    *,
    seed: int = 0,
    batch_size: int | None = None,
    size: str = "tiny",
    source: Source = None,
    **changes,
) -> Recipe:
    """Chapter 05: a residual network on pictures of clothes; otherwise as `batch_norm`.

    Args:
        size: "tiny", the chapter's; "small", ResNet-18; "base", ResNet-50.
        source: as for `cnn`; "small" and "base" take colour pictures of 128 and 224 pixels.
    """
    row = pick(RESNETS, size)
    config = one_cycle(seed, changes, **row.training)
    batch_size = row.batch_size if batch_size is None else batch_size
    return _on_clothes(row.make, config, batch_size, source, **row.data)


def resnet_long(*, steps: int = 2500, **options) -> Recipe:
    """Chapter 05: longer than `resnet`, and otherwise the same."""
    return resnet(steps=steps, **options)


def tutorial(*, seed: int = 0, batch_size: int = 64, **changes) -> Recipe:
    """Chapter 02: the usual tutorial program, to compare with; arguments as for `digits`.

    Five epochs of Adam in float32, the pictures transformed one by one in a DataLoader.
    """
    runtime.seed_everything(seed)
    mnist = data.load("mnist")
    pictures = _Pictures(mnist.x_train, mnist.y_train)
    loader = DataLoader(pictures, batch_size, shuffle=True)
    config = train.FitConfig(
        steps=5 * len(loader), optimizer="adam", precision="float32", seed=seed
    )

    def test(model: nn.Module) -> dict[str, float]:
        images = (scale_pixels(mnist.x_test) - MNIST_MEAN) / MNIST_STD
        return {"accuracy": train.accuracy(train.predict(model, images), mnist.y_test)}

    config = replace(config, **changes)
    return Recipe(classics.NotesCNN(), loader, classification_loss, config, test)


def dropout(
    *,
    seed: int = 0,
    batch_size: int = 50,
    images: int = 1500,
    draw: int | None = None,
    p: float = 0.5,
    p_maps: float = 0.0,
    smoothing: float = 0.0,
    l1: float = 0.0,
    **changes,
) -> Recipe:
    """Chapter 03: `ClothesNet` on few pictures of clothes, kept from learning them by heart.

    Args:
        seed: of the weights, the order of the images and the dropout masks.
        draw: which `images` training images, see `few_clothes`; by default number `seed`.
        p, p_maps: of the dropout, see `ClothesNet`.
        smoothing: of the labels, see `smooth_labels`.
        l1: strength of an L1 penalty on the weights.
        changes: other values for the `FitConfig`, e.g. `weight_decay=0.3`.
    """
    config = train.FitConfig(**{"steps": 1200, "channels_last": True, "seed": seed} | changes)
    runtime.seed_everything(seed)
    (inputs, labels), _ = few_clothes(seed if draw is None else draw, images)
    batches = train.Batches(inputs, labels, batch_size=batch_size, seed=seed)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, labels = batch
        value = F.cross_entropy(model(inputs), smooth_labels(labels, smoothing, 10))
        weights = [weight for weight in model.parameters() if weight.ndim >= 2]
        return value + l1 * l1_penalty(weights) if l1 else value

    def test(model: nn.Module) -> dict[str, float]:
        clothes = data.load("fashion_mnist")
        logits = train.predict(model, scale_pixels(clothes.x_test))
        return {"accuracy": train.accuracy(logits, clothes.y_test)}

    return Recipe(ClothesNet(p, p_maps), batches, loss, config, test)


def dropout_full(*, steps: int = 11_600, **options) -> Recipe:
    """Chapter 03: as `dropout`, on all training images but the 2,000 held out."""
    return dropout(images=58_000, steps=steps, **options)


def batch_norm(*, seed: int = 0, batch_size: int = 128, source: Source = None, **changes) -> Recipe:
    """Chapter 04: `NormCNN` on pictures of clothes, half of them mirrored; arguments as for `cnn`.

    Labels are smoothed. A test picture and its mirror image are both looked at, and their logits
    added: a mirrored shoe is a shoe when testing, too.
    """
    config = one_cycle(seed, changes, steps=950, **ON_CLOTHES)
    return _on_clothes(_norm_cnn, config, batch_size, source)


def few_clothes(draw: int, count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Drawing number `draw` of `count` Fashion-MNIST *training* images, at most 58,000 of them,
    and 2,000 others to choose by; both as scaled images (N, 1, 28, 28) and labels (N,)."""
    clothes = data.load("fashion_mnist")
    order = torch.randperm(60_000, generator=runtime.generator_for(draw, count))
    if not 1 <= count <= 58_000:
        raise ValueError(f"images is {count}; allowed are 1 to 58000")
    chosen, held_out = (
        (scale_pixels(clothes.x_train[rows]), clothes.y_train[rows])
        for rows in (order[:count], order[58_000:])
    )
    return chosen, held_out


class _Pictures(Dataset):
    """Digits as torchvision's MNIST gives them: made a picture and transformed when asked for."""

    def __init__(self, images: Tensor, labels: Tensor):
        from torchvision import transforms  # a slow import that no other recipe needs

        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(MNIST_MEAN, MNIST_STD)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[item, 0].numpy())  # 28x28, uint8
        return self.transform(picture), int(self.labels[item])  # (1, 28, 28)


def _on_images(
    make_model: Callable[[], nn.Module],
    prepare: Callable[[Tensor, torch.Generator | None], Tensor],
    config: train.FitConfig,
    batch_size: int,
    source: data.Images | None = None,
    loss: train.Loss = classification_loss,
    predict: Callable[[nn.Module, Tensor], Tensor] = train.predict,
) -> Recipe:
    """A recipe on the official training and test images of `source`, by default MNIST.

    Args:
        prepare: uint8 images and a generator -> what the model takes; without a generator, as for
            testing, nothing is drawn at random.
        predict: model and test images -> logits (N, classes).
    """
    runtime.seed_everything(config.seed)
    source = source or data.load("mnist")

    def transform(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple:
        images, labels = batch
        return prepare(images, generator), labels

    def test(model: nn.Module) -> dict[str, float]:
        parts = source.x_test.split(1000)  # enlarged, all of them would not fit into memory
        logits = torch.cat([predict(model, prepare(part, None)) for part in parts])
        return {"accuracy": train.accuracy(logits, source.y_test)}

    batches = train.Batches(
        source.x_train, source.y_train, batch_size=batch_size, seed=config.seed, transform=transform
    )
    recipe = Recipe(make_model(), batches, loss, config, test)
    return replace(recipe, predict=_name_picture(prepare, predict, source.classes, 28, True))


def _on_clothes(
    make_model: Callable[..., nn.Module],
    config: train.FitConfig,
    batch_size: int,
    source: Source = None,
    **shape,
) -> Recipe:
    """`_on_images` of Fashion-MNIST, or `_on_own`: half of the pictures mirrored, labels smoothed,
    and tested on both sides of each picture."""
    loss = partial(classification_loss, smoothing=0.1)
    options = {"loss": loss, "predict": predict_both_sides}
    if source is not None:
        return _on_own(make_model, _mirror_clothes, config, batch_size, source, **shape, **options)
    clothes = data.load("fashion_mnist")
    if shape.get("grey", True):
        return _on_images(make_model, _mirror_clothes, config, batch_size, clothes, **options)

    def prepare(images: Tensor, generator: torch.Generator | None) -> Tensor:
        large = F.interpolate(_mirror_clothes(images, generator), size=shape["side"])
        return large.expand(-1, 3, -1, -1)  # (N, 1, side, side) -> (N, 3, side, side)

    make = partial(make_model, classes=len(clothes.classes))
    return _on_images(make, prepare, config, batch_size, clothes, **options)


def _on_own(
    make_model: Callable[..., nn.Module],
    prepare: Callable[[Tensor, torch.Generator | None], Tensor],
    config: train.FitConfig,
    batch_size: int,
    source: str | Path | Sequence[str],
    side: int = 28,
    grey: bool = True,
    loss: train.Loss = classification_loss,
    predict: Callable[[nn.Module, Tensor], Tensor] = train.predict,
) -> Recipe:
    """As `_on_images`, on the user's own pictures, which are read when they are needed."""
    runtime.seed_everything(config.seed)
    own = None if isinstance(source, list | tuple) else folders.images(source, side, grey)
    classes = tuple(source) if own is None else own.classes

    def transform(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple:
        images, labels = batch
        return prepare(images, generator), labels

    def test(model: nn.Module) -> dict[str, float]:
        right = 0
        for images, labels in own.test.batches(250, shuffle=False):
            logits = predict(model, prepare(images, None))
            right += (logits.argmax(1) == labels).sum().item()
        return {"accuracy": right / own.test.count}

    if own is None:  # one batch to see the shapes by
        batches = [(torch.zeros(2, 1 if grey else 3, side, side), torch.zeros(2).long())]
    else:
        batches = own.train.batches(batch_size, config.seed, transform=transform)
    answer = _name_picture(prepare, predict, classes, side, grey)
    model = make_model(classes=len(classes))
    return Recipe(model, batches, loss, config, test, names=classes, predict=answer)


def _name_picture(
    prepare: Callable, predict: Callable, classes: Sequence[str], side: int, grey: bool
) -> Callable[[nn.Module, str], str]:
    """What `Recipe.predict` is for classifiers: a file's name -> the likeliest classes."""

    def answer(model: nn.Module, path: str) -> str:
        image = folders.read_image(path, side, grey)
        shares = predict(model, prepare(image[None], None)).softmax(1)[0]  # (classes,)
        best = shares.topk(min(3, len(classes)))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return ", ".join(f"{classes[number]} {100 * share:.1f} %" for share, number in pairs)

    return answer


def _norm_cnn(classes: int = 10) -> NormCNN:
    model = NormCNN()
    if classes != 10:
        model.classify = nn.Linear(model.classify.in_features, classes)
    return model


def predict_both_sides(model: nn.Module, images: Tensor) -> Tensor:
    """The sum of the logits (N, classes) for images (N, C, H, W) and for their mirror images."""
    return train.predict(model, images) + train.predict(model, images.flip(3))


def _jitter_digits(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Handwriting leans, drifts and varies in size, and so should the training digits."""
    images = scale_pixels(images)
    if generator is None:
        return images
    return augment.random_affine(images, generator, degrees=12, shift=1.5, scale=0.12, shear=8)


def _mirror_clothes(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """A mirrored shoe is a shoe, which does not hold of digits."""
    images = scale_pixels(images)
    return images if generator is None else augment.random_flip(images, generator)


def _plain_digits(images: Tensor, _: torch.Generator | None) -> Tensor:
    return scale_pixels(images)
