"""Time, memory and the machine's own rate of arithmetic, for the benchmarks beside this file."""

import os
import platform
import resource
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
    _synchronise(device)
    started = time.perf_counter()
    work()
    _synchronise(device)
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
    """Forget the peak memory so far, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes(device: torch.device) -> float:
    """The most memory in use since `reset_peak`: a GPU's own, or this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**10
    unit = 2**20 if os.uname().sysname == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
