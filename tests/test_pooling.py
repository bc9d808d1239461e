"""A pool equals the loop over real tokens, and padding changes nothing."""

import pytest
import torch

from modeling_seqvae.pooling import POOLINGS, AttentionPool, build_pooling

LENGTHS = [6, 4, 2, 1]
HIDDEN = 5


@pytest.fixture
def states() -> torch.Tensor:
    return torch.randn(len(LENGTHS), max(LENGTHS), HIDDEN, dtype=torch.float64)


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


@pytest.fixture(params=list(POOLINGS))
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


def build(mode: str):
    pool = build_pooling(mode, HIDDEN)
    return pool.double() if isinstance(pool, torch.nn.Module) else pool


def by_loop(mode: str, pool, tokens: list[torch.Tensor]) -> torch.Tensor:
    """The pool of one sentence's real tokens, each (H,), written out."""
    if mode == "last":
        return tokens[-1]
    if mode == "avg":
        return sum(tokens) / len(tokens)
    if mode == "max":
        return torch.stack([max(column) for column in zip(*tokens, strict=True)])
    if mode == "abs":
        return torch.stack([max(column, key=abs) for column in zip(*tokens, strict=True)])
    scores = [pool.score.weight[0] @ torch.tanh(pool.projection.weight @ h + pool.projection.bias) for h in tokens]
    total = sum(score.exp() for score in scores)
    return sum(score.exp() / total * h for score, h in zip(scores, tokens, strict=True))


def test_equals_the_loop_over_real_tokens(mode: str, states: torch.Tensor, mask: torch.Tensor) -> None:
    pool = build(mode)
    expected = [by_loop(mode, pool, list(row[:length])) for row, length in zip(states, LENGTHS, strict=True)]
    torch.testing.assert_close(pool(states, mask), torch.stack(expected))


def test_content_of_padding_changes_neither_values_nor_gradients(
    mode: str, states: torch.Tensor, mask: torch.Tensor
) -> None:
    pool = build(mode)
    results = []
    for filler in (0.0, 1e6, -1e6):
        filled = states.masked_fill(~mask[:, :, None], filler).requires_grad_()
        pooled = pool(filled, mask)
        (gradient,) = torch.autograd.grad(pooled.square().sum(), filled)
        assert not gradient[~mask].any()
        results.append((pooled, gradient))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_amount_of_padding_changes_neither_values_nor_gradients(
    mode: str, states: torch.Tensor, mask: torch.Tensor
) -> None:
    pool = build(mode)
    short = states.clone().requires_grad_()
    long = torch.cat([states, torch.randn(len(LENGTHS), 3, HIDDEN).double()], 1).requires_grad_()
    long_mask = torch.cat([mask, mask.new_zeros(len(LENGTHS), 3)], 1)
    expected, pooled = pool(short, mask), pool(long, long_mask)
    torch.testing.assert_close(pooled, expected)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), short)
    (gradient,) = torch.autograd.grad(pooled.square().sum(), long)
    torch.testing.assert_close(gradient[:, : max(LENGTHS)], expected_gradient)


@pytest.mark.parametrize("mode", ["max", "abs"])
def test_ties_go_to_the_first_position(mode: str) -> None:
    states = torch.tensor([[0.5, 2.0, 2.0, 1.0]])[:, :, None].requires_grad_()
    build(mode)(states, torch.ones(1, 4, dtype=torch.bool)).sum().backward()
    assert states.grad.flatten().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_many_ties_the_first_has_the_gradient(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randint(0, 4, (8, 50, 70), generator=generator).to(dtype).requires_grad_()
    build("max")(states, torch.ones(8, 50, dtype=torch.bool)).sum().backward()
    first = states.detach().float().numpy().argmax(1)  # numpy's is the first of equals
    assert (states.grad.float().numpy().argmax(1) == first).all() and states.grad.sum() == 8 * 70


def test_equal_magnitudes_of_both_signs_go_to_the_first_position() -> None:
    states = torch.tensor([[-2.0, 2.0], [2.0, -2.0]])[:, :, None]
    assert build("abs")(states, torch.ones(2, 2, dtype=torch.bool)).flatten().tolist() == [-2, 2]


def test_absolute_pool_keeps_the_sign() -> None:
    states = torch.tensor([[1.0, -3.0, 2.0]])[:, :, None]
    assert build("abs")(states, torch.ones(1, 3, dtype=torch.bool)).item() == -3


def test_maximum_of_negative_states_is_negative() -> None:
    states = torch.tensor([[-5.0, -3.0, 9.0]])[:, :, None]
    assert build("max")(states, torch.tensor([[True, True, False]])).item() == -3


def test_attention_without_preference_is_the_average(states: torch.Tensor, mask: torch.Tensor) -> None:
    pool = AttentionPool(HIDDEN).double()
    torch.nn.init.zeros_(pool.score.weight)
    torch.testing.assert_close(pool(states, mask), build("avg")(states, mask))


def test_attention_sure_of_a_token_returns_its_state(states: torch.Tensor, mask: torch.Tensor) -> None:
    pool = AttentionPool(HIDDEN).double()
    torch.nn.init.zeros_(pool.projection.bias)
    pool.projection.weight.data = torch.eye(HIDDEN).double()
    pool.score.weight.data = torch.tensor([[1e4, 0, 0, 0, 0]]).double()
    best = states[:, :, 0].masked_fill(~mask, -torch.inf).argmax(1)
    torch.testing.assert_close(pool(states, mask), states[torch.arange(len(LENGTHS)), best])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_type_of_the_states(mode: str, dtype: torch.dtype, states: torch.Tensor, mask: torch.Tensor) -> None:
    pool = build_pooling(mode, HIDDEN)
    pool = pool.to(dtype) if isinstance(pool, torch.nn.Module) else pool
    pooled = pool(states.to(dtype), mask)
    assert pooled.dtype == dtype and pooled.isfinite().all()


def test_padding_on_the_left_equals_padding_on_the_right(mode: str, make_model, batch) -> None:
    model = make_model(pooling_mode=mode)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    lengths = mask.sum(1).tolist()
    left = torch.stack([row.roll(-length) for row, length in zip(ids, lengths, strict=True)])
    left_mask = torch.stack([row.roll(-length) for row, length in zip(mask, lengths, strict=True)])
    assert left_mask[0].all() and not left_mask[-1, 0]
    expected, posterior = model.encode(ids, mask), model.encode(left, left_mask)
    torch.testing.assert_close(posterior.mean, expected.mean)
    torch.testing.assert_close(posterior.logvar, expected.logvar)
