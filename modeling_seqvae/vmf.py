"""Posteriors on the unit sphere: von Mises-Fisher distributions of one concentration (Xu and Durrett 2018).

The density of z in S^(Z-1) is C_Z(κ) exp(κ μ·z), with respect to the sphere's area; the prior is uniform. Draws are
Wood's (1994). Sizes: S draws, B sentences, R proposals, Z latent dimensions; all logarithms are natural.
"""

import math
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from .gaussian import DiagonalGaussian, Draw
from .kernels import upcast
from .noise import Generators, standard_normal

PROPOSALS = 32
"""Proposals of the rejection scheme for each draw. It accepts 3 in 5 or more: all are rejected once in 10^12 draws."""

OFF_SPHERE = 1e-2
"""How far a point's length may be from 1, by rounding in bfloat16 too."""


@cache
def log_bessel(order: float, x: float) -> float:
    """log I_order(x) of the modified Bessel function of the first kind, x > 0, by its series of positive terms.

    The terms rise up to about number x / 2 and fall fast from there; all of it in logarithms. Plain numbers, so that it
    is a constant wherever a model is traced or exported.
    """
    terms = [
        (2 * k + order) * math.log(x / 2) - math.lgamma(k + 1) - math.lgamma(k + order + 1) for k in range(int(x) + 200)
    ]
    largest = max(terms)
    return largest + math.log(math.fsum(math.exp(term - largest) for term in terms))


class UniformSphere:
    """The prior of latents on the unit sphere: the same density everywhere on it."""

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """log p(z) = -log area of the sphere, in nats: latents (..., Z) -> (...)."""
        half = latents.shape[-1] / 2
        area = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
        return torch.full_like(latents[..., 0], -area)

    def rsample(self, num_samples: int, like: torch.Tensor, generator: Generators = None) -> torch.Tensor:
        """Draws (S, B, Z) for `like` (B, Z)."""
        return self.project(standard_normal(num_samples, like, generator))

    def project(self, latents: torch.Tensor) -> torch.Tensor:
        """The points of the sphere in the directions of latents (..., Z)."""
        return F.normalize(latents, dim=-1)


class VonMisesFisher:
    """q(z|x) = vMF(direction, concentration): a unit vector (B, Z) for each sentence, and one κ for all of them."""

    prior = UniformSphere()

    def __init__(self, direction: torch.Tensor, concentration: float):
        self.direction = direction
        self.concentration = concentration

    @property
    def mean(self) -> torch.Tensor:
        """E z = A direction, (B, Z), inside the sphere; A = I_(Z/2)(κ) / I_(Z/2-1)(κ)."""
        return self._length * self.direction

    @property
    def variance(self) -> torch.Tensor:
        """The variance of each coordinate of z, (B, Z)."""
        across = self._length / self.concentration  # of each direction at right angles to the mean's
        along = 1 - (self.direction.shape[-1] - 1) * across - self._length**2
        return across + (along - across) * self.direction.square()

    @property
    def centre(self) -> torch.Tensor:
        """The direction, (B, Z), where the density is highest."""
        return self.direction

    @property
    def base(self) -> "EquallySpread":
        """Gaussians whose log densities, at points of the sphere, differ from these by the same number everywhere."""
        return EquallySpread(self)

    @property
    def proposal(self) -> "VonMisesFisher":
        """Itself, for its density is known."""
        return self

    def rsample(self, num_samples: int = 1, generator: Generators = None) -> torch.Tensor:
        """Draws (S, B, Z), reparametrised in the direction: z = w μ + sqrt(1 - w²) v, v at right angles to μ.

        w is drawn by Wood's rejection scheme, v as a Gaussian without its part along μ, which is made a unit vector.
        Each draw is a function of as much noise, whatever was rejected.
        """
        sentences, size = self.direction.shape
        noise = standard_normal(
            num_samples, self.direction.new_empty(sentences, size + PROPOSALS * (size + 1)), generator
        )
        tangent, proposals = noise.split([size, PROPOSALS * (size + 1)], -1)
        along = self._along(proposals.unflatten(-1, (PROPOSALS, size + 1)).double())[..., None]  # (S, B, 1)
        across = tangent - (tangent * self.direction).sum(-1, keepdim=True) * self.direction
        across = F.normalize(across, dim=-1)
        return along.to(noise) * self.direction + (1 - along.square()).clamp_min(0).sqrt().to(noise) * across

    def rsample_with_log_prob(
        self, num_samples: int = 1, generator: Generators = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws (S, B, Z) and log q(z|x) of each, (S, B) in nats."""
        latents = self.rsample(num_samples, generator)
        return latents, self._log_density(latents)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """log q(z|x) in nats of latents (..., B, Z), as (..., B). Raises ValueError for points off the sphere."""
        lengths = latents.norm(dim=-1)
        if not torch.allclose(lengths, torch.ones_like(lengths), rtol=0, atol=OFF_SPHERE):
            raise ValueError(
                "a von Mises-Fisher posterior has a density on the unit sphere: latents must have length 1"
            )
        return self._log_density(latents)

    def kl(self, generator: Generators = None) -> torch.Tensor:
        """KL(q(z|x) || p(z)) = κ A + log C_Z(κ) + log area in nats per sentence, (B,): the same for all.

        No draw is taken, so `generator` decides nothing, and it has no gradient.
        """
        nats = self.concentration * self._length + self._log_constant - float(self.prior.log_prob(self._one_point))
        return self.direction.new_full(self.direction.shape[:1], nats)

    def draw(self, generator: Generators = None) -> Draw:
        """One draw of each sentence, and the closed-form KL."""
        latents = self.rsample(1, generator)[0]
        return Draw(latents, self.kl(), base=latents)

    def at_centre(self) -> Draw:
        """The direction, and the closed-form KL."""
        return Draw(self.direction, self.kl(), base=self.direction)

    def _along(self, noise: torch.Tensor) -> torch.Tensor:
        """w = μ·z (S, B) by Wood's scheme, from noise (S, B, R, Z + 1): the first proposal that is accepted.

        The first coordinate t of a uniform point of the sphere is (1 + t) / 2 ~ Beta((Z-1)/2, (Z-1)/2), the envelope's.
        """
        free, kappa = noise.shape[-1] - 2, self.concentration  # Z - 1
        b = free / (2 * kappa + math.sqrt(4 * kappa**2 + free**2))
        x = (1 - b) / (1 + b)
        c = kappa * x + free * math.log1p(-(x**2))
        point, uniform = noise.split([noise.shape[-1] - 1, 1], -1)
        beta = (1 + point[..., 0] / point.norm(dim=-1)) / 2
        w = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)  # (S, B, R)
        accepted = kappa * w + free * torch.log1p(-x * w) - c >= torch.special.log_ndtr(uniform[..., 0])
        first = accepted.to(torch.uint8).argmax(-1, keepdim=True)
        return w.gather(-1, first)[..., 0]

    def _log_density(self, latents: torch.Tensor) -> torch.Tensor:
        cosine = (latents.double() * self.direction.double()).sum(-1)
        return (self._log_constant + self.concentration * cosine).to(self.direction.dtype)

    @property
    def _one_point(self) -> torch.Tensor:
        return torch.zeros(self.direction.shape[-1], dtype=torch.float64)

    @property
    def _length(self) -> float:
        """A, the length of E z."""
        order = self.direction.shape[-1] / 2
        return math.exp(log_bessel(order, self.concentration) - log_bessel(order - 1, self.concentration))

    @property
    def _log_constant(self) -> float:
        """log C_Z(κ)."""
        order = self.direction.shape[-1] / 2 - 1
        bessel = log_bessel(order, self.concentration)
        return order * math.log(self.concentration) - (order + 1) * math.log(2 * math.pi) - bessel


class EquallySpread(DiagonalGaussian):
    """N(direction, 1/κ) in each dimension. On the sphere it is a vMF density but for a factor that all points share.

    log q(z|x) - log q(z), of which mutual information is made, is therefore the same by either.
    """

    def __init__(self, posterior: VonMisesFisher):
        spread = torch.full_like(posterior.direction, -math.log(posterior.concentration))
        super().__init__(posterior.direction, spread)
        self.posterior = posterior

    def negative_entropy(self) -> torch.Tensor:
        """The mean of its own log density under the vMF distribution, (B,) in nats."""
        within = self.posterior.concentration * (1 - self.posterior._length)
        return -0.5 * (self.logvar + math.log(2 * math.pi)).sum(-1) - within


class VonMisesFisherPosterior(nn.Module):
    """Pooled features (B, H) -> VonMisesFisher, whose direction is that of one linear layer's output."""

    prior = UniformSphere()

    def __init__(self, hidden_size: int, latent_size: int, concentration: float):
        super().__init__()
        self.linear = nn.Linear(hidden_size, latent_size)
        self.concentration = float(concentration)

    def forward(self, pooled: torch.Tensor) -> VonMisesFisher:
        return VonMisesFisher(F.normalize(upcast(self.linear(pooled)), dim=-1), self.concentration)
