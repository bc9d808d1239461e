"""Time, memory and the machine's own rate of arithmetic, for the benchmarks beside this file."""

import ctypes
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

MATRIX = 2048


@dataclass(frozen=True)
class Machine:
    """What the figures were measured on."""

    processor: str
    threads: int
    torch: str

    @classmethod
    def of(cls, device: torch.device) -> "Machine":
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
        return cls(name, torch.get_num_threads(), torch.__version__)


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with what it left to do on a GPU."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def matmul_rate(device: torch.device, dtype: torch.dtype, repeats: int = 3) -> float:
    """GFLOP/s of square matrix products, the best of some: what this machine can do at most, now."""
    size = MATRIX if device.type == "cpu" else 4 * MATRIX
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    left @ right
    return 2 * size**3 / min(seconds(lambda: left @ right, device) for _ in range(repeats)) / 1e9


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median of some calls after one that is not counted."""
    work()
    return median(seconds(work, device) for _ in range(repeats))


def reset_peak(device: torch.device) -> None:
    """Forget the peak memory so far, and give back what is free, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(AttributeError, OSError, TypeError):  # a C library that is not GNU's
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def synchronise(device: torch.device) -> None:
    """Wait for what a GPU was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
