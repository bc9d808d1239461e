"""Training schemes by name: what a batch does to the weights. `JointUpdate` says what a scheme is called for."""

from ..registry import SCHEMES
from .aggressive import AggressiveUpdate
from .update import JointUpdate

SCHEMES.update({"joint": JointUpdate, "aggressive": AggressiveUpdate})
