"""Callbacks of `train.fit` that write down how a run goes: JSON lines, and TensorBoard's files."""

import importlib
import json
import os
from pathlib import Path

from course_lib.train import History


class JsonLog:
    """A file with one JSON object a line, one line a step: step, loss, learning_rate.

    The steps at which the losses were read also have `seconds` of training so far and, where the
    model was measured, `validation`. The last line holds the `test` results.

    Args:
        resume: keep the steps that the file has: a resumed run repeats the last of them.
    """

    def __init__(self, path: str | os.PathLike, resume: bool = False):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        old = self.path.read_bytes() if resume and self.path.exists() else b""
        lines = [line for line in old.splitlines(keepends=True) if line.endswith(b"\n")]
        steps = [line for line in lines if line.startswith(b'{"step"')]  # a cut one is left out
        self.path.write_bytes(b"".join(steps))
        self.written = len(steps)

    def __call__(self, history: History) -> None:
        count = len(history.loss)
        rows = [
            {"step": i + 1, "loss": history.loss[i], "learning_rate": history.learning_rate[i]}
            for i in range(self.written, count)
        ]
        if rows:
            rows[-1]["seconds"] = round(history.seconds, 3)
            if history.validation and history.validation[-1]["step"] == count:
                measured = history.validation[-1].items()
                rows[-1]["validation"] = {name: v for name, v in measured if name != "step"}
        self._append(rows)
        self.written = max(self.written, count)

    def finish(self, results: dict[str, float]) -> None:
        self._append([{"test": results}])

    def _append(self, rows: list[dict]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


class TensorBoard:
    """The same for TensorBoard, which shows it live: `tensorboard --logdir FOLDER`.

    Raises:
        ValueError: the package is not installed.
    """

    def __init__(self, folder: str | os.PathLike):
        try:
            writers = importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise ValueError(
                "TensorBoard is not installed: pip install tensorboard, or use --log FILE"
            ) from error
        self.writer = writers.SummaryWriter(os.fspath(folder))
        self.written = 0

    def __call__(self, history: History) -> None:
        for step in range(self.written, len(history.loss)):
            self.writer.add_scalar("loss", history.loss[step], step + 1)
            self.writer.add_scalar("learning rate", history.learning_rate[step], step + 1)
        self.written = len(history.loss)
        if history.validation and history.validation[-1]["step"] == self.written:
            for name, value in history.validation[-1].items():
                if name != "step":
                    self.writer.add_scalar(f"validation/{name}", value, self.written)
        self.writer.flush()

    def finish(self, results: dict[str, float]) -> None:
        for name, value in results.items():
            self.writer.add_scalar(f"test/{name}", value, self.written)
        self.writer.close()
