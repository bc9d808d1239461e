"""A run that was interrupted anywhere and resumed is the run that was not."""

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from safetensors.torch import load_file

from modeling_seqvae.checksums import write_checksums
from modeling_seqvae.data.files import exclusive_lock
from modeling_seqvae.sharing import add_code
from modeling_seqvae.training import trainer as trainer_module
from modeling_seqvae.training.checkpoint import load_best
from modeling_seqvae.training.recipe import Recipe
from modeling_seqvae.training.run_directory import fingerprint
from modeling_seqvae.training.trainer import Interrupted, SeqVAETrainer


@pytest.fixture(scope="module")
def halving(make_trainer, tmp_path_factory):
    """With Adam, whose state matters, in two groups, and a plateau at once: rates and best weights must survive too."""
    trainer = make_trainer(tmp_path_factory.mktemp("halving") / "run", *HALVING)
    trainer.train()
    return trainer


HALVING = [
    "training.optimizer=adam", "training.learning_rate=0.3", "training.epochs=8", "training.plateau_from=1",
    "training.plateau_patience=1", "training.max_halvings=4", "training.table_options={lr: 0.5, eps: 1e-3}",
]  # fmt: skip


def interrupt_at(trainer, updates, number=signal.SIGTERM):
    """Send a signal while the trainer is at its `updates`-th update from here; it must end as Interrupted."""
    objective = trainer.objective.output
    count = 0

    def signalling(*arguments):
        nonlocal count
        count += 1
        if count == updates:
            os.kill(os.getpid(), number)
        return objective(*arguments)

    trainer.objective.output = signalling
    with pytest.raises(Interrupted) as ending:
        trainer.train(resume=True)
    assert ending.value.code == 128 + number


def test_interrupted_at_every_kind_of_update(make_trainer, tmp_path, halving, assert_same_run):
    """The first, one amid an epoch, an epoch's last, the next epoch's first, and the very last of the run."""
    assert len({record["lr"] for record in halving.history}) > 1
    total = halving.progress.updates
    done = 0
    for at in (1, 5, 8, 9, total):
        trainer = make_trainer(tmp_path / "run", *HALVING)
        interrupt_at(trainer, at - done, signal.SIGINT if at == 5 else signal.SIGTERM)
        assert trainer.progress.updates == at
        done = at
    trainer = make_trainer(tmp_path / "run", *HALVING)
    trainer.train(resume=True)
    assert_same_run(tmp_path / "run", halving.output_dir)


def test_signals_are_the_programs_own_again_afterwards(make_trainer, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupt_at(make_trainer(tmp_path / "run"), 3)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_does_not_wait(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path / "run")

    def impatient(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal did nothing")

    trainer.objective.output = impatient
    with pytest.raises(KeyboardInterrupt):
        trainer.train()


def test_the_random_states_of_a_checkpoint_do_not_matter(make_trainer, tmp_path, halving, assert_same_run):
    interrupt_at(make_trainer(tmp_path / "run", *HALVING), 13)
    (tmp_path / "run" / "last" / "random_states_0.pkl").unlink()
    write_checksums(tmp_path / "run" / "last")
    trainer = make_trainer(tmp_path / "run", *HALVING)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    trainer.train(resume=True)
    assert_same_run(tmp_path / "run", halving.output_dir)


def test_what_a_crash_left_of_a_save_confuses_nothing(make_trainer, tmp_path, halving, assert_same_run):
    run = tmp_path / "run"
    interrupt_at(make_trainer(run, *HALVING), 13)
    for leftover in (".state", ".last.new", ".best.new"):
        (run / leftover).mkdir()
        for name in ("model.safetensors", "optimizer.bin", "progress.json", "other.bin"):
            (run / leftover / name).write_bytes(b"half")
    (run / "last").rename(run / ".last.old")
    (run / "history.jsonl").unlink()
    trainer = make_trainer(run, *HALVING)
    trainer.train(resume=True)
    assert_same_run(run, halving.output_dir)
    assert not (run / "last" / "other.bin").exists()


def test_a_finished_run_that_lacks_its_history_gets_it_back(make_trainer, tmp_path):
    make_trainer(tmp_path, "training.epochs=1").train()
    content = (tmp_path / "history.jsonl").read_bytes()
    (tmp_path / "history.jsonl").unlink()
    make_trainer(tmp_path, "training.epochs=1").train(resume=True)
    assert (tmp_path / "history.jsonl").read_bytes() == content


def test_what_stands_beside_the_best_weights_stays_when_a_finished_run_is_continued(make_trainer, tmp_path):
    make_trainer(tmp_path, "training.epochs=1").train()
    (tmp_path / "best" / "README.md").write_text("a card by hand", "utf-8")
    (tmp_path / "best" / "notes.txt").write_text("mine", "utf-8")
    make_trainer(tmp_path, "training.epochs=1").train(resume=True)
    assert (tmp_path / "best" / "README.md").read_text("utf-8") == "a card by hand"
    assert (tmp_path / "best" / "notes.txt").is_file()


def test_a_best_that_was_changed_on_purpose_is_not_damaged(make_trainer, tmp_path):
    make_trainer(tmp_path, "training.epochs=1").train()
    add_code(tmp_path / "best")
    vae = load_best(str(tmp_path))
    vae.fit_aggregate(["the food was good"] * 200)
    vae.save_pretrained(tmp_path / "best")
    assert load_best(str(tmp_path)).aggregate is not None
    spoil(tmp_path / "best" / "aggregate.safetensors", "one bit")
    add_code(tmp_path / "best")
    with pytest.raises(ValueError, match=r"best is damaged .aggregate\.safetensors is not what was written"):
        load_best(str(tmp_path))


def spoil(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:  # one bit in the middle
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


LAST = ["progress.json", "optimizer.bin", "model.safetensors", "checksums.json"]


@pytest.mark.parametrize("name", [*(f"last/{name}" for name in LAST), "best/model.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "one bit"])
def test_a_damaged_state_is_named_and_left_as_it_is(make_trainer, tmp_path, files_of, name, damage):
    interrupt_at(make_trainer(tmp_path, "training.epochs=2"), 11)  # amid an epoch, when last/ has other weights
    spoil(tmp_path / name, damage)
    before = files_of(tmp_path)
    damaged, other = (tmp_path / part for part in (("best", "last") if name.startswith("best") else ("last", "best")))
    with pytest.raises(ValueError, match=f"{damaged} is damaged.*{other} is untouched"):
        make_trainer(tmp_path, "training.epochs=2").train(resume=True)
    assert files_of(tmp_path) == before


class Killed(BaseException):
    pass


@pytest.mark.parametrize("later", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", ["save_last", "save_best"])
def test_best_is_of_the_histories_best_epoch_though_epochs_are_remade_otherwise(
    make_trainer, tmp_path, weights_of, write, later
):
    """Killed before or after each write of the second epoch's end; then, as on a GPU, the epoch comes out otherwise."""

    def script(trainer, bounds):
        """Lets epochs have these bounds; returns what their weights were."""
        weights, evaluator, bounds = {}, trainer._evaluator, dict(bounds)

        def scripted(sentences):
            found = evaluator(sentences)
            measure, epoch = found.measure, trainer.progress.epoch + 1
            weights[epoch] = weights_of(trainer)
            found.measure = lambda: replace(
                measure(), reconstruction=torch.full((20,), bounds[epoch]), kl=torch.zeros(20)
            )
            return found

        trainer._evaluator = scripted
        return weights

    first = make_trainer(tmp_path, "training.epochs=3")
    weights = script(first, {1: 30.0, 2: 10.0})
    save = getattr(first.directory, write)

    def killed(*arguments):
        if first.progress.epoch < 2:
            return save(*arguments)
        if later:
            save(*arguments)
        raise Killed

    setattr(first.directory, write, killed)
    with pytest.raises(Killed):
        first.train()
    resumed = make_trainer(tmp_path, "training.epochs=3")
    weights |= script(resumed, {2: 40.0, 3: 50.0})
    resumed.train(resume=True)
    best = min(resumed.history, key=lambda record: record["bound"])
    found = load_file(tmp_path / "best" / "model.safetensors")
    assert best["epoch"] == (1 if (write, later) == ("save_last", False) else 2)
    assert all(torch.equal(found[name], weights[best["epoch"]][name]) for name in found)
    assert f"{best['bound']:.2f}" in (tmp_path / "best" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("method", ["max_pool", "ivae", "minimum_rate"])
def test_a_trainer_that_was_broken_off_amid_an_update_goes_on_as_if_it_was_not(
    make_trainer, tmp_path, monkeypatch, assert_same_run, method
):
    """As by a second Ctrl-C in a notebook, where the same trainer may go on."""
    make_trainer(tmp_path / "whole", "training.epochs=2", method=method).train()
    broken = make_trainer(tmp_path / "run", "training.epochs=2", method=method)
    optimizer = broken.optimizers[0] if method == "max_pool" else broken.objective.optimizer
    step = optimizer.step
    with monkeypatch.context() as patched:

        def interrupted():
            if broken.progress.updates == 11:
                raise KeyboardInterrupt
            step()

        patched.setattr(optimizer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            broken.train()
    broken.train(resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_rate_that_falls_by_the_clock_is_not_halved_in_a_run_made_longer(make_trainer, tmp_path, monkeypatch):
    """As the documents say: `epochs` is changed in recipe.yaml and in the command."""
    falling = ("training.lr_schedule=linear", "training.plateau_patience=1", "training.max_halvings=2")
    make_trainer(tmp_path, *falling, "training.epochs=2").train()
    path = tmp_path / "recipe.yaml"
    path.write_text(path.read_text("utf-8").replace("  epochs: 2\n", "  epochs: 6\n"), "utf-8")
    longer = make_trainer(tmp_path, *falling, "training.epochs=6")
    monkeypatch.setattr(trainer_module, "summarise", lambda *_: longer.history[-1])  # no epoch is better
    longer.train(resume=True)
    expected = [0.5 * (1 - (8 * epoch - 0.5) / 48) for epoch in range(3, 7)]
    assert [record["lr"] for record in longer.history[2:]] == pytest.approx(expected)


@pytest.mark.parametrize("damage", ["truncated", "missing", "one bit"])
def test_a_damaged_best_is_made_again_where_last_has_its_weights(make_trainer, tmp_path, files_of, damage):
    make_trainer(tmp_path, "training.epochs=1").train()
    before = files_of(tmp_path / "best")
    spoil(tmp_path / "best" / "model.safetensors", damage)
    make_trainer(tmp_path, "training.epochs=1").train(resume=True)
    assert files_of(tmp_path / "best") == before


@pytest.mark.parametrize("damage", ["truncated", "missing", "one bit"])
def test_best_weights_that_were_damaged_during_a_run_are_not_gone_back_to(make_trainer, tmp_path, files_of, damage):
    trainer, before = make_trainer(tmp_path, *HALVING), {}
    load_best = trainer.directory.load_best

    def spoilt(*arguments):
        spoil(tmp_path / "best" / "model.safetensors", damage)
        before.update(files_of(tmp_path))
        load_best(*arguments)

    trainer.directory.load_best = spoilt
    with pytest.raises(
        ValueError, match=rf"{tmp_path / 'best'} is damaged.*model\.safetensors.*{tmp_path / 'last'} is"
    ):
        trainer.train()
    assert files_of(tmp_path) == before


def test_training_state_is_loaded_as_weights_only(make_trainer, tmp_path, monkeypatch):
    make_trainer(tmp_path / "run", "training.epochs=1").train()
    loads, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: loads.append(kwargs) or load(*args, **kwargs))
    make_trainer(tmp_path / "run", "training.epochs=1").train(resume=True)
    assert len(loads) >= 2  # optimiser and random states; the weights are safetensors
    assert all(arguments["weights_only"] is True for arguments in loads)


def test_a_disk_that_fills_up_while_saving_keeps_the_former_state(make_trainer, tmp_path, files_of):
    """For real, in a process that may not write files beyond 1,000 bytes."""
    run = tmp_path / "run"
    make_trainer(run, "training.epochs=1").train()
    before = {name: content for name, content in files_of(run).items() if name.startswith(("best/", "last/"))}
    trainer = make_trainer(run, "training.epochs=1")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
        directory, model = trainer.directory, trainer.accelerator.unwrap_model(trainer.model)
        for save in (trainer._save, lambda: directory.save_best(model, RECORD, trainer.objective.save)):
            try:
                save()
            except OSError as error:
                os.write(writer, f"{error}\n".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        messages = pipe.read().splitlines()
    assert [f"could not write {run / name}" in line for name, line in zip(("last", "best"), messages, strict=True)] == [
        True,
        True,
    ]
    after = files_of(run)
    assert {name: content for name, content in after.items() if name in before} == before


RECORD = {
    "epoch": 1, "encoder_updates": 1, "decoder_updates": 1, "seconds": 1.0, "kl_weight": 1.0, "bound": 1.0, "rec": 1.0,
    "kl": 0.0, "mi": 0.0, "au": 0, "cosine": 0.0, "lr": 1.0, "words_per_second": 1,
}  # fmt: skip


def test_saves_amid_an_epoch_come_after_the_minutes_asked_for(make_trainer, tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path / "run", "training.save_minutes=0.000001", "training.epochs=1")
    places, save = [], trainer._save
    monkeypatch.setattr(trainer, "_save", lambda: places.append(trainer.progress.batch) or save())
    trainer.train()
    assert places == [1, 2, 3, 4, 5, 6, 7, 8, 0]


def test_a_run_is_not_continued_on_other_texts(make_trainer, tmp_path, files_of):
    """Two sentences that changed places, in either split: the same words, the same lengths."""
    begun = make_trainer(tmp_path, "training.epochs=1")
    begun.train()
    before = files_of(tmp_path)
    for changed in range(2):
        splits = [begun.train_set, begun.validation_set]
        splits[changed] = splits[changed].select([1, 0, *range(2, len(splits[changed]))])
        fresh = make_trainer(tmp_path, "training.epochs=1")
        other = SeqVAETrainer(
            fresh.accelerator.unwrap_model(fresh.model),
            fresh.tokenizer,
            fresh.recipe,
            *splits,
            tmp_path,
            progress=False,
        )
        with pytest.raises(ValueError, match="on other texts: it began with tiny"):
            other.train(resume=True)
    assert files_of(tmp_path) == before


def test_a_fingerprint_is_of_the_tokens_and_nothing_else(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path)
    tokenizer, split = trainer.tokenizer, trainer.train_set
    expected = fingerprint(tokenizer, split)
    copied = Dataset.from_dict({"input_ids": split["input_ids"][:], "index": split["index"][:]})
    assert fingerprint(tokenizer, copied) == expected
    assert fingerprint(tokenizer, copied.select(range(56, -1, -1)).select(range(56, -1, -1))) == expected
    tokenizer(["padded", "to some length"], padding=True)
    assert fingerprint(tokenizer, split) == expected
    ids = split["input_ids"][:]
    moved = [[*ids[0], ids[1][0]], ids[1][1:], *ids[2:]]  # the same tokens in a row, another end of a sentence
    assert fingerprint(tokenizer, Dataset.from_dict({"input_ids": moved})) != expected
    assert fingerprint(tokenizer, split, split) != expected


def test_a_run_may_split_its_batches_otherwise_if_the_shards_stay(make_trainer, tmp_path):
    """`--resume` asks for the number of shards, and says how to come by it."""
    make_trainer(tmp_path, "training.epochs=1", "training.accumulation_steps=6").train()
    assert Recipe.load(tmp_path / "recipe.yaml").training.accumulation_steps == 6
    told = r"deals each batch to 6 shards, .* 1 process with training\.accumulation_steps={} would deal it to {}: {}"
    for steps, ways in {
        4: r"--set training\.accumulation_steps=6$",
        3: r"launch 2 processes, or --set training\.accumulation_steps=6$",
        1: r"launch 6 processes, or --set training\.accumulation_steps=6$",
    }.items():
        with pytest.raises(ValueError, match=told.format(steps, steps, ways)):
            make_trainer(tmp_path, "training.epochs=1", f"training.accumulation_steps={steps}").train(resume=True)


def test_a_run_goes_on_in_the_precision_that_its_launcher_asked_for(make_trainer, tmp_path, monkeypatch):
    """`training.precision: auto` leaves it to the launcher, and half a run in bf16 is no run of either."""
    make_trainer(tmp_path, "training.epochs=1").train()
    with monkeypatch.context() as launch:
        launch.setitem(AcceleratorState._shared_state, "_mixed_precision", "bf16")
        with pytest.raises(ValueError, match=r"mixed precision no, and this launch has bf16: .*--mixed_precision no$"):
            make_trainer(tmp_path, "training.epochs=1").train(resume=True)
    make_trainer(tmp_path, "training.epochs=1").train(resume=True)


def test_a_run_without_a_state_yet_may_begin_with_other_shards(make_trainer, tmp_path):
    make_trainer(tmp_path).directory.open(resume=False, show=False)
    make_trainer(tmp_path, "training.epochs=3", "training.accumulation_steps=2").train(resume=True)
    assert Recipe.load(tmp_path / "recipe.yaml").training.accumulation_steps == 2


def test_a_folder_with_somebody_else_s_best_is_left_alone(make_trainer, tmp_path):
    (tmp_path / "best").mkdir()
    with pytest.raises(ValueError, match=r"no recipe\.yaml"):
        make_trainer(tmp_path, "training.epochs=1").train(resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_folder_in_which_another_process_trains_is_left_to_it(make_trainer, tmp_path, files_of):
    run = tmp_path / "run"
    interrupt_at(make_trainer(run, *HALVING), 13)
    before = files_of(run)
    with (
        exclusive_lock(run, f"training in {run}"),
        pytest.raises(RuntimeError, match=r"another process is training in .*run: wait for it"),
    ):
        make_trainer(run, *HALVING).train(resume=True)
    assert files_of(run) == before


def test_what_times_out_inside_a_lock_is_no_other_process(tmp_path):
    with pytest.raises(TimeoutError, match="the server"), exclusive_lock(tmp_path, "training"):
        raise TimeoutError("the server does not answer")
