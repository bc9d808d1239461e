"""Columns of a dataset larger than memory: texts one after the other, numbers as arrays of a few bytes a row."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Dataset
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class Texts:
    """What texts are known by, wherever they lie: how many there are, and the SHA-256 of all in order."""

    documents: int
    sha256: str


def identity_of(rows: Dataset) -> Texts:
    """What the `text` of every row is known by, or its `input_ids` where there are only these."""
    column = "text" if "text" in rows.column_names else "input_ids"
    digest = hashlib.sha256(column.encode())
    for table in rows.select_columns([column]).with_format("arrow").iter(10_000):
        values = table.column(0).combine_chunks()
        if column == "text":
            parts = [text.encode() for text in values.fill_null("").to_pylist()]
            lengths, content = np.array([len(part) for part in parts], np.int64), b"".join(parts)
        else:
            lengths = values.value_lengths().to_numpy(zero_copy_only=False)
            content = values.flatten().cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes()
        digest.update(lengths.astype(np.int64).tobytes())
        digest.update(content)
    return Texts(len(rows), digest.hexdigest())


def texts_of(rows: Dataset) -> Iterator[str]:
    """The `text` of every row, in order."""
    for batch in rows.select_columns(["text"]).iter(1000):
        yield from batch["text"]


def arrays_of(rows: Dataset, column: str) -> Iterator[NDArray]:
    """A column of numbers as arrays of some thousand each, in order."""
    for table in rows.select_columns([column]).with_format("arrow").iter(1 << 16):
        yield table.column(0).to_numpy()


def array_of(rows: Dataset, column: str, dtype: DTypeLike = np.int32) -> NDArray:
    """A column of numbers as one array (N,)."""
    array, start = np.empty(len(rows), dtype), 0
    for part in arrays_of(rows, column):
        array[start : start + len(part)] = part
        start += len(part)
    return array
