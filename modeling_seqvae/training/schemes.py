"""Training schemes by name: what a batch does to the weights. `JointUpdate` says what a scheme is called for.

Here is aggressive inference (He et al. 2019): the encoder catches up with the decoder before each of its steps.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
import torch

from ..configuration_seqvae import SeqVAEConfig
from ..modeling_seqvae import SeqVAEForTextModeling
from ..posteriors import posterior_of
from ..registry import SCHEMES, subclass_of
from .loader import Batch
from .update import JointUpdate

BLOCK = 15
"""Inner updates after which their loss per word is compared with that of as many before."""
MOST_INNER_UPDATES = 100


class AggressiveUpdate(JointUpdate):
    """For each batch, steps of the encoder until its loss no longer falls, then one of the decoder.

    The inner loop reads the current batch, then random ones of the same epoch; there is none while the encoder is
    frozen. The first epoch after which the mutual information of the validation set has fallen ends it for good: from
    then on updates are joint. Batches, noise and decisions are functions of (seed, update) and of sums over all
    processes.
    """

    @staticmethod
    def require(config: SeqVAEConfig) -> None:
        if config.latent_size == 0:
            raise ValueError("training.scheme aggressive needs an encoder: model.latent_size is 0")
        if posterior_of(config).base is None:
            raise ValueError(
                "training.scheme aggressive ends by mutual information, which is not known of model.posterior "
                f"{config.posterior}: take another, or let an implicit one have model.sampler_layers 1"
            )

    @staticmethod
    def parts(model: SeqVAEForTextModeling) -> list[Iterable[torch.nn.Parameter]]:
        encoder = list(model.get_encoder().parameters())
        own = set(map(id, encoder))
        return [encoder, [weight for weight in model.parameters() if id(weight) not in own]]

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.active = True
        self.mutual_information = -inf
        self.extra_updates = 0  # of the encoder, beyond one a batch

    def __call__(self, batch: Batch, update: int, kl_weight: float) -> torch.Tensor:
        if not self.active or self.encoder_frozen:
            return super().__call__(batch, update, kl_weight)
        encoder, decoder = self.optimizers
        self.objective.before_update(batch, update)
        self.extra_updates += self._catch_up(encoder, batch, update, kl_weight) - 1
        return self._end(batch, self._step([decoder], batch, kl_weight, update))

    def end_epoch(self, figures: Mapping[str, Any]) -> str | None:
        before, self.mutual_information = self.mutual_information, figures["mi"]
        if not self.active or self.mutual_information >= before:
            return None
        self.active = False
        return f"mutual information fell from {before:.3f} to {self.mutual_information:.3f}: updates are joint now"

    def encoder_updates(self, updates: int) -> int:
        return updates + self.extra_updates

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state[name])

    def _catch_up(self, encoder: Any, batch: Batch, update: int, kl_weight: float) -> int:
        """The inner loop; returns the steps it took."""
        before, block = inf, []
        for number, inner in enumerate(self._inner_batches(batch, update), start=1):
            block.append((inner, self._step([encoder], inner, kl_weight, update, number)[2]))
            if number == MOST_INNER_UPDATES:
                break
            if number % BLOCK == 0:
                before, last = self._loss_per_word(block), before
                if before >= last:
                    break
                block = []
        return number

    def _inner_batches(self, batch: Batch, update: int) -> Iterator[Batch]:
        yield batch
        yield from self.loader.random_batches(update, np.random.default_rng((self.seed, update, 1)))

    def _loss_per_word(self, block: Sequence[tuple[Batch, torch.Tensor]]) -> float:
        """Loss of all processes' sentences over the words that the decoder predicted."""
        loss = self.accelerator.reduce(torch.stack([loss for _, loss in block]).sum(), "sum").item()
        return loss / sum(self.loader.predicted_words(batch.numbers) for batch, _ in block)


STATE = ("active", "mutual_information", "extra_updates")
"""What last/ keeps of the scheme, beside its optimisers."""


SCHEMES.fits = subclass_of(JointUpdate)
SCHEMES.update({"joint": JointUpdate, "aggressive": AggressiveUpdate})
