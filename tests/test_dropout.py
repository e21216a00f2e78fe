"""Chapter 03's layers and helpers: what is dropped, refused, kept; parity/ has torch's values."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import data, dropout


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ones(*shape):
    return torch.ones(shape)


def batch(count=4):
    return torch.randn(count, 1, 28, 28), torch.arange(count)


def test_the_share_p_is_dropped_and_the_rest_scaled_up():
    dropped = dropout.dropout(ones(100_000), 0.2, generator=generator())
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_expectation_stays(p):
    dropped = dropout.dropout(ones(200_000), p, generator=generator())
    spread = math.sqrt(p / (1 - p) / 200_000)
    assert dropped.mean().item() == pytest.approx(1, abs=5 * spread)


def test_a_given_mask_is_used():
    x, kept = torch.randn(3, 4), torch.tensor([True, False, True, True])
    dropped = dropout.dropout(x, 0.75, kept=kept)
    assert dropped.equal(x * kept * 4)
    assert dropout.dropout(x, 0.75, training=False, kept=kept) is x


def test_nothing_happens_in_evaluation_or_with_p_0():
    x = torch.randn(2, 3, 4, 4)
    for function in (dropout.dropout, dropout.dropout2d):
        assert function(x, 0.9, training=False).equal(x)
        assert function(x, 0.0).equal(x)
    for kind in (dropout.Dropout, dropout.Dropout2d):
        assert kind(0.9).eval()(x).equal(x)
        assert not kind(0.9)(x).equal(x)


def test_p_1_gives_zeros_and_no_nan_forward_and_backward():
    x = torch.tensor([[[[1.0, -2.0, math.pi]]]], requires_grad=True)
    for function in (dropout.dropout, dropout.dropout2d):
        (gradient,) = torch.autograd.grad(function(x, 1.0).sum(), x)
        assert function(x, 1.0).equal(torch.zeros_like(x)) and gradient.equal(torch.zeros_like(x))


def test_the_gradient_passes_where_the_value_passed():
    x = torch.randn(50, requires_grad=True)
    kept = dropout.keep_mask((50,), 0.5, generator())
    (gradient,) = torch.autograd.grad(dropout.dropout(x, 0.5, kept=kept).sum(), x)
    assert gradient.equal(2.0 * kept)


@pytest.mark.parametrize(
    ("function", "shape"), [(dropout.dropout1d, (40, 30, 5)), (dropout.dropout2d, (40, 30, 5, 3))]
)
def test_channels_go_as_a_whole_each_item_on_its_own(function, shape):
    dropped = function(ones(*shape), 0.25, generator=generator()).flatten(2)
    assert dropped.amax(2).equal(dropped.amin(2))  # one value to a channel
    gone = dropped[:, :, 0] == 0
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert not (gone == gone[0]).all() and not (gone == gone[:, :1]).all()


def test_equal_generators_give_equal_masks_and_other_ones_others():
    first, again, other = (dropout.keep_mask((8, 8), 0.5, generator(s)) for s in (1, 1, 2))
    assert first.dtype is torch.bool and first.equal(again) and not first.equal(other)


def test_penalties_have_the_gradients_they_promise():
    weights = [torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    for value, expected in zip(
        torch.autograd.grad(dropout.l1_penalty(weights), weights), weights, strict=True
    ):
        assert value.equal(expected.sign())
    for value, expected in zip(
        torch.autograd.grad(dropout.l2_penalty(weights), weights), weights, strict=True
    ):
        torch.testing.assert_close(value, expected)
    assert dropout.l1_penalty([torch.tensor([3.0, -4.0])]).item() == 7
    assert dropout.l2_penalty([torch.tensor([3.0, -4.0])]).item() == 12.5


def test_decay_shrinks_in_place():
    weight = torch.tensor([2.0, -4.0], requires_grad=True)
    dropout.decay_([weight], learning_rate=0.1, weight_decay=0.5)
    torch.testing.assert_close(weight.detach(), torch.tensor([1.9, -3.8]))


def test_corrupted_labels_are_a_share_drawn_from_all_classes():
    labels = torch.zeros(10_000, dtype=torch.int64)
    noisy = dropout.corrupt_labels(labels, 0.4, 10, generator())
    assert labels.eq(0).all()
    assert (noisy != labels).float().mean().item() == pytest.approx(0.36, abs=0.01)
    assert noisy.unique().tolist() == list(range(10))
    assert noisy.equal(dropout.corrupt_labels(labels, 0.4, 10, generator()))
    assert dropout.corrupt_labels(labels, 0.0, 10, generator()).equal(labels)


def test_random_labels_say_nothing_of_the_right_ones():
    labels = torch.arange(10).repeat(1000)
    noisy = dropout.corrupt_labels(labels, 1.0, 10, generator())
    assert (noisy == labels).float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_smooth_labels_are_the_mean_of_corrupted_ones_and_torchs_label_smoothing():
    labels = torch.tensor([0, 2])
    smooth = dropout.smooth_labels(labels, 0.3, 3)
    torch.testing.assert_close(smooth, torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]))
    many = dropout.corrupt_labels(torch.full((30_000,), 2), 0.3, 3, generator())
    share = torch.bincount(many) / 30_000
    torch.testing.assert_close(share, smooth[1], rtol=0, atol=0.01)
    logits = torch.randn(2, 3)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.3)
    torch.testing.assert_close(F.cross_entropy(logits, smooth), expected)


class Fixed(nn.Module):
    """Answers with its own logits, whatever it is asked."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_an_ensemble_keeps_every_members_probabilities():
    members = [Fixed(0.0, 0.0), Fixed(0.0, math.log(3))]
    answers = dropout.ensemble(members, torch.zeros(5, 1))
    assert answers.shape == (2, 5, 2)
    torch.testing.assert_close(answers[:, 0], torch.tensor([[0.5, 0.5], [0.25, 0.75]]))


class Judged(nn.Module):
    """A norm that must stay in evaluation, and one dropout layer, ours or torch's."""

    def __init__(self, layer):
        super().__init__()
        self.norm, self.layer, self.classify = nn.BatchNorm1d(20), layer, nn.Linear(20, 3)

    def forward(self, x):
        return self.classify(self.layer(self.norm(x)))


@pytest.mark.parametrize("kind", [dropout.Dropout, nn.Dropout])
def test_monte_carlo_moves_nothing_but_the_dropout_layers(kind):
    torch.manual_seed(0)
    model, x = Judged(kind(0.5)), torch.randn(6, 20)
    before = model.norm.running_mean.clone()
    answers = dropout.monte_carlo(model, x, 30)
    assert answers.shape == (30, 6, 3)
    assert (answers.std(dim=0) > 0).all()
    torch.testing.assert_close(answers.sum(dim=2), torch.ones(30, 6))
    assert model.norm.running_mean.equal(before)
    assert model.training and all(m.training for m in model.modules())
    model.eval()
    dropout.monte_carlo(model, x, 1)
    assert not any(m.training for m in model.modules())


def test_uncertainty_of_sure_clueless_and_quarrelling_members():
    sure, clueless = torch.tensor([[1.0, 0.0]] * 2), torch.full((2, 2), 0.5)
    quarrel = torch.eye(2)
    answers = torch.stack([sure, clueless, quarrel], dim=1)  # (members, N, classes)
    ln2 = math.log(2)
    torch.testing.assert_close(dropout.entropy(answers.mean(dim=0)), torch.tensor([0.0, ln2, ln2]))
    torch.testing.assert_close(dropout.disagreement(answers), torch.tensor([0.0, 0.0, ln2]))


X = torch.zeros(2, 3, 4, 5)
REFUSALS = [
    (dropout.dropout, (X, 1.1), {}, "p is 1.1; allowed are probabilities from 0 to 1"),
    (dropout.dropout, (X, -0.1), {}, "p is -0.1; allowed"),
    (dropout.dropout, (X, math.nan), {}, "p is nan; allowed"),
    (dropout.dropout, (X, 2, False), {}, "p is 2; allowed"),
    (dropout.dropout2d, (X, -1), {}, "p is -1; allowed"),
    (
        dropout.dropout2d,
        (X[0],),
        {},
        r"x has shape \(3, 4, 5\); allowed are the axes \(N, C, H, W\)",
    ),
    (dropout.dropout1d, (X,), {}, r"x has shape .* allowed are the axes \(N, C, L\)"),
    (dropout.dropout1d, (X[0, 0], 0.5, False), {}, "x has shape"),
    (dropout.keep_mask, ((2,), 1.5), {}, "p is 1.5; allowed"),
    (dropout.Dropout, (1.5,), {}, "p is 1.5; allowed"),
    (dropout.Dropout1d, (-0.5,), {}, "p is -0.5; allowed"),
    (dropout.Dropout2d, (math.inf,), {}, "p is inf; allowed"),
    (dropout.l1_penalty, ([],), {}, "weights is empty; at least one"),
    (dropout.l2_penalty, ([],), {}, "weights is empty"),
    (dropout.decay_, ([], 0.1, 0.1), {}, "weights is empty"),
    (dropout.corrupt_labels, (torch.arange(3), 1.2, 3, None), {}, "share is 1.2; allowed"),
    (dropout.smooth_labels, (torch.arange(3), -1, 3), {}, "share is -1; allowed"),
    (dropout.ensemble, ([], X), {}, "models is empty; at least one"),
    (dropout.monte_carlo, (nn.Linear(2, 2), X, 3), {}, "model has no dropout layers"),
    (dropout.monte_carlo, (dropout.ClothesNet(), X, 0), {}, "samples is 0; allowed are whole"),
]


@pytest.mark.parametrize(("function", "arguments", "options", "message"), REFUSALS)
def test_refusals_name_the_argument_its_value_and_what_is_allowed(
    function, arguments, options, message
):
    with pytest.raises(ValueError, match=message):
        function(*arguments, **options)


def test_the_compiled_network_draws_new_masks_each_time():
    torch._dynamo.reset()
    network = dropout.ClothesNet(p=0.5, p_maps=0.1)
    assert network(batch(3)[0]).shape == (3, 10)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    assert not compiled(batch()[0]).equal(compiled(batch()[0]))


@pytest.mark.parametrize("layer", [dropout.Dropout(0.5), nn.Dropout(0.5)], ids=["ours", "torch"])
def test_half_precision_stays(layer):
    assert layer(torch.ones(4, dtype=torch.bfloat16)).dtype is torch.bfloat16


def test_the_network_standardises_with_the_training_images_own_numbers():
    pixels = data.load("fashion_mnist").x_train.float() / 255
    assert pixels.mean().item() == pytest.approx(dropout.PIXEL_MEAN, abs=5e-4)
    assert pixels.std().item() == pytest.approx(dropout.PIXEL_STD, abs=5e-4)
