"""Chapter 01 by hand against torch: values and gradients, memory, and what must be refused."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import tensor_ops
from tests import readiness

REDUCTIONS = tensor_ops.REDUCTIONS


def strided_tensors(count, seed=0):
    """Tensors of many shapes, stepped, transposed, expanded, cut, or empty; values count up."""
    rng = random.Random(seed)
    for _ in range(count):
        shape = [rng.choice([0, 1, 1, 2, 2, 3, 4, 6]) for _ in range(rng.randint(0, 4))]
        tensor = torch.arange(math.prod(shape)).view(shape)
        for _ in range(rng.randint(0, 3)):
            tensor = rng.choice([_transposed, _stepped, _expanded, _cut, _with_ones])(tensor, rng)
        yield tensor


def _transposed(tensor, rng):
    return tensor.permute(rng.sample(range(tensor.ndim), tensor.ndim))


def _stepped(tensor, rng):
    return tensor[::2] if tensor.ndim else tensor


def _expanded(tensor, rng):
    return tensor.expand(rng.choice([1, 2, 3]), *tensor.shape)


def _cut(tensor, rng):
    return tensor[..., 1:] if tensor.ndim else tensor


def _with_ones(tensor, rng):
    return tensor.unsqueeze(rng.randint(0, tensor.ndim))


def shapes_of(count, rng):
    """Random shapes with `count` elements, now and then with another number."""
    if rng.random() < 0.1:
        count = rng.choice([0, 1, 5, 12])
    shape = []
    while count > 1:
        divisor = rng.choice([d for d in range(2, count + 1) if count % d == 0])
        shape.append(divisor)
        count //= divisor
    if count == 0:
        shape = [0, *(rng.choice([1, 2, 3]) for _ in range(rng.randint(0, 2)))]
    for _ in range(rng.randint(0, 2)):
        shape.insert(rng.randint(0, len(shape)), 1)
    rng.shuffle(shape)
    return shape


# --- memory and shapes -------------------------------------------------------------------------


def test_every_element_lies_where_it_is_said_to_lie():
    for tensor in strided_tensors(300):
        storage = torch.tensor(tensor.untyped_storage(), dtype=torch.uint8).view(torch.int64)
        places = tensor_ops.memory_of(tensor)
        assert places.shape == tensor.shape
        assert storage[places].equal(tensor)


def test_an_offset_counts():
    assert tensor_ops.memory_of(torch.arange(12).view(3, 4)[1:, 1:3]).tolist() == [[5, 6], [9, 10]]
    assert tensor_ops.memory_of(torch.arange(5)[3]).item() == 3


def test_can_view_says_what_view_does():
    rng = random.Random(1)
    outcomes = {True: 0, False: 0}
    for tensor in strided_tensors(3000, seed=2):
        shape = shapes_of(tensor.numel(), rng)
        try:
            tensor.view(shape)
            works = True
        except RuntimeError:
            works = False
        said = tensor_ops.can_view(tensor.shape, tensor.stride(), shape)
        assert said == works, (tensor.shape, tensor.stride(), shape)
        outcomes[works] += 1
    assert min(outcomes.values()) > 300, "both answers must be common for this to prove anything"


@pytest.mark.parametrize(
    "shape, stride, new, expected",
    [
        ((4, 3), (1, 4), (12,), False),  # a transpose
        ((4, 3), (1, 4), (2, 2, 3), True),  # which may still be cut
        ((3, 1, 4), (4, 99, 1), (12,), True),  # an axis of length 1 may have any stride
        ((2, 3), (0, 0), (6,), True),  # all one number
        ((3, 2), (4, 2), (6,), True),  # every other column of four
        ((3, 2), (4, 1), (6,), False),  # the first two columns
        ((2, 2), (2, 1), (5,), False),
        ((), (), (1, 1), True),
        ((0, 3), (7, 7), (3, 0), True),
    ],
)
def test_can_view_on_cases_that_are_easily_got_wrong(shape, stride, new, expected):
    assert tensor_ops.can_view(shape, stride, new) is expected


def test_broadcast_shape_equals_torch():
    rng = random.Random(3)
    outcomes = {True: 0, False: 0}
    for _ in range(2000):
        a, b = ([rng.choice([0, 1, 1, 2, 3]) for _ in range(rng.randint(0, 4))] for _ in "ab")
        try:
            expected = tuple(torch.broadcast_shapes(a, b))
        except RuntimeError:
            expected = None
        outcomes[expected is not None] += 1
        if expected is None:
            with pytest.raises(ValueError, match="do not fit on axis -"):
                tensor_ops.broadcast_shape(a, b)
        else:
            assert tensor_ops.broadcast_shape(a, b) == expected, (a, b)
    assert min(outcomes.values()) > 300


def test_broadcast_shape_names_the_axis():
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(2, 4, 3\) .* axis -2: 5 against 4"):
        tensor_ops.broadcast_shape((5, 3), (2, 4, 3))


@pytest.mark.parametrize("tail", [(), (3,)])
def test_pad_sequences_equals_torch(tail):
    sequences = [torch.randn(length, *tail, dtype=torch.float64) for length in (2, 5, 0, 3)]
    block, mask = tensor_ops.pad_sequences(sequences, value=-1.0)
    expected = nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=-1.0)
    assert block.equal(expected) and block.dtype is torch.float64
    assert mask.dtype is torch.bool and mask.sum(dim=1).tolist() == [2, 5, 0, 3]
    assert mask[0].tolist() == [True, True, False, False, False]


def test_pad_sequences_wants_sequences():
    with pytest.raises(ValueError, match="sequences is empty"):
        tensor_ops.pad_sequences([])


# --- losses ------------------------------------------------------------------------------------


def same_loss(ours, theirs, predictions, *rest, **options):
    """Values and gradients are equal; every item's gradient has a weight of its own."""
    results = []
    for function in (ours, theirs):
        leaf = predictions.clone().requires_grad_()
        loss = function(leaf, *rest, **options)
        weights = torch.arange(1.0, loss.numel() + 1, dtype=loss.dtype).view(loss.shape)
        (loss * weights).sum().backward()
        results.append((loss.detach(), leaf.grad))
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-12, equal_nan=True)


def randn(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


PAIRS = [
    (tensor_ops.l1_loss, F.l1_loss),
    (tensor_ops.mse_loss, F.mse_loss),
    (tensor_ops.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits),
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ours, theirs", PAIRS)
@pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 1, 2), (), (0,)])
def test_losses_of_two_alike_tensors_equal_torch(ours, theirs, shape, reduction):
    targets = randn(*shape, seed=1).sigmoid()
    same_loss(ours, theirs, randn(*shape, scale=5), targets, reduction=reduction)


@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_losses_equal_torch_where_the_difference_or_logit_is_zero(ours, theirs):
    zeros = torch.zeros(3, dtype=torch.float64)
    same_loss(ours, theirs, zeros, zeros, reduction="none")
    same_loss(ours, theirs, zeros, zeros + 0.3, reduction="none")


def test_huge_logits_neither_overflow_nor_lose_their_gradient():
    logits = torch.tensor([-1e4, -800.0, -40.0, 0.0, 40.0, 800.0, 1e4], dtype=torch.float64)
    for target in (0.0, 0.3, 1.0):
        targets = torch.full_like(logits, target)
        same_loss(*PAIRS[2], logits, targets, reduction="none")
    rows = torch.tensor([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [800.0, 799.0, 0]]).double()
    for label in range(3):
        labels = torch.full((3,), label)
        same_loss(tensor_ops.cross_entropy, F.cross_entropy, rows, labels, reduction="none")


def test_a_class_that_is_impossible_costs_the_others_nothing():
    logits = torch.tensor([[0.0, -math.inf, 1.0]], dtype=torch.float64)
    same_loss(tensor_ops.cross_entropy, F.cross_entropy, logits, torch.tensor([2]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 2), (2, 3, 4, 2), (6, 1)])
def test_cross_entropy_equals_torch(shape, label_smoothing, reduction):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    both = tensor_ops.cross_entropy, F.cross_entropy
    same_loss(*both, randn(*shape, scale=3), labels, **options)
    for ignore_index in (-100, -1, 0, 3):
        some = labels.clone()
        some[::2] = ignore_index
        same_loss(*both, randn(*shape, scale=3), some, ignore_index=ignore_index, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("items", [0, 3])
def test_cross_entropy_over_nothing_equals_torch(items, reduction):
    labels = torch.full((items,), -1)
    same_loss(tensor_ops.cross_entropy, F.cross_entropy, randn(items, 4), labels,
              ignore_index=-1, reduction=reduction)  # fmt: skip


def test_the_mean_over_no_label_is_nan():
    assert tensor_ops.cross_entropy(randn(2, 3), torch.tensor([-100, -100])).isnan()


def test_cross_entropy_of_equal_logits_is_the_log_of_the_classes():
    loss = tensor_ops.cross_entropy(torch.full((5, 10), 3.0), torch.arange(5))
    assert loss.item() == pytest.approx(math.log(10))


@pytest.mark.parametrize("loss", [ours for ours, _ in PAIRS], ids=lambda loss: loss.__name__)
def test_shapes_that_torch_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(4, 1\) and targets \(4,\)"):
        loss(randn(4, 1), randn(4))


@pytest.mark.parametrize("logits, labels", [((4, 3), (4, 3)), ((4, 3), (5,)), ((3,), ()),
                                            ((4, 3, 2), (4, 3))])  # fmt: skip
def test_labels_that_do_not_belong_to_the_logits_are_refused(logits, labels):
    with pytest.raises(ValueError) as refusal:
        tensor_ops.cross_entropy(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))
    assert str(logits) in str(refusal.value) and str(labels) in str(refusal.value)


def test_a_label_beyond_the_classes_stops():
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        tensor_ops.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3]))


def test_arguments_that_are_not_allowed():
    labels = torch.tensor([0])
    with pytest.raises(ValueError, match="reduction is 'average'; allowed are mean, sum, none"):
        tensor_ops.cross_entropy(torch.zeros(1, 2), labels, reduction="average")
    with pytest.raises(ValueError, match="reduction is None"):
        tensor_ops.mse_loss(torch.zeros(1), torch.zeros(1), None)
    with pytest.raises(ValueError, match="label_smoothing is 1.5"):
        tensor_ops.cross_entropy(torch.zeros(1, 2), labels, label_smoothing=1.5)


# --- optimizers --------------------------------------------------------------------------------


SETTINGS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.5, "weight_decay": 0.1}),
    ("SGD", {"weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"betas": (0.5, 0.7), "eps": 1e-2}),
    ("Adam", {"weight_decay": 0.1}),
    ("AdamW", {"weight_decay": 0.1}),
    ("AdamW", {"betas": (0.0, 0.9), "weight_decay": 0.3}),
]


@pytest.mark.parametrize("name, options", SETTINGS)
def test_ten_steps_equal_torch(name, options):
    """On a curved function, where each step's gradient depends on all steps before."""
    start = [randn(4, 3), randn(3, seed=1), randn(2, seed=2)]
    if name == "AdamW":
        options = {"weight_decay": 0.0, **options}  # torch's own default is not 0
    results = []
    for kind, rate in (
        (getattr(tensor_ops, name), "learning_rate"),
        (getattr(torch.optim, name), "lr"),
    ):
        weights = [tensor.clone().requires_grad_() for tensor in start]
        optimizer = kind(weights, **{rate: 0.05}, **options)
        for step in range(10):
            optimizer.zero_grad()
            loss = ((weights[0] @ weights[1].sin()) ** 4).sum() + weights[0].cos().sum()
            if step % 3:  # some steps leave a tensor without a gradient
                loss = loss + (weights[2] ** 2 * weights[1][:2]).sum()
            loss.backward()
            optimizer.step()
        results.append([weight.detach() for weight in weights])
    for ours, theirs, first in zip(*results, start, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        assert not torch.allclose(ours, first), "the weights must have moved"


def test_a_step_changes_the_tensors_themselves_and_leaves_no_trace_in_the_graph():
    weight = torch.ones(2, requires_grad=True)
    optimizer = tensor_ops.Adam([weight])
    place = weight.data_ptr()
    (weight**2).sum().backward()
    optimizer.step()
    assert weight.data_ptr() == place and weight.is_leaf and weight.requires_grad
    optimizer.zero_grad()
    assert weight.grad is None


def test_adams_first_step_is_as_long_as_the_learning_rate():
    """Only with its bias correction is the first step so long, whatever the gradient's size."""
    for scale in (1e-3, 1.0, 1e3):
        weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        (scale * weight).sum().backward()
        tensor_ops.Adam([weight], learning_rate=0.01).step()
        assert weight.item() == pytest.approx(-0.01, rel=1e-4)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda p: tensor_ops.SGD([], 0.1), "parameters is empty"),
        (lambda p: tensor_ops.SGD(p, -0.1), "learning_rate is -0.1; allowed are finite"),
        (lambda p: tensor_ops.SGD(p, 0.1, momentum=math.nan), "momentum is nan"),
        (lambda p: tensor_ops.SGD(p, 0.1, weight_decay=-1), "weight_decay is -1"),
        (lambda p: tensor_ops.SGD(p, 0.1, nesterov=True), "nesterov is True and momentum 0"),
        (lambda p: tensor_ops.Adam(p, math.inf), "learning_rate is inf"),
        (lambda p: tensor_ops.Adam(p, betas=(0.9, 1.0)), r"betas is \(0.9, 1.0\)"),
        (lambda p: tensor_ops.AdamW(p, eps=-1e-8), "eps is -1e-08"),
    ],
)
def test_optimizers_refuse_what_makes_no_sense(make, said):
    with pytest.raises(ValueError, match=said):
        make([torch.zeros(1, requires_grad=True)])


# --- initial weights and networks --------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 20), (8, 4, 3, 3), (5, 7, 2)])
def test_initial_weights_equal_torch(shape):
    def drawn(fill, **options):
        return fill(torch.empty(shape), generator=torch.Generator().manual_seed(0), **options)

    ours = drawn(tensor_ops.kaiming_uniform_)
    torch.testing.assert_close(ours, drawn(nn.init.kaiming_uniform_, nonlinearity="relu"))
    ours = drawn(tensor_ops.xavier_uniform_)
    torch.testing.assert_close(ours, drawn(nn.init.xavier_uniform_))


def test_initial_weights_fill_in_place_and_without_a_graph():
    weight = nn.Parameter(torch.zeros(4, 5))
    assert tensor_ops.kaiming_uniform_(weight) is weight and weight.grad_fn is None
    assert tensor_ops.xavier_uniform_(weight) is weight and weight.abs().max() > 0


@pytest.mark.parametrize("fill", [tensor_ops.kaiming_uniform_, tensor_ops.xavier_uniform_])
def test_a_vector_has_no_fan(fill):
    with pytest.raises(ValueError, match=r"weight has shape \(5,\)"):
        fill(torch.empty(5))


def test_kaiming_keeps_the_size_of_what_passes_through():
    torch.manual_seed(0)
    x = torch.randn(256, 400)
    for _ in range(10):
        x = (x @ tensor_ops.kaiming_uniform_(torch.empty(400, 400)).T).relu()
    assert 0.5 < x.square().mean() < 2


MODELS = [lambda: tensor_ops.SoftmaxRegression(), lambda: tensor_ops.MLP(hidden=16)]


def batch(count=4):
    return torch.randn(count, 1, 28, 28), torch.arange(count)


def loss(model, images, labels):
    return tensor_ops.cross_entropy(model(images), labels)


@pytest.mark.parametrize("make", MODELS)
def test_shapes(make):
    assert make()(batch(3)[0]).shape == (3, 10)
    assert make()(torch.randn(3, 784)).shape == (3, 10)


def test_sizes_follow_the_arguments():
    assert tensor_ops.SoftmaxRegression(inputs=6, classes=2)(torch.randn(5, 2, 3)).shape == (5, 2)
    mlp = tensor_ops.MLP(inputs=6, hidden=7, classes=2)
    assert [tuple(p.shape) for p in mlp.parameters()] == [(7, 6), (7,), (2, 7), (2,)]


def test_the_mlp_is_two_matrix_products_with_a_relu_between():
    mlp, (images, _) = tensor_ops.MLP(hidden=16), batch()
    hidden = F.relu(F.linear(images.view(4, 784), mlp.hidden.weight, mlp.hidden.bias))
    torch.testing.assert_close(mlp(images), F.linear(hidden, *mlp.classify.parameters()))


def test_an_untrained_regression_holds_all_classes_for_equally_likely():
    model = tensor_ops.SoftmaxRegression()
    assert loss(model, *batch()).item() == pytest.approx(math.log(10))


@pytest.mark.parametrize("make", MODELS)
def test_they_can_memorise_a_batch_with_our_loss_and_our_optimizer(make):
    torch.manual_seed(0)
    model, (images, labels) = make(), batch(8)
    optimizer = tensor_ops.Adam(model.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss(model, images, labels).backward()
        optimizer.step()
    assert model(images).argmax(1).equal(labels)


def test_a_binary_loss_and_padding_run_on_any_device():
    def both(model, images, labels):
        block, mask = tensor_ops.pad_sequences([labels.float(), labels[:2].float()])
        smooth = tensor_ops.cross_entropy(model(images), labels, label_smoothing=0.1)
        scores = model(images)[:2, :4]
        losses = tensor_ops.binary_cross_entropy_with_logits(scores, block / 9, "none")
        return smooth + losses.where(mask, 0).sum()

    readiness.check_fake_cuda(tensor_ops.MLP(hidden=4), both, batch())
