"""SeqVAETrainer: the paper's training algorithm on one process or many, resumable exactly.

The order of the data is a function of (seed, epoch), the noise and dropout of an update a function of (seed, update,
process), and the noise of an evaluation a function of (seed, sentence): a run that was interrupted anywhere and resumed
is the run that was not.
"""

import hashlib
import json
import math
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType
from datasets import Dataset
from safetensors.torch import load_model
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..data.batching import LengthGroupedBatches, collate, rows, tokenise
from ..evaluation.evaluate import Evaluator, summarise
from ..modeling_seqvae import SeqVAEForTextModeling
from ..noise import seed_of
from ..precision import fast_matmul
from .card import card
from .checkpoint import recover, replacing, write_lines, writing
from .directory import RECIPE, holds_run
from .objectives import OBJECTIVES
from .optimizers import OPTIMIZERS
from .recipe import Recipe
from .report import EpochTable, progress_bar, quiet_libraries
from .schedules import Plateau
from .signals import Interrupted, NotedSignals

STAGING = ".state"
"""Where the processes of a run write their part of last/ before one of them puts it in place."""


class TrainingDiverged(RuntimeError):
    """The loss is not a number; the message names the batch. The best checkpoint so far is untouched."""


@dataclass
class Progress:
    """Where a run stands: all that neither the accelerator's own state nor the plateau rule holds."""

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    learning_rate: float = 0.0  # before the schedule's factor
    best_bound: float = math.inf
    seconds: float = 0.0
    words: int = 0
    words_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class SeqVAETrainer:
    """Trains a model by a recipe. `output_dir` receives best/, last/, history.jsonl and recipe.yaml.

    `train` and `validation` hold a `text` column, or are already tokenised. Under `accelerate launch` or `torchrun`
    every process constructs one with the same arguments. After `train` the model holds the weights of last/; the best
    ones are in best/.
    """

    def __init__(
        self,
        model: SeqVAEForTextModeling,
        tokenizer: PreTrainedTokenizerBase,
        recipe: Recipe,
        train: Dataset,
        validation: Dataset,
        output_dir: str | Path,
        accelerator: Accelerator | None = None,
        progress: bool = True,
    ):
        self.spec = recipe.training
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.output_dir = Path(output_dir)
        self.accelerator = accelerator or self._default_accelerator()
        if self.accelerator.gradient_accumulation_steps != 1:
            raise ValueError("say training.accumulation_steps in the recipe; the Accelerator's own must stay 1")
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise ValueError(
                "FSDP shards the weights that one process writes to best/: launch with DDP (multi_gpu.yaml)"
            )
        self.show = progress and self.accelerator.is_main_process
        with self.accelerator.main_process_first(), nullcontext() if self.show else quiet_libraries():
            self.train_set, self.validation_set = (_tokenised(split, tokenizer) for split in (train, validation))
        lengths = self.train_set["length"]
        self.batches = LengthGroupedBatches(lengths, self.spec.batch_size, self.spec.seed)
        model.generation_config.max_length = max(lengths)
        optimizer = OPTIMIZERS[self.spec.optimizer](model.parameters(), lr=self.spec.learning_rate)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.objective = OBJECTIVES[self.spec.objective]
        self.plateau = self.spec.plateau()
        self.progress = Progress(learning_rate=self.spec.learning_rate)
        self.signals = NotedSignals()
        self._saved_at = time.monotonic()

    def _default_accelerator(self) -> Accelerator:
        missing = set(self.spec.trackers) - {str(name) for name in get_available_trackers()}
        if missing:
            raise ValueError(f"training.trackers: install {' and '.join(sorted(missing))} first, or leave it out")
        precision = None if self.spec.precision == "auto" else self.spec.precision
        return Accelerator(mixed_precision=precision, log_with=self.spec.trackers or None, project_dir=self.output_dir)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record an evaluation, as in history.jsonl."""
        return self.progress.history

    def train(self, resume: bool = False) -> list[dict[str, Any]]:
        """Run to the end, or continue an interrupted run with `resume`; returns the history.

        Raises TrainingDiverged, Interrupted (a SystemExit) on SIGTERM or Ctrl-C, ValueError where the directory holds
        a run that is not to be resumed or of another recipe, and OSError where it cannot be written.
        """
        self._open_directory(resume)
        if self.spec.trackers:
            self.accelerator.init_trackers("seqvae", config={"recipe": json.dumps(self.recipe.model_dump(mode="json"))})
        total = self.spec.epochs * len(self.batches)
        bar = progress_bar(total, self.progress.updates, self.show)
        try:
            with bar, self.signals:
                table = EpochTable(bar, self.history)
                while not self._finished():
                    self._train_epoch(bar)
                    self._end_epoch()
                    table.add(self.history[-1])
        finally:
            for tracker in self.accelerator.trackers if self.spec.trackers else ():
                tracker.finish()
        return self.history

    def _finished(self) -> bool:
        return self.progress.epoch >= self.spec.epochs or self.plateau.halvings >= self.spec.max_halvings

    def _train_epoch(self, bar: tqdm) -> None:
        self.model.train()
        bar.set_description(f"epoch {self.progress.epoch + 1}/{self.spec.epochs}")
        for numbers in self.batches.epoch(self.progress.epoch)[self.progress.batch :]:
            started = time.monotonic()
            kl_weight = self.spec.kl_weight(self.progress.updates / len(self.batches))
            reconstruction, kl = self._update(numbers, kl_weight)
            self.progress.batch += 1
            self.progress.updates += 1
            self.progress.words += int(self.batches.lengths[numbers].sum()) - len(numbers)  # <s> is not predicted
            self.progress.words_seconds += time.monotonic() - started
            self.progress.seconds += time.monotonic() - started
            bar.update()
            if self.progress.updates % 20 == 0:
                speed = self.progress.words / self.progress.words_seconds
                bar.set_postfix_str(
                    f"kl weight {kl_weight:.2f}, bound {reconstruction + kl:.1f}, kl {kl:.2f}, {speed:,.0f} words/s",
                    refresh=False,
                )
            self._save_when_asked()

    def _update(self, numbers: np.ndarray, kl_weight: float) -> tuple[float, float]:
        """One step of the optimiser on a global batch; this process's mean reconstruction and KL."""
        accelerator, world = self.accelerator, self.accelerator.num_processes
        torch.manual_seed(seed_of(self.spec.seed, self.progress.updates, accelerator.process_index))
        mine = numbers[accelerator.process_index :: world]
        parts = [mine[part :: self.spec.accumulation_steps] for part in range(self.spec.accumulation_steps)]
        sums = np.zeros(2)
        with fast_matmul(accelerator.device):
            for part in parts:
                # A process or step without a sentence takes part with one that does not count.
                batch = collate(rows(self.train_set, part if len(part) else numbers[:1]), self.tokenizer.pad_token_id)
                batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
                with nullcontext() if part is parts[-1] else accelerator.no_sync(self.model):
                    output = self.objective(self.model, batch, kl_weight)
                    loss = output.loss * (len(part) * world / len(numbers))
                    accelerator.backward(loss)
                sums += len(part) * np.array([output.reconstruction_loss.mean().item(), output.kl.mean().item()])
            norm = accelerator.clip_grad_norm_(self.model.parameters(), self.spec.max_grad_norm)
            self._require_finite(norm, numbers)
            self._set_learning_rate()
            self.optimizer.step()
            self.optimizer.zero_grad()
        reconstruction, kl = sums / max(1, len(mine))
        return reconstruction, kl

    def _set_learning_rate(self) -> None:
        """That of the middle of the update at hand, so that neither a warm-up nor a decay wastes one at rate 0."""
        factor = self.spec.lr_factor((self.progress.updates + 0.5) / len(self.batches))
        for group in self.optimizer.param_groups:
            group["lr"] = self.progress.learning_rate * factor

    def _require_finite(self, norm: torch.Tensor, numbers: np.ndarray) -> None:
        """Stop before a step that would fill the weights with not-a-number; every process sees the same norm."""
        if not torch.isfinite(norm):
            some = ", ".join(map(str, numbers[:8].tolist())) + (", ..." if len(numbers) > 8 else "")
            raise self._diverged(
                f"loss or its gradient, in batch {self.progress.batch + 1} (training sentences {some})"
            )

    def _diverged(self, what: str) -> TrainingDiverged:
        best = self.output_dir / "best"
        kept = f"the best checkpoint so far is kept in {best}" if best.exists() else "there is no checkpoint yet"
        return TrainingDiverged(
            f"not a finite number in epoch {self.progress.epoch + 1}: the {what}; {kept}. "
            "A new run with a lower training.learning_rate usually helps"
        )

    def _end_epoch(self) -> None:
        """Evaluate, keep the best, apply the learning-rate rule, and write everything down."""
        started = time.monotonic()
        progress = self.progress
        model = self.accelerator.unwrap_model(self.model)
        summary = summarise(
            Evaluator(
                model, self.validation_set, self.spec.seed, self.spec.batch_size, accelerator=self.accelerator,
                progress=self.show,
            ).measure(),
            self.spec.seed,
        )  # fmt: skip
        bound = summary["bound"]
        if not math.isfinite(bound):
            raise self._diverged("bound on the validation set")
        kl_weight = self.spec.kl_weight((progress.updates - 1) / len(self.batches))  # that of the last update
        progress.epoch += 1
        progress.batch = 0
        progress.seconds += time.monotonic() - started
        record = self._record(summary, kl_weight)
        progress.history.append(record)
        if bound < progress.best_bound:
            progress.best_bound = bound
            self._save_best()
        if self.plateau.halves_after(progress.epoch, bound):
            load_model(model, self.output_dir / "best" / "model.safetensors")
            progress.learning_rate /= 2
        progress.words, progress.words_seconds = 0, 0.0
        self._save_last()
        self.accelerator.log({k: v for k, v in record.items() if v is not None}, step=progress.updates)

    def _record(self, summary: dict[str, Any], kl_weight: float) -> dict[str, Any]:
        progress = self.progress
        latent = self.accelerator.unwrap_model(self.model).config.latent_size > 0
        return {
            "epoch": progress.epoch,
            "encoder_updates": progress.updates if latent else 0,
            "decoder_updates": progress.updates,
            "seconds": round(progress.seconds, 2),
            "kl_weight": kl_weight,
            **summary,
            "lr": self.optimizer.param_groups[0]["lr"],
            "words_per_second": round(progress.words / max(progress.words_seconds, 1e-9)),
        }

    def _open_directory(self, resume: bool) -> None:
        """Continue from last/, or begin; refuse to overwrite a run or to continue another recipe."""
        if self.accelerator.is_main_process:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            recover(self.output_dir / "last")
            recover(self.output_dir / "best")
            shutil.rmtree(self.output_dir / STAGING, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        found = holds_run(self.output_dir, self.recipe, resume)
        self.accelerator.wait_for_everyone()  # all have looked before one of them writes
        if not found and self.accelerator.is_main_process:
            self.recipe.save(self.output_dir / RECIPE)
            if resume and self.show:
                tqdm.write(f"{self.output_dir} holds no run yet: starting at the beginning", file=sys.stderr)
        if resume and (self.output_dir / "last").exists():
            self._load_last()
        self.accelerator.wait_for_everyone()

    def _save_best(self) -> None:
        if not self.accelerator.is_main_process:
            return
        with quiet_libraries(), replacing(self.output_dir / "best") as directory:
            # Without keep_fp32_wrapper=False, which would end mixed precision for the rest of the run.
            self.accelerator.unwrap_model(self.model).save_pretrained(directory)
            self.tokenizer.save_pretrained(directory)
            card(self.recipe, self.history[-1]).save(directory / "README.md")

    def _save_last(self) -> None:
        """Everything an exact resume needs, then the history as of that moment."""
        last, staging = self.output_dir / "last", self.output_dir / STAGING
        with writing(last):
            self.accelerator.save_state(str(staging))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            with replacing(last) as directory:
                shutil.copytree(staging, directory, dirs_exist_ok=True)
                state = {**asdict(self.progress), "plateau": asdict(self.plateau), "texts": self._texts()}
                (directory / "progress.json").write_text(json.dumps(state), "utf-8")
            shutil.rmtree(staging)
            self._write_history()
        self.accelerator.wait_for_everyone()
        self._saved_at = time.monotonic()

    def _load_last(self) -> None:
        last = self.output_dir / "last"
        try:
            state = json.loads((last / "progress.json").read_text("utf-8"))
            texts, plateau = state.pop("texts"), Plateau(**state.pop("plateau"))
            progress = Progress(**state)
            if texts == self._texts():
                self.accelerator.load_state(str(last))
        except Exception as error:  # whatever a damaged file makes the libraries raise
            raise ValueError(
                f"{last} is damaged, so that the run cannot be continued ({type(error).__name__}: {error}); "
                f"{self.output_dir / 'best'} is the best model so far. Train again in another directory"
            ) from error
        if texts != self._texts():
            raise ValueError(
                f"{self.output_dir} holds a run on other texts: the training corpus or its tokenizer has changed. "
                "Give it the files (--data-dir) it began with, or train again in another directory"
            )
        self.plateau, self.progress = plateau, progress
        if self.accelerator.is_main_process:
            self._write_history()  # a run that was killed just before it did

    def _texts(self) -> str:
        """A fingerprint of what the run trains on: the tokenizer and the length of every sentence in order."""
        digest = hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode())
        digest.update(self.batches.lengths.astype(np.int64).tobytes())
        return digest.hexdigest()

    def _write_history(self) -> None:
        write_lines(self.output_dir / "history.jsonl", self.history)

    def _save_when_asked(self) -> None:
        """Save when a signal came or some minutes have passed; every process decides alike."""
        late = time.monotonic() - self._saved_at > 60 * self.spec.save_minutes
        asked = torch.tensor([float(self.signals.number), float(late)], device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            asked = self.accelerator.gather(asked[None]).amax(0)
        number, late = int(asked[0]), bool(asked[1])
        if number or late:
            self._save_last()
        if number:
            if self.show:
                tqdm.write(f"stopped by {signal.Signals(number).name}: the run is saved; continue it with --resume")
            raise Interrupted(128 + number)


def _tokenised(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    if {"input_ids", "length", "index"} <= set(split.column_names):
        return split
    if "text" not in split.column_names:
        raise ValueError(
            "a split needs a column text, or input_ids, length and index as data.batching.tokenise makes them; "
            f"it has {', '.join(split.column_names)}"
        )
    return tokenise(split, tokenizer)
