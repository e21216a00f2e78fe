"""Chapter 12's experiments measure what their settings say, on scenes kept for that."""

import pytest
import torch

from course_lib import boxes as box_ops
from course_lib import train
from course_lib.average_precision import Detections, Objects
from course_lib.ssd import SSD, Predictions, SSDConfig, encode
from course_lib.teaching.experiments import ch12


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Three steps of training, few scenes."""
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setattr(ch12, "LEARNED", 12)
    monkeypatch.setattr(ch12, "HELD_OUT", 6)
    for scenes in (ch12.usual_scenes, ch12.low_scenes):
        scenes.cache_clear()
    yield
    for scenes in (ch12.usual_scenes, ch12.low_scenes):
        scenes.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """All calls of `train.fit`: (model, batches, loss, config)."""
    found, fit = [], train.fit

    def keep(*arguments, **options):
        found.append(arguments)
        return fit(*arguments, **options)

    monkeypatch.setattr(train, "fit", keep)
    return found


def test_low_scenes_are_stacked_by_threes_with_their_boxes():
    usual, low = ch12.usual_scenes()[0], ch12.low_scenes()[0]
    images, boxes, labels = low
    assert images.shape == (4, 3, 96, 96) and boxes.shape == (4, 15, 4) and labels.shape == (4, 15)
    first, real = usual[1][4], usual[2][4] >= 0  # scene 4 is the middle one of image 1
    found = boxes[1, 5:10][real]
    expected = first[real] * torch.tensor([1, 1 / 3, 1, 1 / 3]) + torch.tensor([0.0, 32, 0, 32])
    torch.testing.assert_close(found, expected)
    rows = usual[0][4].float().unflatten(1, (32, 3)).mean(2)  # (3, 32, 96)
    assert (images[1, :, 32:64].float() - rows).abs().max() <= 0.5
    assert not boxes[labels < 0].any()


def test_held_out_scenes_are_others():
    learned, held_out = ch12.usual_scenes()
    assert len(learned[0]) == 12 and len(held_out[0]) == 6
    assert not any(torch.equal(a, b) for a in learned[0] for b in held_out[0])
    assert set(learned[2].unique().tolist()) <= {-1, 0}  # objects without names


def test_spoiled_boxes_are_some_and_never_far_away():
    boxes = torch.tensor([10.0, 10, 30, 50]).expand(100, 5, 4)
    assert torch.equal(ch12.spoil(boxes, 0.0, 0), boxes)
    spoiled = ch12.spoil(boxes, 0.25, 0)
    moved = (spoiled != boxes).any(2)
    assert 0.15 < moved.float().mean() < 0.35
    centres = box_ops.to_centres(spoiled)
    assert (centres[..., 0] - 20).abs().max() <= 10 and (centres[..., 1] - 30).abs().max() <= 20
    assert centres[..., 2].min() >= 10 and centres[..., 2].max() <= 40
    assert not torch.equal(ch12.spoil(boxes, 0.25, 1), spoiled)


def test_measured_shapes_follow_the_objects():
    default, ratios = SSDConfig(), ch12.shapes("ratios")
    assert ch12.shapes("default")["ratios"] == default.ratios
    middle, low, high = ratios["ratios"][0]
    assert low < middle < high and middle > 1.5 and ratios["sizes"] == default.sizes
    smaller = ch12.shapes("both")
    assert smaller["ratios"] == ratios["ratios"]
    assert smaller["sizes"][0][0] == pytest.approx(default.sizes[0][0] / 3**0.5)
    counts = [SSDConfig(**ch12.shapes(kind)).per_place for kind in ch12.SHAPES]
    assert all(count == counts[0] for count in counts)


def test_the_settings_reach_the_model_and_its_labels(calls):
    ch12.learn(0, steps=3, box_loss="squared", negatives=None, wrong=1.0)
    model, batches, _, config = calls[0]
    assert model.config.box_loss == "squared" and model.config.negatives is None
    assert model.config.classes == 1 and config.steps == 3
    assert not torch.equal(batches.tensors[1], ch12.usual_scenes()[0][1])
    ch12.learn(0, steps=3, low=True, anchor_shapes="ratios")
    model, batches, *_ = calls[1]
    assert model.config.ratios == ch12.shapes("ratios")["ratios"]
    assert torch.equal(batches.tensors[1], ch12.low_scenes()[0][1])


def test_a_run_is_the_same_for_the_same_seed():
    first, again = (ch12.learn(0, steps=3) for _ in range(2))
    assert first == again
    assert set(first) == {"AP@0.5", "AP", "shown", "background", "largest"}


def test_shown_objects_are_found_by_sure_detections_of_their_image():
    objects = Objects(
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([[0.0, 0, 8, 8], [20, 20, 30, 30], [0, 0, 8, 8], [50, 50, 60, 60]]),
        torch.zeros(4, dtype=torch.int64),
    )
    found = Detections(
        torch.tensor([0, 0, 1]),
        torch.tensor([[0.0, 0, 8, 7], [20, 20, 30, 29], [50, 50, 60, 60]]),
        torch.zeros(3, dtype=torch.int64),
        torch.tensor([0.9, 0.4, 0.5]),
    )
    assert ch12.shown(found, objects) == pytest.approx(2 / 4)


@pytest.mark.parametrize(("loss", "share"), [("l1", 0.1), ("squared", 0.5), ("smooth_l1", 0.1)])
def test_the_largest_tenth_of_the_errors(loss, share):
    errors = torch.ones(100)
    errors[:10] = 9.0  # 2 x 90 of 2 x 180 with squares; smooth L1 pulls with at most 1
    assert ch12.largest_share(errors, loss) == pytest.approx(share)


def test_habits_of_a_perfect_network():
    images, boxes, labels = ch12.usual_scenes()[1]
    model = SSD(SSDConfig(classes=1))

    def perfect(batch):
        matched = ch12.assign(model.anchors, boxes, labels)
        wanted = boxes.gather(1, matched.clamp(min=0).unsqueeze(2).expand(-1, -1, 4))
        offsets = encode(wanted.clamp(min=0) + torch.tensor([0.0, 0, 1e-3, 1e-3]), model.anchors)
        logits = torch.stack([-9.0 * (matched >= 0), 9.0 * (matched >= 0)], dim=2)
        return Predictions(logits, offsets, model.anchors)

    model.forward = perfect
    assert ch12.habits(model, (images, boxes, labels))["background"] < 0.01


def test_overlaps_are_those_of_all_objects_with_all_anchors():
    _, boxes, labels = ch12.low_scenes()[1]
    for kind in ch12.SHAPES:
        values = ch12.overlaps(kind)
        assert values.shape == (int((labels >= 0).sum()), 776)
        assert values.min() >= 0 and values.amax(1).min() > 0 and values.max() <= 1
