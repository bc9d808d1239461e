"""Table 3: with and without KL annealing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .encoders import encoder_runs, seed_by_seed
from .reporting import Report, Table, spread
from .request import Request
from .rows import beside, caption, title_of
from .steps import Step

WITHOUT = "training.kl_schedule=constant"
"""The KL weight is from the first update on what it is at the end, 1 in the paper's methods."""

COLUMNS = {
    "title": ("model", "{}"),
    "without": ("NLL without\nannealing", "{:.2f}"),
    "paper_without": ("without\npaper", "{:.1f}"),
    "with": ("NLL with\nannealing", "{:.2f}"),
    "paper_with": ("with\npaper", "{:.1f}"),
    "difference": ("without\nless with", "{:+z.2f}"),
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
        return Report([Table(caption("Table 3", request, reports), COLUMNS, rows)])
