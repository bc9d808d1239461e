"""Files and folders of the user's: their checksums, and keeping them from other processes while one writes there."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout
from huggingface_hub.utils import WeakFileLock


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
