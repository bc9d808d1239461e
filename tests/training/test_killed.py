"""Killed at any moment, however often, and resumed until it is done, a run is the one that was never interrupted."""

import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Saved after every update, by the clock; it improves for some epochs and then goes back to its best ones.
OFTEN = [
    "training.epochs=14", "training.optimizer=adam", "training.learning_rate=0.03", "training.anneal_epochs=0",
    "training.plateau_from=6", "training.plateau_patience=1", "training.max_halvings=9",
    "training.save_minutes=0.0000001",
]  # fmt: skip
# So long that a signal from outside finds it at work: 4 epochs of 57 updates.
LONG = ["training.epochs=4", "training.batch_size=1", "training.anneal_epochs=3"]
PLACES = ("opening", "update", "saving last", "evaluation", "saving best", "going back")


@pytest.fixture(scope="module")
def uninterrupted(make_trainer, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    history = make_trainer(run, *OFTEN).train()
    assert len({record["lr"] for record in history}) > 2, "too few halvings"
    return run


@pytest.fixture(scope="module")
def long_run(make_trainer, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("long") / "run"
    make_trainer(run, *LONG).train()
    return run


class Visits:
    """How often a child process has come to each place, as its parent sees it."""

    def __init__(self) -> None:
        self.counts = mmap.mmap(-1, len(PLACES))

    def __getitem__(self, place: str) -> int:
        return self.counts[PLACES.index(place)]

    def note(self, place: str) -> None:
        self.counts[PLACES.index(place)] += 1

    def noting(self, place: str, action: Callable) -> Callable:
        def noted(*arguments: Any) -> Any:
            self.note(place)
            return action(*arguments)

        return noted


def fork(action: Callable[[], Any]) -> int:
    """The number of a child that does this, fast: nothing has to be imported again."""
    child = os.fork()
    if child:
        return child
    try:
        action()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def test_killed_at_random_moments_again_and_again(make_trainer, tmp_path, uninterrupted, assert_same_run):
    """Three times at each place or a little after it, which of its visits to it, and how long after, being chance."""
    run, dice = tmp_path / "run", random.SystemRandom()

    def resume(visits: Visits) -> None:
        visits.note("opening")
        trainer = make_trainer(run, *OFTEN)
        trainer.objective.output = visits.noting("update", trainer.objective.output)
        trainer._end_epoch = visits.noting("evaluation", trainer._end_epoch)
        for place, name in (("saving last", "save_last"), ("saving best", "save_best"), ("going back", "load_best")):
            setattr(trainer.directory, name, visits.noting(place, getattr(trainer.directory, name)))
        trainer.train(resume=True)

    early = [place for place in PLACES[:-1] for _ in range(3)]
    dice.shuffle(early)
    killed = dict.fromkeys(PLACES, 0)
    for place in [*early, *["going back"] * 3]:
        visits, times = Visits(), dice.randint(1, 3) if place in ("update", "saving last") else 1
        child = fork(lambda visits=visits: resume(visits))
        deadline = time.monotonic() + 60
        while visits[place] < times and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            assert time.monotonic() < deadline, place
            time.sleep(0.0005)
        time.sleep(dice.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), "the run failed by itself"
        killed[place] += status == -signal.SIGKILL
    make_trainer(run, *OFTEN).train(resume=True)
    assert sum(killed.values()) >= 15 and min(killed.values()) >= 1, killed
    assert_same_run(run, uninterrupted)


def killed_at(step: int, run: Path, action: Callable[[], None]) -> bool:
    """Whether a process that runs `action` died at its `step`-th operation on the run's files, unable to tidy up."""

    def dying() -> None:
        steps, fsync = 0, os.fsync

        def count(event: str, arguments: tuple) -> None:
            nonlocal steps
            steps += event == "fsync" or (event.startswith(("os.", "shutil.", "open")) and str(run) in str(arguments))
            if steps == step:
                steps += 1  # being killed is an event as well
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = lambda descriptor: count("fsync", ()) or fsync(descriptor)
        sys.addaudithook(count)
        action()

    status = os.waitstatus_to_exitcode(os.waitpid(fork(dying), 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


class Enough(Exception):
    pass


def test_killed_at_each_operation_on_files_at_the_end_of_an_epoch(make_trainer, tmp_path, assert_same_run):
    """Then best/ is written, last/ and the history. What is found afterwards is the state before or the one after."""
    whole, run, backup = (tmp_path / name for name in ("whole", "run", "backup"))
    make_trainer(whole).train()
    trainer, resumed = (make_trainer(run) for _ in range(2))
    end_epoch = trainer._end_epoch

    def stop_in_the_second() -> None:
        if trainer.progress.epoch == 1:
            raise Enough
        end_epoch()

    trainer._end_epoch = stop_in_the_second
    with pytest.raises(Enough):
        trainer.train()
    shutil.copytree(run, backup)
    found = []
    for step in range(1, 300):
        shutil.rmtree(run)
        shutil.copytree(backup, run)
        if not killed_at(step, run, end_epoch):
            break
        assert resumed.directory.open(resume=True, show=False)
        resumed._continue()
        found.append((resumed.progress.epoch, resumed.progress.batch))
        lines = [json.loads(line)["epoch"] for line in (run / "history.jsonl").open()]
        assert lines == list(range(1, resumed.progress.epoch + 1))
        if step % 15 == 0:
            resumed.train(resume=True)
            assert_same_run(run, whole)
    else:
        pytest.fail("never reached the end")
    assert found[0] == (1, 0) and found[-1] == (2, 0) and set(found) == {(1, 0), (2, 0)}
    assert found == sorted(found) and len(found) > 40


def start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen, path: Path) -> None:
    for _ in range(6_000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pytest.fail("nothing happened within a minute")


def test_the_command_killed_while_it_runs_resumes_exactly(
    make_trainer, command, environment, tmp_path, uninterrupted, assert_same_run
):
    run = tmp_path / "run"
    process = start(command(run, *OFTEN), environment)
    wait_for(process, run / "last")
    time.sleep(random.SystemRandom().uniform(0, 0.3))
    process.kill()
    process.communicate()
    make_trainer(run, *OFTEN).train(resume=True)
    assert_same_run(run, uninterrupted)


def test_the_command_ended_by_sigterm_saves_says_how_to_go_on_and_resumes_exactly(
    make_trainer, command, environment, tmp_path, long_run, assert_same_run
):
    run = tmp_path / "run"
    process = start(command(run, *LONG), environment)
    wait_for(process, run / "last" / "progress.json")
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM: the run is saved; continue it with --resume" in out
    make_trainer(run, *LONG).train(resume=True)
    assert_same_run(run, long_run)
