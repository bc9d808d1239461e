"""Table 3: with and without KL annealing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .published import rows_of
from .report import Report, Table, spread
from .request import Request
from .rows import beside, caption, title_of
from .work import Step

WITHOUT = "training.kl_schedule=constant"
"""The KL weight is 1 from the first update on."""

COLUMNS = {
    "title": ("model", "{}"),
    "without": ("NLL without\nannealing", "{:.2f}"),
    "paper_without": ("without\npaper", "{:.1f}"),
    "with": ("NLL with\nannealing", "{:.2f}"),
    "paper_with": ("with\npaper", "{:.1f}"),
    "difference": ("without\nless with", "{:+.2f}"),
    "kl_without": ("KL\nwithout", "{:z.2f}"),
    "kl_with": ("KL\nwith", "{:z.2f}"),
}


class Table3:
    """NLL of models trained without and with KL annealing."""

    summary = "NLL with and without KL annealing"
    draws = False

    def steps(self, request: Request) -> Sequence[Step]:
        methods = request.methods_or(rows_of("table3"))
        trainings = [
            request.training(method, seed, *overrides)
            for seed in range(request.seeds)
            for method in methods
            for overrides in ((), (WITHOUT,))
        ]
        return [request.evaluation(training) for training in trainings]

    def report(self, request: Request, output_dir: Path) -> Report:
        rows, reports = [], []
        for method in request.methods_or(rows_of("table3")):
            trainings = request.trainings(method)
            pairs = [
                [request.evaluation(training).read(output_dir) for training in runs]
                for runs in (trainings, request.trainings(method, WITHOUT))
            ]
            plain, without = pairs
            both = [(one, other) for one, other in zip(plain, without, strict=True) if one and other]
            found = [report for report in (*plain, *without) if report]
            row: dict[str, Any] = {
                "method": trainings[0].recipe.method,
                "title": title_of(trainings, len(both)),
                "with": spread([report["nll"] if report else None for report in plain]),
                "without": spread([report["nll"] if report else None for report in without]),
                "difference": spread([other["nll"] - one["nll"] for one, other in both]),
                "kl_with": spread([report["kl"] if report else None for report in plain]),
                "kl_without": spread([report["kl"] if report else None for report in without]),
            }
            rows.append(row | beside("table3", trainings, found, output_dir))
            reports += found
        return Report([Table(caption("Table 3", request, reports), COLUMNS, rows)])
