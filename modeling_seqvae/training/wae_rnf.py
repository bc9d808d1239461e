"""WAE-RNF: a Wasserstein autoencoder with a Riemannian normalising flow (Wang and Wang 2019).

The objective stands last; before it the discrepancy and the curvature of the latent space that it adds to the loss.
"""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from pydantic import Field
from torch import nn

from ..configuration_seqvae import SeqVAEConfig
from ..modeling_seqvae import SeqVAEForTextModeling
from .elbo import Elbo

TOTAL = 10.0
"""The weights of KL and discrepancy together."""

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def inverse_multiquadric(squared_distance: torch.Tensor, latent_size: int) -> torch.Tensor:
    """The sum over SCALES of C / (C + d²), with C = 2 latent_size scale, of squared distances d² of any shape.

    2 latent_size is the mean squared distance of two draws from the prior (Tolstikhin et al. 2018).
    """
    constants = squared_distance.new_tensor(SCALES) * (2 * latent_size)
    return (constants / (constants + squared_distance[..., None])).sum(-1)


def mmd(latents: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """The squared maximum mean discrepancy of two sets of latents (N, Z) and (M, Z), a number () of at least 0.

    The biased (V-statistic) estimate: each set's own pairs include every latent with itself. It is of the whole set and
    no sum over its members, and takes memory of (N + M)² Z.
    """
    both = torch.cat([latents, prior])
    kernel = inverse_multiquadric((both[:, None] - both).square().sum(-1), latents.shape[-1])  # (N + M, N + M)
    count = len(latents)
    own, other, cross = kernel[:count, :count], kernel[count:, count:], kernel[:count, count:]
    return own.mean() + other.mean() - 2 * cross.mean()


class Curvature(nn.Module):
    """beta(z) = sum over scales of C / (C + d²), d the distance of z to the nearest centre.

    The centres are buffers, so that they are part of the state of whatever holds this module. Before the first `fit`
    space is flat: the penalty is 0.
    """

    centres: torch.Tensor
    fitted: torch.Tensor

    def __init__(self, latent_size: int, num_centres: int = 20):
        super().__init__()
        self.register_buffer("centres", torch.zeros(num_centres, latent_size))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, means: torch.Tensor, seed: int) -> None:
        """Place the centres by k-means of posterior means (N, Z); the same means and seed give the same centres.

        With fewer sentences than centres, every sentence's mean is one. Raises ValueError without sentences.
        """
        from sklearn.cluster import KMeans  # here, for it takes a second to import

        if len(means) == 0:
            raise ValueError("the curvature's centres need at least one sentence")
        count = min(len(self.centres), len(means))
        found = KMeans(count, n_init=1, random_state=seed).fit(means.detach().cpu().double().numpy()).cluster_centers_
        repeated = torch.arange(len(self.centres)) % count  # a centre twice is the nearest no less
        self.centres.copy_(torch.from_numpy(found)[repeated])
        self.fitted.fill_(True)

    def weight(self, latents: torch.Tensor) -> torch.Tensor:
        """beta (...) of latents (..., Z), above 0 and at most the number of scales."""
        squared = (latents[..., None, :] - self.centres).square().sum(-1).amin(-1)
        return inverse_multiquadric(squared, latents.shape[-1])

    def penalty(self, flow_inputs: torch.Tensor) -> torch.Tensor:
        """Half the sum over flows of log beta at what each was given, (B, K, Z) -> (B,); 0 before the first `fit`."""
        return 0.5 * self.weight(flow_inputs).log().sum(-1) * self.fitted


class WaeRnf(Elbo):
    """Rec + w KL + curvature penalty + (total - w) MMD(z, prior), with the KL weight w and z after the flows.

    Posteriors are planar flows, whose KL is estimated at the draw. Space is flat while the KL weight rises; from then
    on its `centres` are those of the posterior means at each epoch's start. The discrepancy is not a sum over
    sentences: it is of those that a process computes at a time.
    """

    @staticmethod
    def require(config: SeqVAEConfig, training: Any) -> None:
        if config.posterior != "planar_flow" or config.latent_size == 0:
            raise ValueError("training.objective wae_rnf needs model.posterior planar_flow and a latent")
        total, weight = training.objective_options.get("total", TOTAL), max(training.kl_start, training.kl_stop)
        if total < weight:
            raise ValueError(
                f"training.objective wae_rnf: the option total ({total:g}) must be at least the highest KL weight "
                f"({weight:g}), or the discrepancy would be maximised"
            )

    def __init__(
        self,
        model: SeqVAEForTextModeling,
        accelerator: Accelerator,
        seed: int,
        *,
        total: Annotated[float, Field(ge=0)] = TOTAL,
        centres: Annotated[int, Field(ge=1)] = 20,
    ):
        self.accelerator = accelerator
        self.total = total
        curvature = Curvature(model.config.latent_size, centres)
        self.curvature = accelerator.prepare_model(curvature, evaluation_mode=True)  # nothing in it has a gradient
        self.seed = seed

    def output(self, model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
        output = super().output(model, batch, kl_weight)
        prior = torch.randn_like(output.latents)
        penalty = self.curvature.penalty(output.flow_inputs).mean()
        output.loss = output.loss + penalty + (self.total - kl_weight) * mmd(output.latents, prior)
        return output

    def begin_epoch(self, annealed: bool, means: Callable[[], torch.Tensor]) -> None:
        if annealed:
            self.curvature.fit(means(), self.seed)
            broadcast(list(self.curvature.buffers()))  # rounding may differ from machine to machine
