# %% [markdown]
# # 10 lab · What keeps a mask true to its image, and its edges sharp?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 10.1 and 10.2 are settled in the
# [lesson](../10_unet.ipynb).

# %%
import torch
import torch.nn.functional as F

from course_lib import data, runtime, train, unet
from course_lib.batches import IGNORED
from course_lib.scenes import CLASSES, SceneMaker
from course_lib.teaching import plot, report
from course_lib.teaching.figures import ch10_lab as figures
from course_lib.teaching.figures.ch02_lab import lines
from course_lib.teaching.figures.ch03 import standard_error
from course_lib.teaching.figures.ch07_lab import dots

clock = report.Clock(budget=35)
SEEDS = 3


def shown(values):
    return f"{values.mean():.2f} ± {standard_error(values):.2f}"


def clearly(values, least=0.0):
    """Whether the mean over seeds lies above `least`, and above two standard errors."""
    return bool(values.mean() > max(least, 2 * standard_error(values)))


# %% [markdown]
# ## 10.3 · “Label maps cannot be resized, only cropped”
#
# A map of class numbers is no photo: between class 1 and class 5 there is no class 3. A network,
# though, may want images of 64 pixels where the scenes have 96. Four ways to get there: crop; take
# for each new pixel the **nearest** old one; mix the numbers of neighbours, as one does with
# photos (bilinear), and round; or turn the map into one picture of zeros and ones for each class,
# resize these, and take for each pixel the class with the most. Which of them will write classes
# into a scene that are not in it?

# %%
SMALL = 64
masks = SceneMaker("train").draw(200, seed=10).mask  # (N, 96, 96)


def resized(planes, mode):
    """Float planes (N, C, H, W) -> (N, C, SMALL, SMALL)."""
    return F.interpolate(planes, size=(SMALL, SMALL), mode=mode)


def one_hot(labels):
    """(N, H, W) -> float (N, classes, H, W)."""
    return F.one_hot(labels.long(), len(CLASSES) + 1).movedim(-1, 1).float()


numbers = masks[:, None].float()  # (N, 1, 96, 96)
ways = {
    "cropped": masks[:, :SMALL, :SMALL].long(),
    "nearest": resized(numbers, "nearest-exact")[:, 0].long(),
    "bilinear, rounded": resized(numbers, "bilinear")[:, 0].round().long(),
    "bilinear, class by class": resized(one_hot(masks), "bilinear").argmax(1),
}

# %%
occurs = one_hot(masks).amax((2, 3)) > 0  # (N, classes): which classes a scene has


def invented(labels):
    """Pixels whose class is not in their scene: (N,)."""
    rows = torch.arange(len(labels))[:, None]
    return (~occurs[rows, labels.flatten(1)]).sum(1)


counts = {name: invented(labels) for name, labels in ways.items()}
worst = int(counts["bilinear, rounded"].argmax())
drawn = figures.label_maps(
    {"96 x 96": masks[worst]} | {name: labels[worst] for name, labels in ways.items()},
    ("background", *CLASSES),
    caption="One scene's label map, and four ways to 64 x 64. Look at the rims after rounding.",
    alt="Five label maps of one scene. Rounding after bilinear resizing puts thin rims of other "
    "classes around the objects; the other ways do not.",
)
extra = set(drawn["bilinear, rounded"]) - set(drawn["96 x 96"])
report.holds("rounded mixtures show classes that are not in the scene", bool(extra))

# %%
for name, found in counts.items():
    report.value(f"Pixels of a class that is not in their scene, {name}", f"{int(found.sum()):,}")
clean = [name for name, found in counts.items() if not found.any() and name != "cropped"]
report.verdict(
    "10.3",
    "Label maps cannot be resized, only cropped",
    outcome="false" if "nearest" in clean else "true",
    evidence=f"no class is invented by “{'” or by “'.join(clean)}”; rounded mixtures invent one in "
    f"{100 * (counts['bilinear, rounded'] > 0).float().mean():.0f} % of the scenes",
)

# %% [markdown]
# What cannot be done is arithmetic with names. The nearest pixel's class is a class of the scene,
# and so is the one with the largest share, whose edges are a little smoother. What both may lose is
# anything thinner than a new pixel, so predictions are best enlarged to the size of the mask and
# scored there. (PyTorch's older mode `nearest` takes the old pixel at the upper left corner of the
# new one; `nearest-exact` takes the one at its middle.)

# %% [markdown]
# ## 10.4 · “Image and mask must be cropped by the same window”
#
# One microscope image, made half as large: the left part is there to learn from, the right part to
# be scored on. Each step takes eight windows of 32 pixels. Now a slip that raises no error: the
# window for the mask is drawn anew. The shapes fit, and the loss falls. But a mask from one place
# says nothing about an image from another. What will such a network say of a nucleus?

# %%
SIZE, STEPS = 32, 60
cells = data.load("nuclei")
light = (cells.image[None].float() + 10).log()  # (1, 1, 512, 512): some are far brighter
picture = F.avg_pool2d((light - light.mean()) / light.std(), 2)  # (1, 1, 256, 256)
nucleus = F.avg_pool2d((cells.label[None, None] > 0).float(), 2) >= 0.5
known = (picture[..., :144], nucleus[..., :144])
fresh = (picture[..., 144:], nucleus[..., 144:])


def windows(generator, same=True):
    """Eight crops of the image and of the mask, (8, 1, SIZE, SIZE) each."""
    limits = [n - SIZE + 1 for n in known[0].shape[2:]]
    corners = [torch.randint(limit, (8,), generator=generator).tolist() for limit in limits]
    others = [torch.randint(limit, (8,), generator=generator).tolist() for limit in limits]
    places = (corners, corners if same else others)
    return tuple(
        torch.cat([whole[..., y : y + SIZE, x : x + SIZE] for y, x in zip(*place, strict=True)])
        for whole, place in zip(known, places, strict=True)
    )


# %%
runtime.seed_everything(0)
pairs = {same: windows(runtime.generator_for(0), same) for same in (True, False)}
drawn = plot.images(
    torch.cat([figures.outlined(*pairs[same])[:6] for same in (True, False)]),
    ["one window"] * 6 + ["two windows"] * 6,
    caption="Crops of the image with the outlines of the crops of the mask. Above, both by one "
    "window; below, each by its own.",
    alt="Twelve crops of nuclei. In the upper row orange outlines run around the nuclei; in the "
    "lower row they run anywhere.",
    columns=6,
)


# %%
def mask_loss(network, batch):
    images, wanted = batch
    return unet.binary_cross_entropy(network(images), wanted)


def learn_nuclei(seed, same=True, skips=True):
    """Probabilities for the right part (1, 1, 256, 112), and the last training losses."""
    runtime.seed_everything(seed)
    network = unet.UNet(1, 1, channels=(8, 16, 32, 64), skips=skips)
    batches = [windows(runtime.generator_for(seed, step), same) for step in range(STEPS)]
    schedule = {"schedule": "one_cycle", "warmup": 0.2}
    config = train.FitConfig(STEPS, "adamw", 0.01, precision="float32", seed=seed, **schedule)
    losses = train.fit(network, batches, mask_loss, config).loss
    with torch.no_grad():
        return network(fresh[0]).sigmoid(), sum(losses[-10:]) / len(losses[-10:])


# The third kind is for claim 10.5.
KINDS = {"one window": {}, "two windows": {"same": False}, "without skips": {"skips": False}}
trained = {
    name: [learn_nuclei(seed, **kind) for seed in range(SEEDS)] for name, kind in KINDS.items()
}


# %%
def region_iou(probability, where=None):
    """IoU of the nuclei; `where` bool (1, 1, H, W) limits the pixels that count."""
    wanted = fresh[1].long()
    if where is not None:
        wanted = wanted.masked_fill(~where, IGNORED)
    counts = unet.confusion((probability > 0.5).long(), wanted, 2)
    return unet.iou(counts)[1].nan_to_num(0).item()


scores = {name: torch.tensor([region_iou(p) for p, _ in runs]) for name, runs in trained.items()}
chosen = ("one window", "two windows")
losses = {name: torch.tensor([loss for _, loss in trained[name]]) for name in chosen}
drawn = dots(
    {
        "training loss at the end": losses,
        "IoU on the other part": {name: scores[name] for name in chosen},
    },
    caption="A dot for each of three seeds, lines at the means.",
    alt="Two panels, each with one window and with two: the loss ends far higher with two windows, "
    "and the IoU is near zero.",
    zero=True,
)

# %%
share = known[1].float().mean()
guess = -(share * share.log() + (1 - share) * (1 - share).log()).item()
said = torch.stack([p[fresh[1]].mean() for p, _ in trained["two windows"]])
harm = scores["one window"] - scores["two windows"]
report.value("Share of the pixels that are nuclei", f"{share:.2f}")
report.value("Training loss of saying that share everywhere", f"{guess:.3f}")
report.value("With two windows, mean probability given to nuclei", shown(said))
report.verdict(
    "10.4",
    "Image and mask must be cropped by the same window",
    outcome="true" if clearly(harm, least=0.1) else "false",
    evidence=f"IoU {shown(scores['one window'])} with one window, "
    f"{shown(scores['two windows'])} with two",
    effect=harm.mean().item(),
    standard_error=standard_error(harm).item(),
)

# %% [markdown]
# With two windows the best one can say of a pixel is how often pixels are nuclei at all. That is
# below one half, so nothing is called a nucleus. The loss does fall, until the network has learned
# this one number, and then it stops: a loss that ends near the one printed above is the sign. So
# draw the window once and use it twice; and look at a batch with its masks on it before training.

# %% [markdown]
# ## 10.5 · “Skip connections carry the detail”
#
# The networks called “one window” once more, and others whose decoders get nothing from across the
# U. These have to draw every edge from the bottom alone, where one place stands for eight by eight
# pixels. Where will they lose: in the middle of the nuclei, or at their edges? Pixels that touch an
# edge are scored apart from all others.

# %%
wanted = fresh[1].float()
near, far = F.max_pool2d(wanted, 3, 1, 1), -F.max_pool2d(-wanted, 3, 1, 1)
edge = near > far  # somewhere in the 3 x 3 pixels around there is another kind
PLACES = {"pixels at edges": edge, "all other pixels": ~edge}
by_place = {
    title: {
        name: torch.tensor([region_iou(p, where) for p, _ in trained[kind]])
        for name, kind in (("with skips", "one window"), ("without", "without skips"))
    }
    for title, where in PLACES.items()
}
drawn = dots(
    {f"IoU, {title}": cases for title, cases in by_place.items()},
    caption="A dot for each of three seeds, lines at the means; the two axes differ.",
    alt="Two panels with skip connections and without: at the edges the IoU falls far more than "
    "elsewhere.",
)

# %%
crop = (..., slice(0, 64), slice(0, 64))
names = ("one window", "without skips")
guesses = torch.cat([trained[name][0][0][crop] for name in names])  # (2, 1, 64, 64)
truth = figures.outlined(fresh[0][crop], fresh[1][crop])  # (1, 3, 64, 64)
pictures = torch.cat([truth, guesses.expand(-1, 3, -1, -1)])
drawn = figures.pictures(
    dict(zip(("image with true edges", "with skips", "without skips"), pictures, strict=True)),
    caption="A corner of the part for scoring, and the probabilities of two networks. The stripes "
    "of the last one are stamps of transposed convolutions, which nothing finer corrects.",
    alt="Three pictures: nuclei with their outlines, sharp white spots of the network with skip "
    "connections, blurred ones of the network without.",
)
report.value("Share of the pixels that are at edges", f"{100 * edge.float().mean():.0f}", unit="%")

# %%
lost = {title: cases["with skips"] - cases["without"] for title, cases in by_place.items()}
more = lost["pixels at edges"] - lost["all other pixels"]
report.verdict(
    "10.5",
    "Skip connections carry the detail",
    outcome="true" if clearly(lost["pixels at edges"], least=0.03) and clearly(more) else "false",
    evidence="IoU lost without them: "
    + ", ".join(f"{shown(values)} ({title})" for title, values in lost.items()),
    effect=more.mean().item(),
    standard_error=standard_error(more).item(),
)

# %% [markdown]
# The bottom of the U knows that something is there, and its many channels could in principle hold
# where the edge runs within its place. To put that into channels and to take it out again would
# have to be learned. The encoder of the upper level has it already, pixel by pixel, and the skip
# connection hands it over. Away from the edges less is lost, but not nothing: in so short a
# training a network without joins also finds the nuclei less surely, as the grey spots show.

# %% [markdown]
# ## 10.6 · “Binary cross entropy is enough”
#
# Where one pixel in eighty belongs to an object, a network that answers *no* everywhere is nearly
# always right. Dice loss does not count the background, so it cannot be satisfied that way. A toy
# whose difficulty can be set: a disc, hardly brighter than the noise around it, of radius 2 or 8 in
# a picture of 32 by 32. The same network, trained with each loss. A pixel is called *object* from
# some probability on, often from one half: at which will each of them score best?


# %%
def discs(radius, count, *key):
    """Images (N, 1, 32, 32) of noise with a faint disc each, and its mask."""
    generator = runtime.generator_for(radius, *key)
    noise = torch.randn(count, 1, 32, 32, generator=generator)
    middle = radius + torch.rand(count, 2, 1, 1, generator=generator) * (32 - 2 * radius)
    places = torch.arange(32) + 0.5
    rows, columns = places[:, None] - middle[:, 0], places - middle[:, 1]  # (N, 32, 1), (N, 1, 32)
    mask = (rows**2 + columns**2 < radius**2)[:, None]  # (N, 1, 32, 32)
    return noise + 0.8 * mask, mask


def overlap_loss(network, batch):
    images, wanted = batch
    return unet.dice_loss(network(images).sigmoid(), wanted)


# %%
RADII, THRESHOLDS = (2, 8), (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
LOSSES = {"binary cross entropy": mask_loss, "Dice loss": overlap_loss}
scored = {radius: discs(radius, 600, 1) for radius in RADII}  # half to choose, half to test
faint, outlined = (
    torch.cat([figures.outlined(scored[r][0][:4], scored[r][1][:4] & told) for r in RADII])
    for told in (False, True)
)
drawn = plot.images(
    torch.cat([faint, outlined]),
    [f"radius {radius}" for radius in RADII for _ in range(4)] + ["outlined"] * 8,
    caption="Above, as the network sees them; below, with the outlines of the discs.",
    alt="Two rows of the same eight pictures of noise. Orange outlines in the lower row mark small "
    "discs in four of them, large discs in the others.",
)


# %%
def learn_discs(radius, pictures, seed, loss):
    """Dice scores by threshold on two sets of new pictures, (2, thresholds)."""
    runtime.seed_everything(seed)
    network = unet.UNet(1, 1, channels=(8, 16))
    batches = train.Batches(*pictures, batch_size=8, seed=seed)
    schedule = {"schedule": "one_cycle", "warmup": 0.2}
    config = train.FitConfig(90, "adamw", 0.02, precision="float32", seed=seed, **schedule)
    train.fit(network, batches, loss, config)
    images, wanted = scored[radius]
    with torch.no_grad():
        halves = network(images).sigmoid().chunk(2)
    truths = wanted.long().chunk(2)
    counts = [
        unet.confusion((half > threshold).long(), truth, 2)
        for half, truth in zip(halves, truths, strict=True)
        for threshold in THRESHOLDS
    ]
    return torch.stack([unet.dice(c)[1] for c in counts]).view(2, -1)


# %%
by_radius = {}
for radius in RADII:
    learn_from = discs(radius, 800, 0)
    by_radius[radius] = {
        name: torch.stack([learn_discs(radius, learn_from, seed, loss) for seed in range(SEEDS)])
        for name, loss in LOSSES.items()
    }  # (seeds, 2, thresholds) each

# %%
drawn = lines(
    THRESHOLDS,
    {
        f"discs of radius {radius}": {name: values[:, 1] for name, values in series.items()}
        for radius, series in by_radius.items()
    },
    ("probability from which a pixel is called object", "Dice score"),
    caption="Scores on new pictures, means of three seeds with standard errors. The two vertical "
    "axes differ.",
    alt="Two panels. For small discs binary cross entropy scores well at a low threshold and near "
    "zero from one half on, Dice loss is flat; for large discs both are alike at one half.",
)
half = THRESHOLDS.index(0.5)
gaps = {
    radius: series["Dice loss"][:, 1, half] - series["binary cross entropy"][:, 1, half]
    for radius, series in by_radius.items()
}

# %%
series = by_radius[2]
low = int(series["binary cross entropy"][:, 0].mean(0).argmax())  # chosen on the first half
rest = series["Dice loss"][:, 1, half] - series["binary cross entropy"][:, 1, low]
too_little = [radius for radius, values in gaps.items() if clearly(values, least=0.05)]
if not too_little:
    outcome = "true"
elif clearly(rest, least=0.05):
    outcome = "false"
else:
    outcome = "depends: on the threshold, where objects are tiny"
report.verdict(
    "10.6",
    "Binary cross entropy is enough",
    outcome=outcome,
    evidence="Dice score that the Dice loss gains at one half: "
    + ", ".join(f"{shown(values)} (radius {radius})" for radius, values in gaps.items())
    + f"; with the other's threshold lowered to {THRESHOLDS[low]}, at radius 2: {shown(rest)}",
)

# %% [markdown]
# Binary cross entropy asks for honest probabilities. For a faint speck the honest answer is
# *possibly*, a probability below one half, and a threshold of one half turns it into *no*. The
# network has found the specks, though, and a lower threshold shows them. Dice loss asks for the
# best mask at once, and pays for it: its probabilities are pushed to 0 and 1 and no longer say how
# sure it is. So choose the threshold on held-out training images, or add up both losses, as many
# do.

# %%
clock.stop()
