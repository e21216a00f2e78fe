"""Chapter 04's norms: their derivation, refusals and readiness; parity/ has torch's values."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import batch_norm
from tests import readiness


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def leaves(*shapes):
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (-1, -2), (0, 1, 2)], ids=str)
def test_normalise_gives_mean_0_and_variance_1_along_the_axes(axes):
    x = 5 * torch.randn(6, 5, 4, dtype=torch.float64) - 3
    x_hat, mean, var = batch_norm.normalise(x, axes, eps=0.0)
    expected = torch.var_mean(x, axes, correction=0, keepdim=True)
    torch.testing.assert_close((var, mean), expected)
    torch.testing.assert_close(x_hat.mean(axes), torch.zeros_like(x_hat.mean(axes)))
    torch.testing.assert_close(x_hat.square().mean(axes), torch.ones_like(x_hat.mean(axes)))


def test_eps_keeps_constant_values_finite():
    assert batch_norm.normalise(torch.full((4, 2), 7.0), (0,))[0].eq(0).all()
    x_hat, _, var = batch_norm.normalise(torch.tensor([[-1.0], [1.0]]), (0,), eps=3.0)
    assert var.item() == 1 and x_hat.flatten().tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5), (4, 3, 2, 5)], ids=str)
def test_the_hand_derived_backward_is_autograds(shape):
    x, weight, bias, direction = leaves(shape, 3, 3, shape)
    axes = (0, *range(2, len(shape)))
    sizes = (1, 3, *(1 for _ in shape[2:]))
    x_hat, _, var = batch_norm.normalise(x, axes, 0.1)
    out = x_hat * weight.view(sizes) + bias.view(sizes)
    expected = torch.autograd.grad((out * direction).sum(), (x, weight, bias))
    inv_std = 1 / (var.flatten() + 0.1).sqrt()
    by_hand = batch_norm.batch_norm_backward(direction, x_hat, inv_std, weight)
    torch.testing.assert_close(by_hand, expected)


@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 2, 5)], ids=str)
def test_gradcheck(shape):
    def outputs(x, weight, bias):
        return batch_norm.BatchNormFunction.apply(x, weight, bias, 0.1)[0]

    assert torch.autograd.gradcheck(outputs, leaves(shape, 3, 3))


def test_the_gradient_ignores_shifts_and_stretches_of_a_channel():
    x, weight, bias = leaves((8, 3, 4), 3, 3)
    out = batch_norm.BatchNormFunction.apply(x, weight, bias, 0.0)[0]
    (gradient,) = torch.autograd.grad(out.sin().sum(), x)
    zeros = torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(gradient.sum((0, 2)), zeros)
    torch.testing.assert_close((gradient * x).sum((0, 2)), zeros)


def test_a_second_derivative_is_refused_rather_than_wrong():
    x, weight, bias = leaves((8, 3), 3, 3)
    out = batch_norm.BatchNormFunction.apply(x, weight, bias, 0.1)[0]
    (gradient,) = torch.autograd.grad(out.sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_several_nets_side_by_side_give_what_each_gives_alone():
    x, weight = torch.randn(3, 6, 4), torch.randn(3, 4, 5)

    def loss(weight, x):
        return batch_norm.batch_norm(x @ weight, None, None, training=True).sin().sum()

    together = torch.func.vmap(torch.func.grad(loss))(weight, x)
    for k in range(3):
        torch.testing.assert_close(together[k], torch.func.grad(loss)(weight[k], x[k]))


def test_running_statistics_move_towards_the_new_ones_by_momentum():
    layer = batch_norm.BatchNorm1d(2, momentum=0.25)
    x = torch.tensor([[0.0, 2.0], [4.0, 2.0], [8.0, 2.0]])  # means 4, 2; unbiased variances 16, 0
    layer(x)
    assert layer.running_mean.tolist() == [1.0, 0.5]
    assert layer.running_var.tolist() == [0.75 + 0.25 * 16, 0.75]
    assert layer.num_batches_tracked == 1
    layer.eval()(x)
    assert layer.running_mean.tolist() == [1.0, 0.5] and layer.num_batches_tracked == 1


def test_momentum_none_is_the_mean_of_all_batches():
    layer = batch_norm.BatchNorm1d(2, momentum=None)
    batches = torch.randn(4, 8, 2)
    for x in batches:
        layer(x)
    torch.testing.assert_close(layer.running_mean, batches.mean((0, 1)))
    torch.testing.assert_close(layer.running_var, batches.var(1).mean(0))


def test_without_running_statistics_others_in_the_batch_matter_in_evaluation():
    x = torch.randn(6, 3)
    for tracked in (True, False):
        layer = batch_norm.BatchNorm1d(3, track_running_stats=tracked).eval()
        assert layer(x)[:2].allclose(layer(x[:2])) is tracked


def test_group_norm_at_its_ends_is_layer_and_instance_norm():
    x = torch.randn(4, 6, 5, 3)
    one, each = (batch_norm.GroupNorm(groups, 6)(x) for groups in (1, 6))
    torch.testing.assert_close(one, batch_norm.LayerNorm((6, 5, 3))(x))
    torch.testing.assert_close(each, batch_norm.InstanceNorm2d(6)(x))


ALL = {
    "BatchNorm1d": lambda **options: batch_norm.BatchNorm1d(4, **options),
    "BatchNorm2d": lambda **options: batch_norm.BatchNorm2d(4, **options),
    "InstanceNorm2d": lambda **options: batch_norm.InstanceNorm2d(4, **options),
    "GroupNorm": lambda **options: batch_norm.GroupNorm(2, 4, **options),
    "LayerNorm": lambda **options: batch_norm.LayerNorm(4, **options),
}


@pytest.mark.parametrize("name", ALL)
def test_a_negative_eps_is_refused(name):
    with pytest.raises(ValueError, match="eps is -0.1; allowed are numbers from 0"):
        ALL[name](eps=-0.1)


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d", "InstanceNorm2d"])
@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_momentum_outside_of_0_to_1_is_refused(name, momentum):
    with pytest.raises(ValueError, match=f"momentum is {momentum}; allowed are 0 to 1, or None"):
        ALL[name](momentum=momentum)


REFUSALS = [
    ("BatchNorm1d", (1, 4), r"x has shape \(1, 4\); .* at least two values in each channel"),
    ("BatchNorm2d", (1, 4, 1, 1), "at least two values in each channel"),
    ("InstanceNorm2d", (3, 4, 1, 1), r"x has shape \(3, 4, 1, 1\); .* at least two pixels in each"),
    ("BatchNorm1d", (3, 5), r"x has shape \(3, 5\); allowed are 2 or 3 axes with 4 channels"),
    ("BatchNorm1d", (3, 4, 2, 2), "allowed are 2 or 3 axes"),
    ("BatchNorm2d", (3, 4), "allowed are 4 axes with 4 channels on axis 1"),
    ("BatchNorm2d", (3, 2, 4, 4), "with 4 channels on axis 1"),
    ("InstanceNorm2d", (4, 3, 3), "allowed are 4 axes"),
    ("GroupNorm", (3, 6), "with 4 channels on axis 1"),
    ("LayerNorm", (4, 5), r"allowed are last axes \(4,\)"),
]


@pytest.mark.parametrize(("name", "shape", "message"), REFUSALS)
def test_input_that_does_not_fit_is_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        ALL[name]()(torch.ones(shape))


@pytest.mark.parametrize("training", [True, False])
def test_a_single_value_in_a_group_is_refused(training):
    layer = batch_norm.GroupNorm(3, 3).train(training)
    for shape in ((1, 3), (2, 3), (1, 3, 1, 1)):
        with pytest.raises(ValueError, match=r"x has shape .*; allowed are at least two values in"):
            layer(torch.ones(shape))
    assert layer(torch.ones(1, 3, 2)).eq(0).all()
    assert batch_norm.GroupNorm(1, 3)(torch.ones(1, 3)).eq(0).all()


def test_one_image_per_batch_is_enough_where_it_has_several_pixels():
    batch_norm.BatchNorm2d(4)(torch.ones(1, 4, 2, 1))
    batch_norm.BatchNorm1d(4).eval()(torch.ones(1, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: batch_norm.GroupNorm(4, 6), "num_groups is 4; allowed are divisors of"),
        (lambda: batch_norm.GroupNorm(0, 6), "num_groups is 0"),
        (lambda: batch_norm.BatchNorm2d(0), "num_features is 0; allowed are whole numbers"),
        (lambda: batch_norm.BatchNorm2d(2.0), "num_features is 2.0"),
        (lambda: batch_norm.LayerNorm(()), "normalized_shape"),
        (lambda: batch_norm.LayerNorm((3, -1)), "normalized_shape"),
    ],
)
def test_layers_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_function_refuses_what_does_not_fit():
    x = torch.ones(3, 4)
    with pytest.raises(ValueError, match="running_mean or running_var is None"):
        batch_norm.batch_norm(x, None, None)
    with pytest.raises(ValueError, match=r"weight has shape \(3,\); allowed is \(4,\)"):
        batch_norm.batch_norm(x, None, None, torch.ones(3), training=True)
    with pytest.raises(ValueError, match="x is torch.int64"):
        batch_norm.batch_norm(x.long(), None, None, training=True)
    with pytest.raises(ValueError, match="axes is"):
        batch_norm.normalise(x, (2,))
    with pytest.raises(ValueError, match="axes is"):
        batch_norm.normalise(x, ())


class AllNorms(nn.Module):
    """Images (N, 4, 6, 6) -> logits (N, 3) through every norm of the module."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 4, 3),
            batch_norm.BatchNorm2d(4),
            nn.Conv2d(4, 4, 1),
            batch_norm.BatchNorm2d(4, momentum=None),
            batch_norm.GroupNorm(2, 4),
            nn.ReLU(),
            batch_norm.InstanceNorm2d(4, affine=True, track_running_stats=True),
            batch_norm.LayerNorm((4, 4)),
            nn.Flatten(),
            nn.Linear(64, 3),
            batch_norm.BatchNorm1d(3),
        )

    def forward(self, images):
        return self.layers(images)


def loss(model, images, labels):
    return F.cross_entropy(model(images), labels)


@pytest.mark.parametrize("training", [True, False])
def test_all_of_it_would_run_on_a_gpu(training):
    tensors = (torch.randn(5, 4, 6, 6), torch.tensor([0, 1, 2, 0, 1]))
    readiness.check_fake_cuda(AllNorms().train(training), loss, tensors)
    readiness.check_autocast(AllNorms().train(training), loss, tensors)
    readiness.check_meta(AllNorms().train(training), loss, tensors)


@pytest.mark.slow
def test_it_compiles():
    tensors = (torch.randn(5, 4, 6, 6), torch.tensor([0, 1, 2, 0, 1]))
    readiness.check_compiles(AllNorms(), loss, tensors)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, batch_norm.BatchNorm2d, None])
def test_the_chapters_network(norm):
    network = batch_norm.NormCNN(widths=(4, 6, 8), norm=norm)
    assert network(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    norms = [m for m in network.modules() if norm and isinstance(m, norm)]
    assert len(norms) == (3 if norm else 0)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.bias is None for m in convolutions] == [norm is not None] * 3
