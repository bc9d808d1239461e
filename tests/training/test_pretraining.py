"""A run that begins with a pretraining, or with another run's encoder: what it takes over, its cost, its resume."""

import json
import math
import os
import shutil
import signal

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from safetensors.torch import load_file

from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.training import run
from modeling_seqvae.training.objectives import OBJECTIVES
from modeling_seqvae.training.recipe import Recipe, resolve
from modeling_seqvae.training.run_directory import read_history
from modeling_seqvae.training.trainer import Interrupted, SeqVAETrainer

UNIGRAM_METHOD = "unigram_pretraining_elbo"
SHORT = ("training.epochs=2", "training.anneal_epochs=1")
STAGE = ("pretraining.training.batch_size=8", "pretraining.training.learning_rate=0.02")
UNIGRAM = (*SHORT, *STAGE, "pretraining.training.epochs=2")


def train(recipe, directory, resume=False):
    AcceleratorState._reset_state(reset_partial_state=True)
    return run.train(recipe, directory, resume=resume, progress=False)


def encoder_of(weights):
    return {name: tensor for name, tensor in weights.items() if name.startswith("model.encoder.")}


@pytest.fixture(scope="module")
def pretrained(make_recipe, tmp_path_factory):
    """A whole run of unigram pretraining."""
    recipe = make_recipe(*UNIGRAM, method=UNIGRAM_METHOD)
    directory = tmp_path_factory.mktemp("pretrained") / "run"
    train(recipe, directory)
    return directory


def test_a_signal_in_the_last_evaluation_of_the_pretraining_ends_the_run(make_recipe, tmp_path, monkeypatch):
    end_epoch = SeqVAETrainer._end_epoch

    def signalled(trainer):
        if trainer.progress.epoch + 1 == trainer.spec.epochs:
            os.kill(os.getpid(), signal.SIGTERM)
        end_epoch(trainer)

    monkeypatch.setattr(SeqVAETrainer, "_end_epoch", signalled)
    recipe = make_recipe(*UNIGRAM, method=UNIGRAM_METHOD)
    with pytest.raises(Interrupted) as ending:
        train(recipe, tmp_path / "run")
    assert ending.value.code == 128 + signal.SIGTERM
    assert len(read_history(tmp_path / "run" / "pretraining")) == 2 and not (tmp_path / "run" / "last").exists()
    monkeypatch.undo()
    train(recipe, tmp_path / "run", resume=True)
    assert len(read_history(tmp_path / "run")) == 2


def test_the_main_run_starts_with_the_encoder_of_the_best_pretraining_and_a_fresh_decoder(
    pretrained, make_recipe, tmp_path, monkeypatch
):
    started = {}
    take_over = run.take_over

    def noting(model, *arguments, **named):
        fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        take_over(model, *arguments, **named)
        taken = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        started.update(fresh=fresh, taken=taken)

    monkeypatch.setattr(run, "take_over", noting)
    recipe = make_recipe(*UNIGRAM, method=UNIGRAM_METHOD)
    train(recipe, tmp_path / "run")
    best = encoder_of(load_file(tmp_path / "run" / "pretraining" / "best" / "model.safetensors"))
    for name, tensor in started["taken"].items():
        assert torch.equal(tensor, best.get(name, started["fresh"][name])), name
    set_seed(recipe.training.seed)
    config = recipe.config(run.read_corpus(recipe, None)[1])
    for name, tensor in SeqVAEForTextModeling(config).state_dict().items():
        assert torch.equal(tensor, started["fresh"][name])


def test_a_unigram_model_begins_at_the_frequencies_of_the_tokens(make_recipe):
    recipe = make_recipe(*UNIGRAM, method=UNIGRAM_METHOD).pretraining_recipe()
    corpus, tokenizer = run.read_corpus(recipe, None)
    model = run.fresh_model(recipe, tokenizer, corpus.splits["train"])
    tokens = [token for ids in tokenizer(list(corpus.splits["train"]["text"]))["input_ids"] for token in ids[1:]]
    expected = torch.tensor([tokens.count(token) + 1.0 for token in range(len(tokenizer))])
    torch.testing.assert_close(model.lm_head.bias.softmax(0), expected / expected.sum())


def test_the_pretraining_is_a_run_of_its_own_with_its_recipe(pretrained, history_of):
    stage = Recipe.load(pretrained / "pretraining" / "recipe.yaml")
    main = Recipe.load(pretrained / "recipe.yaml")
    assert stage == main.pretraining_recipe()
    assert stage.model["decoder"] == "unigram" and stage.training.optimizer == "adam" and stage.pretraining is None
    assert len(history_of(pretrained / "pretraining")) == 2


def test_its_seconds_and_updates_are_part_of_the_cost(pretrained):
    stage, main = (
        [json.loads(line) for line in (folder / "history.jsonl").open()]
        for folder in (pretrained / "pretraining", pretrained)
    )
    for number, record in enumerate(main, start=1):
        assert record["pretraining_updates"] == 16 and record["pretraining_seconds"] == stage[-1]["seconds"]
        assert record["encoder_updates"] == 16 + 8 * number and record["decoder_updates"] == 8 * number
        assert record["seconds"] >= record["pretraining_seconds"]
    card = (pretrained / "best" / "README.md").read_text("utf-8")
    assert "decoder `unigram`" in card and "16 updates" in card


@pytest.mark.parametrize("at", [3, 16, 17, 20])
def test_a_run_interrupted_in_either_stage_and_resumed_is_the_run_that_was_not(
    pretrained, make_recipe, tmp_path, monkeypatch, history_of, at
):
    """In the pretraining, at its last update, at the first update after it, and amid the main run."""
    recipe = make_recipe(*UNIGRAM, method=UNIGRAM_METHOD)
    output, count = OBJECTIVES["elbo"].output, 0

    def signalling(self, *arguments):
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return output(self, *arguments)

    monkeypatch.setattr(OBJECTIVES["elbo"], "output", signalling)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    train(recipe, tmp_path / "run", resume=True)
    for folder in ("", "pretraining"):
        costs = ("pretraining_seconds",)
        found, expected = (
            [{k: v for k, v in record.items() if k not in costs} for record in history_of(place / folder)]
            for place in (tmp_path / "run", pretrained)
        )
        assert found == expected
        for weights in ("best", "last"):
            name = f"{folder}/{weights}/model.safetensors".lstrip("/")
            assert (tmp_path / "run" / name).read_bytes() == (pretrained / name).read_bytes()


def test_a_length_in_updates_is_decided_once_and_written_in_both_recipes(make_recipe, tmp_path, history_of):
    """57 sentences are 8 batches: at least 20 updates are 3 epochs, and the 4 of the pretraining are enough."""
    updates = ("training.epochs=1", "training.updates=[20, 90]", *STAGE)
    updates += ("pretraining.training.epochs=1", "pretraining.training.updates=[32, 90]")
    recipe = make_recipe(*updates, method=UNIGRAM_METHOD)
    count, output = 0, OBJECTIVES["elbo"].output

    def signalling(self, *arguments):
        nonlocal count
        count += 1
        if count in (11, 35):  # in the pretraining, and in the run
            os.kill(os.getpid(), signal.SIGTERM)
        return output(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OBJECTIVES["elbo"], "output", signalling)
        for resume in (False, True):
            with pytest.raises(Interrupted):
                train(recipe, tmp_path / "run", resume)
    train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "other")
    for folder, epochs in {"pretraining": 4, "": 3}.items():
        written = Recipe.load(tmp_path / "run" / folder / "recipe.yaml").training
        assert (written.epochs, written.updates) == (epochs, None)
        assert len(history_of(tmp_path / "run" / folder)) == epochs
        first, second = (tmp_path / name / folder / "last" / "model.safetensors" for name in ("run", "other"))
        assert first.read_bytes() == second.read_bytes()
    longer = make_recipe(*updates, "training.updates=[30, 90]", method=UNIGRAM_METHOD)
    with pytest.raises(ValueError, match=r"another recipe: .*training.epochs is 3 there and 4 here"):
        train(longer, tmp_path / "run", resume=True)


def test_a_run_whose_pretraining_has_begun_is_not_begun_again(make_recipe, tmp_path, pretrained):
    recipe = make_recipe(*UNIGRAM, method=UNIGRAM_METHOD)
    os.symlink(pretrained / "pretraining", tmp_path / "pretraining")
    with pytest.raises(ValueError, match="pretraining holds a run: continue it with --resume"):
        train(recipe, tmp_path)


def test_the_cost_of_a_checkpoint_without_its_history_is_told_to_be_unknown(pretrained, make_recipe, tmp_path):
    recipe = make_recipe(*SHORT).model_copy(update={"encoder_from": str(pretrained / "pretraining" / "best")})
    train(recipe, tmp_path / "run")
    card = (tmp_path / "run" / "best" / "README.md").read_text("utf-8")
    assert "It began with the encoder of another run, whose cost is not known and not counted." in card


def test_the_encoder_of_any_run_can_start_another(pretrained, make_recipe, tmp_path):
    from_run = make_recipe(*SHORT).model_copy(update={"encoder_from": str(pretrained / "pretraining")})
    trainer = train(from_run, tmp_path / "run")
    assert trainer.history[-1]["pretraining_updates"] == 16
    last = json.loads((pretrained / "history.jsonl").read_text("utf-8").splitlines()[-1])
    assert trainer.history[-1]["bound"] == last["bound"]


def test_the_cost_of_an_encoder_stays_where_its_run_is_gone(pretrained, make_recipe, tmp_path, monkeypatch):
    shutil.copytree(pretrained / "pretraining", tmp_path / "first")
    recipe = make_recipe(*SHORT).model_copy(update={"encoder_from": str(tmp_path / "first")})
    with monkeypatch.context() as patched:
        patched.setattr(SeqVAETrainer, "finished", property(lambda trainer: trainer.progress.epoch == 1))
        train(recipe, tmp_path / "run")
    shutil.rmtree(tmp_path / "first")
    trainer = train(recipe, tmp_path / "run", resume=True)
    assert [record["encoder_updates"] for record in trainer.history] == [16 + 8, 16 + 16]
    assert [record["pretraining_updates"] for record in trainer.history] == [16, 16]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("model.encoder_hidden_size=9",), "encoder_hidden_size 8 for 9"),
        (("model.pooling_mode=last",), "pooling_mode max for last"),
        (("model.latent_size=2",), "latent_size 3 for 2"),
        (("corpus.vocabulary_size=5",), "vocab_size .* vocabulary_hash"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_by_field(pretrained, make_recipe, tmp_path, changes, told):
    recipe = make_recipe(*SHORT, *changes).model_copy(update={"encoder_from": str(pretrained)})
    with pytest.raises(ValueError, match=f"does not fit this run: it has .*{told}"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_is_not_there_is_told_before_the_corpus_is_read(make_recipe, tmp_path, monkeypatch):
    recipe = make_recipe(*SHORT).model_copy(update={"encoder_from": str(tmp_path / "nowhere")})
    monkeypatch.setattr(run, "read_corpus", lambda *unused: pytest.fail("the corpus was read"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize("tables", ["{}", "{lr: 0.04, eps: 0.01}"])
def test_the_encoder_may_have_a_rate_of_its_own(make_trainer, tmp_path, tables):
    options = (*SHORT, "training.optimizer=adam", "training.learning_rate=0.01", f"training.table_options={tables}")
    trainer = make_trainer(tmp_path, *options, "training.encoder_rate=0.25")
    model = trainer.accelerator.unwrap_model(trainer.model)
    rate = {id(weight): group["lr"] for group in trainer.optimizers[0].param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        of_table = tables != "{}" and ("embed_tokens" in name or "lm_head" in name)
        assert rate[id(weight)] == (0.04 if of_table else 0.01) * (0.25 if ".encoder." in name else 1), name
    assert len(trainer.optimizers[0].param_groups) == (2 if tables == "{}" else 4)
    assert trainer.train()[-1]["lr"] == 0.01  # what is logged is the decoder's


def test_steps_of_an_encoder_that_is_frozen_for_part_of_an_epoch_are_counted(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path, "training.epochs=1", "training.freeze_encoder_epochs=0.28")
    frozen, step = [], trainer.update._step
    trainer.update._step = lambda *arguments: frozen.append(trainer.update.encoder_frozen) or step(*arguments)
    (record,) = trainer.train()
    assert (
        record["encoder_updates"]
        == frozen.count(False)
        == len(trainer.batches) - math.ceil(0.28 * len(trainer.batches))
    )
    trainer.batches = range(25)
    assert trainer._frozen_updates == 7  # though 0.28 * 25 is a little more


def test_a_frozen_encoder_keeps_its_weights_for_so_many_epochs(make_trainer, tmp_path, weights_of):
    trainer = make_trainer(tmp_path, *SHORT, "training.freeze_encoder_epochs=1", "training.optimizer=adam")
    before, seen = encoder_of(weights_of(trainer)), []
    end_epoch = trainer._end_epoch

    def noting():
        seen.append(weights_of(trainer))
        end_epoch()

    trainer._end_epoch = noting
    history = trainer.train()
    assert all(torch.equal(seen[0][name], tensor) for name, tensor in before.items())
    assert not torch.equal(seen[0]["lm_head.weight"], seen[1]["lm_head.weight"])
    assert not torch.equal(seen[1]["model.encoder.embed_tokens.weight"], before["model.encoder.embed_tokens.weight"])
    assert [record["encoder_updates"] for record in history] == [0, 8]


def test_pre_uni_never_changes_its_encoder(make_recipe, tmp_path):
    train(make_recipe(*UNIGRAM, method="pre_uni"), tmp_path / "run")
    places = [tmp_path / "run" / folder / "model.safetensors" for folder in ("pretraining/best", "last")]
    first, last = (encoder_of(load_file(place)) for place in places)
    assert all(torch.equal(first[name], tensor) for name, tensor in last.items())


def test_the_whole_model_goes_on_where_the_decoder_is_not_reset(make_recipe, tmp_path, monkeypatch):
    changes = ("pretraining.training.epochs=1", "pretraining.reset_decoder=false")
    taken, take_over = {}, run.take_over

    def noting(model, *arguments, **named):
        take_over(model, *arguments, **named)
        taken.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    monkeypatch.setattr(run, "take_over", noting)
    train(make_recipe(*SHORT, *changes, method="ae_free_bits"), tmp_path / "run")
    best = load_file(tmp_path / "run" / "pretraining" / "best" / "model.safetensors")
    assert taken.keys() == best.keys() and all(torch.equal(taken[name], tensor) for name, tensor in best.items())


@pytest.mark.parametrize(
    ("method", "override", "told"),
    [
        (UNIGRAM_METHOD, "pretraining.reset_decoder=false", "cannot change what the main run takes over: decoder"),
        (UNIGRAM_METHOD, "pretraining.model.latent_size=9", "cannot change .*: latent_size"),
        (UNIGRAM_METHOD, "pretraining.training.precision=bf16", "precision must be that of training"),
        (UNIGRAM_METHOD, "pretraining.training.epochs=0", "pretraining.training.epochs: .*greater than or equal to 1"),
        (UNIGRAM_METHOD, "pretraining.training.nothing=0", "pretraining.training.nothing is not a field"),
        (UNIGRAM_METHOD, "pretraining.nothing=0", "pretraining.nothing is not a field: .* reset_decoder"),
        ("lstm_lm", "pretraining.model.decoder=unigram", "need an encoder: model.latent_size is 0"),
        ("bn_vae", "training.accumulation_steps=2", "accumulation_steps must be 1"),
        ("max_pool", "training.freeze_encoder_epochs=-1", "freeze_encoder_epochs"),
    ],
)
def test_what_cannot_be_is_refused_by_field(make_recipe, method, override, told):
    with pytest.raises(ValueError, match=told):
        make_recipe(override, method=method)


def test_an_encoder_from_elsewhere_has_no_pretraining_to_change():
    chosen = {"preset": "tiny", "encoder_from": "somewhere"}
    assert resolve(UNIGRAM_METHOD, **chosen).pretraining is None
    with pytest.raises(ValueError, match=r"--set: .* with a pretraining or with the encoder of encoder_from, not"):
        resolve(UNIGRAM_METHOD, **chosen, overrides=["pretraining.training.epochs=2"])


def test_a_stage_shares_what_it_does_not_change_but_for_what_is_the_main_run_s(make_recipe):
    recipe = make_recipe(
        "training.objective=free_bits", "training.objective_options={nats: 0.5}", "training.freeze_encoder_epochs=1",
        "training.seed=7", "training.accumulation_steps=2", method=UNIGRAM_METHOD,
    )  # fmt: skip
    stage = recipe.pretraining_recipe()
    assert (stage.training.objective, stage.training.objective_options) == ("elbo", {})
    assert (stage.training.freeze_encoder_epochs, stage.training.seed, stage.training.accumulation_steps) == (0, 7, 2)
