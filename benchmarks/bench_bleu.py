"""Chapter 07's BLEU beside sacrebleu's, on lines of dialogue with words left out at random.

Every round takes other lines, as sacrebleu remembers the tokens of those it has seen.
"""

import random
from collections.abc import Iterator

import sacrebleu
from rows import Plan, Record, Row, compare, run

from course_lib import data
from course_lib.bleu import bleu

LINES = 1000  # of each round


def damage(line: str, chance: random.Random) -> str:
    """`line` with about every sixth word left out."""
    return " ".join(word for word in line.split() if chance.random() > 1 / 6)


def measure(plan: Plan) -> Iterator[Record]:
    references, count = data.load("english_french").french, plan.pick(LINES, 20)
    chance = random.Random(0)
    parts = [references[i : i + count] for i in range(0, len(references) - count, count)]
    pairs = [([damage(line, chance) for line in part], part) for part in parts]
    for said, meant in pairs[:1]:
        if abs(bleu(said, meant) - sacrebleu.corpus_bleu(said, [meant]).score) > 1e-6:
            raise AssertionError("ours and sacrebleu's scores differ")
    fresh = {who: iter(pairs[1:]) for who in ("ours", "theirs")}

    def ours() -> None:
        bleu(*next(fresh["ours"]))

    def theirs() -> None:
        said, meant = next(fresh["theirs"])
        sacrebleu.corpus_bleu(said, [meant])

    row = Row("scores", "BLEU", f"{count:,} lines", "sacrebleu", "ms", goal=1.0)
    yield compare(row, ours, theirs, plan.pick(len(pairs) - 2, 1))


if __name__ == "__main__":
    run(measure, __doc__)
