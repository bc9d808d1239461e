"""Several runs at once, each a `seqvae train` process with one thread: small models fill a CPU better side by side."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .signals import Interrupted, NotedSignals

COMMAND = (sys.executable, "-m", "modeling_seqvae", "train")
POLL_SECONDS = 0.3
LOG = "train.log"


@dataclass
class Job:
    """A run that another process trains: its title, directory and epochs, and how far its bar has come."""

    title: str
    output_dir: Path
    process: subprocess.Popen
    bar: tqdm

    def advance(self) -> None:
        """Move the bar to the last epoch written."""
        history = self.output_dir / "history.jsonl"
        if history.exists():
            self.bar.update(history.read_bytes().count(b"\n") - self.bar.n)

    def tail(self) -> str:
        """The last lines the process printed."""
        return "\n".join((self.output_dir / LOG).read_text("utf-8", errors="replace").splitlines()[-5:])


def train_side_by_side(runs: Mapping[Path, tuple[str, int]], arguments: Mapping[Path, Sequence[str]]) -> None:
    """Train into each directory, given its (title, epochs) and the arguments of `seqvae train`; all resume.

    Raises RuntimeError with the end of its log when a run fails; the others go on and are kept. On SIGTERM or Ctrl-C
    all of them save their state and end, and then this does, as Interrupted (a SystemExit).
    """
    jobs: list[Job] = []
    with NotedSignals() as signals:
        try:
            for position, (directory, (title, epochs)) in enumerate(runs.items()):
                jobs.append(_start(position, title, epochs, directory, arguments[directory]))
            while not signals.number and any(job.process.poll() is None for job in jobs):
                time.sleep(POLL_SECONDS)
                for job in jobs:
                    job.advance()
        finally:
            _stop(jobs)
    if signals.number:
        raise Interrupted(128 + signals.number)
    for job in jobs:
        if job.process.returncode != 0:
            raise RuntimeError(f"{job.title} failed in {job.output_dir}:\n{job.tail()}")


def _stop(jobs: Sequence[Job]) -> None:
    """Ask those that still run to save and end, wait for them all, and take the bars down."""
    for job in jobs:
        job.process.terminate()
    for job in jobs:
        job.process.wait()
        job.bar.close()


def _start(position: int, title: str, epochs: int, directory: Path, arguments: Sequence[str]) -> Job:
    directory.mkdir(parents=True, exist_ok=True)
    command = [*COMMAND, "--output-dir", str(directory), "--resume", *arguments]
    with (directory / LOG).open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    bar = tqdm(total=epochs, desc=f"{title:<18}", unit="epoch", position=position, leave=True)
    return Job(title, directory, process, bar)
