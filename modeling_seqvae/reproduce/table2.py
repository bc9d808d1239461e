"""Table 2: what aggressive training costs against max pooling."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .published import rows_of
from .reporting import Report, Spread, Table, spread
from .request import Request
from .rows import beside, corpus_of, over_seeds, title_of
from .steps import Step, Training

COLUMNS = {
    "title": ("model", "{}"),
    "hours": ("hours", "{:.2f}"),
    "paper_hours": ("hours\npaper", "{:.2f}"),
    "encoder_updates": ("encoder\nupdates", "{:,.0f}"),
    "decoder_updates": ("decoder\nupdates", "{:,.0f}"),
    "paper_updates": ("updates\npaper", "{:,.0f}"),
    "epochs": ("epochs", "{:.0f}"),
    "best_hours": ("hours to\nbest", "{:.2f}"),
    "best_encoder_updates": ("encoder\nto best", "{:,.0f}"),
    "best_decoder_updates": ("decoder\nto best", "{:,.0f}"),
    "best_epoch": ("best\nepoch", "{:.0f}"),
}
RATIO_COLUMNS = {key: (heading, "{}" if key == "title" else "{:.2f}") for key, (heading, _) in COLUMNS.items()}
NOTE = (
    "Hours are wall time in updates and evaluations, on this machine, with what ran beside them; updates are those of "
    "encoder and decoder, to the end of the run and to its best epoch on the validation set."
)


class Table2:
    """Hours and updates of the encoder and of the decoder, and their ratio."""

    summary = "hours and updates of aggressive training against max pooling"
    draws = False

    def steps(self, request: Request) -> Sequence[Step]:
        methods = self._methods(request)
        return [request.training(method, seed) for seed in range(request.seeds) for method in methods]

    def report(self, request: Request, output_dir: Path) -> Report:
        rows: list[dict[str, Any]] = []
        ends: list[Mapping[str, Any]] = []
        for method in self._methods(request):
            trainings = request.trainings(method)
            ends += [training.at_the_end(output_dir) for training in trainings]
            costs = [cost for cost in (_cost(training, output_dir) for training in trainings) if cost is not None]
            figures = {key: spread([cost[key] for cost in costs]) for key in COST}
            row = {"method": trainings[0].recipe.method, "title": title_of(trainings, len(costs)), **figures}
            rows.append(row | beside("table2", trainings, (), output_dir))
        tables = [Table(f"Table 2: {corpus_of(request)}{over_seeds(request)}.", COLUMNS, rows)]
        ratios = [ratio for ratio in (_ratio(row, rows[-1]) for row in rows[:-1]) if ratio]
        if ratios:
            tables.append(Table(f"As multiples of {rows[-1]['title']}.", RATIO_COLUMNS, ratios))
        return Report(tables, [NOTE, *_unlike(ends)])

    def _methods(self, request: Request) -> list[str]:
        methods = request.methods_or(rows_of("table2"))
        if len(methods) < 2:
            raise ValueError("table2 compares at least two methods; the last of --methods is what the others are of")
        return methods


COST = ("hours", "encoder_updates", "decoder_updates", "epochs", *(key for key in COLUMNS if key.startswith("best_")))


def _cost(training: Training, output_dir: Path) -> dict[str, float] | None:
    """What a run took until its end, and until its best epoch; None where it has not come to its end."""
    history = training.read(output_dir)
    if not history or not training.ended(output_dir):
        return None
    last, best = history[-1], training.recipe.best_of(history)
    found = {"epochs": last["epoch"], "best_epoch": best["epoch"]}
    for prefix, record in (("", last), ("best_", best)):
        found[f"{prefix}hours"] = record["seconds"] / 3600
        found |= {f"{prefix}{name}": record[name] for name in ("encoder_updates", "decoder_updates")}
    return found


def _unlike(ends: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note where runs were not computed by the same number of threads, or not on the same device."""
    found = sorted({f"{end['threads']} on {end['device']}" for end in ends if "threads" in end})
    return [f"The runs do not compare in hours: their threads were {', '.join(found)}."] if len(found) > 1 else []


def _ratio(row: dict[str, Any], to: dict[str, Any]) -> dict[str, Any] | None:
    """The means of a row over those of another; None where one of them is missing."""
    ratio = {"method": row["method"], "title": row["title"]}
    for key in COLUMNS:
        above, below = row.get(key), to.get(key)
        if key == "title" or above is None or below is None:
            continue
        above, below = (value.mean if isinstance(value, Spread) else value for value in (above, below))
        if below:
            ratio[key] = above / below
    return ratio if "epochs" in ratio else None
