"""Objectives by name: a batch and a KL weight -> the loss to minimise, and its parts.

`Elbo` says what an objective is called for; another one overrides what it does differently.
"""

from .elbo import Elbo
from .ivae import IVae, IVaeMI
from .wae_rnf import WaeRnf

OBJECTIVES: dict[str, type[Elbo]] = {"elbo": Elbo, "wae_rnf": WaeRnf, "ivae": IVae, "ivae_mi": IVaeMI}
"""The values of `training.objective`."""
