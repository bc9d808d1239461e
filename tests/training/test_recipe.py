import json
import re
from pathlib import Path

import pytest
from datasets import Dataset
from pydantic import ValidationError

from modeling_seqvae.data.corpus_spec import CorpusSpec, spec_from_path
from modeling_seqvae.data.files import yaml_value
from modeling_seqvae.tokenization import train_tokenizer, vocabulary_hash
from modeling_seqvae.training import configuration, specs
from modeling_seqvae.training import recipe as recipes
from modeling_seqvae.training.configuration import available, configuration_root
from modeling_seqvae.training.recipe import Recipe, corpus_spec, resolve
from modeling_seqvae.training.specs import TrainingSpec

METHODS, CORPORA, PRESETS = (available(kind) for kind in ("methods", "corpora", "training"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_resolves_on_every_corpus_with_every_preset(method, tmp_path):
    for corpus in CORPORA:
        for preset in (None, *PRESETS):
            recipe = resolve(method, corpus, preset)
            assert (recipe.method, recipe.corpus.name) == (method, corpus)
        recipe.save(str(tmp_path / "recipe.yaml"))
        assert Recipe.load(str(tmp_path / "recipe.yaml")) == recipe


@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_at_most_ten_lines(method):
    assert len((configuration_root() / "methods" / f"{method}.yaml").read_text("utf-8").splitlines()) <= 10


def test_the_paper_preset_is_the_shared_setting_and_the_default():
    recipe = resolve("seqvae", "yahoo")
    sizes = {"embedding_size": 512, "hidden_size": 1024, "latent_size": 32}
    assert recipe.model == {**sizes, "pooling_mode": "last"}
    expected = {
        "objective": "elbo", "scheme": "joint", "optimizer": "sgd", "learning_rate": 1.0,
        "max_grad_norm": 5.0, "batch_size": 32,
        "epochs": 100, "kl_schedule": "linear", "kl_start": 0.1, "kl_stop": 1.0, "anneal_epochs": 10,
        "plateau_from": 15, "plateau_patience": 2, "max_halvings": 5,
    }  # fmt: skip
    assert recipe.training.model_dump(include=set(expected)) == expected
    assert recipe.training == TrainingSpec()
    config = recipe.config(train_tokenizer(["a b c"]))
    assert (
        config.vocabulary_hash
        == vocabulary_hash(train_tokenizer(["a b c"]))
        != vocabulary_hash(train_tokenizer(["a c c b"]))
    )
    assert (config.embedding_dropout, config.output_dropout, config.word_dropout) == (0.5, 0.5, 0)
    assert (config.initializer_range, config.embedding_initializer_range) == (0.01, 0.1)


def test_the_documentation_lists_every_field_of_training_with_its_default():
    text = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text("utf-8")
    table = text.split("### `training`")[1].split("### `model`")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", table, re.M))
    defaults = TrainingSpec().model_dump()
    assert list(rows) == list(defaults)
    assert {name: yaml_value(value, name) for name, value in rows.items()} == defaults


def test_the_documentation_lists_every_method_preset_and_field_of_the_model():
    text = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in (*METHODS, *PRESETS, *recipes.MODEL_FIELDS))


BEYOND_THE_PAPER = {
    "unigram_pretraining", "unigram_pretraining_elbo", "unigram_pretraining_free_bits", "unigram_pretraining_long",
    "pre_uni", "free_bits", "bn_vae", "ae_free_bits", "minimum_rate", "vmf", "dilated_cnn", "sa_vae", "hybrid",
}  # fmt: skip
ADAM = {"training.optimizer": "adam"}


def test_the_rows_of_table_1_differ_from_seqvae_as_they_should():
    plain = resolve("seqvae", "yahoo")
    changes = {
        "max_pool": {"model.pooling_mode": "max"},
        "avg_pool": {"model.pooling_mode": "avg"},
        "abs_pool": {"model.pooling_mode": "abs"},
        "attention": {"model.pooling_mode": "attention"},
        "lstm_lm": {"model.latent_size": 0, "model.pooling_mode": None},
        "word_drop": {"model.word_dropout": 0.5},
        "skip_vae": {"model.decoder_skip": True},
        "beta_vae": {"training.kl_stop": 0.5},
        "cyclical": {"training.kl_schedule": "cyclical"},
        "aggressive": {"training.scheme": "aggressive"},
        "wae_rnf": {
            "model.posterior": "planar_flow", "training.objective": "wae_rnf", **ADAM, "training.learning_rate": 1e-3,
            "training.kl_start": 0, "training.kl_stop": 0.8,
        },
        "ivae": {"model.posterior": "implicit", "training.objective": "ivae", **ADAM, "training.learning_rate": 8e-4},
        "ivae_mi": {
            "model.posterior": "implicit", "training.objective": "ivae_mi", **ADAM, "training.learning_rate": 8e-4,
        },
    }  # fmt: skip
    assert sorted(changes) == sorted(set(METHODS) - {"seqvae", *BEYOND_THE_PAPER})
    for method, expected in changes.items():
        here, there = (dict(recipes.leaves(recipe.model_dump())) for recipe in (resolve(method, "yahoo"), plain))
        names = {name for name in here | there if here.get(name) != there.get(name)} - {"method", "title"}
        assert {name: here.get(name) for name in names} == expected


def test_a_method_says_what_it_changes_in_its_base(tmp_path):
    base = resolve("unigram_pretraining", "ptb")
    (tmp_path / "mine.yaml").write_text("base: unigram_pretraining\nmodel: {latent_size: 8}\ntraining: {seed: 3}\n")
    mine = resolve(str(tmp_path / "mine.yaml"), "ptb")
    assert (mine.method, mine.title) == ("mine", "mine")
    assert mine.model == base.model | {"latent_size": 8} and mine.pretraining == base.pretraining
    assert mine.training == base.training.model_copy(update={"seed": 3})
    assert configuration.method_settings(str(tmp_path / "mine.yaml"))["model"] == {
        **configuration.method_settings("unigram_pretraining")["model"],
        "latent_size": 8,
    }
    (tmp_path / "parts.py").touch()
    (tmp_path / "theirs.yaml").write_text("base: max_pool\nimports: [parts.py]\nmodel: {latent_size: 8}\n")
    theirs = configuration.method_settings(str(tmp_path / "theirs.yaml"))
    assert theirs == {"title": "theirs", "model": {"pooling_mode": "max", "latent_size": 8}}
    (tmp_path / "round.yaml").write_text(f"base: {tmp_path / 'mine.yaml'}\n")
    (tmp_path / "mine.yaml").write_text(f"base: {tmp_path / 'round.yaml'}\n")
    with pytest.raises(ValueError, match=r"round.yaml: base leads back|mine.yaml: base leads back"):
        resolve(str(tmp_path / "mine.yaml"), "ptb")
    (tmp_path / "mine.yaml").write_text("base: {model: 3}\n")
    with pytest.raises(ValueError, match=r"mine.yaml: base must be the name or the path of a method, not {.model.: 3}"):
        resolve(str(tmp_path / "mine.yaml"), "ptb")
    (tmp_path / "mine.yaml").write_text("base: unigram\n")
    with pytest.raises(ValueError, match=r"mine.yaml: base: there is no 'unigram' in configuration/methods"):
        resolve(str(tmp_path / "mine.yaml"), "ptb")
    (tmp_path / "mine.yaml").write_text("base: theirs.yaml\nmodel: {hidden_size: 6}\n")  # beside it
    assert configuration.method_settings(str(tmp_path / "mine.yaml"))["model"] == theirs["model"] | {"hidden_size": 6}
    (tmp_path / "mine.yaml").write_text("base: none.yaml\n")
    with pytest.raises(ValueError, match=rf"mine.yaml: base: there is no file {tmp_path / 'none.yaml'}"):
        resolve(str(tmp_path / "mine.yaml"), "ptb")


def test_a_method_changes_single_fields_of_the_pretraining_in_its_base(tmp_path):
    base = resolve("unigram_pretraining", "ptb").pretraining
    (tmp_path / "mine.yaml").write_text(
        "base: unigram_pretraining\npretraining: {model: {word_dropout: 0.1}, training: {learning_rate: 0.004}}\n"
    )
    mine = resolve(str(tmp_path / "mine.yaml"), "ptb").pretraining
    assert mine.model == base.model | {"word_dropout": 0.1}
    assert mine.training == base.training | {"learning_rate": 0.004}
    (tmp_path / "mine.yaml").write_text("base: unigram_pretraining\npretraining: {training: {epochs: 2}}\n")
    mine = resolve(str(tmp_path / "mine.yaml"), "ptb").pretraining
    assert mine.training == base.training | {"epochs": 2, "updates": None}  # as with --set
    (tmp_path / "mine.yaml").write_text("base: unigram_pretraining\npretraining: {training: 2}\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: pretraining.training must hold fields"):
        resolve(str(tmp_path / "mine.yaml"), "ptb")


def test_epochs_of_a_pretraining_that_is_given_as_a_whole_are_meant_as_they_are():
    for overrides in (["pretraining.training={epochs: 2}"], {"pretraining.training": {"epochs": 2}}):
        recipe = resolve("unigram_pretraining", preset="auto", overrides=overrides).settled(3000, 20)
        assert recipe.pretraining_recipe().training.epochs == 2
    longer = resolve("unigram_pretraining", preset="auto", overrides=["pretraining.training={batch_size: 8}"])
    assert longer.pretraining_recipe().training.updates == longer.training.updates


@pytest.mark.parametrize(("preset", "epochs"), [("paper", 40), ("small", 20), ("demo", 8)])
def test_the_cycles_of_cyclical_end_well_before_the_run(preset, epochs):
    training = resolve("cyclical", "ptb", preset).training
    assert epochs < training.epochs
    assert training.kl_weight(epochs - 0.1) == training.kl_weight(epochs) == 1.0
    assert training.kl_weight(epochs * 3 / 4) == 0.0


@pytest.mark.parametrize(("preset", "epochs"), [("paper", 40), ("small", 20)])
def test_the_plateaus_of_the_rate_begin_behind_the_cycles(preset, epochs):
    training = resolve("cyclical", "ptb", preset).training
    rule = training.plateau()
    first = next(epoch for epoch in range(1, 1000) if rule.halves_after(epoch, bound=float(epoch)))
    assert first == epochs + 1 + training.plateau_patience < training.epochs  # the epoch after the cycles is the start


def test_a_length_may_be_a_share_of_the_run():
    shares = ["training.anneal_epochs=30%", "training.warmup_epochs=2.5%", "training.cycle_epochs=20%"]
    for overrides in (["training.epochs=40", *shares], [*shares, "training.epochs=40.0"]):  # in any order
        training = resolve("max_pool", "ptb", "small", overrides).training
        assert (training.anneal_epochs, training.warmup_epochs, training.cycle_epochs) == (12, 1, 8)


@pytest.mark.parametrize(("share", "epochs", "first"), [("7%", 100, 7), ("30%", 25, 8), ("1%", 10, 1)])
def test_a_share_is_exact_and_the_first_epoch_of_a_rule_a_whole_one(share, epochs, first):
    overrides = [f"training.{name}" for name in (f"epochs={epochs}", f"plateau_from={share}", f"anneal_epochs={share}")]
    training = resolve("max_pool", "ptb", "small", overrides).training
    assert training.plateau_from == first and training.anneal_epochs == int(share[:-1]) * epochs / 100


def test_a_share_is_one_of_the_run_that_updates_make():
    training = resolve("max_pool", preset="auto", overrides=["training.anneal_epochs=25%"]).training.settled(3000, 20)
    assert training.anneal_epochs == pytest.approx(0.25 * training.epochs)


@pytest.mark.parametrize(
    ("method", "overrides", "told"),
    [
        ("max_pool", ["training.epochs=5"], ["takes 10 epochs and the run has 5: it ends at weight 0.55"]),
        ("cyclical", ["training.epochs=5", "training.cycle_epochs=8"], ["takes 32 epochs and the run has 5"]),
        ("max_pool", [], []),
        ("max_pool", ["training.epochs=5", "training.anneal_epochs=50%"], []),
        ("max_pool", ["training.epochs=10"], []),  # at 1 with the last update
        ("unigram_pretraining", ["training.epochs=5"], []),  # constant
        ("cyclical", ["training.epochs=5", "training.cycle_epochs=2.5"], ["it ends at weight 1.00"]),  # two cycles
    ],
)
def test_a_run_that_ends_before_its_schedule_says_what_to_set(method, overrides, told):
    found = resolve(method, "ptb", "small", overrides).training.unfinished()
    assert len(found) == len(told)
    for sentence, part in zip(found, told, strict=True):
        assert part in sentence
        field, share = sentence.rpartition(": ")[2].split("=")
        assert not resolve(method, "ptb", "small", [*overrides, f"{field}={share}"]).training.unfinished()


def test_later_wins(tmp_path):
    preset, method = tmp_path / "preset.yaml", tmp_path / "mine.yml"
    preset.write_text("training: {epochs: 1, batch_size: 2, seed: 3}\nmodel: {hidden_size: 5}\n")
    method.write_text("title: Mine\ntraining: {batch_size: 4}\nmodel: {pooling_mode: abs}\n")
    recipe = resolve(str(method), "ptb", str(preset), ["training.seed=6", "training.seed=7", "corpus.max_words=50"])
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.seed) == (1, 4, 7)
    assert recipe.model == {"hidden_size": 5, "pooling_mode": "abs"}
    assert recipe.corpus.max_words == 50
    assert (recipe.method, recipe.title) == ("mine", "Mine")


def test_the_preset_is_the_corpuss_own_unless_named(tmp_path):
    assert resolve("seqvae", "demo") == resolve("seqvae", "demo", "demo") != resolve("seqvae", "demo", "small")
    corpus = tmp_path / "mine.yaml"
    corpus.write_text("data: {name: mine, files: {train: a.txt}}\npreset: small\n")
    assert resolve("seqvae", str(corpus)).model["hidden_size"] == 256
    assert resolve("seqvae", corpus_spec(str(corpus))).corpus.name == "mine"


def test_a_method_without_title_is_called_like_its_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {pooling_mode: avg}\n")
    assert resolve(str(tmp_path / "mine.yaml"), "ptb").title == "mine"


def test_resolving_changes_no_file_and_no_later_recipe():
    first = resolve("max_pool", "ptb")
    resolve("max_pool", "ptb", overrides=["model.latent_size=3", "training.epochs=1"], limits={"train": 10})
    assert resolve("max_pool", "ptb") == first


def test_the_installed_packages_copy_of_the_configuration_comes_first(tmp_path, monkeypatch):
    assert configuration_root() == Path(__file__).resolve().parents[2] / "configuration"
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(configuration, "PACKAGE", package)
    assert configuration_root() == tmp_path / "configuration"
    (package / "configuration").mkdir()
    assert configuration_root() == package / "configuration"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.learning_rate=1e-3", 1e-3),
        ("training.learning_rate=.5", 0.5),
        ("training.seed=010", 10),
        ("training.seed=008", 8),
        ("training.seed=0x1F", 31),
        ("training.precision=no", "no"),
        ("training.trackers=[tensorboard]", ["tensorboard"]),
        ("model.embedding_dropout=0", 0),
        ("model.initializer_range=1e-2", 1e-2),
        ("model.decoder_skip=true", True),
        ("model.encoder_hidden_size=null", None),
        ("corpus.labels=[no, 2]", ("no", "2")),
        ("corpus.unknown_mark=<unk>", "<unk>"),
        (" training.epochs = 5", 5),
    ],
)
def test_values_of_set_are_yaml(override, value):
    recipe = resolve("max_pool", "ptb", overrides=[override])
    section, _, field = override.partition("=")[0].strip().partition(".")
    found = recipe.model_dump()[section][field]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=5", "section.field=value"),
        ("training.epochs", "section.field=value"),
        ("training.=5", "section.field=value"),
        ("optim.lr=5", "--set: 'optim' is not one of corpus, model, training"),
        ("training.lr=5", "--set: training.lr is not a field: the fields are .*learning_rate"),
        ("training.epochs=many", "--set: training.epochs: .*integer.*'many'"),
        ("training.epochs=", "--set: training.epochs: .*integer"),
        ("training.epochs=yes", "--set: training.epochs: .*'yes'"),
        ("training.epochs=true", "--set: training.epochs: a truth value"),
        ("training.epochs=2.5", "training.epochs: .*integer"),
        ("training.epochs=0", "training.epochs: .*greater than or equal to 1"),
        ("training.epochs=[", r"'training.epochs=\['.*YAML"),
        ("training.learning_rate=1,5", "training.learning_rate: .*number.*'1,5'"),
        ("training.learning_rate=.nan", "training.learning_rate: .*finite"),
        ("training.learning_rate=.inf", "training.learning_rate: .*finite"),
        ("training.precision=fp16", "training.precision: .*'auto', 'native', 'no' or 'bf16'"),
        ("training.updates=[9, 2]", r"training.updates: must be the least and the most .*\[9, 2\]"),
        ("training.updates=[0, 2]", "training.updates: must be the least and the most"),
        ("training.updates=9", "training.updates: "),
        ("training.kl_schedule=sine", "training.kl_schedule: 'sine' is not one of linear, cyclical, constant; a part"),
        ("training.objective=mmd", "training.objective: 'mmd' is not one of elbo"),
        ("training.optimizer=lbfgs", "training.optimizer: .*'lbfgs' is not one of sgd, adam, adamw"),
        ("training.optimizer_options={eps: 1e-3}", "sgd has no option 'eps' here, only momentum, .*weight_decay"),
        ("training.optimizer_options={lr: 2}", "sgd has no option 'lr'"),
        ("training.optimizer_options={momentum: a}", "momentum must be a number.*'a'"),
        ("training.optimizer_options={momentum: .nan}", "momentum must be a number.*nan"),
        ("training.optimizer_options={momentum: -1}", "sgd does not take {'momentum': -1}: .*momentum"),
        (
            "training.table_options={eps: 1e-3}",
            "training.table_options: sgd has no option 'eps' here, only lr, momentum",
        ),
        ("training.table_options={lr: -1}", "sgd does not take {'lr': -1}: .*learning rate"),
        ("training.optimizer_options=0.9", "training.optimizer_options: .*dictionary.*0.9"),
        ("training.trackers=tensorboard", "training.trackers: .*list"),
        ("training.tracker_options={wandb: {}}", "training.tracker_options: 'wandb' is not one of"),
        ("training.anneal_epochs=101%", "training.anneal_epochs: input should be a valid number"),
        ("training.anneal_epochs=-5%", "training.anneal_epochs: input should be a valid number"),
        ("training.anneal_epochs=half", "training.anneal_epochs: input should be a valid number"),
        ("training.trackers=[notebook]", "training.trackers: 'notebook' is not one of .*tensorboard.*wandb"),
        ("model.pooling_mode=mean", "model: pooling_mode='mean' is not one of last, avg, max, abs, attention"),
        ("model.posterior=cauchy", "model: posterior='cauchy' is not one of gaussian"),
        ("model.latent=3", "model: 'latent' is not one of .*latent_size"),
        ("model.vocab_size=3", "model: 'vocab_size' is not one of"),
        ("model.latent_size=many", "model: field 'latent_size' expected int, got str"),
        ("model.latent_size=true", "model: field 'latent_size' expected int, got bool"),
        ("model.word_dropout=half", "model: field 'word_dropout'.*'half'"),
        ("model.word_dropout=2", "model: word_dropout must be"),
        ("corpus.file=x", "corpus.file is not a field: the fields are .*files"),
        (
            "corpus.files={train: x, tset: y}",
            "corpus.files.tset is not a field: the fields are train, validation, test",
        ),
        ("corpus.normalisation=stem", "corpus: .*'stem'.*whitespace, words"),
    ],
)
def test_set_refuses_what_means_nothing_with_the_valid_names(override, message):
    with pytest.raises(ValueError, match=f"(?i){message}"):
        resolve("max_pool", "ptb", overrides=[override])


@pytest.mark.parametrize("method", ["wae_rnf", "ivae", "ivae_mi"])
def test_a_method_with_an_optimiser_of_its_own_leaves_the_presets_options(method, tmp_path):
    assert resolve("max_pool", "ptb", "fast").training.table_options
    assert not resolve(method, "ptb", "fast").training.table_options
    mine = tmp_path / "mine.yaml"
    mine.write_text("training: {optimizer: sgd, optimizer_options: {momentum: 0.9}}\n")
    assert resolve("max_pool", "ptb", str(mine)).training.optimizer_options
    assert not resolve(method, "ptb", str(mine)).training.optimizer_options


def test_texts_of_ones_own_have_the_preset_auto_which_has_the_model_and_optimiser_of_fast(tmp_path):
    (tmp_path / "mine.txt").write_text("a b\n")
    own = spec_from_path(tmp_path / "mine.txt")
    assert resolve("seqvae", own) == resolve("seqvae", own, "auto")
    assert resolve("seqvae") == resolve("seqvae", None, "auto")
    auto, fast = (resolve("seqvae", own, preset) for preset in ("auto", "fast"))
    assert auto.model == fast.model
    for name in ("optimizer", "optimizer_options", "table_options", "learning_rate", "lr_schedule", "batch_size"):
        assert getattr(auto.training, name) == getattr(fast.training, name)


def test_auto_reads_texts_sixteen_times_and_many_texts_less_often():
    for sentences, epochs in ((1, 16), (40_000, 16), (80_000, 8), (10**7, 1)):
        training = resolve("seqvae", preset="auto").settled(sentences, 20).training
        assert training.epochs == epochs
        assert training.warmup_epochs == pytest.approx(epochs / 32)
        assert training.anneal_epochs == pytest.approx(epochs * 3 / 8)


UPDATES = (
    "training.epochs=8", "training.updates=[100, 1000]", "training.batch_size=10", "training.warmup_epochs=0.5",
    "training.anneal_epochs=4",
)  # fmt: skip


@pytest.mark.parametrize(
    ("sentences", "epochs"),
    [(1, 60), (20, 50), (100, 10), (101, 10), (120, 9), (125, 8), (1000, 8), (1420, 8), (1430, 7), (5000, 2), (9999, 1),
    (10**7, 1)],
)  # fmt: skip
def test_updates_decides_how_often_few_or_many_sentences_are_read(sentences, epochs):
    """At least 100 and at most 1,000 updates, 8 epochs where these are between, and never above 60."""
    recipe = resolve("max_pool", "ptb", "fast", (*UPDATES, "training.precision=no"))
    training = recipe.settled(sentences, 20).training
    assert training.epochs == epochs and training.updates is None
    assert training.warmup_epochs == pytest.approx(epochs / 16) and training.anneal_epochs == epochs / 2
    assert training.kl_weight(epochs / 2) == 1.0 > training.kl_weight(epochs / 2 - 0.01)
    changed = {name for name in TrainingSpec.model_fields if getattr(training, name) != getattr(recipe.training, name)}
    assert changed <= {"updates", *specs.LENGTHS}


def test_a_pretraining_keeps_to_updates_as_the_run_does(tmp_path):
    recipe = resolve(
        "ae_free_bits",
        "ptb",
        "fast",
        (*UPDATES, "pretraining.training.epochs=4", "pretraining.training.updates=[100, 1000]"),
    )
    for sentences, epochs, of_pretraining in ((100, 10, 10), (500, 8, 4), (5000, 2, 2), (10**6, 1, 1)):
        settled = recipe.settled(sentences, 20)
        stage = settled.pretraining_recipe()
        assert (settled.training.epochs, stage.training.epochs) == (epochs, of_pretraining)
        assert not settled.unsettled and settled.settled(sentences, 20) == settled and stage.settled(7, 20) == stage
        settled.save(tmp_path / "recipe.yaml")
        assert Recipe.load(tmp_path / "recipe.yaml") == settled
        assert recipe.differences(settled) == settled.differences(recipe) == []  # what is not decided yet
    decided = resolve("ae_free_bits", "ptb", "fast", ["training.precision=no"])
    assert decided.settled(7, 20) == decided


def test_a_unigram_pretraining_has_a_length_of_its_own():
    """8 epochs, between 240 and 6,000 updates of 128 texts, whatever the run's own length is."""
    for method, preset in (("unigram_pretraining", "fast"), ("pre_uni", "paper"), ("unigram_pretraining", "auto")):
        recipe = resolve(method, "ptb", preset)
        for sentences, epochs in ((128, 60), (3000, 10), (10_000, 8), (200_000, 4), (10**7, 1)):
            stage = recipe.settled(sentences, 20).pretraining_recipe()
            assert (stage.training.epochs, stage.training.updates) == (epochs, None)


def test_who_counts_epochs_means_epochs(tmp_path):
    def epochs(*overrides, preset="auto"):
        recipe = resolve("ae_free_bits", "ptb", preset, overrides).settled(320, 20)
        return recipe.training.epochs, recipe.pretraining_recipe().training.epochs

    assert epochs("training.updates=[200, 300]") == (20, 20)
    assert epochs("training.updates=[200, 300]", "pretraining.training.epochs=2") == (20, 2)
    assert epochs("training.epochs=2") == (2, 2)
    assert epochs("training.epochs=2", "training.updates=[200, 300]") == (20, 20)
    assert epochs("training.updates=null", "pretraining.training.updates=[70, 70]") == (16, 7)
    method = tmp_path / "mine.yaml"
    method.write_text("training: {epochs: 3}\n")
    assert resolve(str(method), "ptb", "auto").settled(320, 20).training.epochs == 3


def test_rates_grow_with_the_square_root_of_the_words_in_a_batch():
    """From `rate_words` on; fewer leave them as they are. A pretraining has its own, or shares them for its batches."""
    rates = ("training.learning_rate=0.01", "training.table_options={lr: 0.2, eps: 0.5}", "training.rate_words=640")
    shared = (*rates, "pretraining.training.batch_size=128")
    for words, factor in ((5, 1), (20, 1), (45, 1.5), (80, 2)):
        settled = resolve("pre_uni", "ptb", "fast", rates).settled(100, words)
        training, stage = settled.training, settled.pretraining_recipe().training
        assert training.learning_rate == pytest.approx(0.01 * factor) and training.rate_words is None
        assert training.table_options == {"lr": pytest.approx(0.2 * factor), "eps": 0.5}
        assert stage.learning_rate == resolve("pre_uni", "ptb", "fast").pretraining_recipe().training.learning_rate
        assert settled.settled(7, 7) == settled and not settled.unsettled
    settled = resolve("ae_free_bits", "ptb", "fast", shared).settled(100, 80)
    stage = settled.pretraining_recipe()
    assert settled.training.learning_rate == 0.02 and stage.training.learning_rate == 0.04
    assert settled.settled(7, 7) == settled and stage.settled(7, 7) == stage
    larger = resolve("max_pool", "ptb", "fast", (*rates, "training.batch_size=128")).settled(100, 80)
    assert larger.training.learning_rate == 0.04  # the square-root rule of batch sizes is a case of it


def test_who_gives_a_rate_means_it(tmp_path):
    def rate(*overrides):
        return resolve("max_pool", preset="auto", overrides=overrides).settled(3000, 200).training.learning_rate

    assert rate() == pytest.approx(0.002 * (32 * 200 / 700) ** 0.5, rel=1e-2)
    assert rate("training.learning_rate=0.003") == 0.003
    assert rate("training.table_options={lr: 0.1, eps: 0.01}") == 0.002
    assert rate("training.learning_rate=0.003", "training.rate_words=1600") == 0.006
    assert rate("training.rate_words=1600", "training.learning_rate=0.003") == 0.006  # in any order
    mapping = {"training.rate_words": 1600, "training.learning_rate": 0.003}
    assert resolve("max_pool", preset="auto", overrides=mapping).settled(3000, 200).training.learning_rate == 0.006
    both = {"training.updates": [1, 50], "training.epochs": 5}
    assert resolve("max_pool", preset="fast", overrides=both).training.updates == (1, 50)
    method = tmp_path / "mine.yaml"
    method.write_text("training: {learning_rate: 0.003}\n")
    assert resolve(str(method), "ptb", "auto").settled(3000, 200).training.learning_rate == 0.003


def test_the_words_of_a_batch_are_those_that_the_decoder_predicts():
    rows = Dataset.from_dict({"text": ["a b c", "a b c d e"]})
    recipe = resolve("max_pool", preset="auto", overrides=["training.learning_rate=1.0", "training.rate_words=32"])
    assert recipe.settled_on(rows, train_tokenizer(rows["text"])).training.learning_rate == pytest.approx(5**0.5, 1e-2)


@pytest.mark.parametrize("preset", ["auto", "fast"])
@pytest.mark.parametrize(("there", "found"), [(True, "bf16"), (False, "no")])
def test_native_precision_is_what_the_machine_has(monkeypatch, there, found, preset):
    monkeypatch.setattr(specs, "has_bfloat16", lambda device: there)
    recipe = resolve("unigram_pretraining", "ptb", preset)
    assert recipe.training.precision == "native" and recipe.training.mixed_precision == found
    settled = recipe.settled(100, 20)
    assert settled.training.precision == settled.pretraining_recipe().training.precision == found
    assert resolve("seqvae", "ptb", "paper").settled(100, 20).training.precision == "auto"


def test_the_fast_preset_has_the_model_of_the_small_one():
    fast, small = (resolve("max_pool", "ptb", preset) for preset in ("fast", "small"))
    assert fast.model == small.model and fast.training.batch_size == small.training.batch_size


@pytest.mark.parametrize("options", [{"betas": [0.9, 0.98], "eps": 1e-3}, {"weight_decay": 0.1}, {"amsgrad": True}])
def test_options_of_an_optimiser_reach_the_recipe(options):
    overrides = ["training.optimizer=adam", f"training.optimizer_options={json.dumps(options)}"]
    assert resolve("max_pool", "ptb", overrides=overrides).training.optimizer_options == options


def test_options_of_an_unknown_optimiser_are_not_asked_about():
    with pytest.raises(ValueError, match=r"training.optimizer: 'lbfgs' is not one of [^;]*$"):
        resolve("max_pool", "ptb", overrides=["training.optimizer=lbfgs", "training.optimizer_options={eps: 1}"])


@pytest.mark.parametrize("options", [{"betas": 0.9}, {"betas": [0.9]}, {"betas": [0.9, 2]}, {"eps": -1}])
def test_options_that_an_optimiser_cannot_use_are_refused(options):
    with pytest.raises(ValueError, match=r"adam does not take \{.*\}: "):
        resolve(
            "max_pool",
            "ptb",
            overrides=["training.optimizer=adam", f"training.optimizer_options={json.dumps(options)}"],
        )


@pytest.mark.parametrize(("place", "kind"), [(0, "methods"), (1, "corpora"), (2, "training")])
def test_unknown_names_are_refused_with_the_known_ones(place, kind):
    names = ["seqvae", "ptb", "paper"]
    names[place] = "nothing"
    with pytest.raises(ValueError, match=f"'nothing' in configuration/{kind}, only {', '.join(available(kind))}"):
        resolve(*names)
    names[place] = "nothing.yaml"
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml"):
        resolve(*names)


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        (0, "model: {pooling: max}", "model: 'pooling' is not one of .*pooling_mode"),
        (0, "modle: {pooling_mode: max}", "'modle' is not one of corpus, model, training"),
        (0, "model: max", "model must hold fields"),
        (0, "- model", "mapping of sections"),
        (0, "model: {pooling_mode: [", "not readable as YAML"),
        (0, "training: {epochs: 3}\nmodel: {}\ntraining: {seed: 1}", "'training' stands twice.*line 3"),
        (0, "model: {pooling_mode: max, pooling_mode: avg}", "'pooling_mode' stands twice"),
        (0, "title: 3", "title must be text, not 3"),
        (0, "imports: [nowhere.py]", r"imports: there is no .*nowhere\.py"),
        (1, "data: {files: {train: x.txt}}", "data.name: field required"),
        (1, "data: {name: x, files: {train: x.txt}, max_word: 5}", "data.max_word is not a field: .* are name, files"),
        (1, "data: {name: x, files: {train: x.txt, tset: y}}", "data.files.tset is not a field: .* are train, valid"),
        (1, "data: {name: x, files: {test: x.txt}}", "files.train is missing"),
        (1, "data: {name: x, files: {train: x.txt}, normalisation: letters}", "data: unknown normalisation 'letters'"),
        (1, "data: {name: x, files: {train: x.txt}}\npreset:", "preset: .*string"),
        (1, "date: {name: x}", "'date' is not one of data, preset"),
        (1, "", "mapping of sections"),
        (2, "training: {epochs: few}", "training.epochs: .*'few'"),
        (2, "title: x", "'title' is not one of"),
    ],
)
def test_an_error_in_a_file_of_ones_own_names_the_file_and_the_field(tmp_path, place, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    names = ["seqvae", "ptb", "paper"]
    names[place] = str(path)
    with pytest.raises(ValueError, match=f"(?s){path}.*{message}"):
        resolve(*names)


def test_a_preset_that_a_corpus_names_must_exist(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("data: {name: x, files: {train: x.txt}}\npreset: huge\n")
    with pytest.raises(ValueError, match="'huge' in configuration/training, only auto, demo, fast, paper, small"):
        resolve("seqvae", str(path))


def test_a_recipe_on_disk_comes_back_equal(tmp_path):
    spec = CorpusSpec(name="no", files={"train": "ü.txt"}, labelled=True, labels=("no", "1e3", "null", "1", ""))
    recipe = resolve(
        "cyclical", spec, "small", ["training.precision=no", "training.learning_rate=1e-7"], limits={"train": 5}
    )
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_recipe_on_disk_that_was_damaged_names_file_and_field(tmp_path):
    path = tmp_path / "recipe.yaml"
    with pytest.raises(FileNotFoundError, match=str(path)):
        Recipe.load(path)
    resolve("seqvae", "ptb").save(path)
    text = path.read_text("utf-8")
    path.write_text(text.replace("epochs: 100", "epochs: often", 1))
    with pytest.raises(ValueError, match=f"{path}: training.epochs.*'often'"):
        Recipe.load(path)
    path.write_text(text.replace("epochs: 100", "epoch: 100", 1))
    with pytest.raises(ValueError, match=f"{path}: training.epoch is not a field"):
        Recipe.load(path)
    path.write_text(text[:3])
    with pytest.raises(ValueError, match=str(path)):
        Recipe.load(path)


def test_differences_name_fields_and_both_values():
    here, there = (resolve("seqvae", "ptb", overrides=[f"training.epochs={epochs}"]) for epochs in (5, 30))
    assert here.differences(there) == ["training.epochs is 30 there and 5 here"]
    assert here.differences(here) == []
    steps = "training.accumulation_steps=4"  # the number of shards is what counts, and it is with the state
    assert here.differences(resolve("seqvae", "ptb", overrides=["training.epochs=5", steps])) == []
    names = {line.split(" is ")[0] for line in here.differences(resolve("max_pool", "ptb", limits={"train": 3}))}
    assert names == {"method", "limits.train", "model.pooling_mode", "training.epochs"}


def test_a_recipe_is_not_changed_by_accident():
    with pytest.raises(ValidationError):
        resolve("seqvae", "ptb").training.epochs = 3


def test_config_takes_its_size_and_special_ids_from_the_tokenizer():
    tokenizer = train_tokenizer(["a b c", "a b"], unknown_mark="_UNK")
    config = resolve("max_pool", "ptb", "small").config(tokenizer)
    assert (config.vocab_size, config.hidden_size) == (len(tokenizer), 256)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.unk_token_id) == (0, 1, 2, 3)


def test_a_title_tells_of_parts_that_make_it_another_system() -> None:
    assert resolve("max_pool", overrides=["model.pooling_mode=max", "training.epochs=3"]).title == "SeqVAE + MaxPool"
    changed = resolve("max_pool", overrides=["model.pooling_mode=avg", "training.objective=free_bits"])
    assert changed.title == "SeqVAE + MaxPool (objective=free_bits, pooling_mode=avg)"
