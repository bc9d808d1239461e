"""Our dropout has the law of torch's, and is a function of torch's random state."""

import math

import pytest
import torch
from torch import nn

from modeling_seqvae.kernels import Dropout

SHAPE = (40, 50, 101)


@pytest.mark.parametrize("p", [0.5, 0.1, 0.25, 1 / 3, 0.999])
def test_each_value_is_dropped_with_probability_p_or_scaled(p: float) -> None:
    values = torch.rand(SHAPE) + 0.5
    left = Dropout(p)(values)
    dropped = left == 0
    torch.testing.assert_close(left[~dropped], values[~dropped] / (1 - p))
    spread = math.sqrt(p * (1 - p) / values.numel())
    assert abs(dropped.float().mean().item() - p) < 5 * spread


def test_values_are_dropped_independently_of_each_other() -> None:
    """Two values that share a draw of 64 bits, neighbours on either side of it, and two calls."""
    dropout, count = Dropout(0.3), 200_000
    first, second = (dropout(torch.ones(count)) == 0 for _ in range(2))
    pairs = ((first[0::2], first[1::2]), (first[1:-1:2], first[2::2]), (first, second))
    for one, other in pairs:
        expected = 0.09
        assert abs((one & other).float().mean().item() - expected) < 5 * math.sqrt(expected / len(one))


@pytest.mark.parametrize("numerator", [1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1])
def test_probabilities_are_exact_to_the_last_of_32_bits(numerator: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all 32-bit numbers, `numerator` drop a value: the last that does, and the first that does not."""
    around = torch.tensor([numerator - 1, numerator]) - 2**31
    packed = around.to(torch.int32).view(torch.int64)
    monkeypatch.setattr(torch.Tensor, "random_", lambda self, *limits: packed)
    assert (Dropout(numerator / 2**32)(torch.ones(2)) == 0).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradients_are_zero_or_scaled_and_types_are_kept(dtype: torch.dtype) -> None:
    values = torch.ones(SHAPE, dtype=dtype, requires_grad=True)
    left = Dropout(0.5)(values)
    left.sum().backward()
    assert left.dtype == dtype
    assert torch.equal(values.grad, left.detach())
    assert set(left.unique().tolist()) == {0.0, 2.0}


def test_the_random_state_decides() -> None:
    values, dropout = torch.ones(SHAPE), Dropout(0.5)
    state = torch.get_rng_state()
    first, second = dropout(values), dropout(values)
    torch.set_rng_state(state)
    assert torch.equal(dropout(values), first) and torch.equal(dropout(values), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3, 5)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_nothing_is_dropped_or_drawn_in_evaluation_or_without_probability() -> None:
    values, state = torch.rand(SHAPE), torch.get_rng_state()
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(Dropout(1.0)(values), torch.zeros(SHAPE))
    assert isinstance(Dropout(0.5), nn.Dropout)
