"""From a labelled corpus to a report: what classifiers read from an encoder's features, and without an encoder."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline

from ..argument_checks import progress_bar
from ..data.columns import array_of, texts_of
from ..data.corpora import Corpus
from ..text import SeqVAE
from .probe import logistic_regression, mlp, tf_idf

RESAMPLES = 1000
"""Bootstrap samples of the test sentences behind the standard error of macro-F1."""

SCORED = ("test", "validation")
"""The splits that classifiers are scored on: settings are chosen on the second."""

CLASSIFIERS: dict[str, Callable[[NDArray, int], Any]] = {
    "logistic regression": lambda labels, seed: logistic_regression(),
    "MLP": mlp,
}
"""What is trained on an encoder's features: name -> (training labels, seed) -> estimator."""

BASELINES: dict[str, tuple[str, Callable[[], Any]]] = {
    "TF-IDF": ("logistic regression", lambda: make_pipeline(tf_idf(), LogisticRegression(max_iter=1000))),
    "none": ("majority class", DummyClassifier),
}
"""What is trained on the texts themselves: features -> name and estimator."""


def classify(
    vaes: Mapping[str, SeqVAE],
    corpus: Corpus,
    features: str = "mean_variance",
    batch_size: int = 32,
    seed: int = 0,
    show_progress: bool | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Train classifiers on the training split and score them on `split`, test or validation: a report fit for JSON.

    Its `systems` are a logistic regression and an MLP (paper, Appendix A) on the features of each of `vaes`, then
    TF-IDF with logistic regression, then the commonest class; see `scores` for their figures. The encoders are not
    trained. Raises ValueError for a corpus without labels, with a single class in training, or with a class in `split`
    that training does not have; and for features or models that SeqVAE.encode refuses. TypeError for no Corpus.
    """
    if not isinstance(corpus, Corpus):
        raise TypeError(
            f"classify reads a Corpus, as load_corpus(spec_from_path(FILE)) makes it, got {type(corpus).__name__}"
        )
    names = require_labels(corpus, split)
    for vae in vaes.values():
        vae.encode([], features)  # a mistake is told before the work
    train, test = corpus.splits["train"], corpus.splits[split]
    train_texts, test_texts = list(texts_of(train)), list(texts_of(test))
    train_labels, test_labels = array_of(train, "label"), array_of(test, "label")
    systems = []
    fits = len(vaes) * len(CLASSIFIERS) + len(BASELINES)
    with progress_bar(fits, "classifying", show_progress, " fits") as bar:

        def add(source: str, name: str, estimator: Any, train_inputs: Any, test_inputs: Any) -> None:
            bar.set_postfix_str(f"{name} on {source}")
            predicted = estimator.fit(train_inputs, train_labels).predict(test_inputs)
            confusion = confusion_matrix(test_labels, predicted, labels=np.unique(train_labels))
            systems.append({"features": source, "classifier": name, **scores(confusion, names, seed)})
            bar.update()

        for title, vae in vaes.items():
            encoded = [vae.encode(texts, features, batch_size, show_progress) for texts in (train_texts, test_texts)]
            for name, make in CLASSIFIERS.items():
                add(title, name, make(train_labels, seed), *encoded)
        for source, (name, make_baseline) in BASELINES.items():
            add(source, name, make_baseline(), train_texts, test_texts)
    return {
        "corpus": corpus.name,
        "classes": names,
        "features": features,
        "split": split,
        "seed": seed,
        "splits": corpus.report.as_dict()["splits"],
        "notes": list(corpus.report.notes),
        "systems": systems,
    }


def require_scored(split: str) -> None:
    """Raise ValueError for a split that classifiers are not scored on."""
    if split not in SCORED:
        raise ValueError(f"classifiers are scored on {' or '.join(SCORED)}, not on {split!r}")


def require_labels(corpus: Corpus, split: str = "test") -> list[str]:
    """The names of the classes in training, in the order of their ids.

    Raises ValueError where a classifier could not be trained on the corpus, or not scored on `split`.
    """
    require_scored(split)
    if not corpus.labelled:
        raise ValueError(
            f"corpus {corpus.name} has no labels, without which there is nothing to classify: name their column with "
            "--label-column, or use a labelled corpus"
        )
    names = corpus.splits["train"].features["label"].names
    trained, tested = (np.unique(array_of(corpus.splits[split], "label")) for split in ("train", split))
    if len(trained) < 2:
        raise ValueError(
            f"the {len(corpus.splits['train']):,} training documents of {corpus.name} all have the label "
            f"{names[trained[0]]!r}: a classifier needs two classes"
        )
    unseen = np.setdiff1d(tested, trained)
    if len(unseen):
        raise ValueError(
            f"the {split} documents of {corpus.name} have labels that its {len(corpus.splits['train']):,} training "
            f"documents do not: {', '.join(names[label] for label in unseen)}. Train on more, or leave these out"
        )
    return [names[label] for label in trained]


def scores(confusion: NDArray, names: list[str], seed: int = 0) -> dict[str, Any]:
    """Figures of a confusion matrix (C, C), true classes by predicted ones, with standard errors over test sentences.

    `accuracy` has the binomial standard error; `macro_f1`, the mean of F1 over the classes that are there or predicted,
    the spread of bootstrap samples of the sentences. `per_class` has precision, recall, F1 and the number of sentences
    of each class, 0 where there is nothing to divide by; `confusion` is the matrix itself.
    """
    total = int(confusion.sum())
    accuracy = float(np.trace(confusion) / total)
    resampled = np.random.default_rng(seed).multinomial(total, confusion.ravel() / total, size=RESAMPLES)
    precision, recall, f1 = _precision_recall_f1(confusion)
    return {
        "accuracy": accuracy,
        "accuracy_se": float(np.sqrt(accuracy * (1 - accuracy) / total)),
        "macro_f1": float(_macro_f1(confusion)),
        "macro_f1_se": float(_macro_f1(resampled.reshape(-1, *confusion.shape)).std(ddof=1)),
        "per_class": [
            {
                "label": name,
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "sentences": int(confusion[i].sum()),
            }
            for i, name in enumerate(names)
        ],
        "confusion": confusion.tolist(),
    }


def _precision_recall_f1(confusion: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Of confusion matrices (..., C, C), each (..., C)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, there = confusion.sum(-2), confusion.sum(-1)
    return _share(right, predicted), _share(right, there), _share(2 * right, predicted + there)


def _macro_f1(confusion: NDArray) -> NDArray:
    seen = (confusion.sum(-2) + confusion.sum(-1)) > 0  # (..., C)
    return _precision_recall_f1(confusion)[2].sum(-1) / seen.sum(-1)


def _share(part: NDArray, whole: NDArray) -> NDArray:
    return part / np.maximum(whole, 1)
