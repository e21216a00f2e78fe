"""Plausible wrong answers to the exercises of chapter 03."""

import torch

RIGHT = {
    "a value of 4 that Dropout(0.2) keeps, while training": 5,
    "the same value in evaluation": 4,
    "random decisions of Dropout(0.5) on (8, 16, 7, 7)": 6272,
    "random decisions of Dropout2d(0.5) on (8, 16, 7, 7)": 128,
    "weights of Linear(100, 10) that Dropout(0.5) before it removes for good": 0,
}
KEPT, EVALUATION, VALUES, MAPS, WEIGHTS = RIGHT


def numbers(name, number):
    return RIGHT | {name: number}


def unscaled(x, kept, p):
    return x * kept


def shrunk(x, kept, p):
    return x * kept * (1 - p)


def divided_by_p(x, kept, p):
    return x * kept / p


def mask_reversed(x, kept, p):
    return x * ~kept / (1 - p)


def in_place(x, kept, p):
    x[~kept] = 0
    return x / (1 - p)


def nan_at_one(x, kept, p):
    return x * kept / torch.tensor(1 - p)


def scale_for_a_fifth(x, kept, p):
    return x * kept * 1.25


def flattened(x, kept, p):
    return x[kept] / (1 - p)


def plain(weight, gradient, learning_rate, l1, l2):
    return weight - learning_rate * gradient


def uphill(weight, gradient, learning_rate, l1, l2):
    return weight + learning_rate * (gradient + l1 * weight.sign() + l2 * weight)


def growing(weight, gradient, learning_rate, l1, l2):
    return weight - learning_rate * (gradient - l1 * weight.sign() - l2 * weight)


def doubled(weight, gradient, learning_rate, l1, l2):
    return weight - learning_rate * (gradient + l1 * weight.sign() + 2 * l2 * weight)


def without_the_rate(weight, gradient, learning_rate, l1, l2):
    return weight - learning_rate * gradient - l1 * weight.sign() - l2 * weight


def l1_by_size(weight, gradient, learning_rate, l1, l2):
    return weight - learning_rate * (gradient + l1 * weight.abs() + l2 * weight)


def l1_like_l2(weight, gradient, learning_rate, l1, l2):
    return weight - learning_rate * (gradient + l1 * weight + l2 * weight)


def l1_left_out(weight, gradient, learning_rate, l1, l2):
    return weight - learning_rate * (gradient + l2 * weight)


def one_of_both(weight, gradient, learning_rate, l1, l2):
    pull = l1 * weight.sign() if l1 else l2 * weight
    return weight - learning_rate * (gradient + pull)


def step_in_place(weight, gradient, learning_rate, l1, l2):
    weight -= learning_rate * (gradient + l1 * weight.sign() + l2 * weight)
    return weight


def never_stops(losses, patience):
    return losses.index(min(losses)), len(losses) - 1


def last_is_best(losses, patience):
    best, last = right_stop(losses, patience)
    return last, last


def one_more(losses, patience):
    best, last = right_stop(losses, patience + 1)
    return best, last


def counts_from_one(losses, patience):
    best, last = right_stop(losses, patience)
    return best + 1, last + 1


def against_the_last(losses, patience):
    """Counts epochs that are worse than the one before."""
    best, worse = 0, 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss < losses[best] else best
        worse = worse + 1 if epoch and loss >= losses[epoch - 1] else 0
        if worse >= patience:
            break
    return best, epoch


def at_the_first_rise(losses, patience):
    for epoch in range(1, len(losses)):
        if losses[epoch] >= losses[epoch - 1]:
            return epoch - 1, epoch
    return len(losses) - 1, len(losses) - 1


def equal_counts_as_better(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss <= losses[best] else best
        if epoch - best >= patience:
            break
    return best, epoch


def only_the_best(losses, patience):
    return right_stop(losses, patience)[0]


def right_stop(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss < losses[best] else best
        if epoch - best >= patience:
            break
    return best, epoch


WRONG = {
    "3.1": [
        (numbers(KEPT, 4), "What makes up for it?"),
        (numbers(KEPT, 3.2), "would sink twice"),
        (numbers(KEPT, 20), "the share of the values that stays"),
        (numbers(EVALUATION, 5), "anything to make up for"),
        (numbers(EVALUATION, 3.2), "anything to make up for"),
        (numbers(VALUES, 3136), "How many values are there?"),
        (numbers(MAPS, 16), "each image of the batch"),
        (numbers(MAPS, 6272), "one decision for each channel"),
        (numbers(WEIGHTS, 500), "a weight that is stored"),
        (numbers(MAPS, ...), "is still open"),
        (numbers(KEPT, "5"), "not a str"),
        ({KEPT: 5}, "Keep the dictionary"),
    ],
    "3.2": [
        (unscaled, "too small on average"),
        (shrunk, "yours shrink"),
        (divided_by_p, "the share that is dropped"),
        (mask_reversed, "True means that a value stays"),
        (in_place, "has changed"),
        (nan_at_one, "What is 0 / 0?"),
        (scale_for_a_fifth, "not with p = 0.5"),
        (flattened, "should have shape (2, 4)"),
    ],
    "3.3": [
        (plain, "which pull has half the square"),
        (uphill, "against the gradient"),
        (growing, "should pull them to 0"),
        (doubled, "*half* the sum of squares"),
        (without_the_rate, "goes with the learning rate"),
        (l1_by_size, "runs away from 0"),
        (l1_like_l2, "pulls large weights harder"),
        (l1_left_out, "L2 is right, L1 is not"),
        (one_of_both, "not both together"),
        (step_in_place, "have changed"),
    ],
    "3.4": [
        (never_stops, "it goes on for too long"),
        (last_is_best, "which epoch had the least loss"),
        (one_more, "the end is one off"),
        (counts_from_one, "counted from 0"),
        (against_the_last, "it goes on for too long"),
        (at_the_first_rise, "the end is one off"),
        (equal_counts_as_better, "a loss that stays the same"),
        (only_the_best, "Return two numbers"),
    ],
}
