"""Rows of JSON lines, or of one JSON array, with the columns that are wanted and no others.

`datasets` infers one type for every column of a file, and refuses a file over a column that nobody asked for. Here a
row is read at a time, so that memory does not grow with a .jsonl, and a mistake names its line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

from .labels import BYTE_ORDER_MARK, label_name, listed, quoted, shortened

MOST_COLUMNS = 1000
"""Names of columns that are remembered: a file whose keys are data has millions."""

_REVISION = 1  # raise it when `wanted_rows` changes: it is part of the cache's key, the code of a function is not
_KINDS = {bool: "the truth value", int: "the number", float: "the number", list: "the list", dict: "the object"}


class RowError(ValueError):
    """What is wrong with a row, and where: a whole sentence."""


def load_rows(path: Path, text: str, label: str | None) -> Dataset:
    """`text`, `label` if there is one, and `row`, the number of each row's line; cached by `datasets`.

    Raises what `wanted_rows` raises, as the cause of a DatasetGenerationError.
    """
    names = ["text", "label"] if label else ["text"]
    features = Features({name: Value("string") for name in names} | {"row": Value("int64")})
    status = path.stat()
    changes = f"{_REVISION} {status.st_size} {status.st_mtime_ns}"
    kwargs = {"path": str(path.absolute()), "text": text, "label": label, "changes": changes, "source": str(path)}
    return Dataset.from_generator(wanted_rows, features=features, gen_kwargs=kwargs)


def wanted_rows(path: str, text: str, label: str | None, changes: str, source: str) -> Iterator[dict[str, Any]]:
    """The rows of `load_rows`. Raises RowError for what is no text or no label, and for a column that no row has."""
    seen: dict[str, None] = {}
    found: set[str] = set()
    unit = unit_of(Path(path))
    for number, record in records(Path(path), source):
        if len(seen) < MOST_COLUMNS:
            seen.update(dict.fromkeys(record))
        found |= {text, label or text} & record.keys()
        where = f"{source}, {unit} {number}"
        row = {"text": _text(record.get(text), text, where), "row": number}
        yield row if label is None else row | {"label": _label(record.get(label), where)}
    for kind, name in (("text", text), ("label", label)):
        if name is not None and name not in found and seen:
            raise RowError(f"{source} has no column {name!r} for --{kind}-column; its columns are {listed([*seen])}.")


def columns_of(path: Path, until: str | None) -> tuple[list[str], list[str]]:
    """The names of the columns and of those that hold text only; the search ends at a column called `until`."""
    text_only: dict[str, bool | None] = {}  # None: nothing but null so far
    for _, record in records(path, str(path)):
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


def records(path: Path, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file and their numbers, from 1; blank lines are counted and left out."""
    with path.open(encoding="utf-8-sig") as file:
        if _is_array(path):
            for number, record in enumerate(_parsed(file.read(), source), start=1):
                yield number, _object(record, f"{source}, row {number}")
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = f"{source}, line {number}"
                yield number, _object(_parsed(line.removeprefix(BYTE_ORDER_MARK), source, number), where)


def _is_array(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    with path.open(encoding="utf-8-sig") as file:
        return next((line.lstrip()[0] for line in file if line.strip()), "") == "["


def _parsed(text: str, source: str, line: int | None = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
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
