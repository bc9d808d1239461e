import importlib
import json
import pickle
import shutil
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Memory
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.evaluation.sklearn import SeqVAEVectorizer
from modeling_seqvae.own_modules import import_parts
from modeling_seqvae.registry import POOLINGS
from modeling_seqvae.text import SeqVAE
from modeling_seqvae.tokenization import train_tokenizer

GOOD, BAD = ["great", "lovely", "warm"], ["slow", "cold", "bland"]
TEXTS = [f"the food was {a} and {b}" for words in (GOOD, BAD) for a in words for b in words] * 2
LABELS = np.array(([1] * 9 + [0] * 9) * 2)
LATENT, HIDDEN = 3, 10


def save(folder, seed: int = 0, latent_size: int = LATENT, **fields) -> str:
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS)
    config = SeqVAEConfig(
        vocab_size=len(tokenizer),
        embedding_size=6,
        hidden_size=8,
        encoder_hidden_size=HIDDEN,
        latent_size=latent_size,
        initializer_range=0.8,
        **fields,
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


@pytest.mark.parametrize("features", ["mean", "mean_variance", "centre", "pooled"])
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


PARTS = """from modeling_seqvae.registry import POOLINGS

@POOLINGS.register("of_a_worker")
def first_pool(states, mask):
    return states[:, 0]
"""


def test_workers_import_the_modules_of_parts_of_ones_own(tmp_path, request):
    request.addfinalizer(lambda: POOLINGS.pop("of_a_worker", None))
    module = tmp_path / "parts_of_a_worker.py"
    module.write_text(PARTS)
    import_parts([str(module)])
    checkpoint = save(tmp_path / "checkpoint", pooling_mode="of_a_worker")

    def scores(n_jobs, **given):
        pipeline = make_pipeline(SeqVAEVectorizer(checkpoint, **given), LogisticRegression())
        with joblib.parallel_config("loky"):
            return cross_val_score(pipeline, TEXTS, LABELS, cv=2, n_jobs=n_jobs, error_score="raise")

    with pytest.raises(ValueError, match=r"'of_a_worker' is not one of .*SeqVAEVectorizer: imports=\[MODULE\]"):
        scores(2)
    np.testing.assert_allclose(scores(2, imports=[module]), scores(1))
    assert clone(SeqVAEVectorizer(checkpoint, imports=[module])).imports == [module]
    with pytest.raises(FileNotFoundError, match=r"there is no nowhere\.py"):
        SeqVAEVectorizer(checkpoint, imports=("nowhere.py",)).transform(TEXTS)
    with pytest.raises(TypeError, match="imports must be a sequence of modules, not one"):
        SeqVAEVectorizer(checkpoint, imports="parts_of_a_worker").transform(TEXTS)
    before = joblib.hash(SeqVAEVectorizer(checkpoint, imports=[module]))  # the key of a pipeline's memory
    assert joblib.hash(SeqVAEVectorizer(checkpoint, imports=[module])) == before
    module.write_text(PARTS.replace("states[:, 0]", "states[:, 1]"))
    assert joblib.hash(SeqVAEVectorizer(checkpoint, imports=[module])) == before  # the code that runs is the old one
    importlib.reload(sys.modules["parts_of_a_worker"])
    assert joblib.hash(SeqVAEVectorizer(checkpoint, imports=[module])) != before
    assert joblib.hash(SeqVAEVectorizer(checkpoint, imports=["parts_of_a_worker"])) != joblib.hash(
        SeqVAEVectorizer(checkpoint)
    )


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


def test_arguments_for_the_hub_reach_the_loading(checkpoint, monkeypatch):
    given, load = [], SeqVAE.from_pretrained.__func__
    monkeypatch.setattr(
        SeqVAE, "from_pretrained", classmethod(lambda cls, path, **kw: given.append(kw) or load(cls, path, **kw))
    )
    hub = {
        "revision": "v1",
        "token": "secret",
        "cache_dir": "somewhere",
        "local_files_only": True,
        "trust_remote_code": True,
    }
    vectorizer = SeqVAEVectorizer(checkpoint, **hub)
    vectorizer.transform(TEXTS[:2])
    assert given == [{"device": None, **hub}]
    vectorizer.set_params(token=None).transform(TEXTS[:2])
    assert len(given) == 2 and given[1]["token"] is None


def test_another_checkpoint_is_loaded_when_the_parameter_changes(checkpoint, loads, tmp_path):
    other = save(tmp_path, seed=1)
    vectorizer = SeqVAEVectorizer(checkpoint)
    first = vectorizer.transform(TEXTS)
    second = vectorizer.set_params(id_or_path=other).transform(TEXTS)
    assert loads == [checkpoint, other]
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(second, SeqVAE.from_pretrained(other).encode(TEXTS))


# a checkpoint that is trained again under its path


def features_of(folder) -> np.ndarray:
    return SeqVAE.from_pretrained(folder).encode(TEXTS)


def test_the_same_object_loads_what_was_trained_again(tmp_path, loads):
    vectorizer = SeqVAEVectorizer(save(tmp_path))
    first = vectorizer.transform(TEXTS)
    vectorizer.transform(TEXTS)
    save(tmp_path, seed=1)
    second = vectorizer.transform(TEXTS)
    assert len(loads) == 2 and not np.allclose(first, second)
    np.testing.assert_array_equal(second, features_of(tmp_path))
    before = vectorizer.transform(["the food was great"])
    tokenizer = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"model_max_length": 3}))
    with pytest.warns(UserWarning, match="were cut"):
        assert not np.allclose(vectorizer.transform(["the food was great"]), before)


def test_a_memory_encodes_again_what_was_trained_again(tmp_path):
    folder = tmp_path / "checkpoint"
    pipeline = make_pipeline(
        SeqVAEVectorizer(save(folder)), LogisticRegression(), memory=Memory(tmp_path / "memory", verbose=0)
    )
    coefficients = []
    for seed in (0, 1, 0, 0):
        save(folder, seed=seed)
        pipeline.fit(TEXTS, LABELS)
        expected = LogisticRegression().fit(features_of(folder), LABELS)
        np.testing.assert_allclose(pipeline[-1].coef_, expected.coef_, atol=1e-5)
        coefficients.append(pipeline[-1].coef_)
    assert not np.allclose(*coefficients[:2], atol=0.01)
    assert len(list(tmp_path.rglob("output.pkl"))) == 2  # equal weights are found, whenever they were written


def test_the_hash_follows_the_weights_and_nothing_that_loading_does(tmp_path):
    vectorizer = SeqVAEVectorizer(save(tmp_path))
    before = joblib.hash(vectorizer)
    vectorizer.transform(TEXTS)
    for same in (
        vectorizer,
        clone(vectorizer),
        pickle.loads(pickle.dumps(vectorizer)),
        SeqVAEVectorizer(str(tmp_path)),
    ):
        assert joblib.hash(same) == before
    save(tmp_path, seed=1)
    assert joblib.hash(vectorizer) == joblib.hash(clone(vectorizer)) != before
    assert vectorizer.get_params() == SeqVAEVectorizer(str(tmp_path)).get_params()


def test_a_run_is_known_by_its_best(tmp_path):
    (tmp_path / "recipe.yaml").touch()
    vectorizer = SeqVAEVectorizer(tmp_path)
    before = joblib.hash(vectorizer)
    hashes = {before}
    for seed in (0, 1):
        save(tmp_path / "best", seed=seed)
        hashes.add(joblib.hash(vectorizer))
        np.testing.assert_array_equal(vectorizer.transform(TEXTS), features_of(tmp_path / "best"))
    assert len(hashes) == 3


def test_a_pipeline_warns_when_its_features_are_of_other_weights(tmp_path):
    pipeline = make_pipeline(SeqVAEVectorizer(save(tmp_path)), LogisticRegression()).fit(TEXTS, LABELS)
    pickled = pickle.dumps(pipeline)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.predict(TEXTS)
    save(tmp_path, seed=1)
    for fitted in (pipeline, pickle.loads(pickled)):
        with pytest.warns(UserWarning, match="holds another model than at fit: .* must be fitted again"):
            fitted.predict(TEXTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.fit(TEXTS, LABELS).predict(TEXTS)


def test_an_aggregate_put_beside_the_weights_is_no_other_model(tmp_path):
    vae = SeqVAE.from_pretrained(save(tmp_path))
    vae.save_pretrained(tmp_path)
    vectorizer = SeqVAEVectorizer(tmp_path)
    pipeline = make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, LABELS)
    before = joblib.hash(vectorizer)
    vae.fit_aggregate(TEXTS)
    vae.save_pretrained(tmp_path)
    assert (tmp_path / "aggregate.safetensors").is_file() and joblib.hash(vectorizer) == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.predict(TEXTS)


def test_a_pickle_is_made_and_read_where_the_checkpoint_is_not(tmp_path):
    vectorizer = pickle.loads(pickle.dumps(SeqVAEVectorizer("user/elsewhere")))
    assert vectorizer.get_params() == SeqVAEVectorizer("user/elsewhere").get_params() == vectorizer.__dict__
    folder = save(tmp_path / "here")
    pickled = pickle.dumps(SeqVAEVectorizer(folder).fit(TEXTS))
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="no SeqVAE checkpoint"):
        pickle.loads(pickled).transform(TEXTS)


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


@pytest.mark.filterwarnings("ignore:Can't test estimator")  # scikit-learn leaves out the checks that feed numbers
@parametrize_with_checks([SeqVAEVectorizer("a checkpoint")])
def test_the_checks_that_scikit_learn_runs_on_text_transformers(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_get_params_invariance",
        "check_set_params",
    ],
)
def test_the_other_checks_that_need_no_numbers(checkpoint, check):
    getattr(estimator_checks, check)("SeqVAEVectorizer", SeqVAEVectorizer(checkpoint))


def test_a_fitted_pipeline_pickles_without_the_model(checkpoint):
    pipeline = make_pipeline(SeqVAEVectorizer(checkpoint), LogisticRegression()).fit(TEXTS, LABELS)
    pickled = pickle.dumps(pipeline)
    assert len(pickled) < 5000
    np.testing.assert_array_equal(pickle.loads(pickled).predict_proba(TEXTS), pipeline.predict_proba(TEXTS))


def test_a_search_with_a_memory_encodes_the_training_texts_of_a_fold_once(checkpoint, tmp_path):
    pipeline = make_pipeline(
        SeqVAEVectorizer(checkpoint, show_progress=False), LogisticRegression(), memory=Memory(tmp_path, verbose=0)
    )
    grid = {"logisticregression__C": [0.1, 1, 10]}
    search = GridSearchCV(pipeline, grid, cv=3, refit=False, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert len(list(tmp_path.rglob("output.pkl"))) == 3


def test_it_stands_beside_other_transformers_in_unions_and_on_columns_of_a_table(checkpoint):
    table = pd.DataFrame({"review": TEXTS, "stars": LABELS})
    columns = make_column_transformer((SeqVAEVectorizer(checkpoint, "mean"), "review"), remainder="passthrough")
    columns.set_output(transform="pandas")
    encoded = columns.fit_transform(table)
    names = [f"seqvaevectorizer__mean_{i}" for i in range(LATENT)]
    assert list(encoded.columns) == [*names, "remainder__stars"]
    np.testing.assert_allclose(encoded[names], SeqVAEVectorizer(checkpoint, "mean").transform(TEXTS), atol=1e-6)
    union = make_union(SeqVAEVectorizer(checkpoint, "mean"), TfidfVectorizer()).fit(TEXTS)
    assert union.transform(TEXTS).shape == (len(TEXTS), len(union.get_feature_names_out()))


def test_names_pass_through_a_pipeline(checkpoint):
    pipeline = make_pipeline(SeqVAEVectorizer(checkpoint), LogisticRegression()).fit(TEXTS, LABELS)
    assert list(pipeline[:-1].get_feature_names_out()) == list(SeqVAEVectorizer(checkpoint).get_feature_names_out())


def test_a_generator_of_texts_is_read_once(checkpoint):
    vectorizer = SeqVAEVectorizer(checkpoint)
    np.testing.assert_allclose(vectorizer.fit_transform(text for text in TEXTS), vectorizer.transform(TEXTS), atol=1e-6)


def test_the_tags_say_strings_in_and_no_fit(checkpoint):
    tags = SeqVAEVectorizer(checkpoint).__sklearn_tags__()
    assert tags.input_tags.string and not tags.input_tags.two_d_array and not tags.requires_fit


@pytest.mark.parametrize("X", ["the food", pd.DataFrame({"text": TEXTS}), None, [1, 2]], ids=lambda X: type(X).__name__)
def test_what_is_not_a_list_of_strings_is_refused(checkpoint, X):
    with pytest.raises(TypeError, match="string"):
        SeqVAEVectorizer(checkpoint).transform(X)


def test_a_single_string_is_refused_in_fit_as_well(checkpoint):
    with pytest.raises(TypeError, match="single string"):
        SeqVAEVectorizer(checkpoint).fit("the food")


def test_bad_parameters_are_refused_when_used(checkpoint, tmp_path):
    for use in ("fit", "transform"):
        with pytest.raises(ValueError, match="features='h' is not one of"):
            getattr(SeqVAEVectorizer(checkpoint, features="h"), use)(TEXTS)
    with pytest.raises(FileNotFoundError, match="no SeqVAE checkpoint"):
        SeqVAEVectorizer(tmp_path / "nowhere").transform(TEXTS)
    with pytest.raises(ValueError, match="latent_size=0"):
        SeqVAEVectorizer(save(tmp_path, latent_size=0)).transform(TEXTS)
