"""What a target has to show: tables, notes and a picture, for a terminal, in Markdown and as JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ..evaluation.table import markdown, table


@dataclass(frozen=True)
class Spread:
    """The figures of several seeds. Formatted, a mean and a standard deviation: `"{:.2f}".format(Spread([1, 2]))`.

    The deviation is the sample's, with n - 1; of a single figure there is none. An integer's format shows one digit
    after the point.
    """

    values: tuple[float, ...]

    def __format__(self, form: str) -> str:
        if len(self.values) == 1:
            return format(self.values[0], form)
        form = f"{form[:-1]}.1f" if form.endswith("d") else form
        return f"{format(self.mean, form)} ± {format(self.deviation, form.replace('+', ''))}"

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        return stdev(self.values) if len(self.values) > 1 else math.nan

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all values, and what is made of them."""
        found: dict[str, Any] = {"mean": self.mean, "values": list(self.values)}
        return found | ({"sd": self.deviation} if len(self.values) > 1 else {})


def spread(values: Sequence[float | None]) -> Spread | None:
    """The figures of the seeds that have one; None where none has."""
    present = tuple(value for value in values if value is not None)
    return Spread(present) if present else None


@dataclass(frozen=True)
class Table:
    """A caption and rows; `columns` maps a row's key to a heading and a format, in order, as evaluation.table has it.

    A figure is a number, a text or a `Spread`; one that a row lacks is shown as a dash, and a column that no row has
    is left out. All of a row, also what no column shows, goes into the JSON.
    """

    caption: str
    columns: Mapping[str, tuple[str, str]]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Report:
    """Tables, sentences below them, and what draws the picture into a PNG, if the target has one."""

    tables: Sequence[Table]
    notes: Sequence[str] = ()
    picture: Callable[[Path], None] | None = field(default=None, compare=False)

    def markdown(self) -> str:
        """For a document: captions, tables and notes."""
        parts = [f"{part.caption}\n\n{markdown(part.rows, part.columns)}" for part in self.tables]
        return "\n\n".join([*parts, *self.notes])

    def text(self) -> str:
        """For a terminal."""
        parts = [table(part.rows, part.caption, part.columns) for part in self.tables]
        return "\n\n".join([*parts, *self.notes])

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every row with all it has."""
        tables = [{"caption": part.caption, "rows": [_plain(row) for row in part.rows]} for part in self.tables]
        return {"tables": tables, "notes": list(self.notes)}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.as_dict() if isinstance(value, Spread) else value for key, value in row.items()}
