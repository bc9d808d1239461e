"""Rows of figures as an aligned table, for a terminal or in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS: dict[str, tuple[str, str]] = {
    "title": ("model", "{}"),
    "nll": ("NLL", "{:.2f}"),
    "nll_se": ("± s.e.", "{:.2f}"),
    "above_truth": ("above truth", "{:+.2f}"),
    "bound": ("-ELBO", "{:.2f}"),
    "rec": ("Rec", "{:.2f}"),
    "kl": ("KL", "{:.2f}"),
    "mi": ("MI", "{:.2f}"),
    "mi_corpus": ("MI corpus", "{:.2f}"),
    "au": ("AU", "{:d}"),
    "cosine": ("cosine", "{:.2f}"),
    "ppl": ("PPL", "{:.2f}"),
    "seconds": ("seconds", "{:.0f}"),
}
"""Figures in the order of the paper's Table 1: key of a report, heading, format."""


def cells(reports: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text; columns that no report has are left out, and a missing figure is a dash."""
    shown = {key: column for key, column in COLUMNS.items() if any(key in report for report in reports)}
    rows = [[_cell(form, report.get(key)) for key, (_, form) in shown.items()] for report in reports]
    return [heading for heading, _ in shown.values()], rows


def table(reports: Sequence[Mapping[str, Any]], caption: str | None = None) -> str:
    """The reports as a table for a terminal, a line each."""
    headings, rows = cells(reports)
    drawn = Table(caption=caption, caption_justify="left")
    for column, heading in enumerate(headings):
        drawn.add_column(heading, justify="left" if column == 0 else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    console = Console(width=160)
    with console.capture() as capture:
        console.print(drawn)
    return capture.get().rstrip()


def markdown(reports: Sequence[Mapping[str, Any]]) -> str:
    """The reports as a Markdown table."""
    headings, rows = cells(reports)
    rule = ["---"] + ["---:"] * (len(headings) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *rows))


def _cell(form: str, value: Any) -> str:
    return "–" if value is None else form.format(value)
