"""iVAE: implicit posteriors, trained with a KL in dual form (Fang et al. 2019; appendix B of the paper)."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_model

from ..configuration_seqvae import SeqVAEConfig
from ..evaluation.dual import FILE, DualNetworks
from ..gaussian import STANDARD_NORMAL
from ..kernels import batch_mean, frozen
from ..modeling_seqvae import SeqVAEForTextModeling
from ..noise import seed_of, seed_torch
from ..posteriors import head_of, posterior_of, prior_of
from ..refinement import RefiningHead
from .elbo import Elbo
from .loader import Batch, Part
from .optimizers import OPTIMIZERS

DUAL_UPDATES = 5
DUAL_LEARNING_RATE = 1e-5


class IVae(Elbo):
    """Rec + w E_q[nu(x, z)], with the KL weight w: the model's part of the KL's dual form.

    Before each of the model's updates the dual networks have five of their own, by Adam on E_p[exp nu] - E_q[nu], with
    draws of their own. The output's `kl` is the posterior's own, as for every other objective.
    """

    @staticmethod
    def require(config: SeqVAEConfig, training: Any) -> None:
        if config.latent_size == 0:
            raise ValueError("training.objective ivae and ivae_mi need a latent: model.latent_size is 0")
        if prior_of(posterior_of(config)) is not STANDARD_NORMAL:
            raise ValueError(
                "training.objective ivae and ivae_mi draw from the prior N(0, I), which model.posterior "
                f"{config.posterior} has not"
            )
        if isinstance(head_of(config), RefiningHead):
            raise ValueError(
                "training.objective ivae and ivae_mi train their networks on draws that the encoder alone gives, which "
                f"model.posterior {config.posterior} then changes for each text"
            )

    def __init__(self, model: SeqVAEForTextModeling, accelerator: Accelerator, seed: int):
        self.model = model
        self.accelerator = accelerator
        self.seed = seed
        networks = DualNetworks.of(model.config)
        optimizer = OPTIMIZERS["adam"](networks.parameters(), lr=DUAL_LEARNING_RATE)
        self.networks, self.optimizer = accelerator.prepare(networks, optimizer)

    @property
    def _own(self) -> DualNetworks:
        return self.accelerator.unwrap_model(self.networks)

    def output(self, model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
        output = super().output(model, batch, kl_weight)
        with frozen(self._own.parameters()):
            divergence = self.divergence(self._own, output.pooled, output.latents)
        output.loss = batch_mean(output.reconstruction_loss) + kl_weight * divergence.mean()
        return output

    def divergence(self, networks: DualNetworks, pooled: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """What stands for the KL in the model's loss, (B,)."""
        return networks.joint(pooled, latents)

    def before_update(self, batch: Batch, update: int) -> None:
        encoder, pooled = self.model.get_encoder(), []
        for part in batch.parts:
            self._seed(update, part, 0)  # words may be dropped
            with torch.no_grad():
                pooled.append(encoder.read(part.tensors["input_ids"], part.tensors["attention_mask"])[1])
        for step in range(1, DUAL_UPDATES + 1):
            self.optimizer.zero_grad()
            for part, features in zip(batch.parts, pooled, strict=True):
                self._seed(update, part, step)
                with torch.no_grad():
                    latents = encoder.posterior(features).rsample(1)[0]
                last = part is batch.parts[-1]
                with nullcontext() if last else self.accelerator.no_sync(self.networks):
                    loss = self.networks(features, latents, torch.randn_like(latents))
                    share = part.sentences * self.accelerator.num_processes / len(batch.numbers)
                    self.accelerator.backward(loss * share)
            self.optimizer.step()

    def _seed(self, update: int, part: Part, step: int) -> None:
        """Let what is drawn for a part depend on the update and the step of the networks, 0 before their first."""
        seed_torch(seed_of(self.seed, update, part.shard, step, DUAL_UPDATES), self.accelerator.device)

    def save(self, directory: Path) -> None:
        self._own.save(directory)

    def load(self, directory: Path) -> None:
        load_model(self._own, directory / FILE)


class IVaeMI(IVae):
    """iVAE with nu(z) in the model's loss: the dual form of KL(q(z) || p(z)), which leaves mutual information free."""

    def divergence(self, networks: DualNetworks, pooled: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        return networks.marginal(pooled, latents)
