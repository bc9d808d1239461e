"""What the figures say: collapsed or not, and whether one model's NLL is lower than another's beyond chance."""

import math
from collections.abc import Mapping
from typing import Any

from ..configuration_seqvae import COLLAPSED_BELOW
from ..text_batches import collapse_told


def collapsed(report: Mapping[str, Any]) -> bool:
    """Whether the posterior has collapsed onto the prior: KL below a tenth of a nat per sentence.

    A language model, whose active units are None, has no posterior to collapse.
    """
    return report["au"] is not None and report["kl"] < COLLAPSED_BELOW


def latent_verdict(figures: Mapping[str, Any], latent_size: int) -> str:
    """A sentence that says how much the latent holds, and what to do if that is nothing; empty for a language model."""
    if figures["au"] is None:
        return ""
    if collapsed(figures):
        return collapse_told(figures["kl"])
    return f"the latent holds {figures['kl']:.2f} nats a text, in {figures['au']} of {latent_size} units"


def compare(title: str, nll: float, other: str, other_nll: float, spread: float) -> str:
    """A sentence that says which of two models has the lower NLL, if they differ by more than their seeds would.

    `spread` is the standard deviation of a model's NLL between seeds, in nats per sentence. That of the difference of
    two models is sqrt(2) as large, and the difference has to exceed it twice.
    """
    gap, error = nll - other_nll, math.sqrt(2) * spread
    if abs(gap) <= 2 * error:
        return f"no difference in NLL between {title} and {other} beyond that of seeds ({gap:+z.2f} ± {error:.2f} nats)"
    lower, higher = (title, other) if gap < 0 else (other, title)
    return f"{lower} has a lower NLL than {higher} by {abs(gap):.2f} ± {error:.2f} nats per sentence"
