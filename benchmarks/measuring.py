"""Time, memory and the machine's own rate of arithmetic, and reports, for the benchmarks beside this file."""

import argparse
import ctypes
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from modeling_seqvae.kernels import fast_matmul

MATRIX = 2048
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
"""What products are computed in, and the type of the rates' matrices; tf32 is float32 with shorter products."""


@contextmanager
def computed_in(precision: str, device: torch.device) -> Iterator[None]:
    """Inside, a model's way forward is in one of `PRECISIONS`; the way back needs `products_in` alone."""
    with (
        products_in(precision, device),
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        yield


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Inside, float32 products on a GPU are in TF32 or not, on a CPU as the package has them done.

    By default torch's LSTM uses TF32 on a GPU while its matrix products do not: here both do, or neither. In bfloat16
    the LSTM that learns is as in a training.
    """
    short = precision == "tf32"
    if short and device.type != "cuda":
        raise ValueError("tf32 is a precision of GPUs")
    recurrent, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    with fast_matmul(device):
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = short or precision == "bfloat16"
            torch.set_float32_matmul_precision("high" if short else "highest")
        try:
            yield
        finally:
            if device.type == "cuda":
                torch.backends.cudnn.allow_tf32 = recurrent
                torch.set_float32_matmul_precision(products)


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


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int = MATRIX) -> float:
    """GFLOP/s of square matrix products, the best of three: what this machine can do at most, now."""
    size = size if device.type == "cpu" else 4 * size
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    left @ right
    return 2 * size**3 / min(seconds(lambda: left @ right, device) for _ in range(3)) / 1e9


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


def named_run(argument: str) -> tuple[str, str]:
    """The two parts of an argument `NAME=RUN`."""
    name, equals, run = argument.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{argument!r} is not of the form NAME=RUN")
    return name, run


def write_report(path: Path, report: Any) -> None:
    """Write what was measured as JSON; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
