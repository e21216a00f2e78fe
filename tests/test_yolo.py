"""Chapter 11: what cells answer for, the loss by hand, the way from a grid to boxes and back."""

import math

import pytest
import torch

from course_lib import boxes as box_ops
from course_lib import train, yolo
from course_lib.recipes import scenes as scenes_recipes
from course_lib.scenes import SceneMaker
from course_lib.yolo import YOLO, YoloConfig

SIZE = 96
CONFIGS = {
    "paper": YoloConfig(stride=16, boxes=2),
    "without roots": YoloConfig(roots=False),
    "modern": YoloConfig(loss="modern", cells=3),
    "coarse": YoloConfig(loss="modern", stride=32, boxes=3),
}
configs = pytest.mark.parametrize("name", CONFIGS)
SMALL = (4, 6, 8, 10)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random_scenes(count=8, most=6, seed=0, size=SIZE):
    """Boxes anywhere in the image, 0 .. most of them real."""
    low, high = (torch.rand(2, count, most, 2, generator=generator(seed)) * size).sort(0).values
    labels = torch.randint(6, (count, most), generator=generator(seed + 1))
    real = torch.randint(most + 1, (count, 1), generator=generator(seed + 2))
    return torch.cat([low, high], -1), labels.masked_fill(torch.arange(most) >= real, -1)


def random_grid(config, count=3, cells=4, seed=0):
    raw = torch.randn(count, cells, cells, config.boxes * 5 + 6, generator=generator(seed))
    return yolo.activate(2 * raw, config)


def batch(count=2, size=64):
    boxes, labels = random_scenes(count, size=size)
    return [torch.rand(count, 3, size, size, generator=generator(9)), boxes, labels]


def as_set(boxes, labels):
    rows = torch.cat([boxes, labels.unsqueeze(-1).to(boxes.dtype)], -1)
    return sorted(tuple(round(x, 3) for x in row) for row in rows.tolist())


# --- the network -------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", [1, 2, 4])
def test_three_levels_of_features(stem):
    backbone = yolo.Backbone(SMALL, stem)
    features = backbone(torch.rand(2, 3, 64, 96))
    assert backbone.channels == (6, 8, 10)
    assert [f.shape for f in features] == [(2, 6, 8, 12), (2, 8, 4, 6), (2, 10, 2, 3)]


@configs
def test_each_cell_has_b_boxes_and_c_scores(name):
    config = CONFIGS[name]
    raw = YOLO(config, SMALL)(torch.rand(2, 3, 64, 96))
    numbers = config.boxes * 5 + 6
    assert raw.shape == (2, 64 // config.stride, 96 // config.stride, numbers)
    grid = yolo.activate(raw.bfloat16(), config)
    assert grid.shape == raw.shape and grid.dtype is torch.float32
    torch.testing.assert_close(grid[..., -6:].sum(-1), torch.ones(raw.shape[:3]))
    confidence = grid[..., 4 : config.boxes * 5 : 5]
    assert confidence.mean().item() == pytest.approx(0.05, abs=0.03)  # as set before training


def test_cells_know_of_the_whole_image_and_lie_where_they_should():
    torch.manual_seed(0)
    model = YOLO(CONFIGS["modern"], SMALL).eval()
    images = torch.rand(1, 3, 96, 96, requires_grad=True)
    model(images)[0, 2, 8].sum().backward()
    strength = images.grad.abs().sum((0, 1))
    assert strength.sum(0).gt(0).float().mean() > 0.9  # of all columns, through level 32
    row, column = divmod(strength.argmax().item(), 96)
    assert abs(row - 20) < 16 and abs(column - 68) < 16  # around the cell's centre


def test_centres_may_leave_the_cell_only_where_neighbours_answer():
    raw = torch.tensor([-50.0, 50, 0, 0, 0] + 6 * [0])
    assert yolo.activate(raw, YoloConfig())[:2].tolist() == pytest.approx([0, 1])
    assert yolo.activate(raw, YoloConfig(cells=3))[:2].tolist() == pytest.approx([-0.5, 1.5])
    assert yolo.activate(raw, YoloConfig(cells=3))[2:5].tolist() == [0.5, 0.5, 0.5]


# --- what the cells should say -----------------------------------------------------------------


def test_an_object_in_the_cell_of_its_centre():
    boxes = torch.tensor([[[8.0, 20, 20, 44], [0, 0, 0, 0]]])  # centre 14, 32; 12 wide, 24 high
    target = yolo.encode(boxes, torch.tensor([[2, -1]]), YoloConfig(), 96, 64)
    assert target.shape == (1, 12, 8, 11)
    assert target[0, 4, 1].tolist() == [0.75, 0, 12 / 64, 0.25, 1, 0, 0, 1, 0, 0, 0]
    assert target[..., 4].sum() == 1
    target[0, 4, 1] = 0
    assert target.abs().sum() == 0


def test_the_two_nearest_neighbours_answer_too():
    boxes, labels = torch.tensor([[[8.0, 20, 20, 44]]]), torch.tensor([[2]])  # 1.75, 4.0 cells
    target = yolo.encode(boxes, labels, YoloConfig(cells=3), 96, 96)[0]
    assert target[..., 4].nonzero().tolist() == [[3, 1], [4, 1], [4, 2]]  # above and right
    assert target[3, 1, :2].tolist() == [0.75, 1.0]
    assert target[4, 2, :2].tolist() == [-0.25, 0.0]
    corner = yolo.encode(torch.tensor([[[0.0, 0, 6, 6]]]), labels, YoloConfig(cells=3), 96, 96)
    assert corner[0, ..., 4].nonzero().tolist() == [[0, 0]]  # others would lie outside


def test_the_later_object_takes_the_cell_and_centres_go_before_neighbours():
    boxes = torch.tensor([[[0.0, 0, 12, 12], [1, 1, 13, 13], [8, 0, 12, 12]]])  # 6,6  7,7  10,6
    labels = torch.tensor([[0, 1, 2]])
    target = yolo.encode(boxes, labels, YoloConfig(), 32, 32)
    assert target[0, 0, 0, 6] == 1 and target[0, 0, 1, 7] == 1 and target[..., 4].sum() == 2
    assert yolo.lost(boxes, labels, YoloConfig(), 32, 32).tolist() == [1]
    assert yolo.lost(boxes, labels, YoloConfig(stride=1), 32, 32).tolist() == [0]
    wide = yolo.encode(boxes, labels, YoloConfig(cells=3), 32, 32)[0]
    assert wide[0, 0, 6] == 1  # own centre, though the third object claims it as a neighbour
    assert wide[1, 0, 6] == 1  # below: claimed by the first and the second
    assert wide[0, 1, 7] == 1 and wide[1, 1, 7] == 1
    turned = yolo.encode(boxes.flip(1), labels.flip(1), YoloConfig(), 32, 32)
    assert turned[0, 0, 0, 5] == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("stride", "cells"), [(8, 1), (16, 1), (32, 1), (8, 3)])
def test_what_is_encoded_can_be_read_again(seed, stride, cells):
    config = YoloConfig(stride=stride, cells=cells)
    boxes, labels = random_scenes(seed=seed)
    boxes = boxes * torch.tensor([2 / 3, 1, 2 / 3, 1])  # images higher than wide
    found = yolo.detections(yolo.encode(boxes, labels, config, 96, 64), config, 0.5, 1.0)
    missing = yolo.lost(boxes, labels, config, 96, 64)
    for image in range(len(boxes)):
        there, mine = labels[image] >= 0, found.images == image
        read = set(as_set(found.boxes[mine], found.labels[mine]))
        real = set(as_set(boxes[image][there], labels[image][there]))
        assert read <= real and len(real - read) == missing[image]
        assert cells == 3 or mine.sum() == len(read)
    assert (found.scores == 1).all()


def test_real_scenes_survive_the_grid():
    scenes, config = SceneMaker("train").draw(40, seed=3), YoloConfig()
    target = yolo.encode(scenes.boxes, scenes.labels, config, SIZE, SIZE)
    found = yolo.detections(target, config, 0.5, 1.0)
    lost = yolo.lost(scenes.boxes, scenes.labels, config, SIZE, SIZE).sum()
    assert len(found.boxes) == (scenes.labels >= 0).sum() - lost


def test_centres_on_the_border_stay_in_the_grid():
    boxes = torch.tensor([[[96.0, 96, 96, 96], [0, 0, 0, 0]]])
    target = yolo.encode(boxes, torch.tensor([[0, 1]]), YoloConfig(cells=3), 96, 96)[0]
    assert target[11, 11, :5].tolist() == [1, 1, 0, 0, 1] and target[0, 0, 4] == 1


# --- the loss ----------------------------------------------------------------------------------


def small_case(config):
    """One image of 2 x 2 cells; an object in cell (1, 0), and another cell that is sure."""
    raw = torch.zeros(1, 2, 2, config.boxes * 5 + 6)
    raw[..., 4 : config.boxes * 5 : 5] = -40.0  # confidence 0
    raw[0, 1, 0, 4] = 0.0
    raw[0, 0, 1, 4] = 40.0
    side = 2 * config.stride
    box = torch.tensor([[[0.0, 0.5, 0.5, 0.75]]]) * side  # centre 0.5, 1.25 cells; 0.5, 0.25
    return raw, box, torch.tensor([[3]])


def values(config, case=None):
    return {k: v.item() for k, v in yolo.parts(*(case or small_case(config)), config).items()}


def test_squared_errors_by_hand():
    got = values(YoloConfig())
    assert got["box"] == pytest.approx(5 * (0.25**2 + (0.5**0.5 - 0.5) ** 2))
    assert got["object"] == pytest.approx(0.5**2)
    assert got["no object"] == pytest.approx(0.5 * 1.0)
    assert got["class"] == pytest.approx((1 - 1 / 6) ** 2 + 5 / 36)
    plain = values(YoloConfig(roots=False, box=2.0, no_object=0.25))
    assert plain["box"] == pytest.approx(2 * (0.25**2 + 0.25**2))
    assert plain["no object"] == pytest.approx(0.25)


def test_modern_losses_by_hand():
    config = YoloConfig(loss="modern")
    raw, boxes, labels = small_case(config)
    got = values(config)
    said = torch.tensor([0.0, 8 + 4 - 4, 8, 8 + 4 + 4])  # centre 4, 12; 8 x 8 pixels
    expected = 1 - box_ops.ciou(said, boxes[0, 0])
    assert got["box"] == pytest.approx(5 * expected.item())
    assert got["object"] == pytest.approx(math.log(2))
    assert got["no object"] == pytest.approx(0.5 * 40)
    assert got["class"] == pytest.approx(math.log(6))


def test_parts_are_shared_among_the_cells_with_an_object():
    config = YoloConfig(boxes=2)
    raw, boxes, labels = small_case(config)
    once = values(config)
    four = [raw.repeat(4, 1, 1, 1), boxes.repeat(4, 1, 1), labels.repeat(4, 1)]
    assert values(config, four) == pytest.approx(once)
    four[2][1:] = -1  # one object to four images: the empty cells weigh as before, four times
    rare = values(config, four)
    assert rare["box"] == pytest.approx(once["box"])
    assert rare["no object"] == pytest.approx(4 * once["no object"] + 3 * 0.5 * 0.25)


def test_of_b_boxes_the_one_that_overlaps_most_is_responsible():
    config = YoloConfig(boxes=2)
    raw, boxes, labels = small_case(config)
    raw[0, 1, 0, 5:10] = torch.tensor([0.0, -1, 0, -1, 1])  # nearer than the first box
    raw.requires_grad_()
    sum(yolo.parts(raw, boxes, labels, config).values()).backward()
    first, second = raw.grad[0, 1, 0, :5], raw.grad[0, 1, 0, 5:10]
    assert first[:4].eq(0).all() and second[[1, 3]].ne(0).all()
    assert first[4] > 0 > second[4]  # the one learns that it has none, the other that it has


@configs
def test_a_batch_without_objects_has_a_finite_loss(name):
    config = CONFIGS[name]
    model = YOLO(config, SMALL)
    images, boxes, labels = batch()
    none = torch.full_like(labels, -1)
    for case in (
        (images, boxes, none),
        (images, boxes * torch.nan, none),
        (images, boxes[:, :0], none[:, :0]),
    ):
        model.zero_grad()
        parts = yolo.yolo_parts(model, case)
        assert [parts[key].item() for key in ("box", "object", "class")] == [0, 0, 0]
        assert 0 < parts["no object"].item() < math.inf
        yolo.yolo_loss(model, case).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())


@configs
@pytest.mark.parametrize("size", [-200.0, 200.0])
def test_extreme_predictions_have_finite_gradients(name, size):
    config = CONFIGS[name]
    boxes, labels = random_scenes()
    cells = SIZE // config.stride
    raw = torch.full((8, cells, cells, config.boxes * 5 + 6), size, requires_grad=True)
    loss = sum(yolo.parts(raw, boxes, labels, config).values())
    loss.backward()
    assert loss.isfinite() and raw.grad.isfinite().all()


@configs
def test_the_loss_of_the_truth_is_zero(name):
    config = CONFIGS[name]
    boxes, labels = random_scenes()
    target = yolo.encode(boxes, labels, config, SIZE, SIZE)
    reach = 0.5 if config.cells == 3 else 0.0
    centres = (target[..., :2] + reach) / (1 + 2 * reach)
    one = torch.cat([centres, target[..., 2:5]], -1).clamp(1e-6, 1 - 1e-6).logit()
    other = torch.tensor([0.0, 0, -9, -9, -40]).expand(*one.shape[:-1], -1)
    scores = torch.where(target[..., 5:] > 0, 40.0, 0.0)
    raw = torch.cat([one] + [other] * (config.boxes - 1) + [scores], -1)
    for part in yolo.parts(raw, boxes, labels, config).values():
        assert part.item() < 0.02


# --- from a grid to boxes ----------------------------------------------------------------------


def test_the_steps_of_the_notes():
    config = YoloConfig(classes=2, stride=10)
    grid = torch.zeros(1, 2, 2, 7)
    grid[0, 0, 0] = torch.tensor([0.5, 0.5, 0.4, 0.2, 0.9, 0.25, 0.75])
    grid[0, 0, 1] = torch.tensor([-0.5, 0.5, 0.4, 0.2, 0.8, 0.0, 1.0])  # the same box
    grid[0, 1, 1] = torch.tensor([0.5, 0.5, 0.4, 0.2, 0.2, 1.0, 0.0])
    sure = yolo.drop_unsure(grid, config, 0.5)
    assert torch.equal(sure[0, 0], grid[0, 0]) and sure[0, 1].abs().sum() == 0
    assert torch.equal(yolo.drop_unsure(grid, config, grid[0, 0, 1, 4].item()), sure)  # not below
    rows = yolo.box_rows(sure, config)
    assert rows.shape == (1, 4, 7)
    torch.testing.assert_close(rows[0, 0], torch.tensor([1, 3, 9, 7, 0.9, 0.25, 0.75]))
    named = yolo.class_rows(rows)
    torch.testing.assert_close(named[0, 0], torch.tensor([1, 3, 9, 7, 1, 0.675]))
    (kept,) = yolo.suppress(named, 0.5)
    torch.testing.assert_close(kept, torch.tensor([[1, 3, 9, 7, 1, 0.8]]))


@configs
@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_all_at_once_equals_the_steps(name, confidence, threshold):
    config = CONFIGS[name]
    grid = random_grid(config)
    found = yolo.detections(grid, config, confidence, threshold)
    rows = yolo.class_rows(yolo.box_rows(yolo.drop_unsure(grid, config, confidence), config))
    for image, steps in enumerate(yolo.suppress(rows, threshold)):
        mine = found.images == image
        torch.testing.assert_close(found.boxes[mine], steps[:, :4])
        torch.testing.assert_close(found.scores[mine], steps[:, 5])
        assert torch.equal(found.labels[mine], steps[:, 4].long())
    assert found.images.diff().ge(0).all()


def test_most_keeps_the_surest_of_each_image():
    config = CONFIGS["paper"]
    grid = random_grid(config)
    every = yolo.detections(grid, config, 0.0, 1.0)
    few = yolo.detections(grid, config, 0.0, 1.0, most=3)
    assert few.images.bincount().tolist() == [3, 3, 3]
    for image in range(3):
        best = every.scores[every.images == image][:3]
        assert torch.equal(few.scores[few.images == image], best)
        assert best.diff().le(0).all()


def test_detect_leaves_the_mode_and_builds_no_graph():
    for training in (True, False):
        model = YOLO(CONFIGS["modern"], SMALL).train(training)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        found = yolo.detect(model, torch.rand(2, 3, 64, 64), confidence=0.0)
        assert model.training == training and not found.scores.requires_grad
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
        assert found.boxes.min() >= 0 and found.boxes.max() <= 64
    nothing = yolo.detect(model, torch.rand(2, 3, 64, 64), confidence=1.0)
    assert [t.shape for t in nothing] == [(0,), (0, 4), (0,), (0,)]


# --- bad input ---------------------------------------------------------------------------------


def test_bad_configs_are_refused():
    cases = {"classes": 0, "boxes": 1.5, "stride": -8, "cells": 2, "loss": "l1", "box": math.nan}
    for name, value in (cases | {"no_object": -1.0}).items():
        with pytest.raises(ValueError, match=f"{name} is .*; allowed"):
            YoloConfig(**{name: value})
    with pytest.raises(ValueError, match="config.stride is 7; allowed are"):
        YOLO(YoloConfig(stride=7))
    with pytest.raises(ValueError, match=r"channels is \(1,\); allowed are two or more"):
        yolo.Backbone((1,))
    with pytest.raises(ValueError, match="stem is 3; allowed are 1, 2 and 4"):
        yolo.Backbone(stem=3)
    with pytest.raises(ValueError, match="images are 64 x 70 pixels; allowed are multiples of 4"):
        yolo.Backbone(SMALL)(torch.rand(1, 3, 64, 70))
    with pytest.raises(ValueError, match="images are 64 x 72 pixels; allowed are multiples of 32"):
        YOLO(channels=SMALL)(torch.rand(1, 3, 64, 72))


def test_a_level_of_an_odd_side_keeps_its_last_places():
    """300 pixels as in SSD300: what is right of the last whole pair of places counts."""
    torch.manual_seed(0)
    backbone = yolo.Backbone((4, 6, 8, 8, 4)).eval()
    images = torch.rand(1, 3, 300, 44)
    features = backbone(images)
    assert [tuple(x.shape[1:]) for x in features] == [(6, 38, 6), (8, 19, 3), (8, 10, 2), (4, 5, 1)]
    assert backbone.strides == (8, 16, 32, 64) and backbone.channels == (6, 8, 8, 4)
    changed = images.clone()
    changed[:, :, -4:] += 1
    assert not backbone(changed)[0][:, :, -1].allclose(features[0][:, :, -1])
    assert backbone(changed)[0][:, :, :30].equal(features[0][:, :, :30])


def test_the_papers_grid():
    with torch.device("meta"):
        row = scenes_recipes.YOLOS["base"]
        model = row.make(classes=20)
        assert model(torch.zeros(1, 3, 448, 448)).shape == (1, 7, 7, 30)


def test_bad_scenes_are_refused():
    boxes, labels, config = torch.zeros(1, 2, 4), torch.zeros(1, 2).long(), YoloConfig()
    cases = [
        ((boxes[0], labels), r"boxes has shape \(2, 4\); allowed is \(N, M, 4\)"),
        ((boxes, labels[:, :1]), r"labels has shape \(1, 1\); allowed is \(1, 2\)"),
        ((boxes, labels + 6), r"labels holds 6 .. 6 in torch.int64; allowed are .* -1 .. 5"),
        ((boxes, labels - 2), "labels holds -2 .. -2"),
        ((boxes, labels.float()), "labels holds 0 .. 0 in torch.float32"),
        ((boxes + torch.tensor([5.0, 0, 0, 0]), labels), "boxes has 2 bad ones"),
        ((boxes * torch.nan, labels), "boxes has 2 bad ones"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            yolo.encode(*arguments, config, 96, 96)
    with pytest.raises(ValueError, match="width is 90; allowed are multiples of 8"):
        yolo.encode(boxes, labels, config, 96, 90)


def test_bad_grids_are_refused():
    config = YoloConfig()
    grid = random_grid(config)
    for bad, message in (
        (grid[0], r"grid is torch.float32 \(4, 4, 11\)"),
        (grid[..., :-1], r"grid has 10 numbers a cell; allowed are B \* 5 \+ 6"),
        (grid * torch.nan, "grid holds 528 NaN; allowed are numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            yolo.detections(bad, config, 0.5, 0.5)
        with pytest.raises(ValueError, match=message):
            yolo.drop_unsure(bad, config, 0.5)
    with pytest.raises(ValueError, match="confidence is 2; allowed are numbers from 0 to 1"):
        yolo.detections(grid, config, 2, 0.5)
    with pytest.raises(ValueError, match="threshold is -1; allowed"):
        yolo.detections(grid, config, 0.5, -1)


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["paper", "modern"])
def test_a_few_scenes_are_learnt_by_heart(name):
    scenes = SceneMaker("train").draw(6, seed=1)
    images = scenes.images.float() / 255
    torch.manual_seed(0)
    model = YOLO(CONFIGS[name], (8, 16, 24, 32))
    batches = train.Batches(images, scenes.boxes, scenes.labels, batch_size=6, seed=0)
    train.fit(model, batches, yolo.yolo_loss, train.FitConfig(150, learning_rate=0.01))
    found = yolo.detect(model, images, confidence=0.5)
    there = scenes.labels >= 0
    hits = 0
    for image in range(6):
        mine = found.images == image
        overlap = box_ops.iou_matrix(scenes.boxes[image][there[image]], found.boxes[mine])
        same = scenes.labels[image][there[image]].unsqueeze(1) == found.labels[mine]
        hits += (overlap.gt(0.5) & same).any(1).sum().item()
    assert hits >= there.sum() - 1 and len(found.boxes) <= there.sum() + 1
