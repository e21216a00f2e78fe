"""Our GPT against transformers' GPT-2 on random weights, there and back through their folders."""

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from course_lib.batches import IGNORED
from course_lib.gpt import GPT, generate, gpt_loss
from course_lib.gpt2 import our_weights

SIZES = {"vocab_size": 23, "n_positions": 16, "n_embd": 24, "n_head": 3, "n_layer": 3}
SIZES |= {"bos_token_id": 0, "eos_token_id": None}
KINDS = {
    "gpt2": {},
    "untied, gelu": {"tie_word_embeddings": False, "activation_function": "gelu"},
    "narrow, relu": {"n_inner": 40, "activation_function": "relu", "layer_norm_epsilon": 1e-3},
}


def their_model(kind):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**SIZES, **KINDS[kind])).eval()
    for parameter in model.parameters():  # biases and norms, too: nothing may be left out
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def some_ids(length=16):
    return torch.randint(23, (4, length), generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=KINDS)
def models(request, tmp_path):
    theirs = their_model(request.param)
    theirs.save_pretrained(tmp_path)
    return GPT.from_pretrained(tmp_path), theirs


def test_logits_and_gradients_are_equal(models):
    ours, theirs = (model.double() for model in models)
    ids, labels = some_ids(), some_ids().roll(-1, 1)
    labels[:2, :5] = IGNORED
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-9, atol=1e-10)
    gpt_loss(ours, (ids, labels)).backward()
    logits = theirs(ids).logits.flatten(0, 1)
    F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED).backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    tied = ours.config.tied
    renamed = our_weights(gradients, ours.state_dict(), tied)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, renamed.pop(name), rtol=1e-8, atol=1e-10, msg=name
        )
    assert list(renamed) == (["head.weight"] if tied else [])


@pytest.mark.parametrize("given", [1, 6, 15])
def test_greedy_generation_is_equal(models, given):
    ours, theirs = models
    prompt = some_ids(given)
    options = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": 16 - given}
    wanted = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    assert torch.equal(generate(ours, prompt, 16 - given), wanted)


def test_what_we_save_transformers_loads(models, tmp_path):
    ours, _ = models
    ours.save_pretrained(tmp_path / "ours")
    again, report = GPT2LMHeadModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(again.eval()(some_ids()).logits, ours(some_ids()))


def test_one_wrong_number_is_seen(tmp_path):
    theirs = their_model("gpt2")
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    with torch.no_grad():
        ours.stack.layers[2].self_attn.in_proj_bias[-1] += 0.01
    assert (ours(some_ids()) - theirs(some_ids()).logits).abs().max() > 1e-4
