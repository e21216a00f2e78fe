# %% [markdown]
# # 03 · How do you stop a network from memorising?
#
# Eight pictures of clothes. Their labels were drawn by lot: whatever a picture shows, any of the
# ten classes may stand above it. There is no rule to be found. What will a network do that is asked
# to learn 1,500 such pictures: give up at one in ten, or something else?

# %%
import torch
import torch.nn.functional as F

from course_lib import data, dropout, recipes, runtime, train
from course_lib.teaching import experiments, plot, report, widgets
from course_lib.teaching.experiments import ch03 as grids
from course_lib.teaching.figures import ch02
from course_lib.teaching.figures import ch03 as figures

clock = report.Clock(budget=50)
clothes = data.load("fashion_mnist")
test_images, test_labels = recipes.scale_pixels(clothes.x_test), clothes.y_test
(images, labels), (held_images, held_labels) = recipes.few_clothes(draw=0, count=1500)
by_lot = dropout.corrupt_labels(labels, 1.0, 10, runtime.generator_for(3))
shown = plot.images(
    images[:8],
    titles=[clothes.classes[label] for label in by_lot[:8].tolist()],
    caption="Pictures with labels by lot. A label may be right, by accident.",
    alt="Eight grey pictures of clothes, most with a label that does not suit them.",
)
assert shown["shape"] == [8, 1, 28, 28]


# %%
def percent_right(network, images, labels):
    return 100 * train.accuracy(train.predict(network, images), labels)


recipe = recipes.dropout(p=0.0, learning_rate=2e-3)  # p = 0: nothing done against memorising
recipe.batches.tensors = (images, by_lot)
recipe.fit()
learned = percent_right(recipe.model, images, by_lot)
report.result("Labels by lot that it knows by heart", learned, "%", target=95, gate=95)
new = percent_right(recipe.model, test_images, test_labels)
report.value("New pictures it names rightly", f"{new:.0f}", unit="%")

# %% [markdown]
# It has learned a table of 1,500 lines by heart. Of new pictures it knows nothing: there was
# nothing to know. It has room for such a table: more than a hundred weights for each picture. So
# what does it do when the labels are right: find a rule, or write down another table?
#
# > **overfitting**: a network gets better on the items it is trained on, and no better, or worse,
# > on new ones. The difference between the two accuracies is the *gap*.
#
# > **validation set**: labelled items that are not trained on, and on which choices are made: when
# > to stop, how strong a penalty. The test set stays out of that; else its result would flatter.
#
# Now with the right labels. We look every hundred steps, at the 1,500 pictures it learns from and
# at 2,000 others. When will the first curve reach the top, and what will the second do from there
# on?

# %%
recipe = recipes.dropout(p=0.0)
history = grids.fit_and_look(recipe, draw=0)
plain = recipe.model
steps = [look["step"] for look in history.validation]
known, held_out = (
    [100 * look[name] for look in history.validation] for name in ("train", "held_out")
)
drawn = figures.learning(
    steps,
    {"nothing done": (known, held_out)},
    caption="The curves part early. The dashed one goes on to the top, when the other has long "
    "stopped rising.",
    alt="Two curves: accuracy on training pictures climbs to the top, accuracy on held-out "
    "pictures levels off far below.",
)
report.holds("it knows its own pictures by heart", known[-1] > 98, trained=True)
report.holds("and others far less well", known[-1] - held_out[-1] > 10, trained=True)

# %% [markdown]
# Here it found a rule that serves for most new pictures, and learned the exceptions among its own
# by heart. This chapter is about what narrows the gap.
#
# > **regularisation**: whatever makes a network better on new items, possibly at the price of a
# > poorer fit to those it is trained on.
#
# **When you are through you can** tell when a network memorises, write dropout, penalties and
# weight decay yourself, say why Adam needs the one and not the other, choose between them and early
# stopping and ensembles, and ask a network how sure it is. It takes about two hours to read and
# try; the code runs within about a minute. You need chapter 02.

# %% [markdown]
# ## Build it: keep the weights small
#
# To tell one picture from its neighbour at all costs, a network needs large weights: a small
# difference in pixels must become a large one in logits. So make large weights cost something.
#
# > **L2 penalty**: half the sum of the squares of all weights, times a strength, added to the loss.
#
# > **L1 penalty**: the same with the sum of the absolute values.
#
# Half the square has the slope w: a weight is pulled to 0 in proportion to its size. The absolute
# value has the slope 1 or -1: all are pulled with the same force. Leave eight weights to nothing
# but these pulls. Which of them ever arrive at 0?

# %%
start = torch.tensor([-1.0, -0.6, -0.3, -0.1, 0.15, 0.4, 0.7, 1.0])
paths = {"L2: in proportion": [start], "L1: the same for all": [start]}
for _ in range(60):
    weights = paths["L2: in proportion"][-1]
    paths["L2: in proportion"].append(weights - 0.03 * weights)
    weights = paths["L1: the same for all"][-1]
    pull = (0.03 * weights.sign()).clamp(-weights.abs(), weights.abs())  # never beyond 0
    paths["L1: the same for all"].append(weights - pull)
drawn = figures.pulls(
    {name: torch.stack(path) for name, path in paths.items()},
    caption="L2 shrinks all and finishes none. L1 brings one after the other to exactly 0.",
    alt="Left: eight curves bend towards zero and do not reach it. Right: eight straight lines "
    "that reach zero, the small ones first, and stay there.",
)
assert min(abs(w) for w in drawn["L2: in proportion"]) > 0
assert drawn["L1: the same for all"] == [0.0] * 8

# %% [markdown]
# Subtracting a share of the weight is so simple that it needs no penalty in the loss.
#
# > **weight decay**: every step also makes each weight smaller by a share of itself: the learning
# > rate times the decay. It is called decoupled, as it passes by the gradient.
#
# Are L2 and weight decay the same, then? With plain SGD: write down one step of each. With Adam,
# which divides every gradient by its own size: what happens to the penalty's part of it?

# %%
from course_lib import tensor_ops


def after_three_steps(make, l2=0.0, decay=0.0):
    weight = torch.linspace(-1, 1, 6, dtype=torch.float64).view(3, 2).requires_grad_()
    x = torch.linspace(0, 3, 12, dtype=torch.float64).sin().view(4, 3)
    optimizer = make([weight])
    for _ in range(3):
        optimizer.zero_grad()
        loss = (x @ weight).cos().mean() + l2 * dropout.l2_penalty([weight])
        loss.backward()
        dropout.decay_([weight], learning_rate=0.1, weight_decay=decay)
        optimizer.step()
    return weight.detach()


# %%
sgd, adam = (lambda w: tensor_ops.SGD(w, 0.1)), (lambda w: tensor_ops.Adam(w, 0.1))
report.equal("SGD: L2 and decay", after_three_steps(sgd, l2=0.3), after_three_steps(sgd, decay=0.3))
for name, ours in {
    "SGD": after_three_steps(sgd, l2=0.3),
    "Adam": after_three_steps(adam, l2=0.3),
    "AdamW": after_three_steps(adam, decay=0.3),
}.items():
    theirs = after_three_steps(
        lambda w, n=name: getattr(torch.optim, n)(w, lr=0.1, weight_decay=0.3)
    )
    report.equal(f"ours and torch.optim.{name}(weight_decay=0.3)", ours, theirs)
apart = (after_three_steps(adam, l2=0.3) - after_three_steps(adam, decay=0.3)).abs().max()
report.holds("for Adam the two are not the same", apart.item() > 0.01)

# %% [markdown]
# So `weight_decay` means L2 in `torch.optim.Adam` and decoupled decay in `AdamW`. Adam divides the
# penalty with the rest, so that a weight with large gradients hardly feels it. This course uses
# AdamW.
#
# ## Build it: dropout
#
# Another thought. What is learned by heart needs all its parts. If a unit, one of the numbers that
# a layer hands on, may be missing at any time, no other can rely on it, and the network must find
# several reasons for each answer.
#
# > **dropout**: in every training step, set each value that flows through a layer to 0 with
# > probability p, anew for each item of the batch.
#
# What the next layer gets is then a share of 1 - p of what it would get, on average. In evaluation,
# with nothing dropped, it would get more than it was trained for. So what stays is made larger:
# divided by what?

# %%
x = torch.tensor([[4.0, 1.0, 3.0, 2.0, 5.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
p, generator = 0.4, runtime.generator_for(10)
kept = torch.rand(x.shape, generator=generator) >= p  # True: stays
by_hand = x * kept / (1 - p)
shown = ch02.tables(
    {"values": x, "kept": kept, "after dropout": by_hand},
    caption="p = 0.4. A value of 2 becomes 0 or 3.33: on average, 2.",
    alt="Three tables of two rows and five columns: values, a mask of zeros and ones, and the "
    "values after dropout, zero where the mask is zero and larger elsewhere.",
)
report.equal("as in the library", dropout.dropout(x, p, kept=kept), by_hand)
many = dropout.dropout(torch.full((100_000,), 2.0), p, generator=generator)
report.value("Mean of 100,000 values of 2 after dropout", f"{many.mean():.3f}")
report.holds("it is 2 to within 0.05", abs(many.mean().item() - 2) < 0.05)

# %% [markdown]
# The division while training is called *inverted* dropout: in evaluation nothing is left to do.
#
# What is it that dropout removes? Some say: weights.

# %%
runtime.seed_everything(0)
layer = torch.nn.Linear(5, 3)
before = layer.weight.detach().clone()
dropped = dropout.Dropout(0.5)(torch.rand(200, 5))
layer(dropped).sum().backward()
zeros, rows = (dropped == 0).float().mean().item(), dropped.eq(0).unique(dim=0)
untouched = layer.weight.equal(before)
no_gradient = (layer.weight.grad == 0).any().item()
report.verdict(
    "3.1",
    "Dropout removes weights",
    outcome="false" if untouched and zeros > 0 and not no_gradient else "true",
    evidence=f"{100 * zeros:.0f} % of the values that flow through are 0, in {len(rows)} different "
    f"patterns within one batch; of the layer's {before.numel()} weights none is changed, and all "
    "get a gradient",
)

# %% [markdown]
# It removes *values*, other ones for every item. To one item it looks as if the unit with all its
# weights were gone, hence the picture of a *thinned network*; the weights stay, and the next item
# may use them again.
#
# **In pictures**, neighbours say nearly the same. Below, the first feature maps of a boot: as they
# are, and with half of their pixels gone. Can you still tell what they show? Then so can the next
# convolution. `Dropout2d` drops whole maps instead.

# %%
boot = held_images[held_labels == 9][:1]
picture = (boot - dropout.PIXEL_MEAN) / dropout.PIXEL_STD  # as the network does
with torch.no_grad():
    maps = plain.cpu().features[:3](picture)  # (1, 16, 14, 14): behind the first ReLU
drawn = ch02.grid(
    {
        "as they are": maps[0, :8, None],
        "dropout": dropout.dropout(maps, 0.5, generator=runtime.generator_for(2))[0, :8, None],
        "dropout2d": dropout.dropout2d(maps, 0.5, generator=runtime.generator_for(1))[0, :8, None],
    },
    caption="Eight maps of one picture. In the middle row half of the pixels are gone, and hardly "
    "anything is hidden.",
    alt="Three rows of eight maps: clear outlines of a boot; the same with holes; and some maps "
    "whole while others are black.",
)
gone = dropout.dropout2d(torch.ones(4, 16, 3, 3), 0.5, generator=generator)
report.holds("a map is dropped as a whole", gone.amax((2, 3)).equal(gone.amin((2, 3))))

# %% [markdown]
# ## Build it: labels that are never quite sure
#
# > **label noise**: labels that are wrong, be it by mistake or by lot.
#
# Noise harms; yet a little of it, on purpose, keeps a network from being too sure of what it has
# learned by heart. Instead of drawing wrong labels we can take what the noise gives on average.
#
# > **label smoothing**: the right class gets a probability a little below 1, and all classes share
# > the rest.
#
# A loss falls to 0 when the answer becomes sure. Where does it end with a smoothed label?

# %%
generator = runtime.generator_for(0)
noisy = dropout.corrupt_labels(torch.full((50_000,), 2), 0.3, 3, generator)
smooth = dropout.smooth_labels(torch.tensor([2]), 0.3, 3)
print("a 2 among three classes, smoothed by 0.3:", [round(p, 2) for p in smooth[0].tolist()])
report.equal("drawn 50,000 times", torch.bincount(noisy) / 50_000, smooth[0], atol=0.01)
logits = torch.randn(1, 3, generator=generator)
ours = F.cross_entropy(logits, smooth)
report.equal("as in torch", ours, F.cross_entropy(logits, torch.tensor([2]), label_smoothing=0.3))
surer = torch.arange(13.0)  # how far the right logit is above the two others
losses = [F.cross_entropy(torch.tensor([[0.0, 0.0, lead]]), smooth).item() for lead in surer]
lead = min(range(13), key=losses.__getitem__)
print(f"the loss is least at a lead of {lead}, and greater again beyond")

# %% [markdown]
# ## Check it
#
# Ours draws as torch's does, so that with equal seeds the two must be equal, in values and in
# gradients. And if you cannot know what torch has drawn: the zeros in its output tell.


# %%
def value_and_gradient(function, x, *arguments):
    x = x.clone().requires_grad_()
    runtime.seed_everything(5)
    value = function(x, *arguments)
    value.sin().sum().backward()
    return torch.stack([value.detach(), x.grad])


x = torch.rand(6, 5, 4, 4, dtype=torch.float64) + 1
for name, sample in {"dropout": x, "dropout1d": x[..., 0], "dropout2d": x}.items():
    ours, theirs = getattr(dropout, name), getattr(F, name)
    for p in (0.3, 1.0):
        mine, torchs = (value_and_gradient(f, sample, p) for f in (ours, theirs))
        report.equal(f"{name}, p = {p}, training", mine, torchs)
    mine, torchs = (value_and_gradient(f, sample, 0.3, False) for f in (ours, theirs))
    report.equal(f"{name}, evaluation", mine, torchs)
torchs = F.dropout(x, 0.7)
report.equal("torch's mask, read off", dropout.dropout(x, 0.7, kept=torchs != 0), torchs)

# %% [markdown]
# A layer cannot know by itself whether you train or test: `model.train()` and `model.eval()` say
# so. A colleague saves the network with dropout, loads it, and gets another accuracy each time.
# Does saving lose something?

# %%
import io

runtime.seed_everything(0)
saved, file = dropout.ClothesNet(p=0.5, p_maps=0.2), io.BytesIO()
saved.load_state_dict(plain.state_dict())  # it has the same weights, and drops
torch.save(saved.state_dict(), file)
loaded = dropout.ClothesNet(p=0.5, p_maps=0.2)
loaded.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
weights_equal = all(
    a.equal(b) for a, b in zip(saved.parameters(), loaded.parameters(), strict=True)
)


# %%
def right(network):
    with torch.no_grad():
        return 100 * train.accuracy(network(test_images[:1000]), test_labels[:1000])


in_training = [right(loaded.train()) for _ in range(3)]
before, after = right(saved.eval()), right(loaded.eval())
blames_saving = not weights_equal or before != after
report.verdict(
    "3.8",
    "A saved model scores differently when loaded, because saving loses something",
    outcome="true" if blames_saving else "false",
    evidence=f"all weights are equal; in evaluation {before:.1f} % before and {after:.1f} % after; "
    f"without eval() {', '.join(f'{value:.1f}' for value in in_training)} %",
)

# %% [markdown]
# A fresh model is in training mode. Loading is no exception: after it, and before every test, call
# `eval()`. (`train.predict` of this course does so itself.)

# %% [markdown]
# ## Play: how much?
#
# On the left a small network, thinned: choose p, and move on to the next drawing, as the next item
# of a batch would. On the right what training with that p did to the network of this chapter (each
# curve was computed before and stored: `python -m course_lib claims dropout_rate`). Before you move
# the slider: with which p will the two curves meet? And which p is best for new pictures?

# %%
rates = experiments.stored("dropout_rate")
looks = [grids.LOOK_EVERY * (k + 1) for k in range(rates.values("train")["0"].shape[1])]


def draw_thinned(p, drawing):
    curves = (rates.values(name)[f"{p:g}"].mean(dim=0).tolist() for name in grids.LOOKS)
    return figures.thinned_figure(p, drawing, looks, *curves)


explorer = widgets.explore(
    draw_thinned,
    alt="A small network with some of its units missing, beside two curves of accuracy.",
    caption="Move p with the drawing fixed: what was gone stays gone. Look at where the dashed "
    "curve ends, and where the other one does.",
    p=widgets.slider("p", 0.0, 0.9, 0.5, 0.1),
    drawing=widgets.slider("drawing", 0, 20, 0, 1),
)

# %%
ends = {p: values[:, -1] for p, values in rates.values("held_out").items()}
gaps = {p: rates.values("train")[p][:, -1] - ends[p] for p in ends}
drawn = figures.lines(
    [float(p) for p in ends],
    {"held-out pictures": torch.stack(list(ends.values()), dim=1)},
    labels=("p", "accuracy at the end (%)"),
    caption="The mean of three networks, with two standard errors to each side. Is any p clearly "
    "better than none? From which p on does dropout harm?",
    alt="Accuracy on held-out pictures against p: nearly level, with wide bars, and a steep fall "
    "at the largest p.",
)
report.holds("dropout narrows the gap", (gaps["0.5"].mean() < gaps["0"].mean()).item())
report.holds("and too much of it harms", (ends["0.9"].mean() < ends["0.5"].mean()).item())
assert figures.thin(0.0, 0)[1].all() and not figures.thin(0.9, 0)[1].all()

# %% [markdown]
# ## Train it
#
# All ways side by side, on the same terms: 1,500 pictures, drawn anew for each of five seeds; the
# same network, the same steps, unless it stops early. Two more ways join in:
#
# > **early stopping**: look at the validation set every few steps, stop when it has not improved
# > for some time, and go back to the best weights.
#
# > **ensemble**: several networks that differ in their first weights and the order of their
# > batches; their probabilities are averaged.
#
# The last line is of another kind: pictures shifted by up to two pixels and mirrored are *more
# data*, of a sort, and more to learn in the same number of steps. Rank them before you look. Which
# is the best of all, and what does it cost?
#
# The strengths of what is combined were chosen on held-out pictures. That of L1 is a guess that
# nothing was compared with: its line shows one L1 penalty, not what L1 can do at its best.

# %%
study = experiments.stored("3.7")
columns = grids.compared(study)
test, own = columns["test"], columns["train"]
drawn = figures.study(
    {
        "right on the test pictures (%)": test,
        "gap to the training pictures": {k: own[k] - test[k] for k in test},
        "steps of training": columns["steps"],
    },
    caption="Dots: the mean of five seeds; bars: two standard errors to each side; dashed: nothing "
    "done. No strength was chosen on test pictures.",
    alt="Three columns of dots for eleven ways: accuracy on test pictures, gap to the training "
    "pictures, and steps of training.",
)

# %%
together = "3 networks, each with all three"  # what did best on held-out pictures
gains = {k: test[k] - test["nothing"] for k in test if k != "nothing"}  # on the same pictures
error = {k: figures.standard_error(gain).item() for k, gain in gains.items()}
for name, gain in gains.items():
    report.value(f"{name}, points gained", f"{gain.mean():+.2f} ± {error[name]:.2f}")
gained = gains[together].mean().item()
report.result("What all of it together gains", gained, "points", target=1.5, gate=1.2)

parts = ("weight decay", "label smoothing", "dropout", "3 networks")
best_part = max(parts, key=lambda name: gains[name].mean())
more = test[together] - test[best_part]
report.verdict(
    "3.7",
    "Early stopping, L1, L2, ensembles and dropout are alternatives",
    outcome="false" if more.mean() > 0 else "true",
    evidence=f"together they gain {gained:.1f} points, the best part alone ({best_part}) "
    f"{gains[best_part].mean():.1f}; early stopping {gains['early stopping'].mean():+.1f}, "
    f"L1 {gains['L1'].mean():+.1f}, dropout2d {gains['dropout2d'].mean():+.1f}",
    effect=more.mean().item(),
    standard_error=figures.standard_error(more).item(),
)

# %% [markdown]
# They are no substitutes for each other: each acts in another place, so what two of them gain can
# add up. Penalties act on the weights, dropout on what flows, smoothing on the labels, stopping on
# the time, an ensemble on the answers. And a narrow gap is not the aim: look for ways that narrow
# it and gain nothing. By itself dropout is one of them here. A thinned network learns more slowly,
# and these trainings are short: with the command at the end you can give it more steps.
#
# The network with dropout, decay and smoothing is trained again here and now: it was the first of
# the three, and we keep it. Does it come out as it did when the figures were stored?

# %%
recipe = recipes.dropout(**grids.ALL)
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} of {len(images)} pictures")
history = recipe.fit(callbacks=[plot.LiveCurve()])
thinned = recipe.model.cpu()
curve = plot.training_curve(
    history,
    caption="The loss while training. Why is it so restless, and why does it stay above 0?",
    alt="The loss over the steps falls and stays noisy; the learning rate is constant.",
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
accuracy = percent_right(thinned, test_images, test_labels)
alone = percent_right(plain, test_images, test_labels)
for name, setting, value in [("nothing done", "3 networks", alone), ("now", together, accuracy)]:
    before = study.run(setting, seed=0)["test_each"]
    report.value(f"{name}, right on the test pictures", f"{value:.1f}", f"(stored: {before:.1f})")
    report.holds("within two points of the stored ones", abs(value - before) < 2, trained=True)
size = thinned.hidden[1].weight.detach().square().mean().sqrt().item()
close = abs(size / study.run(together, seed=0)["size"] - 1) < 0.05
report.holds("its hidden weights are as large as stored, to within 5 %", close, trained=True)
report.seconds("Training", history.seconds, target=6)


# %% [markdown]
# ## Look inside
#
# **The weights.** How are the 200,704 weights of the hidden layer spread after training in these
# ways? Where do you expect many that are almost exactly 0, and where the largest ones?

# %%
spread = study.values("weights")
drawn = figures.histograms(
    {
        grids.ALONE.get(name, name): spread[name].mean(dim=0)
        for name in ("3 networks", "weight decay", "L1", "dropout")
    },
    grids.WEIGHT_LIMIT,
    caption="Note the log scale. L1 brings most weights into a spike at 0, weight decay draws "
    "the tails in a little, and dropout does not make weights small.",
    alt="Four histograms of weights around zero: broad for nothing and for dropout, a little "
    "narrower for weight decay, with a sharp spike at zero for L1.",
)
size = {name: values.mean().item() for name, values in study.values("size").items()}
report.holds("L1 has more than half of them in the middle bin", drawn["L1"] > 0.5)
report.holds("weight decay makes them smaller", size["weight decay"] < size["3 networks"])

# %% [markdown]
# **Doubt.** Dropout stays useful after training. Leave it on, ask the same network thirty times,
# and each time another thinned network answers.
#
# > **Monte Carlo dropout**: predict several times with dropout on; the mean is the answer, the
# > spread tells how far the thinned networks agree.
#
# > **entropy**: the mean of minus the logarithms of some probabilities, each weighted by itself. It
# > is 0 for a sure answer, and largest if all are equal: 2.3 nats for ten. (A *nat* is its unit.)
#
# As a measure of doubt we take the entropy of the mean. We ask about pictures of the kind it knows;
# about shoes that stand on their heel; and about digits, of which it has never seen one. Which of
# them should it doubt? Will the network without regularisation do so as well? And what is the
# doubt owed to: to the way the network was trained, or to asking it thirty times?

# %%
from course_lib import augment

shoes = test_images[(test_labels == 7) | (test_labels == 9)][:300]  # sneakers, ankle boots
odd = {
    "clothes": test_images[:300],
    "shoes, upright": augment.affine(shoes, degrees=90.0),
    "digits": recipes.scale_pixels(data.load("mnist").x_test[:300]),
}
runtime.seed_everything(0)
sampled = {name: dropout.monte_carlo(thinned, x, 30) for name, x in odd.items()}
doubts = {
    f"{title}, asked once": {
        name: dropout.entropy(train.predict(network, x).softmax(dim=1)) for name, x in odd.items()
    }
    for title, network in {"nothing done": plain, "all three": thinned}.items()
}
doubts["all three, asked 30 times"] = {
    name: dropout.entropy(p.mean(dim=0)) for name, p in sampled.items()
}

# %%
drawn = figures.doubts(
    doubts,
    caption="Left: with nothing done the network is sure of most digits. The others hesitate where "
    "they should (all three: dropout, decay, smoothing). Does asking thirty times change much?",
    alt="Three panels of lines that show how often each doubt occurs; on the left most clothes and "
    "digits pile up at zero. In the two others, nearly alike, digits and turned shoes are far to "
    "the right of the clothes.",
)
for network, of in doubts.items():
    higher = (of["digits"][:, None] > of["clothes"]).float().mean().item()
    report.value(
        f"{network}: a digit is doubted more than clothes", f"{100 * higher:.0f}", unit="%"
    )
medians = drawn["all three, asked 30 times"]
report.holds(
    "digits are doubted more than clothes", medians["digits"] > medians["clothes"], trained=True
)
plainly = drawn["nothing done, asked once"]["digits"]
report.holds("and more than with nothing done", medians["digits"] > plainly, trained=True)

# %% [markdown]
# Most of the doubt is there when the network is asked once: smoothed labels have taught it never to
# be quite sure. Asking thirty times adds what the thinned networks disagree about.
#
# ## Play: turn the shoe
#
# Each red dot is the answer of one thinned network, the bar their mean. Above them, the doubt of
# the mean, and how much of it is disagreement: what is left of it when the mean doubt of the single
# answers is taken off. At which angle does the network lose its way? And is it then unsure, or sure
# of something wrong?

# %%
boots = (test_labels == 9).nonzero().squeeze(1)


def turn(place, degrees):
    """Test boot number `place`, turned, and the answers of 40 thinned networks (40, 10)."""
    runtime.seed_everything(0)
    image = augment.affine(test_images[boots[place]][None], degrees=float(degrees))
    return image[0], dropout.monte_carlo(thinned, image, 40)[:, 0]


turner = widgets.explore(
    lambda **where: figures.doubt_figure(*turn(**where), clothes.classes),
    alt="A boot, turned by an angle, beside bars of ten probabilities with scattered dots.",
    caption="Which angles look to it like a bag, and which like a shirt? Where do the dots of one "
    "class lie far apart?",
    place=widgets.slider("boot number", 0, 49, 0, 1),
    degrees=widgets.slider("turn (degrees)", -180, 180, 40, 5),
)

# %%
upright, turned = (turn(0, degrees)[1] for degrees in (0, 90))
report.holds(
    "unturned, it is the picture itself", turn(0, 0)[0].allclose(test_images[boots[0]], atol=1e-4)
)
report.holds("equal seeds give equal answers", turn(0, 0)[1].equal(upright))
entropies = [dropout.entropy(a.mean(dim=0)).item() for a in (upright, turned)]
report.value(
    "Doubt, as it is and turned by 90 degrees", *(f"{e:.2f}" for e in entropies), unit="nats"
)

# %% [markdown]
# ## Claims
#
# Three are settled above, where they belong: 3.1, 3.8 and 3.7. The others are put to the test in
# the chapter's [lab](labs/03_dropout.ipynb); all verdicts of the course are collected in
# [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 3.1.** Five numbers in your head.

# %%
from course_lib.teaching.exercises import ch03

my_numbers = {
    "a value of 4 that Dropout(0.2) keeps, while training": ...,
    "the same value in evaluation": ...,
    "random decisions of Dropout(0.5) on (8, 16, 7, 7)": ...,
    "random decisions of Dropout2d(0.5) on (8, 16, 7, 7)": ...,
    "weights of Linear(100, 10) that Dropout(0.5) before it removes for good": ...,
}
ch03.numbers.check(my_numbers)

# %% [markdown]
# **Exercise 3.2.** Dropout with a mask that is given: `kept` is True where a value of `x` stays;
# `p` is the probability it was drawn with. Leave `x` itself as it is, and mind p = 1.


# %%
def drop(x, kept, p):
    return ...  # your code here


ch03.drop.check(drop)

# %% [markdown]
# **Exercise 3.3.** One step of plain SGD with an L1 penalty of strength `l1` and an L2 penalty of
# strength `l2` in the loss; `gradient` is that of the loss without them. Return the new weights.


# %%
def step(weight, gradient, learning_rate, l1, l2):
    return ...  # your code here


ch03.step.check(step)

# %% [markdown]
# **Exercise 3.4.** Early stopping. `losses` are those of the validation set after epochs 0, 1, 2, …
# Training stops after the epoch that is the `patience`-th in a row without a new best, or with the
# last one. Return two numbers: the epoch of the best loss until then, and the last epoch run.


# %%
def stop_early(losses, patience):
    return ...  # your code here


ch03.stop_early.check(stop_early)

# %% [markdown]
# ### Quiz

# %%
for question in ch03.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - A network can learn labels by lot **by heart**: accuracy on its own items proves nothing. Choose
#   on a validation set, and measure once on the test set.
# - **L2** pulls in proportion, **L1** down to 0. For SGD, L2 is weight decay; for Adam it is not,
#   hence **AdamW**.
# - **Dropout** zeroes values, not weights, in training only, and divides the rest by 1 - p. Behind
#   convolutions `Dropout2d` drops maps.
# - `train()` and `eval()` are up to you; forgetting `eval()` looks like a broken file.
# - The ways are **no alternatives**. Smoothed labels and several networks gained most here, the one
#   for nothing, the other dearly; a narrow gap alone gains nothing. Left on, dropout shows where
#   the thinned networks disagree.
#
# **Papers.** N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov: *Dropout: a
# simple way to prevent neural networks from overfitting*, 2014. C. Zhang, S. Bengio, M. Hardt,
# B. Recht, O. Vinyals: *Understanding deep learning requires rethinking generalization*, 2017.
# I. Loshchilov, F. Hutter: *Decoupled weight decay regularization*, 2019. J. Tompson and others:
# *Efficient object localization using convolutional networks*, 2015 (dropping whole maps). Y. Gal,
# Z. Ghahramani: *Dropout as a Bayesian approximation*, 2016. L. Prechelt: *Early stopping, but
# when?*, 1998.
#
# **Longer, larger, elsewhere.** The training above from the command line; on 58,000 pictures; on
# two processes; and the grids behind the stored figures, computed anew:
#
# ```
# python -m course_lib train dropout
# python -m course_lib train dropout --steps 4800
# python -m course_lib train dropout_full
# torchrun --nproc-per-node 2 -m course_lib train dropout_full
# python -m course_lib claims 3.7 dropout_rate --force
# ```

# %%
clock.stop()
