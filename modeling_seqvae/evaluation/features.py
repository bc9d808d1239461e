"""Features written to files that other tools read."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".npy": lambda table, path: np.save(path, table.to_numpy()),
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
}


def require_suffix(path: Path) -> str:
    """The suffix of a features file, in lower case. Raises ValueError for one that is not in WRITERS."""
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"{path}: the suffix of a features file must be one of {', '.join(WRITERS)}, not {suffix!r}")
    return suffix


def write_features(features: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Write features (N, D), one row a text; names head the columns of .csv and .parquet. A file appears whole or not.

    Raises ValueError for another suffix.
    """
    suffix = require_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.new{suffix}")
    try:
        WRITERS[suffix](pd.DataFrame(features, columns=list(names)), unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
