"""From the name of a checkpoint, and maybe a file of texts, to an Explorer."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from ..data.caching import quiet_libraries
from ..data.columns import labels_of, some_of, texts_of
from ..data.files import read_json_lines
from ..training.checkpoint import load_best, own_texts, recipe_in, run_of, texts_for
from ..training.run_directory import HISTORY, RECORD, read_history
from .explorer import Explorer

MOST_POINTS = 10_000
"""Texts on a map at most: a browser draws these without a halt."""
POINTS = 2_000
"""Texts on a map unless more are asked for."""
WRITTEN = 1_000
"""Sentences that the model writes for a map where there are no texts."""


def open_explorer(
    checkpoint: str,
    texts: str | Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    data_dir: str | Path | None = None,
    points: int = POINTS,
    device: Any = None,
) -> Explorer:
    """A run, checkpoint or model on the hub beside the texts of a file, or of the validation set of its run.

    Of more than `points` texts some are taken at random, the same every time. Where neither is at hand the texts are
    sentences that the model writes, and a warning says why. Raises ValueError for a language model, for `points` out of
    bounds, and what reading a file raises.
    """
    if not 2 <= points <= MOST_POINTS:
        raise ValueError(f"a map has from 2 to {MOST_POINTS:,} points, got {points:,}")
    vae = load_best(checkpoint, device)
    vae.model.model._require_latent("be explored")
    if texts is not None:
        rows, report = texts_for(checkpoint, Path(texts), text_column, label_column)
        source = Path(texts).name
        source += f", {report.empty:,} empty left out" if report.empty else ""
        source += f", {report.truncated:,} cut at {report.max_words} words" if report.truncated else ""
    else:
        try:
            with quiet_libraries():
                rows = own_texts(checkpoint, "validation", data_dir)
            source = "validation set of its run"
        except (ValueError, OSError) as error:
            warnings.warn(
                f"{error}. So the map shows sentences that the model wrote: name a file of texts to see those",
                stacklevel=2,
            )
            rows = Dataset.from_dict({"text": vae.sample(min(points, WRITTEN), seed=0)})
            source = "written by the model itself"
    rows = rows.select([i for i, text in enumerate(texts_of(rows)) if text.strip()])
    chosen, history = some_of(rows, points), history_of(checkpoint)
    recipe = recipe_in(run_of(checkpoint))
    return Explorer(
        vae,
        list(texts_of(chosen)),
        labels_of(chosen),
        title=f"{recipe.title} on {recipe.corpus.name}" if recipe else _name(checkpoint),
        source=source,
        left_out=len(rows) - len(chosen),
        history=history,
        best=recipe.best_of(history) if recipe and history else None,
    )


def history_of(checkpoint: str) -> Sequence[dict[str, Any]]:
    """The history of a run, or what was pushed of it beside a checkpoint; nothing where there is none.

    Raises ValueError for a damaged file.
    """
    if Path(checkpoint).exists():
        return read_history(run_of(checkpoint))
    try:
        return read_json_lines(Path(hf_hub_download(checkpoint, HISTORY)), RECORD)
    except (OSError, HfHubHTTPError):  # there is none, or the hub is out of reach
        return []


def _name(checkpoint: str) -> str:
    folder = run_of(checkpoint)
    return folder.name if folder.exists() else checkpoint
