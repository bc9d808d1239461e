"""Columns of a table that are written beside results: read again in the order of its rows, with the types they have.

Nothing is held but some thousand rows at a time. A .csv, a .tsv and lines have text only, and keep it as it is written.
Of JSON, a column of one type keeps it; one of several types, of lists or of objects is held as JSON.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets import Dataset

from ..tokenization import chunks
from .caching import ROWS_AT_ONCE
from .file_rows import lines_of
from .files import stamp_of
from .json_rows import MOST_COLUMNS, RowError, records
from .labels import BYTE_ORDER_MARK, listed
from .readers import explained, header_of, separated_options

Names = Sequence[str] | None
"""Columns that are asked for; None: all of them."""

JSON = {b"holds": b"json"}
"""The metadata of a column of strings each of which is JSON."""

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a character, which JSON can hold and UTF-8 cannot."""

_EXACT = 1 << 53  # whole numbers up to which a float holds each
_LARGEST = 1 << 63


@dataclass(frozen=True)
class Kept:
    """Columns of one source, whose rows are read as often as `tables` is called."""

    source: str
    schema: pa.Schema
    tables: Callable[[], Iterator[pa.Table]]


def kept_of(source: Path | Dataset | Sequence[str], names: Names = None, labelled: bool = False) -> Kept:
    """The columns `names` of a file, a data set, or the lines of standard input; by default all of them.

    Lines have the column `text`, and before it `label` where they are `label<TAB>text`. Raises ValueError for a name
    that is no column, and where a file has so many columns that they must be chosen. Reading raises ValueError where
    the file has changed since.
    """
    if isinstance(source, Dataset):
        return _of_dataset(source, names)
    if not isinstance(source, Path):
        return _of_lines("standard input", lambda: source, names, labelled)
    return _unchanged(source, _READERS[source.suffix.lower()](source, names, labelled))


def require_column(path: Path, name: str | None) -> None:
    """Raise ValueError for a name that is no column of a table, though nothing is read from it.

    JSON is read up to the first object that has it. Lines have no names, and what else a file may lack is told where it
    is read.
    """
    suffix = path.suffix.lower()
    if name is None or suffix not in _READERS.keys() - {".txt"} or not path.stat().st_size:
        return
    with explained(path):
        if suffix not in (".json", ".jsonl") or not any(name in record for _, record in records(path)):
            kept_of(path, [name])


def _unchanged(path: Path, kept: Kept) -> Kept:
    """The same, whose reading ends with an error where the file is no longer the one that it is of."""
    before = stamp_of(path)

    def tables() -> Iterator[pa.Table]:
        if stamp_of(path) != before:
            raise ValueError(f"{path} has changed while its texts were worked on: repeat the command")
        yield from kept.tables()

    return Kept(kept.source, kept.schema, tables)


def _chosen(source: str, there: Sequence[str], names: Names) -> list[str]:
    chosen = list(there) if names is None else list(dict.fromkeys(names))
    for name in chosen:
        if name not in there:
            raise RowError(f"{source} has no column {name!r}; its columns are {listed([*there])}.")
        if list(there).count(name) > 1:
            raise RowError(f"{source} has several columns {name!r}: give each a name of its own, or choose others.")
    return chosen


def _of_dataset(rows: Dataset, names: Names) -> Kept:
    rows = rows.select_columns(_chosen("the data set", rows.column_names, names))
    return Kept("the data set", rows.features.arrow_schema, lambda: rows.with_format("arrow").iter(ROWS_AT_ONCE))


def _of_text_file(path: Path, names: Names, labelled: bool) -> Kept:
    return _of_lines(str(path), lambda: lines_of(path), names, labelled)


def _of_lines(source: str, lines: Callable[[], Iterable[str]], names: Names, labelled: bool) -> Kept:
    there = ["label", "text"] if labelled else ["text"]
    schema = pa.schema([(name, pa.string()) for name in _chosen(source, there, names)])

    def tables() -> Iterator[pa.Table]:
        for some in chunks(lines(), ROWS_AT_ONCE):
            plain = [line.removeprefix(BYTE_ORDER_MARK) for line in some]
            parts = [line.partition("\t") for line in plain] if labelled else [("", "", line) for line in plain]
            columns = {"label": [part[0] for part in parts], "text": [part[2] for part in parts]}
            yield pa.table({name: columns[name] for name in schema.names}, schema)

    return Kept(source, schema, tables)


def _of_separated(path: Path, names: Names, labelled: bool) -> Kept:
    header, options = header_of(path), separated_options(path)
    chosen = _chosen(str(path), header, names)
    places = [header.index(name) for name in chosen]
    schema = pa.schema([(name, pa.string()) for name in chosen])

    def tables() -> Iterator[pa.Table]:
        with pd.read_csv(path, chunksize=ROWS_AT_ONCE, dtype=object, **options) as parts:
            for part in parts:
                columns = [pa.Array.from_pandas(part.iloc[:, place], type=pa.string()) for place in places]
                yield pa.Table.from_arrays(columns, schema=schema)

    return Kept(str(path), schema, tables)


def _of_parquet(path: Path, names: Names, labelled: bool) -> Kept:
    with pq.ParquetFile(path) as file:
        there = file.schema_arrow
    schema = pa.schema([there.field(name) for name in _chosen(str(path), there.names, names)])

    def tables() -> Iterator[pa.Table]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=schema.names):
                yield pa.Table.from_batches([batch]).select(schema.names)

    return Kept(str(path), schema, tables)


def _of_json(path: Path, names: Names, labelled: bool) -> Kept:
    kinds: dict[str, set[str]] = {}
    for _, record in records(path):
        for name, value in record.items() if names is None else ((n, record[n]) for n in names if n in record):
            found = kinds.setdefault(name, set())
            found |= _kind(value)
        if len(kinds) > MOST_COLUMNS:
            raise ValueError(f"{path} has more than {MOST_COLUMNS:,} columns: choose with --keep, or give --no-keep.")
    if names is not None and not kinds.keys() >= set(names):
        kinds = {name: kinds.get(name, set()) for _, record in records(path) for name in record}  # for the message
    schema = pa.schema([_json_field(name, kinds[name]) for name in _chosen(str(path), [*kinds], names)])

    def tables() -> Iterator[pa.Table]:
        for some in chunks((record for _, record in records(path)), ROWS_AT_ONCE):
            columns = [_json_column([record.get(field.name) for record in some], field) for field in schema]
            yield pa.Table.from_arrays(columns, schema=schema)

    return Kept(str(path), schema, tables)


_READERS: dict[str, Callable[[Path, Names, bool], Kept]] = {
    ".txt": _of_text_file,
    ".csv": _of_separated,
    ".tsv": _of_separated,
    ".jsonl": _of_json,
    ".json": _of_json,
    ".parquet": _of_parquet,
}


def _kind(value: Any) -> set[str]:
    """What a value is, in the words of `_json_field`; nothing of null."""
    if value is None:
        return set()
    if isinstance(value, bool):
        return {"bool"}
    if isinstance(value, int) and -_LARGEST <= value < _LARGEST:
        return {"int"} if abs(value) <= _EXACT else {"int", "large"}
    if isinstance(value, float):
        return {"float"}
    return {"string"} if isinstance(value, str) and not _HALF.search(value) else {"json"}


def _json_field(name: str, kinds: set[str]) -> pa.Field:
    if kinds <= {"string"}:
        return pa.field(name, pa.string())
    if kinds == {"bool"}:
        return pa.field(name, pa.bool_())
    if kinds <= {"int", "large"}:
        return pa.field(name, pa.int64())
    return pa.field(name, pa.float64()) if kinds <= {"int", "float"} else pa.field(name, pa.string(), metadata=JSON)


def _json_column(values: list[Any], field: pa.Field) -> pa.Array:
    if field.metadata == JSON:
        values = [None if value is None else json.dumps(value) for value in values]
    return pa.array(values, field.type)
