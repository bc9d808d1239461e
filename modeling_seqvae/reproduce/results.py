"""Tables from results: CORPUS/METHOD/ directories that hold recipe.yaml, history.jsonl and evaluation.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..configuration_seqvae import COLLAPSED_BELOW
from ..data.files import read_json
from ..evaluation.table import collapsed, how_likelihoods, markdown, numbers, precision_note
from ..training.recipe import Recipe
from ..training.run_directory import HISTORY, of_these_weights, require_history

SEED_PREFIX = "seed"
"""Runs of several seeds of a method stand in METHOD/seed0, METHOD/seed1, ..."""


def results_markdown(directory: Path) -> str:
    """Every corpus under `directory` as a Markdown section: the evaluated runs, and those known by their history only.

    Raises FileNotFoundError where there is no result, and ValueError that names a file which is not one.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no folder {directory}")
    sections = []
    for corpus in sorted(path for path in directory.iterdir() if path.is_dir()):
        runs = {path.parent: _title(corpus, path.parent) for path in sorted(corpus.rglob(HISTORY))}
        tables = [text for text in (_evaluations(runs), _validation(runs)) if text]
        if tables:
            sections.append(f"### {corpus.name}\n\n" + "\n\n".join(tables))
    if not sections:
        raise FileNotFoundError(f"{directory} holds no CORPUS/METHOD/history.jsonl: nothing to tabulate")
    return "\n\n".join(sections)


def _title(corpus: Path, run: Path) -> str:
    """The method's title, and what else tells the run from others: its seed, its settings."""
    recipe = Recipe.load(run / "recipe.yaml")
    return ", ".join([recipe.title, *(part for part in run.relative_to(corpus).parts if part != recipe.method)])


def _evaluations(runs: Mapping[Path, str]) -> str:
    found = [(title, _report(run)) for run, title in runs.items()]
    reports = [report | {"title": title} for title, report in found if report]
    if not reports:
        return ""
    caption = (
        f"Test set, {numbers(report['sentences'] for report in reports)} sentences. Nats per sentence; NLL "
        f"{how_likelihoods(reports)}.{precision_note(reports)}"
    )
    return f"{caption}\n\n{markdown(reports)}"


def _validation(runs: Mapping[Path, str]) -> str:
    """The best epoch of runs that are not evaluated, and of several seeds how many collapsed."""
    rows: list[dict[str, Any]] = []
    seeds: dict[str, list[dict[str, Any]]] = {}
    for run, title in runs.items():
        seeded = run.name.startswith(SEED_PREFIX)
        if not seeded and _report(run):
            continue
        history = require_history(run)
        best = Recipe.load(run / "recipe.yaml").best_of(history)
        rows.append(best | {"title": title, "epochs": len(history)})
        if seeded and best["au"] is not None:
            seeds.setdefault(title.removesuffix(f", {run.name}"), []).append(best)
    if not rows:
        return ""
    counts = "; ".join(f"{title} {sum(map(collapsed, found))} of {len(found)}" for title, found in seeds.items())
    verdict = f" Collapsed (KL below {COLLAPSED_BELOW} nats): {counts}." if counts else ""
    return f"Validation set, best epoch of those run.{verdict}\n\n{markdown(rows)}"


def _report(run: Path) -> dict[str, Any] | None:
    """The evaluation of a run's best model; None where it has not been evaluated, or an earlier one was.

    Nor is there one where the file is of other texts than the run's.
    """
    path = run / "evaluation.json"
    if not path.is_file():
        return None
    report = read_json(path, ("split", "sentences", "nll_samples", "nll_sentences", "nll_gap_se", "au"))
    if report["split"] != "test":
        raise ValueError(f"{path} is of the {report['split']} set; the table is of the test set")
    if not report.get("own", True) or not of_these_weights(report, run / "best"):
        return None
    return report | {"seconds": require_history(run)[-1]["seconds"]}
