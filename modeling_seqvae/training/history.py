"""history.jsonl: one record an epoch, of what a run measured on the validation set and what it had cost by then."""

from pathlib import Path
from typing import Any

from .json_files import read_json_lines, write_json_lines

HISTORY = "history.jsonl"

RECORD = ("epoch", "bound", "kl", "mi", "au", "cosine", "seconds", "encoder_updates", "decoder_updates")
"""What tables, figures and cards need of every record."""


def read_history(run: str | Path) -> list[dict[str, Any]]:
    """The records of a run's directory, none before its first epoch has ended. Raises ValueError for a damaged file."""
    path = Path(run) / HISTORY
    return read_json_lines(path, RECORD) if path.is_file() else []


def require_history(run: Path) -> list[dict[str, Any]]:
    """The records of a run's directory. Raises ValueError where there are none, or the file is damaged."""
    records = read_history(run)
    if not records:
        raise ValueError(f"{run / HISTORY} has no record: the run has not ended its first epoch")
    return records


def write_history(run: Path, records: list[dict[str, Any]]) -> None:
    """Replace a run's history in one step."""
    write_json_lines(run / HISTORY, records)
