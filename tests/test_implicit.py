"""Samplers: a linear one is torch.distributions' full Gaussian, a deep one is what is fitted to its draws."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, kl_divergence

from modeling_seqvae.gaussian import log_prior
from modeling_seqvae.implicit import (
    LEAST_VARIANCE,
    PRIOR_SHARE,
    WIDENING,
    FittedProposal,
    ImplicitPosterior,
    SampledPosterior,
    SharedGaussian,
    read_both,
)  # fmt: skip

B, H, Z = 5, 4, 3


@pytest.fixture
def shared() -> SharedGaussian:
    return SharedGaussian(torch.randn(B, Z).double(), torch.randn(Z, Z).double())


def as_distribution(posterior: SharedGaussian) -> MultivariateNormal:
    return MultivariateNormal(posterior.mean, posterior.matrix @ posterior.matrix.T)


def prior() -> MultivariateNormal:
    return MultivariateNormal(torch.zeros(B, Z).double(), torch.eye(Z).double())


def linear_sampler(posterior: SharedGaussian) -> SampledPosterior:
    """The same distribution, known by its draws alone."""
    return SampledPosterior(lambda noise: posterior.mean + noise @ posterior.matrix.T, posterior.mean)


# A linear sampler


def test_density_and_variance_equal_torch_distributions(shared: SharedGaussian) -> None:
    latents = 2 * torch.randn(7, B, Z).double()
    expected = as_distribution(shared)
    torch.testing.assert_close(shared.log_prob(latents), expected.log_prob(latents))
    torch.testing.assert_close(shared.log_prob(latents[0]), expected.log_prob(latents[0]))
    torch.testing.assert_close(shared.variance, expected.variance)


def test_kl_equals_torch_distributions(shared: SharedGaussian) -> None:
    torch.testing.assert_close(shared.kl(), kl_divergence(as_distribution(shared), prior()))


def test_the_prior_has_no_kl_to_itself() -> None:
    rotation = torch.linalg.qr(torch.randn(Z, Z).double())[0]  # B Bᵀ = I
    kl = SharedGaussian(torch.zeros(B, Z).double(), rotation).kl()
    torch.testing.assert_close(kl, torch.zeros(B).double(), rtol=0, atol=1e-12)


def test_the_gradient_of_the_kl_is_its_slope() -> None:
    mean, matrix = torch.randn(B, Z).double().requires_grad_(), torch.randn(Z, Z).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, b: SharedGaussian(m, b).kl(), (mean, matrix))


@pytest.mark.parametrize("least", [1e-3, 1e-6, 1e-12])
def test_the_determinant_of_a_nearly_singular_matrix_is_exact(least: float) -> None:
    """From single-precision weights, of which B Bᵀ would lose the small singular values."""
    values = torch.tensor([least, 0.5, 2.0])
    axes = torch.eye(Z)[[1, 2, 0]]
    posterior = SharedGaussian(torch.zeros(B, Z), axes @ values.diag())
    expected = 0.5 * (values.square().sum() - Z - 2 * values.double().log().sum()).float()
    torch.testing.assert_close(posterior.kl(), expected.expand(B))
    latents, log_q = posterior.rsample_with_log_prob(3)
    torch.testing.assert_close(log_q, posterior.log_prob(latents), rtol=0, atol=1e-2)


def test_a_singular_matrix_has_an_infinite_kl() -> None:
    assert SharedGaussian(torch.zeros(B, Z), torch.zeros(Z, Z)).kl().tolist() == [math.inf] * B


def test_the_head_is_one_linear_layer_of_features_and_noise() -> None:
    head, pooled = ImplicitPosterior(H, Z), torch.randn(B, H)
    posterior = head(pooled)
    noise = torch.randn(1, B, Z, generator=torch.Generator().manual_seed(0))
    draw = posterior.rsample(1, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(draw, head.layers[0](torch.cat([pooled, noise[0]], -1)))
    torch.testing.assert_close(posterior.mean, head.layers[0](torch.cat([pooled, torch.zeros(B, Z)], -1)))


def test_a_deep_head_is_a_perceptron_of_features_and_noise() -> None:
    head, pooled = ImplicitPosterior(H, Z, 3), torch.randn(B, H)
    perceptron = nn.Sequential(head.layers[0], nn.LeakyReLU(), head.layers[1], nn.LeakyReLU(), head.layers[2])
    noise = torch.randn(1, B, Z, generator=torch.Generator().manual_seed(0))
    draw = head(pooled).rsample(1, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(draw, perceptron(torch.cat([pooled, noise[0]], -1)))


def test_reading_both_is_reading_them_side_by_side() -> None:
    layer, features = nn.Linear(H + Z, 6), torch.randn(B, H)
    for others in (torch.randn(7, B, Z), torch.randn(B, Z)):
        expected = layer(torch.cat([features.expand(*others.shape[:-1], H), others], -1))
        torch.testing.assert_close(read_both(layer, features, others), expected)
    same_for_all = torch.randn(7, 1, Z)
    expected = layer(torch.cat([features.expand(7, B, H), same_for_all.expand(7, B, Z)], -1))
    torch.testing.assert_close(read_both(layer, features, same_for_all), expected)


# A sampler of which only draws are known


def test_moments_of_a_linear_sampler_are_exact(shared: SharedGaussian) -> None:
    sampled = linear_sampler(shared)
    torch.testing.assert_close(sampled.mean, shared.mean)
    torch.testing.assert_close(sampled.variance, shared.variance)
    torch.testing.assert_close(sampled._moments[1], (shared.matrix @ shared.matrix.T).expand(B, Z, Z))


def test_moments_of_a_deep_sampler_are_those_of_many_draws() -> None:
    head = ImplicitPosterior(H, Z, 2).double()
    for parameter in head.parameters():
        nn.init.uniform_(parameter, -1, 1)
    posterior = head(torch.randn(B, H).double())
    draws = posterior.rsample(50_000, torch.Generator().manual_seed(1))
    error = (posterior.variance / 512).sqrt()  # of as few draws as the moments are of
    assert ((posterior.mean - draws.mean(0)).abs() < 4 * error).all()
    torch.testing.assert_close(posterior.variance, draws.var(0), rtol=0.25, atol=0)


def test_moments_of_more_dimensions_than_draws() -> None:
    posterior = SampledPosterior(lambda noise: noise.expand(-1, B, -1), torch.zeros(B, 200))
    torch.testing.assert_close(posterior.variance, torch.ones(B, 200))


@pytest.fixture
def proposal(shared: SharedGaussian) -> FittedProposal:
    return linear_sampler(shared).proposal


def test_the_proposal_is_a_mixture_of_the_widened_fit_and_the_prior(
    shared: SharedGaussian, proposal: FittedProposal
) -> None:
    wide = WIDENING * shared.matrix @ shared.matrix.T + LEAST_VARIANCE * torch.eye(Z).double()
    means = torch.stack([shared.mean, torch.zeros(B, Z).double()], 1)
    covariances = torch.stack([wide, torch.eye(Z).double()]).expand(B, 2, Z, Z)
    shares = Categorical(torch.tensor([1 - PRIOR_SHARE, PRIOR_SHARE]).double().expand(B, 2))
    expected = MixtureSameFamily(shares, MultivariateNormal(means, covariances))
    latents = 2 * torch.randn(9, B, Z).double()
    torch.testing.assert_close(proposal.log_prob(latents), expected.log_prob(latents))


def test_weights_of_the_proposal_are_bounded(proposal: FittedProposal) -> None:
    latents = torch.randn(1000, B, Z).double() * torch.logspace(-2, 2, 1000)[:, None, None]
    weights = log_prior(latents) - proposal.log_prob(latents)
    assert (weights <= -math.log(PRIOR_SHARE) + 1e-9).all()


def test_the_share_of_the_prior_is_drawn() -> None:
    far = FittedProposal(torch.full((B, Z), 50.0), torch.eye(Z).expand(B, Z, Z), torch.float32)
    draws = far.rsample_with_log_prob(20_000, torch.Generator().manual_seed(0))[0]
    share = (draws[..., 0] < 25).float().mean().item()
    assert share == pytest.approx(PRIOR_SHARE, abs=0.003)


def test_draws_that_do_not_vary_have_a_proposal_too() -> None:
    posterior = SampledPosterior(lambda noise: torch.ones(len(noise), B, Z), torch.zeros(B, Z))
    latents, log_q = posterior.proposal.rsample_with_log_prob(100)
    assert log_q.isfinite().all() and latents.isfinite().all()


def test_the_proposal_is_fitted_to_other_draws_than_it_gives(shared: SharedGaussian) -> None:
    """What a generator draws does not change the fit."""
    sampled = linear_sampler(shared)
    first = sampled.proposal.log_prob(shared.mean)
    sampled.rsample(5)
    sampled.proposal.rsample_with_log_prob(5)
    assert torch.equal(linear_sampler(shared).proposal.log_prob(shared.mean), first)


def test_the_kl_of_a_deep_sampler_is_its_proposal_s_and_trains_it() -> None:
    head, pooled = ImplicitPosterior(H, Z, 2), torch.randn(B, H)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    before = head(pooled).at_centre().kl.mean().item()
    for _ in range(100):
        head(pooled).draw().kl.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    posterior = head(pooled)
    assert posterior.at_centre().kl.mean().item() < 0.2 * before
    torch.testing.assert_close(posterior.draw().kl, posterior.at_centre().kl)
