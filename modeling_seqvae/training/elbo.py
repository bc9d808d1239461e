"""The paper's objective, and what every other one is a variation of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..configuration_seqvae import SeqVAEConfig
from ..modeling_seqvae import SeqVAEForTextModeling
from ..posteriors import posterior_of
from .loader import Batch, Part

LOSSES = ("bound", "rec", "kl")
"""Figures of the validation set of which the lowest may choose the best epoch."""


class Elbo:
    """The negative evidence lower bound, with the KL weighted (paper, section 2.1). It has no state.

    Keyword-only arguments of a subclass's constructor are its options, `training.objective_options` in a recipe; their
    annotations say which values are valid.
    """

    selects_by = "bound"
    """Which of `LOSSES` chooses best/ and halves the learning rate."""

    weighs_kl = True
    """Whether the KL has the schedule's weight in the loss; else `output` is given 0, and the history says so."""

    @staticmethod
    def require(config: SeqVAEConfig, training: Any) -> None:
        """Raise ValueError for a model, or a `training` section of a recipe, that this objective cannot train.

        Such as one whose posterior is known by its draws alone: its KL is that of another distribution, its `proposal`,
        and reconstructions at its own draws plus that KL are no bound.
        """
        if config.latent_size > 0 and not hasattr(posterior_of(config), "log_prob"):
            raise ValueError(
                f"training.objective {training.objective} needs a KL that is known, which a posterior known by its "
                "draws alone has not: let model.sampler_layers be 1, or take the objective ivae or ivae_mi"
            )

    def __init__(self, model: SeqVAEForTextModeling, accelerator: Accelerator, seed: int):
        """What has state of its own has the accelerator prepare it, so that it is part of last/."""

    def output(self, model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
        """The loss to minimise and its parts at a batch.

        `model` may be a distributed one. The output has `loss` (), a mean over sentences, `reconstruction_loss` and
        `kl` (B,), all in nats per sentence.
        """
        return model(**batch, kl_weight=kl_weight, return_logits=False, use_cache=False)

    def begin_epoch(self, annealed: bool, means: Callable[[], torch.Tensor]) -> None:
        """Called before an epoch's first batch, with whether annealing is over and, if called, all sentences' means.

        `means()` are those of the training set's posteriors, (N, Z), on every process.
        """

    def before_update(self, batch: Batch, update: int) -> None:
        """Called before the model's own update on a batch, the update-th of the run."""

    def before_gradient(self, batch: Batch, kl_weight: float, begin: Callable[[Part], None]) -> None:
        """Called before the gradient of a batch is taken, with this process's parts of it.

        `begin(part)` puts torch's random state where it will be when `output` is called with that part.
        """

    def after_update(self, batch: Batch, sums: torch.Tensor) -> None:
        """Called after the model's own update on a batch.

        `sums` (3,) are reconstruction, KL and loss before that update, summed over this process's sentences.
        """

    def save(self, directory: Path) -> None:
        """Write what evaluation needs beside a checkpoint of the model."""

    def load(self, directory: Path) -> None:
        """Return to what was saved beside a checkpoint, when the model returns to it."""


class Autoencoder(Elbo):
    """The reconstruction alone, z still drawn from the posterior: the pretraining of Li et al. (2019).

    The KL is measured and has no weight, whatever the schedule says. The best epoch is that of the lowest validation
    reconstruction.
    """

    selects_by = "rec"
    weighs_kl = False
