# %% [markdown]
# # 07 lab · What slows a translator down, and what does it forget?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 7.2 and 7.10 are settled in the
# [lesson](../07_seq2seq.ipynb). At the end, a translator as tutorials write it is mended step by
# step.

# %%
import copy
import inspect
import statistics
import time

import torch
import torch.nn.functional as F
from IPython.display import Code, display
from torch import nn

from course_lib import runtime, train
from course_lib.optimizers import make_optimizer
from course_lib.seq2seq import GRUTranslator, translation_loss
from course_lib.teaching import experiments, plot, report, tutorials
from course_lib.teaching.experiments import ch07 as stored
from course_lib.teaching.figures import ch07_lab as figures
from course_lib.teaching.figures.ch02_lab import lines
from course_lib.teaching.figures.ch03 import standard_error
from course_lib.text import PAD, START, SentenceBatches

clock = report.Clock(budget=70)
SEEDS = 3

# %%
numbers = stored.numbers()
known, fresh_ones = numbers.train, numbers.validation


def shown(values):
    return f"{values.mean():.2f} ± {standard_error(values):.2f}"


def clearly(values, least=0.0):
    """Whether the mean over seeds lies above `least`, and above two standard errors."""
    return bool(values.mean() > max(least, 2 * standard_error(values)))


# %% [markdown]
# ## 7.1 · “An RNN must be fed token by token in Python”
#
# Each state needs the one before it, so the steps cannot be taken at once. But who walks? A loop in
# Python calls the layer once for each token. One call hands over the whole sequence, and the loop
# runs inside. Will both give the same outputs and gradients? How much faster is one of them, and
# is that the same for RNN, LSTM and GRU, for one sequence and for a batch of 64?


# %%
def by_token(layer, x):
    """(B, T, C) -> (B, T, H), each token in a call of its own."""
    state, outputs = None, []
    for token in x.split(1, dim=1):  # (B, 1, C)
        output, state = layer(token, state)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def in_one_call(layer, x):
    return layer(x)[0]


def outputs_and_gradients(way, layer, x):
    outputs = way(layer, x)
    return [outputs, *torch.autograd.grad(outputs.square().sum(), [*layer.parameters()])]


# %%
runtime.seed_everything(0)
x = torch.randn(4, 20, 16, dtype=torch.float64)
same = []
for kind in (nn.RNN, nn.LSTM, nn.GRU):
    layer = kind(16, 24, batch_first=True).double()
    loop, call = (outputs_and_gradients(way, layer, x) for way in (by_token, in_one_call))
    for name, one, other in zip(("outputs", "first gradient"), loop, call, strict=False):
        report.equal(f"{kind.__name__}, {name}", one, other, atol=1e-12)
    same += [torch.allclose(*both, atol=1e-12) for both in zip(loop, call, strict=True)]

# %%
LENGTHS, ROUNDS = (10, 30, 100), 4
KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
WAYS = {"token by token": by_token, "one call": in_one_call}


def milliseconds(way, layer, x):
    """There and back."""
    started = time.perf_counter()
    way(layer, x).sum().backward()
    return 1000 * (time.perf_counter() - started)


def race(kind, batch):
    """Milliseconds of both ways, name -> (ROUNDS, lengths); they take turns."""
    layer = kind(64, 64, batch_first=True)
    times = {name: torch.zeros(ROUNDS + 1, len(LENGTHS)) for name in WAYS}
    for round_number in range(ROUNDS + 1):
        for place, length in enumerate(LENGTHS):
            x = torch.randn(batch, length, 64)
            for name, way in WAYS.items():
                times[name][round_number, place] = milliseconds(way, layer, x)
    return {f"{name}, {batch}": values[1:] for name, values in times.items()}  # first: warming up


# %%
races = {name: race(kind, 1) | race(kind, 64) for name, kind in KINDS.items()}
drawn = lines(
    LENGTHS,
    races,
    ("tokens", "milliseconds there and back"),
    caption="Time forward and backward, for layers of 64 units; both axes logarithmic. The number "
    "behind each name is the batch size.",
    alt="Three panels, RNN, LSTM and GRU, of time against length, with a line for each way of "
    "calling the layer and each of two batch sizes.",
    log="xy",
)
gains = {
    name: [(t[f"token by token, {b}"] / t[f"one call, {b}"]).median(dim=0).values for b in (1, 64)]
    for name, t in races.items()
}  # for each batch (lengths,)

# %%
report.holds("for an LSTM and one sequence one call is faster", gains["LSTM"][0].min() > 1.5)
report.verdict(
    "7.1",
    "An RNN must be fed token by token in Python",
    outcome="false" if all(same) else "true",
    evidence="outputs and gradients are equal; at 100 tokens one call is so many times as fast, "
    "for batches of 1 and 64: "
    + ", ".join(f"{name} {one[-1]:.1f} and {many[-1]:.1f}" for name, (one, many) in gains.items()),
)

# %% [markdown]
# The recurrence is serial, the program need not be. In one call the products with the inputs are
# made for all tokens together. Only what depends on the last state is done step by step, without
# Python in between. How much that saves depends on the layer: on a CPU PyTorch has one routine for
# all steps of an LSTM, while for the other two it still calls small routines at each step, though
# not from Python. Token by token is for translating, where the next word is not known yet.

# %% [markdown]
# ## 7.3 · “Without gradient clipping long sequences explode”
#
# > **gradient clipping**: making a gradient shorter when its length exceeds a limit, with its
# > direction kept.
#
# On the way back, a gradient passes the same matrix once for each step. If the matrix stretches it,
# it grows by a factor with every step; if the matrix shrinks it, it vanishes. French number words,
# one after the other, and the next word to be predicted: how long are the gradients of fresh
# networks, for 10 to 200 words?

# %%
stream = known.target[known.target > START]  # words and END
NETS = {
    "RNN": (nn.RNN, {}, None),
    "RNN, weights x 2": (nn.RNN, {}, 2.0),
    "RNN with ReLU, weights x 1.5": (nn.RNN, {"nonlinearity": "relu"}, 1.5),
    "LSTM": (nn.LSTM, {}, None),
    "GRU": (nn.GRU, {}, None),
}


def language_model(name, seed):
    """Embedding, recurrent layer, output layer; `gain` times orthogonal weights if given."""
    kind, options, gain = NETS[name]
    runtime.seed_everything(seed)
    layer = kind(64, 64, batch_first=True, **options)
    if gain is not None:
        nn.init.orthogonal_(layer.weight_hh_l0, gain)
    words = len(numbers.french)
    return nn.ModuleList([nn.Embedding(words, 64), layer, nn.Linear(64, words)])


# %%
def next_word_loss(model, words):
    """The mean over words (B, T + 1) of what the next one costs."""
    embedding, layer, output = model
    states, _ = layer(embedding(words[:, :-1]))  # (B, T, 64)
    return F.cross_entropy(output(states).flatten(0, 1), words[:, 1:].flatten())


def passage(length, *key):
    """Sixteen stretches of the stream, (16, length + 1)."""
    generator = runtime.generator_for(*key)
    starts = torch.randint(len(stream) - length - 1, (16, 1), generator=generator)
    return stream[starts + torch.arange(length + 1)]


def gradient_length(name, length, seed):
    model = language_model(name, seed)
    next_word_loss(model, passage(length, seed)).backward()
    return nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()


lengths = (10, 20, 50, 100, 200)
norms = {
    name: torch.tensor([[gradient_length(name, n, seed) for n in lengths] for seed in range(5)])
    for name in NETS
}  # (seeds, lengths)

# %%
logs = {name: values.log10() for name, values in norms.items()}
drawn = lines(
    lengths,
    {"": logs},
    ("words", "log10 of the gradient's length"),
    caption="Fresh networks, five seeds. RNN, LSTM and GRU are as PyTorch starts them; the other "
    "two have larger recurrent weights. Lengths stand at equal distances although they double: a "
    "bend upwards is growth by the same factor at each word.",
    alt="Logarithm of the gradient's length against the number of words, a line for each of five "
    "networks; that of the ReLU network with enlarged weights rises steeply.",
)[""]
usual = [name for name, (_, _, gain) in NETS.items() if gain is None]
report.holds("as they start, 200 words give no more than 10", all(drawn[n][-1] < 1 for n in usual))
report.holds("enlarged, they explode", drawn["RNN with ReLU, weights x 1.5"][-1] > 4)

# %% [markdown]
# And in training? Stochastic gradient descent at a high rate, with and without clipping at 1. Which
# networks will have a usable loss after 25 steps, and which will have exploded?

# %%
RATE = 1.0
STEPS = 3 if runtime.is_quick() else 25


def learn_stream(name, length, limit, seed):
    """The mean loss of the last five steps, at most 10; 10 if it is not finite."""
    model, losses = language_model(name, seed), []
    for step in range(STEPS):
        loss = next_word_loss(model, passage(length, seed, step))
        gradients = torch.autograd.grad(loss, [*model.parameters()])
        size = nn.utils.get_total_norm(gradients)
        factor = RATE * min(1.0, limit / (size.item() + 1e-9))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= factor * gradient
        losses.append(loss.item())
    return torch.tensor(losses[-5:]).nan_to_num(10.0, posinf=10.0).clamp(max=10).mean()


# %%
chosen = ("RNN", "RNN with ReLU, weights x 1.5", "LSTM")
ends = {
    name: {
        way: torch.tensor([learn_stream(name, 100, limit, seed) for seed in range(SEEDS)])
        for way, limit in (("not clipped", float("inf")), ("clipped at 1", 1.0))
    }
    for name in chosen
}  # (seeds,) each
drawn = figures.dots(
    {
        "loss after training on stretches of 100 words": {
            f"{name}, {way}": values for name, ways in ends.items() for way, values in ways.items()
        }
    },
    caption="A dot for each of three seeds. A loss of 10 stands for 10 and more, or no number.",
    alt="Six columns of dots: the loss of the RNN, the RNN with enlarged weights and the LSTM, "
    "each without and with clipping.",
    zero=True,
)

# %%
saved = {name: ways["not clipped"] - ways["clipped at 1"] for name, ways in ends.items()}
enlarged = saved["RNN with ReLU, weights x 1.5"]
untouched = [saved[name].abs().max() < 0.2 for name in ("RNN", "LSTM")]
if clearly(enlarged, least=1.0):
    outcome = "depends: on the recurrent weights" if all(untouched) else "true"
else:
    outcome = "false"
report.verdict(
    "7.3",
    "Without gradient clipping long sequences explode",
    outcome=outcome,
    evidence="gradients at 200 words against 10: "
    + ", ".join(f"{name} x {10 ** (v[:, -1] - v[:, 0]).mean():.2g}" for name, v in logs.items())
    + "; loss that clipping saves at 100 words: "
    + ", ".join(f"{name} {shown(values)}" for name, values in saved.items()),
)

# %% [markdown]
# Length is the exponent, and the recurrent weights are the base. As PyTorch starts its layers the
# base is below 1, and the danger is the other one, that gradients vanish. Training may enlarge the
# weights, and one bad step can ruin a run: clipping at a limit that is rarely reached costs nothing
# and is kept as an insurance.

# %% [markdown]
# ## 7.4 · “An RNN cannot remember beyond about 100 steps”
#
# One of four symbols, then noise, then a question: which symbol was it? Stored runs of small nets
# with equally many steps of training, for 10 to 200 words of noise. Besides their usual start, two
# prepared ones: for the plain RNN an orthogonal matrix, which neither stretches nor shrinks; for
# LSTM and GRU gates that begin almost shut for the new and almost open for the old. Attention looks
# at all words at once. Which nets will answer, and up to where?

# %%
grid = experiments.stored("7.4")
accuracy = grid.values("accuracy")  # "kind, length" -> (seeds,)
by_length = {
    kind: torch.stack([accuracy[f"{kind}, {length}"] for length in stored.LENGTHS], dim=1)
    for kind in stored.KINDS
}  # (seeds, lengths)
prepared = {"RNN": "orthogonal", "LSTM": "keeping", "GRU": "keeping"}
drawn = lines(
    stored.LENGTHS,
    {
        kind: {
            "usual start": by_length[kind],
            "prepared start": by_length[f"{kind}, {start} start"],
            "attention": by_length["attention"],
        }
        for kind, start in prepared.items()
    },
    ("words of noise", "right answers (%)"),
    caption="Guessing is right in one of four. Means of three seeds with standard errors; the "
    "line of attention is the same in all panels.",
    alt="Three panels, RNN, LSTM and GRU, of right answers against the length of the noise; with "
    "the usual start they fall to guessing, with the prepared one LSTM and GRU stay up far longer.",
)
again = experiments.confirm("7.4", "LSTM, keeping start, 100", accuracy=10.0)

# %%
reach = {
    kind: max(
        (n for n, scores in zip(stored.LENGTHS, v.unbind(dim=1), strict=True) if scores.min() > 90),
        default=0,
    )
    for kind, v in by_length.items()
}  # the longest noise after which all seeds are right
usual_reach = max(reach[kind] for kind in prepared)
prepared_reach = max(reach[f"{kind}, {start} start"] for kind, start in prepared.items())
if prepared_reach <= 100:
    outcome = "true"
else:
    outcome = "depends: on how its weights start" if usual_reach <= 100 else "false"
report.verdict(
    "7.4",
    "An RNN cannot remember beyond about 100 steps",
    outcome=outcome,
    evidence="longest noise after which every seed is right in nine of ten: "
    + ", ".join(f"{kind} {words or 'none'}" for kind, words in reach.items()),
)

# %% [markdown]
# Such a state can easily hold one of four symbols for two hundred steps. What is hard is to learn
# that it should. As they usually start, these nets forget before the question comes, so no gradient
# tells them that remembering would have helped. With gates that begin by keeping, one does. (The
# plain RNN has no gate: an orthogonal matrix does not shrink its state, but the tanh does.)
# Attention needs no memory, for its way back has one step whatever the length; what it must learn
# is to tell the symbol from ever more noise.

# %% [markdown]
# ## 7.5 · “Transposing to time-major matters for speed”
#
# PyTorch's recurrent layers take (T, B, C) by default, where the numbers of one step lie side by
# side, and (B, T, C) when told `batch_first=True`. The same GRU and the same numbers in both
# layouts, training steps in turn: by how much will one be faster?

# %%
SHAPES = ((16, 12, 64), (64, 15, 64), (64, 60, 64), (256, 15, 64))  # (B, T, C)


def time_layouts(shape, rounds=12):
    """The fewest milliseconds in each layout, and whether the outputs are equal."""
    runtime.seed_everything(0)
    layers = {first: nn.GRU(64, 64, batch_first=first) for first in (True, False)}
    layers[False].load_state_dict(layers[True].state_dict())
    x = torch.randn(shape)
    inputs = {True: x, False: x.transpose(0, 1).contiguous()}
    times = {True: [], False: []}
    for number in range(rounds + 2):
        for first in (True, False) if number % 2 else (False, True):
            times[first].append(milliseconds(in_one_call, layers[first], inputs[first]))
    outputs = {first: in_one_call(layers[first], inputs[first]) for first in (True, False)}
    same = torch.allclose(outputs[True], outputs[False].transpose(0, 1), atol=1e-6)
    return {first: min(values[2:]) for first, values in times.items()}, same


# %%
ratios, all_same = {}, True
for shape in SHAPES:
    times, same = time_layouts(shape)
    all_same = all_same and same
    ratios[" x ".join(map(str, shape))] = times[True] / times[False]
report.holds("both layouts give the same outputs", all_same)
drawn = plot.bars(
    ratios,
    "time batch-first / time-major",
    caption="By batch x tokens x channels, the fastest of twelve rounds each. Right of 1: "
    "time-major is faster.",
    alt="Four bars, one for each shape: the time of batch-first over that of time-major.",
)
overall = statistics.median(drawn.values())
report.verdict(
    "7.5",
    "Transposing to time-major matters for speed",
    outcome="true" if overall > 1.25 else "false",
    evidence="batch-first takes "
    + ", ".join(f"{ratio:.2f} ({name})" for name, ratio in drawn.items())
    + " times as long as time-major",
)

# %% [markdown]
# Inside, the layer swaps the two axes once and works in its own layout, which costs one copy beside
# very many products. Take the layout that the rest of the program uses. To mix them up costs more:
# both have three axes, so no error is raised.

# %% [markdown]
# ## 7.6 · “Padding may stay in the loss”
#
# Sentences of a batch are filled up with a padding token to one length. If the loss counts those
# places, the net learns to write padding after the end, which is easily learned. So why not? The
# same small translator of number words, trained with padding in the loss and without, three seeds
# each, on batches in random order. Predict two things: which training loss is lower in the end, and
# which net translates better.


# %%
def translate_numbers(seed, loss):
    """A small translator after 120 steps, and its losses by step."""
    return stored.small_translator(seed, loss, steps=120)


@torch.no_grad()
def word_losses(model, target):
    """Loss at each place of `target` (B, T) but the first: (B, T - 1), 0 at padding."""
    logits = model(fresh_ones.source, target[:, :-1])
    return F.cross_entropy(logits.mT, target[:, 1:], ignore_index=PAD, reduction="none")


def real_word_loss(model):
    """The mean over the words of held-out numbers."""
    return word_losses(model, fresh_ones.target).sum() / (fresh_ones.target[:, 1:] != PAD).sum()


# %%
programs = {"ignored": translation_loss, "counted": tutorials.loss_with_padding}
trained = {
    name: [translate_numbers(seed, loss) for seed in range(SEEDS)]
    for name, loss in programs.items()
}
results = {
    "training loss, as shown": lambda model, losses: statistics.mean(losses[-10:]),
    "held-out loss, real words": lambda model, _: real_word_loss(model),
    "exactly right (%)": lambda model, _: stored.exactly_right(model),
}
padding = {
    title: {
        name: torch.tensor([float(measure(*run)) for run in runs]) for name, runs in trained.items()
    }
    for title, measure in results.items()
}
drawn = figures.dots(
    padding,
    caption="A dot for each seed, lines at the means. Padding ignored in the loss, and counted.",
    alt="Three panels with padding ignored and counted: the training loss as it is shown, the "
    "held-out loss of real words, and the share of numbers translated exactly.",
)
share = 100 * (known.target[:, 1:] == PAD).float().mean()
report.value("Places of the targets that are padding", f"{share:.0f}", unit="%")

# %%
right = padding["exactly right (%)"]
harm = right["ignored"] - right["counted"]
later = experiments.stored("7.6").values("exact")  # three times as many steps
harm_later = later["ignored"] - later["counted"]
for name in right:
    report.value(
        f"padding {name}, exactly right after 120 and after 360 steps",
        f"{right[name].mean():.1f} and {later[name].mean():.1f}",
        unit="%",
    )
if clearly(harm) and not clearly(harm_later, least=5.0):
    outcome = "depends: it costs time, and in the end little"
else:
    outcome = "false" if clearly(harm) else "true"
word_loss = padding["held-out loss, real words"]
report.verdict(
    "7.6",
    "Padding may stay in the loss",
    outcome=outcome,
    evidence=f"more numbers exactly right with padding ignored: {shown(harm)} points after 120 "
    f"steps, {shown(harm_later)} after 360; loss of a real word after 120 "
    f"{word_loss['ignored'].mean():.2f} against {word_loss['counted'].mean():.2f}",
)

# %% [markdown]
# A mean over places that are right for free flatters, once the net has found them. In a short run
# it does not even look better, since the net has learned so much less: the weight of each real word
# shrinks by the share of padding, and the net spends its first steps on learning where padding is.
# More steps make up for that, but they are spent for nothing. And the loss that is shown stays
# misleading: it falls when batches are padded more. Count real words only, and divide by how many
# there are.

# %% [markdown]
# ## 7.7 · “Feeding the start token twice is harmless”
#
# In a well-known program the decoder is given START, and the first word it should write is START
# again. What does that first output learn? And what happens to a translation?


# %%
def loss_from_start(model, batch):
    """`translation_loss` with a second START in front of the targets."""
    source, target = batch
    return translation_loss(model, (source, tutorials.start_twice(target)))


class FedTwice(nn.Module):
    """A translator that is given START once more before it translates."""

    def __init__(self, model):
        super().__init__()
        self.model, self.step = model, model.step

    def start(self, source):
        state = self.model.start(source)
        return self.model.step(state, torch.full((len(source),), START))[1]


# %%
twice = [translate_numbers(seed, loss_from_start) for seed in range(SEEDS)]
target = tutorials.start_twice(fresh_ones.target)
by_place = torch.stack([word_losses(model, target).mean(dim=0) for model, _ in twice])  # (seeds, T)
drawn = lines(
    ["START", *range(1, 8)],
    {"": {"loss on held-out numbers": by_place[:, :8]}},
    ("output", "loss"),
    caption="The first output has learned to say START, whatever the source: its loss is next to "
    "nothing.",
    alt="Loss by place of the output, START first, then seven words; at START it is next to zero.",
)
free = by_place[:, 0].mean().item()
report.holds("the first output costs next to nothing", free < 0.02, trained=True)

# %%
once = right["ignored"]
followed, banned = (
    torch.tensor([stored.exactly_right(make(model)) for model, _ in twice])
    for make in (FedTwice, lambda model: model)
)
start_scores = {"fed once": once, "fed twice, words follow": followed}
start_scores["fed twice, START banned"] = banned
drawn = figures.dots(
    {"exactly right (%)": start_scores},
    caption="Left: trained with START once. Middle: trained with it twice, and fed it twice to "
    "translate. Right: trained with it twice, fed it once, and never allowed to write it.",
    alt="Percent exactly right in three cases: START fed once, fed twice, and fed twice while the "
    "decoder may not write it.",
    zero=True,
)
words = (known.target[:, 1:] != PAD).sum(dim=1).float()  # END included
cost = 100 * (1 / words).mean().item()
# %%
lost = once - banned
report.verdict(
    "7.7",
    "Feeding the start token twice is harmless",
    outcome="false" if clearly(lost) else "true",
    evidence=f"it learns to repeat START, at a loss of {free:.1g}, which lowers the mean and takes "
    f"{cost:.0f} % more outputs; exactly right: {shown(once)} % fed once, {shown(followed)} % fed "
    f"twice in training and after, {shown(banned)} % when START may not be written",
    effect=lost.mean().item(),
    standard_error=standard_error(lost).item(),
)

# %% [markdown]
# Fed twice in training and twice in translating, it works, with one empty step for each sentence.
# But the loss looks better than it is, and the program has a trap: whoever translates with a
# decoder that rightly never writes START gets a first word that the net has never learned to say.
# Inputs are START and the words, targets the words and END; each target is the next input.

# %% [markdown]
# ## 7.8 · “Sorting the vocabulary by frequency helps the model”
#
# `Vocabulary.build` gives frequent words the small numbers. Does a model care? Number the same
# words by alphabet or at random, and let the rows of embeddings and output layer move with them:
# can any logit change?

# %%
runtime.seed_everything(0)
model = GRUTranslator(len(numbers.english), len(numbers.french), width=64)
places = [stored.new_places(v.tokens, "random") for v in (numbers.english, numbers.french)]
moved = copy.deepcopy(model)
with torch.no_grad():
    for table, old, place in (
        (moved.source_embedding, model.source_embedding, places[0]),
        (moved.target_embedding, model.target_embedding, places[1]),
        (moved.output, model.output, places[1]),
    ):
        table.weight[place] = old.weight
    moved.output.bias[places[1]] = model.output.bias
    source, target = fresh_ones.source[:50], fresh_ones.target[:50]
    logits = model(source, target)  # (50, T, words)
    logits_moved = moved(places[0][source], places[1][target])
report.equal("the logits, word by word", logits_moved[..., places[1]], logits, atol=1e-6)

# %% [markdown]
# A number is only a name. What is left is chance: the random weights of one word go to another one.
# Stored runs on dialogue, five seeds for each of three orders: how far apart will the means be,
# beside the seeds?

# %%
grid = experiments.stored("7.8")
by_order = {"validation loss": grid.values("loss"), "validation BLEU": grid.values("BLEU")}
drawn = figures.dots(
    by_order,
    caption="A dot for each seed. The words are numbered by frequency, by alphabet, at random.",
    alt="Loss and BLEU of five seeds for three orders of the vocabulary: the clouds overlap.",
)
again = experiments.confirm("7.8", "frequency", loss=0.1)

# %%
scores = by_order["validation loss"]
gains = {order: scores[order] - scores["frequency"] for order in ("alphabet", "random")}
helps = [clearly(gain) for gain in gains.values()]
report.verdict(
    "7.8",
    "Sorting the vocabulary by frequency helps the model",
    outcome="true" if all(helps) else "false",
    evidence="with the weights moved along, every logit is the same; trained, the loss less that "
    "with words sorted by frequency: "
    + ", ".join(f"{order} {shown(gain)}" for order, gain in gains.items())
    + "; BLEU "
    + ", ".join(f"{o} {shown(values)}" for o, values in by_order["validation BLEU"].items()),
)

# %% [markdown]
# An embedding is a table and an output layer a list of rows; neither knows what stands beside what.
# Sorted numbers help people: the first `max_size` of them are the words to keep, and the rare ones
# are found at the end. Some output layers do need them so, such as those that give rare words fewer
# weights.

# %% [markdown]
# ## 7.9 · “A lower loss means better translations”
#
# The loss asks how probable the right next word was, with the right words before it. A translation
# is made of the net's own words, and BLEU counts which of them the reference has. Stored runs of
# the dialogue recipe, with all of the training lines or a part of them, in equally many steps; they
# are scored eight times on their way, on the shorter half of the validation lines (for which BLEU
# is higher than for all). Will all runs walk on one line, down in loss and up in BLEU?
#
# Beside the figure, a number for each run, the *rank correlation*: 1 if loss and BLEU put its eight
# points in the same order from worst to best, 0 if one order says nothing about the other.

# %%
grid = experiments.stored("7.9")
loss, bleu = grid.values("loss"), grid.values("BLEU")  # (seeds, points)
drawn = figures.paths(
    {name: (loss[name], bleu[name]) for name in stored.SHARES},
    ("validation loss of a word", "validation BLEU, greedy"),
    caption="Each line is a run, from the lower right to the ring at its end. Where a line turns "
    "to the right, the loss rises again.",
    alt="BLEU against loss on the way through training, a line for each of four shares of the "
    "training lines; all begin at the lower right, with a high loss and a BLEU near 0.",
)
again = experiments.confirm("7.9_numbers", "number words", BLEU_end=8.0)

# %%
number_runs = experiments.stored("7.9_numbers")
runs = {f"dialogue, {name}": (loss[name], bleu[name]) for name in stored.SHARES}
runs["number words"] = tuple(number_runs.values(n)["number words"] for n in ("loss", "BLEU"))


def after_best(falling, rising):
    """Changes of loss and of BLEU from the point of lowest loss to the end: (seeds,) both."""
    best = falling.argmin(dim=1, keepdim=True)
    return [(values[:, -1:] - values.gather(1, best))[:, 0] for values in (falling, rising)]


def agreement(falling, rising):
    """Rank correlation of the two along each run, 1 where they go together: (seeds,)."""
    ranks = [v.argsort(dim=1).argsort(dim=1).double() for v in (-falling, rising)]
    return torch.stack(
        [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*ranks, strict=True)]
    )


# %%
together = {name: agreement(*run) for name, run in runs.items()}
turns = {name: after_best(*run) for name, run in runs.items()}
for name, (up, more) in turns.items():
    report.value(
        f"{name}: rank correlation, and from the lowest loss on the change of loss and of BLEU",
        f"{together[name].mean():.2f}; {shown(up)}; {shown(more)}",
    )

# %%
turned = [name for name, changes in turns.items() if all(map(clearly, changes))]
lowest = min(values.min().item() for values in together.values())
if turned:  # somewhere the loss rises while BLEU goes on
    outcome = "depends: on the way yes, once a net overfits no"
else:
    outcome = "true" if lowest > 0.9 else "depends: on the whole, not from point to point"
report.verdict(
    "7.9",
    "A lower loss means better translations",
    outcome=outcome,
    evidence="rank correlation of falling loss and rising BLEU along a run: "
    + ", ".join(f"{name} {values.mean():.2f}" for name, values in together.items())
    + "".join(
        f"; {name}: from its lowest the loss rises by {shown(up)} and BLEU by {shown(more)}"
        for name, (up, more) in turns.items()
        if name in turned
    ),
)

# %% [markdown]
# Both measure how good a model is, and while it learns they go together. They part where the net
# becomes too sure of itself: a few words that it finds nearly impossible cost much loss, and one
# word each in the translation. So choose between runs of one kind by the loss, which is cheap and
# smooth. But when to stop, and which kind of model is better, decide by the measure you care about.

# %% [markdown]
# ## 7.11 · “A network needs no dictionary: it learns the words by itself”
#
# The dialogue recipe gives each English word the mean vector of its likely French ones, as
# [the lesson](../07_seq2seq.ipynb) counts them; the usual way is a random vector. Stored runs of
# 320 steps with either, from the same lines and with the same other weights. Where will the
# difference be larger, in the first eighth or at the end?

# %%
starts = experiments.stored("7.11").values("BLEU")  # (seeds, points)
drawn = lines(
    [step * 320 // stored.POINTS for step in range(1, stored.POINTS + 1)],
    {"": {"from a dictionary": starts["dictionary"], "from random vectors": starts["chance"]}},
    ("steps", "validation BLEU, greedy"),
    caption="Three seeds each, with standard errors, scored on the shorter half of the validation "
    "lines.",
    alt="BLEU against steps, a rising line for each of two ways to start.",
)
gain = starts["dictionary"] - starts["chance"]
better = clearly(gain[:, -1])
report.verdict(
    "7.11",
    "A network needs no dictionary: it learns the words by itself",
    outcome="false: with few sentences it helps" if better else "true",
    evidence=f"BLEU gained by a start from a dictionary: {shown(gain[:, 0])} after an eighth of "
    f"the steps, {shown(gain.amax(1))} where it gains most, {shown(gain[:, -1])} at the end",
)

# %% [markdown]
# Most words of a small set stand in a handful of sentences, and gradient descent meets each of them
# a handful of times an epoch. Counting looks at all sentences at once and is done in a second. With
# millions of sentences every word is met often, and this head start is soon made up for.

# %% [markdown]
# ## What would more data or a larger model bring?
#
# The ends of the same runs, and of others with a narrower and a wider Transformer, all with equally
# many steps. Which would you wish for: twice as many lines, or a model one and a half times as
# wide?

# %%
wider = experiments.stored("7.9_widths")
weights = {**wider.values("weights"), "128": grid.values("weights")["all"]}
by_width = {**wider.values("BLEU_end"), "128": grid.values("BLEU_end")["all"]}
by_width = dict(sorted(by_width.items(), key=lambda pair: int(pair[0])))
drawn = figures.growth(
    {
        "training lines": {name: grid.values("BLEU_end")[name] for name in stored.SHARES},
        "width of the model": by_width,
    },
    "validation BLEU, greedy",
    caption="Two seeds each, with standard errors. How steep is the last piece of each line?",
    alt="Two panels: BLEU by the share of training lines, and BLEU by the width of the model.",
)
doubled = grid.values("BLEU_end")["all"] - grid.values("BLEU_end")["half"]
widened = by_width["192"] - by_width["128"]
report.value("The second half of the lines brings", shown(doubled), unit="BLEU")
report.value("A width of 192 instead of 128 brings", shown(widened), unit="BLEU")
for width in by_width:
    report.value(f"Weights at width {width}", f"{weights[width][0] / 1e6:.1f}", unit="million")

# %% [markdown]
# The lines are few; on the left you see what each doubling of them brought. The width is tested at
# the same number of steps, and a step of a wider model takes longer. Where more data
# cannot be had, longer training is next: the recipe `dialogue_long` shows how far it goes.

# %% [markdown]
# ## The usual program, mended
#
# This is how a translator is often written: an LSTM of 256 units reads a sentence, another one
# writes, and one pair is trained at a time by SGD at 0.01. Count what is done in Python for each
# pair. Which of the claims above stand in it?

# %%
display(Code(inspect.getsource(tutorials.loss_by_token), language="python"))

# %% [markdown]
# Three of them: a call for each token (7.1), padding in the loss (7.6) and START twice (7.7). First
# the same sum in one call: the loss and its gradients must not change.

# %%
LARGE = 128  # pairs in a batch


def usual(model, batch):
    """One pair, token by token."""
    return tutorials.loss_by_token(model, batch[0][0], batch[1][0])


def one_call(model, batch):
    source, target = batch
    return tutorials.loss_with_padding(model, (source, tutorials.start_twice(target)))


def fresh_tutorial(seed=0):
    runtime.seed_everything(seed)
    return tutorials.TutorialTranslator(len(numbers.english), len(numbers.french))


model = fresh_tutorial()
pair = (known.source[:1], known.target[:1])
sums = [loss(model, pair) for loss in (usual, one_call)]
first, second = (torch.autograd.grad(value, [*model.parameters()]) for value in sums)
report.equal("the loss", *(value.detach() for value in sums))
flat = [torch.cat([gradient.flatten() for gradient in g]) for g in (first, second)]
report.equal("all gradients", *flat, rtol=1e-3, atol=1e-6)

# %% [markdown]
# Then, one after the other: batches of 128 with the padding left out of the loss, batches of
# sentences of like length, right targets, and better optimizers. Each program starts from the same
# weights and has equally many seconds. Its speed is one result; the other is what it has learned by
# then: the loss of real words in held-out numbers. Which step will bring most of each?

# %%
singles = train.Batches(known.source, known.target, batch_size=1)
shuffled = train.Batches(known.source, known.target, batch_size=LARGE)
buckets = SentenceBatches(known.source, known.target, batch_size=LARGE)
SGD = ("sgd", 0.01, 0.0)  # with its learning rate and momentum
PROGRAMS = {
    "the usual program": (usual, singles, SGD),
    "one call a sentence": (one_call, singles, SGD),
    "batches, padding ignored": (loss_from_start, shuffled, SGD),
    "length buckets": (loss_from_start, buckets, SGD),
    "right targets": (translation_loss, buckets, SGD),
    "Adam": (translation_loss, buckets, ("adam", 0.003, 0.0)),
    "Muon": (translation_loss, buckets, ("muon", 0.01, 0.9)),
}
# %%
PATIENCE = 0.2 if runtime.is_quick() else 1.5  # seconds for each program


def for_a_while(loss, batches, optimizer_of):
    """Train for `PATIENCE` seconds: the model, and pairs a second."""
    model, pairs, epoch, name_rate = fresh_tutorial(), 0, iter(()), optimizer_of[:2]
    optimizer = make_optimizer(model, *name_rate, momentum=optimizer_of[2])
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < PATIENCE:
        batch = next(epoch, None)
        if batch is None:
            epoch = batches.epoch(pairs)
            continue
        loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        pairs += len(batch[0])
    return model, pairs / spent


# %%
def loss_as_trained(model, loss):
    """Of real words in held-out numbers, each model fed as it was in training."""
    if loss is translation_loss:
        return real_word_loss(model).item()
    places = word_losses(model, tutorials.start_twice(fresh_ones.target))[:, 1:]
    return (places.sum() / places.count_nonzero()).item()


# %%
rates, losses = [], []
for loss_of, batches, optimizer_of in PROGRAMS.values():
    model, rate = for_a_while(loss_of, batches, optimizer_of)
    rates.append(rate)
    losses.append(loss_as_trained(model, loss_of))
drawn = figures.ladder(
    list(PROGRAMS),
    {"pairs a second": rates, f"held-out loss after {PATIENCE:g} s": losses},
    caption="Each row keeps what those above it have mended. Left: more is better, and the axis is "
    "logarithmic. Right: less is better.",
    alt="Bars for seven programs from the usual one to the one with all mended: left pairs a "
    "second, right the held-out loss.",
)
# %%
steps = list(PROGRAMS)
for before, after in zip(steps, steps[1:], strict=False):
    speeds, ends = (column for column in drawn.values())
    gain = f"speed x {speeds[after] / speeds[before]:.2f}, loss {ends[after] - ends[before]:+.2f}"
    report.value(f"{after}", gain)

# %%
fastest = rates[steps.index("Adam")] / rates[0]
report.result(
    "Pairs a second of the batched trainer against the usual program",
    fastest,
    target=50,
    gate=25,
    digits=0,
)
best = min(losses[-2:])
report.holds("the mended program has learned more in the same time", best < losses[0], trained=True)

# %% [markdown]
# Most of the speed comes from two changes: no loop in Python, and many sentences at once. But speed
# alone teaches little: batches with the old small rate take few steps in the same time, and may
# even learn less than one sentence at a time. The mean over many sentences is a more exact
# gradient, and it takes an optimizer with larger steps to turn that into learning. Over so short a
# time Adam may win against Muon, whose steps are dearer; the lesson's training is long enough to
# pay for them.

# %%
clock.stop()
