"""Rows -> documents and classes: empty ones left out, long ones cut, both counted; labels checked."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import ClassLabel, Dataset, Features, List, Value
from numpy.typing import NDArray

from ..tokenization import WHITE_SPACE
from .caching import cached_map
from .columns import arrays_of
from .labels import BYTE_ORDER_MARK, label_name, listed, quoted
from .readers import Documents
from .words import WordReader

MAX_CLASSES = 1000
_REVISION = 4  # raise it when what is made of a row changes: it is part of the cache's key


@dataclass(frozen=True)
class Cleaned:
    """Documents of one split: `text`, `label` (a name) if labelled, `row` in the source, `words` before cutting."""

    rows: Dataset
    source: str
    unit: str
    empty: int  # without words, of the whole source
    class_names: list[str] | None  # where the source declares its classes
    labels: str = "none"  # where they stood, as in Documents
    column: str | None = None  # of the text, where nobody named it
    most: int | None = None  # documents after which reading stopped
    new_words: Dataset | None = None  # of all documents of the source, where `rows` have numbers of words

    @property
    def labelled(self) -> bool:
        return "label" in self.rows.column_names


def clean(
    documents: Documents,
    *,
    normalisation: str,
    unknown_mark: str,
    max_words: int,
    keep_empty: bool = False,
    numbered: bool = False,
) -> Cleaned:
    """Documents without the empty ones, those longer than `max_words` words cut there.

    With `keep_empty` every row has its text, which may be "", and `cut`, whether it was longer. With `numbered` rows
    have `numbers`, those of their words after cutting, for who counts or encodes them next. Raises ValueError, naming
    source and line, for a NUL character, a label that is missing or a fraction, a line without the TAB after its label,
    and, unless `keep_empty`, for a source that holds no document.
    """
    feature = documents.rows.features.get("label")
    class_names = list(feature.names) if isinstance(feature, ClassLabel) else None
    columns = {"text": Value("string"), "row": Value("int64"), "words": Value("int64")}
    if documents.labels != "none":
        columns["label"] = Value("string")
    nothing = Dataset.from_dict({name: [] for name in columns}, Features(columns))
    told = (documents.labels, documents.column, documents.most)
    cleaned = Cleaned(nothing, documents.source, documents.unit, 0, class_names, *told)
    if len(documents.rows) == 0 and keep_empty:  # which would be mapped to nothing, columns included
        return cleaned
    if keep_empty:
        columns["cut"] = Value("bool")
    if numbered:
        columns |= {"numbers": List(Value("int32")), "new_words": List(Value("string"))}
    settings = (normalisation, unknown_mark, max_words, keep_empty)
    key = json.dumps(
        [_REVISION, documents.rows._fingerprint, documents.source, documents.labels, class_names, settings, numbered]
    )
    rows = cached_map(
        documents.rows,
        _Cleaning(documents, class_names, *settings, columns),
        features=Features(columns),
        new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:16],
        desc=f"Reading {documents.source}",
    )
    if len(rows) == 0 and not keep_empty:
        raise ValueError(f"{documents.source} holds no documents: all of its {documents.unit}s are empty.")
    empty = len(documents.rows) - sum(int((counts > 0).sum()) for counts in arrays_of(rows, "words"))
    new_words = rows.select_columns(["new_words"]) if numbered else None
    return replace(
        cleaned, rows=rows.remove_columns(["new_words"]) if numbered else rows, empty=empty, new_words=new_words
    )


class _Cleaning:
    """A function from some rows, as an Arrow table, and their indices to the documents among them."""

    def __init__(
        self,
        documents: Documents,
        class_names: list[str] | None,
        normalisation: str,
        unknown_mark: str,
        max_words: int,
        keep_empty: bool,
        columns: Collection[str],
    ):
        self.source, self.unit, self.labels = documents.source, documents.unit, documents.labels
        self.class_names = class_names
        self.max_words = max_words
        self.keep_empty = keep_empty
        self.columns = columns
        self.reader = WordReader(normalisation, unknown_mark)
        self.told = 0  # of the reader's words, those that a row has as new

    def __call__(self, rows: pa.Table, indices: Sequence[int]) -> pa.Table:
        numbers = rows["row"].to_pylist() if "row" in rows.column_names else [index + 1 for index in indices]
        texts, labels, error = self._plain(rows, numbers)
        texts, counts, lengths, words = self._cut(texts)
        kept = range(len(texts)) if self.keep_empty else np.flatnonzero(counts).tolist()
        columns: dict[str, Any] = {
            "text": pa.array([texts[place] for place in kept], pa.string()),
            "row": pa.array([numbers[place] for place in kept], pa.int64()),
            "words": counts[kept],
            "cut": counts[kept] > self.max_words,
        }
        if labels is not None:  # those of empty rows are not looked at
            columns["label"] = pa.array(
                [self._class_name(labels[place], numbers[place]) if counts[place] else "" for place in kept],
                pa.string(),
            )
        if error:
            raise error
        if "numbers" in self.columns:
            until = np.append(0, lengths[kept].cumsum())
            columns["numbers"] = pa.ListArray.from_arrays(until.astype(np.int32), words)
            columns["new_words"] = self._new_words(len(kept))
        return pa.table({name: columns[name] for name in self.columns})

    def _plain(self, rows: pa.Table, numbers: list[int]) -> tuple[list[str], list[Any] | None, ValueError | None]:
        """The texts, and the labels if there are any, of the rows before the first that is refused; and its error."""
        texts = [text or "" for text in rows["text"].to_pylist()]
        labels = rows["label"].to_pylist() if self.labels == "column" else None
        error = None
        if self.labels == "tab":
            parts = [text.partition("\t") for text in texts]
        for place, text in enumerate(texts):
            if "\0" in text:
                reason = "holds a NUL character; the file must be plain UTF-8 text"
            elif self.labels == "tab" and not parts[place][1] and text.strip():
                reason = "has no TAB; it must read `label<TAB>text`"
            else:
                continue
            error = ValueError(f"{self._where(numbers[place])} {reason}.")
            texts = texts[:place]
            break
        if self.labels == "tab":
            labels, texts = [part[0] for part in parts], [part[2] for part in parts[: len(texts)]]
        return [text.removeprefix(BYTE_ORDER_MARK) for text in texts], labels, error  # of a file put behind another

    def _cut(self, texts: list[str]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """Texts as they are kept, how many words each had, how many it has, and the numbers of these."""
        most = self.max_words
        stripped = [text.strip() for text in texts]
        odd = {}
        for place, (text, kept) in enumerate(zip(texts, stripped, strict=True)):
            if len(text) > len(kept) and len(text.strip(WHITE_SPACE)) > len(kept):  # words that Python takes for space
                words = self.reader.split(text)
                odd[place] = len(words)
                stripped[place] = " ".join(words[:most]) if len(words) > most else kept
        counts, numbers = self.reader.read(stripped)
        starts = counts.cumsum() - counts
        for place in np.flatnonzero(counts > most).tolist():
            first = numbers[starts[place] : starts[place] + most].tolist()
            stripped[place] = " ".join(map(self.reader.words.__getitem__, first))
        if (counts > most).any():
            numbers = numbers[np.arange(len(numbers)) - np.repeat(starts, counts) < most]
        lengths = np.minimum(counts, most)
        for place, count in odd.items():
            counts[place] = count
        return stripped, counts, lengths, numbers

    def _new_words(self, rows: int) -> pa.Array:
        """The words that had no number before these rows, in the first of them."""
        new = self.reader.words[self.told :]
        self.told += len(new)
        until = np.minimum(np.arange(rows + 1), 1) * len(new)
        return pa.ListArray.from_arrays(until.astype(np.int32), pa.array(new, pa.string()))

    def _class_name(self, label: Any, row: int) -> str:
        if self.class_names is not None and label is not None:  # a number, -1 for none
            if label >= len(self.class_names):
                raise ValueError(
                    f"{self._where(row)} has the label {label}, but there are {len(self.class_names)} classes, from 0."
                )
            name = self.class_names[label] if label >= 0 else ""
        else:
            try:
                name = _label_name(label)
            except ValueError as error:
                raise ValueError(f"{self._where(row)} has the label {quoted(label)}, but {error}.") from None
        if not name:
            raise ValueError(
                f"{self._where(row)} has no label; every document of a labelled corpus needs one: leave it out, or "
                "name no column of labels where they are not needed."
            )
        return name

    def _where(self, row: int) -> str:
        return f"{self.source}, {self.unit} {row}"


_label_name = lru_cache(maxsize=4 * MAX_CLASSES, typed=True)(label_name)


def class_names(splits: Mapping[str, Cleaned], expected: Sequence[str] | None = None) -> list[str]:
    """Names of the classes in the order of their ids: `expected`, else as declared, else as found in training.

    Whole numbers are in their own order, names in alphabetical order. Raises ValueError, naming source and line, for a
    label that is not among them, for numbers mixed with names, and for more than 1,000 classes.
    """
    named = [label_name(name) for name in expected or ()]
    names = named or list(splits["train"].class_names or _found_in(splits["train"]))
    for split in splits.values():
        _refuse(split, set(split.rows.unique("label")) - set(names), f"labels are {listed(names)}")
    return names


def _found_in(train: Cleaned) -> list[str]:
    found = train.rows.unique("label")
    if len(found) > MAX_CLASSES:
        raise ValueError(f"{train.source} has {len(found):,} different labels, more than {MAX_CLASSES:,}: not classes.")
    numbers = {name for name in found if re.fullmatch(r"[+-]?\d+", name)}
    if numbers:
        _refuse(train, set(found) - numbers, "the other labels are whole numbers")
    return sorted(found, key=int if numbers else str)


def _refuse(split: Cleaned, odd: set[str], rule: str) -> None:
    if odd:
        row, label = next(pair for pair in zip(split.rows["row"], split.rows["label"], strict=True) if pair[1] in odd)
        raise ValueError(f"{split.source}, {split.unit} {row} has the label {quoted(label)}, but {rule}.")
