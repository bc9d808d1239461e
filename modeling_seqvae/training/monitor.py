"""What watches a run: its clock and memory, signals that ask it to stop, and a profiler of a few updates."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule
from tqdm import tqdm

from ..data.files import writing

PHASES = ("train", "evaluate", "save")


class PhaseClock:
    """Adds the time that passes to the phases of a run: every second belongs to the phase that ends with it."""

    def __init__(self, seconds: dict[str, float]):
        self.seconds = seconds
        self._since = time.monotonic()

    def start(self) -> None:
        """Begin to count; the time before belongs to no phase."""
        self._since = time.monotonic()

    def end(self, phase: str) -> float:
        """Add the seconds since the last phase ended to this one, and return them."""
        now = time.monotonic()
        passed, self._since = now - self._since, now
        self.seconds[phase] += passed
        return passed

    def take(self) -> dict[str, float]:
        """The seconds of each phase so far, which begin at none again."""
        taken = dict(self.seconds)
        self.seconds.update(dict.fromkeys(self.seconds, 0.0))
        return taken


def peak_megabytes(device: torch.device) -> float:
    """The most memory that this process has held so far, in MiB: on a GPU that of its tensors there; 0 if unknown.

    Linux's own high-water mark is preferred to `ru_maxrss`, which a program inherits from the one that started it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**10
    with suppress(ImportError):
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return 0.0


class Interrupted(SystemExit):
    """A signal asked the run to stop; the state was saved. The exit code is the shell's convention, 128 + signal."""


class NotedSignals:
    """Inside the block SIGTERM and Ctrl-C end nothing but are noted in `number`; a second Ctrl-C does not wait.

    Only a program's main thread receives signals: in another thread none is noted.
    """

    def __init__(self) -> None:
        self.number = 0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "NotedSignals":
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *unused: Any) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


WAIT, WARMUP, ACTIVE = 5, 2, 5
"""Updates that pass first, that the profiler warms up in, and that it records."""
RANGES = ("wait for a batch", "forward", "backward", "clip and step")
"""The parts of an update, as the loader and the training scheme name them."""
ROWS = 12
HEADER = f"{'share':>7} {'ms':>9} {'calls':>7}  "


@contextmanager
def profiled(directory: Path | None, device: torch.device, show: bool) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each update, which records some of them; without a directory it does nothing.

    After `WAIT + WARMUP` updates the next `ACTIVE` ones are recorded, into a trace for Perfetto (or chrome://tracing)
    in `directory` and, with `show`, a printed table. Changes no result. Raises OSError where the trace cannot be
    written.
    """
    if directory is None:
        yield lambda: None
        return
    recorded: list[str] = []
    with profile(
        activities=[ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else []),
        schedule=schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1),
        on_trace_ready=lambda profiler: recorded.append(_report(profiler, directory, device, show)),
    ) as profiler:
        yield profiler.step
    if show and not recorded:
        tqdm.write(f"--profile has recorded nothing: it begins after {WAIT + WARMUP} updates")


def _report(profiler: profile, directory: Path, device: torch.device, show: bool) -> str:
    trace = directory / "trace.json.gz"
    with writing(trace):
        directory.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
    table = f"{summary(profiler, device)}\n{trace} is the whole trace: open it at https://ui.perfetto.dev"
    if show:
        tqdm.write(table)
    return table


def events_of(profiler: profile) -> list[Any]:
    """What the host has recorded, averaged by name, with the time of the kernels that each launched.

    A GPU's own events tell of the same kernels once more, and of each range from its first one to its last.
    """
    return [event for event in profiler.key_averages() if event.device_type == DeviceType.CPU]


def summary(profiler: profile, device: torch.device) -> str:
    """Where the recorded updates' time went: parts of an update by the clock, operations by the time of their own."""
    events = events_of(profiler)
    steps = [event for event in events if event.key.startswith("ProfilerStep")]
    parts = {event.key: event for event in events if event.key in RANGES}
    operations = [event for event in events if event.key not in RANGES and event not in steps]
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    longest = sorted(operations, key=lambda event: getattr(event, own), reverse=True)[:ROWS]
    updates = sum(event.count for event in steps)
    elapsed = sum(event.cpu_time_total for event in steps)
    whole = sum(getattr(event, own) for event in operations)

    def row(name: str, microseconds: float, of: float, calls: int) -> str:
        return (
            f"{microseconds / max(of, 1):>7.1%} {microseconds / 1000 / updates:>9.2f} {calls / updates:>7.0f}  {name}"
        )

    lines = [f"{updates} updates of {elapsed / 1000 / updates:.1f} ms; of one:", HEADER + "part"]
    lines += [row(name, parts[name].cpu_time_total, elapsed, parts[name].count) for name in RANGES if name in parts]
    lines += [HEADER + f"operation on the {'GPU' if device.type == 'cuda' else 'CPU'}, without those it calls"]
    lines += [row(event.key, getattr(event, own), whole, event.count) for event in longest]
    return "\n".join(lines)
