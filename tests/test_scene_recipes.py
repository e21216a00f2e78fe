"""The recipes of chapters 10 to 12: what goes in, and how results are counted."""

import pytest
import torch

from course_lib import average_precision, boxes, recipes, scenes
from course_lib.recipes import scenes as scene_recipes
from course_lib.scenes import SceneConfig, SceneMaker


@pytest.fixture(scope="module")
def few():
    return SceneMaker("train").draw(12, seed=3)


@pytest.fixture
def small_sets(monkeypatch, few):
    """Training and testing on twelve scenes instead of thousands."""
    monkeypatch.setattr(scene_recipes, "training_scenes", lambda: few)
    monkeypatch.setattr(scene_recipes, "test_scenes", lambda: {"seen": few, "unseen": few})


class Knows(torch.nn.Module):
    """Says what it was told, whatever it is shown."""

    def __init__(self, answer):
        super().__init__()
        self.answer = torch.nn.Parameter(answer)

    def forward(self, images):
        return self.answer[: len(images)]


def test_a_right_mask_scores_one_and_wrong_classes_cost_the_mean_alone(few):
    truth = torch.nn.functional.one_hot(few.mask.long(), 7).permute(0, 3, 1, 2).float()
    assert scene_recipes.segmentation_scores(Knows(truth), few) == {
        "object IoU": 1,
        "mean IoU": 1,
    }
    classes = [0, 2, 1, 3, 4, 5, 6]  # fruit and flower exchanged
    scores = scene_recipes.segmentation_scores(Knows(truth[:, classes]), few)
    assert scores["object IoU"] == 1 and scores["mean IoU"] == pytest.approx(4 / 6)


def perfect(few, labels):
    truth = average_precision.objects_of(few.boxes, labels)
    return lambda *_: average_precision.Detections(*truth, torch.ones(len(truth.labels)))


def test_a_right_detector_scores_one_and_wrong_names_leave_the_object_ap(few):
    model = Knows(torch.zeros(1))
    scores = recipes.detection_scores(model, perfect(few, few.labels), few)
    assert all(value == pytest.approx(1) for value in scores.values())
    wrong = torch.where(few.labels >= 0, (few.labels + 1) % 6, -1)
    scores = recipes.detection_scores(model, perfect(few, wrong), few)
    assert scores["object AP"] == pytest.approx(1) and scores["mAP@0.5"] < 0.3


def test_each_size_has_a_good_part_of_the_objects():
    drawn = SceneMaker("train", SceneConfig()).draw(300, seed=0)
    area = boxes.area(drawn.boxes[drawn.labels >= 0])
    shares = [
        (area <= scene_recipes.SMALL).float().mean(),
        (area >= scene_recipes.LARGE).float().mean(),
    ]
    assert min(*shares, 1 - sum(shares)) > 0.15


def test_turned_tiles_keep_their_trees():
    images = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    images[:, :, 20:50, 100:180] = 255
    batch = images, torch.tensor([[[100.0, 20, 180, 50], [0, 0, 0, 0]]]), torch.tensor([[0, -1]])
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(40):
        pixels, turned, labels = scene_recipes._turn_tiles(batch, generator)
        instances = (pixels[:, 0] == 1).byte()
        assert turned[:, :1].equal(scenes.tight_boxes(instances, 1)) and labels.equal(batch[2])
        seen.add(tuple(turned[0, 0].tolist()))
    assert len(seen) == 8


def test_crown_tiles_are_split_by_photo_and_hold_every_box():
    counts = {}
    for split in ("train", "test", "far"):
        images, crowns, labels = scene_recipes.crown_tiles(split)
        boxes.check_boxes(crowns[labels == 0])
        counts[split] = len(images), int((labels == 0).sum())
    assert counts == {"train": (60, 454), "test": (16, 231), "far": (2, 36)}


@pytest.mark.parametrize("name", ["unet", "yolo", "ssd"])
def test_a_few_steps_on_a_few_scenes_lower_the_loss(name, small_sets):
    recipe = getattr(recipes, name)(steps=12, batch_size=6)
    history = recipe.fit()
    assert sum(history.loss[-3:]) < sum(history.loss[:3])
    results = recipe.test(recipe.model)
    assert {key.split()[0] for key in results} == {"seen", "unseen"}


def test_the_batches_of_a_seed_are_its_own(small_sets):
    first, again, other = (next(iter(recipes.yolo(seed=s).batches))[0] for s in (0, 0, 1))
    assert first.equal(again) and not first.equal(other)
    assert first.dtype is torch.float32 and first.min() >= 0 and first.max() <= 1
