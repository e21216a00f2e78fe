"""A run of two processes to be killed: usage shared_resume.py CHECKPOINT RESULT PIDS [shard].

Each process writes its number into the folder PIDS. Every part of the data is seen by exactly one
of them: the numbers of the items it met are gathered, too.
"""

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from course_lib import checkpoints, distributed, sharding
from course_lib.train import Batches, FitConfig, fit

CPU = torch.device("cpu")
ITEMS, BATCH, STEPS = 23, 5, 40  # five batches an epoch, the last one of three items


def main(checkpoint, result, pids, shard=""):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(ITEMS, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    seen = []

    def error(model, batch):
        seen.append(batch[1].flatten().tolist())
        time.sleep(0.02)
        return F.mse_loss(model(batch[0]), batch[0].sum(1, keepdim=True))

    settings = {"learning_rate": 0.02, "precision": "float32", "schedule": "one_cycle"}
    config = FitConfig(STEPS, checkpoint_every=3, **settings)
    with distributed.process_group(CPU):
        rank, world = distributed.rank(), distributed.world_size()
        (Path(pids) / f"{rank}.pid").write_text(str(os.getpid()))
        batches = Batches(x, torch.arange(ITEMS)[:, None], batch_size=BATCH)
        options = {"checkpoint": checkpoint, "device": CPU, "shard": bool(shard)}
        history = fit(model, batches, error, config, **options)
        weights = sharding.whole_weights(model) if shard else model.state_dict()
        gathered = [seen] * world
        if world > 1:
            dist.all_gather_object(gathered, seen)
    if rank == 0:
        state = {"weights": weights, "loss": history.loss, "seen": gathered}
        checkpoints.save(result, state)


if __name__ == "__main__":
    main(*sys.argv[1:])
