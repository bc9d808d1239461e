"""What the figures say: collapsed or not, and whether one model's NLL is lower than another's beyond chance."""

import math
from collections.abc import Mapping
from typing import Any

COLLAPSED_BELOW = 0.1
"""Nats of KL per sentence under which a latent is as good as ignored."""


def collapsed(report: Mapping[str, Any]) -> bool:
    """Whether the posterior has collapsed onto the prior: KL below a tenth of a nat per sentence.

    A language model, whose active units are None, has no posterior to collapse.
    """
    return report["au"] is not None and report["kl"] < COLLAPSED_BELOW


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
