"""The paper's claim, and what goes beyond it, on the demo corpus in minutes on a CPU: what does the latent hold?

Whatever it finds is what it prints. Two models of one seed each differ by chance as well: a difference counts where it
is larger than seeds make.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from ..data.batching import tokenise
from ..data.caching import quiet_libraries
from ..data.demo import first, true_nll
from ..data.files import write_json
from ..data.subwords import WORDS
from ..evaluation.drawing import require_matplotlib
from ..evaluation.evaluate import Evaluator, nll_figures, row
from ..evaluation.probe import probe
from ..evaluation.table import COLUMNS as TABLE_COLUMNS
from ..evaluation.table import compare, how_likelihoods, state_of, table
from ..text import SeqVAE
from ..training.checkpoint import load_best
from ..training.recipe import Recipe, resolve
from ..training.run_directory import require_history
from .jobs import failures, note, run_steps
from .plots import figure3
from .request import paper_settings
from .steps import Training

METHODS = ("seqvae", "max_pool", "unigram_pretraining")
NLL_SENTENCES = 300
NLL_SAMPLES = 500
PROBE_SENTENCES = 5_000
FIGURES = ("title", "nll", "above_truth", "bound", "rec", "kl", "mi", "au")
PROBED = {"stars": ("stars", "{:.1%}"), "topic": ("topic", "{:.1%}")}
COLUMNS = {name: TABLE_COLUMNS[name] for name in FIGURES} | PROBED | {"seconds": TABLE_COLUMNS["seconds"]}


@dataclass(frozen=True)
class Outcome:
    """A trained model of the demonstration and what was measured of it on the test set."""

    title: str
    vae: SeqVAE
    history: list[dict[str, Any]]
    report: dict[str, Any]


def run_demo(
    output_dir: Path,
    seed: int = 0,
    language_model: bool = False,
    overrides: Sequence[str] = (),
    limits: Mapping[str, int] | None = None,
) -> None:
    """Train, measure and show the models (and an LSTM-LM); a demonstration that was interrupted goes on.

    `overrides` change the recipes of all alike; `limits` keep the first sentences of a split. Raises
    ModuleNotFoundError without matplotlib, RuntimeError that names a training which failed, and what `resolve` raises.
    """
    require_matplotlib()
    methods = METHODS + (("lstm_lm",) if language_model else ())
    overrides = [f"training.seed={seed}", *overrides]
    limits = limits or {}
    if min([2, *limits.values()]) < 2:
        raise ValueError("the demonstration needs at least 2 sentences of each split")
    recipes = [resolve(method, "demo", overrides=overrides, limits=limits) for method in methods]
    if any(recipe.corpus.tokenizer != WORDS for recipe in recipes):
        raise ValueError("corpus.tokenizer: the demonstration compares with the grammar's own likelihood, of words")
    _train(recipes, output_dir)
    corpus = first(limits)
    vocabulary = SeqVAE.from_pretrained(output_dir / methods[0] / "best").tokenizer.get_vocab()  # of all of them
    truth = true_nll(corpus["test"]["text"], vocabulary)
    outcomes = [_outcome(recipe, output_dir / recipe.method, corpus, truth) for recipe in recipes]
    print(table([outcome.report for outcome in outcomes], _caption(outcomes, truth, corpus), COLUMNS))
    informative = outcomes[len(METHODS) - 1]
    for line in (*_verdict(outcomes[: len(METHODS)]), *_texts(informative, corpus["test"]["text"])):
        print(line)
    _write(output_dir, outcomes)


def _train(recipes: Sequence[Recipe], output_dir: Path) -> None:
    """All that are not yet trained, at once: small models fill a CPU best side by side, with a thread each."""
    trainings = [Training(recipe, Path(recipe.method)) for recipe in recipes]
    left = [training for training in trainings if not training.done(output_dir)]
    if not left:
        return
    names = " and ".join(training.recipe.title for training in left)
    note(f"Training {names} on the demo corpus, side by side; interrupt and repeat the command as you like")
    failed = run_steps(left, output_dir, len(left), threads=1)
    if failed:
        told = failures(left, failed, output_dir, len(left))
        raise RuntimeError(f"training failed; the same command tries again:\n{told}")


def _outcome(recipe: Recipe, directory: Path, corpus: DatasetDict, truth: np.ndarray) -> Outcome:
    vae = load_best(str(directory))
    history = require_history(directory)
    with quiet_libraries():
        sentences = tokenise(corpus["test"], vae.tokenizer)
    evaluator = Evaluator(vae.model, sentences, recipe.training.seed, precision="no")
    measured = evaluator.measure()
    nll = evaluator.nll(NLL_SAMPLES, NLL_SENTENCES)
    report = {"title": recipe.title, **row(measured, nll, NLL_SAMPLES, evaluator.seed)}
    bounds = (measured.reconstruction.double() + measured.kl.double()).numpy()
    above = nll_figures(bounds - truth, nll - truth[: len(nll)])
    report |= {"above_truth": above["nll"], "above_truth_se": above["nll_se"], "seconds": history[-1]["seconds"]}
    return Outcome(recipe.title, vae, history, report | _probed(vae, corpus))


def _probed(vae: SeqVAE, corpus: DatasetDict) -> dict[str, float]:
    """The accuracies with which labels are read from the posterior means; none for a language model."""
    if vae.model.config.latent_size == 0:
        return {}
    train_set, test = _probe_set(corpus), corpus["test"]
    features = [vae.encode(rows["text"], "mean") for rows in (train_set, test)]
    return {label: probe(features[0], train_set[label], features[1], test[label]).accuracy for label in PROBED}


def _probe_set(corpus: DatasetDict) -> Dataset:
    return corpus["train"].select(range(min(PROBE_SENTENCES, len(corpus["train"]))))


def _caption(outcomes: Sequence[Outcome], truth: np.ndarray, corpus: DatasetDict) -> str:
    how = how_likelihoods([outcome.report for outcome in outcomes])
    return (
        f"Nats per sentence, of {len(truth):,} test sentences; NLL {how}; "
        f"'above truth' is NLL minus the corpus's own, {truth.mean():.2f}; stars and topic are read from the posterior "
        f"means by logistic regression on {len(_probe_set(corpus)):,} sentences. Definitions: docs/metrics.md"
    )


def _verdict(outcomes: Sequence[Outcome]) -> list[str]:
    lines = ["", "Verdict"]
    for outcome in outcomes:
        kl, active, size = outcome.report["kl"], outcome.report["au"], outcome.vae.model.config.latent_size
        state = state_of(outcome.report)
        lines.append(f"  {outcome.title}: {state} (KL {kl:.3f} nats, {active} of {size} units active)")
    spread = paper_settings("demo")["nll_spread"]
    pairs = zip(outcomes[1:], outcomes, strict=False)
    figures = [(here.title, here.report["nll"], there.title, there.report["nll"]) for here, there in pairs]
    lines += [f"  {compare(*pair, spread)}" for pair in figures]
    return [*lines, f"  (a model's NLL varies by {spread:.2f} with the seed: docs/results.md, five seeds of each)"]


def _texts(outcome: Outcome, sentences: Sequence[str]) -> list[str]:
    start, end = sentences[0], sentences[1]
    return [
        "",
        f"Samples from {outcome.title}",
        *(f"  {sentence}" for sentence in outcome.vae.sample(5, seed=0)),
        "",
        "A reconstruction",
        f"  {start}\n  -> {outcome.vae.reconstruct(start)}",
        "",
        "An interpolation",
        *(f"  {sentence}" for sentence in outcome.vae.interpolate(start, end, steps=5)),
    ]


def _write(output_dir: Path, outcomes: Sequence[Outcome]) -> None:
    picture = output_dir / "figure3.png"
    write_json(output_dir / "results.json", [outcome.report for outcome in outcomes])
    shown = {outcome.title: outcome.history for outcome in outcomes[: len(METHODS)]}
    figure3(shown, picture, "Validation set of the demo corpus")
    print(f"\nKL and cosine over training: {picture}\nAll figures: {output_dir / 'results.json'}")
    print(f"Use a model: SeqVAE.from_pretrained({str(output_dir / METHODS[-1])!r}).encode([...])")
