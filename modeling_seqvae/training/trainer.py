"""SeqVAETrainer: the paper's training algorithm on one process or many, resumable exactly.

The order of the data is a function of (seed, epoch), the noise and dropout of an update a function of (seed, update,
process), and the noise of an evaluation a function of (seed, sentence): a run that was interrupted anywhere and resumed
is the run that was not.
"""

import json
import math
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import load_model
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..data.batching import LengthGroupedBatches, collate, rows, tokenise
from ..evaluation.evaluate import Evaluator, seed_of, summarise
from ..modeling_seqvae import SeqVAEForTextModeling
from ..precision import fast_matmul
from .checkpoint import recover, replacing, write_lines
from .objectives import OBJECTIVES
from .recipe import Recipe
from .report import EpochTable, progress_bar, quiet_transformers

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class TrainingDiverged(RuntimeError):
    """The loss is not a number; the message names the batch. The best checkpoint so far is untouched."""


class Interrupted(SystemExit):
    """A signal asked the run to stop; the state was saved. The exit code is the shell's convention, 128 + signal."""


@dataclass
class Progress:
    """Where a run stands: everything that the accelerator's own state does not hold."""

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    learning_rate: float = 0.0
    best_bound: float = math.inf
    lowest: float = math.inf
    epochs_without_improvement: int = 0
    halvings: int = 0
    seconds: float = 0.0
    words: int = 0
    words_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class SeqVAETrainer:
    """Trains a model by a recipe. `output_dir` receives best/, last/, history.jsonl and recipe.yaml.

    `train` and `validation` hold a `text` column, or are already tokenised. Under `accelerate launch` or `torchrun`
    every process constructs one with the same arguments. Raises ValueError when the directory holds another run.
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
        with self.accelerator.main_process_first():
            self.train_set, self.validation_set = (_tokenised(split, tokenizer) for split in (train, validation))
        lengths = self.train_set["length"]
        self.batches = LengthGroupedBatches(lengths, self.spec.batch_size, self.spec.seed)
        model.generation_config.max_length = max(lengths)
        optimizer = OPTIMIZERS[self.spec.optimizer](model.parameters(), lr=self.spec.learning_rate)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.objective = OBJECTIVES[self.spec.objective]
        self.plateau = self.spec.plateau()
        self.progress = Progress(learning_rate=self.spec.learning_rate)
        self.show = progress and self.accelerator.is_main_process
        self._signal: int | None = None
        self._saved_at = time.monotonic()

    def _default_accelerator(self) -> Accelerator:
        precision = None if self.spec.precision == "auto" else self.spec.precision
        return Accelerator(mixed_precision=precision, log_with=self.spec.trackers or None, project_dir=self.output_dir)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record an evaluation, as in history.jsonl."""
        return self.progress.history

    def train(self, resume: bool = False) -> list[dict[str, Any]]:
        """Run to the end, or continue an interrupted run with `resume`; returns the history.

        Raises TrainingDiverged, Interrupted (a SystemExit) on SIGTERM or Ctrl-C, ValueError or FileNotFoundError where
        the directory does not fit.
        """
        self._open_directory(resume)
        if self.spec.trackers:
            self.accelerator.init_trackers("seqvae", config={"recipe": json.dumps(self.recipe.model_dump(mode="json"))})
        total = self.spec.epochs * len(self.batches)
        bar = progress_bar(total, self.progress.updates, self.show)
        with bar, self._signals_noted():
            table = EpochTable(bar, self.history)
            while not self._finished():
                self._train_epoch(bar)
                self._end_epoch()
                table.add(self.history[-1])
        if self.spec.trackers:
            self.accelerator.end_training()
        return self.history

    def _finished(self) -> bool:
        return self.progress.epoch >= self.spec.epochs or self.plateau.halvings >= self.spec.max_halvings

    def _train_epoch(self, bar: tqdm) -> None:
        self.model.train()
        bar.set_description(f"epoch {self.progress.epoch + 1}/{self.spec.epochs}")
        for numbers in self.batches.epoch(self.progress.epoch)[self.progress.batch :]:
            started = time.monotonic()
            kl_weight = self.spec.kl_weight(self.progress.updates / len(self.batches))
            reconstruction, kl, words = self._update(numbers, kl_weight)
            self.progress.batch += 1
            self.progress.updates += 1
            self.progress.words += words
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

    def _update(self, numbers: np.ndarray, kl_weight: float) -> tuple[float, float, int]:
        """One step of the optimiser on a global batch; this process's mean reconstruction and KL, and its words."""
        accelerator, world = self.accelerator, self.accelerator.num_processes
        torch.manual_seed(seed_of(self.spec.seed, self.progress.updates, accelerator.process_index))
        mine = numbers[accelerator.process_index :: world]
        parts = [mine[part :: self.spec.accumulation_steps] for part in range(self.spec.accumulation_steps)]
        sums = np.zeros(2)
        words = 0
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
                words += int(batch["attention_mask"].sum()) - len(part) if len(part) else 0
            norm = accelerator.clip_grad_norm_(self.model.parameters(), self.spec.max_grad_norm)
            self._require_finite(norm, numbers)
            self.optimizer.step()
            self.optimizer.zero_grad()
        reconstruction, kl = sums / max(1, len(mine))
        return reconstruction, kl, words

    def _require_finite(self, norm: torch.Tensor, numbers: np.ndarray) -> None:
        """Stop before a step that would fill the weights with not-a-number; every process sees the same norm."""
        if torch.isfinite(norm):
            return
        some = ", ".join(map(str, numbers[:8].tolist()))
        raise TrainingDiverged(
            f"the loss or its gradient is not a finite number at epoch {self.progress.epoch + 1}, batch "
            f"{self.progress.batch + 1} (training sentences {some}, ...). The best checkpoint so far is in "
            f"{self.output_dir / 'best'}; a lower training.learning_rate usually helps"
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
        kl_weight = self.spec.kl_weight(progress.updates / len(self.batches))
        progress.epoch += 1
        progress.batch = 0
        progress.seconds += time.monotonic() - started
        record = self._record(summary, kl_weight)
        progress.history.append(record)
        bound = float(summary["bound"] or 0.0)
        if bound < progress.best_bound:
            progress.best_bound = bound
            self._save_best()
        if self.plateau.halves_after(progress.epoch, bound):
            load_model(model, self.output_dir / "best" / "model.safetensors", device=str(self.accelerator.device))
            progress.learning_rate /= 2
            for group in self.optimizer.param_groups:
                group["lr"] = progress.learning_rate
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
            "lr": progress.learning_rate,
            "words_per_second": round(progress.words / max(progress.words_seconds, 1e-9)),
        }

    def _open_directory(self, resume: bool) -> None:
        """Continue from last/, or begin; refuse to overwrite a run or to continue another recipe."""
        recipe_file = self.output_dir / "recipe.yaml"
        if self.accelerator.is_main_process:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            recover(self.output_dir / "last")
            recover(self.output_dir / "best")
        self.accelerator.wait_for_everyone()
        if recipe_file.exists():
            if not resume:
                raise ValueError(
                    f"{self.output_dir} holds a run: continue it with --resume, or choose another directory"
                )
            self._require_same_recipe(Recipe.load(recipe_file))
        elif self.accelerator.is_main_process:
            self.recipe.save(recipe_file)
        if resume and (self.output_dir / "last").exists():
            self._load_last()
        self.accelerator.wait_for_everyone()

    def _require_same_recipe(self, other: Recipe) -> None:
        here, there = self.recipe.model_dump(mode="json"), other.model_dump(mode="json")
        changed = [
            f"{name} is {there[name]!r} there and {here[name]!r} here" for name in here if here[name] != there[name]
        ]
        if changed:
            raise ValueError(f"{self.output_dir} holds a run of another recipe: " + "; ".join(changed))

    def _save_best(self) -> None:
        if not self.accelerator.is_main_process:
            return
        with quiet_transformers(), replacing(self.output_dir / "best") as directory:
            model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            model.save_pretrained(directory)
            self.tokenizer.save_pretrained(directory)

    def _save_last(self) -> None:
        """Everything an exact resume needs, then the history as of that moment."""
        last = self.output_dir / "last"
        self.progress.lowest = self.plateau.lowest
        self.progress.epochs_without_improvement = self.plateau.epochs_without_improvement
        self.progress.halvings = self.plateau.halvings
        staging = self.output_dir / ".state"
        self.accelerator.save_state(str(staging))
        if self.accelerator.is_main_process:
            with replacing(last) as directory:
                shutil.copytree(staging, directory, dirs_exist_ok=True)
                (directory / "progress.json").write_text(json.dumps(asdict(self.progress)), "utf-8")
            shutil.rmtree(staging)
            write_lines(self.output_dir / "history.jsonl", self.history)
        self.accelerator.wait_for_everyone()
        self._saved_at = time.monotonic()

    def _load_last(self) -> None:
        last = self.output_dir / "last"
        self.accelerator.load_state(str(last))
        self.progress = Progress(**json.loads((last / "progress.json").read_text("utf-8")))
        self.plateau.lowest = self.progress.lowest
        self.plateau.epochs_without_improvement = self.progress.epochs_without_improvement
        self.plateau.halvings = self.progress.halvings

    def _save_when_asked(self) -> None:
        """Save when a signal came or some minutes have passed; every process decides alike."""
        late = time.monotonic() - self._saved_at > 60 * self.spec.save_minutes
        asked = torch.tensor([float(self._signal or 0), float(late)], device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            asked = self.accelerator.gather(asked[None]).amax(0)
        number, late = int(asked[0]), bool(asked[1])
        if number or late:
            self._save_last()
        if number:
            if self.show:
                tqdm.write(f"stopped by {signal.Signals(number).name}: the run is saved; continue it with --resume")
            raise Interrupted(128 + number)

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C wait for the end of the update; a second Ctrl-C does not wait."""

        def note(number: int, frame: Any) -> None:
            if self._signal is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._signal = number

        former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _tokenised(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    return split if "input_ids" in split.column_names else tokenise(split, tokenizer)
