"""Memory of training on a text and on one ten times as large, from the file to the evaluation.

    python benchmarks/memory.py --output docs/performance/memory.json

Writes both texts itself (sentences of some 20 words, of a few thousand different ones by Zipf's law) and gives each to
the package twice, every time in a process of its own. The run `first` reads, cleans, splits and tokenises the text and
trains until it is interrupted; `again` finds all of that in the cache and continues the training. Everything is written
to a temporary folder, which TMPDIR moves to another disk.

anonymous   private memory that is no file's: what a process cannot do without
resident    that, and what is in memory of mapped files: a system short of memory drops it and reads it again

Each is the largest value that Linux gave while a phase lasted, asked some hundred times a second.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Machine, write_report
from tqdm import tqdm

PHASES = ("libraries", "corpus", "tokenizer", "tokens", "training", "evaluation")
RUNS = ("first", "again")
TYPES = 5_000
SETTINGS = [
    "model.embedding_size=16",
    "model.hidden_size=16",
    "model.latent_size=8",
    "training.epochs=1000000",
    "training.precision='no'",
]


def write_text(path: Path, megabytes: float) -> int:
    """The number of sentences, of 1 to 150 words, that make a file of that size; memory does not grow with it."""
    random = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = np.array(["".join(random.choice(letters, random.integers(2, 9))) for _ in range(TYPES)])
    shares = np.cumsum(1 / np.arange(1, TYPES + 1))
    sentences = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            lengths = np.minimum(random.geometric(1 / 20, 5_000), 150)
            drawn = words[np.searchsorted(shares, random.random(lengths.sum()) * shares[-1])]
            file.writelines(" ".join(part) + "\n" for part in np.split(drawn, lengths.cumsum()[:-1]))
            sentences += len(lengths)
    return sentences


def work(messages: Connection, text: Path, run: Path, updates: int) -> None:
    """One run, up to so many updates; says in `messages` which phase begins."""
    messages.send("libraries")
    from modeling_seqvae import SeqVAEForTextModeling
    from modeling_seqvae.data.corpora import load_corpus
    from modeling_seqvae.data.corpus_spec import spec_from_path
    from modeling_seqvae.data.vocabulary import corpus_tokenizer
    from modeling_seqvae.evaluation.evaluate import Evaluator, summarise
    from modeling_seqvae.training.recipe import resolve
    from modeling_seqvae.training.run import describe
    from modeling_seqvae.training.trainer import SeqVAETrainer

    messages.send("corpus")
    corpus = load_corpus(spec_from_path(text))
    recipe = resolve("max_pool", corpus.spec, "small", SETTINGS)
    messages.send("tokenizer")
    tokenizer = corpus_tokenizer(corpus.spec, corpus.splits["train"])
    messages.send("tokens")
    model = SeqVAEForTextModeling(recipe.config(tokenizer))
    splits = corpus.splits
    trainer = SeqVAETrainer(model, tokenizer, recipe, splits["train"], splits["validation"], run, progress=False)
    describe(corpus, tokenizer)
    messages.send("training")
    threading.Thread(target=_interrupt, args=(trainer, updates), daemon=True).start()
    with suppress(SystemExit):
        trainer.train(resume=True)
    messages.send("evaluation")
    evaluator = Evaluator(model, trainer.validation_set, accelerator=trainer.accelerator, progress=False)
    summarise(evaluator.measure())
    evaluator.nll(num_samples=5, sentences=64)


def _interrupt(trainer: Any, updates: int) -> None:
    """What a cluster does to a run that it takes the machine from; the trainer saves and stops."""
    while trainer.progress.updates < updates:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def _status(process: int) -> dict[str, float]:
    """What Linux says of a process's memory, in megabytes; nothing of one that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        lines = (line.split() for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines())
        return {words[0].rstrip(":"): int(words[1]) / 2**10 for words in lines if words[-1] == "kB"}
    return {}


def watch(process: int, messages: Connection, bar: tqdm) -> list[dict[str, Any]]:
    """A record for each phase that a process tells of, until it ends."""
    records: list[dict[str, Any]] = []
    while True:
        if messages.poll(0.005):
            now = time.monotonic()
            if records:
                records[-1]["seconds"] += now
                bar.update()
            try:
                name = messages.recv()
            except EOFError:
                return records
            bar.set_postfix_str(name)
            records.append({"phase": name, "seconds": -now, "anonymous_mb": 0.0, "resident_mb": 0.0})
        status = _status(process)
        for key, name in {"anonymous_mb": "RssAnon", "resident_mb": "VmRSS"}.items():
            if records:
                records[-1][key] = max(records[-1][key], status.get(name, 0.0))


def measure(text: Path, run: Path, updates: int, bar: tqdm) -> list[dict[str, Any]]:
    """The phases of one run. Raises RuntimeError where it failed; its own message stands above."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, text, run, updates))
    process.start()
    sender.close()
    records = watch(process.pid or 0, receiver, bar)
    process.join()
    if process.exitcode or [record["phase"] for record in records] != list(PHASES):
        raise RuntimeError(f"the run ended in its phase {records[-1]['phase'] if records else 'start'!r}")
    return records


HEADER = f"{'text MB':>8}  {'run':<6}{'phase':<12}{'seconds':>9}{'anonymous MB':>14}{'resident MB':>13}"


def _line(record: dict[str, Any]) -> str:
    return (
        f"{record['text_mb']:>8,.0f}  {record['run']:<6}{record['phase']:<12}{record['seconds']:>9,.1f}"
        f"{record['anonymous_mb']:>14,.0f}{record['resident_mb']:>13,.0f}"
    )


def _summary(records: list[dict[str, Any]], run: str) -> str:
    """How much the peaks of a run grew from the smaller text to the larger."""
    sizes = sorted({record["text_mb"] for record in records})
    peaks = [
        max(record["anonymous_mb"] for record in records if (record["text_mb"], record["run"]) == (size, run))
        for size in sizes
    ]
    more = peaks[1] - peaks[0]
    return (
        f"{run}: {sizes[1] - sizes[0]:,.0f} MB more text took {more:,.0f} MB more anonymous memory "
        f"({peaks[0]:,.0f} and {peaks[1]:,.0f} MB)"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=20, help="of the smaller text (default: %(default)s)")
    parser.add_argument("--times", type=float, default=10, help="how much larger the other is (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=50, help="of training in each run (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write the records there, as JSON")
    given = parser.parse_args()
    if min(given.megabytes, given.updates) <= 0 or given.times <= 1:
        parser.error("--megabytes and --updates must be above 0, --times above 1")
    if not sys.platform.startswith("linux"):
        parser.error("it reads /proc, which only Linux has")
    return given


def _main() -> None:
    given = _arguments()
    records, texts = [], []
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="seqvae-memory-") as folder:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        os.environ.pop("HF_DATASETS_CACHE", None)
        with tqdm(total=2 * len(RUNS) * len(PHASES), leave=False, disable=not sys.stderr.isatty()) as bar:
            for megabytes in (given.megabytes, given.megabytes * given.times):
                text = Path(folder) / f"{megabytes:g}.txt"
                bar.set_postfix_str(f"writing {megabytes:g} MB")
                sentences = write_text(text, megabytes)
                home = os.environ["HF_HOME"] = f"{folder}/home-{megabytes:g}"
                for number, run in enumerate(RUNS, start=1):
                    bar.set_description(f"{megabytes:g} MB, {run}")
                    output = Path(folder) / f"run-{megabytes:g}"
                    for record in measure(text, output, number * given.updates, bar):
                        records.append({"text_mb": megabytes, "run": run, **record})
                        tqdm.write(_line(records[-1]))
                cache = sum(file.stat().st_size for file in Path(home).rglob("*.arrow"))
                texts.append({"text_mb": megabytes, "sentences": sentences, "cache_mb": cache / 1e6})
    for run in RUNS:
        print(_summary(records, run))
    if given.output:
        settings = {"updates": given.updates, "recipe": SETTINGS}
        machine = asdict(Machine.of(torch.device("cpu")))
        report = {"machine": machine, "settings": settings, "texts": texts, "records": records}
        write_report(given.output, report)


if __name__ == "__main__":
    _main()
