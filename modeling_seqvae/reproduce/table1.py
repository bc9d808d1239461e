"""Table 1: every method's figures on the test set, the paper's beside them on the benchmark's corpora."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .published import rows_of
from .reporting import Report, Table
from .request import Request
from .rows import beside, caption, read_all, spreads, title_of
from .steps import Step

COLUMNS = {
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
MORE = ("nll_se", "nll_gap", "nll_gap_se", "rec", "mi_corpus", "mi_equal_length", "cosine")
"""In the JSON alone."""

DUAL_COLUMNS = {
    "title": ("model", "{}"),
    "dual_kl": ("dual\nKL", "{:.3f}"),
    "dual_kl_mc": ("its MC\nerror", "{:.3f}"),
    "kl_above_dual": ("KL less\ndual KL", "{:+z.3f}"),
    "kl_above_dual_se": ("s.e.", "{:.3f}"),
    "nll_bar_above_bound": ("NLL-bar\nless -ELBO", "{:+z.3f}"),
    "nll_bar_above_bound_se": ("s.e.", "{:.3f}"),
    "nll_bar_above_nll": ("NLL-bar\nless NLL", "{:+z.3f}"),
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
        methods = request.methods_or(rows_of("table1"))
        trainings = [request.training(method, seed) for seed in range(request.seeds) for method in methods]
        return [request.evaluation(training) for training in trainings]

    def report(self, request: Request, output_dir: Path) -> Report:
        rows: list[dict[str, Any]] = []
        reports = []
        for method in request.methods_or(rows_of("table1")):
            trainings = request.trainings(method)
            found = read_all([request.evaluation(training) for training in trainings], output_dir)
            names = {"method": trainings[0].recipe.method, "title": title_of(trainings, len(found))}
            figures = spreads(found, (*FIGURES, *MORE, *list(DUAL_COLUMNS)[1:]))
            rows.append(names | figures | beside("table1", trainings, found, output_dir))
            reports += found
        tables = [Table(caption("Table 1", request, reports), COLUMNS, rows)]
        notes = [SAMPLE_NOTE] if any(key.startswith("paper_") for row in rows for key in row) else []
        dual = [row for row in rows if row["dual_kl"] is not None]
        if dual:
            tables.append(Table(DUAL_CAPTION, DUAL_COLUMNS, dual))
            notes.append(DUAL_NOTE)
        return Report(tables, notes)
