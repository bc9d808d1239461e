"""Recipes that train in turn, each in a process of its own, so that all meet the same machine."""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import synchronise
from tqdm import tqdm

from modeling_seqvae.training.recipe import Recipe

SIDES = ("paper", "fast")


class Stopped(Exception):
    """The process has no more orders."""


def work(pipe: Connection, recipe: Recipe, data_dir: Path | None, threads: int) -> None:
    """A process that trains by a recipe, so many updates at a time as it is told, and tells what they took.

    Answers ("updates", n) with (seconds, predicted words), ("evaluate", 0) with seconds, and stops at None. First of
    all it tells how many updates an epoch has, and how many words.
    """
    from modeling_seqvae import SeqVAEForTextModeling
    from modeling_seqvae.evaluation.evaluate import Evaluator, summarise
    from modeling_seqvae.kernels import prepare_process
    from modeling_seqvae.training.run import read_corpus
    from modeling_seqvae.training.trainer import SeqVAETrainer

    prepare_process()
    torch.set_num_threads(threads)
    corpus, tokenizer = read_corpus(recipe, data_dir or recipe.data_dir)
    model = SeqVAEForTextModeling(recipe.config(tokenizer))
    splits = corpus.splits
    with tempfile.TemporaryDirectory() as folder, suppress(Stopped):
        trainer = SeqVAETrainer(model, tokenizer, recipe, splits["train"], splits["validation"], folder, progress=False)
        device, batches, epoch = trainer.accelerator.device, trainer.batches, trainer.loader.epoch

        def evaluate() -> float:
            started = time.perf_counter()
            bare = trainer.accelerator.unwrap_model(trainer.model)
            evaluator = Evaluator(
                bare, trainer.validation_set, batch_size=trainer.spec.batch_size, accelerator=trainer.accelerator,
                progress=False,
            )  # fmt: skip
            summarise(evaluator.measure())
            return time.perf_counter() - started

        def paced(first: int, start: int = 0) -> Generator[Any]:
            """The batches of all epochs as one, handed to the trainer when there is an order for them."""
            source = (batch for number in count(first) for batch in epoch(number))
            while (order := pipe.recv()) is not None:
                task, updates = order
                if task == "evaluate":
                    pipe.send(evaluate())
                    continue
                words, started = 0, time.perf_counter()
                for batch in islice(source, updates):
                    words += int(batches.lengths[batch.numbers].sum()) - len(batch.numbers)
                    yield batch
                synchronise(device)
                pipe.send((time.perf_counter() - started, words))
            raise Stopped  # the trainer is not to end its epoch

        trainer.loader.epoch = paced
        pipe.send((len(batches), int(batches.lengths.sum()) - len(batches.lengths)))
        trainer.train()


@contextmanager
def workers(
    recipes: Mapping[str, Recipe], data_dir: Path | None, threads: int
) -> Iterator[dict[str, Callable[[str, int], Any]]]:
    """For each side, what gives its process an order and waits for the answer; the first answer, by ("begin", 0)."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for side, recipe in recipes.items():
        # All with one seed, so that all meet the same batches; no checkpoints in between.
        training = recipe.training.model_copy(update={"seed": 0, "save_minutes": 1e6, "trackers": []})
        pipes[side], theirs = context.Pipe()
        told = recipe.model_copy(update={"training": training})
        processes.append(context.Process(target=work, args=(theirs, told, data_dir, threads), daemon=True))
        processes[-1].start()
        theirs.close()  # so that the end of the process ends the waiting for it

    def ask(side: str) -> Callable[[str, int], Any]:
        def asked(task: str, updates: int = 0) -> Any:
            if task != "begin":
                pipes[side].send((task, updates))
            return pipes[side].recv()

        return asked

    try:
        yield {side: ask(side) for side in recipes}
        for pipe in pipes.values():
            pipe.send(None)
    finally:
        for process in processes:
            process.join(10)
            process.terminate()


@dataclass(frozen=True)
class Turns:
    """What each side took: updates and words of an epoch, and for each of its turns seconds a word or an evaluation."""

    epochs: dict[str, tuple[int, int]]
    per_word: dict[str, list[float]]
    per_evaluation: dict[str, list[float]]


def take_turns(
    recipes: Mapping[str, Recipe], data_dir: Path | None, threads: int, rounds: int, updates: int, evaluations: int
) -> Turns:
    """Train so many updates, then evaluate, in turns that alternate: first to last, last to first, ..."""
    sides = list(recipes)
    with workers(recipes, data_dir, threads) as ask, _bar(len(sides) * (rounds + evaluations)) as bar:
        epochs = {side: ask[side]("begin", 0) for side in sides}
        for side in sides:
            ask[side]("updates", 3)  # not counted
        found = Turns(epochs, {side: [] for side in sides}, {side: [] for side in sides})
        for turn in range(rounds):
            for side in sides[:: 1 if turn % 2 == 0 else -1]:
                seconds, words = ask[side]("updates", updates)
                found.per_word[side].append(seconds / words)
                bar.update()
        for turn in range(evaluations):
            for side in sides[:: 1 if turn % 2 == 0 else -1]:
                found.per_evaluation[side].append(ask[side]("evaluate", 0))
                bar.update()
    return found


def measure(
    recipes: Mapping[str, Recipe], data_dir: Path | None, threads: int, rounds: int, updates: int, evaluations: int
) -> dict[str, Any]:
    """What updates and evaluations of both sides cost.

    Seconds of an update are those a word, times the words that a batch has on average over an epoch. Those of the fast
    side are the paper's times the median ratio of the two within a round, which no drift of the machine changes.
    """
    found = take_turns({side: recipes[side] for side in SIDES}, data_dir, threads, rounds, updates, evaluations)
    per_word = found.per_word
    ratios = [fast / paper for paper, fast in zip(*per_word.values(), strict=True)]
    word = {"paper": median(per_word["paper"])}
    word["fast"] = word["paper"] * median(ratios)
    costs = {}
    for side in SIDES:
        batches, words = found.epochs[side]
        costs[side] = {
            "updates_an_epoch": batches,
            "words_per_second": 1 / word[side],
            "update": word[side] * words / batches,
            "evaluation": median(found.per_evaluation[side]),
        }
    return {
        "rounds": rounds,
        "updates": updates,
        "ratio": median(ratios),
        "ratios": [min(ratios), max(ratios)],
        "costs": costs,
    }


def _bar(total: int) -> tqdm:
    return tqdm(total=total, desc="measuring", leave=False, disable=not sys.stderr.isatty())
