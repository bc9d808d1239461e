"""JSON files that are whole whenever a process dies, and errors that name the file which is not."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .checkpoint import write_text


def read_json(path: Path, required: Collection[str] = (), numbers: Collection[str] = ()) -> dict[str, Any]:
    """The object in a file, which has the keys `required` and, as numbers or null, those of `numbers`.

    Raises ValueError that names the file, and the key that is missing or no number.
    """
    return _parsed(path, path.read_text("utf-8", errors="replace"), required, numbers)


def read_json_lines(path: Path, numbers: Collection[str] = ()) -> list[dict[str, Any]]:
    """The objects in the lines of a file, each with these numbers. Raises ValueError as `read_json` does."""
    return [_parsed(path, line, (), numbers) for line in path.read_text("utf-8", errors="replace").splitlines()]


def write_json(path: Path, content: Any) -> None:
    """Replace a file in one step."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace a file of one object a line in one step."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def _parsed(path: Path, text: str, required: Collection[str], numbers: Collection[str]) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not what a run writes: it holds no object")
    missing = {*required, *numbers} - found.keys()
    if missing:
        raise ValueError(f"{path} is not what a run writes: it lacks {', '.join(sorted(missing))}")
    for name in numbers:
        value = found[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{path} is not what a run writes: its {name} is {value!r}, where a number belongs")
    return found
