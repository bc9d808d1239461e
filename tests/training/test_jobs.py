import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modeling_seqvae.training import jobs
from modeling_seqvae.training.jobs import train_side_by_side
from modeling_seqvae.training.signals import Interrupted

# Stands for `seqvae train --output-dir DIR --resume BEHAVIOUR ...`: notes that it began, then does what it is told.
TRAINING = """
import os, signal, sys, time
from pathlib import Path

folder, behaviour, others = Path(sys.argv[2]), sys.argv[4], sys.argv[5:]
signal.signal(signal.SIGTERM, lambda *_: ((folder / "saved").touch(), sys.exit(143)))
(folder / "begun").write_text(" ".join(sys.argv[1:]) + " " + os.environ["OMP_NUM_THREADS"])
for other in others:
    while not Path(other, "begun").exists():
        time.sleep(0.01)
print("loading")
if behaviour == "fail":
    sys.exit("seqvae: the corpus is empty")
if behaviour == "wait":
    time.sleep(60)
for epoch in range(3):
    with (folder / "history.jsonl").open("a") as history:
        history.write("{}\\n")
"""


@pytest.fixture(autouse=True)
def _training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "training.py").write_text(TRAINING)
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, str(tmp_path / "training.py")))
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.02)


def start(behaviours: dict[Path, list[str]]) -> None:
    train_side_by_side({folder: (folder.name, 3) for folder in behaviours}, behaviours)


def wait_for(*files: Path) -> None:
    deadline = time.monotonic() + 20
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"{files} did not appear"
        time.sleep(0.01)


def signal_when(number: int, *files: Path) -> Callable[[], None]:
    """A thread that sends this process a signal once the files are there; call the result to join it."""

    def send() -> None:
        wait_for(*files)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread.join


def test_runs_are_trained_at_the_same_time_each_with_one_thread(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    start({first: ["train", str(second)], second: ["train", str(first)]})  # each waits for the other to begin
    for folder, other in ((first, second), (second, first)):
        assert (folder / "begun").read_text() == f"--output-dir {folder} --resume train {other} 1"
        assert (folder / "history.jsonl").read_bytes().count(b"\n") == 3
        assert (folder / jobs.LOG).read_text() == "loading\n"


def test_bars_move_by_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start({tmp_path / "only": ["train"]})
    printed = capsys.readouterr()
    assert printed.out == "" and "only" in printed.err and "3/3" in printed.err


def test_a_failed_run_is_reported_with_its_last_words_and_the_others_end(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    with pytest.raises(RuntimeError, match=r"bad failed in .*bad:\nloading\nseqvae: the corpus is empty"):
        start({bad: ["fail"], good: ["train", str(bad)]})
    assert (good / "history.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_them_and_each_may_save(tmp_path: Path, number: int) -> None:
    runs = {tmp_path / "first": ["wait"], tmp_path / "second": ["wait"]}
    join = signal_when(number, *(folder / "begun" for folder in runs))
    with pytest.raises(Interrupted) as raised:
        start(runs)
    join()
    assert raised.value.code == 128 + number
    assert all((folder / "saved").exists() for folder in runs)


def test_no_run_is_left_behind_when_another_cannot_start(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    second.write_text("a file where the folder should be")
    with pytest.raises(FileExistsError):
        start({first: ["train"], second: ["train"]})
    time.sleep(0.2)
    assert not (first / "history.jsonl").exists()
