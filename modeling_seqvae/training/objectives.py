"""Objectives: a batch and a KL weight -> the loss to minimise, and its parts.

An objective is called with the (possibly distributed) model, a batch, and the KL weight; it returns an output with
`loss` (a mean over sentences), `reconstruction_loss` and `kl` (B,), all in nats per sentence.
"""

from collections.abc import Callable
from typing import Any

import torch


def elbo(model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
    """The negative evidence lower bound, with the KL weighted (paper, section 2.1)."""
    return model(**batch, kl_weight=kl_weight, return_logits=False, use_cache=False)


OBJECTIVES = {"elbo": elbo}
"""The values of `training.objective`."""
