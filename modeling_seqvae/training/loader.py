"""The batches of an epoch as one process sees them, prepared while the one before is computed with.

A batch is dealt to shards, N processes times A accumulation steps: shard s has every (N * A)-th of its sentences from
the s-th on, and is what a process computes at a time. Process r computes the shards r, r + N, r + 2N, ... one after the
other, so that N processes with one part each, and one process with N parts, compute the same.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.profiler import record_function

from ..data.batching import LengthGroupedBatches, collate, rows

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Batches prepared before they are needed."""


@dataclass(frozen=True)
class Part:
    """A shard of a batch: the sentences that a process computes at a time."""

    shard: int
    sentences: int  # 0 where a batch has fewer sentences than shards: `tensors` then hold one that does not count
    tensors: dict[str, torch.Tensor]  # what the model reads, (B, T) each


@dataclass(frozen=True)
class Batch:
    """The sentences of an update, over all processes, and this process's parts of it."""

    numbers: np.ndarray
    parts: list[Part]


class BatchLoader:
    """Loads this process's parts of the batches of an epoch, in the order that `batches` says."""

    def __init__(
        self,
        dataset: Dataset,
        batches: LengthGroupedBatches,
        pad_token_id: int,
        accelerator: Accelerator,
        accumulation_steps: int,
    ):
        self.dataset = dataset
        self.batches = batches
        self.pad_token_id = pad_token_id
        self.device = accelerator.device
        self.num_shards = accelerator.num_processes * accumulation_steps
        self.own_shards = range(accelerator.process_index, self.num_shards, accelerator.num_processes)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """The batches of an epoch from its `start`-th on, on the accelerator's device; close it when leaving early."""
        order = self.batches.epoch(epoch)[start:]
        places = range(len(order))  # so that the numbers of a batch, too, are worked out ahead
        with closing(prepared_ahead(lambda place: self._load(order[place]), places, self._choose_device)) as loaded:
            while True:
                with record_function("wait for a batch"):
                    batch = next(loaded, None)
                    if batch is None:
                        return
                    batch = self._on_device(batch)
                yield batch

    def random_batches(self, update: int, random: np.random.Generator) -> Iterator[Batch]:
        """Batches of the epoch in which the `update`-th batch of the run is, each as likely as any, without end."""
        batches = self.batches.epoch(update // len(self.batches))
        while True:
            yield self._on_device(self._load(batches[int(random.integers(len(batches)))]))

    def predicted_words(self, numbers: np.ndarray) -> int:
        """The tokens of sentences that a decoder predicts: all but `<s>`."""
        return int(self.batches.lengths[numbers].sum()) - len(numbers)

    def _load(self, numbers: np.ndarray) -> Batch:
        parts = []
        for shard in self.own_shards:
            own = numbers[shard :: self.num_shards]
            tensors = collate(rows(self.dataset, own if len(own) else numbers[:1]), self.pad_token_id)
            if self.device.type == "cuda":  # from where a copy does not wait
                tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
            parts.append(Part(shard, len(own), tensors))
        return Batch(numbers, parts)

    def _on_device(self, batch: Batch) -> Batch:
        return Batch(
            batch.numbers,
            [
                Part(
                    part.shard,
                    part.sentences,
                    {k: v.to(self.device, non_blocking=True) for k, v in part.tensors.items()},
                )
                for part in batch.parts
            ],
        )

    def _choose_device(self) -> None:
        """A new thread's GPU is the first, where pinned memory would cost every process a second context.

        Without an index, which is what accelerate calls the only process's GPU, torch has nothing to choose.
        """
        if self.device.type == "cuda" and self.device.index is not None:
            torch.cuda.set_device(self.device)


def prepared_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], initializer: Callable[[], Any] | None = None
) -> Generator[Result]:
    """`work(item)` of each item, in order; a thread is always `AHEAD` items further than what was taken.

    A thread and no process: it leaves signals, and so the saving at SIGTERM, to the program.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, "batches", initializer) as thread:
        try:
            for item in items:
                waiting.append(thread.submit(work, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
