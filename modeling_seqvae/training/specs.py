"""How a run is trained: the fields of `training` and `pretraining` in a recipe, checked.

`docs/training.md` explains each field.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ..configuration_seqvae import PARTS as PARTS_OF_MODEL
from ..data.launch import launched
from ..kernels import has_bfloat16
from ..registry import Registry
from .objectives import OBJECTIVES, checked_objective_options
from .optimizers import OPTIMIZERS, OPTIONS, require_options
from .schedules import LR_SCHEDULES, SCHEDULES, Plateau
from .schemes import SCHEMES

PARTS = {"objective": OBJECTIVES, "scheme": SCHEMES, "kl_schedule": SCHEDULES}
"""Fields that name a part, and the parts that there are. In place of a name they take the part itself."""
CHOICES: dict[str, Mapping[str, Any]] = {**PARTS, "optimizer": OPTIMIZERS, "lr_schedule": LR_SCHEDULES}

LENGTHS = ("epochs", "warmup_epochs", "anneal_epochs", "cycle_epochs", "freeze_encoder_epochs", "plateau_from")
"""Fields of `training` in epochs, which `updates` stretches together."""
RATES = ("learning_rate", "table_options", "rate_words")
"""Fields of `training` that `rate_words` settles together."""
SHARE = re.compile(r"(100|\d{1,2})(\.\d+)?%")
"""How a length is given as a share of the run."""
MOST_EPOCHS = 60
"""Epochs to which `updates` stretches a run at most: there are too few texts for more."""


class TrainingSpec(BaseModel):
    """How a model is optimised. The defaults are the paper's; `docs/training.md` explains each."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: str = "elbo"
    objective_options: dict[str, Any] = Field({}, validate_default=True)  # an objective may need some
    scheme: str = "joint"
    optimizer: str = "sgd"
    optimizer_options: dict[str, Any] = {}
    table_options: dict[str, Any] = {}
    learning_rate: float = Field(1.0, gt=0)
    rate_words: int | None = Field(None, ge=1)
    encoder_rate: float = Field(1.0, gt=0)
    lr_schedule: str = "plateau"
    warmup_epochs: float = Field(0, ge=0)
    max_grad_norm: float = Field(5.0, gt=0)
    batch_size: int = Field(32, ge=1)
    accumulation_steps: int = Field(1, ge=1)
    epochs: int = Field(100, ge=1)
    updates: tuple[int, int] | None = None
    kl_schedule: str = "linear"
    kl_start: float = Field(0.1, ge=0)
    kl_stop: float = Field(1.0, ge=0)
    anneal_epochs: float = Field(10, ge=0)
    cycle_epochs: float = Field(10, gt=0)
    freeze_encoder_epochs: float = Field(0, ge=0)
    plateau_from: int = Field(15, ge=1)
    plateau_patience: int = Field(2, ge=1)
    max_halvings: int = Field(5, ge=1)
    precision: Literal["auto", "native", "no", "bf16"] = "auto"
    save_minutes: float = Field(10, gt=0)
    trackers: list[str] = []
    tracker_project: str = "seqvae"
    tracker_options: dict[str, dict[str, Any]] = {}
    log_updates: int = Field(0, ge=0)
    seed: int = Field(0, ge=0, lt=2**32)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would take it for 0 or 1
            raise ValueError("a truth value means nothing here")
        return value

    @field_validator(*PARTS, mode="before")
    @classmethod
    def _name(cls, part: Any, field: ValidationInfo) -> str:
        return PARTS[str(field.field_name)].name_of(part)

    @field_validator(*CHOICES)
    @classmethod
    def _known_name(cls, name: str, field: ValidationInfo) -> str:
        if field.field_name in PARTS:
            PARTS[field.field_name][name]  # whose error also says how a part of one's own gets known
            return name
        return require_one_of(name, CHOICES[str(field.field_name)])

    @field_validator("kl_schedule")
    @classmethod
    def _known_period(cls, name: str) -> str:
        try:
            require_one_of(SCHEDULES[name].period, LENGTHS)
        except ValueError as error:
            raise ValueError(f"the period of {name}: {error}") from None
        return name

    @field_validator("objective_options")
    @classmethod
    def _known_objective_options(cls, options: dict[str, Any], field: ValidationInfo) -> dict[str, Any]:
        if "objective" in field.data:  # missing where it is not known itself
            return checked_objective_options(field.data["objective"], options)
        return options

    @field_validator(*OPTIONS)
    @classmethod
    def _known_options(cls, options: dict[str, Any], field: ValidationInfo) -> dict[str, Any]:
        optimizer = field.data.get("optimizer")  # missing where it is not known itself
        if optimizer:
            require_options(str(field.field_name), optimizer, options)
        return options

    @field_validator("updates")
    @classmethod
    def _least_and_most(cls, bounds: tuple[int, int] | None) -> tuple[int, int] | None:
        if bounds and not 1 <= bounds[0] <= bounds[1]:
            raise ValueError("must be the least and the most updates of a run, such as [600, 20000]")
        return bounds

    @model_validator(mode="after")
    def _warmup_ends(self) -> "TrainingSpec":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be fewer than epochs ({self.epochs})")
        return self

    @model_validator(mode="before")
    @classmethod
    def _shares(cls, fields: Any) -> Any:
        """Lengths such as `30%`, of the run, in epochs."""
        if not isinstance(fields, Mapping):
            return fields
        epochs = fields.get("epochs", cls.model_fields["epochs"].default)
        shares = {
            name: _length(name, float(fields[name].removesuffix("%")) * epochs / 100)
            for name in LENGTHS
            if isinstance(epochs, int | float) and SHARE.fullmatch(str(fields.get(name, "")))
        }
        return {**fields, **shares}

    @field_validator("trackers")
    @classmethod
    def _known_trackers(cls, names: list[str]) -> list[str]:
        return [require_one_of(name, [str(known) for known in LOGGER_TYPE_TO_CLASS]) for name in names]

    @field_validator("tracker_options")
    @classmethod
    def _of_trackers(cls, options: dict[str, dict[str, Any]], field: ValidationInfo) -> dict[str, dict[str, Any]]:
        for name in options:
            require_one_of(name, field.data.get("trackers", [name]))
        return options

    def kl_weight(self, epochs: float) -> float:
        """The KL weight when `epochs` epochs, fractions counted, have passed."""
        schedule = SCHEDULES[self.kl_schedule]
        period = getattr(self, schedule.period)
        return schedule.weight(epochs / period if period else math.inf, self.kl_start, self.kl_stop)

    @property
    def annealing_epochs(self) -> float:
        """Epochs, fractions counted, after which the KL weight stays at `kl_stop`, by the schedule."""
        schedule = SCHEDULES[self.kl_schedule]
        return schedule.periods * float(getattr(self, schedule.period))

    def unfinished(self) -> list[str]:
        """Where the run ends before the KL weight's schedule does, and what to set: sentences, mostly none."""
        schedule, annealing = SCHEDULES[self.kl_schedule], self.annealing_epochs
        if annealing <= self.epochs:
            return []
        return [
            f"the KL weight's schedule takes {annealing:g} epochs and the run has {self.epochs}: it ends at weight "
            f"{self.kl_weight(self.epochs * (1 - 1e-9)):.2f}. Train longer, or give the length as a share of the run: "
            f"training.{schedule.period}={60 // schedule.periods}%"
        ]

    def lr_factor(self, epochs: float) -> float:
        """The share of the full learning rate when `epochs` epochs, fractions counted, have passed."""
        warmup = min(1.0, epochs / self.warmup_epochs) if self.warmup_epochs else 1.0
        rest = max(0.0, epochs - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        return warmup * LR_SCHEDULES[self.lr_schedule].factor(rest)

    def settled(self, sentences: int, words: float) -> "TrainingSpec":
        """The schedule with what depends on the training set and on the machine decided.

        `words` is how many tokens the decoder predicts of a text, on average. Epochs become as many as `updates`
        allows, and the other lengths keep their shares of the run; rates grow with the square root of the words in a
        batch, from `rate_words` on.
        """
        spec = self.model_copy(update={"precision": self.mixed_precision or "auto"} | self._settled_rates(words))
        if self.updates is None:
            return spec
        least, most = (math.ceil(bound / math.ceil(sentences / self.batch_size)) for bound in self.updates)
        epochs = min(max(self.epochs, min(least, MOST_EPOCHS)), most)
        lengths = {name: _length(name, getattr(self, name) * epochs / self.epochs) for name in LENGTHS}
        return spec.model_copy(update={**lengths, "epochs": epochs, "updates": None})

    def _settled_rates(self, words: float) -> dict[str, Any]:
        """The rates for batches of the `batch_size` texts of so many words."""
        if self.rate_words is None:
            return {}
        factor = max(1.0, self.batch_size * words / self.rate_words) ** 0.5
        options = dict(self.table_options)
        if "lr" in options:
            options["lr"] = _scaled(options["lr"], factor)
        return {"learning_rate": _scaled(self.learning_rate, factor), "table_options": options, "rate_words": None}

    @property
    def mixed_precision(self) -> str | None:
        """What an Accelerator is told; None: what accelerate is configured for."""
        if self.precision == "native":
            return "bf16" if has_bfloat16(launched().device) else "no"
        return None if self.precision == "auto" else self.precision

    def plateau(self) -> Plateau:
        """The learning-rate rule; under a cyclical schedule it begins anew when the cycles are over."""
        if not LR_SCHEDULES[self.lr_schedule].halves_at_plateaus:
            return Plateau(self.epochs + 1, self.plateau_patience)
        ignored = self.annealing_epochs if SCHEDULES[self.kl_schedule].plateau_waits else 0.0
        return Plateau(self.plateau_from, self.plateau_patience, ignored)


def _length(name: str, epochs: float) -> float:
    """A length of the schedule in epochs, whole ones where it is the first epoch of a rule."""
    return max(1, round(epochs)) if name == "plateau_from" else epochs


def _scaled(rate: float, factor: float) -> float:
    return float(f"{rate * factor:.3g}")


class Pretraining(BaseModel):
    """A run before the main one, whose encoder starts it: the fields of the recipe in which it differs.

    Objective, scheme, freezing and the encoder's rate are not those of the main run, but the defaults, where `training`
    does not name them.

    With `reset_decoder: false` the whole model starts the main run, which must then have a model of the same sizes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    reset_decoder: bool = True

    @field_validator("model", "training")
    @classmethod
    def _names(cls, fields: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return named(fields, PARTS if info.field_name == "training" else PARTS_OF_MODEL)


def named(fields: Mapping[str, Any], parts: Mapping[str, Registry]) -> dict[str, Any]:
    """Fields of a recipe, with names in place of parts that are given themselves."""
    return {name: parts[name].name_of(given) if name in parts else given for name, given in fields.items()}


def require_one_of(name: str, names: Any) -> str:
    """The name. Raises ValueError that lists the names where it is not one of them."""
    if name not in names:
        raise ValueError(f"{name!r} is not one of {', '.join(names)}")
    return name
