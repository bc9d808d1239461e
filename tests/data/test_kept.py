"""Columns that are kept beside results are those of the file: the same rows, in order, with the types they have."""

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from modeling_seqvae.data import kept as module
from modeling_seqvae.data.corpora import read_texts
from modeling_seqvae.data.corpus_spec import Reading
from modeling_seqvae.data.kept import JSON, kept_of, require_column


def read(kept) -> dict[str, list]:
    tables = list(kept.tables())
    assert all(table.schema.equals(kept.schema) for table in tables)
    return pa.concat_tables(tables or [kept.schema.empty_table()]).to_pydict()


@pytest.fixture(autouse=True)
def _few_rows_at_once(monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)


SEPARATED = [["a b", "01", "NA", ""], ["", "1.50", 'x "y"', "é"], ["c\nd", "", "null", "-"]]


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv"])
def test_a_table_of_text_is_kept_as_it_is_written(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    rows = [[cell.replace("\n", " ") for cell in row] if suffix == ".tsv" else row for row in SEPARATED]
    quoting = 3 if suffix == ".tsv" else 0
    pd.DataFrame(rows, columns=["text", "id", "", "x y"]).to_csv(
        path, index=False, sep="\t" if suffix == ".tsv" else ",", quoting=quoting
    )
    assert read(kept_of(path)) == dict(zip(["text", "id", "", "x y"], map(list, zip(*rows, strict=True)), strict=True))
    assert read(kept_of(path, ["x y", "id"])) == {"x y": ["", "é", "-"], "id": ["01", "1.50", ""]}


@pytest.mark.parametrize("content", ["text,n\n\na b,1\n\n,\nc\n", "\ufefftext,n\r\na,1\r\n\r\nb,2\r\n"])
def test_rows_are_those_that_the_texts_are_read_from(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_text(content, "utf-8")
    texts = read_texts(path, Reading())[0]["text"]
    assert [text or "" for text in read(kept_of(path))["text"]] == list(texts)


def test_lines_are_the_column_text_and_labels_stand_before_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\ufeffgood\ta  b\n\nbad\tc\td\n", "utf-8")
    expected = {"label": ["good", "", "bad"], "text": ["a  b", "", "c\td"]}
    assert read(kept_of(path, labelled=True)) == expected
    assert read(kept_of(path)) == {"text": ["good\ta  b", "", "bad\tc\td"]}
    assert read(kept_of(["good\ta  b", "", "bad\tc\td"], ["text"], labelled=True)) == {"text": expected["text"]}


def test_json_keeps_types_and_what_has_several_is_json(tmp_path):
    records = [
        {"text": "a", "n": 1, "f": 1, "b": True, "mixed": "x", "nested": {"k": [1, None]}, "big": 2**70},
        {"n": -(2**60), "f": 0.1, "mixed": 2, "half": "\ud800", "text": "b"},
        {"text": None, "none": None},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join(map(json.dumps, records)) + "\n")
    kept = kept_of(path)
    found = read(kept)
    assert [found[name] for name in ("text", "n", "f", "b", "none")] == [
        ["a", "b", None], [1, -(2**60), None], [1.0, 0.1, None], [True, None, None], [None] * 3,
    ]  # fmt: skip
    assert [kept.schema.field(name).type for name in ("n", "f", "b")] == [pa.int64(), pa.float64(), pa.bool_()]
    held = [field.name for field in kept.schema if field.metadata == JSON]
    assert held == ["mixed", "nested", "big", "half"]
    for name in held:
        assert [None if text is None else json.loads(text) for text in found[name]] == [r.get(name) for r in records]
    (tmp_path / "a.json").write_text(json.dumps(records))
    assert read(kept_of(tmp_path / "a.json")) == found
    assert list(read(kept_of(path, ["n", "text"]))) == ["n", "text"]


def test_parquet_keeps_every_type(tmp_path):
    table = pa.table({
        "text": pa.array(["a", None, "c"], pa.large_string()),
        "category": pa.array(["x", "y", "x"]).dictionary_encode(),
        "when": pa.array([1, None, 3], pa.timestamp("ms", "Europe/Berlin")),
        "for": pa.array([1, 2, None], pa.duration("us")),
        "small": pa.array([1, 2, 3], pa.uint8()),
        "bytes": pa.array([b"\xff", b"", None]),
        "nested": pa.array([[{"k": 1}], [], None]),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    kept = kept_of(tmp_path / "a.parquet")
    assert kept.schema.equals(table.schema) and pa.concat_tables(kept.tables()).to_pydict() == table.to_pydict()
    assert read(kept_of(tmp_path / "a.parquet", ["small"])) == {"small": [1, 2, 3]}


def test_a_data_set_keeps_its_columns():
    features = Features({"text": Value("string"), "stars": ClassLabel(names=["bad", "good"])})
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "stars": [1, 0, 1]}, features).select([2, 0, 1])
    assert read(kept_of(rows)) == {"text": ["c", "a", "b"], "stars": [1, 1, 0]}


def test_a_column_is_looked_for_up_to_the_first_row_that_has_it(tmp_path):
    """What is behind a limit is not looked at."""
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b", "stars": 1}\n{oops\n')
    require_column(tmp_path / "a.jsonl", "stars")
    with pytest.raises(ValueError, match="line 3 is not JSON"):
        require_column(tmp_path / "a.jsonl", "star")
    require_column(tmp_path / "a.txt", "stars")
    require_column(tmp_path / "a.jsonl", None)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "a.csv").write_text("text,id\na,1\n")
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": 1}\n')
    (tmp_path / "a.txt").write_text("a\n")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=rf"{path} has no column 'stars'; its columns are .*text"):
            kept_of(path, ["stars"])


def test_columns_that_must_be_chosen_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,id,id\na,1,2\n")
    with pytest.raises(ValueError, match="several columns 'id'"):
        kept_of(tmp_path / "a.csv")
    assert read(kept_of(tmp_path / "a.csv", ["text"])) == {"text": ["a"]}
    (tmp_path / "a.jsonl").write_text(json.dumps({f"key {i}": i for i in range(1001)}) + "\n")
    with pytest.raises(ValueError, match=r"more than 1,000 columns: choose with --keep"):
        kept_of(tmp_path / "a.jsonl")
    assert read(kept_of(tmp_path / "a.jsonl", ["key 7"])) == {"key 7": [7]}


def test_a_file_that_has_changed_is_not_read_on(tmp_path):
    path: Path = tmp_path / "a.csv"
    path.write_text("text,id\na,1\n")
    kept = kept_of(path)
    path.write_text("text,id\na,2\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="has changed"):
        read(kept)
