# %% [markdown]
# # 05 · How can a network be a hundred layers deep?
#
# More layers can compute more. So a network of 44 layers should learn its training images at least
# as well as one of 8: it could do what the 8 do, and let the other layers pass on what they get.
# Networks of 8, 20 and 44 layers were trained, all with batch norm, all for the same number of
# steps, three seeds each; on the left the usual way, on the right with one small change. What do
# you expect of the curves on the left?

# %%
import torch

from course_lib import data, recipes, resnet, runtime, train
from course_lib.teaching import experiments, plot, report, widgets
from course_lib.teaching.experiments import long_runs
from course_lib.teaching.figures import ch05 as figures

clock = report.Clock(budget=120)
depth = experiments.stored("5.2")  # computed once: `python -m course_lib claims 5.2`
ends = figures.depth_curves(
    depth.values("loss"),
    caption="The loss on the images they train on. Left: which of the networks learns worst? "
    "Right: what has become of the difference?",
    alt="Two panels of falling loss curves for 8, 20 and 44 layers. Left, plain: the curve of 44 "
    "layers stays far above the others. Right, residual: the three lie close together.",
)
plain, residual = (ends[kind][-1] for kind in figures.KINDS)
report.holds("plain, 44 layers learn worse than 8", plain > ends["plain"][0])
report.holds("and worse than 44 layers with the small change", plain > residual)

# %% [markdown]
# The deep plain network does not overfit: it is worse on the very images it trains on. What it
# would need to do is there for the taking, and training does not find it. Many layers can
# represent more, and learn less.
#
# The change on the right is an addition. That is the whole of this chapter's idea, and it is in
# nearly every network that has been built since.
#
# **When you are through you can** build a residual block and say what each of its parts is for,
# choose its shortcut, read the plans of ResNet-18, 34 and 50 and load weights made elsewhere into
# yours, see whether a gradient reaches the first layer, change training images at random in four
# ways, and train a network that names clothes as well as small networks can. It takes about two
# hours to read and try; the code runs within about two minutes. You need chapters 02 and 04.

# %% [markdown]
# ## Build it: a block with a way past it
#
# A layer that should pass on what it gets would have to learn weights that copy: one 1 for each
# channel in the middle of its kernel, and zeros elsewhere. So give it the copy for nothing, and
# let it learn what to *add*:
#
# $$y = x + F(x)$$
#
# To pass on $x$, the layers $F$ need only give 0, and small weights give little.
#
# > **shortcut**: a way past some layers, on which their input is added to what they make of it.
#
# > **residual block**: layers with a shortcut past them. They learn the *residual*, the difference
# > between what should come out and what came in.
#
# Here is one with our own hands: two convolutions, each with batch norm, the input added before
# the last ReLU. What shape must come out for the sum to be possible?

# %%
import torch.nn.functional as F

generator = runtime.seed_everything(0)
x = torch.rand(4, 8, 7, 7, generator=generator, dtype=torch.float64)  # (N, C, H, W)
first = torch.randn(8, 8, 3, 3, generator=generator, dtype=torch.float64) / 8
second = torch.randn(8, 8, 3, 3, generator=generator, dtype=torch.float64) / 8
gamma, beta = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)


def norm(x, gamma, beta):
    return F.batch_norm(x, None, None, gamma, beta, training=True)


def branch(x, last_gamma):
    x = F.relu(norm(F.conv2d(x, first, padding=1), gamma, beta))  # (4, 8, 7, 7)
    return norm(F.conv2d(x, second, padding=1), last_gamma, beta)


y = F.relu(x + branch(x, gamma))
print("in ", tuple(x.shape))
print("out", tuple(y.shape))

# %% [markdown]
# The last batch norm multiplies by its gamma. What comes out of the block when that gamma is 0?
# Decide before you run the cell: nothing, the input, or the input somehow bent?

# %%
closed = F.relu(x + branch(x, 0 * gamma))
report.holds("with the last gamma 0, the block gives back its input", closed.equal(x))

block = resnet.BasicBlock(8, 8).double()  # the library's: the same two convolutions
block.conv1.weight.data, block.conv2.weight.data = first, second
report.equal("and the library's block is ours", block(x.clone()), y)

# %% [markdown]
# So a block whose last gamma is 0 is the identity, the function that returns what it gets: the
# ReLU at the end has nothing to bend, since what comes in has passed a ReLU before and is not
# negative. Start *all* blocks so, and a network of any depth begins as a shallow one: its blocks
# wake up one by one, as the gradient asks them to. (Does the gradient reach a gamma of 0? It does:
# the derivative by gamma is what gamma multiplies, and that is not 0.)
#
# > **zero initialisation**: the last gamma of every residual block starts at 0, so that the block
# > starts as the identity.
#
# Here are whole networks that start so. A first convolution, the *stem*, reads the image; behind it
# stand three *stages* of blocks, and the second and the third begin with a block that halves the
# maps. What will the blocks make of the stem's maps: all 3 of them, and all 54 of 110 layers?

# %%
images = torch.rand(16, 1, 28, 28, generator=generator)
for layers in (8, 20, 110):
    runtime.seed_everything(0)
    # No stage gets wider here, so that what goes in and what comes out can be compared.
    network = resnet.deep_resnet(layers, (8, 8, 8), pool=True, zero_init=True)
    maps = network.stem(images)  # (16, 8, 14, 14)
    out = network.stages(maps)  # through all blocks; two of them take every second pixel
    print(f"{layers:>3} layers: {tuple(maps.shape)} -> {tuple(out.shape)}")
    report.holds("what comes out are pixels that came in", out.equal(maps[:, :, ::4, ::4]))

# %% [markdown]
# ## Build it: when the shape changes
#
# From stage to stage the maps get smaller and the channels more. Then $x$ and $F(x)$ differ in
# shape, and cannot be added. Three ways out:
#
# - **projection**: a 1x1 convolution on the shortcut, with the stride of the block, and a batch
#   norm. It has weights of its own.
# - **padding**: take every second pixel, and add channels of zeros. It costs nothing.
# - **none**: no shortcut at all. That is a plain block; it is here to compare with.
#
# Images of 16 channels, 14x14, go in; a block of 32 channels with stride 2. Predict: the shape that
# comes out, and which of the three has the most parameters.

# %%
from course_lib import classics

x = torch.rand(2, 16, 14, 14, generator=generator)
for kind in resnet.SHORTCUTS:
    block = resnet.BasicBlock(16, 32, stride=2, shortcut=kind)
    shape, count = tuple(block(x).shape[1:]), classics.parameters(block)
    print(f"{kind:<11} {tuple(x.shape[1:])} -> {shape}  {count:>7,} parameters")

padded = torch.zeros(2, 32, 7, 7)
padded[:, :16] = x[:, :, ::2, ::2]  # every second pixel; the other channels stay 0
report.equal("padding by hand", padded, resnet.make_shortcut("padding", 16, 32, 2)(x))

# %% [markdown]
# Where the shape stays, the first two are the same: nothing at all on the shortcut. And that is so
# in nearly all blocks of a deep network.
#
# **Three plans.** Two more blocks are in common use. Follow the blue line in each: on which of the
# three does nothing at all lie in the way, from the first block of a network to its last?

# %%
plans = figures.blocks(
    caption="What a block's input passes on its way. Left the basic block, in the middle the one "
    "for wide networks, right the one whose ReLU and norm come first.",
    alt="Three plans of layers from top to bottom, each with a blue shortcut to a plus sign. Basic "
    "and bottleneck have a ReLU behind the sum, pre-activation has none.",
)
assert len(plans["bottleneck"]) == 8

# %% [markdown]
# - The **bottleneck** makes few channels of many with a 1x1 convolution, lets the 3x3 work on
#   those, and makes many of them again: four times as many as the 3x3 has.
# - **Pre-activation** moves norm and ReLU to the front. Nothing bends the sum, so what the first
#   block adds reaches the end of the network as it is.
#
# All three take 256 channels and give 256. Which is the cheapest, and about how many times? And
# which of them can give numbers below 0?

# %%
x = torch.rand(2, 256, 7, 7, generator=generator)
for name, block in {
    "basic": resnet.BasicBlock(256, 256),
    "bottleneck": resnet.Bottleneck(256, 64),  # 64 channels inside
    "pre-activation": resnet.PreActivationBlock(256, 256),
}.items():
    out, work = block(x), classics.multiply_adds(block, (256, 7, 7))
    below_zero = out.min().item() < 0
    print(f"{name:<15}{tuple(out.shape[1:])}  {work:>11,} multiply-adds, below 0: {below_zero}")

# %% [markdown]
# ## Check it: the same numbers as torchvision
#
# Stack blocks into four stages, put a large convolution and a pooling in front and a linear layer
# behind, and you have the networks of the paper: ResNet-18 and 34 of basic blocks, ResNet-50 of
# bottlenecks. Our `resnet` has the names and shapes of torchvision's, so weights trained elsewhere
# fit, tensor by tensor. That the names agree says little. That logits, gradients and running
# statistics agree in float64 says that every stride, norm and shortcut is where it belongs.

# %%
import torchvision

from course_lib.weights import load_weights

labels = torch.tensor([3, 7, 1])


def outcome(network, images):
    """Logits and the gradient of the images, while training; then what the norms remember."""
    images = images.clone().requires_grad_()
    logits = network.double().train()(images)
    F.cross_entropy(logits, labels).backward()
    memory = [value.flatten() for name, value in network.named_buffers() if "running" in name]
    return logits.detach(), images.grad, torch.cat(memory)


for name in ("resnet18", "resnet34", "resnet50"):
    theirs = getattr(torchvision.models, name)(num_classes=10)
    ours = getattr(resnet, name)(classes=10)
    load_weights(ours, theirs.state_dict())
    print(f"{name}: {classics.parameters(ours):,} parameters")
    images = torch.rand(3, 3, 64, 64, generator=generator, dtype=torch.float64)
    pairs = zip(outcome(ours, images), outcome(theirs, images), strict=True)
    for what, pair in zip(("logits", "gradient", "running statistics"), pairs, strict=True):
        report.equal(what, *pair, rtol=1e-7, atol=1e-9)

# %% [markdown]
# And weights that do not fit? The worst a loader can do is to skip them in silence: the network
# runs, and is wrong. Ours names the first tensor that is missing, left over, or of another shape,
# and changes nothing.

# %%
weights = torchvision.models.resnet18(num_classes=10).state_dict()
del weights["layer1.0.bn1.bias"]
weights["fc.weight"] = weights["fc.weight"][:5]
try:
    load_weights(resnet.resnet18(classes=10), weights)
except ValueError as error:
    print(error)
else:
    raise AssertionError("they were taken")

# %% [markdown]
# **What does it cost?** “The 3x3 convolutions are the cost, and the shortcut is free”, one reads.
# Count the multiplications with their additions, by kind of layer, and the additions at the end of
# the blocks. Guess: which share do the 3x3 convolutions have in each of the three?

# %%
sizes = {"ResNet-18": resnet.resnet18, "ResNet-34": resnet.resnet34, "ResNet-50": resnet.resnet50}
counts = {name: figures.work(make(), (3, 224, 224)) for name, make in sizes.items()}
shares = figures.stacked(
    counts,
    "percent of the multiply-adds for an image of 224x224",
    caption="At the left end the 3x3 convolutions, at the right end what the shortcuts cost: "
    "projections, and then the sums.",
    alt="Three bars of shares. In ResNet-18 and 34 the 3x3 convolutions are nearly everything; in "
    "ResNet-50 the 1x1 convolutions take as large a share. Projections take a few percent.",
)

# %%
main = {name: part["3×3"] for name, part in shares.items()}
sums, paid = (
    {name: part[kind] for name, part in shares.items()} for kind in ("sums", "projections")
)
free, most = max(sums.values()) < 1, min(main.values()) > 50
if free and most and max(paid.values()) < 2:
    outcome_58 = "true"
elif free:
    outcome_58 = "depends: sums are free, projections are not, and bottlenecks pay for 1x1 as well"
else:
    outcome_58 = "false"
report.verdict(
    "5.8",
    "The 3x3 network is the cost, the shortcut is free",
    outcome=outcome_58,
    evidence="; ".join(
        f"{name}: 3x3 {main[name]:.0f} %, projections {paid[name]:.1f} %, sums {sums[name]:.2f} %"
        for name in shares
    ),
)

# %% [markdown]
# The additions are next to nothing. Three or four blocks of a network change the shape, and their
# projections are what the shortcuts cost. With bottlenecks they lead from one wide map to another,
# and so they cost more.
#
# ## Why it works: the way back
#
# Training walks the layers backwards, and multiplies by the derivative of each. Of fifty layers
# with a slope of a tenth, what is left? And what if each also passes on its input, so that its
# slope is one and a tenth? Guess both, then run the cell.

# %%
x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
for name, layer in {
    "plain, slope 0.1": lambda x, _: 0.1 * x,
    "residual, slope 0.1": lambda x, _: x + 0.1 * x,
    "residual, slopes +0.1 and -0.1": lambda x, k: x + 0.1 * (-1) ** k * x,
}.items():
    y = x
    for number in range(50):
        y = layer(y, number)
    (slope,) = torch.autograd.grad(y, x)
    print(f"{name:<31} {slope.item():.3g}")

# %% [markdown]
# A product of fifty small numbers is nothing. With a shortcut each factor is $1 + F'$, and the
# product contains the way on which every factor is 1: from the loss to the first layer, without
# passing any weights. Nothing forbids that such a product *grows*, as in the second line; so the
# branches should stay small beside the shortcut. Where their slopes have both signs, as in the
# third, they nearly cancel, and the product stays near 1.
#
# A real layer has not one slope but many. We take networks as they are before training, send a
# batch through, and measure at each 3x3 convolution how large its gradient is beside its weights.
# Plain and residual, with batch norm in both. In which direction do you expect the plain curve to
# go?


# %%
def gradient_sizes(network, images, labels):
    """For each 3x3 convolution the norm of its gradient over that of its weights."""
    network.train().zero_grad()
    F.cross_entropy(network(images), labels).backward()
    sizes = [
        (layer.weight.grad.norm() / layer.weight.norm()).item()
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3)
    ]
    network.zero_grad()
    return torch.tensor(sizes)


def make(layers, kind, seed):
    runtime.seed_everything(seed)
    shortcut = {"plain": "none", "residual": "padding"}[kind]
    return resnet.deep_resnet(layers, (8, 16, 32), shortcut, pool=True)


# %%
(few, few_labels), _ = recipes.few_clothes(draw=0, count=2500)
at_start = {
    f"{layers} layers, untrained": {
        kind: torch.stack(
            [gradient_sizes(make(layers, kind, s), few[:64], few_labels[:64]) for s in range(3)]
        )
        for kind in figures.KINDS
    }
    for layers in (20, 110)
}

# %%
ratios = figures.gradients(
    at_start,
    caption="Read from right to left, the way the gradient goes. Pale: the seeds. Each step of the "
    "scale is a factor of ten or more: where does the plain network's gradient go?",
    alt="Two panels, 20 and 110 layers. Towards the first layer the residual curves rise a little. "
    "The plain ones rise steeply, over many powers of ten with 110 layers.",
)
deep = ratios["110 layers, untrained"]
for kind, ratio in deep.items():
    report.value(f"110 layers, {kind}: first over last layer", f"{ratio:.2g}")
report.holds("the plain gradient grows on its way back", deep["plain"] > 100 * deep["residual"])

# %% [markdown]
# It does not vanish. With batch norm it *explodes*. A norm divides what it gets by its spread, and
# on the way back it divides the gradient by the same number. Behind a ReLU a good part of each
# channel is alike for all images; what is alike adds to the size of the values, and nothing to
# their spread. So the spread is small beside the values, and dividing by it makes the gradient a
# little larger in every layer. (Without batch norm the same plain networks lose
# their gradient instead. To see it, put `torch.nn.Identity()` in the place of each batch norm.)
# Either way the first layers and the last ones do not learn at one and the same learning rate.
#
# **Does it stay so?** Claim: the shortcut keeps the gradient alive. We train networks of 44 layers
# for an epoch of 2,500 images, three seeds, and measure again.


# %%
from course_lib.teaching.experiments import ch05 as grids


def learn(network, images, labels, steps, seed=0):
    """Train by SGD in batches of 64, with the settings of the stored runs."""
    batches = train.Batches(images, labels, batch_size=64, seed=seed)
    config = grids.fit_config(seed, steps, precision="auto")
    train.fit(network, batches, recipes.classification_loss, config)
    return network.cpu()


# %%
before, after = "44 layers, untrained", "after an epoch"
panels = {moment: {kind: [] for kind in figures.KINDS} for moment in (before, after)}
for kind in figures.KINDS:
    for seed in range(3):
        network = make(44, kind, seed)
        panels[before][kind].append(gradient_sizes(network, few[:128], few_labels[:128]))
        learn(network, few, few_labels, steps=40, seed=seed)
        panels[after][kind].append(gradient_sizes(network, few[:128], few_labels[:128]))

# %%
panels = {m: {kind: torch.stack(v) for kind, v in kinds.items()} for m, kinds in panels.items()}
ratios = figures.gradients(
    panels,
    caption="Left before, right after an epoch. Which layers of the plain network get next to "
    "nothing on the right? All layers of the residual one get about as much.",
    alt="Left, the plain gradient is largest in the first layers. Right, it is far smaller in the "
    "first layers than in the last, while the residual gradient is nearly level.",
)

# %%
powers = {  # of ten: how far the layer with the least gradient lies below the one in the middle
    kind: sizes.min(dim=1).values.log10() - sizes.median(dim=1).values.log10()
    for kind, sizes in panels[after].items()
}
gain = powers["residual"] - powers["plain"]  # (seeds,)
alive = powers["residual"].mean() > -1 and gain.mean() > 0.5
report.verdict(
    "5.3",
    "The shortcut keeps the gradient alive",
    outcome="true" if alive else "false",
    evidence="after an epoch the layer with the least gradient gets 10 to the power of "
    f"{powers['plain'].mean():.1f} of what the one in the middle gets in the plain network, "
    f"{powers['residual'].mean():.1f} in the residual one",
    effect=gain.mean().item(),
    standard_error=(gain.std() / len(gain) ** 0.5).item(),
)

# %% [markdown]
# True, with a footnote: at the start the plain network's trouble is too much gradient in its first
# layers, not too little. A step that suits the last layers throws the first ones about; after that
# they send noise to the layers behind, and the gradient through such layers dies.
#
# ## Play: how deep?
#
# **Move the depth**, and look at all that was measured for the figure at the top: the training
# loss, and what the networks know of the images they trained on and of others. From which depth on
# do the two kinds part? (These networks are narrow and had few steps. Wide ones with batch norm
# that train for longer part later, at some forty layers.)

# %%
import ipywidgets

layer_numbers = figures.depths_of(depth.values("loss"))
by_depth = {
    "training images": depth.values("train_accuracy"),
    "other images": depth.values("test_accuracy"),
}
depth_picker = widgets.explore(
    lambda layers: figures.depth_figure(depth.values("loss"), by_depth, layers),
    alt="Training loss of a plain and a residual network, beside what both know by depth.",
    caption="Colours mean the same in all panels. Where the left panel's curves lie on each other, "
    "depth does no harm yet. The bars are standard errors over the seeds.",
    layers=ipywidgets.Dropdown(options=layer_numbers, value=44, description="layers"),
)

# %%
print("Percent of the training images that are right, residual minus plain:")
for layers in layer_numbers:
    plain, residual = (by_depth["training images"][f"{layers} {k}"] for k in figures.KINDS)
    gap, noise = (residual - plain).mean(), (residual - plain).std() / len(plain) ** 0.5
    report.value(f"{layers} layers", f"{gap:+.1f} ± {noise:.1f}", unit="points")
report.holds("at the largest depth the shortcut wins", bool(gap > 1))

# %% [markdown]
# ## Four ways to change an image
#
# A network that sees every training image thirty times begins to know it. So no image should come
# twice as it was. (This is called augmentation.) Each of these works on whole batches, as one
# tensor operation with a draw of its own for each image:
#
# - **flip**: swap left and right. A shirt stays a shirt; a 7 would not stay a 7.
# - **crop**: put a black frame around, and cut out a window of the old size: a shift.
# - **cut-out**: blacken a square, so that no single part of the image decides.
# - **mix-up**: blend two images, and their labels by the same share.
#
# Which of the first three could turn one class into another?

# %%
from course_lib import augment
from course_lib.teaching.figures import ch02

clothes = data.load("fashion_mnist")
sample = recipes.scale_pixels(clothes.x_train[:8])  # (8, 1, 28, 28)
drawn = ch02.grid(
    {
        "as it is": sample,
        "flip": augment.random_flip(sample, generator),
        "crop": augment.random_crop(sample, generator, padding=4),
        "cut-out": augment.cut_out(sample, generator, size=10),
    },
    caption="Below each image what a step of training may see instead of it.",
    alt="Eight pictures of clothes; in the rows below some are mirrored, all are shifted, and each "
    "has a black square somewhere.",
)
assert drawn["crop"] == [8, 1, 28, 28]

# %% [markdown]
# The flip turns no clothes into others. But a crop may cut off a sleeve, and a cut-out may cover
# it: then a pullover looks like a T-shirt, and is still called a pullover. So shifts and squares
# are kept small.
#
# > **mix-up**: train on $\lambda\,x_1 + (1 - \lambda)\,x_2$ with the labels in the same shares.
#
# The label is then a row of shares, one for each class, and cross entropy takes it as it takes a
# single class: minus the logarithm of each probability, weighted by its share. What is the lowest
# loss that is possible on an image that is half a bag and half a sandal?

# %%
draws = runtime.generator_for(5, 1)
# With alpha 1 every share from 0 to 1 is as likely as any other; below 1 most are near 0 or 1.
mixed, shares = augment.mix_up(sample, clothes.y_train[:8], draws, classes=10, alpha=1.0)
short = [name.split("/")[0] for name in clothes.classes]
names = [
    "\n".join(f"{s:.1f} {short[k]}" for k, s in enumerate(row.tolist()) if s > 0.05)
    for row in shares
]
plot.images(
    mixed,
    titles=names,
    caption="Above each image how much of which class is in it.",
    alt="Eight pictures, most of them two pieces of clothing that shine through each other.",
)
report.holds("each row of shares sums to 1", bool((shares.sum(dim=1) - 1).abs().max() < 1e-6))
half = torch.tensor([[0.5, 0.5]])
lowest = F.cross_entropy(half.log(), half)
report.equal("half and half: at least the logarithm of 2", lowest, torch.tensor(2.0).log())

# %% [markdown]
# So a loss that stays high under mix-up is no sign of failure. Look at the accuracy on images as
# they are.
#
# ## Train it
#
# The chapter's own network is a short one: on 28 pixels and in a minute, width and many steps are
# worth more than depth. Shapes and parameters first. What do its first layers do to the size of the
# image, and why there?

# %%
recipe = recipes.resnet()
network = recipe.model
shown = [("stem", network.stem)]
for stage_number, stage in enumerate(network.stages, start=1):
    shown += [(f"stage {stage_number}, block {k + 1}", block) for k, block in enumerate(stage)]
x = recipes.scale_pixels(clothes.x_test[:2])
print(f"{'images':<20}{tuple(x.shape[1:])}")
with torch.no_grad():
    for name, layer in shown:
        x = layer.eval()(x)
        print(f"{name:<20}{str(tuple(x.shape[1:])):<14}{classics.parameters(layer):>8,} parameters")
x = x.mean(dim=(2, 3))
print(f"{'mean over places':<20}{tuple(x.shape[1:])}")
print(f"{'classify':<20}{tuple(network.classify(x).shape[1:])}")
print(f"parameters: {classics.parameters(network):,}")
print(f"multiply-adds: {classics.multiply_adds(network, (1, 28, 28)):,}")

# %% [markdown]
# The stem halves its sides at once, for the first maps have the most places, and each place costs:
# every layer behind it has a quarter of the work that it would have had. The second and the third
# stage halve the sides again, and double the channels.
#
# **How fast?** Two settings cost nothing but a word. bfloat16 stores a number in half the bits, and
# so multiplies with fewer digits; *channels last* stores an image pixel by pixel, all channels of
# a pixel side by side, as fast convolutions want it. Which of the two gains more here, and do the
# gains multiply?

# %%
import copy
from dataclasses import replace


def images_per_second(precision, channels_last, steps=6):
    """Of a copy of the network in training, after two steps to warm up."""
    settings = {"precision": precision, "channels_last": channels_last}
    model = copy.deepcopy(recipe.model)
    for count in (2, steps):
        config = replace(recipe.config, steps=count, **settings)
        done = train.fit(model, recipe.batches, recipe.loss, config)
    return len(done.loss) * recipe.batches.batch_size / done.seconds


speeds = {}
for precision in ("float32", "bfloat16"):
    for last in (False, True):
        name = f"{precision}, channels {'last' if last else 'first'}"
        speeds[name] = images_per_second(precision, last)

# %%
plot.bars(
    {name: speed / 1000 for name, speed in speeds.items()},
    "training images per second, in thousands",
    caption="The same network and the same steps. On a processor without bfloat16 in hardware the "
    "lower two bars are the shorter ones.",
    alt="Four bars: training images per second for two precisions and two memory formats.",
)
slowest = speeds["float32, channels first"]
for name, speed in speeds.items():
    report.value(name, f"{speed / slowest:.2f}", unit="times the first one's speed")

# %% [markdown]
# Compare the last number with the product of the two before it. As large: the gains multiply, what
# one setting saves does not depend on the other. Smaller: there was less left for the second to
# save, since work that neither of them touches takes its time as before. Which of the two gains
# more is up to the hardware.
#
# Now the run, with the faster of them where the hardware has it. The loss is measured on images
# that are changed at random; so it stays higher than it would on the images as they are.

# %%
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} images")
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="The loss by step; dotted, the beginning of an epoch. Where does it fall fast, and why "
    "not from the first step on?",
    alt="The loss stays high while the learning rate below it is small, falls steeply as it rises, "
    "then slowly to the end.",
    epoch=len(recipe.batches),
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)

# %%
seen = len(history.loss) * recipe.batches.batch_size
report.value("Trained on", f"{seen / history.seconds:,.0f}", unit="images/s")
accuracy = 100 * recipe.test(network)["accuracy"]
report.result("Accuracy on 10,000 new pictures", accuracy, "%", target=92.5, gate=92.0)
report.seconds("Training", history.seconds, target=60)

# %% [markdown]
# At first the learning rate is small, and with it each step: the loss waits until the rate has
# risen. Then it falls fast, and from there on slowly.
#
# **What longer training gives.** The recipe `resnet_long` takes more than twice the steps. It lasts
# minutes, so it was run once for each seed, and is only shown here. Both begin alike, with a
# learning rate that rises and falls; one takes its time. Which of them will have the lower loss
# half-way?

# %%
longer = experiments.stored("resnet_long")  # `python -m course_lib claims resnet_long`
figures.runs(
    {
        "this run": torch.tensor([long_runs.loss_by_part(history.loss)]),
        "resnet_long": longer.values("loss")["resnet_long"],
    },
    caption="The training loss of both, in twentieths of each run: half-way is at another step.",
    alt="Two falling loss curves: this run's and, lower at the end, that of the longer recipe.",
)
best = 100 * longer.values("accuracy")["resnet_long"].mean().item()
report.result("resnet_long, 10,000 new pictures", best, "%", target=93.3, gate=92.0)
pace = history.seconds / len(history.loss)
report.seconds(
    "Its training, at the pace above", recipes.resnet_long().config.steps * pace, target=150
)

# %% [markdown]
# The longer run lies lower half-way, too: its half holds more than twice the steps. But most of the
# fall is behind both by then, and what is gained after that is gained slowly.
#
# **Colour, and another size.** Nothing in the network says 28 pixels: the mean over all places
# takes any number of them. For CIFAR-10, photos of 32x32 in colour, change one line:
#
# ```
# source = data.load("cifar10", download=True)
# ```
#
# It is the only data set that the course's own code fetches from the network, and only when asked
# to. What of the network depends on the data? Two numbers:


# %%
source = data.load("fashion_mnist")


def network_for(source, **options):
    channels = source.x_train.shape[1]  # 1 if grey, 3 in colour
    return resnet.SmallResNet(in_channels=channels, classes=len(source.classes), **options)


print("logits", tuple(network_for(source)(sample).shape))
noise = torch.randint(256, (8, 3, 32, 32), generator=generator, dtype=torch.uint8)
photos = data.Images(noise, torch.arange(8), noise, torch.arange(8), tuple("abcdefgh"))
logits = network_for(photos)(recipes.scale_pixels(photos.x_train))  # as if they were photos
print("logits", tuple(logits.shape))
assert logits.shape == (8, 8)

# %% [markdown]
# ## Look inside
#
# **What does one block do?** Take a block out of a trained network, so that its input goes straight
# to the next one. To a chain of layers that is the end: each expects what the one before made. Two
# networks of 20 layers learn the same steps, one plain, one residual. Then we take out one block at
# a time, of those that keep the shape. How much will each of the two still know?

# %%
(many, many_labels), _ = recipes.few_clothes(draw=1, count=20_000)
pair = {kind: learn(make(20, kind, 0), many, many_labels, steps=250) for kind in figures.KINDS}
seen = recipes.scale_pixels(clothes.x_test[:1000]), clothes.y_test[:1000]
# In each stage but the first, the first block changes the shape and cannot be taken out.
removable = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]


def answers(kind, block=None):
    """Which of the 1,000 test images are right (1000,), without block number `block`, from 1 on."""
    network = copy.deepcopy(pair[kind])
    if block is not None:
        stage, place = removable[block - 1]
        network.stages[stage][place] = torch.nn.Identity()
    return train.predict(network, seen[0]).argmax(dim=1) == seen[1]


right = {
    kind: [answers(kind, block) for block in (None, *range(1, 1 + len(removable)))] for kind in pair
}
scores = {kind: [100 * r.double().mean().item() for r in found] for kind, found in right.items()}

# %%
left_out = {kind: sum(values[1:]) / len(removable) for kind, values in scores.items()}
for kind, values in scores.items():
    report.value(f"{kind}, whole", f"{values[0]:.0f}", unit="% right")
    report.value(f"{kind}, without a block, on average", f"{left_out[kind]:.0f}", unit="% right")
lost = {kind: scores[kind][0] - left_out[kind] for kind in scores}
report.holds("a block is missed more in a chain", lost["plain"] > lost["residual"], trained=True)

# %% [markdown]
# A residual network is not one chain. With the sums multiplied out it is many chains at once, short
# and long, over every choice of blocks, and without a block the chains that avoid it remain. They
# share their weights, and yet behave a little like the members of an ensemble (chapter 03).
#
# **Take one out yourself**, and see for which clothes it was needed. Do the blocks divide the work
# by class?


# %%
def by_class(found):
    return [100 * found[seen[1] == number].double().mean().item() for number in range(10)]


lesion = widgets.explore(
    lambda block: figures.lesion_figure(
        scores,
        block,
        (by_class(right["residual"][0]), by_class(right["residual"][block])),
        clothes.classes,
    ),
    alt="Percent of test images that are right without each block, and by class without one.",
    caption="Left: both networks without one block. Right: for which clothes the residual network "
    "misses the chosen block.",
    block=widgets.slider("block left out", 1, len(removable), 4, 1),
)

# %%
worst = min(range(1, 1 + len(removable)), key=lambda block: scores["residual"][block])
report.value("the residual network misses most block", worst)
whole, without = (by_class(right["residual"][block]) for block in (0, worst))
drop = [before - after for before, after in zip(whole, without, strict=True)]
report.value("and without it most", clothes.classes[drop.index(max(drop))])
report.holds("put back, everything is as before", right["plain"][0].equal(answers("plain")))

# %% [markdown]
# The work is not divided by class. Without a block some classes lose much, others nothing, and some
# even gain; without another block, they are other classes. What is missing shifts the sum for all.
#
# **Where it fails.** Back to the network you trained: the surest of its wrong answers. Which would
# you have got right?

# %%
probabilities = train.predict(network, recipes.scale_pixels(clothes.x_test)).softmax(dim=1)
sure, answer = probabilities.max(dim=1)
wrong = (answer != clothes.y_test).nonzero().squeeze(1)
worst = wrong[sure[wrong].argsort(descending=True)][:8]
shown = plot.images(
    clothes.x_test[worst],
    titles=[f"{short[answer[i]]}?\n{short[clothes.y_test[i]]}" for i in worst],
    caption="Above, what the network says; below it, the label.",
    alt="Eight pictures of clothes with the network's wrong answer and the label above each.",
)
report.value("Wrong answers among 10,000", len(wrong))
shirts = [clothes.classes.index(name) for name in ("T-shirt/top", "Pullover", "Coat", "Shirt")]
upper = torch.isin(clothes.y_test[wrong], torch.tensor(shirts)).double().mean().item()
report.value("of them T-shirts, pullovers, coats or shirts", f"{100 * upper:.0f}", unit="%")
report.holds("these four are more than their share", upper > 0.4, trained=True)

# %% [markdown]
# ## Claims
#
# Two are settled above: 5.3 and 5.8. The [lab](labs/05_resnet.ipynb) puts the others to the test:
# can a further block hurt, do early blocks learn first, does the learning rate grow with the batch?
# All verdicts of the course are collected in [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 5.1.** What a block costs: five numbers. Biases and batch norms are not counted, nor,
# in the first of them, the convolutions of shortcuts.

# %%
from course_lib.teaching.exercises import ch05

my_counts = {
    "layers with weights in a stem, 3 stages of 9 basic blocks, and a linear layer": ...,
    "weights in the two 3x3 convolutions of BasicBlock(64, 128, stride=2)": ...,
    "weights in its 1x1 convolution, the shortcut": ...,
    "weights in the shortcut of BasicBlock(128, 128)": ...,
    "rows of what BasicBlock(64, 128, stride=2) makes of 28 rows": ...,
}
ch05.counts.check(my_counts)

# %% [markdown]
# **Exercise 5.2.** A residual block without norms: `x` (N, C, H, W) and the weights `first` and
# `second` (C, C, 3, 3) of its two convolutions, with padding 1 and without a bias. There is a ReLU
# between them, and one behind the sum.


# %%
def residual_block(x, first, second):
    return ...  # your code here


ch05.residual_block.check(residual_block)

# %% [markdown]
# **Exercise 5.3.** The shortcut by padding: from `x` (N, C, H, W) take the first and then every
# `stride`-th pixel of each row and column, and add channels of zeros behind until there are
# `channels`.


# %%
def pad_shortcut(x, channels, stride):
    return ...  # your code here


ch05.pad_shortcut.check(pad_shortcut)

# %% [markdown]
# **Exercise 5.4.** Mix-up by hand. `images` (N, C, H, W) and `labels` (N,) of `classes` classes;
# `other` (N,) says which image of the batch each is blended with, and `share` (N,) how much of
# itself it keeps. Return the blended images, and their labels as shares (N, `classes`).


# %%
def mix(images, labels, other, share, classes):
    return ...  # your code here


ch05.mix.check(mix)

# %% [markdown]
# ### Quiz

# %%
for question in ch05.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - Deep plain networks fail on their **training** images: they could copy, and do not find out how.
#   Batch norm puts that off to greater depths, and does not mend it.
# - **y = x + F(x)**: the layers learn what to add. With the last gamma at 0 a block begins as the
#   identity.
# - On the way back each block's factor is **1 + F'**: the first layers get a gradient like the
#   last ones'.
# - Where the shape stays, a shortcut is **free**; where it changes, choose projection or padding.
# - A residual network behaves like many shorter ones: without a block it still knows most things.
#
# **Papers.** K. He, X. Zhang, S. Ren, J. Sun: *Deep residual learning for image recognition*, 2016,
# and *Identity mappings in deep residual networks*, 2016. P. Goyal and others: *Accurate, large
# minibatch SGD*, 2017 (zero initialisation). A. Veit, M. Wilber, S. Belongie: *Residual networks
# behave like ensembles of relatively shallow networks*, 2016 (lesions). G. Yang and others: *A mean
# field theory of batch normalization*, 2019 (why plain gradients explode). T. DeVries, G. Taylor:
# *Improved regularization of convolutional neural networks with cutout*, 2017. H. Zhang, M. Cisse,
# Y. Dauphin, D. Lopez-Paz: *mixup: beyond empirical risk minimization*, 2018.
#
# **Longer, larger, elsewhere.** The same training from the command line, and longer; then ResNet-50
# as in the paper, 224 pixels, on pictures of your own, on a GPU if there is one; the same on four
# at once:
#
# ```
# python -m course_lib train resnet
# python -m course_lib train resnet_long
# python -m course_lib train resnet --size base --data FOLDER --checkpoint resnet.run --resume
# torchrun --nproc-per-node 4 -m course_lib train resnet --size base --data FOLDER
# ```
#
# The folder holds a folder of pictures for each class, such as `pets/cat/1.jpg`. For a ResNet-18
# on 128 pixels say `--size small`. [Beyond the notebook](../docs/beyond_the_notebook.md) tells
# more.

# %%
clock.stop()
