"""Several runs at once, each a `seqvae train` process with one thread: small models fill a CPU better side by side."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

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

    Raises RuntimeError with the end of its log when a run fails; the others go on and are kept. Ctrl-C reaches all of
    them, and each saves its state.
    """
    jobs = [
        _start(position, title, epochs, directory, arguments[directory])
        for position, (directory, (title, epochs)) in enumerate(runs.items())
    ]
    try:
        while any(job.process.poll() is None for job in jobs):
            for job in jobs:
                job.advance()
            time.sleep(POLL_SECONDS)
        for job in jobs:
            job.advance()
    except BaseException:
        for job in jobs:
            job.process.terminate()
            job.process.wait()
        raise
    finally:
        for job in jobs:
            job.bar.close()
    for job in jobs:
        if job.process.returncode != 0:
            raise RuntimeError(f"{job.title} failed in {job.output_dir}:\n{job.tail()}")


def _start(position: int, title: str, epochs: int, directory: Path, arguments: Sequence[str]) -> Job:
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "modeling_seqvae", "train", "--output-dir", str(directory), "--resume", *arguments]
    with (directory / LOG).open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    bar = tqdm(total=epochs, desc=f"{title:<18}", unit="epoch", position=position, leave=True)
    return Job(title, directory, process, bar)
