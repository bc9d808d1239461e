import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer

from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.evaluation.evaluate import Evaluator, summarise
from modeling_seqvae.training import loader, monitor, run, trainer
from modeling_seqvae.training.loader import Batch, Part
from modeling_seqvae.training.recipe import Recipe
from modeling_seqvae.training.trainer import TrainingDiverged

FIELDS = [
    "epoch", "encoder_updates", "decoder_updates", "seconds", "kl_weight", "bound", "rec", "kl", "mi", "au", "cosine",
    "lr", "words_per_second", "train_seconds", "evaluate_seconds", "save_seconds", "peak_memory_mb",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(make_trainer, tmp_path_factory):
    """A trainer after its run of three epochs, for reading only."""
    done = make_trainer(tmp_path_factory.mktemp("finished") / "run")
    done.train()
    return done


def scripted(monkeypatch, bounds):
    """Lets every evaluation find the next of these bounds."""
    remaining = iter(bounds)
    nothing = dict.fromkeys(("rec", "kl", "mi", "au", "cosine"), 0.0)
    monkeypatch.setattr(trainer, "summarise", lambda measured, seed: {**nothing, "bound": next(remaining)})


def test_a_run_directory_holds_what_is_documented(finished):
    directory = finished.output_dir
    assert sorted(path.name for path in directory.iterdir()) == [
        ".lock",
        "best",
        "history.jsonl",
        "last",
        "recipe.yaml",
    ]
    assert Recipe.load(directory / "recipe.yaml") == finished.recipe
    best = {path.name for path in (directory / "best").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= best
    assert [json.loads(line) for line in (directory / "history.jsonl").open()] == finished.history


def test_a_record_of_the_history_has_exactly_the_documented_fields(finished):
    assert [list(record) for record in finished.history] == [FIELDS] * 3
    assert [record["epoch"] for record in finished.history] == [1, 2, 3]
    assert [record["encoder_updates"] for record in finished.history] == [8, 16, 24]  # 57 sentences, 8 a batch
    assert [record["decoder_updates"] for record in finished.history] == [8, 16, 24]
    assert [record["kl_weight"] for record in finished.history] == pytest.approx(
        [0.1 + 0.9 * 7 / 16, 0.1 + 0.9 * 15 / 16, 1.0]  # of the last of 8 updates an epoch, annealed over 16
    )
    assert [record["lr"] for record in finished.history] == [0.5] * 3
    for record in finished.history:
        assert record["bound"] == pytest.approx(record["rec"] + record["kl"])
        assert record["kl"] >= 0 and -1 <= record["cosine"] <= 1 and 0 <= record["au"] <= 3
        assert isinstance(record["words_per_second"], int) and record["words_per_second"] > 0
        assert isinstance(record["peak_memory_mb"], int) and record["peak_memory_mb"] > 10
    seconds = [record["seconds"] for record in finished.history]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_seconds_of_phases_are_those_since_the_last_record(make_trainer, tmp_path, monkeypatch):
    """A clock that shows a second more whenever it is looked at."""
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(monitor.time, "monotonic", lambda: next(ticks))
    trained = make_trainer(tmp_path, "training.save_minutes=1000")
    words, history = trained.batches.lengths.sum() - 57, trained.train()
    for record, before in zip(history, [{"seconds": 0}, *history[:-1]], strict=True):
        passed = record["seconds"] - before["seconds"]
        assert passed == record["train_seconds"] + record["evaluate_seconds"]
        assert record["train_seconds"] >= 8 and record["evaluate_seconds"] >= 1
        assert record["words_per_second"] == round(words / record["train_seconds"])
    assert [record["save_seconds"] > 0 for record in history] == [False, True, True]  # the saves before the record


def test_an_update_waits_for_the_device_once(make_trainer, tmp_path, monkeypatch):
    """For the norm of the gradient, whatever the model does on its ways forward and back."""
    trained = make_trainer(tmp_path, "training.accumulation_steps=2")
    reads = Reads()

    def uncounted(action):
        def act(*arguments):
            before = reads.count
            result = action(*arguments)
            reads.count = before
            return result

        return act

    monkeypatch.setattr(trained.objective, "output", uncounted(trained.objective.output))
    monkeypatch.setattr(trained.accelerator, "backward", uncounted(trained.accelerator.backward))
    trained.model.train()
    for batch in trained.loader.epoch(0):
        reads.count = 0
        with reads:
            figures = trained.update(batch, 0, 1.0)
        assert reads.count == 1
        assert figures.shape == (2,)


class Reads(TorchDispatchMode):
    """Counts the values that are read from a device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += str(func) in ("aten._local_scalar_dense.default", "aten.nonzero.default")
        return func(*args, **(kwargs or {}))


def test_a_language_model_has_no_latent_figures_and_no_encoder_updates(make_trainer, tmp_path):
    (record,) = make_trainer(tmp_path, "training.epochs=1", method="lstm_lm").train()
    assert list(record) == FIELDS
    assert (record["kl"], record["mi"], record["au"], record["cosine"]) == (0, None, None, None)
    assert (record["encoder_updates"], record["decoder_updates"]) == (0, 8)


def test_best_loads_on_its_own_and_has_the_best_bound_of_the_history(finished):
    best = finished.output_dir / "best"
    model = SeqVAEForTextModeling.from_pretrained(best)
    tokenizer = AutoTokenizer.from_pretrained(best)
    texts = finished.validation_set
    assert tokenizer.backend_tokenizer.to_str() == finished.tokenizer.backend_tokenizer.to_str()
    measured = Evaluator(model, texts, finished.spec.seed, batch_size=3, progress=False).measure()
    bound = summarise(measured, finished.spec.seed)["bound"]
    assert bound == pytest.approx(min(record["bound"] for record in finished.history), abs=1e-5)


def test_generation_stops_at_the_longest_training_sentence(finished):
    longest = max(len(ids) for ids in finished.train_set["input_ids"])
    model = SeqVAEForTextModeling.from_pretrained(finished.output_dir / "best")
    assert model.generation_config.max_length == longest
    assert model.sample(20, generator=torch.Generator().manual_seed(0)).shape[1] <= longest


def test_a_seed_fixes_weights_and_history(finished, make_trainer, tmp_path, weights_of, without_times):
    again = make_trainer(tmp_path / "again")
    again.train()
    assert without_times(again.history) == without_times(finished.history)
    first, second = weights_of(finished), weights_of(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = make_trainer(tmp_path / "other", "training.seed=1")
    assert without_times(other.train()) != without_times(finished.history)


def test_the_global_random_state_decides_nothing(finished, make_trainer, tmp_path, monkeypatch, without_times):
    other = make_trainer(tmp_path / "other")
    objective = other.objective.output

    def disturbed(*arguments):
        np.random.seed(7)
        output = objective(*arguments)
        torch.manual_seed(7)
        return output

    monkeypatch.setattr(other.objective, "output", disturbed)
    other.train()
    assert without_times(other.history) == without_times(finished.history)


def test_every_sentence_is_trained_on_once_an_epoch(make_trainer, tmp_path, monkeypatch):
    seen = []
    collate = loader.collate
    monkeypatch.setattr(
        loader, "collate", lambda rows, pad: seen.extend(row["index"] for row in rows) or collate(rows, pad)
    )
    make_trainer(tmp_path, "training.epochs=2").train()
    assert sorted(seen) == sorted([*range(57)] * 2)
    assert seen[:57] != seen[57:]


@pytest.mark.parametrize(("batch_size", "parts"), [(32, 4), (7, 3), (2, 4)])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    make_trainer, tmp_path, monkeypatch, weights_of, batch_size, parts
):
    """Also where a batch does not divide into its parts, or has fewer sentences than parts."""
    monkeypatch.setattr("modeling_seqvae.noise._one_draw", lambda like, generator: torch.ones_like(like))
    fixed = [
        "model.embedding_dropout=0", "model.output_dropout=0", "training.epochs=2", f"training.batch_size={batch_size}",
    ]  # fmt: skip
    whole = make_trainer(tmp_path / "whole", *fixed)
    accumulated = make_trainer(tmp_path / "parts", *fixed, f"training.accumulation_steps={parts}")
    before = weights_of(whole)
    whole.train()
    accumulated.train()
    expected, found = weights_of(whole), weights_of(accumulated)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
        assert not torch.equal(expected[name], before[name])


def test_a_gradient_is_clipped(make_trainer, tmp_path, weights_of):
    clipped = make_trainer(tmp_path, "training.max_grad_norm=0.001", "training.epochs=1", "training.batch_size=57")
    before = weights_of(clipped)
    clipped.train()
    after = weights_of(clipped)
    moved = math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))
    assert moved == pytest.approx(0.5 * 0.001, rel=1e-2)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_other_optimisers_train(make_trainer, tmp_path, name):
    history = make_trainer(tmp_path, f"training.optimizer={name}", "training.learning_rate=1e-2").train()
    assert history[-1]["bound"] < history[0]["bound"]


def test_options_reach_the_optimiser(make_trainer, tmp_path):
    momentum = make_trainer(tmp_path, "training.optimizer_options={momentum: 0.9, nesterov: true}")
    group = momentum.optimizers[0].param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.9, True)
    assert momentum.train()[-1]["bound"] < math.inf


TABLES = {"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"}


def test_the_tables_of_words_can_have_a_rate_of_their_own(make_trainer, tmp_path, weights_of):
    still = make_trainer(tmp_path, "training.table_options={lr: 0}", "training.epochs=1")
    before = weights_of(still)
    still.train()
    after = weights_of(still)
    assert {name for name in before if torch.equal(before[name], after[name])} == TABLES


def test_the_rate_of_the_tables_falls_with_the_others(make_trainer, tmp_path):
    settings = ("training.learning_rate=0.5", "training.table_options={lr: 2}", "training.lr_schedule=linear")
    trainer, seen = make_trainer(tmp_path, *settings), []
    step = trainer.optimizers[0].step

    def watched(*arguments):
        seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        return step(*arguments)

    trainer.optimizers[0].step = watched
    trainer.train()
    assert all(tables == pytest.approx(4 * rest) for rest, tables in seen)
    assert seen[0][0] > 0.45 and seen[-1][0] < 0.05


def test_tables_with_the_options_of_the_rest_change_nothing(make_trainer, tmp_path, weights_of):
    plain, grouped = (
        make_trainer(tmp_path / name, "training.optimizer=adam", "training.learning_rate=1e-2", *options)
        for name, options in (("plain", ()), ("grouped", ("training.table_options={lr: 1e-2}",)))
    )
    plain.train(), grouped.train()
    assert all(torch.equal(weight, weights_of(grouped)[name]) for name, weight in weights_of(plain).items())


def test_aggressive_training_finds_the_tables_of_both_parts(make_trainer, tmp_path):
    both = ("training.scheme=aggressive", "training.table_options={lr: 2}")
    trainer = make_trainer(tmp_path, *both)
    sizes = [[len(group["params"]) for group in optimizer.param_groups] for optimizer in trainer.optimizers]
    assert [groups[1] for groups in sizes] == [1, 2] and all(groups[0] for groups in sizes)


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_what_was_good(
    make_trainer, tmp_path, monkeypatch, files_of, weights_of
):
    diverging = make_trainer(tmp_path / "run")
    objective, before = diverging.objective.output, {}

    def bad_in_the_second_epoch(model, batch, kl_weight):
        output = objective(model, batch, kl_weight)
        if (diverging.progress.epoch, diverging.progress.batch) == (1, 4):
            before.update(files_of(tmp_path / "run"), weights=weights_of(diverging))
            output.loss = output.loss * math.nan
        return output

    monkeypatch.setattr(diverging.objective, "output", bad_in_the_second_epoch)
    numbers = ", ".join(map(str, diverging.batches.epoch(1)[4]))
    best = tmp_path / "run" / "best"
    with pytest.raises(
        TrainingDiverged, match=rf"epoch 2: .*\(training sentences {numbers}\), in batch 5; .*kept in {best}"
    ):
        diverging.train()
    weights = before.pop("weights")
    assert files_of(tmp_path / "run") == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in weights_of(diverging).items())
    SeqVAEForTextModeling.from_pretrained(best)
    make_trainer(tmp_path / "run").train(resume=True)


def test_a_bound_that_is_not_a_number_stops_the_run_before_it_is_written(make_trainer, tmp_path, monkeypatch, files_of):
    scripted(monkeypatch, [10.0, math.nan])
    diverging = make_trainer(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match="epoch 2: the bound on the validation set"):
        diverging.train()
    assert [record["bound"] for record in diverging.history] == [10.0]
    scripted(monkeypatch, [math.inf])
    with pytest.raises(TrainingDiverged, match="there is no checkpoint yet"):
        make_trainer(tmp_path / "other").train()
    assert set(files_of(tmp_path / "other")) == {".lock", "recipe.yaml"}


def test_a_directory_that_holds_a_run_is_refused_and_untouched(finished, make_trainer, files_of):
    before = files_of(finished.output_dir)
    with pytest.raises(ValueError, match=f"{finished.output_dir} holds a run: continue it with --resume"):
        make_trainer(finished.output_dir).train()
    with pytest.raises(ValueError, match=r"another recipe: training.seed is 0 there and 1 here"):
        make_trainer(finished.output_dir, "training.seed=1").train(resume=True)
    assert files_of(finished.output_dir) == before


def test_resuming_a_finished_run_changes_nothing(finished, make_trainer, files_of, weights_of):
    before = files_of(finished.output_dir)
    again = make_trainer(finished.output_dir)
    assert again.train(resume=True) == finished.history
    assert files_of(finished.output_dir) == before
    weights = weights_of(finished)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in weights_of(again).items())


def test_resuming_where_there_is_nothing_begins(make_trainer, tmp_path, finished, without_times):
    assert without_times(make_trainer(tmp_path / "run").train(resume=True)) == without_times(finished.history)


def test_an_output_directory_that_is_a_file_is_named(make_trainer, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=str(tmp_path / "file")):
        make_trainer(tmp_path / "file").train()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_halving_goes_back_to_the_best_weights_and_the_last_ends_the_run(
    make_trainer, tmp_path, monkeypatch, weights_of
):
    scripted(monkeypatch, [10, 9, 9.5, 9.6, 9.55, 9.7, 9.8])
    halving = make_trainer(tmp_path, "training.epochs=50", "training.max_halvings=2", "training.plateau_from=1")
    at_the_end_of = {}
    save = halving._save

    def note():
        at_the_end_of[halving.progress.epoch] = weights_of(halving)
        save()

    monkeypatch.setattr(halving, "_save", note)
    history = halving.train()
    # Halved after epoch 4 (9.6 is then the new start, which 9.55 improves on) and after epoch 7.
    assert [record["lr"] for record in history] == [0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert halving.progress.learning_rate == 0.125
    best = SeqVAEForTextModeling.from_pretrained(tmp_path / "best").state_dict()
    for epoch in range(1, 8):
        same = all(torch.equal(tensor, best[name]) for name, tensor in at_the_end_of[epoch].items())
        assert same == (epoch in (2, 4, 7))


def test_a_decay_halves_nothing_and_ends_with_the_epochs(make_trainer, tmp_path, monkeypatch):
    scripted(monkeypatch, [10, 11, 12, 13])
    decay = ["training.lr_schedule=linear", "training.warmup_epochs=1", "training.plateau_from=1"]
    trained = make_trainer(tmp_path, *decay, "training.epochs=4")
    rates, update = [], trained._set_learning_rate

    def noting():
        update()
        rates.append(trained.optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr(trained, "_set_learning_rate", noting)
    history = trained.train()
    middles = [(number + 0.5) / 8 for number in range(32)]  # of the updates, in epochs
    assert rates == pytest.approx([0.5 * min(epoch, 1 - max(0, epoch - 1) / 3) for epoch in middles])
    assert [record["lr"] for record in history] == rates[7::8]


def test_the_epochs_end_a_run_that_never_plateaus(make_trainer, tmp_path, monkeypatch):
    scripted(monkeypatch, [10, 9, 8, 7])
    history = make_trainer(tmp_path, "training.epochs=4", "training.plateau_from=1").train()
    assert [record["lr"] for record in history] == [0.5] * 4


def test_the_kl_weight_of_an_update_is_the_schedules(make_trainer, tmp_path, monkeypatch):
    annealed = make_trainer(tmp_path)
    used, objective = [], annealed.objective.output
    monkeypatch.setattr(
        annealed.objective,
        "output",
        lambda model, batch, weight: used.append(weight) or objective(model, batch, weight),
    )
    annealed.train()
    assert used == pytest.approx([min(1.0, 0.1 + 0.9 * update / 16) for update in range(24)])


def test_bf16_is_used_in_every_update_and_costs_little(finished, make_trainer, tmp_path):
    """In every one: also after the best checkpoint was written, and after a resume."""
    arguments = {"accelerator": Accelerator(mixed_precision="bf16", cpu=True)}
    half = make_trainer(tmp_path, **arguments)
    kinds = []
    linear = half.accelerator.unwrap_model(half.model).model.encoder.posterior.linear
    linear.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    history = half.train()
    assert set(kinds) == {torch.bfloat16}
    assert history[-1]["bound"] == pytest.approx(finished.history[-1]["bound"], rel=0.01)
    assert history[-1]["bound"] != finished.history[-1]["bound"]
    assert {tensor.dtype for tensor in half.accelerator.unwrap_model(half.model).state_dict().values()} == {
        torch.float32
    }


def test_precision_of_the_recipe_chooses_bf16(make_trainer, tmp_path):
    assert make_trainer(tmp_path, "training.precision=bf16").accelerator.mixed_precision == "bf16"


def test_an_accelerator_that_accumulates_on_its_own_is_refused(make_trainer, tmp_path):
    with pytest.raises(ValueError, match=r"training\.accumulation_steps"):
        make_trainer(tmp_path, accelerator=Accelerator(gradient_accumulation_steps=4, cpu=True))


@pytest.mark.parametrize(("recipe", "has"), [("bf16", "no"), ("no", "bf16"), ("auto", "fp16")])
def test_a_precision_other_than_the_recipe_s_is_refused(make_trainer, tmp_path, monkeypatch, recipe, has):
    accelerator = Accelerator(cpu=True)
    monkeypatch.setitem(AcceleratorState._shared_state, "_mixed_precision", has)
    with pytest.raises(ValueError, match=rf"asks for {has}, where training\.precision is {recipe}: .*one of no, bf16"):
        make_trainer(tmp_path, f"training.precision={recipe}", accelerator=accelerator)


def test_sharded_weights_are_refused(make_trainer, tmp_path, monkeypatch):
    accelerator = Accelerator(cpu=True)
    monkeypatch.setitem(AcceleratorState._shared_state, "distributed_type", DistributedType.FSDP)
    with pytest.raises(ValueError, match="FSDP"):
        make_trainer(tmp_path, accelerator=accelerator)


def test_tensorboard_gets_every_evaluation(make_trainer, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = make_trainer(tmp_path, "training.trackers=[tensorboard]").train()
    events = accumulator.EventAccumulator(str(tmp_path / "seqvae"))
    events.Reload()
    for name in ("bound", "kl", "kl_weight", "lr", "words_per_second", "evaluate_seconds", "peak_memory_mb"):
        points = events.Scalars(name)
        assert [point.value for point in points] == pytest.approx([record[name] for record in history])
        assert [point.step for point in points] == [8, 16, 24]


def test_trackers_get_every_field_of_the_recipe_and_figures_between_evaluations(make_trainer, tmp_path, monkeypatch):
    overrides = ("training.trackers=[tensorboard]", "training.tracker_project=mine", "training.log_updates=3")
    pytest.importorskip("tensorboard")
    made = make_trainer(tmp_path, *overrides)
    told: dict[str, Any] = {}
    monkeypatch.setattr(made.accelerator, "init_trackers", lambda project, **rest: told.update(rest, project=project))
    logged: list[tuple[int, dict[str, float]]] = []
    monkeypatch.setattr(made.accelerator, "log", lambda figures, step: logged.append((step, figures)))
    history = made.train()
    assert told["project"] == "mine"
    assert told["config"]["training.learning_rate"] == made.spec.learning_rate
    assert told["config"]["model.pooling_mode"] == "max" and told["config"]["training.trackers"] == '["tensorboard"]'
    steps = [step for step, figures in logged if "train/kl" in figures]
    assert steps == list(range(3, history[-1]["decoder_updates"] + 1, 3))
    for _, figures in logged:
        if "train/kl" in figures:
            assert figures["train/bound"] == pytest.approx(figures["train/rec"] + figures["train/kl"])


def test_figures_between_evaluations_are_means_over_all_processes(make_trainer, tmp_path, monkeypatch):
    made, logged = make_trainer(tmp_path), {}
    monkeypatch.setattr(made.accelerator, "log", lambda figures, step: logged.update(figures))
    monkeypatch.setattr(made.accelerator, "reduce", lambda sums, how: sums + torch.tensor([60.0, 6.0]))  # another's 3
    made._log_update(1.0, Batch(np.arange(8), [Part(0, 5, {})]), torch.tensor([10.0, 1.0]))
    assert (logged["train/rec"], logged["train/kl"]) == (110 / 8, 11 / 8)


def test_a_run_for_weights_and_biases_is_called_like_its_directory(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "get_available_trackers", lambda: ["wandb"])
    options = "training.tracker_options={wandb: {group: many}}"
    made = make_trainer(tmp_path / "one", "training.trackers=[wandb]", options, accelerator=Accelerator(cpu=True))
    told: dict[str, Any] = {}
    monkeypatch.setattr(made.accelerator, "init_trackers", lambda project, **rest: told.update(rest))
    made._start_trackers()
    assert told["init_kwargs"] == {"wandb": {"name": "one", "group": "many"}}


def test_a_tracker_that_is_not_installed_is_refused(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "get_available_trackers", lambda: [])
    with pytest.raises(ValueError, match=r"training\.trackers: install wandb first"):
        make_trainer(tmp_path, "training.trackers=[wandb]")


def test_a_run_says_nothing_when_asked_to(make_recipe, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    run.train(make_recipe(), tmp_path / "run", progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_run_prints_its_corpus_and_a_line_an_epoch(make_recipe, tmp_path, capfd):
    done = run.train(make_recipe(), tmp_path / "run")
    out, err = capfd.readouterr()
    assert "tiny train: 57 documents" in err and "unknown words: train" in err
    lines = out.splitlines()
    header = next(number for number, line in enumerate(lines) if line.split()[:1] == ["epoch"])
    assert [line.split()[0] for line in lines[header + 1 : header + 4]] == ["1", "2", "3"]
    assert f"{done.history[0]['bound']:.2f}" in lines[header + 1].split()
    assert re.search(r"epoch 3/3.*24/24", err)
    assert len({len(line) for line in lines[header : header + 4]}) == 1


def test_the_bar_shows_weight_bound_kl_and_speed(make_trainer, tmp_path, capfd):
    make_trainer(tmp_path, progress=True).train()
    assert re.search(r"kl weight 1\.00, bound \d+\.\d, kl \d+\.\d\d, [\d,]+ words/s", capfd.readouterr().err)


def test_training_in_a_thread_needs_no_signals(make_trainer, tmp_path):
    from threading import Thread

    other = make_trainer(tmp_path)
    thread = Thread(target=other.train)
    thread.start()
    thread.join()
    assert len(other.history) == 3
