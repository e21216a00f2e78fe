"""The training loop of every chapter: one explicit function, `fit`, and what it needs.

A step is always the same: take a batch, predict, compare, follow the gradient back, move the
weights. Everything else here keeps that loop fast, resumable and the same on every device.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from course_lib import checkpoints, distributed, runtime
from course_lib.batches import (
    Batch,
    Batches,
    batches_per_epoch,
    count_items,
    map_tensors,
    split_batch,
    walk_epoch,
)
from course_lib.optimizers import OPTIMIZERS, SCHEDULES, make_optimizer

__all__ = ["Batches", "FitConfig", "History", "TrainingDiverged", "accuracy", "fit", "predict"]

QUICK_STEPS = 3  # what COURSE_QUICK=1 leaves of a run
READ_EVERY = 10  # losses are read back in groups: on a GPU each reading waits for the device

Loss = Callable[[nn.Module, Batch], Tensor]
Callback = Callable[["History"], None]


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class FitConfig:
    """How to train. Every value is checked when the config is made.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    steps: int
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0  # on weights only: biases and norms have nothing to gain from it
    momentum: float = 0.9  # of sgd and muon
    schedule: str = "constant"
    warmup: float = 0.0  # share of the steps during which the learning rate rises
    clip_norm: float | None = None
    accumulate: int = 1  # parts that a batch is cut into when it does not fit into memory
    precision: str = "auto"
    channels_last: bool = False
    compile: bool = False
    validate_every: int | None = None  # steps; None: only after the last one
    monitor: str = "accuracy"  # the validation metric that early stopping watches
    maximize: bool = True
    patience: int | None = None  # validations without improvement before stopping
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "accumulate", "checkpoint_every", "validate_every", "patience"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; allowed are whole numbers from 1")
        for name in ("learning_rate", "weight_decay", "momentum"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value!r}; allowed are finite numbers from 0")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm is {self.clip_norm!r}; allowed are None and numbers > 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup!r}; allowed are shares 0 <= warmup < 1")
        choices = {
            "optimizer": OPTIMIZERS,
            "schedule": tuple(SCHEDULES),
            "precision": ("auto", *runtime.PRECISIONS),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}"
                )


@dataclass
class History:
    """What a run has seen so far; entry i of `loss` and `learning_rate` belongs to step i."""

    steps: int  # to go in total
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)  # each with its "step"
    seconds: float = 0.0  # of training: validation and checkpoints are left out
    best_step: int | None = None  # set by early stopping: the model holds these weights
    stopped_early: bool = False


def fit(
    model: nn.Module,
    batches: Batches | Iterable[Batch],
    loss: Loss,
    config: FitConfig,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    weigh: Callable[[Batch], float] = count_items,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
    device: torch.device | None = None,
    stop: Callable[[], bool] | None = None,
    shard: bool = False,
) -> History:
    """Train `model` in place for `config.steps` steps and leave it in evaluation mode.

    Under `torchrun` each process trains on its part of every batch, with the joint gradient.

    Args:
        batches: `Batches`, or an iterable that can be walked once per epoch, e.g. a DataLoader.
        loss: `loss(model, batch)`, the mean over the batch, a scalar.
        validate: `validate(model)` in evaluation mode without gradients, e.g. accuracies.
        weigh: what the loss is the mean over, by default the batch's items; say how many tokens
            or pixels count where that differs between batches.
        callbacks: called with the history every few steps, after a validation, and at the end.
        checkpoint: a file; when it exists the run goes on from it, with `Batches` to the bit.
        device: by default `runtime.default_device()`.
        stop: asked after a step (with several processes, after some); True, on any process, saves
            the checkpoint and ends the run there: the history then has fewer losses than `steps`.
        shard: each process keeps a part of every weight, afterwards too: see `sharding`.

    Raises:
        TrainingDiverged: the loss became NaN or infinite.
        ValueError: no batches, or a DataLoader without DistributedSampler under torchrun.
        checkpoints.CheckpointError: a damaged checkpoint, or one of another run.
    """
    runtime.keep_memory()
    if runtime.is_quick():
        config = replace(config, steps=min(config.steps, QUICK_STEPS))
    with distributed.process_group(device or runtime.default_device()) as device:
        if shard:
            from course_lib.sharding import ShardedRun as Run  # slow to import
        run = (Run if shard else _Run)(
            model, batches, loss, config, validate, weigh, callbacks, checkpoint, device, stop
        )
        run.start()
        try:
            for batch in run.remaining_batches():
                run.set_learning_rate()
                run.backward(batch)
                run.update_weights()
                run.keep_books()
                if run.history.stopped_early or run.stopping:
                    break
        finally:
            run.bar.close()
        return run.finish()


class _Run:
    """The state of one call of `fit`, and one method for each line of its loop."""

    def __init__(
        self, model, batches, loss, config, validate, weigh, callbacks, checkpoint, device, stop
    ):
        self.config, self.device, self.checkpoint = config, device, checkpoint
        self.dtype = runtime.resolve_precision(config.precision, device)
        self.model = self.place(model)
        self.forward = torch.compile(model) if config.compile else model
        self.batches = batches.to(device) if isinstance(batches, Batches) else batches
        self.loss, self.validate, self.weigh, self.stop = loss, validate, weigh, stop
        self.callbacks = callbacks if distributed.rank() == 0 else ()
        self.optimizer = make_optimizer(
            model,
            config.optimizer,
            config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
        # Outside float16 the scaler passes everything through.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.history = History(config.steps)
        self.unread: list[Tensor] = []  # losses of the last steps, still on the device
        self.step, self.stopping = 0, False
        self.best: dict[str, Tensor] = {}

    def place(self, model: nn.Module) -> nn.Module:
        """The model on this run's device, with the same weights on every process."""
        layout = torch.channels_last if self.config.channels_last else torch.preserve_format
        distributed.broadcast_model(model.to(self.device, memory_format=layout))
        return model

    def start(self) -> None:
        if self.checkpoint is not None and os.path.exists(self.checkpoint):
            self.resume()
        distributed.require_same(self.step, f"{self.checkpoint} is not one file for all processes")
        if distributed.world_size() > 1:  # else every process would draw the same dropout masks
            seeds = runtime.generator_for(self.config.seed, self.step, distributed.rank())
            torch.manual_seed(seeds.initial_seed())
        silent = runtime.is_test() or distributed.rank() > 0
        self.bar = tqdm(total=self.config.steps, initial=self.step, disable=silent, unit="step")
        self.model.train()
        self.clock = time.perf_counter()

    def remaining_batches(self) -> Iterator[Batch]:
        """Batches for the steps still to go, epoch after epoch, moved to the device."""
        if self.history.stopped_early:
            return
        size = batches_per_epoch(self.batches)
        # An iterable that does not say its length begins a new epoch when a run is resumed.
        epoch, start = divmod(self.step, size) if size else (0, 0)
        while self.step < self.config.steps:
            before = self.step
            left = self.config.steps - self.step
            for batch in islice(walk_epoch(self.batches, epoch, start), left):
                yield map_tensors(self._to_device, batch)
            if self.step == before:
                raise ValueError(f"batches gave none in epoch {epoch}; at least one is needed")
            epoch, start = epoch + 1, 0

    def set_learning_rate(self) -> None:
        config = self.config
        factor = SCHEDULES[config.schedule](self.step, config.steps, config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        self.history.learning_rate.append(config.learning_rate * factor)

    def backward(self, batch: Batch) -> None:
        """Leave the gradient of the joint batch's mean loss in the parameters."""
        total = self.weigh(batch)
        value = torch.zeros((), device=self.device)
        for part in split_batch(batch, self.config.accumulate):
            share = self.weigh(part) / total if total else 0.0
            with runtime.autocast(self.device, self.dtype):
                part_loss = self.loss(self.forward, part)
            self.scaler.scale(part_loss * share).backward()
            value = value + part_loss.detach() * share
        self.unread.append(distributed.average_gradients(self.model, value, total))

    def update_weights(self) -> None:
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def keep_books(self) -> None:
        """Every few steps: read the losses, validate, tell the callbacks, save."""
        config = self.config
        reading = self.step % READ_EVERY == 0
        if self.stop is not None and (reading or distributed.world_size() == 1):
            self.stopping = distributed.any_process(self.stop(), self.device)
        last = self.step == config.steps
        validating = last or (config.validate_every and self.step % config.validate_every == 0)
        saving = last or self.stopping or self.step % config.checkpoint_every == 0
        if not (validating or saving or reading):
            return
        self._read_losses()
        self.history.seconds += time.perf_counter() - self.clock
        if validating and self.validate is not None:
            self._validate()
        for callback in self.callbacks:
            callback(self.history)
        if saving or self.history.stopped_early:
            self._save()
        self.bar.set_postfix(loss=f"{self.history.loss[-1]:.4f}", refresh=False)
        self.bar.update(self.step - self.bar.n)
        self.clock = time.perf_counter()

    def finish(self) -> History:
        if self.best:
            self.model.load_state_dict(self.best)
        distributed.broadcast_buffers(self.model)
        self.model.eval()
        return self.history

    def resume(self) -> None:
        state = checkpoints.load(self.checkpoint)
        checkpoints.check_identity(self.checkpoint, state["identity"], self._identity())
        self.take_states(state["model"], state["optimizer"])
        if state["scaler"]:  # empty from a device on which the run was not in float16
            self.scaler.load_state_dict(state["scaler"])
        self.history = History(**state["history"])
        self.step = len(self.history.loss)
        self.best = {name: value.to(self.device) for name, value in state["best"].items()}
        checkpoints.restore_random_state(state["random"])

    def states(self) -> tuple[dict, dict]:
        """What the model and the optimizer hold."""
        return self.model.state_dict(), self.optimizer.state_dict()

    def take_states(self, weights: dict, moments: dict) -> None:
        """Put back what `states` gave."""
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(moments)

    def measure(self) -> dict[str, float]:
        """What `validate` gives on process 0, for all processes."""
        return distributed.broadcast_object(
            self.validate(self.model) if distributed.rank() == 0 else None
        )

    def _to_device(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.device, non_blocking=True)
        if self.config.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def _read_losses(self) -> None:
        for value in torch.stack(self.unread).tolist():
            if not math.isfinite(value):
                raise TrainingDiverged(
                    f"The loss is {value} at step {len(self.history.loss)}. Likely causes: a "
                    f"learning rate that is too high (it is {self.config.learning_rate:g}: try a "
                    "tenth), a logarithm, root or division of zero in the loss, a batch in which "
                    "nothing counts, or NaN in the data."
                )
            self.history.loss.append(value)
        self.unread.clear()

    def _validate(self) -> None:
        distributed.broadcast_buffers(self.model)
        self.model.eval()
        with torch.no_grad(), runtime.autocast(self.device, self.dtype):
            metrics = self.measure()
        self.model.train()
        self.history.validation.append({"step": self.step, **metrics})
        if self.config.patience is not None:
            self._watch(metrics)

    def _watch(self, metrics: dict[str, float]) -> None:
        """Early stopping: keep the best weights, stop when they have not improved for long."""
        config, history = self.config, self.history
        if config.monitor not in metrics:
            raise ValueError(f"monitor is {config.monitor!r}; validate gave {sorted(metrics)}")
        sign = 1 if config.maximize else -1
        values = [sign * entry[config.monitor] for entry in history.validation]
        best = max(range(len(values)), key=values.__getitem__)  # the first of equal ones
        if best == len(values) - 1:
            history.best_step = self.step
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        history.stopped_early = len(values) - 1 - best >= config.patience

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        weights, moments = self.states()  # all processes help where each has a part
        if distributed.rank() > 0:
            return
        state = {
            "identity": self._identity(),
            "model": weights,
            "optimizer": moments,
            "scaler": self.scaler.state_dict(),
            "history": asdict(self.history),
            "best": self.best,
            "random": checkpoints.random_state(),
        }
        checkpoints.save(self.checkpoint, state)

    def _identity(self) -> dict[str, object]:
        """What must be equal for a checkpoint to belong to this run."""
        shapes = {name: list(value.shape) for name, value in self.model.state_dict().items()}
        return {**asdict(self.config), **shapes, "batches": batches_per_epoch(self.batches)}


@torch.no_grad()
def predict(
    model: nn.Module, inputs: Tensor, *, batch_size: int = 1000, precision: str = "auto"
) -> Tensor:
    """`model(inputs)` in evaluation mode, batch by batch, on the model's own device.

    Args:
        inputs: (N, ...).

    Returns:
        The outputs as one float32 tensor on the CPU, (N, ...).
    """
    device = next(model.parameters()).device
    dtype = runtime.resolve_precision(precision, device)
    was_training = model.training
    model.eval()
    with runtime.autocast(device, dtype):
        outputs = [model(part.to(device)).float().cpu() for part in inputs.split(batch_size)]
    model.train(was_training)
    return torch.cat(outputs)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of `logits` (N, classes) whose largest entry is at `labels` (N,)."""
    return (logits.argmax(dim=1).cpu() == labels.cpu()).float().mean().item()
