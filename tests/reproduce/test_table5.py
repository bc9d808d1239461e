"""Table 5: the same labels for every system, encoders that stay as they are, and one that was trained elsewhere."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.data.corpus_spec import spec_from_path
from modeling_seqvae.evaluation.classify import classify
from modeling_seqvae.reproduce import table5 as module
from modeling_seqvae.reproduce.rows import best_encoder
from modeling_seqvae.reproduce.runner import in_order
from modeling_seqvae.reproduce.table5 import Table5
from modeling_seqvae.training.evaluations import weights_hash
from modeling_seqvae.training.recipe import corpus_spec

TARGET = Table5()
LIMITS = {"train": 60, "validation": 20, "test": 25}


@pytest.fixture(scope="module")
def request_(request_for):
    return request_for(limits=LIMITS, transfer="demo")


@pytest.fixture(scope="module")
def measured(request_, make_runs, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("out")
    steps = TARGET.steps(request_)
    make_runs(steps, output_dir)
    for step in steps:
        step.run(output_dir)
    return output_dir


def test_the_rows_are_the_paper_s_and_two_baselines(request_, measured):
    (table,) = TARGET.report(request_, measured).tables
    assert [(row["title"], row.get("encoder")) for row in table.rows] == [
        ("bi-LSTM, supervised", "–"),
        ("SeqVAE", "labelled"),
        ("SeqVAE + MaxPool", "labelled"),
        ("SeqVAE + MaxPool", "demo"),
        ("TF-IDF, logistic regression", None),
        ("majority class", None),
    ]
    assert "3 classes, the first 25 test documents" in table.caption


def test_every_encoder_s_figures_are_those_of_classify_on_the_same_labels(request_, measured, labelled_corpus):
    corpus = load_corpus(labelled_corpus, limits=LIMITS)
    (table,) = TARGET.report(request_, measured).tables
    for row, step in zip(table.rows[1:4], TARGET.steps(request_)[1:], strict=True):
        vae = best_encoder(measured / step.trainings[0].folder)
        linear, mlp, *_ = classify({"encoder": vae}, corpus, seed=0)["systems"]
        assert row["accuracy"].values == (pytest.approx(mlp["accuracy"]),)
        assert row["accuracy_se"] == pytest.approx(mlp["accuracy_se"])
        assert row["linear_accuracy"].values == (pytest.approx(linear["accuracy"]),)


def test_the_majority_is_the_share_of_the_training_majority(request_, measured, labelled_corpus):
    splits = load_corpus(labelled_corpus, limits=LIMITS).splits
    commonest = Counter(splits["train"]["label"]).most_common(1)[0][0]
    (table,) = TARGET.report(request_, measured).tables
    assert table.rows[-1]["accuracy"] == pytest.approx(splits["test"]["label"].count(commonest) / 25)


def test_an_encoder_of_another_corpus_reads_the_texts_with_its_own_words(request_, measured):
    (table,) = TARGET.report(request_, measured).tables
    own, other = (row["unknown_share"].values[0] for row in table.rows[2:4])
    step = TARGET.steps(request_)[-1]
    assert step.folder.parts[0] == "demo" and step.file == "labels-labelled-test25.json"
    assert own == 0 < other
    assert table.rows[0]["unknown_share"].values == (0.0,)


def test_methods_of_one_s_own_are_carried_over_as_they_are(request_, tmp_path):
    (tmp_path / "mine.yaml").write_text("title: Mine\nmodel: {pooling_mode: avg}\n")
    own = replace(request_, methods=("max_pool", str(tmp_path / "mine.yaml")))
    titles = [step.trainings[0].recipe.title for step in TARGET.steps(own)[1:]]
    assert titles == ["SeqVAE + MaxPool", "Mine", "Mine"]
    (tmp_path / "max_pool.yaml").write_text("title: Mine\nmodel: {pooling_mode: avg}\n")
    same = replace(request_, methods=("max_pool", str(tmp_path / "max_pool.yaml")))
    with pytest.raises(ValueError, match="give one of the files another name"):
        in_order(TARGET.steps(same))


def test_an_encoder_is_carried_over_from_another_corpus(request_):
    with pytest.raises(ValueError, match="--transfer labelled is the corpus itself"):
        TARGET.steps(replace(request_, transfer="labelled"))


def test_the_bi_lstm_is_as_the_encoder_and_stands_beside_the_methods(request_, measured):
    step = TARGET.steps(request_)[0]
    training = request_.training("seqvae", 0)
    assert step.needs == () and step.folder.parts[2:] == training.folder.parts[2:]
    assert step.folder.parts[:2] == ("labelled", "bi_lstm")
    found = step.read(measured)
    assert found["settings"]["limits"] == LIMITS
    assert len(found["validation_accuracies"]) <= training.recipe.training.epochs
    assert found["classes"] == 3


def test_reading_labels_leaves_the_encoder_as_it_was(request_, measured):
    for step in TARGET.steps(request_)[1:]:
        assert step.done(measured)
        assert step.read(measured)["weights"] == [weights_hash(measured / step.trainings[0].folder / "best")]


def test_the_report_is_plain_json_and_shows_no_paper_s_figure_for_another_corpus(request_, measured):
    report = TARGET.report(request_, measured)
    json.dumps(report.as_dict(), allow_nan=False)
    assert "paper" not in report.markdown()


def test_the_corpus_to_transfer_from_is_known_for_the_paper_s(request_for):
    corpora = [step.trainings[0].recipe.corpus.name for step in TARGET.steps(request_for(corpus="yelp_stars"))[1:]]
    assert corpora == ["yelp_stars", "yelp_stars", "yelp_sentiment"]
    other = TARGET.steps(request_for(corpus="yelp_stars", transfer="yahoo"))[-1].trainings[0].recipe
    assert (other.corpus.name, other.method) == ("yahoo", "max_pool")
    own = request_for(corpus=corpus_spec("demo").model_copy(update={"name": "yelp_stars"}))  # a file of that name
    assert len(TARGET.steps(own)) == 3
    assert [step.title for step in TARGET.steps(request_for())][1:] == [
        "SeqVAE, seed 0: labels of labelled",
        "SeqVAE + MaxPool, seed 0: labels of labelled",
    ]


def test_a_corpus_without_labels_is_refused(request_for):
    with pytest.raises(ValueError, match="corpus ptb has no labels"):
        TARGET.steps(request_for(corpus="ptb"))


def test_a_file_that_turns_out_to_have_no_labels_is_refused_before_anything_is_trained(request_for, tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.txt").write_text("the soup was warm\nthe soup was cold\n" * 5)
    with pytest.raises(ValueError, match=f"corpus {tmp_path.name} has no labels"):
        TARGET.steps(request_for(corpus=spec_from_path(tmp_path).model_copy(update={"labelled": "auto"})))


def test_the_bi_lstm_stops_by_the_validation_set_and_has_the_encoder_s_sizes(
    request_, labelled_corpus, tmp_path, monkeypatch
):
    """Trained on the training documents of the request, chosen by its validation documents, kept in its own folder."""
    given, train = [], module.train_classifier

    def noting(config, documents, validation, seed, epochs, batch_size, device, kept):
        given.append((config, documents, validation, seed, epochs, batch_size, kept))
        return train(config, documents, validation, seed, 2, batch_size, device, False)

    monkeypatch.setattr(module, "train_classifier", noting)
    step, recipe = TARGET.steps(request_)[0], request_.training("seqvae", 0).recipe
    step.run(tmp_path)
    ((config, documents, validation, seed, epochs, batch_size, kept),) = given
    splits = load_corpus(labelled_corpus, limits=LIMITS).splits
    assert documents["label"][:] == splits["train"]["label"][:] and len(documents) == LIMITS["train"]
    assert validation["label"][:] == splits["validation"]["label"][:] and len(validation) == LIMITS["validation"]
    sizes = {name: getattr(config, name) for name in module.SIZES if name in recipe.model}
    assert sizes == {name: recipe.model[name] for name in sizes} and {"embedding_size", "hidden_size"} <= sizes.keys()
    assert (seed, batch_size) == (recipe.training.seed, recipe.training.batch_size)
    assert epochs == min(module.EPOCHS, recipe.training.epochs) and kept.parent == tmp_path / step.folder


def test_nothing_measured_gives_rows_without_figures(request_for, tmp_path):
    report = TARGET.report(request_for(), tmp_path)
    assert "| SeqVAE (missing) | labelled |" in report.markdown()
