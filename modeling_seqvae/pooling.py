"""Aggregations h_1..h_n -> h_x: how the encoder's states become the one vector the posterior is computed from.

Section 3.2 of Long, Cao and Cheung (2019). Every pool maps states (B, T, H) and a mask (B, T), true at real tokens, to
(B, H). Padding never takes part, and ties go to the first position.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .registry import POOLINGS, subclass_of


def last_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The state of the last real token: the common choice, which the paper argues causes posterior collapse."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return _take(states, (positions * mask).argmax(1)[:, None, None].expand(-1, 1, states.shape[-1]))


def average_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of each dimension over the real tokens."""
    weights = mask.to(states.dtype)[:, :, None]  # (B, T, 1)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1)


def max_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The largest value of each dimension over the real tokens."""
    return _take_largest(states, states.masked_fill(~mask[:, :, None], -torch.inf))


def absolute_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The value of largest magnitude in each dimension over the real tokens, its sign kept."""
    return _take_largest(states, states.abs().masked_fill(~mask[:, :, None], -1.0))


class AttentionPool(nn.Module):
    """The mean of the real tokens' states under softmax(v . tanh(W h + b)), all learned (Yang et al. 2016)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = self.score(torch.tanh(self.projection(states))).squeeze(-1)  # (B, T)
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(1)
        return (states * weights[:, :, None]).sum(1)


def _take_largest(states: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """The states (B, T, H) where the scores (B, T, H) of their sentence and dimension are largest, as (B, H)."""
    return _take(states, scores.max(1, keepdim=True).indices)  # torch's argmax takes four times as long on CPUs


def _take(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The states (B, T, H) at one position per sentence and dimension (B, 1, H), as (B, H)."""
    return states.gather(1, positions).squeeze(1)


POOLINGS.fits = subclass_of(nn.Module, functions=True)
POOLINGS.update(
    {"last": last_pool, "avg": average_pool, "max": max_pool, "abs": absolute_pool, "attention": AttentionPool}
)


def build_pooling(
    mode: str, hidden_size: int, /, **options: Any
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The pool named by `mode`, with its options, ready to call with states (B, T, H) and mask (B, T)."""
    pooling = POOLINGS[mode]
    if isinstance(pooling, type):
        return pooling(hidden_size, **options)
    return partial(pooling, **options) if options else pooling
