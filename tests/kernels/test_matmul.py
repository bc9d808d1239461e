"""The faster float32 products: as exact as the default, on CPUs only, and gone afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from modeling_seqvae import kernels
from modeling_seqvae.kernels import fast_matmul

CPU = torch.device("cpu")
current = torch.get_float32_matmul_precision


@pytest.fixture(autouse=True)
def _restored():
    before = current()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the faster library passed the check."""
    monkeypatch.setattr(kernels, "_is_exact", lambda: True)


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_the_setting_changes_inside_and_is_restored(exact: None, before: str) -> None:
    torch.set_float32_matmul_precision(before)
    with fast_matmul(CPU):
        assert current() == "medium"
    assert current() == before


def test_the_setting_is_restored_when_the_block_raises(exact: None) -> None:
    with pytest.raises(KeyError), fast_matmul(CPU):
        raise KeyError
    assert current() == "highest"


def test_blocks_nest(exact: None) -> None:
    with fast_matmul(CPU):
        with fast_matmul(CPU):
            assert current() == "medium"
        assert current() == "medium"
    assert current() == "highest"


def test_blocks_of_two_threads_leave_the_setting_as_it_was(exact: None) -> None:
    first, second = fast_matmul(CPU), fast_matmul(CPU)  # the first to begin ends first, as no single thread's do
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert current() == "medium"
    second.__exit__(None, None, None)
    assert current() == "highest"


@pytest.mark.parametrize("before", ["highest", "high"])
@pytest.mark.parametrize("kind", ["cuda", "cuda:1", "mps"])
def test_other_devices_are_left_alone(exact: None, kind: str, before: str) -> None:
    torch.set_float32_matmul_precision(before)
    with fast_matmul(torch.device(kind)):
        assert current() == before
        torch.set_float32_matmul_precision("medium")  # the caller's own choice, inside the block
    assert current() == "medium"


def test_a_library_that_is_not_exact_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "TOLERANCE", 0.0)
    kernels._is_exact.cache_clear()
    try:
        with fast_matmul(CPU):
            assert current() == "highest"
    finally:
        kernels._is_exact.cache_clear()
    assert current() == "highest"


def test_the_check_itself_leaves_the_setting_and_the_random_state_alone() -> None:
    kernels._is_exact.cache_clear()
    torch.set_float32_matmul_precision("high")
    state = torch.get_rng_state()
    kernels._is_exact()
    assert current() == "high"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 7, 5), (32, 128, 512), (100, 400, 1000), (3, 2000, 64)])
def test_products_are_exact_to_a_millionth(rows: int, inner: int, columns: int) -> None:
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    with fast_matmul(CPU):
        found = left @ right
    assert relative_error(found, left.double() @ right.double()) < 1e-6


def test_recurrence_and_its_gradient_are_exact_to_a_millionth() -> None:
    lstm, inputs = nn.LSTM(48, 64, batch_first=True), torch.randn(8, 12, 48)
    with fast_matmul(CPU):
        found = lstm(inputs)[0]
        found.square().sum().backward()
    gradient = lstm.weight_hh_l0.grad.clone()
    lstm.double().zero_grad()
    exact = lstm(inputs.double())[0]
    exact.square().sum().backward()
    assert relative_error(found, exact) < 1e-6
    assert relative_error(gradient, lstm.weight_hh_l0.grad) < 1e-6


def test_importing_changes_nothing_and_a_caller_s_newer_settings_stand() -> None:
    """torch refuses to answer for the process once precisions were chosen by backend."""
    program = """
import torch
from modeling_seqvae.kernels import fast_matmul
assert torch.get_float32_matmul_precision() == "highest"
torch.backends.cuda.matmul.fp32_precision = "tf32"
for device in ("cpu", "cuda"):
    with fast_matmul(torch.device(device)):
        pass
assert torch.backends.cuda.matmul.fp32_precision == "tf32"
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
