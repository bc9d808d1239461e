"""Optimisers by name, with torch's defaults but for what a recipe says; fused kernels, which take fewer passes."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}
"""The values of `training.optimizer`."""

_MOMENTS = ("betas", "eps", "weight_decay", "amsgrad")
_OWN: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adam": _MOMENTS,
    "adamw": _MOMENTS,
}
OPTIONS = {
    "optimizer_options": _OWN,
    "table_options": {name: ("lr", *own) for name, own in _OWN.items()},
}
"""What these fields of `training` may say, by optimiser: torch's own names, without those that change speed alone."""


def grouped(
    weights: Iterable[torch.nn.Parameter],
    model: PreTrainedModel,
    learning_rate: float,
    table_options: Mapping[str, Any],
    encoder_rate: float,
) -> list[dict[str, Any]]:
    """The weights as an optimiser's groups, each with its learning rate.

    Those with a row for each word have `table_options`, if there are any; those of the encoder `encoder_rate` times the
    rate that they would have.
    """
    kinds = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    decoder = model.get_decoder()
    heads = [model.get_output_embeddings(), *(getattr(decoder, name) for name in decoder.word_layers)]
    tables = {id(weight) for module in (*kinds, *heads) for weight in module.parameters()}
    encoder = {id(weight) for weight in model.get_encoder().parameters()} if encoder_rate != 1 else set()
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for weight in weights:
        groups.setdefault((id(weight) in encoder, bool(table_options) and id(weight) in tables), []).append(weight)
    found = []
    for of_encoder, of_table in sorted(groups):  # the decoder's first, whose rate is logged
        options = {"lr": learning_rate, **(table_options if of_table else {})}
        rate = options["lr"] * (encoder_rate if of_encoder else 1)
        found.append({"params": groups[of_encoder, of_table], **options, "lr": rate})
    return found


def require_options(field: str, name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError where an optimiser has no such option in a field of `OPTIONS`, or torch refuses its value."""
    for option, value in options.items():
        if option not in OPTIONS[field][name]:
            raise ValueError(f"{name} has no option {option!r} here, only {', '.join(OPTIONS[field][name])}")
        numbers = value if isinstance(value, list) else [value]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"{option} must be a number, or a list of two for betas, not {value!r}")
    try:
        OPTIMIZERS[name]([torch.nn.Parameter(torch.zeros(1))], **{"lr": 1.0, **options})
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{name} does not take {dict(options)}: {error}") from None
