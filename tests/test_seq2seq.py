"""Chapter 07's translators: one interface, padding, causality, decoding, loss."""

import pytest
import torch
import torch.nn.functional as F

from course_lib import seq2seq, train
from course_lib.attention import TransformerConfig
from course_lib.optimizers import hidden_weights
from course_lib.text import END, PAD, START, SentenceBatches

SIZES = 11, 13  # of the vocabularies
CONFIG = TransformerConfig(8, 2, 2, 16, max_length=20)


def gru(attention, **options):
    return lambda: seq2seq.GRUTranslator(*SIZES, 8, attention, **options)


MODELS = {
    "dot": gru("dot"),
    "dot, 2 layers": gru("dot", layers=2, dropout=0.1),
    "additive": gru("additive"),
    "additive, 2 layers": gru("additive", layers=2),
    "none": gru("none"),
    "transformer": lambda: seq2seq.TransformerTranslator(*SIZES, CONFIG),
    "tied": lambda: seq2seq.TransformerTranslator(*SIZES, CONFIG, tie=True),
}
GRUS = [name for name in MODELS if name not in ("transformer", "tied")]


def make(name):
    torch.manual_seed(0)
    return MODELS[name]().eval()


def sentences():
    """Source (4, 5) and target (4, 6), of 5, 3, 1 and no words."""
    source = torch.tensor([[4, 5, 6, 7, 8], [9, 4, 5, 0, 0], [6, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    target = torch.tensor(
        [[1, 4, 5, 6, 7, 2], [1, 8, 9, 2, 0, 0], [1, 10, 2, 0, 0, 0], [1, 2, 0, 0, 0, 0]]
    )
    return source, target


# --- one interface -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_finite_values_even_for_a_sentence_without_words(name):
    source, target = sentences()
    logits = make(name)(source, target)
    assert logits.shape == (4, 6, 13) and logits.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_step_by_step_equals_all_at_once(name):
    source, target = sentences()
    model = make(name).double()
    state, steps = model.start(source), []
    for tokens in target.T:
        logits, state = model.step(state, tokens)
        steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, dim=1), model(source, target))


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name):
    source, target = sentences()
    model = make(name).double()
    together = model(source, target)
    for row, words, length in ((1, 3, 4), (2, 1, 3)):
        alone = model(source[row : row + 1, :words], target[row : row + 1, :length])
        torch.testing.assert_close(together[row, :length], alone[0])


@pytest.mark.parametrize("name", MODELS)
def test_no_word_is_seen_before_its_turn_and_all_others_are(name):
    source, target = sentences()
    model = make(name)
    changed = target.clone()
    changed[0, 3] = 9
    differs = (model(source, target) != model(source, changed)).any(2)[0]
    assert differs.tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("name", MODELS)
def test_every_source_word_counts(name):
    source, target = sentences()
    model = make(name)
    for position in range(5):
        changed = source.clone()
        changed[0, position] = 10
        assert not model(source, target)[0, 0].equal(model(changed, target)[0, 0])


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_a_state_can_be_chosen_and_repeated(name):
    source, target = sentences()
    model = make(name)
    _, state = model.step(model.start(source), target[:, 0])
    rows = torch.tensor([2, 0, 2])
    _, first = model.step(model.start(source[rows]), target[rows, 0])
    chosen = model.step(seq2seq.select_rows(state, rows), target[rows, 1])[0]
    torch.testing.assert_close(chosen, model.step(first, target[rows, 1])[0])


@pytest.mark.parametrize("name", [name for name in MODELS if name != "none"])
def test_attention_weights_are_shares_of_the_real_words(name):
    source, target = sentences()
    weights = make(name).attention_weights(source, target)
    assert weights.shape == (4, 6, 5) and (weights >= 0).all()
    assert weights[(source == PAD)[:, None].expand(-1, 6, -1)].eq(0).all()
    expected = torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None].expand(-1, 6)
    torch.testing.assert_close(weights.sum(2), expected)


def test_dot_attention_is_a_softmax_of_products_of_states():
    source, target = sentences()
    model = make("dot").double()
    state = model.start(source[:1])
    outputs, _ = model.decoder(model.target_embedding(target[:1]), state.hidden.transpose(0, 1))
    expected = (outputs @ state.memory.transpose(1, 2) / 8**0.5).softmax(2)
    torch.testing.assert_close(model.attention_weights(source[:1], target[:1]), expected)


@pytest.mark.parametrize("name", ["additive", "additive, 2 layers"])
def test_additive_attention_looks_before_each_step_from_the_last_layer(name):
    source, target = sentences()
    model = make(name).double()
    state = model.start(source[:1])
    hidden = state.hidden[:, -1]  # (1, 8), before the first word
    keys = state.memory @ model.key.weight.T
    inner = (model.score.query(hidden)[:, None] + keys).tanh()
    expected = (inner @ model.score.vector.weight[0]).softmax(1)
    torch.testing.assert_close(model.attention_weights(source[:1], target[:1])[:, 0], expected)


@pytest.mark.parametrize("name", GRUS)
def test_the_decoder_starts_from_what_the_encoder_ended_with(name):
    source, _ = sentences()
    model = make(name)
    state = model.start(source)
    _, last = model.encoder(model.source_embedding(source), source != PAD)
    assert last[3].eq(0).all() and last[:3].ne(0).all()  # the fourth has no words
    torch.testing.assert_close(state.hidden, model.bridge(last).tanh())


def test_each_head_of_each_layer_can_be_seen():
    source, target = sentences()
    model = make("transformer")
    heads = model.attention_by_head(source, target)
    assert heads.shape == (4, 2, 2, 6, 5)
    torch.testing.assert_close(model.attention_weights(source, target), heads[:, -1].mean(1))
    assert not heads[:, 0].equal(heads[:, 1])
    assert not model.decoder.layers[0].multihead_attn._forward_hooks


def test_a_tied_output_layer_is_the_target_embedding():
    tied, free = make("tied"), make("transformer")
    assert tied.output.weight is tied.target_embedding.weight
    saved = sum(p.numel() for p in free.parameters()) - sum(p.numel() for p in tied.parameters())
    assert saved == 13 * 8


@pytest.mark.parametrize("name", MODELS)
def test_muon_takes_neither_embeddings_nor_the_output_layer(name):
    model = make(name)
    hidden = {id(p) for p in hidden_weights(model)}
    for layer in (model.source_embedding, model.target_embedding, model.output):
        assert id(layer.weight) not in hidden
    rest = {id(p) for key, p in model.named_parameters() if p.ndim > 1 and "coder" in key}
    assert rest <= hidden


# --- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_words_that_are_real(smoothing):
    source, target = sentences()
    model = make("dot").double()
    losses = []
    for row, length in enumerate((6, 4, 3, 2)):
        logits = model(source[row : row + 1], target[row : row + 1, : length - 1])[0]
        wanted = target[row, 1:length]
        assert wanted[-1] == END
        losses.append(F.cross_entropy(logits, wanted, label_smoothing=smoothing, reduction="none"))
    found = seq2seq.translation_loss(model, (source, target), smoothing)
    torch.testing.assert_close(found, torch.cat(losses).mean())
    assert seq2seq.count_targets((source, target)) == len(torch.cat(losses)) == 11


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_padding_has_loss_0_and_no_nan(name):
    model = make(name)
    value = seq2seq.translation_loss(model, (torch.zeros(2, 3).long(), torch.zeros(2, 4).long()))
    value.backward()
    assert value.item() == 0
    assert all(p.grad is None or p.grad.eq(0).all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_finite_with_a_sentence_without_words(name):
    model = make(name)
    seq2seq.translation_loss(model, sentences()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    for embedding in (model.source_embedding, model.target_embedding):
        assert embedding.weight.grad[PAD].eq(0).all() or embedding.weight is model.output.weight


@pytest.mark.parametrize("name", ["dot", "additive", "transformer"])
def test_it_learns_to_turn_sentences_round(name):
    torch.manual_seed(0)
    model = {
        "dot": lambda: seq2seq.GRUTranslator(8, 8, 32),
        "additive": lambda: seq2seq.GRUTranslator(8, 8, 32, "additive"),
        "transformer": lambda: seq2seq.TransformerTranslator(8, 8, TransformerConfig(32, 4, 1, 64)),
    }[name]()
    words = torch.randint(4, 8, (512, 5))
    start, end = torch.full((512, 1), START), torch.full((512, 1), END)
    target = torch.cat((start, words.flip(1), end), dim=1)
    batches = SentenceBatches(words, target, batch_size=64)
    config = train.FitConfig(steps=150, learning_rate=0.01, schedule="one_cycle", warmup=0.3)
    history = train.fit(
        model, batches, seq2seq.translation_loss, config, device=torch.device("cpu")
    )
    assert history.loss[-1] < 0.05
    weights = model.attention_weights(words[:50], target[:50, 1:6])
    assert weights.shape == (50, 5, 5)


# --- refusals ----------------------------------------------------------------------------------

REFUSALS = {
    "attention is 'luong'; allowed are dot, additive, none": gru("luong"),
    "width is 7; allowed are even": lambda: seq2seq.GRUTranslator(5, 5, 7),
    "layers is 0; allowed": gru("dot", layers=0),
    r"source has shape \(2, 0\); allowed": lambda: make("dot")(
        torch.zeros(2, 0).long(), torch.ones(2, 1).long()
    ),
    r"target_in has shape \(2, 0\); allowed": lambda: make("transformer")(
        torch.ones(2, 1).long(), torch.zeros(2, 0).long()
    ),
    "attention is 'none'; weights come": lambda: make("none").attention_weights(*sentences()),
    "length is 21; allowed are up to 20": lambda: make("transformer")(
        torch.ones(2, 21).long(), torch.ones(2, 1).long()
    ),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_nonsense_is_refused(said):
    with pytest.raises(ValueError, match=said):
        REFUSALS[said]()
