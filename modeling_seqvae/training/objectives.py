"""Objectives: a batch and a KL weight -> the loss to minimise, and its parts.

An objective is called with the (possibly distributed) model, a batch, and the KL weight; it returns an output with
`loss` (a mean over sentences), `reconstruction_loss` and `kl` (B,), all in nats per sentence. One that has networks,
optimisers or other state of its own gives them to the accelerator where the trainer prepares the model
(`Accelerator.prepare`, `Accelerator.register_for_checkpointing`): what it holds is part of last/ and so of the exact
resume.
"""

from collections.abc import Callable
from typing import Any

import torch

Objective = Callable[[Callable, dict[str, torch.Tensor], float], Any]


def elbo(model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
    """The negative evidence lower bound, with the KL weighted (paper, section 2.1)."""
    return model(**batch, kl_weight=kl_weight, return_logits=False, use_cache=False)


OBJECTIVES: dict[str, Objective] = {"elbo": elbo}
"""The values of `training.objective`."""
