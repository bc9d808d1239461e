"""Every figure we print of a model on a set of sentences. `docs/metrics.md` defines them.

No figure depends on batch size, order or number of processes: the noise of a sentence is a function of (seed, its
number), and every process sees every measurement.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm import tqdm

from ..data.batching import bytes_of, collate, in_order_of_length, rows, sentence_lengths
from ..data.columns import array_of
from ..kernels import fast_matmul
from ..modeling_seqvae import SeqVAEForTextModeling
from ..noise import sentence_generator, standard_normal
from ..text_batches import evaluating
from ..transfers import arriving, to_device
from . import metrics
from .dual import DualMeasurements, DualNetworks

Batch = dict[str, torch.Tensor]
PRECISIONS = ("no", "bf16")
"""float32 and bfloat16 products. float16's scale the loss, and leave updates out, which a training here stops at."""


def precision_of(precision: str | None, accelerator: Accelerator) -> str:
    """One of `PRECISIONS`; None: what the accelerator is configured for. Raises ValueError where that is another."""
    found = precision or accelerator.mixed_precision
    if found not in PRECISIONS:
        told = "" if precision else ": choose one by --precision or by accelerate's mixed_precision"
        raise ValueError(f"precision {found!r} is not one of {', '.join(PRECISIONS)}{told}")
    return found


@dataclass
class Measurements:
    """One draw of z for each of N sentences, in order, and what it gave.

    Draws are from the posterior's `proposal`, with which likelihoods are estimated. `base_mean`, `base_logvar`,
    `base_latents` and `negative_entropy` are of posteriors and draws in the coordinates of its `base`, in which the
    posteriors are diagonal Gaussians and the mutual information is the same; where there is no latent, or no such
    coordinates, they have no columns, and the entropy is 0.
    """

    number: torch.Tensor  # (N,), the sentence's number
    tokens: torch.Tensor  # (N,), predicted tokens, </s> included
    reconstruction: torch.Tensor  # (N,), nats
    kl: torch.Tensor  # (N,), nats
    mean: torch.Tensor  # (N, Z), the features
    latents: torch.Tensor  # (N, Z)
    base_mean: torch.Tensor  # (N, Z)
    base_logvar: torch.Tensor  # (N, Z)
    base_latents: torch.Tensor  # (N, Z)
    negative_entropy: torch.Tensor  # (N,), the mean of log q(z|x) in these coordinates, nats
    dispersion: metrics.Dispersion

    @property
    def posteriors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the estimates of mutual information take: mean, log-variance and draw, (N, Z) each."""
        return self.base_mean, self.base_logvar, self.base_latents


class Evaluator:
    """Measures a model on a tokenised dataset, on one process or many.

    `shuffle_words` permutes the words that the encoder reads (paper, Table 4); the decoder's target stays. A sentence
    is known by its `index`, wherever it stands in the dataset: results are in that order, and its noise follows it.
    Where several have one index, as of datasets that were put together, all are known by their places.
    `precision` is "no" (float32) or "bf16"; None: what the accelerator is configured for. Raises ValueError for a
    dataset without sentences, and where that is neither.
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
        precision: str | None = None,
    ):
        if len(dataset) == 0:
            raise ValueError("there are no sentences to evaluate on")
        self.model = model
        self.dataset, self.numbers = dataset, array_of(dataset, "index", np.int64)
        if len(np.unique(self.numbers)) < len(dataset):
            self.numbers = np.arange(len(dataset))
        if (np.diff(self.numbers) < 0).any():
            order = self.numbers.argsort(kind="stable")
            self.dataset, self.numbers = dataset.select(order), self.numbers[order]
        self.seed = seed
        self.batch_size = batch_size
        self.shuffle_words = shuffle_words
        self.accelerator = accelerator or Accelerator()
        self.progress = progress and self.accelerator.is_main_process
        self.precision = precision_of(precision, self.accelerator)

    @torch.no_grad()
    def measure(self) -> Measurements:
        """-ELBO terms and posteriors of every sentence."""
        own, all_of_them = metrics.Dispersion(), metrics.Dispersion()

        def measured(numbers: np.ndarray, batch: Batch) -> Batch:
            return {"tokens": batch["attention_mask"].sum(1) - 1} | self._measure_batch(numbers, batch, own)

        found = self._of_each("evaluating", measured)
        for other in gather_object([own.on_host()]):
            all_of_them.merge(other)
        return Measurements(**found, dispersion=all_of_them)

    def _measure_batch(self, numbers: np.ndarray, batch: Batch, dispersion: metrics.Dispersion) -> Batch:
        if self.model.config.latent_size == 0:
            none = batch["input_ids"].new_empty(len(numbers), 0, dtype=torch.float32)
            reconstruction = self._reconstruction(none, batch)
            costs = {"reconstruction": reconstruction, **dict.fromkeys(("kl", "negative_entropy"), reconstruction * 0)}
            return costs | dict.fromkeys(("mean", "latents", "base_mean", "base_logvar", "base_latents"), none)
        encoder = self.model.get_encoder()
        words = self._encoder_words(numbers, batch)
        pooled = encoder.read(words, batch["attention_mask"])[1]
        posterior = self.model.posterior(pooled, words, batch["attention_mask"])
        dispersion.add(pooled)
        drawn = posterior.proposal.draw(self._generators(numbers))
        base, none = posterior.base, drawn.latents[:, :0]
        return {
            "reconstruction": self._reconstruction(drawn.latents, batch),
            "kl": drawn.kl,
            "mean": posterior.mean,
            "latents": drawn.latents,
            "base_mean": none if base is None else base.mean,
            "base_logvar": none if base is None else base.logvar,
            "base_latents": none if base is None else drawn.base,
            "negative_entropy": drawn.kl * 0 if base is None else base.negative_entropy(),
        }

    def _reconstruction(self, latents: torch.Tensor, batch: Batch) -> torch.Tensor:
        """-log p(x|z) of each sentence under its own draw, (B, Z) -> (B,).

        Not by the model's `forward`: that of a model which accelerate has prepared autocasts, whatever this evaluation
        asks for.
        """
        return self.model.nll_given(latents[None], batch["input_ids"], batch["attention_mask"])[0]

    @torch.no_grad()
    def means(self) -> torch.Tensor:
        """The posterior means of all sentences, (N, Z), in order, on the CPU; nothing is decoded."""

        def encoded(numbers: np.ndarray, batch: Batch) -> Batch:
            return {"mean": self.model.encode(self._encoder_words(numbers, batch), batch["attention_mask"]).mean}

        return self._of_each("encoding", encoded)["mean"]

    @torch.no_grad()
    def features(self) -> dict[str, torch.Tensor]:
        """`mean`, one `draw` of z (N, Z) and `pooled` features (N, H) of all sentences, in order, on the CPU.

        Of a Gaussian posterior the draw is that of `measure`. Raises ValueError for a language model.
        """
        self.model.model._require_latent("read features")
        encoder = self.model.get_encoder()

        def encoded(numbers: np.ndarray, batch: Batch) -> Batch:
            words = self._encoder_words(numbers, batch)
            pooled = encoder.read(words, batch["attention_mask"])[1]
            posterior = self.model.posterior(pooled, words, batch["attention_mask"])
            return {
                "mean": posterior.mean,
                "draw": posterior.rsample(1, self._generators(numbers))[0],
                "pooled": pooled,
            }

        found = self._of_each("encoding", encoded)
        return {name: found[name].float() for name in ("mean", "draw", "pooled")}

    @torch.no_grad()
    def dual(self, networks: DualNetworks, num_samples: int = 128) -> DualMeasurements:
        """The dual KLs of every sentence by trained networks, from `num_samples` draws of q(z|x) and of the prior.

        Where the density of q is known, the reconstruction is at the draw of `measure`. Raises ValueError for fewer
        than two draws, which have no Monte-Carlo error.
        """
        if num_samples < 2:
            raise ValueError(f"the dual KL needs at least 2 draws a sentence, got num_samples={num_samples}")
        networks.to(self.model.device)

        def measured(numbers: np.ndarray, batch: Batch) -> Batch:
            encoder = self.model.get_encoder()
            encoded = encoder(self._encoder_words(numbers, batch), batch["attention_mask"])
            generators = self._generators(numbers)
            latents = encoder.posterior(encoded.pooled).rsample(num_samples, generators)  # (S, B, Z)
            prior = standard_normal(num_samples, latents[0], generators)
            joint, marginal = networks.kl(encoded.pooled, latents, prior)
            return {
                "reconstruction": self._reconstruction(latents[0], batch),
                "joint": joint.value,
                "joint_variance": joint.variance,
                "marginal": marginal.value,
                "marginal_variance": marginal.variance,
            }

        return DualMeasurements(**self._of_each(f"dual KL, {num_samples} samples", measured))

    @torch.no_grad()
    def nll(self, num_samples: int = 500, sentences: int | None = None) -> np.ndarray:
        """Importance-weighted -log p(x) of the first `sentences` sentences (all by default), (N,) in nats.

        Not a number for a sentence would be a bug, not a result: raises FloatingPointError with its number. Raises
        ValueError for fewer than one sentence.
        """
        if sentences is not None and sentences < 1:
            raise ValueError(f"the NLL needs at least 1 sentence, got sentences={sentences}")
        count = len(self.dataset) if sentences is None else min(sentences, len(self.dataset))

        def scored(numbers: np.ndarray, batch: Batch) -> Batch:
            nll = self.model.iw_nll(
                batch["input_ids"],
                batch["attention_mask"],
                num_samples=num_samples,
                generator=self._generators(numbers),
                encoder_input_ids=self._encoder_words(numbers, batch),
                encoder_attention_mask=batch["attention_mask"],
            )
            return {"nll": nll}

        nll: np.ndarray = self._of_each(f"NLL, {num_samples} samples", scored, count)["nll"].double().numpy()
        bad = np.flatnonzero(~np.isfinite(nll))
        if len(bad):
            raise FloatingPointError(f"the likelihood of sentence {self.numbers[bad[0]]} is not a finite number")
        return nll

    def _of_each(
        self, description: str, compute: Callable[[np.ndarray, Batch], Batch], count: int | None = None
    ) -> dict[str, torch.Tensor]:
        """What `compute` makes of the first `count` sentences, on the CPU, in order, beside their numbers.

        It is given the numbers of a batch's sentences, and the batch. Every process gets what all have made.
        """

        def computed() -> Iterator[Batch]:
            for numbers, batch in self._batches(count or len(self.dataset), description):
                yield {"number": torch.from_numpy(numbers)} | compute(numbers, batch)

        parts = gather_object(list(arriving(computed())))
        columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        order = columns["number"].argsort()
        return {name: column[order] for name, column in columns.items()}

    def _batches(self, count: int, description: str) -> Iterator[tuple[np.ndarray, Batch]]:
        """This process's share of the first `count` sentences, longest first, in evaluation mode."""
        batches = in_order_of_length(sentence_lengths(self.dataset)[:count], self.batch_size)
        mine = batches[self.accelerator.process_index :: self.accelerator.num_processes]
        device = self.model.device
        with evaluating(self.model), fast_matmul(device), self._autocast(device):
            for positions in tqdm(mine, desc=description, delay=2, leave=False, disable=not self.progress):
                batch = collate(rows(self.dataset, positions), self.model.config.pad_token_id or 0)
                yield self.numbers[positions], {name: to_device(tensor, device) for name, tensor in batch.items()}

    def _autocast(self, device: torch.device) -> Any:
        """Of this evaluation: the accelerator's own is one for a whole process."""
        if self.precision == self.accelerator.mixed_precision:
            return self.accelerator.autocast()
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _generators(self, numbers: np.ndarray) -> list[torch.Generator]:
        return [sentence_generator(self.seed, int(number)) for number in numbers]

    def _encoder_words(self, numbers: np.ndarray, batch: Batch) -> torch.Tensor:
        """The encoder's input: the sentence, or with `shuffle_words` its words permuted between `<s>` and `</s>`."""
        if not self.shuffle_words:
            return batch["input_ids"]
        words = batch["input_ids"]
        order = torch.arange(words.shape[1]).repeat(len(words), 1)  # (B, T)
        lengths = batch["attention_mask"].sum(1).tolist()
        for row, number, length in zip(order, numbers, lengths, strict=True):
            permuted = np.random.default_rng((self.seed, int(number))).permutation(length - 2)
            row[1 : length - 1] = 1 + torch.from_numpy(permuted)
        return words.gather(1, to_device(order, words.device))


def summarise(measured: Measurements, seed: int = 0) -> dict[str, Any]:
    """The table's columns but NLL: bound (-ELBO), rec, kl, mi (`mi_batch`), au and cosine; None without a latent.

    MI is None, too, where only draws of the posterior are known.
    """
    rec, kl = measured.reconstruction.double().mean().item(), measured.kl.double().mean().item()
    summary: dict[str, Any] = {"bound": rec + kl, "rec": rec, "kl": kl}
    if measured.mean.shape[1] == 0:
        return summary | {"mi": None, "au": None, "cosine": None}
    informative = measured.base_mean.shape[1] > 0
    return summary | {
        "mi": metrics.mutual_information_batch(*measured.posteriors, seed=seed) if informative else None,
        "au": metrics.active_units(measured.mean),
        "cosine": measured.dispersion.cosine() if len(measured.number) > 1 else None,
    }


def evaluate(
    evaluator: Evaluator,
    num_samples: int = 500,
    nll_sentences: int | None = None,
    networks: DualNetworks | None = None,
) -> dict[str, Any]:
    """The whole row of a table: `summarise`, mi_corpus, NLL with its standard error, PPL, and iVAE's own figures.

    `nll_sentences` draws importance samples for the first sentences only: see `nll_figures`. Dual `networks` add what
    `dual_figures` makes of them.
    """
    measured = evaluator.measure()
    nll = evaluator.nll(num_samples, nll_sentences)
    report = row(measured, nll, num_samples, evaluator.seed, bytes_of(evaluator.dataset)) | {
        "shuffled": evaluator.shuffle_words
    }
    return report if networks is None else report | dual_figures(measured, nll, evaluator.dual(networks))


def row(
    measured: Measurements, nll: np.ndarray, num_samples: int, seed: int = 0, byte_count: int | None = None
) -> dict[str, Any]:
    """All figures of measurements and of the NLL (n,) of the first n of their sentences.

    `byte_count` is the UTF-8 bytes of all their texts, where these are known.
    """
    informative = measured.base_mean.shape[1] > 0
    posteriors = measured.posteriors
    bound, tokens = (measured.reconstruction.double() + measured.kl.double()).numpy(), int(measured.tokens.sum())
    likelihood = nll_figures(bound, nll)
    return summarise(measured, seed) | {
        "mi_corpus": metrics.mutual_information_corpus(*posteriors) if informative else None,
        "mi_equal_length": metrics.mutual_information_by_length(*posteriors, measured.tokens, measured.negative_entropy)
        if informative
        else None,
        **likelihood,
        "nll_sentences": len(nll),
        "nll_samples": num_samples if measured.mean.shape[1] > 0 else 1,
        "ppl": math.exp(likelihood["nll"] * len(bound) / tokens),
        "bits_per_byte": metrics.bits_per_byte(likelihood["nll"] * len(bound), byte_count) if byte_count else None,
        "sentences": len(bound),
        "tokens": tokens,
        "bytes": byte_count,
    }


def nll_figures(bound: np.ndarray, nll: np.ndarray) -> dict[str, Any]:
    """The NLL of N sentences from their -ELBOs, `bound` (N,), and the NLLs (n,) of the first n of them.

    `nll_gap` is the mean of -ELBO minus NLL over the n, and `nll` the mean -ELBO of all minus that gap: with n = N the
    mean NLL itself. It is the regression estimate with the -ELBO as control variate (Cochran 1977, chapter 7, at slope
    1): the sentences' NLLs differ by tens of nats, their gaps by a fraction of one. `nll_se` is the standard error of
    `nll` as an estimate for all such text, `nll_gap_se` that of the gap alone; None for a single sentence.
    """
    gap, count, some = bound[: len(nll)] - nll, len(bound), len(nll)
    share = (bound - bound.mean()) / math.sqrt(count * max(count - 1, 1))  # what each adds to the estimate's error
    share[:some] -= (gap - gap.mean()) / math.sqrt(some * max(some - 1, 1))
    return {
        "nll": float(bound.mean() - gap.mean()),
        "nll_se": math.sqrt(float(np.square(share).sum())) if some > 1 else None,
        "nll_gap": float(gap.mean()),
        "nll_gap_se": standard_error(gap),
    }


def dual_figures(measured: Measurements, nll: np.ndarray, dual: DualMeasurements) -> dict[str, Any]:
    """What iVAE reports, and how far it is from the figures of every other row, sentence by sentence.

    `_se` is a standard error over sentences, `_mc` the error of finitely many draws alone; NLL (n,) is of the first n
    sentences, and compared on these.
    """
    kl, joint, marginal = measured.kl.double(), dual.joint, dual.marginal
    bar = dual.reconstruction.double() + joint  # (N,)
    differences = {
        "kl_above_dual": kl - joint,
        "nll_bar_above_bound": bar - measured.reconstruction.double() - kl,
        "nll_bar_above_nll": bar[: len(nll)] - torch.from_numpy(nll).double(),
    }
    figures = {
        "nll_bar": bar.mean().item(),
        "nll_bar_se": standard_error(bar.numpy()),
        "dual_kl": joint.mean().item(),
        "dual_kl_mc": math.sqrt(dual.joint_variance.sum().item()) / len(joint),
        "dual_kl_marginal": marginal.mean().item(),
        "dual_kl_marginal_mc": math.sqrt(dual.marginal_variance.sum().item()) / len(marginal),
        "dual_mi": (joint - marginal).mean().item(),
    }
    for name, values in differences.items():
        figures |= {name: values.mean().item(), f"{name}_se": standard_error(values.numpy())}
    return figures


def standard_error(values: np.ndarray) -> float | None:
    """The standard error of a mean over sentences; None for a single one."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
