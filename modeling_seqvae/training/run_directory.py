"""The directory of a run: recipe.yaml, best/, last/ and history.jsonl, written and read.

Every process of a run calls RunDirectory together. One of them writes what belongs to all; at any instant a complete
best/ and last/ are there. At the end of a best epoch last/ is written before best/, so that best/ is never of an epoch
that a resumed run would compute again, on a GPU with other rounding: where a process dies between the two, best/ is
made from last/.
"""

import hashlib
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import load_file, load_model
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..checksums import verify_checksums, write_checksums
from ..data.caching import quiet_libraries
from ..data.columns import tokens_of
from ..data.files import (
    read_json_lines,
    recover,
    remove_leftovers,
    replacing,
    write_json_lines,
    writing,
)
from ..loading import RECIPE
from ..modeling_seqvae import SeqVAEForTextModeling
from ..own_modules import code_of
from .card import card
from .monitor import PHASES
from .recipe import Recipe
from .schedules import Plateau

CHECKPOINTS = ("best", "last")
HISTORY = "history.jsonl"
RECORD = ("epoch", "bound", "kl", "mi", "au", "cosine", "seconds", "encoder_updates", "decoder_updates")
"""What tables, figures and cards need of every record."""
STAGING = ".state"
"""Where the processes of a run write their part of last/ before one of them puts it in place."""
PROGRESS = "progress.json"
WEIGHTS = "model.safetensors"


def holds_run(directory: Path, recipe: Recipe, resume: bool) -> bool:
    """Whether a run of this recipe is there to be continued.

    Raises ValueError where another run is, or one that is not to be resumed, or checkpoints of who knows what.
    """
    if not (directory / RECIPE).exists():
        if any((directory / name).exists() for name in CHECKPOINTS):
            raise ValueError(f"{directory} holds best/ or last/ but no {RECIPE}: choose another directory")
        return False
    if not resume:
        raise ValueError(
            f"{directory} holds a run: continue it with --resume, or choose another directory with --output-dir"
        )
    there = Recipe.load(directory / RECIPE)
    changed = recipe.differences(there, wherever=True)  # its state knows the texts
    if changed:
        others = "" if recipe.may_be_of(there.texts) else ", and of other texts"
        raise ValueError(
            f"{directory} holds a run of another recipe{others}: {'; '.join(changed)}. Choose another --output-dir, "
            "or the recipe of that run"
        )
    return True


@dataclass
class Progress:
    """Where a run stands: all that neither the accelerator's own state nor the plateau rule holds."""

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    learning_rate: float = 0.0  # before the schedule's factor
    best_bound: float = inf
    best_epoch: int = 0
    seconds: float = 0.0  # in updates and evaluations
    words: int = 0  # predicted since the last record, as the next
    phase_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    history: list[dict[str, Any]] = field(default_factory=list)
    scheme: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)  # what it cost when the run began

    @property
    def at_its_best(self) -> bool:
        """Whether the run stands at the end of its best epoch: then last/ has the weights of best/."""
        return self.batch == 0 and self.best_epoch == self.epoch > 0


class RunDirectory:
    """The directory of a run on every process of it.

    `corpus` is a fingerprint of what the run trains on. `shards` of a batch, on which noise and dropout depend, are as
    many as this launch has processes, times the recipe's accumulation steps.
    """

    def __init__(
        self,
        path: Path,
        accelerator: Accelerator,
        recipe: Recipe,
        tokenizer: PreTrainedTokenizerBase,
        corpus: str,
    ):
        self.path = path
        self.best, self.last = path / "best", path / "last"
        self.accelerator = accelerator
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.corpus = corpus
        self.shards = accelerator.num_processes * recipe.training.accumulation_steps
        self.code = code_of(recipe.imports)

    def open(self, resume: bool, show: bool) -> bool:
        """Whether there is a run to be continued from last/. Refuses to overwrite one or to continue another recipe."""
        if self.accelerator.is_main_process:
            self.path.mkdir(parents=True, exist_ok=True)
            recover(self.last)
            recover(self.best)
            remove_leftovers(self.path, (RECIPE, HISTORY))
            shutil.rmtree(self.path / STAGING, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        found = holds_run(self.path, self.recipe, resume)
        begun = resume and self.last.exists()
        if found and not begun and not self.recipe.may_be_of(Recipe.load(self.path / RECIPE).texts):
            raise self._other_texts()
        self.accelerator.wait_for_everyone()  # all have looked before one of them writes
        if not begun and self.accelerator.is_main_process:
            self.recipe.save(self.path / RECIPE)
            if resume and not found and show:
                tqdm.write(f"{self.path} holds no run yet: starting at the beginning", file=sys.stderr)
        return begun

    def save_last(self, progress: Progress, plateau: Plateau) -> None:
        """Everything an exact resume needs, then the history as of that moment."""
        staging = self.path / STAGING
        with writing(self.last):
            self.accelerator.save_state(str(staging))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state = asdict(progress) | {"plateau": asdict(plateau), "corpus": self.corpus, "shards": self.shards}
            state |= {"precision": self.accelerator.mixed_precision, "code": self.code}
            with replacing(self.last) as directory:
                for path in staging.iterdir():
                    path.rename(directory / path.name)
                (directory / PROGRESS).write_text(json.dumps(state), "utf-8")
                write_checksums(directory)
            shutil.rmtree(staging)
            write_history(self.path, progress.history)
        self.accelerator.wait_for_everyone()

    def load_last(self) -> tuple[Progress, Plateau]:
        """Where the run stands; its weights and optimisers go to what the accelerator has prepared.

        best/ may be one epoch behind where the run is `at_its_best`. Raises ValueError for damaged files, another
        corpus, another number of shards or another precision; nothing on disk has changed.
        """
        with self._damage_reported(self.last):
            state = self._read_progress()
            corpus, shards = state.pop("corpus"), state.pop("shards")
            precision = state.pop("precision", self.accelerator.mixed_precision)  # older runs have not noted it
            code = state.pop("code", self.code)  # the same
            plateau = Plateau(**state.pop("plateau"))
            progress = Progress(**state)
        self._require_same(corpus, shards, precision)
        if progress.history and not progress.at_its_best:
            with self._damage_reported(self.best):
                self._require_best()
        self.accelerator.load_state(str(self.last))  # whose files are what was written: what fails is no damage
        self._remember_the_place()
        if self.accelerator.is_main_process:
            warn_of_changes(self.path, code, self.code, "what follows is trained by the new code")
            write_history(self.path, progress.history)  # a run that was killed just before it did
        return progress, plateau

    def save_best(
        self, model: SeqVAEForTextModeling, record: dict[str, Any], save_more: Callable[[Path], None]
    ) -> None:
        """The model as a complete checkpoint, with tokenizer, card and what `save_more` writes beside it."""
        if not self.accelerator.is_main_process:
            return
        model.config.validation_kl = None if record["au"] is None else round(record["kl"], 4)
        model.config.validation_mi = None if record["mi"] is None else round(record["mi"], 4)
        with quiet_libraries(), replacing(self.best) as directory:
            model.save_pretrained(directory)
            self.tokenizer.save_pretrained(directory)
            save_more(directory)
            card(self.recipe, record, config=model.config, epochs=record["epoch"]).save(directory / "README.md")
            write_checksums(directory)

    def has_best(self, model: SeqVAEForTextModeling) -> bool:
        """Whether best/ holds these weights, undamaged: then it stays as it is, with all that was put beside them."""
        try:
            verify_checksums(self.best)
        except (ValueError, FileNotFoundError):
            return False
        weights = model.state_dict()
        return all(torch.equal(kept, weights[name].cpu()) for name, kept in load_file(self.best / WEIGHTS).items())

    def load_best(self, model: SeqVAEForTextModeling, load_more: Callable[[Path], None]) -> None:
        """Give a model the weights of best/, and have `load_more` read what was saved beside them.

        Raises ValueError where they are not those that were written.
        """
        with self._damage_reported(self.best):
            self._require_best()
        load_model(model, self.best / WEIGHTS)
        with self._damage_reported(self.best):
            load_more(self.best)

    def _remember_the_place(self) -> None:
        """Equal texts, and modules of parts, may have come from elsewhere: the recipe then says where they are now."""
        there = Recipe.load(self.path / RECIPE)
        now = there if self.recipe.corpus.in_memory else there.on_the_corpus_of(self.recipe)
        texts = {**there.texts, **self.recipe.texts}  # others of the same tokens may have taken their place
        now = now.model_copy(update={"texts": texts, "imports": self.recipe.imports or there.imports})
        self.recipe = self.recipe.on_the_corpus_of(now).model_copy(update={"texts": now.texts})
        self.accelerator.wait_for_everyone()  # all have read before one of them writes
        if self.accelerator.is_main_process and now != there:
            now.save(self.path / RECIPE)

    def _read_progress(self) -> dict[str, Any]:
        """The content of progress.json, every file of last/ being what was written."""
        verify_checksums(self.last)
        state: dict[str, Any] = json.loads((self.last / PROGRESS).read_text("utf-8"))
        return state

    def _require_best(self) -> None:
        verify_checksums(self.best, [WEIGHTS])

    def _require_same(self, corpus: str, shards: int, precision: str) -> None:
        if corpus != self.corpus:
            raise self._other_texts()
        if precision != self.accelerator.mixed_precision:  # the recipe leaves it to the launcher
            raise ValueError(
                f"{self.path} holds a run with mixed precision {precision}, and this launch has "
                f"{self.accelerator.mixed_precision}: continue it with accelerate launch --mixed_precision {precision}"
            )
        if shards != self.shards:
            processes, steps = self.accelerator.num_processes, self.recipe.training.accumulation_steps
            ways = [f"launch {_count(shards // steps, 'process')}"] if shards % steps == 0 else []
            ways += [f"--set training.accumulation_steps={shards // processes}"] if shards % processes == 0 else []
            raise ValueError(
                f"{self.path} holds a run that deals each batch to {_count(shards, 'shard')}, which noise and dropout "
                f"follow, and {_count(processes, 'process')} with training.accumulation_steps={steps} would deal it to "
                f"{self.shards}: {', or '.join(ways) or _count(shards, 'process') + ' without accumulation'}"
            )

    def _other_texts(self) -> ValueError:
        before, now = Recipe.load(self.path / RECIPE).corpus.name, self.recipe.corpus.name
        return ValueError(
            f"{self.path} holds a run on other texts: it began with {before}, and {now} has other texts now or another "
            "tokenizer. Give it the texts it began with (--corpus, --data-dir), wherever they are, or train again in "
            "another directory"
        )

    @contextmanager
    def _damage_reported(self, path: Path) -> Iterator[None]:
        """Whatever a damaged file makes the libraries raise becomes a ValueError that says what to do."""
        other = self.last if path == self.best else self.best
        try:
            yield
        except Exception as error:
            raise ValueError(
                f"{path} is damaged, so that the run cannot be continued ({type(error).__name__}: {error}); {other} is "
                "untouched. Put back a copy of it, or train again in another directory"
            ) from error


def warn_of_changed_code(run: Path) -> None:
    """Warn of modules of one's own that are not what they were when a run was saved last, as far as that is known."""
    try:
        noted = json.loads((run / "last" / PROGRESS).read_text("utf-8"))["code"]
        now = code_of(Recipe.load(run / RECIPE).imports)
    except (OSError, ValueError, KeyError):  # of no run, of an older one, of one that is damaged where nobody reads it
        return
    warn_of_changes(run, noted, now, "what is made of its weights now is made by the new code")


def warn_of_changes(run: Path, noted: dict[str, str], now: dict[str, str], so: str) -> None:
    """Warn of modules whose hash is not the one that was noted of them, and of what comes `so`."""
    changed = sorted(name for name, digest in now.items() if noted.get(name, digest) != digest)
    if changed:
        warnings.warn(
            f"{run}: {', '.join(changed)} has changed since this run was saved, and {so}: for results of one code, "
            "train again in another directory",
            stacklevel=3,
        )


def fingerprint(tokenizer: PreTrainedTokenizerBase, *splits: Dataset) -> str:
    """What a run trains and is measured on, in short: the vocabulary, and every token of the splits in order."""
    digest = hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    for split in splits:
        for lengths, tokens in tokens_of(split):
            digest.update(lengths.astype(np.int32).tobytes() + tokens.astype(np.int32).tobytes())
    return digest.hexdigest()


def _count(number: int, thing: str) -> str:
    """`1 process`, `2 processes`, `2 shards`."""
    return f"{number} {thing}" + ("" if number == 1 else "es" if thing.endswith("s") else "s")


# The history


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
