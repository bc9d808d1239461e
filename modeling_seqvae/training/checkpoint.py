"""Directories and files that are complete or absent, whenever a process dies, and checked to be what was written."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..data.files import sha256_of

CHECKSUMS = "checksums.json"


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
            _flush_entries(directory.parent)
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
    """Replace a file in one step, which other processes may be about to replace as well."""
    fresh = _beside(path, f"{os.getpid()}.new")
    try:
        with writing(path):
            fresh.write_text(text, "utf-8")
            _flush_file(fresh)
            os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def sweep(directory: Path, names: Iterable[str]) -> None:
    """Remove what processes that were killed in `write_text` left of these files, which no other is writing now."""
    for name in names:
        for leftover in directory.glob(f".{name}.*.new"):
            leftover.unlink(missing_ok=True)


def write_checksums(directory: Path) -> None:
    """Note the SHA-256 of every other file that stands in a directory, in its checksums.json."""
    files = (path for path in sorted(directory.iterdir()) if path.is_file() and path.name != CHECKSUMS)
    sums = {path.name: sha256_of(path) for path in files}
    (directory / CHECKSUMS).write_text(json.dumps(sums, indent=1), "utf-8")


def require_intact(directory: Path, names: Iterable[str] | None = None) -> None:
    """Compare files, all that checksums.json names by default, with what was written.

    Raises ValueError that names the first file which is missing or has changed, FileNotFoundError without checksums.
    """
    sums = json.loads((directory / CHECKSUMS).read_text("utf-8"))
    if not isinstance(sums, dict):
        raise ValueError(f"{CHECKSUMS} is not what was written")
    for name in sums if names is None else names:
        if not (directory / name).is_file():
            raise ValueError(f"{name} is missing")
        if sha256_of(directory / name) != sums.get(name):
            raise ValueError(f"{name} is not what was written")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


def _flush(directory: Path) -> None:
    """Have the disk hold all files and folders of a directory, so that a power cut after a rename finds them whole."""
    for path in directory.rglob("*"):
        if path.is_file():
            _flush_file(path)
        else:
            _flush_entries(path)
    _flush_entries(directory)


def _flush_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_entries(directory: Path) -> None:
    """Have the disk hold the names in a folder, where the system has folders that can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
