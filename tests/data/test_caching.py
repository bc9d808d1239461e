"""What is cached is found by every later process, is of that very text and tokenizer, and is not harmed by others."""

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest
from datasets import Dataset

from modeling_seqvae.data.batching import tokenise
from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.data.corpus_spec import CorpusFiles, CorpusSpec, spec_from_path
from modeling_seqvae.data.vocabulary import corpus_tokenizer
from modeling_seqvae.tokenization import train_tokenizer

ROOT = Path(__file__).resolve().parents[2]

# Reads corpora of every kind in the folder it is given, tokenises them, and prints the tokens and how often it had to
# clean, count or tokenise.
PROGRAM = """
import json, sys
from collections import Counter
from pathlib import Path
import datasets
from datasets import Dataset
from modeling_seqvae.data import batching, hub_corpora, vocabulary
from modeling_seqvae.data.batching import tokenise
from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.data.corpus_spec import CorpusSpec, spec_from_path
from modeling_seqvae.data.hub_corpora import HubSource
from modeling_seqvae.data.words import WordReader

datasets.disable_progress_bars()
folder, worked = Path(sys.argv[1]), []

def noting(owner, name):
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: (worked.append(name), original(*args, **kwargs))[1])

noting(batching, "_ids_of")
noting(vocabulary, "word_counts")
noting(WordReader, "read")
noting(hub_corpora, "_plain")
datasets.load_dataset = lambda name, config, split: Dataset.from_parquet(str(folder / f"{split}.parquet"))
file = folder / "a.txt"
hub = HubSource(dataset="h", text_columns=["text"], train=30, validation=9, test=20, min_words=1)
corpora = {
    "three files": load_corpus(spec_from_path(file, validation=folder / "b.txt", test=folder / "b.txt")),
    "split off": load_corpus(spec_from_path(file)),
    "limits": load_corpus(spec_from_path(file), limits={"train": 20, "test": 2}),
    "labels": load_corpus(spec_from_path(folder / "c.csv", label_column="label")),
    "hub": load_corpus(CorpusSpec(name="h", hub=hub)),
}
tokens = {}
for name, corpus in corpora.items():
    tokenizer = vocabulary.corpus_tokenizer(corpus.spec, corpus.splits["train"])
    tokens[name] = [tokenise(rows, tokenizer)["input_ids"][:] for rows in corpus.splits.values()]
print(json.dumps({"tokens": tokens, "worked": Counter(worked)}))
"""


def start(folder: Path) -> subprocess.Popen:
    environment = os.environ | {"HF_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_DATASETS_CACHE", None)
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def answer(process: subprocess.Popen) -> dict:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return json.loads(output)


def files_in(folder: Path) -> dict[str, int]:
    """When each file of data or words was last written, by name."""
    found = [*folder.rglob("*.arrow"), *folder.rglob("words-*.json")]
    return {str(path): path.stat().st_mtime_ns for path in found}


def place_files(folder: Path) -> Path:
    folder.mkdir()
    texts = [f"the food {i % 7} was {i % 5} good" for i in range(60)]
    (folder / "a.txt").write_text("\n".join(texts), "utf-8")
    (folder / "b.txt").write_text("the soup was 3\n", "utf-8")
    (folder / "c.csv").write_text(
        "text,label\n" + "".join(f"{text},{i % 3}\n" for i, text in enumerate(texts)), "utf-8"
    )
    for split in ("train", "test"):
        Dataset.from_dict({"text": texts}).to_parquet(folder / f"{split}.parquet")
    return folder


def test_processes_share_the_work_and_a_later_one_has_none(tmp_path: Path) -> None:
    shared, own = place_files(tmp_path / "shared"), place_files(tmp_path / "own")
    first, second, alone = map(answer, [start(shared), start(shared), start(own)])
    assert first["tokens"] == second["tokens"] == alone["tokens"]
    assert set(alone["worked"]) == {"_ids_of", "word_counts", "read", "_plain"}
    assert Counter(first["worked"]) + Counter(second["worked"]) == Counter(alone["worked"])
    written = files_in(shared)
    later = answer(start(shared))
    assert later == {"tokens": first["tokens"], "worked": {}}
    assert files_in(shared) == written


# What another text or setting is


@pytest.fixture
def corpus_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "a.txt").write_text("the cat sat down\n" * 9 + "the dog sat down\n", "utf-8")
    return tmp_path / "a.txt"


def spec(file: Path, **changes: object) -> CorpusSpec:
    return spec_from_path(file, validation=file, test=file).model_copy(update=changes)


def test_one_other_character_is_another_text(corpus_file: Path) -> None:
    tokenizer = train_tokenizer(["the cat dog hog sat down"])
    first = tokenise(load_corpus(spec(corpus_file)).splits["train"], tokenizer)
    corpus_file.write_text(corpus_file.read_text("utf-8").replace("dog", "hog"), "utf-8")
    second = tokenise(load_corpus(spec(corpus_file)).splits["train"], tokenizer)
    assert second["input_ids"][:9] == first["input_ids"][:9]
    assert tokenizer.decode(second["input_ids"][9]) == "<s> the hog sat down </s>"


def test_a_file_of_another_size_is_another_text_even_if_it_has_the_same_time(corpus_file: Path) -> None:
    load_corpus(spec(corpus_file))
    time = corpus_file.stat().st_mtime_ns
    corpus_file.write_text("and now\nfor something\n", "utf-8")
    os.utime(corpus_file, ns=(time, time))
    assert load_corpus(spec(corpus_file)).splits["train"]["text"][:] == ["and now", "for something"]


def test_nor_does_one_of_the_same_size_and_time_pass_for_what_it_was(corpus_file: Path) -> None:
    """As of an archive that gives all its files one time."""
    load_corpus(spec(corpus_file))
    time, content = corpus_file.stat().st_mtime_ns, corpus_file.read_text("utf-8")
    corpus_file.write_text(content.replace("dog", "hog"), "utf-8")
    os.utime(corpus_file, ns=(time, time))
    assert "hog" in " ".join(load_corpus(spec(corpus_file)).splits["train"]["text"])


def test_documents_cut_elsewhere_and_another_tokenizer_are_tokenised_anew(corpus_file: Path) -> None:
    loaded = [load_corpus(spec(corpus_file, max_words=words)).splits["train"] for words in (200, 2)]
    tokenizers = [train_tokenizer(["the cat sat down"]), train_tokenizer(["the cat dog"])]
    tokenised = [tokenise(rows, tokenizer)["input_ids"][9] for rows in loaded for tokenizer in tokenizers]
    assert [len(ids) for ids in tokenised] == [6, 6, 4, 4]
    assert tokenised[0] != tokenised[1] and tokenised[2] != tokenised[3]


# Where nothing can be written


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writing beyond fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_cache_that_cannot_be_written_is_named(corpus_file: Path, tmp_path: Path, monkeypatch) -> None:
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        (tmp_path / "taken").write_text("a file, where a folder would have to be", "utf-8")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        with pytest.raises(OSError, match=f"{folder}, cannot be written.*HF_DATASETS_CACHE or HF_HOME"):
            load_corpus(spec(corpus_file))


def test_a_full_disk_is_named_while_reading_cleaning_and_tokenising(corpus_file: Path, tmp_path: Path) -> None:
    corpus_file.write_text("a b c d e f\n" * 20_000, "utf-8")
    with files_no_larger_than(100_000), pytest.raises(OSError, match="HF_DATASETS_CACHE"):
        load_corpus(spec(corpus_file))  # reading
    with files_no_larger_than(500_000), pytest.raises(OSError, match="HF_DATASETS_CACHE"):
        load_corpus(spec(corpus_file))  # cleaning
    corpus = load_corpus(spec(corpus_file))
    train = corpus.splits["train"]
    with files_no_larger_than(500_000), pytest.raises(OSError, match=f"{tmp_path}.*HF_DATASETS_CACHE"):
        tokenise(train, train_tokenizer(["a b"]))
    with files_no_larger_than(5), pytest.raises(OSError, match=f"{tmp_path}.*HF_DATASETS_CACHE"):
        corpus_tokenizer(corpus.spec, train)
    assert len(tokenise(train, corpus_tokenizer(corpus.spec, train))) == 20_000  # and nothing was left half-written


def test_a_file_that_is_not_there_is_no_matter_of_the_cache(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="place these files"):
        load_corpus(CorpusSpec(name="a", files=CorpusFiles(train=str(tmp_path / "no.txt"))))
