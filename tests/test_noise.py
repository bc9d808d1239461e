"""A sentence's noise is a function of its own generator, however the draws are taken."""

import pytest
import torch

from modeling_seqvae.noise import seed_torch, standard_normal


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 3, 16, 17, 32, 33])
def test_draws_in_parts_and_in_other_batches_are_the_same(size: int, dtype: torch.dtype) -> None:
    together = standard_normal(23, torch.empty(3, size, dtype=dtype), generators(7, 8, 9))
    own = generators(9, 7)
    parts = [standard_normal(count, torch.empty(2, size, dtype=dtype), own) for count in (1, 5, 2, 15)]
    assert torch.equal(torch.cat(parts), together[:, [2, 0]])
    assert together.shape == (23, 3, size) and together.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("one_each", [True, False])
def test_draws_are_the_same_in_every_type(dtype: torch.dtype, one_each: bool) -> None:
    found, expected = (
        standard_normal(4, torch.empty(2, 17, dtype=kind), generators(1, 2) if one_each else generators(1)[0])
        for kind in (dtype, torch.float32)
    )
    assert torch.equal(found, expected.to(dtype))


def test_the_noise_of_a_sentence_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, randn = [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda *size, **given: calls.append(size) or randn(*size, **given))
    standard_normal(500, torch.empty(4, 32), generators(*range(4)))
    assert calls == [(500, 32)] * 4


def test_of_whole_blocks_it_is_what_torch_gives_a_draw_at_a_time() -> None:
    """So that sizes such as the paper's have the noise that they had when it was drawn so."""
    found = standard_normal(5, torch.empty(1, 32), generators(3))
    (generator,) = generators(3)
    assert torch.equal(found[:, 0], torch.stack([torch.randn(32, generator=generator) for _ in range(5)]))


@pytest.mark.parametrize("size", [3, 32])
def test_it_is_standard_normal(size: int) -> None:
    noise = standard_normal(20_000, torch.empty(2, size, dtype=torch.float64), generators(0, 1)).flatten(1)
    covariance = torch.cov(noise.T)
    torch.testing.assert_close(noise.mean(0), torch.zeros(2 * size).double(), atol=0.04, rtol=0)
    torch.testing.assert_close(covariance, torch.eye(2 * size).double(), atol=0.05, rtol=0)


def test_no_sentences_have_no_noise() -> None:
    assert standard_normal(4, torch.empty(0, 3), []).shape == (4, 0, 3)


def test_a_seed_s_random_numbers_are_those_that_torch_draws_from_it() -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        expected = torch.rand(9)
        seed_torch(5, torch.device("cpu"))
        assert torch.equal(torch.rand(9), expected)
