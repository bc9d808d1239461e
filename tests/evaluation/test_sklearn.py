import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.evaluation.sklearn import SeqVAEVectorizer
from modeling_seqvae.text import SeqVAE
from modeling_seqvae.tokenization import train_tokenizer

GOOD, BAD = ["great", "lovely", "warm"], ["slow", "cold", "bland"]
TEXTS = [f"the food was {a} and {b}" for words in (GOOD, BAD) for a in words for b in words] * 2
LABELS = np.array(([1] * 9 + [0] * 9) * 2)
LATENT, HIDDEN = 3, 10


def save(folder, seed: int = 0, latent_size: int = LATENT) -> str:
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS)
    config = SeqVAEConfig(
        vocab_size=len(tokenizer),
        embedding_size=6,
        hidden_size=8,
        encoder_hidden_size=HIDDEN,
        latent_size=latent_size,
        initializer_range=0.8,
    )
    SeqVAE(SeqVAEForTextModeling(config), tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def loads(monkeypatch) -> list:
    """The checkpoints loaded during a test."""
    loaded, load = [], SeqVAE.from_pretrained.__func__
    monkeypatch.setattr(
        SeqVAE, "from_pretrained", classmethod(lambda cls, path, **kw: loaded.append(path) or load(cls, path, **kw))
    )
    return loaded


@pytest.mark.parametrize("features", ["mean", "mean_variance", "pooled"])
@pytest.mark.parametrize("container", [list, lambda t: np.array(t, dtype=object), pd.Series])
def test_transform_is_encode_without_fitting(checkpoint, features, container):
    vectorizer = SeqVAEVectorizer(checkpoint, features=features, batch_size=5)
    check_is_fitted(vectorizer)
    expected = SeqVAE.from_pretrained(checkpoint).encode(TEXTS, features=features)
    np.testing.assert_allclose(vectorizer.transform(container(TEXTS)), expected, atol=1e-6)
    np.testing.assert_allclose(vectorizer.fit_transform(container(TEXTS), LABELS), expected, atol=1e-6)


def test_a_pipeline_learns_from_the_features(checkpoint):
    pipeline = make_pipeline(SeqVAEVectorizer(checkpoint), LogisticRegression()).fit(TEXTS, LABELS)
    features = SeqVAE.from_pretrained(checkpoint).encode(TEXTS)
    alone = LogisticRegression().fit(features, LABELS)
    np.testing.assert_allclose(pipeline.predict_proba(TEXTS), alone.predict_proba(features), atol=1e-4)
    scores = cross_val_score(make_pipeline(SeqVAEVectorizer(checkpoint), LogisticRegression()), TEXTS, LABELS, cv=3)
    np.testing.assert_allclose(scores, cross_val_score(LogisticRegression(), features, LABELS, cv=3))


def test_a_grid_search_tries_every_kind_of_features(checkpoint):
    pipeline = make_pipeline(SeqVAEVectorizer(checkpoint), LogisticRegression())
    grid = {"seqvaevectorizer__features": ["mean", "mean_variance", "pooled"]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(TEXTS, LABELS)
    assert len(search.cv_results_["params"]) == 3
    assert search.predict(["the food was great and warm"]).shape == (1,)


def test_a_clone_has_the_parameters_and_not_the_model(checkpoint):
    vectorizer = SeqVAEVectorizer(checkpoint, features="pooled", batch_size=7)
    expected = vectorizer.transform(TEXTS)
    copy = clone(vectorizer)
    assert copy.get_params() == vectorizer.get_params()
    assert copy.__dict__ == copy.get_params()
    np.testing.assert_array_equal(copy.transform(TEXTS), expected)


def test_a_pickle_is_small_before_and_after_loading(checkpoint):
    vectorizer = SeqVAEVectorizer(checkpoint)
    before = pickle.dumps(vectorizer)
    expected = vectorizer.transform(TEXTS)
    assert pickle.dumps(vectorizer) == before
    np.testing.assert_array_equal(pickle.loads(before).transform(TEXTS), expected)


def test_the_checkpoint_loads_late_and_once(checkpoint, loads):
    vectorizer = SeqVAEVectorizer(checkpoint).fit(TEXTS)
    assert loads == []
    vectorizer.transform(TEXTS)
    vectorizer.set_params(features="mean", batch_size=3).transform(TEXTS)
    vectorizer.get_feature_names_out()
    assert loads == [checkpoint]


def test_another_checkpoint_is_loaded_when_the_parameter_changes(checkpoint, loads, tmp_path):
    other = save(tmp_path, seed=1)
    vectorizer = SeqVAEVectorizer(checkpoint)
    first = vectorizer.transform(TEXTS)
    second = vectorizer.set_params(id_or_path=other).transform(TEXTS)
    assert loads == [checkpoint, other]
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(second, SeqVAE.from_pretrained(other).encode(TEXTS))


@pytest.mark.parametrize(
    "features, first, last, count",
    [
        ("mean", "mean_0", f"mean_{LATENT - 1}", LATENT),
        ("mean_variance", "mean_0", f"variance_{LATENT - 1}", 2 * LATENT),
        ("pooled", "pooled_0", f"pooled_{HIDDEN - 1}", HIDDEN),
    ],
)
def test_feature_names(checkpoint, features, first, last, count):
    names = SeqVAEVectorizer(checkpoint, features=features).get_feature_names_out()
    assert names[0] == first and names[-1] == last and len(names) == count


def test_pandas_output_keeps_names_and_index(checkpoint):
    vectorizer = SeqVAEVectorizer(checkpoint).set_output(transform="pandas")
    texts = pd.Series(TEXTS[:4], index=["a", "b", "c", "d"])
    frame = vectorizer.fit_transform(texts)
    assert list(frame.columns) == list(vectorizer.get_feature_names_out())
    assert list(frame.index) == list(texts.index)
    assert isinstance(vectorizer.transform(TEXTS), pd.DataFrame)


@pytest.mark.filterwarnings("ignore:Can't test estimator")  # most of the checks feed tables of numbers
def test_the_checks_of_scikit_learn_that_apply(checkpoint):
    check_estimator(SeqVAEVectorizer(checkpoint))


def test_the_tags_say_strings_in_and_no_fit(checkpoint):
    tags = SeqVAEVectorizer(checkpoint).__sklearn_tags__()
    assert tags.input_tags.string and not tags.input_tags.two_d_array and not tags.requires_fit


@pytest.mark.parametrize("X", ["the food", pd.DataFrame({"text": TEXTS}), None, [1, 2]], ids=lambda X: type(X).__name__)
def test_what_is_not_a_list_of_strings_is_refused(checkpoint, X):
    with pytest.raises(TypeError, match="string"):
        SeqVAEVectorizer(checkpoint).transform(X)


def test_bad_parameters_are_refused_when_used(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="features='h' is not one of"):
        SeqVAEVectorizer(checkpoint, features="h").transform(TEXTS)
    with pytest.raises(FileNotFoundError, match="no SeqVAE checkpoint"):
        SeqVAEVectorizer(tmp_path / "nowhere").transform(TEXTS)
    with pytest.raises(ValueError, match="latent_size=0"):
        SeqVAEVectorizer(save(tmp_path, latent_size=0)).transform(TEXTS)
