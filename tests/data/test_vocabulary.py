"""A corpus's tokenizer is the one its texts train, and its words are counted once."""

from pathlib import Path

import datasets
import pytest
from datasets import Dataset

from modeling_seqvae.data import vocabulary
from modeling_seqvae.data.corpora import Corpus, load_corpus
from modeling_seqvae.data.corpus_spec import spec_from_path
from modeling_seqvae.data.vocabulary import corpus_tokenizer
from modeling_seqvae.tokenization import train_tokenizer

TEXT = "".join(f"The w{i % 9} didn't v{i % 4} é!\n" for i in range(80))


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "a.txt").write_text(TEXT, "utf-8")
    return load_corpus(spec_from_path(tmp_path / "a.txt"))


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """What the training texts were read from."""
    read: list[Dataset] = []
    original = vocabulary.word_counts
    monkeypatch.setattr(vocabulary, "word_counts", lambda rows, *how: (read.append(rows), original(rows, *how))[1])
    return read


def ids(tokenizer) -> str:
    return tokenizer.backend_tokenizer.to_str()


def test_it_is_the_tokenizer_of_the_training_texts_counted_once(corpus: Corpus, readings: list[Dataset]) -> None:
    train = corpus.splits["train"]
    expected = train_tokenizer(train["text"], **corpus.spec.tokenizer_settings())
    first, second = (corpus_tokenizer(corpus.spec, train) for _ in range(2))
    assert ids(first) == ids(second) == ids(expected)
    assert len(readings) == 1


def test_other_texts_or_settings_are_counted_anew(corpus: Corpus, readings: list[Dataset]) -> None:
    train = corpus.splits["train"]
    everything = corpus_tokenizer(corpus.spec, train)
    fewer = corpus_tokenizer(corpus.spec.model_copy(update={"vocabulary_size": 2}), train)
    assert (len(fewer), len(readings)) == (6, 2) and len(everything) > 6
    corpus_tokenizer(corpus.spec, train.select(range(40)))
    assert len(readings) == 3


def test_a_damaged_list_is_counted_anew(corpus: Corpus, readings: list[Dataset]) -> None:
    train = corpus.splits["train"]
    first = corpus_tokenizer(corpus.spec, train)
    (file,) = Path(train.cache_files[0]["filename"]).parent.glob("words-*.json")
    file.write_text(file.read_text("utf-8")[:9], "utf-8")
    assert ids(corpus_tokenizer(corpus.spec, train)) == ids(first)
    assert len(readings) == 2


def test_texts_in_memory_leave_nothing_on_disk(corpus: Corpus, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    texts = corpus.splits["train"]["text"][:]
    tokenizer = corpus_tokenizer(corpus.spec, Dataset.from_dict({"text": texts}))
    assert ids(tokenizer) == ids(corpus_tokenizer(corpus.spec, corpus.splits["train"]))
    assert {path.name[:5] for path in set(tmp_path.rglob("*")) - before} == {"words"}


@pytest.mark.parametrize(("words", "tokens"), [(200, 202), (1500, 1502)])
def test_a_tokenizer_reads_as_much_of_a_text_as_training_does(corpus, words, tokens):
    spec = corpus.spec.model_copy(update={"max_words": words})
    for _ in range(2):  # counted, and from the cache
        assert corpus_tokenizer(spec, corpus.splits["train"]).model_max_length == tokens


def test_a_corpus_too_small_for_a_vocabulary_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("".join(f"w{i} v{i}\n" for i in range(40)), "utf-8")
    few = load_corpus(spec_from_path(tmp_path / "few.txt"))
    with pytest.raises(ValueError, match=rf"corpus few \({tmp_path / 'few.txt'}\): No word occurs 2 times or more"):
        corpus_tokenizer(few.spec, few.splits["train"])
