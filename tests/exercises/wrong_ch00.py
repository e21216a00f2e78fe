"""Plausible wrong answers to the exercises of chapter 00."""

import torch

RIGHT_SHAPES = {"one digit": (1, 28, 28), "a batch": (64, 1, 28, 28), "logits": (64, 10)}
RIGHT_SHAPES |= {"labels": (64,)}


def shapes(**changes):
    return RIGHT_SHAPES | {name.replace("_", " "): shape for name, shape in changes.items()}


def counts(logits, labels):
    return (logits.argmax(dim=1) == labels).sum()


def percent(logits, labels):
    return 100 * (logits.argmax(dim=1) == labels).float().mean()


def not_averaged(logits, labels):
    return logits.argmax(dim=1) == labels


def wrong_axis(logits, labels):
    return (logits.argmax(dim=0) == labels).float().mean()


def compares_scores(logits, labels):
    return (logits.max(dim=1).values == labels).float().mean()


def positive_score_is_enough(logits, labels):
    picked = logits.gather(1, labels[:, None]).squeeze(1)
    return ((logits.argmax(dim=1) == labels) & (picked > 0)).float().mean()


def errors(logits, labels):
    return (logits.argmax(dim=1) != labels).float().mean()


def no_axis(logits, labels):
    return (logits.argmax() == labels).float().mean()


def not_as_floats(logits, labels):
    return (logits.argmax(dim=1) == labels).mean()


def as_text(logits, labels):
    return f"{(logits.argmax(dim=1) == labels).float().mean():.2f}"


def always_three_quarters(logits, labels):
    return 0.75


WRONG = {
    "0.1": [
        (shapes(one_digit=(28, 28)), "`one digit` has 3 axes, your answer has 2"),
        (shapes(one_digit=(1, 1, 28, 28)), "Which axis is gone?"),
        (shapes(one_digit=(28, 28, 1)), "number, channel, row, column"),
        (shapes(a_batch=(1, 64, 28, 28)), "number, channel, row, column"),
        (shapes(logits=(10, 64)), "`logits`: the right numbers in another order"),
        (shapes(labels=(64, 10)), "`labels` has 1 axis, your answer has 2"),
        (shapes(labels=64), "needs a comma"),
        (shapes(labels=[64]), "round brackets"),
        (shapes(labels=torch.zeros(64)), "tuple(x.shape)"),
        (shapes(logits=(64, 9)), "not every size"),
        (shapes(logits=...), "`logits` is still open"),
        ({"one digit": (1, 28, 28)}, "four names"),
        ([(1, 28, 28)], "Keep the dictionary"),
    ],
    "0.2": [
        (counts, "You count the right answers"),
        (percent, "in percent"),
        (not_averaged, "still to be averaged"),
        (wrong_axis, "with RuntimeError"),
        (no_axis, "in each row"),
        (not_as_floats, "with RuntimeError"),
        (compares_scores, "not with the logit"),
        (errors, "share of the wrong answers"),
        (positive_score_is_enough, "whose logits are negative"),
        (always_three_quarters, "not for 1,000 images"),
        (as_text, "a str came back"),
        (0.75, "without brackets"),
    ],
}
