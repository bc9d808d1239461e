"""Read what the command line names: corpora, limits, texts and checkpoints. Write JSON reports."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from .app import found_device, note, require_device, require_unicode

TEXTS_OF_A_MIXTURE = 20_000
"""Training texts that the mixture of `sample --prior aggregate` is fitted to, at most."""


def corpus_named(
    name: str,
    text_column: str | None,
    label_column: str | None,
    checkpoints: Sequence[str] = (),
    evaluated: bool = False,
) -> Any:
    """The corpus that `--corpus` names: a name or YAML file unchanged, the user's own file or folder as a spec.

    The user's own file is read as the model of a checkpoint reads; with several checkpoints, as the one that reads the
    most words. With `evaluated`, a single file is the test set.
    """
    from ..data.corpus_spec import spec_from_path
    from ..training.checkpoint import reading_of
    from ..training.configuration import available

    path = Path(name)
    a_path = name and (path.suffix or path.exists() or path.name != name)
    if a_path and name not in available("corpora") and path.suffix not in (".yaml", ".yml"):
        readings = [reading_of(checkpoint) for checkpoint in checkpoints]
        reading = max(readings, key=lambda reading: reading.most_words, default=None)
        return spec_from_path(path, text_column, label_column, reading=reading, evaluated=evaluated)
    if text_column or label_column:
        raise ValueError(f"corpus {name} has its own columns; --text-column and --label-column are for your own file")
    return name


def refuse_columns(name: str, text_column: str | None, label_column: str | None) -> None:
    """Refuse columns where the file that would have them is not given."""
    if text_column or label_column:
        raise ValueError(f"--text-column and --label-column are of {name}: give that file, or leave them out")


def limits_of(limits: list[str] | None) -> dict[str, int]:
    """The counts of `--limit SPLIT=COUNT`. Raises ValueError where one is malformed."""
    from ..data.corpus_spec import SPLITS

    parsed = {}
    for limit in limits or ():
        split, _, count = limit.partition("=")
        if split not in SPLITS or not count.isdecimal() or int(count) == 0:
            raise ValueError(f"--limit {limit!r} is not SPLIT=COUNT, such as train=10000, with {' or '.join(SPLITS)}")
        parsed[split] = int(count)
    return parsed


class Read(NamedTuple):
    """The texts of a file or of standard input, as a model reads them, and where they are from."""

    rows: Any  # a Dataset with the column `text`
    report: Any  # its SplitReport
    source: Any  # the path, or the lines of standard input

    @property
    def message(self) -> str:
        return f"{self.report.source}: {self.report}"

    def kept(self, names: list[str] | None, without: bool) -> Any:
        """The columns of the source that `--keep` names, all by default, or None with `--no-keep`."""
        from ..data.kept import kept_of

        if without and names:
            raise ValueError("--keep and --no-keep contradict each other: give one of them")
        return None if without else kept_of(self.source, names, self.report.labels == "tab")


def read_rows(path: Path, checkpoint: str, text_column: str | None, label_column: str | None) -> Read:
    """The texts of a file, or the lines of standard input if it is `-`.

    They are read as the training corpus of the checkpoint was; empty texts keep their rows.
    """
    from ..data import corpora
    from ..data.caching import quiet_libraries
    from ..training.checkpoint import reading_of

    source: Any = path
    if str(path) == "-":
        piped = TextIOWrapper(sys.stdin.buffer, "utf-8", "surrogateescape")
        source = require_unicode([line.rstrip("\n") for line in piped])
    reading = reading_of(checkpoint)
    with quiet_libraries():
        rows, report = corpora.read_texts(source, reading, text_column, label_column)
    return Read(rows, report, source)


def read_texts(path: Path, checkpoint: str, text_column: str | None, label_column: str | None) -> list[str]:
    """The texts of `read_rows`; its note is printed."""
    read = read_rows(path, checkpoint, text_column, label_column)
    note(read.message)
    return list(read.rows["text"])


def training_texts(checkpoint: str, data_dir: Path | None) -> list[str]:
    """Those of a run, as its recipe reads them; of very many, some at random, the same every time."""
    from ..data.caching import quiet_libraries
    from ..training.checkpoint import own_texts

    with quiet_libraries():
        return list(own_texts(checkpoint, "train", data_dir, TEXTS_OF_A_MIXTURE)["text"])


def processes(device: str | None) -> tuple[Any, str | None]:
    """The state of all processes (of torchrun, of accelerate, or a single one) and the device of this one."""
    from ..data.launch import launched

    require_device(device)
    state = launched(cpu=device == "cpu", timeout=timedelta(days=1))
    return state, str(state.device) if state.num_processes > 1 else device


def shared_rows(path: Path, checkpoint: str, text_column: str | None, label_column: str | None, state: Any) -> Read:
    """`read_rows` on every process. The first process reads first, and prints the note."""
    if state.num_processes > 1 and str(path) == "-":
        raise ValueError("several processes cannot share standard input: give a file")
    with state.main_process_first():
        read = read_rows(path, checkpoint, text_column, label_column)
    if state.is_main_process:
        note(read.message)
    return read


def reference_rows(
    name: str, checkpoint: str, text_column: str | None, label_column: str | None, data_dir: Path | None, state: Any
) -> Any:
    """The texts that `--reference` names, some of them: those of a split of the run's corpus, or of a file."""
    from ..data.caching import quiet_libraries
    from ..data.columns import some_of
    from ..data.corpus_spec import SPLITS
    from ..evaluation.scoring import REFERENCE_TEXTS
    from ..training.checkpoint import own_texts

    if name not in SPLITS:
        if name != "-" and not Path(name).exists():
            raise FileNotFoundError(
                f"--reference: there is no file {name}, nor a set of this name: {', '.join(SPLITS)}"
            )
        rows = shared_rows(Path(name), checkpoint, text_column, label_column, state).rows
        with state.main_process_first(), quiet_libraries():
            rows = some_of(rows.filter(bool, input_columns="text"), REFERENCE_TEXTS)
        if len(rows) == 0:
            raise ValueError(f"--reference {name} holds no texts to compare with")
        return rows
    with state.main_process_first(), quiet_libraries():
        return own_texts(checkpoint, name, data_dir, REFERENCE_TEXTS)


def load_model(checkpoint: str, device: str | None) -> Any:
    """Load the model of a run (its best/), of a checkpoint's folder, or of the hub."""
    from ..training.checkpoint import load_best

    return load_best(checkpoint, found_device(device))


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON, atomically; its folder is created."""
    from ..data.files import write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)
