"""BERT: what each input does, what a padded token cannot do, losses, freezing, files."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from course_lib import bert
from course_lib.checksums import DataError

CONFIG = bert.BertConfig(vocabulary=30, width=16, heads=4, layers=3, hidden=24, max_length=10)
IDS = torch.tensor([[2, 5, 6, 3, 7, 8, 3], [2, 9, 3, 4, 3, 0, 0]])
SEGMENTS = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]])
REAL = IDS != 0
POSITIONS = torch.tensor([[1, 4], [3, 0]])
LABELS = torch.tensor([[11, 12], [13, bert.IGNORED]])
IS_NEXT = torch.tensor([1, 0])
BATCH = (IDS, SEGMENTS, REAL, POSITIONS, LABELS, IS_NEXT)


def model(kind=bert.Bert, *arguments, dropout=0.0, seed=0):
    torch.manual_seed(seed)
    made = kind(replace(CONFIG, dropout=dropout), *arguments)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)  # biases begin as zeros
    return made


def classifier(pool="cls", dropout=0.0):
    return bert.BertClassifier(model(dropout=dropout), 3, pool)


# --- what the inputs do ------------------------------------------------------------------------


def test_embeddings_are_a_sum_of_three_then_a_norm():
    net = model()
    words, positions, segments = (
        table.weight
        for table in (net.word_embedding, net.position_embedding, net.segment_embedding)
    )
    wanted = net.norm(words[8] + positions[5] + segments[1])
    torch.testing.assert_close(net.embed(IDS, SEGMENTS)[0, 5], wanted)


def test_segments_matter_and_none_means_the_first_text():
    net = model()
    assert not torch.allclose(net(IDS, SEGMENTS), net(IDS, 1 - SEGMENTS), atol=1e-2)
    torch.testing.assert_close(net(IDS), net(IDS, torch.zeros_like(IDS)))


def test_positions_matter():
    net = model()
    turned = net(IDS.flip(1)).flip(1)
    assert not torch.allclose(net(IDS), turned, atol=1e-2)


def test_padding_leaks_into_nothing():
    net = model()
    hidden = net(IDS, SEGMENTS, REAL)
    other = torch.where(REAL, IDS, 17)
    torch.testing.assert_close(net(other, SEGMENTS, REAL)[REAL], hidden[REAL])
    assert not torch.allclose(net(other, SEGMENTS)[REAL], hidden[REAL], atol=1e-2)


def test_a_padded_text_is_the_text_alone():
    net = model()
    alone = net(IDS[1:, :5], SEGMENTS[1:, :5])
    torch.testing.assert_close(net(IDS, SEGMENTS, REAL)[1, :5], alone[0])


def test_it_looks_in_both_directions():
    net = model()
    changed = IDS.clone()
    changed[0, 6] = 20
    assert not torch.allclose(net(changed)[0, 0], net(IDS)[0, 0], atol=1e-3)
    changed = IDS.clone()
    changed[0, 0] = 20
    assert not torch.allclose(net(changed)[0, 6], net(IDS)[0, 6], atol=1e-3)


def test_attention_maps():
    net = model()
    maps = net.attention_maps(IDS, SEGMENTS, REAL)
    assert maps.shape == (2, 3, 4, 7, 7)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 4, 7))
    assert (maps[1, ..., 5:] == 0).all()  # nothing is taken from padding
    x = net.embed(IDS, SEGMENTS)
    x = net.encoder.layers[0](x, REAL[:, None, None])
    layer = net.encoder.layers[1].self_attn
    torch.testing.assert_close(maps[:, 1], layer.weights(x, mask=REAL[:, None, None]))


def test_the_pooler_reads_the_first_token_only():
    net = model()
    hidden = torch.randn(2, 7, 16, requires_grad=True)
    pooled = net.pool(hidden)
    assert pooled.shape == (2, 16) and pooled.abs().max() <= 1
    pooled.sum().backward()
    assert hidden.grad[:, 0].abs().min() > 0 and (hidden.grad[:, 1:] == 0).all()


def test_first_weights_are_as_bert_draws_them():
    torch.manual_seed(0)
    net = bert.BertForPretraining(replace(CONFIG, vocabulary=500, width=64, hidden=128))
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            small = parameter.numel() < 1000
            assert parameter.std().item() == pytest.approx(0.02, rel=0.3 if small else 0.08), name
        else:
            assert (parameter == ("norm" in name and name.endswith("weight"))).all(), name


# --- pretraining -------------------------------------------------------------------------------


def test_only_masked_positions_reach_the_words_head():
    net = model(bert.BertForPretraining)
    words, following = net(IDS, SEGMENTS, REAL, POSITIONS)
    assert words.shape == (2, 2, 30) and following.shape == (2, 2)
    hidden = net.bert(IDS, SEGMENTS, REAL)
    torch.testing.assert_close(words[1, 0], net.words(hidden)[1, 3])
    torch.testing.assert_close(words[0, 1], net.words(hidden)[0, 4])


def test_the_words_head_shares_the_word_embeddings():
    net = model(bert.BertForPretraining)
    before = net(IDS, SEGMENTS, REAL, POSITIONS)[0]
    with torch.no_grad():
        net.bert.word_embedding.weight[25] += 1  # a word that does not occur
    after = net(IDS, SEGMENTS, REAL, POSITIONS)[0]
    changed = (before != after).any(0).any(0)
    assert changed.nonzero().flatten().tolist() == [25]


def test_the_loss_is_the_sum_of_two_means():
    net = model(bert.BertForPretraining)
    words, following = net(IDS, SEGMENTS, REAL, POSITIONS)
    words, following = words.log_softmax(-1), following.log_softmax(-1)
    masked = -(words[0, 0, 11] + words[0, 1, 12] + words[1, 0, 13]) / 3
    pairs = -(following[0, 1] + following[1, 0]) / 2  # class 1 is IsNext
    torch.testing.assert_close(bert.pretraining_loss(net, BATCH), masked + pairs)
    bools = (*BATCH[:-1], IS_NEXT.bool())
    torch.testing.assert_close(bert.pretraining_loss(net, bools), masked + pairs)


def test_ignored_labels_give_no_loss_and_no_gradient():
    net = model(bert.BertForPretraining)
    elsewhere = POSITIONS.clone()
    elsewhere[1, 1] = 4  # where the label is ignored
    first = bert.pretraining_loss(net, BATCH)
    second = bert.pretraining_loss(net, (IDS, SEGMENTS, REAL, elsewhere, LABELS, IS_NEXT))
    torch.testing.assert_close(first, second)


def test_a_batch_without_masked_words_has_a_finite_loss():
    net = model(bert.BertForPretraining)
    nothing = torch.full_like(LABELS, bert.IGNORED)
    loss = bert.pretraining_loss(net, (IDS, SEGMENTS, REAL, POSITIONS, nothing, IS_NEXT))
    loss.backward()
    _, following = net(IDS, SEGMENTS, REAL, POSITIONS)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(following, IS_NEXT))
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def test_it_learns_a_batch_by_heart():
    net = model(bert.BertForPretraining)
    optimizer = torch.optim.AdamW(net.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = bert.pretraining_loss(net, BATCH)
        loss.backward()
        optimizer.step()
    assert loss < 0.05


# --- classification ----------------------------------------------------------------------------


def test_the_mean_is_over_real_tokens():
    hidden = torch.randn(2, 7, 16)
    mean = bert.mean_of_real(hidden, REAL)
    torch.testing.assert_close(mean[1], hidden[1, :5].mean(0))
    torch.testing.assert_close(bert.mean_of_real(hidden), hidden.mean(1))
    nothing = bert.mean_of_real(hidden, torch.zeros_like(REAL))
    assert (nothing == 0).all()


@pytest.mark.parametrize("pool", bert.POOLS)
def test_a_classifier(pool):
    net = classifier(pool)
    hidden = net.bert(IDS, SEGMENTS, REAL)
    pooled = net.bert.pool(hidden) if pool == "cls" else bert.mean_of_real(hidden, REAL)
    torch.testing.assert_close(net(IDS, SEGMENTS, REAL), net.output(pooled))
    net(IDS, SEGMENTS, REAL).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_classifier_takes_the_configs_dropout_or_its_own():
    assert classifier(dropout=0.3).dropout.p == 0.3
    assert bert.BertClassifier(model(dropout=0.3), 2, dropout=0.0).dropout.p == 0.0


# --- freezing ----------------------------------------------------------------------------------


def trained(net):
    return {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_freeze_the_lowest_layers(count):
    net = model()
    bert.freeze(net)
    assert not trained(net)
    bert.freeze(net, count)
    assert trained(net) == ({"encoder", "pooler"} if count < 3 else {"pooler"})
    for number, layer in enumerate(net.encoder.layers):
        assert all(p.requires_grad == (number >= count) for p in layer.parameters())


def test_a_frozen_part_does_not_move():
    net = classifier("mean")
    bert.freeze(net.bert, 2)
    before = {name: p.clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    nn.functional.cross_entropy(net(IDS, SEGMENTS, REAL), IS_NEXT).backward()
    optimizer.step()
    for name, parameter in net.named_parameters():
        above = name.startswith(("bert.encoder.layers.2", "output"))
        assert torch.equal(parameter, before[name]) != above, name


# --- files -------------------------------------------------------------------------------------


def edit(folder, change):
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(change(tensors), path, {"format": "pt"})


def without(tensors, name):
    return {other: tensor for other, tensor in tensors.items() if other != name}


@pytest.mark.parametrize("pooler", [True, False])
def test_round_trip(tmp_path, pooler):
    net = model(bert.Bert, pooler).eval()
    net.save_pretrained(tmp_path)
    again = bert.Bert.from_pretrained(tmp_path)
    assert again.config == net.config and not again.training
    assert list(again.state_dict()) == list(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), net.parameters(), strict=True))
    if not pooler:
        with pytest.raises(ValueError, match="pooler is None"):
            again.pool(again(IDS))


def test_round_trip_of_the_heads(tmp_path):
    net = model(bert.BertForPretraining).eval()
    net.save_pretrained(tmp_path)
    again = bert.BertForPretraining.from_pretrained(tmp_path)
    for ours, theirs in zip(again(*BATCH[:4]), net(*BATCH[:4]), strict=True):
        assert torch.equal(ours, theirs)
    alone = bert.Bert.from_pretrained(tmp_path)  # the heads are left aside
    assert torch.equal(alone(IDS), net.bert(IDS))


def test_the_configs_dropout_can_be_replaced(tmp_path):
    model(dropout=0.1).save_pretrained(tmp_path)
    assert bert.Bert.from_pretrained(tmp_path).dropout.p == 0.1
    net = bert.Bert.from_pretrained(tmp_path, dropout=0.0).train()
    assert torch.equal(net(IDS), net(IDS))


def test_names_of_old_files(tmp_path):
    net = model().eval()
    net.save_pretrained(tmp_path)

    def old(tensors):
        def spelled(name):
            name = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")
            return "bert." + name

        renamed = {spelled(name): tensor for name, tensor in tensors.items()}
        return {**renamed, "bert.embeddings.position_ids": torch.arange(10)[None]}

    edit(tmp_path, old)
    assert torch.equal(bert.Bert.from_pretrained(tmp_path)(IDS), net(IDS))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: without(t, "encoder.layer.1.attention.self.key.weight"), "missing: .*self.key"),
        (lambda t: without(t, "pooler.dense.bias"), "missing: pooler.dense.bias"),
        (lambda t: {**t, "encoder.layer.3.odd": torch.ones(1)}, "surplus: encoder.layer.3.odd"),
        (
            lambda t: {**t, "encoder.layer.2.output.dense.weight": torch.ones(24, 16)},
            r"of another shape: .*2.output.dense.weight \(24, 16\), allowed is \(16, 24\)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path, change, message):
    model().save_pretrained(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        bert.Bert.from_pretrained(tmp_path)


def test_heads_must_be_there_to_pretrain_on(tmp_path):
    model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="missing: cls.predictions.bias"):
        bert.BertForPretraining.from_pretrained(tmp_path)


def test_an_output_layer_of_its_own_is_refused(tmp_path):
    net = model(bert.BertForPretraining)
    net.save_pretrained(tmp_path)
    copy = {"cls.predictions.decoder.weight": net.bert.word_embedding.weight.detach().clone()}
    edit(tmp_path, lambda tensors: {**tensors, **copy})
    bert.BertForPretraining.from_pretrained(tmp_path)
    copy["cls.predictions.decoder.weight"][3] += 1
    edit(tmp_path, lambda tensors: {**tensors, **copy})
    with pytest.raises(ValueError, match="decoder.weight differs from embeddings.word_embeddings"):
        bert.BertForPretraining.from_pretrained(tmp_path)


def test_a_truncated_file_is_named(tmp_path):
    model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.safetensors is damaged or cut short"):
        bert.Bert.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; allowed is 'bert'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; allowed is 'gelu'"),
        ({"is_decoder": True}, "is_decoder is True; allowed is False"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"num_attention_heads": 5}, "heads is 5; allowed are divisors of the width 16"),
    ],
)
def test_a_config_of_another_model_is_refused(tmp_path, change, message):
    from course_lib import pretrained

    model().save_pretrained(tmp_path)
    config, tensors = pretrained.read_folder(tmp_path)
    config = {name: value for name, value in {**config, **change}.items() if value is not None}
    pretrained.write_folder(tmp_path, config, tensors)
    with pytest.raises(ValueError, match=message):
        bert.Bert.from_pretrained(tmp_path)


# --- bad arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: replace(CONFIG, vocabulary=0),
            "vocabulary is 0; allowed are whole",
        ),
        (lambda: replace(CONFIG, segments=0), "segments is 0"),
        (lambda: replace(CONFIG, heads=3), "heads is 3; allowed are divisors"),
        (lambda: replace(CONFIG, dropout=1.0), "dropout is 1.0; allowed are shares"),
        (lambda: replace(CONFIG, norm_eps=0.0), "norm_eps is 0.0; allowed are finite"),
        (lambda: model()(IDS[0]), r"ids has shape \(7,\); allowed is \(B, length from 1 to 10\)"),
        (lambda: model()(torch.ones(1, 11).long()), r"ids has shape \(1, 11\)"),
        (lambda: model()(IDS[:, :0]), r"ids has shape \(2, 0\)"),
        (lambda: model()(IDS, SEGMENTS[:, :3]), r"segments has shape \(2, 3\); allowed is that of"),
        (lambda: model()(IDS, None, REAL[:1]), r"real has shape \(1, 7\)"),
        (lambda: model()(IDS, None, REAL.long()), "real is torch.int64 .*allowed is torch.bool"),
        (lambda: classifier("max"), "pool is 'max'; allowed are cls, mean"),
        (
            lambda: bert.BertClassifier(model(bert.Bert, False), 2),
            "pool is 'cls'; allowed",
        ),
        (lambda: bert.BertClassifier(model(), 0), "classes is 0"),
        (lambda: bert.freeze(model(), 4), "layers is 4; allowed are 0 to 3"),
        (lambda: bert.freeze(model(), -1), "layers is -1"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@torch.no_grad()
def test_rotary_positions_tell_places_apart_without_the_table():
    for rotary in (False, True):
        net = bert.Bert(replace(CONFIG, rotary=rotary)).eval()
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        nn.init.zeros_(net.position_embedding.weight)
        states, turned = net(IDS), net(IDS.flip(1)).flip(1)
        assert torch.allclose(states, turned, atol=1e-5) != rotary


def test_a_folder_for_others_refuses_rotary_positions(tmp_path):
    net = bert.Bert(replace(CONFIG, rotary=True))
    with pytest.raises(ValueError, match="rotary is True"):
        net.save_pretrained(tmp_path / "net")
    assert not (tmp_path / "net").exists()
