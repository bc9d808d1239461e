"""One table of files, read alike by all that reads files: training, evaluation of a file, and texts one by one."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from modeling_seqvae.data import readers
from modeling_seqvae.data.corpora import load_corpus, read_labelled, read_texts
from modeling_seqvae.data.corpus_spec import Reading, spec_from_path
from modeling_seqvae.data.file_rows import lines_of

LONGEST = 600
"""Characters of an error, whatever the file holds."""


class File(NamedTuple):
    """A file, and what is right: its texts, with "" for each empty one, and classes; or a part of the error."""

    name: str
    content: str | bytes | Callable[[Path], object]
    texts: list[str] | None = None
    classes: list[str] | None = None  # of the texts that are not empty
    error: str | None = None  # of every reading
    label_error: str | None = None  # where labels are wanted; texts alone are read
    text_column: str | None = None
    label_column: str | None = None


def rows(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def parquet(**columns: Any) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pa.table(columns), path)


def damage(path: Path, place: int) -> None:
    pq.write_table(pa.table({"text": [f"a text {i}" for i in range(100)]}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[place : place + 30] = b"\xff" * 30
    path.write_bytes(content)


def mixed(count: int, odd: Any) -> list[dict[str, Any]]:
    return [{"text": f"a text {i}" if i != count - 2 else odd} for i in range(count)]


ONE, TWO = "good food", "bad room , slow"
BOTH = [ONE, TWO]
FIVE = [ONE, TWO] * 2 + [ONE]
STARS = ["5", "1", "5", "1", "5"]
AB = {"texts": ["a b", "c d"], "classes": ["1", "2"], "label_column": "label"}
LINES = "".join(f"{star}\t{text}\n" for star, text in zip(STARS, FIVE, strict=True))

FILES = {
    # lines
    "lines": File("a.txt", f"{ONE}\n{TWO}\n", BOTH),
    "no line end at the end": File("a.txt", f"{ONE}\n{TWO}", BOTH),
    "Windows line ends": File("a.txt", f"{ONE}\r\n{TWO}\r\n", BOTH),
    "old Mac line ends": File("a.txt", f"{ONE}\r{TWO}\r", BOTH),
    "byte-order mark": File("a.txt", f"\ufeff{ONE}\n{TWO}\n", BOTH),
    "byte-order mark of a file behind another": File("a.txt", f"\ufeff{ONE}\n\ufeff{TWO}\n", BOTH),
    "empty lines": File("a.txt", f"\n{ONE}\n \t\n{TWO}\n\n", ["", ONE, "", TWO, ""]),
    "separators that end no line": File(
        "a.txt", "a\u2028b\nc\x0bd\x0ce\x85f\x1cg\n", ["a\u2028b", "c\x0bd\x0ce\x85f\x1cg"]
    ),
    "a TAB in a text": File("a.txt", f"good\tfood\n{TWO}\n", ["good\tfood", TWO]),
    "a line of a million characters": File("a.txt", f"{'x' * 1_000_000}\n{TWO}\n", ["x" * 1_000_000, TWO]),
    "a text that is cut": File("a.txt", f"{'word ' * 1_000}\n{TWO}\n", [" ".join(["word"] * 200), TWO]),
    "quotes in lines": File("a.txt", '"good" food\nbad "room\n', ['"good" food', 'bad "room']),
    "a suffix in capitals": File("a.TXT", f"{ONE}\n{TWO}\n", BOTH),
    "only empty lines": File("a.txt", "\n \n\u00a0\n", ["", "", ""], error=None, label_error="holds no documents"),
    "NUL": File("a.txt", f"{ONE}\nb\0\n", error="line 2 holds a NUL"),
    "Latin-1": File("a.txt", ONE.encode() + b"\ncaf\xe9\n", error="line 2 is not UTF-8 (byte 0xe9)"),
    "UTF-16": File("a.txt", f"{ONE}\n{TWO}\n".encode("utf-16"), error="line 1 is not UTF-8"),
    "UTF-16 without its mark": File("a.txt", f"{ONE}\n{TWO}\n".encode("utf-16-le"), error="line 1 holds a NUL"),
    "nothing": File("a.txt", "", error="is empty"),
    "a column of lines": File("a.txt", f"{ONE}\n", error="has lines and no columns", text_column="text"),
    "compressed": File("a.txt.gz", gzip.compress(b"a\nb\n"), error="its suffix is '.gz'"),
    "compressed under another name": File("a.txt", gzip.compress(b"a\nb\n"), error="it is compressed by gzip"),
    "Parquet under another name": File(
        "a.csv",
        lambda path: pd.DataFrame({"text": [ONE] * 300}).to_parquet(path),
        error="it is Parquet: name it .parquet",
    ),
    "folder": File("a.txt", lambda path: path.mkdir(), error="training file"),
    "pipe": File("a.txt", os.mkfifo, error="can be read only once"),
    "not there": File("a.txt", lambda path: None, error="no file"),
    # label<TAB>text
    "labelled lines": File("a.txt", LINES, FIVE, STARS, label_column="label"),
    "labelled lines of which nothing says so": File("a.txt", LINES, error="look like `label<TAB>text`, such as '5"),
    "numbers in front of lines": File("a.txt", "".join(f"id-{i}\ta b\n" for i in range(30)), error="--label-column"),
    "labels of several words": File("a.txt", "very good\ta b\nvery bad\tc d\n", error="--label-column"),
    "labels before most lines": File("a.txt", "1\ta b\n2\tc d\n1\te f\nc d e\n", error="--label-column"),
    "labels behind the texts": File(
        "a.txt", "a b c d e f\t1\ng h i j\t2\nk\t1\n", error="look like `text<TAB>label`, such as 'a b c"
    ),
    "labels behind the texts, with the option for those before": File(
        "a.txt", "a b c d e f\t1\ng h i j\t2\nk\t1\n", error="look like `text<TAB>label`", label_column="label"
    ),
    "labels of fastText": File(
        "a.txt", "__label__1 a b\n__label__2 c d\n", error="look like `__label__NAME text`, such as '__label__1 a b'"
    ),
    "JSON lines in .txt": File("a.txt", rows({"text": "a b"}, {"text": "c d"}), error="look like JSON"),
    "a TAB behind labels": File("a.txt", "1\ta\tb\n2\tc d\n", ["a\tb", "c d"], ["1", "2"], label_column="label"),
    "a byte-order mark before a label": File("a.txt", "\ufeff1\ta b\n2\tc d\n", **AB),
    "labels that are floats": File("a.txt", "1.0\ta b\n2.0\tc d\n", **AB),
    "empty lines between labels": File(
        "a.txt", "1\ta b\n\n2\t\n2\tc d\n", ["a b", "", "", "c d"], ["1", "2"], label_column="label"
    ),
    "a line without a TAB": File("a.txt", "1\ta\n0 b\n", error="line 2 has no TAB", label_column="label"),
    "a line without a label": File("a.txt", "1\ta\n\tb\n", error="line 2 has no label", label_column="label"),
    "a fraction before a line": File("a.txt", "1\ta\n1.5\tb\n", error="line 2 has the label '1.5'", label_column="l"),
    # .csv and .tsv
    "table": File("a.csv", "text,label\na b,1\nc d,2\n", **AB),
    "table with TABs": File("a.tsv", "text\tlabel\na b\t1\nc d\t2\n", **AB),
    "table with Windows line ends": File("a.csv", "text,label\r\na b,1\r\nc d,2\r\n", **AB),
    "table with old Mac line ends": File("a.csv", "text,label\ra b,1\rc d,2\r", **AB),
    "table with a byte-order mark": File("a.csv", "\ufefftext,label\na b,1\nc d,2\n", **AB),
    "labels 5.0 in .csv": File("a.csv", "text,label\na b,1.0\nc d,2.0\n", **AB),
    "labels with a space before": File("a.csv", "text,label\na b, 1\nc d, 2\n", **AB),
    "columns in another order": File("a.csv", "label,x,text\n1,0.5,a b\n2,,c d\n", **AB),
    "columns with spaces": File(
        "a.csv", "the text,the label\na b,1\nc d,2\n", **{**AB, "label_column": "the label"}, text_column="the text"
    ),
    "quotes around a comma": File(
        "a.csv", 'text,label\n"a, b",1\n"c ""d""",2\n', ["a, b", 'c "d"'], ["1", "2"], label_column="label"
    ),
    "line end in quotes": File(
        "a.csv", 'text,label\n"a\nb",1\nc d,2\n', ["a\nb", "c d"], ["1", "2"], label_column="label"
    ),
    "quotes in .tsv": File(
        "a.tsv", 'text\tlabel\n"a b\t1\nc "d"\t2\n', ['"a b', 'c "d"'], ["1", "2"], label_column="label"
    ),
    "words that pandas takes for missing": File(
        "a.csv", "text,label\nNA,1\nnull,2\nnan,1\n", ["NA", "null", "nan"], ["1", "2", "1"], label_column="label"
    ),
    "numbers as text": File("a.csv", "text,label\n1,1\n2.50,2\n", ["1", "2.50"], ["1", "2"], label_column="label"),
    "truth values": File(
        "a.csv", "text,label\na b,true\nc d,FALSE\n", ["a b", "c d"], ["True", "False"], label_column="label"
    ),
    "a column that nobody named": File("a.csv", "review\na b\nc d\n", ["a b", "c d"]),
    "an empty text": File(
        "a.csv", "text,label\n,1\na b,1\nc d,2\n", ["", "a b", "c d"], ["1", "2"], label_column="label"
    ),
    "signs before numbers": File(
        "a.csv", "text,label\na b,+1\nc d,-1\n", ["a b", "c d"], ["1", "-1"], label_column="label"
    ),
    "zeros before numbers": File(
        "a.csv", "text,label\na b,01\nc d,1\n", ["a b", "c d"], ["01", "1"], label_column="label"
    ),
    "quotes in the header": File("a.csv", '\ufeff"text","label"\n"a b","1"\n"c d","2"\n', **AB),
    "a cell of a million characters": File(
        "a.csv", f"text,label\n{'x' * 1_000_000},1\nc d,2\n", ["x" * 1_000_000, "c d"], ["1", "2"], label_column="label"
    ),
    "old Mac line ends in quotes": File(
        "a.csv", 'text,label\n"a\rb",1\nc d,2\n', ["a\rb", "c d"], ["1", "2"], label_column="label"
    ),
    "blank lines in .csv": File(
        "a.csv", "text,label\na b,1\n\nc d,2\n", ["a b", "", "c d"], ["1", "2"], label_column="label"
    ),
    "a comma behind every row": File("a.csv", "text,label\na b,1,\nc d,2,\n", **AB),
    "NUL in .csv": File("a.csv", "text,label\na b,1\nc\0d,2\n", error="NUL", label_column="label"),
    "unbalanced quotes": File("a.csv", 'text,label\na b,1\n"c d,2\n', error="row 2 is never", label_column="label"),
    "header only": File("a.csv", "text,label\n", error="holds no documents", label_column="label"),
    "one column twice": File("a.csv", "text,text,label\na,b,1\n", error="several columns 'text'"),
    "a column without a name": File("a.csv", ",review,stars\n0,a b,1\n", error="its columns are '', review, stars"),
    "texts without a name": File(
        "a.csv", ",label\na b,1\nc d,2\n", error="must be the text has no name", label_column="label"
    ),
    "a space before a name": File("a.csv", "text, label\na,1\n", error="text, ' label'", label_column="label"),
    "semicolons": File("a.csv", "text;label\na b;1\nc d;2\n", error="one column, but holds ';'"),
    "commas in .tsv": File("a.tsv", "text,label\na b,1\nc d,2\n", error="one column, but holds ','"),
    "one field too many": File("a.csv", "text,label\na b,1\nc, d,2\n", error="line 3", label_column="label"),
    "a row that is cut off": File(
        "a.csv", "text,label\na b,1\nc d\n", ["a b", "c d"], label_error="row 2 has no label", label_column="label"
    ),
    "a label that is missing": File(
        "a.csv", "text,label\na b,1\nc d,\n", ["a b", "c d"], label_error="row 2 has no label", label_column="label"
    ),
    "a fraction in .csv": File(
        "a.csv",
        "text,label\na b,1\nc d,1.5\n",
        ["a b", "c d"],
        label_error="row 2 has the label '1.5'",
        label_column="label",
    ),
    "numbers and names": File(
        "a.csv",
        "text,label\na b,1\nc d,x\n",
        ["a b", "c d"],
        label_error="row 2 has the label 'x', but the other",
        label_column="label",
    ),
    "a label of a thousand characters": File(
        "a.csv",
        f"text,label\na b,1\nc d,{'x' * 1000}\n",
        ["a b", "c d"],
        label_error="row 2 has the label 'xxx",
        label_column="label",
    ),
    "classes without end": File(
        "a.csv",
        "text,label\n" + "".join(f"a b,c{i}\n" for i in range(1001)),
        ["a b"] * 1001,
        label_error="1,001 different labels",
        label_column="label",
    ),
    "ten thousand columns": File("a.csv", ",".join(f"column{i}" for i in range(10_000)) + "\n", error="and 9,980 more"),
    "the same column twice over": File(
        "a.csv", "a,b\nx,1\n", error="cannot be both text and label", text_column="a", label_column="a"
    ),
    # JSON
    "JSON lines": File("a.jsonl", rows({"text": "a b", "label": 1}, {"text": "c d", "label": 2}), **AB),
    "JSON array": File(
        "a.json", json.dumps([{"text": "a b", "label": 1}, {"text": "c d", "label": 2}], indent=1), **AB
    ),
    "JSON lines in .json": File("a.json", rows({"text": "a b", "label": 1}, {"text": "c d", "label": 2}), **AB),
    "JSON with a byte-order mark": File(
        "a.jsonl", "\ufeff" + rows({"text": "a b", "label": 1}, {"text": "c d", "label": 2}), **AB
    ),
    "JSON array with a byte-order mark": File(
        "a.json", "\ufeff" + json.dumps([{"text": "a b", "label": 1}, {"text": "c d", "label": 2}]), **AB
    ),
    "the name of a column in a text": File(
        "a.jsonl", rows({"text": 'a "text" b', "x": {"text": "c"}}, {"x": "text", "text": "d"}), ['a "text" b', "d"]
    ),
    "JSON labels of all kinds": File(
        "a.jsonl",
        rows(
            {"text": "a b", "label": "1.0"},
            {"text": "c d", "label": 2.0},
            {"text": "e", "label": 1},
            {"text": "f", "label": " 2"},
        ),
        ["a b", "c d", "e", "f"],
        ["1", "2", "1", "2"],
        label_column="label",
    ),
    "JSON truth values": File(
        "a.jsonl",
        rows({"text": "a b", "label": True}, {"text": "c d", "label": False}),
        ["a b", "c d"],
        ["True", "False"],
        label_column="label",
    ),
    "a column that comes late": File(
        "a.jsonl",
        rows(*({"text": "a b"} for _ in range(40)), {"text": "c d", "late": {"x": 1}}),
        ["a b"] * 40 + ["c d"],
    ),
    "null before text in another column": File(
        "a.jsonl",
        rows({"text": "a b", "x": None}, {"text": "c d", "x": "y"}, {"text": "e", "x": 1}),
        ["a b", "c d", "e"],
    ),
    "objects of varying keys": File(
        "a.jsonl",
        rows({"text": "a b", "x": {"y": 1}}, {"text": "c d", "x": {"z": [1]}}, {"text": "e", "x": [1]}),
        ["a b", "c d", "e"],
    ),
    "null before text": File(
        "a.jsonl", rows({"text": None}, {"text": "a b"}, {}, {"text": "c d"}), ["", "a b", "", "c d"]
    ),
    "the only column of text": File("a.jsonl", rows({"n": 1, "review": None}, {"n": 2, "review": "a b"}), ["", "a b"]),
    "blank lines in JSON lines": File(
        "a.jsonl", '{"text": "a b", "label": 1}\n\n{"text": "c d", "label": 2}\n\n', **AB
    ),
    "escapes": File(
        "a.jsonl", '{"text": "a\\u2028b\\n\\u00e9"}\n{"text": "c\u2028d"}\n', ["a\u2028b\n\u00e9", "c\u2028d"]
    ),
    "NUL in JSON": File("a.jsonl", '{"text": "a"}\n\n{"text": "b\\u0000"}\n', error="line 3 holds a NUL"),
    "half a character": File("a.jsonl", '{"text": "a"}\n{"text": "b\\ud800"}\n', error="line 2"),
    "a number among texts": File(
        "a.jsonl", rows(*mixed(3000, 3.25)), error="line 2999: column 'text' holds the number 3.25, not text"
    ),
    "a list as text": File(
        "a.jsonl", rows(*mixed(30, ["x"] * 10_000)), error="line 29: column 'text' holds the list ['x'"
    ),
    "a truth value as text": File(
        "a.json", json.dumps(mixed(30, True)), error="row 29: column 'text' holds the truth value True"
    ),
    "columns as lists": File(
        "a.json", json.dumps({"text": ["a b", "c d"]}), error="line 1: column 'text' holds the list"
    ),
    "numbers where text is wanted": File(
        "a.jsonl", rows({"n": 1}, {"n": 2}), error="line 1: column 'n' holds the number 1", text_column="n"
    ),
    "a list on a line": File("a.jsonl", '[{"text": "a"}]\n', error="each must be an object"),
    "no JSON": File("a.jsonl", '{"text": "a"}\n{oops}\n', error="line 2 is not JSON"),
    "a JSON array that ends early": File("a.json", '[{"text": "a"},\n{"text": "b"}', error="line 2 is not JSON"),
    "Latin-1 in JSON": File("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', error="line 2 is not UTF-8"),
    "JSON of a thousand levels": File(
        "a.jsonl", '{"text": "a"}\n' + '{"a":' * 100_000 + "\n", error="line 2 is not JSON"
    ),
    "a key twice": File("a.jsonl", '{"text": "a", "text": "b"}\n', error="it has 'text' twice"),
    "no such column": File(
        "a.jsonl",
        rows({"body": "a", "n": 1}),
        error="no column 'text' for --text-column; its columns are body, n",
        text_column="text",
    ),
    "no such label": File(
        "a.jsonl",
        rows({"text": "a", "n": 1}, {"text": "b"}),
        error="no column 'label'",
        label_column="label",
    ),
    "a fraction in JSON": File(
        "a.jsonl",
        rows({"text": "a b", "label": 5.0}, {"text": "c d", "label": 1.5}),
        ["a b", "c d"],
        label_error="line 2 has the label 1.5",
        label_column="label",
    ),
    "NaN in JSON": File(
        "a.jsonl",
        '{"text": "a", "label": 1}\n{"text": "b", "label": NaN}\n',
        ["a", "b"],
        label_error="line 2 has no label",
        label_column="label",
    ),
    "infinity in JSON": File(
        "a.jsonl",
        '{"text": "a", "label": 1}\n{"text": "b", "label": 1e999}\n',
        ["a", "b"],
        label_error="line 2 has the label inf",
        label_column="label",
    ),
    "a list as a label": File(
        "a.jsonl",
        rows({"text": "a", "label": [1]}, {"text": "b", "label": [2]}),
        ["a", "b"],
        label_error="line 1 has the label [1]",
        label_column="label",
    ),
    "an empty array": File("a.json", "[]", error="holds no documents"),
    # Parquet
    "Parquet": File("a.parquet", parquet(text=["a b", "c d"], label=[1, 2]), **AB),
    "labels 5.0 in Parquet": File("a.parquet", parquet(text=["a b", "c d"], label=[1.0, 2.0]), **AB),
    "labels of half precision": File(
        "a.parquet", parquet(text=["a b", "c d"], label=pa.array([1, 2], pa.float32())), **AB
    ),
    "names in Parquet": File("a.parquet", parquet(text=["a b", "c d"], label=["1.0", "2"]), **AB),
    "categories of pandas": File(
        "a.parquet",
        lambda path: pd.DataFrame({"text": ["a b", "c d"], "label": pd.Categorical(["1", "2"])}).to_parquet(path),
        **AB,
    ),
    "texts as categories": File(
        "a.parquet",
        lambda path: pd.DataFrame({"text": pd.Categorical(["a b", "c d"]), "label": [1, 2]}).to_parquet(path),
        **AB,
    ),
    "text views": File("a.parquet", parquet(text=pa.array(["a b", "c d"], pa.string_view()), label=[1, 2]), **AB),
    "truth values in Parquet": File(
        "a.parquet",
        parquet(text=["a b", "c d"], label=[True, False]),
        ["a b", "c d"],
        ["True", "False"],
        label_column="label",
    ),
    "declared classes": File(
        "a.parquet",
        lambda path: Dataset.from_dict(
            {"text": ["a b", "c d"], "label": [1, 0]},
            Features({"text": Value("string"), "label": ClassLabel(names=["low", "high"])}),
        ).to_parquet(path),
        ["a b", "c d"],
        ["high", "low"],
        label_column="label",
    ),
    "null text in Parquet": File(
        "a.parquet",
        parquet(text=["a b", None, "c d"], label=[1, 2, 2]),
        ["a b", "", "c d"],
        ["1", "2"],
        label_column="label",
    ),
    "columns that nobody asked for": File(
        "a.parquet", parquet(text=["a b", "c d"], label=[1, 2], x=[[1], []], y=[{"z": 1}, {"z": None}]), **AB
    ),
    "columns of types that datasets does not know": File(
        "a.parquet",
        parquet(
            text=["a b", "c d"],
            label=[1, 2],
            x=pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
            y=pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 2, pa.binary(16))),
        ),
        **AB,
    ),
    "a map as text": File(
        "a.parquet",
        parquet(text=pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))),
        error="cannot be read: Arrow type map",
        text_column="text",
    ),
    "NaN in Parquet": File(
        "a.parquet",
        parquet(text=["a b", "c d"], label=[1.0, float("nan")]),
        ["a b", "c d"],
        label_error="row 2 has no label",
        label_column="label",
    ),
    "a fraction in Parquet": File(
        "a.parquet",
        parquet(text=["a b", "c d"], label=[5.0, 1.5]),
        ["a b", "c d"],
        label_error="row 2 has the label 1.5",
        label_column="label",
    ),
    "bytes as text": File("a.parquet", parquet(text=[b"a", b"b"]), error="not text", text_column="text"),
    "times as labels": File(
        "a.parquet",
        parquet(text=["a", "b"], label=pa.array([1, 2], pa.timestamp("s"))),
        ["a", "b"],
        label_error="labels are whole numbers or names",
        label_column="label",
    ),
    "large whole numbers": File(
        "a.parquet",
        parquet(text=["a b", "c d"], label=[2**62, -(2**62)]),
        ["a b", "c d"],
        [str(2**62), str(-(2**62))],
        label_column="label",
    ),
    "bytes that are no UTF-8 in Parquet": File(
        "a.parquet", parquet(text=pa.array([b"a", b"\xff"]).view(pa.string())), error="cannot be read"
    ),
    "lists as text": File("a.parquet", parquet(text=[["a"], ["b"]]), error="not text", text_column="text"),
    "numbers as text in Parquet": File("a.parquet", parquet(text=[1, 2]), error="not text", text_column="text"),
    "nothing but null": File("a.parquet", parquet(text=[None, None]), error="not text", text_column="text"),
    "NUL in Parquet": File("a.parquet", parquet(text=["a", "b\0"]), error="row 2 holds a NUL"),
    "a column twice in Parquet": File(
        "a.parquet",
        lambda path: pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), path),
        error="several columns 'text'",
    ),
    "no rows": File("a.parquet", parquet(text=pa.array([], pa.string())), error="holds no documents"),
    "damaged Parquet": File("a.parquet", lambda path: damage(path, 20), error="cannot be read"),
    "damaged Parquet, whose columns are not known": File(
        "a.parquet", lambda path: damage(path, -60), error="cannot be read"
    ),
    "no Parquet": File("a.parquet", b"PAR1", error="cannot be read"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(params=FILES)
def file(request, tmp_path) -> tuple[File, Path]:
    told = FILES[request.param]
    path = tmp_path / told.name
    if callable(told.content):
        told.content(path)
    else:
        path.write_bytes(told.content if isinstance(told.content, bytes) else told.content.encode())
    return told, path


def trained_on(path: Path, text_column: str | None, label_column: str | None):
    """As `train` and `classify` read it: the texts, and the labels if they are wanted."""
    spec = spec_from_path(path, text_column, label_column, validation=path, test=path)
    found = load_corpus(spec).splits["train"]
    names = found.features["label"].names if label_column else None
    return found["text"][:], names and [names[label] for label in found["label"]]


def evaluated_on(path: Path, text_column: str | None, label_column: str | None) -> list[str]:
    corpus = load_corpus(spec_from_path(path, text_column, label_column, evaluated=True))
    assert list(corpus.splits) == ["test"] and corpus.splits["test"].column_names == ["text"]
    return corpus.splits["test"]["text"][:]


def one_by_one(path: Path, text_column: str | None, label_column: str | None) -> list[str]:
    return read_texts(path, Reading(), text_column, label_column)[0]["text"][:]


def labelled(path: Path, text_column: str | None, label_column: str | None):
    """As `edit` reads its examples."""
    found, _ = read_labelled(path, Reading(), text_column, label_column or "label")
    return found["text"][:], found["label"][:]


def test_every_reading_finds_the_same(file):
    told, path = file
    if told.texts is None:
        return
    columns = (told.text_column, told.label_column)
    assert one_by_one(path, *columns) == told.texts
    filled = [text for text in told.texts if text]
    if filled:
        assert evaluated_on(path, *columns) == filled
    if told.label_error is None:
        assert trained_on(path, *columns) == (filled, told.classes)
    if told.label_error is None and told.classes:
        assert labelled(path, *columns) == (filled, told.classes)


def test_every_reading_refuses_the_same_in_a_sentence(file):
    told, path = file
    columns = (told.text_column, told.label_column)
    wanting_labels = [trained_on, *([labelled] if told.label_column else [])]
    readings = [evaluated_on, one_by_one, *wanting_labels] if told.error else wanting_labels
    for read in readings if told.error or told.label_error else ():
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            read(path, *columns)
        message = str(caught.value).replace("there is no file", "training file") if path.is_dir() else str(caught.value)
        assert (told.error or told.label_error) in message
        assert message.count(str(path)) == 1 and len(message) < LONGEST + len(str(path)), message


# Limits


def limited(path: Path, text_column: str | None, label_column: str | None, most: int):
    """The first documents of the training and of the test set, and the report."""
    spec = spec_from_path(path, text_column, label_column, validation=path, test=path)
    corpus = load_corpus(spec, limits={"train": most, "validation": 1, "test": most})
    return corpus.splits["train"], corpus.splits["test"], corpus.report


def test_a_limit_gives_the_first_documents_of_what_is_read_without(file):
    told, path = file
    filled = [text for text in told.texts or () if text]
    if not filled or told.label_error:
        return
    for most in {1, len(filled) - 1 or 1, len(filled) + 1}:
        train, test, report = limited(path, told.text_column, told.label_column, most)
        assert train["text"][:] == test["text"][:] == filled[:most]
        assert report.splits["test"].documents == min(most, len(filled))
        if told.label_column:
            names = train.features["label"].names
            assert [names[label] for label in test["label"]] == told.classes[:most]
            assert set(names) == set(told.classes)  # those of all training documents
        stopped = [report.splits[name].available is None for name in ("train", "test")]
        assert stopped == [most <= len(filled) and not told.label_column, most <= len(filled)]


BEHIND = {
    "a.txt": ["one\n", "\n", "two\n", "\ufeff\n", "three\n", b"\xff\n"],
    "b.txt": ["one\n", "\u2003\n", "two\n", "\n", "three\n", "\0\n"],
    "a.csv": ["text\none\n", '""\n', "two\n", "\n", "three\n", "four,five,six\n"],
    "a.tsv": ["text\none\n", " \n", "two\n", "\n", "three\n", "four\tfive\tsix\n"],
    "a.jsonl": [*(json.dumps({"text": text}) + "\n" for text in ("one", "", "two", " ", "three")), "{oops\n"],
}


@pytest.mark.parametrize("name", BEHIND)
def test_what_is_wrong_behind_the_limit_does_not_matter(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"".join(part if isinstance(part, bytes) else part.encode() for part in BEHIND[name]))
    train, test, report = limited(path, None, None, 3)
    assert train["text"][:] == test["text"][:] == ["one", "two", "three"]
    assert (report.splits["train"].available, report.splits["train"].empty) == (None, 2)
    assert "the first, where reading stopped; 2 empty left out" in str(report)
    with pytest.raises(ValueError, match=path.name):
        limited(path, None, None, 4)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_limited_reading_refuses_fields_that_would_be_dropped(tmp_path, name):
    path = tmp_path / name
    path.write_text("text,label\na,1,x\nb,2,y\n".replace(",", "," if name == "a.csv" else "\t"))
    with pytest.raises(ValueError, match=f"{name} cannot be read: its rows have more fields than its header"):
        limited(path, None, None, 2)


def test_a_limited_reading_names_a_damaged_file(tmp_path):
    damage(tmp_path / "a.parquet", 20)
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read: "):
        limited(tmp_path / "a.parquet", None, None, 2)


def test_no_line_is_read_behind_the_limit_but_for_a_look_at_what_lines_are(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("a b\n\n" * 20_000)
    read = []

    def noting(path, strict=True):
        for line in lines_of(path, strict):
            read.append(strict)
            yield line

    monkeypatch.setattr(readers, "lines_of", noting)
    limited(path, None, None, 10)
    assert read.count(True) == 19 + 1  # training and test set are one file, which is read once for both
    assert read.count(False) <= 3 * 2 * 1000


@pytest.mark.parametrize("label_column", [None, "label"])
def test_a_limit_takes_from_what_is_left_where_other_sets_are_drawn_from_all_documents(tmp_path, label_column):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{i // 50}\tdocument {i}\n" if label_column else f"document {i}\n" for i in range(100)))
    spec = spec_from_path(path, label_column=label_column)
    everything, some = load_corpus(spec), load_corpus(spec, limits={"train": 7, "test": 2})
    for split, most in {"train": 7, "validation": 99, "test": 2}.items():
        assert some.splits[split][:] == everything.splits[split][:most]
        assert some.splits[split].features == everything.splits[split].features
    assert some.report.splits["train"].available == 90


def test_a_limit_ends_the_reading_of_labelled_lines_whose_classes_are_declared(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("1\ta\n0\tb\n\n2\tc\n")
    spec = spec_from_path(path, label_column="label", validation=path, test=path)
    spec = spec.model_copy(update={"labels": ("0", "1")})
    corpus = load_corpus(spec, limits={"train": 2, "validation": 1, "test": 2})
    assert corpus.splits["train"]["label"][:] == [1, 0]
    with pytest.raises(ValueError, match="line 4 has the label '2'"):
        load_corpus(spec, limits={"train": 3, "validation": 1, "test": 2})
