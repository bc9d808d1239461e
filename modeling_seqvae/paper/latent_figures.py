"""Pictures of the latent: where z saves nats, and feature spaces of three dimensions (paper, Figure 2)."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .figures import STYLES, require_matplotlib, save

BAND = 2
"""Standard errors to either side of a curve."""

SIDES = (
    ("from_start", "position from the start"),
    ("from_end", "position from the end (1 is </s>)"),
)
ROWS = (
    ("told", "nats told by z beyond\nthe words before"),
    ("saved", "nats saved by z against\na z of the prior"),
)
WALLS = ((0, -1.0), (1, 1.0), (2, -1.0))
"""Axes of the cube, and where the wall behind the points stands on each."""


def positions_figure(reports: Mapping[str, Mapping[str, Any]], path: Path, caption: str = "") -> None:
    """Nats that z tells and saves at each position, from the start and from the end, one curve a method.

    `reports` are those of `position_report` by title. Raises ModuleNotFoundError that names the extra without
    matplotlib.
    """
    figure = require_matplotlib()(figsize=(7.2, 5.0), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for row, (key, label) in zip(axes, ROWS, strict=True):
        row[0].set_ylabel(label, fontsize=8)
        for axis, (side, _) in zip(row, SIDES, strict=True):
            axis.axhline(0, color="grey", linewidth=0.7)
            for (title, report), (colour, marker, line) in zip(reports.items(), cycle(STYLES), strict=False):
                _curve(axis, report[side], key, label=title, color=colour, marker=marker, linestyle=line)
            axis.grid(alpha=0.3, linewidth=0.5)
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=8)
    for axis, (_, label) in zip(axes[-1], SIDES, strict=True):
        axis.set_xlabel(label, fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 1].invert_xaxis()  # both columns read from left to right
    axes[0, 0].legend(fontsize=8, frameon=False)
    save(figure, path, caption)


def _curve(axis: Any, curve: Mapping[str, Sequence[float]], key: str, color: str, **style: Any) -> None:
    position, mean, error = (np.array(curve[name], dtype=float) for name in ("position", key, f"{key}_se"))
    every = max(1, len(position) // 10)
    axis.plot(position, mean, color=color, markevery=every, markersize=4, linewidth=1.2, **style)
    axis.fill_between(position, mean - BAND * error, mean + BAND * error, color=color, alpha=0.2, linewidth=0)


def feature_space_figure(
    spaces: Mapping[str, tuple[Sequence[Sequence[float]], float | None]], path: Path, caption: str = ""
) -> None:
    """Features (N, 3) in the cube [-1, 1]^3, and their shadows on its walls, one panel a method (paper, Figure 2).

    `spaces` are points and their mean pairwise cosine, by title. Raises ModuleNotFoundError that names the extra
    without matplotlib.
    """
    columns = min(len(spaces), 3)
    rows = -(-len(spaces) // columns)
    figure = require_matplotlib()(figsize=(3.4 * columns, 3.5 * rows), layout="constrained")
    for number, ((title, (points, cosine)), (colour, *_)) in enumerate(
        zip(spaces.items(), cycle(STYLES), strict=False), start=1
    ):
        axis = figure.add_subplot(rows, columns, number, projection="3d")
        _scatter(axis, np.array(points, dtype=float), colour)
        told = "" if cosine is None else f"\nmean pairwise cosine {cosine:.2f}"
        axis.set_title(f"{title}{told}", fontsize=9)
    save(figure, path, caption)


def _scatter(axis: Any, points: NDArray, colour: str) -> None:
    for wall, place in WALLS:
        shadow = points.copy()
        shadow[:, wall] = place
        axis.scatter(*shadow.T, s=1.5, color="0.6", alpha=0.25, linewidths=0, depthshade=False)
    axis.scatter(*points.T, s=4, color=colour, alpha=0.5, linewidths=0, depthshade=False)
    for name in "xyz":
        getattr(axis, f"set_{name}lim")(-1, 1)
        getattr(axis, f"set_{name}ticks")([-1, 0, 1])
        getattr(axis, f"set_{name}label")(f"unit {'xyz'.index(name) + 1}", fontsize=8, labelpad=-6)
        axis.tick_params(axis=name, labelsize=7, pad=-2)
    axis.set_box_aspect((1, 1, 1), zoom=1.1)
    axis.view_init(elev=22, azim=-58)
