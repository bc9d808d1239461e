"""Confusion matrices as a picture. Needs matplotlib: `pip install seqvae[figures]`."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np

from .plots import require_matplotlib

MOST_NUMBERS = 12
"""Matrices of more classes show their shares as colours alone."""


def confusion_figure(report: Mapping[str, Any]) -> bytes:
    """The matrices of a report of `classify` side by side, as a PNG: rows are true classes, colours shares of a row.

    Raises ModuleNotFoundError that names the extra without matplotlib.
    """
    systems, names = report["systems"], report["classes"]
    columns = min(len(systems), 4)
    rows = -(-len(systems) // columns)
    figure = require_matplotlib()(figsize=(2.8 * columns, 2.9 * rows), layout="constrained")
    for axis, system in zip(figure.subplots(rows, columns, squeeze=False).flat, systems, strict=False):
        _draw(axis, np.array(system["confusion"]), names)
        axis.set_title(f"{system['classifier']}\n{system['features']}", fontsize=8)
    for axis in figure.axes[len(systems) :]:
        axis.set_axis_off()
    written = BytesIO()
    figure.savefig(written, format="png", dpi=150)
    return written.getvalue()


def _draw(axis: Any, confusion: np.ndarray, names: list[str]) -> None:
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
