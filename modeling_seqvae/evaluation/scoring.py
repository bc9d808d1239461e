"""Texts scored one by one: importance-weighted NLL and tokens of each, in a file that other tools read."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ..text import SeqVAE
from ..text_batches import token_ids
from .features import suffix_among, whole

TEXTS_AT_ONCE = 1000
"""Texts whose tokens are counted together."""

WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False, lineterminator="\n"),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
    ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True, double_precision=15),
}


def score_texts(
    vae: SeqVAE,
    texts: list[str],
    num_samples: int = 500,
    seed: int | None = 0,
    batch_size: int | None = None,
    show_progress: bool | None = None,
) -> pd.DataFrame:
    """A row for each text, in order: `nll` in nats, as SeqVAE.nll gives it, and `tokens`, its words and `</s>`.

    Words that were cut off at the tokenizer's limit do not count. Raises what SeqVAE.nll raises.
    """
    nll = vae.nll(texts, num_samples, seed, batch_size, show_progress)
    return pd.DataFrame({"nll": nll, "tokens": pd.array(_token_counts(vae, texts), dtype="int64")})


def perplexity(scores: pd.DataFrame) -> float:
    """exp(total NLL / total tokens) of the rows of `score_texts`, as in docs/metrics.md; not a number of none."""
    tokens = scores["tokens"].sum()
    return math.exp(scores["nll"].sum() / tokens) if tokens else math.nan


def require_suffix(path: Path) -> str:
    """The suffix of a file of scores, in lower case. Raises ValueError for one that is not in WRITERS."""
    return suffix_among(WRITERS, path, "a file of scores")


def write_scores(scores: pd.DataFrame, path: str | Path) -> None:
    """Write the rows of `score_texts`; a file appears whole or not. Raises ValueError for another suffix."""
    path = Path(path)
    suffix = require_suffix(path)
    with whole(path) as unfinished:
        WRITERS[suffix](scores, unfinished)


def _token_counts(vae: SeqVAE, texts: list[str]) -> list[int]:
    """What is predicted of each text: all that is read of it but `<s>`."""
    limit = vae.tokenizer.model_max_length
    chunks = (texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE))
    return [min(len(ids), limit) - 1 for chunk in chunks for ids in token_ids(chunk, vae.tokenizer)]
