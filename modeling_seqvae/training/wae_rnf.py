"""WAE-RNF: a Wasserstein autoencoder with a Riemannian normalising flow (Wang and Wang 2019)."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from ..configuration_seqvae import SeqVAEConfig
from ..modeling_seqvae import SeqVAEForTextModeling
from .curvature import Curvature
from .elbo import Elbo
from .mmd import mmd

TOTAL = 10.0
"""The weights of the KL and of the discrepancy add up to this."""


class WaeRnf(Elbo):
    """Rec + w KL + curvature penalty + (10 - w) MMD(z, prior), with the KL weight w and z after the flows.

    Posteriors are planar flows, whose KL is estimated at the draw. Space is flat while the KL weight rises; from then
    on its centres are those of the posterior means at each epoch's start. The discrepancy is not a sum over sentences:
    it is of those that a process computes at a time.
    """

    @staticmethod
    def require(config: SeqVAEConfig) -> None:
        if config.posterior != "planar_flow" or config.latent_size == 0:
            raise ValueError("training.objective wae_rnf needs model.posterior planar_flow and a latent")

    def __init__(self, model: SeqVAEForTextModeling, accelerator: Accelerator, seed: int):
        self.accelerator = accelerator
        curvature = Curvature(model.config.latent_size)
        self.curvature = accelerator.prepare_model(curvature, evaluation_mode=True)  # nothing in it has a gradient
        self.seed = seed

    def output(self, model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
        output = super().output(model, batch, kl_weight)
        prior = torch.randn_like(output.latents)
        penalty = self.curvature.penalty(output.flow_inputs).mean()
        output.loss = output.loss + penalty + (TOTAL - kl_weight) * mmd(output.latents, prior)
        return output

    def begin_epoch(self, annealed: bool, means: Callable[[], torch.Tensor]) -> None:
        if annealed:
            self.curvature.fit(means(), self.seed)
            broadcast(list(self.curvature.buffers()))  # rounding may differ from machine to machine
