"""What is asked of `seqvae reproduce`, the steps that it makes of methods and seeds, and what the paper says."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ..data.corpus_spec import CorpusSpec
from ..data.files import read_yaml
from ..training.configuration import available, configuration_root, method_settings
from ..training.recipe import Recipe, corpus_and_preset, corpus_spec, leaves, resolve
from .steps import Evaluation, Training

LONGEST = 80
"""Characters of a folder's name that tells a run's settings; longer ones end in a digest."""


@dataclass(frozen=True)
class Request:
    """A corpus, a preset, methods and so on, as the command line has them. `limits` are counts by split.

    `methods` empty: the target's own. `preset` None: the corpus's own. `nll_sentences` None: all. `transfer` is the
    corpus of the encoder that table5 carries over; None: the one that is usual for the corpus, if any.
    """

    corpus: str | CorpusSpec
    preset: str | None = None
    methods: tuple[str, ...] = ()
    seeds: int = 1
    limits: Mapping[str, int] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    data_dir: Path | None = None
    nll_sentences: int | None = None
    transfer: str | None = None
    imports: tuple[str, ...] = ()
    _recipes: dict[Any, Recipe] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """Where runs of the corpus stand, and what targets make of them, relative to an output directory."""
        return _corpus_folder(corpus_spec(self.corpus))

    @cached_property
    def read(self) -> CorpusSpec:
        """The corpus as the runs read it: with what the preset and the overrides say of it."""
        own = [override for override in self.overrides if override.strip().startswith("corpus.")]
        return resolve("seqvae", self.corpus, self.preset, own, imports=self.imports).corpus

    def methods_or(self, own: Sequence[str]) -> list[str]:
        """The methods asked for, or else the target's own. Unknown ones: ValueError with the list of what there is."""
        chosen = list(dict.fromkeys(self.methods or own))
        known = available("methods")
        missing = [name for name in chosen if name not in known and Path(name).suffix not in (".yaml", ".yml")]
        if missing and not self.methods:
            raise ValueError(
                f"there is no file in configuration/methods for {', '.join(missing)}; choose with --methods from "
                f"{', '.join(known)}"
            )
        if missing:
            raise ValueError(
                f"--methods {', '.join(missing)}: the methods are {', '.join(known)}, or a YAML file of yours"
            )
        _require_titles(chosen)
        return chosen

    def trainings(self, method: str, *overrides: str, corpus: str | None = None) -> list[Training]:
        """The run of each seed: a method with further `overrides`, or on another corpus.

        Raises what `resolve` raises.
        """
        return [self.training(method, seed, *overrides, corpus=corpus) for seed in range(self.seeds)]

    def training(self, method: str, seed: int, *overrides: str, corpus: str | None = None) -> Training:
        """The run of one seed. What limits the test set has no part in a training.

        Raises ValueError for an override of the request that would make the method another one.
        """
        _require_common(method, self.overrides)
        _require_free(self.overrides, overrides)
        wanted = (*self.overrides, *overrides)
        recipe, plain = self._recipe(method, wanted, corpus), self._recipe(method, (), corpus)
        named = self.corpus if corpus is None else corpus
        settings = settings_name(preset_name(named, self.preset), recipe.limits, recipe, plain)
        folder = Path(_corpus_folder(recipe.corpus), _safe(recipe.method), settings, f"seed{seed}")
        changes = _changes(recipe.limits, [*wanted, f"training.seed={seed}"])
        options = ["--method", method, *self._corpus_options(named), *changes, *_columns(named), *self._imported()]
        seeded = recipe.training.model_copy(update={"seed": seed})
        return Training(recipe.model_copy(update={"training": seeded}), folder, self.data_dir, tuple(options))

    def _recipe(self, method: str, overrides: tuple[str, ...], corpus: str | None) -> Recipe:
        """That of every seed, resolved once: a table of many rows and seeds would else take seconds for nothing new."""
        if (method, overrides, corpus) not in self._recipes:
            limits = {name: count for name, count in self.limits.items() if name != "test"}
            self._recipes[method, overrides, corpus] = resolve(
                method, corpus or self.corpus, self.preset, overrides, limits, imports=self.imports
            )
        return self._recipes[method, overrides, corpus]

    def evaluation(self, training: Training, shuffled: bool = False) -> Evaluation:
        """The figures of a run's best model on the test set."""
        return Evaluation(training, self.nll_sentences, self.limits.get("test"), shuffled)

    def measured(self, name: str) -> str:
        """The file of what is measured on the test set, which says of how many documents if not of all."""
        limit = self.limits.get("test")
        return f"{name}.json" if limit is None else f"{name}-test{limit}.json"

    def command(self, target: str) -> str:
        """The command line that asks for this, but for --data-dir and --output-dir."""
        words = ["seqvae", "reproduce", target, *self._corpus_options(self.corpus)]
        words += ["--methods", ",".join(self.methods)] if self.methods else []
        words += ["--seeds", str(self.seeds)] if self.seeds > 1 else []
        words += _changes(self.limits, self.overrides)
        words += ["--nll-sentences", str(self.nll_sentences)] if self.nll_sentences else []
        words += ["--transfer", self.transfer] if self.transfer else []
        return shlex.join([*words, *_columns(self.corpus), *self._imported()])

    def _corpus_options(self, corpus: str | CorpusSpec) -> list[str]:
        return ["--corpus", _as_named(corpus), *(["--preset", self.preset] if self.preset else [])]

    def _imported(self) -> list[str]:
        return [word for module in self.imports for word in ("--import", module)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all but where the corpora's files are."""
        corpus = self.corpus.model_dump(mode="json") if isinstance(self.corpus, CorpusSpec) else self.corpus
        fields = {name: getattr(self, name) for name in ("preset", "seeds", "nll_sentences", "transfer")}
        lists: dict[str, Any] = {"methods": list(self.methods), "limits": dict(self.limits)}
        lists |= {"overrides": list(self.overrides), **({"imports": list(self.imports)} if self.imports else {})}
        return {"corpus": corpus, **fields, **lists}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Request":
        """The request that `as_dict` gave."""
        corpus = content["corpus"]
        corpus = corpus if isinstance(corpus, str) else CorpusSpec.model_validate(corpus)
        tuples = {name: tuple(content.get(name, ())) for name in ("methods", "overrides", "imports")}
        return cls(**{**content, "corpus": corpus, **tuples})


def _require_common(method: str, overrides: Sequence[str]) -> None:
    """Refuses overrides of the seed, and of what a method's own file sets, which is what makes it that method."""
    sections = {name: part for name, part in method_settings(method).items() if isinstance(part, Mapping)}
    own = dict(leaves(sections)) | {
        f"{section}.{field}": value for section, part in sections.items() for field, value in part.items() if not value
    }
    for name in _fields(overrides):
        if name == "training.seed":
            raise ValueError("--set training.seed: seeds are 0, 1, ...; say with --seeds how many")
        for its, value in own.items():
            if f"{name}.".startswith(f"{its}.") or f"{its}.".startswith(f"{name}."):
                raise ValueError(
                    f"--set {name}: {method} would not be {method} without its own {its}, {_plain(value)}; leave one "
                    "of the two out, or give a preset file of yours with --preset, which leaves methods their own "
                    "values"
                )


def _require_titles(methods: Sequence[str]) -> None:
    """Refuses methods that tables and pictures could not tell apart."""
    of_title: dict[str, str] = {}
    for method in methods:
        title = str(method_settings(method)["title"])
        if of_title.setdefault(title, method) != method:
            raise ValueError(f"--methods {of_title[title]},{method}: both have the title {title!r}; give yours another")


def _require_free(given: Sequence[str], own: Sequence[str]) -> None:
    """Refuses overrides of what a target itself sets."""
    for name in _fields(given):
        if name in _fields(own):
            raise ValueError(f"--set {name}: this table or figure sets it itself; leave it out")


def _fields(overrides: Sequence[str]) -> list[str]:
    """The names in `name=value`."""
    return [override.partition("=")[0].strip() for override in overrides]


def _changes(limits: Mapping[str, int], overrides: Sequence[str]) -> list[str]:
    """The options of the command line for limits and overrides."""
    counts = [word for split, count in limits.items() for word in ("--limit", f"{split}={count}")]
    return counts + [word for override in overrides for word in ("--set", override)]


def _columns(corpus: str | CorpusSpec) -> list[str]:
    """The options of the command line for the columns of a table of one's own."""
    if isinstance(corpus, str):
        return []
    named = {"--text-column": corpus.text_column, "--label-column": corpus.label_column}
    return [word for option, column in named.items() if column for word in (option, column)]


def _as_named(corpus: str | CorpusSpec) -> str:
    """How the command line names a corpus: a file or folder of one's own by its path."""
    if isinstance(corpus, str):
        return corpus
    if corpus.files is None:
        return corpus.name
    train = str(corpus.files.train)  # which a corpus to train on has
    alone = corpus.files.validation is None and corpus.files.test is None
    return train if alone else str(Path(train).parent)


def preset_name(corpus: str | CorpusSpec, preset: str | None) -> str:
    """The preset that a recipe of this corpus is made of: the one asked for, or the corpus's own."""
    return corpus_and_preset(corpus)[1] if preset is None else Path(preset).stem


def preset_defaults(preset: str | None) -> dict[str, Any]:
    """The fields of a request that a preset has values for, by configuration/paper/presets.yaml."""
    return dict(paper_settings("presets").get(preset or "", {}))


def settings_name(preset: str, limits: Mapping[str, int], recipe: Recipe, plain: Recipe) -> str:
    """A folder's name for what a run has beside its method, corpus and seed: `small-train10000-kl_start=1.0`.

    The overrides in it are the fields in which the recipe differs from the `plain` one, whatever way they were said.
    """
    here, there = (dict(leaves(made.model_dump(mode="json"))) for made in (recipe, plain))
    changed = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    parts = [f"{split}{count}" for split, count in sorted(limits.items())]
    parts += [f"{_short(name)}={_plain(here.get(name))}" for name in changed]
    name = "-".join([preset, *parts])
    if _safe(name) == name and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(json.dumps([name, *changed]).encode()).hexdigest()[:8]
    return f"{_safe(name)[:LONGEST]}-{digest}"


def _short(name: str) -> str:
    """The last part of a field's name, `pretraining` before one of these, which the main run has as well."""
    return f"pretraining.{name.rpartition('.')[2]}" if name.startswith("pretraining.") else name.rpartition(".")[2]


def _corpus_folder(corpus: CorpusSpec) -> Path:
    return Path(_safe(corpus.name))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _safe(name: str) -> str:
    """A name that any file system takes, and that is neither hidden nor a way out of the folder."""
    return re.sub(r"[^\w.+=-]+", "_", name).lstrip(".") or "_"


@cache
def paper_settings(name: str) -> dict[str, Any]:
    """The content of configuration/paper/NAME.yaml."""
    return read_yaml(configuration_root() / "paper" / f"{name}.yaml")


def rows_of(target: str) -> list[str]:
    """The methods of a table or figure, in order."""
    return list(paper_settings("rows")[target])


def published(table: str, corpus: str) -> Mapping[str, Mapping[str, float]]:
    """The paper's figures of a table on a corpus, by method; none where it has none."""
    return paper_settings("published")[table].get(corpus, {})
