"""What the figures say: collapsed or not, and whether one model's bound is lower than another's beyond the error."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .evaluate import standard_error

COLLAPSED_BELOW = 0.1
"""Nats of KL per sentence under which a latent is as good as ignored."""


def collapsed(report: Mapping[str, Any]) -> bool:
    """Whether the posterior has collapsed onto the prior: KL below a tenth of a nat per sentence.

    A language model, whose active units are None, has no posterior to collapse.
    """
    return report["au"] is not None and report["kl"] < COLLAPSED_BELOW


def difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean of first - second over the same sentences (N,), in nats, and its standard error (infinite if N is 1)."""
    error = standard_error(first - second)
    return float((first - second).mean()), math.inf if error is None else error


def compare(title: str, bounds: np.ndarray, other: str, other_bounds: np.ndarray) -> str:
    """A sentence that says which of two models has the lower -ELBO, if the paired difference exceeds two errors."""
    gap, error = difference(bounds, other_bounds)
    if abs(gap) <= 2 * error:
        return f"no difference in -ELBO between {title} and {other} beyond the error ({gap:+z.2f} ± {error:.2f} nats)"
    lower, higher = (title, other) if gap < 0 else (other, title)
    return f"{lower} has a lower -ELBO than {higher} by {abs(gap):.2f} ± {error:.2f} nats per sentence"
