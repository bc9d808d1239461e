"""Random orders of N numbers: kept in memory while N is small, computed place by place where it is not."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 1 << 20
"""Up to so many numbers an order is numpy's own permutation, 8 bytes a number; beyond, it takes no memory at all."""
_ROUNDS = 4

Order = Callable[[NDArray[np.int64]], NDArray[np.int64]]


def random_order(count: int, random: np.random.Generator) -> Order:
    """A random order of range(count), as a function from places (N,) to the numbers that stand there.

    All places together give every number once.
    """
    if count <= IN_MEMORY:
        order = random.permutation(count)
        return lambda places: order[places]
    keys = random.integers(1 << 63, size=(_ROUNDS, 2), dtype=np.uint64)
    return lambda places: scattered(places, count, keys)


def scattered(places: NDArray[np.int64], count: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The numbers at `places` of the order of range(count) that `keys` (rounds, 2) choose: one-to-one, nearly random.

    One-to-one on the next power of two, since every step there can be undone; what falls on `count` or beyond steps on
    until it does not ("cycle walking"; Black and Rogaway 2002, Ciphers with arbitrary finite domains).
    """
    bits = max(2, (count - 1).bit_length())
    numbers = places.astype(np.uint64)
    outside = np.arange(len(numbers))
    while len(outside):
        numbers[outside] = _stirred(numbers[outside], bits, keys)
        outside = outside[numbers[outside] >= count]
    return numbers.astype(np.int64)


def _stirred(numbers: NDArray[np.uint64], bits: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Multiplication by an odd number carries low bits up, the shift brings high bits down; both can be undone."""
    mask, shift = np.uint64((1 << bits) - 1), np.uint64(bits // 2)
    for factor, summand in keys:
        numbers = ((numbers ^ summand) * (factor | np.uint64(1))) & mask
        numbers ^= numbers >> shift
    return numbers
