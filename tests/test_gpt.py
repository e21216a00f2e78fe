"""Chapter 09's GPT: causality, loss, cache, generation, checkpoints, readiness."""

from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from course_lib import gpt2, pretrained, sampling
from course_lib.batches import IGNORED
from course_lib.gpt import GPT, Cache, GPTConfig, generate, gpt_loss
from course_lib.optimizers import hidden_weights

CONFIG = GPTConfig(vocabulary=11, length=12, width=16, heads=2, layers=2)
KINDS = {
    "learned": CONFIG,
    "rotary": replace(CONFIG, positions="rotary", tied=False),
    "no bias": replace(CONFIG, bias=False, hidden=24, activation="relu"),
}


def make(kind="learned", **changes):
    torch.manual_seed(0)
    model = GPT(replace(KINDS[kind], **changes)).eval()
    for parameter in model.parameters():  # large enough that a mistake shows
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def some_ids(batch=3, length=12, seed=1):
    return torch.randint(11, (batch, length), generator=torch.Generator().manual_seed(seed))


def labels_for(ids):
    """What follows, of the first row's beginning and of all of the last row nothing."""
    labels = torch.cat((ids[:, 1:], ids[:, :1]), dim=1)
    labels[0, :4], labels[-1] = IGNORED, IGNORED
    return labels


# --- the model ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_symbol_moves_no_earlier_logits(kind):
    model, ids = make(kind), some_ids()
    before = model(ids)
    for place in range(12):
        changed = ids.clone()
        changed[:, place] = (ids[:, place] + 1) % 11
        moved = (model(changed) - before).abs().amax((0, 2)) > 1e-4
        assert moved.tolist() == [False] * place + [True] * (12 - place)


def test_the_order_of_the_past_matters():
    for kind in KINDS:
        ids = torch.tensor([[1, 2, 3, 4]])
        changed = torch.tensor([[2, 1, 3, 4]])
        model = make(kind)
        assert (model(ids) - model(changed))[:, -1].abs().max() > 1e-3


def test_weights_start_as_gpt2_draws_them():
    torch.manual_seed(0)
    model = GPT(replace(CONFIG, width=128, layers=8))
    for name, parameter in model.named_parameters():
        wanted = 0.005 if name.endswith(("out_proj.weight", "linear2.weight")) else 0.02
        if parameter.ndim > 1:
            assert parameter.std().item() == pytest.approx(wanted, rel=0.1), name
        else:
            assert (parameter == (1 if "norm" in name and "weight" in name else 0)).all(), name
    assert model.head.weight is model.embedding.weight


def test_muon_gets_the_matrices_of_all_layers():
    model = make("rotary")
    hidden = {id(p) for p in hidden_weights(model)}
    wanted = {id(p) for p in model.stack.layers.parameters() if p.ndim > 1}
    assert hidden == wanted and len(wanted) == 8


def test_dropout_acts_in_training_only():
    model, ids = make(dropout=0.5), some_ids()
    torch.testing.assert_close(model(ids), make()(ids))
    model.train()
    assert (model(ids) - model(ids)).abs().max() > 0.01


# --- the loss ----------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_labels_that_count():
    model, ids = make(), some_ids()
    labels = labels_for(ids)
    chances = model(ids).log_softmax(-1)
    wanted = [
        -chances[row, place, labels[row, place]]
        for row in range(3)
        for place in range(12)
        if labels[row, place] >= 0
    ]
    assert len(wanted) == 20
    torch.testing.assert_close(gpt_loss(model, (ids, labels)), torch.stack(wanted).mean())


def test_ignored_places_have_no_gradient():
    model, ids = make(), some_ids()
    labels = labels_for(ids)
    logits = model(ids).detach().requires_grad_()
    gpt_loss(lambda _: logits, (ids, labels)).backward()
    assert torch.equal(logits.grad.abs().sum(-1) > 0, labels != IGNORED)


def test_a_loss_of_nothing_is_0_and_has_gradients_of_0():
    model, ids = make(), some_ids()
    value = gpt_loss(model, (ids, torch.full_like(ids, IGNORED)))
    value.backward()
    assert value == 0
    assert all(parameter.grad.eq(0).all() for parameter in model.parameters())


# --- cache and generation ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_changes_no_logits_whatever_was_read_at_once(kind):
    model, ids = make(kind), some_ids()
    wanted = model(ids)
    for cuts in ([1] * 12, [5] + [1] * 7, [11, 1], [12], [3, 4, 1, 4]):
        cache, place = Cache(model, 3), 0
        for part in ids.split(cuts, dim=1):
            place += part.shape[1]
            torch.testing.assert_close(cache.read(part), wanted[:, place - 1], rtol=0, atol=1e-5)
        assert cache.filled == 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [1, 2, 7])
def test_greedy_generation_is_what_no_cache_would_write(kind, given):
    model, prompt = make(kind), some_ids(4, given)
    ids = prompt
    for _ in range(12 - given):
        ids = torch.cat((ids, model(ids)[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert torch.equal(generate(model, prompt, 12 - given), ids)


def test_rows_are_written_as_if_alone():
    model, prompt = make(), some_ids(4, 3)
    together = generate(model, prompt, 9)
    for row in range(4):
        assert torch.equal(generate(model, prompt[row : row + 1], 9)[0], together[row])


def test_sampling_follows_the_generator():
    model, prompt = make(), torch.zeros(50, 1, dtype=torch.int64)
    write = partial(generate, model, prompt, 5, choose=partial(sampling.sample, temperature=2.0))
    first = write(generator=torch.Generator().manual_seed(0))
    assert torch.equal(first, write(generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(first, write(generator=torch.Generator().manual_seed(1)))
    chances = sampling.probabilities(model(prompt[:1])[0, -1], temperature=2.0)
    many = generate(
        model, prompt[:1].expand(5000, 1), 1, choose=partial(sampling.sample, temperature=2.0)
    )
    shares = torch.bincount(many[:, 1], minlength=11) / 5000
    assert (shares - chances).abs().max() < 0.03


def test_the_last_place_of_the_context_can_be_used_and_no_more():
    model = make()
    assert generate(model, some_ids(1, 4), 9).shape == (1, 13)  # the 13th sees 12
    with pytest.raises(ValueError, match=r"length is 13; allowed are up to 12.*slide=True"):
        generate(model, some_ids(1, 4), 10)
    with pytest.raises(ValueError, match="length is 13; allowed are up to 12"):
        model(some_ids(1, 13))
    with pytest.raises(ValueError, match="length is 13"):
        Cache(model, 1).read(some_ids(1, 13))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [1, 8, 12, 15])
def test_sliding_forgets_the_older_half_whenever_the_context_is_full(kind, given):
    model, prompt = make(kind), some_ids(2, given)
    ids, seen = prompt[:, -12:], min(given, 12)
    wanted = prompt
    for _ in range(30):
        following = model(ids[:, -seen:])[:, -1].argmax(-1, keepdim=True)
        wanted, ids = torch.cat((wanted, following), 1), torch.cat((ids, following), 1)
        seen = seen + 1 if seen < 12 else 6
    assert torch.equal(generate(model, prompt, 30, slide=True), wanted)


def test_what_was_written_can_be_trained_on():
    model = make()
    ids = generate(model, some_ids(2, 3), 5)
    gpt_loss(model, (ids[:, :-1], ids[:, 1:])).backward()
    assert model.embedding.weight.grad.abs().sum() > 0


def test_generation_switches_dropout_off_and_leaves_the_mode():
    model = make(dropout=0.5).train()
    prompt = some_ids(2, 3)
    assert torch.equal(generate(model, prompt, 9), generate(make(), prompt, 9)) and model.training


# --- checkpoints -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    make().save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, change_config=None, change=None):
    config, tensors = pretrained.read_folder(folder)
    if change:
        change(tensors)
    pretrained.write_folder(folder, config | (change_config or {}), tensors)


def test_what_is_saved_comes_back(folder):
    model = GPT.from_pretrained(folder)
    assert asdict(model.config) == asdict(CONFIG) and not model.training
    torch.testing.assert_close(model(some_ids()), make()(some_ids()))


def test_an_untied_head_is_saved_too(tmp_path):
    model = make(tied=False, activation="gelu", hidden=20)
    model.save_pretrained(tmp_path)
    back = GPT.from_pretrained(tmp_path)
    assert back.head.weight is not back.embedding.weight
    torch.testing.assert_close(back(some_ids()), model(some_ids()))


def test_masks_a_repeated_head_and_a_missing_prefix_are_understood(folder):
    def change(tensors):
        plain = {name.removeprefix("transformer."): t for name, t in tensors.items()}
        tensors.clear()
        tensors.update(plain, **{"lm_head.weight": plain["wte.weight"].clone()})
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 12, 12)
        tensors["h.1.attn.masked_bias"] = torch.tensor(-1e4)

    rewrite(folder, change=change)
    torch.testing.assert_close(GPT.from_pretrained(folder)(some_ids()), make()(some_ids()))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("transformer.h.1.ln_2.bias"), "missing: stack.layers.1.norm2.bias"),
        (lambda t: t.pop("transformer.wte.weight"), "missing: embedding.weight and 1 more"),
        (
            lambda t: t.update({"transformer.h.2.ln_1.bias": torch.ones(16)}),
            "surplus: transformer.h.2.ln_1.bias",
        ),
        (
            lambda t: t.update({"transformer.h.0.mlp.c_fc.weight": torch.ones(64, 16)}),
            r"stack.layers.0.linear1.weight \(16, 64\), allowed is \(64, 16\)",
        ),
    ],
)
def test_a_wrong_tensor_is_named(folder, change, message):
    rewrite(folder, change=change)
    with pytest.raises(ValueError, match=message):
        GPT.from_pretrained(folder)


def test_a_truncated_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(pretrained.DataError, match="model.safetensors is damaged"):
        GPT.from_pretrained(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "bert"}, "model_type 'bert'; allowed is 'gpt2'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ({"activation_function": "silu"}, "activation_function 'silu'; allowed are gelu_new"),
        ({"n_head": 3}, "heads is 3; allowed are divisors of the width 16"),
    ],
)
def test_a_config_that_asks_for_another_model_is_refused(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        GPT.from_pretrained(folder)


def test_a_config_that_lacks_a_size_is_refused():
    with pytest.raises(ValueError, match="config lacks n_positions"):
        gpt2.our_config({"vocab_size": 5})


@pytest.mark.parametrize(
    "kind, message", [("rotary", "positions is 'rotary'"), ("no bias", "bias")]
)
def test_what_is_no_gpt2_is_not_saved_as_one(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message):
        make(kind).save_pretrained(tmp_path)


# --- bad arguments, precision ------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: GPTConfig(0, 8), "vocabulary is 0; allowed are whole numbers from 1"),
        (lambda: GPTConfig(8, 0), "length is 0"),
        (lambda: GPTConfig(8, 8, positions="none"), "positions is 'none'; allowed are learned"),
        (lambda: GPTConfig(8, 8, heads=3), "heads is 3"),
        (lambda: make()(torch.zeros(3, dtype=torch.int64)), r"ids has shape \(3,\)"),
        (lambda: generate(make(), some_ids()[:, :0], 3), r"prompt has shape \(3, 0\)"),
        (lambda: generate(make(), some_ids(), 0), "count is 0; allowed are whole numbers from 1"),
    ],
)
def test_what_cannot_be_used_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_generation_under_autocast_and_in_float64():
    prompt = some_ids(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert generate(make(), prompt, 9).shape == (2, 12)
    assert torch.equal(generate(make().double(), prompt, 9), generate(make(), prompt, 9))


def test_the_loss_learns_a_pattern():
    torch.manual_seed(0)
    model = GPT(replace(CONFIG, tied=False))
    ids = (torch.arange(11)[:, None] + torch.arange(13)) % 11  # counting up
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        gpt_loss(model, (ids[:, :-1], ids[:, 1:])).backward()
        optimizer.step()
    assert torch.equal(generate(model, ids[:, :2], 11), ids)
    assert F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()) < 0.1
