# %% [markdown]
# # 09 · How does predicting the next letter become writing?
#
# Somebody has covered a play with a sheet of paper, and draws it aside letter by letter. You see
# *quee*. What comes next? And what if you saw only *e*? Below, what follows in eight plays of
# Shakespeare, counted: after nothing, after *e*, after *ee*, after *quee* (␣ is a blank). From left
# to right, what happens to the number of characters that may follow? And does the likeliest one
# always become likelier?

# %%
import math
import re
from collections import Counter

import torch

from course_lib import characters, data, gpt, recipes, runtime, sampling, train
from course_lib.teaching import plot, report, widgets
from course_lib.teaching.figures import ch09 as figures

clock = report.Clock(budget=130)
play = data.load("shakespeare")


def following(context):
    counts = Counter(re.findall(f"(?={context}(.))", play.train, re.DOTALL))
    return {symbol: count / counts.total() for symbol, count in counts.items()}


shown = figures.next_symbols(
    {f"after “{context}”": following(context) for context in ("", "e", "ee", "quee")},
    caption="What follows in the plays. The more of the past is known, the fewer may follow.",
    alt="Bars. After nothing, e and ee many characters are possible; after quee n nearly alone.",
)
report.holds("after quee it is nearly always n", shown["after “quee”"]["n"] > 0.9)

# %% [markdown]
# Ever fewer characters may follow. Yet after *ee* the likeliest is less likely than after *e*: one
# letter more is not always a help, but four settle it.
#
# Now draw a character according to such bars, put it behind the text, and ask again. What comes out
# is writing. Programs that chat write in this way, too. They guess far better, and were fine-tuned
# (chapter 08) on good answers.
#
# > **language model**: gives every symbol a probability of coming next, given those before it.
#
# Counting soon ends: most phrases of twenty characters were never written before, and what was
# never seen cannot be counted. A GPT is a network that gives such probabilities for any text: the
# decoder half of chapter 06's Transformer, without an encoder to look at. The letters stand for
# *generative pretrained Transformer*.
#
# **When you are through you can** say how good a guesser is, write a GPT's block by hand, explain
# why it learns from all places at once and must write one by one, mark a prompt so that only its
# answer is learned, load GPT-2, draw with temperature, top-k and top-p, and keep keys and values so
# that writing stays fast. You will have trained one GPT that adds without a mistake, and one that
# writes plays. It takes about three hours to read and try; the code runs within about two minutes.
# You need chapters 06 and 07; of 08, only the pieces of words.

# %% [markdown]
# ## Build it: a dictionary of symbols
#
# The notes this course grew from call the list of symbols a dictionary: each symbol has a number.
# Here a symbol is a character, so nothing has to be cut; later we come to pieces of words. What
# should happen to a character that only the test part has?

# %%
numbers = {symbol: number for number, symbol in enumerate(sorted(set(play.train)))}
line = "To be, or not to be"
by_hand = [numbers[symbol] for symbol in line]
print(by_hand)

dictionary = characters.Dictionary.build(play.train, play.test)
report.equal("as the library", torch.tensor(by_hand), dictionary.encode(line))
report.holds("and back", dictionary.decode(by_hand) == line)
print("in the test part only:", sorted(set(play.test) - set(play.train)))
print(f"{len(dictionary)} symbols:", figures.visible("".join(dictionary.symbols)))
train_ids, test_ids = dictionary.encode(play.train), dictionary.encode(play.test)
print(f"{len(train_ids):,} characters to train on, {len(test_ids):,} to test on")

# %% [markdown]
# The one such character, an 8, gets a number too, at the end of the list. The network will never
# have seen it, and will be badly surprised by it. That is fair: it *is* a surprise.
#
# ## Build it: how good is a guesser?
#
# By its surprise: minus the logarithm of the probability that it gave to what really came. The mean
# of that over a text is the cross entropy of chapter 01; its unit is the nat (chapter 03). Somebody
# who gives all symbols the same probability has a loss of the logarithm of their number.
#
# > **perplexity**: the exponential of the loss. The guesser is as unsure as if it had to choose
# > among so many symbols that are all equally likely.
#
# How good are counts of single characters, of pairs, of triples ...? They are made on the training
# part, and scored on the test part, which begins where the other ends. In a context that was never
# seen, counting has no answer. *Plain* counting pretends that each context was seen once more,
# followed by every symbol in equal shares. *Mixed* counting adds what the context says that is
# shorter by one character; this weighs the more, the more kinds of characters have followed the
# longer one (after Witten and Bell 1991). Does the loss fall with each further character?


# %%
def look_up(wanted, known, numbers):
    """The number of each of `wanted` (N,) in the sorted list `known`; 0 for the others: (N,)."""
    place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)  # where it would stand
    return numbers[place] * (known[place] == wanted)


size, plain, mixed = len(dictionary), {}, {}
shorter = torch.full(test_ids.shape, 1 / size, dtype=torch.float64)
for length in range(8):  # of the context
    powers = size ** torch.arange(length, -1, -1)  # a run of characters becomes one large number
    seen, asked = ((ids.unfold(0, length + 1, 1) * powers).sum(1) for ids in (train_ids, test_ids))
    runs, times = seen.unique(return_counts=True)  # contexts, each with what follows; sorted
    contexts, owner, kinds = (runs // size).unique_consecutive(
        return_inverse=True, return_counts=True
    )
    whole = look_up(asked, runs, times)
    totals = torch.zeros_like(contexts).index_add(0, owner, times)  # how often each was seen
    begin = look_up(asked // size, contexts, totals)
    trust = 1 + look_up(asked // size, contexts, kinds)  # in what the shorter context says
    plain[length] = -((whole + 1 / size) / (begin + 1)).log().mean().item()
    shorter = (whole + trust * shorter[-len(whole) :]) / (begin + trust)
    mixed[length] = -shorter.log().mean().item()

# %%
uniform = math.log(size)
counted = figures.losses(
    {"plain counting": plain, "mixed counting": mixed},
    {"all symbols alike": uniform},
    caption="Loss on the test part. Plain counting is at its best with three characters, mixed "
    "counting with four.",
    alt="Two curves that fall together from 3.3 at no context to below 2 at three characters. "
    "Plain counting then rises steeply, mixed counting goes a little lower first. The line of all "
    "symbols alike lies above both.",
)
for name, value in {"single characters": plain[0], "pairs": plain[1], **counted}.items():
    print(f"{name:<18} loss {value:.3f}, perplexity {math.exp(value):.1f}")
report.holds("longer contexts help at first", plain[3] < plain[2] < plain[1])
report.holds("and hurt later", plain[7] > plain[4] and mixed[7] > mixed[4])
report.holds("mixing is better", counted["mixed counting"] < counted["plain counting"])

# %% [markdown]
# It falls up to three characters, or four where lengths are mixed. A context of seven knows more,
# but many of those in the test were never counted, and for counting *the king* and *the kind* have
# no more in common than any two. A network can treat like things alike. Will that bring it below
# both ways of counting?
#
# ## Build it: all places at once
#
# A window of text is cut out at a random place. The labels are the same window, moved on by one:
# each place is to say what comes next. A window of 64 characters is 64 exercises, from “after one
# character” to “after 64”.
#
# > **context (of a language model)**: how many symbols it can look at, and so the longest window.

# %%
windows = characters.WindowBatches(train_ids, length=12, batch_size=2)
inputs, labels = next(iter(windows))
print("inputs", tuple(inputs.shape), " labels", tuple(labels.shape))
for place in range(0, 12, 4):
    past = figures.visible(dictionary.decode(inputs[0, : place + 1]))
    print(f"{past:<13} -> {figures.visible(dictionary.decode(labels[0, place : place + 1]))}")
report.holds("the labels are the inputs, moved on", inputs[:, 1:].equal(labels[:, :-1]))

# %% [markdown]
# ## Build it: a block by hand
#
# Here is a whole GPT with one block, written out, for you to read. All of its parts are from
# chapter 06: vectors for symbols and for places, a pre-norm layer with causal attention, and a
# linear layer to one logit for each symbol. That last layer is called the head of the model (not to
# be confused with the heads of attention). It uses the embedding's own table, as chapter 07's
# translator did: they are *tied*. GELU is a ReLU with a soft bend, computed by GPT-2 with a tanh.
# Which shape has `scores`, and which of its entries become minus infinity?

# %%
runtime.seed_everything(0)
small = gpt.GPT(gpt.GPTConfig(len(dictionary), length=12, width=16, heads=2, layers=1)).eval()
for weight in small.parameters():  # larger than at a usual start, so that mistakes show
    torch.nn.init.normal_(weight, std=0.3)
layer = small.stack.layers[0]
heads = layer.self_attn


def split(x):
    return x.unflatten(-1, (2, 8)).transpose(1, 2)  # (B, T, 16) -> (B, heads, T, 8)


with torch.no_grad():
    x = small.embedding.weight[inputs] + small.stack.positions.weight[:12]  # (B, T, 16)
    projected = layer.norm1(x) @ heads.in_proj_weight.T + heads.in_proj_bias  # (B, T, 48)
    q, k, v = (split(part) for part in projected.split(16, dim=-1))
    scores = q @ k.transpose(-2, -1) / 8**0.5  # (B, heads, T, T)
    later = torch.ones(12, 12).triu(1).bool()  # what comes after each place
    weights = scores.masked_fill(later, float("-inf")).softmax(dim=-1)
    joined = (weights @ v).transpose(1, 2).flatten(2)  # (B, T, 16)
    x = x + heads.out_proj(joined)  # the first shortcut
    inner = torch.nn.functional.gelu(layer.linear1(layer.norm2(x)), approximate="tanh")
    x = x + layer.linear2(inner)  # (B, T, 64) -> (B, T, 16), the second shortcut
    by_hand = small.stack.norm(x) @ small.embedding.weight.T  # (B, T, 77)

# %%
with torch.no_grad():
    logits = small(inputs)
report.equal("logits", by_hand, logits, rtol=1e-4, atol=1e-4)
print("scores", tuple(scores.shape), " logits", tuple(logits.shape))
parts = {"embedding and head": small.embedding, "places": small.stack.positions, "block": layer,
         "last norm": small.stack.norm}  # fmt: skip
for name, part in parts.items():
    print(f"{name:<19}{sum(p.numel() for p in part.parameters()):>6,} parameters")

# %% [markdown]
# In training, the text is known. So nobody has to wait: one pass gives the logits at all places.
# When a GPT writes, the next symbol does not exist before it is chosen: one pass for each. Do both
# ways give the same numbers? We compare the 12 rows of one pass with the last rows of 12 passes.

# %%
with torch.no_grad():
    rows = [small(inputs[:, : place + 1])[:, -1] for place in range(12)]  # 12 of (B, 77)
serial = torch.stack(rows, dim=1)  # -> (B, 12, 77)
difference = (serial - logits).abs().max().item()
report.verdict(
    "9.1",
    "One training pass predicts every position at once; generating goes one by one, with the same "
    "numbers",
    outcome="true" if difference < 1e-4 else "false",
    evidence=f"largest difference of 24 rows of logits {difference:.1g}, of logits up to "
    f"{logits.abs().max().item():.1f}; 1 pass against 12",
)

# %% [markdown]
# **No cheating.** What makes this possible is the mask. Without it, place 5 would see place 6, and
# that holds its answer. Below, each symbol is changed in turn (columns), and we see at which places
# the logits move (rows). Where will the right map, that of the GPT with its mask, be white?


# %%
@torch.no_grad()
def moved(model):
    """How far the logits at each place move when one symbol is changed: (T, T)."""
    before, columns = model(inputs), []
    for place in range(12):
        changed = inputs.clone()
        changed[:, place] = (changed[:, place] + 1) % len(dictionary)
        columns.append((model(changed) - before).abs().amax(dim=(0, 2)))  # (B, T, 77) -> (T,)
    return torch.stack(columns, dim=1)


def unmasked(model):
    return lambda ids: model.head(model.stack(model.embedding(ids)))


reach, cheating = moved(small), moved(unmasked(small))
figures.text_maps(
    {"without mask": (cheating > 1e-4).float(), "causal": (reach > 1e-4).float()},
    dictionary.decode(inputs[0]),
    caption="Blue: when the symbol of the column changes, the logits of the row move. With a mask "
    "nothing moves that stands before it.",
    alt="Left, all squares are blue. Right, only those on and below the diagonal.",
    labels=("symbol that is changed", "place of the logits"),
)
report.holds("without mask everything moves", bool((cheating > 1e-4).all()))

# %% [markdown]
# Is the mask *enough*? A good test is a text from which nothing can be learned: random symbols of 8
# kinds, new ones for every batch. Whoever gets below the logarithm of 8 has peeped. Two small GPTs
# get 12 places each, one with and one without the mask. How low can the loss of the second one
# come? (One place has nothing to peep at.)


# %%
def guess_noise(masked, steps=120):
    """Losses by step of a small GPT on random symbols."""
    runtime.seed_everything(0)
    model = gpt.GPT(gpt.GPTConfig(8, 12, width=32, heads=2, layers=1, tied=False))  # own head
    config = train.FitConfig(steps=steps, optimizer="muon", learning_rate=0.02)
    noise = torch.randint(8, (64 * steps, 13))
    batches = train.Batches(noise[:, :-1], noise[:, 1:], batch_size=64)

    def loss(model, batch):
        return gpt.gpt_loss(model if masked else unmasked(model), batch)

    return train.fit(model, batches, loss, config).loss


honest, peeping = guess_noise(True), guess_noise(False)
figures.curves(
    {"causal mask": honest, "without mask": peeping},
    "loss",
    caption="Random symbols. Dotted: the loss of pure chance at all 12 places, and at the last one "
    "only, with no loss at the 11 others.",
    alt="The curve with mask stays at the upper dotted line, the logarithm of 8. The one without "
    "falls to the lower line, a twelfth of it.",
    levels={"ln 8": math.log(8), "ln 8 / 12": math.log(8) / 12},
)
report.holds("without a mask the loss falls far below chance", peeping[-1] < 0.3, trained=True)

# %%
leak = reach.triu(1).max().item()
chance = math.log(8)
gain = chance - sum(honest[-20:]) / len(honest[-20:])
report.verdict(
    "9.3",
    "A causal mask is enough to stop cheating",
    outcome="true" if leak < 1e-6 and gain < 0.02 else "false",
    evidence=f"a changed symbol moves earlier logits by {leak:g}; random symbols: "
    f"{gain:+.3f} nats better than chance with the mask, {chance - peeping[-1]:+.2f} without",
)

# %% [markdown]
# It is enough, as long as nothing else carries news from later places to earlier ones. So test
# every network in this way: one mean over all places, a norm along the wrong axis, labels that were
# not moved, and a loss becomes too good to be true.
#
# ## Build it: a prompt and its completion
#
# Often a model should not write just anything, but complete a given text: answer a question, say.
# The notes draw it so: for a prompt $X_1 X_2 X_3$ to be completed by $Y_1 Y_2 Y_3$, the input is
# $X_1 X_2 X_3 Y_1 Y_2$, and the labels are $-1, -1, Y_1, Y_2, Y_3$.
#
# > **prompt**: the text that a language model is given to go on from.
#
# Our task: sums. For the prompt 12+34= the completion is 046 (a fixed number of digits, so that all
# are equally long). Why is the label of the equals sign not -1?

# %%
from course_lib.addition import DICTIONARY, Addition

task = Addition(digits=2, reverse=False)  # the sum's highest digit comes first
sums_in, sums_out = task.examples(torch.tensor([[12, 34], [85, 67]]))  # each (2, 8)
names = [DICTIONARY.decode([number]) if number >= 0 else -1 for number in sums_out[0].tolist()]
asked = figures.completion(
    list(DICTIONARY.decode(sums_in[0])),
    names,
    caption="Below what goes in, above what should come out. Grey: nothing is asked.",
    alt="Eight pairs of boxes. The labels of 1, 2, plus, 3 and 4 are minus one; equals has 0, the "
    "answer's 0 has 4, its 4 has 6.",
)
print("pairs that count:", asked)

# %% [markdown]
# After the equals sign the answer begins: there its first digit is to be predicted. Why not learn
# the prompt, too? Nobody can know that after 12+ comes a 34; it would be noise in the loss. A place
# with the label -1 is left out of the mean. Below, the loss by hand, and the gradient that it gives
# to the logits of each place. Which places get none?

# %%
runtime.seed_everything(1)
adder = gpt.GPT(gpt.GPTConfig(len(DICTIONARY), 8, width=16, heads=2, layers=1, tied=False))
answers = adder(sums_in)  # (2, 8, 12)
answers.retain_grad()
log_chances = answers.log_softmax(dim=-1)
counts = sums_out != -1
taken = log_chances[counts].gather(1, sums_out[counts][:, None])  # (6, 12) -> (6, 1)
loss = -taken.mean()
report.equal("loss by hand", loss, gpt.gpt_loss(adder, (sums_in, sums_out)))
loss.backward()
by_place = answers.grad.abs().sum(dim=(0, 2))  # (2, 8, 12) -> (8,)
drawn = plot.bars(
    {f"{symbol} (place {place})": value for place, (symbol, value)
     in enumerate(zip(DICTIONARY.decode(sums_in[0]), by_place.tolist(), strict=True))},
    "gradient of the logits, sum of absolute values",
    caption="The gradient at each place of the input 12+34=04: none in the prompt before its last "
    "symbol, the equals sign.",
    alt="Bars by place. The first five places have none, the last three have bars of nearly the "
    "same length.",
)  # fmt: skip

# %%
only_in_prompts = [2, 3, 6, 7, 8]  # digits that no answer's place is given
reached = adder.embedding.weight.grad[only_in_prompts].abs().sum(dim=1)  # (5,)
report.verdict(
    "9.2",
    "Marking prompt positions -1 leaves them out of the loss",
    outcome="true" if by_place[:5].max() == 0 and by_place[5:].min() > 0 else "false",
    evidence=f"gradient of their logits {by_place[:5].max().item():g}, of the others at least "
    f"{by_place[5:].min().item():.2g}; the embeddings of their digits still get "
    f"{reached.min().item():.2g} or more, since the answer's places look at them",
)

# %% [markdown]
# The prompt is not predicted, but it is read: the answer's places look at it, and that way the
# embeddings of its symbols learn, too.
#
# ## Check it: against GPT-2
#
# The library transformers has GPT-2 as it was published. We let it draw random weights, write them
# to a folder in its own format, and read that folder with our module. Its names differ, and the
# matrices of its layers are stored transposed, since “Conv1D”, as the layer is called there,
# multiplies from the other side. All must agree: logits, gradients, and what is written behind a
# prompt. (A file in which a tensor is missing, surplus or of another shape is refused, and the
# error names it.) In the same way `GPT.from_pretrained("gpt2")` reads the published weights, where
# there is a network.

# %%
import tempfile

import transformers

from course_lib import gpt2

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
runtime.seed_everything(0)
sizes = {"vocab_size": 77, "n_positions": 32, "n_embd": 48, "n_head": 4, "n_layer": 3}
theirs = transformers.GPT2LMHeadModel(
    transformers.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
).eval()
for weight in theirs.parameters():
    torch.nn.init.normal_(weight, std=0.2)
with tempfile.TemporaryDirectory() as folder:
    theirs.save_pretrained(folder)
    ours = gpt.GPT.from_pretrained(folder)
    ours.save_pretrained(folder)  # and back
    again = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
print(f"{'ours':<42} theirs")
for name in list(ours.state_dict())[:6]:
    print(f"{name:<42} {gpt2.their_name(name)}")

# %%
text_ids = test_ids[: 4 * 33].view(4, 33)  # (4, 33)
given, wanted = text_ids[:, :-1], text_ids[:, 1:]
loss = gpt.gpt_loss(ours, (given, wanted))
their_loss = torch.nn.functional.cross_entropy(theirs(given).logits.flatten(0, 1), wanted.flatten())
report.equal("logits", ours(given), theirs(given).logits, rtol=1e-4, atol=1e-4)
report.equal("logits of what we saved", again(given).logits, theirs(given).logits, atol=1e-6)
loss.backward()
their_loss.backward()
gradient = ours.stack.layers[1].linear1.weight.grad
report.equal(
    "a gradient, transposed", gradient, theirs.transformer.h[1].mlp.c_fc.weight.grad.T,
    rtol=1e-3, atol=1e-6,
)  # fmt: skip
prompts = given[:, :5]
written = theirs.generate(
    prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=27, do_sample=False,
    pad_token_id=0,
)  # fmt: skip
report.holds("greedy writing: the same 4 texts", gpt.generate(ours, prompts, 27).equal(written))

# %% [markdown]
# ## Train it: sums, to the last digit
#
# A language model that adds? All it does is to say the next symbol; but to say it rightly, it must
# carry. There are a million sums of two numbers of three digits. Two thousand of them are held out
# (and with each a + b also b + a). A sum counts as right if all of its digits are. What loss per
# digit do you expect at the first step, with 12 symbols?

# %%
recipe = recipes.addition()
sum_task, sum_model = Addition(reverse=False), recipe.model
sums_in, sums_out = next(iter(recipe.batches))
print("one example:", DICTIONARY.decode(sums_in[0]), sums_out[0].tolist())
print("input", tuple(sums_in.shape), " logits", tuple(sum_model(sums_in).shape))
print(f"parameters {sum(p.numel() for p in sum_model.parameters()):,}")
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} sums")
history = recipe.fit(callbacks=[plot.LiveCurve()])
report.value("Loss at the first step, and ln 12", f"{history.loss[0]:.2f}, {math.log(12):.2f}")
curve = plot.training_curve(
    history,
    caption="Loss per digit of the answer. First it hardly falls; then, on this scale of powers of "
    "ten, nearly on a straight line.",
    alt="The loss by step, on a scale of powers of ten: a flat beginning, then a long fall.",
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
exact = 100 * recipe.test(sum_model)["exact"]
sum_model.cpu()
report.result("Sums without a mistake, of 2,000 held out", exact, "%", target=99.5, gate=99)
report.seconds("Training", history.seconds, target=25)

# %% [markdown]
# At first all 12 symbols are alike to it. In the end it adds numbers that it never saw together: it
# has seen a part of the other sums once each, and no held-out one, so it cannot have learned these
# by heart. It has found a way to add.
#
# **Look inside.** Where does it look when it writes a digit? Let abc+def=stuv be the sum. Each row
# of the maps below is a place, which must say what comes next: the row of the equals sign says s,
# the thousands, the row of s says t, the hundreds, and so on. Which columns does the last row need?
# For each of the three last rows we take the one of the eight heads that looks most at these.

# %%
from course_lib.teaching.figures import ch06

_, held_out = sum_task.split()
layers = ch06.weights_of(sum_model, sum_task.examples(held_out[:500])[0])  # 2 of (500, 4, 11, 11)
seen = torch.cat(layers, dim=1).mean(dim=0)  # all heads, the mean of 500 sums: (8, 11, 11)
panels, least = {}, 1.0
powers = {"hundreds": [0, 4], "tens": [1, 5], "ones": [2, 6]}  # the columns of their digits
for row, (power, columns) in enumerate(powers.items(), start=8):
    on_both = seen[:, row, columns].sum(dim=1)  # (8,)
    head = on_both.argmax().item()
    panels[power] = seen[head]
    least = min(least, on_both[head].item())
    report.value(f"{power}: its share for the two digits", f"{100 * on_both[head]:.0f}", unit="%")
figures.text_maps(
    panels,
    "abc+def=stu",
    caption="In each frame, the row that writes this digit of the sum. Dark: the two digits of the "
    "same power of ten.",
    framed={"hundreds": 8, "tens": 9, "ones": 10},
    alt="Three lower triangles of eleven by eleven squares. In the row that writes the hundreds a "
    "and d are dark, in that of the tens b and e, in that of the ones c and f.",
)
report.holds("each gives them more than half of its weight", least > 0.5, trained=True)

# %% [markdown]
# The last row needs c and f, and looks there. For every digit of the sum some head has found the
# two digits that are to be added. Whether they get a carry depends on the digits behind them, and
# those the other heads must bring.
#
# ## Train it: plays
#
# Now text that nobody can predict for certain. The network has four blocks, 128 wide, and sees 64
# characters. It has rotary positions (chapter 06) in place of a table of places, and is trained by
# Muon (chapter 07; the lab compares it with AdamW). First see what it writes before it has learned
# anything. The prompt is the name of a speaker, Hamlet, as it stands before his lines.

# %%
recipe = recipes.shakespeare()
writer = recipe.model
inputs, labels = next(iter(recipe.batches))
print("inputs", tuple(inputs.shape), " logits", tuple(writer(inputs).shape))
print(f"parameters {sum(p.numel() for p in writer.parameters()):,}")
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} windows")
prompt = "Ham.\n"
before_training = figures.continuation(writer, dictionary, prompt, 120, seed=1)
report.sample(before_training)

# %%
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="Loss per character in training. Dotted: when as many characters have been read as the "
    "text has.",
    alt="The loss by step falls from above 4, steeply at first, then slowly.",
    epoch=len(recipe.batches),
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
writer.cpu()
all_nats = characters.losses_by_symbol(writer, test_ids, 64)  # (107540,)
held_out_loss = all_nats.mean().item()  # as `recipe.test` has it
report.result(
    "Loss per character, test part", held_out_loss, "nats",
    target=1.69, gate=1.69, better="lower", digits=3,
)  # fmt: skip
report.seconds("Training", history.seconds, target=60)

# %%
found = figures.losses(
    {"plain counting": plain, "mixed counting": mixed},
    {"all symbols alike": uniform, "GPT": held_out_loss},
    caption="The GPT looks at up to 64 characters, and need not have seen the very same before.",
    alt="The two curves of counting; the dashed line of the GPT lies below all of plain counting, "
    "near the lowest point of mixed counting.",
)
whole = len(all_nats) // 64 * 64
by_place = all_nats[:whole].view(-1, 64).mean(dim=0)  # (64,): the first has seen 1 character
better = found["GPT"] < found["plain counting"]
report.holds("better than the best of plain counting", better, trained=True)
report.value("Mixed counting at its best", f"{found['mixed counting']:.3f}", unit="nats")
report.value("GPT, all places of its windows", f"{found['GPT']:.3f}", unit="nats")
report.value("GPT, their second half", f"{by_place[32:].mean().item():.3f}", unit="nats")
report.value("Its perplexity, all places", f"{math.exp(held_out_loss):.2f}")
report.sample(figures.continuation(writer, dictionary, prompt, 500, seed=1, temperature=0.8))

# %% [markdown]
# Plain counting is beaten. But mixed counting, an old and careful method, is a match for a GPT of
# so short a training. The windows' beginnings cost the GPT some loss, since it sees little there;
# compare the second half, too. (When it writes, it always sees at least half of its window.)
#
# Names of speakers, lines of the right length, words that exist or could: all from guessing the
# next character. There is no sense in it; that takes larger networks and more text. But note how
# it was trained: nobody had to write labels, for the text is its own answer. (The last lines were
# drawn at a temperature of 0.8; what that does to them is our next question.)
#
# **What longer training gives.** The recipe `shakespeare_long` takes nearly three times the steps.
# It was run before, with two seeds; its results are stored, and only shown here. It passes mixed
# counting over all places.

# %%
from course_lib.teaching import experiments
from course_lib.teaching.experiments import long_runs
from course_lib.teaching.figures.ch05 import runs

longer = experiments.stored("shakespeare_long")  # `python -m course_lib claims shakespeare_long`
runs(
    {
        "this run": torch.tensor([long_runs.loss_by_part(history.loss)]),
        "shakespeare_long": longer.values("loss")["shakespeare_long"],
    },
    caption="The loss in training, over each run's own length: the same percentage is a later step "
    "of the longer one. More training, less loss.",
    alt="Two falling curves of the loss; that of the longer run ends lower.",
)
reached = longer.values("held-out loss")["shakespeare_long"].mean().item()
report.result(
    "shakespeare_long: loss per character", reached, "nats",
    target=1.56, gate=1.68, better="lower", digits=3,
)  # fmt: skip
report.holds("better than mixed counting, too", reached < counted["mixed counting"])

# %% [markdown]
# ## Build it: from probabilities to a choice
#
# The network gives probabilities. How is one symbol chosen? Always to take the likeliest (greedy,
# chapter 07) suits a task with one right answer, such as a sum. In a play it goes in circles: see
# below. To draw by the probabilities is true to the model; but each rare symbol has a small chance,
# there are many of them, and one bad choice spoils what follows. So one draws from changed
# probabilities. Three ways, each a line or two:
#
# > **top-k**: only the k likeliest symbols may be drawn.
#
# > **top-p**: only the likeliest symbols may be drawn, as few as make up a probability of p; also
# > called nucleus sampling.
#
# The third is chapter 06's temperature, which divides the logits. Which of the three lets fewer
# symbols through when the model is sure than when it is in doubt?

# %%
start = "My lord, I "
with torch.no_grad():
    logits = writer(dictionary.encode(start)[None])[0, -1]  # (77,)
chances = logits.softmax(dim=0)
cooler = (logits / 0.5).softmax(dim=0)
best = logits.topk(3).indices
three = torch.zeros_like(chances)
three[best] = chances[best] / chances[best].sum()
report.equal("temperature", cooler, sampling.probabilities(logits, temperature=0.5), atol=1e-6)
report.equal("top-k", three, sampling.probabilities(logits, top_k=3), atol=1e-6)
rules = {
    "as they are": {},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 2": {"temperature": 2.0},
    "top-k 3": {"top_k": 3},
    "top-p 0.8": {"top_p": 0.8},
}
drawn = figures.next_symbols(
    {name: figures.next_chances(writer, dictionary, start, **rule) for name, rule in rules.items()},
    caption=f"What may follow “{start}”: the eight likeliest symbols under each rule, and how many "
    "it lets through.",
    alt="Five panels of bars. Cooler: the first bars grow. Hotter: all come closer. Top-k: three "
    "are left. Top-p: fewer than without a rule, and more than three.",
)
assert all(len(bars) <= 8 for bars in drawn.values()) and len(drawn["top-k 3"]) == 3

# %%
for name, rule in {"greedy": {"temperature": 0.0}, **rules}.items():
    print(f"--- {name}")
    report.sample(figures.continuation(writer, dictionary, start, 150, seed=2, **rule))

# %% [markdown]
# Top-p: where the model is sure, one symbol may already make up p. Top-k lets k through, however
# sure it is; temperature strikes out none. And the samples? Greedy repeats itself, a temperature of
# 2 destroys the words, and the rules between keep most words whole without going in circles.
#
# **Towards 0.** At temperature 1 a draw is often not the likeliest symbol. As the temperature
# falls, the likeliest takes all. And at 0 itself? Logits divided by 0 are infinite, and the softmax
# of infinities is not a number. So 0 must be defined, as what the limit is. On 2,000 places of the
# test part: how often is a draw the likeliest symbol?

# %%
with torch.no_grad():
    places = writer(test_ids[: 1600 * 64].view(-1, 64)[::16])  # (100, 64, 77)
many = places[:, 24::2].flatten(0, 1)  # every second place from 24 on: (2000, 77)
likeliest = sampling.greedy(many)


def agreement(**rule):
    """Share of draws under a rule that are the likeliest symbol."""
    drawn = sampling.sample(many, torch.Generator().manual_seed(3), **rule)
    return (drawn == likeliest).double().mean().item()


shares = {f"temperature {t:g}": agreement(temperature=t) for t in (1, 0.5, 0.2, 0.1, 1e-3, 1e-6)}
shares |= {"temperature 0": agreement(temperature=0), "top-k 1": agreement(top_k=1)}
plot.bars(
    shares,
    "share of draws that are the likeliest symbol",
    caption="The colder, the more often the likeliest symbol is drawn, in the end always.",
    alt="Bars that grow from about a half at temperature 1 to 1 at the lowest temperatures, at 0 "
    "and for top-k 1.",
)
divided = (many[0] / 0).softmax(dim=0).isnan().any().item()

# %%
limit, exact = shares["temperature 1e-06"], min(shares["temperature 0"], shares["top-k 1"])
report.verdict(
    "9.5",
    "Temperature towards 0, top-k 1 and greedy are the same",
    outcome="true" if limit > 0.998 and exact == 1 and divided else "false",
    evidence=f"of {len(many):,} draws each, as greedy: temperature 1 "
    f"{100 * shares['temperature 1']:.1f} %, 0.1 {100 * shares['temperature 0.1']:.1f} %, 1e-6 "
    f"{100 * limit:.1f} %, 0 (defined as greedy) and top-k 1 {100 * exact:.0f} %; plainly divided "
    "by 0: NaN",
)

# %% [markdown]
# The same, where no two symbols are equally likely. (Among equal ones a tiny temperature still
# draws at random, and greedy takes the first.)
#
# ## Play
#
# Type a prompt, and look at the bars of its next character, and at what is written from there.
#
# - Which temperature gives the text that you like best to read?
# - Set the temperature to 1.5, then lower top-p until the words become words again.
# - Type `Ham.` and a line of your own, then something modern. Then `The q`: how sure is it of the
#   *u*? (The cell below the explorer prints it.)

# %%
import ipywidgets


def sampling_figure(prompt, temperature, top_k, top_p, seed):
    """Bars of the next character, and what is written behind the prompt."""
    rule = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    return figures.explorer_figure(writer, dictionary, prompt, **rule, seed=seed)


explorer = widgets.explore(
    sampling_figure,
    alt="Left, bars of the characters that may come next. Right, the text that is written.",
    caption="Left: what may come next. Right: the prompt and 160 characters behind it.",
    prompt=ipywidgets.Text("My lord, I ", description="prompt", continuous_update=False),
    temperature=widgets.slider("temperature", 0, 2, 0.8, 0.1),
    top_k=widgets.slider("top-k", 1, 77, 77, 1),
    top_p=widgets.slider("top-p", 0.05, 1, 1, 0.05),
    seed=widgets.slider("seed", 0, 20, 0, 1),
)

# %%
after_q = figures.next_chances(writer, dictionary, "The q")
cold_q = figures.next_chances(writer, dictionary, "The q", temperature=0)
report.value("Probability of u after “The q”", f"{after_q['u']:.3f}")
report.holds("it is the likeliest", max(after_q, key=after_q.get) == "u", trained=True)
report.holds("cold, one symbol is left", len(cold_q) == 1)

# %% [markdown]
# ## Look inside: what surprises it?
#
# Falstaff on honour, from the test part. Each character is coloured by how much it surprised the
# network, which saw the 64 before it. Before you look at the picture: at which places of a word is
# it surprised most? (↵ is a line end. The list gives the five worst: the last character of each
# line, behind those that stood before it.)

# %%
first = play.test.index("Well, 'tis no matter; honour pricks")
passage = play.test[first : play.test.index("insensible, then?") - 1]
around = test_ids[first - 64 : first + len(passage)]
pieces = around.unfold(0, 65, 1)  # (N, 65): each character with the 64 before it
with torch.no_grad():
    logits = writer(pieces[:, :-1])[:, -1]  # (N, 77)
nats = torch.nn.functional.cross_entropy(logits, pieces[:, -1], reduction="none")  # (N,)
worst = figures.surprise(
    passage,
    nats.tolist(),
    caption="Red: the network gave this character a small probability. Where does red cluster?",
    alt="Six lines of text with characters on pale to dark red grounds. The beginnings of words "
    "are redder than their ends.",
    columns=67,
)
assert len(worst) == 5
report.sample(*(f"{value:.1f} nats: {text}" for text, value in worst))

# %%
by_letter = {letter: [] for letter in range(1, 8)}
for match in re.finditer(r"[A-Za-z]+", play.test[1:]):
    for letter, place in enumerate(range(*match.span()), start=1):
        by_letter[min(letter, 7)].append(all_nats[place].item())
means = {f"letter {n}" + (" and on" if n == 7 else ""): sum(values) / len(values)
         for n, values in by_letter.items()}  # fmt: skip
plot.bars(
    means,
    "loss per character (nats)",
    caption="The first letter of a word surprises most by far.",
    alt="Bars by place in the word: the first is about twice as long as any other.",
)
values = list(means.values())
report.holds("the first letter surprises more than the fourth", values[0] > values[3], trained=True)

# %% [markdown]
# To guess the first letter one must guess what will be said; the rest is mostly spelling. (A sixth
# or seventh letter stands in a long word, and long words are rare.)
#
# **How far does it look back?** The later its place in the window, the more of the past the network
# sees. At the first place it knows one character, and can hardly do better than the counts of
# pairs. How many characters does it take until more of them bring little?

# %%
seen = range(1, 8)
figures.curves(
    {
        "GPT": by_place.tolist(),
        "plain counting": [plain[count] for count in seen],
        "mixed counting": [mixed[count] for count in seen],
    },
    "loss per character (nats)",
    caption="Loss by how many characters are seen. All fall fast at first; then counting rises, "
    "and the GPT goes on falling, slowly, and with noise.",
    alt="Three curves that begin at about 2.5. Plain counting falls to about 1.8 at three "
    "characters and rises; mixed counting falls lower, and rises from five on. The GPT falls fast "
    "over the first few characters and then slowly.",
    levels={"best of mixed counting": counted["mixed counting"]},
    first=1,
    unit="characters seen",
)
report.value("GPT at places 1, 4, 16, 64", *(f"{by_place[n - 1]:.2f}" for n in (1, 4, 16, 64)))
report.holds("more past helps", bool(by_place[48:].mean() < by_place[3]), trained=True)

# %% [markdown]
# Four or five, about as many as counting can use. What lies further back brings a little more, but
# to the network alone, which need not have seen it before to the letter. And where do its heads
# look? Two of the sixteen: the one that looks most at the character just before, and the one that
# looks back furthest.

# %%
text = passage[43:73]
layers = torch.cat(ch06.weights_of(writer, dictionary.encode(text)[None]), dim=1)[0]  # (16, T, T)
places = torch.arange(len(text))
before = layers[:, places[1:], places[:-1]].mean(dim=1)  # (16,)
distance = (layers * (places[:, None] - places)).sum(dim=-1).mean(dim=1)  # (16,)
near, far = before.argmax().item(), distance.argmax().item()
figures.text_maps(
    {"one step back": layers[near], "far back": layers[far]},
    text,
    caption="Each row is a character and shows where it looks. Left, the line beside the diagonal "
    "is the character just before; right, the weight is spread over more of the past.",
    alt="Two lower triangles of squares. Left, dark squares beside the diagonal; right, paler "
    "squares spread over more columns.",
)
report.value("weight on the character before, by the first", f"{before[near]:.2f}")
report.value("mean distance of the second, in characters", f"{distance[far]:.1f}")

# %% [markdown]
# ## Build it: writing fast
#
# To write its thousandth symbol, must the network read the 999 before it anew? Their keys and
# values cannot change, for no place sees what comes later. So they are kept: chapter 06's key-value
# cache, here with room for the whole context from the start. The lab asks whether anything changes
# but the time (claim 9.4); here is one look. A GPT with a context of 256 writes as much as it can,
# without and with a cache. How many times as fast will the cache be in the end?

# %%
import time

runtime.seed_everything(2)
long = gpt.GPT(gpt.GPTConfig(77, 256, positions="rotary")).eval()
lengths = [32, 64, 128, 192, 255]


@torch.inference_mode()
def seconds_to_write(cached):
    """Seconds until each of `lengths` is written, greedily, and the ids (1, 256)."""
    ids, cache, marks = torch.zeros(1, 1, dtype=torch.int64), gpt.Cache(long, 1), []
    begin = time.perf_counter()
    while ids.shape[1] < 256:
        logits = cache.read(ids[:, -1:]) if cached else long(ids)[:, -1]  # (1, 77)
        ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), dim=1)
        if ids.shape[1] - 1 in lengths:
            marks.append(time.perf_counter() - begin)
    return marks, ids


slow, plain_ids = seconds_to_write(False)
fast, cached_ids = seconds_to_write(True)

# %%
times = figures.speed(
    {"without": slow, "with a cache": fast},
    lengths,
    caption="Without a cache the whole text is read again for each symbol; with one, only the last "
    "symbol is read.",
    alt="Left, a red line that rises steeply and a blue one that is nearly flat. Right, how many "
    "times as fast the cache is: a line that rises with the length.",
)
report.holds("the same 255 symbols", plain_ids.equal(cached_ids))
report.result("Times as fast at 255 symbols", times[-1], target=8, gate=2, digits=1)
report.value("Symbols per second with a cache", f"{255 / fast[-1]:,.0f}")

# %% [markdown]
# The longer the text, the more a cache saves; the lab goes on to 1,024 symbols. `gpt.generate` does
# this for many texts side by side. A text beyond the context is refused with an error, unless one
# chooses `slide=True`: whenever the context is full, its older half is forgotten. The explorer
# above writes so, for its network sees 64 characters.
#
# ## Build it: pieces of words
#
# GPT-2 does not read characters. Chapter 08 cut words into pieces that were learned from a text;
# those of GPT-2 come from a similar rule, which is older.
#
# > **byte-pair encoding (BPE)**: begin with characters; join the two neighbours that occur together
# > most often into one symbol; repeat. The joins, in their order, cut any new text.
#
# Below are six words, each with how often it occurs. Which pair will be joined first? Count before
# you run the cell: a word that occurs six times counts six times. Of equals we take the pair whose
# symbols come first in the list of symbols, which begins with the alphabet. The library
# `tokenizers`, which is made for large texts, decides so, too. Will it find the same pieces?

# %%
from tokenizers import Tokenizer, models, trainers

from course_lib import subwords

counts = {"low": 5, "lower": 2, "newest": 6, "widest": 3, "new": 2, "wide": 1}
words = {tuple(word): count for word, count in counts.items()}
symbols = sorted(set("".join(counts)))
for step in range(1, 7):
    pairs = subwords.count_pairs(words)
    most = [pair for pair in pairs if pairs[pair] == max(pairs.values())]
    pair = min(most, key=lambda two: [symbols.index(symbol) for symbol in two])
    symbols.append("".join(pair))
    words = {subwords.merge(word, pair, symbols[-1]): count for word, count in words.items()}
    print(f"{step}. {' + '.join(pair):<8} {pairs[pair]} times ", *map("|".join, words))
bpe, new_words = subwords.train_bpe(counts, len(symbols)), ("lowest", "wider", "news")
print("new words:", *("|".join(bpe.split(word)) for word in new_words))
library = Tokenizer(models.BPE())
trainer = trainers.BpeTrainer(vocab_size=len(symbols), show_progress=False)
library.train_from_iterator(Counter(counts).elements(), trainer)
report.holds("our module finds the same pieces", list(bpe.pieces) == symbols)
found = library.get_vocab()
report.holds("so does the library tokenizers", sorted(found, key=found.get) == symbols)
cuts = [library.encode(word).tokens for word in new_words]
report.holds("and cuts new words alike", cuts == [bpe.split(word) for word in new_words])

# %% [markdown]
# **Bytes.** What of characters that the training text did not have? GPT-2's answer: a text is
# stored as bytes, and there are only 256 of them. So begin with bytes in place of characters, and
# no text is ever unknown. To be printed, each byte has a letter of its own: the two bytes of ï look
# like Ã¯, and a blank, which belongs to the word behind it, like Ġ. Below, on a part of the plays;
# the smiley never occurred there. How many bytes has it?

# %%
odd = "naïve ☺"
print([subwords.as_bytes(word) for word in subwords.gpt2_words(odd)])
print("bytes of the smiley:", len("☺".encode()))
part = play.train[:150_000]
word_counts = Counter(map(subwords.as_bytes, subwords.gpt2_words(part)))
every_byte = dict.fromkeys(subwords.BYTE_LETTERS, 0)
symbols, merges = subwords.learn_merges(
    {tuple(word): count for word, count in word_counts.items()}, every_byte, 256 + 120
)
byte_bpe = subwords.ByteBPE(symbols, merges)
print("joined first:", " ".join(symbols[256:276]), "... last:", " ".join(symbols[-6:]))
piece_ids = byte_bpe.encode(play.test[:20_000])
report.holds("back to the letter", byte_bpe.decode(piece_ids) == play.test[:20_000])
report.holds("the smiley, too", byte_bpe.decode(byte_bpe.encode(odd)) == odd)
print(f"characters for each piece, in the test part: {20_000 / len(piece_ids):.2f}")

# %% [markdown]
# After a hundred and twenty joins a context of 64 pieces already holds more than half as much text
# again as 64 characters. GPT-2 has 50,000 joins, and about four characters of English to a piece.
# Nothing else in this chapter changes: pieces are symbols.
#
# ## Claims
#
# Four are settled above: 9.1, 9.2, 9.3 and 9.5. The [lab](labs/09_gpt.ipynb) puts the others to the
# test: does a cache change nothing but the time, is a bigger model always better for the same
# compute, is AdamW the optimizer for Transformers, do positions matter, does a longer context
# always help, is cold text truer, does a language model only copy? All verdicts of the course are
# collected in [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 9.1.** Windows to learn from: `ids` (N,) is a long text, `starts` a list of places.
# Return two tensors, inputs and labels, each (`len(starts)`, `length`). Row i of the inputs holds
# the ids from `starts[i]` on; row i of the labels holds what follows each of them.

# %%
from course_lib.teaching.exercises import ch09


def windows(ids, starts, length):
    return ...  # your code here


ch09.windows.check(windows)

# %% [markdown]
# **Exercise 9.2.** A prompt and its answer, both lists of ids. Return two lists, the input and its
# labels, as in the picture with the boxes: the input lacks the answer's last id, and labels are -1
# wherever nothing is asked.


# %%
def example(prompt, answer):
    return ...  # your code here


ch09.example.check(example)

# %% [markdown]
# **Exercise 9.3.** Writing: `next_logits(ids)` takes a list of at most `context` ids and returns
# the logits (V,) of the next one. `prompt` is a list, too. Return a new list: the prompt and
# `count` ids behind it, each the likeliest. When the text gets longer than the context, show the
# function the newest part.


# %%
def write(next_logits, prompt, count, context):
    return ...  # your code here


ch09.write.check(write)

# %% [markdown]
# **Exercise 9.4.** Top-p by hand: `chances` (V,) are probabilities. Keep the likeliest symbols, as
# few as make up `top_p` at least; set the others to 0, and bring the sum back to 1.


# %%
def nucleus(chances, top_p):
    return ...  # your code here


ch09.nucleus.check(nucleus)

# %% [markdown]
# **Exercise 9.5.** One step of byte-pair encoding. `words` maps tuples of symbols to how often each
# word occurs, as in `{("l", "o", "w"): 5}`. Return the commonest pair of neighbours, a tuple of two
# symbols, and a new dict in which each such pair is one symbol: of "l" and "o" becomes "lo". Do
# without the library's functions.


# %%
def join(words):
    return ...  # your code here


ch09.join.check(join)

# %% [markdown]
# ### Quiz

# %%
for question in ch09.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - A **language model** gives each symbol a probability of coming next; its loss is its mean
#   surprise. Counting is the guesser to beat, and good counting is not beaten at once.
# - The **causal mask** lets one pass train all places; writing takes one step for each symbol, with
#   the same numbers.
# - Labels of **-1** leave the prompt out of the loss; it is read all the same.
# - **Temperature, top-k and top-p** change how one draws, not what the model knows.
# - A **cache** of keys and values keeps writing fast; **BPE on bytes** leaves no text unknown.
#
# **Papers.** A. Radford and others: *Improving language understanding by generative pre-training*,
# 2018, and *Language models are unsupervised multitask learners*, 2019 (GPT and GPT-2). C. Shannon:
# *Prediction and entropy of printed English*, 1951 (the covered text). I. Witten, T. Bell: *The
# zero-frequency problem*, 1991 (mixed counting). R. Sennrich, B. Haddow, A. Birch: *Neural machine
# translation of rare words with subword units*, 2016 (BPE). A. Fan, M. Lewis, Y. Dauphin:
# *Hierarchical neural story generation*, 2018 (top-k). A. Holtzman and others: *The curious case of
# neural text degeneration*, 2020 (top-p). J. Kaplan and others: *Scaling laws for neural language
# models*, 2020 (the lab's question).
#
# **Longer, larger, elsewhere.** Longer, on whatever device there is; on two GPUs; GPT-2's own size,
# on your own text files:
#
# ```
# python -m course_lib train shakespeare_long
# torchrun --nproc-per-node 2 -m course_lib train shakespeare_long
# python -m course_lib train shakespeare --size base --data texts --save gpt.pt
# ```
#
# `texts` is a folder of `*.txt` files. Their ids are written to a file once, and stay on the disk
# while it trains, so that they may be larger than the memory.
# [Beyond the notebook](../docs/beyond_the_notebook.md) tells more.

# %%
clock.stop()
