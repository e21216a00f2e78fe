"""Sums as prompts and completions."""

import pytest
import torch

from course_lib.addition import DICTIONARY, Addition
from course_lib.batches import IGNORED
from course_lib.gpt import GPT, GPTConfig, generate, gpt_loss
from course_lib.optimizers import make_optimizer

PAIRS = torch.tensor([[123, 456], [7, 0], [999, 999]])


@pytest.mark.parametrize("reverse, sums", [(False, "0579 0007 1998"), (True, "9750 7000 8991")])
def test_prompts_and_answers_read_as_one_writes_them(reverse, sums):
    task = Addition(reverse=reverse)
    assert [DICTIONARY.decode(row) for row in task.prompts(PAIRS)] == [
        "123+456=",
        "007+000=",
        "999+999=",
    ]
    assert [DICTIONARY.decode(row) for row in task.answers(PAIRS)] == sums.split()
    assert task.prompts(PAIRS).shape[1] == task.prompt_length
    assert task.answers(PAIRS).shape[1] == task.answer_length


def test_an_example_is_drawn_as_in_the_notes():
    inputs, labels = Addition(digits=1, reverse=False).examples(torch.tensor([[9, 4]]))
    assert DICTIONARY.decode(inputs[0]) == "9+4=1"  # X1 X2 X3 X4 Y1
    assert labels.tolist() == [[-1, -1, -1, 1, 3]] and IGNORED == -1  # Y1 follows X4


def test_no_held_out_sum_is_trained_on_in_either_order():
    train, test = Addition(digits=2).split(held_out=300)
    names = [set((pairs[:, 0] * 100 + pairs[:, 1]).tolist()) for pairs in (train, test)]
    turned = set((test[:, 1] * 100 + test[:, 0]).tolist())
    assert len(test) == len(names[1]) == 300 and len(train) == len(names[0])
    assert not names[0] & (names[1] | turned)
    assert names[0] | names[1] | turned == set(range(10_000))


def test_the_split_follows_the_seed_alone():
    assert torch.equal(Addition().split(50)[1], Addition().split(50)[1])
    assert not torch.equal(Addition().split(50)[1], Addition().split(50, seed=1)[1])
    assert Addition().split()[1].shape == (2000, 2)


def test_batches_are_examples_of_the_pairs_each_once_an_epoch():
    task = Addition(digits=1)
    train, _ = task.split(held_out=20)
    rows = torch.cat([torch.cat(batch, dim=1) for batch in task.batches(train, 16, seed=1)])
    wanted = torch.cat(task.examples(train), dim=1)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, wanted.tolist()))


def test_exactness_asks_for_every_digit(monkeypatch):
    task = Addition(digits=1)
    pairs = torch.tensor([[1, 2], [9, 9], [5, 5], [0, 0]])
    answers = task.answers(pairs)
    answers[2, 1] = 7  # of two digits one is wrong
    monkeypatch.setattr(Addition, "complete", lambda self, model, pairs: answers)
    assert task.exactness(None, pairs) == 0.75


def test_completions_are_what_serial_generation_writes():
    torch.manual_seed(0)
    model = GPT(GPTConfig(len(DICTIONARY), 11, width=8, heads=2, layers=1)).eval()
    task = Addition()
    assert torch.equal(task.complete(model, PAIRS), generate(model, task.prompts(PAIRS), 4)[:, 8:])


def test_a_small_net_learns_one_digit_sums():
    torch.manual_seed(0)
    task = Addition(digits=1, reverse=False)
    model = GPT(GPTConfig(len(DICTIONARY), 5, width=32, heads=2, layers=2, tied=False))
    pairs = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    optimizer = make_optimizer(model, "muon", 0.03)
    for _ in range(90):
        optimizer.zero_grad()
        gpt_loss(model, task.examples(pairs)).backward()
        optimizer.step()
    assert task.exactness(model.eval(), pairs) > 0.9


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Addition(digits=0), "digits is 0; allowed are 1 to 3"),
        (lambda: Addition(digits=4), "digits is 4"),
        (lambda: Addition(digits=1).split(0), "held_out is 0; allowed are 1 to 25"),
        (lambda: Addition(digits=1).split(26), "held_out is 26"),
    ],
)
def test_what_cannot_be_used_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
