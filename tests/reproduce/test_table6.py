"""Table 6: likelihood and labels of every method, and controls that no method has a part in."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from modeling_seqvae.data.batching import tokenise
from modeling_seqvae.data.columns import some_of
from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.data.corpus_spec import spec_from_path
from modeling_seqvae.evaluation.reading import labels_from_features
from modeling_seqvae.reproduce import controls as controls_module
from modeling_seqvae.reproduce.controls import controls
from modeling_seqvae.reproduce.request import rows_of
from modeling_seqvae.reproduce.rows import best_encoder
from modeling_seqvae.reproduce.runner import in_order
from modeling_seqvae.reproduce.steps import Evaluation, Measurement, Training
from modeling_seqvae.reproduce.table5 import Table5
from modeling_seqvae.reproduce.table6 import Table6

TARGET = Table6()
METHODS = ("lstm_lm", "seqvae", "max_pool", "unigram_pretraining")
LIMITS = {"train": 60, "validation": 20, "test": 25}


@pytest.fixture(scope="module")
def request_(request_for):
    return request_for(methods=METHODS, limits=LIMITS, seeds=2, nll_sentences=3)


@pytest.fixture(scope="module")
def measured(request_, make_runs, tmp_path_factory):
    """The output directory with all measured, of models that nobody has trained."""
    output_dir = tmp_path_factory.mktemp("out")
    steps = TARGET.steps(request_)
    make_runs(steps, output_dir)
    for step in steps:
        step.run(output_dir)
        assert step.done(output_dir)
    return output_dir


def rows_by(report, number, name):
    return {row[name]: row for row in report.tables[number].rows}


def control(request, name):
    return next(one for one in controls(request, ["seqvae", "max_pool"]) if one.name == name)


@pytest.mark.parametrize("target", [TARGET, Table5()])
def test_every_measurement_reads_the_documents_as_the_runs_did(target, request_):
    cut = replace(request_, methods=METHODS[1:], overrides=(*request_.overrides, "corpus.max_words=7"))
    steps = in_order(target.steps(cut))
    assert {step.recipe.corpus.max_words for step in steps if isinstance(step, Training)} == {7}
    measurements = [step for step in steps if isinstance(step, Measurement)]
    assert measurements and {step.settings["corpus"]["max_words"] for step in measurements} == {7}


def test_every_method_is_evaluated_and_those_with_a_latent_are_read(request_):
    steps = TARGET.steps(request_)
    evaluated = [step.training.recipe.method for step in steps if isinstance(step, Evaluation)]
    assert evaluated == [*METHODS, *METHODS]
    read = [step for step in steps if isinstance(step, Measurement) and step.trainings]
    of_each_seed = [*METHODS[1:], "unigram_pretraining"]  # and again as its pretraining left it
    assert [step.trainings[0].recipe.method for step in read] == [*of_each_seed, *of_each_seed]
    trained = {step.key for step in in_order(steps) if isinstance(step, Training)}
    assert trained == {str(one.folder) for method in METHODS for one in request_.trainings(method)}


def test_the_default_rows_are_the_paper_s_and_what_goes_beyond(request_for):
    assert rows_of("table6") == [
        *("lstm_lm", "seqvae", "max_pool", "unigram_pretraining_elbo", "unigram_pretraining"),
        *("unigram_pretraining_long", "unigram_pretraining_free_bits", "free_bits", "bn_vae"),
    ]
    steps = in_order(TARGET.steps(request_for()))
    assert [step.recipe.method for step in steps if isinstance(step, Training)] == rows_of("table6")


def test_the_rows_hold_the_evaluations_and_the_labels_read_from_each_encoder(request_, measured, labelled_corpus):
    row = rows_by(TARGET.report(request_, measured), 0, "method")["max_pool"]
    splits = load_corpus(labelled_corpus, limits=LIMITS).splits
    for number, training in enumerate(request_.trainings("max_pool")):
        evaluation = request_.evaluation(training).read(measured)
        for name in ("nll", "bound", "kl", "mi", "au"):
            assert row[name].values[number] == evaluation[name]
        vae = best_encoder(measured / training.folder)
        found = labels_from_features(vae.model, *(tokenise(splits[name], vae.tokenizer) for name in ("train", "test")))
        for name in ("mean", "draw", "pooled"):
            assert row[f"label_{name}"].values[number] == pytest.approx(found[name]["accuracy"])
            assert row[f"label_{name}_se"].values[number] == pytest.approx(found[name]["accuracy_se"])


def test_pretrained_encoders_are_read_as_their_pretraining_left_them(request_, measured, labelled_corpus):
    """Which has other weights here than the run itself, as after a joint training."""
    splits = load_corpus(labelled_corpus, limits=LIMITS).splits
    (row,) = TARGET.report(request_, measured).tables[2].rows
    assert row["title"] == "MaxPool + unigram pretraining + KL floor"
    assert row["kl"].values == (1.0, 1.0)  # the best epoch's
    for number, training in enumerate(request_.trainings("unigram_pretraining")):
        run, vae = (best_encoder(measured / training.folder / part) for part in ("", "pretraining"))
        assert (run.encode(["the food was warm"]) != vae.encode(["the food was warm"])).any()
        found = labels_from_features(vae.model, *(tokenise(splits[name], vae.tokenizer) for name in ("train", "test")))
        for name in ("mean", "draw", "pooled"):
            assert row[f"label_{name}"].values[number] == pytest.approx(found[name]["accuracy"])
            assert row[f"label_{name}_se"].values[number] == pytest.approx(found[name]["accuracy_se"])


def test_without_measured_pretrainings_there_is_no_table_of_them(request_, measured, tmp_path):
    output_dir = tmp_path / "out"
    shutil.copytree(measured, output_dir)
    first, second = output_dir.glob("**/pretraining-labels*.json")
    first.unlink()
    (row,) = TARGET.report(request_, output_dir).tables[2].rows
    assert row["title"].endswith(" (1 of 2 seeds)") and len(row["label_mean"].values) == 1
    second.unlink()
    assert len(TARGET.report(request_, output_dir).tables) == 2
    assert len(TARGET.report(replace(request_, methods=METHODS[:3]), measured).tables) == 2


def test_a_pretraining_that_has_gone_is_named(request_, measured, tmp_path):
    output_dir = tmp_path / "out"
    shutil.copytree(measured, output_dir)
    (training, _) = request_.trainings("unigram_pretraining")
    shutil.rmtree(output_dir / training.folder / "pretraining")
    key = str(training.folder / "pretraining-labels")
    (step,) = (step for step in TARGET.steps(request_) if step.key.startswith(key))
    (output_dir / step.key).unlink()
    with pytest.raises(FileNotFoundError, match=r"pretraining/recipe\.yaml"):
        step.run(output_dir)


def test_what_a_latent_costs_is_the_nll_less_the_language_model_s_seed_by_seed(request_, measured):
    rows = rows_by(TARGET.report(request_, measured), 0, "method")
    for method in METHODS[1:]:
        pairs = zip(rows[method]["nll"].values, rows["lstm_lm"]["nll"].values, strict=True)
        assert rows[method]["above_lm"].values == tuple(one - other for one, other in pairs)
    assert "above_lm" not in rows["lstm_lm"] and "label_mean" not in rows["lstm_lm"]


def test_an_untrained_encoder_is_the_one_that_the_seed_makes(request_, measured):
    """The runs here have models as their seeds made them: what is read of these is what is read of the control."""
    report = TARGET.report(request_, measured)
    methods, beside = rows_by(report, 0, "method"), rows_by(report, 1, "name")
    for method, pooling in (("seqvae", "last"), ("max_pool", "max")):
        for name in ("mean", "pooled"):
            assert beside[f"untrained {pooling}, {name}"]["accuracy"] == methods[method][f"label_{name}"]


def test_the_controls_are_the_same_whatever_the_methods(request_):
    def known(*methods):
        found = controls(request_, methods)
        return {one.name: [(step.key, step.settings) for step in one.measurements] for one in found}

    alone = known("max_pool")
    assert known("max_pool", "free_bits", "unigram_pretraining") == alone
    both = known("bn_vae", "max_pool")
    assert alone.items() <= both.items()
    assert both.keys() - alone.keys() == {"untrained last, mean", "untrained last, pooled"}


def test_an_encoder_of_other_sizes_has_a_control_of_its_own(request_, tmp_path):
    (tmp_path / "small.yaml").write_text("title: Small\nmodel: {encoder_hidden_size: 3, latent_size: 2}\n")
    found = controls(request_, ["max_pool", str(tmp_path / "small.yaml")])
    assert [one.name for one in found if one.key == "mean"] == [
        "untrained max, mean",
        "untrained max, encoder_hidden_size=3, latent_size=2, mean",
    ]
    assert [one.title for one in found if one.key == "lsa"] == ["LSA, 4 dimensions", "LSA, 2 dimensions"]
    keys = [step.key for one in found for step in one.measurements if one.key != "pooled" and one.name != "tf_idf"]
    assert len(set(keys)) == len(keys)


def test_an_encoder_of_another_kind_has_a_control_of_its_kind(request_for):
    request = request_for(overrides=(), limits=LIMITS)
    found = {one.name: one for one in controls(request, ["max_pool", "hybrid"]) if one.key == "mean"}
    assert list(found) == ["untrained max, mean", "untrained max, encoder=convolutional, mean"]
    (step,) = found["untrained max, encoder=convolutional, mean"].measurements
    assert step.settings["model"]["encoder"] == "convolutional"


def test_lsa_has_the_dimensions_of_the_latent(request_, measured):
    row = rows_by(TARGET.report(request_, measured), 1, "name")["lsa4"]
    assert request_.training("max_pool", 0).recipe.sizes.latent_size == 4
    assert row["dimensions"].values == (4, 4)


def test_the_majority_is_the_share_of_the_training_majority(request_, measured, labelled_corpus):
    splits = load_corpus(labelled_corpus, limits=LIMITS).splits
    commonest = Counter(splits["train"]["label"]).most_common(1)[0][0]
    row = rows_by(TARGET.report(request_, measured), 1, "name")["majority"]
    assert row["accuracy"].values == (pytest.approx(splits["test"]["label"].count(commonest) / 25),)  # of all seeds


def test_the_bi_lstm_is_that_of_table_5(request_):
    own = control(request_, "bi_lstm").measurements
    of_table5 = [step for step in Table5().steps(request_for_table5(request_)) if not step.trainings]
    assert [(step.key, step.settings) for step in own] == [(step.key, step.settings) for step in of_table5]


def request_for_table5(request):
    return replace(request, methods=("seqvae", "max_pool"))


def test_the_captions_say_which_documents_were_read(request_, measured):
    table = TARGET.report(request_, measured).tables[1]
    assert "25 test documents, 3 classes" in table.caption and "fitted to all 60 training documents" in table.caption


def test_of_many_documents_some_random_ones_are_read_and_the_caption_says_so(request_for, tmp_path, monkeypatch):
    monkeypatch.setattr(controls_module, "TRAIN_DOCUMENTS", 40)
    request = request_for(methods=("max_pool",), limits=LIMITS)
    for step in control(request, "majority").measurements:
        step.run(tmp_path)
    caption = TARGET.report(request, tmp_path).tables[1].caption
    assert "fitted to 40 of 60, random and the same for all, training documents" in caption


def test_some_of_many_rows_are_random_in_order_and_always_the_same(labelled_corpus):
    rows = load_corpus(labelled_corpus).splits["train"]
    assert some_of(rows, len(rows)) is rows
    chosen = some_of(rows, 30)["text"][:]
    assert chosen == some_of(rows, 30)["text"][:] != rows["text"][:30]
    places = iter(rows["text"][:])
    assert len(chosen) == 30 and all(text in places for text in chosen)  # in their order


def test_the_report_is_plain_json_and_tells_what_it_is(request_, measured):
    report = TARGET.report(request_, measured)
    json.dumps(report.as_dict(), allow_nan=False)
    text = report.markdown()
    for part in ("label: one draw", "LSA, 4 dimensions", "mean ± standard deviation over 2 seeds", "25 test sentences"):
        assert part in text
    assert text.count("(missing)") == 0


def test_minutes_are_of_ended_runs_and_include_the_pretraining(request_, measured, tmp_path):
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    line = {"epoch": 1, "bound": 9.0, "kl": 0.1, "mi": 0.1, "au": 1, "cosine": 0.5, "encoder_updates": 4}
    line |= {"decoder_updates": 2, "seconds": 90.0, "pretraining_seconds": 30.0}
    for seconds, training in zip((90.0, 150.0), request_.trainings("unigram_pretraining"), strict=True):
        (tmp_path / training.folder / "history.jsonl").write_text(json.dumps(line | {"seconds": seconds}) + "\n")
    row = rows_by(TARGET.report(request_, tmp_path), 0, "method")["unigram_pretraining"]
    assert (row["minutes"].values, row["pretraining_minutes"].values) == ((1.5, 2.5), (0.5, 0.5))
    (tmp_path / request_.trainings("unigram_pretraining")[0].folder / "finished.json").unlink()
    assert rows_by(TARGET.report(request_, tmp_path), 0, "method")["unigram_pretraining"]["minutes"].values == (2.5,)


def test_the_picture_is_drawn(request_, measured, tmp_path):
    pytest.importorskip("matplotlib")
    picture = TARGET.report(request_, measured).picture
    assert picture.keywords["baseline"] and list(picture.args[0]) == [
        "SeqVAE", "SeqVAE + MaxPool", "MaxPool + unigram pretraining + KL floor"
    ]  # fmt: skip
    picture(tmp_path / "table6.png")
    assert (tmp_path / "table6.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_language_model_the_picture_has_the_nll_itself(request_, measured):
    alone = replace(request_, methods=("max_pool",))
    report = TARGET.report(alone, measured)
    (point,) = report.picture.args[0].values()
    assert point["cost"] == report.tables[0].rows[0]["nll"] and not report.picture.keywords["baseline"]
    assert "less" not in report.tables[0].rows[0] and "NLL minus" not in report.markdown()


def test_without_labels_the_rest_is_there_and_a_sentence_says_so(request_for, make_runs, tmp_path):
    assert not [step for step in TARGET.steps(request_for(corpus="ptb")) if isinstance(step, Measurement)]
    for split, count in (("train", 40), ("validation", 10), ("test", 10)):
        (tmp_path / f"{split}.txt").write_text("the soup was warm\nthe soup was cold\n" * (count // 2))
    spec = spec_from_path(tmp_path).model_copy(update={"labelled": "auto"})
    for labelled, said in ((False, "has no labels"), ("auto", "No labels were read")):
        own = spec.model_copy(update={"labelled": labelled})
        request = request_for(corpus=own, methods=("lstm_lm", "max_pool"), nll_sentences=2)
        steps = TARGET.steps(request)
        assert all(isinstance(step, Evaluation) for step in steps)
        output_dir = tmp_path / str(labelled)
        make_runs(steps, output_dir)
        for step in steps:
            step.run(output_dir)
        report = TARGET.report(request, output_dir)
        assert len(report.tables) == 1 and report.picture is not None
        assert said in report.markdown() and "label:" not in report.markdown()


def test_what_is_not_there_is_said_to_be_missing(request_, tmp_path):
    report = TARGET.report(request_, tmp_path)
    assert report.picture is None
    assert "SeqVAE (missing)" in report.markdown() and "majority class (missing)" in report.markdown()


def test_no_mean_is_of_fewer_seeds_than_its_row_says(request_, measured, tmp_path):
    output_dir = tmp_path / "out"
    shutil.copytree(measured, output_dir)
    for step in TARGET.steps(request_):
        if step.folder.name == "seed1" and isinstance(step, Measurement):
            (output_dir / step.key).unlink(missing_ok=True)  # several have one
        elif step.folder.name == "seed1" and step.title.startswith("LSTM-LM"):
            next((output_dir / step.folder).glob("evaluation*.json")).unlink()
    report = TARGET.report(request_, output_dir)
    row = next(row for row in report.tables[0].rows if row["method"] == "max_pool")
    assert row["title"] == "SeqVAE + MaxPool" and len(row["nll"].values) == 2
    assert row["above_lm"] is None and row["label_mean"] is None
    told = {row["name"]: row["title"] for row in report.tables[1].rows}
    assert told["lsa4"].endswith(" (1 of 2 seeds)") and told["tf_idf"] == "TF-IDF"


def test_language_models_alone_are_refused(request_for):
    with pytest.raises(ValueError, match="at least one of --methods must have one"):
        TARGET.steps(request_for(methods=("lstm_lm",)))
