"""Pictures by matplotlib (`pip install 'seqvae[figures]'`): the figures of the paper, prices and places of nats."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.drawing import STYLES, plain_axes, require_matplotlib, save
from .rows import Spread

History = Sequence[Mapping[str, Any]]

PANELS = (("kl", "KL(q(z|x) || p(z)), nats per sentence"), ("cosine", "mean pairwise cosine similarity"))


def figure3(histories: Mapping[str, History], path: Path, caption: str = "") -> None:
    """KL and pairwise cosine similarity on the validation set over training, one curve a method (paper, Figure 3).

    Raises what `draw_curves` raises.
    """
    draw_curves({title: [history] for title, history in histories.items()}, path, caption)


def draw_curves(runs: Mapping[str, Sequence[History]], path: Path, caption: str = "") -> None:
    """The two panels of Figure 3 of several methods: the mean over a method's runs, and each run as a thin line.

    The mean goes as far as all runs of the method do. Raises ValueError where a history holds no record, and
    ModuleNotFoundError that says what to install without matplotlib.
    """
    empty = [title for title, histories in runs.items() if not histories or not all(histories)]
    if empty:
        raise ValueError(f"there is no record in the history of {', '.join(empty)}")
    beside = len(runs) > 3  # a legend of two or three lines fits into a panel
    figure = require_matplotlib()(figsize=(9.0 if beside else 7.2, 2.9), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, (key, label) in zip(axes, PANELS, strict=True):
        for (title, histories), style in zip(runs.items(), cycle(STYLES), strict=False):
            _draw_curves(axis, histories, key, title, style)
        axis.set_xlabel("epoch", fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylabel(label, fontsize=8)
        if axis.dataLim.y0 >= 0:  # an estimated KL can be below
            axis.set_ylim(0.0, 1.05 * axis.dataLim.y1 or None)  # matplotlib's margin is of the range, which may be tiny
        plain_axes(axis)
    if beside:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    else:
        axes[0].legend(fontsize=8, frameon=False)
    save(figure, path, caption)


def _draw_curves(axis: Any, histories: Sequence[History], key: str, title: str, style: tuple[str, str, str]) -> None:
    colour, marker, line = style
    curves = [np.array([record[key] for record in history], dtype=float) for history in histories]
    epochs = [record["epoch"] for record in min(histories, key=len)]
    mean = np.mean([curve[: len(epochs)] for curve in curves], axis=0)
    if len(histories) > 1:
        for history, curve in zip(histories, curves, strict=True):
            axis.plot([record["epoch"] for record in history], curve, color=colour, linewidth=0.6, alpha=0.5)
    every = max(1, len(epochs) // 10)
    axis.plot(epochs, mean, label=title, color=colour, marker=marker, linestyle=line, markevery=every, markersize=4)


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
NAME_WIDTH = 28
"""Characters of a line of a name beside its point."""
NAME_PLACES: dict[tuple[float, float], dict[str, str]] = {
    (7, 0): {"ha": "left", "va": "center"},
    (-7, 0): {"ha": "right", "va": "center"},
    (0, 7): {"ha": "center", "va": "bottom"},
    (0, -7): {"ha": "center", "va": "top"},
    (6, 6): {"ha": "left", "va": "bottom"},
    (-6, 6): {"ha": "right", "va": "bottom"},
    (6, -6): {"ha": "left", "va": "top"},
    (-6, -6): {"ha": "right", "va": "top"},
}
"""Where a name may stand, in points from its point, the better place first."""
WALLS = ((0, -1.0), (1, 1.0), (2, -1.0))
"""Axes of the cube, and where the wall behind the points stands on each."""


def positions_figure(reports: Mapping[str, Mapping[str, Any]], path: Path, caption: str = "") -> None:
    """Nats that z tells and saves at each position, from the start and from the end, one curve a method.

    `reports` are those of `position_report` by title. Raises ModuleNotFoundError that says what to install without
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
            plain_axes(axis)
    for axis, (_, label) in zip(axes[-1], SIDES, strict=True):
        axis.set_xlabel(label, fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 1].invert_xaxis()  # both columns read from left to right
    named = axes[0, 0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    save(figure, path, caption)


def _curve(axis: Any, curve: Mapping[str, Sequence[float]], key: str, color: str, **style: Any) -> None:
    position, mean, error = (np.array(curve[name], dtype=float) for name in ("position", key, f"{key}_se"))
    every = max(1, len(position) // 10)
    axis.plot(position, mean, color=color, markevery=every, markersize=4, linewidth=1.2, **style)
    axis.fill_between(position, mean - BAND * error, mean + BAND * error, color=color, alpha=0.2, linewidth=0)


def price_figure(
    points: Mapping[str, Mapping[str, Any]], path: Path, cost: str, baseline: bool = False, caption: str = ""
) -> None:
    """Likelihood against nats in z, a point a method with its name, coloured by how well labels are read from z's mean.

    Each of `points` has `kl`, `cost` and `accuracy`, which are a `Spread` over seeds; the last may be None. Bars are
    standard deviations over seeds, of a single one the standard error `cost_se` of its estimate, where it has one.
    `cost` names the second axis, on which `baseline` marks 0 as the language model. Raises ModuleNotFoundError that
    names the extra without matplotlib.
    """
    figure = require_matplotlib()(figsize=(6.2, 4.2), layout="constrained")
    axis = figure.subplots()
    places = {title: (point["kl"].mean, point["cost"].mean) for title, point in points.items()}
    several = {title: point for title, point in points.items() if len(point["kl"].values) > 1}
    errors = {title: (point["kl"].deviation, point["cost"].deviation) for title, point in several.items()}
    estimated = {title: point["cost_se"] for title, point in points.items() if point.get("cost_se")}
    errors |= {title: (0.0, error) for title, error in estimated.items() if title not in several}
    for title, (wide, high) in errors.items():
        axis.errorbar(*places[title], high, wide, color="0.6", linewidth=0.8, capsize=2, zorder=1)
    _coloured(figure, axis, places, {title: point["accuracy"] for title, point in points.items()})
    if baseline:
        axis.axhline(0, color="black", linewidth=0.8, linestyle="--", zorder=0)
    axis.set_xlabel("KL(q(z|x) || p(z)), nats per text", fontsize=8)
    axis.set_ylabel(f"{cost}, ± s.e." if estimated.keys() - several.keys() else cost, fontsize=8)
    axis.margins(0.18)
    first, last = min(0.0, axis.dataLim.x0), axis.dataLim.x1  # an estimated KL can be below 0
    axis.set_xlim(left=first - 0.04 * ((last - first) or 1.0))
    plain_axes(axis)
    if caption:
        figure.suptitle(" ")  # for which the layout leaves room
    figure.draw_without_rendering()  # lays the axes out, by whose place names find theirs
    _name(axis, places, errors, "language model" if baseline else None)
    save(figure, path, caption)


def _coloured(
    figure: Any, axis: Any, places: Mapping[str, tuple[float, float]], accuracies: Mapping[str, Spread | None]
) -> None:
    """The points, those of a known accuracy in its colour, the same in all pictures, and the bar that tells which."""
    from matplotlib.ticker import PercentFormatter  # which need not be installed

    looks = {"s": 45, "edgecolors": "black", "linewidths": 0.6, "zorder": 2}
    read = {title: accuracy.mean for title, accuracy in accuracies.items() if accuracy is not None}
    plain = [place for title, place in places.items() if title not in read]
    if plain:
        axis.scatter(*zip(*plain, strict=True), color="white", **looks)
    if read:
        x, y = zip(*(places[title] for title in read), strict=True)
        drawn = axis.scatter(x, y, c=list(read.values()), cmap="viridis", vmin=0, vmax=1, **looks)
        bar = figure.colorbar(drawn, ax=axis, pad=0.02, format=PercentFormatter(1))
        bar.set_label("accuracy of labels predicted from the mean", fontsize=8)
        bar.ax.tick_params(labelsize=8)


def _name(
    axis: Any,
    points: Mapping[str, tuple[float, float]],
    errors: Mapping[str, tuple[float, float]],
    baseline: str | None = None,
) -> None:
    """Write each name beside its point, and the baseline's at 0, where they cover the least of what is there."""
    from matplotlib.transforms import Bbox

    taken = [line.get_window_extent().padded(1) for line in axis.lines]
    for title, (x, y) in points.items():
        taken.append(Bbox([axis.transData.transform((x, y))] * 2).padded(6))
        for wide, high in ((errors[title][0], 0.0), (0.0, errors[title][1])) if title in errors else ():
            corners = axis.transData.transform([(x - wide, y - high), (x + wide, y + high)])
            taken.append(Bbox(corners).padded(3))
    looks = {"textcoords": "offset points", "fontsize": 7}
    if baseline:
        at_line = {"xycoords": axis.get_yaxis_transform(), "color": "0.3"} | looks
        ends, heights = {"right": (1, -3), "left": (0, 3)}, {"baseline": 3, "top": -3}
        written = [
            axis.annotate(baseline, (end, 0), (right, up), ha=ha, va=va, **at_line)
            for va, up in heights.items()
            for ha, (end, right) in ends.items()
        ]
        taken.append(_keep_one(axis, written, taken))
    for title, point in points.items():
        name = fill(title, NAME_WIDTH)
        written = [axis.annotate(name, point, place, **looks, **sides) for place, sides in NAME_PLACES.items()]
        taken.append(_keep_one(axis, written, taken))


def _keep_one(axis: Any, texts: Sequence[Any], taken: Sequence[Any]) -> Any:
    """Remove all but the text that covers the least of the boxes `taken` and of what is outside the frame; its box."""
    from matplotlib.transforms import Bbox

    def area(box: Any) -> float:
        return 0.0 if box is None else float(box.width * box.height)

    def cost(box: Any) -> float:
        outside = area(box) - area(Bbox.intersection(box, axis.get_window_extent()))
        return outside + sum(area(Bbox.intersection(box, other)) for other in taken)

    boxes = [text.get_window_extent() for text in texts]
    best = min(range(len(texts)), key=lambda number: cost(boxes[number]))  # of equal ones the first
    for number, text in enumerate(texts):
        if number != best:
            text.remove()
    return boxes[best]


def feature_space_figure(
    spaces: Mapping[str, tuple[Sequence[Sequence[float]], float | None]], path: Path, caption: str = ""
) -> None:
    """Features (N, 3) in the cube [-1, 1]^3, and their shadows on its walls, one panel a method (paper, Figure 2).

    `spaces` are points and their mean pairwise cosine, by title. Raises ModuleNotFoundError that says what to install
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
