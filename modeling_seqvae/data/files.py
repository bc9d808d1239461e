"""Files of the user's and of runs: locked, checked, replaced in one step, and read as JSON or YAML.

What is written here is complete or absent, whenever a process dies. Errors name the file, and the field in it.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.utils import WeakFileLock
from safetensors import SafetensorError

from ..checksums import sha256_of

# Locks, and whether a file has changed


@contextmanager
def exclusive_lock(directory: Path, doing: str) -> Iterator[None]:
    """Locks a directory, which is made if need be, against other processes that would do the same there.

    Raises RuntimeError where one is `doing` that, such as the same job that a scheduler has started twice.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as locked:
        try:
            locked.enter_context(WeakFileLock(directory / ".lock", timeout=1))
        except TimeoutError:
            raise RuntimeError(f"another process is {doing}: wait for it, then repeat the command") from None
        yield


def stamp_of(path: Path) -> tuple[int, ...]:
    """What is another after a file has changed, its content unread: mtime alone can be set back."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def cached_sha256_of(path: Path) -> str:
    """`sha256_of`, which reads a file again only after it has changed."""
    return _sha256(path, *stamp_of(path))


@cache
def _sha256(path: Path, *stamp: int) -> str:
    return sha256_of(path)


# Directories and files replaced in one step


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """An empty directory to write into, which takes the place of `directory` when the block ends without an error.

    A process killed between the two renames leaves the former one under `.old`; `recover` puts it back. Raises OSError
    that names the directory where the disk is full or read-only.
    """
    fresh, old = _beside(directory, "new"), _beside(directory, "old")
    recover(directory)
    try:
        with writing(directory):
            fresh.mkdir(parents=True)
            yield fresh
            _flush(fresh)
            if directory.exists():
                directory.rename(old)
            fresh.rename(directory)
            _flush_entries(directory.parent)
    finally:
        recover(directory)


def recover(directory: Path) -> None:
    """Undo a replacement that was cut short: afterwards `directory` is the last complete one, if there was any."""
    fresh, old = _beside(directory, "new"), _beside(directory, "old")
    if old.exists() and not directory.exists():
        old.rename(directory)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of writing inside name `path`: libraries say neither where they wrote nor that nothing was lost."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save raises the last
        raise OSError(f"could not write {path} ({error}); what stood there before is kept") from error


@contextmanager
def whole(path: Path, unfinished: Path | None = None) -> Iterator[Path]:
    """Where to write a file that appears whole or not: `unfinished`, beside `path`, to which it is moved at the end.

    By default its name ends as that of `path` does, by which libraries choose a format.
    """
    unfinished = unfinished or path.with_name(f".{path.stem}.new{path.suffix.lower()}")
    try:
        yield unfinished
        _flush_file(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step, which other processes may be about to replace as well."""
    with writing(path), whole(path, _beside(path, f"{os.getpid()}.new")) as fresh:
        fresh.write_text(text, "utf-8")


def remove_leftovers(directory: Path, names: Iterable[str]) -> None:
    """Remove what processes that were killed in `write_text` left of these files, which no other is writing now."""
    for name in names:
        for leftover in directory.glob(f".{name}.*.new"):
            leftover.unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


def _flush(directory: Path) -> None:
    """Have the disk hold all files and folders of a directory, so that a power cut after a rename finds them whole."""
    for path in directory.rglob("*"):
        if path.is_file():
            _flush_file(path)
        else:
            _flush_entries(path)
    _flush_entries(directory)


def _flush_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_entries(directory: Path) -> None:
    """Have the disk hold the names in a folder, where the system has folders that can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# JSON


def read_json(path: Path, required: Collection[str] = (), numbers: Collection[str] = ()) -> dict[str, Any]:
    """The object in a file, which has the keys `required` and, as numbers or null, those of `numbers`.

    Raises ValueError that names the file, and the key that is missing or no number.
    """
    return _parsed(path, path.read_text("utf-8", errors="replace"), required, numbers)


def read_json_lines(path: Path, numbers: Collection[str] = ()) -> list[dict[str, Any]]:
    """The objects in the lines of a file, each with these numbers. Raises ValueError as `read_json` does."""
    return [_parsed(path, line, (), numbers) for line in path.read_text("utf-8", errors="replace").splitlines()]


def write_json(path: Path, content: Any) -> None:
    """Replace a file in one step."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file of one object a line in one step."""
    write_text(path, json_lines(records))


def json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """One object a line."""
    return "".join(json.dumps(record) + "\n" for record in records)


def _parsed(path: Path, text: str, required: Collection[str], numbers: Collection[str]) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not what a run writes: it holds no object")
    missing = {*required, *numbers} - found.keys()
    if missing:
        raise ValueError(f"{path} is not what a run writes: it lacks {', '.join(sorted(missing))}")
    for name in numbers:
        value = found[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{path} is not what a run writes: its {name} is {value!r}, where a number belongs")
    return found


# YAML as people expect it: `no` is a word, `1e-3` a number and `010` ten, as in YAML 1.2; PyYAML alone reads False, a
# word and eight

_BOOLEAN, _WHOLE, _FLOAT = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float"))
_NUMBER = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\.inf)$|\.nan$")


_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where it was there at the build, is faster


class _Loader(_Parser):
    """Takes only what YAML 1.2 calls a truth value or a number for one, and no key twice: one would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        keys = [key for key, _ in pairs if isinstance(key, yaml.ScalarNode)]
        before: set[str] = set()
        for key in keys:
            if key.value in before:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            before.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would take for something else."""


for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOLEAN, _WHOLE, _FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _class.add_implicit_resolver(_BOOLEAN, re.compile(r"(?:true|True|false|False)$"), list("tTfF"))
    _class.add_implicit_resolver(_WHOLE, re.compile(r"[-+]?\d+$|0o[0-7]+$|0x[0-9a-fA-F]+$"), list("-+0123456789"))
    _class.add_implicit_resolver(_FLOAT, _NUMBER, list("-+.0123456789"))


def _whole(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


_Loader.add_constructor(_WHOLE, _whole)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file. Raises FileNotFoundError, or ValueError that names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = yaml.load(path.read_text("utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping of sections")
    return content


def yaml_value(text: str, context: str) -> Any:
    """One value, as in `epochs=5`. Raises ValueError that quotes `context`."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise ValueError(f"the value in {context!r} is not readable as YAML") from None


def dump_yaml(content: dict[str, Any]) -> str:
    """The mapping as text that `read_yaml` reads as the same."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
