"""Trained encoders that a target looks at, beyond what `seqvae evaluate` measures of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..data.corpora import Corpus, load_corpus
from ..text import SeqVAE
from ..training.recipe import Recipe
from ..training.run import load_best
from ..training.run_directory import RECIPE
from .published import rows_of
from .request import Request
from .steps import Measurement, Step, Training


def encoder_runs(request: Request, target: str, *overrides: str) -> list[list[Training]]:
    """The runs of every seed of each method that is asked for, or else of the target's own methods.

    Raises ValueError for a method without a latent, and what `Request.trainings` raises.
    """
    runs = [request.trainings(method, *overrides) for method in request.methods_or(rows_of(target))]
    for recipe in (seeds[0].recipe for seeds in runs):
        if recipe.model.get("latent_size") == 0:
            raise ValueError(f"--methods {recipe.method}: {recipe.title} has no latent; leave it out")
    return runs


def seed_by_seed(measurements: Sequence[Sequence[Step]]) -> list[Step]:
    """The steps of all rows' first seed, then of their second..."""
    return [step for steps in zip(*measurements, strict=True) for step in steps]


def findings(measurements: Sequence[Measurement], output_dir: Path) -> list[dict[str, Any]]:
    """What was found, of those measurements that have been made."""
    return [found for found in (one.read(output_dir) for one in measurements) if found is not None]


def best_encoder(run: Path) -> SeqVAE:
    """The best model of a run, on the device that is there."""
    return load_best(str(run), Accelerator().device)


def corpus_of_run(run: Path, data_dir: Path | None, test_limit: int | None = None) -> Corpus:
    """The texts that a run was trained on, and those to test it on."""
    recipe = Recipe.load(run / RECIPE)
    limits = recipe.limits | ({} if test_limit is None else {"test": test_limit})
    return load_corpus(recipe.corpus, data_dir=data_dir or recipe.data_dir, limits=limits)
