import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from modeling_seqvae import SeqVAE
from modeling_seqvae.cli import app
from modeling_seqvae.data.demo import build, true_nll
from modeling_seqvae.reproduce import demonstration as demo
from modeling_seqvae.reproduce.jobs import run_steps
from modeling_seqvae.reproduce.steps import Training
from modeling_seqvae.training.monitor import Interrupted

TINY = [
    *("--limit", "train=200", "--limit", "validation=40", "--limit", "test=40"),
    *("--set", "model.hidden_size=8", "--set", "model.embedding_size=8", "--set", "training.epochs=1"),
]
TITLES = ["SeqVAE", "SeqVAE + MaxPool", "MaxPool + unigram pretraining + KL floor"]
CHECKOUT = Path(__file__).parents[1]


class Demonstration(NamedTuple):
    """A demonstration that was interrupted after its first model, and repeated."""

    folder: Path
    interrupted: Any  # the first command's result
    first_history: bytes  # of the model trained then
    finished: Any  # the second command's result


def run_demo(folder: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["demo", "--output-dir", str(folder), *TINY, *options], env={"COLUMNS": "80"})


def train_one_and_stop(steps: list[Training], output_dir: Path, jobs: int, threads: int) -> None:
    """What `run_steps` does when a signal comes after the first run."""
    run_steps(steps[:1], output_dir, jobs, threads)
    raise Interrupted(130)


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    folder = tmp_path_factory.mktemp("demo") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "run_steps", train_one_and_stop)
        interrupted = run_demo(folder)
    history = (folder / "seqvae" / "history.jsonl").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
        finished = run_demo(folder)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Demonstration(folder, interrupted, history, finished)


def block(printed: str, heading: str) -> list[str]:
    """The indented lines below a heading."""
    lines = printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading)) + 1
    end = next((number for number in range(start, len(lines)) if not lines[number].startswith("  ")), len(lines))
    return lines[start:end]


def test_interrupted_and_repeated_it_goes_on(demonstration: Demonstration) -> None:
    assert demonstration.interrupted.exit_code == 130 and demonstration.interrupted.stdout == ""
    assert demonstration.finished.exit_code == 0, demonstration.finished.stderr
    assert (demonstration.folder / "seqvae" / "history.jsonl").read_bytes() == demonstration.first_history
    assert (demonstration.folder / "max_pool" / "best" / "model.safetensors").is_file()
    assert (demonstration.folder / "unigram_pretraining" / "pretraining" / "best" / "model.safetensors").is_file()


def test_it_prints_and_writes_the_figures_of_both_models(demonstration: Demonstration) -> None:
    printed = demonstration.finished.stdout
    reports = json.loads((demonstration.folder / "results.json").read_text())
    assert [report["title"] for report in reports] == TITLES
    for report in reports:
        (figures,) = re.findall(rf"^ {re.escape(report['title'])} +(\d.*)$", printed, re.MULTILINE)
        expected = [report[key] for key in ("nll", "above_truth", "bound", "rec", "kl")]
        assert [float(figure) for figure in figures.split()[:5]] == pytest.approx(expected, abs=0.006)
        assert all(f"{report[label]:.1%}" in figures for label in ("stars", "topic"))
        assert (report["sentences"], report["nll_sentences"], report["nll_samples"]) == (40, 40, 500)
        assert report["nll"] <= report["bound"] + 3 * report["nll_se"] and report["above_truth"] > 0
        # Of 200 sentences some test words are unknown, one and the same to the model and so to the truth.
        vocabulary = SeqVAE.from_pretrained(demonstration.folder / "seqvae" / "best").tokenizer.get_vocab()
        texts = build(sizes=(1, 1, 40))["test"]["text"]
        truth = true_nll(texts, vocabulary).mean()
        assert truth < true_nll(texts).mean() and report["nll"] - report["above_truth"] == pytest.approx(truth)
    assert "above" in printed and "40 test sentences" in " ".join(printed.split())


def test_it_gives_a_verdict_and_texts(demonstration: Demonstration) -> None:
    printed = demonstration.finished.stdout
    assert len(block(printed, "Verdict")) == 6
    assert len(block(printed, f"Samples from {TITLES[-1]}")) == 5
    sentence, again = block(printed, "A reconstruction")
    assert sentence.split() and again.startswith("  ->")
    assert len(block(printed, "An interpolation")) == 5


def test_it_draws_the_curves_and_keeps_progress_off_standard_output(demonstration: Demonstration) -> None:
    assert (demonstration.folder / "figure3.png").read_bytes().startswith(b"\x89PNG")
    assert "figure3.png" in demonstration.finished.stdout
    done = "SeqVAE + MaxPool, seed 0: done in"
    assert done not in demonstration.finished.stdout and done in demonstration.finished.stderr


def test_the_models_differ_by_their_method_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Training] = []

    def record(steps: list[Training], output_dir: Path, jobs: int, threads: int) -> None:
        assert (jobs, threads) == (4, 1)
        started.extend(steps)
        raise Interrupted(130)

    monkeypatch.setattr(demo, "run_steps", record)
    assert run_demo(tmp_path, "--lm", "--seed", "7").exit_code == 130
    recipes = [step.recipe for step in started]
    assert [recipe.method for recipe in recipes] == ["seqvae", "max_pool", "unigram_pretraining", "lstm_lm"]
    assert all(recipe.training.seed == 7 and recipe.limits["train"] == 200 for recipe in recipes)
    of_methods = {"objective", "objective_options", "kl_schedule", "encoder_rate"}
    shared = [recipe.training.model_dump(exclude=of_methods) for recipe in recipes]
    assert all(training == shared[0] for training in shared)
    assert recipes[0].training == recipes[1].training == recipes[3].training
    own = ("pooling_mode", "latent_size")
    models = [{name: size for name, size in recipe.model.items() if name not in own} for recipe in recipes]
    assert all(model == models[0] for model in models)


def test_a_training_that_fails_is_named_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(steps: list[Training], *unused: Any, threads: int) -> dict[str, str]:
        return {steps[1].key: "the loss is not a number\nmore"}

    monkeypatch.setattr(demo, "run_steps", fail)
    result = run_demo(tmp_path)
    log = tmp_path / "max_pool" / "output.log"
    assert result.exit_code == 1 and f"SeqVAE + MaxPool, seed 0: the loss is not a number (log: {log})" in result.stderr


def outcome(title: str, kl: float, nll: float, mi: float = 0.5) -> demo.Outcome:
    vae: Any = SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(latent_size=16)))
    return demo.Outcome(title, vae, [], {"kl": kl, "au": 3, "mi": mi, "nll": nll})


@pytest.mark.parametrize("better", [0, 1])
def test_the_verdict_follows_the_figures_whichever_model_they_are_of(better: int) -> None:
    titles = ("SeqVAE", "SeqVAE + MaxPool")
    outcomes = [outcome(titles[0], 0.05, 20.0 + 4 * better), outcome(titles[1], 0.9, 24.0 - 4 * better)]
    _, _, plain, pooled, comparison, _ = demo._verdict(outcomes)
    assert "SeqVAE: collapsed" in plain and "SeqVAE + MaxPool: not collapsed" in pooled
    assert comparison.strip().startswith(f"{titles[better]} has a lower NLL than {titles[1 - better]} by 4.00 ±")


def test_a_kl_without_information_is_no_success() -> None:
    outcomes = [outcome("SeqVAE", 0.9, 24.0), outcome("SeqVAE + MaxPool", 6.0, 24.0, mi=0.01)]
    assert "SeqVAE + MaxPool: all but collapsed (KL 6.000 nats" in demo._verdict(outcomes)[3]


def test_without_matplotlib_it_says_so_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run_demo(tmp_path / "new")
    assert result.exit_code == 1 and "pip install matplotlib" in result.stderr
    assert not (tmp_path / "new").exists()
