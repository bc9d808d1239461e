"""Words that are read many texts at once are those that the tokenizer sees in each; as numbers they stay the same."""

import json
from pathlib import Path

import datasets
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_seqvae.data import words
from modeling_seqvae.data.batching import tokenise
from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.data.corpus_spec import CorpusSpec, spec_from_path
from modeling_seqvae.data.vocabulary import corpus_tokenizer
from modeling_seqvae.data.words import WordReader, word_counts
from modeling_seqvae.tokenization import NORMALISATIONS, WHITE_SPACE, normalisation_of, train_tokenizer

SIGNS = [*"abnstİΣǄé'’.,:-_ 0129!()<>/#", "\u0301", "\u0344", "\u00a0", "\t", "\n", "\x1c", "\0", "\ufeff", "\u2000"]
LONGER = ["n't", "N'T", "'s", "_UNK", "_unk", "<unk>", "</s>", "<pad>", "1.000,5a", "....", "\u1100\u1161"]
PARTS = st.sampled_from([*SIGNS, *LONGER, *("  " * 9)])
TEXTS = st.lists(st.lists(PARTS, max_size=30).map("".join), max_size=5)
MARKS = st.sampled_from(["<unk>", "_UNK", "UNK", "ÜNK"])


def words_by_tokenizer(text: str, normalisation: str, mark: str) -> list[str]:
    """The whole text through the pieces of the tokenizer, which are not ours."""
    pieces = normalisation_of(normalisation, mark)
    normalised = pieces.normalizer.normalize_str(text)
    return [word for word, _ in pieces.pre_tokenizer.pre_tokenize_str(normalised)]


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.sampled_from(sorted(NORMALISATIONS)), MARKS, st.sampled_from([1 << 18, 2]))
def test_texts_read_together_have_the_words_that_the_tokenizer_sees_in_each(texts, normalisation, mark, remembered):
    reader = WordReader(normalisation, mark)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "PIECES", remembered)  # few: they are forgotten all the time
        for part in (texts, texts[::-1], texts[:1]):
            counts, numbers = reader.read(part)
            found = iter(reader.words[number] for number in numbers)
            expected = [words_by_tokenizer(text, normalisation, mark) for text in part]
            assert [[next(found) for _ in range(count)] for count in counts] == expected
            assert next(found, None) is None
    assert len(set(reader.words)) == len(reader.words)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_text_has_no_words_if_and_only_if_it_is_white_space(normalisation):
    split = WordReader(normalisation, "<unk>").split
    assert split(WHITE_SPACE) == [] == split(WHITE_SPACE.replace("\xa0", ""))
    codes = (*range(0x3100), *range(0x3100, 0xD800, 61), *range(0xE000, 0x110000, 61), 0xFEFF)
    signs = [chr(code) for code in codes if chr(code) not in WHITE_SPACE]
    counts, _ = WordReader(normalisation, "<unk>").read(signs)
    assert (counts > 0).all()


# What becomes of a file


HOSTILE = [
    "The w1 didn't SAY so!",
    "the the w1",
    "\ufeffThe end \x1c",
    "\x1c",
    "word " * 250,
    "x" * 100 + " Ünïcode ÜNÏCODE w1",
    "a\tb\u2028c\u00a0d",
    "ǆ Ǆ ǅ İstanbul e\u0301",
    "word \x1f" * 120 + "\x1f",
    "</s> <s> <unk> the",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in HOSTILE * 30), "utf-8")
    return tmp_path


def spec(folder: Path, normalisation: str = "words") -> CorpusSpec:
    return spec_from_path(folder / "a.jsonl").model_copy(update={"normalisation": normalisation})


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_file_is_numbered_counted_and_tokenised_as_its_texts_are_one_by_one(folder, normalisation):
    corpus = load_corpus(spec(folder, normalisation))
    train = corpus.splits["train"]
    tokenizer = corpus_tokenizer(corpus.spec, train)
    expected = train_tokenizer(train["text"][:], **corpus.spec.tokenizer_settings())
    assert tokenizer.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    for split in corpus.splits.values():
        again = Dataset.from_dict({"text": split["text"][:]})  # whose words nobody has numbered
        right = [tokenizer(text)["input_ids"] for text in split["text"]]
        for tokenised in (tokenise(split, tokenizer), tokenise(again, tokenizer)):
            assert tokenised["input_ids"][:] == right
            assert tokenised["length"][:] == [len(ids) for ids in right]
            assert tokenised["unknown"][:] == [ids.count(tokenizer.unk_token_id) for ids in right]
            assert tokenised["index"][:] == list(range(len(split)))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_documents_are_cut_where_the_words_of_one_after_the_other_end(folder, normalisation):
    corpus = load_corpus(spec(folder, normalisation))
    for split in corpus.splits.values():
        assert max(len(words_by_tokenizer(text, normalisation, "<unk>")) for text in split["text"]) <= 200
    texts = {text for split in corpus.splits.values() for text in split["text"]}
    expected = set()
    for text in HOSTILE:
        text = text.removeprefix("\ufeff")
        found = words_by_tokenizer(text, normalisation, "<unk>")
        if found:
            expected.add(" ".join(found[:200]) if len(found) > 200 else text.strip())
    assert texts == expected


def test_another_tokenizer_reads_a_file_anew(folder, monkeypatch):
    corpus = load_corpus(spec(folder))
    split = corpus.splits["validation"]
    for tokenizer in (
        train_tokenizer(["the w1"], normalisation="whitespace"),
        train_tokenizer(["the w1"], normalisation="words", unknown_mark="_UNK"),
        train_tokenizer(["the w1"], normalisation="words"),
    ):
        assert tokenise(split, tokenizer)["input_ids"][:] == tokenizer(split["text"][:])["input_ids"]


def test_a_tokenizer_that_was_given_more_tokens_reads_by_itself():
    rows = Dataset.from_dict({"text": ["the w1 new word", "the newword </s> the"]})
    grown, control = (train_tokenizer(["the w1"], normalisation="words") for _ in range(2))
    grown.add_tokens(["new word", "newword"])
    control.split_special_tokens = False
    for tokenizer in (grown, control):
        assert tokenise(rows, tokenizer)["input_ids"][:] == tokenizer(rows["text"][:])["input_ids"]
    assert tokenise(rows, control)["input_ids"][1].count(control.eos_token_id) == 2


def test_a_text_that_is_missing_is_still_refused():
    rows = Dataset.from_dict({"text": ["a", None]})
    with pytest.raises((TypeError, ValueError)):
        tokenise(rows, train_tokenizer(["a b"]))


def test_counts_are_those_of_the_rows_and_not_of_their_file(folder):
    corpus = load_corpus(spec(folder), limits={"train": 7})
    found, counts = word_counts(corpus.splits["train"], "words", "<unk>")
    right = [word for text in corpus.splits["train"]["text"] for word in words_by_tokenizer(text, "words", "<unk>")]
    assert {word: count for word, count in zip(found, counts.tolist(), strict=True) if count} == {
        word: right.count(word) for word in set(right)
    }


def test_words_are_read_once_from_file_to_ids(folder, monkeypatch):
    read = []
    original = WordReader.read
    monkeypatch.setattr(WordReader, "read", lambda self, texts: (read.append(len(texts)), original(self, texts))[1])
    corpus = load_corpus(spec(folder))
    tokenizer = corpus_tokenizer(corpus.spec, corpus.splits["train"])
    for split in corpus.splits.values():
        tokenise(split, tokenizer)
    assert sum(read) == 30 * len(HOSTILE)
