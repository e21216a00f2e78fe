"""Write `test.txt` (the keys of the held-out items) and `SHA256SUMS` for the data sets.

    python data/make_splits.py             both
    python data/make_splits.py --sums      only the checksums

Nothing here is random at run time: items are ranked by the sha256 of a seed and their key. That
order is the same on every machine and every Python, and a new item does not reshuffle the others.
Whoever changes SEED, a group or a share makes a new split, and old results no longer compare.
"""

import argparse
import hashlib
import re
from collections import defaultdict
from pathlib import Path

from course_lib import checksums

SEED = "deep learning by experiment"

# Cut-outs of one kind of thing, judged by eye. A group is never divided between training and test.
# The three ceps are three different mushrooms, so they are no group: else the class would have
# either no training or no test item.
LOOK_ALIKES = {
    "ball": ["football australian_rules_football"],
    "bird": [
        "duck drake",
        "hen rooster",
        "seagull silver-gull",
        "little-penguin magellanic_penguin",
    ],
    "flower": ["chemparathi flower10", "flower8 flower9"],
    "fruit": [
        "apple_fuji apple_granny_smith apple_green apple_red apple_sierra_beauty",
        "mandarine orange",
        "sliced_lime sliced_orange",
    ],
    "mammal": [
        "bear european-bear",
        "camel dromedary",
        "cow cow_white",
        "deer doe",
        "donkey donkey_eating",
        "gnu-baby gnu-baby-stand gnu-sitting gnu-stand",
        "lion lion-2",
        "mouse rat",
        "pig pig_golden pig_golden2",
        "rabbit rabbit-2 rabbit_little",
        "ram sheep sheep_lamb",
        "tiger tiger_sumatran",
    ],
    "music": ["cello violin", "guitar2 guitar_classical guitar_electric guitar_electric_bass"],
    "roadsign": ["crossroads t-junction", "give_way_sign yield", "xing_ped xing_school"],
    "tool": ["hammer mallet_metal", "wrench wrench_adjustable wrench_plumbers"],
    "vegetable": ["garlic garlics", "lettuce redlettuce", "pepper yellowpepper"],
    "vehicle": ["sedan sedan_police"],
}


def rank(keys):
    """The keys in a fixed, random-looking order."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{SEED}\n{key}".encode()).digest())


def take(groups, count):
    """Whole groups (lists of keys), in ranked order, as long as no more than `count` keys come."""
    first = {min(group): group for group in groups}
    taken = []
    for key in rank(first):
        if len(taken) + len(first[key]) <= count:
            taken += first[key]
    return taken


def bare(text):
    """The letters and digits of a text, lower-cased: equal for all variants in punctuation."""
    return "".join(c for c in text.lower() if c.isalnum())


def read_lines(path):
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def movie_reviews(folder):
    """1,000 positive and 1,000 negative sentences; a text that occurs twice stays in training."""
    rows = [line.split("\t") for line in read_lines(folder / "movie_reviews.tsv")]
    lines = defaultdict(list)
    for number, (_, text) in enumerate(rows):
        lines[bare(text)].append(str(number))
    single = [group[0] for group in lines.values() if len(group) == 1]
    positive = [key for key in single if float(rows[int(key)][0]) > 0]
    negative = [key for key in single if float(rows[int(key)][0]) < 0]  # a rating of 0 is neither
    return sorted(rank(positive)[:1000] + rank(negative)[:1000], key=int)


def english_french(folder):
    """1,000 pairs; all variants of an English sentence are on the same side."""
    lines = defaultdict(list)
    for number, line in enumerate(read_lines(folder / "english_french.tsv")):
        lines[bare(line.split("\t")[0])].append(str(number))
    return sorted(take(lines.values(), 1000), key=int)


def cutouts(folder):
    """A quarter of each class, at least one; look-alikes are on the same side."""
    names = defaultdict(list)
    for line in read_lines(folder / "index.tsv"):
        class_name, name = line.split("\t")[:2]
        names[class_name].append(name)
    test = []
    for class_name, members in sorted(names.items()):
        groups = [group.split() for group in LOOK_ALIKES.get(class_name, [])]
        grouped = {name for group in groups for name in group}
        groups += [[name] for name in members if name not in grouped]
        count = max(1, round(len(members) / 4))
        test += [f"{class_name}/{name}" for name in take(groups, count)]
    return sorted(test)


def backgrounds(folder):
    """5 of the 20 photos."""
    return sorted(rank(path.stem for path in folder.glob("*.jpg"))[:5])


def brain_mri(folder):
    """24 neighbouring slices through the ventricles. The datasheet says why they are a block."""
    return [str(z) for z in range(76, 100)]


def wikipedia(folder):
    """Every twelfth article or so (8 %)."""
    text = (folder / "wikipedia.txt").read_text(encoding="utf-8")
    titles = re.findall(r"^= (.+)$", text, re.MULTILINE)
    if len(set(titles)) != len(titles):
        raise ValueError("two articles of wikipedia.txt have the same title")
    return sorted(rank(titles)[: round(0.08 * len(titles))])


def austen(folder):
    """8 % of the chapters of each novel, counted from 1 through all its volumes."""
    test = []
    for path in sorted(folder.glob("*.txt")):
        if path.name == "test.txt":
            continue
        text = path.read_text(encoding="utf-8")
        count = len(re.findall(r"^chapter\b", text, re.MULTILINE | re.IGNORECASE))
        keys = [f"{path.stem}/{number}" for number in range(1, count + 1)]
        test += sorted(rank(keys)[: round(0.08 * count)], key=keys.index)
    return test


SPLITS = {
    "austen": austen,
    "backgrounds": backgrounds,
    "brain_mri": brain_mri,
    "cutouts": cutouts,
    "english_french": english_french,
    "movie_reviews": movie_reviews,
    "wikipedia": wikipedia,
}


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_splits(root):
    """(Re)write `test.txt` in the folder of each set that is split here."""
    for name, split in SPLITS.items():
        write(root / name / "test.txt", split(root / name))


def write_sums(root):
    """(Re)write `SHA256SUMS` in each set's folder."""
    for sheet in sorted(root.glob("*/README.md")):
        checksums.write_sums(sheet.parent)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the splits and checksums of the data sets.")
    parser.add_argument("--sums", action="store_true", help="write only the checksums")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    if not arguments.sums:
        write_splits(arguments.root)
    write_sums(arguments.root)
