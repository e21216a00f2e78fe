"""`python -m course_lib train NAME`."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from course_lib import checkpoints, data, distributed, runtime, train
from course_lib.recipes.recipe import Recipe

# Of a test's results those that are shares; others are points or losses.
SHARES = {"accuracy", "exact", "masked words", "neighbours"}


def main(argv: list[str], recipes: Mapping[str, Callable[..., Recipe]]) -> int:
    """Train by name from the command line, print the test result, save the weights if asked."""
    parser = argparse.ArgumentParser(prog="python -m course_lib train", description=main.__doc__)
    parser.add_argument("recipe", choices=sorted(recipes))
    parser.add_argument("--steps", type=int, help="instead of the recipe's own number")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--precision", choices=["auto", *runtime.PRECISIONS])
    parser.add_argument("--compile", action="store_true", default=None)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--checkpoint", help="file to save to, and to go on from if it exists")
    parser.add_argument("--save", help="file for the trained weights")
    options = {name: v for name, v in vars(parser.parse_args(argv)).items() if v is not None}
    name, checkpoint, save = (options.pop(key, None) for key in ("recipe", "checkpoint", "save"))
    try:
        recipe = recipes[name](**options)
        history = recipe.fit(checkpoint=checkpoint)
    except (ValueError, data.DataError, checkpoints.CheckpointError) as error:
        parser.error(str(error))
    if distributed.is_first_process():
        _print_results(recipe, history)
        if save:
            checkpoints.save(Path(save), recipe.model.state_dict())
    return 0


def _print_results(recipe: Recipe, history: train.History) -> None:
    print(f"{len(history.loss)} steps in {history.seconds:.1f} s of training")
    for name, value in recipe.test(recipe.model).items():
        print(f"test {name}: " + (f"{100 * value:.2f} %" if name in SHARES else f"{value:.4g}"))
