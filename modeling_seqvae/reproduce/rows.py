"""Rows of a table: the figures of a method's seeds, gathered, and what they are of."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.corpora import CorpusSpec
from ..evaluation.table import how_likelihoods, numbers, precision_note
from .published import paper_settings, published
from .reporting import Spread, spread
from .request import Request
from .steps import Evaluation, Training


def read_all(evaluations: Sequence[Evaluation], output_dir: Path) -> list[dict[str, Any]]:
    """The figures of those evaluations that are there."""
    return [report for report in (evaluation.read(output_dir) for evaluation in evaluations) if report is not None]


def spreads(reports: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> dict[str, Spread | None]:
    """Figures over seeds, by key."""
    return {key: spread([report.get(key) for report in reports]) for key in keys}


def title_of(trainings: Sequence[Training], there: int) -> str:
    """A row's title, and how many of its seeds are there if some are missing."""
    title, seeds = trainings[0].recipe.title, len(trainings)
    if there == seeds:
        return title
    return f"{title} ({there} of {seeds} seeds)" if there else f"{title} (missing)"


def caption(what: str, request: Request, reports: Sequence[Mapping[str, Any]]) -> str:
    """What a table's figures are of, how they were estimated, and their unit."""
    parts = [f"{what}: {corpus_of(request)}"]
    if reports:
        sentences = numbers(report["sentences"] for report in reports)
        parts.append(f", {sentences} test sentences. Nats per sentence; NLL {how_likelihoods(reports)}")
    return "".join(parts) + f"{over_seeds(request)}.{precision_note(reports)}"


def corpus_of(request: Request) -> str:
    """The corpus's name, what of it was read, the preset, and what was changed for all rows."""
    name = request.corpus.name if isinstance(request.corpus, CorpusSpec) else request.corpus
    kinds = {"train": "training", "validation": "validation"}
    limits = [
        f"the first {request.limits[name]:,} {kind} documents" for name, kind in kinds.items() if name in request.limits
    ]
    preset = [f"preset {request.preset}"] if request.preset else []
    return ", ".join([name, *limits, *preset, *request.overrides])


def over_seeds(request: Request) -> str:
    """How figures of several seeds are shown."""
    return f"; mean ± standard deviation over {request.seeds} seeds" if request.seeds > 1 else ""


def beside(
    table: str, trainings: Sequence[Training], reports: Sequence[Mapping[str, Any]], output_dir: Path
) -> dict[str, float]:
    """The paper's figures of a row, as `paper_nll` and so on; none but on the corpora and documents it is about."""
    recipe = trainings[0].recipe
    figures = published(table, recipe.corpus.name).get(recipe.method, {})
    if not figures or not is_benchmark(trainings, reports, output_dir):
        return {}
    return {f"paper_{name}": value for name, value in figures.items()}


def is_benchmark(trainings: Sequence[Training], reports: Sequence[Mapping[str, Any]], output_dir: Path) -> bool:
    """Whether what was trained and measured on has the benchmark's numbers of documents."""
    documents = dict(paper_settings("published")["documents"])
    ends = [end for end in (training.at_the_end(output_dir) for training in trainings) if end]
    wanted = {name: documents[name] for name in ("train", "validation")}
    tested = {report["sentences"] for report in reports} or {documents["test"]}
    return bool(ends) and tested == {documents["test"]} and all(end["documents"] == wanted for end in ends)
