"""What a configuration and a recipe choose from by name: parts of the package, and those that modules of yours add."""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

Part = TypeVar("Part")


class Registry(dict[str, Any]):
    """Parts by name. `register` adds one of yours:

    @POOLINGS.register("first")
    def first_pool(states, mask): ...
    """

    def __init__(self) -> None:
        super().__init__()
        self.given: set[str] = set()  # names of parts that no module has registered, but that were given themselves

    def register(self, name: str) -> Callable[[Part], Part]:
        """A decorator that gives a part a name. Raises ValueError for a name that another part has."""

        def add(part: Part) -> Part:
            there = self.get(name)
            if there is not None and _origin(there) != _origin(part):
                raise ValueError(f"{name!r} is the name of {'.'.join(_origin(there))} already: give yours another")
            self[name] = part
            self.given.discard(name)
            return part

        return add

    def name_of(self, part: Any) -> str:
        """The name of a part; a name stays itself. A part that has none yet is known by that of its definition.

        Raises ValueError for a part without such a name (a lambda, an instance), and for a name that is taken.
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
                "@POOLINGS.register('mine')"
            )
        self.register(name)(part)
        self.given.add(name)
        return name


POOLINGS = Registry()
"""The values of `SeqVAEConfig.pooling_mode`. A part is a function, or a module class built with the hidden size."""
ENCODERS = Registry()
"""The values of `SeqVAEConfig.encoder`: subclasses of `encoders.SeqVAEEncoder`."""
POSTERIORS = Registry()
"""The values of `SeqVAEConfig.posterior`: each builds a head from the width of the features and the configuration."""
DECODERS = Registry()
"""The values of `SeqVAEConfig.decoder`: subclasses of `decoders.Decoder`."""
OBJECTIVES = Registry()
"""The values of `training.objective`: subclasses of `training.elbo.Elbo`, or functions of the model's output.

A function is given (output, kl_weight), and what it has as keyword-only arguments from `training.objective_options`; it
returns the loss, (), the mean over sentences in nats.
"""
SCHEDULES = Registry()
"""The values of `training.kl_schedule`: a `training.schedules.Schedule` each."""
SCHEMES = Registry()
"""The values of `training.scheme`: subclasses of `training.update.JointUpdate`."""


def import_parts(modules: Sequence[str]) -> None:
    """Import modules that register parts: names, found from the working folder too, or paths of Python files.

    Raises FileNotFoundError for a file that is not there, and ValueError where a module cannot be imported or another
    of its name was; both name it.
    """
    for module in modules:
        path = Path(module)
        if path.suffix != ".py":
            _import(module, Path.cwd())
            continue
        if not path.is_file():
            raise FileNotFoundError(f"there is no {module} to import parts from")
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


def _origin(part: Any) -> tuple[str, str]:
    """Where a part is defined: the same when its module is imported again."""
    return getattr(part, "__module__", ""), getattr(part, "__qualname__", repr(part))
