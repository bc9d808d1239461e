"""Texts scored one by one, and those that are odd among them: NLL, -ELBO, bits per byte, and what stands against these.

docs/features.md says what each column means and which one finds odd texts.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import torch
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray

from ..data.batching import bytes_of_the_first, bytes_read
from ..data.columns import require_texts, texts_of
from ..data.kept import Kept, kept_of
from ..data.labels import quoted
from ..data.launch import launched
from ..text import SeqVAE
from ..text_batches import batches_by_length, bound_of, nll_of, token_ids
from ..tokenization import reads_unknown
from .shards import rows_left, write_in_shards
from .writing import WRITERS, require_room, suffix_among, write_table

SHARD_ROWS, SHARD_DRAWS = 8192, 1 << 16
"""Texts, and draws of z for them, at most, that are scored between two steps that a kill cannot undo."""

MEASURED = ("nll", "bound", "tokens", "unknown", "bytes", "cut")
"""What a shard has of each text; without importance samples the first is not a number."""

REFERENCE_TEXTS = 1000
"""Texts that quantiles are taken among, at most."""

FIRST_ROWS = 3
"""Rows that a summary of warnings names, of each kind."""


MARKS = {
    "unknown": "have unknown words: their NLL is that of a text with one common mark for each, so that gibberish can "
    "look usual; a model trained with --tokenizer bpe has none",
    "cut": "are longer than the model reads: their figures are those of the beginning",
    "empty": "have no words: their NLL is that of the end of a text",
}
"""Kinds of texts whose scores are to be read with care, and why."""


@dataclass
class Totals:
    """Of the texts of a file: how many, their NLL and -ELBO in nats, their tokens, and those that call for a warning.

    The NLL is not a number where only the -ELBO was computed. `marked` has by kind (unknown, cut, empty) how many texts
    are, and the first of their rows, counted from 1.
    """

    texts: int = 0
    nll: float = 0.0
    tokens: int = 0
    bound: float = 0.0
    marked: dict[str, tuple[int, list[int]]] = field(default_factory=dict)

    @property
    def perplexity(self) -> float:
        """exp(total NLL / total tokens), as in docs/metrics.md; not a number of none."""
        return math.exp(self.nll / self.tokens) if self.tokens else math.nan

    def warnings(self) -> list[str]:
        """A sentence for each kind of texts whose scores are to be read with care."""
        told = []
        for kind, (count, rows) in self.marked.items():
            which = f"row{'s' * (count > 1)} {', '.join(f'{row:,}' for row in rows)}{', ...' * (count > len(rows))}"
            told.append(f"{count:,} of {self.texts:,} texts {MARKS[kind]} ({which})")
        return told

    def add(self, values: dict[str, NDArray], marks: dict[str, NDArray[np.bool_]]) -> None:
        for kind, which in marks.items():
            count, rows = self.marked.get(kind, (0, []))
            found = (np.flatnonzero(which) + self.texts + 1).tolist()
            if found:
                self.marked[kind] = (count + len(found), [*rows, *found][:FIRST_ROWS])
        self.texts += len(values["nll"])
        self.nll += float(values["nll"].sum())
        self.bound += float(values["bound"].sum())
        self.tokens += int(values["tokens"].sum())


def score_to_file(
    vae: SeqVAE,
    rows: Dataset,
    output: str | Path,
    num_samples: int = 500,
    seed: int = 0,
    batch_size: int | None = None,
    *,
    quick: bool = False,
    keep: Sequence[str] | Kept = (),
    reference: Dataset | None = None,
    state: PartialState | None = None,
    shard_rows: int | None = None,
    show_progress: bool | None = None,
    tell: Callable[[str], None] | None = None,
) -> Totals:
    """Score the column `text` of `rows` into `output`, a .csv, .parquet or .jsonl file with one row a text, in order.

    Columns, behind those of `rows` (or of another source with the same rows) that `keep` names:

        nll             importance-weighted, in nats, as SeqVAE.nll gives it; not with `quick`
        bound           -ELBO from one draw of z, in nats, as -SeqVAE.elbo gives it
        tokens          those predicted: words (or pieces of words) and `</s>`
        unknown         words that the tokenizer does not know
        bits_per_byte   NLL (with `quick`, -ELBO) / (ln 2 * UTF-8 bytes of the text as it was read);
                        missing for a text with unknown words, whose likelihood this is not, and for one without bytes
        quantile        with `reference`: the share of its texts that are less unusual, in [0, 1]; see `unusual`
        warning         why a row is to be read with care: unknown words, cut, empty

    A text longer than the tokenizer's limit is cut there, and a boolean column `cut` of `rows` tells which were cut
    before. The first 1,000 texts of the `reference` are scored in the same way. The work is done in shards, as
    `write_in_shards` says; `tell` hears the time that it will take, where that is long. Returns the totals, on the
    first process, which warns of what is to be read with care. Raises ValueError for another suffix, for columns that
    cannot be kept, what SeqVAE.nll raises, and what `write_in_shards` raises; FloatingPointError for a likelihood that
    is not finite.
    """
    require_texts(rows)
    output = Path(output)
    require_suffix(output)
    vae.nll([], num_samples, seed, batch_size)  # a mistake is told before the work
    state = state or launched()
    schema = _schema(quick, reference is not None)
    kept = keep if isinstance(keep, Kept) else kept_of(rows, keep) if keep else None
    require_room(output, schema.names, kept)
    compared = 0 if reference is None else min(REFERENCE_TEXTS, len(reference))
    texts = _behind(reference, compared, rows)
    size = shard_rows or _shard_rows(vae, num_samples, quick)
    scoring = _Scoring(vae, None if quick else num_samples, seed, batch_size or vae.batch_size)
    if tell and state.is_main_process:
        _tell_time(scoring, texts, rows_left(output, len(texts), size), state.num_processes, tell)
    totals = Totals()

    def tables(blocks: Iterator[NDArray]) -> Iterator[pa.Table]:
        first, rest = _split(blocks, compared)
        among = np.sort(unusual(_named(first), vae))
        for block in rest:
            values = _named(block)
            if getattr(rows.features.get("cut"), "dtype", None) == "bool":
                values["cut"] |= np.asarray(rows.select(range(totals.texts, totals.texts + len(block)))["cut"], bool)
            yield _table(values, schema, totals, quantiles(among, unusual(values, vae)))

    write_in_shards(
        vae,
        texts,
        output,
        {"samples": scoring.samples, "seed": seed, "measured": list(MEASURED)},
        scoring,
        lambda blocks: write_table(tables(blocks), schema, output, kept),
        size,
        "scoring",
        state=state,
        show_progress=show_progress,
    )
    for told in totals.warnings():
        warnings.warn(told, stacklevel=2)
    return totals


def require_suffix(path: Path) -> str:
    """The suffix of a file of scores, in lower case. Raises ValueError for one that is not in WRITERS."""
    return suffix_among(WRITERS, path, "a file of scores")


def unusual(values: dict[str, NDArray], vae: SeqVAE) -> NDArray[np.float64]:
    """By what texts are compared, the greater the more unusual: bits per byte, or NLL a token where words are unknown.

    A tokenizer that reads every text, such as byte-level BPE, gives bits per byte, which do not depend on how it cuts a
    text up; those of a text without bytes are not a number. One of words gives the NLL a token, which every text has.
    """
    if reads_unknown(vae.tokenizer):
        return values["score"] / values["tokens"]
    return values["bits_per_byte"]


def quantiles(among: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of `among` (n,), sorted, that lies below each value, and half of what equals it; NaN of NaN."""
    among = among[~np.isnan(among)]
    below, until = (np.searchsorted(among, values, side) for side in ("left", "right"))
    return np.where(np.isnan(values) | (len(among) == 0), np.nan, (below + until) / max(1, 2 * len(among)))


class _Scoring:
    """Scores texts: an array (n, len(MEASURED)) of each; without `samples`, no NLL."""

    def __init__(self, vae: SeqVAE, samples: int | None, seed: int, batch_size: int):
        self.vae, self.samples, self.seed, self.batch_size = vae, samples, seed, batch_size

    @torch.inference_mode()
    def __call__(self, texts: list[str], done: Callable[[int], Any]) -> NDArray[np.float64]:
        model, tokenizer = self.vae.model, self.vae.tokenizer
        values = np.empty((len(texts), len(MEASURED)))
        for batch in batches_by_length(texts, model, tokenizer, self.batch_size, "scoring", False, warn=False):
            bound = bound_of(model, batch, self.seed)
            nll = torch.full_like(bound, math.nan)
            if self.samples is not None:
                nll = nll_of(model, batch, self.samples, self.seed)
            tokens = batch.attention_mask.sum(1) - 1
            unknown = ((batch.input_ids == tokenizer.unk_token_id) & (batch.attention_mask == 1)).sum(1)
            columns = [column.cpu().double().numpy() for column in (nll, bound, tokens, unknown)]
            chosen = [texts[place] for place in batch.positions]
            sizes = zip(chosen, columns[2], bytes_read(chosen), strict=True)
            read = [self._read(text, int(count) + 1, size) for text, count, size in sizes]
            values[batch.positions] = np.column_stack([*columns, np.array(read)])
            wrong = np.flatnonzero(~np.isfinite(values[batch.positions][:, 0 if self.samples else 1]))
            if len(wrong):
                raise FloatingPointError(
                    f"the likelihood of the text {quoted(chosen[wrong[0]])} is not a finite number"
                )
            done(len(chosen))
        return values

    def _read(self, text: str, ids: int, size: int) -> tuple[int, bool]:
        """The UTF-8 bytes that were read of a text of `size` as so many ids, and whether it was cut."""
        limit = self.vae.tokenizer.model_max_length
        if ids < limit or len(token_ids([text], self.vae.tokenizer)[0]) <= limit:
            return size, False
        return bytes_of_the_first(limit, text, self.vae.tokenizer), True


def _shard_rows(vae: SeqVAE, num_samples: int, quick: bool) -> int:
    draws = 1 if quick or vae.model.config.latent_size == 0 else num_samples
    return max(16, min(SHARD_ROWS, SHARD_DRAWS // draws))


def _behind(reference: Dataset | None, compared: int, rows: Dataset) -> Dataset:
    """The texts that are scored: those to compare with, and those of the file."""
    texts = rows.select_columns(["text"])
    if reference is None:
        return texts
    first = reference.select_columns(["text"]).select(range(compared))
    return concatenate_datasets([first.cast(texts.features) if first.features != texts.features else first, texts])


def _split(blocks: Iterator[NDArray], count: int) -> tuple[NDArray, Iterator[NDArray]]:
    """The first `count` rows, and the blocks behind them."""
    first = [np.empty((0, len(MEASURED)))]
    while count:
        block = next(blocks)
        first.append(block[:count])
        count -= len(first[-1])
        if len(block) > len(first[-1]):
            return np.concatenate(first), chain([block[len(first[-1]) :]], blocks)
    return np.concatenate(first), blocks


def _named(block: NDArray) -> dict[str, NDArray]:
    """The columns of a shard, and what follows from them: `score`, the NLL or else the -ELBO, and its bits per byte."""
    values = dict(zip(MEASURED, block.T, strict=True))
    values |= {name: values[name].astype(np.int64) for name in ("tokens", "unknown", "bytes")}
    values["cut"] = values["cut"] > 0
    values["score"] = np.where(np.isnan(values["nll"]), values["bound"], values["nll"])
    whole = (values["unknown"] == 0) & (values["bytes"] > 0)
    values["bits_per_byte"] = np.full(len(block), np.nan)
    values["bits_per_byte"][whole] = values["score"][whole] / (math.log(2) * values["bytes"][whole])
    return values


def _schema(quick: bool, compared: bool) -> pa.Schema:
    columns = [("bound", pa.float64()), ("tokens", pa.int64()), ("unknown", pa.int64())]
    columns = [*([] if quick else [("nll", pa.float64())]), *columns, ("bits_per_byte", pa.float64())]
    return pa.schema([*columns, *([("quantile", pa.float64())] if compared else []), ("warning", pa.string())])


def _table(values: dict[str, NDArray], schema: pa.Schema, totals: Totals, quantile: NDArray) -> pa.Table:
    """A part of the file, which is counted into the totals."""
    words = values["tokens"] - 1
    marks = {"unknown": values["unknown"] > 0, "cut": values["cut"], "empty": words == 0}
    totals.add(values, marks)
    told = [
        "; ".join(
            [f"{unknown} of {count} words unknown"] * bool(unknown) + ["cut"] * bool(cut) + ["empty"] * (count == 0)
        )
        for unknown, count, cut in zip(values["unknown"].tolist(), words.tolist(), values["cut"], strict=True)
    ]
    columns = {**values, "quantile": quantile, "warning": told}
    return pa.table(
        [pa.array(columns[name], schema.field(name).type, from_pandas=True) for name in schema.names], schema
    )


# How long it takes

TIMED_TEXTS, TIMED_SAMPLES = 32, 8
WORTH_TELLING = 30.0
"""Seconds of work from which on its time is told first."""


def _tell_time(scoring: _Scoring, texts: Dataset, left: int, processes: int, tell: Callable[[str], None]) -> None:
    """Tell how long scoring will take, and what is faster, where it is worth telling; a few texts are timed."""
    samples = scoring.samples if scoring.vae.model.config.latent_size else None
    if left * (samples or 1) < 4 * TIMED_TEXTS * TIMED_SAMPLES:
        return
    places = np.linspace(0, len(texts) - 1, min(TIMED_TEXTS, len(texts))).astype(int)
    some = [text or "" for text in texts_of(texts.select(np.unique(places)))]
    once, several = (_seconds(scoring, some, samples and count) for count in (1, TIMED_SAMPLES))
    a_sample = (several - once) / (TIMED_SAMPLES - 1) if samples else 0.0
    quick, whole = (left / processes * (once + (count or 1) * a_sample - a_sample) for count in (None, samples))
    if whole < WORTH_TELLING:
        return
    shorter = ""
    if samples:
        fewer = max(1, samples // 10)
        by_fewer = _duration(quick + fewer * (whole - quick) / samples)
        shorter = f" {by_fewer} with --nll-samples {fewer}, {_duration(quick)} with --quick."
    by = f" by {samples} importance samples" if samples else ""
    tell(
        f"scoring {left:,} texts{by} takes about {_duration(whole)}.{shorter} If you stop it, the same command goes on."
    )


def _seconds(scoring: _Scoring, texts: list[str], samples: int | None) -> float:
    """Seconds that a text takes, of the better of two attempts."""
    timed = _Scoring(scoring.vae, samples, scoring.seed, scoring.batch_size)
    found = []
    for _ in range(2):
        start = time.perf_counter()
        timed(texts, lambda _: None)
        found.append((time.perf_counter() - start) / len(texts))
    return min(found)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
