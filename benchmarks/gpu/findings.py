"""What a part has found so far, on disk after each piece, so that a part that is ended has not worked for nothing."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modeling_seqvae.data.files import write_json


class Findings(dict[str, Any]):
    """A dictionary that is written to a JSON file whenever a value is set, or when asked."""

    def __init__(self, path: Path, **found: Any):
        super().__init__(found)
        self.path = path
        self.write()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.write()

    def write(self) -> None:
        """Replace the file."""
        write_json(self.path, dict(self))

    def attempt(self, name: str, work: Callable[[], Any]) -> None:
        """Keep what `work` gives under a name, or in `errors` why it gave nothing, so that other pieces go on."""
        try:
            self[name] = work()
        except Exception as error:  # whatever it is, the next piece is not to be lost by it
            self["errors"] = {**self.get("errors", {}), name: f"{type(error).__name__}: {error}"}
            traceback.print_exception(error)
