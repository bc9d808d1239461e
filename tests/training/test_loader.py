"""Batches are dealt to shards, each sentence to one, and prepared ahead by a thread that changes nothing."""

import threading
import time
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset

from modeling_seqvae.data.batching import LengthGroupedBatches
from modeling_seqvae.training.loader import AHEAD, BatchLoader, prepared_ahead

LENGTHS = [3 + number % 5 for number in range(29)]  # 4 batches of 7, and one of a single sentence


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """The sentence of number n holds the token 10 + n."""
    ids = [[1, *[10 + number] * (length - 2), 2] for number, length in enumerate(LENGTHS)]
    return Dataset.from_dict({"input_ids": ids, "length": LENGTHS, "index": range(29)})


def loader(dataset, processes=1, process=0, steps=1, device="cpu") -> BatchLoader:
    accelerator = SimpleNamespace(num_processes=processes, process_index=process, device=torch.device(device))
    return BatchLoader(dataset, LengthGroupedBatches(LENGTHS, 7, seed=0), 0, accelerator, steps)


def sentences(part) -> list[int]:
    return (part.tensors["input_ids"][:, 1] - 10).tolist()[: part.sentences]


@pytest.mark.parametrize(("processes", "steps"), [(1, 1), (2, 1), (1, 2), (3, 2), (2, 3), (4, 4)])
def test_every_sentence_of_a_batch_is_in_one_shard(dataset, processes, steps):
    ranks = [loader(dataset, processes, process, steps).epoch(0) for process in range(processes)]
    for numbers, *batches in zip(LengthGroupedBatches(LENGTHS, 7, seed=0).epoch(0), *ranks, strict=True):
        assert all(batch.numbers.tolist() == numbers.tolist() for batch in batches)
        parts = [part for batch in batches for part in batch.parts]
        assert sorted(part.shard for part in parts) == list(range(processes * steps))
        assert sorted(number for part in parts for number in sentences(part)) == sorted(numbers)


@pytest.mark.parametrize(("processes", "steps"), [(6, 1), (1, 6), (3, 2)])
def test_a_shard_is_the_same_however_shards_are_split_over_processes(dataset, processes, steps):
    def shards(processes, steps):
        ranks = [loader(dataset, processes, process, steps).epoch(1) for process in range(processes)]
        return [{part.shard: part for batch in batches for part in batch.parts} for batches in zip(*ranks, strict=True)]

    for found, expected in zip(shards(processes, steps), shards(2, 3), strict=True):
        for number in range(6):
            assert found[number].sentences == expected[number].sentences
            for name, tensor in expected[number].tensors.items():
                assert torch.equal(found[number].tensors[name], tensor)


def test_a_shard_without_a_sentence_has_one_that_does_not_count(dataset):
    (single,) = [batch for batch in loader(dataset, steps=2).epoch(0) if len(batch.numbers) == 1]
    full, empty = single.parts
    assert (full.sentences, empty.sentences) == (1, 0)
    assert torch.equal(full.tensors["input_ids"], empty.tensors["input_ids"])


def test_an_epoch_is_continued_where_it_was_left(dataset):
    whole = [batch.numbers.tolist() for batch in loader(dataset).epoch(2)]
    for start in range(6):
        assert [batch.numbers.tolist() for batch in loader(dataset).epoch(2, start)] == whole[start:]


def test_loading_leaves_random_states_alone(dataset):
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert len(list(loader(dataset, steps=2).epoch(0))) == 5
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_on_a_gpu_memory_is_pinned_by_the_thread_and_copies_do_not_wait(dataset, monkeypatch):
    """Without a GPU: what torch is asked for, and by which thread."""
    asked = []

    def note(what: str, result=None):
        return lambda *arguments, **options: (
            asked.append((what, threading.current_thread(), options)) or (arguments[0] if result is None else result)
        )

    monkeypatch.setattr(torch.Tensor, "pin_memory", note("pin"))
    monkeypatch.setattr(torch.Tensor, "to", note("copy"))
    monkeypatch.setattr(torch.cuda, "set_device", note("device", result=0))
    assert len(list(loader(dataset, device="cuda:1").epoch(0))) == 5
    main = threading.main_thread()
    assert [what for what, _, _ in asked].count("device") == 1 and asked[0][0] == "device"
    assert {thread is main for what, thread, _ in asked if what in ("device", "pin")} == {False}
    copies = [(thread is main, options) for what, thread, options in asked if what == "copy"]
    assert copies == [(True, {"non_blocking": True})] * 3 * 5


def test_the_only_gpu_has_no_number(dataset, monkeypatch):
    """accelerate calls it "cuda", which torch's own set_device refuses."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *arguments, **options: tensor)
    assert len(list(loader(dataset, device="cuda").epoch(0))) == 5


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_work_is_done_ahead_in_order_and_no_further():
    done = []
    results = prepared_ahead(lambda item: done.append(item) or -item, range(10))
    assert next(results) == 0
    wait_until(lambda: len(done) == AHEAD + 1)
    time.sleep(0.02)
    assert done == list(range(AHEAD + 1))
    assert list(results) == [-item for item in range(1, 10)]
    assert done == list(range(10))


@pytest.mark.parametrize("count", [0, 1, AHEAD, AHEAD + 1])
def test_few_items_are_all_worked_on(count):
    assert list(prepared_ahead(str, range(count))) == [str(item) for item in range(count)]


def test_an_error_comes_at_the_turn_of_its_item():
    results = prepared_ahead(lambda item: 1 // (3 - item), range(6))
    assert list(islice(results, 3)) == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_whoever_leaves_early_leaves_no_thread_behind():
    before = threading.active_count()
    results = prepared_ahead(str, range(100))
    next(results)
    assert threading.active_count() == before + 1
    results.close()
    assert threading.active_count() == before
