"""Figures 2 to 4 of the paper, and where in a sentence the latent saves nats."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data.batching import tokenise
from ..data.columns import texts_of
from ..evaluation.evaluate import Evaluator, summarise
from ..evaluation.positions import DRAWS, PositionEvaluator, position_report
from ..evaluation.reading import PROBED_WORDS, read_from_means
from ..evaluation.table import numbers
from ..training.recipe import Recipe, corpus_spec
from .plots import BAND, draw_curves, feature_space_figure, positions_figure
from .request import Request
from .rows import (
    Report,
    Spread,
    Table,
    best_encoder,
    corpus_of,
    corpus_of_run,
    encoder_runs,
    findings,
    of_test_set,
    over_seeds,
    seed_by_seed,
    spread,
    spreads,
    title_of,
)
from .steps import Inputs, Measurement, Step, Training

CURVES = {
    "title": ("model", "{}"),
    "best_epoch": ("best\nepoch", "{:.0f}"),
    "best_kl": ("KL\nthere", "{:z.2f}"),
    "best_cosine": ("cosine\nthere", "{:z.2f}"),
    "epochs": ("last\nepoch", "{:.0f}"),
    "kl": ("KL\nthere", "{:z.2f}"),
    "cosine": ("cosine\nthere", "{:z.2f}"),
}


class Curves:
    """KL and pairwise cosine similarity on the validation set, epoch by epoch."""

    draws = True

    def __init__(self, name: str, summary: str):
        self.name = name
        self.summary = summary

    def steps(self, request: Request) -> Sequence[Step]:
        return seed_by_seed(encoder_runs(request, self.name))

    def report(self, request: Request, output_dir: Path) -> Report:
        rows, curves = [], {}
        for trainings in encoder_runs(request, self.name):
            title, histories = _histories(trainings, output_dir)
            ends = [_ends(trainings[0].recipe, history) for history in histories]
            figures = {key: spread([end[key] for end in ends]) for key in CURVES if key != "title"}
            rows.append({"method": trainings[0].recipe.method, "title": title, **figures})
            if histories:
                curves[title] = histories
        what = f"{corpus_of(request)}, validation set"
        caption = (
            f"{self.name.capitalize()[:-1]} {self.name[-1]}: {what}; KL in nats per sentence{over_seeds(request)}."
        )
        thin = f"; mean and each of {request.seeds} seeds" if request.seeds > 1 else ""
        picture = partial(draw_curves, curves, caption=what + thin) if curves else None
        return Report([Table(caption, CURVES, rows)], picture=picture)


def _histories(trainings: Sequence[Training], output_dir: Path) -> tuple[str, list[list[dict[str, Any]]]]:
    """A row's title and the histories of the seeds that came to their end; where none did, of those that began."""
    begun = [(training, history) for training in trainings if (history := training.read(output_dir))]
    ended = [history for training, history in begun if training.ended(output_dir)]
    if ended or not begun:
        return title_of(trainings, len(ended)), ended
    epochs = numbers(len(history) for _, history in begun)
    return f"{trainings[0].recipe.title} (stopped after epoch {epochs})", [history for _, history in begun]


def _ends(recipe: Recipe, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the best and the last epoch gave."""
    best, last = recipe.best_of(history), history[-1]
    found = {"best_epoch": best["epoch"], "epochs": last["epoch"]}
    for prefix, record in (("best_", best), ("", last)):
        found |= {f"{prefix}{key}": record[key] for key in ("kl", "cosine")}
    return found


THREE_UNITS = "model.encoder_hidden_size=3"

POINTS = 2_000
"""Sentences that are drawn, at most; the figures are of all."""

FEATURE_SPACES = {
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
        return seed_by_seed([[_feature_space(training) for training in seeds] for seeds in runs])

    def report(self, request: Request, output_dir: Path) -> Report:
        rows, spaces, sentences = [], {}, []
        for seeds in encoder_runs(request, "figure2", THREE_UNITS):
            found = findings([_feature_space(training) for training in seeds], output_dir)
            row: dict[str, Any] = {"method": seeds[0].recipe.method, "title": title_of(seeds, len(found))}
            row |= spreads(found, [*(name for name in FEATURE_SPACES if name != "title"), *MEANS])
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
            [Table(f"{caption}{over_seeds(request)}.", FEATURE_SPACES, rows)],
            notes if spaces else [],
            (lambda path: feature_space_figure(spaces, path, drawn)) if spaces else None,
        )


def _feature_space(training: Training) -> Measurement:
    return Measurement(
        f"{training.title}: feature space",
        training.folder,
        "feature_space.json",
        measure_feature_space,
        {"points": POINTS},
        (training,),
        training.data_dir,
    )


def measure_feature_space(inputs: Inputs, points: int) -> dict[str, Any]:
    """Features of the validation set: mean and deviation of each unit, some of the features, and `summarise`.

    `points` sentences are drawn at random, the same ones for all runs on a corpus.
    """
    vae, validation = best_encoder(inputs.runs[0]), corpus_of_run(inputs.runs[0], inputs.data_dir).splits["validation"]
    features = vae.encode(texts_of(validation), "pooled").astype(np.float64)  # (N, 3)
    chosen = np.sort(np.random.default_rng(0).permutation(len(features))[:points])
    measured = Evaluator(vae.model, tokenise(validation, vae.tokenizer), precision="no").measure()
    return {
        "sentences": len(features),
        **{f"mean_{unit}": float(column.mean()) for unit, column in enumerate(features.T, start=1)},
        **{f"sd_{unit}": float(column.std()) for unit, column in enumerate(features.T, start=1)},
        **summarise(measured),
        "points": features[chosen].round(4).tolist(),
    }


SAVED = {
    "title": ("model", "{}"),
    "rec": ("Rec", "{:.2f}"),
    "kl": ("KL", "{:z.2f}"),
    "told": ("told", "{:z.2f}"),
    "told_first": ("told:\nfirst word", "{:z.2f}"),
    "told_between": ("told:\nbetween", "{:z.2f}"),
    "told_end": ("told:\n</s>", "{:z.2f}"),
    "later_share": ("beyond\n3 words", "{:.0%}"),
    "saved": ("saved", "{:z.2f}"),
    "saved_first": ("saved:\nfirst word", "{:z.2f}"),
    "saved_between": ("saved:\nbetween", "{:z.2f}"),
    "saved_end": ("saved:\n</s>", "{:z.2f}"),
}
READ = {
    "title": ("model", "{}"),
    "length_r2": ("length,\nR²", "{:z.2f}"),
    "first_word_accuracy": ("first\nword", "{:.1%}"),
    "first_word_majority": ("first word,\nmajority", "{:.1%}"),
    "label_accuracy": ("label", "{:.1%}"),
    "label_majority": ("label,\nmajority", "{:.1%}"),
}
POSITION_CURVES = ("from_start", "from_end")
NOTE = (
    "Told: nats that z spares the decoder beyond what the words before tell, from few draws and therefore estimated "
    "somewhat too high; saved: against a z of the prior, which misleads it. Each is the sum of the first word, `</s>` "
    "and what is between. A majority is the accuracy of always giving the commonest answer of the training sentences; "
    "always giving their mean length has an R² of 0."
)
SHARE_NOTE = (
    "Beyond 3 words: the share of what is told that lies at the fourth word and later ones, `</s>` left out; a "
    "dash where less than a tenth of a nat is told."
)


class Positions:
    """Nats that z saves at each word, and what linear probes read from its mean."""

    summary = "beyond the paper: the nats that z saves at each word, and what can be read from its mean"
    draws = True

    def steps(self, request: Request) -> Sequence[Step]:
        runs = encoder_runs(request, "positions")
        return seed_by_seed([[_positions(request, training) for training in seeds] for seeds in runs])

    def report(self, request: Request, output_dir: Path) -> Report:
        saved, read, curves, sentences = [], [], {}, []
        for seeds in encoder_runs(request, "positions"):
            found = findings([_positions(request, training) for training in seeds], output_dir)
            row = {"method": seeds[0].recipe.method, "title": title_of(seeds, len(found))}
            keys = [*(name for name in SAVED if name != "title"), "told_later"]
            mean = _mean_curves(found)
            saved.append(row | spreads(found, [*keys, *(f"{key}_se" for key in keys)]) | mean)
            read.append(row | _read([one["read"] for one in found]))
            sentences += [one["sentences"] for one in found]
            if mean:
                curves[seeds[0].recipe.title] = mean
        count = of_test_set(request, sentences)
        place, drawn = f"{corpus_of(request)}, {count}", f"{corpus_spec(request.corpus).name}, {count}"
        averaged = f"; means of {request.seeds} seeds" if request.seeds > 1 else ""
        of_saved = f"Nats per sentence that z ~ q(z|x) tells and saves, {DRAWS} draws: {place}"
        of_read = f"What linear probes read from the mean of q(z|x), {PROBED_WORDS} first words at most: {place}"
        return Report(
            [
                Table(f"{of_saved}{over_seeds(request)}.", SAVED, saved),
                Table(f"{of_read}{over_seeds(request)}.", READ, read),
            ],
            [NOTE, SHARE_NOTE] if any(row["later_share"] for row in saved) else [NOTE],
            (lambda path: positions_figure(curves, path, f"{drawn}{averaged}; bands: ± {BAND} s.e."))
            if curves
            else None,
        )


def _positions(request: Request, training: Training) -> Measurement:
    return Measurement(
        f"{training.title}: positions",
        training.folder,
        request.measured("positions"),
        measure_positions,
        {"draws": DRAWS, "limit": request.limits.get("test")},
        (training,),
        request.data_dir,
    )


def measure_positions(inputs: Inputs, draws: int, limit: int | None) -> dict[str, Any]:
    """The report of `position_report` on the test set, and what `read_from_means` reads, as `read`."""
    vae, corpus = best_encoder(inputs.runs[0]), corpus_of_run(inputs.runs[0], inputs.data_dir, limit)
    test = corpus.splits["test"]
    costs = PositionEvaluator(vae.model, tokenise(test, vae.tokenizer), precision="no").token_costs(draws)
    return position_report(costs) | {"read": read_from_means(vae, corpus.splits["train"], test)}


def _mean_curves(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """The mean of the curves of several seeds, which are of the same sentences."""
    if not found:
        return {}
    return {
        name: {key: np.mean([one[name][key] for one in found], 0).tolist() for key in found[0][name]}
        for name in POSITION_CURVES
    }


def _read(found: Sequence[Mapping[str, Any]]) -> dict[str, Spread | None]:
    """The figures of the probes: `length_r2`, `label_accuracy` and so on."""
    names = {f"{probe}_{key}": (probe, key) for one in found for probe in ("length", "first_word", "label")
             for key in one[probe] or ()}  # fmt: skip
    return {
        name: spread([one[probe][key] for one in found if one[probe] is not None])
        for name, (probe, key) in names.items()
    }
