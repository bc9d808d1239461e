"""Classifiers on features, and beside them what needs no encoder."""

import json
import random

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.data.corpus_spec import spec_from_path
from modeling_seqvae.evaluation.classification_report import confusion_text, report_markdown, summary
from modeling_seqvae.evaluation.classify import classify, require_labels, scores
from modeling_seqvae.evaluation.probe import mlp
from modeling_seqvae.tokenization import train_tokenizer

WORDS = {"good": ["great", "lovely", "warm"], "bad": ["slow", "cold", "bland"], "so-so": ["plain", "usual", "fair"]}


def write(path, count: int, seed: int, labels=tuple(WORDS)) -> None:
    source = random.Random(seed)
    rows = [labels[i % len(labels)] for i in range(count)]
    text = "".join(f"{label}\tthe food was {' and '.join(source.choices(WORDS[label], k=3))}\n" for label in rows)
    path.write_text(text)


def corpus_of(folder, **sizes):
    spec = spec_from_path(folder, label_column="label")
    return load_corpus(spec, limits=sizes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "labelled"
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": 120, "validation": 12, "test": 30}.items()):
        write(folder / f"{split}.txt", count, seed)
    return folder


@pytest.fixture(scope="module")
def vae(folder) -> SeqVAE:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([f"the food was and {' '.join(words)}" for words in WORDS.values()] * 2)
    config = SeqVAEConfig(
        vocab_size=len(tokenizer), embedding_size=8, hidden_size=16, latent_size=4, initializer_range=0.8,
        embedding_initializer_range=1.0,
    )  # fmt: skip
    return SeqVAE(SeqVAEForTextModeling(config), tokenizer)


@pytest.fixture(scope="module")
def report(folder, vae):
    return classify({"first": vae, "second": vae}, corpus_of(folder), seed=1)


def test_every_encoder_has_both_classifiers_and_the_baselines_come_once(report):
    assert [(system["features"], system["classifier"]) for system in report["systems"]] == [
        ("first", "logistic regression"),
        ("first", "MLP"),
        ("second", "logistic regression"),
        ("second", "MLP"),
        ("TF-IDF", "logistic regression"),
        ("none", "majority class"),
    ]
    assert json.loads(json.dumps(report)) == report


def test_labels_that_words_tell_are_read_and_the_majority_is_the_share_of_one_class(report):
    accuracy = {(system["features"], system["classifier"]): system["accuracy"] for system in report["systems"]}
    assert accuracy["none", "majority class"] == pytest.approx(1 / 3)
    assert accuracy["TF-IDF", "logistic regression"] == 1
    assert accuracy["first", "logistic regression"] > 0.8
    assert accuracy["first", "MLP"] > 0.6


def test_the_same_encoder_and_seed_give_the_same_figures(report):
    first, second = report["systems"][:2], report["systems"][2:4]
    assert [{**system, "features": ""} for system in first] == [{**system, "features": ""} for system in second]


def test_scored_on_the_validation_set_the_test_set_is_not_looked_at(folder, tmp_path, vae):
    """Its figures are those of a corpus whose test set these texts are."""
    for split, source in {"train": "train", "validation": "test", "test": "validation"}.items():
        (tmp_path / f"{split}.txt").write_text((folder / f"{source}.txt").read_text())
    swapped = classify({"one": vae}, corpus_of(tmp_path))
    found = classify({"one": vae}, corpus_of(folder), split="validation")
    assert found["systems"] == swapped["systems"] and found["split"] == "validation"
    assert "scored on 12 documents of the validation set" in " ".join(summary(found).split())


def test_other_splits_are_refused(folder, vae):
    with pytest.raises(ValueError, match="scored on test or validation, not on 'train'"):
        classify({"one": vae}, corpus_of(folder), split="train")


def test_scores_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 200)
    predicted = np.where(random.random(200) < 0.6, true, random.integers(0, 3, 200))
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (true, predicted), 1)
    found = scores(confusion, ["a", "b", "c"])
    assert found["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))
    expected = precision_recall_fscore_support(true, predicted)
    for key, values in zip(("precision", "recall", "f1", "sentences"), expected, strict=True):
        assert [row[key] for row in found["per_class"]] == pytest.approx(values)


def test_standard_errors_are_the_spread_over_test_sets():
    """Drawn anew from the same cells, accuracy and macro-F1 vary as the standard errors say."""
    source = np.random.default_rng(1)
    cells = np.array([[60, 15, 5], [10, 40, 10], [5, 10, 45]])
    draws = source.multinomial(cells.sum(), cells.ravel() / cells.sum(), size=400).reshape(-1, 3, 3)
    names = ["a", "b", "c"]
    found = scores(cells, names)
    for key in ("accuracy", "macro_f1"):
        spread = np.std([scores(draw, names)[key] for draw in draws[:150]])
        assert found[f"{key}_se"] == pytest.approx(spread, rel=0.2)


def test_a_class_without_test_sentences_does_not_count_in_macro_f1_unless_it_is_predicted():
    names = ["a", "b", "never"]
    assert scores(np.diag([5, 5, 0]), names)["macro_f1"] == 1
    predicted = scores(np.array([[5, 0, 1], [0, 5, 0], [0, 0, 0]]), names)
    assert predicted["macro_f1"] == pytest.approx(f1_score([0] * 6 + [1] * 5, [0] * 5 + [2] + [1] * 5, average="macro"))


def test_an_mlp_is_trained_on_labels_too_few_to_hold_any_out():
    features = np.array([[0.0], [1.0], [2.0]])
    assert mlp([0, 1, 2]).fit(features, [0, 1, 2]).predict(features).tolist() == [0, 1, 2]


def test_what_is_no_corpus_is_refused(vae):
    with pytest.raises(TypeError, match=r"as load_corpus\(spec_from_path\(FILE\)\) makes it, got dict"):
        classify({"a": vae}, {"train": []})


def test_a_corpus_without_labels_is_refused(folder):
    with pytest.raises(ValueError, match="--label-column"):
        require_labels(load_corpus(spec_from_path(folder)))


def test_a_single_class_is_refused(tmp_path):
    write(tmp_path / "train.txt", 40, 0, ("good",))
    with pytest.raises(ValueError, match="all have the label 'good'"):
        require_labels(corpus_of(tmp_path))


def test_labels_that_training_has_not_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="have labels that its 2 training documents do not: so-so"):
        require_labels(corpus_of(folder, train=2))
    write(tmp_path / "train.txt", 40, 0, ("good", "bad"))
    write(tmp_path / "test.txt", 9, 0)
    with pytest.raises(ValueError, match="has the label 'so-so', but labels are bad, good"):
        corpus_of(tmp_path)


def test_a_class_that_limits_leave_out_is_no_class(folder, vae):
    found = classify({"one": vae}, corpus_of(folder, train=2, test=2))
    assert len(found["classes"]) == 2 and len(found["systems"][0]["confusion"]) == 2


def test_a_language_model_and_unknown_features_are_refused(folder, vae, make_model):
    with pytest.raises(ValueError, match="features='sum' is not one of"):
        classify({"one": vae}, corpus_of(folder), features="sum")
    language_model = make_model(latent_size=0, vocab_size=len(vae.tokenizer))
    with pytest.raises(ValueError, match="latent_size"):
        classify({"one": SeqVAE(language_model, vae.tokenizer)}, corpus_of(folder))


def test_empty_texts_are_left_out_and_told(tmp_path, vae):
    write(tmp_path / "train.txt", 30, 0)
    write(tmp_path / "test.txt", 9, 1)
    with (tmp_path / "test.txt").open("a") as file:
        file.write("good\t\nbad\t  \n")
    found = classify({"one": vae}, corpus_of(tmp_path))
    assert sum(map(sum, found["systems"][0]["confusion"])) == 9
    assert "2 empty ones left out" in " ".join(summary(found).split())


def test_the_report_shows_all_figures(report):
    text = report_markdown(report, "confusion.png")
    assert "(confusion.png)" in text and text.startswith("# Classification of labelled\n")
    assert "| none | majority class | 0.333 |" in text
    assert text.count("| bad |") == len(report["systems"])
    assert "first" in summary(report)


def test_a_confusion_matrix_reads_true_by_predicted():
    system = {"confusion": [[7, 1], [2, 1234]]}
    assert confusion_text({"classes": ["a", "b"]}, system).splitlines() == [
        "true \\ predicted      a      b",
        "a                     7      1",
        "b                     2  1,234",
    ]


def test_the_picture_is_drawn(report):
    pytest.importorskip("matplotlib")
    from modeling_seqvae.evaluation.drawing import confusion_figure

    assert confusion_figure(report).startswith(b"\x89PNG")
    prices = [f"${number}$ or $\\rest_$" for number in range(len(report["classes"]))]  # no formulas
    assert confusion_figure({**report, "classes": prices}).startswith(b"\x89PNG")
