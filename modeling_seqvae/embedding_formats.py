"""Features in other forms: rows of length 1, eight bits or one bit a number, and cosines between them."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .argument_checks import one_of, outside


def _eight_bits(rows: torch.Tensor, scale: float) -> torch.Tensor:
    return (rows * (127 / scale)).round().clamp(-127, 127).to(torch.int8)


def _unsigned(rows: torch.Tensor, scale: float) -> torch.Tensor:
    return (_eight_bits(rows, scale).short() + 128).to(torch.uint8)


def _packed_signs(rows: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.from_numpy(np.packbits(rows.numpy() > 0, axis=1))


def _signed_packed_signs(rows: torch.Tensor, scale: float) -> torch.Tensor:
    return (_packed_signs(rows, scale).short() - 128).to(torch.int8)


FORMATS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "float32": lambda rows, scale: rows,
    "int8": _eight_bits,
    "uint8": _unsigned,
    "binary": _signed_packed_signs,
    "ubinary": _packed_signs,
}
"""In what `SeqVAE.encode` returns features (N, D) of a scale: the names and types are sentence-transformers'."""


EIGHT_BITS = ("int8", "uint8")


CUT_SHARE = 0.01
"""Values above what eight bits hold that are worth a warning: a Gaussian has 0.006% of them."""


def largest_of(model: Any, features: str) -> float:
    """The largest value that eight bits hold: four standard deviations of the prior, or the bound of pooled states.

    On a sphere the standard deviation is 1 / sqrt(Z), a coordinate of the point of it between all axes.
    """
    if features == "pooled":
        return model.get_encoder().largest
    return 4 * float(model.prior.project(torch.ones(model.config.latent_size))[0])


def as_embeddings(rows: torch.Tensor, scale: float, normalize: bool, precision: str) -> torch.Tensor:
    """Features (N, D) float32 in another form: rows of length 1, and one of `FORMATS`.

    A row of eight bits does not depend on the other rows: x becomes 127 x / s, rounded, where s is the `scale`, or of
    rows of length 1 four times their root mean square, 4 / sqrt(D). What is larger than s becomes 127. It is one s for
    all columns of a row, so that cosines stay what they are.
    """
    of_precision = one_of(FORMATS, precision, "precision")
    if normalize:
        rows, scale = nn.functional.normalize(rows), 4 / max(1, rows.shape[1]) ** 0.5
    if precision in EIGHT_BITS and (rows.abs() > scale).float().mean() > CUT_SHARE:
        warnings.warn(
            f"more than {CUT_SHARE:.0%} of the values are above {scale:.2g}, the largest that {precision} holds here, "
            "so that cosines are others: take float32, or normalize_embeddings=True; an encoder of your own says by "
            "`largest` how large its states are",
            stacklevel=outside(),
        )
    return of_precision(rows, scale)


def cosines(first: Any, second: Any) -> torch.Tensor:
    """The cosine of each row of one (N, D), or of one vector (D,), and each of another (M, D): (N, M) float32."""
    a, b = (torch.atleast_2d(torch.as_tensor(rows).float()) for rows in (first, second))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"embeddings must be (N, D) and (M, D), got {tuple(a.shape)} and {tuple(b.shape)}")
    return nn.functional.normalize(a) @ nn.functional.normalize(b.to(a.device)).T
