"""What changes over a run: the weight of the KL, and the learning rate, by the clock or by the validation bound."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..registry import SCHEDULES

CYCLES = 4


def linear(progress: float, start: float, stop: float) -> float:
    """From `start` to `stop` in one rise over the annealing epochs, then constant (Bowman et al. 2016).

    `progress` is 0 at the first update and 1 when `anneal_epochs` have passed.
    """
    return start + (stop - start) * min(1.0, progress)


def cyclical(progress: float, start: float, stop: float) -> float:
    """Four cycles: from 0 to `stop` in the first half of each, `stop` in the second half and ever after.

    `progress` counts cycles, of `cycle_epochs` each (Fu et al. 2019, cited by the paper as Liu et al.). `start` has no
    part in it.
    """
    progress = round(progress, 9)  # a cycle begins at 0, not a rounding error before it
    if progress >= CYCLES:
        return stop
    return stop * min(1.0, 2 * (progress % 1.0))


def constant(progress: float, start: float, stop: float) -> float:
    """`stop` from the first update on: no annealing (paper, Table 3)."""
    return stop


@dataclass(frozen=True)
class Schedule:
    """A KL weight over a run: `weight` is a function of (periods passed, kl_start, kl_stop)."""

    weight: Callable[[float, float, float], float]
    period: str = "anneal_epochs"  # the field of `training` that says how many epochs a period has
    periods: int = 1  # after which annealing is over: the weight stays at kl_stop
    plateau_waits: bool = False  # whether the learning-rate rule begins only then


SCHEDULES.fits = lambda part: isinstance(part, Schedule)
SCHEDULES.update(
    {
        "linear": Schedule(linear),
        "cyclical": Schedule(cyclical, "cycle_epochs", CYCLES, plateau_waits=True),
        "constant": Schedule(constant, periods=0),
    }
)


@dataclass(frozen=True)
class LearningRates:
    """A learning rate over a run: `factor` maps the share of the run that has passed to a share of the full rate."""

    factor: Callable[[float], float]
    halves_at_plateaus: bool = False


LR_SCHEDULES = {
    "plateau": LearningRates(lambda passed: 1.0, halves_at_plateaus=True),
    "linear": LearningRates(lambda passed: 1.0 - passed),
    "cosine": LearningRates(lambda passed: 0.5 * (1.0 + math.cos(math.pi * passed))),
}
"""The values of `training.lr_schedule`: the paper's rule, or a decay to nothing at the end of the last epoch."""


@dataclass
class Plateau:
    """The learning-rate rule: `-ELBO` against the lowest since the last halving, once an epoch.

    From epoch `begin`, `patience` epochs in a row without improvement ask for a halving, at which the current value
    becomes the new start. Before `begin` such epochs are counted, and nothing is halved. The first `ignored` epochs,
    fractions counted, are no part of the rule: their bounds are neither compared with nor counted.
    """

    begin: int
    patience: int
    ignored: float = 0.0
    lowest: float = float("inf")
    epochs_without_improvement: int = 0
    halvings: int = 0

    def halves_after(self, epoch: int, bound: float) -> bool:
        """Take the bound of an epoch (the first is 1); whether to go back to the best weights and halve the rate."""
        if epoch <= self.ignored:
            return False
        if bound < self.lowest:
            self.lowest = bound
            self.epochs_without_improvement = 0
            return False
        self.epochs_without_improvement += 1
        if epoch < self.begin or self.epochs_without_improvement < self.patience:
            return False
        self.lowest = bound
        self.epochs_without_improvement = 0
        self.halvings += 1
        return True
