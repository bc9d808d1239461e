"""What targets are made of: tables, rows over seeds, and the trained encoders that they look at."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from accelerate import Accelerator

from ..data.corpora import Corpus, load_corpus
from ..data.corpus_spec import CorpusSpec
from ..evaluation.table import how_likelihoods, markdown, numbers, precision_note, table
from ..text import SeqVAE
from ..training.checkpoint import load_best
from ..training.recipe import Recipe
from ..training.run_directory import RECIPE
from .request import Request, paper_settings, published, rows_of
from .steps import Evaluation, Measurement, Step, Training


@dataclass(frozen=True)
class Spread:
    """The figures of several seeds. Formatted, a mean and a standard deviation: `"{:.2f}".format(Spread([1, 2]))`.

    The deviation is the sample's, with n - 1; of a single figure there is none. An integer's format shows one digit
    after the point.
    """

    values: tuple[float, ...]

    def __format__(self, form: str) -> str:
        if len(self.values) == 1:
            return format(self.values[0], form)
        form = f"{form[:-1]}.1f" if form.endswith("d") else form
        return f"{format(self.mean, form)} ± {format(self.deviation, form.replace('+', ''))}"

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        return stdev(self.values) if len(self.values) > 1 else math.nan

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all values, and what is made of them."""
        found: dict[str, Any] = {"mean": self.mean, "values": list(self.values)}
        return found | ({"sd": self.deviation} if len(self.values) > 1 else {})


def spread(values: Sequence[float | None]) -> Spread | None:
    """The figures of the seeds that have one; None where none has."""
    present = tuple(value for value in values if value is not None)
    return Spread(present) if present else None


@dataclass(frozen=True)
class Table:
    """A caption and rows; `columns` maps a row's key to a heading and a format, in order, as evaluation.table has it.

    A figure is a number, a text or a `Spread`; one that a row lacks is shown as a dash, and a column that no row has
    is left out. All of a row, also what no column shows, goes into the JSON.
    """

    caption: str
    columns: Mapping[str, tuple[str, str]]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Report:
    """Tables, sentences below them, and what draws the picture into a PNG, if the target has one."""

    tables: Sequence[Table]
    notes: Sequence[str] = ()
    picture: Callable[[Path], None] | None = field(default=None, compare=False)

    def markdown(self) -> str:
        """For a document: captions, tables and notes."""
        parts = [f"{part.caption}\n\n{markdown(part.rows, part.columns)}" for part in self.tables]
        return "\n\n".join([*parts, *self.notes])

    def text(self) -> str:
        """For a terminal."""
        parts = [table(part.rows, part.caption, part.columns) for part in self.tables]
        return "\n\n".join([*parts, *self.notes])

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every row with all it has."""
        tables = [{"caption": part.caption, "rows": [_plain(row) for row in part.rows]} for part in self.tables]
        return {"tables": tables, "notes": list(self.notes)}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.as_dict() if isinstance(value, Spread) else value for key, value in row.items()}


def spreads(reports: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> dict[str, Spread | None]:
    """Figures over seeds, by key."""
    return {key: spread([report.get(key) for report in reports]) for key in keys}


def title_of(trainings: Sequence[Training], there: int) -> str:
    """The title of a row of runs, and how many of these are there if some are missing."""
    return with_missing(trainings[0].recipe.title, there, len(trainings))


def with_missing(title: str, there: int, seeds: int) -> str:
    """A row's title, and how many of its seeds are there if some are missing."""
    if there == seeds:
        return title
    return f"{title} ({there} of {seeds} seeds)" if there else f"{title} (missing)"


def caption(what: str, request: Request, reports: Sequence[Mapping[str, Any]]) -> str:
    """What a table's figures are of, how they were estimated, and their unit."""
    parts = [f"{what}: {corpus_of(request)}"]
    if reports:
        tested = of_test_set(request, [report["sentences"] for report in reports])
        parts.append(f", {tested}. Nats per sentence; NLL {how_likelihoods(reports)}")
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


def of_test_set(request: Request, counts: Sequence[int], what: str = "sentences") -> str:
    """How many test texts the measurements counted: where a limit cut the set, the first of it."""
    first = "the first " if {request.limits.get("test")} == set(counts) else ""
    return f"{first}{numbers(counts) or 'no'} test {what}"


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


def encoder_runs(request: Request, target: str, *overrides: str) -> list[list[Training]]:
    """The runs of every seed of each method that is asked for, or else of the target's own methods.

    Raises ValueError for a method without a latent, and what `Request.trainings` raises.
    """
    runs = [request.trainings(method, *overrides) for method in request.methods_or(rows_of(target))]
    for recipe in (seeds[0].recipe for seeds in runs):
        if recipe.model.get("latent_size") == 0:
            raise ValueError(f"--methods {recipe.method}: {recipe.title} has no latent; leave it out")
    return runs


def seed_by_seed(measurements: Sequence[Sequence[Step]]) -> list[Step]:
    """The steps of all rows' first seed, then of their second..."""
    return [step for steps in zip(*measurements, strict=True) for step in steps]


def findings(measurements: Sequence[Evaluation | Measurement], output_dir: Path) -> list[dict[str, Any]]:
    """What was found, of those measurements that have been made."""
    return [found for found in (one.read(output_dir) for one in measurements) if found is not None]


def best_encoder(run: Path) -> SeqVAE:
    """The best model of a run, on the device that is there."""
    return load_best(str(run), Accelerator().device)


def corpus_of_run(run: Path, data_dir: Path | None, test_limit: int | None = None) -> Corpus:
    """The texts that a run was trained on, and those to test it on."""
    recipe = Recipe.load(run / RECIPE)
    limits = recipe.limits | ({} if test_limit is None else {"test": test_limit})
    return load_corpus(recipe.corpus, data_dir=data_dir or recipe.data_dir, limits=limits)
