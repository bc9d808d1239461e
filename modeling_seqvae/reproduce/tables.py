"""Tables 1 to 4 of the paper, its own figures beside ours on its corpora."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .request import Request, rows_of
from .rows import (
    Report,
    Spread,
    Table,
    beside,
    caption,
    corpus_of,
    encoder_runs,
    findings,
    over_seeds,
    seed_by_seed,
    spread,
    spreads,
    title_of,
)
from .steps import Step, Training

TABLE1 = {
    "title": ("model", "{}"),
    "nll": ("NLL", "{:.2f}"),
    "paper_nll": ("NLL\npaper", "{:.1f}"),
    "nll_bar": ("NLL-bar", "{:.2f}"),
    "paper_nll_bar": ("NLL-bar\npaper", "{:.1f}"),
    "bound": ("-ELBO", "{:.2f}"),
    "kl": ("KL", "{:z.2f}"),
    "paper_kl": ("KL\npaper", "{:.1f}"),
    "mi": ("MI", "{:z.2f}"),
    "paper_mi": ("MI\npaper", "{:.1f}"),
    "au": ("AU", "{:d}"),
    "paper_au": ("AU\npaper", "{:d}"),
    "ppl": ("PPL", "{:.2f}"),
}
FIGURES = ("nll", "nll_bar", "bound", "kl", "mi", "au", "ppl")
FIGURES_IN_JSON = ("nll_se", "nll_gap", "nll_gap_se", "rec", "mi_corpus", "mi_equal_length", "cosine")
"""In the JSON alone."""

TABLE1_DUAL = {
    "title": ("model", "{}"),
    "dual_kl": ("dual\nKL", "{:.3f}"),
    "dual_kl_mc": ("its MC\nerror", "{:.3f}"),
    "kl_above_dual": ("KL minus\ndual KL", "{:+z.3f}"),
    "kl_above_dual_se": ("s.e.", "{:.3f}"),
    "nll_bar_above_bound": ("NLL-bar\nminus -ELBO", "{:+z.3f}"),
    "nll_bar_above_bound_se": ("s.e.", "{:.3f}"),
    "nll_bar_above_nll": ("NLL-bar\nminus NLL", "{:+z.3f}"),
    "nll_bar_above_nll_se": ("s.e.", "{:.3f}"),
    "dual_mi": ("dual\nMI", "{:z.3f}"),
}
DUAL_CAPTION = (
    "What the dual KL, of which NLL-bar is made, leaves out: differences within each sentence, their mean and its "
    "standard error over sentences. The Monte-Carlo error is that of finitely many draws alone."
)
DUAL_NOTE = (
    "NLL-bar is the reconstruction and a lower bound of the KL: no likelihood, and not to be compared with NLL. In the "
    "rows of iVAE the paper's KL and MI are such dual ones, too."
)
SAMPLE_NOTE = "The paper's figures are of Yang et al.'s sample of the corpus; one built from the hub is another sample."


class Table1:
    """NLL, NLL-bar, -ELBO, KL, MI, active units and perplexity."""

    summary = "all methods: NLL, NLL-bar, -ELBO, KL, MI, active units, perplexity"
    draws = False

    def steps(self, request: Request) -> Sequence[Step]:
        runs = map(request.trainings, request.methods_or(rows_of("table1")))
        return seed_by_seed([[request.evaluation(training) for training in seeds] for seeds in runs])

    def report(self, request: Request, output_dir: Path) -> Report:
        rows: list[dict[str, Any]] = []
        reports = []
        for method in request.methods_or(rows_of("table1")):
            trainings = request.trainings(method)
            found = findings([request.evaluation(training) for training in trainings], output_dir)
            names = {"method": trainings[0].recipe.method, "title": title_of(trainings, len(found))}
            figures = spreads(found, (*FIGURES, *FIGURES_IN_JSON, *list(TABLE1_DUAL)[1:]))
            rows.append(names | figures | beside("table1", trainings, found, output_dir))
            reports += found
        tables = [Table(caption("Table 1", request, reports), TABLE1, rows)]
        notes = [SAMPLE_NOTE] if any(key.startswith("paper_") for row in rows for key in row) else []
        dual = [row for row in rows if row["dual_kl"] is not None]
        if dual:
            tables.append(Table(DUAL_CAPTION, TABLE1_DUAL, dual))
            notes.append(DUAL_NOTE)
        return Report(tables, notes)


TABLE2 = {
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
TABLE2_RATIOS = {key: (heading, "{}" if key == "title" else "{:.2f}") for key, (heading, _) in TABLE2.items()}
COST_NOTE = (
    "Hours are wall time in updates and evaluations, on this machine, with what ran beside them; updates are those of "
    "encoder and decoder, to the end of the run and to its best epoch on the validation set."
)


class Table2:
    """Hours and updates of the encoder and of the decoder, and their ratio."""

    summary = "hours and updates of aggressive training against max pooling"
    draws = False

    def steps(self, request: Request) -> Sequence[Step]:
        return seed_by_seed([request.trainings(method) for method in self._methods(request)])

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
        tables = [Table(f"Table 2: {corpus_of(request)}{over_seeds(request)}.", TABLE2, rows)]
        ratios = [ratio for ratio in (_ratio(row, rows[-1]) for row in rows[:-1]) if ratio]
        if ratios:
            tables.append(Table(f"As multiples of {rows[-1]['title']}.", TABLE2_RATIOS, ratios))
        return Report(tables, [COST_NOTE, *_unlike(ends)])

    def _methods(self, request: Request) -> list[str]:
        methods = request.methods_or(rows_of("table2"))
        if len(methods) < 2:
            raise ValueError("table2 compares at least two methods; the last of --methods is what the others are of")
        return methods


COST = ("hours", "encoder_updates", "decoder_updates", "epochs", *(key for key in TABLE2 if key.startswith("best_")))


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
    for key in TABLE2:
        above, below = row.get(key), to.get(key)
        if key == "title" or above is None or below is None:
            continue
        above, below = (value.mean if isinstance(value, Spread) else value for value in (above, below))
        if below:
            ratio[key] = above / below
    return ratio if "epochs" in ratio else None


WITHOUT = "training.kl_schedule=constant"
"""The KL weight is from the first update on what it is at the end, 1 in the paper's methods."""

TABLE3 = {
    "title": ("model", "{}"),
    "without": ("NLL without\nannealing", "{:.2f}"),
    "paper_without": ("without\npaper", "{:.1f}"),
    "with": ("NLL with\nannealing", "{:.2f}"),
    "paper_with": ("with\npaper", "{:.1f}"),
    "difference": ("without\nminus with", "{:+z.2f}"),
    "kl_without": ("KL\nwithout", "{:z.2f}"),
    "kl_with": ("KL\nwith", "{:z.2f}"),
}


class Table3:
    """NLL of models trained without and with KL annealing."""

    summary = "NLL with and without KL annealing"
    draws = False

    def steps(self, request: Request) -> Sequence[Step]:
        pairs = zip(encoder_runs(request, "table3"), encoder_runs(request, "table3", WITHOUT), strict=True)
        return seed_by_seed([[request.evaluation(run) for run in runs] for pair in pairs for runs in pair])

    def report(self, request: Request, output_dir: Path) -> Report:
        rows, reports = [], []
        annealed, constant = encoder_runs(request, "table3"), encoder_runs(request, "table3", WITHOUT)
        for trainings, others in zip(annealed, constant, strict=True):
            pairs = [
                (request.evaluation(one).read(output_dir), request.evaluation(other).read(output_dir))
                for one, other in zip(trainings, others, strict=True)
            ]
            both = [(one, other) for one, other in pairs if one and other]
            found = [report for pair in pairs for report in pair if report]
            row: dict[str, Any] = {
                "method": trainings[0].recipe.method,
                "title": title_of(trainings, len(both)),
                "with": spread([one["nll"] for one, _ in both]),
                "without": spread([other["nll"] for _, other in both]),
                "difference": spread([other["nll"] - one["nll"] for one, other in both]),
                "kl_with": spread([one["kl"] for one, _ in both]),
                "kl_without": spread([other["kl"] for _, other in both]),
            }
            rows.append(row | beside("table3", trainings, found, output_dir))
            reports += found
        return Report([Table(caption("Table 3", request, reports), TABLE3, rows)])


TABLE4 = {
    "title": ("model", "{}"),
    "nll": ("NLL\noriginal", "{:.2f}"),
    "paper_nll": ("original\npaper", "{:.1f}"),
    "shuffled_nll": ("NLL\nshuffled", "{:.2f}"),
    "paper_shuffled": ("shuffled\npaper", "{:.1f}"),
    "nll_difference": ("NLL shuffled\nminus original", "{:+z.2f}"),
    "bound": ("-ELBO\noriginal", "{:.2f}"),
    "shuffled_bound": ("-ELBO\nshuffled", "{:.2f}"),
    "bound_difference": ("-ELBO shuffled\nminus original", "{:+z.2f}"),
    "kl": ("KL\noriginal", "{:z.2f}"),
    "shuffled_kl": ("KL\nshuffled", "{:z.2f}"),
}


class Table4:
    """NLL and -ELBO with the encoder's words as they are, and permuted; the decoder's target stays."""

    summary = "original against shuffled encoder input, for each aggregation"
    draws = False

    def steps(self, request: Request) -> Sequence[Step]:
        runs = map(request.trainings, request.methods_or(rows_of("table4")))
        pairs = [(seeds, shuffled) for seeds in runs for shuffled in (False, True)]
        return seed_by_seed([[request.evaluation(run, shuffled) for run in seeds] for seeds, shuffled in pairs])

    def report(self, request: Request, output_dir: Path) -> Report:
        rows, reports = [], []
        for method in request.methods_or(rows_of("table4")):
            trainings = request.trainings(method)
            pairs = [
                tuple(request.evaluation(training, shuffled).read(output_dir) for shuffled in (False, True))
                for training in trainings
            ]
            both = [(original, shuffled) for original, shuffled in pairs if original and shuffled]
            row: dict[str, Any] = {"method": trainings[0].recipe.method, "title": title_of(trainings, len(both))}
            for name in ("nll", "bound", "kl"):
                row[name] = spread([original[name] for original, _ in both])
                row[f"shuffled_{name}"] = spread([shuffled[name] for _, shuffled in both])
                row[f"{name}_difference"] = spread([shuffled[name] - original[name] for original, shuffled in both])
            found = [report for pair in both for report in pair]
            rows.append(row | beside("table4", trainings, found, output_dir))
            reports += found
        return Report([Table(caption("Table 4", request, reports), TABLE4, rows)])
