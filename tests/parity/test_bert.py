"""BERT against transformers': every tensor, hidden states, heads and gradients."""

import pytest
import torch
import transformers

from course_lib import bert, pretrained

transformers.logging.disable_progress_bar()

CONFIG = bert.BertConfig(40, width=16, heads=4, layers=3, hidden=24, max_length=12, dropout=0.1)
IDS = torch.tensor([[2, 5, 6, 3, 7, 8, 3], [2, 9, 3, 4, 3, 0, 0]])
SEGMENTS = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]])
REAL = IDS != 0
POSITIONS = torch.tensor([[1, 4], [3, 0]])
LABELS = torch.tensor([[11, 12], [13, -1]])
THEIR_LABELS = torch.tensor(
    [[-100, 11, -100, -100, 12, -100, -100], [-100] * 3 + [13] + [-100] * 3]
)
IS_NEXT = torch.tensor([1, 0])
THEIRS = {"input_ids": IDS, "attention_mask": REAL.long(), "token_type_ids": SEGMENTS}


def saved_by_transformers(folder, kind):
    """A model of theirs, all its weights drawn at random, in float64; and its folder."""
    torch.manual_seed(0)
    names = bert.bert_files.FIELDS
    config = transformers.BertConfig(**{names[n]: getattr(CONFIG, n) for n in names})
    theirs = getattr(transformers, kind)(config).double().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.3)  # another value than that of norms and biases
    theirs.save_pretrained(folder)
    return theirs


def double(kind, folder):
    """Ours from the folder, without the rounding to float32 that loading brings."""
    torch.set_default_dtype(torch.float64)
    try:
        return kind.from_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)


def compare_gradients(ours, theirs):
    """Every gradient, under their names."""
    for model in (ours, theirs):
        for parameter in model.parameters():
            parameter.data, parameter.grad = parameter.grad, None
    found = bert.bert_files.UnderTheirNames(ours).state_dict()
    wanted = {name.removeprefix("bert."): p for name, p in theirs.named_parameters()}
    assert set(found) == set(wanted)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name].data, rtol=1e-5, atol=1e-10)


def test_hidden_states_pooled_and_gradients(tmp_path):
    theirs = saved_by_transformers(tmp_path, "BertModel")
    ours = double(bert.Bert, tmp_path)
    assert ours.config == CONFIG
    wanted = theirs(**THEIRS)
    hidden = ours(IDS, SEGMENTS, REAL)
    torch.testing.assert_close(hidden[REAL], wanted.last_hidden_state[REAL], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(ours.pool(hidden), wanted.pooler_output, rtol=1e-5, atol=1e-9)
    weights = torch.randn(2, 7, 16, dtype=torch.float64) * REAL[:, :, None]
    ((hidden * weights).sum() + ours.pool(hidden).sum()).backward()
    ((wanted.last_hidden_state * weights).sum() + wanted.pooler_output.sum()).backward()
    compare_gradients(ours, theirs)


def test_attention_maps(tmp_path):
    theirs = saved_by_transformers(tmp_path, "BertModel")
    theirs.set_attn_implementation("eager")
    wanted = torch.stack(theirs(**THEIRS, output_attentions=True).attentions, dim=1)
    maps = double(bert.Bert, tmp_path).attention_maps(IDS, SEGMENTS, REAL)
    real = REAL[:, None, None, :, None].expand_as(maps)
    torch.testing.assert_close(maps[real], wanted[real], rtol=1e-5, atol=1e-9)


def test_both_heads_loss_and_gradients(tmp_path):
    theirs = saved_by_transformers(tmp_path, "BertForPreTraining")
    ours = double(bert.BertForPretraining, tmp_path)
    wanted = theirs(**THEIRS, labels=THEIR_LABELS, next_sentence_label=1 - IS_NEXT)
    words, following = ours(IDS, SEGMENTS, REAL, POSITIONS)
    everywhere = wanted.prediction_logits
    at_masks = torch.stack([everywhere[row, POSITIONS[row]] for row in range(2)])
    torch.testing.assert_close(words, at_masks, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(
        following, wanted.seq_relationship_logits.flip(1), rtol=1e-5, atol=1e-9
    )
    batch = (IDS, SEGMENTS, REAL, POSITIONS, LABELS, IS_NEXT)
    loss = bert.pretraining_loss(ours, batch)
    torch.testing.assert_close(loss, wanted.loss, rtol=1e-9, atol=0)
    loss.backward()
    wanted.loss.backward()
    compare_gradients(ours, theirs)


def test_a_classifier_is_theirs(tmp_path):
    theirs = saved_by_transformers(tmp_path, "BertForSequenceClassification")
    ours = bert.BertClassifier(double(bert.Bert, tmp_path), 2).double().eval()
    ours.output.load_state_dict(theirs.classifier.state_dict())
    torch.testing.assert_close(
        ours(IDS, SEGMENTS, REAL), theirs(**THEIRS).logits, rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("kind, theirs", [("BertForMaskedLM", False), ("BertModel", True)])
def test_every_kind_of_file_gives_the_same_hidden_states(tmp_path, kind, theirs):
    model = saved_by_transformers(tmp_path, kind)
    ours = double(bert.Bert, tmp_path)
    assert (ours.pooler is not None) == theirs
    wanted = getattr(model, "bert", model)(**THEIRS).last_hidden_state
    torch.testing.assert_close(ours(IDS, SEGMENTS, REAL)[REAL], wanted[REAL], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["Bert", "BertForPretraining"])
def test_transformers_reads_ours(tmp_path, kind):
    torch.manual_seed(0)
    ours = getattr(bert, kind)(CONFIG).eval()
    ours.save_pretrained(tmp_path)
    name = {"Bert": "BertModel", "BertForPretraining": "BertForPreTraining"}[kind]
    theirs, info = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info  # nothing missing, surplus or of another shape
    base, own = getattr(theirs, "bert", theirs), getattr(ours, "bert", ours)
    assert base.config.hidden_dropout_prob == base.config.attention_probs_dropout_prob == 0.1
    wanted = base.eval()(**THEIRS)
    hidden = own(IDS, SEGMENTS, REAL)
    torch.testing.assert_close(hidden[REAL], wanted.last_hidden_state[REAL], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own.pool(hidden), wanted.pooler_output, rtol=1e-5, atol=1e-5)
    if kind == "BertForPretraining":
        words, _ = ours(IDS, SEGMENTS, REAL, POSITIONS)
        logits = theirs.eval()(**THEIRS).prediction_logits
        torch.testing.assert_close(words[0], logits[0, POSITIONS[0]], rtol=1e-5, atol=1e-5)


def test_minilm_is_read_whole_and_gives_the_same_hidden_states():
    folder = pretrained.minilm()
    ours = bert.Bert.from_pretrained(folder, sha256=pretrained.MINILM_SHA256)
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    _, tensors = pretrained.read_folder(folder)
    tensors.pop("embeddings.position_ids")  # 0, 1, 2, ...: no weights
    own = bert.bert_files.UnderTheirNames(ours).state_dict()
    assert set(own) == set(tensors)
    assert all(torch.equal(own[name], tensors[name]) for name in tensors)
    torch.manual_seed(0)
    ids = torch.randint(1000, 30000, (4, 80))
    real = torch.arange(80) < torch.tensor([[80], [64], [17], [1]])
    segments = (torch.arange(80) > 9).long().expand(4, -1)
    with torch.no_grad():
        wanted = theirs(ids, real.long(), segments)
        hidden = ours(ids, segments, real)
    assert (hidden - wanted.last_hidden_state)[real].abs().max() < 1e-5
    assert (ours.pool(hidden) - wanted.pooler_output).abs().max() < 1e-5
