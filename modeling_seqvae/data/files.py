"""Files and folders of the user's: their checksums, and keeping them from other processes while one writes there."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import Timeout
from huggingface_hub.utils import WeakFileLock


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256_of(path: Path) -> str:
    """`sha256_of`, which reads a file again only after it has changed."""
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)


@cache
def _sha256(path: Path, *stamp: int) -> str:
    return sha256_of(path)


@contextmanager
def alone_in(directory: Path, doing: str) -> Iterator[None]:
    """Keeps a directory, which is made if need be, from other processes that would do the same there.

    Raises RuntimeError where one is `doing` that, such as the same job that a scheduler has started twice.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with WeakFileLock(directory / ".lock", timeout=1):
            yield
    except Timeout:
        raise RuntimeError(f"another process is {doing}: wait for it, then repeat the command") from None
