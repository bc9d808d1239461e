"""Tables of results as files that other tools read: a part at a time, with columns of the texts' own file beside them.

A .parquet file keeps the types of all columns; in a .csv or .jsonl a date is written as ISO 8601, and lists and objects
of a .csv as JSON. What is missing or not a number is empty in a .csv and null elsewhere.
"""

import csv
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from ..data.files import whole
from ..data.kept import JSON, Kept

Tables = Iterable[pa.Table]


def _write_csv(tables: Tables, schema: pa.Schema, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(schema.names)
        for table in tables:
            frame = pd.DataFrame({place: _csv_column(column) for place, column in enumerate(table.columns)})
            frame.to_csv(file, index=False, header=False, lineterminator="\n", quoting=csv_quoting(frame))


def csv_quoting(frame: pd.DataFrame) -> int:
    """The `quoting` by which readers of a .csv get a table's strings as they are.

    Python's csv does not see that a lone carriage return ends a line for those who read it.
    """
    odd = any("\r" in value for column in frame for value in frame[column] if isinstance(value, str))
    return csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL


def _csv_column(column: pa.ChunkedArray) -> pd.Series:
    if pa.types.is_floating(column.type):
        return column.to_pandas()
    return pd.Series([_csv_cell(value) for value in column.to_pylist()], dtype=object)  # whole numbers stay whole


def _csv_cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=_plain) if isinstance(value, list | dict) else _plain(value)


def _write_jsonl(tables: Tables, schema: pa.Schema, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for table in tables:
            columns = [_json_column(table.column(place), field) for place, field in enumerate(schema)]
            for row in zip(*columns, strict=True):
                file.write(_line(dict(zip(schema.names, row, strict=True))) + "\n")


def _line(record: dict[str, Any]) -> str:
    line = json.dumps(record, ensure_ascii=False, default=_plain)
    try:
        line.encode()
    except UnicodeEncodeError:  # half of a character, which JSON can hold and UTF-8 cannot
        return json.dumps(record, default=_plain)
    return line


def _json_column(column: pa.ChunkedArray, field: pa.Field) -> list[Any]:
    values = column.to_pylist()
    if field.metadata == JSON:
        return [None if value is None else json.loads(value) for value in values]
    if pa.types.is_floating(field.type):
        return [None if value is None or not math.isfinite(value) else value for value in values]
    return values


def _plain(value: Any) -> Any:
    """A value of a type that JSON does not have as one that it has."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _write_parquet(tables: Tables, schema: pa.Schema, path: Path) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table)


WRITERS: dict[str, Callable[[Tables, pa.Schema, Path], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".jsonl": _write_jsonl,
}


def suffix_among(suffixes: Collection[str], path: Path, what: str) -> str:
    """The suffix of a path, in lower case. Raises ValueError, which says of what, for one that is not among those."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{path}: the suffix of {what} must be one of {', '.join(suffixes)}, not {suffix!r}")
    return suffix


def require_room(path: Path, results: Collection[str], kept: Kept | None) -> None:
    """Raise ValueError for a kept column that has the name of a result, or that the file's format cannot hold."""
    if kept is None:
        return
    source, instead = kept.source, "choose the columns to keep with --keep, or give --no-keep"
    for field in kept.schema:
        if field.name in results:
            raise ValueError(
                f"{source} has a column {field.name!r}, which is the name of a result, too: rename it, or {instead}"
            )
        if path.suffix.lower() != ".parquet" and _holds_bytes(field.type):
            raise ValueError(
                f"{source}: column {field.name!r} holds bytes, which a {path.suffix} cannot: write a .parquet, or "
                f"{instead}"
            )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return binary or any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))


def write_table(results: Tables, schema: pa.Schema, path: Path, kept: Kept | None = None) -> None:
    """Write tables of results, which have this schema, behind the kept columns of the same rows.

    The file appears whole or not. Raises ValueError for another suffix than those of WRITERS, what `require_room`
    raises, and where there are not as many kept rows as results.
    """
    write = WRITERS[suffix_among(WRITERS, path, "a table")]
    require_room(path, schema.names, kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        if kept is None:
            write(results, schema, unfinished)
        else:
            both = pa.schema([*kept.schema, *schema])
            write(_beside(kept, results, both), both, unfinished)


def _beside(kept: Kept, results: Tables, schema: pa.Schema) -> Iterator[pa.Table]:
    """The tables of results with the kept columns of their rows."""
    tables, left = kept.tables(), kept.schema.empty_table()
    for part in results:
        while len(left) < len(part):
            more = next(tables, None)
            if more is None:
                raise _differ(kept)
            left = pa.concat_tables([left, more.cast(kept.schema)])
        yield pa.Table.from_arrays([*left.slice(0, len(part)).columns, *part.columns], schema=schema)
        left = left.slice(len(part))
    if len(left) or any(len(more) for more in tables):
        raise _differ(kept)


def _differ(kept: Kept) -> ValueError:
    return ValueError(f"{kept.source} does not have as many rows as there are results: has it changed?")
