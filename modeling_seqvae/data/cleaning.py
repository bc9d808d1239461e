"""Rows -> documents and classes: empty ones left out, long ones cut, both counted; labels checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, Features, Value

from ..tokenization import word_splitter
from .caching import cached_map
from .readers import Documents

MAX_CLASSES = 1000
_REVISION = 1  # raise it when `_clean_batch` changes: it is part of the cache's key, the code of a function is not


@dataclass(frozen=True)
class Cleaned:
    """Documents of one split: `text`, `label` (a name) if labelled, `row` in the source, `words` before cutting."""

    rows: Dataset
    source: str
    unit: str
    empty: int  # left out, of the whole source
    class_names: list[str] | None  # where the source declares its classes

    @property
    def labelled(self) -> bool:
        return "label" in self.rows.column_names


def clean(documents: Documents, *, normalisation: str, unknown_mark: str, max_words: int) -> Cleaned:
    """Documents without the empty ones, those longer than `max_words` words cut there.

    Raises ValueError, naming source and line, for a NUL character, a missing label or a line without the TAB after its
    label, and for a source that holds no document.
    """
    feature = documents.rows.features.get("label")
    class_names = list(feature.names) if isinstance(feature, ClassLabel) else None
    columns = {"text": Value("string"), "row": Value("int64"), "words": Value("int64")}
    if documents.labels != "none":
        columns["label"] = Value("string")
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
            "revision": _REVISION,
        },
    )
    if len(rows) == 0:
        raise ValueError(f"{documents.source} holds no documents: all of its {documents.unit}s are empty.")
    empty = len(documents.rows) - len(rows)
    return Cleaned(rows, documents.source, documents.unit, empty, class_names)


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
    revision: int,
) -> dict[str, list[Any]]:
    split = word_splitter(normalisation, unknown_mark)
    kept: dict[str, list[Any]] = {"text": [], "row": [], "words": []} | ({} if labels == "none" else {"label": []})
    for position, (index, text) in enumerate(zip(indices, batch["text"], strict=True)):
        where = f"{source}, {unit} {index + 1}"
        text, label = text or "", batch["label"][position] if labels == "column" else None
        if "\0" in text:
            raise ValueError(f"{where} holds a NUL character; the file must be plain UTF-8 text.")
        if labels == "tab":
            label, text = _split_label(text, where)
        words = split(text)
        if not words:
            continue
        kept["text"].append(" ".join(words[:max_words]) if len(words) > max_words else text.strip())
        kept["row"].append(index + 1)
        kept["words"].append(len(words))
        if labels != "none":
            kept["label"].append(_class_name(label, class_names, where))
    return kept


def _split_label(line: str, where: str) -> tuple[str, str]:
    label, tab, text = line.partition("\t")
    if not tab and line.strip():
        raise ValueError(f"{where} has no TAB; it must read `label<TAB>text`.")
    return label, text


def _class_name(label: Any, declared: list[str] | None, where: str) -> str:
    missing = label is None or (label < 0 if declared else not str(label).strip())
    if missing:
        raise ValueError(f"{where} has no label; every document of a labelled corpus needs one.")
    return declared[label] if declared else str(label).strip()


def class_names(splits: Mapping[str, Cleaned], expected: Sequence[str] | None = None) -> list[str]:
    """Names of the classes in the order of their ids: `expected`, else as declared, else as found in training.

    Whole numbers are in their own order, names in alphabetical order. Raises ValueError, naming source and line, for a
    label that is not among them, for numbers mixed with names, and for more than 1,000 classes.
    """
    names = list(expected or splits["train"].class_names or _found_in(splits["train"]))
    for split in splits.values():
        _refuse(split, set(split.rows.unique("label")) - set(names), f"labels are {_shortened(names)}")
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
        raise ValueError(f"{split.source}, {split.unit} {row} has the label {label!r}, but {rule}.")


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 20 else f"{', '.join(names[:20])} and {len(names) - 20} more"
