"""Tables from results: CORPUS/METHOD/ directories that hold recipe.yaml, history.jsonl and evaluation.json."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configuration_seqvae import COLLAPSED_BELOW
from ..data.files import read_json
from ..evaluation.table import COLUMNS, how_likelihoods, markdown, numbers, precision_note, warning_of
from ..training.evaluations import of_these_weights
from ..training.recipe import Recipe
from ..training.run_directory import HISTORY, require_history
from .rows import spread

AVERAGED = [name for name in COLUMNS if name not in ("title", "nll_se")]
EVALUATION = "evaluation.json"
SEED_PREFIX = "seed"
"""Runs of several seeds of a method stand in METHOD/seed0, METHOD/seed1, ..."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run below a folder of results: its recipe, and the parts of its path that tell it from others."""

    folder: Path
    recipe: Recipe
    parts: tuple[str, ...]

    @classmethod
    def load(cls, corpus: Path, folder: Path) -> "Run":
        recipe = Recipe.load(folder / "recipe.yaml")
        told = (recipe.method, recipe.title.rpartition(", ")[2])  # the title of a pretraining ends with its folder
        return cls(folder, recipe, tuple(part for part in folder.relative_to(corpus).parts if part not in told))

    @property
    def title(self) -> str:
        return ", ".join([self.recipe.title, *self.parts])

    @property
    def but_for_the_seed(self) -> str:
        """What runs of several seeds have in common: the recipe without the seed and without where its texts are.

        The texts themselves are part of it, but for the test set, which a run need not know.
        """
        fields = self.recipe.model_dump(mode="json", exclude={"data_dir": True, "texts": {"test"}})
        fields["training"].pop("seed")
        return json.dumps(fields, sort_keys=True)


def results_markdown(directory: Path) -> str:
    """Every corpus under `directory` as a Markdown section: the evaluated runs, and those known by their history only.

    Below the runs of several seeds stand their means and standard deviations. Runs in their first epoch are left out,
    with a warning. Raises FileNotFoundError where there is no result, and ValueError for the folder of a run itself and
    for a file that is no result, which it names.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no folder {directory}")
    if (directory / HISTORY).is_file():
        raise ValueError(f"{directory} is a run: name the folder that holds its CORPUS/METHOD")
    sections = []
    for corpus in sorted(path for path in directory.iterdir() if path.is_dir()):
        runs = [Run.load(corpus, path.parent) for path in sorted(corpus.rglob(HISTORY)) if _has_figures(path)]
        tables = [text for text in (_evaluations(runs), _validation(runs)) if text]
        if tables:
            sections.append(f"### {corpus.name}\n\n" + "\n\n".join(tables))
    if not sections:
        raise FileNotFoundError(f"{directory} holds no CORPUS/METHOD/history.jsonl: nothing to tabulate")
    return "\n\n".join(sections)


def _has_figures(history: Path) -> bool:
    """Whether the run of a history has ended an epoch; one that is evaluated must have."""
    found = history.stat().st_size > 0 or (history.parent / EVALUATION).is_file()
    if not found:
        warnings.warn(f"{history.parent} is left out: the run has not ended its first epoch", stacklevel=3)
    return found


def _evaluations(runs: Sequence[Run]) -> str:
    found = {run: report | {"title": run.title} for run in runs if (report := _report(run.folder))}
    if not found:
        return ""
    reports = list(found.values())
    caption = (
        f"Test set, {numbers(report['sentences'] for report in reports)} sentences. Nats per sentence; NLL "
        f"{how_likelihoods(reports)}.{precision_note(reports)}"
    )
    return "\n\n".join([caption, markdown(reports), *_over_seeds(found, "Test set")])


def _validation(runs: Sequence[Run]) -> str:
    """The best epoch of runs that are not evaluated, and of several seeds how many collapsed."""
    rows: dict[Run, dict[str, Any]] = {}
    seeds: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        seeded = run.folder.name.startswith(SEED_PREFIX)
        if not seeded and _report(run.folder):
            continue
        history = require_history(run.folder)
        best = run.recipe.best_of(history)
        rows[run] = best | {"title": run.title, "epochs": len(history), "seconds": history[-1]["seconds"]}
        if seeded and best["au"] is not None:
            seeds.setdefault(run.title.removesuffix(f", {run.folder.name}"), []).append(best)
    if not rows:
        return ""
    collapsed = {title: sum(warning_of(best) != "" for best in found) for title, found in seeds.items()}
    counts = "; ".join(f"{title} {collapsed[title]} of {len(found)}" for title, found in seeds.items())
    verdict = f" Collapsed (KL or MI below {COLLAPSED_BELOW} nats): {counts}." if counts else ""
    caption = f"Validation set, best epoch of those run.{verdict}"
    return "\n\n".join([caption, markdown(list(rows.values())), *_over_seeds(rows, "Validation set, best epochs")])


def _over_seeds(rows: Mapping[Run, Mapping[str, Any]], what: str) -> list[str]:
    """A caption and a table of means over runs whose recipes differ in the seed alone; nothing without such runs."""
    groups: dict[str, dict[int, Run]] = {}
    for run in rows:
        groups.setdefault(run.but_for_the_seed, {}).setdefault(run.recipe.training.seed, run)
    means = []
    for group in groups.values():
        if len(group) > 1:
            found = [rows[run] for run in group.values()]
            first, *others = (run.parts for run in group.values())
            parts = [part for part in first if all(part in other for other in others)]
            title = ", ".join([next(iter(group.values())).recipe.title, *parts, f"{len(group)} seeds"])
            kind = found[0].get("tokenizer", "words")
            means.append(
                {"title": title, "tokenizer": kind}
                | {
                    name: spread(figures)
                    for name in AVERAGED
                    if None not in (figures := [row.get(name) for row in found])
                }
            )
    if not means:
        return []
    return [f"{what}: mean ± standard deviation (n - 1) over seeds.", markdown(means)]


def _report(run: Path) -> dict[str, Any] | None:
    """The evaluation of a run's best model; None where it has not been evaluated, or an earlier one was.

    Nor is there one where the file is of other texts than the run's, of some of them, or of shuffled words.
    """
    path = run / EVALUATION
    if not path.is_file():
        return None
    report = read_json(path, ("split", "sentences", "nll_samples", "nll_sentences", "nll_gap_se", "au"))
    if report["split"] != "test":
        raise ValueError(f"{path} is of the {report['split']} set; the table is of the test set")
    other = not report.get("own", True) or report.get("limit") is not None or report.get("shuffled")
    if other or not of_these_weights(report, run / "best"):
        return None
    return report | {"seconds": require_history(run)[-1]["seconds"]}
