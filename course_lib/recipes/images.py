"""The training runs of chapters 00 to 05, on digits and on clothes."""

from collections.abc import Callable, Iterable, Sequence
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
from course_lib.recipes import answers
from course_lib.recipes.recipe import (
    Recipe,
    Size,
    classification_loss,
    one_cycle,
    pick,
    scale_pixels,
    shipped,
)
from course_lib.resnet import SmallResNet, resnet18, resnet50

# A set of the course, a folder of the user's own pictures, or only the names of the classes, to
# build the model.
Source = str | Path | Sequence[str] | None
SETS = ("mnist", "fashion_mnist", "cifar10")
CONVOLUTIONAL = {"learning_rate": 0.015, "weight_decay": 0.01, "channels_last": True}
# Muon's steps suit a training of a minute: chapter 07 tells how they are made.
ON_CLOTHES = {"optimizer": "muon", "learning_rate": 0.005, "weight_decay": 0.1}
ON_CLOTHES |= {"channels_last": True}
# The paper's training, section 3.4; there the rate falls in steps.
AS_IN_THE_PAPER = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4}
AS_IN_THE_PAPER |= {"schedule": "cosine", "warmup": 0.01, "channels_last": True}
RESNETS = {
    "tiny": Size(
        partial(SmallResNet, zero_init=True), 128, {"steps": 1200, **ON_CLOTHES}, {"side": 28}
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


def digits(*, seed: int = 0, batch_size: int = 256, source: Source = None, **changes) -> Recipe:
    """Chapter 00: a small convolutional network reads MNIST digits that are turned and shifted.

    Args:
        seed: of the weights, the order of the images and their augmentation.
        source: another one of `SETS`, or a folder of the user's own pictures for `folders.images`;
            they become 28x28, grey.
        changes: other values for the `FitConfig`, e.g. `steps=2000`.
    """
    config = one_cycle(seed, changes, steps=200, **CONVOLUTIONAL)
    return _on_pictures(DigitNet, _jitter_digits, config, batch_size, source)


def softmax_regression(
    *, seed: int = 0, batch_size: int = 256, source: Source = None, **changes
) -> Recipe:
    """Chapter 01: one linear layer on MNIST's pixels; arguments as for `digits`."""
    # Adam is as good, but blows up the weights of pixels that rarely see ink.
    config = one_cycle(seed, changes, steps=700, optimizer="sgd", learning_rate=0.5)
    return _on_pictures(tensor_ops.SoftmaxRegression, _plain_digits, config, batch_size, source)


def mlp(*, seed: int = 0, batch_size: int = 256, source: Source = None, **changes) -> Recipe:
    """Chapter 01: a hidden layer of 256 on MNIST's pixels; arguments as for `digits`."""
    config = one_cycle(seed, changes, steps=800, learning_rate=0.01, weight_decay=0.05)
    model = partial(tensor_ops.MLP, hidden=256)
    return _on_pictures(model, _plain_digits, config, batch_size, source)


def cnn(*, seed: int = 0, batch_size: int = 256, source: Source = None, **changes) -> Recipe:
    """Chapter 02: `SmallCNN` on digits that are turned and shifted; arguments as for `digits`."""
    config = one_cycle(seed, changes, steps=400, **CONVOLUTIONAL)
    return _on_pictures(SmallCNN, _jitter_digits, config, batch_size, source)


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
        source: as for `digits`; "small" and "base" take colour pictures of 128 and 224 pixels.
    """
    row = pick(RESNETS, size, batch_size)
    config = one_cycle(seed, changes, **row.training)
    return _on_clothes(row.make, config, row.batch_size, source, **row.data)


def resnet_long(*, steps: int = 2500, **options) -> Recipe:
    """Chapter 05: longer than `resnet`, and otherwise the same."""
    return resnet(steps=steps, **options)


def tutorial(*, seed: int = 0, batch_size: int = 64, **changes) -> Recipe:
    """Chapter 02: the usual tutorial program, to compare with; arguments as for `digits`.

    Five epochs of Adam in float32, the pictures transformed one by one in a DataLoader.
    """
    mnist = data.load("mnist")
    loader = DataLoader(_Pictures(mnist.x_train, mnist.y_train), batch_size, shuffle=True)
    config = train.FitConfig(
        steps=5 * len(loader), optimizer="adam", precision="float32", seed=seed
    )

    def normalise(images: Tensor, _: torch.Generator | None) -> Tensor:
        return (scale_pixels(images) - MNIST_MEAN) / MNIST_STD

    make, config = partial(_ending_in, classics.NotesCNN), replace(config, **changes)
    return replace(_on_pictures(make, normalise, config, batch_size), batches=loader)


def dropout(
    *,
    seed: int = 0,
    batch_size: int = 50,
    source: Source = None,
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
        source: as for `digits`; of the user's own pictures all are learned from.
        draw: which `images` training images, see `few_clothes`; by default number `seed`.
        p, p_maps: of the dropout, see `ClothesNet`.
        smoothing: of the labels, see `smooth_labels`.
        l1: strength of an L1 penalty on the weights.
        changes: other values for the `FitConfig`, e.g. `weight_decay=0.3`.
    """
    config = train.FitConfig(**{"steps": 1200, "channels_last": True, "seed": seed} | changes)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, labels = batch
        logits = model(inputs)
        value = F.cross_entropy(logits, smooth_labels(labels, smoothing, logits.shape[1]))
        weights = [weight for weight in model.parameters() if weight.ndim >= 2]
        return value + l1 * l1_penalty(weights) if l1 else value

    make, sets = partial(_ending_in, partial(ClothesNet, p, p_maps)), ("fashion_mnist", "mnist")
    recipe = _on_pictures(make, _plain_digits, config, batch_size, source, sets, loss=loss)
    if not (name := shipped(source, sets)):
        return recipe
    few, _ = few_clothes(seed if draw is None else draw, images, name)
    return replace(recipe, batches=train.Batches(*few, batch_size=batch_size, seed=seed))


def dropout_full(*, steps: int = 11_600, **options) -> Recipe:
    """Chapter 03: as `dropout`, on all training images but the 2,000 held out."""
    return dropout(images=58_000, steps=steps, **options)


def batch_norm(*, seed: int = 0, batch_size: int = 128, source: Source = None, **changes) -> Recipe:
    """Chapter 04: `NormCNN` on pictures of clothes, half of them mirrored; as `digits`.

    Labels are smoothed. A test picture and its mirror image are both looked at, and their logits
    added: a mirrored shoe is a shoe when testing, too.
    """
    config = one_cycle(seed, changes, steps=950, **ON_CLOTHES)
    return _on_clothes(partial(_ending_in, NormCNN), config, batch_size, source)


def few_clothes(
    draw: int, count: int, name: str = "fashion_mnist"
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Drawing number `draw` of `count` Fashion-MNIST *training* images, at most 58,000 of them,
    and 2,000 others to choose by; both as scaled images (N, 1, 28, 28) and labels (N,).

    Args:
        name: "mnist" draws digits in their place.
    """
    clothes = data.load(name)
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


def _on_pictures(
    make_model: Callable[..., nn.Module],
    prepare: Callable[[Tensor, torch.Generator | None], Tensor],
    config: train.FitConfig,
    batch_size: int,
    source: Source = None,
    sets: Sequence[str] = SETS,
    side: int = 28,
    grey: bool = True,
    loss: train.Loss = classification_loss,
    predict: Callable[[nn.Module, Tensor], Tensor] = train.predict,
) -> Recipe:
    """A recipe on the official training and test images of a set, or on the user's own pictures,
    which are read when they are needed.

    Args:
        make_model: from the number of `classes`.
        prepare: uint8 images and a generator -> what the model takes; without a generator, as for
            testing, nothing is drawn at random.
        sets: names of those that `source` may be; the first one is learned by default.
        predict: model and test images -> logits (N, classes).
    """
    runtime.seed_everything(config.seed)
    name = shipped(source, sets)

    def fit(images: Tensor, generator: torch.Generator | None) -> Tensor:
        images = prepare(images, generator)
        if images.shape[-1] != side:
            images = F.interpolate(images, size=side)  # -> (N, C, side, side)
        if grey and images.shape[1] == 3:
            return images.mean(1, keepdim=True)  # (N, 3, side, side) -> (N, 1, side, side)
        return images if grey else images.expand(-1, 3, -1, -1)

    transform = lambda batch, generator: (fit(batch[0], generator), batch[1])  # noqa: E731
    options = {"batch_size": batch_size, "seed": config.seed, "transform": transform}
    parts: Callable[[], Iterable[tuple[Tensor, ...]]] = tuple
    shape = side, grey  # that an answered picture is brought to first
    if name:
        found = data.load(name)
        classes, shape = found.classes, (found.x_test.shape[-1], found.x_test.shape[1] == 1)
        batches = train.Batches(found.x_train, found.y_train, **options)
        # Enlarged, all of them would not fit into memory.
        parts = lambda: zip(found.x_test.split(1000), found.y_test.split(1000), strict=True)  # noqa: E731
    elif isinstance(source, list | tuple):  # one batch to see the shapes by
        classes = tuple(source)
        batches = [(torch.zeros(2, 1 if grey else 3, side, side), torch.zeros(2).long())]
    else:
        own = folders.images(source, side, grey)
        classes, parts = own.classes, partial(own.test.in_order, 250)
        batches = own.train.batches(**options)

    def test(model: nn.Module) -> dict[str, float]:
        rows = [(predict(model, fit(images, None)), labels) for images, labels in parts()]
        return {"accuracy": train.accuracy(*map(torch.cat, zip(*rows, strict=True)))}

    answer = _name_picture(fit, predict, classes, *shape)
    names = () if source is None else classes
    model = make_model(classes=len(classes))
    return Recipe(model, batches, loss, config, test, names=names, predict=answer)


def _on_clothes(make_model, config, batch_size, source, **shape) -> Recipe:
    """`_on_pictures`, Fashion-MNIST by default: half of the pictures mirrored, labels smoothed,
    and tested on both sides of each picture."""
    loss = partial(classification_loss, smoothing=0.1)
    options = {"loss": loss, "predict": predict_both_sides, **shape}
    sets = ("fashion_mnist", "mnist", "cifar10")
    return _on_pictures(make_model, _mirror_clothes, config, batch_size, source, sets, **options)


def _name_picture(
    prepare: Callable, predict: Callable, classes: Sequence[str], side: int, grey: bool
) -> Callable[[nn.Module, str], str]:
    """What `Recipe.predict` is for classifiers: a file's name -> the likeliest classes."""

    def answer(model: nn.Module, path: str) -> str:
        image = folders.read_image(path, side, grey)
        return answers.likeliest(predict(model, prepare(image[None], None)), classes)

    return answer


def _ending_in(make_model: Callable[[], nn.Module], classes: int) -> nn.Module:
    """A model made for ten classes with a last layer for `classes`."""
    model = make_model()
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
