"""A run's curves as a picture, for the card. Needs matplotlib: `pip install seqvae[figures]`."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from ..reproduce.plots import STYLES, require_matplotlib

PANELS = (
    ("nats per sentence", {"bound": "-ELBO", "rec": "reconstruction"}),
    ("nats per sentence", {"kl": "KL", "mi": "mutual information"}),
)


def curves(history: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """A PNG of bound, reconstruction, KL and mutual information on the validation set over the epochs of a run.

    What a language model does not have is left out. Raises ModuleNotFoundError that names the extra without matplotlib.
    """
    figure = require_matplotlib()(figsize=(7.2, 2.8), layout="constrained")
    epochs = [record["epoch"] for record in history]
    for axis, (label, lines) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for (key, name), (colour, marker, line) in zip(lines.items(), STYLES, strict=False):
            if history[0].get(key) is not None:
                values = [record[key] for record in history]
                axis.plot(epochs, values, label=name, color=colour, marker=marker, linestyle=line, markersize=3)
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_ylabel(label, fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=8, frameon=False)
    figure.suptitle(f"{title}, validation set", fontsize=9)
    picture = BytesIO()
    figure.savefig(picture, dpi=150, metadata={"Software": None})
    return picture.getvalue()
