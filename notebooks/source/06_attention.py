# %% [markdown]
# # 06 · How does a word know which others matter?
#
# What is a *bank*? In “the bank of the river was green” it has to do with water, in “the bank lends
# money” with money. The word itself is the same; the words around it tell, and only some of them.
# Below, each row is a word, and shows from which words it draws: the darker a square, the more.
# (Why the axes say “queries” and “keys” comes in a minute.) In the row of *bank*, which squares
# beside that of *bank* itself do you expect to stand out, left and right?

# %%
import torch

from course_lib import attention, runtime
from course_lib.teaching import plot, report, toys, widgets, words
from course_lib.teaching.figures import ch06 as figures

clock = report.Clock(budget=35)
sentences = ("the bank of the river was green", "the bank lends money")
panels = {}
for sentence in sentences:
    names, weights = figures.explored_weights(sentence, "the same meaning", 1.0, "none")
    panels[sentence] = weights, names, names
shown = figures.maps(
    panels,
    caption="Each row sums to 1. Bank draws most from itself; after that, left, from river, and "
    "right, a little, from lends and money.",
    alt="Two square maps of weights between the words of a sentence. In the row of bank, the "
    "squares of bank itself and, left, of river, right, of lends and money are the darkest.",
    numbers=True,
)
of_bank = shown[sentences[0]][1]  # one weight for each word
report.holds("bank draws more from river than from green", of_bank[4] > of_bank[6])

# %% [markdown]
# A convolution (chapter 02) mixes every place with its neighbours, in the same way everywhere.
# Attention lets each place choose by itself where to look, and near or far makes no difference. It
# is the part from which translators and chat programs are built.
#
# **When you are through you can** look up softly in a dictionary, compute attention by hand, say
# what a mask hides, cut attention into heads, give it a sense of position in three ways, build the
# layers of a Transformer, and prove from a trained network's map that it looks where it must. It
# takes about two hours to read and try; the code runs within a minute. You need chapters 01 and 04,
# and the shortcut of chapter 05.

# %% [markdown]
# ## Build it: a dictionary that answers softly
#
# A dictionary has keys and values. It takes a query, finds the key that is equal, and gives its
# value; without an equal key there is no answer. A *soft* dictionary compares the query with all
# keys, gives each key a *score* for how well it fits, and answers with a mean of all values. The
# better a key fits, the more its value counts.
#
# > **query**: what is looked for, as a vector.
#
# > **key**: what a query is compared with, a vector for each entry.
#
# > **value**: what an entry gives to the answer, a vector, too.
#
# > **attention weight**: the share that an entry's value has in the answer. The weights of a query
# > are not negative and sum to 1: they come from a softmax.
#
# Here keys and values are single numbers, and the nearer a key is to the query, the higher its
# score. What will the query 2.4 give: 30, 20 or something between?

# %%
keys = torch.tensor([1.0, 2.0, 3.0, 4.0])
values = torch.tensor([10.0, 30.0, 20.0, 40.0])
query = 2.4

scores = -((query - keys) ** 2)  # (4,): the nearer, the higher
weights = scores.softmax(dim=0)  # (4,): they sum to 1
answer = (weights * values).sum()
for key, weight, value in zip(keys, weights, values, strict=True):
    print(f"key {key:.0f}  weight {weight:.3f}  value {value:.0f}")
print(f"answer {answer:.2f}")

# %% [markdown]
# Divide the scores by a number before the softmax, and you decide how strict the dictionary is.
#
# > **temperature**: what scores are divided by before a softmax. Near 0 the largest takes all; the
# > higher it is, the more equal the weights become.
#
# Which of the three curves below would an ordinary dictionary have, and what does the red one tend
# to?

# %%
answers = figures.lookup(
    (0.05, 0.5, 5.0),
    caption="The answer to every query between the four keys, at three temperatures.",
    alt="Three curves and four points. The one of temperature 0.05 has steps through "
    "all points, that of 0.5 is smooth and near them, that of 5 is nearly a straight line.",
)
hard = torch.tensor(answers[0.05])
report.equal("cold: at a key, its value", hard, values, rtol=1e-4)
mild = figures.soft_lookup(torch.tensor([2.4]), keys, values, 1.0)
report.equal("at 1: as by hand", mild[0], answer)

# %% [markdown]
# The cold curve gives at each key that key's value, as an ordinary dictionary does (and between the
# keys that of the nearest). The hot one flattens towards the mean of all values, 25, whatever is
# asked. And a soft answer has a slope with respect to query, keys and values. So all three can be
# *learned*: that is why the soft dictionary is worth more than the hard one.
#
# ## Build it: a sentence that looks into itself
#
# Now the entries are words. Each needs a vector; these here are made by hand, so that one can read
# them. A column is a trait, and a word has a 2 where it has the trait (we let *green* count as
# water, for the banks of rivers are green). In a real network the vectors are learned, and nobody
# knows what a column means.

# %%
names, x = words.vectors("the bank of the river was green")
print("traits:", ", ".join(words.TRAITS))
for name, row in zip(names, x.int().tolist(), strict=True):
    print(f"{name:<6}", row)

# %% [markdown]
# Likeness is a dot product: multiply column by column, and add. Two words with the same traits get
# a high score, two without a common one get 0.
#
# > **self-attention**: attention in which queries, keys and values are made from the same sequence.
#
# Step by step: all pairs at once are one matrix product; then the scores are divided by $\sqrt d$,
# the root of the number of columns, and each row goes through a softmax. What shape have the
# scores of 7 words with 8 traits? And which word will have the highest score with *bank*?

# %%
scores = x @ x.T  # (7, 8) @ (8, 7) -> (7, 7)
print("scores of bank:", dict(zip(names[1:], scores[1, 1:].tolist(), strict=True)))
scaled = scores / x.shape[1] ** 0.5  # (7, 7)
weights = scaled.softmax(dim=1)  # (7, 7), each row sums to 1
output = weights @ x  # (7, 7) @ (7, 8) -> (7, 8)
print("shapes", tuple(scores.shape), tuple(weights.shape), tuple(output.shape))
report.holds("every row sums to 1", torch.allclose(weights.sum(dim=1), torch.ones(7)))

# %% [markdown]
# That is all:
#
# $$\text{attention}(Q, K, V) = \text{softmax}\left(\frac{Q K^T}{\sqrt d}\right) V$$
#
# The rows of $Q$, $K$ and $V$ are the queries, keys and values; here all three are $x$. Why the
# root? The sum of $d$ products of random numbers grows like $\sqrt d$, and a softmax of large
# scores is nearly a hard choice, through which next to no gradient flows. The lab measures it.
#
# What has become of *bank*? Look at its traits before and after, in both sentences.

# %%
for sentence in sentences:
    names, x = words.vectors(sentence)
    output, _ = attention.attention_by_hand(x, x, x)
    place = names.index("bank")
    for what, row in (("before", x[place]), ("after", output[place])):
        traits = dict(zip(words.TRAITS, row.tolist(), strict=True))
        print(f"{what:<7} water {traits['water']:.2f}  money {traits['money']:.2f}   {sentence}")
    more = "water" if "river" in sentence else "money"
    less = {"water": "money", "money": "water"}[more]
    report.holds(f"now it has more of {more}", bool(traits[more] > traits[less]))

# %% [markdown]
# The vector of *bank* has moved towards the meaning that its sentence gives it. Nobody told it
# where to look: the vectors did.
#
# **Why three vectors for a word?** With $Q = K = V = x$ a word looks mostly at words like itself,
# itself first. But the word *it* should find the noun it stands for, and a verb its subject: unlike
# words. So the network learns three matrices: one makes of each word what it *asks* for (its
# query), one what it *offers* to be found by (its key), one what it *gives* (its value).
#
# Until now the score of *river* with *bank* was that of *bank* with *river*; their weights differed
# only because each row has a softmax of its own. Is it still so with matrices of random numbers?

# %%
generator = runtime.seed_everything(0)
names, x = words.vectors(sentences[0])
to_query, to_key, to_value = (torch.randn(8, 8, generator=generator) / 8**0.5 for _ in range(3))
river, bank = names.index("river"), names.index("bank")
alike = x @ x.T  # (7, 8) @ (8, 7) -> (7, 7)
asked = (x @ to_query) @ (x @ to_key).T  # (7, 7)
for what, scores in {"without matrices": alike, "with matrices": asked}.items():
    there, back = scores[bank, river], scores[river, bank]
    print(f"{what:<17} bank asks river {there:6.2f}, river asks bank {back:6.2f}")
report.holds("without matrices the scores are symmetric", alike.equal(alike.T))
report.holds("with them they are not", not torch.allclose(asked, asked.T))
output, weights = attention.attention_by_hand(x @ to_query, x @ to_key, x @ to_value)  # the whole

# %% [markdown]
# ## Build it: what must not be seen
#
# Some places must not be looked at. Padding, which fills short sentences up, means nothing. And a
# network that learns to say the next word must not see that word: it would only learn to copy it.
#
# > **mask**: for each query and each key, whether the one may attend to the other. Here True means
# > it may.
#
# > **causal mask**: each place sees itself and the places before it.
#
# Set the hidden scores to minus infinity, and the softmax turns them into weights of 0. Here is one
# sentence of five places, of which the last two are padding. How many squares will be left in the
# map on the right, where both masks hold?

# %%
real = torch.tensor([[True, True, True, False, False]])
causal = attention.causal_mask(5)  # (5, 5)
both = causal & attention.padding_mask(real)[0, 0]  # (5, 5) & (1, 5) -> (5, 5)
place = [str(number) for number in range(5)]
padding = real.expand(5, 5)
masks = {"padding": padding, "causal": causal, "both": both}
shown = figures.maps(
    {name: (mask.float(), place, place) for name, mask in masks.items()},
    caption="Blue: may be seen. Left and right, places 3 and 4 are padding.",
    alt="Three maps of five by five squares. Padding: the first three columns are blue. Causal: "
    "the lower triangle. Both: what is blue in the two others.",
    label="may be seen",
)
print("squares left:", int(both.sum()))

# %% [markdown]
# **A row with nothing.** A sentence may be empty, or a mask may hide all there is. Then every score
# of the row is minus infinity. What does a softmax make of that? And what should come out?

# %%
q, k, v = (torch.randn(3, 4, generator=generator, requires_grad=True) for _ in range(3))
nothing = torch.tensor([[True, False, False], [False, False, False], [True, True, True]])

scores = (q @ k.T / 2).masked_fill(~nothing, float("-inf"))
naive = scores.softmax(dim=1) @ v
naive.sum().backward()
print("by minus infinity:", naive[1].tolist())
print("NaN in the gradient of the values:", v.grad.isnan().any().item())

q.grad = k.grad = v.grad = None
output, weights = attention.attention_by_hand(q, k, v, nothing)
output.sum().backward()
print("ours:", output[1].tolist(), "weights", weights[1].tolist())
report.holds("no NaN in any gradient", all(bool(t.grad.isfinite().all()) for t in (q, k, v)))
report.holds("the gradient of its query is 0", bool((q.grad[1] == 0).all()))
report.holds("the other rows are as before", torch.allclose(output[[0, 2]], naive[[0, 2]]))

# %% [markdown]
# One NaN in a gradient makes NaN of weights at the next step, and then of all that is computed from
# them. Our rule in the whole course: a query that may look at nothing gets zeros.
#
# ## Build it: several heads
#
# One softmax makes one choice. But *lends* should find who lends **and** what is lent, and use the
# two for different things. So queries, keys and values are cut into parts, and each part has an
# attention of its own.
#
# > **head**: one of several attentions side by side, each with its own part of queries, keys and
# > values.
#
# > **multi-head attention**: all heads' outputs, joined again, and mixed by one more matrix.
#
# The vectors have 8 columns (their *width*), and we take 2 heads: each works with 4 columns. We
# write it out for one sentence. How many attention weights will all heads have for 7 words?

# %%
module = attention.MultiHeadAttention(width=8, heads=2)  # its three matrices lie in one, (24, 8)
projected = x @ module.in_proj_weight.T + module.in_proj_bias  # (7, 8) -> (7, 24)
queries, keys, values = projected.split(8, dim=1)  # each (7, 8)
parts, maps = [], []
for head in range(2):
    columns = slice(4 * head, 4 * head + 4)
    output, weights = attention.attention_by_hand(
        queries[:, columns], keys[:, columns], values[:, columns]
    )
    parts.append(output)  # (7, 4)
    maps.append(weights)  # (7, 7)
joined = torch.cat(parts, dim=1)  # -> (7, 8)
by_hand = joined @ module.out_proj.weight.T + module.out_proj.bias  # (7, 8)
print("weights of all heads:", tuple(torch.stack(maps).shape), "=", 2 * maps[0].numel())
report.equal("output as the module's", by_hand, module(x[None])[0], rtol=1e-4, atol=1e-6)
report.equal("and the weights", torch.stack(maps), module.weights(x[None])[0], rtol=1e-4, atol=1e-6)

# %% [markdown]
# ## Check it: the same numbers as PyTorch
#
# The library has the formula twice. `attention_by_hand` is what you have just written;
# `attention_fused` is one call that never stores all the weights, and on a GPU that is much faster.
# With every mask, outputs and gradients must agree with each other and with PyTorch.

# %%
import torch.nn.functional as F


def outcome(function, mask):
    """The output, and the gradients of queries, keys and values, joined."""
    draws = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 3, 5, 4, generator=draws, dtype=torch.float64) for _ in range(3))
    inputs = [tensor.requires_grad_() for tensor in (q, k, v)]
    output = function(*inputs, mask)  # (2, 3, 5, 4)
    output.square().sum().backward()
    return torch.stack([output.detach(), *(tensor.grad for tensor in inputs)])


def hand(q, k, v, mask):
    return attention.attention_by_hand(q, k, v, mask)[0]


for name, mask in {"no mask": None, **masks}.items():
    wanted = outcome(F.scaled_dot_product_attention, mask)
    for form, function in {"by hand": hand, "fused": attention.attention_fused}.items():
        report.equal(f"{name}: {form}", outcome(function, mask), wanted, rtol=1e-9, atol=1e-12)

# %% [markdown]
# The module has the names and shapes of PyTorch's, so that weights go from one to the other. Mind
# one trap: PyTorch's module wants True where something is *hidden*.

# %%
theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
module.load_state_dict(theirs.state_dict())
hidden = ~causal
wanted, their_weights = theirs(
    x[None, :5], x[None, :5], x[None, :5], attn_mask=hidden, average_attn_weights=False
)
report.equal("output", module(x[None, :5], mask=causal), wanted, atol=1e-6)
report.equal("weights", module.weights(x[None, :5], mask=causal), their_weights, atol=1e-6)

# %% [markdown]
# ## Build it: where does a word stand?
#
# “The dog bites the man” and “the man bites the dog” hold the same words. Does self-attention know
# which is which? We shuffle a sentence's words and look at what comes out. Guess: something new, or
# the old outputs in the new order?

# %%
runtime.seed_everything(1)
heads = attention.MultiHeadAttention(8, 2)
names, x = words.vectors("the dog chases the man by the river")
order = torch.randperm(len(names), generator=generator)
before = heads(x[None])[0]  # (8, 8)
after = heads(x[order][None])[0]
print(" ".join(names[i] for i in order))
unaware = torch.allclose(after, before[order], atol=1e-6)
with_codes = x + attention.sinusoidal_positions(len(names), 8)  # what comes next
moved = x[order] + attention.sinusoidal_positions(len(names), 8)
aware = not torch.allclose(heads(moved[None])[0], heads(with_codes[None])[0][order], atol=1e-3)

report.verdict(
    "6.6",
    "Self-attention knows the order of words",
    outcome="false" if unaware and aware else "depends: see the cell",
    evidence=f"shuffled words give the same outputs, shuffled: {unaware}; with positions added "
    f"they differ: {aware}",
)

# %% [markdown]
# Without help a sentence is a bag of words. So each word must be told its place. There are three
# usual ways:
#
# - **Sinusoidal**: add a fixed code of sines and cosines to each word's vector.
# - **Learned**: add a vector for each place, learned like any weight. The table of these vectors
#   has an end; places beyond it have none.
# - **Rotary**: add nothing. Turn each query and each key by an angle that grows with its place.
#
# > **positional encoding**: what tells a network at which place of the sequence a vector stands.
#
# The sinusoidal code is like a clock with many hands. Each pair of columns is one hand, its sine
# and its cosine; the first hand turns by one radian a place, and each later one more slowly. For
# place $i$ and hand $j$, with vectors of width $d$:
#
# $$\text{code}(i)_{2j} = \sin\frac{i}{10000^{2j/d}} \qquad
# \text{code}(i)_{2j+1} = \cos\frac{i}{10000^{2j/d}}$$
#
# By hand for one place, then the picture for all. Which columns tell neighbours apart, and which
# tell place 5 from place 50?

# %%
import math

width, i = 16, 5
code = []
for j in range(width // 2):
    angle = i / 10000 ** (2 * j / width)
    code += [math.sin(angle), math.cos(angle)]
table = attention.sinusoidal_positions(9, width)  # (9, 16)
report.equal("code of place 5", torch.tensor(code), table[i], atol=1e-6)

positions_explorer = widgets.explore(
    figures.positions_figure,
    alt="Left, a map of the codes: fast stripes in the first columns, slow ones behind. Right, how "
    "alike the chosen position and all others are: 1 at itself, lower in waves everywhere else.",
    caption="Left: a row is the code of one place. Right: its likeness to the others, and, dashed, "
    "that of one vector turned to both places. Move the position, then make the codes narrower.",
    position=widgets.slider("position", 0, 63, 20, 1),
    width=widgets.slider("columns", 4, 64, 32, 4),
)

# %%
alike = figures.position_scores("sinusoidal", 64, 32)
by_distance = [alike.diagonal(offset=k) for k in range(8)]  # equal distances lie on diagonals
spread = max((line.max() - line.min()).item() for line in by_distance)
report.holds("how alike two codes are depends on their distance alone", spread < 1e-4)
report.equal("rotary: the same curve", figures.position_scores("rotary", 64, 32), alike, atol=1e-4)

# %% [markdown]
# The first columns tell neighbours apart; those in the middle turn slowly, and tell 5 from 50 (the
# last are for much longer texts). Few columns are not enough: with 4, places six apart look nearly
# alike, for the first hand has then gone round almost once.
#
# The curve moves with the position and keeps its shape. And one can say more: “the code of place
# $i + k$ is a fixed linear map of that of $i$, the same for every $i$”. If so, one matrix is enough
# to ask for “the word three places before me”, wherever one stands. Each hand must be turned by
# $k$ times its angle; so the matrix has a small rotation for each pair of columns. We write it
# down, and we also *fit* one to the first 200 places. Will the fitted one be right at place 1000?

# %%
codes = attention.sinusoidal_positions(1100, 16, dtype=torch.float64)  # (1100, 16)
k = 3
angles = k / 10000 ** (torch.arange(0, 16, 2, dtype=torch.float64) / 16)  # (8,)
blocks = [torch.tensor([[a.cos(), -a.sin()], [a.sin(), a.cos()]]) for a in angles]
matrix = torch.block_diag(*blocks).double()  # (16, 16): code(i + k) = code(i) @ matrix
exact = (codes[:-k] @ matrix - codes[k:]).abs().max().item()
fitted = torch.linalg.lstsq(codes[:200], codes[k : 200 + k]).solution  # from the first places
far = (codes[1000:-k] @ fitted - codes[1000 + k :]).abs().max().item()

report.verdict(
    "6.3",
    "The sine and cosine code of position i + k is a fixed linear map of that of i",
    outcome="true" if exact < 1e-6 and far < 1e-4 else "false",
    evidence=f"largest error over 1,097 places {exact:.1g}; of a matrix fitted to the first 200 "
    f"places, at places from 1,000 on {far:.1g}",
)

# %% [markdown]
# It is, apart from rounding. **Rotary** positions use such rotations directly. They leave the
# word's vector as it is, and turn its query and its key, each pair of columns at the speed of its
# hand, the further, the later the word stands. What do you expect of the product of one query and
# one key when both are moved by 100 places? And when the two swap places?

# %%
draws = runtime.generator_for(6, 1)
q, k = torch.randn(2, 1, 16, generator=draws).double()  # two vectors (1, 16)


def product(query_place, key_place):
    turned_q = attention.rotate(q, torch.tensor([query_place]))  # (1, 16)
    turned_k = attention.rotate(k, torch.tensor([key_place]))
    return (turned_q * turned_k).sum()


print(f"places 7 and 4: {product(7, 4):.4f}; 4 and 7: {product(4, 7):.4f}")
report.equal("107 and 104 as 7 and 4", product(107, 104), product(7, 4), rtol=1e-6, atol=1e-6)

# %% [markdown]
# The product depends on how far apart the two stand, and on which of them comes first; where in the
# sentence they stand makes no difference.
#
# ## Build it: the layers of a Transformer
#
# Attention moves information between places; it cannot compute much with it, for its output is a
# mean of values. So a small network of two linear layers follows, for each place by itself. Both
# are branches with a shortcut (chapter 05), and a layer norm (chapter 04) keeps the numbers in
# bounds.
#
# > **encoder layer**: self-attention, then a feed-forward net, each with a shortcut and a layer
# > norm.
#
# > **decoder layer**: the same with one part more between the two: attention whose queries come
# > from the decoder and whose keys and values come from the encoder's output.
#
# > **post-norm and pre-norm**: whether the norm comes after the sum, as in the first Transformer,
# > or before attention and feed-forward net, so that the shortcuts stay free.
#
# Follow the grey line from left to right. In which of the two does something lie on the way that
# the blue shortcuts do not get past?

# %%
plans = figures.layer_plans(
    caption="An encoder layer both ways. In blue the shortcuts, past attention and past the "
    "feed-forward net.",
    alt="Two rows of boxes. Post-norm: attention, plus, norm, feed-forward, plus, norm. Pre-norm: "
    "norm, attention, plus, norm, feed-forward, plus.",
)
assert plans["pre-norm"][0] == "norm" and plans["post-norm"][-1] == "norm"

# %% [markdown]
# It is post-norm: behind each sum all must go through a norm. In pre-norm the numbers can pass from
# one end to the other unchanged, and so can gradients on their way back.
#
# A pre-norm layer in three lines, for you to read. Then the library's layers, of both kinds, beside
# PyTorch's with the same weights: outputs in float64.

# %%
config = attention.TransformerConfig(width=16, heads=4, layers=1, hidden=32, positions="none")
layer = attention.EncoderLayer(config)
z = torch.randn(2, 6, 16, generator=draws)  # (B, T, width)

y = z + layer.self_attn(layer.norm1(z))  # (2, 6, 16)
inner = layer.linear1(layer.norm2(y)).relu()  # (2, 6, 16) -> (2, 6, 32)
y = y + layer.linear2(inner)  # (2, 6, 32) -> (2, 6, 16)
report.equal("a pre-norm encoder layer", y, layer(z), rtol=1e-4, atol=1e-6)

# %%
from dataclasses import replace

z, memory = z.double(), torch.randn(2, 5, 16, generator=draws).double()  # an encoder's output
later = ~attention.causal_mask(6)  # PyTorch: True is hidden
for pre_norm in (False, True):
    name = "pre-norm" if pre_norm else "post-norm"
    chosen = replace(config, pre_norm=pre_norm)
    options = {"dropout": 0.0, "batch_first": True, "norm_first": pre_norm}
    theirs = torch.nn.TransformerEncoderLayer(16, 4, 32, **options).double()
    ours = attention.EncoderLayer(chosen).double()
    ours.load_state_dict(theirs.state_dict())
    report.equal(f"{name} encoder layer", ours(z), theirs(z), rtol=1e-9, atol=1e-12)
    theirs = torch.nn.TransformerDecoderLayer(16, 4, 32, **options).double()
    ours = attention.DecoderLayer(chosen).double()
    ours.load_state_dict(theirs.state_dict())
    output = ours(z, memory, attention.causal_mask(6))
    report.equal(f"{name} decoder layer", output, theirs(z, memory, later), rtol=1e-9, atol=1e-12)

# %% [markdown]
# **Word by word.** In training a decoder reads the whole answer at once, and the causal mask keeps
# it from looking ahead. When it has to write, it gets one word after another. Must it then compute
# everything anew for every word? Keys and values of earlier words never change, for those words see
# nothing later. So they are kept.
#
# > **key-value cache**: keys and values of the places seen so far, kept for the places to come.

# %%
decoder = attention.Decoder(replace(config, layers=2)).double().eval()
whole = decoder(z, memory)  # all six places at once: (2, 6, 16)
state = decoder.start(memory)
rows = []
for place in range(6):
    row, state = decoder.step(z[:, place : place + 1], state)  # (2, 1, 16)
    rows.append(row)
print("keys kept in a layer:", tuple(state.caches[0][0].shape), "(B, heads, T, d)")
report.equal("step by step as at once", torch.cat(rows, dim=1), whole, rtol=1e-6, atol=1e-9)

# %% [markdown]
# ## Play
#
# Three heads, made by hand. The first compares the traits from above. The two others look at the
# places only: each query is the sinusoidal code of the place before, or of the first one. Type your
# own sentence (a word that is not in the table gets only zeros, and so is like no other), and try:
#
# - Cool the first head down. Which words still look at others than themselves?
# - Choose “the word before”. The first word has none before it: where does it look? Then add the
#   causal mask: why does hardly a number change?
# - Back to “the same meaning”: hide the small words (*the*, *a*, *by*). They were like each other
#   only. What do they look at now?

# %%
import ipywidgets

start = "the cat chases a mouse by the river bank"
wide = {"style": {"description_width": "9em"}, "layout": ipywidgets.Layout(width="32em")}
explorer = widgets.explore(
    figures.explorer_figure,
    alt="A square map of attention weights between the words of a sentence.",
    caption="A row is a word, and shows where it looks. Each row sums to 1, or to 0 where the mask "
    "leaves nothing.",
    sentence=ipywidgets.Text(start, description="sentence", **wide),
    head=ipywidgets.Dropdown(options=figures.HEADS, description="head", **wide),
    temperature=widgets.slider("temperature", 0.1, 4, 1, 0.1),
    mask=ipywidgets.Dropdown(options=figures.MASKS, description="mask", **wide),
)
print(len(words.known()), "words have a vector:", ", ".join(words.known()[:12]), "...")

# %% [markdown]
# Cold, a word looks in equal shares at itself and at all words that are as like it as it is itself:
# small words at small words, *cat* and *mouse* at each other, *river* at *bank*. (*Bank* has one
# trait more, and is most like itself.) The first word asks for a place that does not exist; the
# code nearest to that is its own. A causal mask hides what comes later, where this head hardly
# looks. And the small words, without each other, have a score of 0 with all that are left: they
# look at these in equal shares.
#
# Below, for each head, the word that each word looks at most (of equals, the first):

# %%
example = "the cat chases a mouse"
for head in figures.HEADS:
    names, seen = figures.explored_weights(example, head, 0.5, "causal")
    strongest = [names[column] for column in seen.argmax(dim=1)]
    print(f"{head:<17}", " ".join(f"{a}>{b}" for a, b in zip(names, strongest, strict=True)))
_, cold = figures.explored_weights(example, "the word before", 0.1, "causal")
report.holds("each word finds the one before it", cold[1:].argmax(dim=1).tolist() == [0, 1, 2, 3])

# %% [markdown]
# ## Train it: does it look where it must?
#
# An attention map of a real sentence looks convincing, whatever it shows: nobody knows what it
# should be. So we take tasks for which we do know. **Reverse**: sixteen digits come in, and the
# same digits must come out backwards. The first place needs what stands last, the second what
# stands last but one. One layer, one head. What must its map look like?
#
# Shapes and parameters first. There are $10^{16}$ such sequences; those of the test were drawn
# apart from those for training.

# %%
recipe = toys.reverse()
model = recipe.model
tokens, answers = next(iter(recipe.batches))
print("in ", tokens[0].tolist())
print("out", answers[0].tolist())
with torch.no_grad():
    embedded = model.embed(tokens)
    encoded = model.encoder(embedded)
    logits = model(tokens)
for name, tensor in {"tokens": tokens, "embedded": embedded, "encoded": encoded}.items():
    print(f"{name:<9}", tuple(tensor.shape))
print(f"{'logits':<9}", tuple(logits.shape))
print(f"parameters: {sum(p.numel() for p in model.parameters()):,}")

# %%
print(f"{recipe.config.steps} steps of {recipe.batches.batch_size} sequences")
history = recipe.fit(callbacks=[plot.LiveCurve()])
curve = plot.training_curve(
    history,
    caption="The loss by step (dotted: all sequences seen once). What has the network found out "
    "when the loss falls steeply?",
    alt="The loss stays near the logarithm of ten for a while, then falls steeply to almost 0.",
    epoch=len(recipe.batches),
)
report.holds("the loss fell", curve["smooth"][-1] < curve["smooth"][0], trained=True)
found = recipe.test(model)
report.result("Digits right, held-out", 100 * found["accuracy"], "%", target=99.9, gate=99.9)
report.value("Whole sequences right", f"{100 * found['sequences']:.2f}", unit="%")
report.seconds("Training", history.seconds, target=20)

# %% [markdown]
# At first it gives every digit the same probability, and the loss is the logarithm of ten. To get
# better it must find out where to look. As soon as it looks at the right place a little, the slope
# says: more. Then everything happens within a few dozen steps.
#
# ## Look inside
#
# The map of one held-out sequence, and the mean of two hundred. Does it look backwards?

# %%
fresh = toys.digits(200, 99)  # drawn apart, once more
(weights,) = figures.weights_of(model, fresh)  # (200, 1, 16, 16): one layer
one, mean = weights[0, 0], weights.mean(dim=(0, 1))
labels = [str(digit) for digit in fresh[0].tolist()]
place = [str(number) for number in range(16)]
figures.maps(
    {"one sequence": (one, labels[::-1], labels), "mean, by place": (mean, place, place)},
    caption="Left: below, the digits that came in; at the side, those that must come out. Right: "
    "the mean of 200 sequences, by place.",
    alt="Two maps of 16 by 16 squares with one dark line from top right to bottom left.",
)
backwards = torch.arange(16).flip(0)  # (16,): where each place must look
report.holds(
    "in every sequence every place looks at its mirror image most",
    bool((weights.argmax(dim=-1) == backwards).all()),
    trained=True,
)
least = mean[torch.arange(16), backwards].min().item()
report.result("Least weight on the anti-diagonal", least, target=0.98, gate=0.97)

# %% [markdown]
# No place was told its number in plain words: it has a sinusoidal code, and the network has found
# the map from the code of $i$ to that of $15 - i$. What if there are no codes? Then a place can ask
# with nothing but its own digit, and cannot know where it or any other stands. Predict: as good as
# chance (one in ten), or better? (It gets 150 steps, more than the fall of the loss took above.)

# %%
blind = toys.reverse(positions="none", steps=150)
blind.fit()
share = 100 * blind.test(blind.model)["accuracy"]
report.value("Digits right without positions", f"{share:.1f}", unit="%")
report.holds("it stays below a third", share < 33)

# %% [markdown]
# Better than chance, for it can still count: it says what is frequent in the sequence.
#
# **Two more tasks.** *Copy first*: the first digit, at every place. *Sort*: eight different numbers
# come in, and a decoder says them in ascending order. It sees what it said before (in training,
# what it *should* have said), and looks for the next number in the input. Draw both maps in your
# mind before you run the cell: which of them is the same for every input?

# %%
copier, sorter = toys.copy_first(), toys.sort()
for name, each in {"copy first": copier, "sort": sorter}.items():
    done = each.fit()
    result = each.test(each.model)
    report.result(f"{name}: right, held-out", 100 * result["accuracy"], "%", target=99.9, gate=99.9)
    report.value("training", f"{done.seconds:.1f}", unit="s")

# %%
(copied,) = figures.weights_of(copier.model, fresh)  # (200, 1, 16, 16)
numbers, said, answers = toys.numbers_to_sort(2000, 99)  # each (2000, 8)
_, sorting = figures.weights_of(sorter.model, numbers, said)  # to itself; to the input
sorting = sorting[:, 0]  # (2000, 1, 8, 8) -> (2000, 8, 8)
into, out = ([str(n) for n in row[0].tolist()] for row in (numbers, answers))
figures.maps(
    {"copy first": (copied[0, 0], place, place), "sort": (sorting[0], out, into)},
    caption="Left: by place. Right: below, the numbers as they came in; at the side, those to be "
    "said, in order. Where a row has several blue squares: which numbers are they?",
    alt="Left, a map whose first column is dark and all else pale. Right, a map of eight by eight; "
    "the darkest square of each row stands where that row's number came in.",
)
report.holds("copy first: every place looks at place 0 most",
             bool((copied.argmax(dim=-1) == 0).all()), trained=True)  # fmt: skip
stands = (numbers[:, None] == answers[:, :, None]).long().argmax(dim=-1)  # (2000, 8)
hits = (sorting.argmax(dim=-1) == stands).double().mean().item()
report.result("sort: looks at the right number most", 100 * hits, "%", target=98, gate=96.9)

# %% [markdown]
# Where the sorter is not sure, it looks at numbers near in order, too, but most at the right one.
# The map of *sort* differs for every input: it depends on the *content*, those of *copy first* and
# *reverse* on the *place*. Attention does both with the same formula. A caution, though: a place
# may look at a number and not use it, and where there are several layers, what it needs may have
# reached it by way of another place. A map shows where information may flow, not what is done with
# it.
#
# **Let it write.** At last the sorter works on its own: each number it says is what it sees next.
# Keys and values of the input are computed once; the cache keeps the rest. One wrong number, and
# all that follow would suffer. How many of 2,000 rows will be in perfect order?


# %%
@torch.no_grad()
def sort_by_itself(model, numbers):
    """Say one number after another: (B, T) -> (B, T)."""
    state = model.decoder.start(model.embed(numbers))  # keys and values of the input, once
    last = torch.full((len(numbers), 1), toys.NUMBERS)  # a sign that stands for “begin”
    spoken = []
    for _ in range(numbers.shape[1]):
        row, state = model.decoder.step(model.embed(last), state)  # (B, 1, width)
        last = model.answer(row).argmax(dim=-1)  # -> (B, 1)
        spoken.append(last)
    return torch.cat(spoken, dim=1)  # -> (B, T)


spoken = sort_by_itself(sorter.model, numbers)
perfect = 100 * (spoken == answers).all(dim=1).double().mean().item()
print("in ", numbers[0].tolist())
report.value("out", spoken[0].tolist())
report.result("Rows in perfect order", perfect, "%", target=99.9, gate=99.6)

# %% [markdown]
# ## Claims
#
# Two are settled above: 6.3 and 6.6. The [lab](labs/06_attention.ipynb) puts the others to the
# test: does the root of $d$ matter, is minus a billion as good as minus infinity, do several heads
# help, what does length cost? All verdicts of the course are collected in
# [one table](../docs/claims.md).
#
# ## Your turn
#
# **Exercise 6.1.** Sizes: five numbers. “It” is always the module of the first line.

# %%
from course_lib.teaching.exercises import ch06

my_sizes = {
    "columns that each head of MultiHeadAttention(width=64, heads=8) works with": ...,
    "weights in its in_proj_weight": ...,
    "attention weights it computes for 2 sentences of 10 words": ...,
    "True entries in causal_mask(5)": ...,
    "times as many attention weights for a sentence that is 3 times as long": ...,
}
ch06.sizes.check(my_sizes)

# %% [markdown]
# **Exercise 6.2.** A mask for a decoder that reads padded sentences. `lengths` (B,) says how many
# of the `size` places of each sentence are real; they stand first. Return a bool mask
# (B, 1, `size`, `size`), rows for queries: each place may attend to itself and to places before it,
# but never to padding. (Places of padding have rows, too, by the same rule.)


# %%
def decoder_mask(lengths, size):
    return ...  # your code here


ch06.decoder_mask.check(decoder_mask)

# %% [markdown]
# **Exercise 6.3.** Attention by the formula, without calling a ready-made one: `query` (T, d),
# `key` (S, d), `value` (S, e) and a bool `mask` (T, S), True = may attend. Return the output
# (T, e). A row with nothing to attend to gives zeros.


# %%
def attend(query, key, value, mask):
    return ...  # your code here


ch06.attend.check(attend)

# %% [markdown]
# **Exercise 6.4.** Several heads: cut the columns of `x` (B, T, width) into `heads` equal parts,
# the first columns for the first head. Each part attends to itself: its queries, keys and values
# are all the part. Join the outputs again: (B, T, width). There are no matrices to learn. You may
# use `attention.attention_by_hand`.


# %%
def many_heads(x, heads):
    return ...  # your code here


ch06.many_heads.check(many_heads)

# %% [markdown]
# ### Quiz

# %%
for question in ch06.QUIZZES:
    question.ask()

# %% [markdown]
# ## Take-away
#
# - Attention is a **soft dictionary**: weights from a softmax over products of query and keys, and
#   with them a mean of the values. All of it can be learned.
# - A **mask** hides scores before the softmax; who may see nothing gets zeros, never NaN.
# - **Heads** look for different things side by side, each on a part of the width.
# - It knows no **order**: positions are added to the words, or queries and keys are turned.
# - A map proves something only where one knows what it should be: **test on such a task**.
#
# **Papers.** A. Vaswani and others: *Attention is all you need*, 2017. D. Bahdanau, K. Cho,
# Y. Bengio: *Neural machine translation by jointly learning to align and translate*, 2015 (the
# first attention). R. Xiong and others: *On layer normalization in the Transformer architecture*,
# 2020 (pre-norm). J. Su and others: *RoFormer: enhanced Transformer with rotary position
# embedding*, 2021. T. Dao and others: *FlashAttention*, 2022 (what the fused call does). S. Jain,
# B. Wallace: *Attention is not explanation*, 2019 (the caution).
#
# **Longer, larger, elsewhere.** These toys are done in seconds on any machine. The layers are put
# to work in the chapters to come: translating (07), BERT (08), GPT (09). How our module compares
# with PyTorch's, in time and memory, is measured by
#
# ```
# python -m course_lib bench attention
# ```

# %%
clock.stop()
