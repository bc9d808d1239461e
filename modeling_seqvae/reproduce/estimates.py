"""How long steps will take: from runs and measurements that are there, or else from a few updates timed for it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset

from ..data.batching import LengthGroupedBatches, collate, rows, sentence_lengths, tokenise
from ..evaluation.evaluate import Evaluator
from ..kernels import fast_matmul
from ..modeling_seqvae import SeqVAEForTextModeling
from ..training.recipe import Recipe
from ..training.run import read_corpus
from ..training.run_directory import RECIPE
from .published import paper_settings
from .steps import Evaluation, Step, Training

UPDATES, SECONDS_AT_MOST = 5, 5.0
"""A probe times so many updates, or fewer if they take long."""
SENTENCES, DRAWS = 4, 50
"""A probe estimates the NLL of so many sentences with so many samples."""
RECENT = 5
"""A run's pace is that of its last epochs: an aggressive one is slow at first."""


@dataclass(frozen=True)
class Speed:
    """Seconds of an epoch of SeqVAE and its batches; if it was timed, of the NLL of a sentence with 500 samples.

    `reading` is what each step needs to read the corpus, 0 where that is not known.
    """

    epoch: float
    batches: int
    reading: float = 0.0
    nll_sentence: float | None = None
    test_sentences: int | None = None


Probe = Callable[[Recipe, Path | None], Mapping[str, float]]


@dataclass
class Estimates:
    """Seconds that steps will take, at most: a plateau may end a run before its last epoch.

    `probe` times a recipe where nothing of its size has run in `output_dir` yet.
    """

    output_dir: Path
    probe: Probe
    speeds: dict[str, Speed] = field(default_factory=dict)
    probed: bool = False

    def __post_init__(self) -> None:
        found: dict[str, list[tuple[float, int]]] = {}
        for path in sorted(self.output_dir.glob(f"*/*/*/seed*/{RECIPE}")):
            try:
                recipe = Recipe.load(path)
                history = Training(recipe, path.parent).read(Path())
            except ValueError:  # of another version, or damaged: whoever asks for that run is told
                continue
            if history:
                batches, cost = history[-1]["decoder_updates"] // history[-1]["epoch"], relative_cost(recipe)
                timed = history if cost == 1 else history[:2]  # aggression ends after the second epoch at the earliest
                found.setdefault(size_of(recipe), []).append((_pace(timed) / cost, batches))
        for size, paces in found.items():
            self.speeds[size] = Speed(median(pace for pace, _ in paces), paces[0][1])

    def updates(self, training: Training) -> int:
        """Updates of the decoder until the last epoch."""
        return self._epochs_left(training) * self._speed(training).batches

    def seconds(self, step: Step) -> float | None:
        """What the step will take; None where nothing is known of its kind."""
        if isinstance(step, Training):
            history = step.read(self.output_dir)
            if history:
                return self._epochs_left(step) * _pace(history)
            speed = self._speed(step)
            return self._epochs_left(step) * speed.epoch * relative_cost(step.recipe) + speed.reading
        measured = self._measured_alike(step)
        if measured is None and isinstance(step, Evaluation):
            speed = self._speed(step.training, nll=True)
            if speed.nll_sentence is None or speed.test_sentences is None:
                return None
            sentences = min(step.nll_sentences or speed.test_sentences, step.limit or speed.test_sentences)
            share = 1 if _has_latent(step.training.recipe) else 1 / step.nll_samples  # one pass is exact
            return sentences * speed.nll_sentence * share + speed.reading
        return measured

    def _epochs_left(self, training: Training) -> int:
        return training.epochs(self.output_dir) - len(training.read(self.output_dir) or ())

    def _speed(self, training: Training, nll: bool = False) -> Speed:
        size = size_of(training.recipe)
        if size not in self.speeds or (nll and self.speeds[size].nll_sentence is None):
            probed = Speed(**self.probe(_with_latent(training.recipe), training.data_dir))  # type: ignore[arg-type]
            known = self.speeds.get(size, probed)
            self.speeds[size] = replace(probed, epoch=known.epoch, batches=known.batches)
            self.probed = True
        return self.speeds[size]

    def _measured_alike(self, step: Step) -> float | None:
        """How long it took of other runs of the corpus with these settings."""
        corpus, _, settings, _ = step.folder.parts
        took = [step.took(folder) for folder in self.output_dir.glob(f"{corpus}/*/{settings}/seed*")]
        known = [seconds for seconds in took if seconds is not None]
        return median(known) if known else None


def relative_cost(recipe: Recipe) -> float:
    """How long an epoch takes against one of SeqVAE, by configuration/paper/costs.yaml."""
    cost = 1.0
    for name, costs in paper_settings("costs").items():
        cost *= costs.get(getattr(recipe.training, name), 1)
    return cost


def _has_latent(recipe: Recipe) -> bool:
    return recipe.model.get("latent_size") != 0


def _with_latent(recipe: Recipe) -> Recipe:
    """The recipe, or of a language model one of the same size with a latent: speeds are those of SeqVAE."""
    fields = {name: value for name, value in recipe.model.items() if name != "latent_size"}
    return recipe if _has_latent(recipe) else recipe.model_copy(update={"model": fields})


def size_of(recipe: Recipe) -> str:
    """What an epoch's time depends on beside the method: documents, model sizes, batches and precision."""
    sizes = {name: value for name, value in recipe.model.items() if name.endswith("hidden_size") or "embedding" in name}
    corpus = recipe.corpus.model_dump(mode="json")
    return json.dumps(
        [corpus, recipe.limits, sizes, recipe.training.batch_size, recipe.training.precision], sort_keys=True
    )


def probe(recipe: Recipe, data_dir: Path | None) -> dict[str, float]:
    """The fields of `Speed`, timed on this machine: a few updates at the real size, and a few likelihoods.

    Raises what `load_corpus` raises, and ValueError where a split has fewer than 2 documents.
    """
    began = time.monotonic()
    corpus, tokenizer = read_corpus(recipe, data_dir)
    splits = {name: tokenise(split, tokenizer) for name, split in corpus.splits.items()}
    for name, split in splits.items():
        if len(split) < 2:
            raise ValueError(f"the {name} set of {corpus.name} has {len(split)} document; what is measured needs 2")
    reading = time.monotonic() - began
    accelerator = Accelerator(mixed_precision=recipe.training.mixed_precision)
    model = SeqVAEForTextModeling(recipe.config(tokenizer)).to(accelerator.device)
    batches = LengthGroupedBatches(sentence_lengths(splits["train"]), recipe.training.batch_size, recipe.training.seed)
    update = _seconds_of_updates(model, splits["train"], batches, accelerator)
    some = {name: splits[name].select(range(min(SENTENCES, len(splits[name])))) for name in ("validation", "test")}
    seconds = {}
    for name, split in some.items():
        precision = None if name == "validation" else "no"  # a run is measured in its own, its test set in float32
        evaluator = Evaluator(model, split, accelerator=accelerator, progress=False, precision=precision)
        began = time.monotonic()
        evaluator.measure() if name == "validation" else evaluator.nll(DRAWS)
        seconds[name] = (time.monotonic() - began) / len(split)
    return {
        "epoch": len(batches) * update + len(splits["validation"]) * seconds["validation"],
        "batches": len(batches),
        "reading": reading,
        "nll_sentence": seconds["test"] * 500 / DRAWS,
        "test_sentences": len(splits["test"]),
    }


def _seconds_of_updates(
    model: SeqVAEForTextModeling, train: Dataset, batches: LengthGroupedBatches, accelerator: Accelerator
) -> float:
    """Seconds of one; the first, in which libraries prepare themselves, is not counted where there are more."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    model.train()
    passed: list[float] = []
    for numbers in batches.epoch(0)[: UPDATES + 1]:
        began = time.monotonic()
        batch = collate(rows(train, numbers), model.config.pad_token_id or 0)
        batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
        with fast_matmul(accelerator.device), accelerator.autocast():
            output = model(**batch, return_logits=False, use_cache=False)
        with fast_matmul(accelerator.device):
            output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0).item()  # waits for a GPU
        optimizer.step()
        optimizer.zero_grad()
        passed.append(time.monotonic() - began)
        if sum(passed) > SECONDS_AT_MOST:
            break
    return median(passed[1:] or passed)


def _pace(history: Sequence[Mapping[str, Any]]) -> float:
    """Seconds an epoch: the median of the last ones, so that one in which the machine slept does not count."""
    ends = [{"epoch": 0, "seconds": 0.0}, *history][-1 - RECENT :]
    return median((new["seconds"] - old["seconds"]) / (new["epoch"] - old["epoch"]) for old, new in pairwise(ends))
