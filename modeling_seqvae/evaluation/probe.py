"""How well a label can be read from features: accuracy of a classifier on a frozen encoder's output."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@dataclass(frozen=True)
class Probe:
    """Test accuracy of a classifier on features, with the accuracy of always answering the majority class beside it."""

    accuracy: float
    majority: float
    classes: int


def probe(
    train_features: np.ndarray, train_labels: ArrayLike, test_features: np.ndarray, test_labels: ArrayLike
) -> Probe:
    """Logistic regression on standardised features (N, D), scored on other sentences.

    Raises ValueError, from scikit-learn, where the labels hold a single class or the lengths differ.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(train_features, train_labels)
    majority = DummyClassifier().fit(train_features, train_labels)
    return Probe(
        accuracy=float(classifier.score(test_features, test_labels)),
        majority=float(majority.score(test_features, test_labels)),
        classes=len(np.unique(np.asarray(train_labels))),
    )
