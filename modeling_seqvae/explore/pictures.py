"""The pictures of the page without a browser: map, traversals and curves as PNG, and all of it as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.files import write_json, write_text, writing
from ..evaluation.drawing import STYLES, as_written, curves, require_matplotlib
from ..evaluation.projection import TITLES
from ..evaluation.writing import csv_quoting
from .explorer import Explorer, colour_range

MOST_CLASSES = 7
"""Classes with a colour of their own in the picture; the others are grey."""
SHOWN = 10
"""Dimensions whose traversals are written, the most informative ones."""


def write_pictures(
    explorer: Explorer, folder: Path, method: str = "pca", colour: str | None = None, text: str | None = None
) -> list[str]:
    """Write map, dimensions, traversal and curves into a folder; the names of the files, in the order of writing.

    `colour` is one of the explorer's, the labels or else the length; `text` is what the traversal is around, or the
    middle of the prior. Raises ValueError for another method or colour, and without matplotlib ModuleNotFoundError that
    says what to install.
    """
    colour = colour or next(iter(explorer.colours))
    places, values = explorer.places(method), explorer.coloured(colour)
    tables = {
        "map": map_table(explorer, places, colour, values),
        "dimensions": dimension_table(explorer),
        "traversal": traversal_table(explorer, text),
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False, quoting=csv_quoting(table)))
        written.append(f"{name}.csv")
    map_figure(explorer, places, colour, values, method, folder / "map.png")
    dimension_figure(tables["dimensions"], explorer.title, folder / "dimensions.png")
    traversal_figure(tables["traversal"], explorer.title, folder / "traversal.png")
    written += ["map.png", "dimensions.png", "traversal.png"]
    if explorer.history:
        write_text(folder / "curves.csv", pd.DataFrame(list(explorer.history)).to_csv(index=False))
        with writing(folder):
            (folder / "curves.png").write_bytes(curves(explorer.history, explorer.title))
        written += ["curves.csv", "curves.png"]
    write_json(folder / "figures.json", figures(explorer))
    return [*written, "figures.json"]


def figures(explorer: Explorer) -> dict[str, Any]:
    """What the field reports of the dimensions, fit for JSON; `disentanglement` is None where it cannot be measured."""
    dimensions = explorer.dimensions
    return {
        "title": explorer.title,
        "texts": len(explorer.texts),
        "source": explorer.source,
        "kl": None if dimensions.kl is None else float(dimensions.kl.sum()),
        "au": explorer.active,
        "kl_per_dimension": None if dimensions.kl is None else dimensions.kl.tolist(),
        "variance_per_dimension": dimensions.variance.tolist(),
        "noise_per_dimension": dimensions.noise.tolist(),
        "disentanglement": explorer.disentanglement(),
    }


def map_table(explorer: Explorer, places: Any, colour: str, values: Sequence[Any]) -> pd.DataFrame:
    """A row a text: where it is, its length, its label, what it is coloured by, and the text."""
    columns: dict[str, Any] = {"x": places[:, 0], "y": places[:, 1], "length": explorer.lengths}
    if explorer.labels is not None:
        columns["label"] = explorer.labels
    return pd.DataFrame({**columns, colour: values, "text": explorer.texts})


def dimension_table(explorer: Explorer) -> pd.DataFrame:
    """A row a dimension, most informative first: KL, variance of the means, and what it tells of the labels."""
    dimensions, order = explorer.dimensions, explorer.dimensions.order
    columns: dict[str, Any] = {"dimension": order}
    if dimensions.kl is not None:
        columns["kl"] = dimensions.kl[order]
    columns |= {"variance": dimensions.variance[order], "noise": dimensions.noise[order]}
    found = explorer.disentanglement()
    if found:
        columns |= {name: np.array(found["factors"]["label"][name])[order] for name in ("information", "accuracy")}
    return pd.DataFrame(columns)


def traversal_table(explorer: Explorer, text: str | None = None) -> pd.DataFrame:
    """The sentences at -3 ... 3 along each of the first dimensions: a row a dimension and value."""
    rows = [
        {"dimension": number, "value": value, "sentence": sentence}
        for number in explorer.dimensions.order[:SHOWN]
        for value, sentence in explorer.traverse(text, number, 3.0, 7)
    ]
    return pd.DataFrame(rows)


def map_figure(explorer: Explorer, places: Any, colour: str, values: Sequence[Any], method: str, path: Path) -> None:
    """The map as a PNG."""
    figure = require_matplotlib()(figsize=(6.4, 5.2), layout="constrained")
    axis = figure.subplots()
    looks: Mapping[str, Any] = {"s": 9 if len(places) > 1500 else 16, "alpha": 0.7, "linewidths": 0}
    if colour == "label":
        labels, (own, rest) = np.array(values), explorer.coloured_classes(MOST_CLASSES)
        for name, (shade, *_) in zip(own, STYLES, strict=False):
            axis.scatter(*places[labels == name].T, color=shade, label=_short(name), **looks)
        if rest:
            axis.scatter(*places[np.isin(labels, rest)].T, color="0.6", label=f"{len(rest)} others", **looks)
        figure.legend(loc="outside right upper", fontsize=8, frameon=False, markerscale=2)
    else:
        low, high = colour_range(values)
        drawn = axis.scatter(*places.T, c=values, cmap="viridis", vmin=low, vmax=high, **looks)
        bar = figure.colorbar(drawn, ax=axis, pad=0.02)
        bar.set_label(colour, fontsize=8)
        bar.ax.tick_params(labelsize=8)
    axis.set_aspect("equal", "datalim")
    axis.set_xticks([])
    axis.set_yticks([])
    figure.suptitle(f"{explorer.title}: {len(places):,} texts, {TITLES[method]} of the posteriors", fontsize=9)
    as_written(figure).savefig(path, dpi=200)


def dimension_figure(table: pd.DataFrame, title: str, path: Path) -> None:
    """KL of each dimension as bars, or where it is not known the variance of the means."""
    measured = "kl" if "kl" in table else "variance"
    figure = require_matplotlib()(figsize=(7.2, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.bar([str(i) for i in table["dimension"]], table[measured], color=STYLES[0][0])
    axis.set_xlabel("dimension", fontsize=8)
    axis.set_ylabel("nats per sentence" if measured == "kl" else "variance of the means", fontsize=8)
    axis.tick_params(labelsize=7 if len(table) <= 40 else 4)
    axis.grid(axis="y", alpha=0.3, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}: what each dimension holds", fontsize=9)
    as_written(figure).savefig(path, dpi=200)


def traversal_figure(table: pd.DataFrame, title: str, path: Path) -> None:
    """The sentences along the first four dimensions as a picture: a column a dimension, a line a value."""
    numbers = list(dict.fromkeys(table["dimension"]))[:4]
    values = list(dict.fromkeys(table["value"]))
    figure = require_matplotlib()(figsize=(3.2 * len(numbers) + 0.6, 0.42 * len(values) + 0.9))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    height = 1 / (len(values) + 2.2)
    axis.text(0.01, 1 - 0.7 * height, title, fontsize=9, va="center")
    width = 0.94 / len(numbers)
    for column, number in enumerate(numbers):
        left = 0.06 + column * width
        axis.text(left, 1 - 1.7 * height, f"z {number}", fontsize=9, weight="bold", va="center")
        sentences = table[table["dimension"] == number]["sentence"]
        for line, sentence in enumerate(sentences):
            place = 1 - (line + 2.7) * height
            axis.text(left, place, _short(sentence, 44), fontsize=8, va="center")
    for line, value in enumerate(values):
        place = 1 - (line + 2.7) * height
        axis.text(0.01, place, f"{value:+.0f}", fontsize=8, va="center", color="0.4")
        axis.axhline(place + height / 2, color="0.88", linewidth=0.6, xmin=0.01, xmax=0.99)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    as_written(figure).savefig(path, dpi=200)


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
