"""The names of GPT-2's config and tensors in Hugging Face's layout, and ours for the same things.

`course_lib.gpt` reads and writes checkpoints with them. GPT-2 stores most of its matrices turned,
(in, out), since its "Conv1D" multiplies from the other side than `nn.Linear`.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

HEAD = "lm_head.weight"
PREFIX = "transformer."  # before all names but the head's; the checkpoint "gpt2" leaves it out
BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, which older files hold
PARTS = {  # ours: theirs
    "embedding": "wte",
    "stack.positions": "wpe",
    "stack.norm": "ln_f",
    "norm1": "ln_1",
    "norm2": "ln_2",
    "self_attn.in_proj": "attn.c_attn",
    "self_attn.out_proj": "attn.c_proj",
    "linear1": "mlp.c_fc",
    "linear2": "mlp.c_proj",
}
CONV1D = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")  # the turned ones

VALUES = {  # of the config, ours: theirs
    "vocabulary": "vocab_size",
    "length": "n_positions",
    "width": "n_embd",
    "heads": "n_head",
    "layers": "n_layer",
    "hidden": "n_inner",
    "dropout": "resid_pdrop",
    "tied": "tie_word_embeddings",
    "activation": "activation_function",
    "norm_eps": "layer_norm_epsilon",
}
DEFAULTS = {  # where a config says nothing
    "n_inner": None,
    "resid_pdrop": 0.1,
    "tie_word_embeddings": True,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
}
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu": "gelu", "relu": "relu"}  # theirs: ours
FIXED = {  # what `GPT` does; it cannot do otherwise
    "model_type": "gpt2",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def our_config(config: Mapping[str, object]) -> dict[str, object]:
    """The arguments of `GPTConfig` from GPT-2's config.

    Raises:
        ValueError: a value is missing, or asks for what `GPT` cannot do.
    """
    config = {**DEFAULTS, **config}
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(f"config has {name} {config[name]!r}; allowed is {value!r}")
    missing = [theirs for theirs in VALUES.values() if theirs not in config]
    if missing:
        raise ValueError(f"config lacks {missing[0]}, which every GPT-2 has")
    values = {ours: config[theirs] for ours, theirs in VALUES.items()}
    activation = values["activation"]
    if activation not in ACTIVATIONS:
        allowed = ", ".join(ACTIVATIONS)
        raise ValueError(f"config has activation_function {activation!r}; allowed are {allowed}")
    return values | {"activation": ACTIVATIONS[activation]}


def their_config(config: Mapping[str, object]) -> dict[str, object]:
    """GPT-2's config from the values of a `GPTConfig`.

    Raises:
        ValueError: GPT-2 has no such positions, or no layers without biases.
    """
    if config["positions"] != "learned":
        raise ValueError(f"positions is {config['positions']!r}; allowed in a GPT-2 is learned")
    if not config["bias"]:
        raise ValueError("bias is False; a GPT-2 has biases")
    values = {theirs: config[ours] for ours, theirs in VALUES.items()}
    theirs = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    values["activation_function"] = theirs[config["activation"]]
    values |= {"attn_pdrop": config["dropout"], "embd_pdrop": config["dropout"]}
    return FIXED | values | {"architectures": ["GPT2LMHeadModel"]}


def our_weights(
    tensors: Mapping[str, Tensor], names: Iterable[str], tied: bool
) -> dict[str, Tensor]:
    """GPT-2's tensors by our `names`; those that belong to none keep theirs."""
    ours = {their_name(name): name for name in names}
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(BUFFERS) or (tied and name == HEAD):
            continue
        if name != HEAD and not name.startswith(PREFIX):
            name = PREFIX + name
        weights[ours.get(name, name)] = _turn(name, tensor)
    if tied and "embedding.weight" in weights:
        weights["head.weight"] = weights["embedding.weight"]
    return weights


def their_weights(weights: Mapping[str, Tensor], tied: bool) -> dict[str, Tensor]:
    """GPT-2's tensors from our state dict; a tied head is left out."""
    named = {their_name(name): tensor for name, tensor in weights.items()}
    return {n: _turn(n, tensor) for n, tensor in named.items() if not (tied and n == HEAD)}


def their_name(name: str) -> str:
    """Our "stack.layers.0.linear1.weight" is GPT-2's "transformer.h.0.mlp.c_fc.weight"."""
    if name == "head.weight":
        return HEAD
    name, layer = name.replace("in_proj_", "in_proj."), ""
    if name.startswith("stack.layers."):
        _, _, number, name = name.split(".", 3)
        layer = f"h.{number}."
    part, _, kind = name.rpartition(".")
    return f"{PREFIX}{layer}{PARTS[part]}.{kind}"


def _turn(name: str, tensor: Tensor) -> Tensor:
    return tensor.T if name.endswith(CONV1D) and tensor.ndim == 2 else tensor
