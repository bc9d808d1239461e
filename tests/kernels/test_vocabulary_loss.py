"""linear_nll is the cross-entropy of states @ weight.T, without a tensor as large as the logits."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from modeling_seqvae import kernels
from modeling_seqvae.kernels import linear_nll, upcast

COUNTED = pytest.mark.parametrize("counted", [None, torch.tensor([True, False, True, True, False])])
N, V, H = 150, 37, 4  # three blocks of at most 64 rows, once blocks are made small


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK_BYTES", {"cpu": 1, "cuda": 1})
    monkeypatch.setattr(kernels, "SLICE_BYTES", {"cpu": 1, "cuda": 1})


def inputs(dtype: torch.dtype = torch.float64, rows: int = N) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    states = torch.randn(rows, H, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, H, dtype=dtype, requires_grad=True)
    return states, weight, torch.randint(V, (rows,))


def plain_nll(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(states @ weight.T, targets, reduction="none")


def gradients(nll: Callable[..., torch.Tensor], states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor):
    of_each_row = torch.linspace(-1, 2, len(states), dtype=torch.float64)
    return torch.autograd.grad((nll(states, weight, targets) * of_each_row).sum(), [states, weight])


def test_values_equal_the_cross_entropy() -> None:
    states, weight, targets = inputs()
    expected = plain_nll(states, weight, targets)
    torch.testing.assert_close(linear_nll(states, weight, targets), expected)
    with torch.no_grad():
        torch.testing.assert_close(linear_nll(states, weight, targets), expected)


def test_gradients_equal_the_cross_entropy() -> None:
    values = inputs()
    torch.testing.assert_close(gradients(linear_nll, *values), gradients(plain_nll, *values))


def test_gradients_of_a_sum_equal_the_cross_entropy() -> None:
    """Equal factors of all rows are the case that the way forward has prepared."""
    states, weight, targets = inputs()
    for factor in (1.0, -0.3):
        ours, expected = (
            torch.autograd.grad(factor * nll(states, weight, targets).sum(), [states, weight])
            for nll in (linear_nll, plain_nll)
        )
        torch.testing.assert_close(ours, expected)


def test_gradients_can_be_asked_for_again() -> None:
    states, weight, targets = inputs()
    total = linear_nll(states, weight, targets).sum()
    first, second = (torch.autograd.grad(total, [states, weight], retain_graph=True) for _ in range(2))
    torch.testing.assert_close(second, first)


def test_gradients_equal_finite_differences() -> None:
    states, weight, targets = inputs(rows=70)
    assert torch.autograd.gradcheck(lambda s, w: linear_nll(s, w, targets), (states, weight), fast_mode=True)


@COUNTED
def test_second_derivatives_equal_finite_differences(counted: torch.Tensor | None) -> None:
    states, weight, targets = inputs(rows=5)
    assert torch.autograd.gradgradcheck(lambda *each: linear_nll(*each, targets, counted), (states, weight))


@pytest.mark.parametrize("frozen", ["states", "weight"])
def test_a_gradient_may_be_part_of_a_loss(frozen: str) -> None:
    """Of a scalar, whose own gradient is a constant; either input may have none."""
    found = []
    for nll in (linear_nll, plain_nll):
        states, weight, targets = given = inputs(rows=5)
        given[("states", "weight").index(frozen)].requires_grad_(False)
        torch.manual_seed(0)
        with torch.no_grad():
            states.normal_(), weight.normal_()
        targets = torch.arange(5)
        learned = weight if frozen == "states" else states
        (gradient,) = torch.autograd.grad(nll(states, weight, targets).sum(), learned, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), learned)[0])
    torch.testing.assert_close(*found)


def test_functions_of_functions_are_differentiated_too() -> None:
    states, weight, targets = inputs(rows=5)
    found, expected = (
        torch.func.grad(lambda w, nll=nll: nll(states.detach(), w, targets).sum())(weight.detach())
        for nll in (linear_nll, plain_nll)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 128])
def test_any_number_of_rows(rows: int) -> None:
    values = inputs(rows=rows)
    torch.testing.assert_close(linear_nll(*values), plain_nll(*values))
    torch.testing.assert_close(gradients(linear_nll, *values), gradients(plain_nll, *values))


@pytest.mark.parametrize("block", [1, 70 * V * 8, 1 << 25])
@pytest.mark.parametrize("part", [1, 30 * V * 8, 1 << 25])
def test_the_size_of_blocks_and_slices_changes_nothing(block: int, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK_BYTES", {"cpu": block})
    monkeypatch.setattr(kernels, "SLICE_BYTES", {"cpu": part})
    monkeypatch.setitem(kernels.BLOCK_BYTES, "cuda", block)
    monkeypatch.setitem(kernels.SLICE_BYTES, "cuda", part)
    values = inputs()
    torch.testing.assert_close(linear_nll(*values), plain_nll(*values))
    torch.testing.assert_close(gradients(linear_nll, *values), gradients(plain_nll, *values))


@pytest.mark.parametrize("frozen", ["states", "weight"])
def test_either_input_may_be_frozen(frozen: str) -> None:
    states, weight, targets = inputs()
    {"states": states, "weight": weight}[frozen].requires_grad_(False)
    learned = weight if frozen == "states" else states
    (gradient,) = torch.autograd.grad(linear_nll(states, weight, targets).sum(), learned)
    (expected,) = torch.autograd.grad(plain_nll(states, weight, targets).sum(), learned)
    torch.testing.assert_close(gradient, expected)


def test_no_gradient_is_taken_in_a_frozen_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is a product of a third of the work, both for equal factors of all rows and for others."""
    monkeypatch.delattr(kernels._Blocks, "_add_product")
    states, weight, targets = inputs()
    nll = linear_nll(states, weight.requires_grad_(False), targets)
    torch.autograd.grad(nll.sum(), states, retain_graph=True)
    torch.autograd.grad(nll.square().sum(), states)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30])
def test_large_logits_neither_overflow_nor_lose_the_small(scale: float, training: bool) -> None:
    """With logits of 0, -0.001 and -900 times the scale, probabilities that are 0 in float32 included."""
    states, weight = torch.tensor([[scale]] * 3), torch.tensor([[1.0], [0.999], [-900.0]])
    targets = torch.tensor([0, 1, 2])
    exact = plain_nll(states.double(), weight.double(), targets)
    found = linear_nll(states, weight.requires_grad_(training), targets)
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-6)


def test_under_bfloat16_autocast_the_error_is_that_of_bfloat16_products() -> None:
    states, weight, targets = inputs(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nll = linear_nll(states, weight, targets)
        rounded = gradients(linear_nll, states, weight, targets)
    assert nll.dtype == torch.float32
    assert all(gradient.dtype == torch.float32 for gradient in rounded)
    largest_logit = (states @ weight.T).abs().max().item()
    assert (nll - plain_nll(states, weight, targets)).abs().max() < 2**-7 * largest_logit
    for gradient, exact in zip(rounded, gradients(plain_nll, states, weight, targets), strict=True):
        assert (gradient - exact).norm() < 2**-6 * exact.norm()


def test_the_logits_of_all_rows_are_never_allocated(tensor_spy) -> None:
    states, weight, targets = inputs(torch.float32)
    with tensor_spy() as spy:
        linear_nll(states, weight, targets).sum().backward()
    assert spy.count(N * V) == 0
    with torch.no_grad(), tensor_spy() as spy:
        linear_nll(states, weight, targets)
    assert spy.count(N * V) == 0


def test_upcast_widens_half_precision_only() -> None:
    widened = {dtype: upcast(torch.zeros(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float16)}
    assert set(widened.values()) == {torch.float32}
    assert upcast(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
