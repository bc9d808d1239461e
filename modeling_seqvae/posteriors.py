"""Approximate posteriors q(z|x): a head turns the pooled features into a distribution object.

A distribution offers `mean` and `variance` (B, Z), the features of a sentence; `rsample_with_log_prob(n)`; `kl()` to
the standard normal prior; and `log_prob(z)` where the density is known at any z. Sizes: S draws, B sentences, Z latent
dimensions; all logarithms are natural. Densities are computed in float32 even under autocast.
"""

import math

import torch
from torch import nn

from .cross_entropy import upcast
from .noise import Generators, standard_normal


def log_prior(latents: torch.Tensor) -> torch.Tensor:
    """log p(z) of the standard normal prior in nats: (..., Z) -> (...)."""
    return -0.5 * (latents.square() + math.log(2 * math.pi)).sum(-1)


class DiagonalGaussian:
    """q(z|x) = N(mean, diag(exp(logvar))), both (B, Z)."""

    def __init__(self, mean: torch.Tensor, logvar: torch.Tensor):
        self.mean = mean
        self.logvar = logvar

    @property
    def variance(self) -> torch.Tensor:
        """The variance of each latent dimension, (B, Z)."""
        return self.logvar.exp()

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

    def kl(self) -> torch.Tensor:
        """KL(q(z|x) || p(z)) in nats per sentence, (B,), in closed form (Kingma and Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + self.variance - 1 - self.logvar).sum(-1)


class GaussianPosterior(nn.Module):
    """Pooled features (B, H) -> DiagonalGaussian, by one linear layer: mean first, log-variance second."""

    def __init__(self, hidden_size: int, latent_size: int):
        super().__init__()
        self.linear = nn.Linear(hidden_size, 2 * latent_size)

    def forward(self, pooled: torch.Tensor) -> DiagonalGaussian:
        mean, logvar = upcast(self.linear(pooled)).chunk(2, dim=-1)
        return DiagonalGaussian(mean, logvar)


POSTERIORS = {"gaussian": GaussianPosterior}
"""The values of `SeqVAEConfig.posterior`: modules built with (hidden size, latent size)."""
