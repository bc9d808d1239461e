"""How well a label can be read from features: accuracy of a classifier on a frozen encoder's output."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

MLP_HIDDEN = (256, 256)
"""Two hidden layers and the one into the softmax: the three layers of the paper, which leaves their widths open."""

MLP_HELD_OUT = 0.1
"""Share of the training sentences that tells an MLP when to stop."""


@dataclass(frozen=True)
class Probe:
    """Test accuracy of a classifier on features, with the accuracy of always answering the majority class beside it."""

    accuracy: float
    majority: float
    classes: int


def logistic_regression() -> Pipeline:
    """Logistic regression on standardised features, with scikit-learn's own penalty (C = 1)."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def tf_idf() -> TfidfVectorizer:
    """Words and signs of a text, weighted by TF-IDF with logarithmic counts."""
    return TfidfVectorizer(token_pattern=r"\w+|[^\w\s]+", sublinear_tf=True)


def lsa(train_texts: Sequence[str], test_texts: Sequence[str], size: int, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Latent semantic analysis: TF-IDF of the texts on its first `size` singular vectors of the training texts.

    Two arrays (N, size), with fewer columns where the training texts have fewer different words. The `seed` is that of
    the randomised decomposition. Raises ValueError, from scikit-learn, where the training texts have no words.
    """
    words = tf_idf()
    train = words.fit_transform(train_texts)
    decomposition = TruncatedSVD(min(size, train.shape[1]), random_state=seed)
    return decomposition.fit_transform(train), decomposition.transform(words.transform(test_texts))


def mlp(labels: ArrayLike, seed: int = 0) -> Pipeline:
    """The classifier of the paper's Appendix A: three layers on standardised features, with ReLU, and a softmax.

    Adam, batches of 200, until ten passes bring nothing to a tenth of the training sentences that is held out, in the
    proportions of the `labels` it will be fitted to. Where these are too few for that, 200 passes or until the loss
    stays.
    """
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    enough = counts.min() >= 2 and MLP_HELD_OUT * counts.sum() >= len(counts)
    network = MLPClassifier(MLP_HIDDEN, early_stopping=enough, validation_fraction=MLP_HELD_OUT, random_state=seed)
    return make_pipeline(StandardScaler(), network)


def probe(
    train_features: np.ndarray, train_labels: ArrayLike, test_features: np.ndarray, test_labels: ArrayLike
) -> Probe:
    """Logistic regression on standardised features (N, D), scored on other sentences.

    Raises ValueError, from scikit-learn, where the labels hold a single class or the lengths differ.
    """
    classifier = logistic_regression()
    classifier.fit(train_features, train_labels)
    majority = DummyClassifier().fit(train_features, train_labels)
    return Probe(
        accuracy=float(classifier.score(test_features, test_labels)),
        majority=float(majority.score(test_features, test_labels)),
        classes=len(np.unique(np.asarray(train_labels))),
    )
