"""What a configuration and a recipe choose from by name: parts of the package, and those that modules of yours add."""

import ast
import hashlib
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

Part = TypeVar("Part")

PACKAGE = __name__.rpartition(".")[0]
"""This package; of the copy beside a checkpoint, the one that transformers makes of its folder."""


PLAIN = (bool, int, float, str)
"""Types of an option: what JSON and YAML hold, and give back as it was."""

READ, KEYWORDS = "read", "keywords"
"""How parts find their options: in the configuration that they are built with, or as keyword arguments."""


class Registry(dict[str, Any]):
    """Parts by name, to which `register` adds yours.

    @POOLINGS.register("first")
    def first_pool(states, mask): ...
    """

    def __init__(self, title: str = "registry", kind: str = "a function or a class", takes: str = "") -> None:
        super().__init__()
        self.title, self.kind = title, kind
        self.takes = takes  # whether its parts have options, and how they find them: READ, KEYWORDS, or not
        self.options: dict[str, dict[str, Any]] = {}  # by a part's name, those that it has, with their defaults
        self.fits: Callable[[Any], bool] = callable  # whether something is of that kind; set where that is defined
        self.given: set[str] = set()  # names of parts that no module has registered, but that were given themselves
        self.homes: dict[str, str] = {}  # the module that has registered a name; what it registers may be of another

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
            there = self.get(name)
            if there is not None and _origin(there) != _origin(part):
                raise ValueError(f"{name!r} is the name of {'.'.join(_origin(there))} already: give yours another")
            self[name] = part
            _note_code(home)
            self.options[name] = _keywords(part, name) if self.takes == KEYWORDS else options
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

COPIES: dict[str, str] = {}
"""Modules that were imported from the copy beside a checkpoint, and the text of each."""


def is_own(registry: Registry, name: str) -> bool:
    """Whether a part is none of the package's. Raises ValueError for a name that nobody has registered."""
    home = _home_of(registry, name)
    return name in registry.given or home in COPIES or not home.startswith(f"{PACKAGE}.")


def _home_of(registry: Registry, name: str) -> str:
    """The module that has registered a part, or else of its definition."""
    return registry.homes.get(name) or registry[name].__module__


def _is_known_here_alone(registry: Registry, name: str) -> bool:
    """Whether no module that another process could import registers a part."""
    return name in registry.given or _home_of(registry, name) == "__main__"


def is_of_package(name: str) -> bool:
    """Whether a module or folder beside this file has that name."""
    return Path(__file__).with_name(name).is_dir() or Path(__file__).with_name(f"{name}.py").is_file()


def modules_of(parts: Iterable[tuple[Registry, str]]) -> list[ModuleType]:
    """The modules outside the package that have registered these parts, each a registry and a name in it.

    Raises ValueError for a part that no module registers: where its module is imported, nobody would know it.
    """
    homes = set()
    for registry, name in parts:
        if _is_known_here_alone(registry, name):
            raise ValueError(
                f"{name!r} is known in this process alone: let a module register it, a file that is imported, with a "
                f"decorator such as @{registry.title}.register({name!r})"
            )
        if is_own(registry, name):
            homes.add(_home_of(registry, name))
    return [sys.modules[home] for home in sorted(homes)]


def texts_of_own(parts: Iterable[tuple[Registry, str]]) -> list[str]:
    """The code that runs of parts that are none of the package's: of their modules, or of a part that no module has."""
    found = []
    for registry, name in parts:
        if not is_own(registry, name):
            continue
        if _is_known_here_alone(registry, name):
            with suppress(OSError, TypeError):  # of what was typed in
                found.append(inspect.getsource(registry[name]))
        else:
            home = _home_of(registry, name)
            found.append(CODE.get(home) or COPIES.get(home, ""))
    return found


def code_of(imports: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of the code of each module of `import_parts`, by its name: of what runs, else of what would."""
    found = {}
    for module in imports:
        path = Path(module)
        name = path.stem if path.suffix == ".py" else module
        text = CODE.get(name) or COPIES.get(f"{PACKAGE}.{name}")
        if text is None:
            text = _text_of(path if path.suffix == ".py" else _file_of(module))
        if text is not None:
            found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def _note_code(home: str) -> None:
    """Keep the text of a module that registers a part, which may change on the disk while the module runs."""
    if home.startswith(f"{PACKAGE}."):
        return
    text = _text_of(getattr(sys.modules.get(home), "__file__", None))
    if text is not None:
        CODE[home] = text


def _file_of(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


def _text_of(file: str | Path | None) -> str | None:
    try:
        return Path(file).read_text("utf-8") if file else None
    except (OSError, UnicodeError):
        return None


def own_source(module: ModuleType) -> tuple[str, str]:
    """Name and text of a module of one's own, which may be imported from a copy, as they were before it was copied."""
    if module.__name__ not in COPIES:
        return module.__name__, inspect.getsource(module)
    text = re.sub(r"^(\s*)from \.(\w+) import", rf"\1from {PACKAGE}.\2 import", COPIES[module.__name__], flags=re.M)
    return module.__name__.rpartition(".")[2], text


def as_copied(text: str) -> str:
    """The text of a module whose imports of this package are of the files beside it, as a checkpoint carries it."""
    package = PACKAGE.partition(".")[0]
    return re.sub(rf"^(\s*)from {package}\.(\w+) import", r"\1from .\2 import", text, flags=re.M)


def import_parts(modules: Sequence[str]) -> None:
    """Import modules that register parts: names, found from the working folder too, or paths of Python files.

    A file may be the copy of a module beside a checkpoint. One that is gone is the module of its name where that has
    been imported from elsewhere. Raises FileNotFoundError for one that has not, and ValueError where a module cannot be
    imported or another of its name was; both name it.
    """
    for module in modules:
        path = Path(module)
        if path.suffix != ".py":
            _import(module, Path.cwd())
            continue
        if not path.is_file():
            if path.stem in sys.modules or f"{PACKAGE}.{path.stem}" in COPIES:  # a run remembers where it was then
                continue
            raise FileNotFoundError(
                f"there is no {module} to import parts from; a file that has moved is named before the command: "
                f"seqvae --import PLACE/{path.name} ..."
            )
        if _is_copy(path):
            _import_copy(path)
            continue
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


def _is_copy(path: Path) -> bool:
    """Whether a file imports from files beside it, as the copy of a module beside a checkpoint does."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except SyntaxError:  # which its import tells
        return False
    return any(isinstance(node, ast.ImportFrom) and node.level == 1 for node in nodes)


def _import_copy(path: Path) -> None:
    """Run a copy as a module of this package, in which its imports are found; nothing where that text runs already."""
    text, name = path.read_text("utf-8"), f"{PACKAGE}.{path.stem}"
    if text in COPIES.values() or text in map(as_copied, _sources()):
        return
    if name in COPIES or is_of_package(path.stem):
        raise ValueError(f"{path} cannot be imported: there is another module {path.stem}; use another process")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec  # of a Python file
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    COPIES[name] = text
    try:
        exec(compile(text, path, "exec"), vars(module))  # the loader would leave a __pycache__ in the checkpoint
    except Exception as error:
        del sys.modules[name], COPIES[name]
        raise ValueError(f"{path} cannot be imported ({type(error).__name__}: {error})") from error


def _sources() -> Iterator[str]:
    """The texts of the modules that have registered parts of models, but for copies."""
    for registry in (POOLINGS, ENCODERS, POSTERIORS, DECODERS):
        for home in set(registry.homes.values()) - COPIES.keys():
            try:
                yield inspect.getsource(sys.modules[home])
            except (KeyError, OSError, TypeError):  # a file that is gone, or none
                continue


def subclass_of(base: type, functions: bool = False) -> Callable[[Any], bool]:
    """Whether a part is a subclass of `base`, or else, with `functions`, something to call."""
    return lambda part: issubclass(part, base) if isinstance(part, type) else functions and callable(part)


def _origin(part: Any) -> tuple[str, str]:
    """Where a part is defined: the same when its module is imported again."""
    described = re.sub(" at 0x[0-9a-fA-F]+", "", repr(part))  # of a schedule or a partial, without the place in memory
    return getattr(part, "__module__", None) or "", getattr(part, "__qualname__", described)
