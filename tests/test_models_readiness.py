"""Every model that the course trains is ready for a GPU: one table, and the checks of readiness.py.

Tests of single layers and functions stand in their modules' own files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import (
    batch_norm,
    bert,
    classics,
    cnn,
    data,
    dropout,
    gpt,
    recipes,
    resnet,
    reviews,
    seq2seq,
    ssd,
    tensor_ops,
    unet,
    yolo,
)
from course_lib.attention import TransformerConfig
from course_lib.recipes import classification_loss
from course_lib.recipes import scenes as scene_recipes
from course_lib.scenes import SceneMaker
from tests import readiness


@dataclass(frozen=True)
class Row:
    """A model at its smallest, with all that a step of its training takes.

    Args:
        make: the model. batch: of so many items. loss: as `train.fit` takes it.
        inputs: what of a batch `forward` takes. recipes: those that train such a model.
    """

    make: Callable[[], nn.Module]
    batch: Callable[[int], tuple[torch.Tensor, ...]]
    loss: Callable[[nn.Module, tuple[torch.Tensor, ...]], torch.Tensor]
    optimizer: str = "adamw"
    recipes: tuple[str, ...] = ()
    inputs: Callable = lambda batch: (batch[0],)


# --- what goes in ------------------------------------------------------------------------------


def generator():
    return torch.Generator().manual_seed(0)


def pictures(count, channels=1, side=28):
    images = torch.rand(count, channels, side, side, generator=generator())
    return images, torch.arange(count) % 5


def photos(count):
    return pictures(count, 3, 32)


def sentences(count):
    """Source (count, 3) and target (count, 4), of 3, 2, 1 and no words."""
    source = torch.tensor([[4, 5, 6], [9, 4, 0], [6, 0, 0], [0, 0, 0]])
    target = torch.tensor([[1, 4, 5, 2], [1, 8, 2, 0], [1, 7, 2, 0], [1, 2, 0, 0]])
    return source[-count:], target[-count:]


def passages(count):
    """ids, segments, real, positions, labels, is_next: BERT's batches."""
    ids = torch.randint(1, 30, (count, 7), generator=generator())
    ids[0, 5:] = 0
    positions = torch.tensor([[1, 4]]).expand(count, 2)
    labels = torch.tensor([[11, 12]] * (count - 1) + [[13, -1]])
    return ids, (ids > 20).long(), ids != 0, positions, labels, torch.arange(count) % 2


def reviewed(count):
    shares = torch.rand(count, generator=generator())
    return (*passages(count)[:3], shares)


def symbols(count):
    ids = torch.randint(11, (count, 9), generator=generator())
    labels = ids[:, 1:].clone()
    labels[0, :3] = -1
    return ids[:, :-1], labels


def masks(count, channels=3, classes=4):
    """Pictures of an odd size, which the nets of chapter 10 fill up, and a class for each pixel."""
    images, _ = pictures(count, channels, 13)
    return images, torch.randint(classes, (count, 13, 13), generator=generator())


def outlines(count):
    images, mask = masks(count, 1, 2)
    return images, mask[:, None] > 0


def boxed(count, side=64):
    """Three boxes an image, in the last image one and two that are none."""
    images, _ = pictures(count, 3, side)
    low = torch.rand(count, 3, 2, generator=generator()) * side / 2
    labels = torch.tensor([[0, 5, 2]] * (count - 1) + [[3, -1, -1]])
    return images, torch.cat([low, low + side / 3], dim=-1), labels


# --- losses that no module has under a name ----------------------------------------------------


def penalised_loss(model, batch, smoothing=0.0, l1=0.0):
    images, labels = batch
    value = F.cross_entropy(model(images), dropout.smooth_labels(labels, smoothing, 10))
    return value + l1 * dropout.l1_penalty(p for p in model.parameters() if p.ndim >= 2)


def pixel_loss(model, batch):
    return unet.cross_entropy(model(batch[0]), batch[1])


def outline_loss(model, batch):
    return unet.binary_cross_entropy(model(batch[0]), batch[1])


def overlap_loss(model, batch):
    logits, wanted = model(batch[0]), F.one_hot(batch[1], 4).movedim(3, 1)  # -> (N, 4, H, W)
    return unet.dice_loss(logits.softmax(1), wanted)


# --- the table ---------------------------------------------------------------------------------

smooth_loss = partial(classification_loss, smoothing=0.1)
small_resnet = partial(resnet.SmallResNet, (4, 8), (1, 1))
tokens = {"inputs": lambda batch: batch[:3]}
words = {"inputs": lambda batch: (batch[0], batch[1][:, :-1])}
gru = partial(seq2seq.GRUTranslator, 11, 13, 8)
BERT = partial(bert.BertConfig, 30, 8, 2, 1, 16, max_length=9)
GPT = partial(gpt.GPTConfig, 11, 8, width=8, heads=2, layers=1)
SIZES = partial(TransformerConfig, 8, 2, 1, 16, max_length=8)


def transformer(tie=False, **changes):
    return seq2seq.TransformerTranslator(11, 13, SIZES(**changes), tie=tie)


def fine_tuned(pool="mean", kept=0):
    model = bert.BertClassifier(bert.Bert(BERT(dropout=0.0)), classes=2, pool=pool, dropout=0.1)
    bert.freeze(model.bert, kept)
    return model


def fcn():
    body = nn.Sequential(cnn.conv_block(3, 4, pool=True), cnn.conv_block(4, 8, pool=True))
    return unet.FCN(body, 8, 4, factor=4)


def make_ssd():
    return ssd.SSD(ssd.SSDConfig(size=64), yolo.Backbone((4, 6, 8, 8)))


def make_yolo(**config):
    return yolo.YOLO(yolo.YoloConfig(**config), (4, 6, 8, 10))


def _on_pictures(make, optimizer="adamw", names=(), loss=classification_loss, batch=pictures):
    return Row(make, batch, loss, optimizer, names)


ROWS = {
    "softmax regression": _on_pictures(
        tensor_ops.SoftmaxRegression, "sgd", ("softmax_regression",)
    ),
    "MLP": _on_pictures(partial(tensor_ops.MLP, hidden=4), names=("mlp",)),
    "DigitNet": _on_pictures(partial(cnn.DigitNet, width=4), names=("digits",)),
    "SmallCNN": _on_pictures(partial(cnn.SmallCNN, widths=(2, 3, 4)), names=("cnn", "cnn_long")),
    "LeNet": _on_pictures(classics.LeNet),
    "NotesCNN": _on_pictures(classics.NotesCNN, "adam", ("tutorial",)),
    "AlexNet": _on_pictures(classics.AlexNet28),
    "VGG": _on_pictures(classics.VGG28, "muon"),
    "NiN": _on_pictures(classics.NiN28),
    "GoogLeNet": _on_pictures(classics.GoogLeNet28, "muon"),
    "ClothesNet": _on_pictures(
        partial(dropout.ClothesNet, 0.5, 0.1),
        names=("dropout", "dropout_full"),
        loss=penalised_loss,
    ),
    "ClothesNet, penalised": _on_pictures(
        dropout.ClothesNet, loss=partial(penalised_loss, smoothing=0.1, l1=0.01)
    ),
    "NormCNN": _on_pictures(
        partial(batch_norm.NormCNN, (4, 6, 8)), "muon", ("batch_norm",), smooth_loss
    ),
    "NormCNN, norms by hand": _on_pictures(
        partial(batch_norm.NormCNN, (4, 6, 8), batch_norm.BatchNorm2d), "muon"
    ),
    "small ResNet": _on_pictures(
        partial(small_resnet, zero_init=True), "muon", ("resnet", "resnet_long"), smooth_loss
    ),
    "small ResNet, pre-activation, padding": _on_pictures(
        partial(small_resnet, block=resnet.PreActivationBlock, shortcut="padding")
    ),
    # As resnet18 and resnet50 are built, with a block a stage.
    "ResNet, basic": _on_pictures(
        partial(resnet.ResNet, resnet.BasicBlock, (1,) * 4, 5), "sgd", batch=photos
    ),
    "ResNet, bottleneck": _on_pictures(
        partial(resnet.ResNet, resnet.Bottleneck, (1,) * 4, 5), "sgd", batch=photos
    ),
    "Transformer, tied": Row(
        partial(transformer, tie=True),
        sentences,
        partial(seq2seq.translation_loss, smoothing=0.1),
        "muon",
        ("dialogue", "dialogue_long"),
        **words,
    ),
    "Transformer, rotary, norms behind": Row(
        partial(transformer, positions="rotary", activation="gelu_tanh", pre_norm=False),
        sentences,
        seq2seq.translation_loss,
        **words,
    ),
    "GRU, dot attention": Row(
        gru, sentences, seq2seq.translation_loss, "muon", ("number_words",), **words
    ),
    "GRU, additive attention": Row(
        partial(gru, "additive"), sentences, seq2seq.translation_loss, **words
    ),
    # Without dropout between its layers, which compiled draws its masks in another order.
    "GRU, no attention, two layers": Row(
        partial(gru, "none", layers=2), sentences, seq2seq.translation_loss, **words
    ),
    "bag of embeddings": Row(
        partial(reviews.BagOfEmbeddings, 30, 4), reviewed, reviews.soft_review_loss, **tokens
    ),
    "BERT": Row(
        lambda: bert.BertForPretraining(BERT(dropout=0.0, rotary=True)),
        passages,
        bert.pretraining_loss,
        "muon",
        ("bert_pretraining", "bert_pretraining_long"),
        inputs=lambda batch: batch[:4],
    ),
    "BERT, classifier": Row(
        fine_tuned,
        reviewed,
        reviews.soft_review_loss,
        "muon",
        ("review_tuning", "kinder_review"),
        **tokens,
    ),
    "BERT, frozen, first token": Row(
        partial(fine_tuned, "cls", 1), reviewed, reviews.soft_review_loss, **tokens
    ),
    "GPT": Row(lambda: gpt.GPT(GPT()), symbols, gpt.gpt_loss, "muon", ("addition",)),
    "GPT, rotary": Row(
        lambda: gpt.GPT(GPT(positions="rotary", dropout=0.1)),
        symbols,
        gpt.gpt_loss,
        "muon",
        ("shakespeare", "shakespeare_short", "shakespeare_long"),
    ),
    "U-Net": Row(partial(unet.UNet, 3, 4, (4, 6), stem=2), masks, pixel_loss, "muon", ("unet",)),
    "U-Net, yes or no": Row(
        partial(unet.UNet, 1, 1, (4, 6), stem=2), outlines, outline_loss, "muon", ("brain",)
    ),
    "U-Net without skips": Row(partial(unet.UNet, 3, 4, (4, 6), skips=False), masks, overlap_loss),
    "FCN": Row(fcn, masks, pixel_loss),
    "YOLO": Row(
        partial(make_yolo, cells=3, loss="modern"), boxed, yolo.yolo_loss, "muon", ("yolo",)
    ),
    "YOLO, as in the paper": Row(partial(make_yolo, stride=16, boxes=2), boxed, yolo.yolo_loss),
    "SSD": Row(make_ssd, boxed, ssd.ssd_loss, "muon", ("ssd", "crowns")),
}
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def parts(row, count=4):
    """model, loss(model, *tensors), tensors: what the checks take."""
    torch.manual_seed(0)
    return row.make(), lambda model, *tensors: row.loss(model, tensors), row.batch(count)


@every_row
def test_a_fake_gpu_can_run_it_and_its_loss(row):
    readiness.check_fake_cuda(*parts(row))


@every_row
def test_it_steps_without_data(row):
    readiness.check_meta(*parts(row), row.optimizer)


@every_row
def test_it_trains_in_half_precision(row):
    readiness.check_autocast(*parts(row))


@every_row
def test_its_training_compiles_in_one_graph(row):
    readiness.check_compiles(*parts(row))


@every_row
def test_it_can_be_exported_for_any_number_of_items(row):
    model, _, batch = parts(row)
    readiness.check_exports(model, row.inputs(batch), row.inputs(row.batch(3)))


# --- the table holds what the recipes train ----------------------------------------------------


def test_every_recipe_has_a_row_and_one_only():
    named = [name for row in ROWS.values() for name in row.recipes]
    assert sorted(named) == sorted(recipes.RECIPES)


load_once = cache(data.load)


@cache
def few_scenes():
    return SceneMaker("train").draw(4, seed=0)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_row_is_what_its_recipe_trains(name, monkeypatch):
    monkeypatch.setattr(data, "load", load_once)
    monkeypatch.setattr(scene_recipes, "training_scenes", few_scenes)
    row = next(row for row in ROWS.values() if name in row.recipes)
    recipe = recipes.RECIPES[name](batch_size=2)
    batch = next(iter(recipe.batches))
    assert type(row.make()) is type(recipe.model)
    assert row.optimizer == recipe.config.optimizer
    assert [(t.dtype, t.ndim) for t in row.batch(2)] == [(t.dtype, t.ndim) for t in batch]
    recipe.model.eval()
    with torch.no_grad():
        expected = recipe.loss(recipe.model, batch)
        torch.testing.assert_close(row.loss(recipe.model, batch), expected)
