"""The paper's training scheme, and what every other one is a variation of.

The trainer calls a scheme for each batch; a scheme takes as many steps of its optimisers as it likes. Optimisers that
the accelerator has prepared are part of last/ and so of the exact resume.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch.profiler import record_function

from ..configuration_seqvae import SeqVAEConfig
from ..kernels import batch_mean, fast_matmul
from ..modeling_seqvae import SeqVAEForTextModeling
from ..noise import seed_of, seed_torch
from .elbo import Elbo
from .loader import Batch, BatchLoader, Part


class JointUpdate:
    """For each batch, one step of one optimiser for encoder and decoder together."""

    @staticmethod
    def require(config: SeqVAEConfig) -> None:
        """Raise ValueError for a model that cannot be trained by this scheme."""

    @staticmethod
    def parts(model: SeqVAEForTextModeling) -> list[Iterable[torch.nn.Parameter]]:
        """The weights that have an optimiser each."""
        return [model.parameters()]

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        optimizers: Sequence[Any],
        objective: Elbo,
        loader: BatchLoader,
        max_grad_norm: float,
        seed: int,
    ):
        self.accelerator = accelerator
        self.model = model
        self.optimizers = optimizers
        self.objective = objective
        self.loader = loader
        self.max_grad_norm = max_grad_norm
        self.seed = seed
        self.encoder_frozen = False
        """Whether the encoder keeps its weights; the trainer says so before each batch."""

    def __call__(self, batch: Batch, update: int, kl_weight: float) -> torch.Tensor:
        """Change the weights by the gradient of the whole batch's loss, a mean over sentences.

        `update` counts batches from the start of the run. Returns the mean reconstruction and KL (2,) of this process's
        sentences, on the device, so that nobody need wait for them. Raises FloatingPointError that names sentences of
        the batch whose gradient is not a finite number, before it is stepped on; every process sees the same.
        """
        self.objective.before_update(batch, update)
        return self._end(batch, self._step(self.optimizers, batch, kl_weight, update))

    def end_epoch(self, figures: Mapping[str, Any]) -> str | None:
        """Called with what was measured on the validation set; what there is to tell the user of it."""
        return None

    def encoder_updates(self, updates: int) -> int:
        """Steps of an encoder that was never frozen, after `updates` batches, each a step of the decoder."""
        return updates

    def state_dict(self) -> dict[str, Any]:
        """What JSON keeps of the scheme in last/."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""

    def _step(self, optimizers: Sequence[Any], batch: Batch, kl_weight: float, *noise: int) -> torch.Tensor:
        """One step of some of the optimisers; the norm that is clipped is that of all weights' gradient.

        `noise`, with the seed and the shard, is what noise and dropout depend on. Returns the sums of reconstruction,
        KL and loss over this process's sentences, (3,).
        """
        for optimizer in self.optimizers:  # here, for an update that was broken off has left its gradients
            optimizer.zero_grad()
        with fast_matmul(self.accelerator.device):
            self.objective.before_gradient(batch, kl_weight, partial(self._begin, noise=noise))
            sums = self._accumulate(batch, kl_weight, noise)
            if self.encoder_frozen:  # no gradient, so that neither the norm nor an optimiser's averages know of it
                for weight in self.accelerator.unwrap_model(self.model).get_encoder().parameters():
                    weight.grad = None
            with record_function("clip and step"):
                norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
                if not torch.isfinite(norm):  # waits for the device, before a weight is touched
                    some = ", ".join(map(str, batch.numbers[:8].tolist())) + (", ..." if len(batch.numbers) > 8 else "")
                    raise FloatingPointError(f"loss or its gradient (training sentences {some})")
                for optimizer in optimizers:
                    optimizer.step()
        return sums

    def _accumulate(self, batch: Batch, kl_weight: float, noise: Sequence[int]) -> torch.Tensor:
        """Gradients of all parts, over all processes."""
        accelerator, sums = self.accelerator, torch.zeros(3, device=self.accelerator.device)
        for part in batch.parts:
            self._begin(part, noise)
            with nullcontext() if part is batch.parts[-1] else accelerator.no_sync(self.model):
                with record_function("forward"):
                    output = self.objective.output(self.model, part.tensors, kl_weight)
                    loss = output.loss
                    if output.auxiliary_loss is not None:
                        loss = loss + batch_mean(output.auxiliary_loss)
                with record_function("backward"):  # whose mean is over processes
                    share = part.sentences * accelerator.num_processes / len(batch.numbers)
                    accelerator.backward(loss * share)
            figures = (output.reconstruction_loss.mean(), output.kl.mean(), output.loss)
            sums += part.sentences * torch.stack(figures).detach()
        return sums

    def _begin(self, part: Part, noise: Sequence[int]) -> None:
        """Noise and dropout of a part are those of its shard, whichever process computes it."""
        update, *inner = noise
        seed_torch(seed_of(self.seed, update, part.shard, *inner), self.accelerator.device)

    def _end(self, batch: Batch, sums: torch.Tensor) -> torch.Tensor:
        """Tell the objective that a batch is done; mean reconstruction and KL (2,) of this process's sentences."""
        self.objective.after_update(batch, sums)
        return sums[:2] / max(1, sum(part.sentences for part in batch.parts))
