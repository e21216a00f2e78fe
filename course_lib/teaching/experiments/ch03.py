"""Chapter 03's stored grids: ways against memorising compared, and how much dropout is enough.

Each run draws its training images of clothes by its seed. When to stop is chosen on other
*training* images; so was what is combined, and how strongly. The strength of L1 is a guess, and
nothing was chosen by it. The test images only measure.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from course_lib import augment, data, dropout, recipes, train
from course_lib.teaching.experiments.experiment import Experiment, Grid

LOOK_EVERY = 100  # steps
LOOKS = ("train", "held_out")  # what is looked at
WEIGHT_LIMIT, WEIGHT_BINS = 0.2, 41  # of the histograms of weights


def regularise(
    seed: int,
    *,
    members: int = 1,
    patience: int | None = None,
    jitter: bool = False,
    **options: float,
) -> dict[str, float | list[float]]:
    """Train `members` networks on the same 1,500 images and let them answer together.

    Args:
        patience: looks at held-out images without a new best before a training stops.
        jitter: shift the training images by up to two pixels and mirror half of them.
        options: those of `recipes.dropout`.

    Returns:
        In percent: "test" and "train", the accuracies of the mean answer, and "test_each" and
        "train_each", the members' own, averaged. "steps": of all members. "weights": a histogram
        of the first member's hidden weights, and "size", the root of their mean square.
    """
    clothes = data.load("fashion_mnist")
    test_images = recipes.scale_pixels(clothes.x_test)
    models, steps = [], 0
    for member in range(members):
        recipe = recipes.dropout(seed=100 * seed + member, draw=seed, **options)
        if jitter:
            recipe.batches.transform = _jitter
        steps += _fit(recipe, patience, draw=seed)
        models.append(recipe.model)
    weights = models[0].hidden[1].weight.detach().cpu()
    return {
        **_accuracies("test", models, test_images, clothes.y_test),
        **_accuracies("train", models, *recipe.batches.tensors),
        "steps": float(steps),
        "weights": torch.histc(weights, WEIGHT_BINS, -WEIGHT_LIMIT, WEIGHT_LIMIT).tolist(),
        "size": weights.square().mean().sqrt().item(),
    }


def compared(grid: Grid) -> dict[str, dict[str, Tensor]]:
    """The columns "test", "train" and "steps" of the study, each row (seeds,): the members of an
    ensemble by themselves are a row, too."""
    columns = {name: grid.values(name) for name in ("test", "train", "steps")}
    each = {name: grid.values(f"{name}_each") for name in ("test", "train")}
    each["steps"] = {name: steps / MEMBERS for name, steps in columns["steps"].items()}
    rows = {}
    for name, values in columns.items():
        alone = {ALONE[many]: each[name][many] for many in ALONE}
        rows[name] = {row: (alone | values)[row] for row in ROWS}
    return rows


def rate(seed: int, *, p: float) -> dict[str, float | list[float]]:
    """Accuracies (%) every `LOOK_EVERY` steps, without dropout, of a network trained with it:
    "train" on its 1,500 images, "held_out" on 2,000 others; and at the end "test"."""
    recipe = recipes.dropout(seed=seed, p=p)
    history = fit_and_look(recipe, draw=seed)
    looks = {name: [100 * look[name] for look in history.validation] for name in LOOKS}
    return {**looks, "test": 100 * recipe.test(recipe.model)["accuracy"]}


def fit_and_look(recipe: recipes.Recipe, draw: int, every: int = LOOK_EVERY) -> train.History:
    """Train, and look at both kinds of images every few steps: "train" and "held_out"."""
    images, labels = recipe.batches.tensors
    _, (held_images, held_labels) = recipes.few_clothes(draw, len(images))

    def look(model: nn.Module) -> dict[str, float]:
        return {
            "train": train.accuracy(train.predict(model, images), labels),
            "held_out": train.accuracy(train.predict(model, held_images), held_labels),
        }

    config = replace(recipe.config, validate_every=every)
    return replace(recipe, config=config).fit(validate=look)


def wide(seed: int, *, hidden: int, p: float) -> dict[str, float]:
    """Test accuracy (%) of an MLP of that width on 1,500 images, with dropout of `p` before its
    last layer; and "train" on its own images."""
    recipe = recipes.dropout(seed=seed)
    layers = [nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), dropout.Dropout(p)]
    model = nn.Sequential(*layers, nn.Linear(hidden, 10))  # (N, 1, 28, 28) -> (N, 10)
    replace(recipe, model=model).fit()
    images, labels = recipe.batches.tensors
    own = train.accuracy(train.predict(model, images), labels)
    return {"test": 100 * recipe.test(model)["accuracy"], "train": 100 * own}


def _fit(recipe: recipes.Recipe, patience: int | None, draw: int) -> int:
    """Train, with early stopping if there is a patience; returns the steps taken."""
    if patience is None:
        return len(recipe.fit().loss)
    _, (images, labels) = recipes.few_clothes(draw, len(recipe.batches.tensors[0]))
    config = replace(recipe.config, patience=patience, validate_every=LOOK_EVERY // 2)
    history = replace(recipe, config=config).fit(
        validate=lambda model: {"accuracy": train.accuracy(train.predict(model, images), labels)}
    )
    return len(history.loss)


def _accuracies(
    name: str, models: list[nn.Module], images: Tensor, labels: Tensor
) -> dict[str, float]:
    answers = dropout.ensemble(models, images)  # (members, N, 10)
    each = [train.accuracy(answer, labels) for answer in answers]
    together = train.accuracy(answers.mean(dim=0), labels)
    return {name: 100 * together, f"{name}_each": 100 * sum(each) / len(each)}


def _jitter(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    images, labels = batch
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    return augment.random_affine(images, generator, shift=2.0), labels


ALL = {"p": 0.5, "weight_decay": 0.3, "smoothing": 0.1}
MORE_DATA = "more data: shifts, mirrors"
MEMBERS = 3
REGULARISERS = {
    "weight decay": {"p": 0.0, "weight_decay": 0.3},
    "L1": {"p": 0.0, "l1": 3e-5},
    "early stopping": {"p": 0.0, "patience": 6},
    "label smoothing": {"p": 0.0, "smoothing": 0.1},
    "dropout2d": {"p": 0.0, "p_maps": 0.1},
    "dropout": {"p": 0.5},
    "3 networks": {"p": 0.0, "members": MEMBERS},
    "3 networks, each with all three": {"members": MEMBERS, **ALL},
    MORE_DATA: {"p": 0.0, "jitter": True},
}
ALONE = {  # what the members of an ensemble are by themselves
    "3 networks": "nothing",
    "3 networks, each with all three": "dropout, decay, smoothing",
}
ROWS = ["nothing", *REGULARISERS]
ROWS.insert(ROWS.index("3 networks"), "dropout, decay, smoothing")
RATES = {f"{tenths / 10:g}": {"p": tenths / 10} for tenths in range(10)}
WIDTHS = {
    f"{hidden}, p = {p:g}": {"hidden": hidden, "p": p}
    for small in (32, 128, 512)
    for hidden, p in ((small, 0.0), (2 * small, 0.5))
}

EXPERIMENTS = (
    Experiment("3.7", "ways against memorising 1,500 images", regularise, REGULARISERS),
    Experiment("dropout_rate", "how much dropout is enough", rate, RATES, seeds=3),
    Experiment("3.3", "twice the hidden units with dropout of one half", wide, WIDTHS),
)
