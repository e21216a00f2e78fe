"""`python -m course_lib train NAME`, `predict NAME` and `export NAME`."""

import argparse
import inspect
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from course_lib import checkpoints, data, distributed, runtime, train
from course_lib.batches import batches_per_epoch
from course_lib.recipes import trained
from course_lib.recipes.logs import JsonLog, TensorBoard
from course_lib.recipes.recipe import Recipe

# Of a test's results those whose last word is one of these are shares; others, points or losses.
SHARES = ("accuracy", "exact", "words", "neighbours", "IoU", "Dice", "mAP", "AP")
SIZES = ("tiny", "small", "base")
WRONG, FAILED, INTERRUPTED = 2, 1, 130  # exit codes: bad arguments, a bad end, Ctrl-C

Recipes = Mapping[str, Callable[..., Recipe]]


def main(argv: list[str], recipes: Recipes) -> int:
    """Train by name, print the test results, save the weights if asked; see `--help`.

    Returns:
        The exit code: 0, or that of a sentence on stderr that says what went wrong.
    """
    return explain(lambda: _train(_parser(recipes).parse_args(argv), recipes))


def predict(argv: list[str], recipes: Recipes) -> int:
    """Ask a trained model: print its answer to each INPUT."""
    parser = _short_parser("predict", "Ask a model that train --save has kept.", recipes)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="a picture's file, or a text")
    return explain(lambda: _predict(parser.parse_args(argv), recipes))


def export(argv: list[str], recipes: Recipes) -> int:
    """Write a trained model for other programs."""
    parser = _short_parser("export", "Write a trained model for other programs.", recipes)
    parser.add_argument("--to", required=True, metavar="FILE", help="*.onnx or *.safetensors")
    return explain(lambda: _export(parser.parse_args(argv), recipes))


def explain(command: Callable[[], int]) -> int:
    """Run `command`; what a user can mend is one sentence on stderr, not a traceback."""
    try:
        return command()
    except (ValueError, data.DataError) as error:
        return _say(error, WRONG)
    except (checkpoints.CheckpointError, train.TrainingDiverged, OSError) as error:
        return _say(error, FAILED)
    except torch.OutOfMemoryError as error:
        hint = "Try a smaller --batch-size, or --accumulate with a larger number."
        return _say(f"There is not enough memory. {hint} ({error})", FAILED)
    except KeyboardInterrupt:
        return _say("Stopped.", INTERRUPTED)


def _predict(arguments: argparse.Namespace, recipes: Recipes) -> int:
    recipe = trained.load(arguments.weights, arguments.recipe, recipes)
    if recipe.predict is None:
        raise ValueError(f"{arguments.recipe} has no way to answer on the command line")
    for text in arguments.inputs:
        answer = recipe.predict(recipe.model, text)
        print(answer if len(arguments.inputs) == 1 else f"{text}: {answer}")
    return 0


def _export(arguments: argparse.Namespace, recipes: Recipes) -> int:
    recipe = trained.load(arguments.weights, arguments.recipe, recipes)
    trained.export(arguments.to, arguments.recipe, recipe)
    print(f"{arguments.to} is written")
    return 0


def _say(sentence: object, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


def _parser(recipes: Recipes) -> argparse.ArgumentParser:
    names = ", ".join(sorted(recipes))
    parser = argparse.ArgumentParser(
        prog="python -m course_lib train",
        description="Train a chapter's model, print its test results, keep its weights.",
        epilog=f"NAME is one of: {names}.",
    )
    parser.add_argument("recipe", choices=sorted(recipes), metavar="NAME")
    data_help = "your own files, or another set of the course: see docs/beyond_the_notebook.md"
    parser.add_argument("--data", dest="source", metavar="PATH", help=data_help)
    parser.add_argument("--size", choices=SIZES, help="the notebook's (tiny) to the paper's (base)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="instead of the recipe's own number")
    length.add_argument("--epochs", type=float, help="instead of steps: passes over the data")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--accumulate", type=int, help="parts that a batch is cut into")
    parser.add_argument("--lr", "--learning-rate", dest="learning_rate", type=float)
    parser.add_argument("--device", help="cpu, mps, cuda or cuda:1; by default the fastest")
    parser.add_argument("--precision", choices=["auto", *runtime.PRECISIONS])
    parser.add_argument("--compile", action="store_true", default=None)
    shard_help = "under torchrun: each process keeps a part of the model"
    parser.add_argument("--shard", action="store_true", help=shard_help)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--checkpoint", metavar="FILE", help="where to save the run's state")
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="STEPS", help="100 unless the recipe says otherwise"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint if it is there; without this, files are never overwritten",
    )
    parser.add_argument("--save", metavar="FILE", help="where the trained weights go")
    parser.add_argument("--log", metavar="FILE", help="JSON lines: loss, learning rate, seconds")
    parser.add_argument("--tensorboard", metavar="DIR", help="the same for TensorBoard")
    parser.add_argument(
        "--test-every", type=int, metavar="STEPS", help="measure meanwhile; nothing is chosen by it"
    )
    return parser


def _short_parser(command: str, description: str, recipes: Recipes) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m course_lib {command}", description=description
    )
    parser.add_argument("recipe", choices=sorted(recipes), metavar="NAME", help="as for train")
    parser.add_argument("--weights", required=True, metavar="FILE", help="what train --save wrote")
    return parser


# Arguments of `train` alone; all others go to the recipe.
OWN = ("recipe", "epochs", "device", "checkpoint", "resume", "save", "log", "tensorboard")
OWN += ("test_every", "shard")


def _train(arguments: argparse.Namespace, recipes: Recipes) -> int:
    _check_files(arguments)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    options = {name: value for name, value in given.items() if name not in OWN}
    recipe = _make(arguments, recipes, options)
    device = runtime.default_device()
    if arguments.device:
        device = runtime.device_called(arguments.device, "--device")
    callbacks = _callbacks(arguments)
    weights = results = None
    with distributed.process_group(device) as device:
        with _Interrupt() as interrupt:
            history = recipe.fit(
                checkpoint=arguments.checkpoint,
                device=device,
                callbacks=callbacks,
                stop=interrupt,
                validate=recipe.test if arguments.test_every else None,
                shard=bool(arguments.shard),
            )
        whole = len(history.loss) == history.steps or history.stopped_early
        if arguments.shard and whole:  # no process could do this alone
            from course_lib import sharding  # a slow import, and rarely needed

            weights = sharding.whole_weights(recipe.model)
            results = recipe.test(recipe.model)
    if not distributed.is_first_process():
        return 0
    if not whole:
        kept = f"{arguments.checkpoint} holds it: --resume goes on from there."
        nothing = "Nothing is kept, since no --checkpoint was named."
        end = kept if arguments.checkpoint else nothing
        done = f"step {len(history.loss)} of {history.steps}"
        return _say(f"Stopped after {done}. {end}", INTERRUPTED)
    print(f"{len(history.loss)} steps in {history.seconds:.1f} s of training")
    if arguments.save:  # before testing: if that fails, the training was not in vain
        trained.save(arguments.save, arguments.recipe, arguments.size, recipe, weights)
    _print_results(results or recipe.test(recipe.model), callbacks)
    return 0


def _make(arguments: argparse.Namespace, recipes: Recipes, options: dict) -> Recipe:
    """The recipe with `options`, as long as asked for."""
    check_options(arguments.recipe, recipes, options)
    recipe = recipes[arguments.recipe](**options)
    changes = {}
    if arguments.epochs is not None:
        size = batches_per_epoch(recipe.batches)
        if not (arguments.epochs > 0 and size):
            raise ValueError(f"--epochs is {arguments.epochs:g}; allowed are numbers above 0")
        changes["steps"] = max(1, round(arguments.epochs * size))
    if arguments.test_every is not None:
        changes["validate_every"] = arguments.test_every
    return replace(recipe, config=replace(recipe.config, **changes))


def check_options(name: str, recipes: Recipes, options: Mapping[str, object]) -> None:
    """Refuse --data and --size where a recipe has no such choice, and say which others have it."""
    for option, word in (("source", "--data"), ("size", "--size")):
        able = [other for other in sorted(recipes) if _takes(recipes[other], option)]
        if option in options and name not in able:
            raise ValueError(f"{name} takes no {word}; allowed is it for {', '.join(able)}")


def _takes(recipe: Callable[..., Recipe], option: str) -> bool:
    return option in inspect.signature(recipe).parameters


def _check_files(arguments: argparse.Namespace) -> None:
    """Find out before the training that a file cannot be written, or would be overwritten."""
    if arguments.resume and not arguments.checkpoint:
        raise ValueError("--resume needs --checkpoint FILE, which says where to go on from")
    for name in ("checkpoint", "log", "save"):
        path = Path(getattr(arguments, name) or "")
        if not path.name:
            continue
        if path.is_dir():
            raise ValueError(f"--{name} is {path}, a folder; allowed is the name of a file")
        if path.exists() and not arguments.resume and distributed.is_first_process():
            hint = "name another file" + (", or add --resume to go on from it" * (name != "save"))
            raise ValueError(f"--{name} is {path}, which exists already; {hint}")
        path.parent.mkdir(parents=True, exist_ok=True)


def _callbacks(arguments: argparse.Namespace) -> list:
    if not distributed.is_first_process():
        return []
    logs = [JsonLog(arguments.log, arguments.resume)] if arguments.log else []
    return logs + ([TensorBoard(arguments.tensorboard)] if arguments.tensorboard else [])


def _print_results(results: dict[str, float], callbacks: list) -> None:
    for callback in callbacks:
        callback.finish(results)
    for name, value in results.items():
        print(f"test {name}: " + (f"{100 * value:.2f} %" if is_share(name) else f"{value:.4g}"))


def is_share(name: str) -> bool:
    """Whether a result called so is one of 0 to 1, e.g. "seen mAP@0.5"."""
    return name.split()[-1].partition("@")[0] in SHARES


class _Interrupt:
    """Tells that Ctrl-C was pressed, so that the step can be ended; pressed again it stops at once.

    Called without a keyboard, e.g. by `torchrun` on its workers, SIGINT means the same.
    """

    def __enter__(self) -> "_Interrupt":
        self.asked = False
        self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_) -> None:
        signal.signal(signal.SIGINT, self.before)

    def __call__(self) -> bool:
        return self.asked

    def _ask(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
