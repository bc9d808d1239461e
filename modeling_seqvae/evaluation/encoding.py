"""Many texts -> a file of features that other tools read: in constant memory, over several processes, to be resumed."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from accelerate import PartialState
from datasets import Dataset
from numpy.typing import NDArray

from ..data.columns import require_texts
from ..data.files import whole
from ..data.kept import Kept, kept_of
from ..text import SeqVAE
from .shards import write_in_shards
from .writing import WRITERS, require_room, suffix_among, write_table

Blocks = Iterable[np.ndarray]
ARRAY = ".npy"
SUFFIXES = (ARRAY, *WRITERS)


def require_suffix(path: Path) -> str:
    """The suffix of a features file, in lower case. Raises ValueError for one that is not in SUFFIXES."""
    return suffix_among(SUFFIXES, path, "a features file")


def write_features(blocks: Blocks, names: Sequence[str], rows: int, path: Path, kept: Kept | None = None) -> None:
    """Write features that come in blocks (n, D) of `rows` rows in all, float32; a file appears whole or not.

    `names` head the columns of all but .npy, behind the `kept` ones. Raises ValueError for another suffix, for kept
    columns in an array, and what `write_table` raises.
    """
    if require_suffix(path) == ARRAY:
        _require_none(path, kept)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as unfinished:
            _write_npy(blocks, len(names), rows, unfinished)
        return
    schema = pa.schema([(name, pa.float32()) for name in names])
    write_table((pa.table(list(block.T), schema=schema) for block in blocks), schema, path, kept)


def _write_npy(blocks: Blocks, size: int, rows: int, path: Path) -> None:
    if rows == 0:
        np.save(path, np.empty((0, size), np.float32))  # no memory can be mapped to nothing
        return
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, size))
    start = 0
    for block in blocks:
        array[start : start + len(block)] = block
        start += len(block)
    array.flush()


def _require_none(path: Path, kept: Kept | None) -> None:
    if kept is not None:
        raise ValueError(f"{path} is an array of numbers, which keeps no columns beside them: write another format")


SHARD_ROWS = 8192
"""Texts encoded between two steps that a kill cannot undo."""


def encode_to_file(
    vae: SeqVAE,
    rows: Dataset,
    output: str | Path,
    features: str = "mean_variance",
    batch_size: int | None = None,
    *,
    keep: Sequence[str] | Kept = (),
    state: PartialState | None = None,
    shard_rows: int = SHARD_ROWS,
    show_progress: bool | None = None,
) -> None:
    """Encode the column `text` of `rows` into `output`, a .npy, .csv, .parquet or .jsonl file with one row a text.

    A text that is missing, None, is one without words. `keep` are columns of `rows`, or of another source with the same
    rows, to write before the features. The rows are in order. The work is done in shards, as `write_in_shards` says.
    Raises ValueError for another suffix, for features or models that SeqVAE.encode refuses, for columns that cannot be
    kept, and what `require_texts` and `write_in_shards` raise.
    """
    require_texts(rows)
    output = Path(output)
    suffix = require_suffix(output)
    vae.encode([], features)  # a mistake is told before the work
    names = vae.feature_names(features)
    kept = keep if isinstance(keep, Kept) else kept_of(rows, keep) if keep else None
    if suffix == ARRAY:
        _require_none(output, kept)
    require_room(output, names, kept)

    def compute(texts: list[str], done: Callable[[int], Any]) -> NDArray:
        encoded = vae.encode(texts, features, batch_size, False)
        done(len(texts))
        return encoded

    write_in_shards(
        vae,
        rows,
        output,
        {"features": features},
        compute,
        lambda blocks: write_features(blocks, names, len(rows), output, kept),
        shard_rows,
        "encoding",
        state=state,
        show_progress=show_progress,
    )
