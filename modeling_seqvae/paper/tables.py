"""Tables from results: CORPUS/METHOD/ directories that hold recipe.yaml, history.jsonl and evaluation.json."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..evaluation.table import markdown
from ..evaluation.verdict import COLLAPSED_BELOW, collapsed
from ..training.recipe import Recipe

SEED_PREFIX = "seed"
"""Runs of several seeds of a method stand in METHOD/seed0, METHOD/seed1, ..."""


def results_markdown(directory: Path) -> str:
    """Every corpus under `directory` as a Markdown section: one table of evaluations, one of validation by seed.

    Raises FileNotFoundError where there is no result.
    """
    sections = []
    for corpus in sorted(path for path in directory.iterdir() if path.is_dir()):
        runs = sorted(path.parent for path in corpus.rglob("history.jsonl"))
        tables = [text for text in (_evaluations(runs), _seeds(runs)) if text]
        if tables:
            sections.append(f"### {corpus.name}\n\n" + "\n\n".join(tables))
    if not sections:
        raise FileNotFoundError(f"{directory} holds no CORPUS/METHOD/history.jsonl: nothing to tabulate")
    return "\n\n".join(sections)


def _evaluations(runs: Iterable[Path]) -> str:
    reports = []
    for run in runs:
        if (run / "evaluation.json").is_file():
            history = _history(run)
            report = json.loads((run / "evaluation.json").read_text("utf-8"))
            reports.append(report | {"seconds": history[-1]["seconds"]})
    if not reports:
        return ""
    first = reports[0]
    caption = (
        f"Test set, {first['sentences']:,} sentences; NLL by importance weighting with 500 samples (exact for a "
        f"language model) on the first {first['nll_sentences']:,}; nats per sentence."
    )
    return f"{caption}\n\n{markdown(sorted(reports, key=lambda report: report['title']))}"


def _seeds(runs: Iterable[Path]) -> str:
    """The last validation figures of each seed at its best epoch, and how many of the seeds collapsed."""
    seeded: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run.name.startswith(SEED_PREFIX):
            best = min(_history(run), key=lambda record: record["bound"])
            title = Recipe.load(run / "recipe.yaml").title
            seeded.setdefault(title, []).append(best | {"title": f"{title}, {run.name}"})
    if not seeded:
        return ""
    rows = [record for records in seeded.values() for record in records]
    counts = "; ".join(f"{title}: {sum(map(collapsed, found))} of {len(found)}" for title, found in seeded.items())
    caption = f"Validation set at the best epoch. Collapsed (KL below {COLLAPSED_BELOW} nats): {counts}."
    return f"{caption}\n\n{markdown(rows)}"


def _history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text("utf-8").splitlines()]
