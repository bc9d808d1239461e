"""The negative ELBO with a floor under the KL: a hinge, so that the first nats cost nothing, or a constraint."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from accelerate import Accelerator
from pydantic import Field
from torch import nn

from ..configuration_seqvae import SeqVAEConfig
from ..kernels import batch_mean
from ..modeling_seqvae import SeqVAEForTextModeling
from ..posteriors import posterior_of
from .elbo import Elbo
from .loader import Batch, Part


class FreeBits(Elbo):
    """Rec + w sum_d max(nats, KL_d), of each latent dimension d or, with floor="total", of the KL as a whole.

    KL_d is the mean over the batch, of all processes and parts (Kingma et al. 2016), or with hinge="sentence" that of
    each sentence (Li et al. 2019). Only the loss has the floor: what is measured, and what best/ is chosen by, is the
    -ELBO.
    """

    @staticmethod
    def require(config: SeqVAEConfig, training: Any) -> None:
        if config.latent_size == 0:
            raise ValueError("training.objective free_bits needs a latent: model.latent_size is 0")
        if posterior_of(config).at_centre().kl_per_dimension is None:
            raise ValueError(
                "training.objective free_bits needs a KL of each dimension, which model.posterior "
                f"{config.posterior} has not"
            )

    def __init__(
        self,
        model: SeqVAEForTextModeling,
        accelerator: Accelerator,
        seed: int,
        *,
        nats: Annotated[float, Field(ge=0)] = 0.25,
        floor: Literal["dimension", "total"] = "dimension",
        hinge: Literal["batch", "sentence"] = "batch",
    ):
        self.model = model
        self.accelerator = accelerator
        self.nats = nats
        self.floor = floor
        self.hinge = hinge
        self.above: torch.Tensor | None = None  # (D,), where the global batch's mean KL is above the floor

    def before_gradient(self, batch: Batch, kl_weight: float, begin: Callable[[Part], None]) -> None:
        self.above = None
        if self.hinge == "sentence" or self.accelerator.num_processes == len(batch.parts) == 1:  # all is in one part
            return
        total = torch.zeros((), device=self.accelerator.device)
        with torch.no_grad(), self.accelerator.autocast():
            for part in batch.parts:
                begin(part)  # words are dropped and posteriors refined as they will be for the loss
                words = part.tensors["input_ids"], part.tensors["attention_mask"]
                pooled = self.model.get_encoder().read(*words)[1]
                posterior = self.model.posterior(pooled, *words, kl_weight)  # refined by the bound that is trained on
                if part.sentences:  # else one stands in that does not count
                    total = total + self._terms(posterior.kl_per_dimension()).sum(0)
        terms = 1 if self.floor == "total" else self.model.config.latent_size
        self.above = self.accelerator.reduce(total.expand(terms), "sum") / len(batch.numbers) > self.nats

    def output(self, model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
        output = super().output(model, batch, kl_weight)
        terms = self._terms(output.kl_per_dimension)  # (B, D)
        hinged = terms if self.hinge == "sentence" else terms.mean(0)
        above = hinged > self.nats if self.above is None else self.above
        floored = torch.where(above, terms, self.nats).sum(-1)
        output.loss = batch_mean(output.reconstruction_loss) + kl_weight * floored.mean()
        return output

    def _terms(self, kl_per_dimension: torch.Tensor) -> torch.Tensor:
        """What has a floor, (B, D): the KL of each dimension, or D = 1 for the whole."""
        return kl_per_dimension.sum(-1, keepdim=True) if self.floor == "total" else kl_per_dimension


START = 1.01
"""The multiplier at the first update."""
RATE = 1e-3
"""The learning rate of its RMSprop."""


class Multiplier(nn.Module):
    """The Lagrangian multiplier of a constraint, a single number, whose absolute value counts."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(START))


class MinimumRate(Elbo):
    """Rec + w KL + |u| (nats - KL): the lowest bound whose KL is at least `nats` (Pelsmaeker and Aziz 2020).

    The model minimises it; the multiplier u maximises it, by a step of RMSprop after each of the model's. KL is the
    mean over the batch, of all processes and parts. u has no part in the norm that is clipped, and is the same
    everywhere.
    """

    @staticmethod
    def require(config: SeqVAEConfig, training: Any) -> None:
        Elbo.require(config, training)
        if config.latent_size == 0:
            raise ValueError("training.objective minimum_rate needs a latent: model.latent_size is 0")
        if not posterior_of(config).at_centre().kl.requires_grad:
            raise ValueError(
                "training.objective minimum_rate needs a KL that training can change: that of model.posterior "
                f"{config.posterior} is the same whatever its weights (model.concentration decides it)"
            )

    def __init__(
        self,
        model: SeqVAEForTextModeling,
        accelerator: Accelerator,
        seed: int,
        *,
        nats: Annotated[float, Field(ge=0)] = 5.0,
    ):
        self.accelerator = accelerator
        self.nats = nats
        self.multiplier = accelerator.prepare_model(Multiplier(), evaluation_mode=True)  # each process has its own copy
        self.optimizer = accelerator.prepare_optimizer(torch.optim.RMSprop(self.multiplier.parameters(), lr=RATE))

    def output(self, model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
        output = super().output(model, batch, kl_weight)
        output.loss = output.loss + self.multiplier.value.detach().abs() * (self.nats - batch_mean(output.kl))
        return output

    def after_update(self, batch: Batch, sums: torch.Tensor) -> None:
        kl = self.accelerator.reduce(sums[1], "sum") / len(batch.numbers)
        self.optimizer.zero_grad()
        (self.multiplier.value.abs() * (kl - self.nats)).backward()  # minimised here, so that the penalty is maximised
        self.optimizer.step()
