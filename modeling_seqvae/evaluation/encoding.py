"""Many texts -> a file of features: in constant memory, over several processes, to be resumed after a kill."""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..data.columns import texts_of
from ..text import SeqVAE
from ..tokenization import pieces_of
from .features import require_suffix, write_features

SHARD_ROWS = 8192
"""Texts encoded between two steps that a kill cannot undo."""

UNRELATED = {"_name_or_path", "transformers_version", "dtype"}
"""Fields of a configuration that change no feature."""


@dataclass(frozen=True)
class Job:
    """What makes shards fit together: those of another job are not continued."""

    texts: str  # hashes of the contents
    model: str
    features: str
    rows: int
    shard_rows: int


def encode_to_file(
    vae: SeqVAE,
    rows: Dataset,
    output: str | Path,
    features: str = "mean_variance",
    batch_size: int | None = None,
    *,
    state: PartialState | None = None,
    shard_rows: int = SHARD_ROWS,
    show_progress: bool | None = None,
) -> None:
    """Encode the column `text` of `rows` into `output`, a .npy, .csv or .parquet file with one row a text, in order.

    The work is done in shards of `shard_rows` texts, each written whole into the folder OUTPUT.parts; the same call
    goes on there after a kill, and the folder goes when `output` is complete. With a `state` of several processes each
    encodes every n-th shard and the first one joins them; the folder must be one that all of them see. The result is
    the same whatever the number of processes and interruptions.

    Raises ValueError for another suffix, for features or models that SeqVAE.encode refuses, and where OUTPUT.parts
    holds shards of other texts, another model or other settings; OSError where there is no room.
    """
    output = Path(output)
    require_suffix(output)
    vae.encode([], features)  # a mistake is told before the work
    state = state or PartialState()
    folder = output.with_name(f"{output.name}.parts")
    if state.is_main_process:
        job = Job(_hash_of_texts(rows), _hash_of_model(vae), features, len(rows), shard_rows)
        with _writing(output):
            _begin(folder, job)
    state.wait_for_everyone()
    starts = range(0, len(rows), shard_rows)
    missing = [i for i in starts[state.process_index :: state.num_processes] if not _path(folder, i).is_file()]
    bounds = [(start, min(start + shard_rows, len(rows))) for start in missing]
    told: set[str] = set()
    with _bar(bounds, show_progress if state.is_main_process else False) as bar:
        for start, end in bounds:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                encoded = vae.encode(_texts(rows.select(range(start, end))), features, batch_size, False)
            with _writing(output):
                _save(encoded, _path(folder, start))
            _warn_once(caught, told)
            bar.update(end - start)
    state.wait_for_everyone()
    if state.is_main_process:
        blocks = (np.load(_path(folder, start)) for start in starts)
        with _writing(output):
            write_features(blocks, vae.feature_names(features), len(rows), output)
        shutil.rmtree(folder)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"could not write {output} ({error}); what stood there before is kept, and the same call goes on from here"
        ) from error


def _bar(bounds: list[tuple[int, int]], show: bool | None) -> tqdm:
    total = sum(end - start for start, end in bounds)
    return tqdm(total=total, desc="encoding", unit=" texts", delay=0 if show else 2, disable=show is False, leave=False)


def _warn_once(caught: list[warnings.WarningMessage], told: set[str]) -> None:
    """Pass on what no shard before warned of; its figures are those of the first shard that it is true of."""
    for warning in caught:
        kind = re.sub(r"\d+", "", str(warning.message))
        if kind not in told:
            told.add(kind)
            warnings.warn(warning.message, warning.category, stacklevel=3)


def _begin(folder: Path, job: Job) -> None:
    """Make the folder of a job, or find that of the same one."""
    manifest = folder / "job.json"
    if manifest.is_file():
        try:
            found = json.loads(manifest.read_text("utf-8"))
        except json.JSONDecodeError:
            found = {}
        differ = [name for name, value in asdict(job).items() if found.get(name) != value]
        if differ:
            raise ValueError(
                f"{folder} holds shards of an unfinished job with other {' and '.join(differ)}: remove the folder, or "
                "write to another file"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder} is there and holds other things than shards of features: write to another file")
    fresh = folder / ".job.json.new"
    fresh.write_text(json.dumps(asdict(job), indent=2), "utf-8")
    os.replace(fresh, manifest)


def _save(encoded: NDArray[np.float32], path: Path) -> None:
    fresh = path.with_name(f".{path.name}")
    with fresh.open("wb") as file:
        np.save(file, encoded)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _path(folder: Path, start: int) -> Path:
    """Where the shard is whose first text is in row `start`."""
    return folder / f"{start:012d}.npy"


def _texts(rows: Dataset) -> list[str]:
    return [text or "" for text in texts_of(rows)]  # a table may leave some out


def _hash_of_texts(rows: Dataset) -> str:
    digest = hashlib.sha256()
    for text in texts_of(rows):
        encoded = (text or "").encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _hash_of_model(vae: SeqVAE) -> str:
    """Of the weights, the sizes and the tokenizer; the same on every device."""
    config = {name: value for name, value in vae.model.config.to_dict().items() if name not in UNRELATED}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(f"{vae.tokenizer.model_max_length} {json.dumps(pieces_of(vae.tokenizer))}".encode())
    for name, tensor in sorted(vae.model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
