"""What simple probes read from means: what is in them, and nothing where nothing is."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.data.batching import tokenise
from modeling_seqvae.evaluation import reading as module
from modeling_seqvae.evaluation.evaluate import Evaluator
from modeling_seqvae.evaluation.reading import (
    labels_from_features,
    labels_from_lsa,
    labels_from_words,
    read_from_means,
)
from modeling_seqvae.tokenization import train_tokenizer

FIRST = ("the", "a", "my")
REST = ("food", "was", "good", "slow", "and", "very", "warm", "here", "bread", "soup")


def rows(count: int, seed: int) -> Dataset:
    """Sentences of 1 to 6 words whose label is whether they end in "soup"; one in ten is without words."""
    random = np.random.default_rng(seed)
    texts = []
    for number in range(count):
        words = [random.choice(FIRST, p=[0.5, 0.3, 0.2]), *random.choice(REST, random.integers(0, 6))]
        texts.append(" ".join(words) if number % 10 else "")
    return Dataset.from_dict({"text": texts, "label": [int(text.endswith("soup")) for text in texts]})


@pytest.fixture(scope="module")
def train() -> Dataset:
    return rows(400, 0)


@pytest.fixture(scope="module")
def test() -> Dataset:
    return rows(200, 1)


@pytest.fixture
def vae(train) -> SeqVAE:
    tokenizer = train_tokenizer(train["text"])
    config = SeqVAEConfig(
        vocab_size=len(tokenizer), embedding_size=8, hidden_size=24, latent_size=12, initializer_range=0.5,
        embedding_initializer_range=1.0,
    )  # fmt: skip
    return SeqVAE(SeqVAEForTextModeling(config), tokenizer)


@pytest.fixture
def means_are(vae, monkeypatch):
    """Have the encoder return features of the words, as the function given makes them."""

    def become(function) -> SeqVAE:
        def encode(texts, features, show_progress=None):
            assert features == "mean"
            return np.array([function(text.split()) for text in texts], np.float32)

        monkeypatch.setattr(vae, "encode", encode)
        return vae

    return become


def test_what_the_means_hold_is_read(means_are, train, test) -> None:
    def features(words):
        begins = [float(words[:1] == [first]) for first in FIRST]
        return [2.0 * len(words) - 3, *begins, float(words[-1:] == ["soup"])]

    found = read_from_means(means_are(features), train, test)
    assert found["length"]["r2"] > 0.999
    assert found["first_word"]["accuracy"] == 1 and found["first_word"]["classes"] == 3
    assert found["label"]["accuracy"] == 1 and found["label"]["classes"] == 2


def test_means_that_hold_nothing_give_the_baselines(means_are, train, test) -> None:
    found = read_from_means(means_are(lambda words: [1.0, 1.0]), train, test)
    assert found["length"]["r2"] == pytest.approx(found["length"]["baseline"], abs=1e-6)
    assert found["length"]["baseline"] == pytest.approx(0, abs=0.05)
    for name in ("first_word", "label"):
        assert found[name]["accuracy"] == found[name]["majority"]


def test_baselines_are_those_of_the_training_majority(means_are, train, test) -> None:
    found = read_from_means(means_are(lambda words: [1.0]), train, test)
    begins = [text.split()[0] for text in test["text"] if text]
    assert found["first_word"]["majority"] == pytest.approx(np.mean([word == "the" for word in begins]))
    assert found["label"]["majority"] == pytest.approx(np.mean([label == 0 for label in test["label"]]))


def test_the_error_of_an_accuracy_is_that_of_a_share_of_the_test_sentences(means_are, train, test) -> None:
    found = read_from_means(means_are(lambda words: [1.0]), train, test)
    begins = sum(bool(text) for text in test["text"])
    for name, count in (("label", len(test)), ("first_word", begins)):
        right = np.arange(count) < round(found[name]["accuracy"] * count)  # each right or wrong
        assert 0.2 < right.mean() < 0.95 and found[name]["sentences"] == count
        assert found[name]["accuracy_se"] == pytest.approx(right.std() / np.sqrt(count))


def test_only_the_most_frequent_first_words_are_told_apart(means_are, train, test, monkeypatch) -> None:
    monkeypatch.setattr(module, "PROBED_WORDS", 2)
    found = read_from_means(means_are(lambda words: [float(len(words))]), train, test)["first_word"]
    kept = sum(text.split()[:1] in (["the"], ["a"]) for text in test["text"])
    assert (found["classes"], found["sentences"], found["share"]) == (2, kept, kept / len(test))


def test_a_real_encoder_s_means_tell_the_length_and_the_report_is_plain_json(vae, train, test) -> None:
    found = read_from_means(vae, train, test)
    assert found["length"]["r2"] > 0.3
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_of_many_training_sentences_random_ones_are_used(means_are, train, test, monkeypatch) -> None:
    vae = means_are(lambda words: [float(words[-1:] == ["soup"])])
    monkeypatch.setattr(module, "TRAIN_SENTENCES", 50)
    for label in (0, 1):  # also those at the end of a set that is sorted by its labels
        found = read_from_means(vae, train.sort("label", reverse=label == 1), test)
        assert found["trained_on"] == 50
        assert found["label"]["accuracy"] == 1 and found["label"]["classes"] == 2


def test_what_does_not_vary_is_not_reported(vae) -> None:
    same = Dataset.from_dict({"text": ["the food"] * 8, "label": [1] * 8})
    found = read_from_means(vae, same, same)
    assert (found["length"], found["first_word"], found["label"]) == (None, None, None)
    assert read_from_means(vae, same.select_columns(["text"]), same.select_columns(["text"]))["label"] is None


def test_a_language_model_has_no_means(train, test) -> None:
    tokenizer = train_tokenizer(train["text"])
    torch.manual_seed(0)
    config = SeqVAEConfig(vocab_size=len(tokenizer), embedding_size=4, hidden_size=4, latent_size=0)
    with pytest.raises(ValueError, match="latent_size=0"):
        read_from_means(SeqVAE(SeqVAEForTextModeling(config), tokenizer), train, test)


# Labels from the mean, one draw and the pooled features


@pytest.fixture
def tokenised(vae, train, test) -> tuple[Dataset, Dataset]:
    return tokenise(train, vae.tokenizer), tokenise(test, vae.tokenizer)


def test_the_features_are_the_encoder_s_and_the_draw_is_that_of_the_bound(vae, test, tokenised) -> None:
    found = Evaluator(vae.model, tokenised[1], seed=3, batch_size=7, progress=False).features()
    for name in ("mean", "pooled"):
        np.testing.assert_allclose(found[name].numpy(), vae.encode(test["text"][:], name), atol=1e-6)
    for seed, same in ((3, True), (4, False)):
        measured = Evaluator(vae.model, tokenised[1], seed=seed, progress=False).measure()
        assert torch.allclose(found["draw"], measured.latents, atol=1e-6) == same


def test_each_kind_of_features_is_read_by_itself(vae, tokenised, monkeypatch) -> None:
    """By hand: a mean that holds the label, a draw that is another in training, pooled features that hold nothing."""
    seeds = []

    def features(evaluator):
        labels = np.array(evaluator.dataset["label"][:], np.float32)[:, None]
        seeds.append(evaluator.seed)
        held = {"mean": 0.1 * labels, "draw": labels if evaluator.seed == 5 else 1 - labels, "pooled": 0 * labels}
        return {name: torch.from_numpy(values) for name, values in held.items()}

    monkeypatch.setattr(Evaluator, "features", features)
    found = labels_from_features(vae.model, *tokenised, seed=5, progress=False)
    assert (found["mean"]["accuracy"], found["draw"]["accuracy"]) == (1, 0)
    majority = np.mean(np.array(tokenised[1]["label"][:]) == 0)
    assert found["pooled"]["accuracy"] == found["pooled"]["majority"] == pytest.approx(majority)
    assert found["pooled"]["accuracy_se"] == pytest.approx(np.sqrt(majority * (1 - majority) / 200))
    assert seeds[1] == 5 != seeds[0]  # other noise for the training sentences


def test_labels_from_features_are_a_function_of_the_seed(vae, tokenised) -> None:
    found = [labels_from_features(vae.model, *tokenised, seed=seed, progress=False) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert (found[0]["mean"], found[0]["pooled"]) == (found[2]["mean"], found[2]["pooled"])
    assert json.loads(json.dumps(found[0], allow_nan=False)) == found[0]


def test_labels_go_with_their_sentences_in_any_order(vae, tokenised, monkeypatch) -> None:
    def features(evaluator):
        return {"mean": torch.tensor(evaluator.dataset["label"][:])[:, None].float()}

    monkeypatch.setattr(Evaluator, "features", features)
    shuffled = [rows.shuffle(seed=number) for number, rows in enumerate(tokenised)]
    assert labels_from_features(vae.model, *shuffled, progress=False)["mean"]["accuracy"] == 1


def test_lsa_has_as_many_dimensions_as_are_asked_for_or_as_there_are_words(train, test) -> None:
    assert labels_from_lsa(train, test, 3)["dimensions"] == 3
    words = {word for text in train["text"] for word in text.split()}
    whole = labels_from_lsa(train, test, 1000)
    assert whole["dimensions"] == len(words)
    assert whole["accuracy"] > labels_from_lsa(train, test, 1)["accuracy"]
    assert labels_from_lsa(train, test, 3, seed=1) == labels_from_lsa(train, test, 3, seed=1)


def test_the_words_themselves_and_the_majority_are_read(train, test) -> None:
    found = labels_from_words(train, test)
    assert found["none"]["accuracy"] == pytest.approx(np.mean(np.array(test["label"][:]) == 0))
    assert found["TF-IDF"]["accuracy"] > found["none"]["accuracy"]
    assert found["TF-IDF"]["accuracy_se"] == pytest.approx(
        np.sqrt(found["TF-IDF"]["accuracy"] * (1 - found["TF-IDF"]["accuracy"]) / 200)
    )


def test_no_features_are_read_from_a_language_model(make_model, tokenised) -> None:
    with pytest.raises(ValueError, match="latent_size=0"):
        labels_from_features(make_model(latent_size=0), *tokenised)
