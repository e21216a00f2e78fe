"""How the Hugging Face format names BERT's config and tensors, and how they become ours."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Our names of the fields of a config, and transformers'.
FIELDS = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "hidden": "intermediate_size",
    "max_length": "max_position_embeddings",
    "segments": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "norm_eps": "layer_norm_eps",
    "initial_std": "initializer_range",
}
SIZES = tuple(FIELDS.values())[:5]  # a config must name these
# What this course builds; a config that says otherwise is of another model.
FIXED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


# Parts of our names, and what they are called there.
_NAMES = (
    ("bert.", ""),
    ("word_embedding.", "embeddings.word_embeddings."),
    ("position_embedding.", "embeddings.position_embeddings."),
    ("segment_embedding.", "embeddings.token_type_embeddings."),
    ("encoder.layers.", "encoder.layer."),
    ("self_attn.out_proj.", "attention.output.dense."),
    ("norm1.", "attention.output.LayerNorm."),
    ("linear1.", "intermediate.dense."),
    ("linear2.", "output.dense."),
    ("norm2.", "output.LayerNorm."),
    ("pooler.", "pooler.dense."),
    ("transform.", "cls.predictions.transform.dense."),
    ("transform_norm.", "cls.predictions.transform.LayerNorm."),
    ("word_bias", "cls.predictions.bias"),
    ("next.", "cls.seq_relationship."),
    ("norm.", "embeddings.LayerNorm."),
)
_JOINED = "self_attn.in_proj_"  # three tensors there
_HEADS = ("cls.", "classifier.", "qa_outputs.")
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
# The output layer is the word embedding once more, and some files hold it twice.
_COPIES = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_OLD = {"gamma": "weight", "beta": "bias"}  # of norms, in the first files


def our_config(config: Mapping) -> dict:
    """The fields of a `BertConfig` in a `config.json`; its dropout between layers serves for the
    attention, too.

    Raises:
        ValueError: it is of another model, or a size is missing.
    """
    for name, allowed in FIXED.items():
        if config.get(name, allowed) != allowed:
            raise ValueError(f"{name} is {config[name]!r}; allowed is {allowed!r}")
    for name in SIZES:
        if name not in config:
            raise ValueError(f"{name} is missing in the config; allowed are whole numbers from 1")
    return {ours: config[theirs] for ours, theirs in FIELDS.items() if theirs in config}


def their_config(config: Mapping, architecture: str) -> dict:
    """The `config.json` of `BertConfig`'s fields, for their class `architecture`.

    Raises:
        ValueError: a BERT with rotary positions, which theirs has not.
    """
    if config["rotary"]:
        raise ValueError("rotary is True; allowed is False for a folder that others read")
    sizes = {theirs: config[ours] for ours, theirs in FIELDS.items()}
    dropout = {"attention_probs_dropout_prob": config["dropout"]}
    return {**FIXED, **sizes, **dropout, "architectures": [architecture]}


class UnderTheirNames:
    """A model's tensors, not copied, named and cut as in transformers: for `load_weights`."""

    def __init__(self, model: nn.Module):
        self.model = model

    def state_dict(self) -> dict[str, Tensor]:
        tensors = {}
        for name, tensor in self.model.state_dict().items():
            if _JOINED in name:
                there = _rename(name.replace(_JOINED, "attention.self.{}."))
                parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
                tensors.update({there.format(part): rows for part, rows in parts})
            else:
                tensors[_rename(name)] = tensor
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        for name, own in self.state_dict().items():
            own.copy_(tensors[name])


def _rename(name: str) -> str:
    for ours, theirs in _NAMES:
        # At the beginning of the name, or of a part of it.
        name = re.sub(rf"(^|(?<=\.)){re.escape(ours)}", theirs, name, count=1)
    return name


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that models with heads have, in today's spelling, without buffers."""
    plain = {}
    for name, tensor in tensors.items():
        stem, dot, last = name.removeprefix("bert.").rpartition(".")
        plain[stem + dot + _OLD.get(last, last)] = tensor
    return {name: tensor for name, tensor in plain.items() if name not in _BUFFERS}


def without_heads(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What belongs to the model itself."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_HEADS)}


def without_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each weight once.

    Raises:
        ValueError: the output layer has weights of its own.
    """
    for copy, original in _COPIES.items():
        if copy in tensors and not torch.equal(tensors[copy], tensors.get(original, tensors[copy])):
            raise ValueError(f"{copy} differs from {original}; allowed is a model that shares them")
    return {name: tensor for name, tensor in tensors.items() if name not in _COPIES}
