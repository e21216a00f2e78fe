# %% [markdown]
# # 10 · Which pixel belongs to what?
#
# Until now a network looked at a picture and said one word. Look at the scenes below: which word
# would you choose for the last? And if the picture came from a car's camera, would a word do? A
# driver must know *where* the pedestrian is. Below each scene is the answer that this chapter asks
# for. How many labels are in one such answer?

# %%
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import classics, cnn, data, recipes, runtime, train, unet
from course_lib.recipes import scale_pixels
from course_lib.recipes.scenes import test_scenes
from course_lib.scenes import CLASSES, SceneMaker
from course_lib.teaching import plot, report, widgets
from course_lib.teaching.figures import ch10 as figures

clock = report.Clock(budget=125)
scenes = SceneMaker("train").draw(60, seed=5)
images, masks = scale_pixels(scenes.images), scenes.mask.long()  # (60, 3, 96, 96), (60, 96, 96)
chosen = [1, 41, 16, 21, 36, 39]
drawn = figures.segmentations(
    images[chosen],
    {"what is where": masks[chosen]},
    caption="Above, photos on which cut-out objects were put. Below, for each pixel what it shows.",
    alt="Six small photos of landscapes with fruits, flowers, vehicles, animals and road signs. "
    "Below each the shapes of its objects, filled with one colour for each class.",
)
assert drawn["what is where"][0] == (masks[chosen] == 0).sum()
print(f"{masks[0].numel():,} labels for one scene of {masks.shape[1]} x {masks.shape[2]} pixels")

# %% [markdown]
# > **semantic segmentation**: gives every pixel of an image a class.
#
# The photos and the objects are real, their arrangement is drawn by lot. So we know the answer for
# every pixel without anybody having to outline it by hand, which takes a person many minutes for
# one photo. (Some photos have false colours: in training scenes the colours are exchanged at
# random, so that the few photos are not learned by heart.) And we can keep some *objects* for the
# test: whether a network that knows twenty birds finds the twenty-first is another question than
# whether it finds the twenty again.
#
# **When you are through you can** compute a transposed convolution by hand and say what it undoes
# and what not, turn a classifier into a network that labels pixels, build a U-Net of any depth and
# for any size of image, choose between three losses and two scores, change an image together with
# its mask, label an image that is too large for the memory, and count cells. You will have trained
# three U-Nets. It takes about two and a half hours to read and try; the code runs within about two
# minutes. You need chapters 02 and 05.
#
# ## Build it: a label for each pixel
#
# Images are (N, 3, H, W) as before. The answer is a mask (N, H, W) of class numbers, 0 for the
# background. The network gives logits (N, 7, H, W), seven for each pixel, and cross entropy is
# taken at every pixel. Before you run the cell: a network that has learned nothing but “all is
# background”, how many of the pixels does it label rightly?

# %%
shares = masks.flatten().bincount(minlength=7) / masks.numel()
for name, share in zip(("background", *CLASSES), shares.tolist(), strict=True):
    print(f"{name:<11}{100 * share:5.1f} % of the pixels")
logits = torch.zeros(60, 7, 96, 96)
logits[:, 0] = 5.0  # all is background
right = (logits.argmax(dim=1) == masks).float().mean().item()  # (60, 7, 96, 96) -> (60, 96, 96)
print(f"all is background: {100 * right:.1f} % right")
report.holds("accuracy praises a network that finds nothing", right > 0.7)

# %% [markdown]
# Accuracy will not do; we come back to that. First, how do we get so many numbers out of a network?
# A classifier makes images smaller, layer by layer, so that its last layers see whole objects at
# once. To label pixels, we must go down, in order to see *what* it is, and then up again, in order
# to say *where*. What is the opposite of a convolution with a stride?
#
# ## Build it: transposed convolution
#
# A convolution looks at a window and writes one number. Turn that around: read one number, and
# write a window. Each pixel stamps the kernel onto the result, as strong as the pixel; where stamps
# meet they add up. The stride is the distance between neighbouring stamps.
#
# > **transposed convolution**: every input pixel adds the kernel, times its value, to the output;
# > the stride says how far apart. With a stride of 2 it makes an image about twice as large.
#
# An image of 2x2, a kernel of 3x3, a stride of 2. What size comes out? How many stamps write on its
# middle pixel?

# %%
tiny = torch.tensor([[1.0, 2], [3, 4]])
kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])


def stamp(image, kernel, stride):
    """A transposed convolution of one image (H, W) with one kernel (kH, kW)."""
    height, width = ((n - 1) * stride + k for n, k in zip(image.shape, kernel.shape, strict=True))
    result = torch.zeros(height, width, dtype=image.dtype)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            rows = slice(row * stride, row * stride + kernel.shape[0])
            columns = slice(column * stride, column * stride + kernel.shape[1])
            result[rows, columns] += image[row, column] * kernel
    return result


total = figures.stamps(
    tiny,
    kernel,
    stride=2,
    caption="Four pixels, four stamps, and their sum, 5 x 5. On the middle pixel all four overlap.",
    alt="Five grids of 5 by 5 numbers: a stamp in each corner, and the sum of the four, which is "
    "largest in the lower right middle.",
)
report.equal("by hand", stamp(tiny, kernel, 2), torch.tensor(total))

# %% [markdown]
# **Check it.** The library's `unet.conv_transpose2d` does the same for many channels, with padding
# (which here *cuts off* rows), dilation and groups. Ours, the library's and PyTorch's, in values
# and gradients, in float64:

# %%
generator = runtime.seed_everything(0)
x = torch.rand(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
w = torch.rand(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
results = {
    "by hand": stamp(x, w, 2),
    "the library": unet.conv_transpose2d(x[None, None], w[None, None], stride=2)[0, 0],
    "PyTorch": F.conv_transpose2d(x[None, None], w[None, None], stride=2)[0, 0],
}
found = {}
for name, result in results.items():
    total = (result * torch.arange(9.0)).sum()  # a weight for each column: no two count alike
    found[name] = [result, *torch.autograd.grad(total, (x, w))]
for part, ours, middle, theirs in zip(
    ("values", "gradient of the image", "gradient of the kernel"), *found.values(), strict=True
):
    report.equal(f"{part}, by hand", ours, theirs)
    report.equal(f"{part}, the library", middle, theirs)

# %% [markdown]
# **Why transposed?** Chapter 02 wrote a convolution as a matrix: many zeros, and the kernel's
# numbers again and again. The transpose of that matrix, its rows written as columns, leads from few
# pixels to many, with the same numbers. That is all that the name means.
#
# But one often hears “deconvolution”. Does it bring the image *back*? An image goes through a
# convolution and then through the transposed one with the same kernel. What do you expect: the
# shape, the values, both? To be fair we multiply what comes back by whatever number helps most.
#
# The second cell asks whether *any* layer could do it. It looks for a twin: another image with the
# very same convolution. Of all changes to an image it takes those that the matrix turns to 0, and
# adds the ones that lead towards another scene.

# %%
before, other = images[[chosen[0], chosen[4]]].mean(dim=1)[:, None, None, ::4, ::4].double()  # grey
settings = {"kernel 3": (3, 1, 1, 0), "kernel 3, stride 2": (3, 2, 1, 1),
            "kernel 4, stride 2": (4, 2, 1, 0)}  # fmt: skip
same_shape, errors = [], []
for name, (size, stride, padding, extra) in settings.items():
    w = torch.randn(1, 1, size, size, generator=generator, dtype=torch.float64) / size
    w = w - w.mean()  # it looks for differences, as many trained kernels do
    small = F.conv2d(before, w, stride=stride, padding=padding)
    back = F.conv_transpose2d(small, w, stride=stride, padding=padding, output_padding=extra)
    matrix = cnn.dense_matrix(w, 24, stride=stride, padding=padding)  # (pixels out, 576)
    by_matrix = (matrix.T @ small.flatten()).view(back.shape)
    report.equal(f"{name}: the transposed matrix", by_matrix, back)
    same_shape.append(back.shape == before.shape)
    best = back * (back * before).sum() / (back * back).sum()  # the strength that helps most
    errors.append(((best - before).norm() / before.norm()).item())
report.verdict(
    "10.1",
    "A transposed convolution inverts a convolution",
    outcome="true" if max(errors) < 1e-6 else "false",
    evidence=f"it brought back the shape in {sum(same_shape)} of {len(errors)} cases; the error of "
    f"the values was {min(errors):.2f} to {max(errors):.2f} of the image's own size (norms)",
)

# %%
# The singular value decomposition lists all changes to an image, those turned to 0 at the end.
rank = torch.linalg.matrix_rank(matrix)
blind = torch.linalg.svd(matrix).Vh[rank:]  # (432, 576): changes that the convolution cannot see
change = blind.T @ (blind @ (other - before).flatten())  # of those, towards another image
twin = before + change.view(before.shape)
report.equal("the twin's convolution", F.conv2d(twin, w, stride=2, padding=1), small, atol=1e-9)
stretched = (back - back.min()) / (back.max() - back.min())
pictures = {"what went in": before, "what comes back": stretched, "a twin of it": twin}
figures.maps(
    {name: picture[0] for name, picture in pictures.items()},
    caption="The second has the first one's size, not its values (stretched from black to white). "
    "The third has the very same convolution as the first: nothing can tell which went in.",
    alt="Three pictures of 24 by 24 pixels: a large bird; hardly recognisable remains of it; and "
    "another scene with traces of the bird.",
)
print(f"the convolution keeps {rank} of {before.numel()} numbers")

# %% [markdown]
# It brings back the shape, and nothing else. With a stride nothing could bring back the values: a
# quarter of the numbers is left, so different images have the same convolution. What a network
# *learns* is a stamp that makes something useful of what is left.
#
# (A kernel whose size is no multiple of the stride stamps some pixels more often than others, as
# above, where the middle row was written twice. Generated pictures used to show it as a fine
# chequered pattern. With a kernel of 2 or 4 and a stride of 2, all pixels inside are written
# equally often.)
#
# **A good start.** Bilinear interpolation enlarges an image by drawing straight lines between its
# pixels. That is a stamp, too: a tent, 1 at its top, falling evenly on all sides. So a transposed
# convolution can *begin* as an interpolation and go on from there. For a factor of 2, along one
# axis: which four numbers make the tent? (Its top lies between two pixels, and neighbouring tents
# must add up to 1.) And will the result equal `F.interpolate` at every pixel?

# %%
tent = torch.tensor([0.25, 0.75, 0.75, 0.25])
report.equal("the kernel is tent times tent", tent[:, None] * tent, unet.bilinear_kernel(2))
thumb = images[chosen[4]][:, ::8, ::8][None]  # (1, 3, 12, 12)
inside, border = [], []
for factor in (2, 3, 4, 8):
    with torch.no_grad():
        ours = unet.upsampling(3, factor)(thumb)  # (1, 3, 12 factor, 12 factor)
    theirs = F.interpolate(thumb, scale_factor=factor, mode="bilinear", align_corners=False)
    apart = (ours - theirs).abs().amax(dim=(0, 1))
    half = factor // 2  # as far as the outermost tents reach over the border
    inside.append(apart[half:-half, half:-half].max().item())
    border.append(apart.max().item())

# %%
shown = figures.maps(
    {"transposed": ours[0], "F.interpolate": theirs[0], "difference": apart},
    caption="Enlarged eight times. The two differ in a narrow frame only: there the tents of the "
    "pixels that would lie outside are missing, so it is too dark.",
    alt="Two enlarged pictures that look alike, the first with a dark frame; the third is black "
    "but for a bright frame.",
)
alike = max(inside) < 1e-5
report.verdict(
    "10.2",
    "With bilinear weights, a transposed convolution is bilinear upsampling",
    outcome="true" if max(border) < 1e-5 else
    "depends: true inside, not at the border" if alike else "false",
    evidence=f"factors 2, 3, 4, 8, values from 0 to 1: inside they differ by {max(inside):.1g} at "
    f"most, in the outermost half of a stride by {min(border):.2f} or more with each factor",
)  # fmt: skip

# %% [markdown]
# Inside, it is the same sum of the same numbers. At the border `F.interpolate` repeats the
# outermost pixels, and the transposed convolution has nothing there to stamp. For a start that is
# good enough; the rest is learned.
#
# ## Build it: from a classifier to a map
#
# A classifier ends in a mean over all places and a linear layer. Leave out the mean, let the linear
# layer work at each place on its own (a 1x1 convolution does that), and there is a small map of
# logits in place of one row. Enlarge it, and every pixel has its logits.
#
# > **fully convolutional network (FCN)**: a network without layers that need a fixed size of image,
# > so that it gives a map of logits in place of one row.
#
# Two images of 96x96 pixels go in. Three poolings make the maps eight times smaller, and the last
# ones have 64 channels. Predict three shapes: of these features, of the small map of logits, of the
# enlarged one.

# %%
body = nn.Sequential(*(cnn.conv_block(a, b, pool=True) for a, b in ((3, 16), (16, 32), (32, 64))))
fcn = unet.FCN(body, channels=64, classes=7, factor=8).eval()
with torch.no_grad():
    features = fcn.body(images[:2])
    coarse = fcn.classify(features)
    fine = fcn.enlarge(coarse)
for name, x in {"features": features, "coarse": coarse, "fine": fine}.items():
    print(f"{name:<9}{tuple(x.shape)}")
report.holds("that is the whole network", fcn(images[:2]).equal(fine))

# %% [markdown]
# How good can such a map be? Suppose the network made no mistake, and its coarse map held exactly
# how much of each class is in each square of eight by eight pixels. Enlarge *that*, and compare it
# with the truth. Below, for squares of 1 to 32 pixels a side, the score IoU: 1 is perfect, 0 means
# that nothing was found (we build it by hand further down). From which size on do legs get lost,
# and from which whole objects?

# %%
exact = F.one_hot(masks, 7).movedim(3, 1).float()  # (60, 96, 96) -> (60, 7, 96, 96)
best, perfect = {}, {}
for factor in (1, 2, 4, 8, 16, 32):
    squares = F.avg_pool2d(exact, factor)  # -> (60, 7, 96 / factor, 96 / factor)
    with torch.no_grad():
        perfect[factor] = unet.upsampling(7, factor)(squares).argmax(dim=1)  # (60, 96, 96)
    best[factor] = unet.iou(unet.confusion(perfect[factor], masks, 7))[1:].mean().item()
figures.segmentations(
    images[chosen],
    {"truth": masks[chosen], "squares of 8": perfect[8][chosen], "of 16": perfect[16][chosen]},
    caption="What is left of a perfect answer given in squares. Which objects are gone?",
    alt="Photos, their masks, and two rows of coarse masks: legs and small objects vanish.",
)
for factor, score in best.items():
    report.value(f"squares of {factor} x {factor}, IoU", f"{score:.2f}")
report.holds("coarse answers lose detail", best[8] < 0.9 and best[32] < 0.5)

# %% [markdown]
# With squares of eight, legs are gone; with sixteen, whole objects.
#
# ## Build it: the U
#
# What was lost on the way down was still there *before* the way down. So keep it: whenever the way
# up has reached the size of an earlier map, lay that map beside what comes from below, and let
# convolutions mix the two. From below comes what it is, from the side comes where exactly.
#
# > **skip connection**: brings an early map to a late layer of the same size. A U-Net concatenates
# > the two; a shortcut (chapter 05) adds.
#
# Encoders 1 to 3 go down, decoders 4 to 6 come up. Each of these blocks is two convolutions of 3x3,
# with batch norm and ReLU. Going down, a max pooling stands before each block; coming up, a
# transposed convolution of 2x2. Here is one for our scenes, with few channels:

# %%
runtime.seed_everything(0)
small_net = unet.UNet(inputs=3, classes=7, channels=(8, 16, 32, 64)).eval()
shapes = figures.u_shape(
    small_net,
    (3, 96, 96),
    caption="Each box gives channels × height × width. Grey: down by pooling, up by transposed "
    "convolution. Blue: the joins. Decoder 4 joins with encoder 3, 5 with 2, 6 with 1.",
    alt="Boxes in the form of a U: from the image down three encoders to the bottom, up three "
    "decoders to the logits. Blue arrows go across from each encoder to a decoder.",
)
assert shapes["decoder 4"] == shapes["encoder 3"]

# %% [markdown]
# The same with our own hands, level by level, and with the network's own layers. What is the shape
# of the input of decoder 4? And which block has the most parameters, one at the top or the bottom?

# %%
x = images[:2]
with torch.no_grad():
    one = small_net.encoders[0](x)  # (2, 3, 96, 96) -> (2, 8, 96, 96)
    two = small_net.encoders[1](F.max_pool2d(one, 2))  # -> (2, 16, 48, 48)
    three = small_net.encoders[2](F.max_pool2d(two, 2))  # -> (2, 32, 24, 24)
    bottom = small_net.encoders[3](F.max_pool2d(three, 2))  # -> (2, 64, 12, 12)
    joined = torch.cat([three, small_net.ups[0](bottom)], dim=1)  # (2, 32 + 32, 24, 24)
    four = small_net.decoders[0](joined)  # -> (2, 32, 24, 24)
    five = small_net.decoders[1](torch.cat([two, small_net.ups[1](four)], dim=1))  # (2, 16, 48, 48)
    six = small_net.decoders[2](torch.cat([one, small_net.ups[2](five)], dim=1))  # (2, 8, 96, 96)
    by_hand = small_net.classify(six)  # (2, 7, 96, 96)
    report.equal("logits", by_hand, small_net(x))
print("decoder 4 gets", tuple(joined.shape))
for name, part in {"encoder 1": small_net.encoders[0], "bottom": small_net.encoders[3],
                   "decoder 4": small_net.decoders[0], "decoder 6": small_net.decoders[2],
                   "all": small_net}.items():  # fmt: skip
    print(f"{name:<10}{classics.parameters(part):>9,} parameters")

# %% [markdown]
# A weight leads from a channel that comes in to one that goes out. So most of them are at the
# bottom, where the channels are many. (The paper's U-Net had no batch norm yet, and no padding: its
# maps lost a frame at every convolution, and those from across were cropped before they were
# joined.)
#
# Where the question is only “object, yes or no?”, one output channel is enough: a sigmoid makes it
# the probability of yes, and the loss is binary cross entropy. We shall train both kinds.
#
# **Odd sizes.** A map of 97 pixels, halved three times and doubled three times, has 96, and does
# not fit beside the old one. So the library's U-Net fills an image up to the next multiple of some
# number, by repeating its last row and column, and cuts the result. Which number is it, with three
# poolings?

# %%
print("sides are filled up to a multiple of", small_net.multiple)
with torch.no_grad():
    for size in ((97, 61), (5, 1)):
        print(size, "->", tuple(small_net(torch.rand(1, 3, *size)).shape))
    short = images[:1, :, :90]  # (1, 3, 90, 96)
    filled = torch.cat([short, short[:, :, -1:].expand(-1, -1, 6, -1)], dim=2)  # 96 rows again
    report.equal("filled up by hand", small_net(filled)[:, :, :90], small_net(short), atol=1e-5)

# %% [markdown]
# A factor of 2 for each pooling.
#
# **Where does the work go?** The top has the most pixels, the bottom the most channels. And there
# is a trick that saves at all levels, a *stem* before the first layer: it turns each block of 2x2
# pixels into channels of *one* pixel. Nothing is lost, no number changes; a quarter of the places
# is left. At the end the blocks are taken apart again.
#
# > **pixel-unshuffle**: blocks of r x r pixels become channels: (C, H, W) -> (C r², H / r, W / r).
#
# Predict: which pixels of a 4x4 image stand in its first channel after pixel-unshuffle by 2? Which
# level of the U costs most? And what part of the work is left with the stem?

# %%
square = torch.arange(16.0).view(1, 1, 4, 4)
by_hand = torch.cat([square[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)
report.equal("pixel-unshuffle by hand", by_hand, F.pixel_unshuffle(square, 2))
print("its first channel:", by_hand[0, 0].tolist())
totals = {}
for name, stem in {"without the stem": 1, "with the stem": 2}.items():
    network = unet.UNet(3, 7, channels=(16, 32, 64, 128), stem=stem)
    work = figures.work_by_level(network, (3, 96, 96))
    totals[stem] = sum(work.values())
    levels = ", ".join(f"{level} {count / 1e6:.0f}" for level, count in work.items())
    print(f"{name}, millions of multiply-adds: {levels}")
print(f"without the stem {totals[1] / totals[2]:.1f} times the work")
report.holds("the stem saves most of the work", totals[1] > 3 * totals[2])

# %% [markdown]
# A level down has a quarter of the places and twice the channels on both sides of each kernel: the
# same work. (The bottom has no way up.) With the stem far more steps fit into a minute of training;
# the price is that the four pixels of a block share all layers but the last.
#
# ## Build it: three losses
#
# - **Binary cross entropy**: one logit a pixel, yes or no. With $p$ the sigmoid of the logit and
#   $m$ the mask: the mean of $-m\log p-(1-m)\log(1-p)$.
# - **Cross entropy**: seven logits a pixel, as in chapter 01, the mean over all pixels. Pixels
#   labelled -1 are left out: in many data sets nobody could say where exactly an object ends.
# - **Dice loss**: how far the found and the true area are from lying on each other.
#
# > **Dice score**: twice the common area over the sum of both areas, $2|P\cap T|/(|P|+|T|)$, with P
# > the pixels found and T the true ones; 1 if they are the same. Its loss is 1 less that, with
# > probabilities in place of yes and no.
#
# All three by hand. In the second the rim around each object is labelled -1. What gradient do the
# logits of these pixels get?

# %%
logits = torch.randn(4, 7, 96, 96, generator=generator, requires_grad=True)
some = masks[chosen[:4]]  # (4, 96, 96)
wide = F.max_pool2d((some > 0).float()[:, None], 3, stride=1, padding=1)[:, 0] > 0
labels = torch.where(wide & (some == 0), -1, some)  # the pixels just outside of an object

truth = (some > 0)[:, None]  # (4, 1, 96, 96)
p = logits[:, :1].sigmoid()
binary = -torch.where(truth, p.log(), (1 - p).log()).mean()
report.equal("binary", binary, unet.binary_cross_entropy(logits[:, :1], truth))

log_p = logits.log_softmax(dim=1).movedim(1, 3)[labels >= 0]  # (real pixels, 7)
several = -log_p.gather(1, labels[labels >= 0][:, None]).mean()
report.equal("seven classes", several, unet.cross_entropy(logits, labels))
slopes = torch.autograd.grad(several, logits)[0].abs().sum(dim=1)  # (4, 96, 96)
report.holds("no gradient where the label is -1", bool(((slopes == 0) == (labels == -1)).all()))

common = (p * truth).sum(dim=(2, 3))  # (4, 1)
overlap = (2 * common + 1) / (p.sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) + 1)  # + 1: see below
report.equal("Dice", 1 - overlap.mean(), unet.dice_loss(p, truth))

# %% [markdown]
# None. And the 1 above and below the line of Dice keeps an image without any object from dividing 0
# by 0.
#
# Which loss should one take? Think of an object of 6x6 pixels in our 96x96, and of a network that
# learns to see it: the probability that it gives to the object's pixels rises from 0.01 to 1, and
# to all others it gives 0.001. How do binary cross entropy and the Dice loss fall?

# %%
object_mask = torch.zeros(1, 1, 96, 96, dtype=torch.bool)
object_mask[..., 40:46, 50:56] = True
confident = torch.linspace(0.01, 0.999, 60)
falling = {"binary cross entropy": [], "Dice loss": []}
for chance in confident.tolist():
    p = torch.where(object_mask, chance, 0.001)
    falling["binary cross entropy"].append(unet.binary_cross_entropy(p.logit(), object_mask).item())
    falling["Dice loss"].append(unet.dice_loss(p, object_mask).item())
figures.lines(
    falling,
    confident.tolist(),
    ("probability at the pixels of the small object", "loss"),
    caption="The lower curve is near 0 from the start: 36 pixels of 9,216 hardly count in a mean. "
    "The upper one ends above 0: 0.001 at each of 9,180 other pixels adds up to nine pixels.",
    alt="Binary cross entropy is near zero throughout; the Dice loss falls from nearly 1 to near "
    "0.1 in a bend.",
)
untrained = torch.tensor(2.0).log().item()
missed = falling["binary cross entropy"][0] / untrained
print(f"overlooking it costs {100 * missed:.0f} % of the loss that an untrained network has")
report.holds("to Dice it is everything", falling["Dice loss"][0] > 0.9)

# %% [markdown]
# Does a network trained with binary cross entropy therefore overlook small objects? Not
# necessarily: a gradient that is small is still a gradient. The lab puts it to the test (claim
# 10.6). Dice has its own trouble: for an image without the object it says little.
#
# ## Build it: two scores
#
# > **confusion matrix**: how many pixels of each true class (row) were taken for each class
# > (column).
#
# > **intersection over union (IoU)**: of one class, the pixels that were rightly found, over those
# > that are there, or were taken for it, or both.
#
# Both IoU and Dice can be read off the matrix, one row and one column for each class. As a
# prediction we take the true masks, moved two pixels down and two to the right. Which is larger,
# IoU or Dice, and can it be the other way round?

# %%
from torchmetrics.functional import classification

moved = masks.roll((2, 2), dims=(1, 2))
table = torch.zeros(7, 7, dtype=torch.int64)
for true_class in range(7):
    for taken_for in range(7):
        table[true_class, taken_for] = ((masks == true_class) & (moved == taken_for)).sum()
both = table.diagonal()
there, taken = table.sum(dim=1), table.sum(dim=0)
iou, dice = both / (there + taken - both), 2 * both / (there + taken)

report.holds("the table is the library's", table.equal(unet.confusion(moved, masks, 7)))
options = {"num_classes": 7, "average": "none"}
report.equal("IoU", iou, classification.multiclass_jaccard_index(moved, masks, **options))
report.equal("Dice", dice, classification.multiclass_f1_score(moved, masks, **options))
report.equal("one follows from the other", dice, 2 * iou / (1 + iou))
for name, a, b in zip(("background", *CLASSES), iou.tolist(), dice.tolist(), strict=True):
    print(f"{name:<11} IoU {a:.2f}  Dice {b:.2f}")

# %% [markdown]
# Dice is never below IoU, and of two predictions of one class both prefer the same. The usual
# summary is the **mean IoU**, the mean over the classes: a rare class counts as much as a common
# one. (We leave the background out.) Note how strict both are: every object was found, only a
# little aside.
#
# ## An image and its mask, changed alike
#
# Chapter 05 changed training images at random and left the labels as they were. Here the label is a
# picture, too: what happens to the image must happen to the mask, with the *same* random numbers.
# For cells and organs, which are soft, the U-Net's authors bent the images like rubber.
#
# > **elastic deformation**: the corners of a coarse grid are drawn about at random, and the pixels
# > between them follow smoothly.
#
# The image is interpolated bilinearly. The mask takes the nearest pixel: halfway between class 1, a
# fruit, and class 3, a vehicle, there is no flower. Below, a scene is changed in four ways. In one
# of them image and mask got different random numbers. In which?

# %%
from course_lib import augment_masks

index = [chosen[5]]
pixels, outline = images[index], masks[index]
bend = {"strength": 6.0, "cells": 3}  # pixels, and cells of the grid along a side
versions = {
    "as it is": (pixels, outline),
    "flip": augment_masks.random_flip(pixels, outline, generator, p=1.0),
    "crop": augment_masks.random_crop(pixels, outline, generator, size=72),
    "elastic": augment_masks.random_elastic(pixels, outline, generator, **bend),
}
bent, _ = augment_masks.random_elastic(pixels, outline, runtime.generator_for(3), **bend)
_, bent_otherwise = augment_masks.random_elastic(pixels, outline, runtime.generator_for(4), **bend)
versions["elastic, too"] = (bent, bent_otherwise)
shown = figures.outlined(
    {name: (image[0], mask[0] > 0) for name, (image, mask) in versions.items()},
    caption="The line is the outline of the mask. Does it still follow the objects?",
    alt="A scene five times: as it is, mirrored, cropped, bent, and bent with an outline that does "
    "not fit.",
)
assert shown["crop"] == [3, 72, 72]

# %% [markdown]
# The last one drew different numbers for image and mask. Nothing raises an error, and the loss
# falls (claim 10.4 in the lab). A test that finds it, as the library has it: paint each pixel's row
# and column into the image, its number into the mask, and see whether they still agree. (The flip
# has a fault of its own: no sign in the street is mirrored. Our scenes are made with flips, but
# road signs are left as they are.)
#
# ## Train it: the scenes
#
# Shapes and parameters first. 8,000 scenes are drawn once from the training cut-outs, on training
# photos. The test is made twice, each time of 500 scenes on photos that the network never saw: with
# the *same* cut-outs at other places, sizes and in other light (new scenes of seen cut-outs), and
# with cut-outs that were kept aside (unseen cut-outs). What gap do you expect?

# %%
recipe = recipes.unet()
scene_net = recipe.model
batch, batch_masks = next(iter(recipe.batches))
print("images", tuple(batch.shape), " masks", tuple(batch_masks.shape))
for name, shape in figures.block_shapes(scene_net, (3, 96, 96)).items():
    print(f"{name:<10}{tuple(shape)}")
print(f"{classics.parameters(scene_net):,} parameters")
print(f"{recipe.config.steps:,} steps of {len(batch)} scenes")
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="Cross entropy, the mean over all pixels (dotted: all scenes seen once).",
    alt="The loss falls steeply at first and then slowly; below it the learning rate rises and "
    "falls.",
    epoch=len(recipe.batches),
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
report.seconds("Training", history.seconds, target=60)

# %% [markdown]
# Two scores for each kind of test. *Object IoU* asks only for object or background, *mean IoU* for
# the class as well. Which of the two will suffer more when the cut-outs are unseen? (The targets
# come from a trial on easier scenes: with fewer objects that are nearly hidden, and on photos more
# like those of the training.)

# %%
scores = recipe.test(scene_net)
for name, target, gate in (
    ("seen object IoU", 0.84, 0.6),
    ("unseen object IoU", 0.78, 0.5),
    ("seen mean IoU", 0.54, 0.43),
    ("unseen mean IoU", 0.44, 0.19),
):
    report.result(name, scores[name], target=target, gate=gate, digits=3)
names = {"seen": "new scenes of seen cut-outs", "unseen": "unseen cut-outs"}
plot.bars(
    {f"{score}, {names[kind]}": scores[f"{kind} {score}"]
     for score in ("object IoU", "mean IoU") for kind in names},
    "intersection over union",
    caption="Above, object against background. Below, the mean over the six classes.",
    alt="Four bars. Object IoU is high for both kinds; mean IoU is lower, and lowest for unseen.",
)  # fmt: skip
lost = {s: 1 - scores[f"unseen {s}"] / scores[f"seen {s}"] for s in ("object IoU", "mean IoU")}
for name, share in lost.items():
    report.value(f"part of the {name} that is lost on unseen cut-outs", f"{100 * share:.0f} %")
report.holds("names suffer more than outlines", lost["mean IoU"] > lost["object IoU"], trained=True)

# %% [markdown]
# The network still finds most of a bird that it never saw, and often does not know that it is a
# bird. What belongs together, and stands out from a photo, is much the same for
# all objects; what makes a bird a bird would have to be learned from more than some twenty birds.
# A test with seen cut-outs only would have hidden that. (Both kinds share the
# manner in which our scenes are made. A real photo of a bird in a tree is another matter again.)
#
# And both are tested on photos that the network never saw. Does it lose more by overlooking objects
# or by seeing some where there are none? *Recall* is the share of the objects' pixels that it
# found, *precision* the share of what it found that is really there.

# %%
tested = {}
for kind, made in test_scenes().items():
    pixels, truth = scale_pixels(made.images[:60]), made.mask[:60].long()  # of those just measured
    logits = train.predict(scene_net, pixels)  # (60, 7, 96, 96)
    tested[kind] = (pixels, truth, logits)
    share = figures.threshold_scores(1 - logits.softmax(dim=1)[:, 0], truth > 0, 0.5)
    report.value(names[kind], *(f"{name} {share[name]:.2f}" for name in ("recall", "precision")))
    report.holds("more is seen than is there", share["precision"] < share["recall"], trained=True)
    some = slice(2, 8)
    figures.segmentations(
        pixels[some],
        {"truth": truth[some], "found": logits[some].argmax(dim=1)},
        caption=f"{names[kind].capitalize()}. Look at the outlines, and at the colours inside.",
        alt="Six test scenes, the true masks, and the masks that the network found.",
    )

# %% [markdown]
# The outlines are rough, and the class often changes within one object. But most of what is lost
# are false alarms. The training photos are few, and none of them shows planks or dry blades of
# grass: what looks like no ground it knows is taken for an object.
#
# ## Train it: a brain
#
# One object, yes or no. These are slices through one head, made by magnetic
# resonance; the mask says what is brain and what is skull, eyes and skin. A block of 24
# neighbouring slices is kept for the test. Why a block, and not 24 slices by lot?

# %%
head = data.load("brain_mri")
shown = [0, 25, 40, 85, 110]
figures.outlined(
    {f"slice {head.z[i].item()}" + (" (test)" if head.test[i] else ""):
     (head.x[i], head.brain[i, 0]) for i in shown},
    caption="The line is the outline of the brain, as a program drew it. Neighbouring slices are a "
    "millimetre apart. Where would you have drawn it otherwise?",
    alt="Five slices through a head from below to above, with the outline of the brain.",
)  # fmt: skip
learned = ~head.test
print(f"{int(learned.sum())} slices to learn from, {int(head.test.sum())} to test on")

# %% [markdown]
# Because a slice's neighbours are nearly copies of it. For the same reason, first ask what can be
# had *without* learning:
#
# - a **threshold**: everything is brain that is brighter than some value;
# - the **mean mask** of the training slices, cut at one half;
# - a **copy**: the mask of the nearest training slice.
#
# Which is best? Guess their Dice scores.


# %%
def dice_score(predicted, slices):
    """Dice of all pixels of these slices together, from bools (N, 1, 217, 181)."""
    counts = unet.confusion(predicted.long(), head.brain[slices].long(), 2)
    return unet.dice(counts)[1].item()


all_pixels, brain_pixels = head.x[learned], head.x[learned][head.brain[learned]]
taken, rightly = (  # for each brightness from 0 to 255: how many pixels are as bright or brighter
    some.flatten().bincount(minlength=256).flip(0).cumsum(0).flip(0)
    for some in (all_pixels, brain_pixels)
)
level = (2 * rightly / (taken + len(brain_pixels))).argmax()  # of the best Dice in training
mean_mask = head.brain[learned].float().mean(dim=0) > 0.5  # (1, 217, 181)
distance = (head.z[head.test][:, None] - head.z[learned]).abs()  # (24, 116) millimetres
guesses = {
    "threshold": head.x[head.test] >= level,
    "mean mask": mean_mask.expand(24, -1, -1, -1),
    "copy": head.brain[learned][distance.argmin(dim=1)],
}
baselines = {name: dice_score(guess, head.test) for name, guess in guesses.items()}
for name, score in baselines.items():
    print(f"{name:<10} Dice {score:.3f}")
report.holds("copying beats the others", max(baselines, key=baselines.get) == "copy")

# %%
brain_recipe = recipes.brain()
brain_history = brain_recipe.fit(callbacks=[plot.LiveCurve()])
plot.training_curve(
    brain_history,
    caption="Binary cross entropy of the brain. Images and masks are flipped together.",
    alt="A loss that falls fast and then slowly, with the learning rate below it.",
)
brain_dice = brain_recipe.test(brain_recipe.model)["Dice"]
report.result("Dice on the block kept aside", brain_dice, target=0.989, gate=0.99, digits=4)
report.seconds("Training", brain_history.seconds, target=30)
report.holds("better than a copy", brain_dice > baselines["copy"], trained=True)

# %%
found = train.predict(brain_recipe.model, scale_pixels(head.x[head.test])) > 0  # (24, 1, 217, 181)
by_slice = [dice_score(found[i : i + 1], head.test.nonzero()[i]) for i in range(24)]
worst = min(range(24), key=by_slice.__getitem__)
truth = head.brain[head.test][worst, 0]
by_guess = figures.agreements(
    {name: (guess[worst, 0], truth) for name, guess in (guesses | {"U-Net": found}).items()},
    caption="The U-Net's worst slice of the block. What does each of them get wrong?",
    alt="Four maps of a brain. The threshold takes in the skull, the mean mask misses the rim, the "
    "copy and the U-Net err at the edge only.",
)
drawn = plot.bars(
    baselines | {"U-Net": brain_dice},
    "Dice score on the block of slices kept aside",
    caption="Only what exceeds the copy has been learned.",
    alt="Four bars: threshold, mean mask, copy and U-Net. The last is the longest.",
)

# %% [markdown]
# The skull is as bright as the brain, and the hollows within the brain are dark: no threshold can
# tell. The mean mask is too small for the middle of the head. The copy errs at the edge only, and
# beside it the high score of the U-Net shrinks to what it is worth.
#
# And mind what that score does *not* say. All slices are of **one** healthy head, so nothing is
# known about another person, scanner or illness. The “truth” is a program's output with visible
# flaws (straight cuts in slice 37, a comb at the back of the head in slice 52), and a network that
# learns it well learns these as well. And the picture is the average of 27 scans, far less noisy
# than what a clinic sees.
#
# ## Play: where is the line between yes and no?
#
# The probability that a pixel belongs to *some* object is 1 less that of the background. From which
# probability on do we call it an object? Blue is found, pink is missed, orange is too much.
#
# The curves on the right show IoU, precision and recall for every threshold.
#
# - Which threshold gives the best IoU? Is it the same for every scene?
# - Lower the threshold until recall is nearly 1. What has become of the precision?
# - When would you choose a threshold of 0.1, and when one of 0.9?
#
# Below the picture stand the scores of all sixty scenes together, for three thresholds.

# %%
test_images, test_masks, test_logits = tested["unseen"]
object_chances = 1 - test_logits.softmax(dim=1)[:, 0]  # (60, 96, 96)


def threshold_picture(scene, threshold):
    """What one threshold takes for an object in a scene of unseen cut-outs."""
    truth = test_masks[scene] > 0
    return figures.threshold_figure(test_images[scene], object_chances[scene], truth, threshold)


threshold_explorer = widgets.explore(
    threshold_picture,
    alt="A scene, a map of pixels found, missed and wrongly taken, and curves of IoU, precision "
    "and recall over all thresholds.",
    caption="Unseen cut-outs. Dotted: your threshold.",
    scene=widgets.slider("scene", 0, 19, 5, 1),
    threshold=widgets.slider("threshold", 0, 1, 0.5, 0.05),
)
table = [figures.threshold_scores(object_chances, test_masks > 0, t) for t in (0.1, 0.5, 0.9)]
for threshold, row in zip((0.1, 0.5, 0.9), table, strict=True):
    report.value(f"threshold {threshold}", *(f"{name} {v:.3f}" for name, v in row.items()))
low, _, high = table
report.holds("a higher threshold takes fewer pixels in", high["recall"] <= low["recall"])

# %% [markdown]
# A low threshold overlooks little and takes too much; choose it where overlooking is dear, as with
# a tumour. A high one is for cases where a false alarm is dear. Which is best for IoU differs from
# scene to scene; one for all is chosen on a validation set.
#
# ## Look inside: what comes across the U?
#
# Each decoder gets maps of the same size from two sides: from across and from below. Here is, for
# one scene, the mean strength of each over all its channels, at the two upper levels. Which of the
# two knows *where the edges are*, and which *where the objects are*?

# %%
known_images, known_masks, _ = tested["seen"]
arriving = figures.arriving(scene_net.cpu().eval(), known_images[5])  # by level, (2, h, w) each
panels = {"the scene": known_images[5]}
for level in (1, 2):
    for name, strength in zip(("across", "from below"), arriving[level], strict=True):
        panels[f"level {level}, {name}"] = strength / strength.max()
figures.maps(
    panels,
    caption="What two decoders get. The fine chequers in what comes from below are made by the "
    "transposed convolution.",
    alt="A scene, and four maps of it, at two sizes. Those from across show fine edges everywhere, "
    "those from below brighter areas where objects are.",
)
print("level 1:", tuple(arriving[1].shape), " level 2:", tuple(arriving[2].shape))

# %% [markdown]
# From across come thin edges, also those of hills and shadows. From below come broad areas where
# objects are, without sharp edges. The decoder has to put both together.
#
# **Cut a join.** Call each blue arrow of the U a join, number 1 being the uppermost, with the
# largest maps. Replace what comes across by zeros, in a network that was trained with it, and see
# what it misses. Which join do you expect to hurt most?

# %%
import ipywidgets

CUTS = {"none": (), "join 1": (1,), "join 2": (2,), "join 3": (3,), "all": (1, 2, 3)}


def cut_picture(cut, scene):
    """One scene of seen cut-outs, with and without some of the joins."""
    return figures.cut_figure(scene_net, known_images[scene], known_masks[scene], CUTS[cut])


cut_explorer = widgets.explore(
    cut_picture,
    alt="A scene, its true mask, the mask with all joins, and the mask with some joins cut.",
    caption="Right: what is found when zeros come across.",
    cut=ipywidgets.Dropdown(options=list(CUTS), value="join 1", description="cut"),
    scene=widgets.slider("scene", 0, 19, 5, 1),
)

# %%
by_cut = {}
for name, joins in CUTS.items():
    maimed = figures.logits_without(scene_net, known_images[:40], joins).argmax(dim=1)
    agreed = unet.confusion((maimed > 0).long(), (known_masks[:40] > 0).long(), 2)
    by_cut[f"cut: {name}"] = unet.iou(agreed)[1].item()
plot.bars(
    by_cut,
    "object IoU on 40 scenes of seen cut-outs",
    caption="The network was trained with its joins; no bar says what it could have learned "
    "without them.",
    alt="Five bars of object IoU: with all joins, without each of three, without any.",
)
report.holds("it needs them", by_cut["cut: all"] < by_cut["cut: none"], trained=True)

# %% [markdown]
# One join can be missed to some degree. Without any of them little is left: no decoder has ever
# learned to work from below alone. A network that was *built* without joins would have learned to
# do without. How well that goes is another experiment: claim 10.5, in the lab.
#
# **The worst mistakes.** Of sixty scenes with unseen cut-outs, those with the most wrong
# pixels. Do you see why?

# %%
wrong = (test_logits.argmax(dim=1) != test_masks).float().mean(dim=(1, 2))  # (60,)
hardest = wrong.argsort(descending=True)[:6]
figures.segmentations(
    test_images[hardest],
    {"truth": test_masks[hardest], "found": test_logits[hardest].argmax(dim=1)},
    caption="Overlooked, misnamed, or seen where there is nothing: which is it in each?",
    alt="Six scenes with their true masks and what was found; large parts differ.",
)
report.value("wrong pixels in the worst scene", f"{100 * wrong.max():.0f}", unit="%")

# %% [markdown]
# Large objects fall into pieces of several classes. Each pixel is asked for its own class, and the
# loss never asks whether neighbours agree.
#
# ## Count cells
#
# A microscope image of nuclei, the cores of cells; people outlined all of them by hand. Can a small
# U-Net find and *count* them, when it learns from the left half of one single image? What helps:
# random windows, flips and elastic deformation make endless new images of one. (The brightest
# nuclei are many times as bright as most; a logarithm brings them nearer together. Chapter 07 tells
# what the optimizer `muon` does.)

# %%
cells = data.load("nuclei")
brightness = cells.image.float().log1p()  # (1, 512, 512)
brightness = (brightness - brightness.mean()) / brightness.std()
left, right_half = slice(0, 256), slice(256, 512)
copies = brightness[None, :, :, left].expand(8, -1, -1, -1)  # one image, eight windows a step
outlines = (cells.label > 0)[None, :, left].expand(8, -1, -1)


def windows(batch, draws):  # flipped and bent: another batch at every step
    batch = augment_masks.random_crop(*batch, draws, size=64)
    batch = augment_masks.random_flip(*batch, draws)
    images, masks = augment_masks.random_elastic(*batch, draws, strength=3.0)
    return images, masks[:, None]


def cell_loss(model, batch):
    return unet.binary_cross_entropy(model(batch[0]), batch[1])


runtime.seed_everything(0)
cell_net = unet.UNet(1, 1, channels=(8, 16, 32))
cell_batches = train.Batches(copies, outlines, batch_size=8, transform=windows)
settings = train.FitConfig(steps=60, optimizer="muon", learning_rate=0.01, schedule="one_cycle")
cell_history = train.fit(cell_net, cell_batches, cell_loss, settings)
report.seconds("Training", cell_history.seconds, target=5)

# %% [markdown]
# A mask does not say how many nuclei it holds. But pixels of one nucleus touch each other, so count
# the islands.
#
# > **connected component**: a largest set of marked pixels in which one can walk from each to each
# > other, always from a pixel to one beside it.
#
# Will it count too many or too few? Count the islands of the *true* mask, too: what does that tell
# beforehand? And how far does one come without learning, with everything that is brighter than some
# value?

# %%
with torch.no_grad():
    cell_logits = cell_net.cpu()(brightness[None])[0, 0]  # (512, 512)
marked = cell_logits[:, right_half] > 0
numbered = cells.label[:, right_half]
least = 20  # pixels; smaller islands are noise
counts = figures.islands(
    cells.image[:, :, right_half].float().log1p() / torch.tensor(256.0).log(),
    {
        "nuclei": numbered,
        "islands of the true mask": unet.components(numbered > 0),
        "islands found": unet.components(marked, least),
    },
    caption="The half that was kept aside. Nuclei that touch become one island.",
    alt="A grey picture of nuclei, and three maps in which each nucleus or island has a colour.",
)
overlap_of_halves = unet.iou(unet.confusion(marked[None].long(), (numbered > 0)[None].long(), 2))
report.value("IoU of the mask", f"{overlap_of_halves[1]:.2f}")
report.value("counted", counts["islands found"], "of", counts["nuclei"], "nuclei")
for value in (20, 35, 50):
    bright = cells.image[0, :, right_half] > value
    print(f"without learning, brighter than {value}: {unet.count_components(bright, least)}")
off = abs(counts["islands found"] - counts["nuclei"]) / counts["nuclei"]
report.result("Off by", 100 * off, "%", target=12, gate=20, better="lower", digits=0)
few = counts["islands of the true mask"] < counts["nuclei"]
report.holds("even the true mask has too few islands", few)

# %% [markdown]
# It counts too few, as the true mask does: a mask knows no borders between neighbours. The three
# thresholds count fewer still. The U-Net's authors gave the narrow gaps between cells
# more weight in the loss. Chapters 11 and 12 go another way, and find each object on its own. (One
# image, of one kind of cell: it shows that this can work from little, not how well it does
# elsewhere.)
#
# ## Too large for the memory: tiles
#
# A satellite image has 10,000 pixels a side. A U-Net can label it tile by tile, if every tile is
# shown with enough of its surroundings, and only the inner part of the answer is kept. How much is
# enough? As far as one pixel of the answer can see. Below, the picture of the cells in tiles of 128
# pixels. What do you expect when the tiles get no surroundings at all?

# %%
print("pixels that one answer sees on each side, at most:", cell_net.reach)
by_tile = {}
for tile in (96, 128, 160):
    by_tile[tile] = unet.predict_tiled(
        cell_net, brightness[None], tile, cell_net.reach, cell_net.multiple
    )[0, 0]
    report.equal(f"tiles of {tile} as the whole", by_tile[tile], cell_logits, atol=1e-3)
bare = unet.predict_tiled(cell_net, brightness[None], 128, reach=0, multiple=4)[0, 0]
seams = (bare - cell_logits).abs()
figures.maps(
    {"without surroundings": seams.clamp(max=1), "with": (by_tile[128] - cell_logits).abs()},
    caption="How far the logits of the tiles are from those of the whole (1 means 1 or more). On "
    "the right, nothing.",
    alt="Left, bright lines along the borders of the tiles. Right, black.",
)
report.holds("without surroundings there are seams", bool(seams.max() > 0.1), trained=True)

# %% [markdown]
# Only pixels near a border of a tile lack something; so keep the inner part, and the result does
# not depend on where the tiles begin.
#
# ## Claims
#
# Two are settled above: 10.1 and 10.2. The [lab](labs/10_unet.ipynb) puts the others to the test:
# can label maps not be resized, must image and mask be cropped by the same window, do the skip
# connections carry the detail, is binary cross entropy enough? All verdicts of the course are
# collected in [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 10.1.** No code, only numbers: replace the dots. (A convolution of 3x3 with padding
# keeps the size; a transposed one of 2x2 with stride 2 doubles it.)

# %%
from course_lib.teaching.exercises import ch10

my_numbers = {
    "rows that a transposed convolution makes of 12: kernel 4, stride 2, padding 1": ...,
    "channels that decoder 4 gets in UNet(channels=(16, 32, 64, 128))": ...,
    "channels of an RGB image after pixel-unshuffle by 4": ...,
    "multiple that UNet(channels=(8, 16, 32, 64, 128), stem=2) fills sides up to": ...,
    "Dice score of a class whose IoU is 0.6": ...,
}
ch10.numbers.check(my_numbers)

# %% [markdown]
# **Exercise 10.2.** A transposed convolution in one dimension: `signal` (L,) is stamped with
# `kernel` (K,), each stamp `stride` places after the one before. Return the whole result, with
# nothing cut off.


# %%
def stamp_row(signal, kernel, stride):
    return ...  # your code here


ch10.stamp_row.check(stamp_row)

# %% [markdown]
# **Exercise 10.3.** IoU by class: `predicted` and `mask` are class numbers (H, W), -1 in `mask`
# marks pixels that do not count. Return a tensor of `classes` scores, NaN for a class that neither
# is there nor was predicted.


# %%
def class_iou(predicted, mask, classes):
    return ...  # your code here


ch10.class_iou.check(class_iou)

# %% [markdown]
# **Exercise 10.4.** Walk through the U: `encoders` from the top, the last of them is the bottom;
# then `ups` and `decoders` from the bottom up, and `classify` at the end. Return the logits.
# Between two encoders comes a max pooling. A decoder gets both maps along the channel axis: first
# the one from across, then the one that its `up` has made.


# %%
def u_forward(image, encoders, ups, decoders, classify):
    return ...  # your code here


ch10.u_forward.check(u_forward)

# %% [markdown]
# **Exercise 10.5.** Label a large image (1, C, H, W) in tiles: each tile is shown to `model` with
# `margin` pixels around it, where the image has them. H and W are multiples of `tile`. Return the
# logits of all.


# %%
def tiled(model, image, tile, margin):
    return ...  # your code here


ch10.tiled.check(tiled)

# %% [markdown]
# ### Quiz

# %%
for question in ch10.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - A **transposed convolution** stamps its kernel; it brings back the shape of what went into a
#   convolution, never the values.
# - A **U-Net** goes down to see what it is, up to say where, and carries the detail across.
# - **IoU and Dice** by class tell what accuracy hides; mind what a copy or a threshold would score.
# - Image and mask are changed by the **same** random numbers, and masks take the nearest pixel.
# - With enough **surroundings**, tiles give exactly what the whole image gives.
#
# **Papers.** O. Ronneberger, P. Fischer, T. Brox: *U-Net: convolutional networks for biomedical
# image segmentation*, 2015. J. Long, E. Shelhamer, T. Darrell: *Fully convolutional networks for
# semantic segmentation*, 2015. F. Milletari, N. Navab, S.-A. Ahmadi: *V-Net*, 2016 (Dice loss).
# V. Dumoulin, F. Visin: *A guide to convolution arithmetic for deep learning*, 2016. A. Odena,
# V. Dumoulin, C. Olah: *Deconvolution and checkerboard artifacts*, 2016. P. Simard, D. Steinkraus,
# J. Platt: *Best practices for convolutional neural networks*, 2003 (elastic deformation).
#
# **Longer, larger, elsewhere.** The same run, longer; then a U-Net of the paper's size on pictures
# of your own, on a GPU if there is one; the same on four at once:
#
# ```
# python -m course_lib train unet --steps 10000
# python -m course_lib train unet --size base --data FOLDER --checkpoint unet.run --resume
# torchrun --nproc-per-node 4 -m course_lib train unet --size base --data FOLDER
# ```
#
# The folder holds `images/` and `masks/`, with class numbers as pixels, and 255 for pixels that do
# not count: [beyond the notebook](../docs/beyond_the_notebook.md) tells more. For photos of the
# street or the living room, `torchvision.datasets.VOCSegmentation(".", download=True)` fetches
# images with masks of 21 classes; its folder `VOCdevkit/VOC2012` is read as it is. Images too large
# for the memory are labelled by `unet.predict_tiled`.

# %%
clock.stop()
