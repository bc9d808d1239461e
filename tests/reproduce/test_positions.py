"""The target `positions`: what it asks for, and that its tables are what the measurements found."""

import json

import pytest
from accelerate.state import AcceleratorState

from modeling_seqvae.evaluation.evaluate import Evaluator
from modeling_seqvae.evaluation.reading import read_from_means
from modeling_seqvae.reproduce.figures import Positions, measure_feature_space, measure_positions
from modeling_seqvae.reproduce.rows import best_encoder, corpus_of_run
from modeling_seqvae.reproduce.steps import Inputs, Measurement
from modeling_seqvae.reproduce.table6 import measure_latent_labels
from modeling_seqvae.training.checkpoint import evaluate_checkpoint

TARGET = Positions()


@pytest.fixture(scope="module")
def request_(request_for):
    return request_for(seeds=2)


@pytest.fixture(scope="module")
def measured(request_, make_runs, tmp_path_factory):
    """The output directory with all measured."""
    output_dir = tmp_path_factory.mktemp("out")
    steps = TARGET.steps(request_)
    make_runs(steps, output_dir)
    for step in steps:
        assert not step.done(output_dir)
        step.run(output_dir)
    return output_dir


def test_first_come_all_methods_of_the_first_seed(request_):
    found = [
        (step.trainings[0].recipe.method, step.trainings[0].recipe.training.seed) for step in TARGET.steps(request_)
    ]
    assert found == [(method, seed) for seed in (0, 1) for method in ("seqvae", "max_pool", "unigram_pretraining")]


def test_the_runs_are_those_of_table_1(request_):
    for step in TARGET.steps(request_):
        recipe = step.trainings[0].recipe
        assert step.trainings[0].folder == request_.training(recipe.method, recipe.training.seed).folder


def test_the_figures_are_those_of_the_evaluation_and_its_draw(request_, measured):
    step = TARGET.steps(request_)[1]
    run = measured / step.trainings[0].folder
    evaluation = evaluate_checkpoint(str(run), nll_samples=1)
    found = step.read(measured)
    assert (found["rec"], found["kl"]) == (pytest.approx(evaluation["rec"]), pytest.approx(evaluation["kl"]))
    assert found["sentences"] == evaluation["sentences"]
    splits = corpus_of_run(run, None).splits
    assert found["read"] == read_from_means(best_encoder(run), splits["train"], splits["test"])


def test_what_does_not_tell_its_precision_is_in_float32(request_, measured, monkeypatch):
    step, seen = TARGET.steps(request_)[0], set()
    run = measured / step.trainings[0].folder
    autocast = Evaluator._autocast
    monkeypatch.setattr(Evaluator, "_autocast", lambda self, *of: (seen.add(self.precision), autocast(self, *of))[1])
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        inputs, corpus = Inputs((run,), run, None), request_.corpus.model_dump()
        found = measure_positions(inputs, **step.settings)
        measure_feature_space(inputs, points=5)
        measure_latent_labels(inputs, corpus=corpus, limits={}, documents=50)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert seen == {"no"}
    assert found["rec"] == step.read(measured)["rec"]


def test_the_tables_hold_what_was_found_for_each_method(request_, measured):
    report = TARGET.report(request_, measured)
    saved, read = report.tables
    assert [row["title"] for row in saved.rows] == [
        "SeqVAE", "SeqVAE + MaxPool", "MaxPool + unigram pretraining + KL floor"
    ]  # fmt: skip
    steps = [step for step in TARGET.steps(request_) if step.trainings[0].recipe.method == "max_pool"]
    found = [step.read(measured) for step in steps]
    for name in ("rec", "kl", "told", "told_first", "told_later", "saved", "saved_end", "saved_se"):
        assert list(saved.rows[1][name].values) == [one[name] for one in found]
    assert list(read.rows[1]["label_accuracy"].values) == [one["read"]["label"]["accuracy"] for one in found]
    curve = saved.rows[1]["from_start"]
    assert curve["told"][0] == pytest.approx(sum(one["from_start"]["told"][0] for one in found) / 2)
    json.dumps(report.as_dict(), allow_nan=False)
    assert "30 test sentences" in report.markdown() and "30 test sentences" in report.text()


def test_the_share_beyond_three_words_is_explained_where_it_is_shown(request_, measured, monkeypatch):
    read = Measurement.read
    for share, shown in ((0.25, True), (None, False)):  # None: next to nothing is told
        changes = {"later_share": share}
        monkeypatch.setattr(Measurement, "read", lambda step, folder, new=changes: read(step, folder) | new)
        text = TARGET.report(request_, measured).markdown()
        assert ("| beyond 3 words |" in text, "Beyond 3 words: " in text, "25% ± 0%" in text) == (shown,) * 3
    earlier = ("later_share", "later_share_se", "told_later")  # which older measurements do not have

    def without(step, folder):
        return {name: value for name, value in read(step, folder).items() if name not in earlier}

    monkeypatch.setattr(Measurement, "read", without)
    assert "eyond 3 words" not in TARGET.report(request_, measured).markdown()


def test_what_is_measured_is_not_measured_again(request_, measured):
    assert all(step.done(measured) for step in TARGET.steps(request_))


def test_another_limit_of_the_test_set_is_another_measurement_beside_it(request_, request_for, measured):
    limited = request_for(seeds=2, limits={"test": 10})
    first, *others = TARGET.steps(limited)
    assert not any(step.done(measured) for step in [first, *others])
    first.run(measured)
    assert first.read(measured)["sentences"] == 10
    assert all(step.done(measured) for step in [first, *TARGET.steps(request_)])
    assert {step.trainings[0].folder for step in TARGET.steps(limited)} == {
        step.trainings[0].folder for step in TARGET.steps(request_)
    }


def test_the_picture_is_drawn(request_, measured, tmp_path):
    pytest.importorskip("matplotlib")
    TARGET.report(request_, measured).picture(tmp_path / "positions.png")
    assert (tmp_path / "positions.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_there_is_said_to_be_missing(request_for, tmp_path):
    report = TARGET.report(request_for(), tmp_path)
    assert report.picture is None
    assert "SeqVAE (missing)" in report.markdown()


def test_a_language_model_is_refused(request_for):
    with pytest.raises(ValueError, match="LSTM-LM has no latent"):
        TARGET.steps(request_for(methods=("max_pool", "lstm_lm")))
