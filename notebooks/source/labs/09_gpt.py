# %% [markdown]
# # 09 lab · What does a cache save, and when is a bigger model worse?
#
# Every sentence below has been said in a lecture or written in a tutorial. Before you run its cell,
# decide: true, false, or *it depends*? Claims 9.1, 9.2, 9.3 and 9.5 are settled in the
# [lesson](../09_gpt.ipynb). *Stored runs* were made before, since together they take too long here;
# some are made again, for comparison. They were trained on the first nine tenths of Shakespeare's
# training text, and scored on its last tenth; bars and ± are standard errors over the seeds. Losses
# are in nats for each character.

# %%
import time
from functools import partial

import torch
import torch.nn.functional as F

from course_lib import data, recipes, runtime
from course_lib.characters import Dictionary
from course_lib.gpt import GPT, Cache, GPTConfig, generate
from course_lib.sampling import sample
from course_lib.teaching import experiments, report
from course_lib.teaching.experiments import ch09 as stored
from course_lib.teaching.figures import ch09_lab as figures
from course_lib.teaching.figures.ch02_lab import lines
from course_lib.teaching.figures.ch03 import standard_error
from course_lib.teaching.figures.ch07_lab import dots

clock = report.Clock(budget=70)


# %%
def shown(values, digits=2):
    return f"{values.mean():.{digits}f} ± {standard_error(values):.{digits}f}"


def clearly(values, least=0.0):
    """Whether the mean over seeds lies above `least`, and above two standard errors."""
    return bool(values.mean() > max(least, 2 * standard_error(values)))


# %% [markdown]
# ## 9.4 · “Caching keys and values changes nothing but the time”
#
# To choose the next symbol, a GPT needs what it knows of all symbols before it. A loop without a
# cache reads the whole text again for each new symbol. With a cache, the keys and values of what
# was read stay where they are, and only the new symbol goes through the layers. The model below has
# 4 layers, 128 numbers for each symbol, and a context of 1,024. First: are the logits equal,
# whether it reads all at once, one by one, or in portions?

# %%
LENGTH = 1024
runtime.seed_everything(0)
writer = GPT(GPTConfig(vocabulary=77, length=LENGTH, positions="rotary")).eval()
ids = torch.randint(77, (1, LENGTH))


@torch.inference_mode()
def read_in_portions(size):
    """The logits after each portion of `size` ids, (portions, 77), and the cache at the end."""
    cache = Cache(writer, batch=1)
    return torch.cat([cache.read(part) for part in ids.split(size, dim=1)]), cache


with torch.inference_mode():
    at_once = writer(ids)[0]  # (1024, 77)
one_by_one, cache = read_in_portions(1)
report.equal("logits, one by one and at once", one_by_one, at_once, rtol=1e-4, atol=1e-5)
in_portions, _ = read_in_portions(100)
ends = torch.arange(99, LENGTH, 100).tolist() + [LENGTH - 1]
report.equal("logits, 100 at a time", in_portions, at_once[ends], rtol=1e-4, atol=1e-5)

# %% [markdown]
# Now the time. How long does the next symbol take, when 16 or 1,024 have to be known, with the
# cache and without? If the text doubles, by which factor will each of the two grow?

# %%
PLACES, ROUNDS = (16, 32, 64, 128, 256, 512, 1024), 3


def next_without(count):
    writer(ids[:, :count])


def next_with(count):
    cache.filled = count - 1  # as if it had just read so many
    cache.read(ids[:, count - 1 : count])


@torch.inference_mode()
def milliseconds(way, count, repeats):
    started = time.perf_counter()
    for _ in range(repeats):
        way(count)
    return 1000 * (time.perf_counter() - started) / repeats


# %%
ways = {"read again": (next_without, 1), "cache": (next_with, 10)}
times = {name: torch.zeros(ROUNDS + 1, len(PLACES)) for name in ways}
for round_number in range(ROUNDS + 1):
    for place, count in enumerate(PLACES):
        for name, (way, repeats) in ways.items():
            times[name][round_number, place] = milliseconds(way, count, repeats)
times = {name: values[1:] for name, values in times.items()}  # the first round warms up


# %%
def symbols_per_second(cost):
    """(rounds, places) ms -> (rounds, places): of a whole text that ends at each place."""
    places = torch.tensor([0, *PLACES])
    cost = torch.cat((cost[:, :1], cost), dim=1)  # before the first place, as at it
    spent = torch.cumulative_trapezoid(cost, places.float(), dim=1)
    return 1000 * places[1:] / spent


speeds = {name: symbols_per_second(cost) for name, cost in times.items()}
drawn = lines(
    [str(count) for count in PLACES],  # each twice the one before
    {"milliseconds for the next symbol": times, "symbols a second, whole text": speeds},
    ("length of the text", ""),
    caption="Left: what one more symbol costs. Right: how fast a whole text of that length is "
    "written, its beginning included. All axes are logarithmic.",
    alt="Two panels against the length of the text. Left, the time for one symbol rises steeply "
    "without a cache and stays nearly flat with one. Right, the speed falls steeply without.",
    log="y",
)
gain = (speeds["cache"] / speeds["read again"]).median(dim=0).values  # (places,)
report.result("Speed with a cache at 1,024", gain[-1].item(), "times", target=25, gate=10, digits=1)


# %%
@torch.inference_mode()
def write_again(text, count):
    """Greedy, without a cache."""
    for _ in range(count):
        text = torch.cat((text, writer(text)[:, -1:].argmax(-1)), dim=1)
    return text


same = generate(writer, ids[:, :5], 100).equal(write_again(ids[:, :5], 100))
report.holds("both write the same 100 symbols", same)
report.verdict(
    "9.4",
    "Caching keys and values changes nothing but the time",
    outcome="true" if same else "false",
    evidence="equal logits and texts; so many times as fast for a whole text of "
    + ", ".join(f"{n}: {x:.1f}" for n, x in zip(PLACES, gain.tolist(), strict=True) if n >= 64),
)

# %% [markdown]
# A causal mask is what allows it: no later symbol changes what an earlier one knows, so its keys
# and values are final. Reading again costs as many places as the text is long, for each symbol:
# twice the text, twice the work, and more, since each place looks at twice as many keys. (In short
# texts most of the time goes into starting the operations.) With a cache it is one place, plus a
# look at all keys, which is cheap: twice the text, hardly more. It is paid for with memory: two
# vectors for each symbol, in each layer. In large models that memory is often what sets the limit.

# %% [markdown]
# ## 9.6 · “A bigger model is always better for the same compute”
#
# > **FLOP**: one multiplication or addition of floating-point numbers; the compute of a training
# > run is counted in them.
#
# For the same FLOPs a small model sees more text than a large one. Stored runs: five sizes, each
# trained until one of three budgets was used up. Counted this way the result is the same on every
# machine. Where will the best size lie for the smallest budget, and where for one ten times as
# large?

# %%
grid = experiments.stored("9.6")
loss, weights, steps = (grid.values(name) for name in ("loss", "weights", "steps"))


def by_size(values, budget):
    """(seeds, sizes)"""
    return torch.stack([values[stored.size_name(*s, budget)] for s in stored.SIZES], dim=1)


names = {budget: f"{budget / 1e9:.0f} billion FLOPs" for budget in stored.BUDGETS}
losses = {names[budget]: by_size(loss, budget) for budget in stored.BUDGETS}
sizes = by_size(weights, stored.BUDGETS[0])[0].tolist()
best = figures.budgets(
    sizes,
    losses,
    caption="Each line is one budget; small marks are the seeds, and the ring is the best size. "
    "Left of it models are too small, right of it they see too little text.",
    alt="Held-out loss against the number of weights for three budgets; each line has its lowest "
    "point at another size, further right for larger budgets.",
)
again = experiments.confirm("9.6", stored.size_name(1, 32, stored.BUDGETS[0]), loss=0.1)

# %%
for name, budget in zip(best, stored.BUDGETS, strict=True):
    seen = by_size(steps, budget)[0] * stored.CHARACTERS
    text_seen = ", ".join(f"{count / 1000:.0f}k" for count in seen.tolist())
    report.value(f"{name}, characters seen by the sizes", text_seen)
smallest, *_, largest = best.values()
report.holds("with more compute, a larger model is the best", smallest < largest)
worse = {name: values[:, -1] - values[:, best[name]] for name, values in losses.items()}
report.verdict(
    "9.6",
    "A bigger model is always better for the same compute",
    outcome="false" if any(clearly(values, least=0.02) for values in worse.values()) else "true",
    evidence="; ".join(
        f"{name}: best at {sizes[best[name]] / 1000:.0f}k weights, the largest is worse by "
        f"{values.mean():.2f}"
        for name, values in worse.items()
    ),
)

# %% [markdown]
# Each budget has a size that fits. A smaller model has learned what it can, a larger one has not
# been shown enough text. With more compute both should grow, the model and the text. Large language
# models are planned with such curves, measured on small ones and then extended (Hoffmann and others
# 2022, “Training compute-optimal large language models”). Where all sizes take equally many steps,
# the bigger ones get more compute, and often win: that may be where the sentence comes from.

# %% [markdown]
# ## 9.7 · “AdamW is the optimizer for Transformers; others gain nothing”
#
# Chapter 07 introduced Muon, which makes the step of each matrix orthogonal. Here are stored runs
# of a small GPT (2 layers of 64), three learning rates for each optimizer, all of equally many
# steps. By how much will the best losses differ: a hundredth of a nat, a tenth, or more?

# %%
grid = experiments.stored("9.7")
loss, curve = grid.values("loss"), grid.values("curve")  # (seeds,), (seeds, points)


def by_rate(names, rates):
    """name -> rate -> losses (seeds,), and the setting with the lowest mean of each name."""
    table = {name: {f"{rate:g}": loss[f"{name}, {rate:g}"] for rate in rates} for name in names}
    best = {
        name: f"{name}, {min(row, key=lambda rate, row=row: row[rate].mean().item())}"
        for name, row in table.items()
    }
    return table, best


NAMES = {"adamw": "AdamW", "muon": "Muon"}
rates, chosen = {}, {}
for name, tried in stored.RATES.items():
    table, best_of = by_rate([name], tried)
    rates, chosen = rates | table, chosen | best_of
drawn = dots(
    {f"held-out loss, {NAMES[name]}, by rate": values for name, values in rates.items()},
    caption="A dot for each of three seeds, a line for their mean. The scales differ.",
    alt="Two panels, AdamW and Muon: the held-out loss for three learning rates each.",
)

# %%
points = [round((i + 0.5) * stored.STEPS / stored.POINTS) for i in range(stored.POINTS)]
drawn = lines(
    points,
    {"": {NAMES[name]: curve[setting] for name, setting in chosen.items()}},
    ("step", "training loss"),
    caption="Each optimizer at its best rate: the mean loss of each tenth of the run.",
    alt="Training loss against steps for AdamW and Muon, each at its best rate.",
)[""]
again = experiments.confirm("9.7", chosen["muon"], loss=0.1)

# %%
ends = {name: loss[setting] for name, setting in chosen.items()}
gain = ends["adamw"] - ends["muon"]
pairs = zip(points, drawn["Muon"], strict=True)
soon = next((step for step, value in pairs if value <= drawn["AdamW"][-1]), stored.STEPS)
report.verdict(
    "9.7",
    "AdamW is the optimizer for Transformers; others gain nothing",
    outcome="false" if clearly(gain, least=0.02) else "true",
    evidence=f"held-out loss at the best rates: AdamW {shown(ends['adamw'], 3)}, Muon "
    f"{shown(ends['muon'], 3)}; Muon has AdamW's last training loss about at step {soon} of "
    f"{stored.STEPS}",
    effect=gain.mean().item(),
    standard_error=standard_error(gain).item(),
)

# %% [markdown]
# More than a tenth. AdamW scales each weight by itself, and does not know that the weights form
# matrices. Its steps have a few strong directions, and the others are neglected. Muon's have the
# same strength in all directions. Look at the dots, too: at its two larger rates AdamW depends much
# on the seed; and Muon was best at the largest rate tried, so that it might gain still more.
#
# Muon is for matrices between the first layer and the last: embeddings, norms and biases stay with
# AdamW. Each of its steps takes a little longer, so compare seconds, too, before you choose.

# %% [markdown]
# ## 9.8 · “How a GPT is told the positions makes no difference”
#
# GPT-2 adds a learned vector for each place. Rotary positions (chapter 06) turn queries and keys,
# so that a score depends on the distance alone. Stored runs of the small GPT with both, and their
# loss by place in the window. At which places would you expect a difference?

# %%
grid = experiments.stored("9.8")
loss, by_place = grid.values("loss"), grid.values("by_place")  # (seeds,), (seeds, spans)


def group_ends(context):
    """The places are grouped: 1, 2, 3-4, 5-8 ...; the last of each group."""
    return [str(end) for _, end in stored.spans(context)]


_, chosen = by_rate(stored.POSITIONS, stored.POSITION_RATES)
drawn = lines(
    group_ends(64),
    {"": {setting.replace(",", ", rate"): by_place[setting] for setting in chosen.values()}},
    ("place in the window, grouped: 1, 2, up to 4, up to 8 ...", "held-out loss"),
    caption="Each kind at the best of three rates, the loss of what follows each place: further "
    "right, the model has seen more.",
    alt="Held-out loss against the place in the window for learned and rotary positions; both fall "
    "from left to right.",
)[""]

# %%
gain = loss[chosen["learned"]] - loss[chosen["rotary"]]
report.verdict(
    "9.8",
    "How a GPT is told the positions makes no difference",
    outcome="false" if clearly(gain.abs(), least=0.02) else "true",
    evidence="held-out loss: "
    + "; ".join(f"{s.replace(',', ' (rate')}) {shown(loss[s], 3)}" for s in chosen.values()),
    effect=gain.mean().item(),
    standard_error=standard_error(gain).item(),
)

# %% [markdown]
# As long as one or two characters are known, rotary positions gain nothing; from the third on the
# lines part. What matters for the next character is mostly what stands one, two or three places
# before it. With learned vectors the model must find out for each pair of places anew what “one
# before” is; with rotary positions the distance is given, and what is learned at one place holds at
# all of them. That saves steps; a model that is trained for longer has more time to find out.

# %% [markdown]
# ## 9.9 · “A longer context always helps”
#
# Stored runs with contexts of 4 to 256 characters. Each step has equally many characters, and each
# run equally many steps. Which context has the lowest loss? And in the window of 256: how does the
# loss fall with the place, and where does it stop?

# %%
grid = experiments.stored("9.9")
loss = {int(name): values for name, values in grid.values("loss").items()}
last = max(loss)
drawn = lines(
    list(loss),
    {"": {"loss": torch.stack(list(loss.values()), dim=1)}},
    ("context", "held-out loss"),
    caption="Small GPTs after equally many steps, over all places of their windows.",
    alt="Held-out loss against the context, from 4 to 256 characters.",
    log="x",
)

# %%
drawn = lines(
    group_ends(last),
    {"": {"loss": grid.values("by_place")[str(last)]}},
    ("place in the window, grouped: 1, 2, up to 4, up to 8 ...", "held-out loss"),
    caption=f"The model with a context of {last}: what it gains from what it has seen.",
    alt="Held-out loss against the place in a window of 256: it falls, then stays level.",
)[""]["loss"]

# %%
longer = {
    f"{short} to {long}": loss[short] - loss[long]
    for short, long in zip(list(loss), list(loss)[1:], strict=False)
}
helps = {name: clearly(values) for name, values in longer.items()}
best = min(loss, key=lambda context: loss[context].mean().item())
report.verdict(
    "9.9",
    "A longer context always helps",
    outcome="true" if all(helps.values()) else f"depends: up to about {best} characters here",
    evidence="less loss by going from "
    + ", ".join(f"{name}: {shown(values)}" for name, values in longer.items()),
)

# %% [markdown]
# In the window of 256 the loss stops falling after about 16 places. A longer context can only help
# with what depends on it, and with what the model has had time to learn. This one has learned to
# spell: letters, words, who speaks. For that a few words are enough. Long contexts cost time and
# memory, and each step has fewer windows. Models that have learned more use more of them.

# %% [markdown]
# ## 9.10 · “A low temperature makes text truer and duller”
#
# A GPT, trained now for some seconds, writes texts at six temperatures. There are two simple
# measures. How many of its words exist, that is, occur in the training text? And how varied is what
# it writes: of all its runs of eight characters, how many are different ones? The same is counted
# in held-out Shakespeare. At temperature 1, will the model be above Shakespeare or below, in each?

# %%
recipe = recipes.shakespeare_short()
history = recipe.fit()
play = data.load("shakespeare")
dictionary = Dictionary.build(play.train, play.test)
TEMPERATURES, SEEDS, TEXTS, COUNT = (0.2, 0.4, 0.7, 1.0, 1.3, 1.6), 5, 10, 128
LONGEST_RUN = 8


def words_of(text):
    return "".join(c.lower() if c.isalpha() else " " for c in text).split()


known_words = set(words_of(play.train))


# %%
def real_words(text):
    """Percent of the words that occur in the training text; cut ones at both ends left out."""
    words = words_of(text)[1:-1]
    return 100 * sum(word in known_words for word in words) / max(1, len(words))


def variety(texts):
    """Percent of the runs of `LONGEST_RUN` ids that are different ones; texts (rows, T)."""
    runs = texts.unfold(1, LONGEST_RUN, 1).flatten(0, 1)  # (runs, 8)
    return 100 * len(runs.unique(dim=0)) / len(runs)


def measure(texts):
    """Both, for texts (SEEDS, TEXTS, T): (SEEDS, 2)."""
    return torch.tensor(
        [
            [sum(real_words(dictionary.decode(t)) for t in rows) / TEXTS, variety(rows)]
            for rows in texts
        ]
    )


# %%
held_out = dictionary.encode(play.test)
starts = runtime.generator_for(0)
begin = torch.randint(len(held_out) - COUNT, (SEEDS * TEXTS,), generator=starts)
passages = torch.stack([held_out[i : i + COUNT] for i in begin.tolist()])  # (rows, T)
found = []
for number, temperature in enumerate(TEMPERATURES):
    choose = partial(sample, temperature=temperature)
    drawing = {"choose": choose, "generator": runtime.generator_for(1, number)}
    texts = generate(recipe.model, passages[:, :8], COUNT - 8, slide=True, **drawing)
    found.append(measure(texts.view(SEEDS, TEXTS, COUNT)))
    if temperature in (0.2, 1.0, 1.6):
        report.sample(f"temperature {temperature}", dictionary.decode(texts[0]))
found = torch.stack(found, dim=1)  # (SEEDS, temperatures, 2)
reference = measure(passages.view(SEEDS, TEXTS, COUNT))[:, None].expand_as(found)

# %% [markdown]
# A third measure asks for truth in another sense. What probability would held-out text have at each
# temperature? That is the loss of its next characters, with the logits divided by the temperature.

# %%
context = recipe.model.config.length
windows = held_out[: 200 * context + 1]
inputs, labels = windows[:-1].view(-1, context), windows[1:].view(-1, context)
with torch.inference_mode():
    logits = recipe.model(inputs).flatten(0, 1)  # (200 T, vocabulary)
surprise = torch.stack([F.cross_entropy(logits / t, labels.flatten()) for t in TEMPERATURES])
panels = {
    "loss of held-out text": {"written": surprise.expand(2, -1)},
    "words that exist (%)": {"written": found[..., 0], "Shakespeare": reference[..., 0]},
    "different runs of eight (%)": {"written": found[..., 1], "Shakespeare": reference[..., 1]},
}
drawn = lines(
    TEMPERATURES,
    panels,
    ("temperature", ""),
    caption="Left: how much held-out text surprises the model at that temperature. Middle: words "
    "that occur in the training text. Right: variety.",
    alt="Three panels against temperature: the loss of held-out text has its lowest point near 1, "
    "the share of words that exist falls, and the variety rises.",
)

# %%
cold, usual = TEMPERATURES.index(0.4), TEMPERATURES.index(1.0)
truer = found[:, cold, 0] - found[:, usual, 0]
duller = found[:, usual, 1] - found[:, cold, 1]
likeliest = TEMPERATURES[int(surprise.argmin())]
report.verdict(
    "9.10",
    "A low temperature makes text truer and duller",
    outcome="true" if clearly(truer) and clearly(duller) else "false",
    evidence=f"temperature 0.4 against 1: {shown(truer, 1)} points more words that exist, "
    f"{shown(duller, 1)} points fewer different runs; held-out text is likeliest at {likeliest}",
)

# %% [markdown]
# At 1 the model invents many words, far more than Shakespeare, and is as varied as he is. A model
# with little training spreads some probability over what is wrong. Dividing by a low temperature
# takes it away, and with it what is rare and right: the text falls back on the same few words. As a
# description of the language nothing is truer than about 1, for which the model was trained. Choose
# by what you want: low for one good answer, near 1 for many different ones.

# %% [markdown]
# ## 9.11 · “A language model only copies its training text”
#
# Stored runs: the small GPT, trained for equally many steps on 5,000, 50,000 or 500,000 characters
# of Shakespeare, then writes at temperature 1. Of all runs of 5, 10, 20 ... characters that it
# wrote, how many stand in the training text to the letter? As a reference, the same is asked of
# Shakespeare's own later text, which cannot have copied. Which of the three models is a copier?

# %%
grid = experiments.stored("9.11")
written, fresh = grid.values("written"), grid.values("fresh")  # (seeds, lengths)
drawn = lines(
    stored.COPY_LENGTHS,
    {
        name: {"written by the GPT": written[name], "Shakespeare, held out": fresh[name]}
        for name in written
    },
    ("length of the run", "found in the training text (%)"),
    caption="The three panels differ in how much text there was to learn from.",
    alt="Three panels by the size of the training text: share of runs found in it against their "
    "length. For the smallest text the GPT's line stays high; for the others it lies at or below "
    "that of held-out Shakespeare.",
)
again = experiments.confirm("9.11", next(iter(written)), loss_known=0.2)

# %%
place = stored.COPY_LENGTHS.index(20)
beyond = {name: written[name][:, place] - fresh[name][:, place] for name in written}
copiers = [name for name, values in beyond.items() if clearly(values, least=5.0)]
if len(copiers) == len(beyond):
    outcome = "true"
else:
    outcome = "depends: on how often it has read each passage" if copiers else "false"
read = {name: stored.STEPS * stored.CHARACTERS / size for name, size in
        zip(beyond, stored.SHARES, strict=True)}  # fmt: skip
report.verdict(
    "9.11",
    "A language model only copies its training text",
    outcome=outcome,
    evidence="runs of 20 characters found in the training text, beyond those of held-out "
    "Shakespeare: "
    + ", ".join(
        f"{shown(values, 1)} % ({name}, read {read[name]:.1f} times)"
        for name, values in beyond.items()
    ),
)

# %% [markdown]
# A text that is read dozens of times is learned by heart: the model above has a very low loss on
# it, and a high one on everything else. Of a long text the model has too few weights to keep the
# passages, and meets each of them too seldom. It learns how words are made and put together, and
# what it writes is new. Large models do copy passages that occur many times in their training text,
# so repeated passages are taken out of it.

# %%
clock.stop()
