"""Chapter 08's stored grids: what is hidden and paired in pretraining, ways of fine-tuning, speed.

Short runs: a small BERT for pretraining, and MiniLM on a part of the training sentences, scored on
*validation* sentences: test sentences choose nothing and settle nothing.
"""

import statistics
import tempfile
import time
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import bert, data, pretrained, pretraining, reviews, runtime, train
from course_lib.subwords import WordPiece, bert_words
from course_lib.teaching.experiments.experiment import Experiment

VOCABULARY = 2_000  # pieces, of the small BERT
HELD_OUT = 600  # pairs it is scored on
VALIDATION = 500  # sentences that a classifier is scored on
TEMPERATURE = 2.0  # of the teacher's answers
SPECIAL = torch.tensor([0, 100, 101, 102, 103])  # MiniLM's [PAD], [UNK], [CLS], [SEP], [MASK]
ALL_UNCHANGED, ALL_REPLACED = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)


def pretrain(
    seed: int,
    *,
    steps: int,
    shares: tuple[float, float, float] = pretraining.SHARES,
    rotary: bool = True,
) -> dict[str, float]:
    """Pretrain a small BERT, and ask it for words of held-out pairs.

    Args:
        shares: of the chosen words: masked, replaced by any word, left as they are.
        rotary: whether its attention knows distances; without, positions are learned embeddings.

    Returns:
        In percent: words guessed rightly where they are "masked", "replaced" or "unchanged".
    """
    task = small_set()
    model = small_bert(seed, rotary)
    batches = pretraining.PairBatches(task.train, batch_size=32, seed=seed, shares=tuple(shares))
    config = train.FitConfig(steps, "muon", 0.01, schedule="one_cycle", warmup=0.1, seed=seed)
    train.fit(model, batches, bert.pretraining_loss, config)
    kinds = {
        "masked": pretraining.ALL_MASKED,
        "replaced": ALL_REPLACED,
        "unchanged": ALL_UNCHANGED,
    }
    return {name: 100 * words_right(model, task, shares) for name, shares in kinds.items()}


@cache
def small_set() -> pretraining.PretrainingSet:
    """The pretraining set with a small vocabulary; kept in memory."""
    return pretraining.load(vocabulary=VOCABULARY)


def small_bert(seed: int, rotary: bool) -> bert.BertForPretraining:
    runtime.seed_everything(seed)
    config = bert.BertConfig(
        len(small_set().pieces),
        width=96,
        heads=4,
        layers=2,
        hidden=384,
        max_length=pretraining.LENGTH,
        dropout=0.0,
        rotary=rotary,
    )
    return bert.BertForPretraining(config)


@torch.no_grad()
def words_right(
    model: nn.Module, task: pretraining.PretrainingSet, shares: tuple[float, float, float]
) -> float:
    """The share of chosen words of held-out pairs that the model finds."""
    record = pretraining.held_out(task.test, HELD_OUT, shares=shares)
    words, _ = model(*record[:4])  # (B, M, vocabulary)
    return pretraining.share_right(words.argmax(-1), record.tokens)


def tell_neighbours(
    seed: int, *, steps: int, neighbours: float, scored: int = 300
) -> dict[str, float]:
    """Train MiniLM, the lower half frozen, to tell at [CLS] whether a passage follows another.

    Args:
        neighbours: share of true neighbours in training; in the test it is one half.
        scored: held-out pairs.

    Returns:
        In percent of held-out pairs: those told apart by the more likely class, "pairs"; how often
        a true pair gets more of IsNext than a false one, "rank"; those "called next".
    """
    runtime.seed_everything(seed)
    encoder = bert.Bert.from_pretrained(pretrained.minilm(), dropout=0.0)
    bert.freeze(encoder, 3)
    model = bert.BertClassifier(encoder, 2, pool="cls")
    passages, held_out = encyclopedia()
    batches = pretraining.PairBatches(
        passages, batch_size=32, seed=seed, neighbours=neighbours, shares=ALL_UNCHANGED
    )
    config = train.FitConfig(steps, "adamw", RATE, schedule="one_cycle", warmup=0.1, seed=seed)
    train.fit(model, batches, neighbours_loss, config)
    return scores_of_pairs(model, pretraining.held_out(held_out, scored, shares=ALL_UNCHANGED))


@cache
def encyclopedia() -> tuple[pretraining.Passages, pretraining.Passages]:
    """Passages of articles in MiniLM's pieces, of training and of test; kept in memory."""
    pieces = WordPiece.from_file(pretrained.minilm() / "vocab.txt")
    documents = data.load("wikipedia")
    parts = []
    for test, count in ((False, 200), (True, 50)):
        chosen = [document for document in documents if document.test == test][:count]
        lines = [
            [pieces.encode_words(bert_words(line)) for line in pretraining.sentences(document)]
            for document in chosen
        ]
        room = (pretraining.LENGTH - 3) // 2
        parts.append(pretraining.cut_passages([lines], room, len(pieces)))
    return tuple(parts)


def pair_logits(model: nn.Module, record: pretraining.Record) -> Tensor:
    """(B, 2); words have MiniLM's ids already, special tokens get theirs here."""
    ids = torch.where(record.ids < len(SPECIAL), SPECIAL[record.ids.clamp(max=4)], record.ids)
    return model(ids, record.segments, record.real)


def neighbours_loss(model: nn.Module, record: pretraining.Record) -> Tensor:
    return F.cross_entropy(pair_logits(model, record), record.is_next)


@torch.no_grad()
def scores_of_pairs(model: nn.Module, record: pretraining.Record) -> dict[str, float]:
    logits = pair_logits(model, record)
    margin = logits[:, 1] - logits[:, 0]  # (B,)
    called = margin > 0
    true, false = margin[record.is_next == 1], margin[record.is_next == 0]
    return {
        "pairs": 100 * (called == record.is_next.bool()).float().mean().item(),
        "rank": 100 * (true[:, None] > false).float().mean().item(),
        "called next": 100 * called.float().mean().item(),
    }


def finetune(
    seed: int, *, steps: int, frozen: int, learning_rate: float, optimizer: str = "adamw"
) -> dict[str, float]:
    """Fine-tune MiniLM with a head on a part of the training sentences.

    Args:
        frozen: how many of the lowest layers stay as they are, and the embeddings with them; -1
            means that all is trained, embeddings too.

    Returns:
        In percent the "accuracy" on validation sentences; and the "seconds" of training.
    """
    model = classifier(seed)
    if frozen >= 0:
        bert.freeze(model.bert, frozen)
    seconds = fit(model, seed, steps, reviews.review_loss, learning_rate, optimizer)
    return {"accuracy": accuracy(model), "seconds": seconds}


def classifier(seed: int, layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> bert.BertClassifier:
    """MiniLM, or some of its layers, under a new head."""
    runtime.seed_everything(seed)
    encoder = bert.Bert.from_pretrained(pretrained.minilm(), dropout=0.0)
    encoder.encoder.layers = nn.ModuleList(encoder.encoder.layers[number] for number in layers)
    encoder.config = replace(encoder.config, layers=len(layers))
    return bert.BertClassifier(encoder, 2, pool="mean")


def fit(
    model: nn.Module,
    seed: int,
    steps: int,
    loss: train.Loss,
    learning_rate: float,
    optimizer: str = "adamw",
) -> float:
    """Train on batches of 32 training sentences; returns the seconds."""
    config = train.FitConfig(
        steps, optimizer, learning_rate, schedule="one_cycle", warmup=0.1, seed=seed
    )
    batches = reviews.sentiment().train.batches(32, seed)
    return train.fit(model, batches, loss, config).seconds


def accuracy(model: nn.Module, scored: int = VALIDATION) -> float:
    """In percent, on validation sentences."""
    part = reviews.sentiment().validation
    chosen = torch.arange(0, len(part), len(part) // scored)[:scored]
    logits = reviews.predict(model, part.ids[chosen])
    return 100 * train.accuracy(logits, part.labels[chosen])


def distil(
    seed: int, *, teacher_steps: int, steps: int, scored: int = VALIDATION
) -> dict[str, float]:
    """Fine-tune MiniLM, then train students with two of its six layers, equally long.

    Args:
        scored: validation sentences.

    Returns:
        In percent the accuracy of the "teacher", of a student that learns from "labels", of one
        that learns from the teacher's "answers", and of one that does so "from scratch".
    """
    teacher = classifier(seed)
    bert.freeze(teacher.bert, 3)
    fit(teacher, seed, teacher_steps, reviews.review_loss, RATE)
    students = {
        "labels": (classifier(seed, STUDENT), reviews.review_loss),
        "answers": (classifier(seed, STUDENT), learn_from(teacher)),
        "from scratch": (from_scratch(seed), learn_from(teacher)),
    }
    found = {"teacher": accuracy(teacher, scored)}
    for name, (student, loss) in students.items():
        fit(student, seed, steps, loss, RATE)
        found[name] = accuracy(student, scored)
    return found


def learn_from(teacher: nn.Module) -> train.Loss:
    """A loss that compares a student's answers with the teacher's, both made softer.

    Source: Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network".
    """

    def loss(student: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        *tokens, _ = batch
        with torch.no_grad():
            wanted = (teacher(*tokens) / TEMPERATURE).softmax(-1)  # (B, classes)
        found = student(*tokens) / TEMPERATURE
        return TEMPERATURE**2 * F.cross_entropy(found, wanted)  # its gradients as large as usual

    return loss


def from_scratch(seed: int) -> bert.BertClassifier:
    """The same student with weights drawn anew."""
    model = classifier(seed, STUDENT)
    bert.initialise(model)
    return model


def latency(seed: int, *, batch: int, rounds: int) -> dict[str, float]:
    """Milliseconds that the same MiniLM classifier takes in three ways, which take turns.

    Returns:
        The median of each of "eager", "compiled" (each layer by torch.compile) and "onnx" (ONNX
        Runtime), all with as many threads as torch has; and their largest "difference".
    """
    model = classifier(seed).eval()
    tokens = reviews.split_tokens(reviews.encode(reviews.sentiment().validation.texts[:batch]))
    other = classifier(seed).eval()
    for layer in other.bert.encoder.layers:
        layer.compile(dynamic=False)  # all six share one compiled form
    session = to_onnx(model, tokens)
    ways = {
        "eager": lambda: model(*tokens),
        "compiled": lambda: other(*tokens),
        "onnx": lambda: run_onnx(session, tokens),
    }
    with torch.inference_mode():
        outputs = [way() for way in ways.values()]
        times = [[milliseconds(way) for way in ways.values()] for _ in range(rounds)]
    medians = map(statistics.median, zip(*times, strict=True))
    found = dict(zip(ways, medians, strict=True))
    differences = [(output - outputs[0]).abs().max().item() for output in outputs[1:]]
    return {**found, "difference": max(differences)}


def milliseconds(call) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def to_onnx(model: nn.Module, tokens: reviews.Tokens):
    """The model as a session of ONNX Runtime; number and length of the texts stay free.

    Args:
        tokens: an example of what the model takes.
    """
    import onnxruntime

    axes = {name: {0: "texts", 1: "tokens"} for name in ONNX_INPUTS}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that checks of shapes are not recorded
        path = str(Path(folder) / "model.onnx")
        names = {"input_names": list(ONNX_INPUTS), "output_names": ["logits"]}
        torch.onnx.export(model, tokens, path, dynamo=False, dynamic_axes=axes, **names)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_onnx(session, tokens: reviews.Tokens) -> Tensor:
    """Logits (B, classes)."""
    inputs = {name: part.numpy() for name, part in zip(ONNX_INPUTS, tokens, strict=True)}
    return torch.from_numpy(session.run(None, inputs)[0])


STUDENT = (0, 1)  # the layers of MiniLM that students begin with
RATE = 4e-4  # of AdamW
ONNX_INPUTS = ("ids", "segments", "real")
RATES = {"adamw": (4e-5, 4e-4, 4e-3), "sgd": (0.001, 0.01, 0.1), "muon": (0.001,)}
FROZEN = {"all": -1, "upper half": 3, "top layer": 5, "head": 6}
SHORT = {"steps": 8, "frozen": 5, "learning_rate": RATE}

EXPERIMENTS = (
    Experiment(
        "8.1",
        "a small BERT pretrained with other shares of masked, replaced and unchanged words",
        pretrain,
        {
            "80, 10, 10": {"steps": 300},
            "100, 0, 0": {"steps": 300, "shares": [1.0, 0.0, 0.0]},
            "80, 0, 20": {"steps": 300, "shares": [0.8, 0.0, 0.2]},
            "short": {"steps": 20},
        },
        seeds=2,
    ),
    Experiment(
        "8.2",
        "telling neighbours, with other shares of true ones in training",
        tell_neighbours,
        {
            **{f"{n}": {"steps": 30, "neighbours": n} for n in (0.25, 0.5, 0.75)},
            "short": {"steps": 4, "neighbours": 0.75, "scored": 60},
        },
        seeds=2,
    ),
    Experiment(
        "8.5",
        "MiniLM fine-tuned with more or less of it frozen",
        finetune,
        {
            name: {"steps": 48, "frozen": frozen, "learning_rate": 5e-3 if frozen == 6 else RATE}
            for name, frozen in FROZEN.items()
        },
        seeds=2,
    ),
    Experiment(
        "8.8",
        "MiniLM's latency: eager, compiled, ONNX Runtime",
        latency,
        {f"{batch}": {"batch": batch, "rounds": 20} for batch in (1, 8)},
        seeds=2,
    ),
    Experiment(
        "8.9",
        "two-layer students of a fine-tuned MiniLM",
        distil,
        {
            "whole": {"teacher_steps": 48, "steps": 48},
            "short": {"teacher_steps": 3, "steps": 3, "scored": 50},
        },
        seeds=2,
    ),
    Experiment(
        "8.10",
        "AdamW and SGD with three learning rates each, and Muon; lower half frozen",
        finetune,
        {
            **{
                f"{name}, {rate:g}": {
                    "steps": 40,
                    "frozen": 3,
                    "learning_rate": rate,
                    "optimizer": name,
                }
                for name, rates in RATES.items()
                for rate in rates
            },
            "short": SHORT,
        },
        seeds=2,
    ),
    Experiment(
        "8.11",
        "the small BERT of 8.1 with learned positions in the place of rotary ones",
        pretrain,
        {"learned": {"steps": 300, "rotary": False}},
        seeds=2,
    ),
)
