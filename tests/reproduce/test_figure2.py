"""Figure 2: encoders of three units, and features that are theirs."""

import json

import numpy as np
import pytest

from modeling_seqvae.data.columns import texts_of
from modeling_seqvae.reproduce import figures as module
from modeling_seqvae.reproduce.figures import Figure2, measure_feature_space
from modeling_seqvae.reproduce.rows import best_encoder, corpus_of_run
from modeling_seqvae.reproduce.steps import Inputs
from modeling_seqvae.training.checkpoint import evaluate_checkpoint

TARGET = Figure2()


@pytest.fixture(scope="module")
def measured(request_for, make_runs, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("out")
    steps = TARGET.steps(request_for())
    make_runs(steps, output_dir)
    for step in steps:
        step.run(output_dir)
    return output_dir


def test_encoders_have_three_units_and_runs_of_their_own(request_for):
    request = request_for()
    for step in TARGET.steps(request):
        (training,) = step.trainings
        plain = request.training(training.recipe.method, 0)
        assert training.recipe.differences(plain.recipe) == ["model.encoder_hidden_size is None there and 3 here"]
        assert training.folder != plain.folder


def test_the_figures_are_those_of_the_features_of_the_validation_set(request_for, measured):
    for step in TARGET.steps(request_for()):
        run, found = measured / step.trainings[0].folder, step.read(measured)
        texts = list(texts_of(corpus_of_run(run, None).splits["validation"]))
        features = best_encoder(run).encode(texts, "pooled").astype(float)
        assert features.shape == (24, 3) == (found["sentences"], 3)
        np.testing.assert_allclose(found["points"], features, atol=1e-4)
        np.testing.assert_allclose([found[f"sd_{unit}"] for unit in (1, 2, 3)], features.std(0))
        np.testing.assert_allclose([found[f"mean_{unit}"] for unit in (1, 2, 3)], features.mean(0))
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        pairs = (unit @ unit.T)[~np.eye(24, dtype=bool)]
        assert found["cosine"] == pytest.approx(pairs.mean())
        evaluated = evaluate_checkpoint(str(run), split="validation", nll_samples=1)
        assert all(found[name] == pytest.approx(evaluated[name]) for name in ("bound", "kl", "au", "cosine"))


def test_of_many_sentences_the_same_ones_are_drawn_for_every_method(request_for, measured):
    runs = [measured / step.trainings[0].folder for step in TARGET.steps(request_for())]
    for run in runs:
        some, all_of_them = (measure_feature_space(Inputs((run,), run, None), points)["points"] for points in (5, 100))
        chosen = np.sort(np.random.default_rng(0).permutation(24)[:5])
        assert some == [all_of_them[number] for number in chosen]


def test_table_and_picture(request_for, measured, tmp_path):
    pytest.importorskip("matplotlib")
    report = TARGET.report(request_for(), measured)
    (table,) = report.tables
    assert [row["title"] for row in table.rows] == ["SeqVAE", "SeqVAE + MaxPool"]
    assert len(table.rows[0]["points"]) == 24
    json.dumps(report.as_dict(), allow_nan=False)
    assert "24 validation sentences" in report.markdown()
    report.picture(tmp_path / "figure2.png")
    assert (tmp_path / "figure2.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_there_is_said_to_be_missing(request_for, tmp_path):
    report = TARGET.report(request_for(), tmp_path)
    assert report.picture is None and "SeqVAE (missing)" in report.markdown()


def test_three_units_are_not_overridden(request_for):
    assert module.THREE_UNITS == "model.encoder_hidden_size=3"
    assert {step.trainings[0].recipe.model["encoder_hidden_size"] for step in TARGET.steps(request_for())} == {3}
    with pytest.raises(ValueError, match=r"--set model\.encoder_hidden_size: this table or figure sets it itself"):
        TARGET.steps(request_for(overrides=("model.encoder_hidden_size=7",)))
