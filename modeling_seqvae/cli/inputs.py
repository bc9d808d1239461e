"""What commands are given, by name: corpora, limits, texts and checkpoints; and the JSON they write."""

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from .checks import note, require_device, require_unicode


def corpus_named(name: str, text_column: str | None, label_column: str | None) -> Any:
    """A corpus's name or YAML as it is; a file or folder of the user's own as a spec."""
    from ..data.corpora import spec_from_path
    from ..training.recipe import available

    path = Path(name)
    own = name not in available("corpora") and path.suffix not in (".yaml", ".yml") and (path.suffix or path.exists())
    if own:
        return spec_from_path(path, text_column, label_column)
    if text_column or label_column:
        raise ValueError(f"corpus {name} says itself which columns it has; --text-column is for a table of yours")
    return name


def limits_of(limits: list[str] | None) -> dict[str, int]:
    """The counts of `--limit SPLIT=COUNT`. Raises ValueError for what is none."""
    from ..data.corpora import SPLITS

    parsed = {}
    for limit in limits or ():
        split, _, count = limit.partition("=")
        if split not in SPLITS or not count.isdecimal() or int(count) == 0:
            raise ValueError(f"--limit {limit!r} is not a count for one of {', '.join(SPLITS)}, such as train=10000")
        parsed[split] = int(count)
    return parsed


def read_rows(path: Path, text_column: str | None) -> Any:
    """The column `text` of a file, on disk, or the lines of standard input where it is `-`."""
    from datasets import Dataset, Features, Value

    from ..data.readers import Wanted, read_documents
    from ..training.report import quiet_libraries

    if str(path) == "-":
        piped = TextIOWrapper(sys.stdin.buffer, "utf-8", "surrogateescape")
        listed = require_unicode([line.rstrip("\n") for line in piped])
        return Dataset.from_dict({"text": listed}, Features({"text": Value("string")}))
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with quiet_libraries():
        return read_documents(path, Wanted(text_column=text_column)).rows


def tell_empty(rows: Any) -> None:
    """Note how many texts of a column `text` have no words, which is no mistake but worth knowing."""
    from ..data.columns import texts_of

    empty = sum(not (text or "").strip() for text in texts_of(rows))
    if empty:
        note(f"{empty:,} of {len(rows):,} texts are empty; each is read as a sentence without words")


def read_texts(path: Path, text_column: str | None) -> list[str]:
    """The texts of a file, or the lines of standard input where it is `-`."""
    rows = read_rows(path, text_column)
    tell_empty(rows)
    return require_unicode([text or "" for text in rows["text"]])


def load_model(checkpoint: str, device: str | None) -> Any:
    """The model of a run (its best/), of a checkpoint's directory, or of a name on the hub."""
    import torch

    from ..training.run import load_best

    require_device(device)
    return load_best(checkpoint, device or ("cuda" if torch.cuda.is_available() else "cpu"))


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report, in one step, making its folder."""
    from ..training.json_files import write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)
