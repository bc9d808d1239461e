"""How long a recipe needs to the quality of the paper's: validation bound against measured time.

    python benchmarks/time_to_quality.py --paper RUN [RUN ...] --fast RUN [RUN ...] --data-dir DIR

Each RUN is a folder with recipe.yaml and history.jsonl; the runs of a side are of one recipe and differ in their seeds.
What happened at which update is taken from the histories, what an update and an evaluation cost is measured here: runs
that lasted hours, at different times and beside other work, cannot be compared by their own seconds. Two processes, one
a recipe, train on the same batches in turn, a few dozen updates at a time, so that both meet the same machine; then
each evaluates the validation set, in turn as well. Writing checkpoints is left out on both sides.

Writes docs/performance/time_to_quality.json and docs/images/time_to_quality.png; benchmarks/report.py makes the table.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from measuring import Machine, write_report
from turns import SIDES, measure

from modeling_seqvae.evaluation.drawing import STYLES, plain_axes, require_matplotlib
from modeling_seqvae.training.recipe import Recipe
from modeling_seqvae.training.run_directory import require_history

ROOT = Path(__file__).resolve().parents[1]
BAND = 0.05
"""Nats within which a bound counts as the paper's."""

TICKS = [factor * power for power in (0.1, 1, 10, 100, 1000) for factor in (1, 2, 5)]
"""Minutes that a logarithmic axis may name."""


@dataclass(frozen=True)
class Run:
    """A run of a recipe: what it was told, and what it found after each epoch."""

    recipe: Recipe
    history: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "Run":
        history = require_history(folder)
        return cls(Recipe.load(folder / "recipe.yaml"), history)

    @property
    def seed(self) -> int:
        return self.recipe.training.seed


@dataclass(frozen=True)
class Cost:
    """Seconds of an update, on average over an epoch's batches, and of an evaluation of the validation set."""

    update: float
    evaluation: float

    def seconds(self, record: Mapping[str, Any], evaluations: int) -> float:
        """What it took to get to a record of a history, the `evaluations`-th, with its evaluation."""
        return record["decoder_updates"] * self.update + evaluations * self.evaluation

    def course(self, run: Run) -> list[dict[str, Any]]:
        """The epochs of a run with their seconds."""
        keys = ("epoch", "bound", "kl", "au")
        return [
            {"seconds": self.seconds(record, number), **{key: record[key] for key in keys}}
            for number, record in enumerate(run.history, start=1)
        ]


def recipe_of(runs: Sequence[Run], side: str) -> Recipe:
    """The one recipe of a side's runs. Raises ValueError where they differ in more than their seed and folders."""
    alike = [_without_seed(run.recipe) for run in runs]
    if any(recipe != alike[0] for recipe in alike):
        raise ValueError(f"the runs of --{side} are of different recipes: they may differ in training.seed only")
    return runs[0].recipe


def _without_seed(recipe: Recipe) -> dict[str, Any]:
    told = recipe.model_dump(exclude={"data_dir"})
    del told["training"]["seed"]
    return told


def require_comparable(paper: Recipe, fast: Recipe) -> None:
    """Raise ValueError where two recipes are not of the same model, on the same corpus."""
    for field in ("model", "corpus", "limits"):
        if getattr(paper, field) != getattr(fast, field):
            raise ValueError(f"the recipes differ in {field}: their bounds are not of the same thing")


def compare(runs: Mapping[str, Sequence[Run]], costs: Mapping[str, Cost]) -> dict[str, Any]:
    """When the paper's recipe has its best bound, and when each fast run first comes within `BAND` nats of it.

    With several of the paper's runs, the target is the mean of their best bounds, and so are its seconds, KL and AU.
    """
    courses = {side: [costs[side].course(run) for run in runs[side]] for side in SIDES}
    bests = [_best(course) for course in courses["paper"]]
    target = {key: mean(best[key] for best in bests) for key in ("seconds", "bound", "kl", "au")}
    fast = []
    for run, course in zip(runs["fast"], courses["fast"], strict=True):
        reached = next((point for point in course if point["bound"] <= target["bound"] + BAND), None)
        fast.append({"seed": run.seed, "reached": reached, "best": _best(course)})
    return {
        "band": BAND,
        "paper": {
            **target,
            "runs": [{"seed": run.seed, **best} for run, best in zip(runs["paper"], bests, strict=True)],
        },
        "fast": fast,
        "courses": courses,
    }


def _best(course: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return dict(min(course, key=lambda point: point["bound"]))


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Validation bound against measured time: the whole course, and the end of it."""
    figure = require_matplotlib()(figsize=(8, 3.2), layout="constrained")
    whole, end = figure.subplots(1, 2)
    target, band = report["paper"]["bound"], report["band"]
    for axis in (whole, end):
        for side, (colour, marker, line) in zip(SIDES, STYLES, strict=False):
            for number, course in enumerate(report["courses"][side]):
                axis.plot(
                    [point["seconds"] / 60 for point in course],
                    [point["bound"] for point in course],
                    label=report["titles"][side] if number == 0 else None,
                    color=colour, marker=marker, linestyle=line, linewidth=0.9, markersize=2.5,
                )  # fmt: skip
        axis.axhline(target, color="0.3", linewidth=0.8, label="the paper's best")
        axis.axhspan(target, target + band, color="0.8", label=f"within {band:g} nats of it", zorder=0)
        axis.set_xlabel("minutes, measured", fontsize=8)
        plain_axes(axis)
    whole.set_xscale("log")
    minutes = [
        point["seconds"] / 60 for courses in report["courses"].values() for course in courses for point in course
    ]
    whole.set_xticks([tick for tick in TICKS if min(minutes) <= tick <= max(minutes)])
    whole.xaxis.set_major_formatter("{x:g}")
    whole.xaxis.set_minor_formatter("")
    whole.set_ylabel("-ELBO of the validation set, nats per sentence", fontsize=8)
    whole.legend(fontsize=7, frameon=False)
    lowest = min(point["bound"] for courses in report["courses"].values() for course in courses for point in course)
    end.set_ylim(min(target, lowest) - 0.2, target + 1.5)
    end.set_title("the end", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", nargs="+", type=Path, required=True, metavar="RUN", help="of the paper's recipe")
    parser.add_argument("--fast", nargs="+", type=Path, required=True, metavar="RUN", help="of the other recipe")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the corpus is; default: as in the recipes")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each recipe")
    parser.add_argument("--updates", type=int, default=30, help="of a turn")
    parser.add_argument("--evaluations", type=int, default=2, help="of each recipe")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance" / "time_to_quality.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "images" / "time_to_quality.png")
    return parser.parse_args()


def _main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)  # which is what the report tells of the machine
    runs = {side: [Run.read(folder) for folder in getattr(given, side)] for side in SIDES}
    recipes = {side: recipe_of(runs[side], side) for side in SIDES}
    require_comparable(*recipes.values())
    measured = measure(recipes, given.data_dir, given.threads, given.rounds, given.updates, given.evaluations)
    costs = {side: Cost(cost["update"], cost["evaluation"]) for side, cost in measured["costs"].items()}
    report = {
        "machine": asdict(Machine.of(torch.device("cuda" if torch.cuda.is_available() else "cpu"))),
        "corpus": recipes["paper"].corpus.name,
        "title": recipes["paper"].title,
        "model": recipes["paper"].model,
        "titles": {"paper": "the paper's recipe", "fast": "the fast recipe"},
        "recipes": {side: recipe.training.model_dump(exclude={"seed"}) for side, recipe in recipes.items()},
        "measured": measured,
        **compare(runs, costs),
    }
    write_report(given.output, report)
    draw(report, given.figure)
    print(f"written: {given.output}, {given.figure}")


if __name__ == "__main__":
    _main()
