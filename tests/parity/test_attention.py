"""Attention, heads and layers against torch's, in float64: outputs and gradients for every mask."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import attention, dot_product

B, HEADS, T, S, WIDTH, HIDDEN = 3, 4, 6, 5, 16, 24
CONFIG = attention.TransformerConfig(WIDTH, HEADS, 2, HIDDEN, positions="none")
REAL = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()
HOLED = torch.ones(T, T).bool().tril()
HOLED[2] = False  # a row with nothing to attend to
MASKS = {
    "none": lambda length: None,
    "padding": lambda length: attention.padding_mask(REAL[:, :length]),
    "causal": lambda length: attention.causal_mask(T)[:, :length],
    "both": lambda length: (
        attention.padding_mask(REAL[:, :length]) & attention.causal_mask(T)[:, :length]
    ),
    "nothing": lambda length: HOLED[:, :length],
}
FULL = [name for name in MASKS if name != "nothing"]  # where torch gives no NaN


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def compare(ours, theirs, *inputs):
    """Output and gradients of every input, and of what carries the same name in both modules."""
    found = []
    for function in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        output = function(*leaves)
        (output * random(*output.shape, seed=9)).sum().backward()
        parameters = {}
        if isinstance(function, nn.Module):
            parameters = {name: p.grad for name, p in function.named_parameters()}
        found.append((output.detach(), [x.grad for x in leaves], parameters))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


def banned(mask):
    """Our mask as torch's modules want it: (B * heads, T, S), True = may not."""
    return None if mask is None else ~mask.expand(B, HEADS, T, mask.shape[-1]).flatten(0, 1)


class Call(nn.Module):
    """A module with arguments of its own, so that `compare` sees its parameters."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module.double(), call

    def forward(self, *inputs):
        return self.call(self.module, *inputs)


# --- one head ----------------------------------------------------------------------------------

FORMS = {
    "by hand": lambda *arguments: attention.attention_by_hand(*arguments)[0],
    "fused": attention.attention_fused,
    "chosen": attention.attention,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MASKS)
def test_one_head_with_every_mask(form, name):
    mask = MASKS[name](S)
    q, k, v = random(B, HEADS, T, 8), random(B, HEADS, S, 8, seed=1), random(B, HEADS, S, 3, seed=2)
    compare(
        lambda q, k, v: FORMS[form](q, k, v, mask),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask),
        q,
        k,
        v,
    )


@pytest.mark.parametrize("name", MASKS)
def test_the_two_forms_agree_beyond_the_length_where_the_choice_changes(name, monkeypatch):
    mask = MASKS[name](S)
    inputs = [random(B, HEADS, length, 8, seed=length) for length in (T, S, S)]
    outputs = []
    for limit in (0, S - 1, S):
        monkeypatch.setattr(dot_product, "MATMUL_UP_TO", {torch.float64: limit})
        outputs.append(attention.attention(*inputs, mask))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    torch.testing.assert_close(outputs[0], outputs[2], rtol=1e-12, atol=1e-12)


# --- several heads -----------------------------------------------------------------------------


def heads(bias=True, rotary=False):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, batch_first=True).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases begin as zeros
    ours = attention.MultiHeadAttention(WIDTH, HEADS, bias=bias).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", FULL)
def test_self_attention(bias, name):
    ours, theirs = heads(bias)
    mask = MASKS[name](T)
    compare(
        Call(ours, lambda module, x: module(x, mask=mask)),
        Call(theirs, lambda module, x: module(x, x, x, attn_mask=banned(mask))[0]),
        random(B, T, WIDTH),
    )


@pytest.mark.parametrize("name", FULL)
def test_attention_to_another_sequence(name):
    ours, theirs = heads()
    mask = MASKS[name](S)
    compare(
        Call(ours, lambda module, x, source: module(x, source, mask)),
        Call(theirs, lambda module, x, s: module(x, s, s, attn_mask=banned(mask))[0]),
        random(B, T, WIDTH),
        random(B, S, WIDTH, seed=1),
    )


@pytest.mark.parametrize("name", FULL)
def test_the_weights(name):
    ours, theirs = heads()
    mask, x, source = MASKS[name](S), random(B, T, WIDTH), random(B, S, WIDTH, seed=1)
    _, wanted = theirs(
        x, source, source, attn_mask=banned(mask), need_weights=True, average_attn_weights=False
    )
    torch.testing.assert_close(ours.weights(x, source, mask), wanted, rtol=1e-9, atol=1e-12)


def test_rows_with_nothing_are_zeros_and_the_others_are_torchs():
    ours, theirs = heads()
    x = random(B, T, WIDTH)
    output = ours(x, mask=HOLED)
    wanted = theirs(x, x, x, attn_mask=~HOLED)[0]
    rest = [0, 1, 3, 4, 5]
    torch.testing.assert_close(output[:, rest], wanted[:, rest], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(output[:, 2], ours.out_proj.bias.expand(B, -1))


@pytest.mark.parametrize("bias", [True, False])
def test_first_weights_are_drawn_as_torchs(bias):
    torch.manual_seed(5)
    ours = attention.MultiHeadAttention(WIDTH, HEADS, bias=bias).state_dict()
    torch.manual_seed(5)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, bias=bias).state_dict()
    assert list(ours) == list(theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


# --- layers and stacks -------------------------------------------------------------------------


def layers(kind, pre_norm, activation, bias=True, count=None):
    """Our layer, or a stack of `count`, and torch's with the same weights."""
    torch.manual_seed(0)
    config = replace(CONFIG, pre_norm=pre_norm, activation=activation, bias=bias, layers=count or 1)
    approximate = {"gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}
    theirs = getattr(nn, f"Transformer{kind}Layer")(
        WIDTH,
        HEADS,
        HIDDEN,
        0.0,
        approximate.get(activation, activation),
        norm_first=pre_norm,
        batch_first=True,
        bias=bias,
    )
    if count is None:
        ours = getattr(attention, f"{kind}Layer")(config)
    else:
        norm = nn.LayerNorm(WIDTH, bias=bias) if pre_norm else None
        options = {"enable_nested_tensor": False} if kind == "Encoder" else {}
        theirs = getattr(nn, f"Transformer{kind}")(theirs, count, norm=norm, **options)
        ours = getattr(attention, kind)(config)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)  # another value than that of norms and biases
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("pre_norm", [True, False], ids=["pre", "post"])
@pytest.mark.parametrize("activation", attention.ACTIVATIONS)
@pytest.mark.parametrize("name", FULL)
def test_an_encoder_layer(pre_norm, activation, name):
    ours, theirs = layers("Encoder", pre_norm, activation)
    mask = MASKS[name](T)
    compare(
        Call(ours, lambda module, x: module(x, mask)),
        Call(theirs, lambda module, x: module(x, banned(mask))),
        random(B, T, WIDTH),
    )


@pytest.mark.parametrize("pre_norm", [True, False], ids=["pre", "post"])
@pytest.mark.parametrize("activation", attention.ACTIVATIONS)
@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("memory_name", ["none", "padding"])
def test_a_decoder_layer(pre_norm, activation, name, memory_name):
    ours, theirs = layers("Decoder", pre_norm, activation)
    mask, memory_mask = MASKS[name](T), MASKS[memory_name](S)
    compare(
        Call(ours, lambda module, x, m: module(x, m, mask, memory_mask)),
        Call(theirs, lambda module, x, m: module(x, m, banned(mask), banned(memory_mask))),
        random(B, T, WIDTH),
        random(B, S, WIDTH, seed=1),
    )


@pytest.mark.parametrize("pre_norm", [True, False], ids=["pre", "post"])
@pytest.mark.parametrize("bias", [True, False])
def test_stacks(pre_norm, bias):
    x, memory = random(B, T, WIDTH), random(B, S, WIDTH, seed=1)
    padding, causal = MASKS["padding"](T), attention.causal_mask(T)
    ours, theirs = layers("Encoder", pre_norm, "gelu", bias, count=2)
    compare(
        Call(ours, lambda module, x: module(x, padding)),
        Call(theirs, lambda module, x: module(x, banned(padding))),
        x,
    )
    ours, theirs = layers("Decoder", pre_norm, "relu", bias, count=2)
    compare(  # the causal mask is the decoder's own
        Call(ours, lambda module, x, m: module(x, m)),
        Call(theirs, lambda module, x, m: module(x, m, ~causal)),
        x,
        memory,
    )


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_stack_begins_with_weights_of_the_size_of_torchs_transformer():
    torch.manual_seed(0)
    ours = attention.Encoder(replace(CONFIG, width=64, heads=4, hidden=128)).state_dict()
    theirs = nn.Transformer(64, 4, 2, 1, 128).encoder.state_dict()
    for name in (name for name in theirs if theirs[name].ndim == 2):
        assert ours[name].std().item() == pytest.approx(theirs[name].std().item(), rel=0.05), name
