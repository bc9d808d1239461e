"""Rows of a file, read one after the other as far as they are wanted, and kept in the cache of `datasets`."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets import Dataset
from huggingface_hub.utils import WeakFileLock

from ..tokenization import WHITE_SPACE, chunks
from .caching import ROWS_AT_ONCE, explaining_the_cache
from .files import stamp_of, whole
from .labels import BYTE_ORDER_MARK

Row = tuple[str | None, int, str | None]
"""Text, number of the line or row, and label."""

_REVISION = 2  # raise it when what is made of a row changes: it is part of the cache's key


def cached_rows(path: Path, made_with: list[Any], labelled: bool, rows: Callable[[], Iterator[Row]]) -> Dataset:
    """`text`, `row` and, if there are labels, `label`, of rows that `rows()` reads where the cache has none."""
    names = ["text", "row", *(["label"] if labelled else [])]
    schema = pa.schema([(name, pa.int64() if name == "row" else pa.string()) for name in names])

    def tables() -> Iterator[pa.Table]:
        for chunk in chunks(rows(), ROWS_AT_ONCE):
            yield pa.table(dict(zip(names, map(list, zip(*chunk, strict=True)), strict=False)), schema)

    return cached_tables(path, made_with, schema, tables)


def cached_tables(
    path: Path, made_with: list[Any], schema: pa.Schema, tables: Callable[[], Iterator[pa.Table]]
) -> Dataset:
    """The tables of this file that `tables()` reads, unless the cache has them. Raises OSError where it cannot be."""
    known = [_REVISION, str(path.absolute()), *stamp_of(path), *made_with]
    key = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / f"rows-{key}"
    file = folder / "rows.arrow"
    with explaining_the_cache():
        folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(folder / ".lock"):
            if not file.is_file():
                with (
                    whole(file) as unfinished,
                    pa.OSFile(str(unfinished), "wb") as output,
                    pa.ipc.new_stream(output, schema) as stream,
                ):
                    for table in tables():
                        stream.write_table(table)
        return Dataset.from_file(str(file))


class Countdown:
    """Counts down the documents that are still wanted while rows are read."""

    def __init__(self, most: int | None, tab: bool = False):
        self.left = math.inf if most is None else most
        self.tab = tab  # whether a text begins with a label and a TAB

    def until_enough(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows up to the last document that is wanted; one without words is none."""
        if self.left == math.inf:
            yield from rows
            return
        for row in rows:
            self.left -= self._has_words(row[0] or "")
            yield row
            if not self.left:
                return

    def _has_words(self, text: str) -> bool:
        text = text.partition("\t")[2] if self.tab else text
        return bool(text.removeprefix(BYTE_ORDER_MARK).strip(WHITE_SPACE))


def lines_of(path: Path, strict: bool = True) -> Iterator[str]:
    """The lines of a text file, read as they are asked for. If `strict`, raises ValueError at one that is not UTF-8."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for line in file:
            if strict and not line.isascii():
                line.encode()
            yield line.rstrip("\n")


def separated_rows(
    path: Path, text: str, label: str | None, countdown: Countdown, options: dict[str, Any]
) -> Iterator[Row]:
    """Rows of a .csv or .tsv, never more at once than documents are wanted."""
    number = 0
    with pd.read_csv(path, iterator=True, dtype=object, **options) as table:
        while True:
            try:
                part = table.get_chunk(int(min(countdown.left, ROWS_AT_ONCE)))
            except StopIteration:
                return
            texts = pa.Array.from_pandas(part[text], type=pa.string()).to_pylist()
            labels = pa.Array.from_pandas(part[label], type=pa.string()).to_pylist() if label else [None] * len(part)
            yield from zip(texts, range(number + 1, number + 1 + len(part)), labels, strict=True)
            number += len(part)


def parquet_tables(path: Path, columns: list[str], text: str, countdown: Countdown) -> Iterator[pa.Table]:
    """Tables of a Parquet file up to the last document that is wanted."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
            batch.validate(full=True)  # its bytes may be other than UTF-8
            texts = batch.column(text).to_pylist()
            rows = len(list(countdown.until_enough((content, 0, None) for content in texts)))
            yield pa.Table.from_batches([batch]).slice(0, rows)
            if not countdown.left:
                return
