"""The YAML files of `configuration/`, or of the user's own: methods, corpora and training presets, as mappings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..configuration_seqvae import PARTS
from ..data.files import read_yaml

PACKAGE = Path(__file__).resolve().parents[1]
SECTIONS = ("corpus", "model", "training", "pretraining")
"""What a preset or a method may hold, and --set may change."""

MEANT = {"epochs": "updates", "learning_rate": "rate_words", "table_options": "rate_words"}
"""Fields of `training` that are meant as they are where they are given without the other, which would change them."""


def shipped(name: str) -> Path:
    """A file or folder that the package is shipped with: the installed package's copy, or the checkout's own."""
    return PACKAGE / name if (PACKAGE / name).exists() else PACKAGE.parent / name


FILES_OF_ONE_S_OWN = {
    "corpora": "a YAML file, or a file or folder of texts that exists (in Python spec_from_path(FILE))",
    "methods": "a YAML file",
    "training": "a YAML file",
}
"""What stands in place of a name under `configuration`."""


def configuration_root() -> Path:
    """The folder of methods, corpora and presets."""
    return shipped("configuration")


def available(kind: str) -> list[str]:
    """The names under `configuration/<kind>`: kind is `methods`, `corpora` or `training`."""
    return sorted(path.stem for path in (configuration_root() / kind).glob("*.yaml"))


def named_settings(kind: str, name: str) -> tuple[dict[str, Any], str]:
    """The YAML of a name under `configuration/<kind>` or of the user's own file, and where it stands.

    Unknown names: ValueError with the list.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = configuration_root() / kind / f"{name}.yaml"
        if not path.is_file():
            names = ", ".join(available(kind))
            raise ValueError(
                f"there is no {name!r} in configuration/{kind}, only {names}; or give {FILES_OF_ONE_S_OWN[kind]}"
            )
    return read_yaml(path), str(path)


def method_settings(name: str) -> dict[str, Any]:
    """The title and the sections of a method's file, over those of the file of its `base` where it has one.

    Nothing is imported: options of parts that are not known yet are no more than fields.
    """
    merged: dict[str, Any] = {}
    for layer, source in method_layers(name):
        merged["title"] = layer.pop("title")
        layer.pop("imports", None)
        merge_into(merged, layer, source)
    return merged


def merge_into(merged: dict[str, Any], layer: Mapping[str, Any], source: str) -> None:
    """Put the sections of a file over those merged so far, field by field; what is given is meant as it is (`MEANT`).

    A pretraining's own `model` and `training` are put over those so far in the same way. Raises ValueError that names
    the file for an unknown section, and for one that holds no fields.
    """
    require_known(layer, SECTIONS, source)
    for section, values in layer.items():
        merged[section] = _merged(merged.get(section, {}), values, section, source)


def _merged(before: Mapping[str, Any], values: Any, section: str, source: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{source}: {section} must hold fields, as in `{section}: {{field: value}}`")
    if section == "pretraining":
        parts = [name for name in ("model", "training") if name in values]
        own = {name: _merged(before.get(name, {}), values[name], f"{section}.{name}", source) for name in parts}
        values = {**values, **own}
    return put_over(before, values, section)


def put_over(before: Mapping[str, Any], values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The fields of a section, such as `pretraining.model`, with these put over them.

    What would change a given field of `training` is null, if it is not given as well (`MEANT`). Of a model, the options
    of a part whose place another one takes are gone, if they are not given anew.
    """
    kind = section.rpartition(".")[2]
    as_meant = {MEANT[name]: None for name in values if name in MEANT} if kind == "training" else {}
    gone = _options_of_replaced(before, values) if kind == "model" else ()
    return {name: value for name, value in {**before, **as_meant}.items() if name not in gone} | dict(values)


def _options_of_replaced(model: Mapping[str, Any], changes: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for field in PARTS.keys() & model.keys() & changes.keys():
        parts, before, after = PARTS[field], model[field], changes[field]
        if isinstance(before, str) and before != after and parts.get(before) is not after:
            found |= parts.options_of(before).keys()
    return found


def method_layers(name: str) -> list[tuple[dict[str, Any], str]]:
    """A method's settings, behind those of its `base`, which is another method that it changes; and their files."""
    layers: list[tuple[dict[str, Any], str]] = []
    base: str | None = name
    while base is not None:
        settings, source = _method_named(base, layers[0][1] if layers else None)
        if source in (above for _, above in layers):
            raise ValueError(f"{source}: base leads back to this method")
        base = settings.pop("base", None)
        if not isinstance(base, str | None):
            raise ValueError(f"{source}: base must be the name or the path of a method, not {base!r}")
        if not isinstance(settings.setdefault("title", Path(source).stem), str):
            raise ValueError(f"{source}: title must be text, not {settings['title']!r}: put it in quotes")
        if "imports" in settings:
            settings["imports"] = _from_folder_of(source, settings["imports"])
        layers.insert(0, (settings, source))
    return layers


def _method_named(name: str, below: str | None) -> tuple[dict[str, Any], str]:
    """The settings of a method and their file; `below` is the one whose base it is, by a name or a path from there."""
    if below is None:
        return named_settings("methods", name)
    try:
        is_file = name.endswith((".yaml", ".yml"))
        return named_settings("methods", str(Path(below).parent / name) if is_file else name)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{below}: base: {error}") from None


def _from_folder_of(source: str, modules: Any) -> list[str]:
    """Modules that a YAML file imports, where paths of Python files begin at its folder."""
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        raise ValueError(f"{source}: imports must be a list of modules or Python files, not {modules!r}")
    return [str(Path(source).parent / module) if module.endswith(".py") else module for module in modules]


def require_known(settings: Mapping[str, Any], names: Sequence[str], source: str) -> None:
    """Raise ValueError, which names the source, for a key that is not one of the names."""
    for key in settings:
        if key not in names:
            raise ValueError(f"{source}: {key!r} is not one of {', '.join(names)}")
