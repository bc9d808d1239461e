"""A training scheme: what a batch does to the weights.

The trainer calls a scheme for each batch; a scheme takes as many steps of its optimisers as it likes. Optimisers that
the accelerator has prepared are part of last/ and so of the exact resume.
"""

from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch.profiler import record_function

from ..noise import seed_of
from ..precision import fast_matmul
from .loader import Batch
from .objectives import Objective


class JointUpdate:
    """The paper's scheme: for each batch, one step of one optimiser for encoder and decoder together."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        optimizer: Any,
        objective: Objective,
        max_grad_norm: float,
        seed: int,
    ):
        self.accelerator = accelerator
        self.model = model
        self.optimizer = optimizer
        self.objective = objective
        self.max_grad_norm = max_grad_norm
        self.seed = seed

    def __call__(self, batch: Batch, update: int, kl_weight: float) -> torch.Tensor:
        """Change the weights by the gradient of the whole batch's loss, a mean over sentences.

        Returns the mean reconstruction and KL (2,) of this process's sentences, on the device, so that nobody need
        wait for them. Raises FloatingPointError, the weights untouched, where the gradient is not a finite number;
        every process sees the same.
        """
        with fast_matmul(self.accelerator.device):
            figures = self._accumulate(batch, update, kl_weight)
            with record_function("clip and step"):
                norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
                if not torch.isfinite(norm):  # the one value of an update that is waited for
                    raise FloatingPointError("loss or its gradient")
                self.optimizer.step()
                self.optimizer.zero_grad()
        return figures

    def _accumulate(self, batch: Batch, update: int, kl_weight: float) -> torch.Tensor:
        """Gradients of all parts, over all processes; noise and dropout of a part are those of its shard."""
        accelerator, sums = self.accelerator, torch.zeros(2, device=self.accelerator.device)
        for part in batch.parts:
            torch.manual_seed(seed_of(self.seed, update, part.shard))
            with nullcontext() if part is batch.parts[-1] else accelerator.no_sync(self.model):
                with record_function("forward"):
                    output = self.objective(self.model, part.tensors, kl_weight)
                with record_function("backward"):  # whose mean is over processes
                    share = part.sentences * accelerator.num_processes / len(batch.numbers)
                    accelerator.backward(output.loss * share)
            sums += part.sentences * torch.stack([output.reconstruction_loss.mean(), output.kl.mean()]).detach()
        return sums / max(1, sum(part.sentences for part in batch.parts))
