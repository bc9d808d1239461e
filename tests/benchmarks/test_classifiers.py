"""The tables of what classifiers read from features: the whole path on two tiny runs of a labelled corpus."""

import json
import random
from argparse import ArgumentTypeError
from pathlib import Path

import classifiers
import pytest
from accelerate.state import AcceleratorState
from report import classifiers_on

from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.training.recipe import corpus_spec, resolve
from modeling_seqvae.training.run import train

WORDS = {"good": ["great", "lovely", "warm"], "bad": ["slow", "cold", "bland"]}
TINY = ["model.embedding_size=6", "model.hidden_size=8", "model.latent_size=3", "training.epochs=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled corpus in two files of settings, a.yaml and b.yaml, and two runs on it: plain and pooled."""
    folder = tmp_path_factory.mktemp("work")
    source = random.Random(0)
    for split, count in {"train": 60, "validation": 10, "test": 20}.items():
        rows = [list(WORDS)[number % 2] for number in range(count)]
        lines = [f"{label}\tthe food was {' and '.join(source.choices(WORDS[label], k=3))}\n" for label in rows]
        (folder / f"{split}.txt").write_text("".join(lines))
    files = ", ".join(f"{split}: {split}.txt" for split in ("train", "validation", "test"))
    for name in ("a", "b"):
        settings = f"{{name: {name}, files: {{{files}}}, labelled: true, normalisation: whitespace}}"
        (folder / f"{name}.yaml").write_text(f"data: {settings}\npreset: small\n")
    for method in ("seqvae", "max_pool"):
        recipe = resolve(method, str(folder / "a.yaml"), overrides=TINY, limits={"train": 50})
        train(recipe, folder / method, folder, progress=False)
        AcceleratorState._reset_state(reset_partial_state=True)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict:
    corpus = load_corpus(corpus_spec(str(folder / "b.yaml")), data_dir=folder, limits={"train": 40})
    return classifiers.measure([folder / "seqvae", folder / "max_pool"], corpus, batch_size=8, seed=0)


def test_each_encoder_is_told_with_what_it_was_trained_on_and_its_kl(folder, report):
    assert json.loads(json.dumps(report)) == report
    assert [described["title"] for described in report["encoders"]] == ["SeqVAE", "SeqVAE + MaxPool"]
    record = json.loads((folder / "max_pool" / "history.jsonl").read_text())
    described = report["encoders"][1]
    assert (described["kl"], described["trained_on"]) == (record["kl"], "a (first 50 of train)")


def test_the_table_has_both_classifiers_of_both_encoders_the_baselines_and_the_subset(report):
    caption, _, *lines = classifiers_on(report).splitlines()
    assert caption == "b: 2 classes, trained on the first 40 of 60 documents, scored on 20 documents of the test set."
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in rows[2:]] == ["SeqVAE"] * 2 + ["SeqVAE + MaxPool"] * 2 + ["TF-IDF", "none"]
    assert [row[3] for row in rows[2:]] == ["logistic regression", "MLP"] * 2 + [
        "logistic regression",
        "majority class",
    ]
    for row, system in zip(rows[2:], report["systems"], strict=True):
        assert row[rows[0].index("accuracy")] == f"{system['accuracy']:.3f}"
        assert row[rows[0].index("accuracy") + 1] == f"{system['accuracy_se']:.3f}"
    assert rows[-1][1:3] == ["–", "–"] and float(rows[-1][4]) == 0.5


def test_runs_are_scored_on_the_corpora_that_are_named_or_on_their_own(folder):
    runs = [folder / "seqvae", folder / "max_pool"]
    (own,) = classifiers.corpora(runs, [])
    assert (own[0].name, own[1]) == ("a", runs)
    named = classifiers.corpora(runs, [str(folder / "a.yaml"), str(folder / "b.yaml")])
    assert [(spec.name, found) for spec, found in named] == [("a", runs), ("b", runs)]
    assert classifiers.corpora([], []) == []


def test_two_runs_of_one_title_are_refused(folder):
    corpus = load_corpus(corpus_spec(str(folder / "a.yaml")), data_dir=folder)
    with pytest.raises(ValueError, match="same title"):
        classifiers.measure([folder / "seqvae", folder / "seqvae"], corpus, 8, 0)


@pytest.mark.parametrize("text", ["train", "train=many", "dev=3"])
def test_a_limit_is_a_count_for_a_split(text):
    with pytest.raises(ArgumentTypeError, match="train=20000"):
        classifiers._limit(text)
    assert classifiers._limit("train=20000") == ("train", 20000)
