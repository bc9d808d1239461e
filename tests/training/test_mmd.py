"""MMD: brute force over pairs, zero for equal samples and positive otherwise."""

import pytest
import torch

from modeling_seqvae.training.mmd import inverse_multiquadric, mmd

Z = 3
SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
    squared = sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return sum(2 * Z * scale / (2 * Z * scale + squared) for scale in SCALES)


def brute_force(latents: torch.Tensor, prior: torch.Tensor) -> float:
    def mean(first: torch.Tensor, second: torch.Tensor) -> float:
        return sum(kernel(a, b) for a in first for b in second) / (len(first) * len(second))

    return mean(latents, latents) + mean(prior, prior) - 2 * mean(latents, prior)


@pytest.mark.parametrize("counts", [(5, 5), (7, 4), (1, 6)])
def test_it_is_the_loop_over_all_pairs(counts: tuple[int, int]) -> None:
    latents, prior = (torch.randn(count, Z).double() for count in counts)
    assert mmd(latents, prior).item() == pytest.approx(brute_force(latents, prior), abs=1e-12)


def test_equal_samples_have_none_whatever_their_order() -> None:
    latents = torch.randn(20, Z)
    assert mmd(latents, latents).item() == pytest.approx(0, abs=1e-6)
    assert mmd(latents, latents[torch.randperm(20)]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0, 100.0])
def test_different_samples_have_some(shift: float) -> None:
    found = [mmd(torch.randn(16, Z).double() + shift, torch.randn(16, Z).double()).item() for _ in range(20)]
    assert min(found) > 0


def test_it_grows_with_the_distance_and_has_a_limit() -> None:
    latents, prior = torch.randn(500, Z), torch.randn(500, Z)
    found = [mmd(latents + shift, prior).item() for shift in (0, 0.5, 1, 3, 30, 3000)]
    assert found == sorted(found)
    assert found[-1] < 2 * len(SCALES)


def test_samples_of_one_distribution_differ_by_the_bias_of_the_estimate() -> None:
    """(k(z, z) - E k(z, z')) (1/N + 1/M) in expectation: the diagonal of a V-statistic."""
    count = 40
    found = torch.stack([mmd(*torch.randn(2, count, Z).double()) for _ in range(200)])
    pairs = torch.randn(2, 50_000, Z).double()
    between = inverse_multiquadric((pairs[0] - pairs[1]).square().sum(-1), Z).mean()
    expected = (len(SCALES) - between) * 2 / count
    assert found.mean().item() == pytest.approx(expected.item(), abs=5 * found.std().item() / 200**0.5)


def test_gradients_draw_latents_to_the_prior() -> None:
    latents = (torch.randn(64, Z) + 2).requires_grad_()
    mmd(latents, torch.randn(64, Z)).backward()
    assert latents.grad.isfinite().all()
    assert (latents.grad.mean(0) > 0).all()


def test_the_kernel_is_greatest_where_there_is_no_distance() -> None:
    values = inverse_multiquadric(torch.tensor([0.0, 1.0, 10.0, 1e6]), Z)
    assert values[0].item() == pytest.approx(len(SCALES))
    assert values.tolist() == sorted(values.tolist(), reverse=True)
    assert values[-1] < 1e-3
