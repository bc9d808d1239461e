"""The Gaussian posterior is torch.distributions', and its noise does not depend on how it is asked for."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from modeling_seqvae.gaussian import DiagonalGaussian, GaussianPosterior, log_prior
from modeling_seqvae.noise import standard_normal

B, Z = 4, 3


@pytest.fixture
def posterior() -> DiagonalGaussian:
    return DiagonalGaussian(torch.randn(B, Z).double(), torch.randn(B, Z).double())


def as_distribution(posterior: DiagonalGaussian) -> Independent:
    return Independent(Normal(posterior.mean, posterior.logvar.exp().sqrt()), 1)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_log_prob_equals_torch_distributions(posterior: DiagonalGaussian) -> None:
    latents = torch.randn(7, B, Z).double()
    torch.testing.assert_close(posterior.log_prob(latents), as_distribution(posterior).log_prob(latents))
    torch.testing.assert_close(posterior.log_prob(latents[0]), as_distribution(posterior).log_prob(latents[0]))


def test_kl_equals_torch_distributions(posterior: DiagonalGaussian) -> None:
    prior = Independent(Normal(torch.zeros(Z).double(), torch.ones(Z).double()), 1)
    torch.testing.assert_close(posterior.kl(), kl_divergence(as_distribution(posterior), prior.expand([B])))


def test_variance_equals_torch_distributions(posterior: DiagonalGaussian) -> None:
    torch.testing.assert_close(posterior.variance, as_distribution(posterior).variance)


def test_log_prior_equals_torch_distributions() -> None:
    latents = torch.randn(7, B, Z)
    expected = Independent(Normal(torch.zeros(Z), torch.ones(Z)), 1).log_prob(latents)
    torch.testing.assert_close(log_prior(latents), expected)


def test_the_prior_as_a_posterior_has_no_kl() -> None:
    assert DiagonalGaussian(torch.zeros(B, Z), torch.zeros(B, Z)).kl().tolist() == [0] * B


def test_draws_have_the_mean_and_variance(posterior: DiagonalGaussian) -> None:
    draws = posterior.rsample(20_000, torch.Generator().manual_seed(0))
    assert draws.shape == (20_000, B, Z)
    standard_error = (posterior.variance / len(draws)).sqrt()
    assert ((draws.mean(0) - posterior.mean).abs() < 5 * standard_error).all()
    torch.testing.assert_close(draws.var(0), posterior.variance, rtol=0.05, atol=0)


def test_draws_come_with_their_log_probability(posterior: DiagonalGaussian) -> None:
    latents, log_q = posterior.rsample_with_log_prob(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(latents, posterior.rsample(5, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(log_q, as_distribution(posterior).log_prob(latents))


def test_draws_are_reparametrised(posterior: DiagonalGaussian) -> None:
    posterior.mean.requires_grad_()
    posterior.logvar.requires_grad_()
    draws = posterior.rsample(1, torch.Generator().manual_seed(0))[0]
    to_mean, to_logvar = torch.autograd.grad(draws.sum(), [posterior.mean, posterior.logvar])
    torch.testing.assert_close(to_mean, torch.ones(B, Z).double())
    torch.testing.assert_close(to_logvar, 0.5 * (draws - posterior.mean))


def test_a_sentence_with_its_own_generator_draws_the_same_in_any_batch(posterior: DiagonalGaussian) -> None:
    whole = posterior.rsample(6, generators(10, 11, 12, 13))
    part = DiagonalGaussian(posterior.mean[[3, 1]], posterior.logvar[[3, 1]]).rsample(6, generators(13, 11))
    assert torch.equal(part, whole[:, [3, 1]])


@pytest.mark.parametrize("seeds", [(10, 11, 12, 13), 10], ids=["one per sentence", "one"])
def test_draws_in_chunks_equal_draws_at_once(posterior: DiagonalGaussian, seeds: tuple[int, ...] | int) -> None:
    def start() -> torch.Generator | list[torch.Generator]:
        return generators(seeds)[0] if isinstance(seeds, int) else generators(*seeds)

    chunked = start()
    chunks = [posterior.rsample(size, chunked) for size in (1, 4, 2)]
    assert torch.equal(torch.cat(chunks), posterior.rsample(7, start()))


def test_draws_in_chunks_equal_draws_at_once_from_the_global_generator(posterior: DiagonalGaussian) -> None:
    torch.manual_seed(1)
    chunks = [posterior.rsample(size) for size in (1, 4, 2)]
    torch.manual_seed(1)
    assert torch.equal(torch.cat(chunks), posterior.rsample(7))


def test_noise_has_the_shape_and_type_of_its_model() -> None:
    noise = standard_normal(2, torch.empty(B, Z, dtype=torch.float64), torch.Generator())
    assert noise.shape == (2, B, Z) and noise.dtype == torch.float64


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_wrong_number_of_generators_is_refused(posterior: DiagonalGaussian, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} generators for 4 sentences"):
        posterior.rsample(1, generators(*range(count)))


def test_the_head_gives_the_mean_first_and_the_log_variance_second() -> None:
    head, pooled = GaussianPosterior(5, Z), torch.randn(B, 5)
    posterior = head(pooled)
    torch.testing.assert_close(posterior.mean, pooled @ head.linear.weight[:Z].T + head.linear.bias[:Z])
    torch.testing.assert_close(posterior.logvar, pooled @ head.linear.weight[Z:].T + head.linear.bias[Z:])


def test_densities_are_computed_in_float32_under_autocast() -> None:
    head, pooled = GaussianPosterior(5, Z), torch.randn(B, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = head(pooled)
        latents, log_q = posterior.rsample_with_log_prob(2)
        results = [posterior.mean, posterior.logvar, posterior.kl(), latents, log_q, log_prior(latents)]
    assert all(result.dtype == torch.float32 for result in results)
