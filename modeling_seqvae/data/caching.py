"""The folder in which `datasets` keeps what it read and tokenised: shared by processes, and sometimes not writable."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import datasets
from datasets import Dataset
from huggingface_hub.utils import WeakFileLock
from transformers.utils import logging

Result = TypeVar("Result")

ROWS_AT_ONCE = 2_000
"""Rows worked on together, and together in a cache file: each such group costs some kilobytes when the file is open."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}


def cached_map(rows: Dataset, function: Callable[..., Any], **options: Any) -> Dataset:
    """`rows.map` of a function from Arrow tables and the rows' indices to tables, once for all processes.

    Of rows in memory, which no cache on disk knows, once while they are there, where a `new_fingerprint` says what is
    made of them.
    """

    def mapped() -> Dataset:
        made = rows.with_format("arrow").map(
            function,
            batched=True,
            batch_size=ROWS_AT_ONCE,
            writer_batch_size=ROWS_AT_ONCE,
            with_indices=True,
            **options,
        )
        return made.with_format(None)

    key = options.get("new_fingerprint")
    if key and cache_folder(rows) is None:
        return made_once(rows, key, mapped)
    with cache_lock(rows, key or rows._fingerprint):
        return mapped()


def made_once(rows: Dataset, key: str, make: Callable[[], Result]) -> Result:
    """`make()`, or what it gave before for these rows and this key; it is forgotten together with the rows."""
    made = _MADE.setdefault(rows, {})
    if key not in made:
        made[key] = make()
    return made[key]


def made_before(rows: Dataset, key: str) -> Any:
    """What `made_once` made of these rows; None if it has not."""
    return _MADE.get(rows, {}).get(key)


_MADE: WeakKeyDictionary[Dataset, dict[str, Any]] = WeakKeyDictionary()


@contextmanager
def cache_lock(rows: Dataset, key: str) -> Iterator[None]:
    """Lets one process at a time work on what is cached of these rows under `key`; the next one finds it done.

    A process that dies makes room for the next. Raises OSError where the cache cannot be written.
    """
    folder = cache_folder(rows)
    if folder is None:
        yield
        return
    with explaining_the_cache(folder), WeakFileLock(folder / f"{key}.lock"):
        yield


def cache_folder(rows: Dataset) -> Path | None:
    """Where `datasets` caches what is made of these rows; None for rows in memory and where caching is off."""
    if not rows.cache_files or not datasets.is_caching_enabled():
        return None
    return Path(rows.cache_files[0]["filename"]).parent


@contextmanager
def explaining_the_cache(folder: Path | None = None) -> Iterator[None]:
    """Refusals to write the cache become an OSError that names its folder and the variables that choose another."""
    try:
        yield
    except OSError as error:
        folder = folder or Path(datasets.config.HF_DATASETS_CACHE)
        if not refuses_to_write(error, folder):
            raise
        remedy = "Let it be written" if error.errno in _NO_ACCESS | {errno.EROFS} else "Make room there"
        raise OSError(
            f"the cache of corpora, {folder}, cannot be written: {error.strerror or error}. {remedy}, or set "
            "HF_DATASETS_CACHE or HF_HOME to another folder, with room for several times the size of the text."
        ) from error


def refuses_to_write(error: BaseException, folder: Path | None = None) -> bool:
    """Whether the system says that there is no room, or no access to the cache."""
    if not isinstance(error, OSError):
        return False
    if error.filename is None or error.errno not in _NO_ACCESS:
        return error.errno in _NO_ROOM
    place = Path(error.filename).absolute()
    folder = (folder or Path(datasets.config.HF_DATASETS_CACHE)).absolute()
    return place.is_relative_to(folder) or folder.is_relative_to(place)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without the bars of transformers for every file it writes, and of datasets for every split it maps."""
    transformers_shown = logging.is_progress_bar_enabled()
    datasets_shown = not datasets.utils.are_progress_bars_disabled()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if transformers_shown:
            logging.enable_progress_bar()
        if datasets_shown:
            datasets.enable_progress_bars()
