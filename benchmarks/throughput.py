"""Speed and memory at the paper's size, against this machine's own rate of matrix products.

    python benchmarks/throughput.py --output docs/performance/throughput.json

Measures a training step (also with the unigram decoder of a pretraining), iw_nll, encode and sample, in float32 and
bfloat16, in one run, with the machine's rate taken again beside each: on a shared machine only such ratios mean
something. Words are predicted tokens (for encode: tokens read), for iw_nll once for each sample. The arithmetic limit
is the time that the multiplications of the whole work would take at the rate of large square products. The reference is
a public implementation of the same model, measured in float32 on a 2-core machine: its words a second are taken as
proportional to the machine's float32 rate.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from measuring import (
    MATRIX,
    PRECISIONS,
    Machine,
    computed_in,
    matmul_rate,
    median_seconds,
    products_in,
    reset_peak,
    write_report,
)
from tqdm import tqdm

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.kernels import linear_nll, prepare_process, run_layer, states_under_latents
from modeling_seqvae.training.monitor import peak_megabytes
from modeling_seqvae.training.objectives import OBJECTIVES
from modeling_seqvae.training.optimizers import OPTIMIZERS
from modeling_seqvae.training.specs import TrainingSpec

REFERENCE_RATE = 150.0  # GFLOP/s of float32 products, of the machine that the reference ran on
REFERENCE_WORDS = {"train": 847.0, "iw_nll": 2764.0}  # a second there


@dataclass(frozen=True)
class Size:
    """Shapes of the work; the defaults are the paper's."""

    sentences: int = 32
    tokens: int = 80
    vocabulary: int = 20_001
    embedding: int = 512
    hidden: int = 1024
    latent: int = 32
    samples: int = 12
    matrix: int = MATRIX  # of the square products, four times as wide on a GPU

    @property
    def words(self) -> int:
        """Predicted tokens of a batch."""
        return self.sentences * (self.tokens - 1)

    @property
    def encoder(self) -> int:
        """Multiply-adds of the encoder's LSTM over a batch."""
        return 4 * self.hidden * (self.embedding + self.hidden) * self.sentences * self.tokens


@dataclass(frozen=True)
class Work:
    """One thing to measure: what it does, its words, and the multiply-adds of its matrix products."""

    name: str
    run: Callable[[], object]
    words: int
    multiply_adds: float
    part_of: str | None = None


class Bench:
    """A model of a size on a device, and the work that is measured of it in one of `PRECISIONS`.

    `fields` are those of its configuration which are not its size.
    """

    def __init__(self, size: Size, device: torch.device, precision: str, **fields: Any):
        torch.manual_seed(0)
        self.size, self.device, self.precision_name = size, device, precision
        config = SeqVAEConfig(
            vocab_size=size.vocabulary, embedding_size=size.embedding, hidden_size=size.hidden,
            latent_size=size.latent, **fields,
        )  # fmt: skip
        self.model = SeqVAEForTextModeling(config).to(device)
        self.model.generation_config.eos_token_id = None  # every sentence is written to its full length
        recipe = TrainingSpec()
        accelerator = Accelerator(cpu=device.type == "cpu")
        self.objective = OBJECTIVES[recipe.objective](self.model, accelerator, recipe.seed)
        self.max_norm = recipe.max_grad_norm
        self.optimizer = OPTIMIZERS[recipe.optimizer](self.model.parameters(), lr=recipe.learning_rate)
        ids = torch.randint(4, size.vocabulary, (size.sentences, size.tokens), device=device)
        self.batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    def precision(self) -> AbstractContextManager[None]:
        return computed_in(self.precision_name, self.device)

    def train(self) -> None:
        self.model.train()
        with products_in(self.precision_name, self.device):
            with self.precision():
                loss = self.objective.output(self.model, self.batch, 1.0).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def iw_nll(self) -> torch.Tensor:
        self.model.eval()
        with self.precision():
            return self.model.iw_nll(self.batch["input_ids"], num_samples=self.size.samples)

    @torch.no_grad()
    def encode(self) -> None:
        self.model.eval()
        with self.precision():
            self.model.encode(self.batch["input_ids"])

    def sample(self) -> None:
        self.model.eval()
        with self.precision():
            self.model.sample(self.size.sentences, max_length=self.size.tokens)

    def vocabulary(self, gradients: bool) -> Callable[[], None]:
        """The vocabulary layer and its cross-entropy alone, for the words of a batch."""
        states = torch.randn(self.size.words, self.size.hidden, device=self.device, requires_grad=gradients)
        targets = self.batch["input_ids"][:, 1:].flatten()

        def run() -> None:
            with self.precision(), torch.set_grad_enabled(gradients):
                nll = linear_nll(states, self.model.lm_head.weight, targets)
            if gradients:
                with products_in(self.precision_name, self.device):
                    nll.sum().backward()
                self.model.zero_grad()

        return run

    def recurrences(self) -> None:
        """Encoder's and decoder's LSTM alone, forward and backward."""
        model, size = self.model.model, self.size
        for layer in (model.encoder.layers[0], model.decoder.layers[0]):
            shape = (size.sentences, size.tokens, layer.input_size)
            inputs = torch.randn(shape, device=self.device, requires_grad=True)
            with products_in(self.precision_name, self.device):
                with self.precision():
                    states = run_layer(layer, inputs)[0]
                states.sum().backward()
        self.model.zero_grad()

    def recurrence_under_latents(self) -> None:
        """The decoder's LSTM alone, for every sentence under `samples` latents."""
        size, layer = self.size, self.model.model.decoder.layers[0]
        words = torch.randn(size.sentences, size.tokens, size.embedding, device=self.device)
        for _ in range(size.samples // 6):
            latents = torch.randn(6, size.sentences, size.latent, device=self.device)
            zeros = torch.zeros(6 * size.sentences, size.hidden, device=self.device)
            with self.precision():
                states_under_latents(layer, words, latents, (zeros, zeros))

    def works(self) -> list[Work]:
        size = self.size
        tokens, words, drawn = size.sentences * size.tokens, size.words, size.words * size.samples
        gates = 4 * size.hidden
        encoder = size.encoder
        decoder = gates * (size.embedding + size.latent + size.hidden) * tokens
        vocabulary = size.hidden * size.vocabulary
        # Scoring: the words' gates once, the recurrence and the vocabulary for every sample.
        under_latents = gates * (size.embedding * tokens + size.hidden * tokens * size.samples)
        works = [
            Work("train", self.train, words, 3 * (encoder + decoder + vocabulary * words)),
            Work("vocabulary layer", self.vocabulary(True), words, 3 * vocabulary * words, "train"),
            Work("recurrences", self.recurrences, words, 3 * (encoder + decoder), "train"),
            Work("iw_nll", self.iw_nll, drawn, encoder + under_latents + vocabulary * drawn),
            Work("vocabulary layer", self.vocabulary(False), words, vocabulary * words, "iw_nll"),
            Work("encode", self.encode, tokens, encoder),
            Work("sample", self.sample, words, decoder + vocabulary * words),
        ]
        if self.device.type == "cpu":
            works.insert(5, Work("recurrence", self.recurrence_under_latents, drawn, under_latents, "iw_nll"))
        return works

    def pretraining(self) -> list[Work]:
        """A training step of a model whose decoder is `unigram`."""
        size = self.size
        products = 3 * (size.encoder + size.latent * size.vocabulary * size.sentences)
        return [Work("train, unigram", self.train, size.words, products)]


def measure(bench: Bench, works: Sequence[Work], repeats: int, bar: tqdm) -> Iterator[dict[str, Any]]:
    """A record for each work, with the machine's rates before and after it."""
    name = bench.precision_name
    for work in works:
        bar.set_description(f"{name} {work.name}")
        before = _rates(bench.device, bench.size.matrix)
        reset_peak(bench.device)
        taken = median_seconds(work.run, bench.device, repeats)
        peak = peak_megabytes(bench.device)
        after = _rates(bench.device, bench.size.matrix)
        rates = {key: (before[key] + after[key]) / 2 for key in before}
        limit = 2 * work.multiply_adds / (rates["limit_" + name] * 1e9)
        record = {
            "work": work.name,
            "part_of": work.part_of,
            "precision": name,
            "sentences": bench.size.sentences,
            "seconds": taken,
            "words_per_second": work.words / taken,
            "share_of_limit": limit / taken,
            "peak_mb": peak,
            **rates,
        }
        if work.name in REFERENCE_WORDS and bench.device.type == "cpu":
            expected = REFERENCE_WORDS[work.name] * rates["float32"] / REFERENCE_RATE
            record["multiple_of_reference"] = record["words_per_second"] / expected
        bar.update()
        yield record


def _rates(device: torch.device, size: int) -> dict[str, float]:
    """GFLOP/s of large products: as torch does them by default, and at most, in either precision."""
    default = matmul_rate(device, torch.float32, size=size)
    rates = {"float32": default}
    for name, dtype in PRECISIONS.items():
        if name != "tf32" or device.type == "cuda":
            with computed_in(name, device):
                rates[f"limit_{name}"] = matmul_rate(device, dtype, size=size)
    return rates


def bf16_difference(size: Size, device: torch.device) -> float:
    """|NLL in bfloat16 - NLL in float32|, the largest of a batch's sentences, same weights and draws, in nats."""
    values = []
    for precision in ("float32", "bfloat16"):
        bench = Bench(size, device, precision)
        torch.manual_seed(1)
        values.append(bench.iw_nll())
    return float((values[0] - values[1]).abs().max())


HEADER = (
    f"{'work':<22}{'precision':<11}{'B':>5}{'seconds':>10}{'words/s':>11}{'of limit':>10}{'× reference':>13}"
    f"{'peak MB':>9}"
)


def _line(record: dict[str, Any]) -> str:
    name = ("  " if record["part_of"] else "") + record["work"]
    multiple = record.get("multiple_of_reference")
    return (
        f"{name:<22}{record['precision']:<11}{record['sentences']:>5}{record['seconds']:>10.3f}"
        f"{record['words_per_second']:>11,.0f}{record['share_of_limit']:>10.0%}"
        f"{'' if multiple is None else f'{multiple:.2f}':>13}{record['peak_mb']:>9,.0f}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32", "bfloat16"])
    parser.add_argument("--sentences", nargs="+", type=int, default=[32], help="batch sizes, one after the other")
    parser.add_argument("--tokens", type=int, default=80, help="of each sentence, <s> and </s> included")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=12, help="of z in iw_nll, a multiple of 6")
    parser.add_argument("--repeats", type=int, default=5, help="the median of so many is taken")
    parser.add_argument("--threads", type=int, help="of the CPU; torch's own choice by default")
    parser.add_argument("--output", type=Path, help="write the records there, as JSON")
    given = parser.parse_args()
    if given.samples < 6 or given.samples % 6:
        parser.error(f"--samples must be a multiple of 6, got {given.samples}")
    if "tf32" in given.precision and not given.device.startswith("cuda"):
        parser.error(f"--precision tf32 is a precision of GPUs, and the device is {given.device}")
    return given


def _main() -> None:
    given = _arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    prepare_process()
    device = torch.device(given.device)
    sizes = [Size(count, given.tokens, hidden=given.hidden, samples=given.samples) for count in given.sentences]
    records = []
    count = 9 if device.type == "cpu" else 8
    print(HEADER)
    with tqdm(total=count * len(sizes) * len(given.precision), leave=False, disable=not sys.stderr.isatty()) as bar:
        for size in sizes:
            for name in given.precision:
                for decoder, works in (("lstm", Bench.works), ("unigram", Bench.pretraining)):
                    bench = Bench(size, device, name, decoder=decoder)  # one at a time, for the memory that it takes
                    for record in measure(bench, works(bench), given.repeats, bar):
                        tqdm.write(_line(record))
                        records.append(record)
    report = {"machine": asdict(Machine.of(device)), "size": asdict(sizes[0]), "records": records}
    if {"float32", "bfloat16"} <= set(given.precision):
        report["bf16_nll_difference"] = bf16_difference(sizes[0], device)
        print(f"largest difference of a sentence's NLL from float32's: {report['bf16_nll_difference']:.4f} nats")
    if given.output:
        write_report(given.output, report)


if __name__ == "__main__":
    _main()
