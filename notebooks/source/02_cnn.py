# %% [markdown]
# # 02 · Why do neighbours matter?
#
# Below are eight digits, and under each the same digit with its 784 pixels put into another order,
# one and the same order for all. Nothing is lost: whoever knows the order puts every pixel
# back. Can you still read them?

# %%
import torch

from course_lib import data, runtime
from course_lib.teaching import plot, report, widgets
from course_lib.teaching.figures import ch02 as figures

clock = report.Clock(budget=70)
mnist = data.load("mnist")
generator = runtime.seed_everything(0)
order = torch.randperm(784, generator=generator)


def shuffle(images):
    return images.flatten(1)[:, order].view(-1, 1, 28, 28)


shown = plot.images(
    torch.cat([mnist.x_test[:8], shuffle(mnist.x_test[:8])]),
    titles=[str(label) for label in mnist.y_test[:8].tolist()] + [""] * 8,
    caption="Below each digit its own pixels, shuffled. Which of them could you tell apart?",
    alt="Eight digits in the upper row; below each a cloud of scattered grey dots.",
)
assert shown["shape"] == [16, 1, 28, 28]

# %% [markdown]
# To the eye they are gone. And to a network? Two kinds train for 150 steps each, once on the digits
# as they are and once on the shuffled ones: the MLP of chapter 01, and a small convolutional
# network, a CNN. Which of the four reads worst, and which best?

# %%
from course_lib import classics, recipes, tensor_ops, train


def small_cnn():
    return classics.LeNet(activation="relu", pooling="max")


def learn(network, images):
    """Chapter 01's training loop for 150 steps; the details do not matter here."""
    batches = train.Batches(recipes.scale_pixels(images), mnist.y_train, batch_size=256)
    config = train.FitConfig(steps=150, learning_rate=0.01, schedule="one_cycle", warmup=0.25)
    train.fit(network, batches, recipes.classification_loss, config)
    return network


def wrong_share(network, images):
    """How many of the test digits it misreads, in percent."""
    logits = train.predict(network, recipes.scale_pixels(images))
    return 100 * (1 - train.accuracy(logits, mnist.y_test))


# %%
digits = {
    "as they are": (mnist.x_train, mnist.x_test),
    "shuffled": (shuffle(mnist.x_train), shuffle(mnist.x_test)),
}
wrong, trained = {}, {}
for kind, make in {"MLP": tensor_ops.MLP, "CNN": small_cnn}.items():
    for name, (known, new) in digits.items():
        runtime.seed_everything(0)  # both begin with the same random weights
        trained[kind, name] = learn(make(), known)
        wrong[f"{kind}, {name}"] = wrong_share(trained[kind, name], new)
drawn = plot.bars(
    wrong,
    "wrong answers on the test digits, in percent",
    caption="Whom does shuffling hurt, and whom not?",
    alt="Four bars: the MLP is wrong equally often on plain and on shuffled digits; the CNN is "
    "wrong least often on plain digits and most often on shuffled ones.",
)
mlp, mlp_shuffled, cnn_plain, cnn_shuffled = wrong.values()
report.holds("on plain digits the CNN is better", cnn_plain < mlp, trained=True)
report.holds("shuffling hardly changes the MLP", abs(mlp_shuffled - mlp) < 1, trained=True)
report.holds("and makes the CNN the worst of all", cnn_shuffled > mlp_shuffled + 1, trained=True)

# %% [markdown]
# To the MLP nothing has changed. Each of its weights belongs to one pixel, and nobody ever told it
# which pixels are neighbours. The CNN is built on them: it gains where neighbours belong together,
# and loses where they do not.
#
# **When you are through you can** say what a convolution computes and write it yourself, work out
# its sizes and its cost, choose between stride, padding, dilation and pooling, read the plans of
# the classic networks, train one that misreads about one digit in a hundred, and look at what it
# looks for. It takes about two hours to read and try; the code runs within about a minute. You need
# chapter 01.

# %% [markdown]
# ## Build it: a layer that looks nearby
#
# What should a layer compute that makes an image of an image? Fully connected, each of 784 outputs
# has a weight for each of 784 inputs. Two thoughts make it smaller:
#
# - *Look nearby.* Whether there is an edge here, the pixels around here tell.
# - *Share.* An edge is an edge, wherever it is: use the same weights at every place.
#
# > **kernel**: the small table of weights that is laid over every place of an image.
#
# > **weight sharing**: the same weights serve at every place.
#
# Guess how many weights are left each time, with a kernel of three rows and three columns.

# %%
pixels = 28 * 28
print(f"each output sees every pixel:     {pixels * pixels:>8,} weights")
print(f"each output sees 3x3 pixels:      {pixels * 9:>8,}")
print(f"and all outputs share the weights:{9:>9,}")

# %% [markdown]
# > **convolution**: lay the kernel over a place, multiply each weight by the pixel under it, and
# > sum; do so at every place.
#
# At one place it is a product and a sum. At all places at once it is nine shifted images, each
# multiplied by one number and added up: there is no need to visit the places one by one.
#
# This kernel takes what is on the left and subtracts what is on the right. Where on a 7 will the
# result be positive, where negative, and where 0?

# %%
import torch.nn.functional as F

digit = recipes.scale_pixels(mnist.x_test[0])  # (1, 28, 28)
kernel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])

by_hand = torch.zeros(26, 26)  # a 3x3 kernel fits at 26 x 26 places
for i in range(3):
    for j in range(3):
        by_hand += kernel[i, j] * digit[0, i : i + 26, j : j + 26]

report.equal("one place by itself", (digit[0, 10:13, 14:17] * kernel).sum(), by_hand[10, 14])
torchs = F.conv2d(digit[None], kernel[None, None])[0, 0]
report.equal("and torch's conv2d at all of them", torchs, by_hand, atol=1e-5)
plot.show(
    figures.filter_figure(digit, kernel.flatten().tolist()),
    caption="The nine blue squares are the first window; it gives the first pixel on the right. "
    "Red: darker on the left than on the right, as on the left side of a stroke. Horizontal "
    "strokes leave almost nothing.",
    alt="A handwritten 7, a kernel with positive numbers on the left and negative ones on the "
    "right, and the result: the slanting stroke has a red left edge and a blue right edge.",
)

# %% [markdown]
# **Is it a convolution?** In mathematics, convolving turns the kernel by half a turn before it is
# laid down; without the turn it is called *cross-correlation*. numpy's `convolve` follows the
# mathematicians. Which of the two is torch's? One lit pixel tells.

# %%
import numpy as np

lit, weights = torch.tensor([0.0, 0, 1, 0, 0]), torch.tensor([1.0, 2, 3])
torchs = F.conv1d(lit[None, None], weights[None, None]).flatten().tolist()
convolved = np.convolve(lit, weights, mode="valid").tolist()
correlated = np.correlate(lit, weights, mode="valid").tolist()
print("torch's conv1d:   ", torchs)
print("numpy's convolve: ", convolved)
print("numpy's correlate:", correlated)
if torchs == convolved:
    outcome = "true"
else:
    outcome = "false" if torchs == correlated else "depends: it is neither"
report.verdict(
    "2.10",
    "What deep learning calls a convolution is a convolution",
    outcome=outcome,
    evidence="one lit pixel under the kernel 1, 2, 3 gives "
    f"{', '.join(f'{v:g}' for v in torchs)} in torch, and by the mathematical definition "
    f"{', '.join(f'{v:g}' for v in convolved)}",
)

# %% [markdown]
# The weights are learned, so nothing is lost: the network learns the turned kernel instead. It
# matters to those who bring kernels from elsewhere.
#
# **Is it a new kind of layer?** A fully connected layer multiplies by a matrix. Here is the matrix
# that does what a 3x3 kernel does to an image of 6x6 pixels. Before you look: how many rows and
# columns does it have, and how many of its numbers are not 0?

# %%
from course_lib import cnn

nine = torch.tensor([-4.0, -3, -2, -1, 1, 2, 3, 4, 5], dtype=torch.float64).view(1, 1, 3, 3)
drawn = figures.dense(
    cnn.dense_matrix(nine, 6),
    caption="Each row is one output pixel, each colour one number of the kernel. From row to row "
    "the same nine numbers move along: that is weight sharing. All the rest is 0: that is "
    "looking nearby.",
    alt="A matrix of 16 rows and 36 columns, nearly all of it empty, with nine coloured cells in "
    "each row that form diagonal bands.",
)
print(
    f"{drawn['rows']} rows, {drawn['columns']} columns, {drawn['nonzero']} numbers that are not 0"
)

# %%
results = {}
images = torch.rand(2, 1, 6, 6, generator=generator, dtype=torch.float64)
for name, layer in {
    "convolution": F.conv2d,
    "matrix": lambda x, w: (x.flatten(1) @ cnn.dense_matrix(w, 6).T).view(2, 1, 4, 4),
}.items():
    x, w = images.clone().requires_grad_(), nine.clone().requires_grad_()
    out = layer(x, w)
    out.sin().sum().backward()  # sin: so that the gradient differs from place to place
    results[name] = out.detach(), x.grad, w.grad
for k, what in enumerate(("output", "gradient of the image", "gradient of the kernel")):
    report.equal(what, results["convolution"][k], results["matrix"][k], atol=1e-12)

full = cnn.dense_matrix(nine, 28)
zeros, shared = (full == 0).double().mean().item(), len(full[full != 0].unique())
report.verdict(
    "2.9",
    "A convolution is a fully connected layer with shared, mostly zero weights",
    outcome="true" if zeros > 0.5 and shared == nine.numel() else "false",
    evidence=f"equal outputs and gradients; for 28x28 pixels the matrix has {full.numel():,} "
    f"numbers, {100 * zeros:.1f} % of them 0, the others only {shared} different ones",
)

# %% [markdown]
# So a convolution can do *less* than a fully connected layer. That is its strength: whatever a
# kernel learns at one place holds at all of them.
#
# ## Build it: many channels
#
# One kernel finds one thing. A layer has many, and reads what the kernels before it have found.
#
# > **channel**: one of the maps that an image, or what a layer makes of it, consists of. A photo
# > has three (red, green, blue); behind a convolution there is one for each of its kernels.
#
# > **feature map**: a channel behind a convolution: where in the image its kernel found something,
# > and how much of it.
#
# Each kernel has a table of weights for *each* input channel. What shape have the weights of four
# 3x3 kernels over three channels? And what comes out of five images of 8x8 pixels? To see all
# windows at once, `unfold(axis, size, step)` puts those along one axis next to each other.

# %%
print("windows of 3 in a row of 5:", torch.arange(5).unfold(0, 3, 1).tolist())

x = torch.rand(5, 3, 8, 8, generator=generator, dtype=torch.float64)
weight = torch.rand(4, 3, 3, 3, generator=generator, dtype=torch.float64)  # (O, C, kH, kW)
windows = x.unfold(2, 3, 1).unfold(3, 3, 1)  # rows, then columns: (N, C, oH, oW, kH, kW), a view
by_hand = torch.einsum("nchwij,ocij->nohw", windows, weight)  # sum over channels, rows, columns
print("windows:", tuple(windows.shape))
print("result: ", tuple(by_hand.shape))
report.equal("every kernel over every window", by_hand, F.conv2d(x, weight))

# %% [markdown]
# How do the three channels of a photo become one map? Some say that the kernel averages them.

# %%
photo = torch.randint(0, 5, (1, 3, 3, 3), generator=generator).double()
one = torch.randint(-2, 3, (1, 3, 3, 3), generator=generator).double()
parts = [(photo[0, c] * one[0, c]).sum().item() for c in range(3)]
found = F.conv2d(photo, one).item()
print("the three channels contribute:", parts)
print(f"sum {sum(parts):g}, mean {sum(parts) / 3:.2f}, conv2d {found:g}")
if found == sum(parts):
    outcome = "false"
else:
    outcome = "true" if abs(found - sum(parts) / 3) < 1e-9 else "depends: it does neither"
report.verdict(
    "2.2",
    "A filter averages its input channels",
    outcome=outcome,
    evidence=f"the channels contribute {' + '.join(f'{part:g}' for part in parts)}; "
    f"{found:g} comes out",
)

# %% [markdown]
# ## Build it: where the kernel goes
#
# > **stride (of a kernel)**: how many pixels the kernel moves from one place to the next. A stride
# > of 2 halves the image. (The stride of a tensor is another thing: see chapter 01.)
#
# > **padding (of an image)**: a frame of additional pixels, so that the kernel can also stand at
# > the border.
#
# > **dilation**: the distance between the pixels that two neighbouring weights of a kernel meet.
#
# In the figure a 3x3 kernel stands at its first place (large squares) and at its second (small
# ones). Cover the titles: how many places are there in a row?

# %%
places = figures.windows(
    {
        "plain": {},
        "stride 2": {"stride": 2},
        "padding 1": {"padding": 1},
        "dilation 2": {"dilation": 2},
    },
    size=7,
    caption="In the titles: pixels in a row before, and after. Which setting keeps the size?",
    alt="Four grids of 7x7 pixels, with the pixels that the first and the second window touch.",
)
assert list(places.values()) == [5, 3, 7, 3]

# %% [markdown]
# A kernel of k weights in a row with dilation d spans d (k - 1) + 1 pixels. It moves within n
# pixels and twice the padding p, by s at a time, and there is one place to begin with:
#
# $$\left\lfloor \frac{n + 2p - d\,(k - 1) - 1}{s} \right\rfloor + 1$$
#
# Predict each line before you run the cell.


# %%
def places_in_a_row(n, k, stride=1, padding=0, dilation=1):
    return (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1


for n, k, options in [
    (28, 5, {}),
    (28, 5, {"padding": 2}),
    (28, 3, {"stride": 2, "padding": 1}),
    (28, 3, {"dilation": 3}),
    (224, 7, {"stride": 2, "padding": 3}),
    (7, 7, {}),
]:
    real = F.conv2d(torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k), **options).shape[2]
    assert real == places_in_a_row(n, k, **options)
    print(f"{n:>3} pixels, kernel {k}, {str(options):<28} -> {real}")

# %% [markdown]
# What should the frame show? There are four ways: zeros; *reflect* mirrors the image, without its
# border pixels; *replicate* repeats the border; *circular* continues from the opposite side. An
# image counts from 1 to 25 and gets a frame of two pixels. Which number stands in the upper left
# corner, for each of the four?

# %%
corner = digit[:, 4:18, 8:22]
frames = figures.paddings(
    corner,
    4,
    caption="Within the orange line, the image; the corner and the pixel that it repeats are red. "
    "Zeros are what torch pads with unless told otherwise.",
    alt="A table from 1 to 25, and a part of a digit, each in four frames: zeros, mirrored, the "
    "border stretched outwards, and continued from the opposite side.",
)
assert frames["numbers"] == {"zeros": 0, "reflect": 13, "replicate": 1, "circular": 19}
assert frames["rows"]["circular"][4:-4] == corner[0, -4].tolist()

# %% [markdown]
# > **groups**: channels cut into parts that do not see each other: each kernel reads the channels
# > of its own group only. Weights and work shrink by the number of groups.
#
# Eight channels in, sixteen out, 3x3. Guess the number of weights for one group, two, and eight.

# %%
x = torch.rand(1, 8, 6, 6, generator=generator, dtype=torch.float64)
for groups in (1, 2, 8):
    weight = torch.rand(16, 8 // groups, 3, 3, generator=generator, dtype=torch.float64)
    out = F.conv2d(x, weight, groups=groups)
    parts = zip(x.chunk(groups, dim=1), weight.chunk(groups), strict=True)
    apart = torch.cat([F.conv2d(channels, kernels) for channels, kernels in parts], dim=1)
    print(f"groups={groups}: weight {tuple(weight.shape)}, {weight.numel():,} numbers")
    report.equal(f"like {groups} separate convolutions", out, apart)

# %% [markdown]
# ## Build it: pooling
#
# To know that there is a loop at the top of a digit, its exact pixels do not matter.
#
# > **pooling**: every window is summed up in one number, its largest (max pooling) or its mean
# > (average pooling), in each channel by itself. There is nothing to learn. Unless told otherwise,
# > the stride is the size of the window.
#
# Max pooling can also say *where* the largest value stood, as an index into the pixels counted row
# by row. With that, `max_unpool2d` puts the values back: networks that paint an image (chapter 10)
# must make small maps large again. The image below has five rows and columns, the window two. What
# becomes of the fifth, if `ceil_mode` does not keep it? And what is missing in the last table?

# %%
tiny = torch.tensor(
    [[1.0, 3, 2, 0, 5], [4, 2, 1, 7, 1], [0, 1, 8, 2, 2], [6, 0, 3, 1, 9], [2, 5, 1, 4, 3]]
).view(1, 1, 5, 5)
largest, indices = F.max_pool2d(tiny, 2, return_indices=True)
tables = {
    "image": tiny,
    "largest": largest,
    "mean": F.avg_pool2d(tiny, 2),
    "largest, ceil_mode": F.max_pool2d(tiny, 2, ceil_mode=True),
    "indices": indices,
    "unpooled": F.max_unpool2d(largest, indices, 2, output_size=(5, 5)),
}
pooled = figures.tables(
    {name: table[0, 0] for name, table in tables.items()},
    caption="Incomplete windows are left out, unless `ceil_mode` keeps them. What is not the "
    "largest of its window is gone for good.",
    alt="A table of 5x5 numbers; by windows of 2x2 its largest values, its means, and the largest "
    "values with incomplete windows; the indices of the four largest, and a table in which only "
    "those four stand at their places, among zeros.",
)
assert pooled["largest"] == [[4, 7], [6, 8]] and pooled["indices"] == [[5, 8], [15, 12]]

# %% [markdown]
# ## Check it
#
# `course_lib/cnn.py` holds all of it in general, made of windows and one matrix product as above.
# It must equal torch in values and in the gradients of images and weights.


# %%
def with_gradients(function, *tensors, **options):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = function(*leaves, **options)
    value.sin().sum().backward()
    return torch.cat([value.detach().flatten(), *(leaf.grad.flatten() for leaf in leaves)])


x = torch.randn(2, 4, 9, 8, generator=generator, dtype=torch.float64)
whole = torch.randn(6, 4, 3, 3, generator=generator, dtype=torch.float64)
halved = torch.randn(6, 2, 3, 2, generator=generator, dtype=torch.float64)
for weight, options in [
    (whole, {}),
    (whole, {"stride": 2, "padding": 1}),
    (whole, {"dilation": (2, 3), "padding": (0, 2)}),
    (halved, {"groups": 2, "stride": (1, 2), "padding": 1, "dilation": 2}),
]:
    ours = with_gradients(cnn.conv2d, x, weight, **options)
    report.equal(
        f"conv2d {options}", ours, with_gradients(F.conv2d, x, weight, **options), atol=1e-12
    )

# %%
for mode in ("reflect", "replicate", "circular"):
    ours = with_gradients(cnn.conv2d, x, whole, padding=2, padding_mode=mode)
    framed = with_gradients(lambda x, w, m=mode: F.conv2d(F.pad(x, (2,) * 4, mode=m), w), x, whole)
    report.equal(f"padding {mode}", ours, framed, atol=1e-12)

for name, options in [
    ("max_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("max_pool2d", {"kernel_size": 2, "dilation": 2}),
    ("avg_pool2d", {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
    ("adaptive_avg_pool2d", {"output_size": (4, 3)}),
]:
    ours, theirs = (with_gradients(getattr(lib, name), x, **options) for lib in (cnn, F))
    report.equal(f"{name} {options}", ours, theirs, atol=1e-12)

# %% [markdown]
# ## Play
#
# **Kernels.** Choose one, or write your own numbers into the nine fields. Before you look: what
# will it do to the 7, and how large will the result be?

# %%
import ipywidgets


def draw_filtered(kernel, stride, padding, mode, dilation):
    options = {"stride": stride, "padding": padding, "padding_mode": mode, "dilation": dilation}
    return figures.filter_figure(digit, kernel, **options)


explorer = widgets.explore(
    draw_filtered,
    alt="A digit with its frame, a 3x3 kernel, and what comes out.",
    caption="“one pixel to the right”: why does that kernel move the image to the right? Start "
    "from “nothing” and change one number. With which settings is the result 13×13?",
    kernel=figures.KernelEditor(),
    stride=widgets.slider("stride", 1, 4, 1, 1),
    padding=widgets.slider("padding", 0, 4, 1, 1),
    mode=ipywidgets.Dropdown(options=cnn.PADDING_MODES, description="frame"),
    dilation=widgets.slider("dilation", 1, 4, 1, 1),
)

# %%
nothing, right = figures.PRESETS["nothing"], figures.PRESETS["one pixel to the right"]
same = figures.filter_image(digit, nothing, padding=1)
moved = figures.filter_image(digit, right, padding=1)
report.holds("“nothing” gives the image back", same.equal(digit[0]))
report.holds("the other one moves it", moved[:, 1:].equal(digit[0, :, :-1]))
print(
    "stride 2, dilation 2:", tuple(figures.filter_image(digit, right, stride=2, dilation=2).shape)
)

# %% [markdown]
# ## The classics
#
# Six networks, shrunk here to 28 pixels. Each made one point that has stayed. The first was the CNN
# of the beginning, there with ReLU and max pooling instead of sigmoid and mean.
#
# | network | its point |
# |---|---|
# | LeNet, 1998 | convolution and pooling in turns, then fully connected layers |
# | tutorial CNN | the same with 3x3 kernels, ReLU and max pooling |
# | AlexNet, 2012 | a large kernel that shrinks the image at once; ReLU; dropout (chapter 03) |
# | VGG, 2014 | nothing but 3x3 kernels, and more of them |
# | NiN, 2014 | 1x1 kernels, a small network at each pixel; the mean of a class's map is its logit |
# | GoogLeNet, 2014 | kernels of several sizes side by side, made cheap by 1x1 kernels before them |
#
# > **multiply-add**: one multiplication and the addition of its result: the unit in which the cost
# > of a network is counted.
#
# Where do you expect most of the parameters, and where most of the multiply-adds: in convolutions
# or in linear layers?

# %%
from torch import nn

networks = {
    "LeNet": classics.LeNet(),
    "tutorial CNN": classics.NotesCNN(),
    "AlexNet": classics.AlexNet28(),
    "VGG": classics.VGG28(),
    "NiN": classics.NiN28(),
    "GoogLeNet": classics.GoogLeNet28(),
}
print(f"{'':<14}{'parameters':>11}{'linear':>8}{'multiply-adds':>15}{'linear':>8}")
for name, network in networks.items():
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    total, work = classics.parameters(network), classics.multiply_adds(network, (1, 28, 28))
    share = 100 * sum(map(classics.parameters, linear)) / total
    work_share = 100 * sum(layer.weight.numel() for layer in linear) / work
    print(f"{name:<14}{total:>11,}{share:>6.0f} %{work:>15,}{work_share:>6.0f} %")
drawn = figures.skyline(
    {name: network.layers for name, network in networks.items()},
    caption="Blue: maps, as tall as they have rows, as wide as their channels are many (the "
    "numbers below). Orange: fully connected, not to scale. Which two hardly need orange layers?",
    alt="Six rows of rectangles that become lower and wider from left to right; LeNet, tutorial "
    "CNN, AlexNet and VGG end in fully connected layers, NiN in none, GoogLeNet in one.",
)

# %% [markdown]
# In the older four, most or half of the parameters sit in the linear layers. Work is done where the
# maps are: a kernel's nine weights are used at hundreds of places.
#
# > **receptive field**: the pixels of the image on which a value somewhere in the network depends.
#
# VGG's point in one cell. The gradient of one value says on which pixels it depends: how far do two
# 3x3 kernels see, one upon the other? The formula: begin with a size of 1; each layer with a kernel
# of k adds (k - 1) × (the product of the strides before it).


# %%
def kernels(layers):
    """Kernel size, stride and padding of each layer that has a kernel or a pooling window."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            numbers = layer.kernel_size, layer.stride, layer.padding
            yield [n if isinstance(n, int) else n[0] for n in numbers]


def field(layers):
    """How many pixels in a row a value behind the layers depends on."""
    size, strides = 1, 1
    for k, stride, _ in kernels(layers):
        size, strides = size + (k - 1) * strides, strides * stride
    return size


x = torch.ones(1, 1, 15, 15, requires_grad=True)
two = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1))
for layer in two:
    nn.init.ones_(layer.weight)  # all ones: no two ways to a pixel can cancel
two(x)[0, 0, 7, 7].backward()
seen = (x.grad[0, 0] != 0).sum(dim=0).max().item()
print(f"two 3x3: {seen} pixels in a row, {2 * 9} weights; one 5x5: 5 pixels, {25} weights")
report.holds("the formula agrees", field(two) == seen == 5)
print(f"behind VGG's last pooling: {field(networks['VGG'].layers)} pixels; the image has 28")

# %% [markdown]
# ## From the disk to the layer
#
# The usual way goes image by image: a `Dataset` takes one, makes a picture and then a tensor of it
# and brings it to a common scale; a `DataLoader` collects a batch of them (chapter 01). The other
# way: all digits are one tensor already, and a batch is one index into it. How many times as many
# images a second will the second way give?

# %%
import time
from itertools import islice


def images_per_second(batches, count):
    start = time.perf_counter()
    images = sum(len(labels) for _, labels in islice(batches, count))
    return images / (time.perf_counter() - start)


tutorial, recipe = recipes.tutorial(), recipes.cnn()  # the usual program, and this chapter's
print(tutorial.batches.dataset.transform)
slices = train.Batches(mnist.x_train, mnist.y_train, batch_size=256)
speed = {
    "DataLoader, image by image": images_per_second(tutorial.batches, 60),
    "slices of one tensor": images_per_second(slices, 100),
    "slices, turned and shifted as a batch": images_per_second(recipe.batches, 20),
}
for name, images in speed.items():
    report.value(name, f"{images:,.0f}", unit="images/s")
loader, sliced, augmented = speed.values()
report.value("Slices against the DataLoader", f"{sliced / loader:.0f}", unit="to 1")
report.holds("slicing is faster", sliced > 3 * loader)

# %% [markdown]
# Loading and learning take turns. How much longer would the training below last with this
# DataLoader? Guess; it will tell. Where images do not fit into memory or differ in
# size, a DataLoader with worker processes is the way.
#
# ## Train it
#
# The chapter's own network: shapes and parameters first. Read down the list. Where does it shrink,
# and where are most of its parameters? It pools *before* the ReLU, which then has a quarter of the
# numbers to work on; the result is the same, for the largest of a window stays the largest. Behind
# each convolution stands a batch norm, which keeps the numbers on a common scale; chapter 04 opens
# it up. As it adds a number to each channel, the convolutions need no bias.

# %%
network = recipe.model.eval()  # only look: a batch norm that trains would learn from it
x = recipes.scale_pixels(mnist.x_test[:1])
print(f"{'an image':<14}{tuple(x.shape[1:])}")
layers = [layer for block in network.features for layer in block]
for layer in [*layers, nn.Flatten(), network.classify]:
    x = layer(x)
    count = classics.parameters(layer)
    print(f"{type(layer).__name__:<14}{str(tuple(x.shape[1:])):<14}{count:>8,}")
print(f"parameters: {classics.parameters(network):,}")
print(f"multiply-adds: {classics.multiply_adds(network, (1, 28, 28)):,}")

# %%
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} images")
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="While the learning rate is on its way to the peak, the loss rises for a while: at "
    "which steps? (The dark line is a mean of the last 20, so it lags.)",
    alt="The loss over the steps falls steeply, then slowly; the learning rate below it rises to a "
    "peak and falls back to zero.",
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
seen = len(history.loss) * recipe.batches.batch_size
report.value("Trained on", f"{seen / history.seconds:,.0f}", unit="images/s")
longer = seen / loader - seen / augmented
report.value("With that DataLoader it would last longer by", f"{longer:.0f}", unit="s")
accuracy = recipe.test(network)["accuracy"]
report.result("Accuracy on 10,000 new digits", 100 * accuracy, "%", target=99.0, gate=99.0)
report.seconds("Training", history.seconds, target=15)

# %% [markdown]
# ## Look inside
#
# **What the first layer looks for.** Its kernels are images of 3x3 weights, so we can look at them,
# and at what they make of the 7. Which of them answer to its left edges, which to its right ones?

# %%
network = network.cpu().eval()  # wherever it was trained: here we look at single images
first = network.features[0][0]  # of the first block, the convolution
with torch.no_grad():
    seen = first(digit[None])[0, :, None]  # (O, 1, 28, 28)
drawn = figures.grid(
    {"kernel": first.weight[:8], "the 7": seen[:8]},
    signed=True,
    caption="Blue adds, red subtracts. Below each kernel, what it finds: blue where the pixels "
    "suit it, red where they are the opposite.",
    alt="Eight small tables of 3x3 weights in blue and red, and below each a 7 whose edges are "
    "blue on one side and red on the other.",
)
assert drawn["kernel"] == [8, 1, 3, 3]

# %% [markdown]
# Kernels that are red on the left and blue on the right answer to left edges, where black turns to
# white; their mirror images to right ones. Most have found something of their own: nobody told
# them.
#
# **What becomes of a digit.** The same 7 behind each of the three blocks. The deeper, the coarser
# the maps. How far down could you still tell that it is a 7?

# %%
maps, x = {}, digit[None]
with torch.no_grad():
    for number, block in enumerate(network.features, start=1):
        x = block(x)  # convolution, pooling in the first two, batch norm, ReLU
        maps[f"block {number}"] = x[0, :8, None]
drawn = figures.grid(
    maps,
    caption="Eight of the channels behind each block; white is the largest value of a map. "
    "Which parts of a 7 do the channels of the last row mark?",
    alt="Rows of eight maps of a 7: the first row resembles the digit and its edges, the later "
    "ones are coarser and show only parts of it.",
)

# %% [markdown]
# Behind the first block it is a plain 7, behind the last hardly. There a map says little more than
# *where* something was found; *what* it is, the channel says. A map can be bright where nothing is,
# for batch norm adds a number to the whole channel. Bright borders then come from the zeros of the
# padding, which are an edge to the next kernel.
#
# **What a channel wants to see.** For one channel of the last convolution, find the places in
# 3,000 test digits where it answers most, and cut out its receptive field there.

# %%
test_images = recipes.scale_pixels(mnist.x_test)
with torch.no_grad():
    answers = nn.Sequential(*layers)(test_images[:3000])  # (N, O, h, w)
size, step, start = field(layers), 1, 0  # the layers of the three blocks, listed above
for _, stride, padding in kernels(layers):
    start, step = start - padding * step, step * stride  # the first field, the way to the next
framed = F.pad(test_images[:3000], (size,) * 4)  # a receptive field may reach beyond the border


def favourites(channel, count=9):
    """The patches (count, 1, size, size) to which a channel answers most."""
    best, places = answers[:, channel].flatten(1).max(dim=1)  # the best place of each digit
    patches = []
    for number in best.topk(count).indices.tolist():
        y, x = (start + step * k + size for k in divmod(places[number].item(), answers.shape[3]))
        patches.append(framed[number, :, y : y + size, x : x + size])
    return torch.stack(patches)


drawn = figures.grid(
    {f"channel {channel}": favourites(channel) for channel in (0, 5, 10, 15, 20)},
    caption="What have the patches of a row in common?",
    alt="Five rows of nine patches; those of a row show similar strokes in the same place.",
)

# %% [markdown]
# **What it needs to see.** Cover a square of a digit, ask again, and do so at every place. What we
# watch is the logit of the right digit minus the largest of the others: below 0 it is misread.
# Where must the square lie to turn a 4 into something else, and a 6, an 8, a 9?

# %%
chosen = torch.tensor([(mnist.y_test == number).nonzero()[3].item() for number in (4, 6, 8, 9)])
line = torch.arange(28)
near = (line[:, None] - line).abs() <= 3  # (28, 28): which rows does a square about row i cover?
squares = (near[:, None, :, None] & near[None, :, None, :]).view(784, 1, 28, 28)
margins = []
for image, label in zip(test_images[chosen], mnist.y_test[chosen], strict=True):
    answers = train.predict(network, image * ~squares)  # (784, 10), one for each place
    right = answers[:, label].clone()
    answers[:, label] = -torch.inf
    margins.append((right - answers.max(dim=1).values).view(28, 28))
drawn = figures.occlusion(
    test_images[chosen],
    torch.stack(margins),
    caption="Below: how safely the digit is still read when a square of 7x7 pixels about this "
    "place is black. Red: misread. White: undecided.",
    alt="Four digits; below each a map, blue nearly everywhere, pale or red where the square hides "
    "a telling part of the digit.",
)
corners = torch.stack(margins)[:, 0, 0]
report.holds("a covered corner does no harm", (corners > 0).all().item(), trained=True)

# %% [markdown]
# **Where it fails.** The surest of its wrong answers. Compare them with those of chapter 00: what
# kind of mistake is left?

# %%
probabilities = train.predict(network, test_images).softmax(dim=1)
sure, answer = probabilities.max(dim=1)
mistakes = (answer != mnist.y_test).nonzero().squeeze(1)
worst = mistakes[sure[mistakes].argsort(descending=True)][:8]
shown = plot.images(
    mnist.x_test[worst],
    titles=[f"read {answer[i]}, is {mnist.y_test[i]}\n{100 * sure[i]:.1f} % sure" for i in worst],
    caption="What the network read, what the label says, and the probability of its answer.",
    alt="Eight test digits with the network's wrong answer and the label above each.",
)
report.value("Wrong answers among 10,000", len(mistakes))

# %% [markdown]
# What is left is mostly hard to read for us, too: strokes that break off or nearly touch, and
# labels that one may doubt. But it is *sure* of them, and that is the worse mistake.
#
# ## Play: how far can it go?
#
# **Shift and turn a digit**, and ask three networks: the MLP and the small CNN from the beginning,
# which trained alike on digits in the middle of their images, and the network you have just
# trained, which also saw them shifted and turned. Guess which one fails first.

# %%
from course_lib import augment

readers = {
    "MLP": trained["MLP", "as they are"],
    "small CNN": trained["CNN", "as they are"],
    "trained above": network,
}


def move(place, right, down, degrees):
    """A test digit (1, 28, 28), moved and turned, and what each network makes of it."""
    shift = (float(right), float(down))
    image = augment.affine(test_images[place][None], shift=shift, degrees=degrees)
    return image[0], {k: train.predict(net, image).softmax(1)[0] for k, net in readers.items()}


mover = widgets.explore(
    lambda **where: figures.answers_figure(*move(**where)),
    alt="A digit, shifted and turned as the sliders say, beside the answers of three networks.",
    caption="Bring the digit back to the middle, pixel by pixel. Which network is sure, and wrong?",
    place=widgets.slider("test digit number", 0, 99, 0, 1),
    right=widgets.slider("to the right (pixels)", -8, 8, 4, 1),
    down=widgets.slider("down (pixels)", -8, 8, 0, 1),
    degrees=widgets.slider("turn (degrees)", -180, 180, 0, 10),
)

# %%
report.holds(
    "0 and unmoved, it is the 7 from above", move(0, 0, 0, 0)[0].allclose(digit, atol=1e-4)
)
kept = {}
for name, reader in readers.items():
    answers = train.predict(reader, augment.affine(test_images, shift=(3.0, 0.0)))
    kept[name] = train.accuracy(answers, mnist.y_test)
    report.value(f"{name}, all digits moved by 3 pixels", f"{100 * kept[name]:.0f}", unit="% right")
report.holds("trained alike, the CNN keeps more", kept["small CNN"] > kept["MLP"], trained=True)

# %% [markdown]
# Why does the small CNN not keep all, when its kernels are the same at every place? Its *maps* move
# along with the digit. But the linear layers behind them have a weight for each place, like those
# of the MLP, and they saw digits in the middle only. The third network was *shown* shifted ones.

# %% [markdown]
# ## Claims
#
# Three are settled above, where they belong: 2.10, 2.9 and 2.2. The others are put to the test in
# the [lab](labs/02_cnn.ipynb): can pooling be undone, does ReLU win by its gradient, how large is a
# good batch? All verdicts of the course are collected in [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 2.1.** Shapes in your head. Images of shape (3, 32, 32) go in; what comes out, without
# the axis N? And for the last one: which shape has the layer's weight?

# %%
from course_lib.teaching.exercises import ch02

my_shapes = {
    "Conv2d(3, 8, 5)": ...,
    "Conv2d(3, 8, 5, padding=2)": ...,
    "Conv2d(3, 8, 3, stride=2, padding=1)": ...,
    "Conv2d(3, 8, 3, dilation=4)": ...,
    "MaxPool2d(2)": ...,
    "the weight of Conv2d(6, 8, 3, groups=2)": ...,
}
ch02.shapes.check(my_shapes)

# %% [markdown]
# **Exercise 2.2.** Invent a kernel for horizontal edges: positive where it is brighter above than
# below, 0 on areas of one brightness and on vertical edges, and never negative beside such an edge.

# %%
my_kernel = [
    [..., ..., ...],
    [..., ..., ...],
    [..., ..., ...],
]
ch02.kernel.check(my_kernel)

# %% [markdown]
# **Exercise 2.3.** Max pooling with your own hands: `images` (N, C, H, W), square windows of `size`
# pixels, incomplete ones left out. Without a ready-made `max_pool2d`; can you do without a loop?


# %%
def max_pool(images, size):
    return ...  # your code here


ch02.max_pool.check(max_pool)

# %% [markdown]
# **Exercise 2.4.** A convolution with a stride: one `image` (H, W), one `kernel` of any height and
# width, without padding and without a ready-made `conv2d`.


# %%
def correlate(image, kernel, stride):
    return ...  # your code here


ch02.correlate.check(correlate)

# %% [markdown]
# ### Quiz

# %%
for question in ch02.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - A convolution is a fully connected layer that **looks nearby** and **shares its weights**: the
#   same kernel at every place, summed over all input channels.
# - Weights have the shape **(kernels, channels per group, rows, columns)**. The image's size is not
#   among them.
# - **floor((n + 2p - d (k - 1) - 1) / s) + 1** places in a row. Stride and pooling shrink, padding
#   keeps, dilation spreads.
# - Linear layers hold parameters, convolutions do work; the classics differ in how they balance the
#   two.
# - Kernels work alike at every place; **the linear layers behind them do not**. That a digit may
#   stand elsewhere, they must be shown.
# - Where neighbours mean nothing, convolution helps nothing.
#
# **Papers.** Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: *Gradient-based learning applied to
# document recognition*, 1998. A. Krizhevsky, I. Sutskever, G. Hinton: *ImageNet classification
# with deep convolutional neural networks*, 2012. K. Simonyan, A. Zisserman: *Very deep
# convolutional networks for large-scale image recognition*, 2015. M. Lin, Q. Chen, S. Yan:
# *Network in network*, 2014. C. Szegedy and others: *Going deeper with convolutions*, 2015.
# V. Dumoulin, F. Visin: *A guide to convolution arithmetic for deep learning*, 2016. M. Zeiler,
# R. Fergus: *Visualizing and understanding convolutional networks*, 2014 (patches, occlusion).
#
# **Longer, larger, elsewhere.** The same training from the command line; three times as
# long; shared by two processes; and the usual tutorial program, to compare with:
#
# ```
# python -m course_lib train cnn
# python -m course_lib train cnn_long
# torchrun --nproc-per-node 2 -m course_lib train cnn_long
# python -m course_lib train tutorial
# ```

# %%
clock.stop()
