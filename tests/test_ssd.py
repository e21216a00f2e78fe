"""Chapter 12's detector: anchors, who learns what, offsets, losses, and what is found."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from course_lib import boxes as box_ops
from course_lib import ssd, train
from course_lib.scenes import SceneMaker
from course_lib.yolo import Backbone

NO_OBJECT = torch.full((2, 3), -1)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def random_boxes(*shape, seed=0, size=96):
    """Boxes of 8 to 48 pixels inside of an image."""
    numbers = random(*shape, 4, seed=seed)
    sides = 8 + 40 * numbers[..., 2:]
    low = numbers[..., :2] * (size - sides)
    return torch.cat([low, low + sides], dim=-1)


def network(**changes):
    torch.manual_seed(0)
    return ssd.SSD(ssd.SSDConfig(**changes), Backbone((4, 6, 8, 8)))


def batch():
    labels = torch.tensor([[0, 5, 2], [3, -1, -1]])
    return [random(2, 3, 96, 96), random_boxes(2, 3), labels]


def predictions(config, *, images=1, offsets=None):
    """Predictions that hold every anchor for background."""
    places = ssd.anchors(config)
    logits = torch.zeros(images, len(places), config.classes + 1)
    logits[..., 0] = 20
    offsets = torch.zeros(images, len(places), 4) if offsets is None else offsets
    return ssd.Predictions(logits, offsets, places)


# --- anchors -----------------------------------------------------------------------------------


def test_anchors_of_one_place():
    centre, tall, wide, large = ssd.anchors_for(1, 1, (10, 20), (1, 0.25, 4), size=40).tolist()
    assert centre == [15, 15, 25, 25]
    assert tall == [17.5, 10, 22.5, 30]  # width / height is a quarter, the area the same
    assert wide == [10, 17.5, 30, 22.5]
    assert large == [10, 10, 30, 30]


def test_places_stand_in_reading_order():
    places = ssd.anchors_for(2, 3, (4,), (1, 2), size=12)
    centres = box_ops.to_centres(places)[::2, :2]
    assert centres.tolist() == [[2, 3], [6, 3], [10, 3], [2, 9], [6, 9], [10, 9]]


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (3, 5), (4, 1)])
def test_n_sizes_and_m_ratios(n, m):
    sizes, ratios = tuple(range(8, 8 + n)), tuple(range(1, 1 + m))
    places = ssd.anchors_for(2, 2, sizes, ratios, size=32)
    assert places.shape == (4 * (n + m - 1), 4)
    config = ssd.SSDConfig(sizes=(sizes,) * 5, ratios=(ratios,) * 5)
    assert config.per_place == (n + m - 1,) * 5
    assert len(ssd.anchors(config)) == (144 + 36 + 9 + 4 + 1) * (n + m - 1)


def test_levels():
    config = ssd.SSDConfig()
    assert config.grids == (12, 6, 3, 2, 1)
    level, places = ssd.anchor_levels(config), ssd.anchors(config)
    assert level.shape == (len(places),)
    for number, grid in enumerate(config.grids):
        centres = box_ops.to_centres(places[level == number])[:, :2].round(decimals=3)
        centres = centres.unique(dim=0)
        assert len(centres) == grid**2
        assert centres.min().item() == pytest.approx(96 / grid / 2)


def test_another_size_and_one_more_level():
    config = ssd.SSDConfig(
        size=64,
        strides=(4, 8, 16, 32),
        sizes=((8,), (14, 19), (26, 35), (46, 56), (60,), (64,)),
        ratios=((1, 2, 0.5),) * 6,
    )
    assert config.grids == (16, 8, 4, 2, 1, 1)

    class Finer(Backbone):
        def __init__(self):
            super().__init__((4, 6, 8, 8))
            self.channels = (4, *self.channels)

        def forward(self, images):
            return [nn.functional.avg_pool2d(images[:, [0, 1, 2, 0]], 4), *super().forward(images)]

    predicted = ssd.SSD(config, Finer())(random(2, 3, 64, 64))
    assert predicted.logits.shape == (2, len(predicted.anchors), 7)
    assert len(predicted.anchors) == len(ssd.anchor_levels(config))


# --- who learns what ---------------------------------------------------------------------------

SIDE = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 16], [40, 40, 50, 50], [80, 80, 90, 90]])


def test_each_object_gets_an_anchor_of_its_own():
    # Both overlap anchor 0 most; the better one gets it, the other its second best.
    boxes = torch.tensor([[[0.0, 0, 9, 10], [0, 0, 10, 10]]])
    matched = ssd.assign(SIDE, boxes, torch.tensor([[2, 4]]))
    assert matched.tolist() == [[1, 0, -1, -1]]


def test_an_anchor_of_ones_own_needs_no_threshold():
    boxes = torch.tensor([[[48.0, 48, 60, 60]]])
    assert ssd.assign(SIDE, boxes, torch.tensor([[1]])).tolist() == [[-1, -1, 0, -1]]


def test_other_anchors_take_what_they_overlap_most():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [80, 80, 90, 90]]])
    labels = torch.tensor([[0, 1]])
    assert ssd.assign(SIDE, boxes, labels, 0.625).tolist() == [[0, 0, -1, 1]]  # 100 / 160 exactly
    assert ssd.assign(SIDE, boxes, labels, 0.63).tolist() == [[0, -1, -1, 1]]


def test_what_is_no_object_is_not_learnt():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [40, 40, 50, 50]]])
    assert ssd.assign(SIDE, boxes, torch.tensor([[-1, 3]])).tolist() == [[-1, -1, 1, -1]]
    nowhere = torch.tensor([[[5.0, 5, 5, 9], [200, 200, 210, 210]]])  # no area; out of sight
    assert ssd.assign(SIDE, nowhere, torch.tensor([[1, 1]])).tolist() == [[-1] * 4]
    assert ssd.assign(SIDE, nowhere[:, :0], torch.zeros(1, 0).long()).tolist() == [[-1] * 4]


def by_hand(places, boxes, labels, threshold):
    """`assign` for one image, as one would tell it."""
    overlap = box_ops.iou_matrix(boxes, places)
    matched = [-1] * len(places)
    for anchor in range(len(places)):
        values = [(overlap[k, anchor].item(), -k) for k in range(len(boxes)) if labels[k] >= 0]
        if values and max(values)[0] >= threshold:
            matched[anchor] = -max(values)[1]
    objects, free = [k for k in range(len(boxes)) if labels[k] >= 0], set(range(len(places)))
    while objects:
        pairs = [(overlap[k, a].item(), -k, -a) for k in objects for a in free]
        value, k, a = max(pairs)
        if value > 0:
            matched[-a] = -k
        objects.remove(-k)
        free.remove(-a)
    return matched


def test_assignment_of_a_batch_equals_the_one_told_by_hand():
    places = ssd.anchors_for(4, 4, (20, 30), (1, 2), size=96)
    boxes, labels = random_boxes(20, 5, seed=3), (random(20, 5, seed=4) * 8).long() - 2
    for threshold in (0.2, 0.5):
        found = ssd.assign(places, boxes, labels, threshold)
        for image in range(20):
            expected = by_hand(places, boxes[image], labels[image], threshold)
            assert found[image].tolist() == expected, image


# --- offsets -----------------------------------------------------------------------------------


def test_offsets_of_a_known_box():
    anchor = torch.tensor([10.0, 10, 30, 50])  # centre 20, 30; 20 wide, 40 high
    box = torch.tensor([14.0, 22, 34, 42])  # centre 24, 32; 20 wide, 20 high
    expected = [4 / 20 / 0.1, 2 / 40 / 0.1, 0, math.log(0.5) / 0.2]
    assert ssd.encode(box, anchor).tolist() == pytest.approx(expected, abs=1e-5)
    plain = ssd.encode(box, anchor, (1, 1)).tolist()
    assert plain == pytest.approx([0.2, 0.05, 0, math.log(0.5)], abs=1e-6)


@pytest.mark.parametrize("variances", [(0.1, 0.2), (1, 1), (0.3, 0.05)])
def test_decoding_is_the_inverse_of_encoding(variances):
    boxes, places = random_boxes(500, seed=1).double(), random_boxes(500, seed=2).double()
    offsets = ssd.encode(boxes, places, variances)
    torch.testing.assert_close(ssd.decode(offsets, places, variances), boxes)
    again = ssd.encode(ssd.decode(offsets, places, variances), places, variances)
    torch.testing.assert_close(again, offsets)


def test_huge_offsets_stay_finite():
    found = ssd.decode(torch.full((1, 4), 1e4), SIDE[:1])
    assert found.isfinite().all()
    width, height = box_ops.to_centres(found)[0, 2:].tolist()
    assert width == pytest.approx(625, rel=1e-4) and height == pytest.approx(625, rel=1e-4)


# --- the network -------------------------------------------------------------------------------


def test_what_belongs_to_an_anchor_stays_together():
    maps = torch.arange(2 * 6 * 2 * 2).view(2, 6, 2, 2)  # two anchors of three numbers a place
    rows = ssd.flatten_levels([maps, maps[:, :, :1, :1]], 3)
    assert rows.shape == (2, 4 * 2 + 2, 3)
    assert rows[0, 0].tolist() == maps[0, :3, 0, 0].tolist()
    assert rows[0, 1].tolist() == maps[0, 3:, 0, 0].tolist()
    assert rows[1, 3].tolist() == maps[1, 3:, 0, 1].tolist()  # x moves first, then y
    assert rows[1, 9].tolist() == maps[1, 3:, 0, 0].tolist()


def test_rows_belong_to_their_anchors():
    """Where an image changes, the nearest anchors of the finest level change most."""
    model = network().eval()
    images = random(1, 3, 96, 96)
    changed = images.clone()
    changed[:, :, 16:24, 72:80] += 1
    moved = (model(changed).logits - model(images).logits).abs().sum((0, 2))
    finest = ssd.anchor_levels(model.config) == 0
    x, y, *_ = box_ops.to_centres(model.anchors[finest][moved[finest].argmax()]).tolist()
    assert abs(x - 76) <= 8 and abs(y - 20) <= 8


def test_shapes_and_weights():
    model = network(classes=3)
    predicted = model(random(2, 3, 96, 96))
    assert predicted.logits.shape == (2, 776, 4) and predicted.offsets.shape == (2, 776, 4)
    assert [head.out_channels for head in model.class_heads] == [16] * 5
    assert [head.out_channels for head in model.box_heads] == [16] * 5
    assert torch.equal(predicted.anchors, ssd.anchors(model.config))


# --- the loss ----------------------------------------------------------------------------------


def test_hard_negatives_are_the_worst_of_each_image():
    losses = torch.tensor([[5.0, 1, 4, 3, 2, 0], [1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
    positive = torch.zeros(3, 6, dtype=torch.bool)
    positive[0, 0] = positive[1, :4] = True
    chosen = ssd.hard_negatives(losses, positive, 2)
    assert chosen[0].nonzero().flatten().tolist() == [2, 3]
    assert chosen[1].nonzero().flatten().tolist() == [4, 5]  # no more than there are
    assert chosen[2].nonzero().flatten().tolist() == [0, 1]  # no positive: as for one
    assert not (chosen & positive).any()


def test_parts_of_the_loss_by_hand():
    config = ssd.SSDConfig(classes=2, box_loss="l1")
    predicted = predictions(config)
    boxes, labels = predicted.anchors[300].view(1, 1, 4) + 1, torch.tensor([[1]])
    matched = ssd.assign(predicted.anchors, boxes, labels)
    positive = (matched >= 0)[0]
    assert 0 < (count := int(positive.sum())) < 20
    parts = ssd.ssd_parts(predicted, boxes, labels, config)
    # Each positive is sure of background, so its loss is 20; the background is right.
    assert parts["class"].item() == pytest.approx(20, abs=1e-3)
    wanted = ssd.encode(boxes[0], predicted.anchors[positive])
    assert parts["box"].item() == pytest.approx(wanted.abs().sum().item() / count, rel=1e-5)
    for box_loss, value in (("squared", wanted**2), ("smooth_l1", huber(wanted))):
        parts = ssd.ssd_parts(predicted, boxes, labels, replace(config, box_loss=box_loss))
        assert parts["box"].item() == pytest.approx(value.sum().item() / count, rel=1e-5)
    perfect = torch.zeros_like(predicted.offsets)
    perfect[0, positive] = wanted
    better = predicted._replace(offsets=perfect)
    better.logits[0, positive] = torch.tensor([0.0, 0, 20])  # class 1 stands at 2
    parts = ssd.ssd_parts(better, boxes, labels, config)
    assert parts["class"].item() < 1e-3 and parts["box"].item() < 1e-5


def huber(x):
    return torch.where(x.abs() < 1, x**2 / 2, x.abs() - 0.5)


def test_without_mining_all_background_counts():
    config = ssd.SSDConfig(classes=2)
    places = ssd.anchors(config)
    even = ssd.Predictions(torch.zeros(1, len(places), 3), torch.zeros(1, len(places), 4), places)
    boxes, labels = places[300].view(1, 1, 4), torch.tensor([[1]])
    positives = int((ssd.assign(places, boxes, labels) >= 0).sum())
    for negatives, counted in ((3, 4 * positives), (1, 2 * positives), (None, len(places))):
        parts = ssd.ssd_parts(even, boxes, labels, replace(config, negatives=negatives))
        expected = counted * math.log(3) / positives
        assert parts["class"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("negatives", [3, None])
@pytest.mark.parametrize("objects", [0, 3])
def test_without_objects_all_is_finite(negatives, objects):
    model = network(negatives=negatives)
    nothing = [random(2, 3, 96, 96), torch.zeros(2, objects, 4), NO_OBJECT[:, :objects]]
    value = ssd.ssd_loss(model, nothing)
    value.backward()
    assert value.isfinite() and value > 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_boxes_without_area_are_left_out():
    model = network().eval()
    images, boxes, labels = batch()
    boxes[0, 1, 2] = boxes[0, 1, 0]  # x2 = x1
    value = ssd.ssd_loss(model, [images, boxes, labels])
    labels[0, 1] = -1
    torch.testing.assert_close(ssd.ssd_loss(model, [images, boxes, labels]), value)


def test_half_precision_ends_at_the_predictions():
    places = ssd.anchors(ssd.SSDConfig())
    rows = [random(2, len(places), n).bfloat16() for n in (7, 4)]
    _, boxes, labels = batch()
    for kind in (torch.bfloat16, torch.float32):
        predicted = ssd.Predictions(*(row.to(kind) for row in rows), places)
        parts = ssd.ssd_parts(predicted, boxes, labels, ssd.SSDConfig())
        assert all(part.dtype is torch.float32 for part in parts.values())
        found, _ = ssd.read(predicted, ssd.SSDConfig())
        assert found.boxes.dtype is found.scores.dtype is torch.float32


# --- what is found -----------------------------------------------------------------------------


def test_reading_predictions():
    config = ssd.SSDConfig(classes=2)
    predicted = predictions(config, images=2)
    anchor = 300
    box = predicted.anchors[anchor] + torch.tensor([1.0, 2, 3, 4])
    predicted.offsets[1, anchor] = ssd.encode(box, predicted.anchors[anchor], config.variances)
    predicted.logits[1, anchor] = torch.tensor([0.0, 1, 3])
    found, which = ssd.read(predicted, config, confidence=0.5)
    assert found.images.tolist() == [1] and found.labels.tolist() == [1]
    assert which.tolist() == [anchor]
    torch.testing.assert_close(found.boxes[0], box)
    expected = math.exp(3) / (1 + math.e + math.exp(3))
    assert found.scores.item() == pytest.approx(expected, rel=1e-5)
    found, _ = ssd.read(predicted, config, confidence=0.1)  # the other class shows as well
    assert found.labels.tolist() == [1, 0]


def test_duplicates_go_class_by_class():
    config = ssd.SSDConfig(classes=2)
    predicted = predictions(config)
    same = predicted.anchors[300]
    for anchor, logits in ((300, [0, 0, 9]), (301, [0, 0, 8]), (302, [0, 7, 0])):
        predicted.logits[0, anchor] = torch.tensor(logits).float()
        predicted.offsets[0, anchor] = ssd.encode(same, predicted.anchors[anchor])
    found, which = ssd.read(predicted, config, confidence=0.5)
    assert which.tolist() == [300, 302] and found.labels.tolist() == [1, 0]
    _, which = ssd.read(predicted, config, confidence=0.5, most=1)
    assert which.tolist() == [300]


def test_boxes_end_at_the_border_and_nothing_is_nothing():
    config = ssd.SSDConfig()
    predicted = predictions(config, images=2)
    found, which = ssd.read(predicted, config)
    assert found.boxes.shape == (0, 4) and len(which) == len(found.images) == 0
    predicted.logits[1, 0, 3] = 30
    found, _ = ssd.read(predicted, config)
    assert found.boxes.min() == 0 and found.labels.tolist() == [2]
    predicted.logits[0, 5, 1] = torch.nan
    with pytest.raises(ValueError, match=r"predicted.logits is 'NaN at 1 anchors'; allowed are"):
        ssd.read(predicted, config)


def test_detecting_leaves_the_model_as_it_was(monkeypatch):
    model = network()
    images = random(5, 3, 96, 96)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    whole = ssd.detect(model, images, confidence=0.1, most=7)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    monkeypatch.setattr(ssd, "CHUNK", 2)
    parts = ssd.detect(model, images, confidence=0.1, most=7)
    assert torch.equal(parts.images, whole.images) and parts.images.max() == 4
    torch.testing.assert_close(parts.scores, whole.scores)
    assert whole.images.bincount().max() <= 7


def test_a_handful_of_scenes_is_learnt_by_heart():
    scenes = SceneMaker("train").draw(4, seed=1)
    images = scenes.images.float() / 255
    torch.manual_seed(0)
    model = ssd.SSD(backbone=Backbone((12, 16, 24, 32)))
    batches = train.Batches(images, scenes.boxes, scenes.labels, batch_size=4)
    config = train.FitConfig(steps=120, learning_rate=0.01, schedule="one_cycle", warmup=0.2)
    train.fit(model, batches, ssd.ssd_loss, config, device=torch.device("cpu"))
    found = ssd.detect(model, images, confidence=0.5)
    for image, (boxes, labels) in enumerate(zip(scenes.boxes, scenes.labels, strict=True)):
        here = found.images == image
        overlap = box_ops.iou_matrix(boxes[labels >= 0], found.boxes[here])
        same = labels[labels >= 0, None] == found.labels[here]
        assert ((overlap > 0.6) & same).any(1).all(), image
        assert here.sum() == (labels >= 0).sum()


# --- bad arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 0}, "classes is 0; allowed are whole numbers from 1"),
        ({"size": 98}, "size is 98; allowed are multiples of 4 from 32 on"),
        ({"size": 28}, "size is 28; allowed are multiples of 4 from 32 on"),
        ({"size": 0}, "size is 0"),
        ({"strides": ()}, r"strides is \(\); allowed are one stride or more"),
        ({"sizes": ((10,),) * 4}, "allowed are 5 tuples of positive numbers"),
        ({"sizes": ((10,),) * 4 + ((),)}, "allowed are 5 tuples of positive numbers"),
        ({"ratios": ((0,),) * 5}, "allowed are 5 tuples of positive numbers"),
        ({"variances": (0.1, 0)}, r"variances is \(0.1, 0\); allowed are two positive numbers"),
        ({"threshold": 0}, r"threshold is 0; allowed are numbers in \(0, 1\]"),
        ({"negatives": 0}, "negatives is 0; allowed are None and whole numbers from 1"),
        ({"box_loss": "l2"}, "box_loss is 'l2'; allowed are l1, smooth_l1, squared"),
    ],
)
def test_bad_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ssd.SSDConfig(**change)


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"images' shape is \(1, 3, 64, 96\); allowed are"):
        network()(random(1, 3, 64, 96))
    with pytest.raises(ValueError, match=r"backbone.channels is \[6, 8, 8\]; allowed are 1 maps"):
        ssd.SSD(
            ssd.SSDConfig(strides=(32,), sizes=((9,),) * 3, ratios=((1,),) * 3),
            Backbone((4, 6, 8, 8)),
        )
    with pytest.raises(
        ValueError, match=r"boxes' shape is \(2, 3, 4\); allowed are \(2, 4, 4\), as"
    ):
        ssd.assign(SIDE, torch.zeros(2, 3, 4), torch.zeros(2, 4).long())
    with pytest.raises(ValueError, match=r"anchors' shape is \(4,\); allowed are \(A, 4\)"):
        ssd.assign(SIDE[0], torch.zeros(2, 3, 4), torch.zeros(2, 3).long())
    with pytest.raises(ValueError, match="images is 'none'; allowed are one or more"):
        ssd.detect(network(), random(0, 3, 96, 96))
    with pytest.raises(ValueError, match=r"height, width is \(0, 3\)"):
        ssd.anchors_for(0, 3, (4,), (1,), 12)
    for change in ({"confidence": 1}, {"most": 0}, {"threshold": 2}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} is"):
            ssd.detect(network(), random(1, 3, 96, 96), **change)
