"""Characters as ids, windows of a text, and the loss on held-out text."""

import math

import numpy
import pytest
import torch
from torch import nn

from course_lib import data
from course_lib.batches import walk_epoch
from course_lib.characters import Dictionary, WindowBatches, held_out_loss, losses_by_symbol


def test_a_dictionary_is_the_training_texts_alphabet_then_what_else_is_met():
    dictionary = Dictionary.build("banana", "bandana!")
    assert dictionary.symbols == ("a", "b", "n", "!", "d")
    assert dictionary.encode("nab!").tolist() == [2, 0, 1, 3]
    assert dictionary.decode(dictionary.encode("bandana")) == "bandana"
    assert dictionary.decode([1, 0]) == "ba" and len(dictionary) == 5


def test_shakespeares_last_symbol_occurs_in_the_test_part_only():
    text = data.load("shakespeare")
    dictionary = Dictionary.build(text.train, text.test)
    assert len(dictionary) == 77 and dictionary.symbols[-1] == "8"
    assert dictionary.decode(dictionary.encode(text.test)) == text.test


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Dictionary("abc").encode("abxc"), "text holds 'x' at place 2.*3 symbols 'abc'"),
        (lambda: Dictionary("abc").decode([0, 3]), "ids hold 3; allowed are 0 to 2"),
        (lambda: Dictionary("abc").decode([-1]), "ids hold -1"),
        (lambda: Dictionary(""), "symbols is empty"),
        (lambda: Dictionary("abca"), "symbols hold 'a' twice"),
        (lambda: WindowBatches(torch.arange(5), length=5, batch_size=2), "length is 5; .* 1 to 4"),
        (lambda: WindowBatches(torch.arange(5), length=0, batch_size=2), "length is 0"),
        (lambda: WindowBatches(torch.zeros(5, 2), length=2, batch_size=2), "ids have shape"),
        (lambda: losses_by_symbol(nn.Linear(1, 1), torch.zeros(1), 4), "ids are 1"),
    ],
)
def test_what_cannot_be_used_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def windows(**changes):
    return WindowBatches(torch.arange(100), **{"length": 7, "batch_size": 4, "seed": 3} | changes)


def test_labels_are_the_inputs_moved_on_by_one():
    for inputs, labels in windows():
        assert inputs.shape == labels.shape == (4, 7)
        assert torch.equal(labels, inputs + 1)
        assert torch.equal(inputs - inputs[:, :1], torch.arange(7).expand(4, 7))


def test_every_place_is_drawn_the_first_and_the_last_too():
    starts = {
        int(row[0]) for epoch in range(80) for batch, _ in windows().epoch(epoch) for row in batch
    }
    assert starts == set(range(93))  # 92 + 7 = 99 is the last label


def test_an_epoch_is_as_long_as_the_text_and_draws_anew_but_repeatably():
    assert len(windows()) == len(list(windows())) == math.ceil(100 / 28)
    first, again = (torch.cat([x for x, _ in windows().epoch(0)]) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.cat([x for x, _ in windows().epoch(1)]))
    assert not torch.equal(first, torch.cat([x for x, _ in windows(seed=4).epoch(0)]))


def test_an_epoch_can_be_entered_in_the_middle_on_any_device():
    whole = list(windows().epoch(1))
    late = list(walk_epoch(windows().to(torch.device("cpu")), 1, start=2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[2:], late, strict=True))


def test_two_processes_share_a_batch(monkeypatch):
    whole = [x for x, _ in windows()]
    monkeypatch.setattr("course_lib.distributed.world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("course_lib.distributed.rank", lambda rank=rank: rank)
        parts.append([x for x, _ in windows()])
    assert all(torch.equal(a, w[::2]) for a, w in zip(parts[0], whole, strict=True))
    assert all(torch.equal(b, w[1::2]) for b, w in zip(parts[1], whole, strict=True))


def test_windows_of_a_memory_mapped_file(tmp_path):
    path = tmp_path / "ids.bin"
    numpy.arange(100, dtype=numpy.uint16).tofile(path)
    ids = torch.from_numpy(numpy.memmap(path, dtype=numpy.uint16, mode="r+"))
    batches = WindowBatches(ids, length=7, batch_size=4, seed=3)
    for (ours, _), (wanted, _) in zip(batches, windows(), strict=True):
        assert torch.equal(ours, wanted) and ours.dtype is torch.int64


class Counting(nn.Module):
    """Scores a symbol by how often another one stood before it in the window."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, ids):
        return nn.functional.one_hot(ids, 5).float().cumsum(1) * self.weight


def test_held_out_loss_counts_each_symbol_but_the_first_once():
    ids = torch.randint(5, (50,), generator=torch.Generator().manual_seed(0))
    losses = losses_by_symbol(Counting(), ids, 7, batch_size=2)
    wanted = []
    for start in range(0, 49, 7):
        inputs, labels = ids[start : start + 7], ids[start + 1 : start + 8]
        logits = Counting()(inputs[None])[0, : len(labels)]
        wanted.append(nn.functional.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(losses, torch.cat(wanted))
    assert held_out_loss(Counting(), ids, 7) == pytest.approx(losses.mean().item())
    # A length that does not divide the text: the padding must not count.
    assert len(losses_by_symbol(Counting(), ids, 20)) == 49


def test_a_model_that_knows_nothing_has_the_loss_of_a_fair_die():
    model = Counting()
    model.weight.data.zero_()
    assert held_out_loss(model, torch.randint(5, (30,)), 8) == pytest.approx(math.log(5))
