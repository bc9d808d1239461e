"""What test_processes.py has two processes do, and does itself with one: `torchrun worker.py TINY OUT`."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.evaluation.evaluate import Evaluator, Measurements, evaluate
from modeling_seqvae.training import run
from modeling_seqvae.training.recipe import resolve
from modeling_seqvae.training.run import read_corpus
from modeling_seqvae.training.trainer import Interrupted, SeqVAETrainer

PLATEAU = [
    "training.epochs=5", "training.plateau_from=1", "training.plateau_patience=1", "training.learning_rate=1",
]  # fmt: skip
"""Some epochs, and a halving as soon as one is no better."""
SHORT = ["training.epochs=2", "training.anneal_epochs=1"]
METHODS = ("aggressive", "wae_rnf", "ivae", "free_bits", "minimum_rate", "sa_vae")
"""With state of their own, or what is of a whole batch, beside the model's; or a backward pass of its own."""
STAGES = [*SHORT, "pretraining.training.epochs=2"]
NOISELESS = ["model.embedding_dropout=0", "model.output_dropout=0"]
COUNTS = (1, 2, 33, 70)
"""Sentences to evaluate on, in batches of 16: fewer than processes, and odd numbers of batches."""


def make(tiny: Path, directory: Path, *overrides: str, method: str = "max_pool") -> SeqVAETrainer:
    """A trainer on the tiny corpus, on as many processes as there are."""
    recipe = resolve(method, str(tiny / "corpus.yaml"), str(tiny / "preset.yaml"), overrides)
    corpus, tokenizer = read_corpus(recipe, None)
    recipe = recipe.with_texts(corpus.splits)
    set_seed(recipe.training.seed)
    model = SeqVAEForTextModeling(recipe.config(tokenizer))
    splits = corpus.splits
    return SeqVAETrainer(
        model,
        tokenizer,
        recipe,
        splits["train"],
        splits["validation"],
        directory,
        Accelerator(cpu=True),
        progress=False,
    )


@contextmanager
def noise_of_the_sentence(trainer: SeqVAETrainer) -> Iterator[None]:
    """In training, the noise of z is a function of the sentence, whatever its batch or process."""
    objective = trainer.objective.output
    seeds: list[int] = []

    def noting(model: Callable, batch: dict[str, torch.Tensor], kl_weight: float) -> Any:
        places = torch.arange(1, batch["input_ids"].shape[1] + 1)
        seeds[:] = (batch["input_ids"] * batch["attention_mask"] * places).sum(1).tolist()
        return objective(model, batch, kl_weight)

    def given(like: torch.Tensor, generator: Any) -> torch.Tensor:
        own = generator or [torch.Generator().manual_seed(seed) for seed in seeds]  # given by an evaluation only
        return torch.stack([torch.randn(like.shape[1], generator=one) for one in own])

    trainer.objective.output = noting
    with patch("modeling_seqvae.noise._one_draw", given):
        yield


def evaluations(count: int) -> dict[str, Any]:
    """Every figure of a model in double precision, and every measurement of every sentence."""
    random = np.random.default_rng(0)
    ids = [[1, *random.integers(3, 20, length).tolist(), 2] for length in random.integers(0, 9, count)]
    dataset = Dataset.from_dict({"input_ids": ids, "length": [len(row) for row in ids], "index": list(range(count))})
    torch.manual_seed(0)
    config = SeqVAEConfig(vocab_size=20, embedding_size=6, hidden_size=8, latent_size=3, initializer_range=0.6)
    model = SeqVAEForTextModeling(config).double()
    evaluator = Evaluator(model, dataset, 3, 16, accelerator=Accelerator(cpu=True), progress=False)
    measured = evaluator.measure()
    names = [field.name for field in fields(Measurements) if field.name != "dispersion"]
    columns = {name: getattr(measured, name).tolist() for name in names}
    return evaluate(evaluator, num_samples=7, nll_sentences=max(1, count - 5)) | columns


def main(tiny: Path, out: Path) -> None:
    """All that needs a second process, one after the other."""
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    rank = accelerator.process_index
    make(tiny, out / "dropout", *PLATEAU).train()
    make(tiny, out / "alone-then-together", *PLATEAU, "training.accumulation_steps=1").train(resume=True)
    given = make(tiny, out / "given noise", *PLATEAU, *NOISELESS)
    with noise_of_the_sentence(given):
        given.train()
    normalised = make(tiny, out / "normalised", *SHORT, *NOISELESS, method="bn_vae")
    with noise_of_the_sentence(normalised):
        normalised.train()
    make(tiny, out / "language model", *PLATEAU, *NOISELESS, "training.accumulation_steps=2", method="lstm_lm").train()
    staged = resolve("unigram_pretraining", str(tiny / "corpus.yaml"), str(tiny / "preset.yaml"), STAGES)
    run.train(staged, out / "stages", accelerator=Accelerator(cpu=True), progress=False)
    with patch("modeling_seqvae.training.schemes.MOST_INNER_UPDATES", 16):
        for method in METHODS:
            make(tiny, out / method, *SHORT, method=method).train()

    interrupted = make(tiny, out / "together-then-alone", *PLATEAU)
    output, steps = interrupted.objective.output, []

    def signalling(*arguments: Any) -> Any:
        steps.append(1)
        if rank == 1 and len(steps) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return output(*arguments)

    interrupted.objective.output = signalling
    try:
        interrupted.train()
    except Interrupted as ending:
        (out / f"interrupted-{rank}.json").write_text(json.dumps([ending.code, len(steps)]))
    (out / f"evaluations-{rank}.json").write_text(json.dumps([evaluations(count) for count in COUNTS]))
    accelerator.wait_for_everyone()
    time.sleep(0.5)  # torch's gloo threads give tensors back, for which they need what destroying the group would hold
    accelerator.end_training()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
