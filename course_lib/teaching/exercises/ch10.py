"""Exercises and quizzes of chapter 10."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib import unet
from course_lib.teaching.exercises.exercise import (
    Exercise,
    Rejected,
    expect_numbers,
    expect_tensor,
    without,
)
from course_lib.teaching.quiz import Choice, Quiz

RIGHT_NUMBERS = {
    "rows that a transposed convolution makes of 12: kernel 4, stride 2, padding 1": 24,
    "channels that decoder 4 gets in UNet(channels=(16, 32, 64, 128))": 128,
    "channels of an RGB image after pixel-unshuffle by 4": 48,
    "multiple that UNet(channels=(8, 16, 32, 64, 128), stem=2) fills sides up to": 32,
    "Dice score of a class whose IoU is 0.6": 0.75,
}
ROWS, JOINED, UNSHUFFLED, MULTIPLE, DICE = RIGHT_NUMBERS


def examine_numbers(answer: dict[str, float]) -> None:
    expect_numbers(answer, RIGHT_NUMBERS, _wrong_number)


def _wrong_number(name: str, given: float) -> str:
    said = {
        (ROWS, 26): "So many rows are written. Which of them does the padding cut off?",
        (ROWS, 28): "Padding makes the result of a transposed convolution smaller.",
        (ROWS, 6): "That is what a convolution would make of 12 rows.",
        (JOINED, 64): "So much comes from one side. What arrives from the other?",
        (JOINED, 192): "What comes from below has passed a transposed convolution. How many "
        "channels does that leave?",
        (JOINED, 256): "Decoder 4 stands above the bottom, beside encoder 3.",
        (UNSHUFFLED, 12): "A block of 4 x 4 pixels has more than four.",
        (UNSHUFFLED, 16): "So many pixels has a block. And each of them has three channels.",
        (MULTIPLE, 16): "The poolings are right. What has the stem done before the first of them?",
        (MULTIPLE, 64): "How many poolings lie between five levels?",
        (DICE, 0.6): "The two differ unless they are 0 or 1.",
        (DICE, 0.43): "Dice is the larger of the two.",
    }
    hint = {
        ROWS: "Draw the stamps, each four rows long, and see where the last one ends.",
        JOINED: "Two maps are laid side by side: one from across, one from below.",
        UNSHUFFLED: "Each channel gives one for each pixel of a block of 4 x 4.",
        MULTIPLE: "Every halving on the way down, the stem's too, is a factor of 2.",
        DICE: "Say 6 pixels are common and 10 are in one area or the other. How large are the two "
        "areas together?",
    }
    return f"{name}: {said.get((name, given), hint[name])}"


def examine_stamp_row(stamp_row) -> None:
    stamp_row = without(
        stamp_row,
        "Do it without a ready-made transposed convolution.",
        *((module, f"conv_transpose{n}d") for module in (F, torch) for n in (1, 2)),
    )
    signal, kernel = torch.tensor([1.0, 2, -1, 3]), torch.tensor([1.0, 10, 100])
    value = stamp_row(signal, kernel, 2)
    if isinstance(value, Tensor) and value.shape in ((8,), (12,), (6,)):
        raise Rejected(
            f"{value.shape[0]} numbers came. The last stamp begins at place 3 x 2 and is three "
            "numbers long: how many places is that?"
        )
    expect_tensor(value, (9,), "four numbers stamped with a kernel of three, two places apart,")
    right = _stamped(signal, kernel, 2)
    if torch.allclose(value, _stamped(signal, kernel.flip(0), 2)):
        raise Rejected("The kernel is stamped the wrong way round.")
    if not torch.allclose(value, right):
        if torch.allclose(value[1::2], right[1::2]):
            raise Rejected(
                "Where two stamps meet, at places 2, 4 and 6, they should add up; there a later "
                "stamp has replaced the earlier one, or the other way round."
            )
        raise Rejected(f"It should begin {right[:4].tolist()}; yours: {value[:4].tolist()}.")
    for stride in (1, 3):
        value, right = stamp_row(signal, kernel, stride), _stamped(signal, kernel, stride)
        expect_tensor(value, tuple(right.shape), f"the result with a stride of {stride}")
        if not torch.allclose(value, right):
            raise Rejected(f"Right for a stride of 2, wrong for {stride}.")


def _stamped(signal: Tensor, kernel: Tensor, stride: int) -> Tensor:
    return F.conv_transpose1d(signal[None, None], kernel[None, None], stride=stride)[0, 0]


def solve_stamp_row(signal, kernel, stride):
    result = torch.zeros((len(signal) - 1) * stride + len(kernel))
    for place, value in enumerate(signal):
        result[place * stride : place * stride + len(kernel)] += value * kernel
    return result


def examine_class_iou(class_iou) -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, -1], [0, 0, 0, -1]])
    predicted = torch.tensor([[0, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 2]])
    value = class_iou(predicted, mask, 4)
    expect_tensor(value, (4,), "the IoU of four classes")
    if value[2].item() == 0 or value[:2].isnan().any():
        said = "A class that was predicted only where the label is -1 is not there: NaN."
        raise Rejected(said if value[2].item() == 0 else "Classes 0 and 1 are there; yours is NaN.")
    right = torch.tensor([4 / 7, 3 / 6])
    mistakes = {
        "The pixels labelled -1 should not count; yours count as wrongly found.": (4 / 7, 3 / 7),
        "That is the Dice score: the common area counts twice.": (8 / 11, 6 / 9),
        "That is the recall: pixels that were wrongly taken in must count, too.": (4 / 5, 3 / 5),
        "That is the precision: pixels that were missed must count, too.": (4 / 6, 3 / 4),
        "The common pixels are counted twice below the line.": (4 / 11, 3 / 9),
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value[:2].float(), torch.tensor(wrong), atol=1e-4):
            raise Rejected(reason)
    if not torch.allclose(value[:2].float(), right, atol=1e-4):
        raise Rejected(
            "Classes 0 and 1 should have 4 / 7 and 3 / 6: count the pixels that are there or were "
            f"taken, without the two labelled -1. Yours are {value[0]:.4f} and {value[1]:.4f}."
        )
    if not value[2:].isnan().all():
        raise Rejected("A class that neither is there nor was predicted has no score: NaN.")


def solve_class_iou(predicted, mask, classes):
    predicted, mask = predicted[mask >= 0], mask[mask >= 0]
    scores = []
    for number in range(classes):
        taken, there = predicted == number, mask == number
        scores.append((taken & there).sum() / (taken | there).sum())  # 0 / 0 is NaN
    return torch.stack(scores)


def examine_u_forward(u_forward) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = unet.UNet(2, 3, channels=(4, 6, 8)).eval()
    for parameter in model.parameters():  # so that no mistake hides behind small numbers
        parameter.requires_grad_(False).mul_(1.5)
    image = torch.rand(2, 2, 16, 24, generator=torch.Generator().manual_seed(0))
    parts = model.encoders, model.ups, model.decoders, model.classify
    value = u_forward(image, *parts)
    if isinstance(value, Tensor) and value.shape == (2, 3, 8, 12):
        raise Rejected("It is half as large as the image: no pooling stands before encoder 1.")
    if isinstance(value, Tensor) and value.shape == (2, 4, 16, 24):
        raise Rejected("These are the features of the last decoder, not yet logits.")
    expect_tensor(value, (2, 3, 16, 24), "logits of three classes at each pixel")
    mistakes = {
        "The two halves are the wrong way round: the map from across stands first.": _walk(
            image, *parts, join=lambda across, x: torch.cat([x, across], 1)
        ),
        "Zeros seem to come across. Keep each encoder's output, and hand it over.": _walk(
            image, *parts, join=lambda across, x: torch.cat([torch.zeros_like(across), x], 1)
        ),
        "What comes from below is laid beside itself: the encoder's output is missing.": _walk(
            image, *parts, join=lambda across, x: torch.cat([x, x], 1)
        ),
        "Averages are pooled; the U-Net takes the largest.": _walk(image, *parts, F.avg_pool2d),
    }
    for reason, wrong in mistakes.items():
        if torch.allclose(value, wrong, atol=1e-5):
            raise Rejected(reason)
    if not torch.allclose(value, model(image), atol=1e-5):
        raise Rejected(
            "The shape is right, the logits are not. Does each decoder get the output of the "
            "encoder of its own size, as it was before the pooling?"
        )


def _walk(image, encoders, ups, decoders, classify, pool=F.max_pool2d, join=None) -> Tensor:
    join = join or (lambda across, x: torch.cat([across, x], 1))
    kept, x = [], image
    for level, encoder in enumerate(encoders):
        x = encoder(pool(x, 2) if level else x)
        kept.append(x)
    for level, (up, decoder) in enumerate(zip(ups, decoders, strict=True)):
        x = decoder(join(kept[-2 - level], up(x)))
    return classify(x)


def solve_u_forward(image, encoders, ups, decoders, classify):
    x = encoders[0](image)
    kept = []
    for encoder in encoders[1:]:
        kept.append(x)
        x = encoder(F.max_pool2d(x, 2))
    for up, decoder in zip(ups, decoders, strict=True):
        x = decoder(torch.cat([kept.pop(), up(x)], dim=1))
    return classify(x)


def examine_tiled(tiled) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1, 1, 3, 3, generator=generator) for _ in range(2))
    image = torch.rand(1, 1, 12, 16, generator=generator)
    sizes = []

    def model(window: Tensor) -> Tensor:  # it looks two pixels far
        sizes.append(max(window.shape[2:]))
        hidden = F.relu(F.conv2d(window, first, torch.ones(1), padding=1))
        return F.conv2d(hidden, second, padding=1)

    whole = model(image)
    sizes.clear()
    value = tiled(model, image, 4, 2)
    expect_tensor(value, (1, 1, 12, 16), "the answer for the whole image")
    if max(sizes) > 8:
        raise Rejected(
            f"The network saw {max(sizes)} pixels at once. With tiles of 4 and a margin of 2, 8 "
            "pixels a side are the most that fits."
        )
    if max(sizes) <= 4:
        raise Rejected("The network saw each tile without its surroundings, so there are seams.")
    if not torch.allclose(value, whole, atol=1e-5):
        off = (value - whole).abs()[0, 0] > 1e-5
        inner = off.clone()
        inner[:4], inner[:, :4], inner[8:], inner[:, 12:] = False, False, False, False
        if not inner.any():
            raise Rejected(
                "Only the tiles at the border of the image are wrong. There is no margin beyond "
                "the image: the window begins at 0, and so the tile at another place of it."
            )
        raise Rejected(f"{int(off.sum())} of {off.numel()} pixels differ from the whole image's.")


def solve_tiled(model, image, tile, margin):
    rows = []
    for top in range(0, image.shape[2], tile):
        row = []
        for left in range(0, image.shape[3], tile):
            y, x = max(top - margin, 0), max(left - margin, 0)
            logits = model(image[:, :, y : top + tile + margin, x : left + tile + margin])
            row.append(logits[:, :, top - y : top - y + tile, left - x : left - x + tile])
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


numbers = Exercise(
    "10.1",
    "sizes, channels, scores",
    examine_numbers,
    RIGHT_NUMBERS,
    (
        "Stamps two rows apart: where does the last one begin and end? The padding cuts off one "
        "row at the beginning and one at the end.",
        "Going up, a transposed convolution halves the channels before the join. Every pooling, "
        "and the stem, doubles the multiple.",
        "With I the common area and U the area of both together, the two areas sum to U + I.",
    ),
)
stamp_row = Exercise(
    "10.2",
    "a transposed convolution in one dimension",
    examine_stamp_row,
    solve_stamp_row,
    (
        "Begin with zeros. How many? The last stamp begins at (length - 1) * stride.",
        "Add to a slice of the result with `+=`, one number of the signal after the other.",
    ),
)
class_iou = Exercise(
    "10.3",
    "IoU of each class",
    examine_class_iou,
    solve_class_iou,
    (
        "First throw away the pixels labelled -1, in both: `predicted[mask >= 0]`.",
        "For one class, `taken = predicted == number` and `there = mask == number` are bools: "
        "count `&` and `|`.",
    ),
)
u_forward = Exercise(
    "10.4",
    "through the U",
    examine_u_forward,
    solve_u_forward,
    (
        "Keep the output of every encoder but the last in a list. `list.pop()` gives the newest.",
        "Before every encoder but the first stands `F.max_pool2d(x, 2)`; before every decoder "
        "stands its `up`, and then `torch.cat` along axis 1, what comes across first.",
    ),
)
tiled = Exercise(
    "10.5",
    "tiles without seams",
    examine_tiled,
    solve_tiled,
    (
        "Two loops over `range(0, side, tile)`. The window begins `margin` before the tile, but "
        "never before 0; beyond the end slicing takes care of itself.",
        "If the window begins at `y`, the tile begins at `top - y` within it.",
        "`torch.cat(row, dim=3)` joins tiles side by side, `dim=2` joins the rows.",
    ),
)
EXERCISES = (numbers, stamp_row, class_iou, u_forward, tiled)

QUIZZES = (
    Quiz(
        "A U-Net for road scenes labels 97 % of all pixels rightly. How good is it?",
        (
            Choice("Very good: only three pixels in a hundred are wrong.",
                   "Those three may be all the pedestrians: they are few pixels."),
            Choice("That cannot be said without the score of each class.",
                   "Road, sky and houses fill most of the picture; IoU by class tells the rest.",
                   correct=True),
            Choice("Bad: it should be judged by its loss.",
                   "The loss is a mean over pixels as well."),
        ),
    ),
    Quiz(
        "What does a skip connection bring to a decoder?",
        (
            Choice("The gradient, which would vanish on the long way round.",
                   "It shortens the gradient's way, too. But it is there for what it carries "
                   "forward."),
            Choice("The same map as comes from below, as a safeguard.",
                   "They differ: from below comes a coarse map that has seen much of the image."),
            Choice("A map with the full detail of its level.",
                   "What pooling threw away on the way down is still in it.", correct=True),
        ),
    ),
    Quiz(
        "A mask of class numbers is to be made half as large. How?",
        (
            Choice("Each new pixel takes the class of the nearest old one.",
                   "Each label is one that was there.", correct=True),
            Choice("Like the image: each new pixel takes the mean of old ones, rounded.",
                   "Between class 1 and class 3 that invents class 2."),
            Choice("Masks cannot be resized, only cropped.",
                   "Often said. With the nearest pixel they can: the lab measures it."),
        ),
    ),
    Quiz(
        "A brain network reaches a Dice score of 0.99 on slices kept aside at random. What would "
        "you ask first?",
        (
            Choice("What a copy of the neighbouring slice's mask reaches.",
                   "Neighbours are nearly alike: 0.99 may be mere copying.", correct=True),
            Choice("What its IoU is.", "That follows from Dice: about 0.98."),
            Choice("How many parameters it has.",
                   "Worth knowing, but it does not tell what the score is worth."),
        ),
    ),
    Quiz(
        "Each tile is shown to the network with a margin around it, and of the answer only the "
        "inner part is kept. Why?",
        (
            Choice("To take the mean of two answers where tiles meet.",
                   "Some do so, and it hides the seams a little. Here only one answer is kept for "
                   "each pixel."),
            Choice("Because the image's side may be no multiple of the tile's.",
                   "A smaller last tile would do for that."),
            Choice("So that every pixel sees as much around it as in the whole image.",
                   "Then its answer is the same, wherever the tiles begin.", correct=True),
        ),
    ),
)  # fmt: skip
