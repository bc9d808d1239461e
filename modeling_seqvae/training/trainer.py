"""SeqVAETrainer: the paper's training algorithm on one process or many, resumable exactly.

The order of the data is a function of (seed, epoch), the noise and dropout of an update a function of (seed, update,
shard), and the noise of an evaluation a function of (seed, sentence): a run that was interrupted anywhere and resumed
is the run that was not, and one on two processes is the run on one that computes each batch in two parts.
"""

import json
import math
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType, broadcast_object_list
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..contracts import require_contracts
from ..data.batching import LengthGroupedBatches, cut_share_of, sentence_lengths, tokenise
from ..data.caching import quiet_libraries
from ..data.files import exclusive_lock
from ..evaluation.evaluate import PRECISIONS, Evaluator, summarise
from ..kernels import has_bfloat16, release_freed_memory
from ..modeling_seqvae import SeqVAEForTextModeling
from ..posteriors import PopulationHead
from ..sharing import own_parts
from .callbacks import Callback
from .loader import Batch, BatchLoader
from .monitor import Interrupted, NotedSignals, PhaseClock, peak_megabytes, profiled
from .objectives import objective_class
from .optimizers import OPTIMIZERS, grouped
from .recipe import Recipe, differing, leaves, model_fields
from .report import EpochTable, progress_bar
from .run_directory import Progress, RunDirectory, fingerprint, holds_run
from .schemes import SCHEMES
from .specs import TrainingSpec

ASK_EVERY = 10
"""Updates after which several processes ask each other whether to save or stop; one process asks itself every time."""
RELEASE_EVERY = 100
"""Updates after which memory that earlier batches have freed is given back."""
SHOW_EVERY = 20
"""Updates after which the bar shows new figures, for which a GPU has to be waited for."""


class TrainingDiverged(RuntimeError):
    """The loss is not a number; the message names the batch. The best checkpoint so far is untouched."""


class SeqVAETrainer:
    """Trains a model by a recipe. `output_dir` receives best/, last/, history.jsonl and recipe.yaml.

    `train_dataset` and `eval_dataset` hold a `text` column, or are already tokenised; `processing_class` is the model's
    tokenizer. Unless the data are the texts that the recipe knows its corpus by (`Recipe.with_texts`), the run's recipe
    and card say that they were in memory. Under `accelerate launch` or `torchrun` every process constructs one with the
    same arguments. After `train` the model holds the weights of last/; the best ones are in best/. `callbacks` are
    those of `training.callbacks.Callback`. With `profile`, a trace of a few updates is written to profile/.
    `pretraining` is the last history record of the run that the model's encoder comes from: its seconds and updates
    count as this one's. `training.run.train_on` builds all this from a recipe, and runs its pretraining.

    Raises ValueError where the model or the tokenizer is not what the recipe says, and for a recipe with a pretraining
    or encoder_from where `pretraining` is not given.
    """

    def __init__(
        self,
        model: SeqVAEForTextModeling,
        processing_class: PreTrainedTokenizerBase,
        recipe: Recipe,
        train_dataset: Dataset,
        eval_dataset: Dataset,
        output_dir: str | Path,
        accelerator: Accelerator | None = None,
        progress: bool = True,
        profile: bool = False,
        callbacks: Sequence[Callback] = (),
        pretraining: Mapping[str, Any] | None = None,
    ):
        recipe = recipe.of_data(train_dataset, eval_dataset).of_tokenizer(processing_class)
        self.recipe = recipe.settled_on(train_dataset, processing_class)
        _require_model_of(self.recipe, model, processing_class, pretraining)
        self.spec = self.recipe.training
        self.tokenizer = processing_class
        self.output_dir = Path(output_dir)
        self.accelerator = accelerator or self._default_accelerator()
        _require_accelerator_of(self.spec, self.accelerator)
        if own_parts(model.config):
            require_contracts(model)
        self.show = progress and self.accelerator.is_main_process
        self.profile = profile and self.accelerator.is_main_process
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks are instances of training.callbacks.Callback, got {callback!r}")
        if self.show:
            for told in self.spec.unfinished():
                warnings.warn(told, stacklevel=2)
            if self.accelerator.mixed_precision == "bf16" and not has_bfloat16(self.accelerator.device):
                warnings.warn(
                    "this machine has no bfloat16 instructions: bf16 takes several times as long as float32 (no) here. "
                    "training.precision=native takes the faster one",
                    stacklevel=2,
                )
        with self.accelerator.main_process_first(), nullcontext() if self.show else quiet_libraries():
            self.train_set, self.validation_set = (
                _tokenised(split, processing_class) for split in (train_dataset, eval_dataset)
            )
        cut = cut_share_of(self.train_set)
        if self.show and cut:
            warnings.warn(
                f"{cut:.2%} of the training texts have more than {processing_class.model_max_length - 2:,} tokens and "
                "are cut there (corpus.max_words, or the tokenizer's model_max_length)",
                stacklevel=2,
            )
        self.batches = LengthGroupedBatches(sentence_lengths(self.train_set), self.spec.batch_size, self.spec.seed)
        model.generation_config.max_length = int(self.batches.lengths.max())
        self._prepare(model)
        self._require_what_can_be_saved()
        self.plateau = self.spec.plateau()
        before = pretraining or {"seconds": 0, "encoder_updates": 0}  # a cost that is not known is not counted
        self.pretraining = {
            "pretraining_seconds": before["seconds"],
            "pretraining_updates": before["encoder_updates"],
        }
        self.progress = Progress(
            learning_rate=self.spec.learning_rate,
            seconds=self.pretraining["pretraining_seconds"],
            pretraining=self.pretraining,
        )
        self.clock = PhaseClock(self.progress.phase_seconds)
        self.signals = NotedSignals()
        self._saved_at = time.monotonic()
        self._stopped = False
        corpus = fingerprint(processing_class, self.train_set, self.validation_set)
        self.directory = RunDirectory(self.output_dir, self.accelerator, self.recipe, processing_class, corpus)

    def _prepare(self, model: SeqVAEForTextModeling) -> None:
        """Model, optimisers, objective and batches, as the accelerator of this process needs them."""
        scheme, make_optimizer = SCHEMES[self.spec.scheme], OPTIMIZERS[self.spec.optimizer]
        rates = (self.spec.learning_rate, self.spec.table_options, self.spec.encoder_rate)
        groups = [grouped(part, model, *rates) for part in scheme.parts(model)]
        optimizers = [make_optimizer(some, **self.spec.optimizer_options) for some in groups]
        self.full_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self.model, *self.optimizers = self.accelerator.prepare(model, *optimizers)
        make_objective = objective_class(self.spec.objective)
        self.objective = make_objective(model, self.accelerator, self.spec.seed, **self.spec.objective_options)
        self.loader = BatchLoader(
            self.train_set, self.batches, self.tokenizer.pad_token_id, self.accelerator, self.spec.accumulation_steps
        )
        self.update = scheme(
            self.accelerator, self.model, self.optimizers, self.objective, self.loader, self.spec.max_grad_norm,
            self.spec.seed,
        )  # fmt: skip

    def _require_what_can_be_saved(self) -> None:
        """A scheme of your own is told before the first epoch what it cannot do at its end."""
        try:
            json.dumps(self.update.state_dict())
        except TypeError as error:
            raise ValueError(
                f"training.scheme {self.spec.scheme}: its state_dict is written as JSON, and holds what cannot be "
                f"({error}): numbers, texts and lists of them can"
            ) from error

    def _default_accelerator(self) -> Accelerator:
        missing = set(self.spec.trackers) - {str(name) for name in get_available_trackers()}
        if missing:
            raise ValueError(f"training.trackers: install {' and '.join(sorted(missing))} first, or leave it out")
        precision, trackers = self.spec.mixed_precision, self.spec.trackers or None
        return Accelerator(mixed_precision=precision, log_with=trackers, project_dir=self.output_dir)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record an evaluation, as in history.jsonl."""
        return self.progress.history

    def train(self, resume: bool = False) -> list[dict[str, Any]]:
        """Run to the end, or continue an interrupted run with `resume`; returns the history.

        Raises TrainingDiverged, Interrupted (a SystemExit) on SIGTERM or Ctrl-C, ValueError where the directory holds
        a run that is not to be resumed, of another recipe, corpus or number of shards, or is damaged, RuntimeError
        where another process trains in it, and OSError where it cannot be written.
        """
        holds_run(self.output_dir, self.recipe, resume)  # a mistake is told before anything is written there
        with (
            exclusive_lock(self.output_dir, f"training in {self.output_dir}")
            if self.accelerator.is_main_process
            else nullcontext()
        ):
            return self._train(resume)

    def _train(self, resume: bool) -> list[dict[str, Any]]:
        if self.directory.open(resume, self.show):
            self._continue()
        self._start_trackers()
        self._stopped = False
        bar = progress_bar(self.spec.epochs * len(self.batches), self.progress.updates, self.show)
        traces = self.output_dir / "profile" if self.profile else None
        self.clock.start()
        try:
            with bar, self.signals, profiled(traces, self.accelerator.device, self.show) as update_done:
                table = EpochTable(bar, self.history)
                while not self.finished:
                    self._train_epoch(bar, update_done)
                    self._end_epoch()
                    table.add(self.history[-1])
                    number, stopped = self._agreed(self.signals.number, self._stopped)
                    self._stop_at(number)
                    if stopped:
                        break
        finally:
            for tracker in self.accelerator.trackers if self.spec.trackers else ():
                tracker.finish()
        return self.history

    def stop(self) -> None:
        """For callbacks: let `train` return when the epoch is saved, from where a resumed run goes on."""
        self._stopped = True

    def _start_trackers(self) -> None:
        """Tell the trackers every field of the recipe by its dotted name, so that runs can be filtered by it."""
        if not self.spec.trackers:
            return
        fields = {
            name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for name, value in leaves(self.recipe.model_dump(mode="json"))
        }
        options = {name: dict(own) for name, own in self.spec.tracker_options.items()}
        if "wandb" in self.spec.trackers:
            options["wandb"] = {"name": self.output_dir.name, **options.get("wandb", {})}
        self.accelerator.init_trackers(self.spec.tracker_project, config=fields, init_kwargs=options)

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, by epochs or by halvings."""
        return self.progress.epoch >= self.spec.epochs or self.plateau.halvings >= self.spec.max_halvings

    def _train_epoch(self, bar: tqdm, update_done: Callable[[], None]) -> None:
        progress = self.progress
        self.model.train()
        bar.set_description(f"epoch {progress.epoch + 1}/{self.spec.epochs}")
        if progress.batch == 0:
            annealed = progress.epoch >= self.spec.annealing_epochs
            self.objective.begin_epoch(annealed, lambda: self._evaluator(self.train_set).means())
        with closing(self.loader.epoch(progress.epoch, start=progress.batch)) as batches:
            for batch in batches:
                kl_weight = self._kl_weight(progress.updates)
                self.update.encoder_frozen = progress.updates < self._frozen_updates
                self._set_learning_rate()
                try:
                    figures = self.update(batch, progress.updates, kl_weight)
                except FloatingPointError as error:
                    raise self._diverged(f"{error}, in batch {progress.batch + 1}") from None
                progress.batch += 1
                progress.updates += 1
                progress.words += self.loader.predicted_words(batch.numbers)
                progress.seconds += self.clock.end("train")
                update_done()
                bar.update()
                if self.show and progress.updates % SHOW_EVERY == 0:
                    self._show(bar, kl_weight, *figures.tolist())
                if self.spec.log_updates and progress.updates % self.spec.log_updates == 0:
                    self._log_update(kl_weight, batch, figures)
                if progress.updates % RELEASE_EVERY == 0:
                    release_freed_memory()
                self._save_when_asked()

    def _set_learning_rate(self) -> None:
        """The rate at the middle of this update, so that no update of a warm-up or a decay has the rate 0."""
        kept = self.progress.learning_rate / self.spec.learning_rate  # after halvings
        factor = self.spec.lr_factor((self.progress.updates + 0.5) / len(self.batches))
        for optimizer, rates in zip(self.optimizers, self.full_rates, strict=True):
            for group, full in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = full * kept * factor

    def _show(self, bar: tqdm, kl_weight: float, reconstruction: float, kl: float) -> None:
        speed = self.progress.words / self.progress.phase_seconds["train"]
        figures = f"bound {reconstruction + kl:.1f}, kl {kl:.2f}, {speed:,.0f} words/s"
        bar.set_postfix_str(f"kl weight {kl_weight:.2f}, {figures}", refresh=False)

    def _log_update(self, kl_weight: float, batch: Batch, figures: torch.Tensor) -> None:
        """Give the trackers the means of the batch just trained on, of all processes; `figures` are this one's."""
        sums = figures * sum(part.sentences for part in batch.parts)
        reconstruction, kl = (self.accelerator.reduce(sums, "sum") / len(batch.numbers)).tolist()
        lr = self.optimizers[-1].param_groups[0]["lr"]
        told = {"bound": reconstruction + kl, "rec": reconstruction, "kl": kl, "kl_weight": kl_weight, "lr": lr}
        self.accelerator.log({f"train/{name}": value for name, value in told.items()}, step=self.progress.updates)

    def _end_epoch(self) -> None:
        """Evaluate, keep the best, apply the learning-rate rule, and write everything down."""
        progress, model = self.progress, self.accelerator.unwrap_model(self.model)
        self._take_population(model)
        summary = summarise(self._evaluator(self.validation_set).measure(), self.spec.seed)
        (summary,) = broadcast_object_list([summary])  # machines may round differently, and all must decide the same
        bound = summary[self.objective.selects_by]
        if not math.isfinite(bound):
            raise self._diverged(f"{self.objective.selects_by} on the validation set")
        progress.seconds += self.clock.end("evaluate")
        progress.epoch += 1
        progress.batch = 0
        record = self._record(summary)
        progress.history.append(record)
        improved = bound < progress.best_bound
        if improved:
            progress.best_bound, progress.best_epoch = bound, progress.epoch
        if self.plateau.halves_after(progress.epoch, bound):
            self.directory.load_best(model, self.objective.load)
            progress.learning_rate /= 2
        news = self.update.end_epoch(summary)
        if news and self.show:
            tqdm.write(f"epoch {progress.epoch}: {news}")
        self._save()
        if improved:
            self._keep_best()
        for callback in self.callbacks if self.accelerator.is_main_process else ():
            if improved:
                callback.on_best(self, record)
            callback.on_epoch_end(self, record)
        self.accelerator.log({k: v for k, v in record.items() if v is not None}, step=progress.updates)
        self.clock.end("save")  # what is told to others is no time of training either

    def _take_population(self, model: SeqVAEForTextModeling) -> None:
        """Give a posterior that normalises its means the statistics of the whole training set."""
        head = model.get_encoder().posterior if model.config.latent_size > 0 else None
        if isinstance(head, PopulationHead):
            head.set_population(self._evaluator(self.train_set).means())

    def _evaluator(self, sentences: Dataset) -> Evaluator:
        model = self.accelerator.unwrap_model(self.model)
        return Evaluator(
            model, sentences, self.spec.seed, self.spec.batch_size, accelerator=self.accelerator, progress=self.show
        )

    def _record(self, summary: dict[str, Any]) -> dict[str, Any]:
        """What the history tells of the epoch that has just ended."""
        progress, device = self.progress, self.accelerator.device
        latent = self.accelerator.unwrap_model(self.model).config.latent_size > 0
        seconds, words = self.clock.take(), progress.words
        progress.words = 0
        peak = self.accelerator.gather(torch.tensor([peak_megabytes(device)], device=device)).max().item()
        return {
            "epoch": progress.epoch,
            "encoder_updates": self._encoder_updates() if latent else 0,
            "decoder_updates": progress.updates,
            "seconds": round(progress.seconds, 2),
            "kl_weight": self._kl_weight(progress.updates - 1),  # of the last update
            **summary,
            **(self.pretraining if self.recipe.starts_from_encoder else {}),
            "lr": self.optimizers[-1].param_groups[0]["lr"],  # the decoder's
            "words_per_second": round(words / max(seconds["train"], 1e-9)),
            **{f"{phase}_seconds": round(passed, 2) for phase, passed in seconds.items()},
            "peak_memory_mb": round(peak),
        }

    def _kl_weight(self, update: int) -> float:
        return self.spec.kl_weight(update / len(self.batches)) if self.objective.weighs_kl else 0.0

    @property
    def _frozen_updates(self) -> int:
        """Updates at the start in which the encoder stays as it is."""
        return math.ceil(round(self.spec.freeze_encoder_epochs * len(self.batches), 6))  # 0.28 * 25 is above 7

    def _encoder_updates(self) -> int:
        """Steps that the encoder has taken, those of its pretraining included and those it was frozen in not."""
        frozen = min(self.progress.updates, self._frozen_updates)
        return self.update.encoder_updates(self.progress.updates) - frozen + self.pretraining["pretraining_updates"]

    def _diverged(self, what: str) -> TrainingDiverged:
        best = self.directory.best
        kept = f"the best checkpoint so far is kept in {best}" if best.exists() else "there is no checkpoint yet"
        return TrainingDiverged(
            f"not a finite number in epoch {self.progress.epoch + 1}: the {what}; {kept}. "
            "A new run with a lower training.learning_rate usually helps"
        )

    def _continue(self) -> None:
        self.progress, there = self.directory.load_last()
        rule = self.spec.plateau()  # not that of last/, where a run that is now longer had another last epoch
        self.plateau = replace(there, begin=rule.begin, patience=rule.patience, ignored=rule.ignored)
        self.recipe = self.directory.recipe
        self.pretraining = self.progress.pretraining or self.pretraining  # whose run may have gone, or gone on
        self.update.load_state_dict(self.progress.scheme)
        self.clock = PhaseClock(self.progress.phase_seconds)
        if self.progress.at_its_best and not self.directory.has_best(self.accelerator.unwrap_model(self.model)):
            self._keep_best()  # the process died just before it did

    def _keep_best(self) -> None:
        model = self.accelerator.unwrap_model(self.model)
        self.directory.save_best(model, self.history[-1], self.objective.save)

    def _save(self) -> None:
        self.progress.scheme = self.update.state_dict()
        self.directory.save_last(self.progress, self.plateau)
        self.clock.end("save")
        self._saved_at = time.monotonic()

    def _save_when_asked(self) -> None:
        """Save when a signal came or some minutes have passed, and then stop at a signal."""
        if self.accelerator.num_processes > 1 and self.progress.updates % ASK_EVERY:
            return
        late = time.monotonic() - self._saved_at > 60 * self.spec.save_minutes
        number, due = self._agreed(self.signals.number, late)
        if number or due:
            self._save()
        self._stop_at(number)

    def _agreed(self, *asked: int) -> list[int]:
        """What some process asks for, the same on every one."""
        if self.accelerator.num_processes == 1:
            return list(asked)
        every = self.accelerator.gather(torch.tensor([asked], device=self.accelerator.device))
        return every.amax(0).tolist()

    def _stop_at(self, number: int) -> None:
        """End the run, which was just saved, if there is the number of a signal."""
        if not number:
            return
        if self.show:
            tqdm.write(f"stopped by {signal.Signals(number).name}: the run is saved; continue it with --resume")
        self.signals.number = 0  # the same trainer may go on
        raise Interrupted(128 + number)


def _require_accelerator_of(spec: TrainingSpec, accelerator: Accelerator) -> None:
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError("say training.accumulation_steps in the recipe; the Accelerator's own must stay 1")
    if accelerator.distributed_type == DistributedType.FSDP:
        raise ValueError("FSDP shards the weights that one process writes to best/: launch with DDP (multi_gpu.yaml)")
    has, wanted = accelerator.mixed_precision, spec.mixed_precision
    if has not in (PRECISIONS if wanted is None else (wanted,)):
        raise ValueError(
            f"the Accelerator or the launcher asks for {has}, where training.precision is {spec.precision}: let both "
            f"be one of {', '.join(PRECISIONS)}"
        )


def _require_model_of(
    recipe: Recipe,
    model: SeqVAEForTextModeling,
    processing_class: PreTrainedTokenizerBase,
    pretraining: Mapping[str, Any] | None,
) -> None:
    """Refuse to train another model than the recipe speaks of, or without the pretraining that it begins with."""
    wanted = recipe.config(processing_class)
    found = differing(model.config, wanted, ("vocab_size", *model_fields(wanted)))
    told = ", ".join(f"{name} {has!r} for {wants!r}" for name, (has, wants) in found.items())
    if told:
        raise ValueError(
            f"the model is not that of the recipe and its tokenizer: it has {told}. Build it from "
            "recipe.config(processing_class), or change the recipe's model"
        )
    if recipe.starts_from_encoder and pretraining is None:
        raise ValueError(
            "the recipe begins with a pretrained encoder, which training.run.train_on makes or loads: call that with "
            "these data sets, or, where the model has it, give the last history record of its run as pretraining"
        )


def _tokenised(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    if {"input_ids", "length", "index"} <= set(split.column_names):
        return split
    if "text" not in split.column_names:
        raise ValueError(
            "a split needs a column text, or input_ids, length and index as data.batching.tokenise makes them; "
            f"it has {', '.join(split.column_names)}"
        )
    return tokenise(split, tokenizer)
