"""Rows of JSON lines, or of one JSON array, with the columns that are wanted and no others.

`datasets` infers one type for every column of a file, and refuses a file over a column that nobody asked for. Here a
row is read at a time, so that memory does not grow with a .jsonl, and a mistake names its line.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from .file_rows import Countdown, Row, cached_rows
from .labels import BYTE_ORDER_MARK, label_name, listed, quoted, shortened

MOST_COLUMNS = 1000
"""Names of columns that are remembered: a file whose keys are data has millions."""

_KINDS = {bool: "the truth value", int: "the number", float: "the number", list: "the list", dict: "the object"}


class RowError(ValueError):
    """What is wrong with a file's rows, and where: a whole sentence."""


def load_rows(path: Path, text: str, label: str | None, most: int | None) -> Dataset:
    """`text`, `label` if there is one, and `row`, the number of each row's line; kept in the cache of `datasets`.

    With `most` no line is read behind that of so many documents. Raises RowError for what is no text or no label, and
    for a column that no row has; OSError where the cache cannot be written.
    """

    def rows() -> Iterator[Row]:
        return Countdown(most).until_enough(_wanted(path, text, label))

    return cached_rows(path, ["json", text, label, most], label is not None, rows)


def _wanted(path: Path, text: str, label: str | None) -> Iterator[Row]:
    seen: dict[str, None] = {}
    unit = unit_of(path)
    for number, record in records(path, (text, label or text)):
        if len(seen) < MOST_COLUMNS:
            seen.update(dict.fromkeys(record))
        else:
            seen.update(dict.fromkeys({text, label or text} & record.keys()))
        where = f"{path}, {unit} {number}"
        yield _text(record.get(text), text, where), number, "" if label is None else _label(record.get(label), where)
    for kind, name in (("text", text), ("label", label)):
        if name is not None and name not in seen and seen:
            raise RowError(f"{path} has no column {name!r} for --{kind}-column; its columns are {listed([*seen])}.")


def columns_of(path: Path, until: str | None) -> tuple[list[str], list[str]]:
    """The names of the columns and of those that hold text only; the search ends at a column called `until`."""
    text_only: dict[str, bool | None] = {}  # None: nothing but null so far
    for _, record in records(path):
        for name, value in record.items():
            if value is not None and (name in text_only or len(text_only) < MOST_COLUMNS):
                text_only[name] = isinstance(value, str) and text_only.get(name) is not False
            elif len(text_only) < MOST_COLUMNS:
                text_only.setdefault(name, None)
        if until in text_only:
            break
    return list(text_only), [name for name, only in text_only.items() if only]


def unit_of(path: Path) -> str:
    """What the rows of a file are counted by: its lines, or those of the array that it is."""
    return "row" if _is_array(path) else "line"


def records(path: Path, once: Collection[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file and their numbers, from 1; blank lines are counted and left out.

    Raises RowError for what is no JSON, no object, or an object that holds a name of `once` twice.
    """
    with path.open(encoding="utf-8-sig") as file:
        if _is_array(path):
            for number, record in enumerate(_parsed(file.read(), path), start=1):
                yield number, _object(record, f"{path}, row {number}")
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                strict = any(line.count(f'"{name}"') > 1 for name in once)
                record = _parsed(line.removeprefix(BYTE_ORDER_MARK), path, number, strict)
                yield number, _object(record, f"{path}, line {number}")


def _is_array(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    with path.open(encoding="utf-8-sig") as file:
        return next((line.lstrip()[0] for line in file if line.strip()), "") == "["


def _parsed(text: str, source: Path, line: int | None = None, strict: bool = True) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repetition if strict else None)
    except json.JSONDecodeError as error:
        reason, line = error.msg, line or error.lineno
    except RecursionError:
        reason, line = "it is nested too deeply", line or 1
    except ValueError as error:
        reason, line = shortened(str(error)), line or 1
    raise RowError(f"{source}: line {line} is not JSON ({reason}).")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {quoted(max(names, key=names.count))} twice")
    return record


def _object(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise RowError(f'{where} holds {quoted(record)}; each must be an object, such as {{"text": "a text"}}.')
    return record


def _text(value: Any, column: str, where: str) -> str | None:
    if value is None or isinstance(value, str):
        try:
            (value or "").encode()
        except UnicodeEncodeError:
            raise RowError(f"{where}: {quoted(value)} in {column!r} holds half of a character.") from None
        return value
    raise RowError(f"{where}: column {column!r} holds {_KINDS[type(value)]} {quoted(value)}, not text.")


def _label(value: Any, where: str) -> str:
    try:
        name = label_name(value)
        name.encode()
        return name
    except UnicodeEncodeError:
        raise RowError(f"{where} has a label with half of a character: {quoted(value)}.") from None
    except ValueError as error:
        raise RowError(f"{where} has the label {quoted(value)}, but {error}.") from None
