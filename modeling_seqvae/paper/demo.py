"""The paper's claim on the embedded corpus, in minutes on a CPU: does the posterior collapse, and does pooling help?

Whatever it finds is what it prints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from ..data.batching import tokenise
from ..data.demo import SIZES, SPLITS, build, true_nll
from ..evaluation.evaluate import Evaluator, nll_figures, row
from ..evaluation.probe import Probe, probe
from ..evaluation.table import how_likelihoods, table
from ..evaluation.verdict import collapsed, compare
from ..text import SeqVAE
from ..training.history import require_history
from ..training.json_files import write_json
from ..training.recipe import Recipe, resolve
from ..training.report import quiet_libraries
from .figures import figure3, require_matplotlib
from .processes import failures, run_steps
from .progress import Bars, note
from .work import Training

METHODS = ("seqvae", "max_pool")
NLL_SENTENCES = 300
NLL_SAMPLES = 500
PROBE_SENTENCES = 5_000
TRAINING_SECONDS = 120.0
"""Expected of each model, until its first epoch tells better."""
COLUMNS = ("title", "nll", "nll_se", "above_truth", "bound", "rec", "kl", "mi", "au", "cosine", "seconds")


@dataclass(frozen=True)
class Outcome:
    """A trained model of the demonstration and what was measured of it on the test set."""

    title: str
    vae: SeqVAE
    history: list[dict[str, Any]]
    report: dict[str, Any]
    bounds: np.ndarray  # (N,), one-draw -ELBO of each test sentence, nats


def run_demo(
    output_dir: Path,
    seed: int = 0,
    language_model: bool = False,
    overrides: Sequence[str] = (),
    limits: Mapping[str, int] | None = None,
) -> None:
    """Train, measure and show both models (and an LSTM-LM); a demonstration that was interrupted goes on.

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
    _train(recipes, output_dir)
    corpus = build(sizes=[min(size, limits.get(split, size)) for split, size in zip(SPLITS, SIZES, strict=True)])
    vocabulary = SeqVAE.from_pretrained(output_dir / methods[0] / "best").tokenizer.get_vocab()  # of all of them
    truth = true_nll(corpus["test"]["text"], vocabulary)
    outcomes = [_outcome(recipe, output_dir / recipe.method, corpus["test"], truth) for recipe in recipes]
    rows = [{key: outcome.report[key] for key in COLUMNS} for outcome in outcomes]
    print(table(rows, caption=_caption(outcomes, truth)))
    pooled = outcomes[1]
    for line in (*_verdict(outcomes), *_probes(outcomes[:2], corpus), *_texts(pooled, corpus["test"]["text"])):
        print(line)
    _write(output_dir, outcomes)


def _train(recipes: Sequence[Recipe], output_dir: Path) -> None:
    """All that are not yet trained, at once: small models fill a CPU best side by side, with a thread each."""
    trainings = [Training(recipe, Path(recipe.method)) for recipe in recipes]
    left = [training for training in trainings if not training.done(output_dir)]
    if not left:
        return
    names = " and ".join(training.recipe.title for training in left)
    note(f"Training {names} on the embedded corpus, side by side; interrupt and repeat the command as you like")
    bars = Bars(left, {training.key: TRAINING_SECONDS for training in left}, output_dir, len(left))
    failed = run_steps(left, output_dir, len(left), bars, threads=1)
    if failed:
        raise RuntimeError(f"training failed; the same command tries again:\n{failures(left, failed, output_dir)}")


def _outcome(recipe: Recipe, directory: Path, test: Dataset, truth: np.ndarray) -> Outcome:
    vae = SeqVAE.from_pretrained(directory / "best")
    history = require_history(directory)
    with quiet_libraries():
        sentences = tokenise(test, vae.tokenizer)
    evaluator = Evaluator(vae.model, sentences, recipe.training.seed)
    measured = evaluator.measure()
    nll = evaluator.nll(NLL_SAMPLES, NLL_SENTENCES)
    report = {"title": recipe.title, **row(measured, nll, NLL_SAMPLES, evaluator.seed)}
    bounds = (measured.reconstruction.double() + measured.kl.double()).numpy()
    above = nll_figures(bounds - truth, nll - truth[: len(nll)])
    report |= {"above_truth": above["nll"], "above_truth_se": above["nll_se"], "seconds": history[-1]["seconds"]}
    return Outcome(recipe.title, vae, history, report, bounds)


def _caption(outcomes: Sequence[Outcome], truth: np.ndarray) -> str:
    how = how_likelihoods([outcome.report for outcome in outcomes])
    return (
        f"Nats per sentence, of {len(truth):,} test sentences; NLL {how}; "
        f"'above truth' is NLL less the corpus's own, {truth.mean():.2f}. Definitions: docs/metrics.md"
    )


def _verdict(outcomes: Sequence[Outcome]) -> list[str]:
    lines = ["", "Verdict"]
    for outcome in outcomes[:2]:
        state = "collapsed" if collapsed(outcome.report) else "not collapsed"
        kl, active, size = outcome.report["kl"], outcome.report["au"], outcome.vae.model.config.latent_size
        lines.append(f"  {outcome.title}: {state} (KL {kl:.3f} nats, {active} of {size} units active)")
    plain, pooled = outcomes[:2]
    lines.append("  " + compare(pooled.title, pooled.bounds, plain.title, plain.bounds))
    return [*lines, "  (the error is over sentences, of one seed; docs/results.md compares five seeds)"]


def _probes(outcomes: Sequence[Outcome], corpus: DatasetDict) -> list[str]:
    train_set = corpus["train"].select(range(min(PROBE_SENTENCES, len(corpus["train"]))))
    lines = ["", f"Labels read from [mean ; variance] by logistic regression on {len(train_set):,} sentences"]
    for outcome in outcomes:
        features = [outcome.vae.encode(rows["text"]) for rows in (train_set, corpus["test"])]
        for label in ("stars", "topic"):
            found = probe(features[0], train_set[label], features[1], corpus["test"][label])
            outcome.report[f"probe_{label}"] = found.accuracy
            lines.append(f"  {outcome.title}: {_accuracy(label, found)}")
    return lines


def _accuracy(label: str, found: Probe) -> str:
    return f"{label} {found.accuracy:.1%} correct (majority class: {found.majority:.1%}, {found.classes} classes)"


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
    figure3(
        {outcome.title: outcome.history for outcome in outcomes[:2]}, picture, "Validation set of the embedded corpus"
    )
    print(f"\nKL and cosine over training: {picture}\nAll figures: {output_dir / 'results.json'}")
    print(f"Use a model: SeqVAE.from_pretrained({str(output_dir / 'max_pool' / 'best')!r}).encode([...])")
