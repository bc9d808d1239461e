"""What each latent dimension holds: its KL and variance, and how far a label sits in one dimension alone.

N sentences, Z latent dimensions; all logarithms are natural. `docs/metrics.md` defines the two measures.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, mutual_info_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from ..gaussian import STANDARD_NORMAL, DiagonalGaussian
from ..posteriors import posterior_of, prior_of
from ..text import SeqVAE

BINS = 20
"""Bins of equal counts into which a dimension is cut for its information on a label, at most."""

FOLDS = 2
"""Parts of the sentences: a dimension is judged on each by a classifier that was fitted to the others."""

LEAST_OF_A_CLASS = 10
"""Sentences that a class needs on average: of labels that hardly repeat, any figure would be of chance."""


@dataclass(frozen=True)
class Dimensions:
    """Figures of every latent dimension over N sentences, (Z,) each.

    `kl` in nats per sentence, None for posteriors that are no diagonal Gaussians beside N(0, I); `variance` of the
    means over the sentences, of which those above 0.01 count as active; `noise`, the mean of the posteriors' own
    variances.
    """

    kl: NDArray[np.float64] | None
    variance: NDArray[np.float64]
    noise: NDArray[np.float64]

    @property
    def order(self) -> list[int]:
        """The dimensions, most informative first: by KL, or where it is not known by the variance of the means."""
        by = self.variance if self.kl is None else self.kl
        return [int(i) for i in np.argsort(-by, kind="stable")]


def dimensions_of(vae: SeqVAE, means: NDArray, variances: NDArray) -> Dimensions:
    """The figures of a model's dimensions, from the means and variances (N, Z) of sentences."""
    mean, variance = torch.from_numpy(means).double(), torch.from_numpy(variances).double()
    kind, kl = posterior_of(vae.model.config), None
    if isinstance(kind, DiagonalGaussian) and prior_of(kind) is STANDARD_NORMAL:
        kl = DiagonalGaussian(mean, variance.log()).kl_per_dimension().mean(0).numpy()
    spread = mean.var(0).numpy() if len(means) > 1 else np.zeros(means.shape[1])
    return Dimensions(kl, spread, variance.mean(0).numpy())


def disentanglement(means: NDArray, factors: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """MIG and SAP of labels against the dimensions of means (N, Z), and their means over all columns of labels.

    `factors` are columns of N labels each, by name. Of each column, `information` is that of every dimension in nats,
    `entropy` that of the labels, `accuracy` what every dimension alone predicts; `dimensions` the two that tell most.
    The report is fit for JSON. Raises ValueError for no column, for one of another length, of one class, or of labels
    that hardly repeat.
    """
    if not factors:
        raise ValueError("there are no labels: the measures compare dimensions with labels of the texts")
    found = {name: _of_a_column(means.astype(np.float64), name, np.asarray(labels)) for name, labels in factors.items()}
    averages = {measure: float(np.mean([one[measure] for one in found.values()])) for measure in ("mig", "sap")}
    return averages | {"factors": found}


def _of_a_column(means: NDArray, name: str, labels: NDArray) -> dict[str, Any]:
    if len(labels) != len(means):
        raise ValueError(f"every text needs its label: there are {len(means)} texts and {len(labels)} labels {name!r}")
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"the labels {name!r} are of one class")
    if len(labels) < LEAST_OF_A_CLASS * len(classes):
        raise ValueError(
            f"the labels {name!r} are of {len(classes)} classes for {len(labels)} texts: the measures need at least "
            f"{LEAST_OF_A_CLASS} texts a class on average"
        )
    shares = counts / len(labels)
    entropy = float(-(shares * np.log(shares)).sum())
    information = np.array([label_information(column, numbers) for column in means.T])
    accuracy = np.array([label_accuracy(column, numbers) for column in means.T])
    return {
        "mig": _gap(information) / entropy,
        "sap": _gap(accuracy),
        "entropy": entropy,
        "classes": len(classes),
        "dimensions": np.argsort(-information, kind="stable")[:2].tolist(),
        "information": information.tolist(),
        "accuracy": accuracy.tolist(),
    }


def _gap(values: NDArray) -> float:
    """The largest of values minus the next; of a single one, itself."""
    first, second = np.sort(np.append(values, 0.0))[:-3:-1] if len(values) == 1 else np.sort(values)[:-3:-1]
    return float(first - second)


def label_information(values: NDArray, labels: NDArray) -> float:
    """I(z; label) in nats, from counts: one dimension (N,) is cut into BINS bins of equal counts.

    Labels (N,) are 0 ... K - 1. Of independent labels it is above 0 by some (bins - 1)(classes - 1) / 2N.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return float(mutual_info_score(labels, np.searchsorted(edges, values, side="right")))


def label_accuracy(values: NDArray, labels: NDArray) -> float:
    """How well one dimension (N,) predicts labels 0 ... K - 1: adjusted balanced accuracy of a logistic regression.

    0 is chance, 1 is without a mistake, whatever the classes' number and sizes. It is of sentences that the regression
    was not fitted to. Classes of fewer sentences than FOLDS are left out.
    """
    kept = np.bincount(labels)[labels] >= FOLDS
    values, labels = values[kept], labels[kept]
    spread = values.std()
    if not spread > 0 or len(np.unique(labels)) < 2:
        return 0.0
    column = ((values - values.mean()) / spread)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression = LogisticRegression(class_weight="balanced", C=1e3, max_iter=300)
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        predicted = cross_val_predict(regression, column, labels, cv=folds)
    return float(max(0.0, balanced_accuracy_score(labels, predicted, adjusted=True)))
