"""Figures for people: as an aligned table, for a terminal or in Markdown, and what they say in a sentence."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ..configuration_seqvae import COLLAPSED_BELOW
from ..text_batches import INFORMATIVE_METHOD, latent_warning

COLUMNS: dict[str, tuple[str, str]] = {
    "title": ("model", "{}"),
    "epoch": ("best\nepoch", "{:d}"),
    "epochs": ("of", "{:d}"),
    "kl_weight": ("KL\nweight", "{:.2f}"),
    "nll": ("NLL", "{:.2f}"),
    "nll_se": ("s.e.", "{:.2f}"),
    "nll_bar": ("NLL-bar", "{:.2f}"),
    "above_truth": ("above\ntruth", "{:+z.2f}"),
    "bound": ("-ELBO", "{:.2f}"),
    "rec": ("Rec", "{:.2f}"),
    "kl": ("KL", "{:z.2f}"),  # flows: an estimate
    "mi": ("MI", "{:z.2f}"),  # an estimate: without -0.00
    "mi_corpus": ("MI\ncorpus", "{:z.2f}"),
    "au": ("AU", "{:d}"),
    "cosine": ("cosine", "{:z.2f}"),
    "ppl": ("PPL", "{:.2f}"),
    "bits_per_byte": ("bits/\nbyte", "{:.3f}"),  # where not all have words
    "seconds": ("seconds", "{:.0f}"),
}
"""Figures in the order of the paper's Table 1: key of a report, heading, format."""


def caption(report: Mapping[str, Any]) -> str:
    """What an evaluation's figures are of, and their unit."""
    some = report.get("limit") == report["sentences"]
    of = f"{'' if some else 'all of '}the file is the test set" if report.get("file") else f"{report['split']} set"
    return (
        f"{report['corpus']}, {of}, {'the first ' * some}{report['sentences']:,} sentences, "
        f"{report['unknown_share']:.1%} unknown {'words' if report.get('tokenizer', 'words') == 'words' else 'tokens'}"
        f"{_cut(report)}{_unusual(report)}. Nats per sentence; NLL {how_likelihoods([report])}."
        f"{precision_note([report])} Definitions: docs/metrics.md"
    )


def _cut(report: Mapping[str, Any]) -> str:
    """The share of texts of which the model read the beginning only; nothing where it read all of them."""
    return f", {report['cut_share']:.1%} cut" if report.get("cut_share") else ""


def _unusual(report: Mapping[str, Any]) -> str:
    """What else makes the figures others than those of the sentences as they are, with the usual draws."""
    shuffled = ", the encoder reads their words shuffled" if report.get("shuffled") else ""
    return shuffled + (f", seed {report['seed']}" if report.get("seed") else "")


def how_likelihoods(reports: Sequence[Mapping[str, Any]]) -> str:
    """How the NLLs of rows were estimated, from how many draws and sentences, and how far off that may be."""
    latent = [report for report in reports if report["au"] is not None]
    if not latent:
        return "exact"
    samples, some = (numbers(report[key] for report in latent) for key in ("nll_samples", "nll_sentences"))
    by = f"by {samples} importance samples" + ("" if len(latent) == len(reports) else " (exact for a language model)")
    if all(report["nll_sentences"] == report["sentences"] for report in latent):
        return by
    errors = [report["nll_gap_se"] for report in latent]
    error = "" if None in errors else f" (s.e. at most {max(errors):.2f})"  # of a single sentence it is not known
    first = "the first sentence" if some == "1" else f"the first {some} sentences"
    return f"{by} on {first}: -ELBO of all minus the gap there{error}"


def numbers(values: Iterable[int]) -> str:
    """One number where all are the same, or from the least to the greatest; nothing of none."""
    found = sorted(set(values))
    return " to ".join(f"{value:,}" for value in dict.fromkeys(found[:1] + found[-1:]))


def precision_note(reports: Sequence[Mapping[str, Any]]) -> str:
    """A sentence, after a space, on the rows that were not measured in float32; nothing where all were.

    An evaluation from before it told its precision is taken as one in float32.
    """
    mixed = [report for report in reports if report.get("precision", "no") != "no"]
    if not mixed:
        return ""
    named = {f"{report['title']} ({report['precision']})" for report in mixed}
    if len(mixed) == len(reports) and len({report["precision"] for report in mixed}) == 1:
        return f" Measured in {mixed[0]['precision']}."
    return f" Measured in mixed precision: {', '.join(sorted(named))}; the others in float32."


def cells(
    reports: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]] = COLUMNS
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text; columns that no report has are left out, and a missing figure is a dash.

    So are bits per byte where all models have tokens of one kind, words, and their NLLs compare.
    """
    if all(report.get("tokenizer", "words") == "words" for report in reports):
        columns = {key: column for key, column in columns.items() if key != "bits_per_byte"}
    shown = {key: column for key, column in columns.items() if any(report.get(key) is not None for report in reports)}
    rows = [[_cell(form, report.get(key)) for key, (_, form) in shown.items()] for report in reports]
    return [heading for heading, _ in shown.values()], rows


def table(
    reports: Sequence[Mapping[str, Any]],
    caption: str | None = None,
    columns: Mapping[str, tuple[str, str]] = COLUMNS,
) -> str:
    """The reports as a table for a terminal, a line each; usual figures fit into 80 columns."""
    headings, rows = cells(reports, columns)
    drawn = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, caption=caption, caption_justify="left")
    drawn.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    console = Console(width=160, color_system=None, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines())


def markdown(reports: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]] = COLUMNS) -> str:
    """The reports as a Markdown table."""
    headings, rows = cells(reports, columns)
    return markdown_table([" ".join(heading.split()) for heading in headings], rows)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table whose first columns are text and the others numbers."""
    rule = ["---"] * text_columns + ["---:"] * (len(headings) - text_columns)
    lines = ([cell.replace("|", "\\|") for cell in line] for line in (headings, rule, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(form: str, value: Any) -> str:
    return "–" if value is None else form.format(value)


def collapsed(report: Mapping[str, Any]) -> bool:
    """Whether the posterior has collapsed onto the prior: KL below a tenth of a nat per sentence.

    A language model, whose active units are None, has no posterior to collapse.
    """
    return report["au"] is not None and report["kl"] < COLLAPSED_BELOW


def state_of(report: Mapping[str, Any]) -> str:
    """`collapsed`, `not collapsed`, or, where all texts have much the same posterior, `all but collapsed`."""
    if collapsed(report):
        return "collapsed"
    return "not collapsed" if report["au"] and not uninformative(report) else "all but collapsed"


def uninformative(report: Mapping[str, Any]) -> bool:
    """Whether the mutual information of text and latent is known, and next to nothing: so it can be at any KL."""
    information = report.get("mi")
    return report["au"] is not None and information is not None and information < COLLAPSED_BELOW


def warning_of(figures: Mapping[str, Any]) -> str:
    """`latent_warning` of a report; empty for a language model."""
    return "" if figures["au"] is None else latent_warning(figures["kl"], figures.get("mi"))


def latent_verdict(figures: Mapping[str, Any], latent_size: int) -> str:
    """A sentence that says how much the latent holds, and what to do if that is nothing; empty for a language model."""
    if figures["au"] is None:
        return ""
    holds = f"the latent holds {figures['kl']:.2f} nats a text, in {figures['au']} of {latent_size} units"
    if warning := warning_of(figures):
        return warning
    return holds if figures["au"] else f"{holds}: all texts have much the same posterior. {INFORMATIVE_METHOD}"


def compare(title: str, nll: float, other: str, other_nll: float, spread: float) -> str:
    """A sentence that says which of two models has the lower NLL, if they differ by more than their seeds would.

    `spread` is the standard deviation of a model's NLL between seeds, in nats per sentence. That of the difference of
    two models is sqrt(2) as large, and the difference has to exceed it twice.
    """
    gap, error = nll - other_nll, math.sqrt(2) * spread
    if abs(gap) <= 2 * error:
        return f"no difference in NLL between {title} and {other} beyond that of seeds ({gap:+z.2f} ± {error:.2f} nats)"
    lower, higher = (title, other) if gap < 0 else (other, title)
    return f"{lower} has a lower NLL than {higher} by {abs(gap):.2f} ± {error:.2f} nats per sentence"
