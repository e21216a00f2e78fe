"""Attention: what its masks, positions, heads, layers and caches must do."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from course_lib import attention, dot_product

WIDTH, HEADS = 16, 4
CONFIG = attention.TransformerConfig(WIDTH, HEADS, layers=2, hidden=24, max_length=12)
HOLED = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 1]]).bool()  # row 1: nothing to attend to


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FORMS = {
    "by hand": lambda *arguments: attention.attention_by_hand(*arguments)[0],
    "fused": attention.attention_fused,
    "chosen": attention.attention,
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


# --- one head ----------------------------------------------------------------------------------


@forms
def test_a_query_between_two_equal_keys_gets_the_mean_of_their_values(form):
    query = torch.tensor([[3.0, 0, 0, 0]])
    key = torch.tensor([[1.0, 0, 0, 0], [1.0, 5, 0, 0], [-99.0, 0, 0, 0]])
    value = torch.tensor([[10.0], [20], [7000]])
    torch.testing.assert_close(form(query, key, value), torch.tensor([[15.0]]))


@pytest.mark.parametrize(
    ("dtype", "length", "device", "fused"),
    [
        (torch.float32, 64, "cpu", False),
        (torch.float32, 65, "cpu", True),
        (torch.bfloat16, 256, "cpu", False),
        (torch.bfloat16, 257, "cpu", True),
        (torch.bfloat16, 8, "meta", True),
    ],
)
def test_the_form_is_chosen_by_device_dtype_and_length(monkeypatch, dtype, length, device, fused):
    calls = []
    monkeypatch.setattr(dot_product, "attention_fused", lambda q, *_: calls.append(1) or q)
    x = torch.zeros(2, length, 4, dtype=dtype, device=device)
    assert attention.attention(x[:, :3], x, x).shape == (2, 3, 4)
    assert bool(calls) == fused


@forms
def test_scores_are_divided_by_the_root_of_the_width(form):
    query, key = torch.full((1, 16), 0.5), torch.stack((torch.ones(16), torch.zeros(16)))
    share = torch.tensor(16 * 0.5 / 4).sigmoid()  # softmax of (s, 0)
    output = form(query, key, torch.tensor([[1.0], [0]]))
    torch.testing.assert_close(output, share.reshape(1, 1))


def test_weights_sum_to_one_and_are_zero_where_hidden():
    mask = attention.causal_mask(5)
    _, weights = attention.attention_by_hand(*(random(2, 5, 8, seed=i) for i in range(3)), mask)
    assert weights.shape == (2, 5, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5))
    assert weights[:, ~mask].eq(0).all() and weights[:, mask].gt(0).all()


@forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_row_with_nothing_gives_zeros_and_zero_gradients(form, dtype):
    q, k, v = (random(2, 3, 8, seed=i).to(dtype).requires_grad_() for i in range(3))
    output = form(q, k, v, HOLED)
    assert output[:, 1].eq(0).all() and output[:, 2].ne(0).all()
    output[:, 1].sum().backward()
    assert all(x.grad.eq(0).all() for x in (q, k, v))
    form(q, k, v, HOLED).square().sum().backward()
    assert q.grad[:, 1].eq(0).all()
    assert all(x.grad.isfinite().all() and x.grad.ne(0).any() for x in (q, k, v))


@forms
def test_float16_holds_even_scores_far_below_zero_in_a_row_with_nothing(form):
    q = torch.full((3, 8), 10.0, dtype=torch.float16).requires_grad_()
    k = torch.full((3, 8), -10.0, dtype=torch.float16).requires_grad_()
    output = form(q, k, k, HOLED)  # scores of -283: added to -65504, they would overflow
    assert output[1].eq(0).all() and output.isfinite().all()
    output.sum().backward()
    assert q.grad.isfinite().all() and k.grad.isfinite().all()


def test_no_kernel_gets_a_row_with_nothing(monkeypatch):
    """Some kernels would give NaN there: what they get must have something in every row."""
    seen = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def kernel(q, k, v, mask, dropout):
        seen.append(mask)
        return fused(q, k, v, mask, dropout)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", kernel)
    output = attention.attention_fused(*(random(2, 3, 8, seed=i) for i in range(3)), HOLED)
    assert seen[0].any(-1).all() and output[:, 1].eq(0).all()


@forms
def test_a_sample_that_is_padding_alone_gives_zeros(form):
    mask = attention.padding_mask(torch.tensor([[True, True, False], [False] * 3]))
    output = form(*(random(2, 4, 3, 8, seed=i) for i in range(3)), mask)
    assert output[1].eq(0).all() and output[0].ne(0).all()


def test_weights_of_a_row_with_nothing_are_zeros():
    q, k = random(3, 8).requires_grad_(), random(3, 8, seed=1)
    weights = attention.attention_weights(q, k, HOLED)
    assert weights[1].eq(0).all() and weights.sum(-1).tolist() == pytest.approx([1, 0, 1])
    weights[1].sum().backward()
    assert q.grad.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mask", [None, attention.causal_mask(6)], ids=["none", "causal"])
def test_half_precision_neither_overflows_nor_strays(dtype, mask):
    """Products of 1024 dimensions are beyond float16's 65,504 before they are scaled."""
    q, k, v = (20 * random(6, 1024, seed=i) for i in (0, 0, 2))
    v = v / 20
    assert (q @ k.T).max() > 65504
    output, weights = attention.attention_by_hand(*(x.to(dtype) for x in (q, k, v)), mask)
    assert output.dtype is dtype and weights.isfinite().all()
    wanted, _ = attention.attention_by_hand(q, k, v, mask)
    torch.testing.assert_close(output.float(), wanted, rtol=0.02, atol=0.02)


@forms
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 1, 3, 5), (1, 4, 1, 5), (3, 5), (5,), (3, 1)])
def test_masks_broadcast(form, shape):
    q, k, v = random(2, 4, 3, 8), random(2, 4, 5, 8, seed=1), random(2, 4, 5, 6, seed=2)
    mask = random(*shape, seed=3) > -0.5
    full = mask.expand(2, 4, 3, 5)
    torch.testing.assert_close(form(q, k, v, mask), form(q, k, v, full))
    visible = form(q[1:, 2:3, 2:3], k[1:, 2:3, full[1, 2, 2]], v[1:, 2:3, full[1, 2, 2]])
    torch.testing.assert_close(form(q, k, v, mask)[1:, 2:3, 2:3], visible)


def test_what_is_hidden_has_no_influence():
    q, k, v = (random(1, 1, 4, 8, seed=i) for i in range(3))
    before = attention.attention(q, k, v, attention.causal_mask(4))
    k[..., 3, :], v[..., 3, :] = 9.0, -9.0
    after = attention.attention(q, k, v, attention.causal_mask(4))
    assert before[..., :3, :].equal(after[..., :3, :]) and not before.equal(after)


@pytest.mark.parametrize("length", [8, 200])  # on both sides of where the form changes
@pytest.mark.parametrize("masked", [False, True])
def test_dropout_drops_weights_and_keeps_the_expectation(length, masked):
    torch.manual_seed(0)
    q, mask = torch.zeros(4, 8, length, 8), torch.ones(length, length) > 0 if masked else None
    output = attention.attention(q, q, torch.ones(4, 8, length, 1), mask, dropout=0.25)
    assert output.std() > 0.02
    assert output.mean().item() == pytest.approx(1, abs=0.05)


# --- masks and positions -----------------------------------------------------------------------


def test_causal_and_padding_masks():
    assert attention.causal_mask(3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    real = torch.tensor([[True, False], [True, True]])
    assert attention.padding_mask(real).shape == (2, 1, 1, 2)
    assert attention.padding_mask(real)[:, 0, 0].equal(real)


def test_sinusoidal_positions_by_the_formula():
    codes = attention.sinusoidal_positions(50, 8, dtype=torch.float64)
    for position, column in ((0, 0), (7, 4), (49, 6)):
        angle = torch.tensor(position / 10000 ** (column / 8), dtype=torch.float64)
        torch.testing.assert_close(codes[position, column], angle.sin())
        torch.testing.assert_close(codes[position, column + 1], angle.cos())
    late = attention.sinusoidal_positions(5, 8, start=45, dtype=torch.float64)
    torch.testing.assert_close(late, codes[45:])
    torch.testing.assert_close(attention.sinusoidal_positions(50, 8), codes.float())


@pytest.mark.parametrize("kind", [attention.SinusoidalPositions, attention.LearnedPositions])
def test_position_modules_add_the_code_of_each_place(kind):
    positions, x = kind(10, 8), random(2, 10, 8)
    codes = positions(torch.zeros(1, 10, 8))
    torch.testing.assert_close(positions(x), x + codes)
    torch.testing.assert_close(positions(x[:, 4:7], offset=4), (x + codes)[:, 4:7])
    assert len(torch.unique(codes[0], dim=0)) == 10
    with pytest.raises(ValueError, match="length is 11; allowed are up to 10"):
        positions(random(1, 11, 8))
    with pytest.raises(ValueError, match="length is 12; allowed are up to 10"):
        positions(random(1, 2, 8), offset=10)


def test_rotation_turns_planes_and_keeps_lengths():
    x, positions = random(2, 3, 6, 8), torch.tensor([0, 1, 2, 5, 9, 100])
    turned = attention.rotate(x, positions)
    assert turned[..., 0, :].equal(x[..., 0, :])  # position 0 stays
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    angles = positions[:, None] / 10000 ** (torch.arange(4) / 4)
    wanted = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(6, 4), angles)
    torch.testing.assert_close(turned, torch.cat((wanted.real, wanted.imag), -1))


def test_rotated_products_depend_on_the_distance_only():
    q, k = random(1, 8).double(), random(1, 8, seed=1).double()

    def product(i, j):
        turned = (attention.rotate(x, torch.tensor([p])) for x, p in ((q, i), (k, j)))
        return (next(turned) * next(turned)).sum()

    torch.testing.assert_close(product(3, 1), product(1003, 1001))
    assert (product(3, 1) - product(1, 3)).abs() > 1e-3


# --- several heads -----------------------------------------------------------------------------


@pytest.mark.parametrize("rotary", [False, True])
def test_each_head_works_on_its_own_slice(rotary):
    torch.manual_seed(0)
    heads = attention.MultiHeadAttention(WIDTH, HEADS, rotary=rotary)
    x, parts = random(2, 5, WIDTH), []
    for head in range(HEADS):
        rows = [slice(first + 4 * head, first + 4 * head + 4) for first in (0, 16, 32)]
        q, k, v = (x @ heads.in_proj_weight[part].T for part in rows)
        if rotary:
            q, k = (attention.rotate(y, torch.arange(5)) for y in (q, k))
        parts.append(attention.attention_by_hand(q, k, v)[0])
    torch.testing.assert_close(heads(x), heads.out_proj(torch.cat(parts, -1)))


@pytest.mark.parametrize("rotary", [False, True])
def test_a_cache_gives_what_the_whole_sequence_gives(rotary):
    torch.manual_seed(0)
    heads = attention.MultiHeadAttention(WIDTH, HEADS, rotary=rotary)
    x = random(2, 7, WIDTH)
    whole = heads(x, mask=attention.causal_mask(7))
    parts = [heads.keys_values(x[:, :3]), heads.keys_values(x[:, 3:], offset=3)]
    keys, values = (torch.cat(pair, dim=2) for pair in zip(*parts, strict=True))
    assert keys.shape == values.shape == (2, HEADS, 7, WIDTH // HEADS)
    for place in range(7):
        seen = (keys[:, :, : place + 1], values[:, :, : place + 1])
        row = heads.attend(x[:, place : place + 1], *seen, offset=place)
        torch.testing.assert_close(row, whole[:, place : place + 1])


def test_without_positions_order_is_unknown_and_with_rotary_it_is_known():
    order = torch.tensor([3, 0, 4, 1, 2])
    x = random(1, 5, WIDTH)
    for rotary in (False, True):
        torch.manual_seed(0)
        heads = attention.MultiHeadAttention(WIDTH, HEADS, rotary=rotary)
        assert torch.allclose(heads(x)[:, order], heads(x[:, order]), atol=1e-6) != rotary


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    heads, x = attention.MultiHeadAttention(WIDTH, HEADS, dropout=0.5), random(1, 5, WIDTH)
    assert not heads(x).equal(heads(x))
    assert heads.eval()(x).equal(heads(x))
    assert heads.train().weights(x).equal(heads.eval().weights(x))


# --- layers and stacks -------------------------------------------------------------------------

KINDS = [(kind, pre) for kind in attention.POSITIONS for pre in (True, False)]


def decoder(positions="sinusoidal", pre_norm=True, **options):
    torch.manual_seed(0)
    config = replace(CONFIG, positions=positions, pre_norm=pre_norm, **options)
    network = attention.Decoder(config).double().eval()
    for norm in network.modules():
        if isinstance(norm, nn.LayerNorm):
            nn.init.normal_(norm.weight, 1, 0.2)
    return network


@pytest.mark.parametrize(("positions", "pre_norm"), KINDS)
def test_decoding_step_by_step_gives_forwards_rows(positions, pre_norm):
    network = decoder(positions, pre_norm)
    x, memory = random(3, 6, WIDTH).double(), random(3, 5, WIDTH, seed=1).double()
    mask = attention.padding_mask(torch.arange(5) < torch.tensor([[5], [2], [0]]))
    whole = network(x, memory, memory_mask=mask)
    state = network.start(memory, mask)
    for place in range(6):
        row, state = network.step(x[:, place : place + 1], state)
        torch.testing.assert_close(row, whole[:, place : place + 1], rtol=1e-9, atol=1e-9)


def test_rows_of_a_state_can_be_chosen_and_repeated():
    network = decoder()
    x, memory = random(2, 4, WIDTH).double(), random(2, 5, WIDTH, seed=1).double()
    mask = attention.padding_mask(torch.arange(5) < torch.tensor([[5], [2]]))
    index = torch.tensor([1, 0, 1])
    wanted = network(x[index], memory[index], memory_mask=mask[index])[:, 2:3]
    for given in (mask, None):
        _, state = network.step(x[:, :1], network.start(memory, given))
        _, state = network.step(x[:, 1:2], state)
        row, after = network.step(x[index, 2:3], state.rows(index))
        assert torch.allclose(row, wanted) == (given is not None)
        assert all(t.shape[0] == 3 for cache in after.caches for t in cache)
    one_for_all = network.start(memory, mask[:1])
    assert one_for_all.rows(index).memory_mask.shape == (3, 1, 1, 5)


def test_a_decoder_never_looks_ahead_whatever_the_mask():
    network = decoder()
    x, memory = random(1, 4, WIDTH).double(), random(1, 3, WIDTH, seed=1).double()
    changed = x.clone()
    changed[:, 3] += 1
    everything = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    for mask in (None, everything):
        before, after = network(x, memory, mask), network(changed, memory, mask)
        assert before[:, :3].equal(after[:, :3]) and not before[:, 3].equal(after[:, 3])
    first_hidden = torch.tensor([False, True, True, True])
    changed = x.clone()
    changed[:, 0] += 1
    assert network(x, memory, first_hidden)[:, 1:].equal(
        network(changed, memory, first_hidden)[:, 1:]
    )


@pytest.mark.parametrize("pre_norm", [True, False])
def test_padding_changes_nothing_for_real_tokens(pre_norm):
    torch.manual_seed(0)
    network = attention.Encoder(replace(CONFIG, pre_norm=pre_norm)).eval()
    x, real = random(1, 6, WIDTH), torch.arange(6)[None] < 4
    padded = network(x, attention.padding_mask(real))
    torch.testing.assert_close(padded[:, :4], network(x[:, :4]))


def test_stacks_know_the_order_unless_positions_are_none():
    order, x = torch.tensor([2, 0, 1]), random(1, 3, WIDTH)
    for positions in attention.POSITIONS:
        torch.manual_seed(0)
        network = attention.Encoder(replace(CONFIG, positions=positions)).eval()
        same = torch.allclose(network(x)[:, order], network(x[:, order]), atol=1e-3)
        assert same == (positions == "none"), positions


def test_pre_norm_ends_with_a_norm_and_post_norm_does_in_each_layer():
    for pre_norm in (True, False):
        network = attention.Encoder(replace(CONFIG, pre_norm=pre_norm)).eval()
        output = network(5 + 3 * random(2, 4, WIDTH))
        torch.testing.assert_close(output.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
        assert isinstance(network.norm, nn.LayerNorm) == pre_norm
    network = attention.Decoder(replace(CONFIG, norm_eps=1e-3))
    assert {m.eps for m in network.modules() if isinstance(m, nn.LayerNorm)} == {1e-3}


@pytest.mark.parametrize(("kind", "times"), [("EncoderLayer", 2), ("DecoderLayer", 3)])
def test_a_layer_drops_out_what_each_part_makes(kind, times):
    layer, x, widths = getattr(attention, kind)(CONFIG), random(2, 3, WIDTH), []
    layer.dropout.register_forward_hook(lambda _, __, output: widths.append(output.shape[-1]))
    layer(x) if kind == "EncoderLayer" else layer(x, x)
    assert widths == [WIDTH] * times


def test_dropout_touches_embeddings_with_positions_and_every_part():
    torch.manual_seed(0)
    x = torch.ones(1, 12, WIDTH)
    network = attention.Encoder(replace(CONFIG, dropout=0.5)).train()
    assert network.place(x).eq(0).float().mean().item() == pytest.approx(0.5, abs=0.15)
    layer = network.layers[0]
    assert layer.self_attn.dropout == 0.5
    assert not layer.leave(x, x, layer.norm1).equal(2 * x)
    assert not network(x).equal(network(x)) and network.eval()(x).equal(network(x))


# --- refusals ----------------------------------------------------------------------------------

QKV = (torch.zeros(2, 3, 8), torch.zeros(2, 5, 8), torch.zeros(2, 5, 8))
BAD_MASKS = {
    r"mask is torch.float32 of shape \(3, 5\); allowed is torch.bool": torch.ones(3, 5),
    r"mask is torch.int64 .*; allowed is torch.bool": torch.ones(3, 5, dtype=torch.int64),
    r"of shape \(5, 3\); allowed is torch.bool, broadcast to \(2, 3, 5\)": torch.ones(5, 3) > 0,
    r"of shape \(1, 2, 3, 5\); allowed": torch.ones(1, 2, 3, 5) > 0,
    r"of shape \(4, 3, 5\); allowed": torch.ones(4, 3, 5) > 0,
}


@forms
@pytest.mark.parametrize("said", BAD_MASKS)
def test_a_wrong_mask_is_refused(form, said):
    with pytest.raises(ValueError, match=said):
        form(*QKV, BAD_MASKS[said])


REFUSALS = {
    r"mask is torch.float32 .*; allowed is torch.bool, broadcast to \(2, 4, 3, 3\)": lambda: (
        attention.Decoder(CONFIG)(*(torch.zeros(2, 3, WIDTH),) * 2, torch.ones(3, 3))
    ),
    "heads is 3; allowed are divisors of the width 16": lambda: replace(CONFIG, heads=3),
    "heads is 0; allowed are whole numbers": lambda: attention.MultiHeadAttention(16, 0),
    "width is -4; allowed are whole": lambda: attention.MultiHeadAttention(-4, 2),
    "dropout is 1.0; allowed are shares": lambda: attention.MultiHeadAttention(16, 4, 1.0),
    "width / heads.* is 1; allowed are even": lambda: attention.MultiHeadAttention(
        4, 4, rotary=True
    ),
    r"query has shape \(2, 3, 8\); allowed is \(B, length, 16\)": lambda: (
        attention.MultiHeadAttention(16, 4)(torch.zeros(2, 3, 8), torch.zeros(2, 3, 16))
    ),
    r"source has shape \(3, 16\); allowed": lambda: attention.MultiHeadAttention(16, 4)(
        torch.zeros(2, 3, 16), torch.zeros(3, 16)
    ),
    r"real is torch.int64 of shape \(2, 3\)": lambda: attention.padding_mask(
        torch.ones(2, 3, dtype=torch.int64)
    ),
    r"real is torch.bool of shape \(3,\)": lambda: attention.padding_mask(torch.ones(3) > 0),
    "width is 7; allowed are even": lambda: attention.sinusoidal_positions(4, 7),
    "the last axis of x is 3; allowed": lambda: attention.rotate(torch.ones(2, 3), torch.arange(2)),
    "hidden is 1.5; allowed are whole": lambda: replace(CONFIG, hidden=1.5),
    "layers is 0; allowed": lambda: replace(CONFIG, layers=0),
    "max_length is 0; allowed": lambda: replace(CONFIG, max_length=0),
    "dropout is -0.1; allowed": lambda: replace(CONFIG, dropout=-0.1),
    "activation is 'tanh'; allowed are relu, gelu, gelu_tanh": lambda: replace(
        CONFIG, activation="tanh"
    ),
    "positions is 'cosine'; allowed are sinusoidal, learned, rotary, none": lambda: replace(
        CONFIG, positions="cosine"
    ),
    "norm_eps is 0; allowed": lambda: replace(CONFIG, norm_eps=0),
    "width is 15; allowed are even": lambda: replace(CONFIG, width=15, heads=5),
    "length is 13; allowed are up to 12": lambda: attention.Encoder(CONFIG)(
        torch.zeros(1, 13, WIDTH)
    ),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_nonsense_is_refused(said):
    with pytest.raises(ValueError, match=said):
        REFUSALS[said]()
