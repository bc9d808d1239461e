"""Random orders: one-to-one at every size, a function of the generator alone, and as random as numpy's own."""

import tracemalloc

import numpy as np
import pytest

from modeling_seqvae.data import order
from modeling_seqvae.data.order import random_order, scattered


def keys(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1 << 63, size=(4, 2), dtype=np.uint64)


def large(count: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> order.Order:
    monkeypatch.setattr(order, "IN_MEMORY", 0)
    return random_order(count, np.random.default_rng(seed))


def test_a_small_order_is_numpys_permutation() -> None:
    permutation = np.random.default_rng(3).permutation(1000)
    assert random_order(1000, np.random.default_rng(3))(np.arange(1000)).tolist() == permutation.tolist()


@pytest.mark.parametrize("count", [*range(1, 70), 127, 128, 129, 5000])
def test_every_number_stands_in_one_place(count: int) -> None:
    assert sorted(scattered(np.arange(count), count, keys(count)).tolist()) == list(range(count))


def test_a_place_holds_the_same_number_whatever_it_is_asked_with(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = large(5000, 1, monkeypatch)(np.arange(5000))
    again = large(5000, 1, monkeypatch)
    assert again(np.array([4999, 7, 7])).tolist() == whole[[4999, 7, 7]].tolist()
    assert large(5000, 2, monkeypatch)(np.arange(5000)).tolist() != whole.tolist()


def test_what_follows_in_the_generator_does_not_depend_on_how_much_of_an_order_was_used(monkeypatch) -> None:
    monkeypatch.setattr(order, "IN_MEMORY", 0)
    following = []
    for used in (0, 100):
        random = np.random.default_rng(0)
        random_order(1000, random)(np.arange(used))
        following.append(random.integers(1 << 60))
    assert following[0] == following[1]


@pytest.mark.parametrize("place", [0, 1, 2999])
def test_every_number_is_as_likely_in_a_place(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.concatenate([large(3000, seed, monkeypatch)(np.array([place])) for seed in range(3200)])
    counts = np.bincount(numbers * 32 // 3000, minlength=32)
    assert ((counts - 100) ** 2 / 100).sum() < 70  # chi-square, 31 degrees of freedom: 1 in 10,000 above 70


def test_neighbours_are_scattered(monkeypatch: pytest.MonkeyPatch) -> None:
    count, pool = 100_000, 100
    numbers = large(count, 0, monkeypatch)(np.arange(count))
    place = np.empty(count, dtype=int)
    place[numbers] = np.arange(count)
    together = (place[:-1] // pool == place[1:] // pool).sum()
    assert abs(together - pool) < 5 * pool**0.5  # Poisson
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / count**0.5


def test_a_large_order_takes_no_memory() -> None:
    tracemalloc.start()
    numbers = random_order(10**12, np.random.default_rng(0))(np.arange(10**11, 10**11 + 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(numbers.tolist())) == 1000 and numbers.min() >= 0 and numbers.max() < 10**12
    assert peak < 1e6
