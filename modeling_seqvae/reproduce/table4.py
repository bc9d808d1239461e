"""Table 4: the encoder reads the words in their order, and in random order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .published import rows_of
from .reporting import Report, Table, spread
from .request import Request
from .rows import beside, caption, title_of
from .steps import Step

COLUMNS = {
    "title": ("model", "{}"),
    "nll": ("NLL\noriginal", "{:.2f}"),
    "paper_nll": ("original\npaper", "{:.1f}"),
    "shuffled_nll": ("NLL\nshuffled", "{:.2f}"),
    "paper_shuffled": ("shuffled\npaper", "{:.1f}"),
    "nll_difference": ("NLL shuffled\nless original", "{:+z.2f}"),
    "bound": ("-ELBO\noriginal", "{:.2f}"),
    "shuffled_bound": ("-ELBO\nshuffled", "{:.2f}"),
    "bound_difference": ("-ELBO shuffled\nless original", "{:+z.2f}"),
    "kl": ("KL\noriginal", "{:z.2f}"),
    "shuffled_kl": ("KL\nshuffled", "{:z.2f}"),
}


class Table4:
    """NLL and -ELBO with the encoder's words as they are, and permuted; the decoder's target stays."""

    summary = "original against shuffled encoder input, for each aggregation"
    draws = False

    def steps(self, request: Request) -> Sequence[Step]:
        methods = request.methods_or(rows_of("table4"))
        trainings = [request.training(method, seed) for seed in range(request.seeds) for method in methods]
        return [request.evaluation(training, shuffled) for training in trainings for shuffled in (False, True)]

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
        return Report([Table(caption("Table 4", request, reports), COLUMNS, rows)])
