"""Directories and files that are either complete or absent, whenever a process dies."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """An empty directory to write into, which takes the place of `directory` when the block ends without an error.

    A process killed between the two renames leaves the former one under `.old`; `recover` puts it back. Raises OSError
    that names the directory where the disk is full or read-only.
    """
    fresh, old = _beside(directory, "new"), _beside(directory, "old")
    recover(directory)
    try:
        with writing(directory):
            fresh.mkdir(parents=True)
            yield fresh
            _flush(fresh)
            if directory.exists():
                directory.rename(old)
            fresh.rename(directory)
    finally:
        recover(directory)


def recover(directory: Path) -> None:
    """Undo a replacement that was cut short: afterwards `directory` is the last complete one, if there was any."""
    fresh, old = _beside(directory, "new"), _beside(directory, "old")
    if old.exists() and not directory.exists():
        old.rename(directory)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of writing inside name `path`: libraries say neither where they wrote nor that nothing was lost."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save raises the last
        raise OSError(f"could not write {path} ({error}); what stood there before is kept") from error


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step."""
    fresh = _beside(path, "new")
    try:
        with writing(path):
            fresh.write_text(text, "utf-8")
            os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace a file of JSON lines in one step."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


def _flush(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
