"""A run that was interrupted anywhere and resumed is the run that was not."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_seqvae.training.trainer import Interrupted

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("seconds", "words_per_second")
# So long that a signal from outside finds it at work: 4 epochs of 57 updates.
LONG = ["training.epochs=4", "training.batch_size=1", "training.anneal_epochs=3"]


def without_times(history):
    return [{name: value for name, value in record.items() if name not in TIMES} for record in history]


def history_of(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "history.jsonl").open()]


def assert_same(trainer, reference, weights_of):
    assert without_times(trainer.history) == without_times(reference.history)
    assert without_times(history_of(trainer.output_dir)) == without_times(reference.history)
    expected = weights_of(reference)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights_of(trainer).items())
    best = "best/model.safetensors"
    assert (trainer.output_dir / best).read_bytes() == (reference.output_dir / best).read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(make_trainer, tmp_path_factory):
    trainer = make_trainer(tmp_path_factory.mktemp("uninterrupted") / "run", *LONG)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def halving(make_trainer, tmp_path_factory):
    """With Adam, whose state matters, and a plateau at once: rate and best weights must survive too."""
    trainer = make_trainer(tmp_path_factory.mktemp("halving") / "run", *HALVING)
    trainer.train()
    return trainer


HALVING = [
    "training.optimizer=adam", "training.learning_rate=0.3", "training.epochs=8", "training.plateau_from=1",
    "training.plateau_patience=1", "training.max_halvings=4",
]  # fmt: skip


def interrupt_at(trainer, updates, number=signal.SIGTERM):
    """Send a signal while the trainer is at its `updates`-th update from here; it must end as Interrupted."""
    objective = trainer.objective
    count = 0

    def signalling(*arguments):
        nonlocal count
        count += 1
        if count == updates:
            os.kill(os.getpid(), number)
        return objective(*arguments)

    trainer.objective = signalling
    with pytest.raises(Interrupted) as ending:
        trainer.train(resume=True)
    assert ending.value.code == 128 + number


def test_interrupted_at_every_kind_of_update(make_trainer, tmp_path, halving, weights_of):
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
    assert_same(trainer, halving, weights_of)


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

    trainer.objective = impatient
    with pytest.raises(KeyboardInterrupt):
        trainer.train()


def test_the_random_states_of_a_checkpoint_do_not_matter(make_trainer, tmp_path, halving, weights_of):
    interrupt_at(make_trainer(tmp_path / "run", *HALVING), 13)
    (tmp_path / "run" / "last" / "random_states_0.pkl").unlink()
    trainer = make_trainer(tmp_path / "run", *HALVING)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    trainer.train(resume=True)
    assert_same(trainer, halving, weights_of)


def test_what_a_crash_left_of_a_save_confuses_nothing(make_trainer, tmp_path, halving, weights_of):
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
    assert_same(trainer, halving, weights_of)
    assert sorted(path.name for path in run.iterdir()) == ["best", "history.jsonl", "last", "recipe.yaml"]
    assert not (run / "last" / "other.bin").exists()


def test_a_finished_run_that_lacks_its_history_gets_it_back(make_trainer, tmp_path):
    history = make_trainer(tmp_path / "run", "training.epochs=1").train()
    (tmp_path / "run" / "history.jsonl").unlink()
    make_trainer(tmp_path / "run", "training.epochs=1").train(resume=True)
    assert history_of(tmp_path / "run") == history


@pytest.mark.parametrize("name", ["progress.json", "optimizer.bin", "model.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_state_is_named_and_left_as_it_is(make_trainer, tmp_path, files_of, name, damage):
    run = tmp_path / "run"
    make_trainer(run, "training.epochs=1").train()
    path = run / "last" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    before = files_of(run)
    with pytest.raises(ValueError, match=f"{run / 'last'} is damaged.*{run / 'best'} is the best model"):
        make_trainer(run, "training.epochs=1").train(resume=True)
    assert files_of(run) == before


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
        for save in (trainer._save_last, lambda: (trainer.history.append(RECORD), trainer._save_best())):
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


def command(tiny: Path, run: Path, *overrides: str, method: str = "max_pool") -> list[str]:
    """The command line of a run, without the program."""
    options = ["--corpus", str(tiny / "corpus.yaml"), "--training", str(tiny / "preset.yaml"), "--method", method]
    changes = [argument for override in overrides for argument in ("--set", override)]
    return [str(ROOT / "examples" / "train.py"), *options, "--output-dir", str(run), *changes]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}


def start(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen, condition) -> None:
    for _ in range(6_000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pytest.fail("nothing happened within a minute")


def test_a_process_ended_by_sigterm_saves_says_how_to_go_on_and_resumes_exactly(
    make_trainer, tiny, tmp_path, uninterrupted, weights_of
):
    run = tmp_path / "run"
    process = start(command(tiny, run, *LONG))
    wait_for(process, (run / "last" / "progress.json").exists)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM: the run is saved; continue it with --resume" in out
    state = json.loads((run / "last" / "progress.json").read_text())
    assert state["batch"] > 0, "not amid an epoch"
    trainer = make_trainer(run, *LONG)
    trainer.train(resume=True)
    assert_same(trainer, uninterrupted, weights_of)


def test_a_process_killed_at_any_moment_resumes_exactly(make_trainer, tiny, tmp_path, uninterrupted, weights_of):
    """It saves after every few updates, so that the kill may come while it does."""
    run, often = tmp_path / "run", [*LONG, "training.save_minutes=0.0003"]
    process = start(command(tiny, run, *often))
    wait_for(process, (run / "last").exists)
    time.sleep(random.SystemRandom().uniform(0, 0.5))
    process.kill()
    process.communicate()
    trainer = make_trainer(run, *often)
    trainer.train(resume=True)
    assert_same(trainer, uninterrupted, weights_of)


def test_saves_amid_an_epoch_come_after_the_minutes_asked_for(make_trainer, tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path / "run", "training.save_minutes=0.000001", "training.epochs=1")
    places, save = [], trainer._save_last
    monkeypatch.setattr(trainer, "_save_last", lambda: places.append(trainer.progress.batch) or save())
    trainer.train()
    assert places == [1, 2, 3, 4, 5, 6, 7, 8, 0]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def test_two_processes_follow_the_trajectory_of_one(make_trainer, tiny, tmp_path, weights_of):
    """A language model without dropout, which has no noise; in an epoch's last batch one process has no sentence."""
    fixed = [
        "model.embedding_dropout=0", "model.output_dropout=0", "training.accumulation_steps=2", "training.epochs=5",
        "training.learning_rate=3", "training.plateau_from=1", "training.plateau_patience=1",
    ]  # fmt: skip
    run = tmp_path / "run"
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    process = subprocess.run(
        [sys.executable, *torchrun, *command(tiny, run, *fixed, method="lstm_lm")],
        env=environment() | {"GLOO_SOCKET_IFNAME": "lo"}, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    alone = make_trainer(tmp_path / "alone", *fixed, method="lstm_lm")
    alone.train()
    together = history_of(run)
    assert len(list((run / "last").glob("random_states_*.pkl"))) == 2, "there were not two processes"
    assert process.stdout.count("tiny train: 57 documents") == 1
    assert len(together) == len(alone.history) == 5
    assert len({record["lr"] for record in together}) > 1, "no halving"
    for record, expected in zip(together, alone.history, strict=True):
        assert (record["decoder_updates"], record["lr"]) == (expected["decoder_updates"], expected["lr"])
        assert record["bound"] == pytest.approx(expected["bound"], rel=1e-5)
    assert sorted(path.name for path in run.iterdir()) == ["best", "history.jsonl", "last", "recipe.yaml"]
    continued = make_trainer(run, *fixed, method="lstm_lm")
    continued.train(resume=True)
    expected = weights_of(alone)
    for name, tensor in weights_of(continued).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


def test_a_run_is_not_continued_on_other_texts(make_trainer, tmp_path):
    make_trainer(tmp_path, "training.epochs=1").train()
    other = make_trainer(tmp_path, "training.epochs=1")
    other.batches.lengths[0] += 1
    state = (tmp_path / "last" / "progress.json").read_bytes()
    with pytest.raises(ValueError, match="a run on other texts: the training corpus or its tokenizer has changed"):
        other.train(resume=True)
    assert (tmp_path / "last" / "progress.json").read_bytes() == state


def test_a_folder_with_somebody_else_s_best_is_left_alone(make_trainer, tmp_path):
    (tmp_path / "best").mkdir()
    with pytest.raises(ValueError, match=r"no recipe\.yaml"):
        make_trainer(tmp_path, "training.epochs=1").train(resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
