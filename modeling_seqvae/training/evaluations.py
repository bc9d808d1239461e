"""Evaluations in a run's directory: of which weights and texts each is, and what it is called."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checksums import CHECKSUMS
from ..data.files import read_json, write_json
from ..loading import RECIPE
from .recipe import Recipe
from .run_directory import WEIGHTS


def weights_hash(checkpoint: Path) -> str | None:
    """The SHA-256 of the weights in a run's best/; None where there are none, or no note of it."""
    path = checkpoint / CHECKSUMS
    return read_json(path).get(WEIGHTS) if path.is_file() else None


def of_these_weights(report: Mapping[str, Any], checkpoint: Path) -> bool:
    """Whether an evaluation is of the weights in a run's best/; so is every one where they are no longer kept."""
    return weights_hash(checkpoint) in (None, report.get("weights"))


def of_its_corpus(report: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether an evaluation is on the corpus of a run. An older one, which does not say so, goes by the name."""
    return bool(report.get("own", report.get("corpus") == recipe.corpus.name))


def of_its_test_set(report: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether an evaluation is on the whole test set of a run's corpus, its words in order."""
    plain = report.get("split") == "test" and report.get("limit") is None and not report.get("shuffled")
    return plain and of_its_corpus(report, recipe)


def keep_evaluation(run: Path, report: Mapping[str, Any]) -> Path | None:
    """Write an evaluation into its run's directory; returns the file, or None where `run` is no run's directory.

    It is evaluation.json for its corpus's whole test set, a longer name for others, such as one on other texts or in
    another precision than that of the evaluation that is there. Of two which differ in the draws for the NLL the one
    with more for each sentence has the usual name, and of as many the one of more sentences, so that a quick look does
    not overwrite what took an hour, nor the other way round. One of other weights has no figures to keep, and is
    overwritten.
    """
    if not (run / RECIPE).is_file():
        return None
    own = of_its_corpus(report, Recipe.load(run / RECIPE))
    unusual = {
        report["corpus"].replace("/", "_"): not own,
        report["split"]: report["split"] != "test",
        f"first{report['limit']}": report["limit"] is not None,
        "shuffled": report["shuffled"],
        f"seed{report['seed']}": report["seed"] != 0,
    }
    path = run / f"{'-'.join(['evaluation', *(part for part, told in unusual.items() if told)])}.json"
    texts, before = report.get("texts", ""), _there(path, report).get("texts", report.get("texts", ""))
    if texts != before and own:  # it was written there by --output
        path.replace(_longer(path, before[:8]))
    elif texts != before:  # of two corpora of one name
        path = _longer(path, texts[:8])
    precision = report.get("precision", "no")
    if _there(path, report).get("precision", precision) != precision:
        path = _longer(path, "float32" if precision == "no" else precision)
    there = _there(path, report)
    if _draws(there) > _draws(report):
        path = _longer(path, f"nll{report['nll_sentences']}x{report['nll_samples']}")
    elif (0, 0) < _draws(there) < _draws(report):
        path.replace(_longer(path, f"nll{there['nll_sentences']}x{there['nll_samples']}"))
    write_json(path, report)
    return path


def _longer(path: Path, part: str) -> Path:
    return path.with_name(f"{path.stem}-{part}{path.suffix}")


def _there(evaluation: Path, new: Mapping[str, Any]) -> dict[str, Any]:
    """The report that a file holds of the same weights as a new one; nothing where there is none, or something else."""
    try:
        report = json.loads(evaluation.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return report if isinstance(report, dict) and report.get("weights") == new.get("weights") else {}


def _draws(report: Mapping[str, Any]) -> tuple[int, int]:
    """The draws of a sentence's NLL, fewer of which make it higher, and how many sentences it is of."""
    samples, sentences = report.get("nll_samples"), report.get("nll_sentences")
    return (samples, sentences) if isinstance(sentences, int) and isinstance(samples, int) else (0, 0)
