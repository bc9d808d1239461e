"""Columns of a dataset larger than memory: texts one after the other, numbers as arrays of a few bytes a row."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset
from numpy.typing import DTypeLike, NDArray

from .caching import made_once


@dataclass(frozen=True)
class Texts:
    """What texts are known by, wherever they lie: how many there are, and the SHA-256 of all in order."""

    documents: int
    sha256: str


def require_texts(rows: Any, *others: str) -> None:
    """Raise TypeError for what is no Dataset, ValueError for one without a column `text` of strings or one of `others`.

    Texts may be missing there: these are texts without words, as in files.
    """
    if not isinstance(rows, Dataset):
        raise TypeError(f"the rows must be a datasets.Dataset with a column text, got {type(rows).__name__}")
    kind = getattr(rows.features.get("text"), "dtype", None)
    if kind is None and not set(others) & set(rows.column_names):
        raise ValueError(
            f"the rows have no column 'text'; the columns are {', '.join(rows.column_names)}: rename_column helps"
        )
    if kind not in (None, *STRINGS):
        raise ValueError(f"the column 'text' must be of strings, and is of {kind}")


STRINGS = ("string", "large_string", "string_view", "null")
"""Types of a column of texts; one whose texts are all missing has none."""


def identity_of(rows: Dataset) -> Texts:
    """What the `text` of every row is known by, or its `input_ids` where there are only these."""
    require_texts(rows, "input_ids")
    return made_once(rows, "identity", lambda: _identity(rows))


def _identity(rows: Dataset) -> Texts:
    column = "text" if "text" in rows.column_names else "input_ids"
    digest = hashlib.sha256(column.encode())
    for lengths, content in _encoded(rows) if column == "text" else tokens_of(rows):
        digest.update(lengths.astype(np.int64).tobytes())
        digest.update(content if isinstance(content, bytes) else content.astype(np.int64).tobytes())
    return Texts(len(rows), digest.hexdigest())


def _encoded(rows: Dataset) -> Iterator[tuple[NDArray, bytes]]:
    """The bytes of some thousand texts at a time, and how many each has."""
    for table in rows.select_columns(["text"]).with_format("arrow").iter(10_000):
        parts = [(text or "").encode() for text in table.column(0).to_pylist()]
        yield np.array([len(part) for part in parts], np.int64), b"".join(parts)


def tokens_of(rows: Dataset) -> Iterator[tuple[NDArray, NDArray]]:
    """The `input_ids` of some thousand sentences at a time, one after the other, and how many each has."""
    for table in rows.select_columns(["input_ids"]).with_format("arrow").iter(10_000):
        sentences = table.column(0).combine_chunks()
        lengths, tokens = sentences.value_lengths(), sentences.flatten()
        yield lengths.to_numpy(zero_copy_only=False), tokens.to_numpy(zero_copy_only=False)


def texts_of(rows: Dataset) -> Iterator[str]:
    """The `text` of every row, in order."""
    for batch in rows.select_columns(["text"]).iter(1000):
        yield from batch["text"]


def some_of(rows: Dataset, at_most: int | None) -> Dataset:
    """The rows, or `at_most` random ones of them, the same every time, in order."""
    if at_most is None or len(rows) <= at_most:
        return rows
    return rows.select(np.sort(np.random.default_rng(0).permutation(len(rows))[:at_most]))


def labels_of(rows: Dataset) -> list[str] | None:
    """The names of the classes of all rows; None where there are no labels."""
    if "label" not in rows.column_names:
        return None
    feature, labels = rows.features["label"], list(rows["label"])
    return [feature.int2str(label) for label in labels] if isinstance(feature, ClassLabel) else list(map(str, labels))


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
