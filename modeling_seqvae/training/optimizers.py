"""Optimisers by name, with torch's defaults but for what a recipe says; fused kernels, which take fewer passes."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}
"""The values of `training.optimizer`."""

OPTIONS = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adam": ("betas", "eps", "weight_decay", "amsgrad"),
    "adamw": ("betas", "eps", "weight_decay", "amsgrad"),
}
"""What `training.optimizer_options` may say of each: torch's own names, without those that change speed alone."""


def require_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError where an optimiser has no such option, or torch refuses its value."""
    for option, value in options.items():
        if option not in OPTIONS[name]:
            raise ValueError(f"{name} has no option {option!r}, only {', '.join(OPTIONS[name])}")
        numbers = value if isinstance(value, list) else [value]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"{option} must be a number, or a list of two for betas, not {value!r}")
    try:
        OPTIMIZERS[name]([torch.nn.Parameter(torch.zeros(1))], lr=1.0, **options)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{name} does not take {dict(options)}: {error}") from None
