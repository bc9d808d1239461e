"""The aggregated posterior q(z) = E_x q(z|x) as a Gaussian mixture, to sample from where it is not the prior.

N draws, K components, Z latent dimensions.
"""

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .argument_checks import sklearn
from .carried_parts import file_beside

FILE = "aggregate.safetensors"
"""What stands beside the weights of a model that has one."""

COMPONENTS = 10
"""Gaussians of a mixture."""

LEAST_DRAWS = 10_000
"""Draws that a mixture is fitted to, at least: of fewer texts several each."""

LEAST_VARIANCE = 1e-6
"""Added to the variances of a component, so that draws in one place have a density."""


class AggregatePosterior:
    """A mixture of K Gaussians: weights (K,), means (K, Z), scales L (K, Z, Z), with covariances L Lᵀ."""

    def __init__(self, weights: torch.Tensor, means: torch.Tensor, scales: torch.Tensor):
        self.weights = weights.double()
        self.means = means.double()
        self.scales = scales.double()

    @classmethod
    def fit(cls, draws: NDArray, components: int = COMPONENTS, seed: int = 0) -> Self:
        """The mixture of the highest likelihood for draws (N, Z), as scikit-learn's EM finds it from k-means.

        Raises ValueError for fewer draws than components.
        """
        if len(draws) < components:
            raise ValueError(f"{components} components need as many draws or more, and there are {len(draws)}")
        mixture = sklearn("mixture").GaussianMixture(components, reg_covar=LEAST_VARIANCE, random_state=seed % 2**32)
        mixture.fit(np.asarray(draws, np.float64))
        scales = np.linalg.cholesky(mixture.covariances_)
        return cls(*map(torch.from_numpy, (mixture.weights_, mixture.means_, scales)))

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Latents (num_samples, Z), float32, on the CPU."""
        if num_samples == 0:
            return self.means.new_empty(0, self.means.shape[1]).float()
        chosen = torch.multinomial(self.weights, num_samples, replacement=True, generator=generator)
        noise = torch.randn(num_samples, self.means.shape[1], 1, generator=generator, dtype=self.means.dtype)
        return (self.means[chosen] + (self.scales[chosen] @ noise).squeeze(-1)).float()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it into a folder as FILE."""
        names = ("weights", "means", "scales")
        save_file({name: getattr(self, name).contiguous() for name in names}, Path(folder) / FILE)

    @classmethod
    def load(cls, source: str, latent_size: int, **hub_arguments: Any) -> Self | None:
        """What stands beside the weights in a folder or a model on the hub; None where there is none.

        Raises ValueError for a file that is damaged or of another number of latent dimensions.
        """
        path = file_beside(source, FILE, **hub_arguments)
        if path is None:
            return None
        try:
            found = cls(**load_file(path))
        except (SafetensorError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it, and fit it again") from error
        if found.means.shape[1:] != (latent_size,) or found.scales.shape[1:] != (latent_size, latent_size):
            size = found.means.shape[-1]
            raise ValueError(f"{path} is of {size} latent dimensions, and the model has {latent_size}: fit it again")
        return found


__all__ = ["AggregatePosterior"]
