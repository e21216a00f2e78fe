# %% [markdown]
# # 02 lab · Which sayings about convolution and pooling hold?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 2.2, 2.9 and 2.10 are settled in the
# [lesson](../02_cnn.ipynb).

# %%
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import augment, classics, cnn, data, recipes, runtime, train
from course_lib.teaching import experiments, report
from course_lib.teaching.experiments import ch02 as stored
from course_lib.teaching.figures import ch02 as figures
from course_lib.teaching.figures import ch02_lab as lab_figures

clock = report.Clock(budget=60)
mnist = data.load("mnist")
test_images = recipes.scale_pixels(mnist.x_test)  # (10000, 1, 28, 28)
digit = test_images[0]  # a 7

# %% [markdown]
# ## 2.1 · “A kernel is kH x kW”
#
# The menu says 5x5. How many axes have the weights of each of these layers, and how many numbers
# hold those of the second one?

# %%
layers = {
    "Conv2d(1, 6, 5)": nn.Conv2d(1, 6, 5),
    "Conv2d(3, 6, 5)": nn.Conv2d(3, 6, 5),
    "Conv2d(6, 8, (3, 1))": nn.Conv2d(6, 8, (3, 1)),
    "Conv2d(6, 8, 3, groups=2)": nn.Conv2d(6, 8, 3, groups=2),
}
for name, layer in layers.items():
    print(f"{name:<28}{tuple(layer.weight.shape)!s:<16}{layer.weight.numel():>5} numbers")
axes = {layer.weight.ndim for layer in layers.values()}
report.verdict(
    "2.1",
    "A kernel is kH x kW",
    outcome="true" if axes == {2} else "false",
    evidence=f"the weights have {axes.pop()} axes, (kernels, channels per group, kH, kW); a 5x5 "
    f"layer from 3 channels to 6 holds {layers['Conv2d(3, 6, 5)'].weight.numel()} numbers, not 25",
)

# %% [markdown]
# Rows and columns are what one sees in a picture. A kernel also has a depth, one table for each
# channel it reads, and a layer has many kernels. Where the saying is taken at its word, counts of
# parameters come out far too small.

# %% [markdown]
# ## 2.3 · “`Conv2d` starts from normally distributed weights”
#
# Draw the first weights of a fresh layer as a histogram. Will it be a bell, or a box?

# %%
runtime.seed_everything(0)
fresh = nn.Conv2d(64, 64, 3)
fan_in = 64 * 3 * 3
bound = fan_in**-0.5
drawn = lab_figures.first_weights(
    fresh.weight,
    bound,
    caption="Every weight between the bounds is equally likely, and none lies beyond.",
    alt="A histogram of weights that is flat between minus and plus one over the root of the "
    "fan-in and empty outside; a dashed bell curve does not fit it.",
)
assert abs(sum(drawn["shares"]) - 1) < 1e-3
within_one = (fresh.weight.abs() < fresh.weight.std()).float().mean().item()
beyond = (fresh.weight.abs() > bound * 1.000001).sum().item()
report.verdict(
    "2.3",
    "`Conv2d` starts from normally distributed weights",
    outcome="false" if beyond == 0 and within_one < 0.6 else "true",
    evidence=f"of {fresh.weight.numel():,} weights {beyond} lie beyond 1/√fan-in; "
    f"{100 * within_one:.1f} % lie within one standard deviation (uniform 57.7, normal 68.3)",
)

# %% [markdown]
# It is a box whose width follows from the fan-in: the more a kernel reads, the smaller its weights,
# so that their sum does not grow. The biases are drawn from the same box. A bell would do as well,
# and is what some papers ask for: `nn.init.kaiming_normal_` gives it.

# %% [markdown]
# ## 2.4 · “`Conv2d` has no bias by default”
#
# What does a fresh layer answer to an image that is all black?

# %%
runtime.seed_everything(0)
plain, without = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 8, 3, bias=False)
black = torch.zeros(1, 1, 5, 5)
answers = {name: layer(black) for name, layer in {"default": plain, "bias=False": without}.items()}
for name, answer in answers.items():
    print(f"{name:<12}answers to black with zeros only: {answer.count_nonzero().item() == 0}")
print("parameters:", classics.parameters(plain), "and", classics.parameters(without))
report.verdict(
    "2.4",
    "`Conv2d` has no bias by default",
    outcome="true" if plain.bias is None else "false",
    evidence=f"its bias has the shape {tuple(plain.bias.shape)}, one number for each kernel",
)

# %% [markdown]
# The idea may come from reading real networks: many set `bias=False`, because a batch norm follows
# that would take any constant away again (chapter 04). One number a kernel is cheap beside the
# weights, so the default keeps it.

# %% [markdown]
# ## 2.5 · “Circular padding is tiling the image and cropping”
#
# Lay nine copies of the 7 on the floor and cut out the middle one with a margin. Is that the frame
# that circular padding makes, and what does a convolution make of it?

# %%
part = lab_figures.tiles(
    digit,
    6,
    caption="Blue: the image. Orange: what is cut out. Beyond the right border the left one begins "
    "again.",
    alt="Nine copies of a 7 in a square, an orange frame about the middle one; beside it the part "
    "within the frame, with bits of its neighbours at the borders.",
)
equal = []
for image in (digit, torch.rand(3, 9, 7)):
    for padding in (1, 3, 6):
        rows, columns = (slice(n - padding, 2 * n + padding) for n in image.shape[1:])
        cut = image.repeat(1, 3, 3)[:, rows, columns]  # (C, 3 H, 3 W), and its middle
        equal.append(cut.equal(F.pad(image[None], (padding,) * 4, mode="circular")[0]))
        equal.append(cut.equal(cnn.pad2d(image[None], padding, "circular")[0]))
layer = nn.Conv2d(1, 4, 3, padding=6, padding_mode="circular")
report.equal("the layer", layer(digit[None]), F.conv2d(part[None], layer.weight, layer.bias))
report.verdict(
    "2.5",
    "Circular padding is tiling the image and cropping",
    outcome="true" if all(equal) else "false",
    evidence=f"torch's and ours equal it to the last bit in {sum(equal)} of {len(equal)} cases",
)

# %% [markdown]
# So with it a kernel at the right border also sees the left one. That suits what has no border,
# such as the longitude of a globe or a texture that repeats; a digit's left side has nothing to do
# with its right one. One limit: the frame must not be wider than the image.

# %% [markdown]
# ## 2.6 · “The layer `MaxPool2d` pads with zeros; only the function pads with minus infinity”
#
# The documentation of the layer once said so. An image that is negative everywhere tells: what will
# the largest value of a window be if zeros stand around the image?

# %%
negative = -torch.arange(1.0, 17).view(1, 1, 4, 4)
options = {"kernel_size": 3, "stride": 2, "padding": 1}
pooled = {
    "image": negative,
    "layer": nn.MaxPool2d(**options)(negative),
    "function": F.max_pool2d(negative, **options),
    "ours": cnn.max_pool2d(negative, **options),
    "if zeros stood around": F.max_pool2d(F.pad(negative, (1,) * 4), 3, stride=2),
}
drawn = figures.tables(
    {name: table[0, 0] for name, table in pooled.items()},
    caption="With a frame of zeros, every window that touches the border would say 0.",
    alt="A table of 4x4 negative numbers; the layer, the function and ours give the same four "
    "negative numbers, a frame of zeros gives zeros.",
)
by_layer, by_function, zeros = drawn["layer"], drawn["function"], drawn["if zeros stood around"]
report.verdict(
    "2.6",
    "The layer `MaxPool2d` pads with zeros (only the function pads with minus infinity)",
    outcome="true" if by_layer == zeros and by_function != zeros else "false",
    evidence=f"layer and function both find {by_layer[0][0]:g} in the corner; zeros would give 0",
)

# %% [markdown]
# Padding is never the largest: it counts as minus infinity, in both. Behind a ReLU the difference
# would not even show, since nothing there is below 0, which is how such a belief can live long.

# %% [markdown]
# ## 2.7 · “`ceil_mode` fills the incomplete window with zeros”
#
# Five columns, windows of two: the last window is half outside. What is its largest value, and what
# its mean, if the image is negative everywhere?

# %%
odd = -torch.arange(1.0, 26).view(1, 1, 5, 5)
pooled = {
    "image": odd,
    "largest": F.max_pool2d(odd, 2, ceil_mode=True),
    "mean": F.avg_pool2d(odd, 2, ceil_mode=True),
    "mean, if filled with zeros": F.avg_pool2d(F.pad(odd, (0, 1, 0, 1)), 2),
}
drawn = figures.tables(
    {name: table[0, 0] for name, table in pooled.items()},
    caption="The last row and column: the largest and the mean of what is there. Zeros would draw "
    "both towards 0.",
    alt="A table of 5x5 negative numbers, pooled to 3x3 with ceil_mode; no zero appears, and the "
    "corner keeps the last number of the image.",
)

# %%
last = odd[0, 0, -1, -1].item()
corners = [drawn[name][-1][-1] for name in ("largest", "mean")]
for name in ("max_pool2d", "avg_pool2d"):
    ours, theirs = (getattr(library, name)(odd, 2, ceil_mode=True) for library in (cnn, F))
    report.equal(f"ours, {name}", ours, theirs)
report.verdict(
    "2.7",
    "`ceil_mode` fills the incomplete window with zeros",
    outcome="false" if corners == [last, last] else "true",
    evidence=f"the window in the corner holds one pixel, {last:g}: its largest is {corners[0]:g}, "
    f"its mean {corners[1]:g}",
)

# %% [markdown]
# An incomplete window is summed up by what it holds. That differs from *padding* in average
# pooling, whose zeros count, unless `count_include_pad=False` says otherwise. So the same pixel at
# the border may weigh differently, depending on how the window came to hang over.

# %% [markdown]
# ## 2.8 · “Pooling can be undone”
#
# `max_unpool2d` is its inverse, they say, if one has kept the indices. Which pixels of the digits
# come back? And if one pools once more, is the result what it was?

# %%
some = test_images[:1000]
largest, indices = F.max_pool2d(some, 2, return_indices=True)
back = F.max_unpool2d(largest, indices, 2)
drawn = figures.grid(
    {"digit": some[:8], "pooled": largest[:8], "unpooled": back[:8]},
    caption="Of each window of four pixels one comes back, at its place.",
    alt="Eight digits, below each its smaller pooled version, and below that the digit as "
    "scattered dots on black.",
)
inked = some > 0
kept = (back == some)[inked].float().mean().item()
at_home = back[back > 0].equal(some[back > 0])
again = F.max_pool2d(back, 2).equal(largest)
below = F.max_pool2d(some - 1.5, 2, return_indices=True)
below_again = F.max_pool2d(F.max_unpool2d(*below, 2), 2).equal(below[0])
print(f"pooled once more, the same: {again}; with negative values: {below_again}")
report.verdict(
    "2.8",
    "Pooling can be undone",
    outcome="true" if kept == 1 else "depends: places yes, values no" if at_home else "false",
    evidence=f"every value that comes back stands where it stood, but of the pixels with ink only "
    f"{100 * kept:.0f} % come back",
)

# %% [markdown]
# Three of four values were never passed on, and no index brings them back. What returns are the
# largest ones at their places, and that is what networks need that draw an outline pixel by pixel
# (chapter 10). Even pooling the result again works only where nothing is negative: the zeros of
# unpooling would win.

# %% [markdown]
# ## 2.11 · “A 1x1 convolution sees no neighbours: it is a linear layer per pixel”
#
# If so, a linear layer over the channels, applied to each pixel, must give the same, and the
# gradient of one output value must meet a single pixel. How many channels of that pixel?

# %%
runtime.seed_everything(0)
one = nn.Conv2d(8, 5, 1).double()
linear = nn.Linear(8, 5).double()
linear.load_state_dict({"weight": one.weight[:, :, 0, 0], "bias": one.bias})
x = torch.randn(2, 8, 6, 6, dtype=torch.float64, requires_grad=True)
by_pixel = linear(x.movedim(1, 3)).movedim(3, 1)  # (N, C, H, W) -> (N, H, W, C) and back
report.equal("1x1 convolution and linear layer", one(x), by_pixel, atol=1e-12)
one(x)[0, 2, 3, 3].backward()
met = x.grad != 0
pixels = met.any(dim=1).sum().item()
channels = met[0, :, 3, 3].sum().item()
report.verdict(
    "2.11",
    "A 1x1 convolution sees no neighbours, so it can only mix channels: it is a linear layer per "
    "pixel",
    outcome="true" if pixels == 1 and one(x).allclose(by_pixel) else "false",
    evidence=f"equal outputs; one output value depends on {pixels} pixel and all {channels} of its "
    "channels",
)

# %% [markdown]
# On the one channel of a grey image it could do no more than multiply. Between wide layers it is
# strong: with a bend behind it, it is a small MLP that visits every pixel, the idea of NiN. The
# next claim shows its other use, making a layer narrower before it gets dear.

# %% [markdown]
# ## 2.16 · “1x1 bottlenecks make an Inception block far cheaper”
#
# > **bottleneck**: a layer that makes few channels out of many, so that the dear one behind it has
# > less to read.
#
# GoogLeNet is built of Inception blocks, in which kernels of several sizes stand side by side. Four
# ways from 192 channels to 256 on maps of 28x28: one layer of 3x3 kernels, one of 5x5, an Inception
# block with bottlenecks, and the same block without. Put them in order of cost.


# %%
def wide(channels, size):
    return nn.Conv2d(192, channels, size, padding=size // 2)


config = classics.InceptionConfig()
branches = {config.one: 1, config.three: 3, config.five: 5}
ways = {
    "3x3": [wide(256, 3)],
    "5x5": [wide(256, 5)],
    "Inception\nwithout": [*(wide(*branch) for branch in branches.items()), wide(config.pool, 1)],
    "Inception": [classics.Inception(192, config)],
}
millions = {
    "thousands of parameters": {
        name: sum(map(classics.parameters, layers)) / 1e3 for name, layers in ways.items()
    },
    "millions of multiply-adds": {
        name: sum(classics.multiply_adds(layer, (192, 28, 28)) for layer in layers) / 1e6
        for name, layers in ways.items()
    },
}

# %%
drawn = lab_figures.columns(
    millions,
    caption="All four make 256 channels out of 192. “Without”: the 3x3 and the 5x5 kernels read "
    "all 192 channels themselves.",
    alt="Bars of parameters and of multiply-adds: 5x5 highest, 3x3 and Inception without "
    "bottlenecks alike, Inception with bottlenecks lowest.",
)
work = drawn["millions of multiply-adds"]
assert config.outputs == 256
saved = work["Inception\nwithout"] / work["Inception"]
report.verdict(
    "2.16",
    "1x1 bottlenecks make an Inception block far cheaper",
    outcome="true" if saved > 2 else "false",
    evidence=f"{saved:.1f} times as many multiply-adds without bottlenecks; 3x3 alone takes "
    f"{work['3x3'] / work['Inception']:.1f} times as many, 5x5 alone "
    f"{work['5x5'] / work['Inception']:.1f} times",
)

# %% [markdown]
# A kernel costs its area times the channels it reads times those it makes. The block saves twice:
# only a few of its channels come from the dear 5x5 kernels, and these read only what the bottleneck
# lets through. What a bottleneck leaves out is lost to the kernels behind it, which training has to
# arrange for.

# %% [markdown]
# ## 2.17 · “Halve the size, double the channels: nothing is lost”
#
# The rule of VGG, of ResNet and of most others. From stage to stage: what happens to the number of
# values, to the work of a 3x3 layer within the stage, and to its parameters?

# %%
stages = {f"{16 * 2**k} x {28 // 2**k}²": (16 * 2**k, 28 // 2**k, 28 // 2**k) for k in range(3)}
within = {name: nn.Conv2d(c, c, 3, padding=1, bias=False) for name, (c, _, _) in stages.items()}
drawn = lab_figures.columns(
    {
        "values": {name: c * h * w for name, (c, h, w) in stages.items()},
        "multiply-adds of a layer": {
            name: classics.multiply_adds(within[name], shape) for name, shape in stages.items()
        },
        "its parameters": {name: classics.parameters(layer) for name, layer in within.items()},
    },
    caption="Three stages, channels x size. The work stays, the values halve, the parameters grow "
    "fourfold.",
    alt="Three panels of bars over three stages: values fall by half each time, multiply-adds are "
    "equal, parameters grow by four.",
)
values, work, _ = (list(panel.values()) for panel in drawn.values())

# %% [markdown]
# Half of the values: is half of the image lost? Of any image, yes: the rank of a layer's matrix
# says how many independent numbers come through. Of a digit? The best linear layer that keeps half
# of the numbers tells how much of the digits' variance half of them can hold.

# %%
weight = torch.randn(8, 4, 3, 3, generator=runtime.generator_for(0), dtype=torch.float64)
matrix = cnn.dense_matrix(weight, 8, stride=2, padding=1)  # 4 channels of 8x8 -> 8 of 4x4
rank = torch.linalg.matrix_rank(matrix).item()
print(f"{matrix.shape[1]} numbers go in, {rank} independent ones come out")
fourfold = F.pixel_unshuffle(digit[None], 2)  # (1, 1, 28, 28) -> (1, 4, 14, 14)
report.equal("four times the channels", F.pixel_shuffle(fourfold, 2), digit[None])
rows = recipes.scale_pixels(mnist.x_train[:10000]).flatten(1)  # (N, 784)
variance = torch.linalg.eigvalsh(torch.cov(rows.T)).flip(0)
held = (variance[:392].sum() / variance.sum()).item()
equal_work, halved = len(set(work)) == 1, rank * 2 == matrix.shape[1]
report.verdict(
    "2.17",
    "Halve the size, double the channels: nothing is lost",
    outcome="depends: the work is kept, the values are not"
    if equal_work and halved and values[1] * 2 == values[0]
    else "true",
    evidence=f"each stage has half the values and the same multiply-adds; of random images half is "
    f"lost, of the digits' variance half of the numbers can hold {100 * held:.1f} %",
)

# %% [markdown]
# The rule keeps the *work* of each stage equal; to keep every value, the channels would have to
# grow fourfold. But neighbouring pixels of real images nearly repeat each other, so half of the
# numbers can hold nearly all there is. And to lose the right things is what a classifier is for.

# %% [markdown]
# ## Networks for the next claims
#
# The network of the usual tutorial program, four seeds of each kind: with max pooling; with strided
# convolutions in its place; with the mean of each channel as its only summary (global pooling);
# and two of them on digits that are shifted at random while they train. A strided convolution skips
# the places that pooling would throw away: what does that save?

# %%
SEEDS = 4


def learn(seed, images, steps=64, shift=0.0, **options):
    """Train a tutorial network for a moment, on digits shifted by up to `shift` pixels."""

    def prepare(batch, generator):
        x = recipes.scale_pixels(batch[0])
        return (augment.random_affine(x, generator, shift=shift) if shift else x), batch[1]

    runtime.seed_everything(seed)
    network = classics.NotesCNN(**options)
    batches = train.Batches(
        images.x_train, images.y_train, batch_size=128, seed=seed, transform=prepare
    )
    schedule = {"schedule": "one_cycle", "warmup": 0.25, "learning_rate": 0.01}
    config = train.FitConfig(steps, channels_last=True, seed=seed, **schedule)
    train.fit(network, batches, recipes.classification_loss, config)
    return network.cpu()


# %%
work = {
    shrink: classics.multiply_adds(classics.NotesCNN(shrink=shrink), (1, 28, 28))
    for shrink in ("max", "stride")
}
print("multiply-adds for an image:", ", ".join(f"{k} {v:,}" for k, v in work.items()))
kinds = {
    "max pooling": {},
    "global pooling": {"head": "global"},
    "stride": {"shrink": "stride"},
    "max pooling, shifted": {"shift": 3.0},
    "stride, shifted": {"shrink": "stride", "shift": 3.0},
    "stride, shifted, twice the steps": {"shrink": "stride", "shift": 3.0, "steps": 128},
}
trained = {
    kind: [learn(seed, mnist, **options) for seed in range(SEEDS)]
    for kind, options in kinds.items()
}

# %%
DIRECTIONS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
distances = (0, 1, 2, 3, 4)
tests = [
    augment.affine(test_images[:1000], shift=pixels * DIRECTIONS.repeat(250, 1))
    for pixels in distances
]  # each digit goes in one of four directions
right = {
    kind: torch.tensor(
        [
            [100 * train.accuracy(train.predict(net, x), mnist.y_test[:1000]) for x in tests]
            for net in networks
        ]
    )  # (seeds, distances), in percent
    for kind, networks in trained.items()
}

# %% [markdown]
# ## 2.12 · “Convolution keeps position, pooling makes it matter less”
#
# The first half can be checked to the digit: shift the image and convolve, or convolve and shift.
# The second is a matter of degree. Trained on digits in the middle and asked about digits one to
# four pixels away from it: in which order do max pooling, stride and global pooling give in?

# %%
layer = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")  # what leaves comes in again
first_shifted = layer(digit[None].roll((2, 3), (2, 3)))
then_shifted = layer(digit[None]).roll((2, 3), (2, 3))
report.equal("shifted before and after", first_shifted, then_shifted, atol=1e-6)

# %%
compared = ("max pooling", "stride", "global pooling")
kept = {kind: 100 * right[kind] / right[kind][:, :1] for kind in compared}
drawn = lab_figures.lines(
    distances,
    {"right answers": {kind: right[kind] for kind in compared}, "share of the unmoved": kept},
    ("digits moved by (pixels)", "percent"),
    caption="Left: right answers. Right: the same as a share of what the network reads unmoved. "
    "What does global pooling pay for its calm?",
    alt="Two panels over the shift in pixels. Max pooling and stride begin high and fall, stride "
    "faster; global pooling begins far lower and stays level.",
)
at_two = {kind: values[:, 2] for kind, values in kept.items()}  # (seeds,)
gain = at_two["max pooling"] - at_two["stride"]
calm = at_two["global pooling"].mean() > at_two["max pooling"].mean()
report.verdict(
    "2.12",
    "Convolution keeps position, pooling makes it matter less",
    outcome="true" if gain.mean() > 0 and calm else "depends: on the kind of pooling",
    evidence="moved by two pixels, of what it reads unmoved each keeps: "
    + ", ".join(f"{kind} {values.mean():.0f} %" for kind, values in at_two.items()),
    effect=gain.mean().item(),
    standard_error=gain.std().item() / SEEDS**0.5,
)

# %% [markdown]
# Max pooling forgives a pixel and helps with two, no more: behind it stands a layer that knows
# every place by its own weights. Global pooling asks only *whether* something is there, and hardly
# notices the shift. But where a stroke is tells a 6 from a 9, so it reads far less in the same
# time.

# %% [markdown]
# ## 2.13 · “Strided convolution and augmentation can replace pooling”
#
# > **augmentation**: changing the training images at random, in ways that leave their labels true.
#
# Which of the two does the work? And what is a fair comparison: the same number of steps, or the
# same amount of computing?

# %%
compared = ("max pooling", *list(kinds)[3:])
drawn = lab_figures.lines(
    distances,
    {"": {kind: right[kind] for kind in compared}},
    ("digits moved by (pixels)", "right answers (%)"),
    caption="Trained on shifted digits, all of them bear shifts. With as many steps the strided "
    "network stays behind; with twice as many it does not.",
    alt="Four lines over the shift: max pooling falls steeply; the three trained on shifted digits "
    "fall slowly, the strided one with 64 steps lowest, the one with twice the steps at the top.",
)
pooled, strided, longer = (right[kind] for kind in compared[1:])  # each (seeds, distances)
equal_steps, equal_work = strided - pooled, longer - pooled
share = 2 * work["stride"] / work["max"]
report.value("Twice the steps take, of pooling's multiply-adds", f"{100 * share:.0f}", unit="%")


def significant(differences):
    """-1, 0 or 1: below, about or above zero, by two standard errors; differences (seeds,)."""
    error = differences.std() / len(differences) ** 0.5
    return int(differences.mean() > 2 * error) - int(differences.mean() < -2 * error)


# %%
behind_by_steps = significant(equal_steps[:, 2]) < 0
behind_by_work = significant(equal_work[:, 2]) < 0 or significant(equal_work[:, 0]) < 0
if behind_by_steps != behind_by_work:
    outcome = "depends: on what is equal, steps or work"
else:
    outcome = "false" if behind_by_steps else "true"
report.verdict(
    "2.13",
    "Strided convolution and augmentation can replace pooling",
    outcome=outcome,
    evidence=f"shifted in training and moved by two pixels: pooling {pooled[:, 2].mean():.1f} %, "
    f"stride {strided[:, 2].mean():.1f} % after as many steps and {longer[:, 2].mean():.1f} % "
    f"after {100 * share:.0f} % of the work",
    effect=equal_steps[:, 2].mean().item(),
    standard_error=equal_steps[:, 2].std().item() / SEEDS**0.5,
)

# %% [markdown]
# Augmentation does the work, with pooling as without: what it shows, the network learns to bear.
# Stride skips three of four places instead of computing them and throwing them away; it learns less
# from a step, and a step is cheaper. Many networks of today stride, and pool once, at the end.

# %% [markdown]
# ## 2.14 · “ReLU beats sigmoid because its gradient is larger”
#
# A sigmoid's slope is 1/4 at most, and layers multiply. How much gradient arrives at the first
# layer, before any training? Five fresh networks of each kind, one batch.

# %%
batch = recipes.scale_pixels(mnist.x_train[:256]), mnist.y_train[:256]


def gradient_norms(activation, seed):
    runtime.seed_everything(seed)
    network = stored.scaled_network(activation, "stride")
    recipes.classification_loss(network, batch).backward()
    return [p.grad.norm().item() for p in network.parameters() if p.ndim > 1]


norms = {
    activation: torch.tensor([gradient_norms(activation, seed) for seed in range(5)])
    for activation in ("relu", "sigmoid")
}
drawn = lab_figures.lines(
    ("conv 1", "conv 2", "linear 1", "linear 2"),
    {"": norms},
    ("weights of", "norm of the gradient"),
    log="y",
    caption="Backwards, from right to left: with sigmoid the gradient shrinks at every layer.",
    alt="Gradient norms of four layers on a logarithmic scale: nearly level for ReLU, falling "
    "steeply towards the first layer for sigmoid.",
)
ratio = (norms["relu"][:, 0] / norms["sigmoid"][:, 0]).mean().item()
report.value("At the first layer, ReLU's against sigmoid's", f"{ratio:.0f}", unit="to 1")

# %% [markdown]
# If the size of the gradient is all, a larger learning rate must mend it. Stored runs: both
# activations at five learning rates of SGD, and with Adam, which divides each gradient by its usual
# size. Scored on training digits that were held out. Will any rate help sigmoid?

# %%
grid = experiments.stored("2.14")
accuracy = grid.values("accuracy")  # name -> (seeds,)
by_rate = {
    kind: torch.stack([accuracy[f"{kind}, SGD {rate:g}"] for rate in stored.RATES], dim=1)
    for kind in ("relu", "sigmoid")
}  # (seeds, rates)
drawn = lab_figures.lines(
    stored.RATES,
    {"": by_rate},
    ("learning rate of SGD", "right answers (%)"),
    log="x",
    caption="Two hundred steps at each rate; guessing gives about 10 %.",
    alt="Accuracy against the learning rate: ReLU rises to a high plateau and falls at the largest "
    "rates; sigmoid stays at the level of guessing throughout.",
)
with_adam = {kind: accuracy[f"{kind}, Adam"] for kind in by_rate}
for kind, values in with_adam.items():
    report.value(f"{kind} with Adam", f"{values.mean():.1f}", unit="%")
again = experiments.confirm("2.14", "relu, Adam", accuracy=1.0)

# %%
best = {kind: values[:, values.mean(dim=0).argmax()] for kind, values in by_rate.items()}
gain = best["relu"] - best["sigmoid"]
gain_with_adam = with_adam["relu"] - with_adam["sigmoid"]
rescued = gain_with_adam.mean() < gain.mean() / 2
ahead = significant(gain) > 0 and ratio > 5
report.verdict(
    "2.14",
    "ReLU beats sigmoid because its gradient is larger",
    outcome="true" if ahead and rescued else "depends: not on the gradient alone",
    evidence=f"at the first layer {ratio:.0f} times the gradient; SGD at its best rate "
    f"{best['relu'].mean():.1f} against {best['sigmoid'].mean():.1f} %, Adam "
    f"{with_adam['relu'].mean():.1f} against {with_adam['sigmoid'].mean():.1f} %",
    effect=gain.mean().item(),
    standard_error=gain.std().item() / len(gain) ** 0.5,
)

# %% [markdown]
# One learning rate cannot serve layers whose gradients differ by such factors: what moves the first
# layer makes the last one jump. Adam gives each weight a rate of its own, and sigmoid learns. That
# it is still behind shows that a sigmoid has other troubles, such as outputs that are never
# negative and slopes that vanish far from 0.

# %% [markdown]
# ## 2.15 · “Max pooling trains more easily than mean pooling because its output is larger”
#
# First the reason: how much larger is it? Then an exchange, in stored runs: max pooling made as
# small as mean pooling, and the reverse. If size is the reason, who must win then?

# %%
images = recipes.scale_pixels(mnist.x_train[:1000])
ratios = []
for seed in range(5):
    runtime.seed_everything(seed)
    layers = classics.NotesCNN().layers
    with torch.no_grad():
        by_max = by_mean = images
        for start in (0, 3):  # convolution and ReLU, then a pooling
            by_max = F.max_pool2d(layers[start : start + 2](by_max), 2)
            by_mean = F.avg_pool2d(layers[start : start + 2](by_mean), 2)
            ratios.append((by_max.norm() / by_mean.norm()).item())
first, second = torch.tensor(ratios).view(5, 2).mean(dim=0).tolist()
report.value("Max against mean, behind the first pooling", f"{first:.2f}", unit="to 1")
report.value("and behind the second", f"{second:.2f}", unit="to 1")
used = torch.tensor(stored.MAX_OVER_MEAN)
report.holds(
    "the stored runs exchange them by these factors",
    (used - torch.tensor([first, second])).abs().max().item() < 0.1,
)

# %%
grid = experiments.stored("2.15")
accuracy, loss = grid.values("accuracy"), grid.values("loss")
drawn = lab_figures.lines(
    range(10, 101, 10),
    {"": {kind: loss[kind] for kind in list(loss)[:4]}},
    ("steps of SGD", "loss"),
    caption="The same learning rate for all. Which lines go together: those of one pooling, or "
    "those of one size?",
    alt="Loss over 100 steps: max pooling and enlarged mean pooling fall early and together, mean "
    "pooling and shrunk max pooling late.",
)
again = experiments.confirm("2.15", "mean, made larger", accuracy=1.5)
gain = accuracy["max"] - accuracy["mean"]
exchanged = accuracy["max, made smaller"] - accuracy["mean, made larger"]
for name, values in accuracy.items():
    report.value(name, f"{values.mean():.1f}", unit="%")

# %%
larger_wins = significant(gain) > 0 and significant(exchanged) < 0
adam = accuracy["max, Adam"] - accuracy["mean, Adam"]
report.verdict(
    "2.15",
    "Max pooling trains more easily than mean pooling because its output is larger",
    outcome="true" if larger_wins else "depends: size is not all",
    evidence=f"max less mean {gain.mean():+.1f} points; with their sizes exchanged "
    f"{exchanged.mean():+.1f}; with Adam {adam.mean():+.1f}",
    effect=gain.mean().item(),
    standard_error=gain.std().item() / len(gain) ** 0.5,
)

# %% [markdown]
# The larger output wins, whichever pooling it comes from: it gives the layers behind larger inputs
# and so larger gradients. It is a head start rather than a better network; a higher learning rate,
# or a batch norm (chapter 04), may do the same. Adam alone does not make up for it: it evens out
# gradients, not inputs.

# %% [markdown]
# ## 2.18 · “A good batch size is at most ten times the number of classes”
#
# So at most 100 for ten digits, and at most 20 for two. Stored runs with six batch sizes on one
# core, the learning rate growing with the root of the size: two epochs for each; or three seconds
# for each; or one second for each where there are but two digits, 3 and 8. Where will the best
# sizes be?

# %%
grids = {
    "two epochs": "2.18",
    "three seconds": "2.18_seconds",
    "one second, two classes": "2.18_two_classes",
}
sizes = torch.tensor(stored.BATCH_SIZES)
wrong = {
    name: 100 - torch.stack(list(experiments.stored(claim).values("accuracy").values()), dim=1)
    for name, claim in grids.items()
}  # (seeds, sizes)
drawn = lab_figures.lines(
    stored.BATCH_SIZES,
    {name: {"wrong": values} for name, values in wrong.items()},
    ("batch size", "wrong answers (%)"),
    log="x",
    caption="The lowest point of each panel is the best size for what is held equal there.",
    alt="Three panels of wrong answers against batch size: rising throughout after equal epochs; "
    "after equal seconds lowest at about 100 with ten classes, and level from 10 to 300 with two.",
)
speed = experiments.stored("2.18").values("images_per_second")
for size in stored.BATCH_SIZES:
    report.value(f"batches of {size}", f"{speed[str(size)].mean():,.0f}", unit="images/s")
again = experiments.confirm("2.18", "300", accuracy=1.0)

# %%
best = {name: sizes[values.mean(dim=0).argmin()].item() for name, values in wrong.items()}
at = {name: dict(zip(sizes.tolist(), values.T, strict=True)) for name, values in wrong.items()}
large = at["three seconds"][1000] - at["three seconds"][100]
beyond = at["one second, two classes"][100] - at["one second, two classes"][10]
holds_for_ten = max(best["two epochs"], best["three seconds"]) <= 100 and significant(large) > 0
holds_for_two = significant(beyond) > 0  # is 100 worse, five times as many as the rule allows?
if holds_for_ten != holds_for_two:
    outcome = "depends: on what is held equal and on the machine, not on the classes"
else:
    outcome = "true" if holds_for_two else "false"
report.verdict(
    "2.18",
    "A good batch size is at most ten times the number of classes",
    outcome=outcome,
    evidence="best sizes: "
    + ", ".join(f"{name} {size}" for name, size in best.items())
    + f"; with two classes batches of 100 make {beyond.mean():+.2f} points of mistakes against "
    f"batches of 10; with ten, in three seconds, batches of 1,000 {large.mean():+.1f} against 100",
    effect=large.mean().item(),
    standard_error=large.std().item() / len(large) ** 0.5,
)

# %% [markdown]
# If every image may be seen only so often, small batches win, for they take more steps. If time
# counts, the best size is about where a core is busy all the time, and that is a property of the
# machine: on a GPU it lies far higher. The number of classes sets no limit: with two of them, 100
# does no worse than 10.

# %% [markdown]
# ## 2.19 · “Early layers see texture, late ones objects”
#
# Two ways to ask a layer. *Favourites:* take the twenty images to which a channel answers most; are
# they of one class? *Scrambling:* cut images into tiles of 7x7 pixels and shuffle these; who sees
# texture will answer as before, who sees objects will not. On digits and on clothes. What do you
# expect of the two convolutions, and of the hidden layer behind them?

# %%
clothes = data.load("fashion_mnist")
sets = {"digits": mnist, "clothes": clothes}
readers = {
    "digits": trained["max pooling"],
    "clothes": [learn(seed, clothes) for seed in range(SEEDS)],
}
LAYERS = {"conv 1": 1, "conv 2": 4, "hidden": 9}  # behind their ReLUs


def answers(network, images):
    """What each layer says of each image: its largest value anywhere, (N, channels)."""
    found, x = [], images
    with torch.no_grad():
        for number, layer in enumerate(network.layers[:10]):
            x = layer(x)  # (N, channels, H, W), behind Flatten (N, channels)
            if number in LAYERS.values():
                found.append(x.amax(dim=(2, 3)) if x.ndim == 4 else x)
    return found


def scramble(images):
    """Images of 28x28, cut into tiles of 7x7 and put together in another order."""
    tiles = F.unfold(images, 7, stride=7)  # (N, 49, 16)
    order = torch.randperm(16, generator=runtime.generator_for(0))
    return F.fold(tiles[:, :, order], 28, 7, stride=7)  # (N, 1, 28, 28)


# %%
def purity(values, labels):
    """Share of the commonest class among the twenty favourites, the mean of all channels."""
    top = F.one_hot(labels[values.topk(20, dim=0).indices], 10)  # (20, C, 10)
    return top.sum(dim=0).amax(dim=1).float().mean() / 20


def likeness(values, scrambled):
    """Correlation of the answers to whole and to scrambled images, the mean of all channels."""
    a, b = (v - v.mean(dim=0) for v in (values, scrambled))
    return ((a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0)).clamp(min=1e-6)).mean()


def study(networks, name):
    """Purity and likeness, each (seeds, layers); channels that never answer are left out."""
    images, labels = recipes.scale_pixels(sets[name].x_test[:1000]), sets[name].y_test[:1000]
    rows = []
    for network in networks:
        pairs = zip(answers(network, images), answers(network, scramble(images)), strict=True)
        alive = [(a[:, a.std(dim=0) > 0], b[:, a.std(dim=0) > 0]) for a, b in pairs]
        rows.append([[purity(a, labels), likeness(a, b)] for a, b in alive])
    return torch.tensor(rows).unbind(dim=2)


# %%
runtime.seed_everything(0)
fresh = [classics.NotesCNN() for _ in range(SEEDS)]
cases = {name: (networks, name) for name, networks in readers.items()}
cases |= {f"{name}, untrained": (fresh, name) for name in sets}
pure, alike = ({}, {})
for case, (networks, name) in cases.items():
    pure[case], alike[case] = study(networks, name)
drawn = lab_figures.lines(
    list(LAYERS),
    {"favourites of one class": pure, "answers like those to scrambled images": alike},
    ("layer", "share, correlation"),
    caption="Both convolutions bear scrambling, and their favourites are mixed. The hidden layer, "
    "which sees the whole, is another kind of reader, and training makes it one.",
    alt="Two panels over three layers: purity rises a little from conv 1 to conv 2 and steeply to "
    "the hidden layer; likeness to scrambled images falls to about zero at the hidden layer.",
)

# %%
FIELDS = {"conv 1": (3, 1, -1), "conv 2": (8, 2, -3), "hidden": (28, 28, 0)}  # size, step, start


def favourites(network, images, layer, count=8):
    """The patches (count, 1, size, size) that please the layer's most varied channel most."""
    size, step, start = FIELDS[layer]
    with torch.no_grad():
        maps = network.layers[: LAYERS[layer] + 1](images)
    maps = maps.view(*maps.shape[:2], -1)  # (N, C, places)
    best, places = maps[:, maps.amax(dim=2).std(dim=0).argmax()].max(dim=1)
    framed = F.pad(images, (8,) * 4)
    patches = []
    for number in best.topk(count).indices.tolist():
        row, column = divmod(places[number].item(), 28 // step)
        y, x = (start + step * k + 8 for k in (row, column))
        patches.append(framed[number, :, y : y + size, x : x + size])
    return torch.stack(patches)


rows = {}
for name, networks in readers.items():
    images = recipes.scale_pixels(sets[name].x_test[:1000])
    for layer in LAYERS:
        rows[f"{name}, {layer}"] = favourites(networks[0], images, layer)

# %%
drawn = figures.grid(
    rows,
    caption="For one channel of each layer, the patches that please it most. Which rows show one "
    "thing?",
    alt="Six rows of eight patches: tiny edges, small pieces of strokes or cloth, and whole "
    "digits or clothes.",
)
assert [shape[2] for shape in drawn.values()] == [3, 8, 28] * 2
steps = {name: pure[name].diff(dim=1) for name in sets}  # (seeds, 2): to conv 2, to hidden
rise = torch.cat([pure[name][:, 2] - pure[name][:, 0] for name in sets])
sudden = all(step[:, 1].mean() > 2 * step[:, 0].mean() for step in steps.values())
outcome = "depends: on how much of the image a layer sees" if sudden else "true"
report.verdict(
    "2.19",
    "Early layers see texture, late ones objects",
    outcome=outcome if significant(rise) > 0 else "false",
    evidence="favourites of one class: "
    + "; ".join(
        f"{name} " + ", ".join(f"{100 * v:.0f} %" for v in pure[name].mean(dim=0)) for name in sets
    ),
    effect=rise.mean().item(),
    standard_error=rise.std().item() / len(rise) ** 0.5,
)

# %% [markdown]
# The direction holds. But “texture” is a word for large photographs: at 28 pixels both convolutions
# look for edges and corners, of strokes as of sleeves. And “late” is not a matter of counting
# layers: a convolution is a reader of patches until its receptive field has grown to the size of
# the thing. Training makes the hidden layer what it is; untrained, it is far less choosy.

# %%
clock.stop()
