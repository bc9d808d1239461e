"""Optimisers by name, with torch's defaults but for the learning rate; fused kernels, which take fewer passes."""

from collections.abc import Callable
from functools import partial

import torch

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}
"""The values of `training.optimizer`."""
