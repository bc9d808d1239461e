"""How our pictures look, by matplotlib (`pip install 'seqvae[figures]'`), and two of any model: curves, confusions."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from ..argument_checks import optional

STYLES = (("#0072B2", "o", "-"), ("#D55E00", "s", "-"), ("#009E73", "^", "--"), ("#CC79A7", "D", "--"),
          ("#E69F00", "v", ":"), ("#56B4E9", "P", ":"), ("#000000", "X", "-."), ("#999999", "*", "-."))  # fmt: skip
"""Colours that colour-blind readers tell apart (Okabe and Ito), with markers and lines for print."""

CHARACTERS = 13.5
"""Of a caption's nine points, in an inch."""


def save(figure: Any, path: Path, caption: str) -> None:
    """Write a figure under its caption, in as many lines as that needs."""
    if caption:
        figure.suptitle(fill(caption, int(CHARACTERS * figure.get_figwidth())), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    as_written(figure).savefig(path, dpi=200)


def plain_axes(axis: Any) -> None:
    """A faint grid, small numbers, and no lines above and to the right."""
    axis.grid(alpha=0.3, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def require_matplotlib() -> Any:
    """matplotlib's Figure, which needs no display. Raises ModuleNotFoundError that says what to install."""
    return optional("matplotlib.figure", "figures need matplotlib: pip install matplotlib").Figure


def as_written(figure: Any) -> Any:
    """The figure, in whose texts a `$` is one: names, labels and titles are the user's own and no formulas."""
    for text in figure.findobj(lambda part: hasattr(part, "set_parse_math")):
        text.set_parse_math(False)
    return figure


CURVES = ({"bound": "-ELBO", "rec": "reconstruction"}, {"kl": "KL", "mi": "mutual information"})
"""Figures of a history that are drawn side by side, in nats per sentence, and their names."""


def curves(history: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """A PNG of bound, reconstruction, KL and mutual information on the validation set over the epochs of a run.

    What a language model does not have is left out. Raises ModuleNotFoundError that says what to install where there is
    no matplotlib.
    """
    figure = require_matplotlib()(figsize=(7.2, 2.8), layout="constrained")
    epochs = [record["epoch"] for record in history]
    for axis, lines in zip(figure.subplots(1, 2), CURVES, strict=True):
        for (key, name), (colour, marker, line) in zip(lines.items(), STYLES, strict=False):
            if history[0].get(key) is not None:
                values = [record[key] for record in history]
                axis.plot(epochs, values, label=name, color=colour, marker=marker, linestyle=line, markersize=3)
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_ylabel("nats per sentence", fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        plain_axes(axis)
        axis.legend(fontsize=8, frameon=False)
    figure.suptitle(f"{title}, validation set", fontsize=9)
    picture = BytesIO()
    as_written(figure).savefig(picture, dpi=150, metadata={"Software": None})
    return picture.getvalue()


MOST_NUMBERS = 12
"""Matrices of more classes show their shares as colours alone."""


def confusion_figure(report: Mapping[str, Any]) -> bytes:
    """The matrices of a report of `classify` side by side, as a PNG: rows are true classes, colours shares of a row.

    Raises ModuleNotFoundError that says what to install without matplotlib.
    """
    systems, names = report["systems"], report["classes"]
    columns = min(len(systems), 4)
    rows = -(-len(systems) // columns)
    figure = require_matplotlib()(figsize=(2.8 * columns, 2.9 * rows), layout="constrained")
    for axis, system in zip(figure.subplots(rows, columns, squeeze=False).flat, systems, strict=False):
        _draw_confusion(axis, np.array(system["confusion"]), names)
        axis.set_title(f"{system['classifier']}\n{system['features']}", fontsize=8)
    for axis in figure.axes[len(systems) :]:
        axis.set_axis_off()
    written = BytesIO()
    as_written(figure).savefig(written, format="png", dpi=150)
    return written.getvalue()


def _draw_confusion(axis: Any, confusion: np.ndarray, names: list[str]) -> None:
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xlabel("predicted", fontsize=8)
    axis.set_ylabel("true", fontsize=8)
    axis.tick_params(labelsize=7)
    if len(names) > MOST_NUMBERS:
        return
    axis.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 4 else 45)
    axis.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(confusion.shape):
        colour = "white" if shares[row, column] > 0.6 else "black"
        axis.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=colour, fontsize=7)
