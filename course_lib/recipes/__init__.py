"""Each chapter's training run, once: its notebook and the command line use the same.

`python -m course_lib train digits` runs one; under `torchrun -m course_lib train digits` several
processes share it.
"""

from course_lib.recipes import command
from course_lib.recipes.images import (
    batch_norm,
    cnn,
    cnn_long,
    digits,
    dropout,
    dropout_full,
    few_clothes,
    mlp,
    resnet,
    resnet_long,
    softmax_regression,
    tutorial,
)
from course_lib.recipes.language import (
    addition,
    bert_pretraining,
    bert_pretraining_long,
    kinder_review,
    pretraining_scores,
    review_tuning,
    shakespeare,
    shakespeare_long,
    shakespeare_short,
)
from course_lib.recipes.recipe import Recipe, classification_loss, scale_pixels
from course_lib.recipes.scenes import brain, crowns, detection_scores, ssd, unet, yolo
from course_lib.recipes.sequences import dialogue, dialogue_long, number_words

__all__ = ["RECIPES", "Recipe", "classification_loss", "few_clothes", "main"]
__all__ += ["detection_scores", "pretraining_scores", "scale_pixels"]

_ALL = (digits, softmax_regression, mlp, tutorial, cnn, cnn_long, dropout, dropout_full)
_ALL += (batch_norm, resnet, resnet_long, number_words, dialogue, dialogue_long)
_ALL += (bert_pretraining, bert_pretraining_long, review_tuning, kinder_review)
_ALL += (addition, shakespeare, shakespeare_short, shakespeare_long)
_ALL += (unet, brain, yolo, ssd, crowns)
RECIPES = {recipe.__name__: recipe for recipe in _ALL}
__all__ += RECIPES


def main(argv: list[str]) -> int:
    """`python -m course_lib train NAME`: see `command.main`."""
    return command.main(argv, RECIPES)


def predict(argv: list[str]) -> int:
    """`python -m course_lib predict NAME`: see `command.predict`."""
    return command.predict(argv, RECIPES)


def export(argv: list[str]) -> int:
    """`python -m course_lib export NAME`: see `command.export`."""
    return command.export(argv, RECIPES)
