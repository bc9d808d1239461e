"""Validation and test sets of a corpus that has none: documents taken from its training set."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Dataset

from .caching import cached_map
from .cleaning import Cleaned

SHARE = 0.05  # of the training documents, for each of the two,
MOST = 10_000  # as many as the public benchmarks have: more would only make every evaluation longer
SEED = 0


def split_off(cleaned: dict[str, Cleaned], missing: Sequence[str]) -> str:
    """Moves documents from `train` to the missing splits, the same ones every time; returns a note for people.

    Raises ValueError for a training set that is too small.
    """
    train = cleaned["train"]
    size = min(max(1, round(SHARE * len(train.rows))), MOST)
    if size * len(missing) >= len(train.rows):
        raise ValueError(
            f"{train.source} has {len(train.rows)} documents, too few to split off {' and '.join(missing)} from them."
        )
    numbers = np.random.default_rng(SEED).permutation(len(train.rows))[: size * len(missing)]
    for split, part in zip(missing, np.split(numbers, len(missing)), strict=True):
        rows = train.rows.select(np.sort(part).tolist())
        cleaned[split] = replace(train, rows=rows, source=f"{train.source} (split off)", empty=0)
    cleaned["train"] = replace(train, rows=_without(train.rows, np.sort(numbers)))
    parts = " and ".join(f"{size:,} for {split}" for split in missing)
    return f"Split off from {train.source} with seed {SEED}: {parts}."


def _without(rows: Dataset, numbers: np.ndarray) -> Dataset:
    """The other rows, written anew: an index of those to keep would cost memory, and time at every reading."""
    return cached_map(rows, _others, fn_kwargs={"numbers": numbers}, desc="Splitting off")


def _others(table: pa.Table, indices: Sequence[int], *, numbers: np.ndarray) -> pa.Table:
    return table.filter(pa.array(~np.isin(indices, numbers)))
