"""The chapters in their order, and where their notebooks lie."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"


@dataclass(frozen=True)
class Chapter:
    """One chapter of the course; `needs` are the numbers of the chapters it builds on most."""

    number: int
    name: str  # of its module, its notebook and its lab
    title: str
    question: str
    needs: tuple[int, ...] = ()

    @property
    def stem(self) -> str:
        """What the files of its notebooks are called, e.g. "01_tensor_ops"."""
        return f"{self.number:02d}_{self.name}"

    @property
    def is_written(self) -> bool:
        """Whether its lesson exists: as a source, from which the notebook is built."""
        return (SOURCES / f"{self.stem}.py").exists()


CHAPTERS = (
    Chapter(0, "start_here", "Start here", "What is it like to train a network?"),
    Chapter(1, "tensor_ops", "Tensor ops", "What is a tensor, really?", (0,)),
    Chapter(2, "cnn", "CNN", "Why do neighbours matter?", (1,)),
    Chapter(3, "dropout", "Dropout", "How do you stop a network from memorising?", (2,)),
    Chapter(4, "batch_norm", "Batch norm", "Why does normalising make training fast?", (2,)),
    Chapter(5, "resnet", "ResNet", "How can a network be a hundred layers deep?", (4,)),
    Chapter(6, "attention", "Attention", "How does a word know which others matter?", (1,)),
    Chapter(7, "seq2seq", "Seq2seq", "How do you translate?", (6,)),
    Chapter(8, "bert", "BERT", "What can be learned from text alone?", (7,)),
    Chapter(9, "gpt", "GPT", "How does predicting the next letter become writing?", (7,)),
    Chapter(10, "unet", "U-Net", "Which pixel belongs to what?", (5,)),
    Chapter(11, "yolo", "YOLO", "How do you find every object in one look?", (5,)),
    Chapter(12, "ssd", "SSD", "How do you find small and large objects at once?", (11,)),
)


def chapter_of(notebook: Path) -> Chapter:
    """The chapter that a lesson or lab belongs to, by the number its file name starts with."""
    return CHAPTERS[int(notebook.name[:2])]


def notebooks() -> list[Path]:
    """Every notebook of the course: lessons, then labs, then extras, each in order."""
    folders = (NOTEBOOKS, NOTEBOOKS / "labs", NOTEBOOKS / "extras")
    return [path for folder in folders for path in sorted(folder.glob("*.ipynb"))]
