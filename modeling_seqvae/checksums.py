"""The note of what was written into a checkpoint's folder, by which a damaged file is told from a whole one."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

CHECKSUMS = "checksums.json"
CARD = "README.md"
"""May be written anew by hand: nothing is read from it."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(directory: Path) -> None:
    """Note the SHA-256 of every other file that stands in a directory, in its checksums.json.

    All become readable to those who may read that: safetensors writes for the owner alone.
    """
    files = [path for path in sorted(directory.iterdir()) if path.is_file() and path.name != CHECKSUMS]
    note = directory / CHECKSUMS
    note.write_text(json.dumps({path.name: sha256_of(path) for path in files}, indent=1), "utf-8")
    for path in files:
        path.chmod(note.stat().st_mode)


def renew_checksums(directory: Path, names: Iterable[str] | None = None) -> None:
    """Bring the note up to date with files that were changed on purpose, all of them by default, if there is one."""
    note = directory / CHECKSUMS
    if names is None and note.is_file():
        write_checksums(directory)
    elif note.is_file():
        sums = json.loads(note.read_text("utf-8")) | {name: sha256_of(directory / name) for name in names or ()}
        note.write_text(json.dumps(sums, indent=1), "utf-8")


def verify_checksums(directory: Path, names: Iterable[str] | None = None) -> None:
    """Compare files, by default all that checksums.json names but the card, which is edited, with what was written.

    Raises ValueError that names the first file which is missing or has changed, FileNotFoundError without checksums.
    """
    sums = json.loads((directory / CHECKSUMS).read_text("utf-8"))
    if not isinstance(sums, dict):
        raise ValueError(f"{CHECKSUMS} is not what was written")
    for name in sums.keys() - {CARD} if names is None else names:
        if not (directory / name).is_file():
            raise ValueError(f"{name} is missing")
        if sha256_of(directory / name) != sums.get(name):
            raise ValueError(f"{name} is not what was written")
