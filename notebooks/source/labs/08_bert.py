# %% [markdown]
# # 08 lab · What does a BERT really need?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 8.3 and 8.6 are settled in the
# [lesson](../08_bert.ipynb). Stored runs are short on purpose: a small BERT, or MiniLM with a part
# of the training sentences. They compare settings; how far each of them goes is for the lesson.

# %%
import statistics
import time
from functools import partial

import torch
from torch import nn

from course_lib import bert, pretrained, pretraining, reviews, runtime
from course_lib.teaching import experiments, report
from course_lib.teaching.experiments import ch08 as stored
from course_lib.teaching.figures import ch08_lab as figures
from course_lib.teaching.figures.ch02_lab import columns, lines
from course_lib.teaching.figures.ch03 import standard_error
from course_lib.teaching.figures.ch07_lab import dots

clock = report.Clock(budget=60)


# %%
def shown(values):
    return f"{values.mean():.1f} ± {standard_error(values):.1f}"


def compare(values, other):
    """Mean difference of two settings over seeds, and its standard error."""
    difference = values - other
    return difference.mean().item(), max(standard_error(difference), 1e-9)


def clearly(values, other, least=0.0):
    """Whether `values` lie above `other` by more than `least` and two standard errors."""
    effect, error = compare(values, other)
    return effect > max(least, 2 * error)


# %% [markdown]
# ## 8.1 · “80 % masked, 10 % random, 10 % unchanged: the unchanged ones are not predicted”
#
# Of the words that BERT is trained on, eight in ten are hidden by [MASK], one is replaced by a
# random word, and one is left as it is. Left as it is, and then? First the labels: which of the
# three kinds will have one?

# %%
texts = stored.small_set()
names = texts.pieces.pieces  # the piece of each id
generator = runtime.generator_for(2)
items = torch.randint(len(texts.train), (2000,), generator=generator)
starts, sizes = pretraining.pair_up(texts.train, items, torch.ones(2000).bool(), generator)
whole, segments, real = pretraining.join_pairs(texts.train.ids, starts, sizes)  # (2000, 64)
read, positions, labels = pretraining.hide_words(whole, len(names), generator)


# %%
def kind(before, after):
    if after == pretraining.MASK:
        return "masked"
    return "unchanged" if before == after else "replaced"


def line(row, first, last):
    """Tokens of a row for the figure: what is read, of which kind it is, the label."""
    asked = dict(zip(positions[row].tolist(), labels[row].tolist(), strict=True))
    found = []
    for place in range(first, last):
        label = asked.get(place, -1) if place else -1  # position 0 is [CLS]
        after = read[row, place].item()
        what = ("", "") if label == bert.IGNORED else (kind(label, after), names[label])
        found.append((names[after], *what))
    return found


# %%
beginnings = [line(row, 0, 20) for row in range(len(items))]
with_all = [b for b in beginnings if {"masked", "replaced", "unchanged"} <= {k for _, k, _ in b}]
drawn = figures.hidden_words(
    with_all[:6],
    caption="The beginnings of six pairs as the model reads them, six in which all three kinds "
    "occur. Below a coloured token stands its label: the word that the model is asked for.",
    alt="Rows of tokens. Some are coloured as masked, replaced or unchanged, each with a word "
    "below it; tokens without a colour have none.",
)
there = labels != bert.IGNORED  # (2000, M)
after = read.gather(1, positions)
masked = (after == pretraining.MASK) & there
unchanged = (after == labels) & there
replaced = there & ~masked & ~unchanged
for name, chosen in (("masked", masked), ("replaced", replaced), ("unchanged", unchanged)):
    report.value(f"of all labels, {name}", f"{100 * chosen.sum() / there.sum():.1f}", unit="%")
report.holds("unchanged words have labels", bool(unchanged.any()))
report.holds(
    "every label is the word before hiding",
    bool((labels == whole.gather(1, positions))[there].all()),
)

# %% [markdown]
# So they are predicted. What for? The answer stands in the text: the model need only copy it.
# Stored runs of a small BERT with three mixtures. Each is asked for words of held-out texts that
# are hidden, that are left as they are, and that were replaced by random ones. A model that has
# seen nothing but [MASK] at the places it is asked for: what will it say of a word that stands
# there?

# %%
grid = experiments.stored("8.1")
MIXTURES = {"80, 10, 10": "usual", "100, 0, 0": "all masked", "80, 0, 20": "none replaced"}
PLACES = ("masked", "unchanged", "replaced")
by_place = {
    f"words found where {place}, %": {
        name: grid.values(place)[setting] for setting, name in MIXTURES.items()
    }
    for place in PLACES
}
drawn = dots(
    by_place,
    caption="A dot for each seed. Columns: the mixture in training. Panels: the words it is tested "
    "on. The mixtures differ in what is read at the chosen places; the labels are the same.",
    alt="Three panels of dots for three mixtures: share of words found where they are masked, "
    "unchanged and replaced.",
    zero=True,
)
again = experiments.confirm("8.1", "short", masked=3.0)

# %%
hidden, kept, swapped = (
    by_place[f"words found where {place}, %"] for place in ("masked", "unchanged", "replaced")
)
report.verdict(
    "8.1",
    "80 % masked, 10 % random, 10 % unchanged: the unchanged ones are not predicted",
    outcome="false" if bool(unchanged.any()) else "true",
    evidence="all unchanged words have labels; words found where unchanged: "
    + ", ".join(f"{name} {shown(values)} %" for name, values in kept.items())
    + "; where masked: "
    + ", ".join(f"{name} {shown(values)} %" for name, values in hidden.items())
    + "; where replaced: "
    + ", ".join(f"{name} {shown(values)} %" for name, values in swapped.items()),
)

# %% [markdown]
# All chosen words are predicted; the two tenths are there for what comes after. Text of later tasks
# holds no [MASK], and a model that was only ever asked at [MASK] owes nothing to the other places.
# Unchanged words make it keep each word at its place, and random ones keep it from trusting that
# word blindly: without them, it copies whatever it reads. That the model which was asked at [MASK]
# alone is behind even there holds for these short runs; they do not tell why.

# %% [markdown]
# ## 8.2 · “Half of the sentence pairs must be true neighbours”
#
# Head 1 is asked whether B follows A. With equally many of both answers it cannot gain by
# always giving the same. In stored runs MiniLM learned to answer this question alone, with a
# quarter, half and three quarters of true neighbours, and was tested on equally many of both. Two
# measures: the share of pairs told apart by the more likely class, and the *rank*: of a true and a
# false pair, how often the true one gets more of IsNext? For which measure will the mixture matter?

# %%
grid = experiments.stored("8.2")
RATIOS = (0.25, 0.5, 0.75)
told, rank, called = (
    {f"{n:g}": grid.values(name)[f"{n:g}"] for n in RATIOS}
    for name in ("pairs", "rank", "called next")
)
drawn = dots(
    {"told apart, %": told, "ranked rightly, %": rank, "called IsNext, %": called},
    caption="By the share of true neighbours in training, a dot for each seed. Half of the test's "
    "pairs are true: guessing gives 50 in the first two panels.",
    alt="Three panels of dots for shares of 0.25, 0.5 and 0.75.",
    zero=True,
)
again = experiments.confirm("8.2", "short", rank=20.0)

# %%
best_other = max((told["0.25"], told["0.75"]), key=lambda values: values.mean())
lopsided = called["0.75"].mean() - called["0.25"].mean() > 20
if clearly(told["0.5"], best_other, least=1.0):
    ranks_alike = not clearly(rank["0.5"], min(rank.values(), key=lambda v: v.mean()), least=3.0)
    outcome = "depends: for the threshold, not for what is learned" if ranks_alike else "true"
else:
    outcome = "depends: on the threshold" if lopsided else "false"
report.verdict(
    "8.2",
    "Half of the sentence pairs must be true neighbours",
    outcome=outcome,
    evidence="told apart, ranked rightly, called IsNext: "
    + "; ".join(
        f"{name}: {shown(told[name])}, {shown(rank[name])}, {shown(called[name])} %"
        for name in told
    ),
)

# %% [markdown]
# A share other than one half moves the answers towards the more frequent class, and with them the
# place where "yes" becomes "no". What the model can tell of a pair moves much less: it could be had
# back by another threshold. One half needs no such correction, and gives both kinds of pairs an
# equal part in the loss.

# %% [markdown]
# ## 8.4 · “Fine-tuning must use the pretraining vocabulary”
#
# The number of a word says nothing by itself: `good` might have any. So does it matter which one it
# has? MiniLM reads review sentences with its own numbering and with three shuffled ones. What each
# sentence becomes, the mean of its hidden states, goes to a linear classifier fitted by least
# squares. And once more shuffled, but with the rows of the word embedding shuffled in the same way:
# what will that give?

# %%
task = reviews.sentiment()
minilm = bert.Bert.from_pretrained(pretrained.minilm(), dropout=0.0)
SPECIAL = 999  # the ids below are those of special and unused tokens


class Mean(nn.Module):
    """The mean of the hidden states of the real tokens, (B, width)."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids, segments, real):
        return bert.mean_of_real(self.encoder(ids, segments, real), real)


def new_numbers(seed):
    """The new number of each old one, (V,)."""
    count = minilm.config.vocabulary
    others = SPECIAL + torch.randperm(count - SPECIAL, generator=runtime.generator_for(seed))
    return torch.cat((torch.arange(SPECIAL), others))


# %%
# The sentences stand with the kind ones first: take some of all.
few = [(p.ids[::n], p.labels[::n]) for p, n in ((task.train, 35), (task.validation, 6))]


def probe(numbers=None):
    """The accuracy in percent of a linear classifier of MiniLM's sentence vectors."""
    features = [
        reviews.predict(Mean(minilm), ids if numbers is None else numbers[ids]) for ids, _ in few
    ]
    (x, y), (test_x, test_y) = zip(features, (labels for _, labels in few), strict=True)
    middle = x.mean(0)
    x, test_x = ((part - middle).double() for part in (x, test_x))  # (N, width)
    ridge = x.T @ x + 10 * torch.eye(x.shape[1])
    weights = torch.linalg.solve(ridge, x.T @ (2.0 * y.double() - 1))  # (width,)
    return 100 * ((test_x @ weights > 0) == test_y).double().mean()


own = probe().expand(3)
shuffled = torch.stack([probe(new_numbers(seed)) for seed in range(3)])

# %%
numbers = new_numbers(0)
renumbered = bert.Bert.from_pretrained(pretrained.minilm(), dropout=0.0)
with torch.no_grad():
    renumbered.word_embedding.weight[numbers] = minilm.word_embedding.weight
    sentences = reviews.split_tokens(task.validation.ids[:20, :40])
    before = minilm(*sentences)
    again = renumbered(numbers[sentences[0]], *sentences[1:])
report.equal("shuffled numbers, rows shuffled alike", again, before, rtol=0, atol=1e-5)
drawn = dots(
    {"right answers, %": {"its own numbers": own, "shuffled numbers": shuffled}},
    caption="A linear classifier of sentence vectors; guessing is right in half of the cases. "
    "Dots: three shufflings.",
    alt="Dots: accuracy with MiniLM's own numbers, and lower with shuffled ones.",
)
effect, error = compare(own, shuffled)
report.verdict(
    "8.4",
    "Fine-tuning must use the pretraining vocabulary",
    outcome="true" if clearly(own, shuffled, least=5.0) else "false",
    evidence=f"right answers with its own numbers {own[0]:.1f} %, shuffled {shown(shuffled)} %",
    effect=effect,
    standard_error=error,
)

# %% [markdown]
# A number is the address of a row in the word embedding, and all that was learned of a word begins
# there. Another numbering reads other words' rows: nothing breaks, no error is raised, and the
# model understands little. That makes a wrong `vocab.txt` one of the quietest bugs there are. Move
# the rows along, and nothing has changed at all.

# %% [markdown]
# ## 8.5 · “Freezing the encoder is worse than training it all”
#
# Stored runs of MiniLM on review sentences, equally many steps each: all of it trained; the
# embeddings and the lower half frozen; all but the top layer; all but the new head. What is lost,
# and how much time is saved?

# %%
grid = experiments.stored("8.5")
scores, seconds = grid.values("accuracy"), grid.values("seconds")
speed = {name: 100 * values / seconds["all"].mean() for name, values in seconds.items()}
drawn = figures.trade(
    {name: (speed[name], scores[name]) for name in stored.FROZEN},
    ("time of training, % of that for all", "validation accuracy, %"),
    caption="What is trained. Strong dots are means, pale ones the seeds. To the upper left is "
    "better.",
    alt="Accuracy against time for four parts that are trained: all, the upper half, the top layer "
    "and the head.",
)
again = experiments.confirm("8.5", "head", accuracy=6.0)

# %%
loses = [name for name in stored.FROZEN if name != "all" and clearly(scores["all"], scores[name])]
if not loses:
    outcome = "false"
elif len(loses) == len(stored.FROZEN) - 1:
    outcome = "true"
else:
    outcome = "depends: on how much is frozen"
report.verdict(
    "8.5",
    "Freezing the encoder is worse than training it all",
    outcome=outcome,
    evidence="accuracy and share of the time: "
    + ", ".join(f"{n} {shown(scores[n])} %, {speed[n].mean():.0f} %" for n in stored.FROZEN),
)

# %% [markdown]
# Low layers know of words and their neighbourhood, which is the same for every task; high layers
# are where a task's own view is made. Frozen layers need no backward pass and no optimizer, so
# freezing the lower half saves time and often costs nothing. A head alone can only use what
# pretraining happened to put into the sentence vector. (That it does not end below the top layer
# here may be due to its larger learning rate, which counts in runs as short as these.)

# %% [markdown]
# ## 8.7 · “Padding every text to the maximum is fine”
#
# The mask makes padding invisible, so the answers are the same. The work is not: each layer
# computes a hidden state for every [PAD] as well. Forty-eight sentences in batches of sixteen,
# padded to a fixed length, to the longest of their batch, and to the longest of a batch of
# sentences of like length. Guess the ratio of the times before you run it.

# %%
ids = task.validation.ids[:48]
FIXED = 128  # tokens; many programs take 512
lengths = (ids != 0).sum(1)
wide = torch.nn.functional.pad(ids, (0, FIXED - ids.shape[1]))
by_length = lengths.argsort()
BATCHES = {
    f"to {FIXED}": list(wide.split(16)),
    "to the batch's longest": [
        part[:, : n.max()] for part, n in zip(ids.split(16), lengths.split(16), strict=True)
    ],
    "sorted by length": [ids[rows, : lengths[rows].max()] for rows in by_length.split(16)],
}
model = bert.BertClassifier(minilm, 2, pool="mean").eval()


@torch.inference_mode()
def answer(batches):
    """Logits (48, 2), and the seconds they took."""
    started = time.perf_counter()
    logits = torch.cat([model(*reviews.split_tokens(part)) for part in batches])
    return logits, time.perf_counter() - started


# %%
drawn = figures.padding(
    {name: [part != 0 for part in batches] for name, batches in BATCHES.items()},
    caption="Each row is a text, dark where it has words, pale where it is padding; white lines "
    "divide the batches. What is pale is computed for nothing.",
    alt="Three panels of rows; the pale part is large with a fixed length, smaller with the "
    "batch's longest text and almost gone when texts are sorted by length.",
)
outputs, times = {}, {name: [] for name in BATCHES}
for _ in range(2):
    for name, batches in BATCHES.items():
        outputs[name], spent = answer(batches)
        times[name].append(spent)
fixed, dynamic, alike = outputs.values()
report.equal("logits, fixed and dynamic padding", dynamic, fixed, atol=1e-5)
report.equal("logits, sorted and dynamic padding", alike, dynamic[by_length], atol=1e-5)

# %%
tokens = {name: sum(part.numel() for part in batches) for name, batches in BATCHES.items()}
spent = {name: min(values) for name, values in times.items()}
drawn = columns(
    {"tokens": tokens, "milliseconds": {name: 1000 * value for name, value in spent.items()}},
    caption="Forty-eight sentences: tokens that are computed, and the time they take.",
    alt="Bars of tokens and of milliseconds for three ways of padding.",
)
fixed_name, dynamic_name, sorted_name = BATCHES
ratio = spent[fixed_name] / spent[sorted_name]
wasteful = tokens[fixed_name] >= 3 * tokens[sorted_name]
report.holds("a fixed length computes at least three times the tokens", wasteful)
report.verdict(
    "8.7",
    "Padding every text to the maximum is fine",
    outcome="false" if ratio > 1.5 else "true",
    evidence=f"equal answers; {FIXED} tokens for each text take {ratio:.1f} times as long as texts "
    f"sorted by length, and {spent[fixed_name] / spent[dynamic_name]:.1f} times as long as padding "
    f"{dynamic_name}; of {tokens[fixed_name]:,} tokens {int(lengths.sum()):,} are real",
)

# %% [markdown]
# The answers are the same, and most of the time is spent on nothing. Attention even grows with the
# square of the length. So pad each batch to its own longest text, and put texts of like length
# together: `reviews.Part.batches` does both, and so did chapter 07 with its sentences. A fixed
# length is worth its price where a compiler or a chip wants every batch to look the same.

# %% [markdown]
# ## 8.8 · “Moving BERT to C++ (ONNX) makes it fast”
#
# > **ONNX**: a file format for networks as lists of operations, which programs without Python can
# > run, such as ONNX Runtime, which is written in C++.
#
# In eager mode Python calls one operation after the other. `torch.compile` writes code that joins
# some of them; ONNX Runtime does the like from a file. Three ways, the same numbers? And for one
# short text, or eight at once: where will C++ gain most?

# %%
texts = list(task.validation.texts)
session = stored.to_onnx(model, reviews.split_tokens(reviews.encode(texts[:2])))
for count in (1, 5):  # other numbers and lengths than those it was made with
    tokens = reviews.split_tokens(reviews.encode(texts[10 : 10 + count]))
    with torch.inference_mode():
        logits = model(*tokens)
    name = f"logits of ONNX Runtime, texts at once: {count}"
    report.equal(name, stored.run_onnx(session, tokens), logits, rtol=0, atol=1e-4)

# %%
BATCH_SIZES, ROUNDS = (1, 4, 16), 6


def race(count):
    """Seconds a text, (ROUNDS,) for each of both ways, which take turns."""
    tokens = reviews.split_tokens(reviews.encode(texts[:count]))
    ways = {"eager": lambda: model(*tokens), "onnx": lambda: stored.run_onnx(session, tokens)}
    found = {name: torch.zeros(ROUNDS + 1) for name in ways}
    with torch.inference_mode():
        for round_number in range(ROUNDS + 1):
            for name, way in ways.items():
                found[name][round_number] = stored.milliseconds(way) / count
    return {name: values[1:] for name, values in found.items()}  # the first warms up


# %%
races = [race(count) for count in BATCH_SIZES]
now = {name: torch.stack([race[name] for race in races], dim=1) for name in races[0]}
drawn = lines(
    BATCH_SIZES,
    {"on this machine, now": {"eager": now["eager"], "ONNX Runtime": now["onnx"]}},
    ("texts at once", "milliseconds a text"),
    caption="MiniLM with a classifier, in float32: eager PyTorch and ONNX Runtime with equally "
    "many threads.",
    alt="Two lines, eager and ONNX Runtime, of milliseconds for each text against texts at once.",
)

# %% [markdown]
# To compile takes longer than all of this, so those runs are stored, with eager and ONNX Runtime
# beside them.

# %%
grid = experiments.stored("8.8")
WAYS = {"eager": "eager", "compiled": "compiled", "onnx": "ONNX Runtime"}  # in the grid, here
kept = {
    f"{count} at once": {name: grid.values(key)[count] for key, name in WAYS.items()}
    for count in grid.experiment.settings
}
drawn = dots(
    {f"milliseconds, {name}": values for name, values in kept.items()},
    caption="Stored: the time of one text and of eight, in three ways, a dot for each of two runs.",
    alt="Two panels, for one text and for eight at once, with columns of dots for eager, compiled "
    "and ONNX Runtime.",
    zero=True,
)
medians = {name: values.median(dim=0).values for name, values in now.items()}
gains = (medians["eager"] / medians["onnx"]).tolist()
steady = min(gains) > 1.0  # at every size
report.verdict(
    "8.8",
    "Moving BERT to C++ (ONNX) makes it fast",
    outcome="depends: on how much work there is at once" if not steady else "true",
    evidence="ONNX Runtime is so many times as fast as eager: "
    + ", ".join(f"{n} at once {gain:.2f}" for n, gain in zip(BATCH_SIZES, gains, strict=True))
    + "; stored, compiled: "
    + ", ".join(f"{name} {(v['eager'] / v['compiled']).mean():.2f}" for name, v in kept.items()),
)

# %% [markdown]
# Nearly all the work of a large batch is matrix products, which are the same fast routines in all
# three. What can be saved is what lies between them: calls from Python, and trips to memory for
# small operations. For one short text that is a good part, for many at once a small one. The gain
# of ONNX is often another one: a file that runs where there is no Python.

# %% [markdown]
# ## 8.9 · “A distilled small model keeps most of the accuracy”
#
# > **distillation**: training a small model, the student, to give the answers of a large one, the
# > teacher, with all their probabilities.
#
# Stored runs: a fine-tuned MiniLM of six layers teaches students of two. One student learns from
# the labels, another one from the teacher's answers; both begin with MiniLM's first two layers. A
# third one has the same teacher and begins with nothing. Who will come closest to the teacher?

# %%
grid = experiments.stored("8.9")
CANDIDATES = ("teacher", "answers", "labels", "from scratch")
scores = {name: grid.values(name)["whole"] for name in CANDIDATES}
drawn = dots(
    {"validation accuracy, %": scores},
    caption="The teacher has six layers, the students two. Guessing is right in half of the cases.",
    alt="Dots for the teacher, a student of its answers, one of the labels and one from scratch.",
)
weights = {
    layers: sum(p.numel() for p in stored.classifier(0, tuple(range(layers))).parameters())
    for layers in (6, 2)
}
small = stored.classifier(0, stored.STUDENT).eval()
tokens = reviews.split_tokens(reviews.encode(texts[:8]))
with torch.inference_mode():
    spent = {
        name: statistics.median(stored.milliseconds(partial(net, *tokens)) for _ in range(5))
        for name, net in (("teacher", model), ("student", small))
    }

# %%
share = (scores["answers"] - 50) / (scores["teacher"] - 50)
effect, error = compare(scores["answers"], scores["labels"])
report.value(
    "Weights of teacher and student, in millions", *(f"{n / 1e6:.1f}" for n in weights.values())
)
report.value("The student is so many times as fast", f"{spent['teacher'] / spent['student']:.1f}")
report.value("Answers, less labels", f"{effect:+.1f} ± {error:.1f}", unit="percentage points")
if share.mean() < 0.75:
    outcome = "false"
else:
    pretraining_helps = clearly(scores["answers"], scores["from scratch"], least=2.0)
    outcome = "depends: on a pretrained start" if pretraining_helps else "true"
report.verdict(
    "8.9",
    "A distilled small model keeps most of the accuracy",
    outcome=outcome,
    evidence="of what the teacher has above guessing the student keeps "
    f"{100 * share.mean():.0f} %; "
    + ", ".join(f"{name} {shown(values)} %" for name, values in scores.items()),
)

# %% [markdown]
# A third of the layers does most of the work, if they come from pretraining. Learning from the
# teacher's answers did not bring more than learning from the labels: with two classes, a
# probability says little more than yes or no, and the teacher passes its mistakes on. Most of the
# weights are word embeddings, which all of these share: the student is faster more than it is
# smaller.

# %% [markdown]
# ## 8.10 · “Adam is the choice for fine-tuning, SGD fails”
#
# Stored runs with the lower half frozen, AdamW and SGD with momentum at three learning rates each,
# equally many steps, and Muon beside them. Which rates would you try for SGD if AdamW is used with
# about 0.0004?

# %%
grid = experiments.stored("8.10")
scores = grid.values("accuracy")
by_rate = {
    name: torch.stack([scores[f"{key}, {rate:g}"] for rate in stored.RATES[key]], dim=1)
    for name, key in (("AdamW", "adamw"), ("SGD", "sgd"))
}  # (seeds, rates)
titles = {"adamw": "AdamW", "sgd": "SGD", "muon": "Muon"}
drawn = dots(
    {
        "validation accuracy, %": {
            f"{titles[key]}, {rate:g}": scores[f"{key}, {rate:g}"]
            for key, rates in stored.RATES.items()
            for rate in rates
        }
    },
    caption="Optimizers with their learning rates, a dot for each seed. Guessing is right in half "
    "of the cases. Muon, at one rate, is the optimizer of the lesson.",
    alt="Seven columns of dots: AdamW at three learning rates, SGD at three, Muon at one.",
)

# %%
best = {name: values[:, values.mean(dim=0).argmax()] for name, values in by_rate.items()}
worst = {name: values.mean(dim=0).min().item() for name, values in by_rate.items()}
if not clearly(best["AdamW"], best["SGD"], least=1.0):
    outcome = "false"
elif best["SGD"].mean() < 60:
    outcome = "true"
else:
    outcome = "depends: SGD learns, and less in the same time"
effect, error = compare(best["AdamW"], best["SGD"])
report.verdict(
    "8.10",
    "Adam is the choice for fine-tuning, SGD fails",
    outcome=outcome,
    evidence="accuracy at the best rate: "
    + ", ".join(
        f"{name} {shown(values)} %, at the worst {worst[name]:.1f} %"
        for name, values in best.items()
    )
    + f"; AdamW is ahead by {effect:+.1f} ± {error:.1f} %; Muon {shown(scores['muon, 0.001'])} %",
)

# %% [markdown]
# Adam divides each weight's step by the usual size of its gradient, so one learning rate suits
# embeddings, norms and matrices alike. SGD wants a rate many times as large, found by trying, and
# what is right for one matrix is wrong for another. Neither forgives a rate that is ten times too
# large: what pretraining knew is gone after a few steps. These runs are short, and Muon was given
# one rate only: they do not tell whether it is the better choice for the lesson's longer run.

# %% [markdown]
# ## 8.11 · “Learned position embeddings are as good as any”
#
# BERT adds a learned vector for each position, and must find out from data that position 7 is next
# to position 8. Rotary positions, which chapter 06 built, give the attention the distance of two
# tokens from the start. Two small BERTs that differ in this alone, pretrained equally long: which
# will guess more of the masked words?

# %%
masked = experiments.stored("8.11").values("masked")
masked["rotary"] = experiments.stored("8.1").values("masked")["80, 10, 10"]
drawn = dots(
    {"masked words found, %": masked},
    caption="Small BERTs after equally many steps of pretraining, a dot for each seed.",
    alt="Dots for learned and for rotary positions; those of rotary positions are higher.",
    zero=True,
)
effect, error = compare(masked["rotary"], masked["learned"])
report.verdict(
    "8.11",
    "Learned position embeddings are as good as any",
    outcome="depends: on how long one trains"
    if clearly(masked["rotary"], masked["learned"], 1.0)
    else "true",
    evidence=f"masked words found: learned {shown(masked['learned'])} %, rotary "
    f"{shown(masked['rotary'])} %",
    effect=effect,
    standard_error=error,
)

# %% [markdown]
# With millions of steps, learned positions work: BERT is the proof. In a short run the model first
# has to discover what a neighbour is, and until then guesses the most frequent words. Telling it
# saves that time, which is why newer models are given distances.

# %%
clock.stop()
