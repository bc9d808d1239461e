"""Figures of the paper, drawn from histories. Needs matplotlib: `pip install seqvae[figures]`."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

STYLES = (("#0072B2", "o", "-"), ("#D55E00", "s", "-"), ("#009E73", "^", "--"), ("#CC79A7", "D", "--"),
          ("#E69F00", "v", ":"), ("#56B4E9", "P", ":"))  # fmt: skip
"""Colours that colour-blind readers tell apart (Okabe and Ito), with markers and lines for print."""


def figure3(histories: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, caption: str = "") -> None:
    """KL and pairwise cosine similarity on the validation set over training, one curve a method (paper, Figure 3).

    Raises ValueError where a history holds no record, and ModuleNotFoundError that names the extra without matplotlib.
    """
    empty = [title for title, history in histories.items() if not history]
    if empty:
        raise ValueError(f"there is no record in the history of {', '.join(empty)}")
    figure = require_matplotlib()(figsize=(7.2, 2.8), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = (("kl", "KL(q(z|x) || p(z)), nats per sentence"), ("cosine", "mean pairwise cosine similarity"))
    for axis, (key, label) in zip(axes, panels, strict=True):
        for (title, history), (colour, marker, line) in zip(histories.items(), cycle(STYLES), strict=False):
            epochs = [record["epoch"] for record in history]
            values = [record[key] for record in history]
            every = max(1, len(epochs) // 10)
            axis.plot(
                epochs, values, label=title, color=colour, marker=marker, linestyle=line, markevery=every, markersize=4
            )
        axis.set_xlabel("epoch", fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylabel(label, fontsize=8)
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        axis.grid(alpha=0.3, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[0].legend(fontsize=8, frameon=False)
    if caption:
        figure.suptitle(caption, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)


def require_matplotlib() -> Any:
    """matplotlib's Figure, which needs no display. Raises ModuleNotFoundError that names the extra to install."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("figures need matplotlib: pip install 'seqvae[figures]'") from None
    return Figure
