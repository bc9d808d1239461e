"""What a configuration and a recipe choose from by name: parts of the package, and those that modules of yours add."""

import inspect
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

Part = TypeVar("Part")

PACKAGE = __name__.rpartition(".")[0]
"""This package; of the copy beside a checkpoint, the one that transformers makes of its folder."""


PLAIN = (bool, int, float, str)
"""Types of an option: what JSON and YAML hold, and give back as it was."""

READ, KEYWORDS = "read", "keywords"
"""How parts find their options: in the configuration that they are built with, or as keyword arguments."""


@dataclass
class Registered:
    """What a registry knows of a part, beside the part."""

    home: str
    """The module that has registered it, or else of its definition, which may be another."""
    options: dict[str, Any] = field(default_factory=dict)
    """Those that it has, with their defaults."""
    given: bool = False
    """Whether no module has registered it, but it was given itself."""


class Registry(dict[str, Any]):
    """Parts by name, to which `register` adds yours.

    @POOLINGS.register("first")
    def first_pool(states, mask): ...
    """

    def __init__(self, title: str = "registry", kind: str = "a function or a class", takes: str = "") -> None:
        super().__init__()
        self.title, self.kind = title, kind
        self.takes = takes  # whether its parts have options, and how they find them: READ, KEYWORDS, or not
        self.fits: Callable[[Any], bool] = callable  # whether something is of that kind; set where that is defined
        self.registered: dict[str, Registered] = {}

    def __missing__(self, name: Any) -> NoReturn:
        raise ValueError(
            f"{name!r} is not one of {', '.join(self)}; a part of your own must be imported first, in Python by its "
            "module's import (of a SeqVAEVectorizer: imports=[MODULE]), on the command line by --import MODULE; where "
            "a checkpoint that you trust has the module, from_pretrained(..., trust_remote_code=True) or --import "
            "CHECKPOINT/MODULE.py imports it"
        )

    def register(self, name: str, /, **options: bool | int | float | str) -> Callable[[Part], Part]:
        """A decorator that gives a part a name. A part of a model may add fields to the configuration, its options.

        Those of an aggregation are its keyword-only arguments whose defaults are numbers, words or truth values. Other
        parts find theirs in the configuration that they are built with: `options` are those, with their defaults.
        Raises ValueError for a name that another part has, for what is no part of this kind, and for an option that is
        no plain value, or that this kind of part does not take so.
        """
        home = sys._getframe(1).f_globals.get("__name__", "")
        for option, default in options.items():
            if self.takes != READ:
                told = "give the argument a default" if self.takes else "an objective's are its keyword-only arguments"
                raise ValueError(f"{self.title}.register({name!r}) takes no options such as {option}: {told}")
            if type(default) not in PLAIN:
                raise ValueError(f"the default of {option} must be a number, a word, True or False, not {default!r}")

        def add(part: Part) -> Part:
            if not self.fits(part):
                raise ValueError(f"{part!r} is not {self.kind}")
            lacking = sorted(getattr(part, "__abstractmethods__", ()))
            if lacking:
                raise ValueError(f"{part!r} lacks {', '.join(lacking)}, which {self.kind} must have")
            there = self.get(name)
            if there is not None and _origin(there) != _origin(part):
                raise ValueError(f"{name!r} is the name of {'.'.join(_origin(there))} already: give yours another")
            own = _keywords(part, name) if self.takes == KEYWORDS else options
            self[name], self.registered[name] = part, Registered(home, own)
            _note_code(home)
            return part

        return add

    def name_of(self, part: Any) -> str:
        """The name of a part; a name stays itself. A part that has none yet is known by that of its definition.

        A function or class of a module that is defined anew takes the place of the earlier one, with a warning. Raises
        ValueError for a part without a name (a lambda, an instance), for a name that is taken, by another function that
        the same function has made too, and for what is no part of this kind.
        """
        if isinstance(part, str):
            return part
        for name, known in self.items():
            if known is part:
                return name
        name = getattr(part, "__name__", "")
        if not name.isidentifier():
            raise ValueError(
                f"{part!r} is not one of {', '.join(self)}, nor a part with a name: register one of your own, as in "
                f"@{self.title}.register('mine')"
            )
        there, origin = self.get(name), ".".join(_origin(part))
        if there is not None and self.of(name).given and _origin(there) == _origin(part):
            if there == part:  # a method, which is made at every access
                return name
            if _origin(part)[1] != name:
                raise ValueError(f"{name!r} is the name of another {origin} already: give each a __name__ of its own")
            warnings.warn(
                f"{name!r} is another {origin} now: what names it, earlier configurations included, means this one",
                stacklevel=2,
            )
        self.register(name)(part)
        self.registered[name].given = True
        return name

    def of(self, name: str) -> Registered:
        """What is known of a part. Raises ValueError for a name that nobody has registered."""
        part = self[name]
        return self.registered.get(name) or Registered(part.__module__)

    def options_of(self, name: str) -> dict[str, Any]:
        """The options of a part, with their defaults; of a name that nobody has registered, none."""
        return self.of(name).options if name in self else {}


POOLINGS = Registry("POOLINGS", "a function, or a class of modules", takes=KEYWORDS)
"""The values of `SeqVAEConfig.pooling_mode`. A part is a function, or a module class built with the hidden size."""
ENCODERS = Registry(
    "ENCODERS",
    "a subclass of SeqVAEEncoder that overrides make_layers, run or read, and neither forward nor output",
    takes=READ,
)
"""The values of `SeqVAEConfig.encoder`: subclasses of `encoders.SeqVAEEncoder`."""
POSTERIORS = Registry("POSTERIORS", takes=READ)
"""The values of `SeqVAEConfig.posterior`: each builds a head from the width of the features and the configuration."""
DECODERS = Registry("DECODERS", "a subclass of Decoder", takes=READ)
"""The values of `SeqVAEConfig.decoder`: subclasses of `decoders.Decoder`."""
OBJECTIVES = Registry("OBJECTIVES", "a function of the model's output, or a subclass of Elbo")
"""The values of `training.objective`: subclasses of `training.elbo.Elbo`, or functions of the model's output.

A function is given (output, kl_weight), and what it has as keyword-only arguments from `training.objective_options`; it
returns the loss, (), the mean over sentences in nats.
"""
SCHEDULES = Registry("SCHEDULES", "a Schedule")
"""The values of `training.kl_schedule`: a `training.schedules.Schedule` each."""
SCHEMES = Registry("SCHEMES", "a subclass of JointUpdate")
"""The values of `training.scheme`: subclasses of `training.update.JointUpdate`."""


def keyword_arguments(part: Any) -> list[inspect.Parameter]:
    """The keyword-only arguments of a function or class: the options of an aggregation and of an objective."""
    return [each for each in inspect.signature(part).parameters.values() if each.kind is each.KEYWORD_ONLY]


def _keywords(part: Any, name: str) -> dict[str, Any]:
    """The keyword-only arguments of a function or class whose defaults are plain values, with these.

    Raises ValueError for one without a default: nobody would give it.
    """
    try:
        arguments = keyword_arguments(part)
    except (TypeError, ValueError):  # of what is not written in Python
        return {}
    for each in arguments:
        if each.default is each.empty:
            raise ValueError(f"{name!r} has the argument {each.name}, an option, without a default: give it one")
    return {each.name: each.default for each in arguments if type(each.default) in PLAIN}


CODE: dict[str, str] = {}
"""Modules of one's own that have registered parts, and the text of each as it was then."""


def _note_code(home: str) -> None:
    """Keep the text of a module that registers a part, which may change on the disk while the module runs."""
    if home.startswith(f"{PACKAGE}."):
        return
    text = text_of(getattr(sys.modules.get(home), "__file__", None))
    if text is not None:
        CODE[home] = text


def text_of(file: str | Path | None) -> str | None:
    """The text of a file, or None where there is none to read."""
    try:
        return Path(file).read_text("utf-8") if file else None
    except (OSError, UnicodeError):
        return None


def subclass_of(base: type, functions: bool = False) -> Callable[[Any], bool]:
    """Whether a part is a subclass of `base`, or else, with `functions`, something to call."""
    return lambda part: issubclass(part, base) if isinstance(part, type) else functions and callable(part)


def _origin(part: Any) -> tuple[str, str]:
    """Where a part is defined: the same when its module is imported again."""
    described = re.sub(" at 0x[0-9a-fA-F]+", "", repr(part))  # of a schedule or a partial, without the place in memory
    return getattr(part, "__module__", None) or "", getattr(part, "__qualname__", described)
