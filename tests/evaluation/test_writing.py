"""What stood beside a text stands beside its results, in every format, and a file of another shape is refused."""

import csv
import datetime
import json
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from modeling_seqvae.data.kept import kept_of
from modeling_seqvae.evaluation.writing import WRITERS, write_table

SCHEMA = pa.schema([("nll", pa.float64()), ("tokens", pa.int64())])
TEXTS = ['a "b", c', "line\nend", "old Mac\rend", "", "é 中 \U0001f600", "Windows\r\nend", " space "]


def results(*sizes: int) -> list[pa.Table]:
    numbers = iter(range(sum(sizes)))
    parts = [[next(numbers) for _ in range(size)] for size in sizes]
    return [pa.table({"nll": [n / 3 for n in part], "tokens": part}, SCHEMA) for part in parts]


def rows_of(path) -> list[dict]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("sizes", [(7,), (3, 1, 3), (1,) * 7])
def test_kept_text_comes_back_whatever_it_holds(tmp_path, suffix, sizes):
    path = tmp_path / f"a{suffix}"
    kept = kept_of(Dataset.from_dict({"text": TEXTS, "id": [f"0{i}" for i in range(7)]}))
    write_table(results(*sizes), SCHEMA, path, kept)
    found = rows_of(path)
    assert [(row["text"], row["id"]) for row in found] == [(text, f"0{i}") for i, text in enumerate(TEXTS)]
    assert list(found[0]) == ["text", "id", "nll", "tokens"]
    assert [float(row["nll"]) for row in found] == [n / 3 for n in range(7)]
    if suffix == ".csv":
        assert list(pd.read_csv(path, keep_default_na=False)["text"]) == TEXTS
        assert list(pd.read_csv(path)["tokens"]) == list(range(7))


TYPES = {
    "int": pa.array([2**60 + 1, None, 3], pa.int64()),
    "flag": pa.array([True, None, False]),
    "float": pa.array([0.1, None, 1e300]),
    "single": pa.array([0.1, None, 2], pa.float32()),
    "day": pa.array([datetime.date(2020, 1, 2), None, None]),
    "when": pa.array([datetime.datetime(2020, 1, 2, 3, 4, 5), None, None], pa.timestamp("us", "UTC")),
    "price": pa.array([Decimal("1.10"), None, None]),
    "list": pa.array([[1, 2], [], None]),
    "object": pa.array([{"k": "é"}, None, {"k": None}]),
    "category": pa.array(["x", None, "x"]).dictionary_encode(),
}


def test_parquet_keeps_types_and_the_others_what_they_can_hold(tmp_path):
    pq.write_table(pa.table(TYPES), tmp_path / "types.parquet")
    kept = kept_of(tmp_path / "types.parquet")
    for suffix in WRITERS:
        write_table(results(2, 1), SCHEMA, tmp_path / f"a{suffix}", kept)
    parquet = pq.read_table(tmp_path / "a.parquet")
    assert parquet.select([*TYPES]).to_pydict() == pa.table(TYPES).to_pydict()
    assert [parquet.schema.field(name).type for name in TYPES] == [column.type for column in TYPES.values()]
    lines = rows_of(tmp_path / "a.jsonl")
    same = ("int", "flag", "float", "list", "object", "category")
    assert {name: [row[name] for row in lines] for name in same} == pa.table(TYPES).select(same).to_pydict()
    assert (lines[0]["day"], lines[0]["when"], lines[0]["price"]) == ("2020-01-02", "2020-01-02T03:04:05+00:00", "1.10")
    first, second = rows_of(tmp_path / "a.csv")[:2]
    assert [first[name] for name in ("int", "flag", "float", "single", "list", "object", "category")] == [
        str(2**60 + 1), "True", "0.1", "0.1", "[1, 2]", '{"k": "é"}', "x",
    ]  # fmt: skip
    assert (first["day"], first["when"]) == ("2020-01-02", "2020-01-02T03:04:05+00:00")
    assert [second[name] for name in TYPES] == ["", "", "", "", "", "", "", "[]", "", ""]


def test_json_lines_come_back_as_json_lines(tmp_path):
    records = [
        {"text": "a", "n": 1, "mixed": "x", "tags": ["a", {"b": None}], "half": "\ud800"},
        {"text": "b", "n": None, "mixed": 2, "tags": None, "half": "whole"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_table(results(2), SCHEMA, tmp_path / "out.jsonl", kept_of(tmp_path / "in.jsonl"))
    added = [{"nll": 0.0, "tokens": 0}, {"nll": 1 / 3, "tokens": 1}]
    assert rows_of(tmp_path / "out.jsonl") == [record | more for record, more in zip(records, added, strict=True)]


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_no_number_is_missing(tmp_path, suffix):
    table = pa.table({"nll": pa.array([None, 1.0]), "tokens": [1, 2]}, SCHEMA)
    write_table([table], SCHEMA, tmp_path / f"a{suffix}")
    assert rows_of(tmp_path / f"a{suffix}")[0]["nll"] in ("", None)
    assert pd.isna(rows_of(tmp_path / f"a{suffix}")[0]["nll"] or None)


def test_a_column_named_like_a_result_is_refused(tmp_path):
    (tmp_path / "in.csv").write_text("text,nll\na,1\n")
    with pytest.raises(ValueError, match=r"in.csv has a column 'nll', .* --keep, or give --no-keep"):
        write_table(results(1), SCHEMA, tmp_path / "out.csv", kept_of(tmp_path / "in.csv"))
    write_table(results(1), SCHEMA, tmp_path / "out.csv", kept_of(tmp_path / "in.csv", ["text"]))
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


@pytest.mark.parametrize("column", [pa.array([b"\xff"]), pa.array([[b"a"]]), pa.array([{"k": b"a"}])])
def test_bytes_are_for_parquet(tmp_path, column):
    pq.write_table(pa.table({"image": column}), tmp_path / "in.parquet")
    for suffix in (".csv", ".jsonl"):
        with pytest.raises(ValueError, match=r"column 'image' holds bytes, which a \.\w+ cannot: write a .parquet"):
            write_table(results(1), SCHEMA, tmp_path / f"out{suffix}", kept_of(tmp_path / "in.parquet"))
    write_table(results(1), SCHEMA, tmp_path / "out.parquet", kept_of(tmp_path / "in.parquet"))
    assert pq.read_table(tmp_path / "out.parquet")["image"].to_pylist() == column.to_pylist()


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_another_number_of_rows_is_refused_and_nothing_is_written(tmp_path, rows):
    kept = kept_of(Dataset.from_dict({"id": list(range(rows))}) if rows else ["a"])
    with pytest.raises(ValueError, match="as many rows"):
        write_table(results(2, 1), SCHEMA, tmp_path / "a.csv", kept)
    assert list(tmp_path.iterdir()) == []
