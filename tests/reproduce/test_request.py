import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_seqvae.data.corpus_spec import CorpusFiles, CorpusSpec
from modeling_seqvae.reproduce import request as module
from modeling_seqvae.reproduce import steps
from modeling_seqvae.reproduce.request import Request, _safe
from modeling_seqvae.training.checkpoint import evaluate_checkpoint
from modeling_seqvae.training.recipe import resolve

PTB = Request("ptb", "small", limits={"train": 10_000})


def folder(request: Request, method: str = "max_pool", seed: int = 0, *overrides: str) -> str:
    return request.training(method, seed, *overrides).folder.as_posix()


def test_a_run_stands_where_its_settings_say():
    assert folder(PTB) == "ptb/max_pool/small-train10000/seed0"
    assert folder(PTB, "seqvae", 2) == "ptb/seqvae/small-train10000/seed2"
    without = folder(PTB, "max_pool", 0, "training.kl_schedule=constant")
    assert without == "ptb/max_pool/small-train10000-kl_schedule=constant/seed0"
    assert folder(Request("demo")) == "demo/max_pool/demo/seed0"  # the corpus's own preset


def test_the_same_settings_give_the_same_folder_however_they_are_said():
    first = replace(PTB, overrides=("training.epochs=5", "model.latent_size=16"))
    second = replace(PTB, overrides=("model.latent_size=16", "training.epochs=5"))
    assert folder(first) == folder(second) == folder(PTB, "max_pool", 0, *first.overrides)
    assert folder(replace(PTB, overrides=("training.epochs=30",))) == folder(PTB)  # as the preset has it
    assert folder(replace(PTB, limits={"train": 10_000, "test": 5})) == folder(PTB)  # no part of a training


def test_other_settings_give_other_folders():
    others = [
        folder(PTB),
        folder(PTB, "seqvae"),
        folder(PTB, "max_pool", 1),
        folder(replace(PTB, preset="tiny")),
        folder(replace(PTB, limits={"train": 10_001})),
        folder(replace(PTB, limits={"train": 10_000, "validation": 50})),
        folder(replace(PTB, limits={})),
        folder(replace(PTB, corpus="yahoo")),
        folder(replace(PTB, overrides=("training.epochs=5",))),
        folder(replace(PTB, overrides=("training.epochs=6",))),
        folder(replace(PTB, overrides=("training.trackers=[tensorboard]",))),
        folder(replace(PTB, overrides=("training.trackers=[wandb]",))),
        folder(PTB, "unigram_pretraining", 0, "training.epochs=5"),
        folder(PTB, "unigram_pretraining", 0, "pretraining.training.epochs=5"),
    ]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    ("method", "override"),
    [
        ("lstm_lm", "model.latent_size=16"),
        ("avg_pool", "model.pooling_mode=max"),
        ("seqvae", "training.seed=3"),
        ("ivae", "training.table_options={lr: 0.1}"),
        ("free_bits", "training.objective_options={nats: 1}"),
        ("free_bits", "training.objective_options.nats=1"),
        ("unigram_pretraining", "pretraining.training.epochs=1"),
        ("unigram_pretraining", "pretraining.model.decoder=lstm"),
    ],
)
def test_no_override_makes_another_model_of_a_method(method, override):
    request = replace(PTB, overrides=(override,))
    with pytest.raises(ValueError, match=f"--set {override.partition('=')[0]}"):
        request.training(method, 0)


def test_a_target_s_own_override_may_change_what_a_method_sets():
    assert PTB.training("lstm_lm", 0, "model.latent_size=16").recipe.model["latent_size"] == 16


def test_what_a_target_sets_is_not_set_beside_it():
    request = replace(PTB, overrides=("training.kl_schedule=constant",))
    with pytest.raises(ValueError, match=r"--set training\.kl_schedule: this table or figure sets it itself"):
        request.training("max_pool", 0, "training.kl_schedule=constant")


def test_two_methods_of_one_title_are_refused(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("title: SeqVAE + MaxPool\nmodel: {pooling_mode: max, latent_size: 8}\n")
    with pytest.raises(ValueError, match=r"max_pool,.*mine.yaml: both have the title 'SeqVAE \+ MaxPool'"):
        replace(PTB, methods=("max_pool", str(mine))).methods_or([])


def test_the_recipe_is_what_train_would_be_told():
    recipe = PTB.training("max_pool", 3, "model.latent_size=16").recipe
    assert recipe.training.seed == 3 and recipe.model["latent_size"] == 16 and recipe.limits == {"train": 10_000}
    assert recipe.model["hidden_size"] == 256 and recipe.model["pooling_mode"] == "max"


def test_another_corpus_keeps_the_rest():
    training = replace(PTB, limits={}).training("max_pool", 0, corpus="yelp_sentiment")
    assert training.folder.as_posix() == "yelp_sentiment/max_pool/small/seed0"
    assert [one.recipe.training.seed for one in replace(PTB, seeds=3).trainings("max_pool")] == [0, 1, 2]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_name_leads_out_of_the_folder_or_is_hidden(name: str) -> None:
    safe = _safe(name)
    assert safe and not safe.startswith(".") and Path("out", safe).resolve().parent == Path("out").resolve()
    assert safe.isprintable() and "/" not in safe and "\\" not in safe


def test_a_corpus_of_ones_own_with_an_odd_name_stays_inside():
    spec = CorpusSpec(name="../../etc", files=CorpusFiles(train="x.txt"))
    assert ".." not in Request(spec, "tiny").training("seqvae", 0).folder.parts


def test_a_long_or_odd_setting_is_told_by_a_digest():
    trackers = "training.trackers=[tensorboard, wandb, aim, mlflow]"
    wide = [("training.max_grad_norm=0.123456789012345678901", f"model.latent_size={n}", trackers) for n in (3, 4)]
    found = [folder(replace(PTB, overrides=overrides)) for overrides in wide]
    assert len(set(found)) == 2 and all(len(Path(one).parts[2]) <= 100 for one in found)


def test_methods_are_the_targets_own_or_those_asked_for():
    assert PTB.methods_or(["seqvae", "max_pool"]) == ["seqvae", "max_pool"]
    assert replace(PTB, methods=("avg_pool", "avg_pool")).methods_or(["seqvae"]) == ["avg_pool"]
    with pytest.raises(ValueError, match=r"--methods bert: the methods are .*max_pool.*seqvae"):
        replace(PTB, methods=("seqvae", "bert")).methods_or(["seqvae"])
    with pytest.raises(ValueError, match=r"no file in configuration/methods for bert; .*--methods.*max_pool"):
        PTB.methods_or(["seqvae", "bert"])


def test_a_method_may_be_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.yaml").write_text("title: Mine\nmodel: {pooling_mode: avg}\n")
    request = replace(PTB, methods=(str(tmp_path / "mine.yaml"),))
    (method,) = request.methods_or([])
    assert folder(request, method) == "ptb/mine/small-train10000/seed0"


def test_a_seed_is_not_a_setting():
    with pytest.raises(ValueError, match="--seeds"):
        folder(replace(PTB, overrides=("training.seed=3",)))


def test_a_request_survives_json():
    spec = CorpusSpec(name="mine", files=CorpusFiles(train="x.txt"))
    request = Request("ptb", "small", ("seqvae",), 3, {"train": 9}, ("training.epochs=5",), None, 100, "yahoo")
    for one in (request, replace(request, corpus=spec), Request("demo"), replace(request, imports=("my_parts.py",))):
        assert Request.from_dict(json.loads(json.dumps(one.as_dict()))) == one


def test_the_command_says_all_of_it():
    request = Request("ptb", "small", ("seqvae", "max_pool"), 3, {"train": 9}, ("training.epochs=5",), None, 100)
    assert request.command("table1") == (
        "seqvae reproduce table1 --corpus ptb --preset small --methods seqvae,max_pool --seeds 3 --limit train=9 "
        "--set training.epochs=5 --nll-sentences 100"
    )
    assert Request("demo").command("figure3") == "seqvae reproduce figure3 --corpus demo"


def test_runs_and_their_commands_know_the_modules_of_the_user_s_parts(tmp_path):
    (tmp_path / "my_request_parts.py").write_text(
        "from modeling_seqvae.registry import POOLINGS\n\n"
        "@POOLINGS.register('first_of_request')\n"
        "def first_pool(states, mask):\n    return states[:, 0]\n"
    )
    (tmp_path / "mine.yaml").write_text("title: Mine\nmodel: {pooling_mode: first_of_request}\n")
    request = replace(PTB, imports=(str(tmp_path / "my_request_parts.py"),))
    training = request.training(str(tmp_path / "mine.yaml"), 0)
    assert training.recipe.imports == list(request.imports)
    assert training.options[-2:] == ("--import", request.imports[0])
    assert request.command("table1").endswith(f" --import {request.imports[0]}")
    (tmp_path / "preset.yaml").write_text("model: {pooling_mode: first_of_request}\ncorpus: {max_words: 9}\n")
    assert replace(request, preset=str(tmp_path / "preset.yaml")).read.max_words == 9


def test_a_recipe_is_resolved_once_for_all_seeds(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "resolve", lambda *given, **named: calls.append(given) or resolve(*given, **named))
    request = replace(PTB, seeds=5, overrides=("training.epochs=9",))
    for _ in range(2):
        runs = request.trainings("max_pool")
        assert [run.recipe.training.seed for run in runs] == [int(run.folder.name[4:]) for run in runs] == [*range(5)]
    assert len(calls) == 2  # with the overrides and without


def test_the_step_for_shuffled_words_measures_with_shuffled_words(request_for, make_runs, tmp_path, monkeypatch):
    """In a file of its own, which the step for plain words does not take for its own, nor the other way round."""
    request = request_for(nll_sentences=2, limits={"test": 8})
    training = request.training("max_pool", 0)
    plain, shuffled = (request.evaluation(training, words) for words in (False, True))
    monkeypatch.setattr(steps, "NLL_SAMPLES", 2)
    make_runs([plain, shuffled], tmp_path)
    run = str(tmp_path / training.folder)
    for step in (shuffled, plain):
        assert not step.done(tmp_path)
        step.run(tmp_path)
        expected = evaluate_checkpoint(
            run, limits={"test": 8}, nll_samples=2, nll_sentences=2, shuffle_words=step.shuffled
        )
        found = step.read(tmp_path)
        assert {name: found[name] for name in ("bound", "nll", "shuffled")} == {
            name: expected[name] for name in ("bound", "nll", "shuffled")
        }
    assert plain.read(tmp_path)["bound"] != shuffled.read(tmp_path)["bound"]
