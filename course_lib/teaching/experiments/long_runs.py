"""Recipes that train for longer than a notebook should: run whole, once for each seed."""

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
        seeds=2,
    )
    for recipe, title in (
        ("resnet_long", "the small ResNet, trained for longer"),
        ("dialogue_long", "the Transformer on dialogue, trained for longer"),
        ("bert_pretraining_long", "the small BERT, pretrained for longer"),
        ("shakespeare_long", "the GPT on Shakespeare, trained for longer"),
    )
)
