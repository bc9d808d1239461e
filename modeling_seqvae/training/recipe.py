"""Recipes: what `configuration/` says of a corpus, a preset and a method, merged, checked and written down.

Later wins: training preset, then method, then `--set section.field=value`. A name means a file of `configuration/`, a
path the user's own YAML.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub.errors import StrictDataclassError
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator
from transformers import PreTrainedTokenizerBase

from ..configuration_seqvae import PARTS, SeqVAEConfig
from ..data.batching import sentence_lengths, tokenise
from ..data.columns import Texts, identity_of, require_texts
from ..data.corpus_spec import IN_MEMORY, CorpusFiles, CorpusSpec
from ..data.files import dump_yaml, read_yaml, write_text, yaml_value
from ..data.hub_corpora import HubSource
from ..data.subwords import BPE, GIVEN, WORDS, kind_of, require_control_tokens, token_count
from ..loading import wrong_field
from ..own_modules import import_parts
from ..posteriors import PopulationHead, head_of, require_posterior
from ..tokenization import content_hash, vocabulary_hash
from .configuration import SECTIONS, merge_into, method_layers, named_settings, put_over, require_known
from .elbo import LOSSES
from .objectives import objective_class
from .schemes import SCHEMES
from .specs import LENGTHS, RATES, Pretraining, TrainingSpec, named, require_one_of

OWN_TEXTS = "auto"
"""The preset of texts that are no corpus of `configuration/corpora`, where none is named."""


class Recipe(BaseModel):
    """Everything a run is: corpus, model and training. Written to `recipe.yaml` in the run's directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    title: str
    imports: list[str] = []  # modules of the user's own whose parts it names: names, or paths of Python files
    corpus: CorpusSpec
    limits: dict[str, int] = {}
    data_dir: str | None = None  # where the corpus's files were when the run began
    texts: dict[str, Texts] = {}  # what the splits' texts, as limited, are known by
    model: dict[str, Any] = {}
    training: TrainingSpec = TrainingSpec()
    pretraining: Pretraining | None = None
    encoder_from: str | None = None  # a run, checkpoint or name on the hub, whose encoder starts this run

    @field_validator("imports")  # before the fields that name what they register
    @classmethod
    def _imported(cls, modules: list[str]) -> list[str]:
        try:
            import_parts(modules)
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None
        return [str(Path(module).resolve()) if module.endswith(".py") else module for module in modules]

    @field_validator("encoder_from")
    @classmethod
    def _wherever_it_is_read(cls, source: str | None) -> str | None:
        return str(Path(source).resolve()) if source and Path(source).exists() else source

    @field_validator("corpus")
    @classmethod
    def _can_be_trained_on(cls, corpus: CorpusSpec) -> CorpusSpec:
        if corpus.test_alone:
            raise ValueError("files.train is missing: there is a test set alone")
        return corpus

    @field_validator("model")
    @classmethod
    def _known_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            known = model_fields(SeqVAEConfig(**{name: fields[name] for name in MODEL_FIELDS if name in fields}))
            for name in fields:
                require_one_of(name, known)
            options = SeqVAEConfig(**fields).options_of(*PARTS)
        except StrictDataclassError as error:  # no ValueError, which pydantic would gather
            raise ValueError(wrong_field(error)) from None
        return named(fields, PARTS) | options  # which a later version of a part may have other defaults for

    @model_validator(mode="after")
    def _model_can_be_trained_so(self) -> "Recipe":
        config = self.sizes
        if config.latent_size > 0:
            require_posterior(config)
        objective = objective_class(self.training.objective)
        if objective.selects_by not in LOSSES:
            raise ValueError(
                f"training.objective {self.training.objective} chooses by {objective.selects_by!r}: the best epoch has "
                f"the lowest {' or '.join(LOSSES)}"
            )
        objective.require(config, self.training)
        SCHEMES[self.training.scheme].require(config)
        whole = config.latent_size > 0 and isinstance(head_of(config), PopulationHead)
        if whole and self.training.accumulation_steps > 1:
            raise ValueError(
                f"model.posterior {config.posterior} needs the whole batch at once: "
                "training.accumulation_steps must be 1"
            )
        if self.pretraining is not None and self.encoder_from is not None:
            raise ValueError(
                "a run begins with a pretraining or with the encoder of encoder_from, not with both: change nothing of "
                "pretraining, or leave out --encoder-from"
            )
        if self.starts_from_encoder and config.latent_size == 0:
            raise ValueError("pretraining and encoder_from need an encoder: model.latent_size is 0")
        return self

    @model_validator(mode="after")
    def _can_be_pretrained_so(self) -> "Recipe":
        try:
            stage = self.pretraining_recipe()
        except ValidationError as error:
            raise ValueError(_sentences(error, "pretraining.")) from None
        if stage and self.pretraining:
            first, main = stage.sizes, self.sizes
            changed = ", ".join(differing(first, main, taken_over(main, whole=not self.pretraining.reset_decoder)))
            if changed:
                raise ValueError(f"pretraining.model cannot change what the main run takes over: {changed}")
            if stage.training.precision != self.training.precision:
                raise ValueError("pretraining.training.precision must be that of training, one for a process")
        return self

    @property
    def parts(self) -> dict[str, str]:
        """The names of the parts that make up its system, by their fields."""
        sizes = self.sizes
        return {field: getattr(sizes, field) for field in PARTS} | {
            "objective": self.training.objective,
            "scheme": self.training.scheme,
        }

    @property
    def sizes(self) -> SeqVAEConfig:
        """The configuration of the model but for its vocabulary."""
        return SeqVAEConfig(**self.model)

    @property
    def starts_from_encoder(self) -> bool:
        """Whether the run begins with an encoder that another one has trained."""
        return self.pretraining is not None or self.encoder_from is not None

    def pretraining_recipe(self) -> "Recipe | None":
        """The recipe of the run before this one: this one with what `pretraining` changes. None without that."""
        if self.pretraining is None:
            return None
        fields = self.model_dump() | {"pretraining": None, "title": f"{self.title}, pretraining"}
        fields["model"] = put_over(self.model, self.pretraining.model, "model")
        shared = {name: value for name, value in fields["training"].items() if name not in OF_THE_MAIN_RUN}
        fields["training"] = put_over(shared, self.pretraining.training, "training")
        return Recipe.model_validate(fields)

    @property
    def unsettled(self) -> bool:
        """Whether something still depends on the training set or on the machine."""
        stages = (dict(self.training), self.pretraining.training if self.pretraining else {})
        waits = any(stage.get(name) for stage in stages for name in ("updates", "rate_words"))
        return waits or self.training.precision == "native"

    def settled_on(self, train_set: Dataset, tokenizer: PreTrainedTokenizerBase) -> "Recipe":
        """The recipe `settled` for the texts of a training set."""
        if not self.unsettled:
            return self
        lengths = sentence_lengths(tokenise(train_set, tokenizer))
        return self.settled(len(train_set), float(lengths.mean()) - 1)  # <s> is not predicted

    def settled(self, sentences: int, words: float) -> "Recipe":
        """The recipe with what depends on the training set and on the machine decided; once it is, itself.

        `words` is how many tokens the decoder predicts of a text, on average.
        """
        training = self.training.settled(sentences, words)
        stage = self.pretraining_recipe()
        if self.pretraining is None or stage is None:
            return self.model_copy(update={"training": training})
        fields = {name: value for name, value in self.pretraining.training.items() if name != "precision"}
        settled = stage.training.settled(sentences, words)
        if self.training.updates or stage.training.updates:
            fields |= {name: getattr(settled, name) for name in (*LENGTHS, "updates")}
        if stage.training.rate_words:
            fields |= {name: getattr(settled, name) for name in RATES}
        pretraining = self.pretraining.model_copy(update={"training": fields})
        return self.model_copy(update={"training": training, "pretraining": pretraining})

    def config(self, tokenizer: PreTrainedTokenizerBase) -> SeqVAEConfig:
        """The configuration of the model, sized to a tokenizer, whose words it remembers.

        Raises ValueError for a tokenizer without four different special tokens.
        """
        require_control_tokens(tokenizer)
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "unk")}
        words = {"vocab_size": token_count(tokenizer), "vocabulary_hash": vocabulary_hash(tokenizer)}
        return SeqVAEConfig(**words, **ids, **self.model)

    def with_texts(self, splits: Mapping[str, Dataset]) -> "Recipe":
        """The recipe that knows what its corpus's texts were, so that others are not taken for them."""
        return self.model_copy(update={"texts": {name: identity_of(rows) for name, rows in splits.items()}})

    def of_data(self, train: Dataset, validation: Dataset) -> "Recipe":
        """The recipe of a run on these data: itself where they are its texts, or else one of data in memory.

        Those are read as the recipe's own texts would be. Raises ValueError for an empty one of the two.
        """
        for split, rows in {"training": train, "validation": validation}.items():
            require_texts(rows, "input_ids")
            if len(rows) == 0:
                raise ValueError(f"the {split} set has no texts")
        found = {"train": identity_of(train), "validation": identity_of(validation)}
        if found.items() <= self.texts.items():
            return self
        places = {
            name: getattr(IN_MEMORY, name) for name in CorpusSpec.model_fields if f"corpus.{name}".startswith(PLACES)
        }
        corpus = self.corpus if self.corpus.in_memory else self.corpus.model_copy(update=places)
        return self.model_copy(update={"corpus": corpus, "limits": {}, "data_dir": None, "texts": found})

    def of_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> "Recipe":
        """The recipe of a run with this tokenizer, of which it knows the kind or, where it was not trained here, all.

        Raises ValueError where the recipe knows of another one from elsewhere.
        """
        named, known = self.corpus.tokenizer, self.corpus.tokenizer_sha256
        kind = kind_of(tokenizer)
        if named in (WORDS, BPE) and kind == named:
            return self
        found: dict[str, Any] = {"tokenizer_sha256": content_hash(tokenizer)}
        if named in (WORDS, BPE):
            found = {"tokenizer": WORDS} if kind == WORDS else found | {"tokenizer": GIVEN}
        if known is not None and known != found.get("tokenizer_sha256"):
            raise ValueError(
                f"the tokenizer is not the one that the recipe knows: corpus.tokenizer is {named!r}, with the SHA-256 "
                f"{known[:16]}..."
            )
        return self.model_copy(update={"corpus": self.corpus.model_copy(update=found)})

    def may_be_of(self, texts: Mapping[str, Texts]) -> bool:
        """Whether it is trained on these texts, as far as both are known."""
        return all(self.texts.get(split, known) == known for split, known in texts.items() if split != "test")

    def on_the_corpus_of(self, other: "Recipe") -> "Recipe":
        """The recipe with what another one says of where its texts are."""
        return self.model_copy(update={name: getattr(other, name) for name in ("corpus", "limits", "data_dir")})

    def best_of(self, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The record of a history's epoch whose weights are best/, by what the objective selects by."""
        return min(history, key=lambda record: record[objective_class(self.training.objective).selects_by])

    def save(self, path: str | Path) -> None:
        """Write the recipe as YAML, in one step."""
        write_text(Path(path), dump_yaml(self.model_dump(mode="json")))

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a `recipe.yaml`. Raises FileNotFoundError, or ValueError that names the file and field."""
        return _checked(read_yaml(Path(path)), str(path))

    def differences(self, other: "Recipe", wherever: bool = False) -> list[str]:
        """The fields in which another recipe differs: "training.epochs is 30 there and 5 here".

        `wherever` leaves out where the texts come from, for those who compare the texts themselves.
        """
        ignored: tuple[str, ...] = MAY_DIFFER
        if self.unsettled or other.unsettled:  # what is not decided yet cannot be compared
            ignored += UNSETTLED
        if wherever:
            in_memory = self.corpus.in_memory or other.corpus.in_memory
            ignored += ("corpus.", "limits.") if in_memory else PLACES
        here, there = (dict(leaves(recipe.model_dump(mode="json"))) for recipe in (self, other))
        if None in (here.get(TOKENIZER_HASH), there.get(TOKENIZER_HASH)):  # not looked at yet
            ignored += (TOKENIZER_HASH,)
        changed = [name for name in here | there if here.get(name) != there.get(name) and not name.startswith(ignored)]
        return [f"{name} is {there.get(name)!r} there and {here.get(name)!r} here" for name in changed]


MODEL_FIELDS = tuple(
    name
    for name in SeqVAEConfig.__annotations__
    if not name.endswith("_token_id") and not name.startswith(("vocab", "validation"))
    if name not in ("is_encoder_decoder", "use_cache")
    if not name.startswith("_") and name not in ("model_type", "keys_to_ignore_at_inference")
)
"""What a recipe may say of the model; the tokenizer decides the rest."""

OF_THE_MAIN_RUN = ("objective", "objective_options", "scheme", "encoder_rate", "freeze_encoder_epochs")
"""Fields of `training` that a pretraining does not share."""

ENCODER_FIELDS = (
    "embedding_size", "encoder", "conv_layers", "encoder_hidden_size", "num_hidden_layers", "latent_size",
    "pooling_mode", "posterior", "mean_scale", "num_flows", "sampler_layers", "concentration",
)  # fmt: skip
"""Fields of a configuration that say what an encoder is; another model takes it over only where they are equal."""
DECODER_FIELDS = (
    "decoder", "cnn_size", "conv_layers", "deconv_length", "hidden_size", "decoder_skip", "tie_word_embeddings",
)  # fmt: skip
"""The same of a decoder, beside those of its encoder."""


def model_fields(config: SeqVAEConfig) -> tuple[str, ...]:
    """What a recipe may say of a model with the parts of this one: MODEL_FIELDS and its parts' own options."""
    return (*MODEL_FIELDS, *config.options_of(*PARTS))


def taken_over(config: SeqVAEConfig, whole: bool = False) -> tuple[str, ...]:
    """The fields in which two models must be equal, this one and another that gives it its encoder, or all of it."""
    encoder = (*ENCODER_FIELDS, *config.options_of("encoder", "pooling_mode", "posterior"))
    return (*encoder, *DECODER_FIELDS, *config.options_of("decoder")) if whole else encoder


def differing(one: SeqVAEConfig, other: SeqVAEConfig, fields: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configurations differ, and what both have; None for an option that one of them lacks."""
    pairs = {name: (getattr(one, name, None), getattr(other, name, None)) for name in fields}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


MAY_DIFFER = (
    "title",
    "imports",
    "data_dir",
    "texts.",
    "training.accumulation_steps",
    "training.tracker",
    "training.log_updates",
    "training.save_minutes",
)
"""Beginnings of the fields in which a run may differ from the one it continues.

A title says what other fields do. Files move, the number of shards is what counts, and who watches a run, or how often
it is saved, does not change it.
"""
UNSETTLED = tuple(
    f"{section}.{name}"
    for section in ("training", "pretraining.training")
    for name in (*LENGTHS, *RATES, "updates", "precision")
)
"""What `Recipe.settled` changes."""
TOKENIZER_HASH = "corpus.tokenizer_sha256"
PLACES = tuple(f"corpus.{name}" for name in ("name", "files", "hub", "embedded", "in_memory", "text_column", "label"))
"""Beginnings of the fields that say where the texts come from, and of those of labels, which are not trained on."""


def corpus_spec(corpus: str | CorpusSpec) -> CorpusSpec:
    """The spec of a name in `configuration/corpora` or of the user's own YAML; a spec stays itself."""
    return corpus_and_preset(corpus)[0]


def corpus_and_preset(corpus: str | CorpusSpec) -> tuple[CorpusSpec, str]:
    """The same, and the preset that the corpus is trained with where none is named."""
    if isinstance(corpus, CorpusSpec):
        return corpus, OWN_TEXTS
    settings, source = named_settings("corpora", corpus)
    require_known(settings, ("data", "preset"), source)
    try:
        found = _CorpusFile.model_validate({"data": {}, **settings})
    except ValidationError as error:
        raise ValueError(f"{source}: {_sentences(error)}") from None
    return found.data, found.preset


def corpus_of(recipe: Mapping[str, Any], source: str) -> CorpusSpec:
    """The corpus of a recipe that need not be valid otherwise. Raises ValueError that names source and field."""
    try:
        return _CorpusOf.model_validate(recipe).corpus
    except ValidationError as error:
        raise ValueError(f"{source}: {_sentences(error)}") from None


class _CorpusOf(BaseModel):
    corpus: CorpusSpec


class _CorpusFile(BaseModel):
    """What a YAML file of `configuration/corpora` holds."""

    data: CorpusSpec
    preset: str = "paper"


def resolve(
    method: str,
    corpus: str | CorpusSpec | None = None,
    preset: str | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    limits: Mapping[str, int] | None = None,
    encoder_from: str | None = None,
    imports: Sequence[str] = (),
) -> Recipe:
    """The recipe of a method on a corpus; `preset` defaults to the corpus's own.

    `overrides` are `section.field=value`, values as in YAML, or a mapping of `section.field` to values. In a mapping
    the value may be a part itself: an objective, a scheme, an encoder, a pooling, a posterior or a decoder.

    Without a corpus it is for a SeqVAETrainer on data sets of one's own, and `preset` defaults to auto. `encoder_from`
    names a run, checkpoint or model on the hub whose encoder starts the run, in place of a method's own pretraining.
    `imports` are modules, or Python files, that register parts which the method or the overrides name.

    Raises ValueError that names the file for unknown names, keys and values, FileNotFoundError for a missing file.
    """
    spec, own_preset = corpus_and_preset(IN_MEMORY if corpus is None else corpus)
    layers = method_layers(method)
    titles = [layer.pop("title") for layer, _ in layers]
    merged: dict[str, Any] = {"method": Path(method).stem, "title": titles[-1]}
    own = [module for layer, _ in layers for module in layer.pop("imports", ())]
    merged["imports"] = [*imports, *own]
    merged |= {"corpus": spec.model_dump(), "limits": dict(limits or {}), "model": {}, "training": {}}
    merged["encoder_from"] = encoder_from
    importing = layers[-1][1] if own and not imports else "--import"
    named = corpus if isinstance(corpus, str) else spec.name
    recipe = _checked(merged, named, imports=importing, limits="--limit")
    for layer, source in (named_settings("training", own_preset if preset is None else preset), *layers):
        merge_into(merged, layer, source)
        if encoder_from:
            merged.pop("pretraining", None)
        recipe = _checked(merged, source)  # after each layer, so that an error names the file it stands in
    if overrides:
        source = "overrides" if isinstance(overrides, Mapping) else "--set"
        changes: dict[tuple[str, ...], dict[str, Any]] = {}
        for key, value in overrides.items() if isinstance(overrides, Mapping) else map(_setting, overrides):
            *sections, field = key.split(".")
            if not (field and sections and all(sections)):
                form = "section.field (section.field=value, such as training.epochs=5)"
                raise ValueError(f"{key!r} is not of the form {form}")
            changes.setdefault(tuple(sections), {})[field] = value
        for place, fields in changes.items():
            _override(merged, place, fields, source)
        before, recipe = recipe, _checked(merged, source)
        changed = recipe.parts.items() - before.parts.items()
        if changed:  # it is another system than the method's
            told = ", ".join(f"{field}={part}" for field, part in sorted(changed))
            recipe = recipe.model_copy(update={"title": f"{recipe.title} ({told})"})
    return recipe


def _setting(text: str) -> tuple[str, Any]:
    """The field and the value, read as YAML, of `section.field=value`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not of the form section.field=value, such as training.epochs=5")
    return key.strip(), yaml_value(value, text)


def _override(merged: dict[str, Any], sections: Sequence[str], fields: Mapping[str, Any], source: str) -> None:
    """Set fields of a section, such as ("training",) or ("pretraining", "training")."""
    require_known({sections[0]: {}}, SECTIONS, source)
    place = merged
    for number, section in enumerate(sections, start=1):
        inner = place.get(section)
        if inner is not None and not isinstance(inner, Mapping):
            key = ".".join([*sections, next(iter(fields))])
            raise ValueError(f"{source} {key}: {section} is one value and has no fields")
        new = dict(inner or {})  # a layer's own mapping stays as it is
        place[section] = put_over(new, fields, ".".join(sections)) if number == len(sections) else new
        place = place[section]


def _checked(merged: dict[str, Any], source: str, **sources: str) -> Recipe:
    """The recipe of all that is merged. `sources` say of fields where they come from, if that is not the `source`."""
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        source = sources.get(str(place[0]), source) if place else source
        raise ValueError(f"{source}: {_sentences(error)}") from None


def _sentences(error: ValidationError, section: str = "") -> str:
    return "; ".join(section + _sentence(problem) for problem in error.errors())


def _sentence(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = FIELDS_OF.get(problem["loc"][:-1], Recipe)
        return f"{field} is not a field: the fields are {', '.join(known.model_fields)}"
    reason = problem["msg"].removeprefix("Value error, ")
    given = "" if isinstance(problem["input"], Mapping) else f" (got {problem['input']!r})"
    return f"{field}: {reason[:1].lower() + reason[1:]}{given}" if field else reason


FIELDS_OF: dict[tuple[str, ...], type[BaseModel]] = {
    ("training",): TrainingSpec,
    ("corpus",): CorpusSpec,
    ("corpus", "files"): CorpusFiles,
    ("corpus", "hub"): HubSource,
    ("data",): CorpusSpec,
    ("data", "files"): CorpusFiles,
    ("data", "hub"): HubSource,
    ("pretraining",): Pretraining,
}


def leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, by dotted names."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
