"""One corpus file -> rows: text lines, CSV, TSV, JSON lines, JSON and Parquet, memory-mapped and cached by `datasets`.

Nothing is judged here but the file itself; `cleaning.py` looks at its documents and labels. Files are read in pieces (a
Parquet file by row groups); only a .json that is one array is read whole: .jsonl is for what is larger than memory.
"""

import csv
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets import ClassLabel, Dataset, Features
from datasets.table import table_cast

from .caching import explaining_the_cache, refuses_to_write
from .file_rows import Countdown, Row, cached_rows, cached_tables, lines_of, parquet_tables, separated_rows
from .json_rows import RowError, columns_of, load_rows, unit_of
from .labels import listed, quoted, shortened

Labelled = bool | Literal["auto"]
_TEXT_TYPES = ("string", "large_string", "string_view")
_NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
_CLASS_TYPES = (*_TEXT_TYPES, "bool", *_NUMBERS)
_SAMPLE = 1000  # lines whose form is looked at


@dataclass(frozen=True)
class Documents:
    """Rows as they were read: `text`, and `label` if they come from a table with labels."""

    rows: Dataset
    source: str  # what messages call it
    unit: Literal["line", "row"]  # what messages count, from 1
    labels: Literal["none", "column", "tab"]  # "tab": still in the text, as `label<TAB>text`
    column: str | None = None  # of the text, where nobody named it
    most: int | None = None  # documents after which reading stopped


@dataclass(frozen=True)
class Wanted:
    """What to read from a file: which column holds the text, which the label, and whether there are labels."""

    text_column: str | None = None  # None: `text`, or the only column that can be meant
    label_column: str | None = None  # None: `label`; it is never the text
    labelled: Labelled = False  # "auto": as the file has it
    most: int | None = None  # documents, those with words, after which no row is looked at; None: all of them
    most_labelled: int | None = None  # the same of a file with labels

    def limit(self, labelled: bool) -> int | None:
        """How many documents to read of a file with labels, or without."""
        return self.most_labelled if labelled else self.most


def require_file(path: Path) -> None:
    """Raise FileNotFoundError for what is not there, and ValueError for what is no file that can be read twice."""
    if path.is_dir():
        raise FileNotFoundError(f"there is no file {path}: it is a folder")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a pipe or a device, which can be read only once: write its content to a file")


@explaining_the_cache()
def read_documents(path: Path, wanted: Wanted) -> Documents:
    """Rows of one file, in its order.

    Raises ValueError, naming file and line where there is one, for an unknown suffix, a file without content, bytes
    that are not UTF-8, a malformed table, a missing column, and lines of a .txt that look like `label<TAB>text` where
    nothing says so, each in the part of the file that is wanted; OSError where the cache cannot be written; and what
    `require_file` raises.
    """
    require_file(path)
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: its suffix is {path.suffix!r}; it must be one of {', '.join(READERS)}.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; it must hold at least one document.")
    return READERS[path.suffix.lower()](path, wanted)


def _read_lines(path: Path, wanted: Wanted) -> Documents:
    seen = None if wanted.most is None else max(wanted.most, _SAMPLE)
    with explained(path):  # what is wrong behind the last line that is wanted is not told
        filled = (line for line in lines_of(path, strict=seen is None) if line.strip())
        labelled = have_labels(islice(filled, seen), str(path), wanted.labelled)
    most = wanted.limit(labelled)

    def rows() -> Iterator[Row]:
        lines = ((line, number, None) for number, line in enumerate(lines_of(path), start=1))
        return Countdown(most, labelled).until_enough(lines)

    with explained(path):
        read = cached_rows(path, ["lines", labelled, most], False, rows)
    return Documents(read, str(path), "line", "tab" if labelled else "none", most=most)


def have_labels(lines: Iterable[str], source: str, labelled: Labelled) -> bool:
    """Whether lines are `label<TAB>text`: as `labelled` says, or with "auto" where any of them has a TAB.

    Raises ValueError where most of them look otherwise: a label would be read as a word, or a text as a label.
    """
    filled = (line for line in lines if line.strip())
    sample = list(islice(filled, _SAMPLE))
    if labelled == "auto":
        labelled = any("\t" in line for line in chain(sample, filled))
    forms = Counter(map(_form, sample))
    for form, advice in forms.keys() - ({_TEXT, _LABELLED} if labelled else {_TEXT}):
        if 2 * forms[form, advice] > len(sample):
            example = next(line.rstrip() for line in sample if _form(line) == (form, advice))
            raise RowError(f"{source}: its lines look like {form}, such as {quoted(example)}. {advice}")
    return labelled


_TEXT = ("text", "")
_LABELLED = (
    "`label<TAB>text`",
    "If so, give --label-column label; if all of a line is text, replace the TABs by spaces, which are read the same.",
)
_REVERSED = ("`text<TAB>label`", "If so, put the labels first; if all of a line is text, replace the TABs by spaces.")
_FASTTEXT = ("`__label__NAME text`", "Write them as `NAME<TAB>text`, and give --label-column label.")
_JSON = ("JSON", "Write them to a file whose name ends in .jsonl.")


def _form(line: str) -> tuple[str, str]:
    """What a line looks like, and what to do where that is not what it is read as."""
    if line.startswith("__label__"):
        return _FASTTEXT
    if line.startswith('{"') and line.rstrip().endswith("}"):
        return _JSON
    fields = line.strip().split("\t")
    first, last = (len(field.split()) <= 3 and len(field) <= 50 for field in (fields[0], fields[-1]))
    if len(fields) == 1 or not (first or last):
        return _TEXT
    return _LABELLED if first else _REVERSED


def header_of(path: Path) -> list[str]:
    """The names of the columns of a .csv or .tsv, as they are written there."""
    options = separated_options(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file, delimiter=options["sep"], quoting=options["quoting"]), [])


def separated_options(path: Path) -> dict[str, Any]:
    """How pandas reads a .csv or .tsv."""
    comma = path.suffix.lower() == ".csv"
    return {
        "encoding": "utf-8-sig",
        "keep_default_na": False,  # "NA" and "none" are words
        "skip_blank_lines": False,  # they are counted
        "index_col": False,  # a row with one field too many is an error, not an index
        "sep": "," if comma else "\t",
        # quotes in a .tsv are mostly those of its sentences; in a .csv they hold fields together
        "quoting": csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE,
    }


def _read_separated(path: Path, wanted: Wanted) -> Documents:
    options = separated_options(path)
    with explained(path):
        header = header_of(path)
    columns = _columns(str(path), header, header, wanted)
    others = [sign for sign in (",", ";", "\t", "|") if sign in header[0]]
    if len(header) == 1 and others and wanted.text_column is None:
        raise ValueError(
            f"{path}: its header {quoted(header[0])} is one column, but holds {others[0]!r}: is that what separates "
            f"them? A {path.suffix.lower()} is separated by {options['sep']!r}."
        )
    text, label = columns["text"], columns.get("label")
    if not text:  # pandas calls it otherwise
        raise ValueError(f"{path}: the column that must be the text has no name: write one into the header.")
    most = wanted.limit(label is not None)

    def wanted_rows() -> Iterator[Row]:
        countdown = Countdown(most)
        return countdown.until_enough(separated_rows(path, text, label, countdown, options))

    with explained(path), _no_field_dropped():
        rows = cached_rows(path, [options, text, label, most], label is not None, wanted_rows)
    return _rows_of_a_table(path, rows, columns, wanted, most)


def _read_json(path: Path, wanted: Wanted) -> Documents:
    text, label, auto = wanted.text_column, wanted.label_column or "label", wanted.labelled == "auto"
    with explained(path):
        unit: Literal["line", "row"] = "row" if unit_of(path) == "row" else "line"
        names, text_columns = ([text], [text]) if text and not auto else columns_of(path, None if auto else "text")
        if wanted.labelled is True and label not in names and (text or "text") in names:
            names.append(label)  # the file has not been read to its end: load_rows will tell
    columns = _columns(str(path), names, text_columns, wanted) if names else {"text": "text"}
    most = wanted.limit("label" in columns)
    with explained(path):
        rows = load_rows(path, columns["text"], columns.get("label"), most)
    return replace(_rows_of_a_table(path, rows, columns, wanted, most), unit=unit)


def _rows_of_a_table(path: Path, rows: Dataset, columns: dict[str, str], wanted: Wanted, most: int | None) -> Documents:
    if len(rows) == 0:
        raise ValueError(f"{path} holds no documents.")
    labels: Literal["column", "none"] = "column" if "label" in columns else "none"
    return Documents(rows, str(path), "row", labels, _unnamed(columns, wanted), most)


def _read_parquet(path: Path, wanted: Wanted) -> Documents:
    with explained(path):
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    if metadata.num_rows == 0:
        raise ValueError(f"{path} holds no documents.")
    columns = _columns(str(path), schema.names, [field.name for field in schema if _is_text(field.type)], wanted)
    names = list(columns.values())
    most = wanted.limit("label" in columns)
    with explained(path):  # of these alone: `datasets` does not know every type that another column may have
        features = Features.from_arrow_schema(pa.schema([schema.field(name) for name in names], schema.metadata))
    arrow = features.arrow_schema

    def tables() -> Iterator[pa.Table]:
        for table in parquet_tables(path, names, columns["text"], Countdown(most)):
            yield table_cast(table.select(names), arrow)

    with explained(path):
        rows = cached_tables(path, ["parquet", names, most], arrow, tables)
    return replace(_table(str(path), rows, columns, wanted), most=most)


def from_dataset(source: str, rows: Dataset, wanted: Wanted) -> Documents:
    """Documents of a dataset that is already there. Raises ValueError for a column that is missing or of no use."""
    return _table(source, rows, _columns(source, rows.column_names, _text_columns(rows.features), wanted), wanted)


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
    there = f"its columns are {listed(names)}"
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
        if names.count(name) > 1:
            raise ValueError(f"{source} has several columns {name!r}: give each a name of its own; {there}.")
    if columns["text"] == label and (labelled or wanted.label_column):
        raise ValueError(f"{source}: column {text!r} cannot be both text and label; {there}.")
    return columns


def _table(source: str, rows: Dataset, columns: dict[str, str], wanted: Wanted) -> Documents:
    text, label = rows.features[columns["text"]], rows.features[columns["label"]] if "label" in columns else None
    if _dtype(text) not in _TEXT_TYPES:
        raise ValueError(f"{source}: column {columns['text']!r} holds {shortened(str(text), 100)}, not text.")
    if label is not None and not isinstance(label, ClassLabel) and _dtype(label) not in _CLASS_TYPES:
        raise ValueError(
            f"{source}: column {columns['label']!r} holds {shortened(str(label), 100)}; labels are whole numbers or "
            "names."
        )
    rows = rows.select_columns(list(columns.values())).rename_columns({name: kind for kind, name in columns.items()})
    return Documents(rows, source, "row", "none" if label is None else "column", _unnamed(columns, wanted))


def _unnamed(columns: dict[str, str], wanted: Wanted) -> str | None:
    return None if wanted.text_column or columns["text"] == "text" else columns["text"]


def _text_columns(features: Features) -> list[str]:
    return [name for name, feature in features.items() if _dtype(feature) in _TEXT_TYPES]


def _is_text(kind: pa.DataType) -> bool:
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind) in _TEXT_TYPES


def _dtype(feature: Any) -> str | None:
    return getattr(feature, "dtype", None)


@contextmanager
def _no_field_dropped() -> Iterator[None]:
    """Makes an error of what pandas only warns of: that it drops the last fields of rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Length of header")
        yield


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what a reader raises about a file's content into a ValueError that names the file and the line."""
    try:
        yield
    except (csv.Error, ValueError, Warning, OSError) as error:
        cause = error.__cause__ or error
        if isinstance(error, OSError) and getattr(cause, "errno", None) is not None:
            raise  # the system's, which names its file; pyarrow's, of damaged content, have no number
        if refuses_to_write(cause):
            raise cause from None
        if isinstance(cause, RowError):
            raise ValueError(str(cause)) from error
        raise ValueError(f"{path} cannot be read: {_bad_line(path) or _reason(cause)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, Warning):
        return "its rows have more fields than its header; text that holds the separator must be in quotes."
    opened = re.search(r"EOF inside string starting at row (\d+)", str(error))
    if opened:
        return f"the quote that opens in row {opened[1]} is never closed; a quote within a text is written twice."
    return shortened(str(error).strip())


BINARY = {
    b"\x1f\x8b": "compressed by gzip: decompress it first.",
    b"PK\x03\x04": "a .zip or a spreadsheet: write its texts to a .csv or .parquet file.",
    b"PAR1": "Parquet: name it .parquet.",
}
"""How files begin that are no text, and what to do with them."""


def _bad_line(path: Path) -> str | None:
    """The first line that is not UTF-8."""
    if path.suffix.lower() == ".parquet":
        return None
    with path.open("rb") as file:
        beginning = file.read(4)
        file.seek(0)
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                for mark, what in BINARY.items():
                    if beginning.startswith(mark):
                        return f"it is {what}"
                return f"line {number} is not UTF-8 (byte {line[error.start]:#04x}); convert the file to UTF-8."
    return None
