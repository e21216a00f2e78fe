"""Recipes run whole, once for each seed: those too long for a notebook, or asked for elsewhere."""

import torch

from course_lib import recipes
from course_lib.teaching.experiments.experiment import Experiment

PARTS = 20  # into which a run's losses are cut, each stored as its mean


def whole_recipe(seed: int, *, recipe: str) -> dict[str, float | list[float]]:
    """A recipe as it stands, tested on its official test data.

    Returns:
        What its test gives, and "loss": its mean in each twentieth.
    """
    chosen = recipes.RECIPES[recipe](seed=seed)
    history = chosen.fit()
    return {
        **chosen.test(chosen.model),
        "loss": loss_by_part(history.loss),
    }


def loss_by_part(loss: list[float]) -> list[float]:
    """The mean loss of each twentieth of a run."""
    return [part.mean().item() for part in torch.tensor(loss).chunk(PARTS)]


EXPERIMENTS = tuple(
    Experiment(
        claim=recipe,
        title=title,
        measure=whole_recipe,
        settings={recipe: {"recipe": recipe}},
        seeds=seeds,
    )
    for recipe, title, seeds in (
        ("resnet_long", "the small ResNet, trained for longer", 2),
        ("dialogue_long", "the Transformer on dialogue, trained for longer", 2),
        ("bert_pretraining_long", "the small BERT, pretrained for longer", 2),
        ("shakespeare_long", "the GPT on Shakespeare, trained for longer", 2),
        ("yolo", "the detector of chapter 11, to compare with that of chapter 12", 3),
    )
)
