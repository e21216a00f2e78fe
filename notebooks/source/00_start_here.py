# %% [markdown]
# # 00 · What is it like to train a network?
#
# Below are sixteen handwritten digits. You read them without effort, and you could not say how.
# Nobody has ever written down rules that tell every handwritten 4 from every 9.
#
# In this notebook a network learns to read them in front of you, within seconds, on the machine
# you are sitting at. Then **you draw a digit, and it tries to read yours**.

# %%
from course_lib.teaching import exercises, glossary, plot, report, widgets

clock = report.Clock(budget=45)

# %%
from course_lib import data

mnist = data.load("mnist")
first = mnist.x_train[:16]
drawn = plot.images(
    first,
    titles=[str(label) for label in mnist.y_train[:16].tolist()],
    caption="Describe in words what makes a 4. Does your description exclude every 9?",
    alt="Two rows of eight handwritten digits, each with the digit it stands for above it.",
)
assert drawn["shape"] == [16, 1, 28, 28]

# %% [markdown]
# **When you are through you can** read the shape of a tensor, follow a batch of images through a
# network, train it, measure it honestly, and say what its confidence is worth. Reading takes about
# half an hour; the code needs less than a minute of that.
#
# **What you need**: Python as far as functions, lists and dictionaries; from school, percentages,
# the exponential function, and what a slope is. Each term is explained where it first appears, in a
# quoted line like this one:
#
# > **notebook**: a page of text and code in which the code can be run, cell by cell, and what it
# > gives stands below it.
#
# **How to use it.** First choose *Kernel › Restart Kernel and Clear Outputs of All Cells*: now the
# answers to come are hidden. Then run the cells from the top down, each with
# <kbd>Shift</kbd> + <kbd>Enter</kbd>. Sliders and drawings answer only after their cell has run.
# Lines with `assert` or `report.` are the notebook's own tests; you may skip them.

# %% [markdown]
# **When something goes wrong.** A `NameError` means that a cell above was not run: choose
# *Run › Run All Above Selected Cell*. When nothing happens, *Kernel › Interrupt Kernel*; when that
# does not help, *Kernel › Restart Kernel*, and begin at the top.
#
# Your answers are in the notebook: <kbd>Ctrl</kbd> + <kbd>S</kbd> saves them, and
# *File › Save Notebook As* keeps the original clean. To stop for today, press
# <kbd>Ctrl</kbd> + <kbd>C</kbd> in the terminal that runs JupyterLab; `make lab` opens it again.

# %% [markdown]
# ## The course in one picture
#
# Each chapter asks one question, and builds on those its arrows come from.

# %%
chapters = plot.course_map(
    caption="Begin at the top and follow the arrows: left to images, right to language. "
    "The names in the boxes are explained in their chapters; here, read the questions. Chapters "
    "with a dashed edge are not in this edition.",
    alt="A map of the chapters. Start here leads to tensor ops, and from there two ways part: "
    "CNN, dropout, batch norm, ResNet, U-Net, YOLO and SSD; and attention, seq2seq, BERT, GPT.",
)
assert len(chapters) == 13 and chapters["start_here"]

# %% [markdown]
# Every chapter goes the same way:
#
# 1. **A question**, and something that makes one want the answer.
# 2. **Build it by hand**, a few lines at a time. Before you run a cell, guess what it gives.
# 3. **Check it**: our code must equal the library's, number by number.
# 4. **Play** with sliders until it feels familiar.
# 5. **Train it** on real data, and measure it on data it has never seen.
# 6. **Look inside**: what did it learn, and where does it fail?
# 7. **Claims**: what people say about it, put to the test.
# 8. **Your turn**: exercises that answer back, and a quiz that gives its reasons.
# 9. **Take-away**, and where to go from there.
#
# No result in the text was typed by hand. What was measured stands in square brackets below a cell,
# like `[measured …]`, and once you have run the cell, it is your machine that measured it.

# %% [markdown]
# ## Is your machine ready?
#
# All the data are here already: nothing more will be downloaded, and a graphics card is not needed.
# This cell looks around. Only a line that begins with `FAIL` needs you, and it says what to do; the
# rest is for whoever helps you when something goes wrong.

# %%
from course_lib import doctor

checks = doctor.checks()
report.sample(doctor.table(checks))
missing = [check.name for check in checks if check.required and not check.ok]
report.holds("Everything that the notebooks need is in place.", not missing)

# %% [markdown]
# ## How to read a shape
#
# A digit is a grid of 28 rows and 28 columns of grey values. The computer keeps all the training
# digits together in one block of numbers.
#
# > **tensor**: a block of numbers with any number of axes. A single number has none, a list one, a
# > table two, a stack of images four.
#
# > **shape**: how long each axis of a tensor is, from the outermost to the innermost.
#
# Guess first: how many axes do all the training digits together have, and in which order?

# %%
print("shape of all the training digits:", tuple(mnist.x_train.shape))
print("shape of their labels:           ", tuple(mnist.y_train.shape))

# %% [markdown]
# Read it from left to right: 60,000 images; each has 1 channel (a colour photo would have 3: red,
# green, blue); each channel has 28 rows; each row has 28 columns. Throughout the course we call
# this order **N, C, H, W**: number, channels, height, width.
#
# > **label**: the right answer for an item of the data, here the digit from 0 to 9 that an image
# > shows.
#
# A whole number in square brackets picks one entry of an axis, beginning at the left, and the axis
# is gone. What shape will each line give?

# %%
print("one image:         ", tuple(mnist.x_train[0].shape))
print("its only channel:  ", tuple(mnist.x_train[0, 0].shape))
print("one row of that:   ", tuple(mnist.x_train[0, 0, 14].shape))
print("one number of that:", tuple(mnist.x_train[0, 0, 14, 14].shape), "- a shape without axes")

# %% [markdown]
# A range such as `12:17` keeps the axis. These are rows 12 to 16 and columns 10 to 17 of the first
# digit, the 5 at the top left: part of the stroke in its middle.

# %%
middle = mnist.x_train[0, 0, 12:17, 10:18]
print(middle)
assert middle.max() <= 255

# %% [markdown]
# There is nothing else to an image: numbers from 0 (black) to 255 (white), each kept in one byte,
# which the last line calls `uint8`. Before a network sees them they are divided by 255
# (`recipes.scale_pixels`), so that black is 0 and white is 1.
#
# Three operations on tensors will be used all the time. Guess each result before you run the cell:

# %%
import torch

table = torch.tensor([[1.0, 5.0, 2.0], [7.0, 0.0, 1.0]])
print("shape:                    ", tuple(table.shape))
print("sum along axis 1:         ", table.sum(dim=1).tolist())
print("where each row is largest:", table.argmax(dim=1).tolist())
print("which entries exceed 1:   ", (table > 1).tolist())
print("their share:              ", (table > 1).float().mean().item())

# %% [markdown]
# `dim=1` works along axis 1, and that axis disappears: (2, 3) becomes (2,). A comparison gives
# truth values; as floats they are ones and zeros, so their mean is the share that is true.

# %% [markdown]
# ## Build it: a network is a chain of layers
#
# > **layer**: one operation inside a network. A tensor goes in, a tensor comes out.
#
# Each layer does something plain: multiply and add, bring numbers to a common scale, keep what is
# positive, keep the largest of four neighbours. Later chapters build them by hand: 02 convolution
# and pooling, 04 batch norm. Here they come from a recipe of the course.

# %%
from course_lib import recipes

recipe = recipes.digits()
network = recipe.model
weights = sum(parameter.numel() for parameter in network.parameters())
print(f"numbers to be learned: {weights:,}")

# %% [markdown]
# > **parameter**: a number inside a network that training adjusts. At the start most are random.
#
# Let us follow one batch through it. Every layer is listed with the shape that leaves it. Notice
# how height and width shrink while the channels grow from 1 to 32. What those channels come to
# stand for, nobody tells the network: training decides. Chapter 02 looks at what they become.
#
# > **batch**: several items that go through the network together, because one large computation
# > is faster than many small ones.

# %%
from torch import nn

blocks = [[block] if isinstance(block, nn.MaxPool2d) else block for block in network.features]
layers = [layer for block in blocks for layer in block]
network.eval()  # only look: do not learn anything from this batch
x = recipes.scale_pixels(mnist.x_train[:64])
print(f"{'a batch of images':<20}{tuple(x.shape)}")
for layer in [*layers, nn.Flatten(), network.classify]:
    x = layer(x)
    print(f"{type(layer).__name__:<20}{tuple(x.shape)}")
logits = x

# %% [markdown]
# The last shape is (64, 10): for each of the 64 images, ten numbers, one for each digit.
#
# > **class**: one of the answers a network can choose from, here one of the ten digits.
#
# > **logit**: the raw score a network gives to a class. It may be any number; the class with the
# > largest logit is the network's answer.
#
# To read scores as probabilities, we need positive numbers that add up to one. The exponential
# function makes any number positive and keeps the order; dividing by the sum does the rest.
# (`keepdim=True` keeps the summed axis with length 1, so that each row is divided by its own sum.)

# %%
powers = logits.exp()
by_hand = powers / powers.sum(dim=1, keepdim=True)
print("ten probabilities of the first image:", tuple(by_hand[0].shape))
report.holds("they add up to one", (by_hand.sum(dim=1) - 1).abs().max().item() < 1e-5)
report.equal("our softmax and torch's", by_hand, logits.softmax(dim=1))

# %% [markdown]
# > **softmax**: turns logits into probabilities: exponentials, divided by their sum.
#
# (torch's own subtracts the largest logit first. The result is the same, and no exponential can
# become too large for the computer.)
#
# The network has not learned anything yet. What will its accuracy be? There are ten digits, about
# equally frequent. And will it spread its answers evenly?
#
# > **accuracy**: the share of items for which the answer is right.

# %%
from course_lib import train

logits = train.predict(network, recipes.scale_pixels(mnist.x_test))
untrained = train.accuracy(logits, mnist.y_test)
report.value("Accuracy before training", f"{100 * untrained:.1f}", unit="%")
report.value("How often it answers 0 to 9", logits.argmax(dim=1).bincount(minlength=10).tolist())
report.holds("Without training it is nearly always wrong.", untrained < 0.3)

# %% [markdown]
# It is right about as rarely as somebody who guesses, but it does not guess: it gives the same few
# answers to nearly everything.

# %% [markdown]
# ## Train it
#
# Training repeats one step over and over: take a batch, let the network answer, measure how far
# off it is, and move every parameter a little in the direction that would have made it less wrong.
#
# > **loss**: one number that says how wrong the answers are; training makes it small. Here it is
# > the cross-entropy: minus the logarithm of the probability given to the right answer, averaged.
#
# The loss has a slope in each parameter: how much it would change if that one number moved a
# little. Training finds all these slopes at once and moves every parameter downhill. Chapter 01
# shows how.
#
# > **learning rate**: the factor that says how far a step moves for a given slope.
#
# > **training step**: one batch, one loss, its slopes, one small change of all parameters.
#
# > **test set**: items that are kept away from training, so that they can show what the network
# > does with new ones.
#
# Each training digit is turned, shifted, slanted and resized a little at random before it is shown.
# In a longer training, in which digits come by again, they would look different every time. Run the
# cell and watch the loss fall.

# %%
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} images")
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="Top: the loss begins near 2.3, minus the logarithm of one tenth, and falls steeply, "
    "then slowly; each labelled line is a tenth of the one above. The dark line averages the last "
    "20 steps, so it lags at first. Bottom: the learning rate rises, then falls to almost zero, so "
    "that the last steps are tiny.",
    alt="Two curves over the steps. The loss falls steeply, then slowly. The learning rate rises "
    "to a peak at a quarter of the way and falls back to zero.",
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)

# %% [markdown]
# Now the honest question: how many of the 10,000 test digits, none of which it was trained on, does
# it read correctly? The **target** is what the course set out to reach. The **gate** is what must
# hold on every machine, or the cell fails: it lies just below the worst of several trainings that
# began with different random numbers.

# %%
accuracy = recipe.test(network)["accuracy"]
report.result("Accuracy on 10,000 new digits", 100 * accuracy, "%", target=98.5, gate=98.6)
report.seconds("Training", history.seconds, target=8)

# %% [markdown]
# ## Look inside: where is it wrong?
#
# One number hides a lot. Here are the test digits on which the network was most sure and yet
# wrong. Would you have read them better?

# %%
logits = train.predict(network, recipes.scale_pixels(mnist.x_test))
probabilities = logits.softmax(dim=1)
sure, answers = probabilities.max(dim=1)
wrong = (answers != mnist.y_test).nonzero().squeeze(1)  # the positions of the wrong answers
worst = wrong[sure[wrong].argsort(descending=True)][:8]  # the surest of them first

shown = plot.images(
    mnist.x_test[worst],
    titles=[f"read {answers[i]}, is {mnist.y_test[i]}\n{100 * sure[i]:.1f} % sure" for i in worst],
    caption="The most confident mistakes: what the network read, what the label says, and the "
    "probability of its answer. Which labels would you dispute?",
    alt="Eight hard to read test digits, with the network's answer and the label above each.",
)
report.value("Wrong answers among 10,000", len(wrong))
assert len(shown["titles"]) == min(8, len(wrong))

# %% [markdown]
# ## Play: bend a digit until it breaks
#
# Pick a digit, then turn it (to the left, for positive angles), slant it, move it and change its
# size. The training digits were turned by at most 12 degrees, slanted by 8, shifted by 1.5 pixels
# and resized by an eighth: does the answer break there, or far beyond? And a 6 that is turned far
# enough becomes a 9: at which angle does the network agree?


# %%
from course_lib import augment

# Some test digit of each class: the fourth, which in most classes is well written.
examples = [(mnist.y_test == digit).nonzero()[3].item() for digit in range(10)]


def bend(digit, degrees, slant, right, size):
    """A test digit (1, 28, 28), bent, and the probabilities (10,) that the network gives it."""
    image = recipes.scale_pixels(mnist.x_test[examples[digit]].unsqueeze(0))  # (1, 1, 28, 28)
    image = augment.affine(image, degrees=degrees, shear=slant, shift=(right, 0.0), scale=size)
    return image[0], train.predict(network, image).softmax(dim=1)[0]


# %% [markdown]
# The sliders call this function with their values, and show the figure it returns:


# %%
def draw_bent(digit, degrees, slant, right, size):
    """The bent digit beside what the network makes of it, as a figure."""
    return widgets.prediction_figure(*bend(digit, degrees, slant, right, size))


bender = widgets.explore(
    draw_bent,
    alt="A digit, bent as the sliders say, beside the ten probabilities the network gives.",
    caption="Try the 6 at 180 degrees. Then a 7 with a strong slant. Then move any digit sideways.",
    digit=widgets.slider("digit", 0, 9, 6, 1),
    degrees=widgets.slider("turn (degrees)", -180, 180, 0, 5),
    slant=widgets.slider("slant (degrees)", -45, 45, 0, 5),
    right=widgets.slider("move (pixels)", -8, 8, 0, 1),
    size=widgets.slider("size", 0.5, 1.5, 1.0, 0.1),
)

# %% [markdown]
# The same function, called without a slider:

# %%
upright = bend(6, 0, 0, 0, 1.0)[1].argmax().item()
turned = bend(6, 180, 0, 0, 1.0)[1].argmax().item()
report.value("A 6 is read as", upright)
report.value("Upside down it is read as", turned)
report.holds("Upright it is a 6, upside down not.", upright == 6 != turned, trained=True)

# %% [markdown]
# ## Draw a digit
#
# Now your own hand. Draw in the black square with the mouse or a finger. Or reach it with the
# <kbd>Tab</kbd> key: the arrow keys move the pen, space lowers and lifts it, <kbd>Esc</kbd> clears.
#
# Your strokes are brought into the form of the training digits first (cropped, scaled to fit, and
# centred by their weight), because that is how those were prepared. Draw a digit off-centre and
# compare it with *what the network sees*.


# %%
def read_digit(image):
    """The ten probabilities of one image (1, 1, 28, 28)."""
    return train.predict(network, image).softmax(dim=1)[0]


pad = widgets.draw_digit(read_digit, example=recipes.scale_pixels(mnist.x_test[examples[7]]))

# %%
drawing = torch.zeros(84, 84)
drawing[10:70, 60:66] = 1.0  # an upright stroke, near the right edge
one = widgets.centre_digit(drawing)
report.holds("a stroke at the edge moves to the middle", one[:, 12:16].sum() > 0.9 * one.sum())
report.holds("and is read as a 1", read_digit(one[None, None]).argmax() == 1, trained=True)

# %% [markdown]
# Now draw a house, or a smile. The network answers all the same. How sure can it be of something
# that is no digit at all? That is a claim to be tested.

# %% [markdown]
# ## Claims
#
# Each chapter takes sentences that people say about deep learning and lets an experiment answer.
# Two to begin with; the verdicts are computed by the run, never typed.

# %%
device = next(network.parameters()).device.type  # where the network was trained
cheap = weights < 100_000 and history.seconds < 60 and device == "cpu"
report.verdict(
    "0.1",
    "Deep learning always needs a graphics card, a huge network and hours of time",
    outcome="false" if cheap and accuracy >= 0.98 else "depends: this run does not refute it",
    evidence=f"{100 * accuracy:.1f} % right with {weights:,} parameters after "
    f"{history.seconds:.0f} s of training on {device}",
)

# %% [markdown]
# One counterexample refutes an *always*; it says nothing about harder tasks. The great language
# models do take thousands of graphics cards. The ideas behind them can be tried at this size; what
# comes of scale cannot.
#
# For the second claim we ask the network about things it has never heard of: photos of clothes,
# in the same format, from a data set called Fashion-MNIST. How often is it sure?
#
# > **confidence**: the probability that a network gives to its own answer.

# %%
clothes = data.load("fashion_mnist")
on_clothes = train.predict(network, recipes.scale_pixels(clothes.x_test)).softmax(dim=1)
confidence, named = on_clothes.max(dim=1)
garments = [(clothes.y_test == kind).nonzero()[0].item() for kind in range(8)]  # one of each
shown = plot.images(
    clothes.x_test[garments],
    titles=[f"“{named[i]}”, {100 * confidence[i]:.0f} %" for i in garments],
    caption="The first garment of each of eight kinds: what the network takes it for, and how "
    "sure it is.",
    alt="Eight photos of clothes, each with the digit the network takes it for and its confidence.",
)
assert len(shown["titles"]) == 8

# %%
sure_digits = probabilities.max(dim=1).values >= 0.9
right_when_sure = (answers == mnist.y_test)[sure_digits].float().mean().item()
share_sure = sure_digits.float().mean().item()
sure_clothes = (confidence >= 0.9).float().mean().item()
if right_when_sure < 0.98:
    outcome = "false"
else:
    outcome = "depends: on digits it is, on clothes never" if sure_clothes > 0.05 else "true"
report.verdict(
    "0.2",
    "A network that is sure of its answer is almost always right",
    outcome=outcome,
    evidence=f"it is at least 90 % sure of {100 * share_sure:.0f} % of the digits, and right on "
    f"{100 * right_when_sure:.1f} % of these; and of {100 * sure_clothes:.0f} % of the clothes",
)

# %% [markdown]
# A network divides the world among the answers it knows. Its confidence compares those answers with
# each other; it cannot be relied on to reveal that none of them fits.

# %% [markdown]
# ## Your turn
#
# Exercises look like this one: a cell with `...` where your answer goes, and a check. Run the cell
# as it is, then fill it in. A wrong answer comes back with a reason, hints unfold one by one, and
# the solution is there when you want to compare.
#
# **Exercise 0.1.** Read the shapes. Replace each `...` by a tuple, such as `(3, 5)`.

# %%
from course_lib.teaching.exercises import ch00

my_shapes = {
    "one digit": ...,  # an image, as it lies in the training set
    "a batch": ...,  # 64 of them
    "logits": ...,  # what the network says about the batch
    "labels": ...,  # the right answers for the batch
}
ch00.shapes.check(my_shapes)

# %% [markdown]
# **Exercise 0.2.** Write the function that measures the accuracy: it gets logits of shape
# (N, classes) and labels of shape (N,), and returns the share of right answers as one number
# between 0 and 1.


# %%
def accuracy_of(logits, labels):
    return ...  # your code here


ch00.accuracy.check(accuracy_of)

# %% [markdown]
# ### Quiz

# %%
ch00.why_test_set.ask()

# %%
ch00.what_is_a_logit.ask()

# %%
ch00.sure_means_right.ask()

# %% [markdown]
# ### How far you are
#
# Solved exercises are noted in a small file in the course's folder, and nowhere else.

# %%
exercises.show_progress()

# %% [markdown]
# ## Take-away
#
# - A tensor is a block of numbers; its **shape** tells you what each axis counts. Read it first.
# - A network is a chain of plain **layers** with **parameters**; logits come out at its end.
# - **Training** is one step, repeated: answer, measure the loss, move every parameter downhill.
# - Only data that neither training nor any choice has touched tell you how good a network is. (To
#   choose settings one holds out a third part, the validation set; later chapters do.)
# - **Confidence** compares the answers a network knows. That none of them fits, it need not show.
#
# **Try it.** Change `recipes.digits()` to `recipes.digits(steps=50)` or
# `recipes.digits(learning_rate=0.3)`, say what you expect, and run everything from there.
#
# **Papers.** Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: *Gradient-based learning applied to
# document recognition*, 1998 (the digits, and the network LeNet-5).
# H. Xiao, K. Rasul, R. Vollgraf: *Fashion-MNIST*, 2017 (the clothes).
# D. Hendrycks, K. Gimpel: *A baseline for detecting misclassified and out-of-distribution examples
# in neural networks*, 2017 (claim 0.2).
#
# **Longer, larger, elsewhere.** The same training from the command line, for more steps; on a
# machine with a graphics card it uses that, and `torchrun` shares it among several processes. In a
# terminal, in the course's folder (on Windows the first line is `.venv\Scripts\activate`):
#
# ```
# source .venv/bin/activate
# python -m course_lib train digits --steps 3000
# torchrun --nproc-per-node 2 -m course_lib train digits --steps 3000
# ```

# %%
clock.stop()

# %% [markdown]
# ## Glossary
#
# Every term that the notebooks define, with a link to the place. It grows with the chapters.

# %%
glossary.show()
