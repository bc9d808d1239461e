"""Memory that is freed is used again, where the C library can be told so."""

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


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delattr(kernels.ctypes, "CDLL")
    assert keep_freed_memory() is False
    release_freed_memory()
