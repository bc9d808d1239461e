"""What a run keeps on disk, and how it is read again: best/, last/ and the history.

Every process calls these together. One of them writes what belongs to all; at any instant a complete best/ and last/
are there. At the end of a best epoch last/ is written before best/, so that best/ is never of an epoch that a resumed
run would compute again, on a GPU with other rounding: where a process dies between the two, best/ is made from last/.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import load_model
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..data.columns import tokens_of
from ..modeling_seqvae import SeqVAEForTextModeling
from .card import card
from .checkpoint import recover, replacing, require_intact, sweep, write_checksums, writing
from .directory import RECIPE, holds_run
from .history import HISTORY, write_history
from .meter import PHASES
from .recipe import Recipe
from .report import quiet_libraries
from .schedules import Plateau

STAGING = ".state"
"""Where the processes of a run write their part of last/ before one of them puts it in place."""
PROGRESS = "progress.json"
WEIGHTS = "model.safetensors"


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

    def open(self, resume: bool, show: bool) -> bool:
        """Whether there is a run to be continued from last/. Refuses to overwrite one or to continue another recipe."""
        if self.accelerator.is_main_process:
            self.path.mkdir(parents=True, exist_ok=True)
            recover(self.last)
            recover(self.best)
            sweep(self.path, (RECIPE, HISTORY))
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
        corpus or another number of shards; nothing on disk has changed.
        """
        with self._told_if_damaged(self.last):
            state = self._read_progress()
            corpus, shards = state.pop("corpus"), state.pop("shards")
            plateau = Plateau(**state.pop("plateau"))
            progress = Progress(**state)
        self._require_same(corpus, shards)
        if progress.history and not progress.at_its_best:
            with self._told_if_damaged(self.best):
                self._require_best()
        with self._told_if_damaged(self.last):
            self.accelerator.load_state(str(self.last))
        self._remember_the_place()
        if self.accelerator.is_main_process:
            write_history(self.path, progress.history)  # a run that was killed just before it did
        return progress, plateau

    def save_best(
        self, model: SeqVAEForTextModeling, record: dict[str, Any], save_more: Callable[[Path], None]
    ) -> None:
        """The model as a complete checkpoint, with tokenizer, card and what `save_more` writes beside it."""
        if not self.accelerator.is_main_process:
            return
        model.config.validation_kl = None if record["au"] is None else round(record["kl"], 4)
        with quiet_libraries(), replacing(self.best) as directory:
            model.save_pretrained(directory)
            self.tokenizer.save_pretrained(directory)
            save_more(directory)
            card(self.recipe, record, config=model.config, epochs=record["epoch"]).save(directory / "README.md")
            write_checksums(directory)

    def load_best(self, model: SeqVAEForTextModeling, load_more: Callable[[Path], None]) -> None:
        """Give a model the weights of best/, and have `load_more` read what was saved beside them.

        Raises ValueError where they are not those that were written.
        """
        with self._told_if_damaged(self.best):
            self._require_best()
            load_model(model, self.best / WEIGHTS)
            load_more(self.best)

    def _remember_the_place(self) -> None:
        """Equal texts may have come from elsewhere: the recipe then says where they are now."""
        there = Recipe.load(self.path / RECIPE)
        now = there if self.recipe.corpus.in_memory else there.on_the_corpus_of(self.recipe)
        now = now.model_copy(update={"texts": there.texts or self.recipe.texts})
        self.recipe = self.recipe.on_the_corpus_of(now).model_copy(update={"texts": now.texts})
        self.accelerator.wait_for_everyone()  # all have read before one of them writes
        if self.accelerator.is_main_process and now != there:
            now.save(self.path / RECIPE)

    def _read_progress(self) -> dict[str, Any]:
        """The content of progress.json, every file of last/ being what was written."""
        require_intact(self.last)
        state: dict[str, Any] = json.loads((self.last / PROGRESS).read_text("utf-8"))
        return state

    def _require_best(self) -> None:
        require_intact(self.best, [WEIGHTS])

    def _require_same(self, corpus: str, shards: int) -> None:
        if corpus != self.corpus:
            raise self._other_texts()
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
    def _told_if_damaged(self, path: Path) -> Iterator[None]:
        """Whatever a damaged file makes the libraries raise becomes a ValueError that says what to do."""
        other = self.last if path == self.best else self.best
        try:
            yield
        except Exception as error:
            raise ValueError(
                f"{path} is damaged, so that the run cannot be continued ({type(error).__name__}: {error}); {other} is "
                "untouched. Put back a copy of it, or train again in another directory"
            ) from error


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
