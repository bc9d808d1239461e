"""A report of `classify` as text: for a terminal, and in Markdown."""

from collections.abc import Mapping
from typing import Any

from .probe import MLP_HIDDEN
from .table import markdown, table

SUMMARY = {
    "features": ("features", "{}"),
    "classifier": ("classifier", "{}"),
    "accuracy": ("accuracy", "{:.3f}"),
    "accuracy_se": ("s.e.", "{:.3f}"),
    "macro_f1": ("macro-F1", "{:.3f}"),
    "macro_f1_se": ("s.e. ", "{:.3f}"),
}
PER_CLASS = {
    "label": ("class", "{}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "f1": ("F1", "{:.3f}"),
    "sentences": ("sentences", "{:,d}"),
}

MOST_CLASSES = 20
"""Confusion matrices of more classes are left to report.json."""


def caption(report: Mapping[str, Any]) -> str:
    """What the figures are of."""
    train, scored = (report["splits"][split] for split in ("train", report["split"]))
    left_out = train["empty"] + scored["empty"]
    return (
        f"{report['corpus']}: {len(report['classes'])} classes, trained on {_documents(train)}, scored on "
        f"{_documents(scored)} of the {report['split']} set{f'; {left_out:,} empty ones left out' if left_out else ''}."
    )


def _documents(split: Mapping[str, Any]) -> str:
    if split["documents"] == split["available"]:
        return f"{split['documents']:,} documents"
    of_all = "" if split["available"] is None else f" of {split['available']:,}"  # None: reading stopped there
    return f"the first {split['documents']:,}{of_all} documents"


def summary(report: Mapping[str, Any]) -> str:
    """Accuracy and macro-F1 of every system, a line each, for a terminal."""
    return table(report["systems"], caption(report), SUMMARY)


def confusion_text(report: Mapping[str, Any], system: Mapping[str, Any]) -> str:
    """A system's confusion matrix as aligned text: true classes down, predicted ones across."""
    names = report["classes"]
    width = max(len(f"{count:,}") for row in system["confusion"] for count in row)
    columns = [max(width, len(name)) for name in names]
    head = max(len("true \\ predicted"), *map(len, names))
    lines = [("true \\ predicted", names)]
    lines += [(name, [f"{count:,}" for count in row]) for name, row in zip(names, system["confusion"], strict=True)]
    return "\n".join(
        "  ".join([title.ljust(head), *(cell.rjust(wide) for cell, wide in zip(cells, columns, strict=True))])
        for title, cells in lines
    )


def report_markdown(report: Mapping[str, Any], figure: str | None = None) -> str:
    """The whole report; `figure` is the name of a picture of the confusion matrices that lies beside it."""
    parts = [
        f"# Classification of {report['corpus']}",
        caption(report),
        markdown(report["systems"], SUMMARY),
        _explanation(report),
        *(f"- {note}" for note in report["notes"]),
    ]
    if figure:
        parts.append(f"![Confusion matrices]({figure})")
    for system in report["systems"]:
        parts += [
            f"## {system['classifier']}, features: {system['features']}",
            markdown(system["per_class"], PER_CLASS),
        ]
        if len(report["classes"]) <= MOST_CLASSES:
            parts.append(f"```\n{confusion_text(report, system)}\n```")
    return "\n\n".join(parts) + "\n"


def _explanation(report: Mapping[str, Any]) -> str:
    return (
        f"Features of an encoder: `{report['features']}`, standardised; the encoder itself is not trained here. MLP: "
        f"hidden layers of {' and '.join(map(str, MLP_HIDDEN))} units, seed {report['seed']}. TF-IDF sees the words "
        "alone, and the majority class not even these: features that do not do better than them are of little use for "
        "these labels. Standard errors are over the documents scored on (of accuracy binomial, of macro-F1 by "
        "bootstrap); they do not tell what another seed or other training documents would give."
    )
