"""Faster float32 matrix products on CPUs, at the same precision, around whole steps only; and who has bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

TOLERANCE = 1e-6


@contextmanager
def fast_matmul(device: torch.device) -> Iterator[None]:
    """Inside, float32 matrix products on a CPU go to its fastest library, if that library is as exact as the default.

    The setting is process-wide and on other devices would allow bf16 or TF32 inside float32 products, so it is
    restored on leaving, and left alone unless `device` is a CPU on which a product was checked first.
    """
    before = _current() if device.type == "cpu" else None
    if before is None or not _is_exact():
        yield
        return
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself, so that it is faster there than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def _current() -> str | None:
    """The setting; None where the caller uses torch's newer `fp32_precision` instead, which excludes this one."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


@cache
def _is_exact() -> bool:
    """Whether "medium" keeps float32's precision here, by one product compared with float64."""
    before = torch.get_float32_matmul_precision()
    left, right = torch.rand((2, 256, 256), generator=torch.Generator().manual_seed(0)) - 0.5
    exact = left.double() @ right.double()
    torch.set_float32_matmul_precision("medium")
    try:
        error = (left @ right - exact).norm() / exact.norm()
    finally:
        torch.set_float32_matmul_precision(before)
    return bool(error < TOLERANCE)
