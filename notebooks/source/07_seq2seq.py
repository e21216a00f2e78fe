# %% [markdown]
# # 07 · How do you translate?
#
# A number, in English and in French, with a line from each English word to what has become of it.
# One English word turns into three French ones, and *quatre* stands there three times, from three
# different sources. Nobody draws such lines for the machine: it gets pairs of sentences, and no
# word about words. How can it find out which word comes from which?

# %%
import torch

from course_lib import decoding, lexicon, recipes, runtime, seq2seq, text, translations
from course_lib.teaching import plot, report, widgets
from course_lib.teaching.figures import ch07 as figures

clock = report.Clock(budget=130)
english = text.split_words("four hundred and ninety-seven thousand and eighty")
french = text.split_words("quatre cent quatre-vingt-dix-sept mille quatre-vingts")
drawn = figures.links(
    english,
    french,
    [(0, 0), (1, 1), (3, 2), (3, 3), (3, 4), (4, 5), (5, 6), (7, 7), (7, 8)],
    caption="497,080, with lines drawn by hand. French counts 97 as four twenties and seventeen.",
    alt="English number words above, French ones below, joined by lines. Ninety leads to three "
    "French words, and the two words “and” lead to none.",
)
assert [word for word, other in drawn if other == "quatre"] == ["four", "ninety", "eighty"]

# %% [markdown]
# By the end of this chapter a network will have drawn lines of its own, and a cell will compare
# them with these.
#
# **When you are through you can** turn sentences into tensors and back, write an RNN, an LSTM and a
# GRU by hand, say what teacher forcing is and why training need not go word by word, use attention
# between two sentences, choose a translation by greedy and by beam search, and measure with BLEU
# how good it is. You will know the optimizer Muon, too. It takes about three hours to read and
# try; the code runs within about two minutes. You need chapters 01 and 06.

# %% [markdown]
# ## Build it: from sentences to tensors
#
# Text has many spellings for what a reader takes for the same. An é is one character, or an e with
# an accent that is put over it; dots come as three or as one; *The* is *the*. A network would have
# to learn each of them anew. So all are brought to one spelling first, and then cut into pieces.
#
# > **token**: one of the pieces that text is cut into: here a word, a number or a mark.
#
# How many tokens has “J'ai dix-sept ans...”? Decide before you run the cell; there is more than one
# good answer.

# %%
import re
import unicodedata

one, two = "é", "e\u0301"
print(one, two, len(one), len(two), one == two, one == unicodedata.normalize("NFC", two))
line = "J'ai dix-sept ans..."
print("at blanks    ", line.split())
print("words, marks ", re.findall(r"\w+|[^\w\s]", line.lower()))
pieces = text.split_words(text.normalise(line))
print("the library's", pieces)
report.holds("which can be put together again", text.join_words(pieces) == "j'ai dix-sept ans…")

# %% [markdown]
# At blanks, *ans...* would be another word than *ans*. With all marks cut off, nothing says whether
# there was a blank. The library leaves the mark on the piece that is glued to its neighbour, so
# that a translation can be written as a reader expects it.
#
# **Words to numbers.** Each token gets a number, its id. Four ids are set aside:
#
# - 0 fills short sentences up (chapter 01 calls it padding), 1 and 2 mark start and end,
# - 3 stands for all that is unknown.
#
# > **vocabulary**: the list of the tokens a model knows; a token's place in it is its id.
#
# Build one from three sentences, the frequent tokens first. What becomes of *hamster*?

# %%
from collections import Counter

sentences = ["who are you?", "who goes there?", "you are late."]
tokens = [text.split_words(sentence) for sentence in sentences]
counts = Counter(token for sentence in tokens for token in sentence)
ordered = sorted(counts, key=lambda token: (-counts[token], token))  # frequent first, then a to z
ids = {token: number for number, token in enumerate(["<pad>", "<start>", "<end>", "<unknown>"])}
ids |= {token: 4 + number for number, token in enumerate(ordered)}
print(ids)

typed = ["who?", "are you a hamster?"]
rows = [[ids.get(token, 3) for token in text.split_words(line)] for line in typed]
longest = max(map(len, rows))
batch = torch.tensor([row + [0] * (longest - len(row)) for row in rows])  # (B, T)
print(batch)

vocabulary = text.Vocabulary.build(tokens)
theirs = text.pad([vocabulary.encode(text.split_words(line)) for line in typed])
report.holds("the library's vocabulary gives the same ids", batch.equal(theirs))
print("and back:", [vocabulary.decode(row) for row in batch])

# %% [markdown]
# What is unknown is lost: the model can only learn what to do when *something* unknown comes. Words
# that occur once in training are made unknown on purpose, so that it meets that case.
#
# Padding costs computing time, and must be kept out of attention and out of the loss. It costs
# least when sentences of like length share a batch; `text.SentenceBatches` sees to that.
#
# ## Build it: a state that reads
#
# A sentence has any number of words, a layer has a fixed number of inputs. The oldest way out: read
# word by word, and after each word renew a memory of fixed size. An id is only a name, so each word
# comes in as a vector: a row of a learned table.
#
# > **embedding**: a table with a learned vector for each id; also such a vector.
#
# With $x_t$ for the vector of word $t$, and $h_t$ for the memory after it,
#
# $$h_t = \tanh(W x_t + b + U h_{t-1} + c).$$
#
# > **recurrent network**: one whose layer is applied step after step, each time to the next input
# > and to its own last output.
#
# > **hidden state**: that output, which is all the network remembers of what it has read.
#
# RNN: recurrent neural network. (One bias would do; PyTorch has two.) Five words of three numbers
# each, a state of four: which shapes have $W$ and $U$? And does the order of the words matter?

# %%
generator = runtime.seed_everything(0)
words = torch.randn(5, 3, generator=generator, dtype=torch.float64)  # (T, inputs)
layer = torch.nn.RNN(3, 4).double()
W, U, b, c = layer.parameters()
print("W", tuple(W.shape), "U", tuple(U.shape), "b and c", tuple(b.shape))


def read(step, words, state):
    """The states after each word: (T, inputs) -> (T, hidden)."""
    states = []
    for word in words:
        state = step(word, state)
        states.append(state)
    return torch.stack(states)


def rnn_step(word, state):
    return (W @ word + b + U @ state + c).tanh()  # (4, 3) (3,) + (4, 4) (4,) -> (4,)


start = torch.zeros(4, dtype=torch.float64)
report.equal("states of a plain RNN", read(rnn_step, words, start), layer(words)[0])
backwards = read(rnn_step, words.flip(0), start)
report.holds("another order ends in another state", not backwards[-1].allclose(layer(words)[0][-1]))

# %% [markdown]
# Each step multiplies the old state by $U$ and bends it. After some steps little is left of it:
# chapter 05's product of many factors, along the sentence. The remedy resembles the shortcut: a way
# on which the old state is passed on as it is, and a gate that decides how much of it.
#
# > **gate**: numbers between 0 and 1 that multiply other numbers: 0 stops them, 1 lets them
# > through. A layer computes them, with a sigmoid $\sigma(x) = 1 / (1 + e^{-x})$ behind it.
#
# > **GRU**: gated recurrent unit. One gate mixes the old state with a candidate for the new one;
# > another says how much of the old state the candidate gets to see.
#
# > **LSTM**: long short-term memory. Beside its state it has a *cell* that is only multiplied by
# > one gate and added to through another; a third one decides what of it is shown.
#
# Torch puts the gates' weights one below the other, so that one product serves them all.


# %%
def gru_step(word, state):
    reset_x, keep_x, new_x = (W @ word + b).chunk(3)  # (12, 3) (3,) -> 3 of (4,)
    reset_h, keep_h, new_h = (U @ state + c).chunk(3)
    keep = torch.sigmoid(keep_x + keep_h)
    candidate = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
    return keep * state + (1 - keep) * candidate


layer = torch.nn.GRU(3, 4).double()
W, U, b, c = layer.parameters()
report.equal("states of a GRU", read(gru_step, words, start), layer(words)[0])


def lstm_step(word, both):
    state, cell = both
    write, forget, candidate, show = (W @ word + b + U @ state + c).chunk(4)  # 4 of (4,)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(write) * torch.tanh(candidate)
    return torch.stack([torch.sigmoid(show) * torch.tanh(cell), cell])


layer = torch.nn.LSTM(3, 4).double()
W, U, b, c = layer.parameters()
states = read(lstm_step, words, torch.stack([start, start]))  # (T, 2, 4)
report.equal("states of an LSTM", states[:, 0], layer(words)[0])

# %% [markdown]
# **What does a gate buy?** Take two different first states, let the same 50 words follow, and look
# how far apart the last states are. A memory of the beginning is what keeps them apart. Once for
# the plain RNN, once for the GRU as PyTorch starts it, once for a GRU whose bias holds the gate
# `keep` near 1. Which of the three will still know how it began?

# %%
many = torch.randn(50, 3, generator=generator, dtype=torch.float64)
other = torch.ones(4, dtype=torch.float64)
apart = {}
for name, kind, step, bias in (
    ("plain RNN", torch.nn.RNN, rnn_step, 0),
    ("GRU", torch.nn.GRU, gru_step, 0),
    ("GRU that keeps", torch.nn.GRU, gru_step, 8),
):
    layer = kind(3, 4).double()
    W, U, b, c = (parameter.detach().clone() for parameter in layer.parameters())
    b[4:8] += bias  # the rows of the gate `keep`; a plain RNN has no such rows
    ends = [read(step, many, first)[-1] for first in (start, other)]
    apart[name] = (ends[0] - ends[1]).norm().item()
    report.value(name, f"{apart[name] / 2:.2g}", unit="of the first distance left")
report.holds("only an open gate remembers", apart["GRU that keeps"] > 0.5 > 100 * apart["GRU"])

# %% [markdown]
# The gate is learned, number by number of the state and word by word of the sentence: what to keep
# is a decision of the network. (How far back that reaches is measured in the lab.)
#
# ## Check it: all three, many sentences at once
#
# The library's `HandRNN` does the same for batches, several layers, both directions and sentences
# of unlike length. Both directions: a second network reads the sentence from its end, and the two
# states of a word are put side by side, so that together they know what stands before and after it.
# (PyTorch takes sentences of unlike length *packed*, without their padding.) Are outputs and
# gradients equal to PyTorch's?

# %%
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from course_lib import rnn

x = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)  # (B, T, inputs)
lengths = torch.tensor([7, 4, 2])
options = {"num_layers": 2, "bidirectional": True, "batch_first": True}
for kind in ("rnn", "lstm", "gru"):
    theirs = getattr(torch.nn, kind.upper())(5, 6, **options).double()
    ours = rnn.HandRNN(kind, 5, 6, layers=2, bidirectional=True, batch_first=True).double()
    ours.load_state_dict(theirs.state_dict())
    packed = pack_padded_sequence(x, lengths, batch_first=True)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)  # (B, T, 2 hidden)
    outputs, _ = ours(x, real=lengths)
    report.equal(f"{kind}: outputs", outputs, expected)
    gradients = [torch.autograd.grad(out.square().sum(), [*net.parameters()][:2])[1]
                 for out, net in ((outputs, ours), (expected, theirs))]  # fmt: skip
    report.equal(f"{kind}: gradient of U", *gradients)

# %% [markdown]
# ## Encoder and decoder
#
# A translation has its own length and its own order; so it cannot be written while reading. One
# network reads the whole sentence, the *encoder*; its last state is the first state of another one,
# the *decoder*, that writes word by word. Each word it has written is its next input, beginning
# with `<start>`; when it writes `<end>`, it is done.
#
# > **encoder-decoder**: one network turns a sequence into a memory, another turns the memory into a
# > sequence. Also called sequence to sequence, or seq2seq.

# %%
shown = figures.encoder_decoder(
    text.split_words("ninety-seven"),
    text.split_words("quatre-vingt-dix-sept"),
    caption="Blue reads, orange writes; the thick arrow is all that the decoder learns of the "
    "English. Black below: what it is given. Red above: what it should answer.",
    alt="Two boxes that read ninety and seven, a thick arrow, and five boxes that write the French "
    "words. The words given are the words wanted, one place later.",
)
for given, wanted in zip(shown["given"], shown["wanted"], strict=True):
    print(f"{given:>10} -> {wanted}")

# %% [markdown]
# **In training** the decoder would begin with nonsense, and be asked what follows nonsense. So it
# is given the right words whatever it has answered.
#
# > **teacher forcing**: in training the decoder's inputs are the words of the right translation
# > (the *reference*), not its own.
#
# Inputs and answers are then the same row of ids, shifted by one place: `target[:, :-1]` and
# `target[:, 1:]`. And all inputs are known before the first step. Must training still go word by
# word? Three translators are asked. What *dot* and *additive* mean comes in the next section; here
# it matters that the additive one uses what attention saw as an input of its next step.

# %%
task = translations.number_words()
source, target = task.test.source[:64], task.test.target[:64]  # (B, S), (B, T)
target = target[:, : (target != text.PAD).sum(1).max()]
sizes = len(task.english), len(task.french)
plan = seq2seq.TransformerConfig(width=64, heads=4, layers=2, hidden=128)
models = {
    "GRU, dot attention": seq2seq.GRUTranslator(*sizes, width=64),
    "Transformer": seq2seq.TransformerTranslator(*sizes, plan),
    "GRU, additive attention": seq2seq.GRUTranslator(*sizes, width=64, attention="additive"),
}


# %%
calls = dict.fromkeys(models, 0)  # of the decoder, for a whole batch; a hook counts them
for name, model in models.items():
    hook = (
        model.double()
        .eval()
        .decoder.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    )
    with torch.no_grad():
        at_once = model(source, target[:, :-1])  # (B, T - 1, V)
        hook.remove()
        state, one_by_one = model.start(source), []
        for token in target[:, :-1].unbind(1):  # as if it were translating: a word, a step
            logits, state = model.step(state, token)
            one_by_one.append(logits)
    report.equal(name, torch.stack(one_by_one, dim=1), at_once, atol=1e-12)

parallel, serial = ([n for n in calls if (calls[n] == 1) == once] for once in (True, False))
outcome_72 = f"depends: false for {' and '.join(parallel)}; true for {' and '.join(serial)}"
report.verdict(
    "7.2",
    "Decoding is serial when training, too",
    outcome=outcome_72 if parallel and serial else "false" if parallel else "true",
    evidence=f"calls of the decoder for {target.shape[1] - 1} words, the same logits: "
    + ", ".join(f"{name} {count}" for name, count in calls.items()),
)

# %% [markdown]
# With teacher forcing one call gives what the steps give. Inside that call a GRU still walks along
# the sentence, though in fast compiled code; a Transformer does not even do that, its mask keeps
# the later words away. Only a decoder that needs what attention saw in order to take its next step
# has to go word by word. When translating, all three have to: the next input does not exist
# yet.
#
# ## Attention between two sentences
#
# **One vector is not enough.** The thick arrow is as wide for three words as for thirty: the longer
# the sentence, the less of each word can be in it.
#
# The state behind *every* word was computed anyway. So keep them all, and let the decoder look up
# what it needs at each of its steps, by chapter 06's soft lookup: its own state is the query, the
# encoder's states are keys and values. The two kinds in use differ in how a state $q$ and a key $k$
# are scored:
#
# - **dot**: $q \cdot k / \sqrt d$, with $d$ numbers in each, after the decoder's step (Luong),
# - **additive**: $v \cdot \tanh(W q + K k)$ with learned $v$, $W$, $K$, before the step, which gets
#   what was seen (Bahdanau).
#
# Both by hand, for the first word that is written. What will the weights sum to?

# %%
from course_lib import attention

first = source[:1, : (source[0] != text.PAD).sum()]  # one sentence, (1, S)
begin = torch.tensor([[text.START]])

model = models["GRU, dot attention"]
state = model.start(first)
memory = state.memory[0]  # (S, width)
print("the last state", tuple(state.hidden.shape), " all states", tuple(state.memory.shape))
query = model.decoder(model.target_embedding(begin), state.hidden.transpose(0, 1))[0][0, 0]
weights = (memory @ query / len(query) ** 0.5).softmax(0)  # (S, width) (width,) -> (S,)
context = weights @ memory  # (S,) (S, width) -> (width,): what the decoder sees
report.equal("dot", weights, model.attention_weights(first, begin)[0, 0])
seen, _ = attention.attention_by_hand(query[None], memory, memory)
report.equal("as in chapter 06", context, seen[0])

model = models["GRU, additive attention"]
state = model.start(first)
query, keys = state.hidden[0, -1], state.keys[0]  # keys: K already applied
W, bias = model.score.query.parameters()
v = model.score.vector.weight[0]
weights = (torch.tanh(W @ query + bias + keys) @ v).softmax(0)  # (S, width) (width,) -> (S,)
report.equal("additive", weights, model.attention_weights(first, begin)[0, 0])
report.equal("they sum to 1", weights.sum(), torch.ones_like(weights.sum()))

# %% [markdown]
# ## Muon: a step that neglects no direction
#
# Nearly all weights of these networks are matrices, and chapter 01's optimizers do not know that:
# they move each number by itself. A matrix acts as a whole. It turns a vector, stretches it along
# some directions by some factors, and turns it again.
#
# > **singular values**: the factors by which a matrix stretches, from the largest to the smallest.
#
# The gradient of a weight matrix is such a matrix, too. Here is the one of a translator before
# training. If all directions were equally steep, its singular values would be equal. Are they?

# %%
from course_lib import optimizers

recipe = recipes.number_words()
batch = next(iter(recipe.batches.epoch(0)))
recipe.loss(recipe.model, batch).backward()
gradient = recipe.model.encoder.ahead[0].weight_hh_l0.grad.T.clone()  # (96, 288)
recipe.model.zero_grad()


def orthogonalise(x, rounds=5):
    """Push all singular values of x (M, N), M at most N, towards 1, by matrix products alone."""
    x = x / x.norm()  # now none is above 1
    for _ in range(rounds):
        square = x @ x.T  # (M, M)
        x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
    return x


step = orthogonalise(gradient)
example = torch.randn(64, 96, generator=generator)
ours, theirs = orthogonalise(example), optimizers.orthogonalise(example).float()
is_near = (ours - theirs).norm() < 0.1 * ours.norm()
report.holds("the library's, in bfloat16, is near", bool(is_near))

# %% [markdown]
# Why does this work? A product such as $x x^T x$ turns as $x$ does, and its factors are the cubes
# of those of $x$. So each factor $s$ becomes $3.4445\,s - 4.7750\,s^3 + 2.0315\,s^5$, whatever the
# directions are: small ones grow more than threefold, those near 1 stay near 1. Left: what one,
# three and five such rounds make of one number. Right: what five make of the gradient.

# %%
rounds = [torch.logspace(-4, 0, 200)]
for _ in range(5):
    s = rounds[-1]
    rounds.append(3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5)
before, after = (torch.linalg.svdvals(x) for x in (gradient / gradient.norm(), step))
spread = figures.singular_values(
    {"the gradient": before, "the step of Muon": after},
    torch.stack(rounds),
    caption="Right, red: the largest singular values of the gradient are far above its middle one. "
    "Blue: after five rounds of products the larger half are of one size.",
    alt="Left, curves that rise from small values to about 1, earlier with every round. Right, "
    "singular values in falling order, before and after; before, they fall steeply.",
)
for name, (largest, typical, _) in spread.items():
    report.value(f"{name}: largest over middle singular value", f"{largest / typical:.3g}")
middle = len(after) // 2
report.holds("before, the largest is far above it", bool(before[0] > 50 * before[middle]))
report.holds("after, both are of one size", bool(after[0] < 4 * after[middle]))

# %% [markdown]
# > **Muon**: momentum (chapter 01) whose step is made orthogonal, that is, all its singular values
# > are brought near 1. For matrices between the first and the last layer; embeddings, biases and
# > norms stay with AdamW.
#
# A plain step moves a matrix along the few directions in which the gradient is large, and hardly
# along the others, such as those that rare words ask for. Muon moves along nearly all of them
# alike. The step is then scaled to the size that AdamW's usually have, so that its learning rates
# fit. The course's `optimizers.Muon` takes steps equal to those of `torch.optim.Muon`.
#
# ## Train it: number words
#
# A task where right and wrong can be told exactly: English number words to French, 40,000 different
# numbers below a million to learn from, 2,000 others to be tested on. A translation counts if every
# word of it is right. Shapes and parameters first, then the run.
#
# The loss is chapter 01's cross entropy, over all places of all sentences but those of padding. At
# the start each of the French tokens is about as likely as another. Which loss do you expect then?
# (The logarithm of their number, which is the last size of the logits.)

# %%
number_task, number_model = task, recipe.model
print(number_task.test.english[0], " -> ", number_task.test.french[0])
source, target = next(iter(recipe.batches.epoch(0)))
print("source", tuple(source.shape), " target", tuple(target.shape))
print("memory", tuple(number_model.start(source).memory.shape), " logits",
      tuple(number_model(source, target[:, :-1]).shape))  # fmt: skip
print(f"parameters {sum(p.numel() for p in number_model.parameters()):,}")
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} sentences")
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="Loss per word, on a scale of powers of ten. Where does it begin, and after how many "
    "steps is it a tenth of that?",
    alt="The training loss by step, on a logarithmic axis: it falls.",
    epoch=len(recipe.batches),
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
exact = 100 * recipe.test(number_model)["exact"]
report.result("Numbers without a mistake, of 2,000 new ones", exact, "%", target=99.5, gate=98.0)
number_model.cpu()
report.seconds("Training", history.seconds, target=45)

# %% [markdown]
# ## Look inside: the lines it drew
#
# The logarithm of 48 French tokens is 3.9, and near that it began. (The curve is a running mean, in
# which one bad batch shows for 20 steps.)
#
# For each word it writes the network gives every English word a weight. Laid below each other these
# are a table. Below, 497,080 again, a number that was not among those it learned from. Compare with
# the lines at the top. At what does it look when it writes *-dix*?

# %%
from course_lib.recipes.sequences import LONGEST


def translate(task, model, sentence, width=1):
    """Words read, words written, and the attention weights (T, S) between them."""
    source = task.source([sentence])  # (1, S)
    (ids,) = decoding.beam_search(model, source, width, LONGEST, length_penalty="average").ids
    with torch.no_grad():
        weights = model.attention_weights(source, torch.tensor([[text.START, *ids]]))[0]
    read = [task.english.tokens[number] for number in source[0]]
    return read, [*task.french.decode(ids), "<end>"], weights


assert 497_080 not in number_task.numbers["train"]
read_words, written, weights = translate(
    number_task, number_model, "four hundred and ninety-seven thousand and eighty"
)
lines = figures.attention(
    weights,
    read_words,
    written,
    caption="Each row: where the network looks while it writes that word. Dark: much.",
    alt="A table with French words down the side and English ones on top; larger weights are "
    "darker. In most rows the darkest square is the word that a line at the top leads to.",
)

# %%
from num2words import num2words

looks = zip(lines["seen"], lines["written"], strict=True)
same = [pair for pair in looks if pair in drawn]
report.value("Of the 9 lines drawn by hand, found by the network", len(same))
report.holds("at least 7 of them", len(same) >= 7, trained=True)
as_we_say_it = lines["written"][2:6] == ["quatre", "-vingt", "-dix", "-sept"]
share = weights[2:6, 3:5].sum(dim=1).mean().item() if as_we_say_it else 0
report.value("Attention of quatre-vingt-dix-sept on ninety-seven", f"{100 * share:.0f}", unit="%")
report.holds("more than two thirds", share > 2 / 3, trained=True)
odd_ones = torch.isin(number_task.numbers["test"] % 100, torch.tensor([71, 80, 81, 99]))
rows = odd_ones.nonzero()[:, 0]
found = decoding.greedy(number_model, number_task.test.source[rows], LONGEST).ids
pairs = zip(found, rows.tolist(), strict=True)
right = sum(number_task.text(ids) == number_task.test.french[row] for ids, row in pairs)
report.result("Right, of those ending in 71, 80, 81 or 99", 100 * right / len(rows), "%",
              target=99, gate=90)  # fmt: skip

# %% [markdown]
# Nobody told it. Words that are looked at get a gradient, so those that help are looked at more.
# The weights need not be on one word: behind each stands a state that has read its neighbours, too.
# So *-dix*, which *ninety* and *seven* need together, may look at either; and *cent* may look at
# *and*, where the state knows that a hundred has just passed.
#
# **Try your own.** Move the number, or type one, in figures or in English words. Where French
# counts in its own way: 71, 80, 81, 99. What does it make of *hundred hundred*, and of what is no
# number at all?

# %%
import ipywidgets


def number_figure(number, typed):
    """The attention map for what is typed, or if there is nothing for the number."""
    typed = typed.strip() or str(number)
    sentence = num2words(int(typed)) if typed.isdecimal() else typed
    read_words, written, weights = translate(number_task, number_model, sentence)
    answer = text.join_words(written[:-1], "french")
    return figures.attention_figure(weights, read_words, written, f"{typed}: {answer}")


def text_field(hint):
    layout = ipywidgets.Layout(width="32em", max_width="100%")
    return ipywidgets.Text(placeholder=hint, continuous_update=False, layout=layout)


number_explorer = widgets.explore(
    number_figure,
    alt="An attention map for an English number and its French translation.",
    caption="Type a number and press Enter; with an empty field the slider counts.",
    number=widgets.slider("number", 0, 999_999, 71_080, 1),
    typed=text_field("or type: 99, or ninety-nine"),
)

# %% [markdown]
# ## Build it: choosing the words
#
# A translator gives probabilities of the next word. Which words make the translation? The likeliest
# sentence would be good; but there are more sentences than anybody can try. The obvious way:
#
# > **greedy decoding**: take the likeliest next word, again and again, until it is the end.
#
# Here is a tree of all that a tiny model might say for “we are leaving”, with its probabilities.
# Which path does greedy take, and which sentence is the likeliest?

# %%
import math

branches = {
    (): {"nous": 0.6, "on": 0.4},
    ("nous",): {"partons": 0.4, "allons": 0.35, "quittons": 0.25},
    ("on",): {"part": 0.9, "va": 0.1},
}
whole = figures.tree(
    branches,
    {"greedy": ("nous", "partons"), "likeliest": ("on", "part")},
    caption="Red: the likeliest word at each step. Blue: the sentence with the largest product.",
    alt="A tree from start to nous and on, then to five endings. The red path, nous partons, has a "
    "smaller product than the blue one, on part.",
)
best = max(whole, key=whole.get)
report.holds(f"the likeliest sentence is “{best}”, and greedy misses it", best == "on part")


def tree_words(words):
    """The next words and their log-probabilities; behind the last word comes the end."""
    return {word: math.log(p) for word, p in branches.get(words, {"<end>": 1.0}).items()}


# %% [markdown]
# Greedy cannot take back its first word. So keep a few beginnings instead of one: extend them all
# by every word, and keep the best of what comes out.
#
# > **beam search**: keep the `width` likeliest beginnings at each step. A width of 1 is greedy.
#
# Products of many probabilities become tiny; so logarithms are added instead. Which width will find
# *on part*?


# %%
def beam(next_words, width, longest=LONGEST):
    """Translations that were finished (else cut off) and their log-probabilities, best first.

    next_words: words so far -> {next word: log-probability}
    """
    going, finished = {(): 0.0}, {}
    for _ in range(longest):
        longer = {
            (*words, word): score + more
            for words, score in going.items()
            for word, more in next_words(words).items()
        }
        ranked = sorted(longer, key=longer.get, reverse=True)
        finished |= {w: longer[w] for w in ranked[:width] if w[-1] == "<end>"}
        going = {w: longer[w] for w in [w for w in ranked if w[-1] != "<end>"][:width]}
        if len(finished) >= width or not going:
            break
    return dict(sorted((finished or going).items(), key=lambda item: -item[1]))


for width in (1, 2):
    for words, score in beam(tree_words, width).items():
        print(f"width {width}: {' '.join(words)} {math.exp(score):.2f}")
report.holds("width 2 finds it", next(iter(beam(tree_words, 2)))[:2] == ("on", "part"))

# %% [markdown]
# **Short ones win.** Each further word multiplies by a number below 1. So of two translations the
# shorter tends to have the higher probability, and a wider beam finds more short ones. A length
# rule makes up for that: divide the sum of logarithms by the number of words, say, or by a gentler
# function of it. Below, rule 0 is none; a number $\alpha$ divides by $((5 + n) / 6)^\alpha$, where
# $n$ is the number of words with the end; "average" divides by $n$.
#
# Three words of probability 0.6 each, or five of 0.7 each: which is preferred by each rule?

# %%
few, several = [0.6] * 3, [0.7] * 5
for rule in (0.0, 1.0, "average"):
    scores = [sum(map(math.log, p)) / decoding.length_divisor(len(p), rule) for p in (few, several)]
    winner = "three words" if scores[0] > scores[1] else "five words"
    print(f"rule {rule!s:<8} {scores[0]:7.3f} {scores[1]:7.3f}   {winner}")

# %% [markdown]
# ## Build it: how good is a translation?
#
# A number word is right or wrong. A sentence has many right translations, and nobody can list them
# all; the test holds one, the reference. BLEU asks how much a translation has in common with it.
#
# > **n-gram**: n words that follow each other.
#
# > **BLEU**: the share of the translation's n-grams that the reference has, too, for n from 1 to 4;
# > their geometric mean (the fourth root of their product), lowered if the translation is shorter
# > than the reference; times 100.
#
# An n-gram counts at most as often as the reference has it, or *la la la* would be perfect wherever
# there is one *la*. Before you run the cell: of the candidate's nine tokens (the full stop is one),
# how many are in the reference? And of its eight pairs of neighbours?

# %%
from course_lib import bleu

reference = "il faut que nous partions d'ici avant la nuit."
candidate = "il faut que nous partions avant la nuit."
ours, theirs = (bleu.tokenise_13a(line) for line in (candidate, reference))


def ngrams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


logs = []
for n in (1, 2, 3, 4):
    have, wanted = ngrams(ours, n), ngrams(theirs, n)
    matches = sum(min(count, wanted[gram]) for gram, count in have.items())
    logs.append(math.log(matches / have.total()))
    print(f"n = {n}: {matches} of {have.total()}")
brevity = min(1, math.exp(1 - len(theirs) / len(ours)))  # 1 unless it is too short
by_hand = 100 * brevity * math.exp(sum(logs) / 4)
print(f"{len(ours)} words against {len(theirs)}: times {brevity:.3f}; BLEU {by_hand:.2f}")
assert math.isclose(by_hand, bleu.bleu([candidate], [reference]))

# %% [markdown]
# (Most reports use the program sacrebleu. The library's BLEU gives the same number: below, both
# score the test.) For many sentences the counts are summed first and divided afterwards; otherwise
# each sentence without a common group of four would count as 0. Note what BLEU does not see:
# *partons* for *partions* is as wrong as *banane*. Compare BLEU within one test set only; between
# sets and languages it means little.
#
# ## Train it: lines of dialogue
#
# Now real sentences: what people, elves and robots say in two free games, with the French of
# volunteers. Look at some pairs before you read on. Could *you* know from the English alone what
# the translator wrote?

# %%
line_task = translations.dialogue()
for row in range(3, 1000, 125):
    print(f"{line_task.test.english[row]:<58} {line_task.test.french[row]}")
parts = {name: getattr(line_task, name) for name in ("train", "validation", "test")}
print("\nsentences:", ", ".join(f"{name} {len(part):,}" for name, part in parts.items()))
print(f"vocabularies: {len(line_task.english):,} English, {len(line_task.french):,} French tokens")
unknown = (line_task.test.source == text.UNKNOWN).sum() / (line_task.test.source != text.PAD).sum()
print(f"unknown among the English tokens of the test: {100 * unknown:.1f} %")
copied = bleu.bleu(line_task.test.english, line_task.test.french)
print(f"BLEU of the English itself, copied: {copied:.1f}")

# %% [markdown]
# Often not, and neither can the network. And some thousand short sentences are little to learn a
# language from; expect a beginner's French. The network is chapter 06's Transformer, trained by
# Muon. Each French word goes in and comes out by the same vector: its row in the embedding is its
# row in the output layer, too. The loss uses chapter 03's label smoothing, which keeps the network
# from becoming too sure of the one reference it is shown, and chapter 03's dropout. All of this was
# chosen on the validation lines; nothing is left to choose, so now they join the training lines.
#
# One thing need not be left to gradient descent: which word goes with which. Where *water* stands,
# *eau* stands in the French line, but so does *de*, which stands everywhere. So each French word
# shares its count among the English words of its line, evenly at first. Then the counts say who
# fits, and the next round shares by them: *de* goes to others, and *eau* stays with *water*. Each
# English word then starts with the mean vector of its French ones. What will the dictionary have
# for *did*?
#
# > **expectation maximisation**: guess the hidden causes by what is known so far, learn from the
# > guesses as if they were true, and guess again. Here the causes are the links between words, and
# > the method is IBM's model 1 of 1993.

# %%
pairs = line_task.development.source, line_task.development.target
table = lexicon.translation_table(*pairs, (len(line_task.english), len(line_task.french)))
for word in ("water", "sister", "bring", "did"):
    likely = table[line_task.english.ids[word]].to_dense().topk(4)
    found = zip(likely.indices, likely.values, strict=True)
    print(f"{word:<8}", *(f"{line_task.french.tokens[i]} {100 * p:.0f} %  " for i, p in found))
line_recipe = recipes.dialogue()  # starts from this dictionary
line_model = line_recipe.model
weights = sum(parameter.numel() for parameter in line_model.parameters())
print(f"\n{weights:,} weights, {line_recipe.config.steps} steps of "
      f"{line_recipe.batches.batch_size} sentences")  # fmt: skip
history = line_recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="Loss per word, label smoothing included; dotted, the beginning of an epoch. Short and "
    "long sentences come in batches of their own: hence the noise.",
    alt="The loss by step falls with much noise; dotted lines mark the epochs.",
    epoch=len(line_recipe.batches),
)
line_model.cpu()
report.seconds("Training", history.seconds, target=60)

# %% [markdown]
# From the second epoch on every sentence has been seen before, and is easier for it: the loss no
# longer tells how well *new* ones are translated. So to the test, by greedy and by a beam of 4 with
# the length rule "average". The interval says how much another thousand lines of the same kind
# might change the score.
#
# > **bootstrap interval**: draw as many test items as there are, some twice, some not at all; score
# > them; repeat many times. The interval holds all these scores but the lowest and the highest
# > fortieth.

# %%
import sacrebleu

RULES = {"no rule": 0.0, "average": "average"}
WIDTHS = (1, 2, 4)
references = list(line_task.test.french)


def write(width, rule):
    """The ids of all test lines by a beam; the lines come by length, so parts need no padding."""
    ids = []
    for source in line_task.test.source.split(125):
        source = source[:, : (source != text.PAD).sum(1).max()]
        found = decoding.beam_search(line_model, source, width, LONGEST, length_penalty=RULES[rule])
        ids += found.ids
    return ids


outputs = {("average", width): write(width, "average") for width in (1, 4)}

# %%
greedy_lines, beam_lines = ([line_task.text(ids) for ids in found] for found in outputs.values())
for name, lines_found, target, gate in (
    ("greedy", greedy_lines, 17, 14), ("beam of 4", beam_lines, 19, 15)
):  # fmt: skip
    found = bleu.bleu_interval(lines_found, references)
    report.result(f"BLEU, {name}", found.score, target=target, gate=gate)
    report.value("    95 % interval", f"{found.low:.1f} to {found.high:.1f}")
official = sacrebleu.corpus_bleu(beam_lines, [references]).score
report.holds("sacrebleu says the same", math.isclose(found.score, official, abs_tol=1e-9))

# %% [markdown]
# **What longer training gives.** The recipe `dialogue_long` takes more than twice the steps, and
# more dropout, since it sees each line more often. It lasts minutes, so it was run
# beforehand, with two seeds, and is only shown here. Which of the two will have the lower loss at
# its end? Mind the dropout.

# %%
from course_lib.teaching import experiments
from course_lib.teaching.experiments import long_runs
from course_lib.teaching.figures.ch05 import runs

longer = experiments.stored("dialogue_long")  # `python -m course_lib claims dialogue_long`
runs(
    {
        "this run": torch.tensor([long_runs.loss_by_part(history.loss)]),
        "dialogue_long": longer.values("loss")["dialogue_long"],
    },
    caption="The training loss of both. Each curve spans its whole run, so the same percentage is "
    "a later step of the longer one.",
    alt="Two curves of training loss: this run's and that of the longer recipe.",
)
reached = longer.values("BLEU")["dialogue_long"].mean().item()
report.result("dialogue_long: BLEU, greedy", reached, target=20, gate=17)
pace = history.seconds / len(history.loss)
steps = recipes.dialogue_long().config.steps
report.seconds("Its training, at the pace above", steps * pace, target=150)

# %% [markdown]
# With dropout the training loss is that of a network of which parts are switched off. So losses
# with different shares of it cannot be compared; the BLEU of the test can.
#
# ## Look inside: good, typical and bad lines
#
# A score hides what it is made of. Here all test lines of five words or more are sorted by their
# own BLEU; you see the best, those from the middle, and the worst. Read the middle first: what does
# the network know? And are the worst all wrong?

# %%
own = [bleu.bleu([line], [other]) for line, other in zip(beam_lines, references, strict=True)]
whole_lines = [row for row in range(len(own)) if len(line_task.test.english[row].split()) >= 5]
ranked = sorted(whole_lines, key=lambda row: -own[row])
middle = len(ranked) // 2
for name, chosen in (
    ("best", ranked[:4]), ("typical", ranked[middle - 2 : middle + 2]), ("worst", ranked[-4:])
):  # fmt: skip
    report.sample(name, *(
        f"  {line_task.test.english[row]}\n    written   {beam_lines[row]}\n"
        f"    reference {references[row]}" for row in chosen
    ))  # fmt: skip
report.holds("sorted by their own score", own[ranked[0]] >= own[ranked[middle]] >= own[ranked[-1]])

# %% [markdown]
# BLEU of single sentences is a rough guide: a good translation in other words scores next to
# nothing. The sum over a thousand lines is steadier, since every system has some such bad luck.
#
# **Where does it fail?** Two suspects: long sentences, and words it does not know. Which of the two
# will cost more?

# %%
sizes = (line_task.test.source != text.PAD).sum(1)  # tokens of each English line
strange = (line_task.test.source == text.UNKNOWN).any(1)
groups = {
    "tokens": {"2–4": sizes <= 4, "5–8": (sizes > 4) & (sizes <= 8), "9 or more": sizes > 8},
    "unknown words": {"none": ~strange, "one or more": strange},
}


def score_of(chosen):
    rows = chosen.nonzero()[:, 0].tolist()
    ours, theirs = ([lines[row] for row in rows] for lines in (beam_lines, references))
    return bleu.bleu_interval(ours, theirs, draws=300)


shown = figures.intervals(
    {title: {name: score_of(rows) for name, rows in by.items()} for title, by in groups.items()},
    "BLEU, beam of 4",
    caption="Lines by length, and by whether all their words are known; bars: 95 % intervals.",
    alt="Points with error bars: BLEU for three groups of length, and without and with unknown "
    "words; with them it is clearly lower.",
)
known, not_known = shown["unknown words"].values()
report.holds("unknown words cost more than a fifth", not_known < 0.8 * known, trained=True)

# %% [markdown]
# A word that the vocabulary lacks cannot be translated, even if it is a name that only has to be
# copied. Pieces of words instead of whole words mend that; chapter 08 uses them. Length costs, too,
# though less clearly: mind the intervals on the left.
#
# **Where does it look?** Names are the same in both languages. When the network writes one that
# stands in the English line, does it look at it? Of all such cases in the test we count how often
# the most looked-at word is that very name, and how often a word chosen at random would be.


# %%
ids_written = outputs["average", 4]
told = text.pad([[text.START, *ids] for ids in ids_written])  # (N, T)
with torch.no_grad():
    maps = line_model.attention_weights(line_task.test.source, told)  # (N, T, S)
hits, chances = [], []
for row, ids in enumerate(ids_written):
    read_words = line_task.english.decode(line_task.test.source[row])
    for place, word in enumerate(line_task.french.decode(ids)):
        if word in read_words and word.isalpha() and len(word) > 3:
            looked_at = maps[row, place, : len(read_words)].argmax().item()
            hits.append(read_words[looked_at] == word)
            chances.append(read_words.count(word) / len(read_words))
hit, chance = (100 * sum(values) / max(len(values), 1) for values in (hits, chances))
report.value("Words that stand in both lines", len(hits))
report.value("of them looked at most", f"{hit:.0f}", unit="%")
report.value("a word chosen at random would be", f"{chance:.0f}", unit="%")
report.holds("far more often than at random", hit > 1.5 * chance, trained=True)

# %% [markdown]
# These are the weights of the last layer, the mean of its four heads. They are less tidy than those
# of the number words: other layers look, too, and the encoder has mixed the words before.
#
# **Translate what you like.** Choose a line of the test, or type one in English, and move the width
# of the beam. Left, where the network looks as it writes; right, what the beam has found, with the
# mean log-probability of a word. What becomes of a question, of a name, of *not*?


# %%
def next_french(sentence):
    """A function for `beam`: the likeliest next words of the network for this English line."""
    source = line_task.source([sentence])

    @torch.no_grad()
    def next_words(words):
        told = torch.tensor([[text.START, *line_task.french.encode(words)]])
        scores = line_model(source, told)[0, -1].log_softmax(0)  # (V,)
        scores[[text.PAD, text.START, text.UNKNOWN]] = -torch.inf
        best, ids = scores.topk(12)
        return dict(zip((line_task.french.tokens[i] for i in ids), best.tolist(), strict=True))

    return next_words


for row in () if runtime.is_quick() else (200, 500, 800):  # an untrained one finds no end
    words, score = next(iter(beam(next_french(line_task.test.english[row]), 4).items()))
    theirs = decoding.beam_search(line_model, line_task.test.source[[row]], 4, LONGEST)
    report.equal(f"line {row}: our beam's score and the library's",
                 torch.tensor([score]), theirs.scores, rtol=1e-4)  # fmt: skip


# %%
def line_figure(sentence, typed, width):
    """The attention map of the best translation, and the translations that a beam finds."""
    sentence = typed.strip() or sentence
    read_words, written, weights = translate(line_task, line_model, sentence, width)
    found = beam(next_french(sentence), width)
    means = {
        text.join_words([w for w in words if w != "<end>"], "french"): score / len(words)
        for words, score in found.items()
    }
    bars = dict(sorted(means.items(), key=lambda item: -item[1])[:6])
    answer = text.join_words(written[:-1], "french")
    title, label = f"beam of {width}: {answer}", "log-probability, mean of the words"
    return figures.attention_figure(weights, read_words, written, title, bars, label)


lines_to_choose = sorted((line_task.test.english[row] for row in range(310, 1000, 60)), key=len)
line_explorer = widgets.explore(
    line_figure,
    alt="An attention map for an English line, and bars for the translations of a beam.",
    caption="Blue: the best of them. With a field left empty the menu counts.",
    sentence=ipywidgets.Dropdown(options=lines_to_choose, value=lines_to_choose[5]),
    typed=text_field("or type a line in English"),
    width=widgets.slider("beam width", 1, 6, 4, 1),
)

# %% [markdown]
# ## Claims
#
# **Does a wider beam give better translations?** A wider beam finds sentences that the network
# takes to be likelier. Whether they are better is another question. Guess BLEU by beam width, with
# the rule "average" and without a rule: up to which width does it rise?
#
# Two systems on the same lines are compared by the *same* resampled lines, so that hard lines count
# for both.


# %%
def score(sums):
    """BLEU (draws,) from the summed counts of `bleu.sentence_statistics` (draws, 10)."""
    ours, theirs = sums[:, 0].clamp(min=1), sums[:, 1]
    brevity = (1 - theirs / ours).clamp(max=0).exp()
    precisions = sums[:, 2:6] / sums[:, 6:].clamp(min=1)  # (draws, 4)
    return 100 * brevity * precisions.log().mean(1).exp()


outputs["no rule", 1] = outputs["average", 1]  # greedy: the rule chooses nothing
for rule in RULES:
    for width in WIDTHS:
        if (rule, width) not in outputs:
            outputs[rule, width] = write(width, rule)

# %%
count, generator = len(references), runtime.generator_for(7)
draws = torch.stack([torch.randint(count, (count,), generator=generator) for _ in range(500)])
draws = torch.stack([row.bincount(minlength=count) for row in draws])  # how often each line
draws = torch.cat([torch.ones(1, count), draws]).double()  # the first: each line once
scores, lengths = {}, {}
for rule in RULES:
    lines = [[line_task.text(ids) for ids in outputs[rule, width]] for width in WIDTHS]
    counts = torch.tensor([
        [bleu.sentence_statistics(*pair) for pair in zip(texts, references, strict=True)]
        for texts in lines
    ], dtype=torch.float64)  # (widths, lines, 10)  # fmt: skip
    scores[rule] = score((draws @ counts).flatten(0, 1)).view(len(WIDTHS), -1)
    lengths[rule] = counts[:, :, 0].sum(1) / counts[:, :, 1].sum(1)
drawn_scores = figures.beam_widths(
    scores,
    lengths,
    WIDTHS,
    caption="Left, BLEU with 95 % intervals: where does the gain end? Right, how long the "
    "translations are; dotted, as long as the references.",
    alt="Two panels by beam width, each with and without a length rule: left BLEU, right the "
    "length of the translations as a share of the references'.",
)

# %%
four = WIDTHS.index(4)
gains = {rule: rows[four] - rows[0] for rule, rows in scores.items()}  # over greedy, (1 + draws,)
sure = [rule for rule, gain in gains.items() if gain[0] > 2 * gain[1:].std()]
outcome_710 = "true" if len(sure) == 2 else f"depends: only with {sure[0]}" if sure else "false"
report.verdict(
    "7.10",
    "Beam search beats greedy",
    outcome=outcome_710.replace("only with average", "only with a length rule"),
    evidence="; ".join(
        f"{rule}, widths {WIDTHS}: BLEU {', '.join(f'{x:.1f}' for x in drawn_scores[rule])}, the "
        f"length at the last {lengths[rule][-1]:.2f} of the reference's" for rule in RULES
    ) + "; the effect is width 4 with the rule less greedy",
    effect=gains["average"][0].item(),
    standard_error=gains["average"][1:].std().item(),
)  # fmt: skip

# %% [markdown]
# The standard error here is of the choice of test lines, for one network. Whether a beam pays
# depends on the task, too: on the number words, where greedy makes next to no mistakes, there is
# next to nothing to gain.
#
# Claim 7.2 is settled above. The [lab](labs/07_seq2seq.ipynb) puts the others to the test: how far
# back does an RNN remember, is gradient clipping needed, does a lower loss mean better
# translations? All verdicts of the course are collected in [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 7.1.** A batch by hand. `pairs` is a list of pairs of id lists, source and target,
# without special tokens; padding is 0 and stands behind, start is 1, end 2. Return three int64
# tensors: the source (B, S), what the decoder is given (B, T), and what it should answer (B, T).

# %%
from course_lib.teaching.exercises import ch07


def make_batch(pairs):
    return ...  # your code here


ch07.make_batch.check(make_batch)

# %% [markdown]
# **Exercise 7.2.** A cell with a single gate. For `word` (inputs,) and `state` (hidden,):
#
# $$g = \sigma(W_g x + U_g h), \quad n = \tanh(W_n x + U_n (g \odot h)), \quad
# h' = (1 - g) \odot h + g \odot n.$$
#
# $x$ is the word, $h$ the state, $\sigma$ the sigmoid, and $\odot$ multiplies number by number.
# `W` (2 · hidden, inputs) holds $W_g$ above $W_n$, and `U` (2 · hidden, hidden) likewise. Return
# $h'$.


# %%
def minimal_cell(word, state, W, U):
    return ...  # your code here


ch07.minimal_cell.check(minimal_cell)

# %% [markdown]
# **Exercise 7.3.** Greedy decoding. `step(state, token)` takes a state and an id and returns logits
# (V,) and the next state. Begin with the given `state` and the id 1, stop at the id 2 or after
# `longest` words, and return the list of ids that were written, without 1 and 2.


# %%
def greedy_ids(step, state, longest):
    return ...  # your code here


ch07.greedy_ids.check(greedy_ids)

# %% [markdown]
# **Exercise 7.4.** A step of beam search on tensors. `scores` (K,) are the log-probabilities of K
# beginnings, `log_probabilities` (K, V) those of each next word. Return the K best of all K · V
# continuations, the best first: their scores (K,), which beginning each extends (K,), and the word
# that it adds (K,).


# %%
def extend_beams(scores, log_probabilities):
    return ...  # your code here


ch07.extend_beams.check(extend_beams)

# %% [markdown]
# ### Quiz

# %%
for question in ch07.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - Text becomes **ids**: one spelling, tokens, a vocabulary with a token for all that is unknown.
# - A recurrent network carries a state from word to word; **gates** let it keep what it needs.
# - **Encoder and decoder** with **teacher forcing**: all words of a sentence are trained at once.
#   Only translating has to go word by word.
# - **Attention** lets each written word look at the words read; it learns by itself at which.
# - A **beam** finds likelier sentences than greedy, and wants a length rule; **BLEU** counts common
#   n-grams, and compares systems on one test set only.
#
# **Papers.** S. Hochreiter, J. Schmidhuber: *Long short-term memory*, 1997. K. Cho and others:
# *Learning phrase representations using RNN encoder-decoder*, 2014 (GRU). I. Sutskever, O. Vinyals,
# Q. Le: *Sequence to sequence learning with neural networks*, 2014. D. Bahdanau, K. Cho, Y. Bengio:
# *Neural machine translation by jointly learning to align and translate*, 2015. T. Luong, H. Pham,
# C. Manning: *Effective approaches to attention-based neural machine translation*, 2015. Y. Wu and
# others: *Google's neural machine translation system*, 2016 (length rule). K. Papineni and others:
# *BLEU*, 2002. M. Post: *A call for clarity in reporting BLEU scores*, 2018. P. Koehn: *Statistical
# significance tests for machine translation evaluation*, 2004. K. Jordan and others: *Muon: an
# optimizer for hidden layers in neural networks*, 2024.
#
# **Longer, larger, elsewhere.** The same training from the command line; longer; shared by two
# processes:
#
# ```
# python -m course_lib train number_words
# python -m course_lib train dialogue
# python -m course_lib train dialogue_long
# torchrun --nproc-per-node 2 -m course_lib train dialogue_long
# ```

# %%
clock.stop()
