"""What can be read from a latent by the simplest means: a sentence's length, its first word, its label."""

from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..data.batching import sentence_lengths, tokenise
from ..data.columns import array_of, some_of, texts_of
from ..modeling_seqvae import SeqVAEForTextModeling
from ..noise import seed_of
from ..text import SeqVAE
from .classify import BASELINES
from .evaluate import Evaluator
from .probe import lsa, probe

PROBED_WORDS = 20
"""First words that are told apart: the most frequent ones in training."""

TRAIN_SENTENCES = 10_000
"""Training sentences, at most, that the probes are fitted to; of more, random ones: files are sorted by labels."""


def read_from_means(vae: SeqVAE, train: Dataset, test: Dataset, show_progress: bool | None = None) -> dict[str, Any]:
    """Linear probes on μ, standardised, fitted to training sentences and scored on `test`; fit for JSON.

    `length`: R² of a ridge regression of the number of words, and of answering the training mean. `first_word` and
    `label`: accuracy of a logistic regression, and of the training majority; sentences that begin with none of the
    most frequent words are left out (`share` are not). None for what does not vary in training, and for labels that
    there are not. Raises ValueError for a language model.
    """
    train = some_of(train, TRAIN_SENTENCES)
    means = [vae.encode(texts_of(rows), "mean", show_progress=show_progress) for rows in (train, test)]
    tokenised = [tokenise(rows, vae.tokenizer) for rows in (train, test)]
    lengths = [sentence_lengths(rows).astype(np.float64) - 2 for rows in tokenised]
    first = [np.array([ids[1] for ids in rows["input_ids"]]) for rows in tokenised]
    labels = [array_of(rows, "label") for rows in (train, test)] if "label" in train.column_names else None
    return {
        "trained_on": len(train),
        "length": _length(means, lengths),
        "first_word": _first_word(means, first, lengths),
        "label": None if labels is None else _class(means, labels),
    }


def labels_from_features(
    model: SeqVAEForTextModeling, train: Dataset, test: Dataset, seed: int = 0, progress: bool = True
) -> dict[str, dict[str, Any] | None]:
    """Accuracy of labels of tokenised sentences, read from the `mean`, one `draw` of z and the `pooled` features.

    Logistic regression on standardised features of `train`, scored on `test`; see `read_from_means` for the figures.
    The test sentences' draws are those of an Evaluator of the seed, the training sentences' are others. The features
    are in float32, whatever accelerate is configured for. Raises ValueError for a language model.
    """
    evaluators = [
        Evaluator(model, rows, seed=number, progress=progress, precision="no")
        for rows, number in ((train, seed_of(seed, 1)), (test, seed))
    ]
    sides = [evaluator.features() for evaluator in evaluators]
    labels = [array_of(evaluator.dataset, "label") for evaluator in evaluators]  # in the order of the features
    return {name: _class([side[name].numpy() for side in sides], labels) for name in sides[0]}


def labels_from_lsa(train: Dataset, test: Dataset, size: int, seed: int = 0) -> dict[str, Any] | None:
    """The same figures of logistic regression on latent semantic analysis of the texts, and its `dimensions`."""
    features = lsa(list(texts_of(train)), list(texts_of(test)), size, seed)
    found = _class(list(features), [array_of(rows, "label") for rows in (train, test)])
    return None if found is None else found | {"dimensions": features[0].shape[1]}


def labels_from_words(train: Dataset, test: Dataset) -> dict[str, dict[str, Any]]:
    """Accuracy of the systems that read the texts themselves, `BASELINES` of `classify`, by their names there."""
    texts = [list(texts_of(rows)) for rows in (train, test)]
    labels = [array_of(rows, "label") for rows in (train, test)]
    found = {}
    for name, (_, make) in BASELINES.items():
        accuracy = make().fit(texts[0], labels[0]).score(texts[1], labels[1])
        found[name] = _figures(float(accuracy), len(labels[1]))
    return found


def _length(means: list[NDArray], lengths: list[NDArray]) -> dict[str, Any] | None:
    if np.ptp(lengths[0]) == 0 or np.ptp(lengths[1]) == 0:
        return None
    regression = make_pipeline(StandardScaler(), Ridge()).fit(means[0], lengths[0])
    mean = DummyRegressor().fit(means[0], lengths[0])
    r2, baseline = (float(fitted.score(means[1], lengths[1])) for fitted in (regression, mean))
    return {"r2": r2, "baseline": baseline, "sentences": len(lengths[1])}


def _first_word(means: list[NDArray], first: list[NDArray], lengths: list[NDArray]) -> dict[str, Any] | None:
    words, counts = np.unique(first[0][lengths[0] > 0], return_counts=True)
    frequent = words[np.argsort(-counts, kind="stable")][:PROBED_WORDS]
    kept = [np.isin(words, frequent) & (length > 0) for words, length in zip(first, lengths, strict=True)]
    found = _class(*([values[k] for values, k in zip(both, kept, strict=True)] for both in (means, first)))
    return None if found is None else found | {"share": float(kept[1].mean())}


def _class(means: list[NDArray], classes: list[NDArray]) -> dict[str, Any] | None:
    if len(np.unique(classes[0])) < 2 or len(classes[1]) == 0:
        return None
    found = probe(means[0], classes[0], means[1], classes[1])
    figures = _figures(found.accuracy, len(classes[1]))
    return figures | {"majority": found.majority, "classes": found.classes, "sentences": len(classes[1])}


def _figures(accuracy: float, count: int) -> dict[str, Any]:
    """An accuracy over so many sentences, and its standard error."""
    return {"accuracy": accuracy, "accuracy_se": float(np.sqrt(accuracy * (1 - accuracy) / count))}
