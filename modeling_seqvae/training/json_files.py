"""JSON files that are whole whenever a process dies, and errors that name the file which is not."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .checkpoint import write_text


def read_json(path: Path, required: Collection[str] = ()) -> dict[str, Any]:
    """The object in a file. Raises ValueError that names a file which holds none, or one that lacks a key."""
    return _parsed(path, path.read_text("utf-8", errors="replace"), required)


def read_json_lines(path: Path, required: Collection[str] = ()) -> list[dict[str, Any]]:
    """The objects in the lines of a file. Raises ValueError that names it where a line holds none or lacks a key."""
    return [_parsed(path, line, required) for line in path.read_text("utf-8", errors="replace").splitlines()]


def write_json(path: Path, content: Any) -> None:
    """Replace a file in one step."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace a file of one object a line in one step."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def _parsed(path: Path, text: str, required: Collection[str]) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not what a run writes: it holds no object")
    missing = set(required) - found.keys()
    if missing:
        raise ValueError(f"{path} is not what a run writes: it lacks {', '.join(sorted(missing))}")
    return found
