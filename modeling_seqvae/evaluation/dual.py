"""A KL divergence from draws alone, by its dual form, as iVAE trains on and reports it (Fang et al. 2019; appendix B).

KL(q || p) >= E_q[nu] - E_p[exp nu] + 1 for any function nu, with equality at nu = log q/p. A network's value is thus a
lower bound: whatever is computed with it is called by its own name (dual KL, NLL-bar), never KL or NLL.
Sizes: S draws, B sentences, H features, Z latent dimensions; all logarithms are natural.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn import functional as F

from ..configuration_seqvae import SeqVAEConfig
from ..implicit import read_both
from ..kernels import upcast

FILE = "dual_networks.safetensors"
"""The networks' weights, beside the checkpoint of the model that they were trained with."""

WIDTH = 512
LAYERS = 4
LARGEST = 40.0
"""No network's value is above it: float32 holds exp(40) and its square."""


class DualEstimate(NamedTuple):
    """The dual KL of each sentence, (B,) in nats, and the variance of each that is due to its finite draws, (B,).

    exp nu has heavy tails: where nu is large at rare draws from the prior, the variance is underestimated too.
    """

    value: torch.Tensor
    variance: torch.Tensor


def dual_kl(at_posterior: torch.Tensor, at_prior: torch.Tensor) -> DualEstimate:
    """E_q[nu] - E_p[exp nu] + 1 of nu at S draws from q and S from p, (S, B) each; no variance (nan) with S = 1."""
    at_posterior, weights = at_posterior.double(), at_prior.double().exp()
    value = at_posterior.mean(0) - weights.mean(0) + 1
    return DualEstimate(value, at_posterior.var(0) / len(at_posterior) + weights.var(0) / len(weights))


@dataclass
class DualMeasurements:
    """The dual KLs of N sentences, in order, (N,) each in nats, from draws of the posterior itself.

    The reconstruction is at the first draw; the variances are those of finitely many draws.
    """

    number: torch.Tensor
    reconstruction: torch.Tensor
    joint: torch.Tensor  # by nu(x, z), of q(z|x)
    joint_variance: torch.Tensor
    marginal: torch.Tensor  # by nu(z), of the aggregated posterior
    marginal_variance: torch.Tensor


class DualNetwork(nn.Module):
    """nu: a number (..., B) for features (B, H) and latents (..., B, Z); four layers, 512 wide, with leaky ReLUs.

    The value is bounded above by LARGEST, smoothly, so that exp nu cannot overflow and a gradient leads back. The bound
    is part of nu, wherever nu is used, so that the dual KL stays a lower bound of the KL. Autocast has no part
    in it: exp nu is computed in the weights' own precision.
    """

    def __init__(self, hidden_size: int, latent_size: int, width: int = WIDTH):
        super().__init__()
        self.first = nn.Linear(hidden_size + latent_size, width)
        inner = [nn.Linear(width, width) for _ in range(LAYERS - 2)]
        self.rest = nn.ModuleList([*inner, nn.Linear(width, 1)])

    def forward(self, features: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            state = read_both(self.first, features, latents)
            for layer in self.rest:
                state = layer(F.leaky_relu(state))
        return LARGEST - F.softplus(LARGEST - upcast(state).squeeze(-1))


class DualNetworks(nn.Module):
    """nu(x, z), whose dual KL is of q(z|x), and nu(z), whose dual KL is of the aggregated posterior q(z).

    Sentences enter by their pooled features h_x (B, H), which get no gradient.
    """

    def __init__(self, hidden_size: int, latent_size: int, width: int = WIDTH):
        super().__init__()
        self.of_both = DualNetwork(hidden_size, latent_size, width)
        self.of_latents = DualNetwork(0, latent_size, width)

    def joint(self, pooled: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """nu(x, z) of latents (..., B, Z), as (..., B)."""
        return self.of_both(pooled.detach(), latents)

    def marginal(self, pooled: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """nu(z) of latents (..., B, Z), as (..., B); the sentences have no part in it."""
        return self.of_latents(pooled.detach()[:, :0], latents)

    def forward(self, pooled: torch.Tensor, latents: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """The loss of training the networks, (): E_p[exp nu] - E_q[nu] of both, at draws (..., B, Z) of q and of p.

        No gradient reaches the draws.
        """
        latents, prior = latents.detach(), prior.detach()
        parts = [nu(pooled, prior).exp().mean() - nu(pooled, latents).mean() for nu in (self.joint, self.marginal)]
        return torch.stack(parts).sum()

    def kl(self, pooled: torch.Tensor, latents: torch.Tensor, prior: torch.Tensor) -> tuple[DualEstimate, DualEstimate]:
        """The dual KLs by nu(x, z) and by nu(z), from draws (S, B, Z) of q(z|x) and of the prior."""
        joint, marginal = (dual_kl(nu(pooled, latents), nu(pooled, prior)) for nu in (self.joint, self.marginal))
        return joint, marginal

    def save(self, directory: str | Path) -> None:
        """Write the weights beside a model's checkpoint."""
        save_model(self, str(Path(directory) / FILE))

    @classmethod
    def load(cls, directory: str | Path, config: SeqVAEConfig) -> "DualNetworks":
        """The networks beside a checkpoint of this configuration.

        Raises FileNotFoundError where there are none, and ValueError where they are damaged or of a model of another
        size.
        """
        path = Path(directory) / FILE
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}: only iVAE's objectives train dual networks")
        networks = cls.of(config)
        try:
            load_model(networks, path)
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{path} is damaged, or of another model than that beside it: {error}") from None
        return networks

    @classmethod
    def of(cls, config: SeqVAEConfig) -> "DualNetworks":
        """New networks for a model of this configuration, with PyTorch's usual initial weights."""
        return cls(config.encoder_hidden_size or config.hidden_size, config.latent_size)
