"""Texts scored one by one: importance-weighted NLL and tokens of each, in a file that other tools read."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from accelerate import PartialState
from datasets import Dataset
from numpy.typing import NDArray

from ..text import SeqVAE
from ..text_batches import token_ids
from .shards import write_in_shards
from .writing import suffix_among, whole

SHARD_ROWS = 1024
"""Texts scored between two steps that a kill cannot undo."""

Tables = Iterable[pd.DataFrame]


def _write_csv(tables: Tables, path: Path) -> None:
    header = pd.DataFrame(columns=list(COLUMNS)).to_csv(index=False, lineterminator="\n")
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(header)
        for table in tables:
            table.to_csv(file, index=False, header=False, lineterminator="\n")


def _write_jsonl(tables: Tables, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for table in tables:
            table.to_json(file, orient="records", lines=True, double_precision=15)


def _write_parquet(tables: Tables, path: Path) -> None:
    schema = pa.schema([("nll", pa.float64()), ("tokens", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))


COLUMNS = ("nll", "tokens")
WRITERS: dict[str, Callable[[Tables, Path], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".jsonl": _write_jsonl,
}


@dataclass
class Totals:
    """Of the texts of a file: how many, their NLL in nats, and their tokens."""

    texts: int = 0
    nll: float = 0.0
    tokens: int = 0

    @property
    def perplexity(self) -> float:
        """exp(total NLL / total tokens), as in docs/metrics.md; not a number of none."""
        return math.exp(self.nll / self.tokens) if self.tokens else math.nan


def score_to_file(
    vae: SeqVAE,
    rows: Dataset,
    output: str | Path,
    num_samples: int = 500,
    seed: int = 0,
    batch_size: int | None = None,
    *,
    state: PartialState | None = None,
    shard_rows: int = SHARD_ROWS,
    show_progress: bool | None = None,
) -> Totals:
    """Score the column `text` of `rows` into `output`, a .csv, .parquet or .jsonl file with one row a text, in order.

    A row is `nll` in nats, as SeqVAE.nll gives it, and `tokens`, the words and `</s>`; words that were cut off at the
    tokenizer's limit do not count. The work is done in shards, as `write_in_shards` says. Returns the totals, on the
    first process. Raises ValueError for another suffix, what SeqVAE.nll raises, and what `write_in_shards` raises.
    """
    output = Path(output)
    suffix = require_suffix(output)
    vae.nll([], num_samples, seed, batch_size)  # a mistake is told before the work
    totals = Totals()

    def tables(blocks: Iterator[NDArray]) -> Iterator[pd.DataFrame]:
        for block in blocks:
            table = pd.DataFrame({"nll": block[:, 0], "tokens": block[:, 1].astype(np.int64)})
            totals.texts += len(table)
            totals.nll += float(table["nll"].sum())
            totals.tokens += int(table["tokens"].sum())
            yield table

    def write(blocks: Iterator[NDArray]) -> None:
        with whole(output) as unfinished:
            WRITERS[suffix](tables(blocks), unfinished)

    write_in_shards(
        vae,
        rows,
        output,
        {"samples": num_samples, "seed": seed},
        lambda texts: _scores(vae, texts, num_samples, seed, batch_size),
        write,
        shard_rows,
        "scoring",
        state=state,
        show_progress=show_progress,
    )
    return totals


def require_suffix(path: Path) -> str:
    """The suffix of a file of scores, in lower case. Raises ValueError for one that is not in WRITERS."""
    return suffix_among(WRITERS, path, "a file of scores")


def _scores(vae: SeqVAE, texts: list[str], num_samples: int, seed: int, batch_size: int | None) -> NDArray[np.float64]:
    """NLL and tokens of each text, (N, 2): what is predicted of it is all that is read but `<s>`."""
    limit = vae.tokenizer.model_max_length
    tokens = [min(len(ids), limit) - 1 for ids in token_ids(texts, vae.tokenizer)]
    return np.column_stack([vae.nll(texts, num_samples, seed, batch_size, False), tokens])
