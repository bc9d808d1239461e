"""Laws of the corpora: nothing is lost silently, splits are the same every time, errors name file, line and column."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pandas as pd
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Value
from pydantic import ValidationError

from modeling_seqvae.data import hub_corpora
from modeling_seqvae.data.batching import tokenise, unknown_share_of
from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.data.corpus_spec import CorpusSpec, spec_from_path
from modeling_seqvae.tokenization import train_tokenizer, word_splitter

ROOT = Path(__file__).resolve().parents[2]
NAMED = ["arxiv", "ptb", "yahoo", "yelp", "yelp_sentiment", "yelp_stars", "demo"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def named(name):
    section = yaml.safe_load((ROOT / "configuration" / "corpora" / f"{name}.yaml").read_text())["data"]
    return CorpusSpec.model_validate(section)


def place(folder, name, train, valid="a b\n", test="b a\n"):
    (folder / name).mkdir(parents=True)
    for split, content in (("train", train), ("valid", valid), ("test", test)):
        (folder / name / f"{name}.{split}.txt").write_text(content, encoding="utf-8")
    return folder


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(count):
    return "".join(f"document {i}\n" for i in range(count))


# Texts that several splits have


def test_training_texts_in_other_splits_are_counted_and_said(tmp_path):
    texts = {"train": "a b\nc d\na b\ne f\n", "valid": "x y\n c d \n", "test": "a b\na b\nA b\ng h\n"}
    for split, content in texts.items():
        write(tmp_path / f"{split}.txt", content)
    notes = load_corpus(spec_from_path(tmp_path)).report.notes
    assert notes == (
        "1 of the 2 validation documents are training documents, too, word for word.",
        "2 of the 4 test documents are training documents, too, word for word.",
    )
    limited = load_corpus(spec_from_path(tmp_path), limits={"train": 1, "test": 1})  # of what is kept
    assert limited.report.notes == ("1 of the 1 test documents are training documents, too, word for word.",)


def test_texts_split_off_from_repeated_ones_are_counted_too(tmp_path):
    corpus = load_corpus(spec_from_path(write(tmp_path / "texts.txt", lines(20) * 10)))
    train = set(corpus.splits["train"]["text"])
    for split, note in zip(("validation", "test"), corpus.report.notes[1:], strict=True):
        count = sum(text in train for text in corpus.splits[split]["text"])
        assert note.startswith(f"{count} of the 10 {split} documents")


# Named corpora


@pytest.mark.parametrize("name", NAMED)
def test_every_named_corpus_has_a_valid_recipe(name):
    assert named(name).name == name


def test_a_corpus_with_a_mark_keeps_all_words_and_one_without_those_seen_twice():
    assert named("ptb").tokenizer_settings() == {
        "vocabulary_size": 20_000,
        "min_frequency": 1,
        "unknown_mark": "<unk>",
        "normalisation": "whitespace",
    }
    assert named("yelp_sentiment").tokenizer_settings()["min_frequency"] == 2
    assert named("yahoo").tokenizer_settings()["unknown_mark"] == "_UNK"


def test_unlabelled_files(tmp_path):
    corpus = load_corpus(named("ptb"), data_dir=place(tmp_path, "ptb", "the <unk> N\nno\n", "a\n", "b\nc\n"))
    assert {split: rows["text"][:] for split, rows in corpus.splits.items()} == {
        "train": ["the <unk> N", "no"],
        "validation": ["a"],
        "test": ["b", "c"],
    }
    assert not corpus.labelled


def test_labelled_files(tmp_path):
    folder = place(tmp_path, "yelp_sentiment", "1\tgood one .\n0\tbad\tone\n", "0\tno\n", "1\tyes\n")
    corpus = load_corpus(named("yelp_sentiment"), data_dir=folder)
    assert corpus.splits["train"]["text"][:] == ["good one .", "bad\tone"]
    assert corpus.splits["train"]["label"][:] == [1, 0]
    assert corpus.splits["test"].features["label"] == ClassLabel(names=["0", "1"])


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("name", ["yahoo", "yelp"])
def test_the_public_benchmarks_are_read_with_and_without_labels(tmp_path, name, labelled):
    train, rest = ("3\ta _UNK c\n1\td\n", "1\tx\n") if labelled else ("a _UNK c\nd\n", "x\n")
    place(tmp_path, name, train, rest, rest)
    (tmp_path / name).rename(tmp_path / f"{name}_data")  # the folder's name in the public archive
    corpus = load_corpus(named(name), data_dir=tmp_path)
    assert corpus.splits["train"]["text"][:] == ["a _UNK c", "d"]
    assert corpus.labelled == labelled


def test_labels_of_some_splits_only_are_not_used(tmp_path):
    corpus = load_corpus(named("yelp"), data_dir=place(tmp_path, "yelp", "1\ta\n", "1\tb\n", "c\n"))
    assert not corpus.labelled
    assert "yelp.test.txt" in str(corpus.report)


def test_demo():
    corpus = load_corpus(named("demo"), limits={"train": 50, "validation": 20, "test": 20})
    assert corpus.splits["train"].features["label"].names == ["1", "2", "3", "4", "5"]
    tokenizer = train_tokenizer(corpus.splits["train"]["text"], **corpus.spec.tokenizer_settings())
    assert unknown_share_of(tokenise(corpus.splits["train"], tokenizer)) < 0.2
    assert corpus.report.splits["train"].available is None  # no more are drawn than are asked for
    assert load_corpus(named("demo"), limits={"train": 50}).report.splits["test"].available == 2_000


def test_missing_files_are_listed(tmp_path):
    place(tmp_path, "ptb", "a\n")
    (tmp_path / "ptb" / "ptb.test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"ptb/ptb\.test\.txt") as error:
        load_corpus(named("ptb"), data_dir=tmp_path)
    assert "ptb.train.txt" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="Without --data-dir it is built from the hub") as error:
        load_corpus(named("yahoo"), data_dir=tmp_path)
    assert all(f"{tmp_path}/yahoo/yahoo.{split}.txt" in str(error.value) for split in ("train", "valid", "test"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"normalisation": "lower"}, "whitespace, words"),
        ({"files": None}, "`files`"),
        ({"label_column": "stars"}, "labelled is false"),
        ({"unknown_mark": "two words"}, "unknown_mark"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        CorpusSpec.model_validate({"name": "x", "files": {"train": "x.txt"}} | changes)


# Documents: empty, long, limited, split off


def test_empty_lines_are_counted_and_left_out(tmp_path):
    path = write(tmp_path / "a.txt", "one\n\n  \ntwo\n\u00a0\nthree\n")
    corpus = load_corpus(spec_from_path(path, validation=path, test=path))
    assert corpus.splits["train"]["text"][:] == ["one", "two", "three"]
    assert corpus.report.splits["train"].empty == 3
    assert "3 empty left out" in str(corpus.report)


def test_long_documents_are_cut_and_counted(tmp_path):
    path = write(tmp_path / "a.txt", "one Two, three\none two\n" + "word " * 300_000)
    spec = CorpusSpec(**spec_from_path(path, validation=path, test=path).model_dump() | {"max_words": 3})
    corpus = load_corpus(spec)
    assert corpus.splits["train"]["text"][:] == ["one two ,", "one two", "word word word"]
    report = corpus.report.splits["train"]
    assert (report.documents, report.truncated, report.mean_words) == (3, 2, pytest.approx(8 / 3))
    assert json.loads(json.dumps(corpus.report.as_dict()))["splits"]["train"]["truncated"] == 2


def test_limits_keep_the_first_documents(tmp_path):
    path = write(tmp_path / "a.txt", "\n" + lines(10))
    corpus = load_corpus(spec_from_path(path, validation=path, test=path), limits={"train": 4, "test": 99})
    assert corpus.splits["train"]["text"][:] == [f"document {i}" for i in range(4)]
    assert [len(rows) for rows in corpus.splits.values()] == [4, 10, 10]
    assert "the first, where reading stopped" in str(corpus.report)
    corpus = load_corpus(spec_from_path(path), limits={"train": 4})  # of those that are left for training
    assert "the first of 8" in str(corpus.report)


@pytest.mark.parametrize("limits", [{"dev": 3}, {"train": 0}])
def test_wrong_limits_are_refused(tmp_path, limits):
    with pytest.raises(ValueError, match="limits"):
        load_corpus(spec_from_path(write(tmp_path / "a.txt", lines(9))), limits=limits)


def test_a_single_file_is_split_the_same_way_every_time(tmp_path):
    spec = spec_from_path(write(tmp_path / "a.txt", lines(100)))
    first, second = load_corpus(spec), load_corpus(spec)
    assert [len(rows) for rows in first.splits.values()] == [90, 5, 5]
    parts = [set(rows["text"]) for rows in first.splits.values()]
    assert len(set.union(*parts)) == 100
    assert [rows["text"][:] for rows in first.splits.values()] == [rows["text"][:] for rows in second.splits.values()]
    assert "5 for validation and 5 for test" in str(first.report)


def test_a_validation_file_alone_leaves_only_the_test_set_to_split_off(tmp_path):
    path, other = write(tmp_path / "a.txt", lines(40)), write(tmp_path / "b.txt", "x\n")
    corpus = load_corpus(spec_from_path(path, validation=other))
    assert [len(rows) for rows in corpus.splits.values()] == [38, 1, 2]


def test_too_few_documents_to_split_are_refused(tmp_path):
    assert len(load_corpus(spec_from_path(write(tmp_path / "three.txt", lines(3)))).splits["train"]) == 1
    with pytest.raises(ValueError, match="too few"):
        load_corpus(spec_from_path(write(tmp_path / "two.txt", lines(2))))


def test_a_folder_is_read_by_the_names_of_its_files(tmp_path):
    for name in ("reviews.train.txt", "reviews.dev.txt", "reviews.test.txt", "notes.md"):
        write(tmp_path / name, name + "\n")
    corpus = load_corpus(spec_from_path(tmp_path))
    assert corpus.splits["validation"]["text"][:] == ["reviews.dev.txt"]
    write(tmp_path / "train.csv", "text\na\n")
    with pytest.raises(ValueError, match="several train files"):
        spec_from_path(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no training file"):
        spec_from_path(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        spec_from_path(tmp_path / "absent.txt")


# Formats


TABLE = {"body": ["A b, c", "NA", 'say "d"', "e"], "topic": ["x", "y", "x", "y"], "n": [10, 2, 10, 2]}


def as_csv(path):
    pd.DataFrame(TABLE).to_csv(path, index=False)


def as_tsv(path):
    rows = ["\t".join(TABLE)] + ["\t".join(map(str, row)) for row in zip(*TABLE.values(), strict=True)]
    path.write_text("\n".join(rows) + "\n")


def as_jsonl(path):
    pd.DataFrame(TABLE).to_json(path, orient="records", lines=True)


def as_json(path):
    pd.DataFrame(TABLE).to_json(path, orient="records")


def as_parquet(path):
    pd.DataFrame(TABLE).to_parquet(path)


@pytest.mark.parametrize("writer", [as_csv, as_tsv, as_jsonl, as_json, as_parquet])
def test_every_table_format_gives_the_same_corpus(tmp_path, writer):
    path = tmp_path / f"a.{writer.__name__.removeprefix('as_')}"
    writer(path)
    rows = load_corpus(spec_from_path(path, "body", "topic", validation=path, test=path)).splits["train"]
    assert rows["text"][:] == TABLE["body"]
    assert rows["label"][:] == [0, 1, 0, 1] and rows.features["label"].names == ["x", "y"]
    numbers = load_corpus(spec_from_path(path, "body", "n", validation=path, test=path)).splits["train"]
    assert numbers["label"][:] == [1, 0, 1, 0] and numbers.features["label"].names == ["2", "10"]


@pytest.mark.parametrize("writer", [as_csv, as_jsonl, as_parquet])
def test_missing_columns_are_named_with_those_there_are(tmp_path, writer):
    path = tmp_path / f"a.{writer.__name__.removeprefix('as_')}"
    writer(path)
    for arguments in [("text",), ("body", "stars")]:
        with pytest.raises(ValueError, match=f"'{arguments[-1]}'.*columns are body, topic, n"):
            load_corpus(spec_from_path(path, *arguments))
    with pytest.raises(ValueError, match="Give --text-column"):
        load_corpus(spec_from_path(path))


def test_declared_classes_keep_their_order(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["low", "high", "mid"])})
    Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 2]}, features=features).to_parquet(
        tmp_path / "a.parquet"
    )
    rows = load_corpus(spec_from_path(tmp_path / "a.parquet", label_column="label", **same(tmp_path / "a.parquet")))
    assert rows.splits["train"].features["label"].names == ["low", "high", "mid"]
    assert rows.splits["train"]["label"][:] == [0, 1, 2]


def same(path):
    return {"validation": path, "test": path}


@pytest.mark.parametrize(
    "content",
    [lines(3).replace("\n", "\r\n"), lines(3).replace("\n", "\r"), "\ufeff" + lines(3), lines(3).strip()],
    ids=["windows", "old-mac", "bom", "no-final-newline"],
)
def test_line_ends_and_byte_order_marks_are_not_text(tmp_path, content):
    path = write(tmp_path / "a [1]*.txt", content)  # nor is a name a pattern
    assert load_corpus(spec_from_path(path, **same(path))).splits["train"]["text"][:] == lines(3).split("\n")[:3]


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "a.txt", lines(3))
    load_corpus(spec_from_path(path, **same(path)))
    write(path, "new\n")
    os.utime(path, (1, 1))
    assert load_corpus(spec_from_path(path, **same(path))).splits["train"]["text"][:] == ["new"]


# Errors


JSON_LINES = "".join(json.dumps({"text": f"document {i}", "label": i % 2}) + "\n" for i in range(8))
CSV = "text,label\n" + "".join(f"document {i},{i % 2}\n" for i in range(8))


@pytest.mark.parametrize(
    ("name", "content", "labelled", "message"),
    [
        ("empty.txt", "", False, "is empty"),
        ("blank.txt", "\n \n\t\n", False, "holds no documents"),
        ("latin.txt", lines(4).encode() + b"caf\xe9\n", False, "line 5 is not UTF-8"),
        ("utf16.txt", lines(4).encode("utf-16"), False, "line 1 is not UTF-8"),
        ("nul.txt", "a\nb\0\nc\n", False, "line 2 holds a NUL"),
        ("tab.txt", "1\ta\n\n0 b\n", True, "line 3 has no TAB"),
        ("label.txt", "1\ta\n\tb\n", True, "line 2 has no label"),
        ("mixed.txt", "1\ta\n0\tb\n5x\tc\n", True, "line 3 has the label '5x'"),
        ("header.csv", "text,label\n", False, "holds no documents"),
        ("extra.csv", CSV + "a,b,1\n", False, "line 10"),
        ("shifted.csv", "text,label\n" + "a,b,1\n" * 5, False, "more fields than its header"),
        ("open.csv", CSV + '"oops,1\n', False, "quote that opens in row 9 is never closed"),
        ("label.csv", CSV + "document,\n", True, "row 9 has no label"),
        ("latin.csv", CSV.encode() + b"caf\xe9,1\n", False, "line 10 is not UTF-8"),
        ("wide.csv", "x" * 200_000 + "\n", False, "field larger"),
        ("scores.csv", "text,label\n" + "".join(f"a,id{i}\n" for i in range(1001)), True, "not classes"),
        ("broken.jsonl", JSON_LINES + "{oops}\n", False, "line 9 is not JSON"),
        ("latin.jsonl", JSON_LINES.encode() + b'{"text": "\xe9"}\n', False, "line 9 is not UTF-8"),
        ("label.jsonl", JSON_LINES + '{"text": "a"}\n', True, "line 9 has no label"),
        ("number.jsonl", '{"text": 3}\n', False, "not text"),
        ("score.jsonl", '{"text": "a", "label": 0.5}\n', True, "whole numbers or names"),
        ("broken.parquet", b"PAR1", False, "cannot be read"),
        ("paper.pdf", "x", False, r"\.parquet"),
    ],
)
def test_bad_files_are_refused_by_name_and_line(tmp_path, name, content, labelled, message):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=message) as error:
        load_corpus(spec_from_path(path, label_column="label" if labelled else None, **same(path)))
    assert str(path) in str(error.value)


def test_labels_outside_the_classes_are_refused_by_line(tmp_path):
    folder = place(tmp_path, "yelp_stars", "4\ta\n0\tb\n", "1\tx\n\n5\ty\n", "0\tz\n")
    with pytest.raises(ValueError, match=r"yelp_stars\.valid\.txt, line 3 has the label '5'.*0, 1, 2, 3, 4"):
        load_corpus(named("yelp_stars"), data_dir=folder)
    path, other = write(tmp_path / "a.txt", "x\ta\ny\tb\n"), write(tmp_path / "b.txt", "y\ta\nz\tb\n")
    with pytest.raises(ValueError, match=r"b\.txt, line 2 has the label 'z'"):
        load_corpus(spec_from_path(path, label_column="label", validation=other, test=path))


# The hub


HUB_ROWS = {
    "yahoo": {
        "id": list(range(60)),
        "topic": [i % 10 for i in range(60)],
        "question_title": [f"Why is No. {i} SO good?" for i in range(60)],
        "question_content": ["" if i % 2 else "I don't\\nknow &amp; care." for i in range(60)],
        "best_answer": ["short" if i % 3 == 0 else "it's fine , really. " * 4 for i in range(60)],
    },
    "yelp": {"label": [i % 5 for i in range(60)], "text": [f"Visit {i}: " + "good food, " * 10 for i in range(60)]},
}


@pytest.fixture
def hub(monkeypatch):
    """`load_dataset` answers for the two hub datasets with a few rows of the same columns."""
    asked = []

    def load_dataset(dataset, config=None, split=None):
        asked.append((dataset, config, split))
        rows = Dataset.from_dict(HUB_ROWS["yahoo" if "yahoo" in dataset else "yelp"])
        label = "topic" if "yahoo" in dataset else "label"
        names = [f"class {i}" for i in range(10 if "yahoo" in dataset else 5)]
        return rows.cast_column(label, ClassLabel(names=names))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def from_hub(name, **changes):
    spec = named(name)
    small = {"train": 20, "validation": 5, "test": 10, "min_words": 20, **changes}
    return load_corpus(CorpusSpec(**spec.model_dump() | {"hub": {**spec.hub.model_dump(), **small}}))


@pytest.mark.parametrize("name", ["yahoo", "yelp"])
def test_a_benchmark_from_the_hub(hub, name):
    corpus = from_hub(name)
    assert [len(rows) for rows in corpus.splits.values()] == [20, 5, 10]
    dataset = "community-datasets/yahoo_answers_topics" if name == "yahoo" else "Yelp/yelp_review_full"
    config = "yahoo_answers_topics" if name == "yahoo" else None
    assert hub == [(dataset, config, "train"), (dataset, config, "test")]
    texts = [text for rows in corpus.splits.values() for text in rows["text"]]
    assert all(text == text.lower() and 20 <= len(text.split()) <= 200 for text in texts)
    assert not set(corpus.splits["train"]["text"]) & set(corpus.splits["validation"]["text"])
    assert corpus.splits["train"].features["label"].names[1] == "class 1"
    assert "equivalent to the benchmark" in str(corpus.report)
    settings = corpus.spec.tokenizer_settings()
    assert (settings["normalisation"], settings["unknown_mark"], settings["min_frequency"]) == ("words", "<unk>", 2)
    tokenizer = train_tokenizer(texts, **settings)
    raw = HUB_ROWS[name]["best_answer" if name == "yahoo" else "text"][1]
    read = tokenizer(raw, add_special_tokens=False)["input_ids"]
    assert read.count(tokenizer.unk_token_id) < 0.1 * len(read)  # it reads raw text as it read the corpus


def test_of_the_classes_of_a_hub_dataset_some_may_be_chosen(hub, monkeypatch):
    spec = named("yelp")
    source = spec.hub.model_dump() | {"train": 9, "validation": 3, "test": 4}
    some = spec.model_dump() | {"hub": source, "labelled": True, "labels": ["class 1", "class 3"]}
    plain = Dataset.from_dict(HUB_ROWS["yelp"])
    for labels in (["class 1", "class 3"], ["1", "3"]):
        train = load_corpus(CorpusSpec(**some | {"labels": labels})).splits["train"]
        assert len(train) == 9 and {train.features["label"].int2str(label) for label in train["label"]} == set(labels)
        monkeypatch.setattr(datasets, "load_dataset", lambda *given, **options: plain)  # whose labels are numbers


def test_yahoo_joins_title_content_and_answer(hub):
    answer = "it 's fine , really . " * 4
    texts = set(from_hub("yahoo").splits["train"]["text"])
    assert any(text.startswith("why is no . ") and text.endswith(answer.strip()) for text in texts)
    assert any("so good ? i do n't know & care . it 's fine" in text for text in texts)


def test_arxiv_is_drawn_from_one_split_by_its_first_category(monkeypatch):
    known = named("arxiv").labels
    assert len(known) == 23 and list(known) == sorted(known)
    odd = ["cs.AI stat.ME", "math.FA"]  # no class of ours, a good one in another form, one too long, one too short
    texts = [f"We show that $\\\\nu_{{{i}}} < 1$ &amp; no more. " + "Word " * 20 for i in range(80)]
    rows = {
        "id": [str(i) for i in range(84)],
        "categories": [[f"{known[i % 23]} cs.AI"] for i in range(80)] + [[name] for name in (*odd, "cs.CL", "cs.CL")],
        "abstract": [*texts, "no class of ours " * 9, "math alone " * 15, "word " * 201, "too short"],
    }
    asked = []

    def load_dataset(dataset, config=None, split=None):
        asked.append((dataset, split))
        return Dataset.from_dict(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = from_hub("arxiv", train=60, validation=10, test=11)
    assert asked == [("gfissore/arxiv-abstracts-2021", "train")]
    assert [len(split) for split in corpus.splits.values()] == [60, 10, 11]
    drawn = [text for split in corpus.splits.values() for text in split["text"]]
    assert len(set(drawn)) == 81  # none is in two sets
    names = corpus.splits["train"].features["label"].names
    assert set(names) <= set(known) and names == sorted(names)
    whole = {words(text): rows["categories"][i][0].split()[0] for i, text in enumerate(rows["abstract"])}
    for split in corpus.splits.values():
        assert [names[label] for label in split["label"]] == [whole[text] for text in split["text"]]
    with pytest.raises(ValueError, match="has 81 documents"):
        from_hub("arxiv", train=60, validation=10, test=12)


def words(text):
    return " ".join(word_splitter("words")(text))


def test_the_sample_depends_on_the_seed_alone(hub, monkeypatch):
    first = from_hub("yahoo").splits["train"]["text"][:]
    assert from_hub("yahoo", seed=1).splits["train"]["text"][:] != first
    monkeypatch.setattr(hub_corpora, "_ROWS_PER_PROCESS", 10)  # in parallel
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert from_hub("yahoo").splits["train"]["text"][:] == first


def test_a_hub_dataset_that_is_too_small_or_of_other_columns_is_refused(hub):
    with pytest.raises(ValueError, match=r"has 40 documents.*60 were asked for"):
        from_hub("yahoo", train=55)
    with pytest.raises(ValueError, match=r"no column 'title'.*best_answer"):
        from_hub("yahoo", text_columns=("title",))


def test_without_network_the_files_to_place_are_listed(tmp_path):
    code = (
        "import yaml\n"
        "from modeling_seqvae.data.corpora import CorpusSpec, load_corpus\n"
        f"spec = CorpusSpec(**yaml.safe_load(open({str(ROOT / 'configuration/corpora/yahoo.yaml')!r}))['data'])\n"
        "try:\n    load_corpus(spec)\n"
        "except FileNotFoundError as error:\n    print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "could not be reached" in output.stdout
    assert all(f"DIR/yahoo/yahoo.{split}.txt" in output.stdout for split in ("train", "valid", "test"))
