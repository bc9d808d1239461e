"""YAML as people expect it: `no` is a word and `1e-3` a number, as in YAML 1.2; PyYAML alone reads False and a word."""

import re
from pathlib import Path
from typing import Any

import yaml

_BOOLEAN, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_NUMBER = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\.inf)$|\.nan$")


class _Loader(yaml.SafeLoader):
    """Takes only what YAML 1.2 calls a truth value or a number for one."""


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would take for something else."""


for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOLEAN, _FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _class.add_implicit_resolver(_BOOLEAN, re.compile(r"(?:true|True|false|False)$"), list("tTfF"))
    _class.add_implicit_resolver(_FLOAT, _NUMBER, list("-+.0123456789"))


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
