"""Parts of its owner's that a checkpoint carries: importing them where this package is imported, once it is trusted."""

import ast
import os
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from .own_modules import import_parts

HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
"""Arguments of `from_pretrained` that say where the files are, and so belong to all that lies beside the weights."""

LIST = "imported_parts.py"
"""The file of a checkpoint whose MODULES names the modules that it carries."""


def import_carried(source: str | os.PathLike[str], **hub_arguments: Any) -> None:
    """Run the modules that a folder or a model on the hub carries, so that their parts are known; none is no error.

    Only who trusts the checkpoint may call this. Raises ValueError for a module that cannot be imported.
    """
    listed = file_beside(source, LIST, **hub_arguments)
    if listed is None:
        return
    for node in ast.parse(listed.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["MODULES"]:
            files = [file_beside(source, f"{name}.py", **hub_arguments) for name in ast.literal_eval(node.value)]
            import_parts([str(file) for file in files if file])


def file_beside(source: str | os.PathLike[str], name: str, **hub_arguments: Any) -> Path | None:
    """The place of a checkpoint's file, in a folder or as fetched from the hub; None where there is none."""
    path = Path(source) / str(hub_arguments.get("subfolder") or "") / name
    if not Path(source).is_dir():
        known = {name: value for name, value in hub_arguments.items() if name != "proxies"}
        try:
            return Path(hf_hub_download(os.fspath(source), name, **known))
        except EntryNotFoundError:
            return None
    return path if path.is_file() else None


__all__ = ["HUB_ARGUMENTS", "file_beside", "import_carried"]
