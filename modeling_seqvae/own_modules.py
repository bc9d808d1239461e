"""The code of parts of one's own: importing their modules, finding what a name stands for, and copies of it."""

import ast
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from .registry import CODE, DECODERS, ENCODERS, PACKAGE, POOLINGS, POSTERIORS, Registry, text_of

COPIES: dict[str, str] = {}
"""Modules that were imported from the copy beside a checkpoint, and the text of each."""


def is_own(registry: Registry, name: str) -> bool:
    """Whether a part is none of the package's. Raises ValueError for a name that nobody has registered."""
    known = registry.of(name)
    return known.given or known.home in COPIES or not known.home.startswith(f"{PACKAGE}.")


def _is_known_here_alone(registry: Registry, name: str) -> bool:
    """Whether no module that another process could import registers a part."""
    known = registry.of(name)
    return known.given or known.home == "__main__"


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
            homes.add(registry.of(name).home)
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
            home = registry.of(name).home
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
            text = text_of(path if path.suffix == ".py" else _file_of(module))
        if text is not None:
            found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def _file_of(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


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
        for home in {known.home for known in registry.registered.values()} - COPIES.keys():
            try:
                yield inspect.getsource(sys.modules[home])
            except (KeyError, OSError, TypeError):  # a file that is gone, or none
                continue
