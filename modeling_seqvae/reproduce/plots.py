"""Figures of the paper, drawn from histories. Needs matplotlib: `pip install seqvae[figures]`."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

History = Sequence[Mapping[str, Any]]

STYLES = (("#0072B2", "o", "-"), ("#D55E00", "s", "-"), ("#009E73", "^", "--"), ("#CC79A7", "D", "--"),
          ("#E69F00", "v", ":"), ("#56B4E9", "P", ":"), ("#000000", "X", "-."), ("#999999", "*", "-."))  # fmt: skip
"""Colours that colour-blind readers tell apart (Okabe and Ito), with markers and lines for print."""

CAPTION_WIDTH = 100
"""Characters of nine points in the narrowest figure's 7.2 inches."""

PANELS = (("kl", "KL(q(z|x) || p(z)), nats per sentence"), ("cosine", "mean pairwise cosine similarity"))


def figure3(histories: Mapping[str, History], path: Path, caption: str = "") -> None:
    """KL and pairwise cosine similarity on the validation set over training, one curve a method (paper, Figure 3).

    Raises what `draw_curves` raises.
    """
    draw_curves({title: [history] for title, history in histories.items()}, path, caption)


def draw_curves(runs: Mapping[str, Sequence[History]], path: Path, caption: str = "") -> None:
    """The two panels of Figure 3 of several methods: the mean over a method's runs, and each run as a thin line.

    The mean goes as far as all runs of the method do. Raises ValueError where a history holds no record, and
    ModuleNotFoundError that names the extra without matplotlib.
    """
    empty = [title for title, histories in runs.items() if not histories or not all(histories)]
    if empty:
        raise ValueError(f"there is no record in the history of {', '.join(empty)}")
    beside = len(runs) > 3  # a legend of two or three lines fits into a panel
    figure = require_matplotlib()(figsize=(9.0 if beside else 7.2, 2.9), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, (key, label) in zip(axes, PANELS, strict=True):
        for (title, histories), style in zip(runs.items(), cycle(STYLES), strict=False):
            _draw(axis, histories, key, title, style)
        axis.set_xlabel("epoch", fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylabel(label, fontsize=8)
        if axis.dataLim.y0 >= 0:  # an estimated KL can be below
            axis.set_ylim(0.0, 1.05 * axis.dataLim.y1 or None)  # matplotlib's margin is of the range, which may be tiny
        axis.grid(alpha=0.3, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    if beside:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    else:
        axes[0].legend(fontsize=8, frameon=False)
    save(figure, path, caption)


def save(figure: Any, path: Path, caption: str) -> None:
    """Write a figure under its caption, in as many lines as that needs."""
    if caption:
        figure.suptitle(fill(caption, CAPTION_WIDTH), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)


def _draw(axis: Any, histories: Sequence[History], key: str, title: str, style: tuple[str, str, str]) -> None:
    colour, marker, line = style
    curves = [np.array([record[key] for record in history], dtype=float) for history in histories]
    epochs = [record["epoch"] for record in min(histories, key=len)]
    mean = np.mean([curve[: len(epochs)] for curve in curves], axis=0)
    if len(histories) > 1:
        for history, curve in zip(histories, curves, strict=True):
            axis.plot([record["epoch"] for record in history], curve, color=colour, linewidth=0.6, alpha=0.5)
    every = max(1, len(epochs) // 10)
    axis.plot(epochs, mean, label=title, color=colour, marker=marker, linestyle=line, markevery=every, markersize=4)


def require_matplotlib() -> Any:
    """matplotlib's Figure, which needs no display. Raises ModuleNotFoundError that says what to install."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("figures need matplotlib: pip install matplotlib") from None
    return Figure
