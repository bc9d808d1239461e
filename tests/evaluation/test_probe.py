import numpy as np
import pytest

from modeling_seqvae.evaluation.probe import probe


@pytest.fixture
def labelled() -> tuple[np.ndarray, np.ndarray]:
    """Features (400, 5) of three classes, of which the last column alone tells, on a scale of its own."""
    random = np.random.default_rng(0)
    labels = random.choice(["bad", "fair", "good"], size=400, p=[0.5, 0.3, 0.2])
    features = random.normal(size=(400, 5))
    features[:, -1] = 1e-4 * (np.searchsorted(["bad", "fair", "good"], labels) + 0.05 * random.normal(size=400))
    return features, labels


def test_a_label_that_the_features_hold_is_read(labelled):
    features, labels = labelled
    found = probe(features[:200], labels[:200], features[200:], labels[200:])
    assert found.accuracy > 0.97 and found.classes == 3


def test_majority_is_the_share_of_the_training_majority_in_the_test_set(labelled):
    features, labels = labelled
    found = probe(features[:200], labels[:200], features[200:], labels[200:])
    assert found.majority == pytest.approx(np.mean(labels[200:] == "bad"))


def test_features_of_a_collapsed_encoder_give_the_majority_class(labelled):
    _, labels = labelled
    constant = np.ones((400, 5), np.float32)
    found = probe(constant[:200], labels[:200], constant[200:], labels[200:])
    assert found.accuracy == found.majority


def test_test_labels_do_not_leak_into_training(labelled):
    _, labels = labelled
    random = np.random.default_rng(1)
    noise = random.normal(size=(400, 30))
    found = probe(noise[:200], labels[:200], noise[200:], labels[200:])
    assert found.accuracy < found.majority + 0.1


def test_scale_and_offset_of_features_do_not_matter(labelled):
    features, labels = labelled
    scaled = 1000 * features + np.arange(5)
    first = probe(features[:200], labels[:200], features[200:], labels[200:])
    second = probe(scaled[:200], labels[:200], scaled[200:], labels[200:])
    assert first.accuracy == pytest.approx(second.accuracy, abs=0.011)


@pytest.mark.parametrize("wrong", ["one class", "lengths"])
def test_what_cannot_be_learnt_is_refused(labelled, wrong):
    features, labels = labelled
    given = np.full(200, "bad") if wrong == "one class" else labels[:150]
    with pytest.raises(ValueError):
        probe(features[:200], given, features[200:], labels[200:])
