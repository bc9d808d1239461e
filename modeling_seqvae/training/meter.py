"""What a run costs: seconds by phase and memory."""

import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

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
