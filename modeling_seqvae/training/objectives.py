"""Objectives by name: a batch and a KL weight -> the loss to minimise, and its parts.

`Elbo` says what an objective is called for; another one overrides what it does differently.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from .elbo import Autoencoder, Elbo
from .free_bits import FreeBits, MinimumRate
from .ivae import IVae, IVaeMI
from .wae_rnf import WaeRnf

OBJECTIVES: dict[str, type[Elbo]] = {
    "elbo": Elbo,
    "free_bits": FreeBits,
    "minimum_rate": MinimumRate,
    "autoencoder": Autoencoder,
    "wae_rnf": WaeRnf,
    "ivae": IVae,
    "ivae_mi": IVaeMI,
}
"""The values of `training.objective`."""


def require_objective_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError where an objective's constructor has no such keyword-only argument, or not of such a value."""
    parameters = inspect.signature(OBJECTIVES[name]).parameters.values()
    known = {each.name: (each.annotation, each.default) for each in parameters if each.kind is each.KEYWORD_ONLY}
    for option in options:
        if option not in known:
            choices = f"only {', '.join(known)}" if known else "nor any other"
            raise ValueError(f"{name} has no option {option!r}, {choices}")
    checked = create_model(name, __config__=ConfigDict(strict=True, allow_inf_nan=False), **known)  # type: ignore[call-overload]
    try:
        checked.model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, not {problem['input']!r}") from None
