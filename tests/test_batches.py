"""Batches: every item once an epoch, an order that follows from (seed, epoch), clean cuts."""

from collections import namedtuple

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from course_lib import batches, distributed
from course_lib.batches import Batches

ITEMS = torch.arange(10)


def order_of(loader, epoch=0, start=0):
    return torch.cat([batch[0] for batch in loader.epoch(epoch, start)]).tolist()


def test_an_epoch_holds_every_item_once_with_a_short_last_batch():
    loader = Batches(ITEMS, batch_size=4)
    assert [len(batch[0]) for batch in loader] == [4, 4, 2]
    assert sorted(order_of(loader)) == ITEMS.tolist()
    assert len(loader) == 3


def test_order_follows_from_seed_and_epoch():
    orders = {(s, e): tuple(order_of(Batches(ITEMS, batch_size=4, seed=s), e)) for s in (0, 1)
              for e in (0, 1)}  # fmt: skip
    assert len(set(orders.values())) == 4
    assert tuple(order_of(Batches(ITEMS, batch_size=4, seed=1), 1)) == orders[1, 1]


def test_order_does_not_depend_on_the_global_generator():
    torch.manual_seed(1)
    first = order_of(Batches(ITEMS, batch_size=4))
    torch.manual_seed(2)
    assert order_of(Batches(ITEMS, batch_size=4)) == first


def test_starting_late_gives_the_rest_of_the_same_epoch():
    loader = Batches(ITEMS, batch_size=4)
    assert order_of(loader, 3, start=1) == order_of(loader, 3)[4:]


def test_unshuffled_keeps_the_order_and_tensors_stay_together():
    loader = Batches(ITEMS, ITEMS * 2, batch_size=3, shuffle=False)
    for first, second in loader:
        assert torch.equal(first * 2, second)
    assert order_of(loader) == ITEMS.tolist()


def test_transform_draws_the_same_numbers_again_wherever_the_epoch_begins():
    def noise(batch, generator):
        return (batch[0] + torch.rand(len(batch[0]), generator=generator),)

    loader = Batches(ITEMS.float(), batch_size=4, transform=noise)
    assert order_of(loader, 1)[4:] == order_of(loader, 1, start=1)
    assert order_of(loader, 0) != order_of(loader, 1)


def test_processes_share_each_batch_without_overlap(monkeypatch):
    whole = [batch[0].tolist() for batch in Batches(ITEMS, batch_size=5)]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append([batch[0].tolist() for batch in Batches(ITEMS, batch_size=5)])
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(w) for w in whole]
    assert [len(a) for a in parts[0]] == [3, 3] and [len(b) for b in parts[1]] == [2, 2]


@pytest.mark.parametrize(
    "tensors, size, message",
    [
        ((torch.zeros(3), torch.zeros(4)), 2, r"lengths \[3, 4\]"),
        ((), 2, r"lengths \[\]"),
        ((torch.zeros(0),), 2, r"lengths \[0\]"),
        ((torch.zeros(3),), 0, "batch_size is 0"),
    ],
)
def test_bad_arguments(tensors, size, message):
    with pytest.raises(ValueError, match=message):
        Batches(*tensors, batch_size=size)


def test_a_loader_that_gives_every_process_all_items_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    loader = DataLoader(TensorDataset(ITEMS), batch_size=2)
    with pytest.raises(ValueError, match="DistributedSampler"):
        batches.walk_epoch(loader, 0)


def test_map_tensors_keeps_the_structure():
    Pair = namedtuple("Pair", "x names")
    batch = {"a": [ITEMS], "b": Pair(ITEMS, ["x"]), "c": 3}
    mapped = batches.map_tensors(lambda tensor: tensor + 1, batch)
    assert isinstance(mapped["b"], Pair) and mapped["b"].names == ["x"] and mapped["c"] == 3
    assert torch.equal(mapped["a"][0], ITEMS + 1) and torch.equal(mapped["b"].x, ITEMS + 1)


def test_split_batch_cuts_every_tensor_and_leaves_out_empty_parts():
    parts = list(batches.split_batch((ITEMS[:5], ITEMS[:5] * 2), 4))
    assert [part[0].tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert all(torch.equal(a * 2, b) for a, b in parts)


def test_a_batch_without_tensors_is_an_error():
    with pytest.raises(ValueError, match="holds no tensor"):
        batches.count_items(["text"])
