"""Many texts -> a file of features: in constant memory, over several processes, to be resumed after a kill."""

from pathlib import Path

from accelerate import PartialState
from datasets import Dataset

from ..text import SeqVAE
from .features import require_suffix, write_features
from .shards import write_in_shards

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
