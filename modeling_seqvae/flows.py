"""Planar flows on top of the Gaussian posterior: z = f_K(... f_1(z_0)) (Rezende and Mohamed 2015; WAE-RNF).

Sizes: S draws, B sentences, K flows, Z latent dimensions; all logarithms are natural.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .gaussian import KL_DRAWS, DiagonalGaussian, Draw, GaussianPosterior, common_noise, log_prior
from .kernels import weight_of
from .noise import Generators

SMALLEST_SLOPE = 1e-3
"""The least that a flow may stretch space by: far enough from 0 for rounding never to fold it."""

HALVINGS = 64
"""Steps of bisection that invert a flow: enough to exhaust float64."""


class PlanarFlow(nn.Module):
    """f(z) = z + û tanh(w·z + b), with û made from u so that w·û > -1, which keeps f invertible.

    û = u + (m(w·u) - w·u) w / |w|², where m(a) = -1 + softplus(a + c) + SMALLEST_SLOPE. The constant c makes m(0) = 0,
    so that small weights are a flow that hardly moves anything, whatever their direction (Rezende and Mohamed leave it
    out; the flows that can be reached are the same). All of it is computed in float64, in which û and its slope agree.
    """

    def __init__(self, latent_size: int):
        super().__init__()
        self.inner = nn.Linear(latent_size, 1)  # w and b
        self.outer = nn.Linear(1, latent_size, bias=False)  # u

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """f(z) of latents (..., Z), and log|det df/dz| (...) in nats."""
        direction, bias, outer, slope = self._parameters_in_use()
        bend = torch.tanh((latents.double() * direction).sum(-1) + bias)  # (...)
        # 1 + w·û (1 - tanh²), written as a sum of positive terms.
        determinant = bend.square() + slope * (1 - bend.square())
        moved = latents.double() + bend[..., None] * outer
        return moved.to(latents.dtype), determinant.log().to(latents.dtype)

    @torch.no_grad()
    def inverse(self, latents: torch.Tensor) -> torch.Tensor:
        """The z whose f(z) is latents (..., Z), in float64: along w it solves a + w·û tanh(a + b) = w·f(z)."""
        direction, bias, outer, slope = self._parameters_in_use()
        latents = latents.double()
        target = (latents * direction).sum(-1)
        low, high = target - (slope - 1).abs(), target + (slope - 1).abs()
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = middle + (slope - 1) * torch.tanh(middle + bias) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return latents - torch.tanh((low + high) / 2 + bias)[..., None] * outer

    def _parameters_in_use(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """w (Z,), b (), û (Z,), and the slope 1 + w·û ()."""
        inner, outer = weight_of(self.inner)[0], weight_of(self.outer)[:, 0]
        direction, bias, outer = (parameter.double() for parameter in (inner, self.inner.bias[0], outer))
        along = (direction * outer).sum()
        slope = F.softplus(along + math.log(math.expm1(1 - SMALLEST_SLOPE))) + SMALLEST_SLOPE
        squared = direction.square().sum().clamp_min(torch.finfo(direction.dtype).tiny)
        return direction, bias, outer + (slope - 1 - along) * direction / squared, slope


class FlowPosterior:
    """q(z|x) of z = f_K(... f_1(z_0)), z_0 ~ `base`: log q(z|x) = log q(z_0|x) - sum_k log|det df_k/dz_(k-1)|."""

    def __init__(self, base: DiagonalGaussian, flows: Sequence[PlanarFlow]):
        self.base = base
        self.flows = flows

    @property
    def mean(self) -> torch.Tensor:
        """The mean of z_0, (B, Z)."""
        return self.base.mean

    @property
    def variance(self) -> torch.Tensor:
        """The variance of each dimension of z_0, (B, Z)."""
        return self.base.variance

    @property
    def centre(self) -> torch.Tensor:
        """The flow of z_0's mean, (B, Z)."""
        return self.transform(self.base.mean)[0]

    @property
    def proposal(self) -> "FlowPosterior":
        """Itself, for the density of its draws is known."""
        return self

    def transform(self, base: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """z of z_0 (..., Z), sum_k log|det| (...) in nats, and what each flow was given, (..., K, Z)."""
        latents, log_det, inputs = base, torch.zeros_like(base[..., 0]), []
        for flow in self.flows:
            inputs.append(latents)
            latents, stretched = flow(latents)
            log_det = log_det + stretched
        return latents, log_det, torch.stack(inputs, -2)

    def rsample(self, num_samples: int = 1, generator: Generators = None) -> torch.Tensor:
        """Reparametrised draws (S, B, Z)."""
        return self.transform(self.base.rsample(num_samples, generator))[0]

    def rsample_with_log_prob(
        self, num_samples: int = 1, generator: Generators = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reparametrised draws (S, B, Z) and log q(z|x) of each, (S, B) in nats."""
        base, log_q = self.base.rsample_with_log_prob(num_samples, generator)
        latents, log_det, _ = self.transform(base)
        return latents, log_q - log_det

    @torch.no_grad()
    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """log q(z|x) in nats of latents (..., B, Z), as (..., B), by inverting the flows; without a gradient."""
        base = latents
        for flow in reversed(self.flows):
            base = flow.inverse(base)
        log_q = self.base.log_prob(base) - self.transform(base)[1]
        return log_q.to(self.mean.dtype)

    def kl(self, generator: Generators = None) -> torch.Tensor:
        """KL(q(z|x) || p(z)) in nats per sentence, (B,), estimated from KL_DRAWS draws."""
        latents, log_q = self.rsample_with_log_prob(KL_DRAWS, generator)
        return (log_q - log_prior(latents)).mean(0)

    def draw(self, generator: Generators = None) -> Draw:
        """One reparametrised draw of each sentence; its KL is log q(z|x) - log p(z) at that draw."""
        return self._at(self.base.rsample(1, generator)[0])

    def at_centre(self) -> Draw:
        """The centre; its KL is estimated from the same KL_DRAWS draws of noise for every sentence."""
        spread = (0.5 * self.base.logvar).exp() * common_noise(KL_DRAWS, self.mean)
        return self._at(self.mean)._replace(kl=self._at(self.mean + spread).kl.mean(0))

    def _at(self, base: torch.Tensor) -> Draw:
        latents, log_det, inputs = self.transform(base)
        return Draw(latents, self.base.log_prob(base) - log_det - log_prior(latents), base, inputs)


class PlanarFlowPosterior(nn.Module):
    """Pooled features (B, H) -> FlowPosterior: a Gaussian head, and flows that all sentences share."""

    def __init__(self, hidden_size: int, latent_size: int, num_flows: int):
        super().__init__()
        self.gaussian = GaussianPosterior(hidden_size, latent_size)
        self.flows = nn.ModuleList(PlanarFlow(latent_size) for _ in range(num_flows))

    def forward(self, pooled: torch.Tensor) -> FlowPosterior:
        return FlowPosterior(self.gaussian(pooled), self.flows)  # type: ignore[arg-type]
