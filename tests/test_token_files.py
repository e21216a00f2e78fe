"""Texts of one's own as mapped files of ids: what is in them, and that they are made once."""

import numpy as np
import pytest
import torch

from course_lib import pretraining, recipes, token_files
from course_lib.characters import Dictionary, WindowBatches
from course_lib.checksums import DataError

VERSES = ["Ein Käfer saß", "auf einem Blatt.", "Das Blatt war grün,", "der Käfer satt. 🐞"]


@pytest.fixture
def texts(tmp_path):
    """Two text files, one of them deeper, in a folder that holds another file, too."""
    root = tmp_path / "verses"
    (root / "more").mkdir(parents=True)
    (root / "a.txt").write_text("\n".join(VERSES) + "\n", encoding="utf-8")
    (root / "more" / "b.txt").write_text("\n".join(VERSES[::-1]), encoding="utf-8")
    (root / "c.md").write_text("@")
    return root


def whole(tokens):
    return torch.cat([tokens.train, tokens.test]).long()


def test_characters_are_those_of_the_files_in_order(texts):
    tokens = token_files.open_tokens(texts)
    text = "\n".join(VERSES) + "\n\n" + "\n".join(VERSES[::-1])
    assert tokens.dictionary.symbols == tuple(sorted(set(text)))
    assert tokens.dictionary.decode(whole(tokens)) == text
    assert whole(tokens).equal(Dictionary.build(text).encode(text))
    assert len(tokens.test) == len(text) // 10 and tokens.train.dtype == torch.uint16


def test_pieces_give_any_text_back(texts):
    tokens = token_files.open_tokens(texts / "a.txt", 300)
    assert 256 < len(tokens.dictionary) <= 300
    assert tokens.dictionary.decode(whole(tokens)) == "\n".join(VERSES) + "\n"
    assert len(whole(tokens)) < len("\n".join(VERSES).encode())
    again = token_files.dictionary_of(token_files.names_of(tokens.dictionary), 300)
    assert again.encode("Käfer").equal(tokens.dictionary.encode("Käfer"))
    assert again.decode(again.encode("日本 ok")) == "日本 ok"


def test_ids_are_made_once_until_a_text_changes(texts, monkeypatch):
    first = token_files.open_tokens(texts)
    with monkeypatch.context() as patch:
        patch.setattr(token_files, "_blocks", lambda files: pytest.fail("read again"))
        assert whole(token_files.open_tokens(texts)).equal(whole(first))
    (texts / "a.txt").write_text("neu und kurz", encoding="utf-8")
    assert "neu" in (changed := token_files.open_tokens(texts)).dictionary.decode(whole(changed))
    home = texts.with_name("verses.tokens")
    assert len(list(home.iterdir())) == 4 and not list(home.glob("*.unfinished"))


def test_ids_are_mapped_and_not_loaded(texts):
    tokens = token_files.open_tokens(texts)
    batches = token_files.MappedWindows(tokens.train, length=8, batch_size=3)
    assert batches.to(torch.device("cpu")) is batches
    plain = WindowBatches(tokens.train.long(), length=8, batch_size=3)
    for (x, y), (their_x, their_y) in zip(batches, plain, strict=True):
        assert x.equal(their_x) and y.equal(their_y) and x.dtype == torch.int64
    file = next(texts.with_name("verses.tokens").glob("*.ids"))
    ids = np.memmap(file, dtype=np.uint16, mode="r+")
    ids[:] = 5
    ids.flush()  # what is mapped sees it; what was loaded would not
    assert tokens.train.long().unique().tolist() == [5]


def test_an_interrupted_making_leaves_nothing_behind(texts, monkeypatch):
    blocks = token_files._blocks

    def stop(files):
        yield from blocks(files)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(token_files, "_blocks", stop)
        with pytest.raises(KeyboardInterrupt):
            token_files.open_tokens(texts)
    home = texts.with_name("verses.tokens")
    assert not home.exists() or not list(home.iterdir())
    assert len(whole(token_files.open_tokens(texts))) > 100


def test_what_is_no_text_is_named(tmp_path):
    with pytest.raises(DataError, match="none is no text file, and no folder"):
        token_files.open_tokens(tmp_path / "none")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="x.txt is no text in UTF-8"):
        token_files.open_tokens(tmp_path)
    (tmp_path / "x.txt").write_bytes(b"")
    with pytest.raises(DataError, match="or holds no text"):
        token_files.open_tokens(tmp_path)


def test_a_full_disk_is_named_and_leaves_nothing_behind(texts, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    home = texts.with_name("verses.tokens")
    monkeypatch.setattr(token_files, "_character_encoder", lambda _: full)
    with pytest.raises(DataError, match=r"verses.tokens/.*.ids cannot be written .*No space left"):
        token_files.open_tokens(texts)
    assert list(home.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(texts):
    texts.with_name("verses.tokens").write_text("in the way")
    with pytest.raises(DataError, match="verses.tokens cannot be written"):
        token_files.open_tokens(texts)


@pytest.fixture
def documents(tmp_path):
    """24 documents of 12 short sentences each."""
    root = tmp_path / "documents"
    root.mkdir()
    for number in range(24):
        lines = [
            f"Sentence {line} of text {number} is {'very ' * (line % 3)}short."
            for line in range(12)
        ]
        halves = " ".join(lines[:6]), " ".join(lines[6:])
        (root / f"{number:02}.txt").write_text("\n\n".join(halves))
    return root


def test_passages_are_those_of_documents_in_memory(documents):
    found = token_files.open_passages(documents, 120, 32)
    files = sorted(documents.iterdir())
    for part, chosen in (
        ("test", files[1::10]),
        ("train", [f for f in files if f not in files[1::10]]),
    ):
        kinds = [
            [
                [
                    found.pieces.encode_words(pretraining.bert_words(line))
                    for line in token_files._sentences(file)
                ]
                for file in chosen
            ]
        ]
        expected = pretraining.cut_passages(kinds, (32 - 3) // 2, len(found.pieces))
        passages = getattr(found, part)
        for name in ("ids", "starts", "sizes", "bounds"):
            assert getattr(passages, name).equal(getattr(expected, name)), (part, name)
    assert len(found.pieces) <= 120 and "[MASK]" in found.pieces.ids
    batch = next(iter(pretraining.PairBatches(found.train, batch_size=8, length=32)))
    assert batch.ids.shape == (8, 32) and batch.is_next.sum() == 4


def test_too_few_documents_are_refused(documents):
    for path in sorted(documents.iterdir())[11:]:
        path.unlink()
    with pytest.raises(DataError, match="1 documents of several sentences .* 12 files in all"):
        token_files.open_passages(documents, 120, 32)
    assert not list(documents.with_name("documents.tokens").glob("*.unfinished"))


def test_gpt_and_bert_train_on_texts_of_ones_own(texts, documents, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(recipes.language.GPTS["tiny"].data, "length", 12)
    assert recipes.main(["shakespeare", "--data", str(texts), "--steps", "3"]) == 0
    assert "test held-out loss: " in capsys.readouterr().out
    assert recipes.main(["bert_pretraining", "--data", str(documents), "--steps", "2"]) == 0
    assert "test masked words: " in capsys.readouterr().out


def test_sizes_are_those_of_the_papers():
    with torch.device("meta"):
        row = recipes.language.GPTS["base"]
        gpt = recipes.language.GPT(row.make(row.data["pieces"], row.data["length"]))
        row = recipes.language.BERTS["base"]
        bert = recipes.language.BertForPretraining(row.make(30_522, max_length=512))
    assert sum(p.numel() for p in gpt.parameters()) == 124_439_808
    # BERT-base with its pooler has 109,482,240; the heads add their own.
    assert sum(p.numel() for p in bert.bert.parameters()) == 109_482_240


def test_base_reads_pieces_and_tests_few_windows_at_once(monkeypatch):
    row = recipes.language.GPTS["base"]
    small = recipes.language.partial(recipes.language.GPTConfig, width=8, heads=2, layers=1)
    tiny = recipes.language.Size(small, 2, row.training, {"length": 16, "pieces": 500})
    monkeypatch.setitem(recipes.language.GPTS, "base", tiny)
    recipe = recipes.shakespeare(size="base", accumulate=1)
    inputs, _ = next(iter(recipe.batches))
    assert inputs.shape == (2, 16) and inputs.max() < 500
    assert recipe.config.steps == 600_000 and recipe.model.head.out_features == 500


def test_a_text_shorter_than_a_window_is_refused(texts):
    with pytest.raises(ValueError, match="verses, a text of 138 symbols; needed are 650, since"):
        recipes.shakespeare(source=str(texts))
