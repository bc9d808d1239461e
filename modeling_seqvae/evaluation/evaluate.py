"""Every figure we print of a model on a set of sentences. `docs/metrics.md` defines them.

No figure depends on batch size, order or number of processes: the noise of a sentence is a function of (seed, its
number), and every process sees every measurement.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm import tqdm

from ..data.batching import collate, in_order_of_length, rows
from ..modeling_seqvae import SeqVAEForTextModeling
from ..noise import sentence_generator
from ..precision import fast_matmul
from . import metrics

Batch = dict[str, torch.Tensor]


@dataclass
class Measurements:
    """One draw of z for each of N sentences, in order, and what it gave."""

    number: torch.Tensor  # (N,), the sentence's number
    tokens: torch.Tensor  # (N,), predicted tokens, </s> included
    reconstruction: torch.Tensor  # (N,), nats
    kl: torch.Tensor  # (N,), nats
    mean: torch.Tensor  # (N, Z)
    logvar: torch.Tensor  # (N, Z)
    latents: torch.Tensor  # (N, Z)
    dispersion: metrics.Dispersion


class Evaluator:
    """Measures a model on a tokenised dataset, on one process or many.

    `shuffle_words` permutes the words that the encoder reads (paper, Table 4); the decoder's target stays. A sentence
    is known by its `index`, wherever it stands in the dataset: results are in that order, and its noise follows it.
    Raises ValueError for a dataset without sentences.
    """

    def __init__(
        self,
        model: SeqVAEForTextModeling,
        dataset: Dataset,
        seed: int = 0,
        batch_size: int = 32,
        shuffle_words: bool = False,
        accelerator: Accelerator | None = None,
        progress: bool = True,
    ):
        if len(dataset) == 0:
            raise ValueError("there are no sentences to evaluate on")
        self.model = model
        numbers = np.asarray(dataset["index"][:])
        order = numbers.argsort(kind="stable")
        self.dataset, self.numbers = dataset.select(order), numbers[order]
        self.seed = seed
        self.batch_size = batch_size
        self.shuffle_words = shuffle_words
        self.accelerator = accelerator or Accelerator()
        self.progress = progress and self.accelerator.is_main_process

    @torch.no_grad()
    def measure(self) -> Measurements:
        """-ELBO terms and posteriors of every sentence."""
        parts, dispersion = [], metrics.Dispersion()
        for numbers, batch in self._batches(len(self.dataset), "evaluating"):
            part = {"number": torch.from_numpy(numbers), "tokens": batch["attention_mask"].sum(1) - 1}
            part |= self._measure_batch(numbers, batch, dispersion)
            parts.append({name: tensor.cpu() for name, tensor in part.items()})
        gathered = gather_object([(parts, dispersion)])
        return _in_order([part for parts, _ in gathered for part in parts], [other for _, other in gathered])

    def _measure_batch(self, numbers: np.ndarray, batch: Batch, dispersion: metrics.Dispersion) -> Batch:
        if self.model.config.latent_size == 0:
            output = self.model(**batch, return_logits=False)
            nothing = output.latents
            return {"reconstruction": output.reconstruction_loss, "kl": output.kl} | dict.fromkeys(
                ("mean", "logvar", "latents"), nothing
            )
        encoder = self.model.get_encoder()
        encoded = encoder(self._encoder_words(numbers, batch), batch["attention_mask"])
        posterior = encoder.posterior(encoded.pooled)
        latents = posterior.rsample(generator=self._generators(numbers))[0]
        output = self.model(**batch, encoder_outputs=encoded, latents=latents, return_logits=False)
        dispersion.add(encoded.pooled)
        return {
            "reconstruction": output.reconstruction_loss,
            "kl": output.kl,
            "mean": posterior.mean,
            "logvar": posterior.logvar,
            "latents": latents,
        }

    @torch.no_grad()
    def nll(self, num_samples: int = 500, sentences: int | None = None) -> np.ndarray:
        """Importance-weighted -log p(x) of the first `sentences` sentences (all by default), (N,) in nats.

        Not a number for a sentence would be a bug, not a result: raises FloatingPointError with its number. Raises
        ValueError for fewer than one sentence.
        """
        if sentences is not None and sentences < 1:
            raise ValueError(f"the NLL needs at least 1 sentence, got sentences={sentences}")
        count = len(self.dataset) if sentences is None else min(sentences, len(self.dataset))
        values: list[tuple[int, float]] = []
        for numbers, batch in self._batches(count, f"NLL, {num_samples} samples"):
            nll = self.model.iw_nll(
                batch["input_ids"],
                batch["attention_mask"],
                num_samples=num_samples,
                generator=self._generators(numbers),
                encoder_input_ids=self._encoder_words(numbers, batch),
            )
            values += zip(numbers.tolist(), nll.tolist(), strict=True)
        values = sorted(gather_object(values))
        bad = [number for number, value in values if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(f"the likelihood of sentence {bad[0]} is not a finite number")
        return np.array([value for _, value in values])

    def _batches(self, count: int, description: str) -> Iterator[tuple[np.ndarray, Batch]]:
        """This process's share of the first `count` sentences, longest first, in evaluation mode."""
        batches = in_order_of_length(self.dataset["length"][:count], self.batch_size)
        mine = batches[self.accelerator.process_index :: self.accelerator.num_processes]
        was_training = self.model.training
        self.model.eval()
        device = self.model.device
        try:
            with fast_matmul(device), self.accelerator.autocast():
                for positions in tqdm(mine, desc=description, delay=2, leave=False, disable=not self.progress):
                    batch = collate(rows(self.dataset, positions), self.model.config.pad_token_id or 0)
                    yield self.numbers[positions], {name: tensor.to(device) for name, tensor in batch.items()}
        finally:
            self.model.train(was_training)

    def _generators(self, numbers: np.ndarray) -> list[torch.Generator]:
        return [sentence_generator(self.seed, int(number)) for number in numbers]

    def _encoder_words(self, numbers: np.ndarray, batch: Batch) -> torch.Tensor:
        """The encoder's input: the sentence, or with `shuffle_words` its words permuted between `<s>` and `</s>`."""
        if not self.shuffle_words:
            return batch["input_ids"]
        shuffled = batch["input_ids"].clone()
        for row, (number, length) in enumerate(zip(numbers, batch["attention_mask"].sum(1).tolist(), strict=True)):
            order = np.random.default_rng((self.seed, int(number))).permutation(length - 2)
            shuffled[row, 1 : length - 1] = batch["input_ids"][row, 1 + torch.from_numpy(order).to(shuffled.device)]
        return shuffled


def summarise(measured: Measurements, seed: int = 0) -> dict[str, Any]:
    """The table's columns but NLL: bound (-ELBO), rec, kl, mi (`mi_batch`), au and cosine; None without a latent."""
    rec, kl = measured.reconstruction.double().mean().item(), measured.kl.double().mean().item()
    summary: dict[str, Any] = {"bound": rec + kl, "rec": rec, "kl": kl}
    if measured.mean.shape[1] == 0:
        return summary | {"mi": None, "au": None, "cosine": None}
    posteriors = (measured.mean, measured.logvar, measured.latents)
    return summary | {
        "mi": metrics.mutual_information_batch(*posteriors, seed=seed),
        "au": metrics.active_units(measured.mean),
        "cosine": measured.dispersion.cosine() if len(measured.number) > 1 else None,
    }


def evaluate(evaluator: Evaluator, num_samples: int = 500, nll_sentences: int | None = None) -> dict[str, Any]:
    """The whole row of a table: `summarise`, mi_corpus, NLL with its standard error, and PPL.

    `nll_sentences` estimates the NLL (and the PPL, which is computed from it) on the first sentences only.
    """
    measured = evaluator.measure()
    nll = evaluator.nll(num_samples, nll_sentences)
    return row(measured, nll, num_samples, evaluator.seed) | {"shuffled": evaluator.shuffle_words}


def row(measured: Measurements, nll: np.ndarray, num_samples: int, seed: int = 0) -> dict[str, Any]:
    """All figures of measurements and of the NLL (n,) of the first n of their sentences."""
    latent = measured.mean.shape[1] > 0
    posteriors = (measured.mean, measured.logvar, measured.latents)
    return summarise(measured, seed) | {
        "mi_corpus": metrics.mutual_information_corpus(*posteriors) if latent else None,
        "mi_equal_length": metrics.mutual_information_by_length(*posteriors, measured.tokens) if latent else None,
        "nll": float(nll.mean()),
        "nll_se": standard_error(nll),
        "nll_sentences": len(nll),
        "nll_samples": num_samples if latent else 1,
        "ppl": math.exp(float(nll.sum()) / int(measured.tokens[: len(nll)].sum())),
        "sentences": len(measured.number),
        "tokens": int(measured.tokens.sum()),
    }


def standard_error(values: np.ndarray) -> float | None:
    """The standard error of a mean over sentences; None for a single one."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def _in_order(parts: list[dict[str, Any]], dispersions: list[metrics.Dispersion]) -> Measurements:
    names = [field.name for field in fields(Measurements) if field.name != "dispersion"]
    columns = {name: torch.cat([part[name] for part in parts]) for name in names}
    order = columns["number"].argsort()
    total = metrics.Dispersion()
    for dispersion in dispersions:
        total.merge(dispersion)
    return Measurements(**{name: column[order] for name, column in columns.items()}, dispersion=total)
