"""A Gaussian posterior whose means are normalised over the batch, so that its KL cannot vanish (Zhu et al. 2020).

Sizes: B sentences, Z latent dimensions; all logarithms are natural, all KLs in nats per sentence.
"""

from typing import Any

import torch
from torch import distributed, nn

from .gaussian import DiagonalGaussian
from .kernels import upcast

SMALLEST_VARIANCE = 1e-12
"""Added to the variance of the means. Of sentences that differ by less the mean is the shift, as of a single one."""
MOMENTUM = 0.1
"""The weight of a batch in the running statistics."""


class NormalisedGaussianPosterior(nn.Module):
    """Pooled features (B, H) -> DiagonalGaussian with means γ (μ - average) / deviation + shift in each dimension.

    γ is `scale`, fixed; the shift is learned; variances are as they come. With the statistics of the sentences at hand
    the KL is at least (Z γ² + |shift|²) / 2, on average over them. In training mode these are the batch's, over all
    processes of torch.distributed; in evaluation mode those of `set_population`, or running averages until that is
    called.
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
        apart = variance > SMALLEST_VARIANCE  # else a division that multiplies what rounding leaves of the gradient
        normalised = (mean - average) * (variance + SMALLEST_VARIANCE).rsqrt() * apart
        return DiagonalGaussian(self.scale * normalised + self.shift.weight[:, 0], logvar)

    @torch.no_grad()
    def set_population(self, means: torch.Tensor) -> None:
        """Normalise by all sentences of a training set from now on; `means` (N, Z) are theirs in evaluation mode."""
        deviation = (self.mean_variance + SMALLEST_VARIANCE).sqrt().double()
        before = (means.to(deviation) - self.shift.weight[:, 0]) / self.scale * deviation + self.average
        self.average.copy_(before.mean(0))
        self.mean_variance.copy_(before.var(0, correction=0))


def _moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (Z,) of values (B, Z) over the sentences of all processes; gradients flow to all of them."""
    count = _Sum.apply(values.new_tensor(float(len(values))))
    mean = _Sum.apply(values.sum(0)) / count
    return mean, _Sum.apply((values - mean).square().sum(0)) / count


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes. What each makes of it is part of the loss of all: so are its gradients."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _summed(gradient)


def _summed(values: torch.Tensor) -> torch.Tensor:
    if not (distributed.is_available() and distributed.is_initialized()):
        return values.clone()
    total = values.contiguous().clone()
    distributed.all_reduce(total)
    return total
