"""What a configuration and a recipe choose from by name: parts of the package, and those that modules of yours add."""

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

Part = TypeVar("Part")


class Registry(dict[str, Any]):
    """Parts by name. `register` adds one of yours:

    @POOLINGS.register("first")
    def first_pool(states, mask): ...
    """

    def __init__(self, title: str = "registry", kind: str = "a function or a class") -> None:
        super().__init__()
        self.title, self.kind = title, kind
        self.fits: Callable[[Any], bool] = callable  # whether something is of that kind; set where that is defined
        self.given: set[str] = set()  # names of parts that no module has registered, but that were given themselves
        self.homes: dict[str, str] = {}  # the module that has registered a name; what it registers may be of another

    def __missing__(self, name: Any) -> NoReturn:
        raise ValueError(
            f"{name!r} is not one of {', '.join(self)}; a part of your own must be imported first (--import MODULE)"
        )

    def register(self, name: str) -> Callable[[Part], Part]:
        """A decorator that gives a part a name.

        Raises ValueError for a name that another part has, and for what is no part of this kind.
        """
        home = sys._getframe(1).f_globals.get("__name__", "")

        def add(part: Part) -> Part:
            if not self.fits(part):
                raise ValueError(f"{part!r} is not {self.kind}")
            there = self.get(name)
            if there is not None and _origin(there) != _origin(part):
                raise ValueError(f"{name!r} is the name of {'.'.join(_origin(there))} already: give yours another")
            self[name] = part
            self.homes[name] = home
            self.given.discard(name)
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
        if name in self.given and _origin(there) == _origin(part):
            if there == part:  # a method, which is made at every access
                return name
            if _origin(part)[1] != name:
                raise ValueError(f"{name!r} is the name of another {origin} already: give each a __name__ of its own")
            warnings.warn(
                f"{name!r} is another {origin} now: what names it, earlier configurations included, means this one",
                stacklevel=2,
            )
        self.register(name)(part)
        self.given.add(name)
        return name


POOLINGS = Registry("POOLINGS", "a function, or a class of modules")
"""The values of `SeqVAEConfig.pooling_mode`. A part is a function, or a module class built with the hidden size."""
ENCODERS = Registry(
    "ENCODERS", "a subclass of SeqVAEEncoder that overrides make_layers, run or read, and neither forward nor output"
)
"""The values of `SeqVAEConfig.encoder`: subclasses of `encoders.SeqVAEEncoder`."""
POSTERIORS = Registry("POSTERIORS")
"""The values of `SeqVAEConfig.posterior`: each builds a head from the width of the features and the configuration."""
DECODERS = Registry("DECODERS", "a subclass of Decoder")
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


def modules_of(parts: Iterable[tuple[Registry, str]]) -> list[ModuleType]:
    """The modules outside the package that have registered these parts, each a registry and a name in it.

    Raises ValueError for a part that no module registers: where its module is imported, nobody would know it.
    """
    homes = set()
    for registry, name in parts:
        home = registry.homes.get(name) or registry[name].__module__
        if name in registry.given or home == "__main__":
            raise ValueError(
                f"{name!r} is known in this process alone: let a module register it, a file that is imported, with a "
                f"decorator such as @{registry.title}.register({name!r})"
            )
        homes.add(home)
    package = __name__.rpartition(".")[0]
    return [sys.modules[home] for home in sorted(homes) if not home.startswith(f"{package}.")]


def import_parts(modules: Sequence[str]) -> None:
    """Import modules that register parts: names, found from the working folder too, or paths of Python files.

    A file that is gone is the module of its name where that has been imported from elsewhere. Raises FileNotFoundError
    for one that has not, and ValueError where a module cannot be imported or another of its name was; both name it.
    """
    for module in modules:
        path = Path(module)
        if path.suffix != ".py":
            _import(module, Path.cwd())
            continue
        if not path.is_file():
            if path.stem in sys.modules:  # a run remembers where it was when the run began
                continue
            raise FileNotFoundError(
                f"there is no {module} to import parts from; a file that has moved is named before the command: "
                f"seqvae --import PLACE/{path.name} ..."
            )
        imported = _import(path.stem, path.resolve().parent)
        if Path(getattr(imported, "__file__", None) or "").resolve() != path.resolve():
            raise ValueError(f"{module} cannot be imported: there is another module {path.stem}; rename the file")


def _import(name: str, folder: Path) -> Any:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ValueError(f"{name} cannot be imported ({type(error).__name__}: {error})") from error


def subclass_of(base: type, functions: bool = False) -> Callable[[Any], bool]:
    """Whether a part is a subclass of `base`, or else, with `functions`, something to call."""
    return lambda part: issubclass(part, base) if isinstance(part, type) else functions and callable(part)


def _origin(part: Any) -> tuple[str, str]:
    """Where a part is defined: the same when its module is imported again."""
    described = re.sub(" at 0x[0-9a-fA-F]+", "", repr(part))  # of a schedule or a partial, without the place in memory
    return getattr(part, "__module__", None) or "", getattr(part, "__qualname__", described)
