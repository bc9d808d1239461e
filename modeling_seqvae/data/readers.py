"""One corpus file -> rows: text lines, CSV, TSV, JSON lines, JSON and Parquet, memory-mapped and cached by `datasets`.

Nothing is judged here but the file itself; `cleaning.py` looks at its documents and labels. Files are read in pieces (a
Parquet file by row groups); only a .json, being one array, is read whole: .jsonl is for what is larger than memory.
"""

import csv
import glob
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from datasets.exceptions import DatasetGenerationError

from .caching import explaining_the_cache, refuses_to_write

Labelled = bool | Literal["auto"]
_TEXT_TYPES = ("string", "large_string")
_LENIENT = ("json", "parquet")  # builders that let bytes through that are not UTF-8
_CLASS_TYPES = (*_TEXT_TYPES, "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True)
class Documents:
    """Rows as they were read: `text`, and `label` if they come from a table with labels."""

    rows: Dataset
    source: str  # what messages call it
    unit: Literal["line", "row"]  # what messages count, from 1
    labels: Literal["none", "column", "tab"]  # "tab": still in the text, as `label<TAB>text`


@dataclass(frozen=True)
class Wanted:
    """What to read from a file: which column holds the text, which the label, and whether there are labels."""

    text_column: str | None = None  # None: `text`, or the only column that can be meant
    label_column: str | None = None  # None: `label`
    labelled: Labelled = False  # "auto": as the file has it


@explaining_the_cache()
def read_documents(path: Path, wanted: Wanted) -> Documents:
    """Rows of one file, in its order.

    Raises ValueError, naming file and line where there is one, for an unknown suffix, a file without content, bytes
    that are not UTF-8, a malformed table or a missing column; OSError where the cache cannot be written.
    """
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: its suffix is {path.suffix!r}; it must be one of {', '.join(READERS)}.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; it must hold at least one document.")
    return READERS[path.suffix.lower()](path, wanted)


def _read_lines(path: Path, wanted: Wanted) -> Documents:
    # a file's byte-order mark is not part of its first word
    features = Features({"text": Value("string")})
    rows = _load(path, "text", features=features, encoding="utf-8-sig", chunksize=1 << 20)
    labelled = _first_line_has_tab(path) if wanted.labelled == "auto" else wanted.labelled
    return Documents(rows, str(path), "line", "tab" if labelled else "none")


def _read_separated(path: Path, wanted: Wanted) -> Documents:
    # quotes in a .tsv are mostly those of its sentences; in a .csv they hold fields together
    comma = path.suffix.lower() == ".csv"
    separator = "," if comma else "\t"
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE
    with _explained(path), path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file, delimiter=separator, quoting=quoting), [])
    columns = _columns(str(path), header, header, wanted)
    rows = _load(
        path,
        "csv",
        features=Features({name: Value("string") for name in columns.values()}),
        encoding="utf-8-sig",
        keep_default_na=False,  # "NA" and "none" are words
        skip_blank_lines=False,  # they are counted
        index_col=False,  # a row with one field too many is an error, not an index
        sep=separator,
        quoting=quoting,
    )
    return _table(str(path), rows, columns)


def _read_json(path: Path, wanted: Wanted) -> Documents:
    return from_dataset(str(path), _load(path, "json"), wanted)


def _read_parquet(path: Path, wanted: Wanted) -> Documents:
    with _explained(path):
        features = Features.from_arrow_schema(pq.read_schema(path))
    columns = _columns(str(path), list(features), _text_columns(features), wanted)
    return _table(str(path), _load(path, "parquet", columns=list(columns.values())), columns)


def from_dataset(source: str, rows: Dataset, wanted: Wanted) -> Documents:
    """Documents of a dataset that is already there. Raises ValueError for a column that is missing or of no use."""
    return _table(source, rows, _columns(source, rows.column_names, _text_columns(rows.features), wanted))


READERS: dict[str, Callable[[Path, Wanted], Documents]] = {
    ".txt": _read_lines,
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".jsonl": _read_json,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def _columns(source: str, names: list[str], text_columns: list[str], wanted: Wanted) -> dict[str, str]:
    """Names in the file of our `text` and, if there are labels, `label`."""
    there = f"its columns are {', '.join(names)}"
    text, label = wanted.text_column, wanted.label_column or "label"
    if text is None:
        candidates = ["text"] if "text" in names else [name for name in text_columns if name != wanted.label_column]
        if len(candidates) != 1:
            raise ValueError(f"{source}: which column holds the text? Give --text-column; {there}.")
        text = candidates[0]
    labelled = label in names if wanted.labelled == "auto" else wanted.labelled
    columns = {"text": text} | ({"label": label} if labelled else {})
    for kind, name in columns.items():
        if name not in names:
            raise ValueError(f"{source} has no column {name!r} for --{kind}-column; {there}.")
    if columns["text"] == columns.get("label"):
        raise ValueError(f"{source}: column {text!r} cannot be both text and label; {there}.")
    return columns


def _table(source: str, rows: Dataset, columns: dict[str, str]) -> Documents:
    if _dtype(rows.features[columns["text"]]) not in _TEXT_TYPES:
        raise ValueError(f"{source}: column {columns['text']!r} holds {rows.features[columns['text']]}, not text.")
    label = rows.features[columns["label"]] if "label" in columns else None
    if label is not None and not isinstance(label, ClassLabel) and _dtype(label) not in _CLASS_TYPES:
        raise ValueError(f"{source}: column {columns['label']!r} holds {label}; labels are whole numbers or names.")
    rows = rows.select_columns(list(columns.values())).rename_columns({name: kind for kind, name in columns.items()})
    return Documents(rows, source, "row", "none" if label is None else "column")


def _text_columns(features: Features) -> list[str]:
    return [name for name, feature in features.items() if _dtype(feature) in _TEXT_TYPES]


def _dtype(feature: Any) -> str | None:
    return getattr(feature, "dtype", None)


def _load(path: Path, builder: str, **options: Any) -> Dataset:
    """The file through one of the builders of `datasets`; glob characters in its name are no pattern.

    The cache knows a file by its path and time; its size is in the `description`, for a file put in place of another
    with the time it had where it came from.
    """
    with _explained(path), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Length of header")  # pandas would drop fields
        files = {"train": glob.escape(str(path))}
        size = f"{path.stat().st_size} bytes"
        rows = load_dataset(builder, data_files=files, split="train", description=size, **options)
        if builder in _LENIENT:
            rows.data.validate(full=True)
        return rows


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what a reader raises about a file's content into a ValueError that names the file and the line."""
    try:
        yield
    except (DatasetGenerationError, csv.Error, ValueError) as error:  # pyarrow's errors are ValueErrors
        cause = error.__cause__ or error
        if refuses_to_write(cause):
            raise cause from None
        raise ValueError(f"{path} cannot be read: {_bad_line(path) or _reason(cause)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, Warning):
        return "its rows have more fields than its header; text that holds the separator must be in quotes."
    if "corresponds to no data" in str(error):
        return "it holds no documents."
    return str(error).strip()


def _bad_line(path: Path) -> str | None:
    """The first line that is not UTF-8 or, in JSON lines, not JSON."""
    if path.suffix.lower() == ".parquet":
        return None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig")
                if path.suffix.lower() == ".jsonl" and text.strip():
                    json.loads(text)
            except UnicodeDecodeError as error:
                return f"line {number} is not UTF-8 (byte {line[error.start]:#04x}); convert the file to UTF-8."
            except json.JSONDecodeError as error:
                return f"line {number} is not JSON ({error.msg})."
    return None


def _first_line_has_tab(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as file:
        return "\t" in next((line for line in file if line.strip()), "")
