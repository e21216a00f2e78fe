"""The training loop does what its description says, and nothing else."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_lib import checkpoints, train
from course_lib.train import Batches, FitConfig, fit

CPU = torch.device("cpu")


def regression(count=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])


def squared_error(model, batch):
    x, y = batch
    return F.mse_loss(model(x), y)


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(4, 1)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(model=None, steps=20, *, batches=None, loss=squared_error, options=(), **config):
    model = linear() if model is None else model
    batches = Batches(*regression(), batch_size=16) if batches is None else batches
    config = FitConfig(steps=steps, precision="float32", **{"learning_rate": 0.05} | config)
    history = fit(model, batches, loss, config, device=CPU, **dict(options))
    return model, history


def test_equals_a_loop_written_out():
    ours, history = run(steps=10, optimizer="sgd", momentum=0.9, weight_decay=0.1)
    model, losses = linear(), []
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias]}],
        lr=0.05,
        momentum=0.9,
    )
    loader = Batches(*regression(), batch_size=16)
    order = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    for batch in order[:10]:
        loss = squared_error(model, batch)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.allclose(weights(ours), weights(model), rtol=1e-6, atol=1e-7)
    assert history.loss == pytest.approx(losses, rel=1e-5)


def test_learns_and_leaves_the_model_in_evaluation_mode():
    model, history = run(steps=300, schedule="one_cycle", warmup=0.3, learning_rate=0.2)
    assert max(history.loss[-5:]) < 1e-3 < 1 < history.loss[0]
    assert not model.training
    assert len(history.loss) == len(history.learning_rate) == 300
    assert history.seconds > 0


def test_the_learning_rate_follows_the_schedule():
    _, history = run(steps=40, schedule="cosine", warmup=0.25)
    expected = [0.05 * train.SCHEDULES["cosine"](step, 40, 0.25) for step in range(40)]
    assert history.learning_rate == pytest.approx(expected)


@pytest.mark.parametrize("accumulate", [2, 3, 16])
def test_accumulation_changes_nothing_but_memory(accumulate):
    whole, _ = run(steps=10, optimizer="sgd")  # batches of 16, 16, 16 and 2
    parts, _ = run(steps=10, optimizer="sgd", accumulate=accumulate)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-6)


def test_weigh_counts_what_the_loss_is_a_mean_of():
    """Two halves with 7 and 1 valid labels: a plain mean of the two means would be wrong."""
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0, -100] + [1] + 7 * [-100])

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    def go(accumulate, weigh):
        torch.manual_seed(0)
        batches = Batches(x, y, batch_size=16, shuffle=False)
        model, _ = run(
            nn.Linear(4, 3), 3, batches=batches, loss=loss, options={"weigh": weigh},
            optimizer="sgd", accumulate=accumulate,
        )  # fmt: skip
        return weights(model)

    def valid(batch):
        return (batch[1] >= 0).sum().item()

    assert torch.allclose(go(1, valid), go(2, valid), atol=1e-6)
    assert not torch.allclose(go(1, len), go(2, train.count_items), atol=1e-4)


def test_clipping_bounds_the_step():
    before = weights(linear())
    model, _ = run(steps=1, optimizer="sgd", momentum=0.0, clip_norm=0.01)
    step = (weights(model) - before).norm().item()
    assert step == pytest.approx(0.05 * 0.01, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_learns_too(precision, optimizer):
    seen = []
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1))

    def loss(model, batch):
        prediction = model(batch[0])
        seen.append(prediction.dtype)
        return F.mse_loss(prediction.float(), batch[1])

    config = FitConfig(
        steps=200, optimizer=optimizer, learning_rate=0.05, schedule="cosine", precision=precision
    )
    batches = Batches(*regression(), batch_size=16)
    history = fit(model, batches, loss, config, device=CPU)
    assert set(seen) == {getattr(torch, precision)}
    assert history.loss[-1] < 0.05


def test_channels_last_reaches_model_and_batch():
    seen = []

    def loss(model, batch):
        seen.append(batch[0].is_contiguous(memory_format=torch.channels_last))
        return model(batch[0]).square().mean()

    batches = Batches(torch.randn(8, 3, 6, 6), batch_size=4)
    model, _ = run(nn.Conv2d(3, 4, 3), 2, batches=batches, loss=loss, channels_last=True)
    assert seen == [True, True]
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_compiled_equals_eager():
    eager, _ = run(steps=10, optimizer="sgd")
    compiled, _ = run(steps=10, optimizer="sgd", compile=True)
    assert torch.allclose(weights(eager), weights(compiled), atol=1e-5)


def test_any_iterable_serves_epoch_after_epoch():
    loader = DataLoader(TensorDataset(*regression()), batch_size=16)
    model, history = run(steps=9, batches=loader, optimizer="sgd")
    same, _ = run(
        steps=9, batches=Batches(*regression(), batch_size=16, shuffle=False), optimizer="sgd"
    )
    assert len(history.loss) == 9
    assert torch.allclose(weights(model), weights(same), atol=1e-6)


def test_an_iterable_that_runs_dry_is_an_error():
    once = iter([regression(16)])
    with pytest.raises(ValueError, match="batches gave none in epoch 1"):
        run(steps=3, batches=once)


def test_validation_sees_evaluation_mode_without_gradients_and_training_goes_on():
    seen = []

    def validate(model):
        seen.append((model.training, torch.is_grad_enabled()))
        return {"accuracy": 0.5}

    _, history = run(steps=10, options={"validate": validate}, validate_every=4)
    assert [entry["step"] for entry in history.validation] == [4, 8, 10]
    assert set(seen) == {(False, False)}


def test_validation_time_is_not_training_time():
    import time

    _, history = run(steps=4, options={"validate": lambda model: time.sleep(0.3) or {}})
    assert history.seconds < 0.25


def test_early_stopping_keeps_the_best_weights():
    scores = iter([0.1, 0.5, 0.9, 0.8, 0.9, 0.7])
    kept = []

    def validate(model):
        kept.append(weights(model).clone())
        return {"accuracy": next(scores)}

    model, history = run(steps=100, options={"validate": validate}, validate_every=5, patience=2)
    assert history.stopped_early and history.best_step == 15
    assert len(history.loss) == 25
    assert torch.equal(weights(model), kept[2])


def test_early_stopping_can_watch_a_loss():
    values = iter([3.0, 2.0, 2.5, 2.6])
    _, history = run(
        steps=100, options={"validate": lambda model: {"loss": next(values)}}, validate_every=5,
        patience=2, monitor="loss", maximize=False,
    )  # fmt: skip
    assert history.best_step == 10


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"monitor is 'accuracy'; validate gave \['f1'\]"):
        run(steps=5, options={"validate": lambda model: {"f1": 0.0}}, patience=1)


def test_a_diverging_loss_names_its_step_and_causes():
    def loss(model, batch):
        loss.calls += 1
        factor = math.nan if loss.calls == 14 else 1.0
        return squared_error(model, batch) * factor

    loss.calls = 0
    with pytest.raises(train.TrainingDiverged, match=r"nan at step 13\. .*learning rate"):
        run(steps=40, loss=loss)


def test_a_real_divergence_is_caught():
    with pytest.raises(train.TrainingDiverged):
        run(steps=2000, optimizer="sgd", learning_rate=10.0)


def test_a_diverged_state_is_never_saved(tmp_path):
    def loss(model, batch):
        return squared_error(model, batch) * math.nan

    path = tmp_path / "run.pt"
    with pytest.raises(train.TrainingDiverged):
        run(steps=40, loss=loss, checkpoint_every=5, options={"checkpoint": path})
    assert not path.exists()


def test_callbacks_see_the_history_grow():
    seen = []
    run(steps=25, options={"callbacks": [lambda history: seen.append(len(history.loss))]})
    assert seen == [10, 20, 25]


def test_quick_mode_caps_the_steps(monkeypatch):
    monkeypatch.setenv("COURSE_QUICK", "1")
    _, history = run(steps=50)
    assert len(history.loss) == train.QUICK_STEPS


def test_the_bar_is_silent_in_test_mode_and_speaks_otherwise(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_TEST", "1")
    run(steps=5)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("COURSE_TEST", "0")
    run(steps=5)
    assert "5/5" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, value",
    [
        ("steps", 0), ("steps", 1.5), ("accumulate", 0), ("patience", 0), ("validate_every", -1),
        ("learning_rate", -1.0), ("learning_rate", math.nan), ("weight_decay", math.inf),
        ("clip_norm", 0.0), ("warmup", 1.0), ("optimizer", "adma"), ("schedule", "linear"),
        ("precision", "half"),
    ],
)  # fmt: skip
def test_bad_config_names_the_argument_and_the_value(name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value!r}; allowed are "):
        FitConfig(**{"steps": 1} | {name: value})


# --- checkpoints -------------------------------------------------------------------------------


class Dropping(nn.Module):
    """A net whose training depends on the global generator, on buffers and on optimizer state."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)
        )

    def forward(self, x):
        return self.layers(x)


def dropping():
    torch.manual_seed(3)
    return Dropping()


class Killed(Exception):
    pass


def killer(step):
    def kill(history):
        if len(history.loss) >= step:
            raise Killed

    return kill


@pytest.mark.parametrize("killed_at", [10, 20, 30])
def test_a_run_that_was_stopped_resumes_to_the_bit(tmp_path, killed_at):
    def noise(batch, generator):
        return batch[0] + 0.1 * torch.randn(batch[0].shape, generator=generator), batch[1]

    batches = Batches(*regression(), batch_size=16, transform=noise)
    options = {"validate": lambda model: {"accuracy": weights(model).sum().item()}}
    config = {"checkpoint_every": 7, "validate_every": 9, "schedule": "one_cycle", "warmup": 0.2}
    torch.manual_seed(3)
    whole, expected = run(Dropping(), 40, batches=batches, options=options, **config)

    path = {"checkpoint": tmp_path / "run.pt"}
    torch.manual_seed(3)
    stopping = options | path | {"callbacks": [killer(killed_at)]}
    with pytest.raises(Killed):
        run(Dropping(), 40, batches=batches, options=stopping, **config)
    torch.manual_seed(99)  # a new process has another state
    model, history = run(Dropping(), 40, batches=batches, options=options | path, **config)

    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert history.loss == expected.loss
    assert history.validation == expected.validation


def test_a_run_with_muon_resumes_to_the_bit(tmp_path):
    def three_layers():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 1))

    config = {"optimizer": "muon", "checkpoint_every": 7, "weight_decay": 0.1}
    whole, expected = run(three_layers(), 30, **config)
    path = {"checkpoint": tmp_path / "run.pt"}
    with pytest.raises(Killed):
        run(three_layers(), 30, options=path | {"callbacks": [killer(20)]}, **config)
    model, history = run(three_layers(), 30, options=path, **config)
    assert torch.equal(weights(model), weights(whole)) and history.loss == expected.loss


def test_a_finished_run_is_not_trained_again(tmp_path):
    options = {"checkpoint": tmp_path / "run.pt"}
    model, first = run(dropping(), 12, options=options)
    again, second = run(dropping(), 12, options=options)
    assert torch.equal(weights(again), weights(model)) and second.loss == first.loss


def test_an_early_stopped_run_is_not_trained_on(tmp_path):
    scores = iter([0.9, 0.1, 0.1] + 20 * [1.0])
    options = {
        "checkpoint": tmp_path / "run.pt",
        "validate": lambda model: {"accuracy": next(scores)},
    }
    config = {"validate_every": 4, "patience": 2}
    model, first = run(dropping(), 40, options=options, **config)
    again, second = run(dropping(), 40, options=options, **config)
    assert second.stopped_early and len(second.loss) == 12
    assert torch.equal(weights(again), weights(model))


@pytest.mark.parametrize(
    "change, said",
    [({"learning_rate": 0.1}, "learning_rate is 0.05, here 0.1"), ({"steps": 13}, "steps is 12")],
)
def test_another_runs_checkpoint_is_refused_and_kept(tmp_path, change, said):
    options = {"checkpoint": tmp_path / "run.pt"}
    run(dropping(), 12, options=options)
    before = options["checkpoint"].read_bytes()
    with pytest.raises(checkpoints.CheckpointError, match=said):
        run(dropping(), options=options, **{"steps": 12} | change)
    assert options["checkpoint"].read_bytes() == before


def test_another_models_checkpoint_is_refused(tmp_path):
    options = {"checkpoint": tmp_path / "run.pt"}
    run(dropping(), 12, options=options)
    with pytest.raises(checkpoints.CheckpointError, match="belongs to another run"):
        run(linear(), 12, options=options)


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_an_error_that_names_the_file(tmp_path, damage):
    path = tmp_path / "run.pt"
    run(dropping(), 12, options={"checkpoint": path})
    path.write_bytes(path.read_bytes()[:-500] if damage is None else damage)
    with pytest.raises(checkpoints.CheckpointError, match=r"run\.pt cannot be read"):
        run(dropping(), 12, options={"checkpoint": path})


def test_a_failing_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    checkpoints.save(path, {"step": 1})

    def half_written(state, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(checkpoints.CheckpointError, match="no space"):
        checkpoints.save(path, {"step": 2})
    assert checkpoints.load(path) == {"step": 1}


def test_every_field_of_the_config_belongs_to_a_checkpoints_identity(tmp_path):
    path = tmp_path / "run.pt"
    run(dropping(), 12, options={"checkpoint": path})
    stored = checkpoints.load(path)["identity"]
    assert {field.name for field in dataclasses.fields(FitConfig)} < set(stored)


# --- measuring ---------------------------------------------------------------------------------


def test_predict_uses_evaluation_mode_and_restores_training_mode():
    model = dropping().train()
    x = torch.randn(25, 4)
    together = train.predict(model, x, batch_size=25, precision="float32")
    assert torch.allclose(train.predict(model, x, batch_size=4, precision="float32"), together)
    assert together.shape == (25, 1) and not together.requires_grad
    assert model.training


def test_accuracy_is_the_share_of_right_rows():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [5.0, 4.0], [0.0, 9.0]])
    assert train.accuracy(logits, torch.tensor([0, 1, 1, 0])) == 0.5
