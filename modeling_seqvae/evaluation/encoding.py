"""Many texts -> a file of features that other tools read: in constant memory, over several processes, to be resumed."""

import csv
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from accelerate import PartialState
from datasets import Dataset

from ..text import SeqVAE
from .shards import write_in_shards

Blocks = Iterable[np.ndarray]


def _write_npy(blocks: Blocks, names: Sequence[str], rows: int, path: Path) -> None:
    if rows == 0:
        np.save(path, np.empty((0, len(names)), np.float32))  # no memory can be mapped to nothing
        return
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, len(names)))
    start = 0
    for block in blocks:
        array[start : start + len(block)] = block
        start += len(block)
    array.flush()


def _write_csv(blocks: Blocks, names: Sequence[str], rows: int, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(names)
        for block in blocks:
            pd.DataFrame(block).to_csv(file, index=False, header=False, lineterminator="\n")


def _write_parquet(blocks: Blocks, names: Sequence[str], rows: int, path: Path) -> None:
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pq.ParquetWriter(path, schema) as writer:
        for block in blocks:
            writer.write_table(pa.table(list(block.T), schema=schema))


WRITERS: dict[str, Callable[[Blocks, Sequence[str], int, Path], None]] = {
    ".npy": _write_npy,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}


def require_suffix(path: Path) -> str:
    """The suffix of a features file, in lower case. Raises ValueError for one that is not in WRITERS."""
    return suffix_among(WRITERS, path, "a features file")


def suffix_among(suffixes: Collection[str], path: Path, what: str) -> str:
    """The suffix of a path, in lower case. Raises ValueError, which says of what, for one that is not among those."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{path}: the suffix of {what} must be one of {', '.join(suffixes)}, not {suffix!r}")
    return suffix


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that appears whole or not: beside `path`, to which it is moved at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.new{path.suffix.lower()}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_features(blocks: Blocks, names: Sequence[str], rows: int, path: Path) -> None:
    """Write features that come in blocks (n, D) of `rows` rows in all, float32; a file appears whole or not.

    `names` head the columns of .csv and .parquet. Raises ValueError for another suffix.
    """
    suffix = require_suffix(path)
    with whole(path) as unfinished:
        WRITERS[suffix](blocks, names, rows, unfinished)


SHARD_ROWS = 8192
"""Texts encoded between two steps that a kill cannot undo."""


def encode_to_file(
    vae: SeqVAE,
    rows: Dataset,
    output: str | Path,
    features: str = "mean_variance",
    batch_size: int | None = None,
    *,
    state: PartialState | None = None,
    shard_rows: int = SHARD_ROWS,
    show_progress: bool | None = None,
) -> None:
    """Encode the column `text` of `rows` into `output`, a .npy, .csv or .parquet file with one row a text, in order.

    The work is done in shards, as `write_in_shards` says. Raises ValueError for another suffix and for features or
    models that SeqVAE.encode refuses, and what `write_in_shards` raises.
    """
    output = Path(output)
    require_suffix(output)
    vae.encode([], features)  # a mistake is told before the work
    names = vae.feature_names(features)
    write_in_shards(
        vae,
        rows,
        output,
        {"features": features},
        lambda texts: vae.encode(texts, features, batch_size, False),
        lambda blocks: write_features(blocks, names, len(rows), output),
        shard_rows,
        "encoding",
        state=state,
        show_progress=show_progress,
    )
