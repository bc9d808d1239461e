"""Recipes: what `configuration/` says of a corpus, a preset and a method, merged, checked and written down.

Later wins: training preset, then method, then `--set section.field=value`. A name means a file of `configuration/`, a
path the user's own YAML.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from transformers import PreTrainedTokenizerBase

from ..configuration_seqvae import SeqVAEConfig
from ..data.corpora import CorpusSpec
from .objectives import OBJECTIVES
from .schedules import CYCLES, SCHEDULES, Plateau

PACKAGE = Path(__file__).resolve().parents[1]


class TrainingSpec(BaseModel):
    """How a model is optimised. The defaults are the paper's; `docs/training.md` explains each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: str = "elbo"
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = Field(1.0, gt=0)
    max_grad_norm: float = Field(5.0, gt=0)
    batch_size: int = Field(32, ge=1)
    accumulation_steps: int = Field(1, ge=1)
    epochs: int = Field(100, ge=1)
    kl_schedule: str = "linear"
    kl_start: float = Field(0.1, ge=0)
    kl_stop: float = Field(1.0, ge=0)
    anneal_epochs: float = Field(10, ge=0)
    plateau_from: int = Field(15, ge=1)
    plateau_patience: int = Field(2, ge=1)
    max_halvings: int = Field(5, ge=1)
    precision: Literal["auto", "no", "bf16"] = "auto"
    save_minutes: float = Field(10, gt=0)
    trackers: list[str] = []
    seed: int = Field(0, ge=0)

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, name: str) -> str:
        return _one_of(name, OBJECTIVES)

    @field_validator("kl_schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        return _one_of(name, SCHEDULES)

    def kl_weight(self, epochs: float) -> float:
        """The KL weight when `epochs` epochs, fractions counted, have passed."""
        periods = epochs / self.anneal_epochs if self.anneal_epochs else float("inf")
        return SCHEDULES[self.kl_schedule](periods, self.kl_start, self.kl_stop)

    def plateau(self) -> Plateau:
        """The learning-rate rule; it waits until a cyclical schedule has run its cycles."""
        begin = self.plateau_from
        if self.kl_schedule == "cyclical":
            begin = max(begin, round(CYCLES * self.anneal_epochs))
        return Plateau(begin, self.plateau_patience)


class Recipe(BaseModel):
    """Everything a run is: corpus, model and training. Written to `recipe.yaml` in the run's directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    title: str
    corpus: CorpusSpec
    limits: dict[Literal["train", "validation", "test"], int] = {}
    model: dict[str, Any] = {}
    training: TrainingSpec = TrainingSpec()

    @field_validator("model")
    @classmethod
    def _known_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields:
            _one_of(name, MODEL_FIELDS)
        SeqVAEConfig(**fields)
        return fields

    def config(self, tokenizer: PreTrainedTokenizerBase) -> SeqVAEConfig:
        """The configuration of the model, sized to a tokenizer."""
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "unk")}
        return SeqVAEConfig(vocab_size=len(tokenizer), **ids, **self.model)

    def save(self, path: Path) -> None:
        """Write the recipe as YAML."""
        path.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True), "utf-8")

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """Read a `recipe.yaml`. Raises FileNotFoundError, or ValueError that names the file and field."""
        return _checked(_read_yaml(path), path)


MODEL_FIELDS = tuple(
    name
    for name in SeqVAEConfig.__annotations__
    if not name.endswith("_token_id") and name not in ("vocab_size", "is_encoder_decoder", "use_cache")
    if not name.startswith("_") and name not in ("model_type", "keys_to_ignore_at_inference")
)
"""What a recipe may say of the model; the tokenizer decides the rest."""


def configuration_root() -> Path:
    """The folder of methods, corpora and presets: the installed package's copy, or the checkout's `configuration/`."""
    packaged = PACKAGE / "configuration"
    return packaged if packaged.is_dir() else PACKAGE.parent / "configuration"


def available(kind: str) -> list[str]:
    """The names under `configuration/<kind>`: kind is `methods`, `corpora` or `training`."""
    return sorted(path.stem for path in (configuration_root() / kind).glob("*.yaml"))


def named_settings(kind: str, name: str) -> dict[str, Any]:
    """The YAML of a name under `configuration/<kind>`, or of the user's own file; ValueError lists the names."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = configuration_root() / kind / f"{name}.yaml"
        if not path.is_file():
            raise ValueError(f"{name!r} is not one of the {kind}: {', '.join(available(kind))}; or give a YAML file")
    return _read_yaml(path)


def corpus_spec(corpus: str | CorpusSpec) -> CorpusSpec:
    """The spec of a name in `configuration/corpora` or of the user's own YAML; a spec stays itself."""
    if isinstance(corpus, CorpusSpec):
        return corpus
    try:
        return CorpusSpec.model_validate(named_settings("corpora", corpus).get("data", {}))
    except ValidationError as error:
        raise ValueError(f"corpus {corpus}: " + "; ".join(_sentence(problem) for problem in error.errors())) from None


def resolve(
    method: str,
    corpus: str | CorpusSpec,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    limits: Mapping[str, int] | None = None,
) -> Recipe:
    """The recipe of a method on a corpus; `preset` defaults to the corpus's own, `overrides` are `section.field=value`.

    Raises ValueError for unknown names, keys and values, FileNotFoundError for a missing file.
    """
    if isinstance(corpus, str):
        preset = preset or named_settings("corpora", corpus).get("preset", "paper")
    data = corpus_spec(corpus).model_dump()
    preset = preset or "small"
    chosen = named_settings("methods", method)
    merged: dict[str, Any] = {"method": Path(method).stem, "title": chosen.pop("title", method)}
    merged |= {"corpus": data, "limits": dict(limits or {}), "model": {}, "training": {}}
    for layer in (named_settings("training", preset), chosen, _parse(overrides)):
        for section, values in layer.items():
            known = _one_of(section, ("corpus", "model", "training"))
            if not isinstance(values, Mapping):
                raise ValueError(f"section {section!r} must hold fields, as in `{section}: {{field: value}}`")
            merged[known] = {**merged[known], **values}
    return _checked(merged, None)


def _parse(overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`["training.epochs=5"]` -> `{"training": {"epochs": 5}}`; values are read as YAML."""
    parsed: dict[str, dict[str, Any]] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        section, dot, field = key.strip().partition(".")
        if not (equals and dot and field):
            raise ValueError(f"{override!r} is not of the form section.field=value, such as training.epochs=5")
        parsed.setdefault(section, {})[field] = yaml.safe_load(value)
    return parsed


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping of sections")
    return content


def _checked(merged: dict[str, Any], path: Path | None) -> Recipe:
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        where = f"{path}: " if path else ""
        raise ValueError(where + "; ".join(_sentence(problem) for problem in error.errors())) from None


def _sentence(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = {"training": TrainingSpec, "corpus": CorpusSpec}.get(str(problem["loc"][0]), Recipe)
        return f"{field} is not a field: the fields are {', '.join(known.model_fields)}"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {reason[:1].lower() + reason[1:]} (got {problem['input']!r})" if field else reason


def _one_of(name: str, names: Any) -> str:
    if name not in names:
        raise ValueError(f"{name!r} is not one of {', '.join(names)}")
    return name
