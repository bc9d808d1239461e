"""Table 6, which the paper does not have: what latents hold, and what that costs in likelihood."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..data.batching import tokenise
from ..data.corpora import load_corpus
from ..evaluation.reading import labels_from_features
from ..evaluation.table import numbers
from ..training.recipe import Recipe
from ..training.run import PRETRAINING
from ..training.run_directory import RECIPE, require_history
from .controls import controls, of_labels, read_labelled
from .plots import price_figure
from .request import Request, rows_of
from .rows import (
    Report,
    Spread,
    Table,
    best_encoder,
    caption,
    corpus_of,
    findings,
    of_test_set,
    over_seeds,
    seed_by_seed,
    spread,
    spreads,
    title_of,
    with_missing,
)
from .steps import Inputs, Measurement, Step, Training

READ = {
    "label_mean": ("label:\nmean", "{:.1%}"),
    "label_draw": ("label:\none draw", "{:.1%}"),
    "label_pooled": ("label:\npooled", "{:.1%}"),
}
COLUMNS = {
    "title": ("model", "{}"),
    "nll": ("NLL", "{:.2f}"),
    "above_lm": ("NLL minus\nLM's", "{:+z.2f}"),
    "bound": ("-ELBO", "{:.2f}"),
    "kl": ("KL", "{:z.2f}"),
    "mi": ("MI", "{:z.2f}"),
    "au": ("AU", "{:d}"),
    **READ,
    "minutes": ("minutes", "{:.1f}"),
}
FIGURES = ("nll", "bound", "kl", "mi", "au", "rec", "nll_se", "nll_gap", "nll_gap_se", "mi_corpus", "cosine", "ppl")
LABELS = ("mean", "draw", "pooled")
PRETRAINED = {"title": ("model", "{}"), "kl": ("KL", "{:.2f}"), **READ}
PRETRAINED_CAPTION = (
    "The same labels, read from these encoders as their pretraining left them, before the joint training; KL on the "
    "validation set"
)
CONTROLS = {
    "title": ("control", "{}"),
    "accuracy": ("label", "{:.1%}"),
    "accuracy_se": ("s.e.", "{:.1%}"),
}
NOTE = "Minutes are those of a training with its evaluations, a pretraining included, on this machine."
LABEL_NOTE = (
    "Labels are read by logistic regression on standardised features of the frozen encoder: the mean of q(z|x), one "
    "draw of it, and the pooled features before it. The controls know no trained latent: untrained encoders are as the "
    "seeds make them; LSA is TF-IDF on as many singular vectors as z has dimensions, and TF-IDF is read by logistic "
    "regression, too; the bi-LSTM learns its features from the labels of all training documents. Standard errors are "
    "over test documents."
)
NO_LABELS = "The corpus has no labels: what could be read of them is left out."
NO_LABELS_FOUND = "No labels were read: the corpus has none, or these measurements are missing."


class Table6:
    """Likelihood, nats in z and labels read from it, and the same labels read without it."""

    summary = "beyond the paper: what the latent holds, read as labels, and what it costs in likelihood and minutes"
    draws = True

    def steps(self, request: Request) -> Sequence[Step]:
        runs = _runs(request)
        steps: list[Sequence[Step]] = [[request.evaluation(one) for one in seeds] for seeds in runs.values()]
        if not _labelled(request):
            return seed_by_seed(steps)
        latent = _latent(runs)
        steps += [[_labels(request, one) for one in seeds] for seeds in latent.values()]
        steps += [[_pretraining_labels(request, one) for one in seeds] for seeds in _pretrained(runs).values()]
        beside = [control.measurements for control in controls(request, list(latent))]
        once = [step for steps in beside if len(steps) < request.seeds for step in steps]
        return [*seed_by_seed([*steps, *(some for some in beside if len(some) == request.seeds)]), *once]

    def report(self, request: Request, output_dir: Path) -> Report:
        runs, spec = _runs(request), request.read
        evaluated = {
            method: [request.evaluation(one).read(output_dir) for one in seeds] for method, seeds in runs.items()
        }
        reports = [report for found in evaluated.values() for report in found if report]
        language = next((evaluated[method] for method in runs if method not in _latent(runs)), None)
        rows, known = [], []
        for method, seeds in runs.items():
            found = [report for report in evaluated[method] if report]
            row = {"method": seeds[0].recipe.method, "title": title_of(seeds, len(found)), **spreads(found, FIGURES)}
            if language and evaluated[method] is not language:
                row["above_lm"] = _of_all(_differences(evaluated[method], language), len(found))
            row |= _minutes(seeds, output_dir)
            if method in _latent(runs) and spec.labelled is not False:
                labels = findings([_labels(request, one) for one in seeds], output_dir)
                row |= _accuracies(labels, len(found))
                known += labels
            rows.append(row)
        tables = [Table(caption("What the latent holds, and what it costs", request, reports), COLUMNS, rows)]
        notes = [NOTE]
        if spec.labelled is not False:
            beside, found = _control_rows(request, _latent(runs), output_dir)
            known += found
            if known or spec.labelled is True:
                tables.append(Table(_label_caption(request, known), CONTROLS, beside))
            before = _pretrained_rows(request, runs, output_dir)
            if before:
                tables.append(Table(f"{PRETRAINED_CAPTION}{over_seeds(request)}.", PRETRAINED, before))
            notes.append(LABEL_NOTE if len(tables) > 1 else NO_LABELS_FOUND)
        else:
            notes.append(NO_LABELS)
        return Report(tables, notes, _picture(request, rows))


def _runs(request: Request) -> dict[str, list[Training]]:
    """The runs of every seed of each method. Raises ValueError where none has a latent."""
    runs = {method: request.trainings(method) for method in request.methods_or(rows_of("table6"))}
    if not _latent(runs):
        raise ValueError("table6 is about latents: at least one of --methods must have one")
    return runs


def _latent(runs: Mapping[str, list[Training]]) -> dict[str, list[Training]]:
    return {method: seeds for method, seeds in runs.items() if seeds[0].recipe.sizes.latent_size > 0}


def _pretrained(runs: Mapping[str, list[Training]]) -> dict[str, list[Training]]:
    return {method: seeds for method, seeds in runs.items() if seeds[0].recipe.pretraining is not None}


def _labelled(request: Request) -> bool:
    """Whether the corpus has labels, by its files where only these can say."""
    spec = request.read
    if spec.labelled != "auto":
        return bool(spec.labelled)
    return load_corpus(spec, data_dir=request.data_dir, limits=request.limits).labelled


def _labels(request: Request, training: Training) -> Measurement:
    return Measurement(
        f"{training.title}: labels read from z",
        training.folder,
        request.measured("latent-labels"),
        measure_latent_labels,
        of_labels(request),
        (training,),
        request.data_dir,
    )


def _pretraining_labels(request: Request, training: Training) -> Measurement:
    return replace(
        _labels(request, training),
        title=f"{training.title}: labels read from z after the pretraining",
        file=request.measured("pretraining-labels"),
        function=measure_pretraining_labels,
    )


def measure_latent_labels(inputs: Inputs, **texts: Any) -> dict[str, Any]:
    """Labels read from the mean, one draw and the pooled features of a run's frozen encoder."""
    vae = best_encoder(inputs.runs[0])
    loaded, train, said = read_labelled(inputs.data_dir, **texts)
    splits = [tokenise(rows, vae.tokenizer) for rows in (train, loaded.splits["test"])]
    return labels_from_features(vae.model, *splits) | said


def measure_pretraining_labels(inputs: Inputs, **texts: Any) -> dict[str, Any]:
    """The same of the encoder with which a run's joint training began, and its KL on the validation set.

    Raises FileNotFoundError where the pretraining, a run in a folder of the run's, is no longer there.
    """
    run = inputs.runs[0] / PRETRAINING
    best = Recipe.load(run / RECIPE).best_of(require_history(run))
    return measure_latent_labels(replace(inputs, runs=(run,)), **texts) | {"kl": best["kl"]}


def _pretrained_rows(request: Request, runs: Mapping[str, list[Training]], output_dir: Path) -> list[dict[str, Any]]:
    """The rows of the encoders before the joint training; none where nothing of them has been measured."""
    rows = []
    for method, seeds in _pretrained(runs).items():
        found = findings([_pretraining_labels(request, one) for one in seeds], output_dir)
        if found:
            row: dict[str, Any] = {"method": method, "title": title_of(seeds, len(found)), **spreads(found, ("kl",))}
            rows.append(row | _accuracies(found, len(found)))
    return rows


def _accuracies(labels: Sequence[Mapping[str, Any]], seeds: int) -> dict[str, Spread | None]:
    """What was read from features of each kind, with the standard errors; none of fewer seeds than the row tells of."""
    figures: dict[str, Spread | None] = {}
    for name in LABELS:
        read = spreads([one[name] or {} for one in labels], ("accuracy", "accuracy_se"))
        figures[f"label_{name}"] = _of_all(read["accuracy"], seeds)
        figures[f"label_{name}_se"] = _of_all(read["accuracy_se"], seeds)
    return figures


def _control_rows(
    request: Request, latent: Mapping[str, list[Training]], output_dir: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the controls, and what was found by those that read the documents of all."""
    rows: list[dict[str, Any]] = []
    known: list[dict[str, Any]] = []
    for control in controls(request, list(latent)):
        found = findings(control.measurements, output_dir)
        figures = found if control.key is None else [one[control.key] or {} for one in found]
        row: dict[str, Any] = {"name": control.name}
        row["title"] = with_missing(control.title, len(found), len(control.measurements))
        row |= spreads(figures, ("accuracy", "dimensions"))
        errors = spread([one.get("accuracy_se") for one in figures])
        rows.append(row | {"accuracy_se": None if errors is None else errors.mean})
        known += [one for one in found if "available" in one]
    return rows, known


def _differences(
    reports: Sequence[Mapping[str, Any] | None], others: Sequence[Mapping[str, Any] | None]
) -> Spread | None:
    """The NLL minus another model's, of each seed that both have."""
    return spread([one["nll"] - other["nll"] for one, other in zip(reports, others, strict=True) if one and other])


def _of_all(figure: Spread | None, seeds: int) -> Spread | None:
    """The figure, unless it is of fewer seeds than those that the row's title tells of."""
    return figure if figure is not None and len(figure.values) >= seeds else None


def _minutes(seeds: Sequence[Training], output_dir: Path) -> dict[str, Spread | None]:
    """Minutes of the runs that have come to their end, and how many of these were a pretraining's."""
    ends = [history[-1] for one in seeds if one.ended(output_dir) and (history := one.read(output_dir))]
    figures = {"minutes": "seconds", "pretraining_minutes": "pretraining_seconds"}
    return {name: spread([end[key] / 60 for end in ends if end.get(key) is not None]) for name, key in figures.items()}


def _label_caption(request: Request, known: Sequence[Mapping[str, Any]]) -> str:
    """How many classes, test documents and training documents there were, and how these were chosen."""
    if not known:
        return f"Labels of {corpus_of(request)}, read without a latent."
    classes, trained, there = (numbers(one[key] for one in known) for key in ("classes", "trained_on", "available"))
    tested = of_test_set(request, [one["sentences"] for one in known], "documents")
    of = f"all {trained}" if trained == there else f"{trained} of {there}, random and the same for all,"
    return (
        f"Labels of {corpus_of(request)}, read without a latent: accuracy on {tested}, {classes} "
        f"classes. Here and above, classifiers are fitted to {of} training documents{over_seeds(request)}."
    )


def _picture(request: Request, rows: Sequence[Mapping[str, Any]]) -> Any:
    """What draws the rows that have the figures for it; None where there is none."""
    height = "above_lm" if any(row.get("above_lm") for row in rows) else "nll"
    points = {row["title"]: row for row in rows if row.get(height) and row["au"] is not None}
    if not points:
        return None
    names = {"above_lm": "NLL minus the language model's, nats", "nll": "NLL, nats"}
    return partial(
        price_figure,
        {
            title: {
                "kl": row["kl"],
                "cost": row[height],
                "accuracy": row.get("label_mean"),
                "cost_se": row["nll_gap_se"].mean if row.get("nll_gap_se") else None,
            }
            for title, row in points.items()
        },
        cost=names[height],
        baseline=height == "above_lm",
        caption=f"{corpus_of(request)}{over_seeds(request)}",
    )
