"""A small labelled corpus, and runs on it that are never trained: their models are random, their files are a run's."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_seqvae import SeqVAE, SeqVAEForTextModeling
from modeling_seqvae.data.corpus_spec import CorpusSpec, spec_from_path
from modeling_seqvae.reproduce.request import Request
from modeling_seqvae.reproduce.runner import in_order
from modeling_seqvae.reproduce.steps import FINISHED, Step, Training, write_json
from modeling_seqvae.training.recipe import Recipe
from modeling_seqvae.training.run import PRETRAINING, read_corpus
from modeling_seqvae.training.run_directory import HISTORY, RECORD

WORDS = {"good": ["great", "lovely", "warm"], "bad": ["slow", "cold", "bland"], "so-so": ["plain", "usual", "fair"]}
SIZES = {"train": 90, "validation": 24, "test": 30}


@pytest.fixture(scope="session")
def labelled_corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusSpec:
    """Sentences of 4 to 9 words with three labels, which the words tell."""
    folder = tmp_path_factory.mktemp("corpora") / "labelled"
    folder.mkdir()
    for seed, (split, count) in enumerate(SIZES.items()):
        source = random.Random(seed)
        labels = [source.choice(list(WORDS)) for _ in range(count)]
        starts = [source.choice(["the food was", "my bread and", "soup here was"]) for _ in labels]
        ends = [" and ".join(source.choices(WORDS[label], k=source.randint(1, 3))) for label in labels]
        lines = zip(labels, starts, ends, strict=True)
        (folder / f"{split}.txt").write_text("".join(f"{label}\t{start} {end}\n" for label, start, end in lines))
    return spec_from_path(folder, label_column="label")


@pytest.fixture(scope="session")
def request_for(labelled_corpus: CorpusSpec) -> Callable[..., Request]:
    """request_for(**changes): of the smallest sizes, with weights large enough that every word makes a difference."""
    scale = ("model.initializer_range=0.5", "model.embedding_initializer_range=1.0")
    return lambda **changes: Request(**{"corpus": labelled_corpus, "preset": "tiny", "overrides": scale, **changes})


@pytest.fixture(scope="session")
def make_runs() -> Callable[..., None]:
    """make_runs(steps, output_dir): a run with a random model for every training that the steps need."""

    def make(steps: Sequence[Step], output_dir: Path) -> None:
        for step in in_order(steps):
            if isinstance(step, Training) and not step.done(output_dir):
                _make(step, output_dir / step.folder)

    return make


def _make(training: Training, folder: Path) -> None:
    corpus, _ = read_corpus(training.recipe, None)
    _save(training.recipe, folder, training.recipe.training.seed)
    sizes: dict[str, Any] = {name: len(corpus.splits[name]) for name in ("train", "validation")}
    write_json(folder / FINISHED, {"documents": sizes})
    stage = training.recipe.pretraining_recipe()
    if stage:
        _save(stage, folder / PRETRAINING, 100 + training.recipe.training.seed)  # other weights than the run's
        records = [
            dict.fromkeys(RECORD, 0.0) | {"epoch": epoch, "bound": 9 - epoch, "kl": epoch / 2} for epoch in (1, 2)
        ]
        (folder / PRETRAINING / HISTORY).write_text("".join(json.dumps(record) + "\n" for record in records))


def _save(recipe: Recipe, folder: Path, seed: int) -> None:
    _, tokenizer = read_corpus(recipe, None)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = SeqVAEForTextModeling(recipe.config(tokenizer))
    SeqVAE(model, tokenizer).save_pretrained(folder / "best")
    recipe.save(folder / "recipe.yaml")
