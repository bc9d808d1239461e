"""Approximate posteriors q(z|x): what every one of them offers, and the names of those there are.

A head turns the pooled features (B, H) into a distribution object. Sizes: S draws, B sentences, Z latent dimensions;
all logarithms are natural, all KLs in nats per sentence.
"""

from typing import Any, Protocol, runtime_checkable

import torch

from .flows import PlanarFlowPosterior
from .gaussian import STANDARD_NORMAL, DiagonalGaussian, Draw, GaussianPosterior, NormalisedGaussianPosterior
from .implicit import ImplicitPosterior
from .noise import Generators
from .refinement import RefinedPosterior
from .registry import POSTERIORS
from .vmf import VonMisesFisherPosterior


class Prior(Protocol):
    """p(z), which a family of posteriors is compared with and new sentences are written from."""

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """log p(z) in nats: (..., Z) -> (...)."""

    def rsample(self, num_samples: int, like: torch.Tensor, generator: Generators = None) -> torch.Tensor:
        """Draws (S, B, Z) for `like` (B, Z)."""

    def project(self, latents: torch.Tensor) -> torch.Tensor:
        """The points of its support that latents (..., Z) stand for."""


class Proposal(Protocol):
    """A distribution of z for each sentence whose density is known, so that its draws can be weighted."""

    @property
    def mean(self) -> torch.Tensor:
        """(B, Z)."""

    def rsample_with_log_prob(
        self, num_samples: int = 1, generator: Generators = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws (S, B, Z) and the log density of each, (S, B)."""

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """The log density of latents (..., B, Z), as (..., B)."""

    def draw(self, generator: Generators = None) -> Draw:
        """One draw of each sentence, with its KL: exact, or log density - log p(z) at that draw."""


class Posterior(Protocol):
    """q(z|x) of each sentence.

    Where its density is known it also has `rsample_with_log_prob` and `log_prob`, and is its own proposal. Where
    p(z) is not N(0, I), it has that as its `prior`, and so has the head.
    """

    @property
    def mean(self) -> torch.Tensor:
        """Features of the sentences, (B, Z), of which active units are counted; for a flow, the mean of z_0."""

    @property
    def variance(self) -> torch.Tensor:
        """The variances that go with the means, (B, Z)."""

    @property
    def centre(self) -> torch.Tensor:
        """The z that stands for a sentence where none is drawn, (B, Z): the mean; for a flow, the flow of z_0's."""

    @property
    def base(self) -> DiagonalGaussian | None:
        """The same posteriors in coordinates in which they are diagonal Gaussians, if there are such.

        z must be a bijection of these coordinates that all sentences share, or densities may differ by a factor that
        all points share: neither changes the mutual information. With such a factor, `negative_entropy` is the mean
        log density of these Gaussians under the posterior itself.
        """

    @property
    def proposal(self) -> Proposal:
        """What likelihoods are estimated with: the posterior itself, or a fit to it."""

    def rsample(self, num_samples: int = 1, generator: Generators = None) -> torch.Tensor:
        """Reparametrised draws (S, B, Z)."""

    def kl(self, generator: Generators = None) -> torch.Tensor:
        """KL(q(z|x) || p(z)), (B,): in closed form where it has one, else estimated from draws of `generator`."""

    def draw(self, generator: Generators = None) -> Draw:
        """One reparametrised draw of each sentence, with its KL: exact, or an estimate."""

    def at_centre(self) -> Draw:
        """`centre` with its KL; the same at every call, and for a sentence in any batch."""


POSTERIORS.update(
    {
        "gaussian": lambda hidden_size, config: GaussianPosterior(hidden_size, config.latent_size),
        "normalised": lambda hidden_size, config: NormalisedGaussianPosterior(
            hidden_size, config.latent_size, config.mean_scale
        ),
        "planar_flow": lambda hidden_size, config: PlanarFlowPosterior(
            hidden_size, config.latent_size, config.num_flows
        ),
        "implicit": lambda hidden_size, config: ImplicitPosterior(
            hidden_size, config.latent_size, config.sampler_layers
        ),
        "vmf": lambda hidden_size, config: VonMisesFisherPosterior(
            hidden_size, config.latent_size, config.concentration
        ),
        "refined": lambda hidden_size, config: RefinedPosterior(
            hidden_size,
            config.latent_size,
            config.refinement_steps,
            config.refinement_rate,
            config.refinement_momentum,
            config.refinement_clip,
        ),
    }
)


@runtime_checkable
class PopulationHead(Protocol):
    """A head whose posteriors depend on the other sentences of the training set, by statistics that it keeps.

    Training takes them of a batch, which therefore has to be whole; the trainer gives it those of the training set.
    """

    def set_population(self, means: torch.Tensor) -> None:
        """Take the statistics of all sentences from now on, whose posteriors have these means (N, Z) in evaluation."""


def head_of(config: Any) -> Any:
    """A head as a configuration has it, to see what it and its posteriors offer; the global random state stays."""
    with torch.random.fork_rng([]):
        return POSTERIORS[config.posterior](config.encoder_hidden_size, config).eval()


def posterior_of(config: Any) -> Any:
    """A posterior (of one sentence) of the kind that a configuration has, to see what such posteriors offer."""
    with torch.enable_grad():
        return head_of(config)(torch.zeros(1, config.encoder_hidden_size))


def require_posterior(config: Any) -> None:
    """Raise ValueError for a posterior of your own that lacks something of `Posterior`, and name it."""
    offered = dir(posterior_of(config))
    missing = [name for name in vars(Posterior) if not name.startswith("_") and name not in offered]
    if missing:
        raise ValueError(
            f"model.posterior {config.posterior}: its posteriors lack {', '.join(missing)}, which "
            "modeling_seqvae.posteriors.Posterior describes"
        )


def prior_of(part: Any) -> Prior:
    """The p(z) that a posterior, or a head that makes posteriors, is compared with: its `prior`, or else N(0, I)."""
    return getattr(part, "prior", STANDARD_NORMAL)
