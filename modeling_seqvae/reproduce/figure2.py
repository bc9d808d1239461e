"""Figure 2: what encoders of three hidden units make of the validation set, with pooling and without."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.batching import tokenise
from ..data.columns import texts_of
from ..evaluation.evaluate import Evaluator, summarise
from ..evaluation.table import numbers
from ..training.recipe import corpus_spec
from .encoders import best_encoder, corpus_of_run, encoder_runs, findings, seed_by_seed
from .latent_figures import feature_space_figure
from .reporting import Report, Table
from .request import Request
from .rows import corpus_of, over_seeds, spreads, title_of
from .steps import Measurement, Step, Training

THREE_UNITS = "model.encoder_hidden_size=3"

POINTS = 2_000
"""Sentences that are drawn, at most; the figures are of all."""

COLUMNS = {
    "title": ("model", "{}"),
    "cosine": ("cosine", "{:z.3f}"),
    "sd_1": ("s.d. of\nunit 1", "{:.3f}"),
    "sd_2": ("s.d. of\nunit 2", "{:.3f}"),
    "sd_3": ("s.d. of\nunit 3", "{:.3f}"),
    "bound": ("-ELBO", "{:.2f}"),
    "kl": ("KL", "{:z.2f}"),
    "au": ("AU", "{:d}"),
}
MEANS = ("mean_1", "mean_2", "mean_3")


class Figure2:
    """The feature spaces of three-unit encoders, in three dimensions."""

    summary = "feature spaces of encoders with three hidden units, in 3-D"
    draws = True

    def steps(self, request: Request) -> Sequence[Step]:
        runs = encoder_runs(request, "figure2", THREE_UNITS)
        return seed_by_seed([[_measurement(training) for training in seeds] for seeds in runs])

    def report(self, request: Request, output_dir: Path) -> Report:
        rows, spaces, sentences = [], {}, []
        for seeds in encoder_runs(request, "figure2", THREE_UNITS):
            found = findings([_measurement(training) for training in seeds], output_dir)
            row: dict[str, Any] = {"method": seeds[0].recipe.method, "title": title_of(seeds, len(found))}
            row |= spreads(found, [*(name for name in COLUMNS if name != "title"), *MEANS])
            if found:
                row["points"] = found[0]["points"]
                spaces[seeds[0].recipe.title] = (found[0]["points"], found[0]["cosine"])
                sentences.append(found[0]["sentences"])
            rows.append(row)
        count = f"{numbers(sentences) or 'no'} validation sentences"
        place, drawn = f"{corpus_of(request)}, {count}", f"{corpus_spec(request.corpus).name}, {count}"
        caption = f"Figure 2, features h_x of encoders with three hidden units: {place}; s.d. is over sentences"
        notes = [f"The picture shows the first seed that is there, and at most {POINTS:,} sentences."]
        return Report(
            [Table(f"{caption}{over_seeds(request)}.", COLUMNS, rows)],
            notes if spaces else [],
            (lambda path: feature_space_figure(spaces, path, drawn)) if spaces else None,
        )


def _measurement(training: Training) -> Measurement:
    return Measurement(
        f"{training.title}: feature space",
        training.folder,
        "feature_space.json",
        measure_feature_space,
        {"points": POINTS},
        (training,),
        training.data_dir,
    )


def measure_feature_space(runs: Sequence[Path], folder: Path, data_dir: Path | None, points: int) -> dict[str, Any]:
    """Features of the validation set: mean and deviation of each unit, some of the features, and `summarise`.

    `points` sentences are drawn at random, the same ones for all runs on a corpus.
    """
    vae, validation = best_encoder(runs[0]), corpus_of_run(runs[0], data_dir).splits["validation"]
    features = vae.encode(texts_of(validation), "pooled").astype(np.float64)  # (N, 3)
    chosen = np.sort(np.random.default_rng(0).permutation(len(features))[:points])
    measured = Evaluator(vae.model, tokenise(validation, vae.tokenizer)).measure()
    return {
        "sentences": len(features),
        **{f"mean_{unit}": float(column.mean()) for unit, column in enumerate(features.T, start=1)},
        **{f"sd_{unit}": float(column.std()) for unit, column in enumerate(features.T, start=1)},
        **summarise(measured),
        "points": features[chosen].round(4).tolist(),
    }
