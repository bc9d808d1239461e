"""Objectives by name: a batch and a KL weight -> the loss to minimise, and its parts.

`Elbo` says what an objective is called for; another one overrides what it does differently. One that is only another
sum of the same parts may be a function (`registry.OBJECTIVES`).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from pydantic import ConfigDict, ValidationError, create_model

from ..modeling_seqvae import SeqVAEForTextModeling
from ..registry import OBJECTIVES, keyword_arguments, subclass_of
from .elbo import Autoencoder, Elbo
from .free_bits import FreeBits, MinimumRate
from .ivae import IVae, IVaeMI
from .wae_rnf import WaeRnf

OBJECTIVES.fits = subclass_of(Elbo, functions=True)
OBJECTIVES.update(
    {
        "elbo": Elbo,
        "free_bits": FreeBits,
        "minimum_rate": MinimumRate,
        "autoencoder": Autoencoder,
        "wae_rnf": WaeRnf,
        "ivae": IVae,
        "ivae_mi": IVaeMI,
    }
)


class _OfFunction(Elbo):
    """An objective that is a function of the model's output and the KL weight."""

    function: Callable[..., torch.Tensor]

    def __init__(self, model: SeqVAEForTextModeling, accelerator: Accelerator, seed: int, **options: Any):
        self.options = options

    def output(self, model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
        output = super().output(model, batch, kl_weight)
        loss = type(self).function(output, kl_weight, **self.options)
        if not isinstance(loss, torch.Tensor) or loss.ndim > 0:
            found = f"one of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(loss)
            raise ValueError(
                f"training.objective {type(self).__name__} must return the mean loss over sentences, a tensor of shape "
                f"(), and returned {found}"
            )
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise ValueError(
                f"training.objective {type(self).__name__} must return a loss with a gradient: compute it from the "
                "output's tensors by torch, undetached"
            )
        output.loss = loss
        return output


def objective_class(name: str) -> type[Elbo]:
    """The class of an objective by name; one that is a function as a class."""
    part = OBJECTIVES[name]
    return part if isinstance(part, type) else type(name, (_OfFunction,), {"function": staticmethod(part)})


def checked_objective_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an objective as the annotations of its keyword-only arguments have them: a list may be a tuple.

    Arguments without an annotation take any value of a recipe's. Raises ValueError for an option that the objective
    does not have, for one of another kind, and where one that it needs is missing.
    """
    part = OBJECTIVES[name]
    known = {
        each.name: (
            Any if each.annotation is each.empty else each.annotation,
            ... if each.default is each.empty else each.default,
        )
        for each in keyword_arguments(part)
    }
    for option in options:
        if option not in known:
            choices = f"only {', '.join(known)}" if known else "nor any other"
            raise ValueError(f"{name} has no option {option!r}, {choices}")
    config = ConfigDict(strict=True, allow_inf_nan=False)
    # The module tells what annotations mean that are strings, as under `from __future__ import annotations`.
    checked = create_model(name, __config__=config, __module__=part.__module__, **known)  # type: ignore[call-overload]
    try:  # as JSON, which has no tuples either: a recipe is read as it was written
        found = checked.model_validate_json(json.dumps(dict(options)))
    except TypeError as error:
        raise ValueError(f"{name} has an option that no recipe can hold ({error})") from None
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "missing":
            raise ValueError(f"{name} needs the option {problem['loc'][0]!r}") from None
        raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, not {problem['input']!r}") from None
    return {option: getattr(found, option) for option in options}
