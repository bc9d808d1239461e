"""Whether a GPU computes what a CPU does: the parity fixture, forward, backward, `iw_nll`, `generate` and resume."""

import os
import random
import runpy
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import Dataset
from measuring import Machine, computed_in, products_in

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.data.vocabulary import corpus_tokenizer
from modeling_seqvae.noise import sentence_generator
from modeling_seqvae.training.monitor import Interrupted
from modeling_seqvae.training.recipe import resolve
from modeling_seqvae.training.run import fresh_model
from modeling_seqvae.training.trainer import SeqVAETrainer

from .driver import Settings
from .findings import Findings
from .packing import ROOT

Finding = dict[str, Any]
REFERENCE = ROOT / "tests" / "fixtures" / "reference.py"
TOLERANCES = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 5e-2}
"""Largest relative difference from the CPU's float32 that is no fault, by precision."""
DRAWS = 10
WORDS = ["the", "food", "staff", "room", "was", "is", "very", "good", "bad", "warm", "cold", "new", "and", ",", "."]


def main(settings: Settings, output_dir: Path, seconds: float) -> None:
    """Findings of every check, `ok` or not, written check by check."""
    device = torch.device(settings.device)
    found = Findings(output_dir / "correctness.json", machine=asdict(Machine.of(device)))
    for name, check in CHECKS.items():
        found.attempt(name, lambda check=check: list(check(device)))


def precisions(device: torch.device) -> list[str]:
    """Those of `PRECISIONS` that a device has."""
    return [name for name in TOLERANCES if name != "tf32" or device.type == "cuda"]


def parity(device: torch.device) -> Iterator[Finding]:
    """With a public implementation's weights, its numbers."""
    fixture = runpy.run_path(str(REFERENCE))
    reference = fixture["reference_numbers"]()
    expected = {name: reference[name] for name in ("posterior_mean", "kl", "iw_nll")}
    for dtype, tolerance in fixture["TOLERANCES"].items():
        model = fixture["reference_model"](reference, dtype).to(device)
        with products_in("float32", device):
            ids = reference["input_ids"].to(device)
            posterior = model.encode(ids)
            latents = reference["latents"].transpose(0, 1).to(device, dtype)
            ours = {"posterior_mean": posterior.mean, "kl": posterior.kl()}
            ours["iw_nll"] = model.iw_nll(ids, latents=latents)
        for name, value in ours.items():
            off = float((value.detach().cpu().double() - expected[name]).abs().max())
            yield _finding(name, str(dtype).removeprefix("torch."), off, tolerance)


def forward_and_backward(device: torch.device) -> Iterator[Finding]:
    """Losses of sentences, and the gradient of every weight, without dropout and at the posterior's mean."""
    here, ids, mask = _model(), *_sentences()

    def take(model: SeqVAEForTextModeling, precision: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        words, seen = ids.to(model.device), mask.to(model.device)
        with products_in(precision, model.device):
            with computed_in(precision, model.device):
                out = model(words, seen, labels=words, kl_weight=0.5, sample_posterior=False, return_logits=False)
            out.loss.backward()
        gradients = {name: weight.grad.detach().cpu() for name, weight in model.named_parameters()}
        return {"reconstruction": out.reconstruction_loss.detach().cpu(), "kl": out.kl.detach().cpu()}, gradients

    values, gradients = take(here, "float32")
    for precision in precisions(device):
        others, of_weights = take(_model().to(device), precision)
        for name, value in others.items():
            yield _relative(name, precision, value, values[name])
        off = {name: _distance(gradient, gradients[name]) for name, gradient in of_weights.items()}
        worst = max(off, key=lambda name: off[name])
        finding = _finding("gradient", precision, off[worst], 5 * TOLERANCES[precision])
        yield finding | {"weight": worst}


def iw_nll(device: torch.device) -> Iterator[Finding]:
    """Importance-weighted NLLs of sentences, whose draws are the same on every device."""
    here, ids, mask = _model(), *_sentences()

    def take(model: SeqVAEForTextModeling, precision: str) -> torch.Tensor:
        generators = [sentence_generator(0, number) for number in range(len(ids))]
        with computed_in(precision, model.device):
            words, seen = ids.to(model.device), mask.to(model.device)
            return model.iw_nll(words, seen, num_samples=DRAWS, generator=generators).cpu()

    expected = take(here, "float32")
    for precision in precisions(device):
        yield _relative("iw_nll", precision, take(deepcopy(here).to(device), precision), expected)


def generate(device: torch.device) -> Iterator[Finding]:
    """The share of words that differ from the CPU's, greedy and with beams; samples that a seed repeats."""
    here, ids, mask = _model(), *_sentences()
    there = deepcopy(here).to(device)
    for precision in precisions(device):
        for beams in (1, 3):
            told: dict[str, Any] = {"num_beams": beams, "max_length": ids.shape[1], "min_length": ids.shape[1]}
            expected = here.reconstruct(ids, mask, **told)
            with computed_in(precision, device):
                written = there.reconstruct(ids.to(device), mask.to(device), **told).cpu()
            differ = float((written != expected).float().mean())
            # Where two words are nearly as likely, rounding decides, and what follows is another text.
            yield _finding(f"words, {beams} beam(s)", precision, differ, {"float32": 0.02}.get(precision, 1.0))
        with computed_in(precision, device):
            drawn = [there.sample(4, generator=torch.Generator().manual_seed(1), max_length=12) for _ in range(2)]
        same = drawn[0].shape == drawn[1].shape and bool((drawn[0] == drawn[1]).all())
        yield _finding("samples of one seed", precision, float(not same), 0.0)


def resume(device: torch.device) -> Iterator[Finding]:
    """The weights of a run that was interrupted and resumed, against one that was not: equal bit for bit."""
    with deterministic(), tempfile.TemporaryDirectory() as folder:
        for precision in ("no", "bf16"):
            whole = _trained(Path(folder) / precision / "whole", precision)
            again = _trained(Path(folder) / precision / "again", precision)
            resumed = _trained(Path(folder) / precision / "resumed", precision, interrupt_at=5)
            name = {"no": "float32", "bf16": "bfloat16"}[precision]
            yield _finding("two runs of one seed", name, _apart(whole, again), 0.0)
            yield _finding("resumed", name, _apart(whole, resumed), 0.0)


CHECKS: dict[str, Callable[[torch.device], Iterator[Finding]]] = {
    "parity": parity,
    "forward_and_backward": forward_and_backward,
    "iw_nll": iw_nll,
    "generate": generate,
    "resume": resume,
}


@contextmanager
def deterministic() -> Iterator[None]:
    """Inside, torch takes operations whose sums have one order, where it has them."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _trained(folder: Path, precision: str, interrupt_at: int = 0) -> dict[str, torch.Tensor]:
    """The weights at the end of a run of ten updates, stopped and resumed at an update if asked."""
    told = [f"training.precision={precision}", "training.epochs=1"]
    recipe = resolve("max_pool", None, "tiny", told)
    train, validation = _texts(320, 0), _texts(32, 1)
    tokenizer = corpus_tokenizer(recipe.corpus, train)

    def trainer() -> SeqVAETrainer:
        AcceleratorState._reset_state(reset_partial_state=True)  # a precision is the whole process's
        accelerator, model = Accelerator(mixed_precision=precision), fresh_model(recipe, tokenizer, train)
        return SeqVAETrainer(model, tokenizer, recipe, train, validation, folder, accelerator, progress=False)

    begun = trainer()
    if interrupt_at:
        output, calls = begun.objective.output, iter(range(1, 1 << 30))

        def interrupting(*arguments: Any) -> Any:
            if next(calls) == interrupt_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return output(*arguments)

        begun.objective.output = interrupting  # type: ignore[method-assign]
        try:
            begun.train()
        except Interrupted:
            begun = trainer()
        else:
            raise RuntimeError("a run that SIGTERM asked to stop went on")
    begun.train(resume=bool(interrupt_at))
    return {name: value.detach().cpu() for name, value in begun.model.state_dict().items()}


def _texts(count: int, seed: int) -> Dataset:
    source = random.Random(seed)
    return Dataset.from_dict({"text": [" ".join(source.choices(WORDS, k=source.randint(3, 12))) for _ in range(count)]})


def _model() -> SeqVAEForTextModeling:
    """A model of some size without dropout, whose weights are large enough that every word makes a difference."""
    torch.manual_seed(0)
    config = SeqVAEConfig(
        vocab_size=2000, embedding_size=64, hidden_size=128, latent_size=16, pooling_mode="max", embedding_dropout=0.0,
        output_dropout=0.0, initializer_range=0.15, embedding_initializer_range=0.5,
    )  # fmt: skip
    return SeqVAEForTextModeling(config).eval()


def _sentences() -> tuple[torch.Tensor, torch.Tensor]:
    """Sentences of several lengths, padded on the right, and their mask."""
    source = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 2000, (16, 40), generator=source)
    ids[:, 0] = 1
    lengths = torch.randint(5, 41, (16,), generator=source)
    mask = (torch.arange(40) < lengths[:, None]).long()
    return ids.masked_fill(mask == 0, 0), mask


def _finding(what: str, precision: str, difference: float, tolerance: float) -> Finding:
    return {
        "what": what, "precision": precision, "difference": difference, "tolerance": tolerance,
        "ok": difference <= tolerance,
    }  # fmt: skip


def _relative(what: str, precision: str, value: torch.Tensor, expected: torch.Tensor) -> Finding:
    return _finding(what, precision, _distance(value, expected), TOLERANCES[precision])


def _distance(value: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of a difference over that of what was expected."""
    expected = expected.double()
    return float((value.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def _apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((value.double() - other[name].double()).abs().max()) for name, value in one.items())
