"""What is chosen for a process: freed memory is used again, and denormal numbers are zero, where that is possible."""

import platform
import subprocess
import sys

import pytest

from modeling_seqvae import kernels
from modeling_seqvae.kernels import keep_freed_memory, release_freed_memory

PROGRAM = """
import resource
from statistics import median
import torch
from modeling_seqvae.kernels import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
assert page_faults() > 10_000, "every page anew"
assert keep_freed_memory()
for _ in range(4):  # an allocator takes a few rounds to settle
    page_faults()
assert median(page_faults() for _ in range(5)) < 100, "the same pages again"  # the system may move some in a round
"""


RELEASE = """
import torch
from modeling_seqvae.kernels import keep_freed_memory, release_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

assert keep_freed_memory()
tensors = [torch.ones(1 << 19) for _ in range(200)]  # 2 MiB each
kept, tensors = tensors[::4], None
before = resident()
release_freed_memory()
assert before - resident() > 200 << 20, "what lay between the kept ones went back"
assert all(float(tensor.sum()) == 1 << 19 for tensor in kept)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_freed_memory_between_what_is_kept_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", RELEASE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_freed_memory_is_not_asked_for_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_prepared_process_flushes_denormal_numbers() -> None:
    """On a CPU that can; the threads of backward passes and of loops included."""
    code = """
import threading, torch
from modeling_seqvae.kernels import prepare_process

prepare_process()
tiny = torch.full((1 << 16,), 1e-30)
found = []
thread = threading.Thread(target=lambda: found.append((tiny * 1e-10).count_nonzero().item()))
thread.start(), thread.join()
here = (tiny * 1e-10).count_nonzero().item()
leaf = tiny.clone().requires_grad_()
(leaf * 1e-10).sum().mul(1e-30).backward()
assert [here, *found, leaf.grad.count_nonzero().item()] == [0, 0, 0] or not torch.set_flush_denormal(True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delattr(kernels.ctypes, "CDLL")
    assert keep_freed_memory() is False
    release_freed_memory()
