"""Rows -> documents and classes: empty ones left out, long ones cut, both counted; labels checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, Features, Value

from ..tokenization import word_splitter
from .caching import cached_map
from .columns import arrays_of
from .labels import BYTE_ORDER_MARK, label_name, listed, quoted
from .readers import Documents

MAX_CLASSES = 1000
_REVISION = 2  # raise it when `_clean_batch` changes: it is part of the cache's key, the code of a function is not


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

    @property
    def labelled(self) -> bool:
        return "label" in self.rows.column_names


def clean(
    documents: Documents, *, normalisation: str, unknown_mark: str, max_words: int, keep_empty: bool = False
) -> Cleaned:
    """Documents without the empty ones, those longer than `max_words` words cut there.

    With `keep_empty` every row has its text, which may be "". Raises ValueError, naming source and line, for a NUL
    character, a label that is missing or a fraction, a line without the TAB after its label, and, unless
    `keep_empty`, for a source that holds no document.
    """
    feature = documents.rows.features.get("label")
    class_names = list(feature.names) if isinstance(feature, ClassLabel) else None
    columns = {"text": Value("string"), "row": Value("int64"), "words": Value("int64")}
    if documents.labels != "none":
        columns["label"] = Value("string")
    if len(documents.rows) == 0 and keep_empty:  # which would be mapped to nothing, columns included
        nothing = Dataset.from_dict({name: [] for name in columns}, Features(columns))
        return Cleaned(nothing, documents.source, documents.unit, 0, class_names, documents.labels, documents.column)
    rows = cached_map(
        documents.rows,
        _clean_batch,
        remove_columns=documents.rows.column_names,
        features=Features(columns),
        desc=f"Reading {documents.source}",
        fn_kwargs={
            "source": documents.source,
            "unit": documents.unit,
            "labels": documents.labels,
            "class_names": class_names,
            "normalisation": normalisation,
            "unknown_mark": unknown_mark,
            "max_words": max_words,
            "keep_empty": keep_empty,
            "revision": _REVISION,
        },
    )
    if len(rows) == 0 and not keep_empty:
        raise ValueError(f"{documents.source} holds no documents: all of its {documents.unit}s are empty.")
    empty = len(documents.rows) - sum(int((counts > 0).sum()) for counts in arrays_of(rows, "words"))
    return Cleaned(rows, documents.source, documents.unit, empty, class_names, documents.labels, documents.column)


def _clean_batch(
    batch: Mapping[str, Sequence[Any]],
    indices: Sequence[int],
    *,
    source: str,
    unit: str,
    labels: str,
    class_names: list[str] | None,
    normalisation: str,
    unknown_mark: str,
    max_words: int,
    keep_empty: bool,
    revision: int,
) -> dict[str, list[Any]]:
    split = word_splitter(normalisation, unknown_mark)
    kept: dict[str, list[Any]] = {"text": [], "row": [], "words": []} | ({} if labels == "none" else {"label": []})
    numbers = batch.get("row") or [index + 1 for index in indices]
    for position, (number, text) in enumerate(zip(numbers, batch["text"], strict=True)):
        where = f"{source}, {unit} {number}"
        text, label = text or "", batch["label"][position] if labels == "column" else None
        if "\0" in text:
            raise ValueError(f"{where} holds a NUL character; the file must be plain UTF-8 text.")
        if labels == "tab":
            label, text = _split_label(text, where)
        text = text.removeprefix(BYTE_ORDER_MARK)  # of a file that was put behind another
        words = split(text)
        if not words and not keep_empty:
            continue
        kept["text"].append(" ".join(words[:max_words]) if len(words) > max_words else text.strip())
        kept["row"].append(number)
        kept["words"].append(len(words))
        if labels != "none":
            kept["label"].append(_class_name(label, class_names, where) if words else "")
    return kept


def _split_label(line: str, where: str) -> tuple[str, str]:
    label, tab, text = line.partition("\t")
    if not tab and line.strip():
        raise ValueError(f"{where} has no TAB; it must read `label<TAB>text`.")
    return label, text


def _class_name(label: Any, declared: list[str] | None, where: str) -> str:
    if declared is not None and label is not None:  # a number, -1 for none
        if label >= len(declared):
            raise ValueError(f"{where} has the label {label}, but there are {len(declared)} classes, from 0.")
        name = declared[label] if label >= 0 else ""
    else:
        try:
            name = label_name(label)
        except ValueError as error:
            raise ValueError(f"{where} has the label {quoted(label)}, but {error}.") from None
    if not name:
        raise ValueError(f"{where} has no label; every document of a labelled corpus needs one.")
    return name


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
