"""Runs the parts one after the other, each in a process with its own time limit; a part that fails stops no other.

Only the standard library is imported here: what the parts need may be in the pack.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .packing import ROOT, unpack

PARTS = ("correctness", "throughput", "training")
LIMITS: dict[str, float] = {"prepare": 150, "correctness": 120, "throughput": 120}
"""Seconds of each part; training has what the others leave."""
GRACE = 10.0
"""Seconds between asking a part to end and ending it."""
SETTINGS, REPORT = "settings.json", "run.json"


@dataclass(frozen=True)
class Settings:
    """What the parts are told; the defaults are the paper's model on a GPU."""

    device: str = "cuda"
    corpus: str = "arxiv"
    method: str = "unigram_pretraining"
    size: str = "paper"  # the preset whose model it is
    preset: str = "auto"  # the preset whose training it is
    batch_size: int = 256
    overrides: list[str] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    sentences: list[int] = field(default_factory=lambda: [32, 128, 512, 1024])  # batch sizes of the throughput
    nll_sentences: int = 1000
    nll_samples: int = 500
    data_dir: str = ""
    work_dir: str = ""

    @classmethod
    def read(cls, path: Path) -> "Settings":
        return cls(**json.loads(path.read_text("utf-8")))


@dataclass
class Ended:
    """How a part ended."""

    part: str
    outcome: str  # "done", "failed" or "out of time"
    seconds: float
    exit_code: int | None = None


class Part:
    """A part at work in a process of its own, whose output goes to a file."""

    def __init__(self, name: str, seconds: float, output_dir: Path, work_dir: Path, device: str):
        self.name, self.seconds = name, seconds
        self.started = time.monotonic()
        self.log = (output_dir / f"{name}.log").open("w", encoding="utf-8")
        # The end, not the seconds up to it: the part begins to count when its libraries are there.
        command = [sys.executable, "-m", "benchmarks.gpu", "part", name, str(output_dir), f"{self.started + seconds}"]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(work_dir, device),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ended(self) -> Ended:
        """Wait for the end, or bring it about when the time is over."""
        try:
            code = self.process.wait(max(0.0, self.started + self.seconds - time.monotonic()))
            outcome = "failed" if code else "done"
        except subprocess.TimeoutExpired:
            code, outcome = self._stop(), "out of time"
        self.log.close()
        return Ended(self.name, outcome, round(time.monotonic() - self.started, 1), code)

    def _stop(self) -> int | None:
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            os.killpg(self.process.pid, number)
            try:
                return self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        return None


def environment(work_dir: Path, device: str) -> dict[str, str]:
    """Of a part: the checkout's code, no network, caches in the working folder."""
    told = {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks"))),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(work_dir / "cache"),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # or deterministic products are refused
        "TOKENIZERS_PARALLELISM": "true",
    }
    return {**os.environ, **told} | ({"ACCELERATE_USE_CPU": "true"} if device == "cpu" else {})


def run(
    settings: Settings, parts: Sequence[str], pack: Path | None, output_dir: Path, work_dir: Path, seconds: float
) -> list[Ended]:
    """Run `parts` in order within so many seconds; what each leaves is in `output_dir` before the next begins.

    The corpus is read beside the first part, before the second begins. Raises FileNotFoundError without a pack.
    """
    over = time.monotonic() + seconds
    output_dir.mkdir(parents=True, exist_ok=True)
    work_dir.mkdir(parents=True, exist_ok=True)
    packages, data_dir = work_dir / "packages", Path(settings.data_dir or work_dir / "data")
    if pack:
        unpack(pack, packages, data_dir)
    told = asdict(settings) | {"data_dir": str(data_dir), "work_dir": str(work_dir)}
    _write(output_dir / SETTINGS, told)
    report: list[Ended] = []
    preparing = _start("prepare", over, output_dir, work_dir, settings) if "training" in parts[1:] else None
    for place, name in enumerate(parts):
        if preparing and place:
            report.append(preparing.ended())
            preparing = None
        left = over - time.monotonic()
        if left < 2 * GRACE and name == "training":
            report.append(Ended(name, "out of time", 0.0))
        else:
            report.append(_start(name, over, output_dir, work_dir, settings).ended())
        _write(output_dir / REPORT, {"seconds": seconds, "parts": [asdict(ended) for ended in report]})
        print(_line(report[-1], output_dir), flush=True)
    return report


def _start(name: str, over: float, output_dir: Path, work_dir: Path, settings: Settings) -> Part:
    left = max(1.0, over - time.monotonic() - GRACE)
    return Part(name, min(LIMITS.get(name, left), left), output_dir, work_dir, settings.device)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _line(ended: Ended, output_dir: Path) -> str:
    """How a part ended, and of one that failed the last lines that it printed."""
    told, log = f"{ended.part}: {ended.outcome} after {ended.seconds:.0f} s", output_dir / f"{ended.part}.log"
    if ended.outcome != "failed" or not log.is_file():
        return told
    return "\n".join([told, *(f"    {line}" for line in log.read_text("utf-8", "replace").splitlines()[-12:])])
