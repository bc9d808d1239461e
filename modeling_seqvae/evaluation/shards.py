"""Many texts -> a table of numbers: in constant memory, over several processes, to be resumed after a kill."""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from numpy.typing import NDArray

from ..argument_checks import progress_bar
from ..data.columns import identity_of, texts_of
from ..data.files import exclusive_lock, whole
from ..data.launch import launched
from ..own_modules import texts_of_own
from ..text import SeqVAE
from ..tokenization import pieces_of

UNRELATED = {"_name_or_path", "transformers_version", "dtype"}
"""Fields of a configuration that change no result."""


def write_in_shards(
    vae: SeqVAE,
    rows: Dataset,
    output: Path,
    settings: Mapping[str, Any],
    compute: Callable[[list[str], Callable[[int], Any]], NDArray],
    write: Callable[[Iterator[NDArray]], None],
    shard_rows: int,
    doing: str,
    *,
    state: PartialState | None = None,
    show_progress: bool | None = None,
) -> None:
    """`compute` rows (n, D) of the column `text` of `rows`, some texts at a time; `write` them all, in order.

    `compute` is given some texts, and what it calls with the number of those that are done.

    The work is done in shards of `shard_rows` texts, each written whole into the folder OUTPUT.parts; the same call
    goes on there after a kill, and the folder goes when `output` is complete. With a `state` of several processes each
    computes every n-th shard and the first one has them written; the folder must be one that all of them see. The
    result is the same whatever the number of processes and interruptions.

    `settings` are what the results depend on besides texts and model. Raises ValueError where OUTPUT.parts holds
    shards of other texts, another model or other settings, RuntimeError where another call is writing the same file,
    and OSError where there is no room.
    """
    state = state or launched()
    folder = _folder_of(output)
    with _locked(folder, output) if state.is_main_process else nullcontext():
        if state.is_main_process:
            sizes = {"rows": len(rows), "shard_rows": shard_rows}
            job = {"texts": identity_of(rows).sha256, "model": _hash_of_model(vae), **settings, **sizes}
            with _writing(output):
                _begin(folder, job)
        state.wait_for_everyone()
        starts = range(0, len(rows), shard_rows)
        missing = [i for i in starts[state.process_index :: state.num_processes] if not _path(folder, i).is_file()]
        bounds = [(start, min(start + shard_rows, len(rows))) for start in missing]
        told: set[str] = set()
        left = sum(end - start for start, end in bounds)
        with progress_bar(left, doing, show_progress if state.is_main_process else False) as bar:
            for start, end in bounds:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    computed = compute(_texts(rows.select(range(start, end))), bar.update)
                with _writing(output):
                    save(computed, _path(folder, start))
                _warn_once(caught, told)
        state.wait_for_everyone()
        if state.is_main_process:
            with _writing(output):
                write(np.load(_path(folder, start)) for start in starts)
            for start in starts:  # and the note of what they are of at last: a folder without it would be refused
                _path(folder, start).unlink()
            shutil.rmtree(folder)


def rows_left(output: Path, rows: int, shard_rows: int) -> int:
    """How many of so many rows `write_in_shards` has not yet computed of `output`."""
    folder = _folder_of(output)
    starts = range(0, rows, shard_rows)
    return sum(min(shard_rows, rows - start) for start in starts if not _path(folder, start).is_file())


def _folder_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.parts")


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """The folder of shards, for this call alone; one with other things than shards is refused, and left as it is."""
    others = folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
    if others and not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} is there and holds other things than shards of results: write to another file")
    with _writing(output):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder, f"writing {output}"):
        yield


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"could not write {output} ({error}); what stood there before is kept, and the same call goes on from here"
        ) from error


def _warn_once(caught: list[warnings.WarningMessage], told: set[str]) -> None:
    """Pass on what no shard before warned of; its figures are those of the first shard that it is true of."""
    for warning in caught:
        kind = re.sub(r"\d+", "", str(warning.message))
        if kind not in told:
            told.add(kind)
            warnings.warn(warning.message, warning.category, stacklevel=4)


MANIFEST = "job.json"
"""What makes the shards of a folder fit together: those of another job are not continued."""


def _begin(folder: Path, job: dict[str, Any]) -> None:
    """Note what the shards of a folder are of, or find that they are of the same."""
    manifest = folder / MANIFEST
    if manifest.is_file():
        try:
            found = dict(json.loads(manifest.read_text("utf-8")))
        except (ValueError, TypeError):
            found = {}
        differ = [name for name in {**job, **found} if found.get(name) != job.get(name)]
        if differ:
            raise ValueError(
                f"{folder} holds shards of an unfinished job with other {' and '.join(differ)}: remove the folder, or "
                "write to another file"
            )
        return
    with whole(manifest) as fresh:
        fresh.write_text(json.dumps(job, indent=2), "utf-8")


def save(computed: NDArray, path: Path) -> None:
    """Write a shard; it appears whole or not."""
    with whole(path) as fresh:
        np.save(fresh, computed)


def _path(folder: Path, start: int) -> Path:
    """Where the shard is whose first text is in row `start`."""
    return folder / f"{start:012d}.npy"


def _texts(rows: Dataset) -> list[str]:
    return [text or "" for text in texts_of(rows)]  # a table may leave some out


def _hash_of_model(vae: SeqVAE) -> str:
    """Of the weights, the sizes, the tokenizer and the modules of parts of one's own; the same on every device."""
    config = {name: value for name, value in vae.model.config.to_dict().items() if name not in UNRELATED}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(f"{vae.tokenizer.model_max_length} {json.dumps(pieces_of(vae.tokenizer))}".encode())
    for text in texts_of_own(vae.model.config.chosen_parts()):
        digest.update(text.encode())
    for name, tensor in sorted(vae.model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
