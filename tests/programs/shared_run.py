"""Data parallel runs, to be started with torchrun or alone: usage shared_run.py FOLDER.

Process 0 writes, for each case, the weights, the losses, and whether all processes agree.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_lib import checkpoints, distributed
from course_lib.train import Batches, FitConfig, fit

CPU = torch.device("cpu")


def squared_error(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def data(count=49):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 6, generator=generator)
    return x, x.sum(dim=1, keepdim=True).sin()


def network():
    # Each process begins with weights of its own: the run must begin with those of process 0.
    torch.manual_seed(distributed.rank())
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def run(batches, validate=None, shard=False, **config):
    model = network()
    settings = {"learning_rate": 0.02, "precision": "float32", "optimizer": "sgd"} | config
    history = fit(
        model,
        batches,
        squared_error,
        FitConfig(steps=30, **settings),
        validate=validate,
        device=CPU,
        shard=shard and distributed.world_size() > 1,
    )
    parameters = [getattr(p, "full_tensor", lambda p=p: p)() for p in model.parameters()]
    weights = torch.cat([p.detach().flatten() for p in parameters])
    parts = sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in model.parameters())
    kept = {"parts": parts, "whole": len(weights)}
    return {"weights": weights, "loss": history.loss, "steps": len(history.loss), **kept}


def cases():
    # 49 items in batches of 10: the last one of an epoch has 9, shared as 5 and 4.
    yield "unequal", run(Batches(*data(), batch_size=10))
    yield "clipped", run(Batches(*data(), batch_size=10), accumulate=2, clip_norm=0.05)
    # 21 items in batches of 10: the last batch has a single item, so process 1 gets nothing.
    yield "empty part", run(Batches(*data(21), batch_size=10))
    yield "sharded", run(Batches(*data(), batch_size=10), shard=True)
    clipped = {"accumulate": 4, "clip_norm": 0.05, "optimizer": "adamw"}
    yield (
        "sharded, clipped, empty part",
        run(Batches(*data(21), batch_size=10), shard=True, **clipped),
    )
    scores = iter([0.1, 0.9, 0.2, 0.2, 0.2, 0.2])
    score = lambda model: {"accuracy": next(scores) if distributed.rank() == 0 else 0.0}  # noqa: E731
    yield "early stop", run(Batches(*data(), batch_size=10), score, validate_every=4, patience=2)


def refuses_plain_loader():
    try:
        run(DataLoader(TensorDataset(*data()), batch_size=10))
    except ValueError as error:
        return str(error)
    return ""


def differs():
    try:
        distributed.require_same("same", "never")
        distributed.require_same(distributed.rank(), "another")
    except ValueError as error:
        return str(error)
    return ""


def main(folder):
    # Joined here, so that several runs can share the group that `fit` would open for one.
    with distributed.process_group(CPU):
        world = distributed.world_size()
        for name, result in cases():
            gathered = [torch.zeros_like(result["weights"]) for _ in range(world)]
            if world > 1:
                dist.all_gather(gathered, result["weights"])
                result["agree"] = all(torch.equal(w, gathered[0]) for w in gathered)
            if distributed.rank() == 0:
                checkpoints.save(Path(folder) / f"{name}.pt", result)
        refusal = refuses_plain_loader() if world > 1 else ""
        errors = [""] * world
        if world > 1:
            dist.all_gather_object(errors, differs())
        if distributed.rank() == 0:
            checkpoints.save(Path(folder) / "refusal.pt", {"text": refusal, "differs": errors})


if __name__ == "__main__":
    main(*sys.argv[1:])
