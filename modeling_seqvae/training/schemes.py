"""Training schemes by name: what a batch does to the weights. `JointUpdate` says what a scheme is called for."""

from .aggressive import AggressiveUpdate
from .update import JointUpdate

SCHEMES: dict[str, type[JointUpdate]] = {"joint": JointUpdate, "aggressive": AggressiveUpdate}
"""The values of `training.scheme`."""
