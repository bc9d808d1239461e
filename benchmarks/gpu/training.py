"""A model of the paper's size, trained until its time is nearly over, and its figures on the test set.

How long the run is follows from what an update takes: the learning rate falls to nothing within the time. SIGTERM ends
a run that takes longer than foreseen, which saves it; the best epoch is then measured all the same.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from measuring import Machine, median_seconds, seconds
from results import keep_run
from throughput import Bench, Size

from modeling_seqvae.data.batching import sentence_lengths, tokenise
from modeling_seqvae.data.columns import texts_of
from modeling_seqvae.data.files import write_json
from modeling_seqvae.evaluation.reading import labels_from_features
from modeling_seqvae.training.callbacks import Callback
from modeling_seqvae.training.checkpoint import evaluate_checkpoint, load_best
from modeling_seqvae.training.evaluations import keep_evaluation
from modeling_seqvae.training.monitor import Interrupted
from modeling_seqvae.training.recipe import Recipe, named_settings, resolve
from modeling_seqvae.training.run import read_corpus, train
from modeling_seqvae.training.trainer import TrainingDiverged

from .driver import Settings
from .findings import Findings

FOR_FIGURES = 0.25
"""Share of the time that is left for the figures on the test set."""
FOR_PRETRAINING = 0.25
"""Share of the training's time that a pretraining may take."""
ATTEMPTS = 3
"""Runs that are begun, each at half the rates of the one before, until one has an epoch that is finite."""
BESIDE = 1.2
"""What an update costs in a run, with its batch, to one of a batch that is there."""
TEXTS = 20
"""Samples and reconstructions that are kept."""
LABELLED = 20_000
"""Training documents, at most, from which labels are learnt."""


def main(settings: Settings, output_dir: Path, seconds: float) -> None:
    """Train, then measure; everything that is found is under `output_dir` as soon as it is."""
    over = time.monotonic() + seconds
    device = torch.device(settings.device)
    recipe = recipe_of(settings)
    corpus, tokenizer = read_corpus(recipe, settings.data_dir)
    tokens = {name: sentence_lengths(tokenise(rows, tokenizer)) for name, rows in corpus.splits.items()}
    told = {name: {"sentences": len(counts), "tokens": int(counts.sum())} for name, counts in tokens.items()}
    machine, name = asdict(Machine.of(device)), kept_name(recipe)
    found = Findings(output_dir / "training.json", machine=machine, kept=name, splits=told)

    def keep(run: Path) -> None:
        keep_run(run, output_dir / name)
        if any((run / "pretraining").glob("history.jsonl")):
            keep_run(run / "pretraining", output_dir / name / "pretraining")

    for attempt in range(ATTEMPTS):
        run, slower = Path(settings.work_dir) / f"run{attempt}", 0.5**attempt
        left = (1 - FOR_FIGURES) * (over - time.monotonic())
        plan = planned(recipe_of(settings, slower=slower), len(tokenizer), told, device, left)
        found["plan"] = plan | {"batch_size": settings.batch_size, "rates": slower}
        with ended_at(time.monotonic() + left):
            found["ended"] = ending(recipe_of(settings, plan["overrides"], slower), run, settings.data_dir, keep)
        if (run / "history.jsonl").is_file():
            break
    else:
        raise RuntimeError(f"no epoch came to its end ({found['ended']}): give more --minutes, or a smaller --limit")
    keep(run)
    measure(settings, run, corpus.splits, found, lambda: keep(run), device)


class Keeping(Callback):
    """Copies the history out of a run after every epoch, so that it is there whenever the process is ended."""

    def __init__(self, keep: Callable[[Path], None]):
        self.keep = keep

    def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        self.keep(trainer.output_dir)


def ending(recipe: Recipe, run: Path, data_dir: str, keep: Callable[[Path], None]) -> str:
    """Train; what ended it."""
    try:
        train(recipe, run, data_dir, progress=False, callbacks=[Keeping(keep)])
    except Interrupted:
        return "the time was over"
    except TrainingDiverged as error:
        return str(error)
    return "all epochs were done"


def kept_name(recipe: Recipe) -> str:
    """Where a run stands among the results."""
    return f"{recipe.corpus.name.replace('/', '_')}-gpu/{recipe.method}"


def recipe_of(settings: Settings, lengths: Sequence[str] = (), slower: float = 1.0) -> Recipe:
    """The recipe: one preset's model, another's training, the batch, and the rates that go with it, times `slower`."""
    model = named_settings("training", settings.size)[0]["model"]
    sizes = [f"model.{name}={value}" for name, value in model.items()]
    plain = resolve(settings.method, settings.corpus, settings.preset, sizes, settings.limits)
    overrides = [*sizes, *grown(plain, "training.", settings, slower)]
    stage = plain.pretraining_recipe()
    if stage:
        overrides += grown(stage, "pretraining.training.", settings, slower)
    overrides += [*lengths, *settings.overrides]
    return resolve(settings.method, settings.corpus, settings.preset, overrides, settings.limits)


def grown(recipe: Recipe, prefix: str, settings: Settings, slower: float) -> list[str]:
    """A recipe's batch size and rates as overrides, for the batch that is asked for and the width that there is.

    A rate grows with the square root of the batch, which `rate_words` sees to where there is one, and is divided by the
    width's multiple of the preset's: with the width grow the sums that a step of Adam changes (Yang et al. 2022).
    """
    training, narrow = recipe.training, named_settings("training", settings.preset)[0]["model"]["hidden_size"]
    factor = 1.0 if training.rate_words else (settings.batch_size / training.batch_size) ** 0.5
    factor *= slower * narrow / recipe.sizes.hidden_size
    told = [f"{prefix}batch_size={settings.batch_size}", f"{prefix}learning_rate={training.learning_rate * factor:.6g}"]
    if "lr" in training.table_options:
        options = training.table_options | {"lr": float(f"{training.table_options['lr'] * factor:.6g}")}
        told.append(f"{prefix}table_options={options}")
    if training.rate_words:  # said with the rates, so that they are not meant as they are
        told.append(f"{prefix}rate_words={training.rate_words}")
    return told


def planned(
    recipe: Recipe, vocabulary: int, splits: dict[str, dict[str, int]], device: torch.device, left: float
) -> dict[str, Any]:
    """How many epochs fit into the seconds that are left, by what an update and a checkpoint take here."""
    stage, found = recipe.pretraining_recipe(), {"seconds": left}
    lengths: list[str] = []
    for name, some, prefix in (("pretraining", stage, "pretraining."), ("training", recipe, "")):
        if some is None:
            continue
        batches = -(-splits["train"]["sentences"] // some.training.batch_size)
        update, saving = _costs(some, vocabulary, splits["train"], device)
        epoch = BESIDE * batches * update * (1 + splits["validation"]["tokens"] / splits["train"]["tokens"]) + saving
        most = some.training.settled(splits["train"]["sentences"], words=0).epochs if some is stage else 1 << 30
        share = FOR_PRETRAINING if some is stage else 1.0
        epochs = max(1, min(most, int(share * left / epoch)))
        left -= epochs * epoch
        lengths.append(f"{prefix}training.updates=[{epochs * batches}, {epochs * batches}]")
        found[name] = {"update": update, "checkpoint": saving, "epoch": epoch, "epochs": epochs}
    return found | {"overrides": lengths}


def _costs(recipe: Recipe, vocabulary: int, texts: dict[str, int], device: torch.device) -> tuple[float, float]:
    """Seconds of an update with texts of mean length, and of writing a checkpoint with what is needed to resume."""
    sizes, tokens = recipe.sizes, max(2, round(texts["tokens"] / texts["sentences"]))
    shapes = Size(
        recipe.training.batch_size, tokens, vocabulary, sizes.embedding_size, sizes.hidden_size, sizes.latent_size
    )
    mixed = recipe.training.mixed_precision == "bf16"
    bench = Bench(shapes, device, "bfloat16" if mixed else "float32", decoder=sizes.decoder)
    AcceleratorState._reset_state(reset_partial_state=True)  # its precision is not the run's
    update = median_seconds(bench.train, device, 5)
    with tempfile.TemporaryDirectory() as folder:
        once = seconds(lambda: bench.model.save_pretrained(folder), device)
    return update, 5 * once  # the best weights; the last, two moments of them; their checksums


@contextmanager
def ended_at(over: float) -> Iterator[None]:
    """Inside, this process is sent SIGTERM when the time has come."""
    timer = threading.Timer(max(0.0, over - time.monotonic()), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def measure(
    settings: Settings, run: Path, splits: dict[str, Dataset], found: Findings, keep: Callable[[], None],
    device: torch.device,
) -> None:  # fmt: skip
    """The figures of the best epoch on the test set, the cheap ones first, each kept before the next."""
    batch = settings.batch_size

    def evaluated(sentences: int, samples: int) -> float:
        report = evaluate_checkpoint(
            str(run), nll_sentences=sentences, nll_samples=samples, batch_size=batch, device=settings.device,
            limits=settings.limits,
        )  # fmt: skip
        keep_evaluation(run, report)
        keep()
        return float(report["nll"])

    found.attempt("nll_first", lambda: evaluated(max(1, settings.nll_sentences // 10), settings.nll_samples))
    vae = load_best(str(run), device)
    if vae.model.config.latent_size:
        found.attempt("texts", lambda: _texts(vae, splits["test"], run, keep))
        if "label" in splits["test"].column_names:
            found.attempt("labels", lambda: _labels(vae, splits, run, keep))
    else:
        found.attempt("texts", lambda: write_json(run / "samples.json", {"samples": vae.sample(TEXTS, seed=0)}))
    found.attempt("nll", lambda: evaluated(settings.nll_sentences, settings.nll_samples))
    keep()


def _texts(vae: Any, test: Dataset, run: Path, keep: Callable[[], None]) -> int:
    """Samples from the prior, and the first test documents through the latent and back."""
    read = list(texts_of(test.select(range(min(TEXTS, len(test))))))
    written = dict(zip(read, vae.reconstruct(read), strict=False))
    write_json(run / "samples.json", {"samples": vae.sample(TEXTS, seed=0), "reconstructions": written})
    keep()
    return len(written)


def _labels(vae: Any, splits: dict[str, Dataset], run: Path, keep: Callable[[], None]) -> dict[str, Any]:
    """Accuracy of the test set's labels, read from the mean, one draw and the pooled features."""
    some = splits["train"].shuffle(seed=0).select(range(min(LABELLED, len(splits["train"]))))
    read = labels_from_features(
        vae.model, tokenise(some, vae.tokenizer), tokenise(splits["test"], vae.tokenizer), progress=False
    )
    write_json(run / "labels.json", read | {"trained_on": len(some)})
    keep()
    return {name: figures and figures["accuracy"] for name, figures in read.items()}
