"""Posteriors by a sampler, z = G([h_x ; eps]) with eps ~ N(0, I) (Fang et al. 2019, iVAE), and what is known of them.

With G linear, z is Gaussian: its mean depends on the sentence, its covariance does not, and density and KL are exact.
With a deeper G only draws are known, and likelihoods are weighted by a proposal that is fitted to them.
Sizes: S draws, B sentences, H features, Z latent dimensions; all logarithms are natural.
"""

import math
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .gaussian import KL_DRAWS, DiagonalGaussian, Draw, common_noise, log_prior
from .kernels import upcast, weight_of
from .noise import Generators, standard_normal

FIT_DRAWS = 512
"""Encoder draws of a sentence that its proposal is fitted to, at least; and at least four for each dimension of z."""

WIDENING = 1.2
"""How much larger a proposal's covariance is than that of the draws it is fitted to."""

PRIOR_SHARE = 0.05
"""The share of the prior in a proposal: no importance weight exceeds p(x|z) / PRIOR_SHARE."""

LEAST_VARIANCE = 1e-6
"""Added to a fitted covariance, so that draws that hardly vary have a density."""


class SharedGaussian:
    """q(z|x) = N(mean, B Bᵀ): a mean (B, Z) for each sentence, and one matrix B (Z, Z) for all of them.

    Densities are computed in float64, since B may be close to singular. With a singular B the KL is infinite.
    """

    def __init__(self, mean: torch.Tensor, matrix: torch.Tensor):
        self.mean = mean
        self.matrix = matrix.double()

    @property
    def variance(self) -> torch.Tensor:
        """The variance of each latent dimension, (B, Z)."""
        return self.matrix.square().sum(1).to(self.mean.dtype).expand_as(self.mean)

    @property
    def centre(self) -> torch.Tensor:
        """The mean, (B, Z)."""
        return self.mean

    @property
    def base(self) -> DiagonalGaussian:
        """The posterior of B⁻¹z, whose covariance is the identity; in float64."""
        mean = self._whitened(self.mean)
        return DiagonalGaussian(mean, torch.zeros_like(mean))

    @property
    def proposal(self) -> "SharedGaussian":
        """Itself, for its density is known."""
        return self

    def rsample(self, num_samples: int = 1, generator: Generators = None) -> torch.Tensor:
        """Reparametrised draws (S, B, Z)."""
        return self._at(standard_normal(num_samples, self.mean, generator))

    def rsample_with_log_prob(
        self, num_samples: int = 1, generator: Generators = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reparametrised draws (S, B, Z) and log q(z|x) of each, (S, B) in nats."""
        noise = standard_normal(num_samples, self.mean, generator)
        return self._at(noise), self._log_density(noise)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """log q(z|x) in nats of latents (..., B, Z), as (..., B)."""
        return self._log_density(self._whitened(latents.double() - self.mean.double()))

    def kl(self, generator: Generators = None) -> torch.Tensor:
        """KL(q(z|x) || p(z)) = (tr B Bᵀ + |mean|² - Z - log det B Bᵀ) / 2 in nats per sentence, (B,).

        The log determinant is from the singular values of B. No draw is taken, so `generator` decides nothing.
        """
        shared = self.matrix.square().sum() - len(self.matrix) - 2 * self._log_det()
        return (0.5 * (self.mean.double().square().sum(-1) + shared)).to(self.mean.dtype)

    def draw(self, generator: Generators = None) -> Draw:
        """One reparametrised draw of each sentence, and the closed-form KL."""
        noise = standard_normal(1, self.mean, generator)[0]
        return Draw(self._at(noise), self.kl(), base=self.base.mean + noise)

    def at_centre(self) -> Draw:
        """The mean, and the closed-form KL."""
        return Draw(self.mean, self.kl(), base=self.base.mean)

    def _at(self, noise: torch.Tensor) -> torch.Tensor:
        return (self.mean + noise.double() @ self.matrix.T).to(self.mean.dtype)

    def _whitened(self, vectors: torch.Tensor) -> torch.Tensor:
        """B⁻¹ times vectors (..., Z)."""
        flat = vectors.double().flatten(0, -2)
        return torch.linalg.solve_ex(self.matrix.T, flat, left=False)[0].reshape(vectors.shape)

    def _log_density(self, whitened: torch.Tensor) -> torch.Tensor:
        return (log_prior(whitened.double()) - self._log_det()).to(self.mean.dtype)

    def _log_det(self) -> torch.Tensor:
        """log |det B|."""
        return torch.linalg.svdvals(self.matrix).log().sum()


class FittedProposal:
    """A distribution fitted to the draws of another: PRIOR_SHARE of the prior, the rest N(mean, covariance).

    mean (B, Z) and covariance (B, Z, Z) of the draws, the latter widened by WIDENING. Importance weights under it are
    bounded, and an estimate with it is as valid as with any proposal; how tight it is depends on the fit.
    """

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor, dtype: torch.dtype):
        least = LEAST_VARIANCE * torch.eye(mean.shape[-1], dtype=torch.float64, device=mean.device)
        self.scale = torch.linalg.cholesky(WIDENING * covariance.double() + least)  # (B, Z, Z)
        self.mean = mean.to(dtype)

    def rsample_with_log_prob(
        self, num_samples: int = 1, generator: Generators = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws (S, B, Z), reparametrised but for the choice of the part, and the log density of each, (S, B)."""
        latents = self._at(standard_normal(num_samples, self._one_more(), generator))
        return latents, self.log_prob(latents)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """The log density in nats of latents (..., B, Z), as (..., B)."""
        latents = latents.double()
        centred = (latents - self.mean.double())[..., None]
        whitened = torch.linalg.solve_triangular(self.scale, centred, upper=False).squeeze(-1)
        fitted = log_prior(whitened) - self.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        parts = (fitted + math.log1p(-PRIOR_SHARE), log_prior(latents) + math.log(PRIOR_SHARE))
        return torch.logaddexp(*parts).to(self.mean.dtype)

    def kl(self, generator: Generators = None) -> torch.Tensor:
        """The KL of this distribution to the prior in nats per sentence, (B,), estimated from KL_DRAWS draws."""
        return self._kl_at(self._at(standard_normal(KL_DRAWS, self._one_more(), generator))).mean(0)

    def common_kl(self) -> torch.Tensor:
        """`kl` with the same noise for every sentence and at every call."""
        return self._kl_at(self._at(common_noise(KL_DRAWS, self._one_more()))).mean(0)

    def draw(self, generator: Generators = None) -> Draw:
        """One draw of each sentence; its KL is the log density ratio to the prior at that draw."""
        latents = self._at(standard_normal(1, self._one_more(), generator)[0])
        return Draw(latents, self._kl_at(latents))

    def _one_more(self) -> torch.Tensor:
        """The shape of noise: Z numbers for the draw, and one that chooses the part it is from."""
        return self.mean.new_empty(self.mean.shape[0], self.mean.shape[1] + 1)

    def _at(self, noise: torch.Tensor) -> torch.Tensor:
        own, choice = noise.double().split([noise.shape[-1] - 1, 1], -1)
        fitted = self.mean.double() + (self.scale @ own[..., None]).squeeze(-1)
        from_prior = torch.special.ndtr(choice) < PRIOR_SHARE
        return torch.where(from_prior, own, fitted).to(self.mean.dtype)

    def _kl_at(self, latents: torch.Tensor) -> torch.Tensor:
        return self.log_prob(latents) - log_prior(latents)


class SampledPosterior:
    """q(z|x) known by its draws alone: `sampler` maps noise (S, B or 1, Z) to draws (S, B, Z).

    It has no `log_prob` and no `base`. Mean, variance and proposal are of draws from fixed noise, and so functions of
    the sentence. `like` (B, Z) tells the shape, type and device of z.
    """

    base = None

    def __init__(self, sampler: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor):
        self.sampler = sampler
        self.like = like

    @property
    def mean(self) -> torch.Tensor:
        """The mean of the fixed draws, (B, Z)."""
        return self._moments[0].to(self.like.dtype)

    @property
    def variance(self) -> torch.Tensor:
        """The variance of the fixed draws in each latent dimension, (B, Z)."""
        return self._moments[1].diagonal(dim1=-2, dim2=-1).to(self.like.dtype)

    @property
    def centre(self) -> torch.Tensor:
        """The mean, (B, Z)."""
        return self.mean

    @cached_property
    def proposal(self) -> FittedProposal:
        """A distribution of known density, fitted to the fixed draws."""
        return FittedProposal(*self._moments, self.like.dtype)

    def rsample(self, num_samples: int = 1, generator: Generators = None) -> torch.Tensor:
        """Reparametrised draws (S, B, Z)."""
        return self.sampler(standard_normal(num_samples, self.like, generator))

    def kl(self, generator: Generators = None) -> torch.Tensor:
        """The KL of the proposal, not of q, in nats per sentence, (B,), estimated from draws."""
        return self.proposal.kl(generator)

    def draw(self, generator: Generators = None) -> Draw:
        """One reparametrised draw of each sentence, and the estimated KL of the proposal."""
        return Draw(self.rsample(1, generator)[0], self.proposal.common_kl())

    def at_centre(self) -> Draw:
        """The mean, and the KL of the proposal, estimated with the same noise for every sentence."""
        return Draw(self.mean, self.proposal.common_kl())

    @cached_property
    def _moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (B, Z) and covariance (B, Z, Z) of the fixed draws, in float64."""
        draws = self.sampler(_balanced_noise(self.like)).double()  # (S, B, Z)
        mean = draws.mean(0)
        spread = draws - mean
        return mean, torch.einsum("sbi,sbj->bij", spread, spread) / len(draws)


def _balanced_noise(like: torch.Tensor) -> torch.Tensor:
    """Fixed noise (S, 1, Z), the same for every sentence, with a mean of exactly 0 and covariance I."""
    noise = common_noise(max(FIT_DRAWS, 4 * like.shape[1]), like)[:, 0].double()
    noise = noise - noise.mean(0)
    scale = torch.linalg.cholesky(noise.T @ noise / len(noise))
    return torch.linalg.solve_triangular(scale, noise.T, upper=False).T[:, None].to(like.dtype)


class ImplicitPosterior(nn.Module):
    """Pooled features (B, H) -> the distribution of G([h_x ; eps]), with G of `num_layers` linear layers.

    One layer gives a SharedGaussian. More, with leaky ReLUs between them and H wide, give a SampledPosterior.
    """

    def __init__(self, hidden_size: int, latent_size: int, num_layers: int = 1):
        super().__init__()
        widths = [hidden_size + latent_size, *[hidden_size] * (num_layers - 1), latent_size]
        self.layers: Any = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(widths))
        self.latent_size = latent_size

    def forward(self, pooled: torch.Tensor) -> SharedGaussian | SampledPosterior:
        if len(self.layers) > 1:
            like = upcast(pooled.new_empty(pooled.shape[0], self.latent_size))
            return SampledPosterior(lambda noise: self._sample(pooled, noise), like)
        layer = self.layers[0]
        mean = read_both(layer, pooled, pooled.new_zeros(pooled.shape[0], self.latent_size))
        return SharedGaussian(upcast(mean), weight_of(layer)[:, -self.latent_size :])

    def _sample(self, pooled: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        first, *rest = self.layers
        state = read_both(first, pooled, noise)
        for layer in rest:
            state = layer(F.leaky_relu(state))
        return upcast(state)


def read_both(layer: nn.Linear, features: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """layer([features ; others]) of features (B, H) and others (..., B or 1, Z), without repeating the features."""
    weight = weight_of(layer)
    of_features, of_others = weight.split([features.shape[-1], others.shape[-1]], dim=1)
    read = F.linear(features.to(weight.dtype), of_features, layer.bias)
    return read + F.linear(others.to(weight.dtype), of_others)
