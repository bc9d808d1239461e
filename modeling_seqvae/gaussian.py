"""The prior N(0, I), the posterior of most rows of Table 1, a Gaussian with a diagonal covariance, and that of BN-VAE.

Sizes: S draws, B sentences, Z latent dimensions; all logarithms are natural. Densities are computed in float32 even
under autocast.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import distributed, nn

from .kernels import upcast, weight_of
from .noise import Generators, standard_normal

KL_DRAWS = 64
"""Draws of an estimate of a KL that has no closed form, where one draw is not asked for."""
SMALLEST_VARIANCE = 1e-12
"""Added to the variance of the means. Where it is smaller than this, normalised means are the shift alone."""
MOMENTUM = 0.1
"""The weight of a batch in the running statistics."""


def log_prior(latents: torch.Tensor) -> torch.Tensor:
    """log p(z) of the standard normal prior in nats: (..., Z) -> (...)."""
    return -0.5 * (latents.square() + math.log(2 * math.pi)).sum(-1)


class StandardNormal:
    """The prior p(z) = N(0, I) of all posteriors but those on the sphere."""

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """log p(z) in nats: (..., Z) -> (...)."""
        return log_prior(latents)

    def rsample(self, num_samples: int, like: torch.Tensor, generator: Generators = None) -> torch.Tensor:
        """Draws (S, B, Z) for `like` (B, Z)."""
        return standard_normal(num_samples, like, generator)

    def project(self, latents: torch.Tensor) -> torch.Tensor:
        """The points of its support that latents (..., Z) stand for: themselves."""
        return latents


STANDARD_NORMAL = StandardNormal()


def common_noise(num_samples: int, like: torch.Tensor) -> torch.Tensor:
    """Noise (S, 1, Z) for `like` (B, Z) that is the same for every sentence and at every call.

    It makes an estimate from draws a function of the sentence alone.
    """
    return standard_normal(num_samples, like.new_empty(1, like.shape[-1]), torch.Generator().manual_seed(0))


class Draw(NamedTuple):
    """One z of each sentence, and what its posterior tells of it.

    latents (B, Z); kl (B,) in nats, the KL to the prior or, without a closed form, its estimate at this draw; base
    (B, Z), the same draw in the coordinates of the posterior's `base`, None without one; flow_inputs (B, K, Z), what
    each of K flows was given, None without flows; kl_per_dimension (B, Z), whose sum is the KL, None where the
    dimensions are not independent.
    """

    latents: torch.Tensor
    kl: torch.Tensor
    base: torch.Tensor | None = None
    flow_inputs: torch.Tensor | None = None
    kl_per_dimension: torch.Tensor | None = None


class DiagonalGaussian:
    """q(z|x) = N(mean, diag(exp(logvar))), both (B, Z)."""

    def __init__(self, mean: torch.Tensor, logvar: torch.Tensor):
        self.mean = mean
        self.logvar = logvar

    @property
    def variance(self) -> torch.Tensor:
        """The variance of each latent dimension, (B, Z)."""
        return self.logvar.exp()

    @property
    def centre(self) -> torch.Tensor:
        """The mean, (B, Z)."""
        return self.mean

    @property
    def base(self) -> "DiagonalGaussian":
        """Itself."""
        return self

    @property
    def proposal(self) -> "DiagonalGaussian":
        """Itself, for its density is known."""
        return self

    def rsample(self, num_samples: int = 1, generator: Generators = None) -> torch.Tensor:
        """Reparametrised draws (S, B, Z)."""
        noise = standard_normal(num_samples, self.mean, generator)
        return self.mean + (0.5 * self.logvar).exp() * noise

    def rsample_with_log_prob(
        self, num_samples: int = 1, generator: Generators = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reparametrised draws (S, B, Z) and log q(z|x) of each, (S, B) in nats."""
        latents = self.rsample(num_samples, generator)
        return latents, self.log_prob(latents)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """log q(z|x) in nats of latents (..., B, Z), as (..., B)."""
        squared_error = (latents - self.mean).square() / self.variance
        return -0.5 * (squared_error + self.logvar + math.log(2 * math.pi)).sum(-1)

    def kl(self, generator: Generators = None) -> torch.Tensor:
        """KL(q(z|x) || p(z)) in nats per sentence, (B,), in closed form (Kingma and Welling 2014, appendix B).

        No draw is taken, so `generator` decides nothing.
        """
        return self.kl_per_dimension().sum(-1)

    def negative_entropy(self) -> torch.Tensor:
        """The mean of log q(z|x) under q(z|x), (B,) in nats."""
        return -0.5 * (math.log(2 * math.pi) + 1 + self.logvar).sum(-1)

    def kl_per_dimension(self) -> torch.Tensor:
        """The KL of each latent dimension in nats per sentence, (B, Z); their sum is the KL."""
        return 0.5 * (self.mean.square() + self.variance - 1 - self.logvar)

    def draw(self, generator: Generators = None) -> Draw:
        """One reparametrised draw of each sentence, and the closed-form KL."""
        return self._at(self.rsample(1, generator)[0])

    def at_centre(self) -> Draw:
        """The mean, and the closed-form KL."""
        return self._at(self.mean)

    def _at(self, latents: torch.Tensor) -> Draw:
        per_dimension = self.kl_per_dimension()
        return Draw(latents, per_dimension.sum(-1), base=latents, kl_per_dimension=per_dimension)


class GaussianPosterior(nn.Module):
    """Pooled features (B, H) -> DiagonalGaussian, by one linear layer: mean first, log-variance second."""

    def __init__(self, hidden_size: int, latent_size: int):
        super().__init__()
        self.linear = nn.Linear(hidden_size, 2 * latent_size)

    def forward(self, pooled: torch.Tensor) -> DiagonalGaussian:
        mean, logvar = upcast(self.linear(pooled)).chunk(2, dim=-1)
        return DiagonalGaussian(mean, logvar)


class NormalisedGaussianPosterior(nn.Module):
    """Pooled features (B, H) -> DiagonalGaussian with means γ (μ - average) / deviation + shift in each dimension.

    Means that are normalised over the batch cannot all be 0, so that the KL cannot vanish (Zhu et al. 2020).
    γ is `scale`, fixed; the shift is learned; variances are as they come. With the statistics of the sentences at hand
    the KL is at least (Z γ² + |shift|²) / 2, on average over them. In training mode these are the batch's, over all
    processes of torch.distributed (one that has no sentence of a batch reads the first, which then counts again); in
    evaluation mode those of `set_population`, or running averages until that is called.
    """

    def __init__(self, hidden_size: int, latent_size: int, scale: float):
        super().__init__()
        self.linear = nn.Linear(hidden_size, 2 * latent_size)
        self.shift = nn.Linear(1, latent_size, bias=False)  # a layer, so that it is initialised as weights are
        self.scale = scale
        self.register_buffer("average", torch.zeros(latent_size))
        self.register_buffer("mean_variance", torch.ones(latent_size))

    average: torch.Tensor
    mean_variance: torch.Tensor

    def forward(self, pooled: torch.Tensor) -> DiagonalGaussian:
        mean, logvar = upcast(self.linear(pooled)).chunk(2, dim=-1)
        average, variance = self.average, self.mean_variance
        if self.training:
            average, variance = _moments(mean)
            with torch.no_grad():
                self.average.lerp_(average.to(self.average.dtype), MOMENTUM)
                self.mean_variance.lerp_(variance.to(self.average.dtype), MOMENTUM)
        apart = variance > SMALLEST_VARIANCE  # else the division would only enlarge rounding errors
        normalised = (mean - average) * (variance + SMALLEST_VARIANCE).rsqrt() * apart
        return DiagonalGaussian(self.scale * normalised + weight_of(self.shift)[:, 0], logvar)

    @torch.no_grad()
    def set_population(self, means: torch.Tensor) -> None:
        """Normalise by all sentences of a training set from now on; `means` (N, Z) are theirs in evaluation mode."""
        deviation = (self.mean_variance + SMALLEST_VARIANCE).sqrt().double()
        before = (means.to(deviation) - weight_of(self.shift)[:, 0]) / self.scale * deviation + self.average
        self.average.copy_(before.mean(0))
        self.mean_variance.copy_(before.var(0, correction=0))


def _moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (Z,) of values (B, Z) over the sentences of all processes; gradients flow to all of them."""
    count = _Sum.apply(values.new_tensor(float(len(values))))
    mean = _Sum.apply(values.sum(0)) / count
    return mean, _Sum.apply((values - mean).square().sum(0)) / count


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes. Every process's loss depends on it, so gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _Sum.apply(gradient)


def _summed(values: torch.Tensor) -> torch.Tensor:
    if not (distributed.is_available() and distributed.is_initialized()):
        return values.clone()
    total = values.contiguous().clone()
    distributed.all_reduce(total)
    return total
