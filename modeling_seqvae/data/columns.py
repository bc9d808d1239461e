"""Columns of a dataset larger than memory: texts one after the other, numbers as arrays of a few bytes a row."""

from collections.abc import Iterator

import numpy as np
from datasets import Dataset
from numpy.typing import DTypeLike, NDArray


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
